//! Rows on their way to the store: encoded, so that a million of them take no more than they will there.

use super::{Error, Row};

/// Memory is taken in pieces of this size: none is ever moved to grow.
const PIECE_BYTES: usize = 1 << 20;

/// Encoded keys with their whole new rows.
#[derive(Debug, Clone, Default)]
pub struct EncodedRows {
    pieces: Vec<Vec<u8>>,
    places: Vec<Place>,
}

/// Where a row is: its key, and behind it the row.
#[derive(Debug, Clone, Copy)]
struct Place {
    piece: u32,
    at: u32,
    key: u32,
    row: u32,
}

impl EncodedRows {
    /// For about so many.
    pub fn with_capacity(rows: usize) -> Self {
        Self { pieces: Vec::new(), places: Vec::with_capacity(rows) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds a row under its encoded key.
    pub fn push(&mut self, key: &[u8], row: &Row) {
        let is_full = |piece: &Vec<u8>| piece.len() + key.len() >= PIECE_BYTES;
        if self.pieces.last().is_none_or(is_full) {
            // A row with sketches may take it a little further.
            self.pieces.push(Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 16));
        }
        let number = self.pieces.len() as u32 - 1;
        let Some(piece) = self.pieces.last_mut() else { return };
        let at = piece.len();
        piece.extend_from_slice(key);
        row.write(piece);
        self.places.push(Place { piece: number, at: at as u32, key: key.len() as u32, row: (piece.len() - at - key.len()) as u32 });
    }

    /// Brings them in the order of their keys.
    pub fn sort(&mut self) {
        let Self { pieces, places } = self;
        places.sort_unstable_by(|one, other| one.of(pieces).0.cmp(other.of(pieces).0));
    }

    /// Encoded keys and encoded rows.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|place| place.of(&self.pieces))
    }

    /// Encoded keys and rows.
    ///
    /// # Errors
    /// [`Error::Damaged`]: what is not a row that was once added.
    pub fn rows(&self) -> impl Iterator<Item = Result<(&[u8], Row), Error>> {
        self.iter().map(|(key, row)| Ok((key, Row::read(row).ok_or_else(|| Error::Damaged("a row on its way to the store".into()))?)))
    }

    /// The same, all of them.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn decoded(&self) -> Result<Vec<(Vec<u8>, Row)>, Error> {
        self.rows().map(|row| row.map(|(key, row)| (key.to_vec(), row))).collect()
    }
}

impl Place {
    fn of<'p>(&self, pieces: &'p [Vec<u8>]) -> (&'p [u8], &'p [u8]) {
        let [at, key, row] = [self.at, self.key, self.row].map(|bytes| bytes as usize);
        pieces[self.piece as usize][at..at + key + row].split_at(key)
    }
}

/// In the order of their keys.
impl FromIterator<(Vec<u8>, Row)> for EncodedRows {
    fn from_iter<T: IntoIterator<Item = (Vec<u8>, Row)>>(rows: T) -> Self {
        let mut encoded = Self::default();
        rows.into_iter().for_each(|(key, row)| encoded.push(&key, &row));
        encoded.sort();
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;
    use crate::event::Amount;
    use proptest::prelude::*;

    fn row(value: i64, id_bytes: usize) -> Row {
        Row::first(Amount::from_int(value), UnixMicros(value), &"u".repeat(id_bytes))
    }

    proptest! {
        #[test]
        fn rows_come_back_in_the_order_of_their_keys(
            keys in proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 0..300), 0..40).prop_map(Vec::from_iter).prop_shuffle(),
        ) {
            let rows: Vec<_> = keys.into_iter().enumerate().map(|(at, key)| (key, row(at as i64, at * 6))).collect();
            let encoded: EncodedRows = rows.iter().cloned().collect();
            let expected = std::collections::BTreeMap::from_iter(rows);
            prop_assert_eq!((encoded.len(), encoded.is_empty()), (expected.len(), expected.is_empty()));
            prop_assert_eq!(encoded.decoded().expect("rows"), Vec::from_iter(expected));
        }
    }

    #[test]
    fn more_rows_than_a_piece_holds_are_in_several_and_no_piece_has_grown() {
        let rows = || (0..30_000_i64).map(|at| (at.to_be_bytes().to_vec(), row(at, 90)));
        let encoded: EncodedRows = rows().collect();
        assert!(encoded.pieces.len() > 3);
        assert!(encoded.pieces.iter().all(|piece| piece.capacity() == PIECE_BYTES + PIECE_BYTES / 16));
        assert_eq!(encoded.decoded().expect("rows"), rows().collect::<Vec<_>>());
    }
}
