//! A meter event: who used how much of what, and when. Stage 2 of the way of an event.
//!
//! A [`MeterEvent`] exists only if it was checked: everything behind the gateway trusts it and checks nothing
//! again. Its fields are slices of the request's body; nothing is copied until it is written into a record.

pub mod amount;
pub mod csv;
mod fingerprint;
pub mod identity;
mod mapped;
pub mod parse;

pub use amount::{Amount, AmountError, Sum};
pub use fingerprint::Fingerprint;
pub use identity::{ContentHash, HashKey, IdentityHash, IdentityMode};
pub use mapped::{Mapping, OWN_BYTES_MAX, OwnDimension, Said};

use crate::clock::{UnixMicros, UnixMillis};

/// Longest uniqueId, customerId and meter name, in bytes (`design.md`, limits; fixed).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest namespace (a CloudEvents `source`), in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 1_024;
/// Most dimensions of an event (fixed).
pub const DIMENSIONS_MAX: usize = 64;
/// Longest key of a dimension, in bytes (fixed).
pub const DIMENSION_KEY_BYTES_MAX: usize = 128;
/// Longest value of a dimension, in bytes (fixed).
pub const DIMENSION_VALUE_BYTES_MAX: usize = 1_024;
/// Most measurements of an event (the entries of `values`).
pub const MEASUREMENTS_MAX: usize = 64;
/// Deepest nesting of a JSON body, counted from its outermost value (fixed).
pub const JSON_DEPTH_MAX: usize = 16;
/// Latest event time that is taken: the end of the year 9999, so that every bucket has a date.
pub const TIME_MAX: UnixMillis = UnixMillis(253_402_300_799_999);

/// One measurement: a meter and what it showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement<'a> {
    /// The meter's API name.
    pub meter: &'a str,
    /// What was measured.
    pub value: Amount,
}

/// What a dialect read, before it is checked.
#[derive(Debug)]
pub struct Draft<'a, 's> {
    /// Empty except for CloudEvents (its `source`).
    pub namespace: &'a str,
    /// As sent, or made by the gateway.
    pub unique_id: &'s str,
    /// Whether the gateway made the uniqueId, because the producer sent none.
    pub unique_id_generated: bool,
    /// Who is billed.
    pub customer_id: &'a str,
    /// When it happened; `None`: not sent, the receive time stands in.
    pub time: Option<UnixMicros>,
    /// Sorted by meter as a side effect of the check.
    pub measurements: &'s mut [Measurement<'a>],
    /// Sorted by key as a side effect of the check.
    pub dimensions: &'s mut [(&'a str, &'a str)],
}

/// A checked event. Names are 1 to 255 bytes without U+0000, measurements and dimensions are sorted and without
/// repetition, the time is between 1970 and 9999.
#[derive(Debug, Clone, Copy)]
pub struct MeterEvent<'a, 's> {
    namespace: &'a str,
    unique_id: &'s str,
    unique_id_generated: bool,
    customer_id: &'a str,
    time_sent: Option<UnixMicros>,
    time: UnixMicros,
    measurements: &'s [Measurement<'a>],
    dimensions: &'s [(&'a str, &'a str)],
    mapping: Option<Mapping<'a, 's>>,
}

/// How far an event's time may lie from its receive time. Unlimited by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeWindow {
    /// Oldest, in ms before the receive time.
    pub age_ms_max: Option<i64>,
    /// Newest, in ms after the receive time.
    pub future_ms_max: Option<i64>,
}

impl<'a, 's> MeterEvent<'a, 's> {
    /// Checks a draft; the one constructor.
    ///
    /// # Errors
    /// [`Rejection`], without an index: the caller knows at which one it stands.
    pub fn check(draft: Draft<'a, 's>, received: UnixMillis, window: TimeWindow) -> Result<Self, Rejection> {
        check_text("uniqueId", draft.unique_id, NAME_BYTES_MAX)?;
        check_text("customerId", draft.customer_id, NAME_BYTES_MAX)?;
        if !draft.namespace.is_empty() {
            check_text("source", draft.namespace, NAMESPACE_BYTES_MAX)?;
        }
        if draft.measurements.is_empty() {
            return Err(Rejection::new(Code::MissingField, "meterApiName", "is missing"));
        }
        for measurement in &*draft.measurements {
            check_text("meterApiName", measurement.meter, NAME_BYTES_MAX)?;
        }
        sort_without_repetition(draft.measurements, "values", |m| m.meter)?;
        check_dimensions(draft.dimensions)?;
        let time = check_time(draft.time, received, window)?;
        Ok(Self {
            namespace: draft.namespace,
            unique_id: draft.unique_id,
            unique_id_generated: draft.unique_id_generated,
            customer_id: draft.customer_id,
            time_sent: draft.time,
            time,
            measurements: draft.measurements,
            dimensions: draft.dimensions,
            mapping: None,
        })
    }

