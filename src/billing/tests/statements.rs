//! Periods, prepaid orders and late usage, over months.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::any_plan;
use super::invoices::any_events;
use crate::billing::invoice::{Closed, Invoice, InvoiceId, LineKind, Status};
use crate::billing::money::{Currency, Money};
use crate::billing::plan::{Plan, json};
use crate::billing::prepaid::{Card, Draw, Interval, Order, PaymentStatus, Recurrence, Terms};
use crate::billing::statement::{Drawn, Item, Source, Statement};
use crate::billing::timeline::{Assignment, Period, periods};
use crate::customers::{CustomerId, Extensions, Lives};
use crate::event::Amount;
use crate::usage::memory::{ACCOUNT, Event, MemoryRows, event};

/// 2026-01-01T00:00:00Z.
pub(super) const JANUARY_S: i64 = 1_767_225_600;
const HOUR_MS: i64 = 3_600_000;
const JANUARY_H: u32 = (JANUARY_S / 3_600) as u32;
/// Hours of January.
const HOURS: i64 = 31 * 24;

/// An hour of January, in ms since 1970.
pub(super) fn january(hour: i64) -> i64 {
    (JANUARY_S + hour * 3_600) * 1_000
}

fn money(text: &str) -> Money {
    serde_json::from_str(text).expect("money")
}

/// What the customer `acme` was sold and used, without a store.
pub(super) struct World {
    plans: BTreeMap<String, Plan>,
    assignments: Vec<Assignment>,
    pub(super) orders: Vec<Order>,
    rows: MemoryRows,
    closed: BTreeMap<InvoiceId, Closed>,
    until_h: u32,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plans: BTreeMap::from([(plan.id.clone(), plan)]),
            assignments: Vec::new(),
            orders: Vec::new(),
            rows: MemoryRows::default(),
            closed: BTreeMap::new(),
            until_h: JANUARY_H + 1,
        }
    }

    fn plan(mut self, plan: Plan) -> Self {
        self.plans.insert(plan.id.clone(), plan);
        self
    }

    /// Assigns the first plan.
    pub(super) fn assigned(self, start_ms: i64) -> Self {
        let id = self.plans.keys().next().expect("a plan").clone();
        self.assigned_to(&id, start_ms, None)
    }

    fn assigned_to(mut self, plan: &str, start_ms: i64, end_ms: Option<i64>) -> Self {
        let (plan_id, plan_version) = (plan.to_owned(), Some(1));
        self.assignments.push(Assignment {
            life: 0,
            plan_id,
            plan_version,
            product_id: None,
            start_ms,
            end_ms,
            created_ms: 0,
            ext: Extensions::default(),
        });
        self
    }

    pub(super) fn rows(self, rows: MemoryRows) -> Self {
        Self { rows, ..self }
    }

    fn until(self, until_h: u32) -> Self {
        Self { until_h, ..self }
    }

    fn periods(&self) -> Vec<Period> {
        periods(&self.assignments, &Lives::default(), self.until_h, &|_| true)
    }

    /// The statement; closes the periods that end before an hour.
    fn statement(&mut self, close_until_h: u32) -> (Vec<Item>, Drawn) {
        let (customer, mut new) = (CustomerId::parse("acme").expect("an id"), Vec::new());
        let source = Source {
            account: ACCOUNT,
            customer: &customer,
            orders: &self.orders,
            rows: &self.rows,
            plan: &|reference| Ok(self.plans.get(&reference.id).cloned().unwrap_or_else(|| Plan::free(&reference.id))),
            closed: &|id| Ok(self.closed.get(id).cloned()),
        };
        let mut statement = Statement::new(&source);
        for period in self.periods() {
            let mut close = |invoice: &Invoice| {
                let closed = (period.end_h <= close_until_h).then(|| Closed::new(invoice.clone(), 0, vec![(0, 1)]));
                new.extend(closed.clone());
                Ok(closed)
            };
            statement.add(&period, &mut close).expect("small");
        }
        let found = statement.finish();
        for closed in new {
            let bytes = closed.write().expect("JSON");
            assert_eq!(Closed::read(&bytes).expect("was written"), closed);
            assert!(self.closed.insert(closed.invoice.id.clone(), closed).is_none(), "closed once");
        }
        found
    }

    pub(super) fn open_invoices(mut self) -> Vec<Invoice> {
        self.invoices(0)
    }

    fn invoices(&mut self, close_until_h: u32) -> Vec<Invoice> {
        self.statement(close_until_h).0.iter().map(|item| item.invoice().clone()).collect()
    }
}

