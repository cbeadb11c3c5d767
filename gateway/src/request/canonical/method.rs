//! Which methods are served.

use http::Method;

/// The methods that have a name in logs, metrics and `Allow`; any other token is passed on, too.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Whether the method is served at all; CONNECT and TRACE are answered with 405.
pub fn method_is_served(method: &Method) -> bool {
    *method != Method::CONNECT && *method != Method::TRACE
}
