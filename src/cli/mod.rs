//! The command line: what was typed, to what is meant, to what runs. One file a command.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCompleter;

use crate::edge::Role;
use crate::model::id::check_id;
use crate::source::PruneLimit;
use crate::source::git::Address;

mod caret;
mod client;
mod completion;
mod doctor;
mod etcd;
mod explain;
mod fields;
mod import;
mod init;
mod key;
mod kind;
mod logs;
mod man;
mod manifest;
mod node;
mod resolve;
mod rollout;
mod schema;
mod secrets;
mod serve;
mod source;
mod status;
mod store;
mod token;
mod up;
mod validate;
mod view;
mod wait;
mod wire;

pub use completion::answer_if_asked;

/// Keeps services running on plain Linux machines.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run what a folder of manifests, or a Git repository, declares; show it live; stop it on Ctrl-C.
    Up(UpArguments),
    /// Run the controller and the API, until told to end. What runs on the nodes goes on.
    Serve(ServeArguments),
    /// Show who leads, how the store is, and what of all that is declared runs.
    Status(StatusArguments),
    /// Show what processes have written.
    Logs(LogsArguments),
    /// Say why something is as it is: who wants it, where it is and why there, what it waits for. Or what a field means.
    Explain(ExplainArguments),
    /// How changes of a service reach its processes.
    Rollout(RolloutArguments),
    /// Start all processes of a service anew, some at a time.
    Restart(ServiceArguments),
    /// Have a service's processes run from an earlier revision; what is declared stays as it is.
    Rollback {
        #[command(flatten)]
        service: ServiceArguments,
        /// The number of the revision. [default: the last one before that all processes did their work with]
        #[arg(value_name = "REVISION")]
        to: Option<u64>,
    },
    /// Keep changes of a service from its processes.
    Pause(ServiceArguments),
    /// Go on with changes of a service, also with one that has failed or was rolled back.
    Resume(ServiceArguments),
    /// Keep new processes from a node; what runs there goes on.
    Cordon(OneNodeArguments),
    /// Let a node take processes again.
    Uncordon(OneNodeArguments),
    /// Move away from a node what can be moved, and wait for that. Ends with 2 when the time is over, with 1 when something is left
    /// that no drain moves.
    Drain {
        #[command(flatten)]
        node: OneNodeArguments,
        /// How long to wait. The drain goes on after that. [default: until it is done]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// What is done to a node by hand.
    Node(NodeArguments),
    /// Where the server's manifests come from.
    Source(source::SourceArguments),
    /// Make a token for the API.
    Token(TokenArguments),
    /// Check, back up, restore or move the store.
    Store(store::StoreArguments),
    /// The key that secrets are sealed with.
    Secrets(secrets::SecretsArguments),
    /// Write a folder of manifests to start from, for the given hosts. Ask nothing.
    Init(init::InitArguments),
    /// Turn the hosts of an Ansible inventory or an ssh_config into Node documents.
    Import(import::ImportArguments),
    /// Say whether a machine will do as a node, and what to do where it will not. Ends with 1 then.
    Doctor(doctor::DoctorArguments),
    /// Say whether documents are fine, without a server. Ends with 1 when one is not.
    Validate(validate::ValidateArguments),
    /// Write what has a shell complete our commands, and the names of what there is.
    Completion(completion::CompletionArguments),
    /// Write man pages.
    Man(man::ManArguments),
    /// Write the JSON Schema of every kind, one for all kinds, and the description of the API.
    Schema(SchemaArguments),
}

