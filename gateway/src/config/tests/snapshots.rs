//! What the reader says today to a corpus of configurations: the files in `snapshots/`.
//!
//! A case is a line `=== NAME`, the lines of the configuration, and the lines of its report, each
//! after `=> `. Every section of [`SMALL`] that the configuration does not have is added at its
//! end, so a case shows only what it is about; `=== whole: NAME` is a file as it stands. `<TAB>`,
//! `<CR>`, `<BOM>` and `<NUL>` stand for characters that an editor would hide.
//!
//! `UPDATE_SNAPSHOTS=1` writes the reports anew; read the difference before you commit it.

use std::fs;
use std::path::PathBuf;

use super::*;

const VARIABLES: [(&str, &str); 5] = [
    (
        "GATEWAY_SIGNING_KEYS",
        "new:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
    ("REDIS_URL", "redis://:hidden@localhost"),
    ("HALF", "0.5"),
    ("LIST", "[a, b]"),
    ("EMPTY", ""),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/snapshots")
}

/// `text` with every section of [`SMALL`] that it lacks.
fn completed(text: &str) -> String {
    let mut all = text.to_owned();
    let mut lacking = false;
    for line in SMALL.lines() {
        if let Some((section, _)) = line.split_once(':')
            && !section.starts_with(' ')
        {
            let starts = |line: &str| line.trim_start_matches('"').starts_with(section);
            lacking = !text.lines().any(starts);
        }
        if lacking {
            all.push_str(line);
            all.push('\n');
        }
    }
    all
}

/// Every error, or the lines in which the result differs from that of [`SMALL`].
fn report(text: &str) -> Vec<String> {
    let read = |text: &str| {
        Config::parse(&folder().join("gateway.yaml"), text, &|name| {
            let known = VARIABLES.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        })
    };
    // Where the repository is, no report may depend on.
    let folder = format!("{}/", folder().display());
    let lines = |shown: String| -> Vec<String> {
        let shown = shown.replace(&folder, "");
        shown.lines().map(str::to_owned).collect()
    };
    match read(text) {
        Err(errors) => lines(errors.to_string()),
        Ok(config) => {
            let small = lines(format!("{:#?}", read(SMALL).unwrap()));
            let mut shown = lines(format!("{config:#?}"));
            shown.retain(|line| !small.contains(line));
            shown.insert(0, "accepted".to_owned());
            shown
        }
    }
}

/// A file of the corpus, with its reports written anew.
fn rewritten(corpus: &str) -> String {
    let mut written = String::new();
    for case in corpus.split("=== ").skip(1) {
        let configuration: Vec<&str> = case.lines().filter(|l| !l.starts_with("=>")).collect();
        let (name, lines) = configuration.split_first().unwrap();
        let text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
        let mut read = text.clone();
        for (shown, meant) in [
            ("<TAB>", "\t"),
            ("<CR>", "\r"),
            ("<BOM>", "\u{feff}"),
            ("<NUL>", "\0"),
        ] {
            read = read.replace(shown, meant);
        }
        if !name.starts_with("whole: ") {
            read = completed(&read);
        }
        written += &format!("=== {name}\n{text}");
        for line in report(&read) {
            written += &format!("=> {line}\n");
        }
    }
    written
}

#[test]
fn every_report_is_as_it_was() {
    let mut files = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        files += 1;
        let corpus = fs::read_to_string(&path).unwrap();
        let now = rewritten(&corpus);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, now).unwrap();
            continue;
        }
        for (number, (was, is)) in corpus.lines().zip(now.lines()).enumerate() {
            assert_eq!(is, was, "{}:{}", path.display(), number + 1);
        }
        assert_eq!(now, corpus, "{}", path.display());
    }
    assert!(files > 0, "there are no snapshots");
}
