//! Where a process of a service can be: which rule drops which node, and of the nodes that are left, which come first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::place::Frozen;
use super::render::takes_new;
use super::world::{NodeSighting, Sightings, World};
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

/// How a node stands to a service.
pub fn fit(seen: &dyn Sightings, key: &Key, node: &Document, service: &ServiceSpec) -> Fit {
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
    let seen = seen.get(&(key.namespace.clone(), key.name.clone()));
    if seen.is_some_and(is_away) { Fit::Away } else { Fit::Takes }
}

/// One that was never tried is not away: at the start none was.
fn is_away(seen: &NodeSighting) -> bool {
    !seen.complete && seen.unseen_since_ms.is_some()
}

/// What all services share: how full the nodes are, and whether failover is frozen.
pub(super) struct Ground<'a> {
    world: World<'a>,
    frozen: Option<Frozen>,
    instances: BTreeMap<&'a str, Nodes<'a>>,
}

/// An instance's nodes.
#[derive(Default)]
struct Nodes<'a> {
    /// Processes on each.
    load: BTreeMap<&'a str, u32>,
    /// Those that take something new, the emptiest first, by what is asked for of their labels.
    open: BTreeMap<&'a BTreeMap<String, String>, BTreeSet<(u32, &'a str)>>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(world: &World<'a>) -> Ground<'a> {
        Ground { world: *world, frozen: frozen(world), instances: BTreeMap::new() }
    }

    pub(super) const fn frozen(&self) -> Option<Frozen> {
        self.frozen
    }

    fn nodes(&mut self, instance: &'a str, service: &'a ServiceSpec) -> &mut Nodes<'a> {
        let world = self.world;
        let nodes = self.instances.entry(instance).or_insert_with(|| {
            let mut load: BTreeMap<&str, u32> = BTreeMap::new();
            for (key, _) in world.documents.within(Kind::Process, instance) {
                if let Some(process) = world.documents.process(key) {
                    *load.entry(process.node.as_str()).or_default() += 1;
                }
            }
            Nodes { load, open: BTreeMap::new() }
        });
        let load = &nodes.load;
        nodes.open.entry(&service.node_selector).or_insert_with(|| {
            let all = world.documents.within(Kind::Node, instance);
            let takes = all.filter(|(key, node)| fit(world.seen, key, node, service) == Fit::Takes);
            takes
                .map(|(key, _)| (load.get(key.name.as_str()).copied().unwrap_or(0), key.name.as_str()))
                .collect()
        });
        nodes
    }

    /// Whether some node takes a process of a service, other than this one.
    pub(super) fn takes(&mut self, instance: &'a str, service: &'a ServiceSpec, except: &str) -> bool {
        let open = self.nodes(instance, service).open.get(&service.node_selector);
        open.is_some_and(|open| open.iter().any(|(_, node)| *node != except))
    }

    /// Nodes for so many processes more: where there are the fewest of this service, then the fewest of all, then by name.
    /// Fewer than asked for when no node takes any.
    pub(super) fn choose(
        &mut self,
        instance: &'a str,
        service: &'a ServiceSpec,
        mut here: BTreeMap<&'a str, u32>,
        missing: u32,
    ) -> Vec<&'a str> {
        let nodes = self.nodes(instance, service);
        let mut chosen = Vec::new();
        let mut left = missing as usize;
        let open: Vec<&str> = nodes
            .open
            .get(&service.node_selector)
            .map(|open| {
                let free = open.iter().map(|(_, node)| *node).filter(|node| !here.contains_key(node));
                free.take(left).collect()
            })
            .unwrap_or_default();
        // Those with none of the service first: mostly that is enough, and none of the others is looked at.
        left -= open.len();
        for node in open {
            nodes.add(node);
            *here.entry(node).or_default() += 1;
            chosen.push(node);
        }
        while left > 0 {
            let Some(open) = nodes.open.get(&service.node_selector) else { break };
            let fewest = open.iter().map(|(_, node)| here.get(node).copied().unwrap_or(0)).min();
            let Some(fewest) = fewest else { break };
            let level = open.iter().map(|(_, node)| *node);
            let level: Vec<&str> =
                level.filter(|node| here.get(node).copied().unwrap_or(0) == fewest).take(left).collect();
            left -= level.len();
            for node in level {
                nodes.add(node);
                *here.entry(node).or_default() += 1;
                chosen.push(node);
            }
        }
        chosen
    }
}

impl<'a> Nodes<'a> {
    /// One more process is on a node.
    fn add(&mut self, node: &'a str) {
        let load = self.load.entry(node).or_default();
        for open in self.open.values_mut() {
            if open.remove(&(*load, node)) {
                open.insert((load.saturating_add(1), node));
            }
        }
        *load = load.saturating_add(1);
    }
}

/// Why no failover is made at present.
fn frozen(world: &World<'_>) -> Option<Frozen> {
    if world.now_ms < world.since_ms.saturating_add(world.freeze.settle_ms) {
        return Some(Frozen::Settling);
    }
    let nodes = world.documents.of_kind(Kind::Node).filter(|(_, node)| !node.is_deleting());
    let (mut silent, mut all) = (0usize, 0usize);
    for (key, _) in nodes {
        all += 1;
        let seen = world.seen.get(&(key.namespace.clone(), key.name.clone()));
        silent += usize::from(!seen.is_some_and(|seen| seen.complete));
    }
    // One always may: else there would be no failover where there are few.
    let is_many = silent > 1 && silent * 100 > all * usize::from(world.freeze.above_percent);
    is_many.then_some(Frozen::ManySilent { silent, all })
}
