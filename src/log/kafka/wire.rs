//! A record as a message of Kafka, for people and tools that read the topic as it is.
//!
//! | | an event | a dead letter, or a mark |
//! |---|---|---|
//! | key | `account/uniqueId`, or `account/namespace/uniqueId` | none |
//! | value | the event as JSON: the fields of `impl Serialize for Record`, and `meterTimeInMicros` where the time has µs | its head as JSON, with the event's bytes as `event` (text) or `eventHex` |
//! | header | `tollgate-record`: `1 <identity hash> <content hash> <flags>`, `2 … <flags> <filtered>` or `3 … <flags> <filtered>` | `tollgate-letter`: `1 <length of the head> <form>` |
//! | time | receive time | receive time |
//! | partition | see [`crate::event::identity::partition`] | 0 |
//!
//! Hashes are hexadecimal. Flags, one hexadecimal digit: 1 the gateway made the uniqueId; 2 filtered by a rule; 4 the event brought
//! no time, the one in the value is the receive time. Where rules dropped some of an event's measurements and not others, the header is of
//! version 2, and `filtered` has a bit for each dropped one (bit n: the n-th of the value), 16 hexadecimal digits. Where some measurements have
//! dimensions of their own, the value has them by meter as `meterDimensions`, and the header is of version 3: `filtered` is 0 there if none or all are.
//!
//! What is read gives exactly the bytes that were to be written ([`record`]), so the fold cannot tell the logs apart. Only what this
//! module writes is read: fields in this order, without spaces, strings with the escapes `\"`, `\\` and `\u00xx`, measurements and dimensions
//! sorted. Anything else becomes a record that cannot be decoded, which holds the value as it was ([`record::Undecodable`]).

mod event;
mod json;
mod letter;

use super::super::record::{self, Undecodable, Why};
use crate::clock::UnixMillis;

pub use event::write_value;

/// The newest version of messages that this binary knows. What does not need it is written in version 1.
pub const VERSION: u16 = 3;
/// Headers of a message that are looked at.
pub const HEADERS_MAX: usize = 32;

/// What a topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Events.
    Events,
    /// Dead letters and marks.
    DeadLetters,
}

impl Form {
    /// Name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// The header that a message of this form has.
    pub fn header(self) -> &'static str {
        match self {
            Self::Events => "tollgate-record",
            Self::DeadLetters => "tollgate-letter",
        }
    }
}

/// A message to be sent. Used again and again, so that nothing is allocated.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Its key; empty: none.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Value of the header [`Form::header`].
    pub header: Vec<u8>,
    /// Where it goes.
    pub partition: u32,
}

/// A message as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'m> {
    /// Its key.
    pub key: Option<&'m [u8]>,
    /// Its value.
    pub value: Option<&'m [u8]>,
    /// Value of the header [`Form::header`].
    pub header: Option<&'m [u8]>,
    /// Its time.
    pub received: UnixMillis,
}

/// A message of a newer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newer {
    /// The version found.
    pub version: u16,
}

/// Bytes that are no record of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no record")]
pub struct NoRecord;

/// Makes a message of a record as [`record::write`] wrote it.
///
/// # Errors
/// [`NoRecord`].
pub fn encode(form: Form, record: &[u8], received: UnixMillis, partitions: u32, to: &mut Outgoing) -> Result<(), NoRecord> {
    to.key.clear();
    to.value.clear();
    to.header.clear();
    match form {
        Form::Events => event::encode(record, received, partitions, to),
        Form::DeadLetters => letter::encode(record, to),
    }
    .ok_or(NoRecord)
}

/// Appends the record that a message stands for: of one that is malformed, a record that cannot be decoded.
///
/// # Errors
/// [`Newer`]: nothing was appended.
pub fn decode(form: Form, message: &Incoming<'_>, to: &mut Vec<u8>) -> Result<(), Newer> {
    let start = to.len();
    if let Some(version) = message.header.and_then(version)
        && version > VERSION
    {
        return Err(Newer { version });
    }
    let decoded = match form {
        Form::Events => event::decode(message, to),
        Form::DeadLetters => letter::decode(message, to),
    };
    if decoded.is_none() {
        to.truncate(start);
        let why = match form {
            Form::Events => event::why(message),
            Form::DeadLetters => Why::NoRecord,
        };
        Undecodable::write(why, message.value.unwrap_or_default(), to);
    }
    Ok(())
}

/// The version at the begin of a header.
fn version(header: &[u8]) -> Option<u16> {
    let digits = header.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The record in these bytes, which are one record's.
fn only(bytes: &[u8], received: UnixMillis) -> Option<record::Record<'_>> {
    record::records(bytes, 1, received).next()?.ok()
}

#[cfg(test)]
mod tests;