    /// Empty except for CloudEvents.
    pub fn namespace(&self) -> &'a str {
        self.namespace
    }

    /// The producer's id of the event, or the one that the gateway made.
    pub fn unique_id(&self) -> &'s str {
        self.unique_id
    }

    /// Whether the gateway made the uniqueId.
    pub fn unique_id_generated(&self) -> bool {
        self.unique_id_generated
    }

    /// Who is billed.
    pub fn customer_id(&self) -> &'a str {
        self.customer_id
    }

    /// When it happened, as sent.
    pub fn time_sent(&self) -> Option<UnixMicros> {
        self.time_sent
    }

    /// When it happened; the receive time if the producer did not say.
    pub fn time(&self) -> UnixMicros {
        self.time
    }

    /// At least one; sorted by meter.
    pub fn measurements(&self) -> &'s [Measurement<'a>] {
        self.measurements
    }

    /// Sorted by key.
    pub fn dimensions(&self) -> &'s [(&'a str, &'a str)] {
        self.dimensions
    }
}

fn check_dimensions(dimensions: &mut [(&str, &str)]) -> Result<(), Rejection> {
    if dimensions.len() > DIMENSIONS_MAX {
        let reason = format!("has {} entries, the limit is {DIMENSIONS_MAX}", dimensions.len());
        return Err(Rejection::new(Code::TooMany, "dimensions", reason));
    }
    for (key, value) in &*dimensions {
        check_dimension(key, value)?;
    }
    sort_without_repetition(dimensions, "dimensions", |(key, _)| key)
}

#[inline]
fn check_dimension(key: &str, value: &str) -> Result<(), Rejection> {
    if key.len() > DIMENSION_KEY_BYTES_MAX {
        return Err(too_long("dimensions", key.len(), DIMENSION_KEY_BYTES_MAX));
    }
    if value.len() > DIMENSION_VALUE_BYTES_MAX {
        return Err(too_long(&format!("dimensions.{key}"), value.len(), DIMENSION_VALUE_BYTES_MAX));
    }
    if has_nul(key) || has_nul(value) {
        return Err(Rejection::new(Code::WrongValue, format!("dimensions.{}", key.escape_default()), "contains U+0000"));
    }
    Ok(())
}

fn check_time(sent: Option<UnixMicros>, received: UnixMillis, window: TimeWindow) -> Result<UnixMicros, Rejection> {
    let Some(time) = sent else { return Ok(received.micros()) };
    let millis = time.millis();
    let wrong = |code, reason: String| Err(Rejection::new(code, "meterTimeInMillis", reason));
    if time.0 <= 0 || millis > TIME_MAX {
        // Past what microseconds can say, it is not known how far.
        let or_beyond = match time.0 {
            i64::MAX => " or more",
            i64::MIN => " or less",
            _ => "",
        };
        return wrong(Code::WrongValue, format!("is {} ms{or_beyond}, it must be above 0 and not after the year 9999", millis.0));
    }
    if let Some(age_ms_max) = window.age_ms_max
        && received.0.saturating_sub(millis.0) > age_ms_max
    {
        return wrong(Code::TooOld, format!("is older than {age_ms_max} ms, the limit here"));
    }
    if let Some(future_ms_max) = window.future_ms_max
        && millis.0.saturating_sub(received.0) > future_ms_max
    {
        return wrong(Code::TooNew, format!("lies more than {future_ms_max} ms in the future, the limit here"));
    }
    Ok(time)
}

fn check_text(field: &str, text: &str, bytes_max: usize) -> Result<(), Rejection> {
    if text.is_empty() {
        return Err(Rejection::new(Code::WrongValue, field, "must not be empty"));
    }
    if text.len() > bytes_max {
        return Err(too_long(field, text.len(), bytes_max));
    }
    // PostgreSQL cannot keep it in a text, and no real id has one.
    if has_nul(text) {
        return Err(Rejection::new(Code::WrongValue, field, "contains U+0000"));
    }
    Ok(())
}

fn has_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

fn too_long(field: &str, got: usize, limit: usize) -> Rejection {
    Rejection::new(Code::TooLarge, field, format!("has {got} bytes, the limit is {limit}"))
}

fn sort_without_repetition<T>(items: &mut [T], field: &str, key: impl for<'t> Fn(&'t T) -> &'t str) -> Result<(), Rejection> {
    if !items.is_sorted_by(|a, b| key(a) < key(b)) {
        items.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        if let Some(pair) = items.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
            return Err(Rejection::new(Code::RepeatedKey, format!("{field}.{}", key(&pair[0]).escape_default()), "is given twice"));
        }
    }
    Ok(())
}

