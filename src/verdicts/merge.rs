//! One list from several partitions: the newest of all first, each read back step by step.
//!
//! In a partition newer means further behind; between partitions what was received later is newer, or, at the same time, what stands in
//! the lower partition. So what comes next follows from where each partition is to go on, and a list goes on from page to page as if
//! it had been one. Before anything is given out, the next of every partition must be known: each page reads something of each.

use std::cmp::Reverse;
use std::collections::VecDeque;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::clock::UnixMillis;
use crate::log::Position;

/// Partitions that are read at a time.
const AT_ONCE: usize = 4;

/// A partition, and how far it was gone through.
#[derive(Debug)]
pub(super) struct Branch<T> {
    pub(super) partition: u32,
    /// Nothing is before it.
    start: Position,
    /// What stands here or behind was given out, or is not wanted.
    before: Position,
    /// What stands here or behind was looked at.
    looked_at: Position,
    /// Newest first.
    ready: VecDeque<Found<T>>,
    /// Records of the next step.
    step: u64,
    /// Nothing before what was looked at is wanted.
    is_last: bool,
    has_ended: bool,
}

/// One that belongs on the list.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) position: Position,
    pub(super) received: UnixMillis,
    pub(super) item: T,
}

/// What is to be read next of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) partition: u32,
    /// Only before it.
    pub(super) before: Position,
    /// As many records.
    pub(super) records: u64,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Step<T> {
    /// Newest first.
    pub(super) found: VecDeque<Found<T>>,
    /// Everything from here on was looked at.
    pub(super) from: Position,
    /// Whether there is nothing before that is wanted.
    pub(super) is_last: bool,
    /// Records that were looked at for it.
    pub(super) looked_at: u64,
}

/// How much one page may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// What it may have.
    pub(super) limit: usize,
    /// Records that it looks at, about.
    pub(super) looked_at_max: u64,
    /// Records that are looked at together: of a partition at first, and later.
    pub(super) steps: (u64, u64),
}

impl<T> Branch<T> {
    /// Of what stands between two positions.
    pub(super) fn new(partition: u32, start: Position, before: Position) -> Self {
        Self { partition, start, before, looked_at: before, ready: VecDeque::new(), step: 0, is_last: false, has_ended: before <= start }
    }

    fn goes_on(&self) -> bool {
        !self.has_ended && self.before > self.start
    }

    /// Whether more has to be read. Everything that was looked at is behind us then.
    fn is_read_up(&mut self) -> bool {
        if self.has_ended || !self.ready.is_empty() {
            return false;
        }
        self.before = self.looked_at;
        self.has_ended = self.is_last || self.before <= self.start;
        !self.has_ended
    }

    fn take(&mut self, step: Step<T>, steps: (u64, u64)) {
        // Where little is found, look further.
        self.step = if step.found.is_empty() { (2 * self.step).min(steps.1) } else { self.step };
        self.looked_at = step.from;
        self.ready = step.found;
        self.is_last = step.is_last;
    }
}

