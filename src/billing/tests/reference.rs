//! Pricing a second time, slowly: rationals over big integers, in the words of the docs.

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;

use super::{any_amount, any_currency, any_plan, any_rate, scaled};
use crate::billing::invoice::{Line, LineKind, lines};
use crate::billing::money::{Currency, Money, Part};
use crate::billing::plan::{Charge, Plan, Rate, Tier};
use crate::billing::pricing::price;
use crate::billing::quantity::Quantity;
use crate::event::{Amount, Sum};

type Exact = BigRational;

fn of_text(text: &str) -> Exact {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt = format!("{whole}{places}").parse().expect("digits");
    Exact::new(digits, BigInt::from(10).pow(places.len() as u32))
}

fn of(amount: Amount) -> Exact {
    of_text(&amount.to_string())
}

fn zero() -> Exact {
    Exact::from_integer(BigInt::ZERO)
}

/// Units one by one would take too long; else this is what the docs say.
fn cost(rate: &Rate, quantity: &Exact, part: &Exact, adds_up: bool) -> Exact {
    let whole = Exact::from_integer(BigInt::from(1));
    let threshold = if adds_up { part } else { &whole };
    let billed = (quantity - of(rate.included) * threshold).max(zero());
    let cost = match &rate.charge {
        Charge::PerUnit(price) => billed * of(*price),
        Charge::Graduated(tiers) => graduated(tiers, &billed, threshold),
        Charge::Volume(tiers) => volume(tiers, &billed, threshold),
        Charge::Package { size, price } => (billed / of(*size)).ceil() * of(*price),
    };
    if adds_up { cost } else { cost * part }
}

fn graduated(tiers: &[Tier], billed: &Exact, threshold: &Exact) -> Exact {
    let (mut left, mut begin, mut cost) = (billed.clone(), zero(), zero());
    for tier in tiers {
        if left <= zero() {
            break;
        }
        let end = tier.up_to.map(|up_to| of(up_to) * threshold);
        let within = end.as_ref().map_or(left.clone(), |end| (end - &begin).min(left.clone()));
        cost += &within * of(tier.unit_price) + of(tier.flat) * threshold;
        left -= within;
        begin = end.unwrap_or(begin);
    }
    cost
}

fn volume(tiers: &[Tier], billed: &Exact, threshold: &Exact) -> Exact {
    if *billed <= zero() {
        return zero();
    }
    let tier = tiers.iter().find(|tier| tier.up_to.is_none_or(|up_to| *billed <= of(up_to) * threshold)).expect("the last has no end");
    billed * of(tier.unit_price) + of(tier.flat) * threshold
}

/// Half to even.
fn rounded(exact: &Exact, currency: Currency) -> Exact {
    let unit = Exact::from_integer(BigInt::from(10).pow(currency.places()));
    let minor = exact * &unit;
    let (down, half) = (minor.floor(), Exact::new(BigInt::from(1), BigInt::from(2)));
    let rest = &minor - &down;
    let is_odd = down.to_integer() % BigInt::from(2) != BigInt::ZERO;
    let up = rest > half || (rest == half && is_odd);
    (down + Exact::from_integer(BigInt::from(i32::from(up)))) / unit
}

fn money(money: Money) -> Exact {
    of_text(&money.to_string())
}

/// A part of a month of 28 to 31 days.
pub(super) fn any_part() -> impl Strategy<Value = (u32, u32)> {
    (28_u32..32, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(days, hours, is_whole)| {
        let of_hours = days * 24;
        (if is_whole { of_hours } else { hours.index(of_hours as usize) as u32 + 1 }, of_hours)
    })
}

fn any_quantity() -> impl Strategy<Value = Amount> {
    prop_oneof![8 => any_amount(), 1 => any_amount().prop_map(|amount| scaled(-amount.scaled()))]
}

