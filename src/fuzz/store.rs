//! What the store, bases and backups keep.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Kind, flags, mend, parts};
use crate::accounts::audit::Audit;
use crate::accounts::{Accounts, DefaultAccount, NewKey, Scope};
use crate::base::{self, Base, BaseIdentity};
use crate::billing::Closed;
use crate::billing::ledger::Ledger;
use crate::billing::plan::json as plan_json;
use crate::clock::Clock;
use crate::customers::{self, CustomerId, Customers, Lives};
use crate::dialect::amberflo::customers::render;
use crate::dialect::amberflo::meters::render as render_meter;
use crate::event::{IdentityMode, Sum};
use crate::meters::{self, Meters};
use crate::ops;
use crate::ops::restore::Restore;
use crate::rules::Rules;
use crate::store::digest::RowsDigest;
use crate::store::memory::MemoryStore;
use crate::store::{Change, Error, Item, Kind as Document, Row, RowKey, Store};

/// An encoded key, an encoded row, and another one.
pub(super) fn rows(input: &[u8]) -> Kind {
    let parts = parts(input);
    let key = RowKey::read(parts[0]);
    if let Some(key) = &key {
        let mut again = Vec::new();
        key.write(&mut again);
        assert_eq!(again, parts[0], "a key has one form");
        assert!(key.start_s() >= 0);
        assert!(key.dimensions.iter().count() <= 255);
    }
    let rows: Vec<Option<Row>> = parts[1..].iter().map(|bytes| Row::read(bytes)).collect();
    for row in rows.iter().flatten() {
        assert_eq!(read_back(row), *row);
        assert!(row.count > 0 && row.min <= row.max);
    }
    if let [Some(one), Some(other), ..] = &rows[..]
        && one.count.checked_add(other.count).is_some()
    {
        let (mut merged, mut turned) = (one.clone(), other.clone());
        merged.merge(other);
        turned.merge(one);
        assert_eq!((merged.sum, merged.count, merged.min, merged.max), (turned.sum, turned.count, turned.min, turned.max));
        assert_eq!(read_back(&merged), merged);
        drop(merged.sum.percentage_from(one.sum).to_string());
    }
    let said = rows.iter().map(|row| row.as_ref().map(|row| shown_len(row.sum)));
    Kind::of(format!("{} {:?}", key.is_some(), said.collect::<Vec<_>>()))
}

fn read_back(row: &Row) -> Row {
    let mut bytes = Vec::new();
    row.write(&mut bytes);
    Row::read(&bytes).expect("was written")
}

fn shown_len(sum: Sum) -> bool {
    let shown = serde_json::to_string(&sum).expect("a number");
    assert_eq!(shown, sum.to_string());
    shown.len() > 20
}

/// A document of any kind, read by whoever reads such.
pub(super) fn documents(input: &[u8]) -> Kind {
    let (choice, bytes) = flags(input);
    let (kind, account, id) = match choice % 9 {
        0 => (Document::Account, 0, "other"),
        1 => (Document::Key, 0, "0123456789abcdef"),
        2 => (Document::Customer, 1, "a"),
        3 => (Document::Audit, 1, "00000"),
        4 => (Document::Plan, 1, "a"),
        5 => (Document::Ledger, 1, "a"),
        6 => (Document::Invoice, 1, "a"),
        7 => (Document::Meter, 1, "m"),
        _ => (Document::Rule, 0, "1/r"),
    };
    let store = Arc::new(MemoryStore::default());
    store.change_document(kind, account, id, &mut |_| Change::Put(bytes.to_vec())).expect("memory");
    let said = match kind {
        Document::Account | Document::Key => accounts(&store),
        Document::Customer => customers(&store),
        Document::Meter => meters(&store),
        Document::Rule => Rules::open(store.clone()).map(|rules| rules.of(1).is_some().to_string()).map_err(|error| damaged(&error)),
        Document::Audit | Document::Meta => Audit::new(store.clone(), Clock::start())
            .page(1, None, 10)
            .map(|(page, _)| page.iter().map(|entry| format!("{} {:?}", entry.time(), entry.outcome)).collect::<Vec<_>>().join(","))
            .map_err(|error| damaged(&error)),
        Document::Plan => plan(bytes),
        Document::Ledger => ledger(bytes).map_err(|error| damaged(&error)),
        Document::Invoice => invoice(bytes).map_err(|error| damaged(&error)),
        Document::Told => Err("says nothing".to_owned()),
        // Nothing but an id.
        Document::Subscription => serde_json::from_slice::<CustomerId>(bytes).map(|id| id.to_string()).map_err(|error| error.to_string()),
    };
    assert_eq!(store.document(kind, account, id).expect("memory").as_deref(), Some(bytes), "nobody writes over what it cannot read");
    Kind::of(format!("{} {}", choice % 9, said.unwrap_or_else(|what| what)))
}

