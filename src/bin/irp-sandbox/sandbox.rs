//! All state of the portal, in memory. Every lock here is held for a look-up or an insertion, never while signing,
//! waiting or answering.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::Date;

use crate::accounts::Accounts;
use crate::clock::{Clock, ist};
use crate::corpus::Corpus;
use crate::documents::Documents;
use crate::faults::{FaultSet, Faults};
use crate::held::Held;
use crate::jwt::Signer;
use crate::keys::{self, Keys};
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::stats::Stats;
use crate::taxpayers::Registry;

/// The portal.
pub(crate) struct Sandbox {
    pub(crate) clock: Clock,
    pub(crate) keys: Keys,
    pub(crate) faults: Faults,
    pub(crate) held: Held,
    pub(crate) stats: Stats,
    /// Documents that were signed at start.
    pub(crate) corpus: Corpus,
    stranger: OnceLock<Signer>,
    at_start: Settings,
    settings: Mutex<Settings>,
    accounts_at_start: Accounts,
    accounts: Mutex<Accounts>,
    sessions: Mutex<Sessions>,
    registry: Mutex<Registry>,
    documents: Mutex<Documents>,
}

impl Sandbox {
    pub(crate) fn new(keys: Keys, accounts: Accounts, settings: Settings) -> Self {
        Self {
            clock: Clock::default(),
            keys,
            faults: Faults::default(),
            held: Held::default(),
            stats: Stats::default(),
            corpus: Corpus::default(),
            stranger: OnceLock::new(),
            at_start: settings.clone(),
            settings: Mutex::new(settings),
            accounts_at_start: accounts.clone(),
            accounts: Mutex::new(accounts),
            sessions: Mutex::default(),
            registry: Mutex::default(),
            documents: Mutex::default(),
        }
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(crate) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        lock(&self.accounts)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    pub(crate) fn documents(&self) -> MutexGuard<'_, Documents> {
        lock(&self.documents)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Today in India.
    pub(crate) fn today(&self) -> Date {
        ist(self.now()).date()
    }

    /// The key nobody knows, made when it is first needed.
    ///
    /// # Errors
    /// When the cryptography library cannot make a key.
    pub(crate) fn stranger(&self) -> Result<&Signer> {
        if let Some(signer) = self.stranger.get() {
            return Ok(signer);
        }
        let made = keys::stranger()?;
        Ok(self.stranger.get_or_init(|| made))
    }

    /// Forgets documents, tokens, counters, faults, registry, changed passwords, clock and switches. Keys and corpus stay.
    pub(crate) fn reset(&self) {
        self.faults.replace(FaultSet::default());
        self.held.release_all();
        *self.sessions() = Sessions::default();
        *self.documents() = Documents::default();
        *self.registry() = Registry::default();
        *self.settings() = self.at_start.clone();
        *self.accounts() = self.accounts_at_start.clone();
        self.clock.reset();
        self.stats.reset();
    }
}

/// A panic while a lock was held leaves plain data behind, which stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
