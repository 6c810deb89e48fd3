//! The form of an INV-01 document: our JSON Schema of it, and its violations in plain words.
//!
//! One rule: the validator sees the document through [`Node`], so that a member is found in any case, a `null` is
//! absent, and no value is copied into an error.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::json::{self, Json, JsonNumber, NodeIdentity};
use jsonschema::{JsonType, PatternOptions, ValidationError, Validator};
use rust_decimal::prelude::ToPrimitive as _;
use serde_json::Value;

use super::findings::MAX_ERRORS;
use super::tree::{Names, Node, Number, Object};

mod form;
#[cfg(test)]
mod published;

use form::Form;

const INV_01: &str = include_str!("inv01.schema.json");

/// The compiled schema, the names in it, and what people call them.
pub(super) struct Schema {
    /// The schema, for the question that nearly every document is only asked.
    form: Form,
    /// The same, for what is wrong. Compiled when first something is: it is the largest part of a worker's start.
    validator: OnceLock<Validator<Tree>>,
    names: Names,
    /// By pointer, every index written `*`.
    words: HashMap<String, Words>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({} members)", self.words.len())
    }
}

/// How people speak of a member.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    title: String,
    /// What it must be.
    form: Option<String>,
}

/// The built-in schema cannot be compiled: a fault of this build.
#[derive(Debug, thiserror::Error)]
#[error("the built-in schema of INV-01 is at fault: {0}")]
pub struct BadSchema(String);

/// A place that breaks the form.
#[derive(PartialEq, Eq)]
pub(super) struct Violation {
    /// JSON Pointer by the names of the form.
    pub(super) pointer: String,
    pub(super) message: String,
}

impl Schema {
    /// Compiles the schema that is built in.
    ///
    /// # Errors
    /// That it is no schema; a test keeps it one.
    pub(super) fn compile() -> Result<Self, BadSchema> {
        let schema: Value =
            serde_json::from_str(INV_01).map_err(|error| BadSchema(error.to_string()))?;
        let mut reader = Reader {
            root: &schema,
            names: Names::default(),
            words: HashMap::new(),
        };
        reader.read(&schema, "");
        let form = Form::compile(&schema, &mut reader.names).map_err(BadSchema)?;
        Ok(Self {
            form,
            validator: OnceLock::new(),
            names: reader.names,
            words: reader.words,
        })
    }

    /// The names of the form, to parse a document with.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// The places where the document breaks the form, as many as are told.
    pub(super) fn violations(&self, document: &Node<'_>) -> Vec<Violation> {
        // Whether there is any is quicker to ask than which.
        if self.form.fits(document) {
            return Vec::new();
        }
        let errors = self.validator().iter_errors(document);
        let mut pointers = HashSet::new();
        // A member may break both its length and its pattern: one sentence says what it must be.
        errors
            .map(|error| self.violation(&error))
            .filter(|violation| pointers.insert(violation.pointer.clone()))
            .take(MAX_ERRORS * 3 / 4)
            .collect()
    }

    fn validator(&self) -> &Validator<Tree> {
        self.validator.get_or_init(|| {
            let schema = serde_json::from_str(INV_01).expect("it was read at the start");
            let compiled = jsonschema::options_for::<Tree>()
                .with_pattern_options(PatternOptions::regex())
                .offline()
                .build(&schema);
            compiled.expect("a test sees to it that the schema that is built in compiles")
        })
    }

    fn violation(&self, error: &ValidationError<'_>) -> Violation {
        let mut pointer = error.instance_path().as_str().to_owned();
        if let ValidationErrorKind::Required { property } = error.kind() {
            pointer.push('/');
            pointer.push_str(property.as_str().unwrap_or_default());
        }
        let words = self.words.get(&without_indices(&pointer));
        let title = words.map_or("this member", |words| &words.title);
        let form = words.and_then(|words| words.form.as_deref());
        let message = format!(
            "{}{title} {}",
            line(&pointer),
            complaint(error.kind(), form)
        );
        Violation { pointer, message }
    }
}

/// `/ItemList/3/Qty` becomes `/ItemList/*/Qty`.
fn without_indices(pointer: &str) -> String {
    let is_index = |step: &str| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    let steps: Vec<&str> = pointer
        .split('/')
        .map(|step| if is_index(step) { "*" } else { step })
        .collect();
    steps.join("/")
}

