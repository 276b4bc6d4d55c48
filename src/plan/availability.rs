//! Whether a process does its work, as far as is seen; and so whether its service does.

use super::render::wanted;
use super::revision::Declarations;
use super::world::{Health, Phase, ProcessSighting, World};
use crate::model::id::revision_name;
use crate::model::kinds::{ProcessSpec, ServiceSpec, ServiceTypeSpec, UpdateSpec};
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
    let kind = type_of(world.documents, instance, &process.service);
    as_seen(world, (document, process), kind, node.processes.get(&document.metadata.name))
}

/// The type of a service; none where one of the two does not exist.
pub(super) fn type_of<'a>(
    documents: &'a Documents,
    instance: &str,
    service: &str,
) -> Option<&'a ServiceTypeSpec> {
    let service = documents.service(&Key::within(Kind::Service, instance, service))?;
    documents.service_type(&Key::cluster(Kind::ServiceType, service.kind.as_str()))
}

/// Whether a process has a health check: its service's type has one, and so had that of an earlier revision that it runs from. What that
/// did not check can't be found healthy before it runs from another one.
fn is_checked(
    documents: &Documents,
    document: &Document,
    process: &ProcessSpec,
    kind: Option<&ServiceTypeSpec>,
) -> bool {
    if kind.is_none_or(|kind| kind.health.is_none()) {
        return false;
    }
    let instance = document.metadata.namespace.as_str();
    let key = Key::within(Kind::Service, instance, process.service.as_str());
    let Some((declared, service)) = documents.get(&key).zip(documents.service(&key)) else { return false };
    let name = revision_name(&process.service, document.metadata.revision);
    let revision = documents.revision(&Key::within(Kind::Revision, instance, name));
    revision.is_none_or(|revision| {
        revision.service_type.health.is_some() || Declarations::new(documents).is(declared, service, revision)
    })
}

/// The same, of a process of this type as it is seen on a node that is; none where it is not there.
pub(super) fn as_seen(
    world: &World<'_>,
    (document, process): (&Document, &ProcessSpec),
    kind: Option<&ServiceTypeSpec>,
    seen: Option<&ProcessSighting>,
) -> Availability {
    let now_ms = world.now_ms;
    let Some(seen) = seen else { return Availability::No };
    if seen.phase != Phase::Running {
        return Availability::No;
    }
    let up_ms = seen.since_ms.saturating_add(kind.map_or(0, ServiceTypeSpec::start_ms));
    let is_checked = || is_checked(world.documents, document, process, kind);
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
