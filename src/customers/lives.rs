//! Who has had an id: a customer that is removed and one that is made under its id later are two, and owe nothing for each other
//! (`design.md`, promise 11).
//!
//! Each of them is a life of the id. Lives follow each other without gap: the first begins before all time, whether a customer was made or
//! not, the next one where the one before was removed. What is set up for an id belongs to the life of that moment.

use serde::{Deserialize, Serialize};

use super::Customer;
use crate::clock::UnixMicros;

/// Lives of an id of which it is known when they ended; of older ones only how many there were.
pub const LIVES_MAX: usize = 64;

/// Which of the customers that have had an id, from 0 on.
pub type Life = u32;

/// When those were removed who had the id before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Former {
    /// How many are not among the others any more.
    forgotten: u32,
    /// Oldest first.
    ended_at: Vec<UnixMicros>,
}

impl Former {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// With one more.
    pub(super) fn followed_by(&self, ended_at: UnixMicros) -> Self {
        let mut next = self.clone();
        next.ended_at.push(ended_at);
        if next.ended_at.len() > LIVES_MAX {
            next.ended_at.remove(0);
            next.forgotten = next.forgotten.saturating_add(1);
        }
        next
    }
}

/// All lives of an id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lives {
    former: Former,
    /// Whether the last one has ended, and no customer was made since.
    is_over: bool,
}

impl Lives {
    pub(super) fn of(customer: &Customer) -> Self {
        match customer.removed_at() {
            Some(removed_at) => Self { former: customer.former.followed_by(removed_at), is_over: true },
            None => Self { former: customer.former.clone(), is_over: false },
        }
    }

    /// The life to which belongs what is set up now.
    pub fn current(&self) -> Life {
        self.former.forgotten.saturating_add(self.former.ended_at.len() as u32)
    }

    /// The first life of which is shown what belongs to it: the current one, or, as long as nobody was made under the id of a customer that
    /// was removed, that one's.
    pub fn first_shown(&self) -> Life {
        self.current().saturating_sub(u32::from(self.is_over))
    }

    /// Whether the customer that had the id last is removed, and no other was made since.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// When a life ended; `None`: it has not.
    pub fn end(&self, life: Life) -> Option<UnixMicros> {
        match life.checked_sub(self.former.forgotten) {
            Some(index) => self.former.ended_at.get(index as usize).copied(),
            // Not known any more, but not later.
            None => self.former.ended_at.first().copied(),
        }
    }

    /// When a life began; `None`: before all time.
    pub fn start(&self, life: Life) -> Option<UnixMicros> {
        life.checked_sub(1).and_then(|before| self.end(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customers::CustomerId;

    #[test]
    fn lives_follow_each_other_and_the_oldest_are_forgotten() {
        let mut former = Former::default();
        for n in 1..=LIVES_MAX as i64 + 2 {
            former = former.followed_by(UnixMicros(n));
        }
        let lives = Lives { former, is_over: false };
        assert_eq!((lives.current(), lives.first_shown()), (66, 66));
        assert_eq!((lives.start(66), lives.end(66)), (Some(UnixMicros(66)), None));
        assert_eq!((lives.start(2), lives.end(2)), (Some(UnixMicros(3)), Some(UnixMicros(3))), "no time is left of who is forgotten");
        assert_eq!(lives.end(3), Some(UnixMicros(4)));
    }

    #[test]
    fn a_removed_customer_is_shown_until_another_is_made() {
        let id = CustomerId::parse("acme").expect("a good id");
        assert_eq!(Lives::default().current(), 0);
        let mut customer = Customer::new(id, UnixMicros(5));
        assert_eq!((Lives::of(&customer).current(), Lives::of(&customer).start(0)), (0, None));
        customer.removed_at = Some(UnixMicros(9));
        let lives = Lives::of(&customer);
        assert_eq!((lives.current(), lives.first_shown(), lives.end(0), lives.start(1)), (1, 0, Some(UnixMicros(9)), Some(UnixMicros(9))));
    }
}
