//! The rules that change by date or notification, as data: `config/rules.toml`, built in, or a file in its place.
//!
//! One rule: what a notification changes is never written into the code; every part names its source and its date.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};

use super::findings::Severity;
use crate::gstin::Gstin;

/// The codes of all rules; a switch for another one is a mistake that would switch nothing.
pub(super) const CODES: [&str; 74] = [
    "2143", "2144", "2162", "2163", "2169", "2171", "2172", "2173", "2174", "2176", "2177", "2178",
    "2180", "2182", "2183", "2184", "2185", "2186", "2187", "2189", "2192", "2193", "2194", "2200",
    "2202", "2211", "2212", "2218", "2219", "2220", "2227", "2228", "2229", "2233", "2234", "2235",
    "2237", "2238", "2239", "2240", "2241", "2242", "2243", "2244", "2248", "2258", "2259", "2260",
    "2261", "2262", "2264", "2265", "2266", "2267", "2294", "2305", "2323", "3030", "4009", "4010",
    "4011", "4012", "4016", "4017", "4019", "4021", "4022", "4023", "4024", "4028", "4029", "4039",
    "4040", "5002",
];

const BUILT_IN: &str = include_str!("../../config/rules.toml");

/// A rules file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct BadRules {
    /// Which file.
    pub file: String,
    /// What is wrong with it; a rules file holds nothing secret.
    pub problem: String,
}

/// The rules that are data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    #[serde(rename = "switch", default, deserialize_with = "by_code")]
    switches: HashMap<String, SwitchedTo>,
    pub(super) reporting_window: ReportingWindow,
    tax_rates: TaxRates,
    taxed_on_retail_price: TaxedOnRetailPrice,
    units: Codes,
    countries: Codes,
    states: States,
}

/// Where a rule is from.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Source;

impl TryFrom<String> for Source {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let says_something = !text.trim().is_empty();
        says_something
            .then_some(Self)
            .ok_or("a rule needs its source")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SwitchedTo {
    Error,
    Warning,
    Off,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    code: String,
    r#as: SwitchedTo,
    #[serde(rename = "source")]
    _source: Source,
    #[serde(rename = "date")]
    _date: Date,
}

/// How late a document may be registered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportingWindow {
    pub(super) days: u16,
    /// Above which it applies, for people.
    pub(super) turnover: String,
    applies_to: HashSet<String>,
    #[serde(rename = "source")]
    _source: Source,
    #[serde(rename = "date")]
    _date: Date,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaxRates {
    known: Vec<TaxRate>,
    #[serde(rename = "source")]
    _source: Source,
    #[serde(rename = "date")]
    _date: Date,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaxRate {
    #[serde(deserialize_with = "exact")]
    percent: Decimal,
    from: Option<Date>,
    until: Option<Date>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaxedOnRetailPrice {
    hsn: Vec<String>,
    #[serde(rename = "source")]
    _source: Source,
    #[serde(rename = "date")]
    _date: Date,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Codes {
    codes: HashSet<String>,
    #[serde(rename = "source")]
    _source: Source,
    #[serde(rename = "date")]
    _date: Date,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct States {
    #[serde(deserialize_with = "by_number")]
    codes: BTreeMap<u8, State>,
    #[serde(rename = "source")]
    _source: Source,
    #[serde(rename = "date")]
    _date: Date,
}

/// A state of India, or what GST counts as one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) name: String,
    /// No longer given out.
    #[serde(default)]
    pub(super) obsolete: bool,
    #[serde(default)]
    pins: Vec<PinPrefixes>,
}

/// First three digits of PIN codes.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct PinPrefixes(RangeInclusive<u32>);

/// How a thing stands to a list of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Good,
    /// The list may be wrong.
    Doubtful,
    Wrong,
}

impl Rules {
    /// The rules that are built in.
    ///
    /// # Errors
    /// A fault in them; a test keeps them without one.
    pub(super) fn built_in() -> Result<Self, BadRules> {
        Self::parse("the built-in rules", BUILT_IN)
    }

    /// The rules of a file.
    ///
    /// # Errors
    /// The file cannot be read, or is no rules file.
    pub(super) fn load(path: &Path) -> Result<Self, BadRules> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) => Err(BadRules {
                file,
                problem: format!("cannot be read: {error}"),
            }),
        }
    }

    fn parse(file: &str, text: &str) -> Result<Self, BadRules> {
        toml::from_str(text).map_err(|error| BadRules {
            file: file.to_owned(),
            problem: error.to_string().trim_end().to_owned(),
        })
    }

