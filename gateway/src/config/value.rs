//! Reading values out of the tree: every reader returns what it could read and records what it
//! could not, so that one run reports every error of the file.
//!
//! `None` always means that the reason has been recorded (or, for an optional key, that it is not
//! there). Nobody may use a value of a [`Reading`] that has errors.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::Env;
use super::error::{ConfigError, Place};
use super::yaml::{Kind, Node};

/// What belongs to one reading of one file.
pub(super) struct Reading<'a> {
    /// The folder that relative paths start from.
    base: &'a Path,
    env: Env<'a>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(base: &'a Path, env: Env<'a>) -> Self {
        Self {
            base,
            env,
            errors: RefCell::default(),
        }
    }

    pub(super) fn report(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }
}

/// A node and the path that leads to it.
#[derive(Clone)]
pub(super) struct Value<'a> {
    reading: &'a Reading<'a>,
    node: &'a Node,
    path: String,
    /// Where the key stands; for what is missing below it.
    key: Place,
}

impl<'a> Value<'a> {
    pub(super) fn root(reading: &'a Reading<'a>, node: &'a Node) -> Self {
        Self {
            reading,
            node,
            path: String::new(),
            key: Place::START,
        }
    }

    /// Records an error at this value.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        self.record(self.node.place, self.path.clone(), message)
    }

    /// The scalar's text, with its variables expanded.
    pub(super) fn text(&self) -> Option<String> {
        match &self.node.kind {
            Kind::Scalar(text) => match expand(text, self.reading.env) {
                Ok(text) => Some(text),
                Err(why) => self.refuse(why),
            },
            other => self.refuse(format!("must be a single value, not {}", kind_name(other))),
        }
    }

    /// The scalar, as `parse` reads it.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(&self.text()?) {
            Ok(value) => Some(value),
            Err(why) => self.refuse(why),
        }
    }

    /// Every item of a list, as `read` reads them.
    pub(super) fn list<T>(&self, mut read: impl FnMut(&Self) -> Option<T>) -> Option<Vec<T>> {
        let Kind::List(items) = &self.node.kind else {
            let found = kind_name(&self.node.kind);
            return self.refuse(format!("must be a list, [a, b], not {found}"));
        };
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, node)| read(&self.child(node, node.place, format!("[{index}]"))))
            .collect();
        read.into_iter().collect()
    }

    /// Every entry of a map whose keys are names, as `read` reads them.
    pub(super) fn named<T>(
        &self,
        mut read: impl FnMut(&str, &Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let read: Vec<Option<T>> = self
            .entries()?
            .iter()
            .map(|(key, node)| read(&key.name, &self.child(node, key.place, step(&key.name))))
            .collect();
        read.into_iter().collect()
    }

    /// A section with known keys; every other key is an error.
    pub(super) fn section<T>(
        &self,
        read: impl FnOnce(&mut Section<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        self.entries()?;
        let mut section = Section {
            value: self,
            known: Vec::new(),
        };
        let result = read(&mut section);
        section.refuse_unknown_keys();
        result
    }

    /// The value of a key that must be there; its section is read elsewhere.
    pub(super) fn section_value(&self, key: &str) -> Option<Self> {
        let entries = self.entries()?;
        match entries.iter().find(|(entry, _)| entry.name == key) {
            Some((entry, node)) => Some(self.child(node, entry.place, step(key))),
            None => self.refuse(format!("`{key}` is missing")),
        }
    }

    /// Whether this is a map, for values that may be spelled in two ways.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_))
    }

    /// A path, relative to the folder of the configuration file.
    pub(super) fn file_path(&self) -> Option<PathBuf> {
        self.text().map(|text| self.reading.base.join(text))
    }

    fn entries(&self) -> Option<&'a [(super::yaml::Key, Node)]> {
        match &self.node.kind {
            Kind::Map(entries) => Some(entries),
            other => self.refuse(format!(
                "must be a section, {{key: value}}, not {}",
                kind_name(other)
            )),
        }
    }

    fn child(&self, node: &'a Node, key: Place, step: String) -> Self {
        let path = match self.path.as_str() {
            "" => step.strip_prefix('.').unwrap_or(&step).to_owned(),
            parent => format!("{parent}{step}"),
        };
        Self {
            reading: self.reading,
            node,
            path,
            key,
        }
    }

    fn record<T>(&self, place: Place, path: String, message: impl Into<String>) -> Option<T> {
        self.reading.report(ConfigError {
            place,
            path,
            message: message.into(),
        });
        None
    }
}

