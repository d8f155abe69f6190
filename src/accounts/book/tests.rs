//! Who may change what, and what holds afterwards.

use super::*;
use crate::accounts::{AdminKey, DEFAULT_ACCOUNT, DefaultAccount, Rate};
use crate::store::memory::MemoryStore;

struct World {
    store: Arc<MemoryStore>,
    accounts: Accounts,
    operator: Caller,
}

impl World {
    fn new() -> Self {
        let store: Arc<MemoryStore> = Arc::default();
        let (accounts, _) = open(&store);
        let operator = accounts.ring().caller(b"operator").expect("is known");
        Self { store, accounts, operator }
    }

    fn account(&self, name: &str) -> u32 {
        self.accounts.create(&self.operator, name, IdentityMode::UniqueId).expect("a free name").number
    }

    fn key(&self, account: u32, scope: Scope) -> (Caller, MadeKey) {
        let made = self.accounts.create_key(&self.operator, account, with(scope)).expect("is made");
        (self.accounts.ring().caller(made.text.as_bytes()).expect("usable at once"), made)
    }

    fn lets_in(&self, made: &MadeKey) -> Result<(), Denied> {
        self.accounts.ring().caller(made.text.as_bytes()).map(drop)
    }
}

fn open(store: &Arc<MemoryStore>) -> (Accounts, AdminKey) {
    Accounts::open(store.clone(), &DefaultAccount { admin_key: Some("operator"), identity: None }, Clock::start()).expect("opens")
}

fn with(scope: Scope) -> NewKey {
    NewKey { scopes: vec![scope], ..NewKey::default() }
}

#[test]
fn a_key_does_what_its_scopes_say_and_no_more() {
    let world = World::new();
    let account = world.account("acme");
    for (scope, may) in [
        (Scope::Ingest, [true, false, false, false]),
        (Scope::Read, [false, true, false, false]),
        (Scope::Admin, [true, true, true, false]),
    ] {
        let (caller, _) = world.key(account, scope);
        assert_eq!(Scope::ALL.map(|scope| caller.may(scope)), may, "{scope:?}");
    }
    let (operator, _) = world.key(DEFAULT_ACCOUNT, Scope::Operator);
    assert_eq!(Scope::ALL.map(|scope| operator.may(scope)), [false, false, false, true], "an operator sees no account's data with it");
}

#[test]
fn an_admin_reaches_the_keys_of_its_account_only() {
    let world = World::new();
    let (acme, globex) = (world.account("acme"), world.account("globex"));
    let (admin, _) = world.key(acme, Scope::Admin);
    let (_, foreign) = world.key(globex, Scope::Ingest);
    assert_eq!(world.accounts.of(&admin, None).expect("its own").number, acme);
    assert_eq!(world.accounts.of(&admin, Some("acme")).expect("its own").number, acme);
    for name in ["globex", "default", "nobody", ""] {
        assert!(matches!(world.accounts.of(&admin, Some(name)), Err(Error::NotOperator)), "{name:?}: no more is said");
    }
    assert!(matches!(world.accounts.revoke_key(&admin, &foreign.key.id), Err(Error::UnknownKey)));
    assert!(matches!(world.accounts.revoke_key(&admin, "bootstrap"), Err(Error::UnknownKey)));
    assert!(matches!(world.accounts.create(&admin, "mine", IdentityMode::UniqueId), Err(Error::NotOperator)));
    assert!(matches!(world.accounts.disable(&admin, "globex"), Err(Error::NotOperator)));
    assert!(matches!(world.accounts.disable(&admin, "acme"), Err(Error::NotOperator)));
    assert!(matches!(world.accounts.list(&admin, None, 10), Err(Error::NotOperator)));
    assert_eq!(world.lets_in(&foreign), Ok(()));
    assert!(matches!(world.accounts.of(&world.operator, Some("nobody")), Err(Error::UnknownAccount)));
}

