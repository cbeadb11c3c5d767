//! The output: requests, answers and what was checked. Secrets are shortened or masked, so a recording
//! of the demo can be shared.

use std::io::{self, Write};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

/// The headers that are shown, in this order.
const SHOWN: &[&str] = &[
    "authorization",
    "content-type",
    "location",
    "etag",
    "if-match",
    "if-none-match",
    "x-user-id",
    "www-authenticate",
    "retry-after",
    "ratelimit-policy",
    "ratelimit",
    "x-request-id",
];
const MAX_TEXT: usize = 72;
const MAX_ITEMS: usize = 5;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";
const YELLOW: &str = "33";

pub(super) struct Screen<'a> {
    out: &'a mut (dyn Write + Send),
    colour: bool,
    steps: u32,
}

impl<'a> Screen<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send), colour: bool) -> Self {
        Self {
            out,
            colour,
            steps: 0,
        }
    }

    /// A heading.
    pub(super) fn step(&mut self, title: &str) -> io::Result<()> {
        self.steps += 1;
        let title = self.paint(BOLD, &format!("{}. {title}", self.steps));
        writeln!(self.out, "\n{title}")
    }

    pub(super) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &HeaderMap,
        body: Option<&Value>,
    ) -> io::Result<()> {
        let line = self.paint(CYAN, &format!("→ {method} {path}"));
        writeln!(self.out, "  {line}")?;
        self.message(headers, body)
    }

    pub(super) fn answer(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&Value>,
        took: Duration,
    ) -> io::Result<()> {
        let line = self.paint(YELLOW, &format!("← {status}"));
        let took = self.paint(DIM, &format!("{:.1} ms", took.as_secs_f64() * 1000.0));
        writeln!(self.out, "  {line}  {took}")?;
        self.message(headers, body)
    }

    /// An event of a stream.
    pub(super) fn event(&mut self, head: &str, data: &Value) -> io::Result<()> {
        let head = self.paint(YELLOW, &format!("⇠ {head}"));
        writeln!(self.out, "  {head}\n      {}", compact(data))
    }

    /// What was checked and found correct.
    pub(super) fn passed(&mut self, facts: &[String]) -> io::Result<()> {
        let line = self.paint(GREEN, &format!("✓ {}", facts.join(", ")));
        writeln!(self.out, "  {line}")
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    fn message(&mut self, headers: &HeaderMap, body: Option<&Value>) -> io::Result<()> {
        for name in SHOWN {
            for value in headers.get_all(*name) {
                let line = self.paint(DIM, &header(name, value));
                writeln!(self.out, "    {line}")?;
            }
        }
        if let Some(body) = body {
            for line in pretty(body).lines() {
                writeln!(self.out, "    {line}")?;
            }
        }
        self.out.flush()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

fn header(name: &str, value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.split_once(' ') {
        Some((scheme, token)) if name == http::header::AUTHORIZATION => {
            format!("{name}: {scheme} {}", shorten(token, 12))
        }
        _ => format!("{name}: {text}"),
    }
}

/// One member or item per line; nested values are compact.
fn pretty(value: &Value) -> String {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let lines: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("  \"{name}\": {}", member(name, value, pretty_list)))
                .collect();
            format!("{{\n{}\n}}", lines.join(",\n"))
        }
        other => compact(other),
    }
}

fn pretty_list(value: &Value) -> String {
    match value {
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let mut lines: Vec<_> = items
                .iter()
                .take(MAX_ITEMS)
                .map(|item| format!("    {}", compact(item)))
                .collect();
            if items.len() > MAX_ITEMS {
                lines.push(format!("    … {} more", items.len() - MAX_ITEMS));
            }
            format!("[\n{}\n  ]", lines.join(",\n"))
        }
        other => compact(other),
    }
}

fn compact(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\": {}", member(name, value, compact)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(compact).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) => Value::String(shorten(text, MAX_TEXT)).to_string(),
        other => other.to_string(),
    }
}

/// A member's value, written by `write` unless it is a secret.
fn member(name: &str, value: &Value, write: fn(&Value) -> String) -> String {
    match value {
        Value::String(_) if name.contains("password") => "\"••••••••\"".to_owned(),
        Value::String(token) if name.ends_with("_token") => format!("\"{}\"", shorten(token, 12)),
        other => write(other),
    }
}

fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(show: impl FnOnce(&mut Screen<'_>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        show(&mut Screen::new(&mut out, false)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_secret_is_shown_whole() {
        let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, bearer)]);
        let body = json!({"password": "correct horse", "access_token": token,
            "inner": {"current_password": "correct horse", "refresh_token": token}});
        let text = shown(|screen| screen.request("POST", "/login", &headers, Some(&body)));
        assert!(
            !text.contains("correct horse") && !text.contains(token),
            "{text}"
        );
        assert!(
            text.contains("authorization: Bearer eyJhbGciOiJF…"),
            "{text}"
        );
        assert!(
            text.contains("\"access_token\": \"eyJhbGciOiJF…\""),
            "{text}"
        );
    }

    #[test]
    fn long_answers_stay_short() {
        let items: Vec<_> = (0..9)
            .map(|n| json!({"n": n, "text": "x".repeat(200)}))
            .collect();
        let text = pretty(&json!({"items": items, "next_cursor": null}));
        assert_eq!(text.lines().count(), 11);
        assert!(text.contains("… 4 more") && text.lines().all(|line| line.chars().count() < 120));
    }
}
