//! Filtering rules, as the contract has them (`amberflo.md` section 4): what one drops is acknowledged, is in the log with its verdict, and
//! in no usage; and it stays dropped, whatever becomes of the rule.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Event, Gateway, NO_RECENT_IDS, Pair, Setup, Shared, event};

const PATH: &str = "/meter-event-filtering-rules";
const CSV: (&str, &str) = ("content-type", "text/csv");

fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()
}

fn put(client: &Client, rule: &Value) -> Value {
    ok(client.post(PATH, &[], rule.to_string()))
}

/// Drops what has one of these regions.
fn excluding(meter: &str, regions: &[&str]) -> Value {
    json!({"meterApiName": meter, "dimensionName": "region", "dimensionValues": regions, "action": "EXCLUDE"})
}

fn from(id: &str, region: &str) -> Event {
    event(id).dimension("region", region)
}

fn verdict(client: &Client, id: &str) -> Value {
    ok(client.get(&format!("/v1/events/{id}")))
}

#[test]
fn what_a_rule_drops_is_acknowledged_and_in_no_usage_and_stays_so() {
    let mut gateway = Setup::with(NO_RECENT_IDS).start();
    gateway.send(&[from("before", "eu")]).logged(1);
    let rule = put(&gateway, &excluding("m", &["eu"]));
    let id = rule["ruleId"].as_str().expect("an id").to_owned();
    gateway.send(&[from("dropped", "eu"), from("kept", "us"), event("none")]).logged(3);
    assert_eq!(gateway.usage("m").count(), 3);
    let dropped = verdict(&gateway, "dropped");
    assert_eq!(
        (&dropped["verdict"], &dropped["rows"], &dropped["event"]["dimensions"]["region"]),
        (&json!("filtered"), &json!([]), &json!("eu"))
    );
    for (id, expected) in [("before", "counted"), ("kept", "counted"), ("none", "counted")] {
        assert_eq!(verdict(&gateway, id)["verdict"], expected, "{id}");
    }
    let listed = ok(gateway.get("/v1/events?verdict=filtered"));
    assert_eq!((listed["events"].as_array().map(Vec::len), &listed["events"][0]["uniqueId"]), (Some(1), &Value::Null));
    // Once the rule is out of use, a retry of what it dropped is a copy of that: the first position decides.
    put(&gateway, &json!({"ruleId": id, "meterApiName": "m"}));
    gateway.send(&[from("dropped", "eu"), from("later", "eu")]).logged(2);
    assert_eq!(gateway.usage("m").count(), 4);
    assert_eq!((&verdict(&gateway, "dropped")["verdict"], &verdict(&gateway, "later")["verdict"]), (&json!("filtered"), &json!("counted")));
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.verdict("filtered"), metrics.verdict("duplicate"), metrics.verdict("counted")), (1, 1, 4));
    // And the other way round: what counted before there was a rule, counts.
    put(&gateway, &json!({"ruleId": id, "meterApiName": "m", "dimensionName": "region", "dimensionValues": ["eu"], "action": "exclude"}));
    gateway.send(&[from("later", "eu"), from("last", "eu")]).logged(2);
    assert_eq!(gateway.usage("m").count(), 4);
    gateway.kill_and_restart();
    gateway.send(&[from("after the restart", "eu")]).logged(1);
    assert_eq!((gateway.usage("m").count(), &verdict(&gateway, "dropped")["verdict"]), (4, &json!("filtered")));
    if Pair::of_this_run() == Pair::Embedded {
        gateway.stop();
        gateway.tollgate(&["verify"]).ended_with(0);
        gateway.tollgate(&["rebuild"]).ended_with(0);
        gateway.restart();
        assert_eq!(gateway.usage("m").count(), 4, "the decision is in the log, not in the rules");
    }
}

