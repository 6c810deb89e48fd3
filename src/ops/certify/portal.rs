//! The calls of a run: one at a time, no faster than the rate, through the client that the worker uses.
//!
//! One rule: what may have been carried out is looked up before it is sent again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Halt;
use super::cases::{Action, Case, LoginAs, NOT_FOUND};
use super::journal::Answer;
use crate::config::credentials::{Account, Client};
use crate::config::{Config, IrpConfig, Rate};
use crate::irn::Irn;
use crate::irp::{Access, Irp, IrpConfigFault, IrpError, Refusal};
use crate::limits::{Admission, Breakers, Limits};
use crate::outcome::Disposition;
use crate::sessions::{NoSession, Session, Sessions};

/// So often a call is tried before the run stops, to go on later.
const TRIES: u32 = 5;

/// Before the second try; doubled for each of the others.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Nobody watches a run for longer than that: it is stopped, to go on later.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long a login waits inside the limiter before it says how long it would have to.
const PATIENCE: Duration = Duration::from_secs(1);

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

/// A portal, in one account's name.
pub(super) struct Portal {
    irp: Arc<Irp>,
    sessions: Sessions,
    limits: Arc<Limits>,
    account: Arc<Account>,
    settle_time: Duration,
    spacing: Duration,
    next: Instant,
    stop: CancellationToken,
}

/// What an error obliges to.
enum Next {
    Done(Box<Received>),
    /// Once more, after a wait.
    Again(Duration),
    /// Look first.
    Look,
    Stop(Halt),
}

/// How the case under way stands.
struct Trial {
    failed: u32,
    has_new_session: bool,
    /// When it was last sent without a readable answer.
    in_doubt: Option<Timestamp>,
}

impl Portal {
    /// Reads the files that the route's settings name.
    pub(super) fn new(
        config: &Config,
        route: &IrpConfig,
        account: &Arc<Account>,
        rate: Rate,
        stop: CancellationToken,
    ) -> Result<Self, IrpConfigFault> {
        let irp = Arc::new(Irp::try_new(route)?);
        let limits = Arc::new(Limits::new(&config.limits));
        let breakers = Breakers::named(1, route.route.as_deref(), false);
        let sessions = Sessions::new(
            Arc::clone(&irp),
            Arc::clone(&limits),
            Arc::new(breakers),
            TaskTracker::new(),
        );
        Ok(Self {
            irp,
            sessions,
            limits,
            account: Arc::clone(account),
            settle_time: route.settle_time,
            spacing: rate.period / rate.count.get(),
            next: Instant::now(),
            stop,
        })
    }

    /// Carries a case out to a readable answer. `in_doubt` is when an earlier run sent it, if nobody knows what came of
    /// that.
    pub(super) async fn carry_out(
        &mut self,
        case: &Case,
        in_doubt: Option<Timestamp>,
    ) -> Result<Received, Halt> {
        let mut trial = Trial {
            failed: 0,
            has_new_session: false,
            in_doubt,
        };
        loop {
            let (at, began, answered) = match trial.in_doubt {
                Some(sent) if leaves_a_trace(case) => {
                    let found = self.look(case, sent, &mut trial).await?;
                    if let Some(received) = found {
                        return Ok(received);
                    }
                    trial.in_doubt = None;
                    continue;
                }
                Some(_) | None => {
                    let session = match &case.action {
                        Action::Login(_) => None,
                        _ => Some(self.session().await?),
                    };
                    self.turn().await?;
                    let (at, began) = (Timestamp::now(), Instant::now());
                    let answered = match &session {
                        None => self.log_in(case).await?,
                        Some(session) => self.send(case, session).await,
                    };
                    if let Err(IrpError::Undecipherable) = &answered
                        && let Some(session) = &session
                    {
                        self.sessions.invalidate(session).await;
                    }
                    if let Err(IrpError::Refused(refusal)) = &answered
                        && refusal.disposition == Disposition::Reauth
                        && let Some(session) = &session
                    {
                        self.sessions.invalidate(session).await;
                    }
                    (at, began, answered)
                }
            };
            let received = |answer| Received::new(at, began.elapsed(), answer);
            match answered {
                Ok(irn) => {
                    let irn = irn.or_else(|| irn_of(case));
                    let irn = irn.map(|irn| irn.to_string());
                    return Ok(Received {
                        irn,
                        ..received(Answer::Accepted)
                    });
                }
                Err(error) => match judge(case, error, &mut trial, received(Answer::Refused)) {
                    Next::Done(received) => return Ok(*received),
                    Next::Again(wait) => self.rest(wait).await?,
                    Next::Look => trial.in_doubt = Some(at),
                    Next::Stop(halt) => return Err(halt),
                },
            }
        }
    }

