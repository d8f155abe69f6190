//! The section "Fault matrix" of `ARCHITECTURE.md` names for each fault the tests that show what must hold. They exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const COLUMNS: usize = 4;

/// Names of all functions below a directory, of files with this ending, as the language writes them.
fn functions(dir: &Path, ending: &str, keyword: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, ending, keyword, found);
        } else if path.extension().is_some_and(|known| known == ending) {
            let text = fs::read_to_string(&path).expect("text");
            let names = text.lines().filter_map(|line| {
                let line = line.trim_start();
                line.strip_prefix("async ").unwrap_or(line).strip_prefix(keyword)
            });
            found.extend(names.filter_map(|name| Some(name.split_once('(')?.0.to_owned())));
        }
    }
}

/// The rows of the matrix, cell by cell.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (_, rest) = text.split_once("\n## Fault matrix\n").expect("the section is there");
    let section = rest.split("\n## ").next().expect("its text");
    let lines = section.lines().filter(|line| line.starts_with('|'));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
    // The head and the line below it.
    cells.skip(2).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_fault_of_the_matrix_has_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    for dir in ["src", "tests/it"] {
        functions(&root.join(dir), "rs", "fn ", &mut tests);
    }
    functions(&root.join("tests/clients"), "py", "def ", &mut tests);
    let rows = rows(&fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md"));
    assert!(rows.len() >= 20, "there are {} rows", rows.len());
    for row in rows {
        assert!(row.len() == COLUMNS && row.iter().all(|cell| !cell.is_empty()), "a row is not complete: {row:?}");
        let named = quoted(&row[COLUMNS - 1]);
        assert!(!named.is_empty(), "no test is named for: {}", row[0]);
        for name in named {
            assert!(tests.contains(name), "`{name}`, named for “{}”, is no test", row[0]);
        }
    }
}
