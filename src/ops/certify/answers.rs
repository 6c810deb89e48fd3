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
        let name = |code: &str| match refusal.disposition {
            Disposition::NotRegistered if code.is_empty() => NOT_FOUND.to_owned(),
            _ => code.to_owned(),
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
        match refusal_of(error) {
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
        if received.codes.iter().any(is_expected) {
            return Next::Done(Box::new(received));
        }
        match error.disposition() {
            Disposition::Retry { .. } => match self.pause(error) {
                Err(_) if refusal_of(error).is_some() => Next::Done(Box::new(received)),
                Err(halt) => Next::Stop(halt),
                Ok(wait) => Next::Again(wait),
            },
            Disposition::Resolve => match self.pause(error) {
                Err(_) if refusal_of(error).is_some() => Next::Done(Box::new(received)),
                Err(halt) => Next::Stop(halt),
                Ok(_) if leaves_a_trace(case) => Next::Look,
                Ok(wait) => Next::Again(wait),
            },
            Disposition::Reauth if !self.has_new_session => {
                self.has_new_session = true;
                // A success that our key does not open is one all the same.
                if refusal_of(error).is_none() && leaves_a_trace(case) {
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

fn refusal_of(error: &IrpError) -> Option<&Refusal> {
    match error {
        IrpError::Refused(refusal) => Some(refusal),
        IrpError::NotSent(_)
        | IrpError::Unsendable { .. }
        | IrpError::Unconfirmed { .. }
        | IrpError::Server { .. }
        | IrpError::Throttled { .. }
        | IrpError::Undecipherable
        | IrpError::Unintelligible { .. } => None,
    }
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
