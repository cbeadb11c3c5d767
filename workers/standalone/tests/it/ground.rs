//! What the platforms of this binary stand on: files in a folder of the test's own.

use std::sync::Arc;
use std::time::Duration;

use standalone::platform::{Backend, Embedded};
use tempfile::TempDir;
use testkit::eventually;

/// For a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Ground {
    embedded: Arc<Embedded>,
    _folder: TempDir,
}

impl Ground {
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

    /// More would not share their limits.
    pub(crate) fn gateways(&self) -> usize {
        1
    }

    /// Waits until every change is published and every event was taken.
    pub(crate) async fn drained(&self) {
        eventually(PATIENCE, async || self.left().await.map_or(Ok(()), Err)).await;
    }

    /// Asserts it, once nothing runs that could change it.
    pub(crate) async fn is_empty(&self) {
        assert_eq!(self.left().await, None);
    }

    /// What is still under way between a change and its notification, or was dead-lettered.
    async fn left(&self) -> Option<String> {
        let under_way = self.embedded.under_way().await.expect("it opens");
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