/// What is a plan is shown as one that is the same.
fn plan(bytes: &[u8]) -> Result<String, String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let plan = plan_json::read(&value).map_err(|error| error.to_string())?;
    assert_eq!(plan_json::read(&plan_json::shown(&plan)).as_ref(), Ok(&plan));
    Ok(format!("{} fees, {} prices", plan.fees.len(), plan.prices.len()))
}

/// What was sold makes periods that follow each other, and cards that end behind their begin.
fn ledger(bytes: &[u8]) -> Result<String, Error> {
    let ledger = Ledger::read(bytes)?;
    assert_eq!(Ledger::read(&ledger.write()?)?, ledger);
    let periods = ledger.periods(&Lives::default(), 500_000, &|_| true);
    assert!(periods.windows(2).all(|pair| pair[0].end_h <= pair[1].start_h));
    let cards = ledger.orders.iter().flat_map(|order| order.cards(500_000));
    assert!(cards.take(100).all(|card| card.start_h < card.end_h));
    Ok(format!("{} periods", periods.len().min(3)))
}

fn invoice(bytes: &[u8]) -> Result<String, Error> {
    let closed = Closed::read(bytes)?;
    assert_eq!(Closed::read(&closed.write()?)?, closed);
    Ok(format!("{:?} {}", closed.status, closed.invoice.plan().is_ok()))
}

fn damaged(error: &Error) -> String {
    assert!(matches!(error, Error::Damaged(what) if !what.is_empty()), "{error}");
    error.to_string()
}

fn accounts(store: &Arc<MemoryStore>) -> Result<String, String> {
    const KEY: &str = "key-of-an-operator";
    let wanted = DefaultAccount { admin_key: Some(KEY), identity: None };
    let open = || Accounts::open(store.clone(), &wanted, Clock::start());
    let (accounts, _) = match open() {
        Ok(opened) => opened,
        Err(error) => return Err(error.to_string()),
    };
    let by = accounts.ring().caller(KEY.as_bytes()).map_err(|denied| denied.to_string())?;
    let made = accounts.create(&by, "new", IdentityMode::UniqueId).map_err(|error| error.to_string())?;
    let new = NewKey { name: None, scopes: vec![Scope::Read], ..NewKey::default() };
    let key = accounts.create_key(&by, made.number, new).map_err(|error| error.to_string())?;
    let listed = accounts.list(&by, None, 10).map_err(|error| error.to_string())?;
    let numbers: std::collections::BTreeSet<_> = listed.iter().map(|account| account.number).collect();
    assert_eq!(numbers.len(), listed.len(), "no two accounts are one");
    let (again, _) = open().expect("was opened before");
    assert_eq!(again.ring().caller(key.text.as_bytes()).map(|caller| caller.account).ok(), Some(made.number));
    Ok(format!("{} accounts", listed.len()))
}

fn customers(store: &Arc<MemoryStore>) -> Result<String, String> {
    let customers = Customers::new(store.clone(), Clock::start());
    match customers.list(1) {
        Ok(list) => Ok(list.iter().map(|customer| render(customer).to_string().len().min(1).to_string()).collect()),
        Err(customers::Error::Store(error)) => Err(damaged(&error)),
        Err(error) => panic!("{error}"),
    }
}

fn meters(store: &Arc<MemoryStore>) -> Result<String, String> {
    let meters = Meters::new(store.clone(), Clock::start());
    match meters.list(1) {
        Ok(list) => Ok(list.iter().map(|meter| render_meter(meter)["type"].to_string()).collect()),
        Err(meters::Error::Store(error)) => Err(damaged(&error)),
        Err(error) => panic!("{error}"),
    }
}

/// A directory of a thread.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let name = format!("tollgate-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
        let dir = std::env::temp_dir().join(name.replace(['(', ')'], "-"));
        drop(fs::remove_dir_all(&dir));
        fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

