//! What the environment says, parsed once.

use shared::bus::rabbit;
use shared::env::{EnvErrors, Strings, Vars};
use shared::mongo::MongoSettings;
use shared::secret::Secret;
use shared::worker::Settings;

/// Where the worker listens when `LISTEN` does not say.
pub const DEFAULT_PORT: u16 = 4003;

#[derive(Debug, Clone)]
pub struct Config {
    pub settings: Settings,
    pub mongo: MongoSettings,
    pub amqp_url: Secret,
}

impl Config {
    /// Reads everything; every bad variable is reported at once.
    pub fn read(source: &dyn Strings) -> Result<Self, EnvErrors> {
        let mut vars = Vars::new(source);
        let settings = Settings::read(&mut vars, DEFAULT_PORT);
        let mongo = MongoSettings::read(&mut vars);
        let amqp_url = rabbit::url(&mut vars);
        vars.finish(|| {
            Some(Self {
                settings: settings?,
                mongo: mongo?,
                amqp_url: amqp_url?,
            })
        })
    }
}
