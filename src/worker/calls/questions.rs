//! Look-ups: calls that change nothing, and may be repeated while the attempt's time lasts.

use std::pin::pin;

use super::{Answer, Calls, label, unclassified};
use crate::document::Document;
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::irp::{Access, EwayBill, Irp, IrpError, Refusal, Registration};
use crate::outcome::Disposition;
use crate::sessions::Session;
use crate::worker::case::UNEXPLAINED;
use crate::worker::settle::Ending;

/// What a look-up says.
pub(in crate::worker) enum LookUp<T = Box<Registration>> {
    Found(T),
    Nothing,
    /// Registered, but too long ago to be fetched.
    TooOld,
}

/// What a look-up says, or why the portal refuses to answer it.
type Understood<T = Box<Registration>> = Result<LookUp<T>, Box<Refusal>>;

/// A call that changes nothing.
enum Question<'q> {
    /// A document and its date as the portal writes it.
    Document(&'q Document, String),
    Irn(&'q Irn),
    /// What has become of it, whatever else is known of it.
    Standing(&'q Irn),
}

impl Question<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Document(..) => "get_by_doc",
            Self::Irn(_) | Self::Standing(_) => "get_by_irn",
        }
    }

    async fn ask(
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
            Self::Standing(irn) => irp.standing_by_irn(&access, seller, irn).await,
        }
    }
}

