//! Made-up taxpayers and the credentials file that the sandbox and the worker read.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

/// Five sellers in five states; the check digits are right, the companies do not exist.
pub(crate) const GSTINS: [&str; 5] = [
    "29AAGCE4783K1Z1",
    "27AABCT9421M1ZY",
    "33AAKFN5208R1ZT",
    "07AADCB2230M1ZV",
    "24AAHCS7315P2ZV",
];

/// The text of a credentials file: one client, one user for each GSTIN.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    client_secret: String,
    taxpayers: Vec<(String, String)>,
}

impl Credentials {
    /// Users of these GSTINs, each with a password of its own.
    pub(crate) fn of(gstins: &[&str]) -> Self {
        let taxpayer = |gstin: &&str| ((*gstin).to_owned(), format!("Pw-{gstin}!"));
        Self {
            client_secret: "it-client-secret".to_owned(),
            taxpayers: gstins.iter().map(taxpayer).collect(),
        }
    }

    /// The same with another password for one GSTIN.
    pub(crate) fn password(mut self, gstin: &str, password: &str) -> Self {
        for (of, kept) in &mut self.taxpayers {
            if of == gstin {
                password.clone_into(kept);
            }
        }
        self
    }

    /// The same with another client secret.
    pub(crate) fn client_secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.client_secret);
        self
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = format!(
            "[[client]]\nname = \"it\"\nclient_id = \"it-client\"\nclient_secret = \"{}\"\n",
            self.client_secret
        );
        for (gstin, password) in &self.taxpayers {
            write!(
                text,
                "\n[[taxpayer]]\ngstin = \"{gstin}\"\nclient = \"it\"\nusername = \"API_{gstin}\"\npassword = \"{password}\"\n"
            )?;
        }
        std::fs::write(path, text)?;
        // Anything wider is what `check` warns of.
        use std::os::unix::fs::PermissionsExt as _;
        Ok(std::fs::set_permissions(
            path,
            std::fs::Permissions::from_mode(0o600),
        )?)
    }
}
