mod keys;
mod kit;
mod tokens;
