//! What follows when the portal refuses a document because of its own copy of a GSTIN (3028, 3029): that GSTIN is
//! synchronised with the common portal, and the document submitted once more (NIC, text of 3029, "Sync GSTIN").
//!
//! One rule: it cannot loop, nor cost two errors for each document of a GSTIN that synchronising does not help. A
//! GSTIN is synchronised when a document of it is refused, for all that were submitted before the answer; those of its
//! documents are submitted once more, in the same attempt. One that is submitted later and refused all the same has it
//! synchronised for the second time; whatever is refused within the hour after that is refused.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::calls::{Calls, label};
use super::case::Case;
use super::settle::Ending;
use crate::document;
use crate::gstin::Gstin;
use crate::irp::{Fault, IrpError, Validity};
use crate::telemetry;

/// How long an answer holds: the common portal changes a registration's status within days, not minutes.
const HOLDS_FOR: Duration = Duration::from_secs(3600);

/// The codes that speak of the portal's copy.
const STALE: [&str; 2] = ["3028", "3029"];

/// What is known of GSTINs that were synchronised lately.
#[derive(Debug, Default)]
pub(super) struct Resyncs {
    /// By portal: each has a copy of its own.
    known: DashMap<(Arc<str>, Gstin), Arc<Mutex<Known>>>,
}

/// Its lock is held across the call, so that many documents of one buyer cost one.
#[derive(Debug, Default)]
struct Known {
    said: Option<Said>,
    /// When the last call failed in passing: who was waiting then shares the failure.
    failed: Option<Instant>,
}

/// What the common portal said of a GSTIN.
#[derive(Clone, Copy, Debug)]
struct Said {
    at: Instant,
    status: GstinStatus,
    /// It was asked again, because a document was refused after it had said that the GSTIN is in order. Asked for the
    /// third time, it would say the same, and each document that is submitted once more on it may cost an error.
    again: bool,
}

/// The status of a registration, as far as documents depend on it (NIC, "Get GSTIN details").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GstinStatus {
    /// `ACT`
    Active,
    /// `SUS`: may buy, but not sell.
    Suspended,
    /// Cancelled, inactive, provisional, or not known at all.
    Inactive,
}

impl GstinStatus {
    /// What the portal's word for it means.
    pub(super) fn parse(text: &str) -> Self {
        let begins_as_suspended = || {
            let start = text.trim_start().get(..3);
            start.is_some_and(|start| start.eq_ignore_ascii_case("SUS"))
        };
        match Validity::of(text) {
            Validity::Active => Self::Active,
            Validity::Other(_) if begins_as_suspended() => Self::Suspended,
            Validity::Other(_) | Validity::Cancelled | Validity::Lost => Self::Inactive,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Inactive => "inactive",
        }
    }

    fn may(self, role: Role) -> bool {
        match role {
            Role::Account | Role::Seller => self == Self::Active,
            Role::Other => self != Self::Inactive,
        }
    }
}

/// What a GSTIN is in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The one in whose name we call.
    Account,
    Seller,
    Other,
}

/// What is to be done with a document refused for a stale GSTIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Its GSTINs are in order now: submit it once more.
    OnceMore,
    /// Another document had just asked, and there was no answer: once more, but later.
    Later,
    /// They are not in order, or were before it was submitted and synchronising does not help: the refusal stands.
    Refused,
    /// The account's own GSTIN may not sell: no document of it will pass.
    AccountRefused,
}

impl Resyncs {
    /// What to do about `refusal`, the answer to a submit begun at `submitted`.
    pub(super) async fn advise(
        &self,
        case: &Case,
        calls: &mut Calls<'_>,
        refusal: &IrpError,
        submitted: Instant,
    ) -> Result<Advice, Box<Ending>> {
        let IrpError::Refused(refused) = refusal else {
            return Ok(Advice::Refused);
        };
        let text = std::str::from_utf8(case.job.body.as_bytes()).unwrap_or_default();
        let mut all = Vec::new();
        for gstin in blamed(&refused.faults, &document::gstins(text)) {
            let role = role(case, calls, &gstin);
            match self.status(case, calls, gstin, role, submitted).await? {
                Some(said) => all.push((role, said)),
                None => return Ok(Advice::Later),
            }
        }
        Ok(advice(&all, submitted))
    }