#[test]
fn of_an_event_with_several_meters_each_is_decided_by_itself() {
    let mut gateway = Gateway::start();
    put(&gateway, &excluding("in", &["eu"]));
    let several = |id: &str, region: &str| from(id, region).values(&[("in", "1"), ("out", "2"), ("total", "3")]);
    gateway.send(&[several("a", "eu"), several("b", "us")]).logged(2);
    let expect = |gateway: &Gateway| {
        let sums = ["in", "out", "total"].map(|meter| gateway.usage(meter).sum());
        assert_eq!(sums, ["1", "4", "6"]);
        let partly = verdict(gateway, "a");
        assert_eq!((&partly["verdict"], &partly["filteredMeters"]), (&json!("counted"), &json!(["in"])));
        let meters: Vec<_> = partly["rows"].as_array().expect("an array").iter().map(|row| row["meterApiName"].clone()).collect();
        assert_eq!(meters, ["out", "total"]);
        assert_eq!(partly["event"]["values"], json!({"in": 1, "out": 2, "total": 3}), "the log has all of it");
        assert_eq!(verdict(gateway, "b")["filteredMeters"], Value::Null);
    };
    expect(&gateway);
    gateway.kill_and_restart();
    expect(&gateway);
    let of_meter = ok(gateway.get("/v1/events?meterApiName=in"));
    assert_eq!(of_meter["events"].as_array().map(Vec::len), Some(2), "what was dropped is found by its meter");
    for meter in ["out", "total"] {
        put(&gateway, &excluding(meter, &["eu"]));
    }
    gateway.send(&[several("c", "eu")]).logged(1);
    assert_eq!(verdict(&gateway, "c")["verdict"], "filtered");
    assert_eq!(["in", "out", "total"].map(|meter| gateway.usage(meter).sum()), ["1", "4", "6"]);
}

#[test]
fn a_rule_holds_for_every_form_and_for_what_is_replayed() {
    let gateway = Gateway::start();
    put(&gateway, &json!({"meterApiName": "m", "dimensionName": "region", "dimensionValues": ["us"], "action": "include"}));
    let columns = "uniqueId,customerId,meterApiName,meterValue,meterTimeInMillis,region";
    gateway.post("/ingest", &[CSV], format!("{columns}\na,c,m,1,1767225600000,eu\nb,c,m,1,1767225600000,us\n")).logged(2);
    let custom =
        |id: &str, region: &str| json!({"id": id, "customer": "c", "type": "m", "ts": 1_767_225_600, "region": region}).to_string();
    gateway.post("/ingest?schemaDetection=AUTO", &[], format!("{}\n{}", custom("d", "eu"), custom("e", "us"))).logged(2);
    gateway.send(&[event("f").value("\"1\""), from("g", "us")]).logged(1).rejected(1);
    let replayed = ok(gateway.post("/v1/dead-letters/0/replay", &[], event("f").json()));
    assert_eq!(replayed["verdict"], "logged");
    assert_eq!(gateway.usage("m").count(), 3);
    let filtered = ["a", "d", "f"].map(|id| verdict(&gateway, id)["verdict"].clone());
    assert_eq!(filtered, ["filtered", "filtered", "filtered"]);
    // In N, in the receipt and in the books: taken.
    let receipt = ok(gateway.post("/ingest", &[("accept", "application/vnd.tollgate.receipt+json")], from("h", "eu").json()));
    assert_eq!((&receipt["logged"], &receipt["events"][0]["verdict"]), (&json!(1), &json!("logged")));
    gateway.send(&[from("h", "eu")]).logged(1);
    assert_eq!(gateway.settled_metrics().outcome("known"), 1, "a copy of what was dropped is known at the door");
    let reconciled = ok(gateway.post("/v1/reconcile", &[], json!({"uniqueIds": ["a", "b", "h"]}).to_string()));
    assert_eq!((&reconciled["filtered"], &reconciled["counted"]), (&json!(2), &json!(1)));
}

