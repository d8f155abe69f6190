use super::*;

const JANUARY_MS: i64 = 1_767_225_600_000;

fn terms(recurrence: Option<Recurrence>) -> Terms {
    Terms {
        amount: Money::ZERO,
        currency: Currency::USD,
        start_ms: JANUARY_MS,
        expires_ms: None,
        recurrence,
        product_id: "1".into(),
        offer_version: -1,
        external_payment: false,
        original_worth: Money::ZERO,
    }
}

fn order(terms: Terms) -> Order {
    Order {
        id: "o".into(),
        life: 0,
        terms,
        payment_status: PaymentStatus::NotNeeded,
        payment: None,
        created_ms: 0,
        modified_ms: 0,
        deleted_ms: None,
    }
}

fn date(time: Option<UnixMillis>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default().chars().take(16).collect()
}

#[test]
fn calendar_intervals_are_counted_from_the_start() {
    let on_the_31st =
        |interval, count| Terms { start_ms: JANUARY_MS + 30 * 86_400_000 + 5 * 60_000, ..terms(Some(Recurrence { interval, count })) };
    let months = on_the_31st(Interval::Month, 1);
    let starts: Vec<_> = (0..4).map(|number| date(months.card_start(number))).collect();
    assert_eq!(starts, ["2026-01-31T00:05", "2026-02-28T00:05", "2026-03-31T00:05", "2026-04-30T00:05"]);
    assert_eq!(date(on_the_31st(Interval::Month, 13).card_start(1)), "2027-02-28T00:05");
    assert_eq!(date(on_the_31st(Interval::Day, 2).card_start(3)), "2026-02-06T00:05");
    assert_eq!(date(on_the_31st(Interval::Year, 2).card_start(1)), "2028-01-31T00:05");
    assert_eq!(on_the_31st(Interval::Year, INTERVALS_MAX).card_start(8), None, "after the end of time");
    assert_eq!(date(months.first_card_end()), "2026-02-28T00:05");
    assert_eq!(terms(None).first_card_end(), None);
}

#[test]
fn cards_begin_with_the_hour_of_their_start_and_end_behind_that_of_their_expiry() {
    let january_h = hour_of(UnixMillis(JANUARY_MS));
    let mut one = terms(None);
    (one.start_ms, one.expires_ms) = (JANUARY_MS + 30 * 60_000, Some(JANUARY_MS + 90 * 60_000));
    let cards = order(one.clone()).cards(HOUR_MAX);
    assert_eq!(cards, [Card { start_h: january_h, end_h: january_h + 2, number: 0 }]);
    assert_eq!(order(one.clone()).cards(january_h), []);
    let deleted = Order { deleted_ms: Some(JANUARY_MS + 31 * 60_000), ..order(one) };
    assert_eq!(deleted.cards(HOUR_MAX), [Card { start_h: january_h, end_h: january_h + 1, number: 0 }]);
    let daily = order(terms(Some(Recurrence { interval: Interval::Day, count: 1 })));
    let cards = daily.cards(january_h + 49);
    assert_eq!(
        cards.iter().map(|card| (card.start_h - january_h, card.end_h - january_h)).collect::<Vec<_>>(),
        [(0, 24), (24, 48), (48, 72)]
    );
    assert_eq!(daily.cards(HOUR_MAX).len(), CARDS_MAX as usize);
    let ended = Order { deleted_ms: Some(JANUARY_MS + 86_400_000), ..daily };
    assert_eq!(ended.cards(HOUR_MAX).len(), 1);
}

#[test]
fn what_is_not_owed_in_the_end_is_not_drawn() {
    let money = |text: &str| serde_json::from_str::<Money>(text).expect("money");
    let cost = |start, arisen| Cost { slice: start..start + 1, arisen: money(arisen) };
    let card = |start_h, end_h| Card { start_h, end_h, number: 0 };
    let mut purses = [
        Purse { order: "early", card: card(0, 1), remaining: money("100") },
        Purse { order: "late", card: card(1, 3), remaining: money("100") },
    ];
    // With volume tiers 90 has become 40 again, then 45.
    let draws = draw(&[cost(0, "90"), cost(1, "40"), cost(2, "45")], &mut purses);
    let shown: Vec<_> = draws.iter().map(|draw| (draw.order.as_str(), draw.amount.to_string())).collect();
    assert_eq!(shown, [("early", "40".to_owned()), ("late", "5".to_owned())]);
    assert_eq!(draw(&[cost(0, "-5"), cost(1, "-3")], &mut purses), []);
}

#[test]
fn of_two_that_expire_together_the_one_that_began_first_pays_then_by_id() {
    let cost = Cost { slice: 5..6, arisen: serde_json::from_str("30").expect("money") };
    let ten: Money = serde_json::from_str("10").expect("money");
    let purse = |order, start_h, end_h| Purse { order, card: Card { start_h, end_h, number: 0 }, remaining: ten };
    let mut purses = [purse("d", 0, 9), purse("c", 1, 8), purse("b", 0, 8), purse("a", 1, 8)];
    let draws = draw(&[cost], &mut purses);
    assert_eq!(draws.iter().map(|draw| draw.order.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
}
