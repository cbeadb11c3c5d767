//! Configuration from environment variables. It is parsed once, and all its errors are reported together.
//!
//! A [`Vars`] reads each variable through a [`Strings`] source (a map in tests), and collects every error before
//! anything starts. `NAME_FILE` holds the path of a file with the value (secrets in containers); it must not be
//! set together with `NAME`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::secret::Secret;

/// Where variables come from: the process environment, or a map in tests.
pub trait Strings {
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnv;

impl Strings for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Strings for std::collections::HashMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

/// Every variable that is missing or wrong, one line each.
#[derive(Debug, thiserror::Error)]
pub struct EnvErrors(pub Vec<String>);

impl fmt::Display for EnvErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the environment is not usable:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Reads variables and collects their errors.
pub struct Vars<'a> {
    source: &'a dyn Strings,
    errors: Vec<String>,
}

impl<'a> Vars<'a> {
    pub fn new(source: &'a dyn Strings) -> Self {
        Self {
            source,
            errors: Vec::new(),
        }
    }

    /// The variable, or `default` if it is unset.
    pub fn or<T>(&mut self, name: &str, default: T) -> T
    where
        T: FromStr<Err: fmt::Display> + Clone,
    {
        self.parsed(name, |text| text.parse::<T>().map_err(|e| e.to_string()))
            .unwrap_or(default)
    }

    /// A duration such as `250ms`, `10s`, `5min` or `1h`.
    pub fn duration_or(&mut self, name: &str, default: Duration) -> Duration {
        self.parsed(name, parse_duration).unwrap_or(default)
    }

    /// A variable that must be set, parsed by `parse`. `None` means that an error was recorded.
    pub fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.text(name).is_none() {
            self.errors
                .push(format!("{name} is not set (or set {name}_FILE)"));
            return None;
        }
        self.parsed(name, parse)
    }

    /// A secret that must be set.
    pub fn secret(&mut self, name: &str) -> Option<Secret> {
        self.required(name, |text| Ok(Secret::new(text)))
    }

    /// Records an error of several variables together.
    pub fn refuse(&mut self, why: &str) {
        self.errors.push(why.to_owned());
    }

    /// Ends the reading: returns the value that `build` makes, or every error.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, EnvErrors> {
        match (self.errors.is_empty(), build()) {
            (true, Some(value)) => Ok(value),
            _ => Err(EnvErrors(self.errors)),
        }
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        parse(&text)
            .map_err(|why| self.errors.push(format!("{name}: {why}")))
            .ok()
    }

    /// The variable's text; a file's text loses its trailing line break. Empty counts as unset.
    fn text(&mut self, name: &str) -> Option<String> {
        let file_name = format!("{name}_FILE");
        let direct = self.source.get(name).filter(|text| !text.is_empty());
        let file = self.source.get(&file_name).filter(|path| !path.is_empty());
        match (direct, file) {
            (Some(_), Some(_)) => {
                self.errors
                    .push(format!("{name} and {file_name} are both set; keep one"));
                None
            }
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) => Some(text.trim_end_matches(['\n', '\r']).to_owned()),
                Err(why) => {
                    self.errors
                        .push(format!("{file_name}: cannot read {path}: {why}"));
                    None
                }
            },
            (direct, None) => direct,
        }
    }
}

/// Parses `250ms`, `10s`, `5min`, `1h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write for example 250ms, 10s, 5min or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn source(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn every_bad_variable_is_reported_at_once() {
        let source = source(&[("PORT", "x"), ("WAIT", "3 parsecs")]);
        let mut vars = Vars::new(&source);
        let port = vars.or("PORT", 1_u16);
        vars.duration_or("WAIT", Duration::ZERO);
        let key = vars.secret("KEY");
        let errors = vars.finish(|| key.map(|_| port)).unwrap_err().0;
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn a_file_holds_the_value_without_its_line_break() {
        let dir = std::env::temp_dir().join(format!("env-{}", uuid::Uuid::now_v7()));
        std::fs::write(&dir, "hidden\n").unwrap();
        let source = source(&[("KEY_FILE", dir.to_str().unwrap())]);
        let mut vars = Vars::new(&source);
        let key = vars.secret("KEY");
        assert_eq!(vars.finish(|| key).unwrap().expose(), "hidden");
        std::fs::remove_file(dir).unwrap();
    }

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("5min"), Ok(Duration::from_secs(300)));
        assert!(parse_duration("10").is_err());
        assert!(parse_duration("99999999999999999999h").is_err());
    }
}
