//! One service over all nodes: the revision that it is, and its places. `rollout` says which of its processes run from that revision, and
//! `status` how it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lease;
use super::member::{Going, Member, is_owned};
use super::near::{Near, Nearby};
use super::orders::awaited;
use super::place::{Frozen, PlaceAction, PlaceHold, PlaceReason, Placement};
use super::revision::Declarations;
use super::spread::{Fit, Ground, fit};
use super::world::World;
use crate::model::id::{process_id, revision_name};
use crate::model::kinds::{
    FailoverSpec, ProcessSpec, RevisionSpec, ServiceSpec, ServiceTypeSpec, UpdateSpec,
};
use crate::model::meta::{Key, Kind, OwnerReference, PAUSED};
use crate::model::{Document, Metadata, Spec};

mod rollout;
mod status;

/// Milliseconds that a node may take to notice that a lease is over.
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
    let mut going: Vec<Going<'a>> = Vec::new();
    for (document, spec) in world.documents.processes_of(&key.namespace, &key.name) {
        if document.is_deleting() {
            going.push(Going { document, spec, gives_up: document.metadata.given_up });
        } else {
            let node = near.node(&key.namespace, &spec.node);
            members.push(Member::new(world, document, spec, node, (service, kind)));
        }
    }
    let target = Target::find(world, &mut near.declarations, (key, document, service), placement);
    let mut others =
        service.after.iter().map(|other| Key::within(Kind::Service, &*key.namespace, other.as_str()));
    let may_start = others.all(|other| awaited(world, &other).is_none());
    let named = service.nodes.iter().flatten().filter(|node| near.node(&key.namespace, node).is_live());
    let named = named.map(|node| (process_id(&key.namespace, &key.name, node, 0), node.as_str())).collect();
    let mut case = Case {
        world,
        key,
        document,
        service,
        start_ms: kind.map_or(0, ServiceTypeSpec::start_ms),
        target,
        named,
        members,
        going,
        update: service.update.clone().unwrap_or_default(),
        may_start,
    };
    case.give_up(ground, placement);
    match (&service.nodes, service.replicas) {
        (Some(_), _) => case.on_each(placement),
        (None, Some(replicas)) => {
            case.shrink(replicas, placement);
            // One that people stopped is wanted to run where it moves to, so it counts from then on.
            case.move_away(ground, &mut 0, placement);
        }
        (None, None) => case.unplace(placement),
    }
    // What is unavailable without our doing counts against what we may take away, and what is not wanted any more is no help.
    let (total, working) = (case.total(), case.working());
    let mut budget = case.update.max_unavailable(total).saturating_sub(total.saturating_sub(working));
    if let (None, Some(replicas)) = (&service.nodes, service.replicas) {
        case.move_away(ground, &mut budget, placement);
        case.spread(ground, replicas, placement);
    }
    case.roll_out(budget, placement);
    case.fence(placement);
    let pruned = case.prune(placement);
    case.judge(&pruned, placement);
    let status = case.status();
    placement.services.insert(key.clone(), Arc::new(status));
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
        declarations: &mut Declarations<'a>,
        (key, document, service): (&Key, &'a Document, &'a ServiceSpec),
        placement: &mut Placement,
    ) -> Target<'a> {
        let all: Vec<_> = world.documents.revisions_of(key).collect();
        let last = all.last().map_or(0, |(_, revision)| revision.number);
        if let Some(found) = declarations.find(document, service, &all) {
            let instead = found.1.replaced_by;
            let instead = instead.and_then(|number| all.iter().find(|(_, other)| other.number == number));
            let revision = instead.copied().unwrap_or(found);
            return Target {
                number: revision.1.number,
                declared: found.1.number,
                revision: Some(revision),
                all,
            };
        }
        let Some(declared) = declarations.of(document, service) else {
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

/// How long a node has to be silent before what is there is given up; none when that is never.
fn wait_ms(failover: FailoverSpec, process: &Document) -> Option<u64> {
    match (failover, process.metadata.lease_bound_ms) {
        (FailoverSpec::Hold, _) | (FailoverSpec::Fenced { .. }, 0) => None,
        (FailoverSpec::Replace { after }, _) => Some(after.ms()),
        (FailoverSpec::Fenced { .. }, bound_ms) => Some(bound_ms.saturating_add(MARGIN_MS)),
    }
}

/// A place of the service that is taken.
struct Taken<'a> {
    /// By this process.
    document: &'a Arc<Document>,
    node: &'a str,
    /// Whether it goes.
    goes: bool,
}

