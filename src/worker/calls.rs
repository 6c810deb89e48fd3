//! Portal calls of one attempt: admitted by the limits, under a live session, repeated where that is harmless.
//!
//! One rule: before each call the delivery must still be ours and no stop asked; after a stop, what has not been sent
//! is not sent.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Worker;
use super::case::{Case, LOGIN_RATE};
use super::lanes::{Closed, PATIENCE};
use super::paused;
use super::portal;
use super::portals::Portal;
use super::settle::Ending;
use crate::config::credentials::Account;
use crate::crash::Point;
use crate::gstin::Gstin;
use crate::irp::{IrpError, Refusal};
use crate::limits::{Admission, Allowance, Reservation, Scope, Stopped};
use crate::outcome::{Disposition, ErrorEntry, PortalSign, Reason};
use crate::retry::ImmediateTries;
use crate::sessions::{NoSession, Session};
use crate::telemetry;

mod questions;
mod submissions;
mod sync;

pub(super) use questions::LookUp;

/// The calls of one attempt.
pub(super) struct Calls<'a> {
    worker: &'a Worker,
    portal: &'a Portal,
    /// The part of the portal that is called.
    scope: Scope,
    case: &'a Case,
    account: Arc<Account>,
    tries: ImmediateTries,
    /// A session has been replaced in this attempt already: once is all.
    reauthenticated: bool,
    /// Room in the error budget for the answer of the call that is about to be made.
    room: Option<Reservation>,
    /// How far the portal's clock is ahead of ours.
    clock_ahead: Option<SignedDuration>,
    /// An earlier request is not settled: what becomes of this one says nothing of it.
    earlier_doubt: bool,
}

/// An answer, the portal's error, or the attempt is over.
type Answer<T> = Result<Result<T, IrpError>, Box<Ending>>;

impl<'a> Calls<'a> {
    /// Calls to one portal.
    pub(super) fn new(
        worker: &'a Worker,
        case: &'a Case,
        account: Arc<Account>,
        portal: &'a Portal,
    ) -> Self {
        let tries = ImmediateTries::new(worker.config.retry.immediate_max_elapsed);
        Self {
            worker,
            portal,
            scope: Scope::Core,
            case,
            account,
            tries,
            reauthenticated: false,
            room: None,
            clock_ahead: None,
            earlier_doubt: false,
        }
    }

    /// The next submit is made though nobody knows what became of an earlier one: that stays in doubt, whatever becomes of
    /// this, until the portal's word on the matter itself ends it.
    pub(super) fn keep_doubt(&mut self) {
        self.earlier_doubt = true;
    }

    /// The same to its e-way-bill service, which may be down by itself.
    pub(super) fn for_eway_bills(self) -> Self {
        Self {
            scope: Scope::EwayBill,
            ..self
        }
    }

    /// What time it is by the clock that the portal dates its answers by, as far as the last login showed.
    pub(super) fn portal_now(&self) -> Option<Timestamp> {
        Timestamp::now().checked_add(self.clock_ahead?).ok()
    }

