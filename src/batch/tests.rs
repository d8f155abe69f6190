use std::sync::Mutex;

use super::*;
use crate::clock::UnixMillis;
use crate::log::{Place, Position};

/// Appends when it is told to, with the result that it is told.
struct Gated(Receiver<Result<(), Error>>);

impl Appender for Gated {
    fn append(&mut self, group: &mut Vec<Append>, answers: &Answers) {
        let result = self.0.recv().expect("the test says what happens").map(|()| Positions::NONE);
        let answer = |append: Append| Answer {
            to: append.done,
            records: append.block.count(),
            fingerprints: append.block.fingerprints().to_vec(),
            result: result.clone(),
        };
        answers.give(group.drain(..).map(answer).collect());
    }

    fn close(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// What was told: whether it is durable, how many records, what was noted of them.
#[derive(Default)]
struct Told(Mutex<Vec<(bool, u64, Vec<Fingerprint>)>>);

impl Settle for Told {
    fn settle(&self, became: Result<(), &BatchError>, records: u64, noted: &[Fingerprint]) {
        self.0.lock().expect("no panic").push((became.is_ok(), records, noted.to_vec()));
    }
}

impl Told {
    fn taken(&self) -> Vec<(bool, u64, Vec<Fingerprint>)> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

fn block(identity: u64) -> (Block, Fingerprint) {
    let mut block = Block::new(UnixMillis(1), 0);
    let noted = Fingerprint { identity, rest: 1 };
    block.push(|to| to.push(0));
    block.note(noted);
    (block.seal(), noted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_noted_is_told_once_it_is_durable_and_before_anybody_hears_of_it() {
    let (gate, gated) = bounded(0);
    let told = Arc::new(Told::default());
    let (batcher, _thread) = Batcher::start("test", Gated(gated), &Handle::current(), 1, told.clone()).expect("a thread");

    let (first, noted) = block(1);
    let mut waiting = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.append(first, None).await }
    });
    assert!(looked_at_once(&mut waiting).await.is_none());
    assert!(told.taken().is_empty(), "nothing is known of what is under way");
    gate.send(Ok(())).expect("the appender waits");
    waiting.await.expect("no panic").expect("durable");
    assert_eq!(told.taken(), [(true, 1, vec![noted])]);

    // Nobody waits for this one any more.
    let (second, noted) = block(2);
    let mut hung_up = Box::pin(batcher.append(second, None));
    assert!(looked_at_once(&mut hung_up).await.is_none());
    drop(hung_up);
    gate.send(Ok(())).expect("the appender waits");
    let (third, _) = block(3);
    let mut failing = Box::pin(batcher.append(third, None));
    assert!(looked_at_once(&mut failing).await.is_none());
    gate.send(Err(Error::Closed("a test".into()))).expect("the appender waits");
    failing.await.expect_err("it failed");
    assert_eq!(told.taken(), [(true, 1, vec![noted]), (false, 1, vec![])], "of what failed nothing is noted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_held_is_given_back_when_the_append_has_ended_also_when_its_sender_has_hung_up() {
    let (gate, gated) = bounded(0);
    let (batcher, _thread) = Batcher::start("test", Gated(gated), &Handle::current(), 3, Arc::new(())).expect("a thread");
    for result in [Ok(()), Err(Error::Full)] {
        let room = Arc::new(());
        let mut hung_up = Box::pin(batcher.append(block(1).0, Some(room.clone())));
        assert!(looked_at_once(&mut hung_up).await.is_none());
        drop(hung_up);
        assert_eq!(Arc::strong_count(&room), 2, "its bytes are there still");
        gate.send(result).expect("the appender waits");
        // What comes behind it in the line ends after it.
        let mut next = Box::pin(batcher.append(block(2).0, Some(room.clone())));
        assert!(looked_at_once(&mut next).await.is_none());
        gate.send(Ok(())).expect("the appender waits");
        next.await.expect("durable");
        assert_eq!(Arc::strong_count(&room), 1);
    }
}

/// What a future has after one look at it.
async fn looked_at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// Hands its appends on to the test, which answers them.
struct Later(Sender<(Vec<Append>, Answers)>);

impl Appender for Later {
    fn append(&mut self, group: &mut Vec<Append>, answers: &Answers) {
        self.0.send((std::mem::take(group), answers.clone())).expect("the test waits");
    }

    fn close(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_append_has_its_own_outcome_whenever_it_is_known() {
    let (appended, appends) = bounded(1);
    let told = Arc::new(Told::default());
    let (batcher, _thread) = Batcher::start("test", Later(appended), &Handle::current(), 1, told.clone()).expect("a thread");
    let mut waiting = Vec::new();
    let mut under_way = Vec::new();
    for identity in 1..=3 {
        let batcher = batcher.clone();
        waiting.push(tokio::spawn(async move { batcher.append(block(identity).0, None).await }));
        under_way.push(appends.recv().expect("the appender goes on while nobody was answered"));
    }
    let result = |answer: &Append| match answer.block.fingerprints()[0].identity {
        1 => Ok(Positions::Each(vec![Place { partition: 3, position: Some(Position(7)) }])),
        2 => Err(Error::Unconfirmed("a test".into())),
        _ => Err(Error::Unavailable("a test".into())),
    };
    // All of them at once, the last one first.
    let mut given = Vec::new();
    let answers = under_way[0].1.clone();
    for (group, _) in under_way.into_iter().rev() {
        for append in group {
            let result = result(&append);
            given.push(Answer { records: 1, fingerprints: append.block.fingerprints().to_vec(), to: append.done, result });
        }
    }
    std::thread::spawn(move || answers.give(given)).join().expect("no panic");
    let mut outcomes = Vec::new();
    for one in waiting {
        outcomes.push(one.await.expect("no panic").map_err(|error| error.is_refusal()));
    }
    let place = Place { partition: 3, position: Some(Position(7)) };
    assert_eq!(outcomes, [Ok(Positions::Each(vec![place])), Err(false), Err(true)]);
    assert_eq!(told.taken(), [(false, 1, vec![]), (false, 1, vec![]), (true, 1, vec![block(1).1])]);
}
