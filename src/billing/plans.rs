//! Plans with all their versions, a document each.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::{Plan, json};
use super::timeline::PlanRef;
use crate::clock::UnixMillis;
use crate::store::{self, Change, Kind, Store};

/// Version of what is stored.
const VERSION: u32 = 1;
/// Most versions of a plan.
pub(super) const VERSIONS_MAX: usize = 100;
/// Most plans of an account.
pub(super) const PLANS_MAX: usize = 10_000;

/// A version of a plan, as somebody made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadePlan {
    /// The plan.
    pub plan: Plan,
    /// From 1 on.
    pub version: u32,
    /// When it was made, in ms since 1970.
    pub created_ms: i64,
}

/// What became of a plan that was to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanWritten {
    /// It is a version, new or the newest one already.
    Made(MadePlan),
    /// It has 100 versions, the limit.
    TooManyVersions,
    /// The account has 10,000 plans, the limit.
    TooManyPlans,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    /// The first is version 1.
    versions: Vec<Version>,
}

#[derive(Serialize, Deserialize)]
struct Version {
    plan: Value,
    created_ms: i64,
}

impl Document {
    fn read(stored: &[u8]) -> Result<Self, store::Error> {
        let document: Self = serde_json::from_slice(stored).map_err(|error| damaged(&error.to_string()))?;
        if document.version > VERSION {
            return Err(damaged(&format!("of version {}, this binary knows {VERSION}: upgrade it", document.version)));
        }
        Ok(document)
    }

    fn made(&self, index: usize) -> Result<Option<MadePlan>, store::Error> {
        let Some(found) = self.versions.get(index) else { return Ok(None) };
        let plan = json::read(&found.plan).map_err(|error| damaged(&error.to_string()))?;
        Ok(Some(MadePlan { plan, version: index as u32 + 1, created_ms: found.created_ms }))
    }

    fn newest(&self) -> Result<Option<MadePlan>, store::Error> {
        self.versions.len().checked_sub(1).map_or(Ok(None), |last| self.made(last))
    }
}

fn damaged(what: &str) -> store::Error {
    store::Error::Damaged(format!("a plan: {what}"))
}

/// The plans of all accounts.
pub(super) struct Plans {
    store: Arc<dyn Store>,
}

impl Plans {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Makes a version of a plan, unless its newest one says the same.
    pub(super) fn write(&self, account: u32, plan: &Plan, now: UnixMillis) -> Result<PlanWritten, store::Error> {
        let is_new = self.store.document(Kind::Plan, account, &plan.id)?.is_none();
        if is_new && self.store.documents(Kind::Plan, account)?.len() >= PLANS_MAX {
            return Ok(PlanWritten::TooManyPlans);
        }
        let mut outcome = Err(store::Error::Failed("it never read the plan that was to be changed".into()));
        let mut change = |stored: Option<&[u8]>| match written(stored, plan, now) {
            Ok((made, body)) => {
                outcome = Ok(made);
                body.map_or(Change::Keep, Change::Put)
            }
            Err(error) => {
                outcome = Err(error);
                Change::Keep
            }
        };
        self.store.change_document(Kind::Plan, account, &plan.id, &mut change)?;
        outcome
    }

    /// A version of a plan; `None`: its newest.
    pub(super) fn get(&self, account: u32, id: &str, version: Option<u32>) -> Result<Option<MadePlan>, store::Error> {
        let Some(stored) = self.store.document(Kind::Plan, account, id)? else { return Ok(None) };
        let document = Document::read(&stored)?;
        match version {
            None => document.newest(),
            Some(version) => version.checked_sub(1).map_or(Ok(None), |index| document.made(index as usize)),
        }
    }

    /// The newest version of each plan, in the order of their ids.
    pub(super) fn list(&self, account: u32) -> Result<Vec<MadePlan>, store::Error> {
        let documents = self.store.documents(Kind::Plan, account)?;
        let newest = documents.iter().map(|(_, stored)| Document::read(stored)?.newest());
        Ok(newest.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The plans with some ids, as they are now, for one statement.
    pub(super) fn load<'i>(&self, account: u32, ids: impl Iterator<Item = &'i str>) -> Result<LoadedPlans, store::Error> {
        let mut found = BTreeMap::new();
        for id in ids {
            if !found.contains_key(id)
                && let Some(stored) = self.store.document(Kind::Plan, account, id)?
            {
                found.insert(id.to_owned(), Document::read(&stored)?);
            }
        }
        Ok(LoadedPlans(found))
    }
}

fn written(stored: Option<&[u8]>, plan: &Plan, now: UnixMillis) -> Result<(PlanWritten, Option<Vec<u8>>), store::Error> {
    let mut document = stored.map_or(Ok(Document { version: VERSION, versions: Vec::new() }), Document::read)?;
    if let Some(newest) = document.newest()?
        && newest.plan == *plan
    {
        return Ok((PlanWritten::Made(newest), None));
    }
    if document.versions.len() >= VERSIONS_MAX {
        return Ok((PlanWritten::TooManyVersions, None));
    }
    document.versions.push(Version { plan: json::shown(plan), created_ms: now.0 });
    let body = serde_json::to_vec(&document).map_err(|error| store::Error::Failed(format!("a plan: {error}")))?;
    let made = MadePlan { plan: plan.clone(), version: document.versions.len() as u32, created_ms: now.0 };
    Ok((PlanWritten::Made(made), Some(body)))
}

/// Some plans as of one moment.
pub(super) struct LoadedPlans(BTreeMap<String, Document>);

impl LoadedPlans {
    pub(super) fn is_made(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// The plan that a reference means.
    pub(super) fn plan(&self, reference: &PlanRef) -> Result<Plan, store::Error> {
        let Some(index) = reference.version.checked_sub(1) else { return Ok(Plan::free(&reference.id)) };
        let found = self.0.get(&reference.id).map(|document| document.made(index as usize)).transpose()?.flatten();
        found.map(|made| made.plan).ok_or_else(|| damaged(&format!("{} has no version {}", reference.id, reference.version)))
    }
}
