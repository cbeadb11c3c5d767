use std::path::Path;

use contract::problem::Kind;
use http::HeaderValue;
use serde_json::json;

use super::*;
use crate::auth::HttpJwks;
use crate::limits::LocalLimiter;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: i64 = 1_800_000_000;
const STRANGER: &str = "203.0.113.7";
const PROXY: &str = "10.0.0.1";

fn admission() -> Admission {
    let config = format!(
        r#"
listen: {{http: 127.0.0.1:60001, admin: 127.0.0.1:60002}}
signing_keys: "k1:{key}"
trusted_proxies: [10.0.0.0/8]
auth:
  issuers:
    - {{issuer: sluice, audience: sluice-api, hs256_secret: "{SECRET}", algorithms: [HS256]}}
redis: {{url: "redis://127.0.0.1"}}
limits:
  gateways: 1
  policies:
    user: {{key: user, rate: 1/h, burst: 2}}
    two: {{key: user, rate: 1/h, burst: 50, max_in_flight: 2}}
    trial: {{key: user, rate: 1/h, burst: 1, max_in_flight: 1, shadow: true}}
    address: {{key: address, rate: 1/h, burst: 1, ipv6_prefix: 64}}
services:
  things:
    prefix: /api/things
    upstreams: [127.0.0.1:1]
    public: ["GET /open"]
    limits: {{authenticated: [user], anonymous: [address]}}
    max_body: 1KiB
    rules:
      - {{match: "GET /dear", cost: 2}}
  others:
    prefix: /api/others
    upstreams: [127.0.0.1:1]
    limits: {{authenticated: [two, trial]}}
"#,
        key = "11".repeat(32)
    );
    let config = Config::parse(Path::new("test.yaml"), &config, &|_| None).unwrap();
    let jwks = HttpJwks::new(runtime::client::Client::new());
    let verifier = Verifier::new(&config.auth, Arc::new(jwks)).unwrap();
    let limiter = Arc::new(LocalLimiter::default());
    Admission::new(&config, verifier, limiter, &Tallies::default()).unwrap()
}

fn token() -> HeaderValue {
    let claims = json!({
        "iss": "sluice", "aud": "sluice-api", "sub": "alice", "sid": "s1",
        "iat": NOW, "nbf": NOW, "exp": NOW + 600, "jti": "t1",
    });
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.typ = Some("at+jwt".to_owned());
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    HeaderValue::try_from(format!("Bearer {token}")).unwrap()
}

struct TestRequest<'a> {
    target: &'a str,
    headers: HeaderMap,
    peer: &'a str,
}

impl<'a> TestRequest<'a> {
    fn get(target: &'a str) -> Self {
        Self {
            target,
            headers: HeaderMap::new(),
            peer: STRANGER,
        }
    }

    fn with(mut self, name: &'static str, value: impl TryInto<HeaderValue>) -> Self {
        let value = value.try_into().ok().unwrap();
        self.headers.append(name, value);
        self
    }

    fn from(self, peer: &'a str) -> Self {
        Self { peer, ..self }
    }

    async fn of(self, admission: &Admission) -> Result<Admitted, Kind> {
        let head = RequestHead {
            method: &Method::GET,
            target: self.target,
            headers: &self.headers,
            peer: self.peer.parse().unwrap(),
        };
        let admitted = admission.admit(&head, NOW).await;
        admitted.map_err(|refusal| refusal.kind())
    }
}

#[tokio::test]
async fn a_verified_caller_is_admitted_as_its_subject() {
    let request = TestRequest::get("/api/things/1?x=1").with("authorization", token());
    let admitted = request.of(&admission()).await.ok().unwrap();
    assert_eq!(admitted.identity().unwrap().user_id_str(), "alice");
    assert_eq!(admitted.limits().len(), 1);
}

