//! Filtering rules: which events of a meter count nowhere. The gateway decides when an event comes, from memory, and writes the
//! decision into the record (`design.md`, promise 3): what a rule has dropped stays dropped when the rule is gone.
//!
//! A rule is about one meter and one dimension. `EXCLUDE` drops what has one of its values there, `INCLUDE` drops what has none of them. An
//! event counts if every rule of its meter lets it pass. A rule without a dimension, or without an action, drops nothing: there is no way to
//! delete a rule, so this is how one is put out of use. Of an event with several meters, each is decided by itself.
//!
//! # When a rule counts
//! On the node that made it: for every event received after the answer. The other nodes that share the store hear of it at once, and look
//! for themselves every [`POLL`]; the answer waits for two of these, so all that reach the store have it by then. While a node
//! does not reach the store it goes on with the rules that it knows, as it does with keys.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::event::MeterEvent;
use crate::log::record::Decisions;
use crate::store::replica::follow::{Asking, Follower, POLL};
use crate::store::replica::{Content, Replica};
use crate::store::{self, Kind, Shared, SharedChanges, Store, Version};

/// Rules of an account.
pub const RULES_MAX: usize = if cfg!(test) { 5 } else { 1_000 };
/// Rules of one meter: each is looked at for each of its events.
pub const METER_RULES_MAX: usize = if cfg!(test) { 3 } else { 20 };
/// Values of a rule.
pub const VALUES_MAX: usize = 1_000;
/// Bytes of the values of all rules of an account: every node has them in memory.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// How long a change waits where other nodes must hear of it: two looks.
const SETTLED: Duration = POLL.saturating_mul(2);
const VERSION: u32 = 1;
const ID_BYTES: usize = 8;

/// What a rule does with an event that has one of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Lets it pass, and drops all others.
    Include,
    /// Drops it.
    Exclude,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    version: u32,
    /// Whose.
    pub account: u32,
    /// What it is called.
    pub id: String,
    /// The meter that it is about.
    pub meter: String,
    /// The dimension that it looks at; `None`: it drops nothing.
    pub dimension: Option<String>,
    /// The values that it looks for; in the order given.
    pub values: Vec<String>,
    /// What it does; `None`: it drops nothing.
    pub action: Option<Action>,
}

impl Rule {
    /// Whether it may drop anything.
    fn is_in_use(&self) -> bool {
        self.dimension.is_some() && self.action.is_some()
    }
}

/// What is said of a rule that is made or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Which one; `None`: a new one.
    pub id: Option<String>,
    /// See [`Rule`].
    pub meter: String,
    /// See [`Rule`].
    pub dimension: Option<String>,
    /// See [`Rule`].
    pub values: Vec<String>,
    /// See [`Rule`].
    pub action: Option<Action>,
}

/// Why nothing was changed, except after [`Error::Store`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The account has all rules that it may have.
    #[error("the account has {RULES_MAX} filtering rules, the limit: change one of them")]
    TooMany,
    /// The meter has all rules that it may have.
    #[error("the meter has {METER_RULES_MAX} filtering rules, the limit: change one of them")]
    TooManyOfMeter,
    /// The values of all rules of the account are too long together.
    #[error("the values of the account's filtering rules have more than {VALUE_BYTES_MAX} bytes together, the limit")]
    TooLong,
    /// The store's error; after [`store::Error::Failed`] it is **unknown** whether a change happened.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A rule as it is looked at.
struct Test {
    dimension: String,
    values: HashSet<String>,
    action: Action,
}

impl Test {
    fn of(rule: &Rule) -> Option<Self> {
        Some(Self { dimension: rule.dimension.clone()?, values: rule.values.iter().cloned().collect(), action: rule.action? })
    }

    fn drops(&self, event: &MeterEvent<'_, '_>, measurement: usize) -> bool {
        let value = event.dimension_of(measurement, &self.dimension);
        let is_among = value.is_some_and(|value| self.values.contains(value));
        match self.action {
            Action::Include => !is_among,
            Action::Exclude => is_among,
        }
    }
}

