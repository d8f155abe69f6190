use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proptest::collection::vec;
use proptest::prelude::*;

use super::line::WAITERS_OF_A_KEY_MAX;
use super::*;

const WAIT: Duration = Duration::from_secs(10);

fn budget(limit: usize) -> Budget {
    Budget::new(RoomKind::Ingest, limit, WAIT)
}

fn shares<const N: usize>() -> [Arc<Share>; N] {
    std::array::from_fn(|_| Arc::default())
}

type Reserving<'b> = Pin<Box<dyn Future<Output = Result<Room, NoRoom>> + 'b>>;

/// A request that has asked for room, and what it has got so far.
fn asked<'b>(budget: &'b Budget, share: &'b Arc<Share>, bytes: usize) -> (Reserving<'b>, Option<Room>) {
    let mut reserving: Reserving = Box::pin(budget.reserve(share, bytes));
    let room = got(&mut reserving);
    (reserving, room)
}

fn got(reserving: &mut Reserving) -> Option<Room> {
    match reserving.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(room) => Some(room.expect("room")),
        Poll::Pending => None,
    }
}

/// A request that has to wait.
fn waits<'b>(budget: &'b Budget, share: &'b Arc<Share>, bytes: usize) -> Reserving<'b> {
    let (reserving, room) = asked(budget, share, bytes);
    assert!(room.is_none(), "there is no room");
    reserving
}

/// All of it is free and nobody waits.
fn expect_untouched(budget: &Budget, shares: &[Arc<Share>]) {
    assert_eq!((budget.taken(), budget.waiting()), (0, 0));
    assert_eq!(budget.0.word.load(Ordering::Acquire), budget.0.limit as u64, "nobody is said to wait");
    assert!(shares.iter().all(|share| share.held() == 0));
}

/// Somebody waits whose turn it is, for room that is there.
fn is_stuck(budget: &Budget) -> bool {
    let mut is_stuck = false;
    let free = budget.0.limit - budget.taken();
    let next = budget.0.line().next(budget.0.share_max, |bytes| {
        is_stuck = bytes <= free;
        false
    });
    assert!(next.is_none(), "nothing was taken");
    is_stuck
}

#[tokio::test(start_paused = true)]
async fn room_is_given_back_and_nobody_waits_for_ever() {
    let (budget, [key]) = (budget(100_000), shares());
    let mut first = budget.reserve(&key, 60_000).await.expect("room");
    let began = Instant::now();
    assert_eq!(budget.reserve(&key, 60_000).await.err(), Some(NoRoom::Late));
    assert_eq!(began.elapsed().as_secs(), WAIT.as_secs());
    assert_eq!(first.grow_to(120_000), Ok(()), "never more than there is in all");
    first.shrink_to(10);
    assert_eq!(budget.taken(), ROOM_BYTES_MIN);
    let second = budget.reserve(&key, 60_000).await.expect("room");
    assert_eq!(first.grow_to(50_000), Err(NoRoom::Growing));
    drop((first, second));
    expect_untouched(&budget, &[key]);
}

