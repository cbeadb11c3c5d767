//! Headers that only the gateway may write: the identity headers of requests to workers; the request id
//! and the limits of responses to clients. Each is first removed, then set where it applies.

use contract::identity::{
    CLIENT_ADDRESS, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, GATEWAY_SIGNATURE,
    GATEWAY_TIME, REQUEST_ID, SESSION_ID, SigningKeys, TOKEN_EXPIRES, USER_ID,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use uuid::Uuid;

use crate::limits::headers as limits;
use crate::request::admission::Admitted;
use crate::request::canonical::in_identity_family;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Writes what the gateway asserts about a request, and signs it. Must run after the hop-by-hop headers
/// were removed: otherwise a client could name one of these headers in `Connection` to remove it.
pub fn assert_identity(
    up: &mut RequestHeader,
    admitted: &Admitted,
    request_id: &str,
    keys: &SigningKeys,
) -> Result<()> {
    let forwarded = |name: HeaderName| match admitted.from_trusted_proxy() {
        true => up.headers.get(name).cloned(),
        false => None,
    };
    let proto = forwarded(FORWARDED_PROTO).filter(|value| value == "http" || value == "https");
    let host = forwarded(FORWARDED_HOST).or_else(|| up.headers.get(header::HOST).cloned());
    for name in identity_headers(&up.headers) {
        up.remove_header(&name);
    }
    // RFC 7239's form of the same, which nobody has verified.
    up.remove_header(&header::FORWARDED);

    let client = admitted.client().to_string();
    up.insert_header(CLIENT_ADDRESS, client.as_str())?;
    up.insert_header(FORWARDED_FOR, client.as_str())?;
    up.insert_header(
        FORWARDED_PROTO,
        proto.unwrap_or(HeaderValue::from_static("http")),
    )?;
    if let Some(host) = host {
        up.insert_header(FORWARDED_HOST, host)?;
    }
    up.insert_header(REQUEST_ID, request_id)?;
    if !up.headers.get(TRACEPARENT).is_some_and(is_traceparent) {
        up.insert_header(TRACEPARENT, new_traceparent())?;
    }
    if let Some(identity) = admitted.identity() {
        up.insert_header(USER_ID, identity.user_id().clone())?;
        up.insert_header(TOKEN_EXPIRES, identity.expires().clone())?;
        if let Some(session) = identity.session_id() {
            up.insert_header(SESSION_ID, session.clone())?;
        }
        for (name, value) in identity.claims() {
            up.insert_header(name.clone(), value.clone())?;
        }
    }
    up.insert_header(GATEWAY_TIME, jiff::Timestamp::now().as_millisecond())?;
    let target = String::from_utf8_lossy(up.raw_path()).into_owned();
    let signature = keys.sign(up.method.as_str(), &target, &up.headers);
    up.insert_header(GATEWAY_SIGNATURE, signature)?;
    Ok(())
}

/// The names of all identity headers that are present, in every spelling.
fn identity_headers(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = headers.keys();
    names
        .filter(|name| in_identity_family(name.as_str()))
        .cloned()
        .collect()
}

/// Removes identity headers that a worker sent, and sets the request id and the limits.
pub fn set_response_headers(
    down: &mut ResponseHeader,
    admitted: &Admitted,
    request_id: &str,
) -> Result<()> {
    for name in identity_headers(&down.headers) {
        down.remove_header(&name);
    }
    down.insert_header(REQUEST_ID, request_id)?;
    down.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    let snapshots = admitted.limits();
    if let (Some(policy), Some(limit)) = (limits::policy(snapshots), limits::limit(snapshots)) {
        down.insert_header(limits::RATE_LIMIT_POLICY, policy)?;
        down.insert_header(limits::RATE_LIMIT, limit)?;
    }
    Ok(())
}

/// The id that a trusted proxy gave, if it has a plain form; otherwise a new one.
pub fn request_id(given: Option<&HeaderValue>) -> String {
    let plain = |text: &&str| {
        (8..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    given
        .and_then(|value| value.to_str().ok())
        .filter(plain)
        .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// `00-TRACE-PARENT-FLAGS` (W3C Trace Context), with neither id zero.
fn is_traceparent(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let [version, trace, parent, flags] = parts[..] else {
        return false;
    };
    version == "00"
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && trace.bytes().any(|b| b != b'0')
        && parent.bytes().any(|b| b != b'0')
}

fn new_traceparent() -> String {
    // The second half of another id is random; the first half is the time.
    let parent = Uuid::now_v7().as_u64_pair().1;
    format!("00-{}-{parent:016x}-01", Uuid::now_v7().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_request_id_is_taken_over() {
        let id = |text: &'static str| request_id(Some(&HeaderValue::from_static(text)));
        assert_eq!(id("0123456789abcdef"), "0123456789abcdef");
        for bad in ["short", "with space in it", "quote\"quote", ""] {
            assert_eq!(id(bad).len(), 32, "{bad}");
        }
    }

    #[test]
    fn a_made_traceparent_is_one() {
        let made = HeaderValue::try_from(new_traceparent()).unwrap();
        assert!(is_traceparent(&made));
        let zero = "00-00000000000000000000000000000000-0000000000000001-01";
        assert!(!is_traceparent(&HeaderValue::from_static(zero)));
    }
}
