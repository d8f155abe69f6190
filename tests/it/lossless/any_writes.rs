//! Any writes through any dialects, in any order: then every dialect reads back what it wrote, but for fields that a later write of another one
//! changed on purpose. Which fields those are stands in [`FIELDS`], the mapping of the contract.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use serde_json::{Map, Value, json};

use super::One;
use crate::harness::Gateway;

/// Customers that go through any writes.
const CUSTOMERS: u32 = 32;
const WRITES_MAX: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Amberflo,
    Octane,
    Stigg,
}

use Dialect::{Amberflo, Octane, Stigg};

const DIALECTS: [Dialect; 3] = [Amberflo, Octane, Stigg];

/// Where a field of the model stands in what each dialect shows and takes; empty: nowhere.
struct Field {
    name: &'static str,
    at: [&'static str; 3],
    of: Of,
}

/// What values a field has.
#[derive(Clone, Copy)]
enum Of {
    Text,
    Flag,
    Stage,
    Texts,
    Attributes,
    Mappings,
    VendorId,
    Currency,
    TaxIds,
}

const fn field(name: &'static str, at: [&'static str; 3], of: Of) -> Field {
    Field { name, at, of }
}

const LINE1: &str = "/passthrough/stripe/billingAddress/line1";

/// The mapping of the contract.
const FIELDS: [Field; 24] = [
    field("name", ["/customerName", "/display_name", "/name"], Of::Text),
    field("email", ["/customerEmail", "/contact_info/email", "/email"], Of::Text),
    field("description", ["/description", "", ""], Of::Text),
    field("stage", ["/lifecycleStage", "", ""], Of::Stage),
    field("enabled", ["/enabled", "", ""], Of::Flag),
    field("test", ["/test", "", ""], Of::Flag),
    // Octane has them at a path of their own.
    field("attributes", ["/traits", "", "/metadata"], Of::Attributes),
    field("line1", ["/address/line1", "/contact_info/address_line_1", LINE1], Of::Text),
    field("line2", ["", "/contact_info/address_line_2", "/passthrough/stripe/billingAddress/line2"], Of::Text),
    field("city", ["/address/city", "/contact_info/city", "/passthrough/stripe/billingAddress/city"], Of::Text),
    field("state", ["/address/state", "/contact_info/state", "/passthrough/stripe/billingAddress/state"], Of::Text),
    field("postal_code", ["/address/postalCode", "/contact_info/zipcode", "/passthrough/stripe/billingAddress/postalCode"], Of::Text),
    field("country", ["/address/country", "/contact_info/country", "/passthrough/stripe/billingAddress/country"], Of::Text),
    field("verified", ["/address/verified", "", ""], Of::Flag),
    field("url", ["", "/contact_info/url", ""], Of::Text),
    field("phone", ["", "/contact_info/phone", ""], Of::Text),
    field("legal_name", ["", "/contact_info/legal_name", ""], Of::Text),
    field("secondary_emails", ["", "/contact_info/secondary_emails", ""], Of::Texts),
    field("mappings", ["", "/measurement_mappings", ""], Of::Mappings),
    field("tags", ["", "/tags", ""], Of::Texts),
    field("vendor_id", ["", "/vendor_id", ""], Of::VendorId),
    field("currency", ["", "", "/billingCurrency"], Of::Currency),
    field("language", ["", "", "/language"], Of::Text),
    field("tax_ids", ["", "", "/passthrough/stripe/taxIds"], Of::TaxIds),
];

/// The address, and what of it Amberflo has none without.
const ADDRESS: [&str; 6] = ["line1", "line2", "city", "state", "postal_code", "country"];
const REQUIRED: [&str; 3] = ["line1", "city", "country"];

/// Fields by their names; null where one is cleared.
type Fields = BTreeMap<&'static str, Value>;

fn of_dialect(dialect: Dialect) -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(move |field| !field.at[dialect as usize].is_empty())
}

