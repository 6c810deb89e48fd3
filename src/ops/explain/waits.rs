//! What a job waits for without an attempt, mostly on the ladder, by the words of `x-irn-error`.

use super::{Explanation, Kind, NOBODY, OPERATOR, Row};

const UNCOUNTED: &str =
    "puts the job on the delay ladder for the expected wait; it is not counted as an attempt";

const fn wait(code: &'static str, meaning: &'static str, remedy: &'static str) -> Row {
    Row {
        code,
        meaning,
        fixed_by: NOBODY,
        remedy,
        does: UNCOUNTED,
    }
}

const fn held(code: &'static str, meaning: &'static str, remedy: &'static str) -> Row {
    Row {
        code,
        meaning,
        fixed_by: OPERATOR,
        remedy,
        does: UNCOUNTED,
    }
}

const WAITS: &[Row] = &[
    wait(
        "rate",
        "the rate of its GSTIN, or of all together, is used up",
        "nothing to do; limits.per_gstin and limits.total say how fast it may go",
    ),
    Row {
        code: "login rate",
        meaning: "no session here, and the rate of logins is used up",
        fixed_by: NOBODY,
        remedy: "nothing to do; limits.auth_per_gstin says how often may be logged in",
        does: "puts the job back into its queue where another replica has a session, and else on the delay ladder for the expected wait; it is not counted as an attempt",
    },
    wait(
        "lane",
        "as many jobs of its GSTIN are under way as may be",
        "nothing to do; irp.concurrency_per_gstin says how many may",
    ),
    wait(
        "swept",
        "its GSTIN has more jobs than the window has room for, and others stand behind them; or it is a batch, and others are being split",
        "nothing to do; broker.share_per_gstin says how much of the window one GSTIN may take",
    ),
    wait(
        "twin",
        "the same document is under way in another message",
        "nothing to do; if it is often so, the ERP publishes its jobs twice",
    ),
    wait(
        "retry-after",
        "the portal has asked this GSTIN to wait",
        "nothing to do: it goes on when that time is over",
    ),
    wait(
        "portal_down",
        "the portal does not answer",
        "nothing to do; `/readyz` and the metric irn_worker_breaker_state say since when",
    ),
    wait(
        "not_found_yet",
        "it may have been sent, a look-up found nothing, and that is too early to prove anything",
        "nothing to do: it is looked up again once irp.settle_time has passed",
    ),
    held(
        "error budget",
        "the error budget is nearly used up, and calls under way may use up the rest",
        "find out which documents or credentials cause the errors: limits.error_budget_per_gstin",
    ),
    held(
        "failover account",
        "the second portal refuses the account, and the first one is down",
        "have the API user enabled at the second portal",
    ),
    wait(
        "route down",
        "its route to the portal does not answer, while others do",
        "nothing to do; `/readyz`, `/status` and the page say which route, and since when",
    ),
    wait(
        "route changed",
        "its client was given another route while the job was under way",
        "nothing to do: it goes on over the new one",
    ),
    held(
        "paused",
        "an operator has paused its GSTIN, its client or the portal; nobody has looked at the job yet",
        "`irn-worker resume` lifts the pause; it ends by itself",
    ),
    held(
        "held",
        "an operator has paused its GSTIN, its client or the portal, after the job was judged",
        "`irn-worker resume` lifts the pause; it ends by itself",
    ),
];

pub(super) fn all() -> impl Iterator<Item = Explanation> {
    WAITS.iter().map(|row| row.explanation(Kind::Wait))
}
