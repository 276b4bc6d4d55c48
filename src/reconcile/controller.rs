//! The controller: while this server leads, a task a node, and one that decides over all of them which processes exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::connected::Connected;
use super::deleting;
use super::events::{Events, Said};
use super::gate::Gate;
use super::leadership::Tenure;
use super::logs::Logs;
use super::node_task::{self, Assignment, Mode, Reign, Revisions, Shared, node_key};
use super::observed::{LinkState, NodeView, Observed, Views};
use super::ping::{Login, Pinger};
use super::placed::Placed;
use super::target::Common;
use super::tries::Tries;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::Spec;
use crate::model::meta::Kind;
use crate::model::{Document, Documents, Key};
use crate::node::link::Connector;
use crate::plan::orders::orders;
use crate::plan::place::{PlaceAction, PlaceHold, PlaceReason, PlaceStep, Placement};
use crate::plan::placer::{Earlier, Placer};
use crate::plan::render::Surroundings;
use crate::plan::world::{Freeze, Orders, World};
use crate::plan::written::{Write, write};
use crate::state::leader::Term;
use crate::state::{Commit, Edit, Snapshot, State, StateError, born};

/// How many artifacts are being sent at once, to all nodes together.
const SENDING_AT_ONCE: usize = 32;

/// How long tasks may take to end: when we are told to, and when the lease is about to be another's.
const END_WITHIN: Duration = Duration::from_secs(10);
const LOSE_WITHIN: Duration = Duration::from_secs(1);

