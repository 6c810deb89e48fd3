//! Any bytes and any JSON are judged without a panic, and no amount can be wrong unnoticed.

use std::sync::OnceLock;

use irn_worker::preflight::{self, Preflight};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::corpus::{KINDS, Kind, valid};
use crate::{now, report, strict, told};

fn judge() -> &'static Preflight {
    static JUDGE: OnceLock<Preflight> = OnceLock::new();
    JUDGE.get_or_init(strict)
}

/// JSON with the names of the form in it, but not their types.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[0-9A-Z/é\"\\\\-]{0,20}".prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "SellerDtls",
        "BuyerDtls",
        "ItemList",
        "ValDtls",
        "EwbDtls",
        "TranDtls",
        "DocDtls",
        "RefDtls",
        "Gstin",
        "pin",
        "Stcd",
        "Qty",
        "UnitPrice",
        "TotAmt",
        "AssAmt",
        "GstRt",
        "TotItemVal",
        "SlNo",
        "HsnCd",
        "Dt",
        "SupTyp",
        "é~/",
    ]);
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Amounts that other amounts must agree with.
const TIED: [&str; 12] = [
    "/ItemList/0/TotAmt",
    "/ItemList/0/AssAmt",
    "/ItemList/0/Discount",
    "/ItemList/0/IgstAmt",
    "/ItemList/0/CgstAmt",
    "/ItemList/0/SgstAmt",
    "/ItemList/0/TotItemVal",
    "/ValDtls/AssVal",
    "/ValDtls/IgstVal",
    "/ValDtls/CgstVal",
    "/ValDtls/SgstVal",
    "/ValDtls/TotInvVal",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(judge().check(&bytes, now(), None));
        drop(preflight::read_and_check(judge(), &bytes, now()));
    }

    #[test]
    fn any_json_is_judged_without_panic(document in any_json()) {
        drop(judge().check(document.to_string().as_bytes(), now(), None));
    }

    #[test]
    fn any_member_of_a_valid_document_may_be_any_json(seed in 0..50_u64, at in any::<prop::sample::Index>(), value in any_json()) {
        let mut document = valid(Kind::EwayBill, seed);
        let blocks = ["TranDtls", "DocDtls", "SellerDtls", "BuyerDtls", "ItemList", "ValDtls", "EwbDtls"];
        document[blocks[at.index(blocks.len())]] = value;
        drop(report(judge(), &document));
    }

    #[test]
    fn amount_that_is_wrong_by_more_than_two_rupees_is_refused(
        kind in prop::sample::select(KINDS.to_vec()),
        seed in 0..400_u64,
        place in prop::sample::select(TIED.to_vec()),
        paise in 201..1_000_000_i64,
        up in any::<bool>(),
    ) {
        let mut document = valid(kind, seed);
        let Some(amount) = document.pointer(place).and_then(Value::as_f64) else {
            return Ok(());
        };
        // A whole that was rounded leaves room for less than a rupee of its own.
        let by = paise as f64 / 100.0;
        let changed = if up { amount + by } else { (amount - by).max(0.0) };
        prop_assume!((changed - amount).abs() > 2.0);
        // Under reverse charge a value with tax and one without are both right.
        let may_leave_tax_out = document["TranDtls"]["RegRev"] == "Y";
        prop_assume!(!(may_leave_tax_out && (place.ends_with("TotItemVal") || place.ends_with("TotInvVal"))));
        if let Some(amount) = document.pointer_mut(place) {
            *amount = json!((changed * 100.0).round() / 100.0);
        }
        let report = report(judge(), &document);
        prop_assert!(report.refuses(), "{kind:?} {seed} {place}: {}", told(&report));
    }
}

/// A list of as many elements as fit into a document.
fn filled(path: &[&str], element: &str) -> String {
    let mut document = valid(Kind::ManyLines, 1);
    let mark = "HERE";
    let mut block = &mut document;
    for name in path {
        block = &mut block[*name];
    }
    *block = json!(mark);
    let text = document.to_string();
    let room = 2_000_000 - text.len();
    let list = vec![element; room / (element.len() + 1) - 1].join(",");
    text.replacen("\"HERE\"", &format!("[{list}]"), 1)
}

