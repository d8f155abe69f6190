//! Rows in memory, for tests: made from events by way of real records, kept under their encoded keys as a store does.

use std::collections::BTreeMap;

use crate::clock::UnixMillis;
use crate::event::{Amount, Draft, HashKey, IdentityMode, Measurement, MeterEvent, TimeWindow};
use crate::log::record::{self, Decisions};
use crate::store::row::sketch_dimensions;
use crate::store::{DimensionSet, Error, Grain, KeyRange, Row, RowKey, RowSelection, Rows, Visit};

/// The account of all test events that do not say otherwise.
pub(crate) const ACCOUNT: u32 = 1;

/// An event as a test writes it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) account: u32,
    pub(crate) meter: String,
    pub(crate) customer: String,
    pub(crate) time_ms: i64,
    pub(crate) value: Amount,
    pub(crate) dimensions: Vec<(String, String)>,
    pub(crate) partition: u32,
    /// Whether the guard of dimension sets has put it into the overflow row.
    pub(crate) overflow: bool,
    /// If it matters; otherwise made of its place.
    pub(crate) unique_id: Option<String>,
}

/// An event of the meter `tokens` without dimensions; the value as JSON would have it.
pub(crate) fn event(customer: &str, time_s: i64, value: &str) -> Event {
    Event {
        account: ACCOUNT,
        meter: "tokens".into(),
        customer: customer.into(),
        time_ms: time_s * 1_000,
        value: Amount::parse(value.as_bytes()).expect("a number"),
        dimensions: Vec::new(),
        partition: 0,
        overflow: false,
        unique_id: None,
    }
}

impl Event {
    pub(crate) fn meter(self, meter: &str) -> Self {
        Self { meter: meter.into(), ..self }
    }

    pub(crate) fn dimensions(self, dimensions: &[(&str, &str)]) -> Self {
        Self { dimensions: dimensions.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(), ..self }
    }

    pub(crate) fn overflow(self) -> Self {
        Self { overflow: true, ..self }
    }
}

/// A store of rows and nothing else.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryRows(BTreeMap<Vec<u8>, Row>);

impl MemoryRows {
    pub(crate) fn of<'e>(events: impl IntoIterator<Item = &'e Event>) -> Self {
        let mut rows = Self::default();
        for (number, event) in events.into_iter().enumerate() {
            rows.add(event, &event.unique_id.clone().unwrap_or_else(|| format!("u-{number}")));
        }
        rows
    }

    /// As they were before there were sketches.
    pub(crate) fn without_sketches(mut self) -> Self {
        self.0.values_mut().for_each(|row| row.sketches = None);
        self
    }

    fn add(&mut self, event: &Event, unique_id: &str) {
        let dimensions: Vec<_> = event.dimensions.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let draft = Draft {
            namespace: "",
            unique_id,
            unique_id_generated: false,
            customer_id: &event.customer,
            time: Some(UnixMillis(event.time_ms).micros()),
            measurements: &mut [Measurement { meter: &event.meter, value: event.value }],
            dimensions: &mut dimensions.clone(),
        };
        let received = UnixMillis(event.time_ms);
        let checked = MeterEvent::check(draft, received, TimeWindow::default()).expect("a good event");
        let account = record::Account { number: event.account, identity: IdentityMode::UniqueId };
        let mut bytes = Vec::new();
        record::write(&mut bytes, &HashKey::from_bytes([1; 16]), account, &checked, Decisions::default());
        let record = record::records(&bytes, 1, received).next().expect("one record").expect("decodes");
        let set = if event.overflow { DimensionSet::OVERFLOW } else { DimensionSet(record.dimension_bytes()) };
        for grain in [Grain::Hour, Grain::Day] {
            let key = RowKey {
                account: event.account,
                meter: &event.meter,
                grain,
                bucket: u32::try_from(record.time.seconds() / grain.seconds()).expect("after 1970"),
                customer: &event.customer,
                partition: event.partition,
                dimensions: set,
            };
            let mut bytes = Vec::new();
            key.write(&mut bytes);
            let row = self.0.entry(bytes).or_insert_with(|| Row::none_yet(set));
            row.add(event.value, record.time, unique_id);
            if event.overflow {
                sketch_dimensions(DimensionSet(record.dimension_bytes()), [row, &mut Row::none_yet(DimensionSet(&[]))]);
            }
        }
    }
}

impl Rows for MemoryRows {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), Error> {
        for (from, to) in selection.key_ranges() {
            for (key, row) in self.0.range(from..to) {
                let key = RowKey::read(key).expect("written here");
                assert!(selection.holds(&key), "{key:?} is in a range of {selection:?}");
                visit(key, row)?;
            }
        }
        Ok(())
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, Error> {
        Ok(ranges.iter().find_map(|(from, to)| self.0.range(from.clone()..to.clone()).next()).map(|(key, _)| key.clone()))
    }
}
