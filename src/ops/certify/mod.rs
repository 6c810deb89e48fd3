//! `certify`: carries the portal's onboarding test cases out, and writes the summary test report that it asks for before it
//! admits somebody to production.
//!
//! One rule: nothing is asked twice. What is done is written down before the next call is made, and an interrupted run
//! goes on where it stopped.

mod answers;
mod cases;
mod journal;
mod portal;
mod report;
mod run;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::config::credentials::{Account, Credentials};
use crate::config::{ClientPair, Config, Environment, IrpConfig, Provider, Rate};
use crate::gstin::Gstin;
use crate::irp::IrpConfigFault;

pub use cases::{Api, Kind, WANTED};
pub use journal::{Answer, JournalError, Record, Verdict};
pub use report::{Files, Report, Tally};

use cases::Terms;
use journal::{Begun, History, Journal};
use portal::Portal;

/// Buyers for a sandbox that knows them: NIC's own sample buyer, and another of the GSTINs that its sandbox hands out, for
/// sellers of the first one's state.
const TEST_BUYERS: [&str; 2] = ["29AWGPV7107B1Z1", "37ARZPT4384Q1MT"];

/// A registration cannot be cancelled later (NIC, "Cancel IRN"), and the run takes some time itself.
const TOO_OLD: SignedDuration = SignedDuration::from_hours(22);

/// Document numbers have at most 16 characters, of which a case's own part takes five, and one case puts another in front.
const PREFIX_CHARS: usize = 10;

/// What is asked for on the command line. What is not given is what an interrupted run was begun with, or the default.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose account; needed where there are several.
    pub gstin: Option<Gstin>,
    /// Who buys.
    pub buyer: Option<Gstin>,
    /// The run's directory.
    pub out: PathBuf,
    /// How often the portal is called at most.
    pub rate: Rate,
    /// Cases of each kind for each API.
    pub cases: Option<u32>,
    /// Logins that are to be refused.
    pub failed_logins: Option<u32>,
    /// What every document's number begins with.
    pub prefix: Option<String>,
    /// In production too.
    pub yes: bool,
}