/// `line 4: ` for a place in the fourth line of the list.
pub(super) fn line(pointer: &str) -> String {
    let index = pointer
        .strip_prefix("/ItemList/")
        .and_then(|rest| rest.split('/').next())
        .and_then(|step| step.parse::<usize>().ok());
    index.map_or_else(String::new, |index| format!("line {}: ", index + 1))
}

/// What is wrong, to be read after the member's title.
fn complaint(kind: &ValidationErrorKind, form: Option<&str>) -> String {
    match kind {
        ValidationErrorKind::Required { .. } => "is missing".to_owned(),
        ValidationErrorKind::MinLength { limit: 1 } => {
            "is empty; leave it out when there is nothing to say".to_owned()
        }
        ValidationErrorKind::MinLength { limit } => {
            format!("is too short: it must have at least {limit} characters")
        }
        ValidationErrorKind::MaxLength { limit } => {
            format!("is too long: it may have at most {limit} characters")
        }
        ValidationErrorKind::Type { kind } => match (form, wanted(kind)) {
            (Some(form), "a text in quotation marks") => {
                format!("must be a text in quotation marks: {form}")
            }
            (Some(form), _) => format!("must be {form}"),
            (None, wanted) => format!("must be {wanted}"),
        },
        // The others end in the member's form too: the portal knows no more of them.
        _ => form.map_or_else(
            || "does not have the form that the portal prescribes".to_owned(),
            |form| format!("must be {form}"),
        ),
    }
}

fn wanted(kind: &jsonschema::error::TypeKind) -> &'static str {
    let jsonschema::error::TypeKind::Single(kind) = kind else {
        return "of another type";
    };
    match kind {
        JsonType::Array => "a list in [ ]",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number without quotation marks",
        JsonType::Null => "null",
        JsonType::Number => "a number without quotation marks",
        JsonType::Object => "a block in { }",
        JsonType::String => "a text in quotation marks",
    }
}

/// Walks the schema once for its names and its words.
struct Reader<'s> {
    root: &'s Value,
    names: Names,
    words: HashMap<String, Words>,
}

impl Reader<'_> {
    fn read(&mut self, schema: &Value, pointer: &str) {
        let definition = self.definition(schema);
        let text = |key: &str| schema[key].as_str().or(definition[key].as_str());
        if let Some(title) = text("title") {
            let words = Words {
                title: title.to_owned(),
                form: text("description").map(str::to_owned),
            };
            self.words.insert(pointer.to_owned(), words);
        }
        if let Some(name) = pointer.rsplit('/').next().filter(|name| *name != "*") {
            let is_number = matches!(text("type"), Some("number" | "integer"));
            self.names.add(name, is_number);
        }
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            self.read(member, &format!("{pointer}/{name}"));
        }
        if let Some(element) = schema.get("items") {
            self.read(element, &format!("{pointer}/*"));
        }
    }

    /// What a `$ref` names; an empty value without one.
    fn definition(&self, schema: &Value) -> Value {
        let reference = schema["$ref"]
            .as_str()
            .and_then(|text| text.strip_prefix('#'));
        let found = reference.and_then(|pointer| self.root.pointer(pointer));
        found.cloned().unwrap_or_default()
    }
}

/// Our documents, as the validator's kind of JSON.
struct Tree;

impl Json for Tree {
    type Node<'a> = &'a Node<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = ();

    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>((): &mut (), text: &str, f: impl FnOnce(Self::Node<'_>) -> T) -> T {
        f(&Node::Text(Cow::Borrowed(text)))
    }
}

impl<'a> json::Node<'a, Tree> for &'a Node<'a> {
    type Object = &'a Object<'a>;
    type Array = &'a [Node<'a>];
    type Number = Number<'a>;

    fn as_object(&self) -> Option<&'a Object<'a>> {
        (*self).object()
    }

    fn as_array(&self) -> Option<&'a [Node<'a>]> {
        (*self).list()
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            Node::Text(text) => Some(Cow::Borrowed(text)),
            Node::Null | Node::Bool | Node::Number(_) | Node::List { .. } | Node::Object(_) => None,
        }
    }

    fn as_number(&self) -> Option<Number<'a>> {
        self.bare_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        // The form has no booleans: which one it is makes no difference.
        matches!(self, Node::Bool).then_some(true)
    }

    fn is_null(&self) -> bool {
        matches!(self, Node::Null)
    }

    fn json_type(&self) -> JsonType {
        match self {
            Node::Null => JsonType::Null,
            Node::Bool => JsonType::Boolean,
            Node::Number(_) => JsonType::Number,
            Node::Text(_) => JsonType::String,
            Node::List { .. } => JsonType::Array,
            Node::Object(_) => JsonType::Object,
        }
    }

    /// Only errors ask for it, and no error may carry a piece of the document.
    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(Value::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(
            std::ptr::from_ref::<Node<'_>>(self).addr(),
        ))
    }
}

