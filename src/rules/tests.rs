use super::*;
use crate::clock::UnixMillis;
use crate::event::{Amount, Draft, Measurement, TimeWindow};
use crate::store::memory::MemoryStore;

const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

fn new(meter: &str, action: Action, dimension: &str, values: &[&str]) -> NewRule {
    let values = values.iter().map(|&value| value.to_owned()).collect();
    NewRule { id: None, meter: meter.into(), dimension: Some(dimension.into()), values, action: Some(action) }
}

/// Which meters of an event are dropped.
fn dropped(rules: &Rules, account: u32, meters: &[&str], dimensions: &[(&str, &str)]) -> u64 {
    let mut measurements: Vec<_> = meters.iter().map(|meter| Measurement { meter, value: Amount::ONE }).collect();
    let mut dimensions = dimensions.to_vec();
    let draft = Draft {
        namespace: "",
        unique_id: "u",
        unique_id_generated: false,
        customer_id: "c",
        time: None,
        measurements: &mut measurements,
        dimensions: &mut dimensions,
    };
    let event = MeterEvent::check(draft, RECEIVED, TimeWindow::default()).expect("a good event");
    rules.of(account).map_or(0, |rules| rules.decide(&event).filtered)
}

fn listed(rules: &Rules, account: u32, meter: &str) -> Vec<Rule> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(rules.list(account, meter))
}

#[test]
fn rules_decide_as_the_contract_says_and_all_must_let_pass() {
    let rules = Rules::open(Arc::new(MemoryStore::default())).expect("opens");
    assert!(rules.of(1).is_none(), "no rules, no work");
    rules.put(1, new("m", Action::Exclude, "region", &["eu", "us"])).expect("is made");
    rules.put(1, new("m", Action::Include, "tier", &["gold", ""])).expect("is made");
    for (dimensions, is_dropped) in [
        (vec![("tier", "gold")], false),
        (vec![("tier", "gold"), ("region", "eu")], true),
        (vec![("tier", "gold"), ("region", "asia")], false),
        (vec![("tier", "gold"), ("Region", "eu")], false),
        (vec![("tier", "iron")], true),
        (vec![("tier", "")], false),
        (vec![("region", "asia")], true),
        (vec![], true),
    ] {
        assert_eq!(dropped(&rules, 1, &["m"], &dimensions), u64::from(is_dropped), "{dimensions:?}");
        assert_eq!(dropped(&rules, 1, &["n"], &dimensions), 0, "another meter's");
        assert_eq!(dropped(&rules, 2, &["m"], &dimensions), 0, "another account's");
    }
    // Sorted by meter: a, m, z.
    assert_eq!(dropped(&rules, 1, &["z", "m", "a"], &[]), 0b010);
    rules.put(1, new("z", Action::Include, "tier", &[])).expect("is made");
    assert_eq!(dropped(&rules, 1, &["z", "m", "a"], &[("tier", "gold")]), 0b100, "nothing is in no values");
}

#[test]
fn a_rule_is_changed_under_its_id_and_put_out_of_use() {
    let rules = Rules::open(Arc::new(MemoryStore::default())).expect("opens");
    let (made, _) = rules.put(1, new("m", Action::Exclude, "region", &["eu"])).expect("is made");
    let (again, _) =
        rules.put(1, NewRule { id: Some(made.id.clone()), ..new("m", Action::Exclude, "region", &["us"]) }).expect("is changed");
    assert_eq!(listed(&rules, 1, "m"), std::slice::from_ref(&again));
    assert_eq!((dropped(&rules, 1, &["m"], &[("region", "eu")]), dropped(&rules, 1, &["m"], &[("region", "us")])), (0, 1));
    let moved = NewRule { id: Some(made.id.clone()), ..new("n", Action::Exclude, "region", &["us"]) };
    rules.put(1, moved).expect("is changed");
    assert_eq!((listed(&rules, 1, "m").len(), listed(&rules, 1, "n").len(), listed(&rules, 2, "n").len()), (0, 1, 0));
    let out = |dimension: Option<&str>, action| {
        let rule = NewRule {
            id: Some(made.id.clone()),
            meter: "n".into(),
            dimension: dimension.map(str::to_owned),
            values: vec!["us".into()],
            action,
        };
        let (_, must_be_heard) = rules.put(1, rule).expect("is changed");
        assert_eq!(must_be_heard, dimension.is_none(), "it dropped something before, and nothing since");
        assert!(rules.of(1).is_none(), "nothing to look at");
    };
    out(None, Some(Action::Include));
    out(Some("region"), None);
    assert_eq!(listed(&rules, 1, "n").len(), 1);
    let (own, _) = rules.put(2, NewRule { id: Some("a/b".into()), ..new("m", Action::Exclude, "region", &["eu"]) }).expect("is made");
    assert_eq!((own.id.as_str(), dropped(&rules, 2, &["m"], &[("region", "eu")])), ("a/b", 1));
}

