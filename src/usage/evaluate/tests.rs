//! The evaluation against a slow and obvious one over the raw events, and its limits.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;

use ethnum::I256;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZoneDatabase;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::event::Amount;
use crate::sketch::{Sketch, ValueHash};
use crate::store::RowSelection;
use crate::store::row::{DAY_S, HOUR_S};
use crate::usage::calendar::tests::{bucket_of, dates, intervals, zones};
use crate::usage::memory::{ACCOUNT, Event, MemoryRows, event};
use crate::usage::reading::meters_in_range;
use crate::usage::{Aggregation, Buckets, Draft, Interval, TimeRange, Zone};

/// 2026-01-01, a Thursday.
const DAY_0: i64 = 1_767_225_600;

#[derive(Debug, Clone)]
struct Question {
    start_s: i64,
    length_s: i64,
    interval: Interval,
    zone: String,
    meter_type: MeterType,
    aggregation: Option<Aggregation>,
    filters: Vec<(Field, Vec<String>)>,
    group_by: Vec<Field>,
    take: Option<Take>,
}

impl Question {
    fn query(&self) -> Query {
        let range = TimeRange::new(self.start_s, self.start_s + self.length_s).expect("a range");
        Query::check(Draft {
            account: ACCOUNT,
            meter: "tokens".into(),
            aggregation: self.aggregation.clone(),
            buckets: Buckets::new(range, self.interval, Zone::find(&self.zone).expect("a zone")).expect("few buckets"),
            filters: self.filters.clone(),
            group_by: self.group_by.clone(),
            take: self.take,
        })
        .expect("a query")
    }
}

/// All of the meter in the first `days` days, as one group a day.
fn everything(days: i64) -> Question {
    Question {
        start_s: DAY_0,
        length_s: days * DAY_S,
        interval: Interval::Day,
        zone: "UTC".into(),
        meter_type: MeterType::SumOfAllUsage,
        aggregation: None,
        filters: Vec::new(),
        group_by: Vec::new(),
        take: None,
    }
}

fn dimension(name: &str) -> Field {
    Field::Dimension(name.into())
}

fn answer(events: &[Event], question: &Question) -> Answer {
    evaluate(&question.query(), question.meter_type, &MemoryRows::of(events), Limits::default()).expect("few cells")
}

// --- The oracle -----------------------------------------------------------------------------------------------------

/// What is answered: start and end, in s. The end may be moved down to where a local hour began.
fn answered(question: &Question) -> (i64, i64) {
    let zone = TimeZoneDatabase::bundled().get(&question.zone).expect("a zone");
    let (start_s, end_s) = (question.start_s, question.start_s + question.length_s);
    let (start_hour, down) = (start_s.div_euclid(3_600) * 3_600, end_s.div_euclid(3_600) * 3_600);
    let up = if down == end_s { end_s } else { down + 3_600 };
    let local = zone.to_datetime(Timestamp::from_second(end_s).expect("a time"));
    let is_local_hour = local.minute() == 0 && local.second() == 0;
    (start_hour, if is_local_hour && down > start_hour { down } else { up })
}

/// Begin of each hour's bucket, by walking over all hours from before the first bucket on with another calendar.
fn bucket_starts(question: &Question) -> BTreeMap<i64, i64> {
    let (start_s, end_s) = answered(question);
    let mut begun: Option<(Date, i64)> = None;
    let hours = dates(&question.zone, start_s - 34 * DAY_S, end_s, &[3_599]).into_iter().map(|(hour, date)| {
        let bucket = bucket_of(date, question.interval);
        let start = begun.filter(|(begun, _)| *begun == bucket && question.interval != Interval::Hour).map_or(hour, |(_, start)| start);
        begun = Some((bucket, start));
        (hour, start)
    });
    hours.filter(|(hour, _)| *hour >= start_s).collect()
}

fn value_of(event: &Event, field: &Field) -> Option<String> {
    match field {
        Field::Customer => Some(event.customer.clone()),
        Field::Dimension(_) if event.overflow => None,
        Field::Dimension(name) => {
            let found = event.dimensions.iter().find(|(key, _)| key == name);
            Some(found.map(|(_, value)| value.clone()).unwrap_or_default())
        }
    }
}

