//! What the description says of the product, and what the descriptions of several routes have in common.

mod errors;

use crate::event::NAME_BYTES_MAX;
use crate::openapi::{About, Schema};

pub use errors::error_form;

/// The group of what brings events.
pub const INGEST: &str = "Ingest";
pub(super) const USAGE: &str = "Usage";
pub(super) const EVENTS: &str = "Events";
pub(super) const DEAD_LETTERS: &str = "Dead letters";
pub(super) const METERS: &str = "Meters";
pub(super) const CUSTOMERS: &str = "Customers";
pub(super) const PLANS: &str = "Plans";
pub(super) const PREPAID: &str = "Prepaid";
pub(super) const INVOICES: &str = "Invoices";
pub(super) const ACCOUNTS: &str = "Accounts and keys";
/// The group of Octane's routes.
pub const OCTANE: &str = "Octane";
/// The group of Stigg's routes.
pub const STIGG: &str = "Stigg";
/// The group of OpenMeter's routes.
pub const OPENMETER: &str = "OpenMeter";
/// The group of what operators ask.
pub const OPERATION: &str = "Operation";

/// What the description says beside its operations.
pub(super) const ABOUT: About = About {
    description: "\
Tollgate takes usage events over HTTP, counts each exactly once, keeps them durably, and answers what every customer used and owes.

**First steps.** Send events to `POST /ingest`: a 200 means that they are on disk, and every query that begins after it sees them. Ask for sums with \
`POST /usage`. To bill, make a plan (`POST /v1/plans`), assign it to a customer, and read the invoices.

**Families of paths.** Those under `/v1/` are Tollgate's own: they refuse fields and parameters that they do not know. Those under `/octane`, `/stigg` and \
`/openmeter` are the other dialects', and all others are Amberflo's, each as its documents and its clients call them: they pass over what they do not know, take \
words in any case, and take `null` for an optional field as if it were absent. Amberflo's paths and our own are served below `/amberflo` too; most paths of the \
other dialects also without their prefix. A slash at the end, or two in place of one, make no difference. All dialects see the same customers, meters and usage.

**Keys.** Send the key in `X-API-KEY`, or in `Authorization: Bearer`, or, as one of Octane's clients does, in `X-Authorization: Bearer`. It belongs to one account and sees nothing of any other. Its scopes say what it may do: \
`ingest` sends events, `read` asks, `admin` does both and changes what is set up, `operator` makes accounts and sees no data.

**Sending again is safe.** An event is told from its copies by its `uniqueId`. After a 503 the outcome is unknown: send the same events again, each counts once.

**Bodies** may be compressed (`Content-Encoding`: gzip, deflate or zstd). Numbers are exact decimals, in and out: they are never read as doubles.

**Refusals** are JSON: `message` for people, `code` for programs, and `details` with the field; the other dialects have forms of their own. A method that a path does not have is answered with 405 and \
`Allow`; a path that there is not with 404. 429 and 503 have `Retry-After`. Keys with a rate limit get the headers `RateLimit` and `RateLimit-Policy` with \
every answer.",
    tags: &[
        (INGEST, "Events come in: one, many, as JSON, as lines, as a table."),
        (USAGE, "What was used, by hour, day, week or month, grouped and filtered."),
        (EVENTS, "What became of each event, for whoever compares the books."),
        (DEAD_LETTERS, "Events that were not taken although their neighbours were, kept as they were sent. They can be brought again."),
        (METERS, "What is said of meters, and which of their events count. A meter need not be defined to be used."),
        (CUSTOMERS, "Who is billed. A customer need not be made to have usage."),
        (PLANS, "What usage costs, and who has which plan from when to when."),
        (PREPAID, "What was paid in advance, and what is left of it."),
        (INVOICES, "What is owed: computed at the moment of asking while the month is open, closed once, and never changed."),
        (ACCOUNTS, "Who may call, how often, and what administrators did."),
        (OCTANE, "The same customers, events and usage as Octane's clients know them. Errors are in Octane's form."),
        (STIGG, "The same customers, events and usage as Stigg's clients know them. Errors are in Stigg's form."),
        (OPENMETER, "CloudEvents and meters as OpenMeter's clients know them. Errors are problems (RFC 9457)."),
        (OPERATION, "Health, metrics, and this description. No key is needed."),
    ],
    servers: &[("/", "This gateway")],
};

/// The id of a customer.
pub(super) fn customer_id() -> Schema {
    Schema::name_to(NAME_BYTES_MAX).about("The customer, by the id that you gave it.")
}

/// The API name of a meter.
pub(super) fn meter_name() -> Schema {
    Schema::name_to(NAME_BYTES_MAX).about("The meter.")
}

/// How many entries a page has.
pub(super) fn limit() -> Schema {
    let (default, max) = (super::fields::LIMIT, super::fields::LIMIT_MAX);
    Schema::integer_in(1..=max as i64).with("default", default).about("Entries of the page.")
}

/// A position in the log, or of a dead letter.
pub(super) fn position() -> Schema {
    Schema::count().with("maximum", u64::MAX)
}

/// Where the next page begins.
pub(super) fn next(what: Schema) -> Schema {
    what.or_null().about("Where to go on, or null at the end.")
}

/// Whether the answer has everything that was acknowledged before it was asked for.
pub(super) fn complete() -> (&'static str, &'static str, Schema) {
    (
        "Tollgate-Complete",
        "`false` where the rows had not caught up in time with what was acknowledged before the query.",
        Schema::words(&["true", "false"]),
    )
}
