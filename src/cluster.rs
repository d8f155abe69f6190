//! Many nodes, one meaning: the log on Kafka, rows in PostgreSQL, each partition folded by one node at a time.
//!
//! A consumer group of Kafka says which node owns which partitions ([`group`], [`owners`]); where a fold goes on is the store's to say, and a commit of
//! an owner that has been overtaken changes nothing (`design.md`, promise 4). Nodes find each other in the store: an owner writes under
//! which address it can be asked ([`OwnerAddress`]). Usage is shown by any node ([`source`]).

pub mod group;
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

/// Where the owner of a partition can be asked: a document of kind [`Kind::Meta`] under the id that [`OwnerAddress::id`] makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerAddress {
    /// The node's name.
    pub node: String,
    /// Begin of the URLs at which it answers other nodes, without a slash at its end.
    pub url: String,
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

    /// Says that this node is the owner now.
    ///
    /// # Errors
    /// [`store::Error`].
    pub fn write(&self, store: &dyn Store, partition: u32) -> Result<(), store::Error> {
        // Texts always serialize.
        let body = serde_json::to_vec(self).unwrap_or_default();
        store.change_document(Kind::Meta, 0, &Self::id(partition), &mut |_| Change::Put(body.clone()))
    }
}
