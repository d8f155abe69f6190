//! What Stripe's answers mean. Statuses and errors: Stripe's API reference, "Errors" and "Idempotent requests".

use std::time::Duration;

use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::telemetry::stripe::CallOutcome;

/// Longest id that Stripe gives.
const ID_BYTES_MAX: usize = 255;
/// What is repeated of Stripe's words, in characters.
const MESSAGE_CHARS_MAX: usize = 300;
/// Begins of Stripe's keys; its messages repeat parts of them.
const KEY_PREFIXES: [&str; 3] = ["sk_", "rk_", "pk_"];

/// What one try came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There is a customer of this id.
    Made(String),
    /// There will be none.
    Refused { status: u16, message: String },
    /// The key is not taken.
    Unauthorized(u16),
    /// It is not known whether there is one.
    Again(Again),
}

/// A try that says nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) outcome: CallOutcome,
    /// For the operator.
    pub(super) what: String,
    /// How long Stripe asks to wait.
    pub(super) wait: Option<Duration>,
    /// Whether the next try will come to the same.
    pub(super) is_useless: bool,
}

impl Read {
    pub(super) fn again(outcome: CallOutcome, what: String) -> Self {
        Self::Again(Again { outcome, what, wait: None, is_useless: false })
    }

    pub(super) fn useless(outcome: CallOutcome, what: String) -> Self {
        Self::Again(Again { outcome, what, wait: None, is_useless: true })
    }

    pub(super) fn outcome(&self) -> CallOutcome {
        match self {
            Self::Made(_) => CallOutcome::Done,
            Self::Refused { .. } => CallOutcome::Refused,
            Self::Unauthorized(_) => CallOutcome::Unauthorized,
            Self::Again(again) => again.outcome,
        }
    }
}

/// Reads an answer; nothing of the key is repeated.
pub(super) fn read(head: &Response<()>, body: &[u8], api_key: &str) -> Read {
    let status = head.status();
    match status {
        StatusCode::OK | StatusCode::CREATED => {
            customer(body).map_or_else(|| Read::again(CallOutcome::Nonsense, "its answer is no customer".into()), Read::Made)
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Read::Unauthorized(status.as_u16()),
        StatusCode::TOO_MANY_REQUESTS => again(CallOutcome::Limited, head),
        // The same key is in use by another call: that one's answer is this one's, too.
        StatusCode::CONFLICT => again(CallOutcome::Failed, head),
        _ if status.is_client_error() => Read::Refused { status: status.as_u16(), message: message(body, api_key) },
        _ if status.is_server_error() => again(CallOutcome::Failed, head),
        // A redirection, or anything else that Stripe never answers: another address than Stripe's.
        _ => Read::useless(CallOutcome::Nonsense, format!("it answers with {status}")),
    }
}

fn again(outcome: CallOutcome, head: &Response<()>) -> Read {
    let is_useless = header(head.headers(), "stripe-should-retry") == Some("false");
    let wait = header(head.headers(), RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Read::Again(Again { outcome, what: format!("it answers with {}", head.status()), wait, is_useless })
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The id of the customer that an answer shows.
fn customer(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let id = answer.get("id")?.as_str()?;
    let is_id = (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_customer = answer.get("object").is_none_or(|object| object == "customer");
    (is_id && is_customer).then(|| id.to_owned())
}

/// Stripe's words, made fit to be repeated.
fn message(body: &[u8], api_key: &str) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = answer.get("error").and_then(|error| error.get("message")).and_then(Value::as_str).unwrap_or("it gives no reason");
    if said.contains(api_key) || KEY_PREFIXES.iter().any(|prefix| said.contains(prefix)) {
        return "its reason names a key and is not repeated here".into();
    }
    said.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(status: u16) -> Response<()> {
        Response::builder().status(status).body(()).expect("a head")
    }

    fn read_json(status: u16, body: &str) -> Read {
        read(&head(status), body.as_bytes(), "sk_test_secret")
    }

    #[test]
    fn only_an_answer_with_an_id_is_a_customer() {
        assert_eq!(read_json(200, r#"{"id":"cus_1","object":"customer"}"#), Read::Made("cus_1".into()));
        let long = "a".repeat(256);
        for nonsense in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"id":7}"#,
            r#"{"id":""}"#,
            r#"{"id":"a b"}"#,
            r#"{"id":"sub_1","object":"subscription"}"#,
            "\"cus_1\"",
        ] {
            assert_eq!(read_json(200, nonsense).outcome(), CallOutcome::Nonsense, "{nonsense}");
        }
        assert_eq!(read_json(200, &format!(r#"{{"id":"{long}"}}"#)).outcome(), CallOutcome::Nonsense);
    }

    #[test]
    fn what_may_be_asked_again_is_told_from_what_is_refused() {
        for (status, outcome) in [
            (400, CallOutcome::Refused),
            (402, CallOutcome::Refused),
            (404, CallOutcome::Refused),
            (401, CallOutcome::Unauthorized),
            (403, CallOutcome::Unauthorized),
            (409, CallOutcome::Failed),
            (429, CallOutcome::Limited),
            (500, CallOutcome::Failed),
            (503, CallOutcome::Failed),
            (301, CallOutcome::Nonsense),
            (204, CallOutcome::Nonsense),
        ] {
            assert_eq!(read_json(status, "{}").outcome(), outcome, "{status}");
        }
    }

    #[test]
    fn stripe_says_how_long_to_wait_and_when_not_to_try_again() {
        let mut asked = head(429);
        asked.headers_mut().insert("retry-after", "7".parse().expect("a value"));
        let Read::Again(again) = read(&asked, b"", "k") else { panic!("it may be asked again") };
        assert_eq!((again.wait, again.is_useless), (Some(Duration::from_secs(7)), false));
        asked.headers_mut().insert("stripe-should-retry", "false".parse().expect("a value"));
        assert!(matches!(read(&asked, b"", "k"), Read::Again(Again { is_useless: true, .. })));
    }

    #[test]
    fn a_message_is_repeated_without_keys_and_bounded() {
        let refused = |message: &str| match read_json(402, &serde_json::json!({"error": {"message": message}}).to_string()) {
            Read::Refused { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("Your card was\ndeclined."), "Your card was declined.");
        for secret in ["No such key: sk_test_secret", "Invalid API Key: sk_live_****1234", "rk_live_x"] {
            assert!(!refused(secret).contains("k_"), "{secret}");
        }
        assert_eq!(refused(&"é".repeat(1_000)).chars().count(), MESSAGE_CHARS_MAX);
        assert!(matches!(read_json(400, "<html>"), Read::Refused { message, .. } if message == "it gives no reason"));
    }

    proptest! {
        #[test]
        fn any_answer_is_read(status in 100_u16..=599, body in any::<Vec<u8>>()) {
            let _read = read(&head(status), &body, "sk_test_secret");
        }
    }
}