#[derive(Debug, Clone)]
enum Write {
    Create(Dialect, Fields),
    Change(Dialect, Fields),
    /// Octane's metadata: merged, null deletes.
    Metadata(BTreeMap<&'static str, Option<&'static str>>),
    /// Octane's mapping of a label, added or taken away.
    Map(&'static str),
    Unmap(&'static str),
    Subscribe(Dialect, &'static str),
    Remove(Dialect),
    Unarchive,
}

/// Few, so that writes say the same now and then; the last is the customer's id.
const WORDS: [&str; 3] = ["x", "y é/", "{id}"];

fn any_word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&WORDS[..])
}

fn any_value(of: Of) -> BoxedStrategy<Value> {
    let attributes = || btree_map(prop::sample::select(&["a", "b é"][..]), any_word(), 0..3);
    let mapping = (any_word(), option::of(any_word()));
    let mapping =
        mapping.prop_map(|(label, regex)| regex.map_or(json!({"label": label}), |regex| json!({"label": label, "value_regex": regex})));
    match of {
        Of::Text => any_word().prop_map(Value::from).boxed(),
        Of::Flag => any::<bool>().prop_map(Value::from).boxed(),
        Of::Stage => prop::sample::select(&["ONBOARDING", "TRAIL", "ACTIVE", "OFFBOARDED"][..]).prop_map(Value::from).boxed(),
        Of::Texts => vec(any_word(), 0..3).prop_map(Value::from).boxed(),
        Of::Attributes => attributes().prop_map(|attributes| json!(attributes)).boxed(),
        Of::Mappings => vec(mapping, 0..3).prop_map(Value::from).boxed(),
        Of::VendorId => prop_oneof![any_word().prop_map(Value::from), any::<i64>().prop_map(Value::from)].boxed(),
        Of::Currency => prop::sample::select(&["eur", "nok"][..]).prop_map(Value::from).boxed(),
        Of::TaxIds => any_word().prop_map(|word| json!([{"type": "t", "value": word}])).boxed(),
    }
}

/// How a dialect says that a field is cleared.
fn clearing(dialect: Dialect, field: &Field) -> Option<Value> {
    match dialect {
        // It leaves fields out.
        Amberflo => None,
        Octane if field.at[Octane as usize].starts_with("/contact_info") => Some(Value::Null),
        Octane => (field.name == "name").then(|| "".into()),
        Stigg => Some(Value::Null),
    }
}

/// What a body says.
fn any_fields(dialect: Dialect) -> impl Strategy<Value = Fields> {
    let each: Vec<_> = of_dialect(dialect)
        .map(|field| {
            let value = any_value(field.of);
            let value = match clearing(dialect, field) {
                Some(cleared) => prop_oneof![3 => value, 1 => Just(cleared)].boxed(),
                None => value,
            };
            option::weighted(if dialect == Amberflo { 0.8 } else { 0.3 }, value)
        })
        .collect();
    each.prop_map(move |values| {
        let said = of_dialect(dialect).zip(values).filter_map(|(field, value)| Some((field.name, value?)));
        let mut fields: Fields = said.collect();
        if dialect == Amberflo {
            fields.entry("name").or_insert_with(|| "x".into());
            if !REQUIRED.iter().all(|part| fields.contains_key(part)) {
                fields.retain(|name, _| !ADDRESS.contains(name) && *name != "verified");
            }
        }
        fields
    })
}

fn any_write() -> impl Strategy<Value = Write> {
    let dialect = || prop::sample::select(&DIALECTS[..]);
    let fields = || dialect().prop_flat_map(|dialect| any_fields(dialect).prop_map(move |fields| (dialect, fields)));
    let metadata = btree_map(prop::sample::select(&["a", "b é", "c"][..]), option::of(any_word()), 1..3);
    prop_oneof![
        2 => fields().prop_map(|(dialect, fields)| Write::Create(dialect, fields)),
        8 => fields().prop_map(|(dialect, fields)| Write::Change(dialect, fields)),
        2 => metadata.prop_map(Write::Metadata),
        1 => prop::sample::select(&["l", "m"][..]).prop_map(Write::Map),
        1 => prop::sample::select(&["l", "m"][..]).prop_map(Write::Unmap),
        1 => (prop::sample::select(&[Octane, Stigg][..]), any_word()).prop_map(|(dialect, plan)| Write::Subscribe(dialect, plan)),
        1 => dialect().prop_map(Write::Remove),
        1 => Just(Write::Unarchive),
    ]
}

/// What is known of the customer.
#[derive(Debug, Clone, Default)]
struct Model {
    id: String,
    is_made: bool,
    is_removed: bool,
    fields: Fields,
    plan: Option<String>,
}

impl Model {
    fn get(&self, name: &str) -> Value {
        self.fields.get(name).cloned().unwrap_or_default()
    }

