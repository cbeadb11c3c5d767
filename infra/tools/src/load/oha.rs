//! oha as a subprocess: its flags and its JSON output.
//!
//! oha discards the bodies that it reads and reports only their total length. [`super::verify`] decides
//! whether the answers were correct, from that length and from answers that were read completely.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use http::Method;
use serde::Deserialize;
use tokio::process::Command;

/// After this time, a request counts as failed; without it, oha would wait for ever.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long oha may take beyond its duration and the last answer, to start, sort and write.
const MARGIN: Duration = Duration::from_secs(30);

/// The load generator.
pub(super) struct Oha {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// One run of oha: one request, repeated.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) token: Option<String>,
    pub(super) body: Option<String>,
    pub(super) connections: usize,
    /// Requests a second; `None` is as fast as the answers arrive.
    pub(super) pace: Option<f64>,
    pub(super) duration: Duration,
    /// The number of oha's threads; `None` is one per core.
    pub(super) threads: Option<usize>,
}

impl Run {
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |flag: &str, value: &str| {
            arguments.push(flag.to_owned());
            arguments.push(value.to_owned());
        };
        add("-z", &format!("{}ms", self.duration.as_millis()));
        add("-c", &self.connections.to_string());
        add("-t", &format!("{}s", TIMEOUT.as_secs()));
        add("-m", self.method.as_str());
        add("--output-format", "json");
        if let Some(token) = &self.token {
            add("-H", &format!("authorization: Bearer {token}"));
        }
        if let Some(body) = &self.body {
            add("-T", "application/json");
            add("-d", body);
        }
        if let Some(threads) = self.threads {
            add("--worker-threads", &threads.to_string());
        }
        if let Some(pace) = self.pace {
            add("-q", &format!("{pace:.3}"));
            // Latency counts from when a request was due, so a late answer does not hide those behind it
            // (coordinated omission).
            arguments.push("--latency-correction".to_owned());
        }
        // -w: oha waits for the requests in flight at the end instead of aborting them. Compressed answers
        // would have other lengths than those that are read completely.
        let rest = [
            "-w",
            "--no-tui",
            "--no-color",
            "--disable-compression",
            "--stats-success-breakdown",
            &self.url,
        ];
        arguments.extend(rest.map(str::to_owned));
        arguments
    }
}

impl Oha {
    /// Runs the program once for its version, which also shows that it works.
    pub(super) async fn find(program: PathBuf) -> anyhow::Result<Self> {
        let asked = Command::new(&program).arg("--version").output().await;
        let output = asked.with_context(|| format!("{} cannot be run", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.trim().strip_prefix("oha ").map(str::to_owned);
        let version = version.with_context(|| format!("{} is not oha", program.display()))?;
        Ok(Self { program, version })
    }

    /// Runs oha to its end. If this is dropped before, the process is killed.
    pub(super) async fn run(&self, run: &Run) -> anyhow::Result<Report> {
        let child = Command::new(&self.program)
            .args(run.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        let deadline = run.duration + TIMEOUT + MARGIN;
        let output = tokio::time::timeout(deadline, child.wait_with_output())
            .await
            .with_context(|| format!("oha did not end within {deadline:?}"))??;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            bail!("oha failed ({}): {}", output.status, message.trim());
        }
        Report::parse(&output.stdout)
    }
}

/// Seconds by percentile, such as `(99.9, 0.0042)`, in ascending order. Empty without answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Latency(Vec<(f64, f64)>);

impl FromIterator<(f64, f64)> for Latency {
    /// `points` are percentiles and seconds, in ascending order.
    fn from_iter<I: IntoIterator<Item = (f64, f64)>>(points: I) -> Self {
        Self(points.into_iter().collect())
    }
}

impl Latency {
    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.0
    }

    /// The larger of both at every percentile: an upper bound for the answers of several processes
    /// together. At most 1 % of each process's answers are slower than its p99, so at most 1 % of all
    /// are slower than the largest of the p99s.
    pub(super) fn upper_bound(self, other: &Self) -> Self {
        match (self.0.is_empty(), other.0.is_empty()) {
            (true, _) => other.clone(),
            (_, true) => self,
            (false, false) => {
                let pairs = self.0.iter().zip(&other.0);
                Self(pairs.map(|(a, b)| (a.0, a.1.max(b.1))).collect())
            }
        }
    }

    fn from_map(map: BTreeMap<String, Option<f64>>) -> anyhow::Result<Self> {
        let mut points = Vec::new();
        for (name, seconds) in map {
            let percentile = name.strip_prefix('p').and_then(|p| p.parse::<f64>().ok());
            let percentile = percentile.with_context(|| format!("`{name}` is no percentile"))?;
            // oha writes null where it has nothing to measure.
            points.extend(seconds.map(|seconds| (percentile, seconds)));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Self(points))
    }
}

/// What oha counted and measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    /// From its start to the last answer.
    pub(super) seconds: f64,
    pub(super) slowest: f64,
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by oha's name of the error.
    pub(super) errors: BTreeMap<String, u64>,
    /// The total length of all bodies.
    pub(super) bytes: u64,
    /// Of answers with status 2xx.
    pub(super) successful: Latency,
    /// Of all other answers.
    pub(super) unsuccessful: Latency,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    summary: Summary,
    latency_percentiles_successful: BTreeMap<String, Option<f64>>,
    latency_percentiles_not_successful: BTreeMap<String, Option<f64>>,
    status_code_distribution: BTreeMap<u16, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    total: f64,
    slowest: Option<f64>,
    requests_per_sec: f64,
    total_data: u64,
}

