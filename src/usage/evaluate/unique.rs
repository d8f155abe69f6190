//! Counting what is different: customers, always exactly; values of a dimension, exactly as long as they are few enough to be held.
//!
//! Values are numbered as they come, so that each is held once. A set is a sketch ([`crate::sketch`]) from the moment on that it meets a value
//! that cannot be numbered any more, or an overflow row, whose own sketch is added to it.

use std::collections::{HashMap, HashSet};

use super::Approximate;
use crate::sketch::{Known, Sketch, ValueHash};
use crate::store::{Row, RowKey};

type Hashed = foldhash::fast::RandomState;

/// Values that are numbered.
pub(super) struct Values {
    numbers: HashMap<Box<str>, u32, Hashed>,
    hashes: Vec<ValueHash>,
    values_max: usize,
}

/// What a row adds to the values of a dimension.
pub(super) enum Brought<'r> {
    /// No event of it has the dimension.
    Nothing,
    /// One value, by its number.
    Value(u32),
    /// One value, past the limit.
    Unnumbered(ValueHash),
    /// An overflow row's.
    Sketch(&'r Sketch),
    /// An overflow row that does not know.
    Unknown,
}

impl Values {
    pub(super) fn new(values_max: usize) -> Self {
        Self { numbers: HashMap::default(), hashes: Vec::new(), values_max }
    }

    /// What a row brings. Adds to `cells` what is kept.
    pub(super) fn of<'r>(&mut self, dimension: &str, key: &RowKey<'_>, row: &'r Row, cells: &mut usize) -> Brought<'r> {
        if key.dimensions.is_overflow() {
            return match row.sketches.as_deref().map(|sketches| sketches.get(dimension)) {
                Some(Known::All(sketch)) => Brought::Sketch(sketch),
                Some(Known::None) => Brought::Nothing,
                Some(Known::Nothing) | None => Brought::Unknown,
            };
        }
        let Some(value) = key.dimensions.get(dimension) else { return Brought::Nothing };
        if let Some(number) = self.numbers.get(value) {
            return Brought::Value(*number);
        }
        let hash = ValueHash::of(value);
        if self.numbers.len() >= self.values_max {
            return Brought::Unnumbered(hash);
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(value.into(), number);
        self.hashes.push(hash);
        *cells += cells_of(value.len());
        Brought::Value(number)
    }

    fn hash(&self, number: u32) -> ValueHash {
        self.hashes[number as usize]
    }
}

/// A cell, and what some bytes take of more of them.
fn cells_of(bytes: usize) -> usize {
    1 + bytes / 100
}

/// Different values.
#[derive(Default)]
pub(super) struct Distinct {
    /// Their numbers; none of them once there is a sketch.
    numbers: HashSet<u32, Hashed>,
    sketch: Option<Sketch>,
    is_lower_bound: bool,
}

impl Distinct {
    pub(super) fn add(&mut self, brought: &Brought<'_>, values: &Values) {
        match brought {
            Brought::Nothing => {}
            Brought::Unknown => self.is_lower_bound = true,
            Brought::Value(number) => match &mut self.sketch {
                None => _ = self.numbers.insert(*number),
                Some(sketch) => sketch.add(values.hash(*number)),
            },
            Brought::Unnumbered(hash) => self.estimated(values).add(*hash),
            Brought::Sketch(other) => self.estimated(values).merge(other),
        }
    }

    /// The set as a sketch, from now on.
    fn estimated(&mut self, values: &Values) -> &mut Sketch {
        self.sketch.get_or_insert_with(|| {
            let mut sketch = Sketch::default();
            std::mem::take(&mut self.numbers).into_iter().for_each(|number| sketch.add(values.hash(number)));
            sketch
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.sketch.as_ref().map_or(self.numbers.len() as u64, Sketch::estimate)
    }

    /// What it holds.
    pub(super) fn cells(&self) -> usize {
        self.sketch.as_ref().map_or(self.numbers.len(), |sketch| cells_of(sketch.heap_bytes()))
    }

    pub(super) fn approximate(&self) -> Approximate {
        Approximate { is_estimate: self.sketch.is_some(), is_lower_bound: self.is_lower_bound }
    }
}

/// Which customers a group, and a bucket of it, has seen. Customers are numbered as they come.
#[derive(Default)]
pub(super) struct SeenCustomers {
    numbers: HashMap<Box<str>, u32>,
    by_group: HashSet<(u32, u32)>,
    by_bucket: HashSet<(u32, u32, u32)>,
}

impl SeenCustomers {
    /// What a customer adds to the group and to the bucket: one, the first time. Adds to `cells` what it keeps.
    pub(super) fn see(&mut self, group: u32, bucket: u32, customer: &str, cells: &mut usize) -> (u64, u64) {
        let number = match self.numbers.get(customer) {
            Some(number) => *number,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(customer.into(), number);
                number
            }
        };
        let is_new_in_group = self.by_group.insert((group, number));
        let is_new_in_bucket = self.by_bucket.insert((group, bucket, number));
        *cells += usize::from(is_new_in_bucket);
        (u64::from(is_new_in_group), u64::from(is_new_in_bucket))
    }
}
