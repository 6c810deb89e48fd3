//! The shapes of the portal's answers, read tolerantly where the portal and the gateways before it vary.
//!
//! One rule: only what is looked at is read, and it is borrowed; an answer is never turned into a tree. Every form
//! accepted here was documented by NIC or seen in the field.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::config::UnknownCode;
use crate::crypto;
use crate::document::{members, members_of, string};
use crate::irn::Irn;
use crate::irp::codes;
use crate::irp::error::{Duplicate, DuplicateKind, Fault, Unreadable};
use crate::outcome::Info;

/// How deep a text may hold JSON that holds a text that holds JSON.
const MAX_NESTING: u8 = 4;

const CODE_NAMES: [&str; 4] = ["ErrorCode", "error_code", "error_cd", "errorCodes"];
const MESSAGE_NAMES: [&str; 5] = [
    "ErrorMessage",
    "error_message",
    "errorDesc",
    "error_desc",
    "message",
];

/// An answer's outer object.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    status: Option<bool>,
    /// `Data`, unless it is null.
    pub(super) data: Option<&'a RawValue>,
    /// Everything the answer says went wrong.
    pub(super) faults: Vec<Fault>,
    /// `InfoDtls` and `Alert`.
    pub(super) info: Vec<Info>,
    /// From the `InfoDtls` of a duplicate.
    pub(super) duplicate: Option<Duplicate>,
}

/// What an answer is, taken together with its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Refusal,
    /// A refusal in so many words, with nothing that says why.
    Unexplained,
    /// Neither: for example a gateway's own JSON error page.
    Neither,
}

impl<'a> Envelope<'a> {
    /// Reads the outer object of an answer.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Unreadable> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if body.trim_ascii().is_empty() {
            return Err(Unreadable::Empty);
        }
        let text = simdutf8::basic::from_utf8(body).map_err(|_| Unreadable::NotJson)?;
        let [
            status,
            gateway_status,
            data,
            details,
            info,
            alert,
            description,
            error,
            errors,
        ] = members_of(
            text,
            [
                "Status",
                "status_cd",
                "Data",
                "ErrorDetails",
                "InfoDtls",
                "Alert",
                "status_desc",
                "error",
                "errors",
            ],
        )
        .map_err(|_| Unreadable::NotJson)?;
        let status = status
            .and_then(flag)
            .or_else(|| gateway_status.and_then(flag));
        let (mut info, duplicate) = read_info(info);
        if let Some(alert) = alert.and_then(text_of).filter(|alert| !alert.is_empty()) {
            info.push(Info {
                code: "ALERT".to_owned(),
                detail: alert.into_owned(),
            });
        }
        let mut envelope = Self {
            status,
            data: data.filter(|data| !is_null(data)),
            faults: Vec::new(),
            info,
            duplicate,
        };
        if status != Some(true) {
            envelope.read_faults([details, description, error, errors], text);
        }
        Ok(envelope)
    }

    /// Codes, wherever they stand, before what is said without one.
    fn read_faults(&mut self, sources: [Option<&RawValue>; 4], top: &str) {
        let (coded, bare) = self.coded_and_bare(sources, top);
        self.faults = coded;
        self.faults.extend(self.duplicate_fault());
        if self.faults.is_empty() {
            self.faults = bare;
        }
    }

    fn coded_and_bare(
        &self,
        sources: [Option<&RawValue>; 4],
        top: &str,
    ) -> (Vec<Fault>, Vec<Fault>) {
        let mut bare = Vec::new();
        for source in sources.into_iter().flatten() {
            let found = faults_in(source.get());
            if found.iter().any(Fault::has_code) {
                return (found, Vec::new());
            }
            if bare.is_empty() {
                bare = found;
            }
        }
        // Some gateways put code and text at the top, or the errors where the data would be; what stands there without a
        // code is not the portal's word.
        let refused_data = self.data.filter(|_| self.status == Some(false));
        let coded = [Some(top), refused_data.map(RawValue::get)]
            .into_iter()
            .flatten()
            .map(|text| {
                let coded = faults_in(text).into_iter().filter(Fault::has_code);
                coded.collect::<Vec<_>>()
            })
            .find(|found| !found.is_empty());
        (coded.unwrap_or_default(), bare)
    }

    /// The portal sends this block with two refusals only: it says which, where their own code was lost or rewritten on
    /// the way.
    fn duplicate_fault(&self) -> Option<Fault> {
        let code = match self.duplicate.as_ref()?.kind {
            DuplicateKind::Here => "2150",
            DuplicateKind::Elsewhere => "2295",
        };
        let says_so = |fault: &Fault| ["2150", "2295"].contains(&fault.code.as_str());
        (!self.faults.iter().any(says_so)).then(|| Fault {
            code: code.to_owned(),
            message: "registered already".to_owned(),
        })
    }

    /// What the answer is. The HTTP status proves little (refusals come with 200), but with another status only
    /// what is certainly the portal's word counts: a code of our table or of the operator's (`irp.unknown_codes`), and
    /// any other code only where the status does not say that somebody failed or gave up waiting.
    pub(super) fn verdict(&self, status: u16, operator: &[(String, UnknownCode)]) -> Verdict {
        let http_success = (200..300).contains(&status);
        let server_failed = matches!(status, 408 | 500..);
        let known = || {
            let is_known = |fault: &Fault| codes::is_known(&fault.code, operator);
            self.faults.iter().any(is_known)
        };
        let coded = || self.faults.iter().any(Fault::has_code);
        match self.status {
            Some(true) if http_success => Verdict::Success,
            Some(false) if http_success && !self.faults.is_empty() => Verdict::Refusal,
            Some(false) if coded() && !server_failed => Verdict::Refusal,
            Some(false) if known() => Verdict::Refusal,
            Some(false) if http_success => Verdict::Unexplained,
            None if known() => Verdict::Refusal,
            None if http_success && self.faults.is_empty() && self.data.is_some() => {
                Verdict::Success
            }
            Some(_) | None => Verdict::Neither,
        }
    }
}

