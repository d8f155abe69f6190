//! Plans as JSON: the body of `POST /v1/plans`, and what is stored.
//!
//! ```json
//! {
//!   "id": "pro", "name": "Pro", "productId": "1", "currency": "USD", "billingPeriod": "month",
//!   "minimum": 20,
//!   "fees": [{"id": "base", "name": "Base fee", "amount": 49, "due": "advance"}],
//!   "prices": [
//!     {"id": "tokens", "meter": "tokens", "model": "graduated", "included": 1000,
//!      "tiers": [{"upTo": 10000, "unitPrice": 0.002}, {"unitPrice": 0.001, "flatPrice": 5}]},
//!     {"id": "seats", "meter": "seats", "aggregation": "max", "model": "perUnit", "unitPrice": 8, "minimum": 8},
//!     {"id": "users", "meter": "logins", "aggregation": "unique", "uniqueDimension": "user", "model": "package", "size": 10, "packagePrice": 3},
//!     {"id": "compute", "meter": "compute", "byDimension": {"dimension": "region",
//!       "values": {"eu": {"model": "perUnit", "unitPrice": 0.4}}, "default": {"model": "perUnit", "unitPrice": 0.5}}}
//!   ]
//! }
//! ```
//!
//! | field | without it | |
//! |---|---|---|
//! | `id` | required | 1 to 255 bytes |
//! | `name` | the id | of the plan, a fee, a price: up to 1,024 bytes |
//! | `productId` | `1` | |
//! | `currency` | required | ISO 4217, any case |
//! | `billingPeriod` | `month` | nothing else so far: calendar months in UTC |
//! | `minimum` | none | of the plan: what all usage of a month comes to at least; of a price: what it alone comes to at least |
//! | `fees[].amount` | required | for a month |
//! | `fees[].due` | `arrears` | `advance`: owed with the begin of the period, `arrears`: with its end |
//! | `prices[].id` | the meter | unique among the prices |
//! | `prices[].meter` | required | API name |
//! | `prices[].aggregation` | `sum` | `sum`, `count`, `max`, `latest`, or `unique` with `uniqueDimension` |
//! | `prices[].model` … | required | a rate; or `byDimension` with a rate for each value, and `default` for all other events together, which are free without it |
//!
//! A rate is `included` (0) and one model: `perUnit` (`unitPrice`), `graduated` and `volume` (`tiers` of `upTo`, `unitPrice`, `flatPrice`; `upTo` is
//! the last unit that belongs to the tier, the last tier has none), `package` (`size`, `packagePrice`). Amounts are JSON numbers of 0 or more with up
//! to 12 places, below 10^12; words are read in any case. Unknown fields are refused: a misspelled minimum would be none.

