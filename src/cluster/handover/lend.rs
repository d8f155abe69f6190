//! What this node gives: the indexes that lie on its disk, whoever owns their partitions.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::wire::Head;
use crate::log::disk::Disk;
use crate::materializer::first_positions::IndexError;
use crate::materializer::first_positions::copy::{MANIFEST_BYTES_MAX, Outgoing, RUNS_MAX};
use crate::telemetry::handover as telemetry;

/// Indexes that are given at a time. Who is refused reads the log, which takes longer than sharing the disk.
const GIVEN_MAX: usize = 32;
/// Read at once, and how many of these wait to be sent.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_MAX: usize = 2;

/// Gives indexes to other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Lending {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    index_dir: PathBuf,
    partitions: u32,
    turns: Arc<Semaphore>,
}

impl Lending {
    /// What lies in `index_dir`: a directory for each partition.
    pub fn new(disk: Arc<dyn Disk>, index_dir: PathBuf, partitions: u32) -> Self {
        Self { shared: Arc::new(Shared { disk, index_dir, partitions, turns: Arc::new(Semaphore::new(GIVEN_MAX)) }) }
    }

    /// The route, which lets everybody in.
    pub(in crate::cluster) fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        Router::new().route("/internal/v1/partitions/{partition}/index", get(give)).with_state(self)
    }

    fn open(&self, partition: u32) -> Result<Option<(Head, Outgoing)>, IndexError> {
        let Shared { disk, index_dir, partitions, .. } = &*self.shared;
        if partition >= *partitions {
            return Ok(None);
        }
        let Some(index) = Outgoing::open(&**disk, &index_dir.join(partition.to_string()))? else { return Ok(None) };
        let sizes: Vec<u64> = index.sizes().collect();
        let manifest = String::from_utf8_lossy(index.manifest()).into_owned();
        if sizes.len() > RUNS_MAX || manifest.len() > MANIFEST_BYTES_MAX {
            return Err(IndexError::Io(format!("{} runs are too many", sizes.len())));
        }
        Ok(Some((Head { partition, manifest, sizes }, index)))
    }
}

async fn give(State(lending): State<Lending>, path: Result<Path<u32>, PathRejection>) -> Response {
    let Ok(Path(partition)) = path else { return StatusCode::NOT_FOUND.into_response() };
    let unavailable = |what: String| (StatusCode::SERVICE_UNAVAILABLE, what).into_response();
    let Ok(turn) = lending.shared.turns.clone().try_acquire_owned() else { return unavailable("too many indexes are given".into()) };
    let opened = tokio::task::spawn_blocking(move || lending.open(partition)).await;
    match opened {
        Ok(Ok(Some((head, index)))) => {
            tracing::info!(partition, covered = %index.covered(), "the dedup index of a partition is given to another node");
            Response::new(Body::new(Pieces::of(head, index, turn)))
        }
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(error)) => unavailable(error.to_string()),
        Err(_) => unavailable("it was interrupted".into()),
    }
}

/// An index as it is sent: read a little ahead of what the other node takes, by a thread that ends with it.
struct Pieces {
    coming: mpsc::Receiver<io::Result<Bytes>>,
    /// Bytes that are to be sent still, at least.
    left: u64,
}

impl Pieces {
    fn of(head: Head, index: Outgoing, turn: OwnedSemaphorePermit) -> Self {
        let begin = Bytes::from(head.to_bytes());
        let left = begin.len() as u64 + head.sizes.iter().sum::<u64>();
        let (sender, coming) = mpsc::channel(PIECES_MAX);
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // Whoever hung up needs no more.
            let _hung_up = send(&sender, begin, &head.sizes, &index);
        });
        Self { coming, left }
    }
}

/// The other node has hung up.
struct HungUp;

fn send(to: &mpsc::Sender<io::Result<Bytes>>, begin: Bytes, sizes: &[u64], index: &Outgoing) -> Result<(), HungUp> {
    let give = |piece: io::Result<Bytes>| to.blocking_send(piece).map_err(|_| HungUp);
    give(Ok(begin))?;
    for (run, bytes) in sizes.iter().enumerate() {
        let mut at = 0;
        while at < *bytes {
            let mut piece = vec![0; usize::try_from(bytes - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
            match index.read_at(run, at, &mut piece) {
                Ok(read) if read == piece.len() => at += read as u64,
                Ok(_) => return give(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return give(Err(error)),
            }
            telemetry::count_given_bytes(piece.len() as u64);
            give(Ok(piece.into()))?;
        }
    }
    Ok(())
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = self.coming.poll_recv(cx);
        next.map(|piece| {
            piece.map(|piece| {
                let piece = piece?;
                self.left = self.left.saturating_sub(piece.len() as u64);
                Ok(Frame::data(piece))
            })
        })
    }

    /// Not how much it is, but how much of it waits here: that is what an answer takes room for.
    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.left.min((PIECES_MAX * PIECE_BYTES) as u64));
        hint
    }
}
