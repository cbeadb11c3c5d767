//! Every answer accounted for, as pure functions: what is wrong with a run of one process, and
//! whether two whole answers say the same.
//!
//! A wrong answer must never count as a fast one: the statuses are counted, the lengths of all bodies
//! are known in sum, and what a limit let through is held against what it may.

use http::Method;
use serde_json::Value;

use super::limits::Limits;
use super::mix::Alike;
use super::oha::Report;

/// How many complaints about one process are printed.
pub(super) const MOST_WRONG: usize = 5;
/// From this multiple of what the limit owes on, it must have given all of it.
const FAR_OVER: u64 = 3;

/// What one process was expected to meet.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) status: u16,
    /// Of the right answer's body; `None` where answers may differ.
    pub(super) length: Option<u64>,
    /// Whether 429 may come.
    pub(super) over: bool,
    /// The length of a refusal that was read whole.
    pub(super) refusal: Option<u64>,
    /// As told right before the run.
    pub(super) limits: Limits,
    /// Answers that single calls had during the run: they took tokens too.
    pub(super) beside: u64,
    /// Whether a gateway was without Redis meanwhile: limits are exact only with it.
    pub(super) outage: bool,
}

/// What is wrong with `report`; nothing when every answer was right.
pub(super) fn audit(expected: &Expected, report: &Report) -> Vec<String> {
    let mut wrong: Vec<_> = unexpected(expected.status, expected.over, report).collect();
    let (right, refused) = (report.of(expected.status), report.of(429));
    if right == 0 {
        wrong.push(format!("no answer was {}", expected.status));
    }
    if wrong.is_empty() {
        wrong.extend(lengths(expected, report, right, refused));
    }
    wrong.extend(admitted(expected, report, right));
    wrong
}

/// Requests that had no answer, and answers of another status than `wanted` (or 429 where `limited`).
pub(super) fn unexpected(
    wanted: u16,
    limited: bool,
    report: &Report,
) -> impl Iterator<Item = String> {
    let errors = report.errors.iter();
    let errors = errors.map(|(error, count)| format!("{count} × no answer: {error}"));
    let right = move |status: u16| status == wanted || limited && status == 429;
    let statuses = report
        .statuses
        .iter()
        .filter(move |(status, _)| !right(**status));
    errors.chain(statuses.map(move |(status, n)| format!("{n} × {status} instead of {wanted}")))
}

fn lengths(expected: &Expected, report: &Report, right: u64, refused: u64) -> Option<String> {
    let length = expected.length?;
    let refusals = match (refused, expected.refusal) {
        (0, _) => 0,
        (_, Some(length)) => refused * length,
        (_, None) => return Some(format!("no refusal (429) of {refused} was read whole")),
    };
    let (wanted, got) = (right * length + refusals, report.bytes);
    (wanted != got).then(|| {
        format!("the bodies have {got} bytes together, not {wanted}: some answers were not as they must be")
    })
}

fn admitted(expected: &Expected, report: &Report, right: u64) -> Option<String> {
    let limits = &expected.limits;
    let most = limits.most(report.seconds, u64::from(expected.outage))?;
    if right > most {
        return Some(format!(
            "{right} requests were let through in {:.2} s, {most} may be ({limits})",
            report.seconds
        ));
    }
    // The first token was taken before the first answer, the last one not before the last request.
    let least = limits.least((report.seconds - 2.0 * report.slowest).max(0.0))?;
    let through = right + expected.beside;
    let hard = expected.over && !expected.outage && report.requests() >= FAR_OVER * most;
    (hard && through < least).then(|| {
        format!("only {through} requests were let through, at least {least} must be ({limits})")
    })
}

/// Whether the limit was met at all.
pub(super) fn limit_was_reached(report: &Report) -> bool {
    report.of(429) > 0
}

/// Whether `other` says the same as `first`: byte by byte, but for what no two answers share.
pub(super) fn alike(method: &Method, first: &[u8], other: &[u8], alike: Alike) -> bool {
    match alike {
        Alike::Any => true,
        Alike::Same if first == other => true,
        Alike::Same => {
            let (Some(a), Some(b)) = (essence(method, first), essence(method, other)) else {
                return false;
            };
            a == b && first.len() == other.len()
        }
    }
}

/// A JSON object without its request's id and, where the request makes something, without the
/// thing's ids and times.
fn essence(method: &Method, body: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let members = value.as_object_mut()?;
    members.remove("request_id");
    if *method != Method::GET {
        members.retain(|name, _| name != "id" && !name.ends_with("_at"));
    }
    Some(value)
}

/// Whether an answer is the refusal that a limit gives.
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
            over: false,
            refusal: None,
            limits: Limits::default(),
            beside: 0,
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
            over: true,
            refusal: Some(50),
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
        assert!(more[0].contains("1200 may be"), "{more:?}");
        assert!(less[0].contains("at least"), "{less:?}");
        // Nobody asked hard enough for the limit to owe everything.
        assert!(run(1180, 1000).is_empty());
    }

    #[test]
    fn without_redis_one_burst_more_may_be_let_through() {
        let over = Expected {
            over: true,
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
            over: true,
            refusal: Some(50),
            ..expected()
        };
        let mixed = |bytes| report(&[(200, 10), (429, 10)], bytes);
        assert!(audit(&over, &mixed(1500)).is_empty());
        assert_eq!(audit(&over, &mixed(1499)).len(), 1);
        over.refusal = None;
        assert!(audit(&over, &mixed(1500))[0].contains("read whole"));
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
