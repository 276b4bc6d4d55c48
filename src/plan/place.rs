//! All nodes together: which Process objects should exist, from which revision each is to run, and which objects that are being deleted
//! can go.
//!
//! **Invariant:** a place of a service is free only when its process is gone from its node, or was given up as the service's `failover`
//! says. So nothing is started elsewhere beside what may still run.
//! **Invariant:** what is taken away by a change, an update or a move, leaves no more processes of a service unavailable than
//! its `update.max-unavailable` says. What is unavailable for another reason counts.

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;

use super::placer::{Earlier, Placer};
use super::standing::ServiceStatus;
use super::world::World;
use crate::model::meta::Key;
use crate::model::{Document, Spec};

/// What to do in the store.
#[derive(Debug, Clone, PartialEq)]
pub enum PlaceAction {
    /// Make a process, or record a revision.
    Create(Box<Document>),
    /// Have a process run from a revision of its service.
    Assign {
        /// The process.
        process: Key,
        /// The revision's number.
        revision: u64,
        /// Since when it has to do its work with it, in milliseconds of the clock that [`World::now_ms`] is; 0 while it should not run.
        at_ms: u64,
    },
    /// Have a process run under another lease, and record for how long it may go on without the controller.
    Lease {
        /// The process.
        process: Key,
        /// Seconds; 0 for none.
        lease: u32,
        /// Milliseconds; 0 when there is no end.
        bound_ms: u64,
    },
    /// Record what became of a revision, in this spec.
    Judge(Box<Document>),
    /// Decide that an object goes; it stays until what it stands for is gone.
    MarkDeleting(Key),
    /// The same of a process whose node does not answer, and its place is free from now on.
    GiveUp(Key),
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
            PlaceAction::Create(document) | PlaceAction::Judge(document) | PlaceAction::Unlink(document) => {
                document.key()
            }
            PlaceAction::Assign { process: key, .. }
            | PlaceAction::Lease { process: key, .. }
            | PlaceAction::MarkDeleting(key)
            | PlaceAction::GiveUp(key)
            | PlaceAction::Finalize(key)
            | PlaceAction::Promote(key)
            | PlaceAction::Drop(key) => key.clone(),
        }
    }

    /// The action in one word.
    pub const fn word(&self) -> &'static str {
        match self {
            PlaceAction::Create(document) if matches!(document.spec, Spec::Revision(_)) => "record",
            PlaceAction::Create(_) => "create",
            PlaceAction::Assign { .. } => "update",
            PlaceAction::Lease { .. } => "lease",
            PlaceAction::Judge(_) => "judge",
            PlaceAction::MarkDeleting(_) => "delete",
            PlaceAction::GiveUp(_) => "give up",
            PlaceAction::Finalize(_) => "finalize",
            PlaceAction::Unlink(_) => "unlink",
            PlaceAction::Promote(_) => "promote",
            PlaceAction::Drop(_) => "drop",
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
    /// Its node is being drained, or no longer has the labels that the service asks for.
    Moved,
    /// Its node has not answered for as long as the service's failover says.
    NodeLost,
    /// Its service says that it runs under another lease, or its node has taken that up.
    Fenced,
    /// What the service's processes are started with changed.
    Changed,
    /// It is this process's turn in the rollout of a change.
    RolledOut,
    /// All processes do their work with it.
    Completed,
    /// A process does not do its work with it.
    Failed,
    /// There are enough later ones.
    Superseded,
    /// What it belongs to is being deleted.
    OwnerDeleted,
    /// Its node was seen without it, or nothing refers to it any more.
    Clean,
    /// What it named is gone.
    Dangling,
    /// What it waited for is gone.
    Awaited,
}

