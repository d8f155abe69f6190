//! `tollgate serve`: builds every part bottom-up, serves until told to stop, drains along the way of the events.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::announce::announce;
use crate::accounts::{DefaultAccount, KeyRing};
use crate::api;
use crate::batch::Batcher;
use crate::clock::Clock;
use crate::config::{Config, TlsConfig};
use crate::customers::Customers;
use crate::data_dir::{self, DataDir};
use crate::gateway::body::BodyLimits;
use crate::gateway::budget::Budget;
use crate::gateway::recent::RecentIds;
use crate::gateway::{self, Gateway};
use crate::log::Appender;
use crate::log::disk::room::{Room, WaitingDisk};
use crate::log::disk::{Disk, RealDisk};
use crate::log::embedded::{EmbeddedAppender, EmbeddedLog, LogIdentity, Recovered};
use crate::log::meta::{self, LogMeta};
use crate::materializer::{self, Materializer, Running};
use crate::ops::backup;
use crate::ops::control::Control;
use crate::server::{self, ConnectionLimits, Ops, Service};
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;
use crate::telemetry;
use crate::verdicts::Verdicts;

/// Connections that wait to be accepted, among them those that come while the log is recovered.
const BACKLOG: u32 = 4_096;
/// How often it is checked that every part is alive.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(config: Config, admin_key: Option<String>) -> anyhow::Result<()> {
    telemetry::install_logs(&config.logging.filter, config.logging.format).context("logging.filter cannot be read")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("http").build().context("no runtime")?;
    runtime.block_on(serve(config, admin_key))
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
    data_dir: DataDir,
}

async fn serve(config: Config, admin_key: Option<String>) -> anyhow::Result<()> {
    tracing::info!(?config, "settings");
    let metrics = telemetry::install_metrics().context("the metrics cannot be set up")?;
    let clock = Clock::start();
    let signals = Signals::listen()?;
    // Bound first: clients that come while the log is recovered wait instead of being refused.
    let listener = bind(config.listen)?;
    let ops_listener = config.ops_listen.map(bind).transpose()?;
    let tls = config.tls.as_ref().map(tls_acceptor).transpose()?;
    let parts = open(&config, &clock)?;
    let default_account = DefaultAccount { admin_key: admin_key.as_deref(), identity: config.default_account.identity };
    let (keys, admin_key) = KeyRing::open(&*parts.store, &default_account, clock.now()).context("the accounts cannot be used")?;
    let draining = Arc::new(AtomicBool::new(false));
    let budget = Budget::new(config.ingest.in_flight_bytes_max, config.ingest.room_wait);
    let ops = Ops {
        metrics,
        budget: budget.clone(),
        recent: parts.recent.clone(),
        materializer: parts.materializer.clone(),
        draining: draining.clone(),
    };
    if let Some(listener) = ops_listener {
        tracing::info!(address = %listener.local_addr()?, "health and metrics are served on an address of their own");
        tokio::spawn(server::serve_ops(listener, ops.clone()));
    }
    let control = control(&parts, &clock, draining.clone());
    let service = service(&config, &parts, Arc::new(keys), budget, ops, &clock);
    let address = listener.local_addr().context("the listening address is not known")?;
    announce(address, tls.is_some(), &config.data_dir, &admin_key, clock.now());
    let limits = ConnectionLimits {
        connections_max: config.http.connections_max,
        header_timeout: config.http.header_timeout,
        idle_timeout: config.http.idle_timeout,
    };
    let mut ended = None;
    let stop = async {
        ended = told_to_stop(&parts, signals).await;
        draining.store(true, Ordering::Release);
        tracing::info!("stopping: no further connection is accepted, requests under way are answered");
    };
    server::serve(listener, tls, service, limits, stop, config.http.drain_timeout).await;
    stop_control(control).await;
    let drained = tokio::task::spawn_blocking(move || drain(parts)).await.context("draining was interrupted")?;
    match ended {
        Some(part) => drained.and(Err(anyhow::anyhow!("it gave no reason"))).with_context(|| format!("{part} ended unasked")),
        None => drained,
    }
}

