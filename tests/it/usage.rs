//! What usage queries promise beside exactness: time zones, reasons for empty answers, CSV, answers of any length, bounded cost.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use jiff::tz::TimeZoneDatabase;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, Client, DAY_0_MS, DAY_0_S, DAY_S, Event, Gateway, HOUR_S, Random, Setup, event, wait_for};

fn ok(answer: Answer) -> Answer {
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer
}

/// Form B, over these days from the first one on.
fn form_b(days: i64, change: Value) -> Value {
    let range = json!({"startTimeInSeconds": DAY_0_S, "endTimeInSeconds": DAY_0_S + days * DAY_S});
    let mut query = json!({"meterApiName": "m", "aggregation": "SUM", "timeGroupingInterval": "DAY", "timeRange": range});
    query.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    query
}

fn ask(client: &Client, path: &str, query: &Value) -> Answer {
    ok(client.post(path, &[("prefer", "wait=30")], query.to_string()))
}

/// Values by the begin of their buckets, those that are not 0.
fn values(report: &Value) -> BTreeMap<i64, String> {
    let groups = report["clientMeters"].as_array().expect("groups");
    let values = groups.iter().flat_map(|group| group["values"].as_array().expect("values"));
    let values = values.map(|value| (value["secondsSinceEpochUtc"].as_i64().expect("seconds"), value["value"].to_string()));
    values.filter(|(_, number)| number != "0").collect()
}

fn instant(text: &str) -> i64 {
    text.parse::<Timestamp>().expect("a time").as_second()
}

// --- Time zones -----------------------------------------------------------------------------------------------------

/// One event an hour, each of another value, from before the first to behind the last transition of 2025 and 2026 in Berlin.
#[test]
fn days_weeks_and_months_of_a_zone_are_local_and_add_up() {
    const ZONES: [&str; 4] = ["Europe/Berlin", "America/St_Johns", "Pacific/Chatham", "Asia/Tokyo"];
    let gateway = Gateway::start();
    let mut random = Random::seeded();
    // Two months around the begin of summer time: hours of UTC, and something in the middle of them.
    let begin_s = instant("2026-03-05T00:00:00Z");
    let times: Vec<i64> = (0..60 * 24).map(|hour| begin_s + hour * HOUR_S + random.below(3_600) as i64).collect();
    let events: Vec<Event> = times.iter().enumerate().map(|(at, time)| event(&format!("u-{at}")).value(at + 1).at(time * 1_000)).collect();
    gateway.send(&events).logged(events.len());
    let (start_s, end_s) = (begin_s + 5 * DAY_S, begin_s + 55 * DAY_S);
    for zone in ZONES {
        let local = TimeZoneDatabase::bundled().get(zone).expect("a zone");
        for interval in ["DAY", "WEEK", "MONTH"] {
            // An hour belongs to the local day that its last second is in.
            let bucket = |time_s: i64| {
                let last_s = time_s / HOUR_S * HOUR_S + HOUR_S - 1;
                let date = local.to_datetime(Timestamp::from_second(last_s).expect("a time")).date();
                let first = match interval {
                    "WEEK" => date.checked_sub(i64::from(date.weekday().to_monday_zero_offset()).days()).expect("a date"),
                    "MONTH" => date.first_of_month(),
                    _ => date,
                };
                first.to_zoned(local.clone()).expect("a time").timestamp().as_second() / HOUR_S * HOUR_S
            };
            let mut expected: BTreeMap<i64, u64> = BTreeMap::new();
            for (at, time) in times.iter().enumerate().filter(|(_, time)| (start_s..end_s).contains(*time)) {
                *expected.entry(bucket(*time)).or_default() += at as u64 + 1;
            }
            let expected: BTreeMap<i64, String> = expected.into_iter().map(|(start, sum)| (start, sum.to_string())).collect();
            let change = json!({"timeZone": zone, "timeGroupingInterval": interval,
                "timeRange": {"startTimeInSeconds": start_s, "endTimeInSeconds": end_s}});
            let answer = ask(&gateway, "/usage", &form_b(0, change));
            assert_eq!(values(&answer.json()), expected, "{zone} {interval}");
            let is_moved = ["America/St_Johns", "Pacific/Chatham"].contains(&zone);
            assert_eq!(answer.header("tollgate-buckets-moved"), is_moved.then_some("true"), "{zone}");
            // Form A and all meters at once say the same.
            let flat = json!({"meterApiName": "m", "aggregation": "SUM", "timeGroupingInterval": interval, "timeZone": zone,
                "startTimeInSeconds": start_s, "endTimeInSeconds": end_s});
            let records = ask(&gateway, "/usage", &flat).json()["clientMeters"]["m"][0]["records"].clone();
            let record =
                |record: &Value| record.as_object().expect("an object").iter().map(|(start, sum)| (start.clone(), sum.to_string())).next();
            let records: Vec<_> = records.as_array().expect("records").iter().filter_map(record).collect();
            assert_eq!(records, expected.iter().map(|(start, sum)| (start.to_string(), sum.clone())).collect::<Vec<_>>());
            let path =
                format!("/usage/all?startTimeInSeconds={start_s}&endTimeInSeconds={end_s}&timeGroupingInterval={interval}&timeZone={zone}");
            let all = ok(gateway.get(&path)).json();
            assert_eq!((values(&all[0]), &all[0]["metadata"]["timeZone"]), (expected, &json!(zone)));
        }
    }
}

