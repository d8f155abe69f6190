use serde_json::json;

use super::*;
use crate::customers::{Address, Contact, Extensions, Mapping};
use crate::dialect::octane::error::ChangeError;

const NOW: UnixMicros = UnixMicros(1_767_225_600_000_000);

fn new(id: &str) -> Customer {
    Customer::new(CustomerId::parse(id).expect("a good id"), UnixMicros(1_767_225_600_123_456))
}

fn patch(body: &Value) -> Result<CustomerPatch, ApiError> {
    CustomerPatch::parse(body.to_string().as_bytes(), NOW)
}

fn put(customer: &mut Customer, body: &Value) {
    patch(body).expect("a good body").apply(customer);
}

fn made(body: &Value) -> Customer {
    let request = NewCustomer::parse(body.to_string().as_bytes(), NOW).expect("a good body");
    let mut customer = Customer::new(request.id().clone(), NOW);
    request.fill(&mut customer);
    customer
}

/// What is wrong with a body, of a POST and of a PUT.
fn details(body: &Value) -> String {
    let mut with_name = body.clone();
    with_name.as_object_mut().expect("an object").entry("name").or_insert("a".into());
    let refused = NewCustomer::parse(with_name.to_string().as_bytes(), NOW).expect_err("a bad body");
    let details = refused.details.expect("the field");
    let same = patch(body).err().is_none_or(|error| error.details.as_deref() == Some(&details));
    assert!(same && refused.code == "BAD_REQUEST" && refused.field.is_some(), "{details}");
    details
}

fn full() -> Value {
    json!({
        "name": "acme 7/a", "display_name": "Acme Seven", "created_at": "2025-12-31T23:00:00.123456",
        "contact_info": {
            "address_line_1": "1 Main St", "address_line_2": "Suite 5", "city": "Oslo", "state": "OS", "country": "NO", "zipcode": "0150",
            "url": "https://acme.test", "logo_url": "https://acme.test/logo.png", "email": "ap@acme.test", "phone": "1",
            "secondary_emails": ["b@acme.test", "a@acme.test"], "legal_name": "Acme Inc", "vat_id": "NO1",
        },
        "measurement_mappings": [{"label": "user_id", "value_regex": "u-7"}, {"label": "host"}],
        "tags": ["beta", "alpha"], "customer_metadata": [{"property": "tier", "value": "gold"}], "vendor_id": 12345678901234567890123u128,
        "price_plan_name": "pro", "autogenerate_payment_gateway_customer": true, "unknown": {"a": 1},
    })
}

#[test]
fn a_full_customer_is_kept_and_shown_as_it_was_sent() {
    let customer = made(&full());
    let mut expected = full();
    for gone in ["customer_metadata", "price_plan_name", "unknown"] {
        expected.as_object_mut().expect("an object").remove(gone);
    }
    expected["created_at"] = "2025-12-31T23:00:00.123456Z".into();
    expected["tags"] = json!([{"tag": "beta"}, {"tag": "alpha"}]);
    assert_eq!(render(&customer), expected);
    assert_eq!(crate::dialect::octane::metadata::render(&customer), json!([{"property": "tier", "value": "gold"}]));
    let plan = NewCustomer::parse(full().to_string().as_bytes(), NOW).expect("a good body").plan().cloned().expect("a plan");
    assert_eq!((plan.plan_id.as_str(), plan.start_ms), ("pro", NOW.millis().0));
}

#[test]
fn the_smallest_customer_has_what_is_always_there() {
    let shown = json!({"name": "a", "created_at": "2026-01-01T00:00:00.000000Z", "measurement_mappings": [], "tags": []});
    let nulls = json!({
        "name": "a", "display_name": null, "contact_info": null, "created_at": null, "measurement_mappings": null, "tags": null,
        "customer_metadata": null, "vendor_id": null, "price_plan_name": null, "price_plan_tag": null,
        "autogenerate_payment_gateway_customer": null, "autogenerate_accounting_customer": null,
    });
    for body in [json!({"name": "a"}), nulls, json!({"name": "a", "display_name": "", "contact_info": "", "tags": "", "vendor_id": ""})] {
        assert_eq!(render(&made(&body)), shown);
    }
    let empty = made(&json!({"name": "a", "contact_info": {"city": "", "email": null, "secondary_emails": []}}));
    assert_eq!(render(&empty), shown);
}

