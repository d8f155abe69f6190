//! All of it, log, index and store, on a disk that loses its power: the rows are those of the rule over exactly the records that
//! the log still has, and it has every record that was acked.

use std::path::Path;

use super::*;
use crate::log::disk::simulated::{Fault, SimulatedDisk};

#[derive(Debug, Clone)]
enum Action {
    /// Nothing but the batch.
    Go,
    /// The rows are asked for.
    Ask,
    /// The process stops in good order and starts again.
    Restart,
    /// The power goes, right away or this many operations after the batch is begun.
    PowerLoss { seed: u64, after: Option<u64> },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Go),
        2 => Just(Action::Ask),
        1 => Just(Action::Restart),
        4 => (any::<u64>(), proptest::option::of(0_u64..40)).prop_map(|(seed, after)| Action::PowerLoss { seed, after }),
    ]
}

fn start_simulated(disk: &SimulatedDisk) -> Tollgate {
    disk.create_dir(Path::new("data")).expect("made");
    start_on(Arc::new(disk.clone()), Path::new("data"))
}

/// What was sent, by position: the rule is asked anew from it after each loss.
#[derive(Default)]
struct Sends(Vec<(Sent, i64)>);

impl Sends {
    fn rows(&self) -> Found {
        let mut model = Model::default();
        self.0.iter().for_each(|(sent, received)| model.record(sent, *received));
        model.rows
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn rows_are_those_of_what_the_log_has_through_any_losses_of_power(
        steps in proptest::collection::vec((proptest::collection::vec(sent(), 1..12), -20_i64..60, action()), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut disk = SimulatedDisk::default();
        let mut tollgate = start_simulated(&disk);
        let (mut sends, mut acked, mut received) = (Sends::default(), 0, 1_000_000);
        for (batch, passed, action) in steps {
            received += passed;
            if let Action::PowerLoss { after: Some(after), .. } = action {
                disk.fail(Fault::Everything, after);
            }
            sends.0.extend(batch.iter().map(|sent| (sent.clone(), received)));
            if tollgate.try_append(&batch, received).is_ok() {
                acked = sends.0.len();
            }
            match action {
                Action::Go => {}
                Action::Ask => prop_assert_eq!(&tollgate.rows(&runtime), &sends.rows()),
                Action::Restart => {
                    tollgate.running.stop().expect("stops");
                    drop((tollgate.appender, tollgate.materializer, tollgate.log));
                    tollgate = start_simulated(&disk);
                }
                Action::PowerLoss { seed, .. } => {
                    let found = disk.power_loss(seed);
                    // It goes on for nobody; where the disk failed, it has ended by itself.
                    drop(tollgate.running.stop());
                    disk = found;
                    tollgate = start_simulated(&disk);
                    let end = tollgate.log.end().0 as usize;
                    prop_assert!((acked..=sends.0.len()).contains(&end), "{end} records are there, {acked} were acked");
                    sends.0.truncate(end);
                    acked = end;
                    prop_assert_eq!(&tollgate.rows(&runtime), &sends.rows());
                }
            }
        }
        prop_assert_eq!(&tollgate.rows(&runtime), &sends.rows());
        tollgate.running.stop().expect("stops");
    }
}
