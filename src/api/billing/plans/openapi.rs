//! The description of plans.

use serde_json::{Value, json};

use crate::accounts::Scope;
use crate::billing::plan::{FEES_MAX, ID_BYTES_MAX, NAME_BYTES_MAX, PRICES_MAX, RATES_MAX, TIERS_MAX, VALUES_MAX};
use crate::event::{self, DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX};
use crate::openapi::{Operation, Schema};

fn id() -> Schema {
    Schema::text().with("minLength", 1).with("maxLength", ID_BYTES_MAX).about(&format!("At most {ID_BYTES_MAX} bytes."))
}

fn name() -> Schema {
    Schema::text().with("maxLength", NAME_BYTES_MAX).about(&format!("At most {NAME_BYTES_MAX} bytes; without it the id."))
}

fn price() -> Schema {
    Schema::number().with("minimum", 0).with("exclusiveMaximum", 1_000_000_000_000_i64)
}

fn positive() -> Schema {
    Schema::number().with("exclusiveMinimum", 0)
}

fn currency() -> Schema {
    Schema::text().with("pattern", "^[A-Za-z]{3}$").about("ISO 4217, with minor units.")
}

fn tiers() -> Schema {
    let tier = Schema::object()
        .takes("upTo", positive().about("The last unit of the tier; the last tier has none."))
        .takes("unitPrice", price())
        .takes("flatPrice", price().about("On top, once a month."))
        .and_nothing_else()
        .named("Tier");
    Schema::array(tier).with("minItems", 1).with("maxItems", TIERS_MAX)
}

/// The fields of a rate: of one model, which decides which of them there are.
fn with_rate(object: Schema) -> Schema {
    let about = "`perUnit` has `unitPrice`, `graduated` and `volume` have `tiers`, `package` has `size` and `packagePrice`.";
    object
        .takes("model", Schema::words_in_any_case(&["perUnit", "graduated", "volume", "package"]).about(about))
        .takes("included", Schema::number().with("minimum", 0).about("Units that cost nothing."))
        .takes("unitPrice", price())
        .takes("tiers", tiers())
        .takes("size", positive())
        .takes("packagePrice", price())
}

fn rate() -> Schema {
    with_rate(Schema::object()).and_nothing_else().named("Rate")
}

fn by_dimension() -> Schema {
    let values = Schema::map(rate())
        .with("maxProperties", VALUES_MAX)
        .with("propertyNames", json!({"minLength": 1, "maxLength": DIMENSION_VALUE_BYTES_MAX}));
    Schema::object()
        .has("dimension", Schema::text().with("minLength", 1).with("maxLength", DIMENSION_KEY_BYTES_MAX))
        .has("values", values)
        .takes("default", rate().about("For all other events together, which are free without it."))
        .and_nothing_else()
        .named("RatesByDimension")
}

fn one_price() -> Schema {
    let price_of_meter = Schema::object()
        .has("meter", Schema::text().with("minLength", 1).with("maxLength", event::NAME_BYTES_MAX))
        .takes("id", id().about("Without it the meter."))
        .takes("name", name())
        .takes("aggregation", Schema::words_in_any_case(&["sum", "count", "max", "latest", "unique"]).about("Without it `sum`."))
        .takes("uniqueDimension", Schema::text().about("Whose different values `unique` counts."))
        .takes("minimum", price().about("What it comes to at least."))
        .takes("byDimension", by_dimension().about("In place of a model."));
    with_rate(price_of_meter).and_nothing_else().named("Price")
}

fn fields() -> Schema {
    let fee = Schema::object()
        .has("id", id())
        .has("amount", price().about("For a month."))
        .takes("name", name())
        .takes("due", Schema::words_in_any_case(&["advance", "arrears"]).about("Without it `arrears`."))
        .and_nothing_else()
        .named("Fee");
    Schema::object()
        .has("id", id())
        .has("currency", currency())
        .takes("name", name())
        .takes("productId", Schema::text().with("maxLength", ID_BYTES_MAX).about("Without it `1`."))
        .takes("billingPeriod", Schema::words_in_any_case(&["month"]).about("Calendar months in UTC."))
        .takes("minimum", price().about("What all usage of a month comes to at least."))
        .takes("fees", Schema::array(fee).with("maxItems", FEES_MAX))
        .takes("prices", Schema::array(one_price()).with("maxItems", PRICES_MAX))
}

/// A plan as it is sent, and as an invoice has it.
pub(in crate::api::billing) fn terms() -> Schema {
    fields().and_nothing_else().named("NewPlan")
}

fn plan() -> Schema {
    fields().has("version", Schema::integer().with("minimum", 1)).has("createdAt", Schema::time()).and_nothing_else().named("Plan")
}

fn a_plan() -> Value {
    json!({
        "id": "pro", "name": "Pro", "productId": "1", "currency": "USD", "billingPeriod": "month",
        "fees": [{"id": "base", "name": "Base fee", "amount": 49, "due": "advance"}],
        "prices": [{"id": "tokens", "name": "tokens", "meter": "tokens", "aggregation": "sum", "model": "graduated", "included": 1000,
            "tiers": [{"upTo": 10000, "unitPrice": 0.002}, {"unitPrice": 0.001}]}],
    })
}

fn a_version() -> Value {
    let mut plan = a_plan();
    plan["version"] = 1.into();
    plan["createdAt"] = "2026-01-01T00:00:00.000Z".into();
    plan
}

pub(super) fn list() -> Operation {
    Operation::new("listPlans", "List plans")
        .needs(Scope::Read)
        .answers("The newest version of each", Schema::object().has("plans", Schema::array(plan())).named("Plans"))
        .example(json!({"plans": [a_version()]}))
}

pub(super) fn create() -> Operation {
    let about = format!(
        "Under an id that is there it becomes the next version, unless the newest one says the same: versions never change, and who was assigned one \
         keeps it. A flat fee, a price per unit, graduated and volume tiers, packages, included quantities, minimums, prices by the value of a dimension. A \
         plan has at most {RATES_MAX} rates."
    );
    Operation::new("createPlan", "Make a plan, or its next version")
        .about(&about)
        .needs(Scope::Admin)
        .body(terms(), a_plan())
        .answers("The plan with its version", plan())
        .example(a_version())
}

pub(super) fn show() -> Operation {
    Operation::new("getPlan", "Read a plan")
        .needs(Scope::Read)
        .path("planId", Schema::text())
        .query("version", Schema::integer_in(0..=i64::from(u32::MAX)).about("Without it the newest."))
        .answers("The plan", plan())
        .may_be_unknown()
}
