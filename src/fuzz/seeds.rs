//! Inputs that are made by the writers of the formats. They are in the corpus as files, so that every runner has them;
//! `TOLLGATE_FUZZ_SEEDS=write cargo test --lib fuzz::tests::the_corpus_has` writes them anew when a format has changed.

use std::path::Path;
use std::sync::Arc;

use super::SEPARATOR;
use crate::clock::{UnixMicros, UnixMillis};
use crate::customers::{Customer, CustomerId, Stage};
use crate::dialect::amberflo::ingest::read_event;
use crate::dialect::draft::Scratch;
use crate::event::parse::Parser;
use crate::event::{Amount, ContentHash, HashKey, IdentityHash, IdentityMode, TimeWindow};
use crate::gateway::form::Sent;
use crate::gateway::letters::{Became, DeadLetter, Mark, Refusal, block_of, marks};
use crate::log::disk::simulated::SimulatedDisk;
use crate::log::embedded::{EmbeddedLog, LogIdentity, Settings};
use crate::log::record::{self, Account, Decisions};
use crate::log::{Append, Appender, Block, Position};
use crate::materializer::first_positions::{Asked, FirstPositions};
use crate::store::digest::RowsDigest;
use crate::store::row::sketch_dimensions;
use crate::store::{DimensionSet, Grain, Row, RowKey};
use crate::{checked_json, customers};

const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

/// Target, name, input.
pub(super) fn made() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |target, name: &str, input: Vec<u8>| all.push((target, format!("made-{name}"), input));
    let record = records(1);
    forms().into_iter().for_each(|(name, input)| add("forms", name, input));
    add("records", "one", [&[0_u8], &record[4..]].concat());
    add("records", "three", [&[3_u8], records(3).as_slice()].concat());
    add("letters", "heads", letters());
    add("letters", "payload", [&[2_u8], letter_block().payload()].concat());
    for (name, choice) in [("as-it-is", 0_u8), ("mended", 1)] {
        add("segments", name, [&[choice], joined(&segments()).as_slice()].concat());
        add("segments", &format!("{name}-open"), [&[choice], joined(&open_segment()).as_slice()].concat());
        for (kind, horizon_ms) in [("", None), ("-horizon", Some(480_000))] {
            add("index", &format!("{name}{kind}"), [&[choice], joined(&index(horizon_ms)).as_slice()].concat());
        }
        add("bases", name, [&[choice], joined(&base()).as_slice()].concat());
        add("backups", name, [&[choice], joined(&backup()).as_slice()].concat());
        add("log-meta", name, [&[choice], meta().as_slice()].concat());
    }
    add("rows", "two", joined(&[row_key("m"), row(7), row(-9)]));
    add("rows", "overflow", joined(&[row_key("m"), overflow_row(), row(-9)]));
    add("documents", "customer", [&[2_u8], customer().as_slice()].concat());
    add("documents", "plan", [&[4_u8], PLAN].concat());
    add("documents", "ledger", [&[5_u8], LEDGER].concat());
    for (coding, wire) in [(2, compressed_gzip()), (5, compressed_zlib()), (6, zstd::encode_all(&b"[{},{}]"[..], 1).expect("memory"))] {
        add("codings", &format!("coding-{coding}"), [&[coding], wire.as_slice()].concat());
    }
    all
}

const PLAN: &[u8] = br#"{"id":"p","currency":"USD","minimum":5,"fees":[{"id":"f","amount":9.5,"due":"advance"}],"prices":[{"meter":"m","aggregation":"unique","uniqueDimension":"u","model":"package","size":10,"packagePrice":3,"included":1},{"meter":"n","byDimension":{"dimension":"d","values":{"v":{"model":"volume","tiers":[{"upTo":5,"unitPrice":1},{"flatPrice":2}]}},"default":{"model":"perUnit","unitPrice":0.1}}}]}"#;
const LEDGER: &[u8] = br#"{"version":1,"assignments":[{"life":0,"plan_id":"a","plan_version":1,"start_ms":1767225600000,"end_ms":1772323200000,"created_ms":6}],"orders":[{"id":"o","life":0,"terms":{"amount":5.25,"currency":"USD","start_ms":1767225600000,"expires_ms":null,"recurrence":{"interval":"month","count":2},"product_id":"1","offer_version":-1,"external_payment":false,"original_worth":5.25},"payment_status":"not_needed","payment":null,"created_ms":8,"modified_ms":8,"deleted_ms":null}],"closed_until_h":3,"stored_until_h":2}"#;

