//! Accounts and keys, as operators make them.

use serde_json::{Value, json};

use super::Client;

/// A key that was made a moment ago.
#[derive(Debug, Clone)]
pub(crate) struct MadeKey {
    /// What it is called.
    pub(crate) id: String,
    /// What is sent.
    pub(crate) text: String,
}

impl Client {
    /// Makes an account.
    #[track_caller]
    pub(crate) fn make_account(&self, name: &str) {
        let made = self.post("/v1/accounts", &[], json!({"name": name}).to_string());
        assert_eq!(made.status, 201, "{}", made.shown());
    }

    /// Makes a key of an account.
    #[track_caller]
    pub(crate) fn make_key(&self, account: &str, scopes: &[&str]) -> MadeKey {
        self.make_key_with(account, json!({"scopes": scopes}))
    }

    /// Makes a key of an account, from these fields.
    #[track_caller]
    pub(crate) fn make_key_with(&self, account: &str, fields: Value) -> MadeKey {
        let made = self.post(&format!("/v1/keys?account={account}"), &[], fields.to_string());
        assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{}", made.shown());
        let made = made.json();
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        MadeKey { id: text("id"), text: text("key") }
    }

    /// Revokes a key.
    #[track_caller]
    pub(crate) fn revoke(&self, key: &MadeKey) {
        let revoked = self.call("DELETE", &format!("/v1/keys/{}", key.id), "");
        assert_eq!(revoked.status, 200, "{}", revoked.shown());
    }

    /// The same client with a key that was made.
    pub(crate) fn with(&self, key: &MadeKey) -> Client {
        self.with_key(Some(&key.text))
    }
}
