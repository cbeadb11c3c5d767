//! What an account and a session are, and which texts may be part of them. Pure: no I/O, no HTTP.
//!
//! Who a person is (address, name) and what they know (password) never reaches a log: the types
//! here hide it from `Debug`.

mod email;
mod password;
mod session;

pub use email::{Email, EmailKey};
pub use password::{Password, PasswordHash};
pub use session::{LIFETIME, RefreshToken, Session, TokenHash};

use jiff::Timestamp;
use shared::id::UserId;
use unicode_normalization::UnicodeNormalization;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: Email,
    pub name: Name,
    pub password: PasswordHash,
    /// Counts what the user can see changing; the entity tag.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl User {
    /// A new account.
    pub fn new(email: Email, name: Name, password: PasswordHash, now: Timestamp) -> Self {
        Self {
            id: UserId::new(),
            email,
            name,
            password,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_composed_and_bounded() {
        assert_eq!(
            Name::parse("  Ren\u{65}\u{301}e \n").unwrap().as_str(),
            "Renée"
        );
        assert!(Name::parse(&"é".repeat(100)).is_ok());
        for bad in ["", " \t", "a\nb", "a\u{0}b", &"x".repeat(101)] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_does_not_tell_who_somebody_is() {
        let user = User::new(
            Email::parse("ada@example.org").unwrap(),
            Name::parse("Ada Lovelace").unwrap(),
            PasswordHash::new("$argon2id$secret"),
            Timestamp::UNIX_EPOCH,
        );
        let text = format!("{user:?} {:?}", user.email.key()).to_lowercase();
        for hidden in ["ada", "lovelace", "example", "secret"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}
