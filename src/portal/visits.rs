//! How often a customer's pages are asked for: bounded for each customer, whatever number of links to it there are.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::token::Claims;
use crate::accounts::{Exceeded, Limits, Rate, RateLimit};
use crate::customers::{CustomerId, Life};

/// Pages a second, and at once: more than anybody reads.
const RATE: Rate = Rate { per_second: 2, burst: 30 };
/// Pages of one customer that are made at a time.
const AT_ONCE_MAX: usize = 1;
/// Pages of one customer that wait for that.
const WAITING_MAX: usize = 8;
/// Customers that are remembered; of one that is forgotten the allowance is full again.
const CUSTOMERS_MAX: u64 = 10_000;
/// How long one is remembered: longer than a burst takes to come back.
const IDLE: Duration = Duration::from_secs(60);

/// The pages of one customer.
struct Visitor {
    limits: Option<Limits>,
    turn: Arc<Semaphore>,
    line: Arc<Semaphore>,
}

/// Those of all.
pub(super) struct Visits(Cache<(u32, Life, CustomerId), Arc<Visitor>>);

/// A page of a customer that is made; the next one waits for its end.
#[derive(Debug)]
pub(super) struct Visit {
    _turn: OwnedSemaphorePermit,
}

impl Default for Visits {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CUSTOMERS_MAX).time_to_idle(IDLE).build())
    }
}

impl Visitor {
    fn new() -> Self {
        let limits = Limits::of(RateLimit { requests: Some(RATE), events: None });
        Self { limits, turn: Arc::new(Semaphore::new(AT_ONCE_MAX)), line: Arc::new(Semaphore::new(AT_ONCE_MAX + WAITING_MAX)) }
    }
}

impl Visits {
    /// Begins a page.
    ///
    /// # Errors
    /// Seconds until asking again makes sense.
    pub(super) async fn begin(&self, claims: &Claims, wait: Duration) -> Result<Visit, u32> {
        let visitor = self.0.get_with((claims.account, claims.life, claims.customer.clone()), || Arc::new(Visitor::new()));
        let taken = visitor.limits.as_ref().map_or(Ok(()), Limits::take_request);
        taken.map_err(|exceeded: Exceeded| exceeded.retry_after_s)?;
        let _in_line = visitor.line.clone().try_acquire_owned().map_err(|_| 1_u32)?;
        match tokio::time::timeout(wait, visitor.turn.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Visit { _turn: turn }),
            _ => Err(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;

    #[tokio::test]
    async fn a_customer_has_its_own_rate_and_one_page_at_a_time() {
        let visits = Visits::default();
        let claims = |account, life, customer: &str| Claims {
            account,
            life,
            expires: UnixMillis(0),
            key_id: "k".into(),
            customer: CustomerId::parse(customer).expect("an id"),
            return_url: None,
        };
        let acme = claims(1, 0, "acme");
        let first = visits.begin(&acme, Duration::ZERO).await.expect("the first");
        assert!(visits.begin(&acme, Duration::ZERO).await.is_err(), "one at a time");
        assert!(visits.begin(&claims(1, 0, "other"), Duration::ZERO).await.is_ok());
        assert!(visits.begin(&claims(2, 0, "acme"), Duration::ZERO).await.is_ok(), "another account's");
        assert!(visits.begin(&claims(1, 1, "acme"), Duration::ZERO).await.is_ok(), "who has the id next");
        drop(first);
        let mut taken = 0;
        while visits.begin(&acme, Duration::ZERO).await.is_ok() {
            taken += 1;
            assert!(taken < 1_000, "there is a limit");
        }
        assert!(taken >= RATE.burst as usize - 2, "{taken}");
    }
}
