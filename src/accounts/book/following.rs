//! Two nodes that share a store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::accounts::audit::{Audit, ENTRIES_MAX, Outcome};
use crate::accounts::{
    Accounts, AdminKey, Caller, DEFAULT_ACCOUNT, DefaultAccount, Denied, Error, MadeKey, NewKey, Rate, RateLimit, Scope,
};
use crate::clock::Clock;
use crate::event::IdentityMode;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::postgres::tests::two_stores;
use crate::store::replica::follow::PACE;

fn node(store: Arc<dyn Store>) -> Accounts {
    let wanted = DefaultAccount { admin_key: Some("operator"), identity: None };
    Accounts::open(store, &wanted, Clock::start()).expect("opens").0
}

/// Two nodes on a store in memory.
fn two_nodes() -> (Arc<MemoryStore>, Accounts, Accounts) {
    let store = Arc::new(MemoryStore::of_many());
    let (one, other) = (node(store.clone()), node(store.clone()));
    (store, one, other)
}

fn operator(node: &Accounts) -> Caller {
    node.ring().caller(b"operator").expect("is known")
}

fn make_key(node: &Accounts, account: u32, scope: Scope) -> MadeKey {
    node.create_key(&operator(node), account, NewKey { scopes: vec![scope], ..NewKey::default() }).expect("is made")
}

fn find(node: &Accounts, key: &str) -> Result<Caller, Denied> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(node.ring().find(key.as_bytes()))
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_key_works_on_every_node_as_soon_as_it_is_known_to_anybody() {
    let (store, one, other) = two_nodes();
    // Nobody hears of anything: the other node has to look.
    store.fall_silent();
    for _ in 0..20 {
        let made = make_key(&one, DEFAULT_ACCOUNT, Scope::Read);
        assert_eq!(find(&other, &made.text).expect("works").key_id.as_ref(), made.key.id);
        other.revoke_key(&operator(&other), &made.key.id).expect("is known there, too");
    }
    let account = one.create(&operator(&one), "acme", IdentityMode::AllAttributes).expect("a free name");
    let made = make_key(&one, account.number, Scope::Ingest);
    let caller = find(&other, &made.text).expect("works");
    assert_eq!((caller.account, caller.identity), (account.number, IdentityMode::AllAttributes));
}

#[test]
fn a_revoked_key_stops_on_every_node_whether_they_hear_of_it_or_not() {
    for is_silent in [false, true] {
        let (store, one, other) = two_nodes();
        let made = make_key(&one, DEFAULT_ACCOUNT, Scope::Read);
        let under_way = find(&other, &made.text).expect("works");
        if is_silent {
            store.fall_silent();
        }
        one.revoke_key(&operator(&one), &made.key.id).expect("revokes");
        wait_until("the other node knows", || other.ring().caller(made.text.as_bytes()).is_err());
        assert_eq!(under_way.check(), Err(Denied::Unknown), "requests under way are not let on either");
    }
}

#[test]
fn an_account_that_is_disabled_on_one_node_is_so_on_the_others() {
    let (_, one, other) = two_nodes();
    let account = one.create(&operator(&one), "acme", IdentityMode::UniqueId).expect("a free name").number;
    let made = make_key(&one, account, Scope::Admin);
    let under_way = find(&other, &made.text).expect("works");
    one.disable(&operator(&one), "acme").expect("disables");
    wait_until("the other node knows", || under_way.check() == Err(Denied::Disabled));
    assert_eq!(find(&other, &made.text).err(), Some(Denied::Disabled));
}

#[test]
fn what_is_left_of_a_rate_stays_when_another_node_changes_other_keys() {
    let (_, one, other) = two_nodes();
    let limit = RateLimit { requests: Some(Rate { per_second: 1, burst: 1 }), events: None };
    let new = NewKey { scopes: vec![Scope::Ingest], limit, ..NewKey::default() };
    let made = one.create_key(&operator(&one), DEFAULT_ACCOUNT, new).expect("is made");
    assert!(find(&other, &made.text).expect("works").take_request().is_ok());
    let later = make_key(&one, DEFAULT_ACCOUNT, Scope::Read);
    find(&other, &later.text).expect("works");
    assert!(find(&other, &made.text).expect("works").take_request().is_err());
}

#[test]
fn nodes_that_change_accounts_at_once_give_no_number_twice_and_lose_no_key() {
    let (one, other) = two_stores();
    let nodes = [node(Arc::new(one)), node(Arc::new(other))];
    let made: Vec<(u32, MadeKey)> = std::thread::scope(|scope| {
        let threads = [0, 1].map(|at| {
            let node = &nodes[at];
            scope.spawn(move || {
                let make = |n| {
                    let account = node.create(&operator(node), &format!("{at}-{n}"), IdentityMode::UniqueId).expect("a free name").number;
                    (account, make_key(node, account, Scope::Read))
                };
                [make(0), make(1)]
            })
        });
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut numbers: Vec<u32> = made.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4, 5]);
    for (number, key) in &made {
        for node in &nodes {
            assert_eq!(find(node, &key.text).expect("works").account, *number);
        }
    }
    assert!(matches!(nodes[0].create(&operator(&nodes[0]), "1-0", IdentityMode::UniqueId), Err(Error::Exists | Error::TooManyAccounts)));
    // Over PostgreSQL, too.
    nodes[0].revoke_key(&operator(&nodes[0]), &made[0].1.key.id).expect("revokes");
    wait_until("the other node knows", || nodes[1].ring().caller(made[0].1.text.as_bytes()).is_err());
}

