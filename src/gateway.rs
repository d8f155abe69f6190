//! The hot path: from a request to the answer that its events are durable. Stage 1 of the way of an event.
//!
//! One request is one block of the log and one wake-up. Nothing here does I/O but the append: keys are in memory, events are
//! slices of the body.

mod apart;
pub mod body;
pub mod budget;
pub mod door;
pub mod form;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod letters;
mod receipt;
pub mod recent;
mod replay;
mod report;

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use tokio::sync::Semaphore;

use crate::accounts::{Caller, Denied, Exceeded, KeyRing, Scope};
use crate::batch::{BatchError, Batcher, Settle};
use crate::clock::{Clock, ClockJumped, UnixMillis};
use crate::definitions::{AccountDefinitions, Definitions};
use crate::dialect::ApiError;
use crate::dialect::octane::measurements::{self, Given};
use crate::dialect::routing::X_AUTHORIZATION;
use crate::dialect::speak;
use crate::event::{Fingerprint, HashKey, Rejection, TimeWindow, parse};
use crate::log::{self, Block, Positions, record};
use crate::rules::Rules;
use crate::store;
use crate::telemetry::{self, Outcome};
use apart::{Apart, Batch, Defined, without};
use body::{BodyError, BodyLimits};
use budget::{Budget, Room};
use door::Door;
use form::Form;
use receipt::Named;
use recent::RecentIds;

pub use replay::Replayed;
pub use report::Brought;

/// `Accept` of a client that wants a receipt (contract `amberflo.md` section 2).
pub const RECEIPT_TYPE: &str = "application/vnd.tollgate.receipt+json";
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const OCTANE_AUTHORIZATION: HeaderName = HeaderName::from_static(X_AUTHORIZATION);
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// `Prefer` of a client that wants all of a request taken, or nothing.
const STRICT: &str = "handling=strict";
/// How many events of a request went to the dead letters.
const REJECTED_HEADER: HeaderName = HeaderName::from_static("tollgate-rejected");
/// Bodies from this size on are parsed on a thread that may be kept busy.
const LARGE_BODY_BYTES: usize = 512 << 10;

/// What the gateway goes by.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Of a body.
    pub body: BodyLimits,
    /// Events a request.
    pub events_max: usize,
    /// One event as sent, in bytes.
    pub event_bytes_max: usize,
    /// How far an event's time may lie from its receipt.
    pub window: TimeWindow,
}

/// Takes requests that bring events.
pub struct Gateway {
    /// What it goes by.
    pub settings: Settings,
    /// Who may send.
    pub keys: Arc<KeyRing>,
    /// Room for bodies.
    pub budget: Budget,
    /// Which events count nowhere.
    pub rules: Arc<Rules>,
    /// What events leave open.
    pub definitions: Arc<Definitions>,
    /// What is known to be durable.
    pub recent: RecentIds,
    /// Where events go.
    pub events: Batcher,
    /// Where what is not an event goes.
    pub dead_letters: Batcher,
    /// Of the events' log.
    pub hash_key: HashKey,
    /// Stamps what is received.
    pub clock: Clock,
    /// A place for each core: what a large body takes while it is taken apart is a multiple of its room.
    pub large_parses: Arc<Semaphore>,
}