/// A byte that chooses the form, and a body.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let event = |id: &str| {
        format!(r#"{{"uniqueId":"{id}","customerId":"c","meterApiName":"m","meterValue":1.5,"meterTimeInMillis":1767225600000}}"#)
    };
    let header = "uniqueId,customerId,meterApiName,meterValue,meterTimeInMillis,region";
    let row = |id: &str| format!("{id},c,m,1.5,1767225600000,\"eu, \"\"1\"\"\"");
    let custom = r#"{"id":"i","customer":"c","type":"t","amount":2.50,"created":"2026-01-01T00:00:00Z","live":true,"nested":{"a":[1]}}"#;
    let all = [
        ("json-lines", 0_u8, format!("{}\n{}\n{{broken\n", event("a"), event("b"))),
        ("ndjson", 1, format!("{}\r\n\n{}\n{{\"a\":1\n\"b\":2}}\n7\n[]", event("a"), event("b"))),
        ("csv", 2, format!("{header}\r\n{}\r\n1,2\r\n{}\r\n\"x\"y,,,,,\r\n", row("a"), row("b"))),
        ("csv-open-quote", 2, format!("{header}\n{}\n\"open,\n{}\n", row("a"), row("b"))),
        ("custom", 3, format!("[{custom},{{\"subject\":7}},{{}},{{\"customer\":{{}}}}]")),
        ("custom-ndjson", 4, format!("{custom}\n{{\"customer_id\":\"c\",\"ts\":1767225600.25,\"id\":1}}\n")),
        ("custom-csv", 5, "customer,usage,ts,zip\nc,2.50,1767225600,007\n,1,,\nc,x,,\n".to_owned()),
    ];
    all.into_iter().map(|(name, choice, body)| (name, [&[choice], body.as_bytes()].concat())).collect()
}

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.join(SEPARATOR)
}

fn compressed_gzip() -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"[{},{}]").expect("memory");
    encoder.finish().expect("memory")
}

fn compressed_zlib() -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"[{},{}]").expect("memory");
    encoder.finish().expect("memory")
}

fn records(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 0..count {
        let json = format!(
            r#"{{"uniqueId":"u-{at}","customerId":"acme","meterTimeInMillis":{},"values":{{"in":1.5,"out":-2e9}},"dimensions":{{"a":"b","c":""}}}}"#,
            RECEIVED.0
        );
        let mut parser = Parser::default();
        let parsed = parser.parse(json.as_bytes(), 1).expect("JSON");
        let mut scratch = Scratch::default();
        let members = parsed.elements().next().and_then(|element| element.members.ok()).expect("an object");
        let event = read_event(members, &mut scratch, RECEIVED, TimeWindow::default()).expect("a good event");
        let account = Account { number: 1, identity: IdentityMode::UniqueId };
        record::write(&mut bytes, &HashKey::from_bytes([5; 16]), account, &event, Decisions::default());
    }
    bytes
}

fn letter() -> DeadLetter {
    let refusal = Refusal { code: "wrong_type".into(), field: "meterValue".into(), reason: "must be a number".into() };
    DeadLetter {
        account: 1,
        index: 3,
        refusal,
        is_cut: false,
        record: None,
        sent: Sent::default(),
        raw: br#"{"uniqueId":"u","values":{"m":"1"}}"#.to_vec(),
    }
}

