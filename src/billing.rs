//! Billing: plans, assignments, prepaid orders, invoices. Stage 8 of the way of an event.
//!
//! An invoice is a pure function: `rows × plan × period → lines` ([`invoice`], from [`quantity`] and [`pricing`]), and one statement after the
//! other of `orders × invoices → draws` ([`prepaid`], [`statement`]). No clock and no store is in these. [`Billing`] brings in both.
//!
//! # What a customer owes
//!
//! - A [`plan`] is a version; an assignment refers to it and never to a newer one ([`timeline`] says which plan applies when).
//! - One invoice for each plan and calendar month in UTC. A plan that applies for a part of a month is charged that part, by the hours, which
//!   both periods and rows begin and end with: fees, included units, tiers and minimums.
//! - Everything is exact until a line is rounded, once, half to even ([`money`]).
//! - An invoice is computed from what was used up to the moment of asking until it is closed.
//!
//! # Closing
//!
//! A month is closed once, with all its periods: until then an assignment may still change them. When its end plus the grace time has passed, rows are asked for that show everything that the log held at that moment
//! (`design.md`, promise 9, as every query does), so they have passed the log's end as it stood at end + grace, or at the first look
//! after that. The order of steps, by whichever node, at any time:
//!
//! 1. Such rows are had. If they do not come in time, nothing is closed now.
//! 2. The ledger notes up to which month all is closed: no assignment can change it any more.
//! 3. The invoice is computed from the ledger as of that moment and stored unless there is one: the first one counts, whoever made it. It
//!    has the positions of its rows.
//!
//! A node that ends between two steps leaves nothing that the next one cannot go on with, and two nodes at a time do no harm: whichever
//! stores its invoice first had rows at or behind the log's end at end + grace, and the other takes that one. Usage that comes later, or that only
//! one of the two saw, is the difference between what the period would come to now and what was billed for it: a line on the
//! next invoice. A node whose clock has run ahead closes nothing ([`crate::clock::Clock::receive_time`]).
//!
//! # Worked examples
#![doc = include_str!("billing/examples.md")]

pub mod invoice;
pub mod ledger;
pub mod money;
pub mod plan;
mod plans;
pub mod prepaid;
pub mod pricing;
pub mod quantity;
mod service;
pub mod statement;
pub mod subscription;
pub mod timeline;

#[cfg(test)]
mod tests;

pub use invoice::{Closed, Invoice, InvoiceId, Line, LineKind, Status};
pub use ledger::{NewAssignment, Refusal};
pub use money::{Currency, Money};
pub use plan::Plan;
pub use plans::{MadePlan, PlanWritten};
pub use service::{Billing, CardBalance, CustomerBalance, Error, OrderBalance, Shown, State, Statements, close_all};
pub use subscription::{CancelReason, CancelTime, GivesWay, Subscription, SubscriptionStatus, Trial, is_own_subscription_id};
pub use timeline::{Assignment, Period, PlanRef};
