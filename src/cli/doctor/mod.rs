//! `mainstay doctor`: whether a machine will do as a node, and if not, what to do about it.
//!
//! **Invariant:** every wait has an end, nothing is left on the machine, and no key is recorded. It is logged in to as for a node, by the
//! same code, so that what works here works there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tempfile::TempDir;
use tokio::process::Command;

use super::resolve::{Typed, resolve, said};
use super::{Outcome, StatusOutput, chain, named, validate};
use crate::home;
use crate::model::kinds::Transport;
use crate::model::secret::{KEY_BYTES, Sealer};
use crate::model::{Key, Kind, Spec};
use crate::node::link::{LinkError, Target};
use crate::node::ssh::{Ssh, host_key_alias};
use crate::node::visit::{Visit, ask_here};
use crate::reconcile::target::Common;
use crate::source::check::{Checked, Extent, check};
use report::Report;

mod door;
mod report;
mod within;

/// How long a login, a channel and an answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How many channels are opened at once on one connection. A node needs one, and one more for each log or artifact.
const CHANNELS: usize = 6;

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Where the node's manifest is: a folder or a file; may be given several times.
    #[arg(short = 'f', long = "filename", value_name = "DIR|FILE")]
    manifests: Vec<PathBuf>,
    /// The data folder of the server, which has recorded the nodes' host keys.
    #[arg(long, value_name = "DIR", default_value = "mainstay-data")]
    data_dir: PathBuf,
    /// The private key to log in with, of a machine that is no node yet.
    #[arg(long, value_name = "FILE")]
    identity_file: Option<String>,
    /// The ssh_config that says how a machine that is no node yet is reached, or none. [default: what ssh reads]
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<String>,
    /// How it is told.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: StatusOutput,
    /// A node of the manifests, such as IN1/ND1; or any machine, as ssh is told.
    #[arg(value_name = "INSTANCE/NODE|[USER@]HOST[:PORT]")]
    machine: String,
}

/// A machine, and what is known of its host key.
struct Patient {
    target: Target,
    /// Reached as only ssh knows, so that its address can't be tried.
    is_proxied: bool,
    /// Lines of a known_hosts file, without the host.
    keys: Vec<String>,
    /// Where those are from.
    known_from: String,
}

