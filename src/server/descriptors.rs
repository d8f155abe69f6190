//! File descriptors: as many as the operating system gives, and no more connections than leave some to the data directory.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for connections: files of log, rows and index, listeners, a backup.
const OTHERS: u64 = 512;

/// Raises the soft limit of this process as far as it may, and returns how many of the connections that are wanted it allows.
/// A data directory that cannot open its next file stops the gateway, one connection too many does not.
pub fn make_room(connections_wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = (connections_wanted as u64).saturating_add(OTHERS);
    // `None`: without limit.
    let Some(mut limit) = current else { return connections_wanted };
    if limit < wanted {
        let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
            Ok(()) => limit = raised,
            Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
        }
    }
    let allowed = connections_allowed(connections_wanted, limit);
    if allowed < connections_wanted {
        tracing::warn!(
            http.connections_max = connections_wanted,
            connections = allowed,
            open_files = limit,
            "fewer connections than set are taken: the limit of open files is too low (`ulimit -n`, `LimitNOFILE`)"
        );
    }
    allowed
}

/// Where even the others do not fit, half of what there is.
fn connections_allowed(wanted: usize, open_files: u64) -> usize {
    let room = open_files.saturating_sub(OTHERS).max(open_files / 2);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_data_directory() {
        assert_eq!(connections_allowed(10_000, 65_536), 10_000);
        assert_eq!(connections_allowed(10_000, 10_512), 10_000);
        assert_eq!(connections_allowed(10_000, 4_096), 3_584);
        assert_eq!(connections_allowed(10_000, 256), 128);
    }
}
