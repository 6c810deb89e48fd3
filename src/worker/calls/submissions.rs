//! Submits: calls that change something. From the moment one leaves until a readable answer comes, its outcome is unknown.
//!
//! One rule: a submit is repeated only where it is certain that the portal did not act on it.

use std::pin::pin;

use super::{Answer, Calls, may_have_acted};
use crate::crash::Point;
use crate::irp::{Access, Cancellation, EwayBill, Irp, IrpError, Registration};
use crate::outcome::Disposition;
use crate::request::Cancel;
use crate::worker::copies::unless_begun_elsewhere;
use crate::worker::settle::Ending;

/// What is submitted.
trait Submission {
    type Answer;

    /// The call, in metrics and traces.
    const CALL: &'static str;

    fn send(
        &self,
        irp: &Irp,
        access: &Access<'_>,
    ) -> impl Future<Output = Result<Self::Answer, IrpError>> + Send;
}

/// A document to be registered.
struct Generate<'b>(&'b [u8]);

impl Submission for Generate<'_> {
    type Answer = Registration;

    const CALL: &'static str = "generate";

    async fn send(&self, irp: &Irp, access: &Access<'_>) -> Result<Registration, IrpError> {
        irp.generate(access, self.0).await
    }
}

impl Submission for Cancel {
    type Answer = Cancellation;

    const CALL: &'static str = "cancel";

    async fn send(&self, irp: &Irp, access: &Access<'_>) -> Result<Cancellation, IrpError> {
        let reason = self.reason.as_str();
        irp.cancel(access, &self.irn, reason, &self.remark).await
    }
}

/// The payload that asks for an e-way bill.
struct Ewb<'b>(&'b [u8]);

impl Submission for Ewb<'_> {
    type Answer = EwayBill;

    const CALL: &'static str = "ewb";

    async fn send(&self, irp: &Irp, access: &Access<'_>) -> Result<EwayBill, IrpError> {
        irp.eway_bill(access, self.0).await
    }
}

impl Calls<'_> {
    /// Registers the document.
    pub(in crate::worker) async fn generate(&mut self, body: &[u8]) -> Answer<Registration> {
        let answer = self.submit(&Generate(body)).await?;
        self.unless_portal_is_down(answer).await
    }

    /// Cancels a registration.
    pub(in crate::worker) async fn cancel(&mut self, order: &Cancel) -> Answer<Cancellation> {
        let answer = self.submit(order).await?;
        self.unless_portal_is_down(answer).await
    }

    /// Has an e-way bill issued.
    pub(in crate::worker) async fn eway_bill(&mut self, payload: &[u8]) -> Answer<EwayBill> {
        let answer = self.submit(&Ewb(payload)).await?;
        self.unless_portal_is_down(answer).await
    }

    fn unless_past_deadline(&self) -> Result<(), Box<Ending>> {
        if self.case.is_past_deadline() {
            return Err(Box::new(Ending::Expired));
        }
        Ok(())
    }

    async fn submit<S: Submission>(&mut self, what: &S) -> Answer<S::Answer> {
        loop {
            // What is too late already waits for no rate; and the session and the rate may take a while.
            self.unless_past_deadline()?;
            let session = self.ready().await?;
            self.unless_past_deadline()?;
            unless_begun_elsewhere(self.worker, self.case, &self.account)?;
            self.worker.crash.at(Point::Submitting);
            self.worker.copies.begin(self.case);
            let before = self.case.portal();
            self.case.doubt_at(&self.portal.name);
            let access = session.access();
            // Where they stay, here and elsewhere: a future that is handed over as it is lies in its task twice, and the
            // task of a job would be moved about with thirty kilobytes.
            let submitting = pin!(what.send(&self.portal.irp, &access));
            let submitting = self.worker.crash.during(Point::Submitted, submitting);
            let answer = self.observed(S::CALL, submitting).await;
            self.worker.crash.at(Point::Answered);
            let error = match answer {
                Ok(done) => return Ok(Ok(done)),
                Err(error) => error,
            };
            match &error {
                IrpError::NotSent(_) | IrpError::Unsendable { .. } => self.case.clear_doubt(false),
                IrpError::Throttled { .. } => self.case.clear_doubt(true),
                // A passing fault of the portal's own may have struck after it acted: that stays in doubt.
                IrpError::Refused(_) if !may_have_acted(&error) => self.case.clear_doubt(true),
                IrpError::Refused(_)
                | IrpError::Unconfirmed { .. }
                | IrpError::Server { .. }
                | IrpError::Unexplained { .. }
                | IrpError::Undecipherable
                | IrpError::Unintelligible { .. } => {}
            }
            // Where that one was sent, this one does not tell.
            if self.earlier_doubt {
                self.case.doubt_still(before);
            }
            match &error {
                IrpError::NotSent(_) if self.wait_for_another_try(&error).await? => {}
                // The token was refused at the gate: nothing was acted on, so the same request may go again.
                IrpError::Refused(_) if error.disposition() == Disposition::Reauth => {
                    self.renew_once(&session, &error).await?;
                }
                IrpError::Undecipherable => {
                    self.portal.sessions.invalidate(&session).await;
                    return Ok(Err(error));
                }
                _ => return Ok(Err(error)),
            }
        }
    }
}
