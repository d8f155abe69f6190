//! What an overload found out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::super::args::OverloadSize;
use super::super::overload::Offered;
use super::{Latency, per_million, seconds};

/// The result of an overload.
#[derive(Debug, Serialize)]
pub(in crate::loadgen) struct OverloadReport {
    factor: f64,
    clients: u64,
    timeout_seconds: u64,
    elapsed_seconds: f64,
    /// In a closed loop, before and after.
    capacity_events_per_second: [f64; 2],
    /// Events that were due a second.
    offered_events_per_second: u64,
    /// Of these, events of requests that found a connection.
    sent_events_per_second: f64,
    goodput_events_per_second: f64,
    /// Of the mean of the two capacities.
    goodput_percent: f64,
    /// What a million events cost the server before, during and after: on a machine that does other things as well, this is what
    /// overload costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_seconds_per_million_events: Option<[f64; 3]>,
    events_acked: u64,
    events_refused: u64,
    events_unknown: u64,
    /// Found no connection in time.
    events_unsent: u64,
    attempts: u64,
    retries: u64,
    errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_bad_answer: Option<String>,
    /// Of acked attempts, from when they were sent.
    served_ms: Latency,
    /// Of acked requests, from when they were due.
    due_ms: Latency,
    /// Longest that an answer other than 2xx took.
    refused_ms_max: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident: Option<Resident>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generator_cpu_seconds: Option<f64>,
}

/// What got done in one phase.
#[derive(Debug, Clone, Copy)]
pub(in crate::loadgen) struct Pace {
    pub(in crate::loadgen) elapsed: Duration,
    /// Acked.
    pub(in crate::loadgen) events: u64,
    /// Until the server was idle again.
    pub(in crate::loadgen) server_cpu: Option<Duration>,
}

impl Pace {
    pub(in crate::loadgen) fn events_per_second(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(0.001)
    }

    fn cpu_seconds_per_million(&self) -> Option<f64> {
        Some(per_million(self.server_cpu?, self.events))
    }
}

/// The server's memory over the time of the overload, in bytes.
#[derive(Debug, Serialize)]
struct Resident {
    first: u64,
    /// Medians of the four quarters.
    quarters: [u64; 4],
    peak: u64,
}

impl Resident {
    fn new(seen: &[u64]) -> Option<Self> {
        let quarter = seen.len().div_ceil(4).max(1);
        let mut quarters = [0; 4];
        for (median, part) in quarters.iter_mut().zip(seen.chunks(quarter)) {
            let mut part = part.to_vec();
            part.sort_unstable();
            *median = part.get(part.len() / 2).copied()?;
        }
        Some(Self { first: *seen.first()?, quarters, peak: *seen.iter().max()? })
    }
}

impl OverloadReport {
    /// `paces` are those before, during and after; `rate` is what was offered, in events a second.
    pub(in crate::loadgen) fn new(
        size: OverloadSize,
        rate: u64,
        paces: [Pace; 3],
        offered: Offered,
        resident: Option<Vec<u64>>,
        own_cpu: Option<Duration>,
    ) -> Self {
        let Offered { tally, served_us, events_sent, events_unsent, refused_us_max } = offered;
        let [before, during, after] = paces;
        let capacity = (before.events_per_second() + after.events_per_second()) / 2.0;
        let costs = paces.map(|pace| pace.cpu_seconds_per_million());
        let costs = if let [Some(before), Some(during), Some(after)] = costs { Some([before, during, after]) } else { None };
        let percent = during.events_per_second() / capacity.max(0.001) * 100.0;
        Self {
            factor: size.factor,
            clients: size.clients,
            timeout_seconds: size.timeout.as_secs(),
            elapsed_seconds: seconds(during.elapsed),
            capacity_events_per_second: [before, after].map(|pace| pace.events_per_second().round()),
            offered_events_per_second: rate,
            sent_events_per_second: (events_sent as f64 / during.elapsed.as_secs_f64().max(0.001)).round(),
            goodput_events_per_second: during.events_per_second().round(),
            goodput_percent: (percent * 10.0).round() / 10.0,
            server_cpu_seconds_per_million_events: costs,
            events_acked: tally.events_acked,
            events_refused: tally.events_refused,
            events_unknown: tally.events_unknown,
            events_unsent,
            attempts: tally.attempts,
            retries: tally.retries,
            errors: tally.problems.into_iter().map(|(problem, count)| (problem.to_string(), count)).collect(),
            first_bad_answer: tally.first_bad_answer,
            served_ms: Latency::new(&served_us),
            due_ms: Latency::new(&tally.latency_us),
            refused_ms_max: refused_us_max as f64 / 1_000.0,
            resident: resident.as_deref().and_then(Resident::new),
            generator_cpu_seconds: own_cpu.map(seconds),
        }
    }

    /// Why the run is a failure as a whole: nothing was acked.
    pub(in crate::loadgen) fn failure(&self) -> Option<String> {
        (self.events_acked == 0).then(|| format!("no event was acked; first answer: {:?}", self.first_bad_answer))
    }
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |events: f64| HumanCount(events as u64);
        writeln!(
            f,
            "overload   {} × for {:.1} s, {} clients with a time-out of {} s",
            self.factor, self.elapsed_seconds, self.clients, self.timeout_seconds
        )?;
        writeln!(
            f,
            "goodput    {} events/s = {:.1} % of what it does alone, {} events/s before and {} after",
            count(self.goodput_events_per_second),
            self.goodput_percent,
            count(self.capacity_events_per_second[0]),
            count(self.capacity_events_per_second[1])
        )?;
        writeln!(
            f,
            "offered    {} events/s, {} of them found a connection",
            HumanCount(self.offered_events_per_second),
            count(self.sent_events_per_second)
        )?;
        if let Some([before, during, after]) = self.server_cpu_seconds_per_million_events {
            writeln!(f, "cost       {during:.3} CPU-s a million events; {before:.3} before and {after:.3} after")?;
        }
        writeln!(
            f,
            "events     {} acked, {} refused, {} unknown, {} given up before they were sent",
            HumanCount(self.events_acked),
            HumanCount(self.events_refused),
            HumanCount(self.events_unknown),
            HumanCount(self.events_unsent)
        )?;
        let errors: Vec<_> = self.errors.iter().map(|(problem, count)| format!("{problem} × {}", HumanCount(*count))).collect();
        writeln!(f, "attempts   {}, {} of them again; {}", HumanCount(self.attempts), HumanCount(self.retries), errors.join(", "))?;
        if let Some(answer) = &self.first_bad_answer {
            writeln!(f, "           first answer: {answer}")?;
        }
        for (name, latency) in [("served in", &self.served_ms), ("since due", &self.due_ms)] {
            writeln!(f, "{name}  p50 {:.1}  p99 {:.1}  max {:.1} ms", latency.p50, latency.p99, latency.max)?;
        }
        writeln!(f, "refused in max {:.1} ms", self.refused_ms_max)?;
        if let Some(Resident { first, quarters, peak }) = &self.resident {
            let quarters: Vec<_> = quarters.iter().map(|bytes| HumanBytes(*bytes).to_string()).collect();
            writeln!(
                f,
                "resident   {} at first, medians of the quarters {}; at most {}",
                HumanBytes(*first),
                quarters.join(", "),
                HumanBytes(*peak)
            )?;
        }
        if let Some(cpu) = self.generator_cpu_seconds {
            writeln!(f, "generator  {cpu:.2} CPU-s, {:.0} % of a core", cpu / self.elapsed_seconds * 100.0)?;
        }
        Ok(())
    }
}