#[test]
fn rules_are_made_changed_and_listed_as_the_contract_says() {
    let gateway = Gateway::start();
    let listed = |meter: &str| ok(gateway.get(&format!("{PATH}?meterApiName={meter}")));
    assert_eq!(listed("m"), json!([]));
    let made = put(&gateway, &excluding("m", &["eu", "us"]));
    let id = made["ruleId"].clone();
    assert_eq!(
        made,
        json!({"ruleId": id, "meterApiName": "m", "dimensionName": "region", "dimensionValues": ["eu", "us"], "action": "EXCLUDE"})
    );
    assert_eq!(ok(gateway.get(&format!("/amberflo{PATH}/?meterApiName=m"))), json!([made]));
    let mut changed = made.clone();
    changed["action"] = json!("INCLUDE");
    changed["dimensionValues"] = json!(["asia"]);
    assert_eq!(put(&gateway, &changed), changed);
    assert_eq!(listed("m"), json!([changed]));
    // An id of one's own, which may be sent again.
    let own = json!({"ruleId": "mine", "meterApiName": "n", "dimensionValues": []});
    assert_eq!((put(&gateway, &own), put(&gateway, &own)), (own.clone(), own.clone()));
    assert_eq!((listed("n"), listed("m")), (json!([own]), json!([changed])));
    gateway.get(PATH).refused(400).details("meterApiName is missing");
    gateway.post(PATH, &[], "{}").refused(400).details("meterApiName is missing");
    gateway
        .post(PATH, &[], json!({"meterApiName": "m", "action": "DROP"}).to_string())
        .refused(400)
        .details("action must be one of INCLUDE, EXCLUDE");
    gateway.post(PATH, &[], "[").refused(400);
    gateway.with_key(None).get(&format!("{PATH}?meterApiName=m")).refused(401);
    let reader = gateway.with(&gateway.make_key("default", &["read"]));
    reader.get(&format!("{PATH}?meterApiName=m")).refused(200);
    reader.post(PATH, &[], own.to_string()).refused(403);
    // Twenty of a meter.
    for at in 0..20 {
        put(&gateway, &json!({"ruleId": format!("r-{at}"), "meterApiName": "full"}));
    }
    gateway.post(PATH, &[], json!({"meterApiName": "full"}).to_string()).refused(400);
    put(&gateway, &json!({"ruleId": "r-7", "meterApiName": "full", "action": "INCLUDE"}));
}

#[test]
fn a_rule_made_on_one_node_holds_on_another_from_its_answer_on() {
    let shared = Shared::new();
    let (one, other) = (Setup::default().node_of(&shared).start(), Setup::default().node_of(&shared).start());
    let (mut region, mut kept) = (0, 0);
    for (maker, sender) in [(&one, &other), (&other, &one), (&one, &other)] {
        region += 1;
        let name = format!("region-{region}");
        sender.send(&[from(&format!("before-{region}"), &name)]).logged(1);
        kept += 1;
        let rule = put(maker, &excluding("m", &[&name]));
        sender.send(&[from(&format!("after-{region}"), &name)]).logged(1);
        assert_eq!(verdict(maker, &format!("after-{region}"))["verdict"], "filtered");
        let listed = ok(sender.get(&format!("{PATH}?meterApiName=m")));
        assert!(listed.as_array().expect("an array").contains(&rule), "{listed}");
        // A definition, too.
        let name = format!("meter-{region}");
        ok(maker.post("/meter-definition", &[], json!({"meterApiName": name, "displayName": "d", "type": "MAX_IN_PERIOD"}).to_string()));
        assert_eq!(ok(sender.get(&format!("/meter-definition/{name}")))["type"], "MAX_IN_PERIOD");
    }
    assert_eq!(one.usage("m").count(), kept);
    // Of an event with several meters, through Kafka.
    let several = from("several", "region-1").values(&[("m", "5"), ("n", "7")]);
    one.send(&[several]).logged(1);
    assert_eq!((other.usage("m").count(), other.usage("n").sum()), (kept, "7".into()));
    assert_eq!(verdict(&other, "several")["filteredMeters"], json!(["m"]));
}
