//! `tollgate bench` makes series of runs: what it says of them is what the gateway saw, and the drawing has all of it.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use roxmltree::{Document, Node};
use serde_json::Value;

use crate::harness::{ADMIN_KEY, Gateway, Ran, wait_for};

/// `tollgate bench` with small requests on two connections.
fn command(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    bench.args(["bench", "--url", &format!("http://{}", gateway.address()), "--events-per-request", "10", "--connections", "2"]);
    bench.args(arguments).env("TOLLGATE_KEY", ADMIN_KEY).stdin(Stdio::null());
    bench
}

/// Runs it to its end.
fn bench(gateway: &Gateway, arguments: &[&str]) -> Ran {
    command(gateway, arguments).output().expect("the binary runs").into()
}

/// The cells of a table, line by line, without the head.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

fn number(cell: &str) -> f64 {
    cell.replace(',', "").parse().unwrap_or_else(|_| panic!("`{cell}` is no number"))
}

fn runs(ran: &Ran) -> Vec<Value> {
    match serde_json::from_str(&ran.stdout) {
        Ok(Value::Array(runs)) => runs,
        other => panic!("no array: {other:?} of {}", ran.stdout),
    }
}

/// The figures of a field, run by run.
fn figures(runs: &[Value], pointer: &str) -> Vec<f64> {
    runs.iter().map(|run| run.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {run}"))).collect()
}

/// How many marks each line of a drawing has, by what is said of them up to the colon; and its title.
fn drawn(file: &str) -> (String, BTreeMap<String, usize>) {
    let text = fs::read_to_string(file).expect("a drawing");
    let document = Document::parse(&text).expect("well-formed XML");
    let is = |node: &Node<'_, '_>, class| node.attribute("class") == Some(class);
    let title = document.descendants().find(|node| is(node, "title")).and_then(|node| node.text()).expect("a title");
    let mut marks = BTreeMap::new();
    for line in document.descendants().filter(|node| is(node, "line")) {
        for said in line.descendants().filter(|node| node.has_tag_name("title")).filter_map(|node| node.text()) {
            *marks.entry(said.split(':').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    (title.to_owned(), marks)
}

#[test]
fn a_sweep_has_a_line_for_each_rate_and_a_mark_in_each_line_of_the_drawing() {
    let gateway = Gateway::start();
    let (pid, file) = (gateway.process_id().to_string(), gateway.beside("sweep.svg"));
    fs::write(&file, "x".repeat(1_000_000)).expect("an old drawing, longer than the new one");
    let sweep = ["--sweep", "1k,2k,max", "--events", "400", "--duration", "60", "--pid", &pid];
    let ran = bench(&gateway, &[sweep.as_slice(), &["--plot", &file, "--title", "few < many & \"all\""]].concat()).ended_with(0);

    let table = cells(&ran.stdout);
    assert_eq!(table.iter().map(|line| line[0]).collect::<Vec<_>>(), ["1,000", "2,000", "max"]);
    for line in &table {
        let figures: Vec<_> = line[1..7].iter().map(|cell| number(cell)).collect();
        assert!(figures[0] > 0.0 && figures[1..5].is_sorted(), "a rate, and percentiles in their order: {line:?}");
    }
    let (title, marks) = drawn(&file);
    assert_eq!(title, "few < many & \"all\"");
    assert_eq!(marks.into_iter().collect::<Vec<_>>(), ["p50", "p90", "p99"].map(|line| (line.to_owned(), 3)));
    assert_eq!(gateway.settled_metrics().outcome("logged"), 1_200, "each run has ids of its own");
}

#[test]
fn a_sweep_in_json_is_an_array_of_what_single_runs_report() {
    let gateway = Gateway::start();
    let runs = runs(&bench(&gateway, &["--sweep", "500,max", "--events", "100", "--duration", "60", "--json"]).ended_with(0));
    let single: Value = serde_json::from_str(&bench(&gateway, &["--events", "100", "--json"]).ended_with(0).stdout).expect("JSON");
    assert_eq!(figures(&runs, "/events_acked"), [100.0, 100.0]);
    assert_eq!(runs.iter().map(|run| run["load"]["rate"].as_u64()).collect::<Vec<_>>(), [Some(500), None]);
    let fields = |run: &Value| run.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&runs[1]), fields(&single));
}

#[test]
fn a_growth_has_a_point_at_each_milestone_and_sends_every_id_once() {
    let gateway = Gateway::start();
    let (pid, file) = (gateway.process_id().to_string(), gateway.beside("growth.svg"));
    let growth = |ids| ["--grow", ids, "--pid", &pid, "--plot", &file];
    let milestones = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 600.0];
    let runs = runs(&bench(&gateway, &[growth("600").as_slice(), &["--json"]].concat()).ended_with(0));
    assert_eq!(figures(&runs, "/known_ids"), milestones);
    assert_eq!(figures(&runs, "/events_acked"), [10.0, 10.0, 30.0, 50.0, 100.0, 300.0, 100.0]);
    assert!(figures(&runs, "/server/resident_bytes").iter().all(|bytes| *bytes > 1e6));
    assert_eq!(figures(&runs, "/server/cpu_seconds_per_million_events").len(), milestones.len());
    let (_, marks) = drawn(&file);
    assert_eq!(marks.values().copied().collect::<Vec<_>>(), [7, 7], "costs and memory: {marks:?}");
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.outcome("logged"), metrics.copies()), (600, 0));

    let table = bench(&gateway, &growth("100")).ended_with(0).stdout;
    let known: Vec<_> = cells(&table).iter().map(|line| number(line[0])).collect();
    assert_eq!(known, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    assert_eq!(drawn(&file).1.values().copied().collect::<Vec<_>>(), [7, 7]);
}