#[derive(Debug, Args)]
struct ListenArguments {
    /// Where the API listens. Anything but loopback needs --tls-cert and --tokens, or --insecure.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Let the API listen where others can reach it, without TLS or without tokens.
    #[arg(long)]
    insecure: bool,
    /// A name that the API is asked by, besides localhost and addresses; may be given several times.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// An origin whose pages a browser lets use the API; may be given several times.
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<String>,
    /// The certificate of the API, in PEM, with those between it and the authority. SIGHUP has it read again.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Who may ask: lines of NAME ROLE SHA256, see `mainstay token`. SIGHUP has it read again.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Leave the nodes' passwords out of every answer.
    #[arg(long)]
    redact_secrets: bool,
    /// Where every change that is asked for is told, a line of JSON each: a file, - for stderr, or none. [default: audit.log in
    /// the data folder]
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct UpArguments {
    /// The folder of manifests: YAML and JSON files, at any depth.
    #[arg(value_name = "DIR", required_unless_present = "git")]
    folder: Option<PathBuf>,
    /// Keep the store, keys, recorded host keys and local logs here, and find them again next time. [default: a temporary
    /// folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    sources: SourcesArguments,
    #[command(flatten)]
    listen: ListenArguments,
}

/// How sources of manifests are followed.
#[derive(Debug, Args)]
struct SourcesArguments {
    /// A branch of a Git repository whose manifests to apply and follow; may be given several times. The URL is https, ssh, or a
    /// path on this machine; without a branch it is the repository's own; the path is a folder in it.
    #[arg(long, value_name = "URL[#BRANCH][:PATH]")]
    git: Vec<Address>,
    /// How often repositories are fetched, besides when `POST /hooks/git` says that there is news.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    git_interval: u32,
    /// A change of a folder or repository that would delete more than this share of the objects that came from it, and at least five, or
    /// all of them, waits for `mainstay source approve`.
    #[arg(long, value_name = "PERCENT", default_value = "30", value_parser = clap::value_parser!(u8).range(..=100))]
    prune_limit: u8,
}

impl SourcesArguments {
    fn prune(&self) -> PruneLimit {
        PruneLimit { percent: self.prune_limit }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.git_interval))
    }
}

#[derive(Debug, Args)]
struct ServeArguments {
    #[command(flatten)]
    listen: ListenArguments,
    /// Where the store, keys and local logs are kept.
    #[arg(long, value_name = "DIR", default_value = "mainstay-data")]
    data_dir: PathBuf,
    #[command(flatten)]
    etcd: etcd::EtcdArguments,
    /// With several servers on one etcd: how long one that leads and is gone keeps the others from leading. At least 2.
    #[arg(long, value_name = "SECONDS", default_value = "10", requires = "etcd", value_parser = clap::value_parser!(u64).range(2..=3600))]
    lease: u64,
    /// With several servers on one etcd: where the others reach this one's API, without TLS. [default: http:// and what it listens on,
    /// unless that is any address or has TLS]
    #[arg(long, value_name = "URL", requires = "etcd")]
    advertise: Option<String>,
    /// No process is started elsewhere, whatever its service's `failover` says, while more than this share of all nodes does not answer:
    /// then it is more likely the controller that is cut off. One node always may.
    #[arg(long, value_name = "PERCENT", default_value = "30", value_parser = clap::value_parser!(u8).range(..=100))]
    freeze_above: u8,
    /// Nor in the first seconds after the controller has begun.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(..=3600))]
    settle: u32,
    /// The key that secrets are sealed with. Made when absent. [default: secret.key in the data folder]
    #[arg(long, value_name = "FILE")]
    secret_key: Option<PathBuf>,
    /// A folder of manifests to apply and follow; may be given several times.
    #[arg(long, value_name = "DIR")]
    manifests: Vec<PathBuf>,
    #[command(flatten)]
    sources: SourcesArguments,
    /// Leave out the shipped service types and integrations.
    #[arg(long)]
    no_catalogue: bool,
}

