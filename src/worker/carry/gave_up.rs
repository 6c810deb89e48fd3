//! What a result says of a job that the worker gave up on.

use crate::job::Operation;
use crate::outcome::{ErrorEntry, ErrorSource, Reason};
use crate::worker::Worker;
use crate::worker::case::{Case, DUPLICATE};

/// Why sessions do not last, and what helps.
const CONTENDED: &str =
    ", because another system keeps replacing them: give each system an API user of its own";

/// The errors of a `failed` result: the worker's own first, with what is known of the document, then what the portal has
/// said (contract, section 3).
pub(super) fn errors(
    worker: &Worker,
    case: &Case,
    reason: Reason,
    code: &str,
    learnt: &[ErrorEntry],
) -> Vec<ErrorEntry> {
    let (why, said) = match learnt {
        [own, said @ ..] if own.source == ErrorSource::Worker => (own.message.clone(), said),
        said => (why(worker, case, reason, code), said),
    };
    let known = match code == DUPLICATE {
        true => known_of_a_duplicate(reason),
        false => case.known(),
    };
    let next = match (worker.keeps_letters(), case.job.operation) {
        (true, Operation::Get) => "; a replay asks again",
        (true, _) if case.in_doubt() => "; a replay looks first",
        (true, _) => "",
        (false, _) => "; its document is kept nowhere: publish the job again",
    };
    let message = format!("{why}; {known}{next}");
    let mut errors = vec![ErrorEntry::worker(reason, message)];
    errors.extend_from_slice(said);
    errors
}

/// Only where its attempts are used up was it never found: what was found may be what is wrong.
fn known_of_a_duplicate(reason: Reason) -> &'static str {
    match reason {
        Reason::RetriesExhausted | Reason::SessionRefused => {
            "the portal says it is registered, but no look-up finds it"
        }
        Reason::CredentialsRefused
        | Reason::NoCredentials
        | Reason::ErrorBudget
        | Reason::Unreadable
        | Reason::NotPermitted
        | Reason::BadSignature
        | Reason::SignedDataMismatch
        | Reason::UnknownCode
        | Reason::Unintelligible
        | Reason::Panicked => "the portal says it is registered",
    }
}

fn why(worker: &Worker, case: &Case, reason: Reason, code: &str) -> String {
    let attempts = case.job.attempt;
    match reason {
        Reason::SessionRefused => {
            let gstin = case.gstin.as_ref();
            let is_contended = gstin.is_some_and(|gstin| worker.is_contended(gstin));
            let cause = if is_contended { CONTENDED } else { "" };
            format!("the portal refused every session in {attempts} attempts ({code}){cause}")
        }
        Reason::CredentialsRefused => REFUSED.to_owned(),
        Reason::UnknownCode => {
            "the portal's answer has a code that nobody has decided about".to_owned()
        }
        Reason::Unintelligible => "the portal's answer makes no sense".to_owned(),
        Reason::RetriesExhausted
        | Reason::NoCredentials
        | Reason::ErrorBudget
        | Reason::Unreadable
        | Reason::NotPermitted
        | Reason::BadSignature
        | Reason::SignedDataMismatch
        | Reason::Panicked => {
            format!("gave up after {attempts} attempts, the last one ended with {code}")
        }
    }
}

/// What becomes of every job of an account that the portal refuses.
const REFUSED: &str =
    "the portal refuses this GSTIN's credentials; no further login is tried until they are changed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_is_called_unfound_only_where_every_attempt_was_used_up() {
        let unfound = Reason::ALL
            .into_iter()
            .filter(|reason| known_of_a_duplicate(*reason).contains("no look-up finds it"));
        let expected = [Reason::RetriesExhausted, Reason::SessionRefused];
        assert_eq!(unfound.collect::<Vec<_>>(), expected);
    }
}
