//! What the worker says of its own: statuses, reasons to give a job up, and what stands for one where the broker moved a
//! message.

use super::{ERP_USER, Explanation, INTEGRATOR, Kind, OPERATOR, Row, TAXPAYER};
use crate::job::DeadLetter;
use crate::outcome::{Reason, Status};

const DONE: &str = "nobody: it is done";
const KEPT: &str = "keeps the job in `irn.dead`, from where it can be replayed: `failed`";

/// Every reason to give a job up.
pub(super) fn reasons() -> Vec<Explanation> {
    let row = |reason: Reason| {
        let (meaning, fixed_by, remedy) = of_reason(reason);
        let does = match reason {
            Reason::Unreadable => {
                "keeps the delivery as it came in `irn.poison`, and answers `failed` where a reply queue can be read"
            }
            Reason::BadSignature
            | Reason::SignedDataMismatch
            | Reason::UnknownCode
            | Reason::Unintelligible => {
                "raises an alarm and keeps the job in `irn.dead`, from where it can be replayed: `failed`"
            }
            Reason::RetriesExhausted
            | Reason::CredentialsRefused
            | Reason::NoCredentials
            | Reason::SessionRefused
            | Reason::ErrorBudget
            | Reason::NotPermitted
            | Reason::Panicked => KEPT,
        };
        Row {
            code: reason.as_str(),
            meaning,
            fixed_by,
            remedy,
            does,
        }
        .explanation(Kind::Worker)
    };
    let all = Reason::ALL.into_iter().map(row);
    all.chain([OF_OLDER.explanation(Kind::Worker)]).collect()
}

/// What older workers wrote, and letters of theirs may still say.
const OF_OLDER: Row = Row {
    code: "UNSUPPORTED",
    meaning: "a worker of an older version gave the job up, because it did not perform cancel, get and ewb yet",
    fixed_by: OPERATOR,
    remedy: "replay: workers of this version do",
    does: "never gives up for this reason any more",
};

/// What it says, who fixes it, and how.
fn of_reason(reason: Reason) -> (&'static str, &'static str, &'static str) {
    match reason {
        Reason::RetriesExhausted => (
            "every attempt failed for a reason that should have passed; the message says whether the document may be registered",
            OPERATOR,
            "once the portal is well again, replay: what may have been sent is looked up first",
        ),
        Reason::CredentialsRefused => (
            "the portal refused the GSTIN's credentials, client or account; the portal's own code stands beside it",
            TAXPAYER,
            "look the portal's code up, put the right credentials into the credentials file, then replay; credentials.replay_dead_letters does that by itself",
        ),
        Reason::NoCredentials => (
            "no credentials are configured for this GSTIN",
            OPERATOR,
            "add the GSTIN to the credentials file, or have the ERP name the right one in x-irn-gstin; then replay",
        ),
        Reason::SessionRefused => (
            "the portal refused every session, right after fresh logins, attempt after attempt",
            OPERATOR,
            "look whether another system logs in with the same API user, and give each a user of its own; then replay",
        ),
        Reason::ErrorBudget => (
            "the error budget of the GSTIN or its client is used up: more errors might get it blocked by the portal",
            OPERATOR,
            "find out which documents or credentials caused the errors; `irn-worker resume` forgives them, then replay",
        ),
        Reason::Unreadable => (
            "the delivery is no job: not JSON, a version or content type that nobody knows, or headers that cannot be read",
            INTEGRATOR,
            "read the message beside it, correct what publishes the job, and publish it again",
        ),
        Reason::NotPermitted => (
            "this publisher may not use this GSTIN, or its reply queue is not allowed",
            OPERATOR,
            "correct `publishers` or `replies.allow`, or what the ERP sends as user_id, x-irn-gstin and reply_to; then replay, or have the ERP publish it again where that sent the wrong ones",
        ),
        Reason::BadSignature => (
            "signed data came whose signature does not hold under the key that it names: nothing of it is proven",
            OPERATOR,
            "treat it as an incident: look at the files of irp.signing_keys and at what lies between worker and portal; then replay",
        ),
        Reason::SignedDataMismatch => (
            "genuine signed data came, but of another document than the one that was submitted",
            OPERATOR,
            "treat it as an incident and ask the portal's help desk; then replay, which looks first",
        ),
        Reason::UnknownCode => (
            "the portal answered with a code that nobody has classified; it stands beside it",
            OPERATOR,
            "decide what the code means in irp.unknown_codes, then replay",
        ),
        Reason::Unintelligible => (
            "the portal's answer can be read but makes no sense: a success without an IRN, a refusal without a reason, a registration with a status that nobody knows",
            OPERATOR,
            "look at the document at the portal and ask its help desk; then replay, which looks first",
        ),
        Reason::Panicked => (
            "the worker failed inside: a bug",
            OPERATOR,
            "report it with the log's lines about this job; then replay",
        ),
    }
}

