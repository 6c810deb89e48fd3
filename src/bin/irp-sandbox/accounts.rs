//! Who may log in: integrators (client id and secret) and the API users of each GSTIN, read from a credentials file
//! of the worker's format. A user works only with the client and the GSTIN it was made for (NIC, authentication).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// A password or client secret; never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// Whether `offered` is this secret.
    pub(crate) fn is(&self, offered: &str) -> bool {
        self.0 == offered
    }

    /// The secret itself, for the gateway that sends it in its clients' stead.
    fn expose(&self) -> String {
        self.0.clone()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[derive(Clone, Debug)]
struct Client {
    name: String,
    id: String,
    secret: Secret,
    /// As whom it is registered with MasterGST.
    subscriber: Option<(String, String)>,
}

#[derive(Clone, Debug)]
struct User {
    gstin: String,
    name: String,
    client_id: String,
    password: Secret,
}

/// Everybody who may log in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    clients: Vec<Client>,
    users: Vec<User>,
}

/// Why a login is refused, in the portal's order of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 1017
    UnknownUser,
    /// 1015
    OtherGstin,
    /// 1018
    OtherClient,
    /// 1019
    WrongPassword,
}

impl Accounts {
    /// Reads a credentials file, or every `*.toml` of a directory.
    ///
    /// # Errors
    /// Names the file and the entry that is wrong.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let files = credential_files(path)?;
        let mut accounts = Self::default();
        let mut taxpayers = Vec::new();
        for file in &files {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let read: Credentials =
                toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
            for entry in read.client {
                accounts.add_client(file, entry)?;
            }
            taxpayers.extend(read.taxpayer.into_iter().map(|entry| (file, entry)));
        }
        // After all clients: a directory may keep them in a file that sorts last.
        for (file, entry) in taxpayers {
            accounts.add_user(file, entry)?;
        }
        ensure!(
            !accounts.users.is_empty(),
            "{} lists no taxpayer",
            path.display()
        );
        Ok(accounts)
    }

    fn add_client(&mut self, file: &Path, entry: ClientEntry) -> Result<()> {
        let about = format!("{}: client {}: client_secret", file.display(), entry.name);
        // One without a pair comes over a gateway, which has one for it.
        let (id, secret) = match entry.client_id {
            Some(id) => {
                let secret = secret(file, entry.client_secret, entry.client_secret_file);
                (id, secret.context(about)?)
            }
            None => (
                format!("gateway-{}", entry.name),
                Secret(format!("gateway-secret-{}", entry.name)),
            ),
        };
        self.clients.push(Client {
            name: entry.name,
            id,
            secret,
            subscriber: entry.email.zip(entry.ip_address),
        });
        Ok(())
    }

    fn add_user(&mut self, file: &Path, entry: TaxpayerEntry) -> Result<()> {
        let about = format!("{}: taxpayer {}", file.display(), entry.gstin);
        let client = self
            .clients
            .iter()
            .find(|client| client.name == entry.client);
        let client_id = client
            .with_context(|| format!("{about}: no client {:?}", entry.client))?
            .id
            .clone();
        let password = secret(file, entry.password, entry.password_file)
            .with_context(|| format!("{about}: password"))?;
        self.users.push(User {
            gstin: entry.gstin,
            name: entry.username,
            client_id,
            password,
        });
        Ok(())
    }

    /// Whether this pair is an integrator's.
    pub(crate) fn knows_client(&self, id: &str, secret: &str) -> bool {
        self.clients
            .iter()
            .any(|client| client.id == id && client.secret.is(secret))
    }

    /// The pair that a gateway puts in for this GSTIN: that of the client its user was made for.
    pub(crate) fn pair_for(&self, gstin: &str) -> Option<[(&'static str, String); 2]> {
        let user = self.users.iter().find(|user| user.gstin == gstin)?;
        let client = self
            .clients
            .iter()
            .find(|client| client.id == user.client_id)?;
        Some([
            ("client_id", client.id.clone()),
            ("client_secret", client.secret.expose()),
        ])
    }

    /// Whether this client is registered with MasterGST under this e-mail address, calling from this one.
    pub(crate) fn is_subscriber(&self, id: &str, email: &str, ip_address: &str) -> bool {
        self.clients.iter().any(|client| {
            let subscriber = client.subscriber.as_ref();
            client.id == id
                && subscriber.is_some_and(|(own, from)| own == email && from == ip_address)
        })
    }

    /// Checks one login. The same user name may exist for several GSTINs and clients.
    ///
    /// # Errors
    /// The first check that fails.
    pub(crate) fn log_in(
        &self,
        client_id: &str,
        gstin: &str,
        name: &str,
        password: &str,
    ) -> Result<(), Refusal> {
        let named = || self.users.iter().filter(|user| user.name == name);
        if named().next().is_none() {
            return Err(Refusal::UnknownUser);
        }
        let here = || named().filter(|user| user.gstin == gstin);
        if here().next().is_none() {
            return Err(Refusal::OtherGstin);
        }
        let user = here()
            .find(|user| user.client_id == client_id)
            .ok_or(Refusal::OtherClient)?;
        if user.password.is(password) {
            Ok(())
        } else {
            Err(Refusal::WrongPassword)
        }
    }

    /// Changes a password at every client the user has; false when there is no such user.
    pub(crate) fn set_password(&mut self, gstin: &str, name: &str, password: &Secret) -> bool {
        let mut found = false;
        for user in self
            .users
            .iter_mut()
            .filter(|user| user.gstin == gstin && user.name == name)
        {
            user.password = password.clone();
            found = true;
        }
        found
    }
}

