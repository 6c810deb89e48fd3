//! Who may invoice whom, from where to where (NIC, generate-irn page).
//!
//! One rule: only what stands in the document is judged; whether a GSTIN is active the portal alone knows.

use super::Around;
use super::findings::{Findings, Severity};
use super::invoice::{Invoice, Party, Supply};
use super::rules::{Fit, Rules};
use crate::config::Environment;
use crate::gstin::Gstin;

const OTHER_COUNTRIES: u8 = 96;
const PIN_ABROAD: u32 = 999_999;

/// Notes everything that is wrong about parties and places.
pub(super) fn check(invoice: &Invoice<'_>, around: &Around<'_>, findings: &mut Findings<'_>) {
    check_numbers(invoice, around, findings);
    check_owner(invoice, around, findings);
    check_states(invoice, around.rules, findings);
    check_pins(invoice, around.rules, findings);
    check_country(invoice, around.rules, findings);
    if let Some(supply) = invoice.supply {
        check_transaction(invoice, supply, findings);
        check_buyer(invoice, supply, findings);
        if supply.is_export() {
            check_export(invoice, findings);
        } else {
            check_domestic(invoice, supply, findings);
        }
    }
    if around.rules.is_switched_on("2323") {
        check_ship_to(invoice, findings);
    }
}

fn check_numbers(invoice: &Invoice<'_>, around: &Around<'_>, findings: &mut Findings<'_>) {
    let (seller, buyer) = (&invoice.seller, &invoice.buyer);
    if seller.gstin.is_some() && seller.gstin == buyer.gstin {
        findings.error(
            "2211",
            "/BuyerDtls/Gstin",
            "seller and buyer have the same GSTIN: nobody can invoice itself",
        );
    }
    match around.environment {
        Environment::Sandbox => {}
        Environment::Production => {
            for (party, pointer) in [(seller, "/SellerDtls/Gstin"), (buyer, "/BuyerDtls/Gstin")] {
                check_digit(party, pointer, findings);
            }
        }
    }
}

fn check_digit(party: &Party<'_>, pointer: &'static str, findings: &mut Findings<'_>) {
    let Some(gstin) = party
        .number()
        .filter(|gstin| !gstin.has_valid_check_digit())
    else {
        return;
    };
    let message = format!(
        "{gstin} is no GSTIN: its last character does not fit the others, so one of them is mistyped"
    );
    if is_of_a_pan(&gstin) {
        findings.error("3030", pointer, message);
    } else {
        // Missions, departments and non-residents have numbers of another build.
        findings.warning("3030", pointer, message);
    }
}

/// Built of a state, a PAN and three more, as the numbers of ordinary taxpayers are.
fn is_of_a_pan(gstin: &Gstin) -> bool {
    let bytes = gstin.as_str().as_bytes();
    bytes[2..7].iter().all(u8::is_ascii_uppercase)
        && bytes[7..11].iter().all(u8::is_ascii_digit)
        && bytes[11].is_ascii_uppercase()
}

/// Whoever logs in must be the seller, or the operator it sold through.
fn check_owner(invoice: &Invoice<'_>, around: &Around<'_>, findings: &mut Findings<'_>) {
    let (Some(caller), Some(seller)) = (around.caller, invoice.seller.number()) else {
        return;
    };
    if caller == seller {
        return;
    }
    match invoice.operator {
        None => findings.error(
            "2143",
            "/SellerDtls/Gstin",
            format!("the job is to be registered by {caller}, but the seller is {seller}"),
        ),
        Some(operator) if operator != caller.as_str() => findings.error(
            "2169",
            "/TranDtls/EcmGstin",
            format!("{caller} is neither the seller nor the e-commerce operator of this document"),
        ),
        Some(_) => {}
    }
}

fn check_states(invoice: &Invoice<'_>, rules: &Rules, findings: &mut Findings<'_>) {
    let is_export = invoice.supply.is_some_and(Supply::is_export);
    check_prefix(
        &invoice.seller,
        "2258",
        "/SellerDtls/Stcd",
        "seller",
        findings,
    );
    check_state(
        invoice.seller.state,
        "2259",
        "/SellerDtls/Stcd",
        rules,
        findings,
    );
    if !is_export {
        check_prefix(&invoice.buyer, "2265", "/BuyerDtls/Stcd", "buyer", findings);
        check_state(
            invoice.buyer.state,
            "2260",
            "/BuyerDtls/Stcd",
            rules,
            findings,
        );
        check_state(
            invoice.place_of_supply,
            "2243",
            "/BuyerDtls/Pos",
            rules,
            findings,
        );
    }
    for (block, pointer) in [
        ("DispDtls", "/DispDtls/Stcd"),
        ("ShipDtls", "/ShipDtls/Stcd"),
    ] {
        let place = Party::read(invoice.block(block));
        check_state(place.state, "2200", pointer, rules, findings);
    }
}

