//! Settings: the values of the file, each with its place and its path.
//!
//! A reader returns what it could read and records what it could not, so one run reports every
//! error of the file. `None` therefore means that an error is recorded, or that an optional key is
//! missing. Nobody may use what was read from a [`Source`] that has errors.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Place};
use super::variables::{Env, expand};
use super::yaml::{Content, MapEntry, Node};

/// The file that is being read, with the errors found so far.
pub(super) struct Source<'a> {
    /// Relative paths in the file start here.
    folder: &'a Path,
    env: Env<'a>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(folder: &'a Path, env: Env<'a>, errors: Vec<ConfigError>) -> Self {
        Self {
            folder,
            env,
            errors: RefCell::new(errors),
        }
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }

    fn refuse<T>(&self, place: Place, path: String, message: impl Into<String>) -> Option<T> {
        let error = ConfigError::new(place, path, message);
        self.errors.borrow_mut().push(error);
        None
    }
}

/// A value of the file and the path that leads to it.
#[derive(Clone)]
pub(super) struct Setting<'a> {
    source: &'a Source<'a>,
    node: &'a Node,
    path: String,
    /// The place of its key. An error about a key that is missing below it is reported here.
    key_place: Place,
}

impl<'a> Setting<'a> {
    pub(super) fn root(source: &'a Source<'a>, node: &'a Node) -> Self {
        Self {
            source,
            node,
            path: String::new(),
            key_place: Place::START,
        }
    }

    /// Records an error at this value.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        self.source
            .refuse(self.node.place, self.path.clone(), message)
    }

    /// The value of `result`, or `None` after recording its error.
    pub(super) fn accept<T>(&self, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(why) => self.refuse(why),
        }
    }

    /// The text of a single value, with its variables expanded.
    pub(super) fn text(&self) -> Option<String> {
        match &self.node.content {
            Content::Text(text) => self.accept(expand(text, self.source.env)),
            other => self.refuse(format!("must be a single value, not {}", other.kind())),
        }
    }

    /// A single value, as `parse` understands it.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.accept(parse(&self.text()?))
    }

    /// The content of the file that this path names, as `parse` understands it. Line breaks at the
    /// end of the file are left out.
    fn parse_file<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let path = self.file_path()?;
        self.accept(match std::fs::read_to_string(&path) {
            Ok(content) => parse(content.trim_end_matches(['\n', '\r'])),
            Err(why) => Err(format!("cannot read {}: {why}", path.display())),
        })
    }

    /// Every item of a list. `None` if `read` fails for one of them.
    pub(super) fn list<T>(&self, mut read: impl FnMut(&Self) -> Option<T>) -> Option<Vec<T>> {
        let Content::List(items) = &self.node.content else {
            let found = self.node.content.kind();
            return self.refuse(format!("must be a list, [a, b], not {found}"));
        };
        let items = items.iter().enumerate().map(|(index, node)| Self {
            source: self.source,
            node,
            path: format!("{}[{index}]", self.path),
            key_place: node.place,
        });
        read_all(items, |item| read(&item))
    }

    /// Every entry of a map whose keys are names. `None` if `read` fails for one of them.
    pub(super) fn named<T>(
        &self,
        mut read: impl FnMut(&str, &Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        read_all(self.entries()?, |entry| {
            read(&entry.key, &self.below(entry))
        })
    }

    /// A map whose keys are known. Records an error for every other key.
    pub(super) fn section<T>(
        &self,
        read: impl FnOnce(&mut Section<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        let mut section = Section {
            setting: self,
            entries: self.entries()?,
            known: Vec::new(),
        };
        let result = read(&mut section);
        section.refuse_unknown_keys();
        result
    }

    /// Whether this is a map, for settings that may also be a single value.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.content, Content::Map(_))
    }

    /// A path, relative to the folder of the configuration file.
    pub(super) fn file_path(&self) -> Option<PathBuf> {
        self.text().map(|text| self.source.folder.join(text))
    }

    fn entries(&self) -> Option<&'a [MapEntry]> {
        match &self.node.content {
            Content::Map(entries) => Some(entries),
            other => self.refuse(format!(
                "must be a section, {{key: value}}, not {}",
                other.kind()
            )),
        }
    }

    fn below(&self, entry: &'a MapEntry) -> Self {
        Self {
            source: self.source,
            node: &entry.value,
            path: path_below(&self.path, &entry.key),
            key_place: entry.place,
        }
    }
}

