//! Waits until a probe of another process succeeds.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(10);

/// The result of a probe: `bool`, `Option<T>` or `Result<T, E>`.
pub trait ProbeResult {
    type Value;

    /// The value, or why there is none yet.
    fn into_result(self) -> Result<Self::Value, String>;
}

impl ProbeResult for bool {
    type Value = ();

    fn into_result(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "still false".to_owned())
    }
}

impl<T> ProbeResult for Option<T> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        self.ok_or_else(|| "still none".to_owned())
    }
}

impl<T, E: Display> ProbeResult for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Calls the probe every 10 ms until it succeeds. Panics at the deadline, with the caller's line and the last
/// reason.
///
/// For other processes only. In-process tests drain the one-step workers instead, and "exactly once" cannot be
/// shown this way, because the probe succeeds before the duplicate arrives.
#[track_caller]
pub fn eventually<O: ProbeResult>(
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> O,
) -> impl Future<Output = O::Value> {
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut reason = "the probe never answered".to_owned();
        loop {
            // A probe that hangs (on a paused server) must end at the deadline too.
            match tokio::time::timeout_at(end, probe())
                .await
                .map(O::into_result)
            {
                Ok(Ok(value)) => return value,
                Ok(Err(now)) => reason = now,
                Err(_) => panic!("not within {deadline:?} at {caller}: {reason}"),
            }
            if Instant::now() + POLL >= end {
                panic!("not within {deadline:?} at {caller}: {reason}");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
