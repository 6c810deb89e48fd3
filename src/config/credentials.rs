//! Who may log in where: client pairs and taxpayers' users (contract, section 5, "Credentials file").
//!
//! The rule: an account can only be had whole, with the client it belongs to, because a user works with that one
//! only (NIC, API user creation), and with all that the client's route wants of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::{ClientPair, Environment, IrpConfig, Provider};
use crate::gstin::Gstin;

pub use load::{Loaded, Reading, load, read, read_here};

#[cfg(test)]
pub(super) use load::findings_of;

mod client;
mod load;

/// A password or client secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes it over; the text is wiped when the last copy is dropped.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, for the one who sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One integrator's pair (or one per PAN, for a taxpayer that connects directly).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// What the taxpayers of the credentials file call it.
    pub name: String,
    /// `client_id`; empty where its route sends no pair.
    pub id: String,
    /// `client_secret`; empty where its route sends no pair.
    pub secret: Secret,
    /// `route`: one of `[irp.routes]`; none for the one that `[irp]` itself describes.
    pub route: Option<Arc<str>>,
    /// What MasterGST's contract wants beside the pair.
    pub subscriber: Option<Subscriber>,
}

/// As whom a client is registered with MasterGST.
#[derive(Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// `email`
    pub email: String,
    /// `ip_address`: the public address that calls are made from.
    pub ip_address: IpAddr,
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscriber(..)")
    }
}

/// What accounts have to be fit for: the environment, and the routes that their clients may name.
#[derive(Clone, Debug)]
pub struct Terms {
    environment: Environment,
    unnamed: Wants,
    named: BTreeMap<String, Wants>,
}

/// What a route wants of the clients that take it.
#[derive(Clone, Copy, Debug)]
struct Wants {
    provider: Provider,
    pair: bool,
}

impl Terms {
    /// What this route wants, if there is such a route.
    fn of(&self, route: Option<&str>) -> Option<Wants> {
        match route {
            None => Some(self.unnamed),
            Some(name) => self.named.get(name).copied(),
        }
    }
}

impl From<&IrpConfig> for Terms {
    fn from(irp: &IrpConfig) -> Self {
        let wants = |provider, pair| Wants {
            provider,
            pair: pair == ClientPair::Send,
        };
        let named = irp.routes.iter().map(|named| {
            let route = &named.route;
            (named.name.clone(), wants(route.provider, route.client_pair))
        });
        Self {
            environment: irp.environment,
            unnamed: wants(irp.route.provider, irp.route.client_pair),
            named: named.collect(),
        }
    }
}

/// Those of the portal's own contract alone.
impl From<Environment> for Terms {
    fn from(environment: Environment) -> Self {
        Self {
            environment,
            unnamed: Wants {
                provider: Provider::Nic,
                pair: true,
            },
            named: BTreeMap::new(),
        }
    }
}

/// What one session is for: a GSTIN's user, through one client.
///
/// Two that are equal log in alike: after a reload, that is how a changed password is noticed.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    /// Whose invoices it registers.
    pub gstin: Gstin,
    /// The only client the user works with.
    pub client: Arc<Client>,
    /// The API user.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

impl Account {
    /// How much of [`LONGEST_LOGIN_BYTES`] the user and password take.
    pub fn login_bytes(&self) -> usize {
        escaped_bytes(&self.username) + escaped_bytes(self.password.expose())
    }
}

/// All accounts, by GSTIN.
#[derive(Debug, Default)]
pub struct Credentials {
    /// Never empty when it was loaded.
    pub accounts: HashMap<Gstin, Arc<Account>>,
}

impl Credentials {
    /// Whether a GSTIN here is registered over this route.
    pub fn uses(&self, route: Option<&str>) -> bool {
        self.accounts
            .values()
            .any(|account| account.client.route.as_deref() == route)
    }

    /// Whether a GSTIN here belongs to the client of this name.
    pub fn has_client(&self, name: &str) -> bool {
        self.accounts
            .values()
            .any(|account| account.client.name == name)
    }

    /// The same in memory of this thread's own.
    fn copied_apart(&self) -> Self {
        let mut clients: HashMap<&str, Arc<Client>> = HashMap::new();
        let mut accounts = HashMap::with_capacity(self.accounts.len());
        for (gstin, account) in &self.accounts {
            let client = clients.entry(&account.client.name);
            let client = client.or_insert_with(|| Arc::new(Client::clone(&account.client)));
            let copy = Account {
                gstin: account.gstin,
                client: Arc::clone(client),
                username: account.username.clone(),
                password: account.password.clone(),
            };
            accounts.insert(*gstin, Arc::new(copy));
        }
        Self { accounts }
    }

    /// What has become of each GSTIN since `earlier`, those without change left out.
    pub fn changes_since(&self, earlier: &Self) -> Changes {
        let mut changes = Changes::default();
        for (gstin, account) in &self.accounts {
            match earlier.accounts.get(gstin) {
                None => changes.added.push(*gstin),
                Some(before) if before != account => changes.changed.push(*gstin),
                Some(_) => {}
            }
        }
        let gone = |gstin: &&Gstin| !self.accounts.contains_key(*gstin);
        changes
            .removed
            .extend(earlier.accounts.keys().filter(gone).copied());
        for list in [
            &mut changes.added,
            &mut changes.changed,
            &mut changes.removed,
        ] {
            list.sort_unstable();
        }
        changes
    }
}

/// GSTINs whose account is another one than before. A session or a refusal that was remembered for one of them is
/// stale. Each list is in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Had no account before.
    pub added: Vec<Gstin>,
    /// Another client, user, password or client secret.
    pub changed: Vec<Gstin>,
    /// Have none any more.
    pub removed: Vec<Gstin>,
}

impl Changes {
    /// Whether everything is as it was.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Those with an account that has not been tried yet.
    pub fn renewed(&self) -> impl Iterator<Item = &Gstin> {
        self.added.iter().chain(&self.changed)
    }

    /// Every GSTIN concerned.
    pub fn all(&self) -> impl Iterator<Item = &Gstin> {
        self.renewed().chain(&self.removed)
    }
}

/// What user and password may take together, JSON-escaped.
///
/// RSA-2048 with PKCS#1 v1.5 holds 245 bytes, hence 183 of JSON once in base64, and the login's JSON takes 117 of
/// them for its names and the app key (RFC 8017, section 7.2.1; NIC, authentication page, v1.04).
pub const LONGEST_LOGIN_BYTES: usize = 66;

/// The length of a text inside the quotes of compact JSON. Counted as it is written, so that no copy is left behind.
fn escaped_bytes(text: &str) -> usize {
    let mut written = Counted(0);
    // Neither counting nor a text can fail.
    drop(serde_json::to_writer(&mut written, text));
    written.0.saturating_sub(2)
}

/// Counts what is written to it.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
