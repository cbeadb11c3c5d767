//! The present, injected: whoever needs it holds a [`Clock`].

use contract::time::whole_millis;
use jiff::Timestamp;

/// The one source of "now", so that tests can hold it still.
pub trait Clock: Send + Sync + 'static {
    /// The present, cut to whole milliseconds (what stores and answers keep).
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        whole_millis(Timestamp::now())
    }
}
