//! One customer, three dialects, nothing lost (contract `stigg.md` section 6): the ten rules by their numbers, over HTTP. That they hold for
//! any writes in any order is shown by `any_writes`.

mod any_writes;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Gateway};

/// Below the prefix of each dialect.
const AMBERFLO: &str = "/amberflo/customers";
const OCTANE: &str = "/octane/customers";
const STIGG: &str = "/stigg/api/v1/customers";

/// One customer, spoken of in each dialect.
pub(crate) struct One<'c> {
    client: &'c Client,
    id: String,
}

impl<'c> One<'c> {
    pub(crate) fn new(client: &'c Client, id: &str) -> Self {
        Self { client, id: id.into() }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.client.call(method, path, &if body.is_null() { String::new() } else { body.to_string() })
    }

    /// Amberflo's POST and PUT have the id in the body.
    pub(crate) fn amberflo(&self, method: &str, mut body: Value) -> Answer {
        if body.is_null() {
            return self.call(method, &format!("{AMBERFLO}/{}", self.id), &body);
        }
        body["customerId"] = self.id.as_str().into();
        self.call(method, AMBERFLO, &body)
    }

    /// A create, or what is at the customer or below.
    pub(crate) fn octane(&self, method: &str, below: &str, body: Value) -> Answer {
        self.call(method, &format!("{OCTANE}/{}{below}", self.id), &body)
    }

    pub(crate) fn create_by_octane(&self, mut body: Value) -> Answer {
        body["name"] = self.id.as_str().into();
        self.call("POST", OCTANE, &body)
    }

    pub(crate) fn stigg(&self, method: &str, below: &str, body: Value) -> Answer {
        self.call(method, &format!("{STIGG}/{}{below}", self.id), &body)
    }

    pub(crate) fn create_by_stigg(&self, mut body: Value) -> Answer {
        body["id"] = self.id.as_str().into();
        self.call("POST", STIGG, &body)
    }

    /// What Amberflo, Octane and Stigg show.
    #[track_caller]
    pub(crate) fn shown(&self) -> [Value; 3] {
        [
            self.amberflo("GET", Value::Null).refused(200).json(),
            self.octane("GET", "", Value::Null).refused(200).json(),
            self.stigg("GET", "", Value::Null).refused(200).json()["data"].clone(),
        ]
    }

    #[track_caller]
    fn metadata(&self) -> Value {
        self.octane("GET", "/metadata", Value::Null).refused(200).json()
    }
}

fn amberflo_body() -> Value {
    json!({"customerName": "Acme", "customerEmail": "ap@acme.test", "description": "d", "enabled": false, "test": true, "lifecycleStage": "TRIAL",
        "traits": {"tier": "gold", "a": ""},
        "address": {"line1": "1 Road", "city": "Oslo", "country": "NO", "state": "S", "postalCode": "1", "verified": true}})
}

fn octane_body() -> Value {
    json!({"display_name": "Acme O", "vendor_id": 7.50, "tags": ["b", "a", "b"], "created_at": "2026-01-01T02:00:00.123456+02:00",
        "measurement_mappings": [{"label": "user", "value_regex": "u-.*"}, {"label": "host"}, {"label": "x", "value_regex": "y", "note": [1]}],
        "contact_info": {"address_line_1": "2 Road", "address_line_2": "b", "city": "Bergen", "state": "T", "country": "SE", "zipcode": "2",
            "url": "https://a.test", "logo_url": "l", "email": "o@acme.test", "phone": "+47", "legal_name": "Acme AS", "vat_id": "V",
            "secondary_emails": ["z@a.test", "a@a.test"]}})
}

fn stigg_body() -> Value {
    json!({"name": "Acme S", "email": "s@acme.test", "metadata": {"k": "v"}, "billingCurrency": "nok", "billingId": "b-1", "couponId": "c",
        "language": "no", "timezone": "Europe/Oslo", "salesforceId": "sf",
        "defaultPaymentMethod": {"type": "CARD", "billingId": null, "cardExpiryMonth": 12, "cardExpiryYear": 2031, "cardLast4Digits": "4242"},
        "integrations": [{"id": "i-2", "vendorIdentifier": "STRIPE", "syncedEntityId": "x"}, {"id": "i-1", "vendorIdentifier": "ZUORA"}],
        "passthrough": {"stripe": {"customerName": "Acme Inc", "taxIds": [{"type": "t", "value": "1"}], "metadata": {"m": "1"},
            "billingAddress": {"line1": "3 Road", "line2": "c", "city": "Turku", "state": "U", "postalCode": "3", "country": "FI"},
            "shippingAddress": {"city": "Elsewhere"}}, "zuora": {"currency": "usd"}}})
}

