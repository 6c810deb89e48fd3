//! Every key of the contract: it is known, its default is the contract's, and the environment overrides it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use irn_worker::config::{self, Config, DeadLetterPayload};

use crate::support::{Folder, owned, shipped, variable};

struct Row {
    key: &'static str,
    show: fn(&Config) -> String,
    default: &'static str,
    variable: &'static str,
    overridden: &'static str,
}

macro_rules! rows {
    ($($key:literal, $config:ident => $show:expr, $default:literal, $variable:literal => $overridden:literal;)*) => {
        &[$(Row {
            key: $key,
            show: |$config| format!("{:?}", $show),
            default: $default,
            variable: $variable,
            overridden: $overridden,
        }),*]
    };
}

const ROWS: &[Row] = rows! {
    "broker.url", c => c.broker.url.expose(), r#""amqp://guest:guest@127.0.0.1:5672/%2f""#, "amqps://u:p@h" => r#""amqps://u:p@h""#;
    "broker.management_url", c => c.broker.management_url.as_ref().map(config::SecretUrl::expose), "None", "https://u:p@h:1" => r#"Some("https://u:p@h:1")"#;
    "broker.prefetch", c => c.broker.prefetch, "128", "77" => "77";
    "broker.share_per_gstin", c => c.broker.share_per_gstin, "Share(50)", "25" => "Share(25)";
    "topology.declare", c => c.topology.declare, "true", "false" => "false";
    "replies.default_queue", c => c.replies.default_queue, r#""irn.results""#, "erp.all" => r#""erp.all""#;
    "replies.allow", c => c.replies.allow.iter().map(glob::Pattern::as_str).collect::<Vec<_>>(), r#"["irn.results", "erp.*"]"#, r#"["a.*"]"# => r#"["a.*"]"#;
    "credentials.path", c => c.credentials.path, r#""config/credentials.toml""#, "/etc/creds" => r#""/etc/creds""#;
    "credentials.replay_dead_letters", c => c.credentials.replay_dead_letters, "false", "true" => "true";
    "irp.environment", c => c.irp.environment, "Production", "sandbox" => "Sandbox";
    "irp.provider", c => c.irp.route.provider, "Nic", "mastergst" => "MasterGst";
    "irp.base_url", c => c.irp.route.base_url, r#""https://irp.example.in""#, "https://other.example.in/gsp/" => r#""https://other.example.in/gsp""#;
    "irp.failover_url", c => c.irp.route.failover.as_ref().map(|f| &f.base_url), "None", "https://irp2.example.in/" => r#"Some("https://irp2.example.in")"#;
    "irp.signing_keys", c => c.irp.signing_keys, "[]", "[]" => "[]";
    "irp.signatures", c => c.irp.signatures, "Warn", "off" => "Off";
    "irp.concurrency", c => c.irp.concurrency, "64", "16" => "16";
    "irp.concurrency_per_gstin", c => c.irp.concurrency_per_gstin, "8", "3" => "3";
    "irp.connect_timeout", c => c.irp.connect_timeout, "5s", "200ms" => "200ms";
    "irp.request_timeout", c => c.irp.request_timeout, "30s", "1m" => "60s";
    "irp.settle_time", c => c.irp.settle_time, "30s", "0s" => "0ns";
    "irp.local_address", c => c.irp.local_address, "None", "203.0.113.7" => "Some(203.0.113.7)";
    "irp.proxy", c => c.irp.proxy.as_ref().map(|p| p.expose()), "None", "http://u:p@proxy:3128" => r#"Some("http://u:p@proxy:3128")"#;
    "irp.ca_file", c => c.irp.route.ca_file, "None", "/dev/null" => r#"Some("/dev/null")"#;
    "irp.extra_headers", c => c.irp.route.extra_headers.iter().map(|(n, v)| (n, v.expose())).collect::<Vec<_>>(), "[]", r#"{ "X-Key" = "k" }"# => r#"[("X-Key", "k")]"#;
    "irp.header_style", c => c.irp.route.header_style, "Underscore", "hyphen" => "Hyphen";
    "irp.header_names", c => c.irp.route.header_names, "[]", r#"{ authtoken = "auth-token" }"# => r#"[("authtoken", "auth-token")]"#;
    "irp.paths", c => c.irp.route.paths.eicore, r#""/eicore""#, r#"{ eicore = "/core" }"# => r#""/core""#;
    "irp.client_pair", c => c.irp.route.client_pair, "Send", "omit" => "Omit";
    "irp.unknown_codes", c => c.irp.unknown_codes, "[]", r#"{ "4711" = "retry" }"# => r#"[("4711", Retry)]"#;
    "limits.per_gstin", c => c.limits.per_gstin, "Rate { count: 10, period: 1s }", "5/h" => "Rate { count: 5, period: 3600s }";
    "limits.total", c => c.limits.total, "Rate { count: 100, period: 1s }", "20/s" => "Rate { count: 20, period: 1s }";
    "limits.auth_per_gstin", c => c.limits.auth_per_gstin, "Rate { count: 2, period: 60s }", "1/m" => "Rate { count: 1, period: 60s }";
    "limits.error_budget_per_gstin", c => c.limits.error_budget_per_gstin, "Rate { count: 2000, period: 86400s }", "10/day" => "Rate { count: 10, period: 86400s }";
    "limits.error_budget_total", c => c.limits.error_budget_total, "Rate { count: 20000, period: 86400s }", "30000/d" => "Rate { count: 30000, period: 86400s }";
    "retry.immediate", c => c.retry.immediate_max_elapsed, "10s", r#"{ max_elapsed = "3s" }"# => "3s";
    "retry.immediate.max_elapsed", c => c.retry.immediate_max_elapsed, "10s", "0s" => "0ns";
    "retry.max_attempts", c => c.retry.max_attempts, "12", "1" => "1";
    "retry.delays", c => c.retry.delays.iter().map(|r| (r.name.as_str(), r.delay)).collect::<Vec<_>>(), r#"[("15s", 15s), ("1m", 60s), ("5m", 300s), ("15m", 900s), ("1h", 3600s)]"#, r#"["500ms", "30s"]"# => r#"[("500ms", 500ms), ("30s", 30s)]"#;
    "validate.preflight", c => c.validate.preflight, "Strict", "schema" => "Schema";
    "validate.rules_file", c => c.validate.rules_file, "None", "/dev/null" => r#"Some("/dev/null")"#;
    "dead_letter.payload", c => c.dead_letter.payload, "Keep", "drop" => "Drop";
    "dead_letter.ttl", c => c.dead_letter.ttl, "259200s", "1d" => "86400s";
    "scaling.work_off_within", c => c.scaling.work_off_within, "300s", "1m" => "60s";
    "shutdown.drain_timeout", c => c.shutdown.drain_timeout, "25s", "45s" => "45s";
    "admin.listen", c => c.admin.listen, "127.0.0.1:9464", "0.0.0.0:0" => "0.0.0.0:0";
    "log.format", c => c.log.format, "Json", "text" => "Text";
    "log.level", c => c.log.level, "Level(Info)", "trace" => "Level(Trace)";
};

