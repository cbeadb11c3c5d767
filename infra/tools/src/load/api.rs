//! Single calls to the platform: logins, counts, and complete answers that the load's answers are
//! compared with.

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
/// How long one call may wait in total for refusals that carry Retry-After.
const MAX_WAIT: Duration = Duration::from_secs(120);

const REDIS_FAILURES: &str = r#"gateway_limiter_redis_calls_total{outcome="failed"}"#;

/// A request to the platform.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<String>,
}

impl Call {
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

impl std::fmt::Display for Call {
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

    /// Status and beginning of the body, for messages about an unexpected answer.
    pub(super) fn summary(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let short: String = body.chars().take(200).collect();
        format!("{} {short}", self.status)
    }

    /// How long to wait before another attempt, as the answer's Retry-After says.
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
    /// `base` is `http://HOST:PORT`, without path or query.
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

    pub(super) fn url(&self, call: &Call) -> String {
        format!("{}{}", self.base, call.path)
    }

    fn request(&self, call: &Call, token: Option<&str>) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(self.url(call))
            .body(Full::from(call.body.clone().unwrap_or_default()))?;
        if call.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        if let Some(token) = token {
            let bearer = HeaderValue::try_from(format!("Bearer {token}"))?;
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        Ok(request)
    }

    fn explain(&self, call: &Call, error: ClientError) -> anyhow::Error {
        match error.is_connect() {
            true => anyhow::anyhow!(
                "nothing listens at {}; start it with `make run` or `make up`",
                self.base
            ),
            false => anyhow::Error::new(error).context(format!("{call} gave no complete answer")),
        }
    }

    /// Opens the user's event stream.
    pub(super) async fn listen(&self, token: Option<&str>) -> anyhow::Result<Stream> {
        let call = Call::get("/api/notifications/stream");
        let request = self.request(&call, token)?;
        let answer = self.client.send(request, DEADLINE).await;
        let answer = answer.map_err(|error| self.explain(&call, error))?;
        match answer.status() {
            StatusCode::OK => Ok(Stream::read(answer.into_body())),
            status => bail!("{call} answered {status}"),
        }
    }

    /// Sends one request and returns its answer, whatever the status.
    pub(super) async fn call(&self, call: &Call, token: Option<&str>) -> anyhow::Result<Answer> {
        let request = self.request(call, token)?;
        let answer = self.client.call(request, DEADLINE, MAX_BODY).await;
        let answer = answer.map_err(|error| self.explain(call, error))?;
        let limits = Limits::read(&answer.headers);
        Ok(Answer {
            status: answer.status.as_u16(),
            limits: limits.map_err(|why| anyhow::anyhow!("{call}: {why}"))?,
            headers: answer.headers,
            body: answer.body,
        })
    }

    /// Sends a request, again after the time that a refusal's Retry-After names. Fails when the waits
    /// exceed [`MAX_WAIT`] in total. Reports the first wait of more than a second to `progress`.
    pub(super) async fn call_with_retry(
        &self,
        call: &Call,
        token: Option<&str>,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> anyhow::Result<Answer> {
        let began = Instant::now();
        let mut reported = false;
        loop {
            let answer = self.call(call, token).await?;
            let Some(wait) = answer.retry_after() else {
                return Ok(answer);
            };
            if began.elapsed() + wait > MAX_WAIT {
                bail!(
                    "{call} was still refused after {MAX_WAIT:?}: {}",
                    answer.summary()
                );
            }
            if !reported && wait > Duration::from_secs(1) {
                reported = true;
                progress(&format!("waiting {wait:?} for the limit of {call}"));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// How many calls to Redis have failed at the gateway with this admin listener.
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

    /// Like [`Self::call_with_retry`]; fails unless the answer has `status`.
    pub(super) async fn expect_status(
        &self,
        call: &Call,
        token: Option<&str>,
        status: u16,
    ) -> anyhow::Result<Answer> {
        let answer = self.call_with_retry(call, token, &mut |_| ()).await?;
        match answer.status == status {
            true => Ok(answer),
            false => bail!("{call} answered {}", answer.summary()),
        }
    }
}

/// The metrics of a gateway in a container, whose admin listener is reachable from inside only.
async fn metrics_inside(container: &str) -> anyhow::Result<Bytes> {
    let command = ["/gateway", "healthcheck", "http://127.0.0.1:9001/metrics"];
    let mut docker = Command::new("docker");
    docker
        .args(["exec", container])
        .args(command)
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
