//! Plans, prepaid orders and invoices over HTTP, as Amberflo's clients call them and on Tollgate's own routes.

use serde_json::{Value, json};

use crate::harness::{Client, DAY_0_S, DAY_S, Gateway, Setup, event, wait_for};

/// Begin of February and of March 2026, in s since 1970.
const FEBRUARY_S: i64 = DAY_0_S + 31 * DAY_S;
const MARCH_S: i64 = FEBRUARY_S + 28 * DAY_S;

/// What the seed's paths are called.
const DASHED_PRICING: &str = "/payments-pricing-amberflo-customer-pricing";
const DASHED_PREPAID: &str = "/payments-pricing-amberflo-customer-prepaid";
const DASHED_INVOICES: &str = "/payments-billing-customer-product-invoice";
/// What the SDKs' are called.
const PRICING: &str = "/payments/pricing/amberflo/customer-pricing";
const PREPAID: &str = "/payments/pricing/amberflo/customer-prepaid";
const INVOICE: &str = "/payments/billing/customer-product-invoice";

fn plan() -> Value {
    json!({"id": "pro", "name": "Pro", "currency": "USD", "fees": [{"id": "base", "name": "Base fee", "amount": 10, "due": "advance"}],
           "prices": [{"meter": "calls", "model": "graduated", "included": 10, "tiers": [{"upTo": 100, "unitPrice": 0.1}, {"unitPrice": 0.05}]}]})
}

/// Answers with 200 and JSON.
#[track_caller]
fn post(client: &Client, path: &str, body: &Value) -> Value {
    client.post(path, &[], body.to_string()).refused(200).json()
}

#[track_caller]
fn get(client: &Client, path: &str) -> Value {
    client.get(path).refused(200).json()
}

#[track_caller]
fn assign(client: &Client, customer: &str, plan: &str, start_s: i64) {
    post(client, PRICING, &json!({"customerId": customer, "productPlanId": plan, "productId": "1", "startTimeInSeconds": start_s}));
}

fn send(client: &Client, id: &str, customer: &str, time_s: i64, calls: &str) {
    client.send(&[event(id).customer(customer).meter("calls").at(time_s * 1_000).value(calls)]).logged(1);
}