/// Why a run came to a stop. What was done stays done: the same command goes on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Halt {
    /// A signal.
    #[error("interrupted; the same command goes on from here")]
    Interrupted,
    /// The portal.
    #[error("the portal cannot be worked with: {0}; the same command goes on from here")]
    Unreachable(String),
    /// The account.
    #[error(
        "the portal does not accept the account: {0}; once that is put right, the same command goes on from here"
    )]
    Refused(String),
    /// The taxpayer's error budget.
    #[error(
        "this run has been answered with {0} errors, all that limits.error_budget_per_gstin allows; the same command goes on once that allows it"
    )]
    ErrorBudget(usize),
    /// The run's directory.
    #[error("what has been done cannot be written down, so nothing more is done: {0}")]
    Journal(String),
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The options.
    #[error("{0}")]
    Misused(String),
    /// `[irp]`
    #[error("{0}; {remedy}", remedy = .0.remedy)]
    Irp(#[from] IrpConfigFault),
    /// The run's directory.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A report.
    #[error("{}: {error}", .file.display())]
    Report {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
}

/// A run that has come to its end, or to a stop.
#[derive(Debug)]
pub struct Outcome {
    /// All that is known.
    pub report: Report,
    /// Where it was written to.
    pub files: Files,
    /// Why the rest was left.
    pub halt: Option<Halt>,
}

/// Carries out what is left of the run in `request.out`, or begins one there, until it is done or `stop` says so.
///
/// # Errors
/// When nothing could be begun.
pub async fn certify(
    config: &Config,
    credentials: &Credentials,
    request: &Request,
    stop: CancellationToken,
) -> Result<Outcome, CertifyError> {
    let account = account(credentials, request.gstin)?;
    let route = route_of(&config.irp, &account)?;
    let prefix = request.prefix.as_deref().map(checked_prefix).transpose()?;
    if route.environment == Environment::Production && !request.yes {
        return Err(CertifyError::Misused(PRODUCTION.to_owned()));
    }
    // Before a directory is made for it.
    let new = match journal::is_begun(&request.out) {
        true => None,
        false => Some(begun(&route, &account, request, prefix.clone())?),
    };
    let (mut journal, history) = Journal::open(&request.out)?;
    let history = match history {
        Some(history) => {
            agree(&history.begun, request, &route, &account)?;
            history
        }
        None => {
            let begun = match new {
                Some(begun) => begun,
                None => begun(&route, &account, request, prefix)?,
            };
            journal.begin(&begun)?;
            History {
                begun,
                records: Vec::new(),
                in_doubt: Default::default(),
            }
        }
    };
    let portal = Portal::new(config, &route, &account, request.rate, stop)?;
    let (history, halt) = run::run(config, portal, journal, history).await?;
    let report = Report::of(&history);
    let files = report.write(&request.out)?;
    Ok(Outcome {
        report,
        files,
        halt,
    })
}

/// Writes the reports of the run in this directory, as far as it has come.
///
/// # Errors
/// When there is none, or the files cannot be written.
pub fn report(dir: &std::path::Path) -> Result<(Report, Files), CertifyError> {
    let report = Report::of(&journal::history(dir)?);
    let files = report.write(dir)?;
    Ok((report, files))
}

const PRODUCTION: &str = "irp.environment is production: every document of these cases would be a tax document, and every refusal an error of the taxpayer; \
    take the configuration of a sandbox, or, if the portal really asks for this, give --yes";

/// The account that is meant.
fn account(credentials: &Credentials, gstin: Option<Gstin>) -> Result<Arc<Account>, CertifyError> {
    let misused = |text: String| Err(CertifyError::Misused(text));
    let mut gstins: Vec<_> = credentials.accounts.keys().collect();
    gstins.sort_unstable();
    let gstin = match (gstin, gstins.as_slice()) {
        (Some(gstin), _) => gstin,
        (None, [only]) => **only,
        (None, _) => {
            let gstins: Vec<String> = gstins.iter().map(ToString::to_string).collect();
            return misused(format!(
                "name one of the accounts with --gstin: {}",
                gstins.join(", ")
            ));
        }
    };
    match credentials.accounts.get(&gstin) {
        Some(account) => Ok(Arc::clone(account)),
        None => misused(format!("{gstin} has no account in the credentials file")),
    }
}

/// The route that the account's client takes.
fn route_of(irp: &IrpConfig, account: &Account) -> Result<IrpConfig, CertifyError> {
    let mut routes = irp.each_route().into_iter();
    let taken = routes.find(|route| route.route_name == account.client.route);
    // What one gateway is to see, another is not.
    taken.ok_or_else(|| {
        CertifyError::Misused(format!(
            "the client of {} takes a route that [irp.routes] does not have",
            account.gstin
        ))
    })
}

fn environment(irp: &IrpConfig) -> &'static str {
    match irp.environment {
        Environment::Sandbox => "sandbox",
        Environment::Production => "production",
    }
}

/// A new run.
fn begun(
    irp: &IrpConfig,
    account: &Account,
    request: &Request,
    prefix: Option<String>,
) -> Result<Begun, CertifyError> {
    let at = now();
    let buyer = match request.buyer {
        Some(buyer) => buyer,
        None => default_buyer(irp, account.gstin)?,
    };
    if buyer == account.gstin {
        return Err(CertifyError::Misused(
            "--buyer must not be the account's own GSTIN".to_owned(),
        ));
    }
    Ok(Begun {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        portal: irp.route.base_url.clone(),
        environment: environment(irp).to_owned(),
        route: irp.route_name.as_deref().map(str::to_owned),
        terms: Terms {
            gstin: account.gstin,
            buyer,
            date: india().to_datetime(at).date(),
            prefix: prefix.unwrap_or_else(|| base36(at.as_second())),
            cases: request.cases.unwrap_or(WANTED),
            failed_logins: request.failed_logins.unwrap_or(WANTED),
            sends_client_pair: irp.route.provider == Provider::MasterGst
                || irp.route.client_pair == ClientPair::Send,
        },
        at,
    })
}

