//! The operators' commands: arguments, progress, what is printed, exit codes.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::clock::Clock;
use crate::config::Config;
use crate::data_dir::DataDirError;
use crate::ops::backup::{self, Content};
use crate::ops::doctor::Doctor;
use crate::ops::rebuild::Rebuild;
use crate::ops::restore::Restore;
use crate::ops::verify::cluster::VerifyCluster;
use crate::ops::verify::{Difference, Verified, Verify};
use crate::ops::{Error, FromBase, Standing, Step, control};

/// There is a difference, or damage.
const DIFFERENT: u8 = 1;
/// It could not be found out.
const NOT_DONE: u8 = 2;
/// Pause between two lines of progress where nobody looks at a terminal.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// Which data directory.
#[derive(Debug, Args)]
pub(super) struct DataDirArgs {
    /// Settings in TOML, of which only `data_dir` counts here
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory [default: ./tollgate-data]
    #[arg(long, value_name = "DIR", env = "TOLLGATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDirArgs {
    fn path(&self) -> anyhow::Result<PathBuf> {
        match (&self.data_dir, &self.config) {
            (Some(dir), _) => Ok(dir.clone()),
            (None, Some(file)) => Ok(Config::from_file(file).context("the settings cannot be used")?.data_dir),
            (None, None) => Ok(Config::default().data_dir),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    data_dir: DataDirArgs,
    /// Verify a cluster: the topic of this Kafka against the rows in --database-url, while it runs
    #[arg(long, value_name = "HOST:PORT,…", env = "TOLLGATE_KAFKA_BROKERS")]
    kafka_brokers: Option<String>,
    /// PostgreSQL that the nodes of a cluster share
    #[arg(long, value_name = "URL", env = "TOLLGATE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Where the scratch store is made; it goes when all is done [default: in the data directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Begin with the base, also where the log goes back to the begin
    #[arg(long)]
    from_base: bool,
}

#[derive(Debug, Args)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    data_dir: DataDirArgs,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    data_dir: DataDirArgs,
    /// Where the store is copied to, to be checked there [default: in the data directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    data_dir: DataDirArgs,
    /// The backup: a directory that is not there yet
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    data_dir: DataDirArgs,
    /// A backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

/// A bar on a terminal, a line now and then elsewhere; standard error, so that standard output has the result only.
struct Progress {
    name: &'static str,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    fn new(name: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            // A template of our own; the default would do, too.
            if let Ok(style) = ProgressStyle::with_template("{msg}  {wide_bar}  {percent}%  {eta}") {
                bar.set_style(style);
            }
            bar
        });
        Self { name, bar, last_line: Instant::now() }
    }

    fn at(&mut self, Step { what, done, of }: Step) {
        let shown = |count| if what == "bytes" { HumanBytes(count).to_string() } else { HumanCount(count).to_string() };
        let text = match what {
            "bytes" => format!("{}: {} of {}", self.name, shown(done), shown(of)),
            what => format!("{}: {} of {} {what}", self.name, shown(done), shown(of)),
        };
        if let Some(bar) = &self.bar {
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(text);
        } else if self.last_line.elapsed() >= LINE_PAUSE {
            self.last_line = Instant::now();
            eprintln!("{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Runs something that reports its progress.
fn watched<T>(name: &'static str, run: impl FnOnce(&mut crate::ops::Watch<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let mut progress = Progress::new(name);
    run(&mut |step| {
        progress.at(step);
        Ok(())
    })
}

/// Prints a result. Whoever closed the output does not want it.
fn print(text: &str) {
    let _closed = writeln!(io::stdout().lock(), "{text}");
}

/// What could not be found out, with the exit code that says so.
fn not_done(error: &anyhow::Error) -> ExitCode {
    eprintln!("tollgate: {error:#}");
    ExitCode::from(NOT_DONE)
}

impl VerifyArgs {
    /// The cluster that is meant, if one is.
    fn cluster(&self) -> anyhow::Result<Option<VerifyCluster>> {
        let mut config = match &self.data_dir.config {
            Some(file) => Config::from_file(file).context("the settings cannot be used")?,
            None => Config::default(),
        };
        config.kafka.brokers = self.kafka_brokers.clone().or(config.kafka.brokers);
        config.database.url = self.database_url.as_deref().map(Into::into).or(config.database.url);
        let config = config.checked().context("the settings cannot be used")?;
        let (Some(kafka), Some(database)) = (config.kafka(), config.database()) else { return Ok(None) };
        let scratch = self.scratch.clone().unwrap_or_else(|| PathBuf::from("."));
        Ok(Some(VerifyCluster { kafka, topic: config.events_topic(), database, scratch }))
    }
}

pub(super) fn verify(args: &VerifyArgs) -> ExitCode {
    match args.cluster() {
        Ok(Some(cluster)) => return verify_cluster(&cluster),
        Ok(None) => {}
        Err(error) => return not_done(&error),
    }
    let from_base = if args.from_base { FromBase::Always } else { FromBase::IfNeeded };
    let run = || -> anyhow::Result<Verified> {
        let verify = Verify { data_dir: args.data_dir.path()?, scratch: args.scratch.clone(), from_base };
        watched("verify", |watch| verify.run(watch)).map_err(|error| match error {
            Error::DataDir(error @ DataDirError::InUse { .. }) => {
                anyhow::Error::from(error).context("stop the gateway, or verify a restored backup of it")
            }
            error => error.into(),
        })
    };
    match run() {
        Ok(verified) => print_verified(&verified),
        Err(error) => not_done(&error),
    }
}

fn print_verified(Verified { base, stored, replayed, differences, different, without_sketches }: &Verified) -> ExitCode {
    if let Some(base) = base {
        print(&format!("from the base at position {base}"));
    }
    print(&format!("stored    {}", stored.map_or("cannot be read".into(), |standing| standing.to_string())));
    print(&format!("replayed  {replayed}"));
    print_without_sketches(*without_sketches);
    let is_equal = print_differences(differences, *different);
    if is_equal == ExitCode::SUCCESS {
        return is_equal;
    }
    print("`tollgate rebuild` makes the rows again from the log");
    is_equal
}

fn verify_cluster(verify: &VerifyCluster) -> ExitCode {
    let verified = match watched("verify", |watch| verify.run(watch)) {
        Ok(verified) => verified,
        Err(error) => return not_done(&error.into()),
    };
    for (stored, replayed) in &verified.partitions {
        print(&format!("stored    {}", stored.map_or("cannot be read".into(), |standing| standing.to_string())));
        print(&format!("replayed  {replayed}"));
    }
    print_without_sketches(verified.without_sketches);
    print_differences(&verified.differences, verified.different)
}

fn print_without_sketches(rows: u64) {
    if rows > 0 {
        print(&format!(
            "{rows} overflow rows are from before there were sketches, and equal but for these; a rebuild from the whole log adds them"
        ));
    }
}

/// The first of them, and how many there are.
fn print_differences(differences: &[Difference], different: u64) -> ExitCode {
    if different == 0 {
        print("equal");
        return ExitCode::SUCCESS;
    }
    print(&format!("different: {different}"));
    differences.iter().for_each(|difference| print(&difference.to_string()));
    if different > differences.len() as u64 {
        print(&format!("and {} more", different - differences.len() as u64));
    }
    ExitCode::from(DIFFERENT)
}

pub(super) fn doctor(args: &DoctorArgs) -> ExitCode {
    let run = || -> anyhow::Result<_> {
        let doctor = Doctor { data_dir: args.data_dir.path()?, scratch: args.scratch.clone() };
        watched("doctor", |watch| doctor.run(watch)).map_err(|error| match error {
            Error::DataDir(error @ DataDirError::InUse { .. }) => anyhow::Error::from(error).context("stop the gateway first"),
            error => error.into(),
        })
    };
    let diagnosis = match run() {
        Ok(diagnosis) => diagnosis,
        Err(error) => return not_done(&error),
    };
    diagnosis.read.iter().for_each(|line| print(&format!("read    {line}")));
    diagnosis.findings.iter().for_each(|finding| print(&finding.to_string()));
    print(if diagnosis.is_healthy() { "healthy" } else { "damaged" });
    if diagnosis.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) }
}

pub(super) fn rebuild(args: &RebuildArgs) -> anyhow::Result<()> {
    let rebuild = Rebuild { data_dir: args.data_dir.path()? };
    let rebuilt = watched("rebuild", |watch| rebuild.run(watch))?;
    if let Some(base) = rebuilt.base {
        print(&format!("from the base at position {base}"));
    }
    print(&format!("before  {}", rebuilt.before.map_or_else(|why| why, |standing: Standing| standing.to_string())));
    print(&format!("after   {}", rebuilt.after));
    print(&format!("kept    {} documents: accounts, keys, customers", rebuilt.documents));
    Ok(())
}

pub(super) fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let data_dir = args.data_dir.path()?;
    let made = watched("backup", |watch| match backup::of_unused(&data_dir, &args.to, Clock::start().now(), watch) {
        Err(Error::DataDir(DataDirError::InUse { .. })) => control::ask_for_backup(&data_dir, &args.to, watch),
        made => made,
    })?;
    print_backup("backup of", &made);
    Ok(())
}

pub(super) fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let restore = Restore { from: args.from.clone(), data_dir: args.data_dir.path()? };
    let restored = watched("restore", |watch| restore.run(watch))?;
    print_backup("restored", &restored);
    Ok(())
}

fn print_backup(what: &str, content: &Content) {
    let Content { time, position, log_end, rows, digest, files, .. } = content;
    let bytes = files.iter().map(|file| file.bytes).sum();
    print(&format!("{what}  {time}  {} files  {}", files.len(), HumanBytes(bytes)));
    print(&format!("partition 0  position {position}  rows {rows}  {digest}"));
    print(&format!("log up to {log_end}"));
}
