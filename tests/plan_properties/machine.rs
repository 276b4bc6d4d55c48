//! A small model of a node: what the node's script does with a step, without the waiting.

use std::collections::BTreeSet;

use mainstay::plan::step::{Action, Delivery, Start};
use mainstay::plan::world::{NodeSighting, Phase, ProcessSighting};

/// Our directory on every node.
pub(crate) const ROOT: &str = "/node";

/// A node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// What there is on it, as a complete look would tell.
    pub(crate) truth: NodeSighting,
    /// Processes that go once they have ended.
    removing: BTreeSet<String>,
}

impl Machine {
    pub(crate) fn new(truth: NodeSighting) -> Machine {
        let root = Some(ROOT.to_owned());
        Machine { truth: NodeSighting { complete: true, root, ..truth }, removing: BTreeSet::new() }
    }

    /// An artifact has arrived.
    pub(crate) fn receive(&mut self, delivery: &Delivery) {
        self.truth.artifacts.insert(delivery.address.clone());
    }

    /// Does what a step says. A start of what is there does nothing, and so does a stop of what is not.
    pub(crate) fn carry_out(&mut self, action: &Action) {
        let processes = &mut self.truth.processes;
        match action {
            Action::Bundle { hash, .. } => self.truth.bundle = Some(hash.clone()),
            Action::Unbundle => self.truth.bundle = None,
            Action::Discard { address } => {
                self.truth.artifacts.remove(address);
            }
            Action::Start { id, start } => {
                let is_there = processes.get(id).is_some_and(|seen| match seen.phase {
                    Phase::Running | Phase::Backoff | Phase::Stopping | Phase::Unsupervised => true,
                    Phase::Stopped | Phase::Lost | Phase::Busy => false,
                });
                if !is_there {
                    processes.insert(id.clone(), running(start));
                }
            }
            Action::Adopt { id, start } => {
                let seen = processes.entry(id.clone()).or_insert_with(|| running(start));
                if seen.phase.is_alive() {
                    (seen.phase, seen.care) = (Phase::Running, start.care.hash.clone());
                } else {
                    *seen = running(start);
                }
            }
            Action::Restart { id, start } => {
                processes.insert(id.clone(), running(start));
            }
            Action::Stop { id, .. } => {
                if let Some(seen) = processes.get_mut(id) {
                    seen.phase = Phase::Stopping;
                }
            }
            Action::Remove { id, .. } => {
                if let Some(seen) = processes.get_mut(id) {
                    seen.phase = Phase::Stopping;
                    self.removing.insert(id.clone());
                }
            }
            Action::Reload { id, live, .. } => {
                if let Some(seen) = processes.get_mut(id) {
                    seen.live.clone_from(live);
                }
            }
        }
    }

    /// What was asked to end has ended.
    pub(crate) fn finish_stops(&mut self) {
        let removing = std::mem::take(&mut self.removing);
        self.truth.processes.retain(|id, _| !removing.contains(id));
        for seen in self.truth.processes.values_mut() {
            if seen.phase == Phase::Stopping {
                (seen.phase, seen.pid) = (Phase::Stopped, None);
            }
        }
    }
}

fn running(start: &Start) -> ProcessSighting {
    let seen = sighting(Phase::Running, &start.hash, &start.live);
    ProcessSighting { care: start.care.hash.clone(), lease: start.care.lease, ..seen }
}

/// A process in a phase, with the hashes of what it was started with and told.
pub(crate) fn sighting(phase: Phase, hash: &str, live: &str) -> ProcessSighting {
    ProcessSighting {
        phase,
        pid: phase.is_alive().then_some(4711),
        restarts: 0,
        exit: None,
        hash: hash.to_owned(),
        care: String::new(),
        lease: None,
        health: None,
        live: live.to_owned(),
        since_ms: 0,
    }
}
