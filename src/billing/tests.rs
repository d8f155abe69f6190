//! What the tests of billing share: any plan, and a second way to price.

mod examples;
mod invoices;
mod reference;
mod statements;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::money::Currency;
use super::plan::{Aggregate, Charge, Due, Fee, Plan, Price, Rate, Rates, Tier};
use crate::event::Amount;

/// A decimal from the number of its 10^-12.
pub(super) fn scaled(scaled: i128) -> Amount {
    Amount::from_scaled(scaled).expect("in range")
}

/// An amount of money, or of units, of 0 or more: few, many, and with many places.
pub(super) fn any_amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        (0_i128..20).prop_map(|units| units * 1_000_000_000_000),
        (0_i128..100_000).prop_map(|cents| cents * 10_000_000_000 / 2),
        0_i128..50_000_000_000_000,
        0_i128..1_000_000_000_000_000_000_000_000,
    ]
    .prop_map(scaled)
}

fn any_positive() -> impl Strategy<Value = Amount> {
    any_amount().prop_map(|amount| if amount == Amount::default() { Amount::ONE } else { amount })
}

fn any_tiers() -> impl Strategy<Value = Vec<Tier>> {
    (vec((any_positive(), any_amount(), any_amount()), 0..4), any_amount(), any_amount()).prop_map(|(steps, unit_price, flat)| {
        let mut ends: Vec<Amount> = steps.iter().map(|(up_to, ..)| *up_to).collect();
        ends.sort();
        ends.dedup();
        let tiers = ends.into_iter().zip(steps).map(|(up_to, (_, unit_price, flat))| Tier { up_to: Some(up_to), unit_price, flat });
        tiers.chain([Tier { up_to: None, unit_price, flat }]).collect()
    })
}

/// Any rate.
pub(super) fn any_rate() -> impl Strategy<Value = Rate> {
    let charge = prop_oneof![
        any_amount().prop_map(Charge::PerUnit),
        any_tiers().prop_map(Charge::Graduated),
        any_tiers().prop_map(Charge::Volume),
        (any_positive(), any_amount()).prop_map(|(size, price)| Charge::Package { size, price }),
    ];
    (prop_oneof![Just(Amount::default()), any_amount()], charge).prop_map(|(included, charge)| Rate { included, charge })
}

fn any_aggregate() -> impl Strategy<Value = Aggregate> {
    prop_oneof![
        Just(Aggregate::Sum),
        Just(Aggregate::Count),
        Just(Aggregate::Max),
        Just(Aggregate::Latest),
        Just(Aggregate::Unique { dimension: "user".into() }),
    ]
}

fn any_rates() -> impl Strategy<Value = Rates> {
    let by_value = (proptest::collection::btree_map("eu|us|ap", any_rate(), 0..3), option::of(any_rate()));
    prop_oneof![
        any_rate().prop_map(Rates::One),
        by_value.prop_map(|(values, default)| Rates::ByValue { dimension: "region".into(), values: values.into_iter().collect(), default }),
    ]
}

fn any_price() -> impl Strategy<Value = Price> {
    ("tokens|calls", any_aggregate(), option::of(any_amount()), any_rates()).prop_map(|(meter, aggregate, minimum, rates)| Price {
        id: String::new(),
        name: "a price".into(),
        meter,
        aggregate,
        minimum,
        rates,
    })
}

/// Any currency: without, with two and with three places.
pub(super) fn any_currency() -> impl Strategy<Value = Currency> {
    prop_oneof![Just("USD"), Just("JPY"), Just("KWD")].prop_map(|code| Currency::parse(code).expect("a currency"))
}

/// Any plan: meters `tokens` and `calls`, dimensions `region` and `user`.
pub(crate) fn any_plan() -> impl Strategy<Value = Plan> {
    let fee = (any_amount(), any::<bool>()).prop_map(|(amount, is_advance)| (amount, if is_advance { Due::Advance } else { Due::Arrears }));
    (any_currency(), option::of(any_amount()), vec(fee, 0..3), vec(any_price(), 0..4)).prop_map(|(currency, minimum, fees, prices)| Plan {
        currency,
        minimum,
        fees: (0..).zip(fees).map(|(n, (amount, due))| Fee { id: format!("fee-{n}"), name: "a fee".into(), amount, due }).collect(),
        prices: (0..).zip(prices).map(|(n, price)| Price { id: format!("price-{n}"), ..price }).collect(),
        ..Plan::free("any")
    })
}
