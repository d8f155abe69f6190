//! Accounts and their API keys: who may call, and what.
//!
//! A key is shown once and kept as the SHA-256 of its text. Its text is `tg_<id>_<secret>`: the id names it in lists, in the audit
//! log and in log lines, the secret (160 random bits) is nowhere. [`KeyRing`] has all keys in memory for the requests,
//! [`Accounts`] changes them, [`audit`] remembers who changed what.
//!
//! # Who may what
//! A scope is what a key may do in its account; `admin` is all of `ingest`, `read` and what is set up. `operator` stands
//! beside it and is not implied by it: whoever runs the gateway, makes and disables accounts and manages the keys of any, but
//! sees no account's data with it. Operator keys belong to the account `default`, which cannot be disabled, and only operators
//! make or revoke them; the last one cannot be revoked. The bootstrap key is `admin` and `operator`.
//!
//! # When a change counts
//! It is durable first, then it is in the ring, then it is answered. Every request is looked up in the ring, on whatever
//! connection it comes, and its key is looked at once more when its body has been read: a body that was under way when its key was
//! revoked is refused. What has been handed to the log by then is finished and answered.
//!
//! Where several nodes share a store, the others hear of it at once ([`crate::store::replica`]), at the latest within a second. A key that a node
//! does not know is let in or refused only after the node has looked into the store, so a new key works everywhere as soon as
//! it is known to anybody. Rates are each node's own.

pub mod audit;
mod book;
mod open;
mod rate;
mod ring;
mod share;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::event::IdentityMode;
use crate::log::record;

pub use book::{ACCOUNTS_MAX, Accounts, ApiKey, Error, KEYS_MAX, MadeKey, NewKey, is_account_name, is_key_id, is_key_name};
pub use open::{AdminKey, DefaultAccount, OpenError};
pub use rate::{Exceeded, Limits, RATE_MAX, Rate, RateLimit};
pub use ring::KeyRing;
#[cfg(test)]
pub(crate) use ring::tests::ring_of;
pub use share::Share;

/// The account that exists from the first start on.
pub const DEFAULT_ACCOUNT: u32 = 1;
/// Its name.
pub const DEFAULT_ACCOUNT_NAME: &str = "default";

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send events.
    Ingest,
    /// Read usage, customers, invoices.
    Read,
    /// Everything in its account, including changes of what is set up.
    Admin,
    /// Accounts, and the keys of all of them.
    Operator,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Admin, Self::Operator];

    /// As it is written in settings and answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Ingest => 1,
            Self::Read => 2,
            Self::Admin => 4,
            Self::Operator => 8,
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scopes(u8);

impl Scopes {
    fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Since when none of its keys is let in, ms.
    #[serde(default)]
    pub disabled_at: Option<i64>,
}

/// Why a request's key is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody's, or no longer anybody's.
    #[error("the API key is missing, unknown or revoked")]
    Unknown,
    /// The account is disabled; the key is right.
    #[error("the account of this API key is disabled")]
    Disabled,
}

/// Who sent a request: what every handler may go by. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account that all data of the request belongs to.
    pub account: u32,
    /// What makes two of its events copies of one.
    pub identity: IdentityMode,
    /// Id of the key, for logs; never the key.
    pub key_id: Arc<str>,
    scopes: Scopes,
    standing: Arc<Standing>,
}

/// What may change about a key while requests that it let in are under way.
#[derive(Debug)]
struct Standing {
    is_revoked: AtomicBool,
    /// Shared by all keys of the account.
    is_disabled: Arc<AtomicBool>,
    limits: Option<rate::Limits>,
    shares: Shares,
}

/// What a key holds of the room for requests, of both kinds.
#[derive(Debug, Default)]
struct Shares {
    ingest: Arc<Share>,
    api: Arc<Share>,
}

impl Caller {
    /// Whether the key has a scope; `admin` has all of its account's.
    pub fn may(&self, scope: Scope) -> bool {
        match scope {
            Scope::Operator => self.scopes.has(Scope::Operator),
            Scope::Ingest | Scope::Read | Scope::Admin => self.scopes.has(scope) || self.scopes.has(Scope::Admin),
        }
    }

    /// Whether it may manage keys of some account.
    pub fn manages_keys(&self) -> bool {
        self.may(Scope::Admin) || self.may(Scope::Operator)
    }

    /// What its events' records say of the account.
    pub fn record_account(&self) -> record::Account {
        record::Account { number: self.account, identity: self.identity }
    }

    /// Whether the key is still good.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(&self) -> Result<(), Denied> {
        if self.standing.is_revoked.load(Ordering::Acquire) {
            Err(Denied::Unknown)
        } else if self.standing.is_disabled.load(Ordering::Acquire) {
            Err(Denied::Disabled)
        } else {
            Ok(())
        }
    }

    /// What the key holds of the room for requests that bring events.
    pub fn ingest_share(&self) -> &Arc<Share> {
        &self.standing.shares.ingest
    }

    /// What it holds of the room for all other requests.
    pub fn api_share(&self) -> &Arc<Share> {
        &self.standing.shares.api
    }

    /// Takes one request of the key's allowance.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn take_request(&self) -> Result<(), Exceeded> {
        self.standing.limits.as_ref().map_or(Ok(()), rate::Limits::take_request)
    }

    /// Takes events of the key's allowance: all or none.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn take_events(&self, events: u64) -> Result<(), Exceeded> {
        self.standing.limits.as_ref().map_or(Ok(()), |limits| limits.take_events(events))
    }

    /// Writes the key's limits, if it has any, into the head of an answer.
    pub fn describe_limits(&self, headers: &mut HeaderMap) {
        if let Some(limits) = &self.standing.limits {
            limits.describe(headers);
        }
    }
}