/// To the nearest, and of two to the even one.
fn average(sum: I256, count: usize) -> I256 {
    let count = I256::from(count as u64);
    let below = sum.div_euclid(count);
    let rest = sum.rem_euclid(count) * I256::new(2);
    if rest > count || (rest == count && below.rem_euclid(I256::new(2)) != I256::ZERO) { below + I256::ONE } else { below }
}

/// Whether values of a dimension are in a sketch only.
fn is_estimate(question: &Question, events: &[&Event]) -> bool {
    let Some(Aggregation::Unique(Field::Dimension(name))) = &question.aggregation else { return false };
    events.iter().any(|event| event.overflow && event.dimensions.iter().any(|(key, _)| key == name))
}

fn different_values(question: &Question, events: &[&Event], name: &str) -> u64 {
    let values = events.iter().flat_map(|event| &event.dimensions).filter(|(key, _)| key == name).map(|(_, value)| value);
    let values: HashSet<&String> = values.collect();
    let mut sketch = Sketch::default();
    values.iter().for_each(|value| sketch.add(ValueHash::of(value)));
    if is_estimate(question, events) { sketch.estimate() } else { values.len() as u64 }
}

/// All values at once, from the events themselves.
fn number_of(question: &Question, events: &[&Event]) -> I256 {
    let values = || events.iter().map(|event| I256::from(event.value.scaled()));
    let whole = |count: usize| I256::from(count as u64) * I256::from(Amount::ONE.scaled());
    let sum = || values().fold(I256::ZERO, |sum, value| sum + value);
    match (question.aggregation.clone(), question.meter_type) {
        (Some(Aggregation::Unique(Field::Customer)), _) => whole(events.iter().map(|event| &event.customer).collect::<HashSet<_>>().len()),
        (Some(Aggregation::Unique(Field::Dimension(name))), _) => whole(different_values(question, events, &name) as usize),
        (Some(Aggregation::Average), _) | (None, MeterType::Average) => average(sum(), events.len()),
        (Some(Aggregation::Latest), _) | (None, MeterType::Latest) => {
            let latest = events.iter().max_by_key(|event| (event.time_ms, &event.unique_id)).expect("events");
            I256::from(latest.value.scaled())
        }
        (None | Some(Aggregation::Count), MeterType::UniqueCustomersCount) => {
            whole(events.iter().map(|event| &event.customer).collect::<HashSet<_>>().len())
        }
        (None, MeterType::SumOfAllUsage) | (Some(Aggregation::Sum), _) => sum(),
        (None, MeterType::MaxInPeriod) | (Some(Aggregation::Max), _) => values().max().expect("events"),
        (Some(Aggregation::Min), _) => values().min().expect("events"),
        (Some(Aggregation::Count), _) => whole(events.len()),
    }
}

