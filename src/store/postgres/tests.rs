//! What only a server can show: two nodes, lost connections, crashes, what people see.

#[path = "../../../tests/support/postgres.rs"]
mod server;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::clock::{UnixMicros, UnixMillis};
use crate::event::{Amount, Sum};
use crate::log::Position;
use crate::store::{Conflict, DimensionSet, Grain, Progress, Row, RowKey, RowSelection};
pub(crate) use server::Cluster;

/// A store on a database of its own.
pub(crate) fn fresh_store() -> PostgresStore {
    open(&Cluster::shared().database(), patient())
}

/// Two nodes on one database.
pub(crate) fn two_stores() -> (PostgresStore, PostgresStore) {
    let url = Cluster::shared().database();
    (open(&url, patient()), open(&url, patient()))
}

/// A slow machine makes no difference.
fn patient() -> Timeouts {
    let long = Duration::from_secs(60);
    Timeouts { connect: long, statement: long, lock: long, lease: long, idle: long }
}

fn open(url: &str, timeouts: Timeouts) -> PostgresStore {
    PostgresStore::open(&Settings { timeouts, ..Settings::new(url) }).unwrap_or_else(|error| panic!("does not open: {error}"))
}

/// For tests of what happens when there is no answer: soon enough to be waited for.
fn impatient() -> Timeouts {
    let short = Duration::from_millis(400);
    Timeouts { connect: short, statement: short, lock: short, lease: short, idle: Duration::from_millis(50) }
}

/// Asks until it is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Runs statements on a session of its own, which ends with the value that is given back.
fn holding(store: &PostgresStore, sql: &str) -> pool::Lease {
    let mut lease = store.writing.lease().expect("a session");
    wait(store.writing.runtime(), async { lease.session().expect("is there").run(sql).await }).expect("runs");
    lease
}

fn key(customer: &str, dimensions: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let dimensions = DimensionSet(dimensions);
    RowKey { account: 1, meter: "api_calls", grain: Grain::Day, bucket: 20_000, customer, partition: 3, dimensions }.write(&mut bytes);
    bytes
}

fn progress(next: u64) -> Progress {
    match next {
        0 => commit::BEGIN,
        next => Progress { next: Position(next), log_time: UnixMillis(7) },
    }
}

const CUSTOMERS: u64 = 200;

/// The commit that leads from `at` to `at + 1`: all rows say so, and there is a conflict.
fn commit_of(at: u64) -> Commit {
    let row = Row { count: at + 1, ..Row::first(Amount::ONE, UnixMicros(5), "u-1") };
    let rows = (0..CUSTOMERS).map(|customer| (key(&format!("customer-{customer}"), &[0]), row.clone())).collect();
    let conflicts = vec![Conflict { account: 1, partition: 3, position: Position(at + 1), first: Position(0) }];
    Commit { partition: 3, expected: progress(at), reached: progress(at + 1), rows, conflicts }
}

/// Where the store stands, after a look at whether everything in it says the same.
fn standing(store: &PostgresStore) -> Result<u64, Error> {
    let snapshot = store.snapshot()?;
    let at = snapshot.progress(3)?.next.0;
    let selection = RowSelection { account: 1, meter: "api_calls".into(), grain: Grain::Day, from: 0, to: u32::MAX, customers: None };
    let mut rows = 0;
    snapshot.scan(&selection, &mut |_, row| {
        assert_eq!(row.count, at, "rows and progress are those of one commit");
        rows += 1;
        Ok(())
    })?;
    assert_eq!(rows, if at == 0 { 0 } else { CUSTOMERS });
    let latest = snapshot.conflicts(1, 3, Position(u64::MAX), 1)?;
    assert_eq!(latest.first().map_or(0, |conflict| conflict.position.0), at);
    Ok(at)
}

/// Commits as an owner does until it is told to stop; gives back how many commits were acked. After each lost answer it reads where it stands.
fn own(store: &PostgresStore, stop: &AtomicBool) -> u64 {
    let (mut at, mut acked) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        match store.commit(&commit_of(at)) {
            Ok(()) => (at, acked) = (at + 1, acked + 1),
            Err(Error::Failed(_)) => wait_until("the server answers", || match standing(store) {
                Ok(found) => {
                    assert!((at..=at + 1).contains(&found), "at {found}, {at} was acked");
                    at = found;
                    true
                }
                Err(Error::Failed(_)) => false,
                Err(error) => panic!("{error}"),
            }),
            // What it had sent before it lost the connection has arrived after it looked.
            Err(Error::Fenced { found, .. }) => {
                assert_eq!(found.0, at + 1);
                at += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(standing(store).expect("answers"), at);
    acked
}

/// Says stop when it goes, also where the test fails.
struct Stopping<'s>(&'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets an owner commit while something is done to it several times, each time after it has got further.
fn disturbed(store: &PostgresStore, times: u32, mut disturb: impl FnMut()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let owner = scope.spawn(|| own(store, &stop));
        let mut last = 0;
        for _ in 0..times {
            wait_until("there are commits", || {
                let found = standing(store).unwrap_or(last);
                let is_further = found > last + 2;
                last = if is_further { found } else { last };
                is_further || owner.is_finished()
            });
            disturb();
        }
        drop(stopping);
        assert!(owner.join().expect("no panic") > u64::from(times));
    });
}

