//! `mainstay completion`: what a shell is told to ask us, and what we answer: also the names that a server knows.
//!
//! **Invariant:** nothing is said on stderr, and a server that is slow or not there is as one that knows no names: who presses Tab waits
//! for it a moment, at most.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};
use serde_json::Value;

use super::client::Client;
use super::{Cli, Outcome, ServerArguments};
use crate::model::Kind;

/// Set by the shell when it asks; its value is the shell's name.
const ASKED: &str = "MAINSTAY_COMPLETE";

/// How long a server may take, for all that it is asked.
const WITHIN: Duration = Duration::from_millis(1000);

/// Most instances that are asked for what is in them.
const MAX_INSTANCES: usize = 20;

#[derive(Debug, Args)]
pub(super) struct CompletionArguments {
    /// The shell that is to complete. What is written goes to bash: ~/.bashrc as `source <(mainstay completion bash)`; zsh: a file
    /// _mainstay on its fpath; fish: ~/.config/fish/completions/mainstay.fish.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    const fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }
}

/// Writes what has the shell ask us.
pub(super) fn run(arguments: &CompletionArguments) -> Outcome {
    let shells = Shells::builtins();
    let shell = shells.completer(arguments.shell.name()).ok_or("this shell is not known")?;
    shell.write_registration(ASKED, "mainstay", "mainstay", "mainstay", &mut std::io::stdout())?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a shell that asks how a line may go on.
pub fn answer_if_asked() -> Option<ExitCode> {
    std::env::var_os(ASKED)?;
    let asked = CompleteEnv::with_factory(Cli::command).var(ASKED).bin("mainstay").completer("mainstay");
    match asked.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()) {
        Ok(true) => Some(ExitCode::SUCCESS),
        Ok(false) => None,
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// The services, as they are typed.
pub(super) fn services(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, within("services"))
}

/// The nodes, as they are typed.
pub(super) fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, within("nodes"))
}

/// What has a log: services, and processes by their ids.
pub(super) fn logs(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, within("services").into_iter().chain(processes()))
}

/// Kinds in lower case.
pub(super) fn kinds(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, Kind::ALL.map(|kind| kind.name().to_lowercase()))
}

/// What can be explained: all of it, for which kind was typed is not known here.
pub(super) fn objects(current: &OsStr) -> Vec<CompletionCandidate> {
    let of_instances = ["services", "nodes"].into_iter().flat_map(within);
    candidates(current, ids("/1.0/instances").into_iter().chain(of_instances).chain(processes()))
}

fn candidates(current: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let fitting = names.into_iter().filter(|name| name.starts_with(&*current));
    fitting.map(CompletionCandidate::new).collect()
}

fn processes() -> Vec<String> {
    ids("/1.0/processes")
}

/// What is in each instance, as INSTANCE/NAME.
fn within(noun: &str) -> Vec<String> {
    let end = Instant::now() + WITHIN;
    let mut names = Vec::new();
    for instance in ids("/1.0/instances").into_iter().take(MAX_INSTANCES) {
        if Instant::now() >= end {
            break;
        }
        let inside = ids(&format!("/1.0/instances/{instance}/{noun}"));
        names.extend(inside.into_iter().map(|name| format!("{instance}/{name}")));
    }
    names
}

/// The ids of a list of the server that the line names; none where there is no answer.
fn ids(path: &str) -> Vec<String> {
    let Ok(client) = Client::hurried(&server(), WITHIN) else { return Vec::new() };
    let list = client.get(path).unwrap_or_default();
    let is_word = |id: &&str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let ids = list.as_array().into_iter().flatten().filter_map(|object: &Value| object["id"].as_str());
    ids.filter(is_word).map(str::to_owned).collect()
}

/// The server of the line that is being typed, or else of the environment.
fn server() -> ServerArguments {
    let line: Vec<String> = std::env::args().collect();
    let typed = |flag: &str| {
        let apart = line.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].clone());
        apart.or_else(|| {
            line.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned))
        })
    };
    let variable = |name: &str| std::env::var(name).ok();
    ServerArguments {
        server: typed("--server")
            .or_else(|| variable("MAINSTAY_SERVER"))
            .unwrap_or_else(|| "http://127.0.0.1:8080".into()),
        token_file: typed("--token-file").map(Into::into),
        ca: typed("--ca").or_else(|| variable("MAINSTAY_CA")).map(Into::into),
    }
}
