//! The streams of each connected user, and how hints wake them. It never reads the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use contract::id::UserId;
use events::bus::Bus;
use prometheus::IntGauge;
use runtime::error::chain;
use runtime::supervise::CancellationToken;
use tokio::sync::watch;

use crate::domain::Event;

/// How many streams one user may have on one replica.
pub const MAX_STREAMS_PER_USER: usize = 8;

/// All users with a stream on this replica.
pub struct Hub {
    users: Mutex<HashMap<UserId, UserStreams>>,
    /// How many streams are open.
    streams: IntGauge,
}

/// One user's streams: the channel that wakes them, and how many are open.
struct UserStreams {
    wake: watch::Sender<()>,
    count: usize,
}

/// Permission for one open stream, returned when it is dropped.
pub struct StreamPermit {
    hub: Arc<Hub>,
    pub(super) user: UserId,
    pub(super) wake: watch::Receiver<()>,
}

impl Hub {
    pub fn new(streams: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            users: Mutex::new(HashMap::new()),
            streams,
        })
    }

    /// Takes a permit for one more stream; `None` when the user already has
    /// [`MAX_STREAMS_PER_USER`].
    pub fn open(self: &Arc<Self>, user: &UserId) -> Option<StreamPermit> {
        let mut users = self.users();
        let user_streams = users.entry(user.clone()).or_insert_with(|| UserStreams {
            wake: watch::Sender::new(()),
            count: 0,
        });
        if user_streams.count >= MAX_STREAMS_PER_USER {
            return None;
        }
        user_streams.count += 1;
        self.streams.inc();
        Some(StreamPermit {
            hub: self.clone(),
            user: user.clone(),
            wake: user_streams.wake.subscribe(),
        })
    }

    /// Wakes the streams of the users named in hints, until `shutdown` or until the bus fails.
    pub async fn follow(
        &self,
        bus: Arc<dyn Bus>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut hints = bus.hints().await?;
        // Hints may have been missed before this subscription began.
        self.wake_all();
        loop {
            let hint = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                hint = hints.next() => hint?,
            };
            match serde_json::from_slice::<Vec<UserId>>(&hint) {
                Ok(users) => users.iter().for_each(|user| self.wake(user)),
                // A hint in the format of another version.
                Err(_) => self.wake_all(),
            }
        }
    }

    fn wake(&self, user: &UserId) {
        if let Some(user_streams) = self.users().get(user) {
            user_streams.wake.send_replace(());
        }
    }

    fn wake_all(&self) {
        for user_streams in self.users().values() {
            user_streams.wake.send_replace(());
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<UserId, UserStreams>> {
        // No code panics while it holds this lock, so it is never poisoned.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.hub.streams.dec();
        let mut users = self.hub.users();
        if let Some(user_streams) = users.get_mut(&self.user) {
            user_streams.count -= 1;
            if user_streams.count == 0 {
                users.remove(&self.user);
            }
        }
    }
}

/// Sends a hint for every user whom `events` notify or delete. A failure is only logged: it costs no
/// more than a lost hint.
pub async fn hint(bus: &dyn Bus, events: &[Event]) {
    let users: BTreeSet<&UserId> = events
        .iter()
        .flat_map(|event| match event {
            Event::Task(task) => task
                .notifications
                .iter()
                .map(|content| &content.user_id)
                .collect(),
            Event::UserDeleted(user) => vec![user],
        })
        .collect();
    // Serializing ids cannot fail.
    let body = serde_json::to_vec(&users).unwrap_or_default();
    if let Err(error) = bus.hint(Bytes::from(body)).await {
        tracing::debug!(
            error = chain(&error),
            "the hint that wakes streams could not be sent"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_streams_and_no_more_until_one_ends() {
        let hub = Hub::new(IntGauge::new("streams", "…").unwrap());
        let (alice, bob) = (UserId::new(), UserId::new());
        let mut tickets: Vec<_> = (0..MAX_STREAMS_PER_USER)
            .map(|_| hub.open(&alice).expect("below the bound"))
            .collect();
        assert!(hub.open(&alice).is_none());
        assert!(hub.open(&bob).is_some());
        tickets.pop();
        assert!(hub.open(&alice).is_some());
        tickets.clear();
        assert_eq!(hub.streams.get(), 0);
        assert!(hub.users().is_empty());
    }
}
