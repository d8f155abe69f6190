//! Meter definitions: what people say a meter is. A meter needs none to be used; a definition gives it names for people, and the type that
//! decides what a usage query gets that names no aggregation.
//!
//! Each dialect shows its own part of a definition and changes no other. What only one of them knows is kept for it as it was sent
//! ([`Extensions`]).
//!
//! Definitions are documents of the store: whoever answers about one reads it, so one that was made on a node holds on every
//! node from its answer on. What takes events in goes by copies, and hears of changes ([`crate::definitions`]).

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::{Clock, UnixMillis};
use crate::store::{self, Change, Hears, Kind, Store};
use crate::usage::MeterType;

/// Definitions of an account.
pub const METERS_MAX: usize = if cfg!(test) { 3 } else { 10_000 };
/// Meters that count events of one name. Events of a name that more meters ask for go to those that were made first.
pub const EVENT_METERS_MAX: usize = crate::event::MEASUREMENTS_MAX;
/// Longest display name and label, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;
const VERSION: u32 = 1;

/// What is said of a meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// For people.
    pub display_name: String,
    /// For people, too.
    pub label: String,
    /// What it counts.
    pub meter_type: MeterType,
    /// Names of the dimensions that its events are expected to have; nothing is refused on their account.
    pub dimensions: Vec<String>,
}

/// What only one dialect says of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// Everything that Octane sends but the display name and the expected labels, which are dimensions.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub octane: Map<String, Value>,
    /// Everything that OpenMeter sends, as it was sent.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub openmeter: Map<String, Value>,
}

impl Extensions {
    /// Whether no dialect has anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// The meter's API name.
    pub name: String,
    /// What is said of it.
    pub said: Said,
    /// The same, where only one dialect says it.
    pub ext: Extensions,
    /// When the definition was made.
    pub created_at: UnixMillis,
}

/// Why a definition was not read or changed. Nothing happened, except after [`Error::Store`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The meter has a definition.
    #[error("a meter with this name is defined")]
    Exists,
    /// The meter has no definition.
    #[error("no meter with this name is defined")]
    Unknown,
    /// The account has all definitions that it may have, about: several that are made at once may be some more.
    #[error("the account has {METERS_MAX} meter definitions, the limit")]
    TooMany,
    /// The store's error; after [`store::Error::Failed`] it is **unknown** whether a change happened.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// All definitions of all accounts. Blocking calls, some of which sync a disk: async code goes through `spawn_blocking`.
pub struct Meters {
    store: Arc<dyn Store>,
    clock: Clock,
    heard: Option<Arc<dyn Hears>>,
}

