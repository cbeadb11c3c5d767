//! One SVG with two charts: answers a second, and latency by percentile.

use std::fmt::Write;

use super::record::{Record, Row, previous};
use super::table::figure;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 26.0;
const CHART: f64 = 300.0;
const LEGEND: f64 = 210.0;
/// Distinguishable for colour-blind readers too (Okabe and Ito).
const COLOURS: [&str; 10] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#000000",
    "#8c510a", "#5e3c99",
];
const TICKS: [(f64, &str); 5] = [
    (50.0, "p50"),
    (90.0, "p90"),
    (99.0, "p99"),
    (99.9, "p99.9"),
    (99.99, "p99.99"),
];

/// The rows of `record` as bars and lines. Behind each bar is that of the last run with the same settings.
pub(super) fn svg(record: &Record, earlier: &[Record]) -> String {
    let rows: Vec<&Row> = record.mixes.iter().flat_map(|mix| &mix.rows).collect();
    let bars = rows.len() as f64 * BAR;
    let height = 70.0 + bars + 80.0 + CHART + 60.0;
    let mut out = String::new();
    let _infallible = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12" fill="#222">
<rect width="100%" height="100%" fill="#fff"/>
"##
    );
    let verified = match record.verified {
        true => "every answer verified",
        false => "NOT VERIFIED: some answers were wrong",
    };
    let title = format!("{} · {} · {verified}", record.url, record.started_at);
    text(&mut out, 16.0, 24.0, "start", &title);
    throughput(&mut out, &rows, earlier, 50.0);
    latency(&mut out, &rows, 50.0 + bars + 60.0);
    out += "</svg>\n";
    out
}

fn throughput(out: &mut String, rows: &[&Row], earlier: &[Record], top: f64) {
    heading(out, top, "Answers a second (light: the last such run)");
    let old = |row| previous(row, earlier).map(|old| old.per_second);
    let most = rows
        .iter()
        .flat_map(|row| [Some(row.per_second), old(row)])
        .flatten()
        .fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / most;
    for (place, row) in rows.iter().enumerate() {
        let y = top + 12.0 + place as f64 * BAR;
        text(out, LEFT - 8.0, y + 14.0, "end", &name(row));
        if let Some(old) = old(row) {
            rect(out, LEFT, y + 1.0, old * scale, 20.0, "#ddd");
        }
        let width = row.per_second * scale;
        rect(out, LEFT, y + 4.0, width, 14.0, colour(place));
        let end = LEFT + width.max(old(row).unwrap_or(0.0) * scale);
        text(out, end + 6.0, y + 15.0, "start", &figure(row.per_second));
    }
}

