//! Believes a registration only as far as its signatures and its contents go.
//!
//! One rule: nothing whose signature fails, and nothing that speaks of another document, is ever called `signed` or
//! `found`.

use super::Worker;
use super::case::Case;
use super::settle::Ending;
use crate::config::SignaturePolicy;
use crate::document::{Document, Lines};
use crate::irn::Irn;
use crate::irp::{Registration, Validity};
use crate::outcome::{ErrorEntry, Reason, SignatureState};
use crate::request::Wanted;
use crate::signature::{self, Malformed, Mismatch, Token, Verdict};
use crate::telemetry;

/// What a registration is worth: registered, in conflict with the document in hand, or not to be believed.
/// `recovered` says that it was there before this submit.
pub(super) fn accept(
    worker: &Worker,
    case: &Case,
    document: &Document,
    mut registration: Box<Registration>,
    recovered: bool,
) -> Ending {
    if let Some(ended) = no_longer_valid(&registration) {
        return ended;
    }
    if let (true, Validity::Other(word)) = (recovered, &registration.status) {
        return of_unknown_status(case, word);
    }
    let lines = recovered.then(|| lines_of(case)).flatten();
    let expected = Expected::Document(document, lines.as_ref());
    let (state, mut checked) = match believed(worker, case, &expected, &registration) {
        Ok(believed) => believed,
        Err(ending) => return *ending,
    };
    if let Err(mismatch) = checked.contents {
        return differs(case, &registration, &mismatch, recovered);
    }
    registration.believe(checked.ack_no.take());
    case.clear_doubt(false);
    telemetry::signature_checked(case.about(), state);
    Ending::Registered {
        registration,
        signature: state,
        recovered,
    }
}

/// What a registration is worth to one who asked for it: it is found, whatever has become of it, if it is the one that
/// was wanted and its signatures hold.
pub(super) fn found(
    worker: &Worker,
    case: &Case,
    wanted: &Wanted,
    mut registration: Box<Registration>,
) -> Ending {
    if !registration.has_both_tokens() {
        // Of one that is not valid any more the portal may give none; one by itself would go out unproven.
        registration.forget_tokens();
        let is_it = match wanted {
            Wanted::Irn { irn, .. } => registration.irn == *irn,
            Wanted::Document(document) => document.has_irn(&registration.irn),
        };
        if !is_it {
            let fields = vec!["irn"];
            return differs(case, &registration, &Mismatch { fields }, false);
        }
        return Ending::Found {
            registration,
            signature: None,
            document: None,
        };
    }
    let expected = match wanted {
        Wanted::Document(document) => Expected::Document(document, None),
        Wanted::Irn { irn, .. } => Expected::Irn(irn),
    };
    let (state, mut checked) = match believed(worker, case, &expected, &registration) {
        Ok(believed) => believed,
        Err(ending) => return *ending,
    };
    if let Err(mismatch) = checked.contents {
        // Under its number something else may be registered; under its IRN nothing else can be.
        return differs(case, &registration, &mismatch, wanted.document().is_some());
    }
    telemetry::signature_checked(case.about(), state);
    registration.believe(checked.ack_no.take());
    Ending::Found {
        registration,
        signature: Some(state),
        document: checked.document.map(Box::new),
    }
}

/// What tokens are compared with.
enum Expected<'e> {
    /// A document, and its lines where those may be others.
    Document(&'e Document, Option<&'e Lines>),
    /// An IRN, of which no more is known.
    Irn(&'e Irn),
}

struct Checked {
    /// Absent where there is no key to check with, or checking is off.
    verdict: Option<Verdict>,
    contents: Result<(), Mismatch>,
    /// What the QR code speaks of.
    document: Option<Document>,
    /// The acknowledgement number as a key of the portal's signed it.
    ack_no: Option<String>,
}

/// How far the signatures are proven, and what they sign; or the ending that follows from what they are not.
fn believed(
    worker: &Worker,
    case: &Case,
    expected: &Expected<'_>,
    registration: &Registration,
) -> Result<(SignatureState, Checked), Box<Ending>> {
    let bad = |why| Box::new(bad_signature(case, why));
    let checked = check(worker, expected, registration)
        .map_err(|Malformed { .. }| bad("it is not a token of the portal"))?;
    let state = match checked.verdict {
        Some(Verdict::Verified) => SignatureState::Verified,
        Some(Verdict::UnknownKey) => SignatureState::UnknownKey,
        Some(Verdict::Bad) => return Err(bad("its signature is not by the key it names")),
        None => SignatureState::Unverified,
    };
    Ok((state, checked))
}

