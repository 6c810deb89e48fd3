//! What a service manager that started the worker is told, in systemd's protocol (sd_notify(3)): that it has started,
//! how it is, that it is alive, that it is stopping. Without one, nothing is told.
//!
//! One rule: no worker fails for it.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{self, State};

/// Tells until `ended`.
///
/// "Started" is said now, before there is a broker: a worker that waits for its broker or its portal has started, and
/// starting it again would not help. Which of them it waits for is in its status line.
pub(super) async fn tell(mut state: watch::Receiver<State>, ended: CancellationToken) {
    let mut alive = sd_notify::watchdog_enabled().map(signs_of_life);
    let now = *state.borrow_and_update();
    say(&[NotifyState::Ready, NotifyState::Status(&now.to_string())]);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            // The sender lives as long as the worker; were it gone, so would be what there is to tell.
            changed = state.changed() => match changed {
                Ok(()) => changed_to(*state.borrow_and_update()),
                Err(_) => return,
            },
            () = tick(alive.as_mut()) => say(&[NotifyState::Watchdog]),
        }
    }
}

fn changed_to(state: State) {
    let text = state.to_string();
    let status = NotifyState::Status(&text);
    match state {
        State::Draining => say(&[NotifyState::Stopping, status]),
        State::Starting
        | State::Consuming
        | State::BrokerLost
        | State::PublisherLost
        | State::PortalDown
        | State::Paused
        | State::PausesUnread => say(&[status]),
    }
}

/// Twice as often as the manager wants them (sd_watchdog_enabled(3)): this task has its turn only while the threads that
/// work on jobs take turns.
fn signs_of_life(within: Duration) -> Interval {
    let mut interval = interval((within / 2).max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn say(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        telemetry::service_manager_unreachable(&error);
    }
}
