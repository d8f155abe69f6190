//! Bodies of usage answers. A short one is written at once and says its length. A long one is written while the client takes it: its numbers
//! are in memory, a few bytes each, its text never is, but for a piece.
//!
//! How long a client may take over a piece is the server's to say (`http.answer_idle_timeout`); how long over all of them is said here.
//! When either ends, the connection does, and what the answer holds is given back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::unavailable;
use crate::dialect::ApiError;

/// A body up to about this size is written at once.
const WHOLE_BYTES_MAX: usize = 256 << 10;
/// Of a longer one, so much at a time.
const PIECE_BYTES: usize = 64 << 10;
/// How long a client may take over an answer.
const TAKEN_WITHIN: Duration = Duration::from_secs(600);

/// Whoever writes a body piece by piece.
pub(in crate::api) trait Pieces: Send + 'static {
    /// Appends the next part of the body: until `to` has so many bytes, or a little more, or the body is whole. Says whether there is more.
    fn write(&mut self, to: &mut Vec<u8>, bytes: usize) -> bool;
}

/// A body whose begin is written.
pub(super) struct Written {
    begin: Vec<u8>,
    rest: Option<(Box<dyn Pieces>, OwnedSemaphorePermit)>,
}

impl Written {
    /// Writes the begin. What is left is held in memory on account of `held`, which has a permit for each number of the answer.
    ///
    /// # Errors
    /// 503: others hold too much.
    pub(super) fn begin(mut writer: Box<dyn Pieces>, numbers: usize, held: &Arc<Semaphore>) -> Result<Self, ApiError> {
        let numbers = u32::try_from(numbers).unwrap_or(u32::MAX);
        let mut begin = Vec::new();
        let has_more = writer.write(&mut begin, WHOLE_BYTES_MAX);
        let rest = has_more.then(|| held.clone().try_acquire_many_owned(numbers).map(|permit| (writer, permit)));
        let rest = rest.transpose().map_err(|_| unavailable("too many large answers wait for their clients; ask again"))?;
        Ok(Self { begin, rest })
    }

    pub(super) fn into_body(self) -> Body {
        match self.rest {
            None => Body::from(self.begin),
            Some((writer, held)) => {
                let ends = Instant::now() + TAKEN_WITHIN;
                Body::new(Streamed { next: Some(self.begin), rest: Some(Rest { writer, _held: held }), ends })
            }
        }
    }
}

/// The client took too long.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not taken within {TAKEN_WITHIN:?}")]
struct TooSlow;

struct Streamed {
    next: Option<Vec<u8>>,
    /// `None`: all is written.
    rest: Option<Rest>,
    ends: Instant,
}

struct Rest {
    writer: Box<dyn Pieces>,
    _held: OwnedSemaphorePermit,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = TooSlow;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooSlow>>> {
        if let Some(piece) = self.next.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
        }
        let is_late = Instant::now() >= self.ends;
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        if is_late {
            self.rest = None;
            return Poll::Ready(Some(Err(TooSlow)));
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES + 256);
        if !rest.writer.write(&mut piece, PIECE_BYTES) {
            self.rest = None;
        }
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.rest.is_none()
    }
}

#[cfg(test)]
mod tests;