    /// The portal that is called.
    pub(super) fn portal(&self) -> &'a Portal {
        self.portal
    }

    /// The account in whose name it is called.
    pub(super) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account)
    }

    /// Whose credentials are used.
    pub(super) fn gstin(&self) -> Gstin {
        self.account.gstin
    }

    /// The account is refused in the middle of things: none of its jobs goes on.
    pub(super) async fn account_refused(&self, error: IrpError) -> Ending {
        let errors = entries(&error);
        self.portal
            .sessions
            .refuse(&self.account, Arc::new(error))
            .await;
        Ending::GaveUp {
            reason: Reason::CredentialsRefused,
            errors,
        }
    }

    /// A session and the right to call now.
    async fn ready(&mut self) -> Result<Arc<Session>, Box<Ending>> {
        let asked = Instant::now();
        let session = loop {
            let session = match self.admitted().await {
                Ok(session) => session,
                Err(ending) => break Err(ending),
            };
            // While it waited for its turn another call may have been told that the session is over.
            if let Some(session) = self.portal.sessions.now_instead_of(session).await {
                self.clock_ahead = session.clock_ahead();
                break Ok(session);
            }
            // A login wants room of its own.
            self.room = None;
        };
        self.case.leaves_head();
        self.case.add_wait(asked.elapsed());
        session
    }

    async fn admitted(&mut self) -> Result<Arc<Session>, Box<Ending>> {
        if let Some(whose) = self.worker.limits.stopped(&self.account) {
            return Err(Box::new(budget_stopped(whose)));
        }
        self.unless_paused()?;
        self.portal.unless_down(self.scope)?;
        let case = self.case;
        let session = case.briefly_at_head(self.session()).await?;
        let patience = self.worker.routes.patience();
        // The rate comes last: calls that had taken theirs and then waited would all go together.
        let ready = self
            .portal
            .ready(self.scope, &self.account.gstin, patience, &self.worker.stop);
        case.briefly_at_head(ready).await?;
        let class = self.case.job.class();
        let admitting = self
            .worker
            .limits
            .admit_call(&self.account, class, PATIENCE);
        match admitting.await {
            Admission::Granted => {
                self.worker.crash.at(Point::SessionReady);
                self.portal
                    .is_ready_still(self.scope, &self.account.gstin, patience, &self.worker.stop)
                    .await?;
                self.make_room()?;
                self.unless_paused()?;
                self.still_ours().map(|()| session)
            }
            Admission::Wait(wait) => {
                // At a rate so slow each of its jobs would find the same, as fast as the broker hands them out.
                if wait > PATIENCE {
                    self.worker
                        .lanes
                        .close(&self.account.gstin, wait, Closed::Rate);
                }
                Err(Box::new(Ending::Deferred { wait, why: "rate" }))
            }
        }
    }

    /// A session of the account that is configured now: what was refused or is about to be sent may be out of date.
    async fn session(&mut self) -> Result<Arc<Session>, Box<Ending>> {
        let span = self.case.span.as_ref();
        let asking = span.map(|span| (span, &*self.portal.name));
        loop {
            self.renew_account()?;
            // A stop does not wait for a login.
            let session = tokio::select! {
                session = self.portal.sessions.session(&self.account, asking) => session,
                () = self.worker.stop.cancelled() => return Err(Box::new(Ending::HandedBack)),
            };
            let no_session = match session {
                Ok(session) => return Ok(session),
                Err(no_session) => no_session,
            };
            return Err(Box::new(match no_session {
                NoSession::Replaced => continue,
                NoSession::Limited(wait) => self.login_limited(wait),
                NoSession::Refused(error) => {
                    self.case.note_code(&label(&error));
                    Ending::GaveUp {
                        reason: Reason::CredentialsRefused,
                        errors: entries(&error),
                    }
                }
                NoSession::Failed(error) => {
                    self.case.note_code(&label(&error));
                    if self.portal.logins_are_down(self.case).await {
                        portal::NOT_ASKED
                    } else {
                        login_failed(&error)
                    }
                }
                NoSession::PortalDown(_) => portal::NOT_ASKED,
            }));
        }
    }

    /// No login is left for so long. Each of its jobs would find the same, as fast as the broker hands them out: their lane is
    /// closed, and what another replica can do is left to it.
    fn login_limited(&self, wait: Duration) -> Ending {
        let (worker, gstin) = (self.worker, self.account.gstin);
        // With two portals there may be a session at the other.
        let route = worker.routes.of(&self.account);
        let is_one = route.is_some_and(|route| !route.portals().are_two());
        let closed_for = if is_one && worker.limits.is_logged_in_elsewhere(&gstin) {
            let every = worker.limits.spacing_of_all(&self.account) / 2;
            Closed::LoginElsewhere { every }
        } else {
            Closed::Login
        };
        worker.lanes.close(&gstin, wait, closed_for);
        if is_one {
            worker.limits.leave_to_others(gstin);
        }
        let (class, around) = (self.case.job.class(), worker.around_one(self.case));
        if worker.lanes.is_passed_on(&gstin, class, around) {
            return Ending::PassedOn;
        }
        Ending::Deferred {
            wait,
            why: LOGIN_RATE,
        }
    }

    /// Goes on with the account that is configured now.
    fn renew_account(&mut self) -> Result<(), Box<Ending>> {
        let credentials = self.worker.credentials.load();
        let Some(account) = credentials.accounts.get(&self.account.gstin) else {
            return Err(Box::new(no_credentials()));
        };
        // These calls go to the portal of the route before: nothing of the new one is sent there.
        if account.client.route != self.account.client.route {
            return Err(Box::new(Ending::Deferred {
                wait: Duration::ZERO,
                why: "route changed",
            }));
        }
        self.account = Arc::clone(account);
        Ok(())
    }

    /// Makes sure that an error as the answer would not overrun the budget.
    fn make_room(&mut self) -> Result<(), Box<Ending>> {
        // The room of the call before goes first, or one job alone could take the last two.
        self.room = None;
        match self.worker.limits.reserve_error(&self.account) {
            Allowance::Granted(room) => {
                self.room = Some(room);
                Ok(())
            }
            Allowance::Busy => Err(Box::new(Ending::Deferred {
                wait: PATIENCE,
                why: "error budget",
            })),
            Allowance::Stopped(whose) => Err(Box::new(budget_stopped(whose))),
        }
    }

    fn unless_paused(&self) -> Result<(), Box<Ending>> {
        match paused::before_call(self.worker, self.case, &self.account) {
            Some(ending) => Err(Box::new(ending)),
            None => Ok(()),
        }
    }

    fn still_ours(&self) -> Result<(), Box<Ending>> {
        if !self.case.acknowledger.is_live() {
            return Err(Box::new(TAKEN_BACK));
        }
        if self.worker.stop.is_cancelled() {
            Err(Box::new(Ending::HandedBack))
        } else {
            Ok(())
        }
    }

    /// Runs one call and tells of it.
    async fn observed<T>(
        &mut self,
        call: &'static str,
        request: impl Future<Output = Result<T, IrpError>>,
    ) -> Result<T, IrpError> {
        let started = Instant::now();
        let scope = portal::scope_of(call);
        let under_way = self.portal.breakers.begin(scope, &self.account.gstin);
        let span = self.case.span.as_ref();
        let span = span.map(|span| span.call(call, &self.portal.name));
        let answer = request.await;
        let taken = started.elapsed();
        let sign = match &answer {
            Ok(_) => Some(PortalSign::Answered),
            Err(error) => error.sign(),
        };
        under_way.end(sign);
        if let (Scope::Core, Some(sign)) = (scope, sign) {
            self.portal.slots.observe(taken, sign, &self.account.gstin);
        }
        self.case.add_irp_time(taken);
        match &answer {
            Ok(_) => telemetry::irp_called(call, "ok", None, taken, span),
            Err(error) => {
                telemetry::irp_called(call, error.call_result_label(), error.code(), taken, span);
                self.case.note_code(&label(error));
                if error.is_counted() {
                    self.worker.limits.count_error(&self.account);
                }
            }
        }
        self.room = None;
        answer
    }

    /// Drops the refused session, once in an attempt.
    async fn renew_once(&mut self, session: &Session, error: &IrpError) -> Result<(), Box<Ending>> {
        self.portal.sessions.invalidate(session).await;
        if self.reauthenticated {
            return Err(Box::new(Ending::SessionRefused { code: label(error) }));
        }
        self.reauthenticated = true;
        Ok(())
    }

    /// What fails because the portal is down ends the attempt, uncharged.
    async fn unless_portal_is_down<T>(&self, answer: Result<T, IrpError>) -> Answer<T> {
        match answer {
            Err(error) if self.portal.is_down(self.scope, self.case, &error).await => {
                Err(Box::new(portal::down(&error)))
            }
            answer => Ok(answer),
        }
    }

    /// Waits for the next immediate try; false if there is none left. A stop, the loss of the delivery or of the portal
    /// ends the attempt, uncharged.
    async fn wait_for_another_try(&mut self, failed: &IrpError) -> Result<bool, Box<Ending>> {
        let Some(delay) = self.tries.next_delay() else {
            return Ok(false);
        };
        tokio::select! {
            () = self.worker.stop.cancelled() => Err(Box::new(Ending::HandedBack)),
            () = self.case.acknowledger.lost() => Err(Box::new(TAKEN_BACK)),
            () = self.portal.breakers.opened(self.scope) => Err(Box::new(portal::down(failed))),
            () = tokio::time::sleep(delay) => Ok(true),
        }
    }
}

