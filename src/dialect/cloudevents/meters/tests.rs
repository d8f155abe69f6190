//! Definitions: what is taken, what is shown, and what the other dialects see.

use serde_json::json;

use super::*;

fn full() -> Value {
    json!({
        "slug": "tokens_total", "aggregation": "AVG", "eventType": "prompt", "name": "Tokens", "description": "of prompts",
        "valueProperty": "$.usage['tokens']", "groupBy": {"model": "$.model", "kind_2": "$.a[0].b"}, "eventFrom": "2026-01-01T02:00:00+02:00",
        "metadata": {"team": "ml"},
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut body = full();
    body[name] = value;
    body
}

fn made(body: &Value) -> Meter {
    let MeterRequest { name, said, ext } = MeterRequest::parse(body.to_string().as_bytes()).expect("a good body");
    Meter { name, said, ext, created_at: UnixMillis(1_767_225_600_000) }
}

fn of_another(meter_type: MeterType, dimensions: &[&str]) -> Meter {
    let dimensions = dimensions.iter().map(|name| (*name).to_owned()).collect();
    let said = Said { display_name: "Calls".into(), label: "c".into(), meter_type, dimensions };
    Meter { name: "API calls".into(), said, ext: Extensions::default(), created_at: UnixMillis(1_767_225_600_000) }
}

fn update(body: Value) -> MeterUpdate {
    MeterUpdate::parse(body.to_string().as_bytes()).expect("a good body")
}

#[test]
fn a_definition_is_shown_as_it_was_sent_with_an_id_and_times() {
    let meter = made(&full());
    let least = made(&json!({"slug": "a", "aggregation": "count", "eventType": "e", "name": null, "groupBy": null}));
    let shown = Value::Array(vec![render(1, &meter), render(1, &least)]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).expect("JSON"));
    let said = Said {
        display_name: "Tokens".into(),
        label: "tokens_total".into(),
        meter_type: MeterType::SumOfAllUsage,
        dimensions: vec!["kind_2".into(), "model".into()],
    };
    assert_eq!(meter.said, said);
}

#[test]
fn every_aggregation_is_taken_kept_and_seen_by_the_others_as_the_contract_says() {
    for (word, meter_type) in [
        ("SUM", MeterType::SumOfAllUsage),
        ("COUNT", MeterType::SumOfAllUsage),
        ("UNIQUE_COUNT", MeterType::UniqueCustomersCount),
        ("AVG", MeterType::SumOfAllUsage),
        ("MIN", MeterType::SumOfAllUsage),
        ("MAX", MeterType::MaxInPeriod),
        ("LATEST", MeterType::SumOfAllUsage),
    ] {
        let meter = made(&with("aggregation", word.into()));
        assert_eq!((render(1, &meter)["aggregation"].as_str(), meter.said.meter_type), (Some(word), meter_type));
        let mut changed = meter;
        changed.said.meter_type = MeterType::Latest;
        assert_eq!(Aggregation::of(&changed), Aggregation::Latest, "another dialect has changed it");
    }
}

#[test]
fn a_definition_of_another_dialect_is_shown_as_what_it_does() {
    let meter = of_another(MeterType::MaxInPeriod, &["region", "cost centre"]);
    let shown = render(1, &meter);
    let expected = json!({
        "id": id(1, &meter), "slug": "API calls", "name": "Calls", "aggregation": "MAX", "eventType": "API calls", "valueProperty": "$.value",
        "groupBy": {"region": "$['region']"}, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
    });
    assert_eq!(shown, expected);
    let customers = of_another(MeterType::UniqueCustomersCount, &[]);
    assert_eq!((Aggregation::of(&customers), counted(&customers)), (Aggregation::UniqueCount, Field::Customer));
    let values = made(&with("aggregation", "UNIQUE_COUNT".into()));
    assert_eq!(counted(&values), Field::Dimension("ce.value".into()));
    let mut octanes = of_another(MeterType::SumOfAllUsage, &[]);
    octanes.ext.octane.insert("aggregation".into(), "avg".into());
    assert_eq!(Aggregation::of(&octanes), Aggregation::Average);
}

#[test]
fn a_put_replaces_what_can_be_changed_and_nothing_else() {
    let mut meter = made(&full());
    let before = meter.clone();
    update(json!({"name": "T", "groupBy": {"model": "$.model"}, "slug": "other", "aggregation": "SUM"}))
        .apply(&mut meter, UnixMillis(1_767_225_601_500));
    let mut expected = full();
    let members = expected.as_object_mut().expect("an object");
    members.remove("description");
    members.remove("metadata");
    members.insert("name".into(), "T".into());
    members.insert("groupBy".into(), json!({"model": "$.model"}));
    let shown = render(1, &meter);
    for name in ["slug", "aggregation", "eventType", "name", "description", "valueProperty", "groupBy", "metadata"] {
        assert_eq!(shown.get(name), expected.get(name), "{name}");
    }
    assert_eq!((&shown["id"], &shown["updatedAt"]), (&render(1, &before)["id"], &json!("2026-01-01T00:00:01.5Z")));
    assert_eq!(meter.said.dimensions, ["model"]);
    update(json!({})).apply(&mut meter, UnixMillis(1_767_225_602_000));
    assert_eq!((&meter.said.display_name[..], &render(1, &meter)["groupBy"]), ("tokens_total", &json!({})));
}

#[test]
fn a_put_to_a_definition_of_another_dialect_makes_it_openmeter_s_only_by_other_groups() {
    let mut meter = of_another(MeterType::MaxInPeriod, &["region"]);
    meter.ext.octane.insert("unit_name".into(), "calls".into());
    let shown = render(1, &meter);
    update(json!({"name": "New", "groupBy": shown["groupBy"], "description": "d"})).apply(&mut meter, UnixMillis(1));
    assert!(!meter.ext.openmeter.contains_key("eventType") && meter.said.display_name == "New", "{meter:?}");
    assert_eq!((&meter.said.dimensions[..], meter.ext.octane.len()), (&["region".to_owned()][..], 1));
    update(json!({"groupBy": {"region": "$.where.region"}})).apply(&mut meter, UnixMillis(1));
    let own = &meter.ext.openmeter;
    assert_eq!((&own["eventType"], &own["aggregation"], &own["valueProperty"]), (&json!("API calls"), &json!("MAX"), &json!("$.value")));
    assert_eq!((&own["groupBy"], meter.ext.octane.len()), (&json!({"region": "$.where.region"}), 1));
}

#[test]
fn an_id_is_a_ulid_that_follows_from_the_meter() {
    let meter = made(&full());
    let ids = [
        id(1, &meter),
        id(2, &meter),
        id(1, &Meter { name: "other".into(), ..meter.clone() }),
        id(1, &Meter { created_at: UnixMillis(1_767_225_600_001), ..meter.clone() }),
    ];
    for (at, one) in ids.iter().enumerate() {
        assert!(is_id(one) && one.as_str() < "8", "{one}");
        assert!(ids[..at].iter().all(|other| other != one), "{ids:?}");
    }
    assert_eq!(ids[0], id(1, &meter.clone()));
    assert!(ids[3][..10] > ids[0][..10], "they sort by time: {ids:?}");
    for other in ["tokens_total", "01KDVDNC00E7N8SVJ6PJ6WRQ7", "01kdvdnc00e7n8svj6pj6wrq7b", "01KDVDNC00E7N8SVJ6PJ6WRQ7U"] {
        assert!(!is_id(other), "{other}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let long_group = "x".repeat(129);
    let many: Map<String, Value> = (0..33).map(|n| (format!("g{n}"), "$.a".into())).collect();
    for (name, value, details) in [
        ("slug", Value::Null, "slug is missing"),
        ("slug", json!("Tokens"), "slug must be lower-case letters and digits, in parts with _ between them"),
        ("slug", json!("a__b"), "slug must be lower-case letters and digits, in parts with _ between them"),
        ("slug", json!("a_"), "slug must be lower-case letters and digits, in parts with _ between them"),
        ("slug", json!("x".repeat(65)), "slug has 65 bytes, the limit is 64"),
        ("aggregation", json!("MEDIAN"), "aggregation must be one of SUM, COUNT, UNIQUE_COUNT, AVG, MIN, MAX, LATEST"),
        ("aggregation", Value::Null, "aggregation is missing"),
        ("eventType", json!(""), "eventType must not be empty"),
        ("eventType", json!("a\u{0}"), "eventType contains U+0000"),
        ("valueProperty", Value::Null, "valueProperty is missing: of what does AVG make a number?"),
        ("valueProperty", json!("tokens"), "valueProperty must begin with $"),
        (
            "valueProperty",
            json!("$.a[*]"),
            "valueProperty may name several values (at byte 3): give names and indexes only, as in $.a['b'][0]",
        ),
        ("valueProperty", json!(7), "valueProperty must be a string"),
        ("groupBy", json!([]), "groupBy must be an object"),
        ("groupBy", json!(many), "groupBy has 33 entries, the limit is 32"),
        ("groupBy", json!({"a": "$..b"}), "groupBy.a may name several values (at byte 1): give names and indexes only, as in $.a['b'][0]"),
        ("groupBy", json!({"a": null}), "groupBy.a is missing"),
        (
            "groupBy",
            json!({"subject": "$.s"}),
            "groupBy.subject is no name of a group: take letters, digits and _, 128 at most, and not `subject`",
        ),
        (
            "groupBy",
            json!({"ce.type": "$.s"}),
            "groupBy.ce.type is no name of a group: take letters, digits and _, 128 at most, and not `subject`",
        ),
        ("groupBy", json!({"": "$.s"}), "groupBy. is no name of a group: take letters, digits and _, 128 at most, and not `subject`"),
        ("name", json!(""), "name must not be empty"),
        ("name", json!("é".repeat(257)), "name has 257 characters, the limit is 256"),
        ("description", json!("x".repeat(1_025)), "description has 1025 characters, the limit is 1024"),
        ("metadata", json!({"a": 7}), "metadata.a must be a string"),
        ("eventFrom", json!("yesterday"), "eventFrom must be a time as in RFC 3339"),
    ] {
        let refused = MeterRequest::parse(with(name, value).to_string().as_bytes()).expect_err("a bad body");
        assert_eq!((refused.details.as_deref(), refused.status.as_u16()), (Some(details), 400));
    }
    let mut body = full();
    body["groupBy"] = Map::from_iter([(long_group, "$.a".into())]).into();
    assert!(MeterRequest::parse(body.to_string().as_bytes()).is_err());
    for body in ["", "[]", "7", "{"] {
        assert!(MeterRequest::parse(body.as_bytes()).is_err() && MeterUpdate::parse(body.as_bytes()).is_err(), "{body}");
    }
    assert!(MeterUpdate::parse(br#"{"groupBy": {"a": "$.*"}}"#).is_err());
}
