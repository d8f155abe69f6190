//! The command line, and the life of a process: builds every part, hands each its own settings, announces the address, drains.

mod announce;
mod health;
mod ops;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Role, TlsConfig, parse_duration};
use crate::loadgen::BenchArgs;
use crate::telemetry::LogFormat;

const ABOUT: &str = "Takes usage events over HTTP, counts each exactly once, keeps them durably, and answers what every customer used.";
const EXAMPLES: &str = "\
Examples:
  tollgate                                  serve on 127.0.0.1:8080, data in ./tollgate-data
  tollgate serve --listen 0.0.0.0:80        serve everyone
  tollgate serve --config tollgate.toml     with settings from a file; flags and environment win over it
  tollgate bench --key $TOLLGATE_KEY        load a running gateway and report
  tollgate backup --to /backups/monday      copy everything, also while the gateway runs
  tollgate verify                           prove that the rows are what the log says";

/// What the process is told to do.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, long_version = long_version(), about = ABOUT, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the gateway (what `tollgate` alone does, too)
    Serve(Box<ServeArgs>),
    /// Ask a node on this machine how it is
    Health(health::HealthArgs),
    /// Load a running gateway with made-up events and report rate, latency and cost
    Bench(Box<BenchArgs>),
    /// Fold the log once more and compare with what is stored, row by row
    Verify(ops::VerifyArgs),
    /// Make rows and dedup index again from the log; accounts, keys and customers stay
    Rebuild(ops::RebuildArgs),
    /// Read every file of a data directory, say what is wrong and what to do
    Doctor(ops::DoctorArgs),
    /// Copy log, rows, accounts and customers of one moment, also of a running gateway
    Backup(ops::BackupArgs),
    /// Make a data directory from a backup
    Restore(ops::RestoreArgs),
}

/// Settings that flags and environment can give. Everything else is in the file.
#[derive(Debug, Default, Args)]
struct ServeArgs {
    /// Settings in TOML; README lists them
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port to serve on; port 0 takes any free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Serve /healthz, /readyz and /metrics here instead of on --listen
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_OPS_LISTEN")]
    ops_listen: Option<SocketAddr>,
    /// Where log and rows are kept; one process at a time [default: ./tollgate-data]
    #[arg(long, value_name = "DIR", env = "TOLLGATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// PostgreSQL that the nodes of a cluster share: postgres://user:password@host/database?sslmode=verify-full
    #[arg(long, value_name = "URL", env = "TOLLGATE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// How long to wait for a data directory that another process uses, e.g. `30s` [default: not at all; with --take-over 60s]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_WAIT_FOR_DATA_DIR", value_parser = parse_duration)]
    wait_for_data_dir: Option<Duration>,
    /// Take the place of the process that uses the data directory: it hands over its listening sockets and stops; clients wait
    #[arg(long)]
    take_over: bool,
    /// Admin key of the account `default`; without it one is made at the first start and shown once
    #[arg(long, value_name = "KEY", env = "TOLLGATE_ADMIN_KEY", hide_env_values = true)]
    admin_key: Option<String>,
    /// Certificate chain in PEM: serve TLS on --listen
    #[arg(long, value_name = "FILE", env = "TOLLGATE_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert in PEM
    #[arg(long, value_name = "FILE", env = "TOLLGATE_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// CA of client certificates in PEM: without a certificate of it nobody connects (API keys are needed as well)
    #[arg(long, value_name = "FILE", env = "TOLLGATE_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Keep the log on Apache Kafka: one host:port or more, separated by commas
    #[arg(long, value_name = "HOST:PORT,…", env = "TOLLGATE_KAFKA_BROKERS")]
    kafka_brokers: Option<String>,
    /// Brokers that hold each record [default: 3]; with 1, an ack is no better than one machine's page cache
    #[arg(long, value_name = "COUNT", env = "TOLLGATE_KAFKA_REPLICATION")]
    kafka_replication: Option<u32>,
    /// What this node does [default: everything]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROLE,…", env = "TOLLGATE_ROLES")]
    roles: Option<Vec<Role>>,
    /// Name of this node, which no other node of the cluster has [default: the host's name]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_NODE")]
    node: Option<String>,
    /// Where other nodes ask this one [default: its ops address, or else its address]
    #[arg(long, value_name = "URL", env = "TOLLGATE_ADVERTISE")]
    advertise: Option<String>,
    /// Key of Stripe's API: customers are made there too when a request says so
    #[arg(long, value_name = "KEY", env = "TOLLGATE_STRIPE_API_KEY", hide_env_values = true)]
    stripe_api_key: Option<String>,
    /// Where Stripe's API is [default: api.stripe.com, by https]
    #[arg(long, value_name = "URL", env = "TOLLGATE_STRIPE_API_BASE")]
    stripe_api_base: Option<String>,
    /// Where browsers open the customers' page [default: what the request for a link calls this gateway]
    #[arg(long, value_name = "URL", env = "TOLLGATE_PORTAL_BASE_URL")]
    portal_base_url: Option<String>,
    /// Which log lines are written to standard error, e.g. `info,tollgate=debug` [default: info]
    #[arg(long, value_name = "FILTER", env = "TOLLGATE_LOG")]
    log: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", env = "TOLLGATE_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

impl ServeArgs {
    /// Flags and environment over the file over the defaults.
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(file) => Config::from_file(file)?,
            None => Config::default(),
        };
        config.listen = self.listen.unwrap_or(config.listen);
        config.ops_listen = self.ops_listen.or(config.ops_listen);
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(url) = &self.database_url {
            config.database.url = Some(url.as_str().into());
        }
        config.wait_for_data_dir = self.wait_for_data_dir.or(config.wait_for_data_dir);
        config.take_over |= self.take_over;
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let client_ca = config.tls.and_then(|tls| tls.client_ca);
            config.tls = Some(TlsConfig { cert: cert.clone(), key: key.clone(), client_ca });
        }
        if let Some(client_ca) = &self.tls_client_ca {
            let Some(tls) = &mut config.tls else { anyhow::bail!("--tls-client-ca needs --tls-cert and --tls-key") };
            tls.client_ca = Some(client_ca.clone());
        }
        if let Some(brokers) = &self.kafka_brokers {
            config.kafka.brokers = Some(brokers.clone());
        }
        config.kafka.replication = self.kafka_replication.unwrap_or(config.kafka.replication);
        if let Some(roles) = &self.roles {
            config.cluster.roles.clone_from(roles);
        }
        config.cluster.node = self.node.clone().or(config.cluster.node);
        config.cluster.advertise = self.advertise.clone().or(config.cluster.advertise);
        if let Some(key) = &self.stripe_api_key {
            config.stripe.api_key = Some(key.as_str().into());
        }
        if let Some(base) = &self.stripe_api_base {
            config.stripe.api_base.clone_from(base);
        }
        config.portal.base_url = self.portal_base_url.clone().or(config.portal.base_url);
        if let Some(filter) = &self.log {
            config.logging.filter.clone_from(filter);
        }
        config.logging.format = self.log_format.unwrap_or(config.logging.format);
        Ok(config.checked()?)
    }
}

