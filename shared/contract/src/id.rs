//! Opaque identifiers: UUIDv7 text (RFC 9562), so that they sort by creation.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Defines one identifier type, so that a user's id cannot be passed where a task's id is meant.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new identifier, greater than those made earlier on this machine.
            #[expect(clippy::new_without_default, reason = "each call makes another value")]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7().to_string())
            }

            /// Accepts an identifier from outside if it is 1 to 128 visible ASCII characters.
            pub fn parse(text: &str) -> Option<Self> {
                let visible = text.bytes().all(|b| b.is_ascii_graphic());
                (visible && (1..=128).contains(&text.len())).then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A user, who owns tasks, acts on them, and is notified.
    UserId
);
id!(
    /// One login, from its first token to its end.
    SessionId
);
id!(TaskId);
id!(AttachmentId);
id!(NotificationId);
