//! What requests meet: health and metrics from the begin, everything else once log and store are there.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::starting::{self, Starting};
use super::{Opened, Parts, Shell, Stop};
use crate::accounts::Accounts;
use crate::accounts::KeyRing;
use crate::accounts::audit::Audit;
use crate::api::{self, Provider};
use crate::billing::{Billing, close_all};
use crate::cli::announce::announce;
use crate::clock::Clock;
use crate::cluster::internal;
use crate::config::{Config, Role};
use crate::customers::Customers;
use crate::data_dir::DataDir;
use crate::definitions::Definitions;
use crate::gateway::body::BodyLimits;
use crate::gateway::{self, Gateway};
use crate::letters::{self, Ledger, Letters};
use crate::meters::Meters;
use crate::openapi::Described;
use crate::ops::control::Control;
use crate::ops::handover::Handover;
use crate::portal::{self, Portal, SigningKey};
use crate::rules::Rules;
use crate::server::sockets::Listeners;
use crate::server::{self, Front, Internal, Ops, Service};
use crate::stripe::IdempotencyKeys;
use crate::verdicts::{self, Verdicts};

/// The way in.
pub(super) struct Entrance {
    pub(super) shell: Arc<Shell>,
    data_dir: Arc<DataDir>,
    starting: Arc<Starting>,
    pub(super) front: Arc<Front>,
    pub(super) handover: Arc<Handover>,
}

/// What requests are answered with.
pub(super) struct Entered {
    pub(super) parts: Parts,
    /// Answers operators on this machine.
    pub(super) control: Option<JoinHandle<()>>,
}

impl Entrance {
    /// Lets nobody in yet.
    pub(super) fn new(shell: Shell, data_dir: Arc<DataDir>, metrics: PrometheusHandle, listeners: &Listeners) -> anyhow::Result<Self> {
        let starting = Arc::new(Starting::default());
        let ops = Ops {
            metrics,
            budgets: [shell.budgets.ingest.clone(), shell.budgets.api.clone()],
            recent: shell.recent.clone(),
            disk: shell.room.clone(),
            readiness: starting.clone(),
            draining: Arc::default(),
            internal: Internal { prefix: internal::PREFIX, router: Arc::default() },
        };
        let handover = Handover::of(listeners).context("the listening sockets cannot be copied")?;
        let front = Front { ops, serves_ops: listeners.ops.is_none(), service: OnceLock::new() };
        Ok(Self { shell: Arc::new(shell), data_dir, starting, front: Arc::new(front), handover: Arc::new(handover) })
    }

    /// Lets requests in as soon as log and store are there; `None` if the process was told to stop before.
    pub(super) async fn open(&self, told: &mut Stop) -> anyhow::Result<Option<Entered>> {
        let opened = starting::open(&self.shell, &self.data_dir, &self.starting, told).await?;
        Ok(opened.map(|opened| self.enter(opened)))
    }

    /// Lets requests in.
    pub(super) fn enter(&self, opened: Opened) -> Entered {
        let Self { shell, data_dir, starting, front, handover } = self;
        let Opened { parts, accounts, admin_key, rules, definitions, portal_key } = opened;
        starting.is_over(parts.readiness.clone());
        if let Some(router) = &parts.internal {
            // Set once: nothing starts twice.
            let _first = front.ops.internal.router.set(router.clone());
        }
        let control = control(&parts, data_dir, handover.clone(), &shell.clock, front.ops.draining.clone());
        // Set once: nothing starts twice.
        let config = &shell.config;
        let beside = server::described(config.ingest.body_bytes_max, front.serves_ops);
        let _first = front.service.set(service(shell, &parts, accounts, (rules, definitions), portal_key, beside));
        announce(shell.address, config.tls.is_some(), &config.data_dir, &admin_key, shell.clock.now());
        Entered { parts, control }
    }

    /// From now on answers are the last ones of their connections.
    pub(super) fn close(&self) {
        self.front.ops.draining.store(true, Ordering::Release);
        self.handover.close();
        tracing::info!("stopping: requests under way are answered, connections get their last answer");
    }
}

/// Answers operators on this machine. Without the socket everything else goes on: a backup then needs the gateway stopped.
fn control(parts: &Parts, data_dir: &DataDir, handover: Arc<Handover>, clock: &Clock, stopping: Arc<AtomicBool>) -> Option<JoinHandle<()>> {
    let control = Control::bind(data_dir.path())
        .inspect_err(|error| tracing::warn!(%error, "no control socket; `tollgate backup` and `--take-over` need the gateway stopped"));
    Some(tokio::spawn(control.ok()?.serve(parts.copied.clone(), handover, clock.clone(), stopping)))
}