fn check_prefix(
    party: &Party<'_>,
    code: &'static str,
    pointer: &'static str,
    whose: &str,
    findings: &mut Findings<'_>,
) {
    /// Daman and Diu became a part of 26; both codes are in use for its taxpayers.
    const MERGED: [u8; 2] = [25, 26];
    let (Some(gstin), Some(state)) = (party.number(), party.state) else {
        return;
    };
    let Ok(own) = gstin.state_code().parse::<u8>() else {
        return;
    };
    if own == state {
        return;
    }
    let message = format!(
        "the {whose}'s GSTIN {gstin} is of state {own:02}, but the state code is {state:02}"
    );
    if MERGED.contains(&own) && MERGED.contains(&state) {
        findings.warning(code, pointer, message);
    } else {
        findings.error(code, pointer, message);
    }
}

fn check_state(
    state: Option<u8>,
    code: &'static str,
    pointer: &'static str,
    rules: &Rules,
    findings: &mut Findings<'_>,
) {
    // Zero has no form of a state code; the schema says so.
    let Some(number) = state.filter(|number| *number != 0) else {
        return;
    };
    match rules.state(number) {
        None => findings.error(
            code,
            pointer,
            format!("there is no state with the code {number:02}"),
        ),
        Some(known) if known.obsolete => {
            let message = format!("{number:02} ({}) is no longer given out", known.name);
            findings.warning(code, pointer, message);
        }
        Some(_) => {}
    }
}

fn check_pins(invoice: &Invoice<'_>, rules: &Rules, findings: &mut Findings<'_>) {
    let is_export = invoice.supply.is_some_and(Supply::is_export);
    let (dispatch, ship) = (
        Party::read(invoice.block("DispDtls")),
        Party::read(invoice.block("ShipDtls")),
    );
    check_pin(
        &invoice.seller,
        "/SellerDtls/Pin",
        "seller's",
        rules,
        findings,
    );
    if !is_export {
        check_pin(&invoice.buyer, "/BuyerDtls/Pin", "buyer's", rules, findings);
    }
    check_pin(&dispatch, "/DispDtls/Pin", "dispatch", rules, findings);
    check_pin(&ship, "/ShipDtls/Pin", "ship-to", rules, findings);
}

fn check_pin(
    place: &Party<'_>,
    pointer: &'static str,
    whose: &str,
    rules: &Rules,
    findings: &mut Findings<'_>,
) {
    let (Some(pin), Some(code)) = (place.pin, place.state) else {
        return;
    };
    // Five or seven digits have not the form of a PIN code; the schema says so.
    let Some(state) = rules
        .state(code)
        .filter(|_| (100_000..=999_999).contains(&pin))
    else {
        return;
    };
    let message = |how: &str| format!("the {whose} PIN code {pin} {how} of {}", state.name);
    match state.fit(pin) {
        Fit::Good => {}
        Fit::Doubtful => findings.warning("2178", pointer, message("seems not to be")),
        Fit::Wrong => findings.error("2178", pointer, message("is not one")),
    }
}

fn check_country(invoice: &Invoice<'_>, rules: &Rules, findings: &mut Findings<'_>) {
    let export = invoice.block("ExpDtls");
    let Some(code) = export.and_then(|block| super::invoice::text(block, "CntCode")) else {
        return;
    };
    let has_form = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if has_form && !rules.is_country(code) {
        let message = format!("{code} is no country code");
        findings.error("2202", "/ExpDtls/CntCode", message);
    }
}

