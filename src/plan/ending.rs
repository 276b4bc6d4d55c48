//! What is going, and what that leaves behind: objects that belong to it go too, what is clean is taken out, and what waited takes its
//! place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::place::{PlaceAction, PlaceHold, PlaceReason, PlaceStep, Placement};
use super::world::World;
use crate::model::kinds::ProcessSpec;
use crate::model::meta::{FORGOTTEN, Key, Kind, SOURCE};
use crate::model::{Document, Spec};

/// All of it, in this order.
pub(super) fn end(world: &World<'_>, placement: &mut Placement) {
    cascade(world, placement);
    finalize(world, placement);
    unlink(world, placement);
    succeed(world, placement);
}

/// What belongs to something that is going, goes.
fn cascade(world: &World<'_>, placement: &mut Placement) {
    let documents = world.documents;
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
            })
            || documents.revision(key).is_some_and(|revision| {
                gone(&Key::within(Kind::Service, &*key.namespace, &*revision.service))
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
                    // There is nobody left who could confirm it.
                    _ if documents.get(&node).is_none_or(is_forgotten) => None,
                    Some(seen) if seen.is_clean_of(&key.name, document.revision()) => None,
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

/// Whether people said that a node that is being deleted is gone for good.
fn is_forgotten(node: &Arc<Document>) -> bool {
    node.is_deleting() && node.metadata.annotations.contains_key(FORGOTTEN)
}

fn waits<'a>(mut processes: impl Iterator<Item = (&'a Arc<Document>, &'a ProcessSpec)>) -> Option<PlaceHold> {
    processes.next().map(|(process, _)| PlaceHold::WaitsFor(process.key()))
}
