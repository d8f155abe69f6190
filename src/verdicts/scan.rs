//! Lists of events, from the newest back.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::merge::{Ask, Bounds, Branch, Found, Step, newest};
use super::read::Keep;
use super::*;
use crate::clock::UnixMicros;

/// Records that are looked at together; of several partitions as many in all at first, but not less than the second of each.
const STEP_RECORDS: u64 = if cfg!(test) { 3 } else { 1_024 };
const STEP_RECORDS_MIN: u64 = if cfg!(test) { 1 } else { 64 };
/// The same of conflicts, each of which is two records somewhere.
const STEP_CONFLICTS: u64 = if cfg!(test) { 2 } else { 64 };
const STEP_CONFLICTS_MIN: u64 = if cfg!(test) { 1 } else { 4 };
/// Records that one page looks at, at most; the next page goes on from there.
const LOOKED_AT_MAX: u64 = if cfg!(test) { 24 } else { 100_000 };
/// Conflicts that one page of several partitions looks at. A look-up in a Kafka takes some 10 ms, and each conflict takes two.
const CONFLICTS_LOOKED_AT_MAX: u64 = if cfg!(test) { 12 } else { 1_000 };
/// Bytes of events of all partitions that wait until it is their turn on the list, about.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Partitions whose ends are asked for at a time.
const AT_ONCE: usize = 4;

/// Which events are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this id.
    pub unique_id: Option<String>,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only of this customer.
    pub customer: Option<String>,
    /// Only with a measurement of this meter.
    pub meter: Option<String>,
    /// Only with this verdict.
    pub verdict: Option<WantedVerdict>,
    /// Only what is before it (in the log, or in the dead letters).
    pub before: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
    /// Only ids that have this text in them.
    pub unique_id_part: Option<String>,
    /// Only customers whose id has this text in it.
    pub customer_part: Option<String>,
    /// Only what happened between these moments, both included.
    pub happened: Option<RangeInclusive<UnixMicros>>,
    /// Only what was received until this moment.
    pub received_until: Option<UnixMillis>,
    /// Only what was received from this moment on; by default the last 72 h.
    pub received_since: Option<UnixMillis>,
    /// Only the first record of each event.
    pub firsts_only: bool,
}

/// A verdict that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Of the log.
    InLog(Verdict),
    /// At the door.
    Rejected,
}

/// An event of a list.
#[derive(Debug)]
pub enum Listed {
    /// A record of the log with its verdict; behind it the first one of its identity, if that is another.
    Logged(Verdict, Box<Logged>, Option<Box<First>>),
    /// A dead letter that was not replayed.
    Rejected(Box<Letter>),
}

/// The record that a copy is a copy of.
#[derive(Debug)]
pub struct First {
    /// Where it is, in the partition of the copy.
    pub position: Position,
    /// What it says, where that differs from the copy; `None` also when retention has taken it.
    pub record: Option<Logged>,
}

/// Part of a list.
#[derive(Debug)]
pub struct Page {
    /// Newest first.
    pub events: Vec<Listed>,
    /// Where the next page begins, as its `before`; `None`: there is no more.
    pub next: Option<Cursor>,
}

impl Filter {
    pub(super) fn holds(&self, record: &Record<'_>) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        same(&self.unique_id, record.unique_id)
            && same(&self.namespace, record.namespace)
            && same(&self.customer, record.customer_id)
            && self.meter.as_deref().is_none_or(|wanted| record.measurements().any(|(meter, _)| meter == wanted))
            && has_part(&self.unique_id_part, record.unique_id)
            && has_part(&self.customer_part, record.customer_id)
            && self.happened.as_ref().is_none_or(|range| range.contains(&record.time))
            && self.received_until.is_none_or(|until| record.received <= until)
    }

    /// The same, of what is kept of a record.
    fn holds_for(&self, record: &Logged) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let measured = |measured: &Measured| same(&self.customer, &measured.customer) && same(&self.meter, &measured.meter);
        same(&self.unique_id, &record.unique_id) && same(&self.namespace, &record.namespace) && record.measured.iter().any(measured)
    }

    /// The same, of letters that were not replayed; `None`: no letter has a namespace.
    fn of_letters(self) -> Option<letters::Filter> {
        let filter = letters::Filter {
            unique_id: self.unique_id,
            customer: self.customer,
            meter: self.meter,
            before: self.before.map(|before| before.at(0)),
            limit: self.limit,
            ..letters::Filter::default()
        };
        self.namespace.is_none_or(|namespace| namespace.is_empty()).then(|| filter.without(letters::State::Replayed))
    }
}

