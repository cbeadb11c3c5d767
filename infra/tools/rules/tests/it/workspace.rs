//! The packages of the workspace, from `cargo metadata`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One of our packages.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Its normal dependencies, optional ones included.
    pub(crate) dependencies: BTreeSet<String>,
}

impl Package {
    pub(crate) fn src(&self) -> PathBuf {
        self.folder.join("src")
    }
}

pub(crate) fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let package = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        let manifest = text(&package["manifest_path"]);
        Package {
            name: text(&package["name"]),
            folder: Path::new(&manifest).parent().unwrap().to_owned(),
            dependencies: normal.map(|dependency| text(&dependency["name"])).collect(),
        }
    };
    let all = metadata["packages"].as_array().unwrap();
    all.iter().map(package).collect()
}
