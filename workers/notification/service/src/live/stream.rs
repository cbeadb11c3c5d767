//! One client's stream of server-sent events.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::error::chain;
use runtime::supervise::CancellationToken;
use stores::StoreError;
use tokio::time::Instant;

use super::Ticket;
use crate::domain::Notification;
use crate::store::{Counter, NotificationStore};

/// How often a silent stream says that it lives. The store is asked at least as often.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// What is read from the store, and held for a client, at a time.
const PAGE: usize = 50;

/// What the store had for a stream.
enum News {
    Events(Bytes),
    Nothing,
    /// The user is gone.
    Over,
}

/// A stream, pulled by whoever writes to the client: the next piece is made when the last is gone.
pub struct Stream {
    store: Arc<dyn NotificationStore>,
    ticket: Ticket,
    /// The last sequence number the client has.
    sent: u64,
    /// Whether the store may have more than that.
    behind: bool,
    /// What goes out before anything else.
    greeting: Option<Bytes>,
    ends: Instant,
    stopping: CancellationToken,
}

impl Stream {
    /// Starts behind the last event the client says it has, or now. It ends at `ends` (the token's
    /// end), when `stopping`, or with its user's account.
    pub async fn open(
        store: Arc<dyn NotificationStore>,
        ticket: Ticket,
        last_event_id: Option<&str>,
        ends: Instant,
        stopping: CancellationToken,
    ) -> Result<Self, StoreError> {
        let counter = store.counter(&ticket.user).await?;
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
        // An id without data is no event, but the client remembers it: even a client that got
        // nothing yet resumes without a gap.
        let greeting = match resumed {
            // Its id comes with the reset: a client that stored the id without it would never reload.
            Some(None) => {
                format!("retry: 1000\n: welcome\n\nid: {sent}\nevent: reset\ndata: {{}}\n\n")
            }
            Some(Some(_)) | None => format!("retry: 1000\n: welcome\nid: {sent}\n\n"),
        };
        Ok(Self {
            store,
            ticket,
            sent,
            behind: true,
            greeting: Some(greeting.into()),
            ends,
            stopping,
        })
    }

    /// The next piece, or `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        let heartbeat = Instant::now() + HEARTBEAT;
        while !self.stopping.is_cancelled() && Instant::now() < self.ends {
            if self.behind {
                // Before the store is asked: a hint that comes meanwhile asks again.
                self.ticket.wake.mark_unchanged();
                match self.news().await {
                    News::Events(events) => return Some(events),
                    News::Over => return None,
                    News::Nothing => {}
                }
            }
            self.behind = true;
            tokio::select! {
                () = self.stopping.cancelled() => return None,
                () = tokio::time::sleep_until(self.ends) => return None,
                // The hub outlives its tickets, so this cannot fail.
                _ = self.ticket.wake.changed() => {}
                () = tokio::time::sleep_until(heartbeat) => {
                    return Some(Bytes::from_static(b": heartbeat\n\n"));
                }
            }
        }
        None
    }

    async fn news(&mut self) -> News {
        self.ask().await.unwrap_or_else(|error| {
            // The client waits; what it missed is in the store when that is back.
            tracing::warn!(error = chain(&error), "a stream could not ask the store");
            News::Nothing
        })
    }

    async fn ask(&mut self) -> Result<News, StoreError> {
        let user = &self.ticket.user;
        let found = self.store.since(user, self.sent, PAGE).await?;
        if let Some(last) = found.last() {
            self.sent = last.sequence;
            self.behind = found.len() == PAGE;
            return Ok(News::Events(render(&found)));
        }
        Ok(match self.store.counter(user).await?.deleted {
            true => News::Over,
            false => News::Nothing,
        })
    }
}

/// Where a client goes on that has seen `id`; `None` where that is unknown, or too old to promise
/// that nothing is missing.
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
