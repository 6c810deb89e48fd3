//! The routes to the portal: `[irp]` itself, and each `[irp.routes.NAME]` that clients of the credentials file name.
//!
//! The rule: what belongs to a gateway is of its route alone. Headers, paths and pairs of one are never sent to another.

use std::path::{Path, PathBuf};

use reqwest::header::HeaderName;

use super::credentials::Secret;
use super::section::Section;
use super::setting::{Setting, not, quoted};
use super::tree::{Item, Value};
use super::{Environment, FailoverConfig, HeaderStyle, IrpConfig, addresses};

/// Whose contract a route speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The portal's own, straight or through a gateway that passes it on.
    Nic,
    /// MasterGST's (now WhiteBooks'), which seals nothing.
    MasterGst,
}

/// `client_pair`: what becomes of client id and secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientPair {
    /// Both are sent.
    #[default]
    Send,
    /// Neither: the gateway puts its own in.
    Omit,
    /// Both headers are sent without a value.
    Empty,
}

/// `paths`: what stands in the place of the first segment of the portal's paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathsConfig {
    /// Logins and masters.
    pub eivital: String,
    /// Registrations.
    pub eicore: String,
    /// E-way bills.
    pub eiewb: String,
}

impl Default for PathsConfig {
    fn default() -> Self {
        Self {
            eivital: "/eivital".to_owned(),
            eicore: "/eicore".to_owned(),
            eiewb: "/eiewb".to_owned(),
        }
    }
}

/// The headers of the portal's contract (NIC, "Generate IRN", request headers), as `header_names` calls them.
pub const HEADERS: [&str; 6] = [
    "client_id",
    "client_secret",
    "gstin",
    "user_name",
    "authtoken",
    "sup_gstin",
];

/// What is a route's own: how its gateway is reached, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Whose contract it speaks.
    pub provider: Provider,
    /// Scheme and host, perhaps a path prefix; no trailing slash.
    pub base_url: String,
    /// PEM file of the RSA key that encrypts logins; a contract that seals nothing needs none.
    pub public_key_file: Option<PathBuf>,
    /// `failover_url`: the portal to turn to while the one at `base_url` is down.
    pub failover: Option<FailoverConfig>,
    /// PEM file of roots to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Sent with every call; their values may be keys.
    pub extra_headers: Vec<(String, Secret)>,
    /// How the client pair's headers are spelt.
    pub header_style: HeaderStyle,
    /// Headers with a name of the gateway's own: which of [`HEADERS`], and its name there.
    pub header_names: Vec<(String, String)>,
    /// Where the portal's endpoints are.
    pub paths: PathsConfig,
    /// Whether the client pair is sent.
    pub client_pair: ClientPair,
}

/// `[irp.routes.NAME]`
#[derive(Clone, Debug)]
pub struct NamedRoute {
    /// As clients of the credentials file call it.
    pub name: String,
    /// How it is reached and spoken to.
    pub route: RouteConfig,
}

/// What a route has where it does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inherited<'a> {
    pub(super) environment: Environment,
    pub(super) provider: Provider,
    pub(super) public_key_file: Option<&'a Path>,
    pub(super) ca_file: Option<&'a Path>,
}

impl IrpConfig {
    /// The same settings for another of its routes.
    fn over(&self, named: &NamedRoute) -> Self {
        Self {
            route_name: Some(named.name.as_str().into()),
            route: named.route.clone(),
            routes: Vec::new(),
            ..self.clone()
        }
    }

    /// The settings of every route: those of `[irp]` itself, then of each that has a name.
    pub fn each_route(&self) -> Vec<Self> {
        let unnamed = Self {
            routes: Vec::new(),
            ..self.clone()
        };
        let named = self.routes.iter().map(|named| self.over(named));
        std::iter::once(unnamed).chain(named).collect()
    }

    /// How many portals a route has, at most.
    pub(super) fn most_portals(&self) -> u64 {
        let named = self.routes.iter().map(|named| &named.route);
        let has_two = std::iter::once(&self.route)
            .chain(named)
            .any(|route| route.failover.is_some());
        1 + u64::from(has_two)
    }

