//! `tollgate health`: asks a node on this machine how it is, for images that have no shell and no other client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::config::Config;

/// For each of connecting, sending and the answer. Three of them are shorter than the patience of whoever asks for health.
const WAIT: Duration = Duration::from_secs(1);
/// More than any answer of `/healthz` and `/readyz` has.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Ask whether the node takes requests (/readyz), not only whether it lives (/healthz)
    #[arg(long)]
    ready: bool,
    /// Settings of the node, in TOML
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port that the node serves on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where it serves /healthz and /readyz, if not there
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_OPS_LISTEN")]
    ops_listen: Option<SocketAddr>,
}

impl HealthArgs {
    /// Where health is served: as the node finds it out, but where that listens on all addresses, on this machine's own.
    fn address(&self) -> anyhow::Result<SocketAddr> {
        let config = self.config.as_deref().map(Config::from_file).transpose()?.unwrap_or_default();
        let ops_listen = self.ops_listen.or(config.ops_listen);
        if ops_listen.is_none() && config.tls.is_some() {
            anyhow::bail!("the node speaks TLS: give it an ops_listen, where health is served without");
        }
        let mut address = ops_listen.or(self.listen).unwrap_or(config.listen);
        if address.port() == 0 {
            anyhow::bail!("the node listens on any free port: name the one that it got");
        }
        if address.ip().is_unspecified() {
            let is_v4 = address.is_ipv4();
            address.set_ip(if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
        }
        Ok(address)
    }
}

/// Prints what the node says. An error if it says no, or nothing.
pub(super) fn run(args: &HealthArgs) -> anyhow::Result<()> {
    let address = args.address()?;
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer = ask(address, path).with_context(|| format!("no answer from {address}"))?;
    let (head, said) = answer.split_once("\r\n\r\n").with_context(|| format!("{address} does not speak HTTP"))?;
    let said = said.trim_end();
    if head.split(' ').nth(1) != Some("200") {
        anyhow::bail!("{address}{path} says: {said}");
    }
    println!("{said}");
    Ok(())
}

fn ask(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_write_timeout(Some(WAIT))?;
    stream.set_read_timeout(Some(WAIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(listen: Option<&str>, ops_listen: Option<&str>) -> Result<String, String> {
        let parse = |text: &str| text.parse().expect("an address");
        let args = HealthArgs { ready: false, config: None, listen: listen.map(parse), ops_listen: ops_listen.map(parse) };
        args.address().map(|address| address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn health_is_asked_for_where_the_node_serves_it() {
        assert_eq!(address(None, None).as_deref(), Ok("127.0.0.1:8080"));
        assert_eq!(address(Some("0.0.0.0:80"), None).as_deref(), Ok("127.0.0.1:80"));
        assert_eq!(address(Some("0.0.0.0:80"), Some("[::]:9090")).as_deref(), Ok("[::1]:9090"));
        assert_eq!(address(Some("10.1.2.3:80"), None).as_deref(), Ok("10.1.2.3:80"));
        assert!(address(Some("127.0.0.1:0"), None).expect_err("refused").contains("any free port"));
    }

    #[test]
    fn a_node_that_speaks_tls_needs_another_address_for_its_health() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("tollgate.toml");
        let tls = "[tls]\ncert = '/c'\nkey = '/k'\n";
        let asked = |text: String| {
            std::fs::write(&file, text).expect("written");
            HealthArgs { ready: false, config: Some(file.clone()), listen: None, ops_listen: None }.address()
        };
        assert!(asked(tls.to_owned()).expect_err("refused").to_string().contains("ops_listen"));
        let address = asked(format!("ops_listen = '127.0.0.1:9'\n{tls}")).expect("an address");
        assert_eq!(address.port(), 9);
    }
}