impl PlaceReason {
    /// The reason in one word, as events say it.
    pub const fn word(self) -> &'static str {
        match self {
            PlaceReason::Placed => "Placed",
            PlaceReason::NotPlaced => "NotPlaced",
            PlaceReason::Moved => "Moved",
            PlaceReason::NodeLost => "NodeLost",
            PlaceReason::Fenced => "Fenced",
            PlaceReason::Changed => "Changed",
            PlaceReason::RolledOut => "RolledOut",
            PlaceReason::Completed => "Completed",
            PlaceReason::Failed => "Failed",
            PlaceReason::Superseded => "Superseded",
            PlaceReason::OwnerDeleted => "OwnerDeleted",
            PlaceReason::Clean => "Clean",
            PlaceReason::Dangling => "Dangling",
            PlaceReason::Awaited => "Awaited",
        }
    }
}

impl fmt::Display for PlaceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PlaceReason::Placed => "its service is placed there",
            PlaceReason::NotPlaced => "its service is not placed there",
            PlaceReason::Moved => "it moves away from there",
            PlaceReason::NodeLost => "its node has not answered for too long",
            PlaceReason::Fenced => "it may run in one place only",
            PlaceReason::Changed => "what the service is started with changed",
            PlaceReason::RolledOut => "it is its turn",
            PlaceReason::Completed => "all processes do their work with it",
            PlaceReason::Failed => "a process does not do its work with it",
            PlaceReason::Superseded => "there are enough later ones",
            PlaceReason::OwnerDeleted => "what it belongs to goes",
            PlaceReason::Clean => "nothing of it is left",
            PlaceReason::Dangling => "what it named is gone",
            PlaceReason::Awaited => "what it waited for is gone",
        })
    }
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceHold {
    /// A deletion waits for this.
    WaitsFor(Key),
    /// The next process of a service waits for this one to be gone.
    Occupied(Key),
    /// A deletion waits for the process's node to be seen.
    NodeUnknown(Key),
    /// No node can take the service's processes.
    NoNode {
        /// How many could not be placed.
        missing: u32,
    },
    /// It is to move away from its node, and as many others of its service are unavailable as may be.
    MoveWaits {
        /// The node.
        node: String,
    },
    /// It is to move away from its node, and no other takes it.
    NowhereElse {
        /// The node.
        node: String,
    },
    /// It is to run from another revision, and it is not its turn.
    RolloutWaits {
        /// The revision's number.
        revision: u64,
    },
    /// It is to run from another revision, and nothing is started on its node, so that it would only end.
    RolloutCordoned {
        /// The revision's number.
        revision: u64,
        /// The node.
        node: String,
    },
    /// The rollout was paused by people.
    RolloutPaused {
        /// The revision's number.
        revision: u64,
    },
    /// The rollout has failed, and goes no further.
    RolloutFailed {
        /// The revision's number.
        revision: u64,
        /// What happened.
        why: String,
    },
    /// Its node does not answer; it is started elsewhere when that has lasted for long enough.
    GivesUp {
        /// The node.
        node: String,
        /// When, in milliseconds of the clock that [`World::now_ms`] is.
        at_ms: u64,
    },
    /// Its node does not answer, and it may run there under no lease, so that it is started nowhere else.
    Unfenced {
        /// The node.
        node: String,
    },
    /// Its node does not answer, and nothing is started elsewhere at present.
    Frozen {
        /// The node.
        node: String,
        /// Why not.
        why: Frozen,
    },
}

/// Why no failover is made at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// The controller has just begun to look.
    Settling,
    /// So many nodes are silent at once that it is more likely that we are cut off.
    ManySilent {
        /// Nodes that do not answer.
        silent: usize,
        /// All nodes.
        all: usize,
    },
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Frozen::Settling => f.write_str("the controller has just begun to look"),
            Frozen::ManySilent { silent, all } => {
                write!(
                    f,
                    "{silent} of {all} nodes do not answer, so perhaps it is the controller that is cut off"
                )
            }
        }
    }
}

