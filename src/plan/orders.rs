//! All nodes together: what may not be started or stopped yet, because of what is on other nodes.
//!
//! A service with `after` is started once each service that it names does its work, and those are stopped once it has ended. The
//! nodes' tasks decide alone, and none of them sees the others' nodes; so what follows from all of them is decided here and told to
//! each, beside the documents.
//!
//! **Invariant:** what was decided on older documents than those that say that there is an order, is no order ([`Ties`]): a task that has
//! newer documents waits.
//! **Absent here:** what a node does by itself. A process that ends is started again by its supervisor, whatever it is after.

use std::collections::{BTreeMap, BTreeSet};

use super::availability::{Availability, of_process, of_service, type_of};
use super::render::wanted;
use super::world::{Gate, Orders, Ties, World};
use crate::model::kinds::{FailoverSpec, ProcessSpec, ServiceSpec, ServiceTypeSpec};
use crate::model::meta::{Key, Kind};
use crate::model::{Document, Documents};

/// What may not be started or stopped yet, decided on the documents of a revision; and when that changes by time alone, on the clock that
/// [`World::now_ms`] is. With `halt` everything is to stop, whatever the documents say.
///
/// Where nothing has an order or may run in one place only, there are no orders, so that nobody is told of any.
pub fn orders(world: &World<'_>, revision: u64, halt: bool) -> (Orders, Option<u64>) {
    let mut orders = Orders { halt, ..Orders::default() };
    let mut wake_at_ms: Option<u64> = None;
    let mut standings: BTreeMap<Key, Option<Gate>> = BTreeMap::new();
    for key in world.documents.ordered_services() {
        let Some(service) = world.documents.service(key) else { continue };
        if let Some(FailoverSpec::Fenced { .. }) = service.failover {
            orders.revision = revision;
            see_nodes_of(world, key, &mut orders);
        }
        if service.after.is_empty() {
            continue;
        }
        orders.revision = revision;
        let others = service.after.iter().map(|other| Key::within(Kind::Service, &*key.namespace, &**other));
        for other in others.clone() {
            let standing = standings.entry(other).or_insert_with_key(|other| {
                let gate = awaited(world, other);
                if gate.is_some() {
                    wake_at_ms = wake_at_ms.into_iter().chain(next_available(world, other)).min();
                }
                gate
            });
            if let Some(gate) = standing {
                orders.starts.entry(key.clone()).or_insert_with(|| gate.clone());
            }
        }
        let Some(gate) = ending(world, key, halt) else { continue };
        for other in others {
            // In a circle nothing could be stopped.
            if !starts_after(world.documents, &other).contains(key) {
                orders.stops.entry(other).or_insert_with(|| gate.clone());
            }
        }
    }
    (orders, wake_at_ms)
}

/// For what of a process there have to be orders.
pub fn ties(documents: &Documents, document: &Document, process: &ProcessSpec) -> Ties {
    let instance = document.metadata.namespace.as_str();
    let key = Key::within(Kind::Service, instance, process.service.as_str());
    let Some(service) = documents.service(&key) else { return Ties::default() };
    let written = |key: &Key| documents.get(key).map_or(0, |document| document.revision());
    let others = service.after.iter().map(|other| Key::within(Kind::Service, instance, other.as_str()));
    let start = others.map(|other| written(&other)).max();
    let stop = documents.services_after(&key).map(|(_, after)| after.revision()).max();
    let itself = written(&key);
    let place = matches!(service.failover, Some(FailoverSpec::Fenced { .. }));
    Ties {
        start: start.map(|others| others.max(itself)),
        stop: stop.map(|others| others.max(itself).max(document.revision())),
        place: place.then(|| document.revision()),
    }
}

