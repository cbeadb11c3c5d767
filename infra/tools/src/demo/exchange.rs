//! One request and its answer, and the checks that apply to every answer.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use runtime::client::{Client, ClientError};
use serde_json::Value;

use super::conformance;
use super::screen::Screen;

const DEADLINE: Duration = Duration::from_secs(15);
const MAX_BODY: usize = 1 << 20;

/// A request, and the status that its answer must have.
pub(super) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Value>,
    status: u16,
    limited: bool,
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>, status: u16) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: None,
            status,
            limited: true,
        }
    }

    pub(super) fn get(path: impl Into<String>, status: u16) -> Self {
        Self::new(Method::GET, path, status)
    }

    pub(super) fn json(mut self, body: Value) -> Self {
        let json = HeaderValue::from_static("application/json");
        self.headers.insert(header::CONTENT_TYPE, json);
        self.body = Some(body);
        self
    }

    pub(super) fn bearer(self, token: &str) -> anyhow::Result<Self> {
        self.header(header::AUTHORIZATION, &format!("Bearer {token}"))
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> anyhow::Result<Self> {
        self.headers.insert(name, HeaderValue::try_from(value)?);
        Ok(self)
    }

    /// Marks a request that is answered before any rate limit applies.
    pub(super) fn unlimited(mut self) -> Self {
        self.limited = false;
        self
    }

    fn request(&self, base: &str) -> anyhow::Result<Request<Full<bytes::Bytes>>> {
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(&self.method)
            .uri(format!("{base}{}", self.path))
            .body(Full::from(body))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// Sends calls and shows them.
pub(super) struct Http {
    base: String,
    client: Client,
}

impl Http {
    pub(super) fn new(base: &str) -> anyhow::Result<Self> {
        let base = base.trim_end_matches('/');
        let uri: http::Uri = base
            .parse()
            .with_context(|| format!("`{base}` is not a URL"))?;
        let bare = uri.authority().is_some() && uri.path() == "/" && uri.query().is_none();
        if uri.scheme_str() != Some("http") || !bare {
            bail!("`{base}` is not of the form http://HOST:PORT");
        }
        let base = base.to_owned();
        Ok(Self {
            base,
            client: Client::new(),
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request, shows it and its answer, and makes the checks that apply to every answer.
    pub(super) async fn exchange(
        &self,
        call: Call,
        screen: &mut Screen<'_>,
    ) -> anyhow::Result<Answer> {
        screen.request(
            call.method.as_str(),
            &call.path,
            &call.headers,
            call.body.as_ref(),
        )?;
        let began = Instant::now();
        let answer = self
            .client
            .call(call.request(&self.base)?, DEADLINE, MAX_BODY)
            .await
            .map_err(|error| self.explain(error, &call))?;
        let took = began.elapsed();

        let json = serde_json::from_slice(&answer.body).ok();
        screen.answer(answer.status, &answer.headers, json.as_ref(), took)?;
        let answer = Answer {
            request: format!("{} {}", call.method, call.path),
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            json: json.unwrap_or_default(),
            facts: Vec::new(),
        };
        answer.conforms_to(&call)
    }

    /// Opens an event stream. Its head is shown and checked; the caller reads the body.
    pub(super) async fn open(
        &self,
        call: Call,
        screen: &mut Screen<'_>,
    ) -> anyhow::Result<(Answer, Incoming)> {
        screen.request(call.method.as_str(), &call.path, &call.headers, None)?;
        let began = Instant::now();
        let sent = self.client.send(call.request(&self.base)?, DEADLINE).await;
        let (head, body) = sent
            .map_err(|error| self.explain(error, &call))?
            .into_parts();
        screen.answer(head.status, &head.headers, None, began.elapsed())?;
        let mut answer = Answer {
            request: format!("{} {}", call.method, call.path),
            status: head.status,
            headers: head.headers,
            body: bytes::Bytes::new(),
            json: Value::Null,
            facts: Vec::new(),
        };
        answer.has_status(call.status)?;
        answer.has_headers(&call)?;
        let kind = answer.header("content-type").unwrap_or_default();
        let is_stream = kind.starts_with("text/event-stream");
        answer.check(is_stream, "an event stream")?;
        Ok((answer, body))
    }

    fn explain(&self, error: ClientError, call: &Call) -> anyhow::Error {
        match error.is_connect() {
            true => anyhow::anyhow!(
                "nothing listens at {}; start the platform with `make run` or `make up` first, or name its address with --url",
                self.base
            ),
            false => anyhow::Error::new(error).context(format!(
                "{} {} gave no complete answer",
                call.method, call.path
            )),
        }
    }
}

/// An answer, and the facts about it that were checked so far.
pub(super) struct Answer {
    /// Method and path, for messages.
    request: String,
    status: StatusCode,
    headers: HeaderMap,
    body: bytes::Bytes,
    pub(super) json: Value,
    facts: Vec<String>,
}

impl Answer {
    fn conforms_to(mut self, call: &Call) -> anyhow::Result<Self> {
        self.has_status(call.status)?;
        self.has_headers(call)?;
        let fits = conformance::content_type(&self.headers, call.status, &self.body);
        self.require(fits)?;
        if !self.body.is_empty() && self.json.is_null() {
            return Err(self.wrong("its body is not JSON"));
        }
        if call.status >= 400 {
            let path = call.path.split('?').next().unwrap_or_default();
            let id = self.header("x-request-id").unwrap_or_default();
            let verdict = conformance::problem(&self.json, call.status, path, id);
            self.require(verdict)?;
            self.facts.push(format!("problem {}", self.text("/type")?));
        }
        Ok(self)
    }

    fn has_status(&mut self, wanted: u16) -> anyhow::Result<()> {
        if self.status != wanted {
            let short: String = String::from_utf8_lossy(&self.body)
                .chars()
                .take(300)
                .collect();
            return Err(self.wrong(&format!("its status is not {wanted}: {short}")));
        }
        self.facts.push(wanted.to_string());
        Ok(())
    }

    fn has_headers(&mut self, call: &Call) -> anyhow::Result<()> {
        if self.header("x-request-id").is_none_or(str::is_empty) {
            return Err(self.wrong("it has no x-request-id, or several"));
        }
        self.require(conformance::no_internal_header(&self.headers))?;
        if call.limited {
            self.require(conformance::rate_limit(&self.headers))?;
        }
        Ok(())
    }

    /// Notes `fact` if it `holds`; fails otherwise.
    pub(super) fn check(&mut self, holds: bool, fact: &str) -> anyhow::Result<()> {
        match holds {
            true => self.facts.push(fact.to_owned()),
            false => return Err(self.wrong(&format!("this does not hold: {fact}"))),
        }
        Ok(())
    }

    /// Fails if `verdict` is an error.
    pub(super) fn require(&self, verdict: Result<(), String>) -> anyhow::Result<()> {
        verdict.map_err(|why| self.wrong(&why))
    }

    /// A member of the body that is a string, by its JSON pointer.
    pub(super) fn text(&self, pointer: &str) -> anyhow::Result<String> {
        match self.json.pointer(pointer).and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(self.wrong(&format!("{pointer} is not text"))),
        }
    }

    /// The items of a page as the contract defines it, each with exactly these members.
    pub(super) fn items(&self, names: &[&str]) -> anyhow::Result<&[Value]> {
        self.require(conformance::members(&self.json, conformance::LIST))?;
        let items = self.json["items"].as_array();
        let items = items.ok_or_else(|| self.wrong("`items` is not an array"))?;
        items
            .iter()
            .try_for_each(|item| self.require(conformance::members(item, names)))?;
        Ok(items)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        conformance::text(&self.headers, name)
    }

    /// Shows what was checked.
    pub(super) fn pass(self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        Ok(screen.passed(&self.facts)?)
    }

    fn wrong(&self, why: &str) -> anyhow::Error {
        anyhow::anyhow!(
            "{} answered {}, which violates the contract: {why}",
            self.request,
            self.status
        )
    }
}
