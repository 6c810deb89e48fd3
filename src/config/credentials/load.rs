//! The credentials file, or a folder with one file per GSTIN.
//!
//! The rule: everything or nothing. A reload must never lose a taxpayer because a file was half written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::client::{ClientDraft, NO_HEADER, client, fits_a_header, must_fit_a_header};
use super::{Account, Client, Credentials, LONGEST_LOGIN_BYTES, Secret, Terms};
use crate::config::fault::{ConfigFaults, Fault, Source};
use crate::config::findings::Findings;
use crate::config::section::Section;
use crate::config::setting::quoted;
use crate::config::{Environment, files, tree};
use crate::gstin::Gstin;

/// Credentials without fault, and what was noticed in them all the same.
#[derive(Debug)]
pub struct Loaded {
    /// The accounts, at least one.
    pub credentials: Credentials,
    /// Allowed, and probably not meant.
    pub warnings: Vec<Fault>,
}

/// A reading of the credentials: what came of it, and which files it depends on.
#[derive(Debug)]
pub struct Reading {
    /// The accounts, or all faults.
    pub result: Result<Loaded, ConfigFaults>,
    /// Every file that was opened, or could not be: credentials and secrets. A change of one of them, or of the
    /// folder that was read, may change the result.
    pub files: BTreeSet<PathBuf>,
}

/// Reads a credentials file, or all `*.toml` files of a folder as if they were one; clients may be in any of them.
///
/// Relative paths of secret files start at the folder of the file that names them. In production, a GSTIN with a
/// wrong check digit is a typing mistake; the sandbox hands such numbers out. Clients may name the routes of `terms`.
///
/// # Errors
/// All faults, not just the first.
pub fn load(path: &Path, terms: impl Into<Terms>) -> Result<Loaded, ConfigFaults> {
    read(path, terms).result
}

/// As [`load`], and tells which files the result depends on.
///
/// Reads on a thread of its own: had what reading takes been taken among what is kept, the allocator could not give it
/// back.
pub fn read(path: &Path, terms: impl Into<Terms>) -> Reading {
    let terms = terms.into();
    let reading = thread::scope(|scope| scope.spawn(|| read_here(path, terms)).join());
    let Reading { result, files } = match reading {
        Ok(reading) => reading,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let result = result.map(|loaded| Loaded {
        credentials: loaded.credentials.copied_apart(),
        ..loaded
    });
    Reading { result, files }
}

/// As [`read`], on this thread.
pub fn read_here(path: &Path, terms: impl Into<Terms>) -> Reading {
    let terms = terms.into();
    let findings = Findings::default();
    let mut drafts = Drafts::default();
    for file in toml_files(path, &findings) {
        read_file(&file, &terms, &findings, &mut drafts);
    }
    let credentials = drafts.link(path, terms.environment, &findings);
    let files = findings.opened();
    let result = findings.finish().map(|warnings| Loaded {
        credentials,
        warnings,
    });
    Reading { result, files }
}

/// What a reading of this file comes past, for the published schema.
#[cfg(test)]
pub(in crate::config) fn findings_of(file: &Path, terms: &Terms) -> Findings {
    let findings = Findings::default();
    read_file(file, terms, &findings, &mut Drafts::default());
    findings
}

fn toml_files(path: &Path, findings: &Findings) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut files: Vec<PathBuf> = match entries {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
        Err(e) => {
            note_file(findings, path, &format!("cannot be listed: {e}"));
            return Vec::new();
        }
    };
    // Hidden entries are how orchestrators swap mounted secrets; folders hold the secrets themselves.
    files.retain(|file| !is_hidden(file) && !file.is_dir());
    files.sort();
    let (toml, other): (Vec<PathBuf>, Vec<PathBuf>) = files
        .into_iter()
        .partition(|file| file.extension().is_some_and(|e| e == "toml"));
    for file in other {
        let source = Source::file(&Arc::from(file));
        findings.warn(
            source,
            "",
            "is not read",
            "let its name end in .toml, or move it elsewhere",
        );
    }
    toml
}

