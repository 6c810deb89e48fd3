//! When the portal counts as down, by kind of call: a state machine that is told how calls end and asked whether the
//! next one may go.
//!
//! One rule: only silence opens a breaker. A refusal that can be read is an answer, and any answer ends a run of
//! silence, so that faults which strike at random never add up.

use std::time::Duration;

use tokio::time::Instant;

use crate::gstin::Gstin;
use crate::outcome::PortalSign;
use crate::retry::Backoffs;

/// The first probe comes about so long after the breaker has opened, later ones after twice as long each time.
const FIRST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// `Retry-After` is believed between these: nothing is gained by a probe within the second, and a portal that names
/// tomorrow may be back in a minute.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// A breaker that opens again so soon after it closed goes on with the longer delay.
const STEADY: Duration = Duration::from_secs(60);

/// A half-open breaker closes after this time even if there were too few calls to widen it all the way.
const RAMP: Duration = Duration::from_secs(30);

/// What a call weighs in a run of silence when the portal has said that it is not to be asked now.
const ASKED_TO_WAIT: u32 = 7;

/// How long a run of silence must be. A call that was not answered weighs one.
#[derive(Clone, Copy, Debug)]
struct Policy {
    /// Opens at once.
    at_once: u32,
    /// Opens when no other call is on the way that could still be answered.
    alone: u32,
    /// Open when the silence has lasted so long, too.
    lasting: [(u32, Duration); 2],
    /// Opens a half-open breaker that has had an answer before.
    reopens: u32,
    /// What a refused connection weighs: it is no accident of one request.
    unreached: u32,
}

/// With three calls in ten lost at random, twenty in a row happen once in 10^10 calls; ten in a row, which must be all
/// there are or last two seconds, once in 10^5 of the rare calls that meet this. A dead portal under load gives twenty
/// within milliseconds.
const CALLS: Policy = Policy {
    at_once: 20,
    alone: 10,
    lasting: [(10, Duration::from_secs(2)), (5, Duration::from_secs(30))],
    reopens: 6,
    unreached: 2,
};

/// Logins are rare and rationed, so little silence has to do; opening by mistake delays a login by seconds, and jobs
/// with a session do not notice.
const LOGINS: Policy = Policy {
    at_once: 3,
    alone: 3,
    lasting: [(2, Duration::from_secs(2)), (2, Duration::from_secs(30))],
    reopens: 1,
    unreached: 3,
};

/// Calls that fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Authentication and masters (`/eivital`).
    Login,
    /// Registration, look-ups, cancellation (`/eicore`).
    Core,
    /// E-way bills (`/eiewb`).
    EwayBill,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Login, Self::Core, Self::EwayBill];

    /// The word in metrics, logs and `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Core => "core",
            Self::EwayBill => "eway_bill",
        }
    }

    fn policy(self) -> Policy {
        match self {
            Self::Login => LOGINS,
            Self::Core | Self::EwayBill => CALLS,
        }
    }
}

/// What a breaker allows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Anything.
    Closed,
    /// So many calls at once.
    HalfOpen {
        /// How many.
        width: usize,
    },
    /// Nothing.
    Open {
        /// When it becomes half-open.
        until: Instant,
    },
}

/// Calls without an answer, none with one between them.
#[derive(Debug)]
struct Silence {
    weight: u32,
    since: Instant,
    /// GSTINs told to slow down: each weighs once.
    throttled: Vec<Gstin>,
    /// The longest wait asked for.
    retry_after: Option<Duration>,
}

#[derive(Debug)]
enum State {
    Closed,
    HalfOpen {
        width: usize,
        /// Answers since it was widened.
        answers: usize,
        since: Instant,
    },
    Open {
        until: Instant,
    },
}

/// One scope's breaker. It keeps no clock: whoever asks says what time it is.
#[derive(Debug)]
pub(super) struct Breaker {
    policy: Policy,
    /// As wide as a half-open breaker gets before it closes.
    full_width: usize,
    state: State,
    silence: Option<Silence>,
    delays: Backoffs,
    closed_at: Option<Instant>,
    opened_at: Option<Instant>,
    answered_at: Option<Instant>,
    /// Raised when it opens: calls begun before say nothing of the portal after.
    epoch: u64,
    /// Calls of this epoch on the way.
    under_way: usize,
}

