//! `auth`: the token issuers and their keys.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, Uri};
use runtime::secret::Secret;

use super::model::{Algorithm, Auth, Issuer, KeySource};
use super::scalars::{duration_or_zero, flag, one_of};
use super::setting::{Section, Setting};

/// RFC 7518 requires a key as long as the hash.
const MIN_SECRET_BYTES: usize = 32;
const DEFAULT_LEEWAY: Duration = Duration::from_secs(5);

pub(super) fn auth(keys: &mut Section<'_, '_>) -> Option<Auth> {
    let leeway = keys.parse("leeway", duration_or_zero);
    let mut names = Vec::new();
    let issuers = keys.required("issuers", |v| {
        let issuers = v.list(|v| v.section(|keys| issuer(keys, &mut names)))?;
        match issuers.is_empty() {
            true => v.refuse("names no issuer; no token could ever be valid"),
            false => Some(issuers),
        }
    });
    Some(Auth {
        leeway: leeway.unwrap_or(DEFAULT_LEEWAY),
        issuers: issuers?,
    })
}

/// `names` holds the issuers read so far.
fn issuer(keys: &mut Section<'_, '_>, names: &mut Vec<String>) -> Option<Issuer> {
    let issuer = keys.required("issuer", |v| {
        let name = v.parse(not_empty)?;
        if names.contains(&name) {
            return v.refuse(format!("the issuer `{name}` stands there already"));
        }
        names.push(name.clone());
        Some(name)
    });
    let audience = keys.required("audience", |v| v.parse(not_empty));
    let source = key_source(keys);
    let algorithms = algorithms(keys, source.as_ref());
    let claims_to_headers = match keys.get("claims_to_headers") {
        Some(claims) => claims_to_headers(&claims),
        None => Some(BTreeMap::new()),
    };
    Some(Issuer {
        issuer: issuer?,
        audience: audience?,
        keys: source?,
        algorithms: algorithms?,
        claims_to_headers: claims_to_headers?,
    })
}

/// Exactly one source.
fn key_source(keys: &mut Section<'_, '_>) -> Option<KeySource> {
    const SOURCES: &str = "`jwks_url`, `jwks_file` or `hs256_secret` (or `hs256_secret_file`)";
    if let Some(discovery) = keys.get("discovery")
        && discovery.parse(flag) == Some(true)
    {
        return discovery.refuse(format!(
            "`discovery` is not supported by this version; give {SOURCES}"
        ));
    }
    let (url, file) = (keys.get("jwks_url"), keys.get("jwks_file"));
    match (url, file, keys.has_secret("hs256_secret")) {
        (Some(url), None, false) => url.parse(jwks_url).map(KeySource::JwksUrl),
        (None, Some(file), false) => {
            let path = file.file_path()?;
            match path.is_file() {
                true => Some(KeySource::JwksFile(path)),
                false => file.refuse(format!("{} is not a file", path.display())),
            }
        }
        (None, None, true) => keys.secret("hs256_secret", shared_secret),
        (None, None, false) => keys.refuse(format!("has no source of keys; give {SOURCES}")),
        _ => keys.refuse(format!(
            "has more than one source of keys; keep one of {SOURCES}"
        )),
    }
}

fn shared_secret(text: &str) -> Result<KeySource, String> {
    match text.len() >= MIN_SECRET_BYTES {
        true => Ok(KeySource::SharedSecret(Secret::new(text))),
        false => Err(format!("must have at least {MIN_SECRET_BYTES} bytes")),
    }
}

fn jwks_url(text: &str) -> Result<Uri, String> {
    let wrong = || format!("`{text}` is not a URL, for example http://127.0.0.1:4001/jwks.json");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) if !host.is_empty() => Ok(uri),
        (Some("https"), _) => Err(
            "https is not supported by this version; download the keys and name them with \
             `jwks_file`, or use an http URL inside your network"
                .to_owned(),
        ),
        _ => Err(wrong()),
    }
}

/// The allow-list. It never mixes public keys with a shared secret: otherwise an attacker could
/// sign a token with the public key as the secret.
fn algorithms(keys: &mut Section<'_, '_>, source: Option<&KeySource>) -> Option<Vec<Algorithm>> {
    let shared_secret = source.map(|source| matches!(source, KeySource::SharedSecret(_)));
    let Some(list) = keys.get("algorithms") else {
        let default = match shared_secret {
            Some(true) => Algorithm::Hs256,
            _ => Algorithm::EdDsa,
        };
        return Some(vec![default]);
    };
    let mut seen = Vec::new();
    let algorithms = list.list(|v| {
        let algorithm = v.parse(one_of(&[
            ("EdDSA", Algorithm::EdDsa),
            ("ES256", Algorithm::Es256),
            ("RS256", Algorithm::Rs256),
            ("HS256", Algorithm::Hs256),
        ]))?;
        if seen.contains(&algorithm) {
            return v.refuse("stands there already");
        }
        seen.push(algorithm);
        match (algorithm, shared_secret) {
            (Algorithm::Hs256, Some(false)) => v.refuse(
                "HS256 needs a shared secret: give `hs256_secret` instead of the keys' address",
            ),
            (Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Rs256, Some(true)) => {
                v.refuse("needs public keys; with `hs256_secret` only HS256 is possible")
            }
            _ => Some(algorithm),
        }
    })?;
    match algorithms.is_empty() {
        true => list.refuse("names no algorithm; write for example [EdDSA]"),
        false => Some(algorithms),
    }
}

fn claims_to_headers(claims: &Setting<'_>) -> Option<BTreeMap<String, HeaderName>> {
    let mut headers = Vec::new();
    let entries = claims.named(|claim, v| {
        let header = v.parse(claim_header)?;
        if headers.contains(&header) {
            return v.refuse(format!("`{header}` carries another claim already"));
        }
        headers.push(header.clone());
        Some((claim.to_owned(), header))
    })?;
    Some(entries.into_iter().collect())
}

fn claim_header(text: &str) -> Result<HeaderName, String> {
    let wrong = || format!("`{text}` must be a header name below `x-claim-`, as x-claim-tenant");
    let header: HeaderName = text.parse().map_err(|_| wrong())?;
    let rest = header.as_str().strip_prefix("x-claim-").ok_or_else(wrong)?;
    match !rest.is_empty() && !rest.contains('_') {
        true => Ok(header),
        false => Err(wrong()),
    }
}

fn not_empty(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("must not be empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}
