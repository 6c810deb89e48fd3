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
    assert_eq!(given_up, [(0, Told::Unknown), (1, Told::Unknown)]);
    assert!(window.wants_barrier());
    assert_eq!(told(window.barrier_passed()), [(2, Told::Unknown)]);
    assert!(window.is_troubled());
    // It comes after all.
    assert_eq!(told(window.acked(0, None)), []);
    assert!(window.is_empty());
}

#[test]
fn answer_that_came_just_when_it_was_given_up_is_still_read_before_others_are_believed() {
    let mut window = window(&[1, 2]);
    assert_eq!(told(window.acked(1, None)), []);
    let given_up = told(window.give_up(|&waiter| waiter == 0));
    assert_eq!(given_up, [(0, Told::Unknown)]);
    assert!(window.wants_barrier());
    // The first one's answer had come, with the second one's message.
    let second = told(window.acked(0, Some(stamp(2))));
    assert_eq!(second, [(1, Told::CameBack)]);
    assert_eq!(told(window.barrier_passed()), []);
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
    /// One is given up, answered or not.
    GiveUp(usize),
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
                    if let Some(late) = self.not_sent_back.iter().position(|&late| late == one) {
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
            Step::GiveUp(which) => {
                let which = which % self.sent.len();
                let decided = self.window.give_up(|&waiter| waiter == which);
                self.note(decided);
            }
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
        self.note(decided);
    }

    fn note(&mut self, decided: Vec<(usize, Outcome)>) {
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
    prop::collection::vec(step(), 0..40)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8usize).prop_map(Step::SendBack),
        (0..8usize, 1..5usize).prop_map(|(from, count)| Step::Answer(from, count)),
        (0..8usize).prop_map(Step::Read),
        (0..8usize).prop_map(Step::Read),
    ]
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
    fn where_some_are_given_up_nobody_is_told_what_is_not_so(
        sent in prop::collection::vec(any::<bool>(), 1..12),
        steps in prop::collection::vec(
            prop_oneof![step(), step(), step(), (0..12usize).prop_map(Step::GiveUp)],
            0..40,
        ),
    ) {
        let sent: Vec<Sent> = (0..).zip(sent).map(|(of, is_taken)| (of, is_taken, false)).collect();
        for (sent, told) in sent.iter().zip(carried(sent.clone(), steps)) {
            let truth = if sent.1 { Told::InAQueue } else { Told::CameBack };
            prop_assert!(told == truth || told == Told::Unknown, "{told:?} of {truth:?}");
        }
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