/// What it shows of what was sent.
#[track_caller]
fn has(shown: &Value, sent: &Value) {
    match (shown, sent) {
        (Value::Object(shown), Value::Object(sent)) => {
            sent.iter().for_each(|(name, sent)| has(shown.get(name).unwrap_or_else(|| panic!("no {name} in {shown:?}")), sent));
        }
        _ => assert_eq!(shown, sent),
    }
}

/// The same without some members.
fn without(value: &Value, names: &[&str]) -> Value {
    let mut value = value.clone();
    names.iter().for_each(|name| drop(value.as_object_mut().expect("an object").remove(*name)));
    value
}

/// A customer of whom each dialect has said everything.
fn full<'c>(gateway: &'c Gateway) -> One<'c> {
    let one = One::new(gateway, "acme");
    one.create_by_stigg(stigg_body()).refused(201);
    one.octane("PUT", "", octane_body()).refused(200);
    one.amberflo("PUT", amberflo_body()).refused(200);
    one
}

#[test]
fn rule_1_a_write_touches_only_what_its_dialect_can_express() {
    let gateway = Gateway::start();
    let one = full(&gateway);
    let [amberflo, octane, stigg] = one.shown();
    // What no other has.
    let [of_amberflo, of_octane, of_stigg] = [
        json!({"description": "d", "enabled": false, "test": true, "lifecycleStage": "TRAIL"}),
        without(&octane, &["display_name", "contact_info"]),
        without(&stigg, &["name", "email", "metadata", "passthrough", "updatedAt"]),
    ];
    has(&amberflo, &of_amberflo);
    let contact =
        json!({"contact_info": without(&octane["contact_info"], &["address_line_1", "city", "state", "country", "zipcode", "email"])});
    let stripe = json!({"passthrough": {"stripe": without(&stigg["passthrough"]["stripe"], &["billingAddress"])}});
    let check = || {
        let [amberflo, octane, stigg] = one.shown();
        has(&amberflo, &of_amberflo);
        has(&octane, &of_octane);
        has(&octane, &contact);
        has(&stigg, &of_stigg);
        has(&stigg, &stripe);
    };
    check();
    one.amberflo("PUT", json!({"customerName": "Other", "description": "d", "enabled": false, "test": true})).refused(200);
    check();
    one.octane("PUT", "", json!({"display_name": "x", "contact_info": {"email": "x", "city": "x"}})).refused(200);
    one.octane("POST", "/metadata", json!([{"property": "x", "value": "y"}])).refused(200);
    check();
    let patch = json!({"name": "y", "email": null, "metadata": {}, "passthrough": {"stripe": {"billingAddress": null}}});
    one.stigg("PATCH", "", patch).refused(200);
    // Its second line was the address's, which is gone.
    let contact = json!({"contact_info": without(&contact["contact_info"], &["address_line_2"])});
    let [amberflo, octane, stigg] = one.shown();
    has(&amberflo, &of_amberflo);
    has(&octane, &contact);
    has(&stigg, &stripe);
    assert_eq!(octane["contact_info"], contact["contact_info"]);
}

