//! The current time, injected: code that needs it holds a [`Clock`].

use contract::time::whole_millis;
use jiff::Timestamp;

/// The only source of the current time, so that tests can control it.
pub trait Clock: Send + Sync + 'static {
    /// The current time in whole milliseconds, which is what stores and answers keep.
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
