//! The plan: what is charged, and how. Only data; [`super::pricing`] has the arithmetic, [`json`] the form of `/v1/plans`.
//!
//! A plan exists only if it was checked. It never changes: a plan that is written again under its id is a new version, and whoever was
//! assigned an older one keeps it, so that every invoice can be explained later.

pub mod json;

use super::money::Currency;
use crate::event::Amount;

/// Longest id of a plan, a fee or a price, in bytes.
pub const ID_BYTES_MAX: usize = 255;
/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Most fees of a plan.
pub const FEES_MAX: usize = 50;
/// Most prices of a plan.
pub const PRICES_MAX: usize = 100;
/// Most tiers of a rate.
pub const TIERS_MAX: usize = 100;
/// Most values of a dimension with rates of their own, of a price.
pub const VALUES_MAX: usize = 1_000;
/// Most rates of all prices of a plan together.
pub const RATES_MAX: usize = 5_000;
/// Prices, fees and minimums stay below it: 10^12 of the currency.
pub const PRICE_MAX: Amount = Amount::from_int(1_000_000_000_000);

/// A version of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Unique in its account.
    pub id: String,
    /// For people.
    pub name: String,
    /// What is sold; plans of one product take each other's place.
    pub product_id: String,
    /// Of all its amounts.
    pub currency: Currency,
    /// What the usage of a month comes to at least.
    pub minimum: Option<Amount>,
    /// Flat, each month.
    pub fees: Vec<Fee>,
    /// For what was used.
    pub prices: Vec<Price>,
}

impl Plan {
    /// What an id stands for under which no plan was made: everything is free.
    pub fn free(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            product_id: "1".into(),
            currency: Currency::USD,
            minimum: None,
            fees: Vec::new(),
            prices: Vec::new(),
        }
    }
}

/// A flat amount each month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fee {
    /// Unique among the fees of the plan.
    pub id: String,
    /// For people.
    pub name: String,
    /// For a whole month.
    pub amount: Amount,
    /// When it is owed.
    pub due: Due,
}

/// When a fee is owed. Both are on the invoice of the month that they are for; it decides which prepaid orders pay for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// With the begin of the period.
    Advance,
    /// With its end.
    Arrears,
}

/// What a meter costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Unique among the prices of the plan.
    pub id: String,
    /// For people.
    pub name: String,
    /// The meter's API name.
    pub meter: String,
    /// What of it is billed.
    pub aggregate: Aggregate,
    /// What it comes to at least.
    pub minimum: Option<Amount>,
    /// For how much.
    pub rates: Rates,
}

impl Price {
    /// All rates with the value of the dimension that each is for, in the order in which they are measured; `None`: for everything else.
    pub fn all_rates(&self) -> Vec<(Option<&str>, &Rate)> {
        match &self.rates {
            Rates::One(rate) => vec![(None, rate)],
            Rates::ByValue { values, default, .. } => {
                let own = values.iter().map(|(value, rate)| (Some(value.as_str()), rate));
                own.chain(default.iter().map(|rate| (None, rate))).collect()
            }
        }
    }
}

/// What of a meter is billed, over a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// All values added up.
    Sum,
    /// Number of events.
    Count,
    /// The largest value.
    Max,
    /// The value of the last event.
    Latest,
    /// Number of different values of a dimension; events without it do not count.
    Unique {
        /// The dimension.
        dimension: String,
    },
}

impl Aggregate {
    /// Whether it adds up over time, as opposed to a level that is held for a time. In a part of a month, what adds up meets thresholds that
    /// are that part of a month's; a level meets the month's thresholds, and that part of its price is charged.
    pub fn adds_up(&self) -> bool {
        match self {
            Self::Sum | Self::Count => true,
            Self::Max | Self::Latest | Self::Unique { .. } => false,
        }
    }
}

/// The rates of a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rates {
    /// For everything.
    One(Rate),
    /// By the value of a dimension.
    ByValue {
        /// The dimension.
        dimension: String,
        /// Values with a rate of their own, sorted, each once.
        values: Vec<(String, Rate)>,
        /// For all other events together, also those without the dimension; none: they are free.
        default: Option<Rate>,
    },
}

/// How a quantity becomes an amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// Units a month that cost nothing; tiers and packages begin behind them.
    pub included: Amount,
    /// What the others cost.
    pub charge: Charge,
}

/// A pricing model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charge {
    /// Each unit costs the same; parts of one, that part.
    PerUnit(Amount),
    /// Each unit costs what the tier says in which it lies.
    Graduated(Vec<Tier>),
    /// All units cost what the tier says in which the last one lies.
    Volume(Vec<Tier>),
    /// Whole packages only, the last one rounded up.
    Package {
        /// Units of a package.
        size: Amount,
        /// Its price.
        price: Amount,
    },
}

/// A step of a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The last unit that belongs to it; `None`: no end. Units a month.
    pub up_to: Option<Amount>,
    /// Of each unit.
    pub unit_price: Amount,
    /// On top, once the tier is reached. A month.
    pub flat: Amount,
}
