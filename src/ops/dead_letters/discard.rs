//! `drop`: letters that a person gives up for good.

use serde::Serialize;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::{Filter, HELD_FOR, LetterQueue, LettersError};
use crate::broker::{Cursor, Endpoint, InOtherHands};
use crate::config::LettersSide;
use crate::job::DeadLetter;

/// Of more than 32 acknowledgements RabbitMQ keeps some back, and would lose them with the channel; the beginning of the
/// next window waits for those of this one.
const WINDOW: u16 = 16;

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// Letters that are gone.
    pub dropped: u32,
    /// Of them, those whose documents the portal may have registered.
    pub in_doubt: u32,
    /// Letters that it has not seen.
    #[serde(flatten)]
    pub elsewhere: InOtherHands,
    /// Whether it was told to stop before the end.
    pub interrupted: bool,
    /// Whether it was left in its middle.
    pub left: bool,
}

/// Takes the letters that the filter means out of their queue, into nothing. Only those that died before it began.
/// Dropped in its middle, it leaves in `discarded` what it came to by then.
///
/// # Errors
/// When the broker or the queue is lost; what is gone by then is gone.
pub async fn discard(
    config: &LettersSide,
    queue: LetterQueue,
    filter: &Filter,
    limit: Option<u32>,
    stop: &CancellationToken,
    discarded: &mut Discarded,
) -> Result<(), LettersError> {
    let began = Timestamp::now();
    let endpoint = Endpoint::try_new(&config.broker_side.broker, "dead-letters")?;
    let mut at_most = None;
    loop {
        let mut cursor = Cursor::open(&endpoint, queue.name(), WINDOW, at_most).await?;
        let progress = Progress::of(cursor.remaining());
        let means = |letter: DeadLetter<'_>| {
            let is_late = letter.dead_at().is_some_and(|dead_at| dead_at >= began);
            filter.admits(letter, began) && !is_late
        };
        let before = discarded.dropped;
        let walked = walk(&mut cursor, means, limit, stop, &progress, discarded).await;
        let seen = cursor.seen();
        at_most = Some(cursor.remaining());
        let closed = cursor.close().await;
        progress.finish();
        let is_over = walked?;
        closed?;
        if is_over {
            return Ok(());
        }
        // The next walk would see the same letters, and no more of them.
        if discarded.dropped == before {
            return Err(LettersError::TooMany(seen));
        }
    }
}

/// True at the end; false where letters have been held for long enough.
async fn walk(
    cursor: &mut Cursor,
    means: impl Fn(DeadLetter<'_>) -> bool,
    limit: Option<u32>,
    stop: &CancellationToken,
    progress: &Progress,
    discarded: &mut Discarded,
) -> Result<bool, LettersError> {
    while limit.is_none_or(|limit| discarded.dropped < limit) {
        if stop.is_cancelled() {
            discarded.interrupted = true;
            return Ok(true);
        }
        if cursor.age() > HELD_FOR {
            return Ok(false);
        }
        let Some((letter, hold)) = cursor.next().await? else {
            discarded.elsewhere = cursor.in_other_hands();
            return Ok(true);
        };
        let dead = DeadLetter::new(&letter.properties);
        if means(dead) {
            let in_doubt = dead.is_unknown();
            hold.take_out().await?;
            discarded.dropped += 1;
            discarded.in_doubt += u32::from(in_doubt);
        }
        progress.seen(discarded.dropped, "dropped");
    }
    Ok(true)
}
