//! Promise 11: an account sees its own. Every route there is, of every dialect, as the server describes them, is called with another account's
//! ids in every parameter and every field: it answers nothing of that account and changes nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{Client, DAY_0_S, DAY_S, Gateway, MadeKey, event};

/// Stands in everything that is the other account's, and in no request of ours.
const SECRET: &str = "topsecret";
/// The same for numbers.
const SECRET_NUMBER: &str = "424242";
/// What stands in the examples of the description, and what the other account has of it.
const NATURAL: [(&str, &str); 5] =
    [("acme-7", "acme-customer"), ("tokens", "acme-meter"), ("calls", "acme-meter"), ("pro", "acme-plan"), ("u-1", "acme-event")];
/// The ids that stand in every text of a body one at a time; the others in all of them at once.
const ONE_AT_A_TIME: [&str; 4] = ["acme-customer", "acme-meter", "acme-plan", "acme-order"];
/// Calls that are under way at a time.
const CALLERS: usize = 8;

/// A route behind a key.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) method: String,
    /// With its parameters in braces.
    pub(crate) template: String,
    /// Names of the parameters of its query, and whether they must be there.
    parameters: Vec<(String, bool)>,
    /// An example of its body, if it takes one.
    body: Option<Value>,
}

/// Every route behind a key: nothing is routed that is not described.
pub(crate) fn routes(gateway: &Gateway) -> Vec<Route> {
    let description = gateway.with_key(None).get_from_main("/openapi.json").refused(200).json();
    let mut routes = Vec::new();
    for (template, operations) in description["paths"].as_object().expect("an object") {
        for (method, operation) in operations.as_object().expect("an object") {
            if operation["security"] == json!([]) {
                continue;
            }
            let parameters = operation["parameters"].as_array().expect("an array").iter().filter(|one| one["in"] == "query");
            let named = |one: &Value| (one["name"].as_str().expect("a name").to_owned(), one["required"] == true);
            routes.push(Route {
                method: method.to_uppercase(),
                template: template.clone(),
                parameters: parameters.map(named).collect(),
                body: operation["requestBody"]["content"]["application/json"].get("example").cloned(),
            });
        }
    }
    routes
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
        let octane =
            json!({"contact_info": {"city": SECRET}, "tags": [SECRET], "measurement_mappings": [{"label": "note", "value_regex": SECRET}]});
        client.call("PUT", "/octane/customers/acme-customer", &octane.to_string()).refused(200);
        client.call("PATCH", "/stigg/api/v1/customers/acme-customer", &json!({"billingId": SECRET}).to_string()).refused(200);
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
            "/octane/customers",
            "/octane/customers/acme-customer/subscriptions",
            "/octane/meters",
            "/stigg/api/v1/customers/acme-customer",
        ] {
            let answer = client.get(path).refused(200);
            let says = [SECRET, SECRET_NUMBER, "acme-plan"].iter().any(|secret| answer.text().contains(secret));
            assert!(path == "/v1/audit" || says, "{path}: {}", answer.shown());
            seen.insert(path, answer.json());
        }
        seen
    }
}

/// What of the other account's a parameter may be about, judged by its name, if it must be something.
fn natural(name: &str, id: &str) -> String {
    let name = name.to_lowercase();
    let is = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if name.ends_with("inseconds") {
        return (if name.starts_with("end") { DAY_0_S + DAY_S } else { DAY_0_S }).to_string();
    }
    let text = match () {
        () if is(&["interval", "window"]) => "DAY",
        () if is(&["time", "date", "from"]) => "2026-01-01T00:00:00Z",
        () if is(&["meter", "feature"]) => "acme-meter",
        () if is(&["customer", "subject"]) => "acme-customer",
        () if is(&["plan"]) => "acme-plan",
        () => id,
    };
    text.to_owned()
}

impl Route {
    /// Its paths with this id in every parameter, and, where there are several, with the customer's in the first.
    fn paths(&self, id: &str) -> BTreeSet<String> {
        let filled = |first: &str| {
            let mut next = first;
            let mut fill =
                |segment: &str| if segment.starts_with('{') { std::mem::replace(&mut next, id).to_owned() } else { segment.to_owned() };
            self.template.split('/').map(&mut fill).collect::<Vec<_>>().join("/")
        };
        let is_several = self.template.matches('{').count() > 1;
        BTreeSet::from([filled(id), filled(if is_several { "acme-customer" } else { id })])
    }