fn service(
    shell: &Shell,
    parts: &Parts,
    accounts: Arc<Accounts>,
    (rules, definitions): (Arc<Rules>, Arc<Definitions>),
    portal_key: SigningKey,
    beside: Vec<Described>,
) -> Service {
    let (config, clock) = (&shell.config, &shell.clock);
    let keys = accounts.ring();
    let gateway = Arc::new(gateway(shell, parts, keys.clone(), (rules.clone(), definitions.clone())));
    let ledger = Arc::new(Ledger::new(parts.dead_letters_log.clone()));
    tokio::spawn(letters::follow(ledger.clone()));
    let letters = Arc::new(Letters::new(ledger, parts.dead_letters.clone(), clock.clone()));
    let verdicts = Verdicts::new(verdicts::Parts {
        log: parts.log.clone(),
        letters: letters.clone(),
        source: parts.source.clone(),
        owners: parts.owners.clone(),
        hash_key: parts.meta.hash_key,
        clock: clock.clone(),
    });
    let customers = Arc::new(Customers::new(parts.store.clone(), clock.clone()).heard_by(definitions.clone()));
    let billing = billing(shell, parts, customers.clone(), &accounts);
    let meters = Arc::new(Meters::new(parts.store.clone(), clock.clone()).heard_by(definitions));
    let portal = Arc::new(Portal::new(portal::Parts {
        key: portal_key,
        address: portal::Address::new(config.portal.base_url.as_deref(), config.tls.is_some()),
        accounts: accounts.clone(),
        customers: customers.clone(),
        meters: meters.clone(),
        billing: billing.clone(),
        source: parts.source.clone(),
        clock: clock.clone(),
    }));
    let routed = api::Parts {
        accounts,
        billing,
        audit: Arc::new(Audit::new(parts.store.clone(), clock.clone())),
        verdicts: Arc::new(verdicts),
        customers,
        provider: provider(shell, parts),
        meters,
        rules,
        source: parts.source.clone(),
        letters,
        gateway: gateway.clone(),
        portal: portal.clone(),
        clock: clock.clone(),
    };
    Service {
        gateway: config.has_role(Role::Gateway).then_some(gateway),
        router: config.has_role(Role::Api).then(|| api::router(routed, beside)),
        portal: config.has_role(Role::Api).then(|| portal::web::routes(portal)),
        keys,
        budget: shell.budgets.api.clone(),
        http: config.http.clone(),
    }
}

/// What takes events in.
fn gateway(shell: &Shell, parts: &Parts, keys: Arc<KeyRing>, (rules, definitions): (Arc<Rules>, Arc<Definitions>)) -> Gateway {
    let (config, clock) = (&shell.config, &shell.clock);
    Gateway {
        settings: settings(config),
        keys,
        rules,
        definitions,
        budget: shell.budgets.ingest.clone(),
        recent: shell.recent.clone(),
        events: parts.events.clone(),
        dead_letters: parts.dead_letters.clone(),
        hash_key: parts.meta.hash_key,
        clock: clock.clone(),
        large_parses: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))),
    }
}

/// What the gateway takes of a request.
fn settings(config: &Config) -> gateway::Settings {
    let ingest = &config.ingest;
    gateway::Settings {
        body: BodyLimits {
            wire_max: ingest.body_bytes_max,
            inflated_max: ingest.inflated_bytes_max,
            idle: config.http.body_idle_timeout,
            total: config.http.body_timeout,
        },
        events_max: ingest.events_max,
        event_bytes_max: ingest.event_bytes_max,
        window: config.time_window(),
    }
}

/// The payment provider, if there is one.
fn provider(shell: &Shell, parts: &Parts) -> Option<Provider> {
    let stripe = shell.stripe.clone()?;
    Some(Provider { stripe, keys: IdempotencyKeys::new(parts.meta.log_id) })
}

/// Plans, orders and invoices; closes what is due, on a node that answers for them.
fn billing(shell: &Shell, parts: &Parts, customers: Arc<Customers>, accounts: &Arc<Accounts>) -> Arc<Billing> {
    let settings = &shell.config.billing;
    let billing = Arc::new(Billing::new(parts.store.clone(), customers, parts.source.clone(), shell.clock.clone(), settings.grace));
    if shell.config.has_role(Role::Api) {
        let (weak, accounts) = (Arc::downgrade(&billing), Arc::downgrade(accounts));
        // Whoever has neither any more, when the process ends, closes nothing.
        let numbers = move || accounts.upgrade().map(|accounts| accounts.numbers()).unwrap_or_default();
        tokio::spawn(close_all(weak, numbers, settings.close_every));
    }
    billing
}
