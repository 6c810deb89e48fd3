//! Routes to the portal: what a route has of its own and what of `[irp]`, which clients may take it, and every mistake.

use anyhow::{Context as _, Result};
use irn_worker::config::credentials::{self, Loaded};
use irn_worker::config::{
    ClientPair, Config, ConfigFaults, Environment, HeaderStyle, IrpConfig, Provider,
};

use crate::support::Folder;

const OWN: &str = "irp.base_url = \"https://irp.example.in\"\n";

const TWO_ROUTES: &str = r#"
irp.base_url = "https://irp.example.in"
irp.extra_headers = { "X-Own" = "own" }
irp.ca_file = "{dir}/irp.pem"
irp.request_timeout = "20s"

[irp.routes.cleartax]
base_url = "https://gsp.example.in/"
paths = { eivital = "/einv-gsp/vital", eicore = "/einv-gsp/core" }
extra_headers = { "X-CT-Auth-Token" = { value_file = "{dir}/token" } }
header_names = { authtoken = "auth-token" }
header_style = "hyphen"
client_pair = "omit"
failover_url = "https://gsp2.example.in"

[irp.routes.whitebooks]
base_url = "https://api.example.in"
provider = "mastergst"
"#;

fn loaded(folder: &Folder, text: &str) -> Result<Config> {
    folder.write("token", "a secret\n")?;
    Ok(folder.load(text)??.config)
}

#[test]
fn route_has_what_its_gateway_needs_of_its_own_and_the_rest_from_irp() -> Result<()> {
    let folder = Folder::new()?;
    let config = loaded(&folder, TWO_ROUTES)?;
    let routes = config.irp.each_route();
    let [own, cleartax, whitebooks] = routes.as_slice() else {
        panic!("{} routes", routes.len());
    };
    assert_eq!(
        (own.route_name.as_deref(), own.key("ca_file").as_str()),
        (None, "irp.ca_file")
    );
    assert_eq!(cleartax.route_name.as_deref(), Some("cleartax"));
    assert_eq!(cleartax.key("base_url"), "irp.routes.cleartax.base_url");
    assert_eq!(cleartax.route.base_url, "https://gsp.example.in");
    assert_eq!(cleartax.route.paths.eicore, "/einv-gsp/core");
    assert_eq!(cleartax.route.paths.eiewb, "/eiewb");
    assert_eq!(
        cleartax.route.header_names,
        [("authtoken".to_owned(), "auth-token".to_owned())]
    );
    assert_eq!(
        (cleartax.route.header_style, cleartax.route.client_pair),
        (HeaderStyle::Hyphen, ClientPair::Omit)
    );
    let headers = |route: &IrpConfig| -> Vec<(String, String)> {
        let pairs = route.route.extra_headers.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect()
    };
    // The keys of one gateway are nobody else's.
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(headers(own), pair("X-Own", "own"));
    assert_eq!(headers(cleartax), pair("X-CT-Auth-Token", "a secret"));
    assert_eq!(headers(whitebooks), []);
    // What is this machine's, or the portal's whatever the way, is [irp]'s.
    for route in [cleartax, whitebooks] {
        assert_eq!(route.route.public_key_file, own.route.public_key_file);
        assert_eq!(route.route.ca_file, own.route.ca_file);
        assert_eq!(route.request_timeout, own.request_timeout);
    }
    let failover = cleartax.for_failover().context("a second portal")?;
    assert_eq!(failover.route.base_url, "https://gsp2.example.in");
    assert_eq!(failover.route.paths, cleartax.route.paths);
    assert_eq!(
        (own.route.provider, whitebooks.route.provider),
        (Provider::Nic, Provider::MasterGst)
    );
    assert!(own.route.failover.is_none() && whitebooks.route.failover.is_none());
    Ok(())
}

