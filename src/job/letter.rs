//! A dead letter: a job the worker gave up on, and the job it becomes again.
//!
//! One rule: a replay is the job as the ERP sent it, with what is known of its outcome and what it died of. Its attempts
//! are counted anew, and whatever else was said of its death is left out.

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable};

use super::decode::{integer, parsed};
use super::properties::{carried, carried_headers, header, header_text, text};
use super::{Operation, PriorOutcome, Properties, long, set};
use crate::gstin::Gstin;

/// What a letter died of is remembered so often, and no longer than any stable code: a header of the worker's is short.
const MOST_CAUSES: usize = 10;
const LONGEST_CAUSE: usize = 32;

/// Why the broker moved a message the first time (RabbitMQ, "Dead Letter Exchanges"). It stays whatever comes after: of a job
/// that has been on the ladder it says `expired`.
const FIRST_DEATH: &str = "x-first-death-reason";

/// All that the broker moved a message for, the last one first.
const DEATHS: &str = "x-death";

/// The properties of a letter in `irn.dead` or `irn.poison`. What cannot be read is taken as not there.
#[derive(Clone, Copy)]
pub struct DeadLetter<'a>(&'a Properties);

impl std::fmt::Debug for DeadLetter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeadLetter({:?})", self.reason())
    }
}

fn last_death(headers: Option<&FieldTable>) -> Option<&FieldTable> {
    let AMQPValue::FieldArray(deaths) = headers?.inner().get(DEATHS)? else {
        return None;
    };
    match deaths.as_slice().first()? {
        AMQPValue::FieldTable(last) => Some(last),
        _ => None,
    }
}

impl<'a> DeadLetter<'a> {
    /// The letter with these properties.
    pub fn new(properties: &'a Properties) -> Self {
        Self(properties)
    }

