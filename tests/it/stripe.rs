//! A customer that is to be made at Stripe, too, is made there once and has its id, or is not made at all; whatever Stripe does, nobody
//! else waits for it.

use std::thread;

use serde_json::{Value, json};

use crate::harness::provider::{Behaviour, Provider, STRIPE_KEY};
use crate::harness::{Answer, Client, Gateway, event};

const PATH: &str = "/customers?autoCreateCustomerInStripe=true";

fn named(id: &str) -> Value {
    json!({"customerId": id, "customerName": "Acme & Söhne", "customerEmail": "ap@acme.test", "description": "d",
           "address": {"line1": "1 Main St", "city": "Rome", "country": "IT", "postalCode": "00100"}})
}

fn make(client: &Client, id: &str) -> Answer {
    client.post(PATH, &[], named(id).to_string())
}

fn stripe_id(answer: &Answer) -> Option<String> {
    answer.json()["traits"]["stripeId"].as_str().map(str::to_owned)
}

/// Nobody has the id.
#[track_caller]
fn is_free(gateway: &Gateway, id: &str) {
    gateway.get(&format!("/customers/{id}")).refused(404);
}

#[test]
fn a_customer_is_made_at_stripe_once_and_has_its_id() {
    let provider = Provider::start();
    let gateway = provider.setup("5s").start();
    let made = make(&gateway, "acme").refused(200);
    assert_eq!(stripe_id(&made).as_deref(), Some("cus_1"));
    assert_eq!(stripe_id(&gateway.get("/customers/acme")).as_deref(), Some("cus_1"));
    let [called] = provider.called().try_into().expect("one call");
    assert_eq!(called.line, "POST /v1/customers HTTP/1.1");
    assert_eq!(called.header("authorization"), format!("Bearer {STRIPE_KEY}"));
    assert_eq!(called.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        called.body,
        "name=Acme+%26+S%C3%B6hne&email=ap%40acme.test&description=d&address%5Bline1%5D=1+Main+St&address%5Bcity%5D=Rome\
         &address%5Bpostal_code%5D=00100&address%5Bcountry%5D=IT&metadata%5BcustomerId%5D=acme&metadata%5Baccount%5D=default"
    );
    // Taken: refused before Stripe hears of it.
    assert_eq!(make(&gateway, "acme").refused(400).json()["code"], "DUPLICATE");
    assert_eq!(provider.called().len(), 1);
}

#[test]
fn only_who_asks_for_it_gets_a_customer_at_stripe() {
    let provider = Provider::start();
    let gateway = provider.setup("5s").start();
    for flag in ["", "?autoCreateCustomerInStripe=false"] {
        let id = format!("no-{}", flag.len());
        assert_eq!(stripe_id(&gateway.post(&format!("/customers{flag}"), &[], named(&id).to_string()).refused(200)), None);
    }
    let mut known = named("known");
    known["traits"] = json!({"stripeId": "cus_known"});
    assert_eq!(stripe_id(&gateway.post(PATH, &[], known.to_string()).refused(200)).as_deref(), Some("cus_known"));
    gateway.post("/customers?autoCreateCustomerInStripe=perhaps", &[], named("x").to_string()).refused(400);
    gateway.post(PATH, &[], json!({"customerId": "x"}).to_string()).refused(400);
    assert!(provider.called().is_empty(), "{:?}", provider.called());
    let made = gateway.post("/amberflo/customers/?autoCreateCustomerInStripe=IF_PAYMENT_PROVIDER", &[], named("asked").to_string());
    assert_eq!(stripe_id(&made.refused(200)).as_deref(), Some("cus_1"));

    let without = Gateway::start();
    assert_eq!(make(&without, "acme").refused(400).json()["code"], "PAYMENT_PROVIDER_NOT_CONFIGURED");
    is_free(&without, "acme");
    let made = without.post("/customers?autoCreateCustomerInStripe=if_payment_provider", &[], named("acme").to_string());
    assert_eq!(stripe_id(&made.refused(200)), None);
}

