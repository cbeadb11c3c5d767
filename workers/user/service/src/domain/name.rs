//! What people call themselves.

use unicode_normalization::UnicodeNormalization;

/// What a person is called: NFC, trimmed, 1 to 100 characters, none of them a control character.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    const MAX_CHARS: usize = 100;

    /// Takes what a client sent, or says what is wrong with it.
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

    /// Takes what a store kept.
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
