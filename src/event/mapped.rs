//! What definitions made of an event: measurements of several meters, each with dimensions of its own, and a customer that the sender did
//! not name.
//!
//! It stays one event. Which one it is and what it says is what its sender said ([`Said`]), whatever was defined at that time; so a copy is
//! one, and says the same, also when definitions have changed in between.

use super::{Code, DIMENSIONS_MAX, Measurement, MeterEvent, Rejection, check_dimension, too_long};

/// Bytes of the dimensions that measurements of an event have of their own, all together.
pub const OWN_BYTES_MAX: usize = 64 << 10;

/// What the sender of an event said, in the form in which an event is hashed.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a, 's> {
    /// Empty: it named none.
    pub customer_id: &'a str,
    /// Sorted by meter.
    pub measurements: &'s [Measurement<'a>],
    /// Sorted by key.
    pub dimensions: &'s [(&'a str, &'a str)],
    /// Whatever else it said that counts, in a form of the dialect's own.
    pub further: &'s [u8],
}

/// A dimension of one measurement alone. It comes before one of the event that has the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnDimension<'a> {
    /// Place of the measurement.
    pub measurement: usize,
    /// Its key.
    pub key: &'a str,
    /// Its value.
    pub value: &'a str,
}

/// What was made of an event.
#[derive(Debug, Clone, Copy)]
pub struct Mapping<'a, 's> {
    /// Of what it was made.
    pub said: Said<'a, 's>,
    /// Sorted by meter; names that an event can have.
    pub measurements: &'s [Measurement<'a>],
    /// Sorted by key, as an event can have them.
    pub dimensions: &'s [(&'a str, &'a str)],
    /// Sorted by measurement and key, none twice.
    pub own: &'s [OwnDimension<'a>],
    /// Bit n: measurement n could not be read and counts nowhere.
    pub unreadable: u64,
}

impl<'a, 's> MeterEvent<'a, 's> {
    /// The event as definitions made it of another one.
    ///
    /// # Errors
    /// [`Rejection`]: what measurements have of their own is more than an event can have.
    pub fn mapped(self, mapping: Mapping<'a, 's>) -> Result<Self, Rejection> {
        debug_assert!(mapping.own.is_sorted_by(|a, b| (a.measurement, a.key) < (b.measurement, b.key)));
        debug_assert!(mapping.measurements.is_sorted_by(|a, b| a.meter < b.meter) && mapping.dimensions.is_sorted_by(|a, b| a.0 < b.0));
        let Mapping { measurements, dimensions, .. } = mapping;
        if dimensions.len() > DIMENSIONS_MAX {
            let reason = format!("has {} entries, the limit is {DIMENSIONS_MAX}", dimensions.len());
            return Err(Rejection::new(Code::TooMany, "dimensions", reason));
        }
        let mut bytes = 0;
        for own in mapping.own.chunk_by(|a, b| a.measurement == b.measurement) {
            let more = own.iter().filter(|own| dimensions.binary_search_by_key(&own.key, |(key, _)| key).is_err()).count();
            let count = dimensions.len() + more;
            if count > DIMENSIONS_MAX {
                let meter = measurements.get(own[0].measurement).map_or("", |measurement| measurement.meter);
                let reason = format!("has {count} entries for the meter {meter}, the limit is {DIMENSIONS_MAX}");
                return Err(Rejection::new(Code::TooMany, "dimensions", reason));
            }
            for OwnDimension { key, value, .. } in own {
                check_dimension(key, value)?;
                bytes += key.len() + value.len();
            }
        }
        if bytes > OWN_BYTES_MAX {
            return Err(too_long("dimensions", bytes, OWN_BYTES_MAX));
        }
        Ok(Self { measurements, dimensions, mapping: Some(mapping), ..self })
    }

    /// What its sender said.
    pub fn said(&self) -> Said<'a, 's> {
        self.mapping.map_or_else(|| self.whole(), |mapping| mapping.said)
    }

    /// Whether that is not what it is.
    pub fn is_mapped(&self) -> bool {
        self.mapping.is_some()
    }

    /// All that it is.
    pub fn whole(&self) -> Said<'a, 's> {
        Said { customer_id: self.customer_id, measurements: self.measurements, dimensions: self.dimensions, further: &[] }
    }

    /// Dimensions of single measurements, sorted by these.
    pub fn own_dimensions(&self) -> &'s [OwnDimension<'a>] {
        self.mapping.map_or(&[], |mapping| mapping.own)
    }

    /// Bit n: measurement n could not be read.
    pub fn unreadable(&self) -> u64 {
        self.mapping.map_or(0, |mapping| mapping.unreadable)
    }

    /// A dimension as a measurement has it.
    pub fn dimension_of(&self, measurement: usize, key: &str) -> Option<&'a str> {
        let own = self.own_dimensions().iter().find(|own| own.measurement == measurement && own.key == key).map(|own| own.value);
        own.or_else(|| self.dimensions.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }
}
