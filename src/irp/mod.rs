//! The calls to the Invoice Registration Portal.
//!
//! One rule: each call is one request. It returns what the portal said or why it is not known what the portal did;
//! trying again, logging in again and looking first are the caller's business.

mod answer;
pub mod codes;
mod contract;
mod error;
mod http;
mod ist;
mod mastergst;
mod nic;
mod wire;

use std::fmt;

use serde_json::value::RawValue;

use crate::config::credentials::Account;
use crate::config::{IrpConfig, Provider, UnknownCode};
use crate::crypto::SessionKey;
use crate::document::string;
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};
use crate::outcome::Info;

pub use answer::{
    AuthToken, Cancellation, EwayBill, GstinDetails, Login, Registration, SignedText, Validity,
};
pub use codes::Call;
pub use error::{Duplicate, DuplicateKind, Fault, IrpError, Refusal, Unreadable};
pub use http::IrpConfigFault;

use contract::Contract;
use http::Answer;
use mastergst::MasterGst;
use nic::Nic;
use wire::{Envelope, Verdict};

/// The portal, as one route reaches it. One for the process: it holds the connections.
pub struct Irp {
    contract: Box<dyn Contract>,
    unknown_codes: Vec<(String, UnknownCode)>,
}

impl fmt::Debug for Irp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Irp(..)")
    }
}

/// In whose name a call is made: an account and its live session.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Whose GSTIN, user and client.
    pub account: &'a Account,
    /// The session's token.
    pub token: &'a AuthToken,
    /// The session's key, where the contract has one.
    pub key: Option<&'a SessionKey>,
}

/// What answers where the portal should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinged {
    /// How far its clock is ahead of ours, if it says what time it is.
    pub clock: Option<jiff::SignedDuration>,
    /// Whether it answers as the portal does; none where the contract has nothing to tell it by.
    pub is_portal: Option<bool>,
    /// The answer's HTTP status.
    pub status: u16,
}

impl Irp {
    /// Reads the files that the route's settings name and builds the client.
    pub fn try_new(config: &IrpConfig) -> Result<Self, IrpConfigFault> {
        Ok(Self {
            contract: match config.route.provider {
                Provider::Nic => Box::new(Nic::new(config)?),
                Provider::MasterGst => Box::new(MasterGst::new(config)?),
            },
            unknown_codes: config.unknown_codes.clone(),
        })
    }

    /// Whether a login can bring a new token before the old one has ended.
    pub fn can_renew(&self) -> bool {
        self.contract.can_force()
    }

    /// Asks whether anybody is there. Sends neither credentials nor a name, and costs no error.
    ///
    /// # Errors
    /// When nothing answers there.
    pub async fn ping(&self) -> Result<Pinged, IrpError> {
        let answer = http::exchange(Call::LookUp, self.contract.ping()).await?;
        let now = jiff::Timestamp::now();
        Ok(Pinged {
            clock: answer.date.map(|time| time.duration_since(now)),
            is_portal: self.contract.is_alive(&answer),
            status: answer.status,
        })
    }

    /// Logs in. `force` asks for a new token; the portal honours that in the last ten minutes of the old one only,
    /// and otherwise hands out the running token again.
    pub async fn login(&self, account: &Account, force: bool) -> Result<Login, IrpError> {
        let login = self.contract.login(account, force)?;
        let answer = http::exchange(Call::Login, login.request).await?;
        let judged = self.judge(Call::Login, &answer);
        let says_nothing = matches!(
            judged,
            Err(IrpError::Server {
                why: Unreadable::NoVerdict,
                ..
            })
        );
        // A token at the top, and not a word besides, is a login all the same.
        if says_nothing
            && login.app_key.is_none()
            && let Some(login) = Login::read_plain(None, &answer)
        {
            return Ok(login);
        }
        let envelope = judged?;
        match login.app_key {
            Some(app_key) => {
                let data = envelope.data.ok_or(IrpError::Unintelligible {
                    why: "a login without data",
                })?;
                Login::read(data, &app_key, answer.date)
            }
            None => Login::read_plain(envelope.data, &answer)
                .ok_or_else(|| self.refused_as(Call::Login, "401")),
        }
    }

