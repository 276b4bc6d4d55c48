//! The course that a world takes by itself from some documents on: round after round, until nothing more is done.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use super::foresight::Verb;
use super::scope::Scope;
use super::{IdealNode, Present};
use crate::model::meta::{Key, Kind};
use crate::model::{Documents, Spec};
use crate::plan::node::plan;
use crate::plan::orders::orders;
use crate::plan::place::{PlaceAction, PlaceHold, PlaceReason, Placement, place};
use crate::plan::render::{Surroundings, desired};
use crate::plan::step::{Action, NodePlan, Reason, Step};
use crate::plan::touched::touched;
use crate::plan::world::{
    ArtifactSource, NodeDesired, NodeSighting, NodeWorld, Orders, Sightings, Stock, World,
};
use crate::plan::written::write;

/// (instance, node).
pub(super) type Place = (String, String);

/// Rounds that are foreseen at least, and at most.
const ROUNDS: (usize, usize) = (300, 6_000);

/// Processes times rounds, up to which rounds are foreseen: so the time that it takes has a bound, whoever asks.
const WORK: usize = 3_000_000;

/// When what is foreseen to be deleted is said to have been; nobody is told.
const SOME_TIME: &str = "1970-01-01T00:00:00Z";

/// Where the directory is of a node that has not said so yet.
const SOME_ROOT: &str = "~";

/// A service is to be placed by how full the nodes are, which not all is known of within the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NeedsAll;

/// Something that was done to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) verb: Verb,
    pub(super) reason: Reason,
    /// What it is started with, or told, as a hash; empty where it ends.
    pub(super) what: String,
    /// What it is done with.
    pub(super) action: Action,
    /// Its service, and the revision that it is to run from; none where no document says.
    pub(super) of: Option<(String, u64)>,
}

/// A node on the course.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) ideal: IdealNode,
    stock: Stock,
    /// What should be there.
    pub(super) desired: NodeDesired,
    /// What was decided last.
    pub(super) plan: NodePlan,
    /// Whether it may be decided otherwise by now.
    is_due: bool,
    /// Whether it is only taken to be there.
    pub(super) is_presumed: bool,
    /// Hashes of the bundles that were written there.
    pub(super) bundles: BTreeSet<String>,
    /// The artifacts that were sent there, by address.
    pub(super) sent: BTreeMap<String, ArtifactSource>,
    /// What was done there, by process.
    pub(super) done: BTreeMap<String, Vec<Done>>,
}

/// Where a world has come to, and what was done on the way.
#[derive(Debug)]
pub(super) struct Course<'a> {
    present: &'a Present<'a>,
    scope: &'a Scope,
    pub(super) documents: Documents,
    /// Those of them that are decided on.
    view: Documents,
    pub(super) nodes: BTreeMap<Place, Node>,
    /// The documents by which it was told last what should be on the nodes.
    rendered: Documents,
    orders: Orders,
    /// Why each process came, moves, or goes, as it was decided over all nodes last.
    pub(super) reasons: BTreeMap<Key, PlaceReason>,
    pub(super) holds: OrdMap<Key, PlaceHold>,
    revision: u64,
    now_ms: u64,
    /// When it is decided over all nodes again though nothing changes.
    wake_at_ms: Option<u64>,
    /// Whether nothing more is done, rather than that nobody looked any further.
    pub(super) is_over: bool,
}

/// What is seen on the course.
#[derive(Debug)]
struct Seen<'a> {
    before: &'a dyn Sightings,
    nodes: &'a BTreeMap<Place, Node>,
}

impl Sightings for Seen<'_> {
    fn get(&self, node: &Place) -> Option<&NodeSighting> {
        self.nodes.get(node).map(|node| &node.ideal.seen).or_else(|| self.before.get(node))
    }
}

