//! The HTTP handlers: parse the request, call the store, render the answer. They never use the
//! broker. The worker's service calls them for requests that the gateway signed.

use std::sync::Arc;
use std::time::Duration;

use contract::id::NotificationId;
use contract::identity::Caller;
use contract::page::Page;
use contract::problem::{Kind as ProblemKind, Problem};
use futures_util::stream;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use runtime::supervise::CancellationToken;
use runtime::time::Clock;
use serde_json::json;
use stores::Once;
use tokio::time::Instant;
use web::{IfMatch, Reply, Request, Routes, json};

use crate::domain::{Kind, Notification};
use crate::live::{Hub, MAX_STREAMS_PER_USER, Stream};
use crate::store::{Change, Cursor, Expected, Filter, NotificationStore};

/// How long a stream lasts when its token has no expiry. Our own tokens all have one, and last as
/// long as this.
const LONGEST_STREAM: Duration = Duration::from_secs(600);

/// What the handlers share.
pub struct App {
    pub store: Arc<dyn NotificationStore>,
    pub hub: Arc<Hub>,
    pub clock: Arc<dyn Clock>,
    /// Cancelled when streams must end.
    pub stopping: CancellationToken,
}

pub fn routes() -> Routes<App> {
    Routes::new()
        .caller(Method::GET, "/api/notifications", list)
        .caller(Method::GET, "/api/notifications/unread-count", unread_count)
        .caller(Method::GET, "/api/notifications/stream", live)
        .caller(Method::GET, "/api/notifications/{id}", get)
        .caller(Method::PATCH, "/api/notifications/{id}", patch)
        .caller(Method::DELETE, "/api/notifications/{id}", delete)
        .caller(Method::POST, "/api/notifications/read-all", read_all)
}

async fn list(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let mut query = request.query();
    let page = query.page::<Cursor>();
    let filter = Filter {
        read: query.flag("unread").map(|unread| !unread),
        kind: query.optional("type", kind),
    };
    query.finish()?;
    let found = cx.store.list(request.user_id(), filter, &page).await?;
    let cursor = |last: &Notification| Cursor {
        created_at: last.content.created_at,
        id: last.content.id.to_string(),
    };
    Ok(Reply::ok(&Page::new(found, page.limit, cursor)))
}

async fn unread_count(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    request.query().finish()?;
    let counter = cx.store.counter(request.user_id()).await?;
    Ok(Reply::ok(&json!({"count": counter.unread})))
}

async fn get(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let id = id(&request)?;
    let found = cx.store.get(request.user_id(), &id).await?;
    found.map(|found| render(&found)).ok_or_else(unknown)
}

async fn patch(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let (id, expected) = (id(&request)?, expected(&request.if_match()));
    let (caller, mut body) = request.object().await?;
    let read = body.required("read", json::boolean);
    let read = body.finish(|| read)?;
    let change = cx.store.set_read(&caller.user_id, &id, read, expected);
    changed(change.await?).map(|marked| render(&marked))
}

async fn delete(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let (id, expected) = (id(&request)?, expected(&request.if_match()));
    let change = cx.store.delete(request.user_id(), &id, expected);
    changed(change.await?).map(|_| Reply::empty(StatusCode::NO_CONTENT))
}

async fn read_all(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    request.query().finish()?;
    let key = request.idempotency()?;
    let caller = request.without_members().await?;
    let (user, now) = (&caller.user_id, cx.clock.now());
    let answer = |updated| Reply::ok(&json!({"updated": updated}));
    match cx.store.set_all_read(user, key.as_ref(), now).await? {
        Once::New(updated) => Ok(answer(updated)),
        Once::Before(updated) => Ok(answer(updated).replayed()),
        Once::Mismatch => Err(web::idempotency::mismatch()),
        Once::InFlight => Err(web::idempotency::in_flight()),
    }
}

async fn live(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    request.query().finish()?;
    let permit = cx
        .hub
        .open(request.user_id())
        .ok_or_else(too_many_streams)?;
    let last_event_id = HeaderName::from_static("last-event-id");
    let stream = Stream::open(
        cx.store.clone(),
        permit,
        request.header(&last_event_id),
        Instant::now() + remaining(&request.who, cx.clock.as_ref()),
        cx.stopping.clone(),
    )
    .await?;
    let pieces = stream::unfold(stream, async |mut stream| {
        let piece = stream.next().await?;
        Some((Ok(piece), stream))
    });
    let reply = Reply::stream(StatusCode::OK, "text/event-stream", pieces)
        .header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
        // Otherwise nginx would buffer the events.
        .header(
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        );
    Ok(reply)
}

/// How long the caller's token remains valid.
fn remaining(caller: &Caller, clock: &dyn Clock) -> Duration {
    let Some(expires) = caller.token_expires else {
        return LONGEST_STREAM;
    };
    let left = i128::from(expires) * 1000 - i128::from(clock.now().as_millisecond());
    // Longer than any token, yet short enough for a timer.
    let left = left.clamp(0, i128::from(u32::MAX));
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

fn render(notification: &Notification) -> Reply {
    Reply::ok(notification).etag(notification.version())
}

/// The states that a request's `If-Match` allows.
fn expected(if_match: &IfMatch) -> Expected {
    let accepts = |read| if_match.accepts(Notification::version_of(read));
    Expected {
        read: accepts(true),
        unread: accepts(false),
    }
}

fn changed(change: Change) -> Result<Notification, Problem> {
    match change {
        Change::Done(notification) => Ok(notification),
        Change::Unexpected(now) => Err(IfMatch::stale(now.version())),
        Change::Missing => Err(unknown()),
    }
}

fn id(request: &Request<Caller>) -> Result<NotificationId, Problem> {
    NotificationId::parse(request.param("id")).ok_or_else(unknown)
}

fn unknown() -> Problem {
    Problem::not_found("notification")
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.map(Kind::as_str).join(", ");
    Kind::parse(text).ok_or_else(|| format!("must be one of {}", known()))
}

fn too_many_streams() -> Problem {
    Problem::new(
        ProblemKind::RateLimited,
        format!("You have {MAX_STREAMS_PER_USER} open streams here already. Close one first."),
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("10"))
}
