//! Having the portal refresh its copy of a GSTIN: a call like the look-ups, which may be repeated.

use super::Calls;
use crate::gstin::Gstin;
use crate::irp::{IrpError, codes};
use crate::outcome::Disposition;
use crate::worker::resync::GstinStatus;
use crate::worker::settle::Ending;

impl Calls<'_> {
    /// Has the portal refresh its copy of a GSTIN, and says what that is then.
    pub(in crate::worker) async fn sync(
        &mut self,
        gstin: &Gstin,
    ) -> Result<GstinStatus, Box<Ending>> {
        loop {
            let session = self.ready().await?;
            let access = session.access();
            let asking = self.portal.irp.sync_gstin(&access, gstin);
            let error = match self.observed("sync_gstin", asking).await {
                Ok(details) => return Ok(GstinStatus::parse(&details.status)),
                Err(error) => error,
            };
            if self.may_ask_again(&session, &error).await? {
                continue;
            }
            let is_of_another = !self.is_account(gstin) && is_of_a_gstin(&error);
            return match error.disposition() {
                Disposition::RefuseAccount if is_of_another => Ok(GstinStatus::Inactive),
                // The common portal does not know it either.
                Disposition::NotRegistered | Disposition::SyncGstin | Disposition::Reject => {
                    Ok(GstinStatus::Inactive)
                }
                Disposition::Retry { .. }
                | Disposition::Resolve
                | Disposition::Reauth
                | Disposition::RefuseAccount
                | Disposition::Adopt
                | Disposition::Conflict
                | Disposition::TooOld
                | Disposition::Park => Err(Box::new(self.unanswered(error).await)),
            };
        }
    }

    /// Whether we call in this GSTIN's own name.
    pub(in crate::worker) fn is_account(&self, gstin: &Gstin) -> bool {
        self.account.gstin == *gstin
    }
}

/// Said of the GSTIN that was asked about, it is not the account that is refused.
fn is_of_a_gstin(error: &IrpError) -> bool {
    let row = error.code().and_then(codes::explain);
    row.is_some_and(codes::Code::is_of_a_gstin)
}
