//! Queries of meters as OpenMeter's clients ask them (contract `cloudevents.md` section 3): parameters of a GET or the body of a POST.
//! [`super::answer`] writes the answers.

mod python;

use serde_json::Map;

use super::meters::{Aggregation, SUBJECT, counted, event_from};
use super::times::parse_time;
use crate::clock::{UnixMicros, UnixMillis};
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::meters::Meter;
use crate::store::row::{DAY_S, HOUR_S};
use crate::usage::{
    self, Buckets, Draft, Field, GROUP_BY_MAX, Interval, Query, QueryError, TIME_S_MAX, TimeRange, Unanswered, ViewRequest, Zone,
};

const FROM: &str = "from";
const TO: &str = "to";
const WINDOW_SIZE: &str = "windowSize";
const WINDOW_TIME_ZONE: &str = "windowTimeZone";
const FILTER_CUSTOMER: &str = "filterCustomerId";
const GROUP_BY: &str = "groupBy";
const FILTER_GROUPS: &str = "filterGroupBy";
const ADVANCED: &str = "advancedMeterGroupByFilters";
const MINUTE: &str = "MINUTE";
const WINDOWS: [(&str, Interval); 3] = [("HOUR", Interval::Hour), ("DAY", Interval::Day), ("MONTH", Interval::Month)];
/// A window is not longer, with the hour that clocks are moved by.
const WINDOW_MAX_S: i64 = 32 * DAY_S;

/// The fields of a query before their values are looked at.
#[derive(Debug, Default)]
struct Sent {
    from: Option<String>,
    to: Option<String>,
    window_size: Option<String>,
    window_time_zone: Option<String>,
    subjects: Vec<String>,
    customers: Vec<String>,
    groups: Vec<(String, Vec<String>)>,
    group_by: Vec<String>,
}

/// A question about one meter.
#[derive(Debug, Clone)]
pub struct MeterQuery {
    account: u32,
    meter: String,
    aggregation: usage::Aggregation,
    event_from: Option<UnixMicros>,
    now: UnixMillis,
    zone: Zone,
    filters: Vec<(Field, Vec<String>)>,
    group_by: Vec<Field>,
    /// From when on, as it was asked.
    pub from: Option<UnixMicros>,
    /// Until when, as it was asked.
    pub to: Option<UnixMicros>,
    /// How wide windows are; [`None`]: one is the whole range.
    pub window: Option<Interval>,
    /// Whether rows say whose they are: as their subject.
    pub shows_subject: bool,
    /// The same, as their customer.
    pub shows_customer: bool,
}

