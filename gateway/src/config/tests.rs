mod auth;
mod later;
mod limits;
mod listeners;
mod secrets;
mod services;
mod snapshots;
mod variables;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::*;

/// Every setting, except those that this version refuses.
const EXAMPLE: &str = include_str!("tests/example.yaml");

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The smallest valid file.
const SMALL: &str = "\
listen: {http: 127.0.0.1:8001}
signing_keys: ${GATEWAY_SIGNING_KEYS}
auth:
  issuers:
    - {issuer: sluice, audience: sluice-api, jwks_url: http://127.0.0.1:4001/jwks.json}
services:
  users:
    prefix: /api/users
    upstreams: [127.0.0.1:4001]
";

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let keys = format!("new:{KEY},old:{KEY}");
    let mut all = HashMap::from([
        ("GATEWAY_SIGNING_KEYS".to_owned(), keys),
        (
            "REDIS_URL".to_owned(),
            "redis://:hidden@localhost".to_owned(),
        ),
    ]);
    all.extend(
        variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    );
    Config::parse(Path::new("gateway.yaml"), text, &|name| {
        all.get(name).cloned()
    })
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    parse_with(text, &[])
}

/// The errors, one line each.
fn errors(text: &str) -> Vec<String> {
    let report = parse(text).expect_err("the file is wrong").to_string();
    report.lines().map(str::to_owned).collect()
}

