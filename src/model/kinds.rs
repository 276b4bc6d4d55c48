//! The spec of every kind. Field names are the seed's own; fields beyond the seed say where they come from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::amount::{Seconds, Share};
use super::secret::Sealed;

/// A free JSON object.
pub type Object = Map<String, Value>;

/// A physical collection of services (seed, "Instances").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InstanceSpec {
    /// Human-friendly name of the instance.
    pub name: String,
    /// URL of the authentication service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// URL of the REST API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// URL of the REST receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<String>,
    /// Addresses of the Zookeeper ensemble, comma separated.
    pub zk: String,
    /// URL of Redis.
    pub redis: String,
    /// Where statistics go; `type` is graphite or ganglia.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Object>,
}

/// A virtual partition of an instance (seed, "Tenants").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TenantSpec {
    /// Human-friendly name of the tenant.
    pub name: String,
    /// Events per second; the platform's default is 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub rate_limit: Option<f64>,
    /// The instance that serves the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Integrations that the tenant may use, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub integrations: Vec<String>,
}

/// A person or program with access to tenants (seed, "Users"). The object's name is the email address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UserSpec {
    /// Name of the user.
    pub name: String,
    /// Client id credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Tenants that the user has access to, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// Argon2id hash of the password in PHC string form. Never returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// SHA-256 of the client secret, in hexadecimal: the other half of the client id. Never returned. A plain hash will do, for
    /// the secret is 256 random bits, which nobody finds by trying; a password is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_hash: Option<String>,
}

/// An entry of the integrations' catalogue: what a tenant may be given access to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IntegrationSpec {
    /// Which integration this is; the platform's services know it by this word.
    #[serde(rename = "type")]
    pub kind: String,
    /// Human-friendly name.
    pub display: String,
    /// What the tenant is asked for.
    #[serde(default)]
    pub schema: Vec<IntegrationParameter>,
    /// What the integration can be told to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<IntegrationEndpoint>,
    /// What the integration can listen to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<IntegrationListener>,
}

/// One thing that a tenant is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IntegrationParameter {
    /// What people see.
    pub label: String,
    /// What the parameter is called.
    pub param: String,
    /// `password` for what must not be shown.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// The sending side of an integration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IntegrationEndpoint {
    /// Name of the endpoint.
    pub name: String,
    /// The type of service that serves it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Human-friendly name.
    pub display: String,
    /// The tenant's parameters that it gets.
    #[serde(default)]
    pub params: Vec<String>,
    /// Parameters that are the same for every tenant.
    #[serde(default)]
    pub static_params: Vec<String>,
    /// Parameters that must not be shown.
    #[serde(default)]
    pub redact: Vec<String>,
    /// Operation → parameter → what it is.
    pub sends: BTreeMap<String, BTreeMap<String, SendParameter>>,
}

/// A parameter of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SendParameter {
    /// Whether it has to be given.
    #[serde(rename = "type")]
    pub kind: Necessity,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The values that it may take.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// Whether a parameter has to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Necessity {
    /// It has to be.
    Mandatory,
    /// It may be left out.
    Optional,
}

/// The receiving side of an integration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IntegrationListener {
    /// Name of the listener.
    pub name: String,
    /// The type of service that serves it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Human-friendly name.
    pub display: String,
    /// The tenant's parameters that it gets.
    #[serde(default)]
    pub params: Vec<String>,
    /// Parameters that are the same for every tenant.
    #[serde(default)]
    pub static_params: Vec<String>,
    /// Parameters that must not be shown.
    #[serde(default)]
    pub redact: Vec<String>,
    /// What it asks for.
    #[serde(default)]
    pub schema: Vec<IntegrationParameter>,
}

/// How one type of service runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServiceTypeSpec {
    /// What the type is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Program and arguments, each a template, each staying one argument whatever it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables, each value a template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The file or folder that the type's processes run from. It is sent to the nodes that need it; `{{ artifact }}` in
    /// `command` and `env` is its path there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactSpec>,
    /// How a process is asked to end.
    #[serde(default)]
    pub stop: StopSpec,
    /// How long a process has to stay up before it counts as running.
    #[serde(default)]
    pub start: StartSpec,
    /// How its node finds out whether a process does its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSpec>,
    /// How much of a process's output is kept on its node.
    #[serde(default)]
    pub log: LogSpec,
    /// How a process is told that its bundle changed. Without it, it is expected to see for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<ReloadSpec>,
    /// JSON Schema (2020-12) of the service's `options`; its `default`s are filled in before templates are rendered.
    #[serde(default)]
    pub options_schema: Object,
    /// Options that take effect without a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live_options: Vec<String>,
}

impl ServiceTypeSpec {
    /// Milliseconds that a process has to stay up before it counts as running.
    pub fn start_ms(&self) -> u64 {
        u64::from(self.start.seconds) * 1000
    }
}

