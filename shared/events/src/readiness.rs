//! What every worker's readiness depends on.

use std::sync::Arc;

use async_trait::async_trait;
use runtime::readiness::{Dependency, Readiness};
use stores::Store;

use crate::bus::Bus;

/// A worker is ready while its store answers. Without the broker it still answers every request, and
/// events wait in the outbox.
pub struct StoreAndBus<S: ?Sized> {
    pub store: Arc<S>,
    pub bus: Arc<dyn Bus>,
}

#[async_trait]
impl<S: Store + ?Sized> Readiness for StoreAndBus<S> {
    async fn dependencies(&self) -> Vec<Dependency> {
        let (store, bus) = tokio::join!(
            Dependency::ask(self.store.name(), true, self.store.ping()),
            Dependency::ask(self.bus.name(), false, self.bus.ping()),
        );
        vec![store, bus]
    }
}
