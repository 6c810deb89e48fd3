//! A dead letter: a job the worker gave up on, and the job it becomes again.
//!
//! One rule: a replay is the job as the ERP sent it, with what is known of its outcome. Its attempts are counted anew,
//! and what was said of its death is left out.

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable};

use super::decode::{integer, parsed};
use super::properties::{carried, carried_headers, header, header_text};
use super::{Operation, PriorOutcome, Properties, long, set};
use crate::gstin::Gstin;

/// Headers that tell of a death.
const OBITUARY: [&str; 5] = [
    header::REASON,
    header::DOCUMENT,
    header::DEAD_AT,
    header::REPLICA,
    header::ROUTING_KEY,
];

/// The properties of a letter in `irn.dead`. What cannot be read is taken as not there.
#[derive(Clone, Copy)]
pub struct DeadLetter<'a>(&'a Properties);

impl std::fmt::Debug for DeadLetter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeadLetter({:?})", self.reason())
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

    /// Whose credentials it used, or would have.
    pub fn gstin(self) -> Option<Gstin> {
        parsed(self.headers(), header::GSTIN, "").ok().flatten()
    }

    /// When.
    pub fn dead_at(self) -> Option<Timestamp> {
        parsed(self.headers(), header::DEAD_AT, "").ok().flatten()
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

    /// The key it was published with or, in a letter that does not say, the one that its type stands for.
    pub fn routing_key(self) -> Option<String> {
        let kept = header_text(self.headers(), header::ROUTING_KEY)
            .filter(|key| Operation::from_routing_key(key).is_some());
        let of_type = || {
            let kind = self.0.kind().as_ref()?;
            Operation::from_type(kind.as_str()).map(Operation::as_str)
        };
        kept.or_else(of_type).map(str::to_owned)
    }

    /// Properties under which it becomes a job again. `in_doubt`: a copy of it may have been replayed before, so the
    /// worker has to look before it sends, whatever the letter says, and at every portal.
    pub fn replayed(self, in_doubt: bool) -> Properties {
        let mut headers = FieldTable::default();
        for (name, value) in carried_headers(self.0).inner() {
            let name_text = name.as_str();
            if !OBITUARY.contains(&name_text) && name_text != header::ATTEMPT {
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
        if let Some(portal) = portal.filter(|_| self.is_unknown() && !in_doubt) {
            set(&mut headers, header::PORTAL, long(portal));
        }
        // Whoever wrote the letter has proven it.
        if let Some(publisher) = header_text(self.headers(), header::PUBLISHER) {
            set(&mut headers, header::PUBLISHER, long(publisher));
        }
        if in_doubt {
            let unknown = PriorOutcome::Unknown.as_str();
            set(&mut headers, header::OUTCOME, long(unknown));
        }
        carried(self.0, headers)
    }
}
