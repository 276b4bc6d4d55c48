//! What a plan is made of: steps with reasons, and holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::world::ArtifactSource;
use crate::model::kinds::{LogSpec, Signal, StopSpec};

/// Everything that is needed to start a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// Environment variables, added to those of the account.
    pub env: BTreeMap<String, String>,
    /// Hash of all that needs a restart when it changes.
    pub hash: String,
    /// Hash of all that it is told of by a reload when it changes; `-` when nothing does, or when it is yet to be told.
    pub live: String,
    /// How it is asked to end.
    pub stop: StopSpec,
    /// How its supervisor looks after it.
    pub care: Care,
}

/// How a supervisor looks after a process. It can be changed while the process runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Care {
    /// How much of its output is kept.
    pub log: LogSpec,
    /// How it is checked.
    pub health: Option<Check>,
    /// Seconds after which its node stops it when the controller has not renewed its lease; none when it runs whether the controller is
    /// there or not.
    pub lease: Option<u32>,
    /// Hash of all of this, and of how it is stopped where it has a lease.
    pub hash: String,
}

/// A health check, with its templates rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// Seconds between two checks; at least 1.
    pub interval_seconds: u32,
    /// Seconds that one may take; at least 1.
    pub timeout_seconds: u32,
    /// Failures in a row that make it unhealthy; at least 1.
    pub failure_threshold: u32,
    /// Successes in a row that make it healthy; at least 1.
    pub success_threshold: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Whether something listens.
    Tcp {
        /// Address or name, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Whether an address answers with a status from 200 to 399.
    Http {
        /// The whole address.
        url: String,
    },
    /// Whether a program exits with 0.
    Exec {
        /// Program and arguments; never empty.
        command: Vec<String>,
    },
}

/// What to do on a node. Executing one leaves no choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the file that tells the services of their configuration.
    Bundle {
        /// Hash of the text.
        hash: String,
        /// The file's text.
        text: String,
    },
    /// Take that file away: nothing reads it any more, and it may hold what users are authenticated by.
    Unbundle,
    /// Stop a process and forget all that the node knows of it.
    Remove {
        /// The process.
        id: String,
        /// How it is asked to end.
        stop: StopSpec,
    },
    /// Stop a process and everything it started.
    Stop {
        /// The process.
        id: String,
        /// How it is asked to end.
        stop: StopSpec,
    },
    /// Tell a process to read its configuration again.
    Reload {
        /// The process.
        id: String,
        /// The signal that tells.
        signal: Signal,
        /// What it is told, as a hash.
        live: String,
    },
    /// Give a process that runs a (new) supervisor, and leave it running. One that has ended meanwhile is started.
    Adopt {
        /// The process.
        id: String,
        /// What to start when it ends.
        start: Arc<Start>,
    },
    /// Stop a process, then start it.
    Restart {
        /// The process.
        id: String,
        /// What to start.
        start: Arc<Start>,
    },
    /// Start a process that does not run.
    Start {
        /// The process.
        id: String,
        /// What to start.
        start: Arc<Start>,
    },
    /// Remove an artifact that nothing uses.
    Discard {
        /// Its address.
        address: String,
    },
}

impl Action {
    /// The process that it is about; none for the bundle and for artifacts.
    pub fn process(&self) -> Option<&str> {
        match self {
            Action::Bundle { .. } | Action::Unbundle | Action::Discard { .. } => None,
            Action::Remove { id, .. }
            | Action::Stop { id, .. }
            | Action::Reload { id, .. }
            | Action::Adopt { id, .. }
            | Action::Restart { id, .. }
            | Action::Start { id, .. } => Some(id),
        }
    }

    /// What it is about, as attempts are kept: a process's id, an artifact's address, which no id is as long as, or nothing for
    /// the bundle.
    pub fn about(&self) -> &str {
        match self {
            Action::Bundle { .. } | Action::Unbundle => "",
            Action::Discard { address } => address,
            Action::Remove { id, .. }
            | Action::Stop { id, .. }
            | Action::Reload { id, .. }
            | Action::Adopt { id, .. }
            | Action::Restart { id, .. }
            | Action::Start { id, .. } => id,
        }
    }

