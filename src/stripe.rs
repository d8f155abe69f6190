//! The payment provider: makes customers at Stripe's API, `POST /v1/customers`.
//!
//! A call has up to [`TRIES_MAX`] tries with growing pauses. All of them carry one `Idempotency-Key`, so Stripe makes one customer whatever
//! got lost on the way; Stripe keeps these keys for at least 24 h. [`Error`] tells apart what Stripe refused and what is unknown: then
//! the same call later, with the same key, finds out.
//!
//! Nothing that answers for events waits for it: calls are async, [`CALLS_AT_ONCE_MAX`] are under way at a time, and whoever finds no turn
//! is refused. The API key stands in one sensitive header value and is in no message, whatever Stripe's answers repeat of it.
//!
//! TLS by rustls with the certificates that the system trusts, as towards PostgreSQL: a company's own proxy works like any other program's.

mod answer;
mod idempotency;
mod new_customer;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::telemetry::stripe::{CallOutcome, begin_stripe, observe_stripe_call};
use answer::{Read, read};

pub use idempotency::{IdempotencyKeys, MadeFor};
pub use new_customer::NewCustomer;

/// Tries of one call.
pub const TRIES_MAX: u32 = 3;
/// Calls that are under way at a time.
pub const CALLS_AT_ONCE_MAX: usize = 16;
/// How long a call waits until it is one of them.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// Before the second try; twice as long before each further one. Up to a half of it is left out, by chance.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest that Stripe can make a call wait.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer: a customer has some 2 KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Connections that are kept.
const IDLE_MAX: usize = 4;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key of Stripe's API: printable ASCII. Never shown.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key; that it fits a header was checked with the settings.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How Stripe is called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The key of its API.
    pub api_key: ApiKey,
    /// Where it is, checked: `https://host`, with a path or without.
    pub api_base: String,
    /// How long one try may take.
    pub timeout: Duration,
}

/// Why there is no customer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stripe will not make it; its reason, for the client. Nothing happened.
    #[error("Stripe refuses ({status}): {message}")]
    Refused {
        /// Stripe's status.
        status: u16,
        /// Stripe's words.
        message: String,
    },
    /// Stripe does not take the key. Nothing happened; the operator has to act.
    #[error("Stripe does not take the API key ({0})")]
    Unauthorized(u16),
    /// As many calls as there may be are under way. Nothing happened.
    #[error("too many calls of the payment provider are under way")]
    Busy,
    /// No try had an answer that says what became of it: **unknown**. The same call again finds out.
    #[error("the payment provider did not answer: {0}")]
    Unavailable(String),
}

/// Stripe's API. Cheap to share; needs a tokio runtime.
pub struct Stripe {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    authorization: HeaderValue,
    /// Of what is never repeated.
    api_key: ApiKey,
    customers: Uri,
    timeout: Duration,
    turns: Semaphore,
}

/// The id of a customer at Stripe: `cus_…`, ASCII letters, digits and underscores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeId(String);

