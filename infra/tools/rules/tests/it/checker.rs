//! The cycles that the checker finds, and what it does not count.

use std::path::Path;

/// A crate of these files.
fn cycles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).unwrap();
        std::fs::write(path, text).unwrap();
    }
    rules::cycles(folder.path()).unwrap()
}

#[test]
fn two_files_that_use_each_other_are_a_circle() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; fn f(_: crate::a::A) {}"),
    ]);
    assert_eq!(found, [["a.rs", "b.rs"]]);
}

#[test]
fn a_longer_way_round_is_one_circle() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        (
            "a.rs",
            "use crate::{b::{self, B}, d}; pub struct A(B); fn f() { b::g(); d::d() }",
        ),
        ("b.rs", "pub fn g() {} pub struct B(super::c::C);"),
        ("c.rs", "pub struct C; fn f(_: Option<crate::a::A>) {}"),
        ("d.rs", "pub fn d() {}"),
    ]);
    assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
}

#[test]
fn a_child_that_uses_its_parent_is_a_circle_only_where_the_parent_uses_the_child() {
    let child = "pub struct Child; fn f(_: super::Parent) {}";
    let alone = [
        ("lib.rs", "mod p;"),
        ("p/mod.rs", "mod c; pub struct Parent;"),
        ("p/c.rs", child),
    ];
    assert!(cycles(&alone).is_empty());
    let uses = "mod c; pub struct Parent; fn f(_: c::Child) {}";
    let both = [("lib.rs", "mod p;"), ("p/mod.rs", uses), ("p/c.rs", child)];
    assert_eq!(cycles(&both), [["p/c.rs", "p/mod.rs"]]);
}

#[test]
fn a_file_that_only_re_exports_is_no_part_of_a_circle() {
    let found = cycles(&[
        ("lib.rs", "mod p; mod q;"),
        ("p.rs", "mod a; mod b; pub use a::A; pub use b::*;"),
        ("p/a.rs", "pub struct A;"),
        ("p/b.rs", "pub struct B(super::A);"),
        ("q.rs", "use crate::p::{A, B}; fn f(_: A, _: B) {}"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn what_tests_use_does_not_count() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
        ),
        ("b.rs", "use crate::a::A; pub struct B(A);"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}
