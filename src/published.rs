//! Files of docs/ that are made of the types here. Every run of the tests compares them; `UPDATE_DOCS=1 cargo test --lib
//! docs_` writes them.
//!
//! One rule: what other programs read of this one is never written by hand where a type could say it.

use std::path::Path;

use serde_json::Value;

/// The schemas' own namespace; nothing is served there.
pub(crate) const NAMESPACE: &str = "https://irn-worker.invalid/schema/";

/// Fails if the file of docs/schema/ is not this schema.
pub(crate) fn is_the_schema(name: &str, schema: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/schema")
        .join(name);
    let text = format!("{schema:#}\n");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == text,
        "{} is out of date: UPDATE_DOCS=1 cargo test --features crash-points --lib docs_",
        path.display()
    );
    jsonschema::meta::validate(schema).unwrap();
}
