//! What Amberflo and Stigg write of one customer, both read back (contract `stigg.md` section 6).

use proptest::prelude::*;
use proptest::{collection, option};
use serde_json::json;

use super::tests::{fields, shown};
use super::*;
use crate::customers::Stage;
use crate::customers::arbitrary::{any_attributes, any_customer, any_stage, any_text};
use crate::dialect::amberflo::customers::{CustomerRequest, render as render_amberflo};

/// What two dialects said of a customer, kept field by field as the rules have it, beside the model and its code.
#[derive(Debug, Clone, Default, PartialEq)]
struct Expected {
    name: Option<String>,
    email: Option<String>,
    metadata: BTreeMap<String, String>,
    description: Option<String>,
    flags: (Option<bool>, Option<bool>),
    stage: Option<Stage>,
    currency: Option<String>,
    language: Option<String>,
    tax: Option<String>,
    /// line1, line2, city, state, postal code, country.
    address: [Option<String>; 6],
    verified: Option<bool>,
}

/// line1, city, country; state, postal code; whether it is verified.
type PutAddress = ([String; 3], [Option<String>; 2], Option<bool>);

#[derive(Debug, Clone)]
struct AmberfloPut {
    name: String,
    email: Option<String>,
    description: Option<String>,
    flags: (Option<bool>, Option<bool>),
    stage: Option<Stage>,
    traits: BTreeMap<String, String>,
    address: Option<PutAddress>,
}

#[derive(Debug, Clone)]
struct StiggPatch {
    name: Said<String>,
    email: Said<String>,
    metadata: Said<BTreeMap<String, String>>,
    currency: Said<String>,
    language: Said<String>,
    tax: Said<String>,
    address: Said<[Option<String>; 6]>,
}

#[derive(Debug, Clone)]
enum Write {
    Amberflo(AmberfloPut),
    Stigg(StiggPatch),
}

const PARTS: [&str; 6] = ["line1", "line2", "city", "state", "postalCode", "country"];

fn word() -> impl Strategy<Value = String> {
    "[a-z]{1,3}"
}

fn said<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Said<T>> {
    option::of(option::of(value))
}

fn any_put() -> impl Strategy<Value = AmberfloPut> {
    let part = || option::of(word());
    let address = ([word(), word(), word()], [part(), part()], option::of(any::<bool>()));
    let texts = (word(), part(), part());
    let flags = (option::of(any::<bool>()), option::of(any::<bool>()));
    (texts, flags, option::of(any_stage()), any_attributes(), option::of(address)).prop_map(|(texts, flags, stage, traits, address)| {
        AmberfloPut { name: texts.0, email: texts.1, description: texts.2, flags, stage, traits, address }
    })
}

fn any_patch() -> impl Strategy<Value = StiggPatch> {
    let part = || option::of(word());
    let address = [part(), part(), part(), part(), part(), part()];
    (said(word()), said(word()), said(any_attributes()), said("[a-z]{3}"), said(any_text()), said(word()), said(address)).prop_map(
        |(name, email, metadata, currency, language, tax, address)| StiggPatch { name, email, metadata, currency, language, tax, address },
    )
}

fn any_write() -> impl Strategy<Value = Write> {
    prop_oneof![any_put().prop_map(Write::Amberflo), any_patch().prop_map(Write::Stigg)]
}

/// Leaves out what is unset.
fn object_of(members: Vec<(&str, Option<Value>)>) -> Value {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
}

fn stage_word(stage: Stage) -> &'static str {
    crate::dialect::amberflo::customers::stage_label(stage)
}

impl AmberfloPut {
    fn body(&self) -> Value {
        let address = self.address.as_ref().map(|([line1, city, country], [state, postal_code], verified)| {
            object_of(vec![
                ("line1", Some(json!(line1))),
                ("city", Some(json!(city))),
                ("country", Some(json!(country))),
                ("state", state.as_ref().map(|part| json!(part))),
                ("postalCode", postal_code.as_ref().map(|part| json!(part))),
                ("verified", verified.map(|flag| json!(flag))),
            ])
        });
        object_of(vec![
            ("customerId", Some(json!("acme"))),
            ("customerName", Some(json!(self.name))),
            ("customerEmail", self.email.as_ref().map(|text| json!(text))),
            ("description", self.description.as_ref().map(|text| json!(text))),
            ("enabled", self.flags.0.map(|flag| json!(flag))),
            ("test", self.flags.1.map(|flag| json!(flag))),
            ("lifecycleStage", self.stage.map(|stage| json!(stage_word(stage)))),
            ("traits", Some(json!(self.traits))),
            ("address", address),
        ])
    }

