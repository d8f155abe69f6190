//! Plans and their assignments (contract `amberflo.md` 6.1).

use serde_json::{Map, Value, json};

use super::{Family, Fields, ID_BYTES_MAX};
use crate::billing::{Assignment, MadePlan, NewAssignment};
use crate::clock::UnixMillis;
use crate::customers::CustomerId;
use crate::dialect::ApiError;

/// The plan that is always there (contract 6.1). Nobody has to be assigned to it, and unless somebody makes it, it is free.
pub const DEFAULT_PLAN_ID: &str = "default";
/// What the SDKs send as a product.
const DEFAULT_PRODUCT_ID: &str = "1";

/// What a POST asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignRequest {
    /// Whose plan.
    pub customer: CustomerId,
    /// Which one, and when.
    pub new: NewAssignment,
}

impl AssignRequest {
    /// Reads the body of a POST.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`; `details` names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = Fields::of_body(body)?;
        let customer = fields.customer(&["customerId"])?;
        let (product_id, plan_id) = (fields.text("productId", ID_BYTES_MAX)?, fields.text("productPlanId", ID_BYTES_MAX)?);
        let plan_id = plan_id.or_else(|| product_id.clone());
        let plan_id = plan_id.ok_or_else(|| ApiError::bad_field("productPlanId", "is missing, and so is productId"))?;
        let start = fields.seconds("startTimeInSeconds")?.or(fields.millis("startTime")?);
        let end = fields.seconds("endTimeInSeconds")?.or(fields.millis("endTime")?);
        let new = NewAssignment { plan_id, product_id, start_ms: start.map(|time| time.0), end_ms: end.map(|time| time.0) };
        Ok(Self { customer, new })
    }
}

/// An assignment as the paths of a family show it.
pub fn render(customer: &CustomerId, assignment: &Assignment, family: Family) -> Value {
    let customer = customer.as_str();
    match family {
        Family::Dashed => {
            let product = assignment.product_id.as_deref().unwrap_or(&assignment.plan_id);
            json!({"customerId": customer, "productId": product, "startTime": assignment.start_ms})
        }
        Family::Slashed => {
            let mut shown = json!({
                "customerId": customer,
                "productPlanId": assignment.plan_id,
                "productId": assignment.product_id.as_deref().unwrap_or(DEFAULT_PRODUCT_ID),
                "startTimeInSeconds": UnixMillis(assignment.start_ms).seconds(),
            });
            if let Some(end_ms) = assignment.end_ms {
                shown["endTimeInSeconds"] = UnixMillis(end_ms).seconds().into();
            }
            shown
        }
    }
}

/// A plan as the list of product plans shows it; `made`: if somebody has made it.
pub fn render_plan(id: &str, made: Option<&MadePlan>) -> Value {
    let mut shown = Map::new();
    shown.insert("id".into(), id.into());
    shown.insert("productId".into(), made.map_or(DEFAULT_PRODUCT_ID, |made| made.plan.product_id.as_str()).into());
    shown.insert("productPlanName".into(), made.map_or(id, |made| made.plan.name.as_str()).into());
    shown.insert("billingPeriod".into(), json!({"interval": "month", "intervalsCount": 1}));
    shown.insert("isDefault".into(), (id == DEFAULT_PLAN_ID).into());
    // A version never changes; a plan can always have another.
    shown.insert("lockingStatus".into(), "open".into());
    shown.insert("lastUpdateTimeInMillis".into(), made.map_or(0, |made| made.created_ms).into());
    shown.into()
}