mod fields;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use self::fields::{Fields, Node};
use super::{
    Aggregate, Charge, Due, FEES_MAX, Fee, ID_BYTES_MAX, NAME_BYTES_MAX, PRICES_MAX, Plan, Price, RATES_MAX, Rate, Rates, TIERS_MAX, Tier,
    VALUES_MAX,
};
use crate::billing::money::Currency;
use crate::event::{self, Amount, DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX};

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} {reason}")]
pub struct PlanError {
    /// The field, e.g. `prices[2].tiers[0].upTo`.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

const PLAN: [&str; 8] = ["id", "name", "productId", "currency", "billingPeriod", "minimum", "fees", "prices"];
const PRICE: [&str; 13] = [
    "id",
    "name",
    "meter",
    "aggregation",
    "uniqueDimension",
    "minimum",
    "byDimension",
    "model",
    "included",
    "unitPrice",
    "tiers",
    "size",
    "packagePrice",
];
const RATE: [&str; 6] = ["model", "included", "unitPrice", "tiers", "size", "packagePrice"];
/// Each model with the fields that are its own.
const MODELS: [(&str, &[&str]); 4] =
    [("perUnit", &["unitPrice"]), ("graduated", &["tiers"]), ("volume", &["tiers"]), ("package", &["size", "packagePrice"])];
const AGGREGATES: [(&str, usize); 5] = [("sum", 0), ("count", 1), ("max", 2), ("latest", 3), ("unique", 4)];
const DUES: [(&str, Due); 2] = [("advance", Due::Advance), ("arrears", Due::Arrears)];

/// Reads a plan.
///
/// # Errors
/// [`PlanError`] names the field.
pub fn read(plan: &Value) -> Result<Plan, PlanError> {
    let plan = Node::root(plan).object(&PLAN)?;
    let id = plan.required_text("id", ID_BYTES_MAX)?;
    let period = plan.text("billingPeriod", NAME_BYTES_MAX)?.unwrap_or_else(|| "month".into());
    if !period.eq_ignore_ascii_case("month") {
        return Err(plan.wrong("billingPeriod", "must be month: there is nothing else yet"));
    }
    let currency = plan.required_text("currency", ID_BYTES_MAX)?;
    let read = Plan {
        name: plan.text("name", NAME_BYTES_MAX)?.unwrap_or_else(|| id.clone()),
        id,
        product_id: plan.text("productId", ID_BYTES_MAX)?.unwrap_or_else(|| "1".into()),
        currency: Currency::parse(&currency).ok_or_else(|| plan.wrong("currency", "must be a code of ISO 4217 with minor units"))?,
        minimum: plan.price("minimum")?,
        fees: plan.list("fees", FEES_MAX)?.iter().map(read_fee).collect::<Result<_, _>>()?,
        prices: plan.list("prices", PRICES_MAX)?.iter().map(read_price).collect::<Result<_, _>>()?,
    };
    check_ids("fees", read.fees.iter().map(|fee| fee.id.as_str()))?;
    check_ids("prices", read.prices.iter().map(|price| price.id.as_str()))?;
    if read.prices.iter().map(|price| price.all_rates().len()).sum::<usize>() > RATES_MAX {
        return Err(plan.wrong("prices", format!("have more than {RATES_MAX} rates together, the limit")));
    }
    Ok(read)
}

fn check_ids<'i>(list: &str, ids: impl Iterator<Item = &'i str>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for (index, id) in ids.enumerate() {
        if !seen.insert(id) {
            return Err(PlanError { path: format!("{list}[{index}].id"), reason: "is there twice".into() });
        }
    }
    Ok(())
}

fn read_fee(node: &Node<'_>) -> Result<Fee, PlanError> {
    let fee = node.object(&["id", "name", "amount", "due"])?;
    let id = fee.required_text("id", ID_BYTES_MAX)?;
    Ok(Fee {
        name: fee.text("name", NAME_BYTES_MAX)?.unwrap_or_else(|| id.clone()),
        id,
        amount: fee.required("amount", fee.price("amount")?)?,
        due: fee.word("due", &DUES)?.unwrap_or(Due::Arrears),
    })
}

fn read_price(node: &Node<'_>) -> Result<Price, PlanError> {
    let price = node.object(&PRICE)?;
    let meter = price.required_text("meter", event::NAME_BYTES_MAX)?;
    let id = price.text("id", ID_BYTES_MAX)?.unwrap_or_else(|| meter.clone());
    Ok(Price {
        name: price.text("name", NAME_BYTES_MAX)?.unwrap_or_else(|| id.clone()),
        id,
        aggregate: read_aggregate(&price)?,
        minimum: price.price("minimum")?,
        rates: read_rates(&price)?,
        meter,
    })
}