    /// Rule 2: a replacement within rule 1. Rule 5: a fallback is never written back.
    fn expect(&self, expected: &mut Expected) {
        if expected.name.as_deref().unwrap_or("acme") != self.name {
            expected.name = Some(self.name.clone());
        }
        expected.email.clone_from(&self.email);
        expected.description.clone_from(&self.description);
        expected.flags = (Some(self.flags.0.unwrap_or(true)), Some(self.flags.1.unwrap_or(false)));
        expected.stage = self.stage.or(expected.stage);
        expected.metadata.clone_from(&self.traits);
        let is_shown = [0, 2, 5].into_iter().all(|part| expected.address[part].is_some());
        let line2 = expected.address[1].clone();
        match &self.address {
            // Rule 4: what Amberflo cannot show is not its to clear.
            None if is_shown => (expected.address, expected.verified) = ([None, line2, None, None, None, None], None),
            None => {}
            Some(([line1, city, country], [state, postal_code], verified)) => {
                let some = |part: &String| Some(part.clone());
                expected.address = [some(line1), line2, some(city), state.clone(), postal_code.clone(), some(country)];
                expected.verified = *verified;
            }
        }
    }
}

impl StiggPatch {
    fn body(&self) -> Value {
        let mut stripe = Map::new();
        if let Some(tax) = &self.tax {
            stripe.insert("taxIds".into(), tax.as_ref().map(|tax| json!([{"type": "t", "value": tax}])).into());
        }
        if let Some(address) = &self.address {
            let parts = |parts: &[Option<String>; 6]| {
                object_of(PARTS.into_iter().zip(parts.iter().map(|part| part.as_ref().map(|part| json!(part)))).collect())
            };
            stripe.insert("billingAddress".into(), address.as_ref().map(parts).into());
        }
        let passthrough = (!stripe.is_empty()).then(|| json!({"stripe": stripe}));
        object_of(vec![
            ("name", self.name.as_ref().map(|said| json!(said))),
            ("email", self.email.as_ref().map(|said| json!(said))),
            ("metadata", self.metadata.as_ref().map(|said| json!(said))),
            ("billingCurrency", self.currency.as_ref().map(|said| json!(said))),
            ("language", self.language.as_ref().map(|said| json!(said))),
            ("passthrough", passthrough),
        ])
    }

    /// Rule 2: a merge. Rule 9: another address has not been verified.
    fn expect(&self, expected: &mut Expected) {
        set(&self.name, &mut expected.name);
        set(&self.email, &mut expected.email);
        set(&self.currency, &mut expected.currency);
        set(&self.language, &mut expected.language);
        set(&self.tax, &mut expected.tax);
        if let Some(metadata) = &self.metadata {
            expected.metadata = metadata.clone().unwrap_or_default();
        }
        if let Some(address) = &self.address {
            let address = address.clone().unwrap_or_default();
            if address != expected.address {
                (expected.address, expected.verified) = (address, None);
            }
        }
    }
}

impl Write {
    fn apply(&self, customer: &mut Customer) {
        match self {
            Self::Amberflo(put) => {
                CustomerRequest::parse(put.body().to_string().as_bytes()).expect("a good body").replace(customer);
            }
            Self::Stigg(patch) => fields(&patch.body()).apply(customer),
        }
    }

    fn expect(&self, expected: &mut Expected) {
        match self {
            Self::Amberflo(put) => put.expect(expected),
            Self::Stigg(patch) => patch.expect(expected),
        }
    }
}