#[test]
fn only_operators_make_and_revoke_operators_and_never_the_last_one() {
    let world = World::new();
    let (admin, _) = world.key(DEFAULT_ACCOUNT, Scope::Admin);
    let acme = world.account("acme");
    let make = |by, account| world.accounts.create_key(by, account, with(Scope::Operator)).map(|made| made.key.id);
    assert!(matches!(make(&admin, DEFAULT_ACCOUNT), Err(Error::NotOperator)));
    assert!(matches!(make(&world.operator, acme), Err(Error::OperatorElsewhere)));
    assert!(matches!(world.accounts.revoke_key(&admin, "bootstrap"), Err(Error::NotOperator)));
    assert!(matches!(world.accounts.revoke_key(&world.operator, "bootstrap"), Err(Error::LastOperator)));
    let second = make(&world.operator, DEFAULT_ACCOUNT).expect("an operator makes another");
    world.accounts.revoke_key(&world.operator, &second).expect("one is left");
    assert!(matches!(world.accounts.revoke_key(&world.operator, "bootstrap"), Err(Error::LastOperator)), "revoked ones do not count");
    make(&world.operator, DEFAULT_ACCOUNT).expect("an operator makes another");
    world.accounts.revoke_key(&world.operator, "bootstrap").expect("one is left");
    assert!(matches!(make(&world.operator, DEFAULT_ACCOUNT), Err(Error::Denied(Denied::Unknown))), "who was let in before is out, too");
}

#[test]
fn a_revoked_key_is_out_also_where_it_was_let_in_before() {
    let world = World::new();
    let (caller, made) = world.key(DEFAULT_ACCOUNT, Scope::Admin);
    assert_eq!(caller.check(), Ok(()));
    let revoked = world.accounts.revoke_key(&world.operator, &made.key.id).expect("revoked");
    assert!(revoked.revoked_at.is_some());
    assert_eq!((caller.check(), world.lets_in(&made)), (Err(Denied::Unknown), Err(Denied::Unknown)));
    assert!(matches!(world.accounts.create_key(&caller, DEFAULT_ACCOUNT, with(Scope::Read)), Err(Error::Denied(_))));
    let again = world.accounts.revoke_key(&world.operator, &made.key.id).expect("revoked already");
    assert_eq!(again, revoked);
    let (accounts, _) = open(&world.store);
    assert!(accounts.ring().caller(made.text.as_bytes()).is_err(), "nor after a restart");
    assert!(accounts.keys(DEFAULT_ACCOUNT).expect("a list").contains(&revoked));
}

#[test]
fn of_a_disabled_account_no_key_is_let_in_and_the_others_are() {
    let world = World::new();
    let (acme, globex) = (world.account("acme"), world.account("globex"));
    let (caller, made) = world.key(acme, Scope::Ingest);
    let (_, other) = world.key(globex, Scope::Ingest);
    world.accounts.disable(&world.operator, "acme").expect("disabled");
    assert_eq!((caller.check(), world.lets_in(&made)), (Err(Denied::Disabled), Err(Denied::Disabled)));
    assert_eq!(world.lets_in(&other), Ok(()));
    let make = world.accounts.create_key(&world.operator, acme, with(Scope::Ingest));
    assert!(matches!(make, Err(Error::AccountDisabled)));
    let once = world.accounts.of(&world.operator, Some("acme")).expect("still there");
    assert_eq!(world.accounts.disable(&world.operator, "acme").expect("disabled already"), once);
    assert!(matches!(world.accounts.disable(&world.operator, "default"), Err(Error::DefaultStays)));
    let (accounts, _) = open(&world.store);
    assert_eq!(accounts.ring().caller(made.text.as_bytes()).err(), Some(Denied::Disabled));
}

#[test]
fn numbers_of_accounts_and_names_are_given_out_once() {
    let world = World::new();
    assert_eq!((world.account("b"), world.account("a")), (2, 3));
    assert!(matches!(world.accounts.create(&world.operator, "a", IdentityMode::UniqueId), Err(Error::Exists)));
    world.accounts.disable(&world.operator, "a").expect("disabled");
    assert!(matches!(world.accounts.create(&world.operator, "a", IdentityMode::UniqueId), Err(Error::Exists)), "disabled, not gone");
    let (accounts, _) = open(&world.store);
    let made = accounts.create(&world.operator, "c", IdentityMode::AllAttributes).expect("a free name");
    assert_eq!((made.number, made.identity), (4, IdentityMode::AllAttributes));
    let names = |after, limit| {
        accounts.list(&world.operator, after, limit).expect("a list").into_iter().map(|account| account.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 10), ["a", "b", "c", "default"]);
    assert_eq!(names(Some("a"), 2), ["b", "c"]);
}