#[derive(Debug, Args)]
struct ServerArguments {
    /// The server's address.
    #[arg(long, value_name = "URL", env = "MAINSTAY_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// A file that holds the token to show. [default: what MAINSTAY_TOKEN holds]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The certificates, in PEM, by which an https server is known. [default: the public authorities]
    #[arg(long, value_name = "FILE", env = "MAINSTAY_CA")]
    ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StatusArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// How it is shown.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: StatusOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StatusOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
struct LogsArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Go on with what is written, until Ctrl-C or the process is removed.
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last lines only. [default: all that is kept; 10 when there are several processes]
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Say before each line whose it is. [default: when there are several processes]
    #[arg(long, overrides_with = "no_prefix")]
    prefix: bool,
    /// Never say whose a line is.
    #[arg(long, overrides_with = "prefix")]
    no_prefix: bool,
    /// The id of a process, or the beginning of one that is no other's; or INSTANCE/SERVICE for all processes of a service.
    #[arg(value_name = "TARGET", required = true, add = ArgValueCompleter::new(completion::logs))]
    targets: Vec<String>,
}

#[derive(Debug, Args)]
struct NodeArguments {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Trust the host key that a node shows now, after a person has checked why it changed.
    Trust(OneNodeArguments),
    /// Delete a node that is gone for good: nothing waits for it any more. If the machine comes back, what runs there goes on without
    /// anybody's looking after it.
    Forget {
        #[command(flatten)]
        node: OneNodeArguments,
        /// Why it is gone for good; kept in the events and in the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Args)]
struct OneNodeArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The node, such as IN1/ND1.
    #[arg(value_name = "INSTANCE/NODE", add = ArgValueCompleter::new(completion::nodes))]
    node: String,
}

#[derive(Debug, Args)]
struct ServiceArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The service, such as IN1/SV1.
    #[arg(value_name = "INSTANCE/SERVICE", add = ArgValueCompleter::new(completion::services))]
    service: String,
}

#[derive(Debug, Args)]
struct RolloutArguments {
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
enum RolloutCommand {
    /// Tell how far a change has come, until it is everywhere. Ends with 1 when it goes no further by itself, with 2 when the time is
    /// over.
    Status {
        #[command(flatten)]
        service: ServiceArguments,
        /// Whether to wait for it.
        #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        watch: bool,
        /// How long to wait. [default: until it is everywhere, or goes no further]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// List what a service's processes were started with, and what changed from one to the next.
    History {
        #[command(flatten)]
        service: ServiceArguments,
        /// How it is shown.
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: StatusOutput,
    },
    /// As `mainstay pause`.
    Pause(ServiceArguments),
    /// As `mainstay resume`.
    Resume(ServiceArguments),
    /// As `mainstay restart`.
    Restart(ServiceArguments),
    /// As `mainstay rollback`.
    Undo {
        #[command(flatten)]
        service: ServiceArguments,
        /// The number of the revision. [default: the last one before that all processes did their work with]
        #[arg(long, value_name = "REVISION")]
        to: Option<u64>,
    },
}

#[derive(Debug, Args)]
struct ExplainArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// How it is shown.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: StatusOutput,
    /// Of a kind or field: the fields of its fields, too, without their words.
    #[arg(short, long, conflicts_with = "name")]
    recursive: bool,
    /// Alone a kind and its fields, such as service.update, to be told what they mean; with a name what kind of thing that is:
    /// instance, node, service or process.
    #[arg(value_name = "KIND[.FIELD…]", add = ArgValueCompleter::new(completion::kinds))]
    kind: String,
    /// INSTANCE/NAME; an instance or a process by its id alone.
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(completion::objects))]
    name: Option<String>,
}

#[derive(Debug, Args)]
struct TokenArguments {
    /// Whose it is; stands in the audit log.
    #[arg(long)]
    name: String,
    /// What it is good for: viewer, operator or admin.
    #[arg(long)]
    role: Role,
}

