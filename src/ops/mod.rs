//! What the commands do.

pub mod check;
pub mod online;
pub mod order;
pub mod replay;
pub mod submit;
pub mod validate;
pub mod verify;
