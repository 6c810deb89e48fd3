//! What is refused, with which code and at which place, and what passes.

use irn_worker::config::{self, Environment, ValidateConfig};
use irn_worker::preflight::{Preflight, Severity};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::corpus::{FAULTS, KINDS, Kind, valid};
use crate::{now, preflight, report, strict, told};

#[test]
fn every_fault_is_refused_with_its_code_and_its_pointer() {
    let preflight = strict();
    let mut documents = 0;
    for fault in FAULTS {
        for seed in 0..25 {
            let report = report(&preflight, &fault.document(seed));
            let found = report
                .errors()
                .any(|finding| finding.code == fault.code && finding.path == fault.pointer);
            assert!(found, "{} (seed {seed}): {}", fault.name, told(&report));
            documents += 1;
        }
    }
    assert!(
        FAULTS.len() >= 40 && documents >= 1_000,
        "{} kinds",
        FAULTS.len()
    );
}

#[test]
fn every_valid_document_passes_without_a_doubt() {
    let preflight = strict();
    for kind in KINDS {
        for seed in 0..60 {
            let report = report(&preflight, &valid(kind, seed));
            // The member of the ERP's own is remarked on, and nothing else is.
            let remarks = usize::from(kind == Kind::OptionalBlocks);
            assert_eq!(
                report.findings.len(),
                remarks,
                "{kind:?} {seed}: {}",
                told(&report)
            );
        }
    }
}

#[test]
fn every_sample_passes() {
    for sample in [
        include_str!("../vectors/invoices/b2b-interstate.json"),
        include_str!("../vectors/invoices/b2b-120-items-with-eway-bill.json"),
        include_str!("../vectors/invoices/credit-note-intrastate.json"),
        include_str!("../vectors/invoices/export-with-payment.json"),
    ] {
        let report = report(&strict(), &serde_json::from_str(sample).unwrap());
        assert_eq!(told(&report), "");
    }
}

#[test]
fn all_faults_of_a_document_are_found_at_once_in_its_own_spelling() {
    let mut document = valid(Kind::OddSpelling, 3);
    document["docdtls"]["Typ"] = json!("BIL");
    document["docdtls"]["No"] = json!("/1");
    document["BUYERDTLS"]["Pos"] = json!("45");
    document["ItemList"][0]["GstRt"] = json!(17);
    document["ValDtls"]["TotInvVal"] = json!(1);
    let report = report(&strict(), &document);
    for (code, path) in [
        ("2161", "/docdtls/Typ"),
        ("5002", "/docdtls/No"),
        ("2243", "/BUYERDTLS/Pos"),
        ("2240", "/ItemList/0/GstRt"),
        ("2189", "/ValDtls/TotInvVal"),
    ] {
        let found = report.errors().any(|f| f.code == code && f.path == path);
        assert!(found, "{code} {path}: {}", told(&report));
    }
}

/// A document, changed, and the warning that must come of it and nothing worse.
fn passes_with(kind: Kind, change: impl Fn(&mut Value), code: &str) {
    let mut document = valid(kind, 5);
    change(&mut document);
    let report = report(&strict(), &document);
    assert!(!report.refuses(), "{}", told(&report));
    assert!(
        report.warnings().any(|f| f.code == code),
        "{code}: {}",
        told(&report)
    );
}

#[test]
fn where_sources_disagree_the_document_passes_with_a_warning() {
    let raise = |document: &mut Value, pointer: &str, by: f64| {
        let amount = document.pointer_mut(pointer).unwrap();
        *amount = json!(((amount.as_f64().unwrap() + by) * 100.0).round() / 100.0);
    };
    passes_with(
        Kind::BetweenStates,
        |d| raise(d, "/ValDtls/TotInvVal", 1.5),
        "2189",
    );
    passes_with(
        Kind::BetweenStates,
        |d| d["ItemList"][0]["OrdLin"] = json!("7"),
        "5002",
    );
    passes_with(
        Kind::Services,
        |d| d["ItemList"][0]["Unit"] = json!("HRS"),
        "2177",
    );
    passes_with(
        Kind::CreditNote,
        |d| d["EwbDtls"] = json!({"TransId": "29AAGCE4783K1Z1", "Distance": 10}),
        "4010",
    );
    passes_with(
        Kind::EwayBill,
        |d| d["EwbDtls"]["VehNo"] = Value::Null,
        "4011",
    );
    passes_with(
        Kind::BetweenStates,
        |d| d["BuyerDtls"]["Pin"] = json!(900_056),
        "2178",
    );
    passes_with(
        Kind::BetweenStates,
        |d| d["ValDtls"]["TotInvValFc"] = json!(10.001),
        "5002",
    );
}