#[test]
fn a_month_of_a_zone_with_half_an_hour_has_each_event_once() {
    let gateway = Gateway::start();
    // Midnight in India is 18:30 in UTC. Hour rows cannot be cut: the whole hour counts for the day that begins in it.
    let midnight_s = instant("2026-02-01T00:00:00+05:30");
    let at = |id: &str, from_midnight_s: i64| event(id).at((midnight_s + from_midnight_s) * 1_000);
    gateway.send(&[at("u-1", -1_801), at("u-2", -1_800), at("u-3", -1), at("u-4", 0), at("u-5", 1_799), at("u-6", 1_800)]).logged(6);
    let month = |start: &str, end: &str| {
        let range = json!({"startTimeInSeconds": instant(start), "endTimeInSeconds": instant(end)});
        let query = form_b(0, json!({"timeRange": range, "timeGroupingInterval": "MONTH", "timeZone": "Asia/Kolkata"}));
        let answer = ask(&gateway, "/usage", &query);
        let starts = answer.json()["secondsSinceEpochIntervals"].as_array().expect("begins").len();
        let range = answer.header("tollgate-range").expect("it is moved").to_owned();
        (starts, values(&answer.json()).into_values().collect::<Vec<_>>(), range)
    };
    let moved = |time: &str| instant(time);
    let range = |start, end| format!("{}-{}", moved(start), moved(end));
    assert_eq!(
        month("2026-01-01T00:00:00+05:30", "2026-02-01T00:00:00+05:30"),
        (1, vec!["1".into()], range("2025-12-31T18:00:00Z", "2026-01-31T18:00:00Z"))
    );
    assert_eq!(
        month("2026-02-01T00:00:00+05:30", "2026-03-01T00:00:00+05:30"),
        (1, vec!["5".into()], range("2026-01-31T18:00:00Z", "2026-02-28T18:00:00Z")),
        "each is in one month, and none in two"
    );
}

#[test]
fn what_is_no_time_zone_is_refused_by_name() {
    let gateway = Gateway::start();
    let details = "must be the name of a time zone in the IANA database, such as Europe/Berlin";
    let bad = form_b(1, json!({"timeZone": "Mars/Olympus"}));
    gateway.post("/usage", &[], bad.to_string()).refused(400).details(&format!("timeZone {details}"));
    gateway
        .post("/usage/batch", &[], json!([form_b(1, json!({})), bad]).to_string())
        .refused(400)
        .details(&format!("[1].timeZone {details}"));
    gateway
        .get("/usage/all?startTimeInSeconds=0&timeGroupingInterval=DAY&timeZone=CET-1")
        .refused(400)
        .details(&format!("timeZone {details}"));
    ask(&gateway, "/usage", &form_b(1, json!({"timeZone": null})));
    ask(&gateway, "/usage", &form_b(1, json!({"timeZone": "etc/utc"})));
}

