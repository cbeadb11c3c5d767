//! One client's stream of server-sent events. The writer of the response pulls it, and nothing is
//! sent that the store does not hold.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::error::chain;
use runtime::supervise::CancellationToken;
use stores::StoreError;
use tokio::time::Instant;

use super::StreamPermit;
use crate::domain::Notification;
use crate::store::{Counter, NotificationStore};

/// How often an idle stream sends a heartbeat. It also reads the store at least this often.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// How many notifications are read from the store, and held for a client, at a time.
const PAGE: usize = 50;

/// What a stream found when it read the store.
enum Found {
    Events(Bytes),
    Nothing,
    UserDeleted,
}

/// An open stream. The next piece is made only after the last one was written to the client.
pub struct Stream {
    store: Arc<dyn NotificationStore>,
    permit: StreamPermit,
    /// The last sequence number sent to the client.
    sent: u64,
    /// Whether the store may hold later ones.
    may_be_behind: bool,
    /// The first piece to send.
    greeting: Option<Bytes>,
    ends: Instant,
    stopping: CancellationToken,
}

impl Stream {
    /// Begins after the last event that the client names, or with the next new one. The stream ends
    /// at `ends` (the token's expiry), when `stopping` is cancelled, or when the user is deleted.
    pub async fn open(
        store: Arc<dyn NotificationStore>,
        permit: StreamPermit,
        last_event_id: Option<&str>,
        ends: Instant,
        stopping: CancellationToken,
    ) -> Result<Self, StoreError> {
        let counter = store.counter(&permit.user).await?;
        let ends = if counter.deleted {
            Instant::now()
        } else {
            ends
        };
        let resumed = last_event_id.map(|id| resume(id, &counter));
        let sent = match resumed {
            Some(Some(sequence)) => sequence,
            Some(None) | None => counter.sequence,
        };
        // An id without data is not an event, but the client remembers it. So even a client that has
        // received no event yet resumes without a gap.
        let greeting = match resumed {
            // The id comes only with the reset: a client that stored the id but missed the reset would
            // never reload.
            Some(None) => {
                format!("retry: 1000\n: welcome\n\nid: {sent}\nevent: reset\ndata: {{}}\n\n")
            }
            Some(Some(_)) | None => format!("retry: 1000\n: welcome\nid: {sent}\n\n"),
        };
        Ok(Self {
            store,
            permit,
            sent,
            may_be_behind: true,
            greeting: Some(greeting.into()),
            ends,
            stopping,
        })
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        let heartbeat = Instant::now() + HEARTBEAT;
        while !self.stopping.is_cancelled() && Instant::now() < self.ends {
            if self.may_be_behind {
                // Before the store is read, so that a hint that arrives meanwhile causes another read.
                self.permit.wake.mark_unchanged();
                match self.find().await {
                    Found::Events(events) => return Some(events),
                    Found::UserDeleted => return None,
                    Found::Nothing => {}
                }
            }
            self.may_be_behind = true;
            tokio::select! {
                () = self.stopping.cancelled() => return None,
                () = tokio::time::sleep_until(self.ends) => return None,
                // The hub outlives its permits, so this cannot fail.
                _ = self.permit.wake.changed() => {}
                () = tokio::time::sleep_until(heartbeat) => {
                    return Some(Bytes::from_static(b": heartbeat\n\n"));
                }
            }
        }
        None
    }

    async fn find(&mut self) -> Found {
        self.read_store().await.unwrap_or_else(|error| {
            // The client waits. It gets what it missed once the store answers again.
            tracing::warn!(error = chain(&error), "a stream could not read the store");
            Found::Nothing
        })
    }

    async fn read_store(&mut self) -> Result<Found, StoreError> {
        let user = &self.permit.user;
        let found = self.store.since(user, self.sent, PAGE).await?;
        if let Some(last) = found.last() {
            self.sent = last.sequence;
            self.may_be_behind = found.len() == PAGE;
            return Ok(Found::Events(render(&found)));
        }
        Ok(match self.store.counter(user).await?.deleted {
            true => Found::UserDeleted,
            false => Found::Nothing,
        })
    }
}

/// The sequence number after which a client that has seen `id` resumes. `None` when the id is unknown,
/// or so old that notifications may be missing.
fn resume(id: &str, counter: &Counter) -> Option<u64> {
    let known = counter.purged..=counter.sequence;
    id.parse().ok().filter(|sequence| known.contains(sequence))
}

fn render(notifications: &[Notification]) -> Bytes {
    let mut text = String::new();
    for notification in notifications {
        // JSON from serde_json has no line breaks, and writing it to a string cannot fail.
        if let Ok(data) = serde_json::to_string(notification) {
            let sequence = notification.sequence;
            write!(
                text,
                "id: {sequence}\nevent: notification\ndata: {data}\n\n"
            )
            .ok();
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_resumes_only_where_nothing_is_missing() {
        let counter = Counter {
            sequence: 9,
            unread: 0,
            purged: 4,
            deleted: false,
        };
        for (id, resumed) in [
            ("9", Some(9)),
            ("4", Some(4)),
            ("3", None),
            ("10", None),
            ("", None),
            ("-1", None),
            ("1e1", None),
        ] {
            assert_eq!(resume(id, &counter), resumed, "{id:?}");
        }
        assert_eq!(resume("0", &Counter::default()), Some(0));
    }
}
