//! What is foreseen, as data that is shown and sent; and how it is told from two courses of the world.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Present;
use super::course::{Course, Done, Node, Place};
use super::why::Whys;
use crate::model::meta::{Key, Kind};
use crate::plan::step::Action;
use crate::plan::world::{NodeDesired, Phase};

/// What a change does, and what it does not do and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Foresight {
    /// The nodes on which something is done, held, or under way, by instance and name.
    pub nodes: Vec<NodeForesight>,
    /// What else is held by the change, by object: no node takes a process, a deletion waits.
    pub holds: Vec<ObjectHold>,
    /// What the change does, counted.
    pub total: Total,
    /// What is done whether it is made or not, counted.
    pub pending: Total,
    /// False when the change takes more rounds than are foreseen: what is told is done, and more follows.
    pub complete: bool,
}

/// What is done on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeForesight {
    /// Its instance.
    pub instance: String,
    /// The node.
    pub node: String,
    /// True for one that the change declares: it is taken to answer, and to be empty.
    pub presumed: bool,
    /// Whether the change has the file written anew that tells its services of their configuration.
    pub bundle: bool,
    /// The artifacts that the change has sent there, by path.
    pub artifacts: Vec<Sent>,
    /// Its processes of which something is told, by service and id.
    pub processes: Vec<ProcessForesight>,
}

/// An artifact that is sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sent {
    /// The file or folder on the controller's machine.
    pub path: String,
    /// Its address: the SHA-256 of what is sent, in hexadecimal.
    pub address: String,
    /// Bytes.
    pub size: u64,
}

/// What is done to a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProcessForesight {
    /// Its id.
    pub id: String,
    /// Its service; empty where no document says.
    pub service: String,
    /// What the change does, in this order.
    pub deeds: Vec<Deed>,
    /// What is done whether it is made or not, in this order.
    pub pending: Vec<Deed>,
    /// Why it is not, in the end, as the change declares it.
    pub holds: Vec<Hold>,
}

/// One thing that is done to a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deed {
    /// What.
    pub verb: Verb,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub why: String,
    /// The fields that changed, by path, where it is done for these. No values.
    pub fields: Vec<String>,
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// It does not run, and does then.
    Start,
    /// It runs, and does not then.
    Stop,
    /// It ends and is started anew.
    Restart,
    /// It runs on, and takes something in: it is told of a live change, or its supervisor is of another health check, log or lease.
    Reload,
}

impl Verb {
    /// What an action does to a process that was seen in this phase; none where nothing that runs, or is to run, is touched.
    pub fn of(action: &Action, seen: Option<Phase>) -> Option<Verb> {
        match action {
            Action::Start { .. } => Some(Verb::Start),
            Action::Restart { .. } => Some(Verb::Restart),
            Action::Reload { .. } | Action::Adopt { .. } => Some(Verb::Reload),
            Action::Stop { .. } | Action::Remove { .. } => {
                seen.is_some_and(|phase| !phase.is_over()).then_some(Verb::Stop)
            }
            Action::Bundle { .. } | Action::Unbundle | Action::Discard { .. } => None,
        }
    }

    /// Its sign.
    pub const fn sign(self) -> char {
        match self {
            Verb::Start => '+',
            Verb::Stop => '-',
            Verb::Restart => '↻',
            Verb::Reload => '~',
        }
    }

    /// The verb itself.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
            Verb::Reload => "reload",
        }
    }
}

/// Why nothing (more) is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hold {
    /// In one word.
    pub reason: String,
    /// For people.
    pub why: String,
}

/// Why nothing (more) is done about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ObjectHold {
    /// The object, such as `Service IN1/SV1`.
    pub object: String,
    /// In one word.
    pub reason: String,
    /// For people.
    pub why: String,
}

/// Deeds, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Total {
    /// Starts.
    pub start: usize,
    /// Stops.
    pub stop: usize,
    /// Restarts.
    pub restart: usize,
    /// Reloads.
    pub reload: usize,
    /// Nodes on which these are done.
    pub nodes: usize,
}

impl Total {
    fn of<'a>(nodes: &'a [NodeForesight], deeds: impl Fn(&'a ProcessForesight) -> &'a Vec<Deed>) -> Total {
        let mut total = Total::default();
        for node in nodes {
            let mut all = node.processes.iter().flat_map(&deeds).peekable();
            total.nodes += usize::from(all.peek().is_some());
            for deed in all {
                *(match deed.verb {
                    Verb::Start => &mut total.start,
                    Verb::Stop => &mut total.stop,
                    Verb::Restart => &mut total.restart,
                    Verb::Reload => &mut total.reload,
                }) += 1;
            }
        }
        total
    }
}

impl Foresight {
    /// Whether the change does nothing on any node, and nothing is held that it asks for. What is under way already may be told nevertheless.
    pub fn is_empty(&self) -> bool {
        let is_quiet = |node: &NodeForesight| {
            let is_of_change =
                |process: &ProcessForesight| !process.deeds.is_empty() || !process.holds.is_empty();
            !node.bundle && node.artifacts.is_empty() && !node.processes.iter().any(is_of_change)
        };
        self.holds.is_empty() && self.nodes.iter().all(is_quiet)
    }
}

