//! The configuration file: one YAML document, checked whole, turned into immutable types.
//!
//! [`Config::load`] reads the file, expands `${VAR}` and `${VAR:-default}`, fills in the defaults
//! and checks every cross reference. It reports every error with its place, and never a half-read
//! configuration: whoever holds a [`Config`] needs to check nothing again. Called at start, by
//! `gateway --check FILE`, and at reload; [`crate::request::route::Table`] is built from the result.
//!
//! It must never print a secret: values read as secrets appear in no error and in no `Debug`.
//!
//! Paths inside the file (`…_file`) are relative to the folder of the configuration file.

mod auth;
mod error;
mod limits;
mod model;
mod patterns;
mod public;
mod read;
mod scalars;
mod services;
mod value;
mod yaml;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, ConfigErrors, Place};
pub use model::{
    AccessLog, Algorithm, Auth, Balance, Config, Drain, FailureMode, HashKey, Health, Host,
    HostPort, Issuer, KeySource, Limits, Listen, Match, Policy, PolicyKey, PolicySet, PublicPath,
    Rate, Redis, Revocation, Rule, Service, TimeoutOverrides, Timeouts, WhenStale,
};
pub(crate) use patterns::Patterns;

use std::path::Path;

/// Looks up an environment variable; tests pass a map.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Self, ConfigErrors> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, env),
            Err(why) => Err(ConfigErrors::unreadable(path, &why)),
        }
    }

    /// Checks `text` as if it stood in the file `path`, which names the errors and anchors the
    /// relative paths, and is not read.
    pub fn parse(path: &Path, text: &str, env: Env<'_>) -> Result<Self, ConfigErrors> {
        let reading = value::Reading::new(path.parent().unwrap_or(Path::new("")), env);
        let config = yaml::parse(text, &|error| reading.report(error))
            .map_err(|error| reading.report(error))
            .ok()
            .and_then(|root| read::config(&value::Value::root(&reading, &root)));
        match (config, reading.into_errors()) {
            (Some(config), errors) if errors.is_empty() => Ok(config),
            (_, errors) => Err(ConfigErrors::new(path, errors)),
        }
    }
}
