//! `explain`: what a code or a status means, who fixes it, and what the worker does about it.
//!
//! One rule: what the worker does is asked of the table that it runs on (`irp::codes`), or matched over the very enum
//! that results are made of; nothing is written here that could go on saying what is no longer so.

mod page;
mod portal;
mod transport;
mod waits;
mod worker;

use std::io::{self, Write};

use serde::Serialize;

use crate::config::UnknownCode;

pub use page::page;

/// Where a code is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The portal's code for an error: `errors[].code` with source `irp` or `preflight`.
    Irp,
    /// The worker's reason to give a job up: `errors[].code` with source `worker`, and `x-irn-reason`.
    Worker,
    /// What stands for a reason where the broker moved a message by itself.
    Broker,
    /// How a call ended without a readable answer: `x-irn-error`, and HTTP statuses.
    Transport,
    /// What a job waits for without an attempt: `x-irn-error`, and, on the ladder, the label of `irn_worker_deferred_total`.
    Wait,
    /// The portal's additional information: `info[].code`.
    Info,
    /// The `status` of a result.
    Status,
}

impl Kind {
    /// In the order of the page.
    pub const ALL: [Self; 7] = [
        Self::Status,
        Self::Worker,
        Self::Irp,
        Self::Info,
        Self::Transport,
        Self::Wait,
        Self::Broker,
    ];

    /// What it is, for a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::Irp => "code of the portal",
            Self::Worker => "reason of the worker",
            Self::Broker => "reason of the broker",
            Self::Transport => "end of a call without a readable answer",
            Self::Wait => "what a job waits for",
            Self::Info => "additional information of the portal",
            Self::Status => "status of a result",
        }
    }
}

/// What the worker does, and after which calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Does {
    /// The calls it does so after, by their words in metrics; none where that makes no difference.
    pub calls: Vec<&'static str>,
    /// What it does.
    pub does: &'static str,
}

/// One meaning of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// As it is written in messages.
    pub code: String,
    /// False for a code that this version does not know.
    pub known: bool,
    /// Where it is met.
    pub kind: Kind,
    /// What the table says that a code of the portal is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// What it says.
    pub meaning: &'static str,
    /// Who has to act.
    pub fixed_by: &'static str,
    /// Who does what about it.
    pub remedy: &'static str,
    /// What the worker does.
    pub worker_does: Vec<Does>,
    /// Whether pre-flight looks for it before anything is sent.
    pub preflight: bool,
    /// What is special about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// A row of this command's own lists.
struct Row {
    code: &'static str,
    meaning: &'static str,
    fixed_by: &'static str,
    remedy: &'static str,
    does: &'static str,
}

impl Row {
    fn explanation(&self, kind: Kind) -> Explanation {
        Explanation {
            code: self.code.to_owned(),
            known: true,
            kind,
            class: None,
            meaning: self.meaning,
            fixed_by: self.fixed_by,
            remedy: self.remedy,
            worker_does: vec![Does {
                calls: Vec::new(),
                does: self.does,
            }],
            preflight: false,
            note: None,
        }
    }
}

const NOBODY: &str = "nobody: the worker goes on by itself";
const OPERATOR: &str = "the operator";
const ERP_USER: &str = "the ERP's user";
const INTEGRATOR: &str = "who publishes the jobs";
const TAXPAYER: &str = "the taxpayer or the operator";

/// Every code there is, in the order of the page.
pub fn all() -> Vec<Explanation> {
    let mut all = worker::statuses();
    all.extend(worker::reasons());
    all.extend(portal::all());
    all.extend(transport::info());
    all.extend(transport::all());
    all.extend(waits::all());
    all.extend(worker::of_the_broker());
    all
}

/// Every meaning of a code, written in any case. Empty: it is not known.
pub fn known(code: &str) -> Vec<Explanation> {
    let (asked, listed) = (code.trim(), transport::as_listed(code));
    let is_it =
        |known: &str| known.eq_ignore_ascii_case(asked) || known.eq_ignore_ascii_case(listed);
    all()
        .into_iter()
        .filter(|explanation| is_it(&explanation.code))
        .collect()
}

/// What the worker would do with a code of the portal that nobody has classified. `operator` is `irp.unknown_codes`.
pub fn unknown(code: &str, operator: &[(String, UnknownCode)]) -> Explanation {
    portal::unknown(code.trim(), operator)
}

