//! The portal over HTTP: `GET` only, without a key. Everything is a page, refusals too.
//!
//! | path below `/portal` | |
//! |---|---|
//! | `/{session}/{token}` | a link: sets the cookie and goes on to the first page |
//! | `/{session}/?range=&page=` | plan, usage, balance, the latest invoices; `range` = 7, 30, 90 (days) or `month` |
//! | `/{session}/invoices` | all invoices |
//! | `/{session}/invoices/{id}` | one, with what it is made of |

use std::sync::Arc;
use std::time::{Duration, Instant};

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, MatchedPath, Path, RawQuery, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use super::page::{Frame, InvoicePage, InvoicesPage, MessagePage, OverviewPage, POLICY};
use super::read::{self, Span};
use super::token::{Claims, TOKEN_BYTES_MAX, session_id};
use super::{Ended, Portal, Session, numbers};
use crate::billing::{self, InvoiceId, Shown, Statements};
use crate::customers;
use crate::telemetry;

/// With what the paths begin.
pub const PREFIX: &str = "/portal";
const COOKIE_NAME: &str = "tollgate_portal";
/// How much longer than the token a browser keeps it: a page can then say that it has ended.
const COOKIE_AFTERWARDS_S: i64 = 86_400;
/// How long a page waits for another one of its customer.
const VISIT_WAIT: Duration = Duration::from_secs(10);
/// When to ask again, in s, after something did not answer.
const RETRY_AFTER_S: u32 = 5;
/// Pages of meters that anybody may ask for by number.
const PAGE_MAX: usize = 10_000;

/// The path of a request as its browser sent it, below whatever prefix: links on a page are relative to it.
#[derive(Debug, Clone)]
pub struct SentPath(pub String);

type Shared = State<Arc<Portal>>;
type Sent = Extension<SentPath>;
type InPath<T> = Result<Path<T>, PathRejection>;

/// All pages. Needs an `Extension<SentPath>` on every request.
pub fn routes(portal: Arc<Portal>) -> Router {
    Router::new()
        .route("/portal", get(nothing))
        .route("/portal/{session}", get(overview))
        .route("/portal/{session}/invoices", get(invoices))
        .route("/portal/{session}/invoices/{invoice_id}", get(invoice))
        .route("/portal/{session}/{token}", get(open))
        .route_layer(middleware::from_fn(observe))
        .fallback(nothing)
        .method_not_allowed_fallback(not_a_get)
        .layer(middleware::map_response(guarded))
        .with_state(portal)
}

async fn observe(path: MatchedPath, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let response = next.run(request).await;
    telemetry::observe_request(path.as_str().to_owned(), response.status().as_u16(), started.elapsed());
    response
}

/// Whatever it is: kept by nobody, told to nobody, framed by nobody.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    // Letters, digits and punctuation: always a header's value.
    let policy = HeaderValue::try_from(POLICY.as_str()).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Why there is no page; itself one.
enum Refusal {
    NoSession,
    Expired(Option<String>),
    Withdrawn,
    NotFound(Option<String>),
    TooMany(u32),
    Unavailable,
    Broken,
}

impl From<Ended> for Refusal {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Unknown => Self::NoSession,
            Ended::Expired(claims) => Self::Expired(claims.return_url),
            Ended::Withdrawn(claims) => {
                tracing::debug!(account = claims.account, key = claims.key_id, "a link to the portal that was withdrawn was opened");
                Self::Withdrawn
            }
            Ended::Unavailable(error) => {
                tracing::warn!(%error, "a page of the portal cannot be made");
                Self::Unavailable
            }
        }
    }
}