// --- Forms ----------------------------------------------------------------------------------------------------------

#[test]
fn a_batch_answers_each_query_in_its_own_form() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-1").value("0.1"), event("u-2").value("0.2").at(DAY_0_MS + DAY_S * 1_000)]).logged(2);
    let flat = json!({"meterApiName": "m", "aggregation": "Max", "timeGroupingInterval": "month",
        "startTimeInSeconds": DAY_0_S, "endTimeInSeconds": DAY_0_S + 31 * DAY_S, "customerFilter": ["c"]});
    let nested = form_b(2, json!({"aggregation": "sum", "timeGroupingInterval": "Day", "mine": {"kept": [1.50]}}));
    let answer = ask(&gateway, "/usage/batch/", &json!([flat, nested, flat])).json();
    assert_eq!(answer[0], json!({"clientMeters": {"m": [{"groupInfo": {}, "records": [{"1767225600": 0.2}]}]}}));
    assert_eq!(answer[2], answer[0]);
    assert_eq!(answer[1]["metadata"].to_string(), nested.to_string(), "as it was received");
    let group = &answer[1]["clientMeters"][0];
    assert_eq!((group["groupValue"].to_string(), group["values"][1]["percentageFromPrevious"].to_string()), ("0.3".into(), "100".into()));
    // Without a range's end it ends now.
    let range = json!({"startTimeInSeconds": DAY_0_S});
    let report = ask(&gateway, "/usage/sparse", &form_b(0, json!({"timeRange": range}))).json();
    let now_s = Timestamp::now().as_second();
    let last = report["secondsSinceEpochIntervals"].as_array().expect("begins").last().expect("one").as_i64().expect("seconds");
    assert!((now_s - 2 * DAY_S..=now_s).contains(&last), "{last}");
    assert_eq!(values(&report).len(), 2);
}

#[test]
fn the_largest_groups_are_taken_and_equal_ones_by_name() {
    let gateway = Gateway::start();
    let customers = [("b", 5), ("a", 5), ("d", 1), ("c", 5), ("e", -3)];
    let events: Vec<Event> =
        customers.iter().map(|(customer, value)| event(&format!("u-{customer}")).customer(customer).value(value)).collect();
    gateway.send(&events).logged(5);
    let taken = |take: Value| {
        let report = ask(&gateway, "/usage", &form_b(1, json!({"groupBy": ["customerId"], "take": take}))).json();
        let groups = report["clientMeters"].as_array().expect("groups").iter();
        groups.map(|group| group["group"]["groupInfo"]["customerId"].as_str().expect("a text").to_owned()).collect::<String>()
    };
    assert_eq!(taken(json!({"limit": 2})), "ab");
    assert_eq!(taken(json!({"limit": 4, "isAscending": false})), "abcd");
    assert_eq!(taken(json!({"limit": 4, "isAscending": true})), "edab");
    assert_eq!(taken(json!({"limit": 1_000_000_000_000_i64})), "abcde");
    assert_eq!(taken(Value::Null), "abcde");
    for limit in ["0", "-1", "1.5", "1e30", "\"2\"", "null"] {
        let query = format!(
            r#"{{"meterApiName":"m","timeGroupingInterval":"DAY","timeRange":{{"startTimeInSeconds":0}},"take":{{"limit":{limit}}}}}"#
        );
        gateway.post("/usage", &[], query).refused(400);
    }
}

// --- Empty answers --------------------------------------------------------------------------------------------------

