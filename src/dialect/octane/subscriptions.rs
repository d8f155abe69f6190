//! Subscriptions on Octane's wire (contract `octane.md` section 5): request ⇄ what billing keeps.
//!
//! A price plan is called by the id of our plan. Octane's tags of plans are unknown here: one stands for the plan with that id. A `uuid` is
//! nothing that is kept: it follows from what it names, so whatever another dialect made has one, too.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::fields::{extra, parse_time, time};
use crate::billing::{Assignment, CancelTime, Subscription};
use crate::clock::{UnixMicros, UnixMillis, rfc3339};
use crate::customers::Extensions;
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::event::NAME_BYTES_MAX;

/// Longest JSON of what is kept of a request, in bytes.
const KEPT_BYTES_MAX: usize = 4_096;
const PLAN_NAME: &str = "price_plan_name";
const PLAN_UUID: &str = "price_plan_uuid";
const PLAN_TAG: &str = "price_plan_tag";
/// What is read, or follows from something else.
const OURS: [&str; 7] = [PLAN_NAME, PLAN_UUID, "effective_at", "expired_at", "uuid", "customer_name", "discounts"];

/// Which plan is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanChoice {
    /// By its id.
    Id(String),
    /// By the `uuid` that follows from its id.
    Uuid(String),
}

/// What a POST or a PUT asks for; checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRequest {
    /// Which plan.
    pub plan: PlanChoice,
    /// From when on; `None`: now.
    effective_at: Option<UnixMicros>,
    kept: Map<String, Value>,
}

impl SubscriptionRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let object = parse_object(body)?;
        let fields = Fields::of(&object, "");
        let name = fields.name(PLAN_NAME, NAME_BYTES_MAX)?;
        let (uuid, tag) = (fields.name(PLAN_UUID, NAME_BYTES_MAX)?, fields.name(PLAN_TAG, NAME_BYTES_MAX)?);
        let plan = name.map(PlanChoice::Id).or(uuid.map(PlanChoice::Uuid)).or(tag.map(PlanChoice::Id));
        let plan = plan.ok_or_else(|| fields.wrong(PLAN_NAME, format_args!("is missing, and so are {PLAN_UUID} and {PLAN_TAG}")))?;
        let effective_at = time(&fields, "effective_at")?;
        let mut kept = extra(&object, &OURS, "the subscription", KEPT_BYTES_MAX)?;
        if let Some(discounts) = fields.get("discounts").filter(|discounts| discounts.as_array().is_some_and(|all| !all.is_empty())) {
            kept.insert("discounts".into(), discounts.clone());
            extra(&kept, &[], "the subscription", KEPT_BYTES_MAX)?;
        }
        Ok(Self { plan, effective_at, kept })
    }

    /// What billing is to assign.
    pub fn assignment(self, plan_id: String, now: UnixMillis) -> Assignment {
        let mut octane = self.kept;
        if let Some(time) = self.effective_at {
            // Billing has milliseconds.
            octane.insert("effective_at".into(), rfc3339::micros(time).into());
        }
        let start_ms = self.effective_at.map_or(now, UnixMicros::millis).0;
        Assignment { plan_id, start_ms, ext: Extensions { octane, ..Extensions::default() }, ..Assignment::default() }
    }
}

/// What a new customer is to be subscribed to from now on.
pub(super) fn plan_of_customer(fields: &Fields<'_>, now: UnixMillis) -> Result<Option<Assignment>, ApiError> {
    let (name, tag) = (fields.name(PLAN_NAME, NAME_BYTES_MAX)?, fields.name(PLAN_TAG, NAME_BYTES_MAX)?);
    let kept = tag.iter().map(|tag| (PLAN_TAG.to_owned(), Value::from(tag.as_str()))).collect();
    let request =
        |plan_id: String| SubscriptionRequest { plan: PlanChoice::Id(plan_id.clone()), effective_at: None, kept }.assignment(plan_id, now);
    Ok(name.or(tag).map(request))
}

/// Reads the body of a DELETE, which may be empty.
///
/// # Errors
/// 400; `field` says where.
pub fn parse_end(body: &[u8]) -> Result<CancelTime, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(CancelTime::Immediate);
    }
    let object = parse_object(body)?;
    let fields = Fields::of(&object, "");
    let at_cycle_end = fields.bool("at_cycle_end")?.unwrap_or(false);
    match time(&fields, "expire_at")? {
        Some(time) => Ok(CancelTime::At(time.millis().0)),
        None if at_cycle_end => Ok(CancelTime::EndOfPeriod),
        None => Ok(CancelTime::Immediate),
    }
}

/// A subscription as it is answered.
pub fn render(account: u32, subscription: &Subscription) -> Value {
    let assignment = &subscription.row;
    let mut members = assignment.ext.octane.clone();
    let kept_start = members.get("effective_at").and_then(Value::as_str).and_then(parse_time);
    let start = kept_start.filter(|time| time.millis().0 == assignment.start_ms).unwrap_or(UnixMillis(assignment.start_ms).micros());
    let end = subscription.end.map(|(end_ms, _)| rfc3339::micros(UnixMillis(end_ms).micros()));
    members.entry("discounts").or_insert_with(|| Value::Array(Vec::new()));
    members.insert("uuid".into(), subscription_uuid(account, subscription).into());
    members.insert("customer_name".into(), subscription.customer.as_str().into());
    members.insert(PLAN_NAME.into(), assignment.plan_id.as_str().into());
    members.insert(PLAN_UUID.into(), plan_uuid(account, &assignment.plan_id).into());
    members.insert("effective_at".into(), rfc3339::micros(start).into());
    members.insert("expired_at".into(), end.into());
    members.into()
}

