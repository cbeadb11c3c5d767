use super::*;

fn issuers(issuers: &str) -> Result<Vec<Issuer>, Vec<String>> {
    let text = SMALL.replace("http://127.0.0.1:4001/jwks.json}", issuers);
    parse(&text)
        .map(|config| config.auth.issuers)
        .map_err(|errors| errors.errors().iter().map(|e| e.message.clone()).collect())
}

fn refused(rest: &str) -> String {
    issuers(rest).unwrap_err().join("\n")
}

#[test]
fn a_shared_secret_stands_alone_with_hs256() {
    let secret = "x".repeat(32);
    let text = SMALL.replace(
        "jwks_url: http://127.0.0.1:4001/jwks.json",
        &format!("hs256_secret: {secret}"),
    );
    let issuer = &parse(&text).unwrap().auth.issuers[0];
    assert_eq!(issuer.algorithms, [Algorithm::Hs256]);
    assert!(matches!(&issuer.keys, KeySource::SharedSecret(s) if s.expose() == secret));
    assert!(refused("http://a/, algorithms: [HS256]}").contains("HS256 needs a shared secret"));
    let text = text.replace(
        &format!("{secret}}}"),
        &format!("{secret}, algorithms: [HS256, EdDSA]}}"),
    );
    assert!(
        errors(&text)[0].contains("needs public keys"),
        "{:?}",
        errors(&text)
    );
    assert!(
        errors(&SMALL.replace(
            "jwks_url: http://127.0.0.1:4001/jwks.json",
            "hs256_secret: short"
        ))[0]
            .contains("must have at least 32 bytes")
    );
}

#[test]
fn keys_come_from_exactly_one_place() {
    assert!(refused("http://a/, jwks_file: x}").contains("more than one source of keys"));
    let error = error_replacing(", jwks_url: http://127.0.0.1:4001/jwks.json", "");
    assert!(
        error.contains("auth.issuers[0]: has no source of keys"),
        "{error}"
    );
    let error = error_replacing(
        "jwks_url: http://127.0.0.1:4001/jwks.json",
        "jwks_file: nowhere.json",
    );
    assert!(error.contains("nowhere.json is not a file"), "{error}");
    for url in ["ftp://a/", "a", "http:///x", "/jwks.json"] {
        assert!(
            refused(&format!("\"{url}\"}}")).contains("is not a URL"),
            "{url}"
        );
    }
}

#[test]
fn issuers_and_algorithms_are_distinct_and_known() {
    let twice = "http://a/}\n    - {issuer: sluice, audience: b, jwks_url: http://b/}";
    assert_eq!(refused(twice), "the issuer `sluice` stands there already");
    assert_eq!(
        refused("http://a/, algorithms: [none]}"),
        "`none` must be one of EdDSA, ES256, RS256, HS256"
    );
    assert_eq!(
        refused("http://a/, algorithms: []}"),
        "names no algorithm; write for example [EdDSA]"
    );
    assert_eq!(
        refused("http://a/, algorithms: [EdDSA, EdDSA]}"),
        "stands there already"
    );
}

#[test]
fn claims_go_into_their_own_header_family_each_into_one() {
    let good = issuers("http://a/, claims_to_headers: {tenant: X-Claim-Tenant}}").unwrap();
    assert_eq!(good[0].claims_to_headers["tenant"], "x-claim-tenant");
    for header in ["x-user-id", "x-claim-", "x-claim-a_b", "x-claim-a b"] {
        let message = refused(&format!(
            "http://a/, claims_to_headers: {{a: \"{header}\"}}}}"
        ));
        assert!(
            message.contains("must be a header name below `x-claim-`"),
            "{message}"
        );
    }
    assert!(
        refused("http://a/, claims_to_headers: {a: x-claim-a, b: x-claim-a}}")
            .contains("another claim")
    );
}