fn oracle(events: &[Event], question: &Question) -> Answer {
    let starts = bucket_starts(question);
    let hour = |event: &Event| event.time_ms.div_euclid(3_600_000) * 3_600;
    let is_dimension = |field: &Field| matches!(field, Field::Dimension(_));
    let reads_dimensions = question.group_by.iter().any(is_dimension) || question.filters.iter().any(|(field, _)| is_dimension(field));
    let mut overflow = false;
    let mut groups: BTreeMap<Vec<String>, Vec<&Event>> = BTreeMap::new();
    for event in events {
        let passes = |(field, allowed): &(Field, Vec<String>)| value_of(event, field).is_some_and(|value| allowed.contains(&value));
        let (of_customers, of_dimensions): (Vec<_>, Vec<_>) = question.filters.iter().partition(|(field, _)| *field == Field::Customer);
        let in_range = starts.contains_key(&hour(event));
        if event.account != ACCOUNT || event.meter != "tokens" || !in_range || !of_customers.into_iter().all(passes) {
            continue;
        }
        overflow |= event.overflow && reads_dimensions;
        if of_dimensions.into_iter().all(passes) {
            let key = question.group_by.iter().map(|field| value_of(event, field).unwrap_or("(overflow)".into()));
            groups.entry(key.collect()).or_default().push(event);
        }
    }
    let groups = groups.into_iter().map(|(values, events)| {
        let mut buckets: BTreeMap<i64, Vec<&Event>> = BTreeMap::new();
        for event in &events {
            buckets.entry(starts[&hour(event)]).or_default().push(event);
        }
        let number = |events: &[&Event]| Sum::from_scaled(number_of(question, events));
        let buckets = buckets.into_iter().map(|(start, events)| (start, number(&events))).collect();
        let approximate = Approximate { is_estimate: is_estimate(question, &events), is_lower_bound: false };
        Group { values, total: number(&events), buckets, approximate }
    });
    let mut groups: Vec<Group> = groups.collect();
    let approximate = groups.iter().fold(Approximate::default(), |all, group| all.and(group.approximate));
    let ascending = question.take.is_some_and(|take| take.ascending);
    // Stable, so equal totals stay in the order of their values.
    groups.sort_by_key(|group| if ascending { group.total.scaled() } else { -group.total.scaled() });
    groups.truncate(question.take.map_or(usize::MAX, |take| take.limit.get()));
    let mut bucket_starts: Vec<i64> = starts.into_values().collect();
    bucket_starts.dedup();
    Answer { bucket_starts, groups, cut: false, overflow, approximate, rows_read: 0 }
}

