//! The dependency rule, as ARCHITECTURE.md states it, held against the manifests and the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// `package → its normal dependencies`, of the workspace's own packages.
fn manifests() -> Vec<(String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"].is_null())
            .map(name)
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), normal(package)))
        .collect()
}

#[test]
fn packages_depend_only_downwards() {
    let own: BTreeSet<String> = manifests().into_iter().map(|(name, _)| name).collect();
    for (package, dependencies) in manifests() {
        let allowed: &[&str] = match package.as_str() {
            "shared" | "libz-ng-sys" => &[],
            "standalone" => continue,
            _ => &["shared"],
        };
        let edges: Vec<_> = dependencies.intersection(&own).collect();
        assert_eq!(
            edges, allowed,
            "`{package}` depends on another part of the platform"
        );
    }
}

#[test]
fn the_gateway_knows_no_store_and_no_broker() {
    let gateway = manifests()
        .into_iter()
        .find(|(name, _)| name == "gateway")
        .unwrap()
        .1;
    for driver in ["mongodb", "bson", "lapin", "rusqlite"] {
        assert!(!gateway.contains(driver), "the gateway depends on {driver}");
    }
}

/// A source file that is no test: its path below `src`, and its text.
fn sources(crate_folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, files),
                false => files.push(path),
            }
        }
    }
    let src = root().join(crate_folder).join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    let below = |path: &Path| path.strip_prefix(&src).unwrap().display().to_string();
    let is_test = |path: &str| {
        path.contains("tests") || path.contains("conformance") || path.contains("testing")
    };
    let code = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        // Unit tests stand at the end of a file.
        text.split("#[cfg(test)]").next().unwrap().to_owned()
    };
    let rust = files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.map(|path| (below(path), code(path)))
        .filter(|(path, _)| !is_test(path))
        .collect()
}

/// The top-level modules of its own crate that a text names.
fn modules(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let name = |text: &str| -> String {
            text.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        };
        match rest.strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                found.extend(group.split(',').map(|item| name(item.trim())));
            }
            None => {
                found.insert(name(rest));
            }
        }
    }
    found
}

#[test]
fn inside_a_worker_the_domain_knows_nothing_and_stores_know_the_domain() {
    for worker in ["workers/user", "workers/task", "workers/notification"] {
        for (path, text) in sources(worker) {
            let module = path.split(['/', '.']).next().unwrap();
            let allowed: Option<&[&str]> = match module {
                "domain" => Some(&["domain"]),
                "store" => Some(&["domain", "store"]),
                _ => None,
            };
            let Some(allowed) = allowed else { continue };
            for named in modules(&text) {
                assert!(
                    allowed.contains(&named.as_str()),
                    "{worker}/{path} names `{named}`"
                );
            }
        }
    }
}

#[test]
fn drivers_stay_inside_the_adapters() {
    for worker in ["workers/user", "workers/task", "workers/notification"] {
        for (path, text) in sources(worker) {
            if path.starts_with("store/") {
                continue;
            }
            for driver in ["mongodb::", "bson::", "lapin::"] {
                assert!(!text.contains(driver), "{worker}/{path} names `{driver}`");
            }
        }
    }
}

#[test]
fn handlers_hold_no_bus() {
    for worker in ["workers/user", "workers/task", "workers/notification"] {
        for (path, text) in sources(worker) {
            if path.starts_with("http") {
                for word in ["events::bus", "dyn Bus", ".publish("] {
                    assert!(
                        !text.contains(word),
                        "{worker}/{path} holds a bus: `{word}`"
                    );
                }
            }
        }
    }
}
