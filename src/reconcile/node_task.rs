//! One node's task: connect, look, plan, send a batch, hear how it went, and again whenever something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::connected::{Connected, Reach};
use super::events::{Events, Said};
use super::gate::Gate;
use super::leadership::Tenure;
use super::observed::{LinkState, NodeView, Observed};
use super::placed::Placed;
use super::target::{self, Common};
use super::transfer::{Delivered, Transfer};
use super::tries::Tries;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::artifact::check_digest;
use crate::model::kinds::{NodeSpec, Transport};
use crate::model::meta::{Key, Kind};
use crate::model::{Document, Documents, Spec};
use crate::node::link::{Connector, Link, LinkError};
use crate::node::protocol;
use crate::plan::backoff::{Waits, wait_ms};
use crate::plan::node::plan;
use crate::plan::render::{Surroundings, desired};
use crate::plan::step::{Aim, Delivery, NodePlan, Step};
use crate::plan::touched::touched;
use crate::plan::world::{Freeze, NodeDesired, NodeWorld, Orders, Phase, ProcessSighting};
use crate::state::tries::{LoginTried, NodeTries, Tried};
use crate::state::{Snapshot, State};

mod mind;
mod renewals;

use mind::{BUNDLE, Mind, Moment, Told, short};

/// How often a quiet node is asked for everything. Changes are told unasked; this finds what nobody could tell, such as a
/// killed supervisor, and a link that is dead without saying so.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How long a node may take to answer. A batch may wait 10 s for the node's lock and 5 s for its supervisors.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long a node is still heard of what was sent to it, when another server is about to lead. Nothing more is sent.
const HEARD_OUT_WITHIN: Duration = Duration::from_millis(200);

/// Before a connection is tried again.
const RECONNECT: Waits = Waits { first_ms: 250, longest_ms: 30_000 };

/// The same where trying again won't help by itself and may lock an account.
const RECONNECT_REFUSED: Waits = Waits { first_ms: 5_000, longest_ms: 300_000 };

/// How often people are told how far a transfer is.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What all nodes' tasks share.
pub(super) struct Shared {
    pub(super) state: Arc<State>,
    pub(super) observed: Observed,
    pub(super) placed: Placed,
    pub(super) freeze: Freeze,
    pub(super) connected: Connected,
    pub(super) ssh: Arc<dyn Connector>,
    pub(super) local: Arc<dyn Connector>,
    /// Bounds how many connections are being opened at once.
    pub(super) gate: Gate,
    /// Bounds how many artifacts are being sent at once.
    pub(super) sending: Semaphore,
    pub(super) events: Events,
    /// How often people asked to connect to a node now, by node.
    pub(super) asked: watch::Sender<BTreeMap<Key, u64>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) surroundings: Surroundings,
    pub(super) common: Common,
    pub(super) revisions: Revisions,
    /// What was decided over all nodes.
    pub(super) orders: watch::Sender<Orders>,
    /// What fails on nodes, for a later leader.
    pub(super) tries: Tries,
}

impl Shared {
    pub(super) fn connector(&self, transport: Transport) -> &Arc<dyn Connector> {
        match transport {
            Transport::Ssh => &self.ssh,
            Transport::Local => &self.local,
        }
    }
}

/// Gives batches their revisions. One count for all nodes and for the whole life of the controller, over all times that it leads: a node
/// that is deleted and declared again has another task, and goes on refusing what is older than the last that it heard.
#[derive(Debug, Default)]
pub(super) struct Revisions(AtomicU64);

impl Revisions {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What the controller wants of all tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Bring the nodes to what the documents say.
    Reconcile,
    /// Stop everything on the nodes.
    Halt,
    /// Leave everything as it is, and end.
    End,
}

/// In which time, and to what end, a task acts.
#[derive(Clone)]
pub(super) struct Reign {
    /// It acts only while this holds.
    pub(super) tenure: Tenure,
    /// What is wanted of it.
    pub(super) mode: watch::Receiver<Mode>,
}

/// Which node a task is for, and its turn: a later node of the same name has a task of its own, which begins when this one is over.
pub(super) struct Assignment {
    /// The node.
    pub(super) key: Key,
    /// The uid of its document.
    pub(super) uid: String,
    /// Held for as long as the task runs.
    pub(super) turn: Arc<Mutex<()>>,
}

