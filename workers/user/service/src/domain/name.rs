//! Names of people. Pure; handlers parse with it.

use unicode_normalization::UnicodeNormalization;

/// A person's name: NFC, trimmed, 1 to 100 characters, no control characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    const MAX_CHARS: usize = 100;

    /// Parses a client's text, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name: String = text.trim().nfc().collect();
        let count = name.chars().count();
        if count == 0 || count > Self::MAX_CHARS {
            return Err(format!(
                "must have 1 to {} characters, has {count}",
                Self::MAX_CHARS
            ));
        }
        if name.chars().any(char::is_control) {
            return Err("must not contain control characters".to_owned());
        }
        Ok(Self(name))
    }

    /// Wraps a stored name without checking it.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Name(…)")
    }
}
