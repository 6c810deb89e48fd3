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

    /// With nothing on its way, all that came back has been handed out: each had its own acknowledgement to go with.
    fn decided_at_the_end(&mut self) -> Vec<(W, Outcome)> {
        if self.on_their_way > 0 {
            return Vec::new();
        }
        self.acked.clear();
        let mut rest: Vec<u64> = self.undecided.keys().copied().collect();
        rest.sort_unstable();
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
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn stamp(of: u8) -> Stamp {
        Stamp::new(
            "".into(),
            "replies".into(),
            &Properties::default(),
            Body::new(vec![of]),
        )
    }

    /// What the tests tell apart of an outcome.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Told {
        InAQueue,
        CameBack,
        Refused,
        Unknown,
    }

    fn told<W>(decided: Vec<(W, Outcome)>) -> Vec<(W, Told)> {
        let told = |outcome| match outcome {
            Ok(()) => Told::InAQueue,
            Err(PublishError::Returned) => Told::CameBack,
            Err(PublishError::Nacked | PublishError::Refused(_)) => Told::Refused,
            Err(PublishError::NotConnected | PublishError::Unconfirmed(_)) => Told::Unknown,
        };
        let decided = decided.into_iter();
        decided
            .map(|(waiter, outcome)| (waiter, told(outcome)))
            .collect()
    }

    fn window(stamps: &[u8]) -> Window<usize> {
        let mut window = Window::default();
        for (waiter, &of) in stamps.iter().enumerate() {
            window.depart(stamp(of), waiter);
        }
        window
    }

    #[test]
    fn acknowledgement_is_believed_only_after_those_before_it_are_read() {
        let mut window = window(&[1, 2, 3]);

        assert_eq!(told(window.acked(0, None)), []);
        assert!(window.wants_barrier());
        // Read before the barrier passes: the first one's message, handed to the second.
        let told_first = told(window.acked(1, Some(stamp(1))));
        assert_eq!(told_first, [(0, Told::CameBack)]);

        assert_eq!(told(window.barrier_passed()), []);
        assert!(window.is_troubled());
        assert_eq!(
            told(window.acked(2, None)),
            [(1, Told::InAQueue), (2, Told::InAQueue)]
        );
        assert!(window.is_empty());
    }

    #[test]
    fn the_last_one_out_needs_no_barrier() {
        let mut window = window(&[1]);
        assert_eq!(told(window.acked(0, None)), [(0, Told::InAQueue)]);
        assert!(!window.wants_barrier());
        assert!(!window.is_troubled());
    }

    #[test]
    fn message_that_comes_back_with_its_own_acknowledgement_is_known_at_once() {
        let mut window = window(&[1, 2]);
        assert_eq!(told(window.acked(0, Some(stamp(1)))), [(0, Told::CameBack)]);
        assert_eq!(told(window.acked(1, None)), [(1, Told::InAQueue)]);
    }

    #[test]
    fn of_two_messages_that_are_alike_nobody_is_told_to_be_the_one_that_came_back() {
        let mut window = window(&[1, 1, 2]);
        assert_eq!(told(window.acked(0, Some(stamp(1)))), [(0, Told::Unknown)]);
        let rest = told(window.acked(2, None));
        assert_eq!(rest, []);
        let rest = told(window.acked(1, None));
        assert_eq!(rest, [(1, Told::Unknown), (2, Told::InAQueue)]);
    }

    #[test]
    fn message_that_came_back_changed_could_be_anybodys() {
        let mut window = window(&[1, 2]);
        assert_eq!(told(window.acked(0, Some(stamp(9)))), []);
        let rest = told(window.acked(1, None));
        assert_eq!(rest, [(0, Told::Unknown), (1, Told::Unknown)]);
    }

    #[test]
    fn the_only_one_is_what_its_channel_was_closed_over_and_the_last_one_is_not() {
        let error = || PublishError::Unconfirmed("closed".to_owned());
        let mut window = window(&[1, 2, 3]);
        assert_eq!(told(window.nacked(0, None)), [(0, Told::Refused)]);
        assert!(!window.has_one_left());
        assert_eq!(told(window.failed(1, error())), [(1, Told::Unknown)]);
        assert!(!window.has_one_left());
        assert_eq!(told(window.failed(2, error())), [(2, Told::Unknown)]);

        let mut window = self::window(&[1, 2]);
        assert_eq!(told(window.nacked(0, None)), [(0, Told::Refused)]);
        assert!(window.has_one_left());
    }

    #[test]
    fn of_three_that_are_alike_one_that_is_told_nothing_leaves_the_others_in_the_dark() {
        let mut window = window(&[1, 1, 1, 2]);
        assert_eq!(told(window.acked(3, Some(stamp(9)))), []);
        assert_eq!(told(window.acked(0, Some(stamp(1)))), [(0, Told::Unknown)]);
        let second = told(window.acked(1, Some(stamp(1))));
        assert_eq!(second, [(1, Told::Unknown)]);
        let rest = told(window.acked(2, None));
        assert_eq!(rest, [(2, Told::Unknown), (3, Told::Unknown)]);
    }

    #[test]
    fn answer_that_nobody_waits_for_any_more_holds_nobody_up() {
        let mut window = window(&[1, 2, 3]);
        assert_eq!(told(window.acked(1, Some(stamp(9)))), []);
        assert_eq!(told(window.acked(2, None)), []);
        let given_up = told(window.give_up(|&waiter| waiter == 0));
        assert_eq!(
            given_up,
            [(0, Told::Unknown), (1, Told::Unknown), (2, Told::Unknown)]
        );
        assert!(window.is_troubled());
        // It comes after all.
        assert_eq!(told(window.acked(0, None)), []);
        assert!(window.is_empty());
    }

    #[test]
    fn with_the_channel_goes_what_was_not_answered_and_what_may_have_come_back() {
        let error = || PublishError::Unconfirmed("closed".to_owned());
        let mut window = window(&[1, 2, 3, 4]);
        assert_eq!(told(window.acked(0, None)), []);
        assert!(window.wants_barrier());
        assert_eq!(told(window.acked(1, Some(stamp(4)))), []);
        assert_eq!(told(window.failed(2, error())), [(2, Told::Unknown)]);
        // What came back came back, and the second's own message may have been the next to be handed out.
        let rest = told(window.failed(3, error()));
        assert_eq!(
            rest,
            [(3, Told::CameBack), (0, Told::InAQueue), (1, Told::Unknown)]
        );
    }

    /// A publication: its stamp, whether a queue takes it, whether the broker refuses it then.
    type Sent = (u8, bool, bool);

    /// One thing that happens on the channel.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// The broker sends a message back, before it acknowledges it.
        SendBack(usize),
        /// The broker answers several with one frame, from this one on.
        Answer(usize, usize),
        /// The task reads an answer, in whatever order.
        Read(usize),
    }

    enum Event {
        Answered(u64, bool, Option<Stamp>),
        Barrier,
    }

    /// Broker, lapin and the task that reads, with the window between them.
    struct Channel {
        sent: Vec<Sent>,
        window: Window<usize>,
        unanswered: Vec<usize>,
        not_sent_back: Vec<usize>,
        /// In lapin: what came back, until an answer takes it along.
        waiting: VecDeque<u8>,
        events: VecDeque<Event>,
        told: Vec<Option<Told>>,
    }

    impl Channel {
        fn new(sent: Vec<Sent>) -> Self {
            let stamps: Vec<u8> = sent.iter().map(|sent| sent.0).collect();
            let all = 0..sent.len();
            Self {
                window: window(&stamps),
                unanswered: all.clone().collect(),
                not_sent_back: all.filter(|&one| !sent[one].1).collect(),
                waiting: VecDeque::new(),
                events: VecDeque::new(),
                told: vec![None; sent.len()],
                sent,
            }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::SendBack(which) if !self.not_sent_back.is_empty() => {
                    let one = self.not_sent_back.remove(which % self.not_sent_back.len());
                    self.waiting.push_back(self.sent[one].0);
                }
                Step::Answer(from, count) if !self.unanswered.is_empty() => {
                    let from = from % self.unanswered.len();
                    self.unanswered.rotate_left(from);
                    let count = count.clamp(1, self.unanswered.len());
                    let frame: Vec<usize> = self.unanswered.drain(..count).collect();
                    for &one in &frame {
                        if let Some(late) = self.not_sent_back.iter().position(|&late| late == one)
                        {
                            self.step(Step::SendBack(late));
                        }
                    }
                    for one in frame {
                        let carried = self.waiting.pop_front().map(stamp);
                        let answered = Event::Answered(one as u64, self.sent[one].2, carried);
                        self.events.push_back(answered);
                    }
                }
                Step::Read(which) if !self.events.is_empty() => self.read(which),
                Step::SendBack(_) | Step::Answer(..) | Step::Read(_) => {}
            }
        }

        /// Nothing overtakes a barrier, nor is overtaken by one.
        fn read(&mut self, which: usize) {
            let is_barrier = |event: &Event| matches!(event, Event::Barrier);
            let before = self.events.iter().position(is_barrier);
            let which = which % before.unwrap_or(self.events.len()).max(1);
            let decided = match self.events.remove(which).unwrap() {
                Event::Answered(one, false, carried) => self.window.acked(one, carried),
                Event::Answered(one, true, carried) => self.window.nacked(one, carried),
                Event::Barrier => self.window.barrier_passed(),
            };
            if self.window.wants_barrier() {
                self.events.push_back(Event::Barrier);
            }
            for (waiter, outcome) in told(decided) {
                assert_eq!(self.told[waiter].replace(outcome), None, "told twice");
            }
        }

        /// Goes on until all is read.
        fn told(mut self) -> Vec<Told> {
            self.step(Step::Answer(0, self.unanswered.len()));
            while !self.events.is_empty() {
                self.step(Step::Read(0));
            }
            assert!(self.window.is_empty());
            self.told.into_iter().map(Option::unwrap).collect()
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..8usize).prop_map(Step::SendBack),
            (0..8usize, 1..5usize).prop_map(|(from, count)| Step::Answer(from, count)),
            (0..8usize).prop_map(Step::Read),
            (0..8usize).prop_map(Step::Read),
        ];
        prop::collection::vec(step, 0..40)
    }

    fn carried(sent: Vec<Sent>, steps: Vec<Step>) -> Vec<Told> {
        let mut channel = Channel::new(sent);
        for step in steps {
            channel.step(step);
        }
        channel.told()
    }

    proptest! {
        #[test]
        fn each_publication_is_told_the_truth_whatever_is_answered_when(
            sent in prop::collection::vec((any::<bool>(), prop::bool::weighted(0.1)), 1..12),
            steps in steps(),
        ) {
            let numbered = (0..).zip(sent);
            let sent: Vec<Sent> = numbered
                .map(|(of, (is_taken, is_refused))| (of, is_taken, is_taken && is_refused))
                .collect();
            let expected: Vec<Told> = sent
                .iter()
                .map(|&(_, is_taken, is_refused)| match (is_taken, is_refused) {
                    (false, _) => Told::CameBack,
                    (true, true) => Told::Refused,
                    (true, false) => Told::InAQueue,
                })
                .collect();
            prop_assert_eq!(carried(sent, steps), expected);
        }

        #[test]
        fn of_messages_that_are_alike_no_more_are_told_an_end_than_had_it(
            sent in prop::collection::vec((0..3u8, any::<bool>()), 1..12),
            steps in steps(),
        ) {
            let sent: Vec<Sent> = sent.into_iter().map(|(of, is_taken)| (of, is_taken, false)).collect();
            let told = carried(sent.clone(), steps);
            for of in 0..3 {
                let alike = || sent.iter().zip(&told).filter(move |(sent, _)| sent.0 == of);
                let in_a_queue = alike().filter(|(_, told)| **told == Told::InAQueue).count();
                let came_back = alike().filter(|(_, told)| **told == Told::CameBack).count();
                prop_assert!(in_a_queue <= alike().filter(|(sent, _)| sent.1).count());
                prop_assert!(came_back <= alike().filter(|(sent, _)| !sent.1).count());
            }
        }
    }
}
