//! The cases as a table for spreadsheets (RFC 4180).

use super::in_india;
use crate::ops::certify::cases::NOT_FOUND;
use crate::ops::certify::journal::{Answer, Record, Verdict};

const HEAD: [&str; 13] = [
    "API",
    "Case",
    "Kind",
    "Description",
    "Request time (IST)",
    "Request time (RFC 3339)",
    "Expected",
    "Received",
    "Code",
    "Message",
    "Verdict",
    "IRN",
    "Milliseconds",
];

pub(super) fn table(records: &[Record]) -> String {
    let mut table = row(HEAD.map(str::to_owned));
    for record in records {
        table.push_str(&row([
            record.api.title().to_owned(),
            record.case.clone(),
            record.kind.as_str().to_owned(),
            record.title.clone(),
            in_india(record.requested_at),
            record.requested_at.to_string(),
            expected(record),
            received(record).to_owned(),
            record.codes.join(" "),
            record.message.clone().unwrap_or_default(),
            verdict(record).to_owned(),
            record.irn.clone().unwrap_or_default(),
            record.milliseconds.to_string(),
        ]));
    }
    table
}

/// What was meant to come. That nothing comes at all is another way of saying the first code.
pub(super) fn expected(record: &Record) -> String {
    let codes = record.expected.iter().map(String::as_str);
    let codes: Vec<&str> = codes.filter(|code| *code != NOT_FOUND).collect();
    match codes.as_slice() {
        [] => "success".to_owned(),
        [one] => format!("error {one}"),
        [first, others @ ..] => format!("error {first} (or {})", others.join(", ")),
    }
}

/// What came, in a word.
pub(super) fn received(record: &Record) -> &'static str {
    match record.answer {
        Answer::Accepted => "success",
        Answer::Refused => "error",
        Answer::Unreadable => "unreadable",
    }
}

/// How that is judged.
pub(super) fn verdict(record: &Record) -> &'static str {
    match record.verdict {
        Verdict::AsExpected => "as expected",
        Verdict::OtherCode => "other code",
        Verdict::Unexpected => "unexpected",
    }
}

fn row<const N: usize>(cells: [String; N]) -> String {
    let mut row = cells.map(|cell| quoted(&cell)).join(",");
    row.push_str("\r\n");
    row
}

/// A text of the portal's that begins like a formula is not one.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t']);
    let harmless = if is_formula {
        format!("'{cell}")
    } else {
        cell.to_owned()
    };
    if harmless.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", harmless.replace('"', "\"\""))
    } else {
        harmless
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn cells_hold_what_they_were_given_and_no_formula() {
        assert_eq!(quoted("a"), "a");
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
    }
}
