//! Letters brought again: their events take the way of every event, and the letters are marked with what came of it.
//!
//! A letter whose event is in the log is not brought again. Should the mark be lost between the two (the process is killed), the
//! event comes a second time, as a copy: by its uniqueId, or else by one that follows from the letter's place.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Error, Filter, Letter, Letters, State};
use crate::accounts::Caller;
use crate::event::{Code, Rejection};
use crate::gateway::form::{Sent, Shape};
use crate::gateway::letters::{Became, Refusal};
use crate::gateway::{Gateway, Replayed};
use crate::log::Position;

/// What came of one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Which one.
    pub letter: Position,
    /// What came of it: never [`Became::Deleted`].
    pub became: Became,
    /// Whether that was so before.
    pub was_done: bool,
}

/// What came of some letters.
#[derive(Debug)]
pub struct ReplayedPage {
    /// Newest first.
    pub replays: Vec<Replay>,
    /// Where to go on, as `before`; `None`: there are no more.
    pub next: Option<Position>,
}

impl Letters {
    /// Replays one letter of a key's account, with its event as it was sent or corrected; `None` if there is none.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn replay(
        self: &Arc<Self>,
        gateway: &Arc<Gateway>,
        by: &Caller,
        position: Position,
        corrected: Option<Bytes>,
    ) -> Result<Option<Replay>, Error> {
        let (letters, gateway, by) = (self.clone(), gateway.clone(), by.clone());
        self.change(async move {
            let Some(letter) = letters.get(by.account, position).await? else { return Ok(None) };
            if let Some((_, became @ Became::Replayed { .. })) = letter.last_replay {
                return Ok(Some(Replay { letter: position, became, was_done: true }));
            }
            let became = bring(&gateway, &by, &letter, corrected).await?;
            letters.note_replays(vec![(letter, became.clone())]).await?;
            Ok(Some(Replay { letter: position, became, was_done: false }))
        })
        .await
    }

    /// Replays the latest letters that a filter holds for and whose events are not in the log yet.
    ///
    /// # Errors
    /// [`Error`]: some may have been replayed, which are not when it is asked for again.
    pub async fn replay_all(self: &Arc<Self>, gateway: &Arc<Gateway>, by: &Caller, filter: Filter) -> Result<ReplayedPage, Error> {
        let (letters, gateway, by) = (self.clone(), gateway.clone(), by.clone());
        self.change(async move {
            let page = letters.list(by.account, filter.without(State::Replayed)).await?;
            let mut under_way = JoinSet::new();
            for letter in page.letters {
                let (gateway, by) = (gateway.clone(), by.clone());
                under_way.spawn(async move {
                    let became = bring(&gateway, &by, &letter, None).await;
                    (letter, became)
                });
            }
            let (mut done, mut failed) = (Vec::new(), None);
            while let Some(ended) = under_way.join_next().await {
                match ended {
                    Ok((letter, Ok(became))) => done.push((letter, became)),
                    Ok((_, Err(error))) => failed = Some(error),
                    Err(_) => failed = Some(Error::Interrupted),
                }
            }
            done.sort_by_key(|(letter, _)| std::cmp::Reverse(letter.position));
            let replay = |(letter, became): &(Letter, Became)| Replay { letter: letter.position, became: became.clone(), was_done: false };
            let replays = done.iter().map(replay).collect();
            letters.note_replays(done).await?;
            failed.map_or(Ok(ReplayedPage { replays, next: page.next }), Err)
        })
        .await
    }

    /// Marks what is new.
    async fn note_replays(&self, done: Vec<(Letter, Became)>) -> Result<(), Error> {
        let is_new = |letter: &Letter, became: &Became| !matches!(became, Became::Refused(refusal) if refusal == letter.refusal());
        let new = done.into_iter().filter(|(letter, became)| is_new(letter, became));
        self.note(new.map(|(letter, became)| letter.mark(became)).collect()).await
    }
}

async fn bring(gateway: &Gateway, by: &Caller, letter: &Letter, corrected: Option<Bytes>) -> Result<Became, Error> {
    // What somebody wrote anew is JSON in the words of its dialect; a custom event has none of its own, and becomes a meter event.
    let shape = Some(letter.letter.sent.shape).filter(|shape| *shape != Shape::Custom).unwrap_or_default();
    let plain = Sent { shape, ..Sent::default() };
    let (event, sent) = match &corrected {
        Some(corrected) => (corrected.as_ref(), &plain),
        None if letter.letter.is_cut => return Ok(Became::Refused(Refusal::from(&only_its_begin(letter)))),
        None => (letter.letter.raw.as_slice(), &letter.letter.sent),
    };
    let made_id = gateway.made_id(by.account, letter.position, letter.received);
    Ok(match gateway.replay(event, sent, by, made_id).await.map_err(|error| Error::Door(Box::new(error)))? {
        Replayed::Logged { unique_id, place } => {
            Became::Replayed { unique_id, partition: place.partition, position: place.position.map(|position| position.0) }
        }
        Replayed::Known { unique_id } => Became::Replayed { unique_id, partition: 0, position: None },
        Replayed::Rejected(rejection) => Became::Refused(Refusal::from(&rejection)),
    })
}

fn only_its_begin(letter: &Letter) -> Rejection {
    let kept = letter.letter.raw.len();
    Rejection::new(Code::TooLarge, "", format!("only its first {kept} bytes are kept: replay it with the event corrected in the body"))
}