    /// Its queries with this id in every parameter, one at a time; and in one that says whose things are meant, wherever somebody reads it.
    fn queries(&self, id: &str) -> BTreeSet<String> {
        let required = |but: &str| {
            let others = self.parameters.iter().filter(|(name, is_required)| *is_required && name != but);
            others.map(|(name, _)| format!("&{name}={}", natural(name, id))).collect::<String>()
        };
        let one = |name: &str| format!("?{name}={id}{}", required(name));
        let mut queries: BTreeSet<_> = self.parameters.iter().map(|(name, _)| one(name)).collect();
        queries.insert(one("account"));
        let all = self.parameters.iter().map(|(name, _)| format!("{name}={}", natural(name, id))).collect::<Vec<_>>();
        if !all.is_empty() {
            queries.insert(format!("?{}", all.join("&")));
        }
        queries
    }

    /// Its bodies: the example with this id in all texts, and with what the other account has in place of what the example is about, and
    /// then with this id in one text after the other; and what is no such body.
    fn bodies(&self, id: &str) -> BTreeSet<String> {
        let Some(example) = &self.body else { return BTreeSet::from([String::new()]) };
        let mut bodies = BTreeSet::from([json!([id]).to_string(), with_texts(example, |_, _| Some(id.into())).to_string()]);
        let natural = with_texts(example, |_, text| NATURAL.iter().find(|(known, _)| *known == text).map(|(_, own)| (*own).to_owned()));
        if self.template.starts_with("/usage") {
            bodies.extend(usage_bodies(id));
        }
        if !ONE_AT_A_TIME.contains(&id) {
            return bodies;
        }
        bodies.extend([String::new(), natural.to_string()]);
        let mut texts = 0;
        with_texts(example, |at, _| {
            texts = at + 1;
            None
        });
        bodies.extend((0..texts).map(|changed| with_texts(&natural, |at, _| (at == changed).then(|| id.to_owned())).to_string()));
        bodies
    }
}

/// A value with other texts: `change` gets the number of each text and the text.
fn with_texts(value: &Value, mut change: impl FnMut(usize, &str) -> Option<String>) -> Value {
    fn walk(value: &Value, at: &mut usize, change: &mut dyn FnMut(usize, &str) -> Option<String>) -> Value {
        match value {
            Value::String(text) => {
                *at += 1;
                change(*at - 1, text).map_or_else(|| value.clone(), Value::String)
            }
            Value::Array(items) => items.iter().map(|item| walk(item, at, change)).collect(),
            Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), walk(member, at, change))).collect(),
            other => other.clone(),
        }
    }
    walk(value, &mut 0, &mut change)
}

/// Questions about usage, with this id where one can stand.
fn usage_bodies(id: &str) -> Vec<String> {
    let range = json!({"startTimeInSeconds": DAY_0_S, "endTimeInSeconds": DAY_0_S + DAY_S});
    let query = |meter: &str, filter: Value, group: &str| json!({"meterApiName": meter, "aggregation": "SUM", "timeGroupingInterval": "DAY", "timeRange": range, "filter": filter, "groupBy": [group]});
    let queries = [
        query(id, json!({}), "customerId"),
        query("acme-meter", json!({"customerId": [id]}), "note"),
        query("acme-meter", json!({"note": [id]}), "customerId"),
    ];
    queries.iter().map(Value::to_string).chain([json!(queries).to_string()]).collect()
}

/// A call of a route.
struct Call {
    method: String,
    path: String,
    body: String,
    /// Whether another account's id stands in the path.
    is_about_another: bool,
}