fn latency(out: &mut String, rows: &[&Row], top: f64) {
    heading(
        out,
        top,
        "Latency in milliseconds, by percentile (dashed: upper bounds)",
    );
    let (first, last) = (position(TICKS[0].0), position(TICKS[4].0));
    let x = |percentile: f64| {
        LEFT / 2.0 + (position(percentile) - first) / (last - first) * (WIDTH - LEFT / 2.0 - LEGEND)
    };
    let shown = |row: &Row, point: &(f64, f64)| {
        point.0 >= TICKS[0].0 && point.1 > 0.0 && row.has_enough_for(point.0)
    };
    let points: Vec<Vec<_>> = rows
        .iter()
        .map(|row| {
            row.points()
                .into_iter()
                .filter(|point| shown(row, point))
                .collect()
        })
        .collect();
    let all = || {
        points
            .iter()
            .flatten()
            .map(|(_, ms): &(f64, f64)| ms.log10())
    };
    let (low, high) = (
        all().fold(f64::INFINITY, f64::min).floor(),
        all().fold(f64::NEG_INFINITY, f64::max).ceil(),
    );
    if !low.is_finite() {
        return;
    }
    let high = high.max(low + 1.0);
    let (upper, lower) = (top + 16.0, top + 16.0 + CHART);
    let y = |ms: f64| lower - (ms.log10() - low) / (high - low) * CHART;
    for (percentile, label) in TICKS {
        line(out, (x(percentile), upper), (x(percentile), lower));
        text(out, x(percentile), lower + 16.0, "middle", label);
    }
    for decade in low as i32..=high as i32 {
        let ms = 10_f64.powi(decade);
        line(out, (x(TICKS[0].0), y(ms)), (x(TICKS[4].0), y(ms)));
        text(
            out,
            x(TICKS[0].0) - 8.0,
            y(ms) + 4.0,
            "end",
            &format!("{ms}"),
        );
    }
    for (place, (row, points)) in rows.iter().zip(&points).enumerate() {
        let path: Vec<_> = points
            .iter()
            .map(|(percentile, ms)| format!("{:.1},{:.1}", x(*percentile), y(*ms)))
            .collect();
        let dash = if row.upper_bounds {
            r#" stroke-dasharray="5 3""#
        } else {
            ""
        };
        let colour = colour(place);
        let _infallible = writeln!(
            out,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>"#,
            path.join(" ")
        );
        let at = upper + 12.0 + place as f64 * 18.0;
        let left = WIDTH - LEGEND + 24.0;
        rect(out, left, at - 8.0, 14.0, 8.0, colour);
        text(out, left + 20.0, at, "start", &name(row));
    }
}

/// Each nine of a percentile takes the same width.
fn position(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

fn name(row: &Row) -> String {
    format!("{} ({})", row.label(), row.status)
}

fn colour(place: usize) -> &'static str {
    COLOURS[place % COLOURS.len()]
}

fn heading(out: &mut String, y: f64, title: &str) {
    let _infallible = writeln!(
        out,
        r#"<text x="16" y="{y:.1}" font-weight="bold">{}</text>"#,
        escaped(title)
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    let _infallible = writeln!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
        escaped(what)
    );
}

fn rect(out: &mut String, x: f64, y: f64, width: f64, height: f64, colour: &str) {
    let _infallible = writeln!(
        out,
        r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
    );
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _infallible = writeln!(
        out,
        r##"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="#ddd"/>"##,
        from.0, from.1, to.0, to.1
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, row};
    use super::*;

    #[test]
    fn every_row_has_a_bar_and_a_line() {
        let mut now = record(vec![
            row("read", "read", 200, 1000.0),
            row("limit", "limit", 429, 5000.0),
        ]);
        now.mixes[0].rows[1].upper_bounds = true;
        let earlier = [record(vec![row("read", "read", 200, 500.0)])];
        let svg = svg(&now, &earlier);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("stroke-dasharray").count(), 1);
        // Half as wide as its own bar, which is a fifth of the longest.
        assert!(svg.contains(r##"width="140.0" height="14.0""##), "{svg}");
        assert!(
            svg.contains(r##"width="70.0" height="20.0" fill="#ddd""##),
            "{svg}"
        );
        assert!(svg.contains("limit (429)") && svg.contains(">p99.99<"));
    }

    #[test]
    fn a_picture_without_latencies_or_rows_is_still_a_picture() {
        let mut empty = record(vec![row("read", "read", 200, 0.0)]);
        empty.mixes[0].rows[0].latency_ms.clear();
        empty.verified = false;
        let picture = svg(&empty, &[]);
        assert!(picture.contains("NOT VERIFIED") && picture.ends_with("</svg>\n"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
        empty.mixes.clear();
        assert!(svg(&empty, &[]).ends_with("</svg>\n"));
    }

    #[test]
    fn text_cannot_break_out() {
        let mut odd = record(vec![row("a<b>&", "a<b>&", 200, 1.0)]);
        odd.mixes[0].name = "a<b>&".to_owned();
        assert!(svg(&odd, &[]).contains("a&lt;b&gt;&amp; (200)"));
    }
}
