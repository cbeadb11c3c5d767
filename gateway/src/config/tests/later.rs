use super::*;

#[test]
fn settings_of_other_versions_are_refused_clearly() {
    let cases = [
        (
            "cors: {origins: [\"*\"]}",
            "gateway.yaml:10:7: cors: `cors` is not supported by this version; write `cors: null`",
        ),
        (
            "compression: {}",
            "gateway.yaml:10:14: compression: `compression` is not supported by this version; write `compression: null`",
        ),
        (
            "telemetry: {otlp_endpoint: \"http://127.0.0.1:4317\"}",
            "gateway.yaml:10:28: telemetry.otlp_endpoint: `telemetry.otlp_endpoint` is not supported by this version; leave it empty",
        ),
        (
            "public: {/openapi.json: {file: a.json}}",
            "gateway.yaml:10:32: public[\"/openapi.json\"].file: `file` is not supported by this version; give {service: NAME}, or leave this path out",
        ),
        (
            "public: {/docs: {directory: docs}}",
            "gateway.yaml:10:29: public[\"/docs\"].directory: `directory` is not supported by this version; give {service: NAME}, or leave this path out",
        ),
    ];
    for (more, message) in cases {
        assert_eq!(error_with(more), message);
    }
    assert_eq!(
        error_replacing(
            "127.0.0.1:8001}",
            "127.0.0.1:8001, https: {address: 0.0.0.0:8443}}"
        ),
        "gateway.yaml:1:39: listen.https: `listen.https` is not supported by this version; write `https: null`"
    );
    let error = error_replacing(
        "jwks_url: http://127.0.0.1:4001/jwks.json",
        "discovery: true",
    );
    assert!(
        error.contains("auth.issuers[0].discovery: `discovery` is not supported by this version"),
        "{error}"
    );
    let error = error_replacing("http://127", "https://127");
    assert!(
        error.contains("auth.issuers[0].jwks_url: https is not supported by this version"),
        "{error}"
    );
    assert!(error.contains("jwks_file"), "{error}");
}

#[test]
fn asking_for_nothing_is_allowed() {
    let nothing = "cors: null\ncompression: ~\ntelemetry: {otlp_endpoint: \"${OTEL:-}\"}\n";
    let text = SMALL
        .replace("8001}", "8001, https: null}")
        .replace("jwks_url", "discovery: false, jwks_url");
    parse(&format!("{text}{nothing}")).unwrap_or_else(|errors| panic!("{errors}"));
}
