//! Single calls beside the load: logging in, counting, and whole answers to hold the mass against.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use runtime::client::{Client, ClientError};
use serde_json::Value;
use tokio::process::Command;

use super::limits::Limits;
use crate::stream::Stream;

const DEADLINE: Duration = Duration::from_secs(15);
const MAX_BODY: usize = 4 << 20;
/// How long refusals that ask for patience are waited out, all waits of one call together.
const PATIENCE: Duration = Duration::from_secs(120);

const REDIS_FAILURES: &str = r#"gateway_limiter_redis_calls_total{outcome="failed"}"#;

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<String>,
}

impl Ask {
    pub(super) fn get(path: &str) -> Self {
        Self::new(Method::GET, path, None)
    }

    pub(super) fn json(method: Method, path: &str, body: &Value) -> Self {
        Self::new(method, path, Some(body.to_string()))
    }

    fn new(method: Method, path: &str, body: Option<String>) -> Self {
        Self {
            method,
            path: path.to_owned(),
            body,
        }
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) limits: Limits,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What to tell of an answer that was not expected.
    pub(super) fn told(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let short: String = body.chars().take(200).collect();
        format!("{} {short}", self.status)
    }

    /// How long the answer asks to wait before another attempt.
    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        matches!(self.status, 429 | 503)
            .then(|| seconds.parse().ok())
            .flatten()
            .map(Duration::from_secs)
    }
}

/// The platform at one address.
#[derive(Clone)]
pub(super) struct Api {
    base: String,
    client: Client,
}

impl Api {
    /// `http://HOST:PORT`, and nothing behind it.
    pub(super) fn new(base: &str) -> anyhow::Result<Self> {
        let base = base.trim_end_matches('/');
        let uri: http::Uri = base
            .parse()
            .with_context(|| format!("`{base}` is not a URL"))?;
        let bare = uri.authority().is_some() && uri.path() == "/" && uri.query().is_none();
        if uri.scheme_str() != Some("http") || !bare {
            bail!("`{base}` is not of the form http://HOST:PORT");
        }
        Ok(Self {
            base: base.to_owned(),
            client: Client::new(),
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn url(&self, ask: &Ask) -> String {
        format!("{}{}", self.base, ask.path)
    }

    fn request(&self, ask: &Ask, token: Option<&str>) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(self.url(ask))
            .body(Full::from(ask.body.clone().unwrap_or_default()))?;
        if ask.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        if let Some(token) = token {
            let bearer = HeaderValue::try_from(format!("Bearer {token}"))?;
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        Ok(request)
    }

    fn explain(&self, ask: &Ask, error: ClientError) -> anyhow::Error {
        match error.is_connect() {
            true => anyhow::anyhow!(
                "nothing listens at {}; start it with `make run` or `make up`",
                self.base
            ),
            false => anyhow::Error::new(error).context(format!("{ask} gave no whole answer")),
        }
    }

    /// The user's event stream, open.
    pub(super) async fn listen(&self, token: Option<&str>) -> anyhow::Result<Stream> {
        let ask = Ask::get("/api/notifications/stream");
        let request = self.request(&ask, token)?;
        let answer = self.client.send(request, DEADLINE).await;
        let answer = answer.map_err(|error| self.explain(&ask, error))?;
        match answer.status() {
            StatusCode::OK => Ok(Stream::read(answer.into_body())),
            status => bail!("{ask} answered {status}"),
        }
    }

    /// One call, whatever it answers.
    pub(super) async fn call(&self, ask: &Ask, token: Option<&str>) -> anyhow::Result<Answer> {
        let request = self.request(ask, token)?;
        let answer = self.client.call(request, DEADLINE, MAX_BODY).await;
        let answer = answer.map_err(|error| self.explain(ask, error))?;
        let limits = Limits::read(&answer.headers);
        Ok(Answer {
            status: answer.status.as_u16(),
            limits: limits.map_err(|why| anyhow::anyhow!("{ask}: {why}"))?,
            headers: answer.headers,
            body: answer.body,
        })
    }

    /// The same, waiting as long as refusals ask to, up to a bound. The first wait of more than a
    /// second is told.
    pub(super) async fn patiently(
        &self,
        ask: &Ask,
        token: Option<&str>,
        tell: &mut (dyn FnMut(&str) + Send),
    ) -> anyhow::Result<Answer> {
        let began = Instant::now();
        let mut told = false;
        loop {
            let answer = self.call(ask, token).await?;
            let Some(wait) = answer.retry_after() else {
                return Ok(answer);
            };
            if began.elapsed() + wait > PATIENCE {
                bail!(
                    "{ask} was still refused after {PATIENCE:?}: {}",
                    answer.told()
                );
            }
            if !told && wait > Duration::from_secs(1) {
                told = true;
                tell(&format!("waiting {wait:?} for the limit of {ask}"));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// How many calls to Redis have failed at the gateway whose admin listener this is.
    pub(super) async fn redis_failures(&self, admin: &str) -> anyhow::Result<u64> {
        let metrics = match admin.strip_prefix("container:") {
            Some(container) => metrics_inside(container).await?,
            None => {
                let metrics = format!("{admin}/metrics").parse()?;
                self.client.get(&metrics, DEADLINE, MAX_BODY).await?.body
            }
        };
        let text = String::from_utf8_lossy(&metrics);
        let failed = text
            .lines()
            .find_map(|line| line.strip_prefix(REDIS_FAILURES));
        failed
            .context("no such metric")?
            .trim()
            .parse()
            .context("no number")
    }

    /// Patiently, and the answer must have `status`.
    pub(super) async fn must(
        &self,
        ask: &Ask,
        token: Option<&str>,
        status: u16,
    ) -> anyhow::Result<Answer> {
        let answer = self.patiently(ask, token, &mut |_| ()).await?;
        match answer.status == status {
            true => Ok(answer),
            false => bail!("{ask} answered {}", answer.told()),
        }
    }
}

/// What the gateway in a container says of itself: its admin listener is reachable from inside only.
async fn metrics_inside(container: &str) -> anyhow::Result<Bytes> {
    let ask = ["/gateway", "healthcheck", "http://127.0.0.1:9001/metrics"];
    let mut docker = Command::new("docker");
    docker
        .args(["exec", container])
        .args(ask)
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, docker.output()).await??;
    match output.status.success() {
        true => Ok(output.stdout.into()),
        false => bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_a_platform_is_taken() {
        assert_eq!(
            Api::new("http://127.0.0.1:8080/").unwrap().base(),
            "http://127.0.0.1:8080"
        );
        for url in [
            "https://127.0.0.1",
            "127.0.0.1:8080",
            "http://h/x",
            "http://h?x",
            "",
        ] {
            assert!(Api::new(url).is_err(), "{url}");
        }
    }
}
