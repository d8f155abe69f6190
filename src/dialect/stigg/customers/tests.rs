use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clock::UnixMicros;
use crate::customers::Extensions;
use crate::customers::arbitrary::any_text;
use crate::dialect::amberflo::customers::render as render_amberflo;

fn new(body: &Value) -> Result<NewCustomer, ApiError> {
    NewCustomer::parse(body.to_string().as_bytes())
}

pub(super) fn fields(body: &Value) -> CustomerFields {
    CustomerFields::parse(body.to_string().as_bytes()).unwrap_or_else(|error| panic!("{body}: {error:?}"))
}

fn made(body: &Value) -> Customer {
    let NewCustomer { id, fields } = new(body).unwrap_or_else(|error| panic!("{body}: {error:?}"));
    let mut customer = Customer::new(id, UnixMicros(1_767_225_600_123_999));
    fields.apply(&mut customer);
    customer
}

fn patched(customer: &Customer, body: &Value) -> Customer {
    let mut patched = customer.clone();
    fields(body).apply(&mut patched);
    patched
}

pub(super) fn shown(customer: &Customer) -> Value {
    render(customer, &[], &BTreeMap::new())
}

fn details(body: &Value) -> String {
    let refused = new(body).expect_err("a bad body");
    assert_eq!(refused.code, "BAD_REQUEST");
    refused.details.expect("details")
}

/// Everything that a customer can be sent with.
fn full() -> Value {
    json!({
        "id": "acme-7", "name": "Acme Seven", "email": "ap@acme.test", "metadata": {"tier": "gold"}, "billingCurrency": "eur",
        "billingId": "cus_1", "couponId": "", "language": "fr", "timezone": "Europe/Paris", "salesforceId": "sf",
        "defaultPaymentMethod": {"type": "CARD", "billingId": null, "cardExpiryMonth": 12, "cardExpiryYear": 2031, "cardLast4Digits": "4242"},
        "integrations": [{"id": "i-1", "vendorIdentifier": "STRIPE", "syncedEntityId": null}],
        "passthrough": {
            "stripe": {
                "billingAddress": {"line1": "1 Road", "line2": "b", "city": "Town", "state": "S", "postalCode": "1", "country": "XX"},
                "shippingAddress": {"city": "Elsewhere"}, "customerName": "Acme Inc", "invoiceCustomFields": {"po": "7"},
                "metadata": {"k": "v"}, "paymentMethodId": "pm_1", "taxIds": [{"type": "eu_vat", "value": "X1"}],
            },
            "zuora": {"billingAddress": {"city": "Z"}, "currency": "usd", "metadata": {}, "paymentMethodId": "pm_2"},
        },
    })
}

#[test]
fn what_was_sent_is_shown() {
    let (sent, shown) = (full(), shown(&made(&full())));
    for (name, value) in sent.as_object().expect("an object") {
        assert_eq!(shown[name], *value, "{name}");
    }
    assert_eq!(shown["createdAt"], "2026-01-01T00:00:00.123Z");
    assert_eq!((&shown["archivedAt"], &shown["subscriptions"]), (&Value::Null, &json!([])));
}

#[test]
fn a_bare_customer_has_little() {
    let shown = shown(&made(&json!({"id": "a"})));
    let expected = json!({
        "id": "a", "name": null, "createdAt": "2026-01-01T00:00:00.123Z", "updatedAt": "2026-01-01T00:00:00.123Z", "archivedAt": null,
        "metadata": {}, "subscriptions": [],
    });
    assert_eq!(shown, expected);
}