/// When a call was begun, as a breaker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl Breaker {
    /// A closed one.
    pub(super) fn new(scope: Scope, full_width: usize) -> Self {
        Self {
            policy: scope.policy(),
            full_width: full_width.max(1),
            state: State::Closed,
            silence: None,
            // Enough to keep replicas apart, and not so much that a portal is left alone for twice as long as meant.
            delays: Backoffs::new(FIRST_DELAY, LONGEST_DELAY).nearly_exact(),
            closed_at: None,
            opened_at: None,
            answered_at: None,
            epoch: 0,
            under_way: 0,
        }
    }

    /// What it allows now.
    pub(super) fn view(&mut self, now: Instant) -> View {
        if let State::Open { until } = self.state
            && until <= now
        {
            self.silence = None;
            self.state = State::HalfOpen {
                width: 1,
                answers: 0,
                since: now,
            };
        }
        match self.state {
            State::Closed => View::Closed,
            State::HalfOpen { width, .. } => View::HalfOpen { width },
            State::Open { until } => View::Open { until },
        }
    }

    /// Whether a call may go now.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        match self.view(now) {
            View::Closed => true,
            View::HalfOpen { width } => self.under_way < width,
            View::Open { .. } => false,
        }
    }

    /// A call goes.
    pub(super) fn begin(&mut self) -> Epoch {
        self.under_way += 1;
        Epoch(self.epoch)
    }

    /// A call has ended; without a sign if it was given up.
    pub(super) fn end(
        &mut self,
        now: Instant,
        began: Epoch,
        sign: Option<PortalSign>,
        gstin: &Gstin,
    ) {
        if began.0 != self.epoch {
            return;
        }
        self.under_way = self.under_way.saturating_sub(1);
        match sign {
            // A 429 that names no time asks for a slower pace, not for a pause: the concurrency limit sees to that.
            None | Some(PortalSign::Throttled { retry_after: None }) => {}
            Some(PortalSign::Answered) => self.answered(now),
            Some(
                sign @ (PortalSign::Unreached
                | PortalSign::Silent { .. }
                | PortalSign::Throttled { .. }),
            ) => self.unanswered(now, sign, gstin),
        }
    }

    /// Whether another call may still be answered.
    pub(super) fn waits_for_others(&self) -> bool {
        self.under_way > 0
    }

    /// Whether it has opened at or after this moment.
    pub(super) fn opened_since(&self, moment: Instant) -> bool {
        self.opened_at.is_some_and(|opened| opened >= moment)
    }

    /// Whether the portal has said anything readable at or after this moment.
    pub(super) fn answered_since(&self, moment: Instant) -> bool {
        self.answered_at.is_some_and(|answered| answered >= moment)
    }

    fn answered(&mut self, now: Instant) {
        self.answered_at = Some(now);
        self.silence = None;
        let State::HalfOpen {
            width,
            answers,
            since,
            ..
        } = &mut self.state
        else {
            return;
        };
        *answers += 1;
        if *answers >= *width {
            *width *= 2;
            *answers = 0;
        }
        if *width >= self.full_width || now.saturating_duration_since(*since) >= RAMP {
            self.state = State::Closed;
            self.closed_at = Some(now);
        }
    }

    fn unanswered(&mut self, now: Instant, sign: PortalSign, gstin: &Gstin) {
        let silence = self.silence.get_or_insert_with(|| Silence {
            weight: 0,
            since: now,
            throttled: Vec::new(),
            retry_after: None,
        });
        silence.weight += match sign {
            // It may be about this GSTIN's pace alone, until several are told the same.
            PortalSign::Throttled { .. } if silence.throttled.contains(gstin) => 0,
            PortalSign::Throttled { .. } => {
                silence.throttled.push(*gstin);
                ASKED_TO_WAIT
            }
            PortalSign::Silent { retry_after } => retry_after.map_or(1, |_| ASKED_TO_WAIT),
            PortalSign::Unreached => self.policy.unreached,
            PortalSign::Answered => 0,
        };
        silence.retry_after = silence.retry_after.max(sign.retry_after());
        let (weight, lasted) = (silence.weight, now.saturating_duration_since(silence.since));
        let opens = match self.state {
            State::Closed => self.is_long(weight, lasted),
            State::HalfOpen { width: 1, .. } => true,
            State::HalfOpen { .. } => weight >= self.policy.reopens,
            State::Open { .. } => false,
        };
        if opens {
            self.open(now);
        }
    }

    /// Whether a run of silence is no accident.
    fn is_long(&self, weight: u32, lasted: Duration) -> bool {
        let Policy {
            at_once,
            alone,
            lasting,
            ..
        } = self.policy;
        weight >= at_once
            || (weight >= alone && self.under_way == 0)
            || lasting
                .iter()
                .any(|(least, time)| weight >= *least && lasted >= *time)
    }

    fn open(&mut self, now: Instant) {
        let steady = |closed| now.saturating_duration_since(closed) >= STEADY;
        if matches!(self.state, State::Closed) && self.closed_at.is_some_and(steady) {
            self.delays.reset();
        }
        let asked = self.silence.take().and_then(|silence| silence.retry_after);
        let own = self.delays.next_delay();
        let delay = asked.map_or(own, clamped);
        self.state = State::Open { until: now + delay };
        self.opened_at = Some(now);
        self.epoch += 1;
        self.under_way = 0;
    }
}

/// A wait that the portal asks for, as far as it is believed.
pub fn clamped(retry_after: Duration) -> Duration {
    retry_after.clamp(SHORTEST_RETRY_AFTER, LONGEST_RETRY_AFTER)
}

#[cfg(test)]
mod tests;