/// Why a request brought nothing, or nobody knows what.
#[derive(Debug, thiserror::Error)]
enum IngestError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("the API key has not the scope ingest")]
    Forbidden,
    /// Nothing was stored.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    #[error("the content type `{0}` is not supported here; send JSON, NDJSON, or CSV in UTF-8 with a header row")]
    MediaType(String),
    /// A parameter, and what is wrong with it.
    #[error("{0} {1}")]
    Parameter(&'static str, &'static str),
    #[error(transparent)]
    Clock(#[from] ClockJumped),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Json(#[from] parse::BodyError),
    /// Nothing was stored: the only event, all of them, or one where all or nothing was asked for; with the name of the list that it stands
    /// in, which is empty if the body is the list.
    #[error("an event was rejected")]
    Rejected(Rejected, Option<&'static str>),
    #[error(transparent)]
    Append(#[from] BatchError),
    /// Nothing was stored.
    #[error("what is defined in the account cannot be read: {0}")]
    Definitions(store::Error),
    #[error("parsing was interrupted")]
    Interrupted,
    #[error("the body must be one event")]
    NotOne,
    #[error("the body must be an array of events")]
    NotMany,
    /// The body cannot be what the dialect says it is.
    #[error("{0}")]
    Malformed(String),
}

/// An event that was not taken.
#[derive(Debug, Clone)]
struct Rejected {
    index: u32,
    rejection: Rejection,
    raw: Box<[u8]>,
}

/// On which terms a body is taken.
#[derive(Debug, Clone, Copy)]
struct Terms {
    form: Form,
    arity: Arity,
    /// Under which name a list of events stands; empty: it is the body.
    list: &'static str,
    /// Events that it may have.
    events_max: usize,
    /// Whether all of it is taken, or nothing.
    is_strict: bool,
    /// Whether it is to be told which uniqueIds were taken, and of when.
    names_ids: bool,
    /// Whether it is to be told where in the body they stand, and what is to be added to them there.
    keeps_places: bool,
    /// The uniqueId of the first event that has none, as bits; `None`: random.
    made_id: Option<u128>,
}

/// How many events a body may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arity {
    /// One event, or an array.
    Any,
    /// One event.
    One,
    /// An array.
    Many,
}

type Answer = Response<Full<Bytes>>;

/// What became of a body's events: those that were taken are durable.
struct Taken {
    /// Index in the body of each event that was taken.
    taken: Vec<u32>,
    /// Places in `taken` of those that were durable before, ascending.
    known: Vec<u32>,
    /// Of each in `taken`, if asked for.
    named: Vec<Named>,
    /// The same.
    places: Vec<Range<usize>>,
    /// The same, of Octane's measurements.
    given: Vec<Given>,
    /// Of those that were appended, in their order.
    positions: Positions,
    rejected: Vec<Rejected>,
}

impl Gateway {
    /// A request that brings events, at any of the [doors](Door): answers when every taken event is durable, in the words of whoever sent them.
    /// What is left of the body is the caller's ([`body::finish`]).
    pub async fn ingest(&self, door: Door, head: &Parts, body: &mut Incoming) -> Response<Body> {
        let mut door = door;
        let caller = match self.caller(&head.headers).await {
            Ok(caller) => caller,
            Err(error) => return speak(door.dialect(), IntoResponse::into_response(self.refusal(error))),
        };
        let mut response = match self.take(&caller, &mut door, head, body).await {
            Ok(response) => response.map(Body::new),
            Err(error) => speak(door.dialect(), IntoResponse::into_response(self.refusal(error))),
        };
        caller.describe_limits(response.headers_mut());
        response
    }

    async fn take(&self, caller: &Caller, door: &mut Door, head: &Parts, body: &mut Incoming) -> Result<Answer, IngestError> {
        // Before the body: whoever sends too much is told so at little cost. Nobody knows how many events are in it.
        caller.take_request()?;
        let headers = &head.headers;
        let (mut form, mut arity) = door.form(headers, head.uri.query())?;
        let received = self.clock.receive_time()?;
        let (body, room) = body::read(headers, body, self.settings.body, &self.budget, caller.ingest_share()).await?;
        // Revoked or disabled while the body came.
        caller.check()?;
        if *door == Door::StiggOrCloudEvents {
            *door = door.of_body(&body);
            (form, arity) = door.form(headers, head.uri.query())?;
        }
        let events = door.events(headers, body)?;
        let wants_receipt = listed(headers, &ACCEPT, RECEIPT_TYPE);
        let terms = Terms {
            form,
            arity,
            list: door.list(),
            events_max: door.events_max(self.settings.events_max),
            is_strict: door.is_strict() || listed(headers, &PREFER, STRICT),
            names_ids: wants_receipt,
            keeps_places: door.echoes(),
            made_id: None,
        };
        let taken = self.bring(events.clone(), room, caller, received, terms).await?;
        Ok(door.answer(&events, &taken, wants_receipt))
    }

    /// From the bytes of a body to what became of its events, whoever brought them. The room for the bytes is held until nothing is left
    /// of them, also when whoever brought them hangs up before.
    async fn bring(&self, body: Bytes, room: Room, by: &Caller, received: UnixMillis, terms: Terms) -> Result<Taken, IngestError> {
        let (mut room, body_bytes) = (Arc::new(room), body.len());
        let batch = self.parse_with_definitions(body, &room, by.record_account(), received, terms).await?;
        grow(&mut room, body_bytes, &batch)?;
        take_events(by, &batch)?;
        let mut batch = all_or_some(batch, &terms)?;
        let lacks_some = terms.keeps_places && !batch.given.iter().copied().all(Given::is_whole);
        let named = if terms.names_ids || lacks_some { receipt::named(&batch.block) } else { Vec::new() };
        // Before the wait, in which the client may hang up; what is logged is counted where that is settled.
        count_rejected(&batch.rejected);
        telemetry::count_events(Outcome::Known, batch.known.len() as u64);
        if !batch.known.is_empty() {
            batch.block = without(&batch.block, &batch.known);
        }
        let letters = letters::block(&batch.rejected, &batch.sent, by.account, batch.block.received());
        let positions = self.append(batch.block, letters, &room).await?;
        Ok(Taken {
            taken: batch.taken,
            known: batch.known,
            named,
            places: batch.places,
            given: batch.given,
            positions,
            rejected: batch.rejected,
        })
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, IngestError> {
        let caller = self.keys.find(presented_key(headers).ok_or(Denied::Unknown)?).await?;
        if caller.may(Scope::Ingest) { Ok(caller) } else { Err(IngestError::Forbidden) }
    }

    /// Takes a body apart, with what is defined in the account if its events may leave that open.
    async fn parse_with_definitions(
        &self,
        body: Bytes,
        room: &Arc<Room>,
        account: record::Account,
        received: UnixMillis,
        terms: Terms,
    ) -> Result<Batch, IngestError> {
        if !terms.form.shape.leaves_open() {
            return self.parse(body, room.clone(), (account, None), received, terms).await;
        }
        let defined = Some(self.definitions.of(account.number).await.map_err(IngestError::Definitions)?);
        let batch = self.parse(body.clone(), room.clone(), (account, defined.clone()), received, terms).await?;
        // Another node may have been told a moment ago whose these are.
        if batch.lacks_customers() && self.definitions.look().await {
            return self.parse(body, room.clone(), (account, defined), received, terms).await;
        }
        Ok(batch)
    }

    async fn parse(
        &self,
        body: Bytes,
        room: Arc<Room>,
        (account, defined): (record::Account, Option<Arc<AccountDefinitions>>),
        received: UnixMillis,
        terms: Terms,
    ) -> Result<Batch, IngestError> {
        let (settings, hash_key, recent, rules) = (self.settings, self.hash_key, self.recent.clone(), self.rules.of(account.number));
        let is_large = body.len() >= LARGE_BODY_BYTES;
        let parse = move || {
            // Goes on when nobody waits for it any more.
            let _room = room;
            let rules = rules.as_deref();
            let meters = defined.as_deref().map(AccountDefinitions::meters);
            // A change of them waits for whoever reads them.
            let mappings = defined.as_deref().filter(|_| terms.form.shape.is_mapped()).map(AccountDefinitions::mappings);
            let octane = meters.as_ref().zip(mappings.as_ref());
            let defined = Defined {
                octane: octane.map(|(meters, mappings)| measurements::Defined { meters: &meters.events, mappings }),
                plans: meters.as_ref().map(|meters| &meters.plans),
            };
            let mut batch =
                Apart { settings: &settings, hash_key: &hash_key, account, rules, defined, received, terms, body: &body }.take()?;
            match terms.arity {
                Arity::One if batch.is_array => return Err(IngestError::NotOne),
                Arity::Many if !batch.is_array => return Err(IngestError::NotMany),
                Arity::Any | Arity::One | Arity::Many => {}
            }
            batch.known = recent.known(batch.block.fingerprints(), received);
            Ok(batch)
        };
        if !is_large {
            return parse();
        }
        let place = self.large_parses.clone().acquire_owned().await.map_err(|_| IngestError::Interrupted)?;
        let parse = move || {
            let _place = place;
            parse()
        };
        tokio::task::spawn_blocking(parse).await.map_err(|_| IngestError::Interrupted)?
    }

    /// Makes events and dead letters durable, side by side.
    async fn append(&self, block: Block, letters: Block, room: &Arc<Room>) -> Result<Positions, IngestError> {
        let events = append_unless_empty(&self.events, block, room);
        let (events, letters) = tokio::join!(events, append_unless_empty(&self.dead_letters, letters, room));
        letters?;
        Ok(events?)
    }

    /// The one place where an error becomes an answer.
    fn refusal(&self, error: IngestError) -> ApiError {
        let too_large =
            |error: &dyn std::fmt::Display| ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", error.to_string());
        let busy = |what: &str| ApiError::unavailable(format!("{what}; send the same request again"), retry_after_s());
        match error {
            IngestError::Denied(denied) => ApiError::denied(denied),
            IngestError::Exceeded(exceeded) => ApiError::too_many_requests(&exceeded),
            IngestError::Forbidden => ApiError::forbidden("ingest"),
            IngestError::MediaType(_) => ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", error.to_string()),
            IngestError::Parameter(name, reason) => ApiError::bad_field(name, reason),
            IngestError::NotOne | IngestError::NotMany | IngestError::Malformed(_) => ApiError::bad_request(error.to_string()),
            IngestError::Clock(jumped) => {
                tracing::error!(error = %jumped, "events are refused");
                busy("the server's clock is wrong")
            }
            IngestError::Body(BodyError::NoRoom(_)) => busy("too many bytes are in flight"),
            IngestError::Body(error) => body::refusal(&error),
            IngestError::Json(error @ (parse::BodyError::TooMany { .. } | parse::BodyError::TooDense { .. })) => too_large(&error),
            IngestError::Json(error) => ApiError::bad_request(error.to_string()),
            IngestError::Rejected(rejected, list) => rejection_error(&rejected, list),
            IngestError::Append(BatchError::Busy) => busy("too many requests wait"),
            IngestError::Append(BatchError::Log(log::Error::Full)) => busy("the disk is full, nothing was stored"),
            IngestError::Append(BatchError::Log(error)) if error.is_refusal() => {
                tracing::debug!(%error, "an append was refused");
                busy("the log takes nothing now, nothing was stored")
            }
            IngestError::Append(BatchError::Log(error)) => {
                tracing::debug!(%error, "an append did not complete");
                busy("the append did not complete, its outcome is unknown")
            }
            IngestError::Definitions(error) => {
                tracing::warn!(%error, "events are refused: what is defined in their account cannot be read");
                busy("what is defined in the account cannot be read now, nothing was stored")
            }
            IngestError::Interrupted => ApiError::internal(),
        }
    }
}

/// What the door learns of events that went to the log: its side of the books, and which ids are known from now on.
pub struct Settled(pub RecentIds);

impl Settle for Settled {
    fn settle(&self, became: Result<(), &BatchError>, events: u64, durable: &[Fingerprint]) {
        let outcome = match became {
            Ok(()) => Outcome::Logged,
            Err(error) if error.is_refusal() => Outcome::Shed,
            Err(_) => Outcome::Unknown,
        };
        self.0.remember(durable);
        telemetry::count_events(outcome, events);
    }
}

async fn append_unless_empty(batcher: &Batcher, block: Block, room: &Arc<Room>) -> Result<Positions, BatchError> {
    if block.is_empty() { Ok(Positions::NONE) } else { batcher.append(block.seal(), Some(room.clone())).await }
}

/// The key of a request: `X-API-KEY`, or else `Authorization: Bearer`, or else the same in `X-Authorization` (a key is valid in every
/// dialect). Where there is one of them, nobody looks at the next, which may be about somebody else's door. A header that comes twice with different values is none:
/// who stands before us may have judged by the other one.
pub fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = only(headers, &X_API_KEY) {
        return key;
    }
    let authorization = only(headers, &AUTHORIZATION).or_else(|| only(headers, &OCTANE_AUTHORIZATION))??;
    let (scheme, key) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

/// The one value of a header that is there, however often it comes; `Some(None)`: it comes with different ones.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Option<&'a [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(values.all(|other| other == first).then_some(first.as_bytes()))
}

/// Whether a comma-separated header has this item, in any case and with any parameters.
fn listed(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut items = values.flat_map(|value| value.split(',')).map(|listed| listed.split(';').next().unwrap_or("").trim());
    items.any(|listed| listed.eq_ignore_ascii_case(item))
}

/// Between 1 and 5 s, so that refused clients do not all come back at once.
fn retry_after_s() -> u32 {
    let mut random = [0];
    // Without random bytes everyone waits the same time: no harm beyond a burst.
    let _fallback = getrandom::fill(&mut random);
    1 + u32::from(random[0]) % 5
}

fn text(body: Bytes) -> Answer {
    let mut response = Answer::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn rejection_error(rejected: &Rejected, list: Option<&str>) -> ApiError {
    let rejection = &rejected.rejection;
    let place = match (list, rejection.field.is_empty()) {
        (Some(list), true) => format!("{list}[{}]", rejected.index),
        (Some(list), false) => format!("{list}[{}].{}", rejected.index, rejection.field),
        (None, true) => "the event".to_owned(),
        (None, false) => rejection.field.clone(),
    };
    ApiError::bad_field(place, &rejection.reason)
}

/// Takes more room where definitions made much more of events than was sent.
fn grow(room: &mut Arc<Room>, body_bytes: usize, batch: &Batch) -> Result<(), IngestError> {
    let bytes = batch.block.payload().len();
    match Arc::get_mut(room) {
        Some(room) if bytes > 2 * body_bytes => Ok(room.grow_to(bytes).map_err(BodyError::from)?),
        _ => Ok(()),
    }
}

/// Takes the events of a request off the key's allowance; good or bad, they were work.
fn take_events(caller: &Caller, batch: &Batch) -> Result<(), Exceeded> {
    let events = (batch.taken.len() + batch.rejected.len()) as u64;
    caller.take_events(events).inspect_err(|_| telemetry::count_events(Outcome::Shed, events))
}

fn count_rejected(rejected: &[Rejected]) {
    telemetry::count_events(Outcome::Rejected, rejected.len() as u64);
    for one in rejected {
        telemetry::count_rejected(one.rejection.code.label(), 1);
    }
}

/// Decides whether what is good in a batch is taken although something is bad.
fn all_or_some(batch: Batch, terms: &Terms) -> Result<Batch, IngestError> {
    let none_is_good = batch.taken.is_empty();
    match batch.rejected.first() {
        Some(first) if terms.is_strict || none_is_good || batch.is_beyond_letters => {
            let first = first.clone();
            count_rejected(&batch.rejected);
            let neighbours = batch.taken.len() as u64;
            if neighbours > 0 {
                telemetry::count_events(Outcome::Rejected, neighbours);
                // All or nothing: it was asked for, or not all that is bad could be kept.
                telemetry::count_rejected("strict", neighbours);
            }
            Err(IngestError::Rejected(first, batch.is_array.then_some(terms.list)))
        }
        _ => Ok(batch),
    }
}
