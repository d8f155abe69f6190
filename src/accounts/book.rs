//! Changes of accounts and keys. One at a time, also where several nodes share a store: durable in the store, then in the ring,
//! then the caller hears of it.
//!
//! Each node has all accounts and keys in its book, a copy that decides ([`crate::store::replica`]). So no number is given out
//! twice and no last operator goes, whoever asks whichever node.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use serde::{Deserialize, Serialize};

use super::ring::{Digest, KeyRing};
use super::{Account, Caller, DEFAULT_ACCOUNT_NAME, Denied, RateLimit, Scope, Scopes, Shares, Standing, rate};
use crate::clock::{Clock, UnixMillis};
use crate::event::IdentityMode;
use crate::store::replica::follow::Follower;
use crate::store::replica::{Content, Replica};
use crate::store::{self, Kind, Shared, SharedChanges, Store, Version};

/// Accounts that can be made.
pub const ACCOUNTS_MAX: usize = if cfg!(test) { 5 } else { 10_000 };
/// Keys of an account that are not revoked.
pub const KEYS_MAX: usize = if cfg!(test) { 5 } else { 100 };
/// Revoked keys of an account that are still listed; the ones revoked first go.
const REVOKED_MAX: usize = KEYS_MAX;
const ACCOUNT_NAME_BYTES_MAX: usize = 64;
const KEY_NAME_BYTES_MAX: usize = 128;
/// Id of the key that comes from `TOLLGATE_ADMIN_KEY` or is made at the first start.
pub(super) const BOOTSTRAP_KEY_ID: &str = "bootstrap";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 20;

/// Why nothing was changed, except after [`Error::Store`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken.
    #[error("an account with this name exists")]
    Exists,
    /// There is no such account.
    #[error("no account has this name")]
    UnknownAccount,
    /// There is no such key, or it is another account's.
    #[error("no key has this id")]
    UnknownKey,
    /// All accounts that there may be are there.
    #[error("there are {ACCOUNTS_MAX} accounts, the limit")]
    TooManyAccounts,
    /// The account has all keys that it may have.
    #[error("the account has {KEYS_MAX} keys, the limit; revoke one first")]
    TooManyKeys,
    /// A key of a disabled account would be of no use.
    #[error("the account is disabled")]
    AccountDisabled,
    /// Operators belong to it.
    #[error("the account {DEFAULT_ACCOUNT_NAME} cannot be disabled: the operators' keys are its")]
    DefaultStays,
    /// Nobody could make another one.
    #[error("the last operator's key cannot be revoked: make another one first")]
    LastOperator,
    /// Only operators reach beyond their account, and to other operators' keys.
    #[error("only an operator may do this")]
    NotOperator,
    /// Operators belong to `default`.
    #[error("the scope operator is for keys of the account {DEFAULT_ACCOUNT_NAME}")]
    OperatorElsewhere,
    /// Whoever asked was let in and is no longer.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The store's error; after [`store::Error::Failed`] it is **unknown** whether a change happened.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A key, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// What it is called in lists and logs.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Name and number of its account.
    pub account: (String, u32),
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// How often.
    pub limit: RateLimit,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Id of the key that made it.
    pub created_by: Option<String>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixMillis>,
}

/// A key to be made.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// What people call it.
    pub name: Option<String>,
    /// What it may do: at least one.
    pub scopes: Vec<Scope>,
    /// How often.
    pub limit: RateLimit,
}

/// A key that was made just now.
pub struct MadeKey {
    /// What is kept of it.
    pub key: ApiKey,
    /// Its text, known to nobody from here on but who gets it now.
    pub text: String,
}

/// A key's document. Fields that came later have a default, so that keys of any version are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) id: String,
    pub(super) account: u32,
    pub(super) scopes: Vec<Scope>,
    pub(super) created_at: i64,
    /// SHA-256 of the key, hex.
    pub(super) digest: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) limit: RateLimit,
    #[serde(default)]
    pub(super) created_by: Option<String>,
    #[serde(default)]
    pub(super) revoked_at: Option<i64>,
}

impl StoredKey {
    pub(super) fn new(id: &str, account: u32, scopes: Vec<Scope>, limit: RateLimit, digest: Digest) -> Self {
        let (name, created_by, revoked_at) = (None, None, None);
        Self { id: id.into(), account, scopes, created_at: 0, digest: digest.to_hex(), name, limit, created_by, revoked_at }
    }