fn is_hidden(file: &Path) -> bool {
    file.file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn note_file(findings: &Findings, path: &Path, problem: &str) {
    let source = Source::file(&Arc::from(path));
    let remedy =
        "create it, or set `credentials.path` to the file or folder that holds the credentials";
    findings.fault(source, "", problem, remedy);
}

fn read_file(file: &Path, terms: &Terms, findings: &Findings, drafts: &mut Drafts) {
    findings.open(file);
    let text = match files::read_text(file) {
        Ok(text) => text,
        Err(problem) => {
            drafts.is_partial = true;
            return note_file(findings, file, &problem);
        }
    };
    let path: Arc<Path> = Arc::from(file);
    let mut reader = FileReader {
        before: (drafts.clients.len(), drafts.taxpayers.len()),
        path: &path,
        terms,
        findings,
        drafts,
    };
    // Ten thousand accounts at once would take fifty megabytes for a moment.
    match tree::parts(&path, &text, &[CLIENT, TAXPAYER]) {
        Some(parts) => parts.for_each(|part| reader.read(part)),
        None => reader.read(tree::whole(&text)),
    }
}

/// The lists of a credentials file.
const CLIENT: &str = "client";
const TAXPAYER: &str = "taxpayer";

/// Reads one file, part by part.
struct FileReader<'a> {
    path: &'a Arc<Path>,
    terms: &'a Terms,
    findings: &'a Findings,
    drafts: &'a mut Drafts,
    /// How many drafts of each list are of other files.
    before: (usize, usize),
}

impl FileReader<'_> {
    fn read(&mut self, part: tree::Part<'_>) {
        let (root, faults) = tree::parse(self.path, part);
        self.drafts.is_partial |= !faults.is_empty();
        self.findings.syntax(faults);
        let base = self.path.parent().unwrap_or(Path::new(""));
        let source = Source::file(self.path);
        let Drafts {
            clients, taxpayers, ..
        } = &mut *self.drafts;
        let (others_clients, others_taxpayers) = self.before;
        Section::read_root(self.findings, source, base, root, |root| {
            let number = clients.len() - others_clients;
            clients.extend(root.tables(CLIENT, number, |s| client(s, self.terms)));
            let number = taxpayers.len() - others_taxpayers;
            taxpayers.extend(root.tables(TAXPAYER, number, taxpayer));
        });
    }
}

/// What was read, entry by entry; a part that is at fault is missing.
#[derive(Default)]
struct Drafts {
    clients: Vec<ClientDraft>,
    taxpayers: Vec<TaxpayerDraft>,
    /// Something could not be read, so that what seems missing may be there.
    is_partial: bool,
}

struct TaxpayerDraft {
    source: Source,
    /// How faults call the entry.
    key: String,
    gstin: Option<Gstin>,
    client: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    /// Where the password is set.
    password_at: Source,
}

fn taxpayer(s: &mut Section<'_>) -> TaxpayerDraft {
    let number: Option<String> = s.required("gstin", "write the taxpayer's GSTIN");
    let gstin = number.and_then(|number| {
        let gstin = number.parse::<Gstin>();
        gstin
            .map_err(|e| {
                s.fault(
                    "gstin",
                    &format!("{} is no GSTIN", quoted(&number)),
                    &e.to_string(),
                )
            })
            .ok()
    });
    if let Some(gstin) = gstin {
        s.rename(gstin.as_str());
    }
    let client = s.required("client", "write the name of one of the [[client]] entries");
    let username: Option<String> = s.required(
        "username",
        "write the API user that was created for this GSTIN and client",
    );
    let password = s.required_secret("password");
    must_fit_a_header(s, "username", username.as_deref());
    let password_at = s.source_of("password");
    if let Some(password) = &password
        && password.expose().trim() != password.expose()
    {
        let remedy = "remove it, unless it was set so at the portal";
        s.warn("password", "begins or ends with a space", remedy);
    }
    TaxpayerDraft {
        source: s.source().clone(),
        key: s.key(""),
        gstin,
        client,
        username,
        password,
        password_at,
    }
}

impl Drafts {
    /// Joins taxpayers with their clients and notes what does not join.
    fn link(self, path: &Path, environment: Environment, findings: &Findings) -> Credentials {
        if self.taxpayers.is_empty() && !self.is_partial {
            note_file(findings, path, "lists no [[taxpayer]]");
        }
        let (clients, unused) = unique_clients(self.clients, findings);
        let mut links = Links {
            clients,
            unused,
            seen: HashMap::new(),
            findings,
            environment,
            is_partial: self.is_partial,
        };
        let accounts = self
            .taxpayers
            .into_iter()
            .filter_map(|draft| links.account(draft));
        let accounts = accounts
            .map(|account| (account.gstin, Arc::new(account)))
            .collect();
        links.warn_of_unused();
        Credentials { accounts }
    }
}

