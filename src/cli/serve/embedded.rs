//! Log and rows in the data directory: the default.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;

use super::{Parts, Shell};
use crate::batch::Batcher;
use crate::data_dir::{self, DataDir};
use crate::gateway;
use crate::letters::UndecodableLetters;
use crate::log::Position;
use crate::log::disk::room::{Room, WaitingDisk};
use crate::log::disk::{Disk, RealDisk};
use crate::log::embedded::{EmbeddedAppender, EmbeddedLog, LogIdentity, Recovered};
use crate::log::meta;
use crate::materializer::{self, Materializer, Running};
use crate::ops::backup;
use crate::server::Readiness;
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;

/// What is stopped last.
pub(super) struct Back {
    events_thread: JoinHandle<EmbeddedAppender>,
    dead_letters_thread: JoinHandle<EmbeddedAppender>,
    materializing: Running,
    undecodable: Arc<UndecodableLetters>,
    room: Arc<Room>,
}

/// Opens log, letters, rows and index, and starts their threads.
pub(super) fn open(shell: &Shell, data_dir: &DataDir) -> anyhow::Result<Parts> {
    let config = &shell.config;
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
    dead_letters_log.keep_from(Position(u64::MAX));
    // Rows and index can wait where events are refused.
    let room = shell.room.clone();
    let disk: Arc<dyn Disk> = Arc::new(WaitingDisk::new(room.clone()));
    let store = EmbeddedStore::open_with_room(&room, &data_dir.join(data_dir::STORE)).context("the rows cannot be opened")?;
    let store: Arc<dyn Store> = Arc::new(store);
    let (runtime, requests_max) = (&shell.runtime, shell.requests_max());
    let (dead_letters, dead_letters_thread) =
        Batcher::start("dead_letters", letters_appender, runtime, requests_max, Arc::new(())).context("no thread for the dead letters")?;
    let undecodable = Arc::new(UndecodableLetters::new(dead_letters.clone(), runtime.clone(), shell.clock.clone()));
    let parts = materializer::Parts {
        log: log.clone(),
        meta,
        store: store.clone(),
        disk,
        index_dir: data_dir.join(data_dir::INDEX),
        clock: shell.clock.clone(),
        commit_interval: materializer::commit_interval(),
        bases: Some(materializer::BaseSettings { dir: data_dir.join(data_dir::BASE), log: log.clone(), retention: config.events_log() }),
        undecodable: Some(undecodable.clone()),
    };
    let (materializer, materializing) = Materializer::start(parts).context("the rows do not fit the log")?;
    let settled = Arc::new(gateway::Settled(shell.recent.clone()));
    let (events, events_thread) = Batcher::start("events", appender, runtime, requests_max, settled).context("no thread for the log")?;
    let copied = backup::Source {
        data_dir: data_dir.path().to_owned(),
        meta,
        log: log.clone(),
        dead_letters: dead_letters_log.clone(),
        store: store.clone(),
    };
    Ok(Parts {
        events,
        dead_letters,
        dead_letters_log,
        log: vec![log],
        source: Arc::new(materializer.clone()),
        owners: Arc::new(materializer.clone()),
        store,
        meta,
        copied: Some(copied),
        internal: None,
        readiness: Arc::new(materializer),
        back: super::Back::Embedded(Back { events_thread, dead_letters_thread, materializing, undecodable, room }),
    })
}

/// The one node of an embedded log is ready when it has recovered.
impl Readiness for Materializer {
    fn missing(&self) -> Vec<String> {
        if self.is_ready() { Vec::new() } else { vec![format!("recovering: folding the log from position {}", self.folded())] }
    }
}

fn report(dir: &Path, recovered: &Recovered) {
    if *recovered != Recovered::default() {
        let Recovered { records, torn_bytes } = recovered;
        tracing::warn!(dir = %dir.display(), records, torn_bytes, "the last process did not end in good order; its open segment was checked and copied");
    }
}

impl Back {
    pub(super) fn ended(&self) -> Option<&'static str> {
        if self.materializing.has_ended() {
            return Some("the materializer");
        }
        (self.events_thread.is_finished() || self.dead_letters_thread.is_finished()).then_some("an appender")
    }

    pub(super) fn drain(self) -> anyhow::Result<()> {
        let Self { events_thread, dead_letters_thread, materializing, undecodable, room } = self;
        room.give_up();
        let events = super::close("the log", events_thread);
        let folded = materializing
            .stop()
            .context("the events could not be folded and committed; nothing is lost, the next start goes on from the last commit");
        // What the fold still found is with them.
        undecodable.close();
        let dead_letters = super::close("the dead letters", dead_letters_thread);
        folded.and(events).and(dead_letters)
    }
}