    fn is_operator(&self) -> bool {
        self.revoked_at.is_none() && self.scopes.contains(&Scope::Operator)
    }

    fn shown(&self, account: &Account) -> ApiKey {
        ApiKey {
            id: self.id.clone(),
            name: self.name.clone(),
            account: (account.name.clone(), account.number),
            scopes: self.scopes.clone(),
            limit: self.limit,
            created_at: UnixMillis(self.created_at),
            created_by: self.created_by.clone(),
            revoked_at: self.revoked_at.map(UnixMillis),
        }
    }
}

/// An account and the flag that all its keys look at.
struct Known {
    account: Account,
    is_disabled: Arc<AtomicBool>,
}

impl Known {
    fn caller(&self, key: &StoredKey) -> Caller {
        let is_revoked = AtomicBool::new(key.revoked_at.is_some());
        Caller {
            account: key.account,
            identity: self.account.identity,
            key_id: key.id.as_str().into(),
            scopes: Scopes::of(&key.scopes),
            standing: Arc::new(Standing {
                is_revoked,
                is_disabled: self.is_disabled.clone(),
                limits: rate::Limits::of(key.limit),
                shares: Shares::default(),
            }),
        }
    }
}

/// All accounts and keys, as the store had them at a version.
pub(super) struct Book {
    version: Version,
    accounts: BTreeMap<String, Known>,
    names: BTreeMap<u32, String>,
    keys: BTreeMap<String, StoredKey>,
    /// Hears of every change.
    ring: Arc<KeyRing>,
}

impl Content for Book {
    const NAME: &'static str = "accounts and keys";

    fn version(&self) -> Version {
        self.version
    }

    /// Takes over what changed, and lets the ring know of it. On an error nothing was taken over.
    fn apply(&mut self, changes: SharedChanges) -> Result<(), store::Error> {
        let (mut accounts, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for Shared { kind, id, body, .. } in changes.documents {
            match kind {
                Kind::Account => drop(accounts.insert(id.clone(), body.map(|body| read_account(&id, &body)).transpose()?)),
                Kind::Key => drop(keys.insert(id.clone(), body.map(|body| read_key(&id, &body)).transpose()?)),
                Kind::Customer
                | Kind::Meter
                | Kind::Rule
                | Kind::Audit
                | Kind::Meta
                | Kind::Plan
                | Kind::Ledger
                | Kind::Invoice
                | Kind::Told
                | Kind::Subscription => {}
            }
        }
        let mut numbers = BTreeSet::new();
        for (id, account) in accounts.iter().filter_map(|(id, account)| Some((id, account.as_ref()?))) {
            let is_anothers = self.names.get(&account.number).is_some_and(|name| name != id) || !numbers.insert(account.number);
            // What one of the two has would be the other's.
            if account.name != *id || is_anothers {
                return Err(store::Error::Damaged(format!("account {id}: its name or its number is another one's")));
            }
        }
        for (id, key) in &keys {
            let Some(key) = key else { continue };
            digest(key)?;
            if key.id != *id {
                return Err(store::Error::Damaged(format!("key {id}: it says that it is another one")));
            }
            if !numbers.contains(&key.account) && !self.names.contains_key(&key.account) {
                return Err(store::Error::Damaged(format!("key {id}: its account is gone")));
            }
        }
        if changes.is_all {
            let gone = self.keys.keys().filter(|id| !keys.contains_key(*id)).cloned().collect::<Vec<_>>();
            keys.extend(gone.into_iter().map(|id| (id, None)));
        }
        // Accounts are never deleted.
        accounts.into_values().flatten().for_each(|account| self.insert(account));
        self.take_keys(keys);
        self.version = changes.version;
        Ok(())
    }
}

impl Book {
    fn insert(&mut self, account: Account) {
        let is_disabled = account.disabled_at.is_some();
        match self.accounts.get_mut(&account.name) {
            Some(known) => {
                known.is_disabled.store(is_disabled, Ordering::Release);
                known.account = account;
            }
            None => {
                self.names.insert(account.number, account.name.clone());
                let is_disabled = Arc::new(AtomicBool::new(is_disabled));
                self.accounts.insert(account.name.clone(), Known { account, is_disabled });
            }
        }
    }

