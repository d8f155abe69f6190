//! Promise 11: an account sees its own. Every route there is, as the sources name them, is called with another account's ids in
//! every parameter: it answers nothing of that account and changes nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Client, DAY_0_S, DAY_S, Gateway, MadeKey, event};

/// Stands in everything that is the other account's, and in no request of ours.
const SECRET: &str = "topsecret";
/// The same for numbers.
const SECRET_NUMBER: &str = "424242";

/// Method and path of every route behind a key, read from the sources of the API; `/ingest` is not in a router.
pub(crate) fn routes() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut sources);
    let mut routes = vec![("POST".to_owned(), "/ingest".to_owned())];
    for source in sources {
        for method in ["get", "post", "put", "patch", "delete"] {
            for after in source.split(&format!(".{method}(\"/")).skip(1) {
                let (path, _) = after.split_once('"').expect("the end of a path");
                routes.push((method.to_uppercase(), format!("/{path}")));
            }
        }
    }
    routes
}

fn read_sources(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_sources(&path, found);
        } else if path.extension().is_some_and(|known| known == "rs")
            && !["tests.rs", "docs.rs"].iter().any(|without| path.ends_with(without))
        {
            found.push(fs::read_to_string(&path).expect("text"));
        }
    }
}

/// How many ids of the other account are not of what it sold.
const IDS: usize = 10;

/// Two accounts, of which one has something of everything.
struct World {
    gateway: Gateway,
    /// Ids of what `acme` has.
    ids: Vec<String>,
    acme: MadeKey,
    globex: MadeKey,
}

impl World {
    fn new() -> Self {
        let gateway = Gateway::start();
        gateway.make_account("acme");
        gateway.make_account("globex");
        let named = |scope: &str| json!({"scopes": [scope], "name": SECRET});
        let (acme, used) = (gateway.make_key_with("acme", named("admin")), gateway.make_key_with("acme", named("ingest")));
        let globex = gateway.make_key("globex", &["admin"]);
        let client = gateway.with(&acme);
        let customer = json!({"customerId": "acme-customer", "customerName": SECRET, "traits": {"note": SECRET}});
        client.post("/customers", &[], customer.to_string()).refused(200);
        let mine = event("acme-event").customer("acme-customer").meter("acme-meter").value(SECRET_NUMBER).dimension("note", SECRET);
        let other_content = mine.clone().value("424242424242");
        let bad = event("acme-bad").dimension("note", SECRET).at(0);
        client.send(&[mine, bad]).logged(1).rejected(1);
        client.send(&[other_content]).logged(1);
        assert_eq!(client.usage("acme-meter").count(), 1);
        let definition = json!({"meterApiName": "acme-meter", "displayName": SECRET, "type": "SUM_OF_ALL_USAGE"});
        client.post("/meter-definition", &[], definition.to_string()).refused(200);
        let rule = json!({"ruleId": "acme-rule", "meterApiName": "acme-meter", "dimensionName": "note", "dimensionValues": [SECRET], "action": "EXCLUDE"});
        client.post("/meter-event-filtering-rules", &[], rule.to_string()).refused(200);
        let price = json!({"meter": "acme-meter", "model": "perUnit", "unitPrice": 1});
        let plan = json!({"id": "acme-plan", "name": SECRET, "currency": "USD", "prices": [price]});
        client.post("/v1/plans", &[], plan.to_string()).refused(200);
        let assignment = json!({"customerId": "acme-customer", "productPlanId": "acme-plan", "startTimeInSeconds": DAY_0_S});
        client.post("/payments/pricing/amberflo/customer-pricing", &[], assignment.to_string()).refused(200);
        let order = json!({"id": "acme-order", "customerId": "acme-customer", "startTimeInSeconds": DAY_0_S, "prepaidPrice": 424242, "productId": SECRET});
        client.post("/payments/pricing/amberflo/customer-prepaid", &[], order.to_string()).refused(200);
        let invoices = client.get("/payments-billing-customer-product-invoice?customerId=acme-customer").refused(200).json();
        let invoice = invoices[0]["invoiceId"].as_str().expect("an id").to_owned();
        let ids = [
            "acme-customer",
            "acme-event",
            "acme-bad",
            "acme-meter",
            "acme-rule",
            "acme",
            &used.id,
            &acme.id,
            "0",
            "1",
            "bootstrap",
            "acme-plan",
            "acme-order",
            &invoice,
        ];
        Self { ids: ids.map(str::to_owned).into(), gateway, acme, globex }
    }

