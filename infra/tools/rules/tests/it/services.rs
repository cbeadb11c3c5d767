//! Which part of a worker's service may use which others, as in ARCHITECTURE.md.

use std::path::{Path, PathBuf};

use crate::workspace::packages;

const SERVICES: [&str; 3] = ["users", "tasks", "notifications"];

/// `part: what it may use besides itself`. Parts without a line may use everything.
const RULE: [(&str, &[&str]); 4] = [
    ("domain", &[]),
    ("store", &["domain"]),
    ("consumer", &["domain", "store", "live"]),
    (
        "http",
        &[
            "app",
            "attachments",
            "domain",
            "live",
            "passwords",
            "store",
            "tokens",
        ],
    ),
];

fn sources() -> Vec<(&'static str, PathBuf)> {
    let packages = packages();
    let src = |name: &'static str| {
        let package = packages.iter().find(|package| package.name == name);
        (name, package.unwrap().src())
    };
    SERVICES.map(src).to_vec()
}

/// The first folder, or the file name without its extension, of a path relative to `src`.
fn part(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

#[test]
fn inside_a_worker_the_domain_knows_nothing_and_stores_know_the_domain() {
    for (service, src) in sources() {
        for (file, used) in rules::uses(&src).unwrap() {
            let rule = RULE.iter().find(|(name, _)| *name == part(&file));
            let Some((own, allowed)) = rule else { continue };
            for other in &used {
                let other_part = part(other);
                assert!(
                    other_part == *own || allowed.contains(&other_part),
                    "{service}: {file} uses {other}"
                );
            }
        }
    }
}

#[test]
fn handlers_hold_no_bus() {
    for (service, src) in sources() {
        for file in rules::uses(&src).unwrap().keys() {
            if part(file) != "http" {
                continue;
            }
            let text = std::fs::read_to_string(Path::new(&src).join(file)).unwrap();
            for word in ["events::bus", "dyn Bus", ".publish("] {
                assert!(
                    !text.contains(word),
                    "{service}: {file} holds a bus: `{word}`"
                );
            }
        }
    }
}
