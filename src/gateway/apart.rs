//! From the bytes of a body to a block of records and what had to be left out, whatever the form. Nothing here waits for anything.

use std::cell::RefCell;

use super::form::{Sent, Syntax};
use super::{IngestError, Rejected, Settings, Terms, recent};
use crate::clock::UnixMillis;
use crate::dialect::amberflo::ingest::custom::{members_of_row, read_custom, record_hash, row_hash};
use crate::dialect::amberflo::ingest::{Scratch, impossible_column, read_event, read_row};
use crate::event::csv::Table;
use crate::event::parse::{BodyError, Element, Parser, lines};
use crate::event::{Code, Fingerprint, HashKey, MeterEvent, Rejection};
use crate::log::{Block, record};
use crate::rules::AccountRules;

/// Bytes of header rows that the letters of one request keep, or as many as its body has: each letter of a row has its own.
const HEADERS_BYTES_MAX: usize = 2 << 20;

/// A request taken apart.
pub(super) struct Batch {
    /// Records of the events that are taken, with the fingerprint of each.
    pub(super) block: Block,
    /// Index in the request of each event that is taken.
    pub(super) taken: Vec<u32>,
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

/// What bodies are taken apart with.
pub(super) struct Apart<'a> {
    pub(super) settings: &'a Settings,
    pub(super) hash_key: &'a HashKey,
    pub(super) account: record::Account,
    /// Of the account, if it has any.
    pub(super) rules: Option<&'a AccountRules>,
    pub(super) received: UnixMillis,
    pub(super) terms: Terms,
}

thread_local! {
    static PARSER: RefCell<Parser> = RefCell::default();
}

impl Apart<'_> {
    /// Takes a body apart.
    pub(super) fn take(&self, body: &[u8]) -> Result<Batch, IngestError> {
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
            known: Vec::new(),
            rejected: Vec::new(),
            is_array,
            sent: Sent { syntax, is_custom: self.terms.form.is_custom, header: None },
            is_beyond_letters: false,
        }
    }

    fn scratch<'t>(&self) -> Scratch<'t> {
        self.terms.made_id.map_or_else(Scratch::default, Scratch::making)
    }

    fn elements<'t>(&self, elements: impl Iterator<Item = Element<'t>>, mut batch: Batch) -> Batch {
        let (received, window) = (self.received, self.settings.window);
        let mut scratch = self.scratch();
        let members = |element: Element<'t>| self.check_size(element.raw).and(element.members);
        if self.terms.form.is_custom {
            for (index, element) in (0..).zip(elements) {
                let raw = element.raw;
                let hash = || record_hash(self.hash_key, raw);
                let event = members(element).and_then(|members| read_custom(members, hash, &mut scratch, received, window));
                self.note(&mut batch, index, raw, event);
            }
        } else {
            for (index, element) in (0..).zip(elements) {
                let raw = element.raw;
                let event = members(element).and_then(|members| read_event(members, &mut scratch, received, window));
                self.note(&mut batch, index, raw, event);
            }
        }
        batch
    }

    fn table(&self, body: &[u8]) -> Result<Batch, BodyError> {
        let table = Table::read(body, self.terms.events_max)?;
        let columns = table.columns();
        let is_custom = self.terms.form.is_custom;
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
        match read {
            Ok(event) => {
                let decisions = self.rules.map_or_else(record::Decisions::default, |rules| rules.decide(&event));
                let write = |to: &mut _| record::write(to, self.hash_key, self.account, &event, decisions);
                let (identity, content) = batch.block.push(write);
                batch.block.note(if recent::may_recur(&event) { Fingerprint::of(identity, content) } else { Fingerprint::NONE });
                batch.taken.push(index);
            }
            Err(rejection) => batch.rejected.push(Rejected { index, rejection, raw: raw.into() }),
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