/// Answers operators on this machine. Without the socket everything else goes on: a backup then needs the gateway stopped.
fn control(parts: &Parts, clock: &Clock, stopping: Arc<AtomicBool>) -> Option<tokio::task::JoinHandle<()>> {
    let control = Control::bind(parts.data_dir.path())
        .inspect_err(|error| tracing::warn!(%error, "no control socket; `tollgate backup` needs the gateway stopped"));
    let source = backup::Source {
        data_dir: parts.data_dir.path().to_owned(),
        meta: parts.meta,
        log: parts.log.clone(),
        dead_letters: parts.dead_letters_log.clone(),
        store: parts.store.clone(),
    };
    Some(tokio::spawn(control.ok()?.serve(source, clock.clone(), stopping)))
}

async fn stop_control(control: Option<tokio::task::JoinHandle<()>>) {
    if let Some(control) = control {
        control.abort();
        // Aborted, which is what was wanted; the socket is gone then.
        drop(control.await);
    }
}

fn service(config: &Config, parts: &Parts, keys: Arc<KeyRing>, budget: Budget, ops: Ops, clock: &Clock) -> Arc<Service> {
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
    let gateway = Gateway {
        settings,
        keys: keys.clone(),
        budget: budget.clone(),
        recent: parts.recent.clone(),
        events: parts.events.clone(),
        dead_letters: parts.dead_letters.clone(),
        hash_key: parts.meta.hash_key,
        clock: clock.clone(),
    };
    let verdicts = Verdicts {
        log: parts.log.clone(),
        dead_letters: parts.dead_letters_log.clone(),
        materializer: parts.materializer.clone(),
        hash_key: parts.meta.hash_key,
        clock: clock.clone(),
    };
    let router = api::router(api::Parts {
        verdicts: Arc::new(verdicts),
        customers: Arc::new(Customers::new(parts.store.clone(), clock.clone())),
        materializer: parts.materializer.clone(),
        dead_letters: parts.dead_letters_log.clone(),
        clock: clock.clone(),
    });
    Arc::new(Service { gateway, router, keys, budget, ops, serves_ops: config.ops_listen.is_none(), http: config.http.clone() })
}

fn open(config: &Config, clock: &Clock) -> anyhow::Result<Parts> {
    let data_dir = DataDir::lock(&config.data_dir)?;
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
        bases: Some(materializer::BaseSettings { dir: data_dir.join(data_dir::BASE), log: config.events_log() }),
    };
    let (materializer, materializing) = Materializer::start(parts).context("the rows do not fit the log")?;
    let runtime = tokio::runtime::Handle::current();
    let recent = recent_ids(config);
    let settled = Arc::new(gateway::Settled(recent.clone()));
    let (events, events_thread) = Batcher::start("events", appender, &runtime, settled).context("no thread for the log")?;
    let (dead_letters, dead_letters_thread) =
        Batcher::start("dead_letters", letters_appender, &runtime, Arc::new(())).context("no thread for the dead letters")?;
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
        data_dir,
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

/// What tells the process to stop. Heard from before anybody can know that it runs.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be heard");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }
}

/// Waits for a signal (`None`) or for a part that ends unasked (its name).
async fn told_to_stop(parts: &Parts, mut signals: Signals) -> Option<&'static str> {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return None,
            _ = signals.interrupt.recv() => return None,
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

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
        // A restart must not wait for the last process's connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().with_context(|| format!("cannot listen on {address}; --listen takes another address or port"))
}

fn tls_acceptor(tls: &TlsConfig) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&tls.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| format!("the certificate {} cannot be read", tls.cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).with_context(|| format!("the private key {} cannot be read", tls.key.display()))?;
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).context("certificate and key do not fit")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
