//! What a run found out, as text for people and as one JSON object for scripts.

pub(super) mod overload;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::process::Memory;
use super::tally::Tally;

/// What ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EndedBy {
    /// Every event was sent, or every connection had given up.
    Events,
    /// The time was up.
    Duration,
    /// Ctrl-C.
    Interrupt,
}

/// How the load was made.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    pub(super) events_per_request: u64,
    pub(super) connections: usize,
    pub(super) threads: usize,
    /// Events a second; absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<u64>,
    pub(super) is_gzipped: bool,
}

/// CPU and memory of the measured server.
#[derive(Debug, Serialize)]
pub(super) struct ServerUsage {
    pub(super) pid: u32,
    /// From the start to the end of the load.
    pub(super) cpu_seconds_while_loaded: f64,
    /// From the start until the server was idle again (waited for up to 5 s): with the work that follows an ack.
    pub(super) cpu_seconds: f64,
    pub(super) cpu_seconds_per_million_events: f64,
    pub(super) resident_bytes: u64,
    pub(super) peak_resident_bytes: u64,
}

impl ServerUsage {
    pub(super) fn new(pid: u32, while_loaded: Duration, until_idle: Duration, memory: Memory, events: u64) -> Self {
        Self {
            pid,
            cpu_seconds_while_loaded: seconds(while_loaded),
            cpu_seconds: seconds(until_idle),
            cpu_seconds_per_million_events: per_million(until_idle, events),
            resident_bytes: memory.resident_bytes,
            peak_resident_bytes: memory.peak_bytes,
        }
    }
}

/// CPU of the generator itself.
#[derive(Debug, Serialize)]
pub(super) struct OwnUsage {
    cpu_seconds: f64,
    cpu_seconds_per_million_events: f64,
}

impl OwnUsage {
    pub(super) fn new(cpu: Duration, events: u64) -> Self {
        Self { cpu_seconds: seconds(cpu), cpu_seconds_per_million_events: per_million(cpu, events) }
    }
}

/// Latencies of acked requests in ms; all 0 where there are none.
#[derive(Debug, Default, Serialize)]
pub(super) struct Latency {
    min: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    max: f64,
}

impl Latency {
    fn new(latency_us: &Histogram<u64>) -> Self {
        if latency_us.is_empty() {
            return Self::default();
        }
        let ms = |us: u64| us as f64 / 1_000.0;
        let at = |quantile| ms(latency_us.value_at_quantile(quantile));
        Self { min: ms(latency_us.min()), p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max: ms(latency_us.max()) }
    }
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) load: Load,
    pub(super) ended_by: EndedBy,
    /// From the start to when the last request was acked or given up; if the run was ended early, at least to then.
    pub(super) elapsed_seconds: f64,
    pub(super) events_acked: u64,
    pub(super) events_per_second: f64,
    events_repeated: u64,
    events_rejected: u64,
    events_refused: u64,
    events_unknown: u64,
    requests_acked: u64,
    attempts: u64,
    retries: u64,
    bytes_sent: u64,
    pub(super) latency_ms: Latency,
    /// Attempts without success, by reason.
    errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_bad_answer: Option<String>,
    /// Absent without `--pid`, and if the process ended during the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<ServerUsage>,
    /// Absent where there is no `/proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    generator: Option<OwnUsage>,
}

impl Report {
    /// Puts a run's figures together. `elapsed` is how long requests were sent or waited for.
    pub(super) fn new(
        load: Load,
        ended_by: EndedBy,
        elapsed: Duration,
        tally: Tally,
        server: Option<ServerUsage>,
        generator: Option<OwnUsage>,
    ) -> Self {
        let events_per_second = if elapsed.is_zero() { 0.0 } else { tally.events_acked as f64 / elapsed.as_secs_f64() };
        Self {
            load,
            ended_by,
            elapsed_seconds: seconds(elapsed),
            events_acked: tally.events_acked,
            events_per_second: events_per_second.round(),
            events_repeated: tally.events_repeated,
            events_rejected: tally.events_rejected,
            events_refused: tally.events_refused,
            events_unknown: tally.events_unknown,
            requests_acked: tally.requests_acked,
            attempts: tally.attempts,
            retries: tally.retries,
            bytes_sent: tally.bytes_sent,
            latency_ms: Latency::new(&tally.latency_us),
            errors: tally.problems.into_iter().map(|(problem, count)| (problem.to_string(), count)).collect(),
            first_bad_answer: tally.first_bad_answer,
            server,
            generator,
        }
    }

    /// Why the run is a failure as a whole: nothing was acked. `None` if something was.
    pub(super) fn failure(&self) -> Option<String> {
        if self.events_acked > 0 {
            return None;
        }
        let errors = self.errors_text();
        let answer = self.first_bad_answer.as_deref().map(|answer| format!("; first: {answer}")).unwrap_or_default();
        Some(format!("no event was acked (errors: {errors}{answer})"))
    }

