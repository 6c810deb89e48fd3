//! Which of the publications of one channel are in a queue, and which came back.
//!
//! RabbitMQ sends a message that no queue takes back before it acknowledges it, but lapin hands whatever came back to
//! the next acknowledgement, whosesoever that is. An acknowledgement that carries nothing is worth this much: all that
//! had come back by then has been handed to acknowledgements before it. So it is believed once those have been read,
//! and a publication whose acknowledgement carries another's message once nothing is on its way any more.

use std::collections::HashMap;

use lapin::message::BasicReturnMessage;
use lapin::types::ShortString;

use super::PublishError;
use crate::job::{Body, Properties};

/// What tells a message from others when it comes back. Of two that are alike in all of it, each could be the other.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    exchange: ShortString,
    routing_key: ShortString,
    message_id: Option<ShortString>,
    correlation_id: Option<ShortString>,
    body: Body,
}

impl Stamp {
    pub(super) fn new(
        exchange: ShortString,
        routing_key: ShortString,
        properties: &Properties,
        body: Body,
    ) -> Self {
        Self {
            exchange,
            routing_key,
            message_id: properties.message_id().clone(),
            correlation_id: properties.correlation_id().clone(),
            body,
        }
    }
}

impl From<BasicReturnMessage> for Stamp {
    fn from(returned: BasicReturnMessage) -> Self {
        let delivery = returned.delivery;
        let body = Body::new(delivery.data);
        Self::new(
            delivery.exchange,
            delivery.routing_key,
            &delivery.properties,
            body,
        )
    }
}

/// What became of a publication: `Ok` means that a queue holds it.
pub(super) type Outcome = Result<(), PublishError>;

/// The publications of a channel about which nothing is decided yet, each with whoever waits to hear.
pub(super) struct Window<W> {
    undecided: HashMap<u64, Undecided<W>>,
    departed: u64,
    /// How many of them are not answered.
    on_their_way: usize,
    returned: Vec<Returned>,
    /// Acknowledged, and to be decided when the next barrier passes.
    acked: Vec<u64>,
    /// To be decided when the barrier passes that is laid.
    covered: Vec<u64>,
    /// An answer went missing: with it, perhaps, a message that came back.
    is_broken: bool,
    /// Some were given up, whose answers may have come and not been read.
    has_given_up: bool,
    is_troubled: bool,
}

struct Undecided<W> {
    stamp: Stamp,
    waiter: W,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    OnItsWay,
    /// Nothing waited to be handed out then: if it had come back, that had been handed out before.
    Acked,
    /// Another's message was handed out with its acknowledgement, and its own may wait behind that.
    AckedWithAnother,
}

struct Returned {
    stamp: Stamp,
    /// Somebody whose message is like it was told that nobody knows.
    is_ambiguous: bool,
}

impl<W> Default for Window<W> {
    fn default() -> Self {
        Self {
            undecided: HashMap::new(),
            departed: 0,
            on_their_way: 0,
            returned: Vec::new(),
            acked: Vec::new(),
            covered: Vec::new(),
            is_broken: false,
            has_given_up: false,
            is_troubled: false,
        }
    }
}

impl<W> Window<W> {
    /// A publication leaves, under the number that is returned.
    pub(super) fn depart(&mut self, stamp: Stamp, waiter: W) -> u64 {
        let number = self.departed;
        self.departed += 1;
        self.on_their_way += 1;
        let undecided = Undecided {
            stamp,
            waiter,
            state: State::OnItsWay,
        };
        self.undecided.insert(number, undecided);
        number
    }

    /// The broker has acknowledged a publication; with that came what it had sent back, if anything.
    pub(super) fn acked(&mut self, number: u64, returned: Option<Stamp>) -> Vec<(W, Outcome)> {
        let state = match returned {
            None => State::Acked,
            Some(_) => State::AckedWithAnother,
        };
        if self.arrived(number, state) && state == State::Acked {
            self.acked.push(number);
        }
        let mut decided = self.collected(returned);
        decided.extend(self.decided_at_the_end());
        decided
    }

    /// The broker has refused a publication; with that came what it had sent back, if anything.
    pub(super) fn nacked(&mut self, number: u64, returned: Option<Stamp>) -> Vec<(W, Outcome)> {
        let mut decided = self.collected(returned);
        decided.extend(self.ended(number, PublishError::Nacked));
        decided
    }

    /// A publication is not answered any more.
    pub(super) fn failed(&mut self, number: u64, error: PublishError) -> Vec<(W, Outcome)> {
        self.is_broken = true;
        self.is_troubled = true;
        self.ended(number, error)
    }

    /// Nobody waits any more for those whose waiters are `gone`: what they came to may be missing for good.
    pub(super) fn give_up(&mut self, gone: impl Fn(&W) -> bool) -> Vec<(W, Outcome)> {
        let undecided = self.undecided.iter();
        let missing: Vec<u64> = undecided
            .filter(|(_, one)| one.state == State::OnItsWay && gone(&one.waiter))
            .map(|(&number, _)| number)
            .collect();
        self.has_given_up |= !missing.is_empty();
        missing
            .into_iter()
            .flat_map(|number| self.failed(number, unclear()))
            .collect()
    }