/// What a controller works with.
pub struct Parts {
    /// The documents.
    pub state: Arc<State>,
    /// The times in which this server leads; it acts in no others.
    pub tenures: watch::Receiver<Option<Tenure>>,
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
    /// Where what is decided over all nodes is shown.
    pub placed: Placed,
    /// When nothing is started elsewhere though its node does not answer.
    pub freeze: Freeze,
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
    /// Reconciles from now on, whenever this server leads.
    pub fn start(parts: Parts) -> Controller {
        let Parts {
            state,
            tenures,
            metrics,
            ssh,
            local,
            common,
            program,
            observed,
            placed,
            freeze,
            events,
            clock,
        } = parts;
        let shared = Arc::new(Shared {
            state,
            observed,
            placed,
            freeze,
            connected: Connected::default(),
            ssh,
            local,
            gate: Gate::default(),
            events,
            asked: watch::Sender::default(),
            sending: Semaphore::new(SENDING_AT_ONCE),
            metrics,
            clock,
            revisions: Revisions::default(),
            surroundings: Surroundings { mainstay: program.display().to_string(), root: None },
            common,
            orders: watch::Sender::default(),
            tries: Tries::default(),
        });
        let (mode, receiver) = watch::channel(Mode::Reconcile);
        let task = tokio::spawn(run(Arc::clone(&shared), tenures, receiver));
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
    pub async fn halt(&self, limit: Duration) -> Views {
        self.mode.send_replace(Mode::Halt);
        let mut changes = self.shared.observed.changes();
        let is_clean = |view: &NodeView| {
            view.sighting.complete && view.sighting.processes.values().all(|process| process.phase.is_over())
        };
        let is_down = |view: &NodeView| matches!(view.link, LinkState::Down { .. });
        let nothing_moves = changes.wait_for(|all| all.values().all(|view| is_clean(view) || is_down(view)));
        let _ = tokio::time::timeout(limit, nothing_moves).await;
        self.shared.observed.all().into_iter().filter(|(_, view)| !is_clean(view)).collect()
    }

    /// Ends, leaving everything on the nodes as it is.
    pub async fn end(self) {
        self.mode.send_replace(Mode::End);
        let _ = self.task.await;
    }
}

async fn run(
    shared: Arc<Shared>,
    mut tenures: watch::Receiver<Option<Tenure>>,
    mut mode: watch::Receiver<Mode>,
) {
    loop {
        let tenure = tenures.borrow_and_update().clone();
        if let Some(tenure) = tenure {
            let mut tasks = Tasks::new();
            let reign = Reign { tenure, mode: mode.clone() };
            tokio::select! {
                biased;
                () = over(reign.tenure.clone()) => {}
                () = reconcile(&shared, &reign, &mut tasks) => {}
                () = shared.tries.keep(&shared.state, reign.tenure.term) => {}
            }
            let is_end = *mode.borrow() == Mode::End;
            end(tasks, if is_end { END_WITHIN } else { LOSE_WITHIN }).await;
            shared.observed.clear();
            shared.placed.clear();
            // Of who does not lead nobody takes orders, and a later time begins without any.
            shared.orders.send_replace(Orders::default());
            shared.tries.clear();
            // What deletions wait for is for the next leader to say.
            shared.events.stand(BTreeSet::new(), shared.clock.now_ms());
        }
        if *mode.borrow_and_update() == Mode::End {
            return;
        }
        tokio::select! {
            biased;
            changed = tenures.changed() => if changed.is_err() { return },
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

async fn over(mut tenure: Tenure) {
    tenure.over().await;
}

/// Waits for tasks to end by themselves, and then no longer.
async fn end(tasks: Tasks, within: Duration) {
    let until = Instant::now() + within;
    let all = tasks.into_values().flat_map(|Running { task, mut earlier, .. }| {
        earlier.push(task);
        earlier
    });
    for mut task in all {
        if timeout_at(until, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Reconciles until told to end, or until the store says that another one leads.
async fn reconcile(shared: &Arc<Shared>, reign: &Reign, tasks: &mut Tasks) {
    let mut snapshots = shared.state.changes();
    let mut sightings = shared.observed.changes();
    let mut mode = reign.mode.clone();
    // What an earlier leader did, it did by documents that our watch may not have told of yet: by older ones we would undo it.
    tokio::select! {
        biased;
        _ = mode.wait_for(|mode| *mode == Mode::End) => return,
        () = catch_up(shared) => {}
    }
    let since_ms = shared.clock.now_ms();
    let mut known = Known::default();
    while *mode.borrow_and_update() != Mode::End {
        let snapshot = snapshots.borrow_and_update().clone();
        sightings.mark_unchanged();
        if known.has_other_nodes(&snapshot.documents) || has_ended(tasks) {
            keep_tasks(shared, &snapshot, reign, tasks);
        }
        let now = *mode.borrow();
        let views = shared.observed.all();
        let world = World {
            documents: &snapshot.documents,
            seen: &views,
            now_ms: shared.clock.now_ms(),
            since_ms,
            freeze: shared.freeze,
        };
        let mut wake_at_ms = order(shared, &snapshot, &world, now);
        if now == Mode::Reconcile {
            match pass(shared, &world, &views, &mut known, reign.tenure.term).await {
                Ok(Pass::Going { wake_at_ms: at_ms }) => {
                    wake_at_ms = [wake_at_ms, at_ms].into_iter().flatten().min();
                }
                Ok(Pass::Deposed) => {
                    tracing::error!(
                        epoch = reign.tenure.term.epoch.0,
                        "another server leads; this one no longer acts"
                    );
                    return;
                }
                Err(error) => {
                    // Nothing is lost: the next pass decides anew, though nothing may ring for it. Not at once, for the store may
                    // need time.
                    tracing::warn!(error = &error as &dyn std::error::Error, "the placement was not written");
                    sleep(Duration::from_secs(1)).await;
                    // It may have been written all the same, and our watch may not have told of it yet: what was given up in it must
                    // not be started where it was.
                    tokio::select! {
                        biased;
                        _ = mode.wait_for(|mode| *mode == Mode::End) => return,
                        () = read_documents(&shared.state) => {}
                    }
                    continue;
                }
            }
        }
        tokio::select! {
            biased;
            changed = snapshots.changed() => if changed.is_err() { return },
            changed = sightings.changed() => if changed.is_err() { return },
            changed = mode.changed() => if changed.is_err() { return },
            () = time_comes(&shared.clock, wake_at_ms) => {}
        }
        // The nodes' tasks are rung by the same bells. What they say of it at once is taken together with it, for less writes.
        tokio::task::yield_now().await;
    }
}

/// Waits until the documents are known as they are now, and what the leader before has tried in vain.
async fn catch_up(shared: &Shared) {
    read_documents(&shared.state).await;
    loop {
        match shared.state.tries().await {
            Ok(tries) => return shared.tries.begin(tries, &shared.state.snapshot().documents),
            Err(error) => wait_after(&error).await,
        }
    }
}

/// Waits until the documents are known as they are now.
async fn read_documents(state: &State) {
    while let Err(error) = state.catch_up().await {
        wait_after(&error).await;
    }
}

/// Waits until what could not be read may be tried again.
async fn wait_after(error: &StateError) {
    tracing::warn!(error = error as &dyn std::error::Error, "this server leads and can't read the documents");
    sleep(Duration::from_secs(1)).await;
}

/// Waits for a time; for ever when there is none.
async fn time_comes(clock: &Clock, at_ms: Option<u64>) {
    match at_ms {
        Some(at_ms) => sleep(Duration::from_millis(at_ms.saturating_sub(clock.now_ms()))).await,
        None => std::future::pending().await,
    }
}

/// Decides what has to wait for what on other nodes, and tells the nodes' tasks when that is news. Answers when it has to be decided
/// again though nothing changes.
fn order(shared: &Shared, snapshot: &Snapshot, world: &World<'_>, mode: Mode) -> Option<u64> {
    let (orders, wake_at_ms) = orders(world, snapshot.revision, mode == Mode::Halt);
    shared.orders.send_if_modified(|before| {
        let is_news = *before != orders;
        *before = orders;
        is_news
    });
    wake_at_ms
}

/// What is known of the times before, since this server has led.
#[derive(Default)]
struct Known {
    /// The documents of which every node has a task; none at the beginning.
    tasks: Option<Documents>,
    placer: Placer,
    /// What the placer saw last.
    views: Views,
}

impl Known {
    /// Whether there are other nodes than before, or other documents of them.
    fn has_other_nodes(&mut self, documents: &Documents) -> bool {
        let before = self.tasks.replace(documents.clone());
        let is_other =
            |before: &Documents| documents.changes_since(before).any(|change| change.key.kind == Kind::Node);
        before.as_ref().is_none_or(is_other)
    }

    /// Decides on what has changed since the last time.
    fn place(&mut self, world: &World<'_>, views: &Views) -> Placement {
        let before = std::mem::replace(&mut self.views, views.clone());
        let changes = before.diff(views).filter_map(|item| match item {
            DiffItem::Add(place, _) => Some((place.clone(), None)),
            DiffItem::Update { old: (place, old), new: (_, new) } => {
                (old.sighting != new.sighting).then(|| (place.clone(), Some(&old.sighting)))
            }
            DiffItem::Remove(place, old) => Some((place.clone(), Some(&old.sighting))),
        });
        let earlier: Earlier<'_> = changes.collect();
        self.placer.place(world, &earlier)
    }
}

/// Whether some node's task has ended.
fn has_ended(tasks: &Tasks) -> bool {
    tasks.values().any(|running| running.task.is_finished())
}

/// A node's task, for one document of the node.
struct Running {
    uid: String,
    turn: Arc<Mutex<()>>,
    task: JoinHandle<()>,
    /// Those for earlier documents of the node that have not ended yet.
    earlier: Vec<JoinHandle<()>>,
}

/// By (instance, node).
type Tasks = BTreeMap<(String, String), Running>;

/// A task for each node that there is, none for others.
fn keep_tasks(shared: &Arc<Shared>, snapshot: &Snapshot, reign: &Reign, tasks: &mut Tasks) {
    for (key, document) in snapshot.documents.of_kind(Kind::Node) {
        let place = (key.namespace.clone(), key.name.clone());
        let uid = &document.metadata.uid;
        let before = tasks.get(&place);
        if before.is_some_and(|running| running.uid == *uid && !running.task.is_finished()) {
            continue;
        }
        let (turn, mut earlier) = match tasks.remove(&place) {
            Some(Running { turn, task, mut earlier, .. }) => {
                earlier.push(task);
                (turn, earlier)
            }
            None => (Arc::default(), Vec::new()),
        };
        earlier.retain(|task| !task.is_finished());
        let assignment = Assignment { key: key.clone(), uid: uid.clone(), turn: Arc::clone(&turn) };
        let task = tokio::spawn(node_task::run(Arc::clone(shared), assignment, reign.clone()));
        tasks.insert(place, Running { uid: uid.clone(), turn, task, earlier });
    }
    // A task whose node is gone ends by itself; waiting for it here would let its link delay all others.
    tasks.retain(|place, running| {
        snapshot.documents.get(&node_key(place)).is_some() || !running.task.is_finished()
    });
}

enum Pass {
    Going {
        /// When to decide again though nothing changes.
        wake_at_ms: Option<u64>,
    },
    Deposed,
}

/// Decides once which processes exist, and writes it.
async fn pass(
    shared: &Shared,
    world: &World<'_>,
    views: &Views,
    known: &mut Known,
    term: Term,
) -> Result<Pass, StateError> {
    let placement = known.place(world, views);
    shared.metrics.place_passes.inc();
    shared.placed.set(&placement, world.now_ms);
    let mut standing = deleting::told(world.documents, &placement.holds, views);
    standing.extend(told(&placement));
    shared.events.stand(standing, world.now_ms);
    let Placement { steps, wake_at_ms, .. } = placement;
    let going = Pass::Going { wake_at_ms };
    if steps.is_empty() {
        return Ok(going);
    }
    let now = shared.clock.timestamp();
    let mut edits = Vec::new();
    let mut said = Vec::new();
    for PlaceStep { action, reason } in steps {
        tracing::info!(%reason, "{} {}", action.word(), action.key());
        said.extend(done(&action, reason));
        edits.extend(edits_of(world.documents, action, &now));
    }
    // Many are written in parts, each of which wakes the nodes: what is a node's comes at once, and so in one batch.
    edits.sort_by(|a, b| node_of(a).cmp(&node_of(b)));
    match shared.state.commit(&edits, Some(term)).await? {
        Commit::Done => {
            for said in said {
                shared.events.say(said, shared.clock.now_ms());
            }
            for edit in &edits {
                if let Edit::Remove(document) = edit
                    && document.is_deleting()
                {
                    shared.events.say(deleted(document), shared.clock.now_ms());
                }
            }
            Ok(going)
        }
        // Either somebody changed an object, and the snapshot will ring, or we are deposed.
        Commit::Conflict if shared.state.is_present(term).await? => Ok(going),
        Commit::Conflict => Ok(Pass::Deposed),
    }
}

/// The instance and the node that a change of a process is for.
fn node_of(edit: &Edit) -> Option<(&str, &str)> {
    let document = edit.document();
    let Spec::Process(process) = &document.spec else { return None };
    Some((document.metadata.namespace.as_str(), process.node.as_str()))
}

/// What people should hear of a step, where it is more than what they asked for.
fn done(action: &PlaceAction, reason: PlaceReason) -> Option<Said> {
    let (key, word, message) = match action {
        PlaceAction::Assign { process, revision, at_ms: _ } => {
            (process.clone(), "Update", format!("to revision {revision}"))
        }
        PlaceAction::GiveUp(key) => (key.clone(), "GiveUp", "another one takes its place".to_owned()),
        PlaceAction::MarkDeleting(key) if reason == PlaceReason::Moved => {
            (key.clone(), "Move", "another one takes its place once it is gone".to_owned())
        }
        PlaceAction::Judge(document) => {
            let Spec::Revision(revision) = &document.spec else { return None };
            let key = Key::within(Kind::Service, &*document.metadata.namespace, &*revision.service);
            let (number, back) = (revision.number, revision.replaced_by);
            let message = match (&revision.failed, back) {
                (Some(why), Some(back)) => format!("revision {number}: {why}; back to revision {back}"),
                (Some(why), None) => format!("revision {number}: {why}"),
                (None, _) if revision.completed => format!("revision {number} is everywhere"),
                (None, _) => return None,
            };
            (key, "Rollout", message)
        }
        PlaceAction::Create(_)
        | PlaceAction::Lease { .. }
        | PlaceAction::MarkDeleting(_)
        | PlaceAction::Finalize(_)
        | PlaceAction::Unlink(_)
        | PlaceAction::Promote(_)
        | PlaceAction::Drop(_) => return None,
    };
    Some(Said { regarding: key.to_string(), action: word, reason: reason.word(), message })
}

/// What is so at present and people should know.
fn told(placement: &Placement) -> impl Iterator<Item = Said> {
    placement.holds.iter().filter_map(|(key, hold)| {
        let (action, reason) = match hold {
            PlaceHold::GivesUp { .. } => ("Failover", "NodeSilent"),
            PlaceHold::Unfenced { .. } => ("Failover", "Unfenced"),
            PlaceHold::Frozen { .. } => ("Failover", "Frozen"),
            PlaceHold::NowhereElse { .. } => ("Move", "NowhereElse"),
            PlaceHold::NoNode { .. } => ("Place", "NoNode"),
            PlaceHold::WaitsFor(_)
            | PlaceHold::Occupied(_)
            | PlaceHold::NodeUnknown(_)
            | PlaceHold::MoveWaits { .. }
            | PlaceHold::RolloutWaits { .. }
            | PlaceHold::RolloutCordoned { .. }
            | PlaceHold::RolloutPaused { .. }
            | PlaceHold::RolloutFailed { .. } => return None,
        };
        Some(Said { regarding: key.to_string(), action, reason, message: hold.to_string() })
    })
}

fn deleted(document: &Document) -> Said {
    let (regarding, message) = (document.key().to_string(), "nothing of it is left".into());
    Said { regarding, action: "Delete", reason: "Clean", message }
}

/// What a step is in the store. An object that is not there any more needs none.
fn edits_of(documents: &Documents, action: PlaceAction, now: &str) -> Vec<Edit> {
    match write(documents, action, now) {
        Some(Write::Create(document)) => vec![Edit::Create(born(document, now))],
        Some(Write::Promote(waiting)) => {
            let mut document = waiting.clone();
            document.metadata.waiting = false;
            vec![Edit::Create(document), Edit::Remove(waiting)]
        }
        Some(Write::Replace(document)) => vec![Edit::Replace(document)],
        Some(Write::Remove(document)) => vec![Edit::Remove(document)],
        None => Vec::new(),
    }
}
