//! The decision over all nodes, again and again: a pass decides anew what has changed since the last one concerns, and knows the rest.
//!
//! **Invariant:** a pass answers what [`super::place::place`] would of the same world. A service is decided again when a document, a
//! sighting or a time has changed on which its last decision rests, and for as long as that had steps: whether these were written,
//! the documents say.
//! **Absent here:** what a change costs where it concerns much. A changed type concerns all services of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use super::ending::Ending;
use super::near::{Near, Nearby};
use super::place::{PlaceHold, PlaceStep, Placement};
use super::service::place_service;
use super::spread::{Ground, Selector};
use super::standing::ServiceStatus;
use super::world::{Freeze, NodeSighting, World};
use crate::model::kinds::{FailoverSpec, ServiceSpec};
use crate::model::meta::{DRAINING, Key, Kind};
use crate::model::{Change, Document, Documents, Spec};

/// The nodes of which something else was seen than in the last pass, by (instance, node), each with what was seen then; none where
/// it was not seen.
pub type Earlier<'a> = BTreeMap<(String, String), Option<&'a NodeSighting>>;

/// What is known of the last pass.
#[derive(Debug, Default)]
pub struct Placer {
    /// What was decided on; none before the first pass.
    last: Option<Last>,
    ground: Ground,
    ending: Ending,
    /// By service.
    decided: BTreeMap<Key, Decided>,
    holds: OrdMap<Key, PlaceHold>,
    services: OrdMap<Key, Arc<ServiceStatus>>,
    /// When which service is decided again though nothing changes.
    wakes: BTreeSet<(u64, Key)>,
    /// Services that are decided again in each pass.
    open: BTreeSet<Key>,
    /// Services of which something is held: another node may change that.
    held: BTreeSet<Key>,
    /// Services of which something may be given up: a thaw may change that.
    lost: BTreeSet<Key>,
}

#[derive(Debug)]
struct Last {
    documents: Documents,
    since_ms: u64,
    freeze: Freeze,
}

/// What is known of a service's last decision, beside how it stands.
#[derive(Debug, Default)]
struct Decided {
    /// What of it is held.
    holds: Vec<Key>,
    wake_at_ms: Option<u64>,
}

/// What follows from changes, before anything is decided.
#[derive(Debug, Default)]
struct News {
    /// Services to decide again.
    due: BTreeSet<Key>,
    /// Nodes to look at again.
    nodes: BTreeSet<Key>,
    /// Types that changed.
    types: BTreeSet<String>,
    /// Nodes that are there and were not, or the other way round, by instance.
    come_or_gone: BTreeMap<String, BTreeSet<String>>,
}

impl Placer {
    /// Decides. `earlier` has at least the nodes whose sightings are not what they were in the last pass; before the first, nothing is
    /// asked for.
    pub fn place(&mut self, world: &World<'_>, earlier: &Earlier<'_>) -> Placement {
        let last = self.last.take();
        // Who began to look at another time, or freezes otherwise, is another controller.
        let last = last.filter(|last| last.since_ms == world.since_ms && last.freeze == world.freeze);
        let due = match last {
            Some(last) => self.due(world, &last.documents, earlier),
            None => self.begin(world),
        };
        let mut steps = Vec::new();
        let mut near = Nearby::new(*world);
        for key in &due {
            self.forget(key);
            match placed(world.documents, key) {
                Some((document, service)) => {
                    self.decide(world, &mut near, (key, document, service), &mut steps);
                }
                None => {
                    self.services.remove(key);
                }
            }
        }
        self.ground.take_back();
        let (documents, since_ms, freeze) = (world.documents.clone(), world.since_ms, world.freeze);
        self.last = Some(Last { documents, since_ms, freeze });
        let mut placement = Placement {
            steps,
            holds: self.holds.clone(),
            services: self.services.clone(),
            frozen: self.ground.frozen(),
            wake_at_ms: self.wakes.first().map(|(at_ms, _)| *at_ms),
        };
        self.ending.end(world, &mut placement);
        placement
    }

    /// The first pass: everything is looked at.
    fn begin(&mut self, world: &World<'_>) -> BTreeSet<Key> {
        *self = Placer { ending: Ending::of(world.documents), ..Placer::default() };
        for (key, _) in world.documents.of_kind(Kind::Node) {
            self.ground.look(world, key);
        }
        self.ground.begin(world);
        world.documents.of_kind(Kind::Service).map(|(key, _)| key.clone()).collect()
    }