impl Report {
    pub(super) fn parse(json: &[u8]) -> anyhow::Result<Self> {
        let Json {
            summary,
            latency_percentiles_successful,
            latency_percentiles_not_successful,
            status_code_distribution,
            error_distribution,
        } = serde_json::from_slice(json).context("oha's output is not the JSON of oha 1.16")?;
        let report = Self {
            seconds: summary.total,
            slowest: summary.slowest.unwrap_or_default(),
            statuses: status_code_distribution,
            errors: error_distribution,
            bytes: summary.total_data,
            successful: Latency::from_map(latency_percentiles_successful)?,
            unsuccessful: Latency::from_map(latency_percentiles_not_successful)?,
        };
        let counted = report.requests();
        let reported = summary.requests_per_sec * summary.total;
        if (reported - counted as f64).abs() > 0.5 {
            bail!("oha's figures contradict each other: {reported} requests, {counted} results");
        }
        Ok(report)
    }

    /// All requests, answered or not.
    pub(super) fn requests(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.errors.values().sum::<u64>()
    }

    pub(super) fn of(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    /// The latencies that include those of `status`.
    pub(super) fn latency(&self, status: u16) -> &Latency {
        match (200..300).contains(&status) {
            true => &self.successful,
            false => &self.unsuccessful,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &[u8] = include_bytes!("samples/mixed.json");
    const UNREACHABLE: &[u8] = include_bytes!("samples/unreachable.json");

    #[test]
    fn every_answer_of_oha_is_counted_by_its_status() {
        let report = Report::parse(MIXED).unwrap();
        assert_eq!(report.requests(), report.of(200) + report.of(429));
        assert!(report.of(200) > 0 && report.of(429) > 0 && report.errors.is_empty());
        let points = |status| report.latency(status).points();
        let percentiles: Vec<_> = points(200).iter().map(|point| point.0).collect();
        assert_eq!(
            percentiles,
            [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99]
        );
        assert_ne!(points(200), points(429));
    }

    #[test]
    fn a_run_without_any_answer_has_errors_and_no_latency() {
        let report = Report::parse(UNREACHABLE).unwrap();
        assert!(report.statuses.is_empty() && report.bytes == 0);
        assert_eq!(report.requests(), report.errors.values().sum::<u64>());
        assert!(report.requests() > 0 && report.successful.points().is_empty());
    }

    #[test]
    fn figures_that_contradict_each_other_are_refused() {
        let mut json: serde_json::Value = serde_json::from_slice(MIXED).unwrap();
        json["statusCodeDistribution"]["200"] = 1.into();
        let error = Report::parse(json.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("contradict"), "{error}");
        assert!(Report::parse(b"Summary:").is_err());
    }

    #[test]
    fn several_processes_together_are_not_slower_than_the_slowest() {
        let fast = Latency(vec![(50.0, 0.001), (99.0, 0.009)]);
        let slow = Latency(vec![(50.0, 0.002), (99.0, 0.003)]);
        let both = Latency(vec![(50.0, 0.002), (99.0, 0.009)]);
        assert_eq!(fast.clone().upper_bound(&slow), both);
        assert_eq!(Latency::default().upper_bound(&fast), fast);
        assert_eq!(fast.clone().upper_bound(&Latency::default()), fast);
    }

    #[test]
    fn a_paced_run_corrects_latencies_and_a_fast_one_takes_the_fast_path() {
        let mut run = Run {
            method: Method::POST,
            url: "http://127.0.0.1:8080/api/tasks".to_owned(),
            token: Some("t".to_owned()),
            body: Some("{}".to_owned()),
            connections: 8,
            pace: None,
            duration: Duration::from_millis(1500),
            threads: Some(1),
        };
        let fast = run.arguments().join(" ");
        assert_eq!(
            fast,
            "-z 1500ms -c 8 -t 5s -m POST --output-format json -H authorization: Bearer t \
             -T application/json -d {} --worker-threads 1 -w --no-tui --no-color \
             --disable-compression --stats-success-breakdown http://127.0.0.1:8080/api/tasks"
        );
        run.pace = Some(80.0);
        let paced = run.arguments().join(" ");
        assert!(paced.contains("-q 80.000 --latency-correction"), "{paced}");
    }
}
