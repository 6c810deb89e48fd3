//! Judges a document before the portal sees it.

mod schema;
mod tree;
