//! `list`, `show` and `export`: looking, with every letter back in its place afterwards.
//!
//! One rule: memory does not grow with the queue, and nobody waits for who reads the output. What is looked at is held by
//! the broker, and counted or written here; where it has been held for long enough, or the output is not taken, it goes
//! back, and the walk begins anew behind what it has done.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio_util::task::TaskTracker;

use super::groups::Groups;
use super::{Filter, HELD_FOR, LetterQueue, LettersError, age, said_of, view};
use crate::broker::{Cursor, Endpoint, InOtherHands, Letter};
use crate::config::LettersSide;
use crate::job::DeadLetter;
use crate::wiped::Wiped;

/// As wide as memory allows: nothing but looking is done with them.
const WINDOW: u16 = 256;

/// Others should not wait for a pager that is left open.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// Written letters that wait for the output: each may be a document of megabytes.
const LINES_WAITING: usize = 8;

/// How many letters were looked at, and how many of them were meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Looked at.
    pub seen: u64,
    /// Meant by the filter.
    pub matched: u64,
    /// Not looked at.
    pub elsewhere: InOtherHands,
}

/// What `show` prints.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// At most so many letters.
    pub limit: u32,
    /// Their bodies too.
    pub body: bool,
    /// One JSON object a line.
    pub json: bool,
}

/// What `list` has counted.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Where.
    pub queue: LetterQueue,
    /// How many, of each cause.
    pub groups: Groups,
    /// How many there are that were not meant.
    pub others: u64,
    /// What could not be counted.
    pub elsewhere: InOtherHands,
    /// When.
    pub at: Timestamp,
}

impl Listing {
    /// For a person.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (queue, count) = (self.queue.name(), self.groups.count());
        let others = match self.others {
            0 => String::new(),
            others => format!(", and {others} that were not asked for"),
        };
        let span = self.groups.span().map(|(oldest, newest)| {
            let (oldest, newest) = (age(oldest, self.at), age(newest, self.at));
            format!(", the oldest {oldest} old, the newest {newest}")
        });
        writeln!(
            out,
            "{queue}: {count} letters{}{others}",
            span.unwrap_or_default()
        )?;
        self.groups.write(out, self.at)?;
        said_of(self.elsewhere).map_or(Ok(()), |said| writeln!(out, "{said}"))
    }

    /// For a script.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "queue": self.queue.name(), "letters": self.groups.count(), "others": self.others,
            "groups": self.groups.json(),
            "in_other_hands": self.elsewhere.counted, "others_hold_more": self.elsewhere.uncounted,
        })
    }
}

/// Counts letters by what they died of.
///
/// # Errors
/// When the broker or the queue is not there.
pub async fn list(
    config: &LettersSide,
    queue: LetterQueue,
    filter: &Filter,
) -> Result<Listing, LettersError> {
    let mut groups = Groups::default();
    let count = |letter: &Letter| groups.add(DeadLetter::new(&letter.properties));
    let looked = look(config, queue, filter, count).await?;
    Ok(Listing {
        queue,
        others: looked.seen - looked.matched,
        elsewhere: looked.elsewhere,
        groups,
        at: Timestamp::now(),
    })
}

/// Writes what the letters are.
///
/// # Errors
/// When the broker or the queue is not there, or the output takes no more.
pub async fn show(
    config: &LettersSide,
    queue: LetterQueue,
    filter: &Filter,
    shown: Shown,
    out: &mut impl Write,
) -> Result<Looked, LettersError> {
    let mut number = 0;
    let format = move |letter: &Letter| {
        number += 1;
        let mut text = Vec::new();
        if shown.json {
            writeln!(text, "{}", view::json(letter, shown.body))?;
        } else {
            view::write(letter, number, shown.body, &mut text)?;
        }
        Ok(text)
    };
    let look = Look::of(config, queue, filter, Some(shown.limit))?;
    look.written(format, out).await
}

/// Writes each letter whole, one JSON object a line.
///
/// # Errors
/// When the broker or the queue is not there, or the output takes no more.
pub async fn export(
    config: &LettersSide,
    queue: LetterQueue,
    filter: &Filter,
    limit: Option<u32>,
    out: &mut impl Write,
) -> Result<Looked, LettersError> {
    let format = |letter: &Letter| {
        let mut line = Vec::new();
        writeln!(line, "{}", view::json(letter, true))?;
        Ok(line)
    };
    let look = Look::of(config, queue, filter, limit)?;
    look.written(format, out).await
}

/// Goes through a queue and gives to `each` what the filter means.
pub(super) async fn look(
    config: &LettersSide,
    queue: LetterQueue,
    filter: &Filter,
    mut each: impl FnMut(&Letter),
) -> Result<Looked, LettersError> {
    let look = Look::of(config, queue, filter, None)?;
    let each = |letter: &Letter| {
        each(letter);
        Ok(None)
    };
    look.go(each, None).await
}

/// What is looked at.
struct Look {
    endpoint: Endpoint,
    queue: LetterQueue,
    filter: Filter,
    limit: Option<u32>,
    began: Timestamp,
}

type Line = Wiped<Vec<u8>>;

/// Why a walk has come to its end.
enum Step {
    /// There is no more to look at.
    Over,
    /// Letters have been held for long enough. This is still to be written.
    GoesOn(Option<Line>),
}

