//! Single values: durations, sizes, rates, addresses, paths, matches.
//!
//! Each function turns a text into a value, or into an error that says what to write. The errors
//! repeat the text, so these functions must never parse a secret.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;

use super::model::{Host, HostPort, Match, Rate};
use crate::request::canonical;

/// Longer than any sensible time-out, and safe to add to a clock.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// `500ms`, `10s`, `5min`, `1h`; longer than zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// Like [`duration`], but may be zero.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = runtime::env::parse_duration(text)?;
    match duration <= MAX_DURATION {
        true => Ok(duration),
        false => Err(format!("`{text}` is too long; the most is 168h")),
    }
}

/// `512KiB`, `1MiB`, `21GiB`, in bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write for example 512KiB, 1MiB or 2GiB");
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `100/s`, `30/min`, `5/h`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("`{text}` is not a rate; write for example 100/s, 30/min or 5/h");
    let (tokens, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let per = match unit {
        "/s" => Duration::from_secs(1),
        "/min" => Duration::from_secs(60),
        "/h" => Duration::from_secs(3600),
        _ => return Err(wrong()),
    };
    match u32::try_from(tokens) {
        Ok(0) => Err("a rate is at least one, for example 1/h".to_owned()),
        Ok(tokens) => Ok(Rate { tokens, per }),
        Err(_) => Err(format!("`{text}` is too much; the most is {}", u32::MAX)),
    }
}

/// A whole number in `range`.
pub(super) fn count(range: std::ops::RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, String> {
    move |text| match text.parse::<u32>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "`{text}` must be a whole number, {} to {}",
            range.start(),
            range.end()
        )),
    }
}

/// A share, `0` to `1`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` must be a number from 0 to 1")),
    }
}

/// `true` or `false`.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    one_of(&[("true", true), ("false", false)])(text)
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| match choices.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Err(format!("`{text}` must be one of {}", words.join(", ")))
        }
    }
}

/// An address to listen on, `127.0.0.1:8001` or `[::1]:8001`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an address; write address:port, for example 0.0.0.0:8001")
    })
}

/// `127.0.0.1:4001`, `[::1]:4001` or `tasks.internal:4001`.
pub(super) fn host_port(text: &str) -> Result<HostPort, String> {
    let wrong = || format!("`{text}` is not host:port, for example 127.0.0.1:4001 or tasks:4001");
    let (host, port) = match text.parse::<SocketAddr>() {
        Ok(address) => (Host::Address(address.ip()), address.port()),
        Err(_) => {
            let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
            let name = dns_name(name).ok_or_else(wrong)?;
            (Host::Name(name), port.parse().map_err(|_| wrong())?)
        }
    };
    match port {
        0 => Err(format!("`{text}`: port 0 cannot be connected to")),
        port => Ok(HostPort { host, port }),
    }
}

/// An address block such as `10.0.0.0/8`; a bare address stands for itself.
pub(super) fn address_block(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let block: IpNet = text
        .parse()
        .map_err(|_| format!("`{text}` is not an address block; write for example 10.0.0.0/8"))?;
    match block.trunc() == block {
        true => Ok(block),
        false => Err(format!(
            "`{text}` has bits set beyond its prefix; write {} or {}/{}",
            block.trunc(),
            block.addr(),
            block.max_prefix_len()
        )),
    }
}

/// Checks the name of a service or a policy. Names are used in metrics, keys and header fields.
pub(super) fn name(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    match (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        true => Ok(()),
        false => Err(format!(
            "the name {text:?} must be 1 to 64 lower-case letters, digits, `_` or `-`"
        )),
    }
}

/// A path that is compared byte by byte: canonical, and without characters that have a second
/// spelling.
pub(super) fn literal_path(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    match canonical::path(text) {
        Ok(path) if path.query().is_none() && text.bytes().all(plain) => Ok(text.to_owned()),
        Ok(_) => Err(format!(
            "`{text}` may hold only letters, digits, `/`, `-`, `.`, `_` and `~`"
        )),
        Err(why) => Err(format!("`{text}` is not a path: {}", why.detail())),
    }
}

/// A service's prefix, `/api/users`; `/` becomes the empty prefix.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let path = literal_path(text)?;
    match path.strip_suffix('/') {
        None => Ok(path),
        Some("") => Ok(String::new()),
        Some(without) => Err(format!("must not end with a slash; write {without}")),
    }
}

/// `METHOD /path`, where `{name}` is one segment and `{*rest}` is all the remaining segments.
pub(super) fn matches(text: &str) -> Result<Match, String> {
    let wrong = || format!("`{text}` is not a match; write METHOD /path, for example GET /items");
    let (method, pattern) = text.split_once(' ').ok_or_else(wrong)?;
    let method = match Method::from_str(method) {
        Ok(method) if method.as_str().bytes().all(|b| b.is_ascii_uppercase()) => method,
        _ => {
            return Err(format!(
                "`{method}` is not a method; write for example GET or POST"
            ));
        }
    };
    if !canonical::method_is_served(&method) {
        return Err(format!("{method} is never served, so this cannot match"));
    }
    if pattern != "/" {
        check_pattern(pattern).map_err(|why| format!("`{pattern}`: {why}"))?;
    }
    Ok(Match {
        method,
        pattern: pattern.to_owned(),
    })
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    let segments = pattern.strip_prefix('/').ok_or("must start with a slash")?;
    let mut names: Vec<&str> = Vec::new();
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let Some(parameter) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
            // With a slash before it, a segment is a path of its own.
            literal_path(&format!("/{segment}"))?;
            if segment.is_empty() && segments.peek().is_some() {
                return Err("has an empty segment".to_owned());
            }
            continue;
        };
        let name = match parameter.strip_prefix('*') {
            Some(_) if segments.peek().is_some() => {
                return Err("`{*rest}` must be the last segment".to_owned());
            }
            rest => rest.unwrap_or(parameter),
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(letters) {
            return Err(format!("`{segment}` must be {{name}} or {{*rest}}"));
        }
        if names.contains(&name) {
            return Err(format!("`{name}` stands there twice"));
        }
        names.push(name);
    }
    Ok(())
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..unit].parse().ok()?, &text[unit..]))
}

/// A DNS name, in lower case. `_` is allowed, because container networks use it.
fn dns_name(text: &str) -> Option<String> {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(letters)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = text.strip_suffix('.').unwrap_or(text);
    // Only digits and dots: a mistyped address, not a name.
    let numeric = labels.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let valid = text.len() <= 253 && !numeric && labels.split('.').all(label);
    valid.then(|| text.to_ascii_lowercase())
}
