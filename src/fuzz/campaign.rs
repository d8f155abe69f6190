//! A run of a target over its corpus and changes of it. What it tries follows from the seed alone.

use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::mutate::{Random, mutate};
use super::{Kind, Target};

/// Inputs that are kept to be changed further.
const POOL_MAX: usize = 2_000;

/// Kinds that are told apart.
const KINDS_MAX: usize = 25_000;

/// A property does not hold.
#[derive(Debug)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// What the target said.
    pub what: String,
}

/// Tries one input after another.
pub struct Campaign {
    target: Target,
    random: Random,
    pool: Vec<Vec<u8>>,
    kinds: HashSet<Kind>,
    /// So many of the pool are the corpus.
    corpus: usize,
    made: usize,
    cases: u64,
}

impl Campaign {
    /// Begins with a corpus, whose inputs are tried first, in their order.
    pub fn new(target: Target, seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        let mut pool = corpus;
        if pool.is_empty() {
            pool.push(Vec::new());
        }
        Self { target, random: Random::new(seed), corpus: pool.len(), made: 0, pool, kinds: HashSet::with_capacity(KINDS_MAX), cases: 0 }
    }

    /// Makes the next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        self.made += 1;
        if self.made <= self.corpus {
            return self.pool[self.made - 1].clone();
        }
        let mut input = self.pool[self.random.below(self.pool.len())].clone();
        let other = self.random.below(self.pool.len());
        mutate(&mut self.random, &mut input, &self.pool[other], self.target.bytes_max);
        input
    }

    /// Tries an input that [`Campaign::next_input`] made.
    ///
    /// # Errors
    /// A property does not hold.
    pub fn try_input(&mut self, input: Vec<u8>) -> Result<(), Finding> {
        self.cases += 1;
        match catch_unwind(AssertUnwindSafe(|| (self.target.run)(&input))) {
            Ok(kind) => {
                let is_new = self.kinds.len() < KINDS_MAX && self.kinds.insert(kind) && self.made > self.corpus;
                if is_new && self.pool.len() < POOL_MAX {
                    self.pool.push(input);
                }
                Ok(())
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                Err(Finding { input, what: text.unwrap_or("a panic without words").to_owned() })
            }
        }
    }

    /// Inputs tried so far.
    pub fn cases(&self) -> u64 {
        self.cases
    }

    /// Kinds of outcomes so far.
    pub fn kinds(&self) -> usize {
        self.kinds.len()
    }
}

/// The corpus of a target below a directory, in the order of the files' names.
///
/// # Errors
/// It cannot be read.
pub fn corpus(below: &Path, target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths = std::fs::read_dir(below.join(target))?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(&path).map(|bytes| (path, bytes))).collect()
}
