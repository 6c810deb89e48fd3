//! The documents that the portal has to refuse: in which one place each differs from a valid one, and with which codes the
//! portal may answer.
//!
//! One rule: the codes are NIC's, from its list of error codes; where portals answer with different ones, all of them are
//! here.

use jiff::ToSpan as _;
use serde_json::{Value, json};

use super::documents::is_intra_state;
use super::places::elsewhere;
use super::{Terms, WANTED, written};

/// Of a refusal of the document's form (NIC, list of error codes: 5002, model validation).
const FORM: &[&str] = &["5002"];

/// What is done to a valid document.
pub(super) enum Change {
    Set(&'static str, Value),
    Remove(&'static str),
    /// Another number, made of its own.
    Number(fn(&str) -> String),
}

/// What is changed, with which codes the portal may answer, and how it is changed.
pub(super) struct Row(
    pub(super) &'static str,
    pub(super) &'static [&'static str],
    pub(super) Change,
);

/// All of them, those first that are about what the document says.
pub(super) fn rows(terms: &Terms) -> Vec<Row> {
    let rows = [
        totals(),
        taxes(terms),
        parties(terms),
        places(terms),
        goods(),
        amounts(),
        form_of_the_head(terms),
        form_of_the_parties(),
        form_of_the_rest(),
    ];
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    debug_assert!(rows.len() >= WANTED as usize);
    rows
}

/// Totals that do not follow from the lines.
fn totals() -> Vec<Row> {
    use Change::Set;
    vec![
        Row(
            "ValDtls.TotInvVal is too high",
            &["2189"],
            Set("/ValDtls/TotInvVal", json!(99_999_999)),
        ),
        Row(
            "ValDtls.AssVal is not the sum",
            &["2182", "2189"],
            Set("/ValDtls/AssVal", json!(1)),
        ),
        Row(
            "ValDtls.CesVal is not the sum",
            &["2186", "2189"],
            Set("/ValDtls/CesVal", json!(100)),
        ),
        Row(
            "ValDtls.StCesVal is not the sum",
            &["2187", "2189"],
            Set("/ValDtls/StCesVal", json!(100)),
        ),
        Row(
            "ValDtls.Discount exceeds the total",
            &["2220", "2189"],
            Set("/ValDtls/Discount", json!(9_999_999)),
        ),
    ]
}

/// Taxes that are not due, or not so.
fn taxes(terms: &Terms) -> Vec<Row> {
    use Change::Set;
    if is_intra_state(terms) {
        vec![
            Row(
                "IGST within a state",
                &["2172", "2194", "2185"],
                Set("/ItemList/0/IgstAmt", json!(50)),
            ),
            Row(
                "CGST and SGST differ",
                &["2227", "2234", "2194"],
                Set("/ItemList/0/CgstAmt", json!(1)),
            ),
            Row(
                "ValDtls.CgstVal is not the sum",
                &["2184", "2189"],
                Set("/ValDtls/CgstVal", json!(1)),
            ),
            Row(
                "ValDtls.SgstVal is not the sum",
                &["2183", "2189"],
                Set("/ValDtls/SgstVal", json!(1)),
            ),
        ]
    } else {
        vec![
            Row(
                "CGST between states",
                &["2174", "2194", "2184"],
                Set("/ItemList/0/CgstAmt", json!(50)),
            ),
            Row(
                "IGST does not follow from the rate",
                &["2235", "2194", "2185"],
                Set("/ItemList/0/IgstAmt", json!(1)),
            ),
            Row(
                "ValDtls.IgstVal is not the sum",
                &["2185", "2189"],
                Set("/ValDtls/IgstVal", json!(1)),
            ),
            Row(
                "ValDtls.SgstVal is not the sum",
                &["2183", "2189"],
                Set("/ValDtls/SgstVal", json!(100)),
            ),
        ]
    }
}

/// Who may invoice whom, when, and for what.
fn parties(terms: &Terms) -> Vec<Row> {
    use Change::Set;
    let own = terms.gstin.as_str();
    let stranger = format!("{}ZZZZZ9999Z9Z9", &own[..2]);
    let future = terms.date.saturating_add(10.days());
    vec![
        Row(
            "the buyer is the seller",
            &["2211"],
            Set("/BuyerDtls/Gstin", json!(own)),
        ),
        Row(
            "an unregistered buyer in a B2B invoice",
            &["2212"],
            Set("/BuyerDtls/Gstin", json!("URP")),
        ),
        Row(
            "the seller is another GSTIN than the account's",
            &["2143", "2256", "2257", "3028", "3029", "3030"],
            Set("/SellerDtls/Gstin", json!(stranger)),
        ),
        Row(
            "a date in the future",
            &["2163", "2218"],
            Set("/DocDtls/Dt", json!(written(future))),
        ),
        Row(
            "IGST within a state is asked for without reverse charge",
            &["2262", "2263", "2294"],
            Set("/TranDtls/IgstOnIntra", json!("Y")),
        ),
        Row(
            "an export to a buyer in India",
            &["2190", "2202", "2229", "2261", "2196"],
            Set("/TranDtls/SupTyp", json!("EXPWP")),
        ),
        Row(
            "a country that there is not",
            &["2202", "5002"],
            Set("/ExpDtls", json!({"CntCode": "XX"})),
        ),
    ]
}

/// Addresses that do not fit the GSTINs.
fn places(terms: &Terms) -> Vec<Row> {
    use Change::{Remove, Set};
    let (state, (_, pin)) = elsewhere([terms.gstin.state_code(), terms.buyer.state_code()]);
    vec![
        Row(
            "the seller's PIN code is of another state",
            &["2178", "3039", "2215"],
            Set("/SellerDtls/Pin", json!(pin)),
        ),
        Row(
            "the seller's state is not that of its GSTIN",
            &["2258"],
            Set("/SellerDtls/Stcd", json!(state)),
        ),
        Row(
            "the buyer's PIN code is of another state",
            &["2178", "3039", "2215"],
            Set("/BuyerDtls/Pin", json!(pin)),
        ),
        Row(
            "the buyer's state is not that of its GSTIN",
            &["2265"],
            Set("/BuyerDtls/Stcd", json!(state)),
        ),
        Row(
            "the buyer has no PIN code",
            &["2244", "5002"],
            Remove("/BuyerDtls/Pin"),
        ),
        Row(
            "the place of supply is no state",
            &["2243", "2242", "5002"],
            Set("/BuyerDtls/Pos", json!("55")),
        ),
        Row(
            "the place of supply is abroad in a B2B invoice",
            &["2232", "2242", "2243"],
            Set("/BuyerDtls/Pos", json!("96")),
        ),
    ]
}

/// What is sold.
fn goods() -> Vec<Row> {
    use Change::{Remove, Set};
    vec![
        Row(
            "goods called a service",
            &["2176", "2199"],
            Set("/ItemList/0/IsServc", json!("Y")),
        ),
        Row(
            "a service's HSN code for goods",
            &["2176", "2199"],
            Set("/ItemList/0/HsnCd", json!("998313")),
        ),
        Row(
            "an HSN chapter that there is not",
            &["2176", "2199"],
            Set("/ItemList/0/HsnCd", json!("770000")),
        ),
        Row(
            "goods without a quantity",
            &["2238", "2192"],
            Remove("/ItemList/0/Qty"),
        ),
        Row(
            "goods without a unit",
            &["2239"],
            Remove("/ItemList/0/Unit"),
        ),
        Row(
            "a unit that there is not",
            &["2177"],
            Set("/ItemList/0/Unit", json!("XYZ")),
        ),
        Row(
            "a tax rate that there is not",
            &["2240", "2179"],
            Set("/ItemList/0/GstRt", json!(17)),
        ),
        Row(
            "two lines of the same number",
            &["2233"],
            Set("/ItemList/1/SlNo", json!("1")),
        ),
        Row("no lines", &["2228", "5002"], Set("/ItemList", json!([]))),
    ]
}

/// Amounts of a line that do not follow from each other.
fn amounts() -> Vec<Row> {
    use Change::Set;
    vec![
        Row(
            "TotAmt is not quantity times price",
            &["2192", "2193"],
            Set("/ItemList/0/TotAmt", json!(1)),
        ),
        Row(
            "AssAmt is not TotAmt less discount",
            &["2193", "2182"],
            Set("/ItemList/0/AssAmt", json!(1)),
        ),
        Row(
            "TotItemVal is not the sum",
            &["2194"],
            Set("/ItemList/0/TotItemVal", json!(1)),
        ),
        Row(
            "a cess rate without its amount",
            &["2266", "2194"],
            Set("/ItemList/0/CesRt", json!(10)),
        ),
        Row(
            "other charges that are in no total",
            &["2194", "2264"],
            Set("/ItemList/0/OthChrg", json!(100)),
        ),
        Row(
            "a discount that is not taken off",
            &["2193"],
            Set("/ItemList/0/Discount", json!(500)),
        ),
    ]
}

/// Form: version, transaction and document details.
fn form_of_the_head(terms: &Terms) -> Vec<Row> {
    use Change::{Number, Remove, Set};
    vec![
        Row(
            "a version that there is not",
            FORM,
            Set("/Version", json!("1.0")),
        ),
        Row("TranDtls is missing", FORM, Remove("/TranDtls")),
        Row(
            "a tax scheme that there is not",
            FORM,
            Set("/TranDtls/TaxSch", json!("VAT")),
        ),
        Row(
            "a supply type that there is not",
            FORM,
            Set("/TranDtls/SupTyp", json!("B2C")),
        ),
        Row(
            "RegRev is neither Y nor N",
            &["5002", "2159"],
            Set("/TranDtls/RegRev", json!("X")),
        ),
        Row(
            "a document type that there is not",
            &["5002", "2161"],
            Set("/DocDtls/Typ", json!("ABC")),
        ),
        Row(
            "a number that begins with 0",
            FORM,
            Number(|number| format!("0{number}")),
        ),
        Row(
            "a number that begins with /",
            FORM,
            Number(|number| format!("/{number}")),
        ),
        Row(
            "a number of more than 16 characters",
            FORM,
            Number(|number| format!("{number:X<17}")),
        ),
        Row(
            "a date of another form",
            &["5002", "2144"],
            Set("/DocDtls/Dt", json!(terms.date.to_string())),
        ),
        Row("no date", &["5002", "2144"], Remove("/DocDtls/Dt")),
    ]
}

/// Form: seller and buyer.
fn form_of_the_parties() -> Vec<Row> {
    use Change::{Remove, Set};
    let long = "A".repeat(101);
    vec![
        Row("the seller has no name", FORM, Remove("/SellerDtls/LglNm")),
        Row(
            "the seller's name is too short",
            FORM,
            Set("/SellerDtls/LglNm", json!("A")),
        ),
        Row(
            "the seller's address is too long",
            FORM,
            Set("/SellerDtls/Addr1", json!(long)),
        ),
        Row(
            "the seller's PIN code has five digits",
            FORM,
            Set("/SellerDtls/Pin", json!(56_000)),
        ),
        Row(
            "the seller's telephone number is too short",
            FORM,
            Set("/SellerDtls/Ph", json!("12345")),
        ),
        Row(
            "the seller's mail address is none",
            FORM,
            Set("/SellerDtls/Em", json!("no-at-sign")),
        ),
        Row(
            "the buyer's GSTIN is too short",
            &["5002", "3030"],
            Set("/BuyerDtls/Gstin", json!("29AAGCE4783")),
        ),
        Row("no place of supply", FORM, Remove("/BuyerDtls/Pos")),
        Row("the buyer has no name", FORM, Remove("/BuyerDtls/LglNm")),
    ]
}

/// Form: lines and totals.
fn form_of_the_rest() -> Vec<Row> {
    use Change::{Remove, Set};
    vec![
        Row(
            "a line number of letters",
            FORM,
            Set("/ItemList/0/SlNo", json!("A")),
        ),
        Row(
            "an HSN code of five digits",
            &["5002", "2176"],
            Set("/ItemList/0/HsnCd", json!("84713")),
        ),
        Row(
            "a negative price",
            FORM,
            Set("/ItemList/0/UnitPrice", json!(-1)),
        ),
        Row(
            "a line without a total",
            FORM,
            Remove("/ItemList/0/TotItemVal"),
        ),
        Row("ValDtls is missing", FORM, Remove("/ValDtls")),
        Row(
            "RndOffAmt is 100",
            FORM,
            Set("/ValDtls/RndOffAmt", json!(100)),
        ),
    ]
}