    /// The dotted name of one of a route's own settings.
    pub fn key(&self, name: &str) -> String {
        match &self.route_name {
            None => format!("irp.{name}"),
            Some(route) => format!("irp.routes.{route}.{name}"),
        }
    }
}

/// A route's own settings, out of `[irp]` or `[irp.routes.NAME]`.
pub(super) fn route(s: &mut Section<'_>, inherited: Inherited<'_>) -> RouteConfig {
    let provider = s.or("provider", inherited.provider);
    let public_key_file = public_key_file(s, provider, inherited.public_key_file);
    let base_url = addresses::portal(s, inherited.environment);
    let header_names = header_names(s);
    let route = RouteConfig {
        provider,
        failover: failover(
            s,
            inherited.environment,
            &base_url,
            public_key_file.as_deref(),
        ),
        base_url,
        public_key_file,
        ca_file: s
            .file("ca_file")
            .or_else(|| inherited.ca_file.map(Path::to_owned)),
        extra_headers: extra_headers(s, provider, &header_names),
        header_style: s.or("header_style", HeaderStyle::Underscore),
        header_names,
        paths: s.section("paths", paths),
        client_pair: s.or("client_pair", ClientPair::Send),
    };
    if provider == Provider::MasterGst {
        has_nothing_of_nic(s, &route);
    }
    route
}

const ROUTES_REMEDY: &str = "write [irp.routes.NAME] with a name that clients of the credentials file call it by, and under it base_url = \"https://…\"";

/// `[irp.routes]`
pub(super) fn routes(s: &mut Section<'_>, inherited: Inherited<'_>) -> Vec<NamedRoute> {
    let entries = s.entries("routes", ROUTES_REMEDY);
    let read = |(name, item): (String, Item)| {
        let key = format!("routes.{name}");
        if !is_a_name(&name) {
            let problem = "is not a name: at most 32 letters, digits, - and _, neither `default` nor `failover`, and not ending in `_failover`";
            s.fault_at(&item.source, &key, problem, ROUTES_REMEDY);
            return None;
        }
        match &item.value {
            Value::Table(_) | Value::Variable(_) => {}
            Value::Text(_)
            | Value::Integer(_)
            | Value::Boolean(_)
            | Value::List(_)
            | Value::Other(_) => {
                let problem = not(&item.value, "a table");
                s.fault_at(&item.source, &key, &problem, ROUTES_REMEDY);
                return None;
            }
        }
        let route = s.nested("routes", &key, &item, |s| route(s, inherited));
        Some(NamedRoute { name, route })
    };
    entries.into_iter().filter_map(read).collect()
}

/// It becomes part of log fields and metric labels, where `NAME_failover` is that of the failover portal.
fn is_a_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_taken = ["default", "failover"].contains(&name);
    let is_taken = is_taken || name.ends_with("_failover");
    (1..=32).contains(&name.len()) && name.bytes().all(plain) && !is_taken
}

fn public_key_file(
    s: &mut Section<'_>,
    provider: Provider,
    inherited: Option<&Path>,
) -> Option<PathBuf> {
    let remedy = "name the PEM file of the RSA key that the portal issues for authentication";
    match (provider, inherited) {
        (Provider::Nic, None) => s.required_file("public_key_file", remedy),
        (Provider::Nic, Some(_)) | (Provider::MasterGst, _) => s
            .file("public_key_file")
            .or_else(|| inherited.map(Path::to_owned)),
    }
}

fn failover(
    s: &mut Section<'_>,
    environment: Environment,
    base_url: &str,
    public_key_file: Option<&Path>,
) -> Option<FailoverConfig> {
    let key_file = s.file("failover_public_key_file");
    let other = addresses::failover(s, environment);
    if let (Some(_), None) = (&key_file, &other) {
        let remedy = format!("set {} too, or remove it", s.key("failover_url"));
        let problem = format!("is of no use without `{}`", s.key("failover_url"));
        s.fault("failover_public_key_file", &problem, &remedy);
    }
    let other = other?;
    if !base_url.is_empty() && other.eq_ignore_ascii_case(base_url) {
        let problem = format!("is the same portal as `{}`", s.key("base_url"));
        s.fault(
            "failover_url",
            &problem,
            "name the other portal, or remove it",
        );
    }
    Some(FailoverConfig {
        base_url: other,
        public_key_file: key_file.or_else(|| public_key_file.map(Path::to_owned)),
    })
}

