//! One deliberate fault per row: each is found alone, and says where, which key, what and what to do.

use anyhow::Result;
use irn_worker::config::{Fault, Source};

use crate::support::Folder;

/// Text of the file, key at fault, part of the problem, part of the remedy.
type Row = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip] // one fault a line
const FAULTS: &[Row] = &[
    ("broker.url = \"localhost\"", "broker.url", "is not a URL", "amqp://"),
    ("broker.url = \"http://localhost\"", "broker.url", "not an amqp", "amqp://"),
    ("broker.url = \"amqp://\"", "broker.url", "names no host", "amqp://"),
    ("broker.url = \"amqp://[::1]\"", "broker.url", "IPv6", "host"),
    ("broker.url = \"amqp://localhost/\"", "broker.url", "empty name", "%2f"),
    ("broker.url = \"amqp://localhost?heartbeat=x\"", "broker.url", "parameter", "amqp://"),
    ("broker.url = 5672", "broker.url", "is a whole number, not text", "double quotes"),
    ("broker.url = \"\"", "broker.url", "is empty", "_file"),
    ("broker.url = \"amqp://h\"\nbroker.url_file = \"x\"", "broker.url", "beside `url_file`", "keep one"),
    ("broker.url_file = \"/nowhere/url\"", "broker.url_file", "cannot be read", "working directory"),
    ("broker.url_file = \"{dir}\"", "broker.url_file", "cannot be read", "working directory"),
    ("broker.ca_file = \"/nowhere/ca\"", "broker.ca_file", "cannot be read", "name a file"),
    ("broker.client_cert_file = \"{dir}/irp.pem\"", "broker.client_cert_file", "without `broker.client_key_file`", "both"),
    ("broker.client_key_file = \"{dir}/irp.pem\"", "broker.client_key_file", "without `broker.client_cert_file`", "both"),
    ("broker.management_url = \"amqp://h\"", "broker.management_url", "not an http", "monitoring"),
    ("broker.management_url = \"https://h\"", "broker.management_url", "names no user", "monitoring"),
    ("broker.url = \"amqps://h\"\npublishers.south.gstins = [\"29*\"]", "broker.url", "names no user", "auth_mechanism=external"),
    ("publishers = [\"south\"]", "publishers", "is a list, not a table", "[publishers.NAME]"),
    ("publishers.south = [\"29*\"]", "publishers.south", "is a list, not a table", "keys and values"),
    ("publishers.south = {}", "publishers.south.gstins", "missing or empty", "list of GSTINs"),
    ("publishers.south.gstins = []", "publishers.south.gstins", "missing or empty", "list of GSTINs"),
    ("publishers.south.gstins = [\"29*\", \"29AAGCE\"]", "publishers.south.gstins[1]", "`29AAGCE` is no GSTIN", "list of GSTINs"),
    ("publishers.south = { gstins = [\"29*\"], forwards = true }", "publishers.south.gstins", "of no use with `forwards`", "one of the two"),
    ("publishers.south = { gstins = [\"29*\"], reply = [\"x\"] }", "publishers.south.reply", "not a known key", "did you mean"),
    ("broker.prefetch = 70000", "broker.prefetch", "out of range", "65535"),
    ("broker.prefetch = \"128\"", "broker.prefetch", "is text", "without quotes"),
    ("broker.share_per_gstin = 0", "broker.share_per_gstin", "out of range", "from 1 to 100"),
    ("broker.share_per_gstin = 101", "broker.share_per_gstin", "out of range", "from 1 to 100"),
    ("broker.prefetch = 1.5", "broker.prefetch", "fraction", "whole number"),
    ("topology.declare = \"yes\"", "topology.declare", "cannot be read|is text", "`true` or `false`"),
    ("replies.default_queue = \"irn.jobs\"", "replies.default_queue", "worker's own", "irn.results"),
    ("replies.default_queue = \"amq.gen\"", "replies.default_queue", "reserved", "irn.results"),
    ("replies.allow = \"erp.*\"", "replies.allow", "is text, not a list", "list of globs"),
    ("replies.allow = [\"irn.results\", \"erp.[\"]", "replies.allow[1]", "not a glob", "erp.*"),
    ("credentials.path = \"\"", "credentials.path", "is empty", "path"),
    ("irp.environment = \"prod\"", "irp.environment", "`prod` is not a choice", "`sandbox` or `production`"),
    ("irp.provider = \"iris\"", "irp.provider", "`iris` is not a choice", "`nic` or `mastergst`"),
    ("#base_url", "irp.base_url", "is missing", "scheme and host"),
    ("irp.base_url = \"irp.example.in\"", "irp.base_url", "is not a URL", "https://"),
    ("irp.base_url = \"ftp://irp.example.in\"", "irp.base_url", "not an http or https URL", "https://"),
    ("irp.base_url = \"https://u:p@irp.example.in\"", "irp.base_url", "user or password", "scheme and host"),
    ("irp.base_url = \"https://irp.example.in?x=1\"", "irp.base_url", "query", "scheme and host"),
    ("irp.base_url = \"https://irp.example.in//a\"", "irp.base_url", "doubled slash", "scheme and host"),
    ("irp.base_url = \"https://irp.example.in/eicore/v1.03\"", "irp.base_url", "path of one call", "scheme and host"),
    ("irp.base_url = \"http://irp.example.in\"", "irp.base_url", "unencrypted", "https://"),
    ("irp.base_url = \"https://einv1api.gstsandbox.nic.in\"", "irp.base_url", "sandbox", "irp.environment"),
    ("irp.base_url = \"https://einvoice1.gst.gov.in\"", "irp.base_url", "web site", "https://api.einvoice1.gst.gov.in"),
    ("irp.base_url = \"https://api.einvoice1.gst.gov.in\"\nirp.environment = \"sandbox\"", "irp.base_url", "production", "sandbox host"),
    ("irp.failover_url = \"irp2.example.in\"", "irp.failover_url", "is not a URL", "https://"),
    ("irp.failover_url = \"http://irp2.example.in\"", "irp.failover_url", "unencrypted", "https://"),
    ("irp.failover_url = \"https://irp.example.in/\"", "irp.failover_url", "same portal", "the other portal"),
    ("irp.failover_url = \"https://einv2api.gstsandbox.nic.in\"", "irp.failover_url", "sandbox", "irp.environment"),
    ("irp.failover_public_key_file = \"{dir}/irp.pem\"", "irp.failover_public_key_file", "without `irp.failover_url`|of no use", "failover_url"),
    ("#irp.public_key_file", "irp.public_key_file", "is missing", "PEM"),
    ("irp.public_key_file = \"/nowhere/key.pem\"", "irp.public_key_file", "cannot be read", "name a file"),
    ("irp.public_key_file = \"{dir}\"", "irp.public_key_file", "is a folder", "name a file"),
    ("irp.signing_keys = \"key.pem\"", "irp.signing_keys", "is text, not a list", "list of paths"),
    ("irp.signing_keys = [\"/nowhere/*.pem\"]", "irp.signing_keys[0]", "names no file", "name a file"),
    ("irp.signing_keys = [{ file = \"{dir}/irp.pem\" }]", "irp.signing_keys[0].kid", "is missing", "`kid`"),
    ("irp.signing_keys = [{ file = \"{dir}/irp.pem\", kid = \"A\", use = \"sig\" }]", "irp.signing_keys[0].use", "not a known key", "list every key|did you mean"),
    ("irp.signatures = \"require\"", "irp.signatures", "no signing key", "irp.signing_keys"),
    ("irp.concurrency = 0", "irp.concurrency", "out of range", "from 1 to 32767"),
    ("irp.concurrency = 40000", "irp.concurrency", "out of range", "from 1 to 32767"),
    ("irp.connect_timeout = 5", "irp.connect_timeout", "is a whole number", "15s"),
    ("irp.connect_timeout = \"5 s\"", "irp.connect_timeout", "not a duration", "15s"),
    ("irp.connect_timeout = \"31s\"", "irp.connect_timeout", "longer than `irp.request_timeout`", "shorter"),
    ("irp.connect_timeout = \"0s\"", "irp.connect_timeout", "is zero", "above zero"),
    ("irp.request_timeout = \"15m\"", "irp.request_timeout", "30 minutes", "15m"),
    ("irp.settle_time = \"61m\"", "irp.settle_time", "longer than the last", "add a delay"),
    ("irp.local_address = \"eth0\"", "irp.local_address", "not an IP address", "203.0.113.7"),
    ("irp.proxy = \"proxy:3128\"", "irp.proxy", "not an http or https URL", "http://"),
    ("irp.extra_headers = [\"a\"]", "irp.extra_headers", "is a list, not a table", "value"),
    ("irp.extra_headers = { GSTIN = \"x\" }", "irp.extra_headers.GSTIN", "sets itself", "gateway"),
    ("irp.extra_headers = { \"a b\" = \"x\" }", "irp.extra_headers.a b", "not a header's name", "gateway"),
    ("irp.extra_headers = { a = \"x\\ny\" }", "irp.extra_headers.a", "no header can carry", "ASCII"),
    ("irp.unknown_codes = { \"4711\" = \"ignore\" }", "irp.unknown_codes.4711", "`ignore` is not a choice", "`retry`"),
    ("limits.per_gstin = \"10\"", "limits.per_gstin", "not a rate", "10/s"),
    ("limits.per_gstin = \"0/s\"", "limits.per_gstin", "not a rate", "from 1"),
    ("limits.total = \"10/w\"", "limits.total", "not a rate", "2000/day"),
    ("retry.immediate = \"10s\"", "retry.immediate", "is text, not a table", "table"),
    ("retry.immediate.max_elapsed = \"20m\"", "retry.immediate.max_elapsed", "30 minutes", "15m"),
    ("retry.max_attempts = 0", "retry.max_attempts", "out of range", "from 1"),
    ("retry.delays = []", "retry.delays", "is empty", "shortest first"),
    ("retry.delays = [\"1m\", \"15s\"]", "retry.delays", "`1m` before `15s`", "shortest first"),
    ("retry.delays = [\"1m\", \"60s\"]", "retry.delays", "`1m` before `60s`", "once"),
    ("retry.delays = [\"0s\", \"60s\"]", "retry.delays", "zero", "shortest first"),
    ("retry.delays = [\"1m\", \"25h\"]", "retry.delays", "`25h`", "24h"),
    ("retry.delays = [\"30s\", \"1.m\"]", "retry.delays[1]", "`1.m` is not a duration", "units"),
    ("retry.delays = [\"030s\"]", "retry.delays[0]", "not a duration", "units"),
    ("validate.preflight = true", "validate.preflight", "is true or false", "`strict`"),
    ("dead_letter.payload = \"store\"", "dead_letter.payload", "`store`", "`keep` or `drop`"),
    ("dead_letter.ttl = \"50d\"", "dead_letter.ttl", "TTL", "49d"),
    ("scaling.work_off_within = \"0s\"", "scaling.work_off_within", "is zero", "above zero"),
    ("shutdown.drain_timeout = \"0s\"", "shutdown.drain_timeout", "is zero", "above zero"),
    ("admin.listen = \"localhost:9464\"", "admin.listen", "IP address", "127.0.0.1:9464"),
    ("log.format = \"xml\"", "log.format", "`xml`", "`text` or `json`"),
    ("log.level = \"verbose\"", "log.level", "`verbose`", "`debug`"),
    ("irp.conurrency = 5", "irp.conurrency", "not a known key", "did you mean `irp.concurrency`?"),
    ("irp.prefetch = 5", "irp.prefetch", "not a known key", "did you mean `broker.prefetch`?"),
    ("broker = 5", "broker", "is a whole number, not a table", "table"),
    ("brokers.url = \"x\"", "brokers", "not a known key", "did you mean `broker`?"),
    ("zzz = 1", "zzz", "not a known key", "worker.toml"),
    ("limits.total = ", "", "is not TOML", "double quotes"),
    ("log.level = \"info\"\nlog.level = \"warn\"", "", "is not TOML: duplicate key", "correct the line"),
];