    /// Which services have to be decided again.
    fn due(&mut self, world: &World<'_>, before: &Documents, earlier: &Earlier<'_>) -> BTreeSet<Key> {
        let documents = world.documents;
        let mut news = News { due: self.open.clone(), ..News::default() };
        for change in documents.changes_since(before) {
            self.ending.hear(documents, change);
            self.hear(documents, change, &mut news);
        }
        for (place, earlier) in earlier {
            see(world, place, *earlier, &mut news);
        }
        let mut turned: BTreeSet<(&str, Arc<Selector>)> = BTreeSet::new();
        for node in &news.nodes {
            let selectors = self.ground.look(world, node);
            turned.extend(selectors.into_iter().map(|selector| (node.namespace.as_str(), selector)));
        }
        let frozen = self.ground.frozen();
        self.ground.begin(world);
        if frozen != self.ground.frozen() {
            news.due.extend(self.lost.iter().cloned());
        }
        for key in self.held.iter().filter(|_| !turned.is_empty()) {
            let is_turned = documents.service(key).is_some_and(|service| {
                turned
                    .iter()
                    .any(|(at, selector)| *at == key.namespace && **selector == service.node_selector)
            });
            if is_turned {
                news.due.insert(key.clone());
            }
        }
        while let Some((at_ms, _)) = self.wakes.first()
            && *at_ms <= world.now_ms
        {
            news.due.extend(self.wakes.pop_first().map(|(_, key)| key));
        }
        let News { mut due, types, come_or_gone, .. } = news;
        if !types.is_empty() {
            let services = documents.of_kind(Kind::Service);
            let of_types = services.filter(|(key, _)| {
                documents.service(key).is_some_and(|service| types.contains(&service.kind))
            });
            due.extend(of_types.map(|(key, _)| key.clone()));
        }
        for (instance, nodes) in &come_or_gone {
            let naming = documents.within(Kind::Service, instance).filter(|(_, document)| {
                let Spec::Service(service) = &document.spec else { return false };
                service.nodes.iter().flatten().any(|node| nodes.contains(node))
            });
            due.extend(naming.map(|(key, _)| key.clone()));
        }
        due
    }

    /// Takes in a change of a document.
    fn hear(&mut self, documents: &Documents, change: Change<'_>, news: &mut News) {
        let Change { key, before, now } = change;
        let is_live = |document: Option<&Arc<Document>>| document.is_some_and(|found| !found.is_deleting());
        for document in before.into_iter().chain(now).filter(|document| !document.metadata.waiting) {
            let instance = key.namespace.as_str();
            match &document.spec {
                Spec::Instance(_) => {
                    let services = documents.within(Kind::Service, &key.name);
                    news.due.extend(services.map(|(key, _)| key.clone()));
                }
                Spec::ServiceType(_) => {
                    news.types.insert(key.name.clone());
                }
                Spec::Node(_) => {
                    news.nodes.insert(key.clone());
                    if before.map(|node| stands(node)) != now.map(|node| stands(node)) {
                        news.due.extend(services_on(documents, key));
                    }
                    if is_live(before) != is_live(now) {
                        let nodes = news.come_or_gone.entry(instance.to_owned()).or_default();
                        nodes.insert(key.name.clone());
                    }
                }
                Spec::Service(service) => {
                    news.due.insert(key.clone());
                    let selector = documents.service(key).map(|now| &now.node_selector);
                    if selector != Some(&service.node_selector) {
                        self.ground.forget(instance, &service.node_selector);
                        // Of nodes that turn open to it nobody hears any more, until one of these is decided again.
                        let is_alike = |held: &&Key| {
                            held.namespace == instance
                                && documents
                                    .service(held)
                                    .is_some_and(|other| other.node_selector == service.node_selector)
                        };
                        news.due.extend(self.held.iter().filter(is_alike).cloned());
                    }
                }
                Spec::Process(process) => {
                    news.due.insert(Key::within(Kind::Service, instance, process.service.as_str()));
                    news.nodes.insert(Key::within(Kind::Node, instance, process.node.as_str()));
                    if before.is_some() != now.is_some() && may_be_in_the_way(document, &process.service) {
                        let services = documents.within(Kind::Service, instance);
                        news.due.extend(services.map(|(key, _)| key.clone()));
                    }
                }
                Spec::Revision(revision) => {
                    let by_name = key.name.rsplit_once(':').map(|(service, _)| service);
                    let services = by_name.into_iter().chain([revision.service.as_str()]);
                    news.due.extend(services.map(|service| Key::within(Kind::Service, instance, service)));
                }
                Spec::Tenant(_) | Spec::User(_) | Spec::Integration(_) | Spec::Event(_) => {}
            }
        }
    }

    /// Forgets what was decided on a service.
    fn forget(&mut self, key: &Key) {
        let Some(Decided { holds, wake_at_ms }) = self.decided.remove(key) else { return };
        for held in holds {
            self.holds.remove(&held);
        }
        if let Some(at_ms) = wake_at_ms {
            self.wakes.remove(&(at_ms, key.clone()));
        }
        for set in [&mut self.open, &mut self.held, &mut self.lost] {
            set.remove(key);
        }
    }

