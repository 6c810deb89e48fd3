//! One live session per account: single flight however many jobs wait, renewed in the background, and dropped
//! exactly once when the portal refuses it.
//!
//! One rule: a login costs the taxpayer. Whoever waits shares the one under way, its failure included, and a refused
//! password is never sent again.

mod contention;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use jiff::SignedDuration;
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::config::credentials::Account;
use crate::crypto::SessionKey;
use crate::gstin::Gstin;
use crate::irp::{Access, AuthToken, Irp, IrpError, codes};
use crate::limits::{Admission, Allowance, Breakers, Limits, Reservation, Scope};
use crate::outcome::{Disposition, PortalSign};
use crate::telemetry::{self, JobSpan};
use contention::Contention;

pub use watch::SessionStatus;

/// Renewal begins this long before the end. The portal gives a new token only in the last ten minutes (NIC,
/// "Authentication", ForceRefreshAccessToken); two less leaves room for clocks that differ.
const RENEW_WITHIN: Duration = Duration::from_secs(8 * 60);

/// A token this close to its end may die between our check and the portal's.
const UNUSABLE_WITHIN: Duration = Duration::from_secs(20);

/// After a failed renewal the running token serves on; the next try comes no sooner than this.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A login that must wait longer for its rate leaves its job to the ladder.
const LOGIN_PATIENCE: Duration = Duration::from_secs(3);

/// A running login at the portal.
pub struct Session {
    account: Arc<Account>,
    token: AuthToken,
    /// Where the contract has one.
    key: Option<SessionKey>,
    opened: Instant,
    expires: Instant,
    clock_ahead: Option<SignedDuration>,
    /// So close to its end it is not used any more.
    unusable_within: Duration,
    generation: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Session({}, generation {})",
            self.account.gstin, self.generation
        )
    }
}

impl Session {
    /// What a call needs.
    pub fn access(&self) -> Access<'_> {
        Access {
            account: &self.account,
            token: &self.token,
            key: self.key.as_ref(),
        }
    }

    /// How long the token is good for.
    pub fn remaining(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }

    /// How far the clock that the portal dates its answers by was ahead of ours at the login; none where that cannot be told.
    pub fn clock_ahead(&self) -> Option<SignedDuration> {
        self.clock_ahead
    }

    fn is_usable(&self) -> bool {
        self.remaining() > self.unusable_within
    }
}

/// Why there is no session.
#[derive(Clone, Debug)]
pub enum NoSession {
    /// The portal refused these credentials, now or earlier; they are not tried again.
    Refused(Arc<IrpError>),
    /// The login rate allows none for so long.
    Limited(Duration),
    /// The login failed for a reason that may pass.
    Failed(Arc<IrpError>),
    /// Other credentials have been loaded meanwhile: these are not to be sent any more.
    Replaced,
    /// The portal answers no logins; it is asked again after about this time.
    PortalDown(Duration),
}

/// The span of the job that asks for a session, where it is traced, and its portal's name.
pub type Asking<'a> = Option<(&'a JobSpan, &'a str)>;

/// All sessions of this process.
#[derive(Debug)]
pub struct Sessions {
    irp: Arc<Irp>,
    limits: Arc<Limits>,
    breakers: Arc<Breakers>,
    lanes: DashMap<Gstin, Arc<Lane>>,
    tasks: TaskTracker,
}

/// One account's session. `current` is read by every job; `login` is held across a login, which makes it single flight.
#[derive(Debug, Default)]
struct Lane {
    current: RwLock<Option<Arc<Session>>>,
    /// The account that has replaced the one it began with.
    newest: ArcSwapOption<Account>,
    contention: Contention,
    login: Mutex<LoginState>,
}

#[derive(Debug, Default)]
struct LoginState {
    generation: u64,
    /// The credentials the portal refused, and its answer.
    refused: Option<(Arc<Account>, Arc<IrpError>)>,
    /// When the last login failed, and of whom: who was waiting then, for the same account, shares the failure.
    failed: Option<(Instant, Arc<Account>, NoSession)>,
    renewal_failed: Option<Instant>,
    /// The portal refused to renew the running session, and how: it is not asked again while that runs.
    renewal_refused: Option<(Arc<Account>, Arc<IrpError>)>,
}

