//! What the commands do.

pub mod check;
pub mod dead_letters;
pub mod health;
pub mod online;
pub mod order;
pub mod replay;
pub mod submit;
pub mod validate;
pub mod verify;
