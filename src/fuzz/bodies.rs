//! Bodies of `POST /ingest`: codings, JSON, numbers.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::value::RawValue;

use super::{Kind, flags, unary};
use crate::clock::UnixMillis;
use crate::dialect::amberflo::ingest::read_event;
use crate::dialect::draft::Scratch;
use crate::event::amount::PLACES;
use crate::event::parse::{self, Parsed, Parser, Way, lines};
use crate::event::{Amount, AmountError, Code, HashKey, IdentityMode, MeterEvent, Rejection, TimeWindow};
use crate::gateway::body::BodyError;
use crate::gateway::form::{Form, Shape, Syntax};
use crate::gateway::fuzz::{EVENTS_MAX, LIMITS, inflate, take_apart, without_every_second};
use crate::gateway::letters::{Said, entries};
use crate::letters::Names;
use crate::log::record::{self, Account, Decisions, Record, records};
use crate::log::{Block, BlockView, Position};

const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);
const KEY: HashKey = HashKey::from_bytes([5; 16]);
const ACCOUNT: Account = Account { number: 9, identity: IdentityMode::UniqueId };
/// Compressing costs more than inflating: longer inputs are not tried as plain text.
const PLAIN_BYTES_MAX: usize = 2 << 10;

thread_local! {
    // As in the gateway: used again for body after body.
    static PARSER: RefCell<Parser> = RefCell::default();
}

/// Any body: all ways to parse make the same of it, what is good comes back from the log, what is not from the dead letters.
pub(super) fn bodies(body: &[u8]) -> Kind {
    PARSER.with_borrow_mut(|parser| {
        let mut slow = Parser::default();
        let slow = slow.parse_from(Way::Slow, body, EVENTS_MAX);
        for way in [Way::Tape, Way::Scan] {
            match (&parser.parse_from(way, body, EVENTS_MAX), &slow) {
                // The wording of a syntax error is the parser's own.
                (Err(_), Err(_)) => {}
                (Ok(fast), Ok(slow)) => {
                    assert_eq!(fast.is_array(), slow.is_array());
                    assert_eq!(outcomes(fast), outcomes(slow), "{way:?}");
                    check_raw(fast, body);
                }
                (fast, slow) => panic!("{way:?}: {:?}, slow: {:?}", fast.as_ref().err(), slow.as_ref().err()),
            }
        }
    });
    match take_apart(body, Form::default(), &KEY, ACCOUNT, RECEIVED) {
        Err(error) => Kind::of(error),
        Ok(apart) => {
            let parsed = PARSER.with_borrow_mut(|parser| parser.parse(body, EVENTS_MAX).map(|parsed| parsed.elements().count()));
            let expected = match (apart.sent.form().syntax, parsed) {
                (Syntax::Json, Ok(elements)) => elements,
                // Events a line in a body that says that it is JSON.
                (Syntax::Ndjson, Err(parse::BodyError::Syntax(_))) => lines::lines(body).count(),
                (syntax, parsed) => panic!("taken as {syntax:?}, parsed as {parsed:?}"),
            };
            assert_eq!(apart.taken.len() + apart.rejected.len(), expected);
            check_records(&apart.block);
            let rejected: Vec<_> = apart.rejected.iter().map(|(index, rejection, raw)| (*index, rejection, &**raw)).collect();
            check_letters(&apart.letters, &rejected);
            let words: Vec<_> =
                apart.rejected.iter().map(|(_, rejection, _)| format!("{} {}", rejection.code.label(), rejection.reason)).collect();
            Kind::of(format!("{} {}", apart.taken.len().min(2), words.join(",")))
        }
    }
}

const FORMS: [Form; 10] = {
    const fn form(syntax: Syntax, shape: Shape) -> Form {
        Form { syntax, shape }
    }
    [
        form(Syntax::Json, Shape::Amberflo),
        form(Syntax::Ndjson, Shape::Amberflo),
        form(Syntax::Csv, Shape::Amberflo),
        form(Syntax::Json, Shape::Custom),
        form(Syntax::Ndjson, Shape::Custom),
        form(Syntax::Csv, Shape::Custom),
        form(Syntax::Json, Shape::Octane),
        form(Syntax::Json, Shape::StiggEvent),
        form(Syntax::Json, Shape::StiggUsage),
        form(Syntax::Json, Shape::CloudEvent),
    ]
};

