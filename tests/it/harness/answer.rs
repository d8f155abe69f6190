//! What comes back for a request.

use hyper::header::HeaderMap;
use serde_json::Value;

/// One whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, headers: HeaderMap, body: Vec<u8>) -> Self {
        Self { status, headers, body }
    }

    /// The body, which is text in all answers.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as JSON, numbers with the digits that were sent.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.shown()))
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Checks that so many events were taken.
    #[track_caller]
    pub(crate) fn logged(self, events: usize) -> Self {
        assert_eq!((self.status, self.text()), (200, format!("{events} records were ingested").as_str()), "{}", self.shown());
        self
    }

    /// Checks that so many events were left out of a batch of which others were taken.
    #[track_caller]
    pub(crate) fn rejected(self, events: usize) -> Self {
        let expected = (events > 0).then(|| events.to_string());
        assert_eq!(self.header("tollgate-rejected").map(str::to_owned), expected, "{}", self.shown());
        self
    }

    /// Checks the status of a request of which nothing was taken.
    #[track_caller]
    pub(crate) fn refused(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.shown());
        self
    }

    /// Checks that the body says what is wrong with which field.
    #[track_caller]
    pub(crate) fn details(self, details: &str) -> Self {
        assert_eq!(self.json()["details"], details, "{}", self.shown());
        self
    }

    /// All of it as text, for snapshots: without what differs from run to run, or is about the connection and the length.
    pub(crate) fn shown(&self) -> String {
        let mut shown = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            match name.as_str() {
                "date" | "content-length" | "connection" => {}
                "retry-after" => shown.push_str("retry-after: [seconds]\n"),
                name => shown.push_str(&format!("{name}: {value}\n")),
            }
        }
        shown.push('\n');
        shown.push_str(&String::from_utf8_lossy(&self.body));
        shown
    }
}
