//! Whatever test takes a result off a queue: it is such a one as docs/schema/ tells other programs.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use jsonschema::Validator;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

/// A schema, and the members that it knows.
struct Published {
    validator: Validator,
    members: Vec<String>,
}

impl Published {
    fn read(text: &str) -> Self {
        let schema: Value = serde_json::from_str(text).expect("a schema is JSON");
        let members = schema["properties"].as_object().expect("properties");
        Self {
            members: members.keys().cloned().collect(),
            validator: jsonschema::validator_for(&schema).expect("a schema is one"),
        }
    }

    fn ensure_valid(&self, value: &Value) -> Result<()> {
        let errors: Vec<_> = self
            .validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path().as_str()))
            .collect();
        ensure!(errors.is_empty(), "not as docs/schema/ has it: {errors:#?}");
        let members = value.as_object().context("not an object")?;
        let unknown: Vec<_> = members
            .keys()
            .filter(|name| !self.members.contains(name))
            .collect();
        ensure!(unknown.is_empty(), "not in docs/schema/: {unknown:?}");
        Ok(())
    }
}

static RESULT: LazyLock<Published> =
    LazyLock::new(|| Published::read(include_str!("../../../docs/schema/result.v1.schema.json")));
static PROPERTIES: LazyLock<Published> = LazyLock::new(|| {
    Published::read(include_str!(
        "../../../docs/schema/result.properties.v1.schema.json"
    ))
});

/// # Errors
/// It is a result, and not such a one as docs/schema/ describes.
pub(crate) fn ensure_as_described(properties: &BasicProperties, body: &[u8]) -> Result<()> {
    if properties
        .kind()
        .as_ref()
        .is_none_or(|kind| kind.as_str() != "irn.result.v1")
    {
        return Ok(());
    }
    let result: Value = serde_json::from_slice(body).context("a result that is not JSON")?;
    RESULT.ensure_valid(&result)?;
    PROPERTIES.ensure_valid(&described(properties))?;
    let headers = properties.headers().as_ref();
    let status = headers.and_then(|headers| headers.inner().get("x-irn-status"));
    ensure!(
        status.map(value).as_ref() == Some(&result["status"]),
        "x-irn-status is not the status"
    );
    Ok(())
}

/// The properties that a result has, by their usual names.
fn described(properties: &BasicProperties) -> Value {
    let texts = [
        ("type", properties.kind()),
        ("content_type", properties.content_type()),
        ("app_id", properties.app_id()),
        ("correlation_id", properties.correlation_id()),
        ("message_id", properties.message_id()),
    ];
    let mut described: Map<String, Value> = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?.as_str()))))
        .collect();
    if let Some(mode) = properties.delivery_mode() {
        described.insert("delivery_mode".to_owned(), json!(mode));
    }
    if let Some(seconds) = properties.timestamp() {
        described.insert("timestamp".to_owned(), json!(seconds));
    }
    if let Some(headers) = properties.headers() {
        described.insert("headers".to_owned(), table(headers));
    }
    Value::Object(described)
}

fn table(table: &FieldTable) -> Value {
    let entries = table.inner().iter();
    entries
        .map(|(name, entry)| (name.to_string(), value(entry)))
        .collect()
}

fn value(entry: &AMQPValue) -> Value {
    match entry {
        AMQPValue::LongString(text) => json!(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::LongLongInt(number) => json!(number),
        AMQPValue::LongInt(number) => json!(number),
        AMQPValue::LongUInt(number) => json!(number),
        AMQPValue::Boolean(value) => json!(value),
        other => json!(format!("{other:?}")),
    }
}
