//! The settlement table: how an attempt ended, and what becomes of its delivery.
//!
//! One rule: this is pure. No clock, no broker, no portal; the table of docs/design.md is the test below.

use std::time::Duration;

use crate::config::Rung;
use crate::document::Document;
use crate::irn::Irn;
use crate::irp::{EwayBill, Registration};
use crate::outcome::{ErrorEntry, Info, Reason, SignatureState, Status};
use crate::retry::Ladder;

/// From this attempt on, a session refused in two attempts in a row is given up.
const SESSION_REFUSALS: u32 = 4;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Registered, now or before, and its signed data has passed every check that is configured.
    Registered {
        registration: Box<Registration>,
        signature: SignatureState,
        recovered: bool,
    },
    /// Registered before, but its signed data can no longer be fetched.
    Partial {
        irn: Irn,
        ack_no: Option<String>,
        ack_date: Option<String>,
        errors: Vec<ErrorEntry>,
    },
    /// Its number is taken: by other content, by a cancelled document, or at another portal.
    Conflict {
        irn: Option<Irn>,
        errors: Vec<ErrorEntry>,
        info: Vec<Info>,
    },
    /// The document is refused, by the worker's own look or by the portal.
    Rejected {
        errors: Vec<ErrorEntry>,
        info: Vec<Info>,
    },
    /// The registration is cancelled, now or before (`recovered`).
    Cancelled {
        /// As it was before; none where the portal no longer gives it out.
        registration: Option<Box<Registration>>,
        /// RFC 3339; none where another request has cancelled it, because the portal does not say when.
        cancel_date: Option<String>,
        /// What the portal sent beside its answer.
        info: Vec<Info>,
        recovered: bool,
    },
    /// The registration that was asked for, whatever has become of it since.
    Found {
        registration: Box<Registration>,
        /// None where there is nothing signed: a registration that is no longer valid may come without.
        signature: Option<SignatureState>,
        /// What it is of, as its signed data says, where the job did not.
        document: Option<Box<Document>>,
    },
    /// Nothing of the kind is registered.
    NotFound,
    /// The e-way bill is issued, now or before (`recovered`).
    EwayBillIssued {
        bill: Box<EwayBill>,
        recovered: bool,
    },
    /// Its deadline passed before it could be submitted.
    Expired,
    /// Nothing was done, for a reason that may pass.
    Transient {
        code: String,
        not_before: Option<Duration>,
    },
    /// A request left and nobody knows what became of it.
    Unknown { code: String },
    /// In doubt, and a look-up found nothing done: too early to prove anything.
    NotFoundYet,
    /// A limit, a full lane or a twin of this document stands in the way.
    Deferred { wait: Duration, why: &'static str },
    /// No login is left here, and another replica has a session.
    PassedOn,
    /// It failed because the portal is down, for all jobs alike.
    PortalDown {
        /// Something was sent, and nothing came back.
        sent: bool,
    },
    /// The portal refused the token again, right after a fresh login.
    SessionRefused { code: String },
    /// Waiting would not help: a person has to look.
    GaveUp {
        reason: Reason,
        errors: Vec<ErrorEntry>,
    },
    /// A stop was asked before anything was sent.
    HandedBack,
    /// The delivery is no longer ours, or the grace is over.
    Abandoned { why: &'static str },
}

/// What is known of the job when its attempt has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    /// Which attempt this was, from 1.
    pub(super) attempt: u32,
    /// The last one it may have.
    pub(super) max_attempts: u32,
    /// The portal may have done what is asked for: it must be looked up before it is sent (again).
    pub(super) doubt: bool,
    /// Its doubt is younger than any rung it has waited on.
    pub(super) young_doubt: bool,
    /// The attempt before this one ended with the session refused, too.
    pub(super) session_refused_before: bool,
    /// No job is taken now, because the portal is down.
    pub(super) portal_down: bool,
    /// The attempt before this one failed because the portal was down.
    pub(super) portal_down_before: bool,
    /// Where it can wait.
    pub(super) ladder: &'a Ladder,
    /// Before this has passed, a look-up that finds nothing proves nothing.
    pub(super) settle_time: Duration,
}

/// What becomes of a delivery. The acknowledgement always comes last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    /// result → ack
    Answer(Status),
    /// ladder → ack; counted as an attempt or not
    Ladder { rung: Rung, counted: bool },
    /// dead letter → result (`failed`) → ack
    DeadLetter(Reason),
    /// back to its queue → ack
    HandBack,
    /// back to its queue, for another replica that consumes it → ack
    PassOn,
    /// nothing: the broker hands it to somebody else
    Leave,
}