    /// Whether a barrier is to be laid now: something that passes once every answer has been read that had come by now.
    pub(super) fn wants_barrier(&mut self) -> bool {
        if !self.covered.is_empty() || self.acked.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.covered, &mut self.acked);
        true
    }

    /// The barrier that was laid has passed.
    pub(super) fn barrier_passed(&mut self) -> Vec<(W, Outcome)> {
        let covered = std::mem::take(&mut self.covered);
        let mut decided = Vec::with_capacity(covered.len());
        decided.extend(
            covered
                .into_iter()
                .filter_map(|number| self.decide(number, || Ok(()))),
        );
        decided
    }

    /// Whether something came back or went missing. What leaves from then on should leave elsewhere.
    pub(super) fn is_troubled(&self) -> bool {
        self.is_troubled
    }

    /// Whether everything is decided.
    pub(super) fn is_empty(&self) -> bool {
        self.undecided.is_empty()
    }

    /// Whether everything is decided but one publication, by what the broker said of each.
    pub(super) fn has_one_left(&self) -> bool {
        self.undecided.len() == 1 && !self.is_broken
    }

    /// Notes that a publication is answered; false if it was given up before.
    fn arrived(&mut self, number: u64, state: State) -> bool {
        let Some(undecided) = self.undecided.get_mut(&number) else {
            return false;
        };
        undecided.state = state;
        self.on_their_way -= 1;
        true
    }

    /// Keeps what came back, and decides those answered ones that it may be.
    fn collected(&mut self, returned: Option<Stamp>) -> Vec<(W, Outcome)> {
        let Some(stamp) = returned else {
            return Vec::new();
        };
        let undecided = self.undecided.iter();
        let answered: Vec<u64> = undecided
            .filter(|(_, one)| one.state != State::OnItsWay && one.stamp == stamp)
            .map(|(&number, _)| number)
            .collect();
        self.is_troubled = true;
        self.returned.push(Returned {
            stamp,
            is_ambiguous: false,
        });
        answered
            .into_iter()
            .filter_map(|number| self.decide(number, || Err(unclear())))
            .collect()
    }

    /// Decides a publication that ended otherwise than by an acknowledgement. That it came back is still the better
    /// knowledge.
    fn ended(&mut self, number: u64, error: PublishError) -> Vec<(W, Outcome)> {
        if !self.undecided.contains_key(&number) {
            return self.decided_at_the_end();
        }
        self.on_their_way -= 1;
        let mut decided: Vec<_> = self.decide(number, || Err(error)).into_iter().collect();
        decided.extend(self.decided_at_the_end());
        decided
    }

    /// With nothing on its way, all that came back has been handed out: each had its own acknowledgement to go with. And
    /// all of that has been read, unless some were given up: then what a barrier decides is left to it.
    fn decided_at_the_end(&mut self) -> Vec<(W, Outcome)> {
        if self.on_their_way > 0 {
            return Vec::new();
        }
        let undecided = self.undecided.iter();
        let mut rest: Vec<u64> = undecided
            .filter(|(_, one)| !self.has_given_up || one.state != State::Acked)
            .map(|(&number, _)| number)
            .collect();
        rest.sort_unstable();
        if !self.has_given_up {
            self.acked.clear();
        }
        rest.into_iter()
            .filter_map(|number| {
                let state = self.undecided.get(&number)?.state;
                let is_known = !self.is_broken || state == State::Acked;
                self.decide(number, || if is_known { Ok(()) } else { Err(unclear()) })
            })
            .collect()
    }

    /// Decides a publication: `otherwise` if it did not come back.
    fn decide(&mut self, number: u64, otherwise: impl FnOnce() -> Outcome) -> Option<(W, Outcome)> {
        let outcome = if self.returned.is_empty() {
            otherwise()
        } else {
            self.compare(number, otherwise)
        };
        let Undecided { waiter, .. } = self.undecided.remove(&number)?;
        Some((waiter, outcome))
    }

    fn compare(&mut self, number: u64, otherwise: impl FnOnce() -> Outcome) -> Outcome {
        let Some(Undecided { stamp, .. }) = self.undecided.get(&number) else {
            return otherwise();
        };
        let likes = self.undecided.values();
        let likes = likes.filter(|other| other.stamp == *stamp).count();
        let alike = |returned: &Returned| returned.stamp == *stamp;
        let returned = self.returned.iter().filter(|returned| alike(returned));
        let is_ambiguous = returned.clone().any(|returned| returned.is_ambiguous);
        match returned.count() {
            // Changed on its way, it could be this one.
            0 if self.has_strays() => Err(unclear()),
            0 => otherwise(),
            returned if returned >= likes && !is_ambiguous => {
                if let Some(place) = self.returned.iter().position(alike) {
                    self.returned.remove(place);
                }
                Err(PublishError::Returned)
            }
            _ => {
                let returned = self.returned.iter_mut();
                for returned in returned.filter(|returned| returned.stamp == *stamp) {
                    returned.is_ambiguous = true;
                }
                Err(unclear())
            }
        }
    }

    /// Whether something came back that is none of those undecided.
    fn has_strays(&self) -> bool {
        self.returned.iter().any(|returned| {
            let is_like = |other: &Undecided<W>| other.stamp == returned.stamp;
            !returned.is_ambiguous && !self.undecided.values().any(is_like)
        })
    }
}

fn unclear() -> PublishError {
    PublishError::Unconfirmed("one of several messages came back or went missing".to_owned())
}

#[cfg(test)]
mod tests;
