//! What the platforms of this binary run on: files in the test's own folder.

use std::sync::Arc;
use std::time::Duration;

use standalone::platform::{Backend, Embedded};
use tempfile::TempDir;
use testkit::eventually;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The stores and the bus of one test.
pub(crate) struct Dependencies {
    embedded: Arc<Embedded>,
    _folder: TempDir,
}

impl Dependencies {
    pub(crate) async fn fresh() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let embedded = Embedded::open(folder.path()).expect("fresh files");
        Self {
            embedded: Arc::new(embedded),
            _folder: folder,
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        Backend::Embedded(self.embedded.clone())
    }

    pub(crate) fn redis_url(&self) -> String {
        "local:".to_owned()
    }

    /// One, because several gateways would not share their limits without Redis.
    pub(crate) fn gateways(&self) -> usize {
        1
    }

    /// Waits until every change is published and every event is applied.
    pub(crate) async fn drained(&self) {
        eventually(PATIENCE, async || self.left().await.map_or(Ok(()), Err)).await;
    }

    /// Asserts the same after the platform has stopped, when nothing can change any more.
    pub(crate) async fn is_empty(&self) {
        assert_eq!(self.left().await, None);
    }

    /// Work that is not done, or the number of dead letters; `None` when there is neither.
    async fn left(&self) -> Option<String> {
        let under_way = self.embedded.unfinished_work().await.expect("it opens");
        let dead = self
            .embedded
            .bus
            .counts()
            .await
            .expect("it opens")
            .dead_letters;
        under_way.or_else(|| (dead > 0).then(|| format!("{dead} dead letters")))
    }
}
