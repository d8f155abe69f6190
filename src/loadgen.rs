//! `tollgate bench`: a bounded load generator for a gateway on this machine.
//!
//! It sends usage events in the Amberflo form (`contract/amberflo.md`, section 2) and says how many were acked,
//! how fast, and what that cost in CPU. It shares the machine with the server that it measures, so it has to be
//! cheap: requests are laid out once and only digits change in them, ids and contents are computed from the
//! event's number, and HTTP is written by hand.
//!
//! A run is bounded by events and by time, whatever is asked for. Every request is sent again, with the same ids,
//! until it is acked, refused for good, 60 s have passed or the run is ended early. Every event that was sent ends
//! as exactly one of acked, rejected, refused (not stored), unknown (perhaps stored).
//!
//! Who owns what: the main thread the phases, the clock and the progress bar; each worker thread a tokio runtime
//! of its own with its share of the connections; each connection its buffers and its tally. Between them there are
//! two counters (tickets taken, events acked) and bounded channels.
//!
//! `--overload` measures what the server can do and then offers more, see `overload.rs`. `--sweep` and `--grow` make
//! several runs and draw them, see `series.rs`.
//!
//! It deliberately does not check what the server stored, and it sends no other dialect.

mod args;
mod events;
mod ledger;
mod overload;
mod plot;
mod process;
mod report;
mod schedule;
mod series;
mod tally;
mod wire;
mod worker;

use std::io::Write as _;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
pub use args::BenchArgs;
use args::{ApiKey, EVENTS_MAX, OverloadSize, RATE_MAX, Series, Size};
use events::{Encoding, Mix, RequestBuffer, Workload};
use ledger::{Ledger, Lines};
use overload::{Client, Clients, Offered};
use process::{MemoryWatch, Process};
use report::overload::{OverloadReport, Pace};
use report::{EndedBy, Load, OwnUsage, Report, ServerUsage};
use schedule::Schedule;
use series::PlotFile;
use tally::Tally;
use wire::{Reach, Target};
use worker::{Phase, Phases, Shared, Worker};

/// Connections are opened in this time before the clock starts.
const WARM_UP: Duration = Duration::from_millis(100);
/// How long answers are waited for after the last request of a run that ended early.
const DRAIN_MAX: Duration = Duration::from_secs(10);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How long the server is given to finish what it does after the last ack, and how often it is looked at.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// At least so long: rows are committed when nothing has come for a while.
const SETTLE_MIN: Duration = Duration::from_millis(1_500);
const SETTLE_INTERVAL: Duration = Duration::from_millis(250);
/// CPU time in such an interval that counts as idle: a tick of `/proc`.
const SETTLED_CPU: Duration = Duration::from_millis(10);
const SERVER_ENDED: &str = "the process given by --pid ended during the run";

/// Runs `tollgate bench` to its end: sends, and prints the report to stdout. Blocks; makes its own threads and
/// runtimes, so it must not be called from inside one.
///
/// # Errors
/// Before anything is sent: the URL, the key, the process, the ledger or the file to draw into cannot be used, or nothing listens there.
/// After the report was printed: no event was acked, the ledger is incomplete, or the drawing cannot be written.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    let size = Size::new(&args)?;
    let overload = OverloadSize::new(&args, &size)?;
    let series = Series::new(&args, &size)?;
    let reach = if args.allow_remote { Reach::Anywhere } else { Reach::Loopback };
    let target = Target::find(&args.url, args.key.as_ref().map(ApiKey::reveal), reach)?;
    let runtime = current_thread_runtime()?;
    if runtime.block_on(target.connect()).is_err() {
        bail!("nothing takes connections at {}", args.url);
    }
    let server = args.pid.map(Process::Other);
    if let Some(server) = server {
        server.cpu_time().context("cannot read the CPU time of the process given by --pid")?;
    }
    let plot = args.plot.as_deref().map(PlotFile::open).transpose()?;
    let ledger = args.ledger.as_deref().map(Ledger::open).transpose()?;
    let (ledger, lines) = ledger.unzip();
    let bench = Bench { args: &args, size, target, server, lines, runtime };
    let failure = match (overload, series) {
        (Some(overload), _) => bench.overload(overload)?,
        (None, Some(series)) => bench.series(series, plot)?,
        (None, None) => bench.send()?,
    };
    ledger.map_or(Ok(()), Ledger::finish)?;
    failure.map_or(Ok(()), |failure| bail!(failure))
}

