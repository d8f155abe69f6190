//! What comes over HTTP beside events: customers, questions, paths and queries.

use std::cell::Cell;

use hyper::header::HeaderMap;
use hyper::{Method, Uri};
use serde_json::Value;

use super::Kind;
use crate::api;
use crate::clock::{UnixMicros, UnixMillis};
use crate::customers::{self, Customer};
use crate::dialect::ApiError;
use crate::dialect::amberflo::customers::{AutoCreate, CustomerRequest, StageRequest, render};
use crate::dialect::amberflo::usage::answer::{Gaps, Report, Reports, Shape};
use crate::dialect::amberflo::usage::{AllMetersQuery, UsageQuery, parse_batch, parse_query};
use crate::dialect::routing::{Routed, normalise, route};
use crate::event::Amount;
use crate::store::{self, DimensionSet, Grain, KeyRange, Row, RowKey, RowSelection, Rows, Visit};
use crate::usage::{EvaluateError, LOOK_UPS_MAX, Limits, MeterType, evaluate, meters_in_range};

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
const ACCOUNT: u32 = 1;

/// What a client did wrong has a status of its own and says what it is.
fn check_refusal(error: &ApiError) {
    assert!(matches!(error.status.as_u16(), 400 | 413), "{error:?}");
    assert!(!error.code.is_empty() && !error.message.is_empty());
    let body = error.clone().into_response();
    assert_eq!(body.headers()["content-type"], "application/json");
}

fn said<T>(of: &str, result: &Result<T, ApiError>) -> String {
    match result {
        Ok(_) => format!("{of} ok"),
        Err(error) => {
            check_refusal(error);
            format!("{of} {}", error.message)
        }
    }
}

/// Bodies of `/customers`, `/customers/stage`, `/v1/reconcile` and `/v1/keys`.
pub(super) fn customers(body: &[u8]) -> Kind {
    let stage = StageRequest::parse(body);
    let ids = api::fuzz::reconcile(body);
    let key = api::fuzz::new_key(body);
    let request = CustomerRequest::parse(body);
    if let Ok(request) = &request {
        check_customer(request);
    }
    Kind::of([said("c", &request), said("s", &stage), said("r", &ids), said("k", &key)].join(" | "))
}

/// What Amberflo shows of a customer makes the same one, and changes none that is as it says.
fn check_customer(request: &CustomerRequest) {
    let mut made = Customer::new(request.id().clone(), UnixMicros(5));
    request.fill(&mut made);
    let stored = customers::fuzz::written(&made).expect("JSON");
    assert_eq!(customers::fuzz::read(&stored).expect("was written"), made);
    let shown = serde_json::to_vec(&render(&made)).expect("JSON");
    let again = CustomerRequest::parse(&shown).expect("what is shown can be sent back");
    let mut changed = made.clone();
    again.replace(&mut changed);
    assert_eq!(changed, made, "{}", String::from_utf8_lossy(&shown));
    request.replace(&mut changed);
    assert_eq!(changed, made);
}

/// Bodies of usage queries, and batches of them; the answer of each is JSON.
pub(super) fn usage(body: &[u8]) -> Kind {
    let one = parse_query(body, ACCOUNT, NOW);
    let batch = parse_batch(body, ACCOUNT, NOW);
    let mut answers = String::new();
    let asked = one.iter().chain(batch.iter().flatten());
    let look_ups: usize = batch.iter().flatten().map(|asked| asked.query.look_ups()).sum();
    assert!(look_ups <= LOOK_UPS_MAX, "{look_ups} look-ups of a batch");
    for asked in asked.take(3) {
        answers.push_str(check_answer(asked));
    }
    Kind::of([said("q", &one), said("b", &batch), answers].join(" | "))
}

fn check_answer(asked: &UsageQuery) -> &'static str {
    let rows = OneRow::default();
    let limits = Limits { groups_max: 10, cells_max: 1_000, ..Limits::default() };
    let answer = match evaluate(&asked.query, MeterType::SumOfAllUsage, &rows, limits) {
        Ok(answer) => answer,
        Err(EvaluateError::TooManyCells { .. }) => return "cells",
        Err(EvaluateError::Rows(error)) => panic!("{error}"),
    };
    assert!(rows.look_ups.get() <= LOOK_UPS_MAX.max(3), "{} look-ups", rows.look_ups.get());
    for (shape, gaps) in [(Shape::One, Gaps::Filled), (Shape::NumberedCsv, Gaps::LeftOut)] {
        let mut reports = Reports::new(shape, gaps, 20_000);
        if reports.push(Report { asked: asked.clone(), meter_type: MeterType::SumOfAllUsage, answer: answer.clone() }).is_err() {
            return "large";
        }
        let mut body = Vec::new();
        assert!(!reports.into_writer().write(&mut body, usize::MAX), "all of it");
        if shape == Shape::One {
            check_json(asked, &body);
        } else {
            assert!(body.starts_with(b"query,meter,") && body.ends_with(b"\r\n"));
        }
    }
    "answered"
}

