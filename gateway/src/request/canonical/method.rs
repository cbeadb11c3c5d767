//! Which methods are served.

use http::Method;

/// The methods that logs, metrics and `Allow` name. Other methods are forwarded, too.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Whether the method is served at all; CONNECT and TRACE are answered with 405.
pub fn method_is_served(method: &Method) -> bool {
    *method != Method::CONNECT && *method != Method::TRACE
}
