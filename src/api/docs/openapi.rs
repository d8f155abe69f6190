//! The description of the description.

use hyper::StatusCode;

use crate::openapi::{Operation, Schema};

/// What does not change has a tag, by which it is asked for again.
fn fixed(operation: Operation) -> Operation {
    operation
        .always_with_header("ETag", "For `If-None-Match`.", Schema::text())
        .answers_empty(StatusCode::NOT_MODIFIED, "It has not changed since.")
        .may_be_elsewhere()
        .may_be_unavailable()
}

pub(super) fn description() -> Operation {
    let about = "OpenAPI 3.1, made from the table by which requests are routed.";
    fixed(Operation::new("getOpenApi", "This description").about(about).answers("The description", Schema::map(Schema::any())))
}

pub(super) fn page() -> Operation {
    let operation = Operation::new("getDocs", "A page to read and try it").about("It loads nothing from elsewhere.");
    fixed(operation.answers_with(StatusCode::OK, "The page", "text/html", Schema::text()))
}

pub(super) fn asset() -> Operation {
    let operation = Operation::new("getDocsAsset", "A part of that page").path("asset", Schema::text());
    let operation = operation.answers_with(StatusCode::OK, "The part, in gzip", "text/javascript", Schema::text());
    fixed(operation.answers_with(StatusCode::OK, "The part, in gzip", "text/css", Schema::text())).may_be_unknown()
}