impl<'a> Course<'a> {
    /// The whole course from these documents on.
    pub(super) fn run(
        present: &'a Present<'a>,
        documents: &Documents,
        scope: &'a Scope,
    ) -> Result<Course<'a>, NeedsAll> {
        let mut course = Course::new(present, documents, scope);
        let size = course.view.of_kind(Kind::Process).count().max(1);
        let (least, most) = ROUNDS;
        let mut idle = 0;
        for _ in 0..(WORK / size).clamp(least, most) {
            if course.round()? {
                idle = 0;
            } else {
                idle += 1;
            }
            // Over all nodes is decided on what was seen before these planned, so once more is looked.
            let wakes = course.nodes.values().map(|node| node.plan.wake_at_ms).chain([course.wake_at_ms]);
            course.now_ms = match wakes.flatten().min() {
                None if idle > 1 => {
                    course.is_over = true;
                    break;
                }
                Some(at_ms) if idle > 1 => at_ms.max(course.now_ms.saturating_add(1)),
                Some(_) | None => course.now_ms.saturating_add(1),
            };
        }
        Ok(course)
    }

    fn new(present: &'a Present<'a>, documents: &Documents, scope: &'a Scope) -> Course<'a> {
        let mut documents = documents.clone();
        let revision = present.revision.saturating_add(1);
        // What is changed will have been written after all that is there.
        let changes = documents.changes_since(present.world.documents);
        let changed: Vec<_> = changes.filter_map(|change| change.now.cloned()).collect();
        for document in changed {
            let mut document = crate::model::Document::clone(&document);
            document.metadata.resource_version = revision.to_string();
            documents.insert(document);
        }
        let view = scope.view(&documents);
        let mut course = Course {
            present,
            scope,
            view,
            nodes: BTreeMap::new(),
            rendered: documents.clone(),
            documents,
            orders: Orders::default(),
            reasons: BTreeMap::new(),
            holds: OrdMap::new(),
            revision,
            now_ms: present.world.now_ms,
            wake_at_ms: None,
            is_over: false,
        };
        let nodes: Vec<Key> = course
            .documents
            .of_kind(Kind::Node)
            .filter(|(key, _)| {
                scope.has_node(key) || course.view.processes_on(&key.namespace, &key.name).next().is_some()
            })
            .map(|(key, _)| key.clone())
            .collect();
        nodes.iter().for_each(|key| course.visit(key));
        course
    }

    /// Has a node among those that are planned.
    fn visit(&mut self, key: &Key) {
        let place = (key.namespace.clone(), key.name.clone());
        if self.nodes.contains_key(&place) || self.documents.get(key).is_none() {
            return;
        }
        let Present { world, .. } = self.present;
        let mut seen = world.seen.get(&place).cloned().unwrap_or_default();
        // What was on its way has arrived by the time at which anything else is done.
        seen.pending.clear();
        let is_presumed = world.documents.get(key).is_none();
        if is_presumed {
            // Whatever was seen by this name was another machine.
            let root = Some(SOME_ROOT.to_owned());
            seen = NodeSighting { complete: true, root, ..NodeSighting::default() };
        }
        let desired = self.desired(key, seen.root.as_deref());
        let ideal = IdealNode::new(seen);
        self.nodes.insert(place, Node { ideal, desired, is_presumed, is_due: true, ..Node::default() });
    }

    fn desired(&self, key: &Key, root: Option<&str>) -> NodeDesired {
        let root = root.map(str::to_owned);
        desired(&self.documents, key, &Surroundings { root, ..self.present.surroundings.clone() })
    }

    /// Decides and does once, everywhere. Answers whether anything was done.
    fn round(&mut self) -> Result<bool, NeedsAll> {
        let seen = Seen { before: self.present.world.seen, nodes: &self.nodes };
        let world = World { documents: &self.view, seen: &seen, now_ms: self.now_ms, ..self.present.world };
        let placement = place(&world);
        // Nodes have processes that are not decided on here, too, and none of these may be taken to have no order.
        let world = World { documents: &self.documents, ..world };
        let (orders, wake_at_ms) = orders(&world, self.revision, false);
        self.wake_at_ms = placement.wake_at_ms.into_iter().chain(wake_at_ms).min();
        self.plan(orders);
        let mut is_done = !placement.steps.is_empty();
        self.write(placement)?;
        for (place, node) in &mut self.nodes {
            let instance = place.0.as_str();
            let of = |process: &str| {
                let key = Key::within(Kind::Process, instance, process);
                let (document, process) = self.documents.get(&key).zip(self.documents.process(&key))?;
                Some((process.service.clone(), document.metadata.revision))
            };
            is_done |= node.carry_out(self.now_ms, of);
        }
        Ok(is_done)
    }

    /// Plans on each node for which anything has changed.
    fn plan(&mut self, orders: Orders) {
        let touched = touched(&self.rendered, &self.documents);
        let are_others = orders != self.orders;
        (self.orders, self.rendered) = (orders, self.documents.clone());
        let mut nodes = std::mem::take(&mut self.nodes);
        for (place, node) in &mut nodes {
            let key = node_key(place);
            if self.documents.get(&key).is_none() {
                // It is gone, and what was done there before stays told.
                node.plan = NodePlan::default();
                continue;
            }
            if touched.contains(&key) {
                node.desired = self.desired(&key, node.ideal.seen.root.as_deref());
                node.is_due = true;
            }
            let wakes = node.plan.wake_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms);
            if node.is_due || are_others || wakes {
                node.plan(self.now_ms, place, &self.orders);
            }
            if node.ideal.seen.complete {
                node.ideal.seen.planned = self.revision;
            }
        }
        self.nodes = nodes;
    }

    /// Writes a placement to the documents.
    fn write(&mut self, placement: Placement) -> Result<(), NeedsAll> {
        let Placement { steps, holds, .. } = placement;
        self.holds = holds;
        for step in steps {
            let key = step.action.key();
            if let PlaceAction::Create(document) = &step.action
                && let Spec::Process(process) = &document.spec
            {
                let instance = document.metadata.namespace.as_str();
                let service = Key::within(Kind::Service, instance, process.service.as_str());
                let is_chosen = self.view.service(&service).is_none_or(|service| service.nodes.is_none());
                if is_chosen && !self.scope.has_all_of(instance) {
                    return Err(NeedsAll);
                }
                self.reasons.insert(key.clone(), step.reason);
            }
            if let PlaceAction::MarkDeleting(key) | PlaceAction::GiveUp(key) = &step.action {
                self.reasons.insert(key.clone(), step.reason);
            }
            self.revision = self.revision.saturating_add(1);
            if let Some(write) = write(&self.documents, step.action, SOME_TIME) {
                write.clone().apply(&mut self.view, self.revision);
                write.apply(&mut self.documents, self.revision);
            }
            let on = self.documents.process(&key).map(|process| process.node.clone());
            if let Some(node) = on {
                self.visit(&Key::within(Kind::Node, key.namespace, node));
            }
        }
        Ok(())
    }
}

