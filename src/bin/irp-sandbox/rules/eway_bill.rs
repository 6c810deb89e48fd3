//! The e-way-bill part: whether the portal would issue one, and over which distance (NIC, generate EWB by IRN page).
//! A refusal here never undoes the registration of the invoice.

use jiff::civil::Date;

use super::Findings;
use super::invoice::Invoice;
use crate::clock::parse_day;
use crate::node::Node;

/// What a registered invoice contributes to its e-way bill.
#[derive(Clone, Debug)]
pub(crate) struct Goods {
    is_invoice: bool,
    has_goods: bool,
    date: Option<Date>,
    from: u32,
    to: u32,
}

impl Goods {
    /// Goods travel from the dispatch place or the seller to the ship-to place or the buyer.
    pub(crate) fn of(invoice: &Invoice) -> Self {
        let from = invoice.dispatch.map(|(pin, _)| pin).or(invoice.seller.pin);
        let to = invoice.ship.map(|(pin, _)| pin).or(invoice.buyer.pin);
        Self {
            is_invoice: invoice.typ == "INV",
            has_goods: invoice.items.iter().any(|item| !item.is_service),
            date: invoice.date,
            from: from.unwrap_or_default(),
            to: to.unwrap_or_default(),
        }
    }

    /// The distance the portal computes itself, in kilometres: made up here, but always the same for two PINs.
    fn computed_distance(&self) -> u32 {
        self.from.abs_diff(self.to) / 100 % 3_000 + 1
    }
}

/// What may travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Journey {
    /// Kilometres.
    pub(crate) distance: u32,
    /// The portal computed the distance itself (EWBPPD).
    pub(crate) computed: bool,
    /// Without vehicle or transport document only Part A is issued, which has no validity yet.
    pub(crate) is_part_a: bool,
}

/// Checks transport details whose form is right.
///
/// # Errors
/// Every finding, with the codes of the e-way-bill system.
pub(crate) fn plan(details: &Node<'_>, goods: &Goods, today: Date) -> Result<Journey, Findings> {
    let mut findings = Findings::default();
    findings.note(!goods.is_invoice, "4010", || {
        "E-way bill can be generated only for invoices of goods".to_owned()
    });
    findings.note(!goods.has_goods, "4009", || {
        "E-way bill needs at least one HSN code of goods".to_owned()
    });
    check_transport(details, &mut findings);
    check_document_date(details, goods, today, &mut findings);
    let asked: u32 = details
        .decimal("Distance")
        .and_then(|number| number.try_into().ok())
        .unwrap_or_default();
    let same_pin = goods.from == goods.to;
    findings.note(asked == 0 && same_pin, "4029", || {
        "PIN codes are the same: distance cannot be 0".to_owned()
    });
    findings.note(asked > 4_000, "4013", || "Distance is too high".to_owned());
    let errors = findings.0;
    if !errors.is_empty() {
        return Err(Findings(errors));
    }
    let computed = asked == 0;
    let distance = if computed {
        goods.computed_distance()
    } else {
        asked
    };
    Ok(Journey {
        distance,
        computed,
        is_part_a: details.text("TransMode").is_none(),
    })
}

fn check_transport(details: &Node<'_>, findings: &mut Findings) {
    let has = |name| details.text(name).is_some_and(|text| !text.is_empty());
    let is_odc = details.text("VehType") == Some("O");
    match details.text("TransMode") {
        Some("1") => {
            findings.note(!has("VehNo"), "4011", || {
                "Vehicle number is required for road".to_owned()
            });
            findings.note(!has("VehType"), "4022", || {
                "Vehicle type is required for road".to_owned()
            });
        }
        Some("4") => {
            findings.note(!has("VehNo") && !has("TransDocNo"), "4040", || {
                "Ship needs vehicle number or transport document number".to_owned()
            });
            let regular = details.text("VehType") == Some("R");
            findings.note(regular, "4039", || {
                "Vehicle type cannot be regular for ship".to_owned()
            });
        }
        Some(_) => {
            findings.note(!has("TransDocNo"), "4012", || {
                "Transport document number is required for rail and air".to_owned()
            });
            findings.note(!has("TransDocDt"), "4023", || {
                "Transport document date is required".to_owned()
            });
            findings.note(is_odc, "4024", || {
                "Over-dimensional cargo travels by road or ship only".to_owned()
            });
        }
        None if has("VehNo") => {
            findings.note(true, "4028", || {
                "Transport mode is mandatory with a vehicle number".to_owned()
            });
        }
        None => findings.note(!has("TransId"), "4019", || {
            "Please provide Transporter ID for Part A".to_owned()
        }),
    }
    let vehicle = details
        .text("VehNo")
        .is_some_and(|number| !number.bytes().any(|byte| byte.is_ascii_digit()));
    findings.note(vehicle, "4014", || "Invalid vehicle number".to_owned());
}

