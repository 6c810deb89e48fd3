//! The lines of a document, as far as a registration found at the portal is compared with the document in hand.
//!
//! One rule: this is read when something is recovered, and not for every job. Nothing here prints an item.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::{decimal, members_of, string};

/// The shortest code that names goods at all: the chapter.
const CHAPTER: usize = 2;

/// How many lines a document has, and which HSN codes may be its main one.
#[derive(Clone, PartialEq, Eq)]
pub struct Lines {
    count: usize,
    /// Codes of the lines with the highest taxable value.
    highest: Vec<String>,
    /// Codes with the highest taxable value when their lines are added up.
    highest_in_sum: Vec<String>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines(..)")
    }
}

struct Line {
    hsn: String,
    taxable: Option<Decimal>,
}

impl Lines {
    /// Reads `ItemList` of a document in form INV-01, submitted or signed; `None` if it has no readable one.
    pub fn read(document: &str) -> Option<Self> {
        let [list] = members_of(document, ["ItemList"]).ok()?;
        let items: Vec<&RawValue> = serde_json::from_str(list?.get()).ok()?;
        let lines: Vec<Line> = items.iter().map(|item| line(item)).collect();
        // A line whose value cannot be read may be the highest.
        let values: Option<Vec<(&str, Decimal)>> = lines
            .iter()
            .map(|line| Some((line.hsn.as_str(), line.taxable?)))
            .collect();
        let values = values.unwrap_or_else(|| {
            lines
                .iter()
                .map(|line| (&*line.hsn, Decimal::ZERO))
                .collect()
        });
        let mut sums = BTreeMap::new();
        for (hsn, value) in &values {
            let sum: &mut Decimal = sums.entry(*hsn).or_default();
            *sum = sum.saturating_add(*value);
        }
        Some(Self {
            count: lines.len(),
            highest: highest(values.iter().copied()),
            highest_in_sum: highest(sums.into_iter()),
        })
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a signed QR code may name this HSN code as the main one: that of the line with the highest taxable
    /// value (NIC, "QR code"). Of several highest any will do, and so will one that is highest when the lines of each
    /// code are added up, because the rule can be read that way.
    pub fn may_have_main_hsn(&self, signed: &str) -> bool {
        let mut candidates = self.highest.iter().chain(&self.highest_in_sum);
        candidates.any(|candidate| is_same_code(candidate, signed))
    }

    /// Whether both have a line of the highest taxable value with the same HSN code.
    pub fn has_main_hsn_of(&self, other: &Self) -> bool {
        let is_ours = |theirs: &String| self.highest.iter().any(|ours| is_same_code(ours, theirs));
        self.highest == other.highest || other.highest.iter().any(is_ours)
    }
}

fn line(item: &RawValue) -> Line {
    let [hsn, taxable] = members_of(item.get(), ["HsnCd", "AssAmt"]).unwrap_or_default();
    let hsn =
        hsn.map(|hsn| string(hsn).map_or_else(|| hsn.get().to_owned(), |text| text.into_owned()));
    Line {
        hsn: hsn.unwrap_or_default(),
        taxable: taxable.and_then(|value| decimal(value.get())),
    }
}

fn highest<'a>(values: impl Iterator<Item = (&'a str, Decimal)>) -> Vec<String> {
    let mut best: Option<Decimal> = None;
    let mut codes: Vec<String> = Vec::new();
    for (hsn, value) in values {
        match best.map_or(Ordering::Greater, |best| value.cmp(&best)) {
            Ordering::Greater => {
                best = Some(value);
                codes = vec![hsn.to_owned()];
            }
            Ordering::Equal => codes.push(hsn.to_owned()),
            Ordering::Less => {}
        }
    }
    codes
}

/// HSN codes have four, six or eight digits, each a refinement of the shorter one; portals cut them, fill them up, and
/// lose a leading zero where they print a number.
fn is_same_code(ours: &str, theirs: &str) -> bool {
    let digits = |code: &str| code.trim().trim_start_matches('0').to_owned();
    let (ours, theirs) = (digits(ours), digits(theirs));
    let (short, long) = if ours.len() <= theirs.len() {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    short == long || (short.len() >= CHAPTER && long.starts_with(&short))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(items: &str) -> Lines {
        Lines::read(&format!(r#"{{"itemlist":[{items}]}}"#)).unwrap()
    }

    #[test]
    fn main_code_is_that_of_the_line_with_the_highest_taxable_value() {
        let two =
            lines(r#"{"HsnCd":"520832","AssAmt":18000},{"HsnCd":"940320","AssAmt":"2500.50"}"#);
        assert_eq!(two.count(), 2);
        assert!(two.may_have_main_hsn("520832"));
        assert!(!two.may_have_main_hsn("940320"));
    }

    #[test]
    fn of_equal_lines_any_will_do_and_so_will_the_highest_sum() {
        let equal = lines(r#"{"HsnCd":"5208","AssAmt":10.0},{"HsnCd":"9403","AssAmt":10}"#);
        assert!(equal.may_have_main_hsn("5208") && equal.may_have_main_hsn("9403"));
        let spread = lines(
            r#"{"HsnCd":"5208","AssAmt":10},{"HsnCd":"9403","AssAmt":9},{"HsnCd":"9403","AssAmt":8},{"HsnCd":"1001","AssAmt":3}"#,
        );
        assert!(spread.may_have_main_hsn("5208") && spread.may_have_main_hsn("9403"));
        assert!(!spread.may_have_main_hsn("1001"));
    }

    #[test]
    fn codes_are_the_same_when_cut_filled_up_or_without_their_leading_zero() {
        for (ours, theirs, same) in [
            ("520832", "52083200", true),
            ("520832", "5208", true),
            ("04021010", "4021010", true),
            ("0402", "402", true),
            ("520832", "520833", false),
            ("520832", "940320", false),
            ("520832", "5", false),
            ("520832", "", false),
        ] {
            assert_eq!(is_same_code(ours, theirs), same, "{ours} {theirs}");
        }
    }

    #[test]
    fn a_line_whose_value_cannot_be_read_may_be_the_highest() {
        let odd = lines(r#"{"HsnCd":"5208","AssAmt":10},{"HsnCd":940320},7"#);
        assert_eq!(odd.count(), 3);
        assert!(odd.may_have_main_hsn("5208") && odd.may_have_main_hsn("9403"));
    }

    #[test]
    fn two_documents_agree_by_one_common_highest_line() {
        let ours = lines(r#"{"HsnCd":"5208","AssAmt":10},{"HsnCd":"9403","AssAmt":10}"#);
        let same = lines(r#"{"HsnCd":"940320","AssAmt":10.00}"#);
        let other = lines(r#"{"HsnCd":"1001","AssAmt":10}"#);
        assert!(ours.has_main_hsn_of(&same) && !ours.has_main_hsn_of(&other));
        assert!(lines("").has_main_hsn_of(&lines("")));
    }

    #[test]
    fn what_has_no_list_of_lines_is_not_compared() {
        for text in [
            "{}",
            r#"{"ItemList":null}"#,
            r#"{"ItemList":{}}"#,
            "[]",
            "x",
        ] {
            assert_eq!(Lines::read(text), None, "{text}");
        }
    }
}
