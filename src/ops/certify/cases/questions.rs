//! Logins, look-ups and cancellations: those that succeed, and those that the portal has to refuse.

use jiff::ToSpan as _;

use super::documents::{Document, Documents, irn, number};
use super::{Action, Draft, LoginAs, Terms, WANTED, enough, written};
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};

/// What stands for the code where a portal says that nothing was found by sending nothing.
pub(in crate::ops::certify) const NOT_FOUND: &str = "NOT_FOUND";

/// No such user (NIC, list of error codes); 401 or 403 where a service provider refuses it.
const NO_SUCH_USER: &[&str] = &[
    "1017", "1002", "1007", "1008", "1018", "1019", "3000", "3002", "3031", "3068", "401", "403",
];
/// No such client.
const NO_SUCH_CLIENT: &[&str] = &["1010", "1002", "1007", "1018", "3059", "401", "403"];
const NO_SUCH_GSTIN: &[&str] = &[
    "3001", "3005", "3011", "3028", "3030", "3013", "3014", "3015", "3016", "3017", "3064",
    NOT_FOUND,
];
const NO_SUCH_IRN: &[&str] = &["2148", "2154", "2226", "3001", NOT_FOUND];
const NO_SUCH_DOCUMENT: &[&str] = &["2154", "2148", "2226", "3001", NOT_FOUND];
const WRONG_DATE: &[&str] = &["2225", "2142", "2144", "5002", "2154", NOT_FOUND];
const NO_SUCH_NUMBER: &[&str] = &["2142", "5002", "2154", NOT_FOUND];

pub(super) fn logins(terms: &Terms) -> Vec<Draft> {
    let drafts = (1..=terms.cases).map(|at| {
        let title = format!("the account's login, number {at}");
        Draft::success(title, Action::Login(LoginAs::Account))
    });
    drafts.collect()
}

/// Of users and of clients by turns, where the client is told.
pub(super) fn failed_logins(terms: &Terms) -> Vec<Draft> {
    let drafts = (1..=terms.failed_logins).map(|at| {
        let name = format!("{}-{at:03}", terms.prefix);
        if terms.sends_client_pair && at.is_multiple_of(2) {
            let title = format!("a client that there is not: {name}");
            Draft::failure(title, NO_SUCH_CLIENT, Action::Login(LoginAs::Client(name)))
        } else {
            let title = format!("a user that there is not: {name}");
            Draft::failure(title, NO_SUCH_USER, Action::Login(LoginAs::User(name)))
        }
    });
    drafts.collect()
}

pub(super) fn gstins(terms: &Terms, action: fn(Gstin) -> Action) -> Vec<Draft> {
    let whose = [
        ("the account's own", terms.gstin),
        ("the buyer's", terms.buyer),
    ];
    let drafts = (1..=terms.cases).zip(whose.into_iter().cycle());
    drafts
        .map(|(at, (whose, gstin))| {
            Draft::success(format!("{whose}, {gstin}, number {at}"), action(gstin))
        })
        .collect()
}

/// The account's own with the code of a state that there is not: 39 to 95 are given to nobody (NIC, state codes).
pub(super) fn unknown_gstins(terms: &Terms, action: fn(Gstin) -> Action) -> Vec<Draft> {
    let codes = (39..=95).cycle().take(terms.cases as usize);
    let rest = &terms.gstin.as_str()[2..];
    codes
        .filter_map(|code| {
            let gstin: Gstin = format!("{code}{rest}").parse().ok()?;
            let title = format!("{gstin}: no state has the code {code}");
            Some(Draft::failure(title, NO_SUCH_GSTIN, action(gstin)))
        })
        .collect()
}

pub(super) fn irns(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let documents = documents.all().take(terms.cases as usize);
    documents
        .map(|document| Draft::success(named(document), Action::ByIrn(document.irn)))
        .collect()
}

fn named(document: &Document) -> String {
    format!("{} {}", document.kind, document.number)
}

/// IRNs that differ from a registered one in the number, the type or the year.
pub(super) fn unknown_irns(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let drafts = documents.all().zip(1..=terms.cases).map(|(document, at)| {
        let (title, irn) = match at % 3 {
            0 => (
                format!("{} as a {}", named(document), another(document.kind)),
                irn(terms, another(document.kind), &document.number),
            ),
            1 => {
                let number = number(terms, 'N', at);
                let title = format!("{} {number}, which nobody has", document.kind);
                (title, irn(terms, document.kind, &number))
            }
            _ => (
                format!("{} of the year before", named(document)),
                Irn::compute(
                    &terms.gstin,
                    year_before(terms),
                    document.kind,
                    &document.number,
                ),
            ),
        };
        Draft::failure(title, NO_SUCH_IRN, Action::ByIrn(irn))
    });
    drafts.collect()
}

fn year_before(terms: &Terms) -> jiff::civil::Date {
    terms.date.saturating_sub(1.year())
}

/// A type of which nothing is registered under the same number.
fn another(kind: DocumentType) -> DocumentType {
    match kind {
        DocumentType::Invoice => DocumentType::CreditNote,
        DocumentType::CreditNote => DocumentType::DebitNote,
        DocumentType::DebitNote => DocumentType::Invoice,
    }
}

