//! The part of `check` that asks the broker, and what `run` wants to know of it before it starts.
//!
//! One rule: what was seen is judged by `judge`, the same for both.

mod judge;

use lapin::Connection;

use super::check::{Finding, Verdict};
use super::tls::remedy_for;
use crate::broker::{
    BrokerError, CONTROL_EXCHANGE, CONTROL_LOG, Endpoint, Greeting, How, JOBS_QUEUE, Management,
    ManagementError, Survey, Topology, URGENT_QUEUE, is_heard, is_readable, timed,
};
use crate::config::{BrokerConfig, Config};
use crate::job::short;
use judge::{Needs, can_lose, judge, missing};

/// The oldest release with quorum queues that dead-letter at-least-once.
const OLDEST: (u32, u32) = (3, 10);

/// Asks the broker everything that can be asked.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let endpoint = match Endpoint::try_new(&config.broker, "check") {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let remedy = "correct the section [broker]";
            return vec![Finding::new(
                Verdict::Misconfigured,
                error.to_string(),
                remedy,
            )];
        }
    };
    let greeting = match endpoint.greeting().await {
        Ok(greeting) => greeting,
        Err(error) => return vec![unreachable(&endpoint, &error)],
    };
    let mut findings = vec![release(&endpoint, &greeting)];
    let connection = match endpoint.connect("check").await {
        Ok(connection) => connection,
        Err(error) => {
            findings.push(refused(&endpoint, &error));
            return findings;
        }
    };
    findings.push(Finding::ok(format!(
        "broker {}: connected as {}",
        endpoint.address(),
        endpoint.user()
    )));
    let needs = Needs::of(config, greeting.release());
    match ask(config, &endpoint, &connection, needs).await {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(unreachable(&endpoint, &error)),
    }
    findings
}

async fn ask(
    config: &Config,
    endpoint: &Endpoint,
    connection: &Connection,
    needs: Needs,
) -> Result<Vec<Finding>, BrokerError> {
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let survey = topology.survey(connection, false).await?;
    let mut findings = judged(&config.broker, endpoint, &topology, survey, needs).await;
    findings.extend(rights(needs, endpoint, &topology, connection).await?);
    findings.push(consumer_timeout(needs));
    Ok(findings)
}

/// What there is to say of the topology before a worker starts. With `topology.declare`, what is missing is declared. From
/// then on what loses no messages may stay as it is, with `allow_unsafe` anything.
///
/// # Errors
/// When the broker is lost.
pub async fn before_run(
    config: &Config,
    endpoint: &Endpoint,
    topology: &Topology,
    allow_unsafe: bool,
) -> Result<Vec<Finding>, BrokerError> {
    let greeting = endpoint.greeting().await?;
    let connection = endpoint.connect("check").await?;
    let survey = if config.topology.declare {
        topology.complete(&connection).await?
    } else {
        topology.survey(&connection, false).await?
    };
    // What it has told holds, however it takes leave.
    drop(timed(connection.close(200, short("looked"))).await);
    let needs = Needs::of(config, greeting.release());
    // What it may start with, it may meet later: another release, or a person, has declared something otherwise.
    topology.tolerate(move |deviation| {
        // Pauses can be done without; without any other queue jobs would be done whose results go nowhere.
        let is_of_pauses = [CONTROL_EXCHANGE, CONTROL_LOG].contains(&deviation.name.as_str());
        let is_needed = deviation.how == How::Missing && !is_of_pauses;
        let loses = || judge(deviation, needs).is_some_and(|finding| finding.loses_messages);
        !is_needed && (allow_unsafe || !loses())
    });
    let mut findings = judged(&config.broker, endpoint, topology, survey, needs).await;
    findings.push(release(endpoint, &greeting));
    Ok(findings)
}

