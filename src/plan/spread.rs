//! Where a process of a service can be: which rule drops which node, and of the nodes that are left, which come first.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::place::Frozen;
use super::render::takes_new;
use super::world::{NodeSighting, World};
use crate::model::Document;
use crate::model::kinds::ServiceSpec;
use crate::model::meta::{DRAINING, Key, Kind};

/// How a node stands to a service that is placed by `replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It takes new processes.
    Takes,
    /// It is being deleted.
    Deleting,
    /// It lacks a label that the service asks for.
    NotSelected {
        /// The label.
        label: String,
        /// What is asked for.
        wanted: String,
        /// What it has.
        found: Option<String>,
    },
    /// It is being drained.
    Draining,
    /// It is cordoned; what is there stays.
    Cordoned,
    /// It was seen before, and is not now; what is there stays.
    Away,
}

impl Fit {
    /// Whether what is there may stay.
    pub const fn keeps(&self) -> bool {
        matches!(self, Fit::Takes | Fit::Cordoned | Fit::Away)
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fit::Takes => f.write_str("it can take one"),
            Fit::Deleting => f.write_str("it is being deleted"),
            Fit::NotSelected { label, wanted, found: Some(found) } => {
                write!(f, "its label {label} is {found}, and the service asks for {wanted}")
            }
            Fit::NotSelected { label, wanted, found: None } => {
                write!(f, "it has no label {label}, and the service asks for {wanted}")
            }
            Fit::Draining => f.write_str("it is being drained"),
            Fit::Cordoned => f.write_str("it is cordoned (status: false)"),
            Fit::Away => f.write_str("it does not answer"),
        }
    }
}

/// What a service asks for of a node's labels.
pub(super) type Selector = BTreeMap<String, String>;

/// How a node stands to a service, as it was seen last; none when it never was.
pub fn fit(node: &Document, seen: Option<&NodeSighting>, service: &ServiceSpec) -> Fit {
    if node.is_deleting() {
        return Fit::Deleting;
    }
    for (label, wanted) in &service.node_selector {
        let found = node.metadata.labels.get(label);
        if found != Some(wanted) {
            let (label, wanted) = (label.clone(), wanted.clone());
            return Fit::NotSelected { label, wanted, found: found.cloned() };
        }
    }
    if node.metadata.annotations.contains_key(DRAINING) {
        return Fit::Draining;
    }
    if !takes_new(node) {
        return Fit::Cordoned;
    }
    if seen.is_some_and(is_away) { Fit::Away } else { Fit::Takes }
}

/// One that was never tried is not away: at the start none was.
fn is_away(seen: &NodeSighting) -> bool {
    !seen.complete && seen.unseen_since_ms.is_some()
}

/// Whether a node takes new processes of any service that its labels suit.
fn is_open(world: &World<'_>, node: &Document) -> bool {
    fit(node, sighting(world, node), &ServiceSpec::default()) == Fit::Takes
}

fn is_selected(node: &Document, selector: &Selector) -> bool {
    selector.iter().all(|(label, wanted)| node.metadata.labels.get(label) == Some(wanted))
}

fn sighting<'a>(world: &World<'a>, node: &Document) -> Option<&'a NodeSighting> {
    world.seen.get(&(node.metadata.namespace.clone(), node.metadata.name.clone()))
}

/// What all services share: how full the nodes are, which take something new, and whether failover is frozen. It is kept from pass to pass.
///
/// **Invariant:** between passes it says what the documents and sightings do of which it was told last ([`Ground::look`]); what a
/// pass plans counts until [`Ground::take_back`].
#[derive(Debug, Default)]
pub(super) struct Ground {
    frozen: Option<Frozen>,
    /// Nodes that are not being deleted.
    live: BTreeSet<Key>,
    /// Those of them that do not answer.
    silent: BTreeSet<Key>,
    /// By instance; those in which something was placed.
    instances: BTreeMap<String, Nodes>,
    /// The instances in which this pass has placed something.
    planned: BTreeSet<String>,
}

/// An instance's nodes.
#[derive(Debug, Default)]
struct Nodes {
    all: BTreeMap<Arc<str>, Load>,
    /// Those that take something new, the emptiest first, by what is asked for of their labels.
    open: BTreeMap<Arc<Selector>, Open>,
    /// Those on which this pass has placed something.
    planned: Vec<Arc<str>>,
}

/// Nodes with how many processes are on each.
type Open = BTreeSet<(u32, Arc<str>)>;

