//! Subscriptions on Stigg's wire (contract `stigg.md` section 3): request ⇄ the row that billing keeps.
//!
//! What only Stigg knows is kept with the row as it was sent, up to a limit; what only says how the request is to be done is not.

use serde_json::{Map, Value, json};

use super::fields::{Fields, Member, Said, Shape, check_any, object};
use crate::billing::{Assignment, CancelReason, CancelTime, Subscription, SubscriptionStatus, Trial, is_own_subscription_id};
use crate::clock::UnixMillis;
use crate::customers::{CustomerId, Extensions};
use crate::dialect::ApiError;

/// Most of what is kept of a subscription, in bytes of JSON.
pub const KEPT_BYTES_MAX: usize = 8 << 10;

/// What has a place in the row, or is computed.
const IN_THE_ROW: [&str; 15] = [
    "id",
    "customerId",
    "planId",
    "startDate",
    "endDate",
    "cancellationDate",
    "cancelReason",
    "trialEndDate",
    "status",
    "createdAt",
    "pricingType",
    "paymentCollection",
    "effectiveEndDate",
    "trial",
    "subscriptionEntitlements",
];
/// What only says how a request is to be done.
const OF_THE_REQUEST: [&str; 4] = ["awaitPaymentConfirmation", "billingCycleAnchor", "checkoutOptions", "scheduleStrategy"];
const TRIAL_CONFIGURATION: &str = "trialOverrideConfiguration";

const TRIAL: Shape = Shape::Object(&[Member::may("trialEndBehavior", Shape::Text), Member::may("trialEndDate", Shape::Text)]);

/// What a POST asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSubscription {
    /// Whose it is.
    pub customer: CustomerId,
    row: Assignment,
    start_ms: Option<i64>,
}

impl NewSubscription {
    /// Reads the body of a POST `/api/v1/subscriptions`.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let members = object(body)?;
        let fields = Fields::new("", &members);
        let customer = fields.customer_id("customerId")?;
        let plan_id = fields.required("planId", fields.id("planId")?.map(Some))?;
        let id = fields.id("id")?;
        if id.as_deref().is_some_and(is_own_subscription_id) {
            return Err(fields.bad("id", "has the form sub_<number>_<customer>, which only those have that bring none"));
        }
        let (trial, trial_ends_all) = trial(&fields)?;
        let canceled_ms = fields.time("cancellationDate")?.flatten();
        let (end_ms, canceled) = match (canceled_ms, trial.and_then(|trial| trial.end_ms).filter(|_| trial_ends_all)) {
            (Some(end_ms), None) => (Some(end_ms), Some(CancelReason::Scheduled)),
            (Some(end_ms), Some(trial_ms)) if end_ms < trial_ms => (Some(end_ms), Some(CancelReason::Scheduled)),
            (_, Some(trial_ms)) => (Some(trial_ms), Some(CancelReason::TrialEnded)),
            (None, None) => (None, None),
        };
        let stigg = kept(&fields)?.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let row = Assignment {
            plan_id,
            id,
            end_ms,
            canceled,
            trial,
            ext: Extensions { stigg, ..Extensions::default() },
            ..Assignment::default()
        };
        Ok(Self { customer, row, start_ms: fields.time("startDate")?.flatten() })
    }

    /// The row, which begins now unless it says otherwise.
    pub fn row(&self, now: UnixMillis) -> Assignment {
        Assignment { start_ms: self.start_ms.unwrap_or(now.0), ..self.row.clone() }
    }
}

