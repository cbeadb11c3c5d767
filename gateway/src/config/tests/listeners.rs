use super::*;

#[test]
fn two_listeners_need_two_addresses() {
    let cases = [
        ("127.0.0.1:8001", false),
        ("0.0.0.0:8001", false),
        ("127.0.0.2:8001", true),
        ("127.0.0.1:8002", true),
    ];
    for (admin, good) in cases {
        let text = SMALL.replace("8001}", &format!("8001, admin: \"{admin}\"}}"));
        assert_eq!(parse(&text).is_ok(), good, "{admin}");
    }
    let text = SMALL.replace("8001}", "0, admin: \"127.0.0.1:0\"}");
    parse(&text).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn the_gateway_is_not_its_own_upstream() {
    assert_eq!(
        error_replacing("[127.0.0.1:4001]", "[127.0.0.1:8001]"),
        "gateway.yaml:9:17: services.users.upstreams[0]: `127.0.0.1:8001` is this gateway's own listener"
    );
}

#[test]
fn address_blocks_hold_no_stray_bits() {
    assert_eq!(
        error_with("trusted_proxies: [10.0.0.1/8]"),
        "gateway.yaml:10:19: trusted_proxies[0]: `10.0.0.1/8` has bits set beyond its prefix; write 10.0.0.0/8 or 10.0.0.1/32"
    );
    let text = format!("{SMALL}trusted_proxies: [10.0.0.1, \"fd00::/8\"]");
    assert_eq!(
        parse(&text).unwrap().trusted_proxies[0].to_string(),
        "10.0.0.1/32"
    );
}

#[test]
fn the_lame_duck_time_is_a_part_of_the_grace() {
    assert_eq!(
        error_with("drain: {lame_duck: 30s, grace: 25s}"),
        "gateway.yaml:10:1: drain: `lame_duck` is a part of `grace` and must be shorter"
    );
}