/// Any body in any form: what is good comes back from the log; what is not is in a letter, and is refused for the same reason when it is
/// brought again by itself; and a line is what it is without its neighbours.
pub(super) fn forms(input: &[u8]) -> Kind {
    let (choice, body) = flags(input);
    let form = FORMS[usize::from(choice) % FORMS.len()];
    let apart = match take_apart(body, form, &KEY, ACCOUNT, RECEIVED) {
        Err(error) => return Kind::of(format!("{form:?} {error}")),
        Ok(apart) => apart,
    };
    check_records(&apart.block);
    let rejected: Vec<_> = apart.rejected.iter().map(|(index, rejection, raw)| (*index, rejection, &**raw)).collect();
    check_letters(&apart.letters, &rejected);
    for (_, rejection, raw) in &rejected {
        let again = take_apart(&apart.sent.body(raw), apart.sent.form(), &KEY, ACCOUNT, RECEIVED).expect("one event is a body");
        let [(0, same, same_raw)] = again.rejected.as_slice() else { panic!("one event, refused again: {:?}", again.rejected) };
        // The one event of a body stands one level deeper in an array.
        assert!(same == *rejection || same.code == Code::TooDeep, "{same:?} and not {rejection:?}");
        assert_eq!(&**same_raw, *raw);
    }
    if form.syntax == Syntax::Ndjson {
        let is_taken: HashSet<u32> = apart.taken.iter().copied().collect();
        let all = lines::lines(body).collect::<Vec<_>>();
        assert_eq!(all.len(), apart.taken.len() + apart.rejected.len());
        for (index, line) in (0..).zip(all) {
            let alone = take_apart(line, form, &KEY, ACCOUNT, RECEIVED).expect("a line is a body");
            assert_eq!(alone.taken.len(), usize::from(is_taken.contains(&index)), "{}", line.escape_ascii());
        }
    }
    let words: Vec<_> = rejected.iter().map(|(_, rejection, _)| format!("{} {}", rejection.code.label(), rejection.reason)).collect();
    Kind::of(format!("{form:?} {} {}", apart.taken.len().min(2), words.join(",")))
}

fn outcomes(parsed: &Parsed<'_>) -> Vec<(Vec<u8>, Result<String, Rejection>)> {
    let mut scratch = Scratch::making(7);
    let mut all = Vec::new();
    for element in parsed.elements() {
        let read = element.members.and_then(|members| {
            let event = read_event(members, &mut scratch, RECEIVED, TimeWindow::default())?;
            let ids = (event.unique_id(), event.unique_id_generated(), event.customer_id());
            Ok(format!("{ids:?} {:?} {:?} {:?}", event.time(), event.measurements(), event.dimensions()))
        });
        if let Err(rejection) = &read {
            assert!(Code::ALL.contains(&rejection.code) && !rejection.reason.is_empty());
        }
        all.push((element.raw.to_vec(), read));
    }
    all
}

/// Each element is one JSON value, and stands in the body behind the one before it.
fn check_raw(parsed: &Parsed<'_>, body: &[u8]) {
    let mut from = 0;
    for element in parsed.elements() {
        let value: &RawValue = serde_json::from_slice(element.raw).expect("an element is JSON");
        assert_eq!(value.get().len(), element.raw.len(), "with nothing around it");
        from += memchr::memmem::find(&body[from..], element.raw).expect("in its place") + element.raw.len();
    }
}

