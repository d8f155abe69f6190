//! Links to the customers' page on Amberflo's wire (contract `amberflo.md` section 6.4).

use std::time::Duration;

use hyper::Uri;
use serde_json::{Value, json};

use crate::clock::UnixMillis;
use crate::customers::CustomerId;
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::portal::{AGE, AGE_MAX, Link, NewLink, RETURN_URL_BYTES_MAX};

/// Reads the body of a POST `/session`. As everywhere in this dialect, what is empty or 0 is absent: go sends that.
///
/// # Errors
/// 400 `BAD_REQUEST`; `details` names the field.
pub fn parse(body: &[u8], now: UnixMillis) -> Result<NewLink, ApiError> {
    let body = parse_object(body)?;
    let fields = Fields::of(&body, "");
    let customer = fields.required_text("customerId")?;
    let customer = CustomerId::parse(customer).map_err(|error| fields.wrong("customerId", error))?;
    let expires = fields.int("expirationEpochMilliSeconds")?.filter(|expires| *expires != 0);
    let expires = expires.map_or(Ok(after(now, AGE)), |expires| {
        let expires = UnixMillis(expires);
        if expires <= now {
            return Err(fields.wrong("expirationEpochMilliSeconds", "must be in the future, in ms since 1970"));
        }
        if expires > after(now, AGE_MAX) {
            let days = AGE_MAX.as_secs() / 86_400;
            return Err(fields.wrong("expirationEpochMilliSeconds", format!("must be within {days} days, in ms since 1970")));
        }
        Ok(expires)
    })?;
    let return_url = fields.text("returnUrl")?.filter(|url| !url.is_empty());
    if let Some(url) = return_url {
        check_url(url).map_err(|reason| fields.wrong("returnUrl", reason))?;
    }
    Ok(NewLink { customer, expires, return_url: return_url.map(str::to_owned) })
}

fn after(now: UnixMillis, age: Duration) -> UnixMillis {
    UnixMillis(now.0.saturating_add(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}

/// It becomes the target of a link: an address of the web and nothing that a browser would run.
fn check_url(url: &str) -> Result<(), String> {
    if url.len() > RETURN_URL_BYTES_MAX {
        return Err(format!("has {} bytes, the limit is {RETURN_URL_BYTES_MAX}", url.len()));
    }
    let wrong = || Err("must be an address that begins with https:// or http://".to_owned());
    // A fragment is no part of what is sent to anybody, and of no harm here.
    let Ok(parsed) = url.split('#').next().unwrap_or_default().parse::<Uri>() else { return wrong() };
    let is_web = matches!(parsed.scheme_str(), Some("http" | "https"));
    let is_host = parsed.authority().is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    if is_web && is_host && url.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { wrong() }
}

/// The answer to a POST `/session`.
pub fn render(link: &Link) -> Value {
    json!({"url": link.url, "sessionToken": link.token})
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

    fn details(body: &Value) -> String {
        parse(body.to_string().as_bytes(), NOW).expect_err("a bad body").details.expect("details")
    }

    #[test]
    fn a_link_is_good_for_a_day_unless_it_says_otherwise() {
        for body in [
            json!({"customerId": "acme"}),
            json!({"customerId": "acme", "expirationEpochMilliSeconds": null, "returnUrl": null, "more": 1}),
            json!({"customerId": "acme", "expirationEpochMilliSeconds": 0, "returnUrl": ""}),
        ] {
            let link = parse(body.to_string().as_bytes(), NOW).expect("a good body");
            assert_eq!((link.customer.as_str(), link.expires, link.return_url), ("acme", UnixMillis(NOW.0 + 86_400_000), None));
        }
        let body = json!({"customerId": "acme", "expirationEpochMilliSeconds": NOW.0 + 1, "returnUrl": "https://a.test/x?y=1#z"});
        let link = parse(body.to_string().as_bytes(), NOW).expect("a good body");
        assert_eq!((link.expires.0, link.return_url.as_deref()), (NOW.0 + 1, Some("https://a.test/x?y=1#z")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(details(&json!({})), "customerId is missing");
        assert_eq!(details(&json!({"customerId": ""})), "customerId must not be empty");
        assert_eq!(details(&json!({"customerId": 7})), "customerId must be a string");
        let expires = |expires: Value| details(&json!({"customerId": "a", "expirationEpochMilliSeconds": expires}));
        let past = "expirationEpochMilliSeconds must be in the future, in ms since 1970";
        for wrong in [json!(NOW.0), json!(1), json!(-1), json!(NOW.0 / 1_000 + 3_600)] {
            assert_eq!(expires(wrong), past);
        }
        assert_eq!(expires(json!(NOW.0 + 90 * 86_400_000 + 1)), "expirationEpochMilliSeconds must be within 90 days, in ms since 1970");
        assert_eq!(expires(json!("soon")), "expirationEpochMilliSeconds must be a whole number");
        assert_eq!(expires(json!(1.5)), "expirationEpochMilliSeconds must be a whole number");
        let long = format!("https://a.test/{}", "x".repeat(1_024));
        for wrong in [
            "javascript:alert(1)",
            "data:text/html,x",
            "//a.test/",
            "/back",
            "a.test",
            "ftp://a.test",
            "https://",
            "https://user@a.test/",
            "https://a.test/ x",
            "https://a.test/\n",
            "https://a.test/é",
            "JavaScript://a.test/%0aalert(1)",
            &long,
        ] {
            assert!(details(&json!({"customerId": "a", "returnUrl": wrong})).starts_with("returnUrl "), "{wrong}");
        }
    }
}