/// What both dialects show has to be what is expected, and nothing else.
fn check_views(customer: &Customer, expected: &Expected) -> Result<(), TestCaseError> {
    let (stigg, amberflo) = (shown(customer), render_amberflo(customer));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    prop_assert_eq!(text(&stigg["name"]), expected.name.clone());
    prop_assert_eq!(text(&amberflo["customerName"]), Some(expected.name.clone().unwrap_or_else(|| "acme".into())));
    prop_assert_eq!((text(&stigg["email"]), text(&amberflo["customerEmail"])), (expected.email.clone(), expected.email.clone()));
    prop_assert_eq!(&stigg["metadata"], &json!(expected.metadata));
    let traits = amberflo.get("traits").cloned().unwrap_or_else(|| json!({}));
    prop_assert_eq!(traits, json!(expected.metadata));
    prop_assert_eq!(text(&amberflo["description"]), expected.description.clone());
    prop_assert_eq!((amberflo["enabled"].as_bool(), amberflo["test"].as_bool()), expected.flags);
    prop_assert_eq!(text(&amberflo["lifecycleStage"]), Some(stage_word(expected.stage.unwrap_or_default()).to_owned()));
    prop_assert_eq!((text(&stigg["billingCurrency"]), text(&stigg["language"])), (expected.currency.clone(), expected.language.clone()));
    let stripe = &stigg["passthrough"]["stripe"];
    prop_assert_eq!(text(&stripe["taxIds"][0]["value"]), expected.tax.clone());
    let address = PARTS.map(|part| text(&stripe["billingAddress"][part]));
    prop_assert_eq!(&address, &expected.address);
    // Amberflo shows an address with the parts that it requires, or none; it has no second line.
    let is_shown = [0, 2, 5].into_iter().all(|part| expected.address[part].is_some());
    prop_assert_eq!(amberflo.get("address").is_some(), is_shown);
    let parts = [0, 2, 3, 4, 5].map(|part| (text(&amberflo["address"][PARTS[part]]), Some(&expected.address[part]).filter(|_| is_shown)));
    prop_assert!(parts.iter().all(|(shown, expected)| *shown == expected.cloned().flatten()), "{:?}", parts);
    prop_assert_eq!(amberflo["address"]["verified"].as_bool(), expected.verified.filter(|_| is_shown));
    Ok(())
}

/// What neither dialect can express.
fn hidden(customer: &Customer) -> Customer {
    let mut hidden = customer.clone();
    (hidden.name, hidden.email, hidden.description, hidden.currency) = (None, None, None, None);
    (hidden.enabled, hidden.test, hidden.stage) = (None, None, Stage::default());
    (hidden.attributes, hidden.address) = (BTreeMap::new(), Address::default());
    hidden.ext.stigg = Map::new();
    hidden
}

/// Amberflo's first write of flags is the first time that there are any.
fn expected_of(customer: &Customer) -> Expected {
    let address = &customer.address;
    let parts = [&address.line1, &address.line2, &address.city, &address.state, &address.postal_code, &address.country];
    Expected {
        name: customer.name.clone().filter(|name| !name.is_empty()),
        email: customer.email.clone().filter(|email| !email.is_empty()),
        metadata: customer.attributes.clone(),
        description: customer.description.clone(),
        flags: (customer.enabled, customer.test),
        stage: Some(customer.stage),
        currency: customer.currency.clone(),
        address: parts.map(Clone::clone),
        verified: address.verified,
        ..Expected::default()
    }
}

proptest! {
    /// Rules 1 to 5, 8 and 9 for any writes of Amberflo and Stigg, on a customer of which other dialects have said anything.
    #[test]
    fn any_writes_of_both_are_read_back_by_both(stored in any_customer(), writes in collection::vec(any_write(), 1..8)) {
        let mut customer = Customer::new(CustomerId::parse("acme").expect("a good id"), stored.created_at);
        (customer.contact, customer.mappings, customer.tags) = (stored.contact, stored.mappings, stored.tags);
        customer.ext.octane = stored.ext.octane;
        customer.address = stored.address;
        let (mut expected, other) = (expected_of(&customer), hidden(&customer));
        for write in &writes {
            write.apply(&mut customer);
            write.expect(&mut expected);
            check_views(&customer, &expected)?;
            prop_assert_eq!(&hidden(&customer), &other);
        }
        let stored = crate::customers::fuzz::written(&customer).expect("JSON");
        check_views(&crate::customers::fuzz::read(&stored).expect("was written"), &expected)?;
    }

    #[test]
    fn a_patch_of_what_is_shown_changes_nothing(mut stored in any_customer()) {
        stored.ext.stigg = Map::new();
        stored.currency = stored.currency.map(|_| "eur".into());
        let mut patched = stored.clone();
        fields(&render(&stored, &[], &BTreeMap::new())).apply(&mut patched);
        // An object that holds the address only is there now; it is shown the same.
        patched.ext.stigg.remove(PASSTHROUGH);
        prop_assert_eq!(patched, stored);
    }
}
