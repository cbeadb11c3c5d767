//! Verification of the answers, as pure functions: what was wrong with a run of one process, and
//! whether two complete answers are equivalent.
//!
//! A wrong answer must never count as a fast one. So the statuses are counted, the sum of the bodies'
//! lengths is checked, and the number of admitted requests is compared with what the limit allows.

use http::Method;
use serde_json::Value;

use super::limits::Limits;
use super::mix::Alike;
use super::oha::Report;

/// At most so many complaints about one process are printed.
pub(super) const MAX_COMPLAINTS: usize = 5;
/// The lower bound of admitted requests is checked only if this many times the upper bound was sent.
const FAR_OVER: u64 = 3;

/// What one process's answers must be.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) status: u16,
    /// The length of a correct answer's body; `None` where answers may differ.
    pub(super) length: Option<u64>,
    /// Whether 429 is allowed.
    pub(super) over_limit: bool,
    /// The length of a refusal that was read completely.
    pub(super) refusal_length: Option<u64>,
    /// From the last answer before the run.
    pub(super) limits: Limits,
    /// Correct answers to single calls during the run, which took tokens too.
    pub(super) probes: u64,
    /// Whether a gateway lost Redis during the run: without it, limits are not exact.
    pub(super) outage: bool,
}

/// What is wrong with `report`; empty when every answer was correct.
pub(super) fn audit(expected: &Expected, report: &Report) -> Vec<String> {
    let mut wrong: Vec<_> = unexpected(expected.status, expected.over_limit, report).collect();
    let (correct, refused) = (report.of(expected.status), report.of(429));
    if correct == 0 {
        wrong.push(format!("no answer was {}", expected.status));
    }
    if wrong.is_empty() {
        wrong.extend(lengths(expected, report, correct, refused));
    }
    wrong.extend(admitted(expected, report, correct));
    wrong
}

/// Requests without an answer, and answers with another status than `wanted` (or 429 if `limited`).
pub(super) fn unexpected(
    wanted: u16,
    limited: bool,
    report: &Report,
) -> impl Iterator<Item = String> {
    let errors = report.errors.iter();
    let errors = errors.map(|(error, count)| format!("{count} × no answer: {error}"));
    let allowed = move |status: u16| status == wanted || limited && status == 429;
    let statuses = report
        .statuses
        .iter()
        .filter(move |(status, _)| !allowed(**status));
    errors.chain(statuses.map(move |(status, n)| format!("{n} × {status} instead of {wanted}")))
}

fn lengths(expected: &Expected, report: &Report, correct: u64, refused: u64) -> Option<String> {
    let length = expected.length?;
    let refusals = match (refused, expected.refusal_length) {
        (0, _) => 0,
        (_, Some(length)) => refused * length,
        (_, None) => {
            return Some(format!(
                "none of {refused} refusals (429) was read completely"
            ));
        }
    };
    let (wanted, got) = (correct * length + refusals, report.bytes);
    (wanted != got).then(|| {
        format!("the bodies have {got} bytes in total, not {wanted}: some answers were wrong")
    })
}

fn admitted(expected: &Expected, report: &Report, admitted: u64) -> Option<String> {
    let limits = &expected.limits;
    let most = limits.most(report.seconds, u64::from(expected.outage))?;
    if admitted > most {
        return Some(format!(
            "{admitted} requests were let through in {:.2} s, but only {most} may be ({limits})",
            report.seconds
        ));
    }
    // The first token is taken before the first answer arrives, and the last one after the last request
    // is sent.
    let least = limits.least((report.seconds - 2.0 * report.slowest).max(0.0))?;
    let through = admitted + expected.probes;
    let hard = expected.over_limit && !expected.outage && report.requests() >= FAR_OVER * most;
    (hard && through < least).then(|| {
        format!("only {through} requests were let through, at least {least} must be ({limits})")
    })
}

/// Whether any request was refused.
pub(super) fn limit_was_reached(report: &Report) -> bool {
    report.of(429) > 0
}

/// Whether `other` is equivalent to `first`: the same bytes, except for ids and times that differ in
/// every answer.
pub(super) fn alike(method: &Method, first: &[u8], other: &[u8], alike: Alike) -> bool {
    match alike {
        Alike::Any => true,
        Alike::Same if first == other => true,
        Alike::Same => {
            let (Some(a), Some(b)) = (comparable(method, first), comparable(method, other)) else {
                return false;
            };
            a == b && first.len() == other.len()
        }
    }
}

/// A JSON object without the members that differ in every answer: the id of the request and, unless
/// the method is GET, the id and times of what was created or changed.
fn comparable(method: &Method, body: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let members = value.as_object_mut()?;
    members.remove("request_id");
    if *method != Method::GET {
        members.retain(|name, _| name != "id" && !name.ends_with("_at"));
    }
    Some(value)
}

