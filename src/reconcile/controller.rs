//! The controller: starts a task a node, and decides over all of them which processes exist.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;

use super::connected::Connected;
use super::deleting;
use super::events::{Events, Said};
use super::gate::Gate;
use super::logs::Logs;
use super::node_task::{self, Assignment, Mode, Revisions, Shared, node_key};
use super::observed::{LinkState, NodeView, Observed};
use super::ping::{Login, Pinger};
use super::target::Common;
use crate::clock::{Clock, timestamp};
use crate::metrics::Metrics;
use crate::model::Spec;
use crate::model::meta::Kind;
use crate::model::{Document, Documents, Key};
use crate::node::link::Connector;
use crate::plan::place::{PlaceAction, PlaceStep, Placement, place};
use crate::plan::render::Surroundings;
use crate::plan::world::{Phase, World};
use crate::state::{Commit, Edit, Epoch, Snapshot, State, StateError, born, deletion, update};

/// How many artifacts are being sent at once, to all nodes together.
const SENDING_AT_ONCE: usize = 32;

/// What a controller works with.
pub struct Parts {
    /// The documents.
    pub state: Arc<State>,
    /// Which controller this is.
    pub epoch: Epoch,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Reaches nodes over SSH.
    pub ssh: Arc<dyn Connector>,
    /// Reaches nodes on this machine.
    pub local: Arc<dyn Connector>,
    /// What reaching a node takes.
    pub common: Common,
    /// Path of our own program, for templates.
    pub program: PathBuf,
    /// Where what is seen is shown.
    pub observed: Observed,
    /// Where what is done is shown.
    pub events: Events,
    /// The one clock.
    pub clock: Clock,
}