    /// What is said of the GSTIN, synchronised first where that is called for; none where somebody else's call for it has
    /// just failed in passing.
    async fn status(
        &self,
        case: &Case,
        calls: &mut Calls<'_>,
        gstin: Gstin,
        role: Role,
        submitted: Instant,
    ) -> Result<Option<Said>, Box<Ending>> {
        let asked = Instant::now();
        let copy = (Arc::clone(&calls.portal().name), gstin);
        let known = Arc::clone(&self.known.entry(copy).or_default());
        let mut known = known.lock().await;
        let before = known.said.filter(Said::holds);
        if let Some(said) = before.filter(|said| said.settles(role, submitted)) {
            return Ok(Some(said));
        }
        if known.failed.is_some_and(|failed| failed > asked) {
            return Ok(None);
        }
        match calls.sync(&gstin).await {
            Ok(status) => {
                telemetry::gstin_synchronised(case.about(), status.as_str());
                let said = Said {
                    at: Instant::now(),
                    status,
                    again: before.is_some(),
                };
                known.said = Some(said);
                Ok(Some(said))
            }
            Err(ending) => {
                if let Ending::Transient { .. } = &*ending {
                    known.failed = Some(Instant::now());
                }
                Err(ending)
            }
        }
    }

    /// Drops what holds no longer. To be called now and then.
    pub(super) fn forget_the_old(&self) {
        self.known.retain(|_, known| {
            // One that is locked is being asked for.
            known
                .try_lock()
                .map_or(true, |known| known.said.as_ref().is_some_and(Said::holds))
        });
    }
}

impl Said {
    fn holds(&self) -> bool {
        self.at.elapsed() < HOLDS_FOR
    }

    /// Whether it tells what to do with a document submitted then, so that nobody is to be asked again.
    fn settles(&self, role: Role, submitted: Instant) -> bool {
        self.at >= submitted || self.again || !self.status.may(role)
    }
}

/// The ending of a document whose GSTIN could not be synchronised just now.
pub(super) fn later(refusal: &IrpError) -> Ending {
    Ending::Transient {
        code: label(refusal),
        not_before: None,
    }
}

fn role(case: &Case, calls: &Calls<'_>, gstin: &Gstin) -> Role {
    if calls.is_account(gstin) {
        Role::Account
    } else if case
        .document()
        .is_some_and(|document| document.seller == *gstin)
    {
        Role::Seller
    } else {
        Role::Other
    }
}

/// What follows from what was said of each GSTIN that the refusal is about.
fn advice(all: &[(Role, Said)], submitted: Instant) -> Advice {
    let refused = |(role, said): &&(Role, Said)| !said.status.may(*role);
    if let Some((role, _)) = all.iter().find(refused) {
        return match role {
            Role::Account => Advice::AccountRefused,
            Role::Seller | Role::Other => Advice::Refused,
        };
    }
    if all.iter().any(|(_, said)| said.at >= submitted) {
        Advice::OnceMore
    } else {
        Advice::Refused
    }
}

/// Which of the document's GSTINs the refusal is about: those its texts name, else the first one, the buyer's. A GSTIN
/// that is not the document's own is nobody's business.
fn blamed(faults: &[Fault], in_document: &[Gstin]) -> Vec<Gstin> {
    let texts: Vec<String> = faults
        .iter()
        .filter(|fault| STALE.contains(&fault.code.as_str()))
        .map(|fault| fault.message.to_ascii_uppercase())
        .collect();
    let is_named = |gstin: &Gstin| texts.iter().any(|text| names(text, gstin.as_str()));
    let named: Vec<Gstin> = in_document.iter().copied().filter(is_named).collect();
    if named.is_empty() {
        in_document.first().copied().into_iter().collect()
    } else {
        named
    }
}

