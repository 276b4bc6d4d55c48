//! One service over all nodes: its revisions, its places, its rollout, and how it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::availability::{Availability, on_node};
use super::near::{Near, Nearby};
use super::place::{Frozen, PlaceAction, PlaceHold, PlaceReason, Placement, revision};
use super::render::wanted;
use super::revision::{Asked, declared, is_declared};
use super::spread::{Fit, Ground, fit};
use super::standing::{Condition, ServiceStatus, Truth};
use super::world::{ProcessSighting, World};
use crate::model::id::{process_id, revision_name};
use crate::model::kinds::{
    FailoverSpec, OnFailure, ProcessSpec, RevisionSpec, ServiceSpec, ServiceTypeSpec, UpdateSpec,
};
use crate::model::meta::{Key, Kind, OwnerReference, PAUSED};
use crate::model::{Document, Metadata, Spec};

/// How many revisions of a service are kept beside those that are in use: to see what was, and to go back to it.
const KEPT: usize = 10;

/// How often a process has to be started again after an update, before that counts as failed.
const CRASHES: u64 = 3;

/// Milliseconds that a node may take to notice that a lease is over, and that two clocks may differ besides a tenth of the lease.
const MARGIN_MS: u64 = 5_000;

/// Decides for one service that is not being deleted.
pub(super) fn place_service<'a>(
    world: &World<'a>,
    near: &mut Nearby<'a>,
    ground: &mut Ground,
    (key, document, service): (&'a Key, &'a Document, &'a ServiceSpec),
    placement: &mut Placement,
) {
    let kind = Key::cluster(Kind::ServiceType, service.kind.as_str());
    let kind = world.documents.service_type(&kind);
    let mut members: Vec<Member<'a>> = Vec::new();
    let mut going: Vec<(&'a Arc<Document>, &'a ProcessSpec)> = Vec::new();
    for (process, spec) in world.documents.processes_of(&key.namespace, &key.name) {
        if process.is_deleting() {
            going.push((process, spec));
        } else {
            let node = near.node(&key.namespace, &spec.node);
            members.push(Member::new(world.now_ms, process, spec, node, (service, kind)));
        }
    }
    let target = Target::find(world, &mut near.asked, (key, document, service), placement);
    let mut case = Case {
        world,
        key,
        document,
        service,
        start_ms: start_ms(kind),
        target,
        members,
        going,
        update: service.update.clone().unwrap_or_default(),
    };
    case.give_up(ground, placement);
    // What is unavailable without our doing counts against what we may take away.
    let (total, working) = (case.total(), case.working());
    let mut budget = case.update.max_unavailable(total).saturating_sub(total.saturating_sub(working));
    match (&service.nodes, service.replicas) {
        (Some(nodes), _) => case.on_each(nodes, near, placement),
        (None, Some(replicas)) => {
            case.move_away(ground, &mut budget, placement);
            case.spread(ground, replicas, placement);
        }
        (None, None) => case.unplace(placement),
    }
    case.roll_out(budget, placement);
    case.judge(placement);
    case.prune(placement);
    let status = case.status();
    placement.services.insert(key.clone(), Arc::new(status));
}

/// A process of the service that is not going.
struct Member<'a> {
    id: &'a str,
    document: &'a Arc<Document>,
    spec: &'a ProcessSpec,
    /// Whether it should run.
    runs: bool,
    availability: Availability,
    /// Whether its node has taken up all that was decided on it.
    is_settled: bool,
    node: Near<'a>,
    seen: Option<&'a ProcessSighting>,
    /// It goes: its node does, or that was decided in this pass.
    leaves: bool,
}