/// A file or folder of the controller's machine that is sent to nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ArtifactSpec {
    /// The file or folder, on the controller's machine. A relative path is relative to the manifest.
    pub path: String,
    /// What the content has to have, if it is to be no other: of a file the SHA-256 of its bytes in hexadecimal, as `sha256sum`
    /// prints it, of a folder its `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The content's address: the SHA-256, in hexadecimal, of the tar that is sent. Filled in when the manifest is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The length of that tar in bytes. Filled in when the manifest is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// How a process is asked to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StopSpec {
    /// The signal that asks.
    pub signal: Signal,
    /// Seconds between asking and killing, 0 to 3600.
    #[schemars(range(max = 3600))]
    pub grace_seconds: u32,
}

impl Default for StopSpec {
    fn default() -> StopSpec {
        StopSpec { signal: Signal::Term, grace_seconds: 10 }
    }
}

/// When a started process counts as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StartSpec {
    /// Seconds that it has to stay up, 0 to 3600; 0 counts it at once.
    #[schemars(range(max = 3600))]
    pub seconds: u32,
}

impl Default for StartSpec {
    fn default() -> StartSpec {
        StartSpec { seconds: 1 }
    }
}

/// How a node finds out whether a process does its work: exactly one of `tcp`, `http`, `exec`. Until the first success it is
/// asked at least every second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HealthSpec {
    /// A template of `host:port`; healthy when the node can connect to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// A template of an `http://` or `https://` address; healthy when it answers with a status from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Program and arguments, each a template; healthy when it exits with 0. It has the process's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// Seconds between two checks, 1 to 3600.
    #[serde(default = "HealthSpec::default_interval")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: u32,
    /// Seconds that a check may take, 1 to 600.
    #[serde(default = "HealthSpec::default_timeout")]
    #[schemars(range(min = 1, max = 600))]
    pub timeout_seconds: u32,
    /// How many checks in a row have to fail before it is unhealthy, 1 to 1000.
    #[serde(default = "HealthSpec::default_failures")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: u32,
    /// How many checks in a row have to succeed before it is healthy (again), 1 to 1000.
    #[serde(default = "HealthSpec::default_successes")]
    #[schemars(range(min = 1, max = 1000))]
    pub success_threshold: u32,
}

impl HealthSpec {
    const fn default_interval() -> u32 {
        10
    }

    const fn default_timeout() -> u32 {
        2
    }

    const fn default_failures() -> u32 {
        3
    }

    const fn default_successes() -> u32 {
        1
    }
}

/// How much of a process's output is kept on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LogSpec {
    /// Bytes at which the log is rotated, 4096 to 1 TiB. Its size is looked at every few seconds, so it can be more for a moment.
    #[schemars(range(min = 4096, max = 1_099_511_627_776_u64))]
    pub max_size: u64,
    /// How many rotated logs are kept beside the present one, 0 to 100.
    #[schemars(range(max = 100))]
    pub keep: u32,
}

impl Default for LogSpec {
    fn default() -> LogSpec {
        LogSpec { max_size: 10 * 1024 * 1024, keep: 1 }
    }
}

/// How a process is told to read its configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReloadSpec {
    /// The signal that tells.
    pub signal: Signal,
}

/// Signals that may be sent to a process, by their POSIX names without SIG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "POSIX says what each is")]
pub enum Signal {
    Hup,
    Int,
    Quit,
    Term,
    Usr1,
    Usr2,
    Winch,
}

impl Signal {
    /// The name that `kill -s` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Signal::Hup => "HUP",
            Signal::Int => "INT",
            Signal::Quit => "QUIT",
            Signal::Term => "TERM",
            Signal::Usr1 => "USR1",
            Signal::Usr2 => "USR2",
            Signal::Winch => "WINCH",
        }
    }
}

/// A machine (seed, "Nodes").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeSpec {
    /// Human-friendly name of the node.
    pub name: String,
    /// What this node should do, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// IP address or host name of the machine (with `ssh-config`, an alias of that file).
    pub ip_address: String,
    /// The account that services run under. Not needed for `transport: local`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The account's password. Sealed before it is stored; `password-from` keeps it out of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Sealed>,
    /// Whether or not this node can be deployed against; false cordons it. Unset means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<bool>,
    /// Port of the SSH server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Where the controller reads the password when it connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_from: Option<PasswordFrom>,
    /// Private key, on the controller's machine. A relative path is relative to the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<String>,
    /// The machine's host key, as in a known_hosts line (`ssh-ed25519 AAAA…`). Unset: trusted on first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// An ssh_config file to obey (jump hosts, agents). A relative path is relative to the manifest. Unset: none is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_config: Option<String>,
    /// How the node is reached.
    #[serde(default)]
    pub transport: Transport,
}

/// How a node is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Over OpenSSH.
    #[default]
    Ssh,
    /// The controller's own machine, through `/bin/sh`.
    Local,
}

