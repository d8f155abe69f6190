//! `tollgate serve`: builds every part bottom-up, serves until told to stop, drains along the way of the events.

mod arrival;

use std::cell::OnceCell;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;

use super::announce::announce;
use crate::accounts::audit::Audit;
use crate::accounts::{Accounts, DefaultAccount};
use crate::api;
use crate::batch::Batcher;
use crate::clock::Clock;
use crate::config::Config;
use crate::customers::Customers;
use crate::data_dir::{self, DataDir};
use crate::gateway::body::BodyLimits;
use crate::gateway::budget::Budget;
use crate::gateway::recent::RecentIds;
use crate::gateway::{self, Gateway};
use crate::letters::{self, Ledger, Letters};
use crate::log::Appender;
use crate::log::disk::room::{Room, WaitingDisk};
use crate::log::disk::{Disk, RealDisk};
use crate::log::embedded::{EmbeddedAppender, EmbeddedLog, LogIdentity, Recovered};
use crate::log::meta::{self, LogMeta};
use crate::materializer::{self, Materializer, Running};
use crate::ops::backup;
use crate::ops::control::Control;
use crate::ops::handover::Handover;
use crate::server::sockets::Sockets;
use crate::server::tls::{Reloader, Tls};
use crate::server::{self, ConnectionLimits, Ops, Service, descriptors};
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;
use crate::telemetry::{self, RoomKind};
use crate::verdicts::Verdicts;
use arrival::Place;

/// How often it is checked that every part is alive.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Serves until SIGTERM or SIGINT, or until another process has taken the place of this one.
pub(super) fn run(config: Config, admin_key: Option<String>) -> anyhow::Result<()> {
    let passed = Sockets::passed_by_systemd().context("the sockets that systemd passed cannot be used")?;
    telemetry::install_logs(&config.logging.filter, config.logging.format).context("logging.filter cannot be read")?;
    let held = OnceCell::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("http").build().context("no runtime")?;
    let ended = runtime.block_on(serve(config, admin_key, passed, &held));
    // With the last of its tasks goes the last handle to the rows. Only then the data directory is another process's to take.
    drop(runtime);
    drop(held);
    ended
}

/// Room for requests that are neither events nor an operator's: queries, customers, keys. Their own, so that a flood of events does not
/// keep anybody from asking, nor the other way round. Twice the largest of them, inflated.
const API_ROOM_BYTES: usize = 32 << 20;

/// Room for requests.
struct Budgets {
    ingest: Budget,
    api: Budget,
}

impl Budgets {
    fn new(config: &Config) -> Self {
        let wait = config.ingest.room_wait;
        Self {
            ingest: Budget::new(RoomKind::Ingest, config.ingest.in_flight_bytes_max, wait),
            api: Budget::new(RoomKind::Api, API_ROOM_BYTES, wait),
        }
    }
}

/// The parts with threads and files of their own, in the order in which they are stopped.
struct Parts {
    recent: RecentIds,
    events: Batcher,
    events_thread: JoinHandle<EmbeddedAppender>,
    dead_letters: Batcher,
    dead_letters_thread: JoinHandle<EmbeddedAppender>,
    log: Arc<EmbeddedLog>,
    dead_letters_log: Arc<EmbeddedLog>,
    materializer: Materializer,
    materializing: Running,
    store: Arc<dyn Store>,
    room: Arc<Room>,
    meta: LogMeta,
    data_dir: PathBuf,
}