fn amounts() -> impl Strategy<Value = Amount> {
    let limit = 100_000_000_000_000_000_000_000_000_000_000_i128;
    prop_oneof![
        (-50_i64..50).prop_map(Amount::from_int),
        (-2_000_i128..2_000).prop_map(|tenths| tenths * 100_000_000_000).prop_map(|scaled| Amount::from_scaled(scaled).expect("small")),
        (1 - limit..limit).prop_map(|scaled| Amount::from_scaled(scaled).expect("in range")),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let region = prop_oneof![Just(None), Just(Some("eu")), Just(Some("us")), Just(Some(""))];
    let tier = prop_oneof![Just(None), Just(Some("gold"))];
    // Ten weeks around the turn of a year; some events exactly at the begin of an hour, a day or a month.
    let time_ms = prop_oneof![
        -35 * DAY_S * 1_000..35 * DAY_S * 1_000,
        (-35_i64..35).prop_map(|day| day * DAY_S * 1_000),
        (-35_i64 * 24..35 * 24).prop_map(|hour| hour * HOUR_S * 1_000 - 1),
    ];
    let one = (time_ms, "[a-d]", amounts(), region, tier, 0_u32..3, 0_u8..20);
    let one = one.prop_map(|(time_ms, customer, value, region, tier, partition, rare)| {
        let pairs = [("region", region), ("tier", tier)];
        let dimensions = pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        Event {
            account: if rare == 0 { ACCOUNT + 1 } else { ACCOUNT },
            meter: if rare == 1 { "calls".into() } else { "tokens".into() },
            customer,
            time_ms: DAY_0 * 1_000 + time_ms,
            value,
            dimensions: dimensions.collect(),
            partition,
            overflow: rare == 2,
            unique_id: None,
        }
    });
    vec(one, 0..60).prop_map(|events| {
        let named = events.into_iter().enumerate();
        named.map(|(number, event)| Event { unique_id: Some(format!("u-{number}")), ..event }).collect()
    })
}

fn fields() -> impl Strategy<Value = Field> {
    prop_oneof![Just(Field::Customer), Just(dimension("region")), Just(dimension("tier")), Just(dimension("nobody-has-it"))]
}

fn filters() -> impl Strategy<Value = Vec<(Field, Vec<String>)>> {
    let values = vec(prop_oneof![Just("a"), Just("b"), Just("d"), Just("eu"), Just("us"), Just("gold"), Just("")], 1..4);
    let owned = values.prop_map(|values| values.into_iter().map(str::to_owned).collect());
    prop_oneof![3 => Just(Vec::new()), 4 => vec((fields(), owned), 1..3)]
}

fn questions() -> impl Strategy<Value = Question> {
    let start_s = prop_oneof![-40 * DAY_S..40 * DAY_S, (-40_i64..40).prop_map(|day| day * DAY_S)];
    let length_s = prop_oneof![1..80 * DAY_S, (1_i64..80).prop_map(|days| days * DAY_S), (1_i64..100).prop_map(|hours| hours * HOUR_S)];
    let meter_type = prop_oneof![
        Just(MeterType::SumOfAllUsage),
        Just(MeterType::MaxInPeriod),
        Just(MeterType::UniqueCustomersCount),
        Just(MeterType::Average),
        Just(MeterType::Latest)
    ];
    let aggregation = prop_oneof![
        Just(Aggregation::Sum),
        Just(Aggregation::Min),
        Just(Aggregation::Max),
        Just(Aggregation::Count),
        Just(Aggregation::Average),
        Just(Aggregation::Latest),
        fields().prop_map(Aggregation::Unique),
    ];
    let group_by = vec(fields(), 0..3).prop_map(|fields| {
        let mut distinct = Vec::new();
        fields.into_iter().for_each(|field| {
            if !distinct.contains(&field) {
                distinct.push(field)
            }
        });
        distinct
    });
    let take =
        (1_usize..4, any::<bool>()).prop_map(|(limit, ascending)| Take { limit: NonZeroUsize::new(limit).expect("not 0"), ascending });
    let when = (start_s, length_s, intervals(), prop_oneof![Just("UTC".to_owned()), zones()]);
    (when, meter_type, option::of(aggregation), filters(), group_by, option::of(take)).prop_map(
        |((start_s, length_s, interval, zone), meter_type, aggregation, filters, group_by, take)| Question {
            start_s: DAY_0 + start_s,
            length_s,
            interval,
            zone,
            meter_type,
            aggregation,
            filters,
            group_by,
            take,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_evaluation_agrees_with_the_raw_events(events in events(), question in questions()) {
        let answer = answer(&events, &question);
        prop_assert_eq!(Answer { rows_read: 0, ..answer }, oracle(&events, &question));
    }

    #[test]
    fn parts_of_a_range_add_up_to_the_whole(events in events(), question in questions()) {
        let question = Question { aggregation: Some(Aggregation::Sum), take: None, ..question };
        let whole = answer(&events, &question);
        let (start_s, end_s) = answered(&question);
        let Some(middle) = whole.bucket_starts.get(whole.bucket_starts.len() / 2).filter(|middle| **middle > start_s) else { return Ok(()) };
        let part = |from_s: i64, to_s: i64| answer(&events, &Question { start_s: from_s, length_s: to_s - from_s, ..question.clone() });
        let (one, other) = (part(start_s, *middle), part(*middle, end_s));
        prop_assert_eq!([one.bucket_starts, other.bucket_starts].concat(), whole.bucket_starts);
        let mut added: BTreeMap<Vec<String>, Group> = BTreeMap::new();
        for group in one.groups.into_iter().chain(other.groups) {
            match added.get_mut(&group.values) {
                Some(before) => {
                    before.total.add(group.total);
                    before.buckets.extend(group.buckets);
                }
                None => drop(added.insert(group.values.clone(), group)),
            }
        }
        let groups = whole.groups.into_iter().map(|group| (group.values.clone(), group)).collect();
        prop_assert_eq!(added, groups);
    }

    #[test]
    fn the_order_of_the_events_shows_nowhere(events in events().prop_shuffle(), question in questions()) {
        let forwards = answer(&events, &question);
        let backwards: Vec<Event> = events.into_iter().rev().map(|event| Event { partition: (event.partition + 1) % 3, ..event }).collect();
        prop_assert_eq!(forwards, answer(&backwards, &question));
    }

    #[test]
    fn meters_in_a_range_are_those_with_an_answer(events in events(), question in questions(), customers in option::of(vec("[a-e]", 1..3))) {
        let filters = customers.clone().map(|customers| (Field::Customer, customers)).into_iter().collect();
        let question = Question { filters, group_by: Vec::new(), take: None, ..question };
        let query = question.query();
        let rows = MemoryRows::of(&events);
        let customers = query.view_request().customers;
        let meters = meters_in_range(&rows, ACCOUNT, query.buckets().hours(), customers.as_deref(), 9).expect("rows");
        prop_assert_eq!(meters.names.iter().any(|meter| meter == "tokens"), !answer(&events, &question).groups.is_empty());
    }
}

// --- Examples -------------------------------------------------------------------------------------------------------

fn shown(answer: &Answer) -> Vec<(String, String)> {
    answer.groups.iter().map(|group| (group.values.join("|"), group.total.to_string())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(values, total)| ((*values).to_owned(), (*total).to_owned())).collect()
}

#[test]
fn a_tenth_ten_times_is_one() {
    let events: Vec<Event> = (0..10).map(|n| event("a", DAY_0 + n * 7_000, "0.1")).collect();
    assert_eq!(shown(&answer(&events, &everything(1))), pairs(&[("", "1")]));
}

#[test]
fn groups_are_ranked_by_their_totals_and_then_by_their_values() {
    let events = [("b", "1"), ("a", "1"), ("d", "0.5"), ("c", "-2"), ("e", "1.000000000001")];
    let events: Vec<Event> = events.iter().map(|(customer, value)| event(customer, DAY_0, value)).collect();
    let question = Question { group_by: vec![Field::Customer], ..everything(1) };
    let ranked = shown(&answer(&events, &question));
    assert_eq!(ranked, pairs(&[("e", "1.000000000001"), ("a", "1"), ("b", "1"), ("d", "0.5"), ("c", "-2")]));
    let take = |limit, ascending| Some(Take { limit: NonZeroUsize::new(limit).expect("not 0"), ascending });
    let ranked = answer(&events, &Question { take: take(3, true), ..question.clone() });
    assert_eq!((shown(&ranked), ranked.cut), (pairs(&[("c", "-2"), ("d", "0.5"), ("a", "1")]), false));
    let ranked = answer(&events, &Question { take: take(9, false), ..question });
    assert_eq!((ranked.groups.len(), ranked.cut), (5, false));
}

#[test]
fn too_many_groups_are_cut_and_the_answer_says_so() {
    let events: Vec<Event> = (0..5).map(|n| event(&format!("c-{n}"), DAY_0, &n.to_string())).collect();
    let question = Question { group_by: vec![Field::Customer], ..everything(1) };
    let rows = MemoryRows::of(&events);
    let cut = |groups_max, limit: Option<usize>| {
        let take = limit.and_then(NonZeroUsize::new).map(|limit| Take { limit, ascending: false });
        let query = Question { take, ..question.clone() }.query();
        let answer = evaluate(&query, MeterType::default(), &rows, Limits { groups_max, ..Limits::default() }).expect("an answer");
        (answer.groups.len(), answer.cut)
    };
    assert_eq!(cut(5, None), (5, false));
    assert_eq!(cut(4, None), (4, true));
    assert_eq!(cut(4, Some(5)), (4, true));
    assert_eq!(cut(4, Some(4)), (4, false), "no more were asked for");
}

#[test]
fn what_is_held_while_rows_are_read_has_a_limit() {
    let events: Vec<Event> = (0..6).map(|n| event(&format!("c-{}", n % 3), DAY_0 + n * DAY_S, "1")).collect();
    let rows = MemoryRows::of(&events);
    let is_refused = |cells_max: usize, question: &Question| {
        let limits = Limits { cells_max, ..Limits::default() };
        matches!(evaluate(&question.query(), question.meter_type, &rows, limits), Err(EvaluateError::TooManyCells { .. }))
    };
    let days = everything(6);
    assert!(!is_refused(6, &days) && is_refused(5, &days));
    let month = Question { interval: Interval::Month, ..days.clone() };
    assert!(!is_refused(1, &month), "one group, one bucket");
    let customers = Question { meter_type: MeterType::UniqueCustomersCount, ..month };
    assert!(!is_refused(4, &customers) && is_refused(3, &customers), "three customers beside the number");
}

#[test]
fn overflow_rows_count_in_totals_and_have_no_dimensions() {
    let events = [
        event("a", DAY_0, "1").dimensions(&[("region", "eu")]),
        event("a", DAY_0, "10").dimensions(&[("region", "eu")]).overflow(),
        event("b", DAY_0, "100"),
    ];
    let ask = |filters: &[(Field, &str)], group_by: &[Field]| {
        let filters = filters.iter().map(|(field, value)| (field.clone(), vec![(*value).to_owned()])).collect();
        let answer = answer(&events, &Question { filters, group_by: group_by.to_vec(), ..everything(1) });
        (shown(&answer), answer.overflow)
    };
    assert_eq!(ask(&[], &[]), (pairs(&[("", "111")]), false), "the total is exact");
    assert_eq!(ask(&[], &[Field::Customer]), (pairs(&[("b", "100"), ("a", "11")]), false));
    assert_eq!(ask(&[], &[dimension("region")]), (pairs(&[("", "100"), ("(overflow)", "10"), ("eu", "1")]), true));
    assert_eq!(ask(&[(dimension("region"), "eu")], &[]), (pairs(&[("", "1")]), true));
    assert_eq!(ask(&[(dimension("region"), "eu"), (Field::Customer, "b")], &[]), (pairs(&[]), false), "b has no overflow row");
}

/// A question for the different values of a dimension.
fn unique(name: &str, days: i64) -> Question {
    Question { aggregation: Some(Aggregation::Unique(dimension(name))), ..everything(days) }
}

#[test]
fn values_are_counted_exactly_as_long_as_they_can_be_held() {
    let events: Vec<Event> = (0..40)
        .map(|n| event(["a", "b"][n % 2], DAY_0 + (n as i64 % 4) * DAY_S, "1").dimensions(&[("user", &format!("u-{}", n / 2))]))
        .chain([event("a", DAY_0, "1"), event("a", DAY_0, "1").dimensions(&[("user", "")])])
        .collect();
    let rows = MemoryRows::of(&events);
    let ask = |values_max: usize, question: &Question| {
        let limits = Limits { values_max, ..Limits::default() };
        evaluate(&question.query(), MeterType::default(), &rows, limits).expect("few cells")
    };
    let by_customer = Question { group_by: vec![Field::Customer], ..unique("user", 4) };
    let exact = ask(21, &by_customer);
    assert_eq!(shown(&exact), pairs(&[("a", "21"), ("b", "20")]), "no value is none, an empty one is one");
    assert_eq!(exact.approximate, Approximate::default());
    assert_eq!(exact.groups[1].buckets, [(DAY_0 + DAY_S, Sum::from_count(10)), (DAY_0 + 3 * DAY_S, Sum::from_count(10))]);
    let estimated = ask(20, &by_customer);
    assert!(estimated.approximate.is_estimate && !estimated.approximate.is_lower_bound);
    assert_eq!(shown(&estimated), shown(&exact), "so few, a sketch tells apart as well");
    let first_day = Question { length_s: DAY_S, ..by_customer.clone() };
    assert_eq!(ask(11, &first_day).approximate, Approximate::default(), "b has no event there");
    let groups: Vec<bool> = ask(20, &by_customer).groups.iter().map(|group| group.approximate.is_estimate).collect();
    assert!(groups.contains(&true));
    assert!(ask(1_000, &Question { take: None, ..unique("nobody-has-it", 4) }).groups[0].total == Sum::ZERO, "a group of events, no value");
}

#[test]
fn what_an_overflow_row_does_not_know_makes_a_lower_bound() {
    let lost = |names: std::ops::Range<usize>| {
        names.map(|n| event("a", DAY_0, "1").dimensions(&[(format!("name-{n:02}").as_str(), "v")]).overflow())
    };
    let events: Vec<Event> = lost(0..20).chain([event("a", DAY_0, "1").dimensions(&[("name-18", "w")])]).collect();
    let of = |rows: &MemoryRows, name: &str| {
        let answer = evaluate(&unique(name, 1).query(), MeterType::default(), rows, Limits::default()).expect("few cells");
        (answer.groups[0].total.to_string(), answer.approximate.is_estimate, answer.approximate.is_lower_bound)
    };
    let rows = MemoryRows::of(&events);
    assert_eq!(of(&rows, "name-03"), ("1".into(), true, false));
    assert_eq!(of(&rows, "name-15"), ("1".into(), true, false), "the sixteenth name");
    assert_eq!(of(&rows, "name-18"), ("1".into(), false, true), "of the other one nothing is known");
    assert_eq!(of(&rows, "a-name-that-nobody-has"), ("0".into(), false, false));
    assert_eq!(of(&rows.without_sketches(), "name-03"), ("0".into(), false, true));
}

#[test]
fn what_sketches_hold_is_counted() {
    let events: Vec<Event> =
        (0..3_000).map(|n| event(&format!("c-{}", n % 2), DAY_0, "1").dimensions(&[("user", &format!("u-{n}"))])).collect();
    let rows = MemoryRows::of(&events);
    let is_refused = |cells_max: usize| {
        let limits = Limits { cells_max, values_max: 10, ..Limits::default() };
        let query = Question { group_by: vec![Field::Customer], ..unique("user", 1) }.query();
        matches!(evaluate(&query, MeterType::default(), &rows, limits), Err(EvaluateError::TooManyCells { .. }))
    };
    // Ten values, and of each of two groups itself and two sketches of 4 KiB.
    assert!(is_refused(10 + 2 + 4 * 41 - 1) && !is_refused(10 + 2 + 4 * 41));
}

#[test]
fn the_latest_is_the_one_with_the_largest_id_of_those_at_its_time() {
    let at = |id: &str, value: &str, customer: &str| Event { unique_id: Some(id.into()), ..event(customer, DAY_0 + 60, value) };
    let events = [at("b", "1", "c-1"), at("c", "2", "c-2"), at("a", "9", "c-3"), event("c-1", DAY_0 + 59, "50")];
    let question = Question { aggregation: Some(Aggregation::Latest), ..everything(1) };
    assert_eq!(shown(&answer(&events, &question)), pairs(&[("", "2")]));
    let average = Question { aggregation: Some(Aggregation::Average), ..everything(1) };
    assert_eq!(shown(&answer(&events, &average)), pairs(&[("", "15.5")]));
}

#[test]
fn a_filter_of_very_many_customers_is_scanned_in_parts() {
    let events: Vec<Event> = (0..3).map(|day| event("c-4999", DAY_0 + day * DAY_S, "1")).chain([event("other", DAY_0, "9")]).collect();
    let customers: Vec<String> = (0..10_000).map(|n| format!("c-{n:04}")).collect();
    let question = Question { filters: vec![(Field::Customer, customers)], ..everything(3) };
    assert_eq!(Answer { rows_read: 0, ..answer(&events, &question) }, oracle(&events, &question));
    assert_eq!(answer(&events, &question).groups[0].buckets.len(), 3);
}

#[test]
fn a_customer_counts_once_a_bucket_and_once_a_group() {
    let events = [("a", 0), ("a", 0), ("b", 0), ("a", 1), ("c", 1)].map(|(customer, day)| event(customer, DAY_0 + day * DAY_S, "5"));
    let question = Question { meter_type: MeterType::UniqueCustomersCount, ..everything(2) };
    let [group] = &answer(&events, &question).groups[..] else { panic!("one group") };
    assert_eq!(group.total, Sum::from_count(3));
    assert_eq!(group.buckets, [(DAY_0, Sum::from_count(2)), (DAY_0 + DAY_S, Sum::from_count(2))]);
}

#[test]
fn damaged_rows_are_no_answer() {
    struct Damaged;
    impl Rows for Damaged {
        fn scan(&self, _: &RowSelection, _: &mut store::Visit<'_>) -> Result<(), store::Error> {
            Err(store::Error::Damaged("a row".into()))
        }
        fn first_key(&self, _: &[store::KeyRange]) -> Result<Option<Vec<u8>>, store::Error> {
            Err(store::Error::Damaged("a row".into()))
        }
    }
    let query = everything(1).query();
    let failed = evaluate(&query, MeterType::default(), &Damaged, Limits::default());
    assert!(matches!(failed, Err(EvaluateError::Rows(store::Error::Damaged(_)))));
    assert!(meters_in_range(&Damaged, ACCOUNT, query.buckets().hours(), None, 9).is_err());
}
