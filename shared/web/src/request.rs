//! The request as a handler gets it. The type of `who` proves what was checked before the handler ran.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use contract::identity::{CLIENT_ADDRESS, Caller, REQUEST_ID};
use contract::page::{self, PageRequest};
use contract::problem::{FieldError, Kind, Problem};
use futures_util::{Stream, stream};
use http::request::Parts;
use http::{HeaderName, Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use runtime::body::{BodyError, read_body};

use super::json::{self, Object};

/// The largest JSON body.
pub const MAX_JSON_BYTES: usize = 1 << 20;
/// How long a JSON body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// The sender of a request that the gateway signed without a user: a public path.
#[derive(Debug, Clone)]
pub struct Public;

/// The sender of an unsigned request: health, metrics and public keys only.
#[derive(Debug, Clone)]
pub struct Anybody;

/// A request whose sender is `W`: [`Caller`], [`Public`] or [`Anybody`].
pub struct Request<W> {
    pub who: W,
    pub(super) head: Parts,
    pub(super) body: Incoming,
    pub(super) params: Vec<(String, String)>,
}

impl<W> Request<W> {
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// A segment of the path by its name in the route; empty if the route has no such name.
    pub fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A header's value, if the header occurs once and is visible ASCII.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        single(&self.head, name)
    }

    /// The id that gateway, worker and log share.
    pub fn request_id(&self) -> &str {
        self.header(&REQUEST_ID).unwrap_or("")
    }

    /// The W3C trace context, to be passed on with events.
    pub fn traceparent(&self) -> Option<&str> {
        self.header(&HeaderName::from_static("traceparent"))
    }

    /// The client's address, as the gateway determined it.
    pub fn client_address(&self) -> &str {
        self.header(&CLIENT_ADDRESS).unwrap_or("")
    }

    pub fn query(&self) -> Query {
        Query::parse(self.head.uri.query().unwrap_or(""))
    }

    /// The versions that the client is willing to change.
    pub fn if_match(&self) -> IfMatch {
        let values = self.head.headers.get_all(header::IF_MATCH);
        IfMatch::parse(values.iter().map(|value| value.to_str().unwrap_or("")))
    }

    /// Reads the body as one JSON object; 415, 413, 408, 400 or 422 if it is not one.
    pub async fn object(self) -> Result<(W, Object), Problem> {
        self.require_json()?;
        let body = read(self.body, MAX_JSON_BYTES).await?;
        Ok((self.who, Object::new(json::parse(&body)?)?))
    }

    /// The sender of a request without members: its body must be empty, or an empty object.
    pub async fn without_members(self) -> Result<W, Problem> {
        let is_json = self.require_json();
        let body = read(self.body, MAX_JSON_BYTES).await?;
        if !body.is_empty() {
            is_json?;
            Object::new(json::parse(&body)?)?.finish(|| Some(()))?;
        }
        Ok(self.who)
    }

    pub(super) fn require_json(&self) -> Result<(), Problem> {
        match is_json(&self.head) {
            true => Ok(()),
            false => Err(Problem::new(
                Kind::UnsupportedMediaType,
                "Send the body as JSON with `Content-Type: application/json`.",
            )),
        }
    }

    /// The body's `type/subtype` in lower case; empty if the client names none.
    pub fn media_type(&self) -> String {
        media_type(self.header(&header::CONTENT_TYPE).unwrap_or("")).0
    }

    /// The body as it arrives; 408 if nothing arrives for 30 s.
    pub fn into_chunks(self) -> (W, impl Stream<Item = Result<Bytes, Problem>> + Send) {
        let chunks = stream::try_unfold(self.body, async |mut body: Incoming| {
            loop {
                let frame = match tokio::time::timeout(BODY_DEADLINE, body.frame()).await {
                    Err(_) => return Err(late()),
                    Ok(None) => return Ok(None),
                    Ok(Some(Err(_))) => return Err(broken()),
                    Ok(Some(Ok(frame))) => frame,
                };
                if let Ok(data) = frame.into_data() {
                    return Ok(Some((data, body)));
                }
            }
        });
        (self.who, chunks)
    }

    /// The whole body, at most `max` bytes.
    pub async fn bytes(self, max: usize) -> Result<Bytes, Problem> {
        read(self.body, max).await
    }
}

impl Request<Caller> {
    /// The calling user.
    pub fn user_id(&self) -> &contract::id::UserId {
        &self.who.user_id
    }
}

pub(super) async fn read(body: Incoming, max: usize) -> Result<Bytes, Problem> {
    read_body(body, max, BODY_DEADLINE)
        .await
        .map_err(|error| match error {
            BodyError::TooLarge(max) => Problem::new(
                Kind::PayloadTooLarge,
                format!("The body is larger than {max} bytes."),
            ),
            BodyError::TimedOut => late(),
            BodyError::Broken(_) => broken(),
        })
}

fn late() -> Problem {
    Problem::new(Kind::RequestTimeout, "The body did not arrive in time.")
}

fn broken() -> Problem {
    Problem::new(Kind::MalformedRequest, "The body broke off.")
}

pub(super) fn single<'a>(head: &'a Parts, name: &HeaderName) -> Option<&'a str> {
    let mut values = head.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// `type/subtype` in lower case, and its parameters.
