//! Creates a task with its files from `multipart/form-data` (RFC 7578).
//!
//! The form is stored as it arrives: it must never be held in memory whole. [`super::routes`] routes
//! uploads here; a body that is JSON goes on to [`create`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::identity::Caller;
use contract::problem::{FieldError, Kind, Problem};
use futures_util::Stream;
use http::header;
use multer::{Field, Multipart};
use stores::idempotency::{Digest, Hasher};
use stores::{Idempotency, Once};
use web::request::MAX_JSON_BYTES;
use web::{Object, Reply, Request, json};

use super::input;
use super::tasks::{create, created};
use crate::app::App;
use crate::attachments::{MAX_FILES, Upload, WriteFileError};
use crate::domain::{NewTask, Task};

const MAX_NAME_CHARS: usize = 255;
const MAX_TYPE_CHARS: usize = 127;
/// The most bytes in a row that are no content of a part: heads of parts, and whatever stands around
/// the parts.
const MAX_OVERHEAD_BYTES: usize = 64 << 10;

/// Creates a task from JSON, or from a form with files.
pub(super) async fn upload(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    if request.media_type() != "multipart/form-data" {
        return create(cx, request).await;
    }
    let content_type = request.header(&header::CONTENT_TYPE).unwrap_or("");
    let boundary = multer::parse_boundary(content_type)
        .map_err(|_| malformed("`Content-Type` names no boundary."))?;
    let permit = cx.attachments.upload_permit().ok_or_else(|| {
        Problem::unavailable(
            "Too many uploads are under way. Try again later.",
            Duration::from_secs(5),
        )
    })?;
    // Spawned, so that it outlives a client that goes away: the body then ends early, and the upload
    // cleans up after itself.
    let received = tokio::spawn(async move {
        let received = receive(&cx, request, boundary).await;
        drop(permit);
        received
    });
    received.await.unwrap_or_else(|panic| {
        tracing::error!(error = %panic, "an upload failed unexpectedly");
        Err(Problem::internal())
    })
}

async fn receive(cx: &App, request: Request<Caller>, boundary: String) -> Result<Reply, Problem> {
    let trace = request.traceparent().map(str::to_owned);
    let key = request.idempotency_key()?;
    let (caller, chunks) = request.into_chunks();
    let mut upload = cx.attachments.begin_upload(contract::id::TaskId::new());
    let overhead = Arc::new(AtomicUsize::new(0));
    let body = PacedBody::new(chunks, overhead.clone());
    let mut form = Form {
        overhead,
        parts: Multipart::new(body, boundary),
        upload: &mut upload,
        task: None,
        content: Hasher::default(),
    };
    form.read().await?;
    let (new, body) = form.finish()?;
    let attachments = upload.ready().await?;
    let (id, now) = (upload.task.clone(), cx.clock.now());
    let (task, event) = Task::create_with_attachments(id, attachments, caller.user_id, new, now);
    let event = event.traced(trace.as_deref());
    let key = key.map(|key| Idempotency { key, body });
    match cx.store.insert(&task, &event, key.as_ref()).await {
        Ok(Once::New(pending)) => {
            cx.relay.hint(pending);
            upload.commit().await;
            Ok(created(&task))
        }
        Ok(Once::Before(first)) => Ok(created(&first).replayed()),
        Ok(Once::Mismatch) => Err(web::idempotency::mismatch()),
        Ok(Once::InFlight) => Err(web::idempotency::in_flight()),
        Err(error) => {
            upload.leave_in_doubt();
            Err(error.into())
        }
    }
}

/// A form that is being received.
struct Form<'a> {
    parts: Multipart<'static>,
    /// Bytes since the last content of a part.
    overhead: Arc<AtomicUsize>,
    upload: &'a mut Upload,
    task: Option<NewTask>,
    /// The digest of everything that tells this request from another one, for its idempotency key.
    content: Hasher,
}

