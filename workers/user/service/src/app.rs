//! What all handlers share. `run` makes it; handlers only read it.

use std::sync::Arc;

use contract::problem::Problem;
use events::relay::RelayHandle;
use runtime::time::Clock;
use stores::idempotency::Digest;

use crate::domain::{EmailKey, User};
use crate::passwords::Passwords;
use crate::single_flight::SingleFlight;
use crate::store::UserStore;
use crate::tokens::Tokens;

/// The handlers' dependencies. There is no bus: handlers hint to the relay what they committed, and
/// only the relay publishes.
pub(crate) struct App {
    pub(crate) store: Arc<dyn UserStore>,
    pub(crate) relay: RelayHandle,
    pub(crate) passwords: Passwords,
    pub(crate) tokens: Tokens,
    pub(crate) registrations: Registrations,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Registrations in progress that have an `Idempotency-Key`, by e-mail address, key and body.
pub(crate) type Registrations =
    SingleFlight<(EmailKey, Digest, Digest), Result<(User, bool), Problem>>;
