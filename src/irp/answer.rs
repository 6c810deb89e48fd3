//! What a successful call returns, read from the opened `Data` through borrowed, partial views.
//!
//! One rule: what the portal sent stays as it was. Acknowledgement numbers are digits, not numbers; the signed
//! texts are copied and not looked into here.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::crypto::{AppKey, SessionKey};
use crate::document::{members_of, string};
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::irp::error::IrpError;
use crate::irp::http::Answer;
use crate::irp::ist;
use crate::irp::wire::{is_null, owned_text, read_info, text_of};
use crate::outcome::Info;
use crate::wiped::Wiped;

/// Longer than any token of the portal lives; an expiry beyond it is a clock gone wrong.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Assumed where the expiry cannot be read: the shortest lifetime NIC names (sandbox, 60 minutes). A token that
/// dies sooner is answered 1005, which renews it.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(3600);

/// A session's token. Sent as a header, printed never.
pub struct AuthToken(Zeroizing<String>);

impl AuthToken {
    /// A token as the portal gave it.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The token itself, for the one who sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthToken(..)")
    }
}

/// A successful login: token and session key belong together and are kept together.
#[derive(Debug)]
pub struct Login {
    /// To be sent with every call.
    pub token: AuthToken,
    /// Seals and opens what is exchanged, where the contract does so.
    pub key: Option<SessionKey>,
    /// How long the token lives from now on, corrected by the portal's own clock.
    pub expires_in: Duration,
    /// How far the portal's clock is ahead of ours, if it said what time it is.
    pub clock_skew: Option<jiff::SignedDuration>,
}

impl Login {
    /// Reads the `Data` of a login's answer: an object, or (at some portals) its JSON as a text, or that text sealed
    /// with the app key.
    pub(super) fn read(
        data: &RawValue,
        app_key: &AppKey,
        portal_time: Option<Timestamp>,
    ) -> Result<Self, IrpError> {
        let opened;
        let text = string(data).map(|text| Zeroizing::new(text.into_owned()));
        let json = match &text {
            None => data.get(),
            Some(json) if json.trim_start().starts_with('{') => json,
            Some(sealed) => {
                opened = app_key.open(sealed).map_err(|_| IrpError::Undecipherable)?;
                std::str::from_utf8(&opened).map_err(|_| IrpError::Undecipherable)?
            }
        };
        let [token, sek, expiry] =
            members_of(json, ["AuthToken", "Sek", "TokenExpiry"]).map_err(|_| {
                IrpError::Unintelligible {
                    why: "a login without data",
                }
            })?;
        let token = token_of(token).ok_or(IrpError::Unintelligible {
            why: "a login without a token",
        })?;
        let sek = sek.and_then(text_of).ok_or(IrpError::Unintelligible {
            why: "a login without a session key",
        })?;
        let key = app_key
            .unwrap_session_key(&sek)
            .map_err(|_| IrpError::Undecipherable)?;
        Ok(Self::of(token, Some(key), expiry, portal_time))
    }

    /// Reads a login of a contract without keys: from `data`, an object or its JSON as a text, or from the answer's own
    /// members. Nothing where there is no token.
    pub(super) fn read_plain(data: Option<&RawValue>, answer: &Answer) -> Option<Self> {
        let inner = data.and_then(string);
        let inner = inner.as_deref().or_else(|| data.map(RawValue::get));
        let whole = std::str::from_utf8(&answer.body).ok();
        [inner, whole].into_iter().flatten().find_map(|json| {
            let [token, expiry] = members_of(json, ["AuthToken", "TokenExpiry"]).ok()?;
            let token = token_of(token)?;
            Some(Self::of(token, None, expiry, answer.date))
        })
    }

    fn of(
        token: AuthToken,
        key: Option<SessionKey>,
        expiry: Option<&RawValue>,
        portal_time: Option<Timestamp>,
    ) -> Self {
        let now = Timestamp::now();
        Self {
            token,
            key,
            expires_in: lifetime(owned_text(expiry).as_deref(), portal_time.unwrap_or(now)),
            clock_skew: portal_time.map(|time| time.duration_since(now)),
        }
    }
}

/// A token that a header can carry.
fn token_of(raw: Option<&RawValue>) -> Option<AuthToken> {
    let token = owned_text(raw).map(AuthToken::new)?;
    let sendable = token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    sendable.then_some(token)
}

/// What is left of a token at `now`, within [0, 24 h].
fn lifetime(expiry: Option<&str>, now: Timestamp) -> Duration {
    let Some(expiry) = expiry.and_then(ist::parse) else {
        return ASSUMED_LIFETIME;
    };
    Duration::try_from(expiry.duration_since(now))
        .unwrap_or_default()
        .min(MAX_LIFETIME)
}