    /// Seconds that the lease lasts of what it may start, or gives a supervisor.
    pub fn lease(&self) -> Option<u32> {
        match self {
            Action::Adopt { start, .. } | Action::Restart { start, .. } | Action::Start { start, .. } => {
                start.care.lease
            }
            Action::Bundle { .. }
            | Action::Unbundle
            | Action::Remove { .. }
            | Action::Stop { .. }
            | Action::Reload { .. }
            | Action::Discard { .. } => None,
        }
    }

    /// What it is to reach.
    pub fn aim(&self) -> Aim {
        match self {
            Action::Bundle { hash, .. } => Aim::Bundle(hash.clone()),
            Action::Unbundle => Aim::Unbundled,
            Action::Remove { .. } => Aim::Gone,
            Action::Stop { .. } => Aim::Stopped,
            Action::Reload { live, .. } => Aim::Told(live.clone()),
            Action::Adopt { start, .. } => Aim::Supervised(start.care.hash.clone()),
            Action::Restart { start, .. } | Action::Start { start, .. } => Aim::Running(start.hash.clone()),
            Action::Discard { .. } => Aim::Discarded,
        }
    }

    /// The action in one word, as events say it.
    pub const fn word(&self) -> &'static str {
        match self {
            Action::Bundle { .. } => "Bundle",
            Action::Unbundle => "Unbundle",
            Action::Remove { .. } => "Remove",
            Action::Stop { .. } => "Stop",
            Action::Reload { .. } => "Reload",
            Action::Adopt { .. } => "Adopt",
            Action::Restart { .. } => "Restart",
            Action::Start { .. } => "Start",
            Action::Discard { .. } => "Discard",
        }
    }

    /// The action in one word.
    pub const fn name(&self) -> &'static str {
        match self {
            Action::Bundle { .. } => "bundle",
            Action::Unbundle => "unbundle",
            Action::Remove { .. } => "remove",
            Action::Stop { .. } => "stop",
            Action::Reload { .. } => "reload",
            Action::Adopt { .. } => "adopt",
            Action::Restart { .. } => "restart",
            Action::Start { .. } => "start",
            Action::Discard { .. } => "discard",
        }
    }
}

/// What an action is to reach. Trying the same again has to wait; trying something else does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// The bundle with this hash is there.
    Bundle(String),
    /// There is no bundle.
    Unbundled,
    /// There is nothing of the process.
    Gone,
    /// The process is stopped.
    Stopped,
    /// The process was told what has this hash.
    Told(String),
    /// The process has a supervisor that looks after it like this.
    Supervised(String),
    /// The process runs as started with this hash.
    Running(String),
    /// The artifact is there.
    Delivered,
    /// The artifact is not there any more.
    Discarded,
}

impl fmt::Display for Aim {
    /// One word, and the hash where there is one; as [`Aim::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aim::Bundle(hash) => write!(f, "bundle {hash}"),
            Aim::Unbundled => f.write_str("unbundled"),
            Aim::Gone => f.write_str("gone"),
            Aim::Stopped => f.write_str("stopped"),
            Aim::Told(hash) => write!(f, "told {hash}"),
            Aim::Supervised(hash) => write!(f, "supervised {hash}"),
            Aim::Running(hash) => write!(f, "running {hash}"),
            Aim::Delivered => f.write_str("delivered"),
            Aim::Discarded => f.write_str("discarded"),
        }
    }
}

impl Aim {
    /// The aim that is written so; none when none is.
    pub fn parse(text: &str) -> Option<Aim> {
        let (word, hash) = text.split_once(' ').map_or((text, None), |(word, hash)| (word, Some(hash)));
        let hash = hash.map(str::to_owned);
        Some(match (word, hash) {
            ("bundle", Some(hash)) => Aim::Bundle(hash),
            ("unbundled", None) => Aim::Unbundled,
            ("gone", None) => Aim::Gone,
            ("stopped", None) => Aim::Stopped,
            ("told", Some(hash)) => Aim::Told(hash),
            ("supervised", Some(hash)) => Aim::Supervised(hash),
            ("running", Some(hash)) => Aim::Running(hash),
            ("delivered", None) => Aim::Delivered,
            ("discarded", None) => Aim::Discarded,
            (_, _) => return None,
        })
    }
}

