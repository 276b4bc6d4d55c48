//! What was seen of all nodes, for everyone who shows it: `/1.0`, the live tree, the placement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use tokio::sync::watch;

use crate::plan::step::Hold;
use crate::plan::world::{NodeSighting, Phase, ProcessSighting, Sightings};

/// How the link to a node is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LinkState {
    /// It is being opened for the first time.
    #[default]
    Connecting,
    /// It is open.
    Connected {
        /// Since when.
        since_ms: u64,
    },
    /// It is not open.
    Down {
        /// The state in one or two words, such as `auth failed`.
        name: &'static str,
        /// What was said, for people.
        message: String,
        /// Since when it has been down, whatever the cause.
        since_ms: u64,
        /// How often it was tried in a row.
        tries: u32,
        /// When the next try is.
        next_try_ms: u64,
    },
}

impl LinkState {
    /// The state in one or two words.
    pub const fn name(&self) -> &'static str {
        match self {
            LinkState::Connecting => "connecting",
            LinkState::Connected { .. } => "connected",
            LinkState::Down { name, .. } => name,
        }
    }
}

/// Something about a node that people should know, and that keeps nothing from being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Its clock and ours are more than a minute apart: times in logs can't be compared, and certificates or tokens may seem to
    /// be over, or not yet valid.
    ClockOff {
        /// By how many seconds it is ahead of ours; negative when it is behind.
        ahead_s: i64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::ClockOff { ahead_s } => {
                let side = if *ahead_s < 0 { "behind" } else { "ahead of" };
                write!(f, "its clock is {} s {side} the controller's", ahead_s.unsigned_abs())
            }
        }
    }
}

/// All that is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeView {
    /// How the link is.
    pub link: LinkState,
    /// What was seen last; complete only while the link is open and all was told.
    pub sighting: NodeSighting,
    /// Processes that run and have for as long as their types want before they count.
    pub up: BTreeSet<String>,
    /// What people should know besides; none while the node is not seen.
    pub warnings: Vec<Warning>,
    /// Why nothing is done, by process.
    pub holds: BTreeMap<String, Hold>,
    /// True when the last plan had nothing to do and nothing to wait for.
    pub settled: bool,
}

impl NodeView {
    /// Whether a process ran when it was last seen, and had for as long as its type wants before it counts.
    pub fn is_up(&self, process: &str) -> bool {
        self.up.contains(process)
    }

    /// Whether a process runs, but not yet for as long as its type wants.
    pub fn is_starting(&self, process: &str) -> bool {
        let seen = self.sighting.processes.get(process);
        seen.is_some_and(|seen| seen.phase == Phase::Running) && !self.is_up(process)
    }
}

/// What is known of nodes, by (instance, node). A copy costs nothing, and it never changes under a reader.
pub type Views = OrdMap<(String, String), Arc<NodeView>>;

impl Sightings for Views {
    fn get(&self, node: &(String, String)) -> Option<&NodeSighting> {
        OrdMap::get(self, node).map(|view| &view.sighting)
    }
}

/// All nodes. Written by the nodes' tasks, one each; read by all.
#[derive(Debug, Clone)]
pub struct Observed {
    sender: Arc<watch::Sender<Views>>,
}

impl Default for Observed {
    fn default() -> Observed {
        Observed { sender: Arc::new(watch::Sender::default()) }
    }
}

impl Observed {
    /// What is known of one node.
    pub fn node(&self, instance: &str, node: &str) -> Option<Arc<NodeView>> {
        self.sender.borrow().get(&(instance.to_owned(), node.to_owned())).cloned()
    }

    /// What was seen of one process, and whether its node is being seen now.
    pub fn process(&self, instance: &str, node: &str, process: &str) -> (Option<ProcessSighting>, bool) {
        let nodes = self.sender.borrow();
        match nodes.get(&(instance.to_owned(), node.to_owned())) {
            Some(view) => (view.sighting.processes.get(process).cloned(), view.sighting.complete),
            None => (None, false),
        }
    }

    /// Everything.
    pub fn all(&self) -> Views {
        self.sender.borrow().clone()
    }

    /// A bell that rings when something was seen.
    pub fn changes(&self) -> watch::Receiver<Views> {
        self.sender.subscribe()
    }

    /// Sets what is known of a node; rings only when that is news.
    pub(crate) fn set(&self, node: &(String, String), view: &NodeView) {
        self.sender.send_if_modified(|all| {
            if all.get(node).is_some_and(|known| **known == *view) {
                return false;
            }
            all.insert(node.clone(), Arc::new(view.clone()));
            true
        });
    }

    /// Forgets all nodes: who does not lead sees none.
    pub(crate) fn clear(&self) {
        self.sender.send_if_modified(|all| !std::mem::take(all).is_empty());
    }

    /// Forgets a node.
    pub(crate) fn forget(&self, node: &(String, String)) {
        self.sender.send_if_modified(|all| all.remove(node).is_some());
    }
}