    /// Registers a document, its bytes as they came.
    pub async fn generate(
        &self,
        access: &Access<'_>,
        document: &[u8],
    ) -> Result<Registration, IrpError> {
        let request = self.contract.generate(access, document)?;
        self.call(Call::Generate, access, request, Registration::registered)
            .await
    }

    /// Looks a document of `seller` up by type, number and date (`dd/mm/yyyy`).
    pub async fn by_document(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        kind: DocumentType,
        number: &str,
        date: &str,
    ) -> Result<Registration, IrpError> {
        let request = self
            .contract
            .by_document(access, seller, kind, number, date)?;
        self.call(Call::LookUp, access, request, Registration::looked_up)
            .await
    }

    /// Looks a registration of `seller` up by its IRN.
    pub async fn by_irn(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        irn: &Irn,
    ) -> Result<Registration, IrpError> {
        let request = self.contract.by_irn(access, seller, irn)?;
        self.call(Call::LookUp, access, request, Registration::looked_up)
            .await
    }

    /// The same for one who only asks what has become of it: it may come without its signed data.
    pub async fn standing_by_irn(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        irn: &Irn,
    ) -> Result<Registration, IrpError> {
        let request = self.contract.by_irn(access, seller, irn)?;
        self.call(Call::LookUp, access, request, Registration::read)
            .await
    }

    /// What the portal's copy says of a GSTIN.
    pub async fn gstin_details(
        &self,
        access: &Access<'_>,
        gstin: &Gstin,
    ) -> Result<GstinDetails, IrpError> {
        let request = self.contract.gstin(access, gstin)?;
        self.call(Call::Gstin, access, request, |json, _| {
            GstinDetails::read(json)
        })
        .await
    }

    /// Has the portal refresh its copy of a GSTIN, and returns what it says then.
    pub async fn sync_gstin(
        &self,
        access: &Access<'_>,
        gstin: &Gstin,
    ) -> Result<GstinDetails, IrpError> {
        let request = self.contract.sync_gstin(access, gstin)?;
        self.call(Call::Gstin, access, request, |json, _| {
            GstinDetails::read(json)
        })
        .await
    }

    /// Cancels a registration. `reason` is 1 (duplicate), 2 (data entry mistake), 3 (order cancelled) or 4 (others);
    /// `remark` has at most 100 characters.
    pub async fn cancel(
        &self,
        access: &Access<'_>,
        irn: &Irn,
        reason: &str,
        remark: &str,
    ) -> Result<Cancellation, IrpError> {
        let request = self
            .contract
            .cancel(access, &nic::cancel_json(irn, reason, remark))?;
        self.call(Call::Cancel, access, request, Cancellation::read)
            .await
    }

    /// Has an e-way bill issued for a registration, as `payload` asks for it, its bytes as they came.
    pub async fn eway_bill(
        &self,
        access: &Access<'_>,
        payload: &[u8],
    ) -> Result<EwayBill, IrpError> {
        let request = self.contract.eway_bill(access, payload)?;
        self.call(Call::EwayBill, access, request, EwayBill::issued)
            .await
    }

    /// Looks the e-way bill of a registration up.
    pub async fn eway_bill_by_irn(
        &self,
        access: &Access<'_>,
        irn: &Irn,
    ) -> Result<EwayBill, IrpError> {
        let request = self.contract.eway_bill_by_irn(access, irn)?;
        self.call(Call::LookUp, access, request, EwayBill::looked_up)
            .await
    }

