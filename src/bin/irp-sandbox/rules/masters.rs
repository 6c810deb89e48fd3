//! The portal's code lists, as far as they are public: states, PIN prefixes, units, tax rates, countries.

use rust_decimal::Decimal;

pub(crate) use super::patterns::{is_gstin, is_irn};

/// Codes 01 to 38 without the obsolete 28, and the three that are no state.
pub(crate) fn is_state(code: u32) -> bool {
    matches!(code, 1..=27 | 29..=38 | 96 | 97 | 99)
}

/// The state code of a text like `9` or `09`.
pub(crate) fn state(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// Whether the first three digits of a PIN belong to a state; codes that are no state have any PIN.
pub(crate) fn pin_fits(pin: u32, state: u32) -> bool {
    let prefix = pin / 1000;
    let Some((_, ranges)) = PIN_PREFIXES.iter().find(|(code, _)| *code == state) else {
        return true;
    };
    ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&prefix))
}

/// First three digits of India's postal codes by state, with the neighbouring circles that deliver across a border.
const PIN_PREFIXES: &[(u32, &[(u32, u32)])] = &[
    (1, &[(180, 194)]),
    (2, &[(171, 177)]),
    (3, &[(140, 160)]),
    (4, &[(140, 140), (160, 160)]),
    (5, &[(244, 249), (262, 263)]),
    (6, &[(121, 136)]),
    (7, &[(110, 110)]),
    (8, &[(301, 345)]),
    (9, &[(201, 285)]),
    (10, &[(800, 855)]),
    (11, &[(737, 737)]),
    (12, &[(790, 792)]),
    (13, &[(797, 798)]),
    (14, &[(795, 795)]),
    (15, &[(796, 796)]),
    (16, &[(799, 799)]),
    (17, &[(783, 783), (793, 794)]),
    (18, &[(781, 788)]),
    (19, &[(700, 743)]),
    (20, &[(813, 835)]),
    (21, &[(751, 770)]),
    (22, &[(490, 497)]),
    (23, &[(450, 488)]),
    (24, &[(360, 396)]),
    (25, &[(362, 362), (396, 396)]),
    (26, &[(362, 362), (396, 396)]),
    (27, &[(400, 445)]),
    (29, &[(560, 591)]),
    (30, &[(403, 403)]),
    (31, &[(682, 682)]),
    (32, &[(670, 695)]),
    (33, &[(600, 643)]),
    (34, &[(533, 533), (605, 609), (673, 673)]),
    (35, &[(744, 744)]),
    (36, &[(500, 509)]),
    (37, &[(500, 535)]),
    (38, &[(194, 194)]),
];

/// The unit quantity codes.
pub(crate) fn is_unit(code: &str) -> bool {
    UNITS.split(' ').any(|unit| unit.eq_ignore_ascii_case(code))
}

const UNITS: &str = "BAG BAL BDL BKL BOU BOX BTL BUN CAN CBM CCM CMS CTN DOZ DRM GGK GMS GRS GYD KGS KLR KME LTR MLS \
    MLT MTR MTS NOS OTH PAC PCS PRS QTL ROL SET SQF SQM SQY TBS TGM THD TON TUB UGS UNT YDS";

/// The rates of the tax, in per cent.
pub(crate) fn is_rate(rate: Decimal) -> bool {
    RATES_IN_THOUSANDTHS
        .iter()
        .any(|known| Decimal::new(*known, 3) == rate)
}

const RATES_IN_THOUSANDTHS: &[i64] = &[
    0, 100, 250, 500, 1_000, 1_500, 3_000, 5_000, 6_000, 7_500, 12_000, 18_000, 28_000, 40_000,
];

/// Chapters of the tariff: 01 to 98 without the unused 77; 99 holds the services.
pub(crate) fn is_chapter(hsn: &str) -> bool {
    let chapter: u32 = hsn
        .get(..2)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default();
    matches!(chapter, 1..=76 | 78..=99)
}

/// ISO 3166-1, two letters.
pub(crate) fn is_country(code: &str) -> bool {
    COUNTRIES.split(' ').any(|country| country == code)
}

const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET \
    FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ \
    IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML \
    MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS \
    PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL \
    TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// Whether the check digit of a GSTIN is right: a Luhn variant modulo 36 over the first fourteen characters.
pub(crate) fn has_check_digit(gstin: &str) -> bool {
    let value = |byte: u8| (byte as char).to_digit(36);
    let mut sum = 0;
    for (index, byte) in gstin.bytes().take(14).enumerate() {
        let Some(value) = value(byte) else {
            return false;
        };
        let product = value * if index % 2 == 0 { 1 } else { 2 };
        sum += product / 36 + product % 36;
    }
    gstin.len() == 15
        && gstin.as_bytes().last().copied().and_then(value) == Some((36 - sum % 36) % 36)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_of_real_gstins_are_right_and_of_sandbox_gstins_are_not() {
        for gstin in [
            "29AAGCE4783K1Z1",
            "09AAJCM7191E1Z5",
            "33AAACC1206D1ZN",
            "27AAPFU0939F1ZV",
            "29AAACP7879D1Z0",
        ] {
            assert!(has_check_digit(gstin), "{gstin}");
        }
        for gstin in [
            "22AAAAA0000A1Z5",
            "02AMBPG7773M002",
            "37ARZPT4384Q1MT",
            "29AAGCE4783K1Z",
            "",
        ] {
            assert!(!has_check_digit(gstin), "{gstin}");
        }
    }

    #[test]
    fn pins_belong_to_their_state() {
        assert!(
            pin_fits(560_058, 29)
                && pin_fits(411_014, 27)
                && pin_fits(600_001, 33)
                && pin_fits(999_999, 96)
        );
        assert!(!pin_fits(560_058, 27) && !pin_fits(110_001, 29));
    }

    #[test]
    fn lists_hold_the_current_codes() {
        assert!(
            is_rate(Decimal::new(180, 1))
                && is_rate(Decimal::new(40, 0))
                && !is_rate(Decimal::new(17, 0))
        );
        assert!(is_unit("nos") && !is_unit("XYZ") && !is_unit(""));
        assert!(is_state(29) && !is_state(28) && !is_state(0));
        assert!(is_country("DE") && !is_country("XX") && !is_country(""));
        assert!(
            is_chapter("5208") && is_chapter("9983") && !is_chapter("0012") && !is_chapter("7701")
        );
    }
}