/// Whether the text has the GSTIN as a word of its own.
fn names(text: &str, gstin: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word == gstin)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUYER: &str = "27AABCT9421M1ZY";
    const SELLER: &str = "29AAGCE4783K1Z1";

    fn gstins() -> [Gstin; 2] {
        [BUYER.parse().unwrap(), SELLER.parse().unwrap()]
    }

    fn fault(code: &str, message: &str) -> Fault {
        Fault {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_gstins_that_the_texts_name_are_meant_else_the_buyer() {
        let [buyer, seller] = gstins();
        let both = [
            fault("3029", "GSTIN-27aabct9421m1zy is inactive"),
            fault("3028", "Invalid Gstin(29AAGCE4783K1Z1)."),
        ];
        for (faults, meant) in [
            (&both[..], vec![buyer, seller]),
            (&both[1..], vec![seller]),
            (&[fault("3029", "a GSTIN is inactive")], vec![buyer]),
            (&[fault("3029", "33AAKFN5208R1ZT is inactive")], vec![buyer]),
            (
                &[fault("3029", "X27AABCT9421M1ZYZ 29AAGCE4783K1Z1")],
                vec![seller],
            ),
            (
                &[fault("2150", "29AAGCE4783K1Z1"), fault("3029", "")],
                vec![buyer],
            ),
        ] {
            assert_eq!(blamed(faults, &[buyer, seller]), meant, "{faults:?}");
        }
        assert_eq!(blamed(&both, &[]), []);
    }

    #[test]
    fn status_is_read_in_any_case_and_written_out() {
        use GstinStatus::{Active, Inactive, Suspended};
        for (words, expected) in [
            (&["ACT", "act", "Active", " ACT "][..], Active),
            (&["SUS", "Suspended"], Suspended),
            (&["CNL", "INA", "PRO", "Cancelled", "x", ""], Inactive),
        ] {
            for word in words {
                assert_eq!(GstinStatus::parse(word), expected, "{word}");
            }
        }
    }

    #[test]
    fn what_was_said_decides_and_nothing_older_than_the_submit_has_it_sent_again() {
        use GstinStatus::{Active, Inactive, Suspended};
        use Role::{Account, Other, Seller};
        let submitted = Instant::now();
        let said = |role, status, seconds: u64| {
            let at = submitted + Duration::from_secs(seconds) - Duration::from_secs(10);
            let again = false;
            (role, Said { at, status, again })
        };
        for (all, expected) in [
            (vec![said(Other, Active, 11)], Advice::OnceMore),
            (vec![said(Other, Suspended, 11)], Advice::OnceMore),
            (vec![said(Other, Inactive, 11)], Advice::Refused),
            (vec![said(Other, Active, 5)], Advice::Refused),
            (vec![said(Other, Inactive, 5)], Advice::Refused),
            (vec![said(Seller, Suspended, 11)], Advice::Refused),
            (vec![said(Account, Suspended, 11)], Advice::AccountRefused),
            (
                vec![said(Other, Active, 5), said(Seller, Active, 11)],
                Advice::OnceMore,
            ),
            (Vec::new(), Advice::Refused),
        ] {
            assert_eq!(advice(&all, submitted), expected, "{all:?}");
        }
    }

    #[test]
    fn portal_is_asked_again_once_and_only_where_its_answer_did_not_help() {
        use GstinStatus::{Active, Inactive, Suspended};
        let submitted = Instant::now();
        let (before, after) = (
            submitted - Duration::from_secs(5),
            submitted + Duration::from_secs(1),
        );
        for (at, status, again, role, settles) in [
            // It was not known yet when the document was submitted.
            (after, Active, false, Role::Other, true),
            // It was, and the document was refused all the same.
            (before, Active, false, Role::Other, false),
            (before, Suspended, false, Role::Other, false),
            (before, Active, true, Role::Other, true),
            // No wonder that it was refused.
            (before, Inactive, false, Role::Other, true),
            (before, Suspended, false, Role::Seller, true),
        ] {
            let said = Said { at, status, again };
            assert_eq!(said.settles(role, submitted), settles, "{said:?} {role:?}");
        }
    }
}
