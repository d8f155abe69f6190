//! What happens to assignments as subscriptions.

use super::{Ledger, Refusal};
use crate::billing::subscription::CancelReason;
use crate::billing::timeline::{Assignment, seconds};
use crate::clock::UnixMillis;
use crate::customers::{Life, Lives};

impl Ledger {
    /// Adds an assignment that a client may have given an id. Without one, the same once more is the same assignment. Gives back its place.
    ///
    /// # Errors
    /// [`Refusal::OtherSubscription`], and as [`Self::assign`].
    pub fn subscribe(&mut self, new: &Assignment, lives: &Lives, now: UnixMillis) -> Result<usize, Refusal> {
        let new = Assignment { life: lives.current(), created_ms: now.0, ..new.clone() };
        if new.id.is_some() {
            let is_taken = self.assignments.iter().any(|made| made.life == new.life && made.id == new.id);
            return if is_taken { Err(Refusal::OtherSubscription) } else { self.add(new, lives) };
        }
        match self.same_as_last(&new) {
            Some(last) => Ok(last),
            None => self.add(new, lives),
        }
    }

    /// The place of the newest of its life, if it says the same. Only that one: behind another, it says that the plan holds again.
    fn same_as_last(&self, new: &Assignment) -> Option<usize> {
        let is_same = |made: &Assignment| Assignment { created_ms: made.created_ms, ..new.clone() } == *made;
        let last = self.assignments.iter().rposition(|made| made.life == new.life)?;
        self.assignments.get(last).is_some_and(is_same).then_some(last)
    }

    /// Adds an assignment in place of the one that `old` finds, which ends where the new one begins; if it began later, it never did. The same
    /// once more is the same. Gives back its place; `None`: there was nothing to give way.
    ///
    /// # Errors
    /// As adding one, and [`Self::cancel`].
    pub fn replace(
        &mut self,
        old: impl FnOnce(&Self) -> Option<usize>,
        new: &Assignment,
        lives: &Lives,
        now: UnixMillis,
    ) -> Result<Option<usize>, Refusal> {
        let new = Assignment { life: lives.current(), created_ms: now.0, ..new.clone() };
        if let Some(made) = self.same_as_last(&new) {
            return Ok(Some(made));
        }
        let Some(old) = old(self) else { return Ok(None) };
        let reason = if new.start_ms <= now.0 { CancelReason::Immediate } else { CancelReason::Scheduled };
        self.cancel(old, new.start_ms, reason)?;
        self.add(new, lives).map(Some)
    }

    /// Ends an assignment, which is not over, at a moment; one that begins later never begins.
    ///
    /// # Errors
    /// [`Refusal::EndClosed`], [`Refusal::UnknownSubscription`].
    pub fn cancel(&mut self, index: usize, end_ms: i64, reason: CancelReason) -> Result<(), Refusal> {
        if end_ms < self.closed_until_ms() {
            return Err(Refusal::EndClosed(seconds(self.closed_until_h)));
        }
        let row = self.row(index)?;
        // What was made with an end does not go on behind it.
        let own_end_ms = row.end_ms.filter(|_| row.canceled.is_none()).unwrap_or(i64::MAX);
        (row.end_ms, row.canceled) = (Some(end_ms.min(own_end_ms).max(row.start_ms)), Some(reason));
        Ok(())
    }

    /// Up to when all is closed, in ms since 1970.
    pub fn closed_until_ms(&self) -> i64 {
        seconds(self.closed_until_h).saturating_mul(1_000)
    }

    /// Changes the assignment at a place; its end only where nothing is closed.
    ///
    /// # Errors
    /// [`Refusal::EndClosed`], [`Refusal::UnknownSubscription`].
    pub fn edit(&mut self, index: usize, edit: &dyn Fn(&mut Assignment)) -> Result<(), Refusal> {
        let closed_until_ms = self.closed_until_ms();
        let row = self.row(index)?;
        let before = row.end_ms;
        edit(row);
        let first_changed = [before, row.end_ms].into_iter().flatten().min().filter(|_| row.end_ms != before);
        if first_changed.is_some_and(|end_ms| end_ms < closed_until_ms) {
            return Err(Refusal::EndClosed(seconds(self.closed_until_h)));
        }
        Ok(())
    }

    /// The assignment at a place.
    fn row(&mut self, index: usize) -> Result<&mut Assignment, Refusal> {
        self.assignments.get_mut(index).ok_or(Refusal::UnknownSubscription)
    }

    /// Ends what a life has, for good, at the moment at which that life ended. No period changes by that: all ended then.
    pub fn end_life(&mut self, life: Life, end_ms: i64) {
        for row in self.assignments.iter_mut().filter(|row| row.life == life && !row.is_void()) {
            if row.end_ms.is_none_or(|own_end_ms| own_end_ms > end_ms) {
                (row.end_ms, row.canceled) = (Some(end_ms.max(row.start_ms)), Some(CancelReason::CustomerArchived));
            }
        }
    }

    /// Whether anything belongs to a life.
    pub fn has_life(&self, life: Life) -> bool {
        self.assignments.iter().any(|row| row.life == life) || self.orders.iter().any(|order| order.life == life)
    }
}
