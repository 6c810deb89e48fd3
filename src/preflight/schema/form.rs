//! Whether a document has the form, and no more: the schema once more, as a table that is gone through member by member.
//!
//! One rule: it says yes exactly where the validator finds nothing; a test holds the two against each other, and a schema
//! with a keyword that is not understood here is a fault of the build.

use std::sync::OnceLock;

use memchr::memchr2;
use regex::Regex;
use serde_json::{Map, Value};

use super::super::tree::{NameId, Names, Node, Number};

/// A pattern that most texts of the form have, because the portal takes neither of the two.
const NEITHER_QUOTE_NOR_BACKSLASH: &str = r#"^[^"\\]*$"#;

/// What says nothing of a document's form.
const ANNOTATIONS: [&str; 6] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "title",
    "description",
];

/// The schema, as blocks that name each other by their place.
pub(super) struct Form {
    blocks: Vec<Block>,
    root: Rule,
}

/// An object's members.
struct Block {
    /// By name.
    rules: Vec<Option<Rule>>,
    required: Vec<NameId>,
}

/// What a value must be.
#[derive(Clone)]
enum Rule {
    Text(TextRule),
    Number(NumberRule),
    Block(usize),
    List(Option<Box<Rule>>),
}

#[derive(Clone)]
struct TextRule {
    /// In characters.
    shortest: usize,
    longest: usize,
    patterns: Vec<Pattern>,
}

#[derive(Clone)]
enum Pattern {
    NeitherQuoteNorBackslash,
    Any(Expression),
}

/// A regular expression that is compiled when a text is first held against it: a worker without work needs none.
#[derive(Clone)]
struct Expression {
    pattern: String,
    compiled: OnceLock<Option<Regex>>,
}

#[derive(Clone, Copy)]
struct NumberRule {
    is_integer: bool,
    least: f64,
    most: f64,
}

impl Form {
    /// Compiles a schema. `names` are those of its members.
    ///
    /// # Errors
    /// A keyword that is not understood here, in words.
    pub(super) fn compile(schema: &Value, names: &mut Names) -> Result<Self, String> {
        let mut compiler = Compiler {
            root: schema,
            names,
            blocks: Vec::new(),
        };
        let root = compiler.rule(schema)?;
        Ok(Self {
            blocks: compiler.blocks,
            root,
        })
    }

    /// Whether the document has the form.
    pub(super) fn fits(&self, document: &Node<'_>) -> bool {
        self.is_met(&self.root, document)
    }

    fn is_met(&self, rule: &Rule, node: &Node<'_>) -> bool {
        match (rule, node) {
            (Rule::Text(rule), Node::Text(text)) => rule.is_met(text),
            (Rule::Number(rule), Node::Number(number)) => rule.is_met(number),
            (Rule::Block(block), Node::Object(_)) => self.has_block(*block, node),
            (Rule::List(None), Node::List { .. }) => true,
            (Rule::List(Some(rule)), Node::List { elements, .. }) => {
                elements.iter().all(|element| self.is_met(rule, element))
            }
            (Rule::Text(_) | Rule::Number(_) | Rule::Block(_) | Rule::List(_), _) => false,
        }
    }

    fn has_block(&self, block: usize, node: &Node<'_>) -> bool {
        let (Some(block), Some(object)) = (self.blocks.get(block), node.object()) else {
            return false;
        };
        let mut missing = block.required.len();
        for (name, member) in object.named() {
            missing -= usize::from(block.required.contains(&name.id));
            let rule = block.rules.get(name.id.index());
            if let Some(Some(rule)) = rule
                && !self.is_met(rule, member)
            {
                return false;
            }
        }
        missing == 0
    }
}

impl TextRule {
    fn is_met(&self, text: &str) -> bool {
        self.has_length(text) && self.patterns.iter().all(|pattern| pattern.is_met(text))
    }

    fn has_length(&self, text: &str) -> bool {
        /// Bytes of the longest character.
        const WIDEST: usize = 4;
        let bytes = text.len();
        // It need not be counted to know, nearly always.
        if bytes <= self.longest && bytes >= self.shortest.saturating_mul(WIDEST) {
            return true;
        }
        (self.shortest..=self.longest).contains(&text.chars().count())
    }
}

impl Pattern {
    fn new(pattern: &str) -> Self {
        if pattern == NEITHER_QUOTE_NOR_BACKSLASH {
            return Self::NeitherQuoteNorBackslash;
        }
        Self::Any(Expression {
            pattern: pattern.to_owned(),
            compiled: OnceLock::new(),
        })
    }

    fn is_met(&self, text: &str) -> bool {
        match self {
            Self::NeitherQuoteNorBackslash => memchr2(b'"', b'\\', text.as_bytes()).is_none(),
            Self::Any(expression) => expression.is_match(text),
        }
    }
}