/// What the phases of a run go by.
struct Bench<'a> {
    args: &'a BenchArgs,
    size: Size,
    target: Target,
    server: Option<Process>,
    lines: Option<Lines>,
    runtime: Runtime,
}

impl Bench<'_> {
    fn encoding(&self) -> Encoding {
        if self.args.gzip { Encoding::Gzip } else { Encoding::Identity }
    }

    fn requests(&self, workload: &Workload, connections: u64) -> Vec<RequestBuffer> {
        let new = |_| RequestBuffer::new(workload, self.size.events_per_request as usize, self.target.head(), self.encoding());
        (0..connections).map(new).collect()
    }

    fn shared(&self, workload: Workload, start: Instant, events_max: u64, rate: Option<NonZeroU64>) -> Arc<Shared> {
        let schedule = Schedule::new(start, self.size.events_per_request, events_max, rate);
        Arc::new(Shared { workload, schedule, target: self.target.clone(), events_acked: AtomicU64::new(0) })
    }

    /// Sends what was asked for; gives why it is a failure, if it is one.
    fn send(self) -> anyhow::Result<Option<String>> {
        let report = self.measure(self.size, SETTLE_MAX)?;
        print(&report, self.args.json)?;
        if self.args.pid.is_some() && report.server.is_none() {
            writeln!(std::io::stderr(), "warning: {SERVER_ENDED}")?;
        }
        Ok(report.failure())
    }

    /// One run, and what it found out. The server is given `settle_max` to finish what it does after the last ack.
    fn measure(&self, size: Size, settle_max: Duration) -> anyhow::Result<Report> {
        let workload = workload(self.args, size)?;
        let requests = self.requests(&workload, size.connections);
        let start = Instant::now() + WARM_UP;
        let shared = self.shared(workload, start, size.events_max, size.rate);
        let cpu_before = (Process::Own.cpu_time().ok(), self.server.and_then(|server| server.cpu_time().ok()));
        let End { tally, ended_by, stopped_at } = self.send_all(&shared, start, size, requests)?;

        let own_cpu = since(cpu_before.0, Process::Own.cpu_time().ok());
        let server_usage = match (self.args.pid, cpu_before.1) {
            (Some(pid), Some(before)) => server_usage(pid, before, tally.events_acked, settle_max),
            _ => None,
        };
        let own_usage = own_cpu.map(|cpu| OwnUsage::new(cpu, tally.events_acked));
        let load = Load {
            events_per_request: size.events_per_request,
            connections: size.connections as usize,
            threads: size.threads as usize,
            rate: size.rate.map(NonZeroU64::get),
            is_gzipped: self.args.gzip,
        };
        // A stall before the end of a timed run counts, the waiting for answers after it does not.
        let ended_at = stopped_at.max(tally.last_outcome_at).unwrap_or(start);
        let elapsed = ended_at.saturating_duration_since(start);
        Ok(Report::new(load, ended_by, elapsed, tally, server_usage, own_usage))
    }

    /// Sends over as many connections as there are requests, within the bounds of `size`.
    fn send_all(&self, shared: &Arc<Shared>, start: Instant, size: Size, requests: Vec<RequestBuffer>) -> anyhow::Result<End<Tally>> {
        let (phase, phases) = watch::channel(Phase::Running);
        let phases = Phases::new(phases);
        let workers = (0..)
            .zip(requests)
            .map(|(number, request)| Ok(Worker::new(number, Arc::clone(shared), phases.clone(), request, self.lines.clone())?.run()));
        let threads = Threads::start(size.threads, workers.collect::<anyhow::Result<_>>()?)?;
        let events_max = if size.events_max == EVENTS_MAX { None } else { Some(size.events_max) };
        let conductor = Conductor { shared, events_max, duration_max: size.duration_max, start, phase };
        self.runtime.block_on(conductor.conduct(threads, Tally::new()?))
    }

    /// Measures what the server can do, offers more, and measures again, as the machine may have become busier; gives why it is a
    /// failure, if it is one.
    fn overload(self, overload: OverloadSize) -> anyhow::Result<Option<String>> {
        let before = self.capacity(overload.measuring)?;
        let rate = NonZeroU64::new((before.events_per_second() * overload.factor) as u64).filter(|rate| rate.get() <= RATE_MAX);
        let rate = rate.with_context(|| format!("{} × what the server can do cannot be offered", overload.factor))?;
        let own_before = Process::Own.cpu_time().ok();
        let (offered, during, resident) = self.offer(overload, rate)?;
        let own_cpu = since(own_before, Process::Own.cpu_time().ok());
        let after = self.capacity(overload.measuring)?;
        let report = OverloadReport::new(overload, rate.get(), [before, during, after], offered, resident, own_cpu);
        print(&report, self.args.json)?;
        Ok(report.failure())
    }

    fn offer(&self, overload: OverloadSize, rate: NonZeroU64) -> anyhow::Result<(Offered, Pace, Option<Vec<u64>>)> {
        let workload = workload(self.args, Size { rate: Some(rate), ..self.size })?;
        let requests = self.requests(&workload, overload.clients);
        let start = Instant::now() + WARM_UP;
        let shared = self.shared(workload, start, EVENTS_MAX, Some(rate));
        let clients = Arc::new(Clients::new(shared.clone(), overload.timeout));
        let memory = self.server.map(|server| MemoryWatch::start(server, start)).transpose()?;
        let cpu_before = self.server.and_then(|server| server.cpu_time().ok());
        let (phase, phases) = watch::channel(Phase::Running);
        let phases = Phases::new(phases);
        let running = (0..)
            .zip(requests)
            .map(|(number, request)| Ok(Client::new(number, clients.clone(), phases.clone(), request, self.lines.clone())?.run()));
        let threads = Threads::start(self.size.threads, running.collect::<anyhow::Result<_>>()?)?;
        let conductor = Conductor { shared: &shared, events_max: None, duration_max: overload.offering, start, phase };
        let End { tally: mut offered, stopped_at, .. } = self.runtime.block_on(conductor.conduct(threads, Offered::new()?))?;
        let resident = memory.map(MemoryWatch::stop);
        offered.leave(&clients);
        // What is answered after the end counts, and so does the time until then.
        let ended_at = stopped_at.max(offered.tally.last_outcome_at).unwrap_or(start);
        let elapsed = ended_at.saturating_duration_since(start);
        let pace = Pace { elapsed, events: offered.tally.events_acked, server_cpu: self.settled_cpu(cpu_before) };
        Ok((offered, pace, resident))
    }

    /// What a closed loop gets done. Its events go into the ledger as well: what is acked is acked.
    fn capacity(&self, measuring: Duration) -> anyhow::Result<Pace> {
        let size = Size { events_max: EVENTS_MAX, duration_max: measuring, ..self.size };
        let workload = workload(self.args, size)?;
        let requests = self.requests(&workload, size.connections);
        let start = Instant::now() + WARM_UP;
        let shared = self.shared(workload, start, size.events_max, None);
        let cpu_before = self.server.and_then(|server| server.cpu_time().ok());
        let End { tally, stopped_at, .. } = self.send_all(&shared, start, size, requests)?;
        let ended_at = stopped_at.max(tally.last_outcome_at).unwrap_or(start);
        ensure!(tally.events_acked > 0, "no event was acked: {}", tally.first_bad_answer.unwrap_or_default());
        let elapsed = ended_at.saturating_duration_since(start);
        Ok(Pace { elapsed, events: tally.events_acked, server_cpu: self.settled_cpu(cpu_before) })
    }

    /// The server's CPU time since `before`, once it is idle again.
    fn settled_cpu(&self, before: Option<Duration>) -> Option<Duration> {
        until_idle(self.server?, before?, SETTLE_MAX)
    }
}

