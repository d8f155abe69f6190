//! Many connections that send batches, and the ledger of what they sent: what usage must say in the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Client, DAY_0_MS, DAY_S, Decimal, Event, Gateway, Random, event, wait_for};

const METER: &str = "load";
const CUSTOMERS: usize = 8;
const SENDERS: usize = 8;
const BATCH_EVENTS_MAX: usize = 20;

/// One request: its events, what they are worth, and whether it was answered.
struct Batch {
    events: Vec<Event>,
    /// Customer and value of each event.
    worth: Vec<(String, Decimal)>,
    is_acked: bool,
}

impl Batch {
    fn made(random: &mut Random, name: &str) -> Self {
        let size = 1 + random.below(BATCH_EVENTS_MAX);
        let worth: Vec<_> = (0..size).map(|_| made_worth(random)).collect();
        let events = worth.iter().enumerate().map(|(index, (customer, value))| {
            let at = DAY_0_MS + random.below(3 * DAY_S as usize * 1_000) as i64;
            event(&format!("{name}-{index}")).customer(customer).meter(METER).value(value).at(at)
        });
        Self { events: events.collect(), worth, is_acked: false }
    }
}

fn made_worth(random: &mut Random) -> (String, Decimal) {
    let mantissa = random.below(2_000_000_000) as i128 - 1_000_000_000;
    (format!("customer-{}", random.below(CUSTOMERS)), Decimal::new(mantissa, random.below(13) as u32))
}

/// Everything that was ever sent.
#[derive(Default)]
pub(crate) struct Ledger {
    batches: Vec<Batch>,
    rounds: usize,
}

impl Ledger {
    /// Sends from many connections at once. `end` is called after so many answers, while all of them go on, and has to
    /// end the process. Returns how many batches were answered.
    pub(crate) fn load_until(
        &mut self,
        gateway: &mut Gateway,
        random: &mut Random,
        answers: usize,
        end: impl FnOnce(&mut Gateway),
    ) -> usize {
        self.rounds += 1;
        let answered = AtomicUsize::new(0);
        let sent: Vec<Vec<Batch>> = std::thread::scope(|threads| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let (client, random, answered) = (Client::clone(gateway), random.fork(), &answered);
                    let name = format!("{}-{sender}", self.rounds);
                    threads.spawn(move || send_until_the_end(&client, random, &name, answered))
                })
                .collect();
            wait_for("answers", || (answered.load(Ordering::Relaxed) >= answers).then_some(()));
            end(gateway);
            senders.into_iter().map(|sender| sender.join().expect("the sender ends with the process")).collect()
        });
        self.batches.extend(sent.into_iter().flatten());
        answered.into_inner()
    }

    /// Nothing acked is missing and nothing counts twice: each customer's events are at least those that were answered and
    /// at most those that were sent.
    #[track_caller]
    pub(crate) fn expect_what_was_acked(&self, gateway: &Gateway) {
        let counts = gateway.usage(METER).by("customerId").wait_s(30).ask("COUNT").groups();
        let acked = self.totals(|batch| batch.is_acked);
        for (customer, (sent, _)) in self.totals(|_| true) {
            let counted: usize = counts.get(&customer).map_or(0, |count| count.parse().expect("a number"));
            let acked = acked.get(&customer).map_or(0, |(count, _)| *count);
            assert!((acked..=sent).contains(&counted), "{customer} has {counted} events, {acked} were acked and {sent} were sent");
        }
    }

    /// Sends again what was not answered, and some of what was.
    pub(crate) fn send_again(&mut self, gateway: &Gateway, random: &mut Random) {
        for batch in &mut self.batches {
            if !batch.is_acked || random.once_in(10) {
                gateway.send(&batch.events).logged(batch.events.len());
                batch.is_acked = true;
            }
        }
    }

    /// Usage is exactly what was sent: numbers and sums of events.
    #[track_caller]
    pub(crate) fn expect_all(&self, gateway: &Gateway) {
        let totals = self.totals(|_| true);
        let counts = totals.iter().map(|(customer, (count, _))| (customer.clone(), count.to_string())).collect();
        let sums = totals.into_iter().map(|(customer, (_, sum))| (customer, sum.to_string())).collect();
        let ask = |aggregation| gateway.usage(METER).by("customerId").wait_s(30).ask(aggregation).groups();
        assert_eq!((ask("COUNT"), ask("SUM")), (counts, sums));
    }

    /// Number and sum by customer.
    fn totals(&self, wanted: impl Fn(&Batch) -> bool) -> BTreeMap<String, (usize, Decimal)> {
        let mut totals: BTreeMap<String, (usize, Decimal)> = BTreeMap::new();
        for (customer, value) in self.batches.iter().filter(|batch| wanted(batch)).flat_map(|batch| &batch.worth) {
            let (count, sum) = totals.entry(customer.clone()).or_default();
            *count += 1;
            *sum += *value;
        }
        totals
    }
}

/// Sends batch after batch, each when the last one was answered, until there is no answer.
fn send_until_the_end(client: &Client, mut random: Random, name: &str, answered: &AtomicUsize) -> Vec<Batch> {
    let mut sent = Vec::new();
    loop {
        let mut batch = Batch::made(&mut random, &format!("{name}-{}", sent.len()));
        let answer = client.try_send(&batch.events);
        batch.is_acked = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        let goes_on = batch.is_acked;
        sent.push(batch);
        match answer {
            Ok(answer) if goes_on => {
                answer.logged(sent.last().map_or(0, |batch| batch.events.len()));
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => {
                // The one other answer that a process may give on its way out.
                answer.refused(503);
                return sent;
            }
            Err(_) => return sent,
        }
    }
}
