//! What all handlers share.

use std::sync::Arc;

use events::relay::RelayHandle;
use runtime::time::Clock;

use crate::attachments::Attachments;
use crate::store::TaskStore;

/// What all handlers share. It holds no bus: handlers hint what they committed, and only the relay
/// publishes.
pub(crate) struct App {
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) attachments: Attachments,
    pub(crate) relay: RelayHandle,
    pub(crate) clock: Arc<dyn Clock>,
}
