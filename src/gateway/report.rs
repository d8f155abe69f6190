//! Events that a route of the API brings, which answers with more than that they are durable. They take the way of a request to a door: all
//! of them, or none.

use bytes::Bytes;

use super::form::{Form, Shape, Syntax};
use super::receipt::Named;
use super::{Arity, Gateway, IngestError, Terms};
use crate::accounts::Caller;
use crate::clock::{UnixMicros, UnixMillis};
use crate::dialect::ApiError;

/// What is durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// When they came.
    pub received: UnixMillis,
    /// What each event is called, as sent or as made, and when it happened; in their order.
    pub events: Vec<(String, UnixMicros)>,
}

impl Gateway {
    /// Brings Stigg's reports of usage, one or an array, for a key's account. `list`: under which name the array stood in the request.
    ///
    /// # Errors
    /// What the answer is to a request that brings them: something is wrong with one, so that none was stored; or none was; or nobody knows.
    pub async fn bring_usage(&self, body: Bytes, list: &'static str, events_max: usize, by: &Caller) -> Result<Brought, ApiError> {
        self.bring_all(body, list, events_max, by).await.map_err(|error| self.refusal(error))
    }

    async fn bring_all(&self, body: Bytes, list: &'static str, events_max: usize, by: &Caller) -> Result<Brought, IngestError> {
        let received = self.clock.receive_time()?;
        let room = self.budget.reserve(by.ingest_share(), body.len()).await.map_err(super::BodyError::from)?;
        let terms = Terms {
            form: Form { syntax: Syntax::Json, shape: Shape::StiggUsage },
            arity: Arity::Any,
            list,
            events_max,
            is_strict: true,
            names_ids: true,
            keeps_places: false,
            made_id: None,
        };
        let taken = self.bring(body, room, by, received, terms).await?;
        let events = taken.named.into_iter().map(|Named { unique_id, time }| (unique_id, time)).collect();
        Ok(Brought { received, events })
    }
}