impl Sessions {
    /// No sessions yet. Renewals run on `tasks`, so that a drain waits for them.
    pub fn new(
        irp: Arc<Irp>,
        limits: Arc<Limits>,
        breakers: Arc<Breakers>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            irp,
            limits,
            breakers,
            lanes: DashMap::new(),
            tasks,
        }
    }

    /// A usable session for this account, logging in if need be; the login then belongs to the trace of whoever asked.
    pub async fn session(
        &self,
        account: &Arc<Account>,
        asking: Asking<'_>,
    ) -> Result<Arc<Session>, NoSession> {
        let lane = self.lane(account);
        let asked = Instant::now();
        if let Some(session) = lane.usable(account).await {
            if session.remaining() <= RENEW_WITHIN && self.irp.can_renew() {
                self.renew_in_background(&lane, &session);
            }
            return Ok(session);
        }
        let mut state = lane.login.lock().await;
        if lane.has_replaced(account) {
            return Err(NoSession::Replaced);
        }
        if let Some(session) = lane.usable(account).await {
            return Ok(session);
        }
        if let Some((refused, error)) = &state.refused
            && **refused == **account
        {
            return Err(NoSession::Refused(Arc::clone(error)));
        }
        // What was wrong with the credentials then is wrong with them now.
        if let Some((of, error)) = state.renewal_refused.take()
            && *of == **account
            && is_of_the_credentials(&error)
        {
            telemetry::login_failed(&account.gstin, error.code(), true);
            state.refused = Some((of, Arc::clone(&error)));
            *lane.current.write().await = None;
            return Err(NoSession::Refused(error));
        }
        match &state.failed {
            Some((failed, of, error)) if *failed > asked && **of == **account => {
                return Err(error.clone());
            }
            _ => {}
        }
        // In its last minutes the portal hands the same token out again, unless asked for a new one.
        let dying = lane.current.read().await.is_some();
        let outcome = self
            .portal()
            .log_in(&lane, &mut state, account, dying, asking)
            .await;
        state.failed = outcome
            .as_ref()
            .err()
            .map(|error| (Instant::now(), Arc::clone(account), error.clone()));
        outcome
    }

    /// The session that its account has now: this one, or one that has taken its place. None: it was dropped meanwhile.
    pub async fn now_instead_of(&self, session: Arc<Session>) -> Option<Arc<Session>> {
        let lane = self.lanes.get(&session.account.gstin);
        let lane = lane.map(|lane| Arc::clone(&lane))?;
        {
            let current = lane.current.read().await;
            if current.as_ref().map(|now| now.generation) == Some(session.generation) {
                return Some(session);
            }
        }
        lane.usable(&session.account).await
    }

    /// These GSTINs have other accounts now, or none: what is known of the old ones is of no use. New credentials may be
    /// tried at once, whatever this replica has sent before them. The rest is done beside whoever asks, because a login under way has
    /// to end first; those that wait for it with the old account are told ([`NoSession::Replaced`]).
    pub fn replace(&self, accounts: impl IntoIterator<Item = (Gstin, Option<Arc<Account>>)>) {
        for (gstin, account) in accounts {
            self.limits.forget_own_logins(&gstin);
            let Some(lane) = self.lanes.get(&gstin).map(|lane| Arc::clone(&lane)) else {
                continue;
            };
            lane.newest.store(account.clone());
            self.tasks
                .spawn(async move { lane.keep_only(account.as_deref()).await });
        }
    }

    /// An operator has seen to it: this GSTIN's account may be tried again, at once.
    pub fn forget_refusal(&self, gstin: &Gstin) {
        self.limits.forget_logins(gstin);
        if let Some(lane) = self.lanes.get(gstin).map(|lane| Arc::clone(&lane)) {
            self.tasks.spawn(async move {
                let mut state = lane.login.lock().await;
                (state.refused, state.failed) = (None, None);
                state.renewal_refused = None;
            });
        }
    }

    /// The portal refused this session's token, or its key did not fit: nobody shall use it again. A newer one stays.
    pub async fn invalidate(&self, session: &Session) {
        let Some(lane) = self
            .lanes
            .get(&session.account.gstin)
            .map(|lane| Arc::clone(&lane))
        else {
            return;
        };
        let mut current = lane.current.write().await;
        if current
            .as_ref()
            .is_some_and(|now| now.generation == session.generation)
        {
            *current = None;
            telemetry::session_invalidated(&session.account.gstin, session.generation);
            if lane.contention.refused(session.opened) {
                telemetry::token_contention(&session.account.gstin);
            }
        }
    }

    /// An answer to a call, not a login, said that this account is refused: the same as a refused login.
    pub async fn refuse(&self, account: &Arc<Account>, error: Arc<IrpError>) {
        let lane = self.lane(account);
        let mut state = lane.login.lock().await;
        let mut current = lane.current.write().await;
        if current
            .as_ref()
            .is_some_and(|session| *session.account != **account)
        {
            // New credentials have been loaded since, and work.
            return;
        }
        telemetry::login_failed(&account.gstin, error.code(), true);
        state.refused = Some((Arc::clone(account), error));
        *current = None;
    }

    fn portal(&self) -> Portal {
        Portal {
            irp: Arc::clone(&self.irp),
            limits: Arc::clone(&self.limits),
            breakers: Arc::clone(&self.breakers),
        }
    }

    fn lane(&self, account: &Account) -> Arc<Lane> {
        // An account is a GSTIN's user through one client; a worker has one account per GSTIN.
        Arc::clone(&self.lanes.entry(account.gstin).or_default())
    }

    fn renew_in_background(&self, lane: &Arc<Lane>, session: &Arc<Session>) {
        if lane
            .login
            .try_lock()
            .map_or(true, |state| state.leaves_renewal())
        {
            return;
        }
        let renewal = Renewal {
            portal: self.portal(),
            lane: Arc::clone(lane),
            session: Arc::clone(session),
        };
        self.tasks.spawn(renewal.run());
    }
}

