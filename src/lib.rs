//! Tollgate takes usage events from producers over HTTP, counts each exactly once, keeps them durably, and answers what every
//! customer used.
//!
//! # The way of an event
//!
//! 1. [`server`] accepts the connection, [`gateway`] takes the request: key, body within its limits, events as slices of the
//!    body ([`event`], read by a [`dialect`]), written into one block of records.
//! 2. [`batch`] hands the block to the one thread that appends; whatever has gathered while the last group was synced is the next
//!    group.
//! 3. [`log`] keeps the group durably. Now the answer goes out.
//! 4. [`materializer`] reads the log in order, asks its dedup index where each record stands, and folds what counts into
//!    hours and days.
//! 5. [`store`] keeps the rows with the position up to which they hold, in one transaction.
//! 6. [`usage`] answers queries from the rows, [`verdicts`] what became of an event; [`letters`] keeps what was not taken; [`customers`],
//!    [`accounts`], [`meters`] and [`rules`] are what people set up.
//!    [`billing`] makes invoices of usage and plans, [`portal`] shows a customer its own. [`api`] serves all of them.
//!
//! Data goes one way: a stage knows the next one, never the one before it. Everything behind the log is a function of the log; time
//! comes in through [`clock`] alone. [`cli`] builds every part from [`config`] and drains them along the same way.
//!
//! `ARCHITECTURE.md` has the map with the invariants, the file formats and the decisions.

pub mod accounts;
pub mod api;
pub mod base;
pub mod batch;
pub mod billing;
pub mod checked_json;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod customers;
pub mod data_dir;
pub mod definitions;
pub mod dialect;
pub mod event;
pub mod fault;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
pub mod gateway;
pub mod letters;
pub mod loadgen;
pub mod log;
pub mod materializer;
pub mod meters;
pub mod openapi;
pub mod ops;
mod park;
pub mod portal;
pub mod rules;
pub mod server;
pub mod sketch;
pub mod store;
pub mod stripe;
pub mod telemetry;
pub mod usage;
pub mod verdicts;
