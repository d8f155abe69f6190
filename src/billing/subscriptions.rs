//! Subscriptions: what a customer was assigned, a row each, as the dialects list them (contract `stigg.md` section 6, rule 10). Whichever dialect
//! assigned a plan, there is one assignment, and so one row.

use super::ledger::{Ledger, NewAssignment, Refusal};
use super::timeline::Assignment;
use crate::clock::UnixMillis;
use crate::customers::{Life, Lives};

/// An assignment and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its place among all assignments of the customer's id; never another one's.
    pub number: u32,
    /// What was assigned.
    pub assignment: Assignment,
    /// When it ended or will end, in ms since 1970: by itself, because the next one begins, or with its customer.
    pub end_ms: Option<i64>,
}

impl Subscription {
    /// Whether it holds at a moment, in ms since 1970.
    pub fn holds_at(&self, time: UnixMillis) -> bool {
        self.assignment.start_ms <= time.0 && self.end_ms.is_none_or(|end_ms| time.0 < end_ms)
    }
}

/// Which subscription gives way to a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivesWay {
    /// The one that holds now.
    Active,
    /// The one with this number, unless it has ended.
    Numbered(u32),
}

impl Ledger {
    /// The subscriptions from a life on, oldest first: by start, of equal ones the one made first.
    pub fn subscriptions(&self, from: Life, lives: &Lives) -> Vec<Subscription> {
        let is_shown = |(_, assignment): &(u32, &Assignment)| assignment.life >= from && !assignment.is_void();
        let mut shown: Vec<_> = (0..).zip(&self.assignments).filter(is_shown).collect();
        shown.sort_by_key(|(_, assignment)| (assignment.life, assignment.start_ms));
        let nexts = shown.iter().skip(1).map(Some).chain([None]);
        let with_end = shown.iter().zip(nexts).map(|((number, assignment), next)| {
            let next_ms = next.filter(|(_, next)| next.life == assignment.life).map(|(_, next)| next.start_ms);
            let life_ms = lives.end(assignment.life).map(|end| end.millis().0);
            let end_ms = [assignment.end_ms, next_ms, life_ms].into_iter().flatten().min();
            Subscription { number: *number, assignment: (*assignment).clone(), end_ms }
        });
        with_end.collect()
    }

    /// Assigns a plan in place of another one, which ends where the new one begins. The same once more is the same. `None`: there is nothing
    /// that could give way.
    ///
    /// # Errors
    /// [`Refusal::Closed`], [`Refusal::EndNotAfterStart`], [`Refusal::TooManyAssignments`].
    pub fn replace(
        &mut self,
        old: GivesWay,
        new: NewAssignment,
        plan_version: Option<u32>,
        lives: &Lives,
        now: UnixMillis,
    ) -> Result<Option<Assignment>, Refusal> {
        let start_ms = new.start_ms.unwrap_or(now.0);
        if let Some(made) = self.same_as_last(&new.clone().into_assignment(plan_version, lives.current(), now)) {
            return Ok(Some(made.clone()));
        }
        let Some(number) = self.find(old, lives, now) else { return Ok(None) };
        self.end(number as usize, start_ms)?;
        self.assign(new, plan_version, lives, now).map(Some)
    }