    /// A key that is as it was stays in the ring as it is, with what is left of its rate.
    fn take_keys(&mut self, keys: BTreeMap<String, Option<StoredKey>>) {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (id, key) in keys {
            let old = match &key {
                Some(key) => self.keys.insert(id, key.clone()),
                None => self.keys.remove(&id),
            };
            if old == key {
                continue;
            }
            gone.extend(old.as_ref().and_then(|old| digest(old).ok()));
            let alive = key.filter(|key| key.revoked_at.is_none());
            come.extend(alive.and_then(|key| Some((digest(&key).ok()?, self.known(key.account)?.caller(&key)))));
        }
        self.ring.change(&gone, come);
    }

    fn known(&self, number: u32) -> Option<&Known> {
        self.accounts.get(self.names.get(&number)?)
    }

    fn account(&self, number: u32) -> Result<&Known, Error> {
        self.known(number).ok_or(Error::UnknownAccount)
    }

    fn keys_of(&self, account: u32) -> impl Iterator<Item = &StoredKey> {
        self.keys.values().filter(move |key| key.account == account)
    }

    /// Keys of an account that are to be forgotten once `revoked` is: the ones revoked first, so that there is an end to them. The bootstrap
    /// key is remembered: it must not come back with the next start.
    fn excess(&self, revoked: &StoredKey) -> Vec<String> {
        let of_account = self.keys_of(revoked.account).filter(|key| key.id != revoked.id).chain([revoked]);
        let of_account = of_account.filter(|key| key.id != BOOTSTRAP_KEY_ID);
        let mut revoked: Vec<_> = of_account.filter_map(|key| Some((key.revoked_at?, key.id.clone()))).collect();
        revoked.sort();
        revoked.truncate(revoked.len().saturating_sub(REVOKED_MAX));
        revoked.into_iter().map(|(_, id)| id).collect()
    }
}

/// All accounts and keys. Blocking calls that sync a disk: async code goes through `spawn_blocking`.
pub struct Accounts {
    state: Arc<Replica<Book>>,
    ring: Arc<KeyRing>,
    clock: Clock,
}

impl Accounts {
    /// Those that a store keeps. Where other nodes change them too, a thread follows.
    pub(super) fn read(store: Arc<dyn Store>, clock: Clock) -> Result<Self, store::Error> {
        let (follower, asking) = store.watch().map(Follower::new).unzip();
        let ring = Arc::new(KeyRing::new(asking));
        let (accounts, names, keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let state = Replica::start(store, Book { version: 0, accounts, names, keys, ring: ring.clone() }, follower)?;
        Ok(Self { state, ring, clock })
    }

    /// Who is let in, kept up to date.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.state.lock()
    }

    /// The account that a caller asks about: its own, or for an operator any.
    ///
    /// # Errors
    /// [`Error::NotOperator`] for any name but its own, whether there is such an account or not; [`Error::UnknownAccount`].
    pub fn of(&self, by: &Caller, name: Option<&str>) -> Result<Account, Error> {
        let book = self.lock();
        let own = &book.account(by.account)?.account;
        match name {
            None => Ok(own.clone()),
            Some(name) if name == own.name => Ok(own.clone()),
            Some(_) if !by.may(Scope::Operator) => Err(Error::NotOperator),
            Some(name) => book.accounts.get(name).map(|known| known.account.clone()).ok_or(Error::UnknownAccount),
        }
    }

    /// The name of an account.
    pub fn name(&self, number: u32) -> Option<String> {
        self.lock().names.get(&number).cloned()
    }

    /// Whether a key of an account still lets somebody in, as far as this node knows ([`KeyRing::look`]): what was made with it goes by that.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check_key(&self, account: u32, id: &str) -> Result<(), Denied> {
        let book = self.lock();
        let is_alive = |key: &&StoredKey| key.account == account && key.revoked_at.is_none();
        book.keys.get(id).filter(is_alive).ok_or(Denied::Unknown)?;
        let is_disabled = book.known(account).is_none_or(|known| known.is_disabled.load(Ordering::Acquire));
        if is_disabled { Err(Denied::Disabled) } else { Ok(()) }
    }

    /// The numbers of all accounts.
    pub fn numbers(&self) -> Vec<u32> {
        self.lock().names.keys().copied().collect()
    }