/// Runs until the mode is [`Mode::End`], the tenure is over, or the node's document is gone.
pub(super) async fn run(shared: Arc<Shared>, assignment: Assignment, reign: Reign) {
    let Assignment { key, uid, turn } = assignment;
    let Reign { tenure, mode } = reign;
    let _turn = turn.lock_owned().await;
    let place = (key.namespace.clone(), key.name.clone());
    let view = NodeView::default();
    let mut task = NodeTask {
        snapshot: shared.state.changes(),
        asked: shared.asked.subscribe(),
        orders: shared.orders.subscribe(),
        mind: Mind::default(),
        down_since_ms: None,
        times_asked: None,
        rendered: None,
        transfer: None,
        refused: None,
        shared,
        key,
        uid,
        place,
        tenure,
        mode,
        view,
    };
    task.run().await;
    task.shared.observed.forget(&task.place);
    if task.spec().is_none() {
        task.shared.tries.tell(&task.place, NodeTries::default());
        // A later node of that name may be another machine.
        if let Err(error) = task.shared.ssh.forget_host_key(&target::name_of(&task.key)) {
            tracing::warn!(node = %task.key, %error, "its host key could not be forgotten");
        }
    }
}

struct NodeTask {
    shared: Arc<Shared>,
    key: Key,
    uid: String,
    place: (String, String),
    snapshot: watch::Receiver<Snapshot>,
    asked: watch::Receiver<BTreeMap<Key, u64>>,
    orders: watch::Receiver<Orders>,
    tenure: Tenure,
    mode: watch::Receiver<Mode>,
    mind: Mind,
    view: NodeView,
    down_since_ms: Option<u64>,
    times_asked: Option<u64>,
    rendered: Option<Rendered>,
    /// The artifact that is being sent.
    transfer: Option<Transfer>,
    /// That the node refuses our login.
    refused: Option<LoginTried>,
}

/// What should be on a node, and what that was made from.
struct Rendered {
    documents: Documents,
    mode: Mode,
    /// The node's directory.
    root: Option<String>,
    desired: NodeDesired,
}

impl Rendered {
    /// Makes the same of later documents, when it would be the same.
    fn carry_over(
        self,
        node: &Key,
        documents: &Documents,
        mode: Mode,
        root: Option<&str>,
    ) -> Option<Rendered> {
        let is_same = self.mode == mode
            && self.root.as_deref() == root
            && !touched(&self.documents, documents).contains(node);
        is_same.then(|| Rendered { documents: documents.clone(), ..self })
    }
}

/// A connection that is counted for as long as it is there, however it ends.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Counted {
        metrics.nodes_connected.inc();
        Counted(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.nodes_connected.dec();
    }
}

/// Why a conversation ended.
enum Ending {
    /// We are to end.
    Asked,
    /// The node's document changed, so that it has to be reached another way.
    Moved,
}

