//! All promises at once: a slow, obvious Tollgate, made of lists and maps, and the real one take the same random actions,
//! crashes and restarts among them. Their answers agree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{DAY_0_MS, DAY_0_S, DAY_S, Decimal, Event, Gateway, HOUR_S, Random, Setup, event};

const ACTIONS: usize = 250;
const SETS_MAX: usize = 3;
const SETTINGS: &str = "[log]\ndimension_sets_max = 3\nsegment_bytes = 1048576";
const RECEIPT: &str = "application/vnd.tollgate.receipt+json";

/// What a producer says. Equal ones are copies, those with the same id and something else are conflicts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    id: String,
    customer: String,
    hour: usize,
    region: String,
    /// By meter, in 1/1000.
    values: BTreeMap<&'static str, i128>,
}

impl Said {
    fn random(random: &mut Random) -> Self {
        let mut values = BTreeMap::from([("m", random.below(200_000) as i128 - 100_000)]);
        if random.once_in(4) {
            values.insert("n", 1_000);
        }
        Self {
            id: format!("u-{}", random.below(120)),
            customer: format!("c-{}", random.below(3)),
            hour: random.below(50),
            region: format!("r-{}", random.below(5)),
            values,
        }
    }

    fn event(&self) -> Event {
        let digits: Vec<_> = self.values.iter().map(|(meter, value)| (*meter, Decimal::new(*value, 3).to_string())).collect();
        let values: Vec<_> = digits.iter().map(|(meter, digits)| (*meter, digits.as_str())).collect();
        let at = DAY_0_MS + self.hour as i64 * HOUR_S * 1_000;
        event(&self.id).customer(&self.customer).values(&values).at(at).dimension("region", &self.region)
    }
}

/// A record of the log.
#[derive(Debug, Clone)]
struct Logged {
    said: Said,
    /// Where the first one of its id is, if that is another.
    first: Option<usize>,
    /// The region under which each of its meters counts.
    counted_as: BTreeMap<&'static str, String>,
}

/// The slow, obvious one.
#[derive(Debug, Default)]
struct Model {
    log: Vec<Logged>,
    rejected: usize,
    /// Regions by meter, customer and day.
    sets: BTreeMap<(&'static str, String, usize), BTreeSet<String>>,
}

impl Model {
    fn append(&mut self, said: Said) {
        let first = self.log.iter().position(|logged| logged.said.id == said.id);
        let mut counted_as = BTreeMap::new();
        if first.is_none() {
            for meter in said.values.keys() {
                let sets = self.sets.entry((meter, said.customer.clone(), said.hour / 24)).or_default();
                let fits = sets.contains(&said.region) || sets.len() < SETS_MAX;
                if fits {
                    sets.insert(said.region.clone());
                }
                counted_as.insert(*meter, if fits { said.region.clone() } else { "(overflow)".into() });
            }
        }
        self.log.push(Logged { said, first, counted_as });
    }

    fn verdict(&self, logged: &Logged) -> &'static str {
        match logged.first {
            None => "counted",
            Some(first) if self.log[first].said == logged.said => "duplicate",
            Some(_) => "conflict",
        }
    }

    /// What counts for a meter within some hours: the record, the region it counts under, its value.
    fn counted(&self, meter: &'static str, hours: std::ops::Range<usize>) -> impl Iterator<Item = (&Logged, &String, i128)> {
        let counted = self.log.iter().filter(move |logged| hours.contains(&logged.said.hour));
        counted.filter_map(move |logged| Some((logged, logged.counted_as.get(meter)?, logged.said.values[meter])))
    }
}

fn aggregate(aggregation: &str, values: &[i128]) -> String {
    match aggregation {
        "SUM" => Decimal::new(values.iter().sum(), 3).to_string(),
        "COUNT" => values.len().to_string(),
        "MIN" => Decimal::new(values.iter().min().copied().unwrap_or(0), 3).to_string(),
        _ => Decimal::new(values.iter().max().copied().unwrap_or(0), 3).to_string(),
    }
}