/// A signed text, kept as the JSON it came in: so it goes into the result without being written anew.
#[derive(Default)]
pub struct SignedText {
    /// With its quotation marks, without escapes; none where there is no text.
    json: Option<Box<RawValue>>,
}

impl Drop for SignedText {
    fn drop(&mut self) {
        // It holds the document.
        let json = self
            .json
            .take()
            .map(|json| String::from(Box::<str>::from(json)));
        drop(json.map(Wiped::new));
    }
}

impl fmt::Debug for SignedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedText(..)")
    }
}

impl SignedText {
    fn read(raw: Option<&RawValue>) -> Self {
        let json = match raw.and_then(|raw| Some((raw, string(raw)?))) {
            Some((raw, Cow::Borrowed(_))) => Some(raw.to_owned()),
            Some((_, Cow::Owned(text))) => {
                RawValue::from_string(Value::from(text).to_string()).ok()
            }
            None => None,
        };
        Self { json }
    }

    /// The text; a JWT where it is not empty, and so without anything that JSON would escape.
    pub fn as_str(&self) -> &str {
        let json = self.json.as_deref().map_or("", RawValue::get);
        json.trim_matches('"')
    }

    /// The text as JSON; none where it is empty.
    pub fn as_json(&self) -> Option<&RawValue> {
        self.json.as_deref().filter(|_| !self.is_empty())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

/// A registered document, as the portal answers a registration or a look-up.
pub struct Registration {
    /// `Irn`
    pub irn: Irn,
    /// `AckNo`: its digits as sent, whether number or text.
    pub ack_no: String,
    /// `AckDt` as sent.
    pub ack_date: Option<String>,
    /// `Status`: `ACT`, `CNL` (cancelled) or `REJ` (lost to another portal); `ACT` where it is not said.
    pub status: String,
    /// `SignedInvoice`: a JWT; empty only where the status is not `ACT`.
    pub signed_invoice: SignedText,
    /// `SignedQRCode`: a JWT; empty only where the status is not `ACT`.
    pub signed_qr_code: SignedText,
    /// `EwbNo`, `EwbDt`, `EwbValidTill` and `Remarks` as one object, if there is an e-way bill.
    pub eway_bill: Option<Box<RawValue>>,
    /// Additional information.
    pub info: Vec<Info>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({})", self.irn)
    }
}

impl Registration {
    pub(super) fn read(json: &str, info: Vec<Info>) -> Result<Self, IrpError> {
        let [
            irn,
            ack_no,
            ack_date,
            status,
            invoice,
            qr_code,
            inner_info,
            eway_bill @ ..,
        ] = members_of(
            json,
            [
                "Irn",
                "AckNo",
                "AckDt",
                "Status",
                "SignedInvoice",
                "SignedQRCode",
                "InfoDtls",
                EWAY_BILL[0],
                EWAY_BILL[1],
                EWAY_BILL[2],
                EWAY_BILL[3],
            ],
        )
        .map_err(|_| IrpError::Undecipherable)?;
        let irn = irn
            .and_then(text_of)
            .and_then(|irn| irn.trim().parse().ok());
        let status = owned_text(status).unwrap_or_else(|| "ACT".to_owned());
        let (signed_invoice, signed_qr_code) =
            (SignedText::read(invoice), SignedText::read(qr_code));
        if status == "ACT" && (signed_invoice.is_empty() || signed_qr_code.is_empty()) {
            return Err(IrpError::Unintelligible {
                why: "a registration without its signed data",
            });
        }
        let mut info = info;
        info.extend(read_info(inner_info).0);
        Ok(Self {
            irn: irn.ok_or(IrpError::Unintelligible {
                why: "a registration without an IRN",
            })?,
            ack_no: owned_text(ack_no).ok_or(IrpError::Unintelligible {
                why: "a registration without an acknowledgement number",
            })?,
            ack_date: owned_text(ack_date),
            status,
            signed_invoice,
            signed_qr_code,
            eway_bill: eway_bill_of(eway_bill),
            info,
        })
    }

    /// Whether it is void because another portal had registered the document before (NIC, rejected IRNs page).
    pub fn has_lost(&self) -> bool {
        self.status == "REJ"
    }

    /// When it was acknowledged. The portal rounds it to the minute.
    pub fn acknowledged_at(&self) -> Option<Timestamp> {
        ist::parse(self.ack_date.as_deref()?)
    }