/// Times of this run replaced.
fn redacted(mut value: Value, names: &[&str]) -> Value {
    match &mut value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                let is_time = names.contains(&name.as_str()) && !member.is_null();
                *member = if is_time { "[redacted]".into() } else { redacted(member.take(), names) };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = redacted(item.take(), names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

/// As the wire has it, member by member.
fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

#[test]
fn plans_are_made_versioned_and_listed() {
    let gateway = Gateway::start();
    let made = post(&gateway, "/v1/plans", &plan());
    insta::assert_snapshot!("plan", pretty(&redacted(made.clone(), &["createdAt"])));
    assert_eq!(post(&gateway, "/v1/plans", &plan()), made, "the same once more is the same version");
    let mut dearer = plan();
    dearer["fees"][0]["amount"] = json!(12.5);
    assert_eq!(post(&gateway, "/v1/plans/", &dearer)["version"], 2);
    assert_eq!(get(&gateway, "/v1/plans/pro")["version"], 2);
    assert_eq!(get(&gateway, "/v1/plans/pro?version=1"), made);
    assert_eq!(get(&gateway, "/v1/plans")["plans"].as_array().map(Vec::len), Some(1));
    gateway.get("/v1/plans/pro?version=3").refused(404);
    gateway.get("/v1/plans/pro?version=one").refused(400).details("version must be a whole number from 1 on");
    gateway.get("/v1/plans/other").refused(404);
    let mut wrong = plan();
    wrong["prices"][0]["tiers"][0]["upTo"] = json!(-1);
    gateway.post("/v1/plans", &[], wrong.to_string()).refused(400).details("prices[0].tiers[0].upTo must not be negative");
    assign(&gateway, "acme", "never made", DAY_0_S);
    let listed = get(&gateway, "/payments/pricing/amberflo/account-pricing/product-plans/list");
    insta::assert_snapshot!("product_plans", pretty(&redacted(listed, &["lastUpdateTimeInMillis"])));
    let one = get(&gateway, "/payments/pricing/amberflo/account-pricing/product-plans?productPlanId=default");
    assert_eq!((&one["id"], &one["isDefault"]), (&json!("default"), &json!(true)));
    gateway.get("/payments/pricing/amberflo/account-pricing/product-plans?productPlanId=other").refused(404);
    gateway.get("/payments/pricing/amberflo/account-pricing/product-plans").refused(400).details("productPlanId is missing");
}

#[test]
fn assignments_have_the_shape_of_the_path_they_came_by() {
    let gateway = Gateway::start();
    let seed = json!({"customerId": "acme", "productId": "pro", "startTime": FEBRUARY_S * 1_000});
    assert_eq!(post(&gateway, DASHED_PRICING, &seed), seed);
    let sdk = json!({"customerId": "acme", "productPlanId": "max", "productId": "1", "startTimeInSeconds": MARCH_S, "endTimeInSeconds": MARCH_S + DAY_S});
    assert_eq!(post(&gateway, &format!("{PRICING}/"), &sdk), sdk);
    // Each takes the other's request.
    let sdk_b = json!({"customerId": "b", "productPlanId": "p", "startTimeInSeconds": MARCH_S});
    assert_eq!(post(&gateway, DASHED_PRICING, &sdk_b), json!({"customerId": "b", "productId": "p", "startTime": MARCH_S * 1_000}));
    let first = json!({"customerId": "acme", "productPlanId": "pro", "productId": "pro", "startTimeInSeconds": FEBRUARY_S});
    assert_eq!(get(&gateway, &format!("{PRICING}/list?CustomerId=acme")), json!([first, sdk]));
    assert_eq!(get(&gateway, &format!("{PRICING}?CustomerId=acme")), sdk);
    assert_eq!(get(&gateway, &format!("{PRICING}?customerId=acme")), sdk);
    assert_eq!(get(&gateway, &format!("{PRICING}?CustomerId=nobody")), Value::Null);
    assert_eq!(get(&gateway, &format!("{PRICING}/list/?CustomerId=nobody")), json!([]));
    gateway.get(PRICING).refused(400).details("CustomerId is missing");
    gateway.post(PRICING, &[], r#"{"customerId":"acme"}"#).refused(400).details("productPlanId is missing, and so is productId");
    let now = post(&gateway, DASHED_PRICING, &json!({"customerId": "c", "productId": "p", "startTime": null}));
    assert!(now["startTime"].as_i64().is_some_and(|start_ms| start_ms > DAY_0_S * 1_000), "{now}");
}

#[test]
fn prepaid_orders_have_the_shape_of_the_path_they_came_by() {
    let gateway = Gateway::start();
    let seed = post(
        &gateway,
        DASHED_PREPAID,
        &json!({"customerId": "acme", "amount": 500.00, "currency": "USD", "expirationTime": 4_102_444_800_000_i64}),
    );
    insta::assert_snapshot!("prepaid_seed", pretty(&redacted(seed, &["createTime", "orderId"])));
    let order = json!({"id": "o-1", "customerId": "acme", "startTimeInSeconds": DAY_0_S, "prepaidPrice": 9.5, "externalPayment": true, "productId": "1",
                       "recurrenceFrequency": {"interval": "MONTH", "intervalsCount": 1}});
    let made = post(&gateway, PREPAID, &order);
    let times = ["createdTimeInSeconds", "modifiedTimeInSeconds", "id", "startTimeInSeconds"];
    insta::assert_snapshot!("prepaid_sdk", pretty(&redacted(made.clone(), &times[..2])));
    assert_eq!(post(&gateway, &format!("{PREPAID}/"), &order), made, "the same once more is the same order");
    let mut other = order.clone();
    other["prepaidPrice"] = json!(9.51);
    gateway.post(PREPAID, &[], other.to_string()).refused(400).details("id is the id of another prepaid order of this customer");
    let listed = get(&gateway, &format!("{PREPAID}/list?CustomerId=acme"));
    insta::assert_snapshot!("prepaid_list", pretty(&redacted(listed, &times)));
    assert_eq!(get(&gateway, &format!("{PREPAID}/list?CustomerId=acme&ProductId=2")), json!([]));
    assert_eq!(get(&gateway, &format!("{PREPAID}/list?CustomerId=nobody")), json!([]));
    let settled = json!({"prepaidUri": "acme/o-1", "paymentStatus": "SETTLED", "systemName": "bank", "paymentId": "p-1", "paymentTimeInSeconds": DAY_0_S});
    assert_eq!(post(&gateway, "/payments/external/prepaid-payment-status", &settled), settled);
    assert_eq!(get(&gateway, &format!("{PREPAID}/list?CustomerId=acme"))[1]["paymentStatus"], "settled");
    let unknown = json!({"prepaidUri": "o-2", "paymentStatus": "SETTLED"});
    gateway.post("/payments/external/prepaid-payment-status", &[], unknown.to_string()).refused(404);
    let deleted = gateway.delete(&format!("{PREPAID}?Id=o-1&CustomerId=acme")).refused(200).json();
    assert_eq!((&deleted["id"], &deleted["internalStatus"]), (&json!("o-1"), &json!("inactive")));
    gateway.delete(&format!("{PREPAID}?Id=o-1&CustomerId=acme")).refused(404);
    assert_eq!(get(&gateway, &format!("{PREPAID}/list?CustomerId=acme")).as_array().map(Vec::len), Some(1));
}

#[test]
fn invoices_are_closed_explained_paid_and_void() {
    let gateway = Gateway::start();
    post(&gateway, "/v1/plans", &plan());
    assign(&gateway, "acme", "pro", DAY_0_S);
    post(&gateway, PREPAID, &json!({"id": "o", "customerId": "acme", "startTimeInSeconds": DAY_0_S, "prepaidPrice": 12}));
    send(&gateway, "u-1", "acme", DAY_0_S, "120");
    assert_eq!(get(&gateway, &format!("{DASHED_INVOICES}?customerId=nobody")), json!([]));
    gateway.get(DASHED_INVOICES).refused(400).details("customerId is missing");
    // January and February of 2026 are long over; both are closed with the first look.
    let seed = gateway.get(&format!("{DASHED_INVOICES}?customerId=acme")).refused(200);
    assert_eq!(seed.header("tollgate-complete"), Some("true"));
    insta::assert_snapshot!("invoices_seed", pretty(&redacted(Value::from(seed.json().as_array().expect("an array")[..2].to_vec()), &[])));
    let all = get(&gateway, &format!("{INVOICE}/all/?customerId=acme&fromCache=false&withPaymentStatus=true"));
    let january = &all[0];
    insta::assert_snapshot!("invoice_sdk", pretty(january));
    let id = january["invoiceUri"].as_str().expect("an id").to_owned();
    assert_eq!(get(&gateway, &format!("{INVOICE}?customerId=acme&productPlanId=pro&productId=1&year=2026&month=1&day=1")), *january);
    assert_eq!(get(&gateway, &format!("{INVOICE}?customerId=acme&productPlanId=other&year=2026&month=1&day=1")), Value::Null);
    let latest = get(&gateway, &format!("{INVOICE}?customerId=acme&latest=True"));
    assert_eq!(latest["invoicePriceStatus"], "open");
    gateway.get(&format!("{INVOICE}?customerId=acme&latest=true&day=null")).refused(400).details("day must be a whole number");
    assert_eq!(get(&gateway, &format!("{INVOICE}?customerId=nobody&latest=true")), Value::Null);
    insta::assert_snapshot!("invoice", pretty(&redacted(get(&gateway, &format!("/v1/invoices/{id}")), &["closedAt", "next"])));
    let balance = get(&gateway, "/v1/customers/acme/balance");
    insta::assert_snapshot!("balance", pretty(&balance));
    // What comes late is on the open invoice, and the closed one is what it was.
    send(&gateway, "u-2", "acme", DAY_0_S + 5, "10");
    assert_eq!(get(&gateway, &format!("{INVOICE}/all?customerId=acme"))[0], *january);
    let open_id = latest["invoiceUri"].as_str().expect("an id");
    let open = get(&gateway, &format!("/v1/invoices/{open_id}"));
    let late = open["lines"].as_array().and_then(|lines| lines.last()).expect("a line").clone();
    assert_eq!(late, json!({"kind": "late", "id": id, "name": "Pro", "billedBefore": 10.5, "amount": 0.5}));
    let cost = post(&gateway, "/payments/cost/usage-cost", &json!({"customerId": "acme"}));
    assert_eq!(cost["lines"], open["lines"]);
    gateway.post(&format!("/v1/invoices/{open_id}/pay"), &[], "").refused(400);
    assert_eq!(gateway.post(&format!("/v1/invoices/{id}/pay"), &[], "").refused(200).json()["status"], "paid");
    assert_eq!(gateway.post(&format!("/v1/invoices/{id}/pay"), &[], "").refused(200).json()["status"], "paid");
    gateway.post(&format!("/v1/invoices/{id}/void"), &[], "").refused(400);
    let february = all[1]["invoiceUri"].as_str().expect("an id");
    assert_eq!(gateway.post(&format!("/v1/invoices/{february}/void"), &[], "").refused(200).json()["status"], "void");
    let statuses = get(&gateway, &format!("{DASHED_INVOICES}?customerId=acme"));
    assert_eq!(
        (&statuses[0]["status"], &statuses[1]["status"], &statuses[2]["status"]),
        (&json!("PAID"), &json!("VOID"), &json!("PENDING"))
    );
    gateway.get("/v1/invoices/AAAAAGE").refused(404);
    gateway.get("/v1/customers/nobody/balance").refused(404);
    let closed = json!({"customerId": "acme", "productPlanId": "pro", "startTimeInSeconds": DAY_0_S + DAY_S});
    assert!(gateway.post(PRICING, &[], closed.to_string()).refused(400).text().contains("invoices of this customer are closed"));
}

#[test]
fn what_is_due_is_closed_without_being_asked_and_stays_through_a_restart() {
    let mut gateway = Setup::with("[billing]\nclose_every = '1s'\n").start();
    post(&gateway, "/v1/plans", &plan());
    send(&gateway, "u-1", "acme", DAY_0_S, "120");
    assign(&gateway, "acme", "pro", DAY_0_S);
    wait_for("the closing of what is due", || gateway.stderr().contains("invoices that were due were closed").then_some(()));
    let before = get(&gateway, &format!("{INVOICE}/all?customerId=acme"));
    assert_eq!((&before[0]["invoicePriceStatus"], &before[0]["totalBill"]["totalPrice"]), (&json!("price_locked"), &json!(20.5)));
    gateway.kill_and_restart();
    assert_eq!(get(&gateway, &format!("{INVOICE}/all?customerId=acme")), before);
}

#[test]
fn a_customer_made_again_owes_nothing_old() {
    let gateway = Gateway::start();
    post(&gateway, "/v1/plans", &plan());
    let customer = json!({"customerId": "acme", "customerName": "Acme"});
    post(&gateway, "/customers", &customer);
    assign(&gateway, "acme", "pro", DAY_0_S);
    send(&gateway, "u-1", "acme", DAY_0_S, "120");
    let old = get(&gateway, &format!("{DASHED_INVOICES}?customerId=acme"));
    gateway.delete("/customers/acme").refused(200);
    let left = get(&gateway, &format!("{DASHED_INVOICES}?customerId=acme"));
    assert_eq!(left[0], old[0], "who is gone owes what it owed");
    post(&gateway, "/customers", &customer);
    assert_eq!(get(&gateway, &format!("{DASHED_INVOICES}?customerId=acme")), json!([]));
    assert_eq!(get(&gateway, &format!("{PRICING}/list?CustomerId=acme")), json!([]));
    // Assigned from long ago it begins now.
    assign(&gateway, "acme", "pro", DAY_0_S);
    for invoice in get(&gateway, &format!("{INVOICE}/all?customerId=acme")).as_array().expect("an array") {
        assert_eq!(invoice["totalBill"]["itemPrice"], 0);
    }
    let id = old[0]["invoiceId"].as_str().expect("an id");
    assert_eq!(get(&gateway, &format!("/v1/invoices/{id}"))["totals"]["total"], old[0]["totalAmount"]);
}

#[test]
fn paths_that_are_not_built_say_so_in_every_form() {
    let gateway = Gateway::start();
    for path in [
        "/payments/pricing/amberflo/customer-promotions",
        "/payments/pricing/amberflo/customer-promotions/list?CustomerId=a",
        "/payments/pricing/amberflo/account-pricing/promotions",
        "/payments/pricing/amberflo/account-pricing/promotions/list",
        "/notification",
        "/notification/7",
    ] {
        let answer = gateway.get(path).refused(404);
        assert_eq!(answer.json()["code"], "NOT_FOUND", "{path}");
        gateway.post(path, &[], "{}").refused(404);
    }
    for path in [DASHED_PRICING, PRICING, DASHED_PREPAID, PREPAID, DASHED_INVOICES, INVOICE] {
        let answer = gateway.call("PATCH", &format!("/amberflo{path}/"), "{}").refused(405);
        assert!(answer.header("allow").is_some(), "{path}");
    }
    assert_eq!(get(&gateway, &format!("/amberflo/{DASHED_INVOICES}/?customerId=a")), json!([]));
}
