//! Passwords: the policy for new ones, and the normal form of attempts. Pure; hashing is in
//! `passwords`.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use runtime::secret::Secret;
use unicode_normalization::UnicodeNormalization;

const MIN_CHARS: usize = 10;
const MAX_CHARS: usize = 128;
/// No accepted password is longer than this before its normalisation. In bytes.
const MAX_TRIED_BYTES: usize = 4096;

/// The common passwords that are long enough to pass the length check, in lower case.
static COMMON: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// A password in NFC, so that keyboards that compose characters differently give the same password.
#[derive(Clone, Debug)]
pub struct Password(Secret);

impl Password {
    /// Accepts a new password, or says why it is too weak.
    pub fn choose(text: &str) -> Result<Self, String> {
        let password = Self::attempt(text);
        let chosen = password.expose();
        let count = chosen.chars().count();
        if !(MIN_CHARS..=MAX_CHARS).contains(&count) {
            return Err(format!(
                "must have {MIN_CHARS} to {MAX_CHARS} characters, has {count}"
            ));
        }
        if is_common(chosen) {
            return Err("is among the passwords that are tried first; choose another".to_owned());
        }
        Ok(password)
    }

    /// Wraps any attempt. No policy applies, because the answer must not reveal the policy's
    /// result.
    pub fn attempt(text: &str) -> Self {
        let text = match text.len() <= MAX_TRIED_BYTES {
            true => text.nfc().collect(),
            false => text.to_owned(),
        };
        Self(Secret::new(text))
    }

    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Whether the password is on the list, in any case, or repeats a single character.
fn is_common(password: &str) -> bool {
    let lower = password.to_lowercase();
    let mut chars = lower.chars();
    let first = chars.next();
    COMMON.contains(lower.as_str()) || chars.all(|c| Some(c) == first)
}

/// A password's hash with its parameters and salt, as a PHC string.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    pub fn new(phc: impl Into<String>) -> Self {
        Self(phc.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passwords_are_refused_and_long_ones_accepted() {
        for weak in [
            "",
            "ninechars",
            "password123",
            "Password123",
            "1234567890",
            "qwertyuiop",
            "aaaaaaaaaaaa",
            &"x1".repeat(65),
        ] {
            assert!(Password::choose(weak).is_err(), "{weak:?}");
        }
        for strong in [
            "correct horse battery staple",
            "ten-chars!",
            &"x1".repeat(64),
            "パスワードは十文字以上",
        ] {
            assert!(Password::choose(strong).is_ok(), "{strong:?}");
        }
    }

    #[test]
    fn the_policy_counts_composed_characters() {
        assert!(Password::choose(&"e\u{301}a".repeat(5)).is_ok());
        assert!(Password::choose(&"e\u{301}".repeat(6)).is_err());
    }

    #[test]
    fn composed_and_decomposed_spellings_are_one_password() {
        let composed = Password::choose("résumé-résumé").unwrap();
        let tried = Password::attempt("re\u{301}sume\u{301}-re\u{301}sume\u{301}");
        assert_eq!(composed.expose(), tried.expose());
    }

    #[test]
    fn the_list_holds_only_what_the_length_would_let_through() {
        for line in include_str!("common_passwords.txt").lines() {
            assert!(
                line.chars().count() >= MIN_CHARS,
                "{line} is too short to be needed"
            );
            assert_eq!(
                line,
                line.to_lowercase(),
                "{line} is compared in lower case"
            );
        }
        assert_eq!(
            COMMON.len(),
            include_str!("common_passwords.txt").lines().count()
        );
    }
}