impl Settlement {
    /// Whether the job is done with, one way or the other.
    pub(super) fn ends_job(&self) -> bool {
        match self {
            Self::Answer(_) | Self::DeadLetter(_) => true,
            Self::Ladder { .. } | Self::HandBack | Self::PassOn | Self::Leave => false,
        }
    }
}

/// What an ending obliges us to do with the delivery.
pub(super) fn settle(ending: &Ending, standing: &Standing<'_>) -> Settlement {
    match ending {
        Ending::Registered { .. } => Settlement::Answer(Status::Signed),
        Ending::Partial { .. } => Settlement::Answer(Status::Partial),
        Ending::Conflict { .. } => Settlement::Answer(Status::Conflict),
        Ending::Rejected { .. } => Settlement::Answer(Status::Rejected),
        Ending::Cancelled { .. } => Settlement::Answer(Status::Cancelled),
        Ending::Found { .. } => Settlement::Answer(Status::Found),
        Ending::NotFound => Settlement::Answer(Status::NotFound),
        Ending::EwayBillIssued { .. } => Settlement::Answer(Status::EwbIssued),
        Ending::Expired => Settlement::Answer(Status::Expired),
        Ending::Transient { not_before, .. } => {
            standing.again(not_before.unwrap_or_default(), Reason::RetriesExhausted)
        }
        Ending::Unknown { .. } => standing.again(Duration::ZERO, Reason::RetriesExhausted),
        Ending::SessionRefused { .. } if standing.session_is_hopeless() => {
            Settlement::DeadLetter(Reason::SessionRefused)
        }
        Ending::SessionRefused { .. } => standing.again(Duration::ZERO, Reason::SessionRefused),
        Ending::NotFoundYet => standing.later(Duration::ZERO),
        Ending::Deferred { wait, .. } => standing.later(*wait),
        Ending::PassedOn if standing.doubt => standing.later(Duration::ZERO),
        Ending::PassedOn => Settlement::PassOn,
        // A document that the portal never answers would look like a portal that is down, time and again.
        Ending::PortalDown { sent: true } if standing.portal_down_before => {
            standing.again(Duration::ZERO, Reason::RetriesExhausted)
        }
        // In doubt, it could not be settled at once; and into a queue that is consumed it would come back at once.
        Ending::PortalDown { .. } if standing.portal_down && !standing.doubt => {
            Settlement::HandBack
        }
        Ending::PortalDown { .. } => standing.later(Duration::ZERO),
        Ending::GaveUp { reason, .. } => Settlement::DeadLetter(*reason),
        // Back in its queue it would be taken up at once, before its doubt is old enough to be settled.
        Ending::HandedBack if standing.young_doubt => standing.later(Duration::ZERO),
        Ending::HandedBack => Settlement::HandBack,
        Ending::Abandoned { .. } => Settlement::Leave,
    }
}

