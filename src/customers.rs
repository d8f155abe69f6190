//! Customers: who is billed. One model for every dialect (contract `stigg.md` section 6); each dialect shows its own part of
//! it and changes no other.
//!
//! A customer is a JSON document in the store, below its account. What an operation makes of it is a pure function of
//! (stored, request, now), in the module `change`; [`Customers`] brings the three together in one atomic read-modify-write.
//! A removed customer stays as a record until another one is made under its id.
//!
//! Deliberately not here: subscriptions (rows of their own), usage (it belongs to an id, whether there is a customer or
//! not), and who may do what.

#[cfg(test)]
pub(crate) mod arbitrary;
mod change;
mod lives;
pub mod mappings;
mod model;
pub mod page;
mod records;

use std::sync::Arc;

use crate::clock::{Clock, UnixMicros};
use crate::store::{self, Change, Hears, Kind, Store};

pub use lives::{LIVES_MAX, Life, Lives};
pub use model::{
    ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, Address, Contact, Customer, CustomerId, Extensions, IdError,
    MAPPINGS_MAX, Mapping, SECONDARY_EMAILS_MAX, Stage, TAG_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX,
};
pub use records::LivesInOrder;

/// Why a customer was not read or changed. Nothing happened, except after [`Error::Store`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The id is taken.
    #[error("a customer with this id exists")]
    Exists,
    /// There is no customer with this id, or it is removed.
    #[error("no customer has this id")]
    Unknown,
    /// The stage order knows no way back.
    #[error("the stage would go back from {from:?} to {to:?}")]
    StepBack {
        /// Where the customer stands.
        from: Stage,
        /// What was asked for.
        to: Stage,
    },
    /// The store's error; after [`store::Error::Failed`] it is **unknown** whether a change happened.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// All customers of all accounts. Blocking calls, some of which sync a disk: async code goes through `spawn_blocking`.
pub struct Customers {
    store: Arc<dyn Store>,
    clock: Clock,
    heard: Option<Arc<dyn Hears>>,
}

impl Customers {
    /// The customers that a store keeps.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock, heard: None }
    }

    /// The same, with somebody who hears of changes of [mappings](mappings::Mapped).
    #[must_use]
    pub fn heard_by(self, heard: Arc<dyn Hears>) -> Self {
        Self { heard: Some(heard), ..self }
    }

    /// Now, for what a request says of times.
    pub fn now(&self) -> UnixMicros {
        self.clock.now().micros()
    }

    /// Makes a customer and lets `fill` write its fields, on a record that is new in everything: also where a removed one
    /// had the id.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Store`].
    pub fn create(&self, account: u32, id: &CustomerId, fill: impl Fn(&mut Customer)) -> Result<Customer, Error> {
        self.decide(account, id, |stored, now| change::create(stored, id, &fill, now))
    }

    /// One customer.
    ///
    /// # Errors
    /// [`Error::Unknown`], also for one that is removed; [`Error::Store`].
    pub fn get(&self, account: u32, id: &CustomerId) -> Result<Customer, Error> {
        let stored = self.store.document(Kind::Customer, account, id.as_str())?.ok_or(Error::Unknown)?;
        let customer = model::read(&stored)?;
        if customer.is_removed() { Err(Error::Unknown) } else { Ok(customer) }
    }

    /// Who has had an id, and who has it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn lives(&self, account: u32, id: &CustomerId) -> Result<Lives, Error> {
        let stored = self.store.document(Kind::Customer, account, id.as_str())?;
        Ok(stored.map_or_else(|| Ok(Lives::default()), |stored| model::read(&stored).map(|customer| Lives::of(&customer)))?)
    }

    /// The customers that are not removed, ordered by creation, then id (in bytes).
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn list(&self, account: u32) -> Result<Vec<Customer>, Error> {
        let mut customers = Vec::new();
        for (_, stored) in self.store.documents(Kind::Customer, account)? {
            let customer = model::read(&stored)?;
            if !customer.is_removed() {
                customers.push(customer);
            }
        }
        // The store hands them out by id, and a stable sort keeps that among equals.
        customers.sort_by_key(|customer| customer.created_at);
        Ok(customers)
    }

    /// Changes a customer. `edit` may be called more than once; nobody comes between what it sees and what it leaves.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn change(&self, account: u32, id: &CustomerId, edit: impl Fn(&mut Customer)) -> Result<Customer, Error> {
        self.decide(account, id, |stored, now| change::edit(stored, &edit, now))
    }

    /// The same, where `edit` may refuse: nothing happened then.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`], and whatever `edit` returns.
    pub fn try_change<E: From<Error>>(
        &self,
        account: u32,
        id: &CustomerId,
        edit: impl Fn(&mut Customer) -> Result<(), E>,
    ) -> Result<Customer, E> {
        self.decide(account, id, |stored, now| change::try_edit(stored, &edit, now))
    }

    /// Moves a customer to its own or a later stage.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::StepBack`], [`Error::Store`].
    pub fn set_stage(&self, account: u32, id: &CustomerId, stage: Stage) -> Result<Customer, Error> {
        self.decide(account, id, |stored, now| change::set_stage(stored, stage, now))
    }

    /// Removes a customer; its record and its usage stay.
    ///
    /// # Errors
    /// [`Error::Unknown`], also for one that is removed already; [`Error::Store`].
    pub fn remove(&self, account: u32, id: &CustomerId) -> Result<Customer, Error> {
        self.decide(account, id, change::remove)
    }

    /// Writes what `decide` makes of the stored customer and of now, or nothing if it refuses.
    fn decide<E: From<Error>>(
        &self,
        account: u32,
        id: &CustomerId,
        decide: impl Fn(Option<&Customer>, UnixMicros) -> Result<Customer, E>,
    ) -> Result<Customer, E> {
        let now = self.clock.now().micros();
        let mut outcome = Err(Error::from(store::Error::Failed("it never read the customer that was to be changed".into())).into());
        let mut is_told = false;
        let mut change = |stored: Option<&[u8]>| match decide_on_bytes(stored, |stored| decide(stored, now)) {
            Ok(Decided { customer, bytes, is_mapped_otherwise }) => {
                outcome = Ok(customer);
                is_told = is_mapped_otherwise;
                if is_told { Change::Tell(bytes) } else { Change::Put(bytes) }
            }
            Err(error) => {
                outcome = Err(error);
                Change::Keep
            }
        };
        self.store.change_document(Kind::Customer, account, id.as_str(), &mut change).map_err(Error::from)?;
        if let (Some(heard), Ok(_), true) = (&self.heard, &outcome, is_told) {
            heard.changed(Kind::Customer, account, id.as_str()).map_err(Error::from)?;
        }
        outcome
    }
}

