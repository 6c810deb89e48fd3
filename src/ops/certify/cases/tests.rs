use std::collections::HashSet;

use super::*;
use crate::config::{self, Environment, ValidateConfig};
use crate::preflight::Preflight;

fn terms(gstin: &str, buyer: &str, cases: u32) -> Terms {
    Terms {
        gstin: gstin.parse().unwrap(),
        buyer: buyer.parse().unwrap(),
        date: crate::ops::certify::india()
            .to_datetime(jiff::Timestamp::now())
            .date(),
        prefix: "TLXA12".to_owned(),
        cases,
        failed_logins: cases,
        sends_client_pair: true,
    }
}

fn inter() -> Terms {
    terms("33AAKFN5208R1ZT", "29AWGPV7107B1Z1", WANTED)
}

fn intra() -> Terms {
    terms("29AAGCE4783K1Z1", "29AWGPV7107B1Z1", WANTED)
}

fn preflight() -> Preflight {
    let validate = ValidateConfig {
        preflight: config::Preflight::Strict,
        rules_file: None,
    };
    Preflight::new(&validate, Environment::Sandbox).unwrap()
}

fn documents_of(plan: &[Case], kind: Kind) -> Vec<(&Case, &str, bool)> {
    let mut found = Vec::new();
    for case in plan.iter().filter(|case| case.kind == kind) {
        if let Action::Generate {
            document, is_new, ..
        } = &case.action
        {
            found.push((case, document.as_str(), *is_new));
        }
    }
    found
}

#[test]
fn every_api_has_fifty_cases_of_each_kind_and_each_case_a_name_of_its_own() {
    for terms in [inter(), intra()] {
        let plan = plan(&terms);
        for api in Api::ALL {
            for kind in [Kind::Success, Kind::Failure] {
                let of = plan
                    .iter()
                    .filter(|case| case.api == api && case.kind == kind);
                assert!(of.count() >= WANTED as usize, "{api:?} {kind:?}");
            }
        }
        let names: HashSet<&str> = plan.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(names.len(), plan.len());
        let said: HashSet<_> = plan
            .iter()
            .map(|case| (case.api, case.kind, &case.title))
            .collect();
        let twice = plan.len() - said.len();
        assert_eq!(twice, 0, "cases of the same description");
    }
}

#[test]
fn the_page_says_how_many_cases_there_are() {
    let page = include_str!("../../../../docs/certify.md");
    for terms in [inter(), intra()] {
        let said = format!(" {} cases are carried out", plan(&terms).len());
        assert!(page.contains(&said), "not in docs/certify.md:{said}");
    }
}

#[test]
fn a_plan_is_the_same_each_time_it_is_made() {
    let shown = |terms: &Terms| {
        plan(terms)
            .iter()
            .map(|case| format!("{case:?}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&inter()), shown(&inter()));
    assert_ne!(shown(&inter()), shown(&intra()));
}

#[test]
fn failures_name_their_codes_and_successes_none() {
    for case in plan(&inter()) {
        assert_eq!(
            case.expected.is_empty(),
            case.kind == Kind::Success,
            "{}",
            case.id
        );
        for code in &case.expected {
            let known = *code == NOT_FOUND || crate::irp::codes::explain(code).is_some();
            assert!(known, "{}: {code} is in no table", case.id);
        }
    }
}

#[test]
fn fewer_cases_are_made_where_fewer_are_asked_for() {
    let plan = plan(&terms("33AAKFN5208R1ZT", "29AWGPV7107B1Z1", 3));
    for api in Api::ALL {
        let failures = plan
            .iter()
            .filter(|case| case.api == api && case.kind == Kind::Failure);
        assert_eq!(failures.count(), 3, "{api:?}");
    }
}

#[test]
fn documents_that_are_to_be_registered_are_right_in_every_state() {
    let preflight = preflight();
    let states = (1..=38).filter(|state| *state != 28);
    for state in states {
        let seller = format!("{state:02}AAGCE4783K1Z1");
        for buyer in ["29AWGPV7107B1Z1", "27AABCT9421M1ZY"] {
            let plan = plan(&terms(&seller, buyer, 16));
            for (case, document, _) in documents_of(&plan, Kind::Success) {
                let report = preflight.check(document.as_bytes(), jiff::Timestamp::now(), None);
                assert!(
                    !report.refuses(),
                    "{} of {state}: {report:?}\n{document}",
                    case.id
                );
            }
        }
    }
}

#[test]
fn registrations_have_numbers_and_irns_of_their_own() {
    let plan = plan(&inter());
    let mut irns = HashSet::new();
    for case in &plan {
        if let Action::Generate {
            irn, is_new: true, ..
        } = &case.action
        {
            assert!(irns.insert(*irn), "{}", case.id);
        }
    }
    assert!(irns.len() >= 150, "{}", irns.len());
}

#[test]
fn what_a_lenient_portal_accepts_changes_no_other_case() {
    for cases in [3, 30, WANTED] {
        let plan = plan(&Terms { cases, ..inter() });
        let mut changed = HashSet::new();
        for case in plan.iter().filter(|case| case.kind == Kind::Failure) {
            let irn = match &case.action {
                Action::EwayBill {
                    irn,
                    may_issue: true,
                    ..
                }
                | Action::Cancel {
                    irn,
                    may_cancel: true,
                    ..
                } => irn,
                _ => continue,
            };
            assert!(changed.insert(*irn), "{} of {cases}", case.id);
        }
        let registered = documents_of(&plan, Kind::Success);
        let registered: HashSet<Irn> = registered
            .iter()
            .map(|(case, ..)| crate::ops::certify::answers::irn_of(case).unwrap())
            .collect();
        assert!(changed.is_subset(&registered), "{cases}");
    }
}

#[test]
fn documents_that_are_to_be_refused_differ_from_a_valid_one_in_one_place() {
    for terms in [inter(), intra()] {
        let plan = plan(&terms);
        for (case, document, is_new) in documents_of(&plan, Kind::Failure) {
            let document: serde_json::Value = serde_json::from_str(document).unwrap();
            let number = document["DocDtls"]["No"].as_str().unwrap();
            let valid = documents::sample(&terms, number);
            let differences = differences(&valid, &document);
            if is_new {
                let of_the_number = case.title.starts_with("a number");
                assert_eq!(
                    differences,
                    u32::from(!of_the_number),
                    "{}: {}",
                    case.id,
                    case.title
                );
            }
        }
    }
}

/// In how many members two documents differ.
fn differences(a: &serde_json::Value, b: &serde_json::Value) -> u32 {
    use serde_json::Value::{Array, Object};
    match (a, b) {
        (Object(a), Object(b)) => {
            let names: HashSet<&String> = a.keys().chain(b.keys()).collect();
            let of = |name: &&String| match (a.get(*name), b.get(*name)) {
                (Some(a), Some(b)) => differences(a, b),
                _ => 1,
            };
            names.iter().map(of).sum()
        }
        (Array(a), Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).map(|(a, b)| differences(a, b)).sum()
        }
        (a, b) => u32::from(a != b),
    }
}

#[test]
fn no_login_tries_the_accounts_user_with_another_password() {
    let failures = plan(&inter());
    let failures = failures
        .iter()
        .filter(|case| case.api == Api::Authenticate && case.kind == Kind::Failure);
    for case in failures {
        let Action::Login(who) = &case.action else {
            panic!("{}", case.id)
        };
        assert_ne!(*who, LoginAs::Account);
    }
}
