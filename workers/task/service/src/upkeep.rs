//! The store's housekeeping: creates its indexes, then purges deleted tasks and forgets expired
//! idempotency keys, again and again.
//!
//! It must not purge a deleted task before the key of its request has expired. [`crate::run`] keeps it
//! running; several workers may do the same work at once.

use std::sync::Arc;
use std::time::Duration;

use runtime::supervise::CancellationToken;
use runtime::time::Clock;
use stores::idempotency::LIFETIME;

use crate::store::TaskStore;

/// How long a deleted task is kept after its deletion; longer while it has unpublished events. It
/// holds the idempotency key of the request that created it, and that key must live its full time.
const TOMBSTONE_GRACE: Duration = LIFETIME.saturating_add(Duration::from_secs(3600));
const INTERVAL: Duration = Duration::from_secs(60);

/// Creates the store's indexes, then tidies it up every minute until `shutdown`. Fails when the store
/// cannot be reached: the caller starts it again.
pub(crate) async fn run(
    store: Arc<dyn TaskStore>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let work = async {
        store.prepare().await?;
        loop {
            let now = clock.now();
            while store.purge(now - TOMBSTONE_GRACE).await? > 0 {}
            while store.forget_keys(now - LIFETIME).await? > 0 {}
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        failed = work => failed,
    }
}
