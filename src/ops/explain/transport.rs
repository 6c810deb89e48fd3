//! Calls that ended without a readable answer, HTTP statuses, and what the portal says beside its answers.

use super::{Explanation, INTEGRATOR, Kind, NOBODY, OPERATOR, Row, TAXPAYER};

const LOOKS: &str = "after a submit the outcome is unknown: it looks once `irp.settle_time` has passed, and sends again only what is not there; after a login or a look-up it tries again";
const AGAIN: &str = "tries again, at first at once and then over the delay ladder; while the portal is down it takes no jobs, and none is charged an attempt";

/// How a call ended, by the words of `x-irn-error` and of `irn_worker_irp_requests_total{result}`; HTTP statuses last.
const CALLS: &[Row] = &[
    Row {
        code: "not_sent",
        meaning: "the portal could not be reached: name, connection or TLS failed, and nothing was sent",
        fixed_by: OPERATOR,
        remedy: "nothing to do if it passes; else check irp.base_url, irp.proxy, irp.ca_file and the way to the portal: `irn-worker check`",
        does: AGAIN,
    },
    Row {
        code: "unconfirmed",
        meaning: "the request left and its answer is lost: time-out, broken connection, HTTP 5xx, HTML, an empty or truncated body",
        fixed_by: NOBODY,
        remedy: "nothing to do: no second submit goes before a look-up has found nothing",
        does: "takes the outcome for unknown: looks once `irp.settle_time` has passed, and sends again only what is not there",
    },
    Row {
        code: "server_error",
        meaning: "a login or a look-up got no readable answer; nothing was changed",
        fixed_by: NOBODY,
        remedy: "nothing to do: the worker tries again later",
        does: AGAIN,
    },
    Row {
        code: "throttled",
        meaning: "HTTP 429: the portal or the service provider asks to slow down; with a service provider often its credits are used up",
        fixed_by: OPERATOR,
        remedy: "if it lasts, lower limits.per_gstin and limits.total, or buy credits of the service provider",
        does: "waits as long as `Retry-After` says, makes fewer calls at once, and tries again; nothing was done",
    },
    Row {
        code: "undecipherable",
        meaning: "a success that our session key does not open: what was asked for was done, under another session",
        fixed_by: NOBODY,
        remedy: "nothing to do; if it comes back, another system logs in with the same API user: give each a user of its own",
        does: "drops the session, logs in once, and fetches what was registered",
    },
    Row {
        code: "unintelligible",
        meaning: "a success that does not say what a success must, for example without an IRN",
        fixed_by: OPERATOR,
        remedy: "look at the portal's answer in the dead letter's result; ask the portal's help desk",
        does: "after a submit it looks whether the document is registered; where that does not settle it, `failed`, UNINTELLIGIBLE, kept in `irn.dead`",
    },
    Row {
        code: "unexplained",
        meaning: "the portal refused a submit without saying why: status 0, and no error that could be read",
        fixed_by: OPERATOR,
        remedy: "look the document over and ask the portal's help desk, or the service provider where the errors are lost; then replay, which looks first",
        does: "counts it in the error budget; once `irp.settle_time` has passed it looks: what is there is delivered, and what is not is not sent again, but kept in `irn.dead`: `failed`, UNINTELLIGIBLE",
    },
    Row {
        code: "unanswered",
        meaning: "the portal refused a login or a look-up without saying why; nothing was changed",
        fixed_by: NOBODY,
        remedy: "nothing to do; if it lasts, ask the portal's help desk, or the service provider",
        does: "counts it in the error budget, and tries again over the delay ladder",
    },
    Row {
        code: "refused_for_now",
        meaning: "a refusal without a code, by a text that speaks of an outage",
        fixed_by: NOBODY,
        remedy: "nothing to do: the worker looks before it sends again",
        does: LOOKS,
    },
    Row {
        code: "session_refused",
        meaning: "the session was refused",
        fixed_by: NOBODY,
        remedy: "nothing to do: as for 1005",
        does: "drops the session, logs in once and asks once more",
    },
    Row {
        code: "duplicate",
        meaning: "the document is registered already: as for 2150",
        fixed_by: NOBODY,
        remedy: "nothing to do: the worker fetches what is registered and compares it",
        does: "fetches what is registered, verifies and compares it",
    },
    Row {
        code: "conflict",
        meaning: "the number is cancelled or registered elsewhere: as for 2278 and 2295",
        fixed_by: "the ERP's user",
        remedy: "as for the code in the result",
        does: "delivers `conflict`",
    },
    Row {
        code: "stale_gstin",
        meaning: "the portal's copy of a GSTIN is old: as for 3028 and 3029",
        fixed_by: "the worker, then the ERP's user",
        remedy: "as for the code in the result",
        does: "has the portal synchronise the GSTIN, then submits once more",
    },
    Row {
        code: "rejected",
        meaning: "the document was refused",
        fixed_by: "the ERP's user",
        remedy: "as for the codes in the result",
        does: "delivers `rejected`",
    },
    Row {
        code: "account_refused",
        meaning: "the credentials, the client or the account were refused",
        fixed_by: TAXPAYER,
        remedy: "as for the code in the result",
        does: "stops every job of this GSTIN until its credentials change",
    },
    Row {
        code: "not_registered",
        meaning: "a look-up found nothing",
        fixed_by: NOBODY,
        remedy: "nothing to do: an answer, not a fault; the portal counts it as an error all the same",
        does: "takes the document for not registered",
    },
    Row {
        code: "too_old",
        meaning: "registered too long ago for its signed data to be handed out: as for 2283",
        fixed_by: "the taxpayer",
        remedy: "as for 2283",
        does: "delivers `partial`",
    },
    Row {
        code: "unknown_code",
        meaning: "the portal refused with a code that nobody has classified, or with a bare text",
        fixed_by: OPERATOR,
        remedy: "decide what it means in `irp.unknown_codes`, then replay the dead letters",
        does: "raises an alarm and keeps the job in `irn.dead`: `failed`, UNKNOWN_CODE",
    },
    Row {
        code: "HTTP 4xx",
        meaning: "the request was turned away before the portal read it: 403 a key or an address that is not admitted, 404 a wrong path, 408 too slow",
        fixed_by: OPERATOR,
        remedy: "check irp.base_url, irp.extra_headers and the address that the portal has listed (irp.local_address); `irn-worker check` asks the portal",
        does: "counts it in the error budget; after a submit the outcome is unknown and is looked up, after a login or a look-up it tries again; over MasterGST's contract 401 and 403 on a login stop the GSTIN",
    },
    Row {
        code: "HTTP 5xx",
        meaning: "the portal, or a gateway before it, failed or was overloaded: 500, 502, 503, 504",
        fixed_by: NOBODY,
        remedy: "nothing to do; if it lasts, ask the portal's help desk, or configure irp.failover_url",
        does: LOOKS,
    },
    Row {
        code: "HTTP 429",
        meaning: "the portal or the service provider asks to slow down: told as `throttled`",
        fixed_by: OPERATOR,
        remedy: "if it lasts, lower limits.per_gstin and limits.total, or buy credits of the service provider",
        does: "waits as long as `Retry-After` says, makes fewer calls at once, and tries again; nothing was done",
    },
];