#[test]
fn every_deliberate_fault_is_told_with_file_key_problem_and_remedy() -> Result<()> {
    let folder = Folder::new()?;
    for (text, key, problem, remedy) in FAULTS {
        let faults = folder.load(text)?.err();
        let faults = faults.unwrap_or_else(|| panic!("{text}: loads")).faults;
        let [fault] = faults.as_slice() else {
            panic!("{text}: not one fault: {faults:#?}");
        };
        assert_eq!(fault.key, *key, "{text}");
        assert!(contains(&fault.problem, problem), "{text}: {fault}");
        assert!(contains(&fault.remedy, remedy), "{text}: {fault}");
        assert_points_at(fault, &folder, text);
    }
    Ok(())
}

/// One of the alternatives between bars.
fn contains(text: &str, parts: &str) -> bool {
    parts.split('|').any(|part| text.contains(part))
}

fn assert_points_at(fault: &Fault, folder: &Folder, text: &str) {
    let Source::File { path, line } = &fault.source else {
        panic!("{text}: not in the file: {fault}");
    };
    assert_eq!(**path, *folder.path("worker.toml"), "{text}");
    if fault.problem == "is missing" && !fault.key.contains('[') {
        return;
    }
    // The deliberate settings begin at line 3 and take two at most.
    assert!(
        line.is_some_and(|line| (3..=4).contains(&line)),
        "{text}: {fault}"
    );
}

