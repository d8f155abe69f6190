//! The page that shows a customer what it used and owes, for whoever has a link to it.
//!
//! `POST /session` ([`Portal::link`]) gives a link that holds a signed token (module `token`): one customer of one account, read only, for a while. It is the
//! only thing here that a key is good for; the pages ([`web`]) are the only thing that a token is good for. A key that can `read` the customer
//! itself may make one, and the token ends with that key: what a revoked key gave out reads nothing any more. It ends, too, when its account is disabled,
//! and when its customer is removed; another customer under the same id is another one.
//!
//! # How a browser gets in
//! The link is `<base>/portal/<session>/<token>`. It is answered with a cookie and a redirection to `<base>/portal/<session>/`: the token is in no address
//! that is shown, copied or kept in a history, and in no `Referer`. The cookie has no `Path`: browsers then take `<base>/portal/<session>`, whatever proxies
//! put in front, so two sessions in one browser know nothing of each other, and a request carries one token. It is `HttpOnly` and
//! `SameSite=Lax`, not `Strict`: browsers do not send a strict cookie along with the redirection behind a click on another site's link, which
//! is how people come here. All of it is `GET` and changes nothing, so there is nothing that a foreign site could make somebody do.
//!
//! # What a page costs
//! `visits` bounds how often a customer's pages are asked for, and how many at a time; all pages together take `PAGES_AT_ONCE_MAX` turns. They read
//! what the API reads, in the same way: rows that show everything acknowledged before, or a page that says that it may lack something.

mod address;
mod numbers;
mod page;
mod plot;
mod read;
mod token;
mod visits;
pub mod web;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::accounts::{Accounts, Caller, Denied};
use crate::billing::Billing;
use crate::clock::{Clock, UnixMillis};
use crate::customers::{self, CustomerId, Customers, Lives};
use crate::meters::Meters;
use crate::store;
use crate::usage::UsageSource;
use token::Claims;
use visits::Visits;

pub use address::{Address, NoAddress};
pub use token::{RETURN_URL_BYTES_MAX, SigningKey};

/// How long a link is good, unless it says otherwise.
pub const AGE: Duration = Duration::from_secs(24 * 3_600);
/// The longest that one can be.
pub const AGE_MAX: Duration = Duration::from_secs(90 * 86_400);
/// Pages that are made at a time: half of what billing computes at a time, so that the API has the other half.
const PAGES_AT_ONCE_MAX: usize = 2;
/// How long a page waits until it is one of them.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// What the portal works with.
pub struct Parts {
    /// Signs links.
    pub key: SigningKey,
    /// Whose keys are good.
    pub accounts: Arc<Accounts>,
    /// Who they are.
    pub customers: Arc<Customers>,
    /// What is said of meters.
    pub meters: Arc<Meters>,
    /// What they owe.
    pub billing: Arc<Billing>,
    /// What they used.
    pub source: Arc<dyn UsageSource>,
    /// For "until now".
    pub clock: Clock,
    /// Where browsers find it.
    pub address: Address,
}

/// Links, and the pages behind them.
pub struct Portal {
    parts: Parts,
    visits: Visits,
    turns: Arc<Semaphore>,
}

/// A link that is wanted.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// Whose pages.
    pub customer: CustomerId,
    /// Until when.
    pub expires: UnixMillis,
    /// Where "back" leads: a checked http or https address of at most [`RETURN_URL_BYTES_MAX`] bytes.
    pub return_url: Option<String>,
}

/// A link.
pub struct Link {
    /// What a browser opens.
    pub url: String,
    /// The token in it.
    pub token: String,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The customer is removed, and no other was made under its id.
    #[error("the customer was deleted")]
    Removed,
    /// Nobody knows where browsers find the portal.
    #[error(transparent)]
    Address(#[from] NoAddress),
    /// The store's.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Why a token reads nothing.
#[derive(Debug)]
enum Ended {
    /// There is none, or nobody signed it.
    Unknown,
    /// Its time is over.
    Expired(Claims),
    /// Its key, its account or its customer is gone.
    Withdrawn(Claims),
    /// Nobody can say now.
    Unavailable(store::Error),
}

impl Portal {
    /// A portal that nobody has a link to yet, or those who have one of an earlier start.
    pub fn new(parts: Parts) -> Self {
        Self { parts, visits: Visits::default(), turns: Arc::new(Semaphore::new(PAGES_AT_ONCE_MAX)) }
    }

    /// Now, for what begins now.
    pub fn now(&self) -> UnixMillis {
        self.parts.clock.now()
    }

    /// Makes a link; `host` is what the request for it calls this gateway. Blocks.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn link(&self, by: &Caller, new: NewLink, host: Option<&str>) -> Result<Link, LinkError> {
        let base = self.parts.address.base(host)?;
        let lives = self.lives(by.account, &new.customer)?;
        if lives.is_over() {
            return Err(LinkError::Removed);
        }
        let NewLink { customer, expires, return_url } = new;
        let claims = Claims { account: by.account, life: lives.current(), expires, key_id: by.key_id.to_string(), customer, return_url };
        let token = self.parts.key.sign(&claims);
        Ok(Link { url: format!("{base}/portal/{}/{token}", token::session_id(&token)), token })
    }

    fn lives(&self, account: u32, customer: &CustomerId) -> Result<Lives, store::Error> {
        self.parts.customers.lives(account, customer).map_err(|error| match error {
            customers::Error::Store(error) => error,
            // No other comes of reading.
            error => store::Error::Failed(error.to_string()),
        })
    }

    /// What a token says, if it was signed here, its time is not over, and its key is good. Reads no store.
    async fn signed(&self, token: &str) -> Result<Claims, Ended> {
        let claims = self.parts.key.read(token).ok_or(Ended::Unknown)?;
        if claims.expires <= self.now() {
            return Err(Ended::Expired(claims));
        }
        if self.check_key(&claims).await.is_err() { Err(Ended::Withdrawn(claims)) } else { Ok(claims) }
    }

    /// What it lets somebody read, if its customer is still the one that it is about.
    async fn session(self: &Arc<Self>, claims: Claims) -> Result<Session, Ended> {
        let (portal, account, customer) = (self.clone(), claims.account, claims.customer.clone());
        let looked = tokio::task::spawn_blocking(move || portal.lives(account, &customer)).await;
        let lives = looked.unwrap_or_else(|error| Err(store::Error::Failed(error.to_string()))).map_err(Ended::Unavailable)?;
        if lives.current() == claims.life { Ok(Session { claims, lives }) } else { Err(Ended::Withdrawn(claims)) }
    }

    async fn check_key(&self, claims: &Claims) -> Result<(), Denied> {
        let check = || self.parts.accounts.check_key(claims.account, &claims.key_id);
        match check() {
            // Another node may have made it just now.
            Err(Denied::Unknown) => {
                self.parts.accounts.ring().look().await;
                check()
            }
            known => known,
        }
    }

    /// A turn to make a page; `None`: too many are made.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(TURN_WAIT, self.turns.clone().acquire_owned()).await.ok()?.ok()
    }
}

/// What a token lets somebody read.
struct Session {
    claims: Claims,
    /// Of whoever has had the id.
    lives: Lives,
}