async fn serve(config: Config, admin_key: Option<String>, passed: Sockets, held: &OnceCell<DataDir>) -> anyhow::Result<()> {
    tracing::info!(?config, "settings");
    let metrics = telemetry::install_metrics().context("the metrics cannot be set up")?;
    let clock = Clock::start();
    let mut signals = Signals::listen()?;
    // What can be wrong is looked at before another process is told to stop.
    let tls = config.tls.as_ref().map(|files| Tls::load(files, &clock)).transpose()?;
    let (tls, reloader) = tls.unzip();
    let Some(Place { listeners, data_dir }) = arrival::arrive(&config, passed, &mut signals).await? else { return Ok(()) };
    let budgets = Budgets::new(&config);
    let parts = open(&config, held.get_or_init(|| data_dir), &clock, budgets.ingest.requests_max())?;
    let default_account = DefaultAccount { admin_key: admin_key.as_deref(), identity: config.default_account.identity };
    let opened = Accounts::open(parts.store.clone(), &default_account, clock.clone());
    let (accounts, admin_key) = opened.context("the accounts cannot be used")?;
    let draining = Arc::new(AtomicBool::new(false));
    let ops = Ops {
        metrics,
        budgets: [budgets.ingest.clone(), budgets.api.clone()],
        recent: parts.recent.clone(),
        disk: parts.room.clone(),
        materializer: parts.materializer.clone(),
        draining: draining.clone(),
    };
    let handover = Arc::new(Handover::of(&listeners).context("the listening sockets cannot be copied")?);
    let control = control(&parts, handover.clone(), &clock, draining.clone());
    let limits = limits(&config);
    let mut service = service(&config, &parts, Arc::new(accounts), budgets, ops.clone(), &clock);
    if let Some(listener) = listeners.ops {
        tracing::info!(address = %listener.local_addr()?, "health and metrics are served on an address of their own");
        service.serves_ops = false;
        tokio::spawn(server::serve_ops(listener, ops, limits.clone()));
    }
    let address = listeners.main.local_addr().context("the listening address is not known")?;
    announce(address, tls.is_some(), &config.data_dir, &admin_key, clock.now());
    let Signals { stop: mut told, hangup } = signals;
    tokio::spawn(reload(reloader, hangup));
    let mut ended = None;
    let stop = async {
        ended = told_to_stop(&parts, &mut told, &handover).await;
        draining.store(true, Ordering::Release);
        handover.close();
        tracing::info!("stopping: requests under way are answered, connections get their last answer");
    };
    server::serve(listeners.main, tls, Arc::new(service), limits, stop).await;
    stop_control(control).await;
    let drained = tokio::task::spawn_blocking(move || drain(parts)).await.context("draining was interrupted")?;
    match ended {
        Some(part) => drained.and(Err(anyhow::anyhow!("it gave no reason"))).with_context(|| format!("{part} ended unasked")),
        None => drained,
    }
}

fn limits(config: &Config) -> ConnectionLimits {
    let http = &config.http;
    ConnectionLimits {
        connections_max: descriptors::make_room(http.connections_max),
        header_timeout: http.header_timeout,
        idle_timeout: http.idle_timeout,
        answer_idle_timeout: http.answer_idle_timeout,
        drain_idle: http.drain_idle,
        drain_timeout: http.drain_timeout,
    }
}

/// Reads certificates again when they change, or at SIGHUP.
async fn reload(reloader: Option<Reloader>, mut hangup: Signal) {
    match reloader {
        Some(reloader) => reloader.run(hangup).await,
        // Where there is nothing to read again, SIGHUP is still no reason to end.
        None => {
            while hangup.recv().await.is_some() {
                tracing::info!("nothing is read again at SIGHUP: there is no certificate");
            }
        }
    }
}

/// Answers operators on this machine. Without the socket everything else goes on: a backup then needs the gateway stopped.
fn control(parts: &Parts, handover: Arc<Handover>, clock: &Clock, stopping: Arc<AtomicBool>) -> Option<tokio::task::JoinHandle<()>> {
    let control = Control::bind(&parts.data_dir)
        .inspect_err(|error| tracing::warn!(%error, "no control socket; `tollgate backup` and `--take-over` need the gateway stopped"));
    let source = backup::Source {
        data_dir: parts.data_dir.clone(),
        meta: parts.meta,
        log: parts.log.clone(),
        dead_letters: parts.dead_letters_log.clone(),
        store: parts.store.clone(),
    };
    Some(tokio::spawn(control.ok()?.serve(source, handover, clock.clone(), stopping)))
}

