//! `/openapi.json`, the description of everything that is served, and `/docs`, a page to read and to try it.
//!
//! Both are for everybody: they say how to ask, and nothing of what there is. The page is Swagger UI, which is in the binary: nothing is loaded from
//! elsewhere, and the page's policy allows nothing else.

pub(super) mod assets;
mod openapi;

use std::sync::{Arc, OnceLock};

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::openapi::OPERATION;
use crate::dialect::ApiError;
use crate::dialect::routing::is_in;
use crate::openapi::{About, Described, Routes, document};

const DOCUMENT: &str = "/openapi.json";
const PAGE: &str = "/docs";
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Whether a path is answered without a key.
pub fn needs_no_key(path: &str) -> bool {
    path == DOCUMENT || is_in(path, PAGE)
}

/// The description, once all routes are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Docs(Arc<OnceLock<Fixed>>);

impl Docs {
    /// Makes the description; of several the first counts.
    pub(super) fn describe(&self, about: About, operations: &[Described]) {
        self.0.get_or_init(|| Fixed::new("application/json", document(about, operations).to_string()));
    }
}

/// Content that is the same for as long as the process lives.
#[derive(Debug, Clone)]
struct Fixed {
    content_type: &'static str,
    /// Whether `bytes` are the content in gzip.
    is_gzip: bool,
    bytes: Bytes,
    tag: HeaderValue,
}

impl Fixed {
    fn new(content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&bytes)[..16]));
        // Hexadecimal digits in quotes are always a header's value.
        let tag = HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        Self { content_type, is_gzip: false, bytes, tag }
    }

    /// The content, or 304 for whoever has it.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(IF_NONE_MATCH).is_some_and(|tags| tags == self.tag);
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(CONTENT_TYPE, self.content_type)], self.bytes.clone()).into_response()
        };
        let to = response.headers_mut();
        to.insert(ETAG, self.tag.clone());
        to.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        to.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
        if self.is_gzip && !known {
            to.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

pub(super) fn routes(docs: Docs) -> Routes {
    Routes::of(OPERATION)
        .get(DOCUMENT, description, openapi::description())
        .get(PAGE, page, openapi::page())
        .get("/docs/{asset}", asset, openapi::asset())
        .with_state(docs)
}

async fn description(State(docs): State<Docs>, headers: HeaderMap) -> Response {
    match docs.0.get() {
        Some(description) => description.answer(&headers),
        None => ApiError::unavailable("this node is starting", 1).into_response().map(axum::body::Body::new),
    }
}

async fn page(headers: HeaderMap) -> Response {
    static FIXED: OnceLock<Fixed> = OnceLock::new();
    let mut response = FIXED.get_or_init(|| Fixed::new("text/html; charset=utf-8", include_str!("docs/page.html"))).answer(&headers);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn asset(path: Result<Path<String>, axum::extract::rejection::PathRejection>, headers: HeaderMap) -> Result<Response, ApiError> {
    static STYLES: OnceLock<Option<Fixed>> = OnceLock::new();
    static SCRIPT: OnceLock<Option<Fixed>> = OnceLock::new();
    static START: OnceLock<Option<Fixed>> = OnceLock::new();
    const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
    let packed = |name, content_type| {
        let packed = assets::gzip(name).map(|bytes| Fixed { is_gzip: true, ..Fixed::new(content_type, bytes) });
        if packed.is_none() {
            tracing::error!(name, "a part of the page is not in the binary");
        }
        packed
    };
    let found = match path.as_ref().map(|Path(name)| name.as_str()) {
        Ok("swagger-ui.css") => STYLES.get_or_init(|| packed("swagger-ui.css", "text/css; charset=utf-8")),
        Ok("swagger-ui-bundle.js") => SCRIPT.get_or_init(|| packed("swagger-ui-bundle.js", JAVASCRIPT)),
        Ok("start.js") => START.get_or_init(|| Some(Fixed::new(JAVASCRIPT, include_str!("docs/start.js")))),
        _ => &None,
    };
    let unknown = || ApiError::not_found(StatusCode::NOT_FOUND, "the page has no such part");
    found.as_ref().map(|asset| asset.answer(&headers)).ok_or_else(unknown)
}
