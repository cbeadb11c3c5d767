//! The configuration in the documents, and the one that is shipped, are valid.

use std::path::Path;

use gateway::config::Config;

const CONFIGURATION: &str = include_str!("../../../../docs/configuration.md");
const SHIPPED: &str = include_str!("../../../../infra/gateway/gateway.yaml");

fn accepted(name: &str, text: &str) {
    let variable = |name: &str| match name {
        "GATEWAY_SIGNING_KEYS" => Some(format!("g1:{}", "5a".repeat(32))),
        "REDIS_URL" => Some("redis://127.0.0.1:6379/".to_owned()),
        _ => None,
    };
    if let Err(why) = Config::parse(Path::new(name), text, &variable) {
        panic!("{why}");
    }
}

#[test]
fn the_configuration_that_the_reference_shows_is_accepted() {
    let (_, rest) = CONFIGURATION
        .split_once("```yaml\n")
        .expect("a file in full");
    let (file, _) = rest.split_once("```").expect("its end");
    accepted("docs/configuration.md", file);
}

#[test]
fn the_configuration_that_is_shipped_is_accepted() {
    accepted("infra/gateway/gateway.yaml", SHIPPED);
}
