//! The routes over rows in memory: scopes, headers, statuses. What stands in a query or an answer is the dialect's to test.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::Router;
use axum::http::header::ACCEPT;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_service::Service;

use super::*;
use crate::accounts::{KeyRing, Scope, ring_of};
use crate::dialect::amberflo::usage::answer::{Reports, Shape};
use crate::store::memory::MemoryStore;
use crate::usage::memory::{MemoryRows, event};
use crate::usage::{Limits, TIME_S_MAX, UsageSource, View, ViewError, ViewFuture, ViewRequest};

const DAY_0: i64 = 1_767_225_600;

/// Rows that are there at once, and what was asked of them.
#[derive(Default)]
struct Source {
    rows: MemoryRows,
    is_behind: bool,
    is_down: bool,
    asked: Mutex<Vec<(Vec<ViewRequest>, Duration)>>,
}

impl UsageSource for Source {
    fn view(&self, wanted: Vec<ViewRequest>, wait: Duration) -> ViewFuture<'_> {
        self.asked.lock().expect("one thread").push((wanted, wait));
        let view = View { rows: Box::new(self.rows.clone()), complete: !self.is_behind, positions: vec![(0, 123), (1, 7)] };
        let view = if self.is_down { Err(ViewError::Unavailable("the materializer has ended".into())) } else { Ok(view) };
        Box::pin(std::future::ready(view))
    }
}

struct Api {
    source: Arc<Source>,
    router: Router,
    keys: Arc<KeyRing>,
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }
}

impl Api {
    /// Keys are `read` and `ingest` of account 1, and `other` of account 2.
    fn over(source: Source) -> Self {
        let store: Arc<MemoryStore> = Arc::default();
        let keys = ring_of(&store, &[("read", 1, Scope::Read), ("ingest", 1, Scope::Ingest), ("other", 2, Scope::Read)]);
        let source = Arc::new(source);
        Self {
            router: routes(Arc::new(Usage::new(
                Queries::new(source.clone()),
                Arc::new(Meters::new(Arc::new(MemoryStore::default()), Clock::start())),
                Clock::start(),
            )))
            .into_router(),
            source,
            keys,
        }
    }

    fn metered() -> Self {
        let events = [
            event("acme-7", DAY_0, "1.5").dimensions(&[("region", "eu")]),
            event("acme-7", DAY_0, "2").overflow(),
            event("zeta-1", DAY_0 + 3_600, "4").meter("calls"),
        ];
        Self::over(Source { rows: MemoryRows::of(&events), ..Source::default() })
    }

    async fn send(&self, key: &str, request: axum::http::request::Builder, body: String) -> Answered {
        let caller = self.keys.caller(key.as_bytes()).expect("a key of this test");
        let request = request.extension(caller).body(axum::body::Body::from(body)).expect("a request");
        let response = self.router.clone().call(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers[CONTENT_TYPE], "application/json");
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answered { status: parts.status.as_u16(), headers: parts.headers, body: serde_json::from_slice(&bytes).expect("JSON") }
    }