impl Calls<'_> {
    /// Looks the document up by its details. A number with small letters is registered in capitals, and a portal may
    /// or may not find it by what was typed: it is looked up by its IRN too before it counts as absent.
    pub(in crate::worker) async fn look_up(
        &mut self,
        document: &Document,
    ) -> Result<LookUp, Box<Ending>> {
        let answer = self.ask_for_document(document).await?;
        self.unrefused(answer)
    }

    /// Fetches a registration by its IRN.
    pub(in crate::worker) async fn fetch(&mut self, irn: &Irn) -> Result<LookUp, Box<Ending>> {
        let answer = self.ask_for_irn(irn).await?;
        self.unrefused(answer)
    }

    /// As [`Calls::look_up`], where the answer may be that it is not for us to ask.
    pub(in crate::worker) async fn ask_for_document(
        &mut self,
        document: &Document,
    ) -> Result<Understood, Box<Ending>> {
        let question = Question::Document(document, document.date_text());
        let answer = self.asked(question).await?;
        match self.understood(answer).await? {
            Ok(LookUp::Nothing) if document.number.chars().any(char::is_lowercase) => {
                self.ask_for_irn(&document.irn()).await
            }
            answer => Ok(answer.map(boxed)),
        }
    }

    /// As [`Calls::fetch`], where the answer may be that it is not for us to ask.
    pub(in crate::worker) async fn ask_for_irn(
        &mut self,
        irn: &Irn,
    ) -> Result<Understood, Box<Ending>> {
        let answer = self.asked(Question::Irn(irn)).await?;
        Ok(self.understood(answer).await?.map(boxed))
    }

    /// Fetches what has become of a registration; it may come without its signed data, or not be for us to ask.
    pub(in crate::worker) async fn ask_for_standing(
        &mut self,
        irn: &Irn,
    ) -> Result<Understood, Box<Ending>> {
        let answer = self.asked(Question::Standing(irn)).await?;
        Ok(self.understood(answer).await?.map(boxed))
    }

    /// Looks the e-way bill of a registration up. One that was cancelled is none.
    pub(in crate::worker) async fn ask_for_eway_bill(
        &mut self,
        irn: &Irn,
    ) -> Result<Understood<Box<EwayBill>>, Box<Ending>> {
        let answer = loop {
            let session = self.ready().await?;
            let access = session.access();
            let asking = pin!(self.portal.irp.eway_bill_by_irn(&access, irn));
            match self.observed("get_ewb", asking).await {
                Err(error) if self.may_ask_again(&session, &error).await? => {}
                answer => break answer,
            }
        };
        let answer = self.unless_portal_is_down(answer).await?;
        Ok(self.understood(answer).await?.map(|found| match found {
            LookUp::Found(bill) if !bill.is_cancelled() => LookUp::Found(Box::new(bill)),
            LookUp::Found(_) | LookUp::Nothing => LookUp::Nothing,
            LookUp::TooOld => LookUp::TooOld,
        }))
    }

    /// Of a document that is its own, nobody is refused an answer: what it is worth, a person has to say.
    fn unrefused(&self, answer: Understood) -> Result<LookUp, Box<Ending>> {
        answer.map_err(|refusal| Box::new(unclassified(self.case, &IrpError::Refused(refusal))))
    }

    /// A call that changes nothing.
    async fn asked(&mut self, question: Question<'_>) -> Answer<Registration> {
        let answer = self.repeated(question).await?;
        self.unless_portal_is_down(answer).await
    }

    /// Passing faults are tried again at once, within the attempt's time.
    async fn repeated(&mut self, question: Question<'_>) -> Answer<Registration> {
        let seller = self.seller();
        loop {
            let session = self.ready().await?;
            let asking = question.ask(&self.portal.irp, session.access(), &seller);
            match self.observed(question.name(), asking).await {
                Err(error) if self.may_ask_again(&session, &error).await? => {}
                answer => return Ok(answer),
            }
        }
    }

    /// After a call that changes nothing: whether it may be repeated now, the session renewed or a moment waited.
    pub(super) async fn may_ask_again(
        &mut self,
        session: &Session,
        error: &IrpError,
    ) -> Result<bool, Box<Ending>> {
        match error.disposition() {
            // It was answered, and the next answer costs the taxpayer an error as this one did.
            _ if matches!(error, IrpError::Unexplained { .. }) => Ok(false),
            Disposition::Reauth => self.renew_once(session, error).await.map(|()| true),
            Disposition::Retry { not_before: None } | Disposition::Resolve => {
                self.wait_for_another_try(error).await
            }
            Disposition::Retry {
                not_before: Some(_),
            }
            | Disposition::Adopt
            | Disposition::Conflict
            | Disposition::SyncGstin
            | Disposition::Reject
            | Disposition::RefuseAccount
            | Disposition::NotRegistered
            | Disposition::TooOld
            | Disposition::Park => Ok(false),
        }
    }

    /// Whose document it is: an e-commerce operator's account registers those of others.
    fn seller(&self) -> Gstin {
        let seller = self.case.subject.seller();
        seller.unwrap_or(self.account.gstin)
    }

    /// What a look-up's answer means; anything but an answer to the question ends the attempt.
    async fn understood<T>(
        &self,
        answer: Result<T, IrpError>,
    ) -> Result<Understood<T>, Box<Ending>> {
        let error = match answer {
            Ok(found) => return Ok(Ok(LookUp::Found(found))),
            Err(error) => error,
        };
        match (error.disposition(), error) {
            (Disposition::NotRegistered, _) => Ok(Ok(LookUp::Nothing)),
            (Disposition::TooOld, _) => Ok(Ok(LookUp::TooOld)),
            (Disposition::Reject, IrpError::Refused(refusal)) => Ok(Err(refusal)),
            (
                Disposition::Retry { .. }
                | Disposition::Resolve
                | Disposition::Reauth
                | Disposition::RefuseAccount
                | Disposition::Park
                | Disposition::Reject
                | Disposition::Adopt
                | Disposition::Conflict
                | Disposition::SyncGstin,
                error,
            ) => Err(Box::new(self.unanswered(error).await)),
        }
    }

    /// A question that got no answer ends the attempt.
    pub(super) async fn unanswered(&self, error: IrpError) -> Ending {
        // What the request itself came to decides about it, whatever becomes of the look-ups.
        let code = if self.case.was_unexplained() {
            UNEXPLAINED.to_owned()
        } else {
            label(&error)
        };
        let transient = |not_before| Ending::Transient { code, not_before };
        match error.disposition() {
            Disposition::Retry { not_before } => transient(not_before),
            Disposition::Resolve => transient(None),
            Disposition::Reauth => Ending::SessionRefused {
                code: label(&error),
            },
            Disposition::RefuseAccount => self.account_refused(error).await,
            // Some success, but not one that can be used: a question may be repeated.
            Disposition::Park if matches!(error, IrpError::Unintelligible { .. }) => {
                transient(None)
            }
            Disposition::Park
            | Disposition::Reject
            | Disposition::Adopt
            | Disposition::Conflict
            | Disposition::NotRegistered
            | Disposition::TooOld
            | Disposition::SyncGstin => unclassified(self.case, &error),
        }
    }
}

/// Registrations are large, and their answers are handed on.
fn boxed(found: LookUp<Registration>) -> LookUp {
    match found {
        LookUp::Found(registration) => LookUp::Found(Box::new(registration)),
        LookUp::Nothing => LookUp::Nothing,
        LookUp::TooOld => LookUp::TooOld,
    }
}
