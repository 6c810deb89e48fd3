//! Authentication v1.04 (NIC, authentication page): the RSA-encrypted login in, token and wrapped session key out.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::Refusal;
use crate::answer::{Answer, Payload, Refused};
use crate::call::Request;
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
        self.check_user(&headers.client_id, &headers.gstin, &login)?;

        let holder = Holder {
            client_id: headers.client_id.clone(),
            gstin: headers.gstin.clone(),
            user: login.user_name.clone(),
        };
        let life = self.settings().token_life();
        let session = self
            .sessions()
            .grant(holder, login.forces(), self.now(), life);
        Ok(Payload::Login(json!({
            "ClientId": headers.client_id,
            "UserName": login.user_name,
            "AuthToken": session.token,
            "Sek": session.key.wrapped_under(&app_key),
            "TokenExpiry": stamp(session.expires),
        }))
        .into())
    }

    fn check_user(&self, client_id: &str, gstin: &str, login: &Login) -> Result<(), Refused> {
        let frozen = self
            .registry()
            .find(gstin)
            .is_some_and(|taxpayer| taxpayer.frozen);
        let checked = self
            .accounts()
            .log_in(client_id, gstin, &login.user_name, &login.password);
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
