//! One process of a service, as the decision over all nodes sees it: whether it should run, whether it does its work, and whether taking it
//! away takes anything away.

use std::sync::Arc;

use super::availability::{Availability, of_process};
use super::render::{takes_new, wanted};
use super::world::{NodeSighting, Phase, ProcessSighting, World};
use crate::model::Document;
use crate::model::kinds::{ProcessSpec, ServiceSpec};
use crate::model::meta::{Key, Kind};

/// A process of the service that is being deleted.
pub(super) struct Going<'a> {
    pub(super) document: &'a Arc<Document>,
    pub(super) spec: &'a ProcessSpec,
    /// Its place is free, though it may still be there.
    pub(super) gives_up: bool,
}

/// A process of the service that is not going.
pub(super) struct Member<'a> {
    pub(super) id: &'a str,
    pub(super) document: &'a Arc<Document>,
    pub(super) spec: &'a ProcessSpec,
    /// Whether it should run.
    pub(super) runs: bool,
    pub(super) availability: Availability,
    /// Whether its node is seen and knows of all that was decided on it.
    pub(super) is_heard: bool,
    /// Whether its node has taken up all that was decided on it, or will not: where nothing is started, it goes on as it is.
    pub(super) is_settled: bool,
    /// Its node was planned on since, and it is not (yet) what it is to be: it is about to be started anew, or can't be.
    pub(super) is_behind: bool,
    pub(super) seen: Option<&'a ProcessSighting>,
    /// Something may be started on its node.
    pub(super) takes_new: bool,
    /// It goes: its node does, or that was decided in this pass.
    pub(super) leaves: bool,
    /// It was decided in this pass that its place is free, though it may still be there.
    pub(super) gives_up: bool,
}

impl<'a> Member<'a> {
    pub(super) fn new(
        world: &World<'a>,
        document: &'a Arc<Document>,
        spec: &'a ProcessSpec,
        service: &ServiceSpec,
    ) -> Member<'a> {
        let id = document.metadata.name.as_str();
        let instance = document.metadata.namespace.as_str();
        let node = world.seen.get(&(instance.to_owned(), spec.node.clone()));
        let is_planned = |node: &NodeSighting| node.complete && node.planned >= document.revision();
        let on = world.documents.get(&Key::within(Kind::Node, instance, &*spec.node));
        let takes_new = on.is_some_and(|on| takes_new(on));
        Member {
            id,
            document,
            spec,
            runs: wanted(spec, Some(service)),
            availability: of_process(world, document, spec),
            is_heard: node.is_some_and(|node| is_planned(node) && !node.pending.contains(id)),
            is_settled: node.is_some_and(|node| {
                let is_behind = node.behind.contains(id) && takes_new;
                is_planned(node) && !is_behind && !node.pending.contains(id)
            }),
            is_behind: node.is_some_and(|node| is_planned(node) && node.behind.contains(id)),
            seen: node.and_then(|node| node.processes.get(id)),
            takes_new,
            // With its node it goes by itself.
            leaves: on.is_none_or(|on| on.is_deleting()),
            gives_up: false,
        }
    }

    /// Whether it does its work, as it was decided last that it should.
    pub(super) const fn works(&self) -> bool {
        self.is_settled && self.is_up()
    }

    /// Whether it does its work, be it with what it should no longer be started with.
    pub(super) const fn is_up(&self) -> bool {
        matches!(self.availability, Availability::Since(_))
    }

    /// Whether to start it anew, or elsewhere, takes nothing away: it does not do its work, or it is about to be started anew as it is. What
    /// only was not planned on yet, or is being told something, is neither; nor is one that was not checked yet, for it may well
    /// do its work, and that is known soon.
    pub(super) fn is_down(&self) -> bool {
        match self.availability {
            Availability::Unknown => false,
            Availability::Since(_) | Availability::Starting { .. } => self.is_behind && self.takes_new,
            Availability::No => match self.seen.map(|seen| seen.phase) {
                // It may well do its work; who looks again knows, unless it has to be started anew, or can't be.
                Some(Phase::Busy | Phase::Unsupervised) => self.is_behind && self.takes_new,
                Some(Phase::Running | Phase::Backoff | Phase::Stopping | Phase::Stopped | Phase::Lost)
                | None => true,
            },
        }
    }

    pub(super) const fn is_unknown(&self) -> bool {
        matches!(self.availability, Availability::Unknown)
    }

    pub(super) fn key(&self) -> Key {
        self.document.key()
    }
}

/// Whether a process was made by the placement of the service of this name.
pub(super) fn is_owned(process: &Document, service: &str) -> bool {
    let owners = &process.metadata.owner_references;
    owners.iter().any(|owner| owner.kind == Kind::Service && owner.name == service)
}
