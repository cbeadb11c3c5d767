//! What a failed call means to its caller.

use std::time::Duration;

use events::bus::BusError;
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

pub(super) fn late(what: &str, deadline: Duration) -> BusError {
    BusError::Unavailable(format!("no answer to {what} within {deadline:?}").into())
}

/// `Refused` if an operator has to repair something, `Unavailable` if it may pass by itself.
pub(super) fn bus_error(error: lapin::Error) -> BusError {
    use AMQPErrorKind::{Hard, Soft};
    if let ErrorKind::ProtocolError(refusal) = error.kind()
        && let Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED)
        | Hard(AMQPHardError::NOTALLOWED) = refusal.kind()
    {
        return BusError::Refused(refusal.get_message().to_string());
    }
    BusError::Unavailable(error.into())
}