/// A running controller.
pub struct Controller {
    shared: Arc<Shared>,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Controller {
    /// Starts to reconcile.
    pub fn start(parts: Parts) -> Controller {
        let Parts { state, epoch, metrics, ssh, local, common, program, observed, events, clock } = parts;
        let shared = Arc::new(Shared {
            state,
            observed,
            connected: Connected::default(),
            ssh,
            local,
            gate: Gate::default(),
            events,
            asked: watch::Sender::default(),
            sending: Semaphore::new(SENDING_AT_ONCE),
            metrics,
            clock,
            epoch,
            revisions: Revisions::default(),
            surroundings: Surroundings { mainstay: program.display().to_string(), root: None },
            common,
        });
        let (mode, receiver) = watch::channel(Mode::Reconcile);
        let task = tokio::spawn(run(Arc::clone(&shared), receiver));
        Controller { shared, mode, task }
    }

    /// Answers whether a node can be logged in to.
    pub fn pinger(&self) -> Arc<dyn Pinger> {
        Arc::new(Login::new(Arc::clone(&self.shared)))
    }

    /// Reads processes' logs.
    pub fn logs(&self) -> Logs {
        let Shared { state, observed, connected, .. } = &*self.shared;
        Logs::new(Arc::clone(state), observed.clone(), connected.clone())
    }

    /// Stops everything on all nodes, for as long as it takes up to a limit. A node that is not reached is not waited for. Answers
    /// the nodes that were not seen clean.
    pub async fn halt(&self, limit: Duration) -> BTreeMap<(String, String), NodeView> {
        self.mode.send_replace(Mode::Halt);
        let mut changes = self.shared.observed.changes();
        let is_clean = |view: &NodeView| {
            view.sighting.complete && view.sighting.processes.values().all(|process| is_over(process.phase))
        };
        let is_down = |view: &NodeView| matches!(view.link, LinkState::Down { .. });
        let nothing_moves = changes.wait_for(|all| all.values().all(|view| is_clean(view) || is_down(view)));
        let _ = tokio::time::timeout(limit, nothing_moves).await;
        let mut left = self.shared.observed.all();
        left.retain(|_, view| !is_clean(view));
        left
    }

    /// Ends, leaving everything on the nodes as it is.
    pub async fn end(self) {
        self.mode.send_replace(Mode::End);
        let _ = self.task.await;
    }
}

const fn is_over(phase: Phase) -> bool {
    match phase {
        Phase::Stopped | Phase::Lost => true,
        Phase::Running | Phase::Backoff | Phase::Stopping | Phase::Unsupervised | Phase::Busy => false,
    }
}

async fn run(shared: Arc<Shared>, mut mode: watch::Receiver<Mode>) {
    let mut snapshots = shared.state.changes();
    let mut sightings = shared.observed.changes();
    let mut tasks: Tasks = BTreeMap::new();
    while *mode.borrow_and_update() != Mode::End {
        let snapshot = snapshots.borrow_and_update().clone();
        sightings.mark_unchanged();
        keep_tasks(&shared, &snapshot, &mode, &mut tasks);
        if *mode.borrow() == Mode::Reconcile {
            match pass(&shared, &snapshot).await {
                Ok(Pass::Going) => {}
                Ok(Pass::Deposed) => {
                    tracing::error!(
                        epoch = shared.epoch.0,
                        "another controller has taken over this store; this one no longer acts"
                    );
                    break;
                }
                Err(error) => {
                    // Nothing is lost: the next pass decides anew. Not at once, for the store may need time.
                    tracing::warn!(error = &error as &dyn std::error::Error, "the placement was not written");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { break },
            changed = sightings.changed() => if changed.is_err() { break },
            changed = mode.changed() => if changed.is_err() { break },
        }
    }
    for (_, running) in tasks {
        if *mode.borrow() == Mode::End {
            let _ = running.task.await;
        } else {
            running.task.abort();
        }
    }
}

/// A node's task, for one document of the node.
struct Running {
    uid: String,
    turn: Arc<Mutex<()>>,
    task: JoinHandle<()>,
}

/// By (instance, node).
type Tasks = BTreeMap<(String, String), Running>;

/// A task for each node that there is, none for others.
fn keep_tasks(shared: &Arc<Shared>, snapshot: &Snapshot, mode: &watch::Receiver<Mode>, tasks: &mut Tasks) {
    for (key, document) in snapshot.documents.of_kind(Kind::Node) {
        let place = (key.namespace.clone(), key.name.clone());
        let uid = &document.metadata.uid;
        let before = tasks.get(&place);
        if before.is_some_and(|running| running.uid == *uid && !running.task.is_finished()) {
            continue;
        }
        let turn = before.map(|running| Arc::clone(&running.turn)).unwrap_or_default();
        let assignment = Assignment { key: key.clone(), uid: uid.clone(), turn: Arc::clone(&turn) };
        let task = tokio::spawn(node_task::run(Arc::clone(shared), assignment, mode.clone()));
        tasks.insert(place, Running { uid: uid.clone(), turn, task });
    }
    // A task whose node is gone ends by itself; waiting for it here would let its link delay all others.
    tasks.retain(|place, running| {
        snapshot.documents.get(&node_key(place)).is_some() || !running.task.is_finished()
    });
}

enum Pass {
    Going,
    Deposed,
}

/// Decides once which processes exist, and writes it.
async fn pass(shared: &Shared, snapshot: &Snapshot) -> Result<Pass, StateError> {
    let views = shared.observed.all();
    let seen = views.iter().map(|(place, view)| (place.clone(), view.sighting.clone())).collect();
    let Placement { steps, holds } = place(&World { documents: &snapshot.documents, seen: &seen });
    shared.metrics.place_passes.inc();
    shared.events.stand(deleting::told(&snapshot.documents, &holds, &views), shared.clock.now_ms());
    if steps.is_empty() {
        return Ok(Pass::Going);
    }
    let now = timestamp();
    let mut edits = Vec::new();
    for PlaceStep { action, reason } in steps {
        tracing::info!(?reason, "{}", named(&action));
        edits.extend(edits_of(&snapshot.documents, action, &now));
    }
    // Many are written in parts, each of which wakes the nodes: what is a node's comes at once, and so in one batch.
    edits.sort_by(|a, b| node_of(a).cmp(&node_of(b)));
    match shared.state.commit(&edits, Some(shared.epoch)).await? {
        Commit::Done => {
            for edit in &edits {
                if let Edit::Remove(document) = edit
                    && document.is_deleting()
                {
                    shared.events.say(deleted(document), shared.clock.now_ms());
                }
            }
            Ok(Pass::Going)
        }
        // Either somebody changed an object, and the snapshot will ring, or we are deposed.
        Commit::Conflict if shared.state.is_newest(shared.epoch).await? => Ok(Pass::Going),
        Commit::Conflict => Ok(Pass::Deposed),
    }
}

/// The instance and the node that a change of a process is for.
fn node_of(edit: &Edit) -> Option<(&str, &str)> {
    let document = edit.document();
    let Spec::Process(process) = &document.spec else { return None };
    Some((document.metadata.namespace.as_str(), process.node.as_str()))
}

fn deleted(document: &Document) -> Said {
    let (regarding, message) = (document.key().to_string(), "nothing of it is left".into());
    Said { regarding, action: "Delete", reason: "Clean", message }
}

/// What a step is in the store. An object that is not there any more needs none.
fn edits_of(documents: &Documents, action: PlaceAction, now: &str) -> Vec<Edit> {
    let found = |key: &Key| documents.get(key).map(|found| Document::clone(found));
    let waiting = |key: &Key| documents.successor(key).map(|found| Document::clone(found));
    match action {
        PlaceAction::Create(document) => vec![Edit::Create(born(*document, now))],
        PlaceAction::MarkDeleting(key) => {
            found(&key).map(|found| deletion(&found, now)).into_iter().collect()
        }
        PlaceAction::Finalize(key) => found(&key).map(Edit::Remove).into_iter().collect(),
        PlaceAction::Unlink(document) => {
            let edit = found(&document.key()).and_then(|found| update(&found, document.spec));
            edit.into_iter().collect()
        }
        PlaceAction::Promote(key) => waiting(&key).map_or_else(Vec::new, |waiting| {
            let mut document = waiting.clone();
            document.metadata.waiting = false;
            vec![Edit::Create(document), Edit::Remove(waiting)]
        }),
        PlaceAction::Drop(key) => waiting(&key).map(Edit::Remove).into_iter().collect(),
    }
}

fn named(action: &PlaceAction) -> String {
    let word = match action {
        PlaceAction::Create(_) => "create",
        PlaceAction::MarkDeleting(_) => "delete",
        PlaceAction::Finalize(_) => "finalize",
        PlaceAction::Unlink(_) => "unlink",
        PlaceAction::Promote(_) => "promote",
        PlaceAction::Drop(_) => "drop",
    };
    format!("{word} {}", action.key())
}
