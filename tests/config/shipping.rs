//! What is shipped around the worker is true: the image has what the build reads, configurations in manifests load,
//! users, ports and graces agree. The form of each file is for the tool of its kind: scripts/manifests.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use irn_worker::config::{self, Config, Environment};

use crate::support::{Folder, owned, shipped};

/// The image's user and group.
const USER: &str = "10001";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> Result<String> {
    let path = repository().join(path);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// What follows this, on the lines that begin with it.
fn all_after<'a>(text: &'a str, beginning: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(beginning))
        .map(str::trim)
        .collect()
}

fn after<'a>(text: &'a str, beginning: &str) -> Result<&'a str> {
    let found = all_after(text, beginning);
    found
        .first()
        .copied()
        .with_context(|| format!("no line begins with {beginning}"))
}

fn defaults() -> Result<Config> {
    let folder = Folder::new()?;
    Ok(config::load(&shipped("worker.toml"), folder.required())?.config)
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// What the image's build may see, as .dockerignore lets it through.
fn context() -> Result<Vec<PathBuf>> {
    let ignored = text(".dockerignore")?;
    ensure!(
        ignored.lines().any(|line| line == "*"),
        "it lets everything through"
    );
    Ok(all_after(&ignored, "!").iter().map(PathBuf::from).collect())
}

#[test]
fn image_is_built_from_what_its_context_has_and_of_all_that_is_compiled_in() -> Result<()> {
    let context = context()?;
    let dockerfile = text("Dockerfile")?;
    let copied: Vec<PathBuf> = all_after(&dockerfile, "COPY ")
        .iter()
        .filter(|copy| !copy.starts_with("--from"))
        .flat_map(|copy| {
            let words: Vec<&str> = copy.split_whitespace().collect();
            words[..words.len() - 1]
                .iter()
                .map(PathBuf::from)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(copied, context, "the context is what is copied");
    for path in &copied {
        ensure!(repository().join(path).exists(), "{}", path.display());
    }

    let mut sources = Vec::new();
    files_below(&repository().join("src"), &mut sources)?;
    let mut seen = 0;
    // Files of unit tests: tests.rs, and what is below a folder tests.
    sources.retain(|source| {
        !source
            .iter()
            .any(|part| part == "tests" || part == "tests.rs")
    });
    for source in sources {
        let folder = source.parent().context("a file in a folder")?;
        for included in included(&String::from_utf8_lossy(&fs::read(&source)?)) {
            let path = fs::canonicalize(folder.join(&included))
                .with_context(|| format!("{} includes {included}", source.display()))?;
            let path = path
                .strip_prefix(fs::canonicalize(repository())?)?
                .to_owned();
            let is_there = copied.iter().any(|copied| path.starts_with(copied));
            ensure!(is_there, "the image is built without {}", path.display());
            seen += 1;
        }
    }
    ensure!(seen > 0, "nothing is compiled in, not even the rules");
    Ok(())
}

/// The files that a source has compiled in, outside of its tests.
fn included(source: &str) -> Vec<String> {
    let product = source.split("#[cfg(test)]\nmod ").next().unwrap_or(source);
    ["include_str!(\"", "include_bytes!(\""]
        .iter()
        .flat_map(|call| product.split(call).skip(1))
        .filter_map(|rest| rest.split_once('"'))
        .map(|(path, _)| path.to_owned())
        .collect()
}

#[test]
fn image_has_the_user_the_port_and_the_health_check_that_the_manifests_count_on() -> Result<()> {
    let dockerfile = text("Dockerfile")?;
    let deployment = text("config/kubernetes/deployment.yaml")?;
    let port = defaults()?.admin.listen.port().to_string();
    assert_eq!(all_after(&dockerfile, "USER "), ["10001:10001"; 2]);
    for user in ["runAsUser: ", "runAsGroup: ", "fsGroup: "] {
        assert_eq!(all_after(&deployment, user), [USER], "{user}");
    }
    assert_eq!(all_after(&dockerfile, "EXPOSE "), ["7443", port.as_str()]);
    assert_eq!(after(&deployment, "containerPort: ")?, port);
    let service = text("config/kubernetes/service.yaml")?;
    assert_eq!(after(&service, "port: ")?, port);
    ensure!(text("config/kubernetes/networkpolicy.yaml")?.contains(&format!("port: {port} ")));
    let home = all_after(&dockerfile, "WORKDIR ").pop();
    let home = home.context("no working directory")?;
    for mount in all_after(&deployment, "- { name: ") {
        ensure!(mount.contains(&format!("mountPath: {home}/")), "{mount}");
    }

    let check = dockerfile
        .lines()
        .find(|line| line.starts_with("HEALTHCHECK"));
    let (_, check) = check
        .and_then(|line| line.split_once(" CMD "))
        .context("no health check")?;
    let check: Vec<String> =
        serde_json::from_str(check).context("a health check without a shell")?;
    let entry_point = after(&dockerfile, "ENTRYPOINT [\"/usr/local/bin/irn-worker\"]");
    ensure!(entry_point.is_ok() && check[0] == "/usr/local/bin/irn-worker");
    let asked = Command::new(env!("CARGO_BIN_EXE_irn-worker"))
        .args(&check[1..])
        .arg("--help")
        .output()?;
    ensure!(asked.status.success(), "{check:?} is no command");
    Ok(())
}

#[test]
fn every_image_has_a_version_and_the_own_ones_this_version() -> Result<()> {
    let mut manifests = vec![shipped("compose.yaml")];
    files_below(&shipped("kubernetes"), &mut manifests)?;
    let (mut own, mut others) = (0, 0);
    for manifest in manifests {
        for image in all_after(&text(&manifest)?, "image: ") {
            let (name, tag) = image.rsplit_once(':').context(image.to_owned())?;
            ensure!(
                tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v'),
                "{image}"
            );
            if ["irn-worker", "irp-sandbox"].contains(&name) {
                assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{image}");
                own += 1;
            } else {
                others += 1;
            }
        }
    }
    assert_eq!((own, others), (3, 3));
    let kustomization = text("config/kubernetes/kustomization.yaml")?;
    assert_eq!(
        after(&kustomization, "newTag: ")?,
        env!("CARGO_PKG_VERSION")
    );
    let base = text("Dockerfile")?;
    let base = after(&base, "ARG RUST_IMAGE=")?;
    ensure!(base.contains(":1."), "{base}");
    Ok(())
}

#[test]
fn every_orchestrator_waits_longer_than_a_drain() -> Result<()> {
    let graces = [
        (
            "config/kubernetes/deployment.yaml",
            "terminationGracePeriodSeconds: ",
        ),
        ("config/compose.yaml", "stop_grace_period: "),
        ("config/systemd/irn-worker.service", "TimeoutStopSec="),
    ];
    let drain = defaults()?.shutdown.drain_timeout;
    for (file, key) in graces {
        let text = text(file)?;
        let seconds = after(&text, key)?.trim_end_matches('s');
        let grace = Duration::from_secs(seconds.parse()?);
        // What runs beside the jobs is given one more second.
        ensure!(
            grace >= drain + Duration::from_secs(10),
            "{file}: {grace:?}"
        );
    }
    Ok(())
}

#[test]
fn a_pod_drains_within_its_grace_and_no_call_is_cut_off() -> Result<()> {
    let worker = text("config/kubernetes/worker.toml")?;
    let drain = after(&worker, "drain_timeout = ")?.trim_matches('"');
    let drain: u64 = drain.trim_end_matches('s').parse()?;
    let deployment = text("config/kubernetes/deployment.yaml")?;
    let grace: u64 = after(&deployment, "terminationGracePeriodSeconds: ")?.parse()?;
    ensure!(grace >= drain + 10, "{grace} s for a drain of {drain} s");
    ensure!(Duration::from_secs(drain) > defaults()?.irp.request_timeout);
    Ok(())
}

#[test]
fn compose_mounts_files_that_are_there_and_gives_its_worker_a_configuration() -> Result<()> {
    let compose = text("config/compose.yaml")?;
    let mounted: Vec<&str> = all_after(&compose, "- \"./")
        .iter()
        .filter_map(|mount| mount.split(':').next())
        .collect();
    assert_eq!(mounted.len(), 6, "{mounted:?}");
    for path in mounted {
        ensure!(shipped(path).exists(), "config/{path} is not there");
    }

    let folder = Folder::new()?;
    for key in ["auth_public.pem", "signing_certificate.pem"] {
        folder.write(key, "any PEM: loading does not read it")?;
    }
    let variables: Vec<(String, String)> = all_after(&compose, config::VARIABLE_PREFIX)
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| {
            let portal = folder.path("");
            let value = value.trim_matches('\'');
            let value = value.replace("/var/lib/irp-sandbox/", &portal.to_string_lossy());
            (format!("{}{name}", config::VARIABLE_PREFIX), value)
        })
        .collect();
    assert_eq!(variables.len(), 8, "{variables:?}");
    let config = config::load(&shipped("worker.toml"), variables)?.config;
    assert_eq!(config.irp.environment, Environment::Sandbox);
    assert_eq!(config.irp.signing_keys.len(), 1);
    assert_eq!(config.admin.listen, "0.0.0.0:9464".parse()?);
    Ok(())
}

#[test]
fn unit_gives_the_worker_its_secret_and_starts_no_other_program() -> Result<()> {
    let unit = text("config/systemd/irn-worker.service")?;
    assert_eq!(after(&unit, "ExecStart=")?, "/usr/local/bin/irn-worker run");
    // Its filter of system calls keeps the worker from asking for that.
    assert_eq!(after(&unit, "CPUSchedulingPolicy=")?, "batch");
    let folder = Folder::new()?;
    // As systemd.exec(5) lays them: by name, in a folder that %d stands for.
    for credential in all_after(&unit, "LoadCredential=") {
        let (name, _) = credential.split_once(':').context("a name and a path")?;
        folder.write_with_mode(name, "amqps://worker:c4n4ry@mq.example.in/irn", 0o440)?;
    }
    let credentials = folder
        .path("")
        .to_string_lossy()
        .trim_end_matches('/')
        .to_owned();
    let mut variables = folder.required();
    for line in all_after(&unit, "Environment=") {
        let (name, value) = line.split_once('=').context("a name and a value")?;
        variables.extend(owned(&[(name, &value.replace("%d", &credentials))]));
    }
    let loaded = config::load(&shipped("worker.toml"), variables)?;
    let of_broker = |fault: &&config::Fault| fault.key.starts_with("broker");
    assert_eq!(loaded.warnings.iter().find(of_broker), None);
    let url = loaded.config.broker.url.expose();
    assert_eq!(url, "amqps://worker:c4n4ry@mq.example.in/irn");
    Ok(())
}

/// What is mounted in a pod, in a folder that stands for /etc/irn-worker.
struct Pod(Folder);

impl Pod {
    /// As the kubelet lays a volume: the files in a folder named by the time, `..data` leading there, and a link for each
    /// file. With fsGroup set, secrets belong to that group and have the mode that the volume asks for.
    fn mount(&self, volume: &str, mode: u32, files: &[(&str, &str)]) -> Result<()> {
        const VERSION: &str = "..2026_01_01_00_00_00.123456789";
        for (name, text) in files {
            self.0
                .write_with_mode(&format!("{volume}/{VERSION}/{name}"), text, mode)?;
            symlink(
                format!("..data/{name}"),
                self.0.path(&format!("{volume}/{name}")),
            )?;
        }
        let version = self.0.path(&format!("{volume}/{VERSION}"));
        fs::set_permissions(&version, fs::Permissions::from_mode(0o2755))?;
        symlink(VERSION, self.0.path(&format!("{volume}/..data")))?;
        Ok(())
    }

    fn check(&self) -> Result<(Option<i32>, String)> {
        let output = Command::new(env!("CARGO_BIN_EXE_irn-worker"))
            .args(["check", "--offline"])
            .current_dir(self.0.path(""))
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    }
}

const ACCOUNTS: &str = "[[client]]\nname = \"acme\"\nclient_id = \"ID\"\nclient_secret_file = \"acme-client-secret\"\n[[taxpayer]]\ngstin = \"29AAGCE4783K1Z1\"\nclient = \"acme\"\nusername = \"user\"\npassword_file = \"29AAGCE4783K1Z1-password\"\n";

#[test]
fn mounts_of_a_pod_pass_check_without_a_warning() -> Result<()> {
    let deployment = text("config/kubernetes/deployment.yaml")?;
    let modes: Vec<u32> = deployment
        .lines()
        .filter_map(|line| line.split_once("defaultMode: 0"))
        .map(|(_, mode)| u32::from_str_radix(mode.trim_end_matches([' ', '}']), 8))
        .collect::<Result<_, _>>()?;
    assert_eq!(modes, [0o440, 0o440]);
    for volume in ["config", "broker", "credentials", "portal"] {
        let mount = format!("name: {volume}, mountPath: /etc/irn-worker/{volume}, readOnly: true");
        ensure!(deployment.contains(&mount), "{mount}");
    }
    let signing_key = text("tests/vectors/nic-sandbox-signing.pem")?;
    let pod = Pod(Folder::new()?);
    let worker = text("config/kubernetes/worker.toml")?;
    pod.mount("config", 0o644, &[("worker.toml", &worker)])?;
    let url = "amqps://worker:c4n4ry@rabbitmq.rabbitmq.svc/irn\n";
    pod.mount(
        "broker",
        modes[0],
        &[
            ("url", url),
            (
                "management-url",
                "https://irn-monitor:c4n4ry@rabbitmq.rabbitmq.svc:15671\n",
            ),
            ("ca.pem", &signing_key),
        ],
    )?;
    pod.mount(
        "credentials",
        modes[1],
        &[
            ("credentials.toml", ACCOUNTS),
            ("acme-client-secret", "c4n4ry\n"),
            ("29AAGCE4783K1Z1-password", "c4n4ry\n"),
        ],
    )?;
    pod.mount(
        "portal",
        0o644,
        &[
            ("irp-public.pem", &signing_key),
            ("signing-1.pem", &signing_key),
        ],
    )?;
    let (code, said) = pod.check()?;
    assert_eq!(code, Some(0), "{said}");
    ensure!(said.contains(" 0 warnings, 0 failed"), "{said}");
    ensure!(said.contains("1 GSTINs, mode 0440"), "{said}");
    ensure!(!said.contains("c4n4ry"));

    // The mode that a secret has without defaultMode.
    let secret = pod.0.path("credentials/..data/29AAGCE4783K1Z1-password");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644))?;
    let (_, said) = pod.check()?;
    ensure!(
        said.contains("29AAGCE4783K1Z1-password") && said.contains(" 1 warnings, 0 failed"),
        "{said}"
    );
    Ok(())
}

#[test]
fn kustomization_and_the_manifests_it_names_are_there() -> Result<()> {
    let kustomization = text("config/kubernetes/kustomization.yaml")?;
    let named = kustomization
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("# ").strip_prefix("- "))
        .filter(|name| name.ends_with(".yaml"));
    let mut named: Vec<String> = named.map(str::to_owned).collect();
    // A patch for a Deployment of somebody's own, and the list itself.
    named.extend(["pod-termination.yaml", "kustomization.yaml", "worker.toml"].map(str::to_owned));
    named.sort();
    let mut there: Vec<String> = fs::read_dir(shipped("kubernetes"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    there.sort();
    assert_eq!(named, there);
    let grace = "terminationGracePeriodSeconds: ";
    assert_eq!(
        after(&text("config/kubernetes/deployment.yaml")?, grace)?,
        after(&text("config/kubernetes/pod-termination.yaml")?, grace)?
    );
    Ok(())
}