impl Form<'_> {
    async fn read(&mut self) -> Result<(), Problem> {
        while let Some(part) = self.parts.next_field().await.map_err(unreadable)? {
            self.overhead.store(0, Ordering::Relaxed);
            match (part.name(), part.file_name()) {
                (Some("task"), _) => self.read_task(part).await?,
                (_, Some(_)) => self.read_file(part).await?,
                (name, None) => {
                    let name = name.unwrap_or("").chars().take(100).collect::<String>();
                    let detail = "is no file, and no part that is known; the task's members belong into the part `task`";
                    return Err(invalid_part(&name, detail));
                }
            }
        }
        Ok(())
    }

    async fn read_task(&mut self, mut part: Field<'_>) -> Result<(), Problem> {
        if self.task.is_some() {
            return Err(invalid_part("task", "must be there once"));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = next_chunk(&mut part, &self.overhead).await? {
            if body.len() + chunk.len() > MAX_JSON_BYTES {
                let detail = format!("The part `task` is larger than {MAX_JSON_BYTES} bytes.");
                return Err(Problem::new(Kind::PayloadTooLarge, detail));
            }
            body.extend_from_slice(&chunk);
        }
        let value = json::parse(&body)?;
        self.add_to_content("task", &Digest::of_json(&value));
        self.task = Some(input::new_task(Object::new(value)?)?);
        Ok(())
    }

    async fn read_file(&mut self, mut part: Field<'_>) -> Result<(), Problem> {
        if self.upload.received.len() == MAX_FILES {
            let detail = format!("A task has at most {MAX_FILES} files.");
            return Err(Problem::new(Kind::PayloadTooLarge, detail));
        }
        let name = file_name(part.file_name().unwrap_or(""));
        let content_type = content_type(part.content_type().map(|kind| kind.essence_str()));
        let max = self.upload.max_file_bytes();
        let overhead = self.overhead.clone();
        let mut file = self
            .upload
            .begin_file(name.clone(), content_type.clone())
            .await?;
        while let Some(chunk) = next_chunk(&mut part, &overhead).await? {
            file.write(chunk).await.map_err(|why| match why {
                WriteFileError::Store(error) => error.into(),
                WriteFileError::TooLarge => {
                    let detail = format!("The file `{name}` is larger than {max} bytes.");
                    Problem::new(Kind::PayloadTooLarge, detail)
                }
            })?;
        }
        let digest = file.finish().await?;
        self.add_to_content(&name, &digest);
        self.add_to_content(&content_type, &digest);
        Ok(())
    }

    /// Adds a named digest to the content. The lines are unambiguous: no name holds a line break.
    fn add_to_content(&mut self, name: &str, digest: &Digest) {
        let line = format!("{name}\n{}\n", digest.to_hex());
        self.content.update(line.as_bytes());
    }

    fn finish(self) -> Result<(NewTask, Digest), Problem> {
        let task = self.task.ok_or_else(|| {
            invalid_part(
                "task",
                "is missing; send the task as JSON in a part of this name",
            )
        })?;
        Ok((task, self.content.finish()))
    }
}

async fn next_chunk(
    part: &mut Field<'_>,
    overhead: &AtomicUsize,
) -> Result<Option<Bytes>, Problem> {
    let chunk = part.chunk().await.map_err(unreadable)?;
    overhead.store(0, Ordering::Relaxed);
    Ok(chunk)
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::MalformedRequest, detail)
}

fn invalid_part(part: &str, detail: &str) -> Problem {
    Problem::validation(vec![FieldError {
        pointer: format!("/{part}"),
        detail: detail.to_owned(),
    }])
}

fn unreadable(error: multer::Error) -> Problem {
    match error {
        multer::Error::StreamReadFailed(why) => match why.downcast::<Refused>() {
            Ok(refused) => refused.0,
            Err(_) => malformed("The body broke off."),
        },
        error => malformed(format!("The form cannot be read: {error}.")),
    }
}

/// The file name without folders, which some clients send, and without control characters.
fn file_name(declared: &str) -> String {
    let last = declared.rsplit(['/', '\\']).next().unwrap_or("");
    let visible = last.chars().filter(|c| !c.is_control());
    let name: String = visible.take(MAX_NAME_CHARS).collect();
    match name.trim() {
        "" | "." | ".." => "file".to_owned(),
        name => name.to_owned(),
    }
}

fn content_type(declared: Option<&str>) -> String {
    match declared {
        Some(kind) if kind.len() <= MAX_TYPE_CHARS => kind.to_ascii_lowercase(),
        _ => "application/octet-stream".to_owned(),
    }
}

/// A problem with the body, on its way through multer.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.detail())]
struct Refused(Problem);

/// Yields one chunk, then reports `Pending` once. Without that pause, multer reads everything that is
/// there into memory: a whole file, while we still write its beginning. It also bounds the bytes that
/// are no content of a part, which multer would buffer without end.
struct PacedBody<S> {
    chunks: Pin<Box<S>>,
    /// Whether the last poll yielded a chunk.
    yielded: bool,
    overhead: Arc<AtomicUsize>,
}

impl<S> PacedBody<S> {
    fn new(chunks: S, overhead: Arc<AtomicUsize>) -> Self {
        Self {
            chunks: Box::pin(chunks),
            yielded: false,
            overhead,
        }
    }
}

impl<S: Stream<Item = Result<Bytes, Problem>>> Stream for PacedBody<S> {
    type Item = Result<Bytes, Refused>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.yielded) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(chunk) = self.chunks.as_mut().poll_next(cx) else {
            return Poll::Pending;
        };
        let Some(chunk) = chunk else {
            return Poll::Ready(None);
        };
        self.yielded = true;
        Poll::Ready(Some(chunk.map_err(Refused).and_then(|chunk| {
            // A single chunk may be larger than the bound: all of it may be content.
            let before = self.overhead.fetch_add(chunk.len(), Ordering::Relaxed);
            match before > MAX_OVERHEAD_BYTES {
                true => Err(Refused(malformed("The head of a part is too large."))),
                false => Ok(chunk),
            }
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_has_no_folders_and_is_never_empty() {
        for (declared, name) in [
            ("a.txt", "a.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\x.doc", "x.doc"),
            ("a\u{7}\nb", "ab"),
            ("..", "file"),
            ("dir/", "file"),
            ("", "file"),
        ] {
            assert_eq!(file_name(declared), name, "{declared:?}");
        }
        assert_eq!(file_name(&"ü".repeat(300)).chars().count(), MAX_NAME_CHARS);
    }
}
