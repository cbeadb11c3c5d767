//! The handlers of tasks, and what the handlers of their files share with them.
//!
//! A handler answers only when its change is durable, and never publishes: it hints the relay.
//! [`super::routes`] routes here.

use std::sync::Arc;

use contract::event::Envelope;
use contract::id::{TaskId, UserId};
use contract::identity::Caller;
use contract::problem::{Kind, Problem};
use http::StatusCode;
use stores::Once;
use web::{IfMatch, Reply, Request};

use super::input;
use crate::app::App;
use crate::domain::{Change, NewVersion, Refusal, Task};
use crate::store::WriteOutcome;

/// How often an unconditional change is tried when other changes keep coming first.
pub(super) const MAX_ATTEMPTS: usize = 32;

pub(super) async fn create(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let trace = request.traceparent().map(str::to_owned);
    let (caller, body, key) = request.idempotent_object().await?;
    let new = input::new_task(body)?;
    let (task, event) = Task::create(caller.user_id, new, cx.clock.now());
    let event = event.traced(trace.as_deref());
    match cx.store.insert(&task, &event, key.as_ref()).await? {
        Once::New(pending) => {
            cx.relay.hint(pending);
            Ok(created(&task))
        }
        Once::Before(first) => Ok(created(&first).replayed()),
        Once::Mismatch => Err(web::idempotency::mismatch()),
        Once::InFlight => Err(web::idempotency::in_flight()),
    }
}

pub(super) async fn list(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let list = input::list(request.query(), request.user_id())?;
    let page = cx.store.list(&list.filter, list.sort, &list.page).await?;
    Ok(Reply::ok(&page))
}

pub(super) async fn read(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let task = visible(&cx, request.param("id"), request.user_id()).await?;
    Ok(rendered(&task))
}

pub(super) async fn replace(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let (target, request) = Target::of(request);
    let (caller, body) = request.object().await?;
    let change = Change::from(input::new_task(body)?);
    target.change(&cx, &caller.user_id, change).await
}

pub(super) async fn patch(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let (target, request) = Target::of(request);
    let (caller, body) = request.object().await?;
    let change = input::change(body)?;
    target.change(&cx, &caller.user_id, change).await
}

pub(super) async fn delete(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let (target, request) = Target::of(request);
    let actor = request.user_id();
    for _ in 0..MAX_ATTEMPTS {
        let task = target.find(&cx, actor).await?;
        let (gone, event) = target.traced(task.delete(actor, cx.clock.now())?);
        let removal = cx
            .attachments
            .mark_in_doubt(&task.id, &task.attachments)
            .await?;
        if target.committed(&cx, cx.store.delete(&gone, &event).await?)? {
            cx.attachments.remove(removal);
            return Ok(Reply::empty(StatusCode::NO_CONTENT));
        }
    }
    Err(contended())
}

pub(super) async fn history(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let task = visible(&cx, request.param("id"), request.user_id()).await?;
    let mut query = request.query();
    let page = query.page();
    query.finish()?;
    Ok(Reply::ok(&cx.store.history(&task.id, &page).await?))
}

/// The task that a request is to change, and under which condition.
pub(super) struct Target {
    id: String,
    if_match: IfMatch,
    trace: Option<String>,
}

impl Target {
    pub(super) fn of(request: Request<Caller>) -> (Self, Request<Caller>) {
        let target = Self {
            id: request.param("id").to_owned(),
            if_match: request.if_match(),
            trace: request.traceparent().map(str::to_owned),
        };
        (target, request)
    }

    pub(super) async fn find(&self, cx: &App, actor: &UserId) -> Result<Task, Problem> {
        let task = visible(cx, &self.id, actor).await?;
        self.if_match.check(task.version)?;
        Ok(task)
    }

    pub(super) fn traced(&self, (task, event): NewVersion) -> (Task, Envelope) {
        (task, event.traced(self.trace.as_deref()))
    }

    /// Applies the change to the current version, and tries again if another change came first. With
    /// `If-Match`, the next attempt then ends in 412.
    pub(super) async fn change(
        &self,
        cx: &App,
        actor: &UserId,
        change: Change,
    ) -> Result<Reply, Problem> {
        for _ in 0..MAX_ATTEMPTS {
            let task = self.find(cx, actor).await?;
            let Some(changed) = task.change(change.clone(), actor, cx.clock.now())? else {
                return Ok(rendered(&task));
            };
            let (task, event) = self.traced(changed);
            if self.committed(cx, cx.store.update(&task, &event).await?)? {
                return Ok(rendered(&task));
            }
        }
        Err(contended())
    }

    /// Whether the change is durable; if so, hints its events. False if another change came first.
    pub(super) fn committed(&self, cx: &App, outcome: WriteOutcome) -> Result<bool, Problem> {
        match outcome {
            WriteOutcome::Done(pending) => {
                cx.relay.hint(pending);
                Ok(true)
            }
            WriteOutcome::Stale => Ok(false),
            WriteOutcome::Full => Err(Problem::unavailable(
                "Too many changes of this task wait to be announced. Try again later.",
                std::time::Duration::from_secs(5),
            )),
        }
    }
}

/// The task, if it exists and this user may see it.
pub(super) async fn visible(cx: &App, id: &str, user: &UserId) -> Result<Task, Problem> {
    let missing = || Problem::not_found("task");
    let id = TaskId::parse(id).ok_or_else(missing)?;
    let task = cx.store.get(&id).await?.ok_or_else(missing)?;
    task.is_visible_to(user).then_some(task).ok_or_else(missing)
}

pub(super) fn created(task: &Task) -> Reply {
    Reply::created(&format!("/api/tasks/{}", task.id), task).etag(task.version)
}

pub(super) fn rendered(task: &Task) -> Reply {
    Reply::ok(task).etag(task.version)
}

pub(super) fn contended() -> Problem {
    let detail = "Others change this task at the same time. Read it again, then try again.";
    Problem::new(Kind::Conflict, detail)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OnlyTheOwner(act) => {
                Problem::new(Kind::Forbidden, format!("Only the owner {act} a task."))
            }
        }
    }
}
