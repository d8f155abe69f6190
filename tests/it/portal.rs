//! A link to the customers' page shows one customer of one account what it used and owes, and reads nothing else, for as long as it is good.

use serde_json::{Value, json};

use crate::accounts::routes;
use crate::harness::{Answer, Client, DAY_S, Gateway, Setup, Shared, event};

const HOSTILE: &str = "<script>alert('x')</script>\"&";
/// What every page's head must say.
const GUARDS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("x-robots-tag", "noindex"),
];

fn now_s() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(since.as_secs()).expect("a time")
}

/// A browser that opened a link.
struct Visitor {
    client: Client,
    /// `/portal/{session}`.
    path: String,
    token: String,
}

impl Visitor {
    /// Asks for a link and opens it.
    #[track_caller]
    fn of(client: &Client, body: &Value) -> Self {
        let session = client.post("/session", &[], body.to_string()).refused(200);
        assert_eq!(session.header("cache-control"), Some("no-store"));
        let session = session.json();
        let (url, token) = (session["url"].as_str().expect("a url"), session["sessionToken"].as_str().expect("a token").to_owned());
        let (_, link) = url.split_once("//").and_then(|(_, rest)| rest.split_once('/')).expect("an absolute url");
        let path = format!("/{}", link.strip_suffix(&format!("/{token}")).expect("the token is its end"));
        let visitor = Self { client: client.with_key(None), path, token };
        let opened = visitor.client.get(&format!("/{link}")).refused(303);
        assert_eq!(opened.header("location"), Some("./"));
        let cookie = opened.header("set-cookie").expect("a cookie").to_owned();
        assert!(cookie.starts_with(&format!("tollgate_portal={};", visitor.token)), "{cookie}");
        assert!(cookie.contains("HttpOnly; SameSite=Lax") && !cookie.contains("Path"), "{cookie}");
        visitor
    }

