//! What the publisher says of a message is true, whatever becomes of those that it publishes beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures_util::future::join_all;
use irn_worker::broker::{Endpoint, Publication, PublishError, Publisher, Topology};
use irn_worker::config;
use irn_worker::job::{Body, Properties};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::amqp::Amqp;
use crate::support::broker::Broker;
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(10);

/// A publisher with a connection of its own, for as long as `work` takes.
async fn with_publisher<T>(
    broker: &Broker,
    work: impl AsyncFnOnce(&Publisher) -> Result<T>,
) -> Result<T> {
    let file = tempfile::NamedTempFile::new()?;
    let url = ("IRN_WORKER__BROKER__URL".to_owned(), broker.url());
    let config = config::load_broker_side(file.path(), [url])?.config;
    let endpoint = Endpoint::try_new(&config.broker, "test")?;
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let (publisher, stop) = (Publisher::default(), CancellationToken::new());
    let working = async {
        let worked = match timeout(SOON, publisher.ready()).await {
            Ok(()) => work(&publisher).await,
            Err(elapsed) => Err(elapsed.into()),
        };
        stop.cancel();
        worked
    };
    let ((), worked) = tokio::join!(publisher.run(&endpoint, &topology, false, &stop), working);
    worked
}

/// A broker with the queue `here`, and a connection to look into it.
async fn with_a_queue() -> Result<(Broker, Amqp)> {
    let broker = Broker::new().await?;
    let erp = Amqp::connect(&broker.url()).await?;
    erp.declare("here").await?;
    Ok((broker, erp))
}

fn publication(exchange: &'static str, queue: &'static str, id: &str) -> Publication<'static> {
    Publication {
        exchange: exchange.into(),
        routing_key: queue.into(),
        properties: Properties::default().with_message_id(id.into()),
        body: Body::copy_of(id.as_bytes()),
    }
}

/// Publishes them at once; of each, what was said.
async fn publish_at_once(
    publisher: &Publisher,
    publications: &[Publication<'_>],
) -> Vec<Result<(), PublishError>> {
    join_all(publications.iter().map(|one| publisher.publish(one))).await
}

async fn ids_in(erp: &Amqp, queue: &str) -> Result<BTreeSet<String>> {
    let count = erp.depth(queue).await? as usize;
    let taken = erp.take(queue, count, SOON).await?;
    let ids: BTreeSet<String> = taken
        .iter()
        .map(|message| String::from_utf8_lossy(&message.body).into_owned())
        .collect();
    ensure!(ids.len() == count, "a message is in {queue} twice");
    Ok(ids)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn messages_that_come_back_are_told_from_those_published_beside_them() -> Result<()> {
    let (broker, erp) = with_a_queue().await?;
    // Each round on a connection where nothing has come back yet.
    for round in 0..30 {
        let queue = |number: usize| {
            if number % 5 == round % 5 {
                "gone"
            } else {
                "here"
            }
        };
        let publications: Vec<_> = (0..200)
            .map(|number| publication("", queue(number), &format!("{round}/{number}")))
            .collect();
        let said = with_publisher(&broker, async |publisher| {
            Ok(publish_at_once(publisher, &publications).await)
        })
        .await?;
        let mut taken = BTreeSet::new();
        for (publication, said) in publications.iter().zip(said) {
            let id = String::from_utf8_lossy(publication.body.as_bytes()).into_owned();
            match (publication.routing_key.as_ref(), said) {
                ("here", Ok(())) => assert!(taken.insert(id)),
                ("gone", Err(PublishError::Returned)) => {}
                (queue, said) => panic!("{id} to {queue}: {said:?}"),
            }
        }
        assert_eq!(ids_in(&erp, "here").await?, taken);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn message_that_closes_its_channel_is_refused_and_the_connection_is_kept() -> Result<()> {
    let (broker, erp) = with_a_queue().await?;
    with_publisher(&broker, async |publisher| {
        for number in 0..20 {
            let said = publisher
                .publish(&publication("gone", "here", "refused"))
                .await;
            let Err(PublishError::Refused(why)) = said else {
                bail!("{said:?}");
            };
            ensure!(why.contains("no exchange 'gone'"), "{why}");
            publisher
                .publish(&publication("", "here", &number.to_string()))
                .await?;
        }
        Ok(())
    })
    .await?;
    assert_eq!(ids_in(&erp, "here").await?.len(), 20);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn those_beside_a_message_that_closes_their_channel_are_not_lost() -> Result<()> {
    let (broker, erp) = with_a_queue().await?;
    for round in 0..10 {
        let publications: Vec<_> = (0..50)
            .map(|number| {
                let exchange = if number == 20 { "gone" } else { "" };
                publication(exchange, "here", &format!("{round}/{number}"))
            })
            .collect();
        with_publisher(&broker, async |publisher| {
            let (mut taken, mut refused) = (0, 0);
            let mut left = publications.clone();
            // What may have left is published again, as those who publish do.
            while !left.is_empty() {
                timeout(SOON, publisher.ready()).await?;
                let said = publish_at_once(publisher, &left).await;
                let mut unknown = Vec::new();
                for (one, said) in left.into_iter().zip(said) {
                    match (one.exchange.as_ref(), said) {
                        ("", Ok(())) => taken += 1,
                        ("gone", Err(PublishError::Refused(_))) => refused += 1,
                        (_, Err(PublishError::Unconfirmed(_) | PublishError::NotConnected)) => {
                            unknown.push(one);
                        }
                        (exchange, said) => bail!("to {exchange:?}: {said:?}"),
                    }
                }
                left = unknown;
            }
            ensure!(
                (taken, refused) == (49, 1),
                "{taken} taken, {refused} refused"
            );
            Ok(())
        })
        .await?;
        let count = erp.depth("here").await? as usize;
        let taken = erp.take("here", count, SOON).await?;
        let different: BTreeSet<_> = taken.into_iter().map(|message| message.body).collect();
        assert_eq!(different.len(), 49);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn after_a_while_publications_share_a_channel_again() -> Result<()> {
    let (broker, erp) = with_a_queue().await?;
    drop(erp);
    with_publisher(&broker, async |publisher| {
        let returned = publisher.publish(&publication("", "gone", "0")).await;
        ensure!(
            matches!(returned, Err(PublishError::Returned)),
            "{returned:?}"
        );
        // Beside it, the connection has one for questions.
        for (channels, what) in [(1, "it to be closed"), (2, "another to be opened")] {
            eventually(6 * SOON, what, async || {
                Ok((broker.channels().await? == channels).then_some(()))
            })
            .await?;
        }
        let publications: Vec<_> = (0..100)
            .map(|number| publication("", "here", &number.to_string()))
            .collect();
        for said in publish_at_once(publisher, &publications).await {
            said?;
        }
        ensure!(
            broker.channels().await? == 2,
            "they had channels of their own"
        );
        Ok(())
    })
    .await
}
