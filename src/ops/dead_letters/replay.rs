//! `replay`: letters become jobs again.
//!
//! One rule: publish, confirm, then take the letter out. Cut off at any point, every letter is a letter or a job; at the
//! worst both, and then it comes back marked and its next replay is looked up before it is sent.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::canary::{Canaries, Canary, Deaths, Omen, documents_in};
use super::judge::{Judged, Rules, as_canary, judge};
use super::pace::Pace;
use super::progress::Progress;
use super::{Filter, HELD_FOR, LetterQueue, LettersError};
use crate::broker::{
    BrokerError, Cursor, Endpoint, Hold, InOtherHands, Letter, Publisher, Replay, Topology,
    WalkError, retry_exchange, send, timed,
};
use crate::config::{LettersSide, Rate};
use crate::job::DeadLetter;
use crate::retry::Ladder;

/// Letters taken at once: those of the last window are marked as handed out though nothing was done with them.
const WINDOW: u16 = 32;

/// Letters published and not taken out yet; of more than 32 acknowledgements RabbitMQ keeps some back, and would lose
/// them with the channel.
const IN_FLIGHT: usize = 16;

/// A publishing connection that is not there after so long will not come.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Told to stop, what is under way is waited for so long: a broker with an alarm confirms nothing until that is over.
const LANDS_WITHIN: Duration = Duration::from_secs(5);

/// Canaries wait on the ladder first: nothing is heard of them before, and within this long after it, or as long again where
/// that is less.
const HEARD_WITHIN: Duration = Duration::from_secs(300);

/// What to replay, and how.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// Where from.
    pub queue: LetterQueue,
    /// Which.
    pub filter: Filter,
    /// At most so many.
    pub limit: Option<u32>,
    /// No faster than this.
    pub rate: Option<Rate>,
    /// Some first, to see what becomes of them.
    pub canary: Option<Canary>,
    /// Also what died twice of the same cause.
    pub force: bool,
}

/// Letters that are still where they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// They were not asked for.
    pub not_asked_for: u32,
    /// They died after the command began.
    pub died_since: u32,
    /// They died twice of the same cause.
    pub died_twice: u32,
    /// Their document was not kept.
    pub no_document: u32,
    /// Nothing says what they asked for.
    pub no_operation: u32,
}

/// What a replay came to.
#[derive(Debug)]
pub struct Replayed {
    /// Letters that are jobs again.
    pub replayed: u32,
    /// Letters that were looked at and stay.
    pub kept: Kept,
    /// Letters that were not looked at.
    pub elsewhere: InOtherHands,
    /// Of the replayed, those that went first.
    pub canaries: u32,
    /// Their results by status.
    pub canary_statuses: BTreeMap<String, u32>,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a replay ended.
#[derive(Debug)]
pub enum Ended {
    /// All that were asked for are jobs again.
    Done,
    /// All that it has seen are jobs again, and others had more of them in their hands.
    InOtherHands,
    /// It was told to stop.
    Interrupted,
    /// Canaries died.
    CanariesDied(Deaths),
    /// Nothing was heard of so many canaries.
    CanariesSilent(u32),
    /// It could not go on.
    Failed(LettersError),
    /// It was left in its middle, with letters under way.
    Left,
}

impl Default for Replayed {
    fn default() -> Self {
        Self {
            replayed: 0,
            kept: Kept::default(),
            elsewhere: InOtherHands::default(),
            canaries: 0,
            canary_statuses: BTreeMap::new(),
            ended: Ended::Left,
        }
    }
}

/// Replays letters that died before it began, until all are done, `stop` is cancelled or something is in the way.
/// Dropped in its middle, it leaves in `replayed` what it came to by then.
pub async fn replay(
    config: &LettersSide,
    request: &ReplayRequest,
    stop: &CancellationToken,
    replayed: &mut Replayed,
) {
    let ended = replay_into(replayed, config, request, stop).await;
    replayed.ended = ended.unwrap_or_else(Ended::Failed);
}

async fn replay_into(
    replayed: &mut Replayed,
    config: &LettersSide,
    request: &ReplayRequest,
    stop: &CancellationToken,
) -> Result<Ended, LettersError> {
    let began = Timestamp::now();
    let side = &config.broker_side;
    let endpoint = Endpoint::try_new(&side.broker, "dead-letters")?;
    let ladder = Ladder::try_new(side.retry.delays.clone()).ok_or(LettersError::NoRungs)?;
    let rung = ladder.at_least(config.settle_time);
    let doubted = retry_exchange(rung);
    takes_jobs(&endpoint).await?;
    let canaries = match request.canary {
        Some(_) => Some(Canaries::open(&endpoint).await?),
        None => None,
    };
    let publisher = Publisher::default();
    let mut run = Run {
        endpoint: &endpoint,
        publisher: &publisher,
        request,
        rules: Rules {
            filter: &request.filter,
            began,
            force: request.force,
            doubted: &doubted,
        },
        stop,
        pace: Pace::of(request.rate),
        shortest_patience: shortest_patience(rung.delay),
        canaries,
        sending: FuturesUnordered::new(),
        replayed,
    };
    let publishing = CancellationToken::new();
    let work = async {
        let ended = run.run().await;
        publishing.cancel();
        ended
    };
    let topology = Topology::of(&side.replies, &side.retry, &side.dead_letter);
    let ((), ended, _) = tokio::join!(
        publisher.run(&endpoint, &topology, false, &publishing),
        work,
        publishing.run_until_cancelled(tell_of_alarms(&publisher)),
    );
    ended
}

/// Whoever waits should know what for.
async fn tell_of_alarms(publisher: &Publisher) {
    loop {
        publisher.blocked().await;
        // Whoever closed standard error does not want to know.
        let told = writeln!(io::stderr(), "irn-worker: {}", BrokerError::Blocked);
        drop(told);
        publisher.ready().await;
    }
}

/// An unreachable broker or a missing exchange is seen here, and not for ever waited for.
async fn takes_jobs(endpoint: &Endpoint) -> Result<(), LettersError> {
    let connection = endpoint.connect("dead-letters").await?;
    timed(Topology::takes_jobs(&connection)).await??;
    Ok(())
}

/// Why a walk through the queue came to its end.
enum Step {
    /// The replay has ended with it.
    Ended(Ended),
    /// Letters have been held for as long as they may be.
    HeldLongEnough,
    /// The next one may go when they have been held for too long.
    TurnIsFar,
    /// As many canaries are out as were asked for.
    CanariesOut,
    /// All letters have been looked at, or as many replayed as were asked for.
    Through,
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), WalkError>> + Send + 'a>>;

struct Run<'a> {
    endpoint: &'a Endpoint,
    publisher: &'a Publisher,
    request: &'a ReplayRequest,
    rules: Rules<'a>,
    stop: &'a CancellationToken,
    pace: Pace,
    shortest_patience: Duration,
    /// Until they have been heard of.
    canaries: Option<Canaries>,
    sending: FuturesUnordered<Sending<'a>>,
    replayed: &'a mut Replayed,
}