#[test]
fn rule_2_amberflo_replaces_and_octane_and_stigg_merge() {
    let gateway = Gateway::start();
    let one = full(&gateway);
    one.octane("PUT", "", json!({"contact_info": {"phone": "1"}})).refused(200);
    let mut contact = octane_body()["contact_info"].clone();
    has(&one.shown()[1]["contact_info"], &json!({"phone": "1", "url": contact["url"], "city": "Oslo", "email": "ap@acme.test"}));
    one.stigg("PATCH", "", json!({"language": null, "passthrough": {"stripe": {"customerName": "n"}}})).refused(200);
    let stigg = &one.shown()[2];
    assert_eq!((stigg.get("language"), &stigg["timezone"]), (None, &json!("Europe/Oslo")));
    has(
        &stigg["passthrough"]["stripe"],
        &json!({"customerName": "n", "taxIds": [{"type": "t", "value": "1"}], "billingAddress": {"line2": "b"}}),
    );
    one.amberflo("PUT", json!({"customerName": "Bare"})).refused(200);
    let [amberflo, octane, stigg] = one.shown();
    assert_eq!(
        without(&amberflo, &["id", "createTime", "updateTime", "deactivateTimeStamp"]),
        json!({"customerId": "acme", "customerName": "Bare", "enabled": true, "test": false, "lifecycleStage": "TRAIL"})
    );
    for gone in ["address_line_1", "city", "state", "country", "zipcode", "email"] {
        contact.as_object_mut().expect("an object").remove(gone);
    }
    contact["phone"] = "1".into();
    assert_eq!((&octane["contact_info"], one.metadata()), (&contact, json!([])), "its own fields, and the second line");
    assert_eq!((&stigg["metadata"], stigg.get("email")), (&json!({}), None));
}

#[test]
fn rule_3_what_a_dialect_wrote_it_reads_back_equal() {
    let gateway = Gateway::start();
    let one = One::new(&gateway, "amber");
    one.amberflo("POST", amberflo_body()).refused(200);
    let mut sent = amberflo_body();
    sent["lifecycleStage"] = "TRAIL".into();
    has(&one.shown()[0], &sent);
    let one = One::new(&gateway, "octane");
    let made = one.create_by_octane(octane_body()).refused(200).json();
    let mut sent = octane_body();
    sent["created_at"] = "2026-01-01T00:00:00.123456Z".into();
    sent["tags"] = json!([{"tag": "b"}, {"tag": "a"}, {"tag": "b"}]);
    has(&made, &sent);
    let [amberflo, octane, stigg] = one.shown();
    assert_eq!((octane, without(&made, &["name"])), (made.clone(), sent), "and nothing else");
    // Others see the same moment as finely as they can.
    assert_eq!((&amberflo["createTime"], &stigg["createdAt"]), (&json!(1_767_225_600_123_i64), &json!("2026-01-01T00:00:00.123Z")));
    let one = One::new(&gateway, "stigg");
    let made = one.create_by_stigg(stigg_body()).refused(201).json()["data"].clone();
    assert_eq!(without(&made, &["id", "createdAt", "updatedAt", "archivedAt", "subscriptions"]), stigg_body());
    assert_eq!(one.shown()[2], made);
}

#[test]
fn rule_4_what_a_dialect_cannot_express_is_left_out_and_never_altered() {
    let gateway = Gateway::start();
    let one = One::new(&gateway, "acme");
    let contact = json!({"city": "Oslo", "zipcode": "1"});
    one.create_by_octane(json!({"contact_info": contact, "created_at": "2026-01-01T00:00:00.123456Z"})).refused(200);
    let [amberflo, octane, stigg] = one.shown();
    assert_eq!(amberflo.get("address"), None, "without a country");
    assert_eq!(stigg["passthrough"], json!({"stripe": {"billingAddress": {"city": "Oslo", "postalCode": "1"}}}));
    // What Amberflo shows it sends back, with something else.
    let mut shown = amberflo;
    shown["description"] = "d".into();
    one.amberflo("PUT", shown).refused(200);
    assert_eq!(one.shown()[1], octane, "the city, and the microseconds");
    one.octane("PUT", "", json!({"contact_info": {"country": "NO", "address_line_1": "1 Road"}})).refused(200);
    let address = json!({"line1": "1 Road", "city": "Oslo", "country": "NO", "postalCode": "1"});
    assert_eq!(one.shown()[0]["address"], address);
    // Stigg sends back what it shows, and nobody has lost anything.
    let before = one.shown();
    one.stigg("PATCH", "", before[2].clone()).refused(200);
    let after = one.shown();
    assert_eq!([&after[0]["address"], &after[0]["description"], &after[1]], [&before[0]["address"], &json!("d"), &before[1]]);
}