#[test]
fn accounts_and_keys_have_an_end_and_revoked_keys_are_forgotten() {
    let world = World::new();
    for at in 1..ACCOUNTS_MAX {
        world.account(&format!("a-{at}"));
    }
    assert!(matches!(world.accounts.create(&world.operator, "more", IdentityMode::UniqueId), Err(Error::TooManyAccounts)));
    for _ in 0..KEYS_MAX {
        world.key(2, Scope::Read);
    }
    assert!(matches!(world.accounts.create_key(&world.operator, 2, with(Scope::Read)), Err(Error::TooManyKeys)));
    for _ in 0..3 * KEYS_MAX {
        let keys = world.accounts.keys(2).expect("a list");
        let one = keys.iter().find(|key| key.revoked_at.is_none()).expect("there are some");
        world.accounts.revoke_key(&world.operator, &one.id).expect("revoked");
        world.key(2, Scope::Read);
    }
    assert_eq!(world.accounts.keys(2).expect("a list").len(), KEYS_MAX + REVOKED_MAX);
    let stored = world.store.documents(Kind::Key, 0).expect("memory").len();
    assert_eq!(stored, 1 + KEYS_MAX + REVOKED_MAX, "the bootstrap key is there, too");
}

#[test]
fn a_rate_stays_used_up_when_other_keys_change() {
    let world = World::new();
    let limit = RateLimit { requests: Some(Rate { per_second: 1, burst: 1 }), events: None };
    let new = NewKey { scopes: vec![Scope::Ingest], limit, ..NewKey::default() };
    let made = world.accounts.create_key(&world.operator, DEFAULT_ACCOUNT, new).expect("is made");
    let take = || world.accounts.ring().caller(made.text.as_bytes()).expect("is known").take_request();
    assert!(take().is_ok());
    let (_, other) = world.key(DEFAULT_ACCOUNT, Scope::Read);
    world.accounts.revoke_key(&world.operator, &other.key.id).expect("revoked");
    assert!(take().is_err());
}

#[test]
fn a_store_that_fails_changes_nobody_s_rights() {
    let world = World::new();
    let (_, made) = world.key(DEFAULT_ACCOUNT, Scope::Admin);
    world.store.break_down();
    assert!(matches!(world.accounts.create(&world.operator, "acme", IdentityMode::UniqueId), Err(Error::Store(_))));
    assert!(matches!(world.accounts.create_key(&world.operator, DEFAULT_ACCOUNT, with(Scope::Read)), Err(Error::Store(_))));
    assert!(matches!(world.accounts.revoke_key(&world.operator, &made.key.id), Err(Error::Store(_))));
    assert_eq!(world.lets_in(&made), Ok(()));
    assert!(world.accounts.list(&world.operator, None, 10).expect("a list").iter().all(|account| account.name == "default"));
}

#[test]
fn names_are_plain() {
    for name in ["a", "acme-7", "a_b.c", "0", &"x".repeat(64)] {
        assert!(is_account_name(name), "{name}");
    }
    for name in ["", "-a", "a-", "A", "a b", "a/b", "é", "a\0", &"x".repeat(65)] {
        assert!(!is_account_name(name), "{name:?}");
    }
    assert!(is_key_name("the biller's, café") && is_key_name(&"x".repeat(128)));
    assert!(!is_key_name("") && !is_key_name("a\nb") && !is_key_name(&"x".repeat(129)));
    assert!(is_key_id("bootstrap") && is_key_id("0123456789abcdef"));
    assert!(!is_key_id("tg_0123456789abcdef_00") && !is_key_id("0123456789ABCDEF") && !is_key_id(""));
}
