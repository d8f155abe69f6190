//! `--sweep` and `--grow`: several runs, a line of a table for each, and a drawing of them all.
//!
//! Each run is what `tollgate bench` does without these options, with ids of its own. The next one begins when the server is idle
//! (as far as `--pid` lets that be seen), so what a run leaves to be done is part of its cost and no load on the next. A series
//! ends early where going on would tell nothing: after Ctrl-C, after a run in which nothing was acked, when the time is up. What
//! was measured by then is reported all the same.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::iter::successors;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{Series, Size};
use super::plot::{Axis, Line, Mark, Panel, Plot, Point, Scale, round_at_or_above};
use super::report::{EndedBy, Latency, Report};
use super::{Bench, SERVER_ENDED, SETTLE_MAX};

/// Between the runs of a sweep, where nobody can see whether the server is idle.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a growing server is given to finish behind each step: rows and index may lag behind a closed loop.
const GROWTH_SETTLE_MAX: Duration = Duration::from_secs(30);
/// How long is looked for a Ctrl-C that has come.
const LOOK: Duration = Duration::from_millis(20);
/// A run that took this share of its time longer than it was planned to, and this many seconds, has left a queue: the server was behind.
/// Less is what the last answers take.
const BEHIND_SHARE: f64 = 0.02;
const BEHIND_S: f64 = 0.1;
/// Where the points of a growth begin at the latest.
const FIRST_MILESTONE_MAX: f64 = 1e6;

/// Where the drawing goes. Opened before the first run, so that no figures are lost to a wrong path.
#[derive(Debug)]
pub(super) struct PlotFile {
    path: PathBuf,
    file: File,
}

impl PlotFile {
    /// Opens the file, making it if need be. What it holds stays until [`PlotFile::write`].
    ///
    /// # Errors
    /// It cannot be opened for writing.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot write the file given by --plot, {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(mut self, plot: &Plot) -> anyhow::Result<()> {
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(plot.to_string().as_bytes()));
        written.with_context(|| format!("cannot write the file given by --plot, {}", self.path.display()))
    }
}

/// A run of a growth.
#[derive(Debug, Serialize)]
struct Step {
    /// Ids that were acked up to its end.
    known_ids: u64,
    #[serde(flatten)]
    report: Report,
}

impl Bench<'_> {
    /// Makes the runs, prints and draws what they found out; gives why the series is a failure, if it is one.
    pub(super) fn series(self, series: Series, plot: Option<PlotFile>) -> anyhow::Result<Option<String>> {
        match series {
            Series::Sweep(runs) => {
                let runs = self.sweep(runs)?;
                self.finish(&runs, plot, || sweep_plot(self.title("Latency against rate"), &runs))?;
                Ok(runs.last().and_then(Report::failure))
            }
            Series::Growth { ids, size } => {
                let steps = self.grow(ids, size)?;
                self.finish(&steps, plot, || growth_plot(self.title("Cost and memory against ids known"), &steps))?;
                if steps.last().is_some_and(|step| step.report.server.is_none()) {
                    bail!(SERVER_ENDED);
                }
                Ok(steps.last().and_then(|step| step.report.failure()))
            }
        }
    }

    /// A run of each size.
    fn sweep(&self, sizes: Vec<Size>) -> anyhow::Result<Vec<Report>> {
        let mut runs = Vec::with_capacity(sizes.len());
        let mut interrupts = self.interrupts()?;
        self.say(&format!(
            "{:>12} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            "offered/s", "reached/s", "p50", "p90", "p99", "p99.9 ms", "CPU-s/M"
        ))?;
        for size in sizes {
            if self.server.is_none() && !runs.is_empty() {
                std::thread::sleep(PAUSE);
            }
            let report = self.measure(size, SETTLE_MAX)?;
            self.say(&sweep_line(&report))?;
            let is_in_vain = report.events_acked == 0;
            runs.push(report);
            if is_in_vain || self.was_interrupted(&mut interrupts) {
                break;
            }
        }
        if self.server.is_some() && runs.iter().any(|run| run.server.is_none()) {
            writeln!(std::io::stderr(), "warning: {SERVER_ENDED}")?;
        }
        Ok(runs)
    }

    /// Closed loops, from one milestone to the next.
    fn grow(&self, ids: u64, size: Size) -> anyhow::Result<Vec<Step>> {
        let end = Instant::now() + size.duration_max;
        let mut steps: Vec<Step> = Vec::new();
        let mut interrupts = self.interrupts()?;
        self.say(&format!("{:>14} {:>12} {:>9} {:>12} {:>9} {:>9}\n", "ids known", "events/s", "CPU-s/M", "resident", "p50", "p99 ms"))?;
        for milestone in milestones(ids) {
            let known = steps.last().map_or(0, |step| step.known_ids);
            let left = end.saturating_duration_since(Instant::now());
            // What was refused is made up for by the next step.
            let Some(events_max) = milestone.checked_sub(known).filter(|events| *events > 0 && !left.is_zero()) else { continue };
            let report = self.measure(Size { events_max, duration_max: left, ..size }, GROWTH_SETTLE_MAX)?;
            let step = Step { known_ids: known + report.events_acked, report };
            self.say(&growth_line(&step))?;
            let is_over = step.report.ended_by != EndedBy::Events || step.report.events_acked == 0 || step.report.server.is_none();
            steps.push(step);
            if is_over || self.was_interrupted(&mut interrupts) {
                break;
            }
        }
        Ok(steps)
    }

    /// Ctrl-C from now on. A run hears of it by itself; between runs, while the server comes to rest, nobody else does.
    fn interrupts(&self) -> anyhow::Result<Signal> {
        let _in_runtime = self.runtime.enter();
        signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")
    }

    fn was_interrupted(&self, interrupts: &mut Signal) -> bool {
        self.runtime.block_on(async { tokio::time::timeout(LOOK, interrupts.recv()).await.is_ok() })
    }

    /// A line of the table.
    fn say(&self, line: &str) -> anyhow::Result<()> {
        if self.args.json {
            return Ok(());
        }
        std::io::stdout().lock().write_all(line.as_bytes()).context("cannot print the table")
    }

    fn finish(&self, runs: &impl Serialize, file: Option<PlotFile>, plot: impl FnOnce() -> Plot) -> anyhow::Result<()> {
        if self.args.json {
            let json = serde_json::to_string(runs)? + "\n";
            std::io::stdout().lock().write_all(json.as_bytes()).context("cannot print the report")?;
        }
        file.map_or(Ok(()), |file| file.write(&plot()))
    }

    /// What stands above the drawing.
    fn title(&self, what: &str) -> String {
        let Size { events_per_request, connections, .. } = self.size;
        let many = |number: u64, what: &str| format!("{} {what}{}", HumanCount(number), if number == 1 { "" } else { "s" });
        let own = || format!("{what}, {} a request, {}", many(events_per_request, "event"), many(connections, "connection"));
        self.args.title.clone().unwrap_or_else(own)
    }
}

