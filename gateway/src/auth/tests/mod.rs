mod keys;
mod kit;
mod refused;
mod remembered;
mod tokens;
