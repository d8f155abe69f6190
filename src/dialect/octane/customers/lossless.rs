//! Nothing is lost between the dialects (contract `stigg.md` section 6): laws for any customer and any write, and a slow, obvious reference of
//! what two dialects see of one customer through any sequence of their writes.

use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::customers::arbitrary::any_customer;
use crate::customers::{Address, Contact, Customers};
use crate::dialect::amberflo::customers::{CustomerRequest, render as render_amberflo};
use crate::dialect::octane::metadata;
use crate::store::memory::MemoryStore;

const ACCOUNT: u32 = 1;
const NOW: UnixMicros = UnixMicros(1_767_225_600_000_000);
/// Fields of `contact_info` that are an address, and what Amberflo calls them.
const ADDRESS: [(&str, &str); 5] =
    [("address_line_1", "line1"), ("city", "city"), ("country", "country"), ("state", "state"), ("zipcode", "postalCode")];

fn any_word() -> impl Strategy<Value = String> {
    // Few, so that writes say the same now and then; the last is the customer's id.
    prop_oneof![Just("x"), Just("y é"), Just("acme-7")].prop_map(str::to_owned)
}

/// A value, or one of the forms of none.
fn any_patch() -> impl Strategy<Value = Value> {
    prop_oneof![4 => any_word().prop_map(Value::from), 1 => Just(Value::Null), 1 => Just("".into())]
}

fn any_contact_patch() -> impl Strategy<Value = Value> {
    let emails = option::weighted(0.3, vec(any_word(), 0..3));
    let texts = btree_map(0..CONTACT_TEXTS.len(), any_patch(), 0..6);
    (texts, emails).prop_map(|(texts, emails)| {
        let mut contact: Map<_, _> = texts.into_iter().map(|(at, value)| (CONTACT_TEXTS[at].name.to_owned(), value)).collect();
        contact.extend(emails.map(|emails| (SECONDARY_EMAILS.to_owned(), emails.into())));
        contact.into()
    })
}

/// The body of a PUT `/customers/{name}`.
fn any_put() -> impl Strategy<Value = Value> {
    let mapping = prop_oneof![
        any_word().prop_map(|label| json!({"label": label})),
        (any_word(), any_word()).prop_map(|(label, regex)| json!({"label": label, "value_regex": regex})),
        any_word().prop_map(|label| json!({"label": label, "note": 7})),
    ];
    let vendor = prop_oneof![any_word().prop_map(Value::from), any::<i64>().prop_map(Value::from), Just("".into())];
    let parts = (
        option::of(any_patch()),
        option::of(any_contact_patch()),
        option::weighted(0.3, vec(any_word(), 0..3)),
        option::weighted(0.3, vec(mapping, 0..3)),
        option::weighted(0.3, vendor),
    );
    parts.prop_map(|(name, contact, tags, mappings, vendor)| {
        let parts = [
            ("display_name", name),
            ("contact_info", contact),
            ("tags", tags.map(Value::from)),
            ("measurement_mappings", mappings.map(Value::from)),
            ("vendor_id", vendor),
        ];
        parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
    })
}

/// The body of a POST `/customers/{name}/metadata`.
fn any_metadata() -> impl Strategy<Value = Value> {
    let property = (any_word(), option::of(any_word())).prop_map(|(property, value)| json!({"property": property, "value": value}));
    vec(property, 0..3).prop_map(Value::from)
}

/// The body of Amberflo's PUT `/customers`.
fn any_amberflo() -> impl Strategy<Value = Value> {
    let address = (any_word(), any_word(), any_word(), option::of(any_word()), option::of(any_word()), option::of(any::<bool>()));
    let address = address.prop_map(|(line1, city, country, state, postal_code, verified)| {
        json!({"line1": line1, "city": city, "country": country, "state": state, "postalCode": postal_code, "verified": verified})
    });
    let texts = (any_word(), option::of(any_word()), option::of(any_word()));
    let traits = btree_map(any_word(), any_word(), 0..3);
    (texts, traits, option::of(address)).prop_map(|((name, email, description), traits, address)| {
        json!({
            "customerId": "acme-7", "customerName": name, "customerEmail": email, "description": description, "traits": traits,
            "address": address,
        })
    })
}