    /// Waits for the next call's turn.
    async fn turn(&mut self) -> Result<(), Halt> {
        self.until(self.next).await?;
        self.next = Instant::now() + self.spacing;
        Ok(())
    }

    async fn rest(&self, wait: Duration) -> Result<(), Halt> {
        self.until(Instant::now() + wait).await
    }

    async fn until(&self, moment: Instant) -> Result<(), Halt> {
        let waited = self.stop.run_until_cancelled(sleep_until(moment)).await;
        waited.ok_or(Halt::Interrupted)
    }

    /// Two logins of a GSTIN are as far apart as the configuration says, whoever asks for them.
    async fn log_in(&self, case: &Case) -> Result<Result<Option<Irn>, IrpError>, Halt> {
        let Action::Login(who) = &case.action else {
            return Ok(Ok(None));
        };
        while let Admission::Wait(wait) =
            self.limits.admit_login(&self.account.gstin, PATIENCE).await
        {
            self.rest(wait).await?;
        }
        let stranger = stranger(&self.account, who);
        let account = stranger.as_ref().unwrap_or(&self.account);
        Ok(self.irp.login(account, false).await.map(|_| None))
    }

    async fn session(&self) -> Result<Arc<Session>, Halt> {
        let mut failed = 0;
        loop {
            let wait = match self.sessions.session(&self.account, None).await {
                Ok(session) => return Ok(session),
                Err(NoSession::Limited(wait)) => wait,
                Err(NoSession::PortalDown(wait)) if failed < TRIES => {
                    failed += 1;
                    wait
                }
                Err(NoSession::Failed(error)) if failed + 1 < TRIES => {
                    failed += 1;
                    pause(failed).max(error.disposition().not_before().unwrap_or_default())
                }
                Err(NoSession::PortalDown(_)) => {
                    return Err(Halt::Unreachable("it answers no logins".to_owned()));
                }
                Err(NoSession::Failed(error)) => return Err(unreachable(&error)),
                Err(NoSession::Refused(error)) => return Err(refused(&error)),
                Err(NoSession::Replaced) => return Err(Halt::Interrupted),
            };
            if wait > LONGEST_PAUSE {
                return Err(asks_for_too_much(wait));
            }
            self.rest(wait).await?;
        }
    }

    async fn send(&self, case: &Case, session: &Session) -> Result<Option<Irn>, IrpError> {
        let access = session.access();
        let irp = &self.irp;
        match &case.action {
            Action::Login(_) => Ok(None),
            Action::Gstin(gstin) => irp.gstin_details(&access, gstin).await.map(|_| None),
            Action::SyncGstin(gstin) => irp.sync_gstin(&access, gstin).await.map(|_| None),
            Action::Generate { document, .. } => irp
                .generate(&access, document.as_bytes())
                .await
                .map(|registration| Some(registration.irn)),
            Action::ByIrn(irn) => self.by_irn(&access, irn).await.map(|(irn, _)| Some(irn)),
            Action::ByDocument { kind, number, date } => irp
                .by_document(&access, &self.account.gstin, *kind, number, date)
                .await
                .map(|registration| Some(registration.irn)),
            Action::EwayBill { payload, .. } => irp
                .eway_bill(&access, payload.as_bytes())
                .await
                .map(|_| None),
            Action::EwayBillByIrn(irn) => irp.eway_bill_by_irn(&access, irn).await.map(|_| None),
            Action::Cancel {
                irn,
                reason,
                remark,
                ..
            } => irp
                .cancel(&access, irn, reason, remark)
                .await
                .map(|cancellation| Some(cancellation.irn)),
        }
    }

