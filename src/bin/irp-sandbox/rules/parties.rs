//! Who may invoice whom, from where to where, and when (NIC, generate-irn page, "validations").

use jiff::ToSpan;
use jiff::civil::Date;

use super::invoice::{Invoice, Supply};
use super::{Findings, masters};
use crate::taxpayers::{Registry, Status};

/// What the rules need to know beside the document.
pub(crate) struct Circumstances<'a> {
    /// Whose token the request carries.
    pub(crate) caller: &'a str,
    pub(crate) registry: &'a Registry,
    /// Today in India.
    pub(crate) today: Date,
    pub(crate) reporting_window_days: Option<u32>,
    /// Sandbox GSTINs are made up; production ones carry a check digit.
    pub(crate) check_digits: bool,
}

/// Notes everything that is wrong about parties, places and dates.
pub(crate) fn check(invoice: &Invoice, around: &Circumstances<'_>, findings: &mut Findings) {
    check_date(invoice, around, findings);
    check_owner(invoice, around, findings);
    check_supplier(invoice, around, findings);
    check_transaction(invoice, findings);
    check_buyer(invoice, findings);
    if !invoice.supply.is_export() {
        check_recipient(invoice, around, findings);
    }
    check_places(invoice, findings);
    check_export(invoice, findings);
}

fn check_date(invoice: &Invoice, around: &Circumstances<'_>, findings: &mut Findings) {
    let Some(date) = invoice.date else {
        findings.note(true, "2144", || {
            "Document date should be in the format dd/MM/yyyy".to_owned()
        });
        return;
    };
    findings.note(date > around.today, "2163", || {
        "The document date should not be future date".to_owned()
    });
    let oldest = around
        .reporting_window_days
        .and_then(|days| around.today.checked_sub(i64::from(days).days()).ok());
    findings.note(oldest.is_some_and(|oldest| date < oldest), "2305", || {
        "IRN cannot be generated with document date prior to 30 days".to_owned()
    });
}

fn check_owner(invoice: &Invoice, around: &Circumstances<'_>, findings: &mut Findings) {
    if invoice.seller.gstin == around.caller {
        return;
    }
    match invoice.ecommerce.as_deref() {
        Some(operator) => findings.note(operator != around.caller, "2169", || {
            "Either supplier GSTIN or e-Commerce GSTIN can generate IRN".to_owned()
        }),
        None => findings.note(true, "2143", || {
            "Invoice does not belongs to the user GSTIN".to_owned()
        }),
    }
}

fn check_supplier(invoice: &Invoice, around: &Circumstances<'_>, findings: &mut Findings) {
    let gstin = &invoice.seller.gstin;
    check_digit(gstin, around, findings);
    let Some(taxpayer) = around.registry.find(gstin) else {
        return findings.note(true, "3028", || {
            format!("GSTIN - {gstin} is invalid or not present in the invoice system")
        });
    };
    check_status(
        gstin,
        taxpayer.status,
        taxpayer.status == Status::Act,
        invoice,
        around,
        findings,
    );
    findings.note(taxpayer.is_of_type("SEZ"), "2231", || {
        format!("Supplier GSTIN {gstin} is SEZ, cannot generate IRN")
    });
    let other = taxpayer
        .kind
        .as_deref()
        .is_some_and(|kind| !matches!(kind, "REG" | "SED" | "SEZ"));
    findings.note(other, "2300", || {
        format!("Supplier GSTIN {gstin} should be of type Regular or SED")
    });
}

fn check_recipient(invoice: &Invoice, around: &Circumstances<'_>, findings: &mut Findings) {
    let gstin = &invoice.buyer.gstin;
    if gstin == "URP" {
        return;
    }
    check_digit(gstin, around, findings);
    let Some(taxpayer) = around.registry.find(gstin) else {
        return findings.note(true, "3028", || {
            format!("GSTIN - {gstin} is invalid or not present in the invoice system")
        });
    };
    let accepted = matches!(taxpayer.status, Status::Act | Status::Sus);
    check_status(gstin, taxpayer.status, accepted, invoice, around, findings);
    let typed = taxpayer.kind.is_some();
    findings.note(
        invoice.supply.is_sez() && typed && !taxpayer.is_of_type("SEZ"),
        "2247",
        || format!("Recipient GSTIN {gstin} should be SEZ for this supply type"),
    );
    findings.note(
        invoice.supply == Supply::B2b && taxpayer.is_of_type("SEZ"),
        "2246",
        || format!("Recipient GSTIN {gstin} is SEZ: supply type should be SEZWP or SEZWOP"),
    );
}

/// A cancelled party may still appear in documents of its time.
fn check_status(
    gstin: &str,
    status: Status,
    accepted: bool,
    invoice: &Invoice,
    around: &Circumstances<'_>,
    findings: &mut Findings,
) {
    let Some(taxpayer) = around.registry.find(gstin) else {
        return;
    };
    let early = taxpayer
        .registered
        .is_some_and(|first| invoice.date.is_some_and(|date| date < first));
    findings.note(early, "3079", || {
        format!("Document date is earlier than the registration date of the GSTIN - {gstin}")
    });
    if accepted {
        return;
    }
    match (status, taxpayer.deregistered) {
        (Status::Cnl, Some(last)) => {
            let late = invoice.date.is_some_and(|date| date > last);
            findings.note(late, "3074", || {
                format!("GSTIN - {gstin} is cancelled and the document date is later than the de-registration date")
            });
        }
        _ => findings.note(true, "3029", || {
            format!("GSTIN - {gstin} is inactive or cancelled. Please use the Sync GSTIN API to check its present status")
        }),
    }
}