/// What was written is read back, and told as JSON it is the same event.
fn check_records(block: &Block) {
    let read: Vec<Record<'_>> = decoded(block);
    assert_eq!(record::parts(block.payload()).map(<[u8]>::len).sum::<usize>(), block.payload().len());
    for record in &read {
        let json = serde_json::to_vec(record).expect("JSON");
        let mut parser = Parser::default();
        let parsed = parser.parse(&json, 1).expect("an event");
        let mut scratch = Scratch::default();
        let members = parsed.elements().next().and_then(|element| element.members.ok()).expect("an object");
        let event = read_event(members, &mut scratch, RECEIVED, TimeWindow::default()).expect("a good event");
        let again = written(&event);
        let again = decoded(&again);
        // Told as JSON, an event has a time, in milliseconds.
        if !record.time_is_received() && record.time.0 % 1_000 == 0 {
            assert_eq!((again[0].identity, again[0].content), (record.identity, record.content), "{}", String::from_utf8_lossy(&json));
        }
        assert!(again[0].measurements().eq(record.measurements()) && again[0].dimensions().eq(record.dimensions()));
    }
    let half = without_every_second(block);
    assert!(decoded(&half).iter().eq(read.iter().skip(1).step_by(2)));
}

fn written(event: &MeterEvent<'_, '_>) -> Block {
    let mut block = Block::new(RECEIVED, 0);
    block.push(|to| record::write(to, &KEY, ACCOUNT, event, Decisions::default()));
    block
}

fn decoded(block: &Block) -> Vec<Record<'_>> {
    records(block.payload(), block.count(), RECEIVED).map(|record| record.expect("was written")).collect()
}

fn check_letters(letters: &Block, rejected: &[(u32, &Rejection, &[u8])]) {
    let view = BlockView { first: Position(0), count: letters.count(), received: RECEIVED, payload: letters.payload() };
    let read: Vec<_> = entries(&view).collect();
    assert_eq!(read.len(), rejected.len());
    for (entry, (index, rejection, raw)) in read.iter().zip(rejected) {
        let Said::Letter(letter) = &entry.said else { panic!("a letter") };
        assert_eq!(
            (letter.index, letter.refusal.code.as_str(), &letter.refusal.reason),
            (*index, rejection.code.label(), &rejection.reason)
        );
        assert!(raw.starts_with(&letter.raw) && letter.is_cut == (letter.raw.len() < raw.len()));
        drop(Names::of(letter));
    }
}

/// Any text as a number: read as the slow and obvious way reads it.
pub(super) fn numbers(text: &[u8]) -> Kind {
    let read = Amount::parse(text);
    assert_eq!(read.map(Amount::scaled), obvious(text), "{}", String::from_utf8_lossy(text));
    match read {
        Ok(amount) => {
            let shown = amount.to_string();
            assert_eq!(Amount::parse(shown.as_bytes()), Ok(amount));
            Kind::of(unary(shown.len()))
        }
        Err(error) => Kind::of(error),
    }
}

/// The number × 10^12, rounded half to even: digits written down and cut by hand.
fn obvious(text: &[u8]) -> Result<i128, AmountError> {
    let text = std::str::from_utf8(text).map_err(|_| AmountError::NotANumber)?;
    let is_number = serde_json::from_str::<serde_json::Number>(text).is_ok() && !text.contains(|c: char| c.is_ascii_whitespace());
    if !is_number {
        return Err(AmountError::NotANumber);
    }
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    // No text of this length reaches beyond with its digits.
    let exponent = exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { -1 << 40 } else { 1 << 40 }).clamp(-1 << 40, 1 << 40);
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{integer}{fraction}");
    if digits.bytes().all(|digit| digit == b'0') {
        return Ok(0);
    }
    let kept = integer.len() as i64 + exponent + i64::from(PLACES);
    let mut whole = match usize::try_from(kept) {
        Ok(kept) if kept <= digits.len() => digits[..kept].to_owned(),
        Ok(kept) if kept - digits.len() < 100 => digits.clone() + &"0".repeat(kept - digits.len()),
        Ok(_) => return Err(AmountError::OutOfRange),
        Err(_) => String::new(),
    };
    whole = whole.trim_start_matches('0').to_owned();
    if whole.len() > 32 {
        return Err(AmountError::OutOfRange);
    }
    let mut scaled: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| AmountError::OutOfRange)? };
    // With less than no digit kept, what is cut off begins with zeros: less than a half.
    let cut = usize::try_from(kept).map_or("", |kept| digits.get(kept..).unwrap_or(""));
    let half = format!("5{}", "0".repeat(cut.len().saturating_sub(1)));
    let is_up = match cut.cmp(half.as_str()) {
        _ if cut.is_empty() => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => scaled % 2 != 0,
        std::cmp::Ordering::Less => false,
    };
    scaled += i128::from(is_up);
    if scaled >= 10_i128.pow(20 + PLACES) { Err(AmountError::OutOfRange) } else { Ok(sign * scaled) }
}