/// The rules of one account that drop anything, by meter.
#[derive(Default)]
pub struct AccountRules(HashMap<String, Vec<Test>>);

impl AccountRules {
    fn of<'r>(rules: impl Iterator<Item = &'r Rule>) -> Self {
        let mut by_meter: HashMap<String, Vec<Test>> = HashMap::new();
        for rule in rules {
            if let Some(test) = Test::of(rule) {
                by_meter.entry(rule.meter.clone()).or_default().push(test);
            }
        }
        Self(by_meter)
    }

    /// What they drop of an event.
    pub fn decide(&self, event: &MeterEvent<'_, '_>) -> Decisions {
        let mut filtered = 0;
        for (at, measurement) in event.measurements().iter().enumerate() {
            let tests = self.0.get(measurement.meter).map_or(&[][..], Vec::as_slice);
            if tests.iter().any(|test| test.drops(event, at)) {
                filtered |= 1 << at;
            }
        }
        Decisions { filtered }
    }
}

/// Of each account that has rules which drop anything.
type Current = HashMap<u32, Arc<AccountRules>>;

/// All rules, as the store had them at a version.
struct RuleBook {
    version: Version,
    /// By account and id.
    rules: BTreeMap<(u32, String), Rule>,
    /// Hears of every change.
    current: Arc<ArcSwap<Current>>,
}

impl RuleBook {
    fn of(&self, account: u32) -> impl Iterator<Item = &Rule> {
        self.rules.range((account, String::new())..).map(|(_, rule)| rule).take_while(move |rule| rule.account == account)
    }
}

impl Content for RuleBook {
    const NAME: &'static str = "filtering rules";

    fn version(&self) -> Version {
        self.version
    }

    fn apply(&mut self, changes: SharedChanges) -> Result<(), store::Error> {
        let mut changed = BTreeMap::new();
        for Shared { id, body, .. } in changes.documents.into_iter().filter(|shared| shared.kind == Kind::Rule) {
            let rule = body.map(|body| read(&id, &body)).transpose()?;
            let key = read_key(&id)?;
            if rule.as_ref().is_some_and(|rule| (rule.account, &rule.id) != (key.0, &key.1)) {
                return Err(store::Error::Damaged(format!("filtering rule {id}: it says that it is another one")));
            }
            changed.insert(key, rule);
        }
        if changes.is_all {
            let gone: Vec<_> = self.rules.keys().filter(|key| !changed.contains_key(*key)).cloned().collect();
            changed.extend(gone.into_iter().map(|key| (key, None)));
        }
        let accounts: HashSet<u32> = changed.keys().map(|(account, _)| *account).collect();
        for (key, rule) in changed {
            match rule {
                Some(rule) => drop(self.rules.insert(key, rule)),
                None => drop(self.rules.remove(&key)),
            }
        }
        self.version = changes.version;
        if accounts.is_empty() {
            return Ok(());
        }
        let mut current = Current::clone(&self.current.load());
        for account in accounts {
            let rules = AccountRules::of(self.of(account));
            if rules.0.is_empty() {
                current.remove(&account);
            } else {
                current.insert(account, Arc::new(rules));
            }
        }
        self.current.store(Arc::new(current));
        Ok(())
    }
}

/// All filtering rules. What changes them blocks and syncs a disk: async code goes through `spawn_blocking`.
pub struct Rules {
    book: Arc<Replica<RuleBook>>,
    current: Arc<ArcSwap<Current>>,
    /// Where other nodes change them, too. Who follows ends with it.
    asking: Option<Asking>,
}