#[test]
fn list_of_a_million_elements_is_judged_like_one_of_a_thousand() {
    for element in ["0", "{}", "[]", "null", r#"{"Qty":"x"}"#] {
        let lines = filled(&["ItemList"], element);
        let report = judge().check(lines.as_bytes(), now(), None);
        let too_many = report
            .errors()
            .any(|error| error.code == "2173" && error.path == "/ItemList");
        assert!(too_many, "{element}");
        assert!(report.findings.len() <= 300, "{}", report.findings.len());
    }
    for path in [
        &["AddlDocDtls"][..],
        &["RefDtls", "PrecDocDtls"],
        &["RefDtls", "ContrDtls"],
    ] {
        let report = judge().check(filled(path, "0").as_bytes(), now(), None);
        assert!((1..=300).contains(&report.findings.len()), "{path:?}");
    }
    let mut lines = valid(Kind::ManyLines, 1);
    lines["ItemList"][0]["AttribDtls"] = json!([0]);
    let attributes = lines
        .to_string()
        .replacen("[0]", &format!("[{}0]", "0,".repeat(900_000)), 1);
    let report = judge().check(attributes.as_bytes(), now(), None);
    assert!((1..=300).contains(&report.findings.len()));
}

/// The findings of a document into which `text` is written instead of the number `7.125`, at a place of its own.
fn found_with(place: &str, text: &str) -> Vec<(&'static str, String, String)> {
    let mut document = valid(Kind::WithinState, 1);
    let (block, name) = place.rsplit_once('/').unwrap();
    document.pointer_mut(block).unwrap()[name] = json!(7.125);
    let document = document.to_string().replacen("7.125", text, 1);
    let (_, report) = preflight::read_and_check(judge(), document.as_bytes(), now()).unwrap();
    assert!(report.refuses(), "{place}");
    let told = report.errors();
    told.map(|error| (error.code, error.path.clone(), error.message.clone()))
        .collect()
}

#[test]
fn what_is_nested_too_deep_is_refused_wherever_it_is() {
    let nested = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    for place in [
        "/Own",
        "/SellerDtls/Own",
        "/ItemList/0/Own",
        "/ItemList/0/Qty",
    ] {
        let found = found_with(place, &nested);
        assert_eq!((found[0].0, &*found[0].1), ("5002", place));
        assert!(found[0].2.contains("128 levels"), "{}", found[0].2);
    }
    let payload = format!(r#"{{"Irn":"x","Own":{nested}}}"#);
    let report = judge().check_eway_bill(payload.as_bytes(), now());
    assert!(report.errors().any(|error| error.path == "/Own"));
}

#[test]
fn half_of_a_surrogate_pair_is_named_and_its_place_told() {
    for place in ["/SellerDtls/Addr1", "/ItemList/0/PrdDesc", "/Own"] {
        let found = found_with(place, r#""Gala \ud800 7""#);
        assert_eq!((found[0].0, &*found[0].1), ("5002", place));
        assert!(found[0].2.contains("surrogate"), "{}", found[0].2);
    }
    let payload = r#"{"Irn":"x","TransName":"\ud800"}"#;
    let report = judge().check_eway_bill(payload.as_bytes(), now());
    assert!(report.errors().any(|error| error.path == "/TransName"));
}

#[test]
fn thousands_of_oddities_leave_no_error_untold() {
    let mut document = valid(Kind::ManyLines, 1);
    let line = document["ItemList"][0].clone();
    let odd = (0..900).map(|number| {
        let mut line = line.clone();
        line["SlNo"] = json!(number.to_string());
        line["ErpOnly"] = json!(1);
        line
    });
    document["ItemList"] = odd.collect();
    document["ValDtls"]["TotInvVal"] = json!(1);
    document["TranDtls"]["SupTyp"] = json!("B2X");
    let report = report(judge(), &document);
    assert!(report.warnings().count() <= 100);
    for code in ["5002", "2182", "2189"] {
        assert!(report.errors().any(|error| error.code == code), "{code}");
    }
}