fn workload(args: &BenchArgs, size: Size) -> anyhow::Result<Workload> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).context("the system has no random numbers")?;
    let start_ms = u64::try_from(Clock::start().now().0).context("the system clock stands before 1970")?;
    let mix = Mix {
        events_per_request: size.events_per_request,
        customers: args.customers,
        meters: args.meters,
        dimension_sets: args.dimension_sets,
        repeated_millionths: args.duplicates.millionths,
        late_millionths: args.late.millionths,
        rate: size.rate,
    };
    Ok(Workload::new(u128::from_ne_bytes(random), start_ms, mix))
}

fn print<R: serde::Serialize + std::fmt::Display>(report: &R, as_json: bool) -> anyhow::Result<()> {
    let text = if as_json { serde_json::to_string(report)? + "\n" } else { report.to_string() };
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot print the report")
}

fn current_thread_runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start a tokio runtime")
}

fn since(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    after?.checked_sub(before?)
}

/// The server's CPU time since `before`, once now and once when it is idle again. `None` if it is gone.
fn server_usage(pid: u32, before: Duration, events: u64, settle_max: Duration) -> Option<ServerUsage> {
    let server = Process::Other(pid);
    let while_loaded = server.cpu_time().ok()?.checked_sub(before)?;
    let until_idle = until_idle(server, before, settle_max)?;
    Some(ServerUsage::new(pid, while_loaded, until_idle, server.memory().ok()?, events))
}

