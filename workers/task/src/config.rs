//! The worker's configuration: read from the environment once, every complaint at once.

use runtime::env::{EnvErrors, Strings, Vars};
use tasks::attachments::max_file_bytes;

/// Where the first of these workers listens unless told.
pub const DEFAULT_PORT: u16 = 4002;

/// Everything that can be chosen from outside.
#[derive(Debug, Clone)]
pub struct Config {
    pub worker: process::Config,
    pub max_file_bytes: u64,
}

impl Config {
    /// Reads the variables of every worker, and `MAX_FILE_BYTES`.
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
    use super::*;
    use std::collections::HashMap;

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