impl Meters {
    /// Those that a store keeps.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock, heard: None }
    }

    /// The same, with somebody who hears of every change.
    #[must_use]
    pub fn heard_by(self, heard: Arc<dyn Hears>) -> Self {
        Self { heard: Some(heard), ..self }
    }

    fn tell(&self, account: u32, name: &str) -> Result<(), store::Error> {
        self.heard.as_ref().map_or(Ok(()), |heard| heard.changed(Kind::Meter, account, name))
    }

    /// Defines a meter.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::TooMany`], [`Error::Store`].
    pub fn create(&self, account: u32, name: &str, said: Said, ext: Extensions) -> Result<Meter, Error> {
        let is_full = self.store.documents(Kind::Meter, account)?.len() >= METERS_MAX;
        let created_at = self.clock.now();
        self.decide(account, name, |stored| match stored {
            Some(_) => Err(Error::Exists),
            None if is_full => Err(Error::TooMany),
            None => Ok(Meter { name: name.into(), said: said.clone(), ext: ext.clone(), created_at }),
        })
    }

    /// Says something else of a meter: all of it is replaced but the time when it was made and what only one dialect says.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn replace(&self, account: u32, name: &str, said: Said) -> Result<Meter, Error> {
        self.change(account, name, |meter| meter.said.clone_from(&said))
    }

    /// Changes a definition, but for its name and the time when it was made. `edit` may be called more than once.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn change(&self, account: u32, name: &str, edit: impl Fn(&mut Meter)) -> Result<Meter, Error> {
        self.decide(account, name, |stored| {
            let stored = stored.ok_or(Error::Unknown)?;
            let mut meter = stored.clone();
            edit(&mut meter);
            Ok(Meter { name: stored.name, created_at: stored.created_at, ..meter })
        })
    }

    /// Forgets a definition and gives it back. The meter's usage stays.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn remove(&self, account: u32, name: &str) -> Result<Meter, Error> {
        let mut removed = Err(Error::Unknown);
        let mut change = |stored: Option<&[u8]>| {
            removed = stored.map_or(Err(Error::Unknown), |stored| Ok(read(name, stored)?));
            if removed.is_ok() { Change::RemoveAndTell } else { Change::Keep }
        };
        self.store.change_document(Kind::Meter, account, name, &mut change)?;
        if removed.is_ok() {
            self.tell(account, name)?;
        }
        removed
    }

    /// One definition.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn get(&self, account: u32, name: &str) -> Result<Meter, Error> {
        let stored = self.store.document(Kind::Meter, account, name)?.ok_or(Error::Unknown)?;
        Ok(read(name, &stored)?)
    }

    /// All definitions of an account, by the time when they were made, then name.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn list(&self, account: u32) -> Result<Vec<Meter>, Error> {
        let stored = self.store.documents(Kind::Meter, account)?;
        let mut meters = stored.iter().map(|(name, stored)| read(name, stored)).collect::<Result<Vec<_>, _>>()?;
        // The store hands them out by name, and a stable sort keeps that among equals.
        meters.sort_by_key(|meter| meter.created_at);
        Ok(meters)
    }

    /// What a meter counts; of one that nobody defined, the default.
    ///
    /// # Errors
    /// The store's.
    pub fn type_of(&self, account: u32, name: &str) -> Result<MeterType, store::Error> {
        let stored = self.store.document(Kind::Meter, account, name)?;
        stored.map_or(Ok(MeterType::default()), |stored| Ok(read(name, &stored)?.said.meter_type))
    }

    /// The same of all that are defined.
    ///
    /// # Errors
    /// The store's.
    pub fn types(&self, account: u32) -> Result<HashMap<String, MeterType>, store::Error> {
        let stored = self.store.documents(Kind::Meter, account)?;
        stored.into_iter().map(|(name, stored)| Ok((name.clone(), read(&name, &stored)?.said.meter_type))).collect()
    }

    /// Writes what `decide` makes of the stored definition, or nothing if it refuses.
    fn decide(&self, account: u32, name: &str, decide: impl Fn(Option<Meter>) -> Result<Meter, Error>) -> Result<Meter, Error> {
        let mut outcome = Err(store::Error::Failed("it never read the definition that was to be changed".into()).into());
        let mut change = |stored: Option<&[u8]>| {
            let decided = stored.map(|stored| read(name, stored)).transpose().map_err(Error::from).and_then(&decide);
            match decided.and_then(|meter| Ok((write(&meter)?, meter))) {
                Ok((bytes, meter)) => {
                    outcome = Ok(meter);
                    Change::Tell(bytes)
                }
                Err(error) => {
                    outcome = Err(error);
                    Change::Keep
                }
            }
        };
        self.store.change_document(Kind::Meter, account, name, &mut change)?;
        if outcome.is_ok() {
            self.tell(account, name)?;
        }
        outcome
    }
}

/// A definition as it is stored, below its name.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    display_name: String,
    label: String,
    #[serde(rename = "type")]
    meter_type: StoredType,
    dimensions: Vec<String>,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Extensions::is_empty")]
    ext: Extensions,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredType {
    SumOfAllUsage,
    MaxInPeriod,
    UniqueCustomersCount,
    Average,
    Latest,
}

/// A definition as it is stored under its name.
///
/// # Errors
/// [`store::Error::Damaged`].
pub fn read(name: &str, bytes: &[u8]) -> Result<Meter, store::Error> {
    let damaged = |what: String| store::Error::Damaged(format!("the definition of the meter {name}: {what}"));
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if stored.version > VERSION {
        return Err(damaged(format!("it has version {}, this binary knows {VERSION}: upgrade it", stored.version)));
    }
    let meter_type = match stored.meter_type {
        StoredType::SumOfAllUsage => MeterType::SumOfAllUsage,
        StoredType::MaxInPeriod => MeterType::MaxInPeriod,
        StoredType::UniqueCustomersCount => MeterType::UniqueCustomersCount,
        StoredType::Average => MeterType::Average,
        StoredType::Latest => MeterType::Latest,
    };
    let said = Said { display_name: stored.display_name, label: stored.label, meter_type, dimensions: stored.dimensions };
    Ok(Meter { name: name.into(), said, ext: stored.ext, created_at: UnixMillis(stored.created_at) })
}

