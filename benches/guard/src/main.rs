//! A regression guard that asks no clock: how many instructions the hot stages need for an event, counted by valgrind, against the
//! figures in `figures.toml`. A machine that does other things at the same time counts the same.
//!
//! The guard runs itself under `valgrind --tool=callgrind`, once a stage. What the stage prepares is not counted, nor what other
//! threads do: only what happens inside of `stages::measured` (`--toggle-collect`).
//!
//! It counts neither waits for memory nor what the kernel does. `cargo bench` sees those.

mod callgrind;
mod figures;
mod request;
mod stages;

// Where the benchmarks' events come from, and what they run on.
#[path = "../../setup/dialects.rs"]
mod dialects;
#[path = "../../setup/fold.rs"]
mod fold;
#[path = "../../setup/keys.rs"]
mod keys;
#[path = "../../setup/log.rs"]
mod log;
#[path = "../../setup/query.rs"]
mod query;
#[path = "../../setup/recent.rs"]
mod recent;
#[path = "../../workload.rs"]
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use anyhow::{Context as _, bail};
use callgrind::Counted;
use figures::{Figures, Report};
use stages::{STAGES, Stage};

const USAGE: &str = "\
usage: tollgate-guard [--list | --update | STAGE...]

  Counts the instructions that the stages need for an event, and compares them with benches/guard/figures.toml.
  --list    names the stages
  --update  writes what was counted to figures.toml";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["--list"] => {
            STAGES.iter().for_each(|stage| println!("{:22} {}", stage.name, stage.what));
            Ok(true)
        }
        ["--update"] => update().map(|()| true),
        [callgrind::STAGE_ARGUMENT, name, dir] => chosen(&[*name]).and_then(|stages| run(stages[0], Path::new(*dir))).map(|()| true),
        names if names.iter().any(|name| name.starts_with('-')) => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
        names => chosen(names).and_then(|stages| check(&stages, names.is_empty())),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tollgate-guard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The stages of these names; all, if there are none.
fn chosen(names: &[&str]) -> anyhow::Result<Vec<&'static Stage>> {
    let of = |name: &&str| STAGES.iter().find(|stage| stage.name == *name).with_context(|| format!("there is no stage {name}: see --list"));
    if names.is_empty() { Ok(STAGES.iter().collect()) } else { names.iter().map(of).collect() }
}

/// Runs one stage, under valgrind, and says what it did.
fn run(stage: &Stage, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    print!("{}", callgrind::say(stage.run(dir))?);
    fs::remove_dir_all(dir)?;
    Ok(())
}

/// Whether no stage is slower than its figure. `is_all`: figures without a stage are wrong, too.
fn check(stages: &[&Stage], is_all: bool) -> anyhow::Result<bool> {
    let path = figures_path();
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let committed = Figures::read(&text).with_context(|| path.display().to_string())?;
    let now = count(stages)?;
    let report = Report::of(&committed, &now, is_all);
    print!("{report}");
    if !report.passes() {
        println!("where the instructions are: callgrind_annotate {}", out_dir()?.join("STAGE.callgrind").display());
    }
    Ok(report.passes())
}

fn update() -> anyhow::Result<()> {
    let counted = count(&STAGES.iter().collect::<Vec<_>>())?;
    let path = figures_path();
    fs::write(&path, counted.to_string()).with_context(|| path.display().to_string())?;
    println!("{counted}");
    Ok(())
}

/// Counts the instructions of stages, as many at once as there are cores: what else happens does not show.
fn count(stages: &[&Stage]) -> anyhow::Result<Figures> {
    let out = out_dir()?;
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let next = AtomicUsize::new(0);
    let some = || {
        let next_stage = || stages.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(next_stage)
            .map(|stage| Ok((stage.name, callgrind::count(stage.name, &out)?)))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let counted: Vec<(&str, Counted)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(some)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a thread of the guard panicked")));
        anyhow::Ok(ended.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    })?;
    Ok(Figures::of(env!("GUARD_RUSTC"), counted))
}

fn figures_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("figures.toml")
}

/// Where callgrind writes to, beside the program.
fn out_dir() -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.parent().context("the program is in no directory")?.join("guard"))
}
