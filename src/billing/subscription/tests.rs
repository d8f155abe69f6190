use proptest::prelude::*;

use super::*;
use crate::billing::ledger::Refusal;
use crate::billing::timeline::{hour_of, periods};
use crate::billing::{Assignment, NewAssignment};
use crate::customers::Customers;

const HOUR_MS: i64 = 3_600_000;
/// 2026-01-15, in ms since 1970.
const NOW: UnixMillis = UnixMillis(1_767_225_600_000 + 14 * 24 * HOUR_MS);
/// Hours from then to the end of the month.
const MONTH_END_H: i64 = 17 * 24;

fn acme() -> CustomerId {
    CustomerId::parse("acme").expect("a good id")
}

fn new(plan: &str, start_h: i64) -> Assignment {
    Assignment { plan_id: plan.into(), start_ms: NOW.0 + start_h * HOUR_MS, ..Assignment::default() }
}

/// Id, status, hours from now to its end, and why.
type Shown = (String, SubscriptionStatus, Option<(i64, CancelReason)>);

fn shown(ledger: &Ledger, lives: &Lives) -> Vec<Shown> {
    let all = subscriptions(ledger, &acme(), lives, NOW).into_iter();
    all.map(|made| (made.row.plan_id, made.status, made.end.map(|(end_ms, why)| ((end_ms - NOW.0) / HOUR_MS, why)))).collect()
}

/// What is billed, in hours from now.
fn billed(ledger: &Ledger, lives: &Lives) -> Vec<(String, i64, i64)> {
    let from = |hour: u32| i64::from(hour) - i64::from(hour_of(NOW));
    let found = periods(&ledger.assignments, lives, hour_of(NOW) + 100, &|_| true);
    found.into_iter().map(|period| (period.plan.id, from(period.start_h), from(period.end_h))).collect()
}

fn subscribed(new_ones: &[Assignment]) -> Ledger {
    let mut ledger = Ledger::default();
    for new in new_ones {
        ledger.subscribe(new, &Lives::default(), NOW).expect("subscribed");
    }
    ledger
}