async fn stop_control(control: Option<tokio::task::JoinHandle<()>>) {
    if let Some(control) = control {
        control.abort();
        // Aborted, which is what was wanted; the socket is gone then.
        drop(control.await);
    }
}

fn service(config: &Config, parts: &Parts, accounts: Arc<Accounts>, budgets: Budgets, ops: Ops, clock: &Clock) -> Service {
    let keys = accounts.ring();
    let ingest = &config.ingest;
    let settings = gateway::Settings {
        body: BodyLimits {
            wire_max: ingest.body_bytes_max,
            inflated_max: ingest.inflated_bytes_max,
            idle: config.http.body_idle_timeout,
            total: config.http.body_timeout,
        },
        events_max: ingest.events_max,
        event_bytes_max: ingest.event_bytes_max,
        window: config.time_window(),
    };
    let gateway = Arc::new(Gateway {
        settings,
        keys: keys.clone(),
        budget: budgets.ingest,
        recent: parts.recent.clone(),
        events: parts.events.clone(),
        dead_letters: parts.dead_letters.clone(),
        hash_key: parts.meta.hash_key,
        clock: clock.clone(),
        large_parses: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))),
    });
    let ledger = Arc::new(Ledger::new(parts.dead_letters_log.clone()));
    tokio::spawn(letters::follow(ledger.clone()));
    let letters = Arc::new(Letters::new(ledger, parts.dead_letters.clone(), clock.clone()));
    let verdicts = Verdicts {
        log: parts.log.clone(),
        letters: letters.clone(),
        materializer: parts.materializer.clone(),
        hash_key: parts.meta.hash_key,
        clock: clock.clone(),
        reconciling: tokio::sync::Mutex::default(),
    };
    let router = api::router(api::Parts {
        accounts,
        audit: Arc::new(Audit::new(parts.store.clone(), clock.clone())),
        verdicts: Arc::new(verdicts),
        customers: Arc::new(Customers::new(parts.store.clone(), clock.clone())),
        materializer: parts.materializer.clone(),
        letters,
        gateway: gateway.clone(),
        clock: clock.clone(),
    });
    Service { gateway, router, keys, budget: budgets.api, ops, serves_ops: true, http: config.http.clone() }
}

fn open(config: &Config, data_dir: &DataDir, clock: &Clock, requests_max: usize) -> anyhow::Result<Parts> {
    data_dir.remove_leftovers().context("what an earlier process left unfinished cannot be removed")?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let log_dir = data_dir.join(data_dir::LOG);
    disk.create_dir(&log_dir).with_context(|| format!("{} cannot be made", log_dir.display()))?;
    let meta = meta::open_or_create(&*disk, &log_dir, config.fold())?;
    let identity = |name| LogIdentity { log_id: meta.log_id, name };
    let (log, appender, recovered) =
        EmbeddedLog::open(disk.clone(), &log_dir, identity("events"), config.events_log()).context("the log cannot be opened")?;
    report(&log_dir, &recovered);
    let letters_dir = data_dir.join(data_dir::DEAD_LETTERS);
    let opened = EmbeddedLog::open(disk.clone(), &letters_dir, identity("dead_letters"), config.dead_letters_log());
    let (dead_letters_log, letters_appender, recovered) = opened.context("the dead letters cannot be opened")?;
    report(&letters_dir, &recovered);
    // Nothing is derived from dead letters: retention may take them as it likes.
    dead_letters_log.keep_from(crate::log::Position(u64::MAX));
    // Rows and index can wait where events are refused.
    let room = Room::new(disk, &config.data_dir, config.log.disk_reserve_bytes);
    let disk: Arc<dyn Disk> = Arc::new(WaitingDisk::new(room.clone()));
    let store = EmbeddedStore::open_with_room(&room, &data_dir.join(data_dir::STORE)).context("the rows cannot be opened")?;
    let store: Arc<dyn Store> = Arc::new(store);
    let parts = materializer::Parts {
        log: log.clone(),
        meta,
        store: store.clone(),
        disk,
        index_dir: data_dir.join(data_dir::INDEX),
        clock: clock.clone(),
        bases: Some(materializer::BaseSettings { dir: data_dir.join(data_dir::BASE), log: log.clone(), retention: config.events_log() }),
    };
    let (materializer, materializing) = Materializer::start(parts).context("the rows do not fit the log")?;
    let runtime = tokio::runtime::Handle::current();
    let recent = recent_ids(config);
    let settled = Arc::new(gateway::Settled(recent.clone()));
    let (events, events_thread) = Batcher::start("events", appender, &runtime, requests_max, settled).context("no thread for the log")?;
    let (dead_letters, dead_letters_thread) =
        Batcher::start("dead_letters", letters_appender, &runtime, requests_max, Arc::new(())).context("no thread for the dead letters")?;
    Ok(Parts {
        recent,
        events,
        events_thread,
        dead_letters,
        dead_letters_thread,
        log,
        dead_letters_log,
        materializer,
        materializing,
        store,
        room,
        meta,
        data_dir: data_dir.path().to_owned(),
    })
}

