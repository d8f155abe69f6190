//! Questions that are shared. What only a Kafka and a PostgreSQL can show is in `tests/it/`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use futures_util::future::join_all;

use super::asking::Asking;
use crate::log::Position;

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_come_during_a_question_share_the_next_one_and_none_is_answered_by_one_begun_before_it_came() {
    let (begun, begins) = bounded(1);
    let (leave, left) = bounded::<()>(1);
    let mut number = 0;
    let ask = move || {
        number += 1;
        begun.send(number).expect("the test listens");
        left.recv().expect("the test gives leave");
        Ok(vec![Position(number)])
    };
    let asking = Arc::new(Asking::start(ask).expect("starts"));
    let came = Arc::new(AtomicU64::new(0));
    let query = || {
        let (asking, came) = (asking.clone(), came.clone());
        tokio::spawn(async move {
            let asked = asking.ask();
            came.fetch_add(1, Ordering::SeqCst);
            asked.await.expect("an answer")[0].0
        })
    };
    let first = query();
    let begins_next = || begins.recv_timeout(Duration::from_secs(60)).expect("begins");
    assert_eq!(begins_next(), 1);
    let others: Vec<_> = (0..100).map(|_| query()).collect();
    while came.load(Ordering::SeqCst) < 101 {
        tokio::task::yield_now().await;
    }
    leave.send(()).expect("it listens");
    assert_eq!(first.await.expect("no panic"), 1);
    assert_eq!(begins_next(), 2);
    leave.send(()).expect("it listens");
    for answer in join_all(others).await {
        assert_eq!(answer.expect("no panic"), 2);
    }
    drop(asking);
    assert!(begins.recv().is_err(), "nobody asks for nothing");
}

#[tokio::test]
async fn an_error_is_told_to_all_who_wait_for_the_answer() {
    let asking = Asking::start(|| Err("no answer".to_owned())).expect("starts");
    for answer in join_all((0..3).map(|_| asking.ask())).await {
        assert_eq!(answer, Err("no answer".to_owned()));
    }
}
