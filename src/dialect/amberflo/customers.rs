//! Customers on Amberflo's wire (contract `amberflo.md` section 1, `stigg.md` section 6): request ⇄ model.
//!
//! Amberflo sees a part of a customer. [`render`] shows that part, and [`CustomerRequest::replace`] replaces exactly it:
//! what Amberflo cannot express (a second line of an address, an address without a country, everything of the other
//! dialects) stays as it is, and so does a fallback that is only sent back as it was shown.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::{Map, Value};

use crate::customers::{
    ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, Address, Customer, CustomerId, Stage, TEXT_BYTES_MAX,
};
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, check_text};
use crate::stripe::NewCustomer;

/// The trait that has a customer's id at Stripe.
pub const STRIPE_ID: &str = "stripeId";

/// What a POST or a PUT says about a customer; checked. Unknown fields and the times in it are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerRequest {
    id: CustomerId,
    name: String,
    email: Option<String>,
    description: Option<String>,
    enabled: bool,
    test: bool,
    /// Absent: a new customer is `ACTIVE`, a stored one stays where it is.
    stage: Option<Stage>,
    traits: BTreeMap<String, String>,
    address: Option<ShownAddress>,
}

impl CustomerRequest {
    /// Reads the body of a POST or PUT `/customers`.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`; `details` names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body = object(body)?;
        let fields = Fields::of(&body, "");
        Ok(Self {
            id: customer_id(&fields)?,
            name: customer_name(&fields)?,
            email: text(&fields, "customerEmail")?.filter(|email| !email.is_empty()),
            description: text(&fields, "description")?,
            enabled: fields.bool("enabled")?.unwrap_or(true),
            test: fields.bool("test")?.unwrap_or(false),
            stage: stage(&fields)?,
            traits: traits(&fields)?,
            address: fields.object("address")?.map(ShownAddress::parse).transpose()?,
        })
    }

    /// The `customerId`.
    pub fn id(&self) -> &CustomerId {
        &self.id
    }

    /// What the payment provider is told of it; nothing if it is there already: the request has its id.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`: there is no room for one more trait.
    pub fn for_provider<'c>(&'c self, account: &'c str, address: &'c Address) -> Result<Option<NewCustomer<'c>>, ApiError> {
        if self.traits.get(STRIPE_ID).is_some_and(|id| !id.is_empty()) {
            return Ok(None);
        }
        if self.traits.len() >= ATTRIBUTES_MAX && !self.traits.contains_key(STRIPE_ID) {
            let reason = format!("has {ATTRIBUTES_MAX} entries, the limit: there is no room for {STRIPE_ID}");
            return Err(ApiError::bad_field("traits", reason));
        }
        let (email, description) = (self.email.as_deref(), self.description.as_deref());
        Ok(Some(NewCustomer { account, id: self.id.as_str(), name: &self.name, email, description, address }))
    }

    /// Its address, as the model has it.
    pub fn address(&self) -> Address {
        self.address.clone().map_or_else(Address::default, ShownAddress::into_address)
    }

    /// Notes the customer's id at Stripe.
    pub fn set_stripe_id(&mut self, id: &str) {
        self.traits.insert(STRIPE_ID.into(), id.into());
    }

    /// Writes a new customer's fields.
    pub fn fill(&self, new: &mut Customer) {
        self.replace(new);
        // Said by the client, and not the fallback, even where it equals the id.
        new.name = Some(self.name.clone());
    }

    /// Replaces what Amberflo shows of a customer: what is absent is cleared or goes back to its default, except the stage.
    pub fn replace(&self, stored: &mut Customer) {
        if self.name != shown_name(stored) {
            stored.name = Some(self.name.clone());
        }
        if self.email.as_deref() != shown_email(stored) {
            stored.email.clone_from(&self.email);
        }
        if self.address != ShownAddress::of(&stored.address) {
            let line2 = stored.address.line2.take();
            let address = self.address.clone().map_or_else(Address::default, ShownAddress::into_address);
            stored.address = Address { line2, ..address };
        }
        stored.description.clone_from(&self.description);
        stored.enabled = Some(self.enabled);
        stored.test = Some(self.test);
        stored.stage = self.stage.unwrap_or(stored.stage);
        stored.attributes.clone_from(&self.traits);
    }
}

