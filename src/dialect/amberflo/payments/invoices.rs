//! Invoices (contract `amberflo.md` 6.3).

use serde_json::{Value, json};

use super::{Fields, shown_money};
use crate::billing::timeline::seconds;
use crate::billing::{Line, LineKind, Shown, State, Status};
use crate::dialect::ApiError;

/// What Amberflo's SDKs want to know of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its number.
    pub account: u32,
    /// How long after its end a period is closed, in ms.
    pub grace_ms: i64,
}

/// Year, month and day (UTC) on which an hour lies.
fn date(hour: u32) -> (i16, i8, i8) {
    let date = jiff::Timestamp::from_second(seconds(hour)).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).date();
    (date.year(), date.month(), date.day())
}

/// An invoice of the seed.
pub fn render_seed(shown: &Shown) -> Value {
    let invoice = &shown.invoice;
    let status = match shown.state {
        State::Open | State::Grace => "DRAFT",
        State::Closed(Status::Pending) => "PENDING",
        State::Closed(Status::Paid) => "PAID",
        State::Closed(Status::Void) => "VOID",
    };
    json!({
        "invoiceId": invoice.id.as_str(),
        "customerId": invoice.customer.as_str(),
        "startTime": seconds(invoice.period.start_h),
        "endTime": seconds(invoice.period.end_h),
        "totalAmount": shown_money(invoice.total()),
        "currency": invoice.currency.code(),
        "status": status,
    })
}

/// An invoice of the SDKs.
pub fn render(shown: &Shown, about: About) -> Value {
    let invoice = &shown.invoice;
    let (period, (year, month, day)) = (&invoice.period, date(invoice.period.start_h));
    let product = period.product_id.as_deref().unwrap_or("1");
    let (price_status, payment_status) = match shown.state {
        State::Open => ("open", "pre_payment"),
        State::Grace => ("grace_period", "pre_payment"),
        State::Closed(Status::Pending) => ("price_locked", "pending"),
        State::Closed(Status::Paid) => ("price_locked", "settled"),
        State::Closed(Status::Void) => ("price_locked", "not_needed"),
    };
    let (fees, items): (Vec<&Line>, Vec<&Line>) = invoice.lines.iter().partition(|line| line.kind == LineKind::Fee);
    let total = |lines: &[&Line]| shown_money(lines.iter().map(|line| line.amount).sum());
    json!({
        "invoiceUri": invoice.id.as_str(),
        "invoiceKey": {
            "accountId": about.account.to_string(),
            "customerId": invoice.customer.as_str(),
            "productId": product,
            "productPlanId": period.plan.id,
            "year": year,
            "month": month,
            "day": day,
        },
        "planBillingPeriod": {"interval": "month", "intervalsCount": 1},
        "planName": invoice.plan["name"],
        "invoiceStartTimeInSeconds": seconds(period.start_h),
        "invoiceEndTimeInSeconds": seconds(period.end_h),
        "gracePeriodInHours": about.grace_ms / 3_600_000,
        "productItemInvoices": items.iter().map(|line| render_item(line)).collect::<Vec<_>>(),
        "appliedPromotions": [],
        "productPlanFees": fees.iter().map(|line| render_fee(line)).collect::<Vec<_>>(),
        "totalBill": {
            "startTimeInSeconds": seconds(period.start_h),
            "endTimeInSeconds": seconds(period.end_h),
            "itemPrice": total(&items),
            "fixPrice": total(&fees),
            "prepaid": shown_money(invoice.prepaid()),
            "totalDiscount": 0,
            "totalPriceBeforeDiscount": shown_money(invoice.before_prepaid()),
            "totalPriceBeforePrepaid": shown_money(invoice.before_prepaid()),
            "totalPrice": shown_money(invoice.total()),
        },
        "invoicePriceStatus": price_status,
        "paymentStatus": payment_status,
    })
}

fn render_item(line: &Line) -> Value {
    let mut shown = json!({"productItemId": line.id, "productItemName": line.name, "kind": line.kind, "price": shown_money(line.amount)});
    if let Some(used) = &line.usage {
        shown["meterApiName"] = used.meter.as_str().into();
        shown["quantity"] = serde_json::to_value(used.quantity).unwrap_or(Value::Null);
    }
    shown
}

fn render_fee(line: &Line) -> Value {
    json!({"id": line.id, "name": line.name, "due": line.due, "price": shown_money(line.amount)})
}

/// Which one of a customer's invoices is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The open one.
    Latest,
    /// The one of a plan and a date.
    Of {
        /// The plan's id; `None`: any.
        plan: Option<String>,
        /// The year.
        year: i64,
        /// The month, from 1 on.
        month: i64,
        /// The day on which it begins; `None`: any.
        day: Option<i64>,
    },
}

impl Wanted {
    /// Reads the parameters of a query.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`; `details` names the parameter.
    pub fn parse(query: &Fields) -> Result<Self, ApiError> {
        let is_latest = query.text("latest", 5)?.is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
        // Read also where they say nothing: what they must be holds all the same.
        let (plan, day) = (query.text("productPlanId", super::ID_BYTES_MAX)?, query.int("day")?);
        match (query.int("year")?, query.int("month")?) {
            _ if is_latest => Ok(Self::Latest),
            (None, None) => Ok(Self::Latest),
            (Some(year), Some(month)) => Ok(Self::Of { plan, year, month, day }),
            (None, Some(_)) => Err(ApiError::bad_field("year", "is missing")),
            (Some(_), None) => Err(ApiError::bad_field("month", "is missing")),
        }
    }

    /// The invoice among a customer's; the last one where several fit.
    pub fn find<'i>(&self, invoices: &'i [Shown]) -> Option<&'i Shown> {
        invoices.iter().rfind(|shown| match self {
            Self::Latest => shown.state == State::Open,
            Self::Of { plan, year, month, day } => {
                let period = &shown.invoice.period;
                let (own_year, own_month, own_day) = date(period.start_h);
                let is_on_day = day.is_none_or(|day| day == i64::from(own_day));
                plan.as_ref().is_none_or(|plan| *plan == period.plan.id)
                    && (i64::from(own_year), i64::from(own_month)) == (*year, *month)
                    && is_on_day
            }
        })
    }
}