/// Numbers of ids at which a growth has its points: 1, 2 and 5 times powers of ten from a hundredth of them on, and all of them.
fn milestones(ids: u64) -> Vec<u64> {
    let first = round_at_or_above((ids as f64 / 100.0).clamp(1.0, FIRST_MILESTONE_MAX));
    let round = successors(Some(first), |last| Some(round_at_or_above(last * 1.5)));
    let mut milestones: Vec<_> = round.map(|number| number.round() as u64).take_while(|number| *number < ids).collect();
    milestones.push(ids);
    milestones
}

/// Whether less was reached than offered.
fn is_behind(report: &Report) -> bool {
    report.load.rate.is_some_and(|offered| {
        let late_s = report.elapsed_seconds - report.events_acked as f64 / offered as f64;
        late_s > BEHIND_S && late_s > report.elapsed_seconds * BEHIND_SHARE
    })
}

fn sweep_line(report: &Report) -> String {
    let offered = report.load.rate.map_or("max".to_owned(), |rate| HumanCount(rate).to_string());
    let reached = HumanCount(report.events_per_second as u64).to_string();
    let Latency { p50, p90, p99, p99_9, .. } = report.latency_ms;
    let cost = cost_text(report);
    let behind = if is_behind(report) { "  behind" } else { "" };
    format!("{offered:>12} {reached:>12} {p50:>9.3} {p90:>9.3} {p99:>9.3} {p99_9:>9.3} {cost:>9}{behind}\n")
}

fn growth_line(Step { known_ids, report }: &Step) -> String {
    let known = HumanCount(*known_ids).to_string();
    let reached = HumanCount(report.events_per_second as u64).to_string();
    let resident = report.server.as_ref().map_or("–".to_owned(), |server| HumanBytes(server.resident_bytes).to_string());
    let Latency { p50, p99, .. } = report.latency_ms;
    format!("{known:>14} {reached:>12} {:>9} {resident:>12} {p50:>9.3} {p99:>9.3}\n", cost_text(report))
}

fn cost_text(report: &Report) -> String {
    report.server.as_ref().map_or("–".to_owned(), |server| format!("{:.3}", server.cpu_seconds_per_million_events))
}

