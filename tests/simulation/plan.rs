//! What happens in one run: a list of operations drawn from a seed, before anything is started.

use irn_worker::crash::Point;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How many operations a run has.
const OPERATIONS: usize = 32;

/// How far the portal's clock is moved in one run, in hours: registrations stay within the days in which they can be
/// looked up.
const MOST_HOURS: u32 = 40;

/// What an ERP may publish.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wares {
    /// A document that nobody has seen.
    Fresh,
    /// The document of an earlier job in another job.
    SameAgain,
    /// Another document under an earlier job's number.
    OtherContent,
    /// Three documents in one message.
    Batch,
    /// A document that breaks a rule.
    Faulty,
    /// Bytes.
    Unreadable,
}

/// How the portal misbehaves from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weather {
    Fair,
    /// Answers are lost after the portal has acted.
    LosesAnswers,
    /// Requests are lost before it acts.
    LosesRequests,
    /// 503, HTML, nothing and half answers, before and after it acts.
    Garbles,
    /// Takes its time.
    Slow,
    /// Throws sessions out.
    ForgetsSessions,
    /// Encrypts answers under a key nobody has.
    Scrambles,
    /// Asks to slow down.
    Throttles,
    /// Turns logins away now and then.
    LoginsFail,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Publish(Wares, usize),
    Portal(Weather),
    /// Every session of the portal ends.
    RevokeSessions,
    /// The portal's clock goes ahead by so many hours.
    MoveClock(u32),
    /// A worker is started; perhaps one that dies at the so-manieth visit of a point.
    StartWorker(Option<(Point, u32)>),
    /// SIGKILL to the worker that has run longest.
    KillWorker,
    /// SIGTERM, and it has to end in its time.
    DrainWorker,
    /// Every connection of the workers to the broker is closed once.
    DropConnections,
    /// The broker is out of the workers' reach until it is back.
    CutOff,
    BackAgain,
    /// Until so many more jobs are answered, or a moment has passed.
    Wait(usize),
}

/// Workers that may run at the same time.
pub(crate) const MOST_WORKERS: usize = 2;

/// The operations of a seed: something to do first, then anything, in any order.
pub(crate) fn operations(seed: u64) -> Vec<Operation> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut hours = 0;
    let mut drawn = vec![
        Operation::Publish(Wares::Fresh, 12),
        Operation::StartWorker(None),
    ];
    while drawn.len() < OPERATIONS {
        let operation = draw(&mut rng);
        if let Operation::MoveClock(by) = operation {
            hours += by;
            if hours > MOST_HOURS {
                continue;
            }
        }
        drawn.push(operation);
    }
    drawn
}

fn draw(rng: &mut StdRng) -> Operation {
    match rng.random_range(0..100) {
        0..24 => Operation::Publish(wares(rng), rng.random_range(1..8)),
        24..42 => Operation::Portal(weather(rng)),
        42..45 => Operation::RevokeSessions,
        45..48 => Operation::MoveClock(rng.random_range(1..14)),
        48..58 => Operation::StartWorker(None),
        58..70 => {
            let point = Point::ALL[rng.random_range(0..Point::ALL.len())];
            Operation::StartWorker(Some((point, rng.random_range(1..6))))
        }
        70..76 => Operation::KillWorker,
        76..80 => Operation::DrainWorker,
        80..84 => Operation::DropConnections,
        84..86 => Operation::CutOff,
        86..89 => Operation::BackAgain,
        _ => Operation::Wait(rng.random_range(1..10)),
    }
}

fn wares(rng: &mut StdRng) -> Wares {
    match rng.random_range(0..10) {
        0..4 => Wares::Fresh,
        4..5 => Wares::SameAgain,
        5..6 => Wares::OtherContent,
        6..8 => Wares::Batch,
        8..9 => Wares::Faulty,
        _ => Wares::Unreadable,
    }
}

fn weather(rng: &mut StdRng) -> Weather {
    match rng.random_range(0..10) {
        0 => Weather::Fair,
        1..3 => Weather::LosesAnswers,
        3 => Weather::LosesRequests,
        4 => Weather::Garbles,
        5 => Weather::Slow,
        6 => Weather::ForgetsSessions,
        7 => Weather::Scrambles,
        8 => Weather::Throttles,
        _ => Weather::LoginsFail,
    }
}

#[test]
fn the_same_seed_draws_the_same_operations() {
    let shown = |seed| format!("{:?}", operations(seed));
    assert_eq!(shown(7), shown(7));
    assert_ne!(shown(7), shown(8));
}
