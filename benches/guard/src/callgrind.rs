//! One stage under valgrind: how it is run, and what is read of what it and valgrind say.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::stages::MEASURED;

/// Followed by a stage's name and a directory for its files: runs that stage.
pub(crate) const STAGE_ARGUMENT: &str = "--stage";

/// What a stage needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Counted {
    /// For one event.
    pub(crate) instructions: f64,
    /// See [`Said::cpu`].
    pub(crate) cpu: String,
}

/// What a stage says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    /// How many events were measured.
    events: u64,
    /// The architecture, and what the processor as valgrind shows it can do beyond it: code is chosen by that.
    cpu: String,
}

/// What a stage that measured so many events tells whoever counts.
pub(crate) fn say(events: u64) -> anyhow::Result<String> {
    Ok(toml::to_string(&Said { events, cpu: cpu() })?)
}

/// What the processor can do, of what the code of the library and of its libraries asks for.
fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let can = {
        use std::arch::is_x86_feature_detected as has;
        let features = [
            ("sse4.2", has!("sse4.2")),
            ("pclmulqdq", has!("pclmulqdq")),
            ("avx", has!("avx")),
            ("avx2", has!("avx2")),
            ("bmi2", has!("bmi2")),
            ("sha", has!("sha")),
            ("avx512f", has!("avx512f")),
        ];
        features.into_iter().filter(|(_, has)| *has).map(|(name, _)| name)
    };
    #[cfg(not(target_arch = "x86_64"))]
    let can = std::iter::empty();
    std::iter::once(env::consts::ARCH).chain(can).collect::<Vec<_>>().join(" ")
}

/// Counts the instructions of a stage. What callgrind writes stays in `out` as `STAGE.callgrind`.
pub(crate) fn count(stage: &str, out: &Path) -> anyhow::Result<Counted> {
    let (file, dir) = (out.join(format!("{stage}.callgrind")), out.join(stage));
    // What is left of a run that was stopped.
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let mut command = Command::new("valgrind");
    // Whatever the environment holds would move the stack, and may set the allocator or valgrind itself.
    command.env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path)));
    command.args(["--tool=callgrind", "--quiet", "--command-line-only=yes"]);
    command.arg(format!("--toggle-collect={MEASURED}")).arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(env::current_exe()?).args([STAGE_ARGUMENT, stage]).arg(&dir);
    let ended = command.output().context("valgrind cannot be run; is Debian's package valgrind installed?")?;
    ensure!(ended.status.success(), "the stage {stage} ended with {}:\n{}", ended.status, String::from_utf8_lossy(&ended.stderr));
    let said: Said = toml::from_str(&String::from_utf8(ended.stdout)?).with_context(|| format!("what the stage {stage} says"))?;
    let total = instructions(&fs::read_to_string(&file)?).with_context(|| file.display().to_string())?;
    Ok(Counted { instructions: an_event(total, said.events)?, cpu: said.cpu })
}

/// The instructions that callgrind counted, of the file that it wrote.
fn instructions(file: &str) -> anyhow::Result<u64> {
    let value_of = |key: &str| file.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    // There may be other columns behind it.
    let first = |value: &'static str| value_of(value).and_then(|value| value.split_whitespace().next());
    ensure!(first("events:") == Some("Ir"), "it does not count instructions first");
    let total = first("totals:").context("it has no totals")?;
    total.parse().with_context(|| format!("its totals are {total}"))
}

fn an_event(instructions: u64, events: u64) -> anyhow::Result<f64> {
    if instructions == 0 || events == 0 {
        bail!("nothing was counted: {instructions} instructions in {MEASURED}, {events} events");
    }
    Ok(instructions as f64 / events as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# callgrind format\nversion: 1\ncreator: callgrind-3.24.0\npid: 7\ncmd:  tollgate-guard --stage key\npart: 1\n\n\
        desc: I1 cache: \ndesc: Trigger: Program termination\n\npositions: line\nevents: Ir\nsummary: 123456\n\n\nfl=(1) a.rs\nfn=(1) measured\n7 56\n\n\
        totals: 123456\n";

    #[test]
    fn the_total_of_a_file_is_the_number_of_its_instructions() {
        assert_eq!(instructions(FILE).expect("reads"), 123_456);
        let more = FILE.replace("events: Ir", "events: Ir Dr Dw").replace("totals: 123456", "totals: 99 12 34");
        assert_eq!(instructions(&more).expect("reads"), 99);
    }

    #[test]
    fn a_file_that_was_cut_or_counts_something_else_is_refused() {
        for (file, why) in [
            (FILE.replace("totals: 123456\n", ""), "it has no totals"),
            (FILE.replace("totals: 123456", "totals: many"), "its totals are many"),
            (FILE.replace("events: Ir", "events: Dr Ir"), "it does not count instructions first"),
            (String::new(), "it does not count instructions first"),
        ] {
            assert_eq!(instructions(&file).expect_err(why).to_string(), why);
        }
    }

    #[test]
    fn instructions_are_those_of_one_event_and_none_at_all_are_an_error() {
        assert_eq!(an_event(1_500, 1_000).expect("some"), 1.5);
        assert!(an_event(0, 1_000).is_err(), "the function that is measured has another name, or is gone");
        assert!(an_event(1_500, 0).is_err());
    }

    #[test]
    fn what_a_stage_says_is_read_again() {
        let said: Said = toml::from_str(&say(4_000).expect("writes")).expect("reads");
        assert_eq!(said.events, 4_000);
        assert!(said.cpu.starts_with(env::consts::ARCH));
    }
}