#[test]
fn faults_of_variables_name_the_variable() -> Result<()> {
    let folder = Folder::new()?;
    let rows = [
        (
            "IRN_WORKER__IRP__CONCURRENCY",
            "many",
            "irp.concurrency",
            "cannot be read as a TOML value",
        ),
        (
            "IRN_WORKER__IRP__CONCURRENCY",
            "\"8\"",
            "irp.concurrency",
            "is text",
        ),
        (
            "IRN_WORKER__TOPOLOGY__DECLARE",
            "yes",
            "topology.declare",
            "cannot be read as a TOML value",
        ),
        (
            "IRN_WORKER__RETRY__DELAYS",
            "15s",
            "retry.delays",
            "cannot be read as a TOML value",
        ),
        (
            "IRN_WORKER__RETRY__DELAYS",
            "[\"15s\", \"x\"]",
            "retry.delays[1]",
            "`x` is not a duration",
        ),
        (
            "IRN_WORKER__IRP__REQUEST_TIMEOUT",
            "30",
            "irp.request_timeout",
            "`30` is not a duration",
        ),
        (
            "IRN_WORKER__BROKER",
            "amqp://localhost",
            "broker",
            "cannot be read as a TOML value",
        ),
        (
            "IRN_WORKER__BROKER__URI",
            "amqp://localhost",
            "broker.uri",
            "not a known key",
        ),
        ("IRN_WORKER__", "x", "", "names no key"),
        (
            "IRN_WORKER__BROKER____URL",
            "x",
            "broker..url",
            "names no key",
        ),
    ];
    for (name, text, key, problem) in rows {
        let faults = folder.load_with("", &[(name, text)])?.unwrap_err().faults;
        let [fault] = faults.as_slice() else {
            panic!("{name}={text}: not one fault: {faults:#?}");
        };
        assert_eq!(fault.source, Source::Variable(name.to_owned()), "{text}");
        assert_eq!(fault.key, key, "{name}={text}");
        assert!(fault.problem.contains(problem), "{name}={text}: {fault}");
        assert!(!fault.remedy.is_empty(), "{name}={text}");
    }
    Ok(())
}

