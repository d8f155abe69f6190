//! The description of Octane's routes. Where a client may send an empty text for nothing, the description says so: its Python client does.

pub(super) mod customers;
pub(super) mod meters;
pub(super) mod subscriptions;
pub(super) mod usage;

use hyper::StatusCode;
use serde_json::json;

use super::PYTHON_CLIENT;
use crate::event::NAME_BYTES_MAX;
use crate::openapi::{Operation, Schema};

/// Of a customer or of a meter, in a path.
fn name(what: &str) -> Schema {
    Schema::text().about(what).about("Percent-encoded. A `+` that names nothing is a space.").example("acme-7")
}

/// A name that a body has.
fn name_in(about: &str) -> Schema {
    Schema::name_to(NAME_BYTES_MAX).about(about)
}

/// A time that a request has.
fn time_in(about: &str) -> Schema {
    Schema::text().about(about).about("RFC 3339, to the microsecond; without an offset it is UTC.").example("2026-01-01T00:00:00.123456")
}

/// An empty text in place of a value.
fn or_cleared(schema: Schema) -> Schema {
    Schema::any_of([schema, Schema::words(&[""]).about("Clears it."), Schema::null()])
}

fn nothing() -> Schema {
    Schema::object().and_nothing_else()
}

/// As the Python client needs it, and as all others do.
fn deletes(operation: Operation) -> Operation {
    operation
        .header(PYTHON_CLIENT, Schema::text().about("Only the Python client sends it, and takes an answer without a body for an error."))
        .answers("It is gone; for the Python client", nothing())
        .example(json!({}))
        .answers_empty(StatusCode::NO_CONTENT, "It is gone")
        .may_be_unknown()
}