fn check_transaction(invoice: &Invoice<'_>, supply: Supply, findings: &mut Findings<'_>) {
    const POINTER: &str = "/TranDtls/IgstOnIntra";
    let takes_reverse_charge = supply == Supply::B2b || supply.is_sez();
    if invoice.reverse_charge && !takes_reverse_charge {
        let message = format!(
            "reverse charge is for B2B and SEZ supplies only, not for {}",
            supply.as_str()
        );
        findings.error("2162", "/TranDtls/RegRev", message);
    }
    if !invoice.igst_on_intra {
        return;
    }
    // Where IGST is due whatever the states, the flag asks for nothing.
    let severity = if supply.is_sez() || supply.is_export() {
        Severity::Warning
    } else {
        Severity::Error
    };
    let states = invoice.seller.state.zip(invoice.place_of_supply);
    if states.is_some_and(|(seller, supply)| seller != supply) {
        findings.note(
            severity,
            "2262",
            POINTER.to_owned(),
            "IGST within the state (IgstOnIntra) needs seller and place of supply in one state"
                .to_owned(),
        );
    }
    if !invoice.reverse_charge {
        findings.note(
            severity,
            "2294",
            POINTER.to_owned(),
            "IGST within the state (IgstOnIntra) needs reverse charge (RegRev Y)".to_owned(),
        );
    }
}

fn check_buyer(invoice: &Invoice<'_>, supply: Supply, findings: &mut Findings<'_>) {
    const POINTER: &str = "/BuyerDtls/Gstin";
    let unregistered = invoice.buyer.is_unregistered();
    match supply {
        Supply::B2b | Supply::SezWithPayment | Supply::SezWithoutPayment if unregistered => {
            let message = format!(
                "the buyer of a {} supply must have a GSTIN, not URP",
                supply.as_str()
            );
            findings.error("2212", POINTER, message);
        }
        Supply::DeemedExport if unregistered => {
            let message = "the buyer of a deemed export must have a GSTIN, not URP";
            findings.error("2171", POINTER, message);
        }
        Supply::ExportWithPayment | Supply::ExportWithoutPayment if !unregistered => {
            if invoice.buyer.number().is_some() {
                findings.error(
                    "2248",
                    POINTER,
                    "the buyer of an export is written URP, not with a GSTIN",
                );
            }
        }
        Supply::B2b
        | Supply::SezWithPayment
        | Supply::SezWithoutPayment
        | Supply::DeemedExport
        | Supply::ExportWithPayment
        | Supply::ExportWithoutPayment => {}
    }
}

fn check_export(invoice: &Invoice<'_>, findings: &mut Findings<'_>) {
    let buyer = &invoice.buyer;
    if invoice
        .place_of_supply
        .is_some_and(|state| state != OTHER_COUNTRIES)
    {
        findings.error(
            "2229",
            "/BuyerDtls/Pos",
            "the place of supply of an export is 96 (other countries)",
        );
    }
    if buyer.state.is_some_and(|state| state != OTHER_COUNTRIES) {
        findings.error(
            "2261",
            "/BuyerDtls/Stcd",
            "the buyer's state code in an export is 96 (other countries)",
        );
    }
    if buyer.pin.is_some_and(|pin| pin != PIN_ABROAD) {
        findings.error(
            "2178",
            "/BuyerDtls/Pin",
            "the buyer's PIN code in an export is 999999",
        );
    }
    if !buyer.has_pin {
        findings.error(
            "2244",
            "/BuyerDtls/Pin",
            "the buyer's PIN code is missing; in an export it is 999999",
        );
    }
    let country = invoice
        .block("ExpDtls")
        .and_then(|block| block.get("CntCode"));
    if country.is_none() {
        findings.error(
            "2202",
            "/ExpDtls/CntCode",
            "an export needs the code of the country it goes to",
        );
    }
}

fn check_domestic(invoice: &Invoice<'_>, supply: Supply, findings: &mut Findings<'_>) {
    if invoice.place_of_supply == Some(OTHER_COUNTRIES) {
        let message = format!(
            "the place of supply of a {} supply is a state of India, not 96",
            supply.as_str()
        );
        findings.error("2242", "/BuyerDtls/Pos", message);
    }
    // An absent block has no members to miss.
    if !invoice.buyer.has_pin && invoice.block("BuyerDtls").is_some() {
        findings.error("2244", "/BuyerDtls/Pin", "the buyer's PIN code is missing");
    }
}

/// The announced rule: whoever ships to a third place names the GSTIN there, or URP.
fn check_ship_to(invoice: &Invoice<'_>, findings: &mut Findings<'_>) {
    let Some(ship) = invoice.block("ShipDtls") else {
        return;
    };
    if ship.get("Gstin").is_none() {
        findings.error(
            "2323",
            "/ShipDtls/Gstin",
            "the ship-to details need the consignee's GSTIN, or URP",
        );
    }
}
