//! Live streams: who is connected, who is to be woken, and what a stream sends.
//!
//! The store is the truth: a stream asks it for what follows the last sequence number it sent, and
//! only when its client reads, so nothing is buffered. Hints only wake streams; one that is lost
//! costs at most the time to the next heartbeat, never an event. To tell hints costs the store work
//! with every write, so it is asked for them only while somebody is connected.

mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use shared::id::UserId;
use shared::supervise::CancellationToken;
use tokio::sync::watch;

use crate::store::NotificationStore;

pub use stream::{HEARTBEAT, Stream};

/// Streams of one user on one replica.
pub const MAX_STREAMS_PER_USER: usize = 8;
/// Hints are asked for until nobody has been connected for so long: clients come again.
const LINGER: Duration = Duration::from_secs(30);

/// Everybody who is connected to this replica.
pub struct Hub {
    users: Mutex<HashMap<UserId, Connected>>,
    /// Streams that are open.
    open: watch::Sender<usize>,
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
    user: UserId,
    wake: watch::Receiver<()>,
}

impl Hub {
    pub fn new(streams: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            users: Mutex::new(HashMap::new()),
            open: watch::Sender::new(0),
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
        self.count(|open| open + 1);
        Some(Ticket {
            hub: self.clone(),
            user: user.clone(),
            wake: connected.wake.subscribe(),
        })
    }

    /// Passes the store's hints on, while somebody is connected, until it fails or `shutdown`.
    pub async fn follow(
        &self,
        store: Arc<dyn NotificationStore>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.until_open(|open| open > 0) => {}
            }
            let mut hints = store.hints().await?;
            // What came before the hints began.
            self.wake_all();
            let mut deserted = std::pin::pin!(self.deserted());
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    hint = hints.next() => self.wake(&hint?),
                    () = &mut deserted => break,
                }
            }
        }
    }

    /// Waits until nobody has been connected for [`LINGER`].
    async fn deserted(&self) {
        loop {
            self.until_open(|open| open == 0).await;
            let back = self.until_open(|open| open > 0);
            if tokio::time::timeout(LINGER, back).await.is_err() {
                return;
            }
        }
    }

    async fn until_open(&self, so: fn(usize) -> bool) {
        // The sender is ours: it is not dropped meanwhile.
        self.open.subscribe().wait_for(|open| so(*open)).await.ok();
    }

    fn count(&self, change: fn(usize) -> usize) {
        self.open.send_modify(|open| {
            *open = change(*open);
            self.streams.set(i64::try_from(*open).unwrap_or(i64::MAX));
        });
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
        self.hub.count(|open| open - 1);
        let mut users = self.hub.users();
        if let Some(connected) = users.get_mut(&self.user) {
            connected.streams -= 1;
            if connected.streams == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

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

    #[tokio::test(start_paused = true)]
    async fn hints_are_asked_for_until_nobody_has_been_connected_for_a_while() {
        let hub = Hub::new(IntGauge::new("streams", "…").unwrap());
        let somebody = hub.until_open(|open| open > 0);
        assert!(timeout(LINGER, somebody).await.is_err());
        let mut deserted = std::pin::pin!(hub.deserted());
        for _ in 0..2 {
            let ticket = hub.open(&UserId::new());
            hub.until_open(|open| open > 0).await;
            assert!(timeout(LINGER * 2, &mut deserted).await.is_err());
            drop(ticket);
            let nearly = LINGER - Duration::from_secs(1);
            assert!(timeout(nearly, &mut deserted).await.is_err());
        }
        timeout(Duration::from_secs(1), deserted).await.unwrap();
    }
}