#[test]
fn all_faults_are_told_at_once_by_line_and_a_fault_is_not_judged_twice() -> Result<()> {
    let text = r#"
broker.url = "nonsense"
irp.request_timeout = "soon"
irp.connect_timeout = "40s"
irp.settle_time = "2h"
retry.delays = ["1m", "1x"]
limits.totall = "1/s"
base_url_is_not_there = true
"#;
    let variables = [("IRN_WORKER__LOG__LEVEL", "loud")];
    let folder = Folder::new()?;
    let faults = folder.load_with(text, &variables)?.unwrap_err();
    let keys: Vec<&str> = faults
        .faults
        .iter()
        .map(|fault| fault.key.as_str())
        .collect();
    let expected = [
        "irp.base_url",
        "broker.url",
        "irp.request_timeout",
        "retry.delays[1]",
        "limits.totall",
        "base_url_is_not_there",
        "log.level",
    ];
    assert_eq!(keys, expected, "{faults}");
    assert_eq!(faults.to_string().lines().count(), expected.len());
    Ok(())
}

#[test]
fn settings_beside_a_broken_line_are_judged_too_but_nothing_is_called_missing() -> Result<()> {
    let faults =
        Folder::new()?.load("#base_url\nlog.level = \"loud\"\n= 3\nbroker.prefetch = -1\n")?;
    let faults = faults.unwrap_err().faults;
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["log.level", "", "broker.prefetch"], "{faults:#?}");
    Ok(())
}