fn check_json(asked: &UsageQuery, body: &[u8]) {
    let shown: Value = serde_json::from_slice(body).expect("JSON");
    if let Some(metadata) = shown.get("metadata") {
        assert_eq!(*metadata, serde_json::from_str::<Value>(asked.metadata.get()).expect("JSON"), "the query as it was asked");
    }
}

/// A store with one row in every selection: at its begin.
#[derive(Default)]
struct OneRow {
    look_ups: Cell<usize>,
}

impl Rows for OneRow {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), store::Error> {
        let customers = selection.customers.as_ref().map_or(1, Vec::len);
        let ranges = selection.customers.as_ref().map_or(1, |customers| customers.len() * (selection.to - selection.from) as usize);
        self.look_ups.set(self.look_ups.get() + ranges);
        if customers == 0 {
            return Ok(());
        }
        let customer = selection.customers.as_ref().and_then(|customers| customers.first()).map_or("c", String::as_str);
        let (account, meter, grain, bucket) = (selection.account, selection.meter.as_str(), selection.grain, selection.from);
        let key = RowKey { account, meter, grain, bucket, customer, partition: 0, dimensions: DimensionSet(&[0]) };
        assert!(selection.holds(&key));
        visit(key, &Row::first(Amount::ONE, UnixMicros(5), "u"))
    }

    /// Of two meters, in every range that begins with an hour or a day.
    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, store::Error> {
        let long = "n".repeat(255);
        let of_meter = |meter| {
            let dimensions = DimensionSet(&[0]);
            let key = RowKey { account: ACCOUNT, meter, grain: Grain::Hour, bucket: 0, customer: "c", partition: 0, dimensions };
            let mut bytes = Vec::new();
            key.write(&mut bytes);
            bytes
        };
        let completed = |from: &[u8], rest: &[u8]| Some([from, rest].concat()).filter(|key| RowKey::read(key).is_some());
        let in_range = |(from, to): &KeyRange| {
            let candidates =
                [completed(from, b"\x01c\0\0\0\0\0"), completed(from, b"\0\0\0\0\0"), Some(of_meter("m")), Some(of_meter(&long))];
            candidates.into_iter().flatten().find(|key| from <= key && key < to)
        };
        Ok(ranges.iter().find_map(in_range))
    }
}

/// A request's path and query.
pub(super) fn paths(input: &[u8]) -> Kind {
    let text = String::from_utf8_lossy(input);
    let (path, _) = text.split_once('?').unwrap_or((&text, ""));
    let mut kinds = vec![check_path(path)];
    if let Ok(uri) = text.parse::<Uri>() {
        assert_eq!(check_path(uri.path()), check_path(&normalise(uri.path())));
        kinds.extend(api::fuzz::queries(&uri).iter().map(|query| said("q", query)));
        if let Some(pairs) = api::fuzz::pairs(&uri) {
            kinds.extend(pairs.iter().take(2).map(|(_, value)| said("a", &AutoCreate::parse(Some(value)))));
            kinds.push(check_all_meters(&pairs));
        }
    }
    Kind::of(kinds.join(" | "))
}

fn check_path(path: &str) -> String {
    let plain = normalise(path);
    let Routed { dialect, path: routed } = route(&Method::POST, path, &HeaderMap::new());
    for normal in [&plain, &routed] {
        assert!(normal.starts_with('/') && !normal.contains("//") && (normal.len() == 1 || !normal.ends_with('/')), "{normal}");
        assert!(normal.len() <= path.len() + 1);
        assert_eq!(normalise(normal), **normal, "normalised once");
    }
    // Nothing but slashes and the prefix is taken off: a name that is escaped stays what it was.
    assert_eq!(plain.replace('/', ""), path.replace('/', ""));
    let prefix = dialect.expect("nothing is left to the body").prefix();
    let is_prefixed = plain == prefix || plain.starts_with(&format!("{prefix}/"));
    assert_eq!(routed.len() < plain.len(), is_prefixed, "{plain} {routed}");
    format!("{} {is_prefixed} {dialect:?}", routed.matches('/').count().min(9))
}

fn check_all_meters(pairs: &[(String, String)]) -> String {
    let asked = AllMetersQuery::parse(pairs, ACCOUNT, NOW);
    if let Ok(asked) = &asked {
        let rows = OneRow::default();
        let customers = asked.view_request().customers;
        for meter in meters_in_range(&rows, ACCOUNT, asked.buckets().hours(), customers.as_deref(), 9).expect("rows in memory").names {
            let one = asked.of_meter(&meter, MeterType::SumOfAllUsage).expect("a meter's name");
            let again = parse_query(one.metadata.get().as_bytes(), ACCOUNT, NOW).expect("the body that would ask it");
            assert_eq!(again.query.buckets(), one.query.buckets());
            assert_eq!(again.query.group_by(), one.query.group_by());
        }
    }
    said("all", &asked)
}
