//! What a successful call returns, read from the opened `Data` through borrowed, partial views.
//!
//! One rule: what the portal sent stays as it was. Acknowledgement numbers are digits, not numbers; the signed
//! texts are copied and not looked into here.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::crypto::{AppKey, SessionKey, decode_base64};
use crate::document::{members_of, string};
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::irp::error::{IrpError, Refusal};
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

/// So long ago a token may have ended by our reckoning that the portal hands out as running: clocks differ. What ended earlier
/// is a time of another zone, of another order of day and month, or of a clock of its own, and says nothing.
const JUST_ENDED: SignedDuration = SignedDuration::from_mins(15);

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
    pub clock_skew: Option<SignedDuration>,
    /// Whether the times it writes into its answers are, as far as `TokenExpiry` shows, those of that clock (of ours, where
    /// it did not say what time it is).
    pub dates_by_the_clock: bool,
}

impl Login {
    /// Reads the `Data` of a login's answer: an object, or (at some portals) its JSON as a text, or that text in base64
    /// or sealed with the app key. What is sealed as a whole may hold the session key itself instead of wrapped.
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
            Some(text) => {
                opened = match decode_base64(text).map(Wiped::new) {
                    Some(plain) if is_object(&plain) => plain,
                    Some(_) | None => app_key.open(text).map_err(|_| IrpError::Undecipherable)?,
                };
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
            .or_else(|_| SessionKey::from_base64(&sek))
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
        let expiry = owned_text(expiry).as_deref().and_then(ist::parse);
        let left = expiry.map(|expiry| expiry.duration_since(portal_time.unwrap_or(now)));
        let is_possible = |left: &SignedDuration| *left > -JUST_ENDED;
        Self {
            token,
            key,
            expires_in: left.filter(is_possible).map_or(ASSUMED_LIFETIME, lifetime),
            clock_skew: portal_time.map(|time| time.duration_since(now)),
            dates_by_the_clock: left
                .is_none_or(|left| is_possible(&left) && left.unsigned_abs() <= MAX_LIFETIME),
        }
    }
}

fn is_object(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.trim_start().starts_with('{'))
}

/// A token that a header can carry.
fn token_of(raw: Option<&RawValue>) -> Option<AuthToken> {
    let token = owned_text(raw).map(AuthToken::new)?;
    let sendable = token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    sendable.then_some(token)
}

/// Within [0, 24 h].
fn lifetime(left: SignedDuration) -> Duration {
    Duration::try_from(left)
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

/// Whether a registration, an e-way bill or a taxpayer's registration stands, as its `Status` says. NIC writes `ACT`,
/// `CNL` and `REJ`; whoever hands that on may write the words out, or small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It stands; also where nothing is said of it.
    Active,
    /// It was cancelled.
    Cancelled,
    /// Void, because another portal had registered the document before (NIC, rejected IRNs page).
    Lost,
    /// A word that nobody knows, as sent.
    Other(String),
}

impl Validity {
    fn read(raw: Option<&RawValue>) -> Self {
        owned_text(raw).map_or(Self::Active, |word| Self::of(&word))
    }

    /// What a word of the portal's means. That something stands is believed of the words themselves only.
    pub fn of(word: &str) -> Self {
        let capitals = word.trim().to_ascii_uppercase();
        let begins = |starts: &[&str]| starts.iter().any(|start| capitals.starts_with(start));
        match capitals.as_str() {
            "A" | "ACT" | "ACTIVE" => Self::Active,
            "C" => Self::Cancelled,
            "R" => Self::Lost,
            _ if begins(&["CNL", "CANC"]) => Self::Cancelled,
            _ if begins(&["REJ"]) => Self::Lost,
            _ => Self::Other(word.to_owned()),
        }
    }

    /// The portal's own word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "ACT",
            Self::Cancelled => "CNL",
            Self::Lost => "REJ",
            Self::Other(word) => word,
        }
    }
}

/// A registered document, as the portal answers a registration or a look-up.
pub struct Registration {
    /// `Irn`
    pub irn: Irn,
    /// `AckNo`: its digits as sent, whether number or text.
    pub ack_no: Option<String>,
    /// `AckDt` as sent.
    pub ack_date: Option<String>,
    /// `Status`
    pub status: Validity,
    /// `SignedInvoice`: a JWT; may be empty where it is not active.
    pub signed_invoice: SignedText,
    /// `SignedQRCode`: a JWT; may be empty where it is not active.
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

/// Where an object was expected.
const NO_OBJECT: IrpError = IrpError::Unintelligible {
    why: "its data is no object",
};

impl Registration {
    /// Takes the acknowledgement number as it was signed for the one that stood beside it: whoever handed the answer on may
    /// have rewritten that, and not this.
    pub fn believe(&mut self, signed_ack_no: Option<String>) {
        let is_number =
            |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(signed) = signed_ack_no.filter(is_number) {
            self.ack_no = Some(signed);
        }
    }

