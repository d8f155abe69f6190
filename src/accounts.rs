//! Accounts and their API keys.
//!
//! A key is shown once and kept as the SHA-256 of its text, which is all that a look-up needs: keys are looked up by that
//! digest, so how long a look-up takes says nothing about any key. The ring of all keys is in memory; a request costs
//! one digest and one look-up, no I/O.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock::UnixMillis;
use crate::event::IdentityMode;
use crate::log::record;
use crate::store::{Change, Error, Kind, Store};

/// The account that exists from the first start on.
pub const DEFAULT_ACCOUNT: u32 = 1;
/// Id of the key that comes from `TOLLGATE_ADMIN_KEY` or is made at the first start.
const BOOTSTRAP_KEY_ID: &str = "bootstrap";

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send events.
    Ingest,
    /// Read usage, customers, invoices.
    Read,
    /// Everything, including changes of what is set up.
    Admin,
}

impl Scope {
    /// As it is written in settings and answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// Who sent a request: what every handler may go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account that all data of the request belongs to.
    pub account: u32,
    /// What makes two of its events copies of one.
    pub identity: IdentityMode,
    /// Id of the key, for logs; never the key.
    pub key_id: Arc<str>,
    scopes: Arc<[Scope]>,
}

impl Caller {
    /// Whether the key has a scope; `admin` has all.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|has| *has == scope || *has == Scope::Admin)
    }

    /// What its events' records say of the account.
    pub fn record_account(&self) -> record::Account {
        record::Account { number: self.account, identity: self.identity }
    }
}

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// Its number, in records and rows.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What makes two of its events copies of one; fixed when it is made.
    #[serde(default)]
    pub identity: IdentityMode,
    /// When it was made, ms.
    pub created_at: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredKey {
    id: String,
    account: u32,
    scopes: Vec<Scope>,
    created_at: i64,
    /// SHA-256 of the key, hex.
    digest: String,
}

type Digest32 = [u8; 32];

/// All keys, in memory; changed by whole replacement.
pub struct KeyRing {
    keys: ArcSwap<HashMap<Digest32, Caller>>,
}

/// The admin key as it was found or made at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminKey {
    /// Made just now; shown this once.
    Made(String),
    /// Given by the environment.
    Given,
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
}

impl KeyRing {
    /// Reads all keys, after making sure that the default account and its admin key exist.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(store: &dyn Store, wanted: &DefaultAccount<'_>, now: UnixMillis) -> Result<(Self, AdminKey), OpenError> {
        make_default_account(store, wanted.identity, now)?;
        let admin_key = bootstrap(store, wanted.admin_key, now)?;
        let ring = Self { keys: ArcSwap::default() };
        ring.load(store)?;
        Ok((ring, admin_key))
    }

    fn load(&self, store: &dyn Store) -> Result<(), Error> {
        let mut identities = HashMap::new();
        for (id, bytes) in store.documents(Kind::Account, 0)? {
            let account = read_account(&id, &bytes)?;
            identities.insert(account.number, account.identity);
        }
        let mut keys = HashMap::new();
        for (id, bytes) in store.documents(Kind::Key, 0)? {
            let stored: StoredKey = serde_json::from_slice(&bytes).map_err(|error| Error::Damaged(format!("key {id}: {error}")))?;
            let digest = from_hex(&stored.digest).ok_or_else(|| Error::Damaged(format!("key {id}: the digest is not 64 hex digits")))?;
            let identity = *identities.get(&stored.account).ok_or_else(|| Error::Damaged(format!("key {id}: its account is gone")))?;
            keys.insert(digest, Caller { account: stored.account, identity, key_id: stored.id.into(), scopes: stored.scopes.into() });
        }
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Whose key it is; `None` if nobody's.
    pub fn caller(&self, key: &[u8]) -> Option<Caller> {
        let digest: Digest32 = Sha256::digest(key).into();
        let keys = self.keys.load();
        let (found, caller) = keys.get_key_value(&digest)?;
        bool::from(found.ct_eq(&digest)).then(|| caller.clone())
    }
}

fn make_default_account(store: &dyn Store, wanted: Option<IdentityMode>, now: UnixMillis) -> Result<(), OpenError> {
    const NAME: &str = "default";
    if let Some(bytes) = store.document(Kind::Account, 0, NAME)? {
        let kept = read_account(NAME, &bytes)?.identity;
        return match wanted {
            Some(set) if set != kept => Err(OpenError::IdentityChanged { kept: kept.label(), set: set.label() }),
            _ => Ok(()),
        };
    }
    let identity = wanted.unwrap_or_default();
    let account = Account { number: DEFAULT_ACCOUNT, name: NAME.into(), identity, created_at: now.0 };
    let bytes = to_json(&account)?;
    let mut make = |stored: Option<&[u8]>| if stored.is_some() { Change::Keep } else { Change::Put(bytes.clone()) };
    Ok(store.change_document(Kind::Account, 0, NAME, &mut make)?)
}

fn read_account(id: &str, bytes: &[u8]) -> Result<Account, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Damaged(format!("account {id}: {error}")))
}