/// What the docs say of all lines.
fn naive_lines(plan: &Plan, part: &Exact, measured: &[Vec<Quantity>]) -> Vec<(LineKind, String, Exact)> {
    let round = |exact: &Exact| rounded(exact, plan.currency);
    let mut lines: Vec<_> = plan.fees.iter().map(|fee| (LineKind::Fee, fee.id.clone(), round(&(of(fee.amount) * part)))).collect();
    let mut of_usage = zero();
    for (price, quantities) in plan.prices.iter().zip(measured) {
        let mut of_price = zero();
        let is_one = price.all_rates().len() == 1 && matches!(price.rates, crate::billing::plan::Rates::One(_));
        for ((_, rate), quantity) in price.all_rates().into_iter().zip(quantities) {
            if is_one || quantity.events > 0 {
                let amount = round(&cost(rate, &of_text(&quantity.value.to_string()), part, price.aggregate.adds_up()));
                of_price += &amount;
                lines.push((LineKind::Usage, price.id.clone(), amount));
            }
        }
        if let Some(minimum) = price.minimum.map(|minimum| round(&(of(minimum) * part))).filter(|minimum| *minimum > of_price) {
            lines.push((LineKind::PriceMinimum, price.id.clone(), &minimum - &of_price));
            of_price = minimum;
        }
        of_usage += of_price;
    }
    if let Some(minimum) = plan.minimum.map(|minimum| round(&(of(minimum) * part))).filter(|minimum| *minimum > of_usage) {
        lines.push((LineKind::PlanMinimum, plan.id.clone(), minimum - of_usage));
    }
    lines
}

proptest! {
    #[test]
    fn a_price_is_what_rationals_come_to(
        rate in any_rate(), quantity in any_quantity(), (hours, of_hours) in any_part(), adds_up in any::<bool>(), currency in any_currency()
    ) {
        let part = Exact::new(BigInt::from(hours), BigInt::from(of_hours));
        let expected = cost(&rate, &of(quantity), &part, adds_up);
        let priced = price(&rate, Sum::from(quantity), Part::new(hours, of_hours), adds_up).expect("small");
        prop_assert_eq!(money(priced.exact.round(currency).expect("small")), rounded(&expected, currency));
    }

    #[test]
    fn an_invoice_has_the_lines_that_rationals_come_to(
        plan in any_plan(), (hours, of_hours) in any_part(), quantities in proptest::collection::vec((any_quantity(), any::<bool>()), 16)
    ) {
        let mut quantities = quantities.iter().cycle();
        let mut next = || {
            let (value, is_there) = quantities.next().expect("a cycle");
            if *is_there { Quantity { value: Sum::from(*value), events: 1, rows: 1, has_overflow: false } } else { Quantity::default() }
        };
        let measured: Vec<Vec<Quantity>> = plan.prices.iter().map(|price| price.all_rates().iter().map(|_| next()).collect()).collect();
        let part = Exact::new(BigInt::from(hours), BigInt::from(of_hours));
        let found = lines(&plan, Part::new(hours, of_hours), &measured).expect("small");
        let shown = |line: &Line| (line.kind, line.id.clone(), money(line.amount));
        prop_assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), naive_lines(&plan, &part, &measured));
    }
}

#[test]
fn what_is_too_large_names_the_line_and_never_wraps() {
    let most = scaled(99_999_999_999_999_999_999_999_999_999_999);
    let price_max = scaled(999_999_999_999_999_999_999_999);
    let plan = |charge: Charge| {
        let price = crate::billing::plan::Price {
            id: "the price".into(),
            name: String::new(),
            meter: "m".into(),
            aggregate: crate::billing::plan::Aggregate::Sum,
            minimum: None,
            rates: crate::billing::plan::Rates::One(Rate { included: Amount::default(), charge }),
        };
        Plan { prices: vec![price], ..Plan::free("p") }
    };
    let tier = Tier { up_to: None, unit_price: price_max, flat: price_max };
    for charge in [
        Charge::PerUnit(price_max),
        Charge::Graduated(vec![tier]),
        Charge::Volume(vec![tier]),
        Charge::Package { size: scaled(1), price: price_max },
    ] {
        let plan = plan(charge);
        let of = |value: Sum| {
            let quantity = Quantity { value, events: 1, rows: 1, has_overflow: false };
            lines(&plan, Part::new(1, 744), &[vec![quantity]])
        };
        for value in [Sum::from(most), Sum::from_scaled(ethnum::I256::MAX), Sum::from_scaled(ethnum::I256::MAX / 1_000)] {
            let error = of(value).expect_err("too large");
            assert!(error.to_string().starts_with("the line the price comes to more"), "{error}");
        }
        assert_eq!(of(Sum::from_scaled(ethnum::I256::MIN)).expect("below zero is nothing")[0].amount, Money::ZERO);
    }
}
