//! The bounded run: the corpus of each target, and some thousands of changes of it.
//!
//! `TOLLGATE_FUZZ_SEED` repeats a run (a run that fails says which), `TOLLGATE_FUZZ_CASES` makes it longer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Campaign, TARGETS, corpus, seeds};

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fuzz")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn seed() -> u64 {
    number("TOLLGATE_FUZZ_SEED").unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("random bytes");
        u64::from_le_bytes(bytes)
    })
}

fn holds(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).expect("a target");
    let seed = seed();
    let inputs: Vec<_> = corpus(&corpora(), name).expect("a corpus").into_iter().map(|(_, input)| input).collect();
    let cases = inputs.len() as u64 + number("TOLLGATE_FUZZ_CASES").unwrap_or(target.cases);
    let mut campaign = Campaign::new(target, seed, inputs);
    while campaign.cases() < cases {
        let input = campaign.next_input();
        if let Err(finding) = campaign.try_input(input) {
            let case = campaign.cases();
            panic!("the same again: TOLLGATE_FUZZ_SEED={seed}, case {case} of {name}: {}\n{}", finding.what, finding.input.escape_ascii());
        }
    }
    println!("TOLLGATE_FUZZ_SEED={seed}: {} cases of {} kinds", campaign.cases(), campaign.kinds());
}

macro_rules! each_holds {
    ($(fn $test:ident() of $name:literal,)*) => {
        const TESTED: &[&str] = &[$($name),*];
        $(#[test]
        fn $test() {
            holds($name);
        })*
    };
}

each_holds! {
    fn any_body_reads_the_same_on_all_ways_and_comes_back() of "bodies",
    fn any_body_in_any_form_is_taken_apart_and_what_is_bad_stays_bad() of "forms",
    fn any_number_is_what_its_digits_say() of "numbers",
    fn any_coding_inflates_within_its_limits_or_is_refused() of "codings",
    fn any_customer_that_is_taken_can_be_shown_and_sent_back() of "customers",
    fn any_question_has_an_answer_in_json_or_is_refused() of "usage",
    fn any_path_is_normalised_once_and_any_query_understood_or_refused() of "paths",
    fn any_records_are_decoded_or_are_not_records() of "records",
    fn any_letters_are_read_or_left_out() of "letters",
    fn any_log_is_read_whole_or_names_its_file() of "segments",
    fn any_metadata_of_a_log_is_what_was_written_or_damaged() of "log-meta",
    fn any_index_has_all_its_firsts_or_is_damaged() of "index",
    fn any_row_has_one_form() of "rows",
    fn any_document_is_read_or_damaged() of "documents",
    fn any_base_is_what_was_sealed_or_damaged() of "bases",
    fn any_backup_is_restored_whole_or_not_at_all() of "backups",
}

#[test]
fn every_target_is_run_by_all_three_and_has_a_corpus() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(TESTED.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>(), names);
    let listed = |dir: PathBuf| -> BTreeSet<String> {
        let entries = fs::read_dir(dir).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    };
    assert_eq!(listed(corpora()), names);
    assert_eq!(listed(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/fuzz_targets")), names);
}

#[test]
fn the_corpus_has_what_the_writers_of_the_formats_make() {
    for (target, name, input) in seeds::made() {
        let path = corpora().join(target).join(name);
        if std::env::var("TOLLGATE_FUZZ_SEEDS").is_ok_and(|wish| wish == "write") {
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(&path, &input).expect("written");
        }
        let found = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(found == input, "{} is not what is written now", path.display());
    }
}