/// What a PUT `/customers/stage` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageRequest {
    /// Whose stage.
    pub id: CustomerId,
    /// Which one.
    pub stage: Stage,
}

impl StageRequest {
    /// Reads the body of a PUT `/customers/stage`.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`; `details` names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body = object(body)?;
        let fields = Fields::of(&body, "");
        let id = customer_id(&fields)?;
        let stage = fields.required("lifecycleStage", stage(&fields)?)?;
        Ok(Self { id, stage })
    }
}

/// A customer as Amberflo shows it; what is unset is left out.
pub fn render(customer: &Customer) -> Value {
    let mut members = Map::new();
    members.insert("customerId".into(), customer.id().as_str().into());
    members.insert("id".into(), customer.id().as_str().into());
    members.insert("customerName".into(), shown_name(customer).into());
    insert(&mut members, "customerEmail", shown_email(customer));
    insert(&mut members, "description", customer.description.as_deref());
    insert(&mut members, "enabled", customer.enabled);
    insert(&mut members, "test", customer.test);
    members.insert("lifecycleStage".into(), stage_label(customer.stage).into());
    if !customer.attributes.is_empty() {
        let traits: Map<_, _> = customer.attributes.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        members.insert("traits".into(), traits.into());
    }
    insert(&mut members, "address", ShownAddress::of(&customer.address).map(ShownAddress::render));
    members.insert("createTime".into(), customer.created_at.millis().0.into());
    members.insert("updateTime".into(), customer.updated_at().millis().0.into());
    insert(&mut members, "deleteTime", customer.removed_at().map(|time| time.millis().0));
    insert(&mut members, "deactivateTimeStamp", customer.deactivated_at().map(|time| time.millis().0));
    members.into()
}

/// The seed's spelling of a stage.
pub fn stage_label(stage: Stage) -> &'static str {
    match stage {
        Stage::Onboarding => "ONBOARDING",
        Stage::Trial => "TRAIL",
        Stage::Active => "ACTIVE",
        Stage::Offboarded => "OFFBOARDED",
    }
}

fn parse_stage(text: &str) -> Option<Stage> {
    match text.to_ascii_uppercase().as_str() {
        "ONBOARDING" => Some(Stage::Onboarding),
        "TRAIL" | "TRIAL" => Some(Stage::Trial),
        "ACTIVE" => Some(Stage::Active),
        "OFFBOARDED" => Some(Stage::Offboarded),
        _ => None,
    }
}

/// Whether a customer is to be created at the payment provider too: `autoCreateCustomerInStripe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCreate {
    /// `false`, or not given.
    No,
    /// `true`.
    Yes,
    /// `if_payment_provider`.
    IfConfigured,
}

impl AutoCreate {
    /// Reads the query parameter.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`.
    pub fn parse(parameter: Option<&str>) -> Result<Self, ApiError> {
        let Some(text) = parameter else { return Ok(Self::No) };
        match text.to_ascii_lowercase().as_str() {
            "false" => Ok(Self::No),
            "true" => Ok(Self::Yes),
            "if_payment_provider" => Ok(Self::IfConfigured),
            _ => Err(ApiError::bad_field("autoCreateCustomerInStripe", "must be true, false or if_payment_provider")),
        }
    }

    /// Whether the payment provider is to make the customer, too.
    ///
    /// # Errors
    /// 400 `PAYMENT_PROVIDER_NOT_CONFIGURED`.
    pub fn is_wanted(self, is_configured: bool) -> Result<bool, ApiError> {
        let message = "autoCreateCustomerInStripe is true, and no payment provider is configured (TOLLGATE_STRIPE_API_KEY)";
        match self {
            Self::No => Ok(false),
            Self::IfConfigured => Ok(is_configured),
            Self::Yes if is_configured => Ok(true),
            Self::Yes => Err(ApiError::new(StatusCode::BAD_REQUEST, "PAYMENT_PROVIDER_NOT_CONFIGURED", message)),
        }
    }
}

