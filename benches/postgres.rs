//! Commits into PostgreSQL, as the owner of a partition makes them: rows a second, and the CPU of a row here and in the server.
//!
//! Starts a server of its own, with its own settings (everything synced). `cargo bench --bench postgres`

#[expect(dead_code, reason = "faults are for tests")]
#[path = "../tests/support/postgres.rs"]
mod server;

use std::time::{Duration, Instant};

use server::Cluster;
use tollgate::clock::{UnixMicros, UnixMillis};
use tollgate::event::Amount;
use tollgate::log::Position;
use tollgate::store::postgres::{PostgresStore, Settings};
use tollgate::store::{Commit, DimensionSet, EncodedRows, Grain, Progress, Row, RowKey, RowSelection, Store};

/// Rows of the table when rows are written anew: a day row of each of 100,000 customers and four dimension sets.
const ALL: usize = 400_000;
/// Rows that are committed at once.
const SIZES: [usize; 3] = [1_000, 30_000, 200_000];
const BEGIN: Progress = Progress { next: Position(0), log_time: UnixMillis(i64::MIN) };

fn row(number: usize, turn: i64) -> (Vec<u8>, Row) {
    let dimensions = [b"\x02\x05model\x05\0mod-".as_slice(), &[b'0' + (number % 4) as u8], b"\x06region\x07\0eu-west"].concat();
    let customer = format!("customer-{:05}", number / 4);
    let key = RowKey {
        account: 1,
        meter: "api_calls",
        grain: Grain::Day,
        bucket: 20_000,
        customer: &customer,
        partition: 0,
        dimensions: DimensionSet(&dimensions),
    };
    let mut bytes = Vec::new();
    key.write(&mut bytes);
    let number = number as i64;
    let mut row = Row::first(Amount::from_int(number % 1_000), UnixMicros(1_728_000_000_000_000 + number), "");
    row.count = turn.unsigned_abs();
    row.last_id = format!("{:08x}-1c9e-4c8b-9c1e-{:012x}", number * 7_919, number);
    row.sum.add_amount(Amount::from_scaled(i128::from(number * turn) * 10_000_000_000).expect("in range"));
    (bytes, row)
}

/// User and system time of a process and of those that it has waited for, in s.
fn cpu_s(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    // In ticks, of which there are 100 a second.
    fields.iter().sum::<f64>() / 100.0
}

/// The same of a whole server.
fn server_cpu_s(postmaster: &str) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).expect("it runs");
    cpu_s(postmaster) + children.split_whitespace().map(cpu_s).sum::<f64>()
}

struct Owner<'s> {
    store: &'s PostgresStore,
    postmaster: String,
    progress: Progress,
}

impl Owner<'_> {
    fn commit(&mut self, rows: EncodedRows) {
        let reached = Progress { next: Position(self.progress.next.0 + 1), log_time: UnixMillis(7) };
        let commit = Commit { partition: 0, expected: self.progress, reached, rows, conflicts: Vec::new() };
        self.store.commit(&commit).expect("commits");
        self.progress = reached;
    }

    fn measure(&mut self, what: &str, commits: Vec<EncodedRows>) {
        let (times, rows) = (commits.len(), commits.iter().map(EncodedRows::len).sum::<usize>());
        let before = (cpu_s("self"), server_cpu_s(&self.postmaster));
        let began = Instant::now();
        commits.into_iter().for_each(|rows| self.commit(rows));
        report(what, times, rows, began.elapsed(), cpu_s("self") - before.0, server_cpu_s(&self.postmaster) - before.1);
    }
}

fn report(what: &str, times: usize, rows: usize, took: Duration, client_s: f64, server_s: f64) {
    let a_row = |seconds: f64| seconds * 1e6 / rows as f64;
    println!(
        "{what:<34} {times:>3} x {:>7} rows {:>9.0} rows/s {:>8.1} ms each   client {:>6.2} us/row   server {:>6.2} us/row",
        rows / times.max(1),
        rows as f64 / took.as_secs_f64(),
        took.as_secs_f64() * 1e3 / times.max(1) as f64,
        a_row(client_s),
        a_row(server_s)
    );
}

fn main() {
    let cluster = Cluster::start(&["shared_buffers=512MB", "max_wal_size=8GB"]);
    let url = cluster.database();
    let store = PostgresStore::open(&Settings::new(&url)).expect("opens");
    let postmaster = cluster.psql(&url, "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
    let mut owner = Owner { store: &store, postmaster, progress: BEGIN };
    let part = |of: usize, parts: usize, turn| (of..ALL).step_by(parts).map(|number| row(number, turn)).collect::<EncodedRows>();
    owner.measure("new rows", vec![part(0, 2, 1), part(1, 2, 1)]);
    cluster.psql(&url, "VACUUM ANALYZE tollgate.rows");
    let bytes =
        "SELECT pg_table_size('tollgate.rows') / count(*) || ' + ' || pg_indexes_size('tollgate.rows') / count(*) FROM tollgate.rows";
    println!("bytes a row, table + index: {}", cluster.psql(&url, bytes));
    for rows in SIZES {
        let parts = ALL / rows;
        let times = (600_000 / rows).min(40);
        owner.measure("rows written anew, scattered", (0..times).map(|turn| part(turn % parts, parts, turn as i64 + 2)).collect());
    }
    println!("bytes a row after that: {}", cluster.psql(&url, bytes));
    let before = (cpu_s("self"), server_cpu_s(&owner.postmaster));
    let began = Instant::now();
    let selection = RowSelection { account: 1, meter: "api_calls".into(), grain: Grain::Day, from: 0, to: u32::MAX, customers: None };
    let mut rows = 0;
    let snapshot = store.snapshot().expect("a snapshot");
    snapshot
        .scan(&selection, &mut |_, _| {
            rows += 1;
            Ok(())
        })
        .expect("scans");
    report("a scan", 1, rows, began.elapsed(), cpu_s("self") - before.0, server_cpu_s(&owner.postmaster) - before.1);
    for at_once in [1, 100, 1_000] {
        let keys: Vec<_> = (0..(20 * at_once).max(1_000)).map(|turn| row((turn * 7_919) % ALL, 1).0).collect();
        let before = (cpu_s("self"), server_cpu_s(&owner.postmaster));
        let began = Instant::now();
        keys.chunks(at_once).for_each(|keys| assert!(snapshot.rows(keys).expect("reads").iter().all(Option::is_some)));
        let what = format!("rows by key, {at_once} at once");
        report(
            &what,
            keys.len() / at_once,
            keys.len(),
            began.elapsed(),
            cpu_s("self") - before.0,
            server_cpu_s(&owner.postmaster) - before.1,
        );
    }
}
