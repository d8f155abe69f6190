//! Secrets that all nodes share: random bytes in a document, made by whoever asks first and never shown.

use serde_json::{Map, Value};

use super::{Change, Error, Kind, Store};

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read or made.
    #[error("the secret `{id}` cannot be read: {source}")]
    Store {
        /// The document's id.
        id: &'static str,
        /// The store's error.
        source: Error,
    },
    /// It is not what was written.
    #[error(
        "the secret `{id}` is damaged: remove the document of this id and of kind meta, and start all nodes again; what it was for ends then"
    )]
    Damaged {
        /// The document's id.
        id: &'static str,
    },
    /// No random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

/// Reads a secret, or makes it if there is none. Blocks. It is of [`Kind::Meta`] and below account 0, as hex under the name `member`.
///
/// # Errors
/// [`SecretError`].
pub fn shared(store: &dyn Store, id: &'static str, member: &str) -> Result<[u8; SECRET_BYTES], SecretError> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| SecretError::Random(error.to_string()))?;
    let made = Value::from(Map::from_iter([(member.to_owned(), hex::encode(bytes).into())])).to_string().into_bytes();
    let mut kept = Vec::new();
    let changed = store.change_document(Kind::Meta, 0, id, &mut |found| match found {
        Some(found) => {
            kept = found.to_vec();
            Change::Keep
        }
        None => {
            kept.clone_from(&made);
            Change::Put(made.clone())
        }
    });
    changed.map_err(|source| SecretError::Store { id, source })?;
    let document: Map<String, Value> = serde_json::from_slice(&kept).map_err(|_| SecretError::Damaged { id })?;
    let text = document.get(member).and_then(Value::as_str).unwrap_or_default();
    hex::decode_to_slice(text, &mut bytes).map_err(|_| SecretError::Damaged { id })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[test]
    fn a_damaged_secret_is_an_error_and_not_replaced() {
        let store = MemoryStore::default();
        let made = shared(&store, "a", "key").expect("made");
        assert_eq!(shared(&store, "a", "key").expect("read"), made);
        assert_ne!(shared(&store, "b", "key").expect("made"), made);
        for damaged in ["", "{}", r#"{"key":""}"#, r#"{"key":"abcd"}"#, r#"{"key":"zz"}"#, r#"{"key":7}"#] {
            store.change_document(Kind::Meta, 0, "a", &mut |_| Change::Put(damaged.into())).expect("written");
            assert!(matches!(shared(&store, "a", "key"), Err(SecretError::Damaged { id: "a" })), "{damaged}");
        }
    }
}
