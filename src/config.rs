//! Settings: read once from flags, environment and a TOML file (in this order of precedence), checked once, printed once.
//!
//! Settings are data; each part gets the few that it needs by value. Unknown keys are errors.

mod cluster;
mod kafka;
mod portal;
mod stripe;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use cluster::{ClusterConfig, Role};
pub use kafka::{Compression, KafkaConfig};
pub use portal::PortalConfig;
pub use stripe::StripeConfig;

use crate::event::{IdentityMode, TimeWindow};
use crate::gateway::recent;
use crate::log::embedded;
use crate::log::meta::FoldSettings;
use crate::store::postgres;
use crate::telemetry::LogFormat;

/// Everything that can be set, with its defaults (`design.md`, limits).
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where producers and clients connect. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served instead of on `listen`.
    pub ops_listen: Option<SocketAddr>,
    /// Log, rows and dedup index.
    pub data_dir: PathBuf,
    /// How long to wait for a data directory that another process uses; not at all when absent, a minute with `take_over`.
    #[serde(deserialize_with = "duration")]
    pub wait_for_data_dir: Option<Duration>,
    /// Asks the process that uses the data directory for its listening sockets, and to stop.
    pub take_over: bool,
    /// Serves TLS on `listen` when given.
    pub tls: Option<TlsConfig>,
    /// The log.
    pub log: LogConfig,
    /// Where the log is, if it is not in the data directory.
    pub kafka: KafkaConfig,
    /// The store that many nodes share, in place of the one in the data directory.
    pub database: DatabaseConfig,
    /// This node among many.
    pub cluster: ClusterConfig,
    /// The account that is made at the first start.
    pub default_account: DefaultAccountConfig,
    /// What a request may bring.
    pub ingest: IngestConfig,
    /// What is remembered at the door.
    pub recent_ids: RecentIdsConfig,
    /// Connections and times.
    pub http: HttpConfig,
    /// Invoices.
    pub billing: BillingConfig,
    /// The payment provider.
    pub stripe: StripeConfig,
    /// The customers' page.
    pub portal: PortalConfig,
    /// Log lines on standard error.
    pub logging: LoggingConfig,
}

/// Certificate and key, PEM. Read again when they change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate with its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates of clients. When given, a client needs one, beside its API key: it says who may connect,
    /// the key says whose events they are.
    pub client_ca: Option<PathBuf>,
}

/// Settings of the embedded log.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Size at which a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// How long events stay in the log at least; unlimited when absent. Text as `44d` or `12h`.
    #[serde(deserialize_with = "duration")]
    pub retention_age: Option<Duration>,
    /// Size of the log past which its oldest segments go; unlimited when absent.
    pub retention_bytes: Option<u64>,
    /// How long a uniqueId is remembered; unlimited when absent. Fixed when the log is made.
    #[serde(deserialize_with = "duration")]
    pub dedup_horizon: Option<Duration>,
    /// Dimension sets of a (customer, meter, day) before further ones share one row. Fixed when the log is made.
    pub dimension_sets_max: u32,
    /// How long dead letters are kept.
    #[serde(deserialize_with = "duration")]
    pub dead_letter_age: Option<Duration>,
    /// Bytes of dead letters that are kept.
    pub dead_letter_bytes: Option<u64>,
    /// Bytes of the file system that events and letters leave free, so that the rows can follow: past it, events are refused.
    pub disk_reserve_bytes: u64,
}

/// The database of a cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://…`; only in a cluster.
    pub url: Option<Secret>,
    /// Connections that one node makes at most.
    pub connections_max: usize,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for whom it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The account that exists from the first start on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DefaultAccountConfig {
    /// What makes two events copies of one: `unique_id` or `all_attributes`. Fixed when the account is made.
    pub identity: Option<IdentityMode>,
}

/// Limits of what a request may bring.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Body on the wire, in bytes.
    pub body_bytes_max: usize,
    /// Body after decompression, in bytes.
    pub inflated_bytes_max: usize,
    /// Events a request.
    pub events_max: usize,
    /// One event as sent, in bytes.
    pub event_bytes_max: usize,
    /// Bytes of all requests that are read, parsed or made durable at a time.
    pub in_flight_bytes_max: usize,
    /// How long a request waits for room before it is refused.
    #[serde(deserialize_with = "duration_required")]
    pub room_wait: Duration,
    /// Oldest event time, before the time of receipt; unlimited when absent.
    #[serde(deserialize_with = "duration")]
    pub max_event_age: Option<Duration>,
    /// Newest event time, after the time of receipt; unlimited when absent.
    #[serde(deserialize_with = "duration")]
    pub max_event_future: Option<Duration>,
}

