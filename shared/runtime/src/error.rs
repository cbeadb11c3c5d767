//! Errors of any origin, and how a log line shows them.

use std::error::Error;

/// The cause of an adapter's error, of any driver.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Writes an error with all its causes, for a log line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
