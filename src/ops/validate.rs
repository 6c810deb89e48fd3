//! `validate`: the worker's verdict on documents, offline.
//!
//! One rule: one document at a time. However long the input, no more than one is held in memory.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::document::{BadDocument, Document};
use crate::json::BYTE_ORDER_MARK;
use crate::preflight::{self, Finding, Preflight, Severity};

/// How verdicts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// One object a line: `document` (type, number, date; null when it has none), `index` (from 1), `verdict`
    /// (`accepted`, `rejected`, or `unreadable` where the input is not JSON) and `findings`.
    Json,
}

/// What became of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many there were.
    pub documents: usize,
    /// Of them, those that the worker would refuse.
    pub rejected: usize,
    /// Of the others, those that raise a doubt.
    pub doubtful: usize,
    /// The input ended in something that is not JSON.
    pub unreadable: bool,
}

impl Summary {
    /// Whether the worker would submit all of it.
    pub fn is_good(&self) -> bool {
        self.rejected == 0 && !self.unreadable
    }
}

/// A file, or standard input for `-`.
///
/// # Errors
/// The file cannot be opened.
pub fn open(input: &Path) -> io::Result<Box<dyn BufRead>> {
    if input == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = std::fs::File::open(input)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(io::BufReader::new(file)))
}

/// Judges every document of `input`: one, a JSON array, or one after another.
///
/// # Errors
/// Those of `out`, and of reading `input`.
pub fn validate(
    preflight: &Preflight,
    input: impl BufRead,
    out: impl Write,
    output: Output,
) -> io::Result<Summary> {
    let mut judge = Judge {
        preflight,
        out,
        output,
        summary: Summary::default(),
        broken: None,
    };
    let mut input = Lines {
        inner: behind_mark(input)?,
        before: 0,
    };
    while let Some(first) = input.skip_space()? {
        let line = input.before;
        let mut json = serde_json::Deserializer::from_reader(&mut input);
        let read = if first == b'[' {
            json.deserialize_seq(Elements(&mut judge))
        } else {
            <Box<RawValue> as serde::Deserialize>::deserialize(&mut json)
                .map(|document| judge.judge(&document))
        };
        if let Some(error) = judge.broken.take() {
            return Err(error);
        }
        match read {
            Ok(()) => {}
            Err(error) if error.is_io() => return Err(error.into()),
            Err(error) => {
                judge.unreadable(line + error.line(), error.column())?;
                break;
            }
        }
    }
    judge.conclude()
}

/// The input behind a byte order mark, if it begins with one.
fn behind_mark(mut input: impl BufRead) -> io::Result<impl BufRead> {
    let mut first = Vec::with_capacity(BYTE_ORDER_MARK.len());
    let most = BYTE_ORDER_MARK.len().try_into().unwrap_or(u64::MAX);
    input.by_ref().take(most).read_to_end(&mut first)?;
    if first == BYTE_ORDER_MARK {
        first.clear();
    }
    Ok(io::Cursor::new(first).chain(input))
}

struct Judge<'p, W> {
    preflight: &'p Preflight,
    out: W,
    output: Output,
    summary: Summary,
    /// The output cannot be written to.
    broken: Option<io::Error>,
}

/// One line of the output.
#[derive(Serialize)]
struct Verdict<'a> {
    document: Option<Called<'a>>,
    index: usize,
    verdict: &'static str,
    findings: &'a [Finding],
}

#[derive(Serialize)]
struct Called<'a> {
    r#type: &'a str,
    number: &'a str,
    date: String,
}

impl<'a> Called<'a> {
    fn of(document: &'a Document) -> Self {
        Self {
            r#type: document.kind.as_str(),
            number: &document.number,
            date: document.date_text(),
        }
    }
}