/// Does what the command line says. Blocks until it is done. What went wrong stands on standard error, with what to do about it.
pub fn run() -> ExitCode {
    let done = match Cli::parse().command.unwrap_or_else(from_environment) {
        Command::Serve(args) => serve(&args),
        Command::Health(args) => health::run(&args),
        Command::Bench(args) => crate::loadgen::run(*args),
        Command::Verify(args) => return ops::verify(&args),
        Command::Doctor(args) => return ops::doctor(&args),
        Command::Rebuild(args) => ops::rebuild(&args),
        Command::Backup(args) => ops::backup(&args),
        Command::Restore(args) => ops::restore(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let config = args.config().context("the settings cannot be used")?;
    if args.admin_key.as_deref().is_some_and(|key| key.is_empty() || key.bytes().any(|byte| !byte.is_ascii_graphic())) {
        anyhow::bail!("TOLLGATE_ADMIN_KEY must be printable ASCII without spaces: it is sent in a header");
    }
    serve::run(config, args.admin_key.clone())
}

/// `tollgate` alone serves; the environment counts as it does for `tollgate serve`.
fn from_environment() -> Command {
    match Cli::parse_from(["tollgate", "serve"]).command {
        Some(command) => command,
        None => Command::Serve(Box::default()),
    }
}

fn long_version() -> &'static str {
    use std::sync::OnceLock;
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        let features = if cfg!(feature = "kafka-tls") { "kafka-tls" } else { "none" };
        format!("{}\nlibrdkafka {librdkafka}\nfeatures: {features}", env!("CARGO_PKG_VERSION"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("tollgate.toml");
        std::fs::write(&file, "listen = '127.0.0.1:1'\ndata_dir = '/from/file'\n").expect("written");
        let args = ServeArgs { config: Some(file), listen: Some(SocketAddr::from(([127, 0, 0, 1], 2))), ..ServeArgs::default() };
        let config = args.config().expect("good");
        assert_eq!((config.listen.port(), config.data_dir), (2, PathBuf::from("/from/file")));
    }
}