/// A JSON value's text: a string's content, a number as it is printed, nothing for `null`.
pub(super) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get().as_bytes().first()? {
        b'"' => string(raw),
        b'0'..=b'9' | b'-' | b't' | b'f' => Some(Cow::Borrowed(raw.get())),
        _ => None,
    }
}

/// As [`text_of`], trimmed and owned; nothing for an empty text either.
pub(super) fn owned_text(raw: Option<&RawValue>) -> Option<String> {
    let text = text_of(raw?)?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// `1`, `"1"`, `true` or `0`, `"0"`, `false`, or a service provider's word for success; anything else says nothing. A
/// gateway's "failed" does not say that the portal refused.
fn flag(raw: &RawValue) -> Option<bool> {
    let text = text_of(raw)?;
    let is = |words: &[&str]| {
        let text = text.trim();
        words.iter().any(|word| text.eq_ignore_ascii_case(word))
    };
    // "Sucess" is how one of them spells it, at logins.
    if is(&["1", "true", "success", "sucess"]) {
        return Some(true);
    }
    is(&["0", "false"]).then_some(false)
}

fn faults_in(json: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    collect_faults(json, MAX_NESTING, &mut faults);
    faults
}

/// Reads errors from an array, an object, a text, a text that holds JSON, or base64 of JSON.
fn collect_faults(json: &str, nesting: u8, faults: &mut Vec<Fault>) {
    let Some(nesting) = nesting.checked_sub(1) else {
        return;
    };
    match json.as_bytes().first() {
        Some(b'[') => {
            for entry in serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default() {
                collect_faults(entry.get(), nesting, faults);
            }
        }
        Some(b'{') => fault_of_object(json, faults),
        Some(b'"') => {
            let text: String = serde_json::from_str(json).unwrap_or_default();
            match inner_json(&text) {
                Some(inner) => collect_faults(&inner, nesting, faults),
                None => faults_of_text(&text, faults),
            }
        }
        Some(b'0'..=b'9') => faults.push(Fault {
            code: json.to_owned(),
            message: String::new(),
        }),
        _ => {}
    }
}

fn fault_of_object(json: &str, faults: &mut Vec<Fault>) {
    let (Ok(codes), Ok(messages)) = (
        members_of(json, CODE_NAMES),
        members_of(json, MESSAGE_NAMES),
    ) else {
        return;
    };
    let first = |values: &[Option<&RawValue>]| values.iter().copied().find_map(owned_text);
    let code = first(&codes).map(|code| code.trim_end_matches(',').to_owned());
    match (code, first(&messages)) {
        (None, None) => {}
        (None, Some(message)) => faults_of_text(&message, faults),
        (Some(code), message) => faults.push(Fault {
            code,
            message: message.unwrap_or_default(),
        }),
    }
}

/// A bare text, perhaps with its code in front: `2150 : Duplicate IRN`; or several of them in one, with semicolons
/// between them.
fn faults_of_text(text: &str, faults: &mut Vec<Fault>) {
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    let before = faults.len();
    for piece in text.split_inclusive(';') {
        match (coded(piece), faults.get_mut(before..)) {
            (Some(fault), Some([])) => faults.push(fault),
            (Some(fault), Some([.., last])) if follows(last, &fault) => faults.push(fault),
            (_, Some([.., last])) => last.message.push_str(piece),
            (_, _) => faults.push(Fault {
                code: String::new(),
                message: piece.to_owned(),
            }),
        }
    }
    for fault in faults.iter_mut().skip(before) {
        let message = fault.message.trim().trim_end_matches(';').trim_end();
        fault.message = message.to_owned();
    }
}

/// Whether what looks like another error is one. A number behind a semicolon may be part of the text before it: it is none
/// where it has a text of its own, where there is no text before it, or where we know it as a code of documents.
fn follows(last: &Fault, next: &Fault) -> bool {
    let is_bare = |fault: &Fault| fault.message.trim().trim_end_matches(';').is_empty();
    last.has_code() && (!is_bare(next) || is_bare(last) || is_of_documents(&next.code))
}

fn is_of_documents(code: &str) -> bool {
    code.starts_with(['2', '5']) && codes::explain(code).is_some()
}

/// `2150 : Duplicate IRN`, or `2150 Duplicate IRN` where that is a code of documents that we know.
fn coded(text: &str) -> Option<Fault> {
    let text = text.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (code, rest) = text.split_at(digits);
    let message = rest.trim_start();
    let is_set_off =
        message.trim_end_matches(';').is_empty() || message.starts_with([':', '-', '–']);
    let is_known = || digits == 4 && rest.starts_with(' ') && is_of_documents(code);
    ((3..=5).contains(&digits) && (is_set_off || is_known())).then(|| Fault {
        code: code.to_owned(),
        message: message.trim_start_matches([':', '-', '–']).to_owned(),
    })
}

/// The JSON that a text holds, plainly or in base64.
fn inner_json(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    if text.starts_with(['[', '{', '"']) && serde_json::from_str::<&RawValue>(text).is_ok() {
        return Some(Cow::Borrowed(text));
    }
    let decoded = String::from_utf8(crypto::decode_base64(text)?).ok()?;
    let json = decoded.trim();
    (json.starts_with(['[', '{']) && serde_json::from_str::<&RawValue>(json).is_ok())
        .then(|| Cow::Owned(json.to_owned()))
}

/// Reads `InfoDtls`, and from it what is said of a duplicate, wherever it stands in the list.
pub(super) fn read_info(raw: Option<&RawValue>) -> (Vec<Info>, Option<Duplicate>) {
    let (mut info, mut duplicate) = (Vec::new(), None);
    if let Some(raw) = raw {
        collect_info(raw.get(), MAX_NESTING, &mut info, &mut duplicate);
    }
    (info, duplicate)
}

fn collect_info(json: &str, nesting: u8, info: &mut Vec<Info>, duplicate: &mut Option<Duplicate>) {
    let Some(nesting) = nesting.checked_sub(1) else {
        return;
    };
    match json.as_bytes().first() {
        Some(b'[') => {
            for entry in serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default() {
                collect_info(entry.get(), nesting, info, duplicate);
            }
        }
        Some(b'{') => {
            let [code, misspelt, detail] =
                members_of(json, ["InfCd", "InfoCode", "Desc"]).unwrap_or_default();
            let code = owned_text(code)
                .or_else(|| owned_text(misspelt))
                .unwrap_or_default();
            if let Some(kind) = DuplicateKind::of(&code) {
                let what = read_duplicate(detail.map_or(json, RawValue::get), MAX_NESTING);
                *duplicate = Some(Duplicate { kind, ..what });
            }
            let detail = detail.map(|detail| match detail.get().as_bytes().first() {
                Some(b'"') => string(detail).unwrap_or_default().into_owned(),
                _ if is_null(detail) => String::new(),
                _ => detail.get().to_owned(),
            });
            info.push(Info {
                code,
                detail: detail.unwrap_or_default(),
            });
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(json).unwrap_or_default();
            match inner_json(&text) {
                Some(inner) => collect_info(&inner, nesting, info, duplicate),
                None if text.trim().is_empty() => {}
                None => info.push(Info {
                    code: String::new(),
                    detail: text,
                }),
            }
        }
        _ => {}
    }
}

/// `{"AckNo":…,"AckDt":…,"Irn":…,"IrnDtl":{"RegIrp":…}}`, in an array or a text if need be.
fn read_duplicate(json: &str, nesting: u8) -> Duplicate {
    let Some(nesting) = nesting.checked_sub(1) else {
        return Duplicate::default();
    };
    match json.as_bytes().first() {
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(json)
            .unwrap_or_default()
            .first()
            .map(|first| read_duplicate(first.get(), nesting))
            .unwrap_or_default(),
        Some(b'"') => {
            let text: String = serde_json::from_str(json).unwrap_or_default();
            inner_json(&text)
                .map(|inner| read_duplicate(&inner, nesting))
                .unwrap_or_default()
        }
        _ => {
            let [irn, ack_no, ack_date, details, at] =
                members_of(json, ["Irn", "AckNo", "AckDt", "IrnDtl", "RegIrp"]).unwrap_or_default();
            let [inner_at] = details
                .map(|details| members(details, ["RegIrp"]))
                .unwrap_or_default();
            Duplicate {
                kind: DuplicateKind::default(),
                irn: owned_text(irn).and_then(|irn| irn.parse::<Irn>().ok()),
                ack_no: owned_text(ack_no),
                ack_date: owned_text(ack_date),
                registered_at: owned_text(inner_at).or_else(|| owned_text(at)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