#[derive(Debug, Args)]
struct SchemaArguments {
    /// Where to write one file a kind, mainstay.json for files that hold several kinds, and the API's openapi.json.
    #[arg(value_name = "DIR", default_value = "schemas")]
    folder: PathBuf,
    /// Where to write the API's reference page too.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

impl Cli {
    /// Does what was asked. Data goes to stdout, messages to stderr.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Up(arguments) => in_runtime("off", up::run(arguments)),
            Command::Serve(arguments) => in_runtime("info", serve::run(arguments)),
            Command::Status(arguments) => status::run(&arguments),
            Command::Logs(arguments) => logs::run(arguments),
            Command::Explain(arguments) => explain::run(&arguments),
            Command::Rollout(RolloutArguments { command }) => command.run(),
            Command::Restart(service) => RolloutCommand::Restart(service).run(),
            Command::Pause(service) => RolloutCommand::Pause(service).run(),
            Command::Resume(service) => RolloutCommand::Resume(service).run(),
            Command::Rollback { service, to } => RolloutCommand::Undo { service, to }.run(),
            Command::Cordon(OneNodeArguments { server, node }) => node::cordon(&server, &node),
            Command::Uncordon(OneNodeArguments { server, node }) => node::uncordon(&server, &node),
            Command::Drain { node: OneNodeArguments { server, node }, timeout } => {
                node::drain(&server, &node, timeout)
            }
            Command::Node(NodeArguments { command }) => match command {
                NodeCommand::Trust(OneNodeArguments { server, node }) => node::trust(&server, &node),
                NodeCommand::Forget { node: OneNodeArguments { server, node }, reason } => {
                    node::forget(&server, &node, &reason)
                }
            },
            Command::Source(arguments) => source::run(&arguments),
            Command::Token(arguments) => token::run(&arguments),
            Command::Store(arguments) => in_runtime("warn", store::run(arguments)),
            Command::Secrets(arguments) => in_runtime("warn", secrets::run(arguments)),
            Command::Init(arguments) => in_runtime("off", init::run(arguments)),
            Command::Import(arguments) => import::run(&arguments),
            Command::Doctor(arguments) => in_runtime("off", doctor::run(arguments)),
            Command::Validate(arguments) => validate::run(&arguments),
            Command::Completion(arguments) => completion::run(&arguments),
            Command::Man(arguments) => man::run(&arguments),
            Command::Schema(arguments) => schema::run(&arguments),
        };
        match result {
            Ok(code) => code,
            Err(error) => {
                eprintln!("mainstay: {}", chain(&*error));
                ExitCode::FAILURE
            }
        }
    }
}

impl RolloutCommand {
    fn run(self) -> Outcome {
        match self {
            RolloutCommand::Status { service: ServiceArguments { server, service }, watch, timeout } => {
                rollout::status(&server, &service, watch, timeout)
            }
            RolloutCommand::History { service: ServiceArguments { server, service }, output } => {
                rollout::history(&server, &service, output)
            }
            RolloutCommand::Pause(ServiceArguments { server, service }) => {
                rollout::say(&server, &service, rollout::Word::Pause)
            }
            RolloutCommand::Resume(ServiceArguments { server, service }) => {
                rollout::say(&server, &service, rollout::Word::Resume)
            }
            RolloutCommand::Restart(ServiceArguments { server, service }) => {
                rollout::say(&server, &service, rollout::Word::Restart)
            }
            RolloutCommand::Undo { service: ServiceArguments { server, service }, to } => {
                rollout::undo(&server, &service, to)
            }
        }
    }
}

/// The instance and the id in what was typed, such as `IN1/SV1`.
fn named<'a>(typed: &'a str, what: &str, example: &str) -> Result<(&'a str, &'a str), String> {
    typed
        .split_once('/')
        .filter(|(instance, name)| check_id(instance).is_ok() && check_id(name).is_ok())
        .ok_or_else(|| {
            let form = what.to_uppercase();
            format!("{typed:?} names no {what}; write INSTANCE/{form}, such as {example}")
        })
}

/// What a command ends with.
type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

fn in_runtime(log_level: &str, command: impl Future<Output = Outcome>) -> Outcome {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MAINSTAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(log_level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
