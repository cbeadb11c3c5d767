//! Downloads and removes the files of a task.
//!
//! A download must never let a browser run what somebody uploaded. [`super::routes`] routes here.

use std::sync::Arc;

use bytes::Bytes;
use contract::id::{AttachmentId, TaskId};
use contract::identity::Caller;
use contract::problem::Problem;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};
use runtime::error::BoxError;
use web::{Part, Reply, Request};

use super::tasks::{MAX_ATTEMPTS, Target, contended, visible};
use crate::app::App;
use crate::domain::Attachment;
use crate::store::files::CHUNK;

/// Types that a browser displays but never runs. A file of any other type is sent as
/// `application/octet-stream`.
const SAFE_TYPES: [&str; 12] = [
    "application/json",
    "application/pdf",
    "application/zip",
    "image/avif",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/csv",
    "text/plain",
    "audio/mpeg",
    "video/mp4",
];

pub(super) async fn download(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let task = visible(&cx, request.param("id"), request.user_id()).await?;
    let missing = || Problem::not_found("attachment");
    let file = task.attachment(request.param("aid")).ok_or_else(missing)?;
    let part = request.part(file.size, &file.sha256)?;
    let mut chunks = chunks(cx, task.id.clone(), file.id.clone(), &part);
    // Read the first chunk before the answer begins: a file that is being removed is answered as missing.
    let first = match part.bytes.is_empty() {
        true => None,
        false => match chunks.next().await {
            Some(Ok(chunk)) => Some(chunk),
            Some(Err(ReadFileError::Store(error))) => return Err(error.into()),
            Some(Err(ReadFileError::Gone)) | None => return Err(missing()),
        },
    };
    let first = stream::iter(first.map(Ok));
    let bytes = first
        .chain(chunks)
        .map(|chunk| chunk.map_err(BoxError::from));
    let constant = HeaderValue::from_static;
    Ok(Reply::bytes(&part, safe_type(&file.content_type), bytes)
        .etag(&file.sha256)
        .header(header::CONTENT_DISPOSITION, disposition(file))
        .header(header::CACHE_CONTROL, constant("private, no-cache"))
        .header(header::X_CONTENT_TYPE_OPTIONS, constant("nosniff"))
        .header(
            HeaderName::from_static("content-security-policy"),
            constant("default-src 'none'; sandbox"),
        ))
}

pub(super) async fn detach(cx: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let id = request.param("aid").to_owned();
    let (target, request) = Target::of(request);
    let actor = request.user_id();
    for _ in 0..MAX_ATTEMPTS {
        let task = target.find(&cx, actor).await?;
        let detached = task.detach(&id, actor, cx.clock.now());
        let detached = detached.ok_or_else(|| Problem::not_found("attachment"))?;
        let (without, event) = target.traced(detached);
        let removal = cx
            .attachments
            .mark_in_doubt(&task.id, task.attachment(&id))
            .await?;
        if target.committed(&cx, cx.store.update(&without, &event).await?)? {
            cx.attachments.remove(removal);
            return Ok(Reply::empty(StatusCode::NO_CONTENT).etag(without.version));
        }
    }
    Err(contended())
}

/// Why a download breaks off.
#[derive(Debug, thiserror::Error)]
enum ReadFileError {
    #[error("the file was removed while it was read")]
    Gone,
    #[error(transparent)]
    Store(#[from] stores::StoreError),
}

/// The bytes of a part of a file, read on demand: one chunk at a time is in memory.
fn chunks(
    cx: Arc<App>,
    task: TaskId,
    id: AttachmentId,
    part: &Part,
) -> impl Stream<Item = Result<Bytes, ReadFileError>> + Send + Unpin + use<> {
    let end = part.bytes.end;
    let chunks = stream::try_unfold(part.bytes.start, move |at| {
        let (cx, task, id) = (cx.clone(), task.clone(), id.clone());
        async move {
            if at >= end {
                return Ok(None);
            }
            let (index, offset) = (at / CHUNK as u64, at % CHUNK as u64);
            let chunk = cx.attachments.read(&task, &id, index).await?;
            let mut chunk = chunk.ok_or(ReadFileError::Gone)?;
            let offset = usize::try_from(offset).map_err(|_| ReadFileError::Gone)?;
            if offset >= chunk.len() {
                return Err(ReadFileError::Gone);
            }
            let mut chunk = chunk.split_off(offset);
            chunk.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
            let next = at + chunk.len() as u64;
            Ok(Some((chunk, next)))
        }
    });
    Box::pin(chunks)
}

fn safe_type(declared: &str) -> &str {
    match SAFE_TYPES.contains(&declared) {
        true => declared,
        false => "application/octet-stream",
    }
}

/// Asks the browser to save the file under its name (RFC 6266). An ASCII form of the name is for clients
/// that do not know the other one.
fn disposition(file: &Attachment) -> HeaderValue {
    let plain = |c: char| match c {
        '"' | '\\' | '%' => '_',
        ' '..='~' => c,
        _ => '_',
    };
    let ascii: String = file.name.chars().map(plain).collect();
    let mut value = format!("attachment; filename=\"{ascii}\"");
    if ascii != file.name {
        value.push_str("; filename*=UTF-8''");
        for byte in file.name.bytes() {
            match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                true => value.push(char::from(byte)),
                false => value.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_saved_under_its_name_whatever_is_in_it() {
        let header = |name: &str| {
            let file = Attachment {
                id: AttachmentId::new(),
                name: name.to_owned(),
                content_type: String::new(),
                size: 0,
                sha256: String::new(),
            };
            disposition(&file).to_str().map(str::to_owned).ok()
        };
        let plain = header("a report.pdf");
        assert_eq!(
            plain.as_deref(),
            Some("attachment; filename=\"a report.pdf\"")
        );
        let other = header("ü \"x\".txt");
        assert_eq!(
            other.as_deref(),
            Some("attachment; filename=\"_ _x_.txt\"; filename*=UTF-8''%C3%BC%20%22x%22.txt")
        );
    }

    #[test]
    fn what_a_browser_would_run_is_sent_as_bytes() {
        for declared in ["text/html", "image/svg+xml", "text/javascript", "", "x"] {
            assert_eq!(
                safe_type(declared),
                "application/octet-stream",
                "{declared}"
            );
        }
        assert_eq!(safe_type("image/png"), "image/png");
    }
}
