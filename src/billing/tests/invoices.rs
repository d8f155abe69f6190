//! From events to an invoice.

use proptest::collection::vec;
use proptest::prelude::*;

use super::any_plan;
use super::statements::{JANUARY_S, World, january};
use crate::billing::invoice::Invoice;
use crate::billing::plan::{Plan, json};
use crate::event::Amount;
use crate::usage::memory::{Event, MemoryRows, event};

/// Events of January of the customer `acme` with the meters and dimensions of [`any_plan`]; no two at one time.
pub(super) fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let dimension = || prop_oneof![Just(None), Just(Some("eu")), Just(Some("us")), Just(Some("ap"))];
    let one = (0_i64..31 * 24, "tokens|calls", -50_i64..2_000, dimension(), "[a-d]?", 0_u32..3);
    vec(one, 0..40).prop_map(|events| {
        let made = events.into_iter().enumerate().map(|(number, (hour, meter, tenths, region, user, partition))| {
            let mut dimensions = Vec::new();
            dimensions.extend(region.map(|region| ("region", region)));
            dimensions.extend((!user.is_empty()).then_some(("user", user.as_str())));
            let time_s = JANUARY_S + hour * 3_600 + number as i64;
            Event {
                value: Amount::from_scaled(i128::from(tenths) * 100_000_000_000).expect("in range"),
                partition,
                ..event("acme", time_s, "0").meter(&meter).dimensions(&dimensions)
            }
        });
        made.collect()
    })
}

fn invoice_of<'e>(plan: &Plan, events: impl IntoIterator<Item = &'e Event>) -> Invoice {
    let world = World::new(plan.clone()).assigned(january(0)).rows(MemoryRows::of(events));
    world.open_invoices().pop().expect("one month")
}

proptest! {
    #[test]
    fn neither_the_order_of_events_nor_their_partitions_change_a_digit(
        plan in any_plan(), events in any_events(), partitions in vec(0_u32..16, 40), seed in any::<u64>()
    ) {
        let expected = invoice_of(&plan, &events);
        let mut moved: Vec<(u64, Event)> = Vec::new();
        for (number, (event, partition)) in events.into_iter().zip(partitions).enumerate() {
            moved.push((seed.rotate_left(number as u32) ^ number as u64, Event { partition, ..event }));
        }
        moved.sort_by_key(|(place, _)| *place);
        let mut found = invoice_of(&plan, moved.iter().map(|(_, event)| event));
        for (line, expected) in found.lines.iter_mut().zip(&expected.lines) {
            // In how many rows it is kept is not what is owed.
            if let (Some(used), Some(expected)) = (&mut line.usage, &expected.usage) {
                used.rows = expected.rows;
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_total_is_the_sum_of_the_lines_and_of_whole_minor_units(plan in any_plan(), events in any_events()) {
        let invoice = invoice_of(&plan, &events);
        let text = serde_json::to_string(&invoice).expect("JSON");
        let read: Invoice = serde_json::from_str(&text).expect("was written");
        prop_assert_eq!(&read, &invoice);
        let mut sum = ethnum::I256::ZERO;
        for line in &invoice.lines {
            let amount = line.amount.to_string();
            let places = amount.split_once('.').map_or(0, |(_, places)| places.len());
            prop_assert!(places <= plan.currency.places() as usize, "{amount}");
            sum += crate::billing::money::decimal::read(&amount).expect("a decimal").scaled();
        }
        prop_assert_eq!(crate::billing::money::decimal::read(&invoice.total().to_string()).expect("a decimal").scaled(), sum);
        prop_assert_eq!(json::read(&invoice.plan), Ok(plan));
    }
}

#[test]
fn events_that_lost_their_dimensions_are_billed_at_the_default_and_said() {
    let plan = serde_json::json!({"id": "p", "currency": "USD", "prices": [
        {"meter": "tokens", "byDimension": {"dimension": "region", "values": {"eu": {"model": "perUnit", "unitPrice": 1}},
         "default": {"model": "perUnit", "unitPrice": 2}}}]});
    let plan = json::read(&plan).expect("a plan");
    let eu = event("acme", JANUARY_S, "3").dimensions(&[("region", "eu")]);
    let lost = event("acme", JANUARY_S, "5").dimensions(&[("region", "eu")]).overflow();
    let lines = invoice_of(&plan, &[eu, lost]).lines;
    let shown: Vec<_> = lines.iter().map(|line| (line.amount.to_string(), line.usage.as_ref().expect("usage").overflow)).collect();
    assert_eq!(shown, [("3".to_owned(), false), ("10".to_owned(), true)]);
}
