//! By what nodes know each other: a secret that all of them read from the store. Whoever starts first makes it; it is never shown.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use subtle::ConstantTimeEq;

use crate::store::Store;
use crate::store::secret::{self, SecretError};

/// The document's id.
const ID: &str = "node-secret";

/// Shown to other nodes, and asked of them.
#[derive(Clone)]
pub struct NodeSecret {
    /// As it stands in requests.
    bearer: String,
}

impl NodeSecret {
    /// Reads it, or makes it if there is none. Blocks.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn open(store: &dyn Store) -> Result<Self, SecretError> {
        let bytes = secret::shared(store, ID, "secret")?;
        Ok(Self { bearer: format!("Bearer {}", hex::encode(bytes)) })
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
}
