//! The result of a run as a JSON file, for other programs and for the comparison with the next run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::oha::Latency;

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// RFC 3339.
    pub(super) started_at: String,
    pub(super) url: String,
    pub(super) oha: String,
    /// Of the machine that generated the load.
    pub(super) cores: usize,
    pub(super) verified: bool,
    pub(super) mixes: Vec<MixRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MixRecord {
    pub(super) name: String,
    /// Whether every answer was correct and every count as expected.
    pub(super) verified: bool,
    pub(super) wrong: Vec<String>,
    /// What was counted and found correct, and other remarks on the result.
    pub(super) facts: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// All answers during the measured time, correct or not.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub(super) errors: BTreeMap<String, u64>,
}

impl MixRecord {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            verified: true,
            wrong: Vec::new(),
            facts: Vec::new(),
            rows: Vec::new(),
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    pub(super) fn add_wrong(&mut self, why: String) {
        self.verified = false;
        self.wrong.push(why);
    }

    /// The record of a mix that failed.
    pub(super) fn failed(name: &str, why: String) -> Self {
        Self {
            verified: false,
            wrong: vec![why],
            ..Self::new(name)
        }
    }
}

/// The answers of one status in one group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) mix: String,
    pub(super) group: String,
    pub(super) status: u16,
    pub(super) answers: u64,
    pub(super) per_second: f64,
    /// Milliseconds by percentile: `p50`, `p99.9`.
    pub(super) latency_ms: BTreeMap<String, f64>,
    /// Whether several processes were measured. Their percentiles are upper bounds: those of the
    /// slowest process, which those of all together do not exceed.
    pub(super) upper_bounds: bool,
    pub(super) settings: RowSettings,
}

/// What must be the same for two rows to be compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RowSettings {
    pub(super) url: String,
    pub(super) seconds: f64,
    pub(super) connections: usize,
    pub(super) processes: usize,
    /// Requests a second, as text.
    pub(super) pace: String,
    pub(super) limits: String,
}

impl Row {
    /// `limit`, `crowd: hot`.
    pub(super) fn label(&self) -> String {
        match self.mix == self.group {
            true => self.mix.clone(),
            false => format!("{}: {}", self.mix, self.group),
        }
    }

    /// Percentiles and milliseconds, such as `(99.9, 4.2)`, in ascending order.
    pub(super) fn points(&self) -> Vec<(f64, f64)> {
        let point = |(name, ms): (&String, &f64)| {
            let percentile = name.strip_prefix('p')?.parse().ok()?;
            Some((percentile, *ms))
        };
        let mut points: Vec<_> = self.latency_ms.iter().filter_map(point).collect();
        points.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
        points
    }

    pub(super) fn at(&self, percentile: f64) -> Option<f64> {
        self.latency_ms.get(&format!("p{percentile}")).copied()
    }

    /// Whether each process had enough answers for at least one of them to lie above this percentile.
    pub(super) fn has_enough_for(&self, percentile: f64) -> bool {
        let each = self.answers as f64 / self.settings.processes as f64;
        each * (100.0 - percentile) >= 100.0 - 1e-6
    }
}

/// `{"p50": 1.2, …}` in milliseconds.
pub(super) fn milliseconds(latency: &Latency) -> BTreeMap<String, f64> {
    let named = |&(percentile, seconds): &(f64, f64)| (format!("p{percentile}"), seconds * 1e3);
    latency.points().iter().map(named).collect()
}

/// At most so many earlier runs are read.
const HISTORY: usize = 50;

/// The last row with the same settings whose mix was verified. `earlier` has the newest run first.
pub(super) fn previous<'a>(row: &Row, earlier: &'a [Record]) -> Option<&'a Row> {
    let same = |old: &&Row| {
        (&old.group, old.status, &old.settings) == (&row.group, row.status, &row.settings)
    };
    earlier
        .iter()
        .flat_map(|record| &record.mixes)
        .filter(|mix| mix.verified && mix.name == row.mix)
        .find_map(|mix| mix.rows.iter().find(same))
}

/// Earlier runs, the newest first. Files that another version wrote in another format are skipped.
pub(super) fn history(folder: &Path) -> Vec<Record> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    // The files are named after the time of the run.
    let is_record = |name: &String| name.starts_with("20") && name.ends_with(".json");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(is_record).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    let read = |name: &String| serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok();
    names.iter().take(HISTORY).filter_map(read).collect()
}