type Clients = BTreeMap<String, Option<Arc<Client>>>;

/// Clients by name, without value where one is at fault, and where each of them is.
fn unique_clients(
    drafts: Vec<ClientDraft>,
    findings: &Findings,
) -> (Clients, BTreeMap<String, Source>) {
    let (mut clients, mut sources) = (Clients::new(), BTreeMap::<String, Source>::new());
    for ClientDraft {
        source,
        name,
        means,
    } in drafts
    {
        let Some(name) = name else { continue };
        if let Some(first) = sources.get(&name) {
            let key = format!("client[{name}].name");
            findings.fault(
                source,
                &key,
                &format!("is already used at {first}"),
                "give each client a name of its own",
            );
            continue;
        }
        sources.insert(name.clone(), source);
        let client = means.map(|means| {
            Arc::new(Client {
                name: name.clone(),
                id: means.id,
                secret: means.secret,
                route: means.route,
                subscriber: means.subscriber,
            })
        });
        clients.insert(name, client);
    }
    (clients, sources)
}

struct Links<'f> {
    clients: Clients,
    unused: BTreeMap<String, Source>,
    seen: HashMap<Gstin, Source>,
    findings: &'f Findings,
    environment: Environment,
    is_partial: bool,
}

impl Links<'_> {
    fn account(&mut self, draft: TaxpayerDraft) -> Option<Account> {
        let client = self.client_of(&draft);
        if let Some(client) = &client {
            self.judge_login(&draft, client);
        }
        let gstin = draft.gstin?;
        self.judge_gstin(gstin, &draft);
        Some(Account {
            gstin,
            client: client?,
            username: draft.username?,
            password: draft.password?,
        })
    }

    fn client_of(&mut self, draft: &TaxpayerDraft) -> Option<Arc<Client>> {
        let name = draft.client.as_ref()?;
        self.unused.remove(name);
        if let Some(client) = self.clients.get(name) {
            return client.clone();
        }
        if !self.is_partial {
            let problem = format!("names {}, which no [[client]] is called", quoted(name));
            let names: Vec<&str> = self.clients.keys().map(String::as_str).collect();
            let remedy = format!("add that client, or name one of: {}", names.join(", "));
            self.fault(draft, "client", &problem, &remedy);
        }
        None
    }

    /// A login is sealed in the portal's own contract, and made of headers in MasterGST's.
    fn judge_login(&self, draft: &TaxpayerDraft, client: &Client) {
        let (Some(username), Some(password)) = (&draft.username, &draft.password) else {
            return;
        };
        let used = super::escaped_bytes(username) + super::escaped_bytes(password.expose());
        let (problem, remedy) = match &client.subscriber {
            None if used > LONGEST_LOGIN_BYTES => (
                format!(
                    "and `username` take {used} characters together; the portal's encrypted login holds {LONGEST_LOGIN_BYTES}"
                ),
                "choose a shorter password at the portal",
            ),
            Some(_) if !fits_a_header(password.expose()) => (
                NO_HEADER.to_owned(),
                "choose one of plain ASCII characters: this client's route sends it in a header",
            ),
            None | Some(_) => return,
        };
        let key = format!("{}password", draft.key);
        let at = draft.password_at.clone();
        self.findings.fault(at, &key, &problem, remedy);
    }

    fn judge_gstin(&mut self, gstin: Gstin, draft: &TaxpayerDraft) {
        if let Some(first) = self.seen.get(&gstin) {
            let problem = format!("is already listed at {first}");
            self.fault(draft, "gstin", &problem, "keep one user per GSTIN");
        } else {
            self.seen.insert(gstin, draft.source.clone());
        }
        if self.environment == Environment::Production && !gstin.has_valid_check_digit() {
            let remedy = "correct the number; made-up numbers need irp.environment = \"sandbox\"";
            self.fault(draft, "gstin", "has a wrong check digit", remedy);
        }
    }

    fn fault(&self, draft: &TaxpayerDraft, key: &str, problem: &str, remedy: &str) {
        let key = format!("{}{key}", draft.key);
        self.findings
            .fault(draft.source.clone(), &key, problem, remedy);
    }

    fn warn_of_unused(self) {
        for (name, source) in self.unused {
            let key = format!("client[{name}]");
            self.findings.warn(
                source,
                &key,
                "is used by no [[taxpayer]]",
                "remove it, or refer to it",
            );
        }
    }
}