/// A write of either dialect.
#[derive(Debug, Clone)]
enum Write {
    Put(Value),
    Metadata(Value),
    Amberflo(Value),
}

fn any_write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => any_put().prop_map(Write::Put),
        1 => any_metadata().prop_map(Write::Metadata),
        2 => any_amberflo().prop_map(Write::Amberflo),
    ]
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("an object")
}

/// Sets a member, or takes it away where the value is one of the forms of none.
fn set(members: &mut Map<String, Value>, name: &str, value: &Value) {
    if value.is_null() || *value == "" {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value.clone());
    }
}

/// What Octane shows after a PUT of a customer that it showed so before.
fn merged(shown: &Value, sent: &Value) -> Value {
    let mut shown = shown.clone();
    let members = object(&mut shown);
    for (name, value) in sent.as_object().expect("an object") {
        match name.as_str() {
            "contact_info" => {
                let mut contact = members.remove("contact_info").unwrap_or_else(|| json!({}));
                for (name, value) in value.as_object().expect("an object") {
                    set(object(&mut contact), name, if *value == json!([]) { &Value::Null } else { value });
                }
                if contact != json!({}) {
                    members.insert("contact_info".into(), contact);
                }
            }
            "tags" => {
                let tags = value.as_array().expect("an array").iter().map(|tag| json!({"tag": tag}));
                members.insert("tags".into(), tags.collect());
            }
            // `null` is absent.
            "display_name" if value.is_null() => {}
            _ => set(members, name, value),
        }
    }
    for list in ["tags", "measurement_mappings"] {
        members.entry(list).or_insert(json!([]));
    }
    shown
}

/// What both see, told apart from what the model keeps.
struct Reference {
    octane: Value,
    metadata: BTreeMap<String, String>,
    description: Value,
    verified: Value,
}

impl Reference {
    fn address(&self) -> Option<Value> {
        let contact = self.octane.get("contact_info")?;
        let mut address = Map::new();
        for (at, (octane, amberflo)) in ADDRESS.into_iter().enumerate() {
            match contact.get(octane) {
                Some(text) => drop(address.insert(amberflo.into(), text.clone())),
                // Amberflo has no address without these.
                None if at < 3 => return None,
                None => {}
            }
        }
        if !self.verified.is_null() {
            address.insert("verified".into(), self.verified.clone());
        }
        Some(address.into())
    }

    fn name(&self) -> Value {
        self.octane.get("display_name").cloned().unwrap_or("acme-7".into())
    }

    fn amberflo(&self) -> Value {
        let mut shown = json!({"customerName": self.name()});
        let traits = if self.metadata.is_empty() { Value::Null } else { json!(self.metadata) };
        let email = self.octane.pointer("/contact_info/email").cloned().unwrap_or_default();
        let parts =
            [("customerEmail", email), ("description", self.description.clone()), ("traits", traits), ("address", self.address().into())];
        for (name, value) in parts {
            set(object(&mut shown), name, &value);
        }
        shown
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Put(sent) => {
                let lines = |octane: &Value| {
                    let names = ADDRESS.map(|(name, _)| name).into_iter().chain(["address_line_2"]);
                    names.map(|name| octane.get("contact_info").and_then(|contact| contact.get(name)).cloned()).collect::<Vec<_>>()
                };
                let before = lines(&self.octane);
                self.octane = merged(&self.octane, sent);
                if lines(&self.octane) != before {
                    self.verified = Value::Null;
                }
            }
            Write::Metadata(sent) => {
                for entry in sent.as_array().expect("an array") {
                    let property = entry["property"].as_str().expect("a text").to_owned();
                    match entry["value"].as_str() {
                        Some(value) => drop(self.metadata.insert(property, value.to_owned())),
                        None => drop(self.metadata.remove(&property)),
                    }
                }
            }
            Write::Amberflo(sent) => self.write_amberflo(sent),
        }
    }

    fn write_amberflo(&mut self, sent: &Value) {
        self.description = sent["description"].clone();
        self.metadata = serde_json::from_value(sent["traits"].clone()).expect("texts");
        let name = (sent["customerName"] != self.name()).then(|| json!({"display_name": sent["customerName"]}));
        let mut contact = json!({"email": sent["customerEmail"]});
        if !sent["address"].is_null() || self.address().is_some() {
            for (octane, amberflo) in ADDRESS {
                contact[octane] = sent["address"][amberflo].clone();
            }
            self.verified = sent["address"]["verified"].clone();
        }
        for part in [name.unwrap_or(json!({})), json!({"contact_info": contact})] {
            self.octane = merged(&self.octane, &part);
        }
    }
}

