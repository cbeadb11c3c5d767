//! The account and its changes. Pure; handlers and stores call it.

use contract::event::{Envelope, UserDeleted};
use contract::id::{SessionId, UserId};
use jiff::Timestamp;

use super::email::Email;
use super::name::Name;
use super::password::PasswordHash;
use super::registration::Registration;

/// The `source` of all user events.
const SOURCE: &str = "/services/user";

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: Email,
    pub name: Name,
    pub password: PasswordHash,
    /// Counts the password changes. A session of an earlier generation is dead. This number alone
    /// decides it, so a password change needs no second write.
    pub generation: u64,
    /// The session that chose the current password. It stays alive although its generation is
    /// older.
    pub kept_session: Option<SessionId>,
    /// The registration that made the account, if it had an `Idempotency-Key`.
    pub registration: Option<Registration>,
    /// Counts the changes that the user can see. This is the entity tag.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// New values for some members. `None` leaves a member unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub email: Option<Email>,
    pub name: Option<Name>,
}

impl User {
    /// A new account of generation 0 and version 1.
    pub fn new(
        email: Email,
        name: Name,
        password: PasswordHash,
        registration: Option<Registration>,
        now: Timestamp,
    ) -> Self {
        Self {
            id: UserId::new(),
            email,
            name,
            password,
            generation: 0,
            kept_session: None,
            registration,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// The next version, or `None` if nothing would change.
    pub fn change(&self, change: Change, now: Timestamp) -> Option<Self> {
        let email = change.email.unwrap_or_else(|| self.email.clone());
        let name = change.name.unwrap_or_else(|| self.name.clone());
        if (&email, &name) == (&self.email, &self.name) {
            return None;
        }
        Some(Self {
            email,
            name,
            version: self.version + 1,
            updated_at: now.max(self.updated_at),
            ..self.clone()
        })
    }

    /// The event for the deletion, which is the account's next and last version.
    pub fn deleted(&self, now: Timestamp) -> Envelope {
        let deleted = UserDeleted {
            user_id: self.id.clone(),
            at: now.max(self.updated_at),
        };
        deleted.event(SOURCE, self.version + 1)
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

    fn ada() -> User {
        User::new(
            Email::parse("ada@example.org").unwrap(),
            Name::parse("Ada Lovelace").unwrap(),
            PasswordHash::new("$argon2id$secret"),
            None,
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn only_what_is_different_makes_a_new_version() {
        let (ada, now) = (
            ada(),
            Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(1),
        );
        let email = |text| Some(Email::parse(text).unwrap());
        let name = Name::parse("Ada Lovelace").ok();
        let same = Change {
            email: email("ada@EXAMPLE.org"),
            name,
        };
        assert_eq!(ada.change(same, now), None);
        assert_eq!(ada.change(Change::default(), now), None);
        // A new spelling changes the address that is shown, not the account that it belongs to.
        let other = Change {
            email: email("Ada@example.org"),
            name: None,
        };
        let changed = ada.change(other, now).unwrap();
        assert_eq!((changed.version, changed.updated_at), (2, now));
        assert_eq!(changed.created_at, ada.created_at);
        assert_eq!(changed.deleted(now).id, format!("{}:3", ada.id));
    }

    #[test]
    fn debug_output_does_not_tell_who_somebody_is() {
        let user = ada();
        let text = format!("{user:?} {:?}", user.email.key()).to_lowercase();
        for hidden in ["ada", "lovelace", "example", "secret"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}
