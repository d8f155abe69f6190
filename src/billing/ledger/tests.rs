use super::*;
use crate::billing::Currency;
use crate::billing::money::Money;
use crate::billing::prepaid::Terms;

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

fn new(plan: &str, start_ms: Option<i64>) -> NewAssignment {
    NewAssignment { plan_id: plan.into(), product_id: None, start_ms, end_ms: None, ext: Extensions::default() }
}

fn terms(amount: &str) -> Terms {
    let amount: Money = serde_json::from_str(amount).expect("money");
    Terms {
        amount,
        currency: Currency::USD,
        start_ms: NOW.0,
        expires_ms: None,
        recurrence: None,
        product_id: "1".into(),
        offer_version: -1,
        external_payment: true,
        original_worth: amount,
    }
}

#[test]
fn the_same_assignment_again_is_the_same_and_back_to_an_older_one_is_not() {
    let mut ledger = Ledger::default();
    let a = ledger.assign(new("a", Some(5)), None, &Lives::default(), NOW).expect("assigned");
    assert_eq!(ledger.assign(new("a", Some(5)), None, &Lives::default(), UnixMillis(NOW.0 + 1)), Ok(a.clone()));
    ledger.assign(new("b", Some(5)), None, &Lives::default(), NOW).expect("assigned");
    ledger.assign(new("a", Some(5)), None, &Lives::default(), NOW).expect("assigned");
    assert_eq!(ledger.assignments.len(), 3);
    let refused = NewAssignment { end_ms: Some(7), ..new("c", Some(7)) };
    assert_eq!(ledger.assign(refused, None, &Lives::default(), NOW), Err(Refusal::EndNotAfterStart));
    assert_eq!(ledger.assignments_from(0).iter().map(|made| made.plan_id.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
    assert_eq!(ledger.assignments_from(1), []);
}

#[test]
fn nothing_begins_before_what_is_closed() {
    let mut ledger = Ledger { closed_until_h: hour_of(NOW), ..Ledger::default() };
    let refusal = ledger.assign(new("a", Some(NOW.0 - 1)), None, &Lives::default(), NOW).expect_err("is closed");
    assert_eq!(refusal.to_string(), "lies before 2026-01-01T00:00:00.000Z, up to which the invoices of this customer are closed");
    assert!(ledger.assign(new("a", Some(NOW.0)), None, &Lives::default(), NOW).is_ok());
    assert!(ledger.assign(new("b", None), None, &Lives::default(), NOW).is_ok());
}

#[test]
fn an_order_is_one_by_its_id() {
    let mut ledger = Ledger::default();
    let made = ledger.order("o", terms("5"), 0, NOW).expect("ordered");
    assert_eq!(made.payment_status, PaymentStatus::Pending);
    assert_eq!(ledger.order("o", terms("5"), 0, UnixMillis(0)), Ok(made.clone()));
    assert_eq!(ledger.order("o", terms("6"), 0, NOW), Err(Refusal::OtherOrder));
    assert_eq!(ledger.delete_order("p", 0, NOW), Err(Refusal::UnknownOrder));
    assert_eq!(ledger.delete_order("o", 0, NOW).map(|order| order.deleted_ms), Ok(Some(NOW.0)));
    assert_eq!(ledger.delete_order("o", 0, NOW), Err(Refusal::UnknownOrder));
    assert_eq!(ledger.order("o", terms("5"), 0, NOW), Err(Refusal::DeletedOrder));
    // Who has the customer's id later has ids of its own.
    assert!(ledger.order("o", terms("6"), 1, NOW).is_ok());
    let payment = Payment { system_name: None, payment_id: None, time_s: None };
    assert_eq!(ledger.note_payment("o", 1, PaymentStatus::Settled, payment, NOW).map(|order| order.life), Ok(1));
}

#[test]
fn there_are_limits() {
    let mut ledger = Ledger::default();
    for n in 0..ASSIGNMENTS_MAX as i64 {
        ledger.assign(new("a", Some(n)), None, &Lives::default(), NOW).expect("assigned");
    }
    assert_eq!(ledger.assign(new("a", Some(-1)), None, &Lives::default(), NOW), Err(Refusal::TooManyAssignments));
    for n in 0..ORDERS_MAX {
        ledger.order(&n.to_string(), terms("5"), 0, NOW).expect("ordered");
    }
    assert_eq!(ledger.order("one more", terms("5"), 0, NOW), Err(Refusal::TooManyOrders));
    assert_eq!(Ledger::read(&ledger.write().expect("JSON")).expect("was written"), ledger);
}

/// Must stay readable for good: never edit this text.
#[test]
fn the_ledger_of_version_1_is_read() {
    let stored = br#"{"version":1,"assignments":[{"life":0,"plan_id":"a","start_ms":5,"created_ms":6}],"orders":[{"id":"o","life":0,"terms":{"amount":5.25,"currency":"USD","start_ms":7,"expires_ms":null,"recurrence":{"interval":"day","count":2},"product_id":"1","offer_version":-1,"external_payment":false,"original_worth":5.25},"payment_status":"not_needed","payment":null,"created_ms":8,"modified_ms":8,"deleted_ms":null}],"closed_until_h":3,"stored_until_h":2}"#;
    let ledger = Ledger::read(stored).expect("version 1");
    assert_eq!(ledger.write().expect("JSON"), stored);
    assert!(matches!(
        Ledger::read(br#"{"version":2,"assignments":[],"orders":[],"closed_until_h":3,"stored_until_h":2}"#),
        Err(store::Error::Damaged(_))
    ));
}