#[test]
fn what_heals_is_tried_again_with_the_same_key() {
    let provider = Provider::start();
    let gateway = provider.setup("300ms").start();
    let faults = [
        ("limited", Behaviour::Says(429, "retry-after: 0\r\n", "{}".into())),
        ("failed", Behaviour::says(500, "oh")),
        ("conflict", Behaviour::says(409, "{}")),
        ("hung-up", Behaviour::HangsUp),
        ("late", Behaviour::Hangs),
        ("nonsense", Behaviour::says(200, "<html>")),
        ("other", Behaviour::says(200, r#"{"object":"customer"}"#)),
        ("endless", Behaviour::NeverEnds),
    ];
    for (id, fault) in faults {
        let before = provider.called().len();
        provider.will([fault]);
        assert!(stripe_id(&make(&gateway, id).refused(200)).is_some(), "{id}");
        let called = provider.called().split_off(before);
        let keys: Vec<_> = called.iter().map(|called| called.header("idempotency-key")).collect();
        assert_eq!(keys.len(), 2, "{id}");
        assert!(keys[0] == keys[1] && keys[0].starts_with("tollgate-"), "{id}: {keys:?}");
        assert_eq!(called[0].body, called[1].body);
    }
    let metrics = gateway.metrics();
    let calls = |outcome| metrics.total("tollgate_stripe_calls_total", &[("outcome", outcome)]);
    let counted = ["done", "limited", "failed", "unreachable", "timed_out", "nonsense", "refused", "unauthorized"].map(calls);
    assert_eq!(counted, [8.0, 1.0, 2.0, 1.0, 1.0, 3.0, 0.0, 0.0]);
}

#[test]
fn a_request_that_is_sent_again_is_the_same_to_stripe_and_another_is_another() {
    let provider = Provider::start();
    let gateway = provider.setup("5s").start();
    let down = || Behaviour::says(503, "{}");
    provider.will([down(), down(), down()]);
    let refused = make(&gateway, "acme").refused(503);
    assert_eq!(refused.json()["code"], "UNAVAILABLE");
    assert!(refused.header("retry-after").is_some());
    is_free(&gateway, "acme");
    make(&gateway, "acme").refused(200);
    gateway.delete("/customers/acme").refused(200);
    make(&gateway, "acme").refused(200);
    make(&gateway, "other").refused(200);
    let called = provider.called();
    let keys: Vec<_> = called.iter().map(|called| called.header("idempotency-key")).collect();
    assert_eq!(keys.len(), 6);
    assert!(keys[..4].iter().all(|key| *key == keys[0]), "three tries, and the client's own: {keys:?}");
    assert!(keys[4] != keys[0] && keys[5] != keys[0] && keys[5] != keys[4], "made again, and another one: {keys:?}");
}

#[test]
fn what_stripe_refuses_is_not_made_and_says_why() {
    let provider = Provider::start();
    let gateway = provider.setup("5s").start();
    let error = |message: &str| json!({"error": {"type": "card_error", "message": message}}).to_string();
    provider.will([Behaviour::says(402, error("Your account cannot be charged."))]);
    let refused = make(&gateway, "acme").refused(400);
    assert!(refused.text().contains("Stripe refuses (402): Your account cannot be charged."), "{}", refused.shown());
    is_free(&gateway, "acme");
    provider.will([Behaviour::says(401, error(&format!("Invalid API Key provided: {STRIPE_KEY}")))]);
    let refused = make(&gateway, "acme").refused(503);
    assert!(refused.header("retry-after").is_some());
    provider.will([Behaviour::says(400, error(&format!("no such key: {STRIPE_KEY}"))), Behaviour::says(307, "")]);
    let answers = [refused, make(&gateway, "acme").refused(400), make(&gateway, "acme").refused(503)];
    is_free(&gateway, "acme");
    assert_eq!(provider.called().len(), 4, "none of these is tried again");
    let shown = answers.map(|answer| answer.shown()).concat() + &gateway.stderr() + gateway.get("/metrics").text();
    assert!(!shown.contains(STRIPE_KEY), "{shown}");
}

#[test]
fn while_stripe_hangs_events_are_taken_and_no_more_calls_are_made_than_may_be() {
    const ASKED: usize = 20;
    let provider = Provider::start();
    let gateway = provider.setup("60s").start();
    provider.will(vec![Behaviour::Hangs; 3 * ASKED]);
    thread::scope(|scope| {
        let client: &Client = &gateway;
        let asking: Vec<_> = (0..ASKED).map(|n| scope.spawn(move || make(client, &format!("c-{n}")).status)).collect();
        provider.wait_for_calls(16);
        for n in 0..50 {
            gateway.send(&[event(&format!("e-{n}"))]).logged(1);
        }
        assert_eq!(gateway.usage("m").count(), 50);
        gateway.post("/customers", &[], named("here").to_string()).refused(200);
        assert_eq!(provider.called().len(), 16, "as many as may be under way");
        provider.end_hanging();
        for asked in asking {
            assert_eq!(asked.join().expect("no panic"), 503);
        }
    });
    for n in 0..ASKED {
        is_free(&gateway, &format!("c-{n}"));
    }
}

#[test]
fn of_two_that_want_one_id_at_once_one_gets_it() {
    let provider = Provider::start();
    let gateway = provider.setup("5s").start();
    thread::scope(|scope| {
        let client: &Client = &gateway;
        let racing: Vec<_> = (0..8).map(|_| scope.spawn(move || make(client, "acme"))).collect();
        let answers: Vec<_> = racing.into_iter().map(|racer| racer.join().expect("no panic")).collect();
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        for refused in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(refused.json()["code"], "DUPLICATE", "{}", refused.shown());
        }
    });
    let called = provider.called();
    assert!(called.iter().all(|call| call.header("idempotency-key") == called[0].header("idempotency-key")), "one customer at Stripe");
}

#[test]
fn settings_that_would_show_the_key_stop_the_start() {
    let mut gateway = Provider::start().setup("5s").start();
    gateway.stop();
    for (variable, value, word) in [
        ("TOLLGATE_STRIPE_API_BASE", "http://api.stripe.com", "must be https"),
        ("TOLLGATE_STRIPE_API_KEY", "sk_test with spaces", "TOLLGATE_STRIPE_API_KEY"),
    ] {
        gateway.change_variable(variable, None);
        gateway.change_variable(variable, Some(value));
        let reason = gateway.start_in_vain().because(&[word]);
        assert!(!reason.contains("sk_test"), "{reason}");
        gateway.change_variable(variable, None);
    }
}