impl Run<'_> {
    /// Walks through the queue, as often as it takes: what is held for too long the broker takes back.
    async fn run(&mut self) -> Result<Ended, LettersError> {
        let ready = self.stop.run_until_cancelled(self.publisher.ready());
        match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(Some(())) => {}
            Ok(None) => return Ok(Ended::Interrupted),
            Err(_) => return Err(BrokerError::Timeout(READY_WITHIN).into()),
        }
        let queue = self.request.queue.name();
        let mut cursor = Cursor::open(self.endpoint, queue, WINDOW, None).await?;
        let progress = Progress::of(cursor.remaining());
        loop {
            self.replayed.kept = Kept::default();
            let before = self.replayed.replayed;
            let walked = self.walk(&mut cursor, &progress).await;
            let landed = self.land(walked.is_err()).await;
            let (remaining, seen) = (cursor.remaining(), cursor.seen());
            let closed = cursor.close().await;
            let step = walked?;
            if !landed? {
                progress.finish();
                return Ok(Ended::Left);
            }
            closed?;
            // Nothing is held meanwhile: results may take longer than the broker leaves letters in our hands.
            let ended = match step {
                Step::Ended(ended) => Some(ended),
                // The next walk would see the same letters, and no more of them.
                Step::HeldLongEnough if self.replayed.replayed == before => {
                    progress.finish();
                    return Err(LettersError::TooMany(seen));
                }
                Step::HeldLongEnough => None,
                Step::TurnIsFar => self.until_turn().await,
                Step::CanariesOut => self.hear_canaries().await,
                Step::Through => Some(self.hear_canaries().await.unwrap_or(
                    match self.replayed.elsewhere.is_any() {
                        true => Ended::InOtherHands,
                        false => Ended::Done,
                    },
                )),
            };
            if let Some(ended) = ended {
                progress.finish();
                return Ok(ended);
            }
            progress.anew(remaining);
            cursor = Cursor::open(self.endpoint, queue, WINDOW, Some(remaining)).await?;
        }
    }

    async fn walk(
        &mut self,
        cursor: &mut Cursor,
        progress: &Progress,
    ) -> Result<Step, LettersError> {
        loop {
            if self.stop.is_cancelled() {
                return Ok(Step::Ended(Ended::Interrupted));
            }
            if self.canaries_are_out() {
                return Ok(Step::CanariesOut);
            }
            if cursor.age() > HELD_FOR {
                return Ok(Step::HeldLongEnough);
            }
            if self.is_enough() {
                return Ok(Step::Through);
            }
            let Some((letter, hold)) = cursor.next().await? else {
                self.replayed.elsewhere = cursor.in_other_hands();
                return Ok(Step::Through);
            };
            if !self.treat(letter, hold, cursor.age()).await? {
                return Ok(Step::TurnIsFar);
            }
            progress.seen(self.replayed.replayed, "replayed");
        }
    }

    fn under_way(&self) -> u32 {
        self.replayed.replayed + u32::try_from(self.sending.len()).unwrap_or(u32::MAX)
    }

    fn is_enough(&self) -> bool {
        let limit = self.request.limit;
        limit.is_some_and(|limit| self.under_way() >= limit)
    }

    /// Whether as many canaries have left as were asked for.
    fn canaries_are_out(&self) -> bool {
        let wanted = self.request.canary.map(|canary| canary.count);
        let out = self.canaries.as_ref().map(Canaries::sent);
        out.zip(wanted).is_some_and(|(out, wanted)| out >= wanted)
    }

    /// False if it is to go, and its turn comes later than it may be held.
    async fn treat(
        &mut self,
        letter: Letter,
        hold: Hold,
        held: Duration,
    ) -> Result<bool, LettersError> {
        let kept = &mut self.replayed.kept;
        match judge(&letter, &self.rules) {
            Judged::NotMeant => kept.not_asked_for += 1,
            Judged::TooLate => kept.died_since += 1,
            Judged::DiedTwice => kept.died_twice += 1,
            Judged::NoDocument => kept.no_document += 1,
            Judged::NoOperation => kept.no_operation += 1,
            Judged::Replayed(replay) => {
                if self.pace.is_far(held) {
                    return Ok(false);
                }
                if self.has_turn().await? {
                    self.send(replay, letter, hold);
                }
            }
        }
        Ok(true)
    }

    /// Waits for the next turn with no letter in hand.
    async fn until_turn(&self) -> Option<Ended> {
        let turn = tokio::time::sleep_until(self.pace.turn());
        match self.stop.run_until_cancelled(turn).await {
            Some(()) => None,
            None => Some(Ended::Interrupted),
        }
    }

    fn send(&mut self, mut replay: Replay, letter: Letter, hold: Hold) {
        if let Some(canaries) = &mut self.canaries {
            let cause = DeadLetter::new(&letter.properties).cause();
            let name = canaries.name(cause, documents_in(letter.body.as_bytes()));
            replay = as_canary(replay, &name);
            self.replayed.canaries = canaries.sent();
        }
        let publisher = self.publisher;
        self.sending
            .push(Box::pin(send(publisher, replay, letter, hold)));
    }

    /// Waits until one more may be published. False if told to stop.
    async fn has_turn(&mut self) -> Result<bool, LettersError> {
        let at = self.pace.next();
        loop {
            let has_room = self.sending.len() < IN_FLIGHT;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(false),
                Some(sent) = self.sending.next(), if !self.sending.is_empty() => {
                    sent?;
                    self.replayed.replayed += 1;
                }
                () = tokio::time::sleep_until(at), if has_room => break,
            }
        }
        let ready = self.stop.run_until_cancelled(self.publisher.ready());
        match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(ready) => Ok(ready.is_some()),
            Err(_) if self.publisher.is_blocked() => Err(BrokerError::Blocked.into()),
            Err(_) => Err(BrokerError::Timeout(READY_WITHIN).into()),
        }
    }

    /// Waits until all that were published are proven to be, and are no letters any more. Where the walk has failed or is
    /// told to stop, only for a while: false, if some are under way then.
    async fn land(&mut self, failed: bool) -> Result<bool, LettersError> {
        let mut ended = Ok(true);
        let stop = self.stop;
        let mut over = pin!(async {
            if !failed {
                stop.cancelled().await;
            }
            tokio::time::sleep(LANDS_WITHIN).await;
        });
        while !self.sending.is_empty() {
            tokio::select! {
                biased;
                Some(sent) = self.sending.next() => match sent {
                    Ok(()) => self.replayed.replayed += 1,
                    Err(error) => ended = Err(error.into()),
                },
                () = &mut over => {
                    // What they hold goes back, marked as handed out before.
                    self.sending.clear();
                    return ended.and(Ok(false));
                }
            }
        }
        ended
    }

    /// Waits for the results of those that are out, if there are any. None if they say nothing against the others.
    async fn hear_canaries(&mut self) -> Option<Ended> {
        let (Some(mut canaries), Some(canary)) = (self.canaries.take(), self.request.canary) else {
            return None;
        };
        let patience = canary.patience.max(self.shortest_patience);
        let omen = canaries.wait(patience, self.stop).await;
        self.replayed.canary_statuses = canaries.statuses();
        match omen {
            Omen::Good => None,
            Omen::Died(deaths) => Some(Ended::CanariesDied(deaths)),
            Omen::Silent(count) => Some(Ended::CanariesSilent(count)),
            Omen::Interrupted => Some(Ended::Interrupted),
        }
    }
}

/// For how long canaries that wait on a rung of this delay are listened for, at least.
fn shortest_patience(rung: Duration) -> Duration {
    rung + rung.min(HEARD_WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_listened_for_beyond_the_rung_that_they_wait_on() {
        for (rung, patience) in [(60, 120), (900, 1_200), (3_600, 3_900)] {
            let shortest = shortest_patience(Duration::from_secs(rung));
            assert_eq!(shortest, Duration::from_secs(patience), "{rung}");
        }
    }
}
