//! Queries read and answers written, by the examples of the contract and beside them.

use proptest::prelude::*;

use super::answer::{Gaps, Report, Reports, Shape};
use super::*;
use crate::usage::memory::{ACCOUNT, Event, MemoryRows, event};
use crate::usage::{Limits, evaluate, meters_in_range};

const DAY_0: i64 = 1_767_225_600;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// In the second day.
const NOW: UnixMillis = UnixMillis((DAY_0 + DAY + HOUR) * 1_000);

fn parse(body: &str) -> Result<UsageQuery, ApiError> {
    parse_query(body.as_bytes(), ACCOUNT, NOW)
}

fn refusal(body: &str) -> String {
    let error = parse(body).expect_err("no query");
    assert_eq!((error.status.as_u16(), error.code), (400, "BAD_REQUEST"));
    error.details.unwrap_or(error.message)
}

fn reports_of(events: &[Event], asked: &[UsageQuery], shape: Shape, gaps: Gaps) -> Reports {
    let mut reports = Reports::new(shape, gaps, 1_000_000);
    for asked in asked {
        let answer = evaluate(&asked.query, MeterType::default(), &MemoryRows::of(events), Limits::default()).expect("few cells");
        reports.push(Report { asked: asked.clone(), meter_type: MeterType::default(), answer }).expect("small");
    }
    reports
}

/// The body, whatever it is cut into.
fn written(reports: Reports, piece_bytes: usize) -> String {
    let mut writer = reports.into_writer();
    let mut body = Vec::new();
    loop {
        let mut piece = Vec::new();
        let has_more = writer.write(&mut piece, piece_bytes);
        body.extend(piece);
        if !has_more {
            return String::from_utf8(body).expect("UTF-8");
        }
    }
}

fn answered(events: &[Event], asked: &UsageQuery, gaps: Gaps) -> String {
    written(reports_of(events, std::slice::from_ref(asked), Shape::One, gaps), 1)
}

fn answer(events: &[Event], body: &str) -> String {
    answered(events, &parse(body).expect("a query"), Gaps::Filled)
}

// --- The examples of the contract -----------------------------------------------------------------------------------

#[test]
fn form_a_is_answered_as_in_the_contract() {
    let events = [event("acme-7", DAY_0 + HOUR, "10"), event("acme-7", DAY_0 + 5 * HOUR, "2.5")];
    let query = r#"{"meterApiName":"tokens","startTimeInSeconds":1767225600,"endTimeInSeconds":1767312000,
        "aggregation":"SUM","timeGroupingInterval":"DAY","groupBy":["customerId"]}"#;
    insta::assert_snapshot!(
        answer(&events, query),
        @r#"{"clientMeters":{"tokens":[{"groupInfo":{"customerId":"acme-7"},"records":[{"1767225600":12.5}]}]}}"#
    );
    insta::assert_snapshot!(answer(&[], query), @r#"{"clientMeters":{"tokens":[]}}"#);
}

#[test]
fn form_b_is_answered_as_in_the_contract() {
    let query = r#"{"meterApiName":"tokens","aggregation":"SUM","timeGroupingInterval":"DAY","timeRange":{"startTimeInSeconds":1767225600},"groupBy":["customerId"]}"#;
    let events = [event("acme-7", DAY_0 + HOUR, "12.5")];
    insta::assert_snapshot!(
        answer(&events, query),
        @r#"{"metadata":{"meterApiName":"tokens","aggregation":"SUM","timeGroupingInterval":"DAY","timeRange":{"startTimeInSeconds":1767225600},"groupBy":["customerId"]},"secondsSinceEpochIntervals":[1767225600,1767312000],"clientMeters":[{"group":{"groupInfo":{"customerId":"acme-7"}},"groupValue":12.5,"values":[{"value":12.5,"secondsSinceEpochUtc":1767225600,"percentageFromPrevious":0},{"value":0,"secondsSinceEpochUtc":1767312000,"percentageFromPrevious":-100}]}]}"#
    );
    insta::assert_snapshot!(
        answer(&[], query),
        @r#"{"metadata":{"meterApiName":"tokens","aggregation":"SUM","timeGroupingInterval":"DAY","timeRange":{"startTimeInSeconds":1767225600},"groupBy":["customerId"]},"secondsSinceEpochIntervals":[1767225600,1767312000],"clientMeters":[]}"#
    );
}

