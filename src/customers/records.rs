//! Customers as Stigg sees them: a removed one is archived, can be read and changed, and come back.

use std::cell::Cell;

use super::page::{Page, Pager, Place, Window};
use super::{Customer, CustomerId, Customers, Error, Lives, change, model};
use crate::clock::UnixMicros;
use crate::store::{Each, Kind};

impl Customers {
    /// One customer, also one that is removed.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn record(&self, account: u32, id: &CustomerId) -> Result<Customer, Error> {
        let stored = self.store.document(Kind::Customer, account, id.as_str())?.ok_or(Error::Unknown)?;
        Ok(model::read(&stored)?)
    }

    /// Makes a customer where nobody has had the id.
    ///
    /// # Errors
    /// [`Error::Exists`], also where one that is removed had it; [`Error::Store`].
    pub fn create_first(&self, account: u32, id: &CustomerId, fill: impl Fn(&mut Customer)) -> Result<Customer, Error> {
        self.decide(account, id, |stored, now| match stored {
            Some(_) => Err(Error::Exists),
            None => change::create(None, id, &fill, now),
        })
    }

    /// Changes a customer, also one that is removed.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn change_record(&self, account: u32, id: &CustomerId, edit: impl Fn(&mut Customer)) -> Result<Customer, Error> {
        self.decide(account, id, |stored, now| Ok(change::edit_record(stored.ok_or(Error::Unknown)?, &edit, now)))
    }

    /// Changes a customer, also one that is removed, or makes it. Says whether it was made.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn put_record(&self, account: u32, id: &CustomerId, edit: impl Fn(&mut Customer)) -> Result<(Customer, bool), Error> {
        let is_new = Cell::new(false);
        let put = |stored: Option<&Customer>, now| {
            is_new.set(stored.is_none());
            match stored {
                Some(stored) => Ok(change::edit_record(stored, &edit, now)),
                None => change::create(None, id, &edit, now),
            }
        };
        Ok((self.decide(account, id, put)?, is_new.get()))
    }

    /// Removes a customer, unless it is removed.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn archive(&self, account: u32, id: &CustomerId) -> Result<Customer, Error> {
        self.decide(account, id, |stored, now| match stored {
            Some(stored) if stored.is_removed() => Ok(stored.clone()),
            stored => change::remove(stored, now),
        })
    }

    /// Brings back a customer that was removed at a time; any other stays as it is. `goes_on`: in the life that ended then; otherwise
    /// in a new one.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn unarchive(&self, account: u32, id: &CustomerId, removed_at: UnixMicros, goes_on: bool) -> Result<Customer, Error> {
        self.decide(account, id, |stored, now| Ok(change::bring_back(stored.ok_or(Error::Unknown)?, removed_at, goes_on, now)))
    }

    /// A page of the customers that are not removed, ordered by creation, then id (in bytes), of which `wanted` is true. Looks at every
    /// customer of the account, and keeps a page and some.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn page(&self, account: u32, window: Window, wanted: impl Fn(&Customer) -> bool) -> Result<Page<Customer>, Error> {
        let mut pager = Pager::new(window);
        for found in Each::of(&*self.store, Kind::Customer, account) {
            let customer = model::read(&found?.1)?;
            if !customer.is_removed() && wanted(&customer) {
                pager.offer(Place { made_at: customer.created_at, id: customer.id().as_str().to_owned() }, customer);
            }
        }
        Ok(pager.page())
    }

    /// The lives of one id after the other, in the order of ids.
    pub fn lives_in_order(&self, account: u32) -> LivesInOrder<'_> {
        LivesInOrder { records: Each::of(&*self.store, Kind::Customer, account), next: None }
    }
}

/// Tells lives of ids that are asked for in ascending order (in bytes), without a look-up for each.
pub struct LivesInOrder<'s> {
    records: Each<'s>,
    next: Option<(String, Vec<u8>)>,
}