    /// Everything that the account sees of itself.
    fn seen_by_acme(&self) -> BTreeMap<&'static str, Value> {
        let client = self.gateway.with(&self.acme);
        let usage = client.usage("acme-meter").by("customerId").wait_s(30).ask("SUM");
        let mut seen = BTreeMap::from([("usage", json!([usage.groups()]))]);
        for path in [
            "/customers",
            "/meter-definition",
            "/meter-event-filtering-rules?meterApiName=acme-meter",
            "/v1/events",
            "/v1/events/acme-event",
            "/v1/events/acme-bad",
            "/v1/dead-letters",
            "/v1/keys",
            "/v1/audit",
            "/v1/plans",
            "/v1/customers/acme-customer/balance",
            "/payments/pricing/amberflo/customer-pricing/list?CustomerId=acme-customer",
            "/payments/pricing/amberflo/customer-prepaid/list?CustomerId=acme-customer",
            "/payments/billing/customer-product-invoice/all?customerId=acme-customer",
        ] {
            let answer = client.get(path).refused(200);
            let says = [SECRET, SECRET_NUMBER, "acme-plan"].iter().any(|secret| answer.text().contains(secret));
            assert!(path == "/v1/audit" || says, "{path}: {}", answer.shown());
            seen.insert(path, answer.json());
        }
        seen
    }
}

/// Bodies of every route that takes one, with this id in every field that takes one.
fn bodies(id: &str) -> Vec<String> {
    let range = json!({"startTimeInSeconds": DAY_0_S, "endTimeInSeconds": DAY_0_S + DAY_S});
    let query = |meter: &str, filter: Value, group: &str| json!({"meterApiName": meter, "aggregation": "SUM", "timeGroupingInterval": "DAY", "timeRange": range, "filter": filter, "groupBy": [group]});
    let queries = [
        query(id, json!({}), "customerId"),
        query("acme-meter", json!({"customerId": [id]}), "note"),
        query("acme-meter", json!({"note": [id]}), "customerId"),
    ];
    let sent = event(id).customer(id).meter(id);
    let mut bodies: Vec<String> = queries.iter().map(Value::to_string).collect();
    bodies.push(json!(queries).to_string());
    bodies.push(sent.json());
    bodies.extend([
        json!({"customerId": id, "customerName": "mine", "lifecycleStage": "ACTIVE"}).to_string(),
        json!({"meterApiName": id, "displayName": "mine", "type": "MAX_IN_PERIOD"}).to_string(),
        json!({"ruleId": id, "meterApiName": id}).to_string(),
        json!({"ruleId": "acme-rule", "meterApiName": "acme-meter"}).to_string(),
        json!({"name": id, "scopes": ["read"]}).to_string(),
        json!({"name": id}).to_string(),
        json!({"scopes": ["read"]}).to_string(),
        json!({"uniqueIds": [id], "ids": [id], "positions": [id], "account": id, "id": id, "key": id, "uniqueId": id}).to_string(),
        json!({"uniqueIds": [id]}).to_string(),
        json!({"filter": {"account": id, "customerId": id, "meterApiName": id}}).to_string(),
        json!([id]).to_string(),
        String::new(),
    ]);
    bodies
}

/// The same for what is sold and billed.
fn billing_bodies(id: &str) -> Vec<String> {
    vec![
        json!({"id": id, "currency": "EUR", "prices": []}).to_string(),
        json!({"customerId": id, "productPlanId": id, "startTimeInSeconds": DAY_0_S}).to_string(),
        json!({"id": id, "customerId": id, "startTimeInSeconds": DAY_0_S, "prepaidPrice": 1}).to_string(),
        json!({"prepaidUri": id, "paymentStatus": "FAILED"}).to_string(),
        json!({"prepaidUri": "acme-customer/acme-order", "paymentStatus": "FAILED"}).to_string(),
        json!({"customerId": id}).to_string(),
        String::new(),
    ]
}

/// Queries of every route that takes one, with this id in every parameter, one at a time.
fn queries(id: &str) -> Vec<String> {
    const NAMES: [&str; 18] = [
        "account",
        "accountId",
        "customerId",
        "uniqueId",
        "namespace",
        "meterApiName",
        "meter",
        "before",
        "after",
        "id",
        "key",
        "reason",
        "code",
        "limit",
        "CustomerId",
        "productPlanId",
        "version",
        "ProductId",
    ];
    let range = format!("startTimeInSeconds={DAY_0_S}&endTimeInSeconds={}", DAY_0_S + DAY_S);
    let mut queries: Vec<_> = NAMES.iter().map(|name| format!("?{name}={id}")).collect();
    queries.extend([
        String::new(),
        format!("?{range}&timeGroupingInterval=DAY&customerId={id}"),
        format!("?{range}&timeGroupingInterval=DAY&aggregation=SUM&meterApiName={id}"),
        format!("?CustomerId={id}&Id=acme-order"),
        format!("?customerId={id}&year=2026&month=1&day=1&productPlanId=acme-plan"),
    ]);
    queries
}