/// Latency against the rate offered; a closed loop stands at the rate that it reached.
fn sweep_plot(title: String, runs: &[Report]) -> Plot {
    let line = |name, latency_ms: fn(&Latency) -> f64| {
        let acked = runs.iter().filter(|run| run.events_acked > 0);
        let points = acked.map(|run| Point {
            x: run.load.rate.map_or(run.events_per_second, |rate| rate as f64),
            y: latency_ms(&run.latency_ms) / 1e3,
            mark: match run.load.rate {
                None => Mark::Closed,
                Some(_) if is_behind(run) => Mark::Behind,
                Some(_) => Mark::Plain,
            },
        });
        Line { name, points: points.collect() }
    };
    let lines = vec![line("p50", |ms| ms.p50), line("p90", |ms| ms.p90), line("p99", |ms| ms.p99)];
    Plot { title, panels: vec![panel(("events/s", Scale::Log, ""), ("latency", Scale::Log, "s"), lines)] }
}

/// What an event cost in each step, and how much memory the server had at its end, against the ids known then.
fn growth_plot(title: String, steps: &[Step]) -> Plot {
    let line = |name, figure: &dyn Fn(&Report) -> Option<f64>| {
        let points = steps.iter().filter_map(|step| Some(Point { x: step.known_ids as f64, y: figure(&step.report)?, mark: Mark::Plain }));
        Line { name, points: points.collect() }
    };
    let cost = line("CPU time of the server an event", &|report| Some(report.server.as_ref()?.cpu_seconds_per_million_events / 1e6));
    let resident = line("its resident memory", &|report| Some(report.server.as_ref()?.resident_bytes as f64));
    let ids = ("ids known", Scale::Log, "");
    let panels = vec![
        panel(ids, ("CPU time an event", Scale::Linear, "s"), vec![cost]),
        panel(ids, ("resident memory", Scale::Linear, "B"), vec![resident]),
    ];
    Plot { title, panels }
}

type AxisKind = (&'static str, Scale, &'static str);

/// A panel whose axes are as long as the lines need them. Axes are given by name, scale and unit.
fn panel(x: AxisKind, y: AxisKind, lines: Vec<Line>) -> Panel {
    let axis = |(name, scale, unit): AxisKind, value: fn(&Point) -> f64| {
        Axis::new(name, scale, unit, lines.iter().flat_map(|line| &line.points).map(value))
    };
    Panel { x: axis(x, |point| point.x), y: axis(y, |point| point.y), lines }
}

#[cfg(test)]
mod tests {
    use super::super::report::Load;
    use super::super::tally::Tally;
    use super::*;

    /// A run of a second that reached so many events with 8 ms of latency.
    fn run(rate: Option<u64>, reached: u64) -> Report {
        let start = Instant::now();
        let mut tally = Tally::new().expect("a tally");
        tally.ack(start, start + Duration::from_millis(8), reached, 0, 0);
        let load = Load { events_per_request: 1, connections: 64, threads: 1, rate, is_gzipped: false };
        Report::new(load, EndedBy::Duration, Duration::from_secs(1), tally, None, None)
    }

    #[test]
    fn milestones_are_round_and_end_with_what_was_asked_for() {
        assert_eq!(milestones(10_000_000), [100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000]);
        let many = milestones(300_000_000);
        assert_eq!((many[0], many.len()), (1_000_000, 9));
        assert_eq!(many[7..], [200_000_000, 300_000_000]);
        assert_eq!(milestones(3), [1, 2, 3]);
        assert_eq!(milestones(1), [1]);
    }

    #[test]
    fn a_run_that_reached_less_than_was_offered_is_marked() {
        let runs = [run(Some(1_000), 1_000), run(Some(2_000), 1_900), run(Some(4_000), 2_500), run(None, 3_000)];
        let plot = sweep_plot("t".into(), &runs);
        let points: Vec<_> = plot.panels[0].lines[0].points.iter().map(|point| (point.x, point.mark)).collect();
        assert_eq!(points, [(1_000.0, Mark::Plain), (2_000.0, Mark::Plain), (4_000.0, Mark::Behind), (3_000.0, Mark::Closed)]);
        let lines: Vec<_> = runs.iter().map(sweep_line).collect();
        assert_eq!(lines.iter().map(|line| line.contains("behind")).collect::<Vec<_>>(), [false, false, true, false]);
        assert!(lines[3].trim_start().starts_with("max "), "{}", lines[3]);
        assert!((plot.panels[0].lines[2].points[0].y - 0.008).abs() < 1e-4, "in seconds");
    }

    #[test]
    fn a_run_without_an_ack_is_not_drawn() {
        let silent = Report::new(run(Some(5), 1).load, EndedBy::Events, Duration::ZERO, Tally::new().expect("a tally"), None, None);
        let plot = sweep_plot("t".into(), &[silent]);
        assert!(plot.panels[0].lines.iter().all(|line| line.points.is_empty()));
        assert!(plot.to_string().contains("</svg>"));
    }
}
