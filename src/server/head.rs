//! What a head must be beyond what hyper sees to: whoever stands between client and server has to read it as we do.

use axum::body::Body;
use hyper::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use super::Answer;
use crate::dialect::ApiError;
use crate::dialect::routing::X_AUTHORIZATION;

/// Why a request is not looked at, and its connection ends: where the next one begins is not certain.
pub(super) struct Refusal(StatusCode, &'static str, &'static str);

impl Refusal {
    fn malformed(message: &'static str) -> Self {
        Self(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// The answer; over HTTP/2 each stream has its own bounds, so the connection goes on.
    pub(super) fn answer(self, is_http2: bool) -> Answer {
        let Self(status, code, message) = self;
        let mut answer = ApiError::new(status, code, message).into_response().map(Body::new);
        if !is_http2 {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// Checks a head, and marks the keys in it as what nobody prints.
///
/// # Errors
/// [`Refusal`]: RFC 9112 demands it, or allows two readings.
pub(super) fn check(head: &mut Parts) -> Result<(), Refusal> {
    conceal_keys(&mut head.headers);
    if head.method == Method::CONNECT {
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "CONNECT is not for this server"));
    }
    // Authority form is for CONNECT, an asterisk for OPTIONS (RFC 9112, 3.2).
    let is_asterisk = head.uri.path() == "*" && head.method == Method::OPTIONS;
    if !head.uri.path().starts_with('/') && !is_asterisk {
        return Err(Refusal::malformed("the request target is not a path"));
    }
    if head.version == Version::HTTP_2 {
        return Ok(());
    }
    check_host(head)?;
    check_transfer_encoding(&head.headers)
}

/// RFC 9112, 3.2: exactly one, and a valid one; HTTP/1.0 has none where it has none.
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(Refusal::malformed("there is more than one Host header")),
        (Some(host), None) if !is_host(host.as_bytes()) => Err(Refusal::malformed("the Host header is not valid")),
        (None, _) if head.version == Version::HTTP_11 => Err(Refusal::malformed("there is no Host header")),
        _ => Ok(()),
    }
}

/// A name or an address, and perhaps a port; empty where the target has no authority.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte))
}

/// hyper takes whatever ends with `chunked`; whoever sees another coding before it, or `chunked` twice, has another body.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::malformed("the only transfer encoding is chunked, once")),
    }
}

fn conceal_keys(headers: &mut HeaderMap) {
    for name in ["x-api-key", AUTHORIZATION.as_str(), X_AUTHORIZATION, COOKIE.as_str()] {
        if let hyper::header::Entry::Occupied(mut values) = headers.entry(name) {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_is_printed_shows_no_key() {
        for name in ["X-API-KEY", "Authorization", "X-Authorization", "Cookie"] {
            let request = hyper::Request::get("/").header("Host", "x").header(name, "Bearer secret-1").header(name, "secret-2");
            let (mut head, ()) = request.body(()).expect("a request").into_parts();
            assert!(check(&mut head).is_ok());
            assert!(!format!("{head:?}").contains("secret"), "{head:?}");
        }
    }
}