    /// At most `limit` accounts behind a name, in the order of their names.
    ///
    /// # Errors
    /// [`Error::NotOperator`].
    pub fn list(&self, by: &Caller, after: Option<&str>, limit: usize) -> Result<Vec<Account>, Error> {
        if !by.may(Scope::Operator) {
            return Err(Error::NotOperator);
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.lock().accounts.range::<str, _>((from, Bound::Unbounded)).take(limit).map(|(_, known)| known.account.clone()).collect())
    }

    /// Makes an account; its name is checked ([`is_account_name`]).
    ///
    /// # Errors
    /// [`Error::NotOperator`], [`Error::Exists`], [`Error::TooManyAccounts`], [`Error::Denied`], [`Error::Store`].
    pub fn create(&self, by: &Caller, name: &str, identity: IdentityMode) -> Result<Account, Error> {
        let created_at = self.clock.now().0;
        self.state.change(|book| {
            by.check()?;
            if !by.may(Scope::Operator) {
                return Err(Error::NotOperator);
            }
            if book.accounts.contains_key(name) {
                return Err(Error::Exists);
            }
            if book.accounts.len() >= ACCOUNTS_MAX {
                return Err(Error::TooManyAccounts);
            }
            // Accounts are never deleted, so no number was anybody else's.
            let last = book.names.last_key_value().map_or(0, |(last, _)| *last);
            let number = last.checked_add(1).ok_or(Error::TooManyAccounts)?;
            let account = Account { number, name: name.into(), identity, created_at, disabled_at: None };
            Ok((vec![shared(Kind::Account, name, &account)?], account))
        })
    }

    /// Lets nobody of an account in any more. Of one that is disabled already nothing changes.
    ///
    /// # Errors
    /// [`Error::NotOperator`], [`Error::UnknownAccount`], [`Error::DefaultStays`], [`Error::Denied`], [`Error::Store`].
    pub fn disable(&self, by: &Caller, name: &str) -> Result<Account, Error> {
        let now = self.clock.now().0;
        self.state.change(|book| {
            by.check()?;
            if !by.may(Scope::Operator) {
                return Err(Error::NotOperator);
            }
            if name == DEFAULT_ACCOUNT_NAME {
                return Err(Error::DefaultStays);
            }
            let account = &book.accounts.get(name).ok_or(Error::UnknownAccount)?.account;
            if account.disabled_at.is_some() {
                return Ok((Vec::new(), account.clone()));
            }
            let disabled = Account { disabled_at: Some(now), ..account.clone() };
            Ok((vec![shared(Kind::Account, name, &disabled)?], disabled))
        })
    }

    /// The keys of an account by id, revoked ones too.
    ///
    /// # Errors
    /// [`Error::UnknownAccount`].
    pub fn keys(&self, account: u32) -> Result<Vec<ApiKey>, Error> {
        let book = self.lock();
        let account_of = &book.account(account)?.account;
        Ok(book.keys_of(account).map(|key| key.shown(account_of)).collect())
    }

    /// Makes a key of an account that the caller manages ([`Accounts::of`]).
    ///
    /// # Errors
    /// [`Error::AccountDisabled`], [`Error::OperatorElsewhere`], [`Error::NotOperator`], [`Error::TooManyKeys`], [`Error::Denied`],
    /// [`Error::Store`].
    pub fn create_key(&self, by: &Caller, account: u32, new: NewKey) -> Result<MadeKey, Error> {
        let id = random_hex::<ID_BYTES>()?;
        let text = key_text(&id)?;
        let key = StoredKey {
            created_at: self.clock.now().0,
            name: new.name,
            created_by: Some(by.key_id.to_string()),
            ..StoredKey::new(&id, account, new.scopes, new.limit, Digest::of(text.as_bytes()))
        };
        let shown = self.state.change(|book| {
            by.check()?;
            let account = &book.account(account)?.account;
            if account.disabled_at.is_some() {
                return Err(Error::AccountDisabled);
            }
            if key.scopes.contains(&Scope::Operator) {
                if account.name != DEFAULT_ACCOUNT_NAME {
                    return Err(Error::OperatorElsewhere);
                }
                if !by.may(Scope::Operator) {
                    return Err(Error::NotOperator);
                }
            }
            if book.keys_of(account.number).filter(|key| key.revoked_at.is_none()).count() >= KEYS_MAX {
                return Err(Error::TooManyKeys);
            }
            if book.keys.contains_key(&id) {
                return Err(store::Error::Failed("64 random bits came twice".into()).into());
            }
            Ok((vec![shared(Kind::Key, &id, &key)?], key.shown(account)))
        })?;
        Ok(MadeKey { key: shown, text })
    }

