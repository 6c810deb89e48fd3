//! `list`, `show` and `export`: looking, with every letter back in its place afterwards.
//!
//! One rule: memory does not grow with the queue. What is looked at is held by the broker, and counted or written here.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::json;

use super::groups::Groups;
use super::{Filter, LetterQueue, LettersError, age, view};
use crate::broker::{Cursor, Endpoint, Letter};
use crate::config::LettersSide;
use crate::job::DeadLetter;

/// As wide as memory allows: nothing but looking is done with them.
const WINDOW: u16 = 256;

/// How many letters were looked at, and how many of them were meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Looked at.
    pub seen: u64,
    /// Meant by the filter.
    pub matched: u64,
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
        self.groups.write(out, self.at)
    }

    /// For a script.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "queue": self.queue.name(), "letters": self.groups.count(), "others": self.others,
            "groups": self.groups.json(),
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
    let count = |letter: &Letter| {
        groups.add(DeadLetter::new(&letter.properties));
        Ok(())
    };
    let looked = look(config, queue, filter, None, count).await?;
    Ok(Listing {
        queue,
        others: looked.seen - looked.matched,
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
    out: &mut (impl Write + Send),
) -> Result<Looked, LettersError> {
    let mut number = 0;
    let write = |letter: &Letter| {
        number += 1;
        if shown.json {
            writeln!(out, "{}", view::json(letter, shown.body))?;
        } else {
            view::write(letter, number, shown.body, out)?;
        }
        Ok(())
    };
    look(config, queue, filter, Some(shown.limit), write).await
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
    out: &mut (impl Write + Send),
) -> Result<Looked, LettersError> {
    let write = |letter: &Letter| {
        writeln!(out, "{}", view::json(letter, true))?;
        Ok(())
    };
    let looked = look(config, queue, filter, limit, write).await?;
    out.flush()?;
    Ok(looked)
}

/// Goes through a queue and gives to `each` what the filter means.
pub(super) async fn look(
    config: &LettersSide,
    queue: LetterQueue,
    filter: &Filter,
    limit: Option<u32>,
    mut each: impl FnMut(&Letter) -> Result<(), LettersError>,
) -> Result<Looked, LettersError> {
    let now = Timestamp::now();
    let endpoint = Endpoint::try_new(&config.broker_side.broker, "dead-letters")?;
    // Without a filter the first ones are those meant, and no others need to be touched.
    let at_most = limit.filter(|_| filter.is_everything());
    let mut cursor = Cursor::open(&endpoint, queue.name(), WINDOW, at_most).await?;
    let mut looked = Looked::default();
    let mut ended = Ok(());
    while limit.is_none_or(|limit| looked.matched < u64::from(limit)) {
        let letter = match cursor.next().await {
            Ok(Some((letter, _))) => letter,
            Ok(None) => break,
            Err(error) => {
                ended = Err(error.into());
                break;
            }
        };
        looked.seen += 1;
        if filter.admits(DeadLetter::new(&letter.properties), now) {
            looked.matched += 1;
            if let Err(error) = each(&letter) {
                ended = Err(error);
                break;
            }
        }
    }
    let closed = cursor.close().await;
    ended?;
    closed?;
    Ok(looked)
}
