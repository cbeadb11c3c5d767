use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::request::canonical;

const FILE: &str = "\
listen: {http: 127.0.0.1:8001}
signing_keys: a:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
auth: {issuers: [{issuer: i, audience: a, jwks_url: http://127.0.0.1:4001/}]}
redis: {url: redis://127.0.0.1}
limits:
  policies:
    user: {key: user, rate: 100/s}
    address: {key: address, rate: 50/s}
    login: {key: address, rate: 30/min}
    all: {key: global, rate: 9/s}
services:
  web:
    prefix: /
    upstreams: [127.0.0.1:4000]
  users:
    prefix: /api/users
    upstreams: [127.0.0.1:4001]
    public: [POST /login, \"GET /{id}/picture\", GET /files/a, \"GET /files/{*rest}\"]
    limits: {authenticated: [user, all], anonymous: [address]}
    rules:
      - {match: POST /login, limits: [login, address]}
      - {match: \"GET /{*rest}\", limits: [user, all], max_body: 1KiB}
      - {match: \"GET /{id}/picture\", timeouts: {idle: 1s}}
  tasks:
    prefix: /api/tasks
    upstreams: [127.0.0.1:4002]
    timeouts: {first_byte: 7s}
    rules:
      - {match: \"POST /\", max_body: 2GiB}
      - {match: \"HEAD /a\", max_body: 3KiB}
      - {match: \"GET /a\", max_body: 4KiB}
  deep:
    prefix: /api/tasks/deep
    upstreams: [127.0.0.1:4003]
";

fn table(text: &str) -> Table {
    let config = Config::parse(Path::new("t.yaml"), text, &|_| None);
    Table::build(&config.unwrap_or_else(|errors| panic!("{errors}")))
}

/// The table without the catch-all service.
fn closed() -> Table {
    let text = FILE.replace(
        "  web:\n    prefix: /\n    upstreams: [127.0.0.1:4000]\n",
        "",
    );
    table(&format!(
        "{text}public: {{/keys.json: {{service: tasks}}}}\n"
    ))
}

fn find<'t>(table: &'t Table, request: &str) -> Result<&'t Arc<Route>, NotRouted> {
    let (method, target) = request.split_once(' ').unwrap();
    table.find(&method.parse().unwrap(), &canonical::path(target).unwrap())
}

fn service(table: &Table, request: &str) -> Option<String> {
    find(table, request)
        .ok()
        .map(|route| route.service.name.clone())
}

fn names(policies: &[Arc<Policy>]) -> Vec<&str> {
    policies.iter().map(|policy| policy.name.as_str()).collect()
}

#[test]
fn the_longest_prefix_decides_by_whole_segments() {
    let open = table(FILE);
    let cases = [
        ("/api/tasks", "tasks"),
        ("/api/tasks/", "tasks"),
        ("/api/tasks?q=/api/users", "tasks"),
        ("/api/tasks/x/y", "tasks"),
        ("/api/tasks/deeper", "tasks"),
        ("/api/tasks/deep", "deep"),
        ("/api/tasks/deep/x", "deep"),
        ("/api/tasksx", "web"),
        ("/api/TASKS", "web"),
        ("/", "web"),
    ];
    for (target, name) in cases {
        assert_eq!(
            service(&open, &format!("GET {target}")).as_deref(),
            Some(name),
            "{target}"
        );
    }
    let closed = closed();
    for target in ["/", "/api", "/api/tasksx", "/keys.json/"] {
        let found = find(&closed, &format!("GET {target}"));
        assert_eq!(found.err(), Some(NotRouted::NoService), "{target}");
    }
}

#[test]
fn a_route_knows_the_place_of_its_service() {
    let table = closed();
    let indexes = ["/api/users", "/api/tasks", "/api/tasks/deep", "/keys.json"].map(|target| {
        find(&table, &format!("GET {target}"))
            .unwrap()
            .service_index
    });
    assert_eq!(indexes, [0, 1, 2, 1]);
}

#[test]
fn exact_public_paths_answer_reads_only() {
    let table = closed();
    let route = find(&table, "GET /keys.json?x").unwrap();
    assert_eq!(
        (route.service.name.as_str(), route.access),
        ("tasks", Access::Public)
    );
    assert!(find(&table, "HEAD /keys.json").is_ok());
    assert_eq!(
        find(&table, "POST /keys.json").err(),
        Some(NotRouted::MethodNotAllowed)
    );
}

#[test]
fn only_public_matches_are_public() {
    let table = table(FILE);
    let public = [
        "POST /api/users/login",
        "GET /api/users/7/picture",
        "HEAD /api/users/7/picture",
        "GET /api/users/files/a",
        "GET /api/users/files/b/c",
    ];
    for request in public {
        assert_eq!(
            find(&table, request).unwrap().access,
            Access::Public,
            "{request}"
        );
    }
    let protected = [
        "GET /api/users/login",
        "HEAD /api/users/login",
        "POST /api/users/login/",
        "POST /api/users/login/x",
        "POST /api/users/Login",
        "POST /api/users",
        "POST /login",
        "GET /api/users/7/8/picture",
        "GET /api/users/files/",
        "OPTIONS /api/users/login",
    ];
    for request in protected {
        assert_eq!(
            find(&table, request).unwrap().access,
            Access::Protected,
            "{request}"
        );
    }
}

#[test]
fn the_two_spellings_of_a_root_are_one_resource() {
    let table = table(FILE);
    for target in ["/api/tasks", "/api/tasks/"] {
        assert_eq!(
            find(&table, &format!("POST {target}")).unwrap().max_body,
            2 << 30
        );
        assert_eq!(
            find(&table, &format!("GET {target}")).unwrap().max_body,
            1 << 20
        );
    }
}

#[test]
fn the_most_specific_rule_adds_its_limits_and_replaces_the_rest() {
    let table = table(FILE);
    let login = find(&table, "POST /api/users/login").unwrap();
    assert_eq!(names(&login.limits.anonymous), ["address", "login"]);
    assert_eq!(
        names(&login.limits.authenticated),
        ["user", "all", "login", "address"]
    );

    let wide = find(&table, "GET /api/users/7").unwrap();
    assert_eq!(names(&wide.limits.authenticated), ["user", "all"]);
    assert_eq!(wide.max_body, 1024);

    let picture = find(&table, "GET /api/users/7/picture").unwrap();
    assert_eq!(
        (picture.timeouts.idle, picture.max_body),
        (Duration::from_secs(1), 1 << 20)
    );
    assert_eq!(picture.timeouts.first_byte, Duration::from_secs(30));

    let tasks = find(&table, "GET /api/tasks/x").unwrap();
    assert_eq!(tasks.timeouts.first_byte, Duration::from_secs(7));
}

#[test]
fn a_policy_by_user_never_applies_to_an_anonymous_caller() {
    let table = table(FILE);
    let file = find(&table, "GET /api/users/files/x").unwrap();
    assert_eq!(file.access, Access::Public);
    assert_eq!(names(&file.limits.anonymous), ["address", "all"]);
}

#[test]
fn head_follows_get_unless_it_has_its_own_rule() {
    let table = table(FILE);
    assert_eq!(find(&table, "HEAD /api/tasks/a").unwrap().max_body, 3 << 10);
    assert_eq!(find(&table, "GET /api/tasks/a").unwrap().max_body, 4 << 10);
    assert_eq!(find(&table, "HEAD /api/users/7").unwrap().max_body, 1 << 10);
}

#[test]
fn a_lookup_gives_the_same_route_every_time() {
    let table = table(FILE);
    let first = find(&table, "GET /api/users/7").unwrap();
    assert!(Arc::ptr_eq(
        first,
        find(&table, "GET /api/users/8").unwrap()
    ));
}

/// The public rules of `users` in [`FILE`], read by hand.
const PUBLIC: [(&str, &[&str]); 4] = [
    ("POST", &["login"]),
    ("GET", &["{id}", "picture"]),
    ("GET", &["files", "a"]),
    ("GET", &["files", "{*rest}"]),
];

/// Whether a public rule matches a path as a worker sees it, with each segment decoded.
fn is_named(method: &str, segments: &[Vec<u8>]) -> bool {
    PUBLIC.iter().any(|(public, pattern)| {
        let method = *public == method || (*public == "GET" && method == "HEAD");
        let rest = pattern.last() == Some(&"{*rest}");
        let length = match rest {
            true => segments.len() >= pattern.len(),
            false => segments.len() == pattern.len(),
        };
        method
            && length
            && pattern
                .iter()
                .zip(segments)
                .all(|(wanted, segment)| match *wanted {
                    "{id}" | "{*rest}" => !segment.is_empty(),
                    text => segment == text.as_bytes(),
                })
    })
}

fn decode(segment: &str) -> Vec<u8> {
    let mut pieces = segment.split('%');
    let mut decoded = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        decoded.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        decoded.extend(piece[2..].bytes());
    }
    decoded
}

/// Paths that resemble the public ones, in spellings that might be mistaken for them.
fn nearly_public() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        4 => prop::sample::select(vec!["login", "files", "a", "picture", "7", ""]).prop_map(str::to_owned),
        2 => prop::sample::select(vec![
            "LOGIN", "login;x", "%6Cogin", "login%2f", "login%00", "a%20", "..", ".", "%2e%2e",
            "files%2Fa", "login\\", "{id}", "%7Bid%7D", "%", "log%69n", "a?", "?", "login?q=/a#",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{0,4}",
    ];
    let prefix = prop::sample::select(vec![
        "/api/users/",
        "/api/users",
        "/api//users/",
        "/api/tasks/../users/",
        "/api/tasks/",
        "/api/tasks/deep/",
        "/API/users/",
        "/",
    ]);
    let segments = prop::collection::vec(segment, 0..4).prop_map(|all| all.join("/"));
    (prefix, segments).prop_map(|(prefix, segments)| format!("{prefix}{segments}"))
}

proptest! {
    /// No protected path is treated as public, however a worker decodes it.
    #[test]
    fn public_is_what_a_public_rule_names_and_nothing_else(
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "get"]),
        target in nearly_public(),
    ) {
        let table = table(FILE);
        let Ok(path) = canonical::path(&target) else { return Ok(()) };
        let route = table.find(&method.parse().unwrap(), &path).unwrap();
        let below = path.path().strip_prefix("/api/users/");
        let named = below.is_some_and(|below| {
            let segments: Vec<_> = below.split('/').map(decode).collect();
            is_named(method, &segments)
        });
        prop_assert_eq!(route.access == Access::Public, named, "{}", target);
        prop_assert_eq!(named && route.service.name != "users", false);
    }
}
