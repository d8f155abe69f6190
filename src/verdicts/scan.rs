//! Lists of events, from the newest back.

use super::*;

/// Records that are looked at together.
const STEP_RECORDS: u64 = if cfg!(test) { 3 } else { 1_024 };
/// Records that one page looks at, at most; the next page goes on from there.
const LOOKED_AT_MAX: u64 = 100_000;
/// Read from the log at once.
const STEP_BYTES: usize = 1 << 20;

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
    /// Only before this position (of the log, or of the dead letters).
    pub before: Option<Position>,
    /// At most so many.
    pub limit: usize,
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
    /// Where it is.
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
    pub next: Option<Position>,
}

impl Filter {
    fn holds(&self, record: &Record<'_>) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        same(&self.unique_id, record.unique_id)
            && same(&self.namespace, record.namespace)
            && same(&self.customer, record.customer_id)
            && self.meter.as_deref().is_none_or(|wanted| record.measurements().any(|(meter, _)| meter == wanted))
    }

    /// The same, of letters that were not replayed; `None`: no letter has a namespace.
    fn of_letters(self) -> Option<letters::Filter> {
        let filter = letters::Filter {
            unique_id: self.unique_id,
            customer: self.customer,
            meter: self.meter,
            before: self.before,
            limit: self.limit,
            ..letters::Filter::default()
        };
        self.namespace.is_none_or(|namespace| namespace.is_empty()).then(|| filter.without(letters::State::Replayed))
    }
}

impl Verdicts {
    /// The latest events that a filter holds for, of the last 72 h (conflicts and rejections: as many as are kept).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list(self: &Arc<Self>, account: u32, filter: Filter) -> Result<Page, Error> {
        match filter.verdict {
            Some(WantedVerdict::Rejected) => {
                let Some(filter) = filter.of_letters() else { return Ok(Page { events: Vec::new(), next: None }) };
                let page = self.letters.list(account, filter).await?;
                let listed = |letter| Listed::Rejected(Box::new(letter));
                Ok(Page { events: page.letters.into_iter().map(listed).collect(), next: page.next })
            }
            Some(WantedVerdict::InLog(Verdict::Conflict)) => self.conflicts(account, &filter).await,
            _ => self.logged(account, filter).await,
        }
    }

    async fn logged(self: &Arc<Self>, account: u32, filter: Filter) -> Result<Page, Error> {
        let since = UnixMillis(self.clock.now().0 - WINDOW.as_millis() as i64);
        let log = self.log.clone();
        let end = blocking(move || Ok(log.newest_end()?)).await?;
        let start = self.log.start();
        let mut before = filter.before.unwrap_or(end).min(end);
        let stop = Position(before.0.saturating_sub(LOOKED_AT_MAX).max(start.0));
        let mut events = Vec::new();
        while before > stop {
            let step = Position(before.0.saturating_sub(STEP_RECORDS).max(stop.0))..before;
            let (log, wanted) = (self.log.clone(), filter.clone());
            let (found, is_old) = blocking(move || read_step(log, account, &wanted, step, since)).await?;
            before = Position(before.0.saturating_sub(STEP_RECORDS).max(stop.0));
            for (verdict, record, first) in self.judge(found).await? {
                if filter.verdict.is_some_and(|wanted| wanted != WantedVerdict::InLog(verdict)) {
                    continue;
                }
                let position = record.position;
                events.push(Listed::Logged(verdict, Box::new(record), first.map(Box::new)));
                if events.len() == filter.limit {
                    return Ok(Page { events, next: (position > start).then_some(position) });
                }
            }
            if is_old {
                return Ok(Page { events, next: None });
            }
        }
        Ok(Page { events, next: (before > start).then_some(before) })
    }

    /// Gives each record its verdict, newest first.
    async fn judge(self: &Arc<Self>, found: Vec<Logged>) -> Result<Vec<(Verdict, Logged, Option<First>)>, Error> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let lookup = |record: &Logged| Lookup { identity: record.identity, before: record.position, log_time: record.log_time };
        let firsts = self.materializer.firsts(found.iter().map(lookup).collect(), WAIT).await?;
        let conflicting = |(record, first): (&Logged, &Option<FirstPosition>)| match first {
            Some(first) if first.content != record.content => Some(first.position),
            _ => None,
        };
        let mut others = self.read(found.iter().zip(&firsts).filter_map(conflicting).collect()).await?.into_iter();
        let judged = found.into_iter().zip(firsts).map(|(record, first)| match first {
            None if record.is_filtered => (Verdict::Filtered, record, None),
            None => (Verdict::Counted, record, None),
            Some(first) if first.content == record.content => {
                (Verdict::Duplicate, record, Some(First { position: first.position, record: None }))
            }
            Some(first) => (Verdict::Conflict, record, Some(First { position: first.position, record: others.next().flatten() })),
        });
        let mut judged: Vec<_> = judged.collect();
        judged.reverse();
        Ok(judged)
    }

    async fn conflicts(self: &Arc<Self>, account: u32, filter: &Filter) -> Result<Page, Error> {
        let before = filter.before.unwrap_or(Position(u64::MAX));
        let kept = self.materializer.conflicts(account, before, CONFLICTS_MAX, WAIT).await?;
        let (log, wanted, limit) = (self.log.clone(), filter.clone(), filter.limit);
        blocking(move || {
            let mut reader = log.reader();
            let mut events = Vec::new();
            for Conflict { position, first, .. } in kept {
                let Some(record) = read_matching(&mut *reader, position, &wanted)? else { continue };
                let first = First { position: first, record: read_one(&mut *reader, first)? };
                events.push(Listed::Logged(Verdict::Conflict, Box::new(record), Some(Box::new(first))));
                if events.len() == limit {
                    return Ok(Page { events, next: Some(position) });
                }
            }
            Ok(Page { events, next: None })
        })
        .await
    }
}

fn read_matching(reader: &mut dyn LogReader, position: Position, filter: &Filter) -> Result<Option<Logged>, Error> {
    let Some(record) = read_one(reader, position)? else { return Ok(None) };
    let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    let measured = |measured: &Measured| same(&filter.customer, &measured.customer) && same(&filter.meter, &measured.meter);
    let holds =
        same(&filter.unique_id, &record.unique_id) && same(&filter.namespace, &record.namespace) && record.counted_in.iter().any(measured);
    Ok(holds.then_some(record))
}

/// The records between two positions that a filter holds for, oldest first, and whether the oldest are older than `since`.
fn read_step(
    log: Arc<dyn Partition>,
    account: u32,
    filter: &Filter,
    step: std::ops::Range<Position>,
    since: UnixMillis,
) -> Result<(Vec<Logged>, bool), Error> {
    let mut reader = log.reader();
    let (mut found, mut is_old, mut next) = (Vec::new(), false, step.start);
    while next < step.end {
        let chunk = reader.read(next, STEP_BYTES)?;
        let mut log_time = chunk.log_time_before();
        for block in chunk.blocks() {
            log_time = log_time.max(block.received);
            if block.received < since {
                is_old = true;
                continue;
            }
            for (at, record) in (block.first.0..).map(Position).zip(records(block.payload, block.count, block.received)) {
                if let (true, Ok(record)) = (step.contains(&at) && at >= next, record)
                    && record.account == account
                    && filter.holds(&record)
                {
                    found.push(Logged::new(&record, at, log_time));
                }
            }
        }
        next = chunk.end().unwrap_or(step.end);
    }
    Ok((found, is_old))
}