fn send(gateway: &Gateway, model: &mut Model, random: &mut Random) {
    let mut batch = Vec::new();
    for _ in 0..random.below(8) + 1 {
        let said = match random.below(10) {
            0..3 if !model.log.is_empty() => model.log[random.below(model.log.len())].said.clone(),
            _ => Said::random(random),
        };
        batch.push((!random.once_in(10)).then_some(said));
    }
    let bad = event("bad").without("customerId");
    let events: Vec<_> = batch.iter().map(|said| said.as_ref().map_or_else(|| bad.clone(), Said::event)).collect();
    let answer = gateway.send_with(&[("accept", RECEIPT)], &events);
    if batch.iter().all(Option::is_none) {
        answer.refused(400);
        return;
    }
    let receipt = answer.json();
    let durable_before = model.log.len();
    for (at, said) in batch.into_iter().enumerate() {
        let verdict = &receipt["events"][at];
        match (verdict["verdict"].as_str().expect("a verdict"), said) {
            ("rejected", None) => model.rejected += 1,
            ("logged", Some(said)) => {
                assert_eq!(verdict["position"], model.log.len(), "positions have no gaps");
                model.append(said);
            }
            ("known", Some(said)) => {
                let is_durable = model.log[..durable_before].iter().any(|logged| logged.said == said);
                assert!(is_durable, "{said:?} is known, and was not durable before");
            }
            (verdict, said) => panic!("{verdict} for {said:?}"),
        }
    }
}

fn ask_usage(gateway: &Gateway, model: &Model, random: &mut Random) {
    let meter = ["m", "n"][random.below(2)];
    let aggregation = ["SUM", "COUNT", "MIN", "MAX"][random.below(4)];
    let (from, to) = [(0, 24), (0, 50), (24, 50), (7, 31)][random.below(4)];
    let field = ["customerId", "region"][random.below(2)];
    let mut expected: BTreeMap<String, Vec<i128>> = BTreeMap::new();
    for (logged, region, value) in model.counted(meter, from..to) {
        let key = if field == "region" { region } else { &logged.said.customer };
        expected.entry(key.clone()).or_default().push(value);
    }
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(key, values)| (key, aggregate(aggregation, &values))).collect();
    let (from_s, to_s) = (DAY_0_S + from as i64 * HOUR_S, DAY_0_S + to as i64 * HOUR_S);
    let usage = gateway.usage(meter).between(from_s, to_s).by(field).wait_s(30).ask(aggregation);
    assert!(usage.is_complete());
    assert_eq!(usage.groups(), expected, "{aggregation} of {meter} by {field} in the hours {from} to {to}");
}

fn ask_buckets(gateway: &Gateway, model: &Model, random: &mut Random) {
    let (interval, hours) = [("HOUR", 1), ("DAY", 24)][random.below(2)];
    let customer = format!("c-{}", random.below(3));
    let mut expected: BTreeMap<i64, Vec<i128>> = BTreeMap::new();
    for (logged, _, value) in model.counted("m", 0..50).filter(|(logged, ..)| logged.said.customer == customer) {
        let start_hour = logged.said.hour / hours * hours;
        expected.entry(DAY_0_S + start_hour as i64 * HOUR_S).or_default().push(value);
    }
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(start, values)| (start, aggregate("COUNT", &values))).collect();
    let usage = gateway.usage("m").customer(&customer).between(DAY_0_S, DAY_0_S + 3 * DAY_S).every(interval).wait_s(30).ask("COUNT");
    assert_eq!(usage.buckets(), expected, "{interval} of {customer}");
}

/// What an answer shows of a record's content.
fn shown(said: &Said) -> Value {
    let number = |value: &i128| -> Value { serde_json::from_str(&Decimal::new(*value, 3).to_string()).expect("a number") };
    let mut event = json!({
        "uniqueId": said.id, "customerId": said.customer, "dimensions": {"region": said.region},
        "meterTimeInMillis": DAY_0_MS + said.hour as i64 * HOUR_S * 1_000,
    });
    match said.values.iter().collect::<Vec<_>>()[..] {
        [(meter, value)] => (event["meterApiName"], event["meterValue"]) = ((*meter).into(), number(value)),
        _ => event["values"] = said.values.iter().map(|(meter, value)| ((*meter).to_owned(), number(value))).collect(),
    }
    event
}

