use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::billing::invoice::LineKind;
use crate::billing::plan::json;
use crate::billing::{Currency, Money};
use crate::customers::Extensions;
use crate::store::memory::MemoryStore;
use crate::usage::memory::{ACCOUNT, Event, MemoryRows, event};
use crate::usage::{View, ViewFuture};

/// 2026-01-01T00:00:00Z.
const JANUARY_S: i64 = 1_767_225_600;
const FEBRUARY_S: i64 = JANUARY_S + 31 * DAY_S;
const DAY_S: i64 = 86_400;
const HOUR_S: i64 = 3_600;

/// Rows as a test sets them.
struct Source {
    rows: Mutex<MemoryRows>,
    complete: AtomicBool,
    next: AtomicU64,
}

impl UsageSource for Source {
    fn view(&self, wanted: Vec<ViewRequest>, _: Duration) -> ViewFuture<'_> {
        assert_eq!((wanted.len(), wanted[0].account, wanted[0].meter.as_deref()), (1, ACCOUNT, None));
        let rows = self.rows.lock().expect("nobody panics").clone();
        let positions = vec![(0, self.next.load(Ordering::Relaxed))];
        let view = View { rows: Box::new(rows), complete: self.complete.load(Ordering::Relaxed), positions };
        Box::pin(std::future::ready(Ok(view)))
    }
}

/// A node: billing over a store that several may share.
struct Node {
    billing: Billing,
    source: Arc<Source>,
    customers: Arc<Customers>,
}

impl Node {
    fn over(store: &Arc<MemoryStore>) -> Self {
        let source = Arc::new(Source { rows: Mutex::default(), complete: AtomicBool::new(true), next: AtomicU64::new(0) });
        let customers = Arc::new(Customers::new(store.clone(), Clock::start()));
        let billing = Billing::new(store.clone(), customers.clone(), source.clone(), Clock::start(), Duration::from_secs(DAY_S as u64));
        Self { billing, source, customers }
    }

    fn new() -> (Arc<MemoryStore>, Self) {
        let store = Arc::new(MemoryStore::default());
        let node = Self::over(&store);
        (store, node)
    }

    fn rows(&self, events: &[Event]) {
        *self.source.rows.lock().expect("nobody panics") = MemoryRows::of(events);
        self.source.next.fetch_add(1, Ordering::Relaxed);
    }

    fn plan(&self, id: &str, unit_price: u32) -> MadePlan {
        let plan =
            serde_json::json!({"id": id, "currency": "USD", "prices": [{"meter": "tokens", "model": "perUnit", "unitPrice": unit_price}]});
        self.billing.write_plan(ACCOUNT, &json::read(&plan).expect("a plan")).expect("memory")
    }

    fn assign(&self, plan: &str, start_s: i64) -> Result<Assignment, Error> {
        let new = NewAssignment {
            plan_id: plan.into(),
            product_id: None,
            start_ms: Some(start_s * 1_000),
            end_ms: None,
            ext: Extensions::default(),
        };
        self.billing.assign(ACCOUNT, &acme(), &new)
    }

    async fn at(&self, now_s: i64) -> Statements {
        self.billing.statements_at(ACCOUNT, &acme(), WAIT, UnixMillis(now_s * 1_000), true).await.expect("computed")
    }
}

fn acme() -> CustomerId {
    CustomerId::parse("acme").expect("an id")
}

fn money(text: &str) -> Money {
    serde_json::from_str(text).expect("money")
}

fn shown(statements: &Statements) -> Vec<(State, String)> {
    statements.invoices.iter().map(|shown| (shown.state, shown.invoice.total().to_string())).collect()
}

fn prepaid(amount: &str, start_s: i64) -> Terms {
    Terms {
        amount: money(amount),
        currency: Currency::USD,
        start_ms: start_s * 1_000,
        expires_ms: None,
        recurrence: None,
        product_id: "1".into(),
        offer_version: -1,
        external_payment: false,
        original_worth: money(amount),
    }
}