#[test]
fn rule_5_a_name_that_is_unset_falls_back_and_the_fallback_is_never_written() {
    let gateway = Gateway::start();
    for maker in [1, 2] {
        let one = One::new(&gateway, &format!("acme-{maker}"));
        if maker == 1 {
            one.create_by_octane(json!({})).refused(200)
        } else {
            one.create_by_stigg(json!({})).refused(201)
        };
        let is_unset = || {
            let [amberflo, octane, stigg] = one.shown();
            assert_eq!((&amberflo["customerName"], octane.get("display_name"), &stigg["name"]), (&json!(one.id), None, &Value::Null));
            amberflo
        };
        let shown = is_unset();
        one.amberflo("PUT", shown).refused(200);
        is_unset();
        one.amberflo("PUT", json!({"customerName": "N"})).refused(200);
        one.stigg("PATCH", "", json!({"name": null})).refused(200);
        is_unset();
    }
}

#[test]
fn rule_6_who_is_removed_is_removed_everywhere_and_comes_back_everywhere() {
    let gateway = Gateway::start();
    for remover in 0..3 {
        let one = One::new(&gateway, &format!("acme-{remover}"));
        one.create_by_stigg(stigg_body()).refused(201);
        one.octane("PUT", "", json!({"tags": ["t"]})).refused(200);
        let before = one.shown();
        let remove = || match remover {
            0 => one.amberflo("DELETE", Value::Null).refused(200),
            1 => one.octane("DELETE", "", Value::Null).refused(204),
            _ => one.stigg("POST", "/archive", Value::Null).refused(200),
        };
        remove();
        one.amberflo("GET", Value::Null).refused(404);
        assert_eq!(gateway.get(&format!("{AMBERFLO}?customerId={}", one.id)).refused(200).json(), json!({}));
        one.octane("GET", "", Value::Null).refused(404);
        assert!(one.stigg("GET", "", Value::Null).refused(200).json()["data"]["archivedAt"].is_string());
        one.create_by_stigg(json!({})).refused(409);
        one.stigg("POST", "/unarchive", Value::Null).refused(200);
        let after = one.shown();
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(without(after, &["updatedAt", "updateTime"]), without(before, &["updatedAt", "updateTime"]));
        }
        remove();
        match remover {
            0 => one.create_by_octane(json!({})).refused(200),
            _ => one.amberflo("POST", json!({"customerName": one.id})).refused(200),
        };
        let [amberflo, octane, stigg] = one.shown();
        assert_eq!((amberflo.get("customerEmail"), &octane["tags"], stigg.get("language")), (None, &json!([]), None), "a new record");
        assert!(stigg["createdAt"].as_str() > before[2]["createdAt"].as_str(), "{stigg}");
    }
}

#[test]
fn rule_7_a_duplicate_is_one_whoever_made_the_first() {
    let gateway = Gateway::start();
    let create = |one: &One<'_>, by: usize| match by {
        0 => one.amberflo("POST", json!({"customerName": "n"})),
        1 => one.create_by_octane(json!({})),
        _ => one.create_by_stigg(json!({})),
    };
    for first in 0..3 {
        let one = One::new(&gateway, &format!("acme-{first}"));
        assert!([200, 201].contains(&create(&one, first).status));
        assert_eq!(create(&one, 0).refused(400).json()["code"], "DUPLICATE");
        assert_eq!(create(&one, 1).refused(400).json()["error"]["code"], "already_exists");
        let conflict = create(&one, 2).refused(409);
        assert_eq!(conflict.json()["code"], "DUPLICATED_ENTITY_NOT_ALLOWED");
        assert_eq!(conflict.header("x-should-retry"), Some("false"));
    }
}

#[test]
fn rule_8_attributes_are_texts_in_all_dialects_and_octane_deletes_by_null() {
    let gateway = Gateway::start();
    let one = One::new(&gateway, "acme");
    one.amberflo("POST", json!({"customerName": "n", "traits": {"a": "1", "b": ""}})).refused(200);
    let check = |expected: Value| {
        let [amberflo, _, stigg] = one.shown();
        let properties =
            expected.as_object().expect("an object").iter().map(|(property, value)| json!({"property": property, "value": value}));
        assert_eq!((&amberflo["traits"], &stigg["metadata"]), (&expected, &expected));
        assert_eq!(one.metadata(), properties.collect::<Value>());
    };
    check(json!({"a": "1", "b": ""}));
    one.octane("POST", "/metadata", json!([{"property": "b", "value": null}, {"property": "c", "value": "3"}])).refused(200);
    check(json!({"a": "1", "c": "3"}));
    one.stigg("PATCH", "", json!({"metadata": {"d": "4"}})).refused(200);
    check(json!({"d": "4"}));
    for value in [json!(1), json!(true), json!({})] {
        one.amberflo("PUT", json!({"customerName": "n", "traits": {"a": value}})).refused(400);
        one.octane("POST", "/metadata", json!([{"property": "a", "value": value}])).refused(400);
        one.stigg("PATCH", "", json!({"metadata": {"a": value}})).refused(400);
    }
    check(json!({"d": "4"}));
}