#[derive(Debug, Default)]
struct Load {
    /// With those that this pass has placed.
    processes: u32,
    /// These.
    planned: u32,
    /// Among which open nodes it is.
    open_to: Vec<Arc<Selector>>,
}

impl Ground {
    pub(super) const fn frozen(&self) -> Option<Frozen> {
        self.frozen
    }

    /// Begins a pass: finds out whether failover is frozen by now.
    pub(super) fn begin(&mut self, world: &World<'_>) {
        let (silent, all) = (self.silent.len(), self.live.len());
        // One always may be silent: else there would be no failover where there are few.
        let is_many = silent > 1 && silent * 100 > all * usize::from(world.freeze.above_percent);
        self.frozen = if world.now_ms < world.since_ms.saturating_add(world.freeze.settle_ms) {
            Some(Frozen::Settling)
        } else {
            is_many.then_some(Frozen::ManySilent { silent, all })
        };
    }

    /// Looks at a node anew: itself, its sighting, or what is on it has changed. Answers for which selectors it takes something new
    /// and did not, or the other way round.
    pub(super) fn look(&mut self, world: &World<'_>, key: &Key) -> Vec<Arc<Selector>> {
        let node = world.documents.get(key);
        let live = node.filter(|node| !node.is_deleting());
        let is_silent = |node: &Document| !sighting(world, node).is_some_and(|seen| seen.complete);
        put(&mut self.live, key, live.is_some());
        put(&mut self.silent, key, live.is_some_and(|node| is_silent(node)));
        let Some(nodes) = self.instances.get_mut(&key.namespace) else { return Vec::new() };
        nodes.look(world, key, node.map(Arc::as_ref))
    }

    /// Forgets a selector that a service no longer has; if others do, it is found anew.
    pub(super) fn forget(&mut self, instance: &str, selector: &Selector) {
        let Some(nodes) = self.instances.get_mut(instance) else { return };
        for (_, node) in nodes.open.remove(selector).into_iter().flatten() {
            if let Some(load) = nodes.all.get_mut(&node) {
                load.open_to.retain(|other| **other != *selector);
            }
        }
    }

    /// What this pass has placed is not there yet, and may never be: it is forgotten.
    pub(super) fn take_back(&mut self) {
        for instance in std::mem::take(&mut self.planned) {
            if let Some(nodes) = self.instances.get_mut(&instance) {
                nodes.take_back();
            }
        }
    }

    fn nodes(&mut self, world: &World<'_>, instance: &str, selector: &Selector) -> &mut Nodes {
        let nodes = match self.instances.entry(instance.to_owned()) {
            Entry::Occupied(nodes) => nodes.into_mut(),
            Entry::Vacant(place) => place.insert(Nodes::new(world, instance)),
        };
        if !nodes.open.contains_key(selector) {
            nodes.open_to(world, instance, selector);
        }
        nodes
    }

    /// Whether some node takes a process of a service, other than this one.
    pub(super) fn takes(
        &mut self,
        world: &World<'_>,
        instance: &str,
        service: &ServiceSpec,
        except: &str,
    ) -> bool {
        let open = self.nodes(world, instance, &service.node_selector).open.get(&service.node_selector);
        open.is_some_and(|open| open.iter().any(|(_, node)| **node != *except))
    }

    /// Nodes for so many processes more: where there are the fewest of this service, then the fewest of all, then by name.
    /// Fewer than asked for when no node takes any.
    pub(super) fn choose(
        &mut self,
        world: &World<'_>,
        instance: &str,
        service: &ServiceSpec,
        here: &BTreeMap<&str, u32>,
        missing: u32,
    ) -> Vec<Arc<str>> {
        if !self.planned.contains(instance) {
            self.planned.insert(instance.to_owned());
        }
        let selector = &service.node_selector;
        let nodes = self.nodes(world, instance, selector);
        let mut chosen: Vec<Arc<str>> = Vec::new();
        let mut left = missing as usize;
        let open: Vec<Arc<str>> = nodes
            .open
            .get(selector)
            .map(|open| {
                let free = open.iter().map(|(_, node)| node).filter(|node| !here.contains_key(&***node));
                free.take(left).cloned().collect()
            })
            .unwrap_or_default();
        // Those with none of the service first: mostly that is enough, and none of the others is looked at.
        left -= open.len();
        for node in open {
            nodes.add(&node);
            chosen.push(node);
        }
        let mut more: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        if left > 0 {
            chosen.iter().for_each(|node| *more.entry(Arc::clone(node)).or_default() += 1);
        }
        while left > 0 {
            let Some(open) = nodes.open.get(selector) else { break };
            let count = |node: &Arc<str>| {
                here.get(&**node).copied().unwrap_or(0) + more.get(node).copied().unwrap_or(0)
            };
            let Some(fewest) = open.iter().map(|(_, node)| count(node)).min() else { break };
            let level = open.iter().map(|(_, node)| node).filter(|node| count(node) == fewest);
            let level: Vec<Arc<str>> = level.take(left).cloned().collect();
            left -= level.len();
            for node in level {
                nodes.add(&node);
                *more.entry(Arc::clone(&node)).or_default() += 1;
                chosen.push(node);
            }
        }
        chosen
    }
}

