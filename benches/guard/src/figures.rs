//! The committed figures, and how what was counted compares with them.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use serde::Deserialize;

use crate::callgrind::Counted;
use crate::stages::STAGES;

/// So much more than its figure makes a stage fail, in percent: see `benches/README.md` for how far runs of the same code are apart.
const SLOWER_PERCENT_MAX: f64 = 5.0;
/// From here on, in percent, a figure is out of date: what is won could be lost again and nobody would see it.
const FASTER_PERCENT_MAX: f64 = 10.0;

/// What stages need, and what they were measured with.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figures {
    /// The compiler.
    rustc: String,
    /// The processor as valgrind shows it: architecture and features.
    cpu: String,
    /// For an event, by stage.
    instructions: BTreeMap<String, f64>,
}

impl Figures {
    /// What `figures.toml` says.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).context("is not a file of figures")
    }

    pub(crate) fn of(rustc: &str, counted: Vec<(&str, Counted)>) -> Self {
        let cpu = counted.first().map(|(_, counted)| counted.cpu.clone()).unwrap_or_default();
        let instructions = counted.into_iter().map(|(stage, counted)| (stage.to_owned(), counted.instructions)).collect();
        Self { rustc: rustc.to_owned(), cpu, instructions }
    }
}

/// As `figures.toml`, in the order of [`STAGES`].
impl fmt::Display for Figures {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "# Instructions an event. Written by: cargo run --release --locked -p tollgate-guard -- --update")?;
        writeln!(to, "rustc = {:?}\ncpu = {:?}\n\n[instructions]", self.rustc, self.cpu)?;
        let figures = STAGES.iter().filter_map(|stage| Some((stage.name, self.instructions.get(stage.name)?)));
        figures.into_iter().try_for_each(|(name, instructions)| writeln!(to, "{name} = {instructions:.1}"))
    }
}

/// How a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Near its figure.
    Same,
    Slower,
    Faster,
    /// It has no figure.
    New,
    /// A figure without a stage.
    Gone,
}

/// A stage's figure, and what it needs now.
fn standing(committed: Option<f64>, now: Option<f64>) -> Standing {
    match (committed, now) {
        (Some(committed), Some(now)) if change_percent(committed, now) > SLOWER_PERCENT_MAX => Standing::Slower,
        (Some(committed), Some(now)) if change_percent(committed, now) < -FASTER_PERCENT_MAX => Standing::Faster,
        (Some(_), Some(_)) => Standing::Same,
        (None, _) => Standing::New,
        (Some(_), None) => Standing::Gone,
    }
}

fn change_percent(committed: f64, now: f64) -> f64 {
    (now / committed - 1.0) * 100.0
}

/// The stages beside their figures.
pub(crate) struct Report {
    lines: Vec<(String, Option<f64>, Option<f64>)>,
    /// What the figures were measured with, and what was measured with now, where these differ.
    differences: Vec<(String, String)>,
}

impl Report {
    /// Of what was counted `now`. `is_all`: that is all there is.
    pub(crate) fn of(committed: &Figures, now: &Figures, is_all: bool) -> Self {
        let known = |stage: &&String| STAGES.iter().any(|known| known.name == stage.as_str());
        let order =
            STAGES.iter().map(|stage| stage.name).chain(committed.instructions.keys().filter(|stage| !known(stage)).map(String::as_str));
        let line = |stage: &str| (stage.to_owned(), committed.instructions.get(stage).copied(), now.instructions.get(stage).copied());
        let lines = order.map(line).filter(|(_, _, now)| is_all || now.is_some()).collect();
        let facts = [(&committed.rustc, &now.rustc), (&committed.cpu, &now.cpu)].into_iter();
        let differences =
            facts.filter(|(committed, now)| committed != now).map(|(committed, now)| (committed.clone(), now.clone())).collect();
        Self { lines, differences }
    }

    /// Whether none is slower, and each has its figure.
    pub(crate) fn passes(&self) -> bool {
        !self.has(Standing::Slower) && !self.has(Standing::New) && !self.has(Standing::Gone)
    }

