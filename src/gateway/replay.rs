//! One event brought again by whoever has its bytes: a dead letter. It takes the way of a request that brings it alone.

use bytes::Bytes;

use super::form::Sent;
use super::receipt::Named;
use super::{Arity, Gateway, IngestError, Terms};
use crate::accounts::Caller;
use crate::clock::UnixMillis;
use crate::dialect::ApiError;
use crate::event::{Rejection, parse};
use crate::log::{Place, Position};

/// What became of an event that was brought again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// It is durable now.
    Logged {
        /// As sent, or as made.
        unique_id: String,
        /// Where it stands.
        place: Place,
    },
    /// It was durable before.
    Known {
        /// As sent.
        unique_id: String,
    },
    /// It was refused; nothing was stored.
    Rejected(Rejection),
}

impl Gateway {
    /// Brings one event, of which these are the bytes in the form that it was sent in, for a key's account. If it has no uniqueId it
    /// gets `made_id`: brought again with the same one, it is a copy.
    ///
    /// # Errors
    /// What the answer to a request would be that brings it: the bytes are not one event, or it was not stored, or nobody knows.
    pub async fn replay(&self, event: &[u8], sent: &Sent, by: &Caller, made_id: u128) -> Result<Replayed, ApiError> {
        self.bring_one(event, sent, by, made_id).await.map_err(|error| self.refusal(error))
    }

    async fn bring_one(&self, event: &[u8], sent: &Sent, by: &Caller, made_id: u128) -> Result<Replayed, IngestError> {
        let received = self.clock.receive_time()?;
        let room = self.budget.reserve(by.ingest_share(), event.len()).await.map_err(super::BodyError::from)?;
        let body = Bytes::from(sent.body(event));
        let terms = Terms {
            form: sent.form(),
            arity: Arity::Any,
            list: "",
            events_max: 1,
            is_strict: false,
            names_ids: true,
            keeps_places: false,
            made_id: Some(made_id),
        };
        let taken = match self.bring(body, room, by, received, terms).await {
            Ok(taken) => taken,
            Err(IngestError::Rejected(rejected, _)) => return Ok(Replayed::Rejected(rejected.rejection)),
            Err(IngestError::Json(parse::BodyError::TooMany { .. })) => return Err(IngestError::NotOne),
            Err(error) => return Err(error),
        };
        let Some(Named { unique_id, .. }) = taken.named.into_iter().next() else { return Err(IngestError::NotOne) };
        Ok(match taken.positions.iter().next() {
            Some(place) => Replayed::Logged { unique_id, place },
            None => Replayed::Known { unique_id },
        })
    }

    /// Bits for the uniqueId of a dead letter's event that has none: the same for a letter, and nobody else's. With the time of
    /// receipt, as a data directory restored from a backup may give its position to another letter.
    pub fn made_id(&self, account: u32, letter: Position, received: UnixMillis) -> u128 {
        let name = [b"dead letter".as_slice(), &account.to_le_bytes(), &letter.0.to_le_bytes(), &received.0.to_le_bytes()];
        self.hash_key.identity(&name.concat()).0
    }
}