#[test]
fn the_address_is_the_one_of_all_dialects() {
    let mut customer = made(&full());
    assert_eq!(customer.address.postal_code.as_deref(), Some("1"));
    assert_eq!(render_amberflo(&customer)["address"]["city"], "Town");
    assert!(!customer.ext.stigg["passthrough"].to_string().contains("Town"), "it is kept once");
    customer.address.verified = Some(true);
    let same = json!({"passthrough": {"stripe": {"billingAddress": full()["passthrough"]["stripe"]["billingAddress"]}}});
    assert_eq!(patched(&customer, &same), customer, "what is the same is still verified");
    let moved = patched(&customer, &json!({"passthrough": {"stripe": {"billingAddress": {"city": "Rome"}}}}));
    assert_eq!(moved.address, Address { city: Some("Rome".into()), ..Address::default() });
    assert_eq!(shown(&moved)["passthrough"]["stripe"]["taxIds"], full()["passthrough"]["stripe"]["taxIds"], "all else stays");
}

#[test]
fn a_patch_changes_what_it_names_and_null_clears_it() {
    let customer = made(&full());
    assert_eq!(patched(&customer, &json!({})), customer);
    assert_eq!(patched(&customer, &json!({"id": "other", "subscriptions": 7, "unknown": [1]})), customer, "ignored");
    assert_eq!(patched(&customer, &json!({"metadata": {"a": "b"}})).attributes, BTreeMap::from([("a".into(), "b".into())]));
    let tax = patched(&customer, &json!({"passthrough": {"stripe": {"taxIds": []}}}));
    assert_eq!((tax.address == customer.address, &shown(&tax)["passthrough"]["stripe"]["taxIds"]), (true, &json!([])));
    let no_stripe = patched(&customer, &json!({"passthrough": {"stripe": null}}));
    assert_eq!(shown(&no_stripe)["passthrough"], json!({"zuora": full()["passthrough"]["zuora"]}));
    assert!(no_stripe.address.is_empty());
    let mut nulls = full();
    nulls.as_object_mut().expect("an object").values_mut().for_each(|value| *value = Value::Null);
    let cleared = patched(&customer, &nulls);
    let mut expected = Customer::new(customer.id().clone(), customer.created_at);
    expected.ext = Extensions::default();
    assert_eq!(cleared, expected);
}

#[test]
fn a_way_to_pay_is_attached_and_detached() {
    let customer = made(&json!({"id": "a", "language": "fr"}));
    let body = json!({"integrationId": "i-1", "vendorIdentifier": "STRIPE", "paymentMethodId": "pm_1", "billingCurrency": "usd"});
    let mut attached = customer.clone();
    PaymentMethod::parse(body.to_string().as_bytes()).expect("a good body").attach(&mut attached);
    let payment = &shown(&attached)["defaultPaymentMethod"];
    assert_eq!((&payment["billingId"], &payment["type"]), (&json!("pm_1"), &Value::Null));
    assert_eq!((attached.currency.as_deref(), &shown(&attached)["paymentMethod"]["integrationId"]), (Some("usd"), &json!("i-1")));
    PaymentMethod::detach(&mut attached);
    attached.currency = None;
    assert_eq!(attached, customer);
    let refused = |body: Value| PaymentMethod::parse(body.to_string().as_bytes()).expect_err("a bad body").details;
    assert_eq!(refused(json!({"vendorIdentifier": "STRIPE"})).as_deref(), Some("integrationId is missing"));
    assert_eq!(refused(json!({"integrationId": "i"})).as_deref(), Some("vendorIdentifier is missing"));
    assert_eq!(refused(json!({"integrationId": "i", "vendorIdentifier": 7})).as_deref(), Some("vendorIdentifier must be a string"));
}

