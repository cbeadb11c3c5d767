//! Which package may depend on which others, as in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::packages;

/// `package: our packages that it may depend on`, without dev-dependencies.
const RULE: &str = "
    contract:
    runtime: contract
    stores: contract runtime
    web: contract runtime stores
    events: contract runtime stores testkit
    rabbitmq: contract events runtime stores
    mongo: contract events runtime stores
    sqlite: contract events runtime stores
    testkit: contract runtime
    gateway: contract runtime

    users: contract events runtime stores web
    users-mongo: contract events mongo runtime stores users
    users-sqlite: contract events runtime sqlite stores users
    tasks: contract events runtime stores web
    tasks-mongo: contract events mongo runtime stores tasks
    tasks-sqlite: contract events runtime sqlite stores tasks
    notifications: contract events runtime stores web
    notifications-mongo: contract events mongo notifications runtime stores
    notifications-sqlite: contract events notifications runtime sqlite stores

    process: events mongo notifications rabbitmq runtime tasks
    user-worker: events mongo process runtime users users-mongo
    task-worker: events process runtime tasks tasks-mongo
    notification-worker: mongo notifications notifications-mongo process rabbitmq runtime

    rules:
    libz-ng-sys:
";
/// Compositions may depend on every package that is not a tool.
const COMPOSITIONS: [&str; 1] = ["standalone"];
/// No product package may depend on these.
const TOOLS: [&str; 3] = ["tools", "prove", "rules"];
/// `driver: our only packages that may depend on it`, without dev-dependencies.
const DRIVERS: &str = "
    pingora: gateway
    pingora-core: gateway
    pingora-proxy: gateway
    redis: gateway
    lapin: rabbitmq
    mongodb: mongo users-mongo tasks-mongo notifications-mongo testkit
    bson: mongo users-mongo tasks-mongo notifications-mongo testkit
    rusqlite: sqlite
    jsonwebtoken: gateway users
";

/// Parses lines of the form `name: word word`.
fn table(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, words) = line.split_once(':').unwrap();
            (name, words.split_whitespace().collect())
        })
        .collect()
}

#[test]
fn packages_depend_only_downwards() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let rule = table(RULE);
    for package in &packages {
        let used: BTreeSet<&str> = package.dependencies.iter().map(String::as_str).collect();
        let used: BTreeSet<&str> = used.intersection(&ours).copied().collect();
        let name = package.name.as_str();
        if TOOLS.contains(&name) && !rule.contains_key(name) {
            continue;
        }
        let tools: Vec<_> = used.iter().filter(|other| TOOLS.contains(other)).collect();
        assert!(
            tools.is_empty(),
            "`{name}` is part of the product and depends on the tool {tools:?}"
        );
        if COMPOSITIONS.contains(&name) {
            continue;
        }
        let allowed = rule.get(name);
        let allowed = allowed.unwrap_or_else(|| panic!("`{name}` is new: give it a line in RULE"));
        let beyond: Vec<_> = used.difference(allowed).collect();
        assert!(beyond.is_empty(), "`{name}` may not depend on {beyond:?}");
    }
}

#[test]
fn drivers_stay_inside_the_adapters() {
    let drivers = table(DRIVERS);
    for package in packages() {
        let name = package.name.as_str();
        if TOOLS.contains(&name) || COMPOSITIONS.contains(&name) {
            continue;
        }
        for (driver, adapters) in &drivers {
            let uses = package.dependencies.contains(*driver);
            assert!(
                !uses || adapters.contains(name),
                "`{name}` depends on the driver `{driver}`"
            );
        }
    }
}

#[test]
fn the_gateway_knows_no_store_and_no_broker() {
    let packages = packages();
    let gateway = packages.iter().find(|package| package.name == "gateway");
    let dependencies = &gateway.unwrap().dependencies;
    for driver in [
        "mongodb", "bson", "lapin", "rusqlite", "stores", "events", "web",
    ] {
        assert!(
            !dependencies.contains(driver),
            "the gateway depends on {driver}"
        );
    }
}
