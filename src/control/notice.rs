//! What replicas tell one another over the same exchange as the operators' orders.
//!
//! One rule: notices only ever make a replica hold back. Who forges one makes others wait, pass jobs on, go at a quarter of their
//! rate, or look before they send, at the cost of a part of the error budget that is kept for that; what is only heard stops nobody and
//! fails no job. Two let others do more: a replica leaves a GSTIN to them, or withdraws a login that it did not send. The first
//! counts only from one that is known by name, the second only for a login that was told of; and who may forge them could pause
//! everybody as well.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LONGEST_BYTES, VERSION, Whom};
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::job::Operation;

/// What has been done, and to which document.
pub type Deed = (Operation, Irn);

/// One login of a replica. However often and by whomever it is told, it is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoggedIn {
    /// The replica counts its logins. An earlier version does not tell.
    pub number: Option<u32>,
    pub ago: Duration,
}

/// What a replica does for a GSTIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It logs in now, or has done so of late.
    Login(LoggedIn),
    /// The login of this number was not sent after all.
    Withdrawn(u32),
    /// It makes no calls until it says so.
    Idle,
    /// It makes calls again.
    Returns,
}

/// How far a deed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// It is being done: a look-up that finds nothing proves nothing yet.
    Begun,
    /// The portal has not done it after all.
    Undone,
    /// The portal has done it.
    Done,
}

impl Progress {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Begun, Self::Undone, Self::Done];

    fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Undone => "undone",
            Self::Done => "done",
        }
    }
}

/// Something that the other replicas should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The sender has just begun to listen: whoever has something to tell of late, tells it again.
    Hello,
    /// The sender is there.
    Here,
    /// One of the replicas is gone: all that are there tell their names.
    Who,
    /// The sender is new, and knows of no errors yet.
    Asks,
    /// What the sender does for this GSTIN.
    Of(Gstin, Word),
    /// So many errors, by their age, are in the window of this GSTIN's or client's budget, as far as the sender can tell.
    Errors(Whom, Vec<(Duration, u32)>),
    /// The sender does this, or has found it done, or heard it from others, so long ago, for jobs that came in doubt: of each
    /// there may be a copy that knows of no doubt.
    Deeds(Progress, Vec<(Deed, Duration)>),
}

#[derive(Deserialize, Serialize)]
struct Wire<'a> {
    version: u32,
    action: &'a str,
    replica: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gstin: Option<&'a str>,
    /// Of a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    /// How long ago that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    ago_ms: Option<u64>,
    // A name may have characters that JSON escapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Cow<'a, str>>,
    /// Seconds ago, and how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<(u64, u32)>>,
    /// The operation, the IRN, and how many seconds ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    deeds: Option<Vec<(&'a str, &'a str, u64)>>,
}

impl Notice {
    /// So many deeds fit into one message, whatever the replica is called.
    pub const MOST_DEEDS: usize = 40;

    /// Reads a message: whose notice it is, and what it says. `None` if it is no notice.
    pub fn read(bytes: &[u8]) -> Option<(&str, Self)> {
        if bytes.len() > LONGEST_BYTES {
            return None;
        }
        let wire: Wire<'_> = serde_json::from_slice(bytes).ok()?;
        if wire.version != VERSION {
            return None;
        }
        Some((wire.replica, wire.notice()?))
    }

    /// The message, from this replica.
    pub fn to_json(&self, replica: &str) -> String {
        let mut wire = Wire {
            version: VERSION,
            action: "",
            replica,
            gstin: None,
            number: None,
            ago_ms: None,
            client: None,
            errors: None,
            deeds: None,
        };
        match self {
            Self::Hello => wire.action = "hello",
            Self::Here => wire.action = "here",
            Self::Who => wire.action = "who",
            Self::Asks => wire.action = "asks",
            Self::Of(gstin, word) => {
                wire.gstin = Some(gstin.as_str());
                wire.action = match word {
                    Word::Login(login) => {
                        wire.number = login.number;
                        wire.ago_ms = u64::try_from(login.ago.as_millis()).ok();
                        "login"
                    }
                    Word::Withdrawn(number) => {
                        wire.number = Some(*number);
                        "withdrawn"
                    }
                    Word::Idle => "idle",
                    Word::Returns => "returns",
                };
            }
            Self::Errors(whom, errors) => {
                wire.action = "errors";
                match whom {
                    Whom::Gstin(gstin) => wire.gstin = Some(gstin.as_str()),
                    Whom::Client(client) => wire.client = Some(client.into()),
                    // It has no budget of its own.
                    Whom::Portal => {}
                }
                let errors = errors.iter();
                wire.errors = Some(errors.map(|(ago, count)| (ago.as_secs(), *count)).collect());
            }
            Self::Deeds(progress, deeds) => {
                wire.action = progress.as_str();
                let deeds = deeds.iter();
                let deeds = deeds
                    .map(|((what, to), ago)| (what.as_str(), to.as_str(), whole_seconds(*ago)));
                wire.deeds = Some(deeds.collect());
            }
        }
        serde_json::json!(wire).to_string()
    }
}