/// The management API tells more than the survey: where it answers, only its word counts.
async fn judged(
    config: &BrokerConfig,
    endpoint: &Endpoint,
    topology: &Topology,
    survey: Survey,
    needs: Needs,
) -> Vec<Finding> {
    let seen = match Management::try_new(config, endpoint.vhost()) {
        Ok(Some(management)) => management.see().await.map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    let unseen: Vec<&str> = survey.uncompared.iter().map(String::as_str).collect();
    let unseen = Unseen(unseen.into_iter().filter(|name| can_lose(name)).collect());
    let (deviations, not_seen) = match seen {
        Ok(Some(seen)) => (topology.compare(&seen), None),
        Ok(None) => (survey.deviations, Some(unseen.over_amqp_alone())),
        Err(error) => (survey.deviations, Some(unseen.without_management(&error))),
    };
    let mut findings: Vec<Finding> = missing(&deviations, needs).into_iter().collect();
    let others = deviations.iter();
    findings.extend(others.filter_map(|deviation| judge(deviation, needs)));
    if findings.is_empty() {
        findings.push(Finding::ok("queues and exchanges: all there"));
    }
    findings.extend(not_seen);
    findings
}

/// Exchanges and queues that are there, and of which AMQP does not tell this user how they are.
struct Unseen<'a>(Vec<&'a str>);

impl Unseen<'_> {
    fn over_amqp_alone(&self) -> Finding {
        let remedy = "set broker.management_url, with a user who has the tag `monitoring`";
        if self.0.is_empty() {
            let what = "policies, bindings and consumer time-outs of the queues: AMQP does not tell of them";
            return Finding::new(Verdict::Skipped, what, remedy);
        }
        self.may_lose("", remedy)
    }

    fn without_management(&self, error: &ManagementError) -> Finding {
        let remedy = match error {
            ManagementError::Unreachable(cause) => remedy_for(cause, "broker.ca_file")
                .unwrap_or("enable the plugin rabbitmq_management, and correct host and port"),
            ManagementError::Refused(_) => {
                "correct user and password, and give the user the tag `monitoring`"
            }
            ManagementError::Unreadable(_) => "name the management API of RabbitMQ",
        };
        let what = format!("broker.management_url: {error}; ");
        if self.0.is_empty() {
            let what = format!("{what}policies and bindings were not looked at");
            return Finding::new(Verdict::Warning, what, remedy);
        }
        self.may_lose(&what, remedy)
    }

    /// No fault was found, and none was looked for where the worst ones are.
    fn may_lose(&self, why: &str, remedy: &str) -> Finding {
        let what = format!(
            "{why}types, arguments, policies and bindings of {} cannot be seen, and may be such that messages are lost: AMQP \
             tells of them only to who may configure them",
            self.0.join(", ")
        );
        let remedy = format!("{remedy} (`topology export --users` has one, irn-monitor)");
        Finding::new(Verdict::Warning, what, remedy)
    }
}

fn release(endpoint: &Endpoint, greeting: &Greeting) -> Finding {
    let shown = |text: &str| text.escape_debug().to_string();
    let what = format!(
        "broker {}: {} {}",
        endpoint.address(),
        shown(&greeting.product),
        shown(&greeting.version)
    );
    if greeting.release().is_some_and(|release| release < OLDEST) {
        let remedy = "use RabbitMQ 3.10 or later: before, quorum queues lose what they dead-letter";
        return Finding::new(Verdict::Failed, what, remedy).losing_messages();
    }
    Finding::ok(what)
}

fn unreachable(endpoint: &Endpoint, error: &BrokerError) -> Finding {
    let text = error.to_string();
    let broken_off = [
        "reset by peer",
        "Broken pipe",
        "unexpected end",
        "close_notify",
    ];
    let remedy = if let Some(remedy) = remedy_for(&text, "broker.ca_file") {
        remedy
    } else if endpoint.is_encrypted() && broken_off.iter().any(|words| text.contains(words)) {
        // It sends its reason after what is then the end of the connection.
        "set broker.client_cert_file and broker.client_key_file, if the broker asks for a certificate; its log says what it does not accept"
    } else {
        "start the broker, or correct broker.url: host, port, and whether it is amqp:// or amqps://"
    };
    let what = format!("broker {}: {text}", endpoint.address());
    Finding::new(Verdict::Unreachable, what, remedy)
}

