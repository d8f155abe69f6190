use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::billing::tests::any_plan;

fn whole() -> Value {
    let text = include_str!("../json.rs");
    let example = text.split("```json").nth(1).and_then(|rest| rest.split("//! ```").next()).expect("the example of the docs");
    let example: String = example.lines().map(|line| line.trim_start_matches("//!")).collect();
    serde_json::from_str(&example).expect("JSON")
}

#[test]
fn the_example_of_the_docs_is_a_plan() {
    let plan = read(&whole()).expect("a plan");
    assert_eq!((plan.fees.len(), plan.prices.len()), (1, 4));
    assert_eq!(plan.prices[3].all_rates().len(), 2);
    assert_eq!(read(&shown(&plan)), Ok(plan));
}

#[test]
fn an_error_names_the_path_of_the_field() {
    for (pointer, value, error) in [
        ("/id", json!(""), "id must not be empty"),
        ("/id", json!(null), "id is missing"),
        ("/id", json!(7), "id must be a string"),
        ("/id", json!("x".repeat(256)), "id has 256 bytes, the limit is 255"),
        ("/currency", json!("XAU"), "currency must be a code of ISO 4217 with minor units"),
        ("/billingPeriod", json!("year"), "billingPeriod must be month: there is nothing else yet"),
        ("/minimum", json!(-1), "minimum must not be negative"),
        ("/minimum", json!("1"), "minimum must be a number"),
        ("/fees/0/amount", json!(1_000_000_000_000_i64), "fees[0].amount must be less than 10^12"),
        ("/fees/0/amount", json!(null), "fees[0].amount is missing"),
        ("/fees/0/due", json!("later"), "fees[0].due must be one of advance, arrears"),
        ("/fees", json!({}), "fees must be an array"),
        ("/prices/1/id", json!("tokens"), "prices[1].id is there twice"),
        ("/prices/0/meter", json!(null), "prices[0].meter is missing"),
        ("/prices/0/model", json!("perUnit"), "prices[0].tiers is not for the model perUnit"),
        ("/prices/0/model", json!(null), "prices[0].model is missing"),
        ("/prices/0/tiers", json!([]), "prices[0].tiers must have at least one tier"),
        ("/prices/0/tiers/0/upTo", json!(0), "prices[0].tiers[0].upTo must be more than 0"),
        ("/prices/0/tiers/0/upTo", json!(null), "prices[0].tiers[0].upTo must be in all tiers but the last, which has no end"),
        ("/prices/0/tiers/1/upTo", json!(20_000), "prices[0].tiers[1].upTo must be in all tiers but the last, which has no end"),
        ("/prices/0/tiers/0/unitPrice", json!(null), "prices[0].tiers[0].unitPrice is missing, and so is flatPrice"),
        ("/prices/0/byDimension", json!({}), "prices[0].model stands beside byDimension: the rates are in there"),
        ("/prices/1/aggregation", json!("median"), "prices[1].aggregation must be one of sum, count, max, latest, unique"),
        ("/prices/1/uniqueDimension", json!("user"), "prices[1].uniqueDimension is only for the aggregation unique"),
        ("/prices/2/uniqueDimension", json!(null), "prices[2].uniqueDimension is missing: whose different values are counted?"),
        ("/prices/2/size", json!(0), "prices[2].size must be more than 0"),
        ("/prices/3/byDimension/values/eu", json!(1), "prices[3].byDimension.values.eu must be an object"),
        ("/prices/3/byDimension/values/eu/unitPrice", json!(-1), "prices[3].byDimension.values.eu.unitPrice must not be negative"),
        (
            "/prices/3/byDimension/default/model",
            json!("x"),
            "prices[3].byDimension.default.model must be one of perUnit, graduated, volume, package",
        ),
    ] {
        let mut plan = whole();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        plan.pointer_mut(parent).expect("is there")[name] = value;
        assert_eq!(read(&plan).expect_err("refused").to_string(), error, "{pointer}");
    }
}

#[test]
fn unknown_fields_and_prices_that_would_be_rounded_are_refused() {
    let refused = |text: &str| read(&serde_json::from_str(text).expect("JSON")).expect_err("refused").to_string();
    assert!(refused(r#"{"id":"a","currency":"USD","minimun":5}"#).starts_with("minimun is no field here; there are: id, name,"));
    let price =
        |number: &str| format!(r#"{{"id":"a","currency":"USD","prices":[{{"meter":"m","model":"perUnit","unitPrice":{number}}}]}}"#);
    assert_eq!(refused(&price("0.0000000000001")), "prices[0].unitPrice has more than 12 places, the limit");
    assert_eq!(refused(&price("1.0000000000001")), "prices[0].unitPrice has more than 12 places, the limit");
    for exact in ["0.000000000001", "1e-12", "1.50", "1.5e3", "100", "0", "0.0e5"] {
        assert!(read(&serde_json::from_str(&price(exact)).expect("JSON")).is_ok(), "{exact}");
    }
}

#[test]
fn counts_have_limits() {
    let fee = |n: usize| json!({"id": n.to_string(), "amount": 1});
    let fees = |count: usize| json!({"id": "a", "currency": "USD", "fees": (0..count).map(fee).collect::<Vec<_>>()});
    assert!(read(&fees(FEES_MAX)).is_ok());
    assert_eq!(read(&fees(FEES_MAX + 1)).expect_err("refused").to_string(), "fees has 51 entries, the limit is 50");
    let rate = json!({"model": "perUnit", "unitPrice": 1});
    let values: serde_json::Map<String, Value> = (0..VALUES_MAX).map(|n| (n.to_string(), rate.clone())).collect();
    let price = |n: usize| json!({"id": n.to_string(), "meter": "m", "byDimension": {"dimension": "d", "values": values}});
    let prices = |count: usize| json!({"id": "a", "currency": "USD", "prices": (0..count).map(price).collect::<Vec<_>>()});
    assert!(read(&prices(5)).is_ok());
    assert_eq!(read(&prices(6)).expect_err("refused").to_string(), "prices have more than 5000 rates together, the limit");
}

proptest! {
    #[test]
    fn what_is_shown_of_a_plan_makes_the_same_plan(plan in any_plan()) {
        let text = shown(&plan).to_string();
        prop_assert_eq!(read(&serde_json::from_str(&text).expect("JSON")), Ok(plan));
    }
}
