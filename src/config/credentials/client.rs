//! `[[client]]` of the credentials file: a pair, and what else its route wants.
//!
//! The rule: what a route wants is neither missing nor there for another one, because it would be sent to the wrong gateway.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Secret, Subscriber, Terms, Wants};
use crate::config::Provider;
use crate::config::fault::Source;
use crate::config::section::Section;
use crate::config::setting::quoted;

/// A client as far as it could be read.
pub(super) struct ClientDraft {
    pub(super) source: Source,
    pub(super) name: Option<String>,
    /// All that its route wants.
    pub(super) means: Option<Means>,
}

/// A client but for its name.
pub(super) struct Means {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) route: Option<Arc<str>>,
    pub(super) subscriber: Option<Subscriber>,
}

/// Takes one out of its table; what it is for is in `terms`.
pub(super) fn client(s: &mut Section<'_>, terms: &Terms) -> ClientDraft {
    let name: Option<String> = s.required("name", "give it a name for the taxpayers to refer to");
    if let Some(name) = &name {
        s.rename(name);
    }
    let source = s.source().clone();
    let route: Option<String> = s.optional("route");
    let wants = terms.of(route.as_deref());
    if let (None, Some(route)) = (wants, &route) {
        no_such_route(s, route, terms);
    }
    let pair = pair(s, wants);
    let subscriber = subscriber(s, wants);
    // Whatever is missing has been told of.
    let means = wants.zip(pair).and_then(|(wants, (id, secret))| {
        let is_whole = wants.provider == Provider::Nic || subscriber.is_some();
        is_whole.then_some(Means {
            id,
            secret,
            route: route.as_deref().map(Arc::from),
            subscriber,
        })
    });
    ClientDraft {
        source,
        name,
        means,
    }
}

fn no_such_route(s: &Section<'_>, route: &str, terms: &Terms) {
    let problem = format!(
        "names {}, and the configuration has no such route",
        quoted(route)
    );
    let names: Vec<&str> = terms.named.keys().map(String::as_str).collect();
    let remedy = if names.is_empty() {
        "describe it under [irp.routes.NAME] in the configuration, or remove this line".to_owned()
    } else {
        format!("name one of: {}", names.join(", "))
    };
    s.fault("route", &problem, &remedy);
}

/// Client id and secret, empty where they are not sent.
fn pair(s: &mut Section<'_>, wants: Option<Wants>) -> Option<(String, Secret)> {
    let (id, secret) = match wants {
        Some(Wants { pair: true, .. }) => (
            s.required("client_id", "write the client id that the portal issued"),
            s.required_secret("client_secret"),
        ),
        // Of a route that nobody knows it is not known either whether they are missing.
        Some(Wants { pair: false, .. }) | None => {
            (s.optional("client_id"), s.secret("client_secret", |_| true))
        }
    };
    must_fit_a_header(s, "client_id", id.as_deref());
    must_fit_a_header(s, "client_secret", secret.as_ref().map(Secret::expose));
    match wants? {
        Wants { pair: true, .. } => id.zip(secret),
        Wants { pair: false, .. } => {
            for (key, is_set) in [
                ("client_id", id.is_some()),
                ("client_secret", secret.is_some()),
            ] {
                if is_set {
                    let remedy = "remove it, or set client_pair = \"send\" for the route";
                    s.warn(key, "is not sent over this client's route", remedy);
                }
            }
            Some((String::new(), Secret::new(String::new())))
        }
    }
}

/// E-mail address and public address, which MasterGST's contract alone wants.
fn subscriber(s: &mut Section<'_>, wants: Option<Wants>) -> Option<Subscriber> {
    const EMAIL: &str =
        "write the e-mail address that the client is registered with at the provider";
    const ADDRESS: &str =
        "write the public IP address that calls are made from, as registered with the provider";
    let is_wanted = wants.is_some_and(|wants| wants.provider == Provider::MasterGst);
    let (email, ip_address): (Option<String>, Option<IpAddr>) = if is_wanted {
        (
            s.required("email", EMAIL),
            s.required("ip_address", ADDRESS),
        )
    } else {
        (s.optional("email"), s.optional("ip_address"))
    };
    let is_address = |email: &String| {
        let plain = email.bytes().all(|byte| byte.is_ascii_graphic());
        let parts = email.split_once('@');
        plain && parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
    };
    if email.as_ref().is_some_and(|email| !is_address(email)) {
        s.fault("email", "is not an e-mail address", EMAIL);
    }
    // A forgotten route would send what is meant for one gateway to another.
    if let (Some(_), false) = (wants, is_wanted) {
        for (key, is_set) in [
            ("email", email.is_some()),
            ("ip_address", ip_address.is_some()),
        ] {
            if is_set {
                let problem = "is of no use: its route does not speak MasterGST's contract";
                let remedy = "name the route that does with route = \"NAME\", or remove it";
                s.fault(key, problem, remedy);
            }
        }
    }
    let (email, ip_address) = email.zip(ip_address).filter(|_| is_wanted)?;
    Some(Subscriber { email, ip_address })
}

/// Client pair and user name travel in headers (NIC, generate-irn page).
pub(super) fn must_fit_a_header(s: &Section<'_>, key: &str, text: Option<&str>) {
    if text.is_some_and(|text| !fits_a_header(text)) {
        s.fault(key, NO_HEADER, "copy it again; it is plain ASCII");
    }
}

pub(super) const NO_HEADER: &str = "has characters that no header can carry, or spaces around it";

/// Not by making a header of it: that would leave a copy behind.
pub(super) fn fits_a_header(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    is_plain && text.trim() == text
}
