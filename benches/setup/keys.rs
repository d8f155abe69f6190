//! An account's keys.

use std::path::Path;
use std::sync::Arc;

use tollgate::accounts::{Accounts, DEFAULT_ACCOUNT, DefaultAccount, KeyRing, NewKey, RATE_MAX, Rate, RateLimit, Scope};
use tollgate::clock::Clock;
use tollgate::store::embedded::EmbeddedStore;

/// Two keys that may bring events: without limits, and with limits that are not reached.
pub(crate) struct Keys {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) plain: String,
    pub(crate) limited: String,
}

/// Makes them, in a store of their own.
pub(crate) fn keys(dir: &Path) -> Keys {
    let store = Arc::new(EmbeddedStore::open(&dir.join("store.redb")).expect("a store"));
    let wanted = DefaultAccount { admin_key: Some("operator"), identity: None };
    let (accounts, _) = Accounts::open(store, &wanted, Clock::start()).expect("opens");
    let ring = accounts.ring();
    let operator = ring.caller(b"operator").expect("is known");
    let make = |limit| {
        let new = NewKey { scopes: vec![Scope::Ingest], limit, ..NewKey::default() };
        accounts.create_key(&operator, DEFAULT_ACCOUNT, new).expect("is made").text
    };
    let rate = Some(Rate { per_second: RATE_MAX, burst: RATE_MAX });
    Keys { plain: make(RateLimit::default()), limited: make(RateLimit { requests: rate, events: rate }), ring }
}
