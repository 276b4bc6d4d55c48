//! All nodes together: which Process objects should exist, and which objects that are being deleted can go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::world::World;
use crate::model::id::process_id;
use crate::model::kinds::{ProcessSpec, ServiceSpec};
use crate::model::meta::{Key, Kind, OwnerReference, SOURCE};
use crate::model::{Document, Metadata, Spec};

/// What to do in the store.
#[derive(Debug, Clone, PartialEq)]
pub enum PlaceAction {
    /// Make a process.
    Create(Box<Document>),
    /// Decide that an object goes; it stays until what it stands for is gone.
    MarkDeleting(Key),
    /// Take an object out: nothing of it is left.
    Finalize(Key),
    /// Give an object a spec that no longer names what is gone.
    Unlink(Box<Document>),
    /// What waited for an older object takes its place.
    Promote(Key),
    /// Take an object out that waited for an older one and has no place any more.
    Drop(Key),
}

impl PlaceAction {
    /// The object that it is about.
    pub fn key(&self) -> Key {
        match self {
            PlaceAction::Create(document) | PlaceAction::Unlink(document) => document.key(),
            PlaceAction::MarkDeleting(key)
            | PlaceAction::Finalize(key)
            | PlaceAction::Promote(key)
            | PlaceAction::Drop(key) => key.clone(),
        }
    }
}

/// A step and why it is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaceStep {
    /// What to do.
    pub action: PlaceAction,
    /// Why.
    pub reason: PlaceReason,
}

/// Why a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceReason {
    /// The service's placement wants a process there.
    Placed,
    /// The service's placement does not want it (there) any more.
    NotPlaced,
    /// What it belongs to is being deleted.
    OwnerDeleted,
    /// Its node was seen without it, or nothing refers to it any more.
    Clean,
    /// What it named is gone.
    Dangling,
    /// What it waited for is gone.
    Awaited,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceHold {
    /// A deletion waits for this.
    WaitsFor(Key),
    /// A deletion waits for the process's node to be seen.
    NodeUnknown(Key),
    /// No node can take the service's processes.
    NoNode {
        /// How many could not be placed.
        missing: u32,
    },
}

impl fmt::Display for PlaceHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceHold::WaitsFor(key) => write!(f, "its deletion waits for {key}"),
            PlaceHold::NodeUnknown(node) => write!(f, "its deletion waits for {node} to be seen"),
            PlaceHold::NoNode { missing } => write!(f, "no node can take {missing} of its processes"),
        }
    }
}

/// What to do in the store now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// In this order.
    pub steps: Vec<PlaceStep>,
    /// By object.
    pub holds: BTreeMap<Key, PlaceHold>,
}

/// Which Process objects should exist, and what can be taken out.
pub fn place(world: &World<'_>) -> Placement {
    let mut placement = Placement::default();
    for (key, document) in world.documents.of_kind(Kind::Service) {
        let instance = Key::cluster(Kind::Instance, &*key.namespace);
        // What is going gets nothing new, even before it is marked.
        if let Spec::Service(service) = &document.spec
            && !document.is_deleting()
            && world.documents.live(&instance).is_some()
        {
            place_service(world, key, document, service, &mut placement);
        }
    }
    cascade(world, &mut placement);
    finalize(world, &mut placement);
    unlink(world, &mut placement);
    succeed(world, &mut placement);
    placement
}

fn place_service(
    world: &World<'_>,
    key: &Key,
    document: &Document,
    service: &ServiceSpec,
    placement: &mut Placement,
) {
    let instance = key.namespace.as_str();
    let current: BTreeMap<&str, &ProcessSpec> = world
        .documents
        .processes_of(instance, &key.name)
        .filter(|(process, _)| is_owned(process, &key.name))
        .map(|(process, spec)| (process.metadata.name.as_str(), spec))
        .collect();
    let wanted = match (&service.nodes, service.replicas) {
        (Some(nodes), _) => on_each(world, key, nodes),
        (None, Some(replicas)) => {
            let (wanted, missing) = spread(world, key, service, replicas, &current);
            if missing > 0 {
                placement.holds.insert(key.clone(), PlaceHold::NoNode { missing });
            }
            wanted
        }
        (None, None) => BTreeMap::new(),
    };
    for id in current.keys() {
        let process = Key::within(Kind::Process, instance, *id);
        if !wanted.contains_key(*id) && world.documents.live(&process).is_some() {
            let action = PlaceAction::MarkDeleting(process);
            placement.steps.push(PlaceStep { action, reason: PlaceReason::NotPlaced });
        }
    }
    for (id, node) in wanted {
        let process = Key::within(Kind::Process, instance, id.as_str());
        match world.documents.get(&process) {
            Some(existing) if existing.is_deleting() => {
                // Made again once the old one is gone from its node, so that there are never two.
                placement.holds.insert(key.clone(), PlaceHold::WaitsFor(process));
            }
            Some(_) => {}
            None => {
                let metadata = Metadata {
                    name: id,
                    namespace: instance.to_owned(),
                    owner_references: vec![OwnerReference {
                        kind: Kind::Service,
                        name: key.name.clone(),
                        uid: document.metadata.uid.clone(),
                    }],
                    ..Metadata::default()
                };
                let spec = Spec::Process(ProcessSpec { service: key.name.clone(), node, running: None });
                let action = PlaceAction::Create(Box::new(Document { metadata, spec }));
                placement.steps.push(PlaceStep { action, reason: PlaceReason::Placed });
            }
        }
    }
}

