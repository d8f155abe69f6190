//! Dimensions that single measurements have of their own, and measurements with all that they have.

use std::borrow::Cow;

use super::{Cursor, Record, dimensions};
use crate::event::identity::write_dimension;
use crate::event::{Amount, MeterEvent};

/// A measurement with all that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured<'b> {
    /// The meter.
    pub meter: &'b str,
    /// What it showed.
    pub value: Amount,
    /// Whether it counts nowhere: a rule dropped it, or its meter could not read it.
    pub is_filtered: bool,
    /// The event's dimensions with its own, as [`Record::dimension_bytes`] has them.
    pub dimensions: Cow<'b, [u8]>,
}

/// Appends what the measurements of an event have of their own.
pub(super) fn write(event: &MeterEvent<'_, '_>, to: &mut Vec<u8>) {
    let mut own = event.own_dimensions();
    for at in 0..event.measurements().len() {
        let count = own.iter().take_while(|own| own.measurement == at).count();
        // No more than an event may have: checked when it was mapped.
        to.push(count as u8);
        own[..count].iter().for_each(|own| write_dimension(own.key, own.value, to));
        own = &own[count..];
    }
}

/// Reads what that wrote; `None` where it makes no sense.
pub(super) fn read<'b>(cursor: &mut Cursor<'b>, measurements: u8, shared: u8) -> Option<&'b [u8]> {
    let start = cursor.0;
    let mut has_any = false;
    for _ in 0..measurements {
        let items = cursor.items(Cursor::dimension)?;
        shared.checked_add(items[0])?;
        has_any |= items[0] > 0;
    }
    has_any.then(|| &start[..start.len() - cursor.0.len()])
}

impl<'b> Record<'b> {
    /// Whether any measurement has dimensions of its own.
    pub fn has_own_dimensions(&self) -> bool {
        !self.own.is_empty()
    }

    /// What each measurement has of its own; nothing, if none has anything.
    fn own(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let mut cursor = Cursor(self.own);
        std::iter::from_fn(move || cursor.items(Cursor::dimension))
    }

    /// The meters of measurements that have dimensions of their own, with these: count and items.
    pub fn own_sets(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        self.measurements().zip(self.own()).map(|((meter, _), own)| (meter, own)).filter(|(_, own)| own[0] > 0)
    }

    /// The dimensions that one measurement has of its own, by its place; sorted by key.
    pub fn own_dimensions(&self, measurement: usize) -> impl Iterator<Item = (&'b str, &'b str)> + use<'b> {
        dimensions(self.own().nth(measurement).unwrap_or(&[]))
    }

    /// The measurements with all that they have, sorted by meter.
    pub fn measured(&self) -> impl Iterator<Item = Measured<'b>> + use<'b> {
        let (record, mut own) = (*self, self.own());
        self.measurements().enumerate().map(move |(at, (meter, value))| Measured {
            meter,
            value,
            is_filtered: record.is_filtered(at),
            dimensions: merged(record.dimensions, own.next().unwrap_or(&[])),
        })
    }

    /// Those that count, once the record is the first of its identity.
    pub fn counted(&self) -> impl Iterator<Item = Measured<'b>> + use<'b> {
        self.measured().filter(|measured| !measured.is_filtered)
    }

    /// The meters of a record that counts, of which it does not.
    pub fn filtered_meters(&self) -> impl Iterator<Item = &'b str> + use<'b> {
        let record = *self;
        self.measurements().enumerate().filter(move |(at, _)| record.is_filtered(*at)).map(|(_, (meter, _))| meter)
    }
}

/// Two sets of dimensions as one, sorted by key. Of two with the same key, that of `own` stays.
fn merged<'b>(shared: &'b [u8], own: &'b [u8]) -> Cow<'b, [u8]> {
    if own.first().is_none_or(|count| *count == 0) {
        return Cow::Borrowed(shared);
    }
    let mut to = Vec::with_capacity(shared.len() + own.len());
    to.push(0);
    let (mut left, mut right) = (dimensions(shared).peekable(), dimensions(own).peekable());
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some((key, _)), Some((own, _))) if key < own => left.next(),
            (Some((key, _)), Some((own, _))) if key == own => {
                left.next();
                right.next()
            }
            (_, Some(_)) => right.next(),
            (_, None) => left.next(),
        };
        let Some((key, value)) = next else { break };
        write_dimension(key, value, &mut to);
        // Both together are no more: checked when the record was read.
        to[0] = to[0].saturating_add(1);
    }
    Cow::Owned(to)
}

#[cfg(test)]
mod tests;