#[test]
fn an_empty_answer_says_why_it_is_empty_right_behind_the_events() {
    let gateway = Gateway::start();
    let define = json!({"meterApiName": "defined", "displayName": "never used", "type": "SUM_OF_ALL_USAGE"});
    ok(gateway.post("/meter-definition", &[], define.to_string()));
    gateway.make_account("other");
    let theirs = gateway.with(&gateway.make_key("other", &["ingest", "read"]));
    theirs.send(&[event("u").meter("theirs").customer("their-customer")]).logged(1);
    let why = |change: Value| ask(&gateway, "/usage", &form_b(3, change)).header("tollgate-empty").map(str::to_owned);
    for round in 0..20 {
        let (meter, customer) = (format!("m-{round}"), format!("c-{round}"));
        let m = |change: Value| {
            let mut change = change;
            change["meterApiName"] = json!(meter);
            why(change).unwrap_or_default()
        };
        assert_eq!(m(json!({})), "no-such-meter");
        gateway.send(&[event(&format!("u-{round}")).meter(&meter).customer(&customer).dimension("region", "eu")]).logged(1);
        // Nothing of it need be stored yet.
        let later = json!({"startTimeInSeconds": DAY_0_S + DAY_S, "endTimeInSeconds": DAY_0_S + 2 * DAY_S});
        assert_eq!(m(json!({})), "");
        assert_eq!(m(json!({"timeRange": later})), "outside-range");
        assert_eq!(m(json!({"timeRange": later, "filter": {"customerId": [customer, "nobody"]}})), "outside-range");
        assert_eq!(m(json!({"filter": {"customerId": "nobody"}})), "customer-never-seen");
        assert_eq!(m(json!({"filter": {"region": "us"}})), "filter-matched-nothing");
        assert_eq!(m(json!({"filter": {"region": "us", "customerId": customer}})), "filter-matched-nothing");
    }
    assert_eq!(why(json!({"meterApiName": "defined"})).as_deref(), Some("outside-range"));
    assert_eq!(why(json!({"meterApiName": "theirs"})).as_deref(), Some("no-such-meter"), "what others have is nobody's business");
    let batch = json!([
        form_b(1, json!({"meterApiName": "m-0"})),
        form_b(1, json!({})),
        form_b(1, json!({"meterApiName": "m-1", "filter": {"region": "us"}}))
    ]);
    assert_eq!(ask(&gateway, "/usage/batch", &batch).header("tollgate-empty"), Some("-,no-such-meter,filter-matched-nothing"));
    let all =
        |query: &str| ok(gateway.get(&format!("/usage/all?timeGroupingInterval=DAY&{query}"))).header("tollgate-empty").map(str::to_owned);
    assert_eq!(all("startTimeInSeconds=0"), None);
    assert_eq!(all("startTimeInSeconds=0&endTimeInSeconds=1").as_deref(), Some("outside-range"));
    assert_eq!(all("startTimeInSeconds=0&customerId=their-customer").as_deref(), Some("customer-never-seen"));
}

// --- CSV ------------------------------------------------------------------------------------------------------------

