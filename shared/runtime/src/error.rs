//! Errors of whatever origin, and how a log line shows them.

use std::error::Error;

/// The cause under an adapter's error, of whatever driver.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Writes an error with its causes, as a log line wants it.
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