/// Ids that are remembered at the door, so that copies go no further.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecentIdsConfig {
    /// Memory that they may take, in bytes; 0: none are remembered. An id takes about 30.
    pub bytes_max: u64,
    /// How long an id is remembered at most.
    #[serde(deserialize_with = "duration_required")]
    pub max_age: Duration,
}

/// Limits of connections.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Open connections.
    pub connections_max: usize,
    /// Time for the head of a request.
    #[serde(deserialize_with = "duration_required")]
    pub header_timeout: Duration,
    /// Longest pause between two requests of a connection.
    #[serde(deserialize_with = "duration_required")]
    pub idle_timeout: Duration,
    /// Longest pause inside a body.
    #[serde(deserialize_with = "duration_required")]
    pub body_idle_timeout: Duration,
    /// Time for a whole body.
    #[serde(deserialize_with = "duration_required")]
    pub body_timeout: Duration,
    /// Longest pause of a client that takes an answer.
    #[serde(deserialize_with = "duration_required")]
    pub answer_idle_timeout: Duration,
    /// Longest pause between two requests once the process is told to stop: who says something gets an answer that says that it is
    /// the connection's last.
    #[serde(deserialize_with = "duration_required")]
    pub drain_idle: Duration,
    /// Time to answer what is under way when the process is told to stop.
    #[serde(deserialize_with = "duration_required")]
    pub drain_timeout: Duration,
}

/// Invoices.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BillingConfig {
    /// How long after its end a period is closed: usage that comes later is billed with the next one.
    #[serde(deserialize_with = "duration_required")]
    pub grace: Duration,
    /// How often is looked for what is due to be closed, beside every time that somebody asks for invoices.
    #[serde(deserialize_with = "duration_required")]
    pub close_every: Duration,
}

/// Log lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingConfig {
    /// Levels, e.g. `info` or `info,tollgate::gateway=debug`.
    pub filter: String,
    /// For people or for programs.
    pub format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ops_listen: None,
            data_dir: PathBuf::from("./tollgate-data"),
            wait_for_data_dir: None,
            take_over: false,
            tls: None,
            log: LogConfig::default(),
            kafka: KafkaConfig::default(),
            database: DatabaseConfig::default(),
            cluster: ClusterConfig::default(),
            default_account: DefaultAccountConfig::default(),
            ingest: IngestConfig::default(),
            recent_ids: RecentIdsConfig::default(),
            http: HttpConfig::default(),
            billing: BillingConfig::default(),
            stripe: StripeConfig::default(),
            portal: PortalConfig::default(),
            logging: LoggingConfig::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            retention_age: None,
            retention_bytes: None,
            dedup_horizon: None,
            dimension_sets_max: 10_000,
            dead_letter_age: Some(Duration::from_secs(90 * 86_400)),
            dead_letter_bytes: Some(1 << 30),
            disk_reserve_bytes: 64 << 20,
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: None, connections_max: 40 }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            inflated_bytes_max: 32 << 20,
            events_max: 10_000,
            event_bytes_max: 64 << 10,
            in_flight_bytes_max: 64 << 20,
            room_wait: Duration::from_secs(10),
            max_event_age: None,
            max_event_future: None,
        }
    }
}

impl Default for RecentIdsConfig {
    fn default() -> Self {
        // Some 4 million ids, and longer than most clients try.
        Self { bytes_max: 128 << 20, max_age: Duration::from_secs(2 * 3_600) }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(120),
            body_idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(25),
            answer_idle_timeout: Duration::from_secs(30),
            // Longer than the pauses of clients that send all the time.
            drain_idle: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Default for BillingConfig {
    fn default() -> Self {
        Self { grace: Duration::from_secs(24 * 3_600), close_every: Duration::from_secs(3_600) }
    }
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The file is not TOML, or has a key or a value that makes no sense.
    #[error("{}: {error}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// Where and what.
        error: Box<toml::de::Error>,
    },
    /// Settings that do not fit each other.
    #[error("{0}")]
    Check(String),
}

impl Config {
    /// The defaults, changed by a TOML file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_file(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Read { file: file.to_owned(), error })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse { file: file.to_owned(), error: Box::new(error) })
    }

