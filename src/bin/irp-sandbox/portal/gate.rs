//! The checks before any call is looked at, in the portal's order: 1011, 1012, 1010, 1004, 1006, then 1005 or 1015
//! (a client with several things wrong sees the first).

use std::borrow::Cow;

use crate::answer::Refused;
use crate::call::Headers;
use crate::sandbox::Sandbox;
use crate::sessions::Session;

impl Sandbox {
    /// Checks client and GSTIN: all that a login carries in its headers.
    pub(super) fn admit_client(&self, headers: &Headers) -> Result<(), Refused> {
        if headers.client_id.is_empty() {
            return Err(Refused::one("1011", "Client Id is required"));
        }
        if headers.client_secret.is_empty() {
            return Err(Refused::one("1012", "Client Secret is required"));
        }
        if !self
            .accounts()
            .knows_client(&headers.client_id, &headers.client_secret)
        {
            return Err(Refused::one("1010", "Invalid Client-ID/Client-Secret"));
        }
        if headers.gstin.is_empty() {
            return Err(Refused::one("1004", "Header GSTIN is required"));
        }
        self.check_blocked(headers)
    }

    /// Checks all headers of a call after the login, and finds its session.
    pub(super) fn admit(&self, headers: &Headers) -> Result<Session, Refused> {
        self.admit_client(headers)?;
        if headers.user_name.is_empty() {
            return Err(Refused::one("1006", "User Name is required"));
        }
        let now = self.now();
        let session = self.sessions().find(&headers.token, now).cloned();
        let session = session.filter(|session| {
            session.holder.user == headers.user_name
                && session.holder.client_id == headers.client_id
        });
        let Some(session) = session else {
            return Err(Refused::one("1005", "Invalid Token"));
        };
        if session.holder.gstin != headers.gstin {
            return Err(Refused::one("1015", "Invalid GSTIN for this user"));
        }
        Ok(session)
    }

    /// The portal blocks whoever makes too many errors.
    fn check_blocked(&self, headers: &Headers) -> Result<(), Refused> {
        let marked = self
            .registry()
            .find(&headers.gstin)
            .is_some_and(|taxpayer| taxpayer.blocked);
        let (of_gstin, of_client) = self.stats.errors_of(&headers.gstin, &headers.client_id);
        let settings = self.settings();
        let spent = |budget: Option<u64>, errors| budget.is_some_and(|budget| errors >= budget);
        let blocked = marked
            || spent(settings.error_budget_per_gstin, of_gstin)
            || spent(settings.error_budget_per_client, of_client);
        if !blocked {
            return Ok(());
        }
        let code = settings.block_code.clone();
        let message: Cow<'static, str> = if code == "1014" {
            "Inactive User".into()
        } else {
            "The access of this user is blocked".into()
        };
        Err(Refused::one(code, message))
    }
}
