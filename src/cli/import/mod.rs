//! `mainstay import`: Node documents of the machines that other programs' files name.
//!
//! **Invariant:** no password is copied, and no value of a field that is not taken is shown.
//! **Absent here:** evaluation. A template, an encrypted value, or what another file would say is told and left out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args};

use super::Outcome;
use super::manifest::NodeText;
use crate::model::admit::check_user_name;
use crate::model::id::check_id;
use crate::model::secret::{KEY_BYTES, Sealer};
use crate::source::check::{Checked, Extent, Text, check, read};

mod ansible;
mod ini;
mod range;
mod ssh_config;

/// Most hosts that one file may name: a range is short and may mean very many.
const MAX_HOSTS: usize = 10_000;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("from").required(true).args(["ansible_inventory", "ssh_config"])))]
pub(super) struct ImportArguments {
    /// An inventory of Ansible, INI or YAML: hosts become nodes, and their groups labels.
    #[arg(long, value_name = "FILE")]
    ansible_inventory: Option<PathBuf>,
    /// An ssh_config: each Host without wildcards becomes a node.
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// The instance that the nodes are to be in.
    #[arg(long, value_name = "INSTANCE", default_value = "IN1")]
    instance: String,
    /// The account, where the file says none. [default: yours, as ssh does it]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Write nodes.yaml into this folder. [default: to stdout]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// What a file says of machines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    nodes: Vec<Machine>,
    /// What was not understood, or is not copied.
    notes: Vec<Note>,
}

/// A machine that a file names.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    /// Where it is named, from 1.
    line: u64,
    node: NodeText,
}

/// Something that people have to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    /// From 1.
    line: u64,
    text: String,
}

impl Found {
    fn note(&mut self, line: u64, text: impl Into<String>) {
        self.notes.push(Note { line, text: text.into() });
    }
}

pub(super) fn run(arguments: &ImportArguments) -> Outcome {
    check_id(&arguments.instance).map_err(|why| format!("--instance: {why}"))?;
    if let Some(user) = &arguments.user {
        check_user_name(user).map_err(|why| format!("--user: {user:?} is {why}"))?;
    }
    let (path, is_inventory) = match (&arguments.ansible_inventory, &arguments.ssh_config) {
        (Some(path), _) => (path, true),
        (None, Some(path)) => (path, false),
        (None, None) => return Err("name a file".into()),
    };
    let shown = path.display();
    let text = std::fs::File::open(path)
        .map_err(|error| error.to_string())
        .and_then(read)
        .map_err(|error| format!("{shown} can't be read: {error}"))?;
    let mut found = if is_inventory {
        ansible::read(&path.display().to_string(), &text)?
    } else {
        let full = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        ssh_config::read(&text, &full.display().to_string())
    };
    name_accounts(&mut found, arguments.user.as_deref());
    let documents = admitted(&mut found, &arguments.instance);
    found.notes.sort();
    found.notes.dedup();
    for Note { line, text } in &found.notes {
        eprintln!("{shown}:{line}: {text}");
    }
    if documents.is_empty() {
        return Err(format!("{shown} names no machine that could be a node").into());
    }
    let from = path.file_name().unwrap_or_default().to_string_lossy();
    let text = format!(
        "# Made by `mainstay import` from {}. The instance {} has to be declared, too.\n\n{}",
        super::client::printable(&from),
        arguments.instance,
        documents.join("---\n")
    );
    match &arguments.output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(folder) => println!("{}", write(folder, &text)?.display()),
    }
    eprintln!("mainstay: {} nodes", documents.len());
    Ok(ExitCode::SUCCESS)
}

/// Fills in the account where a file says none, and says so once.
fn name_accounts(found: &mut Found, given: Option<&str>) {
    let own = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let Some(user) = given.map(str::to_owned).or_else(own) else { return };
    let without: Vec<&mut Machine> =
        found.nodes.iter_mut().filter(|one| one.node.user.is_empty() && !one.node.is_local).collect();
    let first = without.first().map(|machine| (machine.line, machine.node.id.clone()));
    let count = without.len();
    for machine in without {
        machine.node.user.clone_from(&user);
    }
    if let (Some((line, id)), None) = (first, given) {
        let others = if count > 1 { format!(" and {} others", count - 1) } else { String::new() };
        found.note(
            line,
            format!("no account is named for {id}{others}; {user} is taken, as by ssh; --user names another"),
        );
    }
}

/// The documents of those that may be nodes; of the others it is noted why they may not.
fn admitted(found: &mut Found, instance: &str) -> Vec<String> {
    let sealer = Sealer::new([0; KEY_BYTES]);
    let mut documents = Vec::new();
    for Machine { line, node } in std::mem::take(&mut found.nodes) {
        let text = node.document(instance);
        let as_file = Text { name: String::new(), path: Some("/node.yaml".into()), text: Ok(text.clone()) };
        let Checked { problems, .. } = check(&[as_file], Extent::Each, &sealer);
        match problems.first() {
            None => documents.push(text),
            Some(problem) => {
                let (id, path) = (&node.id, &problem.path);
                found.note(line, format!("{id} is left out: {path}: {}", problem.message));
            }
        }
    }
    documents
}

fn write(folder: &Path, text: &str) -> Result<PathBuf, String> {
    let path = folder.join("nodes.yaml");
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        file?.write_all(text.as_bytes())
    });
    match written {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(format!("there is a {} already; remove it, or name another folder", path.display()))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