#[test]
fn differences_of_a_rupee_are_rounding_and_three_rupees_are_not() {
    let preflight = strict();
    for (by, refuses) in [
        (0.99, false),
        (1.0, false),
        (2.0, false),
        (2.01, true),
        (3.0, true),
        (-2.01, true),
    ] {
        let mut document = valid(Kind::BetweenStates, 8);
        let total = document["ValDtls"]["TotInvVal"].as_f64().unwrap();
        let value = &document["ValDtls"];
        // From the exact total, not from the rounded one.
        let exact = total - value["RndOffAmt"].as_f64().unwrap();
        document["ValDtls"]["RndOffAmt"] = json!(0);
        document["ValDtls"]["TotInvVal"] = json!(((exact + by) * 100.0).round() / 100.0);
        let report = report(&preflight, &document);
        assert_eq!(report.refuses(), refuses, "{by}: {}", told(&report));
    }
}

#[test]
fn check_digits_are_for_production_only() {
    for (environment, refuses) in [
        (Environment::Production, true),
        (Environment::Sandbox, false),
    ] {
        let preflight = preflight(config::Preflight::Strict, environment);
        for fault in FAULTS.iter().filter(|fault| fault.production_only) {
            let report = report(&preflight, &fault.document(1));
            assert_eq!(report.refuses(), refuses, "{}", told(&report));
        }
    }
}

#[test]
fn schema_alone_refuses_no_arithmetic_and_off_nothing_that_can_be_read() {
    let mut wrong_total = valid(Kind::BetweenStates, 1);
    wrong_total["ValDtls"]["TotInvVal"] = json!(1);
    let mut wrong_form = valid(Kind::BetweenStates, 1);
    wrong_form["SellerDtls"]["Pin"] = json!("560058");
    for (mode, arithmetic, form) in [
        (config::Preflight::Strict, true, true),
        (config::Preflight::Schema, false, true),
        (config::Preflight::Off, false, false),
    ] {
        let preflight = preflight(mode, Environment::Production);
        assert_eq!(
            report(&preflight, &wrong_total).refuses(),
            arithmetic,
            "{mode:?}"
        );
        assert_eq!(report(&preflight, &wrong_form).refuses(), form, "{mode:?}");
        assert!(report(&preflight, &json!({})).refuses(), "{mode:?}");
    }
}

#[test]
fn rules_of_a_file_take_the_place_of_those_built_in() {
    let built_in = include_str!("../../config/rules.toml");
    let rules = |text: String| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let config = ValidateConfig {
            preflight: config::Preflight::Strict,
            rules_file: Some(file.path().to_owned()),
        };
        Preflight::new(&config, Environment::Production)
    };
    let switched = |code: &str, to: &str| {
        let switch = format!(
            "[[switch]]\ncode = \"{code}\"\nas = \"{to}\"\nsource = \"a test\"\ndate = \"2026-01-01\"\n"
        );
        rules(format!("{switch}{built_in}")).unwrap()
    };
    let mut wrong_total = valid(Kind::BetweenStates, 1);
    wrong_total["ValDtls"]["TotInvVal"] = json!(1);
    for (to, severity) in [
        ("error", Some(Severity::Error)),
        ("warning", Some(Severity::Warning)),
        ("off", None),
    ] {
        let report = report(&switched("2189", to), &wrong_total);
        let found = report
            .findings
            .iter()
            .find(|finding| finding.code == "2189");
        assert_eq!(found.map(|finding| finding.severity), severity, "{to}");
    }

    let late = rules(built_in.replace(
        "applies_to = []",
        "applies_to = [\"AAKFN5208R\", \"AADCB2230M\", \"AAHCS7315P\"]",
    ));
    let report = report(&late.unwrap(), &valid(Kind::BetweenStates, 1));
    let finding = report
        .errors()
        .next()
        .map(|finding| (finding.code, finding.path.as_str()));
    assert_eq!(finding, Some(("2305", "/DocDtls/Dt")), "{}", told(&report));

    let error = rules("version = 7\n".to_owned()).unwrap_err().to_string();
    assert!(error.contains("version"), "{error}");
}

