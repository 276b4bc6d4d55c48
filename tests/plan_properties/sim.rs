//! A whole world in motion: what the controller and the nodes' tasks do with the decisions, round by round.

use std::collections::{BTreeMap, BTreeSet};

use mainstay::model::{Document, Documents, Key};
use mainstay::plan::node::plan;
use mainstay::plan::orders::orders;
use mainstay::plan::place::{Placement, place};
use mainstay::plan::render::desired;
use mainstay::plan::step::{Action, Hold, NodePlan};
use mainstay::plan::whatif::Verb;
use mainstay::plan::world::{Attempt, NodeSighting, NodeWorld, Orders, Phase, Stock, World};

use crate::desk;
use crate::fleet::{Fleet, Place, node_key, surroundings};
use crate::machine::Machine;

/// What goes wrong in a round.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The batches of a round are not carried out: somebody holds the lock.
    Locked,
    /// The n-th step about a process, over all nodes, does not help.
    Step(usize),
    /// The n-th process, over all nodes, is found in this phase.
    Found(usize, Phase),
}

/// What happened in a round.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) placement: Placement,
    pub(crate) orders: Orders,
    pub(crate) plans: BTreeMap<Place, NodePlan>,
    /// When the orders change by time alone.
    wake_at_ms: Option<u64>,
}

impl Round {
    /// Nothing was done, and nothing is waited for.
    pub(crate) fn is_quiet(&self) -> bool {
        let idle = |plan: &NodePlan| {
            plan.steps.is_empty() && plan.deliveries.is_empty() && plan.wake_at_ms.is_none()
        };
        let is_at_rest = self.placement.steps.is_empty()
            && self.placement.wake_at_ms.is_none()
            && self.wake_at_ms.is_none();
        is_at_rest && self.plans.values().all(idle)
    }
}

/// What was done to processes: by node and process, each with what it was started with or told, as a hash.
pub(crate) type Told = BTreeMap<(Place, String), Vec<(Verb, String)>>;

/// The world.
#[derive(Clone)]
pub(crate) struct Sim {
    pub(crate) documents: Documents,
    pub(crate) machines: BTreeMap<Place, Machine>,
    /// Nodes that can't be reached.
    pub(crate) dark: BTreeSet<Place>,
    attempts: BTreeMap<Place, BTreeMap<String, Attempt>>,
    tries: BTreeMap<(Place, String), u32>,
    stocks: BTreeMap<Place, Stock>,
    pub(crate) now_ms: u64,
    /// Rounds in which nothing was done, up to now.
    idle: usize,
    /// Counts what is written to the documents.
    pub(crate) revision: u64,
    /// What the machines were told that did something to a process.
    pub(crate) told: Told,
}

impl Sim {
    /// The world as it is. What was not seen completely can't be reached.
    pub(crate) fn new(fleet: &Fleet) -> Sim {
        let documents = fleet.documents();
        let seen = |place: &Place| fleet.seen.get(place).cloned();
        let machines: BTreeMap<Place, Machine> = documents
            .of_kind(mainstay::model::Kind::Node)
            .map(|(key, _)| (key.namespace.clone(), key.name.clone()))
            .map(|place| (place.clone(), Machine::new(seen(&place).unwrap_or_default())))
            .collect();
        let dark =
            machines.keys().filter(|place| !seen(place).is_some_and(|seen| seen.complete)).cloned().collect();
        Sim {
            documents,
            machines,
            dark,
            attempts: BTreeMap::new(),
            tries: BTreeMap::new(),
            stocks: BTreeMap::new(),
            now_ms: 1_000,
            idle: 0,
            // After all that was written before.
            revision: 10,
            told: Told::new(),
        }
    }

    /// What is seen of all nodes.
    pub(crate) fn seen(&self) -> BTreeMap<Place, NodeSighting> {
        let look = |(place, machine): (&Place, &Machine)| {
            let complete = !self.dark.contains(place);
            // Whoever is dark was tried once, before everything.
            let unseen_since_ms = (!complete).then_some(0);
            (place.clone(), NodeSighting { complete, unseen_since_ms, ..machine.node.seen.clone() })
        };
        self.machines.iter().map(look).collect()
    }

    /// Decides and does once, everywhere.
    pub(crate) fn round(&mut self, fault: Option<&Fault>) -> Round {
        if let Some(Fault::Found(nth, phase)) = fault {
            let mut all =
                self.machines.values_mut().flat_map(|machine| machine.node.seen.processes.values_mut());
            if let Some(process) = all.nth(*nth) {
                process.phase = *phase;
            }
        }
        let mut round = Round::default();
        let seen = self.seen();
        let world = World::at(&self.documents, &seen, self.now_ms);
        round.placement = place(&world);
        (round.orders, round.wake_at_ms) = orders(&world, self.revision, false);
        for (place, seen) in &seen {
            let key = node_key(place);
            if self.documents.get(&key).is_some() {
                round.plans.insert(place.clone(), self.plan(place, &key, seen, &round.orders));
            }
        }
        self.write(&round.placement);
        self.carry_out(&round.plans, fault);
        self.pass_time(&round);
        round
    }