    async fn call<T>(
        &self,
        call: Call,
        access: &Access<'_>,
        request: reqwest::RequestBuilder,
        read: fn(&str, Vec<Info>) -> Result<T, IrpError>,
    ) -> Result<T, IrpError> {
        let answer = http::exchange(call, request).await?;
        let envelope = self.judge(call, &answer)?;
        let is_nothing = |data: &RawValue| call.asks() && self.contract.is_nothing(data);
        if envelope.data.is_some_and(is_nothing) {
            return Err(IrpError::Refused(Refusal::nothing_found()));
        }
        // An empty text is no data, and no proof that our key is wrong.
        let data = envelope.data.filter(|data| data.get() != "\"\"");
        let Some(data) = data else {
            return Err(IrpError::lost(
                call,
                Some(answer.status),
                answer.retry_after,
                Unreadable::Inconclusive,
            ));
        };
        // A gateway that unseals for us hands the object over as it is.
        let Some(text) = string(data) else {
            return read(only_of(data.get()), envelope.info);
        };
        // Without a key it is the object's JSON that the text holds.
        let Some(key) = access.key else {
            return read(only_of(&text), envelope.info);
        };
        let opened = key.open(&text).map_err(|_| IrpError::Undecipherable)?;
        let json = simdutf8::basic::from_utf8(&opened).map_err(|_| IrpError::Undecipherable)?;
        // A wrong key may happen to open something, but never JSON.
        let is_json = || serde_json::from_str::<&RawValue>(json).is_ok();
        read(only_of(json), envelope.info).map_err(|error| {
            if is_json() {
                error
            } else {
                IrpError::Undecipherable
            }
        })
    }

    /// Success, or the error that the answer stands for.
    fn judge<'a>(&self, call: Call, answer: &'a Answer) -> Result<Envelope<'a>, IrpError> {
        let http_success = (200..300).contains(&answer.status);
        let lost = |why| {
            let why = if http_success {
                why
            } else {
                Unreadable::Status(answer.status)
            };
            IrpError::lost(call, Some(answer.status), answer.retry_after, why)
        };
        let refused = || {
            let code = match (answer.status, call) {
                // Turned away before it was read (RFC 9110, section 15.5.14), and it would be again.
                (413, Call::Generate) => "413",
                (status, call) => self.contract.refusal_of(call, status)?,
            };
            Some(self.refused_as(call, code))
        };
        if answer.status == 429 {
            return Err(IrpError::Throttled {
                retry_after: answer.retry_after,
            });
        }
        let envelope = match Envelope::parse(&answer.body) {
            Ok(envelope) => envelope,
            Err(why) => {
                return Err(refused().unwrap_or_else(|| lost(why)));
            }
        };
        match envelope.verdict(answer.status, &self.unknown_codes) {
            Verdict::Success => Ok(envelope),
            Verdict::Unexplained => Err(IrpError::Unexplained {
                call,
                retry_after: answer.retry_after,
            }),
            Verdict::Neither => Err(refused().unwrap_or_else(|| lost(Unreadable::NoVerdict))),
            Verdict::Refusal => {
                let Envelope {
                    faults,
                    info,
                    duplicate,
                    ..
                } = envelope;
                let operator = &self.unknown_codes;
                let refusal =
                    Refusal::judge(call, operator, answer.retry_after, faults, info, duplicate);
                Err(match refusal {
                    None => lost(Unreadable::NoVerdict),
                    Some(refusal) if self.contract.leaves_open(call, refusal.code()) => {
                        lost(Unreadable::Inconclusive)
                    }
                    Some(refusal) => IrpError::Refused(refusal),
                })
            }
        }
    }

    /// A refusal that says no more than this code of our table.
    fn refused_as(&self, call: Call, code: &'static str) -> IrpError {
        let fault = Fault {
            code: code.to_owned(),
            message: codes::explain(code)
                .map_or("", |row| row.meaning)
                .to_owned(),
        };
        Refusal::judge(
            call,
            &self.unknown_codes,
            None,
            vec![fault],
            Vec::new(),
            None,
        )
        .map_or(
            IrpError::Unintelligible {
                why: "a refusal without a reason",
            },
            IrpError::Refused,
        )
    }
}

/// What a list of one holds, in which some gateways wrap what they hand on; anything else as it is.
fn only_of(json: &str) -> &str {
    if !json.trim_start().starts_with('[') {
        return json;
    }
    match serde_json::from_str::<Vec<&RawValue>>(json) {
        Ok(list) if list.len() == 1 => list[0].get(),
        Ok(_) | Err(_) => json,
    }
}

#[cfg(test)]
mod tests;
