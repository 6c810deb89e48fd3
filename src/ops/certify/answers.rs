//! What an answer to a case means, and what it obliges the run to do.
//!
//! One rule: nothing is sent here. What is decided follows from the case, the answer, and how often it was tried.

use std::time::Duration;

use jiff::Timestamp;

use super::Halt;
use super::cases::{Action, Case, LoginAs, NOT_FOUND};
use super::journal::Answer;
use crate::irn::Irn;
use crate::irp::{IrpError, Refusal, codes};
use crate::outcome::Disposition;

/// So often a call is tried before the run stops, to go on later.
const TRIES: u32 = 5;

/// Before the second try; doubled for each of the others.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Nobody watches a run for longer than that: it is stopped, to go on later.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// A longer text of the portal's is cut.
const MESSAGE_CHARS: usize = 200;

/// What came of a case.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) at: Timestamp,
    pub(super) took: Duration,
    pub(super) answer: Answer,
    pub(super) code: Option<String>,
    pub(super) codes: Vec<String>,
    pub(super) message: Option<String>,
    pub(super) irn: Option<String>,
    pub(super) looked_up: bool,
}

impl Received {
    /// Without a code.
    pub(super) fn new(at: Timestamp, took: Duration, answer: Answer) -> Self {
        Self {
            at,
            took,
            answer,
            code: None,
            codes: Vec::new(),
            message: None,
            irn: None,
            looked_up: false,
        }
    }

    /// The same, with the portal's codes and the text of the one that decides.
    fn refused(self, refusal: &Refusal) -> Self {
        let decisive = refusal
            .faults
            .iter()
            .find(|fault| fault.code == refusal.code());
        // A portal that finds nothing may send nothing at all.
        let is_absent = refusal.disposition == Disposition::NotRegistered;
        let name = |code: &str| {
            let code = if is_absent && code.is_empty() {
                NOT_FOUND
            } else {
                code
            };
            code.to_owned()
        };
        Self {
            code: Some(name(refusal.code())),
            codes: refusal
                .faults
                .iter()
                .map(|fault| name(&fault.code))
                .collect(),
            message: decisive.map(|fault| shown(&fault.message)),
            ..self
        }
    }

    /// What is kept where nothing is to be done about an error.
    fn kept(self, error: &IrpError) -> Self {
        match error.refusal() {
            Some(refusal) => self.refused(refusal),
            None => Self {
                answer: Answer::Unreadable,
                message: Some(error.to_string()),
                ..self
            },
        }
    }
}

/// A text of the portal's in one short line.
fn shown(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(MESSAGE_CHARS).collect()
}

/// How a case under way stands.
#[derive(Debug, Default)]
pub(super) struct Trial {
    failed: u32,
    has_new_session: bool,
}

/// What is to be done now.
#[derive(Debug)]
pub(super) enum Next {
    Done(Box<Received>),
    /// Once more, after a wait.
    Again(Duration),
    /// It may have been carried out.
    Look,
    Stop(Halt),
}

impl Trial {
    /// What to do about an answer to this case that is no success; `refused` is what is known of it but for its codes.
    pub(super) fn judge(&mut self, case: &Case, error: &IrpError, refused: Received) -> Next {
        let received = refused.kept(error);
        let is_expected = |code: &String| case.expected.contains(&code.as_str());
        // A code may stand for an outage as well, as its text tells.
        let will_pass = matches!(
            error.disposition(),
            Disposition::Retry { .. } | Disposition::Resolve
        );
        if !will_pass && received.codes.iter().any(is_expected) {
            return Next::Done(Box::new(received));
        }
        match error.disposition() {
            Disposition::Retry { .. } => match self.pause(error) {
                Err(_) if is_an_answer(error) => Next::Done(Box::new(received)),
                Err(halt) => Next::Stop(halt),
                // Even a refusal that will pass may have come after the portal acted.
                Ok(_) if error.refusal().is_some() && leaves_a_trace(case) => Next::Look,
                Ok(wait) => Next::Again(wait),
            },
            Disposition::Resolve => match self.pause(error) {
                Err(_) if is_an_answer(error) => Next::Done(Box::new(received)),
                Err(halt) => Next::Stop(halt),
                Ok(_) if leaves_a_trace(case) => Next::Look,
                Ok(wait) => Next::Again(wait),
            },
            Disposition::Reauth if !self.has_new_session => {
                self.has_new_session = true;
                // A success that our key does not open is one all the same.
                if error.refusal().is_none() && leaves_a_trace(case) {
                    Next::Look
                } else {
                    Next::Again(Duration::ZERO)
                }
            }
            Disposition::RefuseAccount if !is_a_strangers(case) => {
                Next::Stop(refused_account(error))
            }
            Disposition::Reauth
            | Disposition::RefuseAccount
            | Disposition::Adopt
            | Disposition::Conflict
            | Disposition::SyncGstin
            | Disposition::Reject
            | Disposition::NotRegistered
            | Disposition::TooOld
            | Disposition::Park => Next::Done(Box::new(received)),
        }
    }

