//! From the bytes of a body to a block of records and what had to be left out, whatever the form. Nothing here waits for anything.

use std::cell::RefCell;
use std::ops::Range;

use super::form::{Sent, Shape, Syntax};
use super::{IngestError, Rejected, Settings, Terms, recent};
use crate::clock::UnixMillis;
use crate::dialect::amberflo::ingest::custom::{members_of_row, read_custom, record_hash, row_hash};
use crate::dialect::amberflo::ingest::{impossible_column, read_event, read_row};
use crate::dialect::cloudevents::events::read_cloud_event;
use crate::dialect::cloudevents::plan::Plans;
use crate::dialect::draft::Scratch;
use crate::dialect::octane::measurements::{self, Given, read_measurement};
use crate::dialect::stigg::events as stigg;
use crate::event::csv::Table;
use crate::event::parse::{BodyError, Element, Members, Parser, lines};
use crate::event::{Code, Fingerprint, HashKey, MeterEvent, Rejection};
use crate::log::{Block, record};
use crate::rules::AccountRules;

/// Bytes of header rows that the letters of one request keep, or as many as its body has: each letter of a row has its own.
const HEADERS_BYTES_MAX: usize = 2 << 20;

/// Bytes that the records of one request may have: definitions may make more of an event than was sent.
const RECORDS_BYTES_MAX: usize = 32 << 20;

/// What is defined in the account, as far as an event leaves it open.
#[derive(Clone, Copy, Default)]
pub(super) struct Defined<'a> {
    pub(super) octane: Option<measurements::Defined<'a>>,
    pub(super) plans: Option<&'a Plans>,
}

/// A request taken apart.
pub(super) struct Batch {
    /// Records of the events that are taken, with the fingerprint of each.
    pub(super) block: Block,
    /// Index in the request of each event that is taken.
    pub(super) taken: Vec<u32>,
    /// Where in the body each of them stands, if asked for.
    pub(super) places: Vec<Range<usize>>,
    /// Of Octane's measurements, of which all are taken or none: with what each came.
    pub(super) given: Vec<Given>,
    /// Which of those are known to be durable, ascending; once they were looked up.
    pub(super) known: Vec<u32>,
    pub(super) rejected: Vec<Rejected>,
    /// Whether it may have any number of events.
    pub(super) is_array: bool,
    /// The form that each event was sent in.
    pub(super) sent: Sent,
    /// Whether there are more bad events than letters can be kept of.
    pub(super) is_beyond_letters: bool,
}

impl Batch {
    /// Whether there are events of which nobody knows whose they are.
    pub(super) fn lacks_customers(&self) -> bool {
        self.rejected
            .iter()
            .any(|Rejected { rejection, .. }| rejection.field == measurements::CUSTOMER && rejection.code == Code::MissingField)
    }
}

/// What bodies are taken apart with.
pub(super) struct Apart<'a> {
    pub(super) settings: &'a Settings,
    pub(super) hash_key: &'a HashKey,
    pub(super) account: record::Account,
    /// Of the account, if it has any.
    pub(super) rules: Option<&'a AccountRules>,
    pub(super) defined: Defined<'a>,
    pub(super) received: UnixMillis,
    pub(super) terms: Terms,
    /// What is taken apart.
    pub(super) body: &'a [u8],
}

thread_local! {
    static PARSER: RefCell<Parser> = RefCell::default();
}

impl<'a> Apart<'a> {
    /// Takes a body apart.
    pub(super) fn take(&self) -> Result<Batch, IngestError> {
        let body = self.body;
        let batch = match self.terms.form.syntax {
            Syntax::Csv => self.table(body)?,
            Syntax::Json | Syntax::Ndjson => PARSER.with_borrow_mut(|parser| {
                let batch = if self.terms.form.syntax == Syntax::Json { self.json(parser, body) } else { self.lines(parser, body) };
                parser.trim();
                batch
            })?,
        };
        Ok(batch)
    }

    fn json(&self, parser: &mut Parser, body: &[u8]) -> Result<Batch, BodyError> {
        let refused = match parser.parse(body, self.terms.events_max) {
            Ok(parsed) => return Ok(self.elements(parsed.elements(), self.batch(Syntax::Json, body, parsed.is_array()))),
            Err(refused) => refused,
        };
        match refused {
            BodyError::Syntax(_) if lines::are_in(body) => self.lines(parser, body),
            refused => Err(refused),
        }
    }

    fn lines(&self, parser: &mut Parser, body: &[u8]) -> Result<Batch, BodyError> {
        let joined = lines::join(body);
        let batch = || self.batch(Syntax::Ndjson, body, true);
        match parser.parse(&joined.text, self.terms.events_max) {
            Ok(parsed) if parsed.is_one_a_line(joined.lines) => return Ok(self.elements(parsed.elements(), batch())),
            Ok(_) | Err(_) => {}
        }
        let parsed = parser.parse_each_line(body, self.terms.events_max)?;
        Ok(self.elements(parsed.elements(), batch()))
    }

    fn batch(&self, syntax: Syntax, body: &[u8], is_array: bool) -> Batch {
        Batch {
            block: Block::new(self.received, body.len()),
            taken: Vec::new(),
            places: Vec::new(),
            given: Vec::new(),
            known: Vec::new(),
            rejected: Vec::new(),
            is_array,
            sent: Sent { syntax, shape: self.terms.form.shape, header: None },
            is_beyond_letters: false,
        }
    }

    fn scratch<'t>(&self) -> Scratch<'t> {
        self.terms.made_id.map_or_else(Scratch::default, Scratch::making)
    }