fn check_digit(gstin: &str, around: &Circumstances<'_>, findings: &mut Findings) {
    let wrong = around.check_digits && !masters::has_check_digit(gstin);
    findings.note(wrong, "3030", || format!("Invalid Gstin - {gstin}"));
}

fn check_transaction(invoice: &Invoice, findings: &mut Findings) {
    let reverse =
        invoice.reverse_charge && invoice.supply != Supply::B2b && !invoice.supply.is_sez();
    findings.note(reverse, "2162", || {
        "Reverse Charge is applicable only for B2B and SEZ invoices".to_owned()
    });
    // Where IGST is due whatever the states, the flag asks for nothing.
    let is_always_integrated = invoice.supply.is_sez() || invoice.supply.is_export();
    if invoice.igst_on_intra && !is_always_integrated {
        findings.note(
            invoice.seller.state != invoice.place_of_supply,
            "2262",
            || {
                "For IGST on intra-state supply the supplier state code and POS should be the same"
                    .to_owned()
            },
        );
        findings.note(!invoice.reverse_charge, "2294", || {
            "IGST on intra-state supply is applicable only with reverse charge".to_owned()
        });
    }
}

fn check_buyer(invoice: &Invoice, findings: &mut Findings) {
    let unregistered = invoice.buyer.gstin == "URP";
    findings.note(invoice.buyer.gstin == invoice.seller.gstin, "2211", || {
        "Supplier GSTIN and Recipient GSTIN should not be the same".to_owned()
    });
    match invoice.supply {
        Supply::B2b | Supply::SezWithPayment | Supply::SezWithoutPayment => {
            findings.note(unregistered, "2212", || {
                "Recipient GSTIN cannot be URP for this supply type".to_owned()
            })
        }
        Supply::DeemedExport => findings.note(unregistered, "2171", || {
            "Recipient GSTIN cannot be URP for Deemed Export".to_owned()
        }),
        Supply::ExportWithPayment | Supply::ExportWithoutPayment => {
            findings.note(!unregistered, "2248", || {
                "Recipient GSTIN should be URP for export".to_owned()
            })
        }
    }
}

fn check_places(invoice: &Invoice, findings: &mut Findings) {
    let seller = &invoice.seller;
    check_state_of(&seller.gstin, seller.state, "2258", "Supplier", findings);
    findings.note(!masters::is_state(seller.state), "2259", || {
        "Invalid supplier state code".to_owned()
    });
    check_pin(seller.pin, seller.state, "seller", findings);
    if !invoice.supply.is_export() {
        let buyer = &invoice.buyer;
        if buyer.gstin != "URP" {
            check_state_of(&buyer.gstin, buyer.state, "2265", "Recipient", findings);
        }
        findings.note(!masters::is_state(buyer.state), "2260", || {
            "Invalid recipient state code".to_owned()
        });
        check_pin(buyer.pin, buyer.state, "buyer", findings);
        findings.note(buyer.pin.is_none(), "2244", || {
            "Recipient PIN code is mandatory for this transaction".to_owned()
        });
        findings.note(invoice.place_of_supply == 96, "2242", || {
            "POS must not be 96 for this transaction".to_owned()
        });
        findings.note(!masters::is_state(invoice.place_of_supply), "2243", || {
            "POS should be a valid state code for this transaction".to_owned()
        });
    }
    for (place, name) in [(invoice.dispatch, "dispatch"), (invoice.ship, "ship-to")] {
        let Some((pin, state)) = place else { continue };
        findings.note(!masters::is_state(state), "2200", || {
            format!("Invalid state code in {name} details")
        });
        check_pin(Some(pin), state, name, findings);
    }
}

fn check_state_of(
    gstin: &str,
    state: u32,
    code: &'static str,
    whose: &str,
    findings: &mut Findings,
) {
    let own = gstin.get(..2).and_then(masters::state);
    findings.note(own != Some(state), code, || {
        format!("{whose} GSTIN state code does not match with the state code passed in the details")
    });
}

fn check_pin(pin: Option<u32>, state: u32, whose: &str, findings: &mut Findings) {
    let wrong = pin.is_some_and(|pin| !masters::pin_fits(pin, state));
    findings.note(wrong, "2178", || {
        format!(
            "PIN code does not belong to the state - {whose} {}",
            pin.unwrap_or_default()
        )
    });
}

fn check_export(invoice: &Invoice, findings: &mut Findings) {
    if let Some(country) = &invoice.country {
        findings.note(!masters::is_country(country), "2202", || {
            format!("Invalid Country code - {country}")
        });
    }
    if !invoice.supply.is_export() {
        return;
    }
    findings.note(invoice.country.is_none(), "2202", || {
        "Country code is required for export".to_owned()
    });
    findings.note(invoice.place_of_supply != 96, "2229", || {
        "POS must be 96 for export".to_owned()
    });
    findings.note(invoice.buyer.state != 96, "2261", || {
        "Recipient state code must be 96 for export".to_owned()
    });
    findings.note(invoice.buyer.pin != Some(999_999), "2178", || {
        "Recipient PIN code must be 999999 for export".to_owned()
    });
}