/// Writes the record and its plot into `folder`, and points `latest.json` and `latest.svg` at them.
pub(super) fn save(folder: &Path, record: &Record, svg: &str) -> anyhow::Result<[PathBuf; 2]> {
    let stem = record.started_at.replace(':', "-");
    let write = |ending: &str, text: &[u8]| {
        let name = format!("{stem}.{ending}");
        let path = folder.join(&name);
        let link = folder.join(format!("latest.{ending}"));
        let new = folder.join(format!("latest.{ending}.new"));
        let write = || -> std::io::Result<()> {
            std::fs::write(&path, text)?;
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            std::os::unix::fs::symlink(&name, &new)?;
            std::fs::rename(&new, &link)
        };
        write().with_context(|| format!("{} cannot be written", path.display()))?;
        anyhow::Ok(path)
    };
    let json = serde_json::to_vec_pretty(record)?;
    Ok([write("json", &json)?, write("svg", svg.as_bytes())?])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn row(mix: &str, group: &str, status: u16, per_second: f64) -> Row {
        Row {
            mix: mix.to_owned(),
            group: group.to_owned(),
            status,
            answers: per_second as u64 * 10,
            per_second,
            latency_ms: [("p50", 1.0), ("p99", 4.0), ("p99.9", 9.5)]
                .map(|(name, ms)| (name.to_owned(), ms))
                .into(),
            upper_bounds: false,
            settings: RowSettings {
                url: "http://127.0.0.1:8080".to_owned(),
                seconds: 10.0,
                connections: 64,
                processes: 1,
                pace: "full speed".to_owned(),
                limits: "no limit".to_owned(),
            },
        }
    }

    pub(crate) fn record(rows: Vec<Row>) -> Record {
        let name = rows[0].mix.clone();
        let mix = MixRecord {
            rows,
            ..MixRecord::new(&name)
        };
        Record {
            started_at: "2026-11-23T01:02:03.004Z".to_owned(),
            url: "http://127.0.0.1:8080".to_owned(),
            oha: "1.16.0".to_owned(),
            cores: 2,
            verified: true,
            mixes: vec![mix],
        }
    }

    #[test]
    fn a_row_is_compared_with_the_last_of_the_same_settings() {
        let earlier = [
            record(vec![row("write", "write", 201, 300.0)]),
            record(vec![row("read", "read", 200, 1000.0)]),
            record(vec![row("read", "read", 200, 900.0)]),
        ];
        let mut now = row("read", "read", 200, 1100.0);
        assert_eq!(previous(&now, &earlier).unwrap().per_second, 1000.0);
        now.settings.connections = 8;
        assert!(previous(&now, &earlier).is_none());
        assert!(previous(&row("read", "read", 429, 1.0), &earlier).is_none());
    }

    #[test]
    fn a_percentile_needs_an_answer_beyond_it() {
        let mut row = row("crowd", "users", 200, 100.0);
        assert!(row.has_enough_for(99.9) && !row.has_enough_for(99.99));
        row.settings.processes = 8;
        assert!(row.has_enough_for(99.0) && !row.has_enough_for(99.9));
    }

    #[test]
    fn nothing_is_compared_with_what_was_wrong() {
        let mut wrong = record(vec![row("read", "read", 200, 1000.0)]);
        wrong.mixes[0].verified = false;
        assert!(previous(&row("read", "read", 200, 1100.0), &[wrong]).is_none());
    }

    #[test]
    fn earlier_runs_are_found_again_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        assert!(history(folder.path()).is_empty());
        let mut record = record(vec![row("read", "read", 200, 1000.0)]);
        save(folder.path(), &record, "<svg/>").unwrap();
        record.started_at = "2026-11-23T01:05:00.000Z".to_owned();
        record.oha = "2".to_owned();
        let [json, svg] = save(folder.path(), &record, "<svg/>").unwrap();
        assert!(json.ends_with("2026-11-23T01-05-00.000Z.json") && svg.exists());
        std::fs::write(folder.path().join("2026-other.json"), "{}").unwrap();
        let found = history(folder.path());
        let versions: Vec<_> = found.iter().map(|record| record.oha.as_str()).collect();
        assert_eq!(versions, ["2", "1.16.0"]);
        assert_eq!(found[0].mixes[0].rows[0].points()[2], (99.9, 9.5));
        let latest = std::fs::read(folder.path().join("latest.json")).unwrap();
        assert_eq!(latest, std::fs::read(json).unwrap());
    }
}