/// The lives of a customer that was removed so many hours from now.
fn removed(hours: i64) -> Lives {
    let store = std::sync::Arc::new(crate::store::memory::MemoryStore::default());
    let text = format!(r#"{{"version":1,"id":"acme","created_at":1,"updated_at":1,"removed_at":{}}}"#, (NOW.0 + hours * HOUR_MS) * 1_000);
    let put = &mut |_: Option<&[u8]>| crate::store::Change::Put(text.clone().into_bytes());
    crate::store::Store::change_document(&*store, crate::store::Kind::Customer, 1, "acme", put).expect("memory");
    Customers::new(store, crate::clock::Clock::start()).lives(1, &acme()).expect("memory")
}

#[test]
fn a_subscription_holds_until_its_end_or_the_next_one() {
    use CancelReason::{Expired, Superseded};
    use SubscriptionStatus::{Active, Canceled, InTrial, NotStarted};
    let until = |plan, start_h, end_h| Assignment { end_ms: Some(NOW.0 + end_h * HOUR_MS), ..new(plan, start_h) };
    let trial = |end_h: Option<i64>| Some(Trial { end_ms: end_h.map(|hours| NOW.0 + hours * HOUR_MS) });
    let all = [
        new("old", -9),
        until("ended", -8, -7),
        Assignment { trial: trial(None), ..new("tried", -6) },
        Assignment { trial: trial(Some(-1)), ..new("now", -5) },
        until("later", 5, 9),
    ];
    let ledger = subscribed(&all);
    let expected = [
        ("old", Canceled, Some((-8, Superseded))),
        ("ended", SubscriptionStatus::Expired, Some((-7, Expired))),
        ("tried", Canceled, Some((-5, Superseded))),
        ("now", Active, Some((5, Superseded))),
        ("later", NotStarted, Some((9, Expired))),
    ];
    assert_eq!(shown(&ledger, &Lives::default()), expected.map(|(plan, status, end)| (plan.to_owned(), status, end)));
    assert_eq!(shown(&subscribed(&all[2..3]), &Lives::default()), [("tried".into(), InTrial, None)]);
    // The rows say the same to whoever bills.
    let ends: Vec<_> = billed(&ledger, &Lives::default()).into_iter().map(|(plan, _, end)| (plan, end)).collect();
    let told: Vec<_> = expected.iter().filter_map(|(plan, _, end)| Some(((*plan).to_owned(), end.as_ref()?.0))).collect();
    assert_eq!(ends, told);
}

#[test]
fn what_is_canceled_ends_and_what_has_not_begun_leaves_the_one_before_alone() {
    use CancelReason::{Immediate, Scheduled};
    let mut ledger = subscribed(&[new("now", -5), new("later", 5)]);
    ledger.cancel(1, NOW.0, Immediate).expect("canceled");
    assert_eq!(shown(&ledger, &Lives::default())[1], ("later".into(), SubscriptionStatus::Canceled, Some((5, Immediate))));
    assert_eq!(shown(&ledger, &Lives::default())[0], ("now".into(), SubscriptionStatus::Active, None));
    assert_eq!(billed(&ledger, &Lives::default()).len(), 1);
    ledger.cancel(0, NOW.0 + 3 * HOUR_MS, Scheduled).expect("canceled");
    assert_eq!(shown(&ledger, &Lives::default())[0], ("now".into(), SubscriptionStatus::Active, Some((3, Scheduled))));
    ledger.cancel(0, NOW.0 + 4 * HOUR_MS, Scheduled).expect("canceled");
    assert_eq!(billed(&ledger, &Lives::default()), [("now".into(), -5, 4)], "another time is another time");
    ledger.cancel(0, NOW.0, Immediate).expect("canceled");
    assert_eq!(shown(&ledger, &Lives::default())[0], ("now".into(), SubscriptionStatus::Canceled, Some((0, Immediate))));
    assert_eq!(ledger.cancel(7, NOW.0, Immediate), Err(Refusal::UnknownSubscription));
}

#[test]
fn no_end_is_moved_into_or_out_of_what_is_closed() {
    let until = Assignment { end_ms: Some(NOW.0 + HOUR_MS), ..new("a", -5) };
    let mut ledger = subscribed(&[until]);
    ledger.closed_until_h = hour_of(NOW) + 2;
    let refused = Refusal::EndClosed(seconds(hour_of(NOW) + 2));
    assert_eq!(ledger.cancel(0, NOW.0, CancelReason::Immediate), Err(refused.clone()));
    let later = |row: &mut Assignment| row.end_ms = Some(NOW.0 + 9 * HOUR_MS);
    assert_eq!(ledger.clone().edit(0, &later), Err(refused.clone()));
    assert_eq!(ledger.clone().edit(0, &|row| row.end_ms = None), Err(refused));
    assert_eq!(ledger.edit(0, &|row| drop(row.ext.stigg.insert("k".into(), 1.into()))), Ok(()));
    assert_eq!(ledger.closed_until_ms(), NOW.0 + 2 * HOUR_MS);
}

#[test]
fn a_removed_customer_s_subscriptions_are_canceled_and_stay_so_when_it_comes_back() {
    let mut ledger = subscribed(&[new("now", -5), new("later", 5)]);
    let lives = removed(-1);
    let expected = ["now", "later"].map(|plan| (plan.to_owned(), SubscriptionStatus::Canceled));
    let statuses = |ledger: &Ledger, lives: &Lives| -> Vec<_> { shown(ledger, lives).into_iter().map(|made| (made.0, made.1)).collect() };
    assert_eq!(statuses(&ledger, &lives), expected);
    assert!(shown(&ledger, &lives).iter().all(|made| made.2.is_some_and(|end| end.1 == CancelReason::CustomerArchived)));
    let before = billed(&ledger, &lives);
    ledger.end_life(0, NOW.0 - HOUR_MS);
    assert_eq!(billed(&ledger, &lives), before, "nothing that is closed changes");
    assert_eq!(billed(&ledger, &Lives::default()), before, "and nothing comes back with the customer");
    assert_eq!(statuses(&ledger, &Lives::default()), expected);
    assert!(ledger.has_life(0) && !ledger.has_life(1));
}

#[test]
fn an_id_is_one_subscription_s_and_a_plan_that_amberflo_assigns_is_no_other_one() {
    let mut ledger = Ledger::default();
    let named = Assignment { id: Some("sub-1".into()), ..new("a", 0) };
    assert_eq!(ledger.subscribe(&named, &Lives::default(), NOW), Ok(0));
    assert_eq!(ledger.subscribe(&named, &Lives::default(), NOW), Err(Refusal::OtherSubscription));
    assert!(ledger.clone().subscribe(&named, &removed(-1), NOW).is_ok(), "whoever has the customer's id later has ids of its own");
    let again = NewAssignment { plan_id: "a".into(), product_id: None, start_ms: Some(NOW.0), end_ms: None };
    assert_eq!(ledger.assign(again, None, &Lives::default(), NOW).map(|made| made.id), Ok(Some("sub-1".into())));
    assert_eq!(ledger.assignments.len(), 1);
    assert_eq!(ledger.subscribe(&new("b", 1), &Lives::default(), NOW), Ok(1));
    assert_eq!(ledger.subscribe(&new("b", 1), &Lives::default(), UnixMillis(NOW.0 + 9)), Ok(1), "the same once more");
    let ids: Vec<_> = subscriptions(&ledger, &acme(), &Lives::default(), NOW).into_iter().map(|made| made.id).collect();
    assert_eq!(ids, ["sub-1", "sub_1_acme"]);
    assert_eq!(Ledger::read(&ledger.write().expect("JSON")).expect("was written"), ledger);
}

#[test]
fn only_what_was_made_here_has_an_id_of_ours() {
    assert_eq!(parse_own_id("sub_7_a_b"), Some((7, CustomerId::parse("a_b").expect("a good id"))));
    for other in ["sub_7_", "sub__a", "sub_07_a", "sub_+7_a", "sub_7", "sub-7_a", "Sub_7_a", "sub_99999999999999999999_a"] {
        assert!(!is_own_subscription_id(other), "{other}");
    }
}

#[test]
fn a_period_ends_with_its_month() {
    let february = 1_769_904_000_000;
    assert_eq!(
        (period_end(NOW), period_end(UnixMillis(february - 1)), period_end(UnixMillis(february))),
        (february, february, february + 28 * 24 * HOUR_MS)
    );
    assert_eq!(period_end(UnixMillis(i64::MAX)), 253_402_300_800_000);
}

proptest! {
    /// Who is told of a subscription is told what is billed.
    #[test]
    fn a_subscription_says_of_its_end_what_is_billed(
        assignments in proptest::collection::vec(("[abc]", 0..300i64, proptest::option::of(0..400i64)), 0..9),
        removed_h in proptest::option::of(0..400i64),
    ) {
        let lives = removed_h.map_or_else(Lives::default, removed);
        let mut ledger = Ledger::default();
        for (plan, start_h, end_h) in assignments {
            ledger.assignments.push(Assignment { end_ms: end_h.map(|end_h| NOW.0 + end_h * HOUR_MS), ..new(&plan, start_h) });
        }
        let billed = periods(&ledger.assignments, &lives, hour_of(NOW) + 400, &|_| true);
        for hours in 0..400 {
            let at = UnixMillis(NOW.0 + hours * HOUR_MS);
            let holds = |made: &Subscription| made.status == SubscriptionStatus::Active;
            let told: Vec<_> = subscriptions(&ledger, &acme(), &lives, at).into_iter().filter(holds).map(|made| made.row.plan_id).collect();
            let of_hour = billed.iter().filter(|period| (period.start_h..period.end_h).contains(&hour_of(at)));
            prop_assert_eq!(told, of_hour.map(|period| period.plan.id.clone()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_new_subscription_takes_the_place_of_another_also_where_it_begins_before() {
    let lives = Lives::default();
    let in_force =
        |ledger: &Ledger| subscriptions(ledger, &acme(), &lives, NOW).iter().find(|made| made.is_in_force()).map(|made| made.index);
    let mut later = subscribed(&[new("a", -50)]);
    assert_eq!(later.replace(in_force, &new("b", 5), &lives, NOW), Ok(Some(1)));
    assert_eq!(billed(&later, &lives), [("a".into(), -50, 5), ("b".into(), 5, MONTH_END_H)]);
    let mut before = subscribed(&[new("a", -50)]);
    for _ in 0..2 {
        assert_eq!(before.replace(in_force, &new("b", -60), &lives, NOW), Ok(Some(1)), "the same again is the same");
        assert_eq!(billed(&before, &lives), [("b".into(), -60, MONTH_END_H)]);
    }
    assert_eq!(Ledger::default().replace(in_force, &new("b", -60), &lives, NOW), Ok(None));
    let mut closed = subscribed(&[new("a", -50)]);
    closed.closed_until_h = hour_of(NOW);
    assert!(matches!(closed.replace(in_force, &new("b", -1), &lives, NOW), Err(Refusal::EndClosed(_))));
}