/// The trial, and whether all ends with it.
fn trial(fields: &Fields<'_>) -> Result<(Option<Trial>, bool), ApiError> {
    let Some(Value::Object(members)) = fields.get(TRIAL_CONFIGURATION) else {
        return match fields.get(TRIAL_CONFIGURATION) {
            None => Ok((None, false)),
            Some(_) => Err(fields.bad(TRIAL_CONFIGURATION, "must be an object")),
        };
    };
    // Of what shape the rest is.
    fields.shaped(TRIAL_CONFIGURATION, &TRIAL)?;
    let fields = Fields::new(format!("{TRIAL_CONFIGURATION}."), members);
    if !fields.required("isTrial", fields.flag("isTrial")?)? {
        return Ok((None, false));
    }
    let ends_all = match fields.get("trialEndBehavior").and_then(Value::as_str) {
        None | Some("CONVERT_TO_PAID") => false,
        Some("CANCEL_SUBSCRIPTION") => true,
        Some(_) => return Err(fields.bad("trialEndBehavior", "must be CONVERT_TO_PAID or CANCEL_SUBSCRIPTION")),
    };
    Ok((Some(Trial { end_ms: fields.time("trialEndDate")?.flatten() }), ends_all))
}

/// What is kept as it was sent; `null` where it is to be cleared.
fn kept(fields: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    fields.texts("metadata")?;
    for name in ["resourceId", "billingId", "payingCustomerId", "salesforceId", "billingPeriod", "paymentCollectionMethod"] {
        fields.shaped(name, &Shape::Text)?;
    }
    let mut kept = Map::new();
    for (name, value) in fields.members() {
        if !IN_THE_ROW.contains(&name.as_str()) && !OF_THE_REQUEST.contains(&name.as_str()) {
            let name_and_value = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
            check_any(&name_and_value).map_err(|reason| fields.bad(&shown(name), reason))?;
            kept.insert(name.clone(), value.clone());
        }
    }
    let bytes = Value::Object(kept.clone()).to_string().len();
    if bytes > KEPT_BYTES_MAX {
        return Err(fields.bad("the body", format!("has {bytes} bytes of fields that are kept as they are, the limit is {KEPT_BYTES_MAX}")));
    }
    Ok(kept)
}

/// What somebody else called it, for an error.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 64;
    name.chars().take(CHARS_MAX).collect()
}

/// What a PATCH changes.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionChange {
    /// When it ends; `Some(None)`: that it does not end after all.
    pub end: Said<i64>,
    trial_end_ms: Said<i64>,
    kept: Map<String, Value>,
}

impl SubscriptionChange {
    /// Reads the body of a PATCH `/api/v1/subscriptions/{id}`.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let members = object(body)?;
        let fields = Fields::new("", &members);
        for fixed in ["id", "customerId", "planId", "startDate", TRIAL_CONFIGURATION] {
            if fields.get(fixed).is_some() {
                return Err(fields.bad(fixed, "cannot be changed"));
            }
        }
        Ok(Self { end: fields.time("cancellationDate")?, trial_end_ms: fields.time("trialEndDate")?, kept: kept(&fields)? })
    }

    /// Checks that no more is kept of a row than can be.
    ///
    /// # Errors
    /// 400 where more would be kept than is.
    pub fn check(&self, row: &Assignment) -> Result<(), ApiError> {
        let mut changed = row.clone();
        self.apply(&mut changed);
        let bytes = Value::Object(changed.ext.stigg).to_string().len();
        if bytes <= KEPT_BYTES_MAX {
            return Ok(());
        }
        let reason = format!("would leave {bytes} bytes of fields that are kept as they are, the limit is {KEPT_BYTES_MAX}");
        Err(ApiError::bad_field("the body", reason))
    }

    /// Writes what was said of the row, save for its end; all else stays.
    pub fn apply(&self, row: &mut Assignment) {
        for (name, value) in &self.kept {
            match value {
                Value::Null => drop(row.ext.stigg.remove(name)),
                value => drop(row.ext.stigg.insert(name.clone(), value.clone())),
            }
        }
        if let Some(Some(end_ms)) = self.trial_end_ms {
            row.trial = Some(Trial { end_ms: Some(end_ms) });
            if row.canceled == Some(CancelReason::TrialEnded) {
                row.end_ms = Some(end_ms.max(row.start_ms));
            }
        }
    }
}

