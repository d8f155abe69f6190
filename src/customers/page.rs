//! A page of a list that others add to and remove from: cut by where things stand and not by how many come before.
//!
//! What is in the list from the first page to the last, is on exactly one of them. Whoever looks through everything keeps one page.

use std::collections::BTreeMap;

use crate::clock::UnixMicros;

/// Where something stands in a list: by when it was made, of equals by id (in bytes).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it was made.
    pub made_at: UnixMicros,
    /// Unique in the list.
    pub id: String,
}

/// Where a page begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    /// The first page.
    Start,
    /// What comes behind a place.
    After(Place),
    /// What comes last before a place.
    Before(Place),
}

/// Which page is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Where.
    pub edge: Edge,
    /// Its most entries.
    pub limit: usize,
}

/// A page, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<(Place, T)>,
    /// Whether the list has something before it.
    pub has_before: bool,
    /// Whether the list has something behind it.
    pub has_after: bool,
}

/// Makes a page of a list whose entries come in any order.
pub struct Pager<T> {
    window: Window,
    kept: BTreeMap<Place, T>,
    has_before: bool,
    has_after: bool,
}

impl<T> Pager<T> {
    /// Nothing so far.
    pub fn new(window: Window) -> Self {
        Self { window, kept: BTreeMap::new(), has_before: false, has_after: false }
    }

    /// Takes an entry of the list.
    pub fn offer(&mut self, place: Place, item: T) {
        match &self.window.edge {
            Edge::After(edge) if place <= *edge => self.has_before = true,
            Edge::Before(edge) if place >= *edge => self.has_after = true,
            Edge::Start | Edge::After(_) => {
                self.kept.insert(place, item);
                self.has_after |= self.kept.len() > self.window.limit && self.kept.pop_last().is_some();
            }
            Edge::Before(_) => {
                self.kept.insert(place, item);
                self.has_before |= self.kept.len() > self.window.limit && self.kept.pop_first().is_some();
            }
        }
    }

    /// The page, when the whole list has come.
    pub fn page(self) -> Page<T> {
        Page { items: self.kept.into_iter().collect(), has_before: self.has_before, has_after: self.has_after }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(made_at: i64, id: u8) -> Place {
        Place { made_at: UnixMicros(made_at), id: id.to_string() }
    }

    fn page(list: &[Place], edge: Edge, limit: usize) -> Page<()> {
        let mut pager = Pager::new(Window { edge, limit });
        list.iter().for_each(|place| pager.offer(place.clone(), ()));
        pager.page()
    }

    fn places(page: &Page<()>) -> Vec<Place> {
        page.items.iter().map(|(place, ())| place.clone()).collect()
    }

    fn any_list() -> impl Strategy<Value = Vec<Place>> {
        proptest::collection::btree_set((0..5i64, 0..9u8), 0..20)
            .prop_map(|set| set.into_iter().map(|(made_at, id)| place(made_at, id)).collect::<Vec<_>>())
            .prop_shuffle()
    }

    proptest! {
        #[test]
        fn pages_forth_and_back_are_the_list(list in any_list(), limit in 1..6usize) {
            let mut sorted = list.clone();
            sorted.sort();
            let (mut forth, mut edge) = (Vec::new(), Edge::Start);
            loop {
                let page = page(&list, edge, limit);
                prop_assert_eq!(page.has_before, !forth.is_empty());
                forth.extend(places(&page));
                prop_assert_eq!(page.has_after, forth.len() < sorted.len());
                let Some(last) = forth.last().filter(|_| page.has_after) else { break };
                edge = Edge::After(last.clone());
            }
            prop_assert_eq!(&forth, &sorted);
            let (mut back, mut edge) = (Vec::new(), Edge::Before(place(9, 0)));
            loop {
                let page = page(&list, edge, limit);
                prop_assert_eq!(page.has_after, !back.is_empty());
                back.splice(0..0, places(&page));
                prop_assert_eq!(page.has_before, back.len() < sorted.len());
                let Some(first) = back.first().filter(|_| page.has_before) else { break };
                edge = Edge::Before(first.clone());
            }
            prop_assert_eq!(back, sorted);
        }

        #[test]
        fn what_stays_is_on_one_page_whatever_comes_and_goes(
            stays in any_list(),
            others in proptest::collection::vec(any_list(), 1..8),
            limit in 1..4usize,
        ) {
            let (mut seen, mut edge) = (Vec::new(), Edge::Start);
            for turn in 0.. {
                // Something else beside it each time.
                let beside = others[turn % others.len()].iter().filter(|place| !stays.contains(place));
                let list: Vec<_> = stays.iter().chain(beside).cloned().collect();
                let page = page(&list, edge, limit);
                seen.extend(places(&page));
                let Some(last) = seen.last().filter(|_| page.has_after) else { break };
                edge = Edge::After(last.clone());
            }
            for place in &stays {
                prop_assert_eq!(seen.iter().filter(|seen| *seen == place).count(), 1);
            }
            prop_assert!(seen.is_sorted());
        }
    }
}