impl NodeTask {
    async fn run(&mut self) {
        let mut failures = self.take_over().await;
        while !self.is_over() {
            let Some(spec) = self.spec() else { return };
            match self.connect_and_converse(&spec, &mut failures).await {
                Ok(Ending::Asked) => return,
                Ok(Ending::Moved) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let wait = reconnect_wait(&error, failures, &target::name_of(&self.key));
                    self.note_refusal(&error, failures, wait);
                    self.show_down(&error, failures, wait);
                    if self.wait_or_moved(wait, &spec).await {
                        failures = 0;
                    }
                }
            }
        }
    }

    /// Goes on waiting where an earlier leader was. Answers how often the node has refused our login.
    ///
    /// A node that could not be reached is tried at once: what one server does not reach another may, and to look costs the node
    /// nothing. A login that is refused again and again may lock the account.
    async fn take_over(&mut self) -> u32 {
        let NodeTries { login, steps, .. } = self.shared.tries.of(&self.place, &self.uid);
        let now = self.moment();
        self.mind.take_over(steps, now);
        let generation = self.generation();
        self.refused = login.filter(|login| generation == Some(login.generation));
        let (Some(LoginTried { tried, .. }), Some(spec)) = (self.refused.clone(), self.spec()) else {
            return 0;
        };
        let left_ms = tried.left_ms(now.time_of_day_ms, RECONNECT_REFUSED.longest_ms);
        if left_ms > 0 {
            let wait = Duration::from_millis(left_ms);
            self.show_down(&LinkError::AuthFailed(tried.why.unwrap_or_default()), tried.tries, wait);
            if self.wait_or_moved(wait, &spec).await {
                return 0;
            }
        }
        tried.tries
    }

    /// Notes a refused login, for later leaders; whatever else keeps us from the node says nothing of its login.
    fn note_refusal(&mut self, error: &LinkError, tries: u32, wait: Duration) {
        if let (LinkError::AuthFailed(why), Some(generation)) = (error, self.generation()) {
            let at_ms = self.shared.clock.time_of_day_ms();
            let next_ms = at_ms.saturating_add(milliseconds(wait));
            let tried = Tried { tries, at_ms, next_ms, why: Some(short(why)) };
            self.refused = Some(LoginTried { generation, tried });
        }
    }

    /// Says what fails here, for later leaders.
    fn tell_tries(&self) {
        let tries =
            NodeTries { uid: self.uid.clone(), login: self.refused.clone(), steps: self.mind.failing() };
        self.shared.tries.tell(&self.place, tries);
    }

    fn is_over(&self) -> bool {
        *self.mode.borrow() == Mode::End || !self.tenure.holds()
    }

    /// Hears how what is on its way ends, as far as the node has said it or is about to.
    async fn hear_out(&mut self, link: &mut dyn Link) -> Result<Ending, LinkError> {
        self.transfer = None;
        let until = Instant::now() + HEARD_OUT_WITHIN;
        while let Ok(line) = timeout_at(until, link.next()).await {
            let now = self.moment();
            self.mind.hear(line?, now)?;
        }
        Ok(Ending::Asked)
    }

    fn moment(&self) -> Moment {
        let clock = &self.shared.clock;
        Moment { at: Instant::now(), ms: clock.now_ms(), time_of_day_ms: clock.time_of_day_ms() }
    }

    fn document(&self) -> Option<Arc<Document>> {
        let snapshot = self.snapshot.borrow();
        snapshot.documents.get(&self.key).filter(|found| found.metadata.uid == self.uid).cloned()
    }

    fn spec(&self) -> Option<NodeSpec> {
        if let Spec::Node(node) = &self.document()?.spec { Some(node.clone()) } else { None }
    }

    fn generation(&self) -> Option<u64> {
        Some(self.document()?.metadata.generation)
    }

    async fn connect_and_converse(
        &mut self,
        spec: &NodeSpec,
        failures: &mut u32,
    ) -> Result<Ending, LinkError> {
        let shared = Arc::clone(&self.shared);
        // What is asked from here on is not answered by this try.
        self.times_asked = self.asked.borrow_and_update().get(&self.key).copied();
        let target = shared.common.target(&self.key, spec).await?;
        let connector = shared.connector(spec.transport);
        let mut link = match shared.gate.pass(connector.connect(&target)).await {
            Ok(link) => link,
            Err(error) => {
                shared.metrics.connect_failures.inc();
                return Err(error);
            }
        };
        shared.metrics.connects.inc();
        let counted = Counted::new(&shared.metrics);
        let reach = Reach { sides: link.sides(), root: target.root.clone() };
        let told = shared.connected.tell(&self.place, reach);
        let result = self.converse(&mut *link, &target.root, spec, failures).await;
        drop((told, counted));
        // What was seen stays as the last that is known; nothing is concluded from it any more.
        self.mind.unseen(shared.clock.now_ms());
        self.transfer = None;
        self.mind.lost();
        self.tell();
        link.close().await;
        result
    }

    async fn converse(
        &mut self,
        link: &mut dyn Link,
        root: &str,
        spec: &NodeSpec,
        failures: &mut u32,
    ) -> Result<Ending, LinkError> {
        // A revision of its own: a batch of the conversation before that is still on its way is refused from here on.
        let revision = self.shared.revisions.next();
        let epoch = self.tenure.term.epoch.0;
        self.mind.begin(epoch, revision, Instant::now());
        send(link, &protocol::open(root, epoch, revision)).await?;
        loop {
            if !self.tenure.holds() {
                return self.hear_out(link).await;
            }
            if self.is_over() {
                return Ok(Ending::Asked);
            }
            if self.spec().is_none_or(|now| reaches_differently(&now, spec)) {
                return Ok(Ending::Moved);
            }
            let mut wake_at_ms = None;
            if self.mind.can_plan() {
                *failures = 0;
                self.down_since_ms = None;
                self.refused = None;
                let plan = self.plan();
                wake_at_ms = plan.wake_at_ms;
                self.keep_transfer(link, plan.deliveries);
                if !plan.steps.is_empty() {
                    self.send_batch(link, plan.steps).await?;
                }
            }
            self.show();

            let now = Instant::now();
            let timer = self.mind.next_deadline(now).min(match wake_at_ms {
                Some(at) => now + Duration::from_millis(at.saturating_sub(self.shared.clock.now_ms())),
                None => now + LOOK_EVERY,
            });
            let timer = if self.transfer.is_some() { timer.min(now + PROGRESS_EVERY) } else { timer };
            // What is rare comes first, then what the node says, of which there may be much at any time. Last the bell of the
            // documents: those are read in every round, whoever rang.
            tokio::select! {
                biased;
                () = self.tenure.over() => {}
                changed = self.mode.changed() => {
                    if changed.is_err() { return Ok(Ending::Asked); }
                }
                (address, result) = ended(&mut self.transfer) => {
                    self.transfer = None;
                    self.delivered(address, result);
                }
                () = sleep_until(timer) => {
                    // A lease is renewed only by who leads, and that is asked as late as can be.
                    if let Some(text) = self.mind.tick(Instant::now())? && self.tenure.holds() {
                        send(link, &text).await?;
                    }
                }
                line = link.next() => {
                    let now = self.moment();
                    self.mind.hear(line?, now)?;
                    // What was said together is taken together: no plan on half of it.
                    while let Some(line) = link.next().now_or_never() {
                        self.mind.hear(line?, now)?;
                    }
                    self.tell();
                }
                changed = self.orders.changed() => {
                    if changed.is_err() { return Ok(Ending::Asked); }
                }
                changed = self.snapshot.changed() => {
                    if changed.is_err() { return Ok(Ending::Asked); }
                }
            }
        }
    }

    fn plan(&mut self) -> NodePlan {
        let mode = *self.mode.borrow();
        let snapshot = self.snapshot.borrow_and_update().clone();
        let root = self.mind.sighting.root.as_deref();
        let carried = self
            .rendered
            .take()
            .and_then(|rendered| rendered.carry_over(&self.key, &snapshot.documents, mode, root));
        let rendered = carried.unwrap_or_else(|| self.render(snapshot.documents, mode));
        let desired = &self.rendered.insert(rendered).desired;
        self.mind.stock.sending =
            self.transfer.as_ref().map(|transfer| (transfer.address().to_owned(), transfer.sent()));
        let now_ms = self.shared.clock.now_ms();
        let (given, none) = (self.orders.borrow_and_update(), Orders::default());
        // Orders for another mode are none.
        let orders = if given.halt == (mode == Mode::Halt) { &*given } else { &none };
        let world = NodeWorld {
            now_ms,
            desired,
            seen: &self.mind.sighting,
            attempts: &self.mind.attempts,
            stock: &self.mind.stock,
            place: &self.place,
            orders,
        };
        let plan = plan(&world);
        self.shared.metrics.node_passes.inc();
        self.mind.settle(&plan, desired, now_ms);
        self.view.holds = plan.holds.clone();
        self.mind.sighting.planned = snapshot.revision;
        self.mind.sighting.behind.clone_from(&plan.behind);
        self.view.settled = plan.steps.is_empty() && plan.holds.is_empty();
        plan
    }

    fn render(&self, documents: Documents, mode: Mode) -> Rendered {
        let root = self.mind.sighting.root.clone();
        let surroundings = Surroundings { root: root.clone(), ..self.shared.surroundings.clone() };
        let mut desired = desired(&documents, &self.key, &surroundings);
        if mode == Mode::Halt {
            desired.bundle = None;
            for process in desired.processes.values_mut() {
                process.running = false;
            }
        }
        Rendered { documents, mode, root, desired }
    }

    /// Sends what is to be sent, one after the other, and breaks off what no longer is.
    fn keep_transfer(&mut self, link: &dyn Link, deliveries: Vec<Delivery>) {
        let there = &self.mind.sighting.artifacts;
        // What has arrived is about to end by itself.
        let goes_on = |address: &str| {
            there.contains(address) || deliveries.iter().any(|delivery| delivery.address == address)
        };
        self.transfer.take_if(|transfer| !goes_on(transfer.address()));
        if let (None, Some(delivery), Some(root)) =
            (&self.transfer, deliveries.into_iter().next(), self.mind.sighting.root.clone())
        {
            let Delivery { address, source } = &delivery;
            tracing::info!(node = %self.key, path = source.path, bytes = source.size, address, "send artifact");
            self.transfer =
                Some(Transfer::start(&self.shared, link.sides(), root, delivery, self.tenure.term.epoch));
        }
    }

    fn delivered(&mut self, address: String, result: Result<Delivered, String>) {
        let metrics = &self.shared.metrics;
        let message = match &result {
            Ok(_) => format!("done: {address}"),
            Err(why) => format!("failed: {why}"),
        };
        let said =
            Said { regarding: self.key.to_string(), action: "Send", reason: "ArtifactMissing", message };
        self.shared.events.say(said, self.shared.clock.now_ms());
        match &result {
            Ok(Delivered::Sent) => {
                metrics.artifacts_sent.inc();
                tracing::info!(node = %self.key, address, "artifact sent");
            }
            Ok(Delivered::WasThere) => {}
            Err(why) => {
                metrics.artifact_failures.inc();
                tracing::warn!(node = %self.key, address, why, "artifact not sent");
            }
        }
        let now = self.moment();
        self.mind.tried(address, Aim::Delivered, result.err(), now);
    }

    async fn send_batch(&mut self, link: &mut dyn Link, steps: Vec<Step>) -> Result<(), LinkError> {
        // Asked as late as can be: we may have been stopped since the plan was made.
        if !self.tenure.holds() {
            return Ok(());
        }
        let (renewal, is_ready) = self.mind.ready(&steps, Instant::now());
        if let Some(text) = renewal {
            send(link, &text).await?;
        }
        if !is_ready {
            // The node answers that, and then all is planned again.
            return Ok(());
        }
        let revision = self.shared.revisions.next();
        for step in &steps {
            tracing::info!(
                node = %self.key,
                process = step.action.process(),
                reason = %step.reason,
                "{}",
                step.action.name(),
            );
        }
        self.shared.metrics.node_batches.inc();
        self.shared.metrics.node_steps.inc_by(steps.len() as u64);
        let text = protocol::batch(self.tenure.term.epoch.0, revision, &steps);
        self.mind.sent(revision, &steps, Instant::now());
        send(link, &text).await
    }

    fn show(&mut self) {
        if self.mind.sighting.complete && !matches!(self.view.link, LinkState::Connected { .. }) {
            let since_ms = self.shared.clock.now_ms();
            tracing::info!(node = %self.key, "connected");
            self.view.link = LinkState::Connected { since_ms };
            self.say_of_link("Connected", "it is connected".into());
        }
        self.view.up = self.up(self.shared.clock.now_ms());
        self.view.warnings = self.mind.warnings();
        self.view.sighting = self.mind.shown();
        self.shared.observed.set(&self.place, &self.view);
        self.tell_tries();
    }

    /// Processes that count as running. What is not declared counts at once.
    fn up(&self, now_ms: u64) -> BTreeSet<String> {
        let declared = self.rendered.as_ref().map(|rendered| &rendered.desired.processes);
        let start_ms =
            |id: &String| declared.and_then(|all| all.get(id)).map_or(0, |process| process.start_ms);
        let seen = self.mind.sighting.processes.iter().filter(|(_, seen)| seen.phase == Phase::Running);
        let is_up =
            |(id, seen): &(&String, &ProcessSighting)| seen.since_ms.saturating_add(start_ms(id)) <= now_ms;
        seen.filter(is_up).map(|(id, _)| id.clone()).collect()
    }

    fn show_down(&mut self, error: &LinkError, tries: u32, wait: Duration) {
        let now_ms = self.shared.clock.now_ms();
        let since_ms = *self.down_since_ms.get_or_insert(now_ms);
        self.mind.unseen(now_ms);
        tracing::warn!(node = %self.key, %error, next_try_ms = wait.as_millis(), "no link");
        self.view.link = LinkState::Down {
            name: error.name(),
            message: error.to_string(),
            since_ms,
            tries,
            next_try_ms: now_ms.saturating_add(milliseconds(wait)),
        };
        self.say_of_link(error.word(), error.to_string());
        self.view.settled = false;
        self.view.warnings.clear();
        self.view.sighting = self.mind.shown();
        self.shared.observed.set(&self.place, &self.view);
        self.tell_tries();
    }

    fn say_of_link(&self, reason: &'static str, message: String) {
        let said = Said { regarding: self.key.to_string(), action: "Connect", reason, message };
        self.shared.events.say(said, self.shared.clock.now_ms());
    }

    /// Says how the steps of the last batch ended, once that is known.
    fn tell(&mut self) {
        let now_ms = self.shared.clock.now_ms();
        for Told { id, action, reason, outcome } in self.mind.told.drain(..) {
            let regarding = match id.as_str() {
                BUNDLE => self.key.to_string(),
                address if check_digest(address).is_ok() => self.key.to_string(),
                id => Key::within(Kind::Process, self.key.namespace.as_str(), id).to_string(),
            };
            self.shared.events.say(Said { regarding, action, reason, message: outcome }, now_ms);
        }
    }

    /// Waits, or until the node is to be reached another way, or people ask for it (then true), or we are to end.
    async fn wait_or_moved(&mut self, wait: Duration, spec: &NodeSpec) -> bool {
        let until = Instant::now() + wait;
        loop {
            if self.is_over() || self.spec().is_none_or(|now| reaches_differently(&now, spec)) {
                return true;
            }
            tokio::select! {
                biased;
                () = sleep_until(until) => return false,
                changed = self.snapshot.changed() => if changed.is_err() { return true; },
                changed = self.mode.changed() => if changed.is_err() { return true; },
                () = self.tenure.over() => return true,
                changed = self.asked.changed() => {
                    let times = self.asked.borrow().get(&self.key).copied();
                    if changed.is_err() || times != self.times_asked { return true; }
                }
            }
        }
    }
}

