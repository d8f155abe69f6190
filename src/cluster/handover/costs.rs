//! What is faster: reading the log, or fetching an index.

use std::time::Duration;

use crate::fault;
use crate::materializer::IndexStanding;
use crate::materializer::first_positions::copy::Offer;

/// A record of the log, read and put into the index. See `benches/README.md`, handover.
const READ_NS_A_RECORD: u64 = 2_000;
/// A byte of an index that comes from another node, is checked and written: 200 MB/s.
const FETCH_NS_A_BYTE: u64 = 5;
/// With fewer records to be read nobody is asked: a node that does not answer would cost as much.
const READ_RECORDS: usize = 500_000;
/// How long a fetch may take at least.
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// What reading and fetching cost here.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// ns.
    pub read_a_record: u64,
    /// ns.
    pub fetch_a_byte: u64,
    /// With fewer records to be read nobody is asked.
    pub records_min: u64,
}

impl Default for Costs {
    fn default() -> Self {
        let records_min = fault::limit("TOLLGATE_HANDOVER_RECORDS", READ_RECORDS) as u64;
        Self { read_a_record: READ_NS_A_RECORD, fetch_a_byte: FETCH_NS_A_BYTE, records_min }
    }
}

impl Costs {
    /// Whether other nodes are to be asked.
    pub(super) fn are_worth_asking(&self, standing: &IndexStanding) -> bool {
        !standing.can_be_read() || standing.behind() >= self.records_min
    }

    /// What reading the log costs, in ns; the most that can be if it cannot be read.
    pub(super) fn of_reading(&self, standing: &IndexStanding) -> u64 {
        if standing.can_be_read() { standing.behind().saturating_mul(self.read_a_record) } else { u64::MAX }
    }

    /// What taking an index over costs, with the records behind it, in ns. `None`: it is of no use.
    pub(super) fn of_fetching(&self, standing: &IndexStanding, offer: &Offer) -> Option<u64> {
        let then = IndexStanding { covered: offer.covered(), ..*standing };
        let bytes = offer.bytes().saturating_mul(self.fetch_a_byte);
        then.can_be_read().then(|| bytes.saturating_add(self.of_reading(&then)))
    }

    /// How long a fetch may take: what reading would. Without a log to read, as long as it moves.
    pub(super) fn patience(&self, standing: &IndexStanding) -> Duration {
        Duration::from_nanos(self.of_reading(standing)).max(PATIENCE_MIN)
    }
}
