//! What the handlers of all requests share.

use std::sync::Arc;

use contract::problem::Problem;
use events::relay::RelayHandle;
use runtime::time::Clock;
use stores::idempotency::Digest;

use crate::domain::{EmailKey, User};
use crate::flights::Flights;
use crate::passwords::Passwords;
use crate::store::UserStore;
use crate::tokens::Tokens;

/// What the handlers share. No bus: they hint what they committed, and only the relay publishes.
pub(crate) struct App {
    pub(crate) store: Arc<dyn UserStore>,
    pub(crate) relay: RelayHandle,
    pub(crate) passwords: Passwords,
    pub(crate) tokens: Tokens,
    pub(crate) registrations: Registrations,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Registrations with an `Idempotency-Key`, by address, key and body.
pub(crate) type Registrations = Flights<(EmailKey, Digest, Digest), Result<(User, bool), Problem>>;
