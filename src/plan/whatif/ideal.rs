//! A node on which everything succeeds: what the node's script does with a step and reports, without the waiting.

use std::collections::BTreeSet;

use crate::plan::standing::CRASHES;
use crate::plan::step::{Action, Start};
use crate::plan::world::{Health, NodeSighting, Phase, ProcessSighting};

/// A node that does what it is told, at once.
#[derive(Debug, Clone, Default)]
pub struct IdealNode {
    /// What there is on it, as a complete look would tell.
    pub seen: NodeSighting,
    /// Processes of which nothing stays once they have ended.
    removing: BTreeSet<String>,
}

impl IdealNode {
    /// A node on which this is.
    pub fn new(seen: NodeSighting) -> IdealNode {
        IdealNode { seen, ..IdealNode::default() }
    }

    /// An artifact has arrived, with this address.
    pub fn receive(&mut self, address: &str) {
        self.seen.artifacts.insert(address.to_owned());
    }

    /// Does what a step says, at this time. A start of what is there does nothing, and so does a stop of what is not.
    pub fn carry_out(&mut self, action: &Action, now_ms: u64) {
        let processes = &mut self.seen.processes;
        match action {
            Action::Bundle { hash, .. } => self.seen.bundle = Some(hash.clone()),
            Action::Unbundle => self.seen.bundle = None,
            Action::Discard { address } => {
                self.seen.artifacts.remove(address);
            }
            Action::Start { id, start } => {
                let is_there = processes.get(id).is_some_and(|seen| match seen.phase {
                    Phase::Running | Phase::Backoff | Phase::Stopping | Phase::Unsupervised => true,
                    Phase::Stopped | Phase::Lost | Phase::Busy => false,
                });
                if !is_there {
                    processes.insert(id.clone(), started(start, now_ms));
                }
            }
            Action::Adopt { id, start } => {
                let seen = processes.entry(id.clone()).or_insert_with(|| started(start, now_ms));
                if seen.phase.is_alive() {
                    (seen.phase, seen.lease) = (Phase::Running, start.care.lease);
                    seen.care.clone_from(&start.care.hash);
                    // Whoever looks after it from now on has not looked yet.
                    seen.health = None;
                } else {
                    *seen = started(start, now_ms);
                }
            }
            Action::Restart { id, start } => {
                processes.insert(id.clone(), started(start, now_ms));
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

    /// What was asked to end has ended. Answers whether that was anything.
    pub fn finish_stops(&mut self) -> bool {
        let removing = std::mem::take(&mut self.removing);
        let mut is_news = !removing.is_empty();
        self.seen.processes.retain(|id, _| !removing.contains(id));
        for seen in self.seen.processes.values_mut() {
            if seen.phase == Phase::Stopping {
                (seen.phase, seen.pid) = (Phase::Stopped, None);
                is_news = true;
            }
        }
        is_news
    }

    /// Time passes: what ended and is about to be started again runs, and what was not checked yet is found well; to what has no check that
    /// says nothing. What was found ill, or ended again and again, stays so until it is started anew. Answers whether anything is
    /// other than before.
    pub fn live(&mut self, now_ms: u64) -> bool {
        let mut is_news = false;
        for process in self.seen.processes.values_mut() {
            match process.phase {
                Phase::Backoff if process.restarts >= CRASHES => continue,
                Phase::Backoff | Phase::Busy => {
                    (process.phase, process.since_ms) = (Phase::Running, now_ms);
                    is_news = true;
                }
                Phase::Running | Phase::Unsupervised => {}
                Phase::Stopping | Phase::Stopped | Phase::Lost => continue,
            }
            if process.health.is_none() {
                process.health = Some(Health::Healthy);
                is_news = true;
            }
        }
        is_news
    }
}

/// A process that has just been started.
fn started(start: &Start, now_ms: u64) -> ProcessSighting {
    ProcessSighting {
        phase: Phase::Running,
        pid: None,
        restarts: 0,
        exit: None,
        hash: start.hash.clone(),
        care: start.care.hash.clone(),
        lease: start.care.lease,
        live: start.live.clone(),
        health: None,
        since_ms: now_ms,
    }
}
