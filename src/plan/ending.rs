//! What is going, and what that leaves behind: objects that belong to it go too, what is clean is taken out, and what waited takes its
//! place.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::place::{PlaceAction, PlaceHold, PlaceReason, PlaceStep, Placement};
use super::world::World;
use crate::model::kinds::ProcessSpec;
use crate::model::meta::{FORGOTTEN, Key, Kind, SOURCE};
use crate::model::{Change, Document, Documents, Spec};

/// What has lost something that it refers to. It is kept from pass to pass.
///
/// **Invariant:** it says what the documents do of which it was told last.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// What can't be without something that is gone or going, and does not go yet.
    orphans: BTreeSet<Key>,
    /// What names something that is gone, and could be without.
    dangling: BTreeSet<Key>,
}

impl Ending {
    /// Looks at all documents.
    pub(super) fn of(documents: &Documents) -> Ending {
        let mut ending = Ending::default();
        // Of processes there are many more than of what they belong to.
        for kind in [Kind::Node, Kind::Service, Kind::Revision, Kind::Event] {
            documents.of_kind(kind).for_each(|(key, _)| ending.check(documents, key));
        }
        for (owner, _) in documents.with_processes() {
            let instance = Key::cluster(Kind::Instance, &*owner.namespace);
            if documents.live(owner).is_none() || documents.live(&instance).is_none() {
                documents.needing(owner).for_each(|(key, _)| ending.check(documents, key));
            }
        }
        let dangling: BTreeSet<Key> = documents.dangling().map(|(_, document)| document.key()).collect();
        dangling.iter().for_each(|key| ending.check(documents, key));
        ending
    }

    /// Takes in what has changed.
    pub(super) fn hear(&mut self, documents: &Documents, change: Change<'_>) {
        let Change { key, before, now } = change;
        self.check(documents, key);
        let is_live = |document: Option<&Arc<Document>>| {
            document.is_some_and(|document| !document.is_deleting() && !document.metadata.waiting)
        };
        let waits = |document: Option<&Arc<Document>>| document.is_some_and(|found| found.metadata.waiting);
        if is_live(before) != is_live(now) || waits(before) != waits(now) {
            documents.needing(key).for_each(|(needing, _)| self.check(documents, needing));
            documents.naming(key.clone()).for_each(|(naming, _)| self.check(documents, naming));
        }
    }

    fn check(&mut self, documents: &Documents, key: &Key) {
        let found = documents.live(key);
        let is_orphan =
            found.is_some_and(|found| found.needs().iter().any(|need| documents.live(need).is_none()));
        let is_dangling = found.is_some_and(|found| unlinked(documents, key, found).is_some());
        for (set, is_in) in [(&mut self.orphans, is_orphan), (&mut self.dangling, is_dangling)] {
            if is_in {
                set.insert(key.clone());
            } else {
                set.remove(key);
            }
        }
    }

    /// All that follows for a pass, in this order.
    pub(super) fn end(&self, world: &World<'_>, placement: &mut Placement) {
        self.cascade(placement);
        finalize(world, placement);
        self.unlink(world.documents, placement);
        succeed(world, placement);
    }

    /// What belongs to something that is going, goes.
    fn cascade(&self, placement: &mut Placement) {
        if self.orphans.is_empty() {
            return;
        }
        let going: BTreeSet<Key> = placement
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                PlaceAction::MarkDeleting(key) | PlaceAction::GiveUp(key) => Some(key.clone()),
                PlaceAction::Create(_)
                | PlaceAction::Assign { .. }
                | PlaceAction::Lease { .. }
                | PlaceAction::Judge(_)
                | PlaceAction::Finalize(_)
                | PlaceAction::Unlink(_)
                | PlaceAction::Promote(_)
                | PlaceAction::Drop(_) => None,
            })
            .collect();
        for key in self.orphans.difference(&going) {
            placement.step(PlaceAction::MarkDeleting(key.clone()), PlaceReason::OwnerDeleted);
        }
    }

    /// Takes away the names of what is gone, so that a later object of such a name is not taken for it. Whoever deletes does that, too;
    /// this is for what came in between.
    fn unlink(&self, documents: &Documents, placement: &mut Placement) {
        for key in &self.dangling {
            if let Some(document) = documents.live(key).and_then(|found| unlinked(documents, key, found)) {
                placement.step(PlaceAction::Unlink(Box::new(document)), PlaceReason::Dangling);
            }
        }
    }
}

/// A document without the names of what is gone; none where it has none of these, or goes with its instance. Nor of what a
/// manifests folder keeps: there it is a mistake of the folder's, which says so.
fn unlinked(documents: &Documents, key: &Key, document: &Document) -> Option<Document> {
    let mut gone = document.names();
    gone.retain(|named| documents.live(named).is_none() && documents.successor(named).is_none());
    let instance = || documents.live(&Key::cluster(Kind::Instance, &*key.namespace));
    let stays = !key.kind.is_namespaced() || instance().is_some();
    if gone.is_empty() || !stays || document.metadata.annotations.contains_key(SOURCE) {
        return None;
    }
    let mut unlinked = document.clone();
    for named in gone {
        unlinked.spec = unlinked.spec.without(&named);
    }
    Some(unlinked)
}

/// What is going and has nothing left, is taken out.
fn finalize(world: &World<'_>, placement: &mut Placement) {
    let documents = world.documents;
    for (key, document) in documents.deleting() {
        let instance = key.namespace.as_str();
        let hold = match &document.spec {
            Spec::Process(process) => {
                let node = Key::within(Kind::Node, instance, &*process.node);
                match world.seen.get(&(instance.to_owned(), process.node.clone())) {
                    // There is nobody left who could confirm it.
                    _ if documents.get(&node).is_none_or(is_forgotten) => None,
                    Some(seen) if seen.is_clean_of(&key.name, document.revision()) => None,
                    Some(seen) if seen.complete => Some(PlaceHold::WaitsFor(node)),
                    Some(_) | None => Some(PlaceHold::NodeUnknown(node)),
                }
            }
            Spec::Service(_) => waits(documents.processes_of(instance, &key.name)),
            Spec::Node(_) => waits(documents.processes_on(instance, &key.name)),
            Spec::Instance(_) => {
                documents.needing(key).next().map(|(needing, _)| PlaceHold::WaitsFor(needing.clone()))
            }
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

/// Whether people said that a node that is being deleted is gone for good.
fn is_forgotten(node: &Arc<Document>) -> bool {
    node.is_deleting() && node.metadata.annotations.contains_key(FORGOTTEN)
}

fn waits<'a>(mut processes: impl Iterator<Item = (&'a Arc<Document>, &'a ProcessSpec)>) -> Option<PlaceHold> {
    processes.next().map(|(process, _)| PlaceHold::WaitsFor(process.key()))
}
