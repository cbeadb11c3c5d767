use super::*;

fn sample(text: &str, variables: &[(&str, &str)]) -> Result<f64, String> {
    parse_with(
        &format!("{SMALL}access_log: {{sample: \"{text}\"}}\n"),
        variables,
    )
    .map(|config| config.access_log.sample)
    .map_err(|errors| errors.errors()[0].message.clone())
}

#[test]
fn they_are_expanded_inside_scalars() {
    assert_eq!(sample("${A}.${B}", &[("A", "0"), ("B", "5")]), Ok(0.5));
    assert_eq!(sample("${A:-0.25}", &[]), Ok(0.25));
    assert_eq!(sample("${A:-0.25}", &[("A", "")]), Ok(0.25));
    assert_eq!(sample("${A:-0.25}", &[("A", "0.75")]), Ok(0.75));
}

#[test]
fn a_missing_one_is_named() {
    assert_eq!(
        sample("${SAMPLE}", &[]),
        Err(
            "the environment variable SAMPLE is not set; set it or write ${SAMPLE:-default}"
                .to_owned()
        )
    );
}

#[test]
fn a_broken_reference_is_an_error() {
    assert!(
        sample("${A", &[("A", "1")])
            .unwrap_err()
            .contains("no closing")
    );
    assert!(
        sample("${}", &[])
            .unwrap_err()
            .contains("not the name of a variable")
    );
    assert!(
        sample("${A-1}", &[])
            .unwrap_err()
            .contains("not the name of a variable")
    );
}

#[test]
fn two_dollars_stand_for_one() {
    assert_eq!(
        sample("$${A}", &[("A", "1")]),
        Err("`${A}` must be a number from 0 to 1".to_owned())
    );
}