    fn set(&mut self, name: &'static str, value: &Value) {
        self.fields.insert(name, or_nothing(value));
    }

    fn address(&self) -> Vec<Value> {
        ADDRESS.iter().map(|part| self.get(part)).collect()
    }

    /// Rule 4: what Amberflo cannot show.
    fn has_address_for_amberflo(&self) -> bool {
        REQUIRED.iter().all(|part| !self.get(part).is_null())
    }

    /// Does a write; gives back the status of its answer.
    fn apply(&mut self, write: &Write) -> u16 {
        let is_there = self.is_made && !self.is_removed;
        match write {
            // Rules 6 and 7.
            Write::Create(Stigg, _) if self.is_made => 409,
            Write::Create(..) if is_there => 400,
            Write::Create(dialect, fields) => {
                let id = std::mem::take(&mut self.id);
                *self = Self { id, is_made: true, ..Self::default() };
                if *dialect == Amberflo {
                    // Who makes a customer of this name means it.
                    self.set("name", &fields["name"]);
                }
                self.change(*dialect, fields);
                if *dialect == Stigg { 201 } else { 200 }
            }
            // An archived one is still a record of Stigg's.
            Write::Change(Stigg, fields) if self.is_made => {
                self.change(Stigg, fields);
                200
            }
            Write::Change(Amberflo, _) if !is_there => 400,
            Write::Unarchive if self.is_made => {
                self.is_removed = false;
                200
            }
            Write::Remove(Stigg) if self.is_made => self.remove(200),
            _ if !is_there => 404,
            Write::Change(dialect, fields) => {
                self.change(*dialect, fields);
                200
            }
            Write::Metadata(properties) => {
                let mut attributes = self.get("attributes").as_object().cloned().unwrap_or_default();
                for (property, value) in properties {
                    match value {
                        Some(value) => drop(attributes.insert((*property).into(), (*value).into())),
                        None => drop(attributes.remove(*property)),
                    }
                }
                self.set("attributes", &attributes.into());
                200
            }
            Write::Map(label) => {
                let added = json!({"label": label, "value_regex": "r"});
                let mut all = self.get("mappings").as_array().cloned().unwrap_or_default();
                if !all.contains(&added) {
                    all.push(added);
                }
                self.set("mappings", &all.into());
                200
            }
            Write::Unmap(label) => {
                let mut all = self.get("mappings").as_array().cloned().unwrap_or_default();
                let before = all.len();
                all.retain(|mapping| mapping["label"] != *label);
                let is_gone = all.len() < before;
                self.set("mappings", &all.into());
                if is_gone { 204 } else { 404 }
            }
            Write::Subscribe(dialect, plan) => {
                self.plan = Some((*plan).to_owned());
                if *dialect == Stigg { 201 } else { 200 }
            }
            Write::Remove(Octane) => self.remove(204),
            Write::Remove(_) => self.remove(200),
            Write::Unarchive => unreachable!("told above"),
        }
    }

    fn remove(&mut self, status: u16) -> u16 {
        (self.is_removed, self.plan) = (true, None);
        status
    }

    /// Rules 2, 4, 5 and 9.
    fn change(&mut self, dialect: Dialect, fields: &Fields) {
        let before = self.address();
        match dialect {
            Amberflo => self.replace(fields),
            Octane => fields.iter().for_each(|(name, value)| self.set(name, value)),
            Stigg => {
                if ADDRESS.iter().any(|part| fields.contains_key(part)) {
                    ADDRESS.iter().for_each(|part| self.set(part, fields.get(part).unwrap_or(&Value::Null)));
                }
                fields.iter().for_each(|(name, value)| self.set(name, value));
            }
        }
        if dialect != Amberflo && self.address() != before {
            self.set("verified", &Value::Null);
        }
    }

