//! Invoices of a wished size, valid by every rule of pre-flight: their sums are made of whole rupees.

/// A document's name, the length it is nearest to, and its text.
pub(crate) fn sizes() -> [(&'static str, String); 3] {
    [("3 KB", 3_000), ("8 KB", 8_000), ("40 KB", 40_000)]
        .map(|(name, length)| (name, of_length(length)))
}

/// An inter-state invoice with as many lines as fit.
pub(crate) fn of_length(length: usize) -> String {
    let fits = |lines: &u32| with_lines(*lines).len() <= length;
    with_lines((1..).take_while(fits).last().unwrap_or(1))
}

fn with_lines(lines: u32) -> String {
    let items: Vec<String> = (1..=lines).map(line).collect();
    let (items, net) = (items.join(","), 18_000 * lines);
    let tax = 900 * lines;
    let total = net + tax;
    format!(
        r#"{{"Version":"1.1","TranDtls":{{"TaxSch":"GST","SupTyp":"B2B","RegRev":"N","IgstOnIntra":"N"}},
"DocDtls":{{"Typ":"INV","No":"PARTS/1","Dt":"05/09/2025"}},
"SellerDtls":{{"Gstin":"29AAGCE4783K1Z1","LglNm":"Test Fabrics Private Limited","Addr1":"Plot 14, Test Industrial Area","Loc":"TESTVILLE","Pin":560058,"Stcd":"29"}},
"BuyerDtls":{{"Gstin":"27AAPFU0939F1ZV","LglNm":"Sample Traders Private Limited","Pos":"27","Addr1":"Gala 7, Demo Market","Loc":"SAMPLETOWN","Pin":411014,"Stcd":"27"}},
"ItemList":[{items}],
"ValDtls":{{"AssVal":{net},"CgstVal":0,"SgstVal":0,"IgstVal":{tax},"CesVal":0,"StCesVal":0,"Discount":0,"OthChrg":0,"RndOffAmt":0,"TotInvVal":{total}}}}}"#
    )
}

fn line(serial: u32) -> String {
    format!(
        r#"{{"SlNo":"{serial}","PrdDesc":"Cotton fabric dyed","IsServc":"N","HsnCd":"520832","Qty":120.5,"Unit":"MTR","UnitPrice":150,"TotAmt":18075,"Discount":75,"AssAmt":18000,"GstRt":5,"IgstAmt":900,"CgstAmt":0,"SgstAmt":0,"TotItemVal":18900}}"#
    )
}