fn look_up(gateway: &Gateway, model: &Model, random: &mut Random) {
    let id = format!("u-{}", random.below(120));
    let answer = gateway.get(&format!("/v1/events/{id}"));
    let Some(first) = model.log.iter().position(|logged| logged.said.id == id) else {
        answer.refused(404);
        return;
    };
    let (found, logged) = (answer.json(), &model.log[first]);
    assert_eq!((&found["verdict"], &found["position"]), (&json!("counted"), &json!(first)), "{id}");
    assert_eq!(found["event"], shown(&logged.said));
    let row = |(meter, region): (&&str, &String)| {
        let day = (logged.said.hour / 24) as i64 * DAY_S;
        (json!(meter), (region != "(overflow)").then(|| json!({"region": region})), json!(day_text(DAY_0_S + day)))
    };
    let rows = found["rows"].as_array().expect("an array").iter();
    let rows: Vec<_> = rows.map(|row| (row["meterApiName"].clone(), row.get("dimensions").cloned(), row["day"].clone())).collect();
    assert_eq!(rows, logged.counted_as.iter().map(row).collect::<Vec<_>>(), "{id}");
    let is_conflict = |(_, other): &(usize, &Logged)| other.first == Some(first) && other.said != logged.said;
    let conflicts: Vec<_> = model.log.iter().enumerate().filter(is_conflict).map(|(position, _)| json!(position)).rev().collect();
    let found: Vec<_> = found["conflicts"].as_array().expect("an array").iter().map(|other| other["position"].clone()).collect();
    assert_eq!(found, conflicts, "{id}");
}

/// Only days of the first week are asked for.
fn day_text(seconds: i64) -> String {
    format!("2026-01-{:02}T00:00:00Z", (seconds - DAY_0_S) / DAY_S + 1)
}

fn list(gateway: &Gateway, model: &Model, random: &mut Random) {
    let verdict = ["counted", "duplicate", "conflict"][random.below(3)];
    let customer = format!("c-{}", random.below(3));
    let listed = gateway.get(&format!("/v1/events?verdict={verdict}&customerId={customer}&limit=20")).json();
    let listed = listed["events"].as_array().expect("an array").iter();
    let listed: Vec<_> = listed.map(|event| (event["position"].clone(), event["event"].clone())).collect();
    let expected =
        model.log.iter().enumerate().rev().filter(|(_, logged)| logged.said.customer == customer && model.verdict(logged) == verdict);
    let expected: Vec<_> = expected.map(|(position, logged)| (json!(position), shown(&logged.said))).take(20).collect();
    assert_eq!(listed, expected, "{verdict} of {customer}");
}

fn stop_somehow(gateway: &mut Gateway, random: &mut Random) {
    match random.below(3) {
        0 => gateway.stop(),
        _ => gateway.kill(),
    }
    for derived in ["index", "store.redb"] {
        let path = gateway.data_dir().join(derived);
        let is_forgotten = random.once_in(4);
        match derived {
            _ if !is_forgotten => {}
            // The harness gives its key again, and no customer was set up.
            "store.redb" => std::fs::remove_file(path).expect("removed"),
            _ => std::fs::remove_dir_all(path).expect("removed"),
        }
    }
    while random.once_in(4) {
        gateway.start_and_kill(random);
    }
    gateway.restart();
}

#[test]
fn the_real_one_and_the_obvious_one_agree_whatever_happens() {
    let mut random = Random::seeded();
    let mut gateway = Setup::with(SETTINGS).start();
    let mut model = Model::default();
    for _ in 0..ACTIONS {
        match random.below(20) {
            0..10 => send(&gateway, &mut model, &mut random),
            10..13 => ask_usage(&gateway, &model, &mut random),
            13..15 => ask_buckets(&gateway, &model, &mut random),
            15..17 => look_up(&gateway, &model, &mut random),
            17..19 => list(&gateway, &model, &mut random),
            _ => stop_somehow(&mut gateway, &mut random),
        }
    }
    let rejected = gateway.get("/v1/events?verdict=rejected&limit=1000").json();
    assert_eq!(rejected["events"].as_array().expect("an array").len(), model.rejected);
}
