//! Questions to the portal: calls that change nothing, so that they can be asked again at any time.

use crate::document::Document;
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::irp::{Access, Irp, IrpError, Registration};

/// A call that changes nothing.
pub(super) enum Question<'q> {
    /// A document and its date as the portal writes it.
    Document(&'q Document, String),
    Irn(&'q Irn),
}

impl Question<'_> {
    /// What the call is named in metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Document(..) => "get_by_doc",
            Self::Irn(_) => "get_by_irn",
        }
    }

    /// Asks once.
    pub(super) async fn ask(
        &self,
        irp: &Irp,
        access: Access<'_>,
        seller: &Gstin,
    ) -> Result<Registration, IrpError> {
        match self {
            Self::Document(document, date) => {
                let Document { kind, number, .. } = document;
                irp.by_document(&access, seller, *kind, number, date).await
            }
            Self::Irn(irn) => irp.by_irn(&access, seller, irn).await,
        }
    }
}