impl MeterQuery {
    /// Reads the parameters of a GET.
    ///
    /// # Errors
    /// 400; `field` says which.
    pub fn of_parameters(pairs: Vec<(String, String)>, account: u32, meter: &Meter, now: UnixMillis) -> Result<Self, ApiError> {
        let mut sent = Sent::default();
        for (name, value) in pairs {
            match name.as_str() {
                FROM => once(&name, &mut sent.from, value)?,
                TO => once(&name, &mut sent.to, value)?,
                WINDOW_SIZE => once(&name, &mut sent.window_size, value)?,
                WINDOW_TIME_ZONE => once(&name, &mut sent.window_time_zone, value)?,
                SUBJECT => sent.subjects.push(value),
                FILTER_CUSTOMER => sent.customers.push(value),
                GROUP_BY => sent.group_by.push(value),
                FILTER_GROUPS => sent.groups.extend(read_dict(&value)?),
                _ if name.starts_with(ADVANCED) => return Err(advanced()),
                _ => {
                    let group = name.strip_prefix(FILTER_GROUPS).and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']'));
                    if let Some(group) = group {
                        add(&mut sent.groups, group.to_owned(), value);
                    }
                }
            }
        }
        Self::of(sent, account, meter, now)
    }

    /// Reads the body of a POST; one without any byte asks for everything.
    ///
    /// # Errors
    /// 400; `field` says which.
    pub fn of_body(body: &[u8], account: u32, meter: &Meter, now: UnixMillis) -> Result<Self, ApiError> {
        let object = if body.is_empty() { Map::new() } else { parse_object(body)? };
        let fields = Fields::of(&object, "");
        if fields.get(ADVANCED).is_some() {
            return Err(advanced());
        }
        let text = |name| Ok::<_, ApiError>(fields.text(name)?.map(str::to_owned));
        let texts = |name| Ok::<_, ApiError>(fields.values(name)?.unwrap_or_default());
        let mut groups = Vec::new();
        if let Some(filter) = fields.object(FILTER_GROUPS)? {
            for name in filter.object.keys() {
                groups.extend(filter.values(name)?.map(|values| (name.clone(), values)));
            }
        }
        let sent = Sent {
            from: text(FROM)?,
            to: text(TO)?,
            window_size: text(WINDOW_SIZE)?,
            window_time_zone: text(WINDOW_TIME_ZONE)?,
            subjects: texts(SUBJECT)?,
            customers: texts(FILTER_CUSTOMER)?,
            groups,
            group_by: texts(GROUP_BY)?,
        };
        Self::of(sent, account, meter, now)
    }

    /// All subjects that a meter has events of, whenever that was unless the parameters say it.
    ///
    /// # Errors
    /// 400; `field` says which.
    pub fn subjects(pairs: Vec<(String, String)>, account: u32, meter: &Meter, now: UnixMillis) -> Result<Self, ApiError> {
        let mut sent = Sent { group_by: vec![SUBJECT.into()], ..Sent::default() };
        for (name, value) in pairs {
            match name.as_str() {
                FROM => once(&name, &mut sent.from, value)?,
                TO => once(&name, &mut sent.to, value)?,
                _ => {}
            }
        }
        let asked = Self { aggregation: usage::Aggregation::Count, ..Self::of(sent, account, meter, now)? };
        let end = UnixMicros::of_seconds(TIME_S_MAX);
        // Events may be ahead of the time.
        Ok(Self { to: asked.to.or(Some(end)), ..asked })
    }

    fn of(sent: Sent, account: u32, meter: &Meter, now: UnixMillis) -> Result<Self, ApiError> {
        let (by_subject, by_customer) = (!sent.subjects.is_empty(), !sent.customers.is_empty());
        let is_grouped = sent.group_by.iter().any(|name| name == SUBJECT);
        let customer = (by_subject || by_customer || is_grouped).then_some(Field::Customer);
        let mut group_by: Vec<Field> = customer.into_iter().collect();
        for field in sent.group_by.into_iter().map(field) {
            if !group_by.contains(&field) {
                group_by.push(field);
            }
            if group_by.len() > GROUP_BY_MAX {
                return Err(refused(QueryError::TooManyGroupKeys));
            }
        }
        let filters = [sent.subjects, sent.customers].into_iter().filter(|values| !values.is_empty());
        let filters = filters.map(|values| (Field::Customer, values));
        let filters = filters.chain(sent.groups.into_iter().map(|(name, values)| (field(name), values))).collect();
        let asked = Self {
            account,
            meter: meter.name.clone(),
            aggregation: aggregation(meter),
            event_from: event_from(meter),
            now,
            zone: sent.window_time_zone.map_or(Ok(Zone::default()), |name| Zone::find(&name)).map_err(refused)?,
            filters,
            group_by,
            from: sent.from.map(|text| time(FROM, &text)).transpose()?,
            to: sent.to.map(|text| time(TO, &text)).transpose()?,
            window: sent.window_size.map(|word| window(&word)).transpose()?,
            shows_subject: by_subject || is_grouped,
            shows_customer: by_customer,
        };
        if asked.from.is_some() {
            // Before anybody waits for rows.
            asked.query(None)?;
        }
        Ok(asked)
    }

    /// Whose meter.
    pub fn account(&self) -> u32 {
        self.account
    }

    /// The meter's API name.
    pub fn meter(&self) -> &str {
        &self.meter
    }

    /// Names of the groups, in the order in which they were asked for.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.group_by.iter().filter_map(|field| match field {
            Field::Dimension(name) => Some(name.as_str()),
            Field::Customer => None,
        })
    }

    /// Whether the first day of the meter must be known for [`Self::query`].
    pub fn begins_with_the_first_event(&self) -> bool {
        self.from.is_none()
    }

    /// The rows that it takes.
    pub fn view_request(&self) -> ViewRequest {
        if let Some(Some(query)) = self.from.and_then(|_| self.query(None).ok()) {
            return query.view_request();
        }
        let end_s = self.to.map_or(self.now.seconds() + 1, ceil_s).saturating_add(WINDOW_MAX_S).min(TIME_S_MAX);
        let (account, meter) = (self.account, Some(self.meter.clone()));
        ViewRequest { account, meter, from_s: 0, to_s: end_s / HOUR_S * HOUR_S, customers: self.unanswered().customers }
    }

    /// What tells why there is no answer.
    pub fn unanswered(&self) -> Unanswered {
        let of_customers = |(field, values): &(Field, Vec<String>)| (*field == Field::Customer).then(|| values.clone());
        let mut customers = self.filters.iter().filter_map(of_customers).reduce(|mut some, others| {
            some.retain(|id| others.contains(id));
            some
        });
        if let Some(customers) = &mut customers {
            customers.sort_unstable();
            customers.dedup();
        }
        Unanswered { account: self.account, meter: Some(self.meter.clone()), customers }
    }

    /// The question of the model. `begins_s`: the first day of the meter, in s since 1970. [`None`]: no event can be meant.
    ///
    /// # Errors
    /// 400; `field` says which.
    pub fn query(&self, begins_s: Option<i64>) -> Result<Option<Query>, ApiError> {
        let asked_s = self.from.map(UnixMicros::seconds);
        let Some(first_s) = asked_s.or(begins_s) else { return Ok(None) };
        let start_s = self.event_from.map_or(first_s, |from| from.seconds().max(first_s));
        let range = match self.to {
            Some(to) => TimeRange::new(start_s, ceil_s(to)),
            None => TimeRange::until_now(start_s, self.now),
        };
        let range = match range {
            Err(QueryError::EndNotAfterStart) if asked_s != Some(start_s) => return Ok(None),
            checked => checked.map_err(refused)?,
        };
        let draft = Draft {
            account: self.account,
            meter: self.meter.clone(),
            aggregation: Some(self.aggregation.clone()),
            buckets: self.buckets(range).map_err(refused)?,
            filters: self.filters.clone(),
            group_by: self.group_by.clone(),
            take: None,
        };
        Query::check(draft).map(Some).map_err(refused)
    }

    /// Windows are whole at the end. Without any, the buckets only cut the way to the one total.
    fn buckets(&self, range: TimeRange) -> Result<Buckets, QueryError> {
        let Some(interval) = self.window else { return Buckets::new(range, Interval::Month, Zone::default()) };
        let buckets = Buckets::new(range, interval, self.zone.clone())?;
        let whole = TimeRange::new(range.bounds_s().0, buckets.end_s().min(TIME_S_MAX))?;
        Buckets::new(whole, interval, self.zone.clone())
    }
}

