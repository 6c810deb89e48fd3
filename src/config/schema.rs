//! `docs/schema/worker.schema.json` and `credentials.schema.json`: made by reading the sample files and noting what the
//! reader asks for, with the samples' comments and values.
//!
//! One rule: the reader itself is the declaration. A key that it does not take is in no schema, and none that it takes
//! can be left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::fault::Source;
use super::findings::Findings;
use super::section::Section;
use super::setting::Setting;
use super::{credentials, load, tree};
use crate::published::{NAMESPACE, is_the_schema};

/// What a key wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// A value; its schema.
    One {
        schema: Value,
        required: bool,
    },
    /// A text, or the path of a file with it under the key's twin.
    Secret {
        required: bool,
    },
    List,
    /// A table with keys of the user's choosing.
    Map,
    /// A table with known keys.
    Section,
}

/// What the key of a list or a map ends in for any of its entries.
const ENTRY: &str = "[]";

/// The key as it is noted: `allow[0]` and `unknown_codes.4711` are entries of which there may be any number.
pub(super) fn noted(key: &str) -> String {
    match key.split_once(['[', '.']) {
        Some((of, _)) => format!("{of}{ENTRY}"),
        None => key.to_owned(),
    }
}

/// Whether the key is of an entry.
pub(super) fn is_entry(key: &str) -> bool {
    key.contains(['[', '.'])
}

impl Wanted {
    pub(super) fn one<T: Setting>() -> Self {
        Self::One {
            schema: T::schema(),
            required: false,
        }
    }

    pub(super) fn required(self) -> Self {
        match self {
            Self::One { schema, .. } => Self::One {
                schema,
                required: true,
            },
            Self::Secret { .. } => Self::Secret { required: true },
            other @ (Self::List | Self::Map | Self::Section) => other,
        }
    }
}

/// A key, and what is below it.
#[derive(Debug, Default)]
struct Node {
    wanted: Vec<Wanted>,
    /// What an entry of a list or a map may be, beside a table of the keys below.
    entries: Vec<Value>,
    below: BTreeMap<String, Node>,
    said: Said,
}

/// What the sample says of a key.
#[derive(Clone, Debug, Default)]
struct Said {
    comment: Option<String>,
    /// `default`, or `examples` where the sample leaves it out.
    value: Option<(&'static str, Value)>,
}

impl Node {
    fn at(&mut self, path: &str) -> &mut Self {
        path.split('.').fold(self, |node, step| {
            node.below.entry(step.to_owned()).or_default()
        })
    }

    fn has(&self, wanted: &Wanted) -> bool {
        self.wanted.contains(wanted)
    }

    /// Enters what was asked for.
    fn note(&mut self, key: &str, wanted: Wanted) {
        if let (Some(of), Wanted::One { schema, .. }) = (key.strip_suffix(ENTRY), &wanted) {
            return self.at(of).enter(schema);
        }
        let node = self.at(key);
        if !node.has(&wanted) {
            node.wanted.push(wanted);
        }
    }

    fn enter(&mut self, schema: &Value) {
        if !self.entries.contains(schema) {
            self.entries.push(schema.clone());
        }
    }

    fn is_required(&self) -> bool {
        let is_required = |wanted: &Wanted| {
            matches!(
                wanted,
                Wanted::One { required: true, .. } | Wanted::Secret { required: true }
            )
        };
        // What one entry wants and another does not may be left out.
        !self.wanted.is_empty() && self.wanted.iter().all(is_required)
    }

    fn schema(&self) -> Value {
        let mut schema = self.bare_schema();
        if let Some(comment) = &self.said.comment {
            schema["description"] = json!(comment);
        }
        if let Some((as_what, value)) = &self.said.value {
            schema[*as_what] = value.clone();
        }
        schema
    }

    fn bare_schema(&self) -> Value {
        if self.has(&Wanted::Section) {
            return object(&self.below, false);
        }
        if self.has(&Wanted::List) {
            return json!({"type": "array", "items": self.entry()});
        }
        if self.has(&Wanted::Map) {
            return json!({"type": "object", "additionalProperties": self.entry()});
        }
        match self.wanted.first() {
            Some(Wanted::One { schema, .. }) => schema.clone(),
            _ => json!({"type": "string", "minLength": 1}),
        }
    }

