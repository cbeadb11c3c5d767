//! What keeps the store in order: indexes before anything else, then what has had its time goes.

use std::sync::Arc;
use std::time::Duration;

use runtime::supervise::CancellationToken;
use runtime::time::Clock;
use stores::idempotency::LIFETIME;

use crate::store::TaskStore;

/// How long a deleted task's document is kept after its last event was published. The key of the
/// request that made it lives in it, and must not be forgotten before its time.
const TOMBSTONE_GRACE: Duration = LIFETIME.saturating_add(Duration::from_secs(3600));
const EVERY: Duration = Duration::from_secs(60);

/// Makes the store's indexes, as soon as it can be reached, and tidies it up until `ended`.
pub(crate) async fn run(
    store: Arc<dyn TaskStore>,
    clock: Arc<dyn Clock>,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let work = async {
        store.prepare().await?;
        loop {
            let now = clock.now();
            while store.purge(now - TOMBSTONE_GRACE).await? > 0 {}
            while store.forget_keys(now - LIFETIME).await? > 0 {}
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = ended.cancelled() => Ok(()),
        failed = work => failed,
    }
}