/// The same on what is real.
fn write(customers: &Customers, id: &CustomerId, write: &Write) -> Customer {
    match write {
        Write::Put(sent) => {
            let patch = CustomerPatch::parse(sent.to_string().as_bytes(), NOW).expect("a good body");
            customers.change(ACCOUNT, id, |customer| patch.apply(customer)).expect("is there")
        }
        Write::Metadata(sent) => {
            let sent = Metadata::parse(sent.to_string().as_bytes()).expect("a good body");
            customers.try_change(ACCOUNT, id, |customer| sent.merge(customer)).expect("is there, and few")
        }
        Write::Amberflo(sent) => {
            let request = CustomerRequest::parse(sent.to_string().as_bytes()).expect("a good body");
            customers.change(ACCOUNT, id, |customer| request.replace(customer)).expect("is there")
        }
    }
}

/// What Octane cannot express of a customer.
fn hidden(customer: &Customer) -> Customer {
    let mut hidden = customer.clone();
    (hidden.name, hidden.email) = (None, None);
    (hidden.address, hidden.contact) = (Address::default(), Contact::default());
    (hidden.mappings, hidden.tags) = (Vec::new(), Vec::new());
    hidden.created_at = UnixMicros(0);
    hidden.ext.octane.clear();
    hidden
}

proptest! {
    #[test]
    fn what_octane_writes_it_reads_back_and_the_rest_stays(stored in any_customer(), sent in any_put()) {
        let mut customer = stored.clone();
        // As Octane leaves them: what it did not make may be anything.
        customer.ext.octane.retain(|name, _| name == VENDOR_ID);
        let before = render(&customer);
        let (verified, flags) = (customer.address.verified, hidden(&customer));
        CustomerPatch::parse(sent.to_string().as_bytes(), NOW).expect("a good body").apply(&mut customer);
        prop_assert_eq!(render(&customer), merged(&before, &sent));
        prop_assert_eq!(hidden(&customer), flags);
        prop_assert!(customer.address.verified == verified || customer.address.verified.is_none());
    }

    #[test]
    fn a_put_of_what_was_shown_changes_nothing(stored in any_customer()) {
        let mut customer = stored.clone();
        customer.ext.octane.clear();
        // Of no other length and content could they have come.
        customer.mappings.retain(|mapping| !mapping.label.is_empty());
        customer.mappings.iter_mut().for_each(|mapping| mapping.value_regex = mapping.value_regex.take().map(|text| regex::escape(&text)));
        customer.mappings.iter_mut().for_each(|mapping| mapping.value_regex = mapping.value_regex.take().filter(|text| !text.is_empty()));
        customer.tags.retain(|tag| !tag.is_empty());
        let expected = customer.clone();
        let patch = CustomerPatch::parse(render(&customer).to_string().as_bytes(), UnixMicros(i64::MAX));
        patch.expect("was shown").apply(&mut customer);
        prop_assert_eq!(customer, expected);
    }

    #[test]
    fn through_any_writes_of_two_dialects_each_reads_back_what_it_wrote(writes in vec(any_write(), 1..12)) {
        let customers = Customers::new(Arc::new(MemoryStore::default()), Clock::start());
        let id = CustomerId::parse("acme-7").expect("a good id");
        let made = customers.create(ACCOUNT, &id, |_| ()).expect("a free id");
        let metadata = BTreeMap::new();
        let mut reference = Reference { octane: render(&made), metadata, description: Value::Null, verified: Value::Null };
        for one in &writes {
            reference.write(one);
            let customer = write(&customers, &id, one);
            prop_assert_eq!(&render(&customer), &reference.octane);
            let properties: Value = reference.metadata.iter().map(|(name, value)| json!({"property": name, "value": value})).collect();
            prop_assert_eq!(metadata::render(&customer), properties);
            let mut shown = render_amberflo(&customer);
            object(&mut shown).retain(|name, _| ["customerName", "customerEmail", "description", "traits", "address"].contains(&name.as_str()));
            prop_assert_eq!(shown, reference.amberflo());
        }
    }
}
