//! What a request asks, and what is found for it in rows.

use std::collections::HashMap;

use super::refusal;
use crate::dialect::ApiError;
use crate::dialect::amberflo::usage::answer::{Gaps, NUMBERS_MAX, Report, Reports, Shape};
use crate::dialect::amberflo::usage::{AllMetersQuery, Form, UsageQuery};
use crate::meters::Meters;
use crate::store::{self, Rows};
use crate::usage::{
    Answer, Approximate, Buckets, Empty, EvaluateError, Limits, MeterType, Query, TIME_S_MAX, Unanswered, ViewRequest, evaluate,
    meters_in_range,
};

/// Meters of an answer to `/usage/all`. Each takes some questions of a database, one after the other.
const METERS_MAX: usize = 300;

/// What a request asks.
pub(super) enum Asked {
    One(UsageQuery),
    Batch(Vec<UsageQuery>),
    AllMeters(AllMetersQuery),
}

/// Whether a query has an answer.
#[derive(Debug, Clone)]
pub(in crate::api) enum Found {
    /// It has.
    Some,
    /// There are rows in its range, and its filters leave none of them.
    NoMatch,
    /// There is no row.
    Nothing(Unanswered),
}

impl Found {
    pub(in crate::api) fn of(query: &Query, answer: &Answer) -> Self {
        match (answer.groups.is_empty(), answer.rows_read) {
            (false, _) => Self::Some,
            (true, 0) => Self::Nothing(query.unanswered()),
            (true, _) => Self::NoMatch,
        }
    }

    /// What is known without looking at other rows.
    pub(super) fn reason(&self) -> Option<Empty> {
        match self {
            Self::NoMatch => Some(Empty::FilterMatchedNothing),
            Self::Some | Self::Nothing(_) => None,
        }
    }

    /// The rows that tell the reason: all that the meter ever had.
    pub(super) fn view_request(&self) -> Option<ViewRequest> {
        match self {
            Self::Nothing(Unanswered { account, meter, .. }) => {
                Some(ViewRequest { account: *account, meter: meter.clone(), from_s: 0, to_s: TIME_S_MAX, customers: None })
            }
            Self::Some | Self::NoMatch => None,
        }
    }
}

/// What the headers of an answer say.
#[derive(Debug, Default)]
pub(in crate::api) struct Facts {
    /// What each query is answered for: start and end, in s since 1970.
    pub(super) ranges_s: Vec<(i64, i64)>,
    /// Whether one of them is not what was asked for.
    pub(super) ranges_moved: bool,
    pub(super) buckets_moved: bool,
    pub(super) groups_cut: bool,
    pub(super) meters_cut: bool,
    pub(super) overflow: bool,
    pub(super) approximate: Approximate,
    pub(in crate::api) rows_read: u64,
    /// Of each query; of all meters together.
    pub(in crate::api) found: Vec<Found>,
}

impl Facts {
    /// Of one query and its answer.
    pub(in crate::api) fn of(buckets: &Buckets, answer: &Answer) -> Self {
        let mut facts = Self::default();
        facts.add_range(buckets);
        facts.add_answer(buckets, answer);
        facts
    }

    /// The same of a query whose range was asked for in other words: they may have to be moved, too.
    pub(in crate::api) fn with_range_moved(self, is_moved: bool) -> Self {
        Self { ranges_moved: self.ranges_moved || is_moved, ..self }
    }

    pub(in crate::api) fn add_range(&mut self, buckets: &Buckets) {
        self.ranges_s.push(buckets.answered_s());
        self.ranges_moved |= buckets.moved().is_some();
    }

    pub(in crate::api) fn add_answer(&mut self, buckets: &Buckets, answer: &Answer) {
        self.buckets_moved |= buckets.are_moved(&answer.bucket_starts);
        self.groups_cut |= answer.cut;
        self.overflow |= answer.overflow;
        self.approximate = self.approximate.and(answer.approximate);
        self.rows_read += answer.rows_read;
    }
}

