//! Answers that wait for their clients to take them.
//!
//! What a client does not read stays in memory, and a client of HTTP/2 can ask for 200 answers and open the window for none. So
//! large answers take room from a fixed amount until the connection has taken them, piece by piece, and a connection on
//! which one of them does not move any more ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Answer;
use super::patience::{OpenRequest, SlowAnswer};
use crate::dialect::ApiError;
use crate::telemetry;

/// Answers up to this size are not accounted for: 200 of them on a connection take less than a request may.
const SMALL_BYTES: usize = 4 << 10;
/// Bytes of all large answers that are not taken yet: past it an answer is a 503, and larger ones than this take all of it.
const ROOM_BYTES: usize = 128 << 20;
/// Of an answer that is written while it is taken and does not say its size, no more than about this is in memory.
const STREAMED_BYTES: u64 = 512 << 10;
/// Large answers go out in pieces of this size, a frame of HTTP/2: what is handed over is no longer in our hands.
const PIECE_BYTES: usize = 16 << 10;

/// Room for large answers.
#[derive(Clone)]
pub(super) struct AnswerRoom(Arc<Semaphore>);

impl Default for AnswerRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_BYTES)))
    }
}

/// A body on its way to the client.
pub(super) struct AnswerBody {
    body: Body,
    large: Option<Large>,
}

/// What a large one has beside.
struct Large {
    /// Of the frame that is being handed over.
    rest: Bytes,
    slow: SlowAnswer,
    room: OwnedSemaphorePermit,
}

impl Drop for Large {
    fn drop(&mut self) {
        telemetry::add_answer_bytes(-(self.room.num_permits() as f64));
    }
}

/// An answer that is bounded while it waits. Without room it is a 503: what was asked for has happened, but nobody is told.
pub(super) fn bounded(answer: Answer, room: &AnswerRoom, open: OpenRequest) -> Response<AnswerBody> {
    let hint = answer.body().size_hint();
    let bytes = hint.exact().unwrap_or_else(|| hint.lower().max(STREAMED_BYTES));
    if bytes <= SMALL_BYTES as u64 {
        return answer.map(|body| AnswerBody { body, large: None });
    }
    let wanted = usize::try_from(bytes).unwrap_or(ROOM_BYTES).min(ROOM_BYTES) as u32;
    match room.0.clone().try_acquire_many_owned(wanted) {
        Ok(room) => {
            telemetry::add_answer_bytes(f64::from(wanted));
            let large = Some(Large { rest: Bytes::new(), slow: open.take_answer(), room });
            answer.map(|body| AnswerBody { body, large })
        }
        Err(_) => {
            tracing::warn!(bytes, "an answer found no room: too many are not taken by their clients");
            let refusal = ApiError::unavailable("too many answers wait for their clients; ask again", 1);
            refusal.into_response().map(|body| AnswerBody { body: Body::new(body), large: None })
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(large) = &mut this.large else { return Pin::new(&mut this.body).poll_frame(cx) };
        large.slow.moves();
        if large.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => large.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = large.rest.split_to(large.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.large.as_ref().is_none_or(|large| large.rest.is_empty()) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.large.as_ref().map_or(0, |large| large.rest.len() as u64);
        let mut hint = self.body.size_hint();
        // The upper bound first: it must not fall below the lower one.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::patience::Requests;
    use http_body_util::BodyExt;
    use hyper::StatusCode;

    fn answer(bytes: usize, room: &AnswerRoom, requests: &Arc<Requests>) -> Response<AnswerBody> {
        bounded(Response::new(Body::from(vec![b'x'; bytes])), room, requests.begin())
    }

    #[tokio::test]
    async fn an_answer_of_unknown_size_is_a_large_one() {
        let (room, requests) = (AnswerRoom(Arc::new(Semaphore::new(600_000))), Arc::new(Requests::default()));
        let streamed = || {
            let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
            bounded(Response::new(Body::from_stream(pieces)), &room, requests.begin())
        };
        let first = streamed();
        assert_eq!((first.status(), first.body().large.is_some()), (StatusCode::OK, true));
        assert!(!requests.is_idle(), "it is the answer's as long as it is there");
        assert_eq!(streamed().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(first.into_body().collect().await.expect("a body").to_bytes(), "x");
        assert_eq!(streamed().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn large_answers_take_room_until_they_are_taken_and_are_refused_without() {
        let (room, requests) = (AnswerRoom(Arc::new(Semaphore::new(100_000))), Arc::new(Requests::default()));
        let mut first = answer(90_000, &room, &requests);
        assert_eq!((first.status(), first.body().size_hint().exact()), (StatusCode::OK, Some(90_000)));
        let mut pieces = 0;
        while pieces < 90_000 {
            assert_eq!(answer(10_001, &room, &requests).status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer(10_000, &room, &requests).status(), StatusCode::OK);
            assert_eq!(answer(SMALL_BYTES, &room, &requests).status(), StatusCode::OK, "small ones always get out");
            let piece = first.body_mut().frame().await.expect("there is more").expect("a frame").into_data().expect("data");
            assert!((1..=PIECE_BYTES).contains(&piece.len()));
            pieces += piece.len();
            assert_eq!(first.body().size_hint().exact(), Some(90_000 - pieces as u64));
        }
        assert!(first.body().is_end_stream() && first.body_mut().frame().await.is_none());
        assert!(!requests.is_idle(), "it is the answer's as long as it is there");
        drop(first);
        assert_eq!(answer(90_000, &room, &requests).status(), StatusCode::OK);
        assert!(requests.is_idle());
    }
}
