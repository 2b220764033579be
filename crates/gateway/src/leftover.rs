//! What is left of a request's body when its answer is ready.
//!
//! Whoever is refused early, for want of a key or because there is no such route, may still be sending an image. Were
//! the connection closed over it, the client's system would see a reset and throw the answer away with it: the client
//! would know of a broken connection, and send everything again. So the rest is read, within limits, and forgotten.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Most bytes of a rest that are read. Longer ones are cut off: the answer may be lost, and the client's time is saved.
const LEFTOVER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest wait for a rest.
const LEFTOVER_DEADLINE: Duration = Duration::from_secs(5);

/// Answers when the whole request was read.
pub(crate) async fn forget(request: Request, next: Next) -> Response {
    // Who expects to be told sends nothing before.
    let waits = request.headers().contains_key(header::EXPECT);
    if waits || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = Kept(Arc::new(Mutex::new(State { body, ended: false })));
    let request = Request::from_parts(parts, Body::new(body.clone()));
    let response = next.run(request).await;
    // Who was too slow before gets no more time.
    if response.status() != StatusCode::REQUEST_TIMEOUT {
        let _ = tokio::time::timeout(LEFTOVER_DEADLINE, read_to_end(body)).await;
    }
    response
}

async fn read_to_end(mut body: Kept) {
    let mut left = LEFTOVER_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(fewer) => left = fewer,
            None => return,
        }
    }
}

/// A body that is still there when a handler has dropped it.
#[derive(Clone)]
struct Kept(Arc<Mutex<State>>);

struct State {
    body: Body,
    /// Not to be asked again.
    ended: bool,
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        // Only the body itself could leave a mess, and then it is not asked again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = self.state();
        if state.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut state.body).poll_frame(context);
        state.ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        let state = self.state();
        state.ended || state.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.state().body.size_hint()
    }
}