fn bootstrap(store: &dyn Store, given: Option<&str>, now: UnixMillis) -> Result<AdminKey, Error> {
    let stored = store.document(Kind::Key, 0, BOOTSTRAP_KEY_ID)?;
    let (key, answer) = match (given, stored) {
        (Some(key), _) => (key.to_owned(), AdminKey::Given),
        (None, Some(_)) => return Ok(AdminKey::Kept),
        (None, None) => {
            let key = make_key()?;
            (key.clone(), AdminKey::Made(key))
        }
    };
    let digest: Digest32 = Sha256::digest(key.as_bytes()).into();
    let new = StoredKey {
        id: BOOTSTRAP_KEY_ID.into(),
        account: DEFAULT_ACCOUNT,
        scopes: vec![Scope::Admin],
        created_at: now.0,
        digest: to_hex(&digest),
    };
    let bytes = to_json(&new)?;
    let mut put = |_: Option<&[u8]>| Change::Put(bytes.clone());
    store.change_document(Kind::Key, 0, BOOTSTRAP_KEY_ID, &mut put)?;
    Ok(answer)
}

fn make_key() -> Result<String, Error> {
    let mut random = [0; 20];
    getrandom::fill(&mut random).map_err(|error| Error::Failed(format!("no random bytes: {error}")))?;
    Ok(format!("tg_{}", to_hex(&random)))
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Failed(error.to_string()))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Digest32> {
    let mut digest = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// The ring of these keys, each of an account and with one scope, for tests of what callers may do.
#[cfg(test)]
pub(crate) fn ring_of(store: &dyn Store, keys: &[(&str, u32, Scope)]) -> KeyRing {
    for (key, account, scope) in keys {
        let made = Account { number: *account, name: format!("{account}"), identity: IdentityMode::UniqueId, created_at: 0 };
        let digest: Digest32 = Sha256::digest(key.as_bytes()).into();
        let stored = StoredKey { id: (*key).into(), account: *account, scopes: vec![*scope], created_at: 0, digest: to_hex(&digest) };
        let put = |kind, id: &str, bytes: Vec<u8>| store.change_document(kind, 0, id, &mut |_| Change::Put(bytes.clone())).expect("memory");
        put(Kind::Account, &made.name, to_json(&made).expect("JSON"));
        put(Kind::Key, key, to_json(&stored).expect("JSON"));
    }
    let ring = KeyRing { keys: ArcSwap::default() };
    ring.load(store).expect("memory");
    ring
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

    #[test]
    fn the_admin_key_is_made_once_and_kept_as_a_digest() {
        let store = MemoryStore::default();
        let (ring, made) = KeyRing::open(&store, &DefaultAccount::default(), NOW).expect("opens");
        let AdminKey::Made(key) = made else { panic!("the first start makes a key") };
        let caller = ring.caller(key.as_bytes()).expect("is known");
        assert_eq!((caller.account, caller.may(Scope::Ingest), caller.may(Scope::Admin)), (DEFAULT_ACCOUNT, true, true));
        assert_eq!(ring.caller(&key.as_bytes()[1..]), None);
        assert_eq!(ring.caller(b""), None);
        let (again, kept) = KeyRing::open(&store, &DefaultAccount::default(), NOW).expect("opens");
        assert_eq!(kept, AdminKey::Kept);
        assert!(again.caller(key.as_bytes()).is_some());
        for (_, stored) in store.documents(Kind::Key, 0).expect("lists") {
            assert!(!String::from_utf8_lossy(&stored).contains(&key), "the key itself is nowhere");
        }
    }

    #[test]
    fn a_given_admin_key_takes_the_place_of_the_last() {
        let store = MemoryStore::default();
        let given = |key| DefaultAccount { admin_key: Some(key), identity: None };
        let (_, first) = KeyRing::open(&store, &given("first"), NOW).expect("opens");
        let (ring, _) = KeyRing::open(&store, &given("second"), NOW).expect("opens");
        assert_eq!(first, AdminKey::Given);
        assert!(ring.caller(b"second").is_some());
        assert_eq!(ring.caller(b"first"), None);
    }

    #[test]
    fn what_makes_copies_is_fixed_when_the_account_is_made() {
        let store = MemoryStore::default();
        let open = |identity| KeyRing::open(&store, &DefaultAccount { admin_key: Some("key"), identity }, NOW);
        let (ring, _) = open(Some(IdentityMode::AllAttributes)).expect("opens");
        assert_eq!(ring.caller(b"key").expect("is known").identity, IdentityMode::AllAttributes);
        let (ring, _) = open(None).expect("opens");
        assert_eq!(ring.caller(b"key").expect("is known").identity, IdentityMode::AllAttributes);
        let Err(refused) = open(Some(IdentityMode::UniqueId)) else { panic!("another mode is refused") };
        assert!(refused.to_string().contains("identity = all_attributes, the settings now say unique_id"));
    }

    #[test]
    fn a_scope_is_what_a_key_may_do() {
        let caller = |scopes: &[Scope]| Caller { account: 1, identity: IdentityMode::UniqueId, key_id: "k".into(), scopes: scopes.into() };
        assert!(caller(&[Scope::Read]).may(Scope::Read));
        assert!(!caller(&[Scope::Read]).may(Scope::Ingest));
        assert!(!caller(&[Scope::Ingest, Scope::Read]).may(Scope::Admin));
    }
}