    fn decide<'a>(
        &mut self,
        world: &World<'a>,
        near: &mut Nearby<'a>,
        case: (&'a Key, &'a Document, &'a ServiceSpec),
        steps: &mut Vec<PlaceStep>,
    ) {
        let (key, _, service) = case;
        let mut own = Placement::default();
        place_service(world, near, &mut self.ground, case, &mut own);
        let status = own.services.remove(key);
        // What it is started after decides when it may be started anew.
        if !own.steps.is_empty() || !service.after.is_empty() {
            self.open.insert(key.clone());
        }
        if status.as_ref().is_some_and(|status| may_give_up(world.documents, key, service, status)) {
            self.lost.insert(key.clone());
        }
        if let Some(at_ms) = own.wake_at_ms {
            self.wakes.insert((at_ms, key.clone()));
        }
        let holds: Vec<Key> = own.holds.keys().cloned().collect();
        if !holds.is_empty() {
            self.held.insert(key.clone());
        }
        self.holds.extend(own.holds);
        // Who compares what stands now with what stood before sees at once what is the same.
        if let Some(status) = status.filter(|status| self.services.get(key) != Some(status)) {
            self.services.insert(key.clone(), status);
        }
        steps.append(&mut own.steps);
        self.decided.insert(key.clone(), Decided { holds, wake_at_ms: own.wake_at_ms });
    }
}

/// A service that is placed: what is going gets nothing new, even before it is marked.
fn placed<'a>(documents: &'a Documents, key: &Key) -> Option<(&'a Document, &'a ServiceSpec)> {
    documents.live(&Key::cluster(Kind::Instance, &*key.namespace))?;
    let document = documents.live(key)?;
    if let Spec::Service(service) = &document.spec { Some((document, service)) } else { None }
}

/// What of a node's document says whether what is there may stay, or be started anew: the rest is for what is to come.
fn stands(node: &Document) -> ([bool; 3], &BTreeMap<String, String>) {
    let near = Near { document: Some(node), seen: None };
    let is_draining = node.metadata.annotations.contains_key(DRAINING);
    ([node.is_deleting(), is_draining, near.takes_new()], &node.metadata.labels)
}

/// The services with processes on a node.
fn services_on<'a>(documents: &'a Documents, node: &'a Key) -> impl Iterator<Item = Key> + 'a {
    documents
        .processes_on(&node.namespace, &node.name)
        .map(|(_, process)| Key::within(Kind::Service, &*node.namespace, process.service.as_str()))
}

/// Takes in that something else is seen of a node.
fn see(world: &World<'_>, place: &(String, String), before: Option<&NodeSighting>, news: &mut News) {
    let node = Key::within(Kind::Node, place.0.as_str(), place.1.as_str());
    let now = world.seen.get(place);
    let how = |seen: Option<&NodeSighting>| seen.map(|seen| (seen.complete, seen.unseen_since_ms));
    if let (Some(before), Some(now), true) = (before, now, how(before) == how(now)) {
        for (process, spec) in world.documents.processes_on(&place.0, &place.1) {
            if !is_seen_alike(before, now, process) {
                news.due.insert(Key::within(Kind::Service, place.0.as_str(), spec.service.as_str()));
            }
        }
    } else {
        news.due.extend(services_on(world.documents, &node));
    }
    news.nodes.insert(node);
}

/// Whether two sightings of a node say the same of a process of it.
fn is_seen_alike(before: &NodeSighting, now: &NodeSighting, process: &Document) -> bool {
    let (id, revision) = (&process.metadata.name, process.revision());
    before.processes.get(id) == now.processes.get(id)
        && (before.planned >= revision) == (now.planned >= revision)
        && before.behind.contains(id) == now.behind.contains(id)
        && before.pending.contains(id) == now.pending.contains(id)
}

/// Whether a process may have an id that another service wants to make one by: it has such an id (a UUIDv5), and its own
/// service did not make it.
fn may_be_in_the_way(process: &Document, service: &str) -> bool {
    let name = &process.metadata.name;
    let mut owners = process.metadata.owner_references.iter();
    let is_made = owners.any(|owner| owner.kind == Kind::Service && owner.name == service);
    !is_made && name.len() == 36 && name.as_bytes().get(14) == Some(&b'5')
}

/// Whether something of a service would be given up, were it not for a freeze or the time.
fn may_give_up(documents: &Documents, key: &Key, service: &ServiceSpec, status: &ServiceStatus) -> bool {
    let goes = |(process, _): (&Arc<Document>, _)| process.is_deleting();
    matches!(service.failover, Some(FailoverSpec::Replace { .. } | FailoverSpec::Fenced { .. }))
        && (status.unknown > 0 || documents.processes_of(&key.namespace, &key.name).any(goes))
}