    /// The IRN, and whether it is cancelled.
    async fn by_irn(&self, access: &Access<'_>, irn: &Irn) -> Result<(Irn, bool), IrpError> {
        let found = self.irp.by_irn(access, &self.account.gstin, irn).await?;
        Ok((found.irn, found.status == "CNL"))
    }

    /// Whether what was sent then was carried out. That nothing is found means something only when the portal has had
    /// time to finish (`irp.settle_time`).
    async fn look(
        &mut self,
        case: &Case,
        sent: Timestamp,
        trial: &mut Trial,
    ) -> Result<Option<Received>, Halt> {
        loop {
            let session = self.session().await?;
            self.turn().await?;
            let began = Instant::now();
            let asked = Timestamp::now();
            let found = match &case.action {
                Action::Generate { irn, .. } => self
                    .by_irn(&session.access(), irn)
                    .await
                    .map(|(irn, _)| Some(irn)),
                Action::Cancel { irn, .. } => self
                    .by_irn(&session.access(), irn)
                    .await
                    .map(|(irn, is_cancelled)| is_cancelled.then_some(irn)),
                Action::EwayBill { irn, .. } => self
                    .irp
                    .eway_bill_by_irn(&session.access(), irn)
                    .await
                    .map(|_| Some(*irn)),
                Action::Login(_)
                | Action::Gstin(_)
                | Action::SyncGstin(_)
                | Action::ByIrn(_)
                | Action::ByDocument { .. }
                | Action::EwayBillByIrn(_) => return Ok(None),
            };
            let error = match found {
                Ok(Some(irn)) => {
                    return Ok(Some(Received {
                        irn: Some(irn.to_string()),
                        looked_up: true,
                        ..Received::new(sent, began.elapsed(), Answer::Accepted)
                    }));
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            match error {
                Some(error) if !is_absent(&error) => {
                    if error.disposition() == Disposition::Reauth {
                        self.sessions.invalidate(&session).await;
                    }
                    trial.failed += 1;
                    if trial.failed >= TRIES {
                        return Err(unreachable(&error));
                    }
                    let asked_for = error.disposition().not_before().unwrap_or_default();
                    if asked_for > LONGEST_PAUSE {
                        return Err(asks_for_too_much(asked_for));
                    }
                    self.rest(pause(trial.failed).max(asked_for)).await?;
                }
                Some(_) | None => {
                    let age = Duration::try_from(asked.duration_since(sent)).unwrap_or_default();
                    if age >= self.settle_time {
                        return Ok(None);
                    }
                    self.rest(self.settle_time - age).await?;
                }
            }
        }
    }
}

impl Received {
    fn new(at: Timestamp, took: Duration, answer: Answer) -> Self {
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

    fn refused(self, refusal: &Refusal) -> Self {
        let is_nothing =
            refusal.code().is_empty() && refusal.disposition == Disposition::NotRegistered;
        let name = |code: &str| {
            if is_nothing {
                NOT_FOUND.to_owned()
            } else {
                code.to_owned()
            }
        };
        let decisive = refusal
            .faults
            .iter()
            .find(|fault| fault.code == refusal.code());
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
}

/// A text of the portal's in one short line.
fn shown(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(MESSAGE_CHARS).collect()
}

/// Somebody whom there is not, in this account's place.
fn stranger(account: &Account, who: &LoginAs) -> Option<Account> {
    let (client_id, username) = match who {
        LoginAs::Account => return None,
        LoginAs::User(name) => (account.client.id.clone(), name.clone()),
        LoginAs::Client(id) => (id.clone(), account.username.clone()),
    };
    Some(Account {
        gstin: account.gstin,
        client: Arc::new(Client {
            id: client_id,
            ..Client::clone(&account.client)
        }),
        username,
        password: account.password.clone(),
    })
}

/// The registration a case is about.
fn irn_of(case: &Case) -> Option<Irn> {
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

fn is_absent(error: &IrpError) -> bool {
    error.disposition() == Disposition::NotRegistered
}

/// Doubled each time.
fn pause(failed: u32) -> Duration {
    FIRST_PAUSE * 2_u32.saturating_pow(failed.saturating_sub(1)).min(64)
}

fn unreachable(error: &IrpError) -> Halt {
    Halt::Unreachable(format!("{error}: {}", error.cause()))
}

fn refused(error: &IrpError) -> Halt {
    let code = error.code().unwrap_or_default();
    let meaning =
        crate::irp::codes::explain(code).map(|row| format!(": {}. {}", row.meaning, row.remedy));
    Halt::Refused(format!("{error}{}", meaning.unwrap_or_default()))
}

fn asks_for_too_much(wait: Duration) -> Halt {
    Halt::Unreachable(format!(
        "it asks to be left alone for {} minutes",
        wait.as_secs().div_ceil(60)
    ))
}

/// What to do about an answer that is no success.
fn judge(case: &Case, error: IrpError, trial: &mut Trial, received: Received) -> Next {
    let refusal = match &error {
        IrpError::Refused(refusal) => Some(&**refusal),
        IrpError::NotSent(_)
        | IrpError::Unsendable { .. }
        | IrpError::Unconfirmed { .. }
        | IrpError::Server { .. }
        | IrpError::Throttled { .. }
        | IrpError::Undecipherable
        | IrpError::Unintelligible { .. } => None,
    };
    if let Some(refusal) = refusal {
        let refused = received.clone().refused(refusal);
        if refused
            .codes
            .iter()
            .any(|code| case.expected.contains(&code.as_str()))
        {
            return Next::Done(Box::new(refused));
        }
    }
    // What is kept where nothing is to be done about it.
    let done = |received: Received| {
        let kept = match refusal {
            Some(refusal) => received.refused(refusal),
            None => Received {
                answer: Answer::Unreadable,
                message: Some(error.to_string()),
                ..received
            },
        };
        Next::Done(Box::new(kept))
    };
    match error.disposition() {
        Disposition::Retry { not_before } => {
            trial.failed += 1;
            let wait = pause(trial.failed).max(not_before.unwrap_or_default());
            if wait > LONGEST_PAUSE {
                return Next::Stop(asks_for_too_much(wait));
            }
            if trial.failed < TRIES {
                return Next::Again(wait);
            }
            if refusal.is_some() {
                done(received)
            } else {
                Next::Stop(unreachable(&error))
            }
        }
        Disposition::Resolve => {
            trial.failed += 1;
            if trial.failed < TRIES {
                return if leaves_a_trace(case) {
                    Next::Look
                } else {
                    Next::Again(pause(trial.failed))
                };
            }
            if refusal.is_some() {
                done(received)
            } else {
                Next::Stop(unreachable(&error))
            }
        }
        Disposition::Reauth if !trial.has_new_session => {
            trial.has_new_session = true;
            if refusal.is_none() && leaves_a_trace(case) {
                Next::Look
            } else {
                Next::Again(Duration::ZERO)
            }
        }
        Disposition::RefuseAccount if !is_a_strangers(case) => Next::Stop(refused(&error)),
        Disposition::Reauth
        | Disposition::RefuseAccount
        | Disposition::Adopt
        | Disposition::Conflict
        | Disposition::SyncGstin
        | Disposition::Reject
        | Disposition::NotRegistered
        | Disposition::TooOld
        | Disposition::Park => done(received),
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
