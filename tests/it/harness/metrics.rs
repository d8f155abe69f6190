//! `/metrics`, taken apart.

use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// All samples of one answer.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Vec<(String, Labels, f64)>);

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    /// The sum of all samples of a metric that have these labels, among others. 0 if there is none yet.
    pub(crate) fn total(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |known: &Labels| labels.iter().all(|(label, value)| known.get(*label).is_some_and(|known| known == value));
        self.0.iter().filter(|(known, all, _)| known == name && has(all)).map(|(_, _, value)| value).sum()
    }

    /// A counter, which is a whole number.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let total = self.total(name, labels);
        assert!(total >= 0.0 && total.fract() == 0.0, "{name} counts");
        total as u64
    }

    /// Events by what became of them at the door.
    pub(crate) fn outcome(&self, outcome: &str) -> u64 {
        self.count("tollgate_events_total", &[("outcome", outcome)])
    }

    /// Records by what the fold made of them.
    pub(crate) fn verdict(&self, verdict: &str) -> u64 {
        self.count("tollgate_verdicts_total", &[("verdict", verdict)])
    }

    /// Copies with the same content, wherever they were noticed: at the door or in the fold.
    pub(crate) fn copies(&self) -> u64 {
        self.outcome("known") + self.verdict("duplicate")
    }
}

fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (name_and_labels, value) = line.rsplit_once(' ')?;
    let (name, labels) = match name_and_labels.split_once('{') {
        None => (name_and_labels, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
    };
    // No value of ours has a comma, a quote or a backslash in it: labels are closed sets.
    let pairs = labels.split(',').filter(|pair| !pair.is_empty());
    let labels = pairs.map(|pair| {
        let (label, value) = pair.split_once('=')?;
        Some((label.to_owned(), value.trim_matches('"').to_owned()))
    });
    Some((name.to_owned(), labels.collect::<Option<_>>()?, value.parse().ok()?))
}