struct Case<'a, 'w> {
    world: &'w World<'a>,
    key: &'a Key,
    document: &'a Document,
    service: &'a ServiceSpec,
    start_ms: u64,
    target: Target<'a>,
    /// The nodes that it names and that are there to stay, each once, by the id of its process there.
    named: BTreeMap<String, &'a str>,
    /// Its processes that are not being deleted, by id.
    members: Vec<Member<'a>>,
    /// Those that are, by id.
    going: Vec<Going<'a>>,
    update: UpdateSpec,
    /// Whether the services that this one starts after do their work: else it is theirs that nothing starts.
    may_start: bool,
}

impl<'a> Case<'a, '_> {
    /// How many processes should run: those that placement wants, made or not, without those that people stopped, and those that people
    /// made and that run.
    fn total(&self) -> u32 {
        let stay = || self.members.iter().filter(|member| !member.leaves);
        let wanted = match (&self.service.nodes, self.service.replicas) {
            _ if !self.service.running.unwrap_or(true) => None,
            (Some(_), _) => Some(self.named.len()),
            (None, Some(replicas)) => Some(replicas as usize),
            (None, None) => None,
        };
        let total = match wanted {
            Some(wanted) => {
                let stopped = stay().filter(|member| !member.runs && self.owns(member)).count();
                let others = stay().filter(|member| member.runs && !self.owns(member)).count();
                wanted.saturating_sub(stopped) + others
            }
            None => stay().filter(|member| member.runs).count(),
        };
        u32::try_from(total).unwrap_or(u32::MAX)
    }

    /// Whether placement made a process: those that people made are left where they are.
    fn owns(&self, member: &Member<'_>) -> bool {
        is_owned(member.document, &self.key.name)
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
        let (lease, lease_bound_ms) = lease::wanted(self.world.documents, self.service);
        let metadata = Metadata {
            lease,
            lease_bound_ms,
            name: id,
            namespace: self.key.namespace.clone(),
            owner_references: vec![owner(self.key, self.document)],
            revision: self.revision_of_new(),
            revised_ms: if self.may_start && self.service.running.unwrap_or(true) {
                self.world.now_ms
            } else {
                0
            },
            ..Metadata::default()
        };
        let spec = ProcessSpec { service: self.key.name.clone(), node: node.to_owned(), running: None };
        let document = Document { metadata, spec: Spec::Process(spec) };
        placement.step(PlaceAction::Create(Box::new(document)), PlaceReason::Placed);
    }

    /// Has its processes run under the lease that the service says. What has another step waits for the next pass.
    fn fence(&self, placement: &mut Placement) {
        let wanted = lease::wanted(self.world.documents, self.service);
        // Those of the whole placement, and only when there is anything to ask of them: mostly there is not.
        let mut stepped: Option<BTreeSet<Key>> = None;
        for member in self.members.iter().filter(|member| !member.leaves) {
            let Some((lease, bound_ms)) = lease::next(wanted, member) else { continue };
            let process = member.key();
            let stepped =
                stepped.get_or_insert_with(|| placement.steps.iter().map(|step| step.action.key()).collect());
            if !stepped.contains(&process) {
                placement.step(PlaceAction::Lease { process, lease, bound_ms }, PlaceReason::Fenced);
            }
        }
    }

    /// What a new process is to run from: the target, unless that goes no further; then what is known to work.
    fn revision_of_new(&self) -> u64 {
        let target = self.target.number;
        if !self.is_paused() && self.target.failed().is_none() {
            return target;
        }
        let of_members = || self.members.iter().map(|member| member.document.metadata.revision);
        let earlier = || of_members().filter(|number| *number != 0 && *number < target).max();
        self.good_before(target).or_else(earlier).unwrap_or(target)
    }

    fn is_paused(&self) -> bool {
        self.document.metadata.annotations.contains_key(PAUSED)
    }

    /// Gives up what runs, or may run, on nodes that have not answered for as long as the service says.
    fn give_up(&mut self, ground: &mut Ground, placement: &mut Placement) {
        // What is on a node by name, or by people's hand, has no other place.
        let (Some(failover), Some(_), None) =
            (self.service.failover, self.service.replicas, &self.service.nodes)
        else {
            return;
        };
        if failover == FailoverSpec::Hold {
            return;
        }
        for at in 0..self.members.len() {
            let is_lost = |member: &&Member<'_>| {
                member.runs && member.is_unknown() && !member.leaves && self.owns(member)
            };
            let Some(member) = self.members.get(at).filter(is_lost) else { continue };
            let (key, node) = (member.key(), member.spec.node.as_str());
            match self.verdict(ground, node, wait_ms(failover, member.document)) {
                Ok(()) => {
                    if let Some(member) = self.members.get_mut(at) {
                        member.gives_up = true;
                    }
                    self.leave(at, PlaceAction::GiveUp, PlaceReason::NodeLost, placement);
                }
                Err(hold) => self.hold_failover(key, hold, placement),
            }
        }
        for at in 0..self.going.len() {
            let is_lost = |going: &&Going<'_>| {
                let place = (self.key.namespace.clone(), going.spec.node.clone());
                let is_seen = self.world.seen.get(&place).is_some_and(|seen| seen.complete);
                !is_seen && !going.gives_up && is_owned(going.document, &self.key.name)
            };
            let Some(going) = self.going.get(at).filter(is_lost) else { continue };
            let key = going.document.key();
            match self.verdict(ground, &going.spec.node, wait_ms(failover, going.document)) {
                Ok(()) => {
                    if let Some(going) = self.going.get_mut(at) {
                        going.gives_up = true;
                    }
                    placement.step(PlaceAction::GiveUp(key), PlaceReason::NodeLost);
                }
                Err(hold) => self.hold_failover(key, hold, placement),
            }
        }
    }

    fn hold_failover(&self, key: Key, hold: PlaceHold, placement: &mut Placement) {
        if let PlaceHold::GivesUp { at_ms, .. } = &hold {
            placement.wake_at(*at_ms);
        }
        if let PlaceHold::Frozen { why: Frozen::Settling, .. } = &hold {
            let settled_ms = self.world.since_ms.saturating_add(self.world.freeze.settle_ms);
            // After that it is the end of the first try that is waited for, and that rings.
            if settled_ms > self.world.now_ms {
                placement.wake_at(settled_ms);
            }
        }
        placement.holds.insert(key, hold);
    }

    /// Whether what is on a node that does not answer is given up now.
    fn verdict(&self, ground: &mut Ground, node: &str, wait_ms: Option<u64>) -> Result<(), PlaceHold> {
        let named = || Key::within(Kind::Node, &*self.key.namespace, node).to_string();
        let Some(wait_ms) = wait_ms else { return Err(PlaceHold::Unfenced { node: named() }) };
        if let Some(why) = ground.frozen() {
            return Err(PlaceHold::Frozen { node: named(), why });
        }
        let seen = self.world.seen.get(&(self.key.namespace.clone(), node.to_owned()));
        // Who has not tried yet knows of no silence.
        let Some(since_ms) = seen.and_then(|seen| seen.unseen_since_ms) else {
            return Err(PlaceHold::Frozen { node: named(), why: Frozen::Settling });
        };
        // What was before this controller looked, it did not see: another may have renewed a lease until then.
        let at_ms = since_ms.max(self.world.since_ms).saturating_add(wait_ms);
        if at_ms > self.world.now_ms {
            return Err(PlaceHold::GivesUp { node: named(), at_ms });
        }
        if !ground.takes(self.world, &self.key.namespace, self.service, node) {
            return Err(PlaceHold::NowhereElse { node: named() });
        }
        Ok(())
    }

    /// One process on each of the nodes that it names.
    fn on_each(&mut self, placement: &mut Placement) {
        for at in 0..self.members.len() {
            let is_wanted = |member: &Member<'_>| self.named.contains_key(member.id) || !self.owns(member);
            if self.members.get(at).is_some_and(|member| !member.leaves && !is_wanted(member)) {
                self.leave(at, PlaceAction::MarkDeleting, PlaceReason::NotPlaced, placement);
            }
        }
        for (id, node) in &self.named {
            if self.is_member(id) {
                continue;
            }
            let process = Key::within(Kind::Process, self.key.namespace.as_str(), id.as_str());
            match self.world.documents.get(&process) {
                Some(existing) if existing.is_deleting() => {
                    // Made again once the old one is gone from its node, so that there are never two.
                    placement.holds.insert(self.key.clone(), PlaceHold::Occupied(process));
                }
                Some(_) => {}
                // A node that a service names is taken at its word: on one that is cordoned it is there, and is held.
                None => self.create(process.name, node, placement),
            }
        }
    }

    /// The service has no placement any more: what was made for one goes.
    fn unplace(&mut self, placement: &mut Placement) {
        for at in 0..self.members.len() {
            if self.members.get(at).is_some_and(|member| !member.leaves && self.owns(member)) {
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
            if member.leaves || !self.owns(member) || self.fit(member).keeps() {
                continue;
            }
            let node = Key::within(Kind::Node, &*self.key.namespace, &*member.spec.node);
            let (key, is_free) = (member.key(), !member.runs || member.is_down());
            if member.is_unknown() {
                // What failover says of it says more.
                placement.holds.entry(key).or_insert(PlaceHold::NodeUnknown(node));
            } else if !ground.takes(self.world, &self.key.namespace, self.service, &member.spec.node) {
                placement.holds.insert(key, PlaceHold::NowhereElse { node: node.to_string() });
            } else if is_free || (*budget > 0 && member.works()) {
                if !is_free {
                    *budget -= 1;
                }
                placement.holds.remove(&key);
                self.leave(at, PlaceAction::MarkDeleting, PlaceReason::Moved, placement);
            } else {
                placement.holds.insert(key, PlaceHold::MoveWaits { node: node.to_string() });
            }
        }
    }

    /// `replicas` processes: those that are well placed stay. What leaves keeps its place until it is gone.
    fn spread(&mut self, ground: &mut Ground, replicas: u32, placement: &mut Placement) {
        let waits = self.places().filter(|place| place.goes).last().map(|place| place.document);
        let placed = u32::try_from(self.places().count()).unwrap_or(u32::MAX);
        let missing = replicas.saturating_sub(placed);
        let found = if missing == 0 { 0 } else { self.fill(ground, missing, placement) };
        let staying = self.members.iter().filter(|member| !member.leaves && self.owns(member)).count();
        if found < missing {
            placement.holds.insert(self.key.clone(), PlaceHold::NoNode { missing: missing - found });
        } else if let Some(waits) =
            waits.filter(|_| (staying as u64) < u64::from(replicas.saturating_sub(missing)))
        {
            placement.holds.insert(self.key.clone(), PlaceHold::Occupied(waits.key()));
        }
    }

    /// Where its places are taken, be it by what goes and is not given up.
    fn places(&self) -> impl Iterator<Item = Taken<'a>> {
        let members = self.members.iter().filter(|member| self.owns(member) && !member.gives_up);
        let members = members.map(|Member { document, spec, leaves, .. }| Taken {
            document,
            node: &spec.node,
            goes: *leaves,
        });
        let going =
            self.going.iter().filter(|going| is_owned(going.document, &self.key.name) && !going.gives_up);
        members.chain(going.map(|Going { document, spec, .. }| Taken {
            document,
            node: &spec.node,
            goes: true,
        }))
    }

    /// Makes so many processes more, and answers for how many there was a node.
    fn fill(&self, ground: &mut Ground, missing: u32, placement: &mut Placement) -> u32 {
        let mut here: BTreeMap<&'a str, u32> = BTreeMap::new();
        self.places().for_each(|place| *here.entry(place.node).or_default() += 1);
        let chosen = ground.choose(self.world, &self.key.namespace, self.service, &here, missing);
        let found = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        let mut next: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for node in chosen {
            // The first ordinal that is free, counting those that are still going.
            let next = next.entry(Arc::clone(&node)).or_default();
            let id = loop {
                let id = process_id(&self.key.namespace, &self.key.name, &node, *next);
                *next += 1;
                if !self.is_member(&id) && !self.is_going(&id) {
                    break id;
                }
            };
            self.create(id, &node, placement);
        }
        found
    }

    fn is_member(&self, id: &str) -> bool {
        self.members.binary_search_by(|member| member.id.cmp(id)).is_ok()
    }

    fn is_going(&self, id: &str) -> bool {
        self.going.binary_search_by(|going| going.document.metadata.name.as_str().cmp(id)).is_ok()
    }

    /// Takes away what is too much: first what does not do its work, then what has to move anyway, then from where there are the most.
    fn shrink(&mut self, replicas: u32, placement: &mut Placement) {
        let staying = self.members.iter().filter(|member| !member.leaves && self.owns(member)).count();
        let mut excess = staying.saturating_sub(replicas as usize);
        if excess == 0 {
            return;
        }
        let mut count: BTreeMap<&'a str, usize> = BTreeMap::new();
        // By how gladly they are given away, then by node; of a node the last first.
        let mut classes: BTreeMap<(bool, bool), BTreeMap<&'a str, Vec<usize>>> = BTreeMap::new();
        for (at, member) in self.members.iter().enumerate() {
            if member.leaves || !self.owns(member) {
                continue;
            }
            *count.entry(member.spec.node.as_str()).or_default() += 1;
            let class = classes.entry((member.is_up(), self.fit(member).keeps())).or_default();
            class.entry(member.spec.node.as_str()).or_default().push(at);
        }
        for (_, mut class) in classes {
            let mut fullest: BTreeSet<(usize, &str)> =
                class.keys().map(|node| (count.get(node).copied().unwrap_or(0), *node)).collect();
            while excess > 0 {
                let Some((on_node, node)) = fullest.pop_last() else { break };
                let Some(at) = class.get_mut(node).and_then(Vec::pop) else { continue };
                count.insert(node, on_node - 1);
                fullest.insert((on_node - 1, node));
                excess -= 1;
                self.leave(at, PlaceAction::MarkDeleting, PlaceReason::NotPlaced, placement);
            }
        }
    }
}
