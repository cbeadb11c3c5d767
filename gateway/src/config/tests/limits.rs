use super::*;

const REDIS: &str = "redis: {url: redis://localhost}\n";

fn refused(policy: &str) -> String {
    error_with(&format!("{REDIS}limits: {{policies: {{p: {policy}}}}}\n"))
}

#[test]
fn policies_are_checked() {
    let cases = [
        ("{rate: 1/s}", "limits.policies.p.key: `key` is missing"),
        ("{key: user}", "limits.policies.p.rate: `rate` is missing"),
        ("{key: user, rate: 0/s}", "a rate is at least one"),
        (
            "{key: user, rate: 1/s, burst: 0}",
            "`0` must be a whole number, 1 to 4294967295",
        ),
        (
            "{key: user, rate: 1/s, ipv6_prefix: 64}",
            "only means something with `key: address`",
        ),
        (
            "{key: address, rate: 1/s, ipv6_prefix: 0}",
            "`0` must be a whole number, 1 to 128",
        ),
        (
            "{key: user, rate: 1/s, on_redis_failure: open}",
            "must be one of local, deny, allow",
        ),
        (
            "{key: user, rate: 1/s, max_in_flight: 0}",
            "`0` must be a whole number, 1 to 1000000",
        ),
        (
            "{key: user, rate: 1/s, shadow: yes}",
            "must be one of true, false",
        ),
        (
            "{key: user, rate: 1/s, cost: 2}",
            "limits.policies.p.cost: unknown key; known here: key, ipv6_prefix, rate, burst",
        ),
    ];
    for (policy, message) in cases {
        let error = refused(policy);
        assert!(error.contains(message), "{error}");
    }
    let error = error_with(&format!(
        "{REDIS}limits: {{policies: {{\"a b\": {{key: user, rate: 1/s}}}}}}\n"
    ));
    assert!(error.contains("lower-case letters"), "{error}");
}

#[test]
fn a_burst_that_is_not_given_is_the_rate() {
    let text = format!("{SMALL}{REDIS}limits: {{policies: {{p: {{key: global, rate: 7/h}}}}}}\n");
    let config = parse(&text).unwrap();
    let policy = &config.limits.policies["p"];
    assert_eq!(
        (policy.burst, policy.on_redis_failure),
        (7, FailureMode::Local)
    );
    assert_eq!(config.limits.gateways.get(), 1);
}

#[test]
fn policies_need_redis() {
    assert_eq!(
        error_with("limits: {policies: {p: {key: user, rate: 1/s}}}\n"),
        "gateway.yaml:1:1: redis: `redis` is missing; the policies of `limits` need it"
    );
}

#[test]
fn a_broken_policy_is_not_reported_where_it_is_used() {
    let text = SMALL.to_owned()
        + "    limits: {authenticated: [p]}\n"
        + REDIS
        + "limits: {policies: {p: {key: user, rate: fast}}}\n";
    assert_eq!(errors(&text).len(), 1, "{:?}", errors(&text));
}

#[test]
fn anonymous_callers_have_no_user_to_count_by() {
    let policies = format!("{REDIS}limits: {{policies: {{p: {{key: user, rate: 1/s}}}}}}\n");
    let error = error_with(&format!("    limits: {{anonymous: [p]}}\n{policies}"));
    assert!(
        error.contains("services.users.limits.anonymous[0]: `p` is keyed by user"),
        "{error}"
    );
    let rules = "    public: [\"POST /login\"]\n    rules: [{match: POST /login, limits: [p]}]\n";
    let error = error_with(&format!("{rules}{policies}"));
    assert!(
        error.contains(
            "services.users.rules[0].limits: `p` is keyed by user, but this match is public"
        ),
        "{error}"
    );
}

#[test]
fn a_cost_above_a_burst_is_refused_because_nobody_could_ever_pass() {
    let policies = "limits: {policies: {small: {key: address, rate: 1/s, burst: 9}, p: {key: user, rate: 1/s, burst: 20}}}";
    let with = |rule: &str| {
        format!("    limits: {{authenticated: [p]}}\n    rules: [{rule}]\n{REDIS}{policies}\n")
    };
    let text = SMALL.to_owned() + &with("{match: POST /export, cost: 20}");
    let config = parse(&text).unwrap();
    assert_eq!(config.services[0].rules[0].cost, 20);
    let error = error_with(&with("{match: POST /export, cost: 10, limits: [small]}"));
    assert!(
        error.contains("rules[0].cost: no request could ever pass: the burst of `small` is 9"),
        "{error}"
    );
}