    fn elements<'t>(&self, elements: impl Iterator<Item = Element<'t>>, mut batch: Batch) -> Batch
    where
        'a: 't,
    {
        let (received, window) = (self.received, self.settings.window);
        let (key, Defined { octane, plans }) = (self.hash_key, self.defined);
        match self.terms.form.shape {
            Shape::Amberflo => self.each(elements, &mut batch, |_, members, scratch| read_event(members, scratch, received, window)),
            Shape::Custom => self.each(elements, &mut batch, |raw, members, scratch| {
                read_custom(members, || record_hash(key, raw), scratch, received, window)
            }),
            Shape::Octane => {
                let mut all = Vec::new();
                self.each(elements, &mut batch, |_, members, scratch| {
                    let mut given = Given::default();
                    let event = read_measurement(members, (key, octane), &mut given, scratch, received, window);
                    all.push(given);
                    event
                });
                batch.given = all;
            }
            Shape::StiggEvent => {
                self.each(elements, &mut batch, |_, members, scratch| stigg::read_event(members, scratch, received, window))
            }
            Shape::StiggUsage => {
                self.each(elements, &mut batch, |_, members, scratch| stigg::read_usage(members, scratch, received, window))
            }
            Shape::CloudEvent => {
                self.each(elements, &mut batch, |_, members, scratch| read_cloud_event(members, plans, scratch, received, window))
            }
        }
        batch
    }

    /// Reads each element by `read`, from its bytes and its members.
    #[inline]
    fn each<'t, R>(&self, elements: impl Iterator<Item = Element<'t>>, batch: &mut Batch, mut read: R)
    where
        R: for<'s> FnMut(&'t [u8], Members<'t>, &'s mut Scratch<'t>) -> Result<MeterEvent<'t, 's>, Rejection>,
    {
        let mut scratch = self.scratch();
        for (index, Element { raw, members }) in (0..).zip(elements) {
            let members = self.check_size(raw).and(members);
            let event = members.and_then(|members| read(raw, members, &mut scratch));
            self.note(batch, index, raw, event);
        }
    }

    fn table(&self, body: &[u8]) -> Result<Batch, BodyError> {
        let table = Table::read(body, self.terms.events_max)?;
        let columns = table.columns();
        let is_custom = self.terms.form.shape == Shape::Custom;
        if let Some(column) = impossible_column(&columns).filter(|_| !is_custom) {
            return Err(BodyError::Table(format!("the column `{column}` of the contract is an object, which a field cannot be")));
        }
        let (received, window) = (self.received, self.settings.window);
        let mut scratch = self.scratch();
        let mut batch = self.batch(Syntax::Csv, body, true);
        for (index, row) in (0..).zip(table.rows()) {
            let event = match self.check_size(row.raw).and(row.fields) {
                Ok(fields) if is_custom => {
                    let hash = || row_hash(self.hash_key, &columns, &fields);
                    read_custom(members_of_row(&columns, &fields), hash, &mut scratch, received, window)
                }
                Ok(fields) => read_row(&columns, &fields, &mut scratch, received, window),
                Err(rejection) => Err(rejection),
            };
            self.note(&mut batch, index, row.raw, event);
        }
        batch.is_beyond_letters = batch.rejected.len() * table.header().len() > HEADERS_BYTES_MAX.max(body.len());
        batch.sent.header = Some(table.header().to_owned());
        Ok(batch)
    }

    #[inline]
    fn note(&self, batch: &mut Batch, index: u32, raw: &[u8], read: Result<MeterEvent<'_, '_>, Rejection>) {
        let is_full = batch.block.payload().len() >= RECORDS_BYTES_MAX;
        match read {
            Ok(_) if is_full => {
                let reason =
                    format!("comes behind events that take more than {RECORDS_BYTES_MAX} bytes with all their meters: send fewer at once");
                batch.rejected.push(Rejected { index, rejection: Rejection::new(Code::TooLarge, "", reason), raw: raw.into() });
            }
            Ok(event) => {
                let decisions = self.rules.map_or_else(record::Decisions::default, |rules| rules.decide(&event));
                let write = |to: &mut _| record::write(to, self.hash_key, self.account, &event, decisions);
                let (identity, content) = batch.block.push(write);
                batch.block.note(if recent::may_recur(&event) { Fingerprint::of(identity, content) } else { Fingerprint::NONE });
                batch.taken.push(index);
                if self.terms.keeps_places {
                    batch.places.push(place_in(self.body, raw));
                }
            }
            Err(rejection) => {
                let rejection = self.terms.form.shape.in_its_words(rejection);
                batch.rejected.push(Rejected { index, rejection, raw: raw.into() });
            }
        }
    }

    fn check_size(&self, raw: &[u8]) -> Result<(), Rejection> {
        let limit = self.settings.event_bytes_max;
        if raw.len() <= limit {
            Ok(())
        } else {
            Err(Rejection::new(Code::TooLarge, "", format!("has {} bytes, the limit is {limit}", raw.len())))
        }
    }
}

/// Where a part of a body stands in it; nowhere, if it is of other bytes.
fn place_in(body: &[u8], part: &[u8]) -> Range<usize> {
    let at = (part.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    if at <= body.len() && part.len() <= body.len() - at { at..at + part.len() } else { 0..0 }
}

/// The block without some of its records.
pub(super) fn without(block: &Block, left_out: &[u32]) -> Block {
    let mut rest = Block::new(block.received(), block.payload().len());
    let mut left_out = left_out.iter().copied().peekable();
    for (at, (record, fingerprint)) in (0..).zip(record::parts(block.payload()).zip(block.fingerprints())) {
        if left_out.next_if_eq(&at).is_none() {
            rest.push(|to| to.extend_from_slice(record));
            rest.note(*fingerprint);
        }
    }
    rest
}