pub(super) fn documents(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let documents = documents.all().take(terms.cases as usize);
    documents
        .map(|document| {
            let action = by_document(document.kind, &document.number, &written(terms.date));
            Draft::success(named(document), action)
        })
        .collect()
}

fn by_document(kind: DocumentType, number: &str, date: &str) -> Action {
    Action::ByDocument {
        kind,
        number: number.to_owned(),
        date: date.to_owned(),
    }
}

pub(super) fn unknown_documents(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let today = written(terms.date);
    let drafts = documents.all().zip(1..=terms.cases).map(|(document, at)| {
        let Document {
            kind,
            number: known,
            ..
        } = document;
        let (title, expected, action) = match at {
            1 => (
                "no number".to_owned(),
                NO_SUCH_NUMBER,
                by_document(*kind, "", &today),
            ),
            2 => (
                "no date".to_owned(),
                WRONG_DATE,
                by_document(*kind, known, ""),
            ),
            3 => {
                let date = terms.date.to_string();
                (
                    format!("the date as {date}"),
                    WRONG_DATE,
                    by_document(*kind, known, &date),
                )
            }
            4 => {
                let date = "31/02/2026";
                (
                    format!("a day that there is not: {date}"),
                    WRONG_DATE,
                    by_document(*kind, known, date),
                )
            }
            at if at.is_multiple_of(3) => {
                let kind = another(*kind);
                let title = format!("{} as a {kind}", named(document));
                (title, NO_SUCH_DOCUMENT, by_document(kind, known, &today))
            }
            at if at % 3 == 1 => {
                let number = number(terms, 'N', at);
                let title = format!("{kind} {number}, which nobody has");
                (title, NO_SUCH_DOCUMENT, by_document(*kind, &number, &today))
            }
            _ => {
                let title = format!("{} of the year before", named(document));
                let date = written(year_before(terms));
                (title, NO_SUCH_DOCUMENT, by_document(*kind, known, &date))
            }
        };
        Draft::failure(title, expected, action)
    });
    drafts.collect()
}

pub(super) fn cancellations(documents: &Documents) -> Vec<Draft> {
    let reasons = ["1", "2", "3", "4"].into_iter().cycle();
    let drafts = documents.cancelled.iter().zip(reasons);
    drafts
        .map(|(document, reason)| {
            let title = format!("{}, reason {reason}", named(document));
            Draft::success(
                title,
                cancel(document.irn, reason, "Certification test", true),
            )
        })
        .collect()
}

fn cancel(irn: Irn, reason: &str, remark: &str, may_cancel: bool) -> Action {
    Action::Cancel {
        irn,
        reason: reason.to_owned(),
        remark: remark.to_owned(),
        may_cancel,
    }
}

pub(super) fn refused_cancellations(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let mut drafts = misformed_cancellations(documents);
    let different = (WANTED as usize - drafts.len()).div_ceil(3);
    let again = documents.cancelled.iter().take(different).map(|document| {
        let action = cancel(document.irn, "1", "Certification test", false);
        Draft::failure(
            format!("{} once more", named(document)),
            &["9999", "2278"],
            action,
        )
    });
    let carried = documents.carried.iter().take(different).map(|document| {
        let action = cancel(document.irn, "1", "Certification test", false);
        Draft::failure(
            format!("{} with its e-way bill", named(document)),
            &["2230"],
            action,
        )
    });
    let unknown = (1..=u32::try_from(different).unwrap_or_default()).map(|at| {
        let number = number(terms, 'C', at);
        let irn = irn(terms, DocumentType::Invoice, &number);
        let action = cancel(irn, "1", "Certification test", false);
        let title = format!("an IRN that nobody has: of {number}");
        Draft::failure(title, &["2148", "2154", "3001", "2143", "2226"], action)
    });
    let others: Vec<Draft> = again.chain(carried).chain(unknown).collect();
    // Those first that are about what is registered.
    let mut all = others;
    all.append(&mut drafts);
    let count = enough(terms.cases, all.len());
    (0..count).map(|at| all[at % all.len()].again()).collect()
}

/// Reasons that there are not, and what a remark may not be.
const REASONS: [&str; 6] = ["0", "5", "9", "A", "12", ""];
const REMARKS: [(&str, &str); 4] = [
    ("no remark", ""),
    ("a remark of 101 characters", LONG),
    ("a remark with a quotation mark", "a \"test\""),
    ("a remark with a backslash", "a \\ test"),
];

/// 101 characters.
const LONG: &str = "Certification test of 101 characters AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// How many cancellations are refused for what they say: those of a whole report, each of which costs a registration.
pub(super) fn misformed(terms: &Terms) -> usize {
    if terms.cases >= WANTED {
        REASONS.len() + REMARKS.len()
    } else {
        0
    }
}

fn misformed_cancellations(documents: &Documents) -> Vec<Draft> {
    let reasons = REASONS.into_iter().map(|reason| {
        let title = format!("a reason that there is not: {reason:?}");
        (title, reason, "Certification test")
    });
    let remarks = REMARKS
        .into_iter()
        .map(|(title, remark)| (title.to_owned(), "1", remark));
    let all = reasons.chain(remarks).zip(&documents.not_cancelled);
    all.map(|((title, reason, remark), document)| {
        let action = cancel(document.irn, reason, remark, true);
        Draft::failure(title, &["5002", "2142"], action)
    })
    .collect()
}
