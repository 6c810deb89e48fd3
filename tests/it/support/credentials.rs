//! Made-up taxpayers and the credentials file that the sandbox and the worker read.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::route::Way;

/// Five sellers in five states; the check digits are right, the companies do not exist.
pub(crate) const GSTINS: [&str; 5] = [
    "29AAGCE4783K1Z1",
    "27AABCT9421M1ZY",
    "33AAKFN5208R1ZT",
    "07AADCB2230M1ZV",
    "24AAHCS7315P2ZV",
];

/// The text of a credentials file: one client, one user for each GSTIN; more clients where GSTINs take other routes.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    client_secret: String,
    /// What the route without a name is.
    way: Way,
    taxpayers: Vec<Taxpayer>,
}

#[derive(Clone, Debug)]
struct Taxpayer {
    gstin: String,
    password: String,
    /// The named route it takes.
    route: Option<Way>,
}

impl Credentials {
    /// Users of these GSTINs, each with a password of its own.
    pub(crate) fn of(gstins: &[&str]) -> Self {
        let taxpayer = |gstin: &&str| Taxpayer {
            gstin: (*gstin).to_owned(),
            password: format!("Pw-{gstin}!"),
            route: None,
        };
        Self {
            client_secret: "it-client-secret".to_owned(),
            way: Way::Nic,
            taxpayers: gstins.iter().map(taxpayer).collect(),
        }
    }

    /// The same with another password for one GSTIN.
    pub(crate) fn password(mut self, gstin: &str, password: &str) -> Self {
        for taxpayer in &mut self.taxpayers {
            if taxpayer.gstin == gstin {
                password.clone_into(&mut taxpayer.password);
            }
        }
        self
    }

    /// The same where the route without a name is this one.
    pub(crate) fn over(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// The same with this GSTIN on the route that is named as this way.
    pub(crate) fn route(mut self, gstin: &str, way: Way) -> Self {
        for taxpayer in &mut self.taxpayers {
            if taxpayer.gstin == gstin {
                taxpayer.route = Some(way);
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
        let mut text = String::from("[[client]]\nname = \"it\"\n");
        text.push_str(&self.way.client("it-client", &self.client_secret));
        for way in Way::ALL {
            if self.taxpayers.iter().any(|of| of.route == Some(way)) {
                let lines = way.client(&format!("it-{way}"), &self.client_secret);
                write!(
                    text,
                    "\n[[client]]\nname = \"{way}\"\nroute = \"{way}\"\n{lines}"
                )?;
            }
        }
        for taxpayer in &self.taxpayers {
            let Taxpayer {
                gstin,
                password,
                route,
            } = taxpayer;
            let client = route.map_or("it", Way::name);
            write!(
                text,
                "\n[[taxpayer]]\ngstin = \"{gstin}\"\nclient = \"{client}\"\nusername = \"API_{gstin}\"\npassword = \"{password}\"\n"
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