/// Waits until the server is idle, but not for ever; gives its CPU time since `before`. `None` if it is gone.
fn until_idle(server: Process, before: Duration, settle_max: Duration) -> Option<Duration> {
    let used = || server.cpu_time().ok()?.checked_sub(before);
    let (idle_from, give_up_at) = (Instant::now() + SETTLE_MIN, Instant::now() + settle_max);
    let mut until_idle = used()?;
    loop {
        std::thread::sleep(SETTLE_INTERVAL);
        let now = used()?;
        let is_idle = now - until_idle <= SETTLED_CPU && Instant::now() >= idle_from;
        until_idle = now;
        if is_idle || Instant::now() >= give_up_at {
            return Some(until_idle);
        }
    }
}

/// What connections count, each for itself and all together.
trait Counts: Sized + Send + 'static {
    fn zero() -> anyhow::Result<Self>;
    fn sum(&mut self, other: Self) -> anyhow::Result<()>;
}

impl Counts for Tally {
    fn zero() -> anyhow::Result<Self> {
        Self::new()
    }

    fn sum(&mut self, other: Self) -> anyhow::Result<()> {
        self.add(other)
    }
}

impl Counts for Offered {
    fn zero() -> anyhow::Result<Self> {
        Self::new()
    }

    fn sum(&mut self, other: Self) -> anyhow::Result<()> {
        self.add(other)
    }
}

/// The threads that send.
struct Threads<C> {
    handles: Vec<JoinHandle<()>>,
    /// One result a thread; closed when all have ended.
    results: mpsc::Receiver<anyhow::Result<C>>,
}

impl<C: Counts> Threads<C> {
    /// Starts `threads` of them, each with its share of the connections. What those hold of the ledger ends with them.
    fn start(threads: u64, connections: Vec<impl Future<Output = anyhow::Result<C>> + Send + 'static>) -> anyhow::Result<Self> {
        let mut shares: Vec<_> = (0..threads).map(|_| Vec::new()).collect();
        for (number, connection) in (0..).zip(connections) {
            shares[(number % threads) as usize].push(connection);
        }
        let (done, results) = mpsc::channel(shares.len());
        let mut handles = Vec::with_capacity(shares.len());
        for (thread, share) in shares.into_iter().enumerate() {
            let done = done.clone();
            let handle = std::thread::Builder::new()
                .name(format!("bench-{thread}"))
                .spawn(move || {
                    // The receiver lives until all threads have ended, and there is room for each.
                    drop(done.blocking_send(run_connections(share)));
                })
                .context("cannot start a thread")?;
            handles.push(handle);
        }
        Ok(Self { handles, results })
    }
}

