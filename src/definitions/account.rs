//! What is defined in one account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::{ArcSwap, Guard};

use crate::customers::CustomerId;
use crate::customers::mappings::{Mapped, Matcher};
use crate::dialect::cloudevents::plan::{Plan, Plans, event_type};
use crate::dialect::octane::measurements::EventMeters;
use crate::dialect::octane::meters::{event_name, is_archived};
use crate::meters::{self, EVENT_METERS_MAX, Meter, Said};
use crate::store::{self, Each, Kind, Store};

/// What is defined in an account.
#[derive(Default)]
pub struct AccountDefinitions {
    meters: ArcSwap<AccountMeters>,
    mappings: RwLock<Matcher>,
    defined: Mutex<Defined>,
}

/// Which meters count which events.
#[derive(Default, Clone)]
pub struct AccountMeters {
    /// Of Octane's measurements that name no meter.
    pub events: EventMeters,
    /// Of CloudEvents.
    pub plans: Plans,
}

/// The definitions by name, with the names of events that they are about; nothing else of them.
#[derive(Default)]
struct Defined {
    meters: BTreeMap<String, Meter>,
    by_event: BTreeMap<String, BTreeSet<String>>,
    by_type: BTreeMap<String, BTreeSet<String>>,
}

impl AccountDefinitions {
    /// Those that a store has.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn load(store: &dyn Store, account: u32) -> Result<Self, store::Error> {
        let mut defined = Defined::default();
        for found in Each::of(store, Kind::Meter, account) {
            let (name, stored) = found?;
            defined.insert(meters::read(&name, &stored)?);
        }
        let mut mapped = Vec::new();
        for found in Each::of(store, Kind::Customer, account) {
            let (id, stored) = found?;
            if let (Ok(id), Some(one)) = (CustomerId::parse(&id), Mapped::read(&stored)?) {
                mapped.push((one, id));
            }
        }
        // In their order, so that it is always the same ones that have room.
        mapped.sort_by(|(a, _), (b, _)| a.order().cmp(&b.order()));
        let mut matcher = Matcher::default();
        mapped.into_iter().for_each(|(mapped, id)| matcher.set(&id, Some(mapped)));
        let mut meters = AccountMeters::default();
        defined.by_event.keys().for_each(|event| meters.set_event(&defined, event));
        defined.by_type.keys().for_each(|kind| meters.set_type(&defined, kind));
        Ok(Self { meters: ArcSwap::from_pointee(meters), mappings: RwLock::new(matcher), defined: Mutex::new(defined) })
    }

    /// Takes over what a store has of one document now.
    ///
    /// # Errors
    /// The store's: nothing was taken over.
    pub(super) fn reload(&self, store: &dyn Store, kind: Kind, account: u32, id: &str) -> Result<(), store::Error> {
        let stored = store.document(kind, account, id)?;
        if kind == Kind::Customer {
            let mapped = stored.map(|stored| Mapped::read(&stored)).transpose()?.flatten();
            if let Ok(id) = CustomerId::parse(id) {
                self.mappings.write().unwrap_or_else(PoisonError::into_inner).set(&id, mapped);
            }
            return Ok(());
        }
        let meter = stored.map(|stored| meters::read(id, &stored)).transpose()?;
        let mut defined = self.defined.lock().unwrap_or_else(PoisonError::into_inner);
        let old = defined.remove(id).into_iter();
        let new = meter.map(|meter| defined.insert(meter)).into_iter();
        let mut meters = AccountMeters::clone(&self.meters.load());
        for (event, kind) in old.chain(new) {
            meters.set_event(&defined, &event);
            meters.set_type(&defined, &kind);
        }
        self.meters.store(Arc::new(meters));
        Ok(())
    }

    /// Which meters count which events.
    pub fn meters(&self) -> Guard<Arc<AccountMeters>> {
        self.meters.load()
    }

    /// Whose a measurement is that names nobody. Not to be held for long: a change waits for it.
    pub fn mappings(&self) -> RwLockReadGuard<'_, Matcher> {
        self.mappings.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Defined {
    /// Adds a definition; gives back of which events it is about: their name in Octane, and their type.
    fn insert(&mut self, meter: Meter) -> (String, String) {
        let (event, kind) = (event_name(&meter).to_owned(), event_type(&meter).to_owned());
        // One that is archived is asked for, and takes nothing more.
        if !is_archived(&meter) {
            self.by_event.entry(event.clone()).or_default().insert(meter.name.clone());
        }
        self.by_type.entry(kind.clone()).or_default().insert(meter.name.clone());
        self.meters.insert(meter.name.clone(), slim(meter));
        (event, kind)
    }

    /// Takes a definition away.
    fn remove(&mut self, name: &str) -> Option<(String, String)> {
        let meter = self.meters.remove(name)?;
        let (event, kind) = (event_name(&meter).to_owned(), event_type(&meter).to_owned());
        for (by, key) in [(&mut self.by_event, &event), (&mut self.by_type, &kind)] {
            if let Some(names) = by.get_mut(key) {
                names.remove(name);
                if names.is_empty() {
                    by.remove(key);
                }
            }
        }
        Some((event, kind))
    }
}

impl AccountMeters {
    fn set_event(&mut self, defined: &Defined, event: &str) {
        let Some(names) = defined.by_event.get(event).filter(|names| !names.iter().eq([event])) else {
            self.events.remove(event);
            return;
        };
        let mut first: Vec<_> = names.iter().filter_map(|name| defined.meters.get(name)).collect();
        first.sort_by_key(|meter| meter.created_at);
        first.truncate(EVENT_METERS_MAX);
        let mut first: Vec<Box<str>> = first.into_iter().map(|meter| meter.name.as_str().into()).collect();
        first.sort();
        self.events.insert(event.into(), first.into());
    }

    fn set_type(&mut self, defined: &Defined, kind: &str) {
        let meters = defined.by_type.get(kind).into_iter().flatten().filter_map(|name| defined.meters.get(name));
        match Plan::of(kind, meters) {
            Some(plan) => drop(self.plans.insert(kind.into(), Arc::new(plan))),
            None => drop(self.plans.remove(kind)),
        }
    }
}

/// A definition without what is of no use here.
fn slim(mut meter: Meter) -> Meter {
    meter.said = Said { display_name: String::new(), label: String::new(), meter_type: meter.said.meter_type, dimensions: Vec::new() };
    meter.ext.octane.retain(|name, _| name == "event_name");
    meter
}