#[test]
fn every_key_has_the_default_of_the_contract() -> Result<()> {
    // Standard error may be a terminal here, and the default of log.format depends on that.
    let loaded = Folder::new()?.load("log.format = \"json\"")??;
    for row in ROWS {
        assert_eq!((row.show)(&loaded.config), row.default, "{}", row.key);
    }
    Ok(())
}

#[test]
fn settle_time_fits_a_short_ladder_unless_it_is_set() -> Result<()> {
    let folder = Folder::new()?;
    let settle_time = |text: &str| {
        let loaded = folder.load(text)??;
        anyhow::Ok(loaded.config.irp.settle_time)
    };
    let short = "retry.delays = [\"200ms\", \"1s\"]";
    assert_eq!(settle_time(short)?, Duration::from_secs(1));
    assert_eq!(
        settle_time(&format!("{short}\nirp.settle_time = \"300ms\""))?,
        Duration::from_millis(300)
    );
    Ok(())
}

#[test]
fn every_key_is_overridden_by_its_variable() -> Result<()> {
    let folder = Folder::new()?;
    for row in ROWS {
        let loaded = folder.load_with("", &[(&variable(row.key), row.variable)])?;
        let config = loaded.with_context(|| row.key)?.config;
        assert_eq!((row.show)(&config), row.overridden, "{}", row.key);
    }
    Ok(())
}

#[test]
fn every_key_is_described_in_the_shipped_file() -> Result<()> {
    let text = fs::read_to_string(shipped("worker.toml"))?;
    for row in ROWS
        .iter()
        .filter(|row| row.key != "retry.immediate.max_elapsed")
    {
        let (section, key) = row.key.split_once('.').context("no section")?;
        let section_text = text
            .split(&format!("[{section}]\n"))
            .nth(1)
            .context("no such section")?;
        let section_text = section_text.split("\n[").next().unwrap_or_default();
        let is_set = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{key} = "))
        };
        assert!(section_text.lines().any(is_set), "{}", row.key);
    }
    Ok(())
}

#[test]
fn variable_wins_over_the_file_whichever_of_the_twins_it_uses() -> Result<()> {
    let folder = Folder::new()?;
    let file = folder
        .write("url", "amqp://file:x@localhost\n")?
        .display()
        .to_string();
    let in_file = "broker.url = \"amqp://inline:x@localhost\"";
    let loaded = folder.load_with(in_file, &[("IRN_WORKER__BROKER__URL_FILE", &file)])??;
    assert_eq!(loaded.config.broker.url.expose(), "amqp://file:x@localhost");

    let twin_in_file = format!("broker.url_file = \"{file}\"");
    let variables = [("IRN_WORKER__BROKER__URL", "amqp://variable:x@localhost")];
    let loaded = folder.load_with(&twin_in_file, &variables)??;
    assert_eq!(
        loaded.config.broker.url.expose(),
        "amqp://variable:x@localhost"
    );
    Ok(())
}

