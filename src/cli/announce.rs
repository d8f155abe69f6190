//! What a newcomer sees first: the address, the key, and two lines to paste.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::accounts::AdminKey;
use crate::clock::UnixMillis;
use crate::store::row::DAY_S;

/// Prints the address and, at the first start, the admin key, to standard output. A closed output changes nothing.
pub(super) fn announce(listen: SocketAddr, tls: bool, data_dir: &Path, admin_key: &AdminKey, now: UnixMillis) {
    let _closed = std::io::stdout().lock().write_all(text(listen, tls, data_dir, admin_key, now).as_bytes());
}

fn text(listen: SocketAddr, tls: bool, data_dir: &Path, admin_key: &AdminKey, now: UnixMillis) -> String {
    let url = format!("{}://{}", if tls { "https" } else { "http" }, reachable(listen));
    let (key_says, example) = match admin_key {
        AdminKey::Made(key) => (format!("{key}   (shown this once; only a hash of it is kept)"), example(&url, key, now)),
        AdminKey::Given => ("the one in TOLLGATE_ADMIN_KEY".into(), example(&url, "$TOLLGATE_ADMIN_KEY", now)),
        AdminKey::Revoked => {
            ("the one in TOLLGATE_ADMIN_KEY was revoked and lets nobody in; another operator's key does".into(), String::new())
        }
        AdminKey::Kept => {
            ("the one shown at the first start; a start with TOLLGATE_ADMIN_KEY set puts another in its place".into(), String::new())
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    format!("tollgate {version} listens on {url}\ndata directory  {}\nadmin key       {key_says}\n{example}", data_dir.display())
}

/// Two lines to paste.
fn example(url: &str, key: &str, now: UnixMillis) -> String {
    let day = now.seconds().div_euclid(DAY_S) * DAY_S;
    let (time, next_day) = (now.0, day + DAY_S);
    format!(
        "\nIngest an event, then read its usage back:\n\n\
         curl -sS {url}/ingest -H \"X-API-KEY: {key}\" -H 'Content-Type: application/json' -d '{{\"uniqueId\":\"first-event\",\
         \"customerId\":\"acme\",\"meterApiName\":\"api-calls\",\"meterValue\":3,\"meterTimeInMillis\":{time}}}'\n\n\
         curl -sS {url}/usage -H \"X-API-KEY: {key}\" -H 'Content-Type: application/json' -d '{{\"meterApiName\":\"api-calls\",\
         \"aggregation\":\"SUM\",\"timeGroupingInterval\":\"DAY\",\"groupBy\":[\"customerId\"],\
         \"startTimeInSeconds\":{day},\"endTimeInSeconds\":{next_day}}}'\n\n"
    )
}

/// An address to connect to: "every interface" is none.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_shows_the_key_and_two_lines_to_paste() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 8080));
        let key = AdminKey::Made("tg_0123".into());
        insta::assert_snapshot!(text(listen, false, Path::new("./tollgate-data"), &key, UnixMillis(1_767_225_600_123)));
    }
}