    /// What a finding counts as: as the rule says, unless its code is switched.
    pub(super) fn severity(&self, code: &str, by_rule: Severity) -> Option<Severity> {
        match self.switches.get(code) {
            None => Some(by_rule),
            Some(SwitchedTo::Error) => Some(Severity::Error),
            Some(SwitchedTo::Warning) => Some(Severity::Warning),
            Some(SwitchedTo::Off) => None,
        }
    }

    /// Whether a rule that is off without a switch has been switched on.
    pub(super) fn is_switched_on(&self, code: &str) -> bool {
        match self.switches.get(code) {
            Some(SwitchedTo::Error | SwitchedTo::Warning) => true,
            Some(SwitchedTo::Off) | None => false,
        }
    }

    /// A rate on a date.
    pub(super) fn tax_rate(&self, percent: Decimal, date: Option<Date>) -> Fit {
        let mut named = self
            .tax_rates
            .known
            .iter()
            .filter(|rate| rate.percent == percent)
            .peekable();
        if named.peek().is_none() {
            return Fit::Wrong;
        }
        let in_force = |rate: &TaxRate| {
            date.is_none_or(|date| {
                rate.from.is_none_or(|from| from <= date)
                    && rate.until.is_none_or(|until| date <= until)
            })
        };
        if named.any(in_force) {
            Fit::Good
        } else {
            Fit::Doubtful
        }
    }

    /// Whether the tax on these goods may be reckoned on their retail price.
    pub(super) fn is_taxed_on_retail_price(&self, hsn: &str) -> bool {
        let prefixes = &self.taxed_on_retail_price.hsn;
        prefixes
            .iter()
            .any(|prefix| hsn.starts_with(prefix.as_str()))
    }

    /// Whether it is a unit of the list.
    pub(super) fn is_unit(&self, code: &str) -> bool {
        self.units.codes.contains(code) || self.units.codes.contains(&code.to_ascii_uppercase())
    }

    /// Whether it is a country of the list.
    pub(super) fn is_country(&self, code: &str) -> bool {
        self.countries.codes.contains(code)
    }

    /// The state of a code.
    pub(super) fn state(&self, code: u8) -> Option<&State> {
        self.states.codes.get(&code)
    }
}

impl ReportingWindow {
    /// Whether this seller, or its PAN, is listed.
    pub(super) fn applies_to(&self, seller: &Gstin) -> bool {
        let gstin = seller.as_str();
        let pan = &gstin[2..12];
        self.applies_to.contains(gstin) || self.applies_to.contains(pan)
    }
}

impl State {
    /// Its ranges. A single prefix beside them is a neighbour's that reaches across the border, and does not make the
    /// neighbour's zone its own; a state of single prefixes has nothing else.
    fn own_pins(&self) -> impl Iterator<Item = &PinPrefixes> {
        let is_range = |pins: &PinPrefixes| pins.0.start() < pins.0.end();
        let has_ranges = self.pins.iter().any(is_range);
        self.pins
            .iter()
            .filter(move |pins| !has_ranges || is_range(pins))
    }

    /// Whether a PIN code is one of this state.
    pub(super) fn fit(&self, pin: u32) -> Fit {
        /// Post offices of the army, wherever it is.
        const ARMY_ZONE: u32 = 9;
        let prefix = pin / 1_000;
        let zone = prefix / 100;
        if self.pins.is_empty() || self.pins.iter().any(|pins| pins.0.contains(&prefix)) {
            return Fit::Good;
        }
        if zone == ARMY_ZONE || self.own_pins().any(|pins| pins.in_zone(zone)) {
            Fit::Doubtful
        } else {
            Fit::Wrong
        }
    }
}

impl PinPrefixes {
    fn in_zone(&self, zone: u32) -> bool {
        self.0.start() / 100 <= zone && zone <= self.0.end() / 100
    }
}

impl TryFrom<String> for PinPrefixes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let prefix = |digits: &str| {
            digits
                .parse::<u32>()
                .ok()
                .filter(|prefix| (100..=999).contains(prefix))
        };
        match prefix(first).zip(prefix(last)) {
            Some((first, last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(format!(
                "{text:?} is not the first three digits of PIN codes, like \"560\" or \"560-591\""
            )),
        }
    }
}

