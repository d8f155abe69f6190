//! All keys, in memory: a request costs one digest and one look-up, no I/O. Only a key that is not known here, where another node may
//! have made it just now, waits until this node has looked ([`KeyRing::find`]).

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::book::is_key_text;
use super::{Caller, Denied};
use crate::store::replica::follow::Asking;

/// SHA-256 of a key. Comparing two takes the same time wherever they differ, also inside a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    pub(super) fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(Self(digest))
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Of the same length for all, and under the map's own secret.
        self.0.hash(state);
    }
}

type Keys = HashMap<Digest, Caller>;

/// All keys that let somebody in; changed by whole replacement, by [`super::Accounts`] alone.
pub struct KeyRing {
    keys: ArcSwap<Keys>,
    /// Where other nodes make keys, too.
    asking: Option<Asking>,
}

impl KeyRing {
    pub(super) fn new(asking: Option<Asking>) -> Self {
        Self { keys: ArcSwap::default(), asking }
    }

    /// Whose key it is, among all that were made before this was called, on any node.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn find(&self, key: &[u8]) -> Result<Caller, Denied> {
        match (self.caller(key), &self.asking) {
            // Nothing else was ever made by a node.
            (Err(Denied::Unknown), Some(asking)) if is_key_text(key) => {
                asking.look().await;
                self.caller(key)
            }
            (known, _) => known,
        }
    }

    /// Waits until this node knows of every key that was made before this was called, on any node.
    pub async fn look(&self) {
        if let Some(asking) = &self.asking {
            asking.look().await;
        }
    }

    /// Whose key it is.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn caller(&self, key: &[u8]) -> Result<Caller, Denied> {
        let caller = self.keys.load().get(&Digest::of(key)).cloned().ok_or(Denied::Unknown)?;
        caller.check()?;
        Ok(caller)
    }

    /// Lets these keys in no more, nor requests that they let in and that are not with the log yet; and others from now on. Callers are
    /// taken over as they are, so what the others have left of their rates stays.
    pub(super) fn change(&self, gone: &[Digest], come: Vec<(Digest, Caller)>) {
        if gone.is_empty() && come.is_empty() {
            return;
        }
        let before = self.keys.load();
        for caller in gone.iter().filter_map(|digest| before.get(digest)) {
            caller.standing.is_revoked.store(true, Ordering::Release);
        }
        self.keys.rcu(|keys| {
            let mut keys = Keys::clone(keys);
            gone.iter().for_each(|digest| drop(keys.remove(digest)));
            keys.extend(come.iter().cloned());
            Arc::new(keys)
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::super::book::{Accounts, StoredKey, to_json};
    use super::super::{Account, RateLimit, Scope};
    use super::*;
    use crate::clock::Clock;
    use crate::event::IdentityMode;
    use crate::store::memory::MemoryStore;
    use crate::store::{Change, Kind, Store};

    /// The ring of these keys, each of an account and with one scope, for tests of what callers may do.
    pub(crate) fn ring_of(store: &Arc<MemoryStore>, keys: &[(&str, u32, Scope)]) -> Arc<KeyRing> {
        for (key, account, scope) in keys {
            let name = format!("account-{account}");
            let made = Account { number: *account, name, identity: IdentityMode::UniqueId, created_at: 0, disabled_at: None };
            let stored = StoredKey::new(key, *account, vec![*scope], RateLimit::default(), Digest::of(key.as_bytes()));
            let put =
                |kind, id: &str, json: &[u8]| store.change_document(kind, 0, id, &mut |_| Change::Put(json.to_vec())).expect("memory");
            put(Kind::Account, &made.name, &to_json(&made).expect("JSON"));
            put(Kind::Key, key, &to_json(&stored).expect("JSON"));
        }
        let store: Arc<dyn Store> = store.clone();
        Accounts::read(store, Clock::start()).expect("memory").ring()
    }

    #[test]
    fn a_key_is_found_by_all_of_its_text_and_by_nothing_else() {
        let ring = ring_of(&Arc::default(), &[("tg_0123_secret", 1, Scope::Read), ("tg_4567_secret", 2, Scope::Admin)]);
        assert_eq!(ring.caller(b"tg_0123_secret").map(|caller| caller.account).ok(), Some(1));
        assert_eq!(ring.caller(b"tg_4567_secret").map(|caller| caller.account).ok(), Some(2));
        for wrong in ["", "tg_0123_", "tg_0123_secreT", "tg_0123_secret ", "0123", "tg_4567_secret\0"] {
            assert_eq!(ring.caller(wrong.as_bytes()).err(), Some(Denied::Unknown), "{wrong:?}");
        }
    }

    #[test]
    fn a_digest_is_read_back_from_its_digits() {
        let digest = Digest::of(b"key");
        assert_eq!(Digest::from_hex(&digest.to_hex()), Some(digest));
        for wrong in ["", "00", &"g".repeat(64), &"é".repeat(32), &"+a".repeat(32)] {
            assert_eq!(Digest::from_hex(wrong), None);
        }
    }
}
