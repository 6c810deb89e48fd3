//! Running tokens. One per user: a repeated login returns the same token with its session key wrapped under the new
//! app key, and a new one is given only after expiry, or when forced in the last ten minutes (NIC, authentication).

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use rand::distr::Alphanumeric;

use crate::crypto::Key;

/// Only this long before expiry does `ForceRefreshAccessToken` have an effect.
const RENEWAL_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// Length of the token in the portal's published sample.
const TOKEN_LENGTH: usize = 25;

/// Whom a token was given to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    pub(crate) client_id: String,
    pub(crate) gstin: String,
    pub(crate) user: String,
}

/// A running token's other half.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) token: String,
    pub(crate) key: Key,
    pub(crate) expires: Timestamp,
    pub(crate) holder: Holder,
}

/// Every running token.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_token: HashMap<String, Session>,
    token_of: HashMap<Holder, String>,
}

impl Sessions {
    /// The running session of `holder`, or a new one that lives for `life`.
    pub(crate) fn grant(
        &mut self,
        holder: Holder,
        force: bool,
        now: Timestamp,
        life: SignedDuration,
    ) -> Session {
        let running = self
            .token_of
            .get(&holder)
            .and_then(|token| self.by_token.get(token));
        if let Some(session) = running {
            let left = session.expires.duration_since(now);
            let renewable = force && left <= RENEWAL_WINDOW;
            if left > SignedDuration::ZERO && !renewable {
                return session.clone();
            }
        }
        if let Some(ended) = self.token_of.remove(&holder) {
            self.by_token.remove(&ended);
        }
        let session = Session {
            token: rand::rng()
                .sample_iter(Alphanumeric)
                .take(TOKEN_LENGTH)
                .map(char::from)
                .collect(),
            key: Key::random(),
            expires: whole_seconds(now.saturating_add(life).unwrap_or(Timestamp::MAX)),
            holder: holder.clone(),
        };
        self.token_of.insert(holder, session.token.clone());
        self.by_token.insert(session.token.clone(), session.clone());
        session
    }

    /// The session of a token that has not expired.
    pub(crate) fn find(&self, token: &str, now: Timestamp) -> Option<&Session> {
        self.by_token
            .get(token)
            .filter(|session| session.expires > now)
    }

    /// Ends the sessions that match; returns how many there were.
    pub(crate) fn revoke(&mut self, matches: impl Fn(&Session) -> bool) -> usize {
        let before = self.by_token.len();
        self.by_token.retain(|_, session| !matches(session));
        let Self { by_token, token_of } = self;
        token_of.retain(|_, token| by_token.contains_key(token));
        before - self.by_token.len()
    }
}

/// What the client is told has no fractions of a second, so the portal keeps none.
fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: SignedDuration = SignedDuration::from_mins(60);

    fn holder(user: &str) -> Holder {
        Holder {
            client_id: "AC".to_owned(),
            gstin: "29AAGCE4783K1Z1".to_owned(),
            user: user.to_owned(),
        }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_760_000_000 + minute * 60).unwrap()
    }

    #[test]
    fn a_repeated_login_gets_the_same_token_and_key() {
        let mut sessions = Sessions::default();
        let first = sessions.grant(holder("a"), false, at(0), LIFE);
        let again = sessions.grant(holder("a"), true, at(49), LIFE);
        assert_eq!((&first.token, first.expires), (&again.token, again.expires));
        assert!(first.key == again.key);
        assert_ne!(
            sessions.grant(holder("b"), false, at(0), LIFE).token,
            first.token
        );
    }

    #[test]
    fn force_is_honoured_in_the_last_ten_minutes_only_and_ends_the_old_token() {
        let mut sessions = Sessions::default();
        let first = sessions.grant(holder("a"), false, at(0), LIFE);
        assert_eq!(
            sessions.grant(holder("a"), false, at(55), LIFE).token,
            first.token
        );
        let second = sessions.grant(holder("a"), true, at(50), LIFE);
        assert_ne!(second.token, first.token);
        assert!(sessions.find(&first.token, at(51)).is_none());
        assert!(sessions.find(&second.token, at(51)).is_some());
    }

    #[test]
    fn an_expired_token_is_unknown_and_the_next_login_gets_a_new_one() {
        let mut sessions = Sessions::default();
        let first = sessions.grant(holder("a"), false, at(0), LIFE);
        assert!(sessions.find(&first.token, at(59)).is_some());
        assert!(sessions.find(&first.token, at(60)).is_none());
        assert_ne!(
            sessions.grant(holder("a"), false, at(60), LIFE).token,
            first.token
        );
        assert_eq!(sessions.revoke(|session| session.holder == holder("a")), 1);
    }
}
