//! The description of Stigg's routes.

mod customers;
mod fields;
mod subscriptions;
mod usage;

use serde_json::{Value, json};

pub(super) use customers::*;
pub(super) use subscriptions::*;
pub(super) use usage::*;

use crate::customers::{ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, TEXT_BYTES_MAX};
use crate::dialect::stigg::pages::{LIMIT, LIMIT_MAX};
use crate::event::NAME_BYTES_MAX;
use crate::openapi::{Operation, Schema};

fn text() -> Schema {
    Schema::text_to(TEXT_BYTES_MAX)
}

fn id() -> Schema {
    Schema::name_to(NAME_BYTES_MAX)
}

/// Texts by texts.
fn texts() -> Schema {
    Schema::map(Schema::text_to(ATTRIBUTE_VALUE_BYTES_MAX))
        .with("maxProperties", ATTRIBUTES_MAX)
        .with("propertyNames", json!({"maxLength": ATTRIBUTE_KEY_BYTES_MAX, "pattern": "^[^\\u0000]*$"}))
}

/// A time that may be unset.
fn time_or_null(about: &str) -> Schema {
    Schema::time().or_null().about(about)
}

/// What stands around one object.
fn envelope(data: Schema) -> Schema {
    Schema::object().has("data", data)
}

fn enveloped(data: &Value) -> Value {
    json!({"data": data})
}

/// A list: its page, its filters of time, and what stands around it.
fn pages(operation: Operation, of: Schema, example: &Value) -> Operation {
    let cursor = |about: &str| Schema::text().about(about);
    let pagination = Schema::object()
        .has("next", cursor("What to give as `after` for the page behind; null at the end.").or_null())
        .has("prev", cursor("What to give as `before` for the page before; null at the start.").or_null())
        .named("StiggPagination");
    let bound = |op: &str| Schema::time().about(&format!("Made {op} this time, to the millisecond."));
    operation
        .query("limit", Schema::integer_in(1..=LIMIT_MAX as i64).with("default", LIMIT).about("Entries of the page."))
        .query("after", cursor("The page behind this cursor: `pagination.next` of another page."))
        .query("before", cursor("The page before this cursor: `pagination.prev` of another page. Not together with `after`."))
        .query("starting_after", cursor("The same as `after`."))
        .query("ending_before", cursor("The same as `before`."))
        .query("createdAt[gt]", bound("after"))
        .query("createdAt[gte]", bound("at or after"))
        .query("createdAt[lt]", bound("before"))
        .query("createdAt[lte]", bound("at or before"))
        .answers("A page", Schema::object().has("data", Schema::array(of)).has("pagination", pagination))
        .example(json!({"data": [example], "pagination": {"next": null, "prev": null}}))
}
