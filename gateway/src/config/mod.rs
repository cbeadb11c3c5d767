//! The configuration file: one YAML document, checked as a whole and turned into immutable types.
//!
//! [`Config::load`] reads the file, expands `${VAR}` and `${VAR:-default}`, fills in the defaults
//! and checks every reference between sections. It reports every error with its place, and never
//! returns a configuration with an error in it, so nothing that receives a [`Config`] checks it
//! again. It runs at start, for `gateway --check FILE` and at reload; [`crate::route::Table`] is
//! built from the result.
//!
//! Why not a ready-made deserializer: `serde` ends at the first error of a file, and so do the YAML
//! loaders that give places. Only the YAML parser is a library; the rest is a reader of settings
//! that carries on after an error.
//!
//! It must never print a secret: no error and no `Debug` output shows the value of a secret.
//!
//! Paths in the file (`…_file`) are relative to the folder of the configuration file.

mod model;

// Text to settings.
mod error;
mod setting;
mod variables;
mod yaml;

// Settings to the model, section by section.
mod auth;
mod declared;
mod limits;
mod patterns;
mod public;
mod root;
mod scalars;
mod services;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, ConfigErrors, Place};
pub use model::{
    AccessLog, Algorithm, Auth, Balance, Config, Drain, FailureMode, HashKey, Health, Host,
    HostPort, Issuer, KeySource, Limits, Listen, Match, Policy, PolicyKey, PolicySet, PublicPath,
    Rate, Redis, Revocation, Rule, Service, TimeoutOverrides, Timeouts, WhenStale,
};
pub(crate) use patterns::Patterns;
pub use variables::Env;

use std::path::Path;

use setting::{Setting, Source};

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Self, ConfigErrors> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, env),
            Err(why) => Err(ConfigErrors::unreadable(path, &why)),
        }
    }

    /// Checks `text` as if it were the content of the file `path`. That file is not read: `path`
    /// appears in the errors, and relative paths start from its folder.
    pub fn parse(path: &Path, text: &str, env: Env<'_>) -> Result<Self, ConfigErrors> {
        let (tree, errors) = yaml::parse(text);
        let folder = path.parent().unwrap_or(Path::new(""));
        let source = Source::new(folder, env, errors);
        let config = tree.and_then(|tree| Setting::root(&source, &tree).section(root::config));
        match (config, source.into_errors()) {
            (Some(config), errors) if errors.is_empty() => Ok(config),
            (_, errors) => Err(ConfigErrors::new(path, errors)),
        }
    }
}
