//! What reached the portal, counted for assertions: in total, per GSTIN and per document. Rates are the most calls
//! seen within any one second (or minute) of real time, whatever the sandbox's clock says.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::answer::PortalError;
use crate::call::Endpoint;
use crate::rules::masters::is_gstin;

/// Requests by endpoint.
#[derive(Clone, Debug, Default, Serialize)]
struct Requests {
    auth: u64,
    generate: u64,
    get_by_irn: u64,
    get_by_doc: u64,
    cancel: u64,
    gstin: u64,
    sync: u64,
    ewb: u64,
    get_ewb: u64,
    rejected: u64,
}

impl Requests {
    fn of(&mut self, endpoint: Endpoint) -> &mut u64 {
        match endpoint {
            Endpoint::Auth => &mut self.auth,
            Endpoint::Generate => &mut self.generate,
            Endpoint::GetByIrn => &mut self.get_by_irn,
            Endpoint::GetByDoc => &mut self.get_by_doc,
            Endpoint::Cancel => &mut self.cancel,
            Endpoint::Gstin => &mut self.gstin,
            Endpoint::Sync => &mut self.sync,
            Endpoint::Ewb => &mut self.ewb,
            Endpoint::GetEwb => &mut self.get_ewb,
            Endpoint::Rejected => &mut self.rejected,
        }
    }
}

/// One set of counters: the portal's, or one GSTIN's.
#[derive(Debug, Default, Serialize)]
struct Counters {
    authentications: u64,
    authentications_refused: u64,
    generates: u64,
    registrations: u64,
    lookups: u64,
    lookups_by_irn: u64,
    lookups_by_doc: u64,
    cancels: u64,
    duplicate_generates: u64,
    overlapping_generates: u64,
    blind_generates: u64,
    blind_cancels: u64,
    blind_eway_bills: u64,
    errors: u64,
    errors_by_code: BTreeMap<String, u64>,
    requests: Requests,
    max_per_second: usize,
    max_auth_per_second: usize,
    max_auth_per_minute: usize,
    #[serde(skip)]
    core_rate: Window,
    #[serde(skip)]
    auth_rate: Window,
    #[serde(skip)]
    auth_rate_per_minute: Window,
}

/// The arrivals within the last second or minute.
#[derive(Debug, Default)]
struct Window(VecDeque<Instant>);

impl Window {
    /// Adds an arrival and returns how many the window now holds.
    fn count(&mut self, now: Instant, length: Duration) -> usize {
        self.0.push_back(now);
        while self
            .0
            .front()
            .is_some_and(|first| now.duration_since(*first) >= length)
        {
            self.0.pop_front();
        }
        self.0.len()
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

impl Counters {
    fn arrived(&mut self, endpoint: Endpoint, now: Instant) {
        *self.requests.of(endpoint) += 1;
        match endpoint {
            Endpoint::Generate => self.generates += 1,
            Endpoint::GetByIrn => self.lookups_by_irn += 1,
            Endpoint::GetByDoc => self.lookups_by_doc += 1,
            Endpoint::Cancel => self.cancels += 1,
            Endpoint::Auth
            | Endpoint::Gstin
            | Endpoint::Sync
            | Endpoint::Ewb
            | Endpoint::GetEwb
            | Endpoint::Rejected => {}
        }
        self.lookups = self.lookups_by_irn + self.lookups_by_doc;
        if endpoint == Endpoint::Auth {
            self.max_auth_per_second = self
                .max_auth_per_second
                .max(self.auth_rate.count(now, SECOND));
            let minute = self.auth_rate_per_minute.count(now, MINUTE);
            self.max_auth_per_minute = self.max_auth_per_minute.max(minute);
        } else {
            self.max_per_second = self.max_per_second.max(self.core_rate.count(now, SECOND));
        }
    }

    fn refused(&mut self, errors: &[PortalError]) {
        self.errors += 1;
        for error in errors {
            *self
                .errors_by_code
                .entry(error.code.clone().into_owned())
                .or_default() += 1;
        }
    }
}

/// One document's counters.
#[derive(Debug, Default, Serialize)]
struct DocumentCounters {
    submits: u64,
    lookups: u64,
    duplicates: u64,
    /// Submits while the fate of the one before was open to the client, and no look-up had told it since.
    blind: u64,
    registered: bool,
    #[serde(skip)]
    open: bool,
    #[serde(skip)]
    in_flight: u32,
}

/// What may be asked for about a registration, so that its fate can be open to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    Cancel,
    EwayBill,
}

/// All counters, in the shape of `GET /_sandbox/stats`.
#[derive(Debug, Default, Serialize)]
struct Counts {
    #[serde(flatten)]
    total: Counters,
    gstins: BTreeMap<String, Counters>,
    documents: BTreeMap<String, DocumentCounters>,
    #[serde(skip)]
    named_by_irn: HashMap<String, String>,
    #[serde(skip)]
    errors_by_client: HashMap<String, u64>,
    /// Orders whose fate is open to the client, by IRN.
    #[serde(skip)]
    open_orders: HashSet<(Order, String)>,
}

impl Counts {
    /// The total and, when the header held a GSTIN at all, that GSTIN's counters.
    fn each(&mut self, gstin: &str, mut change: impl FnMut(&mut Counters)) {
        change(&mut self.total);
        if !is_gstin(gstin) {
            return;
        }
        if let Some(counters) = self.gstins.get_mut(gstin) {
            change(counters);
        } else {
            change(self.gstins.entry(gstin.to_owned()).or_default());
        }
    }
}

/// The portal's counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats(Arc<Mutex<Counts>>);

impl Stats {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has arrived.
    pub(crate) fn arrived(&self, endpoint: Endpoint, gstin: &str) {
        let now = Instant::now();
        self.counts()
            .each(gstin, |counters| counters.arrived(endpoint, now));
    }

