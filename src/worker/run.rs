//! The consume loop: attach, take a delivery, work; and the two ways it ends, lost and told to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Worker;
use super::gate::{Gate, Shut};
use crate::broker::{Attached, Consuming, Delivery, Endpoint, Loss, Topology};
use crate::retry::Backoffs;
use crate::telemetry::{self, InFlight, Readiness, State};

const FIRST_RECONNECT: Duration = Duration::from_millis(100);
/// A broker that restarts should not wait for its workers: a try costs it next to nothing.
const SLOWEST_RECONNECT: Duration = Duration::from_secs(3);

/// An attachment that held this long starts the delays anew.
const HELD: Duration = Duration::from_secs(10);

/// An attachment that ended sooner may have been ended by what it was handed.
const BRIEF: Duration = Duration::from_secs(1);

/// The end of consuming takes a round trip to the broker; whoever waits for it does not wait longer.
const CROSSING: Duration = Duration::from_secs(2);

/// After a message that no client can read, deliveries are taken one by one for this long.
const CAREFUL_FOR: Duration = Duration::from_secs(5);

/// How a worker stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything it had begun is settled.
    Drained,
    /// The grace ran out first; what was left is redelivered.
    GraceOver {
        /// Attempts that were cut off.
        abandoned: usize,
    },
}

/// Why one attachment's loop ended.
enum End {
    Stop,
    /// What was consumed then tells where the message is that may have done it.
    Lost(Loss, Consuming),
}

/// Consumes until told to stop, reattaching whenever the broker is lost, then drains.
pub async fn run(
    worker: Arc<Worker>,
    endpoint: &Endpoint,
    topology: &Topology,
    readiness: &Readiness,
) -> Stopped {
    let tasks = TaskTracker::new();
    let mut delays = Backoffs::new(FIRST_RECONNECT, SLOWEST_RECONNECT);
    let mut consuming = worker.both_queues();
    let declare = worker.config.topology.declare;
    worker.stop.run_until_cancelled(worker.look_around()).await;
    loop {
        let started = Instant::now();
        let now = consuming.within(worker.gate());
        let opening = Attached::open(endpoint, topology, declare, now);
        let (loss, next) = match worker.stop.run_until_cancelled(opening).await {
            None => return drain(&worker, None, &tasks, readiness).await,
            Some(Err(error)) => (Loss::from(error), consuming),
            Some(Ok(mut attached)) => {
                telemetry::broker_connected("consume");
                worker.takes(now);
                let looping = Loop {
                    worker: &worker,
                    tasks: &tasks,
                    readiness,
                };
                let attached_at = Instant::now();
                match looping.consume(&mut attached, consuming, now).await {
                    End::Stop => return drain(&worker, Some(attached), &tasks, readiness).await,
                    End::Lost(loss, at) => {
                        let next = worker.consuming_after(&loss, at, attached_at.elapsed());
                        (loss, next)
                    }
                }
            }
        };
        consuming = next;
        worker.takes(Consuming::Nothing);
        readiness.set(State::BrokerLost);
        match &loss {
            Loss::Broken(error) => telemetry::broker_lost("consume", error),
            Loss::Malformed => telemetry::malformed_message(),
        }
        if matches!(loss, Loss::Malformed) || started.elapsed() > HELD {
            delays.reset();
        }
        let pause = tokio::time::sleep(delays.next_delay());
        if worker.stop.run_until_cancelled(pause).await.is_none() {
            return drain(&worker, None, &tasks, readiness).await;
        }
    }
}

impl Worker {
    fn both_queues(&self) -> Consuming {
        Consuming::Both {
            prefetch: self.config.broker.prefetch,
        }
    }

    /// What to consume after an attachment was lost. Whatever it was that ended it at once, it must not use up the
    /// delivery limit of a whole window, nor of the other queue's first job: one queue then, one by one.
    fn consuming_after(&self, loss: &Loss, at: Consuming, held: Duration) -> Consuming {
        match (loss, at) {
            (Loss::Broken(_), _) if held >= BRIEF => self.both_queues(),
            (Loss::Broken(_) | Loss::Malformed, Consuming::Both { .. } | Consuming::Nothing) => {
                Consuming::JobsOneByOne
            }
            (Loss::Broken(_) | Loss::Malformed, careful) => careful,
        }
    }

    /// What is consumed from now on.
    fn takes(&self, now: Consuming) {
        self.taking.send_replace(now != Consuming::Nothing);
        self.fleet.consumes(match now {
            Consuming::Both { .. } | Consuming::JobsOneByOne => true,
            // The replicas are counted at the job queue.
            Consuming::UrgentOneByOne | Consuming::Nothing => false,
        });
    }

    /// Waits until the broker hands nothing out to us any more, but not for ever. What goes back before that comes
    /// straight here again, and if it crosses the end of consuming, it counts as handed out twice and must be looked up.
    pub(super) async fn takes_no_more(&self) {
        drop(tokio::time::timeout(CROSSING, self.takes_none()).await);
    }

    /// Ends when the broker hands nothing out to us any more: what has not begun by then, would not be answered.
    pub(super) async fn takes_none(&self) {
        let mut taking = self.taking.subscribe();
        // The sender lives as long as the worker, so the wait cannot fail.
        drop(taking.wait_for(|taking| !taking).await);
    }

