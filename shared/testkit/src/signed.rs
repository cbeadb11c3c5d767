//! Calls a worker as the gateway does: every request carries the signed identity headers.
//!
//! The request is signed when it is created. A test that adds an identity header afterwards forges the request.

use contract::id::{SessionId, UserId};
use contract::identity::{self, SigningKeys};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::client::{Client, Request};

/// The `GATEWAY_SIGNING_KEYS` of tests.
pub const GATEWAY_KEYS: &str =
    "test:7465737465737465737465737465737465737465737465737465737465737465";

/// [`GATEWAY_KEYS`], parsed.
pub fn gateway_keys() -> SigningKeys {
    SigningKeys::parse(GATEWAY_KEYS).expect("the test keys are well formed")
}

/// A client of one worker that signs with [`GATEWAY_KEYS`]: without a user, until [`Signed::as_user`].
#[derive(Clone)]
pub struct Signed {
    client: Client,
    keys: SigningKeys,
    identity: HeaderMap,
}

impl Signed {
    /// Makes a client of the worker at a URL such as `http://127.0.0.1:4001`.
    pub fn new(base: impl Into<String>) -> Self {
        Self {
            client: Client::new(base),
            keys: gateway_keys(),
            identity: HeaderMap::new(),
        }
    }

    /// The same client, calling for this user, in a session of its own, with a token of 10 minutes.
    #[must_use]
    pub fn as_user(&self, user_id: impl AsRef<str>) -> Self {
        let expires = jiff::Timestamp::now().as_second() + 600;
        self.with(&identity::USER_ID, user_id)
            .with(&identity::SESSION_ID, SessionId::new().as_str())
            .with(&identity::TOKEN_EXPIRES, expires.to_string())
    }

    /// A client that calls for a new user.
    #[must_use]
    pub fn as_somebody(&self) -> (UserId, Self) {
        let user_id = UserId::new();
        let client = self.as_user(user_id.as_str());
        (user_id, client)
    }

    /// Adds or replaces a signed identity header (`x-session-id`, `x-claim-plan`, …).
    #[must_use]
    pub fn with(&self, name: &HeaderName, value: impl AsRef<str>) -> Self {
        let value = HeaderValue::try_from(value.as_ref()).expect("a header value");
        let mut with = self.clone();
        with.identity.insert(name.clone(), value);
        with
    }

    /// The underlying client, which signs nothing.
    pub fn unsigned(&self) -> &Client {
        &self.client
    }

    pub fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub fn head(&self, path: &str) -> Request<'_> {
        self.request(Method::HEAD, path)
    }

    pub fn post(&self, path: &str) -> Request<'_> {
        self.request(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Request<'_> {
        self.request(Method::PUT, path)
    }

    pub fn patch(&self, path: &str) -> Request<'_> {
        self.request(Method::PATCH, path)
    }

    pub fn delete(&self, path: &str) -> Request<'_> {
        self.request(Method::DELETE, path)
    }

    pub fn options(&self, path: &str) -> Request<'_> {
        self.request(Method::OPTIONS, path)
    }

    pub fn request(&self, method: Method, path: &str) -> Request<'_> {
        let mut headers = self.identity.clone();
        let mut default = |name: HeaderName, value: String| {
            headers
                .entry(name)
                .or_insert(HeaderValue::try_from(value).expect("a header value"));
        };
        default(
            identity::GATEWAY_TIME,
            jiff::Timestamp::now().as_millisecond().to_string(),
        );
        default(identity::REQUEST_ID, super::unique("request"));
        default(identity::CLIENT_ADDRESS, "203.0.113.7".to_owned());
        default(identity::FORWARDED_FOR, "203.0.113.7".to_owned());
        default(identity::FORWARDED_PROTO, "http".to_owned());
        let signature = self.keys.sign(method.as_str(), path, &headers);
        headers.insert(identity::GATEWAY_SIGNATURE, signature);
        let request = self.client.request(method, path);
        headers.iter().fold(request, |request, (name, value)| {
            request.header(name.as_str(), value)
        })
    }
}
