//! What a page shows of a customer's usage: daily numbers of its meters. From the same rows, in the same way as the API.

use std::sync::Arc;
use std::time::Duration;

use super::{Portal, Session};
use crate::billing::timeline::{begin_of, seconds};
use crate::clock::UnixMillis;
use crate::event::Sum;
use crate::meters::{self, Meters};
use crate::store::row::DAY_S;
use crate::store::{self, Rows};
use crate::usage::{
    Buckets, Draft, EvaluateError, Field, Interval, Limits, Measure, MeterType, MetersInRange, Query, TimeRange, ViewError, ViewRequest,
    Zone, evaluate, meters_in_range, month_around,
};

/// How long the rows are waited for.
const WAIT: Duration = Duration::from_secs(2);
/// Meters of a page; there are more pages where there are more.
pub(super) const METERS_A_PAGE: usize = 8;
/// Meters of all pages.
const METERS_MAX: usize = 200;
/// One group a meter, one number a day.
const LIMITS: Limits = Limits { groups_max: 1, cells_max: 1_000, values_max: 1_000 };

/// Which days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// So many, today included.
    Days(u8),
    /// From the first of the month on.
    Month,
}

impl Span {
    /// All that can be chosen.
    pub(super) const ALL: [Self; 4] = [Self::Days(7), Self::Days(30), Self::Days(90), Self::Month];

    /// Unless somebody chooses.
    pub(super) const DEFAULT: Self = Self::Days(30);

    /// As it stands in addresses.
    pub(super) fn code(self) -> String {
        match self {
            Self::Days(days) => days.to_string(),
            Self::Month => "month".into(),
        }
    }

    /// For people.
    pub(super) fn label(self) -> String {
        match self {
            Self::Days(days) => format!("{days} days"),
            Self::Month => "This month".into(),
        }
    }

    /// What an address says; anything else is the default.
    pub(super) fn of_code(code: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|span| Some(span.code().as_str()) == code).unwrap_or(Self::DEFAULT)
    }

    /// Begin of its first day and end of today, in s since 1970.
    fn bounds(self, now: UnixMillis) -> (i64, i64) {
        let today = now.seconds().div_euclid(DAY_S) * DAY_S;
        let start = match self {
            Self::Days(days) => today - (i64::from(days) - 1) * DAY_S,
            Self::Month => month_around(today).start,
        };
        (start, today + DAY_S)
    }
}

/// A page of a customer's meters.
#[derive(Debug)]
pub(super) struct Usage {
    /// By name.
    pub(super) meters: Vec<MeterUsage>,
    /// Those with usage in these days.
    pub(super) meters_in_all: usize,
    /// Whether there are more than are counted.
    pub(super) has_more_meters: bool,
    /// Which page of them, from 0 on.
    pub(super) page: usize,
    /// Whether the rows show everything that was acked before.
    pub(super) is_complete: bool,
}

/// One meter.
#[derive(Debug)]
pub(super) struct MeterUsage {
    /// Its API name.
    pub(super) name: String,
    /// What people call it.
    pub(super) display_name: Option<String>,
    /// What its numbers are.
    pub(super) measure: Measure<'static>,
    /// Of all the days.
    pub(super) total: Sum,
    /// Begin of each day, in s since 1970, and its number.
    pub(super) days: Vec<(i64, Sum)>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Asking again makes sense.
    #[error("{0}")]
    Unavailable(String),
    /// It does not.
    #[error("{0}")]
    Broken(String),
}

impl From<ViewError> for Error {
    fn from(error: ViewError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Failed(_) | store::Error::NoRoom(_) | store::Error::Fenced { .. } => Self::Unavailable(error.to_string()),
            store::Error::Damaged(_) => Self::Broken(error.to_string()),
        }
    }
}

impl From<EvaluateError> for Error {
    fn from(error: EvaluateError) -> Self {
        match error {
            EvaluateError::Rows(error) => error.into(),
            error @ EvaluateError::TooManyCells { .. } => Self::Broken(error.to_string()),
        }
    }
}

/// The question behind a page.
struct Asked {
    account: u32,
    customer: String,
    range: TimeRange,
    page: usize,
}