/// What a login needs.
struct Portal {
    irp: Arc<Irp>,
    limits: Arc<Limits>,
    breakers: Arc<Breakers>,
}

struct Renewal {
    portal: Portal,
    lane: Arc<Lane>,
    session: Arc<Session>,
}

impl Renewal {
    async fn run(self) {
        let mut state = self.lane.login.lock().await;
        // Whoever held the lock before may have renewed it already, or lost it.
        let current = self.lane.current.read().await.clone();
        if current.is_none_or(|current| current.generation != self.session.generation)
            || state.leaves_renewal()
        {
            return;
        }
        let renewed = self
            .portal
            .log_in(&self.lane, &mut state, &self.session.account, true, None)
            .await;
        // A portal that hands the same dying token out again has not renewed it.
        let lasting = renewed.is_ok_and(|session| session.remaining() > RENEW_WITHIN);
        state.renewal_failed = (!lasting).then(Instant::now);
    }
}

impl LoginState {
    /// Whether the running session is not to be renewed now: the portal refused, or it failed lately.
    fn leaves_renewal(&self) -> bool {
        let lately = |failed: Instant| failed.elapsed() < RENEW_AGAIN_AFTER;
        self.renewal_refused.is_some() || self.renewal_failed.is_some_and(lately)
    }
}

impl Lane {
    /// Whether another account than this has been loaded since.
    fn has_replaced(&self, account: &Account) -> bool {
        let newest = self.newest.load();
        newest.as_ref().is_some_and(|newest| **newest != *account)
    }

    /// Drops what is known of any other account.
    async fn keep_only(&self, account: Option<&Account>) {
        let is_old = |of: &Account| account != Some(of);
        let mut state = self.login.lock().await;
        state.refused.take_if(|(of, _)| is_old(of));
        state.failed.take_if(|(_, of, _)| is_old(of));
        state.renewal_refused.take_if(|(of, _)| is_old(of));
        let mut current = self.current.write().await;
        if current
            .take_if(|session| is_old(&session.account))
            .is_some()
        {
            state.renewal_failed = None;
        }
    }

    async fn usable(&self, account: &Account) -> Option<Arc<Session>> {
        let current = self.current.read().await;
        current
            .as_ref()
            .filter(|session| session.is_usable() && *session.account == *account)
            .cloned()
    }
}

/// Whether a login would be refused again: the portal said something readable, and nothing that passes. A code nobody
/// has classified counts as final: sent again unchanged, it might cost the taxpayer an error for every job.
fn is_final(error: &IrpError) -> bool {
    match error.disposition() {
        Disposition::Retry { .. } | Disposition::Resolve | Disposition::Reauth => false,
        Disposition::RefuseAccount => true,
        Disposition::Adopt
        | Disposition::Conflict
        | Disposition::SyncGstin
        | Disposition::Reject
        | Disposition::NotRegistered
        | Disposition::TooOld
        | Disposition::Park => matches!(error, IrpError::Refused(_)),
    }
}