    #[track_caller]
    fn see(&self, path: &str) -> Answer {
        let cookie = format!("other=1; tollgate_portal={}", self.token);
        let answer = self.client.get_with(&format!("{}{path}", self.path), &[("cookie", &cookie)]);
        for (name, value) in GUARDS {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert!(
            answer.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'; style-src 'sha256-"))
        );
        answer
    }
}

fn acme(gateway: &Client) -> Visitor {
    Visitor::of(gateway, &json!({"customerId": "acme"}))
}

/// What it used today and before, a plan, an order.
fn sell(client: &Client, customer: &str) {
    let today = now_s() / DAY_S * DAY_S;
    let used = |n: i64| {
        let sent = event(&format!("{customer}-{n}")).customer(customer).meter("api <calls>");
        sent.at((today - n * DAY_S) * 1_000 + 1).value(["1000.5", "500.25", "7"][n as usize])
    };
    client.send(&[used(0), used(1), used(2)]).logged(3);
    client.settled_metrics();
    let plan = json!({"id": "pro", "name": "Pro <b>", "currency": "USD", "fees": [{"id": "base", "name": "Base fee", "amount": 1234.5, "due": "advance"}],
                      "prices": [{"meter": "api <calls>", "model": "perUnit", "included": 7, "unitPrice": 0.01}]});
    client.post("/v1/plans", &[], plan.to_string()).refused(200);
    let assignment = json!({"customerId": customer, "productPlanId": "pro", "startTimeInSeconds": today - 40 * DAY_S});
    client.post("/payments/pricing/amberflo/customer-pricing", &[], assignment.to_string()).refused(200);
    let order = json!({"id": "o-1", "customerId": customer, "startTimeInSeconds": today - 40 * DAY_S, "prepaidPrice": 5000});
    client.post("/payments/pricing/amberflo/customer-prepaid", &[], order.to_string()).refused(200);
}

fn invoice_ids(client: &Client, customer: &str) -> Vec<String> {
    let path = format!("/payments-billing-customer-product-invoice?customerId={customer}");
    let invoices = client.get(&path).refused(200).json();
    let ids = invoices.as_array().expect("an array").iter().map(|invoice| invoice["invoiceId"].as_str().expect("an id").to_owned());
    ids.collect()
}

#[test]
fn a_link_shows_what_was_just_sent_and_sold() {
    let gateway = Gateway::start();
    let customer = json!({"customerId": "acme", "customerName": "Acme & Söhne"});
    gateway.post("/customers", &[], customer.to_string()).refused(200);
    sell(&gateway, "acme");
    let visitor = Visitor::of(&gateway, &json!({"customerId": "acme", "returnUrl": "https://shop.test/back?a=1&b=2"}));
    let page = visitor.see("/").refused(200);
    for shown in [
        "Acme &#38; Söhne",
        "api &#60;calls&#62;",
        "<strong>1,507.75</strong> in total",
        "1,000.5",
        "Pro &#60;b&#62;",
        "5,000.00 USD",
        "href=\"https://shop.test/back?a=1&#38;b=2\"",
    ] {
        assert!(page.text().contains(shown), "{shown} is not in {}", page.text());
    }
    // The largest day fills the plot, half of it is half as tall.
    assert!(page.text().contains("y=\"0\" width=\"8\" height=\"1000\"") && page.text().contains("y=\"500\" width=\"8\" height=\"500\""));
    for (range, days) in [("7", 7), ("30", 30), ("90", 90), ("nonsense", 30)] {
        assert_eq!(visitor.see(&format!("/?range={range}")).refused(200).text().matches("<rect ").count(), days);
    }
    let ids = invoice_ids(&gateway, "acme");
    assert!(ids.len() >= 2, "two months at least: {ids:?}");
    for id in &ids {
        assert!(page.text().contains(&format!("href=\"invoices/{id}\"")), "{id}");
        let invoice = visitor.see(&format!("/invoices/{id}")).refused(200);
        for shown in ["Base fee", "Flat fee, in advance.", "Total", id] {
            assert!(invoice.text().contains(shown), "{shown} is not in {}", invoice.text());
        }
    }
    let newest = visitor.see(&format!("/invoices/{}", ids.last().expect("one"))).refused(200);
    assert!(newest.text().contains("Sum of api &#60;calls&#62;: ") && newest.text().contains("at 0.01 USD each"), "{}", newest.text());
    assert_eq!(visitor.see("/invoices").refused(200).text().matches("class=\"status").count(), ids.len());
    // Below the prefix, too.
    let prefixed = Visitor { path: format!("/amberflo{}", visitor.path), client: visitor.client.clone(), token: visitor.token.clone() };
    prefixed.see("/").refused(200);
    println!("the page has {} bytes", page.text().len());
}

#[test]
fn whoever_has_used_nothing_gets_a_page_that_says_so() {
    let gateway = Gateway::start();
    let page = Visitor::of(&gateway, &json!({"customerId": HOSTILE})).see("/").refused(200);
    assert!(page.text().contains("Nothing was used in these days.") && page.text().contains("There are no invoices yet."));
    assert!(!page.text().contains("<script") && page.text().contains("&#60;script&#62;alert"), "{}", page.text());
}

#[test]
fn many_meters_are_shown_page_by_page() {
    let gateway = Gateway::start();
    let today = now_s() * 1_000;
    let events: Vec<_> = (0..20).map(|n| event(&format!("u-{n}")).customer("acme").meter(&format!("meter-{n:02}")).at(today)).collect();
    gateway.send(&events).logged(20);
    gateway.settled_metrics();
    let visitor = acme(&gateway);
    let mut seen = Vec::new();
    for page in ["", "&page=2", "&page=3", "&page=999999999999999999999"] {
        let page = visitor.see(&format!("/?range=7{page}")).refused(200);
        let names = page.text().split("<h3>").skip(1).map(|rest| rest.split_once('<').expect("a name").0.to_owned());
        seen.extend(names);
        assert!(page.text().contains(" of 20</span>"));
    }
    seen.dedup();
    let expected: Vec<_> = (0..20).map(|n| format!("meter-{n:02}")).collect();
    assert_eq!(seen[..20], expected);
}

#[test]
fn a_token_reads_nothing_but_its_pages() {
    let gateway = Gateway::start();
    sell(&gateway, "acme");
    sell(&gateway, "globex");
    let visitor = acme(&gateway);
    let nobody = gateway.with_key(None);
    let mut called = 0;
    for route in routes(&gateway) {
        let (method, path) = (route.method, route.template.replace(['{', '}'], ""));
        for headers in [
            vec![("x-api-key", visitor.token.clone())],
            vec![("authorization", format!("Bearer {}", visitor.token))],
            vec![("cookie", format!("tollgate_portal={}", visitor.token))],
        ] {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = nobody.call_with(&headers, &method, &format!("{path}?customerId=acme"), "");
            assert!([401, 404].contains(&answer.status), "{method} {path}: {}", answer.shown());
            called += 1;
        }
    }
    assert!(called > 100, "{called}");
    for (method, path) in [("POST", "/"), ("PUT", "/"), ("DELETE", "/invoices"), ("PATCH", "/invoices/x")] {
        let cookie = format!("tollgate_portal={}", visitor.token);
        let path = format!("{}{path}", visitor.path);
        nobody.call_with(&[("cookie", &cookie)], method, &path, "").refused(405);
    }
    // What is another customer's is not there.
    let (own, others) = (invoice_ids(&gateway, "acme"), invoice_ids(&gateway, "globex"));
    visitor.see(&format!("/invoices/{}", own[0])).refused(200);
    for id in others.iter().map(String::as_str).chain(["x", "AAAA", "..%2f..%2fusage", "%ff"]) {
        let answer = visitor.see(&format!("/invoices/{id}")).refused(404);
        assert!(!answer.text().contains("globex"), "{}", answer.text());
    }
    assert!(!visitor.see("/").refused(200).text().contains("globex"));
    // Another session's path takes only that one's cookie.
    let other = Visitor::of(&gateway, &json!({"customerId": "globex"}));
    assert_ne!(other.path, visitor.path);
    let crossed = Visitor { path: other.path.clone(), client: visitor.client.clone(), token: visitor.token.clone() };
    crossed.see("/").refused(401);
    // A key is no token.
    let key = gateway.make_key("default", &["admin"]);
    for wrong in [key.text.as_str(), "", "tgp_", "tgp_AAAA", &visitor.token[..visitor.token.len() - 1]] {
        let cookie = format!("tollgate_portal={wrong}");
        nobody.get_with(&format!("{}/", visitor.path), &[("cookie", &cookie)]).refused(401);
        let opened = nobody.get(&format!("{}/{wrong}", visitor.path.trim_end_matches('/')));
        assert!([303, 401, 404].contains(&opened.status) && opened.header("set-cookie").is_none(), "{}", opened.shown());
    }
    nobody.get_with(&format!("{}/", visitor.path), &[("x-api-key", &key.text)]).refused(401);
}

#[test]
fn a_link_needs_a_key_that_reads_and_says_what_is_wrong() {
    let gateway = Gateway::start();
    let client = |scope: &str| gateway.with(&gateway.make_key("default", &[scope]));
    let body = json!({"customerId": "acme"}).to_string();
    for (scope, status) in [("read", 200), ("admin", 200), ("ingest", 403), ("operator", 403)] {
        client(scope).post("/session", &[], &body).refused(status);
    }
    gateway.post("/amberflo/session/", &[], &body).refused(200);
    gateway.with_key(None).post("/session", &[], &body).refused(401);
    gateway.post("/session", &[], "{}").refused(400).details("customerId is missing");
    gateway.call("GET", "/session", "").refused(405);
    let hosts = |host: &str| {
        let mut wire = gateway.connect();
        let length = body.len();
        let key = crate::harness::ADMIN_KEY;
        wire.write(format!("POST /session HTTP/1.1\r\nHost: {host}\r\nX-API-KEY: {key}\r\nContent-Length: {length}\r\n\r\n{body}"));
        wire.answer()
    };
    let url = |answer: &Answer| answer.json()["url"].as_str().expect("a url").to_owned();
    assert!(url(&hosts("usage.test:81").refused(200)).starts_with("http://usage.test:81/portal/"));
    for hostile in ["a.test:x", "a%41.test", "(a)", "a..b"] {
        hosts(hostile).refused(400);
    }
    let based = Setup::default().variable("TOLLGATE_PORTAL_BASE_URL", "https://usage.acme.test/x/").start();
    let session = based.post("/session", &[("host", "evil.test")], &body).refused(200);
    assert!(url(&session).starts_with("https://usage.acme.test/x/portal/"), "{}", session.shown());
    let path = url(&session)["https://usage.acme.test/x".len()..].to_owned();
    let opened = based.with_key(None).get(&path).refused(303);
    assert!(opened.header("set-cookie").is_some_and(|cookie| cookie.ends_with("; Secure")), "browsers come by https");
}

#[test]
fn a_link_ends_with_its_time_its_key_its_account_and_its_customer() {
    let gateway = Gateway::start();
    let ends = |visitor: &Visitor, why: &str| {
        for path in ["/", "/invoices", "/invoices/x"] {
            let page = visitor.see(path).refused(401);
            assert!(page.text().contains(why), "{}", page.text());
        }
    };
    // Its time.
    let soon = (now_s() + 3) * 1_000;
    let body = json!({"customerId": "brief", "expirationEpochMilliSeconds": soon, "returnUrl": "https://shop.test/"});
    let short = Visitor::of(&gateway, &body);
    short.see("/").refused(200);
    // Its key.
    let key = gateway.make_key("default", &["read"]);
    let visitor = acme(&gateway.with(&key));
    visitor.see("/").refused(200);
    gateway.revoke(&key);
    ends(&visitor, "no longer good");
    // Its customer.
    let customer = json!({"customerId": "acme", "customerName": "Acme"}).to_string();
    let before = acme(&gateway);
    gateway.post("/customers", &[], &customer).refused(200);
    before.see("/").refused(200);
    gateway.send(&[event("u-1").customer("acme").at(now_s() * 1_000)]).logged(1);
    gateway.settled_metrics();
    assert!(before.see("/").refused(200).text().contains("<svg"));
    gateway.delete("/customers/acme").refused(200);
    ends(&before, "no longer good");
    let refused = gateway.post("/session", &[], json!({"customerId": "acme"}).to_string()).refused(400);
    assert_eq!(refused.json()["code"], "NOT_FOUND");
    gateway.post("/customers", &[], &customer).refused(200);
    ends(&before, "no longer good");
    let again = acme(&gateway).see("/").refused(200);
    assert!(again.text().contains("Nothing was used"), "what the other one used is not shown: {}", again.text());
    // Its account.
    gateway.make_account("globex");
    let visitor = acme(&gateway.with(&gateway.make_key("globex", &["read"])));
    visitor.see("/").refused(200);
    gateway.post("/v1/accounts/globex/disable", &[], "").refused(200);
    ends(&visitor, "no longer good");
    let ended = crate::harness::wait_for("the time of the link", || Some(short.see("/")).filter(|page| page.status == 401));
    assert!(ended.text().contains("has expired") && ended.text().contains("https://shop.test/"), "{}", ended.text());
}

#[test]
fn a_link_is_good_after_a_restart_and_is_in_no_log_line() {
    let mut gateway = Gateway::start();
    let visitor = acme(&gateway);
    let mut said = gateway.stderr();
    gateway.stop_and_restart();
    let again = Visitor { client: gateway.with_key(None), ..visitor };
    again.see("/").refused(200);
    said += &gateway.stderr();
    assert!(!said.contains(&again.token) && !gateway.get("/metrics").text().contains(&again.token));
}

#[test]
fn a_customer_that_asks_for_page_after_page_waits_and_others_do_not() {
    let gateway = Gateway::start();
    let (greedy, other) = (acme(&gateway), Visitor::of(&gateway, &json!({"customerId": "globex"})));
    let refused = crate::harness::wait_for("a refusal", || Some(greedy.see("/")).filter(|page| page.status == 429));
    assert!(refused.header("retry-after").is_some() && refused.text().contains("Wait a moment"));
    other.see("/").refused(200);
    gateway.send(&[event("u-1")]).logged(1);
}

#[test]
fn a_link_that_one_node_gave_out_is_good_on_every_other_and_ends_there_too() {
    let shared = Shared::of_one_partition();
    let node = || Setup::default().node_of(&shared).start();
    let (one, other) = (node(), node());
    sell(&one, "acme");
    let key = one.make_key("default", &["read"]);
    let given = acme(&one.with(&key));
    let elsewhere = Visitor { client: other.with_key(None), path: given.path.clone(), token: given.token.clone() };
    let page = elsewhere.see("/").refused(200);
    assert!(page.text().contains("<strong>1,507.75</strong> in total"), "{}", page.text());
    one.revoke(&key);
    given.see("/").refused(401);
    crate::harness::wait_for("the other node to hear of it", || (elsewhere.see("/").status == 401).then_some(()));
}