fn all_marks() -> Vec<Mark> {
    let mark = |letter, became| Mark { account: 1, letter, code: "too_old".into(), bytes: 100, became };
    vec![
        mark(0, Became::Replayed { unique_id: "u".into(), partition: 5, position: Some(3) }),
        mark(1, Became::Refused(letter().refusal)),
        mark(u64::MAX, Became::Deleted),
    ]
}

fn letter_block() -> Block {
    block_of(vec![letter(), letter()], RECEIVED)
}

/// Heads and events, not yet in records.
fn letters() -> Vec<u8> {
    let blocks = [letter_block(), marks(all_marks(), RECEIVED)];
    let mut input = vec![0];
    for record in blocks.iter().flat_map(|block| record::parts(block.payload())) {
        let head = u32::from_le_bytes(*record[5..].first_chunk().expect("a length")) as usize;
        input.extend_from_slice(&record[9..9 + head]);
        input.extend_from_slice(SEPARATOR);
        input.extend_from_slice(&record[9 + head..]);
        input.extend_from_slice(SEPARATOR);
    }
    input
}

/// A log of two segments, and the same in the middle of being written.
fn log(is_closed: bool) -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    let settings = Settings { segment_bytes: 300, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
    let identity = LogIdentity { log_id: [7; 16], name: "events" };
    let (_, mut appender, _) = EmbeddedLog::open(Arc::new(disk.clone()), Path::new("/log"), identity, settings).expect("memory");
    for at in 0..4 {
        let mut block = Block::new(UnixMillis(RECEIVED.0 + at), 0);
        let bytes = records(1 + at as usize % 2);
        record::parts(&bytes).for_each(|record| block.push(|to| to.extend_from_slice(record)));
        let answers = appender.append_and_wait(vec![Append::unattended(block.seal())]);
        assert!(answers.iter().all(|answer| answer.result.is_ok()));
    }
    if is_closed {
        appender.close().expect("memory");
    }
    disk
}

fn files(disk: &SimulatedDisk, dir: &str) -> Vec<Vec<u8>> {
    use crate::log::disk::Disk;
    let mut names = disk.list(Path::new(dir)).expect("memory");
    // A segment, then its index.
    names.sort_by_key(|name| (name[..20.min(name.len())].to_owned(), name.ends_with(".idx")));
    names.iter().map(|name| disk.read(&Path::new(dir).join(name)).expect("is there")).collect()
}

fn segments() -> Vec<Vec<u8>> {
    files(&log(true), "/log")
}

fn open_segment() -> Vec<Vec<u8>> {
    files(&log(false), "/log")
}

