//! Waiting for what another process does.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(10);

/// What a probe may answer: `bool`, `Option<T>` or `Result<T, E>`.
pub trait Outcome {
    type Value;

    /// The value, or why it is not there yet.
    fn settle(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn settle(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "still false".to_owned())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "still none".to_owned())
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks every 10 ms until the probe succeeds; panics at the deadline, with the caller's line and
/// the last reason.
///
/// For other processes only. In-process tests drain the one-step workers instead, and "exactly
/// once" cannot be shown this way: it passes before the duplicate lands.
#[track_caller]
pub fn eventually<O: Outcome>(
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> O,
) -> impl Future<Output = O::Value> {
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut reason = "the probe never answered".to_owned();
        loop {
            // A probe that hangs (a paused server) must not outlive the deadline either.
            match tokio::time::timeout_at(end, probe()).await.map(O::settle) {
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
