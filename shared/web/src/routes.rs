//! The route table: it maps paths and methods to handlers, and decides what each handler may assume about its
//! caller.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use contract::identity::Caller;
use contract::problem::{Kind, Problem};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;

use super::reply::Reply;
use super::request::{Anybody, Public, Request};

type Answer = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;
type Handler<C> = Box<dyn Fn(Arc<C>, Sender, Parts, Incoming, Params) -> Answer + Send + Sync>;
type Params = Vec<(String, String)>;

/// What is known about the sender before a route is found.
pub(super) enum Sender {
    /// No valid signature; the reason is for the log.
    Unsigned,
    /// Signed, with the caller if there is one.
    Signed(Option<Caller>),
}

/// What a handler requires of its sender. Only this crate makes a [`Sender`].
trait Access: Sized {
    const SIGNED: bool;
    fn admit(sender: Sender) -> Result<Self, Problem>;
}

impl Access for Caller {
    const SIGNED: bool = true;
    fn admit(sender: Sender) -> Result<Self, Problem> {
        match sender {
            Sender::Signed(Some(caller)) => Ok(caller),
            Sender::Signed(None) | Sender::Unsigned => Err(unauthenticated()),
        }
    }
}

impl Access for Public {
    const SIGNED: bool = true;
    fn admit(sender: Sender) -> Result<Self, Problem> {
        match sender {
            Sender::Signed(_) => Ok(Public),
            Sender::Unsigned => Err(unauthenticated()),
        }
    }
}

impl Access for Anybody {
    const SIGNED: bool = false;
    fn admit(_: Sender) -> Result<Self, Problem> {
        Ok(Anybody)
    }
}

fn unauthenticated() -> Problem {
    Problem::new(
        Kind::Unauthenticated,
        "This service answers requests that come through the gateway only.",
    )
    .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

struct Endpoint<C> {
    method: Method,
    signed: bool,
    handler: Handler<C>,
}

/// All endpoints of one path.
struct Resource<C> {
    pattern: &'static str,
    endpoints: Vec<Endpoint<C>>,
}

/// All routes of a worker. `C` is the context that its handlers share.
pub struct Routes<C> {
    paths: matchit::Router<usize>,
    resources: Vec<Resource<C>>,
}

impl<C: Send + Sync + 'static> Default for Routes<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Send + Sync + 'static> Routes<C> {
    pub fn new() -> Self {
        Self {
            paths: matchit::Router::new(),
            resources: Vec::new(),
        }
    }

    /// Adds a handler for identified callers.
    pub fn caller<F, Fut>(self, method: Method, pattern: &'static str, handler: F) -> Self
    where
        F: Fn(Arc<C>, Request<Caller>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        self.add(method, pattern, handler)
    }

    /// Adds a handler for all requests that come through the gateway.
    pub fn public<F, Fut>(self, method: Method, pattern: &'static str, handler: F) -> Self
    where
        F: Fn(Arc<C>, Request<Public>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        self.add(method, pattern, handler)
    }

    /// Adds a handler that answers even unsigned requests: public keys, health, metrics.
    pub fn anybody<F, Fut>(self, method: Method, pattern: &'static str, handler: F) -> Self
    where
        F: Fn(Arc<C>, Request<Anybody>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        self.add(method, pattern, handler)
    }

    fn add<W, F, Fut>(mut self, method: Method, pattern: &'static str, handler: F) -> Self
    where
        W: Access + Send + 'static,
        F: Fn(Arc<C>, Request<W>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        let handler: Handler<C> =
            Box::new(
                move |cx, sender, head, body, params| match W::admit(sender) {
                    Ok(who) => Box::pin(handler(
                        cx,
                        Request {
                            who,
                            head,
                            body,
                            params,
                        },
                    )),
                    Err(problem) => Box::pin(std::future::ready(Err(problem))),
                },
            );
        let endpoint = Endpoint {
            method,
            signed: W::SIGNED,
            handler,
        };
        match self.resources.iter_mut().find(|r| r.pattern == pattern) {
            Some(resource) => resource.endpoints.push(endpoint),
            None => {
                self.insert(pattern, self.resources.len());
                self.resources.push(Resource {
                    pattern,
                    endpoints: vec![endpoint],
                });
            }
        }
        self
    }

    /// Adds the paths of a resource. A collection (`/api/tasks`) may also end in a slash.
    fn insert(&mut self, pattern: &'static str, resource: usize) {
        let collection = pattern.starts_with("/api/") && pattern.matches('/').count() == 2;
        let slashed = collection.then(|| format!("{pattern}/"));
        for path in std::iter::once(pattern.to_owned()).chain(slashed) {
            if let Err(why) = self.paths.insert(path, resource) {
                // Routes that contradict each other are a bug that the first test run shows.
                panic!("route {pattern}: {why}");
            }
        }
    }

    /// The resource's pattern (for metrics) and the answer of its handler.
    pub(super) fn dispatch(
        &self,
        cx: &Arc<C>,
        sender: Sender,
        head: Parts,
        body: Incoming,
    ) -> (&'static str, Answer) {
        let refuse = |problem| Box::pin(std::future::ready(Err(problem))) as Answer;
        let path = head.uri.path();
        let Ok(found) = self.paths.at(path) else {
            // Only clients of the gateway may learn which paths exist.
            let problem = match sender {
                Sender::Signed(_) => Problem::not_found("resource"),
                Sender::Unsigned => unauthenticated(),
            };
            return ("", refuse(problem));
        };
        let resource = &self.resources[*found.value];
        let Some(endpoint) = resource.endpoint(&head.method) else {
            let signed = resource.endpoints.iter().all(|e| e.signed);
            let answer = match (sender, &head.method) {
                (Sender::Unsigned, _) if signed => Err(unauthenticated()),
                (_, &Method::OPTIONS) => Ok(
                    Reply::empty(StatusCode::NO_CONTENT).header(header::ALLOW, resource.allow())
                ),
                _ => Err(resource.not_allowed(&head.method)),
            };
            return (resource.pattern, Box::pin(std::future::ready(answer)));
        };
        let params = found
            .params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let answer = (endpoint.handler)(cx.clone(), sender, head, body, params);
        (resource.pattern, answer)
    }
}

impl<C> Resource<C> {
    /// The handler of `GET` also answers `HEAD`; hyper omits the body.
    fn endpoint(&self, method: &Method) -> Option<&Endpoint<C>> {
        let find = |wanted: &Method| self.endpoints.iter().find(|e| e.method == *wanted);
        find(method).or_else(|| (*method == Method::HEAD).then(|| find(&Method::GET))?)
    }

    fn allow(&self) -> HeaderValue {
        let mut methods: Vec<&str> = self.endpoints.iter().map(|e| e.method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        HeaderValue::try_from(methods.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }

    fn not_allowed(&self, method: &Method) -> Problem {
        let allow = self.allow();
        let detail = format!(
            "{method} is not allowed here; {} is.",
            allow.to_str().unwrap_or_default()
        );
        Problem::new(Kind::MethodNotAllowed, detail).with_header(header::ALLOW, allow)
    }
}
