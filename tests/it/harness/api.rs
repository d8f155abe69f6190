//! The routes of a contract, each in every form of its path.

use serde_json::Value;

use super::{ADMIN_KEY, Answer, Client, Gateway};

/// What a path, without its query, may look like.
pub(crate) type Form = fn(&str) -> String;

/// Calls in one form of each path.
pub(crate) struct Api {
    /// With its key, if that comes as most bring it.
    pub(crate) client: Client,
    /// Of each path.
    pub(crate) form: Form,
    /// What comes with each call, a key that is brought otherwise for example.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Api {
    pub(crate) fn new(client: Client, form: Form) -> Self {
        Self { client, form, headers: Vec::new() }
    }

    /// In the account of the tests' own key.
    pub(crate) fn plain(gateway: &Gateway, form: Form) -> Self {
        Self::new(gateway.with_key(Some(ADMIN_KEY)), form)
    }

    /// With another key, or none.
    pub(crate) fn with_key(&self, key: Option<&str>) -> Self {
        Self::new(self.client.with_key(key), self.form)
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call_with(&[], method, path, body)
    }

    /// With these headers beside; `null` is no body.
    pub(crate) fn call_with(&self, headers: &[(&str, &str)], method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let own = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> = own.chain(headers.iter().copied()).collect();
        let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        self.client.call_with(&headers, method, &format!("{}{query}", (self.form)(path)), &body)
    }

    /// Exactly this status, and a body of exactly this type.
    #[track_caller]
    pub(crate) fn answered(&self, method: &str, path: &str, body: &Value, status: u16, content_type: &str) -> Answer {
        let answer = self.call(method, path, body).refused(status);
        assert_eq!(answer.header("content-type"), Some(content_type), "{method} {path}");
        answer
    }

    /// Exactly this status, and a body of JSON.
    #[track_caller]
    pub(crate) fn json(&self, method: &str, path: &str, body: Value, status: u16) -> Value {
        self.answered(method, path, &body, status, "application/json").json()
    }

    /// Reads what is there.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.json("GET", path, Value::Null, 200)
    }
}

/// Runs the rows of a section in each form of their paths, each time in an account of its own.
pub(crate) fn in_each_form(forms: &[Form], rows: fn(&Api)) {
    let gateway = Gateway::start();
    for (at, form) in forms.iter().enumerate() {
        let account = format!("form-{at}");
        gateway.make_account(&account);
        rows(&Api::new(gateway.with(&gateway.make_key(&account, &["admin"])), *form));
    }
}