/// Whether an answer is a well-formed refusal by a limit.
pub(super) fn is_refusal(headers: &http::HeaderMap, body: &[u8]) -> bool {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    headers.contains_key(http::header::RETRY_AFTER)
        && headers.contains_key("ratelimit-policy")
        && problem["type"] == "/problems/rate-limited"
        && problem["status"] == 429
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn limits(remaining: &'static str) -> Limits {
        let headers = [
            ("ratelimit-policy", r#""user";q=200;w=2"#),
            ("ratelimit", remaining),
        ];
        let headers = headers.map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        Limits::read(&HeaderMap::from_iter(headers)).unwrap()
    }

    fn expected() -> Expected {
        Expected {
            status: 200,
            length: Some(100),
            over_limit: false,
            refusal_length: None,
            limits: Limits::default(),
            probes: 0,
            outage: false,
        }
    }

    fn report(statuses: &[(u16, u64)], bytes: u64) -> Report {
        Report {
            seconds: 10.0,
            slowest: 0.01,
            statuses: statuses.iter().copied().collect(),
            errors: BTreeMap::new(),
            bytes,
            successful: Default::default(),
            unsuccessful: Default::default(),
        }
    }

    #[test]
    fn right_answers_leave_nothing_to_say() {
        assert!(audit(&expected(), &report(&[(200, 5000)], 500_000)).is_empty());
    }

    #[test]
    fn one_wrong_status_among_thousands_is_wrong() {
        let wrong = audit(&expected(), &report(&[(200, 4999), (502, 1)], 500_000));
        assert_eq!(wrong, ["1 × 502 instead of 200"]);
        let wrong = audit(&expected(), &report(&[(200, 4999), (429, 1)], 500_000));
        assert_eq!(wrong, ["1 × 429 instead of 200"]);
    }

    #[test]
    fn a_body_that_is_one_byte_short_is_wrong() {
        let wrong = audit(&expected(), &report(&[(200, 5000)], 499_999));
        assert!(wrong[0].contains("not 500000"), "{wrong:?}");
        let any = Expected {
            length: None,
            ..expected()
        };
        assert!(audit(&any, &report(&[(200, 5000)], 499_999)).is_empty());
    }

    #[test]
    fn a_request_without_an_answer_is_wrong() {
        let mut broken = report(&[(200, 5000)], 500_000);
        broken.errors.insert("connection reset".to_owned(), 2);
        let wrong = audit(&expected(), &broken);
        assert_eq!(wrong, ["2 × no answer: connection reset"]);
        let wrong = audit(&expected(), &report(&[], 0));
        assert_eq!(wrong, ["no answer was 200"]);
    }

    #[test]
    fn a_limit_lets_through_what_it_owes_and_not_one_more() {
        let over = Expected {
            over_limit: true,
            refusal_length: Some(50),
            limits: limits(r#""user";r=200;t=1"#),
            ..expected()
        };
        let run = |through: u64, refused: u64| {
            let bytes = through * 100 + refused * 50;
            audit(&over, &report(&[(200, through), (429, refused)], bytes))
        };
        assert!(run(1200, 9000).is_empty());
        assert!(run(1187, 9000).is_empty());
        let (more, less) = (run(1201, 9000), run(1180, 9000));
        assert!(more[0].contains("only 1200 may be"), "{more:?}");
        assert!(less[0].contains("at least"), "{less:?}");
        // Too few requests were sent for the lower bound to apply.
        assert!(run(1180, 1000).is_empty());
    }

    #[test]
    fn without_redis_one_burst_more_may_be_let_through() {
        let over = Expected {
            over_limit: true,
            length: None,
            limits: limits(r#""user";r=200;t=1"#),
            outage: true,
            ..expected()
        };
        assert!(audit(&over, &report(&[(200, 1400), (429, 9000)], 0)).is_empty());
        assert_eq!(audit(&over, &report(&[(200, 1401)], 0)).len(), 1);
        assert!(audit(&over, &report(&[(200, 500), (429, 9000)], 0)).is_empty());
    }

    #[test]
    fn refusals_are_accounted_for_by_the_length_of_one_that_was_read() {
        let mut over = Expected {
            over_limit: true,
            refusal_length: Some(50),
            ..expected()
        };
        let mixed = |bytes| report(&[(200, 10), (429, 10)], bytes);
        assert!(audit(&over, &mixed(1500)).is_empty());
        assert_eq!(audit(&over, &mixed(1499)).len(), 1);
        over.refusal_length = None;
        assert!(audit(&over, &mixed(1500))[0].contains("read completely"));
    }

    #[test]
    fn answers_are_alike_but_for_ids_and_times() {
        let get = |a: &str, b: &str| alike(&Method::GET, a.as_bytes(), b.as_bytes(), Alike::Same);
        assert!(get("[1]", "[1]") && !get("[1]", "[2]"));
        assert!(get(
            r#"{"a":1,"request_id":"x"}"#,
            r#"{"a":1,"request_id":"y"}"#
        ));
        assert!(!get(
            r#"{"a":1,"request_id":"x"}"#,
            r#"{"a":1,"request_id":"yy"}"#
        ));
        assert!(!get(r#"{"id":"x"}"#, r#"{"id":"y"}"#));
        let post = |a: &str, b: &str| alike(&Method::POST, a.as_bytes(), b.as_bytes(), Alike::Same);
        assert!(post(r#"{"id":"x","a":1}"#, r#"{"id":"y","a":1}"#));
        assert!(!post(r#"{"id":"x","a":1}"#, r#"{"id":"y","a":2}"#));
        assert!(!post("<html>", "<body>"));
    }
}
