//! How a process comes by its listening sockets and its data directory, which another process may have.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::Signals;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::ops::handover::{self, NoOffer};
use crate::server::sockets::{Listeners, Sockets};

/// How often it is looked whether the data directory is free.
const LOOK: Duration = Duration::from_millis(10);
/// How long one that is handed over is waited for: longer than any drain time-out that makes sense, and the commit after it.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(60);

/// What a process needs of its machine.
pub(super) struct Place {
    pub(super) listeners: Listeners,
    pub(super) data_dir: DataDir,
}

/// Listens, and gets the data directory; waits for it if it was asked to. `None` if it was told to stop meanwhile.
pub(super) async fn arrive(config: &Config, passed: Sockets, signals: &mut Signals) -> anyhow::Result<Option<Place>> {
    let patience = config.wait_for_data_dir.unwrap_or(if config.take_over { TAKE_OVER_WAIT } else { Duration::ZERO });
    let deadline = Instant::now() + patience;
    let mut asks = config.take_over && passed.main.is_none();
    // Listens first: clients that come meanwhile wait instead of being refused.
    let mut listeners = if asks { None } else { Some(passed.listen(config.listen, config.ops_listen)?) };
    loop {
        if asks {
            (listeners, asks) = take_over(config).await?;
        }
        match DataDir::lock(&config.data_dir) {
            Ok(data_dir) => {
                let listeners = match listeners {
                    Some(listeners) => listeners,
                    None => Sockets::default().listen(config.listen, config.ops_listen)?,
                };
                return Ok(Some(Place { listeners, data_dir }));
            }
            Err(DataDirError::InUse { .. }) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = signals.stop.told() => return Ok(None),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Asks the running process for its sockets; says whether to ask again.
async fn take_over(config: &Config) -> anyhow::Result<(Option<Listeners>, bool)> {
    let data_dir = config.data_dir.clone();
    let asked = tokio::task::spawn_blocking(move || handover::ask_for_sockets(&data_dir)).await.context("asking was interrupted")?;
    let mut offer = match asked {
        Ok(offer) => offer,
        // None runs, or not yet: the data directory tells.
        Err(NoOffer::Nobody) => return Ok((None, true)),
        Err(NoOffer::Refused(why)) => {
            tracing::warn!(why, "the running process does not hand over its sockets; waiting for its end");
            return Ok((None, false));
        }
        Err(NoOffer::Io(error)) => {
            tracing::warn!(%error, "the running process cannot be asked for its sockets; waiting for its end");
            return Ok((None, false));
        }
    };
    let sockets = std::mem::take(&mut offer.sockets).only_at(config.listen, config.ops_listen);
    // What is not among them is bound before the other process is told to stop.
    let listeners = sockets.listen(config.listen, config.ops_listen)?;
    offer.take().context("the running process ended while it handed over its sockets")?;
    tracing::info!("the listening sockets are taken over; waiting for the data directory");
    Ok((Some(listeners), false))
}