    /// Checks what no single value shows.
    ///
    /// # Errors
    /// [`ConfigError::Check`] names the settings.
    pub fn checked(self) -> Result<Self, ConfigError> {
        let wrong = |what: String| Err(ConfigError::Check(what));
        let ingest = &self.ingest;
        if ingest.inflated_bytes_max > ingest.in_flight_bytes_max {
            return wrong(format!(
                "ingest.inflated_bytes_max ({}) is larger than ingest.in_flight_bytes_max ({}): such a request would never get room",
                ingest.inflated_bytes_max, ingest.in_flight_bytes_max
            ));
        }
        if ingest.body_bytes_max > ingest.inflated_bytes_max {
            return wrong(format!(
                "ingest.body_bytes_max ({}) is larger than ingest.inflated_bytes_max ({})",
                ingest.body_bytes_max, ingest.inflated_bytes_max
            ));
        }
        // A block of the log holds one request; records are never much larger than the JSON that they come from.
        if ingest.inflated_bytes_max > 64 << 20 || ingest.in_flight_bytes_max > u32::MAX as usize {
            return wrong("ingest.inflated_bytes_max must not exceed 64 MiB, ingest.in_flight_bytes_max not 4 GiB".into());
        }
        self.kafka.check()?;
        self.check_cluster()?;
        self.check_stripe()?;
        self.check_portal()?;
        if self.log.segment_bytes < 1 << 20 {
            return wrong("log.segment_bytes must be 1 MiB or more".into());
        }
        if self.database.connections_max < 4 {
            return wrong("database.connections_max must be 4 or more: some read, some write, one listens".into());
        }
        if self.billing.close_every < Duration::from_secs(1) {
            return wrong("billing.close_every must be 1s or more".into());
        }
        let recent = &self.recent_ids;
        if (1..recent::BYTES_MIN).contains(&recent.bytes_max) {
            return wrong(format!("recent_ids.bytes_max must be 0 (off) or at least {} (64 KiB)", recent::BYTES_MIN));
        }
        if recent.max_age > recent::AGE_MAX {
            return wrong("recent_ids.max_age must not exceed 365d".into());
        }
        if let (Some(age), Some(future), Some(horizon)) = (ingest.max_event_age, ingest.max_event_future, self.log.dedup_horizon)
            && age + future >= horizon
        {
            return wrong("log.dedup_horizon must be longer than ingest.max_event_age and ingest.max_event_future together, or a late retry could count twice".into());
        }
        Ok(self)
    }

    /// What the fold needs, to be fixed with the log.
    pub fn fold(&self) -> FoldSettings {
        FoldSettings {
            dedup_horizon_ms: self.log.dedup_horizon.map(millis),
            dimension_sets_max: self.log.dimension_sets_max,
            partitions: if self.kafka.brokers.is_some() { self.kafka.partitions } else { 1 },
        }
    }

    /// Settings of the events' log.
    pub fn events_log(&self) -> embedded::Settings {
        embedded::Settings {
            segment_bytes: self.log.segment_bytes,
            retention_age_ms: self.log.retention_age.map(millis),
            retention_bytes: self.log.retention_bytes,
            disk_reserve_bytes: self.log.disk_reserve_bytes,
        }
    }

    /// How the database is used, if there is one.
    pub fn database(&self) -> Option<postgres::Settings> {
        let url = self.database.url.as_ref()?.reveal();
        Some(postgres::Settings { connections_max: self.database.connections_max, ..postgres::Settings::new(url) })
    }

    /// Settings of the dead letters' log.
    pub fn dead_letters_log(&self) -> embedded::Settings {
        embedded::Settings {
            // Small enough that retention by size is not coarse.
            segment_bytes: self.log.segment_bytes.min(32 << 20),
            retention_age_ms: self.log.dead_letter_age.map(millis),
            retention_bytes: self.log.dead_letter_bytes,
            disk_reserve_bytes: self.log.disk_reserve_bytes,
        }
    }