#[tokio::test]
async fn a_period_is_closed_once_after_its_grace_and_never_changes() {
    let (_, node) = Node::new();
    node.plan("a", 1);
    node.assign("a", JANUARY_S).expect("assigned");
    let early = event("acme", JANUARY_S, "5");
    node.rows(std::slice::from_ref(&early));
    let (open, grace, closed) = (State::Open, State::Grace, State::Closed(Status::Pending));
    assert_eq!(shown(&node.at(FEBRUARY_S - 1).await), [(open, "5".to_owned())]);
    assert_eq!(shown(&node.at(FEBRUARY_S + DAY_S - 1).await), [(grace, "5".to_owned()), (open, "0".to_owned())]);
    let first = node.at(FEBRUARY_S + DAY_S).await;
    assert_eq!(shown(&first), [(closed, "5".to_owned()), (open, "0".to_owned())]);
    assert_eq!(first.invoices[0].closed, Some(((FEBRUARY_S + DAY_S) * 1_000, vec![(0, 1)])));
    node.rows(&[early, event("acme", JANUARY_S, "2")]);
    // A clock that steps back opens nothing again.
    for now_s in [FEBRUARY_S + DAY_S, FEBRUARY_S + DAY_S - 1, FEBRUARY_S + 5 * DAY_S] {
        let again = node.at(now_s).await;
        assert_eq!(again.invoices[0], first.invoices[0]);
        assert_eq!(again.invoices[1].invoice.total(), money("2"));
        assert_eq!(
            again.invoices[1].invoice.lines.last().map(|line| (line.kind, line.id.clone())),
            Some((LineKind::Late, first.invoices[0].invoice.id.as_str().into()))
        );
    }
    let refused = node.assign("a", FEBRUARY_S - 1).expect_err("is closed");
    assert!(matches!(refused, Error::Refused(Refusal::Closed(FEBRUARY_S))), "{refused}");
    assert!(node.assign("a", FEBRUARY_S).is_ok());
}

#[tokio::test]
async fn rows_that_lag_and_clocks_that_jump_close_nothing() {
    let (_, node) = Node::new();
    node.assign("nobody has made it", JANUARY_S).expect("assigned");
    node.source.complete.store(false, Ordering::Relaxed);
    let late = FEBRUARY_S + 2 * DAY_S;
    assert_eq!((node.at(late).await.complete, node.at(late).await.invoices[0].state), (false, State::Grace));
    node.source.complete.store(true, Ordering::Relaxed);
    let jumped = node.billing.statements_at(ACCOUNT, &acme(), WAIT, UnixMillis(late * 1_000), false).await.expect("computed");
    assert_eq!(jumped.invoices[0].state, State::Grace);
    assert!(node.assign("another", JANUARY_S).is_ok(), "nothing is closed");
    assert_eq!(node.at(late).await.invoices[0].state, State::Closed(Status::Pending));
}

