//! `mainstay init`: a folder to start from, for hosts that are there.
//!
//! **Invariant:** nothing is written before all of it was admitted, and never over anything.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::process::Command;

use super::Outcome;
use super::manifest::NodeText;
use super::resolve::{Typed, resolve, said};
use crate::model::document::schema_of_all;
use crate::model::secret::{KEY_BYTES, Sealer};
use crate::source::check::{Checked, Extent, Text, check};

/// How long a host may take to show its key.
const SCAN_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// Ask each host for its key and pin that. It is not known whose key it is: compare it. [default: the key that a host shows
    /// first is trusted and recorded]
    #[arg(long)]
    scan_host_keys: bool,
    /// The ssh_config that says how hosts are reached, or none. [default: what ssh reads]
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<String>,
    /// The folder; made if it is not there, and refused if there is anything in it.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The machines. Where the account or the port is left out, it is as ssh would have it. [default: this machine, without SSH]
    #[arg(value_name = "USER@HOST:PORT")]
    hosts: Vec<Typed>,
}

pub(super) async fn run(arguments: InitArguments) -> Outcome {
    let folder = &arguments.folder;
    refuse_what_is_there(folder)?;
    let mut nodes = Vec::new();
    for (at, host) in arguments.hosts.iter().enumerate() {
        nodes.push(node(at + 1, host, &arguments).await?);
    }
    if nodes.is_empty() {
        nodes.push(NodeText {
            id: "ND1".into(),
            name: "This machine".into(),
            host: "127.0.0.1".into(),
            is_local: true,
            ..NodeText::default()
        });
    }
    let files = files(folder, &nodes);
    admit(folder, &files)?;
    std::fs::create_dir_all(folder.join(SCHEMAS))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let schema = (format!("{SCHEMAS}/mainstay.json"), format!("{:#}\n", schema_of_all()));
    for (name, text) in files.iter().chain([&schema]) {
        let path = folder.join(name);
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    let shown = folder.display();
    eprintln!("mainstay: now run `mainstay validate {shown}`, then `mainstay up {shown}`");
    Ok(ExitCode::SUCCESS)
}

/// Hidden, so that no manifest is looked for in it.
const SCHEMAS: &str = ".schemas";

fn refuse_what_is_there(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    if shown.to_string().chars().any(char::is_control) {
        return Err("the folder's name has a control character in it; choose another".into());
    }
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(format!(
                "there is something in {shown} already; name a folder that is empty or not there"
            )),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// What ssh would do with a host, as a Node that needs no ssh_config unless only that can say how it is reached.
async fn node(number: usize, typed: &Typed, arguments: &InitArguments) -> Result<NodeText, String> {
    let config = arguments.ssh_config.as_deref();
    let resolved = resolve(typed, config).await?;
    let mut node = NodeText {
        id: format!("ND{number}"),
        name: typed.host.clone(),
        user: resolved.user.clone(),
        ..NodeText::default()
    };
    if resolved.is_proxied {
        node.host.clone_from(&typed.host);
        node.port = typed.port;
        let config = config.unwrap_or("~/.ssh/config");
        node.ssh_config = Some(if config.starts_with("~/") { config.to_owned() } else { absolute(config) });
    } else {
        node.host.clone_from(&resolved.host);
        node.port = Some(resolved.port).filter(|port| *port != 22);
        node.identity_file = resolved.identity_files.first().cloned();
    }
    if arguments.scan_host_keys {
        if resolved.is_proxied {
            return Err(format!(
                "{} is reached through another host, so its key can't be asked for; leave --scan-host-keys away",
                typed.host
            ));
        }
        node.host_key = Some(host_key(&resolved.host, resolved.port).await?);
    }
    Ok(node)
}

fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// The key that a host shows, of the best type that it has.
async fn host_key(host: &str, port: u16) -> Result<String, String> {
    let mut command = Command::new("ssh-keyscan");
    command.args(["-T", "5", "-t", "ed25519,ecdsa,rsa", "-p", &port.to_string(), "--", host]);
    let none = |why: &str| {
        format!(
            "{host}:{port} shows no host key{why}; is it reachable? leave --scan-host-keys away to go on without"
        )
    };
    let said = said(command, SCAN_WITHIN).await.map_err(|why| none(&format!(" ({why})")))?;
    best_key(&said).ok_or_else(|| none(""))
}

fn best_key(scanned: &str) -> Option<String> {
    let keys = scanned.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    let keys: Vec<&str> = keys.map(|(_, key)| key.trim()).collect();
    let of_type = |kind: &str| keys.iter().find(|key| key.starts_with(kind)).map(|key| (*key).to_owned());
    ["ssh-ed25519 ", "ecdsa-", "ssh-rsa "].into_iter().find_map(of_type)
}

/// Nothing is written that would be refused.
fn admit(folder: &Path, files: &[(String, String)]) -> Result<(), String> {
    let texts: Vec<Text> = files
        .iter()
        .map(|(name, text)| Text {
            name: name.clone(),
            path: Some(folder.join(name)),
            text: Ok(text.clone()),
        })
        .collect();
    let Checked { problems, .. } = check(&texts, Extent::Whole, &Sealer::new([0; KEY_BYTES]));
    match problems.first() {
        None => Ok(()),
        Some(problem) => Err(format!("what ssh says of these hosts makes no node: {problem}")),
    }
}

/// The manifests, by name.
fn files(folder: &Path, nodes: &[NodeText]) -> Vec<(String, String)> {
    let folder = folder.display().to_string();
    let head = format!("# yaml-language-server: $schema={SCHEMAS}/mainstay.json\n");
    let all: Vec<String> = nodes.iter().map(|node| node.document("IN1")).collect();
    let ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    let about_nodes = if nodes.iter().any(|node| node.is_local) { ABOUT_THIS_MACHINE } else { ABOUT_NODES };
    vec![
        ("1-instance.yaml".into(), format!("{head}{}", INSTANCE.replace("DIR", &folder))),
        ("2-nodes.yaml".into(), format!("{head}{about_nodes}\n{}", all.join("---\n"))),
        ("3-services.yaml".into(), format!("{head}{}", SERVICES.replace("NODES", &ids.join(", ")))),
    ]
}

const INSTANCE: &str = r#"#
# What runs is what this folder says. Is it fine?
#
#     mainstay validate DIR
#
# Run it, and see it live; Ctrl-C stops everything:
#
#     mainstay up DIR
#
# While it runs, change a file and save: what runs follows. All files here are one set; their names do not matter. What each field
# means: `mainstay explain service.update`.
#
# An instance is what nodes and services belong to: their `namespace`.

apiVersion: mainstay.dev/v1
kind: Instance
metadata:
  name: IN1
spec:
  name: Mine
  # Every instance has these two. Nothing here connects to them.
  zk: localhost:2181
  redis: redis://localhost:6379
"#;

const ABOUT_THIS_MACHINE: &str = r"#
# A node is a machine that services run on. This one is the machine that you sit at, without SSH. For another one leave `transport`
# out, and write its address and `username`; `mainstay doctor user@host` says whether it will do.
";

const ABOUT_NODES: &str = r"#
# A node is a machine that services run on. Nothing is installed there: sshd, a POSIX shell and the usual tools will do, and
# `mainstay doctor user@host` says whether they are there.
#
# One logs in with a key, of ssh's agent or by `identity-file`; or by a password, which is best kept out of this file:
# `password-from: {file: PATH}`. Where no `host-key` is given, the key that a machine shows first is recorded, and another one later is
# refused.
";

const SERVICES: &str = r#"#
# A type says how services of it run; a service is one of a type, with options of its own, on nodes of its own.

apiVersion: mainstay.dev/v1
kind: ServiceType
metadata:
  name: hello
spec:
  description: Says a line now and then.
  # Program and arguments. Each is a template and stays one argument: no shell reads it, unless it is handed to one, as here.
  command: [sh, -c, 'while :; do echo "$GREETING from $MAINSTAY_NODE"; sleep "$EVERY"; done']
  env:
    GREETING: "{{ options.greeting }}"
    EVERY: "{{ options.every }}"
  options-schema:
    type: object
    additionalProperties: false # so that a mistake in an option is found
    properties:
      greeting: {type: string, default: Hello}
      every: {type: integer, minimum: 1, default: 5, description: Seconds between two lines.}
---
apiVersion: mainstay.dev/v1
kind: Service
metadata:
  name: SV1
  namespace: IN1
spec:
  type: hello
  name: Hello
  options:
    greeting: Good day # change it and save: the process is started again with it
  nodes: [NODES] # one process on each; or `replicas: 1`, wherever there is room

# What it says: `mainstay logs -f IN1/SV1`, beside `mainstay up`.
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_host_keys_the_best_is_pinned() {
        let said =
            "# h:22 SSH-2.0\nh ssh-rsa AAAAB3\nh ecdsa-sha2-nistp256 AAAAE2\n[h]:22 ssh-ed25519 AAAAC3\n";
        assert_eq!(best_key(said).as_deref(), Some("ssh-ed25519 AAAAC3"));
        assert_eq!(best_key("# h:22 SSH-2.0\n"), None);
    }

    #[test]
    fn what_would_be_written_is_admitted_whatever_the_hosts_are_like() {
        let local = NodeText {
            id: "ND1".into(),
            name: "a".into(),
            host: "127.0.0.1".into(),
            is_local: true,
            ..NodeText::default()
        };
        let far = NodeText {
            id: "ND2".into(),
            name: "true".into(),
            host: "2001:db8::1".into(),
            port: Some(2222),
            user: "root".into(),
            identity_file: Some("~/my key: # 1".into()),
            host_key: Some("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5".into()),
            ..NodeText::default()
        };
        let folder = Path::new("any");
        for nodes in [vec![local.clone()], vec![far.clone()], vec![local, far]] {
            assert_eq!(admit(folder, &files(folder, &nodes)), Ok(()));
        }
    }
}