    /// How long to wait before the next try.
    ///
    /// # Errors
    /// When there is none, or the portal asks for a longer wait than anybody has.
    pub(super) fn pause(&mut self, error: &IrpError) -> Result<Duration, Halt> {
        self.failed += 1;
        if self.failed >= TRIES {
            return Err(Halt::Unreachable(format!("{error}: {}", error.cause())));
        }
        let own = FIRST_PAUSE * 2_u32.saturating_pow(self.failed - 1);
        bearable(own.max(error.disposition().not_before().unwrap_or_default()))
    }

    /// The same where it is not known what failed.
    pub(super) fn pause_of(&mut self, wait: Duration) -> Result<Duration, Halt> {
        self.failed += 1;
        if self.failed >= TRIES {
            return Err(Halt::Unreachable("it answers no logins".to_owned()));
        }
        bearable(wait)
    }
}

fn bearable(wait: Duration) -> Result<Duration, Halt> {
    if wait <= LONGEST_PAUSE {
        return Ok(wait);
    }
    let minutes = wait.as_secs().div_ceil(60);
    Err(Halt::Unreachable(format!(
        "it asks to be left alone for {minutes} minutes"
    )))
}

/// The account itself is refused.
pub(super) fn refused_account(error: &IrpError) -> Halt {
    let meaning = error.code().and_then(codes::explain);
    let meaning = meaning.map(|row| format!(" ({}; {})", row.meaning, row.remedy));
    Halt::Refused(format!("{error}{}", meaning.unwrap_or_default()))
}

/// Whether the portal is there and has answered this case, if not as it should: a gateway may refuse what is wrongly
/// formed with a status and no more. No later run would get another answer.
fn is_an_answer(error: &IrpError) -> bool {
    let refuses = |status: u16| (400..500).contains(&status) && ![408, 425, 429].contains(&status);
    error.refusal().is_some() || error.bare_status().is_some_and(refuses)
}

/// The registration a case is about.
pub(super) fn irn_of(case: &Case) -> Option<Irn> {
    match &case.action {
        Action::Generate { irn, .. }
        | Action::EwayBill { irn, .. }
        | Action::Cancel { irn, .. }
        | Action::ByIrn(irn)
        | Action::EwayBillByIrn(irn) => Some(*irn),
        Action::Login(_) | Action::Gstin(_) | Action::SyncGstin(_) | Action::ByDocument { .. } => {
            None
        }
    }
}

/// Whether a look-up can tell that this case was carried out.
pub(super) fn leaves_a_trace(case: &Case) -> bool {
    match &case.action {
        Action::Generate { is_new: trace, .. }
        | Action::EwayBill {
            may_issue: trace, ..
        }
        | Action::Cancel {
            may_cancel: trace, ..
        } => *trace,
        Action::Login(_)
        | Action::Gstin(_)
        | Action::SyncGstin(_)
        | Action::ByIrn(_)
        | Action::ByDocument { .. }
        | Action::EwayBillByIrn(_) => false,
    }
}