impl<'a> Member<'a> {
    fn new(
        now_ms: u64,
        document: &'a Arc<Document>,
        spec: &'a ProcessSpec,
        node: Near<'a>,
        (service, kind): (&ServiceSpec, Option<&ServiceTypeSpec>),
    ) -> Member<'a> {
        let id = document.metadata.name.as_str();
        let seen = node.seen.filter(|node| node.complete);
        let is_settled = seen.is_some_and(|node| {
            node.planned >= revision(document) && !node.behind.contains(id) && !node.pending.contains(id)
        });
        let is_checked = kind.is_some_and(|kind| kind.health.is_some());
        Member {
            id,
            document,
            spec,
            runs: wanted(spec, Some(service)),
            availability: seen
                .map_or(Availability::Unknown, |node| on_node(node, id, start_ms(kind), is_checked, now_ms)),
            is_settled,
            node,
            seen: node.seen.and_then(|node| node.processes.get(id)),
            // With its node it goes by itself.
            leaves: !node.is_live(),
        }
    }

    /// Whether it does its work, as it was decided last that it should.
    const fn works(&self) -> bool {
        self.is_settled && matches!(self.availability, Availability::Since(_))
    }

    const fn is_unknown(&self) -> bool {
        matches!(self.availability, Availability::Unknown)
    }

    fn key(&self) -> Key {
        self.document.key()
    }

    fn is_owned_by(&self, service: &str) -> bool {
        let owners = &self.document.metadata.owner_references;
        owners.iter().any(|owner| owner.kind == Kind::Service && owner.name == service)
    }
}

/// Milliseconds that a process of a type has to stay up before it counts as running.
fn start_ms(kind: Option<&ServiceTypeSpec>) -> u64 {
    kind.map_or(0, |kind| u64::from(kind.start.seconds) * 1000)
}

/// From which revision the processes are to run.
struct Target<'a> {
    /// Its number; 0 when there is none.
    number: u64,
    /// That of the revision that is declared; the other, unless that one is replaced.
    declared: u64,
    /// None when it is being recorded in this pass.
    revision: Option<(&'a Arc<Document>, &'a RevisionSpec)>,
    all: Vec<(&'a Arc<Document>, &'a RevisionSpec)>,
}

impl<'a> Target<'a> {
    fn find(
        world: &World<'a>,
        asked: &mut Asked<'a>,
        (key, document, service): (&Key, &'a Document, &'a ServiceSpec),
        placement: &mut Placement,
    ) -> Target<'a> {
        let all: Vec<_> = world.documents.revisions_of(key).collect();
        let last = all.last().map_or(0, |(_, revision)| revision.number);
        // The last one first, for mostly nothing has changed.
        let mut same = |(_, revision): &&(&Arc<Document>, &RevisionSpec)| {
            is_declared(asked, world.documents, document, service, revision)
        };
        if let Some(found) = all.iter().rev().find(&mut same) {
            let instead = found.1.replaced_by;
            let instead = instead.and_then(|number| all.iter().find(|(_, other)| other.number == number));
            let revision = *instead.unwrap_or(found);
            return Target {
                number: revision.1.number,
                declared: found.1.number,
                revision: Some(revision),
                all,
            };
        }
        let Some(declared) = declared(asked, world.documents, document, service) else {
            return Target { number: 0, declared: 0, revision: None, all };
        };
        let number = last + 1;
        let metadata = Metadata {
            name: revision_name(&key.name, number),
            namespace: key.namespace.clone(),
            owner_references: vec![owner(key, document)],
            ..Metadata::default()
        };
        let spec = Spec::Revision(RevisionSpec { number, ..declared });
        placement.step(PlaceAction::Create(Box::new(Document { metadata, spec })), PlaceReason::Changed);
        Target { number, declared: number, revision: None, all }
    }

    fn failed(&self) -> Option<&'a str> {
        self.revision.and_then(|(_, revision)| revision.failed.as_deref())
    }
}

fn owner(key: &Key, document: &Document) -> OwnerReference {
    OwnerReference { kind: Kind::Service, name: key.name.clone(), uid: document.metadata.uid.clone() }
}

struct Case<'a, 'w> {
    world: &'w World<'a>,
    key: &'a Key,
    document: &'a Document,
    service: &'a ServiceSpec,
    start_ms: u64,
    target: Target<'a>,
    members: Vec<Member<'a>>,
    /// Its processes that are being deleted.
    going: Vec<(&'a Arc<Document>, &'a ProcessSpec)>,
    update: UpdateSpec,
}

