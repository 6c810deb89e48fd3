//! `pause` and `resume`: an operator's order to every replica, and to those that start later.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{
    BadEndpoint, BrokerError, CONTROL_EXCHANGE, CONTROL_LOG, Endpoint, Publication, PublishError,
    Publisher, Topology,
};
use crate::config::BrokerSide;
use crate::control::{Order, Whom};
use crate::job::{Body, Properties, short};
use crate::retry::Backoffs;

/// Why the order was not given.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The broker's address or TLS files.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// The broker cannot be reached, or has no exchange for it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// No replica listens.
    #[error(
        "no worker listens to {CONTROL_EXCHANGE}: none runs on this virtual host, or none may listen; see its log. A \
         pause is lifted all the same"
    )]
    NobodyListens,
    /// The log's exchange leads nowhere.
    #[error(
        "exchange {CONTROL_LOG} has no queue, so nothing keeps the order: run `irn-worker topology apply`"
    )]
    NotKept,
    /// The broker did not take it.
    #[error(
        "the broker did not take the order: {0}; the user in broker.url has to be allowed to write `irn.control.*`"
    )]
    Publish(PublishError),
}

/// How often and how long the broker is asked to take an order.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const TRIED_FOR: Duration = Duration::from_secs(30);

/// After this long the broker is not there.
const PATIENCE: Duration = Duration::from_secs(45);

/// Where an order has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ways {
    /// It changes what is paused, or may: those that start later have to know.
    kept: bool,
    /// It changes what a running replica remembers of the portal's refusals.
    said: bool,
}

impl Ways {
    fn of(order: &Order) -> Self {
        match order {
            Order::Pause(..) | Order::Resume(Whom::Portal) => Self {
                kept: true,
                said: false,
            },
            Order::Resume(Whom::Client(_) | Whom::Gstin(_)) => Self {
                kept: true,
                said: true,
            },
        }
    }
}

/// Gives this order to every replica.
pub async fn give(config: &BrokerSide, order: &Order) -> Result<(), OrderError> {
    let endpoint = Endpoint::try_new(&config.broker, "order")?;
    let mut ways = Ways::of(order);
    let connection = endpoint.connect("order").await?;
    match Topology::takes_orders(&connection, CONTROL_LOG).await {
        // Where there is no log, nobody can be paused.
        Err(BrokerError::Topology { .. }) if ways.said => ways.kept = false,
        asked => asked?,
    }
    if ways.said {
        Topology::takes_orders(&connection, CONTROL_EXCHANGE).await?;
    }
    drop(connection);
    let publisher = Publisher::default();
    let stop = CancellationToken::new();
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let message = order.to_json();
    let giving = async {
        let given = tokio::time::timeout(PATIENCE, publish(&publisher, &message, ways)).await;
        stop.cancel();
        given.unwrap_or(Err(OrderError::Publish(PublishError::NotConnected)))
    };
    let ((), given) = tokio::join!(publisher.run(&endpoint, &topology, false, &stop), giving);
    given
}

/// To the log first: what is said and not kept would be forgotten by the next replica.
async fn publish(publisher: &Publisher, message: &str, ways: Ways) -> Result<(), OrderError> {
    if ways.kept {
        let kept = published(publisher, CONTROL_LOG, message).await;
        kept.map_err(|error| failed(error, OrderError::NotKept))?;
    }
    if ways.said {
        let said = published(publisher, CONTROL_EXCHANGE, message).await;
        said.map_err(|error| failed(error, OrderError::NobodyListens))?;
    }
    Ok(())
}

/// A stream whose leader has just been lost refuses what it gets until it has another: within seconds, or half a minute on
/// a busy machine. An order that is given twice is one order.
async fn published(
    publisher: &Publisher,
    exchange: &str,
    message: &str,
) -> Result<(), PublishError> {
    let started = Instant::now();
    let mut delays = Backoffs::new(AGAIN_AFTER, AGAIN_AFTER * 5);
    loop {
        publisher.ready().await;
        let error = match publisher.publish(&publication(exchange, message)).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if !may_pass(&error) || started.elapsed() >= TRIED_FOR {
            return Err(error);
        }
        tokio::time::sleep(delays.next_delay()).await;
    }
}

fn may_pass(error: &PublishError) -> bool {
    match error {
        PublishError::NotConnected | PublishError::Nacked => true,
        PublishError::Unconfirmed(_) => true,
        PublishError::Returned | PublishError::Refused(_) => false,
    }
}

fn failed(error: PublishError, returned: OrderError) -> OrderError {
    match error {
        PublishError::Returned => returned,
        PublishError::NotConnected
        | PublishError::Nacked
        | PublishError::Refused(_)
        | PublishError::Unconfirmed(_) => OrderError::Publish(error),
    }
}

fn publication<'a>(exchange: &'a str, message: &'a str) -> Publication<'a> {
    Publication {
        exchange: exchange.into(),
        routing_key: "".into(),
        properties: Properties::default()
            .with_type(short("irn.control.v1"))
            .with_content_type(short("application/json")),
        body: Body::copy_of(message.as_bytes()),
    }
}