fn is_owned(process: &Document, service: &str) -> bool {
    process.metadata.owner_references.iter().any(|owner| owner.kind == Kind::Service && owner.name == service)
}

/// One process on each of these nodes, by process id.
fn on_each(world: &World<'_>, service: &Key, nodes: &[String]) -> BTreeMap<String, String> {
    nodes
        .iter()
        .filter(|node| {
            world.documents.live(&Key::within(Kind::Node, &*service.namespace, node.as_str())).is_some()
        })
        .map(|node| (process_id(&service.namespace, &service.name, node, 0), node.clone()))
        .collect()
}

/// `replicas` processes: those that are well placed stay, the others go where there are the fewest of this service, then
/// the fewest of all, then by name. Answers what is wanted and how many found no node.
fn spread(
    world: &World<'_>,
    key: &Key,
    service: &ServiceSpec,
    replicas: u32,
    current: &BTreeMap<&str, &ProcessSpec>,
) -> (BTreeMap<String, String>, u32) {
    let instance = key.namespace.as_str();
    // Matching nodes, and whether they take something new.
    let mut nodes: BTreeMap<&str, bool> = BTreeMap::new();
    for (node_key, node) in world.documents.within(Kind::Node, instance) {
        let matches =
            service.node_selector.iter().all(|(name, value)| node.metadata.labels.get(name) == Some(value));
        if matches && !node.is_deleting() {
            let open = world.documents.node(node_key).is_some_and(|node| node.status != Some(false));
            nodes.insert(&node_key.name, open);
        }
    }
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    let mut of_service: BTreeMap<&str, u32> = BTreeMap::new();
    let mut of_all: BTreeMap<&str, u32> = BTreeMap::new();
    for node in nodes.keys() {
        let count = world.documents.processes_on(instance, node).count();
        of_all.insert(node, u32::try_from(count).unwrap_or(u32::MAX));
    }
    for (id, process) in current {
        let is_live = world.documents.live(&Key::within(Kind::Process, instance, *id)).is_some();
        if is_live && nodes.contains_key(process.node.as_str()) {
            wanted.insert((*id).to_owned(), process.node.clone());
            *of_service.entry(&process.node).or_default() += 1;
        }
    }
    while wanted.len() > replicas as usize {
        // From where there are the most.
        let fullest = of_service.iter().max_by_key(|(node, count)| (**count, **node)).map(|(node, _)| *node);
        let Some(node) = fullest else { break };
        let Some(id) = wanted.iter().filter(|(_, at)| *at == node).map(|(id, _)| id.clone()).next_back()
        else {
            break;
        };
        wanted.remove(&id);
        if let Some(count) = of_service.get_mut(node) {
            *count -= 1;
        }
    }
    while wanted.len() < replicas as usize {
        let emptiest = nodes
            .iter()
            .filter(|(_, open)| **open)
            .map(|(node, _)| {
                let count = of_service.get(node).copied().unwrap_or(0);
                (count, of_all.get(node).copied().unwrap_or(0).saturating_add(count), *node)
            })
            .min();
        let Some((_, _, node)) = emptiest else { break };
        // The first ordinal that is free, counting those that are still going.
        let id = (0u32..)
            .map(|ordinal| process_id(instance, &key.name, node, ordinal))
            .find(|id| !wanted.contains_key(id) && !current.contains_key(id.as_str()));
        let Some(id) = id else { break };
        wanted.insert(id, node.to_owned());
        *of_service.entry(node).or_default() += 1;
    }
    let missing = replicas.saturating_sub(u32::try_from(wanted.len()).unwrap_or(u32::MAX));
    (wanted, missing)
}