/// The `uuid` of a subscription.
pub fn subscription_uuid(account: u32, subscription: &Subscription) -> String {
    uuid(&["subscription", &account.to_string(), &subscription.id])
}

/// The `uuid` of a plan.
pub fn plan_uuid(account: u32, plan_id: &str) -> String {
    uuid(&["price plan", &account.to_string(), plan_id])
}

/// One of version 8 (RFC 9562): of a hash, as only we make it.
fn uuid(names: &[&str]) -> String {
    let mut hash = Sha256::new();
    for name in names {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
    }
    let digest = hash.finalize();
    let digits = hex::encode(&digest[..16]);
    let variant = ["8", "9", "a", "b"][usize::from(digest[8] >> 6)];
    format!("{}-{}-8{}-{variant}{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::billing::{CancelReason, SubscriptionStatus};
    use crate::customers::CustomerId;

    fn subscribed(body: &Value) -> Subscription {
        let request = SubscriptionRequest::parse(body.to_string().as_bytes()).expect("a good body");
        let PlanChoice::Id(id) = request.plan.clone() else { panic!("{request:?}") };
        let (customer, row) = (CustomerId::parse("acme-7").expect("an id"), request.assignment(id, UnixMillis(7)));
        let end = Some((1_769_904_000_000, CancelReason::Expired));
        Subscription { id: "sub_3_acme-7".into(), customer, status: SubscriptionStatus::Active, end, row, index: 3 }
    }

    #[test]
    fn what_was_sent_is_shown_with_microseconds_and_the_rest() {
        let body = json!({
            "price_plan_name": "pro", "effective_at": "2026-01-01T00:00:00.123456", "align_to_calendar": true, "coupon_name": "spring",
            "discounts": [{"amount": 1}], "uuid": "mine", "expired_at": 7, "add_ons": null,
        });
        let subscription = subscribed(&body);
        assert_eq!(subscription.row.start_ms, 1_767_225_600_123);
        let (uuid, plan_uuid) = (subscription_uuid(1, &subscription), plan_uuid(1, "pro"));
        let expected = json!({
            "uuid": uuid, "customer_name": "acme-7", "price_plan_name": "pro", "price_plan_uuid": plan_uuid,
            "effective_at": "2026-01-01T00:00:00.123456Z", "expired_at": "2026-02-01T00:00:00.000000Z", "discounts": [{"amount": 1}],
            "align_to_calendar": true, "coupon_name": "spring",
        });
        assert_eq!(render(1, &subscription), expected);
        // What another dialect began has its own start.
        let mut moved = subscription;
        moved.row.start_ms += 1;
        moved.row.ext.octane.remove("discounts");
        let shown = render(1, &moved);
        assert_eq!((&shown["effective_at"], &shown["discounts"]), (&json!("2026-01-01T00:00:00.124000Z"), &json!([])));
    }

    #[test]
    fn a_uuid_follows_from_what_it_names() {
        let one = plan_uuid(1, "pro");
        assert_eq!(one, plan_uuid(1, "pro"));
        assert!(one != plan_uuid(2, "pro") && one != plan_uuid(1, "pr"));
        let parts: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!((parts, &one[14..15]), (vec![8, 4, 4, 4, 12], "8"));
        assert!("89ab".contains(&one[19..20]), "{one}");
    }

    #[test]
    fn a_plan_is_named_by_its_name_before_its_uuid_before_its_tag() {
        let choice = |body: &Value| SubscriptionRequest::parse(body.to_string().as_bytes()).map(|request| request.plan);
        let mut body = json!({"price_plan_name": "a", "price_plan_uuid": "u", "price_plan_tag": "t"});
        assert_eq!(choice(&body), Ok(PlanChoice::Id("a".into())));
        body["price_plan_name"] = Value::Null;
        assert_eq!(choice(&body), Ok(PlanChoice::Uuid("u".into())));
        body["price_plan_uuid"] = Value::Null;
        assert_eq!(choice(&body), Ok(PlanChoice::Id("t".into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, details) in [
            (json!({}), "price_plan_name is missing, and so are price_plan_uuid and price_plan_tag"),
            (json!({"price_plan_name": 7}), "price_plan_name must be a string"),
            (json!({"price_plan_name": "x".repeat(256)}), "price_plan_name has 256 bytes, the limit is 255"),
            (
                json!({"price_plan_name": "p", "effective_at": "soon"}),
                "effective_at must be a time as in RFC 3339, between the years 1970 and 9999",
            ),
        ] {
            assert_eq!(SubscriptionRequest::parse(body.to_string().as_bytes()).expect_err("a bad body").details.as_deref(), Some(details));
        }
        for large in
            [json!({"price_plan_name": "p", "note": "x".repeat(4_096)}), json!({"price_plan_name": "p", "discounts": ["x".repeat(4_096)]})]
        {
            let refused = SubscriptionRequest::parse(large.to_string().as_bytes()).expect_err("a large body");
            assert!(refused.message.starts_with("the subscription has "), "{refused:?}");
        }
    }

    #[test]
    fn an_end_is_now_or_with_the_month_or_at_a_time() {
        for (body, end) in [
            ("", CancelTime::Immediate),
            ("{}", CancelTime::Immediate),
            (r#"{"expire_at":null,"at_cycle_end":false}"#, CancelTime::Immediate),
            (r#"{"at_cycle_end":true}"#, CancelTime::EndOfPeriod),
            (r#"{"at_cycle_end":true,"expire_at":"1970-01-01T00:00:01Z"}"#, CancelTime::At(1_000)),
        ] {
            assert_eq!(parse_end(body.as_bytes()), Ok(end), "{body}");
        }
        assert!(parse_end(b"[]").is_err() && parse_end(br#"{"at_cycle_end":1}"#).is_err());
    }
}