/// `InfoDtls` of the portal's answers.
const INFO: &[Row] = &[
    Row {
        code: "DUPIRN",
        meaning: "with 2150: what is registered already, with its IRN, acknowledgement number and date",
        fixed_by: NOBODY,
        remedy: "nothing to do: the worker fetches that registration",
        does: "fetches the registration by the IRN that is named, verifies and compares it",
    },
    Row {
        code: "DUPIRNGLP",
        meaning: "with 2295: the document is registered at another portal, which is named",
        fixed_by: "the ERP's user",
        remedy: "fetch the registration from the portal that is named, or issue the invoice under a new number",
        does: "looks it up at `irp.failover_url`, where one is configured; else `conflict`, naming the portal",
    },
    Row {
        code: "EWBERR",
        meaning: "the invoice is registered, but its e-way bill was refused; the detail has the codes",
        fixed_by: "the ERP's user",
        remedy: "look the codes up here, correct the e-way-bill details, and ask for the e-way bill by IRN",
        does: "delivers `signed` and passes it on",
    },
    Row {
        code: "EWBPPD",
        meaning: "the distance between the PIN codes that the portal reckons with, in a text",
        fixed_by: NOBODY,
        remedy: "nothing to do: for information",
        does: "passes it on",
    },
    Row {
        code: "EWBALERT",
        meaning: "a warning about the e-way bill, in a text",
        fixed_by: INTEGRATOR,
        remedy: "show it to the user: the e-way bill stands",
        does: "passes it on",
    },
    Row {
        code: "EWBVEH",
        meaning: "a warning about the e-way bill's vehicle, in a text",
        fixed_by: INTEGRATOR,
        remedy: "show it to the user: the e-way bill stands",
        does: "passes it on",
    },
    Row {
        code: "ADDNLNFO",
        meaning: "additional information in a text, which may itself hold JSON",
        fixed_by: INTEGRATOR,
        remedy: "show it to the user",
        does: "passes it on",
    },
    Row {
        code: "ALERT",
        meaning: "the text that the portal put into `Alert` beside its answer",
        fixed_by: INTEGRATOR,
        remedy: "show it to the user",
        does: "passes it on",
    },
];

/// Other ways to write some of them.
const ALSO: &[(&str, &str)] = &[
    ("timeout", "unconfirmed"),
    ("time-out", "unconfirmed"),
    ("timed out", "unconfirmed"),
    ("connection reset", "unconfirmed"),
    ("empty body", "unconfirmed"),
    ("non-JSON", "unconfirmed"),
    ("HTML", "unconfirmed"),
    ("connection refused", "not_sent"),
    ("no route to host", "not_sent"),
    ("decrypt failure", "undecipherable"),
];

/// The code as it is listed, for one that was typed.
pub(super) fn as_listed(code: &str) -> &str {
    let code = code.trim();
    if let Some((_, listed)) = ALSO
        .iter()
        .find(|(also, _)| also.eq_ignore_ascii_case(code))
    {
        return listed;
    }
    let status = code
        .get(..5)
        .filter(|prefix| prefix.eq_ignore_ascii_case("http "))
        .map_or(code, |_| code[5..].trim_start());
    match status.as_bytes() {
        // A code of the table: the worker makes it of the status.
        b"401" => "401",
        b"413" => "413",
        b"429" => "HTTP 429",
        [b'4', x, y] if is_digit_or_x(*x) && is_digit_or_x(*y) => "HTTP 4xx",
        [b'5', x, y] if is_digit_or_x(*x) && is_digit_or_x(*y) => "HTTP 5xx",
        _ => code,
    }
}

fn is_digit_or_x(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.eq_ignore_ascii_case(&b'x')
}

pub(super) fn all() -> impl Iterator<Item = Explanation> {
    CALLS.iter().map(|row| row.explanation(Kind::Transport))
}

pub(super) fn info() -> impl Iterator<Item = Explanation> {
    INFO.iter().map(|row| row.explanation(Kind::Info))
}