#[test]
fn a_drawing_that_cannot_be_written_is_found_before_anything_is_sent() {
    let gateway = Gateway::start();
    let file = gateway.beside("no-such-directory/a.svg");
    bench(&gateway, &["--sweep", "max", "--events", "100", "--plot", &file]).refused(1, &["--plot", "no-such-directory"]);
    assert_eq!(gateway.settled_metrics().outcome("logged"), 0);
}

#[test]
fn a_series_in_which_nothing_is_acked_ends_with_its_first_run_and_is_a_failure() {
    let gateway = Gateway::start();
    let file = gateway.beside("nothing.svg");
    let ran = bench(&gateway, &["--key", "not-a-key", "--sweep", "1k,2k,3k", "--events", "100", "--plot", &file]).ended_with(1);
    assert_eq!(cells(&ran.stdout).len(), 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("no event was acked") && ran.stderr.contains("status 401"), "{}", ran.stderr);
    assert_eq!(drawn(&file).1, BTreeMap::new());
}

#[test]
fn a_series_that_is_interrupted_reports_and_draws_what_it_has() {
    let gateway = Gateway::start();
    let (pid, file) = (gateway.process_id().to_string(), gateway.beside("interrupted.svg"));
    for series in [["--sweep", "1k,2k,3k", "--duration", "3600"], ["--grow", "1000M", "--duration", "3600"]] {
        let before = gateway.metrics().outcome("logged");
        let mut bench = command(&gateway, &[series.as_slice(), &["--pid", &pid, "--plot", &file]].concat());
        let bench = bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        wait_for("the first run to be under way", || (gateway.metrics().outcome("logged") > before).then_some(()));
        assert!(Command::new("kill").args(["-INT", &bench.id().to_string()]).status().expect("kill runs").success());
        let ran = Ran::from(bench.wait_with_output().expect("it ends")).ended_with(0);
        assert_eq!(cells(&ran.stdout).len(), 1, "{}", ran.stdout);
        assert!(drawn(&file).1.into_values().all(|marks| marks == 1));
    }
}