thread_local! {
    static DIR: RefCell<Dir> = RefCell::new(Dir::new());
}

/// An empty directory.
fn emptied(dir: &Path) -> PathBuf {
    drop(fs::remove_dir_all(dir));
    fs::create_dir_all(dir).expect("a directory");
    dir.to_owned()
}

const IDENTITY: BaseIdentity = BaseIdentity { log_id: [7; 16], partition: 0 };

/// A base: what it contains, and its rows. Whatever is handed over is what was sealed.
pub(super) fn bases(input: &[u8]) -> Kind {
    let (choice, rest) = flags(input);
    let parts = parts(rest);
    let mut content = parts[0].to_vec();
    let mut rows = parts.get(1).map_or_else(Vec::new, |rows| rows.to_vec());
    if choice & 1 == 1 {
        mend::frames(&mut rows);
        mend::json(&mut content, "content");
    }
    let parsed: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
    let position = parsed["content"]["position"].as_u64().unwrap_or(0);
    DIR.with_borrow(|dir| {
        let bases = emptied(&dir.0.join("base"));
        let base = emptied(&bases.join(format!("{position:020}")));
        fs::write(base.join("base.json"), &content).expect("written");
        fs::write(base.join("rows"), &rows).expect("written");
        let mut digest = RowsDigest::default();
        let read = Base::newest(&bases, &IDENTITY).and_then(|base| {
            let base = base.expect("one is there");
            base.visit(&mut |item| {
                if let Item::Row(key, row) = item {
                    assert_eq!(read_back(row), *row);
                    digest.add(key, row);
                }
                Ok(())
            })?;
            assert_eq!(base.progress().next.0, position);
            Ok((base.rows(), base.put_index(&dir.0.join("index"))))
        });
        Kind::of(match read {
            Ok((rows, index)) => {
                assert_eq!(rows, digest.rows());
                assert_eq!(Some(digest.finish().to_string().as_str()), parsed["content"]["digest"].as_str());
                format!("{} {}", rows.min(1), index.map_or_else(|error| without_path(&error), |()| "index".into()))
            }
            Err(error) => without_path(&error),
        })
    })
}

fn without_path(error: &base::Error) -> String {
    match error {
        base::Error::Damaged { what, .. } => what.clone(),
        base::Error::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => "not found".into(),
        other => panic!("{other}"),
    }
}

/// What a backup says that it contains, and one of its files: nothing is written but into the data directory, and nothing that
/// does not fit.
pub(super) fn backups(input: &[u8]) -> Kind {
    let (choice, rest) = flags(input);
    let parts = parts(rest);
    let mut content = parts[0].to_vec();
    if choice & 1 == 1 {
        mend::json(&mut content, "content");
    }
    DIR.with_borrow(|dir| {
        let all = emptied(&dir.0.join("all"));
        let from = emptied(&all.join("backup"));
        emptied(&from.join("log"));
        fs::write(from.join("backup.json"), &content).expect("written");
        fs::write(from.join("log/meta.json"), parts.get(1).copied().unwrap_or_default()).expect("written");
        let data_dir = all.join("data");
        let restored = Restore { from, data_dir: data_dir.clone() }.run(&mut |_| Ok(()));
        let mut names: Vec<_> = fs::read_dir(&all).expect("a directory").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        match restored {
            Ok(content) => {
                assert_eq!(names, ["backup", "data"]);
                for file in &content.files {
                    let bytes = fs::read(data_dir.join(&file.path)).expect("was restored");
                    assert_eq!((bytes.len() as u64, crc32c::crc32c(&bytes)), (file.bytes, file.crc32c));
                }
                Kind::of(format!("{} files", content.files.len()))
            }
            Err(error) => {
                assert_eq!(names, ["backup"], "{error}: all or nothing");
                Kind::of(match error {
                    ops::Error::Damaged { what, .. } => what,
                    ops::Error::Refused(what) => what.rsplit(": ").next().unwrap_or_default().to_owned(),
                    ops::Error::Io { file, error } => {
                        assert!(!file.components().any(|part| part == std::path::Component::ParentDir), "{}", file.display());
                        error.kind().to_string()
                    }
                    other => panic!("{other}"),
                })
            }
        }
    })
}