fn credential_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    Ok(files)
}

/// The secret itself or the first line of the file that holds it; a relative path starts at the credentials file.
fn secret(credentials: &Path, inline: Option<Secret>, file: Option<PathBuf>) -> Result<Secret> {
    match (inline, file) {
        (Some(secret), None) => Ok(secret),
        (None, Some(file)) => {
            let path = credentials.parent().unwrap_or(Path::new("")).join(file);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => bail!("neither given nor named by a file"),
        (Some(_), Some(_)) => bail!("given twice, here and by a file"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    #[serde(default)]
    client: Vec<ClientEntry>,
    #[serde(default)]
    taxpayer: Vec<TaxpayerEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientEntry {
    name: String,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    client_secret_file: Option<PathBuf>,
    /// The worker's concern.
    #[serde(rename = "route")]
    _route: Option<String>,
    email: Option<String>,
    ip_address: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaxpayerEntry {
    gstin: String,
    client: String,
    username: String,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[client]]
        name = "acme"
        client_id = "AC"
        client_secret_file = "acme-secret"

        [[client]]
        name = "other"
        client_id = "OT"
        client_secret = "s2"

        [[taxpayer]]
        gstin = "29AAGCE4783K1Z1"
        client = "acme"
        username = "API_ka"
        password = "p1"
    "#;

    fn load(text: &str) -> Result<Accounts> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("acme-secret"), "s1\n")?;
        let path = dir.path().join("credentials.toml");
        fs::write(&path, text)?;
        Accounts::load(&path)
    }

    #[test]
    fn each_wrong_part_of_a_login_has_its_own_refusal() -> Result<()> {
        let accounts = load(FILE)?;
        let gstin = "29AAGCE4783K1Z1";
        assert!(accounts.knows_client("AC", "s1") && !accounts.knows_client("AC", "s2"));
        assert_eq!(accounts.log_in("AC", gstin, "API_ka", "p1"), Ok(()));
        assert_eq!(
            accounts.log_in("AC", gstin, "API_xx", "p1"),
            Err(Refusal::UnknownUser)
        );
        assert_eq!(
            accounts.log_in("AC", "27AABCT9421M1ZY", "API_ka", "p1"),
            Err(Refusal::OtherGstin)
        );
        assert_eq!(
            accounts.log_in("OT", gstin, "API_ka", "p1"),
            Err(Refusal::OtherClient)
        );
        assert_eq!(
            accounts.log_in("AC", gstin, "API_ka", "p2"),
            Err(Refusal::WrongPassword)
        );
        Ok(())
    }

    #[test]
    fn a_changed_password_replaces_the_old_one() -> Result<()> {
        let mut accounts = load(FILE)?;
        let new = Secret("p9".to_owned());
        assert!(accounts.set_password("29AAGCE4783K1Z1", "API_ka", &new));
        assert!(!accounts.set_password("29AAGCE4783K1Z1", "nobody", &new));
        assert_eq!(
            accounts.log_in("AC", "29AAGCE4783K1Z1", "API_ka", "p9"),
            Ok(())
        );
        Ok(())
    }

    #[test]
    fn faults_of_the_file_name_the_entry() {
        let unknown_client = FILE.replace("client = \"acme\"", "client = \"nobody\"");
        assert!(
            format!("{:#}", load(&unknown_client).unwrap_err()).contains("no client \"nobody\"")
        );
        let no_password = FILE.replace("password = \"p1\"", "");
        assert!(
            format!("{:#}", load(&no_password).unwrap_err()).contains("29AAGCE4783K1Z1: password")
        );
        assert!(load("[[client]]\nname='a'\nclient_id='b'\nclient_secret='c'").is_err());
    }

    #[test]
    fn secrets_are_not_printed() -> Result<()> {
        assert!(!format!("{:?}", load(FILE)?).contains("p1"));
        Ok(())
    }
}
