//! The ways to the portal that the sandbox plays: what the worker's configuration says of each, and what a client that
//! takes it has in the credentials file.

use std::fmt;

use toml::{Table, Value};

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The portal itself.
    Nic,
    TaxPro,
    Vayana,
    Protean,
    Alankit,
    ClearTax,
    /// A contract of its own.
    MasterGst,
}

/// Each needs a header of its own, which the sandbox asks for.
const KEY: &str = "a-key-of-the-gateway";

impl Way {
    pub(crate) const ALL: [Self; 7] = [
        Self::Nic,
        Self::TaxPro,
        Self::Vayana,
        Self::Protean,
        Self::Alankit,
        Self::ClearTax,
        Self::MasterGst,
    ];

    /// As a route.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nic => "nic",
            Self::TaxPro => "taxpro",
            Self::Vayana => "vayana",
            Self::Protean => "protean",
            Self::Alankit => "alankit",
            Self::ClearTax => "cleartax",
            Self::MasterGst => "mastergst",
        }
    }

    /// The way of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    /// What `[irp]` or a route says of it, of a sandbox at this URL.
    pub(crate) fn settings(self, url: &str) -> Table {
        let at = |path: &str| ("base_url", Value::from(format!("{url}{path}")));
        let headers = |names: &[&str]| {
            let headers = names.iter().map(|name| ((*name).to_owned(), KEY.into()));
            ("extra_headers", Value::Table(headers.collect()))
        };
        let pair = |pair: &str| ("client_pair", Value::from(pair));
        let settings = match self {
            Self::Nic => vec![at("")],
            Self::TaxPro => vec![
                at("/taxpro"),
                headers(&["aspid", "password"]),
                pair("empty"),
            ],
            Self::Vayana => {
                let names = ["X-FLYNN-N-ORG-ID", "X-FLYNN-N-USER-TOKEN"];
                vec![at("/gus/irp/ni1"), headers(&names), pair("omit")]
            }
            Self::Protean => vec![
                at("/gus/irp/nic"),
                headers(&["aspid"]),
                ("header_style", "hyphen".into()),
            ],
            Self::Alankit => vec![
                at("/eInvoiceGateway"),
                headers(&["Ocp-Apim-Subscription-Key"]),
            ],
            Self::ClearTax => {
                let paths = [
                    ("eivital", "/einv-gsp/vital"),
                    ("eicore", "/einv-gsp/core"),
                    ("eiewb", "/einv-gsp/eiewb"),
                ];
                let paths = paths.map(|(of, path)| (of.to_owned(), path.into()));
                let renamed = [("authtoken".to_owned(), "auth-token".into())];
                vec![
                    at(""),
                    ("paths", Value::Table(paths.into_iter().collect())),
                    ("header_names", Value::Table(renamed.into_iter().collect())),
                    headers(&["X-CT-Auth-Token"]),
                    pair("omit"),
                ]
            }
            Self::MasterGst => vec![at(""), ("provider", "mastergst".into())],
        };
        let settings = settings.into_iter();
        settings
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// The lines of a client that takes it, but for its name and route.
    pub(crate) fn client(self, id: &str, secret: &str) -> String {
        let pair = format!("client_id = \"{id}\"\nclient_secret = \"{secret}\"\n");
        match self {
            Self::Nic | Self::Protean | Self::Alankit => pair,
            Self::TaxPro | Self::Vayana | Self::ClearTax => String::new(),
            Self::MasterGst => {
                format!("{pair}email = \"tax+it@acme.example\"\nip_address = \"203.0.113.7\"\n")
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
