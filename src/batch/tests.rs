use std::sync::Mutex;

use super::*;
use crate::clock::UnixMillis;

/// Appends when it is told to, with the result that it is told.
struct Gated(Receiver<Result<(), Error>>);

impl Appender for Gated {
    fn append(&mut self, group: &mut Vec<Append>) -> Vec<Answer> {
        let result = self.0.recv().expect("the test says what happens").map(|()| Position(0)..Position(1));
        let answer = |append: Append| Answer {
            to: append.done,
            records: append.block.count(),
            fingerprints: append.block.fingerprints().to_vec(),
            result: result.clone(),
        };
        group.drain(..).map(answer).collect()
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
    let (batcher, _thread) = Batcher::start("test", Gated(gated), &Handle::current(), told.clone()).expect("a thread");

    let (first, noted) = block(1);
    let mut waiting = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.append(first).await }
    });
    assert!(looked_at_once(&mut waiting).await.is_none());
    assert!(told.taken().is_empty(), "nothing is known of what is under way");
    gate.send(Ok(())).expect("the appender waits");
    waiting.await.expect("no panic").expect("durable");
    assert_eq!(told.taken(), [(true, 1, vec![noted])]);

    // Nobody waits for this one any more.
    let (second, noted) = block(2);
    let mut hung_up = Box::pin(batcher.append(second));
    assert!(looked_at_once(&mut hung_up).await.is_none());
    drop(hung_up);
    gate.send(Ok(())).expect("the appender waits");
    let (third, _) = block(3);
    let mut failing = Box::pin(batcher.append(third));
    assert!(looked_at_once(&mut failing).await.is_none());
    gate.send(Err(Error::Closed("a test".into()))).expect("the appender waits");
    failing.await.expect_err("it failed");
    assert_eq!(told.taken(), [(true, 1, vec![noted]), (false, 1, vec![])], "of what failed nothing is noted");
}

/// What a future has after one look at it.
async fn looked_at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