    fn entry(&self) -> Value {
        let mut entries = self.entries.clone();
        if !self.below.is_empty() {
            entries.push(object(&self.below, true));
        }
        match &entries[..] {
            [entry] => entry.clone(),
            _ => json!({"anyOf": entries}),
        }
    }
}

/// What the environment may set as well is required nowhere: entries of lists cannot be set there.
fn object(below: &BTreeMap<String, Node>, is_entry: bool) -> Value {
    let mut properties = Map::new();
    let (mut required, mut rules) = (Vec::new(), Vec::new());
    for (key, node) in below {
        properties.insert(key.clone(), node.schema());
        let is_secret = node
            .wanted
            .iter()
            .any(|wanted| matches!(wanted, Wanted::Secret { .. }));
        let is_required = is_entry && node.is_required();
        if is_secret {
            let twin = format!("{key}_file");
            rules.push(json!({"not": {"required": [key, twin]}}));
            if is_required {
                rules.push(json!({"anyOf": [{"required": [key]}, {"required": [twin]}]}));
            }
            let path = json!({
                "type": "string", "minLength": 1,
                "description": format!("A file that holds `{key}`; a line break at its end is ignored."),
            });
            properties.entry(twin).or_insert(path);
        } else if is_required {
            required.push(key);
        }
    }
    let mut schema =
        json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !rules.is_empty() {
        schema["allOf"] = json!(rules);
    }
    schema
}

/// What is said of each key of a sample: the comment above it, and its value. A line that begins with `# key =` is a
/// setting that is left out.
fn said(sample: &str) -> Vec<(String, Said)> {
    let (mut section, mut comment) = (String::new(), Vec::new());
    let mut all = Vec::new();
    for line in sample.lines() {
        let header = line.strip_prefix("# ").unwrap_or(line).strip_prefix('[');
        if let Some(name) = header.map(|name| name.trim_matches(['[', ']'])) {
            section = format!("{name}.");
            comment.clear();
        } else if let Some((key, value, is_set)) = setting(line) {
            let value = toml::from_str::<Map<String, Value>>(&format!("value = {value}"));
            let value = value.ok().and_then(|mut table| table.remove("value"));
            let said = Said {
                comment: (!comment.is_empty()).then(|| std::mem::take(&mut comment).join(" ")),
                value: value.map(|value| {
                    if is_set {
                        ("default", value)
                    } else {
                        ("examples", json!([value]))
                    }
                }),
            };
            all.push((format!("{section}{key}"), said));
        } else if let Some(text) = line.strip_prefix("# ") {
            comment.push(text.to_owned());
        } else {
            comment.clear();
        }
    }
    all
}

fn setting(line: &str) -> Option<(&str, &str, bool)> {
    let (text, is_set) = match line.strip_prefix("# ") {
        Some(text) => (text, false),
        None => (line, true),
    };
    let (key, value) = text.split_once(" = ")?;
    let is_key = key
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_key.then_some((key, value, is_set))
}

/// The sample with nothing left out, so that the reader comes past every entry that there may be.
fn whole_sample(sample: &str) -> String {
    let lines = sample.lines().map(|line| match setting(line) {
        Some((_, _, false)) => &line[2..],
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

fn tree_of(findings: &Findings, all_said: Vec<(String, Said)>) -> Node {
    let mut root = Node::default();
    for (key, wanted) in findings.wanted() {
        root.note(&key, wanted);
    }
    for (key, mut said) in all_said {
        let above: Vec<&str> = key.match_indices('.').map(|(end, _)| &key[..end]).collect();
        let mut is_below = |wanted| above.iter().any(|above| root.at(above).has(&wanted));
        // What the user chose to call something says nothing of what others may.
        if is_below(Wanted::Map) {
            continue;
        }
        if is_below(Wanted::List) {
            said.value = said.value.map(|(_, value)| ("examples", json!([value])));
        }
        let node = root.at(&key);
        if node.said.value.is_none() {
            node.said = said;
        }
    }
    root
}

fn published(name: &str, title: &str, root: &Node) -> Value {
    let mut schema = object(&root.below, false);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["$id"] = json!(format!("{NAMESPACE}{name}"));
    schema["title"] = json!(title);
    schema
}

#[test]
fn docs_schema_of_the_configuration_is_what_its_reader_asks_for() {
    const NAME: &str = "worker.schema.json";
    let text = sample("worker.toml");
    // What may be written in several forms has to be come past in each, and a key that a route inherits has to be there.
    let text = whole_sample(&text)
        .replace("keys/irp-public.pem", "Cargo.toml")
        .replace(
            "signing_keys = []",
            "signing_keys = [\"*.pem\", { file = \"2025.pem\", kid = \"15B82E\" }]",
        )
        .replace(
            "extra_headers = { ",
            "extra_headers = { \"X-Secret\" = { value_file = \"key\" }, ",
        )
        .replace(
            "client_pair = \"omit\", ",
            "client_pair = \"omit\", header_names = { authtoken = \"auth-token\" }, ",
        );
    let path: Arc<Path> = Arc::from(Path::new("config/worker.toml"));
    let findings = Findings::default();
    let (table, faults) = tree::parse(&path, tree::whole(&text));
    assert!(faults.is_empty(), "{faults:?}");
    let source = Source::file(&path);
    Section::read_root(&findings, source, Path::new(""), table, load::worker);
    let root = tree_of(&findings, said(&sample("worker.toml")));
    let title = "irn-worker: the configuration file, config/worker.toml";
    is_the_schema(NAME, &published(NAME, title, &root));
}

#[test]
fn docs_schema_of_the_credentials_is_what_their_reader_asks_for() {
    const NAME: &str = "credentials.schema.json";
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    // Every kind of route, since what a client has to have depends on it.
    let worker = write(
        "worker.toml",
        "[irp]\nbase_url = \"https://irp.example.in\"\npublic_key_file = \"Cargo.toml\"\n\
         routes.omit = { base_url = \"https://a.example.in\", client_pair = \"omit\" }\n\
         routes.mastergst = { base_url = \"https://b.example.in\", provider = \"mastergst\" }\n",
    );
    let irp = load::load(&worker, []).unwrap().config.irp;
    let entries = "[[client]]\n[[client]]\nroute = \"omit\"\n[[client]]\nroute = \"mastergst\"\n[[taxpayer]]\n";
    let findings = credentials::findings_of(&write("credentials.toml", entries), &(&irp).into());
    let root = tree_of(&findings, said(&sample("credentials.example.toml")));
    let title = "irn-worker: the credentials file";
    is_the_schema(NAME, &published(NAME, title, &root));
}