fn paths(template: &str, id: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { id } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[test]
fn no_route_answers_or_changes_anything_of_another_account_whatever_id_is_given() {
    let world = World::new();
    let globex = world.gateway.with(&world.globex);
    let before = world.seen_by_acme();
    let (mut called, mut refused) = (0, 0);
    let mut all = routes();
    assert!(all.len() >= 20, "{all:?}");
    // Where an id stands in the path first, before our own of the same name are made.
    all.sort_by_key(|(method, path)| (!path.contains('{'), method != "GET"));
    for (method, template) in &all {
        let has_body = ["POST", "PUT", "PATCH"].contains(&method.as_str());
        let is_billing = ["/payments", "/v1/plans", "/v1/invoices", "/balance"].iter().any(|part| template.contains(part));
        for id in world.ids.iter().take(if is_billing { usize::MAX } else { IDS }) {
            let path = paths(template, id);
            let bodies = match (has_body, is_billing) {
                (false, _) => vec![String::new()],
                (true, true) => billing_bodies(id),
                (true, false) => bodies(id),
            };
            let queries = if has_body { vec![String::new(), format!("?account={id}")] } else { queries(id) };
            for (query, body) in queries.iter().flat_map(|query| bodies.iter().map(move |body| (query, body))) {
                let answer = globex.call(method, &format!("{path}{query}"), body);
                called += 1;
                refused += usize::from(answer.status >= 400);
                let cell = format!("{method} {path}{query} {body}: {}", answer.shown());
                assert!(answer.status < 500, "{cell}");
                assert!(!answer.text().contains(SECRET) && !answer.text().contains(SECRET_NUMBER), "{cell}");
                if template.contains('{') {
                    assert!([400, 403, 404].contains(&answer.status), "{cell}");
                }
            }
        }
    }
    println!("{called} calls of {} routes, {refused} of them refused, the others answered from the account's own", all.len());
    assert!(called > 1_000);
    assert_eq!(world.seen_by_acme(), before);
    world.gateway.with(&world.acme).send(&[event("still let in")]).logged(1);
}

#[test]
fn no_route_answers_without_a_key_that_is_good() {
    let world = World::new();
    world.gateway.make_account("closed");
    let (closed, revoked) = (world.gateway.make_key("closed", &["admin"]), world.gateway.make_key("acme", &["admin"]));
    world.gateway.call("POST", "/v1/accounts/closed/disable", "").refused(200);
    world.gateway.revoke(&revoked);
    let before = world.seen_by_acme();
    let strangers: [(Client, u16); 4] = [
        (world.gateway.with_key(None), 401),
        (world.gateway.with_key(Some("tg_0123456789abcdef_wrong")), 401),
        (world.gateway.with(&revoked), 401),
        (world.gateway.with(&closed), 403),
    ];
    for (method, template) in routes() {
        let body = if ["POST", "PUT", "PATCH"].contains(&method.as_str()) { bodies("acme").swap_remove(0) } else { String::new() };
        for (stranger, status) in &strangers {
            let answer = stranger.call(&method, &paths(&template, "acme"), &body);
            assert_eq!(answer.status, *status, "{method} {template}: {}", answer.shown());
        }
    }
    let disabled = strangers[3].0.get("/customers");
    assert_eq!(disabled.json()["message"], "the account of this API key is disabled");
    assert_eq!(world.seen_by_acme(), before);
}

#[test]
fn every_route_of_the_contract_s_own_paths_is_in_the_table() {
    let found: BTreeSet<String> = routes().into_iter().map(|(method, path)| format!("{method} {path}")).collect();
    for known in [
        "POST /ingest",
        "GET /customers",
        "PUT /customers/stage",
        "DELETE /customers/{customer_id}",
        "PUT /meter-definition",
        "DELETE /meter-definition/{meter_api_name}",
        "POST /meter-event-filtering-rules",
        "POST /usage",
        "GET /v1/events/{unique_id}",
        "DELETE /v1/keys/{key_id}",
        "POST /v1/accounts/{name}/disable",
        "GET /v1/audit",
        "POST /payments-pricing-amberflo-customer-pricing",
        "POST /payments/pricing/amberflo/customer-prepaid",
        "POST /v1/invoices/{invoice_id}/pay",
    ] {
        assert!(found.contains(known), "{known} is not in {found:?}");
    }
}
