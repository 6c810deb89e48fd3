//! `resume`: tells every replica that the trouble with a GSTIN or a client is over.

use tokio_util::sync::CancellationToken;

use crate::broker::{
    BadEndpoint, BrokerError, CONTROL_EXCHANGE, Endpoint, Payload, Publication, PublishError,
    Publisher, Topology, takes_orders,
};
use crate::config::BrokerSide;
use crate::control::Order;
use crate::job::{Properties, short};

/// Why the replicas were not told.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The broker's address or TLS files.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// The broker cannot be reached, or has no exchange for it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// No replica listens.
    #[error(
        "no worker listens to {CONTROL_EXCHANGE}: none runs on this virtual host, or none may listen; see its log"
    )]
    NobodyListens,
    /// The broker did not take it.
    #[error("the broker did not take the message: {0}")]
    Publish(PublishError),
}

/// Gives this order to every replica.
pub async fn resume(config: &BrokerSide, order: &Order) -> Result<(), ResumeError> {
    let endpoint = Endpoint::try_new(&config.broker, "resume")?;
    let connection = endpoint.connect("resume").await?;
    takes_orders(&connection).await?;
    drop(connection);
    let publisher = Publisher::default();
    let stop = CancellationToken::new();
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let message = order.to_json();
    let telling = async {
        publisher.ready().await;
        let told = publisher.publish(&publication(&message)).await;
        stop.cancel();
        told
    };
    let ((), told) = tokio::join!(publisher.run(&endpoint, &topology, false, &stop), telling);
    told.map_err(|error| match error {
        PublishError::Returned => ResumeError::NobodyListens,
        PublishError::NotConnected | PublishError::Nacked | PublishError::Unconfirmed(_) => {
            ResumeError::Publish(error)
        }
    })
}

fn publication(message: &str) -> Publication<'_> {
    Publication {
        exchange: CONTROL_EXCHANGE.into(),
        routing_key: "".into(),
        properties: Properties::default()
            .with_type(short("irn.control.v1"))
            .with_content_type(short("application/json")),
        payload: Payload(message.as_bytes()),
    }
}
