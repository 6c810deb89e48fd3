//! The GSTIN registry, twice: what the invoice portal believes, and what the common portal knows. They differ until a
//! sync call copies the second over the first (NIC, Sync GSTIN page). A well-formed GSTIN nobody set is active.

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rules::masters::is_gstin;

/// State of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Status {
    Act,
    /// Cancelled.
    Cnl,
    /// Inactive.
    Ina,
    /// Provisional.
    Pro,
    /// Suspended: may still receive documents.
    Sus,
    /// Not in the register at all (3028, 3001).
    None,
}

impl Status {
    fn code(self) -> &'static str {
        match self {
            Self::Act => "ACT",
            Self::Cnl => "CNL",
            Self::Ina => "INA",
            Self::Pro => "PRO",
            Self::Sus => "SUS",
            Self::None => "NONE",
        }
    }
}

/// One GSTIN. `POST /_sandbox/taxpayers` takes this structure with the GSTIN beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Taxpayer {
    pub(crate) status: Status,
    /// The common portal's truth, which sync fetches; absent when both agree.
    pub(crate) portal_status: Option<Status>,
    /// `REG`, `SEZ`, `SED`, …; absent: no rule about the type applies.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// First and last day of the registration.
    pub(crate) registered: Option<Date>,
    pub(crate) deregistered: Option<Date>,
    /// Its API users may not log in (3033).
    pub(crate) frozen: bool,
    /// Blocked by the portal: every call is answered with the block code.
    pub(crate) blocked: bool,
    pub(crate) legal_name: Option<String>,
    pub(crate) pin: Option<u32>,
}

impl Default for Taxpayer {
    fn default() -> Self {
        Self {
            status: Status::Act,
            portal_status: None,
            kind: None,
            registered: None,
            deregistered: None,
            frozen: false,
            blocked: false,
            legal_name: None,
            pin: None,
        }
    }
}

impl Taxpayer {
    /// Whether its type is known and is `kind`.
    pub(crate) fn is_of_type(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// The decrypted answer of GSTIN details and sync (NIC, GSTIN details page, v1.04).
    pub(crate) fn details(&self, gstin: &str) -> Value {
        let state: u32 = gstin
            .get(..2)
            .and_then(|code| code.parse().ok())
            .unwrap_or_default();
        let name = self
            .legal_name
            .clone()
            .unwrap_or_else(|| format!("Sandbox Taxpayer {gstin}"));
        json!({
            "Gstin": gstin,
            "TradeName": name,
            "LegalName": name,
            "AddrBnm": null,
            "AddrBno": "1",
            "AddrFlno": null,
            "AddrSt": "Sandbox Street",
            "AddrLoc": "Sandbox",
            "StateCode": state,
            "AddrPncd": self.pin.unwrap_or(100_001),
            "TxpType": self.kind.as_deref().unwrap_or("REG"),
            "Status": self.status.code(),
            "BlkStatus": if self.blocked { "B" } else { "U" },
            "DtReg": self.registered.map_or_else(|| "2017-07-01".to_owned(), |day| day.to_string()),
            "DtDReg": self.deregistered.map(|day| day.to_string()),
        })
    }
}

/// All GSTINs that are not simply active.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: HashMap<String, Taxpayer>,
}

impl Registry {
    /// Sets one entry, replacing what was set before.
    pub(crate) fn set(&mut self, gstin: String, taxpayer: Taxpayer) {
        self.entries.insert(gstin, taxpayer);
    }

    /// The portal's belief; `None` when it does not know the GSTIN.
    pub(crate) fn find(&self, gstin: &str) -> Option<Cow<'_, Taxpayer>> {
        match self.entries.get(gstin) {
            Some(known) => (known.status != Status::None).then_some(Cow::Borrowed(known)),
            None => is_gstin(gstin).then(|| Cow::Owned(Taxpayer::default())),
        }
    }

    /// Copies the common portal's truth over the portal's belief and returns it.
    pub(crate) fn sync(&mut self, gstin: &str) -> Option<Cow<'_, Taxpayer>> {
        if let Some(known) = self.entries.get_mut(gstin)
            && let Some(truth) = known.portal_status
        {
            known.status = truth;
        }
        self.find(gstin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_copy_becomes_true_by_sync_only() {
        let mut registry = Registry::default();
        let stale = r#"{"status":"INA","portal_status":"ACT"}"#;
        registry.set(
            "27AABCT9421M1ZY".to_owned(),
            serde_json::from_str(stale).unwrap(),
        );
        assert_eq!(
            registry.find("27AABCT9421M1ZY").unwrap().status,
            Status::Ina
        );
        assert_eq!(
            registry.sync("27AABCT9421M1ZY").unwrap().status,
            Status::Act
        );
        assert_eq!(
            registry.find("27AABCT9421M1ZY").unwrap().status,
            Status::Act
        );
    }

    #[test]
    fn well_formed_gstins_are_active_unless_set() {
        let mut registry = Registry::default();
        assert_eq!(
            registry.find("29AABCT1332L000").unwrap().status,
            Status::Act
        );
        assert!(registry.find("URP").is_none());
        let gone = Taxpayer {
            status: Status::None,
            ..Taxpayer::default()
        };
        registry.set("29AABCT1332L000".to_owned(), gone);
        assert!(registry.find("29AABCT1332L000").is_none());
    }
}
