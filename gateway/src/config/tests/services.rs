use super::*;

const OTHER: &str = "  other:\n    upstreams: [127.0.0.1:4009]\n    prefix: ";

#[test]
fn prefixes_are_canonical_and_belong_to_one_service() {
    let error = error_with(&format!("{OTHER}/api/users\n"));
    assert_eq!(
        error,
        "gateway.yaml:12:13: services.other.prefix: is the prefix of the service `users` already"
    );
    for prefix in [
        "api", "/a//b", "/a/../b", "/a%20b", "/a;b", "/a?b", "/a b", "/é",
    ] {
        let error = error_replacing("prefix: /api/users", &format!("prefix: {prefix:?}"));
        assert!(
            error.starts_with("gateway.yaml:8:13: services.users.prefix: "),
            "{error}"
        );
    }
    let whole = SMALL.replace("prefix: /api/users", "prefix: /");
    assert_eq!(parse(&whole).unwrap().services[0].prefix, "");
}

#[test]
fn a_service_may_lie_inside_another_but_takes_its_paths() {
    parse(&format!("{SMALL}{OTHER}/api\n")).unwrap_or_else(|errors| panic!("{errors}"));
    let rules = "    rules:\n      - {match: \"GET /users/{id}\", max_body: 1KiB}\n      - {match: \"GET /usersx\", max_body: 1KiB}\n";
    assert_eq!(
        error_with(&format!("{OTHER}/api\n{rules}")),
        "gateway.yaml:14:17: services.other.rules[0].match: can never match: everything below /api/users belongs to the service `users`"
    );
}

#[test]
fn upstreams_are_hosts_with_ports_each_once() {
    let good = SMALL.replace(
        "[127.0.0.1:4001]",
        "[\"[::1]:4001\", Users_1.Internal:80, 127.0.0.1:4001]",
    );
    let upstreams = parse(&good).unwrap().services[0].upstreams.clone();
    assert_eq!(upstreams[0].to_string(), "[::1]:4001");
    assert_eq!(upstreams[1].to_string(), "users_1.internal:80");
    for bad in [
        "127.0.0.1",
        "127.0.0.300:80",
        "a:0",
        "a:70000",
        "http://a:80",
        ":80",
        "a b:80",
        "-a:80",
        "::1",
    ] {
        let error = error_replacing("[127.0.0.1:4001]", &format!("[\"{bad}\"]"));
        assert!(
            error.starts_with("gateway.yaml:9:17: services.users.upstreams[0]: "),
            "{error}"
        );
    }
    let error = error_replacing("[127.0.0.1:4001]", "[a:1, A:1]");
    assert!(
        error.contains("upstreams[1]: `a:1` stands there already"),
        "{error}"
    );
}

#[test]
fn matches_are_checked() {
    let cases = [
        ("GET", "is not a match; write METHOD /path"),
        ("get /a", "`get` is not a method"),
        ("TRACE /a", "TRACE is never served"),
        ("GET a", "must start with a slash"),
        ("GET /a//b", "empty segment"),
        ("GET /a?b", "may hold only letters"),
        ("GET /{a}{b}", "must be {name} or {*rest}"),
        ("GET /{a}b", "is not a path"),
        ("GET /{}", "must be {name} or {*rest}"),
        ("GET /{*rest}/a", "must be the last segment"),
        ("GET /{a}/{a}", "stands there twice"),
    ];
    for (text, message) in cases {
        let error = error_with(&format!("    public: [\"{text}\"]\n"));
        assert!(
            error.starts_with("gateway.yaml:10:14: services.users.public[0]: "),
            "{error}"
        );
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn two_matches_for_the_same_requests_are_an_error() {
    assert_eq!(
        error_with("    public: [\"GET /{id}\", \"POST /{id}\", \"GET /{name}\"]\n"),
        "gateway.yaml:10:41: services.users.public[2]: `GET /{name}` accepts the same requests as a match before it"
    );
}

#[test]
fn rules_say_what_they_match_and_what_they_change() {
    let cases = [
        (
            "{max_body: 1KiB}",
            "services.users.rules[0]: `match` is missing",
        ),
        (
            "{match: GET /a}",
            "services.users.rules[0]: changes nothing; give limits, cost, timeouts or max_body",
        ),
        (
            "{match: GET /a, cost: 0}",
            "`0` must be a whole number, 1 to 1000000",
        ),
        ("{match: GET /a, max_body: 1KB}", "`1KB` is not a size"),
        (
            "{match: GET /a, max_bodi: 1KiB, timeouts: {idle: 1s}}",
            "max_bodi: unknown key; did you mean `max_body`?",
        ),
        (
            "{match: GET /a, timeouts: {idle: 0s}}",
            "must be longer than zero",
        ),
        (
            "{match: GET /a, timeouts: {idle: 999h}}",
            "the most is 168h",
        ),
    ];
    for (rule, message) in cases {
        let error = error_with(&format!("    rules: [{rule}]\n"));
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn every_other_setting_is_checked() {
    let cases = [
        (
            "balance: random",
            "`random` must be one of round_robin, least_in_flight, {hash: user}, {hash: address}",
        ),
        (
            "balance: {hash: session}",
            "`session` must be one of user, address",
        ),
        ("max_in_flight: 0", "must be a whole number"),
        ("max_body: 99999999999GiB", "is not a size"),
        ("retry: {attempts: 0}", "must be a whole number, 1 to 16"),
        ("health: {path: readyz}", "is not a path"),
        ("health: {every: soon}", "is not a duration"),
    ];
    for (setting, message) in cases {
        let error = error_with(&format!("    {setting}\n"));
        assert!(error.contains(message), "{error}");
    }
    let good = format!("{SMALL}    balance: {{hash: user}}\n");
    assert_eq!(
        parse(&good).unwrap().services[0].balance,
        Balance::Hash(HashKey::User)
    );
}

#[test]
fn what_names_a_service_names_one_that_is_there() {
    let message = "no service is called `user`; did you mean `users`?";
    assert!(error_with("revocation: {service: user}\n").ends_with(message));
    assert!(error_with("public: {/a: {service: user}}\n").ends_with(message));
}

#[test]
fn public_paths_lie_outside_the_services() {
    assert_eq!(
        error_with("public: {/api/users/docs: {service: users}}\n"),
        "gateway.yaml:10:27: public[\"/api/users/docs\"]: lies inside the service `users`, so it is never looked at; add a match to services.users.public"
    );
    let error = error_with("public: {docs: {service: users}}\n");
    assert!(
        error.contains("public.docs: `docs` is not a path"),
        "{error}"
    );
}