#[tokio::test(start_paused = true)]
async fn who_holds_least_is_next_however_many_of_others_wait() {
    let (budget, [flood, light]) = (budget(100_000), shares());
    let mut held: Vec<_> = (0..7).map(|_| asked(&budget, &flood, 10_000).1.expect("room")).collect();
    let mut flooding: Vec<_> = (0..1_000).map(|_| waits(&budget, &flood, 10_000)).collect();
    // There is room for others still, since one key cannot have all of it.
    let mut light_one = Box::pin(budget.reserve(&light, 30_000)) as Reserving;
    let light_room = got(&mut light_one).expect("room");
    let mut light_two = waits(&budget, &light, 10_000);
    drop(light_room);
    let light_room = got(&mut light_two).expect("its own room is enough");
    drop(held.pop());
    let served = flooding.iter_mut().filter_map(got).collect::<Vec<_>>();
    assert_eq!(served.len(), 1, "up to three quarters of it, and no more");
    drop((served, light_room, held));
    assert_eq!(flooding.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn keys_get_the_same_whatever_the_size_of_their_requests() {
    let (budget, keys) = (budget(1_000_000), shares::<3>());
    let sizes = [5_000, 20_000, 100_000];
    let full = budget.reserve(&Arc::default(), 1_000_000).await.expect("room");
    let mut waiting: Vec<_> = keys
        .iter()
        .zip(sizes)
        .flat_map(|(key, bytes)| (0..300).map(move |_| (key, bytes)))
        .map(|(key, bytes)| waits(&budget, key, bytes))
        .collect();
    drop(full);
    let rooms: Vec<_> = waiting.iter_mut().filter_map(got).collect();
    let held: Vec<_> = keys.iter().map(|key| key.held()).collect();
    let (most, least) = (held.iter().max().expect("keys"), held.iter().min().expect("keys"));
    assert!(most - least <= 100_000, "no more than a request apart: {held:?}");
    drop((rooms, waiting));
    expect_untouched(&budget, &keys);
}

#[tokio::test(start_paused = true)]
async fn a_key_leaves_a_quarter_to_others_but_one_request_may_have_any_size() {
    let (budget, [flood, other]) = (budget(100_000), shares());
    let rooms: Vec<_> = (0..7).map(|_| asked(&budget, &flood, 10_000).1.expect("room")).collect();
    let over = waits(&budget, &flood, 10_000);
    let beside = budget.reserve(&other, 20_000).await.expect("room, though somebody waits");
    drop((rooms, over, beside));
    let whole = budget.reserve(&flood, 1_000_000).await.expect("room");
    assert_eq!(budget.taken(), 100_000);
    drop(whole);
    expect_untouched(&budget, &[flood, other]);
}

#[tokio::test(start_paused = true)]
async fn a_large_request_is_waited_for_and_lets_others_in_when_it_leaves() {
    let (budget, [one, two]) = (budget(100_000), shares());
    let small = budget.reserve(&one, 30_000).await.expect("room");
    let mut large = waits(&budget, &two, 90_000);
    let mut behind = waits(&budget, &one, 10_000);
    assert!(got(&mut behind).is_none(), "or the large one would never get in");
    drop(large);
    assert!(got(&mut behind).is_some());
    large = waits(&budget, &two, 90_000);
    drop((small, behind));
    assert!(got(&mut large).is_some());
    drop(large);
    expect_untouched(&budget, &[one, two]);
}

#[tokio::test(start_paused = true)]
async fn room_that_is_granted_to_who_has_hung_up_is_not_lost() {
    let (budget, [one, two]) = (budget(100_000), shares());
    let full = budget.reserve(&one, 100_000).await.expect("room");
    let (granted, mut next) = (waits(&budget, &two, 90_000), waits(&budget, &two, 90_000));
    drop(full);
    assert_eq!(two.held(), 90_000, "granted, and nobody has looked yet");
    drop(granted);
    assert!(got(&mut next).is_some());
    drop(next);
    expect_untouched(&budget, &[one, two]);
}

#[tokio::test(start_paused = true)]
async fn the_line_has_an_end_for_each_key() {
    let (budget, [flood, light]) = (budget(100_000), shares());
    let full = budget.reserve(&flood, 100_000).await.expect("room");
    let waiting: Vec<_> = (0..WAITERS_OF_A_KEY_MAX).map(|_| waits(&budget, &flood, 1)).collect();
    let began = Instant::now();
    assert_eq!(budget.reserve(&flood, 1).await.err(), Some(NoRoom::LineFull));
    assert!(began.elapsed().is_zero(), "at once");
    let mut other = waits(&budget, &light, 1);
    drop(full);
    assert!(got(&mut other).is_some());
    drop((waiting, other));
    expect_untouched(&budget, &[flood, light]);
}

/// What one request does.
#[derive(Debug, Clone)]
struct Script {
    begins_ms: u64,
    key: usize,
    bytes: usize,
    /// When it hangs up, from its begin on.
    patience_ms: u64,
    holds_ms: u64,
    /// What it makes of its room in the middle.
    then_bytes: usize,
}

fn script() -> impl Strategy<Value = Script> {
    let bytes = prop_oneof![8 => 0_usize..20_000, 1 => 0_usize..130_000];
    (0_u64..20_000, 0_usize..4, bytes, 0_u64..25_000, 0_u64..4_000, 0_usize..60_000).prop_map(
        |(begins_ms, key, bytes, patience_ms, holds_ms, then_bytes)| Script { begins_ms, key, bytes, patience_ms, holds_ms, then_bytes },
    )
}

async fn act(budget: Budget, share: Arc<Share>, script: Script) {
    tokio::time::sleep(Duration::from_millis(script.begins_ms)).await;
    let began = Instant::now();
    let room = tokio::select! {
        room = budget.reserve(&share, script.bytes) => room,
        () = tokio::time::sleep(Duration::from_millis(script.patience_ms)) => return,
    };
    assert!(!is_stuck(&budget));
    let mut room = match room {
        Ok(room) => room,
        Err(NoRoom::Late) => return assert_eq!(began.elapsed().as_secs(), WAIT.as_secs()),
        Err(other) => panic!("{other:?} is not expected"),
    };
    assert!(budget.taken() <= budget.0.limit);
    assert!(share.held() <= budget.0.share_max.max(room.bytes), "{} bytes are held", share.held());
    tokio::time::sleep(Duration::from_millis(script.holds_ms)).await;
    // Not past the key's part, so that what stands above stays true.
    if script.then_bytes < room.bytes || share.held() + script.then_bytes <= budget.0.share_max {
        let _has_grown = room.grow_to(script.then_bytes);
        room.shrink_to(script.then_bytes);
    }
    assert!(!is_stuck(&budget));
    tokio::time::sleep(Duration::from_millis(script.holds_ms)).await;
    drop(room);
    assert!(!is_stuck(&budget));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn in_any_order_of_coming_waiting_hanging_up_and_leaving_no_room_is_lost_and_nobody_waits_in_vain(scripts in vec(script(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let (budget, keys) = (budget(100_000), shares::<4>());
            let mut requests = tokio::task::JoinSet::new();
            for script in scripts {
                requests.spawn(act(budget.clone(), keys[script.key].clone(), script));
            }
            while let Some(ended) = requests.join_next().await {
                ended.expect("what is promised holds");
            }
            expect_untouched(&budget, &keys);
        });
    }
}

/// The same on several threads, where a wake-up that got lost would leave somebody waiting for a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_no_wake_up_gets_lost() {
    let budget = Budget::new(RoomKind::Ingest, 40_000, Duration::from_secs(60));
    let keys = shares::<5>();
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..40_u64 {
        let (budget, share) = (budget.clone(), keys[number as usize % keys.len()].clone());
        requests.spawn(async move {
            for turn in 0..1_000_u64 {
                let dice = (number * 1_000 + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let bytes = (dice % 15_000) as usize;
                if dice.is_multiple_of(3) {
                    // Hangs up about when its turn comes.
                    drop(timeout(Duration::from_micros(dice % 3_000), budget.reserve(&share, bytes)).await);
                } else {
                    let room = budget.reserve(&share, bytes).await.expect("room in a moment");
                    tokio::task::yield_now().await;
                    drop(room);
                }
            }
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended.expect("everybody is served");
    }
    expect_untouched(&budget, &keys);
}