#[test]
fn a_merge_changes_what_it_names() {
    let mut customer = made(&full());
    put(&mut customer, &json!({"contact_info": {"city": "Bergen", "phone": null, "vat_id": "", "secondary_emails": null}}));
    let mut expected = render(&made(&full()));
    let contact = expected["contact_info"].as_object_mut().expect("an object");
    contact.insert("city".into(), "Bergen".into());
    for gone in ["phone", "vat_id", "secondary_emails"] {
        contact.remove(gone);
    }
    assert_eq!(render(&customer), expected);
    put(&mut customer, &json!({"tags": ["x"], "measurement_mappings": [], "vendor_id": "v", "display_name": "New"}));
    for (name, value) in
        [("tags", json!([{"tag": "x"}])), ("measurement_mappings", json!([])), ("vendor_id", json!("v")), ("display_name", json!("New"))]
    {
        expected[name] = value;
    }
    assert_eq!(render(&customer), expected);
    // What the Python client sends where its user has set None.
    put(&mut customer, &json!({"tags": "", "measurement_mappings": "", "vendor_id": "", "display_name": "", "contact_info": ""}));
    let shown = render(&customer);
    let names: Vec<_> = shown.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, ["autogenerate_payment_gateway_customer", "created_at", "measurement_mappings", "name", "tags"]);
    put(&mut customer, &json!({"created_at": "2025-01-01T01:00:00+01:00"}));
    assert_eq!(render(&customer)["created_at"], "2025-01-01T00:00:00.000000Z");
}

#[test]
fn an_address_that_somebody_checked_is_unchecked_when_it_changes_and_only_then() {
    let address = Address { city: Some("Oslo".into()), state: Some(String::new()), verified: Some(true), ..Address::default() };
    let mut customer = new("a");
    customer.address = address.clone();
    put(&mut customer, &json!({"contact_info": {"city": "Oslo", "state": "", "zipcode": null, "phone": "1"}}));
    assert_eq!(customer.address, address, "it says the same");
    put(&mut customer, &json!({"contact_info": {"country": "NO"}}));
    assert_eq!(customer.address, Address { country: Some("NO".into()), verified: None, ..address });
}

#[test]
fn a_name_never_changes() {
    let id = CustomerId::parse("a b").expect("a good id");
    for (body, fits) in [(json!({}), true), (json!({"name": "a b"}), true), (json!({"name": "a+b"}), false), (json!({"name": ""}), false)] {
        assert_eq!(patch(&body).expect("a good body").check_name(&id).is_ok(), fits, "{body}");
    }
}

