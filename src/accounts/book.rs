//! Changes of accounts and keys. One at a time: durable in the store, then in the ring, then the caller hears of it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::ring::{Digest, KeyRing};
use super::{Account, Caller, DEFAULT_ACCOUNT_NAME, Denied, RateLimit, Scope, Scopes, Shares, Standing, rate};
use crate::clock::{Clock, UnixMillis};
use crate::event::IdentityMode;
use crate::store::{self, Change, Kind, Store};

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
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// All accounts and keys, as the store has them.
#[derive(Default)]
struct Book {
    accounts: BTreeMap<String, Known>,
    names: BTreeMap<u32, String>,
    keys: BTreeMap<String, StoredKey>,
}

impl Book {
    fn read(store: &dyn Store) -> Result<Self, store::Error> {
        let mut book = Self::default();
        for (id, bytes) in store.documents(Kind::Account, 0)? {
            let account = read_account(&id, &bytes)?;
            // What one of the two has would be the other's.
            if account.name != id || book.names.contains_key(&account.number) {
                return Err(store::Error::Damaged(format!("account {id}: its name or its number is another one's")));
            }
            book.insert(account);
        }
        for (id, bytes) in store.documents(Kind::Key, 0)? {
            let key = read_key(&id, &bytes)?;
            if key.id != id {
                return Err(store::Error::Damaged(format!("key {id}: it says that it is another one")));
            }
            if !book.names.contains_key(&key.account) {
                return Err(store::Error::Damaged(format!("key {id}: its account is gone")));
            }
            book.keys.insert(id, key);
        }
        Ok(book)
    }

    fn insert(&mut self, account: Account) {
        let is_disabled = Arc::new(AtomicBool::new(account.disabled_at.is_some()));
        self.names.insert(account.number, account.name.clone());
        self.accounts.insert(account.name.clone(), Known { account, is_disabled });
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

    fn ring(&self) -> Result<KeyRing, store::Error> {
        let alive = self.keys.values().filter(|key| key.revoked_at.is_none());
        let callers = alive.filter_map(|key| Some((key, self.known(key.account)?.caller(key))));
        Ok(KeyRing::of(callers.map(|(key, caller)| Ok((digest(key)?, caller))).collect::<Result<Vec<_>, store::Error>>()?))
    }
}

/// All accounts and keys. Blocking calls that sync a disk: async code goes through `spawn_blocking`.
pub struct Accounts {
    store: Arc<dyn Store>,
    clock: Clock,
    ring: Arc<KeyRing>,
    /// Locked for as long as a change takes: what one sees is what it changes.
    book: Mutex<Book>,
}

impl Accounts {
    /// Those that a store keeps.
    pub(super) fn read(store: Arc<dyn Store>, clock: Clock) -> Result<Self, store::Error> {
        let book = Book::read(&*store)?;
        let ring = Arc::new(book.ring()?);
        Ok(Self { store, clock, ring, book: Mutex::new(book) })
    }

    /// Who is let in, kept up to date.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Whoever panicked has changed nothing: the book is written last.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut book = self.lock();
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
        let account = Account { number, name: name.into(), identity, created_at: self.clock.now().0, disabled_at: None };
        put(&*self.store, Kind::Account, name, &account)?;
        book.insert(account.clone());
        Ok(account)
    }

