//! What a pass has looked up: no node is looked up for each of its processes, and no type for each of its services.

use std::collections::BTreeMap;

use super::render::takes_new;
use super::revision::Declarations;
use super::world::{NodeSighting, World};
use crate::model::Document;
use crate::model::meta::{Key, Kind};

/// A node, as documents and sightings say it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near<'a> {
    /// Its document; none when there is none.
    pub(super) document: Option<&'a Document>,
    /// What was seen of it; none when it was not.
    pub(super) seen: Option<&'a NodeSighting>,
}

impl Near<'_> {
    /// Whether there is such a node, and it is not being deleted.
    pub(super) fn is_live(&self) -> bool {
        self.document.is_some_and(|node| !node.is_deleting())
    }

    /// Whether something may be started on it.
    pub(super) fn takes_new(&self) -> bool {
        self.document.is_some_and(takes_new)
    }
}

/// What a pass has looked up.
pub(super) struct Nearby<'a> {
    world: World<'a>,
    /// By instance and node.
    found: BTreeMap<&'a str, BTreeMap<&'a str, Near<'a>>>,
    pub(super) declarations: Declarations<'a>,
}

impl<'a> Nearby<'a> {
    /// Nothing is looked up yet.
    pub(super) fn new(world: World<'a>) -> Nearby<'a> {
        Nearby { world, found: BTreeMap::new(), declarations: Declarations::new(world.documents) }
    }

    /// A node of an instance.
    pub(super) fn node(&mut self, instance: &'a str, node: &'a str) -> Near<'a> {
        let world = self.world;
        *self.found.entry(instance).or_default().entry(node).or_insert_with(|| Near {
            document: world.documents.get(&Key::within(Kind::Node, instance, node)).map(AsRef::as_ref),
            seen: world.seen.get(&(instance.to_owned(), node.to_owned())),
        })
    }
}
