//! What a decision may know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::model::kinds::{Signal, StopSpec};
use crate::model::{Documents, Key};

use super::step::{Aim, Start};

/// How a process on a node was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It runs, under its supervisor.
    Running,
    /// It ended, and its supervisor will start it again.
    Backoff,
    /// It was asked to end.
    Stopping,
    /// It was stopped.
    Stopped,
    /// It runs, but its supervisor is gone.
    Unsupervised,
    /// Neither it nor its supervisor is there, though its record says so.
    Lost,
    /// Its record was being written.
    Busy,
}

impl Phase {
    /// True while the process's own program is alive.
    pub const fn is_alive(self) -> bool {
        matches!(self, Phase::Running | Phase::Unsupervised | Phase::Stopping)
    }

    /// True once nothing of the process is there or comes back.
    pub const fn is_over(self) -> bool {
        match self {
            Phase::Stopped | Phase::Lost => true,
            Phase::Running | Phase::Backoff | Phase::Stopping | Phase::Unsupervised | Phase::Busy => false,
        }
    }

    /// The phase in one word.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::Backoff => "restarting",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
            Phase::Unsupervised => "unsupervised",
            Phase::Lost => "lost",
            Phase::Busy => "changing",
        }
    }
}

/// What a health check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does its work.
    Healthy,
    /// It does not.
    Unhealthy {
        /// What the check said last.
        why: String,
    },
    /// The node has nothing to check it with.
    Unchecked {
        /// What is missing.
        why: String,
    },
}

/// What was seen of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSighting {
    /// How it was seen.
    pub phase: Phase,
    /// Its pid on the node, while it runs.
    pub pid: Option<u32>,
    /// How often it was started again since it was last told to run.
    pub restarts: u64,
    /// How it last ended: the exit status, or 128 + the signal.
    pub exit: Option<i32>,
    /// Hash of what it was started with.
    pub hash: String,
    /// Hash of how its supervisor looks after it.
    pub care: String,
    /// Seconds that its lease lasts: for how long it may run without the controller. None when it runs under none.
    pub lease: Option<u32>,
    /// Hash of what it was last told.
    pub live: String,
    /// What its health check found; none where there is none, or not yet an answer.
    pub health: Option<Health>,
    /// Since when it is like this, on the clock that [`NodeWorld::now_ms`] is.
    pub since_ms: u64,
}

/// What was seen of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSighting {
    /// False until the node has told everything over the present connection: then nothing may be concluded from what is
    /// missing.
    pub complete: bool,
    /// By process id.
    pub processes: BTreeMap<String, ProcessSighting>,
    /// Hash of the bundle that is there.
    pub bundle: Option<String>,
    /// Our directory there, in full; what a node has not said is not known.
    pub root: Option<String>,
    /// Addresses of the artifacts that are there, complete and verified.
    pub artifacts: BTreeSet<String>,
    /// The documents' revision that was planned on last; what was decided later is not yet known to the node's task.
    pub planned: u64,
    /// Processes that, when the node was planned on last, were not what they are to be: not there, or started with something else.
    pub behind: BTreeSet<String>,
    /// Processes that a batch on its way is about: what was seen of them may be over.
    pub pending: BTreeSet<String>,
    /// Which conversation with the node this is; each has another number. 0 before the first.
    pub conversation: u64,
    /// Since when the node has not been seen, on the clock that [`NodeWorld::now_ms`] is; none while it is, and before the first try. Leases
    /// there were renewed by words of it that came before this.
    pub unseen_since_ms: Option<u64>,
}

impl NodeSighting {
    /// True when nothing of a process is on the node, nor can be on its way there, for somebody who decided at this revision
    /// of the documents that it goes.
    pub fn is_clean_of(&self, process: &str, since: u64) -> bool {
        self.complete
            && self.planned >= since
            && !self.processes.contains_key(process)
            && !self.pending.contains(process)
    }
}

/// A process that should be known on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredProcess {
    /// Its id.
    pub id: String,
    /// The service it belongs to.
    pub service: String,
    /// Whether it should run.
    pub running: bool,
    /// Whether its object is being deleted.
    pub deleting: bool,
    /// How it is asked to end.
    pub stop: StopSpec,
    /// How it is told of live changes, where its type says so.
    pub reload: Option<Signal>,
    /// Milliseconds that it has to stay up before it counts as running.
    pub start_ms: u64,
    /// What to start, or why that can't be told.
    pub start: Result<Arc<Start>, String>,
    /// Address of the artifact that it runs from.
    pub artifact: Option<String>,
    /// For what of it orders are waited for.
    pub ties: Ties,
}

/// For what of a process there have to be [`Orders`], and the documents' revision that these have to know: that at which the documents
/// that say so changed last. None where nobody has to be asked; most processes have no ties, and wait for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ties {
    /// For its start: its service is started after others.
    pub start: Option<u64>,
    /// For its stop: others are started after its service, and so stopped before.
    pub stop: Option<u64>,
    /// For its start: it may run in one place only.
    pub place: Option<u64>,
}