/// Why a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It should run, and there is nothing of it.
    Absent,
    /// It should run, and was stopped before.
    Stopped,
    /// It should run, and neither it nor its supervisor is there: a reboot, or someone killed both.
    Lost,
    /// It runs without a supervisor.
    Unsupervised,
    /// How its supervisor looks after it changed: health check, log or lease.
    CareChanged,
    /// Its command, environment or options changed.
    Changed,
    /// Something that takes effect while it runs changed: a live option, the log level, the instance, its tenants, their
    /// integrations or users.
    LiveChanged,
    /// The file that tells the services of their configuration is not as declared.
    BundleOutdated,
    /// Nothing on the node reads that file any more.
    BundleUnused,
    /// It should not run.
    NotWanted,
    /// Its object is being deleted.
    Deleted,
    /// There is no object for it (any more).
    Undeclared,
    /// Nothing has used it for a while.
    Unused,
}

impl Reason {
    /// The reason in one word, as events say it.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Absent => "Absent",
            Reason::Stopped => "Stopped",
            Reason::Lost => "Lost",
            Reason::Unsupervised => "Unsupervised",
            Reason::CareChanged => "CareChanged",
            Reason::Changed => "Changed",
            Reason::LiveChanged => "LiveChanged",
            Reason::BundleOutdated => "BundleOutdated",
            Reason::BundleUnused => "BundleUnused",
            Reason::NotWanted => "NotWanted",
            Reason::Deleted => "Deleted",
            Reason::Undeclared => "Undeclared",
            Reason::Unused => "Unused",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Absent => "should run and is not there",
            Reason::Stopped => "should run and was stopped",
            Reason::Lost => "should run and is gone with its supervisor",
            Reason::Unsupervised => "runs without a supervisor",
            Reason::CareChanged => "health check, log or lease changed",
            Reason::Changed => "command, environment or options changed",
            Reason::LiveChanged => "live configuration changed",
            Reason::BundleOutdated => "is not as declared",
            Reason::BundleUnused => "is read by nothing any more",
            Reason::NotWanted => "should not run",
            Reason::Deleted => "is being deleted",
            Reason::Undeclared => "is not declared",
            Reason::Unused => "nothing has used it for a while",
        })
    }
}

/// A step and why it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// Why nothing is done about a process that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Its node was not seen: it may run or not.
    NodeUnknown,
    /// Its node is not to be deployed against.
    Cordoned,
    /// It is being stopped; what comes next waits for that.
    Stopping,
    /// It runs, but not yet for as long as its type wants.
    Starting {
        /// When it will count as running, on the clock that [`super::world::NodeWorld::now_ms`] is.
        until_ms: u64,
    },
    /// It ended, and its supervisor will start it again.
    Restarting,
    /// Its record was being written when it was read.
    Busy,
    /// What it is to run from is not on its node yet. What ran goes on running.
    Artifact {
        /// How many bytes of it are on their way; none while others come first.
        sent: Option<u64>,
        /// How many there are.
        size: u64,
    },
    /// What it is to run from could not be brought to its node; the next try is at this time. What ran goes on running.
    ArtifactFailed {
        /// Milliseconds of the clock that [`super::world::NodeWorld::now_ms`] is.
        until_ms: u64,
        /// How often it was tried so far.
        tries: u32,
        /// What went wrong.
        why: Option<String>,
    },
    /// It is started after another service, which does not do its work yet.
    After {
        /// The service that is waited for.
        service: String,
        /// How that one is.
        why: String,
    },
    /// It is stopped after another service, which has not ended yet.
    Before {
        /// The service that is waited for.
        service: String,
        /// How that one is.
        why: String,
    },
    /// It has an order with other services, and what was last decided of that is older than what is declared.
    Unordered,
    /// It may run in one place only, and nobody has decided yet that it is this one, with its node in sight.
    Unplaced,
    /// It can't be started as declared.
    Invalid(String),
    /// A step was tried and did not help; the next try is at this time.
    BackingOff {
        /// Milliseconds of the clock that [`super::world::NodeWorld::now_ms`] is.
        until_ms: u64,
        /// How often it was tried so far.
        tries: u32,
        /// What the node said, if it said something.
        why: Option<String>,
    },
}

