//! Pre-flight against the sandbox's rules, which were written separately: what they accept is never refused here.

use irn_worker::config::{self, Environment};
use jiff::civil::Date;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::corpus::{FAULTS, KINDS, valid};
use crate::node::Node;
use crate::rules::fields::INVOICE;
use crate::rules::invoice::Invoice;
use crate::rules::parties::{self, Circumstances};
use crate::rules::{Findings, arithmetic, form};
use crate::taxpayers::Registry;
use crate::{preflight, report, told};

/// What the sandbox's rules say of a document: their codes, none when it would be registered.
fn portal_says(document: &Value, environment: Environment) -> Vec<String> {
    let text = document.to_string();
    let node = Node::parse(text.as_bytes()).unwrap();
    let codes = |findings: Findings| -> Vec<String> {
        let errors = findings.into_errors().into_iter();
        errors.map(|error| error.code.into_owned()).collect()
    };
    let mut findings = Findings::default();
    form::check(&node, INVOICE, &mut findings);
    let of_form = codes(findings);
    if !of_form.is_empty() {
        return of_form;
    }
    let invoice = Invoice::read(&node);
    let caller = invoice.seller.gstin.clone();
    let around = Circumstances {
        caller: &caller,
        registry: &Registry::default(),
        today: Date::constant(2026, 1, 15),
        reporting_window_days: None,
        check_digits: environment == Environment::Production,
    };
    let mut findings = Findings::default();
    parties::check(&invoice, &around, &mut findings);
    arithmetic::check(&invoice, &mut findings);
    codes(findings)
}

#[test]
fn the_portal_accepts_every_valid_document_and_refuses_every_faulty_one() {
    for kind in KINDS {
        for seed in 0..60 {
            let refused = portal_says(&valid(kind, seed), Environment::Production);
            assert_eq!(refused, [""; 0], "{kind:?} {seed}");
        }
    }
    for fault in FAULTS {
        for seed in 0..25 {
            let refused = portal_says(&fault.document(seed), Environment::Production);
            assert!(!refused.is_empty(), "{} {seed}", fault.name);
        }
    }
}

/// Every place of a document that can be changed.
fn places(value: &Value, here: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let place = format!("{here}/{name}");
                all.push(place.clone());
                places(member, &place, all);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate().take(3) {
                places(element, &format!("{here}/{index}"), all);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Changes one member as a careless program might.
fn mutate(document: &mut Value, random: &mut StdRng) -> String {
    let mut all = Vec::new();
    places(document, "", &mut all);
    let place = all.choose(random).unwrap().clone();
    let words = [
        "Y",
        "N",
        "y",
        "29",
        "27",
        "9",
        "96",
        "97",
        "28",
        "URP",
        "INV",
        "CRN",
        "dbn",
        "B2B",
        "SEZWP",
        "SEZWOP",
        "EXPWP",
        "EXPWOP",
        "dexp",
        "NOS",
        "OTH",
        "998391",
        "1001",
        "77112233",
        "01/04/2025",
        "15/01/2026",
        "16/01/2026",
        "",
        "29AAGCE4783K1Z1",
        "27AAPFU0939F1ZV",
        "22AAAAA0000A1Z5",
        "1",
        "01",
        "2",
        "DE",
        "ZZ",
        "O",
        "R",
        "4",
        "A\"b",
    ];
    let numbers = [
        0.0, 0.01, 1.0, 5.0, 12.0, 17.0, 18.0, 28.0, 560_001.0, 411_014.0, 999_999.0, 1e12,
    ];
    let (block, name) = place.rsplit_once('/').unwrap();
    let kind = random.random_range(0..10);
    let target = document.pointer_mut(&place).unwrap();
    match (kind, target.as_f64()) {
        (0..=5, Some(amount)) => {
            let by = [
                -2.5, -1.5, -1.0, -0.5, -0.01, 0.01, 0.5, 1.0, 1.5, 2.5, 100.0,
            ];
            let changed = amount + by.choose(random).unwrap();
            *target = json!((changed * 100.0).round() / 100.0);
        }
        (6, Some(_)) => *target = json!(numbers.choose(random).unwrap()),
        (0..=6, None) if target.is_string() => *target = json!(words.choose(random).unwrap()),
        (7, _) => *target = Value::Null,
        (8, _) => *target = json!(words.choose(random).unwrap()),
        _ => {
            if let Some(members) = document.pointer_mut(block).and_then(Value::as_object_mut) {
                members.remove(name);
            }
        }
    }
    place
}

#[test]
fn what_the_portal_accepts_is_never_refused() {
    const ROUNDS: u64 = 15_000;
    let (mut accepted, mut refused) = (0, 0);
    for environment in [Environment::Production, Environment::Sandbox] {
        let preflight = preflight(config::Preflight::Strict, environment);
        let mut random = StdRng::seed_from_u64(417);
        for round in 0..ROUNDS {
            let kind = *KINDS.choose(&mut random).unwrap();
            let mut document = valid(kind, round % 400);
            let changes: Vec<String> = (0..random.random_range(1..=2))
                .map(|_| mutate(&mut document, &mut random))
                .collect();
            let portal = portal_says(&document, environment);
            let ours = report(&preflight, &document);
            if portal.is_empty() {
                accepted += 1;
                assert!(
                    !ours.refuses(),
                    "round {round}, {kind:?}, {changes:?}: {}",
                    told(&ours)
                );
            } else {
                refused += 1;
            }
        }
    }
    println!("{accepted} accepted by the portal, {refused} refused");
    assert!(
        accepted > 3_000 && refused > 3_000,
        "{accepted} and {refused}"
    );
}