#[test]
fn csv_has_what_json_has_on_every_route() {
    let gateway = Gateway::start();
    let odd = event("u-2").customer("a \"b\", c").value("0.000000000001").at(DAY_0_MS + 5);
    gateway.send(&[event("u-1").value("1.50"), odd, event("u-3").meter("other").value("-7")]).logged(3);
    let csv = |answer: Answer| {
        assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"), "{}", answer.shown());
        assert_eq!(answer.header("tollgate-complete"), Some("true"));
        ok(answer).text().to_owned()
    };
    let post = |path: &str, query: Value| csv(gateway.post(path, &[("accept", "text/csv"), ("prefer", "wait=30")], query.to_string()));
    let by_customer = form_b(1, json!({"groupBy": ["customerId"], "timeZone": "America/New_York"}));
    let begin = "2025-12-31T00:00:00-05:00";
    let lines = [
        "meter,aggregation,customerId,start,value".to_owned(),
        format!("m,SUM,c,{begin},1.5"),
        "m,SUM,c,2026-01-01T00:00:00-05:00,0".into(),
        format!("m,SUM,\"a \"\"b\"\", c\",{begin},0.000000000001"),
        "m,SUM,\"a \"\"b\"\", c\",2026-01-01T00:00:00-05:00,0".into(),
        String::new(),
    ];
    assert_eq!(post("/usage", by_customer.clone()), lines.join("\r\n"));
    let sparse = [0, 1, 3, 5].map(|at| lines[at].as_str()).join("\r\n");
    assert_eq!(post("/usage/sparse", by_customer.clone()), sparse);
    let numbered = "query,meter,aggregation,customerId,start,value\r\n0,other,COUNT,,2026-01-01T00:00:00Z,1\r\n".to_owned();
    let rest = sparse.split_once("\r\n").expect("a line").1.replace("m,SUM", "1,m,SUM");
    let count = form_b(1, json!({"meterApiName": "other", "aggregation": "COUNT"}));
    assert_eq!(post("/usage/sparse/batch", json!([count, by_customer])), numbered + &rest);
    let path = format!("/usage/all?startTimeInSeconds={DAY_0_S}&endTimeInSeconds={}&timeGroupingInterval=MONTH", DAY_0_S + 1);
    let all = csv(gateway.get_with(&path, &[("accept", "text/csv, */*;q=0.1")]));
    let month = "2026-01-01T00:00:00Z";
    assert_eq!(all, format!("meter,aggregation,start,value\r\nm,SUM,{month},1.500000000001\r\nother,SUM,{month},-7\r\n"));
    for accept in ["application/json", "*/*", "text/html", "text/csv;q=0.5, application/json"] {
        let answer = ok(gateway.get_with(&path, &[("accept", accept)]));
        assert_eq!((answer.header("content-type"), answer.header("vary")), (Some("application/json"), Some("accept")), "{accept}");
        answer.json();
    }
    let refused = gateway.post("/usage", &[("accept", "text/csv")], "{}").refused(400);
    assert_eq!(refused.header("content-type"), Some("application/json"));
}

// --- Length and cost ------------------------------------------------------------------------------------------------

/// Events of so many customers on one day.
fn send_customers(gateway: &Gateway, customers: usize) {
    let events: Vec<Event> = (0..customers).map(|at| event(&format!("u-{at}")).customer(&format!("customer-{at:05}")).value(at)).collect();
    for part in events.chunks(5_000) {
        gateway.send(part).logged(part.len());
    }
}

#[test]
fn a_long_answer_is_whole_and_comes_in_pieces() {
    const CUSTOMERS: usize = 5_000;
    let gateway = Gateway::start();
    send_customers(&gateway, CUSTOMERS);
    let query = form_b(31, json!({"groupBy": ["customerId"]}));
    let answer = ask(&gateway, "/usage", &query);
    assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, Some("chunked")));
    let report = answer.json();
    let groups = report["clientMeters"].as_array().expect("groups");
    assert_eq!(groups.len(), CUSTOMERS);
    for (at, group) in groups.iter().enumerate() {
        assert_eq!(group["groupValue"], CUSTOMERS - 1 - at);
        assert_eq!(group["values"].as_array().expect("values").len(), 31);
    }
    let csv = ok(gateway.post("/usage/sparse", &[("accept", "text/csv")], query.to_string()));
    assert_eq!(csv.text().lines().count(), CUSTOMERS + 1);
    let short = ask(&gateway, "/usage", &form_b(31, json!({})));
    assert!(short.header("content-length").is_some());
}

#[test]
fn who_does_not_take_a_long_answer_loses_it_and_nobody_else_waits() {
    let gateway = Setup::with("[http]\nanswer_idle_timeout = '1s'").start();
    send_customers(&gateway, 5_000);
    let query = form_b(31, json!({"groupBy": ["customerId"]})).to_string();
    let length = query.len();
    let request = format!("POST /usage HTTP/1.1\r\nHost: x\r\nX-API-KEY: {ADMIN_KEY}\r\nContent-Length: {length}\r\n\r\n{query}");
    // More than there are turns.
    let mut wires = Vec::new();
    for _ in 0..6 {
        let wire = gateway.connect().patient_for(Duration::from_secs(20));
        wire.stream().write_all(request.as_bytes()).expect("it listens");
        wire.stream().read_exact(&mut [0; 12]).expect("an answer begins");
        wires.push(wire);
    }
    assert_eq!(ask(&gateway, "/usage", &form_b(1, json!({}))).json()["clientMeters"][0]["groupValue"], 12_497_500, "others are answered");
    wait_for("all that was held to be given back", || (gateway.metrics().total("tollgate_answer_bytes", &[]) == 0.0).then_some(()));
    // The kernel keeps what it has of their answers; the connections are gone.
    wait_for("connections to be let go", || (gateway.metrics().total("tollgate_http_connections", &[]) <= 3.0).then_some(()));
    assert_eq!(
        ask(&gateway, "/usage", &form_b(31, json!({"groupBy": ["customerId"]}))).json()["clientMeters"].as_array().map(Vec::len),
        Some(5_000)
    );
}