/// Nobody is invoiced in production who was not named.
fn default_buyer(irp: &IrpConfig, seller: Gstin) -> Result<Gstin, CertifyError> {
    let known: Vec<Gstin> = TEST_BUYERS
        .iter()
        .filter_map(|gstin| gstin.parse().ok())
        .collect();
    let buyer = known
        .into_iter()
        .find(|buyer| buyer.state_code() != seller.state_code());
    buyer
        .filter(|_| irp.environment == Environment::Sandbox)
        .ok_or_else(|| {
            CertifyError::Misused("name the buyer of the documents with --buyer".to_owned())
        })
}

/// An interrupted run goes on with what it was begun with, against the same portal, while its documents can still be
/// cancelled.
fn agree(
    begun: &Begun,
    request: &Request,
    irp: &IrpConfig,
    account: &Account,
) -> Result<(), CertifyError> {
    let Begun { terms, .. } = begun;
    let differs = |what: &str, was: &dyn std::fmt::Display| {
        let text = format!(
            "the run in {} was begun with {what} {was}; go on with that, or begin another one with another --out",
            request.out.display()
        );
        Err(CertifyError::Misused(text))
    };
    if begun.version != env!("CARGO_PKG_VERSION") {
        return differs("version", &begun.version);
    }
    if begun.portal != irp.route.base_url || begun.environment != environment(irp) {
        return differs(
            "the portal",
            &format!("{} ({})", begun.portal, begun.environment),
        );
    }
    if terms.gstin != account.gstin {
        return differs("--gstin", &terms.gstin);
    }
    if request.buyer.is_some_and(|buyer| buyer != terms.buyer) {
        return differs("--buyer", &terms.buyer);
    }
    if request
        .prefix
        .as_ref()
        .is_some_and(|prefix| *prefix != terms.prefix)
    {
        return differs("--prefix", &terms.prefix);
    }
    if request.cases.is_some_and(|cases| cases != terms.cases) {
        return differs("--cases", &terms.cases);
    }
    if request
        .failed_logins
        .is_some_and(|failed| failed != terms.failed_logins)
    {
        return differs("--failed-logins", &terms.failed_logins);
    }
    Ok(())
}

/// What a document's number may begin with (INV-01 schema, `DocDtls.No`).
fn checked_prefix(prefix: &str) -> Result<String, CertifyError> {
    let starts = prefix.starts_with(|c: char| c.is_ascii_uppercase() || matches!(c, '1'..='9'));
    let rest = prefix
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '/' | '-'));
    if starts && rest && prefix.len() <= PREFIX_CHARS {
        return Ok(prefix.to_owned());
    }
    Err(CertifyError::Misused(format!(
        "--prefix: at most {PREFIX_CHARS} capital letters, digits, / and -, the first one a letter or 1 to 9"
    )))
}

/// Another prefix for every second: six characters, the first one a letter, for the next decades.
fn base36(seconds: i64) -> String {
    let mut rest = u64::try_from(seconds).unwrap_or_default();
    let mut text = Vec::new();
    while rest > 0 {
        let digit = u32::try_from(rest % 36).unwrap_or_default();
        text.push(
            char::from_digit(digit, 36)
                .unwrap_or('0')
                .to_ascii_uppercase(),
        );
        rest /= 36;
    }
    text.iter().rev().collect()
}

/// To the millisecond: nobody reads more of it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// UTC+05:30, all year.
fn india() -> TimeZone {
    TimeZone::fixed(Offset::from_seconds(19_800).unwrap_or(Offset::UTC))
}
