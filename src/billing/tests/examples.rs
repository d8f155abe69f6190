//! The worked examples of the docs.

use serde_json::Value;

use crate::billing::invoice::lines;
use crate::billing::money::{Part, decimal};
use crate::billing::plan::{Plan, Price, json};
use crate::billing::quantity::Quantity;

fn quantity(value: &Value) -> Quantity {
    match value {
        Value::Null => Quantity::default(),
        number => Quantity { value: decimal::read(&number.to_string()).expect("a decimal"), events: 1, rows: 1, has_overflow: false },
    }
}

fn measured(price: &Price, used: &Value) -> Vec<Quantity> {
    let used = &used[&price.id];
    let of_rate = |value: Option<&str>| match used {
        Value::Object(by_value) => quantity(by_value.get(value.unwrap_or("*")).unwrap_or(&Value::Null)),
        number => quantity(number),
    };
    price.all_rates().into_iter().map(|(value, _)| of_rate(value)).collect()
}

#[test]
fn the_worked_examples_come_to_what_they_say() {
    let mut count = 0;
    for block in include_str!("../examples.md").split("```json").skip(1) {
        let text = block.split("```").next().expect("the end of a block");
        let example: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let plan: Plan = json::read(&example["plan"]).unwrap_or_else(|error| panic!("{error}: {text}"));
        let hours = |index: usize| example["hours"][index].as_u64().and_then(|hours| u32::try_from(hours).ok()).expect("hours");
        let part = Part::new(hours(0), hours(1));
        let quantities: Vec<Vec<Quantity>> = plan.prices.iter().map(|price| measured(price, &example["used"])).collect();
        let found: Vec<Value> = lines(&plan, part, &quantities)
            .expect("small")
            .iter()
            .map(|line| serde_json::json!([line.kind, line.id, line.amount]))
            .collect();
        assert_eq!(Value::from(found), example["lines"], "{text}");
        count += 1;
    }
    assert_eq!(count, 15);
}