fn order(id: &str, amount: Money, start_ms: i64, expires_ms: Option<i64>) -> Order {
    let terms = Terms {
        amount,
        currency: Currency::USD,
        start_ms,
        expires_ms,
        recurrence: None,
        product_id: "1".into(),
        offer_version: -1,
        external_payment: false,
        original_worth: amount,
    };
    Order {
        id: id.into(),
        life: 0,
        terms,
        payment_status: PaymentStatus::NotNeeded,
        payment: None,
        created_ms: 0,
        modified_ms: 0,
        deleted_ms: None,
    }
}

fn any_order() -> impl Strategy<Value = Order> {
    let recurrence = prop_oneof![
        3 => Just(None),
        1 => (1_u32..9).prop_map(|count| Some(Recurrence { interval: Interval::Day, count })),
        1 => Just(Some(Recurrence { interval: Interval::Month, count: 1 })),
    ];
    (1_i64..200_000, -HOURS..2 * HOURS, proptest::option::of(1_i64..2 * HOURS), recurrence, 0_i64..HOUR_MS).prop_map(
        |(cents, start, length, recurrence, broken_ms)| {
            let start_ms = january(start) + broken_ms;
            let expires_ms = length.filter(|_| recurrence.is_none()).map(|length| start_ms + length * HOUR_MS);
            let amount = Money::exactly(Amount::from_scaled(i128::from(cents) * 10_000_000_000).expect("small"), Currency::USD);
            let mut order = order("", amount.expect("cents"), start_ms, expires_ms);
            order.terms.recurrence = recurrence;
            order
        },
    )
}

fn any_orders() -> impl Strategy<Value = Vec<Order>> {
    vec(any_order(), 0..5).prop_map(|orders| (0..).zip(orders).map(|(n, order)| Order { id: format!("o-{n}"), ..order }).collect())
}

fn card_of(orders: &[Order], draw: &Draw) -> (Money, Card) {
    let order = orders.iter().find(|order| order.id == draw.order).expect("an order");
    let cards = order.cards(JANUARY_H + 3_000);
    (order.terms.amount, *cards.iter().find(|card| card.number == draw.card).expect("a card"))
}

