//! Documents one after the other, fetched some at a time: what is in memory does not grow with how many there are.

use std::vec;

use super::{Error, Kind, Store};

/// Documents that are fetched at a time.
const PIECE: usize = if cfg!(test) { 2 } else { 256 };

/// All documents of a kind, ordered by id (in bytes). One that is there from the first to the last call comes exactly once; whether one
/// comes that is made or removed meanwhile, nobody knows.
pub struct Each<'s> {
    store: &'s dyn Store,
    kind: Kind,
    account: u32,
    piece: vec::IntoIter<(String, Vec<u8>)>,
    last: Option<String>,
    is_over: bool,
}

impl<'s> Each<'s> {
    /// The documents of a kind below an account.
    pub fn of(store: &'s dyn Store, kind: Kind, account: u32) -> Self {
        Self { store, kind, account, piece: Vec::new().into_iter(), last: None, is_over: false }
    }

    fn fetch(&mut self) -> Result<(), Error> {
        let piece = self.store.documents_after(self.kind, self.account, self.last.as_deref(), PIECE)?;
        self.is_over = piece.len() < PIECE;
        self.last = piece.last().map(|(id, _)| id.clone());
        self.piece = piece.into_iter();
        Ok(())
    }
}

impl Iterator for Each<'_> {
    type Item = Result<(String, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.piece.len() == 0
            && !self.is_over
            && let Err(error) = self.fetch()
        {
            self.is_over = true;
            return Some(Err(error));
        }
        self.piece.next().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Change;
    use crate::store::memory::MemoryStore;

    #[test]
    fn every_document_comes_once_whatever_the_pieces_are() {
        for count in 0..6 {
            let store = MemoryStore::default();
            for n in 0..count {
                store.change_document(Kind::Customer, 1, &n.to_string(), &mut |_| Change::Put(vec![b'1'])).expect("memory");
            }
            let found: Vec<_> = Each::of(&store, Kind::Customer, 1).map(|found| found.expect("memory").0).collect();
            assert_eq!(found, (0..count).map(|n: i32| n.to_string()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_it() {
        let store = MemoryStore::default();
        store.break_down();
        assert_eq!(Each::of(&store, Kind::Customer, 1).map(|found| found.is_err()).collect::<Vec<_>>(), [true]);
    }
}