    fn replace(&mut self, fields: &Fields) {
        let fallback = Value::from(self.id.as_str());
        let shown = Some(self.get("name")).filter(|name| !name.is_null()).unwrap_or(fallback);
        if fields["name"] != shown {
            self.set("name", &fields["name"]);
        }
        for cleared in ["email", "description", "attributes"] {
            self.set(cleared, fields.get(cleared).unwrap_or(&Value::Null));
        }
        self.set("enabled", fields.get("enabled").unwrap_or(&json!(true)));
        self.set("test", fields.get("test").unwrap_or(&json!(false)));
        if let Some(stage) = fields.get("stage") {
            self.set("stage", stage);
        }
        if fields.contains_key("line1") || self.has_address_for_amberflo() {
            for part in ADDRESS.into_iter().filter(|part| *part != "line2").chain(["verified"]) {
                self.set(part, fields.get(part).unwrap_or(&Value::Null));
            }
        }
    }

    /// What a dialect shows in a field.
    fn shown(&self, dialect: Dialect, field: &Field) -> Value {
        let value = self.get(field.name);
        let is_of_address = ADDRESS.contains(&field.name) || field.name == "verified";
        match (dialect, field.name) {
            (Amberflo, "name") if value.is_null() => self.id.as_str().into(),
            (Amberflo, "stage") if value.is_null() => "ACTIVE".into(),
            (Amberflo, _) if is_of_address && !self.has_address_for_amberflo() => Value::Null,
            _ => value,
        }
    }
}

/// Null for what is empty: nobody tells them apart.
fn or_nothing(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Object(members) if members.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        value => value.clone(),
    }
}

/// Puts a value at a pointer, with the objects above it.
fn put(body: &mut Value, pointer: &str, value: &Value) {
    let mut place = body;
    for name in pointer.trim_start_matches('/').split('/') {
        if !place.is_object() {
            *place = Map::new().into();
        }
        place = &mut place[name];
    }
    *place = value.clone();
}

fn body(dialect: Dialect, fields: &Fields) -> Value {
    let mut body = json!({});
    for field in of_dialect(dialect) {
        if let Some(value) = fields.get(field.name) {
            put(&mut body, field.at[dialect as usize], value);
        }
    }
    body
}

/// The words that stand for the customer's id are its id.
fn with_id(write: &Write, id: &str) -> Write {
    let of = |fields: &Fields| fields.iter().map(|(name, value)| (*name, replaced(value, id))).collect();
    match write {
        Write::Create(dialect, fields) => Write::Create(*dialect, of(fields)),
        Write::Change(dialect, fields) => Write::Change(*dialect, of(fields)),
        other => other.clone(),
    }
}

fn replaced(value: &Value, id: &str) -> Value {
    match value {
        Value::String(text) if text == "{id}" => id.into(),
        Value::Array(items) => items.iter().map(|item| replaced(item, id)).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), replaced(value, id))).collect(),
        value => value.clone(),
    }
}

fn send(one: &One<'_>, write: &Write) -> u16 {
    let answer = match write {
        Write::Create(Amberflo, fields) => one.amberflo("POST", body(Amberflo, fields)),
        Write::Create(Octane, fields) => one.create_by_octane(body(Octane, fields)),
        Write::Create(Stigg, fields) => one.create_by_stigg(body(Stigg, fields)),
        Write::Change(Amberflo, fields) => one.amberflo("PUT", body(Amberflo, fields)),
        Write::Change(Octane, fields) => one.octane("PUT", "", body(Octane, fields)),
        Write::Change(Stigg, fields) => one.stigg("PATCH", "", body(Stigg, fields)),
        Write::Metadata(properties) => {
            let properties = properties.iter().map(|(property, value)| json!({"property": property, "value": value}));
            one.octane("POST", "/metadata", properties.collect())
        }
        Write::Map(label) => one.octane("POST", "/mappings", json!({"label": label, "value_regex": "r"})),
        Write::Unmap(label) => one.octane("DELETE", &format!("/mappings/{label}"), Value::Null),
        Write::Subscribe(Stigg, plan) => one.call("POST", "/stigg/api/v1/subscriptions", &json!({"customerId": one.id, "planId": plan})),
        Write::Subscribe(_, plan) => one.octane("POST", "/subscriptions", json!({"price_plan_name": plan})),
        Write::Remove(Amberflo) => one.amberflo("DELETE", Value::Null),
        Write::Remove(Octane) => one.octane("DELETE", "", Value::Null),
        Write::Remove(Stigg) => one.stigg("POST", "/archive", Value::Null),
        Write::Unarchive => one.stigg("POST", "/unarchive", Value::Null),
    };
    answer.status
}

