//! The lines of an invoice, from a plan and what was measured.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::billing::money::{Currency, Exact, Money, Part, decimal};
use crate::billing::plan::json::{aggregate_label, due_label, model_label};
use crate::billing::plan::{Due, Fee, Plan, Price, Rate, Rates};
use crate::billing::prepaid::Cost;
use crate::billing::pricing::{self, Step};
use crate::billing::quantity::Quantity;
use crate::event::{Amount, Sum};

/// A line that is too large to be computed, or to be paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the line {0} comes to more than can be computed: 10^30 in money, or 10^52 units × prices on the way")]
pub struct TooLarge(pub String);

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LineKind {
    /// A flat fee.
    Fee,
    /// What was used, at one rate.
    Usage,
    /// What the usage of one price comes to less than its minimum.
    PriceMinimum,
    /// What all usage comes to less than the plan's minimum.
    PlanMinimum,
    /// What an earlier, closed period would come to now, less what was billed for it.
    Late,
}

impl LineKind {
    /// What usage comes to, with minimums, but without what is late.
    pub const OF_USAGE: [Self; 3] = [Self::Usage, Self::PriceMinimum, Self::PlanMinimum];
}

/// One line. Rounded once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What it is for.
    pub kind: LineKind,
    /// Of the fee or the price; of the plan where it is about all of it, of the earlier invoice where it is about that.
    pub id: String,
    /// For people.
    pub name: String,
    /// When a fee is owed: `advance` or `arrears`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// What was measured, and how it was priced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Used>,
    /// Of a line for late usage: what was billed for the same before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_before: Option<Money>,
    /// What it comes to.
    pub amount: Money,
}

impl Line {
    /// A line that needs no further explanation.
    pub fn new(kind: LineKind, id: &str, name: &str, amount: Money) -> Self {
        Self { kind, id: id.to_owned(), name: name.to_owned(), due: None, usage: None, billed_before: None, amount }
    }
}

/// Which rows, which rate, which tiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// The meter's API name.
    pub meter: String,
    /// What of it is billed.
    pub aggregation: String,
    /// The dimension by whose values there are rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimension: Option<String>,
    /// Its value; none: all other events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimension_value: Option<String>,
    /// What was used.
    #[serde(with = "decimal")]
    pub quantity: Sum,
    /// Units that cost nothing in this period.
    #[serde(with = "decimal")]
    pub included: Sum,
    /// The pricing model.
    pub model: String,
    /// Tiers or packages.
    pub steps: Vec<Step>,
    /// Events behind it.
    pub events: u64,
    /// Rows of the store that it was read from.
    pub rows: u64,
    /// Whether events that have lost their dimensions (the overflow row) are among them.
    pub overflow: bool,
}

/// All lines of a period but those for late usage. `measured`: the quantities of each price's rates, over the whole period.
///
/// # Errors
/// [`TooLarge`].
pub fn lines(plan: &Plan, part: Part, measured: &[Vec<Quantity>]) -> Result<Vec<Line>, TooLarge> {
    let mut lines = fees(plan, part, |_| true)?;
    lines.extend(usage(plan, part, measured)?);
    Ok(lines)
}

/// What usage comes to, with minimums: the part of the lines that late usage can change.
///
/// # Errors
/// [`TooLarge`].
pub fn usage_total(plan: &Plan, part: Part, measured: &[Vec<Quantity>]) -> Result<Money, TooLarge> {
    Ok(usage(plan, part, measured)?.iter().map(|line| line.amount).sum())
}

/// What has arisen by the end of each slice of a period. `measured`: for each slice the quantities of each price's rates since the begin
/// of the period; `total`: what the whole invoice comes to.
///
/// # Errors
/// [`TooLarge`].
pub fn costs(plan: &Plan, part: Part, slices: &[Range<u32>], measured: &[Vec<Vec<Quantity>>], total: Money) -> Result<Vec<Cost>, TooLarge> {
    let advance: Money = fees(plan, part, |fee| fee.due == Due::Advance)?.iter().map(|line| line.amount).sum();
    let mut costs = Vec::with_capacity(slices.len());
    for (index, (slice, measured)) in slices.iter().zip(measured).enumerate() {
        let arisen = if index + 1 == slices.len() {
            total
        } else {
            let used = rated(plan, part, measured)?;
            advance + used.iter().flatten().map(|line| line.amount).sum()
        };
        costs.push(Cost { slice: slice.clone(), arisen });
    }
    Ok(costs)
}

