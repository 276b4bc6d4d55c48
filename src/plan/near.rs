//! What a pass has looked up of nodes, so that no node is looked up for each of its processes.

use std::collections::BTreeMap;

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
}

/// The nodes that a pass has looked up.
pub(super) struct Nearby<'a> {
    world: World<'a>,
    /// By (instance, node).
    found: BTreeMap<(&'a str, &'a str), Near<'a>>,
}

impl<'a> Nearby<'a> {
    /// None is looked up yet.
    pub(super) const fn new(world: World<'a>) -> Nearby<'a> {
        Nearby { world, found: BTreeMap::new() }
    }

    /// A node of an instance.
    pub(super) fn node(&mut self, instance: &'a str, node: &'a str) -> Near<'a> {
        let world = self.world;
        *self.found.entry((instance, node)).or_insert_with(|| Near {
            document: world.documents.get(&Key::within(Kind::Node, instance, node)).map(AsRef::as_ref),
            seen: world.seen.get(&(instance.to_owned(), node.to_owned())),
        })
    }
}