    /// The answer as text.
    async fn send_raw(&self, key: &str, request: axum::http::request::Builder, body: String) -> (HeaderMap, String) {
        let caller = self.keys.caller(key.as_bytes()).expect("a key of this test");
        let request = request.extension(caller).body(axum::body::Body::from(body)).expect("a request");
        let (parts, body) = self.router.clone().call(request).await.expect("infallible").into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        (parts.headers, String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }

    async fn post(&self, path: &str, body: &Value) -> Answered {
        self.send("read", Request::post(path), body.to_string()).await
    }

    async fn get(&self, path: &str) -> Answered {
        self.send("read", Request::get(path), String::new()).await
    }

    async fn wait_of(&self, prefer: &[&str]) -> Duration {
        let request = prefer.iter().fold(Request::post("/usage"), |request, value| request.header("Prefer", *value));
        assert_eq!(self.send("read", request, query().to_string()).await.status, 200);
        self.source.asked.lock().expect("one thread").last().expect("asked").1
    }
}

/// Form B over the first day.
fn query() -> Value {
    let range = json!({"startTimeInSeconds": DAY_0, "endTimeInSeconds": DAY_0 + 86_400});
    json!({"meterApiName": "tokens", "timeGroupingInterval": "DAY", "timeRange": range})
}

fn with(mut query: Value, change: Value) -> Value {
    let members = change.as_object().expect("an object").clone();
    query.as_object_mut().expect("an object").extend(members);
    query
}

#[tokio::test]
async fn an_answer_says_what_it_is_worth() {
    let api = Api::metered();
    let answered = api.post("/usage", &query()).await;
    assert_eq!(answered.status, 200);
    assert_eq!(answered.body["clientMeters"][0]["groupValue"].to_string(), "3.5");
    let header = |name| answered.header(name);
    assert_eq!((header("Tollgate-Complete"), header("Tollgate-Positions")), (Some("true"), Some("0=123,1=7")));
    assert_eq!((header("Tollgate-Range"), header("Tollgate-Groups-Cut"), header("Tollgate-Overflow")), (None, None, None));

    let by_region = api.post("/usage", &with(query(), json!({"groupBy": ["region"]}))).await;
    assert_eq!(by_region.header("Tollgate-Overflow"), Some("true"));

    let behind = Api::over(Source { is_behind: true, ..Source::default() });
    assert_eq!(behind.post("/usage", &query()).await.header("Tollgate-Complete"), Some("false"));
}

#[tokio::test]
async fn an_answer_that_is_not_exact_says_how_far_from_it_it_may_be() {
    let lost = event("acme-7", DAY_0, "1").dimensions(&[("user", "u-1")]).overflow();
    let events = [lost, event("acme-7", DAY_0, "1").dimensions(&[("user", "u-2"), ("kind", "k")])];
    let api = |rows| Api::over(Source { rows, ..Source::default() });
    let new = api(MemoryRows::of(&events));
    let unique = |dimension: &str| with(query(), json!({"aggregation": "UNIQUE", "uniqueDimension": dimension}));
    let estimated = new.post("/usage", &unique("user")).await;
    assert_eq!(estimated.body["clientMeters"][0]["groupValue"].to_string(), "2");
    assert_eq!(estimated.header("Tollgate-Approximate"), Some("standard-error=0.0163"));
    assert_eq!(new.post("/usage", &unique("kind")).await.header("Tollgate-Approximate"), None, "the overflow row has none of it");
    assert_eq!(new.post("/usage", &query()).await.header("Tollgate-Approximate"), None, "a sum is exact");
    let batch = new.post("/usage/batch", &json!([query(), unique("user")])).await;
    assert_eq!(batch.header("Tollgate-Approximate"), Some("standard-error=0.0163"), "of any");
    let old = api(MemoryRows::of(&events).without_sketches()).post("/usage", &unique("user")).await;
    assert_eq!(old.body["clientMeters"][0]["groupValue"].to_string(), "1");
    assert_eq!(old.header("Tollgate-Approximate"), Some("lower-bound"));
}

#[tokio::test]
async fn a_widened_range_is_said() {
    let api = Api::metered();
    let cut = with(query(), json!({"timeRange": {"startTimeInSeconds": DAY_0 + 1, "endTimeInSeconds": DAY_0 + 3_601}}));
    let answered = api.post("/usage", &cut).await;
    assert_eq!(answered.header("Tollgate-Range"), Some("1767225600-1767232800"));
    let batch = api.post("/usage/batch", &json!([query(), cut])).await;
    assert_eq!(batch.header("Tollgate-Range"), Some("1767225600-1767312000,1767225600-1767232800"));
    let batch = api.post("/usage/batch", &json!([query(), query()])).await;
    assert_eq!(batch.header("Tollgate-Range"), None);
}

#[tokio::test]
async fn each_path_has_its_own_shape() {
    let api = Api::metered();
    let one = api.post("/usage", &query()).await.body;
    assert_eq!(one["metadata"], query());
    assert_eq!(api.post("/usage/batch", &json!([query(), query()])).await.body, json!([one, one]));
    assert_eq!(api.post("/usage/batch", &json!([])).await.body, json!([]));

    let hours = with(query(), json!({"timeGroupingInterval": "HOUR"}));
    let values = |report: &Value| report["clientMeters"][0]["values"].as_array().expect("values").len();
    assert_eq!(values(&api.post("/usage", &hours).await.body), 24);
    assert_eq!(values(&api.post("/usage/sparse", &hours).await.body), 1);
    assert_eq!(values(&api.post("/usage/sparse/batch", &json!([hours])).await.body[0]), 1);

    let flat = json!({"meterApiName": "tokens", "aggregation": "COUNT", "timeGroupingInterval": "MONTH",
        "startTimeInSeconds": DAY_0, "endTimeInSeconds": DAY_0 + 1});
    let records = json!([{"groupInfo": {}, "records": [{"1767225600": 2}]}]);
    assert_eq!(api.post("/usage", &flat).await.body, json!({"clientMeters": {"tokens": records}}));

    let all =
        api.get("/usage/all?startTimeInSeconds=1767225600&timeGroupingInterval=DAY&endTimeInSeconds=1767312000&groupBy=customerId").await;
    let named = |report: &Value| {
        (report["metadata"]["meterApiName"].to_string(), report["clientMeters"][0]["group"]["groupInfo"]["customerId"].to_string())
    };
    let reports: Vec<_> = all.body.as_array().expect("reports").iter().map(named).collect();
    assert_eq!(
        reports,
        [("\"calls\"", "\"zeta-1\""), ("\"tokens\"", "\"acme-7\"")].map(|(meter, customer)| (meter.to_owned(), customer.to_owned()))
    );
}

#[tokio::test]
async fn a_query_waits_as_long_as_it_prefers() {
    let api = Api::metered();
    let s = Duration::from_secs;
    for (prefer, wait) in [
        (&[][..], s(2)),
        (&["wait=0"], s(0)),
        (&["handling=strict, Wait = \"7\""], s(7)),
        (&["respond-async", "wait=3"], s(3)),
        (&["wait=31"], s(30)),
        (&["wait=soon"], s(2)),
        (&["wait"], s(2)),
    ] {
        assert_eq!(api.wait_of(prefer).await, wait, "{prefer:?}");
    }
}

#[tokio::test]
async fn the_rows_that_are_asked_for_are_the_callers() {
    let api = Api::metered();
    let filtered = with(query(), json!({"filter": {"customerId": "b"}, "timeRange": {"startTimeInSeconds": 1, "endTimeInSeconds": 3_601}}));
    api.send("other", Request::post("/usage/batch"), json!([filtered]).to_string()).await;
    api.send("other", Request::get("/usage/all?startTimeInSeconds=0&endTimeInSeconds=3600&timeGroupingInterval=DAY"), String::new()).await;
    let asked = api.source.asked.lock().expect("one thread");
    let one = ViewRequest { account: 2, meter: Some("tokens".into()), from_s: 0, to_s: 7_200, customers: Some(vec!["b".into()]) };
    assert_eq!(asked[0].0, [one]);
    let everything = ViewRequest { account: 2, meter: Some("tokens".into()), from_s: 0, to_s: TIME_S_MAX, customers: None };
    assert_eq!(asked[1].0, [everything], "for the reason why there is nothing");
    assert_eq!(asked[2].0, [ViewRequest { account: 2, meter: None, from_s: 0, to_s: 3_600, customers: None }]);
}

#[tokio::test]
async fn refusals_are_those_of_the_contract() {
    let api = Api::metered();
    let refused = |answered: Answered| (answered.status, answered.body["code"].as_str().expect("a code").to_owned());
    let ingest = api.send("ingest", Request::post("/usage"), query().to_string()).await;
    assert_eq!(refused(ingest), (403, "FORBIDDEN".into()));
    assert_eq!(refused(api.post("/usage", &json!({})).await), (400, "BAD_REQUEST".into()));
    assert_eq!(refused(api.get("/usage/all?startTimeInSeconds=0").await), (400, "BAD_REQUEST".into()));
    assert_eq!(refused(api.get("/usage/all?startTimeInSeconds=%ff%").await), (400, "BAD_REQUEST".into()));
    let large = with(query(), json!({"groupBy": ["x".repeat(BODY_BYTES_MAX)]}));
    assert_eq!(refused(api.post("/usage", &large).await), (413, "PAYLOAD_TOO_LARGE".into()));
    assert!(api.source.asked.lock().expect("one thread").is_empty(), "no rows for what is refused");

    let down = Api::over(Source { is_down: true, ..Source::default() });
    let answered = down.post("/usage", &query()).await;
    assert_eq!(answered.header("Retry-After"), Some("2"));
    assert_eq!(refused(answered), (503, "UNAVAILABLE".into()));
}

#[test]
fn an_answer_that_is_too_large_is_refused() {
    let events: Vec<_> = (0..9).map(|n| event(&format!("c-{n}"), DAY_0, "1")).collect();
    let rows = MemoryRows::of(&events);
    let ask = |asked: Asked, limits: Limits, numbers_max: usize| {
        let reports = Reports::new(Shape::Array, Gaps::Filled, numbers_max);
        let evaluated = asked.evaluate_within(&rows, &HashMap::new(), reports, limits);
        evaluated.map(|(facts, _)| facts.groups_cut).map_err(|error| error.status)
    };
    let body = with(query(), json!({"groupBy": ["customerId"]})).to_string();
    let parsed = || parse_query(body.as_bytes(), 1, UnixMillis(0)).expect("a query");
    let one = |limits, numbers_max| ask(Asked::One(parsed()), limits, numbers_max);
    let limits = Limits::default();
    assert_eq!(one(limits, 10), Ok(false));
    assert_eq!(one(limits, 9), Err(StatusCode::BAD_REQUEST), "nine values and the begin of the day");
    assert_eq!(one(Limits { groups_max: 8, ..limits }, 100), Ok(true));
    assert_eq!(one(Limits { cells_max: 8, ..limits }, 100), Err(StatusCode::BAD_REQUEST));
    let two = |limits, numbers_max| ask(Asked::Batch(vec![parsed(), parsed()]), limits, numbers_max);
    assert_eq!(two(Limits { cells_max: 18, ..limits }, 20), Ok(false));
    assert_eq!(two(Limits { cells_max: 17, ..limits }, 20), Err(StatusCode::BAD_REQUEST), "they are in memory together");
    assert_eq!(two(limits, 19), Err(StatusCode::BAD_REQUEST));
}

#[test]
fn all_meters_end_before_the_one_that_is_too_much() {
    let events: Vec<_> = (0..9).map(|n| event("c", DAY_0, "1").meter(&format!("m-{n}"))).collect();
    let rows = MemoryRows::of(&events);
    let ask = |limits: Limits, numbers_max: usize| {
        let parameters = [("startTimeInSeconds", "1767225600"), ("endTimeInSeconds", "1767312000"), ("timeGroupingInterval", "DAY")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let asked = Asked::AllMeters(AllMetersQuery::parse(&parameters, 1, UnixMillis(0)).expect("a query"));
        let evaluated = asked.evaluate_within(&rows, &HashMap::new(), Reports::new(Shape::Array, Gaps::Filled, numbers_max), limits);
        evaluated.map(|(facts, reports)| (reports.iter().count(), facts.meters_cut)).map_err(|error| error.status)
    };
    let limits = Limits::default();
    assert_eq!(ask(limits, 18), Ok((9, false)));
    assert_eq!(ask(limits, 17), Ok((8, true)));
    assert_eq!(ask(Limits { cells_max: 5, ..limits }, 18), Ok((5, true)));
    assert_eq!(ask(limits, 1), Err(StatusCode::BAD_REQUEST), "not even one");
}

#[tokio::test]
async fn an_empty_answer_says_why_it_is_empty() {
    let api = Api::metered();
    let ask = async |change: Value| {
        let answered = api.post("/usage", &with(query(), change)).await;
        assert_eq!(answered.status, 200);
        answered.header("Tollgate-Empty").map(str::to_owned)
    };
    let later = json!({"startTimeInSeconds": DAY_0 + 864_000, "endTimeInSeconds": DAY_0 + 950_400});
    assert_eq!(ask(json!({})).await, None);
    let asked = || api.source.asked.lock().expect("one thread").len();
    assert_eq!(asked(), 1, "an answer needs no second look");
    assert_eq!(ask(json!({"filter": {"region": "mars"}})).await.as_deref(), Some("filter-matched-nothing"));
    assert_eq!(asked(), 2, "that was seen already");
    assert_eq!(ask(json!({"meterApiName": "nothing"})).await.as_deref(), Some("no-such-meter"));
    assert_eq!(asked(), 4);
    assert_eq!(ask(json!({"timeRange": later})).await.as_deref(), Some("outside-range"));
    assert_eq!(ask(json!({"timeRange": later, "filter": {"customerId": "acme-7"}})).await.as_deref(), Some("outside-range"));
    assert_eq!(ask(json!({"filter": {"customerId": "zeta-1"}})).await.as_deref(), Some("customer-never-seen"));
    let last = api.source.asked.lock().expect("one thread").last().cloned().expect("asked");
    let everything = ViewRequest { account: 1, meter: Some("tokens".into()), from_s: 0, to_s: TIME_S_MAX, customers: None };
    assert_eq!(last, (vec![everything], Duration::ZERO));

    let batch = json!([query(), with(query(), json!({"meterApiName": "nothing"})), with(query(), json!({"filter": {"region": "mars"}}))]);
    let batch = api.post("/usage/batch", &batch).await;
    assert_eq!(batch.header("Tollgate-Empty"), Some("-,no-such-meter,filter-matched-nothing"));
    let all = async |query: &str| {
        let answered = api.get(&format!("/usage/all?timeGroupingInterval=DAY&{query}")).await;
        answered.header("Tollgate-Empty").map(str::to_owned)
    };
    assert_eq!(all("startTimeInSeconds=1767225600").await, None);
    assert_eq!(all("startTimeInSeconds=0&endTimeInSeconds=1").await.as_deref(), Some("outside-range"));
    assert_eq!(all("startTimeInSeconds=0&customerId=nobody").await.as_deref(), Some("customer-never-seen"));
}

#[tokio::test]
async fn csv_is_for_those_who_ask_for_it() {
    let api = Api::metered();
    let request = Request::post("/usage").header(ACCEPT, "text/csv");
    let (headers, body) = api.send_raw("read", request, with(query(), json!({"groupBy": ["customerId"]})).to_string()).await;
    assert_eq!(
        (&headers[CONTENT_TYPE], &headers["vary"]),
        (&"text/csv; charset=utf-8; header=present".parse().expect("a value"), &"accept".parse().expect("a value"))
    );
    assert_eq!(body, "meter,aggregation,customerId,start,value\r\ntokens,SUM,acme-7,2026-01-01T00:00:00Z,3.5\r\n");
    let request = Request::post("/usage").header(ACCEPT, "text/csv");
    let (headers, body) = api.send_raw("read", request, "{}".into()).await;
    assert_eq!(headers[CONTENT_TYPE], "application/json", "refusals are JSON: {body}");
}

#[tokio::test]
async fn a_time_zone_moves_days_and_buckets_that_are_moved_are_said() {
    let api = Api::metered();
    let ask = async |zone: &str| {
        let answered = api.post("/usage", &with(query(), json!({"timeZone": zone}))).await;
        (answered.body["secondsSinceEpochIntervals"].to_string(), answered.header("Tollgate-Buckets-Moved").map(str::to_owned))
    };
    assert_eq!(ask("UTC").await, ("[1767225600]".into(), None));
    assert_eq!(ask("Europe/Berlin").await, ("[1767222000,1767308400]".into(), None));
    assert_eq!(ask("Asia/Kolkata").await, ("[1767204000,1767290400]".into(), Some("true".into())));
}