impl Standing<'_> {
    /// A session that is refused once more after a fresh login may have been replaced by somebody else's login in
    /// between; refused so in attempt after attempt, it never was good, and every try costs the taxpayer two errors.
    fn session_is_hopeless(&self) -> bool {
        self.session_refused_before && self.attempt >= SESSION_REFUSALS
    }

    /// Another attempt, if one is left.
    fn again(&self, not_before: Duration, exhausted: Reason) -> Settlement {
        if self.attempt >= self.max_attempts {
            return Settlement::DeadLetter(exhausted);
        }
        let rung = self
            .ladder
            .after_attempt(self.attempt, not_before.max(self.age_of_doubt()));
        Settlement::Ladder {
            rung: rung.clone(),
            counted: true,
        }
    }

    /// The same attempt, later. It may leave the rung before its time: see `carry`.
    fn later(&self, wait: Duration) -> Settlement {
        let rung = self.ladder.at_least(wait.max(self.age_of_doubt())).clone();
        Settlement::Ladder {
            rung,
            counted: false,
        }
    }

    /// A job in doubt is looked at again no sooner than the portal has had time to finish what it may be doing.
    fn age_of_doubt(&self) -> Duration {
        if self.doubt {
            self.settle_time
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::irp::{SignedText, Validity};

    const SETTLE: Duration = Duration::from_secs(30);

    fn registration() -> Box<Registration> {
        Box::new(Registration {
            irn: "0".repeat(64).parse().unwrap(),
            ack_no: Some("112510000000001".to_owned()),
            ack_date: None,
            status: Validity::Cancelled,
            signed_invoice: SignedText::default(),
            signed_qr_code: SignedText::default(),
            eway_bill: None,
            info: Vec::new(),
        })
    }

    fn ladder() -> Ladder {
        let rung = |(name, seconds): (&str, u64)| Rung {
            name: name.to_owned(),
            delay: Duration::from_secs(seconds),
        };
        Ladder::try_new(
            [("15s", 15), ("1m", 60), ("5m", 300)]
                .into_iter()
                .map(rung)
                .collect(),
        )
        .unwrap()
    }

    fn standing(ladder: &Ladder) -> Standing<'_> {
        Standing {
            attempt: 1,
            max_attempts: 12,
            doubt: false,
            young_doubt: false,
            session_refused_before: false,
            portal_down: false,
            portal_down_before: false,
            ladder,
            settle_time: SETTLE,
        }
    }

    fn on(name: &str, counted: bool) -> Settlement {
        Settlement::Ladder {
            rung: ladder()
                .rungs()
                .iter()
                .find(|rung| rung.name == name)
                .unwrap()
                .clone(),
            counted,
        }
    }

    fn transient(not_before: Option<u64>) -> Ending {
        Ending::Transient {
            code: "503".to_owned(),
            not_before: not_before.map(Duration::from_secs),
        }
    }

    fn unknown() -> Ending {
        Ending::Unknown {
            code: "timeout".to_owned(),
        }
    }

    fn gave_up(reason: Reason) -> Ending {
        Ending::GaveUp {
            reason,
            errors: Vec::new(),
        }
    }

    #[test]
    fn every_row_of_the_table_settles_as_written() {
        let ladder = ladder();
        let fresh = standing(&ladder);
        let doubtful = Standing {
            doubt: true,
            ..fresh
        };
        let redelivered = Standing {
            young_doubt: true,
            ..doubtful
        };
        let paused = Standing {
            portal_down: true,
            ..fresh
        };
        let last = Standing {
            attempt: 12,
            ..fresh
        };
        let last_doubtful = Standing {
            attempt: 12,
            ..doubtful
        };
        let deferred = |seconds| Ending::Deferred {
            wait: Duration::from_secs(seconds),
            why: "rate",
        };
        let refused = Ending::SessionRefused {
            code: "1005".to_owned(),
        };
        let irn = "0".repeat(64).parse().unwrap();
        let partial = Ending::Partial {
            irn,
            ack_no: None,
            ack_date: None,
            errors: Vec::new(),
        };
        let conflict = Ending::Conflict {
            irn: None,
            errors: Vec::new(),
            info: Vec::new(),
        };
        let rejected = Ending::Rejected {
            errors: Vec::new(),
            info: Vec::new(),
        };
        let cancelled = Ending::Cancelled {
            registration: Some(registration()),
            cancel_date: None,
            info: Vec::new(),
            recovered: true,
        };
        let found = Ending::Found {
            registration: registration(),
            signature: None,
            document: None,
        };
        let issued = Ending::EwayBillIssued {
            bill: Box::new(EwayBill {
                members: RawValue::from_string("{}".to_owned()).unwrap(),
                status: Validity::Active,
                info: Vec::new(),
            }),
            recovered: false,
        };
        let rows: Vec<(&str, Ending, Standing<'_>, Settlement)> = vec![
            (
                "registered long ago",
                partial,
                fresh,
                Settlement::Answer(Status::Partial),
            ),
            (
                "number taken",
                conflict,
                fresh,
                Settlement::Answer(Status::Conflict),
            ),
            (
                "document refused",
                rejected,
                fresh,
                Settlement::Answer(Status::Rejected),
            ),
            (
                "cancelled",
                cancelled,
                fresh,
                Settlement::Answer(Status::Cancelled),
            ),
            ("found", found, fresh, Settlement::Answer(Status::Found)),
            (
                "nothing of the kind",
                Ending::NotFound,
                fresh,
                Settlement::Answer(Status::NotFound),
            ),
            (
                "e-way bill issued",
                issued,
                fresh,
                Settlement::Answer(Status::EwbIssued),
            ),
            (
                "deadline passed",
                Ending::Expired,
                fresh,
                Settlement::Answer(Status::Expired),
            ),
            ("transient", transient(None), fresh, on("15s", true)),
            (
                "transient, asked to wait",
                transient(Some(20)),
                fresh,
                on("1m", true),
            ),
            (
                "transient, asked to wait for a day",
                transient(Some(86_400)),
                fresh,
                on("5m", true),
            ),
            (
                "transient in doubt waits at least the settle time",
                transient(None),
                doubtful,
                on("1m", true),
            ),
            (
                "unknown waits at least the settle time",
                unknown(),
                doubtful,
                on("1m", true),
            ),
            (
                "transient, used up",
                transient(None),
                last,
                Settlement::DeadLetter(Reason::RetriesExhausted),
            ),
            (
                "unknown, used up",
                unknown(),
                last_doubtful,
                Settlement::DeadLetter(Reason::RetriesExhausted),
            ),
            ("token refused again", refused, fresh, on("15s", true)),
            (
                "redelivered, nothing found",
                Ending::NotFoundYet,
                redelivered,
                on("1m", false),
            ),
            ("limit, short", deferred(3), fresh, on("15s", false)),
            (
                "limit, long: on a rung that it may leave when the wait is over",
                deferred(200),
                fresh,
                on("5m", false),
            ),
            (
                "limit while in doubt",
                deferred(3),
                doubtful,
                on("1m", false),
            ),
            (
                "portal down, nothing sent",
                Ending::PortalDown { sent: false },
                paused,
                Settlement::HandBack,
            ),
            (
                "portal down, but jobs are still taken",
                Ending::PortalDown { sent: false },
                fresh,
                on("15s", false),
            ),
            (
                "portal down, something sent",
                Ending::PortalDown { sent: true },
                Standing {
                    doubt: true,
                    ..paused
                },
                on("1m", false),
            ),
            (
                "portal down, nothing sent this time nor the time before",
                Ending::PortalDown { sent: false },
                Standing {
                    portal_down_before: true,
                    ..paused
                },
                Settlement::HandBack,
            ),
            (
                "no answer, as the time before",
                Ending::PortalDown { sent: true },
                Standing {
                    doubt: true,
                    portal_down_before: true,
                    ..paused
                },
                on("1m", true),
            ),
            (
                "credentials refused",
                gave_up(Reason::CredentialsRefused),
                fresh,
                Settlement::DeadLetter(Reason::CredentialsRefused),
            ),
            (
                "bad signature",
                gave_up(Reason::BadSignature),
                fresh,
                Settlement::DeadLetter(Reason::BadSignature),
            ),
            (
                "panic",
                gave_up(Reason::Panicked),
                last,
                Settlement::DeadLetter(Reason::Panicked),
            ),
            (
                "no login left here, and another replica has a session",
                Ending::PassedOn,
                last,
                Settlement::PassOn,
            ),
            (
                "the same, and it is in doubt",
                Ending::PassedOn,
                doubtful,
                on("1m", false),
            ),
            (
                "stop asked, not started",
                Ending::HandedBack,
                fresh,
                Settlement::HandBack,
            ),
            (
                "stop asked, doubt already old",
                Ending::HandedBack,
                doubtful,
                Settlement::HandBack,
            ),
            (
                "stop asked, doubt still young",
                Ending::HandedBack,
                redelivered,
                on("1m", false),
            ),
            (
                "grace over",
                Ending::Abandoned { why: "grace over" },
                fresh,
                Settlement::Leave,
            ),
        ];
        for (name, ending, standing, expected) in rows {
            assert_eq!(settle(&ending, &standing), expected, "{name}");
        }
    }

    #[test]
    fn a_token_refused_attempt_after_attempt_is_given_up_before_the_retries_are() {
        let ladder = ladder();
        let refused = Ending::SessionRefused {
            code: "1005".to_owned(),
        };
        let at = |attempt, session_refused_before| Standing {
            attempt,
            session_refused_before,
            ..standing(&ladder)
        };
        let given_up = Settlement::DeadLetter(Reason::SessionRefused);
        assert_eq!(settle(&refused, &at(3, true)), on("5m", true));
        assert_eq!(settle(&refused, &at(4, false)), on("5m", true));
        assert_eq!(settle(&refused, &at(4, true)), given_up);
        assert_eq!(settle(&refused, &at(12, false)), given_up);
    }
}
