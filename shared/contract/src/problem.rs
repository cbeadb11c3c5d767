//! RFC 9457 problem details: the one form of every error response.
//!
//! A [`Problem`] holds text for the client only. The internal cause is logged, once, where it is handled.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// The media type of every problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! kinds {
    ($($kind:ident $status:ident $slug:literal $title:literal;)*) => {
        /// The kinds of problems. Each has one status, one title, and a page under `/docs`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($kind,)* }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];

            pub fn status(self) -> StatusCode {
                match self { $(Kind::$kind => StatusCode::$status,)* }
            }

            /// The `type` member.
            pub fn uri(self) -> &'static str {
                match self { $(Kind::$kind => concat!("/problems/", $slug),)* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Kind::$kind => $title,)* }
            }
        }
    };
}

kinds! {
    MalformedRequest BAD_REQUEST "malformed-request" "Malformed request";
    Unauthenticated UNAUTHORIZED "unauthenticated" "Authentication required";
    Forbidden FORBIDDEN "forbidden" "Forbidden";
    NotFound NOT_FOUND "not-found" "Not found";
    MethodNotAllowed METHOD_NOT_ALLOWED "method-not-allowed" "Method not allowed";
    RequestTimeout REQUEST_TIMEOUT "request-timeout" "Request timeout";
    Conflict CONFLICT "conflict" "Conflict";
    PreconditionFailed PRECONDITION_FAILED "precondition-failed" "Precondition failed";
    PayloadTooLarge PAYLOAD_TOO_LARGE "payload-too-large" "Payload too large";
    UriTooLong URI_TOO_LONG "uri-too-long" "URI too long";
    RangeNotSatisfiable RANGE_NOT_SATISFIABLE "range-not-satisfiable" "Range not satisfiable";
    UnsupportedMediaType UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "Unsupported media type";
    ValidationFailed UNPROCESSABLE_ENTITY "validation-failed" "Validation failed";
    IdempotencyMismatch UNPROCESSABLE_ENTITY "idempotency-mismatch" "Idempotency key reused";
    RateLimited TOO_MANY_REQUESTS "rate-limited" "Too many requests";
    HeaderTooLarge REQUEST_HEADER_FIELDS_TOO_LARGE "header-too-large" "Request header too large";
    Internal INTERNAL_SERVER_ERROR "internal" "Internal error";
    UpstreamFailed BAD_GATEWAY "upstream-failed" "Upstream failed";
    ServiceUnavailable SERVICE_UNAVAILABLE "service-unavailable" "Service unavailable";
    UpstreamTimeout GATEWAY_TIMEOUT "upstream-timeout" "Upstream timeout";
}

/// One error in the input and its place: a JSON pointer (RFC 6901) into the body, or `?name` of the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    pub pointer: String,
    pub detail: String,
}

/// An error response that says what the client can do.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    // Boxed: most problems have no headers, and a `Result<_, Problem>` stays small.
    headers: Option<Box<HeaderMap>>,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            headers: None,
        }
    }

    /// 404, the same for an object that does not exist and for one that belongs to another user.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("There is no such {what}."))
    }

    /// 422 with every error in the input.
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => "One member of the request is not acceptable; see `errors`.".to_owned(),
            n => format!("{n} members of the request are not acceptable; see `errors`."),
        };
        Self {
            errors,
            ..Self::new(Kind::ValidationFailed, detail)
        }
    }

    /// 500 for a bug of the platform. The cause is logged, never sent.
    pub fn internal() -> Self {
        Self::new(
            Kind::Internal,
            "Something went wrong on our side. It was logged under this request's id.",
        )
    }

    /// 503 with `Retry-After` in whole seconds, rounded up.
    pub fn unavailable(detail: impl Into<String>, retry_after: Duration) -> Self {
        let seconds = retry_after.as_millis().div_ceil(1000).max(1);
        Self::new(Kind::ServiceUnavailable, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds as u64))
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().append(name, value);
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Headers that belong to this problem (`Retry-After`, `Allow`, `WWW-Authenticate`, …).
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().flat_map(|map| map.iter())
    }

    /// The body. `instance` is the request's path, `request_id` its id in the log.
    pub fn body(&self, instance: &str, request_id: &str) -> Bytes {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'a str,
            title: &'a str,
            status: u16,
            detail: &'a str,
            instance: &'a str,
            request_id: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [FieldError],
        }
        let body = Body {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: self.status().as_u16(),
            detail: &self.detail,
            instance,
            request_id,
            errors: &self.errors,
        };
        serde_json::to_vec(&body).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_every_member_of_rfc_9457_and_its_request_id() {
        let problem = Problem::validation(vec![FieldError {
            pointer: "/title".into(),
            detail: "must not be empty".into(),
        }]);
        let body: serde_json::Value =
            serde_json::from_slice(&problem.body("/api/tasks", "r1")).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "/problems/validation-failed",
                "title": "Validation failed",
                "status": 422,
                "detail": "One member of the request is not acceptable; see `errors`.",
                "instance": "/api/tasks",
                "request_id": "r1",
                "errors": [{"pointer": "/title", "detail": "must not be empty"}],
            })
        );
    }

    #[test]
    fn retry_after_rounds_up_so_that_waiting_is_enough() {
        let problem = Problem::unavailable("later", Duration::from_millis(1001));
        let (name, value) = problem.headers().next().unwrap();
        assert_eq!((name, value.as_bytes()), (&header::RETRY_AFTER, &b"2"[..]));
    }
}
