//! A small model of a node: what the node's script does with a step, without the waiting.

use std::collections::{BTreeMap, BTreeSet};

use mainstay::plan::step::{Action, Delivery, Start};
use mainstay::plan::world::{Health, NodeSighting, Phase, ProcessSighting};

/// Our directory on every node.
pub(crate) const ROOT: &str = "/node";

/// A node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// What there is on it, as a complete look would tell.
    pub(crate) truth: NodeSighting,
    /// Processes that go once they have ended.
    removing: BTreeSet<String>,
    /// Processes whose health is checked.
    checked: BTreeSet<String>,
    /// Processes that were started with what is no good.
    bad: BTreeMap<String, Bad>,
}

/// What comes of a start with what is no good.
#[derive(Debug, Clone, Copy)]
enum Bad {
    /// It ends at once.
    Crashes,
    /// Its health check finds it ill.
    Ill,
}

/// An argument of a command that makes whoever is started with it end at once, whatever it is.
pub(crate) const CRASHES: &str = "666";
/// One that makes whoever is checked be found ill.
pub(crate) const ILL: &str = "667";

impl Machine {
    pub(crate) fn new(truth: NodeSighting) -> Machine {
        let root = Some(ROOT.to_owned());
        Machine { truth: NodeSighting { complete: true, root, ..truth }, ..Machine::default() }
    }

    /// An artifact has arrived.
    pub(crate) fn receive(&mut self, delivery: &Delivery) {
        self.truth.artifacts.insert(delivery.address.clone());
    }

    /// Does what a step says. A start of what is there does nothing, and so does a stop of what is not.
    pub(crate) fn carry_out(&mut self, action: &Action) {
        if let Action::Start { id, start } | Action::Restart { id, start } | Action::Adopt { id, start } =
            action
        {
            self.note(id, start);
        }
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

    fn note(&mut self, id: &str, start: &Start) {
        if start.care.health.is_some() {
            self.checked.insert(id.to_owned());
        } else {
            self.checked.remove(id);
        }
        let says = |word: &str| start.command.iter().any(|argument| argument == word);
        let bad = says(CRASHES).then_some(Bad::Crashes).or(says(ILL).then_some(Bad::Ill));
        match bad {
            Some(bad) => drop(self.bad.insert(id.to_owned(), bad)),
            None => drop(self.bad.remove(id)),
        }
    }

    /// Time passes: what is about to be started again runs, what is checked is found well, and what is no good is found so.
    #[allow(dead_code, reason = "the stories tell that themselves")]
    pub(crate) fn live(&mut self, now_ms: u64) {
        for (id, process) in &mut self.truth.processes {
            match process.phase {
                Phase::Backoff | Phase::Busy => (process.phase, process.since_ms) = (Phase::Running, now_ms),
                Phase::Running | Phase::Unsupervised => {}
                Phase::Stopping | Phase::Stopped | Phase::Lost => continue,
            }
            let is_ill = matches!(self.bad.get(id), Some(Bad::Ill));
            process.health = match (self.checked.contains(id), is_ill) {
                (false, _) => process.health.clone(),
                (true, false) => Some(Health::Healthy),
                (true, true) => Some(Health::Unhealthy { why: "it is ill".into() }),
            };
            if matches!(self.bad.get(id), Some(Bad::Crashes)) {
                (process.phase, process.exit) = (Phase::Backoff, Some(1));
                process.restarts += 1;
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
