//! A town of each state with its PIN code: documents need an address that fits the GSTIN.

/// Town and PIN code.
pub(super) type Place = (&'static str, u32);

/// Towns by the state's code (NIC, state codes; India Post, PIN codes of the head offices).
const PLACES: [(&str, Place); 37] = [
    ("01", ("JAMMU", 180_001)),
    ("02", ("SHIMLA", 171_001)),
    ("03", ("LUDHIANA", 141_001)),
    ("04", ("CHANDIGARH", 160_017)),
    ("05", ("DEHRADUN", 248_001)),
    ("06", ("GURUGRAM", 122_001)),
    ("07", ("NEW DELHI", 110_001)),
    ("08", ("JAIPUR", 302_001)),
    ("09", ("LUCKNOW", 226_001)),
    ("10", ("PATNA", 800_001)),
    ("11", ("GANGTOK", 737_101)),
    ("12", ("ITANAGAR", 791_111)),
    ("13", ("KOHIMA", 797_001)),
    ("14", ("IMPHAL", 795_001)),
    ("15", ("AIZAWL", 796_001)),
    ("16", ("AGARTALA", 799_001)),
    ("17", ("SHILLONG", 793_001)),
    ("18", ("GUWAHATI", 781_001)),
    ("19", ("KOLKATA", 700_001)),
    ("20", ("RANCHI", 834_001)),
    ("21", ("BHUBANESWAR", 751_001)),
    ("22", ("RAIPUR", 492_001)),
    ("23", ("BHOPAL", 462_001)),
    ("24", ("AHMEDABAD", 380_001)),
    ("25", ("DIU", 362_520)),
    ("26", ("SILVASSA", 396_230)),
    ("27", ("MUMBAI", 400_001)),
    ("29", ("BENGALURU", 560_001)),
    ("30", ("PANAJI", 403_001)),
    ("31", ("KAVARATTI", 682_555)),
    ("32", ("THIRUVANANTHAPURAM", 695_001)),
    ("33", ("CHENNAI", 600_001)),
    ("34", ("PUDUCHERRY", 605_001)),
    ("35", ("PORT BLAIR", 744_101)),
    ("36", ("HYDERABAD", 500_001)),
    ("37", ("VIJAYAWADA", 520_001)),
    ("38", ("LEH", 194_101)),
];

/// A place in the state of this code; for the codes that are no state, the capital.
pub(super) fn in_state(code: &str) -> Place {
    let known = PLACES.iter().find(|(state, _)| *state == code);
    known.map_or(("NEW DELHI", 110_001), |(_, place)| *place)
}

/// The code of another state than these, and a place there.
pub(super) fn elsewhere(than: [&str; 2]) -> (&'static str, Place) {
    let other = PLACES.iter().rev().find(|(state, _)| !than.contains(state));
    other.map_or(("07", ("NEW DELHI", 110_001)), |(state, place)| {
        (state, *place)
    })
}