    /// The acknowledgement date as RFC 3339 with India's offset: `2025-09-05T12:30:00+05:30`.
    pub fn ack_date_rfc3339(&self) -> Option<String> {
        ist::rfc3339(self.ack_date.as_deref()?)
    }
}

/// The members of an e-way bill.
const EWAY_BILL: [&str; 4] = ["EwbNo", "EwbDt", "EwbValidTill", "Remarks"];

/// The e-way bill's members with their values as sent.
fn eway_bill_of(values: [Option<&RawValue>; 4]) -> Option<Box<RawValue>> {
    values[0]
        .and_then(text_of)
        .filter(|number| !matches!(number.trim(), "" | "0"))?;
    let members: Vec<String> = EWAY_BILL
        .iter()
        .zip(values)
        .filter_map(|(name, value)| Some((name, value.filter(|value| !is_null(value))?)))
        .map(|(name, value)| format!("\"{name}\":{}", value.get()))
        .collect();
    RawValue::from_string(format!("{{{}}}", members.join(","))).ok()
}

/// An e-way bill, as the portal answers its issue or a look-up.
pub struct EwayBill {
    /// `EwbNo`, `EwbDt`, `EwbValidTill` and `Remarks` as one object, with their values as sent.
    pub members: Box<RawValue>,
    /// `Status`: `ACT` or `CNL` (cancelled); `ACT` where it is not said.
    pub status: String,
    /// Additional information, such as the distance that the portal has computed.
    pub info: Vec<Info>,
}

impl fmt::Debug for EwayBill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EwayBill(..)")
    }
}

impl EwayBill {
    pub(super) fn read(json: &str, info: Vec<Info>) -> Result<Self, IrpError> {
        let [status, inner_info, members @ ..] = members_of(
            json,
            [
                "Status",
                "InfoDtls",
                EWAY_BILL[0],
                EWAY_BILL[1],
                EWAY_BILL[2],
                EWAY_BILL[3],
            ],
        )
        .map_err(|_| IrpError::Undecipherable)?;
        let mut info = info;
        info.extend(read_info(inner_info).0);
        Ok(Self {
            members: eway_bill_of(members).ok_or(IrpError::Unintelligible {
                why: "an e-way bill without its number",
            })?,
            status: owned_text(status).unwrap_or_else(|| "ACT".to_owned()),
            info,
        })
    }

    /// Whether goods may travel under it.
    pub fn is_active(&self) -> bool {
        self.status == "ACT"
    }
}

/// What the portal knows of a GSTIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GstinDetails {
    /// `Gstin`
    pub gstin: Gstin,
    /// `Status`: `ACT`, `CNL`, `INA`, `PRO` or `SUS`.
    pub status: String,
    /// `BlkStatus`: `U` (not blocked) or `B` (blocked).
    pub block_status: Option<String>,
    /// `TxpType`: `REG`, `SEZ` and so on.
    pub taxpayer_type: Option<String>,
    /// `DtReg`, `yyyy-MM-dd`
    pub registered_on: Option<String>,
    /// `DtDReg`, `yyyy-MM-dd`
    pub deregistered_on: Option<String>,
}

impl GstinDetails {
    pub(super) fn read(json: &str) -> Result<Self, IrpError> {
        let [gstin, status, block, kind, registered, deregistered] = members_of(
            json,
            ["Gstin", "Status", "BlkStatus", "TxpType", "DtReg", "DtDReg"],
        )
        .map_err(|_| IrpError::Undecipherable)?;
        Ok(Self {
            gstin: owned_text(gstin)
                .and_then(|gstin| gstin.parse().ok())
                .ok_or(IrpError::Unintelligible {
                    why: "details of a GSTIN without the GSTIN",
                })?,
            status: owned_text(status).ok_or(IrpError::Unintelligible {
                why: "details of a GSTIN without its status",
            })?,
            block_status: owned_text(block),
            taxpayer_type: owned_text(kind),
            registered_on: owned_text(registered),
            deregistered_on: owned_text(deregistered),
        })
    }

    /// Whether documents may be registered under it, or for it.
    pub fn is_active(&self) -> bool {
        self.status == "ACT"
    }
}

/// A cancelled registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// `Irn`
    pub irn: Irn,
    /// `CancelDate` as sent.
    pub cancel_date: Option<String>,
}

impl Cancellation {
    pub(super) fn read(json: &str) -> Result<Self, IrpError> {
        let [irn, date] =
            members_of(json, ["Irn", "CancelDate"]).map_err(|_| IrpError::Undecipherable)?;
        Ok(Self {
            irn: owned_text(irn).and_then(|irn| irn.parse().ok()).ok_or(
                IrpError::Unintelligible {
                    why: "a cancellation without an IRN",
                },
            )?,
            cancel_date: owned_text(date),
        })
    }

    /// The cancel date as RFC 3339 with India's offset.
    pub fn cancel_date_rfc3339(&self) -> Option<String> {
        ist::rfc3339(self.cancel_date.as_deref()?)
    }
}
