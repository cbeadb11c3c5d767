//! Unique names, and numbers from the environment.

/// A number from the environment, for tests whose length is configurable.
pub fn setting<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")),
        Err(_) => otherwise,
    }
}

/// Makes a name that no other test, process or run has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::now_v7().simple())
}