/// All services that a service is started after, directly or not; itself where they form a circle.
pub fn starts_after(documents: &Documents, service: &Key) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    let mut next = vec![service.clone()];
    while let Some(key) = next.pop() {
        for other in documents.service(&key).iter().flat_map(|service| &service.after) {
            let other = Key::within(Kind::Service, key.namespace.as_str(), other.as_str());
            if found.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    found
}

/// Why what is after a service has to wait for it; none when it does its work.
pub(super) fn awaited(world: &World<'_>, key: &Key) -> Option<Gate> {
    let why = match (world.documents.get(key), world.documents.service(key)) {
        (Some(document), Some(service)) if !document.is_deleting() => {
            let count = of_service(world, key, service);
            if count.is_enough(&service.update.clone().unwrap_or_default()) {
                return None;
            }
            match unseen_node(world, key, service) {
                Some(node) => format!("its node {node} is not seen"),
                None if service.running == Some(false) && count.wanted == 0 => {
                    "it is not asked to run".into()
                }
                None if count.wanted == 0 => "it has no process that should run".into(),
                None if count.wanted == 1 => "its process does not do its work yet".into(),
                None => format!("{} of {} processes do their work", count.available, count.wanted),
            }
        }
        (Some(_), _) => "it is being deleted".into(),
        (None, _) => "it does not exist".into(),
    };
    Some(Gate { other: key.name.clone(), why })
}

/// The first node on which a process of a service should run and that is not seen.
fn unseen_node(world: &World<'_>, key: &Key, service: &ServiceSpec) -> Option<String> {
    let should_run = world
        .documents
        .processes_of(&key.namespace, &key.name)
        .filter(|(document, process)| !document.is_deleting() && wanted(process, Some(service)));
    let unseen = should_run
        .filter(|(document, process)| of_process(world, document, process) == Availability::Unknown);
    unseen.map(|(_, process)| process.node.clone()).min()
}

/// When the next process of a service counts as available though nothing new is seen.
fn next_available(world: &World<'_>, key: &Key) -> Option<u64> {
    let kind = type_of(world.documents, &key.namespace, &key.name);
    let start_ms = kind.map_or(0, ServiceTypeSpec::start_ms);
    let at = |(document, process)| match of_process(world, document, process) {
        Availability::Starting { since_ms } => Some(since_ms.saturating_add(start_ms)),
        Availability::Since(_) | Availability::No | Availability::Unknown => None,
    };
    let processes = world.documents.processes_of(&key.namespace, &key.name);
    let times = processes.filter_map(|(document, process)| at((&**document, process)));
    // One that has stayed up for long enough waits for its health check, which will be seen.
    times.filter(|at_ms| *at_ms > world.now_ms).min()
}

/// Why what a service is after has to wait with its end; none when nothing of the service is on the way down.
///
/// Only what is on nodes that are seen is waited for: of the others nobody can say when they have ended, and who asks for a stop must
/// not wait for ever.
fn ending(world: &World<'_>, key: &Key, halt: bool) -> Option<Gate> {
    let documents = world.documents;
    let document = documents.get(key)?;
    let service = documents.service(key)?;
    let goes = halt
        || document.is_deleting()
        || documents.live(&Key::cluster(Kind::Instance, key.namespace.as_str())).is_none();
    let not_to_run = documents
        .processes_of(&key.namespace, &key.name)
        .filter(|(process, spec)| goes || process.is_deleting() || !wanted(spec, Some(service)));
    let left = not_to_run.filter(|(process, spec)| {
        let place = (key.namespace.clone(), spec.node.clone());
        let Some(seen) = world.seen.get(&place).filter(|seen| seen.complete) else { return false };
        let id = &process.metadata.name;
        let is_over = seen.processes.get(id).is_none_or(|process| process.phase.is_over());
        // Or else a start may be under way from an older wish.
        let is_known = seen.planned >= process.revision().max(document.revision());
        !is_over || !is_known || seen.pending.contains(id)
    });
    match u32::try_from(left.count()).unwrap_or(u32::MAX) {
        0 => None,
        left => {
            let (noun, verb) = if left == 1 { ("process", "has") } else { ("processes", "have") };
            Some(Gate { other: key.name.clone(), why: format!("{left} {noun} of it {verb} not ended") })
        }
    }
}

/// The nodes that have processes of a service and are seen.
fn see_nodes_of(world: &World<'_>, key: &Key, orders: &mut Orders) {
    for (_, process) in world.documents.processes_of(&key.namespace, &key.name) {
        let place = (key.namespace.clone(), process.node.clone());
        if let Some(seen) = world.seen.get(&place).filter(|seen| seen.complete) {
            orders.seen.insert(place, seen.conversation);
        }
    }
}

#[cfg(test)]
mod tests;