    fn plan(&mut self, place: &Place, key: &Key, seen: &NodeSighting, orders: &Orders) -> NodePlan {
        let desired = desired(&self.documents, key, &surroundings());
        let attempts = self.attempts.entry(place.clone()).or_default();
        let stock = self.stocks.entry(place.clone()).or_default();
        let (now_ms, desired) = (self.now_ms, &desired);
        let plan = plan(&NodeWorld { now_ms, desired, seen, attempts, stock, place, orders });
        if seen.complete
            && let Some(machine) = self.machines.get_mut(place)
        {
            machine.node.seen.planned = self.revision;
            machine.node.seen.behind.clone_from(&plan.behind);
        }
        stock.note_unused(&plan.unused, self.now_ms);
        for id in &plan.converged {
            attempts.remove(id);
            self.tries.remove(&(place.clone(), id.clone()));
        }
        plan
    }

    fn write(&mut self, placement: &Placement) {
        for step in &placement.steps {
            self.revision += 1;
            desk::write(&mut self.documents, &step.action, self.revision);
        }
    }

    /// Somebody writes a document.
    pub(crate) fn change(&mut self, key: &Key, change: impl FnOnce(&mut Document)) {
        let mut document = Document::clone(self.documents.get(key).expect("it is there"));
        change(&mut document);
        self.revision += 1;
        document.metadata.resource_version = self.revision.to_string();
        self.documents.insert(document);
    }

    /// Decides that an object goes.
    pub(crate) fn delete(&mut self, key: &Key) {
        self.revision += 1;
        desk::delete(&mut self.documents, key, self.revision);
    }

    fn carry_out(&mut self, plans: &BTreeMap<Place, NodePlan>, fault: Option<&Fault>) {
        let mut count = 0;
        for (place, plan) in plans {
            let machine = self.machines.entry(place.clone()).or_default();
            // One at a time, and it may break.
            if !matches!(fault, Some(Fault::Locked | Fault::Step(_))) {
                plan.deliveries.iter().take(1).for_each(|delivery| machine.receive(delivery));
            }
            for step in &plan.steps {
                let helps = match fault {
                    Some(Fault::Locked) => false,
                    Some(Fault::Step(nth)) => *nth != count || step.action.process().is_none(),
                    Some(Fault::Found(..)) | None => true,
                };
                count += usize::from(step.action.process().is_some());
                if helps {
                    note(&mut self.told, place, machine, &step.action);
                    machine.carry_out(&step.action);
                }
                let id = step.action.about().to_owned();
                let tries = self.tries.entry((place.clone(), id.clone())).or_default();
                let not_before_ms = self.now_ms + (1_000 << (*tries).min(6));
                *tries += 1;
                let attempts = self.attempts.entry(place.clone()).or_default();
                attempts.insert(id, Attempt { aim: step.action.aim(), tries: 1, not_before_ms, why: None });
            }
        }
    }

    /// What ends has ended, what is started again runs, and it is as late as somebody waits for.
    fn pass_time(&mut self, round: &Round) {
        for machine in self.machines.values_mut() {
            machine.finish_stops();
            machine.live(self.now_ms);
        }
        let wakes = round.plans.values().map(|plan| plan.wake_at_ms);
        let wake = wakes.chain([round.placement.wake_at_ms, round.wake_at_ms]).flatten().min();
        // What was begun takes a moment, and not until the next time that somebody waits for.
        let does_nothing = round.placement.steps.is_empty()
            && round.plans.values().all(|plan| plan.steps.is_empty() && plan.deliveries.is_empty());
        self.idle = if does_nothing { self.idle + 1 } else { 0 };
        self.now_ms = match wake {
            Some(at_ms) if self.idle > 1 => at_ms.max(self.now_ms + 1),
            Some(_) | None => self.now_ms + 1,
        };
    }

    /// Goes on without faults until nothing is done any more; then answers the last round.
    pub(crate) fn settle(&mut self) -> Result<Round, String> {
        let mut last = Round::default();
        let mut was_quiet = false;
        for _ in 0..200 {
            last = self.round(None);
            // Over all nodes is decided on what was seen before these planned.
            if last.is_quiet() && was_quiet {
                return Ok(last);
            }
            was_quiet = last.is_quiet();
        }
        Err(format!("it does not come to rest: {last:#?}"))
    }
}

/// Notes what a machine is about to do to a process.
fn note(told: &mut Told, place: &Place, machine: &Machine, action: &Action) {
    let Some(id) = action.process() else { return };
    let phase = machine.node.seen.processes.get(id).map(|seen| seen.phase);
    let Some(verb) = Verb::of(action, phase) else { return };
    let what = match action {
        Action::Start { start, .. } | Action::Restart { start, .. } => start.hash.clone(),
        Action::Adopt { start, .. } => start.care.hash.clone(),
        Action::Reload { live, .. } => live.clone(),
        _ => String::new(),
    };
    told.entry((place.clone(), id.to_owned())).or_default().push((verb, what));
}

/// True for a step that makes a process run that did not.
pub(crate) fn starts(action: &Action) -> bool {
    matches!(action, Action::Start { .. } | Action::Restart { .. })
}

/// True for a hold that only people end.
pub(crate) fn is_for_people(hold: &Hold) -> bool {
    matches!(hold, Hold::Cordoned | Hold::Invalid(_))
}
