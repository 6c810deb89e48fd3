//! One request as it arrived: which call of the portal it is, and the headers that matter.

use std::borrow::Cow;
use std::fmt;

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::stats::Order;
/// In whose words a request came, and is to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Contract {
    /// The portal's own, its bodies sealed.
    #[default]
    Nic,
    /// MasterGST's, plain.
    MasterGst,
}

/// The calls of the portal, with what their address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Auth,
    Generate,
    GetByIrn(String),
    GetByDoc(DocumentQuery),
    Cancel,
    Rejected(Option<String>),
    Gstin(String),
    Sync(String),
    EwbGenerate,
    EwbGet(String),
    EwbCancel,
}

/// The query of "IRN by document details"; names in any case are the caller's matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct DocumentQuery {
    pub(crate) doctype: Option<String>,
    pub(crate) docnum: Option<String>,
    pub(crate) docdate: Option<String>,
}

/// The names under which calls are counted and faults are aimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Endpoint {
    Auth,
    Generate,
    GetByIrn,
    GetByDoc,
    Cancel,
    Gstin,
    Sync,
    /// Issue and cancellation of e-way bills.
    Ewb,
    /// Look-up of an e-way bill.
    GetEwb,
    /// Rejected IRNs.
    Rejected,
}

impl Call {
    pub(crate) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Auth => Endpoint::Auth,
            Self::Generate => Endpoint::Generate,
            Self::GetByIrn(_) => Endpoint::GetByIrn,
            Self::GetByDoc(_) => Endpoint::GetByDoc,
            Self::Cancel => Endpoint::Cancel,
            Self::Rejected(_) => Endpoint::Rejected,
            Self::Gstin(_) => Endpoint::Gstin,
            Self::Sync(_) => Endpoint::Sync,
            Self::EwbGenerate | Self::EwbCancel => Endpoint::Ewb,
            Self::EwbGet(_) => Endpoint::GetEwb,
        }
    }

    /// What it asks for about a registration.
    pub(crate) fn order(&self) -> Option<Order> {
        match self {
            Self::Cancel => Some(Order::Cancel),
            Self::EwbGenerate => Some(Order::EwayBill),
            Self::Auth
            | Self::Generate
            | Self::GetByIrn(_)
            | Self::GetByDoc(_)
            | Self::Rejected(_)
            | Self::Gstin(_)
            | Self::Sync(_)
            | Self::EwbGet(_)
            | Self::EwbCancel => None,
        }
    }

    /// Whether its body carries encrypted `Data`.
    pub(crate) fn has_data(&self) -> bool {
        matches!(
            self,
            Self::Generate | Self::Cancel | Self::EwbGenerate | Self::EwbCancel
        )
    }
}

/// The headers every call carries, whatever their names there (NIC, generate-irn page, "request headers").
#[derive(Default)]
pub(crate) struct Headers {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) gstin: String,
    pub(crate) user_name: String,
    pub(crate) token: String,
    pub(crate) sup_gstin: String,
    /// Of a plain login.
    pub(crate) password: String,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Headers(..)")
    }
}

impl Headers {
    /// Reads them in any case, spelt with `_`, with `-` or without; absent ones are empty.
    pub(crate) fn read(map: &HeaderMap) -> Self {
        let mut headers = Self::default();
        for (name, value) in map {
            let name = name.as_str();
            let known = match name.replace(['_', '-'], "").as_str() {
                "clientid" => &mut headers.client_id,
                "clientsecret" => &mut headers.client_secret,
                "gstin" => &mut headers.gstin,
                "username" => &mut headers.user_name,
                "authtoken" => &mut headers.token,
                "supgstin" => &mut headers.sup_gstin,
                _ => continue,
            };
            // A header given twice reaches the portal joined, and then matches nobody (seen with two GSTIN headers).
            if !known.is_empty() {
                known.push_str(", ");
            }
            known.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
        headers
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) contract: Contract,
    pub(crate) call: Call,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "Data", alias = "data")]
    data: Cow<'a, str>,
}

impl Request {
    /// Whether it brought something to be read.
    pub(crate) fn has_payload(&self) -> bool {
        match self.contract {
            Contract::Nic => self.data().is_some(),
            Contract::MasterGst => !self.body.is_empty(),
        }
    }

    /// The `Data` member of the body, unless it is missing or empty.
    pub(crate) fn data(&self) -> Option<Cow<'_, str>> {
        let envelope: Envelope<'_> = serde_json::from_slice(&self.body).ok()?;
        Some(envelope.data).filter(|data| !data.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                axum::http::HeaderName::try_from(*name).unwrap(),
                value.parse().unwrap(),
            );
        }
        Headers::read(&map)
    }

    #[test]
    fn header_names_are_read_in_every_spelling() {
        let spelt = headers(&[
            ("client-id", "a"),
            ("CLIENT_SECRET", "b"),
            ("Gstin", "c"),
            ("User-Name", "d"),
        ]);
        assert_eq!(
            (spelt.client_id, spelt.client_secret),
            ("a".to_owned(), "b".to_owned())
        );
        assert_eq!(
            (spelt.gstin, spelt.user_name),
            ("c".to_owned(), "d".to_owned())
        );
        assert_eq!(headers(&[("auth-token", "t")]).token, "t");
        assert_eq!(headers(&[("AuthToken", "t")]).token, "t");
    }

    #[test]
    fn a_repeated_header_is_joined_and_so_matches_nobody() {
        assert_eq!(headers(&[("Gstin", "X"), ("gstin", "X")]).gstin, "X, X");
    }
}
