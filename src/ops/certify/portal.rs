//! The calls of a run: one at a time, no faster than the rate, through the client that the worker uses.
//!
//! One rule: what may have been carried out is looked up before it is sent again, also by a run that comes later: it is
//! written down before it is sent.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answers::{Next, Received, Trial, irn_of, leaves_a_trace, refused_account};
use super::cases::{Action, Case, LoginAs};
use super::journal::{Answer, Journal};
use super::{Halt, now};
use crate::config::credentials::{Account, Client};
use crate::config::{Config, IrpConfig, Rate};
use crate::irn::Irn;
use crate::irp::{Access, Irp, IrpConfigFault, IrpError, Validity};
use crate::limits::{Admission, Breakers, Limits};
use crate::outcome::Disposition;
use crate::sessions::{NoSession, Session, Sessions};

/// How long a login waits inside the limiter before that says how long it would have to.
const PATIENCE: Duration = Duration::from_secs(1);

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

/// A call that was made.
struct Made<T> {
    at: Timestamp,
    took: Duration,
    answer: Result<T, IrpError>,
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
        let breakers = Breakers::named(1, route.route_name.as_deref(), false);
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
        mut in_doubt: Option<Timestamp>,
        journal: &mut Journal,
    ) -> Result<Received, Halt> {
        let mut trial = Trial::default();
        loop {
            if let Some(sent) = in_doubt.take()
                && leaves_a_trace(case)
                && let Some(found) = self.look(case, sent, &mut trial).await?
            {
                return Ok(found);
            }
            let made = self.make(case, &mut trial, journal).await?;
            let received = |answer| Received::new(made.at, made.took, answer);
            let error = match made.answer {
                Ok(irn) => {
                    let irn = irn.or_else(|| irn_of(case)).map(|irn| irn.to_string());
                    return Ok(Received {
                        irn,
                        ..received(Answer::Accepted)
                    });
                }
                Err(error) => error,
            };
            match trial.judge(case, &error, received(Answer::Refused)) {
                Next::Done(received) => return Ok(*received),
                Next::Again(wait) => self.rest(wait).await?,
                Next::Look => in_doubt = Some(made.at),
                Next::Stop(halt) => return Err(halt),
            }
        }
    }

    /// One call, when it is its turn.
    async fn make(
        &mut self,
        case: &Case,
        trial: &mut Trial,
        journal: &mut Journal,
    ) -> Result<Made<Option<Irn>>, Halt> {
        let (at, began, answer) = if let Action::Login(who) = &case.action {
            self.admit_login().await?;
            self.turn().await?;
            let stranger = stranger(&self.account, who);
            let account = stranger.as_ref().unwrap_or(&self.account);
            let (at, began) = (now(), Instant::now());
            (
                at,
                began,
                self.irp.login(account, false).await.map(|_| None),
            )
        } else {
            let session = self.session(trial).await?;
            self.turn().await?;
            let (at, began) = (now(), Instant::now());
            if leaves_a_trace(case) {
                let written = journal.sent(&case.id, at);
                written.map_err(|error| Halt::Journal(error.to_string()))?;
            }
            let answer = self.send(case, &session).await;
            self.drop_if_refused(&session, &answer).await;
            (at, began, answer)
        };
        let took = began.elapsed();
        Ok(Made { at, took, answer })
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
        waited
            .filter(|()| !self.stop.is_cancelled())
            .ok_or(Halt::Interrupted)
    }

    /// Two logins of a GSTIN are as far apart as the configuration says, whoever asks for them.
    async fn admit_login(&self) -> Result<(), Halt> {
        let gstin = &self.account.gstin;
        while let Admission::Wait(wait) = self.limits.admit_login(gstin, PATIENCE).await {
            self.rest(wait).await?;
        }
        Ok(())
    }

    async fn session(&self, trial: &mut Trial) -> Result<Arc<Session>, Halt> {
        loop {
            let wait = match self.sessions.session(&self.account, None).await {
                Ok(session) => return Ok(session),
                Err(NoSession::Limited(wait)) => wait,
                Err(NoSession::PortalDown(wait)) => trial.pause_of(wait)?,
                Err(NoSession::Failed(error)) => trial.pause(&error)?,
                Err(NoSession::Refused(error)) => return Err(refused_account(&error)),
                // Nobody loads other credentials here.
                Err(NoSession::Replaced) => return Err(Halt::Interrupted),
            };
            self.rest(wait).await?;
        }
    }

    async fn drop_if_refused<T>(&self, session: &Session, answer: &Result<T, IrpError>) {
        if answer
            .as_ref()
            .is_err_and(|error| error.disposition() == Disposition::Reauth)
        {
            self.sessions.invalidate(session).await;
        }
    }

    async fn send(&self, case: &Case, session: &Session) -> Result<Option<Irn>, IrpError> {
        let (irp, access) = (&self.irp, &session.access());
        let seller = &self.account.gstin;
        match &case.action {
            Action::Login(_) => Ok(None),
            Action::Gstin(gstin) => irp.gstin_details(access, gstin).await.map(|_| None),
            Action::SyncGstin(gstin) => irp.sync_gstin(access, gstin).await.map(|_| None),
            Action::Generate { document, .. } => {
                let registered = irp.generate(access, document.as_bytes()).await?;
                Ok(Some(registered.irn))
            }
            Action::ByIrn(irn) => Ok(Some(irp.by_irn(access, seller, irn).await?.irn)),
            Action::ByDocument { kind, number, date } => {
                let found = irp.by_document(access, seller, *kind, number, date).await?;
                Ok(Some(found.irn))
            }
            Action::EwayBill { payload, .. } => irp
                .eway_bill(access, payload.as_bytes())
                .await
                .map(|_| None),
            Action::EwayBillByIrn(irn) => irp.eway_bill_by_irn(access, irn).await.map(|_| None),
            Action::Cancel {
                irn,
                reason,
                remark,
                ..
            } => Ok(Some(irp.cancel(access, irn, reason, remark).await?.irn)),
        }
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
            let session = self.session(trial).await?;
            self.turn().await?;
            let (asked, began) = (now(), Instant::now());
            let answer = self.find(case, &session.access()).await;
            self.drop_if_refused(&session, &answer).await;
            let wait = match answer {
                Ok(Some(irn)) => {
                    return Ok(Some(Received {
                        irn: Some(irn.to_string()),
                        looked_up: true,
                        ..Received::new(sent, began.elapsed(), Answer::Accepted)
                    }));
                }
                Err(error) if error.disposition() == Disposition::RefuseAccount => {
                    return Err(refused_account(&error));
                }
                Err(error) if error.disposition() != Disposition::NotRegistered => {
                    trial.pause(&error)?
                }
                Ok(None) | Err(_) => {
                    let age = Duration::try_from(asked.duration_since(sent)).unwrap_or_default();
                    if age >= self.settle_time {
                        return Ok(None);
                    }
                    self.settle_time - age
                }
            };
            self.rest(wait).await?;
        }
    }

    /// What a case has done, if it has done it.
    async fn find(&self, case: &Case, access: &Access<'_>) -> Result<Option<Irn>, IrpError> {
        let seller = &self.account.gstin;
        match &case.action {
            Action::Generate { irn, .. } => {
                Ok(Some(self.irp.by_irn(access, seller, irn).await?.irn))
            }
            Action::Cancel { irn, .. } => {
                let found = self.irp.standing_by_irn(access, seller, irn).await?;
                Ok((found.status == Validity::Cancelled).then_some(found.irn))
            }
            Action::EwayBill { irn, .. } => self
                .irp
                .eway_bill_by_irn(access, irn)
                .await
                .map(|_| Some(*irn)),
            Action::Login(_)
            | Action::Gstin(_)
            | Action::SyncGstin(_)
            | Action::ByIrn(_)
            | Action::ByDocument { .. }
            | Action::EwayBillByIrn(_) => Ok(None),
        }
    }
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
