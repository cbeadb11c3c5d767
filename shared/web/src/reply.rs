//! Answers: a status, headers, and a body that is whole or a stream.

use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use contract::problem::{MEDIA_TYPE, Problem};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use runtime::error::BoxError;
use serde::Serialize;

use super::range::Part;

/// The body of every answer.
pub enum ReplyBody {
    Whole(Full<Bytes>),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// The answer of a handler.
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: ReplyBody,
}

impl Reply {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self::whole(status, Bytes::new())
    }

    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::whole(status, body.into()).header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            ),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Self::empty(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// 200 with JSON.
    pub fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// 201 with JSON and the new object's `Location`.
    pub fn created(location: &str, value: &impl Serialize) -> Self {
        let reply = Self::json(StatusCode::CREATED, value);
        match HeaderValue::try_from(location) {
            Ok(location) => reply.header(header::LOCATION, location),
            Err(_) => reply,
        }
    }

    /// An answer that streams. An error ends the connection, so the client sees that the answer is incomplete.
    pub fn stream(
        status: StatusCode,
        content_type: &'static str,
        chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    ) -> Self {
        let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync();
        Self {
            status,
            headers: HeaderMap::new(),
            body: ReplyBody::Stream(body),
        }
        .header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// 206 with a part of a file, or 200 with all of it. `chunks` must yield exactly these bytes.
    pub fn bytes(
        part: &Part,
        content_type: &str,
        chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    ) -> Self {
        let status = match part.is_whole() {
            true => StatusCode::OK,
            false => StatusCode::PARTIAL_CONTENT,
        };
        let reply = Self::stream(status, "application/octet-stream", chunks)
            .header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
            .header(header::CONTENT_LENGTH, HeaderValue::from(part.length()));
        let reply = match HeaderValue::try_from(content_type) {
            Ok(content_type) => reply.header(header::CONTENT_TYPE, content_type),
            Err(_) => reply,
        };
        match part.content_range() {
            Some(range) => reply.header(header::CONTENT_RANGE, range),
            None => reply,
        }
    }

    fn whole(status: StatusCode, body: Bytes) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: ReplyBody::Whole(Full::new(body)),
        }
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// A strong entity tag (RFC 9110 §8.8.3) from an object's version.
    pub fn etag(self, version: impl Display) -> Self {
        match HeaderValue::try_from(format!("\"{version}\"")) {
            Ok(tag) => self.header(header::ETAG, tag),
            Err(_) => self,
        }
    }

    /// 304 without a body if a 200 or 206 has an entity tag that the client already knows (RFC 9110 §13.1.2, weak
    /// comparison). `known` are the values of `If-None-Match`.
    pub(crate) fn unless_known(mut self, known: &[HeaderValue]) -> Self {
        let tag = self
            .headers
            .get(header::ETAG)
            .and_then(|tag| tag.to_str().ok());
        let same = |known: &str| known == "*" || tag.is_some_and(|tag| weak(known) == weak(tag));
        let known = known.iter().filter_map(|value| value.to_str().ok());
        if !matches!(self.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT)
            || tag.is_none()
            || !known
                .flat_map(|list| list.split(','))
                .any(|tag| same(tag.trim()))
        {
            return self;
        }
        for body_header in [
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
        ] {
            self.headers.remove(body_header);
        }
        Self {
            status: StatusCode::NOT_MODIFIED,
            body: Self::empty(StatusCode::OK).body,
            ..self
        }
    }

    pub(crate) fn problem(problem: &Problem, instance: &str, request_id: &str) -> Self {
        let mut reply = Self::whole(problem.status(), problem.body(instance, request_id))
            .header(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in problem.headers() {
            reply.headers.append(name, value.clone());
        }
        reply
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_already_has_is_not_sent_again() {
        let status = |reply: Reply, known: &'static str| {
            reply
                .unless_known(&[HeaderValue::from_static(known)])
                .status()
                .as_u16()
        };
        let object = || Reply::ok(&serde_json::json!({"a": 1})).etag(3);
        for known in ["\"3\"", "W/\"3\"", "\"2\", \"3\"", "*"] {
            assert_eq!(status(object(), known), 304, "{known}");
        }
        for other in ["\"2\"", "3", ""] {
            assert_eq!(status(object(), other), 200, "{other}");
        }
        assert_eq!(status(Reply::ok(&1), "*"), 200);
        assert_eq!(status(Reply::created("/x", &1).etag(3), "\"3\""), 201);
        assert_eq!(object().unless_known(&[]).status(), 200);
    }
}
