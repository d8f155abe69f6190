//! Prepaid orders (contract `amberflo.md` 6.2).

use serde_json::{Map, Value, json};

use super::{Family, Fields, ID_BYTES_MAX, shown_money};
use crate::billing::prepaid::{INTERVALS_MAX, Interval, Order, Payment, PaymentStatus, Recurrence, Terms};
use crate::billing::{Currency, Money};
use crate::clock::UnixMillis;
use crate::customers::CustomerId;
use crate::dialect::ApiError;
use crate::event::{Amount, TIME_MAX};

/// What the SDKs send as a version where there is no offer.
const NO_OFFER: i64 = -1;
const INTERVALS: [(&str, Interval); 3] = [("day", Interval::Day), ("month", Interval::Month), ("year", Interval::Year)];

/// What a POST asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRequest {
    /// Who ordered.
    pub customer: CustomerId,
    /// The order's id, if it was sent.
    pub id: Option<String>,
    /// What was ordered. Without a start in the request it begins with `now`.
    pub terms: Terms,
}

impl OrderRequest {
    /// Reads the body of a POST.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`; `details` names the field.
    pub fn parse(body: &[u8], family: Family, now: UnixMillis) -> Result<Self, ApiError> {
        let fields = Fields::of_body(body)?;
        let customer = fields.customer(&["customerId"])?;
        let id = fields.text("id", ID_BYTES_MAX)?;
        let start = fields.seconds("startTimeInSeconds")?.or(fields.millis("startTime")?);
        if family == Family::Slashed && fields.get("amount").is_none() {
            for (name, is_there) in [("id", id.is_some()), ("startTimeInSeconds", start.is_some())] {
                if !is_there {
                    return Err(ApiError::bad_field(name, "is missing"));
                }
            }
        }
        let currency = fields.text("currency", ID_BYTES_MAX)?.or(fields.text("originalCurrency", ID_BYTES_MAX)?);
        let currency = currency.map_or(Some(Currency::USD), |code| Currency::parse(&code));
        let currency = currency.ok_or_else(|| ApiError::bad_field("currency", "must be a code of ISO 4217 with minor units"))?;
        let amount = required_money(&fields, if fields.get("amount").is_some() { "amount" } else { price_name(family) }, currency)?;
        let start_ms = start.unwrap_or(now).0;
        let expires_ms = fields.millis("expirationTime")?.map(|time| time.0);
        if expires_ms.is_some_and(|expires_ms| expires_ms <= start_ms) {
            return Err(ApiError::bad_field("expirationTime", "must be after the start"));
        }
        let recurrence = fields.object("recurrenceFrequency")?.map(|frequency| recurrence(&frequency)).transpose()?.flatten();
        if recurrence.is_some() && expires_ms.is_some() {
            return Err(ApiError::bad_field(
                "expirationTime",
                "is not for an order that comes again: its amounts expire with each interval",
            ));
        }
        let terms = Terms {
            amount,
            currency,
            start_ms,
            expires_ms,
            recurrence,
            product_id: fields.text("productId", ID_BYTES_MAX)?.unwrap_or_else(|| "1".into()),
            offer_version: fields.int("prepaidOfferVersion")?.unwrap_or(NO_OFFER),
            external_payment: fields.flag("externalPayment")?.unwrap_or(false),
            original_worth: original_worth(&fields, currency)?.unwrap_or(amount),
        };
        Ok(Self { customer, id, terms })
    }
}

fn price_name(family: Family) -> &'static str {
    match family {
        Family::Dashed => "amount",
        Family::Slashed => "prepaidPrice",
    }
}

fn required_money(fields: &Fields, name: &str, currency: Currency) -> Result<Money, ApiError> {
    // Both shapes are accepted on both paths.
    let name = if fields.get(name).is_none() && fields.get("prepaidPrice").is_some() { "prepaidPrice" } else { name };
    let amount = fields.positive(name)?.ok_or_else(|| ApiError::bad_field(name, "is missing"))?;
    money(amount, currency, name)
}

fn original_worth(fields: &Fields, currency: Currency) -> Result<Option<Money>, ApiError> {
    // go sends 0 for what it does not know.
    match fields.int("originalWorth") {
        Ok(None | Some(0)) => Ok(None),
        Ok(Some(_)) | Err(_) => fields.positive("originalWorth")?.map(|amount| money(amount, currency, "originalWorth")).transpose(),
    }
}

fn money(amount: Amount, currency: Currency, name: &str) -> Result<Money, ApiError> {
    let too_fine = || ApiError::bad_field(name, format!("has more than the {} places that {currency} has", currency.places()));
    Money::exactly(amount, currency).ok_or_else(too_fine)
}

/// `None`: once. go sends an object with zero values for that.
fn recurrence(frequency: &Fields) -> Result<Option<Recurrence>, ApiError> {
    let (interval, count) = (frequency.text("interval", ID_BYTES_MAX)?, frequency.int("intervalsCount")?);
    let Some(interval) = interval else {
        return match count {
            None | Some(0) => Ok(None),
            Some(_) => Err(ApiError::bad_field("recurrenceFrequency.interval", "is missing")),
        };
    };
    let found = INTERVALS.iter().find(|(word, _)| word.eq_ignore_ascii_case(&interval)).map(|(_, interval)| *interval);
    let interval = found.ok_or_else(|| ApiError::bad_field("recurrenceFrequency.interval", "must be one of DAY, MONTH, YEAR"))?;
    let count = u32::try_from(count.unwrap_or(1)).ok().filter(|count| (1..=INTERVALS_MAX).contains(count));
    let wrong = || ApiError::bad_field("recurrenceFrequency.intervalsCount", format!("must be between 1 and {INTERVALS_MAX}"));
    Ok(Some(Recurrence { interval, count: count.ok_or_else(wrong)? }))
}