fn media_type(value: &str) -> (String, &str) {
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    (essence.trim().to_ascii_lowercase(), parameters)
}

/// `application/json` or any `+json`, in UTF-8.
fn is_json(head: &Parts) -> bool {
    let Some(value) = single(head, &header::CONTENT_TYPE) else {
        return false;
    };
    let (essence, parameters) = media_type(value);
    let utf8 =
        parameters
            .split(';')
            .map(str::trim)
            .all(|parameter| match parameter.split_once('=') {
                Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
                    value.trim_matches('"').eq_ignore_ascii_case("utf-8")
                }
                _ => true,
            });
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    json && utf8
}

/// The condition of `If-Match` (RFC 9110 §13.1.1): met if the header is absent or names the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let tags = values.flat_map(|value| value.split(','));
        let tags: Vec<_> = tags.map(|tag| tag.trim().to_owned()).collect();
        Self((!tags.is_empty()).then_some(tags))
    }

    /// 412 if the object has another version.
    pub fn check(&self, version: u64) -> Result<(), Problem> {
        match self.accepts(version) {
            true => Ok(()),
            false => Err(Self::stale(version)),
        }
    }

    /// Whether an object of this version may be changed. Weak tags never match.
    pub fn accepts(&self, version: u64) -> bool {
        let wanted = format!("\"{version}\"");
        let met = |tag: &String| tag == "*" || *tag == wanted;
        self.0.as_ref().is_none_or(|tags| tags.iter().any(met))
    }

    /// 412: the object has this version now.
    pub fn stale(version: u64) -> Problem {
        Problem::new(
            Kind::PreconditionFailed,
            format!("It has changed since: its ETag is \"{version}\" now. Read it again."),
        )
    }
}

/// A query string that is read parameter by parameter. It collects all errors.
pub struct Query {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Self {
            pairs: pairs.into_owned().collect(),
            errors: Vec::new(),
        }
    }

    /// A parameter that may be left out.
    pub fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (found, rest) = std::mem::take(&mut self.pairs)
            .into_iter()
            .partition(|(known, _)| known == name);
        self.pairs = rest;
        match <Vec<(String, String)>>::as_slice(&found) {
            [] => None,
            [(_, value)] => read(value).map_err(|why| self.refuse(name, why)).ok(),
            _ => {
                self.refuse(name, "must be there once");
                None
            }
        }
    }

    /// `limit` and `cursor`, which every list accepts.
    pub fn page<K: serde::de::DeserializeOwned>(&mut self) -> PageRequest<K> {
        let limit = self.optional("limit", |text| {
            let limit = usize::from_str(text).ok();
            limit
                .filter(|n| (1..=page::MAX_LIMIT).contains(n))
                .ok_or_else(|| format!("must be a number from 1 to {}", page::MAX_LIMIT))
        });
        PageRequest {
            limit: limit.unwrap_or(page::DEFAULT_LIMIT),
            after: self.optional("cursor", page::decode),
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.optional(name, |text| {
            bool::from_str(text).map_err(|_| "must be true or false".to_owned())
        })
    }

    /// Ends the reading: 422 with every error, unknown parameters included.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            self.refuse(&name, "is not a known parameter");
        }
        match self.errors.is_empty() {
            true => Ok(()),
            false => Err(Problem::validation(self.errors)),
        }
    }

    /// Records an error of a parameter, or of several parameters together.
    pub fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        if self.errors.len() >= json::MAX_ERRORS {
            return;
        }
        self.errors.push(FieldError {
            pointer: format!("?{}", name.chars().take(json::MAX_NAME).collect::<String>()),
            detail: detail.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_reports_bad_repeated_and_unknown_parameters_at_once() {
        let mut query = Query::parse("limit=0&unread=maybe&x=1&type=a&type=b");
        let page = query.page::<String>();
        query.flag("unread");
        query.optional("type", |text| Ok(text.to_owned()));
        assert_eq!(page.limit, page::DEFAULT_LIMIT);
        let problem = query.finish().unwrap_err();
        let names: Vec<_> = problem
            .errors()
            .iter()
            .map(|e| e.pointer.as_str())
            .collect();
        assert_eq!(names, ["?limit", "?unread", "?type", "?x"]);
    }

    #[test]
    fn if_match_is_met_by_the_version_it_names_only() {
        let met = |values: &[&str]| IfMatch::parse(values.iter().copied()).check(3).is_ok();
        assert!(met(&[]) && met(&["*"]) && met(&["\"3\""]) && met(&["\"2\", \"3\""]));
        assert!(met(&["\"2\"", "\"3\""]));
        assert!(!met(&["\"2\""]) && !met(&["W/\"3\""]) && !met(&["3"]) && !met(&[""]));
    }

    #[test]
    fn json_is_recognised_by_its_media_type_in_utf_8() {
        let is = |value: &str| {
            let request = http::Request::builder().header("content-type", value);
            is_json(&request.body(()).unwrap().into_parts().0)
        };
        assert!(is("application/json"));
        assert!(is("Application/JSON; charset=\"UTF-8\""));
        assert!(is("application/merge-patch+json"));
        assert!(!is("text/json"));
        assert!(!is("application/json; charset=latin1"));
    }
}
