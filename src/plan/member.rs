//! One process of a service, as the decision over all nodes sees it: whether it should run, whether it does its work, and whether taking it
//! away takes anything away.

use std::sync::Arc;

use super::availability::{Availability, as_seen};
use super::near::Near;
use super::render::wanted;
use super::world::{Phase, ProcessSighting, World};
use crate::model::Document;
use crate::model::kinds::{ProcessSpec, ServiceSpec, ServiceTypeSpec};
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
    pub(super) node: Near<'a>,
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
        world: &World<'_>,
        document: &'a Arc<Document>,
        spec: &'a ProcessSpec,
        node: Near<'a>,
        (service, kind): (&ServiceSpec, Option<&ServiceTypeSpec>),
    ) -> Member<'a> {
        let id = document.metadata.name.as_str();
        let complete = node.seen.filter(|seen| seen.complete);
        let seen = node.seen.and_then(|seen| seen.processes.get(id));
        let planned = complete.filter(|seen| seen.planned >= document.revision());
        let is_heard = planned.is_some_and(|seen| !seen.pending.contains(id));
        let is_behind = planned.is_some_and(|seen| seen.behind.contains(id));
        let takes_new = node.takes_new();
        Member {
            id,
            document,
            spec,
            runs: wanted(spec, Some(service)),
            availability: complete
                .map_or(Availability::Unknown, |_| as_seen(world, (document, spec), kind, seen)),
            is_heard,
            is_settled: is_heard && !(is_behind && takes_new),
            is_behind,
            seen,
            takes_new,
            // With its node it goes by itself.
            leaves: !node.is_live(),
            gives_up: false,
            node,
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