/// The word for an interval, as it is returned.
fn interval_label(interval: Interval) -> &'static str {
    match interval {
        Interval::Day => "day",
        Interval::Month => "month",
        Interval::Year => "year",
    }
}

fn payment_label(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::NotNeeded => "not_needed",
        PaymentStatus::Pending => "pending",
        PaymentStatus::Settled => "settled",
        PaymentStatus::Failed => "failed",
    }
}

/// An order as the paths of a family show it.
pub fn render(customer: &CustomerId, order: &Order, family: Family) -> Value {
    let terms = &order.terms;
    if family == Family::Dashed {
        let mut shown = Map::new();
        shown.insert("orderId".into(), order.id.as_str().into());
        shown.insert("customerId".into(), customer.as_str().into());
        shown.insert("amount".into(), shown_money(terms.amount));
        shown.insert("currency".into(), terms.currency.code().into());
        shown.insert("createTime".into(), order.created_ms.into());
        if let Some(expires_ms) = terms.expires_ms {
            shown.insert("expirationTime".into(), expires_ms.into());
        }
        return shown.into();
    }
    let frequency =
        terms.recurrence.map(|Recurrence { interval, count }| json!({"interval": interval_label(interval), "intervalsCount": count}));
    // The SDKs read numbers here: for ever is the end of the year 9999.
    let seconds = |time: Option<UnixMillis>| time.unwrap_or(TIME_MAX).seconds();
    let end = terms.expires_ms.filter(|_| terms.recurrence.is_none()).or(order.deleted_ms);
    json!({
        "id": order.id,
        "customerId": customer.as_str(),
        "productId": terms.product_id,
        "prepaidOfferVersion": terms.offer_version,
        "prepaidPrice": shown_money(terms.amount),
        "originalWorth": shown_money(terms.original_worth),
        "originalCurrency": terms.currency.code(),
        "externalPayment": terms.external_payment,
        "startTimeInSeconds": UnixMillis(terms.start_ms).seconds(),
        "endTimeInSeconds": seconds(end.map(UnixMillis)),
        "firstCardEndTimeSeconds": seconds(terms.first_card_end()),
        "recurrenceFrequency": frequency,
        "internalStatus": if order.deleted_ms.is_some() { "inactive" } else { "active" },
        "paymentStatus": payment_label(order.payment_status),
        "createdTimeInSeconds": UnixMillis(order.created_ms).seconds(),
        "modifiedTimeInSeconds": UnixMillis(order.modified_ms).seconds(),
    })
}

/// What a POST about a payment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// Whose order it is about, if that was said.
    pub customer: Option<CustomerId>,
    /// The order's id.
    pub order: String,
    /// What became of it.
    pub status: PaymentStatus,
    /// Where and when.
    pub payment: Payment,
    /// What is answered: the fields as they were sent.
    pub echo: Value,
}

impl PaymentRequest {
    /// Reads the body of a POST. `prepaidUri` is the order's id, or `<customerId>/<id>`, also at the end of a longer path.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`; `details` names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        const STATUSES: [(&str, PaymentStatus); 3] =
            [("settled", PaymentStatus::Settled), ("failed", PaymentStatus::Failed), ("pending", PaymentStatus::Pending)];
        const NAMES: [&str; 5] = ["prepaidUri", "paymentStatus", "systemName", "paymentId", "paymentTimeInSeconds"];
        let fields = Fields::of_body(body)?;
        let uri = fields.text("prepaidUri", 4 * ID_BYTES_MAX)?.ok_or_else(|| ApiError::bad_field("prepaidUri", "is missing"))?;
        let word = fields.id("paymentStatus")?;
        let status = STATUSES.iter().find(|(known, _)| known.eq_ignore_ascii_case(&word)).map(|(_, status)| *status);
        let status = status.ok_or_else(|| ApiError::bad_field("paymentStatus", "must be one of SETTLED, FAILED, PENDING"))?;
        let mut segments = uri.rsplit('/').filter(|segment| !segment.is_empty());
        let order = segments.next().ok_or_else(|| ApiError::bad_field("prepaidUri", "names no order"))?.to_owned();
        let payment = Payment {
            system_name: fields.text("systemName", ID_BYTES_MAX)?,
            payment_id: fields.text("paymentId", ID_BYTES_MAX)?,
            time_s: fields.int("paymentTimeInSeconds")?,
        };
        let echo = NAMES.iter().filter_map(|name| Some(((*name).to_owned(), fields.get(name)?.clone())));
        Ok(Self {
            customer: segments.next().and_then(|id| CustomerId::parse(id).ok()),
            order,
            status,
            payment,
            echo: Value::Object(echo.collect()),
        })
    }
}