#[test]
fn a_query_reads_the_rows_of_its_range_whatever_they_are_made_of() {
    let gateway = Gateway::start();
    // A year of a day of two customers each week: one event a row of one meter, 20 of the other.
    let mut events = Vec::new();
    for week in 0..52 {
        for (meter, each) in [("few", 1), ("many", 20)] {
            for (customer, at) in [("a", 0), ("b", 1)].into_iter().flat_map(|(customer, _)| (0..each).map(move |at| (customer, at))) {
                let time = DAY_0_MS - 300 * DAY_S * 1_000 + week * 7 * DAY_S * 1_000 + at;
                events.push(event(&format!("u-{week}-{meter}-{customer}-{at}")).meter(meter).customer(customer).at(time));
            }
        }
    }
    gateway.send(&events).logged(events.len());
    let begin_s = DAY_0_S - 300 * DAY_S;
    let rows_of = |days: i64, change: Value| {
        let mut query = form_b(0, change);
        query["timeRange"] = json!({"startTimeInSeconds": begin_s, "endTimeInSeconds": begin_s + days * DAY_S});
        let read = || gateway.metrics().count("tollgate_usage_rows_read_total", &[]);
        let before = read();
        ask(&gateway, "/usage", &query);
        read() - before
    };
    for (days, change, rows) in [
        (1, json!({}), 2),
        (364, json!({}), 104),
        (364, json!({"timeGroupingInterval": "HOUR"}), 104),
        (364, json!({"timeGroupingInterval": "MONTH", "timeZone": "Asia/Kathmandu"}), 104),
        (364, json!({"filter": {"customerId": "a"}}), 52),
        (14, json!({"filter": {"customerId": "a"}, "timeGroupingInterval": "WEEK"}), 2),
        (364, json!({"filter": {"customerId": "nobody"}}), 0),
    ] {
        for meter in ["few", "many"] {
            let mut change = change.clone();
            change["meterApiName"] = json!(meter);
            assert_eq!(rows_of(days, change.clone()), rows, "{days} {change}");
        }
    }
}

#[test]
fn all_meters_are_three_hundred_at_most_and_say_so() {
    let gateway = Gateway::start();
    // Names of three and of four digits: the short ones come first.
    let events: Vec<Event> = (900..1_250).map(|at| event(&format!("u-{at}")).meter(&at.to_string())).collect();
    gateway.send(&events).logged(350);
    let all = |start_s: i64, query: &str| {
        let path = format!("/usage/all?startTimeInSeconds={start_s}&endTimeInSeconds={}&timeGroupingInterval=MONTH{query}", DAY_0_S + 1);
        let answer = ok(gateway.get_with(&path, &[("prefer", "wait=30")]));
        let cut = answer.header("tollgate-meters-cut").map(str::to_owned);
        let names = answer
            .json()
            .as_array()
            .expect("reports")
            .iter()
            .map(|report| report["metadata"]["meterApiName"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>();
        (names, cut)
    };
    let (names, cut) = all(DAY_0_S, "");
    assert_eq!((names.len(), cut.as_deref()), (300, Some("true")));
    assert!(names.iter().map(|name| name.parse::<u32>().expect("a number")).eq(900..1_200), "the first of them");
    gateway.send(&[event("u-9").meter("of another customer").customer("another")]).logged(1);
    assert_eq!(all(DAY_0_S, "&customerId=another"), (vec!["of another customer".into()], None));
}