#[test]
fn rule_9_another_address_has_not_been_verified() {
    let gateway = Gateway::start();
    let one = One::new(&gateway, "acme");
    let verify = || one.amberflo("PUT", amberflo_body()).refused(200);
    let verified = || one.shown()[0]["address"]["verified"].clone();
    one.amberflo("POST", amberflo_body()).refused(200);
    one.octane("PUT", "", json!({"contact_info": {"city": "Oslo", "phone": "1"}})).refused(200);
    one.stigg(
        "PATCH",
        "",
        json!({"name": "n", "passthrough": {"stripe": {"billingAddress": one.shown()[2]["passthrough"]["stripe"]["billingAddress"]}}}),
    )
    .refused(200);
    assert_eq!(verified(), json!(true), "the same address is still verified");
    one.octane("PUT", "", json!({"contact_info": {"city": "Bergen"}})).refused(200);
    assert_eq!(verified(), Value::Null);
    verify();
    assert_eq!(verified(), json!(true));
    one.stigg("PATCH", "", json!({"passthrough": {"stripe": {"billingAddress": {"line1": "1 Road", "city": "Oslo", "country": "SE"}}}}))
        .refused(200);
    assert_eq!((verified(), &one.shown()[0]["address"]["country"]), (Value::Null, &json!("SE")));
}

#[test]
fn rule_10_a_subscription_is_one_row_that_each_dialect_lists_in_its_own_shape() {
    let gateway = Gateway::start();
    let pricing = "/amberflo/payments/pricing/amberflo/customer-pricing";
    let makers: [fn(&One<'_>, &str); 3] = [
        |one, pricing| {
            one.amberflo("POST", json!({"customerName": "n"})).refused(200);
            one.call("POST", pricing, &json!({"customerId": one.id, "productPlanId": "pro"})).refused(200);
        },
        |one, _| drop(one.create_by_octane(json!({"price_plan_name": "pro"})).refused(200)),
        |one, _| {
            one.create_by_stigg(json!({})).refused(201);
            let body = json!({"customerId": one.id, "planId": "pro", "id": format!("sub-{}", one.id)});
            one.call("POST", "/stigg/api/v1/subscriptions", &body).refused(201);
        },
    ];
    for (at, make) in makers.into_iter().enumerate() {
        let one = One::new(&gateway, &format!("acme-{at}"));
        make(&one, pricing);
        let list = |path: &str| gateway.get(&format!("{path}{}", one.id)).refused(200).json();
        let plans = |list: &Value, name: &str| list.as_array().expect("an array").iter().map(|row| row[name].clone()).collect::<Vec<_>>();
        let amberflo = list(&format!("{pricing}/list?CustomerId="));
        let octane = one.octane("GET", "/subscriptions", Value::Null).refused(200).json();
        let stigg = list("/stigg/api/v1/subscriptions?customerId=")["data"].clone();
        assert_eq!((plans(&amberflo, "productPlanId"), plans(&octane, "price_plan_name")), (vec![json!("pro")], vec![json!("pro")]));
        assert_eq!((plans(&stigg, "planId"), plans(&stigg, "status")), (vec![json!("pro")], vec![json!("ACTIVE")]));
        let of_customer = &one.shown()[2]["subscriptions"];
        assert_eq!(of_customer, &json!([{"id": stigg[0]["id"], "status": "ACTIVE", "plan": {"id": "pro", "name": "pro"}}]));
        // Ended through another one.
        let id = stigg[0]["id"].as_str().expect("an id");
        match at {
            2 => one.octane("DELETE", "/subscription", Value::Null).refused(204),
            _ => one.call("POST", &format!("/stigg/api/v1/subscriptions/{id}/cancel"), &Value::Null).refused(200),
        };
        one.octane("GET", "/active_subscription", Value::Null).refused(404);
        assert_eq!(one.shown()[2]["subscriptions"], json!([]));
    }
}