#[test]
fn file_that_is_not_text_is_refused() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write("worker.toml", b"log.level = \"\xff\"")?;
    let faults = irn_worker::config::load(&path, []).unwrap_err();
    assert!(
        faults
            .to_string()
            .contains("is not UTF-8 text after byte 13"),
        "{faults}"
    );
    Ok(())
}

/// Text of the file, key warned of, part of the problem.
const WARNINGS: &[(&str, &str, &str)] = &[
    ("", "shutdown.drain_timeout", "redelivery"),
    ("", "irp.signing_keys", "unverified"),
    ("irp.signatures = \"off\"", "irp.signatures", "forged"),
    (
        "broker.prefetch = 10",
        "broker.prefetch",
        "below `irp.concurrency`",
    ),
    (
        "irp.concurrency_per_gstin = 65",
        "irp.concurrency_per_gstin",
        "never reached",
    ),
    (
        "limits.per_gstin = \"101/s\"",
        "limits.per_gstin",
        "never reached",
    ),
    (
        "limits.error_budget_total = \"83/h\"",
        "limits.error_budget_per_gstin",
        "never reached",
    ),
    (
        "broker.url = \"amqp://mq.example.in\"",
        "broker.url",
        "unencrypted",
    ),
    (
        "broker.ca_file = \"{dir}/irp.pem\"",
        "broker.ca_file",
        "no effect",
    ),
    (
        "replies.allow = [\"irn.*\"]",
        "replies.allow",
        "worker's own jobs",
    ),
    (
        "replies.allow = [\"erp.*\"]",
        "replies.allow",
        "default_queue",
    ),
    (
        "irp.base_url = \"http://irp.example.in\"\nirp.environment = \"sandbox\"",
        "irp.base_url",
        "unencrypted",
    ),
];

#[test]
fn doubtful_settings_load_with_a_warning() -> Result<()> {
    let folder = Folder::new()?;
    for (text, key, problem) in WARNINGS {
        let warnings = folder.load(text)??.warnings;
        let is_it = |fault: &&Fault| fault.key == *key && fault.problem.contains(problem);
        assert!(
            warnings.iter().any(|fault| is_it(&fault)),
            "{text}: {warnings:#?}"
        );
    }
    Ok(())
}

#[test]
fn careful_configuration_has_no_warning() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("signing.pem", "key")?;
    let text = "shutdown.drain_timeout = \"45s\"\nirp.signing_keys = [\"{dir}/signing.pem\"]\nbroker.url = \"amqps://u:p@mq.example.in/prod\"";
    assert_eq!(folder.load(text)??.warnings, []);
    Ok(())
}
