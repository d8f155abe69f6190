//! Settings of the customers' page: the section `[portal]`.

use hyper::Uri;
use serde::Deserialize;

use super::{Config, ConfigError};

/// The page that shows a customer what it used and owes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortalConfig {
    /// Where browsers reach this gateway: `https://host`, with a path or without. Links begin with it; when absent, with what the request for a
    /// link calls the gateway (its `Host` header).
    pub base_url: Option<String>,
}

impl Config {
    pub(super) fn check_portal(&self) -> Result<(), ConfigError> {
        let Some(base) = &self.portal.base_url else { return Ok(()) };
        let is_good = base.parse::<Uri>().is_ok_and(|base| {
            let is_web = matches!(base.scheme_str(), Some("http" | "https"));
            let is_host = base.authority().is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
            is_web && is_host && base.query().is_none()
        });
        if is_good {
            return Ok(());
        }
        let what = "TOLLGATE_PORTAL_BASE_URL (portal.base_url) must be https://host or http://host, with a path or without, and no query";
        Err(ConfigError::Check(what.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_what_a_browser_can_open() {
        let parse = |base: &str| toml::from_str::<Config>(&format!("[portal]\nbase_url = '{base}'")).expect("TOML").checked();
        for good in ["https://usage.acme.test", "https://acme.test:8443/usage/", "http://127.0.0.1:8080"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["usage.acme.test", "javascript:alert(1)", "https://", "https://user@host", "https://host/?a=b", ""] {
            assert!(parse(bad).expect_err("refused").to_string().contains("portal.base_url"), "{bad}");
        }
    }
}