/// The only error of [`SMALL`] with `more` at its end.
fn error_with(more: &str) -> String {
    let mut errors = errors(&format!("{SMALL}{more}"));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

/// The only error of [`SMALL`] with a piece replaced.
fn error_replacing(piece: &str, by: &str) -> String {
    assert!(SMALL.contains(piece));
    let mut errors = errors(&SMALL.replacen(piece, by, 1));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

#[test]
fn the_whole_example_is_read() {
    let config = parse(EXAMPLE).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.listen.http, "0.0.0.0:8001".parse().unwrap());
    assert_eq!(config.listen.request_head_timeout, Duration::from_secs(10));
    assert_eq!(config.trusted_proxies, ["127.0.0.1/32".parse().unwrap()]);
    assert_eq!(format!("{:?}", config.signing_keys), r#"["new", "old"]"#);
    let issuer = &config.auth.issuers[0];
    assert_eq!(issuer.algorithms, [Algorithm::EdDsa]);
    assert!(
        matches!(&issuer.keys, KeySource::JwksUrl(url) if url.path() == "/.well-known/jwks.json")
    );
    let revocation = config.revocation.as_ref().unwrap();
    assert_eq!(
        (revocation.service.as_str(), revocation.when_stale),
        ("users", WhenStale::Allow)
    );
    assert_eq!(
        config.redis.as_ref().unwrap().deadline,
        Duration::from_millis(20)
    );
    assert_eq!(config.limits.gateways.get(), 2);
    let login = &config.limits.policies["login"];
    assert_eq!(login.key, PolicyKey::Address { ipv6_prefix: 64 });
    assert_eq!(
        (login.rate.tokens, login.rate.per),
        (30, Duration::from_secs(60))
    );
    let [users, tasks, notifications] = &config.services[..] else {
        panic!("three services");
    };
    assert_eq!(users.prefix, "/api/users");
    assert_eq!(users.upstreams[1].to_string(), "127.0.0.1:4011");
    assert_eq!(users.public[1].to_string(), "POST /login");
    assert_eq!(users.limits.anonymous[0].name, "address");
    assert_eq!(users.rules[0].limits[0].name, "login");
    assert_eq!(tasks.rules[0].max_body, Some(21 << 30));
    assert_eq!(
        tasks.rules[0].timeouts.first_byte,
        Some(Duration::from_secs(3600))
    );
    assert_eq!(notifications.timeouts.connect, Duration::from_millis(500));
    assert_eq!(config.public[0].path, "/.well-known/jwks.json");
    assert_eq!(config.public[0].service.name, "users");
    assert_eq!(config.drain.grace, Duration::from_secs(25));
}

#[test]
fn a_small_file_gets_every_default() {
    let config = parse(SMALL).unwrap();
    assert_eq!(config.listen.admin, "127.0.0.1:9001".parse().unwrap());
    assert_eq!(config.listen.idle_timeout, Duration::from_secs(75));
    assert_eq!(config.auth.leeway, Duration::from_secs(5));
    assert_eq!(config.auth.issuers[0].algorithms, [Algorithm::EdDsa]);
    assert!(config.redis.is_none() && config.revocation.is_none());
    let service = &config.services[0];
    assert_eq!(service.balance, Balance::RoundRobin);
    assert_eq!(
        (service.max_body, service.max_in_flight, service.attempts),
        (1 << 20, 1024, 2)
    );
    assert_eq!(service.health.path, "/readyz");
    assert!(config.access_log.sample >= 1.0);
}

#[test]
fn many_errors_come_at_once_with_their_places_in_order() {
    let text = "\
listen:
  http: nowhere
  admim: 127.0.0.1:9001
signing_keys: new:xyz
auth:
  issuers: []
redis: {url: \"${REDIS_URL}\", deadline: 20}
limits:
  policies:
    user: {key: usr, rate: 100/day}
services:
  users:
    prefix: /api/users/
    upstreams: []
    limits: {anonymous: [adress, user]}
  tasks:
    upstreams: [\"127.0.0.1\"]
";
    assert_eq!(
        errors(text),
        [
            "gateway.yaml:2:9: listen.http: `nowhere` is not an address; write address:port, for example 0.0.0.0:8001",
            "gateway.yaml:3:3: listen.admim: unknown key; did you mean `admin`?",
            "gateway.yaml:4:15: signing_keys: entry 1 is not `kid:hex`",
            "gateway.yaml:6:12: auth.issuers: names no issuer; no token could ever be valid",
            "gateway.yaml:7:40: redis.deadline: `20` is not a duration; write for example 250ms, 10s, 5min or 1h",
            "gateway.yaml:10:17: limits.policies.user.key: `usr` must be one of user, address, global",
            "gateway.yaml:10:28: limits.policies.user.rate: `100/day` is not a rate; write for example 100/s, 30/min or 5/h",
            "gateway.yaml:13:13: services.users.prefix: must not end with a slash; write /api/users",
            "gateway.yaml:14:16: services.users.upstreams: is empty; name at least one host:port",
            "gateway.yaml:15:26: services.users.limits.anonymous[0]: no policy is called `adress`; declare it in `limits.policies`",
            "gateway.yaml:16:3: services.tasks.prefix: `prefix` is missing",
            "gateway.yaml:17:17: services.tasks.upstreams[0]: `127.0.0.1` is not host:port, for example 127.0.0.1:4001 or tasks:4001",
        ]
    );
}

#[test]
fn what_is_no_yaml_is_reported_where_it_breaks() {
    let [error] = &errors("listen: {http: [}")[..] else {
        panic!("one error");
    };
    assert!(error.starts_with("gateway.yaml:1:"), "{error}");
    assert!(error.contains("not YAML"), "{error}");
    assert_eq!(errors(""), ["gateway.yaml:1:1: the file is empty"]);
    assert_eq!(
        errors("---\na: 1\n---\nb: 2\n"),
        ["gateway.yaml:3:1: only one document is allowed"]
    );
    let deep = format!("listen: {}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(errors(&deep), ["gateway.yaml:1:41: nested too deeply"]);
}

#[test]
fn a_key_that_stands_twice_is_an_error() {
    assert_eq!(
        error_with("drain: {grace: 5s}\ndrain: {grace: 6s}\n"),
        "gateway.yaml:11:1: the key `drain` stands already in line 10"
    );
}

#[test]
fn anchors_aliases_and_tags_are_errors() {
    let message = "anchors (&), aliases (*) and tags (!) are not allowed; write the value out";
    assert_eq!(
        errors(&format!(
            "{SMALL}drain: &drain {{grace: 5s}}\naccess_log: *drain\n"
        )),
        [
            format!("gateway.yaml:10:8: {message}"),
            format!("gateway.yaml:11:13: {message}")
        ]
    );
}

#[test]
fn a_missing_file_is_one_error() {
    let report = Config::load(Path::new("/nowhere/gateway.yaml"), &|_| None).unwrap_err();
    let report = report.to_string();
    assert!(
        report.starts_with("/nowhere/gateway.yaml:1:1: the file cannot be read"),
        "{report}"
    );
}

#[test]
fn missing_sections_are_named() {
    assert_eq!(
        errors("{}"),
        [
            "gateway.yaml:1:1: listen: `listen` is missing",
            "gateway.yaml:1:1: signing_keys: `signing_keys` (or `signing_keys_file`) is missing",
            "gateway.yaml:1:1: auth: `auth` is missing",
            "gateway.yaml:1:1: services: `services` is missing",
        ]
    );
}

#[test]
fn a_value_of_the_wrong_kind_says_what_it_must_be() {
    let text = "gateway.yaml:10:8: drain: must be a section, {key: value}, not a list";
    assert_eq!(error_with("drain: [1]"), text);
    let text = "gateway.yaml:10:18: trusted_proxies: must be a list, [a, b], not a single value";
    assert_eq!(error_with("trusted_proxies: 10.0.0.0/8"), text);
    let text = "gateway.yaml:10:16: drain.grace: must be a single value, not a section";
    assert_eq!(error_with("drain: {grace: {s: 1}}"), text);
}

#[test]
fn the_file_that_is_shipped_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/gateway/gateway.yaml");
    let known = HashMap::from([
        ("GATEWAY_SIGNING_KEYS", format!("a:{KEY}")),
        ("REDIS_URL", "redis://127.0.0.1:16379".to_owned()),
    ]);
    if let Err(errors) = Config::load(&path, &|name| known.get(name).cloned()) {
        panic!("{errors}");
    }
}

#[test]
fn limits_of_one_gateway_may_stay_in_its_memory() {
    let local = "redis: {url: \"local:\"}\n";
    let limits = "limits: {gateways: 1, policies: {user: {key: user, rate: 5/s}}}\n";
    let config = parse(&format!("{SMALL}{local}{limits}")).unwrap();
    assert!(config.redis.is_none() && config.limits.policies.len() == 1);
    let error = error_with(&format!("{local}limits: {{gateways: 2}}\n"));
    assert!(
        error.starts_with("gateway.yaml:10:8: redis: `local:` is for one gateway"),
        "{error}"
    );
    let error = error_with("redis: {url: \"local\"}\n");
    assert!(error.contains("or be local:"), "{error}");
}