/// The newest of all branches, and the positions before which the next page begins, in the order of the branches; `None`: there is no more.
pub(super) async fn newest<T, E, F>(
    branches: &mut [Branch<T>],
    bounds: Bounds,
    read: impl Fn(Ask) -> F,
) -> Result<(Vec<T>, Option<Vec<(u32, Position)>>), E>
where
    F: Future<Output = Result<Step<T>, E>>,
{
    let mut given = Vec::new();
    let mut left = bounds.looked_at_max;
    branches.iter_mut().for_each(|branch| branch.step = bounds.steps.0);
    while given.len() < bounds.limit {
        let due: Vec<&mut Branch<T>> = branches.iter_mut().filter_map(|branch| branch.is_read_up().then_some(branch)).collect();
        if !due.is_empty() {
            let share = left / due.len() as u64;
            if share == 0 {
                break;
            }
            let ask = |branch: &Branch<T>| Ask { partition: branch.partition, before: branch.looked_at, records: branch.step.min(share) };
            let steps: Vec<Step<T>> =
                stream::iter(due.iter().map(|branch| read(ask(branch))).collect::<Vec<_>>()).buffered(AT_ONCE).try_collect().await?;
            for (branch, step) in due.into_iter().zip(steps) {
                left = left.saturating_sub(step.looked_at.max(1));
                branch.take(step, bounds.steps);
            }
            continue;
        }
        let newest = branches.iter_mut().filter(|branch| !branch.ready.is_empty());
        let newest = newest.min_by_key(|branch| (branch.ready.front().map(|found| Reverse(found.received)), branch.partition));
        let Some((branch, found)) = newest.and_then(|branch| branch.ready.pop_front().map(|found| (branch, found))) else { break };
        branch.before = found.position;
        given.push(found.item);
    }
    let goes_on = branches.iter().any(Branch::goes_on);
    let before = |branch: &Branch<T>| (branch.partition, if branch.goes_on() { branch.before } else { Position(0) });
    Ok((given, goes_on.then(|| branches.iter().map(before).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a partition has: receive times, and whether it belongs on the list.
    type Had = Vec<(i64, bool)>;

    fn had() -> impl Strategy<Value = Vec<Had>> {
        proptest::collection::vec(proptest::collection::vec((0_i64..8, prop::bool::weighted(0.5)), 0..25), 1..6)
    }

    /// The rule, obviously: always the newest of the newest ones.
    fn expected(had: &[Had]) -> Vec<(u32, u64)> {
        let wanted = |had: &Had| (0_u64..).zip(had.clone()).filter(|(_, (_, is_wanted))| *is_wanted).collect::<Vec<_>>();
        let mut rest: Vec<_> = had.iter().map(wanted).collect();
        let mut all = Vec::new();
        loop {
            let mut newest: Option<(i64, usize)> = None;
            for (partition, rest) in rest.iter().enumerate() {
                if let Some((_, (received, _))) = rest.last()
                    && newest.is_none_or(|(found, _)| *received > found)
                {
                    newest = Some((*received, partition));
                }
            }
            let Some((position, _)) = newest.and_then(|(_, partition)| rest[partition].pop().map(|one| (one.0, partition))) else {
                return all;
            };
            all.push((newest.map_or(0, |(_, partition)| partition as u32), position));
        }
    }

    fn read(had: &[Had], ask: Ask) -> Step<(u32, u64)> {
        let from = ask.before.0.saturating_sub(ask.records);
        let found = |position: u64| {
            let (received, is_wanted) = had[ask.partition as usize][position as usize];
            is_wanted.then_some(Found { position: Position(position), received: UnixMillis(received), item: (ask.partition, position) })
        };
        let found = (from..ask.before.0).rev().filter_map(found).collect();
        Step { found, from: Position(from), is_last: false, looked_at: ask.before.0 - from }
    }

    async fn pages(had: &[Had], bounds: Bounds) -> (Vec<(u32, u64)>, usize) {
        let mut next: Vec<_> = (0..).zip(had).map(|(partition, had)| (partition, Position(had.len() as u64))).collect();
        let (mut all, mut pages) = (Vec::new(), 0);
        loop {
            let mut branches: Vec<_> = next.iter().map(|(partition, before)| Branch::new(*partition, Position(0), *before)).collect();
            let looked_at = std::cell::Cell::new(0);
            let read = |ask: Ask| {
                let step = read(had, ask);
                looked_at.set(looked_at.get() + step.looked_at);
                std::future::ready(Ok::<_, ()>(step))
            };
            let (page, goes_on) = newest(&mut branches, bounds, read).await.expect("reads");
            assert!(page.len() <= bounds.limit);
            assert!(looked_at.get() <= bounds.looked_at_max, "{} records", looked_at.get());
            all.extend(page);
            pages += 1;
            match goes_on {
                Some(goes_on) => {
                    assert_ne!(goes_on, next, "each page gets on");
                    next = goes_on;
                }
                None => return (all, pages),
            }
        }
    }

    proptest! {
        #[test]
        fn pages_of_any_size_and_cost_are_the_one_list(
            had in had(), limit in 1_usize..10, spare in 0_u64..40, first in 1_u64..4, further in 0_u64..5,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            // Something of each partition, and one more, or a page might not get on.
            let looked_at_max = had.len() as u64 * first + 1 + spare;
            let bounds = Bounds { limit, looked_at_max, steps: (first, first + further) };
            let (found, _) = runtime.block_on(pages(&had, bounds));
            prop_assert_eq!(found, expected(&had));
        }
    }

    #[tokio::test]
    async fn what_is_behind_the_last_step_is_not_asked_for() {
        let had = vec![vec![(0, true); 10]];
        let mut branches = [Branch::new(0, Position(0), Position(10))];
        let bounds = Bounds { limit: 100, looked_at_max: 100, steps: (3, 3) };
        let read = |ask: Ask| std::future::ready(Ok::<_, ()>(Step { is_last: ask.before < Position(10), ..read(&had, ask) }));
        let (page, next) = newest(&mut branches, bounds, read).await.expect("reads");
        assert_eq!(page.iter().map(|(_, position)| *position).collect::<Vec<_>>(), [9, 8, 7, 6, 5, 4]);
        assert_eq!(next, None);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error_and_no_shorter_list() {
        let mut branches = [Branch::<u64>::new(0, Position(0), Position(9)), Branch::new(1, Position(0), Position(9))];
        let bounds = Bounds { limit: 1, looked_at_max: 100, steps: (3, 3) };
        let read = |ask: Ask| {
            let found = [Found { position: Position(8), received: UnixMillis(1), item: 8 }].into();
            std::future::ready(if ask.partition == 0 {
                Ok(Step { found, from: Position(6), is_last: false, looked_at: 3 })
            } else {
                Err("unread")
            })
        };
        assert_eq!(newest(&mut branches, bounds, read).await, Err("unread"));
    }
}
