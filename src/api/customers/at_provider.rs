//! A customer that is made at the payment provider, too: there first, so that nothing is half-made here.
//!
//! 1. An id that is taken is refused before the provider hears of it.
//! 2. The provider makes its customer, once for whatever sends this request again ([`crate::stripe::IdempotencyKeys`]).
//! 3. The customer is made here, with the provider's id. Whoever was faster meanwhile has the id: this one is refused then. If it said the same, it got
//!    the same customer of the provider; if it said something else, the provider has one that nobody refers to, which is logged.
//!
//! What fails at 2 leaves nothing here. What fails at 3 is made up for by the same request, sent again within the 24 h for which the provider
//! remembers it.

use std::sync::Arc;

use hyper::StatusCode;

use super::{Answer, Parts, create_here, done};
use crate::customers::{CustomerId, Customers, Error, Life};
use crate::dialect::ApiError;
use crate::dialect::amberflo::customers::CustomerRequest;
use crate::stripe::{self, MadeFor, StripeId};

/// When to ask again, in s, after the provider did not answer.
const RETRY_AFTER_S: u32 = 10;
/// The same where somebody has to act first.
const RETRY_AFTER_REPAIR_S: u32 = 300;

/// Makes the customer there and here. Not to be dropped half-way.
pub(super) async fn create(parts: Parts, account: u32, mut request: CustomerRequest) -> Answer {
    let id = request.id().clone();
    let life = vacancy(&parts.customers, account, id.clone()).await?;
    let made = at_provider(&parts, MadeFor { account, life }, &request).await?;
    if let Some(made) = &made {
        request.set_stripe_id(made.as_str());
    }
    let answer = create_here(parts.customers, account, request).await;
    if let (Some(made), Err(error)) = (made, &answer) {
        tracing::warn!(stripe_id = made.as_str(), code = error.code, "a customer was made at Stripe and not here");
    }
    answer
}

/// The life that a new customer under an id would be, if the id is free.
async fn vacancy(customers: &Arc<Customers>, account: u32, id: CustomerId) -> Result<Life, ApiError> {
    let look = move |customers: &Customers| match customers.get(account, &id) {
        Ok(_) => Err(Error::Exists),
        Err(Error::Unknown) => customers.lives(account, &id).map(|lives| lives.current()),
        Err(error) => Err(error),
    };
    done(customers.clone(), StatusCode::BAD_REQUEST, look).await
}

/// The customer at the provider; `None`: the request says which one it is.
async fn at_provider(parts: &Parts, made_for: MadeFor, request: &CustomerRequest) -> Result<Option<StripeId>, ApiError> {
    let Some(provider) = &parts.provider else { return Ok(None) };
    let account = parts.accounts.name(made_for.account).unwrap_or_default();
    let address = request.address();
    let Some(new) = request.for_provider(&account, &address)? else { return Ok(None) };
    let key = provider.keys.of(made_for, &new);
    provider.stripe.create_customer(&new, &key).await.map(Some).map_err(|error| refusal(&error))
}

/// The one place where an error of the provider gets its status.
fn refusal(error: &stripe::Error) -> ApiError {
    match error {
        stripe::Error::Refused { .. } => ApiError::bad_field("autoCreateCustomerInStripe:", error),
        stripe::Error::Busy => ApiError::unavailable(format!("{error}; nothing was made"), RETRY_AFTER_S),
        stripe::Error::Unauthorized(_) => {
            tracing::error!(%error, "set another stripe.api_key: customers cannot be made");
            ApiError::unavailable("the payment provider does not take this gateway's key; nothing was made", RETRY_AFTER_REPAIR_S)
        }
        stripe::Error::Unavailable(_) => {
            tracing::warn!(%error, "a customer was not made");
            let message = "the payment provider did not answer; no customer was made here, send the same request again";
            ApiError::unavailable(message, RETRY_AFTER_S)
        }
    }
}