fn check_draws(orders: &[Order], invoices: &[Invoice]) -> Result<(), TestCaseError> {
    let mut drawn: BTreeMap<(&str, u32), Money> = BTreeMap::new();
    for draw in invoices.iter().flat_map(|invoice| &invoice.draws) {
        let (amount, card) = card_of(orders, draw);
        let sum = drawn.entry((&draw.order, draw.card)).or_default();
        *sum += draw.amount;
        prop_assert!(draw.amount > Money::ZERO);
        prop_assert!(*sum <= amount, "{draw:?}");
        prop_assert!(card.start_h <= draw.start_h && draw.end_h <= card.end_h, "{draw:?} {card:?}");
    }
    for invoice in invoices {
        prop_assert!(invoice.prepaid() <= invoice.before_prepaid().or_zero());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_month_that_is_split_into_assignments_of_one_plan_is_billed_as_one(
        plan in any_plan(), events in any_events(), orders in any_orders(), cuts in vec((0..HOURS * HOUR_MS, any::<bool>()), 0..6)
    ) {
        let world = |orders: &[Order]| {
            let mut world = World::new(plan.clone()).rows(MemoryRows::of(&events));
            world.orders = orders.to_vec();
            world
        };
        let whole = world(&orders).assigned(january(0)).open_invoices();
        let mut split = world(&orders).assigned(january(0));
        let mut times: Vec<_> = cuts.iter().map(|(cut_ms, has_end)| (january(0) + cut_ms, *has_end)).collect();
        times.sort_unstable();
        for (index, (start_ms, has_end)) in times.iter().enumerate() {
            // With an end of its own, or with the begin of the next.
            let end_ms = has_end.then(|| times.get(index + 1).map(|(next_ms, _)| *next_ms)).flatten();
            split = split.assigned_to("any", *start_ms, end_ms);
        }
        prop_assert_eq!(split.open_invoices(), whole);
    }

    #[test]
    fn drawdown_never_exceeds_an_order_nor_an_invoice(plan in any_plan(), events in any_events(), orders in any_orders()) {
        let plan = Plan { currency: Currency::USD, ..plan };
        let mut world = World::new(plan).assigned(january(-HOURS)).until(JANUARY_H + 2 * HOURS as u32).rows(MemoryRows::of(&events));
        world.orders = orders.clone();
        let open = world.invoices(0);
        check_draws(&orders, &open)?;
        // Closed one by one they draw the same, and once more they are the same.
        for month in 1..4_u32 {
            prop_assert_eq!(&world.invoices(JANUARY_H + month * 500), &open);
        }
    }

    #[test]
    fn prices_that_only_rise_are_drawn_hour_by_hour(
        events in any_events(), orders in any_orders(), fee_cents in 0_i64..10_000, unit_price in 1_i64..300
    ) {
        let plan = serde_json::json!({"id": "p", "currency": "USD", "fees": [{"id": "f", "amount": fee_cents, "due": "advance"}],
            "prices": [{"meter": "calls", "aggregation": "count", "model": "perUnit", "unitPrice": unit_price}]});
        let mut world = World::new(json::read(&plan).expect("a plan")).assigned(january(0)).rows(MemoryRows::of(&events));
        world.orders = orders.clone();
        let invoice = world.invoices(0).pop().expect("one month");
        let mut left: BTreeMap<(u32, u32, String, u32), Money> = BTreeMap::new();
        for order in &orders {
            for card in order.cards(JANUARY_H + 3_000).iter().take(300) {
                left.insert((card.end_h, card.start_h, order.id.clone(), card.number), order.terms.amount);
            }
        }
        let mut drawn = Money::ZERO;
        for hour in JANUARY_H..JANUARY_H + HOURS as u32 {
            let in_hour = events.iter().filter(|event| event.meter == "calls" && event.time_ms / HOUR_MS == i64::from(hour)).count() as i64;
            let cost = in_hour * unit_price + if hour == JANUARY_H { fee_cents } else { 0 };
            let mut open = money(&cost.to_string());
            for ((end_h, start_h, ..), remaining) in &mut left {
                if *start_h <= hour && hour < *end_h {
                    let amount = open.min(*remaining);
                    *remaining -= amount;
                    open -= amount;
                    drawn += amount;
                }
            }
        }
        prop_assert_eq!(invoice.prepaid(), drawn);
    }

    #[test]
    fn what_comes_late_is_billed_once_on_the_next_invoice(plan in any_plan(), early in any_events(), late in any_events()) {
        let all = |months: u32| {
            let events: Vec<&Event> = early.iter().chain(&late).collect();
            World::new(plan.clone()).assigned(january(0)).until(JANUARY_H + months * 750).rows(MemoryRows::of(events))
        };
        let in_time: Money = all(3).open_invoices().iter().map(Invoice::total).sum();
        let (february_h, march_h) = (JANUARY_H + HOURS as u32, JANUARY_H + (31 + 28) * 24);
        let mut world = World::new(plan.clone()).assigned(january(0)).until(JANUARY_H + 3 * 750).rows(MemoryRows::of(&early));
        let january = world.invoices(february_h)[0].clone();
        let mut world = world.rows(MemoryRows::of(early.iter().chain(&late)));
        for close_until_h in [0, march_h, march_h] {
            let invoices = world.invoices(close_until_h);
            prop_assert_eq!(&invoices[0], &january, "what is closed never changes");
            prop_assert_eq!(invoices.iter().map(Invoice::total).sum::<Money>(), in_time);
            let late_lines = |invoice: &Invoice| invoice.lines.iter().filter(|line| line.kind == LineKind::Late).count();
            prop_assert!(late_lines(&invoices[1]) <= 1 && late_lines(&invoices[2]) == 0);
        }
    }
}

fn per_call(id: &str, cents: u32) -> Plan {
    let plan = serde_json::json!({"id": id, "currency": "USD",
        "prices": [{"meter": "calls", "model": "perUnit", "unitPrice": f64::from(cents) / 100.0}]});
    json::read(&serde_json::from_str(&plan.to_string()).expect("JSON")).expect("a plan")
}

fn calls(hour: i64, count: &str) -> Event {
    event("acme", JANUARY_S + hour * 3_600, count).meter("calls")
}

#[test]
fn a_change_of_plan_takes_the_whole_hour_in_which_it_happens() {
    let world = World::new(per_call("a", 100)).plan(per_call("b", 300)).assigned_to("a", january(0), None);
    let world = world.assigned_to("b", january(5) + 59 * 60_000, None).rows(MemoryRows::of(&[calls(4, "1"), calls(5, "1")]));
    let invoices = world.until(JANUARY_H + 6).open_invoices();
    let shown: Vec<_> = invoices.iter().map(|invoice| (invoice.period.plan.id.as_str(), invoice.total().to_string())).collect();
    assert_eq!(shown, [("a", "1".to_owned()), ("b", "3".to_owned())]);
}

#[test]
fn orders_are_drawn_in_the_order_of_their_expiry_while_they_are_good() {
    let mut world =
        World::new(per_call("a", 100)).assigned(january(0)).rows(MemoryRows::of(&[calls(1, "10"), calls(20, "10"), calls(40, "10")]));
    world.orders = vec![
        order("for-ever", money("7"), january(0), None),
        order("soon", money("4"), january(0), Some(january(10))),
        order("later", money("5"), january(10), Some(january(30))),
    ];
    let (mut items, drawn) = world.statement(0);
    let invoice = items.pop().expect("one").invoice().clone();
    let shown: Vec<_> = invoice.draws.iter().map(|draw| (draw.order.as_str(), draw.start_h - JANUARY_H, draw.amount.to_string())).collect();
    assert_eq!(
        shown,
        [("soon", 0, "4".to_owned()), ("for-ever", 0, "6".to_owned()), ("later", 10, "5".to_owned()), ("for-ever", 10, "1".to_owned())]
    );
    assert_eq!((invoice.before_prepaid(), invoice.prepaid(), invoice.total()), (money("30"), money("16"), money("14")));
    assert_eq!(drawn[&(0, "for-ever".to_owned(), 0)], money("7"));
}

#[test]
fn other_currencies_failed_payments_and_other_lives_pay_nothing() {
    let mut world = World::new(per_call("a", 100)).assigned(january(0)).rows(MemoryRows::of(&[calls(1, "10")]));
    let good = order("good", money("2"), january(0), None);
    let mut euro = Order { id: "euro".into(), ..good.clone() };
    euro.terms.currency = Currency::parse("EUR").expect("a currency");
    let failed = Order { id: "failed".into(), payment_status: PaymentStatus::Failed, ..good.clone() };
    let other = Order { id: "other".into(), life: 1, ..good.clone() };
    let deleted = Order { id: "deleted".into(), deleted_ms: Some(january(0)), ..good.clone() };
    world.orders = vec![euro, failed, other, deleted, good];
    let draws = world.invoices(0).remove(0).draws;
    assert_eq!(draws.iter().map(|draw| draw.order.as_str()).collect::<Vec<_>>(), ["good"]);
}

#[test]
fn a_void_invoice_gives_back_what_it_drew_and_its_period_is_not_billed_again() {
    let mut world = World::new(per_call("a", 100)).assigned(january(0)).until(JANUARY_H + 800);
    world = world.rows(MemoryRows::of(&[calls(1, "10"), calls(HOURS + 1, "3")]));
    world.orders = vec![order("o", money("12"), january(0), None)];
    let invoices = world.invoices(JANUARY_H + HOURS as u32);
    assert_eq!(invoices.iter().map(Invoice::prepaid).collect::<Vec<_>>(), [money("10"), money("2")]);
    for closed in world.closed.values_mut() {
        closed.status = Status::Void;
    }
    let mut world = world.rows(MemoryRows::of(&[calls(1, "10"), calls(2, "90"), calls(HOURS + 1, "3")]));
    let february = world.invoices(0).remove(1);
    assert_eq!((february.before_prepaid(), february.prepaid()), (money("3"), money("3")));
}

#[test]
fn late_usage_that_makes_the_month_cheaper_is_given_back() {
    let plan = serde_json::json!({"id": "v", "currency": "USD", "prices": [{"meter": "calls", "model": "volume",
        "tiers": [{"upTo": 10, "unitPrice": 1}, {"unitPrice": 0}]}]});
    let mut world = World::new(json::read(&plan).expect("a plan")).assigned(january(0)).until(JANUARY_H + 800);
    world = world.rows(MemoryRows::of(&[calls(1, "10")]));
    assert_eq!(world.invoices(JANUARY_H + HOURS as u32)[0].total(), money("10"));
    let mut world = world.rows(MemoryRows::of(&[calls(1, "10"), calls(2, "1")]));
    let february = world.invoices(0).remove(1);
    assert_eq!(
        (february.lines[1].kind, february.lines[1].billed_before, february.total()),
        (LineKind::Late, Some(money("10")), money("-10"))
    );
}