#[test]
fn mastergst_for_everybody_needs_no_key() -> Result<()> {
    let folder = Folder::new()?;
    let text = "irp.provider = \"mastergst\"\n#irp.public_key_file";
    let config = folder.load(text)??.config;
    assert_eq!(config.irp.route.provider, Provider::MasterGst);
    assert_eq!(config.irp.route.public_key_file, None);
    // A route that does need one says so.
    let text = format!(
        "{OWN}#irp.public_key_file\nirp.provider = \"mastergst\"\nirp.routes.a = {{ base_url = \"https://a.example.in\", provider = \"nic\" }}"
    );
    let faults = folder.load(&text)?.unwrap_err().to_string();
    assert!(
        faults.contains("irp.routes.a.public_key_file: is missing"),
        "{faults}"
    );
    Ok(())
}

/// Text under `[irp]`, key at fault, part of the problem, part of the remedy.
#[rustfmt::skip] // one fault a line
const FAULTS: &[(&str, &str, &str, &str)] = &[
    ("irp.routes = [\"a\"]", "irp.routes", "is a list, not a table", "[irp.routes.NAME]"),
    ("irp.routes.a = \"https://a.example.in\"", "irp.routes.a", "is text, not a table", "[irp.routes.NAME]"),
    ("irp.routes.\"a b\" = { base_url = \"https://a.example.in\" }", "irp.routes.a b", "is not a name", "[irp.routes.NAME]"),
    ("irp.routes.a_failover = { base_url = \"https://a.example.in\" }", "irp.routes.a_failover", "not ending in `_failover`", "[irp.routes.NAME]"),
    ("irp.routes.a = {}", "irp.routes.a.base_url", "is missing", "scheme and host"),
    ("irp.routes.a = { base_url = \"a.example.in\" }", "irp.routes.a.base_url", "is not a URL", "https://"),
    ("irp.routes.a = { base_url = \"http://a.example.in\" }", "irp.routes.a.base_url", "unencrypted", "https://"),
    ("irp.routes.a = { base_url = \"https://einv1api.gstsandbox.nic.in\" }", "irp.routes.a.base_url", "sandbox", "irp.environment"),
    ("irp.routes.a = { base_url = \"https://a.example.in\", baseurl = 1 }", "irp.routes.a.baseurl", "not a known key", "did you mean"),
    ("irp.routes.a = { base_url = \"https://a.example.in\", concurrency = 4 }", "irp.routes.a.concurrency", "not a known key", "did you mean `irp.concurrency`?"),
    ("irp.routes.a = { base_url = \"https://a.example.in\", provider = \"adaequare\" }", "irp.routes.a.provider", "is not a choice", "`nic` or `mastergst`"),
    ("irp.routes.a = { base_url = \"https://a.example.in\", failover_url = \"https://a.example.in/\" }", "irp.routes.a.failover_url", "same portal as `irp.routes.a.base_url`", "the other portal"),
    ("irp.routes.a = { base_url = \"https://a.example.in\", provider = \"mastergst\", paths = { eicore = \"/x\" } }", "irp.routes.a.paths", "of no use with `mastergst`", "provider = \"nic\""),
    ("irp.routes.a = { base_url = \"https://a.example.in\", provider = \"mastergst\", client_pair = \"omit\" }", "irp.routes.a.client_pair", "of no use with `mastergst`", "remove it"),
    ("irp.routes.a = { base_url = \"https://a.example.in\", client_pair = false }", "irp.routes.a.client_pair", "true or false", "`send` or `omit` or `empty`"),
    ("irp.paths = { eicore = \"core\" }", "irp.paths.eicore", "`core` is not a path", "/einv-gsp/core"),
    ("irp.paths = { eicore = \"/core/\" }", "irp.paths.eicore", "is not a path", "/einv-gsp/core"),
    ("irp.paths = { eicore = \"/../core\" }", "irp.paths.eicore", "is not a path", "/einv-gsp/core"),
    ("irp.paths = { eicore = \"/core?x\" }", "irp.paths.eicore", "is not a path", "/einv-gsp/core"),
    ("irp.paths = { core = \"/core\" }", "irp.paths.core", "not a known key", "did you mean `irp.paths.eicore`?"),
    ("irp.header_names = { token = \"auth-token\" }", "irp.header_names.token", "not a header of the portal's contract", "authtoken"),
    ("irp.header_names = { authtoken = \"auth token\" }", "irp.header_names.authtoken", "is not a header's name", "auth-token"),
    ("irp.header_names = { authtoken = \"x\", gstin = \"X\" }", "irp.header_names.gstin", "name of another header", "auth-token"),
    ("irp.header_names = { authtoken = \"Client-Secret\" }", "irp.header_names.authtoken", "name of another header", "auth-token"),
    ("irp.header_names = { authtoken = \"auth-token\" }\nirp.extra_headers = { \"Auth-Token\" = \"x\" }", "irp.extra_headers.Auth-Token", "sets itself", "header of your gateway"),
];