#[test]
fn what_mappings_and_tags_have_beside_their_fields_stays_with_them() {
    let mut customer = made(&json!({
        "name": "a", "tags": ["x", {"tag": "y", "colour": "red"}],
        "measurement_mappings": [{"label": "l", "value": "v", "note": {"a": [1]}}, {"label": "m", "value_regex": "r", "value": "v"}],
    }));
    assert_eq!(render(&customer)["tags"], json!([{"tag": "x"}, {"tag": "y", "colour": "red"}]));
    let first = json!({"label": "l", "value_regex": "v", "note": {"a": [1]}});
    assert_eq!(mappings::render(&customer), json!([first, {"label": "m", "value_regex": "r"}]));
    let sent = SentMapping::parse(br#"{"label":"n","by":"me"}"#).expect("a mapping");
    for _ in 0..2 {
        sent.add_to(&mut customer).expect("few");
    }
    mappings::remove(&mut customer, &["m".into()]).expect("is there");
    assert_eq!(mappings::render(&customer), json!([first, {"label": "n", "by": "me"}]));
    let again = SentMapping::parse(br#"{"label":"n"}"#).expect("a mapping");
    again.add_to(&mut customer).expect("is there");
    assert_eq!(mappings::render(&customer), json!([first, {"label": "n"}]), "the newest holds");
    assert!(matches!(mappings::remove(&mut customer, &["m".into(), "o".into()]), Err(ChangeError::UnknownMapping)));
    mappings::remove(&mut customer, &["a+n".into(), "n".into()]).expect("is there");
    mappings::remove(&mut customer, &["l".into()]).expect("is there");
    put(&mut customer, &json!({"tags": []}));
    assert!(customer.ext.octane.is_empty() && customer.mappings.is_empty());
}

#[test]
fn there_is_an_end_to_mappings() {
    let mut customer = new("a");
    for n in 0..64 {
        SentMapping::parse(json!({"label": n.to_string()}).to_string().as_bytes()).expect("a mapping").add_to(&mut customer).expect("few");
    }
    let one_more = SentMapping::parse(br#"{"label":"x"}"#).expect("a mapping");
    assert!(matches!(one_more.add_to(&mut customer), Err(ChangeError::TooMany { what: "mappings", max: 64 })));
    assert_eq!(customer.mappings.len(), 64);
}

#[test]
fn a_customer_of_another_dialect_shows_what_octane_can_express() {
    let mut customer = new("a");
    customer.name = Some(String::new());
    customer.description = Some("d".into());
    customer.address = Address { line1: Some(String::new()), verified: Some(true), ..Address::default() };
    customer.contact = Contact { phone: Some(String::new()), ..Contact::default() };
    customer.currency = Some("eur".into());
    customer.ext = Extensions { stigg: Map::from_iter([("couponId".into(), json!("c"))]), ..Extensions::default() };
    let shown = json!({"name": "a", "created_at": "2026-01-01T00:00:00.123456Z", "measurement_mappings": [], "tags": []});
    assert_eq!(render(&customer), shown);
    let before = customer.clone();
    put(&mut customer, &json!({"display_name": "", "contact_info": {"address_line_1": "", "phone": null}}));
    assert_eq!(customer, before, "an empty text of another dialect is nothing here, and stays");
    assert_eq!(status_label(&customer), "ACTIVE");
    customer.stage = Stage::Offboarded;
    assert_eq!(status_label(&customer), "OFFBOARDED");
}

#[test]
fn a_value_of_another_type_is_refused_by_its_path() {
    let texts = CONTACT_TEXTS.iter().map(|text| (format!("/contact_info/{}", text.name), "must be a string"));
    let rest = [
        ("/name", "must be a string"),
        ("/display_name", "must be a string"),
        ("/contact_info", "must be an object"),
        ("/contact_info/secondary_emails", "must be an array of strings"),
        ("/created_at", "must be a string"),
        ("/measurement_mappings", "must be an array of mappings"),
        ("/measurement_mappings/0/label", "must be a string"),
        ("/measurement_mappings/0/value_regex", "must be a string"),
        ("/tags", "must be an array of strings"),
        ("/vendor_id", "must be a number or a string"),
        ("/customer_metadata", "must be an array of objects with property and value"),
        ("/customer_metadata/0/value", "must be a string"),
        ("/price_plan_name", "must be a string"),
        ("/autogenerate_payment_gateway_customer", "must be true or false"),
    ];
    for (path, reason) in texts.chain(rest.map(|(path, reason)| (path.to_owned(), reason))) {
        let mut body = full();
        *body.pointer_mut(&path).expect("a path of the full body") = if path == "/contact_info" { json!(7) } else { json!({"a": 1}) };
        let field = path[1..].replace("/0", "[0]").replace('/', ".");
        assert_eq!(details(&body), format!("{field} {reason}"));
    }
    assert_eq!(details(&json!({"tags": ["x", ""]})), "tags[1] must be a string that is not empty");
    assert_eq!(details(&json!({"measurement_mappings": [7]})), "measurement_mappings[0] must be an object");
    for body in ["", "[]", "7", "{", "{\"name\":\"a\",}"] {
        assert!(NewCustomer::parse(body.as_bytes(), NOW).is_err() && CustomerPatch::parse(body.as_bytes(), NOW).is_err(), "{body}");
    }
}

#[test]
fn every_limit_is_kept_and_named() {
    let long = |bytes: usize| "x".repeat(bytes);
    let many = |entries: usize, entry: Value| Value::from(vec![entry; entries]);
    for (body, reason) in [
        (json!({"name": ""}), "name must not be empty"),
        (json!({"name": long(256)}), "name has 256 bytes, the limit is 255"),
        (json!({"name": "a\0"}), "name contains U+0000"),
        (json!({"name": null}), "name is missing"),
        (json!({"display_name": long(1_025)}), "display_name has 1025 bytes, the limit is 1024"),
        (json!({"contact_info": {"city": long(1_025)}}), "contact_info.city has 1025 bytes, the limit is 1024"),
        (json!({"contact_info": {"url": "a\0"}}), "contact_info.url contains U+0000"),
        (
            json!({"contact_info": {"secondary_emails": many(65, "x".into())}}),
            "contact_info.secondary_emails has 65 entries, the limit is 64",
        ),
        (
            json!({"contact_info": {"secondary_emails": [long(1_025)]}}),
            "contact_info.secondary_emails[0] has 1025 bytes, the limit is 1024",
        ),
        (json!({"tags": many(65, "x".into())}), "tags has 65 entries, the limit is 64"),
        (json!({"tags": [long(256)]}), "tags[0] has 256 bytes, the limit is 255"),
        (json!({"tags": [{"tag": "x", "y": long(600)}]}), "tags[0] has 608 bytes in further members, the limit is 512"),
        (json!({"measurement_mappings": many(65, json!({"label": "x"}))}), "measurement_mappings has 65 entries, the limit is 64"),
        (json!({"measurement_mappings": [{"value": "x"}]}), "measurement_mappings[0].label is missing"),
        (json!({"measurement_mappings": [{"label": long(129)}]}), "measurement_mappings[0].label has 129 bytes, the limit is 128"),
        (
            json!({"measurement_mappings": [{"label": "l", "value_regex": long(1_025)}]}),
            "measurement_mappings[0].value_regex has 1025 bytes, the limit is 1024",
        ),
        (
            json!({"measurement_mappings": [{"label": "l", "value": "("}]}),
            "measurement_mappings[0].value is no regular expression: unclosed group",
        ),
        (json!({"vendor_id": long(256)}), "vendor_id has 256 bytes, the limit is 255"),
        (json!({"created_at": "2026-01-01T00:05:00.000001Z"}), "created_at lies in the future"),
        (json!({"created_at": "1969-01-01T00:00:00Z"}), "created_at must be a time as in RFC 3339, between the years 1970 and 9999"),
        (json!({"price_plan_tag": long(256)}), "price_plan_tag has 256 bytes, the limit is 255"),
    ] {
        assert_eq!(details(&body), reason);
    }
    let properties: Vec<_> = (0..65).map(|n| json!({"property": n.to_string(), "value": "v"})).collect();
    assert_eq!(details(&json!({"customer_metadata": properties})), "customer_metadata has more than 64 properties, the limit");
    let at_the_limits = json!({
        "name": long(255), "display_name": long(1_024), "tags": many(64, long(255).into()), "created_at": "2026-01-01T00:05:00Z",
        "measurement_mappings": many(64, json!({"label": long(128), "value_regex": long(1_024)})), "vendor_id": long(255),
    });
    assert_eq!(made(&at_the_limits).tags.len(), 64);
}

#[test]
fn a_mapping_may_come_without_an_expression() {
    for body in [r#"{"label":"l"}"#, r#"{"label":"l","value_regex":null,"value":null}"#, r#"{"label":"l","value_regex":""}"#] {
        let mut customer = new("a");
        SentMapping::parse(body.as_bytes()).expect("a mapping").add_to(&mut customer).expect("few");
        assert_eq!(customer.mappings, [Mapping { label: "l".into(), value_regex: None }]);
    }
}