#[test]
fn the_workflow_is_answered_as_in_the_contract() {
    let events = [event("acme-7", DAY_0 + 6 * HOUR, "3").meter("api-calls"), event("other", DAY_0, "1").meter("api-calls")];
    let query = r#"{"meterApiName":"api-calls","startTimeInSeconds":1767225600,"endTimeInSeconds":1767312000,"aggregation":"SUM",
        "timeGroupingInterval":"DAY","groupBy":["customerId"],"customerFilter":["acme-7"],"filter":null,"timeRange":null}"#;
    insta::assert_snapshot!(
        answer(&events, query),
        @r#"{"clientMeters":{"api-calls":[{"groupInfo":{"customerId":"acme-7"},"records":[{"1767225600":3}]}]}}"#
    );
}

#[test]
fn a_sparse_answer_leaves_out_the_gaps_and_changes_no_number() {
    let hours = [(0, "3"), (1, "6"), (3, "9"), (4, "3")];
    let hours = hours.map(|(hour, value)| event("acme-7", DAY_0 + hour * HOUR, value).dimensions(&[("région", "\"eu\"")]));
    let body = r#"{"meterApiName":"tokens","timeGroupingInterval":"hour","timeRange":{"startTimeInSeconds":1767225600,"endTimeInSeconds":1767247200},"groupBy":["région"]}"#;
    let mut asked = parse(body).expect("a query");
    asked.metadata = serde_json::value::to_raw_value(&()).expect("null");
    insta::assert_snapshot!(
        answered(&hours, &asked, Gaps::LeftOut),
        @r#"{"metadata":null,"secondsSinceEpochIntervals":[1767225600,1767229200,1767232800,1767236400,1767240000,1767243600],"clientMeters":[{"group":{"groupInfo":{"région":"\"eu\""}},"groupValue":21,"values":[{"value":3,"secondsSinceEpochUtc":1767225600,"percentageFromPrevious":0},{"value":6,"secondsSinceEpochUtc":1767229200,"percentageFromPrevious":100},{"value":9,"secondsSinceEpochUtc":1767236400,"percentageFromPrevious":0},{"value":3,"secondsSinceEpochUtc":1767240000,"percentageFromPrevious":-66.666666666667}]}]}"#
    );
}

#[test]
fn all_meters_are_reports_of_form_b() {
    let events = [event("acme-7", DAY_0, "3"), event("zeta-1", DAY_0, "0.5").meter("calls"), event("zeta-1", DAY_0 - 1, "1").meter("old")];
    let all = |parameters: &[(&str, &str)]| {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let asked = AllMetersQuery::parse(&parameters, ACCOUNT, NOW).expect("a query");
        let rows = MemoryRows::of(&events);
        let customers = asked.view_request().customers;
        let meters = meters_in_range(&rows, ACCOUNT, asked.buckets().hours(), customers.as_deref(), 9).expect("rows").names;
        let asked: Vec<_> = meters.iter().map(|meter| asked.of_meter(meter, MeterType::default()).expect("a meter")).collect();
        written(reports_of(&events, &asked, Shape::Array, Gaps::Filled), 100)
    };
    insta::assert_snapshot!(
        all(&[("startTimeInSeconds", "1767225600"), ("timeGroupingInterval", "Week"), ("endTimeInSeconds", "1767225601.0"), ("groupBy", "customerId")]),
        @r#"[{"metadata":{"aggregation":"SUM","groupBy":["customerId"],"meterApiName":"calls","timeGroupingInterval":"Week","timeRange":{"endTimeInSeconds":1767225601.0,"startTimeInSeconds":1767225600}},"secondsSinceEpochIntervals":[1766966400],"clientMeters":[{"group":{"groupInfo":{"customerId":"zeta-1"}},"groupValue":0.5,"values":[{"value":0.5,"secondsSinceEpochUtc":1766966400,"percentageFromPrevious":0}]}]},{"metadata":{"aggregation":"SUM","groupBy":["customerId"],"meterApiName":"tokens","timeGroupingInterval":"Week","timeRange":{"endTimeInSeconds":1767225601.0,"startTimeInSeconds":1767225600}},"secondsSinceEpochIntervals":[1766966400],"clientMeters":[{"group":{"groupInfo":{"customerId":"acme-7"}},"groupValue":3,"values":[{"value":3,"secondsSinceEpochUtc":1766966400,"percentageFromPrevious":0}]}]}]"#
    );
    insta::assert_snapshot!(
        all(&[("customerId", "zeta-1"), ("timeGroupingInterval", "day"), ("startTimeInSeconds", "1767225600"), ("endTimeInSeconds", "")]),
        @r#"[{"metadata":{"aggregation":"SUM","filter":{"customerId":["zeta-1"]},"meterApiName":"calls","timeGroupingInterval":"day","timeRange":{"startTimeInSeconds":1767225600}},"secondsSinceEpochIntervals":[1767225600,1767312000],"clientMeters":[{"group":{"groupInfo":{}},"groupValue":0.5,"values":[{"value":0.5,"secondsSinceEpochUtc":1767225600,"percentageFromPrevious":0},{"value":0,"secondsSinceEpochUtc":1767312000,"percentageFromPrevious":-100}]}]}]"#
    );
    let too_long = "c".repeat(256);
    assert_eq!(all(&[("customerId", &too_long), ("timeGroupingInterval", "day"), ("startTimeInSeconds", "1767225600")]), "[]");
    insta::assert_snapshot!(all(&[("customerId", "nobody"), ("timeGroupingInterval", "day"), ("startTimeInSeconds", "1767225600")]), @"[]");
}