impl<'a> json::Object<'a, Tree> for &'a Object<'a> {
    type Node = &'a Node<'a>;
    type MemberName = &'a str;
    type MembersIter = Box<dyn Iterator<Item = (&'a str, &'a Node<'a>)> + 'a>;

    fn len(&self) -> usize {
        Object::len(self)
    }

    fn get(&self, key: &Box<str>) -> Option<&'a Node<'a>> {
        Object::get(self, key)
    }

    fn members(&self) -> Self::MembersIter {
        Box::new(self.iter())
    }
}

impl<'a> json::Array<'a, Tree> for &'a [Node<'a>] {
    type Node = &'a Node<'a>;
    type ElementsIter = std::slice::Iter<'a, Node<'a>>;

    fn len(&self) -> usize {
        <[Node<'a>]>::len(self)
    }

    fn elements(&self) -> Self::ElementsIter {
        self.iter()
    }
}

impl JsonNumber for Number<'_> {
    fn as_u64(&self) -> Option<u64> {
        self.value().filter(|value| value.is_integer())?.to_u64()
    }

    fn as_i64(&self) -> Option<i64> {
        self.value().filter(|value| value.is_integer())?.to_i64()
    }

    /// For comparisons with the limits of the form only: the nearest float keeps their order.
    fn as_f64(&self) -> Option<f64> {
        self.float()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.text())
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        let float = || self.as_f64().and_then(serde_json::Number::from_f64);
        let number = self.as_i64().map(serde_json::Number::from).or_else(float);
        // Beyond every float is beyond every limit.
        Cow::Owned(number.unwrap_or_else(|| serde_json::Number::from(u64::MAX)))
    }

    fn is_integer(&self) -> bool {
        Number::is_integer(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use proptest::prelude::*;

    fn violations(text: &str) -> Vec<(String, String)> {
        let schema = Schema::compile().unwrap();
        let node = Node::parse(text, schema.names()).unwrap();
        let found = schema.violations(&node);
        found
            .into_iter()
            .map(|violation| (violation.pointer, violation.message))
            .collect()
    }

    const SAMPLE: &str = include_str!("../../tests/vectors/invoices/b2b-interstate.json");
    const SAMPLES: [&str; 4] = [
        SAMPLE,
        include_str!("../../tests/vectors/invoices/b2b-120-items-with-eway-bill.json"),
        include_str!("../../tests/vectors/invoices/credit-note-intrastate.json"),
        include_str!("../../tests/vectors/invoices/export-with-payment.json"),
    ];
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::compile().unwrap());

    #[test]
    fn every_sample_has_the_form() {
        for sample in SAMPLES {
            assert_eq!(violations(sample), []);
        }
    }

    #[test]
    fn each_fault_of_form_has_its_place_and_its_sentence() {
        let cases = [
            (
                r#""SI/25-26/00417""#,
                r#""0417""#,
                "/DocDtls/No",
                "the document number must be up to 16 letters",
            ),
            (
                "560058",
                r#""560058""#,
                "/SellerDtls/Pin",
                "must be six digits, without quotation marks",
            ),
            ("560058", "560058.5", "/SellerDtls/Pin", "six digits"),
            ("560058", "99999", "/SellerDtls/Pin", "six digits"),
            (
                r#""Qty": 2,"#,
                r#""Qty": -2,"#,
                "/ItemList/1/Qty",
                "line 2: the quantity must be a quantity from 0",
            ),
            (
                r#""Qty": 2,"#,
                r#""Qty": 1e99,"#,
                "/ItemList/1/Qty",
                "a quantity from 0",
            ),
            (
                "\"UnitPrice\": 150,",
                "",
                "/ItemList/0/UnitPrice",
                "line 1: the unit price is missing",
            ),
            (
                r#""Loc": "PUNE""#,
                r#""Loc": null"#,
                "/BuyerDtls/Loc",
                "the buyer's place is missing",
            ),
            (
                r#""Loc": "PUNE""#,
                r#""Loc": """#,
                "/BuyerDtls/Loc",
                "is too short",
            ),
            (
                r#""Loc": "PUNE""#,
                r#""Loc": "PU\"NE""#,
                "/BuyerDtls/Loc",
                "without quotation marks",
            ),
            (
                r#""Stcd": "27""#,
                r#""Stcd": 27"#,
                "/BuyerDtls/Stcd",
                "a text in quotation marks",
            ),
            (
                r#""HsnCd": "520832""#,
                r#""HsnCd": "000000""#,
                "/ItemList/0/HsnCd",
                "not all zero",
            ),
            (
                r#""SupTyp": "B2B""#,
                r#""SupTyp": "B2C""#,
                "/TranDtls/SupTyp",
                "one of B2B",
            ),
            (
                r#""RndOffAmt": 0.41"#,
                r#""RndOffAmt": 100"#,
                "/ValDtls/RndOffAmt",
                "from -99.99",
            ),
            (
                r#""TotInvVal": 21851"#,
                r#""TotInvVal": 100000000000000"#,
                "/ValDtls/TotInvVal",
                "from 0",
            ),
        ];
        for (good, bad, pointer, says) in cases {
            let text = SAMPLE.replacen(good, bad, 1);
            assert_ne!(text, SAMPLE, "{good} is not in the sample");
            let found = violations(&text);
            assert_eq!(found.len(), 1, "{bad}: {found:?}");
            assert_eq!(found[0].0, pointer);
            assert!(found[0].1.contains(says), "{found:?}");
        }
    }

    #[test]
    fn what_the_portal_takes_has_the_form() {
        for (written, also) in [
            (r#""Typ": "INV""#, r#""tYP": "inv""#),
            (r#""SupTyp": "B2B""#, r#""suptyp": "b2b""#),
            (r#""Dt": "05/09/2025""#, r#""Dt": "05/09/2031""#),
            (r#""Stcd": "29""#, r#""Stcd": "9""#),
            ("\"TrdNm\": \"Kaveri Fabrics\"", "\"TrdNm\": null"),
            ("\"TotInvVal\": 21851", "\"TotInvVal\": 99999999999999.99"),
            ("\"Pin\": 560058", "\"Pin\": 560058.0"),
            (
                "\"Version\": \"1.1\"",
                "\"Version\": \"1.1\", \"ErpOnly\": {\"a\": [1]}",
            ),
        ] {
            let text = SAMPLE.replacen(written, also, 1);
            assert_ne!(text, SAMPLE, "{written} is not in the sample");
            assert_eq!(violations(&text), [], "{also}");
        }
    }

    /// All places of a document, by pointer.
    fn places(value: &Value, pointer: String, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    places(member, format!("{pointer}/{name}"), found);
                }
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    places(element, format!("{pointer}/{index}"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        found.push(pointer);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3_i64..2_000_000).prop_map(Value::from),
            (-1_200.0_f64..1e15).prop_map(Value::from),
            Just(serde_json::json!({})),
            Just(serde_json::json!([])),
            Just(serde_json::json!([{}])),
            "[0-9A-Za-z@./\"\\\\ ₹-]{0,40}".prop_map(Value::from),
            "[0-9]{1,9}".prop_map(Value::from),
            "[A-Z]{1,3}".prop_map(Value::from),
            "[0-3][0-9]/[01][0-9]/20[0-9]{2}".prop_map(Value::from),
            "x{0,305}".prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn form_is_met_exactly_where_the_validator_finds_nothing(
            sample in 0..SAMPLES.len(),
            at in any::<proptest::sample::Index>(),
            value in any_value(),
            is_taken_out: bool,
        ) {
            let mut document: Value = serde_json::from_str(SAMPLES[sample]).unwrap();
            let mut pointers = Vec::new();
            places(&document, String::new(), &mut pointers);
            let pointer = at.get(&pointers);
            if is_taken_out {
                let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
                if let Some(members) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
                    members.remove(name);
                }
            } else {
                *document.pointer_mut(pointer).unwrap() = value;
            }
            let text = document.to_string();
            let schema = &*SCHEMA;
            let node = Node::parse(&text, schema.names()).unwrap();
            prop_assert_eq!(schema.form.fits(&node), schema.validator().is_valid(&node), "{}", text);
        }
    }

    #[test]
    fn keyword_that_is_not_understood_is_a_fault() {
        for schema in [
            serde_json::json!({"type": "string", "format": "email"}),
            serde_json::json!({"type": "object", "additionalProperties": false}),
            serde_json::json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}),
            serde_json::json!({"type": ["string", "null"]}),
        ] {
            assert!(
                Form::compile(&schema, &mut Names::default()).is_err(),
                "{schema}"
            );
        }
    }
}