#[test]
fn one_variable_refines_what_another_sets_as_a_whole() -> Result<()> {
    let variables = [
        (
            "IRN_WORKER__LIMITS",
            r#"{ per_gstin = "4/s", total = "8/s" }"#,
        ),
        ("IRN_WORKER__LIMITS__TOTAL", "9/s"),
    ];
    let limits = Folder::new()?
        .load_with("limits.per_gstin = \"1/s\"", &variables)??
        .config
        .limits;
    assert_eq!(
        (limits.per_gstin.count.get(), limits.total.count.get()),
        (4, 9)
    );
    Ok(())
}

#[test]
fn empty_and_foreign_variables_count_as_not_set() -> Result<()> {
    let variables = [
        ("IRN_WORKER__IRP__PROXY", ""),
        ("IRN_WORKER_LOG", "x"),
        ("PATH", "/bin"),
    ];
    let config = Folder::new()?.load_with("", &variables)??.config;
    assert_eq!(config.irp.proxy, None);
    Ok(())
}

#[test]
fn empty_variable_takes_nothing_away_that_the_file_says() -> Result<()> {
    let file = "dead_letter.payload = \"drop\"\nbroker.url = \"amqp://file:x@localhost\"\n\
                [publishers]\nsouth = { gstins = [\"29*\"] }";
    let variables = [
        ("IRN_WORKER__DEAD_LETTER__PAYLOAD", ""),
        ("IRN_WORKER__BROKER", ""),
        ("IRN_WORKER__BROKER__URL", ""),
        ("IRN_WORKER__PUBLISHERS", ""),
        ("IRN_WORKER__IRP__ENVIRONMENT", ""),
    ];
    let folder = Folder::new()?;
    let with = folder.load_with(file, &variables)??.config;
    let without = folder.load(file)??.config;
    assert_eq!(format!("{with:?}"), format!("{without:?}"));
    assert_eq!(with.dead_letter.payload, DeadLetterPayload::Drop);
    assert!(with.publishers.get("south").is_some());
    Ok(())
}

#[test]
fn names_that_users_choose_keep_their_letters_in_a_variable_and_meet_those_of_the_file()
-> Result<()> {
    let file = "[publishers]\nERP_North = { gstins = [\"29*\"] }";
    let variables = [
        ("IRN_WORKER__PUBLISHERS__ERP_South__GSTINS", "[\"27*\"]"),
        ("IRN_WORKER__PUBLISHERS__ERP_NORTH__GSTINS", "[\"33*\"]"),
        ("IRN_WORKER__PUBLISHERS__EAST__GSTINS", "[\"19*\"]"),
        ("IRN_WORKER__IRP__UNKNOWN_CODES__GSP752", "retry"),
    ];
    let config = Folder::new()?.load_with(file, &variables)??.config;
    let gstins = |user: &str| {
        let publisher = config.publishers.get(user);
        publisher.map(|publisher| publisher.gstins[0].as_str().to_owned())
    };
    let found = ["ERP_North", "ERP_South", "east"].map(gstins);
    assert_eq!(
        found,
        ["33*", "27*", "19*"].map(|glob| Some(glob.to_owned()))
    );
    assert_eq!(config.irp.unknown_codes[0].0, "gsp752");
    Ok(())
}

#[test]
fn signing_keys_come_from_globs_paths_and_entries_with_a_kid_each_file_once() -> Result<()> {
    let folder = Folder::new()?;
    for name in ["keys/a.pem", "keys/b.pem", "keys/c.key"] {
        folder.write(name, "key")?;
    }
    let text = r#"irp.signing_keys = [{ file = "{dir}/keys/b.pem", kid = "B" }, "{dir}/keys/*.pem", "{dir}/keys/c.key"]"#;
    let config = folder.load(text)??.config;
    let keys = config.irp.signing_keys.iter();
    let found: Vec<_> = keys
        .map(|key| (key.file.clone(), key.kid.as_deref()))
        .collect();
    let expected = [("a.pem", None), ("b.pem", Some("B")), ("c.key", None)];
    assert_eq!(
        found,
        expected.map(|(name, kid)| (folder.path("keys").join(name), kid))
    );
    assert_eq!(config.irp.signatures, config::SignaturePolicy::Require);
    Ok(())
}

#[test]
fn secret_header_is_read_from_its_file() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("gateway-key", "k-123\r\n")?;
    let text =
        r#"irp.extra_headers = { "X-Key" = { value_file = "{dir}/gateway-key" }, "X-Id" = "7" }"#;
    let headers = folder.load(text)??.config.irp.route.extra_headers;
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(headers, [("X-Id", "7"), ("X-Key", "k-123")]);
    Ok(())
}

#[test]
fn missing_file_is_one_fault() {
    let faults = config::load("/nowhere/worker.toml".as_ref(), owned(&[])).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "/nowhere/worker.toml: cannot be read: No such file or directory (os error 2); create it, or name another with --config"
    );
}
