//! HTML as it is written: markup of our own, and texts, which are escaped here and nowhere else.
//!
//! One rule: markup is `&'static str`. What is not known when the worker is built can only get in as a text.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use jiff::Timestamp;

/// A piece of the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

/// A column of a table: its heading, and how it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Words.
    Text(&'static str),
    /// A number, to the right.
    Number(&'static str),
    /// A number that a narrow screen does without.
    Spare(&'static str),
}

impl Html {
    /// Markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// A text, or the value of an attribute in double quotes.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a string cannot fail.
        let _written: fmt::Result = write!(Escaped(&mut self.0), "{text}");
        self
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// An element with a text in it.
    pub(super) fn line(&mut self, open: &'static str, text: impl Display, close: &'static str) {
        self.raw(open).text(text).raw(close);
    }

    /// Begins a table; its caption is for those who do not see the heading above it.
    pub(super) fn table(&mut self, caption: &str, columns: &[Column]) {
        self.raw("<table><caption>").text(caption);
        self.raw("</caption><thead><tr>");
        for column in columns {
            let (open, heading) = match column {
                Column::Text(heading) => ("<th scope=\"col\">", heading),
                Column::Number(heading) => ("<th scope=\"col\" class=\"n\">", heading),
                Column::Spare(heading) => ("<th scope=\"col\" class=\"n spare\">", heading),
            };
            self.raw(open).raw(heading).raw("</th>");
        }
        self.raw("</tr></thead><tbody>");
    }

    /// Ends a table.
    pub(super) fn table_ends(&mut self) {
        self.raw("</tbody></table>");
    }

    /// The first cell of a row, which names it.
    pub(super) fn name(&mut self, text: impl Display) -> &mut Self {
        self.line("<th scope=\"row\">", text, "</th>");
        self
    }

    pub(super) fn cell(&mut self, text: impl Display) -> &mut Self {
        self.line("<td>", text, "</td>");
        self
    }

    pub(super) fn number(&mut self, number: impl Display) -> &mut Self {
        self.line("<td class=\"n\">", number, "</td>");
        self
    }

    /// A moment, told by how long ago it was.
    pub(super) fn ago(&mut self, then: Timestamp, now: Timestamp) -> &mut Self {
        let ago = Duration::try_from(now.duration_since(then)).unwrap_or_default();
        self.raw("<time datetime=\"").text(then).raw("\">");
        self.text(Span(ago)).raw(" ago</time>")
    }

    /// A moment that is to come.
    pub(super) fn until(&mut self, then: Timestamp, now: Timestamp) -> &mut Self {
        let left = Duration::try_from(then.duration_since(now)).unwrap_or_default();
        self.raw("<time datetime=\"").text(then).raw("\">");
        self.text(Clock(then)).raw(" (in ").text(Span(left));
        self.raw(")</time>")
    }
}

/// Escapes what it is given, as text and as an attribute in double quotes (HTML, 13.1.2.3 and 13.3).
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            self.0.push_str(&rest[..at]);
            self.0.push_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            });
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

/// A number in groups of three.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grouped(pub(super) u64);

impl Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// A length of time in its two largest units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
        let (minutes, left) = (seconds / 60 % 60, seconds % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{left} s"),
            (0, 0, _) if minutes >= 10 || left == 0 => write!(f, "{minutes} min"),
            (0, 0, _) => write!(f, "{minutes} min {left} s"),
            (0, _, 0) => write!(f, "{hours} h"),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            (_, 0, _) => write!(f, "{days} d"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

/// A moment to the minute, in UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(pub(super) Timestamp);

impl Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%-d %b %H:%M UTC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_wherever_they_stand() {
        let mut html = Html::default();
        html.raw("<p title=\"").text("a\" onload='x").raw("\">");
        html.text("<script>1 && 2</script> ₹").raw("</p>");
        assert_eq!(
            html.into_string(),
            "<p title=\"a&quot; onload=&#39;x\">&lt;script&gt;1 &amp;&amp; 2&lt;/script&gt; ₹</p>"
        );
    }

    #[test]
    fn numbers_and_times_read_as_people_write_them() {
        let grouped = [0, 999, 1000, 1_234_567].map(|n| Grouped(n).to_string());
        assert_eq!(grouped, ["0", "999", "1,000", "1,234,567"]);
        let spans = [7, 65, 600, 3600, 4800, 86_400, 100_000];
        let spans = spans.map(|s| Span(Duration::from_secs(s)).to_string());
        let written = [
            "7 s",
            "1 min 5 s",
            "10 min",
            "1 h",
            "1 h 20 min",
            "1 d",
            "1 d 3 h",
        ];
        assert_eq!(spans, written);
    }
}
