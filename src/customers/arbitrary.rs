//! Any customer, for the laws that hold for all of them.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{Address, Contact, Customer, CustomerId, Extensions, Mapping, Stage};
use crate::clock::UnixMicros;

/// An id of a few characters.
pub(crate) fn any_id() -> impl Strategy<Value = CustomerId> {
    "\\PC{1,8}".prop_map(|text| CustomerId::parse(&text).expect("1 to 32 bytes"))
}

/// A short text, possibly empty.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    "\\PC{0,8}"
}

/// A time between 1970 and 2100, in µs.
pub(crate) fn any_time() -> impl Strategy<Value = UnixMicros> {
    (0..4_102_444_800_000_000i64).prop_map(UnixMicros)
}

/// A stage.
pub(crate) fn any_stage() -> impl Strategy<Value = Stage> {
    prop_oneof![Just(Stage::Onboarding), Just(Stage::Trial), Just(Stage::Active), Just(Stage::Offboarded)]
}

/// A few attributes.
pub(crate) fn any_attributes() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(any_text(), any_text(), 0..4)
}

fn any_address() -> impl Strategy<Value = Address> {
    let part = || option::of(any_text());
    (part(), part(), part(), part(), part(), part(), option::of(any::<bool>())).prop_map(
        |(line1, line2, city, state, postal_code, country, verified)| Address { line1, line2, city, state, postal_code, country, verified },
    )
}

fn any_contact() -> impl Strategy<Value = Contact> {
    let part = || option::of(any_text());
    (part(), part(), vec(any_text(), 0..3), part(), part(), part()).prop_map(
        |(url, logo_url, secondary_emails, phone, legal_name, vat_id)| Contact {
            url,
            logo_url,
            secondary_emails,
            phone,
            legal_name,
            vat_id,
        },
    )
}

fn any_mapping() -> impl Strategy<Value = Mapping> {
    (any_text(), option::of(any_text())).prop_map(|(label, value_regex)| Mapping { label, value_regex })
}

fn any_members() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
        vec(any_text(), 0..2).prop_map(Value::from),
    ];
    btree_map(any_text(), value, 0..3).prop_map(|members| members.into_iter().collect())
}

fn any_extensions() -> impl Strategy<Value = Extensions> {
    (any_members(), any_members(), any_members()).prop_map(|(amberflo, octane, stigg)| Extensions { amberflo, octane, stigg })
}

/// A customer with any part of it set or unset, removed or not.
pub(crate) fn any_customer() -> impl Strategy<Value = Customer> {
    let times = (any_time(), 0..1_000_000_000i64, option::of(any_time()), option::weighted(0.2, any_time()));
    let texts = (option::of(any_text()), option::of(any_text()), option::of(any_text()), option::of(any_text()));
    let flags = (any_stage(), option::of(any::<bool>()), option::of(any::<bool>()));
    let lists = (any_attributes(), vec(any_mapping(), 0..3), vec(any_text(), 0..3));
    (any_id(), times, texts, flags, lists, any_address(), any_contact(), any_extensions()).prop_map(
        |(id, times, texts, flags, lists, address, contact, ext)| {
            let mut customer = Customer::new(id, times.0);
            customer.updated_at = UnixMicros(times.0.0 + times.1);
            (customer.deactivated_at, customer.removed_at) = (times.2, times.3);
            (customer.name, customer.email, customer.description, customer.currency) = texts;
            (customer.stage, customer.enabled, customer.test) = flags;
            (customer.attributes, customer.mappings, customer.tags) = lists;
            (customer.address, customer.contact, customer.ext) = (address, contact, ext);
            customer
        },
    )
}
