//! The worker's configuration: read from the environment once, at the start. The error lists every
//! bad variable. `main` reads it; nothing else may read the environment.

use runtime::env::{EnvErrors, Strings, Vars};
use users::tokens::{TokenKeys, Tokens};
use users::{Credentials, Hashing};

/// The port to listen on unless `LISTEN` is set.
pub const DEFAULT_PORT: u16 = 4001;

/// Everything that the environment can set.
#[derive(Debug)]
pub struct Config {
    pub worker: process::Config,
    pub credentials: Credentials,
}

impl Config {
    /// Reads the variables that all workers share, and `TOKEN_SIGNING_KEYS`, `TOKEN_ISSUER` and
    /// `TOKEN_AUDIENCE`.
    pub fn read(source: &dyn Strings) -> Result<Self, EnvErrors> {
        let mut vars = Vars::new(source);
        let worker = process::Config::read(&mut vars, DEFAULT_PORT);
        let keys = vars.required("TOKEN_SIGNING_KEYS", TokenKeys::parse);
        let issuer = vars.or("TOKEN_ISSUER", "sluice".to_owned());
        let audience = vars.or("TOKEN_AUDIENCE", "sluice-api".to_owned());
        vars.finish(|| {
            Some(Self {
                worker: worker?,
                credentials: Credentials {
                    tokens: Tokens::new(keys?, issuer, audience),
                    hashing: Hashing::default(),
                },
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
        assert_eq!(
            names,
            [
                "GATEWAY_SIGNING_KEYS",
                "MONGODB_URI",
                "AMQP_URL",
                "TOKEN_SIGNING_KEYS"
            ]
        );
    }
}
