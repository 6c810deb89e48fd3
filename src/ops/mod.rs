//! What the commands do.

pub mod check;
pub mod health;
pub mod online;
pub mod replay;
pub mod resume;
pub mod submit;
pub mod validate;
pub mod verify;
