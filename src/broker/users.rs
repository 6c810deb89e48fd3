//! Four users with no more rights than their work needs, for a definitions file.
//!
//! One rule: no password and no hash of one is in it. A user without a hash cannot log in until it is given a password.

use serde_json::{Value, json};

use crate::config::RepliesConfig;

/// One of the broker's users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `irn-worker`
    pub name: &'static str,
    /// What it may see of the broker itself.
    pub tags: &'static [&'static str],
    /// Regular expressions, as RabbitMQ matches them: what it may declare and delete,
    pub configure: String,
    /// publish to,
    pub write: String,
    /// and consume from.
    pub read: String,
}

/// Nothing at all.
const NOTHING: &str = "^$";

/// The four.
pub fn users(replies: &RepliesConfig) -> [User; 4] {
    let own = |glob: &&glob::Pattern| !glob.matches(&replies.default_queue);
    let own: Vec<String> = replies.allow.iter().filter(own).map(expression).collect();
    let all = [escaped(&replies.default_queue)];
    let all: Vec<String> = all.into_iter().chain(own.iter().cloned()).collect();
    [
        // An ERP: publishes jobs, declares its reply queues and reads them.
        User {
            name: "irn-publisher",
            tags: &[],
            configure: any_of(&own),
            write: "^irn\\.jobs$".to_owned(),
            read: any_of(&all),
        },
        // `run` with topology.declare = false. Results, dead letters and poison go through the default exchange.
        User {
            name: "irn-worker",
            tags: &[],
            // Not the log of orders, or it could delete it, and all pauses with it.
            configure: "^irn\\.control\\.(?!log$).*$".to_owned(),
            write: "^(amq\\.default|irn\\.(jobs|retry\\..*|control(\\..*)?))$".to_owned(),
            read: "^irn\\.(jobs(\\.urgent)?|dead|control(\\..*)?)$".to_owned(),
        },
        // An operator: moves dead letters, and tells the workers what to do. A queue of its own tells it how canaries end.
        User {
            name: "irn-replayer",
            tags: &[],
            configure: "^irn\\.canary\\..*$".to_owned(),
            write: "^irn\\.(jobs|retry\\..*|control(\\..*)?)$".to_owned(),
            read: "^irn\\.(dead|poison|canary\\..*)$".to_owned(),
        },
        // Metrics and the management API, and `broker.management_url`.
        User {
            name: "irn-monitor",
            tags: &["monitoring"],
            configure: NOTHING.to_owned(),
            write: NOTHING.to_owned(),
            read: NOTHING.to_owned(),
        },
    ]
}

/// The sections `users` and `permissions` of a definitions file.
pub(super) fn sections(users: &[User], vhost: &str) -> (Value, Value) {
    let named = users.iter().map(|user| {
        json!({
            "name": user.name, "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": user.tags})
    });
    let permitted = users.iter().map(|user| {
        json!({
            "user": user.name, "vhost": vhost, "configure": user.configure, "write": user.write, "read": user.read})
    });
    (named.collect(), permitted.collect())
}

fn any_of(expressions: &[String]) -> String {
    match expressions {
        [] => NOTHING.to_owned(),
        _ => format!("^({})$", expressions.join("|")),
    }
}

/// A glob as a regular expression. Sets of characters are written alike in both, but for their negation.
fn expression(glob: &glob::Pattern) -> String {
    let mut expression = String::new();
    let mut characters = glob.as_str().chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => {
                expression.push('[');
                if characters.next_if_eq(&'!').is_some() {
                    expression.push('^');
                }
                for character in characters.by_ref() {
                    expression.push(character);
                    if character == ']' {
                        break;
                    }
                }
            }
            literal => expression.push_str(&escaped(&literal.to_string())),
        }
    }
    expression
}

fn escaped(text: &str) -> String {
    let escape = |character: char| {
        let is_special = ".+*?()|[]{}^$\\".contains(character);
        is_special.then_some('\\').into_iter().chain([character])
    };
    text.chars().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_become_the_expressions_that_match_the_same() {
        for (glob, is) in [
            ("erp.*", "erp\\..*"),
            ("erp.?", "erp\\.."),
            ("erp.[!ab]+", "erp\\.[^ab]\\+"),
        ] {
            assert_eq!(expression(&glob::Pattern::new(glob).unwrap()), is);
        }
    }
}