/// Reads the body of a POST `/api/v1/subscriptions/{id}/cancel`. Without any field: at once.
///
/// # Errors
/// 400 that names the field.
pub fn parse_cancel(body: &[u8]) -> Result<CancelTime, ApiError> {
    let members = object(body)?;
    let fields = Fields::new("", &members);
    let end_ms = fields.time("endDate")?.flatten();
    let time = fields.text("cancellationTime", KEPT_BYTES_MAX)?.flatten();
    match (time.as_deref(), end_ms) {
        (Some("SPECIFIC_DATE"), None) => Err(fields.bad("endDate", "is missing")),
        (Some("SPECIFIC_DATE") | None, Some(end_ms)) => Ok(CancelTime::At(end_ms)),
        (Some("IMMEDIATE"), _) | (None, None) => Ok(CancelTime::Immediate),
        (Some("END_OF_BILLING_PERIOD"), _) => Ok(CancelTime::EndOfPeriod),
        (Some(_), _) => Err(fields.bad("cancellationTime", "must be IMMEDIATE, END_OF_BILLING_PERIOD or SPECIFIC_DATE")),
    }
}

/// A status, as it is asked for and shown. Nobody's payment is pending.
pub fn status_label(status: SubscriptionStatus) -> &'static str {
    match status {
        SubscriptionStatus::NotStarted => "NOT_STARTED",
        SubscriptionStatus::InTrial => "IN_TRIAL",
        SubscriptionStatus::Active => "ACTIVE",
        SubscriptionStatus::Canceled => "CANCELED",
        SubscriptionStatus::Expired => "EXPIRED",
    }
}

/// All statuses of the wire.
pub const STATUSES: [&str; 6] = ["PAYMENT_PENDING", "ACTIVE", "EXPIRED", "IN_TRIAL", "CANCELED", "NOT_STARTED"];
/// How every subscription is priced, as far as Stigg is told: plans are priced elsewhere.
pub const PRICING_TYPE: &str = "FREE";
/// All that it could be.
pub const PRICING_TYPES: [&str; 3] = [PRICING_TYPE, "PAID", "CUSTOM"];

fn reason_label(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Immediate => "Immediate",
        CancelReason::Scheduled => "ScheduledCancellation",
        CancelReason::TrialEnded => "TRIAL_ENDED",
        CancelReason::CustomerArchived => "CustomerArchived",
        CancelReason::Superseded => "UPGRADE_OR_DOWNGRADE",
        CancelReason::Expired => "EXPIRED",
    }
}

/// A subscription as Stigg shows it.
pub fn render(made: &Subscription) -> Value {
    let row = &made.row;
    let mut shown = row.ext.stigg.clone();
    let time = |ms: i64| Value::from(UnixMillis(ms).to_string());
    let mut put = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    put("id", made.id.as_str().into());
    put("customerId", made.customer.as_str().into());
    put("planId", row.plan_id.as_str().into());
    put("createdAt", time(row.created_ms));
    put("startDate", time(row.start_ms));
    put("status", status_label(made.status).into());
    put("pricingType", PRICING_TYPE.into());
    put("paymentCollection", "NOT_REQUIRED".into());
    if let Some((end_ms, reason)) = made.end {
        put("effectiveEndDate", time(end_ms));
        match reason {
            CancelReason::Expired => put("endDate", time(end_ms)),
            reason => {
                put("cancellationDate", time(end_ms));
                put("cancelReason", reason_label(reason).into());
            }
        }
    }
    if let Some(end_ms) = row.trial.and_then(|trial| trial.end_ms) {
        put("trialEndDate", time(end_ms));
    }
    if row.trial.is_some() {
        let cancels = row.canceled == Some(CancelReason::TrialEnded);
        put("trial", json!({"trialEndBehavior": if cancels { "CANCEL_SUBSCRIPTION" } else { "CONVERT_TO_PAID" }}));
    }
    shown.entry("metadata").or_insert_with(|| Map::new().into());
    for unset in ["billingId", "resourceId"] {
        shown.entry(unset).or_insert(Value::Null);
    }
    shown.into()
}

/// The answer to a POST.
pub fn render_new(made: &Subscription) -> Value {
    json!({"id": made.id, "status": "SUCCESS", "subscription": render(made), "entitlements": []})
}

#[cfg(test)]
mod tests;
