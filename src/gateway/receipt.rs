//! The receipt: each event's verdict at the door, for a client that asks for it.
//!
//! ```json
//! {"received": 3, "logged": 1, "known": 1, "rejected": 1, "events": [
//!   {"index": 0, "verdict": "logged", "uniqueId": "u-1", "partition": 0, "position": 7},
//!   {"index": 1, "verdict": "known", "uniqueId": "u-0"},
//!   {"index": 2, "verdict": "rejected", "code": "missing_field", "field": "customerId", "reason": "is missing"}]}
//! ```

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use super::{RECEIPT_TYPE, Taken};
use crate::clock::UnixMicros;
use crate::log::{Block, record};
use crate::telemetry::Outcome;

/// What an event is called, and when it happened, as sent or as made.
#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    pub(super) unique_id: String,
    pub(super) time: UnixMicros,
}

/// Of the events in a block.
pub(super) fn named(block: &Block) -> Vec<Named> {
    let records = record::records(block.payload(), block.count(), block.received());
    let of = |record: record::Record<'_>| Named { unique_id: record.unique_id.to_owned(), time: record.time };
    records.map(|record| record.map_or_else(|_| Named::default(), of)).collect()
}

/// The receipt of a request whose taken events are durable.
pub(super) fn receipt(became: &Taken) -> Response<Full<Bytes>> {
    let Taken { taken, known, named, positions, rejected, .. } = became;
    let mut places = positions.iter();
    let mut left = known.iter().copied().peekable();
    let durable = (0..).zip(taken.iter().zip(named)).map(|(at, (index, Named { unique_id, .. }))| {
        let event = if left.next_if_eq(&at).is_some() {
            json!({"index": index, "verdict": Outcome::Known.label(), "uniqueId": unique_id})
        } else {
            let place = places.next();
            json!({
                "index": index, "verdict": Outcome::Logged.label(), "uniqueId": unique_id,
                "partition": place.map(|place| place.partition), "position": place.and_then(|place| place.position).map(|position| position.0),
            })
        };
        (*index, event)
    });
    let refused = rejected.iter().map(|one| {
        let rejection = &one.rejection;
        let event = json!({
            "index": one.index, "verdict": Outcome::Rejected.label(),
            "code": rejection.code.label(), "field": rejection.field, "reason": rejection.reason,
        });
        (one.index, event)
    });
    let mut events: Vec<(u32, Value)> = durable.chain(refused).collect();
    events.sort_unstable_by_key(|(index, _)| *index);
    let events: Vec<Value> = events.into_iter().map(|(_, event)| event).collect();
    let logged = taken.len() - known.len();
    let body = json!({"received": events.len(), "logged": logged, "known": known.len(), "rejected": rejected.len(), "events": events});
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(RECEIPT_TYPE));
    response
}
