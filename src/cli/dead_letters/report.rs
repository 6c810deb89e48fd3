//! What a replay or a drop came to, for a person and for a script.

use serde_json::{Value, json};

use crate::ops::dead_letters::{Discarded, Ended, LetterQueue, Replayed, said_of};

/// For a script, and for the audit line.
pub(super) fn replayed_json(replayed: &Replayed) -> Value {
    let (stopped, why) = match &replayed.ended {
        Ended::Done => (Value::Null, Value::Null),
        Ended::InOtherHands => ("in_other_hands".into(), Value::Null),
        Ended::Interrupted => ("interrupted".into(), Value::Null),
        Ended::Left => ("left".into(), Value::Null),
        Ended::CanariesDied(deaths) => (
            "canaries_died".into(),
            json!({ "of_the_same": deaths.of_the_same, "of_another": deaths.of_another, "reasons": deaths.causes }),
        ),
        Ended::CanariesSilent(count) => ("canaries_silent".into(), json!({ "silent": count })),
        Ended::Failed(error) => ("failed".into(), error.to_string().into()),
    };
    json!({
        "replayed": replayed.replayed, "kept": replayed.kept,
        "canaries": replayed.canaries, "canary_results": replayed.canary_statuses,
        "in_other_hands": replayed.elsewhere.counted, "others_hold_more": replayed.elsewhere.uncounted,
        "stopped": stopped, "why": why,
    })
}

/// For a person.
pub(super) fn replayed_text(replayed: &Replayed) -> String {
    let kept = replayed.kept;
    let mut lines = vec![format!(
        "{} letters are jobs again, to be looked up before they are sent",
        replayed.replayed
    )];
    if replayed.canaries > 0 {
        let results = replayed.canary_statuses.iter();
        let results: Vec<_> = results
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        lines.push(format!(
            "{} of them went first: {}",
            replayed.canaries,
            if results.is_empty() {
                "no result yet".to_owned()
            } else {
                results.join(", ")
            }
        ));
    }
    for (count, why) in [
        (kept.not_asked_for, "were not asked for"),
        (kept.died_since, "died after this began"),
        (
            kept.died_twice,
            "died twice of the same cause; --force replays them too",
        ),
        (
            kept.no_document,
            "cannot be replayed: their document was not kept",
        ),
        (
            kept.no_operation,
            "cannot be replayed: nothing says what they asked for",
        ),
    ] {
        if count > 0 {
            lines.push(format!("{count} stay: they {why}"));
        }
    }
    lines.extend(said_of(replayed.elsewhere));
    lines.extend(stopped_text(&replayed.ended));
    lines.join("\n")
}

fn stopped_text(ended: &Ended) -> Option<String> {
    match ended {
        // What there is to say of the last is said of the letters.
        Ended::Done | Ended::Failed(_) | Ended::InOtherHands => None,
        Ended::Interrupted => Some("stopped as asked; replay again to go on".to_owned()),
        Ended::Left => Some(
            "stopped with letters under way: each is still a letter, and may be a job as well, which is looked up before it \
             is sent; replay again to go on"
                .to_owned(),
        ),
        Ended::CanariesDied(deaths) => {
            let same = match (deaths.of_the_same, deaths.of_another) {
                (same, 0) => format!("{same} canaries died of the same cause again"),
                (0, other) => format!("{other} canaries died of another cause"),
                (same, other) => {
                    format!("{same} canaries died of the same cause again, and {other} of another")
                }
            };
            Some(format!(
                "stopped: {same} ({}); remove the cause and replay again",
                deaths.causes.join(", ")
            ))
        }
        Ended::CanariesSilent(count) => Some(format!(
            "stopped: {count} canaries have no result yet; look at the workers, or give --canary-timeout more time"
        )),
    }
}

/// For a person.
pub(super) fn dropped_text(queue: LetterQueue, discarded: Discarded) -> String {
    let in_doubt = match discarded.in_doubt {
        0 => String::new(),
        count => format!(
            "; the documents of {count} of them may be registered: ask the portal, or keep what `export` wrote"
        ),
    };
    let left = match discarded.left {
        false => "",
        true => {
            "; stopped at the second signal: the last of them may be there still, and one more may be gone: see with `list`"
        }
    };
    let elsewhere = said_of(discarded.elsewhere).map(|said| format!("\n{said}"));
    format!(
        "{} letters dropped from {}{in_doubt}{left}{}",
        discarded.dropped,
        queue.name(),
        elsewhere.unwrap_or_default()
    )
}
