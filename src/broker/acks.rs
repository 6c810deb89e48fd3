//! Acknowledgements of one channel, told to the broker together where many are ready at once.
//!
//! One rule: an acknowledgement for all deliveries up to one (AMQP 0-9-1, basic.ack, `multiple`) is sent only when every
//! one of them is settled, and names one that has not been acknowledged before: another tag would close the channel.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::types::DeliveryTag;
use lapin::{Acker, Channel};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::connection::timed;

/// So many are taken up at once.
const MOST: usize = 256;

/// Where deliveries of one channel are settled. Clones speak to the same channel.
#[derive(Clone, Debug)]
pub(super) struct Acks(mpsc::UnboundedSender<Asked>);

#[derive(Debug)]
struct Asked {
    tag: DeliveryTag,
    verdict: Verdict,
    /// Told whether the broker will hear of it.
    told: oneshot::Sender<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Acknowledged,
    /// The broker moves it where the queue's rejected messages go.
    Rejected,
}

impl Acks {
    /// Those of this channel, until nobody is left who could ask.
    pub(super) fn of(channel: Channel) -> Self {
        let (ask, asked) = mpsc::unbounded_channel();
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the last one who could ask, and whoever asks waits for its answer"
        )]
        tokio::spawn(settle_all(channel, asked));
        Self(ask)
    }

    /// The right to settle one delivery.
    pub(super) fn acknowledger(
        &self,
        tag: DeliveryTag,
        acker: Acker,
        lost: CancellationToken,
    ) -> Acknowledger {
        Acknowledger {
            delivery: Arc::new(Delivered {
                tag,
                acks: self.clone(),
                settled: AtomicBool::new(false),
            }),
            acker,
            lost,
        }
    }
}

async fn settle_all(channel: Channel, mut asked: mpsc::UnboundedReceiver<Asked>) {
    let mut settled = Settled::default();
    let mut together = Vec::new();
    while asked.recv_many(&mut together, MOST).await > 0 {
        // While these are written, more become ready: the busier, the more go together.
        let sent = send(&channel, &mut settled, &together).await;
        for asked in together.drain(..) {
            // Nobody listens who was given up at the end of a drain.
            asked.told.send(sent).unwrap_or_default();
        }
    }
}

/// False where the broker may not hear of one of them.
async fn send(channel: &Channel, settled: &mut Settled, together: &[Asked]) -> bool {
    let of = |verdict| {
        let those = together
            .iter()
            .filter(move |asked| asked.verdict == verdict);
        those.map(|asked| asked.tag)
    };
    // Rejections first: an acknowledgement of all up to a higher one must not speak for them.
    let rejections = of(Verdict::Rejected)
        .map(|tag| timed(channel.basic_reject(tag, BasicRejectOptions { requeue: false })));
    let rejected = join_all(rejections).await;
    for tag in of(Verdict::Rejected) {
        settled.rejected(tag);
    }
    let acknowledgements = settled.acknowledged(of(Verdict::Acknowledged));
    let acknowledgements = acknowledgements
        .into_iter()
        .map(|(tag, multiple)| timed(channel.basic_ack(tag, BasicAckOptions { multiple })));
    let acknowledged = join_all(acknowledgements).await;
    let all = rejected.into_iter().chain(acknowledged);
    all.into_iter().all(|sent| matches!(sent, Ok(Ok(()))))
}

/// Which deliveries of a channel are settled. The broker counts them from 1.
#[derive(Debug, Default)]
struct Settled {
    /// All up to this one are.
    all_to: DeliveryTag,
    /// Those after it that are, too.
    beyond: BTreeSet<DeliveryTag>,
}

impl Settled {
    fn rejected(&mut self, tag: DeliveryTag) {
        self.beyond.insert(tag);
        self.advance();
    }

    /// What to tell the broker of these: tags, and whether one speaks for all before it.
    fn acknowledged(
        &mut self,
        tags: impl Iterator<Item = DeliveryTag> + Clone,
    ) -> Vec<(DeliveryTag, bool)> {
        self.beyond.extend(tags.clone());
        self.advance();
        let covered = tags.clone().filter(|tag| *tag <= self.all_to);
        let last = covered
            .clone()
            .max()
            .map(|last| (last, covered.count() > 1));
        let single = tags
            .filter(|tag| *tag > self.all_to)
            .map(|tag| (tag, false));
        last.into_iter().chain(single).collect()
    }

