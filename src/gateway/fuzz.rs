//! What the door does before anything is stored, for `crate::fuzz`.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

use super::apart::{Apart as TakenApart, Defined, without};
use super::body::{self, BodyError, BodyLimits};
use super::budget::Budget;
use super::form::{Form, Sent};
use super::{Arity, Rejection, Settings, Terms, letters};
use crate::clock::UnixMillis;
use crate::event::{HashKey, TimeWindow};
use crate::log::{Block, record};
use crate::telemetry::RoomKind;

/// Limits that inputs reach.
pub(crate) const LIMITS: BodyLimits =
    BodyLimits { wire_max: 1 << 20, inflated_max: 1 << 20, idle: Duration::from_secs(1), total: Duration::from_secs(1) };
/// Most events of a body.
pub(crate) const EVENTS_MAX: usize = 1_000;
/// Largest event.
pub(crate) const EVENT_BYTES_MAX: usize = 4 << 10;

/// A body taken apart.
pub(crate) struct Apart {
    /// Records of what is good.
    pub(crate) block: Block,
    /// Where in the body those stand.
    pub(crate) taken: Vec<u32>,
    /// What is not: where it stands, what is wrong with it, its bytes.
    pub(crate) rejected: Vec<(u32, Rejection, Box<[u8]>)>,
    /// Letters of those.
    pub(crate) letters: Block,
    /// The form that they were sent in.
    pub(crate) sent: Sent,
}

/// From the bytes of a body to records and letters.
pub(crate) fn take_apart(body: &[u8], form: Form, key: &HashKey, account: record::Account, received: UnixMillis) -> Result<Apart, String> {
    let settings = Settings { body: LIMITS, events_max: EVENTS_MAX, event_bytes_max: EVENT_BYTES_MAX, window: TimeWindow::default() };
    let terms = Terms {
        form,
        events_max: EVENTS_MAX,
        is_strict: false,
        names_ids: false,
        keeps_places: false,
        made_id: Some(7),
        arity: Arity::Any,
        list: "",
    };
    let apart = TakenApart { settings: &settings, hash_key: key, account, rules: None, defined: Defined::default(), received, terms, body };
    let batch = apart.take().map_err(|error| error.to_string())?;
    let letters = letters::block(&batch.rejected, &batch.sent, account.number, received);
    let rejected = batch.rejected.into_iter().map(|one| (one.index, one.rejection, one.raw)).collect();
    Ok(Apart { block: batch.block, taken: batch.taken, rejected, letters, sent: batch.sent })
}

/// The block without every second record.
pub(crate) fn without_every_second(block: &Block) -> Block {
    without(block, &(0..block.count()).step_by(2).collect::<Vec<_>>())
}

/// Inflates a body in the coding that a header names.
pub(crate) fn inflate(coding: &str, wire: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(coding) {
        headers.insert(CONTENT_ENCODING, value);
    }
    let (budget, share) = (Budget::new(RoomKind::Ingest, 64 << 20, Duration::ZERO), Arc::default());
    let Poll::Ready(room) = pin!(budget.reserve(&share, wire.len())).poll(&mut Context::from_waker(Waker::noop())) else {
        return Err(BodyError::TooSlow);
    };
    body::inflated(&headers, wire, LIMITS, &mut room?)
}