#[test]
fn what_was_made_is_there_after_a_restart() {
    let store = Arc::new(MemoryStore::default());
    let (made, _) = Rules::open(store.clone()).expect("opens").put(7, new("m", Action::Exclude, "region", &["eu"])).expect("is made");
    let rules = Rules::open(store).expect("opens");
    assert_eq!((listed(&rules, 7, "m"), dropped(&rules, 7, &["m"], &[("region", "eu")])), (vec![made], 1));
}

#[test]
fn there_is_an_end_to_rules_and_a_change_is_not_one_more() {
    let rules = Rules::open(Arc::new(MemoryStore::default())).expect("opens");
    let (first, _) = rules.put(1, new("m", Action::Exclude, "a", &["x"])).expect("is made");
    rules.put(1, new("m", Action::Exclude, "b", &["x"])).expect("is made");
    rules.put(1, new("m", Action::Exclude, "c", &["x"])).expect("is made");
    assert!(matches!(rules.put(1, new("m", Action::Exclude, "d", &["x"])), Err(Error::TooManyOfMeter)));
    let changed = NewRule { id: Some(first.id), ..new("m", Action::Exclude, "d", &["x"]) };
    rules.put(1, changed).expect("no further one");
    rules.put(1, new("n", Action::Exclude, "a", &["x"])).expect("is made");
    let long = "x".repeat(VALUE_BYTES_MAX);
    assert!(matches!(rules.put(1, new("n", Action::Exclude, "b", &[&long])), Err(Error::TooLong)));
    rules.put(1, new("n", Action::Exclude, "b", &["x"])).expect("is made");
    assert!(matches!(rules.put(1, new("o", Action::Exclude, "a", &["x"])), Err(Error::TooMany)));
    rules.put(2, new("o", Action::Exclude, "a", &["x"])).expect("another account's");
}

#[test]
fn another_node_has_what_was_made_when_the_answer_is_out_whether_it_hears_of_it_or_not() {
    for is_silent in [false, true] {
        let store = Arc::new(MemoryStore::of_many());
        let open = || Rules::open(store.clone()).expect("opens");
        let (one, other) = (open(), open());
        if is_silent {
            store.fall_silent();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (rule, _) = one.put(1, new("m", Action::Exclude, "region", &["eu"])).expect("is made");
        assert_eq!(runtime.block_on(other.list(1, "m")), [rule]);
        let id = Some(one.put(1, new("m", Action::Include, "tier", &["gold"])).expect("is made").0.id);
        runtime.block_on(one.settle());
        assert_eq!(dropped(&other, 1, &["m"], &[]), 1);
        other.put(1, NewRule { id, ..new("m", Action::Include, "tier", &["gold", "iron"]) }).expect("is changed");
        runtime.block_on(other.settle());
        assert_eq!(dropped(&one, 1, &["m"], &[("tier", "iron")]), 0);
    }
}

#[test]
fn a_rule_that_cannot_be_read_is_damage() {
    for (id, body) in [
        ("1/r", "{".to_owned()),
        ("r", r#"{"version":1,"account":1,"id":"r","meter":"m","dimension":null,"values":[],"action":null}"#.into()),
        ("1/r", r#"{"version":1,"account":2,"id":"r","meter":"m","dimension":null,"values":[],"action":null}"#.into()),
        ("1/r", r#"{"version":9,"account":1,"id":"r","meter":"m","dimension":null,"values":[],"action":null}"#.into()),
    ] {
        let store = Arc::new(MemoryStore::default());
        store.change_document(Kind::Rule, 0, id, &mut |_| store::Change::Put(body.clone().into_bytes())).expect("memory");
        assert!(matches!(Rules::open(store), Err(store::Error::Damaged(_))), "{id} {body}");
    }
}