#[test]
fn nodes_that_race_store_one_invoice_and_bill_everything_once() {
    let (store, first) = Node::new();
    first.plan("a", 1);
    first.assign("a", JANUARY_S).expect("assigned");
    first.billing.order(ACCOUNT, &acme(), "o", &prepaid("4", JANUARY_S)).expect("ordered");
    let all: Vec<Event> = (1..=8).map(|n| event("acme", JANUARY_S + n * HOUR_S, "1")).collect();
    let now_s = FEBRUARY_S + DAY_S;
    let found: Vec<Statements> = std::thread::scope(|threads| {
        let racing: Vec<_> = (1..=8)
            .map(|seen| {
                let (store, events) = (&store, &all[..seen]);
                threads.spawn(move || {
                    let node = Node::over(store);
                    node.rows(events);
                    tokio::runtime::Runtime::new().expect("a runtime").block_on(node.at(now_s))
                })
            })
            .collect();
        racing.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for statements in &found {
        assert_eq!(statements.invoices[0], found[0].invoices[0]);
    }
    let node = Node::over(&store);
    node.rows(&all);
    let last = tokio::runtime::Runtime::new().expect("a runtime").block_on(node.at(now_s));
    assert_eq!(last.invoices[0], found[0].invoices[0]);
    let total: Money = last.invoices.iter().map(|shown| shown.invoice.before_prepaid()).sum();
    assert_eq!((total, last.invoices.iter().map(|shown| shown.invoice.prepaid()).sum::<Money>()), (money("8"), money("4")));
    assert_eq!(store.documents(Kind::Invoice, ACCOUNT).expect("memory").len(), 1);
}

#[tokio::test]
async fn what_a_node_left_half_closed_is_closed_by_the_next_one() {
    let (store, node) = Node::new();
    node.plan("a", 1);
    node.assign("a", JANUARY_S).expect("assigned");
    node.rows(&[event("acme", JANUARY_S, "5")]);
    // It noted that January is being closed, and ended.
    let freeze = |ledger: &mut Ledger| {
        ledger.closed_until_h = hour_of(UnixMillis(FEBRUARY_S * 1_000));
        Ok(())
    };
    node.billing.shared.change(ACCOUNT, &acme(), freeze).expect("memory");
    assert!(node.assign("b", JANUARY_S).is_err());
    assert_eq!(node.billing.close_due(ACCOUNT).await.expect("memory"), (0, 1), "years have passed since");
    assert!(store.documents(Kind::Invoice, ACCOUNT).expect("memory").len() >= 10);
    assert_eq!(node.billing.close_due(ACCOUNT).await.expect("memory"), (0, 0));
    assert_eq!(shown(&node.at(FEBRUARY_S).await)[0], (State::Closed(Status::Pending), "5".to_owned()));
}

#[tokio::test]
async fn a_customer_made_again_under_an_id_owes_and_has_nothing_old() {
    let (_, node) = Node::new();
    node.plan("a", 1);
    node.customers.create(ACCOUNT, &acme(), |_| ()).expect("a free id");
    let now_s = node.billing.now().seconds();
    let this_hour_s = now_s / HOUR_S * HOUR_S;
    node.assign("a", this_hour_s - 3 * HOUR_S).expect("assigned");
    node.billing.order(ACCOUNT, &acme(), "o", &prepaid("100", this_hour_s - 3 * HOUR_S)).expect("ordered");
    let hours = [-2, 0, 3].map(|hour| event("acme", this_hour_s + hour * HOUR_S, "1"));
    node.rows(&hours);
    let later_s = this_hour_s + 4 * HOUR_S;
    let sum = |statements: &Statements| statements.invoices.iter().map(|shown| shown.invoice.before_prepaid()).sum::<Money>();
    let before = node.at(later_s).await;
    assert_eq!(sum(&before), money("3"));
    node.customers.remove(ACCOUNT, &acme()).expect("is there");
    let removed = node.at(later_s).await;
    assert_eq!((sum(&removed), removed.orders.len()), (money("1"), 1), "the hour in which it went is nobody's");
    node.customers.create(ACCOUNT, &acme(), |_| ()).expect("free again");
    let again = node.at(later_s).await;
    assert_eq!((again.invoices.len(), again.orders.len(), again.balance().orders.len()), (0, 0, 0));
    assert_eq!(node.billing.assignments(ACCOUNT, &acme()).expect("memory"), []);
    // What is assigned from long ago begins with the customer, and old usage is not in it.
    node.assign("a", this_hour_s - 3 * HOUR_S).expect("assigned");
    assert_eq!(sum(&node.at(later_s).await), money("1"));
    // The old invoice is still there for whoever has its id.
    let old = &removed.invoices[0].invoice;
    let stored = node.billing.shared.statements(ACCOUNT, &acme(), None, UnixMillis(0), false).expect("memory");
    assert!(stored.invoices.is_empty() && !old.lines.is_empty());
}

#[tokio::test]
async fn an_invoice_is_paid_or_void_once_it_is_closed() {
    let (_, node) = Node::new();
    node.plan("a", 1);
    node.assign("a", JANUARY_S).expect("assigned");
    node.rows(&[event("acme", JANUARY_S, "5"), event("acme", JANUARY_S + 40 * DAY_S, "6")]);
    node.billing.order(ACCOUNT, &acme(), "o", &prepaid("8", JANUARY_S)).expect("ordered");
    let balance = |statements: Statements| {
        let balance = statements.balance();
        let card = &balance.orders[0].cards[0];
        (balance.available["USD"].to_string(), card.draws.iter().map(|(_, draw)| draw.amount.to_string()).collect::<Vec<_>>())
    };
    let now_s = FEBRUARY_S + 2 * DAY_S;
    assert_eq!(balance(node.at(now_s).await), ("0".to_owned(), vec!["5".to_owned(), "3".to_owned()]));
    let statements = node.at(now_s).await;
    let id = |index: usize| statements.invoices[index].invoice.id.as_str().to_owned();
    let (january, february) = (id(0), id(1));
    assert_eq!(node.billing.settle(ACCOUNT, &january, Status::Void).await.expect("void").state, State::Closed(Status::Void));
    assert!(node.billing.settle(ACCOUNT, &january, Status::Void).await.is_ok());
    assert!(matches!(node.billing.settle(ACCOUNT, &january, Status::Paid).await, Err(Error::Settled("void"))));
    assert_eq!(balance(node.at(now_s).await), ("2".to_owned(), vec!["6".to_owned()]));
    assert!(matches!(node.billing.settle(2, &january, Status::Paid).await, Err(Error::Unknown("invoice"))), "another account");
    assert!(matches!(node.billing.settle(ACCOUNT, "AAAAAGE", Status::Paid).await, Err(Error::Unknown("invoice"))));
    let settled = node.billing.settle(ACCOUNT, &february, Status::Paid).await.expect("closed by now, years later");
    assert_eq!(settled.state, State::Closed(Status::Paid));
}

#[tokio::test]
async fn plans_have_versions_and_who_has_an_old_one_keeps_it() {
    let (_, node) = Node::new();
    node.assign("a", JANUARY_S).expect("assigned");
    node.rows(&[event("acme", JANUARY_S, "5"), event("acme", JANUARY_S + 10 * DAY_S, "5")]);
    assert_eq!(shown(&node.at(JANUARY_S + 11 * DAY_S).await), [(State::Open, "0".to_owned())], "nobody has made it");
    assert_eq!((node.plan("a", 1).version, node.plan("a", 1).version, node.plan("a", 2).version, node.plan("a", 1).version), (1, 1, 2, 3));
    assert_eq!(shown(&node.at(JANUARY_S + 11 * DAY_S).await), [(State::Open, "10".to_owned())]);
    node.plan("a", 9);
    node.assign("a", JANUARY_S + 10 * DAY_S).expect("assigned");
    assert_eq!(shown(&node.at(JANUARY_S + 11 * DAY_S).await), [(State::Open, "5".to_owned()), (State::Open, "45".to_owned())]);
    // Long after the old one has ended: all of January is closed with January, so that no assignment is closed away under another.
    assert_eq!(shown(&node.at(FEBRUARY_S + DAY_S - 1).await)[0].0, State::Grace);
    assert_eq!(node.billing.plan(ACCOUNT, "a", Some(2)).expect("is there").plan, node.plan("b", 2).plan.clone().named("a"));
    assert!(matches!(node.billing.plan(ACCOUNT, "a", Some(0)), Err(Error::Unknown("plan"))));
    assert!(matches!(node.billing.plan(ACCOUNT, "a", Some(5)), Err(Error::Unknown("plan"))));
    assert!(matches!(node.billing.plan(2, "a", None), Err(Error::Unknown("plan"))));
    let listed = node.billing.plans(ACCOUNT).expect("memory");
    assert_eq!(listed.iter().map(|made| (made.plan.id.as_str(), made.version)).collect::<Vec<_>>(), [("a", 4), ("b", 1)]);
    assert_eq!(node.billing.assigned_plan_ids(ACCOUNT).expect("memory"), ["a"]);
}

impl Plan {
    fn named(self, id: &str) -> Self {
        Self { id: id.into(), name: id.into(), ..self }
    }
}

#[tokio::test]
async fn a_store_that_fails_says_so_and_is_never_taken_for_one_without_debts() {
    let (store, node) = Node::new();
    node.assign("a", JANUARY_S).expect("assigned");
    store.break_down();
    assert!(matches!(node.billing.statements(ACCOUNT, &acme()).await, Err(Error::Store(store::Error::Failed(_)))));
    assert!(matches!(node.billing.close_due(ACCOUNT).await, Err(Error::Store(store::Error::Failed(_)))));
    assert!(matches!(node.assign("a", JANUARY_S), Err(Error::Store(store::Error::Failed(_)))));
    assert!(matches!(node.billing.plans(ACCOUNT), Err(Error::Store(store::Error::Failed(_)))));
}

#[tokio::test]
async fn a_damaged_document_is_damage_and_stays() {
    let (store, node) = Node::new();
    let broken = b"{\"version\":1,".to_vec();
    for kind in [Kind::Ledger, Kind::Plan] {
        store.change_document(kind, ACCOUNT, "acme", &mut |_| Change::Put(broken.clone())).expect("memory");
    }
    assert!(matches!(node.assign("a", JANUARY_S), Err(Error::Store(store::Error::Damaged(_)))));
    assert!(matches!(node.billing.plan(ACCOUNT, "acme", None), Err(Error::Store(store::Error::Damaged(_)))));
    assert!(matches!(node.billing.statements(ACCOUNT, &acme()).await, Err(Error::Store(store::Error::Damaged(_)))));
    assert_eq!(store.document(Kind::Ledger, ACCOUNT, "acme").expect("memory"), Some(broken));
}
