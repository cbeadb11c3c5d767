//! The worker's configuration, read from the environment once.
//!
//! All mistakes are reported together. `main.rs` calls it before anything else.

use runtime::env::{EnvErrors, Strings, Vars};
use tasks::attachments::max_file_bytes;

/// The port that the worker listens on unless it is configured.
pub const DEFAULT_PORT: u16 = 4002;

/// Everything that the environment sets.
#[derive(Debug, Clone)]
pub struct Config {
    pub worker: process::Config,
    pub max_file_bytes: u64,
}

impl Config {
    /// Reads the variables that all workers have, and `MAX_FILE_BYTES`.
    pub fn read(source: &dyn Strings) -> Result<Self, EnvErrors> {
        let mut vars = Vars::new(source);
        let worker = process::Config::read(&mut vars, DEFAULT_PORT);
        let max_file_bytes = max_file_bytes(&mut vars);
        vars.finish(|| {
            Some(Self {
                worker: worker?,
                max_file_bytes,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_empty_environment_is_told_everything_it_lacks() {
        let errors = Config::read(&HashMap::new()).unwrap_err().0;
        let names: Vec<_> = errors
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(names, ["GATEWAY_SIGNING_KEYS", "MONGODB_URI", "AMQP_URL"]);
    }
}
