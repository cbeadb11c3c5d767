use super::*;

#[test]
fn they_come_from_files_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys"), format!("a:{KEY}\n")).unwrap();
    let text = SMALL.replace(
        "signing_keys: ${GATEWAY_SIGNING_KEYS}",
        "signing_keys_file: keys",
    );
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(format!("{:?}", config.signing_keys), r#"["a"]"#);
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let error = error_replacing(
        "signing_keys: ${GATEWAY_SIGNING_KEYS}",
        "signing_keys_file: /nowhere/keys",
    );
    assert!(
        error.starts_with("gateway.yaml:2:20: signing_keys_file: cannot read /nowhere/keys:"),
        "{error}"
    );
    assert_eq!(
        error_with("signing_keys_file: x"),
        "gateway.yaml:10:20: signing_keys_file: stands beside `signing_keys`; keep one"
    );
}

#[test]
fn signing_keys_must_be_long_distinct_and_spelled_right() {
    let twice = format!("a:{KEY},a:{KEY}");
    let trailing = format!("a:{KEY},");
    let cases = [
        ("abcdef", "entry 1 is not `kid:hex`"),
        ("", "entry 1 is not `kid:hex`"),
        (&trailing, "entry 2 is not `kid:hex`"),
        (
            "a:00ff",
            "key `a` is shorter than 32 bytes; make one with `openssl rand -hex 32`",
        ),
        (&twice, "two keys have the same id"),
    ];
    for (keys, message) in cases {
        let error = error_replacing("${GATEWAY_SIGNING_KEYS}", &format!("{keys:?}"));
        assert_eq!(error, format!("gateway.yaml:2:15: signing_keys: {message}"));
    }
}

#[test]
fn they_stand_in_no_debug_output_and_in_no_error() {
    let config = parse(EXAMPLE).unwrap();
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("hidden") && !shown.contains(KEY) && !shown.contains("1, 35, 69"),
        "{shown}"
    );
    let text = SMALL.replace("${GATEWAY_SIGNING_KEYS}", "hidden") + "redis: {url: hidden}\n";
    let shown = errors(&text).join("\n");
    assert!(!shown.contains("hidden"), "{shown}");
}
