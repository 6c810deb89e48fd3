//! Whose job it is, and what he may have done: `publishers` and `replies.allow`.
//!
//! One rule: only the broker's word counts. It has checked `user_id`; what a message says of its publisher is believed of
//! those only who publish the jobs of others: this worker's own user, and the users that `forwards` names.

use super::Worker;
use super::settle::Ending;
use crate::config::PublishersConfig;
use crate::gstin::Gstin;
use crate::job::{Job, Sender};
use crate::outcome::{ErrorEntry, Reason};

/// The publisher that the broker vouches for; `own` is the worker's user.
fn proven(publishers: &PublishersConfig, own: Option<&str>, sender: &Sender) -> Option<String> {
    let user = sender.user_id.as_deref()?;
    let listed = publishers.get(user);
    let forwards = own == Some(user) || listed.is_some_and(|publisher| publisher.forwards);
    match &sender.publisher {
        Some(publisher) if forwards => Some(publisher.clone()),
        // Whoever forwards may have jobs of his own, if he is listed for them.
        Some(_) | None => Some(user.to_owned()),
    }
}

/// Why a publisher may not have a job of this GSTIN done.
fn refusal(
    publishers: &PublishersConfig,
    publisher: Option<&str>,
    gstin: Option<&Gstin>,
) -> Option<String> {
    if publishers.is_empty() {
        return None;
    }
    let Some(user) = publisher else {
        return Some(
            "the message does not say who published it: set the property user_id to the name of the broker's user"
                .to_owned(),
        );
    };
    let shown = user.escape_debug();
    match (publishers.get(user), gstin) {
        (None, _) => Some(format!("`publishers` does not list the user {shown}")),
        (Some(publisher), Some(gstin)) if !publisher.owns(gstin) => Some(format!(
            "`publishers` does not let the user {shown} use the GSTIN {gstin}"
        )),
        (Some(_), _) => None,
    }
}

impl Worker {
    /// Whose job it is; none where nobody has to say.
    pub(super) fn publisher_of(&self, sender: &Sender) -> Option<String> {
        let config = &self.config;
        let publishers = Some(&config.publishers).filter(|publishers| !publishers.is_empty())?;
        proven(publishers, config.broker.signed_as.as_deref(), sender)
    }

    /// How a job ends that its publisher may not have done, or whose result may not go where it asks for.
    pub(super) fn not_permitted(&self, job: &Job, gstin: Option<&Gstin>) -> Option<Ending> {
        let publisher = job.publisher.as_deref();
        let message = refusal(&self.config.publishers, publisher, gstin).or_else(|| {
            let queue = job.reply_to.as_deref()?;
            let refused = !self.allows_reply_to(publisher, queue);
            refused.then(|| self.why_not_to(queue))
        })?;
        Some(Ending::GaveUp {
            reason: Reason::NotPermitted,
            errors: vec![ErrorEntry::worker(Reason::NotPermitted, message)],
        })
    }

    fn why_not_to(&self, queue: &str) -> String {
        let allowed = self.is_reply_queue(queue);
        let whose = if is_direct_reply(queue) {
            "is none: a result must wait in a queue until it is read, and direct reply-to keeps nothing"
        } else if allowed {
            "its publisher may not read"
        } else {
            "replies.allow does not admit"
        };
        format!("reply_to names queue {queue}, which {whose}")
    }

    fn is_reply_queue(&self, queue: &str) -> bool {
        let allowed = &self.config.replies.allow;
        !is_direct_reply(queue) && allowed.iter().any(|pattern| pattern.matches(queue))
    }

    /// Whether a result of this publisher's may go to the queue.
    pub(super) fn allows_reply_to(&self, publisher: Option<&str>, queue: &str) -> bool {
        let publishers = &self.config.publishers;
        let has_right = publishers.is_empty()
            || publisher
                .and_then(|user| publishers.get(user))
                .is_some_and(|publisher| publisher.may_read(queue));
        has_right && self.is_reply_queue(queue)
    }
}

/// RabbitMQ's direct reply-to: no queue, but whoever is connected. It hands a mandatory message over *and* returns it, and
/// what nobody is there to take is gone.
fn is_direct_reply(queue: &str) -> bool {
    queue.starts_with("amq.rabbitmq.reply-to")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PublisherConfig;

    fn config() -> PublishersConfig {
        let south = PublisherConfig {
            gstins: vec![glob::Pattern::new("29*").unwrap()],
            ..PublisherConfig::default()
        };
        let mover = PublisherConfig {
            forwards: true,
            ..PublisherConfig::default()
        };
        let named = |(name, config): (&str, PublisherConfig)| (name.to_owned(), config);
        [("south", south), ("mover", mover)]
            .map(named)
            .into_iter()
            .collect()
    }

    fn sender(user_id: Option<&str>, publisher: Option<&str>) -> Sender {
        Sender {
            user_id: user_id.map(str::to_owned),
            publisher: publisher.map(str::to_owned),
        }
    }

    #[test]
    fn a_message_is_believed_of_its_publisher_only_from_those_who_publish_for_others() {
        let config = config();
        for (user_id, said, is) in [
            (Some("south"), None, Some("south")),
            (Some("south"), Some("north"), Some("south")),
            (Some("stranger"), Some("south"), Some("stranger")),
            (Some("mover"), Some("south"), Some("south")),
            (Some("mover"), None, Some("mover")),
            (Some("worker"), Some("south"), Some("south")),
            (Some("worker"), None, Some("worker")),
            (None, Some("south"), None),
            (None, None, None),
        ] {
            let whose = proven(&config, Some("worker"), &sender(user_id, said));
            assert_eq!(whose.as_deref(), is, "{user_id:?} says {said:?}");
        }
    }

    #[test]
    fn a_publisher_may_use_his_own_gstins_only_and_a_stranger_none() {
        let config = config();
        let own = "29AAGCE4783K1Z1".parse().unwrap();
        let other = "27AABCT9421M1ZY".parse().unwrap();
        let refused = |user, gstin| refusal(&config, user, gstin);
        assert_eq!(refused(Some("south"), Some(&own)), None);
        assert_eq!(refused(Some("south"), None), None);
        for (user, gstin, says) in [
            (Some("south"), Some(&other), "27AABCT9421M1ZY"),
            (Some("mover"), Some(&own), "mover"),
            (Some("worker"), Some(&own), "worker"),
            (None, Some(&own), "user_id"),
            (None, None, "user_id"),
        ] {
            let refused = refused(user, gstin).unwrap();
            assert!(refused.contains(says), "{refused}");
        }
        let everybody = PublishersConfig::default();
        assert_eq!(refusal(&everybody, None, Some(&own)), None);
    }

    #[test]
    fn direct_reply_to_is_no_queue_and_one_that_the_broker_named_is() {
        for name in ["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.g1h2AA=="] {
            assert!(is_direct_reply(name), "{name}");
        }
        for name in ["amq.gen-JzTY20BRgKO", "erp.replies", ""] {
            assert!(!is_direct_reply(name), "{name}");
        }
    }
}