    fn advance(&mut self) {
        while self.beyond.remove(&(self.all_to + 1)) {
            self.all_to += 1;
        }
    }
}

#[derive(Debug)]
struct Delivered {
    tag: DeliveryTag,
    acks: Acks,
    settled: AtomicBool,
}

impl Delivered {
    async fn settle(&self, verdict: Verdict) -> bool {
        // A second word on the same delivery would close the channel.
        if self.settled.swap(true, Ordering::Relaxed) {
            return false;
        }
        let (told, sent) = oneshot::channel();
        let tag = self.tag;
        let asked = Asked { tag, verdict, told };
        self.acks.0.send(asked).is_ok() && sent.await.unwrap_or(false)
    }
}

/// The right to acknowledge one delivery.
#[derive(Debug)]
pub struct Acknowledger {
    delivery: Arc<Delivered>,
    /// Knows when the channel has failed.
    acker: Acker,
    lost: CancellationToken,
}

impl Acknowledger {
    /// Ends when the delivery is no longer ours: the broker will hand it to somebody else.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether an acknowledgement would still reach the broker.
    pub fn is_live(&self) -> bool {
        !self.lost.is_cancelled() && self.acker.usable()
    }

    /// A way to settle the delivery when whoever holds the right to acknowledge it has panicked.
    pub fn last_resort(&self) -> LastResort {
        LastResort(Arc::clone(&self.delivery))
    }

    /// Acknowledges; false if it is no longer ours, so that it will be redelivered.
    pub async fn ack(self) -> bool {
        !self.acker.poisoned() && self.delivery.settle(Verdict::Acknowledged).await
    }
}

/// Rejects a delivery that nobody will acknowledge any more, so that it does not stay with us for ever.
#[derive(Debug)]
pub struct LastResort(Arc<Delivered>);

impl LastResort {
    /// Has the broker move the message to `irn.poison`. Nothing happens if it was acknowledged after all.
    pub async fn reject(self) {
        self.0.settle(Verdict::Rejected).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acknowledged(settled: &mut Settled, tags: &[DeliveryTag]) -> Vec<(DeliveryTag, bool)> {
        settled.acknowledged(tags.iter().copied())
    }

    #[test]
    fn one_word_settles_all_deliveries_without_a_gap_before_them() {
        let mut settled = Settled::default();
        assert_eq!(acknowledged(&mut settled, &[1, 3, 2]), [(3, true)]);
        assert_eq!(
            acknowledged(&mut settled, &[6, 5]),
            [(6, false), (5, false)]
        );
        // The last one not told yet speaks; 6 has been acknowledged before.
        assert_eq!(acknowledged(&mut settled, &[4]), [(4, false)]);
        assert_eq!(acknowledged(&mut settled, &[7, 8]), [(8, true)]);
    }

    #[test]
    fn rejected_delivery_is_no_gap_and_is_not_acknowledged() {
        let mut settled = Settled::default();
        settled.rejected(2);
        assert_eq!(acknowledged(&mut settled, &[1, 3]), [(3, true)]);
    }

    proptest! {
        /// As the broker keeps the books: a tag that is not open, or an open one that was not settled, is an error.
        #[test]
        fn broker_accepts_every_order_and_grouping(
            order in Just((1..=200_u64).collect::<Vec<_>>()).prop_shuffle(),
            sizes in proptest::collection::vec(1_usize..20, 200),
        ) {
            let mut settled = Settled::default();
            let mut open: BTreeSet<DeliveryTag> = (1..=200).collect();
            let mut ready = BTreeSet::new();
            let (mut rest, mut sizes) = (&order[..], sizes.into_iter());
            while !rest.is_empty() {
                let (together, later) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                rest = later;
                ready.extend(together);
                for (tag, multiple) in acknowledged(&mut settled, together) {
                    prop_assert!(open.remove(&tag), "{tag} is not open");
                    if multiple {
                        let before: Vec<_> = open.range(..tag).copied().collect();
                        prop_assert!(before.iter().all(|tag| ready.contains(tag)));
                        open.retain(|other| *other > tag);
                    }
                }
                prop_assert!(open.is_disjoint(&ready), "told at once");
            }
            prop_assert!(open.is_empty());
        }
    }
}