/// Waits for the end of a transfer; for ever when there is none.
async fn ended(transfer: &mut Option<Transfer>) -> (String, Result<Delivered, String>) {
    match transfer {
        Some(transfer) => {
            let result = transfer.ended().await;
            (transfer.address().to_owned(), result)
        }
        None => std::future::pending().await,
    }
}

async fn send(link: &mut dyn Link, text: &str) -> Result<(), LinkError> {
    match timeout(ANSWER_WITHIN, link.send(text)).await {
        Ok(sent) => sent,
        Err(_) => Err(LinkError::TimedOut("the node takes nothing in".into())),
    }
}

/// True when two specs of a node are reached in different ways.
fn reaches_differently(a: &NodeSpec, b: &NodeSpec) -> bool {
    let what_people_say =
        |spec: &NodeSpec| NodeSpec { name: String::new(), description: None, status: None, ..spec.clone() };
    what_people_say(a) != what_people_say(b)
}

/// How long to wait after so many failures in a row.
fn reconnect_wait(error: &LinkError, failures: u32, node: &str) -> Duration {
    let waits = match error {
        LinkError::AuthFailed(_)
        | LinkError::HostKeyChanged(_)
        | LinkError::Misconfigured(_)
        | LinkError::Fenced(_) => RECONNECT_REFUSED,
        LinkError::Unreachable(_)
        | LinkError::TimedOut(_)
        | LinkError::ShellUnusable(_)
        | LinkError::DiskFull(_)
        | LinkError::Lost(_)
        | LinkError::Busy(_) => RECONNECT,
    };
    Duration::from_millis(wait_ms(waits, node, failures))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The key of a node.
pub(super) fn node_key(place: &(String, String)) -> Key {
    Key::within(Kind::Node, place.0.as_str(), place.1.as_str())
}

#[cfg(test)]
mod tests;