/// What belongs to something that is going, goes.
fn cascade(world: &World<'_>, placement: &mut Placement) {
    let documents = world.documents;
    let going: BTreeSet<Key> = placement
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            PlaceAction::MarkDeleting(key) => Some(key.clone()),
            PlaceAction::Create(_)
            | PlaceAction::Finalize(_)
            | PlaceAction::Unlink(_)
            | PlaceAction::Promote(_)
            | PlaceAction::Drop(_) => None,
        })
        .collect();
    let gone = |key: &Key| documents.live(key).is_none();
    for (key, document) in documents.iter() {
        if !key.kind.is_namespaced() || document.is_deleting() || going.contains(key) {
            continue;
        }
        let instance = Key::cluster(Kind::Instance, &*key.namespace);
        let orphaned = gone(&instance)
            || documents.process(key).is_some_and(|process| {
                gone(&Key::within(Kind::Service, &*key.namespace, &*process.service))
                    || gone(&Key::within(Kind::Node, &*key.namespace, &*process.node))
            });
        if orphaned {
            let action = PlaceAction::MarkDeleting(key.clone());
            placement.steps.push(PlaceStep { action, reason: PlaceReason::OwnerDeleted });
        }
    }
}

/// What is going and has nothing left, is taken out.
fn finalize(world: &World<'_>, placement: &mut Placement) {
    let documents = world.documents;
    for (key, document) in documents.iter() {
        if !document.is_deleting() {
            continue;
        }
        let instance = key.namespace.as_str();
        let hold = match &document.spec {
            Spec::Process(process) => {
                let node = Key::within(Kind::Node, instance, &*process.node);
                match world.seen.get(&(instance.to_owned(), process.node.clone())) {
                    _ if documents.get(&node).is_none() => None,
                    Some(seen) if seen.is_clean_of(&key.name, revision(document)) => None,
                    Some(seen) if seen.complete => Some(PlaceHold::WaitsFor(node)),
                    Some(_) | None => Some(PlaceHold::NodeUnknown(node)),
                }
            }
            Spec::Service(_) => waits(documents.processes_of(instance, &key.name)),
            Spec::Node(_) => waits(documents.processes_on(instance, &key.name)),
            Spec::Instance(_) => documents
                .iter()
                .find(|(other, _)| other.kind.is_namespaced() && other.namespace == key.name)
                .map(|(other, _)| PlaceHold::WaitsFor(other.clone())),
            Spec::Tenant(_)
            | Spec::User(_)
            | Spec::Integration(_)
            | Spec::ServiceType(_)
            | Spec::Revision(_)
            | Spec::Event(_) => None,
        };
        match hold {
            Some(hold) => {
                placement.holds.insert(key.clone(), hold);
            }
            None => {
                let action = PlaceAction::Finalize(key.clone());
                placement.steps.push(PlaceStep { action, reason: PlaceReason::Clean });
            }
        }
    }
}

/// Takes away the names of what is gone, so that a later object of such a name is not taken for it. Whoever deletes does that, too;
/// this is for what came in between. Not in what a manifests folder keeps: there it is a mistake of the folder's, which says so.
fn unlink(world: &World<'_>, placement: &mut Placement) {
    let mut found: BTreeMap<Key, Document> = BTreeMap::new();
    for (gone, document) in world.documents.dangling() {
        if !document.metadata.annotations.contains_key(SOURCE) {
            let unlinked = found.entry(document.key()).or_insert_with(|| Document::clone(document));
            unlinked.spec = unlinked.spec.clone().without(gone);
        }
    }
    let steps = found.into_values().map(|document| PlaceStep {
        action: PlaceAction::Unlink(Box::new(document)),
        reason: PlaceReason::Dangling,
    });
    placement.steps.extend(steps);
}

/// What waited takes its place once that is free and all is there that it needs.
fn succeed(world: &World<'_>, placement: &mut Placement) {
    let documents = world.documents;
    for (key, document) in documents.waiting() {
        let needs = document.needs();
        let is_live = |need: &Key| documents.live(need).is_some();
        let (action, reason) = if is_live(key) {
            // Somebody else's took the place.
            (PlaceAction::Drop(key.clone()), PlaceReason::NotPlaced)
        } else if !needs.iter().all(|need| is_live(need) || documents.successor(need).is_some()) {
            (PlaceAction::Drop(key.clone()), PlaceReason::OwnerDeleted)
        } else if documents.get(key).is_none() && needs.iter().all(is_live) {
            (PlaceAction::Promote(key.clone()), PlaceReason::Awaited)
        } else {
            continue;
        };
        placement.steps.push(PlaceStep { action, reason });
    }
}

