//! Foresight: what a change of documents does on the nodes, before it is made.
//!
//! The real [`place`](super::place::place), [`orders`](super::orders::orders) and [`plan`](super::node::plan) decide, round after round, on a
//! copy of the world in which every step succeeds at once ([`IdealNode`]) and time goes on to when somebody waits for it, until nothing more
//! is done. That is done twice, with the documents as they are and as they would be. What both do is under way already, whatever is
//! changed, and is told apart as `pending`; the rest is what the change does. So on a world at rest a change of nothing does nothing.
//!
//! What is taken for granted:
//! - A node that does not answer goes on not answering: nothing is done there, and that is told as a hold. One that the change itself
//!   declares is taken to answer, and to be empty, and is marked so: else nobody could foresee a first start.
//! - What is found ill, or ends again and again, stays so until it is started anew, and then it does its work. So a rollout does not fail but
//!   for what can't be started.
//! - What was tried and did not help is tried again and helps: attempts delay steps and change none of them.
//!
//! **Invariant:** pure, as all that decides: the same documents, in whatever order, and the same sightings give the same foresight.
//! **Invariant:** it costs what is concerned (`scope`), not what there is.
//! **Absent here:** artifacts that go because nothing uses them; how long anything takes.

mod course;
mod foresight;
mod ideal;
mod scope;
mod text;
mod why;

use std::collections::BTreeSet;

use super::render::Surroundings;
use super::world::World;
use crate::model::{Documents, Key};

pub use foresight::{Deed, Foresight, Hold, NodeForesight, ObjectHold, ProcessForesight, Sent, Total, Verb};
pub use ideal::IdealNode;
pub use text::text;

use course::Course;
use scope::Scope;

/// The world as it is.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// Its documents, and all else that the decision over all nodes may know.
    pub world: World<'a>,
    /// The revision of these documents.
    pub revision: u64,
    /// What templates may use besides; where each node's directory is, the node has said itself.
    pub surroundings: &'a Surroundings,
}

/// What comes of these documents in the place of those that there are. They are best made by changing a copy of those: then what they have in
/// common costs nothing.
pub fn foresee(present: &Present<'_>, changed: &Documents) -> Foresight {
    let mut scope = Scope::of(present.world.documents, changed);
    loop {
        let before = Course::run(present, present.world.documents, &scope);
        let both = before.and_then(|before| Ok((before, Course::run(present, changed, &scope)?)));
        let Ok((before, after)) = both else {
            // How full nodes are, all services of the instance say.
            scope.widen();
            continue;
        };
        // What is under way on a node can only be told apart where both looked at it.
        let visited =
            |course: &Course<'_>| course.nodes.keys().map(course::node_key).collect::<BTreeSet<_>>();
        let apart: Vec<Key> = visited(&before).symmetric_difference(&visited(&after)).cloned().collect();
        let mut wider = scope.clone();
        if !wider.visit(apart.into_iter()) {
            return foresight::compare(present, &before, &after);
        }
        scope = wider;
    }
}

#[cfg(test)]
mod tests;
