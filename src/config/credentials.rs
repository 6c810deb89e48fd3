//! Who may log in where: client pairs and taxpayers' users (contract, section 5, "Credentials file").

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::gstin::Gstin;

/// A password or client secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
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
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    pub name: String,
    pub id: String,
    pub secret: Secret,
}

/// What one session is for: a GSTIN's user, through one client.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    pub gstin: Gstin,
    pub client: Arc<Client>,
    pub username: String,
    pub password: Secret,
}

/// All accounts, by GSTIN.
#[derive(Debug, Default)]
pub struct Credentials {
    pub accounts: HashMap<Gstin, Arc<Account>>,
}
