//! What Amberflo does not compute: averages, latest values, different values of a dimension. Exact, or said how far from it.

use serde_json::{Value, json};

use crate::harness::{Answer, DAY_0_MS, DAY_0_S, DAY_S, Event, Gateway, Pair, Setup, event};

/// The first four days, a number each.
fn ask(gateway: &Gateway, meter: &str, what: Value) -> Answer {
    let mut query = json!({"meterApiName": meter, "timeGroupingInterval": "DAY",
        "timeRange": {"startTimeInSeconds": DAY_0_S, "endTimeInSeconds": DAY_0_S + 4 * DAY_S}});
    let what = what.as_object().expect("an object").clone();
    query.as_object_mut().expect("an object").extend(what);
    let answer = gateway.post("/usage", &[("prefer", "wait=30")], query.to_string());
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer
}

/// The number of the only group, and of each of its days.
fn numbers(answer: &Answer) -> (String, Vec<String>) {
    let group = &answer.json()["clientMeters"][0];
    let values = group["values"].as_array().expect("an array").iter().map(|value| value["value"].to_string());
    (group["groupValue"].to_string(), values.collect())
}

fn at_day(id: &str, day: i64, value: &str) -> Event {
    event(id).value(value).at(DAY_0_MS + day * 86_400_000)
}

#[test]
fn averages_and_latest_values_are_those_of_the_whole_range_and_of_each_day() {
    let mut gateway = Gateway::start();
    let events = [("b", 0, "1"), ("a", 0, "2"), ("c", 0, "2"), ("d", 2, "-3.5"), ("z", 1, "7")];
    let events = events.map(|(id, day, value)| at_day(id, day, value));
    gateway.send(&events).logged(5);
    let average = json!({"aggregation": "avg"});
    let days = |days: [&str; 4]| days.map(str::to_owned).to_vec();
    let expected = ("1.7".to_owned(), days(["1.666666666667", "7", "-3.5", "0"]));
    assert_eq!(numbers(&ask(&gateway, "m", average.clone())), expected, "not the average of the averages");
    let latest = ("-3.5".to_owned(), days(["2", "7", "-3.5", "0"]));
    assert_eq!(numbers(&ask(&gateway, "m", json!({"aggregation": "LATEST"}))), latest, "of the same time, the largest id");
    // From rows that were stored, too; late events find their place.
    gateway.kill_and_restart();
    gateway.send(&[at_day("b-late", 0, "9")]).logged(1);
    assert_eq!(numbers(&ask(&gateway, "m", json!({"aggregation": "LATEST"}))), latest);
    assert_eq!(numbers(&ask(&gateway, "m", average)).0, "2.916666666667");
    // A definition says what a query means that does not.
    let body = json!({"meterApiName": "m", "displayName": "M", "type": "LATEST"}).to_string();
    assert_eq!(gateway.post("/meter-definition", &[], body).json()["type"], "LATEST");
    assert_eq!(numbers(&ask(&gateway, "m", json!({}))), latest);
    let flat = json!({"meterApiName": "m", "aggregation": "AVG", "timeGroupingInterval": "DAY", "startTimeInSeconds": DAY_0_S,
        "endTimeInSeconds": DAY_0_S + 4 * DAY_S});
    let answer = gateway.post("/usage", &[], flat.to_string());
    assert_eq!(
        answer.text(),
        r#"{"clientMeters":{"m":[{"groupInfo":{},"records":[{"1767225600":3.5},{"1767312000":7},{"1767398400":-3.5}]}]}}"#
    );
}

fn of_user(at: usize, users: usize) -> Event {
    let (day, user) = (at as i64 % 3, at % users);
    at_day(&format!("u-{at}"), day, "1").customer(&format!("c-{}", at % 2)).dimension("user", &format!("user-{user}"))
}

const UNIQUE: &str = "user";

fn unique() -> Value {
    json!({"aggregation": "UNIQUE", "uniqueDimension": UNIQUE})
}

#[test]
fn different_values_of_a_dimension_are_counted_exactly() {
    let gateway = Gateway::start();
    let events: Vec<Event> = (0..400).map(|at| of_user(at, 50)).chain([at_day("without", 0, "1")]).collect();
    gateway.send(&events).logged(401);
    let answer = ask(&gateway, "m", unique());
    assert_eq!(numbers(&answer), ("50".to_owned(), ["50", "50", "50", "0"].map(str::to_owned).to_vec()));
    assert_eq!(answer.header("tollgate-approximate"), None);
    let by_customer = ask(&gateway, "m", json!({"aggregation": "UNIQUE", "uniqueDimension": UNIQUE, "groupBy": ["customerId"]}));
    let groups = by_customer.json()["clientMeters"].as_array().expect("an array").clone();
    let of =
        |id: &str| groups.iter().find(|group| group["group"]["groupInfo"]["customerId"] == id).expect("a group")["groupValue"].to_string();
    assert_eq!([of("c-0"), of("c-1")], ["25", "25"]);
    assert_eq!(numbers(&ask(&gateway, "m", json!({"aggregation": "UNIQUE", "uniqueDimension": "customerId"}))).0, "3");
    let filtered = json!({"aggregation": "UNIQUE", "uniqueDimension": UNIQUE, "filter": {"user": ["user-1", "user-2", "nobody"]}});
    assert_eq!(numbers(&ask(&gateway, "m", filtered)).0, "2");
}

#[test]
fn past_the_limit_of_dimension_sets_values_are_estimated_and_the_answer_says_so() {
    let mut gateway = Setup::with("[log]\ndimension_sets_max = 20").start();
    let (users, events) = (2_000, 6_000);
    let all: Vec<Event> = (0..events).map(|at| of_user(at, users)).collect();
    for batch in all[..events / 2].chunks(1_000) {
        gateway.send(batch).logged(batch.len());
    }
    gateway.kill_and_restart();
    for batch in all[events / 2..].chunks(1_000) {
        gateway.send(batch).logged(batch.len());
    }
    let check = |gateway: &Gateway| {
        let answer = ask(gateway, "m", unique());
        assert_eq!(answer.header("tollgate-approximate"), Some("standard-error=0.0163"), "{}", answer.shown());
        assert_eq!(answer.json()["clientMeters"][0]["approximate"], json!({"standardError": 0.0163}));
        let (total, days) = numbers(&answer);
        for number in days[..3].iter().chain([&total]) {
            let number: f64 = number.parse().expect("a number");
            assert!((number - users as f64).abs() <= 4.0 * 0.0163 * users as f64, "{number} of {users}");
        }
        assert_eq!(gateway.usage("m").sum(), "6000", "sums stay exact");
        (total, days)
    };
    let before = check(&gateway);
    gateway.kill_and_restart();
    assert_eq!(check(&gateway), before, "the same after a crash");
    gateway.stop();
    let verified = match Pair::of_this_run() {
        Pair::Embedded => gateway.tollgate(&["verify"]),
        Pair::Cluster => gateway.verify_cluster(),
    };
    verified.ended_with(0).says(&["equal"]);
}
