//! What became of the invoices, for a person and for a script.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

/// What became of the invoices.
#[derive(Debug, Default)]
pub struct Summary {
    /// Jobs published and confirmed.
    pub published: usize,
    /// Results by status, if they were waited for.
    pub statuses: BTreeMap<String, usize>,
    /// Signatures by state.
    pub signatures: BTreeMap<String, usize>,
    /// Error codes of what is not signed.
    pub codes: BTreeMap<String, usize>,
    /// Registered by an earlier attempt, found again.
    pub recovered: usize,
    /// Results that did not come in time.
    pub missing: usize,
    /// Whether results were waited for.
    pub waited: bool,
    /// The status of those where all is well.
    pub success: &'static str,
    /// From the first publish to the last result.
    pub taken: Duration,
}

impl Summary {
    /// Whether all is well with every one: signed, or what was asked for, or, without waiting, published.
    pub fn is_good(&self) -> bool {
        !self.waited
            || self.statuses.get(self.success).copied().unwrap_or_default() == self.published
    }

    /// A table for a person.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{} published in {:.1} s",
            self.published,
            self.taken.as_secs_f64()
        )?;
        if !self.waited {
            return Ok(());
        }
        for (status, count) in &self.statuses {
            writeln!(out, "  {status:<12} {count:>6}")?;
        }
        if self.missing > 0 {
            writeln!(out, "  {:<12} {:>6}", "no result", self.missing)?;
        }
        for (state, count) in &self.signatures {
            writeln!(out, "  signature {state:<12} {count:>6}")?;
        }
        if self.recovered > 0 {
            writeln!(
                out,
                "  {:<12} {:>6}  (done by an earlier attempt, found again)",
                "recovered", self.recovered
            )?;
        }
        for (code, count) in &self.codes {
            writeln!(out, "  error {code:<20} {count:>6}")?;
        }
        Ok(())
    }

    /// The same for a script.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "published": self.published, "statuses": self.statuses, "signatures": self.signatures,
            "codes": self.codes, "recovered": self.recovered, "missing": self.missing,
            "seconds": self.taken.as_secs_f64(),
        })
    }
}