/// It was there a moment ago: it does not let us in.
fn refused(endpoint: &Endpoint, error: &BrokerError) -> Finding {
    match error {
        BrokerError::Refused { what, remedy } => {
            let what = format!("broker {}: {what}", endpoint.address());
            Finding::new(Verdict::Failed, what, *remedy)
        }
        BrokerError::Lost(_)
        | BrokerError::Malformed
        | BrokerError::Timeout(_)
        | BrokerError::Blocked
        | BrokerError::Topology { .. } => unreachable(endpoint, error),
    }
}

/// What this user may do. Tried, because only an administrator could look it up.
async fn rights(
    needs: Needs,
    endpoint: &Endpoint,
    topology: &Topology,
    connection: &Connection,
) -> Result<Vec<Finding>, BrokerError> {
    let user = endpoint.user().escape_debug().to_string();
    let mut findings = Vec::new();
    for queue in [JOBS_QUEUE, URGENT_QUEUE] {
        findings.push(match is_readable(connection, queue).await? {
            Some(true) => Finding::ok(format!("permissions of {user}: reads queue {queue}")),
            Some(false) => Finding::new(
                Verdict::Failed,
                format!("permissions of {user}: may not read queue {queue}"),
                "permit it to read there: `irn-worker topology export --users` prints what a worker needs",
            ),
            None => Finding::new(
                Verdict::Skipped,
                format!("permission of {user} to read queue {queue}: asking takes an empty queue that nobody reads"),
                "look at it on the management page, or check again when it is there, no job waits and no worker runs",
            ),
        });
    }
    if let Err(BrokerError::Topology { what, remedy }) = is_heard(connection, false).await {
        let what =
            format!("{what}: `resume`, and the replicas' word of their logins, are not heard");
        let remedy = if needs.declare && what.contains("NOT_FOUND") {
            "`run` will declare it, because topology.declare = true"
        } else {
            remedy
        };
        findings.push(Finding::new(Verdict::Warning, what, remedy));
    }
    // Last: a broker with an alarm answers nothing after it.
    findings.extend(publishing(&user, topology, connection, endpoint).await?);
    Ok(findings)
}

async fn publishing(
    user: &str,
    topology: &Topology,
    connection: &Connection,
    endpoint: &Endpoint,
) -> Result<Vec<Finding>, BrokerError> {
    let unwritable = match topology.unwritable(connection, endpoint).await {
        Ok(unwritable) => unwritable,
        Err(BrokerError::Blocked) => {
            let what = "the broker blocks publishers: it has a memory or disk alarm, and workers take no job until that is over";
            let remedy =
                "free memory or disk: `rabbitmq-diagnostics alarms` says which, and on which node";
            return Ok(vec![Finding::new(Verdict::Failed, what, remedy)]);
        }
        Err(error) => return Err(error),
    };
    if unwritable.is_empty() {
        let what = format!("permissions of {user}: publishes wherever a worker has to");
        return Ok(vec![Finding::ok(what)]);
    }
    let refused = unwritable.into_iter().map(|(exchange, why)| {
        let what = format!("permissions of {user}: cannot publish to exchange {exchange} ({why})");
        let remedy = if why.contains("user_id") {
            "write the name of the broker's user into broker.url: with `publishers`, every message says who published it"
        } else {
            "permit it to write there: `irn-worker topology export --users` prints what a worker needs"
        };
        Finding::new(Verdict::Failed, what, remedy)
    });
    Ok(refused.collect())
}

/// No interface of the broker tells what its configuration file says.
fn consumer_timeout(needs: Needs) -> Finding {
    let seconds = needs.consumer_timeout.as_secs();
    let what = format!(
        "consumer_timeout of the broker's nodes: no interface tells; this worker needs {seconds} s, and the default is 1800 s"
    );
    let remedy =
        "if rabbitmq.conf or advanced.config sets it, see that it is no shorter (in milliseconds)";
    Finding::new(Verdict::Skipped, what, remedy)
}
