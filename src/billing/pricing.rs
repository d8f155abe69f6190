//! From a quantity to what it costs, exactly.
//!
//! What adds up over time (sum, count) meets, in a part of a month, thresholds that are that part of the month's: included units, ends of
//! tiers and flat prices of tiers are multiplied by it, unit prices and packages are not. A level (max, latest, unique) meets the month's
//! thresholds, and what it costs is multiplied by the part. A quantity below zero costs nothing.
//!
//! To stay among integers, quantities are counted in units / (10^12 × hours of the month).

use ethnum::I256;
use serde::{Deserialize, Serialize};

use super::money::{Exact, Part, SCALE, decimal, optional_decimal};
use super::plan::{Charge, Rate, Tier};
use crate::event::amount::div_half_even;
use crate::event::{Amount, Sum};

/// What a quantity costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priced {
    /// Before it is rounded.
    pub exact: Exact,
    /// Units that cost nothing in this period.
    pub included: Sum,
    /// How it comes about.
    pub steps: Vec<Step>,
}

/// Units of one price: of a tier, or packages. Quantities are for people: at 12 places, where the exact ones may have more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Units, or whole packages.
    #[serde(with = "decimal")]
    pub quantity: Sum,
    /// The last unit of the tier in this period; none: no end, or no tier.
    #[serde(with = "optional_decimal", default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Sum>,
    /// Of a unit, or a package.
    #[serde(with = "decimal")]
    pub unit_price: Sum,
    /// On top. A month.
    #[serde(with = "optional_decimal", default, skip_serializing_if = "Option::is_none")]
    pub flat_price: Option<Sum>,
}

/// Prices a quantity of a part of a month; `None` if that is beyond 256 bits.
pub fn price(rate: &Rate, quantity: Sum, part: Part, adds_up: bool) -> Option<Priced> {
    let (hours, of_hours) = part.ratio();
    // What thresholds are multiplied by, and quantities.
    let (threshold, whole) = if adds_up { (hours, of_hours) } else { (I256::ONE, I256::ONE) };
    let units = Units { threshold, whole };
    let included = units.of_threshold(rate.included);
    let quantity = quantity.scaled().max(I256::ZERO).checked_mul(whole)?;
    let billed = (quantity - included).max(I256::ZERO);
    let (numerator, steps) = match &rate.charge {
        Charge::PerUnit(price) => units.per_unit(billed, *price)?,
        Charge::Graduated(tiers) => units.graduated(billed, tiers)?,
        Charge::Volume(tiers) => units.volume(billed, tiers)?,
        Charge::Package { size, price } => units.packages(billed, *size, *price)?,
    };
    let numerator = if adds_up { numerator } else { numerator.checked_mul(hours)? };
    Some(Priced { exact: Exact { numerator, of_hours }, included: units.shown(included), steps })
}

/// What quantities are counted in: 1 / (10^12 × whole).
struct Units {
    threshold: I256,
    whole: I256,
}

type Cost = (I256, Vec<Step>);

impl Units {
    fn of_threshold(&self, amount: Amount) -> I256 {
        // Below 10^32 × 2^32.
        I256::from(amount.scaled()) * self.threshold
    }

    fn shown(&self, units: I256) -> Sum {
        Sum::from_scaled(div_half_even(units, self.whole))
    }

    /// A flat price in the units of a product of quantity and price.
    fn flat(&self, price: Amount) -> I256 {
        I256::from(price.scaled()) * SCALE * self.threshold
    }

    fn step(&self, quantity: I256, price: Amount) -> Step {
        Step { quantity: self.shown(quantity), up_to: None, unit_price: price.into(), flat_price: None }
    }

    fn tier_step(&self, quantity: I256, tier: &Tier) -> Step {
        let up_to = tier.up_to.map(|up_to| self.shown(self.of_threshold(up_to)));
        let flat_price = (tier.flat != Amount::default()).then(|| tier.flat.into());
        Step { up_to, flat_price, ..self.step(quantity, tier.unit_price) }
    }

    fn per_unit(&self, billed: I256, price: Amount) -> Option<Cost> {
        let steps = if billed > I256::ZERO { vec![self.step(billed, price)] } else { Vec::new() };
        Some((product(billed, price)?, steps))
    }

    fn graduated(&self, billed: I256, tiers: &[Tier]) -> Option<Cost> {
        let (mut cost, mut steps, mut below) = (I256::ZERO, Vec::new(), I256::ZERO);
        for tier in tiers {
            let end = tier.up_to.map_or(billed, |up_to| self.of_threshold(up_to).min(billed));
            let within = end - below;
            if within <= I256::ZERO {
                break;
            }
            cost = cost.checked_add(product(within, tier.unit_price)?)?.checked_add(self.flat(tier.flat))?;
            steps.push(self.tier_step(within, tier));
            below = end;
        }
        Some((cost, steps))
    }

    fn volume(&self, billed: I256, tiers: &[Tier]) -> Option<Cost> {
        let reaches = |tier: &&Tier| tier.up_to.is_none_or(|up_to| billed <= self.of_threshold(up_to));
        match tiers.iter().find(reaches) {
            Some(tier) if billed > I256::ZERO => {
                let cost = product(billed, tier.unit_price)?.checked_add(self.flat(tier.flat))?;
                Some((cost, vec![self.tier_step(billed, tier)]))
            }
            _ => Some((I256::ZERO, Vec::new())),
        }
    }

    fn packages(&self, billed: I256, size: Amount, price: Amount) -> Option<Cost> {
        let size = I256::from(size.scaled()) * self.whole;
        let packages = billed / size + I256::from(billed % size > I256::ZERO);
        // As a quantity: so many times 1.
        let quantity = packages.checked_mul(SCALE)?.checked_mul(self.whole)?;
        self.per_unit(quantity, price)
    }
}

fn product(quantity: I256, price: Amount) -> Option<I256> {
    quantity.checked_mul(I256::from(price.scaled()))
}