fn index(horizon_ms: Option<i64>) -> Vec<Vec<u8>> {
    let disk = SimulatedDisk::default();
    let dir = Path::new("/index");
    let mut index = FirstPositions::open(Arc::new(disk.clone()), dir, [7; 16], horizon_ms, UnixMillis(i64::MIN)).expect("memory");
    let mut standings = Vec::new();
    for round in 0..2_u64 {
        let log_time = UnixMillis(1_000 + 70_000 * round.cast_signed());
        for at in round * 30..round * 30 + 30 {
            let identity = IdentityHash(u128::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            let asked = Asked { identity, content: ContentHash(at), position: Position(at), log_time };
            index.stand_all(&[asked], &mut standings).expect("memory");
        }
        index.freeze_at(Position(round * 30 + 30), log_time).expect("memory");
        index.wait().expect("memory");
    }
    drop(index);
    // The manifest, then the runs as it names them.
    let manifest = disk.read(&dir.join("manifest.json")).expect("is there");
    let value: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let runs = value["manifest"]["runs"].as_array().expect("an array").iter();
    let run = |run: &serde_json::Value| disk.read(&dir.join(run["file"].as_str().expect("a name"))).expect("is there");
    std::iter::once(manifest).chain(runs.map(run)).collect()
}

fn row_key(meter: &str) -> Vec<u8> {
    let dimensions = DimensionSet(b"\x01\x01a\x01\x00b");
    let mut bytes = Vec::new();
    RowKey { account: 1, meter, grain: Grain::Day, bucket: 20_454, customer: "acme", partition: 0, dimensions }.write(&mut bytes);
    bytes
}

fn row(value: i64) -> Vec<u8> {
    let mut row = Row::first(Amount::from_int(value), UnixMicros(1_767_225_600_000_000), "u-1");
    row.add(Amount::from_int(1), UnixMicros(1_767_225_600_000_001), "u-2");
    let mut bytes = Vec::new();
    row.write(&mut bytes);
    bytes
}

/// Of an overflow row: with sketches, a small one and one of all registers.
fn overflow_row() -> Vec<u8> {
    let (mut row, mut other) = (Row::none_yet(DimensionSet::OVERFLOW), Row::none_yet(DimensionSet::OVERFLOW));
    row.add(Amount::from_int(3), UnixMicros(1_767_225_600_000_000), "u-3");
    sketch_dimensions(DimensionSet(b"\x01\x01a\x01\x00b"), [&mut row, &mut other]);
    for value in 0..2_000_u16 {
        let dimensions = [b"\x01\x01b\x02\x00".as_slice(), &[b'0' + (value % 64) as u8, b'0' + (value / 64) as u8]].concat();
        sketch_dimensions(DimensionSet(&dimensions), [&mut row, &mut other]);
    }
    let mut bytes = Vec::new();
    row.write(&mut bytes);
    bytes
}

/// What stands in `base.json`, and the rows.
fn base() -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    let mut digest = RowsDigest::default();
    for meter in ["a", "b"] {
        let (key, row) = (row_key(meter), row(5));
        digest.add(&key, &Row::read(&row).expect("was written"));
        items.push(1);
        for bytes in [key, row] {
            items.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            items.extend_from_slice(&bytes);
        }
    }
    items.push(2);
    items.extend([[1, 0, 0, 0].as_slice(), &[0; 4], &9_u64.to_le_bytes(), &4_u64.to_le_bytes()].concat());
    let mut rows = b"TGBASE01".to_vec();
    for frame in [items.as_slice(), &[]] {
        rows.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        rows.extend_from_slice(&crc32c::crc32c(frame).to_le_bytes());
        rows.extend_from_slice(frame);
    }
    let content = serde_json::json!({
        "format": 1, "log_id": "07".repeat(16), "partition": 0, "position": 12, "log_time_ms": RECEIVED.0, "rows": 2, "conflicts": 1,
        "digest": digest.finish().to_string(), "rows_bytes": rows.len(), "index_covers": 12, "index_files": [],
    });
    vec![checked_json::to_bytes(&content).expect("JSON"), rows]
}

fn backup() -> Vec<Vec<u8>> {
    let file = b"{}".to_vec();
    let content = serde_json::json!({
        "format": 1, "tollgate": "0.1.0", "log_id": "07".repeat(16), "time": "2026-01-01T00:00:00Z", "position": 3, "log_end": 4,
        "rows": 2, "digest": "sha256:0", "files": [{"path": "log/meta.json", "bytes": file.len(), "crc32c": crc32c::crc32c(&file)}],
    });
    vec![checked_json::to_bytes(&content).expect("JSON"), file]
}

fn meta() -> Vec<u8> {
    let text = r#"{"format":1,"record_version":1,"log_id":"000102030405060708090a0b0c0d0e0f","hash_key":"ffeeddccbbaa99887766554433221100","partitions":1,"dedup_horizon_ms":3196800000,"dimension_sets_max":10000,"crc32c":0}"#;
    let mut bytes = text.as_bytes().to_vec();
    super::mend::meta(&mut bytes);
    bytes
}

fn customer() -> Vec<u8> {
    let mut customer = Customer::new(CustomerId::parse("a").expect("an id"), UnixMicros(1_767_225_600_000_000));
    customer.name = Some("Acme".into());
    customer.stage = Stage::Trial;
    customer.attributes.insert("tier".into(), "gold".into());
    customer.address.city = Some("Rome".into());
    customer.tags.push("t".into());
    customers::fuzz::written(&customer).expect("JSON")
}