/// Whether it is not the account itself that is refused.
fn is_a_strangers(case: &Case) -> bool {
    match &case.action {
        Action::Login(LoginAs::User(_) | LoginAs::Client(_)) => true,
        Action::Login(LoginAs::Account)
        | Action::Gstin(_)
        | Action::SyncGstin(_)
        | Action::Generate { .. }
        | Action::ByIrn(_)
        | Action::ByDocument { .. }
        | Action::EwayBill { .. }
        | Action::EwayBillByIrn(_)
        | Action::Cancel { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irp::Unreadable;
    use crate::ops::certify::cases::{Api, Kind};

    fn case(action: Action) -> Case {
        Case {
            id: "GEN-S-001".to_owned(),
            api: Api::Generate,
            kind: Kind::Success,
            title: String::new(),
            expected: Vec::new(),
            action,
        }
    }

    fn irn() -> Irn {
        let gstin = "29AAGCE4783K1Z1".parse().unwrap();
        let date = jiff::civil::date(2026, 11, 28);
        Irn::compute(&gstin, date, crate::irn::DocumentType::Invoice, "A1")
    }

    fn generate() -> Case {
        case(Action::Generate {
            irn: irn(),
            document: String::new(),
            is_new: true,
        })
    }

    fn judged(trial: &mut Trial, case: &Case, error: &IrpError) -> Next {
        let refused = Received::new(Timestamp::UNIX_EPOCH, Duration::ZERO, Answer::Refused);
        trial.judge(case, error, refused)
    }

    fn throttled(seconds: u64) -> IrpError {
        IrpError::Throttled {
            retry_after: Some(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn portal_that_asks_for_a_wait_is_waited_for_as_long_as_it_asks_up_to_a_quarter_of_an_hour() {
        let case = generate();
        let asked = |seconds| judged(&mut Trial::default(), &case, &throttled(seconds));
        assert!(matches!(asked(600), Next::Again(wait) if wait == Duration::from_secs(600)));
        assert!(
            matches!(asked(1200), Next::Stop(Halt::Unreachable(said)) if said.contains("20 minutes"))
        );
    }

    #[test]
    fn outage_under_an_expected_code_is_no_expected_refusal() {
        let fault = |message: &str| crate::irp::Fault {
            code: "5002".to_owned(),
            message: message.to_owned(),
        };
        let refused = |message: &str| {
            let faults = vec![fault(message)];
            let refusal =
                Refusal::judge(codes::Call::Generate, &[], None, faults, Vec::new(), None);
            IrpError::Refused(refusal.unwrap())
        };
        let mut case = generate();
        case.expected = vec!["5002"];
        let judge = |message: &str| judged(&mut Trial::default(), &case, &refused(message));
        assert!(matches!(judge("The field No is invalid"), Next::Done(_)));
        assert!(matches!(judge("Application error, issue"), Next::Look));
    }

    #[test]
    fn portal_that_never_answers_stops_the_run_and_is_no_result_of_a_case() {
        let (case, mut trial) = (generate(), Trial::default());
        let tries = (1..=TRIES).map(|_| judged(&mut trial, &case, &throttled(0)));
        let tries: Vec<Next> = tries.collect();
        let (last, first) = tries.split_last().unwrap();
        assert!(first.iter().all(|next| matches!(next, Next::Again(_))));
        assert!(matches!(last, Next::Stop(Halt::Unreachable(_))));
    }

    #[test]
    fn status_without_a_word_is_an_answer_to_the_case_once_it_was_asked_often_enough() {
        let refused = |status| IrpError::Unconfirmed {
            why: Unreadable::Status(status),
            retry_after: None,
        };
        for (status, is_one) in [(400, true), (403, true), (408, false), (502, false)] {
            let (case, mut trial) = (generate(), Trial::default());
            let tries = (1..=TRIES).map(|_| judged(&mut trial, &case, &refused(status)));
            let tries: Vec<Next> = tries.collect();
            let (last, first) = tries.split_last().unwrap();
            assert!(
                first.iter().all(|next| matches!(next, Next::Look)),
                "{status}"
            );
            assert_eq!(matches!(last, Next::Done(_)), is_one, "{status}: {last:?}");
        }
    }

    #[test]
    fn what_may_have_been_registered_is_looked_up_and_what_only_asks_is_asked_again() {
        let unreadable = IrpError::Undecipherable;
        let mut trial = Trial::default();
        assert!(matches!(
            judged(&mut trial, &generate(), &unreadable),
            Next::Look
        ));
        let question = case(Action::ByIrn(irn()));
        let mut trial = Trial::default();
        assert!(matches!(
            judged(&mut trial, &question, &unreadable),
            Next::Again(_)
        ));
        let Next::Done(received) = judged(&mut trial, &question, &unreadable) else {
            panic!("a second session that does not fit either is tried a third time");
        };
        assert_eq!(received.answer, Answer::Unreadable);
    }
}