fn recent_ids(config: &Config) -> RecentIds {
    let settings = config.recent_ids();
    if settings.bytes_max == 0 && config.recent_ids.bytes_max > 0 {
        tracing::info!("recent ids are off: with log.dedup_horizon they need ingest.max_event_age and ingest.max_event_future");
    }
    RecentIds::new(settings)
}

fn report(dir: &Path, recovered: &Recovered) {
    if *recovered != Recovered::default() {
        let Recovered { records, torn_bytes } = recovered;
        tracing::warn!(dir = %dir.display(), records, torn_bytes, "the last process did not end in good order; its open segment was checked and copied");
    }
}

/// What the process is told from outside. Heard from before anybody can know that it runs.
struct Signals {
    stop: Stop,
    hangup: Signal,
}

/// What tells the process to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be heard");
        let stop = Stop { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? };
        Ok(Self { stop, hangup: listen(SignalKind::hangup())? })
    }
}

impl Stop {
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for a signal, or for a process that takes the place of this one (`None`), or for a part that ends unasked (its name).
async fn told_to_stop(parts: &Parts, stop: &mut Stop, handover: &Handover) -> Option<&'static str> {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            () = stop.told() => return None,
            () = handover.taken() => {
                tracing::info!("another process has the listening sockets and waits for the data directory");
                return None;
            }
            _ = heartbeat.tick() => parts.recent.expire(),
        }
        if parts.materializing.has_ended() {
            return Some("the materializer");
        }
        if parts.events_thread.is_finished() || parts.dead_letters_thread.is_finished() {
            return Some("an appender");
        }
    }
}

/// Stops what is behind the door, along the way of the events. The service, with its handles, is gone already.
fn drain(parts: Parts) -> anyhow::Result<()> {
    let Parts { events, events_thread, dead_letters, dead_letters_thread, materializer, materializing, room, .. } = parts;
    drop((events, dead_letters, materializer));
    room.give_up();
    let logs = [("the log", events_thread), ("the dead letters", dead_letters_thread)];
    let closed: Vec<anyhow::Result<()>> = logs.into_iter().map(|(name, thread)| close(name, thread)).collect();
    materializing
        .stop()
        .context("the events could not be folded and committed; nothing is lost, the next start goes on from the last commit")?;
    closed.into_iter().collect::<anyhow::Result<()>>()?;
    tracing::info!("stopped in good order");
    Ok(())
}

fn close(name: &str, thread: JoinHandle<EmbeddedAppender>) -> anyhow::Result<()> {
    let mut appender = thread.join().map_err(|_| anyhow::anyhow!("the thread of {name} panicked"))?;
    appender.close().with_context(|| format!("{name} could not be closed; the next start recovers it"))
}
