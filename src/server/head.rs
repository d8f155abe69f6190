//! What a head must be beyond what hyper sees to: whoever stands between client and server has to read it as we do.

use axum::body::Body;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue};
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
    let seen = look_through(&mut head.headers);
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
    match seen.hosts {
        2.. => return Err(Refusal::malformed("there is more than one Host header")),
        0 if head.version == Version::HTTP_11 => return Err(Refusal::malformed("there is no Host header")),
        _ if !seen.is_host_valid => return Err(Refusal::malformed("the Host header is not valid")),
        _ => {}
    }
    // hyper takes whatever ends with `chunked`; whoever sees another coding before it, or `chunked` twice, has another body.
    if seen.codings > 1 || !seen.is_coding_known {
        return Err(Refusal::malformed("the only transfer encoding is chunked, once"));
    }
    Ok(())
}

/// What a head has of the headers that decide where a request ends and whom it is for.
struct Seen {
    /// RFC 9112, 3.2: exactly one; HTTP/1.0 has none where it has none.
    hosts: usize,
    is_host_valid: bool,
    codings: usize,
    is_coding_known: bool,
}

/// Looks at each header once, and marks those that bring keys.
fn look_through(headers: &mut HeaderMap) -> Seen {
    let mut seen = Seen { hosts: 0, is_host_valid: true, codings: 0, is_coding_known: true };
    for (name, value) in headers.iter_mut() {
        match name.as_str() {
            "host" => {
                seen.hosts += 1;
                seen.is_host_valid &= is_host(value.as_bytes());
            }
            "transfer-encoding" => {
                seen.codings += 1;
                seen.is_coding_known &= value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            "x-api-key" | "authorization" | X_AUTHORIZATION | "cookie" => value.set_sensitive(true),
            _ => {}
        }
    }
    seen
}

/// A name or an address, and perhaps a port; empty where the target has no authority.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte))
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
