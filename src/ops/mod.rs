//! What the commands do.

pub mod broker;
pub mod certify;
pub mod check;
pub mod dead_letters;
pub mod explain;
pub mod health;
pub mod online;
pub mod order;
mod portal;
pub mod replay;
pub mod submit;
mod tls;
pub mod validate;
pub mod verify;
