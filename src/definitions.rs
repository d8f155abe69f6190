//! What takes events in has to know of an account's meters and mappings, in memory: which meters count an event that names none of them, and
//! whose a measurement is that names nobody. Only the dialects that leave this open ask for it; no request of another one comes here.
//!
//! An account is read from the store when it is asked for first, and stays. A request takes what there is once, whatever happens meanwhile.
//!
//! # When a change counts
//! On the node that made it: for every request that comes after its answer. Of the other nodes that share the store, each hears of it at once,
//! and looks by itself every [`POLL`]. The answer to a change of a meter waits for two of these, so all that reach the store have it by
//! then. That to a change of a mapping does not wait: a node that knows no customer for a measurement looks before it says so
//! ([`Definitions::look`]). While a node does not reach the store it goes on with what it knows; an account that it has not read
//! yet it cannot take such events of.

mod account;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::store::replica::follow::{Asking, Follower, POLL};
use crate::store::replica::{Content, Replica};
use crate::store::{self, Hears, Kind, SharedChanges, Store, Version};
pub use account::{AccountDefinitions, AccountMeters};

/// How long a change of a meter waits where other nodes must hear of it: two looks.
const SETTLED: Duration = POLL.saturating_mul(2);

/// The definitions of accounts.
pub struct Definitions {
    known: Arc<Known>,
    /// Where other nodes change them, too. Who follows ends with it.
    followed: Option<(Arc<Replica<Told>>, Asking)>,
}

/// What this node knows.
struct Known {
    store: Arc<dyn Store>,
    /// Those that were asked for.
    accounts: RwLock<HashMap<u32, Arc<AccountDefinitions>>>,
    /// Held while the store is read and what was read is taken over: what is taken over last was read last.
    reading: Mutex<()>,
}

impl Known {
    fn get(&self, account: u32) -> Option<Arc<AccountDefinitions>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(&account).cloned()
    }

    fn load(&self, account: u32) -> Result<Arc<AccountDefinitions>, store::Error> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.get(account) {
            return Ok(known);
        }
        let loaded = Arc::new(AccountDefinitions::load(&*self.store, account)?);
        self.accounts.write().unwrap_or_else(PoisonError::into_inner).insert(account, loaded.clone());
        Ok(loaded)
    }

    fn reload(&self, kind: Kind, account: u32, id: &str) -> Result<(), store::Error> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = self.get(account) else { return Ok(()) };
        known.reload(&*self.store, kind, account, id)
    }
}

/// Which changes of other nodes are known.
struct Told {
    version: Version,
    known: Arc<Known>,
}

impl Content for Told {
    const NAME: &'static str = "definitions of meters and mappings";

    fn version(&self) -> Version {
        self.version
    }

    fn apply(&mut self, changes: SharedChanges) -> Result<(), store::Error> {
        // What was changed is read again, so that whoever comes late brings nothing old.
        for told in &changes.documents {
            let Some((code, account, id)) = told.of_what() else { continue };
            for kind in [Kind::Meter, Kind::Customer].into_iter().filter(|kind| kind.code() == code) {
                self.known.reload(kind, account, id)?;
            }
        }
        self.version = changes.version;
        Ok(())
    }
}

impl Definitions {
    /// Those that a store keeps.
    ///
    /// # Errors
    /// [`store::Error`].
    pub fn open(store: Arc<dyn Store>) -> Result<Self, store::Error> {
        let known = Arc::new(Known { store: store.clone(), accounts: RwLock::default(), reading: Mutex::default() });
        let Some(heard) = store.watch() else { return Ok(Self { known, followed: None }) };
        let (follower, asking) = Follower::new(heard);
        let told = Told { version: 0, known: known.clone() };
        Ok(Self { known, followed: Some((Replica::start(store, told, Some(follower))?, asking)) })
    }

    /// Those of an account. Reads the store when an account is asked for first, and never again.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(&self, account: u32) -> Result<Arc<AccountDefinitions>, store::Error> {
        if let Some(known) = self.known.get(account) {
            return Ok(known);
        }
        let known = self.known.clone();
        let loaded = tokio::task::spawn_blocking(move || known.load(account)).await;
        loaded.map_err(|error| store::Error::Failed(error.to_string()))?
    }

    /// Waits until all is known that other nodes changed before; whether there are any.
    pub async fn look(&self) -> bool {
        let Some((_, asking)) = &self.followed else { return false };
        asking.look().await;
        true
    }
}

impl Hears for Definitions {
    fn changed(&self, kind: Kind, account: u32, id: &str) -> Result<(), store::Error> {
        self.known.reload(kind, account, id)?;
        if kind == Kind::Meter && self.followed.is_some() {
            std::thread::sleep(SETTLED);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
