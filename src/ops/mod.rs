//! What the commands do.

pub mod broker;
pub mod check;
pub mod online;
mod portal;
pub mod replay;
pub mod resume;
pub mod submit;
mod tls;
pub mod validate;
pub mod verify;