#[test]
fn an_import_says_which_entry_is_wrong() {
    let import = |body: Value| NewCustomer::parse_import(body.to_string().as_bytes());
    let one = |id: &str| json!({"id": id, "name": null, "email": null, "paymentMethodId": "pm", "billingId": "b", "salesforceId": "s"});
    let taken = import(json!({"customers": [one("a"), one("b")], "integrationId": "i"})).expect("a good body");
    let mut customer = Customer::new(taken[1].id.clone(), UnixMicros(0));
    taken[1].fields.apply(&mut customer);
    assert_eq!(shown(&customer)["passthrough"]["stripe"]["paymentMethodId"], "pm");
    assert_eq!((&shown(&customer)["billingId"], &shown(&customer)["salesforceId"]), (&json!("b"), &json!("s")));
    let many: Vec<_> = (0..=IMPORT_MAX).map(|n| one(&n.to_string())).collect();
    for (body, expected) in [
        (json!({}), "customers is missing"),
        (json!({"customers": {}}), "customers must be an array"),
        (json!({"customers": []}), "customers has 0 entries, it must be 1 to 1000"),
        (json!({"customers": many}), "customers has 1001 entries, it must be 1 to 1000"),
        (json!({"customers": [one("a"), 7]}), "customers[1] must be an object"),
        (json!({"customers": [one("a"), one("a")]}), "customers[1].id comes twice"),
        (json!({"customers": [{"id": "a", "email": null}]}), "customers[0].name is missing; it may be null"),
        (json!({"customers": [{"id": "a", "name": null}]}), "customers[0].email is missing; it may be null"),
        (json!({"customers": [{"name": "A", "email": null}]}), "customers[0].id is missing"),
        (json!({"customers": [{"id": "a", "name": "A", "email": null, "metadata": {"k": 1}}]}), "customers[0].metadata.k must be a string"),
        (
            json!({"customers": [{"id": "a", "name": "A", "email": null, "updatedAt": "x"}]}),
            "customers[0].updatedAt must be a time in RFC 3339, such as 2026-01-01T00:00:00Z",
        ),
        (json!({"customers": [one("a")], "integrationId": 7}), "integrationId must be a string"),
    ] {
        assert_eq!(import(body).expect_err("a bad body").details.as_deref(), Some(expected));
    }
    assert_eq!(import(json!({"customers": many[1..]})).map(|taken| taken.len()), Ok(IMPORT_MAX));
}

/// The paths of everything in a value.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| paths(value, &format!("{path}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| paths(value, &format!("{path}/{at}"), found)),
        _ => {}
    }
}

/// As an error calls it: `passthrough.stripe.taxIds[0].type`.
fn field(path: &str) -> String {
    path[1..].split('/').fold(String::new(), |field, part| match part.parse::<usize>() {
        Ok(at) => format!("{field}[{at}]"),
        Err(_) if field.is_empty() => part.to_owned(),
        Err(_) => format!("{field}.{part}"),
    })
}

#[test]
fn a_value_of_another_type_is_refused_by_its_path() {
    let mut all = Vec::new();
    paths(&full(), "", &mut all);
    assert!(all.len() > 40, "{all:?}");
    for path in all.iter().skip(1) {
        for wrong in [json!(1), json!("x"), json!([1]), json!({"a": 1}), json!(true)] {
            let mut body = full();
            let place = body.pointer_mut(path).expect("a path of it");
            if place.is_null() || std::mem::discriminant(place) == std::mem::discriminant(&wrong) {
                continue;
            }
            *place = wrong;
            let details = details(&body);
            let (name, reason) = details.split_once(" must be ").unwrap_or_else(|| panic!("{path}: {details}"));
            assert_eq!((name, reason.is_empty()), (field(path).as_str(), false), "{body}");
        }
    }
}

