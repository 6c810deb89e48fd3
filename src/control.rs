//! What an operator tells all replicas: messages of the exchange `irn.control`, and of the log `irn.control.log`, which
//! keeps them for those that start later.
//!
//! One rule: a message that is not understood whole is not heeded. It may come from a later version, or from anybody.

mod notice;
mod pause;
mod paused;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use notice::{Deed, LoggedIn, Notice, Progress, Word};
pub use pause::{BadLength, BadReason, LONGEST_PAUSE, Pause, Pauses, Reason, Whom};
pub use paused::{Changes, Paused};

/// Longer than any order can be.
const LONGEST_BYTES: usize = 4096;

/// The only version so far.
const VERSION: u32 = 1;

/// An order to every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing is sent to the portal for them until the pause is over or lifted.
    Pause(Whom, Pause),
    /// The trouble is over: a pause is lifted, and what a GSTIN's account was refused for is forgotten, as are the errors
    /// so far of the GSTIN, or of the client as a whole.
    Resume(Whom),
}

/// Why a message is not heeded. Quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheeded {
    /// Not a JSON object with the members of an order.
    #[error("it is not a control message")]
    Unreadable,
    /// A later version of the format.
    #[error("it is of another version than 1")]
    Version,
    /// An action that this version does not know.
    #[error("it asks for an action that this version does not know")]
    Action,
    /// It does not say whom it is about.
    #[error("it names no GSTIN, or not one GSTIN, one client or the portal alone")]
    Whom,
    /// Its reason or times.
    #[error("its reason or its times are not those of a pause")]
    Pause,
}

#[derive(Deserialize, Serialize)]
struct Wire<'a> {
    version: u32,
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gstin: Option<&'a str>,
    // A name may have characters that JSON escapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    portal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

impl Order {
    /// Reads a message. Members that nobody knows are left alone.
    ///
    /// # Errors
    /// Why it is not heeded.
    pub fn read(bytes: &[u8]) -> Result<Self, Unheeded> {
        if bytes.len() > LONGEST_BYTES {
            return Err(Unheeded::Unreadable);
        }
        let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|_| Unheeded::Unreadable)?;
        if wire.version != VERSION {
            return Err(Unheeded::Version);
        }
        match wire.action {
            "pause" => wire.pause(),
            "resume" => Ok(Self::Resume(wire.whom()?)),
            _ => Err(Unheeded::Action),
        }
    }

    /// Whom it is about.
    pub fn whom(&self) -> &Whom {
        match self {
            Self::Pause(whom, _) | Self::Resume(whom) => whom,
        }
    }

    /// The message.
    pub fn to_json(&self) -> String {
        let (action, pause) = match self {
            Self::Pause(_, pause) => ("pause", Some(pause)),
            Self::Resume(_) => ("resume", None),
        };
        let (gstin, client, portal) = match self.whom() {
            Whom::Gstin(gstin) => (Some(gstin.as_str()), None, None),
            Whom::Client(client) => (None, Some(client.into()), None),
            Whom::Portal => (None, None, Some(true)),
        };
        serde_json::json!(Wire {
            version: VERSION,
            action,
            gstin,
            client,
            portal,
            reason: pause.map(|pause| pause.reason.as_str().into()),
            since: pause.map(|pause| pause.since),
            until: pause.map(|pause| pause.until),
        })
        .to_string()
    }
}

impl Wire<'_> {
    fn whom(&self) -> Result<Whom, Unheeded> {
        match (self.gstin, &self.client, self.portal) {
            (Some(gstin), None, None) => {
                let gstin = gstin.parse().map_err(|_| Unheeded::Whom)?;
                Ok(Whom::Gstin(gstin))
            }
            (None, Some(client), None) => Ok(Whom::Client(client.to_string())),
            (None, None, Some(true)) => Ok(Whom::Portal),
            _ => Err(Unheeded::Whom),
        }
    }

    fn pause(&self) -> Result<Order, Unheeded> {
        let whom = self.whom()?;
        let (Some(reason), Some(since), Some(until)) = (&self.reason, self.since, self.until)
        else {
            return Err(Unheeded::Pause);
        };
        let reason = reason.parse().map_err(|_| Unheeded::Pause)?;
        let pause = Pause::try_new(reason, since, until).map_err(|_| Unheeded::Pause)?;
        Ok(Order::Pause(whom, pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gstin() -> Whom {
        Whom::Gstin("29AAGCE4783K1Z1".parse().expect("a GSTIN"))
    }

    #[test]
    fn order_is_read_as_it_was_written_whatever_is_added_to_it() {
        let order = Order::Resume(gstin());
        let later =
            r#"{"reason":"call 4711","version":1,"gstin":"29AAGCE4783K1Z1","action":"resume"}"#;
        assert_eq!(Order::read(later.as_bytes()), Ok(order));
        let client = |name: &str| Whom::Client(name.to_owned());
        let others = ["acme", "Müller \"& Söhne\"\n"].map(client);
        let since = Timestamp::from_second(1_700_000_000).unwrap();
        let until = Timestamp::from_second(1_700_003_600).unwrap();
        let pause =
            Pause::try_new("audit \"§ 4\"".parse().unwrap(), since, until).expect("an hour");
        for whom in others.into_iter().chain([gstin(), Whom::Portal]) {
            for order in [
                Order::Resume(whom.clone()),
                Order::Pause(whom.clone(), pause.clone()),
            ] {
                assert_eq!(Order::read(order.to_json().as_bytes()), Ok(order));
            }
        }
    }

    #[test]
    fn what_is_not_understood_whole_is_not_heeded() {
        let long = format!(
            r#"{{"version":1,"action":"resume","x":"{}"}}"#,
            "x".repeat(5000)
        );
        let paused = |members: &str| format!(r#"{{"version":1,"action":"pause",{members}}}"#);
        let (endless, backwards, portal) = (
            paused(r#""portal":true,"reason":"x""#),
            paused(
                r#""portal":true,"reason":"x","since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z""#,
            ),
            paused(
                r#""portal":false,"reason":"x","since":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00Z""#,
            ),
        );
        for (bytes, why) in [
            (&b""[..], Unheeded::Unreadable),
            (b"\xff\xfe", Unheeded::Unreadable),
            (b"[]", Unheeded::Unreadable),
            (br#"{"version":-1,"action":"resume"}"#, Unheeded::Unreadable),
            (br#"{"version":2,"action":"resume"}"#, Unheeded::Version),
            (br#"{"version":1,"action":"stop"}"#, Unheeded::Action),
            (br#"{"version":1,"action":"resume"}"#, Unheeded::Whom),
            (
                br#"{"version":1,"action":"resume","gstin":"all"}"#,
                Unheeded::Whom,
            ),
            (
                br#"{"version":1,"action":"resume","gstin":"29AAGCE4783K1Z1","client":"acme"}"#,
                Unheeded::Whom,
            ),
            (portal.as_bytes(), Unheeded::Whom),
            (endless.as_bytes(), Unheeded::Pause),
            (backwards.as_bytes(), Unheeded::Pause),
            (long.as_bytes(), Unheeded::Unreadable),
        ] {
            assert_eq!(Order::read(bytes), Err(why));
        }
    }
}
