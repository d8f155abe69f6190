//! The first page: plan, usage as plots, balance, the latest invoices.

use askama::Template;

use super::Frame;
use super::invoice::{InvoiceRow, row_of};
use crate::billing::timeline::{HOUR_MAX, seconds};
use crate::billing::{CustomerBalance, OrderBalance, Shown, State, Statements};
use crate::event::Sum;
use crate::portal::numbers::{day, grouped, iso_day, money, short_day};
use crate::portal::plot::{HEIGHT, Plot, plot};
use crate::portal::read::{METERS_A_PAGE, MeterUsage, Span, Usage};
use crate::usage::Measure;

/// Invoices on this page; all of them are on their own.
const INVOICES_MAX: usize = 6;
/// Prepaid orders on this page.
const ORDERS_MAX: usize = 20;

/// The page.
#[derive(Template)]
#[template(config = "src/portal/askama.toml", path = "overview.html")]
pub(in crate::portal) struct OverviewPage {
    frame: Frame,
    /// What the customer is called.
    name: String,
    /// Its id, if it is called something else.
    id: Option<String>,
    plans: Vec<String>,
    /// What the open invoices come to so far.
    open: Vec<String>,
    /// What is left of what was paid in advance.
    available: Vec<String>,
    is_complete: bool,
    spans: Vec<Choice>,
    meters: Vec<MeterCard>,
    pages: Option<Pages>,
    orders: Vec<OrderRow>,
    has_more_orders: bool,
    invoices: Vec<InvoiceRow>,
    has_more_invoices: bool,
    /// Why there is nothing about money.
    no_billing: Option<String>,
}

/// A link to other days.
struct Choice {
    query: String,
    label: String,
    is_chosen: bool,
}

/// Which meters are here, and where the others are.
struct Pages {
    first: usize,
    last: usize,
    in_all: String,
    before: Option<String>,
    behind: Option<String>,
}

/// One meter.
struct MeterCard {
    name: String,
    /// Its API name, if it is called something else.
    api_name: Option<String>,
    total: String,
    /// What the number is.
    what: &'static str,
    peak: String,
    from: String,
    to: String,
    plot: Plot,
    height: i64,
    days: Vec<DayRow>,
}

/// One day of one meter.
struct DayRow {
    iso: String,
    day: String,
    number: String,
}

/// A prepaid order.
struct OrderRow {
    id: String,
    amount: String,
    remaining: String,
    until: String,
}

impl OverviewPage {
    pub(in crate::portal) fn new(
        frame: Frame,
        (name, id): (String, Option<String>),
        chosen: Span,
        usage: &Usage,
        billing: Result<&Statements, String>,
    ) -> Self {
        let statements = billing.as_ref().ok();
        let shown = statements.map_or(&[][..], |statements| &statements.invoices);
        let balance = statements.map(|statements| statements.balance());
        let orders = balance.as_ref().map_or_else(Vec::new, order_rows);
        Self {
            frame,
            name,
            id,
            plans: plans(shown),
            open: shown.iter().filter(|shown| shown.state == State::Open).map(total).collect(),
            available: available(balance.as_ref()),
            is_complete: usage.is_complete && statements.is_none_or(|statements| statements.complete),
            spans: Span::ALL.map(|span| choice(span, chosen)).into(),
            meters: usage.meters.iter().map(card).collect(),
            pages: pages(usage, chosen),
            has_more_orders: orders.len() > ORDERS_MAX,
            orders: orders.into_iter().take(ORDERS_MAX).collect(),
            invoices: shown.iter().rev().take(INVOICES_MAX).map(row_of).collect(),
            has_more_invoices: shown.len() > INVOICES_MAX,
            no_billing: billing.err(),
        }
    }
}

fn total(shown: &Shown) -> String {
    money(shown.invoice.total(), shown.invoice.currency)
}

/// Those of the open invoices; a plan that begins this month stands beside the one that it follows.
fn plans(shown: &[Shown]) -> Vec<String> {
    let open = shown.iter().filter(|shown| shown.state == State::Open);
    let mut names: Vec<String> = open.map(|shown| super::invoice::plan_name(&shown.invoice)).collect();
    names.dedup();
    names
}

fn available(balance: Option<&CustomerBalance>) -> Vec<String> {
    let Some(balance) = balance.filter(|balance| !balance.orders.is_empty()) else { return Vec::new() };
    let known = balance.available.iter().filter_map(|(code, amount)| Some(money(*amount, crate::billing::Currency::parse(code)?)));
    known.collect()
}

fn choice(span: Span, chosen: Span) -> Choice {
    Choice { query: format!("?range={}", span.code()), label: span.label(), is_chosen: span == chosen }
}

fn pages(usage: &Usage, span: Span) -> Option<Pages> {
    let (first, in_all) = (usage.page * METERS_A_PAGE, usage.meters_in_all);
    let link = |page: usize| format!("?range={}&page={}", span.code(), page + 1);
    (in_all > METERS_A_PAGE).then(|| Pages {
        first: first + 1,
        last: first + usage.meters.len(),
        in_all: if usage.has_more_meters { format!("more than {in_all}") } else { in_all.to_string() },
        before: usage.page.checked_sub(1).map(link),
        behind: (first + METERS_A_PAGE < in_all).then(|| link(usage.page + 1)),
    })
}

fn card(usage: &MeterUsage) -> MeterCard {
    let numbers: Vec<Sum> = usage.days.iter().map(|(_, number)| *number).collect();
    let edge = |day: Option<&(i64, Sum)>| day.map_or_else(String::new, |(start, _)| short_day(*start));
    let peak = usage.days.iter().rev().max_by_key(|(_, number)| *number);
    let row = |(start, number): &(i64, Sum)| DayRow { iso: iso_day(*start), day: day(*start), number: grouped(&number.to_string()) };
    MeterCard {
        name: usage.display_name.clone().unwrap_or_else(|| usage.name.clone()),
        api_name: usage.display_name.is_some().then(|| usage.name.clone()),
        total: grouped(&usage.total.to_string()),
        what: what(usage.measure),
        peak: peak.map_or_else(String::new, |(start, number)| format!("{} on {}", grouped(&number.to_string()), short_day(*start))),
        from: edge(usage.days.first()),
        to: edge(usage.days.last()),
        plot: plot(&numbers),
        height: HEIGHT,
        days: usage.days.iter().map(row).collect(),
    }
}

/// What the number over all days is.
fn what(measure: Measure<'_>) -> &'static str {
    match measure {
        Measure::Sum => "in total",
        Measure::Min => "at least",
        Measure::Max => "at most",
        Measure::Count => "events",
        Measure::Customers => "customers",
        Measure::Average => "on average",
        Measure::Latest => "at last",
        Measure::Unique(_) => "different values",
    }
}

fn order_rows(balance: &CustomerBalance) -> Vec<OrderRow> {
    let mut rows: Vec<OrderRow> = balance.orders.iter().filter(|order| order.order.deleted_ms.is_none()).flat_map(cards).collect();
    // Newest first.
    rows.reverse();
    rows
}

fn cards(balance: &OrderBalance) -> Vec<OrderRow> {
    let currency = balance.order.terms.currency;
    let row = |card: &crate::billing::CardBalance| OrderRow {
        id: balance.order.id.clone(),
        amount: money(balance.order.terms.amount, currency),
        remaining: if card.is_good { money(card.remaining, currency) } else { "over".into() },
        until: if card.card.end_h >= HOUR_MAX { "no end".into() } else { day(seconds(card.card.end_h)) },
    };
    balance.cards.iter().map(row).collect()
}
