//! What a start makes sure of: the account `default`, and a key that lets an operator in.

use std::sync::Arc;

use super::book::{Accounts, BOOTSTRAP_KEY_ID, StoredKey, key_text, read_account, read_key, to_json};
use super::ring::Digest;
use super::{Account, DEFAULT_ACCOUNT, DEFAULT_ACCOUNT_NAME, RateLimit, Scope};
use crate::clock::{Clock, UnixMillis};
use crate::event::IdentityMode;
use crate::store::{Change, Error, Kind, Store};

/// What the bootstrap key may do.
const SCOPES: [Scope; 2] = [Scope::Admin, Scope::Operator];

/// The admin key as it was found or made at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminKey {
    /// Made just now; shown this once.
    Made(String),
    /// Given by the environment.
    Given,
    /// Given by the environment, and revoked at some time: it stays so.
    Revoked,
    /// Made at an earlier start; only its digest is known.
    Kept,
}

/// What the settings say of the account that is made at the first start.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultAccount<'s> {
    /// Its admin key; takes the place of the one before it.
    pub admin_key: Option<&'s str>,
    /// What makes two of its events copies of one; `None`: as it is, or [`IdentityMode::UniqueId`] when it is made.
    pub identity: Option<IdentityMode>,
}

/// Why the accounts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] Error),
    /// It is part of the data: what counted would change.
    #[error(
        "the account default was made with identity = {kept}, the settings now say {set}; it decides what counts and cannot change: set it back, or start with a new data directory"
    )]
    IdentityChanged {
        /// As the account has it.
        kept: &'static str,
        /// As the settings have it.
        set: &'static str,
    },
    /// One text cannot be two keys, of which one may be another account's, or revoked.
    #[error("the key in TOLLGATE_ADMIN_KEY is known as the key {id} already; give another one")]
    KeyTaken {
        /// Id of the other key.
        id: String,
    },
}

impl Accounts {
    /// Reads all accounts and keys, after making sure that the default account and its admin key exist.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(store: Arc<dyn Store>, wanted: &DefaultAccount<'_>, clock: Clock) -> Result<(Self, AdminKey), OpenError> {
        make_default_account(&*store, wanted.identity, clock.now())?;
        let admin_key = bootstrap(&*store, wanted.admin_key, clock.now())?;
        Ok((Self::read(store, clock)?, admin_key))
    }
}

/// Makes of a document what `decide` says, in one step: of several nodes that start at once, one makes what is missing.
fn change<T>(
    store: &dyn Store,
    kind: Kind,
    id: &str,
    decide: impl Fn(Option<&[u8]>) -> Result<(Change, T), OpenError>,
) -> Result<T, OpenError> {
    let mut decided = Err(Error::Failed("it was never decided".into()).into());
    let mut change = |stored: Option<&[u8]>| match decide(stored) {
        Ok((change, made)) => {
            decided = Ok(made);
            change
        }
        Err(error) => {
            decided = Err(error);
            Change::Keep
        }
    };
    store.change_document(kind, 0, id, &mut change)?;
    decided
}

fn make_default_account(store: &dyn Store, wanted: Option<IdentityMode>, now: UnixMillis) -> Result<(), OpenError> {
    const NAME: &str = DEFAULT_ACCOUNT_NAME;
    change(store, Kind::Account, NAME, |stored| {
        let Some(stored) = stored else {
            let identity = wanted.unwrap_or_default();
            let made = Account { number: DEFAULT_ACCOUNT, name: NAME.into(), identity, created_at: now.0, disabled_at: None };
            return Ok((Change::Put(to_json(&made)?), ()));
        };
        let kept = read_account(NAME, stored)?.identity;
        match wanted {
            Some(set) if set != kept => Err(OpenError::IdentityChanged { kept: kept.label(), set: set.label() }),
            _ => Ok((Change::Keep, ())),
        }
    })
}

fn bootstrap(store: &dyn Store, given: Option<&str>, now: UnixMillis) -> Result<AdminKey, OpenError> {
    if let Some(given) = given {
        check_is_new(store, given)?;
    }
    let random = key_text(BOOTSTRAP_KEY_ID)?;
    change(store, Kind::Key, BOOTSTRAP_KEY_ID, |stored| {
        let stored = stored.map(|bytes| read_key(BOOTSTRAP_KEY_ID, bytes)).transpose()?;
        Ok(match (given, stored) {
            (None, Some(stored)) => (keep(stored)?, AdminKey::Kept),
            (None, None) => (make(&random, now)?, AdminKey::Made(random.clone())),
            (Some(given), Some(stored)) if stored.digest == Digest::of(given.as_bytes()).to_hex() => {
                let found = if stored.revoked_at.is_some() { AdminKey::Revoked } else { AdminKey::Given };
                (keep(stored)?, found)
            }
            (Some(given), _) => (make(given, now)?, AdminKey::Given),
        })
    })
}

/// Leaves the key as it is; one that was made before there were operators becomes one.
fn keep(stored: StoredKey) -> Result<Change, Error> {
    if stored.scopes == SCOPES {
        return Ok(Change::Keep);
    }
    Ok(Change::Put(to_json(&StoredKey { scopes: SCOPES.into(), ..stored })?))
}

