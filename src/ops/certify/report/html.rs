//! The report as a page: whole in one file, made for paper.
//!
//! One rule: markup is `&'static str`. What is not known when the program is built gets in as a text, which is escaped here.

use std::fmt::{self, Display, Write as _};

use super::csv::{expected, received, verdict};
use super::{Line, Report, Tally, in_india};
use crate::ops::certify::cases::{Kind, WANTED};
use crate::ops::certify::journal::{Begun, Record, Verdict};

const STYLE: &str = include_str!("report.css");

#[derive(Default)]
struct Page(String);

impl Page {
    fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a string cannot fail.
        let _written: fmt::Result = write!(Escaped(&mut self.0), "{text}");
        self
    }

    fn cell(&mut self, text: impl Display) -> &mut Self {
        self.raw("<td>").text(text).raw("</td>")
    }

    fn number(&mut self, text: impl Display) -> &mut Self {
        self.raw("<td class=\"n\">").text(text).raw("</td>")
    }
}

struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

pub(super) fn page(report: &Report) -> String {
    let mut page = Page::default();
    page.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Summary test report, ")
        .text(report.begun.terms.gstin)
        .raw("</title><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>")
        .raw(STYLE)
        .raw("</style></head><body>\n<h1>Summary test report: e-invoice APIs</h1>\n");
    facts(&mut page, report);
    summary(&mut page, report);
    page.raw("<ul class=\"notes\">");
    for note in &report.notes {
        page.raw("<li>").text(note).raw("</li>");
    }
    page.raw("</ul>\n");
    for line in &report.lines {
        cases(&mut page, report, line, Kind::Success);
        cases(&mut page, report, line, Kind::Failure);
    }
    page.raw("</body></html>\n");
    page.0
}

fn facts(page: &mut Page, report: &Report) {
    let Begun { terms, .. } = &report.begun;
    let (first, last) = report.span();
    let facts = [
        ("GSTIN", terms.gstin.to_string()),
        ("Portal", report.begun.portal.clone()),
        ("Environment", report.begun.environment.clone()),
        ("Buyer in the documents", terms.buyer.to_string()),
        ("Document numbers begin with", terms.prefix.clone()),
        ("First request (IST)", in_india(first)),
        ("Last request (IST)", in_india(last)),
        ("Software", format!("irn-worker {}", report.begun.version)),
    ];
    page.raw("<dl>");
    for (name, value) in facts {
        page.raw("<div><dt>")
            .text(name)
            .raw("</dt><dd>")
            .text(value)
            .raw("</dd></div>");
    }
    page.raw("</dl>\n");
}

fn summary(page: &mut Page, report: &Report) {
    page.raw(headline(report))
        .raw("<section><h2>Summary</h2>\n<table class=\"summary\"><thead><tr><th>API</th>")
        .raw("<th class=\"n\">Success cases</th><th class=\"n\">as expected</th>")
        .raw("<th class=\"n\">Failure cases</th><th class=\"n\">as expected</th>")
        .raw("<th class=\"n\">other code</th><th>At least ")
        .text(WANTED)
        .raw(" of each</th></tr></thead><tbody>");
    for line in &report.lines {
        let (success, failure) = (&line.success, &line.failure);
        page.raw("<tr>").cell(line.api.title());
        page.number(progress(success)).number(success.as_expected);
        page.number(progress(failure))
            .number(failure.as_expected)
            .number(failure.other_code);
        page.raw(if line.is_enough() {
            "<td class=\"good\">yes</td></tr>"
        } else {
            "<td class=\"bad\">no</td></tr>"
        });
    }
    page.raw("</tbody></table></section>\n");
}

fn headline(report: &Report) -> &'static str {
    if report.is_good() {
        "<p class=\"verdict good\">Every case went as expected.</p>\n"
    } else if report.is_complete() {
        "<p class=\"verdict bad\">Not every case went as expected.</p>\n"
    } else {
        "<p class=\"verdict bad\">Not complete: the run was interrupted and has not gone on yet.</p>\n"
    }
}

fn progress(tally: &Tally) -> String {
    if tally.done == tally.planned {
        tally.done.to_string()
    } else {
        format!("{} of {}", tally.done, tally.planned)
    }
}

fn cases(page: &mut Page, report: &Report, line: &Line, kind: Kind) {
    let is_meant = |record: &&Record| record.api == line.api && record.kind == kind;
    let mut records = report.records.iter().filter(is_meant).peekable();
    if records.peek().is_none() {
        return;
    }
    page.raw("<section><h2>")
        .text(line.api.title())
        .raw(match kind {
            Kind::Success => ": success cases",
            Kind::Failure => ": failure cases",
        });
    page.raw("</h2>\n<table class=\"cases\"><thead><tr><th>Case</th><th>Description</th><th>Request time (IST)</th>")
        .raw("<th>Expected</th><th>Received</th><th>IRN</th><th>Verdict</th></tr></thead><tbody>\n");
    for record in records {
        row(page, record);
    }
    page.raw("</tbody></table></section>\n");
}

fn row(page: &mut Page, record: &Record) {
    page.raw("<tr><td class=\"name\">")
        .text(&record.case)
        .raw("</td>")
        .cell(&record.title);
    page.raw("<td class=\"time\"><time datetime=\"")
        .text(record.requested_at)
        .raw("\">");
    page.text(in_india(record.requested_at)).raw("</time></td>");
    page.cell(expected(record)).raw("<td>");
    match &record.code {
        Some(code) => {
            page.raw("<b>")
                .text(code)
                .raw("</b> ")
                .text(record.message.as_deref().unwrap_or_default());
            let others: Vec<&str> = record
                .codes
                .iter()
                .map(String::as_str)
                .filter(|other| other != code)
                .collect();
            if !others.is_empty() {
                page.raw(" (also ").text(others.join(", ")).raw(")");
            }
        }
        None => {
            page.text(received(record));
        }
    }
    if record.looked_up {
        page.raw(", by a look-up");
    }
    page.raw("</td><td class=\"irn\">")
        .text(record.irn.as_deref().unwrap_or_default())
        .raw("</td>");
    page.raw(match record.verdict {
        Verdict::AsExpected => "<td class=\"good\">",
        Verdict::OtherCode => "<td class=\"other\">",
        Verdict::Unexpected => "<td class=\"bad\">",
    });
    page.raw(verdict(record)).raw("</td></tr>\n");
}