impl<W: Write> Judge<'_, W> {
    /// Judges one and writes the verdict; whether the output still takes it.
    fn judge(&mut self, text: &RawValue) {
        self.summary.documents += 1;
        let judged =
            preflight::read_and_check(self.preflight, text.get().as_bytes(), Timestamp::now());
        let written = match judged {
            Ok((document, report)) => {
                let refuses = report.refuses();
                self.summary.rejected += usize::from(refuses);
                self.summary.doubtful += usize::from(!refuses && !report.findings.is_empty());
                let verdict = if refuses { "rejected" } else { "accepted" };
                self.write(document.as_ref(), verdict, &report.findings)
            }
            Err(BadDocument::NotJson { line, column }) => self.unreadable(line, column),
            // `read_and_check` has made findings of it.
            Err(BadDocument::Refused(_)) => Ok(()),
        };
        self.broken = written.err();
    }

    fn write(
        &mut self,
        document: Option<&Document>,
        verdict: &'static str,
        findings: &[Finding],
    ) -> io::Result<()> {
        let index = self.summary.documents;
        match self.output {
            Output::Json => {
                let verdict = Verdict {
                    document: document.map(Called::of),
                    index,
                    verdict,
                    findings,
                };
                let line = serde_json::to_string(&verdict)?;
                writeln!(self.out, "{line}")
            }
            Output::Text => {
                let label = document
                    .map_or_else(|| "(no type, number or date)".to_owned(), Document::label);
                writeln!(self.out, "{index:>5}  {verdict}  {}", Printable(&label))?;
                for finding in findings {
                    let severity = match finding.severity {
                        Severity::Error => "error  ",
                        Severity::Warning => "warning",
                    };
                    let (code, place, message) = (
                        finding.code,
                        Printable(&finding.path),
                        Printable(&finding.message),
                    );
                    writeln!(self.out, "       {severity} {code} {place}: {message}")?;
                }
                Ok(())
            }
        }
    }

    fn unreadable(&mut self, line: usize, column: usize) -> io::Result<()> {
        self.summary.unreadable = true;
        let index = self.summary.documents + 1;
        let problem =
            format!("not JSON at line {line}, column {column}; what follows is not judged");
        match self.output {
            Output::Json => {
                let line = serde_json::json!({
                    "document": null, "index": index, "verdict": "unreadable", "findings": [], "problem": problem,
                });
                writeln!(self.out, "{line}")
            }
            Output::Text => writeln!(self.out, "{index:>5}  unreadable  {problem}"),
        }
    }

    fn conclude(mut self) -> io::Result<Summary> {
        let Summary {
            documents,
            rejected,
            doubtful,
            ..
        } = self.summary;
        if self.output == Output::Text && documents > 0 {
            let accepted = documents - rejected;
            writeln!(
                self.out,
                "{documents} documents: {accepted} accepted ({doubtful} with warnings), {rejected} rejected"
            )?;
        }
        self.out.flush()?;
        Ok(self.summary)
    }
}

/// The elements of an array, judged as they are read.
struct Elements<'j, 'p, W>(&'j mut Judge<'p, W>);

impl<'de, W: Write> Visitor<'de> for Elements<'_, '_, W> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of documents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            self.0.judge(&element);
            if self.0.broken.is_some() {
                return Err(serde::de::Error::custom("the output is gone"));
            }
        }
        Ok(())
    }
}

/// Counts the lines that have been read.
struct Lines<R> {
    inner: R,
    before: usize,
}

impl<R: BufRead> Lines<R> {
    /// The first byte of the next value, left where it is.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.inner.fill_buf()?;
            let Some(first) = buffer.first().copied() else {
                return Ok(None);
            };
            if !first.is_ascii_whitespace() {
                return Ok(Some(first));
            }
            self.before += usize::from(first == b'\n');
            self.inner.consume(1);
        }
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.before += buffer[..read].iter().filter(|byte| **byte == b'\n').count();
        Ok(read)
    }
}

/// A piece of a document on a terminal: control characters are shown, not obeyed.
struct Printable<'t>(&'t str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}