fn once(name: &str, slot: &mut Option<String>, value: String) -> Result<(), ApiError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ApiError::bad_field(name, "is given twice")),
    }
}

fn add(groups: &mut Vec<(String, Vec<String>)>, name: String, value: String) {
    match groups.iter_mut().find(|(known, _)| *known == name) {
        Some((_, values)) => values.push(value),
        None => groups.push((name, vec![value])),
    }
}

fn read_dict(text: &str) -> Result<Vec<(String, Vec<String>)>, ApiError> {
    let pairs = python::dict(text).ok_or_else(|| {
        ApiError::bad_field(FILTER_GROUPS, "must be given as filterGroupBy[name]=value, or as the text of a Python dict of texts")
    })?;
    Ok(pairs.into_iter().map(|(name, value)| (name, vec![value])).collect())
}

fn advanced() -> ApiError {
    ApiError::bad_field(ADVANCED, format_args!("is not supported yet: filter with {FILTER_GROUPS}"))
}

fn time(name: &str, text: &str) -> Result<UnixMicros, ApiError> {
    parse_time(text).ok_or_else(|| ApiError::bad_field(name, "must be a time as in RFC 3339, before the year 10000"))
}

/// A window of a query by its name.
fn window(word: &str) -> Result<Interval, ApiError> {
    let found = WINDOWS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, interval)| *interval);
    found.ok_or_else(|| {
        let reason = if word.eq_ignore_ascii_case(MINUTE) {
            "must be HOUR, DAY or MONTH: what was used is kept by the hour"
        } else {
            "must be HOUR, DAY or MONTH"
        };
        ApiError::bad_field(WINDOW_SIZE, reason)
    })
}

/// As a window is called.
pub fn window_word(interval: Interval) -> &'static str {
    WINDOWS.into_iter().find(|(_, known)| *known == interval).map_or("", |(word, _)| word)
}

fn field(name: String) -> Field {
    if name == SUBJECT { Field::Customer } else { Field::Dimension(name) }
}

fn aggregation(meter: &Meter) -> usage::Aggregation {
    match Aggregation::of(meter) {
        Aggregation::Sum => usage::Aggregation::Sum,
        Aggregation::Count => usage::Aggregation::Count,
        Aggregation::UniqueCount => usage::Aggregation::Unique(counted(meter)),
        Aggregation::Average => usage::Aggregation::Average,
        Aggregation::Min => usage::Aggregation::Min,
        Aggregation::Max => usage::Aggregation::Max,
        Aggregation::Latest => usage::Aggregation::Latest,
    }
}

fn ceil_s(time: UnixMicros) -> i64 {
    UnixMicros(time.0.saturating_add(999_999)).seconds()
}

/// What the model has against a query, at the parameter that it is about.
fn refused(error: QueryError) -> ApiError {
    let name = match error {
        QueryError::StartOutside => FROM,
        QueryError::EndOutside => TO,
        QueryError::EndNotAfterStart => return ApiError::bad_field(TO, "must be after `from`"),
        QueryError::TooManyBuckets | QueryError::TooManyZonedBuckets => WINDOW_SIZE,
        QueryError::ZoneUnknown => WINDOW_TIME_ZONE,
        QueryError::MeterEmpty | QueryError::MeterTooLong => "meterIdOrSlug",
        QueryError::TooManyGroupKeys => GROUP_BY,
        QueryError::TooManyFilterValues => FILTER_GROUPS,
        QueryError::TooManyLookUps => SUBJECT,
    };
    ApiError::bad_field(name, error)
}

#[cfg(test)]
mod tests;
