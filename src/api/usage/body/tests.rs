//! Long answers, written while they are taken.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::clock::UnixMillis;
use crate::dialect::amberflo::usage::answer::{Gaps, NUMBERS_MAX, Report, Reports, Shape};
use crate::dialect::amberflo::usage::parse_query;
use crate::usage::memory::{MemoryRows, event};
use crate::usage::{Limits, MeterType, evaluate};

const DAY_0: i64 = 1_767_225_600;

/// A group for each customer, a day of two.
fn reports(customers: usize) -> Reports {
    let events: Vec<_> = (0..customers).map(|n| event(&format!("customer-{n}"), DAY_0, "1")).collect();
    let range = json!({"startTimeInSeconds": DAY_0, "endTimeInSeconds": DAY_0 + 172_800});
    let body = json!({"meterApiName": "tokens", "timeGroupingInterval": "DAY", "timeRange": range, "groupBy": ["customerId"]});
    let asked = parse_query(body.to_string().as_bytes(), 1, UnixMillis(0)).expect("a query");
    let answer = evaluate(&asked.query, MeterType::default(), &MemoryRows::of(&events), Limits::default()).expect("few cells");
    let mut reports = Reports::new(Shape::One, Gaps::Filled, NUMBERS_MAX);
    reports.push(Report { asked, meter_type: MeterType::default(), answer }).expect("small");
    reports
}

fn begin(reports: Reports, held: &Arc<Semaphore>) -> Result<Written, ApiError> {
    let numbers = reports.numbers_held();
    Written::begin(Box::new(reports.into_writer()), numbers, held)
}

fn permits(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count))
}

#[tokio::test]
async fn a_short_answer_says_its_length_and_holds_nothing() {
    let body = begin(reports(100), &permits(0)).expect("nothing is needed").into_body();
    assert!(body.size_hint().exact().is_some());
}

#[tokio::test]
async fn a_long_answer_goes_out_in_pieces_and_holds_its_numbers_until_it_is_taken() {
    let held = permits(13_000);
    let mut body = begin(reports(6_000), &held).expect("12,000 are free").into_body();
    assert_eq!((held.available_permits(), body.size_hint().exact()), (1_000, None));
    assert_eq!(begin(reports(6_000), &held).err().expect("no room").status.as_u16(), 503);
    assert!(begin(reports(100), &held).is_ok(), "short ones always get out");
    let (mut pieces, mut bytes) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let piece = frame.expect("a frame").into_data().expect("data");
        assert!(piece.len() <= WHOLE_BYTES_MAX + 1_000 && (pieces == 0 || piece.len() <= PIECE_BYTES + 1_000), "{}", piece.len());
        pieces += 1;
        bytes.extend_from_slice(&piece);
    }
    assert!(pieces > 5 && body.is_end_stream());
    assert_eq!(held.available_permits(), 13_000, "given back with the last piece");
    let report: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(report["clientMeters"].as_array().expect("groups").len(), 6_000);
}

#[tokio::test]
async fn a_client_that_goes_gives_back_what_its_answer_holds() {
    let held = permits(12_000);
    let mut body = begin(reports(6_000), &held).expect("all are free").into_body();
    body.frame().await.expect("a piece").expect("a frame");
    assert_eq!(held.available_permits(), 0);
    drop(body);
    assert_eq!(held.available_permits(), 12_000);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_in_time_ends_with_an_error() {
    let held = permits(12_000);
    let Written { begin, rest } = begin(reports(6_000), &held).expect("all are free");
    let (writer, permit) = rest.expect("a long one");
    let mut late = Streamed { next: Some(begin), rest: Some(Rest { writer, _held: permit }), ends: Instant::now() };
    late.frame().await.expect("what is written").expect("a frame");
    assert!(late.frame().await.expect("no end").is_err());
    assert_eq!(held.available_permits(), 12_000);
    assert!(late.frame().await.is_none());
}