#[test]
fn rows_and_progress_are_those_of_one_commit_after_any_crash_of_the_server() {
    let cluster = Cluster::start(&[]);
    let store = open(&cluster.database(), patient());
    disturbed(&store, 4, || {
        cluster.crash();
        cluster.start_again();
    });
}

#[test]
fn rows_and_progress_are_those_of_one_commit_whenever_a_connection_is_lost() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url, patient());
    disturbed(&store, 20, || {
        drop(cluster.psql(
            &url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        ));
    });
}

#[test]
fn a_server_that_is_down_is_an_error_soon_and_no_reason_to_start_again() {
    let cluster = Cluster::start(&["fsync=off"]);
    let store = open(&cluster.database(), impatient());
    store.commit(&commit_of(0)).expect("commits");
    let kept = store.snapshot().expect("a snapshot");
    assert_eq!(kept.progress(3).expect("progress"), progress(1));
    cluster.crash();
    let began = Instant::now();
    assert!(matches!(store.commit(&commit_of(1)), Err(Error::Failed(_))));
    assert!(matches!(store.document(Kind::Account, 0, "default"), Err(Error::Failed(_))));
    assert!(matches!(store.change_document(Kind::Account, 0, "default", &mut |_| Change::Keep), Err(Error::Failed(_))));
    assert!(matches!(kept.progress(3), Err(Error::Failed(_))));
    assert!(matches!(store.row_count(), Err(Error::Failed(_))));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    cluster.start_again();
    wait_until("it answers", || store.commit(&commit_of(1)).is_ok());
    assert_eq!(standing(&store).expect("answers"), 2);
}

#[test]
fn a_server_that_hangs_is_an_error_in_time_and_what_it_did_is_looked_up_afterwards() {
    let cluster = Cluster::start(&["fsync=off"]);
    let store = open(&cluster.database(), impatient());
    store.commit(&commit_of(0)).expect("commits");
    cluster.freeze();
    let began = Instant::now();
    assert!(matches!(store.commit(&commit_of(1)), Err(Error::Failed(_))));
    assert!(store.snapshot().and_then(|snapshot| snapshot.progress(3)).is_err());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    cluster.thaw();
    wait_until("it answers", || standing(&store).is_ok());
    let at = standing(&store).expect("answers");
    assert!((1..=2).contains(&at));
    // What was sent before the server stood still may be done now.
    wait_until("it commits", || matches!(store.commit(&commit_of(at)), Ok(()) | Err(Error::Fenced { .. })));
}

#[test]
fn a_lock_that_somebody_holds_is_waited_for_in_vain_for_a_bounded_time_and_nothing_changes() {
    let url = Cluster::shared().database();
    let (store, other) = (open(&url, impatient()), open(&url, patient()));
    let held = holding(&other, "BEGIN; LOCK TABLE tollgate.rows, tollgate.documents");
    assert!(matches!(store.commit(&commit_of(0)), Err(Error::Failed(what)) if what.contains("timeout")));
    assert!(store.change_document(Kind::Customer, 1, "a", &mut |_| Change::Put(b"1".to_vec())).is_err());
    drop(held);
    wait_until("the lock is gone", || standing(&store).is_ok_and(|at| at == 0));
    store.commit(&commit_of(0)).expect("commits");
    assert_eq!(store.document(Kind::Customer, 1, "a").expect("reads"), None);
}

#[test]
fn nodes_that_start_at_once_make_one_schema_and_a_newer_one_is_refused() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    std::thread::scope(|scope| {
        let nodes: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&url, patient()))).collect();
        let stores: Vec<_> = nodes.into_iter().map(|node| node.join().expect("starts")).collect();
        stores[0].commit(&commit_of(0)).expect("commits");
        assert_eq!(standing(&stores[3]).expect("answers"), 1);
    });
    assert_eq!(cluster.psql(&url, "SELECT version, name FROM tollgate.migrations"), "1|tables\n2|sketches");
    cluster.psql(&url, "INSERT INTO tollgate.migrations VALUES (999, 'from the future', now())");
    let Err(OpenError::Unfit(what)) = PostgresStore::open(&Settings::new(&url)) else { panic!("a newer schema is refused") };
    assert!(what.contains("version 999") && what.contains("run the newer binary"), "{what}");
}