impl Hold {
    /// Why in one word.
    pub const fn word(&self) -> &'static str {
        match self {
            Hold::NodeUnknown => "NodeUnknown",
            Hold::Cordoned => "Cordoned",
            Hold::Stopping => "Stopping",
            Hold::Starting { .. } => "Starting",
            Hold::Restarting => "Restarting",
            Hold::Busy => "Busy",
            Hold::Artifact { .. } => "ArtifactMissing",
            Hold::ArtifactFailed { .. } => "ArtifactFailed",
            Hold::After { .. } => "After",
            Hold::Before { .. } => "Before",
            Hold::Unordered => "Unordered",
            Hold::Unplaced => "Unplaced",
            Hold::Invalid(_) => "Invalid",
            Hold::BackingOff { .. } => "BackingOff",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::NodeUnknown => f.write_str("its node was not seen"),
            Hold::Cordoned => f.write_str("its node is cordoned (status: false)"),
            Hold::Stopping => f.write_str("it is stopping"),
            Hold::Starting { .. } => f.write_str("it has just started"),
            Hold::Restarting => f.write_str("it ended and is about to be started again"),
            Hold::Busy => f.write_str("it is changing"),
            Hold::Artifact { sent: Some(sent), size } => {
                let (unit, name) = unit(*size);
                write!(f, "it waits for its artifact ({} of {} {name})", sent / unit, size / unit)
            }
            Hold::Artifact { sent: None, size } => {
                let (unit, name) = unit(*size);
                write!(f, "it waits for its artifact ({} {name})", size / unit)
            }
            Hold::ArtifactFailed { why: Some(why), .. } => {
                write!(f, "its artifact could not be sent: {why}")
            }
            Hold::ArtifactFailed { why: None, .. } => {
                f.write_str("its artifact was sent, and its node has not said yet that it is there")
            }
            Hold::After { service, why } => write!(f, "it is started after {service}: {why}"),
            Hold::Before { service, why } => write!(f, "it is stopped after {service}: {why}"),
            Hold::Unordered => f.write_str("it waits for its turn among other services to be decided"),
            Hold::Unplaced => {
                f.write_str("it may run in one place only, and waits for the placement to see its node")
            }
            Hold::Invalid(why) => write!(f, "it can't be started as declared: {why}"),
            Hold::BackingOff { why: Some(why), .. } => write!(f, "the last try failed: {why}"),
            Hold::BackingOff { why: None, .. } => f.write_str("the last try did not help"),
        }
    }
}

/// In which unit people count so many bytes, and its name.
const fn unit(bytes: u64) -> (u64, &'static str) {
    match bytes {
        0..10_000 => (1, "bytes"),
        10_000..1_000_000 => (1_000, "kB"),
        1_000_000..10_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    }
}

/// An artifact to send to a node. Sending it leaves no choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What has to arrive.
    pub address: String,
    /// Where it is had.
    pub source: ArtifactSource,
}

/// What to do on a node now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodePlan {
    /// In this order, as one batch.
    pub steps: Vec<Step>,
    /// What to send beside the batches, one after the other; what is no longer among them need not be sent on.
    pub deliveries: Vec<Delivery>,
    /// Artifacts that nothing uses now.
    pub unused: BTreeSet<String>,
    /// By process.
    pub holds: BTreeMap<String, Hold>,
    /// Processes that are as they should be: what was tried before has worked.
    pub converged: Vec<String>,
    /// Processes that should run and are not what they are to be: not there, or started with something else.
    pub behind: BTreeSet<String>,
    /// When to plan again though nothing changes, in milliseconds of the same clock.
    pub wake_at_ms: Option<u64>,
}

impl NodePlan {
    /// Plan again at this time, if nothing changes before.
    pub(super) fn wake_at(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_read_as_it_is_written() {
        let hash = || "0a1b".to_owned();
        for aim in [
            Aim::Bundle(hash()),
            Aim::Unbundled,
            Aim::Gone,
            Aim::Stopped,
            Aim::Told(hash()),
            Aim::Supervised(hash()),
            Aim::Running(hash()),
            Aim::Delivered,
            Aim::Discarded,
        ] {
            assert_eq!(Aim::parse(&aim.to_string()), Some(aim));
        }
        for none in ["", "bundle", "gone 0a1b", "Gone", "running"] {
            assert_eq!(Aim::parse(none), None, "{none}");
        }
    }
}
