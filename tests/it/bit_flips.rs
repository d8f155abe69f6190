//! A byte on the disk that is not what was written is an error that names its file, or is repaired because it is derived, or is
//! padding: never a wrong answer.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Gateway, Random, Setup, event, wide_event};

const FLIPS: usize = 6;
const EVENTS: usize = 300;

/// All files below a directory.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// All that is asked of a gateway: what was sent counts, once.
fn is_right(gateway: &Gateway) -> bool {
    let copies: Vec<_> = (0..EVENTS).map(|at| event(&format!("u-{at}")).value("0.1").customer(&format!("c-{}", at % 7))).collect();
    let asked = |gateway: &Gateway| (gateway.usage("m").count(), gateway.usage("m").sum(), gateway.usage("wide").count());
    let right = (EVENTS, "30".to_owned(), 20);
    asked(gateway) == right && {
        gateway.send(&copies).logged(EVENTS);
        asked(gateway) == right
    }
}

#[test]
fn a_flipped_bit_in_any_file_is_an_error_that_names_it_or_makes_no_difference() {
    let mut random = Random::seeded();
    let setup = Setup::with("[log]\nsegment_bytes = 1_048_576").variable("TOLLGATE_INDEX_TABLE_ENTRIES", "30");
    let mut gateway = setup.variable("TOLLGATE_COMMIT_INTERVAL_MS", "5").start();
    for at in (0..EVENTS).step_by(10) {
        let events = |at: usize| event(&format!("u-{at}")).value("0.1").customer(&format!("c-{}", at % 7));
        gateway.send(&(at..at + 10).map(events).collect::<Vec<_>>()).logged(10);
    }
    let wide: Vec<_> = (0..20).map(|at| wide_event(&format!("wide-{at}")).meter("wide")).collect();
    wide.iter().for_each(|event| drop(gateway.send(std::slice::from_ref(event)).logged(1)));
    assert!(is_right(&gateway));
    gateway.stop();

    // The directory as it was left, to begin with for each flip.
    let data = gateway.data_dir();
    let kept = data.with_extension("kept");
    let copy = |from: &Path, to: &Path| {
        drop(fs::remove_dir_all(to));
        let mut found = Vec::new();
        files(from, &mut found);
        for file in found {
            let copied = to.join(file.strip_prefix(from).expect("below it"));
            fs::create_dir_all(copied.parent().expect("a directory")).expect("made");
            fs::copy(&file, copied).expect("copied");
        }
    };
    copy(&data, &kept);
    let mut all = Vec::new();
    files(&data, &mut all);
    // Who runs; nothing is read from it.
    all.retain(|path| !path.ends_with("lock") && fs::metadata(path).expect("a file").len() > 0);
    for kind in ["seg", "idx", "run", "redb", "meta.json", "manifest.json"] {
        let of_kind: Vec<_> = all.iter().filter(|path| path.to_string_lossy().ends_with(kind)).collect();
        assert!(!of_kind.is_empty(), "there is a file of each kind: {kind}");
        for _ in 0..FLIPS {
            let file = of_kind[random.below(of_kind.len())];
            let mut bytes = fs::read(file).expect("read");
            let (at, bit) = (random.below(bytes.len()), random.below(8));
            bytes[at] ^= 1 << bit;
            fs::write(file, bytes).expect("written");
            match gateway.try_restart() {
                Ok(()) => {
                    // The damage may be met only when it is read.
                    let is_right = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| is_right(&gateway)));
                    if let Ok(is_right) = is_right {
                        assert!(is_right, "bit {bit} of byte {at} of {} gave a wrong answer", file.display());
                        gateway.kill();
                    } else {
                        expect_named(gateway.wait_for_end(), file);
                    }
                }
                Err(ended) => expect_named(ended, file),
            }
            copy(&kept, &data);
        }
    }
}

fn expect_named(ended: crate::harness::Ended, file: &Path) {
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let stem = file.file_stem().expect("a name").to_string_lossy().into_owned();
    // An index of a segment is named by its segment.
    assert!(ended.stderr.contains(&name) || ended.stderr.contains(&stem), "{name} is not named: {}", ended.stderr);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
}
