use serde_json::json;

use super::*;
use crate::clock::{Clock, UnixMicros};
use crate::customers::{CustomerId, Customers, Mapping};
use crate::meters::{Extensions, Meters, Said};
use crate::store::memory::MemoryStore;
use crate::usage::MeterType;

struct World {
    store: Arc<MemoryStore>,
    definitions: Arc<Definitions>,
    meters: Meters,
    customers: Customers,
}

fn world(store: MemoryStore) -> World {
    let store = Arc::new(store);
    node(&store)
}

/// A node with this store.
fn node(store: &Arc<MemoryStore>) -> World {
    let definitions = Arc::new(Definitions::open(store.clone()).expect("memory"));
    let meters = Meters::new(store.clone(), Clock::start()).heard_by(definitions.clone());
    let customers = Customers::new(store.clone(), Clock::start()).heard_by(definitions.clone());
    World { store: store.clone(), definitions, meters, customers }
}

fn said() -> Said {
    Said { display_name: "M".into(), label: "m".into(), meter_type: MeterType::SumOfAllUsage, dimensions: vec![] }
}

fn octane(event_name: &str) -> Extensions {
    Extensions { octane: json!({"event_name": event_name}).as_object().cloned().unwrap_or_default(), ..Extensions::default() }
}

fn id(text: &str) -> CustomerId {
    CustomerId::parse(text).expect("a good id")
}

impl World {
    async fn of(&self, account: u32) -> Arc<AccountDefinitions> {
        self.definitions.of(account).await.expect("memory")
    }

    async fn counting(&self, account: u32, event: &str) -> Vec<String> {
        let meters = self.of(account).await.meters().events.get(event).cloned();
        meters.iter().flat_map(|meters| meters.iter()).map(ToString::to_string).collect()
    }

    async fn owner(&self, account: u32, user: &str) -> Option<String> {
        self.of(account).await.mappings().customer(&[("user", user)]).map(|id| id.as_str().to_owned())
    }

    fn map(&self, account: u32, customer: &str, user: &str) {
        let mapping = Mapping { label: "user".into(), value_regex: Some(user.into()) };
        let edit = |customer: &mut crate::customers::Customer| {
            customer.created_at = UnixMicros(1);
            customer.mappings = vec![mapping.clone()];
        };
        self.customers.put_record(account, &id(customer), edit).expect("memory");
    }
}

#[tokio::test]
async fn a_change_holds_from_its_answer_on_whether_the_account_was_asked_for_before_or_not() {
    for ask_before in [false, true] {
        let world = world(MemoryStore::default());
        if ask_before {
            assert!(world.counting(1, "call").await.is_empty() && world.owner(1, "u-1").await.is_none());
        }
        // Definitions go up to METERS_MAX, which is small in tests.
        world.meters.create(1, "b", said(), octane("call")).expect("is made");
        world.meters.create(1, "a", said(), octane("call")).expect("is made");
        world.map(1, "acme", "u-1");
        assert_eq!(world.counting(1, "call").await, ["a", "b"]);
        assert!(world.counting(2, "call").await.is_empty(), "another account's");
        assert_eq!(world.owner(1, "u-1").await.as_deref(), Some("acme"));
        world.meters.change(1, "a", crate::dialect::octane::meters::archive).expect("is there");
        assert_eq!(world.counting(1, "call").await, ["b"], "what is archived takes nothing more");
        world.meters.create(1, "call", said(), Extensions::default()).expect("is made");
        assert_eq!(world.counting(1, "call").await, ["b", "call"], "its name is what it counts");
        world.meters.remove(1, "b").expect("is there");
        assert!(world.counting(1, "call").await.is_empty(), "only the meter of this name is left, which needs no look-up");
        world.map(1, "acme", "u-2");
        assert_eq!((world.owner(1, "u-1").await, world.owner(1, "u-2").await.as_deref()), (None, Some("acme")));
        world.customers.remove(1, &id("acme")).expect("is there");
        assert_eq!(world.owner(1, "u-2").await, None);
    }
}

#[tokio::test]
async fn a_plan_follows_its_definitions() {
    let world = world(MemoryStore::default());
    let define = |kind: &str| Extensions {
        openmeter: json!({"eventType": kind, "aggregation": "COUNT"}).as_object().cloned().unwrap_or_default(),
        ..Extensions::default()
    };
    let planned = async |kind: &str| world.of(1).await.meters().plans.contains_key(kind);
    assert!(!planned("llm").await);
    world.meters.create(1, "tokens", said(), define("llm")).expect("is made");
    assert!(planned("llm").await && !planned("tokens").await);
    world.meters.change(1, "tokens", |meter| meter.ext = define("other")).expect("is there");
    assert!(!planned("llm").await && planned("other").await);
    world.meters.remove(1, "tokens").expect("is there");
    assert!(!planned("other").await);
}

#[tokio::test]
async fn what_is_known_holds_while_the_store_is_away_and_what_is_not_is_an_error() {
    let world = world(MemoryStore::default());
    world.map(1, "acme", "u-1");
    assert_eq!(world.owner(1, "u-1").await.as_deref(), Some("acme"));
    world.store.break_down();
    assert_eq!(world.owner(1, "u-1").await.as_deref(), Some("acme"));
    assert!(world.definitions.of(2).await.is_err(), "nobody knows what is defined there");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_hear_of_changes() {
    let one = world(MemoryStore::of_many());
    let other = node(&one.store);
    assert!(other.counting(1, "call").await.is_empty() && other.owner(1, "u-1").await.is_none());
    let made = tokio::task::spawn_blocking({
        let (meters, store) = (Meters::new(one.store.clone(), Clock::start()).heard_by(one.definitions.clone()), one.store.clone());
        move || (meters.create(1, "a", said(), octane("call")).expect("is made"), store)
    });
    made.await.expect("ends");
    assert_eq!(other.counting(1, "call").await, ["a"], "the answer has waited for it");
    one.map(1, "acme", "u-1");
    assert!(other.definitions.look().await);
    assert_eq!(other.owner(1, "u-1").await.as_deref(), Some("acme"));
    // Also of one that no event had been sent of when it was changed.
    let third = node(&one.store);
    assert_eq!((third.counting(1, "call").await, third.owner(1, "u-1").await.as_deref()), (vec!["a".to_owned()], Some("acme")));
}