fn make(key: &str, now: UnixMillis) -> Result<Change, Error> {
    let made = StoredKey::new(BOOTSTRAP_KEY_ID, DEFAULT_ACCOUNT, SCOPES.into(), RateLimit::default(), Digest::of(key.as_bytes()));
    Ok(Change::Put(to_json(&StoredKey { created_at: now.0, ..made })?))
}

fn check_is_new(store: &dyn Store, given: &str) -> Result<(), OpenError> {
    let digest = Digest::of(given.as_bytes()).to_hex();
    for (id, bytes) in store.documents(Kind::Key, 0)? {
        if id != BOOTSTRAP_KEY_ID && read_key(&id, &bytes)?.digest == digest {
            return Err(OpenError::KeyTaken { id });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn open(store: &Arc<MemoryStore>, admin_key: Option<&str>, identity: Option<IdentityMode>) -> Result<(Accounts, AdminKey), OpenError> {
        Accounts::open(store.clone(), &DefaultAccount { admin_key, identity }, Clock::start())
    }

    #[test]
    fn the_admin_key_is_made_once_and_kept_as_a_digest() {
        let store = Arc::default();
        let (accounts, made) = open(&store, None, None).expect("opens");
        let AdminKey::Made(key) = made else { panic!("the first start makes a key") };
        let caller = accounts.ring().caller(key.as_bytes()).expect("is known");
        let may = [Scope::Ingest, Scope::Read, Scope::Admin, Scope::Operator].map(|scope| caller.may(scope));
        assert_eq!((caller.account, may), (DEFAULT_ACCOUNT, [true; 4]));
        assert!(accounts.ring().caller(&key.as_bytes()[1..]).is_err());
        assert!(accounts.ring().caller(b"").is_err());
        let (again, kept) = open(&store, None, None).expect("opens");
        assert_eq!(kept, AdminKey::Kept);
        assert!(again.ring().caller(key.as_bytes()).is_ok());
        for (_, stored) in store.documents(Kind::Key, 0).expect("lists") {
            assert!(!String::from_utf8_lossy(&stored).contains(&key), "the key itself is nowhere");
        }
    }

    #[test]
    fn a_given_admin_key_takes_the_place_of_the_last() {
        let store = Arc::default();
        let (_, first) = open(&store, Some("first"), None).expect("opens");
        let (accounts, _) = open(&store, Some("second"), None).expect("opens");
        assert_eq!(first, AdminKey::Given);
        assert!(accounts.ring().caller(b"second").is_ok());
        assert!(accounts.ring().caller(b"first").is_err());
    }

    #[test]
    fn a_revoked_admin_key_does_not_come_back_with_the_next_start() {
        let store = Arc::default();
        let (accounts, _) = open(&store, Some("first"), None).expect("opens");
        let by = accounts.ring().caller(b"first").expect("is known");
        let new = super::super::NewKey { scopes: vec![Scope::Operator], ..Default::default() };
        let second = accounts.create_key(&by, DEFAULT_ACCOUNT, new).expect("is made");
        accounts.revoke_key(&by, BOOTSTRAP_KEY_ID).expect("is not the last one");
        let (accounts, found) = open(&store, Some("first"), None).expect("opens");
        assert_eq!(found, AdminKey::Revoked);
        assert!(accounts.ring().caller(b"first").is_err());
        assert!(accounts.ring().caller(second.text.as_bytes()).is_ok());
        let Err(OpenError::KeyTaken { id }) = open(&store, Some(&second.text), None) else { panic!("it is another key") };
        assert_eq!(id, second.key.id);
        let (accounts, found) = open(&store, Some("third"), None).expect("opens");
        assert_eq!(found, AdminKey::Given);
        assert!(accounts.ring().caller(b"third").expect("is known").may(Scope::Operator), "a way in that needs no key that is lost");
    }

    #[test]
    fn an_admin_key_of_before_there_were_operators_becomes_one() {
        let store: Arc<MemoryStore> = Arc::default();
        open(&store, Some("key"), None).expect("opens");
        let digest = Digest::of(b"key").to_hex();
        let old = format!(r#"{{"id":"bootstrap","account":1,"scopes":["admin"],"created_at":5,"digest":"{digest}"}}"#);
        let mut put = |_: Option<&[u8]>| crate::store::Change::Put(old.clone().into_bytes());
        store.change_document(Kind::Key, 0, BOOTSTRAP_KEY_ID, &mut put).expect("memory");
        for given in [None, Some("key")] {
            let (accounts, _) = open(&store, given, None).expect("opens");
            assert!(accounts.ring().caller(b"key").expect("is known").may(Scope::Operator));
        }
    }

    #[test]
    fn what_makes_copies_is_fixed_when_the_account_is_made() {
        let store = Arc::default();
        let identity = |opened: (Accounts, AdminKey)| opened.0.ring().caller(b"key").expect("is known").identity;
        assert_eq!(identity(open(&store, Some("key"), Some(IdentityMode::AllAttributes)).expect("opens")), IdentityMode::AllAttributes);
        assert_eq!(identity(open(&store, Some("key"), None).expect("opens")), IdentityMode::AllAttributes);
        let Err(refused) = open(&store, Some("key"), Some(IdentityMode::UniqueId)) else { panic!("another mode is refused") };
        assert!(refused.to_string().contains("identity = all_attributes, the settings now say unique_id"));
    }
}