#[test]
fn every_mistake_of_a_route_is_told_with_file_key_problem_and_remedy() -> Result<()> {
    let folder = Folder::new()?;
    for (text, key, problem, remedy) in FAULTS {
        let faults = folder.load(&format!("{OWN}{text}"))?.err();
        let faults = faults.unwrap_or_else(|| panic!("{text}: loads")).faults;
        let [fault] = faults.as_slice() else {
            panic!("{text}: not one fault: {faults:#?}");
        };
        assert_eq!(fault.key, *key, "{text}");
        assert!(fault.problem.contains(problem), "{text}: {fault}");
        assert!(fault.remedy.contains(remedy), "{text}: {fault}");
    }
    Ok(())
}

#[test]
fn all_mistakes_of_all_routes_are_told_at_once() -> Result<()> {
    let folder = Folder::new()?;
    let text = r#"
[irp.routes.a]
base_url = "a.example.in"
[irp.routes.b]
base_url = "https://b.example.in"
paths = { eicore = "x" }
[irp.routes.c]
base_url = "https://c.example.in"
extra_headers = { "X-Key" = { value_file = "/nowhere/key" } }
"#;
    let faults = folder.load(&format!("{OWN}{text}"))?.unwrap_err().faults;
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    let header = "irp.routes.c.extra_headers.X-Key.value_file";
    assert_eq!(
        keys,
        ["irp.routes.a.base_url", "irp.routes.b.paths.eicore", header]
    );
    Ok(())
}

#[test]
fn secret_of_a_route_is_never_shown_and_one_that_all_can_read_is_told_of() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_with_mode("token", "CANARY-1\n", 0o644)?;
    let text = format!(
        "{OWN}irp.routes.a = {{ base_url = \"https://a.example.in\", extra_headers = {{ X-A = {{ value_file = \"{{dir}}/token\" }}, X-B = \"CANARY-2\" }} }}"
    );
    let loaded = folder.load(&text)??;
    assert!(!format!("{:?}", loaded.config).contains("CANARY"));
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let told = warnings.iter().any(|warning| {
        warning.contains("irp.routes.a.extra_headers.X-A.value_file")
            && warning.contains("can be read by every user")
    });
    assert!(told, "{warnings:#?}");
    assert!(warnings.iter().all(|warning| !warning.contains("CANARY")));
    Ok(())
}

const TAXPAYER: &str = r#"
[[taxpayer]]
gstin = "29AAGCE4783K1Z1"
client = "acme"
username = "u"
password = "p"
"#;

fn accounts(
    folder: &Folder,
    config: &Config,
    client: &str,
    taxpayer: &str,
) -> Result<Result<Loaded, ConfigFaults>> {
    let text = format!("[[client]]\nname = \"acme\"\n{client}\n{taxpayer}");
    let path = folder.write("credentials.toml", text)?;
    Ok(credentials::load(&path, &config.irp))
}

#[test]
fn client_has_what_its_route_wants() -> Result<()> {
    let folder = Folder::new()?;
    let config = loaded(&folder, TWO_ROUTES)?;
    const PAIR: &str = "client_id = \"ID\"\nclient_secret = \"s\"";
    const SUBSCRIBER: &str = "email = \"tax@acme.example\"\nip_address = \"203.0.113.7\"";
    for (client, route) in [
        (PAIR.to_owned(), None),
        ("route = \"cleartax\"".to_owned(), Some("cleartax")),
        (
            format!("route = \"whitebooks\"\n{PAIR}\n{SUBSCRIBER}"),
            Some("whitebooks"),
        ),
    ] {
        let loaded = accounts(&folder, &config, &client, TAXPAYER)?.with_context(|| client)?;
        assert_eq!(loaded.warnings, []);
        let account = loaded.credentials.accounts.values().next().context("one")?;
        assert_eq!(account.client.route.as_deref(), route);
        assert!(loaded.credentials.uses(route));
        assert!(!format!("{account:?}").contains("acme.example"));
    }
    Ok(())
}