impl LivesInOrder<'_> {
    /// The lives of an id that comes behind all that were asked for before.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn of(&mut self, id: &str) -> Result<Lives, Error> {
        while self.next.as_ref().is_none_or(|(next, _)| next.as_str() < id) {
            match self.records.next().transpose()? {
                Some(next) => self.next = Some(next),
                None => return Ok(Lives::default()),
            }
        }
        match &self.next {
            Some((next, stored)) if next == id => Ok(model::read(stored)?.lives()),
            _ => Ok(Lives::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::Edge;
    use super::super::tests::{customers, id};
    use super::*;

    #[test]
    fn an_archived_customer_is_read_changed_and_brought_back_as_it_was() {
        let customers = customers();
        let made = customers.create_first(1, &id("a"), |new| new.name = Some("A".into())).expect("a free id");
        let archived = customers.archive(1, &id("a")).expect("is there");
        let removed_at = archived.removed_at().expect("is removed");
        assert_eq!(customers.archive(1, &id("a")).expect("is there"), archived, "once more is the same");
        assert_eq!(customers.record(1, &id("a")).expect("is there"), archived);
        assert!(matches!(customers.get(1, &id("a")), Err(Error::Unknown)));
        assert!(matches!(customers.create_first(1, &id("a"), |_| ()), Err(Error::Exists)));
        let changed = customers.change_record(1, &id("a"), |customer| customer.email = Some("e".into())).expect("is there");
        assert_eq!(changed.removed_at(), Some(removed_at));
        assert!(customers.unarchive(1, &id("a"), UnixMicros(removed_at.0 - 1), true).expect("is there").is_removed(), "another removal");
        let back = customers.unarchive(1, &id("a"), removed_at, true).expect("is there");
        assert_eq!((back.name.as_deref(), back.email.as_deref(), back.created_at), (Some("A"), Some("e"), made.created_at));
        assert_eq!(customers.get(1, &id("a")).expect("is there"), back);
        assert_eq!(customers.unarchive(1, &id("a"), removed_at, true).expect("is there"), back, "once more is the same");
        assert_eq!(back.lives(), made.lives(), "it is the same life");
        for error in [customers.archive(1, &id("b")), customers.change_record(1, &id("b"), |_| ()), customers.record(1, &id("b"))] {
            assert!(matches!(error, Err(Error::Unknown)));
        }
    }

    #[test]
    fn brought_back_in_a_new_life_it_owes_nothing_old() {
        let customers = customers();
        customers.create_first(1, &id("a"), |_| ()).expect("a free id");
        let removed_at = customers.archive(1, &id("a")).expect("is there").removed_at().expect("is removed");
        let back = customers.unarchive(1, &id("a"), removed_at, false).expect("is there");
        assert_eq!((back.lives().current(), back.lives().first_shown(), back.lives().start(1)), (1, 1, Some(removed_at)));
    }

    #[test]
    fn a_put_says_whether_it_made_the_customer() {
        let customers = customers();
        let name = |customer: &mut Customer| customer.name = Some("A".into());
        assert!(customers.put_record(1, &id("a"), name).expect("memory").1);
        customers.archive(1, &id("a")).expect("is there");
        let (put, is_new) = customers.put_record(1, &id("a"), |customer| customer.name = None).expect("memory");
        assert!(!is_new && put.is_removed() && put.name.is_none());
    }

    #[test]
    fn a_page_has_those_that_are_wanted_and_not_removed() {
        let customers = customers();
        for (name, created_at) in [("b", 2), ("z", 1), ("a", 2), ("gone", 1), ("other", 1)] {
            customers.create(1, &id(name), |new| new.created_at = UnixMicros(created_at)).expect("a free id");
        }
        customers.archive(1, &id("gone")).expect("is there");
        let page = |edge, limit| {
            let page = customers.page(1, Window { edge, limit }, |customer| customer.id().as_str() != "other").expect("memory");
            let ids: Vec<_> = page.items.iter().map(|(_, customer)| customer.id().as_str().to_owned()).collect();
            (ids.join(" "), page.has_before, page.has_after)
        };
        assert_eq!(page(Edge::Start, 2), ("z a".into(), false, true));
        assert_eq!(page(Edge::After(Place { made_at: UnixMicros(2), id: "a".into() }), 2), ("b".into(), true, false));
    }

    #[test]
    fn lives_are_told_in_order() {
        let customers = customers();
        for name in ["a", "c", "d", "f"] {
            customers.create(1, &id(name), |_| ()).expect("a free id");
        }
        customers.archive(1, &id("c")).expect("is there");
        let mut lives = customers.lives_in_order(1);
        let told: Vec<_> = ["A", "a", "b", "c", "e", "f", "g"].iter().map(|id| lives.of(id).expect("memory").current()).collect();
        assert_eq!(told, [0, 0, 0, 1, 0, 0, 0]);
    }
}
