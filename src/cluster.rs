//! Many nodes, one meaning: the log on Kafka, rows in PostgreSQL, each partition folded by one node at a time.
//!
//! A consumer group of Kafka says which node owns which partitions ([`group`], [`owners`]); where a fold goes on is the store's to say, and a commit of
//! an owner that has been overtaken changes nothing (`design.md`, promise 4). Nodes find each other in the store: an owner writes under
//! which address it can be asked ([`OwnerAddress`]), and gives what it has of a partition to whoever owns it next ([`handover`]). Usage is shown by any node ([`source`]).

pub mod group;
pub mod handover;
pub mod health;
pub mod internal;
mod local;
pub mod marks;
pub mod owners;
mod questions;
pub mod routing;
pub mod secret;
pub mod source;

use serde::{Deserialize, Serialize};

use crate::log::kafka::recorded::{Recorded, RecordedError};
use crate::store::{self, Change, Kind, Store};

pub use local::OwnedHere;
pub use routing::Routed;
pub use secret::NodeSecret;

/// The document that says what the log was made with.
const RECORDED: &str = "log";

/// What a cluster's log was made with is not known.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What it says cannot be used.
    #[error(transparent)]
    Recorded(#[from] RecordedError),
}

/// What the log was made with; `None`: nobody has made it with this store yet.
///
/// # Errors
/// [`RecordError`].
pub fn recorded(store: &dyn Store) -> Result<Option<Recorded>, RecordError> {
    let found = store.document(Kind::Meta, 0, RECORDED)?;
    Ok(found.as_deref().map(Recorded::from_json).transpose()?)
}

/// Writes down what the log is made with, unless another node was faster; gives back what holds.
///
/// # Errors
/// [`RecordError`].
pub fn record(store: &dyn Store, made: Recorded) -> Result<Recorded, RecordError> {
    let body = made.to_json();
    store.change_document(Kind::Meta, 0, RECORDED, &mut |there| match there {
        Some(_) => Change::Keep,
        None => Change::Put(body.clone()),
    })?;
    Ok(recorded(store)?.unwrap_or(made))
}

/// A node, and where others ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The node's name.
    pub node: String,
    /// Begin of the URLs at which it answers other nodes, without a slash at its end.
    pub url: String,
}

/// Nodes that had a partition before its owner and are remembered: each may have its dedup index still.
const BEFORE_MAX: usize = 3;

/// Who owns a partition, and where it can be asked: a document of kind [`Kind::Meta`] under the id that [`OwnerAddress::id`] makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerAddress {
    /// The owner.
    #[serde(flatten)]
    pub owner: NodeAddress,
    /// Who owned it before, newest first: other nodes.
    #[serde(default)]
    pub before: Vec<NodeAddress>,
}

impl OwnerAddress {
    /// The document's id.
    pub fn id(partition: u32) -> String {
        format!("owner/{partition}")
    }

    /// As it was written last; `None`: nobody has owned the partition yet, or it cannot be read.
    ///
    /// # Errors
    /// [`store::Error`].
    pub fn read(store: &dyn Store, partition: u32) -> Result<Option<Self>, store::Error> {
        let found = store.document(Kind::Meta, 0, &Self::id(partition))?;
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Says that a node is the owner now; gives back what is written.
    ///
    /// # Errors
    /// [`store::Error`].
    pub fn take(owner: &NodeAddress, store: &dyn Store, partition: u32) -> Result<Self, store::Error> {
        let mut taken = Self { owner: owner.clone(), before: Vec::new() };
        store.change_document(Kind::Meta, 0, &Self::id(partition), &mut |found| {
            let found = found.and_then(|bytes| serde_json::from_slice::<Self>(bytes).ok());
            taken.before = found.map_or_else(Vec::new, |found| found.followed_by(owner));
            // Texts always serialize.
            Change::Put(serde_json::to_vec(&taken).unwrap_or_default())
        })?;
        Ok(taken)
    }

    /// Who was before a new owner.
    fn followed_by(self, owner: &NodeAddress) -> Vec<NodeAddress> {
        let all = std::iter::once(self.owner).chain(self.before);
        let mut before: Vec<NodeAddress> = Vec::new();
        for node in all.filter(|node| node.node != owner.node) {
            if before.iter().all(|known| known.node != node.node) {
                before.push(node);
            }
        }
        before.truncate(BEFORE_MAX);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    #[test]
    fn who_had_a_partition_is_remembered_newest_first_and_each_node_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(&dir.path().join("a.redb")).expect("opens");
        let take = |name: &str, port: u16| {
            let node = NodeAddress { node: name.into(), url: format!("http://127.0.0.1:{port}") };
            let taken = OwnerAddress::take(&node, &store, 3).expect("written");
            assert_eq!(OwnerAddress::read(&store, 3).expect("read"), Some(taken.clone()));
            assert_eq!(taken.owner, node);
            taken.before.into_iter().map(|node| format!("{} {}", node.node, &node.url[17..])).collect::<Vec<_>>()
        };
        assert_eq!(take("a", 1), Vec::<String>::new());
        assert_eq!(take("a", 2), Vec::<String>::new());
        assert_eq!(take("b", 1), ["a 2"]);
        assert_eq!(take("b", 2), ["a 2"], "a restart forgets nobody");
        assert_eq!(take("c", 1), ["b 2", "a 2"]);
        assert_eq!(take("a", 3), ["c 1", "b 2"]);
        assert_eq!(take("d", 1), ["a 3", "c 1", "b 2"]);
        assert_eq!(take("e", 1), ["d 1", "a 3", "c 1"], "not for ever");
    }

    /// As nodes wrote it that knew of no other.
    #[test]
    fn an_owner_without_a_past_is_read() {
        let found: OwnerAddress = serde_json::from_str(r#"{"node":"a","url":"http://h:1"}"#).expect("read");
        assert_eq!((found.owner.node.as_str(), found.before.len()), ("a", 0));
    }
}