/// A map with known keys: whatever is asked for is known.
pub(super) struct Section<'s, 'a> {
    value: &'s Value<'a>,
    known: Vec<String>,
}

impl<'a> Section<'_, 'a> {
    /// The value of `key`, unless it is missing or null.
    pub(super) fn get(&mut self, key: &str) -> Option<Value<'a>> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        let entries = self.value.entries()?;
        let (key, node) = entries.iter().find(|(entry, _)| entry.name == key)?;
        let present = !matches!(node.kind, Kind::Null);
        present.then(|| self.value.child(node, key.place, step(&key.name)))
    }

    /// What `read` makes of `key`, if it is there.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).as_ref().and_then(read)
    }

    /// What `read` makes of `key`, which must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(value) => read(&value),
            None => self.missing(key, &format!("`{key}` is missing")),
        }
    }

    /// A secret: the text of `key`, or of the file that `key_file` names. The message of `parse`
    /// must not repeat it.
    pub(super) fn secret<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let file_key = format!("{key}_file");
        match (self.get(key), self.get(&file_key)) {
            (Some(value), None) => value.parse(parse),
            (None, Some(file)) => {
                let path = file.file_path()?;
                let content = match std::fs::read_to_string(&path) {
                    Ok(content) => content,
                    Err(why) => {
                        return file.refuse(format!("cannot read {}: {why}", path.display()));
                    }
                };
                match parse(content.trim_end_matches(['\n', '\r'])) {
                    Ok(value) => Some(value),
                    Err(why) => file.refuse(why),
                }
            }
            (Some(_), Some(file)) => file.refuse(format!("stands beside `{key}`; keep one")),
            (None, None) => None,
        }
    }

    /// Whether `key` or `key_file` is there.
    pub(super) fn has_secret(&mut self, key: &str) -> bool {
        self.get(key).is_some() || self.get(&format!("{key}_file")).is_some()
    }

    /// Records that `key` is not there.
    pub(super) fn missing<T>(&self, key: &str, message: &str) -> Option<T> {
        let path = match self.value.path.as_str() {
            "" => key.to_owned(),
            parent => format!("{parent}.{key}"),
        };
        self.value.record(self.value.key, path, message)
    }

    /// Records an error at the section itself.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        let path = self.value.path.clone();
        self.value.record(self.value.key, path, message)
    }

    fn refuse_unknown_keys(&self) {
        for (key, _) in self.value.entries().unwrap_or_default() {
            if self.known.contains(&key.name) {
                continue;
            }
            let path = self
                .value
                .child(self.value.node, key.place, step(&key.name));
            let known = self.known.iter().map(String::as_str);
            let message = match closest(&key.name, known) {
                Some(known) => format!("unknown key; did you mean `{known}`?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            self.value.record::<()>(key.place, path.path, message);
        }
    }
}

/// The candidate that `name` was probably meant to be.
pub(super) fn closest<'n>(
    name: &str,
    candidates: impl Iterator<Item = &'n str>,
) -> Option<&'n str> {
    candidates
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .map(|(_, known)| known)
}

fn step(key: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(simple) {
        true => format!(".{key}"),
        false => format!("[{key:?}]"),
    }
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "nothing",
        Kind::Scalar(_) => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a section",
    }
}

/// Replaces `${VAR}` and `${VAR:-default}`; `$${` stands for a literal `${`. As in a shell, the
/// default also replaces an empty variable.
fn expand(text: &str, env: Env<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from_dollar) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &from_dollar[2..];
            continue;
        }
        expanded.push_str(before);
        let Some(end) = from_dollar.find('}') else {
            return Err("`${` has no closing `}`; write `$${` for a literal `${`".to_owned());
        };
        let (name, default) = match from_dollar[2..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&from_dollar[2..end], None),
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(letters) {
            return Err(format!(
                "`{name}` is not the name of a variable; write ${{VAR}} or ${{VAR:-default}}"
            ));
        }
        match (env(name), default) {
            (Some(value), Some(default)) if value.is_empty() => expanded.push_str(default),
            (Some(value), _) => expanded.push_str(&value),
            (None, Some(default)) => expanded.push_str(default),
            (None, None) => {
                return Err(format!(
                    "the environment variable {name} is not set; set it or write ${{{name}:-default}}"
                ));
            }
        }
        rest = &from_dollar[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}