fn read_aggregate(price: &Fields<'_>) -> Result<Aggregate, PlanError> {
    let word = price.word("aggregation", &AGGREGATES)?.unwrap_or(0);
    let dimension = price.text("uniqueDimension", DIMENSION_KEY_BYTES_MAX)?;
    match (word, dimension) {
        (4, Some(dimension)) => Ok(Aggregate::Unique { dimension }),
        (4, None) => Err(price.wrong("uniqueDimension", "is missing: whose different values are counted?")),
        (_, Some(_)) => Err(price.wrong("uniqueDimension", "is only for the aggregation unique")),
        (1, None) => Ok(Aggregate::Count),
        (2, None) => Ok(Aggregate::Max),
        (3, None) => Ok(Aggregate::Latest),
        (_, None) => Ok(Aggregate::Sum),
    }
}

fn read_rates(price: &Fields<'_>) -> Result<Rates, PlanError> {
    let Some(by) = price.get("byDimension") else { return read_rate(price).map(Rates::One) };
    if let Some(other) = RATE.iter().find(|name| price.get(name).is_some()) {
        return Err(price.wrong(other, "stands beside byDimension: the rates are in there"));
    }
    let by = by.object(&["dimension", "values", "default"])?;
    let dimension = by.required_text("dimension", DIMENSION_KEY_BYTES_MAX)?;
    let mut values = Vec::new();
    for (value, rate) in by.required("values", by.members("values", VALUES_MAX)?)? {
        if value.is_empty() || value.len() > DIMENSION_VALUE_BYTES_MAX {
            return Err(rate.wrong(format!("is for a value that must have 1 to {DIMENSION_VALUE_BYTES_MAX} bytes")));
        }
        values.push((value.to_owned(), read_rate(&rate.object(&RATE)?)?));
    }
    values.sort_by(|(one, _), (other, _)| one.cmp(other));
    let default = by.get("default").map(|node| read_rate(&node.object(&RATE)?)).transpose()?;
    Ok(Rates::ByValue { dimension, values, default })
}

fn read_rate(fields: &Fields<'_>) -> Result<Rate, PlanError> {
    let words: Vec<(&str, usize)> = MODELS.iter().enumerate().map(|(index, (word, _))| (*word, index)).collect();
    let model = fields.required("model", fields.word("model", &words)?)?;
    let (word, own) = MODELS[model];
    if let Some(other) = RATE[2..].iter().find(|name| fields.get(name).is_some() && !own.contains(name)) {
        return Err(fields.wrong(other, format!("is not for the model {word}")));
    }
    let charge = match model {
        0 => Charge::PerUnit(fields.required("unitPrice", fields.price("unitPrice")?)?),
        1 => Charge::Graduated(read_tiers(fields)?),
        2 => Charge::Volume(read_tiers(fields)?),
        _ => Charge::Package {
            size: fields.required("size", fields.positive("size")?)?,
            price: fields.required("packagePrice", fields.price("packagePrice")?)?,
        },
    };
    Ok(Rate { included: fields.quantity("included")?.unwrap_or_default(), charge })
}

fn read_tiers(fields: &Fields<'_>) -> Result<Vec<Tier>, PlanError> {
    let nodes = fields.list("tiers", TIERS_MAX)?;
    let mut tiers: Vec<Tier> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let tier = node.object(&["upTo", "unitPrice", "flatPrice"])?;
        let up_to = tier.positive("upTo")?;
        if up_to.is_none() != (index + 1 == nodes.len()) {
            return Err(tier.wrong("upTo", "must be in all tiers but the last, which has no end"));
        }
        if up_to.is_some() && tiers.last().is_some_and(|before| before.up_to >= up_to) {
            return Err(tier.wrong("upTo", "must be larger than in the tier before"));
        }
        let (unit_price, flat) = (tier.price("unitPrice")?, tier.price("flatPrice")?);
        if unit_price.is_none() && flat.is_none() {
            return Err(tier.wrong("unitPrice", "is missing, and so is flatPrice"));
        }
        tiers.push(Tier { up_to, unit_price: unit_price.unwrap_or_default(), flat: flat.unwrap_or_default() });
    }
    if tiers.is_empty() { Err(fields.wrong("tiers", "must have at least one tier")) } else { Ok(tiers) }
}

