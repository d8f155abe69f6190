//! All that customers ever used of a meter.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::reading::{first_bucket, scan, selection};
use super::{TIME_S_MAX, ViewRequest};
use crate::event::Sum;
use crate::store::{self, Grain, Rows};

/// Days that are read with one scan, and days of customers: between two scans, days on which nobody used the meter are stepped over.
const DAYS_AT_ONCE: usize = 400;
const LOOK_UPS_AT_ONCE: usize = 4_000;

/// The rows of all time of some customers (sorted).
pub fn ever(account: u32, meter: &str, customers: Vec<String>) -> ViewRequest {
    ViewRequest { account, meter: Some(meter.to_owned()), from_s: 0, to_s: TIME_S_MAX, customers: Some(customers) }
}

/// The exact sum of all time of each of these customers (sorted) that has one. `rows` must hold at least those of [`ever`]. What it reads
/// grows with the days on which the meter was used, and with the rows of the customers.
///
/// # Errors
/// The rows cannot be read.
pub fn totals(rows: &dyn Rows, account: u32, meter: &str, customers: &[String]) -> Result<BTreeMap<String, Sum>, store::Error> {
    let step = (LOOK_UPS_AT_ONCE / customers.len().max(1)).clamp(1, DAYS_AT_ONCE) as u32;
    let mut totals: BTreeMap<String, Sum> = BTreeMap::new();
    let mut from = 0;
    while let Some(day) = first_bucket(rows, account, meter, Grain::Day, from..u32::MAX)? {
        from = day.saturating_add(step);
        let days = selection(account, meter, Grain::Day, day..from, Some(customers));
        let scanned = scan(rows, days, &mut |key, row| {
            totals.entry(key.customer.to_owned()).or_default().add(row.sum);
            ControlFlow::Continue(())
        });
        scanned.map(drop)?;
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::memory::{MemoryRows, event};

    const DAY_0: i64 = 1_767_225_600;

    #[test]
    fn a_total_has_every_day_however_far_from_the_others() {
        let day = |days: i64| DAY_0 + days * 86_400;
        let events = [
            event("acme", 1, "1"),
            event("acme", day(0), "10").dimensions(&[("region", "eu")]),
            event("acme", day(399), "100"),
            event("acme", day(400), "1000.5"),
            event("acme", day(900_000), "10000").overflow(),
            event("zeta", day(0), "-7"),
            event("nobody", day(0), "3"),
            event("acme", day(0), "5").meter("calls"),
        ];
        let rows = MemoryRows::of(&events);
        let totals = totals(&rows, 1, "tokens", &["acme".into(), "none".into(), "zeta".into()]).expect("rows in memory");
        let shown: Vec<_> = totals.iter().map(|(customer, sum)| format!("{customer} {sum}")).collect();
        assert_eq!(shown, ["acme 11111.5", "zeta -7"]);
    }
}