fn insert(members: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        members.insert(name.into(), value.into());
    }
}

/// Required on the wire, so an unset one falls back to the id.
fn shown_name(customer: &Customer) -> &str {
    customer.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(customer.id().as_str())
}

/// An empty one is absent on the wire.
fn shown_email(customer: &Customer) -> Option<&str> {
    customer.email.as_deref().filter(|email| !email.is_empty())
}

/// An address that Amberflo can express.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ShownAddress {
    line1: String,
    city: String,
    country: String,
    state: Option<String>,
    postal_code: Option<String>,
    verified: Option<bool>,
}

impl ShownAddress {
    /// What Amberflo sees of an address; nothing if a part that it requires is unset.
    fn of(address: &Address) -> Option<Self> {
        Some(Self {
            line1: address.line1.clone()?,
            city: address.city.clone()?,
            country: address.country.clone()?,
            state: address.state.clone(),
            postal_code: address.postal_code.clone(),
            verified: address.verified,
        })
    }

    fn parse(fields: Fields<'_>) -> Result<Self, ApiError> {
        let required = |name| fields.required(name, text(&fields, name)?);
        Ok(Self {
            line1: required("line1")?,
            city: required("city")?,
            country: required("country")?,
            state: text(&fields, "state")?,
            postal_code: text(&fields, "postalCode")?,
            verified: fields.bool("verified")?,
        })
    }

    fn into_address(self) -> Address {
        Address {
            line1: Some(self.line1),
            line2: None,
            city: Some(self.city),
            state: self.state,
            postal_code: self.postal_code,
            country: Some(self.country),
            verified: self.verified,
        }
    }

    fn render(self) -> Value {
        let mut members = Map::new();
        members.insert("line1".into(), self.line1.into());
        members.insert("city".into(), self.city.into());
        members.insert("country".into(), self.country.into());
        insert(&mut members, "state", self.state);
        insert(&mut members, "postalCode", self.postal_code);
        insert(&mut members, "verified", self.verified);
        members.into()
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(ApiError::bad_field("the body", "must be a JSON object")),
        Err(error) => Err(ApiError::bad_field("the body", format!("is not JSON: {error}"))),
    }
}

fn text(fields: &Fields<'_>, name: &str) -> Result<Option<String>, ApiError> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    fields.check_text(name, text, TEXT_BYTES_MAX)?;
    Ok(Some(text.to_owned()))
}

fn customer_id(fields: &Fields<'_>) -> Result<CustomerId, ApiError> {
    CustomerId::parse(fields.required_text("customerId")?).map_err(|reason| fields.wrong("customerId", reason))
}

fn customer_name(fields: &Fields<'_>) -> Result<String, ApiError> {
    fields.required_name("customerName", TEXT_BYTES_MAX)
}

fn stage(fields: &Fields<'_>) -> Result<Option<Stage>, ApiError> {
    let Some(text) = fields.text("lifecycleStage")? else { return Ok(None) };
    let stage = parse_stage(text).ok_or_else(|| fields.wrong("lifecycleStage", "must be ONBOARDING, TRAIL, ACTIVE or OFFBOARDED"))?;
    Ok(Some(stage))
}

