//! Settings of the payment provider: the section `[stripe]`.

use std::time::Duration;

use hyper::Uri;
use serde::Deserialize;

use super::{Config, ConfigError, Secret, duration_required};
use crate::stripe;

/// Stripe, where customers are made too if a request says so.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StripeConfig {
    /// The key of its API; without one no payment provider is configured.
    pub api_key: Option<Secret>,
    /// Where its API is: `https://host`, with a path or without. Plain http only to this machine.
    pub api_base: String,
    /// How long one try of a call may take; there are up to three.
    #[serde(deserialize_with = "duration_required")]
    pub timeout: Duration,
}

impl Default for StripeConfig {
    fn default() -> Self {
        Self { api_key: None, api_base: "https://api.stripe.com".into(), timeout: Duration::from_secs(10) }
    }
}

/// Longest time of a try that makes sense: the client waits for all of them.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

impl Config {
    /// How Stripe is called; `None`: no payment provider is configured.
    pub fn stripe(&self) -> Option<stripe::Settings> {
        let StripeConfig { api_key, api_base, timeout } = &self.stripe;
        let api_key = stripe::ApiKey::new(api_key.as_ref()?.reveal());
        Some(stripe::Settings { api_key, api_base: api_base.clone(), timeout: *timeout })
    }

    pub(super) fn check_stripe(&self) -> Result<(), ConfigError> {
        let wrong = |what: &str| Err(ConfigError::Check(what.to_owned()));
        let StripeConfig { api_key, api_base, timeout } = &self.stripe;
        let is_key = |key: &Secret| !key.reveal().is_empty() && key.reveal().bytes().all(|byte| byte.is_ascii_graphic());
        if api_key.as_ref().is_some_and(|key| !is_key(key)) {
            return wrong(
                "TOLLGATE_STRIPE_API_KEY (stripe.api_key) must be printable ASCII without spaces, and not empty: it is sent in a header",
            );
        }
        check_base(api_base).or_else(wrong)?;
        if !(Duration::from_millis(10)..=TIMEOUT_MAX).contains(timeout) {
            return wrong("stripe.timeout must be between 10ms and 120s");
        }
        Ok(())
    }
}

/// The key goes there: nobody but this machine may read it on the way.
fn check_base(base: &str) -> Result<(), &'static str> {
    const WRONG: &str = "TOLLGATE_STRIPE_API_BASE (stripe.api_base) must be https://host, with a path or without, and no query";
    let base: Uri = base.parse().map_err(|_| WRONG)?;
    let host = base.host().filter(|host| !host.is_empty()).ok_or(WRONG)?;
    if base.query().is_some() || base.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(WRONG);
    }
    let is_loopback = host == "localhost"
        || host.trim_start_matches('[').trim_end_matches(']').parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match base.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback => Ok(()),
        Some("http") => Err("stripe.api_base must be https: plain http would show the key, and is for this machine only (localhost)"),
        _ => Err(WRONG),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::parse;

    #[test]
    fn the_key_goes_over_tls_or_stays_on_this_machine() {
        for good in
            ["https://api.stripe.com", "https://proxy.test:8443/stripe/", "http://localhost:12111", "http://127.0.0.1:1", "http://[::1]:1"]
        {
            assert!(parse(&format!("[stripe]\napi_key = 'sk_test_1'\napi_base = '{good}'")).is_ok(), "{good}");
        }
        for bad in [
            "http://api.stripe.com",
            "http://127.0.0.1.evil.test",
            "https://",
            "https://a/?b",
            "https://key@host",
            "ftp://h",
            "api.stripe.com",
            "",
        ] {
            assert!(parse(&format!("[stripe]\napi_base = '{bad}'")).expect_err("refused").contains("stripe.api_base"), "{bad}");
        }
    }

    #[test]
    fn the_key_is_shown_to_nobody_and_fits_a_header() {
        let config = parse("[stripe]\napi_key = 'sk_test_secret'").expect("good");
        assert!(!format!("{config:?} {:?}", config.stripe()).contains("sk_test_secret"));
        assert!(parse("").expect("good").stripe().is_none());
        for bad in ["''", "'a b'", "\"a\\n\"", "'é'"] {
            assert!(parse(&format!("[stripe]\napi_key = {bad}")).expect_err("refused").contains("stripe.api_key"), "{bad}");
        }
        assert!(parse("[stripe]\ntimeout = '0s'").expect_err("refused").contains("stripe.timeout"));
    }
}