impl Wire<'_> {
    fn notice(self) -> Option<Notice> {
        let notice = match (
            self.action,
            self.gstin,
            self.client,
            self.errors,
            self.deeds,
        ) {
            ("hello", None, None, None, None) => Notice::Hello,
            ("here", None, None, None, None) => Notice::Here,
            ("who", None, None, None, None) => Notice::Who,
            ("asks", None, None, None, None) => Notice::Asks,
            (action, Some(gstin), None, None, None) => {
                let word = match action {
                    "login" => Word::Login(LoggedIn {
                        number: self.number,
                        ago: Duration::from_millis(self.ago_ms.unwrap_or_default()),
                    }),
                    "withdrawn" => Word::Withdrawn(self.number?),
                    "idle" => Word::Idle,
                    "returns" => Word::Returns,
                    _ => return None,
                };
                Notice::Of(gstin.parse().ok()?, word)
            }
            ("errors", gstin, client, Some(errors), None) => {
                let whom = match (gstin, client) {
                    (Some(gstin), None) => Whom::Gstin(gstin.parse().ok()?),
                    (None, Some(client)) => Whom::Client(client.into_owned()),
                    _ => return None,
                };
                let errors = errors.into_iter();
                let errors = errors.map(|(ago, count)| (Duration::from_secs(ago), count));
                Notice::Errors(whom, errors.collect())
            }
            (action, None, None, None, Some(deeds)) => {
                let mut all = Progress::ALL.into_iter();
                let progress = all.find(|progress| progress.as_str() == action)?;
                let deeds = deeds.into_iter();
                let deed = |(what, to, ago): (&str, &str, u64)| {
                    let deed = (operation(what)?, to.parse().ok()?);
                    Some((deed, Duration::from_secs(ago)))
                };
                let deeds = deeds.map(deed);
                Notice::Deeds(progress, deeds.collect::<Option<_>>()?)
            }
            _ => return None,
        };
        Some(notice)
    }
}

/// What is told again and again must not become younger each time.
fn whole_seconds(ago: Duration) -> u64 {
    ago.as_secs() + u64::from(ago.subsec_nanos() > 0)
}

fn operation(word: &str) -> Option<Operation> {
    let mut all = Operation::ALL.into_iter();
    all.find(|operation| operation.as_str() == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Order;

    #[test]
    fn notice_is_read_as_it_was_written_and_is_no_order() {
        let gstin: Gstin = "29AAGCE4783K1Z1".parse().unwrap();
        let irn: Irn = "a5".repeat(32).parse().unwrap();
        let login = LoggedIn {
            number: Some(u32::MAX),
            ago: Duration::from_millis(59_999),
        };
        let errors = || vec![(Duration::from_secs(86_400), 7), (Duration::ZERO, u32::MAX)];
        for notice in [
            Notice::Hello,
            Notice::Here,
            Notice::Who,
            Notice::Asks,
            Notice::Of(gstin, Word::Login(LoggedIn::default())),
            Notice::Of(gstin, Word::Login(login)),
            Notice::Of(gstin, Word::Withdrawn(0)),
            Notice::Of(gstin, Word::Idle),
            Notice::Of(gstin, Word::Returns),
            Notice::Errors(Whom::Gstin(gstin), errors()),
            Notice::Errors(Whom::Client("Müller \"& Söhne\"\n".to_owned()), errors()),
            Notice::Deeds(Progress::Done, Vec::new()),
            Notice::Deeds(
                Progress::Begun,
                vec![
                    ((Operation::Generate, irn), Duration::ZERO),
                    ((Operation::Ewb, irn), Duration::from_secs(900)),
                ],
            ),
            Notice::Deeds(Progress::Undone, Vec::new()),
        ] {
            let message = notice.to_json("host-1");
            assert_eq!(Notice::read(message.as_bytes()), Some(("host-1", notice)));
            assert!(Order::read(message.as_bytes()).is_err());
        }
    }

    #[test]
    fn login_that_an_earlier_version_tells_of_is_its_only_one_and_of_now() {
        let message = r#"{"version":1,"action":"login","replica":"a","gstin":"29AAGCE4783K1Z1"}"#;
        let login = Word::Login(LoggedIn::default());
        let notice = Notice::Of("29AAGCE4783K1Z1".parse().unwrap(), login);
        assert_eq!(Notice::read(message.as_bytes()), Some(("a", notice)));
    }

    #[test]
    fn as_many_deeds_as_fit_are_read_from_a_replica_of_the_longest_name() {
        let irn: Irn = "a5".repeat(32).parse().unwrap();
        let deed = ((Operation::Generate, irn), Duration::from_secs(86_400));
        let deeds = vec![deed; Notice::MOST_DEEDS];
        let notice = Notice::Deeds(Progress::Begun, deeds);
        let name = "x".repeat(256);
        let message = notice.to_json(&name);
        assert_eq!(
            Notice::read(message.as_bytes()),
            Some((name.as_str(), notice))
        );
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
            r#"{"version":1,"action":"withdrawn","replica":"a","gstin":"29AAGCE4783K1Z1"}"#,
            r#"{"version":1,"action":"here","replica":"a","gstin":"29AAGCE4783K1Z1"}"#,
            r#"{"version":1,"action":"errors","replica":"a","gstin":"29AAGCE4783K1Z1"}"#,
            r#"{"version":1,"action":"errors","replica":"a","errors":[[0,1]]}"#,
            r#"{"version":1,"action":"errors","replica":"a","client":"c","errors":[[0,-1]]}"#,
            r#"{"version":1,"action":"resume","replica":"a","gstin":"29AAGCE4783K1Z1"}"#,
            r#"{"version":1,"action":"done","replica":"a"}"#,
            r#"{"version":1,"action":"here","replica":"a","deeds":[]}"#,
            r#"{"version":1,"action":"done","replica":"a","deeds":[["generate","all",0]]}"#,
            r#"{"version":1,"action":"done","replica":"a","deeds":[["nothing","a5a5",0]]}"#,
        ] {
            assert_eq!(Notice::read(message.as_bytes()), None, "{message}");
        }
    }
}