/// The revision at which a document was written last.
fn revision(document: &Document) -> u64 {
    document.metadata.resource_version.parse().unwrap_or(0)
}

fn waits<'a>(
    mut processes: impl Iterator<Item = (&'a std::sync::Arc<Document>, &'a ProcessSpec)>,
) -> Option<PlaceHold> {
    processes.next().map(|(process, _)| PlaceHold::WaitsFor(process.key()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Documents;
    use crate::model::kinds::{TenantSpec, UserSpec};

    fn document(namespace: &str, name: &str, spec: Spec) -> Document {
        let metadata = Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() };
        Document { metadata, spec }
    }

    fn waiting(mut document: Document) -> Document {
        document.metadata.waiting = true;
        document
    }

    fn deleting(mut document: Document) -> Document {
        document.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        document
    }

    fn instance() -> Document {
        document("", "IN1", Spec::Instance(Default::default()))
    }

    fn node() -> Document {
        document("IN1", "ND1", Spec::Node(Default::default()))
    }

    fn steps(documents: impl IntoIterator<Item = Document>) -> Vec<(String, PlaceReason)> {
        let documents: Documents = documents.into_iter().collect();
        let placement = place(&World::at(&documents, &BTreeMap::new(), 0));
        let word = |action: &PlaceAction| match action {
            PlaceAction::Promote(_) => "promote ",
            PlaceAction::Drop(_) => "drop ",
            PlaceAction::Create(_)
            | PlaceAction::MarkDeleting(_)
            | PlaceAction::Finalize(_)
            | PlaceAction::Unlink(_) => "",
        };
        let step = |step: PlaceStep| (format!("{}{}", word(&step.action), step.action.key()), step.reason);
        placement.steps.into_iter().map(step).collect()
    }

    #[test]
    fn what_waits_takes_its_place_when_that_is_free_and_all_that_it_needs_is_there() {
        let (instance_key, node_key) = ("promote Instance IN1".to_owned(), "promote Node IN1/ND1".to_owned());
        let older = deleting(instance());
        let clean = ("Instance IN1".to_owned(), PlaceReason::Clean);
        assert_eq!(steps([older, waiting(instance()), waiting(node())]), [clean]);
        let first = [(instance_key, PlaceReason::Awaited)];
        assert_eq!(steps([waiting(instance()), waiting(node())]), first);
        assert_eq!(steps([instance(), waiting(node())]), [(node_key, PlaceReason::Awaited)]);
    }

    #[test]
    fn what_waits_for_nothing_that_can_come_is_dropped() {
        assert_eq!(steps([waiting(node())]), [("drop Node IN1/ND1".to_owned(), PlaceReason::OwnerDeleted)]);
        let taken = [("drop Node IN1/ND1".to_owned(), PlaceReason::NotPlaced)];
        assert_eq!(steps([instance(), node(), waiting(node())]), taken);
    }

    #[test]
    fn nothing_goes_on_naming_what_is_gone_but_what_a_folder_keeps() {
        let tenant = TenantSpec {
            instance: Some("IN1".into()),
            integrations: vec!["echo".into()],
            ..TenantSpec::default()
        };
        let tenant = document("", "red", Spec::Tenant(tenant));
        let user = UserSpec { tenants: vec!["red".into(), "blue".into()], ..UserSpec::default() };
        let user = document("", "a@b", Spec::User(user));
        let echo = document("", "echo", Spec::Integration(Default::default()));
        let unlinked = |name: &str| (name.to_owned(), PlaceReason::Dangling);
        let all = [tenant.clone(), user.clone(), echo.clone()];
        assert_eq!(steps(all.clone()), [unlinked("Tenant red"), unlinked("User a@b")]);
        let documents: Documents = all.into_iter().collect();
        let placement = place(&World::at(&documents, &BTreeMap::new(), 0));
        let PlaceAction::Unlink(left) = &placement.steps[0].action else { panic!("{placement:?}") };
        let Spec::Tenant(left) = &left.spec else { panic!("{left:?}") };
        assert_eq!(
            (left.instance.as_deref(), left.integrations.as_slice()),
            (None, &["echo".to_owned()][..])
        );

        let mut kept = user;
        kept.metadata.annotations.insert(SOURCE.into(), "fleet".into());
        assert_eq!(
            steps([waiting(instance()), deleting(instance()), tenant, kept, echo]).len(),
            1,
            "it will be there"
        );
    }
}
