//! The table that is printed at the end of a run.

use super::record::{Record, Row, previous};

const HEAD: [&str; 10] = [
    "mix",
    "status",
    "answers",
    "per s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "pace",
    "verified",
    "since the last such run",
];
/// Columns of text, aligned to the left; all others are figures.
const TEXT_COLUMNS: [usize; 3] = [0, 7, 9];

/// The whole result as text.
pub(super) fn text(record: &Record, earlier: &[Record]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    for mix in &record.mixes {
        let row = |row| cells(row, mix.verified, previous(row, earlier));
        lines.extend(mix.rows.iter().map(row));
    }
    let mut text = aligned(&lines, &TEXT_COLUMNS);
    let rows = record.mixes.iter().flat_map(|mix| &mix.rows);
    if rows.clone().any(|row| row.upper_bounds) {
        text += "≤ several processes of oha together: the percentile of the slowest, which that of all cannot exceed\n";
    }
    if rows.clone().any(|row| !row.has_enough_for(99.9)) {
        text += "* the slowest answer: there are too few for this percentile\n";
    }
    for mix in &record.mixes {
        for fact in &mix.facts {
            text += &format!("  {}: {fact}\n", mix.name);
        }
    }
    for mix in &record.mixes {
        for wrong in &mix.wrong {
            text += &format!("  {}: WRONG: {wrong}\n", mix.name);
        }
    }
    text
}

fn cells(row: &Row, verified: bool, old: Option<&Row>) -> [String; 10] {
    let bound = if row.upper_bounds { "≤ " } else { "" };
    let ms = |percentile: f64| match row.at(percentile) {
        Some(ms) => {
            let few = if row.has_enough_for(percentile) {
                ""
            } else {
                "*"
            };
            format!("{bound}{}{few}", figure(ms))
        }
        None => "–".to_owned(),
    };
    let since = match old {
        Some(old) => compared(row, old),
        None => "–".to_owned(),
    };
    [
        row.label(),
        row.status.to_string(),
        grouped(row.answers),
        figure(row.per_second),
        ms(50.0),
        ms(99.0),
        ms(99.9),
        row.settings.pace.clone(),
        if verified { "yes" } else { "NO" }.to_owned(),
        since,
    ]
}

/// `+3 % per s, −12 % p99`
fn compared(row: &Row, old: &Row) -> String {
    let percent = |new: f64, old: f64| format!("{:+.0} %", 100.0 * (new / old - 1.0));
    let per_second = percent(row.per_second, old.per_second);
    match (row.at(99.0), old.at(99.0)) {
        (Some(new), Some(old)) => format!("{per_second} per s, {} p99", percent(new, old)),
        (None, _) | (_, None) => format!("{per_second} per s"),
    }
}

/// Three significant digits, with commas between the thousands.
pub(super) fn figure(value: f64) -> String {
    match value {
        v if v >= 99.95 => grouped(v.round() as u64),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// With commas between the thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Columns in `text_columns` are aligned to the left, all others to the right.
pub(super) fn aligned<const N: usize>(lines: &[[String; N]], text_columns: &[usize]) -> String {
    let mut text = String::new();
    for line in lines {
        let mut out = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|l| l[column].chars().count()).max();
            let pad = " ".repeat(width.unwrap_or(0) - cell.chars().count());
            let gap = if column == 0 { "" } else { "  " };
            out += &match text_columns.contains(&column) {
                true => format!("{gap}{cell}{pad}"),
                false => format!("{gap}{pad}{cell}"),
            };
        }
        text += out.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, row};
    use super::*;

    #[test]
    fn the_table_is_aligned_and_says_what_changed() {
        let mut now = record(vec![row("read", "read", 200, 12345.6)]);
        let mut crowd = record(vec![row("crowd", "users", 200, 320.0)]);
        crowd.mixes[0].rows[0].upper_bounds = true;
        crowd.mixes[0].verified = false;
        crowd.mixes[0].wrong = vec!["user-3: 1 × 502 instead of 200".to_owned()];
        now.mixes[0].facts = vec!["10 answers read whole".to_owned()];
        now.mixes.append(&mut crowd.mixes);
        let earlier = [record(vec![row("read", "read", 200, 10000.0)])];
        let text = text(&now, &earlier);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "mix           status  answers   per s  p50 ms  p99 ms  p99.9 ms  pace        verified  since the last such run",
                "read             200  123,450  12,346    1.00    4.00      9.50  full speed       yes  +23 % per s, +0 % p99",
                "crowd: users     200    3,200     320  ≤ 1.00  ≤ 4.00    ≤ 9.50  full speed        NO  –",
                "≤ several processes of oha together: the percentile of the slowest, which that of all cannot exceed",
                "  read: 10 answers read whole",
                "  crowd: WRONG: user-3: 1 × 502 instead of 200",
            ]
        );
    }

    #[test]
    fn figures_are_as_long_as_they_are_meant() {
        let figures = [0.0, 0.456, 9.99, 12.34, 99.96, 1234.4, 1_234_567.0].map(figure);
        assert_eq!(
            figures,
            ["0.00", "0.46", "9.99", "12.3", "100", "1,234", "1,234,567"]
        );
    }
}