#[test]
fn whoever_registers_is_the_seller_or_the_operator() {
    let preflight = strict();
    let mut document = valid(Kind::BetweenStates, 1);
    let caller = "29AAGCE4783K1Z1".parse().ok();
    let codes = |document: &Value| -> Vec<_> {
        let body = document.to_string();
        let report = preflight.check(body.as_bytes(), now(), caller);
        report.errors().map(|finding| finding.code).collect()
    };
    assert_eq!(codes(&document), ["2143"]);
    document["TranDtls"]["EcmGstin"] = json!("29AAGCE4783K1Z1");
    assert_eq!(codes(&document), [""; 0]);
    document["TranDtls"]["EcmGstin"] = json!("27AAPFU0939F1ZV");
    assert_eq!(codes(&document), ["2169"]);
}

#[test]
fn findings_and_the_judge_print_nothing_of_a_document() {
    let mut document = valid(Kind::BetweenStates, 1);
    document["ValDtls"]["TotInvVal"] = json!(77_123_456.78);
    document["SellerDtls"]["Canary-7f3a"] = json!(1);
    let preflight = strict();
    let report = report(&preflight, &document);
    assert!(told(&report).contains("77123456.78"));
    let printed = format!("{report:?} {preflight:?}");
    assert!(
        !printed.contains("77123456") && !printed.contains("Canary"),
        "{printed}"
    );
}

#[test]
fn member_that_names_the_document_is_never_switched() {
    let built_in = include_str!("../../config/rules.toml");
    let switch = |code: &str| {
        format!(
            "[[switch]]\ncode = \"{code}\"\nas = \"warning\"\nsource = \"a test\"\ndate = \"2026-01-01\"\n"
        )
    };
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("rules.toml");
    std::fs::write(
        &file,
        format!("{}{}{built_in}", switch("5002"), switch("2144")),
    )
    .unwrap();
    let config = ValidateConfig {
        preflight: config::Preflight::Strict,
        rules_file: Some(file),
    };
    let switched = Preflight::new(&config, Environment::Production).unwrap();
    for (block, member, code) in [
        ("SellerDtls", "Gstin", "2155"),
        ("DocDtls", "Typ", "2161"),
        ("DocDtls", "No", "5002"),
        ("DocDtls", "Dt", "2144"),
    ] {
        let mut document = valid(Kind::BetweenStates, 1);
        document[block][member] = json!([]);
        let report = report(&switched, &document);
        let named = report.errors().any(|error| error.code == code);
        assert!(named, "{block} {member}: {}", told(&report));
    }
}

#[test]
fn amount_printed_with_all_digits_of_a_float_is_reckoned_all_the_same() {
    const TAIL: &str = "0000000000227373675443232059478759765625";
    let document = valid(Kind::BetweenStates, 1);
    let total = document["ItemList"][0]["TotItemVal"].to_string();
    let long = |amount: &str| {
        let point = if amount.contains('.') { "" } else { "." };
        let written = format!("\"TotItemVal\":{amount}{point}{TAIL}");
        let text = document.to_string();
        let changed = text.replacen(&format!("\"TotItemVal\":{total}"), &written, 1);
        assert_ne!(changed, text);
        strict().check(changed.as_bytes(), now(), None)
    };
    let right = long(&total);
    assert!(!right.refuses(), "{}", told(&right));
    assert_eq!(right.warnings().count(), 1, "{}", told(&right));
    let wrong = long("7");
    let refused = wrong.errors().any(|error| error.code == "2194");
    assert!(refused, "{}", told(&wrong));
}