impl Node {
    fn plan(&mut self, now_ms: u64, place: &Place, orders: &Orders) {
        let (seen, attempts) = (&self.ideal.seen, BTreeMap::new());
        let Node { desired, stock, .. } = self;
        let plan = plan(&NodeWorld { now_ms, desired, seen, attempts: &attempts, stock, place, orders });
        self.stock.note_unused(&plan.unused, now_ms);
        self.ideal.seen.behind.clone_from(&plan.behind);
        self.plan = plan;
        self.is_due = false;
    }

    /// Does what is planned, and what follows by itself. Answers whether that was anything.
    fn carry_out(&mut self, now_ms: u64, of: impl Fn(&str) -> Option<(String, u64)>) -> bool {
        if !self.ideal.seen.complete {
            return false;
        }
        let steps = std::mem::take(&mut self.plan.steps);
        let deliveries = std::mem::take(&mut self.plan.deliveries);
        let mut is_done = !steps.is_empty() || !deliveries.is_empty();
        for delivery in deliveries {
            self.ideal.receive(&delivery.address);
            self.sent.insert(delivery.address, delivery.source);
        }
        for Step { action, reason } in steps {
            if let Action::Bundle { hash, .. } = &action {
                self.bundles.insert(hash.clone());
            }
            let process = action.process().map(str::to_owned);
            let phase =
                process.as_ref().and_then(|id| self.ideal.seen.processes.get(id)).map(|seen| seen.phase);
            self.ideal.carry_out(&action, now_ms);
            if let (Some(id), Some(verb)) = (process, Verb::of(&action, phase)) {
                let (what, of) = (what(&action), of(&id));
                self.done.entry(id).or_default().push(Done { verb, reason, what, action, of });
            }
        }
        is_done |= self.ideal.finish_stops();
        is_done |= self.ideal.live(now_ms);
        self.is_due |= is_done;
        is_done
    }
}

/// What a process is started with, or told, as a hash.
fn what(action: &Action) -> String {
    match action {
        Action::Restart { start, .. } | Action::Start { start, .. } => start.hash.clone(),
        Action::Adopt { start, .. } => start.care.hash.clone(),
        Action::Reload { live, .. } => live.clone(),
        Action::Bundle { .. }
        | Action::Unbundle
        | Action::Remove { .. }
        | Action::Stop { .. }
        | Action::Discard { .. } => String::new(),
    }
}

/// The key of a node.
pub(super) fn node_key(place: &Place) -> Key {
    Key::within(Kind::Node, place.0.as_str(), place.1.as_str())
}