    /// What to consume once an attachment has held for a while.
    fn consuming_next(&self, careful: Consuming) -> Consuming {
        match careful {
            Consuming::JobsOneByOne => Consuming::UrgentOneByOne,
            Consuming::UrgentOneByOne | Consuming::Both { .. } | Consuming::Nothing => {
                self.both_queues()
            }
        }
    }
}

impl Consuming {
    /// No more than the gate lets through. One delivery at a time while it is not known whether the portal is back.
    fn within(self, gate: Gate) -> Self {
        match (gate, self) {
            (Gate::Shut(_), _) => Self::Nothing,
            (Gate::Narrow(1), Self::Both { .. }) => Self::Both { prefetch: 1 },
            (Gate::Narrow(_) | Gate::Wide, _) => self,
        }
    }
}

struct Loop<'a> {
    worker: &'a Arc<Worker>,
    tasks: &'a TaskTracker,
    readiness: &'a Readiness,
}

impl Loop<'_> {
    /// Consumes what `wanted` says, within the gate; `now` is what the attachment does already.
    async fn consume(
        &self,
        attached: &mut Attached,
        mut wanted: Consuming,
        mut now: Consuming,
    ) -> End {
        let mut careful_until = Instant::now() + CAREFUL_FOR;
        loop {
            let gate = self.worker.gate();
            self.worker.slots.narrow(gate.width());
            let next = wanted.within(gate);
            if next != now {
                match attached.change(next).await {
                    Ok(untouched) => untouched
                        .into_iter()
                        .for_each(|delivery| self.spawn(delivery)),
                    Err(error) => return End::Lost(error.into(), wanted),
                }
                now = next;
                self.worker.takes(now);
            }
            let careful = !matches!(wanted, Consuming::Both { .. });
            let over = tokio::select! {
                end = self.consume_while(attached, gate) => Some(end),
                () = self.worker.gate_changed(gate) => None,
                () = tokio::time::sleep_until(careful_until), if careful => {
                    wanted = self.worker.consuming_next(wanted);
                    careful_until = Instant::now() + CAREFUL_FOR;
                    None
                }
            };
            match over {
                None => {}
                Some(Over::Stop) => return End::Stop,
                Some(Over::Lost(loss)) => return End::Lost(loss, wanted),
            }
        }
    }

    /// Takes deliveries and works on them until it cannot go on. Dropped in between, it loses none.
    async fn consume_while(&self, attached: &mut Attached, gate: Gate) -> Over {
        loop {
            // Nothing is taken that could not be answered: without a publisher the jobs stay where they are.
            if let Some(over) = self.wait_for_publisher(attached, gate).await {
                return over;
            }
            let next = tokio::select! {
                biased;
                () = self.worker.stop.cancelled() => return Over::Stop,
                next = attached.next() => next,
                // Told at once and not with the next delivery: there may be none.
                () = self.worker.publisher.not_ready() => continue,
            };
            match next {
                Ok(delivery) => self.spawn(delivery),
                Err(loss) => return Over::Lost(loss),
            }
        }
    }

    async fn wait_for_publisher(&self, attached: &mut Attached, gate: Gate) -> Option<Over> {
        let consuming = match gate {
            Gate::Shut(Shut::PortalDown) => State::PortalDown,
            Gate::Shut(Shut::Paused) => State::Paused,
            Gate::Shut(Shut::PausesUnread) => State::PausesUnread,
            Gate::Narrow(_) | Gate::Wide => State::Consuming,
        };
        if self.worker.publisher.is_ready() {
            self.readiness.set(consuming);
            return None;
        }
        self.readiness.set(State::PublisherLost);
        tokio::select! {
            () = self.worker.stop.cancelled() => Some(Over::Stop),
            () = self.worker.publisher.ready() => {
                self.readiness.set(consuming);
                None
            }
            loss = attached.lost() => Some(Over::Lost(loss)),
        }
    }

    /// Works on a delivery. How many are worked on at once is decided by lanes and slots; how many wait, by the prefetch.
    fn spawn(&self, delivery: Delivery) {
        let worker = Arc::clone(self.worker);
        self.tasks.spawn(async move {
            let _in_flight = InFlight::begin();
            worker.work(delivery).await;
        });
    }
}

/// Why no more can be consumed.
enum Over {
    Stop,
    Lost(Loss),
}

/// Hands back what was not begun, finishes what was, within the grace.
async fn drain(
    worker: &Arc<Worker>,
    attached: Option<Attached>,
    tasks: &TaskTracker,
    readiness: &Readiness,
) -> Stopped {
    readiness.set(State::Draining);
    let grace = Instant::now() + worker.config.shutdown.drain_timeout;
    let mut attached = attached;
    if let Some(attached) = &mut attached {
        match tokio::time::timeout_at(grace, attached.stop_consuming()).await {
            Ok(Ok(untouched)) => {
                worker.takes(Consuming::Nothing);
                for delivery in untouched {
                    let worker = Arc::clone(worker);
                    tasks.spawn(async move { worker.work(delivery).await });
                }
            }
            Ok(Err(error)) => telemetry::broker_lost("consume", &error),
            Err(_) => {}
        }
    }
    tasks.close();
    let stopped = match tokio::time::timeout_at(grace, tasks.wait()).await {
        Ok(()) => Stopped::Drained,
        Err(_) => {
            let abandoned = tasks.len();
            worker.abandon.cancel();
            tasks.wait().await;
            Stopped::GraceOver { abandoned }
        }
    };
    if let Some(attached) = attached
        && let Err(error) = attached.close().await
    {
        telemetry::broker_lost("consume", &error);
    }
    stopped
}
