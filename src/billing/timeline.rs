//! Which plan applies when: from assignments to the periods that are billed.
//!
//! An assignment holds from its start until its end, or until the start of the next one; of two with the same start the one made later; one that
//! ends where it begins is none. A
//! moment inside of an hour takes the hour's start, because rows are hours: the whole hour is the new plan's. A customer's removal ends what
//! was assigned to it, and its last, broken hour is nobody's: it may hold events of whoever has the id next.
//!
//! Then, in this order: stretches of one plan (id and version) that follow each other without gap become one, whatever assignments they come
//! from, and stretches are cut where calendar months (UTC) begin. What is left are the [`Period`]s, one invoice each. So a month that is
//! split into two assignments of one plan is billed as one.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::money::Part;
use super::subscription::{CancelReason, Trial};
use crate::clock::{UnixMicros, UnixMillis};
use crate::customers::{Extensions, Life, Lives};
use crate::store::row::HOUR_S;
use crate::usage::month_around;

/// Milliseconds of an hour.
const HOUR_MS: i64 = HOUR_S * 1_000;
/// End of time: the begin of the year 10000, in hours since 1970.
pub const HOUR_MAX: u32 = (crate::usage::TIME_S_MAX / HOUR_S) as u32;

/// The hour that holds a moment, since 1970; moments outside of the years 1970 to 9999 count as the nearest inside.
pub fn hour_of(time: UnixMillis) -> u32 {
    clamp(time.0.div_euclid(HOUR_MS))
}

/// The first hour that begins at a moment or after it.
pub fn hour_from(time: UnixMillis) -> u32 {
    clamp(time.0.saturating_add(HOUR_MS - 1).div_euclid(HOUR_MS))
}

fn clamp(hour: i64) -> u32 {
    hour.clamp(0, i64::from(HOUR_MAX)) as u32
}

/// Begin of an hour, in s since 1970.
pub fn seconds(hour: u32) -> i64 {
    i64::from(hour) * HOUR_S
}

/// The calendar month (UTC) that holds an hour, in hours.
pub fn month_of(hour: u32) -> Range<u32> {
    let month_s = month_around(seconds(hour));
    clamp(month_s.start / HOUR_S)..clamp(month_s.end / HOUR_S)
}

/// A plan that was given to a customer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Assignment {
    /// Which of the customers that have had the id.
    pub life: Life,
    /// The plan's id.
    pub plan_id: String,
    /// Its newest version at that time; `None`: there was none, and its first version will do when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_version: Option<u32>,
    /// As it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
    /// From when on, in ms since 1970.
    pub start_ms: i64,
    /// Until when, in ms since 1970; `None`: until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<i64>,
    /// When it was made, in ms since 1970.
    pub created_ms: i64,
    /// Its id as a subscription, if a client chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why it ends at its end, if it was canceled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceled: Option<CancelReason>,
    /// Whether it begins as a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// What only one dialect says of it, as it was sent.
    #[serde(default, skip_serializing_if = "Extensions::is_empty")]
    pub ext: Extensions,
}

impl Assignment {
    /// Whether it was canceled before it began: then it leaves the one before it alone.
    pub fn is_void(&self) -> bool {
        self.end_ms.is_some_and(|end_ms| end_ms <= self.start_ms)
    }
}

/// A version of a plan, or a plan that nobody has made: everything is free.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanRef {
    /// The plan's id.
    pub id: String,
    /// From 1 on; 0: nobody has made it.
    pub version: u32,
}

/// What one invoice is about: a plan and a calendar month, or the part of it in which the plan applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Which of the customers that have had the id.
    pub life: Life,
    /// Begin, in hours since 1970.
    pub start_h: u32,
    /// End, in hours since 1970.
    pub end_h: u32,
    /// The plan.
    pub plan: PlanRef,
    /// As it was sent with the first assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
}

impl Period {
    /// Which part of its month it is.
    pub fn part(&self) -> Part {
        let month = month_of(self.start_h);
        Part::new(self.end_h - self.start_h, month.end - month.start)
    }
}

/// The periods of all lives that begin before an hour, in the order of time. `made` says whether a plan was made under an id.
pub fn periods(assignments: &[Assignment], lives: &Lives, until_h: u32, made: &dyn Fn(&str) -> bool) -> Vec<Period> {
    let mut stretches: Vec<Period> = Vec::new();
    for life in 0..=lives.current() {
        let mut of_life: Vec<&Assignment> = assignments.iter().filter(|made| made.life == life && !made.is_void()).collect();
        // Stable: of equal starts the one made later stays behind, and leaves nothing to the other.
        of_life.sort_by_key(|assignment| assignment.start_ms);
        let begin = begin_of(lives, life);
        let end = lives.end(life).map_or(HOUR_MAX, |end| hour_of(end.millis()));
        for (index, assignment) in of_life.iter().enumerate() {
            let next = of_life.get(index + 1).map_or(HOUR_MAX, |next| hour_of(UnixMillis(next.start_ms)));
            let own_end = assignment.end_ms.map_or(HOUR_MAX, |end| hour_of(UnixMillis(end)));
            let start_h = hour_of(UnixMillis(assignment.start_ms)).max(begin);
            let end_h = own_end.min(next).min(end);
            if start_h < end_h {
                let version = assignment.plan_version.unwrap_or_else(|| u32::from(made(&assignment.plan_id)));
                let plan = PlanRef { id: assignment.plan_id.clone(), version };
                join(&mut stretches, Period { life, start_h, end_h, plan, product_id: assignment.product_id.clone() });
            }
        }
    }
    stretches.iter().flat_map(|stretch| cut(stretch, until_h)).collect()
}

/// The first hour that can be a life's.
pub fn begin_of(lives: &Lives, life: Life) -> u32 {
    lives.start(life).map_or(0, |start| hour_from(up(start)))
}

/// The first millisecond at or after a moment.
fn up(time: UnixMicros) -> UnixMillis {
    UnixMicros(time.0.saturating_add(999)).millis()
}

fn join(stretches: &mut Vec<Period>, next: Period) {
    match stretches.last_mut() {
        Some(last) if last.end_h == next.start_h && last.plan == next.plan && last.life == next.life => last.end_h = next.end_h,
        _ => stretches.push(next),
    }
}

fn cut(stretch: &Period, until_h: u32) -> impl Iterator<Item = Period> {
    let first = Some(stretch.start_h).filter(|start_h| *start_h < stretch.end_h.min(until_h));
    let end_h = stretch.end_h;
    let starts = std::iter::successors(first, move |start_h| Some(month_of(*start_h).end).filter(|next| *next < end_h.min(until_h)));
    starts.map(move |start_h| Period { start_h, end_h: month_of(start_h).end.min(end_h), ..stretch.clone() })
}

#[cfg(test)]
mod tests;
