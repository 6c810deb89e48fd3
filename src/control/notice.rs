//! What replicas tell one another over the same exchange as the operators' orders.
//!
//! One rule: notices only ever make a replica hold back. Who forges one costs some waiting, and nothing else.

use serde::{Deserialize, Serialize};

use super::{LONGEST_BYTES, VERSION};
use crate::gstin::Gstin;

/// Something that the other replicas should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The sender has just begun to listen: whoever has something to tell of late, tells it again.
    Hello,
    /// The sender logs in for this GSTIN now.
    Login(Gstin),
}

#[derive(Deserialize, Serialize)]
struct Wire<'a> {
    version: u32,
    action: &'a str,
    replica: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gstin: Option<&'a str>,
}

impl Notice {
    /// Reads a message: whose notice it is, and what it says. `None` if it is no notice.
    pub fn read(bytes: &[u8]) -> Option<(&str, Self)> {
        if bytes.len() > LONGEST_BYTES {
            return None;
        }
        let wire: Wire<'_> = serde_json::from_slice(bytes).ok()?;
        let notice = match (wire.version, wire.action, wire.gstin) {
            (VERSION, "hello", None) => Self::Hello,
            (VERSION, "login", Some(gstin)) => Self::Login(gstin.parse().ok()?),
            _ => return None,
        };
        Some((wire.replica, notice))
    }

    /// The message, from this replica.
    pub fn to_json(&self, replica: &str) -> String {
        let (action, gstin) = match self {
            Self::Hello => ("hello", None),
            Self::Login(gstin) => ("login", Some(gstin.as_str())),
        };
        serde_json::json!(Wire {
            version: VERSION,
            action,
            replica,
            gstin,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Order;

    #[test]
    fn notice_is_read_as_it_was_written_and_is_no_order() {
        let login = Notice::Login("29AAGCE4783K1Z1".parse().unwrap());
        for notice in [Notice::Hello, login] {
            let message = notice.to_json("host-1");
            assert_eq!(Notice::read(message.as_bytes()), Some(("host-1", notice)));
            assert!(Order::read(message.as_bytes()).is_err());
        }
    }

    #[test]
    fn whatever_else_comes_is_no_notice() {
        for message in [
            "",
            "[]",
            r#"{"version":1,"action":"hello"}"#,
            r#"{"version":2,"action":"hello","replica":"a"}"#,
            r#"{"version":1,"action":"login","replica":"a"}"#,
            r#"{"version":1,"action":"login","replica":"a","gstin":"all"}"#,
            r#"{"version":1,"action":"resume","replica":"a","gstin":"29AAGCE4783K1Z1"}"#,
        ] {
            assert_eq!(Notice::read(message.as_bytes()), None, "{message}");
        }
    }
}
