//! What an operator tells all replicas at once: messages of the exchange `irn.control`.
//!
//! One rule: a message that is not understood whole is not heeded. It may come from a later version, or from anybody.

mod notice;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::gstin::Gstin;

pub use notice::Notice;

/// Longer than any order can be.
const LONGEST_BYTES: usize = 4096;

/// The only version so far.
const VERSION: u32 = 1;

/// An order to every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The trouble with this GSTIN is over: forget what its account was refused for and its errors so far.
    Resume(Gstin),
    /// The trouble with this client is over: forget the errors so far of all its GSTINs together.
    ResumeClient(String),
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
    /// It names no GSTIN, and no client instead.
    #[error("it names no GSTIN, or not one GSTIN or client alone")]
    Gstin,
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
            "resume" => match (wire.gstin, wire.client) {
                (Some(gstin), None) => {
                    let gstin = gstin.parse().map_err(|_| Unheeded::Gstin)?;
                    Ok(Self::Resume(gstin))
                }
                (None, Some(client)) => Ok(Self::ResumeClient(client.into_owned())),
                (Some(_), Some(_)) | (None, None) => Err(Unheeded::Gstin),
            },
            _ => Err(Unheeded::Action),
        }
    }

    /// The message.
    pub fn to_json(&self) -> String {
        let (gstin, client) = match self {
            Self::Resume(gstin) => (Some(gstin.as_str()), None),
            Self::ResumeClient(client) => (None, Some(client.as_str().into())),
        };
        serde_json::json!(Wire {
            version: VERSION,
            action: "resume",
            gstin,
            client,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_read_as_it_was_written_whatever_is_added_to_it() {
        let order = Order::Resume("29AAGCE4783K1Z1".parse().expect("a GSTIN"));
        assert_eq!(Order::read(order.to_json().as_bytes()), Ok(order.clone()));
        let later =
            r#"{"reason":"call 4711","version":1,"gstin":"29AAGCE4783K1Z1","action":"resume"}"#;
        assert_eq!(Order::read(later.as_bytes()), Ok(order));
        for name in ["acme", "Müller \"& Söhne\"\n"] {
            let order = Order::ResumeClient(name.to_owned());
            assert_eq!(Order::read(order.to_json().as_bytes()), Ok(order));
        }
    }

    #[test]
    fn what_is_not_understood_whole_is_not_heeded() {
        let long = format!(
            r#"{{"version":1,"action":"resume","x":"{}"}}"#,
            "x".repeat(5000)
        );
        for (bytes, why) in [
            (&b""[..], Unheeded::Unreadable),
            (b"\xff\xfe", Unheeded::Unreadable),
            (b"[]", Unheeded::Unreadable),
            (br#"{"version":-1,"action":"resume"}"#, Unheeded::Unreadable),
            (br#"{"version":2,"action":"resume"}"#, Unheeded::Version),
            (br#"{"version":1,"action":"stop"}"#, Unheeded::Action),
            (br#"{"version":1,"action":"resume"}"#, Unheeded::Gstin),
            (
                br#"{"version":1,"action":"resume","gstin":"all"}"#,
                Unheeded::Gstin,
            ),
            (
                br#"{"version":1,"action":"resume","gstin":"29AAGCE4783K1Z1","client":"acme"}"#,
                Unheeded::Gstin,
            ),
            (long.as_bytes(), Unheeded::Unreadable),
        ] {
            assert_eq!(Order::read(bytes), Err(why));
        }
    }
}