/// The delivery is another worker's business now.
const TAKEN_BACK: Ending = Ending::Abandoned {
    why: "the broker took the delivery back",
};

/// No call is made for a GSTIN whose error budget is used up.
pub(super) fn budget_stopped(whose: Stopped) -> Ending {
    let message = format!(
        "{whose}; no call is made until its errors are a day old or an operator resumes it"
    );
    Ending::GaveUp {
        reason: Reason::ErrorBudget,
        errors: vec![ErrorEntry::worker(Reason::ErrorBudget, message)],
    }
}

fn login_failed(error: &IrpError) -> Ending {
    Ending::Transient {
        code: label(error),
        not_before: error.disposition().not_before(),
    }
}

/// Nobody has said in whose name to ask.
pub(super) fn no_credentials() -> Ending {
    let message = "no credentials are configured for this GSTIN";
    Ending::GaveUp {
        reason: Reason::NoCredentials,
        errors: vec![ErrorEntry::worker(Reason::NoCredentials, message)],
    }
}

/// Whether a readable refusal of a submit leaves open what the portal did before it.
fn may_have_acted(refusal: &IrpError) -> bool {
    matches!(
        refusal.disposition(),
        Disposition::Retry { .. } | Disposition::Resolve | Disposition::Park
    )
}

/// An answer nobody has decided about: kept for a person, with an alarm.
pub(super) fn unclassified(case: &Case, error: &IrpError) -> Ending {
    let reason = if matches!(error, IrpError::Refused(_)) {
        Reason::UnknownCode
    } else {
        Reason::Unintelligible
    };
    telemetry::unknown_code(case.about(), &label(error));
    Ending::GaveUp {
        reason,
        errors: entries(error),
    }
}

/// An error's code or kind, short and safe for `x-irn-error`: never the portal's text, wherever it put that.
pub(super) fn label(error: &IrpError) -> String {
    error
        .code()
        .filter(|code| telemetry::bounded_code(code) == *code)
        .unwrap_or_else(|| error.call_result_label())
        .to_owned()
}

/// An error as it goes into a result.
pub(super) fn entries(error: &IrpError) -> Vec<ErrorEntry> {
    let unusable = || {
        let message = format!("the portal's answer cannot be used: {error}");
        vec![ErrorEntry::worker(Reason::Unintelligible, message)]
    };
    error.refusal().map_or_else(unusable, Refusal::entries)
}
