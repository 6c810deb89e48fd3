//! What the commands do.

pub mod submit;