#[test]
fn client_that_does_not_fit_its_route_is_told_so() -> Result<()> {
    let folder = Folder::new()?;
    let config = loaded(&folder, TWO_ROUTES)?;
    const PAIR: &str = "client_id = \"ID\"\nclient_secret = \"s\"\n";
    const BOOKS: &str = "route = \"whitebooks\"\nclient_id = \"ID\"\nclient_secret = \"s\"\n";
    for (client, keys, part) in [
        ("", vec!["client_id", "client_secret"], "is missing"),
        (
            "route = \"clear\"\n",
            vec!["route"],
            "name one of: cleartax, whitebooks",
        ),
        (BOOKS, vec!["email", "ip_address"], "is missing"),
        (
            &format!("{BOOKS}email = \"acme.example\"\nip_address = \"203.0.113.7\""),
            vec!["email"],
            "is not an e-mail address",
        ),
        (
            &format!("{BOOKS}email = \"t@acme.example\"\nip_address = \"203.0.113\""),
            vec!["ip_address"],
            "is not an IP address",
        ),
        // The route was forgotten: what is meant for one gateway must not go to another.
        (
            &format!("{PAIR}email = \"t@acme.example\"\nip_address = \"203.0.113.7\""),
            vec!["email", "ip_address"],
            "route = \"NAME\"",
        ),
    ] {
        let faults = accounts(&folder, &config, client, TAXPAYER)?.unwrap_err();
        let found: Vec<&str> = faults
            .faults
            .iter()
            .map(|fault| fault.key.as_str())
            .collect();
        let expected: Vec<String> = keys
            .iter()
            .map(|key| format!("client[acme].{key}"))
            .collect();
        assert_eq!(found, expected, "{client}");
        for fault in &faults.faults {
            assert!(fault.to_string().contains(part), "{client}: {fault}");
        }
    }
    let loaded = accounts(
        &folder,
        &config,
        &format!("route = \"cleartax\"\n{PAIR}"),
        TAXPAYER,
    )??;
    let warned: Vec<&str> = loaded
        .warnings
        .iter()
        .map(|fault| fault.key.as_str())
        .collect();
    assert_eq!(
        warned,
        ["client[acme].client_id", "client[acme].client_secret"]
    );
    Ok(())
}

#[test]
fn password_fits_the_login_of_its_route() -> Result<()> {
    let folder = Folder::new()?;
    let config = loaded(&folder, TWO_ROUTES)?;
    const BOOKS: &str = "route = \"whitebooks\"\nclient_id = \"ID\"\nclient_secret = \"s\"\nemail = \"t@acme.example\"\nip_address = \"203.0.113.7\"";
    let with = |password: &str| TAXPAYER.replace("\"p\"", &format!("\"{password}\""));
    let long = "p".repeat(80);
    // Nothing is sealed there, so nothing has to fit into a key.
    assert!(accounts(&folder, &config, BOOKS, &with(&long))?.is_ok());
    let faults = accounts(&folder, &config, BOOKS, &with("pä"))?.unwrap_err();
    assert!(faults.to_string().contains("in a header"), "{faults}");
    let faults = accounts(&folder, &config, "route = \"cleartax\"", &with(&long))?.unwrap_err();
    assert!(
        faults.to_string().contains("take 81 characters together"),
        "{faults}"
    );
    Ok(())
}

#[test]
fn without_routes_a_client_that_names_one_is_told_where_to_describe_it() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write(
        "credentials.toml",
        format!("[[client]]\nname = \"acme\"\nroute = \"x\"\nclient_id = \"a\"\nclient_secret = \"b\"\n{TAXPAYER}"),
    )?;
    let faults = credentials::load(&path, Environment::Production).unwrap_err();
    assert!(faults.to_string().contains("[irp.routes.NAME]"), "{faults}");
    Ok(())
}
