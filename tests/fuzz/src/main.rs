//! The long form of the fuzzing, on a stable compiler: `fuzz TARGET SEED SECONDS CORPUS FINDINGS`.
//!
//! Each finding is written to FINDINGS as `<target>-<number>`, with what was wrong beside it in `.txt`; the same words are
//! kept once. The input that is being tried stands in `<target>-running`: should the process itself end, that is the finding. The exit
//! status is 0 if there was none.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use peak_alloc::PeakAlloc;
use tollgate::fuzz::{Campaign, Finding, Target, corpus};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// A case that takes longer is a hang.
const CASE_TIME_MAX: Duration = Duration::from_secs(20);
/// Findings after which a run ends.
const FINDINGS_MAX: usize = 20;
/// Number of the case under way.
static CASE: AtomicU64 = AtomicU64::new(0);

struct Run {
    target: Target,
    findings: PathBuf,
    words: BTreeSet<String>,
    slowest: Duration,
    most_memory: usize,
}

impl Run {
    fn execute(&mut self, seed: u64, time: Duration, inputs: Vec<Vec<u8>>) -> io::Result<()> {
        let running = self.findings.join(format!("{}-running", self.target.name));
        let file = fs::File::create(&running)?;
        watch(running.clone());
        let mut campaign = Campaign::new(self.target, seed, inputs);
        let began = Instant::now();
        while began.elapsed() < time && self.words.len() < FINDINGS_MAX {
            let input = campaign.next_input();
            file.write_all_at(&input, 0)?;
            file.set_len(input.len() as u64)?;
            CASE.fetch_add(1, Ordering::Relaxed);
            self.try_input(&mut campaign, input)?;
        }
        CASE.store(u64::MAX, Ordering::Relaxed);
        fs::remove_file(running)?;
        let (cases, seconds) = (campaign.cases(), began.elapsed().as_secs_f64());
        println!(
            "{:10} seed {seed}: {cases} cases in {seconds:.0} s, {:.0} cases/s, {} kinds; slowest {:.1} ms, most memory {} KiB; {} findings",
            self.target.name,
            cases as f64 / seconds,
            campaign.kinds(),
            self.slowest.as_secs_f64() * 1e3,
            self.most_memory >> 10,
            self.words.len()
        );
        Ok(())
    }

    fn try_input(&mut self, campaign: &mut Campaign, input: Vec<u8>) -> io::Result<()> {
        let kept = input.clone();
        let before = PeakAlloc.current_usage();
        PeakAlloc.reset_peak_usage();
        let began = Instant::now();
        let tried = campaign.try_input(input);
        self.slowest = self.slowest.max(began.elapsed());
        let memory = PeakAlloc.peak_usage().saturating_sub(before);
        self.most_memory = self.most_memory.max(memory);
        let allowed = self.target.memory_base + self.target.memory_factor * kept.len();
        match tried {
            Err(finding) => self.note(finding),
            Ok(()) if memory > allowed => {
                self.note(Finding { what: format!("{memory} bytes of memory for {} of input", kept.len()), input: kept })
            }
            Ok(()) => Ok(()),
        }
    }

    fn note(&mut self, finding: Finding) -> io::Result<()> {
        let words: String = finding.what.chars().filter(|c| !c.is_ascii_digit()).take(80).collect();
        if !self.words.insert(words) {
            return Ok(());
        }
        let path = self.findings.join(format!("{}-{}", self.target.name, self.words.len()));
        println!("{}: {}\n  {}", self.target.name, finding.what, path.display());
        fs::write(path.with_extension("txt"), finding.what)?;
        fs::write(path, finding.input)
    }
}

/// Ends the process when a case does not end.
fn watch(running: PathBuf) {
    thread::spawn(move || {
        let mut last = (0, Instant::now());
        loop {
            thread::sleep(Duration::from_secs(1));
            let case = CASE.load(Ordering::Relaxed);
            if case != last.0 {
                last = (case, Instant::now());
            } else if case != u64::MAX && last.1.elapsed() > CASE_TIME_MAX {
                println!("a case does not end: {}", running.display());
                process::exit(3);
            }
        }
    });
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, seed, seconds, below, findings] = &arguments[..] else {
        eprintln!("usage: fuzz TARGET SEED SECONDS CORPUS FINDINGS; targets:");
        tollgate::fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name));
        process::exit(2);
    };
    // A panic is a finding, which says it once.
    std::panic::set_hook(Box::new(|_| ()));
    let target = tollgate_fuzz::target(name);
    let (seed, seconds) = (seed.parse().expect("a number"), seconds.parse().expect("a number"));
    let inputs = corpus(Path::new(below), name)?.into_iter().map(|(_, input)| input).collect();
    fs::create_dir_all(findings)?;
    let mut run = Run { target, findings: findings.into(), words: BTreeSet::new(), slowest: Duration::ZERO, most_memory: 0 };
    // A thread of its own, whose end cleans up behind it.
    let run = thread::spawn(move || run.execute(seed, Duration::from_secs(seconds), inputs).map(|()| run.words.len()));
    let found = run.join().map_err(|_| io::Error::other("the run broke off"))??;
    process::exit(i32::from(found > 0));
}
