//! What the handlers of all requests share.

use std::sync::Arc;

use events::relay::RelayHandle;
use runtime::time::Clock;

use crate::attachments::Attachments;
use crate::store::TaskStore;

/// What the handlers share. No bus: they hint what they committed, and only the relay publishes.
pub(crate) struct App {
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) attachments: Attachments,
    pub(crate) relay: RelayHandle,
    pub(crate) clock: Arc<dyn Clock>,
}