    /// A readable document has arrived for registration; it is in flight until the returned guard is dropped.
    pub(crate) fn submitted(&self, gstin: &str, document: String, irn: String) -> Flight {
        let mut counts = self.counts();
        counts.named_by_irn.insert(irn, document.clone());
        let counters = counts.documents.entry(document.clone()).or_default();
        counters.submits += 1;
        let overlaps = counters.in_flight > 0;
        counters.in_flight += 1;
        let blind = counters.open;
        counters.open = true;
        counters.blind += u64::from(blind);
        counts.each(gstin, |counters| {
            counters.overlapping_generates += u64::from(overlaps);
            counters.blind_generates += u64::from(blind);
        });
        drop(counts);
        Flight {
            stats: self.clone(),
            document,
        }
    }

    /// A readable order about a registration has arrived: a blind one, if the fate of the one before is open and nobody
    /// has looked since.
    pub(crate) fn ordered(&self, gstin: &str, order: Order, irn: &str) {
        let mut counts = self.counts();
        if counts.open_orders.insert((order, irn.to_owned())) {
            return;
        }
        counts.each(gstin, |counters| match order {
            Order::Cancel => counters.blind_cancels += 1,
            Order::EwayBill => counters.blind_eway_bills += 1,
        });
    }

    /// The client has been told that an order was not carried out, or what there is, because it asked.
    pub(crate) fn order_told(&self, order: Order, irn: &str) {
        self.counts().open_orders.remove(&(order, irn.to_owned()));
    }

    /// A document has been registered.
    pub(crate) fn registered(&self, gstin: &str, document: &str) {
        let mut counts = self.counts();
        counts.each(gstin, |counters| counters.registrations += 1);
        if let Some(counters) = counts.documents.get_mut(document) {
            counters.registered = true;
        }
    }

    /// A document of the corpus has been registered, once more perhaps.
    pub(crate) fn repeated(&self, gstin: &str, document: &str) {
        let mut counts = self.counts();
        counts.each(gstin, |counters| counters.registrations += 1);
        if let Some(counters) = counts.documents.get_mut(document) {
            counters.submits += 1;
        } else {
            let first = DocumentCounters {
                submits: 1,
                registered: true,
                ..DocumentCounters::default()
            };
            counts.documents.insert(document.to_owned(), first);
        }
    }

    /// The client has been told that a document it submitted is not registered.
    pub(crate) fn fate_told(&self, document: &str) {
        if let Some(counters) = self.counts().documents.get_mut(document) {
            counters.open = false;
        }
    }

    /// The client has been told whether a document is registered, because it asked.
    pub(crate) fn looked_up(&self, irn: &str) {
        let mut counts = self.counts();
        let Counts {
            named_by_irn,
            documents,
            ..
        } = &mut *counts;
        let document = named_by_irn
            .get(irn)
            .and_then(|name| documents.get_mut(name));
        if let Some(counters) = document {
            counters.lookups += 1;
            counters.open = false;
        }
    }

    /// A document was submitted although it is registered.
    pub(crate) fn duplicate(&self, gstin: &str, document: &str) {
        let mut counts = self.counts();
        counts.each(gstin, |counters| counters.duplicate_generates += 1);
        if let Some(counters) = counts.documents.get_mut(document) {
            counters.duplicates += 1;
        }
    }

    /// A login was answered with a token, or refused.
    pub(crate) fn logged_in(&self, gstin: &str, granted: bool) {
        self.counts().each(gstin, |counters| {
            if granted {
                counters.authentications += 1;
            } else {
                counters.authentications_refused += 1;
            }
        });
    }

    /// A request was answered with errors.
    pub(crate) fn refused(&self, gstin: &str, client_id: &str, errors: &[PortalError]) {
        let mut counts = self.counts();
        counts.each(gstin, |counters| counters.refused(errors));
        *counts
            .errors_by_client
            .entry(client_id.to_owned())
            .or_default() += 1;
    }