const CODINGS: [&str; 12] =
    ["", "identity", "gzip", "x-gzip", "GZip", "deflate", "zstd", "br", "gzip, gzip", "gzip;q=1", " deflate ", "\u{7f}"];

/// Any body in any coding: inflated within its limits or refused; what was compressed comes back, and not when it was cut.
pub(super) fn codings(input: &[u8]) -> Kind {
    let (choice, wire) = flags(input);
    if wire.len() <= PLAIN_BYTES_MAX {
        ["gzip", "deflate", "zstd"].into_iter().for_each(|coding| check_round_trip(coding, wire));
        check_inflated("deflate", &bare(wire), wire);
    }
    let coding = CODINGS[usize::from(choice) % CODINGS.len()];
    match inflate(coding, wire) {
        Ok(inflated) => {
            assert!(is_allowed(inflated.len(), wire.len()) || matches!(coding, "" | "identity"), "{} of {}", inflated.len(), wire.len());
            assert!(coding != "zstd" || window_log(wire).is_none_or(|log| log <= 23), "it took a window of 2^{:?}", window_log(wire));
            Kind::of(format!("{coding} {}", unary(inflated.len().checked_ilog2().unwrap_or(0) as usize)))
        }
        Err(error) => Kind::of(format!("{coding} {error}")),
    }
}

fn is_allowed(inflated: usize, wire: usize) -> bool {
    inflated <= LIMITS.inflated_max && inflated <= (100 * wire).max(64 << 10)
}

/// What a zstd frame without a size asks for; its first, if there are several.
fn window_log(wire: &[u8]) -> Option<u8> {
    match wire {
        [0x28, 0xb5, 0x2f, 0xfd, descriptor, window, ..] if descriptor & 0x20 == 0 => Some(10 + (window >> 3)),
        _ => None,
    }
}

fn check_round_trip(coding: &str, plain: &[u8]) {
    let wire = compressed(coding, plain);
    check_inflated(coding, &wire, plain);
    for cut in [wire.len() - 1, wire.len() / 2, plain.len() % wire.len()] {
        let is_whole = cut == 0 && coding == "zstd";
        let cut = inflate(coding, &wire[..cut]);
        assert!(is_whole || matches!(cut, Err(BodyError::Damaged(_))), "{coding} cut: {cut:?}");
    }
    let behind = inflate(coding, &[&wire, b"{}".as_slice()].concat());
    assert!(matches!(behind, Err(BodyError::Damaged(_))), "{coding} with something behind it: {behind:?}");
}

fn check_inflated(coding: &str, wire: &[u8], plain: &[u8]) {
    match inflate(coding, wire) {
        Ok(inflated) => assert_eq!(inflated, plain, "{coding}"),
        Err(error) => panic!("{coding}: {error}"),
    }
}

fn compressed(coding: &str, plain: &[u8]) -> Vec<u8> {
    let written = match coding {
        "gzip" => GzEncoder::new(Vec::new(), Compression::fast()).written(plain),
        "deflate" => ZlibEncoder::new(Vec::new(), Compression::fast()).written(plain),
        _ => zstd::encode_all(plain, 1),
    };
    written.expect("in memory")
}

fn bare(plain: &[u8]) -> Vec<u8> {
    DeflateEncoder::new(Vec::new(), Compression::fast()).written(plain).expect("in memory")
}

trait Written {
    fn written(self, plain: &[u8]) -> std::io::Result<Vec<u8>>;
}

impl Written for GzEncoder<Vec<u8>> {
    fn written(mut self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        self.write_all(plain)?;
        self.finish()
    }
}

impl Written for ZlibEncoder<Vec<u8>> {
    fn written(mut self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        self.write_all(plain)?;
        self.finish()
    }
}

impl Written for DeflateEncoder<Vec<u8>> {
    fn written(mut self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        self.write_all(plain)?;
        self.finish()
    }
}