#[tokio::test]
async fn nothing_dear_is_done_for_what_is_refused_cheaply() {
    let admission = admission();
    let refused = |request: TestRequest<'static>| async { request.of(&admission).await.err() };
    let malformed = TestRequest::get("/api//things").with("authorization", token());
    assert_eq!(refused(malformed).await, Some(Kind::MalformedRequest));
    let unknown = TestRequest::get("/other").with("authorization", token());
    assert_eq!(refused(unknown).await, Some(Kind::NotFound));
    let large = TestRequest::get("/api/things/1").with("content-length", "1025");
    assert_eq!(refused(large).await, Some(Kind::PayloadTooLarge));
    let anonymous = TestRequest::get("/api/things/1");
    assert_eq!(refused(anonymous).await, Some(Kind::Unauthenticated));
    // None of them spent a token, so the whole burst is left.
    for _ in 0..2 {
        let good = TestRequest::get("/api/things/1").with("authorization", token());
        assert!(good.of(&admission).await.is_ok());
    }
    let third = TestRequest::get("/api/things/1").with("authorization", token());
    assert_eq!(refused(third).await, Some(Kind::RateLimited));
}

#[tokio::test]
async fn a_request_takes_what_its_route_costs() {
    let admission = admission();
    let get = |target| TestRequest::get(target).with("authorization", token());
    let costly = get("/api/things/dear").of(&admission).await.ok().unwrap();
    assert_eq!(costly.limits()[0].remaining, 0);
    let refused = get("/api/things/1").of(&admission).await.err();
    assert_eq!(refused, Some(Kind::RateLimited));
}

#[tokio::test]
async fn so_many_requests_of_one_user_run_at_one_time_and_a_shadow_refuses_none() {
    let admission = admission();
    let get = || TestRequest::get("/api/others/1").with("authorization", token());
    let first = get().of(&admission).await.ok().unwrap();
    let second = get().of(&admission).await.ok().unwrap();
    assert_eq!(first.limits().len(), 1, "a shadow policy is not reported");
    let third = get().of(&admission).await.err();
    assert_eq!(third, Some(Kind::RateLimited));
    drop(first);
    assert!(get().of(&admission).await.is_ok());
    drop(second);
}

#[tokio::test]
async fn a_public_path_has_no_identity_even_with_a_token() {
    let request = TestRequest::get("/api/things/open").with("authorization", token());
    let admitted = request.of(&admission()).await.ok().unwrap();
    assert!(admitted.identity().is_none());
}

#[test]
fn only_trusted_proxies_say_who_the_client_is() {
    let admission = admission();
    let client = |peer, chain: &'static str| {
        let head = TestRequest::get("/api/things/open")
            .with("x-forwarded-for", chain)
            .from(peer);
        admission.client(
            &RequestHead {
                method: &Method::GET,
                target: head.target,
                headers: &head.headers,
                peer: head.peer.parse().unwrap(),
            },
            admission.is_trusted(head.peer.parse().unwrap()),
        )
    };
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    assert_eq!(client(STRANGER, "198.51.100.1"), ip(STRANGER));
    assert_eq!(client(PROXY, "198.51.100.1"), ip("198.51.100.1"));
    // What a client wrote itself is left of what the proxies added.
    assert_eq!(
        client(PROXY, "1.1.1.1, 198.51.100.1, 10.9.9.9"),
        ip("198.51.100.1")
    );
    assert_eq!(client(PROXY, "1.1.1.1, nonsense"), ip(PROXY));
    assert_eq!(client(PROXY, "10.2.2.2, 10.3.3.3"), ip("10.2.2.2"));
}

#[tokio::test]
async fn ipv6_addresses_share_the_bucket_of_their_network() {
    let admission = admission();
    let from = |peer| TestRequest::get("/api/things/open").from(peer);
    assert!(from("2001:db8::1").of(&admission).await.is_ok());
    assert_eq!(
        from("2001:db8::2").of(&admission).await.err(),
        Some(Kind::RateLimited)
    );
    assert!(from("2001:db8:0:1::1").of(&admission).await.is_ok());
}