fn has_part(part: &Option<String>, text: &str) -> bool {
    part.as_deref().is_none_or(|part| text.contains(part))
}

impl Verdicts {
    /// The latest events that a filter holds for, of the last 72 h or as it says (conflicts and rejections: as many as are kept).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list(self: &Arc<Self>, account: u32, filter: Filter) -> Result<Page, Error> {
        match filter.verdict {
            Some(WantedVerdict::Rejected) => {
                let Some(filter) = filter.of_letters() else { return Ok(Page { events: Vec::new(), next: None }) };
                let page = self.letters.list(account, filter).await?;
                let listed = |letter| Listed::Rejected(Box::new(letter));
                Ok(Page { events: page.letters.into_iter().map(listed).collect(), next: page.next.map(Cursor::from) })
            }
            Some(WantedVerdict::InLog(Verdict::Conflict)) => self.conflicts(account, filter).await,
            _ => self.logged(account, filter).await,
        }
    }

    async fn logged(self: &Arc<Self>, account: u32, filter: Filter) -> Result<Page, Error> {
        let since = filter.received_since.unwrap_or_else(|| UnixMillis(self.clock.now().0 - WINDOW.as_millis() as i64));
        let partitions = self.partitions_of(account, &filter);
        let ends = |partition: u32| async move { Ok::<_, Error>((partition, self.log.ends(partition).await?)) };
        let ends: Vec<_> = stream::iter(partitions.map(ends)).buffered(AT_ONCE).try_collect().await?;
        let bytes_max = WAITING_BYTES_MAX / ends.len().max(1);
        let starts: BTreeMap<u32, Position> = ends.iter().map(|(partition, (start, _))| (*partition, *start)).collect();
        let branch = |(partition, (start, end))| {
            let before = filter.before.as_ref().map_or(end, |before| before.at(partition).min(end));
            Branch::new(partition, start, before)
        };
        let mut branches: Vec<_> = ends.into_iter().map(branch).collect();
        let (filter, starts) = (&filter, &starts);
        let read = |ask: Ask| async move {
            let start = starts.get(&ask.partition).copied().unwrap_or_default();
            let from = Position(ask.before.0.saturating_sub(ask.records).max(start.0));
            let keep = Keep { account, filter: filter.clone(), since, bytes_max };
            let stretch = self.log.stretch(ask.partition, from..ask.before, keep).await?;
            let judged = self.judge(ask.partition, stretch.found.into()).await?;
            let is_wanted = |verdict: Verdict| {
                let is_first = matches!(verdict, Verdict::Counted | Verdict::Filtered);
                (is_first || !filter.firsts_only) && filter.verdict.is_none_or(|wanted| wanted == WantedVerdict::InLog(verdict))
            };
            let found = judged.into_iter().filter(|(verdict, ..)| is_wanted(*verdict)).map(found).collect();
            Ok::<_, Error>(Step { found, from: stretch.from, is_last: stretch.is_old, looked_at: ask.before.0 - from.0 })
        };
        self.page(&mut branches, filter.limit, LOOKED_AT_MAX, (STEP_RECORDS, STEP_RECORDS_MIN), read).await
    }

    /// A page of what `read` finds in the branches.
    async fn page<F: Future<Output = Result<Step<Listed>, Error>>>(
        &self,
        branches: &mut [Branch<Listed>],
        limit: usize,
        looked_at_max: u64,
        (step, step_min): (u64, u64),
        read: impl Fn(Ask) -> F,
    ) -> Result<Page, Error> {
        let first_step = (step / branches.len().max(1) as u64).max(step_min);
        // However many partitions there are, each page gets on.
        let looked_at_max = looked_at_max.max(2 * first_step * branches.len() as u64);
        let bounds = Bounds { limit, looked_at_max, steps: (first_step, step) };
        let (events, next) = newest(branches, bounds, read).await?;
        let cursor = |next: Vec<(u32, Position)>| {
            let mut positions = vec![Position(0); self.partitions() as usize];
            for (partition, position) in next {
                positions[partition as usize] = position;
            }
            Cursor::of(positions)
        };
        Ok(Page { events, next: next.map(cursor) })
    }

    /// Where events may be that a filter holds for: copies of one meet in one partition.
    fn partitions_of(&self, account: u32, filter: &Filter) -> std::ops::Range<u32> {
        match (&filter.namespace, &filter.unique_id) {
            (Some(namespace), Some(unique_id)) => {
                let only = partition(account, namespace, unique_id, self.partitions());
                only..only + 1
            }
            _ => 0..self.partitions(),
        }
    }

    /// Gives each record of a partition its verdict, in their order.
    ///
    /// A record is the first of its identity if the index has it as a first: that is so whatever the log time was there, which not every
    /// log can tell of a record that is read by itself.
    async fn judge(&self, partition: u32, found: Vec<Logged>) -> Result<Vec<(Verdict, Logged, Option<First>)>, Error> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let own =
            |record: &Logged| Lookup { from: record.position, before: Position(record.position.0 + 1), ..Lookup::any(record.identity) };
        let earlier = |record: &Logged| Lookup { before: record.position, log_time: record.log_time, ..Lookup::any(record.identity) };
        let lookups = found.iter().map(own).chain(found.iter().map(earlier)).collect();
        let mut own = self.owners.firsts(partition, lookups, WAIT).await?;
        let earlier = own.split_off(found.len());
        let first_of = |(own, earlier): (Option<FirstPosition>, Option<FirstPosition>)| earlier.filter(|_| own.is_none());
        let firsts: Vec<_> = own.into_iter().zip(earlier).map(first_of).collect();
        let conflicting = |(record, first): (&Logged, &Option<FirstPosition>)| match first {
            Some(first) if first.content != record.content => Some(first.position),
            _ => None,
        };
        let others = self.log.at(partition, found.iter().zip(&firsts).filter_map(conflicting).collect()).await?;
        let judged = found.into_iter().zip(firsts).map(|(record, first)| match first {
            None if record.is_filtered => (Verdict::Filtered, record, None),
            None => (Verdict::Counted, record, None),
            Some(first) if first.content == record.content => {
                (Verdict::Duplicate, record, Some(First { position: first.position, record: None }))
            }
            Some(first) => {
                let other = others.get(&first.position).cloned();
                (Verdict::Conflict, record, Some(First { position: first.position, record: other }))
            }
        });
        Ok(judged.collect())
    }

    async fn conflicts(self: &Arc<Self>, account: u32, filter: Filter) -> Result<Page, Error> {
        let before = |partition| filter.before.as_ref().map_or(Position(u64::MAX), |before| before.at(partition));
        let mut branches: Vec<_> =
            self.partitions_of(account, &filter).map(|partition| Branch::new(partition, Position(0), before(partition))).collect();
        let filter = &filter;
        let read = |ask: Ask| self.read_conflicts(account, ask, filter);
        let looked_at_max = if branches.len() == 1 { LOOKED_AT_MAX } else { CONFLICTS_LOOKED_AT_MAX };
        self.page(&mut branches, filter.limit, looked_at_max, (STEP_CONFLICTS, STEP_CONFLICTS_MIN), read).await
    }

    async fn read_conflicts(&self, account: u32, ask: Ask, filter: &Filter) -> Result<Step<Listed>, Error> {
        let limit = ask.records as usize;
        let kept = self.owners.conflicts(ask.partition, account, ask.before, limit, WAIT).await?;
        let positions = kept.iter().flat_map(|conflict| [conflict.position, conflict.first]).collect();
        let records = self.log.at(ask.partition, positions).await?;
        let listed = |conflict: &Conflict| {
            let record = records.get(&conflict.position).filter(|record| filter.holds_for(record))?;
            let first = First { position: conflict.first, record: records.get(&conflict.first).cloned() };
            Some(found((Verdict::Conflict, record.clone(), Some(first))))
        };
        let from = kept.last().map_or(Position(0), |oldest| oldest.position);
        Ok(Step { found: kept.iter().filter_map(listed).collect(), from, is_last: kept.len() < limit, looked_at: kept.len() as u64 })
    }
}

fn found((verdict, record, first): (Verdict, Logged, Option<First>)) -> Found<Listed> {
    let (position, received) = (record.position, record.received);
    Found { position, received, item: Listed::Logged(verdict, Box::new(record), first.map(Box::new)) }
}
