//! Who was last told something by the portal: enough to know whether it has said the same to somebody else.
//!
//! One rule: two names are all it keeps, however many there are.

use std::time::Duration;

use tokio::time::Instant;

use crate::gstin::Gstin;

/// The two GSTINs that were told something last, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    last: Option<(Gstin, Instant)>,
    /// The last one that is not the same as `last`.
    other: Option<(Gstin, Instant)>,
}

impl Heard {
    /// This GSTIN has been told.
    pub(super) fn note(&mut self, gstin: &Gstin, now: Instant) {
        if self.last.is_some_and(|(last, _)| last != *gstin) {
            self.other = self.last;
        }
        self.last = Some((*gstin, now));
    }

    /// Whether somebody other than this GSTIN has been told within this time.
    pub(super) fn anybody_but(&self, gstin: &Gstin, now: Instant, within: Duration) -> bool {
        [self.last, self.other]
            .into_iter()
            .flatten()
            .any(|(told, at)| told != *gstin && now.saturating_duration_since(at) <= within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_knows_the_last_one_that_is_not_the_one_who_asks() {
        let [a, b, c] =
            ["29AAGCE4783K1Z1", "27AABCT9421M1ZY", "33AAKFN5208R1ZT"].map(|g| g.parse().unwrap());
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut heard = Heard::default();
        assert!(!heard.anybody_but(&a, start, second));
        heard.note(&a, start);
        heard.note(&a, start);
        assert!(!heard.anybody_but(&a, start, second));
        assert!(heard.anybody_but(&b, start, second));
        heard.note(&b, start);
        heard.note(&a, start + second);
        heard.note(&a, start + second * 2);
        assert!(heard.anybody_but(&a, start + second, second));
        assert!(!heard.anybody_but(&a, start + second * 2, second));
        heard.note(&c, start + second * 2);
        assert!(heard.anybody_but(&a, start + second * 3, second));
        assert!(heard.anybody_but(&c, start + second * 3, second), "a");
    }
}