    /// Lets nobody of an account in any more. Of one that is disabled already nothing changes.
    ///
    /// # Errors
    /// [`Error::NotOperator`], [`Error::UnknownAccount`], [`Error::DefaultStays`], [`Error::Denied`], [`Error::Store`].
    pub fn disable(&self, by: &Caller, name: &str) -> Result<Account, Error> {
        let mut book = self.lock();
        by.check()?;
        if !by.may(Scope::Operator) {
            return Err(Error::NotOperator);
        }
        if name == DEFAULT_ACCOUNT_NAME {
            return Err(Error::DefaultStays);
        }
        let known = book.accounts.get_mut(name).ok_or(Error::UnknownAccount)?;
        if known.account.disabled_at.is_none() {
            let disabled = Account { disabled_at: Some(self.clock.now().0), ..known.account.clone() };
            put(&*self.store, Kind::Account, name, &disabled)?;
            known.account = disabled;
            known.is_disabled.store(true, Ordering::Release);
        }
        Ok(known.account.clone())
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
        let mut book = self.lock();
        by.check()?;
        let known = book.account(account)?;
        if known.account.disabled_at.is_some() {
            return Err(Error::AccountDisabled);
        }
        if new.scopes.contains(&Scope::Operator) {
            if known.account.name != DEFAULT_ACCOUNT_NAME {
                return Err(Error::OperatorElsewhere);
            }
            if !by.may(Scope::Operator) {
                return Err(Error::NotOperator);
            }
        }
        if book.keys_of(account).filter(|key| key.revoked_at.is_none()).count() >= KEYS_MAX {
            return Err(Error::TooManyKeys);
        }
        let id = random_hex::<ID_BYTES>()?;
        let text = key_text(&id)?;
        let digest = Digest::of(text.as_bytes());
        let key = StoredKey {
            created_at: self.clock.now().0,
            name: new.name,
            created_by: Some(by.key_id.to_string()),
            ..StoredKey::new(&id, account, new.scopes, new.limit, digest)
        };
        if book.keys.contains_key(&id) {
            return Err(store::Error::Failed("64 random bits came twice".into()).into());
        }
        put(&*self.store, Kind::Key, &id, &key)?;
        let known = book.account(account)?;
        self.ring.add(digest, known.caller(&key));
        let shown = key.shown(&known.account);
        book.keys.insert(id, key);
        Ok(MadeKey { key: shown, text })
    }

    /// Revokes a key of the caller's account, or for an operator of any. Of one that is revoked already nothing changes.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], also for another account's; [`Error::NotOperator`], [`Error::LastOperator`], [`Error::Denied`], [`Error::Store`].
    pub fn revoke_key(&self, by: &Caller, id: &str) -> Result<ApiKey, Error> {
        let mut book = self.lock();
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
        let mut key = key.clone();
        if key.revoked_at.is_none() {
            key.revoked_at = Some(self.clock.now().0);
            put(&*self.store, Kind::Key, id, &key)?;
            self.ring.revoke(digest(&key)?);
            book.keys.insert(id.into(), key.clone());
            self.forget_revoked(&mut book, key.account);
        }
        let shown = key.shown(&book.account(key.account)?.account);
        Ok(shown)
    }

    /// Forgets the keys that were revoked first, so that there is an end to them. The bootstrap key is remembered: it must not
    /// come back with the next start.
    fn forget_revoked(&self, book: &mut Book, account: u32) {
        let revoked = book.keys_of(account).filter(|key| key.id != BOOTSTRAP_KEY_ID);
        let mut revoked: Vec<_> = revoked.filter_map(|key| Some((key.revoked_at?, key.id.clone()))).collect();
        revoked.sort();
        let excess = revoked.len().saturating_sub(REVOKED_MAX);
        for (_, id) in revoked.drain(..excess) {
            match self.store.change_document(Kind::Key, 0, &id, &mut |_| Change::Remove) {
                Ok(()) => drop(book.keys.remove(&id)),
                // It is revoked, which is what counts; the next one that is revoked tries again.
                Err(error) => tracing::warn!(%error, key = id, "a revoked key could not be forgotten"),
            }
        }
    }
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

/// Writes a document, durably.
pub(super) fn put<T: Serialize>(store: &dyn Store, kind: Kind, id: &str, value: &T) -> Result<(), store::Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| store::Error::Failed(error.to_string()))?;
    store.change_document(kind, 0, id, &mut |_| Change::Put(bytes.clone()))
}

#[cfg(test)]
mod tests;