fn write(meter: &Meter) -> Result<Vec<u8>, store::Error> {
    let Said { display_name, label, meter_type, dimensions } = meter.said.clone();
    let meter_type = match meter_type {
        MeterType::SumOfAllUsage => StoredType::SumOfAllUsage,
        MeterType::MaxInPeriod => StoredType::MaxInPeriod,
        MeterType::UniqueCustomersCount => StoredType::UniqueCustomersCount,
        MeterType::Average => StoredType::Average,
        MeterType::Latest => StoredType::Latest,
    };
    let (created_at, ext) = (meter.created_at.0, meter.ext.clone());
    let stored = Stored { version: VERSION, display_name, label, meter_type, dimensions, created_at, ext };
    serde_json::to_vec(&stored).map_err(|error| store::Error::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn said(meter_type: MeterType) -> Said {
        Said { display_name: "Calls".into(), label: "calls".into(), meter_type, dimensions: vec!["region".into()] }
    }

    fn octane(aggregation: &str) -> Extensions {
        Extensions { octane: Map::from_iter([("aggregation".to_owned(), aggregation.into())]), ..Extensions::default() }
    }

    /// Must stay readable for good: never edit this text.
    #[test]
    fn a_definition_of_version_1_without_anything_of_a_dialect_is_read() {
        let stored =
            br#"{"version":1,"display_name":"Calls","label":"calls","type":"max_in_period","dimensions":["region"],"created_at":7}"#;
        let expected =
            Meter { name: "m".into(), said: said(MeterType::MaxInPeriod), ext: Extensions::default(), created_at: UnixMillis(7) };
        assert_eq!(read("m", stored).expect("version 1"), expected);
        assert_eq!(write(&expected).expect("JSON"), stored);
    }

    #[test]
    fn a_definition_is_made_replaced_and_removed_in_its_account_alone() {
        let meters = Meters::new(Arc::new(MemoryStore::default()), Clock::start());
        let made = meters.create(1, "m", said(MeterType::MaxInPeriod), octane("SUM")).expect("is made");
        assert_eq!((meters.get(1, "m").expect("is there"), meters.list(1).expect("a list")), (made.clone(), vec![made.clone()]));
        assert!(matches!(meters.create(1, "m", said(MeterType::SumOfAllUsage), Extensions::default()), Err(Error::Exists)));
        assert!(matches!(meters.get(2, "m"), Err(Error::Unknown)));
        assert!(matches!(meters.replace(2, "m", said(MeterType::SumOfAllUsage)), Err(Error::Unknown)));
        assert_eq!(
            (meters.type_of(1, "m").ok(), meters.type_of(2, "m").ok()),
            (Some(MeterType::MaxInPeriod), Some(MeterType::SumOfAllUsage))
        );
        let replaced = meters.replace(1, "m", said(MeterType::UniqueCustomersCount)).expect("is replaced");
        assert_eq!(replaced, Meter { said: said(MeterType::UniqueCustomersCount), ..made });
        assert_eq!(meters.types(1).expect("types"), HashMap::from([("m".to_owned(), MeterType::UniqueCustomersCount)]));
        assert_eq!(meters.remove(1, "m").expect("is there"), replaced);
        assert!(matches!(meters.remove(1, "m"), Err(Error::Unknown)));
        assert!(meters.list(1).expect("a list").is_empty());
    }

    #[test]
    fn there_is_an_end_to_definitions() {
        let meters = Meters::new(Arc::new(MemoryStore::default()), Clock::start());
        for name in ["a", "b", "c"] {
            meters.create(1, name, said(MeterType::SumOfAllUsage), Extensions::default()).expect("is made");
        }
        assert!(matches!(meters.create(1, "d", said(MeterType::SumOfAllUsage), Extensions::default()), Err(Error::TooMany)));
        meters.create(2, "d", said(MeterType::SumOfAllUsage), Extensions::default()).expect("another account's");
    }

    #[test]
    fn a_definition_that_cannot_be_read_is_damage_and_stays() {
        let store = Arc::new(MemoryStore::default());
        let meters = Meters::new(store.clone(), Clock::start());
        let newer = br#"{"version":2,"display_name":"","label":"","type":"max_in_period","dimensions":[],"created_at":1}"#;
        for broken in [b"{".as_slice(), newer] {
            store.change_document(Kind::Meter, 1, "m", &mut |_| Change::Put(broken.to_vec())).expect("memory");
            let damaged = |result: Result<Meter, Error>| matches!(result, Err(Error::Store(store::Error::Damaged(_))));
            assert!(
                damaged(meters.get(1, "m"))
                    && damaged(meters.replace(1, "m", said(MeterType::SumOfAllUsage)))
                    && damaged(meters.remove(1, "m"))
            );
            assert!(matches!(meters.type_of(1, "m"), Err(store::Error::Damaged(_))));
            assert_eq!(store.document(Kind::Meter, 1, "m").expect("memory"), Some(broken.to_vec()));
        }
        store.break_down();
        assert!(matches!(meters.get(1, "m"), Err(Error::Store(store::Error::Failed(_)))));
    }
}