/// The document's lines: only what was there before may have other ones.
fn lines_of(case: &Case) -> Option<Lines> {
    Lines::read(std::str::from_utf8(case.job.body.as_bytes()).ok()?)
}

fn check(
    worker: &Worker,
    expected: &Expected<'_>,
    registration: &Registration,
) -> Result<Checked, Malformed> {
    let proven = match worker.config.irp.signatures {
        SignaturePolicy::Off => false,
        SignaturePolicy::Require | SignaturePolicy::Warn => !worker.keyring.is_empty(),
    };
    let parse = if proven {
        Token::parse
    } else {
        // How another portal signs is of no concern where nobody checks it.
        Token::parse_unproven
    };
    let invoice = parse(registration.signed_invoice.as_str())?;
    let qr_code = parse(registration.signed_qr_code.as_str())?;
    let verdict = proven.then(|| worker.keyring.verify_both(&invoice, &qr_code));
    let qr_data = qr_code.qr_data()?;
    let invoice_data = invoice.invoice_data()?;
    let (fields, document) = match expected {
        Expected::Document(document, lines) => {
            let compared = signature::compare(document, &registration.irn, &qr_data, &invoice_data);
            let mut fields = compared
                .err()
                .map_or_else(Vec::new, |differs| differs.fields);
            if let Some(lines) = lines {
                let signed = invoice.invoice_lines();
                fields.extend(signature::compare_lines(lines, &qr_data, signed.as_ref()));
            }
            (fields, None)
        }
        Expected::Irn(irn) => {
            let signed = [qr_data.irn(), invoice_data.irn()];
            let is_it = |text: &Option<&str>| text.is_some_and(|text| text.parse() == Ok(**irn));
            let is_it = registration.irn == **irn && signed.iter().all(is_it);
            let fields = if is_it { Vec::new() } else { vec!["irn"] };
            (fields, qr_data.document())
        }
    };
    let contents = if fields.is_empty() {
        Ok(())
    } else {
        Err(Mismatch { fields })
    };
    let ack_no = (verdict == Some(Verdict::Verified))
        .then(|| invoice_data.ack_no().map(str::to_owned))
        .flatten();
    Ok(Checked {
        verdict,
        contents,
        document,
        ack_no,
    })
}

/// A registration that was cancelled, or that lost against another portal's, is no valid invoice.
pub(super) fn no_longer_valid(registration: &Registration) -> Option<Ending> {
    let error = match &registration.status {
        Validity::Cancelled => ErrorEntry::irp(
            "2278",
            "this document was registered and then cancelled; its number cannot be used again",
        ),
        Validity::Lost => ErrorEntry::irp(
            "REJ",
            "this registration lost against one at another portal, which is the valid one",
        ),
        Validity::Active | Validity::Other(_) => return None,
    };
    Some(Ending::Conflict {
        irn: Some(registration.irn),
        errors: vec![error],
        info: registration.info.clone(),
    })
}

/// What was registered before may have been cancelled since: its QR code is not handed out before somebody knows.
fn of_unknown_status(case: &Case, word: &str) -> Ending {
    case.doubt();
    telemetry::unknown_status(case.about(), word);
    let message = "it is registered, but the portal says of it neither that it is valid nor that it is cancelled; look at \
                   it at the portal before the invoice is handed out or issued again";
    gave_up(Reason::Unintelligible, message.to_owned())
}

fn bad_signature(case: &Case, why: &str) -> Ending {
    // It is registered, if not as it should be: a replay must look first.
    case.doubt();
    telemetry::signature_bad(case.about(), Reason::BadSignature, &[]);
    let message = format!("the portal's signed data failed its check: {why}");
    gave_up(Reason::BadSignature, message)
}

/// Genuine, but of another document. What was there before is a conflict of the ERP's; an answer to our own submit
/// is the portal's mistake.
fn differs(
    case: &Case,
    registration: &Registration,
    mismatch: &Mismatch,
    recovered: bool,
) -> Ending {
    let message = format!(
        "what the portal registered differs from this document in: {}",
        mismatch.fields.join(", ")
    );
    if !recovered {
        telemetry::signature_bad(case.about(), Reason::SignedDataMismatch, &mismatch.fields);
        case.doubt();
        return gave_up(Reason::SignedDataMismatch, message);
    }
    telemetry::registered_otherwise(case.about(), &mismatch.fields);
    let errors = vec![ErrorEntry::worker(Reason::SignedDataMismatch, message)];
    Ending::Conflict {
        irn: Some(registration.irn),
        errors,
        info: registration.info.clone(),
    }
}

fn gave_up(reason: Reason, message: String) -> Ending {
    Ending::GaveUp {
        reason,
        errors: vec![ErrorEntry::worker(reason, message)],
    }
}
