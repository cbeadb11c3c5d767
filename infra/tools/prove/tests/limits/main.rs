//! The proof of the rate limits: two real gateways, a real Redis, real requests, and an observer that
//! knows only when each request was sent and answered.
//!
//! `make test` runs a short proof, `make prove-limits` a long one: `PROVE_SECONDS` (for one scenario),
//! `PROVE_OUTAGE` (seconds), `PROVE_KEYS`, `PROVE_OUT` and `PROVE_SVG` (files for the result).
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod checker;
mod clients;
mod costs;
mod faults;
#[path = "../../../../../gateway/tests/it/gateway.rs"]
#[expect(dead_code, reason = "this proof does not use all of it")]
mod gateway;
mod plot;
mod scenarios;
mod stack;

use std::time::Duration;

use faults::Fault;
use scenarios::{Line, Proof, plans};
use serde_json::json;
use testkit::setting;

/// The short proof runs in a debug build beside other tests. It checks that no limit is broken; only the
/// long one checks how tight and how cheap the limits are.
const LONG: bool = !cfg!(debug_assertions);

#[tokio::test(flavor = "multi_thread")]
async fn no_window_holds_more_than_its_limit_whatever_happens_to_redis() {
    let mut proof = Proof::new(setting("PROVE_SECONDS", 1.5_f64)).await;
    let mut lines = Vec::new();
    for plan in plans() {
        let line = proof.run_plan(&plan).await;
        eprintln!("{line}");
        if plan.keys > 1 || plan.name.starts_with("0.8") {
            assert_eq!(line.refused, 0, "below the limit: {line}");
        }
        lines.push(line);
    }
    for fault in Fault::ALL {
        let line = proof.run_fault(fault).await;
        eprintln!("{line}");
        lines.push(line);
    }
    let outage = Duration::from_secs(setting("PROVE_OUTAGE", 2));
    let (line, locked_out) = proof.run_outage(outage).await;
    eprintln!("{line}");
    lines.push(line);
    let cost = costs::of_a_limit(&mut proof).await;
    let keys = costs::of_many_keys(setting("PROVE_KEYS", 20_000)).await;

    eprintln!("\n{}", Line::head());
    lines.iter().for_each(|line| eprintln!("{line}"));
    let requests: usize = lines.iter().map(|line| line.sent).sum();
    eprintln!(
        "{requests} requests; honest users refused from a second after the outage: {locked_out}"
    );
    eprintln!("processor time of a request with a limit, of the same without: {cost:.3}");
    eprintln!("{keys}");
    if let Ok(file) = std::env::var("PROVE_OUT") {
        let result = json!({
            "requests": requests, "lines": lines, "locked_out": locked_out,
            "cost_ratio": cost, "keys": keys,
        });
        std::fs::write(file, serde_json::to_string_pretty(&result).unwrap() + "\n").unwrap();
    }
    if let Ok(file) = std::env::var("PROVE_SVG") {
        let shown = |line: &&Line| {
            ["steady", "skewed", "Redis SIGSTOP"]
                .iter()
                .any(|name| line.name.starts_with(name))
        };
        let shown: Vec<Line> = lines.iter().filter(shown).cloned().collect();
        std::fs::write(file, plot::svg(&shown)).unwrap();
    }

    for line in &lines {
        assert_eq!(line.failed, 0, "{line}");
        // Times are rounded to microseconds, so the excess may be off by a fraction of a request.
        assert!(line.excess <= line.allowed + 0.01, "{line}");
        assert!(line.excess_afterwards.unwrap_or_default() <= 0.01, "{line}");
    }
    assert_eq!(locked_out, 0);
    assert!(keys.grown_mib < 200.0, "{keys}");
    if LONG {
        assert!(cost <= 1.15, "{cost}");
        for line in &lines {
            assert!(line.tight_percent.unwrap_or(100.0) >= 99.0, "{line}");
            assert!(
                line.tight_percent.is_none()
                    || line.commands_per_admitted.is_some_and(|each| each <= 0.05),
                "{line}"
            );
        }
    }
}

impl Line {
    fn head() -> String {
        format!(
            "{:<38} {:>8} {:>8} {:>8} {:>6} {:>7} {:>8} {:>8} {:>7} {:>9} {:>7} {:>7} {:>9}",
            "",
            "sent",
            "admitted",
            "refused",
            "failed",
            "tight",
            "excess",
            "allowed",
            "after",
            "commands",
            "p50 ms",
            "p99 ms",
            "in fault"
        )
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or_dash = |number: Option<f64>, digits: usize| {
            number.map_or("–".to_owned(), |number| format!("{number:.digits$}"))
        };
        write!(
            f,
            "{:<38} {:>8} {:>8} {:>8} {:>6} {:>7} {:>8.1} {:>8.1} {:>7} {:>9} {:>7.2} {:>7.2} {:>9}",
            self.name,
            self.sent,
            self.admitted,
            self.refused,
            self.failed,
            or_dash(self.tight_percent, 2),
            self.excess,
            self.allowed,
            or_dash(self.excess_afterwards, 1),
            or_dash(self.commands_per_admitted, 4),
            self.p50_ms,
            self.p99_ms,
            or_dash(self.p99_in_fault_ms, 2),
        )
    }
}