    fn errors_text(&self) -> String {
        let mut errors: Vec<_> = self.errors.iter().map(|(problem, count)| format!("{problem} × {}", HumanCount(*count))).collect();
        if errors.is_empty() {
            errors.push("none".into());
        }
        errors.join(", ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { events_per_request, connections, threads, rate, is_gzipped } = &self.load;
        let pace = rate.map_or("closed loop".into(), |rate| format!("paced at {} events/s", HumanCount(rate)));
        let encoding = if *is_gzipped { ", gzip" } else { "" };
        let ended = match self.ended_by {
            EndedBy::Events => "",
            EndedBy::Duration => ", ended by time",
            EndedBy::Interrupt => ", interrupted",
        };
        writeln!(
            f,
            "load       {} event(s) a request, {connections} connection(s), {threads} thread(s), {pace}{encoding}{ended}",
            HumanCount(*events_per_request)
        )?;
        writeln!(
            f,
            "events     {} acked in {:.3} s = {} events/s",
            HumanCount(self.events_acked),
            self.elapsed_seconds,
            HumanCount(self.events_per_second as u64)
        )?;
        writeln!(
            f,
            "           {} repeated an earlier one; {} rejected, {} refused, {} unknown",
            HumanCount(self.events_repeated),
            HumanCount(self.events_rejected),
            HumanCount(self.events_refused),
            HumanCount(self.events_unknown)
        )?;
        writeln!(
            f,
            "requests   {} acked, {} attempts, {} retries, {} sent",
            HumanCount(self.requests_acked),
            HumanCount(self.attempts),
            HumanCount(self.retries),
            HumanBytes(self.bytes_sent)
        )?;
        let Latency { min, p50, p90, p99, p99_9, max } = self.latency_ms;
        writeln!(f, "latency    min {min:.3}  p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p99_9:.3}  max {max:.3} ms")?;
        writeln!(f, "errors     {}", self.errors_text())?;
        if let Some(answer) = &self.first_bad_answer {
            writeln!(f, "           first answer: {answer}")?;
        }
        if let Some(server) = &self.server {
            writeln!(
                f,
                "server     {:.2} CPU-s ({:.2} under load) = {:.3} CPU-s a million events; RSS {}, peak {} (pid {})",
                server.cpu_seconds,
                server.cpu_seconds_while_loaded,
                server.cpu_seconds_per_million_events,
                HumanBytes(server.resident_bytes),
                HumanBytes(server.peak_resident_bytes),
                server.pid
            )?;
        }
        if let Some(own) = &self.generator {
            writeln!(f, "generator  {:.2} CPU-s = {:.3} CPU-s a million events", own.cpu_seconds, own.cpu_seconds_per_million_events)?;
        }
        Ok(())
    }
}

/// To the millisecond; more would be noise.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}

/// CPU-seconds a million events; 0 when there were none.
fn per_million(cpu: Duration, events: u64) -> f64 {
    if events == 0 {
        return 0.0;
    }
    (cpu.as_secs_f64() * 1e9 / events as f64).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn report(acked: u64) -> Report {
        let start = Instant::now();
        let mut tally = Tally::new().expect("a tally");
        if acked > 0 {
            tally.ack(start, start + Duration::from_millis(5), acked, 0, 0);
        } else {
            tally.count_answer(&super::super::wire::Answer { status: 401, rejected: 0, retry_after: None, excerpt: "no such key".into() });
        }
        let load = Load { events_per_request: 1_000, connections: 8, threads: 1, rate: None, is_gzipped: false };
        let memory = Memory { resident_bytes: 1 << 20, peak_bytes: 1 << 21 };
        let server = ServerUsage::new(7, Duration::from_millis(1_500), Duration::from_millis(2_000), memory, acked);
        let own = OwnUsage::new(Duration::from_millis(250), acked);
        Report::new(load, EndedBy::Events, Duration::from_secs(2), tally, Some(server), Some(own))
    }

    #[test]
    fn rates_and_costs_are_those_of_the_acked_events() {
        let json = serde_json::to_value(report(1_000_000)).expect("JSON");
        assert_eq!(json["events_per_second"].as_f64(), Some(500_000.0));
        assert_eq!(json["server"]["cpu_seconds_per_million_events"].as_f64(), Some(2.0));
        assert_eq!(json["generator"]["cpu_seconds_per_million_events"].as_f64(), Some(0.25));
        assert_eq!(json["latency_ms"]["max"].as_f64().map(f64::round), Some(5.0));
    }

    #[test]
    fn a_run_without_an_ack_is_a_failure_that_says_why() {
        assert_eq!(report(1).failure(), None);
        let failure = report(0).failure().expect("a failure");
        assert!(failure.contains("status 401 × 1") && failure.contains("no such key"), "{failure}");
        assert!(report(0).to_string().contains("0 acked"));
    }
}
