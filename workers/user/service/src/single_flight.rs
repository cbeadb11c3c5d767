//! Single flight: concurrent calls with the same key share one run of the work. This holds within
//! one process, and results are not cached. Registration uses it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

/// The work in progress, by key.
pub(crate) struct SingleFlight<K, V>(Mutex<HashMap<K, Weak<OnceCell<V>>>>);

impl<K: Hash + Eq, V: Clone> SingleFlight<K, V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Runs the work, or waits for a call that is running it. If that call is dropped, the next one
    /// runs its own work.
    pub(crate) async fn run<W: Future<Output = V>>(&self, key: K, work: impl FnOnce() -> W) -> V {
        let cell = self.cell(key);
        cell.get_or_init(work).await.clone()
    }

    fn cell(&self, key: K) -> Arc<OnceCell<V>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Remove finished work, so that there is at most one entry more than calls in progress.
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(cell) = flights.get(&key).and_then(Weak::upgrade) {
            return cell;
        }
        let cell = Arc::new(OnceCell::new());
        flights.insert(key, Arc::downgrade(&cell));
        cell
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_at_once_is_done_once_and_later_again() {
        let (flights, done) = (SingleFlight::new(), AtomicUsize::new(0));
        let work = || async {
            tokio::task::yield_now().await;
            done.fetch_add(1, Ordering::Relaxed)
        };
        let all = join_all((0..50).map(|_| flights.run("a", work))).await;
        assert_eq!(all, [0; 50]);
        assert_eq!(flights.run("a", work).await, 1);
        assert_eq!(flights.run("b", work).await, 2);
        assert_eq!(flights.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_work_to_the_next() {
        let flights = SingleFlight::new();
        let mut first = Box::pin(flights.run("a", std::future::pending));
        assert!(futures_util::poll!(&mut first).is_pending());
        let second = flights.run("a", || std::future::ready(7));
        drop(first);
        assert_eq!(second.await, 7);
    }
}