    /// What is remembered at the door. Nothing with a dedup horizon and no limits to how far an event's time may lie from its receipt: a
    /// copy could then count again, and only the log knows whether it does ([`recent`] says why).
    pub fn recent_ids(&self) -> recent::Settings {
        let RecentIdsConfig { bytes_max, max_age: age_max } = self.recent_ids;
        match (self.log.dedup_horizon, self.ingest.max_event_age, self.ingest.max_event_future) {
            (None, _, _) => recent::Settings { bytes_max, age_max, step_back_ms_max: None },
            (Some(horizon), Some(age), Some(future)) => {
                let step_back_ms_max = Some(millis(horizon.saturating_sub(age + future)));
                recent::Settings { bytes_max, age_max, step_back_ms_max }
            }
            (Some(_), _, _) => recent::Settings { bytes_max: 0, age_max, step_back_ms_max: None },
        }
    }

    /// How far an event's time may lie from its receipt.
    pub fn time_window(&self) -> TimeWindow {
        TimeWindow { age_ms_max: self.ingest.max_event_age.map(millis), future_ms_max: self.ingest.max_event_future.map(millis) }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads `35d`, `12h`, `1d 6h`, `500ms`.
///
/// # Errors
/// What it is not, for people.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::Span = text.parse().map_err(|_| format!("`{text}` is not a duration such as 35d, 12h or 500ms"))?;
    let total = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    Duration::try_from(total).map_err(|_| format!("`{text}` is negative"))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration_required(deserializer).map(Some)
}

fn duration_required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file's settings, checked.
    pub(super) fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.checked().map_err(|error| error.to_string())
    }

    #[test]
    fn production_settings_fit_each_other() {
        let config =
            parse("[ingest]\nmax_event_age = '35d'\nmax_event_future = '24h'\n[log]\ndedup_horizon = '37d'\nretention_age = '44d'")
                .expect("good");
        assert_eq!(config.fold().dedup_horizon_ms, Some(37 * 86_400_000));
    }

    #[test]
    fn recent_ids_are_remembered_only_where_no_copy_can_count_again() {
        let settings = |text: &str| parse(text).expect("good").recent_ids();
        let unlimited = settings("");
        assert_eq!((unlimited.bytes_max, unlimited.step_back_ms_max), (128 << 20, None));
        let production = settings("[ingest]\nmax_event_age = '35d'\nmax_event_future = '24h'\n[log]\ndedup_horizon = '37d'");
        assert_eq!((production.bytes_max, production.step_back_ms_max), (128 << 20, Some(86_400_000)));
        for text in ["", "[ingest]\nmax_event_age = '1h'", "[ingest]\nmax_event_future = '1h'"] {
            assert_eq!(settings(&format!("{text}\n[log]\ndedup_horizon = '2h'")).bytes_max, 0);
        }
        assert_eq!(settings("[recent_ids]\nbytes_max = 0").bytes_max, 0);
        assert!(parse("[recent_ids]\nbytes_max = 1000").expect_err("refused").contains("recent_ids.bytes_max"));
        assert!(parse("[recent_ids]\nmax_age = '366d'").expect_err("refused").contains("recent_ids.max_age"));
    }

    #[test]
    fn the_address_of_the_database_is_shown_to_nobody() {
        let config = parse("[kafka]\nbrokers = 'a'\n[database]\nurl = 'postgres://u:secret@h/d'\nconnections_max = 8").expect("good");
        assert!(!format!("{config:?}").contains("secret"));
        let settings = config.database().expect("is given");
        assert_eq!((settings.url.as_str(), settings.connections_max), ("postgres://u:secret@h/d", 8));
        assert!(parse("[database]\nconnections_max = 3").expect_err("refused").contains("database.connections_max"));
    }

    #[test]
    fn unknown_keys_and_settings_that_do_not_fit_are_refused() {
        assert!(parse("lissten = '127.0.0.1:1'").expect_err("refused").contains("unknown field `lissten`"));
        assert!(parse("[log]\ndedup_horizon = 'soon'").expect_err("refused").contains("is not a duration"));
        assert!(parse("[ingest]\nmax_event_age = '36d'\nmax_event_future = '24h'\n[log]\ndedup_horizon = '37d'").is_err());
        assert!(parse("[ingest]\nin_flight_bytes_max = 1000").is_err());
    }
}
