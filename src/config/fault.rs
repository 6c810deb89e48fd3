//! What can be wrong with a configuration, told so that its reader can put it right.
//!
//! The rule: a fault names where, which key, what is wrong and what to write instead, and never quotes a secret.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a setting was made, or should have been.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A file, and its line where one is to blame.
    File {
        /// The file as it was named to the program.
        path: Arc<Path>,
        /// Counted from 1; `None` when something is missing from the file.
        line: Option<usize>,
    },
    /// An environment variable, by name.
    Variable(String),
}

impl Source {
    /// The whole of a file.
    pub(super) fn file(path: &Arc<Path>) -> Self {
        Self::File {
            path: Arc::clone(path),
            line: None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {}", name.escape_debug()),
        }
    }
}

/// One thing that is wrong, or, as a warning, one that is allowed and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where it was set.
    pub source: Source,
    /// The dotted key, for example `irp.base_url`; empty when the whole file is meant.
    pub key: String,
    /// What is wrong, to be read after the key.
    pub problem: String,
    /// What to do about it, as an imperative.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        if !self.key.is_empty() {
            // Keys come from a file: control characters in them must not reach a terminal.
            write!(f, "{}: ", self.key.escape_debug())?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// Everything that was found wrong, at least one fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(faults))]
pub struct ConfigFaults {
    /// Each must be put right before anything starts; by file and line.
    pub faults: Vec<Fault>,
    /// What was noticed beside them.
    pub warnings: Vec<Fault>,
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    lines.join("\n")
}