fn calls(route: &Route, ids: &[String]) -> Vec<Call> {
    let mut calls = Vec::new();
    for id in ids {
        for path in route.paths(id) {
            let is_about_another = route.template.contains('{');
            let call = |query: &str, body: &str| Call {
                method: route.method.clone(),
                path: format!("{path}{query}"),
                body: body.to_owned(),
                is_about_another,
            };
            let (queries, bodies) = (route.queries(id), route.bodies(id));
            let example = bodies.iter().max_by_key(|body| body.len()).expect("at least one");
            calls.extend(queries.iter().map(|query| call(query, example)));
            calls.extend(bodies.iter().map(|body| call("", body)));
        }
    }
    calls
}

/// Makes calls, some at a time; how many, and how many were refused.
fn make(calls: &[Call], client: &Client) -> (usize, usize) {
    let (next, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while let Some(Call { method, path, body, is_about_another }) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = client.call(method, path, body);
                    refused.fetch_add(usize::from(answer.status >= 400), Ordering::Relaxed);
                    let cell = format!("{method} {path} {body}: {}", answer.shown());
                    assert!(answer.status < 500, "{cell}");
                    assert!(!answer.text().contains(SECRET) && !answer.text().contains(SECRET_NUMBER), "{cell}");
                    if *is_about_another {
                        assert!([400, 403, 404, 405].contains(&answer.status), "{cell}");
                    }
                }
            });
        }
    });
    (calls.len(), refused.into_inner())
}

#[test]
fn no_route_answers_or_changes_anything_of_another_account_whatever_id_is_given() {
    let world = World::new();
    let globex = world.gateway.with(&world.globex);
    let before = world.seen_by_acme();
    let all = routes(&world.gateway);
    assert!(all.len() >= 80, "{all:?}");
    let of = |route: &Route| {
        let is_billing = ["/payments", "/v1/plans", "/v1/invoices", "/balance"].iter().any(|part| route.template.contains(part));
        calls(route, &world.ids[..if is_billing { world.ids.len() } else { IDS }])
    };
    // Where an id stands in the path first, before our own of the same name are made.
    let (about_another, others): (Vec<_>, Vec<_>) = all.iter().flat_map(of).partition(|call| call.is_about_another);
    let (called, refused) =
        [about_another, others].map(|calls| make(&calls, &globex)).into_iter().fold((0, 0), |sum, made| (sum.0 + made.0, sum.1 + made.1));
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
    for route in routes(&world.gateway) {
        let (path, body) =
            (route.paths("acme").pop_first().expect("a path"), route.body.as_ref().map(Value::to_string).unwrap_or_default());
        for (stranger, status) in &strangers {
            let answer = stranger.call(&route.method, &path, &body);
            assert_eq!(answer.status, *status, "{} {path}: {}", route.method, answer.shown());
        }
    }
    let disabled = strangers[3].0.get("/customers");
    assert_eq!(disabled.json()["message"], "the account of this API key is disabled");
    assert_eq!(world.seen_by_acme(), before);
}

#[test]
fn every_route_of_the_contract_s_own_paths_is_in_the_table() {
    let found: BTreeSet<String> =
        routes(&Gateway::start()).into_iter().map(|route| format!("{} {}", route.method, route.template)).collect();
    for known in [
        "POST /ingest",
        "GET /customers",
        "PUT /customers/stage",
        "DELETE /customers/{customerId}",
        "PUT /meter-definition",
        "DELETE /meter-definition/{meterApiName}",
        "POST /meter-event-filtering-rules",
        "POST /usage",
        "GET /v1/events/{uniqueId}",
        "DELETE /v1/keys/{keyId}",
        "POST /v1/accounts/{name}/disable",
        "GET /v1/audit",
        "POST /payments-pricing-amberflo-customer-pricing",
        "POST /payments/pricing/amberflo/customer-prepaid",
        "POST /v1/invoices/{invoiceId}/pay",
        "POST /octane/measurements/multi",
        "PUT /octane/customers/{name}",
        "POST /octane/customers/{name}/usage_by_time",
        "PATCH /stigg/api/v1/customers/{customerId}",
        "POST /stigg/api/v1/usage",
        "GET /openmeter/api/v1/meters/{meterIdOrSlug}/query",
        "POST /stigg/api/v1/events",
        "POST /openmeter/api/v1/events",
    ] {
        assert!(found.contains(known), "{known} is not in {found:?}");
    }
}