/// Runs connections on the calling thread until all have ended.
fn run_connections<C: Counts>(connections: Vec<impl Future<Output = anyhow::Result<C>> + Send + 'static>) -> anyhow::Result<C> {
    current_thread_runtime()?.block_on(async {
        let mut running = JoinSet::new();
        for connection in connections {
            running.spawn(connection);
        }
        let mut sum = C::zero()?;
        while let Some(ended) = running.join_next().await {
            sum.sum(ended.context("a connection's task panicked")??)?;
        }
        Ok(sum)
    })
}

/// How a run ended.
struct End<C> {
    tally: C,
    ended_by: EndedBy,
    /// When the last request was permitted, if the run was ended early.
    stopped_at: Option<Instant>,
}

/// Ends the run when it has to end, and shows how far it is.
struct Conductor<'a> {
    shared: &'a Shared,
    /// `None`: bounded by time alone.
    events_max: Option<u64>,
    duration_max: Duration,
    start: Instant,
    phase: watch::Sender<Phase>,
}

impl Conductor<'_> {
    async fn conduct<C: Counts>(self, mut threads: Threads<C>, mut tally: C) -> anyhow::Result<End<C>> {
        let bar = self.progress_bar()?;
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        let mut deadline = tokio::time::Instant::from(self.start + self.duration_max);
        let mut stop: Option<(EndedBy, Instant)> = None;
        // Kept across the turns of the loop: one that is made anew misses what was pressed in between.
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            tokio::select! {
                biased;
                result = threads.results.recv() => match result {
                    Some(part) => tally.sum(part?)?,
                    None => break,
                },
                pressed = &mut interrupt => {
                    pressed.context("cannot wait for Ctrl-C")?;
                    interrupt.set(tokio::signal::ctrl_c());
                    stop.get_or_insert((EndedBy::Interrupt, Instant::now()));
                    deadline = self.advance();
                }
                () = tokio::time::sleep_until(deadline) => {
                    stop.get_or_insert((EndedBy::Duration, Instant::now()));
                    deadline = self.advance();
                }
                _ = tick.tick() => self.show(&bar),
            }
        }
        bar.finish_and_clear();
        for handle in threads.handles {
            ensure!(handle.join().is_ok(), "a thread panicked");
        }
        let (ended_by, stopped_at) = stop.unzip();
        Ok(End { tally, ended_by: ended_by.unwrap_or(EndedBy::Events), stopped_at })
    }

    /// One phase on; returns when the next one is due. The first Ctrl-C or the deadline stops new requests, the
    /// second one the waiting for answers.
    fn advance(&self) -> tokio::time::Instant {
        self.phase.send_modify(|phase| {
            *phase = match *phase {
                Phase::Running => Phase::Draining,
                Phase::Draining | Phase::Abandoned => Phase::Abandoned,
            }
        });
        tokio::time::Instant::now() + DRAIN_MAX
    }

    /// A bar over the events, or over the time where that is the only bound that was given.
    fn progress_bar(&self) -> anyhow::Result<ProgressBar> {
        let length = self.events_max.unwrap_or(self.duration_max.as_secs());
        let bar = ProgressBar::new(length); // on stderr, hidden if that is no terminal
        bar.set_style(ProgressStyle::with_template("{elapsed_precise} {wide_bar} {percent:>3} % {msg}")?);
        Ok(bar)
    }

    fn show(&self, bar: &ProgressBar) {
        let acked = self.shared.events_acked.load(Ordering::Relaxed);
        let elapsed = self.start.elapsed();
        bar.set_position(if self.events_max.is_none() { elapsed.as_secs() } else { acked });
        let rate = acked as f64 / elapsed.as_secs_f64().max(0.001);
        bar.set_message(format!("{} acked, {}/s", HumanCount(acked), HumanCount(rate as u64)));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    #[test]
    fn a_server_elsewhere_is_refused_before_anything_is_sent() {
        let cli = Cli::try_parse_from(["bench", "--url", "http://192.0.2.1:8080"]).expect("accepted");
        let error = run(cli.bench).expect_err("refused");
        assert!(error.to_string().contains("--allow-remote"), "{error}");
    }
}
