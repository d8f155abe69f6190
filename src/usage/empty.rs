//! Why an answer is empty. Told by a bounded number of look-ups in the order of the rows' keys, never by reading rows.

use std::ops::Range;

use super::reading::{Place, first_bucket, has_row};
use crate::store::{self, Grain, Rows};

/// Look-ups of a request for whether customers were ever seen: a day of a customer is one, and so is a step to the next day that has rows.
pub const UNANSWERED_LOOK_UPS_MAX: usize = 20_000;

/// All days.
const EVER: Range<u32> = 0..u32::MAX;

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// The meter is not defined, and has no events at all. Of all meters: the account has no events at all.
    NoSuchMeter,
    /// Customers were filtered for, and none of them has an event of the meter (of any meter), at any time.
    CustomerNeverSeen,
    /// There are events of the meter and the customers in the range, and the filters of dimensions leave none of them; or two filters of
    /// customers leave no customer.
    FilterMatchedNothing,
    /// No event of the meter lies in the range; with customers: none of theirs, but they have others. Also said when customers were looked for
    /// on many days in vain, as bounded as that is.
    OutsideRange,
}

impl Empty {
    /// As it stands in answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoSuchMeter => "no-such-meter",
            Self::CustomerNeverSeen => "customer-never-seen",
            Self::FilterMatchedNothing => "filter-matched-nothing",
            Self::OutsideRange => "outside-range",
        }
    }
}

/// A question for which no row was found in its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Whose rows.
    pub account: u32,
    /// One meter, or all.
    pub meter: Option<String>,
    /// Some customers, sorted; `None`: all.
    pub customers: Option<Vec<String>>,
}

impl Unanswered {
    /// Says why. `rows` must hold those of all time. Takes what it looks up from `look_ups_left`.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn reason(&self, is_defined: bool, rows: &dyn Rows, look_ups_left: &mut usize) -> Result<Empty, store::Error> {
        let first = match &self.meter {
            None => rows.next_meter(self.account, None)?,
            Some(meter) => first_bucket(rows, self.account, meter, Grain::Day, EVER)?.map(|_| meter.clone()),
        };
        let Some(customers) = &self.customers else {
            return Ok(if first.is_some() || is_defined { Empty::OutsideRange } else { Empty::NoSuchMeter });
        };
        if first.is_none() && !is_defined {
            return Ok(Empty::NoSuchMeter);
        }
        if customers.is_empty() {
            return Ok(Empty::FilterMatchedNothing);
        }
        let mut meter = first;
        while let Some(name) = meter {
            let place = Place { account: self.account, meter: &name, customers: Some(customers) };
            if has_row(rows, place, (Grain::Day, EVER), look_ups_left)? != Some(false) {
                return Ok(Empty::OutsideRange);
            }
            meter = if self.meter.is_some() { None } else { rows.next_meter(self.account, Some(&name))? };
        }
        Ok(Empty::CustomerNeverSeen)
    }
}

#[cfg(test)]
mod tests;