fn fees(plan: &Plan, part: Part, which: impl Fn(&Fee) -> bool) -> Result<Vec<Line>, TooLarge> {
    let line = |fee: &Fee| {
        let amount = rounded(Exact::part_of(fee.amount, part), plan.currency, &fee.id)?;
        Ok(Line { due: Some(due_label(fee.due).into()), ..Line::new(LineKind::Fee, &fee.id, &fee.name, amount) })
    };
    plan.fees.iter().filter(|fee| which(fee)).map(line).collect()
}

fn usage(plan: &Plan, part: Part, measured: &[Vec<Quantity>]) -> Result<Vec<Line>, TooLarge> {
    let mut lines = Vec::new();
    for (price, rated) in plan.prices.iter().zip(rated(plan, part, measured)?) {
        let missing = missing(price.minimum, part, plan.currency, &rated, &price.id)?;
        lines.extend(rated);
        lines.extend(missing.map(|amount| Line::new(LineKind::PriceMinimum, &price.id, &price.name, amount)));
    }
    let missing = missing(plan.minimum, part, plan.currency, &lines, &plan.id)?;
    lines.extend(missing.map(|amount| Line::new(LineKind::PlanMinimum, &plan.id, &plan.name, amount)));
    Ok(lines)
}

/// What lines come to less than a minimum; `None` if they do not.
fn missing(minimum: Option<Amount>, part: Part, currency: Currency, lines: &[Line], id: &str) -> Result<Option<Money>, TooLarge> {
    let Some(minimum) = minimum else { return Ok(None) };
    let owed: Money = lines.iter().map(|line| line.amount).sum();
    let missing = rounded(Exact::part_of(minimum, part), currency, id)? - owed;
    Ok(Some(missing).filter(|missing| *missing > Money::ZERO))
}

/// The lines of each price's rates. A rate for one value of a dimension has a line if it has events.
fn rated(plan: &Plan, part: Part, measured: &[Vec<Quantity>]) -> Result<Vec<Vec<Line>>, TooLarge> {
    let of_price = |(price, quantities): (&Price, &Vec<Quantity>)| {
        let is_one = matches!(price.rates, Rates::One(_));
        let rates = price.all_rates().into_iter().zip(quantities).filter(|(_, quantity)| is_one || quantity.events > 0);
        rates.map(|((value, rate), quantity)| rate_line(plan, price, value, rate, *quantity, part)).collect()
    };
    plan.prices.iter().zip(measured).map(of_price).collect()
}

fn rate_line(plan: &Plan, price: &Price, value: Option<&str>, rate: &Rate, quantity: Quantity, part: Part) -> Result<Line, TooLarge> {
    let priced = pricing::price(rate, quantity.value, part, price.aggregate.adds_up()).ok_or_else(|| TooLarge(price.id.clone()))?;
    let amount = rounded(priced.exact, plan.currency, &price.id)?;
    let dimension = match &price.rates {
        Rates::One(_) => None,
        Rates::ByValue { dimension, .. } => Some(dimension.clone()),
    };
    let used = Used {
        meter: price.meter.clone(),
        aggregation: aggregate_label(&price.aggregate).into(),
        dimension,
        dimension_value: value.map(str::to_owned),
        quantity: quantity.value,
        included: priced.included,
        model: model_label(&rate.charge).into(),
        steps: priced.steps,
        events: quantity.events,
        rows: quantity.rows,
        overflow: quantity.has_overflow,
    };
    Ok(Line { usage: Some(used), ..Line::new(LineKind::Usage, &price.id, &price.name, amount) })
}

fn rounded(exact: Exact, currency: Currency, id: &str) -> Result<Money, TooLarge> {
    exact.round(currency).ok_or_else(|| TooLarge(id.to_owned()))
}
