//! What the tree keeps of a document, and that it is what a general parser reads.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value};

fn names() -> Names {
    let mut names = Names::default();
    for (name, is_number) in [
        ("SellerDtls", false),
        ("Gstin", false),
        ("ItemList", false),
        ("AssAmt", true),
    ] {
        names.add(name, is_number);
    }
    names
}

#[test]
fn names_are_known_in_any_case_and_pointers_keep_their_spelling() {
    let names = names();
    let text =
        r#"{"SELLERDTLS":{"gstin":"a","GSTIN":"b"},"itemlist":[{},{"assamt":10.50}],"x/~y":1}"#;
    let node = Node::parse(text, &names).unwrap();
    let seller = node.object().unwrap().get("SellerDtls").unwrap();
    assert_eq!(
        seller.object().unwrap().get("Gstin").unwrap().text(),
        Some("b")
    );
    for (canonical, written) in [
        ("/ItemList/1/AssAmt", "/itemlist/1/assamt"),
        ("/ItemList/0/AssAmt", "/itemlist/0/AssAmt"),
        ("/SellerDtls/Gstin", "/SELLERDTLS/GSTIN"),
        ("/ValDtls/AssVal", "/ValDtls/AssVal"),
        ("", ""),
    ] {
        assert_eq!(node.as_written(canonical), written);
    }
    let unknown: Vec<_> = node.object().unwrap().unknown().collect();
    assert_eq!(unknown, ["x/~y"]);
    let mut escaped = String::new();
    push_escaped(&mut escaped, unknown[0]);
    assert_eq!(escaped, "x~1~0y");
}

#[test]
fn numbers_keep_their_digits_and_nulls_are_absent() {
    let names = names();
    let text = r#"{"AssAmt":99999999999999.99,"Gstin":null,"SellerDtls":{"AssAmt":"1e2"}}"#;
    let node = Node::parse(text, &names).unwrap();
    let object = node.object().unwrap();
    let number = object.get("AssAmt").unwrap().number().unwrap();
    assert_eq!(number.to_string(), "99999999999999.99");
    assert!(object.get("Gstin").is_none());
    let quoted = object.get("SellerDtls").unwrap().object().unwrap();
    assert_eq!(
        quoted.get("AssAmt").unwrap().number(),
        Some(Decimal::ONE_HUNDRED)
    );
    assert_eq!(decimal("1e400"), None);
    let float_in_full = "900.1000000000000227373675443232059478759765625";
    let rounded = decimal(float_in_full).unwrap();
    assert_eq!(rounded.round_dp(2).to_string(), "900.10");
    assert_eq!(decimal("1.5E+3"), Some(Decimal::from(1_500)));
    for text in ["", "-", ".", "1.", ".5", "1.5.2", "12a", "--1", "+1"] {
        assert_eq!(FewDigits::read(text), None, "{text}");
    }
    assert_eq!(
        decimal("150e-2")
            .map(|value| value.normalize().to_string())
            .as_deref(),
        Some("1.5")
    );
    assert_eq!(decimal("1e-400"), Some(Decimal::ZERO));
}

#[test]
fn a_hostile_document_is_an_error_or_a_tree_and_no_more() {
    let names = names();
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(200_000), close.repeat(200_000));
    let many = format!("{{{}\"a\":1}}", "\"Gstin\":\"x\",".repeat(100_000));
    assert!(Node::parse(&many, &names).is_ok());
    for (text, pointer) in [
        (deep("[", "]"), "/0/0/0/0"),
        (format!("{{\"GSTIN\":{}}}", deep("[", "]")), "/GSTIN/0/0/0"),
        (format!("{{\"nobo/dy\":{}}}", deep("[", "]")), "/nobo~1dy"),
        (
            format!(
                "{{\"nobody\":{}1{}}}",
                "{\"a\":".repeat(5_000),
                "}".repeat(5_000)
            ),
            "/nobody",
        ),
        (format!("{{\"AssAmt\":{}}}", deep("[", "]")), "/AssAmt"),
        (
            format!(
                "{{\"ItemList\":[{}{}]}}",
                "0,".repeat(MAX_ELEMENTS),
                deep("[", "]")
            ),
            "/ItemList/1000",
        ),
    ] {
        let unreadable = Node::parse(&text, &names).unwrap_err();
        let told = (unreadable.fault(), unreadable.pointer());
        assert_eq!(told, (Fault::TooDeep, pointer.to_owned()));
    }
}

#[test]
fn as_many_levels_may_lie_in_each_other_under_an_unknown_name_as_under_a_known_one() {
    let names = names();
    for name in ["Gstin", "nobody", "AssAmt"] {
        let nested = |levels: usize| {
            let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
            format!("{{\"{name}\":{open}1{close}}}")
        };
        assert!(Node::parse(&nested(128), &names).is_ok(), "{name}");
        assert!(Node::parse(&nested(129), &names).is_err(), "{name}");
    }
}