fn traits(fields: &Fields<'_>) -> Result<BTreeMap<String, String>, ApiError> {
    let Some(traits) = fields.object("traits")? else { return Ok(BTreeMap::new()) };
    if traits.object.len() > ATTRIBUTES_MAX {
        return Err(fields.wrong("traits", format_args!("has {} entries, the limit is {ATTRIBUTES_MAX}", traits.object.len())));
    }
    let attribute = |(key, value): (&String, &Value)| {
        check_text(key, ATTRIBUTE_KEY_BYTES_MAX).map_err(|reason| fields.wrong("traits", format_args!("has a key that {reason}")))?;
        // Also where it is null: the trait has a name, so somebody meant to say something.
        let Value::String(text) = value else { return Err(traits.wrong(key, "must be a string")) };
        traits.check_text(key, text, ATTRIBUTE_VALUE_BYTES_MAX)?;
        Ok((key.clone(), text.clone()))
    };
    traits.object.iter().map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::clock::UnixMicros;
    use crate::customers::arbitrary::{any_attributes, any_customer, any_id, any_stage, any_text};
    use crate::customers::{Contact, Extensions, Mapping};

    fn parse(body: &Value) -> Result<CustomerRequest, ApiError> {
        CustomerRequest::parse(body.to_string().as_bytes())
    }

    fn new(id: &str) -> Customer {
        Customer::new(CustomerId::parse(id).expect("a good id"), UnixMicros(1_767_225_600_000_999))
    }

    fn shown(customer: &Customer) -> String {
        serde_json::to_string_pretty(&render(customer)).expect("JSON")
    }

    /// The details of the refusal of a body.
    fn details(body: &Value) -> String {
        let refused = parse(body).expect_err("a bad body");
        assert_eq!((refused.status, refused.code), (StatusCode::BAD_REQUEST, "BAD_REQUEST"));
        refused.details.expect("the field")
    }

    #[test]
    fn a_created_customer_is_shown_with_the_defaults() {
        let request =
            parse(&json!({"customerId": "acme-7", "customerName": "Acme Seven", "traits": {"tier": "gold"}})).expect("a good body");
        let mut customer = new("acme-7");
        request.fill(&mut customer);
        insta::assert_snapshot!(shown(&customer), @r#"
        {
          "createTime": 1767225600000,
          "customerId": "acme-7",
          "customerName": "Acme Seven",
          "enabled": true,
          "id": "acme-7",
          "lifecycleStage": "ACTIVE",
          "test": false,
          "traits": {
            "tier": "gold"
          },
          "updateTime": 1767225600000
        }
        "#);
    }

    #[test]
    fn a_full_customer_is_shown_whole() {
        let body = json!({
            "customerId": "acme-7", "customerName": "Acme Seven", "customerEmail": "ap@acme.test", "description": "",
            "enabled": false, "test": true, "lifecycleStage": "trial", "traits": {"b": "2", "a": ""},
            "address": {"line1": "1 Main St", "city": "Rome", "country": "IT", "state": "RM", "postalCode": "00100", "verified": true},
            "createTime": 5, "updateTime": "x", "deleteTime": 7, "deactivateTimeStamp": [], "id": "other", "unknown": {"a": 1},
        });
        let mut customer = new("acme-7");
        parse(&body).expect("a good body").fill(&mut customer);
        insta::assert_snapshot!(shown(&customer), @r#"
        {
          "address": {
            "city": "Rome",
            "country": "IT",
            "line1": "1 Main St",
            "postalCode": "00100",
            "state": "RM",
            "verified": true
          },
          "createTime": 1767225600000,
          "customerEmail": "ap@acme.test",
          "customerId": "acme-7",
          "customerName": "Acme Seven",
          "description": "",
          "enabled": false,
          "id": "acme-7",
          "lifecycleStage": "TRAIL",
          "test": true,
          "traits": {
            "a": "",
            "b": "2"
          },
          "updateTime": 1767225600000
        }
        "#);
    }

    #[test]
    fn a_customer_of_another_dialect_shows_what_amberflo_can_express() {
        let mut customer = new("acme-7");
        customer.address = Address { city: Some("Rome".into()), line1: Some("1 Main St".into()), ..Address::default() };
        customer.contact.phone = Some("1".into());
        insta::assert_snapshot!(shown(&customer), @r#"
        {
          "createTime": 1767225600000,
          "customerId": "acme-7",
          "customerName": "acme-7",
          "id": "acme-7",
          "lifecycleStage": "ACTIVE",
          "updateTime": 1767225600000
        }
        "#);
    }

    #[test]
    fn null_is_absent_and_an_empty_email_too() {
        let bare = parse(&json!({"customerId": "a", "customerName": "A"})).expect("a good body");
        let nulls = json!({
            "customerId": "a", "customerName": "A", "customerEmail": null, "description": null, "enabled": null, "test": null,
            "lifecycleStage": null, "traits": null, "address": null,
        });
        assert_eq!(parse(&nulls), Ok(bare.clone()));
        assert_eq!(parse(&json!({"customerId": "a", "customerName": "A", "customerEmail": ""})), Ok(bare));
        assert_eq!(details(&json!({"customerId": null, "customerName": "A"})), "customerId is missing");
    }

    #[test]
    fn every_stage_is_taken_in_any_case() {
        let stages = [("onboarding", Stage::Onboarding), ("Trial", Stage::Trial), ("TRAIL", Stage::Trial), ("ACTIVE", Stage::Active)];
        for (text, stage) in stages {
            let request = StageRequest::parse(json!({"customerId": "a", "lifecycleStage": text}).to_string().as_bytes());
            assert_eq!(request.map(|request| request.stage), Ok(stage), "{text}");
        }
        assert_eq!(
            details(&json!({"customerId": "a", "customerName": "A", "lifecycleStage": "GONE"})).split(' ').next(),
            Some("lifecycleStage")
        );
    }

    #[test]
    fn a_stage_request_needs_both_fields() {
        let refused = |body: &str| StageRequest::parse(body.as_bytes()).expect_err("a bad body").details;
        assert_eq!(refused("{\"lifecycleStage\":\"ACTIVE\"}").as_deref(), Some("customerId is missing"));
        assert_eq!(refused("{\"customerId\":\"a\",\"lifecycleStage\":null}").as_deref(), Some("lifecycleStage is missing"));
    }

    #[test]
    fn a_value_of_another_type_is_refused_by_its_path() {
        let good = json!({
            "customerId": "a", "customerName": "A", "customerEmail": "e", "description": "d", "enabled": true, "test": true,
            "lifecycleStage": "ACTIVE", "traits": {"tier": "gold"},
            "address": {"line1": "1", "city": "c", "country": "c", "state": "s", "postalCode": "p", "verified": true},
        });
        assert!(parse(&good).is_ok());
        let paths = [
            "/customerId",
            "/customerName",
            "/customerEmail",
            "/description",
            "/enabled",
            "/test",
            "/lifecycleStage",
            "/traits",
            "/traits/tier",
            "/address",
            "/address/line1",
            "/address/city",
            "/address/country",
            "/address/state",
            "/address/postalCode",
            "/address/verified",
        ];
        for path in paths {
            for wrong in [json!(1), json!(1.5), json!([]), json!({"a": 1}), json!(true), json!("x")] {
                let mut body = good.clone();
                let place = body.pointer_mut(path).expect("a path of the good body");
                if std::mem::discriminant(place) == std::mem::discriminant(&wrong) {
                    continue;
                }
                *place = wrong;
                let field = path[1..].replace('/', ".");
                assert!(details(&body).starts_with(&format!("{field} must be ")), "{body}");
            }
        }
        assert_eq!(details(&json!([good])), "the body must be a JSON object");
    }

    #[test]
    fn a_body_that_is_not_json_is_refused() {
        for body in ["", "{", "{\"customerId\":\"a\",}", "\u{feff}{}", "{\"customerId\":\"\\ud800\"}"] {
            let refused = CustomerRequest::parse(body.as_bytes()).expect_err("not JSON");
            assert_eq!(refused.code, "BAD_REQUEST", "{body}");
        }
        assert!(CustomerRequest::parse(b"{\"customerId\":\"\xff\"}").is_err());
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(CustomerRequest::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn every_limit_is_kept_and_named() {
        let good = json!({"customerId": "a", "customerName": "A", "address": {"line1": "1", "city": "c", "country": "c"}});
        let with = |path: &str, value: Value| {
            let mut body = good.clone();
            let (parent, name) = path.rsplit_once('/').expect("a path");
            body.pointer_mut(parent).expect("an object")[name] = value;
            body
        };
        let texts = ["customerName", "customerEmail", "description", "address/line1", "address/city", "address/country", "address/state"];
        for path in texts {
            let field = path.replace('/', ".");
            let path = format!("/{path}");
            assert!(parse(&with(&path, "x".repeat(1_024).into())).is_ok(), "{path}");
            assert_eq!(details(&with(&path, "x".repeat(1_025).into())), format!("{field} has 1025 bytes, the limit is 1024"));
            assert_eq!(details(&with(&path, "a\0".into())), format!("{field} contains U+0000"));
        }
        assert!(parse(&with("/customerId", "x".repeat(255).into())).is_ok());
        assert_eq!(details(&with("/customerId", "x".repeat(256).into())), "customerId has 256 bytes, the limit is 255");
        assert_eq!(details(&with("/customerId", "a\0".into())), "customerId contains U+0000");
        assert_eq!(details(&with("/customerId", "".into())), "customerId must not be empty");
        assert_eq!(details(&with("/customerName", "".into())), "customerName must not be empty");
        assert_eq!(details(&with("/address", json!({"line1": "1", "city": null}))), "address.city is missing");

        let traits = |entries: usize| Value::from((0..entries).map(|n| (n.to_string(), Value::from("x"))).collect::<Map<_, _>>());
        assert!(parse(&with("/traits", traits(64))).is_ok());
        assert_eq!(details(&with("/traits", traits(65))), "traits has 65 entries, the limit is 64");
        assert_eq!(details(&with("/traits", json!({"k": "x".repeat(1_025)}))), "traits.k has 1025 bytes, the limit is 1024");
        assert_eq!(details(&with("/traits", json!({"k": null}))), "traits.k must be a string");
        let long_key: Map<_, _> = [("x".repeat(129), Value::from("v"))].into_iter().collect();
        assert_eq!(details(&with("/traits", long_key.into())), "traits has a key that has 129 bytes, the limit is 128");
    }

    #[test]
    fn the_stripe_flag_means_what_the_contract_says() {
        let wanted = |text, is_configured| {
            let wanted = AutoCreate::parse(text).and_then(|parsed| parsed.is_wanted(is_configured));
            wanted.map_err(|error| error.code)
        };
        for (text, without, with) in [
            (None, Ok(false), Ok(false)),
            (Some("false"), Ok(false), Ok(false)),
            (Some("False"), Ok(false), Ok(false)),
            (Some("if_payment_provider"), Ok(false), Ok(true)),
            (Some("IF_PAYMENT_PROVIDER"), Ok(false), Ok(true)),
            (Some("True"), Err("PAYMENT_PROVIDER_NOT_CONFIGURED"), Ok(true)),
            (Some("yes"), Err("BAD_REQUEST"), Err("BAD_REQUEST")),
            (Some(""), Err("BAD_REQUEST"), Err("BAD_REQUEST")),
        ] {
            assert_eq!((wanted(text, false), wanted(text, true)), (without, with), "{text:?}");
        }
    }

    #[test]
    fn the_provider_is_told_what_was_said_unless_it_knows_the_customer() {
        let asked = |body: &Value| {
            let request = parse(body).expect("a good body");
            let address = request.address();
            request.for_provider("default", &address).map(|new| new.map(|new| new.form())).map_err(|error| error.details)
        };
        let body = json!({"customerId": "a", "customerName": "A & B", "address": {"line1": "1", "city": "c", "country": "DE"}});
        let form = asked(&body).expect("room").expect("not known yet");
        let expected = "name=A+%26+B&address%5Bline1%5D=1&address%5Bcity%5D=c&address%5Bcountry%5D=DE&metadata%5BcustomerId%5D=a&metadata%5Baccount%5D=default";
        assert_eq!(form, expected);
        let with_traits = |traits: Value| json!({"customerId": "a", "customerName": "A", "traits": traits});
        assert_eq!(asked(&with_traits(json!({"stripeId": "cus_1"}))), Ok(None));
        assert!(asked(&with_traits(json!({"stripeId": ""}))).expect("room").is_some());
        let full: Map<_, _> = (0..ATTRIBUTES_MAX).map(|n| (n.to_string(), Value::from("x"))).collect();
        let refused = asked(&with_traits(full.into())).expect_err("no room");
        assert_eq!(refused.as_deref(), Some("traits has 64 entries, the limit: there is no room for stripeId"));
    }

    fn any_request() -> impl Strategy<Value = CustomerRequest> {
        let line = || "\\PC{0,8}";
        let address = (line(), line(), line(), option::of(line()), option::of(line()), option::of(any::<bool>())).prop_map(
            |(line1, city, country, state, postal_code, verified)| ShownAddress { line1, city, country, state, postal_code, verified },
        );
        let texts = ("\\PC{1,8}", option::of("\\PC{1,8}"), option::of(any_text()));
        let flags = (any::<bool>(), any::<bool>(), option::of(any_stage()));
        (any_id(), texts, flags, any_attributes(), option::of(address)).prop_map(|(id, texts, flags, traits, address)| CustomerRequest {
            id,
            name: texts.0,
            email: texts.1,
            description: texts.2,
            enabled: flags.0,
            test: flags.1,
            stage: flags.2,
            traits,
            address,
        })
    }

    /// What Amberflo cannot express of a customer.
    fn hidden(customer: &Customer) -> Customer {
        let mut hidden = customer.clone();
        if ShownAddress::of(&customer.address).is_some() {
            hidden.address = Address { line2: customer.address.line2.clone(), ..Address::default() };
        }
        (hidden.name, hidden.email, hidden.description) = (None, None, None);
        (hidden.enabled, hidden.test, hidden.stage) = (None, None, Stage::default());
        hidden.attributes.clear();
        hidden
    }

    proptest! {
        #[test]
        fn what_was_sent_is_shown(stored in any_customer(), sent in any_request()) {
            for write in [CustomerRequest::replace, CustomerRequest::fill] {
                let sent = CustomerRequest { id: stored.id().clone(), ..sent.clone() };
                let mut customer = stored.clone();
                write(&sent, &mut customer);
                let stage = Some(sent.stage.unwrap_or(stored.stage));
                prop_assert_eq!(parse(&render(&customer)), Ok(CustomerRequest { stage, ..sent }));
            }
        }

        #[test]
        fn a_put_of_what_was_shown_only_sets_the_defaults(stored in any_customer()) {
            let mut customer = stored.clone();
            parse(&render(&stored)).expect("was rendered").replace(&mut customer);
            let mut expected = stored;
            (expected.enabled, expected.test) = (expected.enabled.or(Some(true)), expected.test.or(Some(false)));
            prop_assert_eq!(customer, expected);
        }

        #[test]
        fn a_put_leaves_what_amberflo_cannot_express(stored in any_customer(), sent in any_request()) {
            let mut customer = stored.clone();
            sent.replace(&mut customer);
            let mut expected = hidden(&stored);
            if sent.address.is_some() {
                // An address that Amberflo cannot show gives way to one that it sends, save for the second line.
                expected.address = Address { line2: stored.address.line2.clone(), ..Address::default() };
            }
            prop_assert_eq!(hidden(&customer), expected);
        }

        #[test]
        fn any_body_is_taken_or_refused_with_a_reason(body in any::<Vec<u8>>(), name in "[a-zA-Z]{1,14}", text in any_text()) {
            let fields = json!({name: text}).to_string();
            for refused in [CustomerRequest::parse(&body).err(), CustomerRequest::parse(fields.as_bytes()).err()] {
                prop_assert!(refused.is_none_or(|error| error.code == "BAD_REQUEST" && error.details.is_some()));
            }
        }
    }

    #[test]
    fn the_other_dialects_fields_stay() {
        let mut customer = new("acme-7");
        customer.contact = Contact { legal_name: Some("Acme Inc".into()), ..Contact::default() };
        customer.mappings = vec![Mapping { label: "host".into(), value_regex: Some("a.*".into()) }];
        customer.tags = vec!["b".into(), "a".into()];
        customer.currency = Some("eur".into());
        customer.ext = Extensions { octane: Map::from_iter([("vendor_id".into(), json!(7))]), ..Extensions::default() };
        customer.address = Address { line2: Some("Suite 5".into()), city: Some("Rome".into()), ..Address::default() };
        let mut expected = customer.clone();
        (expected.name, expected.enabled, expected.test) = (Some("New".into()), Some(true), Some(false));
        parse(&json!({"customerId": "acme-7", "customerName": "New"})).expect("a good body").replace(&mut customer);
        assert_eq!(customer, expected);
    }
}