    /// Answers with errors so far, of this GSTIN and of this client.
    pub(crate) fn errors_of(&self, gstin: &str, client_id: &str) -> (u64, u64) {
        let counts = self.counts();
        let of_gstin = counts
            .gstins
            .get(gstin)
            .map_or(0, |counters| counters.errors);
        (
            of_gstin,
            counts
                .errors_by_client
                .get(client_id)
                .copied()
                .unwrap_or_default(),
        )
    }

    /// Everything counted so far, as JSON.
    pub(crate) fn show(&self) -> String {
        serde_json::to_string(&*self.counts()).expect("counters with text keys are always JSON")
    }

    /// Forgets everything; flights of before the reset end unnoticed.
    pub(crate) fn reset(&self) {
        *self.counts() = Counts::default();
    }
}

/// A registration under way.
#[derive(Debug)]
pub(crate) struct Flight {
    stats: Stats,
    document: String,
}

impl Flight {
    /// The document's name in the counters.
    pub(crate) fn document(&self) -> &str {
        &self.document
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(counters) = self.stats.counts().documents.get_mut(&self.document) {
            counters.in_flight = counters.in_flight.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GSTIN: &str = "29AAGCE4783K1Z1";

    fn shown(stats: &Stats) -> serde_json::Value {
        serde_json::from_str(&stats.show()).unwrap()
    }

    #[test]
    fn two_flights_of_one_document_overlap_and_one_after_the_other_do_not() {
        let stats = Stats::default();
        drop(stats.submitted(GSTIN, "a".to_owned(), "irn".to_owned()));
        let first = stats.submitted(GSTIN, "a".to_owned(), "irn".to_owned());
        assert_eq!(shown(&stats)["overlapping_generates"], 0);
        let second = stats.submitted(GSTIN, "a".to_owned(), "irn".to_owned());
        drop((first, second));
        let shown = shown(&stats);
        assert_eq!(shown["overlapping_generates"], 1);
        assert_eq!(shown["gstins"][GSTIN]["overlapping_generates"], 1);
        assert_eq!(shown["documents"]["a"]["submits"], 3);
    }

    #[test]
    fn submit_is_blind_unless_its_fate_was_told_or_looked_up_since_the_one_before() {
        let stats = Stats::default();
        let submit = || drop(stats.submitted(GSTIN, "a".to_owned(), "irn".to_owned()));
        let blind = || shown(&stats)["blind_generates"].clone();
        stats.looked_up("irn");
        submit();
        assert_eq!(blind(), 0);
        submit();
        assert_eq!(blind(), 1, "nobody looked");
        stats.looked_up("of another one");
        submit();
        assert_eq!(blind(), 2, "somebody looked elsewhere");
        stats.looked_up("irn");
        submit();
        assert_eq!(blind(), 2);
        stats.fate_told("a");
        submit();
        assert_eq!(blind(), 2, "it was refused: nothing to look for");
        let shown = shown(&stats);
        assert_eq!(shown["gstins"][GSTIN]["blind_generates"], 2);
        assert_eq!(shown["documents"]["a"]["lookups"], 1);
    }

    #[test]
    fn order_is_blind_unless_its_fate_was_told_or_looked_up_since_the_one_before() {
        let stats = Stats::default();
        let blind = || shown(&stats)["blind_cancels"].clone();
        stats.ordered(GSTIN, Order::Cancel, "irn");
        stats.ordered(GSTIN, Order::EwayBill, "irn");
        stats.ordered(GSTIN, Order::Cancel, "another");
        assert_eq!(blind(), 0);
        stats.ordered(GSTIN, Order::Cancel, "irn");
        assert_eq!(blind(), 1, "nobody looked");
        stats.order_told(Order::EwayBill, "irn");
        stats.ordered(GSTIN, Order::Cancel, "irn");
        assert_eq!(blind(), 2, "somebody looked for something else");
        stats.order_told(Order::Cancel, "irn");
        stats.ordered(GSTIN, Order::Cancel, "irn");
        assert_eq!(blind(), 2);
        let shown = shown(&stats);
        assert_eq!(shown["blind_eway_bills"], 0);
        assert_eq!(shown["gstins"][GSTIN]["blind_cancels"], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_highest_rate_is_that_of_the_busiest_second() {
        let stats = Stats::default();
        for pause_ms in [0, 400, 400, 400, 2_000, 10] {
            tokio::time::advance(Duration::from_millis(pause_ms)).await;
            stats.arrived(Endpoint::Generate, GSTIN);
        }
        let shown = shown(&stats);
        assert_eq!(
            (&shown["max_per_second"], &shown["generates"]),
            (&3.into(), &6.into())
        );
        assert_eq!(shown["max_auth_per_minute"], 0);
    }

    #[test]
    fn headers_that_are_no_gstin_are_counted_in_total_only() {
        let stats = Stats::default();
        stats.arrived(Endpoint::Auth, "nonsense");
        let shown = shown(&stats);
        assert_eq!(shown["requests"]["auth"], 1);
        assert_eq!(shown["gstins"], serde_json::json!({}));
    }
}
