pub(crate) mod heads;
mod identity;
mod paths;