/// What each dialect shows is what the model has, and nothing else.
fn check(one: &One<'_>, model: &Model) -> Result<(), TestCaseError> {
    let answers = [one.amberflo("GET", Value::Null), one.octane("GET", "", Value::Null), one.stigg("GET", "", Value::Null)];
    for (dialect, answer) in DIALECTS.into_iter().zip(answers) {
        let is_shown = model.is_made && (dialect == Stigg || !model.is_removed);
        prop_assert_eq!(answer.status, if is_shown { 200 } else { 404 }, "{:?}", dialect);
        if !is_shown {
            continue;
        }
        let shown = if dialect == Stigg { answer.json()["data"].clone() } else { answer.json() };
        for field in of_dialect(dialect) {
            let mut seen = or_nothing(shown.pointer(field.at[dialect as usize]).unwrap_or(&Value::Null));
            if let ("tags", Some(tags)) = (field.name, seen.as_array()) {
                seen = tags.iter().map(|tag| tag["tag"].clone()).collect();
            }
            prop_assert_eq!(seen, model.shown(dialect, field), "{:?} {}", dialect, field.name);
        }
        match dialect {
            Amberflo => {}
            Octane => check_octane(one, model)?,
            Stigg => {
                prop_assert_eq!(shown["archivedAt"].is_string(), model.is_removed);
                prop_assert_eq!(shown["subscriptions"].pointer("/0/plan/id").and_then(Value::as_str), model.plan.as_deref());
            }
        }
    }
    Ok(())
}

/// What Octane has at other paths.
fn check_octane(one: &One<'_>, model: &Model) -> Result<(), TestCaseError> {
    let metadata = one.metadata();
    let properties = metadata.as_array().into_iter().flatten();
    let attributes: Map<_, _> =
        properties.map(|one| (one["property"].as_str().unwrap_or_default().to_owned(), one["value"].clone())).collect();
    prop_assert_eq!(or_nothing(&attributes.into()), model.get("attributes"));
    let active = one.octane("GET", "/active_subscription", Value::Null);
    let plan = (active.status == 200).then(|| active.json()["price_plan_name"].clone());
    prop_assert_eq!(plan, model.plan.clone().map(Value::from));
    Ok(())
}

#[test]
fn after_any_writes_every_dialect_reads_back_what_it_wrote() {
    let gateway = Gateway::start();
    let mut customers = 0..;
    let mut runner = TestRunner::new(Config { cases: CUSTOMERS, failure_persistence: None, ..Config::default() });
    let customers = std::cell::RefCell::new(&mut customers);
    let ran = runner.run(&vec(any_write(), 1..WRITES_MAX), |writes| {
        let id = format!("acme-{}", customers.borrow_mut().next().unwrap_or_default());
        let one = One::new(&gateway, &id);
        let mut model = Model { id: id.clone(), ..Model::default() };
        for write in &writes {
            let write = with_id(write, &id);
            prop_assert_eq!(send(&one, &write), model.apply(&write), "{:?}", write);
            check(&one, &model).map_err(|error| TestCaseError::fail(format!("after {write:?}: {error}")))?;
        }
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(reason, writes)) => panic!("{reason}\n{writes:#?}"),
        Err(error) => panic!("{error}"),
    }
}
