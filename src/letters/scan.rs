//! Letters from the newest back, a bounded number of records and bytes at a time.

use std::collections::{HashMap, HashSet};

use super::{Filter, Ledger, Letter, Names, State};
use crate::gateway::letters::{Entry, Said, entries};
use crate::log::{Error, LogReader, Position, read_some};

/// Records that are looked at together.
const STEP_RECORDS: u64 = if cfg!(test) { 3 } else { 256 };
/// Records, and bytes of them, that one page looks at, about; the next page goes on from there.
const LOOKED_AT_MAX: u64 = if cfg!(test) { 20 } else { 100_000 };
const LOOKED_AT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of letters that a page has, about.
const PAGE_BYTES_MAX: u64 = 2 << 20;
/// Read from the log at once.
const STEP_BYTES: usize = 1 << 20;
/// Read around one record: its block is read whole anyway.
const READ_BYTES: usize = 4 << 10;

/// Part of a list.
#[derive(Debug)]
pub struct Page {
    /// Newest first.
    pub letters: Vec<Letter>,
    /// Where the next page begins, as its `before`; `None`: there is no more.
    pub next: Option<Position>,
}

/// The latest letters about some events.
#[derive(Debug)]
pub struct Latest {
    /// By uniqueId.
    pub letters: HashMap<String, Letter>,
    /// Letters before this position were not looked at; `None`: all were.
    pub looked_back_to: Option<Position>,
}

/// The latest letters that a filter holds for.
pub(super) fn page(ledger: &Ledger, account: u32, filter: &Filter) -> Result<Page, Error> {
    let (mut letters, mut bytes) = (Vec::new(), 0);
    let next = back(ledger, filter.before, |entry| {
        let Some((letter, state)) = as_letter(ledger, account, entry) else { return true };
        if filter.holds(&letter.letter, letter.received, state) {
            bytes += letter.bytes;
            letters.push(letter);
        }
        letters.len() < filter.limit && bytes < PAGE_BYTES_MAX
    })?;
    with_last_replays(ledger, &mut letters)?;
    Ok(Page { letters, next })
}

/// The letter at a position, if the account has one there.
pub(super) fn one(ledger: &Ledger, account: u32, position: Position) -> Result<Option<Letter>, Error> {
    if position >= ledger.log().end() {
        return Ok(None);
    }
    let Some(entry) = entry_at(ledger, &mut *ledger.log().clone().look_ups(), position)? else { return Ok(None) };
    let found = as_letter(ledger, account, entry).filter(|(_, state)| *state != State::Deleted);
    let mut letters: Vec<_> = found.map(|(letter, _)| letter).into_iter().collect();
    with_last_replays(ledger, &mut letters)?;
    Ok(letters.pop())
}

/// The latest letter about each of these events.
pub(super) fn latest(ledger: &Ledger, account: u32, unique_ids: Vec<String>) -> Result<Latest, Error> {
    let mut wanted: HashSet<String> = unique_ids.into_iter().collect();
    let mut found: Vec<(String, Letter)> = Vec::new();
    let mut looked_back_to = None;
    if !wanted.is_empty() {
        looked_back_to = back(ledger, None, |entry| {
            let Some((letter, state)) = as_letter(ledger, account, entry) else { return true };
            if state != State::Deleted {
                for id in Names::of(&letter.letter).unique_ids {
                    if wanted.remove(&id) {
                        // Only why is asked for.
                        let mut letter = letter.clone();
                        letter.letter.raw = Vec::new();
                        found.push((id, letter));
                    }
                }
            }
            !wanted.is_empty()
        })?;
    }
    let (ids, mut letters): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    with_last_replays(ledger, &mut letters)?;
    // Where all were found, no more was to be looked for.
    let looked_back_to = looked_back_to.filter(|_| !wanted.is_empty());
    Ok(Latest { letters: ids.into_iter().zip(letters).collect(), looked_back_to })
}

/// Hands over records from the newest back while `visit` wants more; gives where it is to go on, if there is more.
fn back(ledger: &Ledger, before: Option<Position>, mut visit: impl FnMut(Entry) -> bool) -> Result<Option<Position>, Error> {
    let log = ledger.log();
    let end = log.end();
    let mut before = before.unwrap_or(end).min(end);
    let stop = Position(before.0.saturating_sub(LOOKED_AT_MAX));
    let mut bytes = 0;
    let mut reader = log.clone().look_ups();
    while before > log.start().max(stop) && bytes < LOOKED_AT_BYTES_MAX {
        let wanted = Position(before.0.saturating_sub(STEP_RECORDS).max(log.start().0));
        let step = match step(&mut *reader, wanted, before) {
            Ok(step) => step,
            // Retention came in between: nothing before its start is there any more.
            Err(_) if wanted < log.start() => continue,
            Err(error) => return Err(error),
        };
        bytes += step.bytes;
        for entry in step.entries.into_iter().rev() {
            let position = entry.position;
            if !visit(entry) {
                return Ok((position > log.start()).then_some(position));
            }
        }
        before = step.from;
    }
    Ok((before > log.start()).then_some(before))
}

/// Some records, oldest first.
struct Step {
    /// The first position.
    from: Position,
    entries: Vec<Entry>,
    /// That were read for it.
    bytes: u64,
}

/// The records from `wanted`, or from the begin of its block, so that no block is read twice, up to `before`.
fn step(reader: &mut dyn LogReader, wanted: Position, before: Position) -> Result<Step, Error> {
    let mut step = Step { from: wanted, entries: Vec::new(), bytes: 0 };
    let mut next = wanted;
    while next < before {
        let (chunk, end) = read_some(reader, next, STEP_BYTES)?;
        for block in chunk.blocks() {
            step.from = step.from.min(block.first);
            step.bytes += block.payload.len() as u64;
            step.entries.extend(entries(&block).take_while(|entry| entry.position < before));
        }
        next = end;
    }
    Ok(step)
}

/// The letter that a record is, if it is one of the account's, and its state.
fn as_letter(ledger: &Ledger, account: u32, entry: Entry) -> Option<(Letter, State)> {
    let Said::Letter(letter) = entry.said else { return None };
    if letter.record.is_some() && ledger.is_repeated(entry.position) {
        return None;
    }
    let state = ledger.marked(entry.position).map_or(State::Open, |marked| marked.state);
    let Entry { position, received, bytes, .. } = entry;
    (letter.account == account).then_some((Letter { position, received, letter, last_replay: None, bytes }, state))
}

/// Reads what came of the last replay of each.
fn with_last_replays(ledger: &Ledger, letters: &mut [Letter]) -> Result<(), Error> {
    let mut reader = ledger.log().clone().look_ups();
    for letter in letters {
        let Some(marked) = ledger.marked(letter.position) else { continue };
        let Some(entry) = entry_at(ledger, &mut *reader, marked.at)? else { continue };
        if let Said::Mark(mark) = entry.said {
            letter.last_replay = Some((entry.received, mark.became));
        }
    }
    Ok(())
}

/// The record at a position; `None` once retention has taken it.
fn entry_at(ledger: &Ledger, reader: &mut dyn LogReader, position: Position) -> Result<Option<Entry>, Error> {
    let (chunk, _) = match read_some(reader, position, READ_BYTES) {
        Ok(read) => read,
        Err(_) if position < ledger.log().start() => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(chunk.blocks().flat_map(|block| entries(&block)).find(|entry| entry.position == position))
}
