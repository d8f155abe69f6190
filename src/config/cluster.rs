//! Settings of one node among many: the section `[cluster]`.

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use super::{Config, ConfigError, duration_required};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes events.
    Gateway,
    /// Folds the partitions that the group gives it.
    Materializer,
    /// Answers what is asked.
    Api,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::Materializer, Self::Api];
}

/// One node among many.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// What this node does.
    pub roles: Vec<Role>,
    /// Its name, which no other node has; the host's name when absent.
    pub node: Option<String>,
    /// Where other nodes ask this one: `http://host:port`, without a path.
    pub advertise: Option<String>,
    /// How long a node may be silent before its partitions are given to others. A node that comes back before gets them back.
    #[serde(deserialize_with = "duration_required")]
    pub session_timeout: Duration,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { roles: Role::ALL.to_vec(), node: None, advertise: None, session_timeout: Duration::from_secs(10) }
    }
}

/// Bytes of a node's name: part of the group's metadata and of documents.
const NODE_BYTES_MAX: usize = 200;

impl Config {
    /// Whether log and rows are shared with other nodes. Either both are, or none.
    pub fn is_cluster(&self) -> bool {
        self.kafka.brokers.is_some() && self.database.url.is_some()
    }

    /// Whether this node has a role.
    pub fn has_role(&self, role: Role) -> bool {
        self.cluster.roles.contains(&role)
    }

    pub(super) fn check_cluster(&self) -> Result<(), ConfigError> {
        let wrong = |what: &str| Err(ConfigError::Check(what.to_owned()));
        match (&self.kafka.brokers, &self.database.url) {
            (Some(_), None) => {
                return wrong(
                    "TOLLGATE_KAFKA_BROKERS (kafka.brokers) is set, but not TOLLGATE_DATABASE_URL (database.url): a log on Kafka needs its rows in PostgreSQL; set both, or none",
                );
            }
            (None, Some(_)) => {
                return wrong(
                    "TOLLGATE_DATABASE_URL (database.url) is set, but not TOLLGATE_KAFKA_BROKERS (kafka.brokers): rows in PostgreSQL need their log on Kafka; set both, or none",
                );
            }
            _ => {}
        }
        let cluster = &self.cluster;
        if cluster.roles.is_empty() {
            return wrong("cluster.roles is empty: gateway, materializer and api are there to choose from");
        }
        if !self.is_cluster() && Role::ALL.iter().any(|role| !self.has_role(*role)) {
            return wrong(
                "cluster.roles can be some of all only with TOLLGATE_KAFKA_BROKERS and TOLLGATE_DATABASE_URL: without them there is one node, which does everything",
            );
        }
        let is_name = |name: &String| !name.is_empty() && name.len() <= NODE_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
        if cluster.node.as_ref().is_some_and(|name| !is_name(name)) {
            return wrong("cluster.node must be 1 to 200 characters of printable ASCII without spaces");
        }
        let is_address = |url: &str| url.strip_prefix("http://").is_some_and(|rest| rest.parse::<hyper::http::uri::Authority>().is_ok());
        if cluster.advertise.as_deref().is_some_and(|url| !is_address(url)) {
            return wrong("cluster.advertise must be http://host:port, without a path");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&cluster.session_timeout) {
            return wrong("cluster.session_timeout must be 1s to 300s");
        }
        if self.is_cluster() && self.tls.is_some() && self.ops_listen.is_none() {
            return wrong("tls needs ops_listen in a cluster: nodes ask each other there, in the clear, on a network of their own");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::parse;

    const BOTH: &str = "[kafka]\nbrokers = 'a:9092'\n[database]\nurl = 'postgres://h/d'\n";

    #[test]
    fn log_and_rows_are_shared_both_or_none() {
        assert!(!parse("").expect("good").is_cluster());
        assert!(parse(BOTH).expect("good").is_cluster());
        for (one, other) in
            [("[kafka]\nbrokers = 'a'", "TOLLGATE_DATABASE_URL"), ("[database]\nurl = 'postgres://h/d'", "TOLLGATE_KAFKA_BROKERS")]
        {
            let refusal = parse(one).expect_err("refused");
            assert!(refusal.contains(&format!("but not {other}")), "{refusal}");
        }
    }

    #[test]
    fn what_makes_no_sense_of_a_node_is_refused_by_name() {
        for (text, name) in [
            ("roles = []", "cluster.roles"),
            ("roles = ['cook']", "cook"),
            ("node = 'a b'", "cluster.node"),
            ("advertise = 'https://h:1'", "cluster.advertise"),
            ("advertise = 'http://h:1/path'", "cluster.advertise"),
            ("session_timeout = '1h'", "cluster.session_timeout"),
        ] {
            let refusal = parse(&format!("{BOTH}[cluster]\n{text}")).expect_err(text);
            assert!(refusal.contains(name), "{refusal}");
        }
        assert!(parse("[cluster]\nroles = ['api']").expect_err("alone").contains("cluster.roles"));
        assert!(parse(&format!("{BOTH}[cluster]\nroles = ['api']\nadvertise = 'http://h:1'")).expect("good").has_role(Role::Api));
        let tls = format!("{BOTH}[tls]\ncert = 'c'\nkey = 'k'\n");
        assert!(parse(&tls).expect_err("refused").contains("ops_listen"));
    }
}