impl From<read::Error> for Refusal {
    fn from(error: read::Error) -> Self {
        match error {
            read::Error::Unavailable(reason) => {
                tracing::warn!(reason, "a page of the portal cannot be made");
                Self::Unavailable
            }
            read::Error::Broken(reason) => {
                tracing::error!(reason, "a page of the portal broke off");
                Self::Broken
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        const ASK: &str = "Ask whoever sent you here for a new link.";
        let (status, title, text, back, retry_after_s) = match self {
            Self::NoSession => {
                let text = format!(
                    "This address shows nothing by itself, or your browser keeps no cookies. Open the link that you were given. {ASK}"
                );
                (StatusCode::UNAUTHORIZED, "This page needs a link", text, None, None)
            }
            Self::Expired(back) => (StatusCode::UNAUTHORIZED, "This link has expired", ASK.into(), back, None),
            Self::Withdrawn => (StatusCode::UNAUTHORIZED, "This link is no longer good", ASK.into(), None, None),
            Self::NotFound(back) => (StatusCode::NOT_FOUND, "There is nothing here", "Go back and try another link.".into(), back, None),
            Self::TooMany(seconds) => {
                let text = "You have asked for many pages in a short time. Wait a moment and load the page again.".into();
                (StatusCode::TOO_MANY_REQUESTS, "Too many requests", text, None, Some(seconds))
            }
            Self::Unavailable => {
                let text = "The figures cannot be read at the moment. Nothing is lost. Load the page again in a few seconds.".into();
                (StatusCode::SERVICE_UNAVAILABLE, "Not available at the moment", text, None, Some(RETRY_AFTER_S))
            }
            Self::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong", "It was noted.".into(), None, None),
        };
        let mut response = html(status, &MessagePage::new(title, text, back));
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "a page of the portal cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

type Answer = Result<Response, Refusal>;

/// What is in the path. What does not decode to UTF-8 is nobody's.
fn in_path<T>(path: InPath<T>) -> Result<T, Refusal> {
    path.map(|Path(parts)| parts).map_err(|_| Refusal::NotFound(None))
}

async fn nothing() -> Refusal {
    Refusal::NotFound(None)
}

async fn not_a_get() -> Response {
    html(StatusCode::METHOD_NOT_ALLOWED, &MessagePage::new("These pages can only be read", "Open the link that you were given.", None))
}

/// A link: its token becomes a cookie, which browsers send to this session's pages only.
async fn open(State(portal): Shared, Extension(SentPath(sent)): Sent, path: InPath<(String, String)>) -> Answer {
    let (id, token) = in_path(path)?;
    // With more behind it, the browser would take another path for the session's.
    if session_id(&token) != id || sent.ends_with('/') {
        return Err(Refusal::NotFound(None));
    }
    let (session, _visit) = portal.enter(&token).await?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("./"));
    let age_s = (session.claims.expires.0 - portal.now().0).div_euclid(1_000).saturating_add(COOKIE_AFTERWARDS_S);
    let secure = if portal.parts.address.is_https() { "; Secure" } else { "" };
    // A token is letters, digits, dashes and underscores.
    let cookie = HeaderValue::try_from(format!("{COOKIE_NAME}={token}; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}"));
    let mut cookie = cookie.map_err(|_| Refusal::Broken)?;
    cookie.set_sensitive(true);
    headers.insert(SET_COOKIE, cookie);
    Ok(response)
}

async fn overview(
    State(portal): Shared,
    Extension(SentPath(sent)): Sent,
    path: InPath<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let id = in_path(path)?;
    if !sent.ends_with('/') {
        // What is relative to the page is relative to its last slash.
        let location = HeaderValue::try_from(format!("{id}/")).map_err(|_| Refusal::NotFound(None))?;
        return Ok((StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response());
    }
    let (session, visit) = portal.come_in(&id, &headers).await?;
    let (span, page) = (Span::of_code(parameter(query.as_deref(), "range").as_deref()), page_of(query.as_deref()));
    let (usage, statements) = tokio::join!(portal.usage(&session, span, page), portal.statements(&session));
    let usage = usage?;
    let billing = match statements {
        Ok(statements) => Ok(statements),
        Err(billing::Error::CannotBill(reason)) => {
            tracing::error!(reason, account = session.claims.account, "invoices cannot be computed for the portal");
            Err("The invoices cannot be computed. Whoever sent you here can find out why.".to_owned())
        }
        Err(error) => return Err(refusal(error)),
    };
    let name = portal.name(&session).await?;
    let frame = frame("Usage and billing", &session.claims);
    let page = OverviewPage::new(frame, name, span, &usage, billing.as_ref().map_err(Clone::clone));
    drop(visit);
    Ok(html(StatusCode::OK, &page))
}

async fn invoices(State(portal): Shared, Extension(SentPath(sent)): Sent, path: InPath<String>, headers: HeaderMap) -> Answer {
    let id = in_path(path)?;
    let (session, _visit) = portal.come_in(&id, &headers).await?;
    if sent.ends_with('/') {
        return Err(Refusal::NotFound(session.claims.return_url));
    }
    let statements = portal.statements(&session).await.map_err(refusal)?;
    Ok(html(StatusCode::OK, &InvoicesPage::new(frame("Invoices", &session.claims), &statements.invoices)))
}

async fn invoice(State(portal): Shared, Extension(SentPath(sent)): Sent, path: InPath<(String, String)>, headers: HeaderMap) -> Answer {
    let (id, invoice) = in_path(path)?;
    let (session, _visit) = portal.come_in(&id, &headers).await?;
    let not_found = || Refusal::NotFound(session.claims.return_url.clone());
    // Another customer's: nothing of it is looked up.
    if sent.ends_with('/') || InvoiceId::parse(&invoice).is_none_or(|(customer, _)| customer != session.claims.customer) {
        return Err(not_found());
    }
    let shown: Shown = match portal.parts.billing.invoice(session.claims.account, &invoice).await {
        // Of whoever had the id before: closed invoices are found for good.
        Ok(shown) if shown.invoice.period.life != session.claims.life => return Err(not_found()),
        Ok(shown) => shown,
        Err(billing::Error::Unknown(_)) => return Err(not_found()),
        Err(error) => return Err(refusal(error)),
    };
    let (name, _) = portal.name(&session).await?;
    Ok(html(StatusCode::OK, &InvoicePage::new(frame("Invoice", &session.claims), name, &shown)))
}

/// A page that is made: the customer's turn, and one of all.
struct Visit {
    _of_customer: super::visits::Visit,
    _turn: tokio::sync::OwnedSemaphorePermit,
}

impl Portal {
    /// The session of a request: its cookie's, if that is the one of the path.
    async fn come_in(self: &Arc<Self>, id: &str, headers: &HeaderMap) -> Result<(Session, Visit), Refusal> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        let tokens = cookies.filter_map(|cookie| cookie.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='));
        let mut of_path = tokens.filter(|token| token.len() <= TOKEN_BYTES_MAX && session_id(token) == id);
        self.enter(of_path.next().ok_or(Refusal::NoSession)?).await
    }

    /// What a token lets somebody read, and the turn to make a page of it. The store is not asked for whoever asks too often.
    async fn enter(self: &Arc<Self>, token: &str) -> Result<(Session, Visit), Refusal> {
        let claims = self.signed(token).await?;
        let of_customer = self.visits.begin(&claims, VISIT_WAIT).await.map_err(Refusal::TooMany)?;
        let turn = self.turn().await.ok_or(Refusal::Unavailable)?;
        Ok((self.session(claims).await?, Visit { _of_customer: of_customer, _turn: turn }))
    }

    async fn statements(&self, session: &Session) -> Result<Statements, billing::Error> {
        self.parts.billing.statements(session.claims.account, &session.claims.customer).await
    }

    /// What the customer is called, and its id if that is something else.
    async fn name(self: &Arc<Self>, session: &Session) -> Result<(String, Option<String>), Refusal> {
        let (portal, account, customer) = (self.clone(), session.claims.account, session.claims.customer.clone());
        let id = customer.as_str().to_owned();
        let found = tokio::task::spawn_blocking(move || portal.parts.customers.get(account, &customer)).await;
        let name = match found {
            Ok(Ok(customer)) => customer.name.filter(|name| !name.is_empty() && *name != id),
            // Nobody has made it: it has usage only.
            Ok(Err(customers::Error::Unknown)) => None,
            Ok(Err(customers::Error::Store(error))) => return Err(read::Error::from(error).into()),
            // No other comes of reading.
            Ok(Err(error)) => return Err(read::Error::Broken(error.to_string()).into()),
            Err(error) => return Err(read::Error::Broken(error.to_string()).into()),
        };
        Ok(match name {
            Some(name) => (name, Some(id)),
            None => (id, None),
        })
    }
}

fn refusal(error: billing::Error) -> Refusal {
    match error {
        billing::Error::Unavailable(reason) => read::Error::Unavailable(reason).into(),
        billing::Error::Store(error) => read::Error::from(error).into(),
        billing::Error::CannotBill(_)
        | billing::Error::Refused(_)
        | billing::Error::Unknown(_)
        | billing::Error::StillOpen
        | billing::Error::Settled(_)
        | billing::Error::TooMany(_) => read::Error::Broken(error.to_string()).into(),
    }
}

fn frame(title: &str, claims: &Claims) -> Frame {
    Frame::new(title, claims.return_url.clone(), Some(numbers::moment(claims.expires.seconds())))
}

/// A parameter of a query; the first of its name.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query?.as_bytes());
    pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// Which page of meters, from 0 on.
fn page_of(query: Option<&str>) -> usize {
    let page = parameter(query, "page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1);
    page.clamp(1, PAGE_MAX) - 1
}