    fn has(&self, wanted: Standing) -> bool {
        self.lines.iter().any(|(_, committed, now)| standing(*committed, *now) == wanted)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{:22} {:>12} {:>12} {:>9}", "instructions an event", "committed", "now", "change")?;
        for (stage, committed, now) in &self.lines {
            let number = |number: &Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"));
            let change =
                committed.zip(*now).map_or_else(String::new, |(committed, now)| format!("{:+.1} %", change_percent(committed, now)));
            let remark = match standing(*committed, *now) {
                Standing::Same => "",
                Standing::Slower => "  SLOWER",
                Standing::Faster => "  faster",
                Standing::New => "  NO FIGURE",
                Standing::Gone => "  NO SUCH STAGE",
            };
            writeln!(to, "{stage:22} {:>12} {:>12} {change:>9}{remark}", number(committed), number(now))?;
        }
        if self.has(Standing::Slower) {
            writeln!(to, "slower by more than {SLOWER_PERCENT_MAX} %; if it has to be, commit the new figures with --update and say why")?;
        }
        if self.has(Standing::Faster) {
            writeln!(to, "faster by more than {FASTER_PERCENT_MAX} %: commit the new figures with --update")?;
        }
        if self.has(Standing::New) || self.has(Standing::Gone) {
            writeln!(to, "figures and stages do not match: commit the new figures with --update")?;
        }
        if !self.passes() || self.has(Standing::Faster) {
            for (committed, now) in &self.differences {
                writeln!(to, "the figures are of {committed}; this is {now}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rustc: &str, instructions: &[(&str, f64)]) -> Figures {
        let counted = |instructions| Counted { instructions, cpu: "x86_64 avx2".into() };
        Figures::of(rustc, instructions.iter().map(|(stage, instructions)| (*stage, counted(*instructions))).collect())
    }

    fn names() -> [&'static str; 2] {
        [STAGES[0].name, STAGES[1].name]
    }

    /// What is said when the first of two stages needed 1,000 instructions and now needs `now`.
    fn said(now: f64) -> (bool, String) {
        let [stage, other] = names();
        let report = Report::of(&figures("1", &[(stage, 1_000.0), (other, 5.0)]), &figures("1", &[(stage, now), (other, 5.0)]), false);
        assert_eq!(report.lines.len(), 2);
        (report.passes(), report.to_string())
    }

    #[test]
    fn what_is_slower_than_the_tolerance_fails_and_what_is_at_it_does_not() {
        assert!(said(1_000.0).0 && said(1_049.9).0);
        let (passes, text) = said(1_050.2);
        assert!(!passes);
        assert!(text.contains("1050.2") && text.contains("+5.0 %  SLOWER") && text.contains("slower by more than 5 %"), "{text}");
    }

    #[test]
    fn what_is_much_faster_passes_and_asks_for_new_figures() {
        assert!(!said(901.0).1.contains("--update"));
        let (passes, text) = said(899.0);
        assert!(passes && text.contains("-10.1 %  faster") && text.contains("commit the new figures with --update"), "{text}");
    }

    #[test]
    fn a_stage_without_a_figure_and_a_figure_without_a_stage_fail() {
        let [stage, other] = names();
        let both = figures("1", &[(stage, 1.0), (other, 1.0)]);
        let one = figures("1", &[(stage, 1.0)]);
        assert!(Report::of(&one, &both, false).has(Standing::New) && !Report::of(&one, &both, false).passes());
        assert!(Report::of(&both, &one, true).has(Standing::Gone) && !Report::of(&both, &one, true).passes());
        let old = Report::of(&figures("1", &[(stage, 1.0), ("melt", 1.0)]), &one, true);
        assert!(old.to_string().contains("melt") && old.to_string().contains("NO SUCH STAGE"));
    }

    #[test]
    fn of_stages_that_were_chosen_only_these_are_compared() {
        let [stage, other] = names();
        let report = Report::of(&figures("1", &[(stage, 1.0), (other, 1.0)]), &figures("1", &[(stage, 1.0)]), false);
        assert!(report.passes() && !report.to_string().contains(other));
    }

    #[test]
    fn figures_of_another_compiler_are_named_when_something_changed_and_not_otherwise() {
        let [stage, _] = names();
        let of =
            |now| Report::of(&figures("rustc 1.95.0", &[(stage, 100.0)]), &figures("rustc 1.96.0", &[(stage, now)]), false).to_string();
        assert!(of(110.0).contains("the figures are of rustc 1.95.0; this is rustc 1.96.0"), "{}", of(110.0));
        assert!(of(80.0).contains("this is rustc 1.96.0"));
        assert!(!of(100.0).contains("1.95.0"));
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let [stage, other] = names();
        let written = figures("rustc 1.95.0", &[(stage, 1_234.5), (other, 0.1)]);
        assert_eq!(Figures::read(&written.to_string()).expect("reads"), written);
        assert!(Figures::read("rustc = \"1\"\n").is_err() && Figures::read(&format!("{written}[more]\n")).is_err());
    }
}
