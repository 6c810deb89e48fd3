//! The GSTINs that a document names, for the day the portal says something is wrong with one of them.

use serde_json::value::RawValue;

use super::{members, members_of, string};
use crate::gstin::Gstin;

/// Every GSTIN of the document's parties, each once: the buyer's first, if it has one. Members that hold no GSTIN
/// (`URP`, a foreign number) are left out.
pub fn gstins(document: &str) -> Vec<Gstin> {
    let Ok([buyer, seller, ship_to, dispatch_from, transaction]) = members_of(
        document,
        [
            "BuyerDtls",
            "SellerDtls",
            "ShipDtls",
            "DispDtls",
            "TranDtls",
        ],
    ) else {
        return Vec::new();
    };
    let of_party = |party: Option<&RawValue>| gstin_in(party, "Gstin");
    let parties = [
        of_party(buyer),
        of_party(seller),
        of_party(ship_to),
        of_party(dispatch_from),
        gstin_in(transaction, "EcmGstin"),
    ];
    let mut all: Vec<Gstin> = Vec::with_capacity(parties.len());
    for gstin in parties.into_iter().flatten() {
        if !all.contains(&gstin) {
            all.push(gstin);
        }
    }
    all
}

fn gstin_in(party: Option<&RawValue>, member: &'static str) -> Option<Gstin> {
    let [text] = members(party?, [member]);
    string(text?)?.trim().to_ascii_uppercase().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_party_is_named_once_and_the_buyer_first() {
        let document = r#"{"TranDtls":{"EcmGstin":"33AAKFN5208R1ZT"},"SellerDtls":{"Gstin":"29AAGCE4783K1Z1"},
            "buyerdtls":{"GSTIN":"27aabct9421m1zy"},"ShipDtls":{"Gstin":"27AABCT9421M1ZY"}}"#;
        let named: Vec<String> = gstins(document).iter().map(Gstin::to_string).collect();
        assert_eq!(
            named,
            ["27AABCT9421M1ZY", "29AAGCE4783K1Z1", "33AAKFN5208R1ZT"]
        );
    }

    #[test]
    fn what_is_no_gstin_is_left_out() {
        let export = r#"{"SellerDtls":{"Gstin":"29AAGCE4783K1Z1"},"BuyerDtls":{"Gstin":"URP"},"ShipDtls":null}"#;
        assert_eq!(gstins(export).len(), 1);
        assert_eq!(gstins("[]"), []);
    }
}