impl Look {
    fn of(
        config: &LettersSide,
        queue: LetterQueue,
        filter: &Filter,
        limit: Option<u32>,
    ) -> Result<Self, LettersError> {
        Ok(Self {
            endpoint: Endpoint::try_new(&config.broker_side.broker, "dead-letters")?,
            queue,
            filter: filter.clone(),
            limit,
            began: Timestamp::now(),
        })
    }

    /// Goes through the queue beside the output, which may stand still for as long as its reader likes.
    async fn written(
        self,
        mut format: impl FnMut(&Letter) -> io::Result<Vec<u8>> + Send + 'static,
        out: &mut impl Write,
    ) -> Result<Looked, LettersError> {
        let (lines, mut written) = mpsc::channel(LINES_WAITING);
        let looking = TaskTracker::new().spawn(async move {
            let each = |letter: &Letter| Ok(Some(Wiped::new(format(letter)?)));
            self.go(each, Some(&lines)).await
        });
        let mut ended = Ok(());
        while let Some(line) = written.recv().await {
            ended = out.write_all(&line);
            if ended.is_err() {
                break;
            }
        }
        // The walk ends with whoever would write what it sees.
        drop(written);
        let looked = match looking.await {
            Ok(looked) => looked,
            Err(died) => std::panic::resume_unwind(died.into_panic()),
        };
        ended?;
        let looked = looked?;
        out.flush()?;
        Ok(looked)
    }

    async fn go(
        &self,
        mut each: impl FnMut(&Letter) -> io::Result<Option<Line>>,
        lines: Option<&mpsc::Sender<Line>>,
    ) -> Result<Looked, LettersError> {
        let (mut looked, mut place) = (Looked::default(), Place::default());
        // Without a filter the first ones are those meant, and no others need to be touched.
        let mut at_most = self.limit.filter(|_| self.filter.is_everything());
        loop {
            let queue = self.queue.name();
            let mut cursor = Cursor::open(&self.endpoint, queue, WINDOW, at_most).await?;
            let walked = self
                .walk(&mut cursor, &mut place, &mut looked, &mut each, lines)
                .await;
            at_most = Some(cursor.remaining());
            let closed = cursor.close().await;
            let line = match walked? {
                Step::Over => {
                    closed?;
                    return Ok(looked);
                }
                Step::GoesOn(line) => line,
            };
            closed?;
            // With nothing in hand.
            if let (Some(line), Some(lines)) = (line, lines)
                && lines.send(line).await.is_err()
            {
                return Ok(looked);
            }
        }
    }

    async fn walk(
        &self,
        cursor: &mut Cursor,
        place: &mut Place,
        looked: &mut Looked,
        each: &mut impl FnMut(&Letter) -> io::Result<Option<Line>>,
        lines: Option<&mpsc::Sender<Line>>,
    ) -> Result<Step, LettersError> {
        let mut again = Place::default();
        while self
            .limit
            .is_none_or(|limit| looked.matched < u64::from(limit))
        {
            if cursor.age() > HELD_FOR {
                return match again.passed < place.passed {
                    true => Err(LettersError::TooMany(place.passed)),
                    false => Ok(Step::GoesOn(None)),
                };
            }
            let Some((letter, _)) = cursor.next().await? else {
                looked.elsewhere = cursor.in_other_hands();
                return match again.passed < place.passed {
                    true => Err(LettersError::Changed(place.passed)),
                    false => Ok(Step::Over),
                };
            };
            again.pass(&letter);
            if again.passed <= place.passed {
                if again.passed == place.passed && again != *place {
                    return Err(LettersError::Changed(place.passed));
                }
                continue;
            }
            *place = again;
            looked.seen += 1;
            if !self
                .filter
                .admits(DeadLetter::new(&letter.properties), self.began)
            {
                continue;
            }
            looked.matched += 1;
            let (Some(line), Some(lines)) = (each(&letter)?, lines) else {
                continue;
            };
            match lines.send_timeout(line, TAKEN_WITHIN).await {
                Ok(()) => {}
                Err(SendTimeoutError::Timeout(line)) => return Ok(Step::GoesOn(Some(line))),
                Err(SendTimeoutError::Closed(_)) => return Ok(Step::Over),
            }
        }
        Ok(Step::Over)
    }
}

/// How far a look has come: how many letters, and which, so that one that begins anew knows whether they are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    passed: u64,
    digest: u64,
}

impl Place {
    fn pass(&mut self, letter: &Letter) {
        let mut hasher = DefaultHasher::new();
        self.digest.hash(&mut hasher);
        let id = letter.properties.message_id().as_ref();
        id.map(|id| id.as_str()).hash(&mut hasher);
        let dead_at = DeadLetter::new(&letter.properties).dead_at();
        (dead_at, &letter.routing_key, letter.body.as_it_came().len()).hash(&mut hasher);
        self.digest = hasher.finish();
        self.passed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Body, Properties, short};

    fn place(ids: &[&str]) -> Place {
        let mut place = Place::default();
        for id in ids {
            place.pass(&Letter {
                exchange: String::new(),
                routing_key: "irn.dead".to_owned(),
                properties: Properties::default().with_message_id(short(id)),
                body: Body::copy_of(b"{}"),
                redelivered: false,
            });
        }
        place
    }

    #[test]
    fn look_that_begins_anew_knows_whether_the_letters_before_are_the_same_in_the_same_order() {
        assert_eq!(place(&["a", "b"]), place(&["a", "b"]));
        for other in [&["b", "a"][..], &["a"], &["a", "c"], &["a", "b", "c"]] {
            assert_ne!(place(&["a", "b"]), place(other), "{other:?}");
        }
    }
}
