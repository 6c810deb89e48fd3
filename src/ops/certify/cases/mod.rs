//! The test cases, as data: what is asked, and what the portal has to answer.
//!
//! One rule: a plan is a pure function of its terms. So a run that was interrupted finds the same cases, with the same
//! numbers and IRNs, when it goes on.

mod changes;
mod documents;
mod eway_bills;
mod invoices;
mod places;
mod questions;
#[cfg(test)]
mod tests;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};
use documents::Documents;

pub(super) use questions::NOT_FOUND;

/// What a portal wants to see of each API: so many cases that succeed and so many that fail (NIC, FAQ on testing of APIs
/// in the sandbox).
pub const WANTED: u32 = 50;

/// What a plan is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    /// Whose account is used: the seller of every document.
    pub(super) gstin: Gstin,
    /// Who buys.
    pub(super) buyer: Gstin,
    /// The date of the documents: the day on which the run began, in India.
    pub(super) date: Date,
    /// What every document's number begins with.
    pub(super) prefix: String,
    /// Cases of each kind for each API.
    pub(super) cases: u32,
    /// Logins that are to be refused.
    pub(super) failed_logins: u32,
    /// Whether the client pair is sent to this portal, so that another one can be refused.
    pub(super) sends_client_pair: bool,
}

/// An API of the portal, in the order in which they are tested: each finds what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Logins.
    Authenticate,
    /// Details of a GSTIN.
    Gstin,
    /// The same, synchronised with the common portal first.
    SyncGstin,
    /// Registration.
    Generate,
    /// Look-up by IRN.
    ByIrn,
    /// Look-up by type, number and date.
    ByDocument,
    /// Issue of an e-way bill.
    EwayBill,
    /// Look-up of an e-way bill.
    EwayBillByIrn,
    /// Cancellation.
    Cancel,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Authenticate,
        Self::Gstin,
        Self::SyncGstin,
        Self::Generate,
        Self::ByIrn,
        Self::ByDocument,
        Self::EwayBill,
        Self::EwayBillByIrn,
        Self::Cancel,
    ];

    /// As the portal's pages call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Authenticate => "Authentication",
            Self::Gstin => "Get GSTIN details",
            Self::SyncGstin => "Sync GSTIN details",
            Self::Generate => "Generate IRN",
            Self::ByIrn => "Get e-invoice by IRN",
            Self::ByDocument => "Get IRN by document details",
            Self::EwayBill => "Generate e-way bill by IRN",
            Self::EwayBillByIrn => "Get e-way bill by IRN",
            Self::Cancel => "Cancel IRN",
        }
    }

    /// The word for scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Gstin => "gstin",
            Self::SyncGstin => "sync_gstin",
            Self::Generate => "generate",
            Self::ByIrn => "by_irn",
            Self::ByDocument => "by_document",
            Self::EwayBill => "eway_bill",
            Self::EwayBillByIrn => "eway_bill_by_irn",
            Self::Cancel => "cancel",
        }
    }

    /// What its cases' names begin with.
    fn tag(self) -> &'static str {
        match self {
            Self::Authenticate => "AUTH",
            Self::Gstin => "GSTIN",
            Self::SyncGstin => "SYNC",
            Self::Generate => "GEN",
            Self::ByIrn => "IRN",
            Self::ByDocument => "DOC",
            Self::EwayBill => "EWB",
            Self::EwayBillByIrn => "EWBGET",
            Self::Cancel => "CNL",
        }
    }
}

/// What is meant to become of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The portal does what it is asked.
    Success,
    /// The portal refuses, with a code.
    Failure,
}

impl Kind {
    /// The word for scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Success => 'S',
            Self::Failure => 'F',
        }
    }
}

