//! What a command needs of the configuration: all of it, the broker's part, the signing keys, the rules, where the
//! worker can be asked, or what the operator decided about codes.
//!
//! The rule: what is not needed may be absent, and so may the files it names, because a machine that only publishes
//! has neither the portal's keys nor its address. A value that is wrong stays a fault everywhere: it is a mistake in
//! the file at hand, and the next command to read it would stumble over it.

/// Which settings a command uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Need {
    /// All: the worker.
    #[default]
    Everything,
    /// Those of [`super::BrokerSide`].
    BrokerSide,
    /// Those of [`super::LettersSide`].
    LettersSide,
    /// `irp.signing_keys`.
    SigningKeys,
    /// Those of [`super::ValidateSide`].
    Validation,
    /// Those of [`super::AdminConfig`].
    Admin,
    /// `irp.unknown_codes`.
    UnknownCodes,
}

impl Need {
    /// Whether the setting at this dotted key is used.
    pub(super) fn covers(self, key: &str) -> bool {
        let is_in = |parts: &[&str]| parts.iter().any(|part| key.starts_with(part));
        match self {
            Self::Everything => true,
            Self::BrokerSide => is_in(&[
                "broker.",
                "replies.",
                "retry.",
                "dead_letter.",
                "publishers.",
            ]),
            Self::LettersSide => {
                Self::BrokerSide.covers(key) || is_in(&["irp.settle_time", "limits."])
            }
            Self::SigningKeys => is_in(&["irp.signing_keys"]),
            Self::Validation => is_in(&["irp.environment", "validate."]),
            Self::Admin => is_in(&["admin."]),
            Self::UnknownCodes => is_in(&["irp.unknown_codes"]),
        }
    }
}
