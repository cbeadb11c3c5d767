mod keys;
mod kit;
mod remembered;
mod tokens;
