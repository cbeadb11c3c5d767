//! No cycles among files: files of a cycle can only be understood together.

use crate::workspace::packages;

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let mut found = Vec::new();
    for package in packages() {
        let cycles = rules::cycles(&package.src()).unwrap();
        found.extend(
            cycles
                .into_iter()
                .map(|files| format!("{}: {}", package.name, files.join(" "))),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
