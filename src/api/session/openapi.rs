//! The description of links to the customers' page.

use hyper::StatusCode;
use serde_json::json;

use crate::accounts::Scope;
use crate::api::openapi::customer_id;
use crate::openapi::{Operation, Schema};
use crate::portal::{AGE, AGE_MAX, RETURN_URL_BYTES_MAX};

pub(super) fn make() -> Operation {
    let about = format!(
        "A page for one customer: usage, plan, balance and invoices. Whoever has the link reads that and nothing else, until it expires: after {} hours, or \
         when the request says so, within {} days. The token is in the link; it is no API key.",
        AGE.as_secs() / 3_600,
        AGE_MAX.as_secs() / 86_400,
    );
    let body = Schema::object()
        .has("customerId", customer_id())
        .takes(
            "expirationEpochMilliSeconds",
            Schema::integer_in(0..=i64::MAX).about("Milliseconds since 1970, in the future; 0 is as good as absent."),
        )
        .takes("returnUrl", Schema::text_to(RETURN_URL_BYTES_MAX).about("Where the page links back to: an http or https address."))
        .named("NewPortalSession");
    let link = Schema::object().has("url", Schema::text()).has("sessionToken", Schema::text()).named("PortalSession");
    Operation::new("createPortalSession", "Make a link to a customer's page")
        .about(&about)
        .needs(Scope::Read)
        .body(body, json!({"customerId": "acme-7", "returnUrl": "https://acme.example/account"}))
        .answers("The link", link)
        .refuses(StatusCode::BAD_REQUEST, "Something is wrong with the request; `NOT_FOUND`: the customer was deleted.")
}