pub(super) async fn run(arguments: DoctorArguments) -> Outcome {
    let state = tempfile::tempdir()?;
    let patient =
        if arguments.machine.contains('/') { declared(&arguments).await? } else { typed(&arguments).await? };
    let mut report = Report::new(arguments.output);
    let was_entered = look(&patient, &state, &mut report).await?;
    let failures = report.end();
    if !was_entered {
        eprintln!("mainstay: {}: what else there is can only be told after a login", arguments.machine);
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A node of the manifests.
async fn declared(arguments: &DoctorArguments) -> Result<Patient, String> {
    let (instance, name) = named(&arguments.machine, "node", "IN1/ND1")?;
    if arguments.manifests.is_empty() {
        return Err(format!("say where the manifest of {} is: -f DIR", arguments.machine));
    }
    let (texts, mut problems) = validate::gather(&arguments.manifests);
    let sealer = Sealer::new([0; KEY_BYTES]);
    let Checked { set, problems: found } = check(&texts, Extent::Each, &sealer);
    problems.extend(found);
    if let Some(problem) = problems.first() {
        return Err(format!("{problem}; `mainstay validate` tells all"));
    }
    let key = Key::within(Kind::Node, instance, name);
    let node =
        set.iter().find(|admitted| admitted.document.key() == key).map(|admitted| &admitted.document.spec);
    let Some(Spec::Node(node)) = node else {
        return Err(format!("there is no {key} in these manifests"));
    };
    let common = Common {
        sealer,
        cluster: String::new(),
        data_dir: arguments.data_dir.clone(),
        connect_timeout: WITHIN,
    };
    let mut target = common.target(&key, node).await.map_err(|error| error.to_string())?;
    if target.transport == Transport::Ssh {
        target.root = STATE.into();
    }
    let recorded = arguments.data_dir.join("known_hosts.d").join(host_key_alias(&target.name));
    let keys = std::fs::read_to_string(&recorded).unwrap_or_default();
    Ok(Patient {
        is_proxied: target.ssh_config.is_some(),
        keys: keys.lines().filter_map(without_host).collect(),
        known_from: if target.host_key.is_some() { "pinned".into() } else { "recorded by the server".into() },
        target,
    })
}

/// Where a node keeps what is Mainstay's, from the account's home.
const STATE: &str = ".mainstay";

/// Any machine.
async fn typed(arguments: &DoctorArguments) -> Result<Patient, String> {
    if !arguments.manifests.is_empty() {
        return Err(format!("{:?} names no node of the manifests; write INSTANCE/NODE", arguments.machine));
    }
    let machine: Typed = arguments.machine.parse()?;
    let config = arguments.ssh_config.as_deref();
    let resolved = resolve(&machine, config).await?;
    let mut keys = Vec::new();
    let place = match resolved.port {
        22 => resolved.host.clone(),
        port => format!("[{}]:{port}", resolved.host),
    };
    for file in &resolved.known_hosts {
        let path = home::expand(file);
        if !path.exists() {
            continue;
        }
        let mut command = Command::new("ssh-keygen");
        command.args(["-F", &place, "-f"]).arg(path);
        // It fails when there is none.
        let found = said(command, WITHIN).await.unwrap_or_default();
        keys.extend(found.lines().filter_map(without_host));
    }
    let target = Target {
        name: machine.host.clone(),
        transport: Transport::Ssh,
        host: if resolved.is_proxied { machine.host.clone() } else { resolved.host.clone() },
        port: if resolved.is_proxied { machine.port } else { Some(resolved.port) },
        username: resolved.user,
        password: None,
        identity_file: arguments.identity_file.clone().or(resolved.identity_files.first().cloned()),
        ssh_config: resolved.is_proxied.then(|| config.unwrap_or("~/.ssh/config").to_owned()),
        host_key: None,
        root: STATE.into(),
        connect_timeout: WITHIN,
    };
    Ok(Patient { target, is_proxied: resolved.is_proxied, keys, known_from: "in your known_hosts".into() })
}

/// The key of a known_hosts line; none of a comment, and of a line that says more than a key (`@revoked`).
fn without_host(line: &str) -> Option<String> {
    let (host, key) = line.split_once(' ')?;
    (!host.starts_with(['#', '@'])).then(|| key.trim().to_owned())
}

/// Makes all checks that can be made. False when it could not be logged in.
async fn look(patient: &Patient, state: &TempDir, report: &mut Report) -> Result<bool, String> {
    let target = &patient.target;
    if target.transport == Transport::Local {
        report.ok("address", "this machine, without SSH");
        match ask_here(&target.root, WITHIN).await {
            Ok(answers) => {
                report.ok("shell", "/bin/sh works");
                within::judge(&answers, report);
            }
            Err(error) => shell_failed(&error, report),
        }
        return Ok(true);
    }
    let mut address = None;
    if patient.is_proxied {
        report.ok("address", "left to ssh_config");
    } else {
        address = door::address(&target.host, target.port.unwrap_or(22), report).await;
        match address {
            Some(address) if door::port(address, report).await => {}
            Some(_) | None => return Ok(false),
        }
    }
    let helper = std::env::current_exe().map_err(|error| format!("our own program is not found: {error}"))?;
    let ssh = Ssh::new(helper, state.path()).map_err(|error| chain(&error))?;
    let record = ssh.record_of(&target.name);
    seed(&record, &target.name, &patient.keys).map_err(|error| chain(&error))?;
    let visit = match Visit::begin(&ssh, target).await {
        Ok(visit) => visit,
        Err(error) => {
            login_failed(&error, patient, &record, report).await;
            return Ok(false);
        }
    };
    host_key(patient, &record, report).await;
    let user = if target.username.is_empty() {
        "as ssh_config says".into()
    } else {
        format!("as {}", target.username)
    };
    report.ok("login", &user);
    match visit.ask(&target.root).await {
        Ok(answers) => {
            report.ok("shell", "/bin/sh works");
            within::judge(&answers, report);
            match visit.count_channels(CHANNELS).await {
                CHANNELS => report.ok("sessions", &format!("at least {CHANNELS} at once on a connection")),
                count => report.warn(
                    "sessions",
                    &format!("only {count} at once on a connection: the first is the node's, the others are for logs and artifacts"),
                    "raise MaxSessions in its sshd_config (10 is usual)",
                ),
            }
        }
        Err(error) => shell_failed(&error, report),
    }
    visit.end().await;
    if let Some(address) = address {
        door::startups(address, report).await;
    }
    Ok(true)
}

/// Has the login know the keys that are known.
fn seed(record: &Path, name: &str, keys: &[String]) -> std::io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    if let Some(folder) = record.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let alias = host_key_alias(name);
    std::fs::write(record, keys.iter().map(|key| format!("{alias} {key}\n")).collect::<String>())
}

fn is_known(patient: &Patient) -> bool {
    patient.target.host_key.is_some() || !patient.keys.is_empty()
}

/// Says which host key it was that did.
async fn host_key(patient: &Patient, record: &Path, report: &mut Report) {
    if is_known(patient) {
        return report.ok("host key", &format!("the one that is {}", patient.known_from));
    }
    let key = std::fs::read_to_string(record).unwrap_or_default();
    let key = key.lines().find_map(without_host).unwrap_or_default();
    let mut command = Command::new("ssh-keygen");
    command.arg("-lf").arg(record);
    let printed = said(command, WITHIN).await.unwrap_or_default();
    let fingerprint =
        printed.split(' ').find(|word| word.starts_with("SHA256:")).unwrap_or("of unknown print");
    report.warn(
        "host key",
        &format!("not known yet: {fingerprint}"),
        &format!(
            "compare it on the machine, and pin it (`host-key: {key}`), or have it recorded on first use"
        ),
    );
}

async fn login_failed(error: &LinkError, patient: &Patient, record: &Path, report: &mut Report) {
    let message = error.to_string();
    #[expect(clippy::wildcard_enum_match_arm, reason = "what else ends a login has one way to be told")]
    match error {
        LinkError::HostKeyChanged(_) => report.fail(
            "host key",
            &format!("is not the one that is {}: {message}", patient.known_from),
            "find out why it changed; only then trust it (`mainstay node trust`, `host-key`, or `ssh-keygen -R`)",
        ),
        LinkError::AuthFailed(_) => {
            // It was looked at before.
            host_key(patient, record, report).await;
            report.fail(
                "login",
                &message,
                "correct the account, its key or password; or put the key into its ~/.ssh/authorized_keys (`ssh-copy-id`)",
            );
        }
        LinkError::Misconfigured(_) => report.fail("login", &message, "mend it on this machine"),
        _ => report.fail("login", &message, "see the log of its sshd"),
    }
}

fn shell_failed(error: &LinkError, report: &mut Report) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "what else a shell fails by has one way to be told")]
    match error {
        LinkError::Busy(_) => report.fail("sessions", &error.to_string(), "raise MaxSessions in its sshd_config"),
        _ => report.fail(
            "shell",
            &error.to_string(),
            "give the account a login shell that can run commands (`chsh -s /bin/sh NAME`), without ForceCommand, and head",
        ),
    }
}