/// Every status of a result.
pub(super) fn statuses() -> Vec<Explanation> {
    let row = |status: Status| {
        let (meaning, fixed_by, remedy, does) = of_status(status);
        Row {
            code: status.as_str(),
            meaning,
            fixed_by,
            remedy,
            does,
        }
        .explanation(Kind::Status)
    };
    Status::ALL.into_iter().map(row).collect()
}

/// What it says, who acts on it, how, and what the worker did.
fn of_status(status: Status) -> (&'static str, &'static str, &'static str, &'static str) {
    match status {
        Status::Signed => (
            "the document is registered; IRN, signed invoice and QR code are in the result",
            DONE,
            "store the result, and print the QR code on the invoice if `signature` is `verified`",
            "verified the signatures as far as keys are configured; `recovered` says that it was registered before",
        ),
        Status::Partial => (
            "the document is registered, but the portal no longer hands out the signed data",
            "the taxpayer",
            "fetch the signed data from the GST common portal, which keeps it for six months; the IRN is in the result",
            "looked it up and delivers what is known of it",
        ),
        Status::Conflict => (
            "the number is taken: registered with other content, cancelled, or at another portal",
            ERP_USER,
            "compare the invoice with what is registered under the IRN; issue it under a new number if it is another one",
            "delivers the errors and the IRN that is known, and sends nothing again",
        ),
        Status::Rejected => (
            "the document was refused, by pre-flight or by the portal; every fault is in `errors`",
            ERP_USER,
            "correct the document in the ERP and publish it again",
            "delivers every code with its message, from pre-flight with the place too; the document is not registered",
        ),
        Status::Cancelled => (
            "the registration is cancelled, now or before; its number cannot be used again",
            DONE,
            "mark the invoice as cancelled; `cancel_date` says when, if this job did it",
            "looked first, and cancelled only what was valid and within its 24 hours",
        ),
        Status::Found => (
            "what was asked for is registered; it is in the result, whatever its `irn_status`",
            DONE,
            "use it as the result of a document that was registered",
            "fetched it and verified the signatures as far as keys are configured",
        ),
        Status::NotFound => (
            "nothing of the kind is registered where this GSTIN's calls go",
            INTEGRATOR,
            "compare IRN, type, number and date with the document, and the GSTIN whose credentials were used; an e-commerce operator names the seller in SellerGstin",
            "asked every portal that may have it",
        ),
        Status::EwbIssued => (
            "there is an e-way bill for the registration, issued now or before; it is in `eway_bill`",
            DONE,
            "print its number and give it to the transporter; distances that the portal has filled in are in `info`",
            "asked for it once; `recovered` says that it was there already",
        ),
        Status::Expired => (
            "the job's x-irn-deadline passed before the document could be submitted; it is not registered",
            INTEGRATOR,
            "publish it again if it is still wanted, with a later deadline or none",
            "did not submit it; one that might have been sent before was looked up first",
        ),
        Status::Failed => (
            "the worker gave up; the code in `errors` says why, `dead_lettered` whether it can be replayed",
            OPERATOR,
            "look the code up, remove the cause, and replay; do not register the invoice elsewhere meanwhile, since it may be registered already",
            "keeps the job in `irn.dead` or `irn.poison`; a replay answers with another result",
        ),
    }
}

/// What stands for a reason where no worker gave one.
pub(super) fn of_the_broker() -> Vec<Explanation> {
    let [too_often, rejected, expired, no_reason] = DeadLetter::BY_BROKER;
    let row = |code, meaning, remedy| {
        Row {
            code,
            meaning,
            fixed_by: OPERATOR,
            remedy,
            does: "nothing: the broker put it into `irn.poison` by itself, and no result was sent",
        }
        .explanation(Kind::Broker)
    };
    vec![
        row(
            too_often,
            "the broker handed the delivery out too often: workers died over it",
            "look at the workers' logs and memory, report it, then replay with --queue poison --force",
        ),
        row(
            rejected,
            "a worker rejected the delivery, after a panic outside of an attempt",
            "report it with the log's lines about it, then replay with --queue poison --force",
        ),
        row(
            expired,
            "the message expired in its queue, by an expiration that its publisher gave it",
            "publish jobs without `expiration`; x-irn-deadline is what ends a job in time",
        ),
        row(
            no_reason,
            "published under a routing key that nobody serves, or put there by hand",
            "correct the routing key: generate, cancel, get or ewb, with or without `urgent.` before it",
        ),
    ]
}