fn by_code<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<HashMap<String, SwitchedTo>, D::Error> {
    let switches = Vec::<Switch>::deserialize(deserializer)?;
    let known = switches.into_iter().map(|switch| {
        if CODES.contains(&switch.code.as_str()) {
            Ok((switch.code, switch.r#as))
        } else {
            let problem = "is the code of no rule that can be switched";
            Err(serde::de::Error::custom(fault(&switch.code, problem)))
        }
    });
    known.collect()
}

fn by_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u8, State>, D::Error> {
    let states = BTreeMap::<String, State>::deserialize(deserializer)?;
    let numbered = states.into_iter().map(|(code, state)| match code.parse() {
        Ok(number) if code.len() == 2 => Ok((number, state)),
        _ => Err(serde::de::Error::custom(fault(
            &code,
            "is not a state code of two digits",
        ))),
    });
    numbered.collect()
}

fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = String::deserialize(deserializer)?;
    Decimal::from_str_exact(&text)
        .map_err(|_| serde::de::Error::custom(fault(&text, "is not a rate in per cent")))
}

fn fault(what: &str, problem: impl fmt::Display) -> String {
    format!("{what:?} {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_pins_and_switches_are_read_as_they_are_meant() {
        let rules = Rules::built_in().unwrap();
        let day = |text: &str| Some(text.parse::<Date>().unwrap());
        let rate = |text: &str| Decimal::from_str_exact(text).unwrap();
        for (percent, date, fit) in [
            ("18.00", day("2026-01-01"), Fit::Good),
            ("40", day("2025-09-22"), Fit::Good),
            ("40", day("2025-09-21"), Fit::Doubtful),
            ("17", None, Fit::Wrong),
        ] {
            assert_eq!(rules.tax_rate(rate(percent), date), fit, "{percent}");
        }
        for (state, pin, fit) in [
            (29, 560_058, Fit::Good),
            (29, 403_001, Fit::Good),
            (29, 411_014, Fit::Wrong),
            (29, 400_001, Fit::Wrong),
            (30, 411_014, Fit::Doubtful),
            (32, 560_001, Fit::Wrong),
            (29, 500_001, Fit::Doubtful),
            (29, 799_001, Fit::Wrong),
            (27, 560_001, Fit::Wrong),
            (34, 605_001, Fit::Good),
            (29, 900_056, Fit::Doubtful),
            (96, 999_999, Fit::Good),
        ] {
            assert_eq!(rules.state(state).unwrap().fit(pin), fit, "{state} {pin}");
        }
        assert_eq!(rules.severity("2323", Severity::Error), None);
        assert_eq!(
            rules.severity("2189", Severity::Error),
            Some(Severity::Error)
        );
        assert!(rules.is_unit("nos") && rules.is_country("DE") && !rules.is_unit("XYZ"));
    }

    #[test]
    fn a_file_that_is_no_rules_file_is_refused_with_its_place() {
        for (good, bad, says) in [
            ("days = 30", "days = 30\ndayz = 31", "unknown field `dayz`"),
            ("\"0.25\"", "0.25", "expected a string"),
            ("\"0.25\"", "\"a quarter\"", "is not a rate"),
            ("\"180-194\"", "\"18-194\"", "is not the first three digits"),
            ("code = \"2323\"", "code = \"2332\"", "of no rule"),
            ("as = \"off\"", "as = \"maybe\"", "unknown variant"),
            (
                "source = \"ISO 3166-1 and ISO 3166-3\"\n",
                "",
                "missing field `source`",
            ),
            ("\"38\" =", "\"038\" =", "is not a state code"),
        ] {
            let text = BUILT_IN.replacen(good, bad, 1);
            assert_ne!(text, BUILT_IN, "{good}");
            let error = Rules::parse("rules.toml", &text).unwrap_err().to_string();
            assert!(
                error.starts_with("rules.toml: ") && error.contains(says),
                "{error}"
            );
        }
    }

    #[test]
    fn the_reporting_window_is_that_of_a_gstin_or_of_its_pan() {
        let seller: Gstin = "29AAGCE4783K1Z1".parse().unwrap();
        assert!(
            !Rules::built_in()
                .unwrap()
                .reporting_window
                .applies_to(&seller)
        );
        for listed in ["29AAGCE4783K1Z1", "AAGCE4783K"] {
            let text = BUILT_IN.replacen(
                "applies_to = []",
                &format!("applies_to = [\"{listed}\"]"),
                1,
            );
            assert!(
                Rules::parse("", &text)
                    .unwrap()
                    .reporting_window
                    .applies_to(&seller)
            );
        }
    }
}
