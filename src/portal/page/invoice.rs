//! Invoices: the list of all, and one with what it is made of.

use askama::Template;
use serde_json::Value;

use super::Frame;
use crate::billing::invoice::Used;
use crate::billing::pricing::Step;
use crate::billing::timeline::{HOUR_MAX, seconds};
use crate::billing::{Currency, Invoice, Line, LineKind, Shown, State, Status};
use crate::portal::numbers::{day, grouped, moment, money, month};

/// Longest list.
const INVOICES_MAX: usize = 500;

/// An invoice in a list.
pub(super) struct InvoiceRow {
    pub(super) id: String,
    pub(super) period: String,
    pub(super) plan: String,
    pub(super) status: Standing,
    pub(super) total: String,
}

/// Where an invoice stands, for people and for the style sheet.
pub(super) struct Standing {
    pub(super) label: &'static str,
    pub(super) class: &'static str,
}

/// All of them.
#[derive(Template)]
#[template(config = "src/portal/askama.toml", path = "invoices.html")]
pub(in crate::portal) struct InvoicesPage {
    frame: Frame,
    invoices: Vec<InvoiceRow>,
    is_cut: bool,
}

impl InvoicesPage {
    pub(in crate::portal) fn new(frame: Frame, shown: &[Shown]) -> Self {
        Self { frame, invoices: shown.iter().rev().take(INVOICES_MAX).map(row_of).collect(), is_cut: shown.len() > INVOICES_MAX }
    }
}

/// One, with its lines.
#[derive(Template)]
#[template(config = "src/portal/askama.toml", path = "invoice.html")]
pub(in crate::portal) struct InvoicePage {
    frame: Frame,
    name: String,
    row: InvoiceRow,
    closed: Option<String>,
    is_open: bool,
    lines: Vec<LineRow>,
    before_prepaid: String,
    draws: Vec<DrawRow>,
    total: String,
}

/// A line, with how it comes about.
struct LineRow {
    name: String,
    amount: String,
    /// One sentence each.
    because: Vec<String>,
}

/// What a prepaid order pays.
struct DrawRow {
    order: String,
    amount: String,
}

impl InvoicePage {
    pub(in crate::portal) fn new(frame: Frame, name: String, shown: &Shown) -> Self {
        let invoice = &shown.invoice;
        let currency = invoice.currency;
        let draw = |draw: &crate::billing::prepaid::Draw| DrawRow { order: draw.order.clone(), amount: money(draw.amount, currency) };
        Self {
            frame,
            name,
            row: row_of(shown),
            closed: shown.closed.as_ref().map(|(closed_ms, _)| moment(closed_ms.div_euclid(1_000))),
            is_open: shown.closed.is_none(),
            lines: invoice.lines.iter().map(|line| line_row(line, currency)).collect(),
            before_prepaid: money(invoice.before_prepaid(), currency),
            draws: invoice.draws.iter().map(draw).collect(),
            total: money(invoice.total(), currency),
        }
    }
}

pub(super) fn row_of(shown: &Shown) -> InvoiceRow {
    let invoice = &shown.invoice;
    InvoiceRow {
        id: invoice.id.as_str().to_owned(),
        period: period(invoice),
        plan: plan_name(invoice),
        status: standing(shown.state),
        total: money(invoice.total(), invoice.currency),
    }
}

pub(super) fn plan_name(invoice: &Invoice) -> String {
    invoice.plan.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()).unwrap_or(&invoice.period.plan.id).to_owned()
}

/// The month, or the days of it.
fn period(invoice: &Invoice) -> String {
    let (start_h, end_h) = (invoice.period.start_h, invoice.period.end_h);
    let whole = crate::billing::timeline::month_of(start_h);
    if whole == (start_h..end_h) || end_h >= HOUR_MAX {
        return month(seconds(start_h));
    }
    // The last hour that is in it.
    format!("{} to {}", day(seconds(start_h)), day(seconds(end_h) - 1))
}

fn standing(state: State) -> Standing {
    let (label, class) = match state {
        State::Open => ("Open", "open"),
        State::Grace => ("Being closed", "open"),
        State::Closed(Status::Pending) => ("To be paid", "due"),
        State::Closed(Status::Paid) => ("Paid", "paid"),
        State::Closed(Status::Void) => ("Void", "void"),
    };
    Standing { label, class }
}

fn line_row(line: &Line, currency: Currency) -> LineRow {
    let mut because = Vec::new();
    match line.kind {
        LineKind::Fee => because.extend(line.due.as_ref().map(|due| format!("Flat fee, in {due}."))),
        LineKind::Usage => because.extend(line.usage.iter().flat_map(|used| used_because(used, currency))),
        LineKind::PriceMinimum => because.push("What the usage of this price comes to less than its minimum.".into()),
        LineKind::PlanMinimum => because.push("What all usage comes to less than the plan's minimum.".into()),
        LineKind::Late => because.push(late(line, currency)),
    }
    LineRow { name: line.name.clone(), amount: money(line.amount, currency), because }
}

fn late(line: &Line, currency: Currency) -> String {
    let before = line.billed_before.map(|before| format!(" {} of it was billed then.", money(before, currency))).unwrap_or_default();
    format!("Usage of an earlier period that came in after its invoice was closed.{before}")
}

/// Which usage, and how it was priced.
fn used_because(used: &Used, currency: Currency) -> Vec<String> {
    let number = |number: &crate::event::Sum| grouped(&number.to_string());
    let of = match (&used.dimension, &used.dimension_value) {
        (Some(dimension), Some(value)) => format!(" with {dimension} = {value}"),
        (Some(dimension), None) => format!(" with any other {dimension}"),
        (None, _) => String::new(),
    };
    let events = grouped(&used.events.to_string());
    let mut because = vec![format!("{} of {}{of}: {} ({events} events).", capital(&used.aggregation), used.meter, number(&used.quantity))];
    if used.included != crate::event::Sum::ZERO {
        because.push(format!("{} included.", number(&used.included)));
    }
    because.extend(used.steps.iter().map(|step| step_because(&used.model, step, currency)));
    because
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What a step's quantity counts.
fn unit(model: &str) -> &'static str {
    if model == "package" { "packages" } else { "units" }
}

fn step_because(model: &str, step: &Step, currency: Currency) -> String {
    let number = |number: &crate::event::Sum| grouped(&number.to_string());
    let up_to = step.up_to.as_ref().map(|up_to| format!(" (up to {})", number(up_to))).unwrap_or_default();
    let flat = step.flat_price.as_ref().map(|flat| format!(" and {} {currency} flat", number(flat))).unwrap_or_default();
    format!("{} {} at {} {currency} each{up_to}{flat}.", number(&step.quantity), unit(model), number(&step.unit_price))
}
