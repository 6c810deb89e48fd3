//! Authentication v1.04 (NIC, authentication page): the RSA-encrypted login in, token and wrapped session key out.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::Refusal;
use crate::answer::{Answer, Granted, Payload, Refused};
use crate::call::{Contract, Headers, Request};
use crate::clock::stamp;
use crate::crypto::{Key, open_login};
use crate::sandbox::Sandbox;
use crate::sessions::Holder;

/// What the client encrypts. Not `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    user_name: String,
    password: String,
    app_key: String,
    #[serde(default)]
    force_refresh_access_token: Value,
}

impl Login {
    /// The page says "true", its samples a boolean: both are understood.
    fn forces(&self) -> bool {
        match &self.force_refresh_access_token {
            Value::Bool(force) => *force,
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
        }
    }
}

impl Sandbox {
    pub(super) fn log_in(&self, request: &Request) -> Answer {
        match request.contract {
            Contract::Nic => self.log_in_sealed(request),
            Contract::MasterGst => self.log_in_plain(&request.headers),
        }
    }

    /// As MasterGST does it for its clients: with what they send in headers, and a session key that it keeps. It cannot
    /// be asked for a new token.
    fn log_in_plain(&self, headers: &Headers) -> Answer {
        self.admit_client(headers)?;
        let (user, password) = (headers.user_name.as_str(), headers.password.as_str());
        if user.is_empty() {
            return Err(Refused::one("1006", "User Name is required"));
        }
        self.check_user(&headers.client_id, &headers.gstin, (user, password))?;
        Ok(self.grant(headers, user, false, |_| Value::Null))
    }

    fn log_in_sealed(&self, request: &Request) -> Answer {
        let headers = &request.headers;
        self.admit_client(headers)?;
        let data = request
            .data()
            .ok_or_else(|| Refused::one("5003", "Data cannot be null or empty"))?;
        let undecipherable = || Refused::one("1020", "Decryption failed");
        let plain = open_login(&self.keys.login, &data).ok_or_else(undecipherable)?;
        let login: Login = serde_json::from_slice(&plain).map_err(|_| undecipherable())?;
        let app_key = Key::from_base64(&login.app_key)
            .ok_or_else(|| Refused::one("1016", "Decryption of App Key failed"))?;
        let (user, password) = (login.user_name.as_str(), login.password.as_str());
        self.check_user(&headers.client_id, &headers.gstin, (user, password))?;
        let wrapped = |key: &Key| json!(key.wrapped_under(&app_key));
        Ok(self.grant(headers, user, login.forces(), wrapped))
    }

    fn grant(
        &self,
        headers: &Headers,
        user: &str,
        force: bool,
        sek: impl FnOnce(&Key) -> Value,
    ) -> Granted {
        let holder = Holder {
            client_id: headers.client_id.clone(),
            gstin: headers.gstin.clone(),
            user: user.to_owned(),
        };
        let life = self.settings().token_life();
        let session = self.sessions().grant(holder, force, self.now(), life);
        Payload::Login(json!({
            "ClientId": headers.client_id,
            "UserName": user,
            "AuthToken": session.token,
            "Sek": sek(&session.key),
            "TokenExpiry": stamp(session.expires),
        }))
        .into()
    }

    fn check_user(
        &self,
        client_id: &str,
        gstin: &str,
        (user, password): (&str, &str),
    ) -> Result<(), Refused> {
        let frozen = self
            .registry()
            .find(gstin)
            .is_some_and(|taxpayer| taxpayer.frozen);
        let checked = self.accounts().log_in(client_id, gstin, user, password);
        match checked {
            Err(Refusal::UnknownUser) => Err(Refused::one(
                "1017",
                "Incorrect user id/User does not exists",
            )),
            Err(Refusal::OtherGstin) => Err(Refused::one("1015", "Invalid GSTIN for this user")),
            Err(Refusal::OtherClient) => {
                Err(Refused::one("1018", "Client Id is not mapped to this user"))
            }
            Ok(()) | Err(Refusal::WrongPassword) if frozen => {
                Err(Refused::one("3033", "This account is Freezed"))
            }
            Err(Refusal::WrongPassword) => Err(Refused::one("1019", "Incorrect Password")),
            Ok(()) => Ok(()),
        }
    }
}