/// Why an event was not taken: a closed set, used as a metric label and in receipts and dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Its bytes are not of the form that they were sent in: a line that is no JSON, a row with too few fields.
    Malformed,
    /// Not a JSON object.
    NotAnObject,
    /// A required field is absent or null.
    MissingField,
    /// A field has another JSON type than the contract says.
    WrongType,
    /// A field's value is not allowed.
    WrongValue,
    /// A number of 10^20 or more.
    OutOfRange,
    /// A text, or the whole event, is longer than its limit.
    TooLarge,
    /// More entries than the limit.
    TooMany,
    /// Nested deeper than the limit.
    TooDeep,
    /// A key that counts is given twice; two parsers could disagree on which one to bill.
    RepeatedKey,
    /// Older than `max_event_age`.
    TooOld,
    /// Further in the future than `max_event_future`.
    TooNew,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::NotAnObject,
        Self::MissingField,
        Self::WrongType,
        Self::WrongValue,
        Self::OutOfRange,
        Self::TooLarge,
        Self::TooMany,
        Self::TooDeep,
        Self::RepeatedKey,
        Self::TooOld,
        Self::TooNew,
    ];

    /// The code with this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.label() == label)
    }

    /// As it stands in metrics, receipts and dead letters.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotAnObject => "not_an_object",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::WrongValue => "wrong_value",
            Self::OutOfRange => "out_of_range",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::TooDeep => "too_deep",
            Self::RepeatedKey => "repeated_key",
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
        }
    }
}

/// One event that was not taken, and what its sender can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What kind of mistake.
    pub code: Code,
    /// The field, as a path inside the event; empty if the event as a whole is wrong.
    pub field: String,
    /// What is wrong with it, to be read after the field's name.
    pub reason: String,
}

impl Rejection {
    /// A rejection of one field.
    pub fn new(code: Code, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { code, field: field.into(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

    fn check(change: impl FnOnce(&mut Draft<'static, '_>)) -> Result<i64, Rejection> {
        let mut measurements = [Measurement { meter: "tokens", value: Amount::ONE }];
        let mut dimensions = [("region", "eu"), ("model", "m-2")];
        let mut draft = Draft {
            namespace: "",
            unique_id: "u-1",
            unique_id_generated: false,
            customer_id: "acme-7",
            time: Some(RECEIVED.micros()),
            measurements: &mut measurements,
            dimensions: &mut dimensions,
        };
        change(&mut draft);
        let window = TimeWindow { age_ms_max: Some(1_000), future_ms_max: Some(500) };
        MeterEvent::check(draft, RECEIVED, window).map(|event| {
            assert!(event.dimensions().is_sorted());
            event.time().0
        })
    }

    #[test]
    fn a_good_event_passes_with_its_dimensions_sorted() {
        assert_eq!(check(|_| ()), Ok(1_767_225_600_000_000));
        assert_eq!(check(|draft| draft.time = None), Ok(1_767_225_600_000_000));
    }

    #[test]
    fn every_limit_names_its_field() {
        let long: &'static str = "x".repeat(256).leak();
        let fails = |change: fn(&mut Draft<'static, '_>)| match check(change) {
            Ok(_) => panic!("was taken"),
            Err(rejection) => (rejection.code, rejection.field),
        };
        assert_eq!(fails(|d| d.unique_id = ""), (Code::WrongValue, "uniqueId".into()));
        assert_eq!(fails(|d| d.customer_id = "a\0"), (Code::WrongValue, "customerId".into()));
        assert_eq!(fails(|d| d.measurements = &mut []), (Code::MissingField, "meterApiName".into()));
        assert_eq!(fails(|d| d.time = Some(UnixMicros(0))), (Code::WrongValue, "meterTimeInMillis".into()));
        assert_eq!(fails(|d| d.time = Some(UnixMillis(RECEIVED.0 - 1_001).micros())), (Code::TooOld, "meterTimeInMillis".into()));
        assert_eq!(fails(|d| d.time = Some(UnixMillis(RECEIVED.0 + 501).micros())), (Code::TooNew, "meterTimeInMillis".into()));
        assert_eq!(fails(|d| d.dimensions[1].0 = "region"), (Code::RepeatedKey, "dimensions.region".into()));
        let too_long = check(|d| d.unique_id = long).expect_err("256 bytes");
        assert_eq!(too_long.reason, "has 256 bytes, the limit is 255");
        assert!(check(|d| d.unique_id = &long[1..]).is_ok());
    }
}