impl Asked {
    /// As it stands in metrics; a batch goes by its first query.
    pub(super) fn label(&self) -> &'static str {
        let form = |query: &UsageQuery| match query.form {
            Form::A => "a",
            Form::B => "b",
        };
        match self {
            Self::One(query) => form(query),
            Self::Batch(queries) => queries.first().map_or("b", form),
            Self::AllMeters(_) => "all",
        }
    }

    pub(super) fn view_requests(&self) -> Vec<ViewRequest> {
        match self {
            Self::One(query) => vec![query.query.view_request()],
            Self::Batch(queries) => queries.iter().map(|query| query.query.view_request()).collect(),
            Self::AllMeters(query) => vec![query.view_request()],
        }
    }

    /// Reads the rows: answers that can be written, whatever their size.
    ///
    /// # Errors
    /// 400: it is too much. 503, 500: the rows cannot be read.
    pub(super) fn evaluate(self, rows: &dyn Rows, meters: &Meters, gaps: Gaps, is_csv: bool) -> Result<(Facts, Reports), ApiError> {
        let types = self.meter_types(meters).map_err(|error| refusal(error.into()))?;
        let reports = Reports::new(self.shape(is_csv), gaps, NUMBERS_MAX);
        self.evaluate_within(rows, &types, reports, Limits::default())
    }

    fn shape(&self, is_csv: bool) -> Shape {
        match (self, is_csv) {
            (Self::One(_), false) => Shape::One,
            (Self::Batch(_) | Self::AllMeters(_), false) => Shape::Array,
            (Self::One(_) | Self::AllMeters(_), true) => Shape::Csv,
            (Self::Batch(_), true) => Shape::NumberedCsv,
        }
    }

    /// What the meters count that are defined, of those that it asks for.
    fn meter_types(&self, meters: &Meters) -> Result<HashMap<String, MeterType>, store::Error> {
        let type_of = |query: &UsageQuery| {
            let (account, meter) = (query.query.account(), query.query.meter());
            Ok((meter.to_owned(), meters.type_of(account, meter)?))
        };
        match self {
            Self::One(query) => type_of(query).map(|found| HashMap::from([found])),
            // One question instead of many.
            Self::Batch(queries) => match &queries[..] {
                [] => Ok(HashMap::new()),
                [one] => type_of(one).map(|found| HashMap::from([found])),
                [one, ..] => meters.types(one.query.account()),
            },
            Self::AllMeters(query) => meters.types(query.account()),
        }
    }

    pub(super) fn evaluate_within(
        self,
        rows: &dyn Rows,
        types: &HashMap<String, MeterType>,
        reports: Reports,
        limits: Limits,
    ) -> Result<(Facts, Reports), ApiError> {
        let mut evaluation = Evaluation { rows, types, limits, left: limits, facts: Facts::default(), reports };
        match self {
            Self::One(query) => evaluation.queries(vec![query])?,
            Self::Batch(queries) => evaluation.queries(queries)?,
            Self::AllMeters(query) => evaluation.all_meters(&query)?,
        }
        Ok((evaluation.facts, evaluation.reports))
    }
}

/// The evaluation of a request. All its answers are kept until they are written, so that they share its limits.
struct Evaluation<'e> {
    rows: &'e dyn Rows,
    types: &'e HashMap<String, MeterType>,
    limits: Limits,
    /// Of the limits, what the answers so far have left.
    left: Limits,
    facts: Facts,
    reports: Reports,
}

/// Why a query has no answer beside those before it.
enum Refused {
    /// It is too much, together with the others.
    TooMuch(ApiError),
    Failed(ApiError),
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMuch(error) | Refused::Failed(error) => error,
        }
    }
}

impl Evaluation<'_> {
    fn queries(&mut self, queries: Vec<UsageQuery>) -> Result<(), ApiError> {
        for asked in queries {
            self.facts.add_range(asked.query.buckets());
            let found = self.push(asked)?;
            self.facts.found.push(found);
        }
        Ok(())
    }

    fn all_meters(&mut self, asked: &AllMetersQuery) -> Result<(), ApiError> {
        self.facts.add_range(asked.buckets());
        let customers = asked.view_request().customers;
        let hours = asked.buckets().hours();
        let in_range = meters_in_range(self.rows, asked.account(), hours, customers.as_deref(), METERS_MAX);
        let in_range = in_range.map_err(|error| refusal(error.into()))?;
        self.facts.meters_cut = in_range.cut;
        for (at, meter) in in_range.names.iter().enumerate() {
            match self.push(asked.of_meter(meter, self.type_of(meter))?) {
                Ok(_) => {}
                Err(Refused::TooMuch(_)) if at > 0 => {
                    self.facts.meters_cut = true;
                    break;
                }
                Err(refused) => return Err(refused.into()),
            }
        }
        self.facts.found = vec![if in_range.names.is_empty() { Found::Nothing(asked.unanswered()) } else { Found::Some }];
        Ok(())
    }

    fn push(&mut self, asked: UsageQuery) -> Result<Found, Refused> {
        let meter_type = self.type_of(asked.query.meter());
        let answer = evaluate(&asked.query, meter_type, self.rows, self.left).map_err(|error| match error {
            EvaluateError::TooManyCells { .. } => {
                Refused::TooMuch(refusal(EvaluateError::TooManyCells { cells_max: self.limits.cells_max }))
            }
            EvaluateError::Rows(_) => Refused::Failed(refusal(error)),
        })?;
        let found = Found::of(&asked.query, &answer);
        let left = self.left.beside(&answer);
        self.facts.add_answer(asked.query.buckets(), &answer);
        let pushed = self.reports.push(Report { asked, meter_type, answer });
        pushed.map_err(|too_large| Refused::TooMuch(ApiError::bad_request(too_large.to_string())))?;
        self.left = left;
        Ok(found)
    }

    fn type_of(&self, meter: &str) -> MeterType {
        self.types.get(meter).copied().unwrap_or_default()
    }
}