struct Decided {
    customer: Customer,
    bytes: Vec<u8>,
    /// Whether measurements may be another customer's now.
    is_mapped_otherwise: bool,
}

fn decide_on_bytes<E: From<Error>>(stored: Option<&[u8]>, decide: impl Fn(Option<&Customer>) -> Result<Customer, E>) -> Result<Decided, E> {
    let stored = stored.map(model::read).transpose().map_err(Error::from)?;
    let customer = decide(stored.as_ref())?;
    let bytes = model::write(&customer).map_err(Error::from)?;
    let is_mapped_otherwise = stored.as_ref().and_then(mappings::Mapped::of) != mappings::Mapped::of(&customer);
    Ok(Decided { customer, bytes, is_mapped_otherwise })
}

/// What is stored, for `crate::fuzz`.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz {
    use super::{Customer, model, store};

    pub(crate) fn read(stored: &[u8]) -> Result<Customer, store::Error> {
        model::read(stored)
    }

    pub(crate) fn written(customer: &Customer) -> Result<Vec<u8>, store::Error> {
        model::write(customer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    pub(super) fn customers() -> Customers {
        Customers::new(Arc::new(MemoryStore::default()), Clock::start())
    }

    pub(super) fn id(text: &str) -> CustomerId {
        CustomerId::parse(text).expect("a good id")
    }

    #[test]
    fn what_was_made_is_found_in_its_account_and_in_no_other() {
        let customers = customers();
        let made = customers.create(1, &id("acme-7"), |new| new.email = Some("ap@acme.test".into())).expect("a free id");
        assert_eq!(customers.get(1, &id("acme-7")).expect("was made"), made);
        assert!(matches!(customers.get(2, &id("acme-7")), Err(Error::Unknown)));
        assert_eq!(customers.list(2).expect("a list"), []);
        assert!(matches!(customers.create(1, &id("acme-7"), |_| ()), Err(Error::Exists)));
        assert!(customers.create(2, &id("acme-7"), |_| ()).is_ok());
    }

    #[test]
    fn the_list_is_ordered_by_creation_then_id_and_leaves_out_the_removed() {
        let customers = customers();
        for (name, created_at) in [("b", 2), ("z", 1), ("a", 2), ("gone", 1)] {
            customers.create(1, &id(name), |new| new.created_at = UnixMicros(created_at)).expect("a free id");
        }
        customers.remove(1, &id("gone")).expect("is there");
        let listed: Vec<_> = customers.list(1).expect("a list").iter().map(|customer| customer.id().as_str().to_owned()).collect();
        assert_eq!(listed, ["z", "a", "b"]);
    }

    #[test]
    fn a_removed_customer_is_unknown_until_another_is_made() {
        let customers = customers();
        customers.create(1, &id("acme-7"), |_| ()).expect("a free id");
        let removed = customers.remove(1, &id("acme-7")).expect("is there");
        assert!(removed.is_removed());
        assert!(matches!(customers.get(1, &id("acme-7")), Err(Error::Unknown)));
        assert!(matches!(customers.remove(1, &id("acme-7")), Err(Error::Unknown)));
        assert!(matches!(customers.change(1, &id("acme-7"), |_| ()), Err(Error::Unknown)));
        assert!(matches!(customers.set_stage(1, &id("acme-7"), Stage::Active), Err(Error::Unknown)));
        assert!(!customers.create(1, &id("acme-7"), |_| ()).expect("free again").is_removed());
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let customers = customers();
        let made = customers.create(1, &id("acme-7"), |_| ()).expect("a free id");
        let refused = customers.set_stage(1, &id("acme-7"), Stage::Onboarding);
        assert!(matches!(refused, Err(Error::StepBack { from: Stage::Active, to: Stage::Onboarding })));
        assert!(customers.create(1, &id("acme-7"), |new| new.test = Some(true)).is_err());
        assert_eq!(customers.get(1, &id("acme-7")).expect("is there"), made);
    }

    #[derive(Debug)]
    enum Refused {
        Here,
        Before(Error),
    }

    impl From<Error> for Refused {
        fn from(error: Error) -> Self {
            Self::Before(error)
        }
    }

    #[test]
    fn a_change_that_is_refused_half_way_changes_nothing() {
        let customers = customers();
        let made = customers.create(1, &id("acme-7"), |_| ()).expect("a free id");
        let refused = customers.try_change(1, &id("acme-7"), |customer| {
            customer.tags.push("x".into());
            Err(Refused::Here)
        });
        assert!(matches!(refused, Err(Refused::Here)));
        let of_nobody = customers.try_change(1, &id("b"), |_| Err(Refused::Here));
        assert!(matches!(of_nobody, Err(Refused::Before(Error::Unknown))));
        assert_eq!(customers.get(1, &id("acme-7")).expect("is there"), made);
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let customers = customers();
        customers.create(1, &id("acme-7"), |_| ()).expect("a free id");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let customers = &customers;
                scope.spawn(move || {
                    for n in 0..25 {
                        let tag = format!("{thread}-{n}");
                        customers.change(1, &id("acme-7"), |customer| customer.tags.push(tag.clone())).expect("is there");
                    }
                });
            }
        });
        assert_eq!(customers.get(1, &id("acme-7")).expect("is there").tags.len(), 100);
    }

    #[test]
    fn a_store_that_fails_says_so_and_is_never_taken_for_an_empty_one() {
        let store = Arc::new(MemoryStore::default());
        let customers = Customers::new(store.clone(), Clock::start());
        store.break_down();
        assert!(matches!(customers.get(1, &id("a")), Err(Error::Store(store::Error::Failed(_)))));
        assert!(matches!(customers.list(1), Err(Error::Store(store::Error::Failed(_)))));
        assert!(matches!(customers.create(1, &id("a"), |_| ()), Err(Error::Store(store::Error::Failed(_)))));
    }

    #[test]
    fn a_document_that_cannot_be_read_is_damage_and_stays() {
        let store = Arc::new(MemoryStore::default());
        let customers = Customers::new(store.clone(), Clock::start());
        let broken = b"{\"version\":1,".to_vec();
        store.change_document(Kind::Customer, 1, "a", &mut |_| Change::Put(broken.clone())).expect("memory");
        assert!(matches!(customers.create(1, &id("a"), |_| ()), Err(Error::Store(store::Error::Damaged(_)))));
        assert!(matches!(customers.get(1, &id("a")), Err(Error::Store(store::Error::Damaged(_)))));
        assert_eq!(store.document(Kind::Customer, 1, "a").expect("memory"), Some(broken));
    }
}
