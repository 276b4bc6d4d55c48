//! A small model of a node: the one that foresight goes by, on which something may be no good.

use std::collections::BTreeMap;

use mainstay::plan::step::{Action, Delivery, Start};
use mainstay::plan::whatif::IdealNode;
use mainstay::plan::world::{Health, NodeSighting, Phase, ProcessSighting};

/// Our directory on every node.
pub(crate) const ROOT: &str = "/node";

/// A node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// What it does, and what there is on it.
    pub(crate) node: IdealNode,
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
    pub(crate) fn new(seen: NodeSighting) -> Machine {
        let root = Some(ROOT.to_owned());
        let node = IdealNode::new(NodeSighting { complete: true, root, ..seen });
        Machine { node, ..Machine::default() }
    }

    /// An artifact has arrived.
    pub(crate) fn receive(&mut self, delivery: &Delivery) {
        self.node.receive(&delivery.address);
    }

    /// Does what a step says. What is started has run for long.
    pub(crate) fn carry_out(&mut self, action: &Action) {
        if let Action::Start { id, start } | Action::Restart { id, start } | Action::Adopt { id, start } =
            action
        {
            self.note(id, start);
        }
        self.node.carry_out(action, 0);
    }

    fn note(&mut self, id: &str, start: &Start) {
        let says = |word: &str| start.command.iter().any(|argument| argument == word);
        // Only who is checked can be found ill.
        let is_ill = says(ILL) && start.care.health.is_some();
        let bad = says(CRASHES).then_some(Bad::Crashes).or(is_ill.then_some(Bad::Ill));
        match bad {
            Some(bad) => drop(self.bad.insert(id.to_owned(), bad)),
            None => drop(self.bad.remove(id)),
        }
    }

    /// Time passes: what is about to be started again runs, what is checked is found well, and what is no good is found so.
    #[allow(dead_code, reason = "the stories tell that themselves")]
    pub(crate) fn live(&mut self, now_ms: u64) {
        let _ = self.node.live(now_ms);
        for (id, bad) in &self.bad {
            let Some(process) = self.node.seen.processes.get_mut(id) else { continue };
            if process.phase.is_over() || process.phase == Phase::Stopping {
                continue;
            }
            match bad {
                Bad::Ill => process.health = Some(Health::Unhealthy { why: "it is ill".into() }),
                Bad::Crashes => {
                    (process.phase, process.exit) = (Phase::Backoff, Some(1));
                    process.restarts += 1;
                }
            }
        }
    }

    /// What was asked to end has ended.
    pub(crate) fn finish_stops(&mut self) {
        let _ = self.node.finish_stops();
    }
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