/// Known words that look like this one, the nearest first. None for numbers: a code next to another one says nothing.
pub fn similar(code: &str) -> Vec<String> {
    const MOST: usize = 3;
    let asked = code.trim().to_ascii_lowercase();
    if asked.bytes().any(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let distance = |known: &Explanation| strsim::osa_distance(&asked, &known.code.to_lowercase());
    let mut near: Vec<_> = all()
        .into_iter()
        .map(|known| (distance(&known), known.code))
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len() / 2)
        .collect();
    near.sort();
    near.dedup();
    near.into_iter().take(MOST).map(|(_, code)| code).collect()
}

impl Explanation {
    /// The whole of it, for a person.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let kind = if self.known {
            self.kind.title()
        } else {
            "not known; the rest holds if the portal answered so"
        };
        writeln!(out, "{}: {}", self.code, self.meaning)?;
        let mut line = |name: &str, text: &str| writeln!(out, "  {name:<13} {text}");
        line("is", kind)?;
        line("fixed by", self.fixed_by)?;
        line("what to do", self.remedy)?;
        for (at, step) in self.worker_does.iter().enumerate() {
            let name = if at == 0 { "the worker" } else { "" };
            line(name, &step.sentence())?;
        }
        if self.preflight {
            line("pre-flight", "looks for it before anything is sent")?;
        }
        if let Some(note) = self.note {
            line("note", note)?;
        }
        Ok(())
    }
}

impl Does {
    fn sentence(&self) -> String {
        if self.calls.is_empty() {
            return self.does.to_owned();
        }
        format!("on {}: {}", self.calls.join(", "), self.does)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_of_a_kind_stands_once_and_says_all_there_is_to_say() {
        let mut seen = HashSet::new();
        for known in all() {
            let Explanation { code, kind, .. } = &known;
            assert!(seen.insert((kind.title(), code.to_lowercase())), "{code}");
            for text in [known.meaning, known.fixed_by, known.remedy] {
                assert!(text.len() > 10 && !text.ends_with('.'), "{code}: {text}");
            }
            assert!(!known.worker_does.is_empty(), "{code}");
            assert!(known.known && Kind::ALL.contains(kind), "{code}");
        }
    }

    #[test]
    fn who_is_named_in_a_remedy_is_who_fixes_it() {
        for known in all() {
            let Explanation { code, remedy, .. } = &known;
            let named = ["the operator", "the taxpayer", "the ERP"]
                .into_iter()
                .filter_map(|party| Some((remedy.find(party)?, party)))
                .min();
            let begins = |party: &str| remedy.starts_with(party);
            if let Some((_, party)) = named
                && (known.kind == Kind::Irp || begins(party))
            {
                let said = known.fixed_by;
                assert!(said.contains(party), "{code}: {said}, but {remedy}");
            }
            if known.fixed_by == NOBODY {
                assert!(begins("nothing to do"), "{code}: {remedy}");
            }
        }
    }

    #[test]
    fn a_code_is_found_however_it_is_written_and_with_all_its_meanings() {
        for (asked, codes) in [
            (" 2150 ", vec!["2150"]),
            ("sys_5001", vec!["SYS_5001"]),
            ("retries_exhausted", vec!["RETRIES_EXHAUSTED"]),
            ("dupirn", vec!["DUPIRN"]),
            ("HTTP 503", vec!["HTTP 5xx"]),
            ("504", vec!["504", "HTTP 5xx"]),
            ("http 401", vec!["401"]),
            ("time-out", vec!["unconfirmed"]),
            ("rejected", vec!["rejected", "rejected", "REJECTED"]),
            ("4711", vec![]),
            ("", vec![]),
        ] {
            let found: Vec<_> = known(asked).into_iter().map(|known| known.code).collect();
            assert_eq!(found, codes, "{asked}");
        }
    }

    #[test]
    fn words_are_guessed_and_numbers_are_not() {
        assert_eq!(similar("RETRIES_EXHASTED"), ["RETRIES_EXHAUSTED"]);
        assert_eq!(similar("2151"), [""; 0]);
        assert_eq!(similar("xy"), [""; 0]);
    }
}
