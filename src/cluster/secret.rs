//! By what nodes know each other: a secret that all of them read from the store. Whoever starts first makes it; it is never shown.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::store::{self, Change, Kind, Store};

/// The document's id, of kind [`Kind::Meta`] and below account 0.
const ID: &str = "node-secret";
const SECRET_BYTES: usize = 32;

/// Shown to other nodes, and asked of them.
#[derive(Clone)]
pub struct NodeSecret {
    /// As it stands in requests.
    bearer: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read or made.
    #[error("the secret of the nodes cannot be read: {0}")]
    Store(#[from] store::Error),
    /// It is not what was written.
    #[error("the secret of the nodes is damaged: remove the document `{ID}` of kind meta, and start all nodes again")]
    Damaged,
    /// No random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

#[derive(Serialize, Deserialize)]
struct Document {
    secret: String,
}

impl NodeSecret {
    /// Reads it, or makes it if there is none. Blocks.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn open(store: &dyn Store) -> Result<Self, SecretError> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| SecretError::Random(error.to_string()))?;
        // A text always serializes.
        let made = serde_json::to_vec(&Document { secret: hex::encode(bytes) }).unwrap_or_default();
        let mut kept = Vec::new();
        store.change_document(Kind::Meta, 0, ID, &mut |found| match found {
            Some(found) => {
                kept = found.to_vec();
                Change::Keep
            }
            None => {
                kept.clone_from(&made);
                Change::Put(made.clone())
            }
        })?;
        let document: Document = serde_json::from_slice(&kept).map_err(|_| SecretError::Damaged)?;
        let is_whole = hex::decode(&document.secret).is_ok_and(|bytes| bytes.len() == SECRET_BYTES);
        is_whole.then(|| Self { bearer: format!("Bearer {}", document.secret) }).ok_or(SecretError::Damaged)
    }

    /// For a request to another node.
    pub(super) fn authorization(&self) -> HeaderValue {
        // Hex digits always are a header's value.
        let mut value = HeaderValue::from_str(&self.bearer).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// Whether a request has it. How long that takes says nothing about it.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
        shown.ct_eq(self.bearer.as_bytes()).into()
    }
}

impl fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSecret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn all_nodes_of_a_store_have_one_secret_and_those_of_another_store_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |name: &str| EmbeddedStore::open(&dir.path().join(name)).expect("opens");
        let (store, other) = (open("a.redb"), open("b.redb"));
        let first = NodeSecret::open(&store).expect("made");
        let second = NodeSecret::open(&store).expect("read");
        let stranger = NodeSecret::open(&other).expect("made");
        let shown = HeaderMap::from_iter([(AUTHORIZATION, first.authorization())]);
        assert!(first.is_in(&shown) && second.is_in(&shown) && !stranger.is_in(&shown));
        assert!(!first.is_in(&HeaderMap::new()) && !first.is_in(&headers("")) && !first.is_in(&headers("Bearer ")));
        assert!(!first.is_in(&headers(&first.bearer[..first.bearer.len() - 1])));
        assert!(!format!("{first:?} {shown:?}").contains(&first.bearer[7..]));
    }

    #[test]
    fn a_damaged_secret_is_an_error_and_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(&dir.path().join("a.redb")).expect("opens");
        for damaged in ["", "{}", r#"{"secret":""}"#, r#"{"secret":"abcd"}"#, r#"{"secret":"zz"}"#] {
            store.change_document(Kind::Meta, 0, ID, &mut |_| Change::Put(damaged.into())).expect("written");
            assert!(matches!(NodeSecret::open(&store), Err(SecretError::Damaged)), "{damaged}");
        }
    }
}