/// Whether a refusal says that user, client or account are not let in, and not merely that no new token is given now:
/// what the portal answers to one who asks for it too early, no page of NIC says.
fn is_of_the_credentials(error: &IrpError) -> bool {
    let row = error.code().and_then(codes::explain);
    matches!(error, IrpError::Unsendable { .. })
        || row.is_some_and(|row| row.class == codes::Class::Account)
}

impl Portal {
    /// One login, under the lane's lock.
    async fn log_in(
        &self,
        lane: &Lane,
        state: &mut LoginState,
        account: &Arc<Account>,
        renewal: bool,
        asking: Asking<'_>,
    ) -> Result<Arc<Session>, NoSession> {
        let room = self.admitted(account).await?;
        let started = Instant::now();
        let call = self.breakers.begin(Scope::Login, &account.gstin);
        let span = asking.map(|(job, portal)| job.call("auth", portal));
        let answer = self.irp.login(account, renewal).await;
        if answer.as_ref().is_err_and(IrpError::is_counted) {
            self.limits.count_error(account);
        }
        drop(room);
        let (label, code, sign) = match &answer {
            Ok(_) => ("ok", None, Some(PortalSign::Answered)),
            Err(error) => (error.call_result_label(), error.code(), error.sign()),
        };
        call.end(sign);
        telemetry::irp_called("auth", label, code, started.elapsed(), span);
        match answer {
            Ok(login) => {
                state.generation += 1;
                telemetry::logged_in(&account.gstin, renewal, login.expires_in);
                telemetry::clock_skew(login.clock_skew);
                (state.refused, state.renewal_refused) = (None, None);
                let session = Arc::new(Session {
                    account: Arc::clone(account),
                    token: login.token,
                    key: login.key,
                    opened: Instant::now(),
                    expires: Instant::now() + login.expires_in,
                    clock_ahead: login
                        .dates_by_the_clock
                        .then(|| login.clock_skew.unwrap_or_default()),
                    // Where no new token can be had before its end, it serves to the end.
                    unusable_within: if self.irp.can_renew() {
                        UNUSABLE_WITHIN
                    } else {
                        Duration::ZERO
                    },
                    generation: state.generation,
                });
                *lane.current.write().await = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(error) => {
                let refused = is_final(&error);
                let still_runs = renewal && lane.usable(account).await.is_some();
                if refused && still_runs {
                    telemetry::renewal_refused(&account.gstin, error.code());
                } else {
                    telemetry::login_failed(&account.gstin, error.code(), refused);
                }
                let error = Arc::new(error);
                if refused {
                    if lane.has_replaced(account) {
                        return Err(NoSession::Replaced);
                    }
                    if still_runs {
                        state.renewal_refused = Some((Arc::clone(account), Arc::clone(&error)));
                        return Err(NoSession::Failed(error));
                    }
                    state.refused = Some((Arc::clone(account), Arc::clone(&error)));
                    *lane.current.write().await = None;
                    return Err(NoSession::Refused(error));
                }
                Err(NoSession::Failed(error))
            }
        }
    }

    /// Waits for the breaker, then for the rate, then for the breaker again: a login that is not sent costs no rate, nor what it
    /// had taken of it. Last, room in the error budget: whoever comes back when that is used up finds so before asking for a session.
    async fn admitted(&self, account: &Account) -> Result<Reservation, NoSession> {
        self.unless_down().await?;
        if let Admission::Wait(wait) = self
            .limits
            .admit_login(&account.gstin, LOGIN_PATIENCE)
            .await
        {
            return Err(NoSession::Limited(wait));
        }
        let room = match self.unless_down().await {
            Ok(()) => match self.limits.reserve_error(account) {
                Allowance::Granted(room) => Ok(room),
                Allowance::Busy | Allowance::Stopped(_) => Err(NoSession::Limited(LOGIN_PATIENCE)),
            },
            Err(down) => Err(down),
        };
        room.inspect_err(|_| self.limits.give_login_back(&account.gstin))
    }

    async fn unless_down(&self) -> Result<(), NoSession> {
        self.breakers
            .ready(Scope::Login, LOGIN_PATIENCE)
            .await
            .map_err(NoSession::PortalDown)
    }
}