    /// The number of a subscription of the current life that has not ended.
    pub(super) fn find(&self, wanted: GivesWay, lives: &Lives, now: UnixMillis) -> Option<u32> {
        let subscriptions = self.subscriptions(lives.current(), lives);
        let is_it = |subscription: &&Subscription| match wanted {
            GivesWay::Active => subscription.holds_at(now),
            GivesWay::Numbered(number) => subscription.number == number && subscription.end_ms.is_none_or(|end_ms| now.0 < end_ms),
        };
        subscriptions.iter().rfind(is_it).map(|subscription| subscription.number)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::customers::{CustomerId, Customers, Extensions};
    use crate::store::memory::MemoryStore;

    const NOW: UnixMillis = UnixMillis(100_000_000_000);
    const HOUR_MS: i64 = 3_600_000;

    fn new(plan: &str, start_ms: Option<i64>, end_ms: Option<i64>) -> NewAssignment {
        NewAssignment { plan_id: plan.into(), product_id: None, start_ms, end_ms, ext: Extensions::default() }
    }

    fn rows(ledger: &Ledger) -> Vec<(u32, &str, i64, Option<i64>)> {
        let shown = ledger.subscriptions(0, &Lives::default());
        let row = |one: &Subscription| {
            let plan = ledger.assignments[one.number as usize].plan_id.as_str();
            (one.number, plan, one.assignment.start_ms - NOW.0, one.end_ms.map(|end_ms| end_ms - NOW.0))
        };
        shown.iter().map(row).collect()
    }

    fn ledger(assignments: &[(&str, i64, Option<i64>)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (plan, start, end) in assignments {
            let new = new(plan, Some(NOW.0 + start), end.map(|end| NOW.0 + end));
            ledger.assign(new, None, &Lives::default(), NOW).expect("assigned");
        }
        ledger
    }

    #[test]
    fn a_subscription_ends_by_itself_or_where_the_next_one_begins() {
        let ledger = ledger(&[("late", 50, None), ("a", -50, Some(10)), ("b", -20, None)]);
        assert_eq!(rows(&ledger), [(1, "a", -50, Some(-20)), (2, "b", -20, Some(50)), (0, "late", 50, None)]);
        assert_eq!(ledger.find(GivesWay::Active, &Lives::default(), NOW), Some(2));
        assert_eq!(ledger.find(GivesWay::Numbered(1), &Lives::default(), NOW), None, "it has ended");
        assert_eq!(ledger.find(GivesWay::Numbered(0), &Lives::default(), NOW), Some(0));
    }

    #[test]
    fn a_new_subscription_takes_the_place_of_the_active_one_also_where_it_begins_before() {
        let lives = Lives::default();
        let mut later = ledger(&[("a", -50, None)]);
        later.replace(GivesWay::Active, new("b", Some(NOW.0 + 5), None), None, &lives, NOW).expect("taken").expect("one is active");
        assert_eq!(rows(&later), [(0, "a", -50, Some(5)), (1, "b", 5, None)]);
        let mut before = ledger(&[("a", -50, None)]);
        let sent = new("b", Some(NOW.0 - 60), None);
        for _ in 0..2 {
            before.replace(GivesWay::Active, sent.clone(), None, &lives, NOW).expect("taken").expect("one is active");
            assert_eq!(rows(&before), [(1, "b", -60, None)], "the same again is the same");
        }
        assert_eq!(ledger(&[]).replace(GivesWay::Active, sent, None, &lives, NOW), Ok(None));
    }

    #[test]
    fn nothing_ends_in_what_is_closed() {
        let mut ledger = ledger(&[("a", -50 * HOUR_MS, None)]);
        ledger.closed_until_h = crate::billing::timeline::hour_of(NOW);
        let before = ledger.clone();
        assert!(matches!(ledger.end(0, NOW.0 - HOUR_MS), Err(Refusal::Closed(_))));
        let early = new("b", Some(NOW.0 - HOUR_MS), None);
        assert!(matches!(ledger.replace(GivesWay::Active, early, None, &Lives::default(), NOW), Err(Refusal::Closed(_))));
        assert_eq!(ledger, before);
        assert_eq!(ledger.end(1, NOW.0), Err(Refusal::UnknownAssignment));
        ledger.end(0, NOW.0).expect("is open");
        ledger.end(0, NOW.0 + HOUR_MS).expect("has ended before");
        assert_eq!(rows(&ledger)[0].3, Some(0));
    }

    #[test]
    fn a_removed_customer_s_subscriptions_end_with_it() {
        let (customers, id) = (Customers::new(Arc::new(MemoryStore::default()), Clock::start()), CustomerId::parse("a").expect("an id"));
        customers.create(1, &id, |_| ()).expect("a free id");
        let removed = customers.remove(1, &id).expect("is there");
        let shown = ledger(&[("a", -50, None)]).subscriptions(0, &customers.lives(1, &id).expect("memory"));
        assert_eq!(shown[0].end_ms, removed.removed_at().map(|time| time.millis().0));
    }
}