#[test]
fn a_node_that_makes_nothing_needs_no_right_to() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    open(&url, patient()).commit(&commit_of(0)).expect("commits");
    let database = url.rsplit('/').next().expect("a name").to_owned();
    cluster.psql(
        &url,
        &format!(
            "CREATE ROLE user_of_{database} LOGIN; GRANT USAGE ON SCHEMA tollgate TO user_of_{database};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tollgate TO user_of_{database}"
        ),
    );
    let store = open(&url.replace("tollgate@", &format!("user_of_{database}@")), patient());
    store.commit(&commit_of(1)).expect("commits");
    store.change_document(Kind::Key, 0, "k", &mut |_| Change::Put(b"1".to_vec())).expect("changes");
    assert_eq!(standing(&store).expect("answers"), 2);
}

#[test]
fn people_can_read_the_rows() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url, patient());
    let amount = |text: &str| Amount::parse(text.as_bytes()).expect("a number");
    let row = Row {
        count: 3,
        sum: Sum::from(amount("12.5")),
        min: amount("-0.000000000001"),
        max: amount("12"),
        last_time: UnixMicros(1_728_000_001_000_002),
        last: amount("0.25"),
        last_id: "u-9".into(),
        sketches: None,
    };
    let dimensions = b"\x02\x05model\x02\0m1\x06region\x03\0e\xc3\xbc".as_slice();
    let long = [b"\x01\x01k\xb8\x0b".as_slice(), &[b'v'; 3_000]].concat();
    let rows = [
        (key("acm\u{e9}", dimensions), row.clone()),
        (key("acm\u{e9}", DimensionSet::OVERFLOW.0), row.clone()),
        (key("long", &long), row.clone()),
        (key("none", &[0]), row),
    ];
    store.commit(&Commit { rows: rows.into_iter().collect(), ..commit_of(0) }).expect("commits");
    let columns = "account, partition, meter, grain, start, dimensions, sum, min, max, last, count, last_time, last_id";
    let shown = cluster.psql(
        &url,
        &format!("SET TimeZone = 'UTC'; SELECT {columns} FROM tollgate.usage WHERE customer = 'acm\u{e9}' ORDER BY dimensions"),
    );
    let [before, behind] =
        ["1|3|api_calls|day|2024-10-04 00:00:00+00|", "|12.5|-0.000000000001|12|0.25|3|2024-10-04 00:00:01.000002+00|u-9"];
    assert_eq!(shown, format!("{before}{{\"model\": \"m1\", \"region\": \"e\u{fc}\"}}{behind}\n{before}{behind}"));
    assert_eq!(cluster.psql(&url, "SELECT length(dimensions->>'k') FROM tollgate.usage WHERE customer = 'long'"), "3000");
    assert_eq!(cluster.psql(&url, "SELECT dimensions FROM tollgate.usage WHERE customer = 'none'"), "{}");
}

#[test]
fn sketches_that_an_older_binary_has_not_kept_up_are_none() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url, patient());
    let key = key("c", DimensionSet::OVERFLOW.0);
    let mut row = Row::none_yet(DimensionSet::OVERFLOW);
    row.add(Amount::ONE, UnixMicros(5), "u-1");
    store.commit(&Commit { rows: [(key.clone(), row.clone())].into_iter().collect(), ..commit_of(0) }).expect("commits");
    let stored = || store.snapshot().and_then(|snapshot| snapshot.row(&key)).expect("reads").expect("is there");
    assert_eq!(stored(), row);
    // It knows the other columns only.
    cluster.psql(&url, "UPDATE tollgate.rows SET count = 2, sum = 2");
    assert_eq!((stored().count, stored().sketches), (2, None));
    cluster.psql(&url, "UPDATE tollgate.rows SET sketches = substring(sketches FOR 9)");
    assert!(matches!(store.snapshot().and_then(|snapshot| snapshot.row(&key)), Err(Error::Damaged(_))));
}

fn open_transactions(cluster: &Cluster, url: &str) -> String {
    cluster.psql(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()",
    )
}

