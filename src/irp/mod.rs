//! The calls to the Invoice Registration Portal.
//!
//! One rule: each call is one request. It returns what the portal said or why it is not known what the portal did;
//! trying again, logging in again and looking first are the caller's business.

mod answer;
pub mod codes;
mod error;
mod http;
mod ist;
mod nic;
mod wire;

use std::fmt;

use crate::config::credentials::Account;
use crate::config::{IrpConfig, UnknownCode};
use crate::crypto::{AppKey, LoginKey, SessionKey};
use crate::document::string;
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};
use crate::outcome::Info;

pub use answer::{
    AuthToken, Cancellation, EwayBill, GstinDetails, Login, Registration, SignedText,
};
pub use codes::Call;
pub use error::{Duplicate, Fault, IrpError, Refusal, Unreadable};
pub use http::IrpConfigFault;

use http::Answer;
use nic::Nic;
use wire::{Envelope, Verdict};

/// The portal. One for the process: it holds the connections.
pub struct Irp {
    nic: Nic,
    login_key: LoginKey,
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
    /// The session's key.
    pub key: &'a SessionKey,
}

impl Irp {
    /// Reads the files that `[irp]` names and builds the client.
    pub fn try_new(config: &IrpConfig) -> Result<Self, IrpConfigFault> {
        let base_url = http::base_url(config)?;
        let pem = http::read_file("irp.public_key_file", &config.public_key_file)?;
        let login_key = LoginKey::from_pem(&pem).map_err(|error| IrpConfigFault {
            key: "irp.public_key_file",
            file: Some(config.public_key_file.clone()),
            problem: error.to_string(),
            remedy: "use the key for API logins that the portal gave you for this environment",
        })?;
        let nic = Nic::new(http::client(config)?, base_url, config.header_style)?;
        Ok(Self {
            nic,
            login_key,
            unknown_codes: config.unknown_codes.clone(),
        })
    }

    /// How far the portal's clock is ahead of ours, if it says what time it is. Sends neither credentials nor a name.
    ///
    /// # Errors
    /// When nothing answers there.
    pub async fn clock(&self) -> Result<Option<jiff::SignedDuration>, IrpError> {
        let answer = http::exchange(Call::LookUp, self.nic.ping()).await?;
        let now = jiff::Timestamp::now();
        Ok(answer.date.map(|time| time.duration_since(now)))
    }

    /// Logs in. `force` asks for a new token; the portal honours that in the last ten minutes of the old one only,
    /// and otherwise hands out the running token again.
    pub async fn login(&self, account: &Account, force: bool) -> Result<Login, IrpError> {
        let app_key = AppKey::generate();
        let json = nic::login_json(account, &app_key, force);
        let sealed =
            self.login_key
                .seal_login(json.as_bytes())
                .map_err(|_| IrpError::Unsendable {
                    why: "user name and password are too long for the portal's login",
                })?;
        let request = self
            .nic
            .login(account, format!("{{\"Data\":\"{sealed}\"}}"))?;
        let answer = http::exchange(Call::Login, request).await?;
        let envelope = self.judge(Call::Login, &answer)?;
        let data = envelope.data.ok_or(IrpError::Unintelligible {
            why: "a login without data",
        })?;
        Login::read(data, &app_key, answer.date)
    }

    /// Registers a document, sealed byte for byte.
    pub async fn generate(
        &self,
        access: &Access<'_>,
        document: &[u8],
    ) -> Result<Registration, IrpError> {
        let request = self.nic.generate(access, document)?;
        self.call(Call::Generate, access, request, Registration::read)
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
        let request = self.nic.by_document(access, seller, kind, number, date)?;
        self.call(Call::LookUp, access, request, Registration::read)
            .await
    }

    /// Looks a registration of `seller` up by its IRN.
    pub async fn by_irn(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        irn: &Irn,
    ) -> Result<Registration, IrpError> {
        let request = self.nic.by_irn(access, seller, irn)?;
        self.call(Call::LookUp, access, request, Registration::read)
            .await
    }

    /// What the portal's copy says of a GSTIN.
    pub async fn gstin_details(
        &self,
        access: &Access<'_>,
        gstin: &Gstin,
    ) -> Result<GstinDetails, IrpError> {
        let request = self.nic.gstin(access, "gstin", gstin)?;
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
        let request = self.nic.gstin(access, "syncgstin", gstin)?;
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
            .nic
            .cancel(access, &nic::cancel_json(irn, reason, remark))?;
        self.call(Call::Cancel, access, request, |json, _| {
            Cancellation::read(json)
        })
        .await
    }

    /// Has an e-way bill issued for a registration, as `payload` asks for it, sealed byte for byte.
    pub async fn eway_bill(
        &self,
        access: &Access<'_>,
        payload: &[u8],
    ) -> Result<EwayBill, IrpError> {
        let request = self.nic.eway_bill(access, payload)?;
        self.call(Call::EwayBill, access, request, EwayBill::read)
            .await
    }

    /// Looks the e-way bill of a registration up.
    pub async fn eway_bill_by_irn(
        &self,
        access: &Access<'_>,
        irn: &Irn,
    ) -> Result<EwayBill, IrpError> {
        let request = self.nic.eway_bill_by_irn(access, irn)?;
        self.call(Call::LookUp, access, request, EwayBill::read)
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
        // An empty text is no data, and no proof that our key is wrong.
        let data = envelope.data.filter(|data| data.get() != "\"\"");
        let Some(data) = data else {
            return Err(IrpError::lost(
                call,
                Some(answer.status),
                answer.retry_after,
                Unreadable::NoVerdict,
            ));
        };
        // A gateway that unseals for us hands the object over as it is.
        let Some(sealed) = string(data) else {
            return read(data.get(), envelope.info);
        };
        let opened = access
            .key
            .open(&sealed)
            .map_err(|_| IrpError::Undecipherable)?;
        let json = simdutf8::basic::from_utf8(&opened).map_err(|_| IrpError::Undecipherable)?;
        read(json, envelope.info)
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
        if answer.status == 429 {
            return Err(IrpError::Throttled {
                retry_after: answer.retry_after,
            });
        }
        let envelope = match Envelope::parse(&answer.body) {
            Ok(envelope) => envelope,
            Err(_) if answer.status == 401 => return Err(self.session_refused(call)),
            Err(why) => return Err(lost(why)),
        };
        match envelope.verdict(http_success) {
            Verdict::Success => Ok(envelope),
            Verdict::Neither if answer.status == 401 => Err(self.session_refused(call)),
            Verdict::Neither => Err(lost(Unreadable::NoVerdict)),
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
                Err(refusal.map_or_else(|| lost(Unreadable::NoVerdict), IrpError::Refused))
            }
        }
    }

    /// HTTP 401 without a readable reason.
    fn session_refused(&self, call: Call) -> IrpError {
        let fault = Fault {
            code: "401".to_owned(),
            message: "HTTP 401".to_owned(),
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

#[cfg(test)]
mod tests;
