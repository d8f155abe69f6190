//! Where browsers find the portal.

/// What links begin with.
#[derive(Debug, Clone)]
pub struct Address {
    base_url: Option<String>,
    is_tls: bool,
}

/// Nobody knows where browsers find the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Host header names no host that a browser could open: set portal.base_url")]
pub struct NoAddress;

impl Address {
    /// The configured one; without, the one by which this gateway is asked, with TLS or without.
    pub fn new(base_url: Option<&str>, is_tls: bool) -> Self {
        let base_url = base_url.map(|base| base.trim_end_matches('/').to_owned());
        Self { is_tls: base_url.as_ref().map_or(is_tls, |base| base.starts_with("https:")), base_url }
    }

    /// Whether browsers come by https.
    pub(super) fn is_https(&self) -> bool {
        self.is_tls
    }

    /// What a link begins with, without a slash at its end. `host` is what a request calls this gateway: anybody's claim.
    ///
    /// # Errors
    /// [`NoAddress`].
    pub(super) fn base(&self, host: Option<&str>) -> Result<String, NoAddress> {
        match &self.base_url {
            Some(base) => Ok(base.clone()),
            None => {
                let host = host.filter(|host| is_host(host)).ok_or(NoAddress)?;
                Ok(format!("{}://{host}", if self.is_tls { "https" } else { "http" }))
            }
        }
    }
}

/// A name, an IPv4 address or a bracketed IPv6 one, and perhaps a port; nothing else that a Host header may hold.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (None, port),
        Some(_) => return false,
        None => text.find(':').map_or((Some(text), ""), |at| (Some(&text[..at]), &text[at..])),
    };
    let is_name = |name: &str| {
        (1..=253).contains(&name.len())
            && name
                .split('.')
                .all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)))
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    name.is_none_or(is_name) && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_begins_with_the_configured_base_whatever_a_request_says() {
        let address = Address::new(Some("https://usage.acme.test/x/"), false);
        assert_eq!(address.base(Some("evil.test")), Ok("https://usage.acme.test/x".into()));
        assert!(address.is_https());
    }

    #[test]
    fn without_one_it_is_the_host_of_the_request_if_that_is_a_host() {
        let address = Address::new(None, true);
        for good in ["localhost", "a.test:8443", "127.0.0.1:80", "[::1]:8080", "[::1]", "under_score.test"] {
            assert_eq!(address.base(Some(good)), Ok(format!("https://{good}")));
        }
        let long = "a".repeat(300);
        for bad in [
            "",
            "a b",
            "a/b",
            "user@host",
            "a.test:",
            "a.test:0",
            "a.test:99999",
            "a:b",
            "a..b",
            "[::1",
            "[x]",
            "a\"b",
            "a%41",
            "a?b",
            &long,
        ] {
            assert_eq!(address.base(Some(bad)), Err(NoAddress), "{bad}");
        }
        assert_eq!(address.base(None), Err(NoAddress));
        assert_eq!(Address::new(None, false).base(Some("a")), Ok("http://a".into()));
    }
}