#[test]
fn a_snapshot_that_nobody_looks_at_holds_nothing_and_never_shows_another_position_than_it_told() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url, Timeouts { idle: Duration::from_millis(50), ..patient() });
    store.commit(&commit_of(0)).expect("commits");
    let (told, silent) = (store.snapshot().expect("a snapshot"), store.snapshot().expect("a snapshot"));
    assert_eq!(open_transactions(cluster, &url), "0", "nobody has looked");
    assert_eq!(told.progress(3).expect("progress"), progress(1));
    let row = |snapshot: &dyn Snapshot| snapshot.row(&key("customer-7", &[0])).map(|row| row.expect("is there").count);
    assert_eq!(row(&*silent).expect("reads"), 1);
    wait_until("nothing is held", || open_transactions(cluster, &url) == "0");
    assert_eq!(row(&*told).expect("reads"), 1, "nothing has changed");
    wait_until("nothing is held", || open_transactions(cluster, &url) == "0");
    store.commit(&commit_of(1)).expect("commits");
    assert!(matches!(row(&*told), Err(Error::Failed(what)) if what.contains("have moved on to 2")));
    assert!(told.visit(&mut |_| panic!("nothing is shown")).is_err());
    assert_eq!(row(&*silent).expect("reads"), 2, "nobody goes by its position");
    assert_eq!(silent.progress(3).expect("progress"), progress(2));
    drop((told, silent));
    wait_until("nothing is held", || open_transactions(cluster, &url) == "0");
}

#[test]
fn any_number_of_queries_leaves_commits_their_connections() {
    let url = Cluster::shared().database();
    let timeouts = Timeouts { lease: Duration::from_millis(100), ..patient() };
    let store = PostgresStore::open(&Settings { timeouts, connections_max: 4, ..Settings::new(&url) }).expect("opens");
    let snapshots: Vec<_> = (0..3).map(|_| store.snapshot().expect("a snapshot")).collect();
    let looked: Vec<bool> = snapshots.iter().map(|snapshot| snapshot.progress(3).is_ok()).collect();
    assert_eq!(looked, [true, true, false], "two connections are for reading");
    store.commit(&commit_of(0)).expect("commits");
    drop(snapshots);
    wait_until("they are given back", || standing(&store).is_ok());
}

#[test]
fn an_answer_to_a_commit_means_that_it_is_durable_whatever_the_database_says() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let database = url.rsplit('/').next().expect("a name");
    cluster.psql(&url, &format!("ALTER DATABASE {database} SET synchronous_commit = off"));
    let store = open(&url, patient());
    let show = |setting: &'static str| {
        let shown = store.on(&store.writing, async |session| {
            Ok(session.client.query_one(&format!("SHOW {setting}"), &[]).await?.try_get::<_, String>(0)?)
        });
        shown.expect("answers")
    };
    assert_eq!((show("synchronous_commit"), show("application_name")), ("on".into(), "tollgate".into()));
}

#[test]
fn changes_on_one_node_are_heard_on_the_others_also_when_they_had_lost_their_connection() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let (one, other) = (open(&url, patient()), open(&url, patient()));
    let heard = other.watch().expect("there are other nodes");
    let hear = |what: &str| heard.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{what}"));
    hear("when it begins to listen, something may have been missed");
    let version = one.change_shared(0, &[Shared { kind: Kind::Key, account: 0, id: "k".into(), body: Some(b"1".to_vec()) }]);
    let version = version.expect("writes").expect("nobody else did");
    hear("a change of several");
    assert_eq!(other.shared_since(0).expect("reads").version, version);
    one.change_document(Kind::Account, 0, "a", &mut |_| Change::Put(b"1".to_vec())).expect("changes");
    hear("a change of one");
    one.change_document(Kind::Customer, 1, "c", &mut |_| Change::Put(b"1".to_vec())).expect("changes");
    let told = |store: &PostgresStore| {
        let changes = store.shared_since(version).expect("reads").documents;
        changes
            .iter()
            .filter_map(|document| document.of_what().map(|(kind, account, id)| (kind, account, id.to_owned())))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&other), [], "others have nothing to do with it");
    for change in [|| Change::Tell(b"2".to_vec()), || Change::Tell(b"3".to_vec()), || Change::RemoveAndTell] {
        one.change_document(Kind::Customer, 1, "c/d", &mut |_| change()).expect("changes");
        hear("a change that is told");
        assert_eq!(told(&other), [(Kind::Customer.code(), 1, "c/d".to_owned())], "once, whatever else became of it");
    }
    assert_eq!(other.document(Kind::Customer, 1, "c/d").expect("reads"), None);
    one.change_document(Kind::Customer, 1, "c/d", &mut |_| Change::RemoveAndTell).expect("is gone already");
    cluster
        .psql(&url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'");
    hear("the connection is lost");
    hear("it is back");
}