#[test]
fn every_limit_is_kept_and_named() {
    let with = |path: &str, value: Value| {
        let mut body = full();
        let (parent, name) = path.rsplit_once('/').expect("a path");
        body.pointer_mut(parent).expect("an object")[name] = value;
        body
    };
    let texts =
        ["/name", "/email", "/billingId", "/timezone", "/passthrough/stripe/customerName", "/passthrough/stripe/billingAddress/city"];
    for path in texts {
        assert!(new(&with(path, "x".repeat(1_024).into())).is_ok(), "{path}");
        assert_eq!(details(&with(path, "x".repeat(1_025).into())), format!("{} has 1025 bytes, the limit is 1024", field(path)));
        assert_eq!(details(&with(path, "a\0".into())), format!("{} contains U+0000", field(path)));
    }
    for (path, value, expected) in [
        ("/id", json!("x".repeat(256)), "id has 256 bytes, the limit is 255"),
        ("/id", json!(""), "id must not be empty"),
        ("/id", json!(null), "id is missing"),
        ("/billingCurrency", json!("EUR"), "billingCurrency must be an ISO 4217 code in lower case, such as usd"),
        ("/billingCurrency", json!(""), "billingCurrency must be an ISO 4217 code in lower case, such as usd"),
        ("/integrations/0", json!({"id": "i"}), "integrations[0].vendorIdentifier is missing"),
        ("/integrations", vec![full()["integrations"][0].clone(); 33].into(), "integrations has 33 entries, the limit is 32"),
        ("/metadata", json!({"k": null}), "metadata.k must be a string"),
        ("/metadata", json!({"x".repeat(129): "v"}), "metadata has a key that has 129 bytes, the limit is 128"),
        ("/metadata", json!({"k": "x".repeat(1_025)}), "metadata.k has 1025 bytes, the limit is 1024"),
    ] {
        // An entry of an array is reached by a number.
        let body = if path == "/integrations/0" { with("/integrations", json!([value])) } else { with(path, value) };
        assert_eq!(details(&body), expected);
    }
    let entries = |count: usize| Value::from((0..count).map(|n| (n.to_string(), Value::from("x"))).collect::<Map<_, _>>());
    assert!(new(&with("/metadata", entries(64))).is_ok());
    assert_eq!(details(&with("/metadata", entries(65))), "metadata has 65 entries, the limit is 64");
    let long: Map<_, _> = (0..64).map(|n| (n.to_string(), Value::from("x".repeat(1_000)))).collect();
    assert!(details(&with("/passthrough", json!({"zuora": {"metadata": long}}))).starts_with("passthrough has 64"));
    for body in ["", "{", "[]", "7", "{\"id\":\"a\"}}", "{\"id\":\"\\ud800\"}"] {
        assert!(NewCustomer::parse(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn names_of_plans_are_shown_and_what_is_over_is_not() {
    let made = |id: &str, status| Subscription {
        id: id.into(),
        customer: CustomerId::parse("a").expect("a good id"),
        row: crate::billing::Assignment { plan_id: format!("plan-{id}"), ..Default::default() },
        status,
        end: None,
        index: 0,
    };
    use SubscriptionStatus::{Active, Canceled, Expired, InTrial, NotStarted};
    let all = [made("1", Active), made("2", InTrial), made("3", NotStarted), made("4", Canceled), made("5", Expired)];
    let names = BTreeMap::from([("plan-1".to_owned(), "Pro".to_owned())]);
    let shown = render(&Customer::new(CustomerId::parse("a").expect("a good id"), UnixMicros(0)), &all, &names);
    let expected = json!([
        {"id": "1", "status": "ACTIVE", "plan": {"id": "plan-1", "name": "Pro"}},
        {"id": "2", "status": "TRIAL", "plan": {"id": "plan-2", "name": "plan-2"}},
        {"id": "3", "status": "PAUSED", "plan": {"id": "plan-3", "name": "plan-3"}},
    ]);
    assert_eq!(shown["subscriptions"], expected);
}

proptest! {
    #[test]
    fn any_body_is_taken_or_refused_with_a_reason(body in any::<Vec<u8>>(), name in "[a-zA-Z]{1,14}", text in any_text()) {
        let object = json!({name: text}).to_string();
        for body in [&body[..], object.as_bytes()] {
            for refused in [NewCustomer::parse(body).err(), CustomerFields::parse(body).err(), NewCustomer::parse_import(body).err()] {
                prop_assert!(refused.is_none_or(|error| error.code == "BAD_REQUEST" && error.details.is_some()));
            }
        }
    }
}