#[test]
fn of_the_last_two_operators_one_stays_whoever_revokes_them_wherever() {
    for _ in 0..10 {
        let (_, one, other) = two_nodes();
        let second = make_key(&one, DEFAULT_ACCOUNT, Scope::Operator);
        let other_operator = find(&other, &second.text).expect("works");
        let (by, other_by) = (operator(&one), other_operator);
        let revoked = std::thread::scope(|scope| {
            let first = scope.spawn(|| one.revoke_key(&by, &second.key.id).is_ok());
            let second = scope.spawn(|| other.revoke_key(&other_by, "bootstrap").is_ok());
            (first.join().expect("no panic"), second.join().expect("no panic"))
        });
        assert!(revoked.0 != revoked.1, "{revoked:?}");
    }
}

#[test]
fn a_flood_of_wrong_keys_is_no_flood_of_questions() {
    let (store, one, _) = two_nodes();
    let (before, began) = (store.looks(), Instant::now());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let one = &one;
            scope.spawn(move || {
                for n in 0..10 {
                    let wrong = format!("tg_{:016x}_{:040x}", thread, n);
                    assert_eq!(find(one, &wrong).err(), Some(Denied::Unknown));
                }
            });
        }
    });
    let looks = u128::from(store.looks() - before);
    // Two nodes, each of which looks now and then.
    assert!(looks <= 2 * (began.elapsed().as_millis() / PACE.as_millis() + 2), "{looks} in {:?}", began.elapsed());
}

#[test]
fn a_text_that_no_node_ever_made_is_refused_without_a_question() {
    let (store, one, _) = two_nodes();
    store.break_down();
    for wrong in ["", "secret", "tg_bootstrap_0", "tg_0123456789abcdef_", &format!("tg_{}_{}", "G".repeat(16), "0".repeat(40))] {
        let began = one.ring();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without timers");
        assert_eq!(runtime.block_on(began.find(wrong.as_bytes())).err(), Some(Denied::Unknown), "{wrong:?}");
    }
}

#[test]
fn keys_that_are_known_are_let_in_while_the_store_is_down() {
    let (store, one, _) = two_nodes();
    let made = make_key(&one, DEFAULT_ACCOUNT, Scope::Read);
    store.break_down();
    assert!(find(&one, &made.text).is_ok());
    assert!(matches!(one.create(&operator(&one), "acme", IdentityMode::UniqueId), Err(Error::Store(_))));
}

#[test]
fn of_nodes_that_start_at_once_one_makes_the_first_key() {
    let store = Arc::new(MemoryStore::of_many());
    let keys: Vec<AdminKey> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| Accounts::open(store.clone(), &DefaultAccount::default(), Clock::start()).expect("opens").1))
            .collect();
        starts.into_iter().map(|start| start.join().expect("no panic")).collect()
    });
    let made: Vec<_> = keys.iter().filter_map(|key| if let AdminKey::Made(text) = key { Some(text) } else { None }).collect();
    assert_eq!((made.len(), keys.iter().filter(|key| **key == AdminKey::Kept).count()), (1, 3));
    assert!(node_without_key(&store).ring().caller(made[0].as_bytes()).is_ok());
}

fn node_without_key(store: &Arc<MemoryStore>) -> Accounts {
    Accounts::open(store.clone(), &DefaultAccount::default(), Clock::start()).expect("opens").0
}

#[test]
fn entries_of_several_nodes_stand_in_one_ring_without_gaps() {
    let (store, one, _) = two_nodes();
    let by = operator(&one);
    let audits = [0, 1].map(|_| Audit::new(store.clone(), Clock::start()));
    let note = |audit: &Audit, object: &str| {
        let begun = audit.begin(&by, None, "POST /v1/keys").expect("memory");
        audit.finish(begun, Outcome { status: 201, object: Some(object.into()), account: None }).expect("memory");
    };
    let numbers = |audit: &Audit| -> Vec<u64> { audit.page(1, None, 100).expect("memory").0.iter().map(|entry| entry.number).collect() };
    // One falls behind by less and by more than a whole ring, and goes on where the other one is.
    let mut all = 0;
    for entries in [1, 2, 3, ENTRIES_MAX - 1, ENTRIES_MAX, ENTRIES_MAX + 1, 3 * ENTRIES_MAX] {
        for _ in 0..entries {
            note(&audits[0], "by the first");
        }
        note(&audits[1], "by the second");
        all += entries + 1;
        let expected: Vec<u64> = (all.saturating_sub(ENTRIES_MAX)..all).rev().collect();
        assert_eq!((numbers(&audits[0]), numbers(&audits[1])), (expected.clone(), expected));
    }
}

#[test]
fn entries_of_nodes_that_write_at_once_are_all_kept() {
    let (one, other) = two_stores();
    let by = operator(&node(Arc::new(MemoryStore::default())));
    let audits = [one, other].map(|store| Audit::new(Arc::new(store), Clock::start()));
    let written: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = audits
            .iter()
            .map(|audit| {
                scope.spawn(|| (0..ENTRIES_MAX / 2).map(|_| audit.begin(&by, None, "at once").expect("writes").number).collect::<Vec<_>>())
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect()
    });
    let kept: Vec<u64> = audits[0].page(1, None, 100).expect("reads").0.iter().map(|entry| entry.number).rev().collect();
    assert_eq!(kept, (0..written.len() as u64).collect::<Vec<_>>());
}