#[test]
fn half_of_a_surrogate_pair_is_found_and_its_place_told() {
    let names = names();
    let long_name = format!(r#"{{"ItemList":[{{"{}":"\udc00"}}]}}"#, "x".repeat(1_000));
    for (text, fault, pointer) in [
        (r#"{"gstin":"a \ud800 7"}"#, Fault::HalfPair, "/gstin"),
        (r#"{"Gstin":"\udc00"}"#, Fault::HalfPair, "/Gstin"),
        (
            r#"{"ItemList":[{},{"Gstin":"\ud83d"}]}"#,
            Fault::HalfPair,
            "/ItemList/1/Gstin",
        ),
        (r#"{"own":{"a":["\ud800x"]}}"#, Fault::HalfPair, "/own"),
        (
            r#"{"SellerDtls":{"\ud800":1}}"#,
            Fault::HalfPairInName,
            "/SellerDtls",
        ),
        (r#"{"Gstin":"\q"}"#, Fault::NotJson, "/Gstin"),
        (&long_name, Fault::HalfPair, "/ItemList/0"),
    ] {
        let unreadable = Node::parse(text, &names).unwrap_err();
        let told = (unreadable.fault(), unreadable.pointer());
        assert_eq!(told, (fault, pointer.to_owned()), "{text}");
    }
    let whole = r#"{"Gstin":"\ud83d\ude00","own":["\ud83d\ude00"]}"#;
    assert!(Node::parse(whole, &names).is_ok());
}

/// What the tree should hold of a value, by the general parser's reading; `number` where a number is expected.
fn expected(value: &Value, names: &Names, number: bool) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(digits) => format!("number {digits}"),
        Value::String(text) => format!("text {text:?}"),
        Value::Array(_) if number => "[] of 0".to_owned(),
        Value::Object(_) if number => "{} unknown []".to_owned(),
        Value::Array(elements) => {
            let of = |element| expected(element, names, false);
            let kept: Vec<_> = elements.iter().take(MAX_ELEMENTS).map(of).collect();
            format!("[{}] of {}", kept.join(", "), elements.len())
        }
        Value::Object(members) => expected_members(members, names),
    }
}

fn expected_members(members: &Map<String, Value>, names: &Names) -> String {
    let (mut known, mut unknown): (Vec<(String, String)>, Vec<&str>) = (Vec::new(), Vec::new());
    for (written, value) in members {
        let Some(name) = names.find(written) else {
            unknown.push(written);
            continue;
        };
        known.retain(|(canonical, _)| **canonical != *name.canonical);
        if !value.is_null() {
            let value = expected(value, names, name.is_number);
            known.push((name.canonical.to_string(), format!("{written}={value}")));
        }
    }
    unknown.truncate(MAX_UNKNOWN);
    let known: Vec<_> = known.into_iter().map(|(_, shown)| shown).collect();
    format!("{{{}}} unknown {unknown:?}", known.join(", "))
}

fn shown(node: &Node<'_>) -> String {
    match node {
        Node::Null => "null".to_owned(),
        Node::Bool => "bool".to_owned(),
        Node::Number(number) => format!("number {}", number.text()),
        Node::Text(text) => format!("text {text:?}"),
        Node::List { elements, count } => {
            let kept: Vec<_> = elements.iter().map(shown).collect();
            format!("[{}] of {count}", kept.join(", "))
        }
        Node::Object(object) => {
            let known = object.iter().map(|(name, value)| {
                assert!(object.get(name).is_some());
                format!("{}={}", object.spelling(name), shown(value))
            });
            let (known, unknown): (Vec<_>, Vec<_>) = (known.collect(), object.unknown().collect());
            format!("{{{}}} unknown {unknown:?}", known.join(", "))
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"\\\\ /\n₹\t]{0,12}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("SellerDtls"),
        Just("GSTIN"),
        Just("gstin"),
        Just("ItemList"),
        Just("AssAmt"),
        Just("assamt"),
        Just("no\"body"),
        Just(""),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let members = proptest::collection::vec((name.clone(), inner.clone()), 0..6);
        prop_oneof![
            proptest::collection::vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| {
                let members = members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value));
                Value::Object(members.collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn tree_is_what_a_general_parser_reads(value in any_value(), pretty: bool) {
        let names = names();
        let text = if pretty { format!(" {value:#}\n") } else { value.to_string() };
        let node = Node::parse(&text, &names).unwrap();
        prop_assert_eq!(shown(&node), expected(&value, &names, false));
    }

    #[test]
    fn any_text_is_a_tree_or_none(text in "[\\[\\]{}:,\"\\\\ 0-9a-uE.+-]{0,60}") {
        let names = names();
        let read = Node::parse(&text, &names);
        if serde_json::from_str::<Value>(&text).is_ok() {
            prop_assert!(read.is_ok());
        }
    }
}
