//! RabbitMQ: connections, topology, consuming and publishing. Nothing here knows of invoices or the portal.
//!
//! One rule: this module owns its loops. lapin's own recovery stays off, because a reconnect that the consumer loop
//! cannot see hands the same job out twice within one process.

mod acks;
mod connection;
mod consumer;
mod control;
mod letters;
mod publisher;
mod tls;
mod topology;

pub use acks::Acknowledger;
pub(crate) use connection::timed;
pub use connection::{BadEndpoint, BrokerError, Endpoint};
pub use consumer::{Attached, Consuming, Delivery, Loss};
pub use control::{CONTROL_EXCHANGE, Tell, listen, takes_orders};
pub use letters::{Letter, Verdict, WalkError, Walked, walk};
pub use publisher::{Payload, Publication, PublishError, Publisher};
pub use topology::{
    DEAD_QUEUE, JOBS_EXCHANGE, JOBS_QUEUE, POISON_QUEUE, Topology, URGENT_QUEUE, retry_exchange,
};

/// lapin's property and header types, for those who build messages.
pub use lapin::types::{AMQPValue, FieldTable};
