//! What Tollgate promises (`ARCHITECTURE.md`), shown on the real binary: a file a promise.
//!
//! `cargo test --test it`. Each test has a process and a data directory of its own. Random choices begin with a seed that is
//! printed when a test fails; `TOLLGATE_TEST_SEED=<seed>` makes the same choices again.

mod accounts;
mod acked_is_durable;
mod amberflo;
mod attacks;
mod audit;
mod backup;
mod bench;
mod billing;
mod bit_flips;
mod bounded;
mod by_hand;
mod cluster;
mod counted_once;
mod dead_letters;
mod dialects;
mod doctor;
mod everything_follows_from_the_log;
mod failing_disk;
mod fan_out;
mod fault_matrix;
mod forms;
mod full_disk;
mod handover;
mod harness;
mod kafka_ends;
mod kafka_log;
mod kafka_look_ups;
mod kafka_outages;
mod kafka_topics;
mod keys;
mod kill_points;
mod known;
mod late_and_early;
mod load;
mod log_formats;
mod logs;
mod lossless;
mod measures;
mod meters;
mod model;
mod octane;
mod one_bad_event;
mod one_ledger;
mod openapi;
mod openmeter;
mod poison;
mod portal;
#[expect(dead_code, reason = "the store's own tests use more of it")]
#[path = "../support/postgres.rs"]
mod postgres;
mod pressure;
mod processes;
mod protocol;
mod rate_limits;
mod reads_across_nodes;
mod reconcile;
mod restart;
mod retention;
mod rules;
mod stigg;
mod stigg_usage;
mod stripe;
mod sums_are_exact;
mod the_books_balance;
mod undecodable;
mod usage;
mod verdicts;
mod verify;
mod wrong_clock;
mod you_read_what_you_wrote;