/// The JSON of a plan; [`read`] makes the same of it.
pub fn shown(plan: &Plan) -> Value {
    let mut shown = json!({
        "id": plan.id,
        "name": plan.name,
        "productId": plan.product_id,
        "currency": plan.currency,
        "billingPeriod": "month",
        "fees": plan.fees.iter().map(shown_fee).collect::<Vec<_>>(),
        "prices": plan.prices.iter().map(shown_price).collect::<Vec<_>>(),
    });
    insert(&mut shown, "minimum", plan.minimum);
    shown
}

fn insert(object: &mut Value, name: &str, amount: Option<Amount>) {
    if let Some(amount) = amount {
        object[name] = number(amount);
    }
}

/// An exact decimal as JSON.
pub(in crate::billing) fn number(amount: Amount) -> Value {
    // A decimal is always a JSON number.
    amount.to_string().parse().map_or(Value::Null, Value::Number)
}

fn shown_fee(fee: &Fee) -> Value {
    json!({"id": fee.id, "name": fee.name, "amount": number(fee.amount), "due": due_label(fee.due)})
}

/// The word for when a fee is due.
pub fn due_label(due: Due) -> &'static str {
    match due {
        Due::Advance => "advance",
        Due::Arrears => "arrears",
    }
}

/// The word for an aggregate.
pub fn aggregate_label(aggregate: &Aggregate) -> &'static str {
    match aggregate {
        Aggregate::Sum => "sum",
        Aggregate::Count => "count",
        Aggregate::Max => "max",
        Aggregate::Latest => "latest",
        Aggregate::Unique { .. } => "unique",
    }
}

/// The word for a pricing model.
pub fn model_label(charge: &Charge) -> &'static str {
    match charge {
        Charge::PerUnit(_) => "perUnit",
        Charge::Graduated(_) => "graduated",
        Charge::Volume(_) => "volume",
        Charge::Package { .. } => "package",
    }
}

fn shown_price(price: &Price) -> Value {
    let mut shown = json!({"id": price.id, "name": price.name, "meter": price.meter, "aggregation": aggregate_label(&price.aggregate)});
    if let Aggregate::Unique { dimension } = &price.aggregate {
        shown["uniqueDimension"] = dimension.as_str().into();
    }
    insert(&mut shown, "minimum", price.minimum);
    match &price.rates {
        Rates::One(rate) => {
            if let (Value::Object(all), Value::Object(rate)) = (&mut shown, shown_rate(rate)) {
                all.extend(rate);
            }
        }
        Rates::ByValue { dimension, values, default } => {
            let values: Map<String, Value> = values.iter().map(|(value, rate)| (value.clone(), shown_rate(rate))).collect();
            shown["byDimension"] = json!({"dimension": dimension, "values": values});
            if let Some(rate) = default {
                shown["byDimension"]["default"] = shown_rate(rate);
            }
        }
    }
    shown
}

fn shown_rate(rate: &Rate) -> Value {
    let mut shown = json!({"model": model_label(&rate.charge)});
    insert(&mut shown, "included", Some(rate.included).filter(|included| *included != Amount::default()));
    match &rate.charge {
        Charge::PerUnit(price) => shown["unitPrice"] = number(*price),
        Charge::Graduated(tiers) | Charge::Volume(tiers) => shown["tiers"] = tiers.iter().map(shown_tier).collect(),
        Charge::Package { size, price } => {
            shown["size"] = number(*size);
            shown["packagePrice"] = number(*price);
        }
    }
    shown
}

fn shown_tier(tier: &Tier) -> Value {
    let mut shown = json!({"unitPrice": number(tier.unit_price)});
    insert(&mut shown, "upTo", tier.up_to);
    insert(&mut shown, "flatPrice", Some(tier.flat).filter(|flat| *flat != Amount::default()));
    shown
}