/// What the later course does that the earlier one does not.
pub(super) fn compare(present: &Present<'_>, before: &Course<'_>, after: &Course<'_>) -> Foresight {
    let mut nodes = Vec::new();
    for (place, node) in &after.nodes {
        let (nothing, held) = (Node::default(), held(before, after, place));
        let earlier = before.nodes.get(place).unwrap_or(&nothing);
        let told = node_foresight(present, after, place, earlier, node, held);
        if told.bundle || !told.artifacts.is_empty() || !told.processes.is_empty() {
            nodes.push(told);
        }
    }
    let others = after.holds.iter().filter(|(key, hold)| {
        let is_same = before.holds.get(*key).is_some_and(|before| before.to_string() == hold.to_string());
        key.kind != Kind::Process && !is_same
    });
    let others = others.map(|(key, hold)| ObjectHold {
        object: key.to_string(),
        reason: hold.word().into(),
        why: hold.to_string(),
    });
    Foresight {
        holds: others.collect(),
        total: Total::of(&nodes, |process| &process.deeds),
        pending: Total::of(&nodes, |process| &process.pending),
        complete: before.is_over && after.is_over,
        nodes,
    }
}

fn node_foresight(
    present: &Present<'_>,
    course: &Course<'_>,
    place: &Place,
    before: &Node,
    after: &Node,
    held: BTreeMap<String, Vec<Hold>>,
) -> NodeForesight {
    let whys = Whys::new(present, course, place, &before.desired);
    let ids: BTreeSet<&String> = after.done.keys().chain(held.keys()).collect();
    let none = Vec::new();
    let mut processes = Vec::new();
    for id in ids {
        let all = after.done.get(id).unwrap_or(&none);
        let (of_change, pending) = split(before.done.get(id).unwrap_or(&none), all);
        let tell = |done: &Done| whys.deed(id, done);
        let deeds = fold(of_change.into_iter().map(tell).collect());
        let pending: Vec<Deed> = pending.into_iter().map(tell).collect();
        let holds = held.get(id).cloned().unwrap_or_default();
        if !deeds.is_empty() || !pending.is_empty() || !holds.is_empty() {
            let service = service_of(present, course, place, id, all);
            processes.push(ProcessForesight { id: id.clone(), service, deeds, pending, holds });
        }
    }
    processes.sort_by(|a, b| (&a.service, &a.id).cmp(&(&b.service, &b.id)));
    let sent = after.sent.iter().filter(|(address, _)| !before.sent.contains_key(*address));
    let mut artifacts: Vec<Sent> = sent
        .map(|(address, source)| Sent {
            path: source.path.clone(),
            address: address.clone(),
            size: source.size,
        })
        .collect();
    artifacts.sort();
    NodeForesight {
        instance: place.0.clone(),
        node: place.1.clone(),
        presumed: after.is_presumed,
        bundle: !after.bundles.is_subset(&before.bundles),
        artifacts,
        processes,
    }
}

fn service_of(present: &Present<'_>, course: &Course<'_>, place: &Place, id: &str, done: &[Done]) -> String {
    let key = Key::within(Kind::Process, place.0.as_str(), id);
    let found = course.documents.process(&key).or_else(|| present.world.documents.process(&key));
    let then = done.iter().find_map(|done| done.of.as_ref()).map(|(service, _)| service);
    found.map(|process| &process.service).or(then).cloned().unwrap_or_default()
}

/// What is done only on the later course, and what is done on both. The same is done when the same comes of it.
fn split<'a>(before: &[Done], after: &'a [Done]) -> (Vec<&'a Done>, Vec<&'a Done>) {
    let mut left: Vec<(Verb, &str)> = before.iter().map(|done| (done.verb, done.what.as_str())).collect();
    after.iter().partition(|done| {
        let at = left.iter().position(|(verb, what)| (*verb, *what) == (done.verb, done.what.as_str()));
        at.map(|at| left.remove(at)).is_none()
    })
}

/// What ends and is started after that, is started anew.
fn fold(deeds: Vec<Deed>) -> Vec<Deed> {
    let mut folded: Vec<Deed> = Vec::new();
    for deed in deeds {
        match folded.last_mut() {
            Some(last) if (last.verb, deed.verb) == (Verb::Stop, Verb::Start) => last.verb = Verb::Restart,
            Some(_) | None => folded.push(deed),
        }
    }
    folded
}

/// What is held on a node by the change, by process.
fn held(before: &Course<'_>, after: &Course<'_>, place: &Place) -> BTreeMap<String, Vec<Hold>> {
    let (earlier, mut later) = (holds(before, place), holds(after, place));
    let wanted =
        |course: &Course<'_>, id: &str| course.nodes.get(place).and_then(|node| wanted(&node.desired, id));
    later.retain(|id, held| earlier.get(id) != Some(held) || wanted(before, id) != wanted(after, id));
    later
}

/// Why what is on a node, or should be, is not otherwise, as it was decided for the node and over all nodes.
fn holds(course: &Course<'_>, place: &Place) -> BTreeMap<String, Vec<Hold>> {
    let mut all: BTreeMap<String, Vec<Hold>> = BTreeMap::new();
    let Some(node) = course.nodes.get(place) else { return all };
    for (id, hold) in node.plan.holds.iter().filter(|(id, _)| !id.is_empty()) {
        all.entry(id.clone()).or_default().push(Hold { reason: hold.word().into(), why: hold.to_string() });
    }
    for (process, _) in course.documents.processes_on(&place.0, &place.1) {
        if let Some(hold) = course.holds.get(&process.key()) {
            let hold = Hold { reason: hold.word().into(), why: hold.to_string() };
            all.entry(process.metadata.name.clone()).or_default().push(hold);
        }
    }
    all
}

/// What a process is to be, in short.
fn wanted(desired: &NodeDesired, id: &str) -> Option<(bool, bool, Result<[String; 3], String>)> {
    let process = desired.processes.get(id)?;
    let start = process.start.as_ref().map(|start| {
        let live = if process.reload.is_some() { start.live.clone() } else { String::new() };
        [start.hash.clone(), start.care.hash.clone(), live]
    });
    Some((process.running, process.deleting, start.map_err(Clone::clone)))
}
