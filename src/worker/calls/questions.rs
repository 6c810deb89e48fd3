//! Look-ups: calls that change nothing, and may be repeated while the attempt's time lasts.

use super::{Answer, Calls, label};
use crate::document::Document;
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::irp::{Access, Irp, IrpError, Registration};
use crate::outcome::Disposition;
use crate::sessions::Session;
use crate::worker::settle::Ending;

/// What a look-up says.
pub(in crate::worker) enum LookUp {
    Found(Box<Registration>),
    Nothing,
    /// Registered, but too long ago to be fetched.
    TooOld,
}

/// A call that changes nothing.
enum Question<'q> {
    /// A document and its date as the portal writes it.
    Document(&'q Document, String),
    Irn(&'q Irn),
}

impl Question<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Document(..) => "get_by_doc",
            Self::Irn(_) => "get_by_irn",
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
        let question = Question::Document(document, document.date_text());
        let answer = self.repeated(question).await?;
        match self.understood(answer).await? {
            LookUp::Nothing if document.number.chars().any(char::is_lowercase) => {
                self.fetch(&document.irn()).await
            }
            answer => Ok(answer),
        }
    }

    /// Fetches a registration by its IRN.
    pub(in crate::worker) async fn fetch(&mut self, irn: &Irn) -> Result<LookUp, Box<Ending>> {
        let answer = self.asked(Question::Irn(irn)).await?;
        self.understood(answer).await
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
        let document = self.case.document.as_ref();
        document.map_or(self.account.gstin, |document| document.seller)
    }

    /// What a look-up's answer means; anything but an answer to the question ends the attempt.
    async fn understood(
        &self,
        answer: Result<Registration, IrpError>,
    ) -> Result<LookUp, Box<Ending>> {
        let error = match answer {
            Ok(registration) => return Ok(LookUp::Found(Box::new(registration))),
            Err(error) => error,
        };
        match error.disposition() {
            Disposition::NotRegistered => Ok(LookUp::Nothing),
            Disposition::TooOld => Ok(LookUp::TooOld),
            Disposition::Retry { .. }
            | Disposition::Resolve
            | Disposition::Reauth
            | Disposition::RefuseAccount
            | Disposition::Park
            | Disposition::Reject
            | Disposition::Adopt
            | Disposition::Conflict
            | Disposition::SyncGstin => Err(Box::new(self.unanswered(error).await)),
        }
    }

    /// A question that got no answer ends the attempt.
    pub(super) async fn unanswered(&self, error: IrpError) -> Ending {
        let transient = |not_before| Ending::Transient {
            code: label(&error),
            not_before,
        };
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
            | Disposition::SyncGstin => self.unclassified(&error),
        }
    }
}