impl Portal {
    /// The usage of a session's customer.
    pub(super) async fn usage(&self, session: &Session, span: Span, page: usize) -> Result<Usage, Error> {
        let nothing = Usage { meters: Vec::new(), meters_in_all: 0, has_more_meters: false, page: 0, is_complete: true };
        let (start_s, end_s) = span.bounds(self.now());
        // What was used before belongs to whoever had the id then.
        let start_s = start_s.max(seconds(begin_of(&session.lives, session.claims.life)));
        let Ok(range) = TimeRange::new(start_s, end_s) else { return Ok(nothing) };
        let (account, customer) = (session.claims.account, session.claims.customer.as_str().to_owned());
        let wanted = ViewRequest { account, meter: None, from_s: start_s, to_s: end_s, customers: Some(vec![customer.clone()]) };
        let view = self.parts.source.view(vec![wanted], WAIT).await?;
        let (meters, asked, is_complete) = (self.parts.meters.clone(), Asked { account, customer, range, page }, view.complete);
        let work = move || asked.read(&*view.rows, &meters, is_complete);
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::Broken(error.to_string())))
    }
}

impl Asked {
    /// Days of UTC.
    fn buckets(&self) -> Result<Buckets, Error> {
        Buckets::new(self.range, Interval::Day, Zone::default()).map_err(|error| Error::Broken(error.to_string()))
    }

    fn read(&self, rows: &dyn Rows, meters: &Arc<Meters>, is_complete: bool) -> Result<Usage, Error> {
        let customers = std::slice::from_ref(&self.customer);
        let MetersInRange { names: mut used, cut } =
            meters_in_range(rows, self.account, self.buckets()?.hours(), Some(customers), METERS_MAX)?;
        used.sort_unstable();
        let page = self.page.min(used.len().saturating_sub(1) / METERS_A_PAGE);
        let shown = used.iter().skip(page * METERS_A_PAGE).take(METERS_A_PAGE);
        let shown = shown.map(|name| self.meter(rows, meters, name)).collect::<Result<_, _>>()?;
        Ok(Usage { meters: shown, meters_in_all: used.len(), has_more_meters: cut, page, is_complete })
    }

    fn meter(&self, rows: &dyn Rows, meters: &Meters, name: &str) -> Result<MeterUsage, Error> {
        let said = match meters.get(self.account, name) {
            Ok(meter) => Some(meter.said),
            Err(meters::Error::Store(error)) => return Err(error.into()),
            Err(meters::Error::Unknown | meters::Error::Exists | meters::Error::TooMany) => None,
        };
        let meter_type = said.as_ref().map_or_else(MeterType::default, |said| said.meter_type);
        let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string());
        let draft = Draft {
            account: self.account,
            meter: name.to_owned(),
            aggregation: None,
            buckets: self.buckets()?,
            filters: vec![(Field::Customer, vec![self.customer.clone()])],
            group_by: Vec::new(),
            take: None,
        };
        let query = Query::check(draft).map_err(|error| broken(&error))?;
        let answer = evaluate(&query, meter_type, rows, LIMITS)?;
        let group = answer.groups.into_iter().next();
        let (total, used) = group.map_or((Sum::ZERO, Vec::new()), |group| (group.total, group.buckets));
        let number = |start: &i64| used.binary_search_by_key(start, |(start, _)| *start).map_or(Sum::ZERO, |at| used[at].1);
        let days = answer.bucket_starts.iter().map(|start| (*start, number(start))).collect();
        let display_name = said.map(|said| said.display_name).filter(|display| !display.is_empty() && display != name);
        Ok(MeterUsage { name: name.to_owned(), display_name, measure: meter_type.measure(None), total, days })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_ends_with_today() {
        // 2026-11-22T05:38:34Z
        let now = UnixMillis(1_795_325_914_000);
        let midnight = 1_795_305_600;
        assert_eq!(Span::Days(7).bounds(now), (midnight - 6 * DAY_S, midnight + DAY_S));
        assert_eq!(Span::Month.bounds(now), (midnight - 21 * DAY_S, midnight + DAY_S));
        for span in Span::ALL {
            assert_eq!(Span::of_code(Some(&span.code())), span);
        }
        for other in [None, Some(""), Some("31"), Some("<script>")] {
            assert_eq!(Span::of_code(other), Span::DEFAULT);
        }
    }
}
