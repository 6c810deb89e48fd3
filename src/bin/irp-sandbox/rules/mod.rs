//! What the portal demands of an INV-01 document (version 1.1): first the form of every field, all findings at once,
//! then, when the form is right, arithmetic and parties, all findings at once.

pub(crate) mod arithmetic;
pub(crate) mod eway_bill;
pub(crate) mod fields;
pub(crate) mod form;
pub(crate) mod invoice;
pub(crate) mod masters;
pub(crate) mod parties;
pub(crate) mod patterns;

use rust_decimal::Decimal;

use crate::answer::PortalError;

/// Differences up to one rupee from the whole rupees around what is due are rounding.
fn differs(amount: Decimal, due: Decimal) -> bool {
    amount < due.floor() - Decimal::ONE || amount > due.ceil() + Decimal::ONE
}

/// A hostile document must not make the answer larger than itself.
const MAX_FINDINGS: usize = 1_000;

/// The findings of one document.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<PortalError>);

impl Findings {
    /// Notes `code` when `wrong`.
    fn note(&mut self, wrong: bool, code: &'static str, message: impl FnOnce() -> String) {
        if wrong && self.0.len() < MAX_FINDINGS {
            self.0.push(PortalError::new(code, message()));
        }
    }

    /// All of them, in the order found.
    pub(crate) fn into_errors(self) -> Vec<PortalError> {
        self.0
    }
}