#[test]
fn what_the_portal_is_known_to_take_is_not_refused() {
    let warned = |document: &Value, codes: &[&str]| {
        let report = report(&strict(), document);
        assert!(!report.refuses(), "{}", told(&report));
        let found: Vec<_> = report.warnings().map(|warning| warning.code).collect();
        assert_eq!(found, codes, "{}", told(&report));
    };
    // Charges of the lines, in the value of the document and nowhere else in its totals.
    let mut charged = valid(Kind::Charges, 3);
    let charges: f64 = charged["ItemList"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["OthChrg"].as_f64().unwrap())
        .sum();
    assert!(charges > 100.0);
    charged["ValDtls"]["OthChrg"] = json!(0);
    warned(&charged, &["2264"]);
    charged["ValDtls"]["TotInvVal"] = json!(1);
    assert!(
        report(&strict(), &charged)
            .errors()
            .any(|error| error.code == "2189")
    );

    // IGST is due on it whatever the states: the flag asks for nothing.
    let mut zone = valid(Kind::SezTaxed, 3);
    zone["TranDtls"]["IgstOnIntra"] = json!("Y");
    zone["BuyerDtls"]["Pos"] = zone["SellerDtls"]["Stcd"].clone();
    warned(&zone, &["2294"]);

    // One such line, and no line's tax is checked.
    let mut tobacco = valid(Kind::ManyLines, 3);
    tobacco["ItemList"][1]["HsnCd"] = json!("24022010");
    tobacco["ItemList"][0]["IgstAmt"] = json!(1);
    let found = report(&strict(), &tobacco);
    let codes: Vec<_> = found.warnings().map(|warning| warning.code).collect();
    assert_eq!(codes[..2], ["2235", "2194"], "{}", told(&found));
}

#[test]
fn tax_is_right_within_a_rupee_of_the_whole_rupees_around_it() {
    let mut document = valid(Kind::BetweenStates, 1);
    let line = json!({
        "SlNo": "1", "IsServc": "N", "HsnCd": "520832", "Qty": 1, "Unit": "MTR", "UnitPrice": 13028, "TotAmt": 13028,
        "AssAmt": 13028, "GstRt": 18, "IgstAmt": 0, "TotItemVal": 0,
    });
    for (tax, is_right) in [
        ("2343.99", false),
        ("2344.00", true),
        ("2345.04", true),
        ("2347.00", true),
        ("2347.01", false),
    ] {
        let tax: Decimal = tax.parse().unwrap();
        let total = tax + Decimal::from(13_028);
        let number = |amount: Decimal| -> Value { amount.to_string().parse().unwrap() };
        document["ItemList"] = json!([line]);
        document["ItemList"][0]["IgstAmt"] = number(tax);
        document["ItemList"][0]["TotItemVal"] = number(total);
        document["ValDtls"] =
            json!({"AssVal": 13_028, "IgstVal": number(tax), "TotInvVal": number(total)});
        let found = report(&strict(), &document);
        assert_eq!(found.refuses(), !is_right, "{tax}: {}", told(&found));
    }
}

#[test]
fn what_the_published_form_leaves_open_passes() {
    let mut document = valid(Kind::EwayBill, 1);
    document["EwbDtls"]["Distance"] = json!(840.5);
    document["PayDtls"] = json!({"Nm": "The \"Payee\"", "PayTerm": "C:\\terms", "CrDay": 30.5});
    document["ItemList"][0]["OrgCntry"] = json!("in");
    document["AddlDocDtls"] = json!([{"Info": "6\" pipes"}]);
    let passed = report(&strict(), &document);
    assert!(!passed.refuses(), "{}", told(&passed));
    document["SellerDtls"]["LglNm"] = json!("The \"Seller\"");
    assert!(report(&strict(), &document).refuses());
}

#[test]
fn document_of_a_year_before_gst_is_refused() {
    let mut document = valid(Kind::BetweenStates, 1);
    document["DocDtls"]["Dt"] = json!("05/09/2009");
    let refused = report(&strict(), &document);
    assert!(
        refused.errors().any(|error| error.path == "/DocDtls/Dt"),
        "{}",
        told(&refused)
    );
}

#[test]
fn third_line_of_a_number_in_another_spelling_is_still_a_second_one() {
    let mut document = valid(Kind::ManyLines, 1);
    for (index, serial) in ["01", "1", "1"].into_iter().enumerate() {
        document["ItemList"][index]["SlNo"] = json!(serial);
    }
    let report = report(&strict(), &document);
    let places: Vec<&str> = report.errors().map(|error| error.path.as_str()).collect();
    assert_eq!(places, ["/ItemList/2/SlNo"], "{}", told(&report));
}