impl Rules {
    /// Those that a store keeps.
    ///
    /// # Errors
    /// [`store::Error`].
    pub fn open(store: Arc<dyn Store>) -> Result<Self, store::Error> {
        let (follower, asking) = store.watch().map(Follower::new).unzip();
        let current = Arc::new(ArcSwap::default());
        let content = RuleBook { version: 0, rules: BTreeMap::new(), current: current.clone() };
        Ok(Self { book: Replica::start(store, content, follower)?, current, asking })
    }

    /// The rules of an account, if any of them drops anything. A look-up of a request; no I/O.
    pub fn of(&self, account: u32) -> Option<Arc<AccountRules>> {
        self.current.load().get(&account).cloned()
    }

    /// The rules about a meter, by their ids; on any node with every change that was answered.
    pub async fn list(&self, account: u32, meter: &str) -> Vec<Rule> {
        if let Some(asking) = &self.asking {
            asking.look().await;
        }
        self.book.lock().of(account).filter(|rule| rule.meter == meter).cloned().collect()
    }

    /// Makes a rule, or changes the one of its id. Tells whether anything is dropped otherwise than before, which other nodes must
    /// [hear](Self::settle).
    ///
    /// # Errors
    /// [`Error`].
    pub fn put(&self, account: u32, new: NewRule) -> Result<(Rule, bool), Error> {
        let NewRule { id, meter, dimension, values, action } = new;
        let id = id.map_or_else(made_id, Ok)?;
        let rule = Rule { version: VERSION, account, id, meter, dimension, values, action };
        let key = document_id(account, &rule.id);
        let body = serde_json::to_vec(&rule).map_err(|error| store::Error::Failed(error.to_string()))?;
        self.book.change(|book| {
            let others = || book.of(account).filter(|other| other.id != rule.id);
            if others().count() >= RULES_MAX {
                return Err(Error::TooMany);
            }
            if others().filter(|other| other.meter == rule.meter).count() >= METER_RULES_MAX {
                return Err(Error::TooManyOfMeter);
            }
            let bytes = |rule: &Rule| rule.values.iter().map(String::len).sum::<usize>();
            if others().map(bytes).sum::<usize>() + bytes(&rule) > VALUE_BYTES_MAX {
                return Err(Error::TooLong);
            }
            let before = book.rules.get(&(account, rule.id.clone()));
            if before == Some(&rule) {
                // It may have been made a moment ago, by whoever lost the answer.
                return Ok((Vec::new(), (rule.clone(), rule.is_in_use())));
            }
            let document = Shared { kind: Kind::Rule, account: 0, id: key.clone(), body: Some(body.clone()) };
            Ok((vec![document], (rule.clone(), rule.is_in_use() || before.is_some_and(Rule::is_in_use))))
        })
    }

    /// Waits until every node that reaches the store has what was changed before.
    pub async fn settle(&self) {
        if self.asking.is_some() {
            tokio::time::sleep(SETTLED).await;
        }
    }
}

fn document_id(account: u32, id: &str) -> String {
    format!("{account}/{id}")
}

fn read_key(document: &str) -> Result<(u32, String), store::Error> {
    let key = document.split_once('/').and_then(|(account, id)| Some((account.parse().ok()?, id.to_owned())));
    key.ok_or_else(|| store::Error::Damaged(format!("filtering rule {document}: it belongs to no account")))
}

fn read(document: &str, body: &[u8]) -> Result<Rule, store::Error> {
    let rule: Rule = serde_json::from_slice(body).map_err(|error| store::Error::Damaged(format!("filtering rule {document}: {error}")))?;
    if rule.version > VERSION {
        let found = rule.version;
        return Err(store::Error::Damaged(format!("a filtering rule of version {found}, this binary knows {VERSION}: upgrade it")));
    }
    Ok(rule)
}

fn made_id() -> Result<String, store::Error> {
    let mut random = [0; ID_BYTES];
    getrandom::fill(&mut random).map_err(|error| store::Error::Failed(format!("no random bytes: {error}")))?;
    Ok(format!("rule-{}", hex::encode(random)))
}

#[cfg(test)]
mod tests;
