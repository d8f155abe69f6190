//! Rows in SQL: keys as they are stored, fields as they are sent, columns as they are read.

use std::error::Error as StdError;

use ethnum::I256;
use sha2::{Digest as _, Sha256};
use tokio_postgres::types::{FromSql, Type};

use super::numeric::Scaled;
use crate::clock::UnixMicros;
use crate::event::{Amount, Sum};
use crate::sketch::Sketches;
use crate::store::{Error, Row};

/// Bytes of a key that stand in the index. An entry of a b-tree has 2,704 at most; dimensions alone can have 70 KB.
const INDEXED_BYTES: usize = 2_000;
/// 2000-01-01T00:00:00Z, from which PostgreSQL counts, in µs since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// A key as it is stored: what is indexed, and the rest of a long one.
pub(super) fn stored_key(key: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    match key.split_at_checked(INDEXED_BYTES) {
        None | Some((_, [])) => (key.to_vec(), None),
        Some((first, rest)) => {
            let mut indexed = first.to_vec();
            indexed.extend_from_slice(&Sha256::digest(key));
            (indexed, Some(rest))
        }
    }
}

/// A key behind all stored ones that begin with `prefix`, and before all others that are behind it.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    // No stored key is that long, so nothing but 0xff is behind all of them.
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) else { return vec![0xff; 2 * INDEXED_BYTES] };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

/// Builds rows as a binary `COPY` takes them.
pub(super) struct CopyBuffer(Vec<u8>);

impl CopyBuffer {
    /// With its header.
    pub(super) fn new() -> Self {
        let mut bytes = b"PGCOPY\n\xff\r\n\0".to_vec();
        // No flags, no extension.
        bytes.extend_from_slice(&[0; 8]);
        Self(bytes)
    }

    pub(super) fn add(&mut self, key: &[u8], row: &Row) -> Result<(), Error> {
        let count = i64::try_from(row.count).map_err(|_| Error::Failed("a row counts more than 2^63 events".into()))?;
        let time = row.last_time.0.checked_sub(POSTGRES_EPOCH).ok_or_else(|| Error::Failed("a time before the year -290000".into()))?;
        let (key, rest) = stored_key(key);
        self.0.extend_from_slice(&10_i16.to_be_bytes());
        self.field(&key);
        match rest {
            Some(rest) => self.field(rest),
            None => self.null(),
        }
        self.field(&count.to_be_bytes());
        self.field(&time.to_be_bytes());
        Scaled(row.sum.scaled()).write_field(&mut self.0);
        for amount in [row.min, row.max, row.last] {
            Scaled(I256::from(amount.scaled())).write_field(&mut self.0);
        }
        self.field(row.last_id.as_bytes());
        match &row.sketches {
            Some(sketches) => {
                let mut bytes = row.count.to_le_bytes().to_vec();
                sketches.write(&mut bytes);
                self.field(&bytes);
            }
            None => self.null(),
        }
        Ok(())
    }

    fn null(&mut self) {
        self.0.extend_from_slice(&(-1_i32).to_be_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What was gathered; goes on empty.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let capacity = self.0.capacity();
        std::mem::replace(&mut self.0, Vec::with_capacity(capacity))
    }

    /// The last part.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&(-1_i16).to_be_bytes());
        self.0
    }
}

/// µs since 1970.
struct Micros(i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let time = i64::from_be_bytes(bytes.try_into()?);
        time.checked_add(POSTGRES_EPOCH).map(Self).ok_or_else(|| "a time beyond all".into())
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}

/// The sketches of a row: the count that they are of, and themselves. A binary from before there were sketches leaves the column as it is
/// when it adds to the row; then they do not have all values any more, and the row has none.
fn read_sketches(stored: Option<&[u8]>, count: u64) -> Result<Option<Box<Sketches>>, Error> {
    let Some(stored) = stored else { return Ok(None) };
    let split = stored.split_first_chunk::<8>().map(|(of, sketches)| (u64::from_le_bytes(*of), sketches));
    let (of, sketches) = split.ok_or_else(|| damaged(&"its sketches"))?;
    let sketches = Sketches::read(sketches).ok_or_else(|| damaged(&"its sketches"))?;
    Ok((of == count).then(|| Box::new(sketches)))
}

/// The key and the row of: key, rest, count, last_time, sum, min, max, last, last_id, sketches. Writes the key into `key`.
pub(super) fn read(from: &tokio_postgres::Row, key: &mut Vec<u8>) -> Result<Row, Error> {
    read_columns(from, key).unwrap_or_else(|error| Err(damaged(&error)))
}

fn read_columns(from: &tokio_postgres::Row, key: &mut Vec<u8>) -> Result<Result<Row, Error>, tokio_postgres::Error> {
    let (indexed, rest): (&[u8], Option<&[u8]>) = (from.try_get(0)?, from.try_get(1)?);
    key.clear();
    key.extend_from_slice(if rest.is_some() { indexed.get(..INDEXED_BYTES).unwrap_or(indexed) } else { indexed });
    key.extend_from_slice(rest.unwrap_or_default());
    let (count, Micros(last_time)): (i64, Micros) = (from.try_get(2)?, from.try_get(3)?);
    let Scaled(sum) = from.try_get(4)?;
    let amount = |column| -> Result<Option<Amount>, tokio_postgres::Error> {
        let Scaled(number) = from.try_get(column)?;
        Ok(i128::try_from(number).ok().and_then(|number| Amount::from_scaled(number).ok()))
    };
    let (Ok(count), Some(min), Some(max), Some(last)) = (u64::try_from(count), amount(5)?, amount(6)?, amount(7)?) else {
        return Ok(Err(damaged(&"a number that no row has")));
    };
    let last_id: &str = from.try_get(8)?;
    let sketches = match read_sketches(from.try_get(9)?, count) {
        Ok(sketches) => sketches,
        Err(error) => return Ok(Err(error)),
    };
    let (sum, last_time, last_id) = (Sum::from_scaled(sum), UnixMicros(last_time), last_id.to_owned());
    let row = Row { count, sum, min, max, last_time, last, last_id, sketches };
    Ok(if row.is_possible() { Ok(row) } else { Err(damaged(&"numbers that no row has")) })
}

pub(super) fn damaged(what: &dyn std::fmt::Display) -> Error {
    Error::Damaged(format!("a row of tollgate.rows cannot be read: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behind_a_prefix_begins_what_does_not_begin_with_it(prefix in proptest::collection::vec(250_u8.., 0..5), key in proptest::collection::vec(250_u8.., 0..8)) {
            let is_inside = key >= prefix && key < behind(&prefix);
            prop_assert_eq!(is_inside, key.starts_with(&prefix));
        }
    }

    #[test]
    fn keys_that_differ_anywhere_are_stored_differently() {
        let long = vec![7; INDEXED_BYTES];
        let longer = [long.as_slice(), &[1]].concat();
        let another = [long.as_slice(), &[2]].concat();
        assert_eq!(stored_key(&long), (long.clone(), None));
        assert_eq!(stored_key(&longer).1, Some(&[1][..]));
        assert_ne!(stored_key(&longer).0, stored_key(&another).0);
        assert!(stored_key(&longer).0 > long, "the shorter one comes first");
    }
}
