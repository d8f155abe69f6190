//! The dedup index on real files, for long: identities in batches of 1,000, 2 % of them copies of any earlier one, with maintenance
//! after each batch, as the materializer's thread does it.
//!
//! `cargo bench --bench index -- [millions of identities]... [horizon] [of16]`. With `horizon`, log time passes two horizons meanwhile, so that
//! half of them expire. With `of16`, it is one of 16 indexes of a process, of which the others do nothing. CPU time is what counts: of the thread that asks, and of the process, with all that is written and merged; without
//! what making the identities costs. At the end copies alone are asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tollgate::clock::UnixMillis;
use tollgate::event::{ContentHash, IdentityHash};
use tollgate::log::Position;
use tollgate::log::disk::RealDisk;
use tollgate::materializer::Shares;
use tollgate::materializer::first_positions::{Asked, FirstPositions, Standing};

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: u64 = 1_000;
/// Asked about together, as the fold does it.
const GROUP: usize = 32;
const MILLION: u64 = 1_000_000;
const COPIES_PERCENT: u64 = 2;
/// Asked for at the end.
const COPIES: u64 = 200_000;
const HORIZON_MS: u64 = 37 * 86_400_000;
const BEGIN_MS: u64 = 1_767_227_400_000;

fn cpu(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("a time")
}

/// The finaliser of splitmix64.
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Where the first record of an identity is that stands at `position`.
fn first_of(position: u64) -> u64 {
    let dice = scramble(!position);
    if position > 0 && dice % 100 < COPIES_PERCENT { first_of(scramble(dice) % position) } else { position }
}

fn asked(position: u64, log_time: UnixMillis) -> Asked {
    let first = first_of(position);
    let upper = scramble(first);
    let identity = IdentityHash(u128::from(upper) << 64 | u128::from(scramble(upper)));
    Asked { identity, content: ContentHash(first), position: Position(position), log_time }
}

/// CPU time.
#[derive(Default, Clone, Copy)]
struct Costs {
    caller: Duration,
    process: Duration,
}

struct Load {
    index: FirstPositions,
    keys: u64,
    horizon_ms: Option<u64>,
    /// CPU time of the process when it began, and what of it the bench itself took.
    begun: Duration,
    bench: Duration,
    costs: Costs,
    memory_bytes_max: u64,
    stall_max: Duration,
    standings: Vec<Standing>,
}

impl Load {
    fn log_time(&self, position: u64) -> UnixMillis {
        let passed = self.horizon_ms.map_or(0, |horizon| u128::from(position) * 2 * u128::from(horizon) / u128::from(self.keys));
        UnixMillis((u128::from(BEGIN_MS) + passed) as i64)
    }

    fn batch(&mut self, begin: u64) {
        let generating = cpu(ClockId::ThreadCPUTime);
        let log_time = self.log_time(begin);
        let batch: Vec<Asked> = (begin..begin + BATCH).map(|position| asked(position, log_time)).collect();
        let caller = cpu(ClockId::ThreadCPUTime);
        self.standings.clear();
        for group in batch.chunks(GROUP) {
            self.index.stand_all(group, &mut self.standings).expect("the index answers");
        }
        let maintained = Instant::now();
        self.index.maintain(Position(begin + BATCH), log_time, log_time).expect("the index answers");
        self.stall_max = self.stall_max.max(maintained.elapsed());
        let checking = cpu(ClockId::ThreadCPUTime);
        self.memory_bytes_max = self.memory_bytes_max.max(self.index.memory_bytes());
        batch.iter().zip(&self.standings).for_each(|(asked, standing)| self.check(asked, *standing));
        self.costs.caller += checking - caller;
        self.bench += caller - generating + (cpu(ClockId::ThreadCPUTime) - checking);
        self.costs.process = cpu(ClockId::ProcessCPUTime) - self.begun - self.bench;
    }

    fn check(&self, asked: &Asked, standing: Standing) {
        let first = asked.content.0;
        match standing {
            Standing::First if self.horizon_ms.is_none() => assert_eq!(asked.position.0, first, "a copy counted"),
            Standing::First => {}
            Standing::Copy { of, content } => assert!(of < asked.position && content.0 == first, "not its first"),
        }
    }
}

/// CPU time of asking for identities that are known, most of them on disk.
fn ask_for_copies(load: &mut Load) -> Duration {
    let (next, log_time) = (load.keys, load.log_time(load.keys));
    let known: Vec<Asked> = (0..COPIES).map(|at| Asked { position: Position(next + at), ..asked(scramble(at) % next, log_time) }).collect();
    let begin = cpu(ClockId::ThreadCPUTime);
    for group in known.chunks(GROUP) {
        load.standings.clear();
        load.index.stand_all(group, &mut load.standings).expect("the index answers");
    }
    cpu(ClockId::ThreadCPUTime) - begin
}

fn disk_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir).expect("lists").map(|file| file.expect("a file").metadata().map_or(0, |data| data.len())).sum()
}

fn run(keys: u64, horizon_ms: Option<u64>, others: usize) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let horizon = horizon_ms.map(|horizon| horizon as i64);
    let shares = Shares::default();
    let open = |number: usize| {
        let dir = dir.path().join(number.to_string());
        FirstPositions::open_sharing(Arc::new(RealDisk), &dir, [3; 16], horizon, UnixMillis(0), &shares).expect("opens")
    };
    let _others: Vec<FirstPositions> = (1..=others).map(open).collect();
    let index = open(0);
    let mut load = Load {
        index,
        keys,
        horizon_ms,
        begun: cpu(ClockId::ProcessCPUTime),
        bench: Duration::ZERO,
        costs: Costs::default(),
        memory_bytes_max: 0,
        stall_max: Duration::ZERO,
        standings: Vec::new(),
    };
    let started = Instant::now();
    let last_tenth = keys / 10 * 9 / BATCH * BATCH;
    let mut before = Costs::default();
    for begin in (0..keys).step_by(BATCH as usize) {
        if begin == last_tenth {
            before = load.costs;
        }
        load.batch(begin);
    }
    let (wall, entries, costs) = (started.elapsed(), load.index.entries(), load.costs);
    let each = |time: Duration, keys: u64| time.as_nanos() as u64 / keys;
    let memory_bytes = load.index.memory_bytes();
    let copies = ask_for_copies(&mut load);
    println!(
        "{:>4} M keys{}{}: CPU {} ns a key by the caller, {} by the process (last tenth {}, {}), {} ns a copy; {:.1} s; longest maintain {:.1} ms; \
         {} M entries, {:.1} bytes of disk each, {} MiB of memory, {} at most",
        keys / MILLION,
        horizon_ms.map_or("", |_| " over two horizons"),
        if others > 0 { " in one of 16 indexes" } else { "" },
        each(costs.caller, keys),
        each(costs.process, keys),
        each(costs.caller - before.caller, keys - last_tenth),
        each(costs.process - before.process, keys - last_tenth),
        each(copies, COPIES),
        wall.as_secs_f64(),
        load.stall_max.as_secs_f64() * 1e3,
        entries / MILLION,
        disk_bytes(&dir.path().join("0")) as f64 / entries as f64,
        memory_bytes >> 20,
        load.memory_bytes_max >> 20,
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let horizon_ms = arguments.iter().any(|argument| argument == "horizon").then_some(HORIZON_MS);
    let millions: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let millions = if millions.is_empty() { vec![2] } else { millions };
    let others = if arguments.iter().any(|argument| argument == "of16") { 15 } else { 0 };
    millions.into_iter().for_each(|millions| run(millions * MILLION, horizon_ms, others));
}