impl<'a> Case<'a, '_> {
    /// How many processes should run.
    fn total(&self) -> u32 {
        let runs = self.service.running.unwrap_or(true);
        let running = self.members.iter().filter(|member| member.runs && !member.leaves).count();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        match self.service.replicas {
            Some(replicas) if self.service.nodes.is_none() && runs => {
                let stopped = self.members.iter().filter(|member| !member.runs && !member.leaves).count();
                replicas.saturating_sub(u32::try_from(stopped).unwrap_or(u32::MAX))
            }
            Some(_) | None => running,
        }
    }

    /// How many of them do their work, and those that were updated for as long as they have to.
    fn working(&self) -> u32 {
        let count =
            self.members.iter().filter(|member| member.runs && !member.leaves && self.counts(member)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn counts(&self, member: &Member<'_>) -> bool {
        let is_new = member.document.metadata.revision == self.target.number;
        let ready_ms = if is_new { self.update.min_ready_ms() } else { 0 };
        member.works() && member.availability.is_for(ready_ms, self.world.now_ms)
    }

    fn leave(
        &mut self,
        at: usize,
        action: fn(Key) -> PlaceAction,
        reason: PlaceReason,
        placement: &mut Placement,
    ) {
        if let Some(member) = self.members.get_mut(at) {
            member.leaves = true;
            placement.step(action(member.key()), reason);
        }
    }

    fn create(&self, id: String, node: &str, placement: &mut Placement) {
        let metadata = Metadata {
            name: id,
            namespace: self.key.namespace.clone(),
            owner_references: vec![owner(self.key, self.document)],
            revision: self.target.number,
            revised_ms: self.world.now_ms,
            ..Metadata::default()
        };
        let spec = ProcessSpec { service: self.key.name.clone(), node: node.to_owned(), running: None };
        let document = Document { metadata, spec: Spec::Process(spec) };
        placement.step(PlaceAction::Create(Box::new(document)), PlaceReason::Placed);
    }

    /// Gives up what runs, or may run, on nodes that have not answered for as long as the service says.
    fn give_up(&mut self, ground: &mut Ground, placement: &mut Placement) {
        let (Some(failover), Some(_)) = (self.service.failover, self.service.replicas) else { return };
        let wait_ms = match failover {
            FailoverSpec::Hold => return,
            FailoverSpec::Replace { after } => after.ms(),
            FailoverSpec::Fenced { lease } => {
                let kind = Key::cluster(Kind::ServiceType, self.service.kind.as_str());
                let stop = self.world.documents.service_type(&kind).map(|kind| kind.stop.grace_seconds);
                lease.ms() + lease.ms() / 10 + u64::from(stop.unwrap_or_default()) * 1000 + MARGIN_MS
            }
        };
        for at in 0..self.members.len() {
            let is_lost = |member: &&Member<'_>| member.runs && member.is_unknown() && !member.leaves;
            let Some(member) = self.members.get(at).filter(is_lost) else { continue };
            let (key, node) = (member.key(), member.spec.node.as_str());
            match self.verdict(ground, node, wait_ms) {
                Ok(()) => self.leave(at, PlaceAction::GiveUp, PlaceReason::NodeLost, placement),
                Err(hold) => self.hold_failover(key, hold, placement),
            }
        }
        for (process, spec) in self.going.clone() {
            let place = (self.key.namespace.clone(), spec.node.clone());
            let is_seen = self.world.seen.get(&place).is_some_and(|seen| seen.complete);
            if is_seen || process.metadata.given_up {
                continue;
            }
            match self.verdict(ground, &spec.node, wait_ms) {
                Ok(()) => placement.step(PlaceAction::GiveUp(process.key()), PlaceReason::NodeLost),
                Err(hold) => self.hold_failover(process.key(), hold, placement),
            }
        }
    }

    fn hold_failover(&self, key: Key, hold: PlaceHold, placement: &mut Placement) {
        if let PlaceHold::GivesUp { at_ms, .. } = &hold {
            placement.wake_at(*at_ms);
        }
        if let PlaceHold::Frozen { why: Frozen::Settling, .. } = &hold {
            placement.wake_at(self.world.since_ms.saturating_add(self.world.freeze.settle_ms));
        }
        placement.holds.insert(key, hold);
    }

    /// Whether what is on a node that does not answer is given up now.
    fn verdict(&self, ground: &mut Ground, node: &str, wait_ms: u64) -> Result<(), PlaceHold> {
        let named = || Key::within(Kind::Node, &*self.key.namespace, node).to_string();
        if let Some(why) = ground.frozen() {
            return Err(PlaceHold::Frozen { node: named(), why });
        }
        let seen = self.world.seen.get(&(self.key.namespace.clone(), node.to_owned()));
        // What was before this controller looked, it did not see: another may have renewed a lease until then.
        let since_ms = seen.and_then(|seen| seen.unseen_since_ms).unwrap_or(0).max(self.world.since_ms);
        let at_ms = since_ms.saturating_add(wait_ms);
        if at_ms > self.world.now_ms {
            return Err(PlaceHold::GivesUp { node: named(), at_ms });
        }
        if !ground.takes(self.world, &self.key.namespace, self.service, node) {
            return Err(PlaceHold::NowhereElse { node: named() });
        }
        Ok(())
    }

    /// One process on each of these nodes.
    fn on_each(&mut self, nodes: &'a [String], near: &mut Nearby<'a>, placement: &mut Placement) {
        let instance = self.key.namespace.as_str();
        let wanted: BTreeMap<String, &String> = nodes
            .iter()
            .filter(|node| near.node(instance, node).is_live())
            .map(|node| (process_id(instance, &self.key.name, node, 0), node))
            .collect();
        for at in 0..self.members.len() {
            let is_wanted =
                |member: &Member<'_>| wanted.contains_key(member.id) || !member.is_owned_by(&self.key.name);
            if self.members.get(at).is_some_and(|member| !member.leaves && !is_wanted(member)) {
                self.leave(at, PlaceAction::MarkDeleting, PlaceReason::NotPlaced, placement);
            }
        }
        let there: BTreeSet<&str> = self.members.iter().map(|member| member.id).collect();
        for (id, node) in wanted {
            if there.contains(id.as_str()) {
                continue;
            }
            let process = Key::within(Kind::Process, instance, id.as_str());
            match self.world.documents.get(&process) {
                Some(existing) if existing.is_deleting() => {
                    // Made again once the old one is gone from its node, so that there are never two.
                    placement.holds.insert(self.key.clone(), PlaceHold::Occupied(process));
                }
                Some(_) => {}
                // A node that a service names is taken at its word: on one that is cordoned it is there, and is held.
                None => self.create(id, node, placement),
            }
        }
    }

    /// The service has no placement any more: what was made for one goes.
    fn unplace(&mut self, placement: &mut Placement) {
        for at in 0..self.members.len() {
            if self.members.get(at).is_some_and(|member| !member.leaves && member.is_owned_by(&self.key.name))
            {
                self.leave(at, PlaceAction::MarkDeleting, PlaceReason::NotPlaced, placement);
            }
        }
    }

    /// How the node of a process stands to the service.
    fn fit(&self, member: &Member<'_>) -> Fit {
        let Near { document, seen } = member.node;
        document.map_or(Fit::Deleting, |node| fit(node, seen, self.service))
    }

    /// Has processes leave the nodes that are being drained or no longer fit, no more at once than an update may take away.
    fn move_away(&mut self, ground: &mut Ground, budget: &mut u32, placement: &mut Placement) {
        for at in 0..self.members.len() {
            let Some(member) = self.members.get(at) else { continue };
            if member.leaves || !member.is_owned_by(&self.key.name) || self.fit(member).keeps() {
                continue;
            }
            let node = Key::within(Kind::Node, &*self.key.namespace, &*member.spec.node);
            let (key, is_free) = (member.key(), !member.runs || !(member.works() || member.is_unknown()));
            if member.is_unknown() {
                placement.holds.insert(key, PlaceHold::NodeUnknown(node));
            } else if !ground.takes(self.world, &self.key.namespace, self.service, &member.spec.node) {
                placement.holds.insert(key, PlaceHold::NowhereElse { node: node.to_string() });
            } else if is_free || *budget > 0 {
                if !is_free {
                    *budget -= 1;
                }
                self.leave(at, PlaceAction::MarkDeleting, PlaceReason::Moved, placement);
            } else {
                placement.holds.insert(key, PlaceHold::MoveWaits { node: node.to_string() });
            }
        }
    }

    /// `replicas` processes: those that are well placed stay. What leaves keeps its place until it is gone.
    fn spread(&mut self, ground: &mut Ground, replicas: u32, placement: &mut Placement) {
        let name = self.key.name.as_str();
        self.shrink(replicas, placement);
        let mut here: BTreeMap<&'a str, u32> = BTreeMap::new();
        let staying = self.members.iter().filter(|member| !member.leaves && member.is_owned_by(name));
        let mut placed = 0u32;
        for member in staying {
            placed += 1;
            *here.entry(member.spec.node.as_str()).or_default() += 1;
        }
        let given_up: BTreeSet<Key> = placement
            .steps
            .iter()
            .filter(|step| matches!(step.action, PlaceAction::GiveUp(_)))
            .map(|step| step.action.key())
            .collect();
        let leaving =
            self.members.iter().filter(|member| member.leaves).map(|member| (member.document, member.spec));
        let mut waits = None;
        for (process, spec) in self.going.iter().copied().chain(leaving) {
            let is_owned = process.metadata.owner_references.iter().any(|owner| owner.name == name);
            if !is_owned || process.metadata.given_up || given_up.contains(&process.key()) {
                continue;
            }
            placed += 1;
            waits = Some(process.key());
            *here.entry(spec.node.as_str()).or_default() += 1;
        }
        let missing = replicas.saturating_sub(placed);
        let taken: BTreeSet<&str> = self.all_ids();
        let chosen = ground.choose(self.world, &self.key.namespace, self.service, &here, missing);
        let found = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        let mut made: BTreeSet<String> = BTreeSet::new();
        for node in chosen {
            // The first ordinal that is free, counting those that are still going.
            let ids = (0u32..).map(|ordinal| process_id(&self.key.namespace, name, &node, ordinal));
            let id = ids.into_iter().find(|id| !taken.contains(id.as_str()) && !made.contains(id));
            if let Some(id) = id {
                made.insert(id.clone());
                self.create(id, &node, placement);
            }
        }
        let staying = self.members.iter().filter(|member| !member.leaves && member.is_owned_by(name)).count();
        if found < missing {
            placement.holds.insert(self.key.clone(), PlaceHold::NoNode { missing: missing - found });
        } else if let Some(waits) =
            waits.filter(|_| (staying as u64) < u64::from(replicas.saturating_sub(missing)))
        {
            placement.holds.insert(self.key.clone(), PlaceHold::Occupied(waits));
        }
    }

    fn all_ids(&self) -> BTreeSet<&'a str> {
        let going = self.going.iter().map(|(process, _)| process.metadata.name.as_str());
        self.members.iter().map(|member| member.id).chain(going).collect()
    }

    /// Takes away what is too much: first what has to move anyway, then what does not do its work, then from where there are the most.
    fn shrink(&mut self, replicas: u32, placement: &mut Placement) {
        let name = self.key.name.clone();
        let mut count: BTreeMap<&str, u32> = BTreeMap::new();
        let mut staying = 0usize;
        for member in self.members.iter().filter(|member| !member.leaves && member.is_owned_by(&name)) {
            staying += 1;
            *count.entry(member.spec.node.as_str()).or_default() += 1;
        }
        while staying > replicas as usize {
            let rank = |member: &Member<'a>| {
                let on_node = count.get(member.spec.node.as_str()).copied().unwrap_or(0);
                (!self.fit(member).keeps(), !member.works(), on_node, member.spec.node.as_str(), member.id)
            };
            let all = self.members.iter().enumerate();
            let staying_now = all.filter(|(_, member)| !member.leaves && member.is_owned_by(&name));
            let Some((at, node)) = staying_now
                .max_by_key(|(_, member)| rank(member))
                .map(|(at, member)| (at, member.spec.node.as_str()))
            else {
                break;
            };
            if let Some(count) = count.get_mut(node) {
                *count -= 1;
            }
            staying -= 1;
            self.leave(at, PlaceAction::MarkDeleting, PlaceReason::NotPlaced, placement);
        }
    }

    /// Has processes run from the target, no more at once than may be unavailable.
    fn roll_out(&self, mut budget: u32, placement: &mut Placement) {
        let target = self.target.number;
        if target == 0 {
            self.wake_for_readiness(placement);
            return;
        }
        let stays = self.document.metadata.annotations.contains_key(PAUSED);
        let mut outdated: Vec<&Member<'_>> = self
            .members
            .iter()
            .filter(|member| !member.leaves && member.document.metadata.revision != target)
            .collect();
        outdated.sort_by_key(|member| (&member.spec.node, member.id));
        for member in outdated {
            let (action, reason) =
                (PlaceAction::Assign { process: member.key(), revision: target }, PlaceReason::RolledOut);
            // It runs from what is declared already, or it does not run: nothing is taken away.
            let changes_nothing = member.document.metadata.revision == 0 || !member.runs;
            if changes_nothing {
                placement.step(action, reason);
            } else if stays {
                placement.holds.insert(member.key(), PlaceHold::RolloutPaused { revision: target });
            } else if let Some(why) = self.target.failed() {
                let why = why.to_owned();
                placement.holds.insert(member.key(), PlaceHold::RolloutFailed { revision: target, why });
            } else if !member.works() && !member.is_unknown() {
                // It is unavailable as it is.
                placement.step(action, reason);
            } else if budget > 0 && member.works() {
                budget -= 1;
                placement.step(action, reason);
            } else {
                placement.holds.insert(member.key(), PlaceHold::RolloutWaits { revision: target });
            }
        }
        self.wake_for_readiness(placement);
    }

    /// A process that has to run for longer, or to do its work for longer, does so by time alone.
    fn wake_for_readiness(&self, placement: &mut Placement) {
        let now_ms = self.world.now_ms;
        for member in self.members.iter().filter(|member| member.runs && !member.leaves) {
            let at_ms = match member.availability {
                Availability::Since(since) if member.document.metadata.revision == self.target.number => {
                    since.saturating_add(self.update.min_ready_ms())
                }
                Availability::Starting { since_ms } => since_ms.saturating_add(self.start_ms),
                Availability::Since(_) | Availability::No | Availability::Unknown => continue,
            };
            if at_ms > now_ms {
                placement.wake_at(at_ms);
            }
        }
    }

    /// Records what becomes of the target: that all do their work with it, or that one does not.
    fn judge(&self, placement: &mut Placement) {
        // Whoever declares again what failed before wants it to be tried again.
        for (document, revision) in &self.target.all {
            let is_marked = revision.failed.is_some() || revision.replaced_by.is_some();
            if is_marked && revision.number != self.target.declared && self.target.declared != 0 {
                let cleared = RevisionSpec { failed: None, replaced_by: None, ..(*revision).clone() };
                let mut document = Document::clone(document);
                document.spec = Spec::Revision(cleared);
                placement.step(PlaceAction::Judge(Box::new(document)), PlaceReason::Changed);
            }
        }
        let Some((document, revision)) = self.target.revision else { return };
        if revision.completed || revision.failed.is_some() {
            return;
        }
        let mut judged = revision.clone();
        let reason = if let Some(why) = self.failure(placement) {
            if self.update.on_failure == Some(OnFailure::Rollback) {
                judged.replaced_by = self.good_before(revision.number);
            }
            judged.failed = Some(why);
            PlaceReason::Failed
        } else if self.is_complete() {
            judged.completed = true;
            PlaceReason::Completed
        } else {
            return;
        };
        let mut document = Document::clone(document);
        document.spec = Spec::Revision(judged);
        placement.step(PlaceAction::Judge(Box::new(document)), reason);
    }

    fn is_complete(&self) -> bool {
        let all = self.members.iter().filter(|member| member.runs && !member.leaves);
        let mut all = all.peekable();
        all.peek().is_some()
            && self.total() == self.working()
            && all.all(|member| member.document.metadata.revision == self.target.number)
    }

    /// The last revision before this one that once did its work everywhere.
    fn good_before(&self, number: u64) -> Option<u64> {
        let before = self.target.all.iter().rev().map(|(_, revision)| revision);
        before
            .filter(|revision| revision.number < number && revision.completed)
            .map(|revision| revision.number)
            .next()
    }

    /// Why the rollout has failed, if it has: a process that was given the target does not do its work with it.
    fn failure(&self, placement: &mut Placement) -> Option<String> {
        // Something has to run from another one, or there has to be one to go back to; else there is nothing to be done.
        let is_update = self.target.all.len() > 1;
        if !is_update {
            return None;
        }
        for member in &self.members {
            let is_new = member.document.metadata.revision == self.target.number;
            // What is not seen has not failed.
            if member.leaves || !member.runs || !is_new || member.is_unknown() || member.works() {
                continue;
            }
            if let Some(seen) = member.seen.filter(|seen| member.is_settled && seen.restarts >= CRASHES) {
                let exit =
                    seen.exit.map_or_else(String::new, |exit| format!(", the last time with status {exit}"));
                return Some(format!(
                    "process {} on {} ended {} times{exit}",
                    member.id, member.spec.node, seen.restarts
                ));
            }
            let deadline_ms = self.update.progress_deadline_ms();
            let at_ms = member.document.metadata.revised_ms.saturating_add(deadline_ms);
            if at_ms > self.world.now_ms {
                placement.wake_at(at_ms);
            } else if self.has_what_it_is_after() {
                return Some(format!(
                    "process {} on {} does not do its work {} s after its update",
                    member.id,
                    member.spec.node,
                    deadline_ms / 1000
                ));
            }
        }
        None
    }

    /// Whether the services that this one starts after do their work: else it is theirs that nothing starts.
    fn has_what_it_is_after(&self) -> bool {
        self.service.after.iter().all(|other| {
            let key = Key::within(Kind::Service, &*self.key.namespace, other.as_str());
            self.world.documents.service(&key).is_some_and(|service| {
                super::availability::of_service(self.world, &key, service).is_enough(service)
            })
        })
    }

    /// Takes out old revisions that nothing runs from.
    fn prune(&self, placement: &mut Placement) {
        let excess = self.target.all.len().saturating_sub(KEPT);
        if excess == 0 {
            return;
        }
        let of_members = self.members.iter().map(|member| member.document.metadata.revision);
        let of_going = self.going.iter().map(|(process, _)| process.metadata.revision);
        let mut used: BTreeSet<u64> = of_members.chain(of_going).collect();
        used.insert(self.target.number);
        used.extend(self.target.all.iter().filter_map(|(_, revision)| revision.replaced_by));
        for (document, revision) in self.target.all.iter().take(excess) {
            if !used.contains(&revision.number) {
                placement.step(PlaceAction::MarkDeleting(document.key()), PlaceReason::Superseded);
            }
        }
    }

    fn status(&self) -> ServiceStatus {
        let count = |is: &dyn Fn(&Member<'_>) -> bool| {
            let count =
                self.members.iter().filter(|member| !member.leaves && member.runs && is(member)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let target = self.target.number;
        let (desired, placed) = (self.total(), count(&|_| true));
        let updated = count(&|member| member.document.metadata.revision == target && member.is_settled);
        let available = count(&|member| matches!(member.availability, Availability::Since(_)));
        let unknown = count(&|member| member.is_unknown());
        let (wants, may_miss) = (desired, self.update.max_unavailable(desired));
        let is_enough = wants == 0 || (available > 0 && wants.saturating_sub(available) <= may_miss);
        let may_be = available.saturating_add(unknown);
        let of = format!("{available} of {desired} processes do their work");
        let is_available = match (is_enough, may_be > 0 && wants.saturating_sub(may_be) <= may_miss) {
            (true, _) => Condition::yes("Enough", of),
            (false, true) => Condition {
                status: Truth::Unknown,
                reason: "NodesNotSeen",
                message: format!("{of}, and {unknown} are on nodes that do not answer"),
            },
            (false, false) => Condition::no("TooFew", of),
        };
        let is_paused = self.document.metadata.annotations.contains_key(PAUSED);
        let is_done = updated == desired && placed == desired;
        let progressing = match (is_done, is_paused, self.target.failed()) {
            (true, _, _) => Condition::no("Complete", format!("all run from revision {target}")),
            (false, true, _) => {
                Condition::no("Paused", format!("{updated} of {desired} run from revision {target}"))
            }
            (false, false, Some(why)) => Condition::no("Failed", why),
            (false, false, None) => {
                Condition::yes("RollingOut", format!("{updated} of {desired} run from revision {target}"))
            }
        };
        let crashing = self.members.iter().find(|member| {
            member.runs
                && !member.leaves
                && member.seen.is_some_and(|seen| seen.restarts >= CRASHES)
                && !member.works()
        });
        let last = self
            .target
            .all
            .iter()
            .rev()
            .map(|(_, revision)| revision)
            .find(|revision| revision.failed.is_some());
        let degraded = match (last.filter(|last| last.number >= target), crashing) {
            (Some(failed), _) => {
                let why = failed.failed.clone().unwrap_or_default();
                let back = failed
                    .replaced_by
                    .map_or_else(String::new, |number| format!("; back to revision {number}"));
                Condition::yes("RolloutFailed", format!("revision {}: {why}{back}", failed.number))
            }
            (None, Some(member)) => {
                let restarts = member.seen.map_or(0, |seen| seen.restarts);
                Condition::yes(
                    "CrashLoop",
                    format!(
                        "process {} on {} was started again {restarts} times",
                        member.id, member.spec.node
                    ),
                )
            }
            (None, None) => Condition::no("AsExpected", ""),
        };
        ServiceStatus {
            observed_generation: self.document.metadata.generation,
            revision: target,
            desired,
            placed,
            updated,
            available,
            unknown,
            is_available,
            progressing,
            degraded,
        }
    }
}