impl Expression {
    /// One that does not compile fits nothing, and leaves the word to the validator; a test compiles them all.
    fn is_match(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&self.pattern).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl NumberRule {
    fn is_met(&self, number: &Number<'_>) -> bool {
        let float = number.float();
        float.is_some_and(|float| self.least <= float && float <= self.most)
            && (!self.is_integer || number.is_integer())
    }
}

/// Reads the schema once.
struct Compiler<'s> {
    root: &'s Value,
    names: &'s mut Names,
    blocks: Vec<Block>,
}

impl Compiler<'_> {
    fn rule(&mut self, schema: &Value) -> Result<Rule, String> {
        let keywords = self.keywords(schema)?;
        let kind = keywords.get("type").and_then(Value::as_str);
        match kind {
            Some("string") => {
                understood(&keywords, &["minLength", "maxLength", "pattern", "allOf"])?;
                text_rule(&keywords).map(Rule::Text)
            }
            Some("number" | "integer") => {
                understood(&keywords, &["minimum", "maximum"])?;
                Ok(Rule::Number(NumberRule {
                    is_integer: kind == Some("integer"),
                    least: number(&keywords, "minimum").unwrap_or(f64::NEG_INFINITY),
                    most: number(&keywords, "maximum").unwrap_or(f64::INFINITY),
                }))
            }
            Some("array") => {
                understood(&keywords, &["items"])?;
                let element = keywords.get("items").map(|element| self.rule(element));
                Ok(Rule::List(element.transpose()?.map(Box::new)))
            }
            Some("object") => {
                understood(&keywords, &["properties", "required"])?;
                self.block(&keywords).map(Rule::Block)
            }
            other => Err(format!("the type {other:?} is not understood")),
        }
    }

    /// A schema's keywords, those of what it refers to among them.
    fn keywords(&self, schema: &Value) -> Result<Map<String, Value>, String> {
        let mut keywords = schema.as_object().cloned().ok_or("not a schema")?;
        if let Some(reference) = keywords.remove("$ref") {
            let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
            let definition = pointer.and_then(|pointer| self.root.pointer(pointer));
            let definition = definition.and_then(Value::as_object);
            for (keyword, value) in definition.ok_or("a $ref leads nowhere")? {
                let says_otherwise = keywords.insert(keyword.clone(), value.clone());
                if says_otherwise.is_some() && !ANNOTATIONS.contains(&keyword.as_str()) {
                    return Err(format!("{keyword} is said twice"));
                }
            }
        }
        Ok(keywords)
    }

    fn block(&mut self, keywords: &Map<String, Value>) -> Result<usize, String> {
        let mut rules = Vec::new();
        for (name, member) in keywords
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let rule = self.rule(member)?;
            let place = self.names.add(name, false).index();
            if rules.len() <= place {
                rules.resize(place + 1, None);
            }
            rules[place] = Some(rule);
        }
        let required = keywords.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        let required = required.map(|name| self.names.add(name, false)).collect();
        self.blocks.push(Block { rules, required });
        Ok(self.blocks.len() - 1)
    }
}

fn text_rule(keywords: &Map<String, Value>) -> Result<TextRule, String> {
    let length = |keyword: &str| {
        let length = keywords.get(keyword).and_then(Value::as_u64);
        length.and_then(|length| usize::try_from(length).ok())
    };
    let mut patterns: Vec<&Value> = keywords.get("pattern").into_iter().collect();
    for part in keywords
        .get("allOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        match part
            .as_object()
            .filter(|part| part.len() == 1)
            .and_then(|part| part.get("pattern"))
        {
            Some(pattern) => patterns.push(pattern),
            None => return Err("allOf has more than patterns".to_owned()),
        }
    }
    let patterns = patterns
        .into_iter()
        .map(|pattern| Pattern::new(pattern.as_str().unwrap_or_default()));
    Ok(TextRule {
        shortest: length("minLength").unwrap_or(0),
        longest: length("maxLength").unwrap_or(usize::MAX),
        patterns: patterns.collect(),
    })
}

fn number(keywords: &Map<String, Value>, keyword: &str) -> Option<f64> {
    keywords.get(keyword).and_then(Value::as_f64)
}

fn understood(keywords: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    let is_known = |keyword: &String| {
        keyword == "type"
            || known.contains(&keyword.as_str())
            || ANNOTATIONS.contains(&keyword.as_str())
    };
    match keywords.keys().find(|keyword| !is_known(keyword)) {
        Some(keyword) => Err(format!("the keyword {keyword} is not understood")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::INV_01;
    use super::*;

    fn patterns(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(members) => {
                let pattern = members.get("pattern").and_then(Value::as_str);
                found.extend(pattern.map(str::to_owned));
                members.values().for_each(|member| patterns(member, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| patterns(element, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_pattern_of_the_schema_compiles() {
        let mut found = Vec::new();
        patterns(&serde_json::from_str(INV_01).unwrap(), &mut found);
        assert!(found.len() > 10, "{found:?}");
        for pattern in found {
            assert!(Regex::new(&pattern).is_ok(), "{pattern}");
        }
    }
}
