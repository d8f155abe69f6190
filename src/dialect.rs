//! What goes over the wire and what it means here: each dialect turns its own shapes into the one model and back, and
//! decides nothing else.

pub mod amberflo;
pub mod cloudevents;
mod csv;
pub mod draft;
mod error;
mod fields;
pub mod octane;
pub mod routing;
pub mod stigg;

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};

pub use error::ApiError;
use routing::Dialect;

/// An answer in the words of a dialect: an error gets its form, all else stays. Routes of all dialects answer errors as
/// [`ApiError`], which goes along with the answer that it became.
pub fn speak(dialect: Dialect, mut response: Response) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let (content_type, body) = match dialect {
        Dialect::Amberflo => return response,
        Dialect::Octane => ("application/json", octane::error::body(&error)),
        Dialect::Stigg => ("application/json", stigg::error::body(&error)),
        Dialect::CloudEvents => (cloudevents::error::CONTENT_TYPE, cloudevents::error::body(&error)),
    };
    let (mut head, _) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if dialect == Dialect::Stigg && head.status == StatusCode::CONFLICT {
        head.headers.insert(stigg::error::SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    Response::from_parts(head, Body::from(body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    async fn spoken(dialect: Dialect, error: ApiError) -> (StatusCode, String, String, serde_json::Value) {
        let response = speak(dialect, IntoResponse::into_response(error));
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let (content_type, retry) = (header("content-type"), header("retry-after") + " " + &header("x-should-retry"));
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.expect("a body");
        (status, content_type, retry, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn every_dialect_says_the_same_in_its_own_words() {
        let mut shown = String::new();
        for dialect in [Dialect::Octane, Dialect::Stigg, Dialect::CloudEvents] {
            for error in [
                ApiError::bad_field("contact_info.email", "must be a text"),
                ApiError::unauthorized(),
                ApiError::not_found(StatusCode::NOT_FOUND, "nothing is here"),
                ApiError::new(StatusCode::CONFLICT, "DUPLICATED_ENTITY_NOT_ALLOWED", "it is there"),
                ApiError::duplicate("it is there"),
                ApiError::unavailable("later", 3),
                ApiError::internal(),
            ] {
                let (status, content_type, retry, mut body) = spoken(dialect, error).await;
                if let Some(instance) = body.get_mut("instance") {
                    assert!(instance.as_str().is_some_and(|text| text.starts_with("urn:request:")), "{instance}");
                    *instance = "[redacted]".into();
                }
                shown += &format!("{dialect:?} {status} {content_type} {retry}\n{body}\n");
            }
        }
        insta::assert_snapshot!(shown);
    }

    #[tokio::test]
    async fn what_is_no_error_and_what_is_amberflo_s_stays() {
        let plain = speak(Dialect::Octane, "ok".into_response());
        assert_eq!(axum::body::to_bytes(plain.into_body(), 9).await.expect("a body"), "ok");
        let (_, _, _, body) = spoken(Dialect::Amberflo, ApiError::unauthorized()).await;
        assert_eq!(body["code"], "UNAUTHORIZED");
    }
}
