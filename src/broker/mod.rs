//! RabbitMQ: connections, topology, consuming and publishing. Nothing here knows of invoices or the portal.
//!
//! One rule: this module owns its loops. lapin's own recovery stays off, because a reconnect that the consumer loop
//! cannot see hands the same job out twice within one process.

mod acks;
mod connection;
mod consumer;
mod control;
mod control_log;
mod greeting;
mod letters;
mod management;
mod publisher;
mod survey;
mod tls;
mod topology;
mod users;

pub use acks::Acknowledger;
pub(crate) use connection::timed;
pub use connection::{BadEndpoint, BrokerError, Endpoint};
pub use consumer::{Attached, Consuming, Delivery, Loss};
pub use control::{CONTROL_EXCHANGE, Heard, Tell, is_heard, listen};
pub use control_log::CONTROL_LOG;
pub use greeting::Greeting;
pub use letters::{
    Cursor, Hold, InOtherHands, Letter, Replay, Verdict, WalkError, Walked, send, walk,
};
pub use management::{Management, ManagementError, Seen};
pub use publisher::{Publication, PublishError, Publisher};
pub use survey::{Deviation, How, Kind, Survey, is_readable};
pub use topology::{
    DEAD_QUEUE, JOBS_EXCHANGE, JOBS_QUEUE, POISON_QUEUE, Topology, URGENT_QUEUE, retry_exchange,
};
pub use users::{User, users};

/// lapin's property and header types, for those who build messages.
pub use lapin::types::{AMQPValue, FieldTable};