/// Where an artifact is had, on the controller's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactSource {
    /// The file or folder.
    pub path: String,
    /// Bytes that are sent for it.
    pub size: u64,
}

/// All that should be on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeDesired {
    /// By process id.
    pub processes: BTreeMap<String, DesiredProcess>,
    /// The bundle's hash and text; none where no process is.
    pub bundle: Option<(String, String)>,
    /// The artifacts of its processes, by address.
    pub artifacts: BTreeMap<String, ArtifactSource>,
    /// False for a cordoned node: nothing is started there.
    pub schedulable: bool,
}

/// Why nothing of a service may be started or stopped yet, as was decided over all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The service that is waited for.
    pub other: String,
    /// How that one is, for people.
    pub why: String,
}

/// What is decided over all nodes and told to each node's task beside the documents: it follows from what is seen, so it is not stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// The documents' revision that it was decided on; 0 when no orders are needed, or none were given yet.
    pub revision: u64,
    /// Whether everything is to stop, whatever the documents say.
    pub halt: bool,
    /// Services, by key, of which nothing may be started yet.
    pub starts: BTreeMap<Key, Gate>,
    /// Services, by key, of which nothing may be stopped yet.
    pub stops: BTreeMap<Key, Gate>,
    /// The nodes that were seen, by (instance, node), each with the conversation in which it was. What may run in one place only is started
    /// in no other conversation: whoever decided did not know of that.
    pub seen: BTreeMap<(String, String), u64>,
}

/// What was tried for a process and has not (yet) helped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What it was to reach.
    pub aim: Aim,
    /// How often that was tried so far; at least 1.
    pub tries: u32,
    /// When it may be tried again.
    pub not_before_ms: u64,
    /// What the node said.
    pub why: Option<String>,
}

/// What is remembered of a node's artifacts, for nothing that is seen tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stock {
    /// The one that is on its way, and how many of its bytes are.
    pub sending: Option<(String, u64)>,
    /// Since when nothing has used those that nothing uses.
    pub unused_since_ms: BTreeMap<String, u64>,
}

impl Stock {
    /// Takes in what nothing uses at this time; what is used again begins anew.
    pub fn note_unused(&mut self, unused: &BTreeSet<String>, now_ms: u64) {
        self.unused_since_ms.retain(|address, _| unused.contains(address));
        for address in unused {
            self.unused_since_ms.entry(address.clone()).or_insert(now_ms);
        }
    }
}

/// All that the decision for one node may know.
#[derive(Debug, Clone, Copy)]
pub struct NodeWorld<'a> {
    /// Milliseconds of a clock that never goes back.
    pub now_ms: u64,
    /// What should be.
    pub desired: &'a NodeDesired,
    /// What was seen.
    pub seen: &'a NodeSighting,
    /// What was tried, by process, or by address for an artifact.
    pub attempts: &'a BTreeMap<String, Attempt>,
    /// What is remembered of its artifacts.
    pub stock: &'a Stock,
    /// Which node it is, as (instance, node).
    pub place: &'a (String, String),
    /// What was decided over all nodes.
    pub orders: &'a Orders,
}

/// All that the decision over all nodes may know.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// Every document.
    pub documents: &'a Documents,
    /// What was seen.
    pub seen: &'a dyn Sightings,
    /// Now, in milliseconds of the clock that sightings are told by.
    pub now_ms: u64,
    /// Since when this controller decides: what was before, it did not see.
    pub since_ms: u64,
    /// When nothing is started elsewhere though its node does not answer.
    pub freeze: Freeze,
}

/// When failover is frozen: many nodes that are silent at once are more likely cut off than dead, and who has just begun to look has not
/// seen anybody yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freeze {
    /// Share of all nodes, in percent, that may be silent at once; one always may. 0 to 100.
    pub above_percent: u8,
    /// Milliseconds from when this controller began to decide.
    pub settle_ms: u64,
}

impl Default for Freeze {
    fn default() -> Freeze {
        Freeze { above_percent: 30, settle_ms: 30_000 }
    }
}

impl<'a> World<'a> {
    /// What is seen at a time by who has decided all along.
    pub fn at(documents: &'a Documents, seen: &'a dyn Sightings, now_ms: u64) -> World<'a> {
        World { documents, seen, now_ms, since_ms: 0, freeze: Freeze::default() }
    }
}

/// What was seen of nodes, in whatever it is kept: what is decided over all nodes need not be copied together first.
pub trait Sightings: fmt::Debug + Sync {
    /// What was seen of a node, by (instance, node). One that is missing was not seen.
    fn get(&self, node: &(String, String)) -> Option<&NodeSighting>;
}

impl Sightings for BTreeMap<(String, String), NodeSighting> {
    fn get(&self, node: &(String, String)) -> Option<&NodeSighting> {
        BTreeMap::get(self, node)
    }
}