fn check_document_date(details: &Node<'_>, goods: &Goods, today: Date, findings: &mut Findings) {
    let Some(text) = details.text("TransDocDt") else {
        return;
    };
    let Some(date) = parse_day(text) else {
        return findings.note(true, "4017", || "Incorrect date format".to_owned());
    };
    findings.note(date > today, "4016", || {
        "Transport document date cannot be in the future".to_owned()
    });
    findings.note(
        goods.date.is_some_and(|invoice| date < invoice),
        "4021",
        || "Transport document date cannot be earlier than the invoice date".to_owned(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goods() -> Goods {
        let date = parse_day("05/09/2025");
        Goods {
            is_invoice: true,
            has_goods: true,
            date,
            from: 560_058,
            to: 411_014,
        }
    }

    fn plan_of(details: &str, goods: &Goods) -> Result<Journey, Vec<String>> {
        let today = parse_day("10/09/2025").unwrap();
        let node = Node::parse(details.as_bytes()).unwrap();
        plan(&node, goods, today).map_err(|findings| {
            findings
                .into_errors()
                .into_iter()
                .map(|error| error.code.into_owned())
                .collect()
        })
    }

    #[test]
    fn transport_by_road_gets_a_bill() {
        let details = r#"{"TransMode":"1","Distance":840,"VehNo":"KA01AB1234","VehType":"R"}"#;
        let journey = plan_of(details, &goods()).unwrap();
        assert_eq!(
            journey,
            Journey {
                distance: 840,
                computed: false,
                is_part_a: false
            }
        );
    }

    #[test]
    fn distance_zero_is_computed_from_the_pins() {
        let details = r#"{"TransId":"29AAGCE4783K1Z1","Distance":0}"#;
        let journey = plan_of(details, &goods()).unwrap();
        assert!(journey.computed && journey.is_part_a && journey.distance > 0);
        let same = Goods {
            to: 560_058,
            ..goods()
        };
        assert_eq!(plan_of(details, &same).unwrap_err(), ["4029"]);
    }

    #[test]
    fn each_refusal_has_its_code() {
        let cases = [
            (r#"{"Distance":10}"#, "4019"),
            (r#"{"Distance":10,"VehNo":"KA01AB1234"}"#, "4028"),
            (r#"{"Distance":10,"TransMode":"1","VehType":"R"}"#, "4011"),
            (
                r#"{"Distance":10,"TransMode":"1","VehNo":"KA01AB1234"}"#,
                "4022",
            ),
            (
                r#"{"Distance":10,"TransMode":"2","TransDocDt":"06/09/2025"}"#,
                "4012",
            ),
            (
                r#"{"Distance":10,"TransMode":"3","TransDocNo":"A1"}"#,
                "4023",
            ),
            (r#"{"Distance":10,"TransMode":"4"}"#, "4040"),
            (
                r#"{"Distance":10,"TransMode":"2","TransDocNo":"A1","TransDocDt":"01/09/2025"}"#,
                "4021",
            ),
            (
                r#"{"Distance":10,"TransMode":"2","TransDocNo":"A1","TransDocDt":"11/09/2025"}"#,
                "4016",
            ),
        ];
        for (details, code) in cases {
            assert_eq!(plan_of(details, &goods()).unwrap_err(), [code], "{details}");
        }
        let note = Goods {
            is_invoice: false,
            ..goods()
        };
        assert_eq!(
            plan_of(r#"{"Distance":10,"TransId":"29AAGCE4783K1Z1"}"#, &note).unwrap_err(),
            ["4010"]
        );
    }
}
