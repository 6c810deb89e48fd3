//! INV-01 documents as text, because what the worker must not change are bytes.

use aws_lc_rs::digest::{SHA256, digest};

/// The buyer of every invoice whose seller is elsewhere, and of the sellers in its own state.
const BUYER_KARNATAKA: (&str, &str, u32) = ("29AABCT9421M1ZU", "29", 570_001);
const BUYER_MAHARASHTRA: (&str, &str, u32) = ("27AAPFU0939F1ZV", "27", 411_014);

/// A valid inter-state invoice of `gstin` with this number (at most 16 letters, digits, `/` and `-`).
pub(crate) fn invoice(gstin: &str, number: &str) -> String {
    let state = gstin.get(..2).unwrap_or_default();
    let (buyer, buyer_state, buyer_pin) = if state == BUYER_KARNATAKA.1 {
        BUYER_MAHARASHTRA
    } else {
        BUYER_KARNATAKA
    };
    let pin = match state {
        "07" => 110_001,
        "24" => 380_001,
        "27" => 411_014,
        "29" => 560_058,
        "33" => 600_001,
        other => panic!("add a PIN code for state {other}"),
    };
    format!(
        r#"{{"Version":"1.1","TranDtls":{{"TaxSch":"GST","SupTyp":"B2B","RegRev":"N","IgstOnIntra":"N"}},
"DocDtls":{{"Typ":"INV","No":"{number}","Dt":"05/09/2025"}},
"SellerDtls":{{"Gstin":"{gstin}","LglNm":"Test Fabrics Private Limited","Addr1":"Plot 14, Test Industrial Area","Loc":"TESTVILLE","Pin":{pin},"Stcd":"{state}"}},
"BuyerDtls":{{"Gstin":"{buyer}","LglNm":"Sample Traders Private Limited","Pos":"{buyer_state}","Addr1":"Gala 7, Demo Market","Loc":"SAMPLETOWN","Pin":{buyer_pin},"Stcd":"{buyer_state}"}},
"ItemList":[{{"SlNo":"1","PrdDesc":"Cotton fabric dyed","IsServc":"N","HsnCd":"520832","Qty":120.5,"Unit":"MTR","UnitPrice":150,"TotAmt":18075,"Discount":75,"AssAmt":18000,"GstRt":5,"IgstAmt":900,"CgstAmt":0,"SgstAmt":0,"TotItemVal":18900}},
{{"SlNo":"2","PrdDesc":"Fabric storage rack","IsServc":"N","HsnCd":"940320","Qty":2,"Unit":"NOS","UnitPrice":1250.25,"TotAmt":2500.5,"Discount":0,"AssAmt":2500.5,"GstRt":18,"IgstAmt":450.09,"CgstAmt":0,"SgstAmt":0,"TotItemVal":2950.59}}],
"ValDtls":{{"AssVal":20500.5,"CgstVal":0,"SgstVal":0,"IgstVal":1350.09,"CesVal":0,"StCesVal":0,"Discount":0,"OthChrg":0,"RndOffAmt":0.41,"TotInvVal":21851}}}}"#
    )
}

/// Valid, and nothing like what a serialiser would write: trailing zeros, odd spacing, non-ASCII text, escapes, a
/// member nobody knows, another order.
pub(crate) fn odd_but_valid(gstin: &str, number: &str) -> String {
    invoice(gstin, number)
        .replace(r#""TotInvVal":21851"#, "\"TotInvVal\" :\t21851.00 ")
        .replace("20500.5,", "20500.50,\r\n  ")
        .replace("Sample Traders", "स\u{93e}म\u{94d}पल \\u0905 Traders – ₹")
        .replace(
            r#"{"Version":"1.1","#,
            "  \n{ \"xErpOnly\" : { \"a\" : [ 1.0, null ] },\"Version\":\"1.1\",",
        )
}

/// An invoice whose total is wrong by more than any rounding: refused with code 2189.
pub(crate) fn wrong_total(gstin: &str, number: &str) -> String {
    invoice(gstin, number).replace(r#""TotInvVal":21851"#, r#""TotInvVal":31851"#)
}

/// Another document under the same number: one charge more.
pub(crate) fn with_other_content(gstin: &str, number: &str) -> String {
    invoice(gstin, number)
        .replace(r#""OthChrg":0"#, r#""OthChrg":100"#)
        .replace(r#""TotInvVal":21851"#, r#""TotInvVal":21951"#)
}

/// Sold through an e-commerce operator, who may register it in the seller's stead.
pub(crate) fn sold_through(operator: &str, gstin: &str, number: &str) -> String {
    let operator = format!(r#""SupTyp":"B2B","EcmGstin":"{operator}""#);
    invoice(gstin, number).replace(r#""SupTyp":"B2B""#, &operator)
}

/// With an e-way-bill part of these members.
pub(crate) fn with_eway_bill(gstin: &str, number: &str, members: &str) -> String {
    let part = format!(r#","EwbDtls":{{{members}}}}}"#);
    let plain = invoice(gstin, number);
    format!("{}{part}", plain.strip_suffix('}').unwrap_or(&plain))
}

/// The IRN of [`invoice`], by the portal's rule (NIC, IRN page): SHA-256 of seller, financial year, type and number.
pub(crate) fn irn(gstin: &str, number: &str) -> String {
    let text = format!("{gstin}2025-26INV{}", number.to_uppercase());
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
