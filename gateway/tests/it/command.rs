//! The command line: `--check` and `healthcheck`.

use std::process::{Command, Output};

fn gateway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn every_error_of_a_configuration_is_reported_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    let config = "listen: {http: nowhere}\nsigning_keys: \"${MISSING}\"\nservice: {}\n";
    std::fs::write(&file, config).unwrap();
    let output = gateway(&["--check", file.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for place in [":1:", ":2:", ":3:"] {
        assert!(
            text.contains(&format!("gateway.yaml{place}")),
            "{place} in {text}"
        );
    }
    assert!(text.contains("MISSING"), "{text}");
}

#[test]
fn a_gateway_that_does_not_run_is_not_healthy() {
    let port = testkit::free_port();
    let output = gateway(&["healthcheck", &format!("http://127.0.0.1:{port}/readyz")]);
    assert_eq!(output.status.code(), Some(1));
}