// --- Reading --------------------------------------------------------------------------------------------------------

#[test]
fn the_time_range_decides_the_form() {
    let form = |range: &str| {
        let body = format!(
            r#"{{"meterApiName":"m","aggregation":"sum","timeGroupingInterval":"Day","startTimeInSeconds":0,"endTimeInSeconds":3600{range}}}"#
        );
        parse(&body).expect("a query").form
    };
    assert_eq!(form(""), Form::A);
    assert_eq!(form(r#","timeRange":null"#), Form::A);
    assert_eq!(form(r#","timeRange":{"startTimeInSeconds":1}"#), Form::B);
}

#[test]
fn the_query_comes_back_as_it_was_sent() {
    let body = "{\"meterApiName\" : \"m\", \"timeGroupingInterval\":\"dAy\",\n \"timeRange\":{\"startTimeInSeconds\":1.7672256E9}, \"mine\":[1.50,null]}";
    let asked = parse(&format!("  {body}\n")).expect("a query");
    assert_eq!(asked.metadata.get(), body);
    assert_eq!(asked.query.buckets().starts(), [DAY_0, DAY_0 + DAY]);
}

#[test]
fn filters_take_one_value_or_several() {
    let query = |members: &str| {
        let body = format!(r#"{{"meterApiName":"m","timeGroupingInterval":"DAY","timeRange":{{"startTimeInSeconds":0}},{members}}}"#);
        parse(&body).expect("a query").query
    };
    let one = query(r#""filter":{"customerId":"a","region":"eu"}"#);
    assert_eq!(one, query(r#""filter":{"customerId":["a","a"],"region":["eu"],"tier":null,"model":[]},"groupBy":[],"take":null"#));
    assert_ne!(one, query(r#""filter":{"customerId":["a","b"],"region":["eu"]}"#));
    assert_eq!(query(r#""groupBy":["customerId","x","x"]"#).group_by(), [Field::Customer, Field::Dimension("x".into())]);

    let flat = |members: &str| {
        let body = format!(
            r#"{{"meterApiName":"m","timeGroupingInterval":"DAY","aggregation":"MAX","startTimeInSeconds":0,"endTimeInSeconds":1,{members}}}"#
        );
        parse(&body).expect("a query").query.view_request().customers
    };
    assert_eq!(flat(r#""customerFilter":["b","a"]"#), Some(vec!["a".into(), "b".into()]));
    assert_eq!(flat(r#""customerFilter":["b","a"],"filter":{"customerId":"b"}"#), Some(vec!["b".into()]));
    assert_eq!(flat(r#""customerFilter":null"#), None);
}

#[test]
fn a_refusal_names_the_field() {
    insta::assert_snapshot!(refusal("nope"), @"the body is not JSON: expected ident at line 1 column 2");
    insta::assert_snapshot!(refusal("[]"), @"the body must be an object");
    insta::assert_snapshot!(refusal("{}"), @"startTimeInSeconds is missing");
    let with = |change: &str| {
        let mut body =
            json!({"meterApiName":"m","aggregation":"SUM","timeGroupingInterval":"DAY","startTimeInSeconds":0,"endTimeInSeconds":3600});
        let change: Map<String, Value> = serde_json::from_str(change).expect("an object");
        body.as_object_mut().expect("an object").extend(change);
        refusal(&body.to_string())
    };
    let long = "x".repeat(256);
    let changes = [
        r#"{"meterApiName":null}"#,
        r#"{"meterApiName":7}"#,
        r#"{"meterApiName":""}"#,
        &format!(r#"{{"meterApiName":"{long}"}}"#),
        r#"{"aggregation":null}"#,
        r#"{"aggregation":"AVERAGE"}"#,
        r#"{"timeGroupingInterval":"YEAR"}"#,
        r#"{"timeGroupingInterval":"HOUR","endTimeInSeconds":400000000}"#,
        r#"{"timeZone":"Mars/Olympus"}"#,
        r#"{"timeZone":7}"#,
        r#"{"timeZone":"Asia/Tokyo","timeGroupingInterval":"WEEK","endTimeInSeconds":7000000000}"#,
        r#"{"startTimeInSeconds":"0"}"#,
        r#"{"startTimeInSeconds":0.5}"#,
        r#"{"startTimeInSeconds":-1}"#,
        r#"{"startTimeInSeconds":1767225600000,"endTimeInSeconds":1767225600001}"#,
        r#"{"endTimeInSeconds":null}"#,
        r#"{"endTimeInSeconds":0}"#,
        r#"{"filter":[]}"#,
        r#"{"filter":{"region":7}}"#,
        r#"{"filter":{"region":["eu",null]}}"#,
        r#"{"customerFilter":{}}"#,
        r#"{"groupBy":["a","b","c","d","e","f","g","h","i","j","k"]}"#,
        r#"{"timeRange":7}"#,
        r#"{"timeRange":{}}"#,
        r#"{"timeRange":{"startTimeInSeconds":true}}"#,
        r#"{"timeRange":{"startTimeInSeconds":5,"endTimeInSeconds":5}}"#,
        r#"{"timeRange":{"startTimeInSeconds":1767319200}}"#,
        r#"{"timeRange":{"startTimeInSeconds":0},"take":{}}"#,
        r#"{"timeRange":{"startTimeInSeconds":0},"take":{"limit":0}}"#,
        r#"{"timeRange":{"startTimeInSeconds":0},"take":{"limit":-1}}"#,
        r#"{"timeRange":{"startTimeInSeconds":0},"take":{"limit":1e30}}"#,
        r#"{"timeRange":{"startTimeInSeconds":0},"take":{"limit":1,"isAscending":"no"}}"#,
    ];
    let refusals: Vec<String> = changes.iter().map(|change| format!("{} => {}", change.replace(&long, "…"), with(change))).collect();
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    {"meterApiName":null} => meterApiName is missing
    {"meterApiName":7} => meterApiName must be a string
    {"meterApiName":""} => meterApiName must not be empty
    {"meterApiName":"…"} => meterApiName has more than 255 bytes, the limit
    {"aggregation":null} => aggregation is missing
    {"aggregation":"AVERAGE"} => aggregation must be one of SUM, MIN, MAX, COUNT, AVG, LATEST, UNIQUE
    {"timeGroupingInterval":"YEAR"} => timeGroupingInterval must be one of HOUR, DAY, WEEK, MONTH
    {"timeGroupingInterval":"HOUR","endTimeInSeconds":400000000} => timeGroupingInterval cuts the range into more than 100000 buckets, the limit
    {"timeZone":"Mars/Olympus"} => timeZone must be the name of a time zone in the IANA database, such as Europe/Berlin
    {"timeZone":7} => timeZone must be a string
    {"timeZone":"Asia/Tokyo","timeGroupingInterval":"WEEK","endTimeInSeconds":7000000000} => timeGroupingInterval cuts the range into more than 10000 weeks or months of a time zone, the limit
    {"startTimeInSeconds":"0"} => startTimeInSeconds must be a whole number
    {"startTimeInSeconds":0.5} => startTimeInSeconds must be a whole number
    {"startTimeInSeconds":-1} => startTimeInSeconds must be between 0 and 253402300800, in seconds since 1970
    {"startTimeInSeconds":1767225600000,"endTimeInSeconds":1767225600001} => startTimeInSeconds must be between 0 and 253402300800, in seconds since 1970
    {"endTimeInSeconds":null} => endTimeInSeconds is missing
    {"endTimeInSeconds":0} => endTimeInSeconds must be after the start
    {"filter":[]} => filter must be an object
    {"filter":{"region":7}} => filter.region must be a string or an array of strings
    {"filter":{"region":["eu",null]}} => filter.region must be a string or an array of strings
    {"customerFilter":{}} => customerFilter must be a string or an array of strings
    {"groupBy":["a","b","c","d","e","f","g","h","i","j","k"]} => groupBy has more than 10 keys, the limit
    {"timeRange":7} => timeRange must be an object
    {"timeRange":{}} => timeRange.startTimeInSeconds is missing
    {"timeRange":{"startTimeInSeconds":true}} => timeRange.startTimeInSeconds must be a whole number
    {"timeRange":{"startTimeInSeconds":5,"endTimeInSeconds":5}} => timeRange.endTimeInSeconds must be after the start
    {"timeRange":{"startTimeInSeconds":1767319200}} => timeRange.endTimeInSeconds must be after the start
    {"timeRange":{"startTimeInSeconds":0},"take":{}} => take.limit is missing
    {"timeRange":{"startTimeInSeconds":0},"take":{"limit":0}} => take.limit must be a positive whole number
    {"timeRange":{"startTimeInSeconds":0},"take":{"limit":-1}} => take.limit must be a positive whole number
    {"timeRange":{"startTimeInSeconds":0},"take":{"limit":1e30}} => take.limit must be a whole number
    {"timeRange":{"startTimeInSeconds":0},"take":{"limit":1,"isAscending":"no"}} => take.isAscending must be true or false
    "#);
}

#[test]
fn a_batch_names_the_query_as_well() {
    let good = r#"{"meterApiName":"m","timeGroupingInterval":"DAY","timeRange":{"startTimeInSeconds":0}}"#;
    let batch = |queries: &[&str]| {
        let body = format!("[{}]", queries.join(","));
        parse_batch(body.as_bytes(), ACCOUNT, NOW).map(|queries| queries.len()).map_err(|error| error.details.unwrap_or(error.message))
    };
    assert_eq!(batch(&[]), Ok(0));
    assert_eq!(batch(&[good; 100]), Ok(100));
    assert_eq!(batch(&[good; 101]), Err("the batch has 101 queries, the limit is 100".into()));
    assert_eq!(batch(&[good, "7"]), Err("[1] must be an object".into()));
    let bad = r#"{"meterApiName":"m","timeGroupingInterval":"DAY","timeRange":{}}"#;
    assert_eq!(batch(&[good, good, bad]), Err("[2].timeRange.startTimeInSeconds is missing".into()));
    let single = parse_batch(good.as_bytes(), ACCOUNT, NOW).expect_err("no array");
    assert_eq!(single.message, "the body must be an array of usage queries");
}

#[test]
fn the_parameters_of_all_meters_are_checked() {
    let refusal = |parameters: &[(&str, &str)]| {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        AllMetersQuery::parse(&parameters, ACCOUNT, NOW).expect_err("no query").details
    };
    let (start, interval) = (("startTimeInSeconds", "0"), ("timeGroupingInterval", "DAY"));
    insta::assert_snapshot!(
        [
            refusal(&[interval]),
            refusal(&[start]),
            refusal(&[("startTimeInSeconds", "soon"), interval]),
            refusal(&[start, interval, ("endTimeInSeconds", "0")]),
            refusal(&[start, interval, ("groupBy", "region")]),
            refusal(&[start, interval, ("customerId", "a"), ("customerId", "b")]),
            refusal(&[start, interval, ("timeZone", "Mars/Olympus")]),
        ]
        .map(Option::unwrap_or_default)
        .join("\n"),
        @r#"
        startTimeInSeconds is missing
        timeGroupingInterval is missing
        startTimeInSeconds must be a whole number
        endTimeInSeconds must be after the start
        groupBy must be one of customerId
        customerId is given twice
        timeZone must be the name of a time zone in the IANA database, such as Europe/Berlin
        "#
    );
}

// --- Writing --------------------------------------------------------------------------------------------------------

#[test]
fn an_answer_past_its_limit_is_none() {
    let asked =
        parse(r#"{"meterApiName":"tokens","timeGroupingInterval":"DAY","timeRange":{"startTimeInSeconds":0},"groupBy":["customerId"]}"#);
    let asked = asked.expect("a query");
    let fits = |events: &[Event], shape, gaps, numbers_max| {
        let answer = evaluate(&asked.query, MeterType::default(), &MemoryRows::of(events), Limits::default()).expect("few cells");
        let mut reports = Reports::new(shape, gaps, numbers_max);
        reports.push(Report { asked: asked.clone(), meter_type: MeterType::default(), answer }).map_err(|error| error.numbers_max)
    };
    let days = (DAY_0 / DAY) as usize + 2;
    assert_eq!(fits(&[], Shape::Array, Gaps::Filled, days), Ok(()), "the begins of 20,456 days");
    assert_eq!(fits(&[], Shape::Array, Gaps::Filled, days - 1), Err(days - 1));
    let events = [event("a", DAY_0, "1"), event("b", DAY_0, "1")];
    assert_eq!(fits(&events, Shape::One, Gaps::Filled, 3 * days), Ok(()));
    assert_eq!(fits(&events, Shape::One, Gaps::Filled, 3 * days - 1), Err(3 * days - 1));
    assert_eq!(fits(&events, Shape::One, Gaps::LeftOut, days + 2), Ok(()));
    assert_eq!(fits(&events, Shape::Csv, Gaps::Filled, 2 * days), Ok(()));
    assert_eq!(fits(&events, Shape::Csv, Gaps::LeftOut, 1), Err(1));
}

// --- CSV ------------------------------------------------------------------------------------------------------------

/// As CSV with the query's number, or without for one query.
fn csv(events: &[Event], queries: &[Value], gaps: Gaps) -> String {
    let asked: Vec<UsageQuery> = queries.iter().map(|query| parse(&query.to_string()).expect("a query")).collect();
    let shape = if asked.len() == 1 { Shape::Csv } else { Shape::NumberedCsv };
    written(reports_of(events, &asked, shape, gaps), 10).replace("\r\n", "\n")
}

#[test]
fn csv_has_a_line_for_each_group_and_bucket() {
    let events = [
        event("acme, \"inc\"", DAY_0, "0.1").dimensions(&[("region", "eu\nwest")]),
        event("acme, \"inc\"", DAY_0 + DAY, "99999999999999999999.999999999999").dimensions(&[("region", "eu\nwest")]),
        event("=1+1", DAY_0 + DAY, "-2"),
    ];
    let range = json!({"startTimeInSeconds":DAY_0,"endTimeInSeconds":DAY_0 + 2 * DAY});
    let grouped = json!({"meterApiName":"tokens","timeGroupingInterval":"DAY","timeRange":range,"groupBy":["customerId","region"]});
    insta::assert_snapshot!(csv(&events, std::slice::from_ref(&grouped), Gaps::Filled), @r#"
    meter,aggregation,customerId,region,start,value
    tokens,SUM,"acme, ""inc""","eu
    west",2026-01-01T00:00:00Z,0.1
    tokens,SUM,"acme, ""inc""","eu
    west",2026-01-02T00:00:00Z,99999999999999999999.999999999999
    tokens,SUM,=1+1,,2026-01-01T00:00:00Z,0
    tokens,SUM,=1+1,,2026-01-02T00:00:00Z,-2
    "#);
    insta::assert_snapshot!(csv(&events, std::slice::from_ref(&grouped), Gaps::LeftOut), @r#"
    meter,aggregation,customerId,region,start,value
    tokens,SUM,"acme, ""inc""","eu
    west",2026-01-01T00:00:00Z,0.1
    tokens,SUM,"acme, ""inc""","eu
    west",2026-01-02T00:00:00Z,99999999999999999999.999999999999
    tokens,SUM,=1+1,,2026-01-02T00:00:00Z,-2
    "#);
    insta::assert_snapshot!(csv(&[], std::slice::from_ref(&grouped), Gaps::Filled), @"meter,aggregation,customerId,region,start,value");
    let flat = json!({"meterApiName":"tokens","aggregation":"count","timeGroupingInterval":"MONTH","timeZone":"Asia/Kolkata",
        "startTimeInSeconds":DAY_0,"endTimeInSeconds":DAY_0 + 2 * DAY});
    let by_region =
        json!({"meterApiName":"tokens","timeGroupingInterval":"WEEK","timeZone":"America/New_York","timeRange":range,"groupBy":["region"]});
    insta::assert_snapshot!(csv(&events, &[grouped, flat, by_region], Gaps::LeftOut), @r#"
    query,meter,aggregation,customerId,region,start,value
    0,tokens,SUM,"acme, ""inc""","eu
    west",2026-01-01T00:00:00Z,0.1
    0,tokens,SUM,"acme, ""inc""","eu
    west",2026-01-02T00:00:00Z,99999999999999999999.999999999999
    0,tokens,SUM,=1+1,,2026-01-02T00:00:00Z,-2
    1,tokens,COUNT,,,2025-12-31T23:30:00+05:30,3
    2,tokens,SUM,,"eu
    west",2025-12-29T00:00:00-05:00,100000000000000000000.099999999999
    2,tokens,SUM,,,2025-12-29T00:00:00-05:00,-2
    "#);
}

/// The numbers of a JSON text, as they are written.
fn numbers(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| numbers(item, found)),
        Value::Object(members) => members.values().for_each(|member| numbers(member, found)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

proptest! {
    #[test]
    fn a_body_is_the_same_however_it_is_cut(values in proptest::collection::vec(0_i64..99, 0..30), piece in 1_usize..3_000, shape in 0_usize..4, gaps in any::<bool>()) {
        let events: Vec<Event> = values.iter().map(|n| event(&format!("c-{}", n % 5), DAY_0 + n * HOUR, "1.5")).collect();
        let range = json!({"startTimeInSeconds":DAY_0,"endTimeInSeconds":DAY_0 + 3 * DAY});
        let one = json!({"meterApiName":"tokens","timeGroupingInterval":"HOUR","timeRange":range,"groupBy":["customerId"]});
        let other = json!({"meterApiName":"tokens","aggregation":"MAX","timeGroupingInterval":"DAY","startTimeInSeconds":DAY_0,"endTimeInSeconds":DAY_0 + DAY});
        let shape = [Shape::One, Shape::Array, Shape::Csv, Shape::NumberedCsv][shape];
        let asked = if matches!(shape, Shape::One | Shape::Csv) { vec![one] } else { vec![one, other] };
        let asked: Vec<UsageQuery> = asked.iter().map(|query| parse(&query.to_string()).expect("a query")).collect();
        let gaps = if gaps { Gaps::Filled } else { Gaps::LeftOut };
        let whole = written(reports_of(&events, &asked, shape, gaps), usize::MAX);
        prop_assert_eq!(written(reports_of(&events, &asked, shape, gaps), piece), whole.clone());
        if matches!(shape, Shape::One | Shape::Array) {
            prop_assert!(serde_json::from_str::<Value>(&whole).is_ok());
        }
    }

    #[test]
    fn no_number_has_an_exponent_or_a_trailing_zero(values in proptest::collection::vec("-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,13})?", 1..9), gaps in any::<bool>(), interval in 0_usize..4) {
        let events: Vec<Event> = values.iter().enumerate().map(|(n, value)| event("a", DAY_0 + n as i64 * 7 * HOUR, value)).collect();
        let body = json!({"meterApiName":"tokens","timeGroupingInterval":INTERVALS[interval].0,"timeRange":{"startTimeInSeconds":DAY_0,"endTimeInSeconds":DAY_0 + 4 * DAY}});
        let asked = parse(&body.to_string()).expect("a query");
        let text = answered(&events, &asked, if gaps { Gaps::LeftOut } else { Gaps::Filled });
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let mut found = Vec::new();
        numbers(&answer["clientMeters"], &mut found);
        prop_assert!(!found.is_empty());
        for number in found {
            prop_assert!(!number.contains(['e', 'E', '+']), "{}", number);
            prop_assert!(!number.contains('.') || !number.ends_with(['0', '.']), "{}", number);
            prop_assert!(number != "-0");
        }
    }
}

// --- What is ours ---------------------------------------------------------------------------------------------------

#[test]
fn what_amberflo_does_not_compute_is_asked_for_in_both_forms() {
    let day = "\"startTimeInSeconds\":1767225600,\"endTimeInSeconds\":1767312000";
    let forms = [
        format!(r#"{{"meterApiName":"tokens","timeGroupingInterval":"DAY",{day},WHAT}}"#),
        format!(r#"{{"meterApiName":"tokens","timeGroupingInterval":"DAY","timeRange":{{{day}}},WHAT}}"#),
    ];
    let events = [
        event("a", DAY_0, "1").dimensions(&[("user", "u-1")]),
        event("b", DAY_0 + HOUR, "1").dimensions(&[("user", "u-2")]),
        event("b", DAY_0 + 2 * HOUR, "0").dimensions(&[("user", "u-1")]),
    ];
    for form in forms {
        let asked = |what: &str| form.replace("WHAT", what);
        for (what, number) in [
            (r#""aggregation":"avg""#, "0.666666666667"),
            (r#""aggregation":"Latest""#, "0"),
            (r#""aggregation":"unique","uniqueDimension":"user""#, "2"),
            (r#""aggregation":"UNIQUE","uniqueDimension":"customerId""#, "2"),
            (r#""aggregation":"UNIQUE","uniqueDimension":"nobody-has-it""#, "0"),
        ] {
            let answer = answer(&events, &asked(what));
            assert!(answer.contains(&format!(":{number}}}")) || answer.contains(&format!("\"groupValue\":{number},")), "{what}: {answer}");
            assert!(!answer.contains("approximate"), "{answer}");
        }
        let missing = "uniqueDimension is missing: whose different values are counted?";
        for (what, reason) in [
            (r#""aggregation":"UNIQUE""#, missing),
            (r#""aggregation":"UNIQUE","uniqueDimension":null"#, missing),
            (r#""aggregation":"UNIQUE","uniqueDimension":"""#, "uniqueDimension must not be empty"),
            (r#""aggregation":"UNIQUE","uniqueDimension":7"#, "uniqueDimension must be a string"),
            (r#""aggregation":"SUM","uniqueDimension":"user""#, "uniqueDimension is for the aggregation UNIQUE"),
            (r#""aggregation":"MEDIAN""#, "aggregation must be one of SUM, MIN, MAX, COUNT, AVG, LATEST, UNIQUE"),
        ] {
            assert_eq!(refusal(&asked(what)), reason, "{what}");
        }
    }
}

#[test]
fn a_group_that_is_not_exact_says_so_in_form_b() {
    let lost = event("a", DAY_0, "1").dimensions(&[("user", "u-1")]).overflow();
    let events = [lost, event("b", DAY_0, "1").dimensions(&[("user", "u-1")])];
    let body = r#"{"meterApiName":"tokens","aggregation":"UNIQUE","uniqueDimension":"user","timeGroupingInterval":"DAY","timeRange":{"startTimeInSeconds":1767225600,"endTimeInSeconds":1767225601},"groupBy":["customerId"]}"#;
    let mut asked = parse(body).expect("a query");
    asked.metadata = serde_json::value::to_raw_value(&()).expect("null");
    insta::assert_snapshot!(
        answered(&events, &asked, Gaps::LeftOut),
        @r#"{"metadata":null,"secondsSinceEpochIntervals":[1767225600],"clientMeters":[{"group":{"groupInfo":{"customerId":"a"}},"groupValue":1,"approximate":{"standardError":0.0163},"values":[{"value":1,"secondsSinceEpochUtc":1767225600,"percentageFromPrevious":0}]},{"group":{"groupInfo":{"customerId":"b"}},"groupValue":1,"values":[{"value":1,"secondsSinceEpochUtc":1767225600,"percentageFromPrevious":0}]}]}"#
    );
    let old = MemoryRows::of(&events).without_sketches();
    let answer = evaluate(&asked.query, MeterType::default(), &old, Limits::default()).expect("few cells");
    let mut reports = Reports::new(Shape::One, Gaps::LeftOut, 100);
    reports.push(Report { asked, meter_type: MeterType::default(), answer }).expect("small");
    let body = written(reports, 1);
    assert!(body.contains(r#""groupValue":0,"approximate":{"lowerBound":true},"#), "{body}");
}
