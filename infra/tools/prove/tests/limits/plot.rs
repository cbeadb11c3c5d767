//! Charts of the admitted requests over time, with their bound.

use std::fmt::Write;

use crate::scenarios::Line;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;

/// One SVG with a chart for each line, one below the other.
pub(crate) fn svg(lines: &[Line]) -> String {
    let (width, height) = (WIDTH + LEFT + 30.0, (HEIGHT + 100.0) * lines.len() as f64);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, line) in lines.iter().enumerate() {
        panel(&mut text, line, (HEIGHT + 100.0) * number as f64 + TOP)
            .expect("writing to a string cannot fail");
    }
    text + "</svg>\n"
}

fn panel(text: &mut String, line: &Line, top: f64) -> std::fmt::Result {
    let last = line.course.last().map_or(1.0, |(at, _)| *at).ceil();
    let (burst, rate) = line.bound;
    let most = (burst + rate * last).max(line.course.last().map_or(0.0, |(_, count)| *count));
    let x = |at: f64| LEFT + at / last * WIDTH;
    let y = |count: f64| top + HEIGHT - count / most * HEIGHT;
    writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{}\" font-size=\"14\">{}: requests admitted, and burst + rate · t</text>",
        top - 12.0,
        line.name
    )?;
    for part in 0..=4 {
        let (at, count) = (last * f64::from(part) / 4.0, most * f64::from(part) / 4.0);
        writeln!(
            text,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{count:.0}</text>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{at:.1} s</text>",
            LEFT + WIDTH,
            LEFT - 8.0,
            y(count) + 4.0,
            x(at),
            top + HEIGHT + 18.0,
            y = y(count),
        )?;
    }
    let bound = format!(
        "{:.1},{:.1} {:.1},{:.1}",
        x(0.0),
        y(burst),
        x(last),
        y(burst + rate * last)
    );
    writeln!(
        text,
        "<polyline points=\"{bound}\" fill=\"none\" stroke=\"#c33\" stroke-dasharray=\"6 4\"/>"
    )?;
    let course = line.course.iter();
    let points: Vec<String> = course
        .map(|(at, count)| format!("{:.1},{:.1}", x(*at), y(*count)))
        .collect();
    writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#236\" stroke-width=\"1.5\"/>",
        points.join(" ")
    )
}
