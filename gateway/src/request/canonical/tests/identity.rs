use super::heads::with;
use crate::request::canonical::{Malformed, head, in_identity_family};

#[test]
fn identity_headers_with_an_underscore_are_refused_in_every_mix() {
    let names = [
        "x_user_id",
        "X-User_Id",
        "x_user-id",
        "X_SESSION_ID",
        "x-token_expires",
        "x_client_address",
        "x_gateway_signature",
        "X-Gateway_Time",
        "x_gateway-new",
        "x_claim_tenant",
        "x-claim-a_b",
        "X_Forwarded_For",
        "x_forwarded-proto",
        "x-forwarded_host",
        "x_forwarded_port",
        "x_request_id",
    ];
    for name in names {
        let text = with(&format!("{name}: 1\r\n"));
        assert_eq!(
            head(&text),
            Err(Malformed::UnderscoreInIdentityHeader),
            "{name}"
        );
        assert!(in_identity_family(name));
    }
    for name in [
        "x-user-id",
        "X-USER-ID",
        "x-claim-tenant",
        "x-forwarded-for",
    ] {
        assert!(in_identity_family(name), "{name}");
    }
    for name in [
        "x-user-ids",
        "user-id",
        "x-user",
        "x_custom",
        "traceparent",
        "x-gateway",
        "forwarded",
    ] {
        assert!(!in_identity_family(name), "{name}");
        assert!(head(&with(&format!("{name}: 1\r\n"))).is_ok(), "{name}");
    }
}
