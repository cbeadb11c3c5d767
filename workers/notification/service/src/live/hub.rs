//! Who is connected, and who is woken.

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

/// Streams of one user on one replica.
pub const MAX_STREAMS_PER_USER: usize = 8;

/// Everybody who is connected to this replica.
pub struct Hub {
    users: Mutex<HashMap<UserId, Connected>>,
    /// Streams that are open.
    streams: IntGauge,
}

/// One user's streams: what wakes them, and how many there are.
struct Connected {
    wake: watch::Sender<()>,
    streams: usize,
}

/// The right to one stream, given back when dropped.
pub struct Ticket {
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

    /// `None` where the user has as many streams as one may have.
    pub fn open(self: &Arc<Self>, user: &UserId) -> Option<Ticket> {
        let mut users = self.users();
        let connected = users.entry(user.clone()).or_insert_with(|| Connected {
            wake: watch::Sender::new(()),
            streams: 0,
        });
        if connected.streams >= MAX_STREAMS_PER_USER {
            return None;
        }
        connected.streams += 1;
        self.streams.inc();
        Some(Ticket {
            hub: self.clone(),
            user: user.clone(),
            wake: connected.wake.subscribe(),
        })
    }

    /// Wakes those who are hinted at, until the bus fails or `shutdown`.
    pub async fn follow(
        &self,
        bus: Arc<dyn Bus>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut hints = bus.hints().await?;
        // What came before the hints began.
        self.wake_all();
        loop {
            let hint = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                hint = hints.next() => hint?,
            };
            match serde_json::from_slice::<Vec<UserId>>(&hint) {
                Ok(users) => users.iter().for_each(|user| self.wake(user)),
                // Another version's.
                Err(_) => self.wake_all(),
            }
        }
    }

    fn wake(&self, user: &UserId) {
        if let Some(connected) = self.users().get(user) {
            connected.wake.send_replace(());
        }
    }

    fn wake_all(&self) {
        for connected in self.users().values() {
            connected.wake.send_replace(());
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<UserId, Connected>> {
        // Nothing panics while it holds the lock.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.hub.streams.dec();
        let mut users = self.hub.users();
        if let Some(connected) = users.get_mut(&self.user) {
            connected.streams -= 1;
            if connected.streams == 0 {
                users.remove(&self.user);
            }
        }
    }
}

/// Hints at everybody who is told something by `events`, or is gone with them. Failing costs no more
/// than a hint that is lost.
pub async fn hint(bus: &dyn Bus, events: &[Event]) {
    let users: BTreeSet<&UserId> = events
        .iter()
        .flat_map(|event| match event {
            Event::Task(entry) => entry.notices.iter().map(|notice| &notice.user_id).collect(),
            Event::UserDeleted(user) => vec![user],
        })
        .collect();
    // Writing ids to memory cannot fail.
    let body = serde_json::to_vec(&users).unwrap_or_default();
    if let Err(error) = bus.hint(Bytes::from(body)).await {
        tracing::debug!(error = chain(&error), "streams were not woken");
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
