//! Events about users.

use jiff::Timestamp;
use serde_json::json;

use super::{Envelope, EventType, Poison};
use crate::id::UserId;

/// An account was deleted. Every worker that keeps data of this user deletes it and accepts nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDeleted {
    pub user_id: UserId,
    pub at: Timestamp,
}

impl UserDeleted {
    /// Makes the event; `version` is the account's last one.
    pub fn event(self, source: &str, version: u64) -> Envelope {
        let (id, data) = (self.user_id.as_str(), json!({"user_id": self.user_id}));
        Envelope::new(source, EventType::UserDeleted, id, version, self.at, data)
    }

    /// Reads a message of this type.
    pub fn read(body: &[u8]) -> Result<Self, Poison> {
        let event = Envelope::read(body, EventType::UserDeleted)?;
        let named = event.data.get("user_id").and_then(|id| id.as_str());
        if named != Some(event.subject.as_str()) {
            return Err(Poison::Inconsistent);
        }
        let user_id = UserId::parse(&event.subject).ok_or(Poison::Inconsistent)?;
        Ok(Self {
            user_id,
            at: event.time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        let deleted = UserDeleted {
            user_id: UserId::new(),
            at: Timestamp::UNIX_EPOCH,
        };
        let event = deleted.clone().event("/services/user", 3);
        assert_eq!(event.id, format!("{}:3", deleted.user_id));
        let read = |event: &Envelope| UserDeleted::read(&serde_json::to_vec(event).unwrap());
        assert_eq!(read(&event), Ok(deleted));
        let mut other = event.clone();
        other.subject = UserId::new().to_string();
        assert_eq!(read(&other), Err(Poison::Inconsistent));
        let mut none = event;
        none.data = json!({});
        assert_eq!(read(&none), Err(Poison::Inconsistent));
        assert!(matches!(UserDeleted::read(b"{}"), Err(Poison::Envelope(_))));
    }
}