impl StripeId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Stripe {
    /// Prepares calls; none is made yet.
    ///
    /// # Errors
    /// The system trusts no certificate authority, or the settings were not checked.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_MAX));
        http.set_nodelay(true);
        // Which scheme is allowed was checked with the settings.
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(settings)?).https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_max_idle_per_host(IDLE_MAX).build(connector);
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", settings.api_key.0)).map_err(|_| io::Error::other("the key fits no header"))?;
        authorization.set_sensitive(true);
        let customers = format!("{}/v1/customers", settings.api_base.trim_end_matches('/'));
        let customers = customers.parse().map_err(|_| io::Error::other("the address of Stripe's API cannot be read"))?;
        begin_stripe();
        let turns = Semaphore::new(CALLS_AT_ONCE_MAX);
        Ok(Self { client, authorization, api_key: settings.api_key.clone(), customers, timeout: settings.timeout, turns })
    }

    /// Makes a customer, once for each key: a call with a key that made one gives back that one.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// Dropping the future leaves unknown whether it was made.
    pub async fn create_customer(&self, new: &NewCustomer<'_>, key: &str) -> Result<StripeId, Error> {
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN_WAIT, self.turns.acquire()).await else { return Err(Error::Busy) };
        let form = Bytes::from(new.form());
        let mut tries = 0;
        loop {
            tries += 1;
            let again = match self.try_once(form.clone(), key).await {
                Read::Made(id) => return Ok(StripeId(id)),
                Read::Refused { status, message } => return Err(Error::Refused { status, message }),
                Read::Unauthorized(status) => return Err(Error::Unauthorized(status)),
                Read::Again(again) => again,
            };
            if tries >= TRIES_MAX || again.is_useless {
                return Err(Error::Unavailable(format!("{} after {tries} tries, the last one: {}", again.outcome.label(), again.what)));
            }
            tracing::debug!(outcome = again.outcome.label(), tries, "a call of Stripe is tried again");
            tokio::time::sleep(pause(tries, again.wait)).await;
        }
    }

    async fn try_once(&self, form: Bytes, key: &str) -> Read {
        let started = Instant::now();
        let read = match tokio::time::timeout(self.timeout, self.exchange(form, key)).await {
            Ok(Ok((head, body))) => read(&head, &body, &self.api_key.0),
            Ok(Err(failed)) => failed,
            Err(_) => Read::again(CallOutcome::TimedOut, format!("nothing within {:?}", self.timeout)),
        };
        observe_stripe_call(read.outcome(), started.elapsed());
        read
    }

    async fn exchange(&self, form: Bytes, key: &str) -> Result<(Response<()>, Bytes), Read> {
        let request = Request::post(self.customers.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .header(IDEMPOTENCY_KEY, key)
            .body(Full::new(form))
            .map_err(|error| Read::useless(CallOutcome::Nonsense, format!("the request cannot be written: {error}")))?;
        let unreachable = |error: &dyn std::error::Error| Read::again(CallOutcome::Unreachable, causes(error));
        let (head, body): (_, Incoming) = self.client.request(request).await.map_err(|error| unreachable(&error))?.into_parts();
        let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = collected.map_err(|error| match error.downcast_ref::<http_body_util::LengthLimitError>() {
            Some(_) => Read::again(CallOutcome::Nonsense, format!("its answer has more than {ANSWER_BYTES_MAX} bytes")),
            None => unreachable(&*error),
        })?;
        Ok((Response::from_parts(head, ()), body.to_bytes()))
    }
}

/// An error with what is behind it. None of them names more than addresses.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn tls(settings: &Settings) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if settings.api_base.starts_with("https:") {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(io::Error::other("the system trusts no certificate authority (Debian: install ca-certificates)"));
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    Ok(builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth())
}

/// How long to wait before the next try.
fn pause(tries: u32, wanted: Option<Duration>) -> Duration {
    let whole = PAUSE.saturating_mul(1 << tries.min(8).saturating_sub(1));
    let mut chance = [0; 2];
    // Without random bytes all wait the same time.
    let _filled = getrandom::fill(&mut chance);
    let left_out = whole.mul_f64(f64::from(u16::from_le_bytes(chance)) / f64::from(u16::MAX) / 2.0);
    (whole - left_out).max(wanted.unwrap_or_default()).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_spread_and_end() {
        for (tries, least, most) in [(1, 250, 500), (2, 500, 1_000), (9, 5_000, 5_000), (u32::MAX, 5_000, 5_000)] {
            let pause = pause(tries, None);
            assert!((Duration::from_millis(least)..=Duration::from_millis(most)).contains(&pause), "{tries}: {pause:?}");
        }
        assert_eq!(pause(1, Some(Duration::from_secs(2))), Duration::from_secs(2));
        assert_eq!(pause(1, Some(Duration::from_secs(3_600))), PAUSE_MAX);
    }
}