/// What a node hears, but for that it may have missed something.
fn heard_by(store: &PostgresStore) -> Receiver<Heard> {
    let (to, heard) = crossbeam_channel::bounded(10_000);
    let (first, begins) = bounded(1);
    store.listen(move |what| match what {
        Heard::Missed => {
            let (Ok(()) | Err(_)) = first.try_send(());
            Ok(())
        }
        what => to.send(what).map_err(|_| Gone),
    });
    begins.recv_timeout(Duration::from_secs(60)).expect("it listens");
    heard
}

fn next(heard: &Receiver<Heard>) -> Heard {
    heard.recv_timeout(Duration::from_secs(60)).expect("it is heard")
}

#[test]
fn commits_and_wishes_of_one_node_are_heard_on_the_others() {
    let (one, other) = two_stores();
    let heard = heard_by(&other);
    one.commit(&commit_of(0)).expect("commits");
    assert_eq!(next(&heard), Heard::Progress(3, Position(1)));
    assert!(matches!(one.commit(&commit_of(0)), Err(Error::Fenced { .. })));
    // Thousands of partitions do not fit into one notification.
    let wishes: Vec<_> = (0..3_000).map(|partition| (partition, Position(u64::MAX - 1))).collect();
    one.wish(&wishes).expect("told");
    for (partition, position) in wishes {
        assert_eq!(next(&heard), Heard::Wish(partition, position), "a commit that was fenced told nobody anything");
    }
    one.wish(&[]).expect("nothing to tell");
    one.change_document(Kind::Account, 0, "a", &mut |_| Change::Put(b"1".to_vec())).expect("changes");
    assert_eq!(next(&heard), Heard::Documents);
}

#[test]
fn all_who_listen_share_a_connection_that_ends_with_the_last_of_them() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url, patient());
    let (documents, heard) = (store.watch().expect("there are other nodes"), heard_by(&store));
    documents.recv_timeout(Duration::from_secs(60)).expect("it listens");
    let listening = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        cluster.psql(&url, sql)
    };
    assert_eq!(listening(), "1");
    store.wish(&[(7, Position(9))]).expect("told");
    assert_eq!(next(&heard), Heard::Wish(7, Position(9)), "also by the node itself");
    drop((documents, heard));
    wait_until("nobody listens any more", || {
        drop(store.wish(&[(7, Position(10))]));
        listening() == "0"
    });
    let heard = heard_by(&store);
    store.wish(&[(8, Position(9))]).expect("told");
    assert_eq!(next(&heard), Heard::Wish(8, Position(9)), "somebody listens again");
}

#[test]
fn certificates_are_checked_as_far_as_the_url_says() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let root = format!("sslrootcert={}", cluster.certificate().display());
    let opens = |parameters: &str| PostgresStore::open(&Settings { timeouts: patient(), ..Settings::new(&format!("{url}?{parameters}")) });
    for good in ["sslmode=require", "", &format!("sslmode=verify-full&{root}"), &format!("sslmode=require&{root}")] {
        let store = opens(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        let is_encrypted = store.on(&store.writing, async |session| {
            Ok(session.client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await?.try_get::<_, bool>(0)?)
        });
        assert!(is_encrypted.expect("answers"), "{good}");
    }
    assert!(opens("sslmode=disable").is_ok());
    for bad in ["sslmode=verify-full", "sslmode=verify-ca"] {
        let Err(OpenError::Failed(what)) = opens(bad) else { panic!("{bad}: nobody has signed the certificate") };
        assert!(what.contains("certificate"), "{what}");
    }
    let elsewhere = url.replace("127.0.0.1", "database.example");
    let opens = |mode: &str| {
        let url = format!("{elsewhere}?hostaddr=127.0.0.1&sslmode={mode}&{root}");
        PostgresStore::open(&Settings { timeouts: patient(), ..Settings::new(&url) })
    };
    assert!(opens("verify-ca").is_ok(), "whose host it is does not matter");
    assert!(matches!(opens("verify-full"), Err(OpenError::Failed(what)) if what.contains("certificate")));
}

#[test]
fn a_snapshot_outlives_its_store() {
    let store = fresh_store();
    store.commit(&commit_of(0)).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    drop(store);
    assert_eq!(snapshot.progress(3).expect("progress"), progress(1));
}

#[tokio::test]
async fn a_thread_of_a_runtime_may_ask_too() {
    let store = fresh_store();
    store.commit(&commit_of(0)).expect("commits");
    assert_eq!(standing(&store).expect("answers"), 1);
}
