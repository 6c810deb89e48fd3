//! What an answer costs the taxpayer, and whether the same bytes would be refused again.

use crate::irp::codes::Call;
use crate::irp::error::{Fault, IrpError, Refusal, Unreadable};

fn refusal(codes: &[&str]) -> Box<Refusal> {
    let fault = |code: &&str| Fault {
        code: (*code).to_owned(),
        message: String::new(),
    };
    let faults = codes.iter().map(fault).collect();
    Refusal::judge(Call::Generate, &[], None, faults, Vec::new(), None).unwrap()
}

fn lost(call: Call, status: u16) -> IrpError {
    IrpError::lost(call, Some(status), None, Unreadable::Status(status))
}

#[test]
fn answer_with_an_error_counts_and_a_failure_of_the_portal_or_the_line_does_not() {
    for call in [Call::Generate, Call::LookUp, Call::Login] {
        for (status, counts) in [
            (400, true),
            (403, true),
            (499, true),
            (500, false),
            (503, false),
        ] {
            assert_eq!(lost(call, status).is_counted(), counts, "{call:?} {status}");
        }
        let timed_out = IrpError::lost(call, None, None, Unreadable::TimedOut);
        assert!(!timed_out.is_counted());
    }
    assert!(IrpError::Refused(refusal(&["2189"])).is_counted());
    assert!(IrpError::Refused(refusal(&["3020"])).is_counted());
    for call in [Call::Generate, Call::LookUp, Call::Login] {
        let retry_after = None;
        assert!(IrpError::Unexplained { call, retry_after }.is_counted());
    }
    assert!(!IrpError::Throttled { retry_after: None }.is_counted());
    assert!(!IrpError::Undecipherable.is_counted());
}

#[test]
fn refusal_is_remembered_only_if_every_error_lies_in_the_document_alone() {
    for (codes, lies_there) in [
        (vec!["2189"], true),
        (vec!["2189", "5002", "2233"], true),
        (vec!["2163"], false),
        (vec!["2189", "2305"], false),
        (vec!["2189", "3028"], false),
        (vec!["2189", "9876"], false),
        (vec!["3074"], false),
        (vec!["2140"], false),
        (vec!["2150"], false),
        (vec![""], false),
    ] {
        assert_eq!(
            refusal(&codes).lies_in_the_document(),
            lies_there,
            "{codes:?}"
        );
    }
}

#[test]
fn codes_beyond_the_document_are_in_the_table_as_refusals_of_one() {
    let beyond = crate::irp::codes::all().iter().filter(|row| {
        row.class == crate::irp::codes::Class::Document && !row.lies_in_the_document()
    });
    assert_eq!(beyond.count(), 45, "a code of the list is not in the table");
}