/// Where a password is read when it is needed; exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PasswordFrom {
    /// The first line of a file on the controller's machine. A relative path is relative to the manifest.
    File(String),
    /// An environment variable of the controller.
    Env(String),
}

/// How much a service writes to its log (seed, "Services").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the seed lists them")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
}

/// The configuration of all processes of one type (seed, "Services").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServiceSpec {
    /// The type of service, by the name of its ServiceType.
    #[serde(rename = "type")]
    pub kind: String,
    /// Human-friendly name.
    pub name: String,
    /// What it does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How much the service writes to its log. Takes effect without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Configuration of this service, checked against the type's `options-schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Object>,
    /// Whether the service's processes should run. Unset means yes; `/1.0` creates with an explicit false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// Instead of the type's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Added to the type's environment; the same name overrides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Placement: one process on each of these nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// Placement: this many processes, spread over the nodes that `node-selector` matches. 0 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10_000))]
    pub replicas: Option<u32>,
    /// Labels that a node must have for `replicas` to be placed there; empty matches all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// How changes are rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateSpec>,
    /// Services that must be available before a process of this one starts, by id; it is stopped before them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What to do about a node that does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverSpec>,
}

/// How a change of command, environment, artifact or options reaches the processes: some at a time, each of the next ones once those
/// before do their work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UpdateSpec {
    /// How many of the service's processes may be unavailable at once because of a change; unset means 1. What is unavailable for
    /// another reason counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Share>,
    /// Seconds that a new process must have done its work before the next is replaced, 0 to 3600; unset means 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 3600))]
    pub min_ready_seconds: Option<u32>,
    /// Seconds within which a new process has to do its work, 1 to 86400; unset means 300. When it does not, or crashes again and
    /// again, the change has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub progress_deadline_seconds: Option<u32>,
    /// What to do then; unset means pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

impl UpdateSpec {
    /// How many of so many processes may be unavailable at once.
    pub fn max_unavailable(&self, all: u32) -> u32 {
        self.max_unavailable.unwrap_or(Share::Count(1)).of(all)
    }

    /// Milliseconds that a new process must have done its work.
    pub fn min_ready_ms(&self) -> u64 {
        u64::from(self.min_ready_seconds.unwrap_or(0)) * 1000
    }

    /// Milliseconds within which it has to.
    pub fn progress_deadline_ms(&self) -> u64 {
        u64::from(self.progress_deadline_seconds.unwrap_or(300)) * 1000
    }
}

/// What a rollout does when it fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Stop there and say so.
    #[default]
    Pause,
    /// Go back to what ran before.
    Rollback,
}

/// What to do about the processes of a node that does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FailoverSpec {
    /// Nothing: unknown is not absent.
    #[default]
    Hold,
    /// Start elsewhere after a time without an answer: at least one copy, and perhaps two, for a node that does not answer may go on.
    Replace {
        /// How long without an answer, 1 s to 24 h.
        after: Seconds,
    },
    /// At most one copy: the node stops the process itself when its lease is not renewed, and only after that it is started elsewhere.
    Fenced {
        /// How long a lease lasts, 5 s to 1 h.
        lease: Seconds,
    },
}

/// What a service's processes are started with, as it was at one time. Written by the controller whenever that changes, so that a change
/// can be rolled out step by step and taken back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RevisionSpec {
    /// The service, by id.
    pub service: String,
    /// Counts the service's revisions from 1.
    pub number: u64,
    /// Hash of all that makes a process start anew when it changes.
    pub hash: String,
    /// The service as it was.
    pub template: Box<ServiceSpec>,
    /// The service's type as it was.
    pub service_type: Box<ServiceTypeSpec>,
    /// What the templates use of the instance, as it was.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub instance: Object,
    /// Set by a restart that people asked for: a start with the same content, and another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<String>,
    /// Whether all of the service's processes have once done their work with it.
    #[serde(default)]
    pub completed: bool,
    /// Why it is not rolled out any further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The revision that runs instead of this one for as long as the service stays as this one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<u64>,
}

impl RevisionSpec {
    /// What [`RevisionSpec::failed`] says when it was people who went back to another revision: nothing is wrong then.
    pub const ROLLED_BACK: &str = "rolled back by people";
}

/// One (instance, service, node); the instance is the object's namespace. Immutable but for `running`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProcessSpec {
    /// The service, by id.
    pub service: String,
    /// The node, by id.
    pub node: String,
    /// Whether this process should run, where that is not as its service says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
}

/// What was done to what, why, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EventSpec {
    /// The object that it is about, as `Kind instance/name`.
    pub regarding: String,
    /// What was done, one word, such as `Start`.
    pub action: String,
    /// Why, one word, such as `NotRunning`.
    pub reason: String,
    /// How it ended, for people.
    pub message: String,
    /// How often the same was said.
    pub count: u64,
    /// When it was said first, RFC 3339.
    pub first_timestamp: String,
    /// When it was said last, RFC 3339.
    pub last_timestamp: String,
}