/// The settings that say how the portal's own contract is passed on mean nothing to another one.
fn has_nothing_of_nic(s: &Section<'_>, route: &RouteConfig) {
    let found = [
        ("paths", route.paths != PathsConfig::default()),
        ("header_names", !route.header_names.is_empty()),
        (
            "header_style",
            route.header_style != HeaderStyle::Underscore,
        ),
        ("client_pair", route.client_pair != ClientPair::Send),
    ];
    for (key, _) in found.iter().filter(|(_, is_set)| *is_set) {
        s.fault(
            key,
            "is of no use with `mastergst`, whose paths and headers are its own",
            "remove it, or set provider = \"nic\"",
        );
    }
}

/// A path that takes the place of a segment, for example `/einv-gsp/core`.
struct PathPrefix(String);

impl Setting for PathPrefix {
    fn remedy() -> String {
        "write a path such as \"/einv-gsp/core\": what stands before /v1.03 in your gateway's addresses"
            .to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let text = String::read(item)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        let is_one = text.starts_with('/')
            && !text.ends_with('/')
            && !text.contains("//")
            && !text.split('/').any(|part| part == "." || part == "..")
            && text.bytes().all(plain);
        if is_one {
            Ok(Self(text))
        } else {
            Err(format!("{} is not a path", quoted(&text)))
        }
    }
}

fn paths(s: &mut Section<'_>) -> PathsConfig {
    let default = PathsConfig::default();
    PathsConfig {
        eivital: s.or("eivital", PathPrefix(default.eivital)).0,
        eicore: s.or("eicore", PathPrefix(default.eicore)).0,
        eiewb: s.or("eiewb", PathPrefix(default.eiewb)).0,
    }
}

fn header_names(s: &mut Section<'_>) -> Vec<(String, String)> {
    const REMEDY: &str = "write { \"authtoken\" = \"auth-token\" }: a header of the portal's, and its name at your gateway";
    let mut names: Vec<(String, String)> = Vec::new();
    for (header, item) in s.entries("header_names", REMEDY) {
        let key = format!("header_names.{header}");
        if !HEADERS.contains(&header.as_str()) {
            let problem = "is not a header of the portal's contract";
            let remedy = format!("name one of {}", HEADERS.join(", "));
            s.fault_at(&item.source, &key, problem, &remedy);
            continue;
        }
        let Some(name) = s.one::<String>(&key, &item) else {
            continue;
        };
        if name.parse::<HeaderName>().is_err() {
            s.fault_at(&item.source, &key, "is not a header's name", REMEDY);
        } else if is_of_another(&header, &name)
            || names
                .iter()
                .any(|(_, other)| other.eq_ignore_ascii_case(&name))
        {
            let problem = "is the name of another header, too";
            s.fault_at(&item.source, &key, problem, REMEDY);
        } else {
            names.push((header, name));
        }
    }
    names
}

/// Two of the portal's headers under one name would be one: a token could go out as a GSTIN.
fn is_of_another(header: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    name != header && HEADERS.contains(&name.as_str())
}

/// What MasterGST's contract says in headers beside the portal's own.
const OF_MASTERGST: [&str; 6] = [
    "auth-token",
    "docdate",
    "docnum",
    "ip_address",
    "password",
    "username",
];

fn extra_headers(
    s: &mut Section<'_>,
    provider: Provider,
    renamed: &[(String, String)],
) -> Vec<(String, Secret)> {
    let mut own: Vec<&str> = renamed.iter().map(|(_, name)| name.as_str()).collect();
    if provider == Provider::MasterGst {
        own.extend(OF_MASTERGST);
    }
    let entries = s.entries("extra_headers", "write { \"name\" = \"value\" }");
    entries
        .into_iter()
        .filter_map(|(name, item)| {
            let key = format!("extra_headers.{name}");
            let value = match item.value {
                Value::Table(_) => s.nested("extra_headers", &key, &item, |entry| {
                    entry.required_secret("value")
                }),
                _ => s.inline_secret(&key, &item, |_| true),
            }?;
            addresses::header(s, &item.source, &key, (&name, &value), &own).then_some((name, value))
        })
        .collect()
}