impl Nodes {
    fn new(world: &World<'_>, instance: &str) -> Nodes {
        let all = world.documents.within(Kind::Node, instance);
        let all = all
            .map(|(key, _)| (Arc::from(&*key.name), Load { processes: load(world, key), ..Load::default() }));
        Nodes { all: all.collect(), ..Nodes::default() }
    }

    /// Finds the open nodes for a selector: among those with the rarest of the labels.
    fn open_to(&mut self, world: &World<'_>, instance: &str, selector: &Selector) {
        let documents = world.documents;
        let rarest = selector
            .iter()
            .min_by_key(|(label, value)| documents.count_nodes_labelled(instance, label, value));
        let nodes: Vec<&Arc<Document>> = match rarest {
            Some((label, value)) => documents.nodes_labelled(instance, label, value).collect(),
            None => documents.within(Kind::Node, instance).map(|(_, node)| node).collect(),
        };
        let selector = Arc::new(selector.clone());
        let mut open = Open::new();
        for node in nodes.into_iter().filter(|node| is_selected(node, &selector) && is_open(world, node)) {
            let name: Arc<str> = Arc::from(&*node.metadata.name);
            if let Some(load) = self.all.get_mut(&name) {
                load.open_to.push(Arc::clone(&selector));
                open.insert((load.processes, name));
            }
        }
        self.open.insert(selector, open);
    }

    /// The same as [`Ground::look`].
    fn look(&mut self, world: &World<'_>, key: &Key, node: Option<&Document>) -> Vec<Arc<Selector>> {
        let name: Arc<str> = Arc::from(&*key.name);
        let earlier = self.all.remove(&name).unwrap_or_default();
        let is_open = node.is_some_and(|node| is_open(world, node));
        let mut now = Load { processes: load(world, key), ..Load::default() };
        let mut changed = Vec::new();
        for (selector, open) in &mut self.open {
            let was = earlier.open_to.contains(selector);
            let is = is_open && node.is_some_and(|node| is_selected(node, selector));
            if was {
                open.remove(&(earlier.processes, Arc::clone(&name)));
            }
            if is {
                open.insert((now.processes, Arc::clone(&name)));
                now.open_to.push(Arc::clone(selector));
            }
            if was != is {
                changed.push(Arc::clone(selector));
            }
        }
        if node.is_some() {
            self.all.insert(name, now);
        }
        changed
    }

    /// One more process is placed on a node.
    fn add(&mut self, node: &Arc<str>) {
        let Some(load) = self.all.get_mut(node) else { return };
        if load.planned == 0 {
            self.planned.push(Arc::clone(node));
        }
        let before = load.processes;
        load.planned = load.planned.saturating_add(1);
        load.processes = before.saturating_add(1);
        sort_anew(&mut self.open, node, load, before);
    }

    /// The same as [`Ground::take_back`].
    fn take_back(&mut self) {
        for node in std::mem::take(&mut self.planned) {
            let Some(load) = self.all.get_mut(&node) else { continue };
            let before = load.processes;
            load.processes = before.saturating_sub(std::mem::take(&mut load.planned));
            sort_anew(&mut self.open, &node, load, before);
        }
    }
}

/// Puts a node where it belongs among the open ones, now that it has another number of processes than before.
fn sort_anew(all: &mut BTreeMap<Arc<Selector>, Open>, node: &Arc<str>, load: &Load, before: u32) {
    for selector in &load.open_to {
        if let Some(open) = all.get_mut(selector) {
            open.remove(&(before, Arc::clone(node)));
            open.insert((load.processes, Arc::clone(node)));
        }
    }
}

/// How many processes are on a node.
fn load(world: &World<'_>, node: &Key) -> u32 {
    u32::try_from(world.documents.count_processes(node)).unwrap_or(u32::MAX)
}

fn put(set: &mut BTreeSet<Key>, key: &Key, is_in: bool) {
    if is_in {
        set.insert(key.clone());
    } else {
        set.remove(key);
    }
}