    /// Whether signed invoice and signed QR code are there.
    pub fn has_both_tokens(&self) -> bool {
        !self.signed_invoice.is_empty() && !self.signed_qr_code.is_empty()
    }

    /// Drops what was signed.
    pub fn forget_tokens(&mut self) {
        self.signed_invoice = SignedText::default();
        self.signed_qr_code = SignedText::default();
    }

    /// As the answer to a registration: all that a result has to carry.
    pub(super) fn registered(json: &str, info: Vec<Info>) -> Result<Self, IrpError> {
        let read = Self::read(json, info)?;
        match read.status {
            Validity::Active | Validity::Other(_) => read.whole(),
            Validity::Cancelled | Validity::Lost => Ok(read),
        }
    }

    /// As the answer to a look-up: what is not valid may come without.
    pub(super) fn looked_up(json: &str, info: Vec<Info>) -> Result<Self, IrpError> {
        let read = Self::read(json, info)?;
        match read.status {
            Validity::Active => read.whole(),
            Validity::Cancelled | Validity::Lost | Validity::Other(_) => Ok(read),
        }
    }

    fn whole(self) -> Result<Self, IrpError> {
        let lacks = |why| Err(IrpError::Unintelligible { why });
        if self.signed_invoice.is_empty() || self.signed_qr_code.is_empty() {
            return lacks("a registration without its signed data");
        }
        if self.ack_no.is_none() {
            return lacks("a registration without an acknowledgement number");
        }
        Ok(self)
    }

    /// Whatever it has besides its IRN.
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
        .map_err(|_| NO_OBJECT)?;
        let irn = irn
            .and_then(text_of)
            .and_then(|irn| irn.trim().parse().ok());
        let mut info = info;
        info.extend(read_info(inner_info).0);
        Ok(Self {
            irn: irn.ok_or(IrpError::Unintelligible {
                why: "a registration without an IRN",
            })?,
            ack_no: owned_text(ack_no),
            ack_date: owned_text(ack_date),
            status: Validity::read(status),
            signed_invoice: SignedText::read(invoice),
            signed_qr_code: SignedText::read(qr_code),
            eway_bill: eway_bill_of(eway_bill),
            info,
        })
    }

    /// Whether it is void because another portal had registered the document before (NIC, rejected IRNs page).
    pub fn has_lost(&self) -> bool {
        self.status == Validity::Lost
    }

    /// When it was acknowledged, where that is certain. The portal rounds it to the minute.
    pub fn acknowledged_at(&self) -> Option<Timestamp> {
        ist::parse_certain(self.ack_date.as_deref()?)
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
    /// `Status`
    pub status: Validity,
    /// Additional information, such as the distance that the portal has computed.
    pub info: Vec<Info>,
}

impl fmt::Debug for EwayBill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EwayBill(..)")
    }
}

impl EwayBill {
    /// As the answer to its issue.
    pub(super) fn issued(json: &str, info: Vec<Info>) -> Result<Self, IrpError> {
        Self::read(json, info)?.ok_or(IrpError::Unintelligible {
            why: "an e-way bill without its number",
        })
    }

    /// As the answer to a look-up: where there is none, some gateways send its members without values.
    pub(super) fn looked_up(json: &str, info: Vec<Info>) -> Result<Self, IrpError> {
        Self::read(json, info)?.ok_or_else(|| IrpError::Refused(Refusal::nothing_found()))
    }

    /// None: it has no number.
    fn read(json: &str, info: Vec<Info>) -> Result<Option<Self>, IrpError> {
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
        .map_err(|_| NO_OBJECT)?;
        let mut info = info;
        info.extend(read_info(inner_info).0);
        Ok(eway_bill_of(members).map(|members| Self {
            members,
            status: Validity::read(status),
            info,
        }))
    }

    /// Whether there is none any more: another one may be issued.
    pub fn is_cancelled(&self) -> bool {
        self.status == Validity::Cancelled
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
        .map_err(|_| NO_OBJECT)?;
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
        Validity::of(&self.status) == Validity::Active
    }
}

/// A cancelled registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// `Irn`
    pub irn: Irn,
    /// `CancelDate` as sent.
    pub cancel_date: Option<String>,
    /// Additional information.
    pub info: Vec<Info>,
}

impl Cancellation {
    pub(super) fn read(json: &str, info: Vec<Info>) -> Result<Self, IrpError> {
        let [irn, date, inner_info] =
            members_of(json, ["Irn", "CancelDate", "InfoDtls"]).map_err(|_| NO_OBJECT)?;
        let mut info = info;
        info.extend(read_info(inner_info).0);
        Ok(Self {
            irn: owned_text(irn).and_then(|irn| irn.parse().ok()).ok_or(
                IrpError::Unintelligible {
                    why: "a cancellation without an IRN",
                },
            )?,
            cancel_date: owned_text(date),
            info,
        })
    }

    /// The cancel date as RFC 3339 with India's offset.
    pub fn cancel_date_rfc3339(&self) -> Option<String> {
        ist::rfc3339(self.cancel_date.as_deref()?)
    }
}