    /// Revokes a key of the caller's account, or for an operator of any. Of one that is revoked already nothing changes.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], also for another account's; [`Error::NotOperator`], [`Error::LastOperator`], [`Error::Denied`], [`Error::Store`].
    pub fn revoke_key(&self, by: &Caller, id: &str) -> Result<ApiKey, Error> {
        let now = self.clock.now().0;
        self.state.change(|book| {
            by.check()?;
            let is_reached = |key: &&StoredKey| by.may(Scope::Operator) || (by.may(Scope::Admin) && key.account == by.account);
            let key = book.keys.get(id).filter(is_reached).ok_or(Error::UnknownKey)?;
            if key.is_operator() {
                if !by.may(Scope::Operator) {
                    return Err(Error::NotOperator);
                }
                if book.keys.values().filter(|key| key.is_operator()).count() == 1 {
                    return Err(Error::LastOperator);
                }
            }
            let account = &book.account(key.account)?.account;
            if key.revoked_at.is_some() {
                return Ok((Vec::new(), key.shown(account)));
            }
            let revoked = StoredKey { revoked_at: Some(now), ..key.clone() };
            let mut documents = vec![shared(Kind::Key, id, &revoked)?];
            documents.extend(book.excess(&revoked).into_iter().map(|id| Shared { kind: Kind::Key, account: 0, id, body: None }));
            Ok((documents, revoked.shown(account)))
        })
    }
}

/// A document as it is to be written.
fn shared<T: Serialize>(kind: Kind, id: &str, value: &T) -> Result<Shared, store::Error> {
    Ok(Shared { kind, account: 0, id: id.into(), body: Some(to_json(value)?) })
}

/// Whether an account may be called so: 1 to 64 bytes, lower case letters, digits, and `-`, `_`, `.` in between.
pub fn is_account_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    bytes.len() <= ACCOUNT_NAME_BYTES_MAX
        && ends.into_iter().all(|end| end.is_some_and(|byte| is_plain(*byte)))
        && bytes.iter().all(|byte| is_plain(*byte) || b"-_.".contains(byte))
}

/// Whether a key may be called so: 1 to 128 bytes without control characters.
pub fn is_key_name(name: &str) -> bool {
    (1..=KEY_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Whether it looks like the id of a key, and not like its text.
pub fn is_key_id(id: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    id == BOOTSTRAP_KEY_ID || (id.len() == 2 * ID_BYTES && id.bytes().all(is_hex))
}

/// Whether it may be the text of a key that [`Accounts`] made.
pub(super) fn is_key_text(text: &[u8]) -> bool {
    let parts = text.strip_prefix(b"tg_").and_then(|rest| rest.split_at_checked(2 * ID_BYTES));
    let is_hex = |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    parts.is_some_and(|(id, secret)| is_hex(id) && secret.len() == 2 * SECRET_BYTES + 1 && secret[0] == b'_' && is_hex(&secret[1..]))
}

/// The text of a new key.
pub(super) fn key_text(id: &str) -> Result<String, store::Error> {
    Ok(format!("tg_{id}_{}", random_hex::<SECRET_BYTES>()?))
}

fn random_hex<const N: usize>() -> Result<String, store::Error> {
    let mut random = [0; N];
    getrandom::fill(&mut random).map_err(|error| store::Error::Failed(format!("no random bytes: {error}")))?;
    Ok(hex::encode(random))
}

fn digest(key: &StoredKey) -> Result<Digest, store::Error> {
    Digest::from_hex(&key.digest).ok_or_else(|| store::Error::Damaged(format!("key {}: the digest is not 64 hex digits", key.id)))
}

pub(super) fn read_account(id: &str, bytes: &[u8]) -> Result<Account, store::Error> {
    serde_json::from_slice(bytes).map_err(|error| store::Error::Damaged(format!("account {id}: {error}")))
}

pub(super) fn read_key(id: &str, bytes: &[u8]) -> Result<StoredKey, store::Error> {
    serde_json::from_slice(bytes).map_err(|error| store::Error::Damaged(format!("key {id}: {error}")))
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, store::Error> {
    serde_json::to_vec(value).map_err(|error| store::Error::Failed(error.to_string()))
}

#[cfg(test)]
mod following;
#[cfg(test)]
mod tests;