    fn headers(self) -> Option<&'a FieldTable> {
        self.0.headers().as_ref()
    }

    /// Why the worker gave up: a stable code.
    pub fn reason(self) -> Option<&'a str> {
        header_text(self.headers(), header::REASON)
    }

    /// Why it lies here: the worker's reason or, for what the broker put here by itself, one of [`DeadLetter::BY_BROKER`].
    pub fn cause(self) -> &'a str {
        let first = || header_text(self.headers(), FIRST_DEATH);
        let last = || header_text(last_death(self.headers()), "reason");
        let of_broker = || match last().or_else(first) {
            Some("delivery_limit") => Self::BY_BROKER[0],
            Some("rejected") => Self::BY_BROKER[1],
            Some("expired") => Self::BY_BROKER[2],
            Some(_) | None => Self::BY_BROKER[3],
        };
        self.reason()
            .filter(|_| !self.is_by_broker())
            .unwrap_or_else(of_broker)
    }

    /// What stands for a reason where no worker gave one: handed out too often, given up in a panic, expired; and
    /// published under a key that nobody serves, or put there by hand.
    pub const BY_BROKER: [&'static str; 4] = ["DELIVERY_LIMIT", "REJECTED", "EXPIRED", "NO_REASON"];

    /// Whether the broker put it here, so that nobody knows what was done with it before.
    /// A reason beside the broker's own is a stale one: the worker strips what the broker wrote.
    pub fn is_by_broker(self) -> bool {
        self.reason().is_none() || header_text(self.headers(), FIRST_DEATH).is_some()
    }

    /// Whether a worker has said when it first saw it.
    fn was_seen(self) -> bool {
        let seen = parsed::<Timestamp>(self.headers(), header::FIRST_SEEN, "");
        seen.ok().flatten().is_some()
    }

    /// The code that its last attempt ended with.
    pub fn code(self) -> Option<&'a str> {
        header_text(self.headers(), header::ERROR).filter(|code| !code.is_empty())
    }

    /// Type, number and date of its document.
    pub fn document(self) -> Option<&'a str> {
        header_text(self.headers(), header::DOCUMENT)
    }

    /// After this moment it is not submitted any more.
    pub fn deadline(self) -> Option<Timestamp> {
        parsed(self.headers(), header::DEADLINE, "").ok().flatten()
    }

    /// The ERP's own id.
    pub fn message_id(self) -> Option<&'a str> {
        self.0.message_id().as_ref().map(|id| id.as_str())
    }

    /// Whether it was replayed and died of the same cause again. One whose earlier cause is not known counts as such.
    pub fn died_again(self) -> bool {
        let is_same = |before: &str| before.split(',').any(|cause| cause == self.cause());
        self.replays() > 0 && self.died_of().is_none_or(is_same)
    }

    /// What it died of before it was replayed, one cause after the other.
    fn died_of(self) -> Option<&'a str> {
        header_text(self.headers(), header::DIED_OF).filter(|causes| !causes.is_empty())
    }

    /// The same and what it died of now, as many as the header has room for.
    fn all_it_died_of(self) -> String {
        let earlier = self.died_of().unwrap_or_default().split(',');
        let mut causes: Vec<&str> = earlier.filter(|cause| !cause.is_empty()).collect();
        causes.push(self.cause());
        let most = causes.len().saturating_sub(MOST_CAUSES);
        let short = causes[most..]
            .iter()
            .filter(|cause| cause.len() <= LONGEST_CAUSE);
        short.copied().collect::<Vec<_>>().join(",")
    }

    /// Whose credentials it used, or would have.
    pub fn gstin(self) -> Option<Gstin> {
        parsed(self.headers(), header::GSTIN, "").ok().flatten()
    }

    /// When: as the worker says or, for what the broker put here by itself, by the broker's clock.
    pub fn dead_at(self) -> Option<Timestamp> {
        let by_worker = || parsed(self.headers(), header::DEAD_AT, "").ok().flatten();
        if !self.is_by_broker() {
            return by_worker();
        }
        let by_broker = last_death(self.headers()).and_then(|last| last.inner().get("time"));
        match by_broker {
            Some(AMQPValue::Timestamp(seconds)) => {
                Timestamp::from_second(i64::try_from(*seconds).ok()?).ok()
            }
            Some(_) | None => by_worker(),
        }
    }

    /// Whether the portal may have registered it.
    pub fn is_unknown(self) -> bool {
        header_text(self.headers(), header::OUTCOME) == Some(PriorOutcome::Unknown.as_str())
    }

    /// How often it has been replayed.
    pub fn replays(self) -> u32 {
        integer(self.headers(), header::REPLAYS)
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    /// The key it was published with as a job: the one it was kept under, the one it came into this queue with, if that
    /// is a job's, or the one that its type stands for.
    pub fn routing_key(self, came_with: &str) -> Option<String> {
        let is_jobs = |key: &&str| Operation::from_routing_key(key).is_some();
        let kept = header_text(self.headers(), header::ROUTING_KEY).filter(is_jobs);
        let of_type = || {
            let kind = self.0.kind().as_ref()?;
            Operation::from_type(kind.as_str()).map(Operation::as_str)
        };
        let came_with = Some(came_with).filter(is_jobs);
        kept.or(came_with).or_else(of_type).map(str::to_owned)
    }

    /// Whose job it was. A worker, which writes letters to the default exchange, has proven what it wrote; of what the
    /// broker moved the headers are still the sender's own, and only `user_id` is checked.
    fn publisher(self, exchange: &str) -> Option<String> {
        if self.is_by_broker() || !exchange.is_empty() {
            return text(self.0.user_id());
        }
        header_text(self.headers(), header::PUBLISHER).map(str::to_owned)
    }

    /// Properties under which it becomes a job again. `doubted`: since when a copy of it may be a job, so that the worker
    /// has to look before it sends, whatever the letter says, and at every portal. `exchange`: the one it was published
    /// to.
    pub fn replayed(self, doubted: Option<Timestamp>, exchange: &str) -> Properties {
        let mut headers = FieldTable::default();
        for (name, value) in carried_headers(self.0).inner() {
            let name_text = name.as_str();
            // Who was to hear of an earlier replay is not to hear of this one.
            if name_text != header::CANARY && name_text != header::ATTEMPT {
                headers.insert(name.clone(), value.clone());
            }
        }
        let replays = i64::from(self.replays()) + 1;
        set(
            &mut headers,
            header::REPLAYS,
            AMQPValue::LongLongInt(replays),
        );
        let portal = header_text(self.headers(), header::PORTAL);
        if let Some(portal) = portal.filter(|_| self.is_unknown() && doubted.is_none()) {
            set(&mut headers, header::PORTAL, long(portal));
        }
        set(&mut headers, header::DIED_OF, long(&self.all_it_died_of()));
        if let Some(publisher) = self.publisher(exchange) {
            set(&mut headers, header::PUBLISHER, long(&publisher));
        }
        if let Some(since) = doubted {
            let unknown = PriorOutcome::Unknown.as_str();
            set(&mut headers, header::OUTCOME, long(unknown));
            // Its doubt is as old as its job only if the job died of it: watched are doubts that do not end, and of
            // this one nobody has been in doubt before. Where no worker says when it saw it, the doubt would count as
            // one that has waited nowhere, and would be looked up twice.
            if !(self.is_unknown() && self.was_seen()) {
                set(&mut headers, header::FIRST_SEEN, long(&since.to_string()));
            }
        }
        carried(self.0, headers)
    }
}