/// One case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// `GEN-F-012`
    pub(super) id: String,
    pub(super) api: Api,
    pub(super) kind: Kind,
    pub(super) title: String,
    /// The codes of which the portal has to answer one; of a success none.
    pub(super) expected: Vec<&'static str>,
    pub(super) action: Action,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Login(LoginAs),
    Gstin(Gstin),
    SyncGstin(Gstin),
    /// `is_new`: no other case registers this IRN.
    Generate {
        irn: Irn,
        document: String,
        is_new: bool,
    },
    ByIrn(Irn),
    ByDocument {
        kind: DocumentType,
        number: String,
        date: String,
    },
    /// `may_issue`: where a bill exists, it is this case that has issued it.
    EwayBill {
        irn: Irn,
        payload: String,
        may_issue: bool,
    },
    EwayBillByIrn(Irn),
    /// `may_cancel`: where it is cancelled, it is this case that has done it.
    Cancel {
        irn: Irn,
        reason: String,
        remark: String,
        may_cancel: bool,
    },
}

/// Who logs in. Never the account's user with another password: portals may lock it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LoginAs {
    /// The account as it is.
    Account,
    /// A user that there is not.
    User(String),
    /// A client that there is not.
    Client(String),
}

/// A case without its name.
struct Draft {
    title: String,
    expected: Vec<&'static str>,
    action: Action,
}

impl Draft {
    fn success(title: impl Into<String>, action: Action) -> Self {
        Self {
            title: title.into(),
            expected: Vec::new(),
            action,
        }
    }

    fn failure(title: impl Into<String>, expected: &[&'static str], action: Action) -> Self {
        Self {
            title: title.into(),
            expected: expected.to_vec(),
            action,
        }
    }

    /// The same once more.
    fn again(&self) -> Self {
        Self {
            title: self.title.clone(),
            expected: self.expected.clone(),
            action: self.action.clone(),
        }
    }
}

/// All cases, in the order in which they are carried out.
pub(super) fn plan(terms: &Terms) -> Vec<Case> {
    use {Api::*, Kind::*};
    let documents = Documents::of(terms);
    let mut plan = Vec::new();
    let mut add = |api: Api, kind: Kind, drafts: Vec<Draft>| {
        plan.extend(named(api, kind, drafts));
    };
    add(Authenticate, Success, questions::logins(terms));
    add(Authenticate, Failure, questions::failed_logins(terms));
    for (api, action) in [
        (Gstin, Action::Gstin as fn(_) -> Action),
        (SyncGstin, Action::SyncGstin),
    ] {
        add(api, Success, questions::gstins(terms, action));
        add(api, Failure, questions::unknown_gstins(terms, action));
    }
    add(Generate, Success, invoices::registrations(&documents));
    add(Generate, Failure, invoices::refusals(terms, &documents));
    add(ByIrn, Success, questions::irns(terms, &documents));
    add(ByIrn, Failure, questions::unknown_irns(terms, &documents));
    add(ByDocument, Success, questions::documents(terms, &documents));
    add(
        ByDocument,
        Failure,
        questions::unknown_documents(terms, &documents),
    );
    add(EwayBill, Success, eway_bills::issues(terms, &documents));
    add(Cancel, Success, questions::cancellations(&documents));
    add(
        Cancel,
        Failure,
        questions::refused_cancellations(terms, &documents),
    );
    // After the cancellations: some ask for the bill of what is cancelled.
    add(EwayBill, Failure, eway_bills::refusals(terms, &documents));
    add(EwayBillByIrn, Success, eway_bills::look_ups(&documents));
    add(
        EwayBillByIrn,
        Failure,
        eway_bills::unknown(terms, &documents),
    );
    plan
}

fn named(api: Api, kind: Kind, drafts: Vec<Draft>) -> impl Iterator<Item = Case> {
    drafts.into_iter().zip(1..).map(move |(draft, number)| {
        let Draft {
            title,
            expected,
            action,
        } = draft;
        Case {
            id: format!("{}-{}-{number:03}", api.tag(), kind.letter()),
            api,
            kind,
            title,
            expected,
            action,
        }
    })
}

/// How many cases to make of so many that differ: all of them where a whole report is wanted, and then, if that is not
/// enough, the first ones again.
fn enough(wanted: u32, different: usize) -> usize {
    let wanted = wanted as usize;
    if wanted >= WANTED as usize {
        wanted.max(different)
    } else {
        wanted
    }
}

/// `dd/mm/yyyy`
fn written(date: Date) -> String {
    date.strftime("%d/%m/%Y").to_string()
}