/// Reads every item, even after one has failed, so that the errors of all are recorded.
fn read_all<I, T>(
    items: impl IntoIterator<Item = I>,
    read: impl FnMut(I) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = items.into_iter().map(read).collect();
    read.into_iter().collect()
}

/// A map with known keys. Asking for a key makes it known.
pub(super) struct Section<'s, 'a> {
    setting: &'s Setting<'a>,
    entries: &'a [MapEntry],
    known: Vec<String>,
}

impl<'a> Section<'_, 'a> {
    /// The setting `key`, unless it is missing or null.
    pub(super) fn get(&mut self, key: &str) -> Option<Setting<'a>> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let present = !matches!(entry.value.content, Content::Null);
        present.then(|| self.setting.below(entry))
    }

    /// A setting that may be missing.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Setting<'a>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).as_ref().and_then(read)
    }

    /// A single value that may be missing, as `parse` understands it.
    pub(super) fn parse<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.get(key)?.parse(parse)
    }

    /// A setting that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Setting<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(setting) => read(&setting),
            None => self.missing(key, format!("`{key}` is missing")),
        }
    }

    /// A section that has a default for every key: if it is missing, it is read as an empty one.
    pub(super) fn section<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Section<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(setting) => setting.section(read),
            None => read(&mut Section {
                setting: self.setting,
                entries: &[],
                known: Vec::new(),
            }),
        }
    }

    /// A secret that must be there: the text of `key`, or of the file that `key_file` names. The
    /// errors of `parse` must not repeat the text.
    pub(super) fn secret<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let file_key = format!("{key}_file");
        match (self.get(key), self.get(&file_key)) {
            (Some(setting), None) => setting.parse(parse),
            (None, Some(file)) => file.parse_file(parse),
            (Some(_), Some(file)) => file.refuse(format!("stands beside `{key}`; keep one")),
            (None, None) => self.missing(key, format!("`{key}` (or `{file_key}`) is missing")),
        }
    }

    /// Whether `key` or `key_file` is there.
    pub(super) fn has_secret(&mut self, key: &str) -> bool {
        // Both are asked for, so that both are known.
        let (text, file) = (self.get(key), self.get(&format!("{key}_file")));
        text.is_some() || file.is_some()
    }

    /// Records that `key` is missing.
    pub(super) fn missing<T>(&self, key: &str, message: impl Into<String>) -> Option<T> {
        let path = path_below(&self.setting.path, key);
        self.setting
            .source
            .refuse(self.setting.key_place, path, message)
    }

    /// Records an error at the section itself.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        let path = self.setting.path.clone();
        self.setting
            .source
            .refuse(self.setting.key_place, path, message)
    }

    fn refuse_unknown_keys(&self) {
        for entry in self.entries {
            if self.known.contains(&entry.key) {
                continue;
            }
            let known = self.known.iter().map(String::as_str);
            let message = match closest(&entry.key, known) {
                Some(known) => format!("unknown key; did you mean `{known}`?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            let path = path_below(&self.setting.path, &entry.key);
            self.setting.source.refuse::<()>(entry.place, path, message);
        }
    }
}

/// The candidate that is spelled almost like `name`.
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

/// `parent.key`, or `parent["key"]` if the key needs quotation marks.
fn path_below(parent: &str, key: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match (!key.is_empty() && key.chars().all(simple), parent) {
        (true, "") => key.to_owned(),
        (true, _) => format!("{parent}.{key}"),
        (false, _) => format!("{parent}[{key:?}]"),
    }
}