impl PlaceHold {
    /// Why in one word.
    pub const fn word(&self) -> &'static str {
        match self {
            PlaceHold::WaitsFor(_) => "WaitsFor",
            PlaceHold::Occupied(_) => "Occupied",
            PlaceHold::NodeUnknown(_) => "NodeUnknown",
            PlaceHold::NoNode { .. } => "NoNode",
            PlaceHold::MoveWaits { .. } => "MoveWaits",
            PlaceHold::NowhereElse { .. } => "NowhereElse",
            PlaceHold::RolloutWaits { .. } => "RolloutWaits",
            PlaceHold::RolloutCordoned { .. } => "RolloutCordoned",
            PlaceHold::RolloutPaused { .. } => "RolloutPaused",
            PlaceHold::RolloutFailed { .. } => "RolloutFailed",
            PlaceHold::GivesUp { .. } => "NodeSilent",
            PlaceHold::Unfenced { .. } => "Unfenced",
            PlaceHold::Frozen { .. } => "Frozen",
        }
    }
}

impl fmt::Display for PlaceHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceHold::WaitsFor(key) => write!(f, "its deletion waits for {key}"),
            PlaceHold::Occupied(key) => write!(f, "the next of its processes waits for {key} to be gone"),
            PlaceHold::NodeUnknown(node) => write!(f, "its deletion waits for {node} to be seen"),
            PlaceHold::NoNode { missing } => write!(f, "no node can take {missing} of its processes"),
            PlaceHold::MoveWaits { node } => {
                write!(f, "it moves away from {node} once enough others of its service do their work")
            }
            PlaceHold::NowhereElse { node } => {
                write!(f, "it should move away from {node}, and no other node takes it")
            }
            PlaceHold::RolloutWaits { revision } => {
                write!(f, "it waits for its turn in the rollout of revision {revision}")
            }
            PlaceHold::RolloutCordoned { revision, node } => {
                write!(f, "the rollout of revision {revision} waits for {node} to take new processes again")
            }
            PlaceHold::RolloutPaused { revision } => {
                write!(f, "the rollout of revision {revision} is paused")
            }
            PlaceHold::RolloutFailed { revision, why } => {
                write!(f, "the rollout of revision {revision} has failed: {why}")
            }
            PlaceHold::GivesUp { node, .. } => {
                write!(f, "{node} does not answer; it is started elsewhere if that lasts")
            }
            PlaceHold::Unfenced { node } => {
                write!(
                    f,
                    "{node} does not answer, and may not have taken up that it is fenced, so it is started nowhere else"
                )
            }
            PlaceHold::Frozen { node, why } => {
                write!(f, "{node} does not answer, and nothing is started elsewhere, for {why}")
            }
        }
    }
}

/// What to do in the store now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// In this order.
    pub steps: Vec<PlaceStep>,
    /// By object.
    pub holds: OrdMap<Key, PlaceHold>,
    /// How each service that is not being deleted stands.
    pub services: OrdMap<Key, Arc<ServiceStatus>>,
    /// Why no failover is made at present.
    pub frozen: Option<Frozen>,
    /// When to place again though nothing changes, in milliseconds of the same clock.
    pub wake_at_ms: Option<u64>,
}

impl Placement {
    pub(super) fn step(&mut self, action: PlaceAction, reason: PlaceReason) {
        self.steps.push(PlaceStep { action, reason });
    }

    /// Place again at this time, if nothing changes before.
    pub(super) fn wake_at(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }
}

/// Which Process objects should exist, from which revisions they are to run, and what can be taken out. Looks at everything; who
/// decides again and again has a [`Placer`].
pub fn place(world: &World<'_>) -> Placement {
    Placer::default().place(world, &Earlier::new())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Documents;
    use crate::model::Metadata;
    use crate::model::kinds::{TenantSpec, UserSpec};
    use crate::model::meta::SOURCE;

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
            | PlaceAction::Assign { .. }
            | PlaceAction::Lease { .. }
            | PlaceAction::Judge(_)
            | PlaceAction::MarkDeleting(_)
            | PlaceAction::GiveUp(_)
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
