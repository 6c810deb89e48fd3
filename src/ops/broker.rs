//! The part of `check` that asks the broker, and what `run` wants to know of it before it starts.
//!
//! One rule: what was seen is judged by `judge`, the same for both.

mod judge;

use lapin::Connection;

use super::check::{Finding, Verdict};
use super::tls::remedy_for;
use crate::broker::{
    BrokerError, Deviation, Endpoint, Greeting, How, JOBS_QUEUE, Management, ManagementError,
    Survey, Topology, URGENT_QUEUE, is_heard, is_readable, timed,
};
use crate::config::{BrokerConfig, Config};
use crate::job::short;
use judge::{Needs, judge, missing};

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

/// What there is to say of the topology before a worker starts: the same that `check` says of it. With
/// `topology.declare`, what is missing is declared.
///
/// # Errors
/// When the broker is lost.
pub async fn before_run(
    config: &Config,
    endpoint: &Endpoint,
    topology: &Topology,
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
    let differs = |deviation: &Deviation| deviation.how != How::Missing;
    if survey.deviations.iter().any(differs) {
        // Whether it may stay so is judged now, and not at every reconnect.
        topology.tolerate_differences();
    }
    let needs = Needs::of(config, greeting.release());
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
    let (deviations, not_checked) = match seen {
        Ok(Some(seen)) => (topology.compare(&seen), None),
        Ok(None) => (survey.deviations, Some(only_amqp(&survey.uncompared))),
        Err(error) => (survey.deviations, Some(no_management(&error))),
    };
    let mut findings: Vec<Finding> = missing(&deviations, needs).into_iter().collect();
    let others = deviations.iter();
    findings.extend(others.filter_map(|deviation| judge(deviation, needs)));
    if findings.is_empty() {
        findings.push(Finding::ok("queues and exchanges: all there"));
    }
    findings.extend(not_checked);
    findings
}

fn only_amqp(uncompared: &[String]) -> Finding {
    let what = if uncompared.is_empty() {
        "policies, bindings and consumer time-outs of the queues: AMQP does not tell of them"
            .to_owned()
    } else {
        format!(
            "types, arguments, policies and bindings of {}: AMQP tells of them only to who may configure them",
            uncompared.join(", ")
        )
    };
    let remedy = "set broker.management_url, with a user who has the tag `monitoring`";
    Finding::new(Verdict::Skipped, what, remedy)
}

fn no_management(error: &ManagementError) -> Finding {
    let what = format!("broker.management_url: {error}; policies and bindings were not looked at");
    let remedy = match error {
        ManagementError::Unreachable(cause) => remedy_for(cause, "broker.ca_file")
            .unwrap_or("enable the plugin rabbitmq_management, and correct host and port"),
        ManagementError::Refused(_) => {
            "correct user and password, and give the user the tag `monitoring`"
        }
        ManagementError::Unreadable(_) => "name the management API of RabbitMQ",
    };
    Finding::new(Verdict::Warning, what, remedy)
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
    let text = error.to_string();
    let remedy = if text.contains("ACCESS_REFUSED") {
        "correct user and password in broker.url, or create the user"
    } else if text.contains("NOT_ALLOWED") {
        "correct the virtual host in broker.url, create it, or permit this user to use it"
    } else {
        return unreachable(endpoint, error);
    };
    let what = format!("broker {}: {text}", endpoint.address());
    Finding::new(Verdict::Failed, what, remedy)
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
    let unwritable = topology.unwritable(connection, endpoint).await?;
    if unwritable.is_empty() {
        let what = format!("permissions of {user}: publishes wherever a worker has to");
        findings.push(Finding::ok(what));
    }
    for (exchange, why) in unwritable {
        let what = format!("permissions of {user}: cannot publish to exchange {exchange} ({why})");
        let remedy = if why.contains("user_id") {
            "write the name of the broker's user into broker.url: with `publishers`, every message says who published it"
        } else {
            "permit it to write there: `irn-worker topology export --users` prints what a worker needs"
        };
        findings.push(Finding::new(Verdict::Failed, what, remedy));
    }
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
    Ok(findings)
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
