//! Whether a process does its work, as far as is seen; and so whether its service does.

use super::render::{desired_start_ms, wanted};
use super::revision::is_declared;
use super::world::{Health, NodeSighting, Phase, World};
use crate::model::id::revision_name;
use crate::model::kinds::{ProcessSpec, ServiceSpec, UpdateSpec};
use crate::model::{Document, Documents, Key, Kind};

/// Whether a process does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It does, since then.
    Since(u64),
    /// Not yet: it runs, and has to stay up for longer or to be found healthy.
    Starting {
        /// Since when it runs.
        since_ms: u64,
    },
    /// Not: it is not there, has ended, or is found unhealthy.
    No,
    /// Its node is not seen, so nobody knows.
    Unknown,
}

impl Availability {
    /// Whether it has done its work for so long.
    pub const fn is_for(self, ms: u64, now_ms: u64) -> bool {
        matches!(self, Availability::Since(since) if since.saturating_add(ms) <= now_ms)
    }
}

/// Whether a process of a service does its work.
pub fn of_process(world: &World<'_>, document: &Document, process: &ProcessSpec) -> Availability {
    let instance = &document.metadata.namespace;
    let place = (instance.clone(), process.node.clone());
    let Some(node) = world.seen.get(&place).filter(|node| node.complete) else {
        return Availability::Unknown;
    };
    let start_ms = desired_start_ms(world.documents, instance, &process.service);
    let is_checked = || is_checked(world.documents, document, process);
    on_node(node, &document.metadata.name, start_ms, is_checked, world.now_ms)
}

/// Whether a process has a health check: its service's type has one, and so had that of an earlier revision that it runs from. What that
/// did not check can't be found healthy before it runs from another one.
fn is_checked(documents: &Documents, document: &Document, process: &ProcessSpec) -> bool {
    let instance = document.metadata.namespace.as_str();
    let key = Key::within(Kind::Service, instance, process.service.as_str());
    let Some((declared, service)) = documents.get(&key).zip(documents.service(&key)) else { return false };
    let kind = documents.service_type(&Key::cluster(Kind::ServiceType, service.kind.as_str()));
    if kind.is_none_or(|kind| kind.health.is_none()) {
        return false;
    }
    let name = revision_name(&process.service, document.metadata.revision);
    let revision = documents.revision(&Key::within(Kind::Revision, instance, name));
    revision.is_none_or(|revision| {
        revision.service_type.health.is_some() || is_declared(documents, declared, service, revision)
    })
}

/// The same, of a node that is seen.
fn on_node(
    node: &NodeSighting,
    id: &str,
    start_ms: u64,
    is_checked: impl Fn() -> bool,
    now_ms: u64,
) -> Availability {
    let Some(seen) = node.processes.get(id) else { return Availability::No };
    if seen.phase != Phase::Running {
        return Availability::No;
    }
    let up_ms = seen.since_ms.saturating_add(start_ms);
    match &seen.health {
        Some(Health::Unhealthy { .. }) => Availability::No,
        None if is_checked() => Availability::Starting { since_ms: seen.since_ms },
        Some(Health::Healthy | Health::Unchecked { .. }) | None if up_ms > now_ms => {
            Availability::Starting { since_ms: seen.since_ms }
        }
        Some(Health::Healthy | Health::Unchecked { .. }) | None => Availability::Since(up_ms),
    }
}

/// How many of a service's processes do their work, of how many that should.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Processes that should run.
    pub wanted: u32,
    /// Those of them that do their work.
    pub available: u32,
}

impl Count {
    /// Whether the service as a whole does its work: at least one process, and no more missing than an update may take away.
    pub fn is_enough(self, update: &UpdateSpec) -> bool {
        let missing = self.wanted.saturating_sub(self.available);
        self.available > 0 && missing <= update.max_unavailable(self.wanted)
    }
}

/// Counts a service's processes.
pub fn of_service(world: &World<'_>, key: &Key, service: &ServiceSpec) -> Count {
    let mut count = Count::default();
    for (document, process) in world.documents.processes_of(&key.namespace, &key.name) {
        if document.is_deleting() || !wanted(process, Some(service)) {
            continue;
        }
        count.wanted += 1;
        if matches!(of_process(world, document, process), Availability::Since(_)) {
            count.available += 1;
        }
    }
    count
}
