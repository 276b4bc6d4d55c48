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
use super::observed::{LinkState, NodeView, Observed, Warning};
use super::target::{self, Common};
use super::transfer::{Delivered, Transfer};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::Spec;
use crate::model::artifact::check_digest;
use crate::model::kinds::{NodeSpec, Transport};
use crate::model::meta::{Key, Kind};
use crate::node::link::{Connector, Link, LinkError};
use crate::node::protocol::{self, Line, ProcessLine, Verdict};
use crate::plan::node::plan;
use crate::plan::render::{Surroundings, desired};
use crate::plan::step::{Aim, Delivery, NodePlan, Step};
use crate::plan::world::{Attempt, NodeDesired, NodeSighting, NodeWorld, Phase, ProcessSighting, Stock};
use crate::state::{Snapshot, State};
use crate::store::Revision;

/// How often a quiet node is asked for everything. Changes are told unasked; this finds what nobody could tell, such as a
/// killed supervisor, and a link that is dead without saying so.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How long a node may take to answer. A batch may wait 10 s for the node's lock and 5 s for its supervisors.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Most processes that are taken from one node's word; far more than one runs.
const MAX_PROCESSES: usize = 10_000;

/// How long a node is still heard of what was sent to it, when another server is about to lead. Nothing more is sent.
const HEARD_OUT_WITHIN: Duration = Duration::from_millis(200);

/// First and longest wait before a connection is tried again.
const RECONNECT: (u64, u64) = (250, 30_000);

/// The same where trying again won't help by itself and may lock an account.
const RECONNECT_REFUSED: (u64, u64) = (5_000, 300_000);

/// Most artifacts that are taken from one node's word.
const MAX_ARTIFACTS: usize = 10_000;

/// How often people are told how far a transfer is.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// First and longest wait before a step that did not help is tried again.
const RETRY: (u64, u64) = (1_000, 60_000);

/// How far a node's clock may be from ours, in seconds.
const MAX_SKEW_S: u64 = 60;

/// A change of the skew that is no news: what it takes to say the time, and clocks that drift apart.
const SAME_SKEW_S: u64 = 5;

/// What all nodes' tasks share.
pub(super) struct Shared {
    pub(super) state: Arc<State>,
    pub(super) observed: Observed,
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
        mind: Mind::default(),
        down_since_ms: None,
        times_asked: None,
        rendered: None,
        transfer: None,
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
    tenure: Tenure,
    mode: watch::Receiver<Mode>,
    mind: Mind,
    view: NodeView,
    down_since_ms: Option<u64>,
    times_asked: Option<u64>,
    /// What should be, of which snapshot and in which mode, in which directory there.
    rendered: Option<(Revision, Mode, Option<String>, NodeDesired)>,
    /// The artifact that is being sent.
    transfer: Option<Transfer>,
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
        let mut failures = 0u32;
        while !self.is_over() {
            let Some(spec) = self.spec() else { return };
            match self.connect_and_converse(&spec, &mut failures).await {
                Ok(Ending::Asked) => return,
                Ok(Ending::Moved) => failures = 0,
                Err(error) => {
                    let wait = reconnect_wait(&error, failures, &self.key.name);
                    failures = failures.saturating_add(1);
                    self.show_down(&error, wait);
                    if self.wait_or_moved(wait, &spec).await {
                        failures = 0;
                    }
                }
            }
        }
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
        Moment { at: Instant::now(), ms: clock.now_ms(), time_of_day_s: clock.time_of_day_s() }
    }

    fn spec(&self) -> Option<NodeSpec> {
        let snapshot = self.snapshot.borrow();
        let document = snapshot.documents.get(&self.key).filter(|found| found.metadata.uid == self.uid)?;
        if let Spec::Node(node) = &document.spec { Some(node.clone()) } else { None }
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
        self.mind.sighting.complete = false;
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
        self.mind.begin(Instant::now());
        // A revision of its own: a batch of the conversation before that is still on its way is refused from here on.
        let revision = self.shared.revisions.next();
        send(link, &protocol::open(root, self.tenure.term.epoch.0, revision)).await?;
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
                    if let Some(text) = self.mind.tick(Instant::now())? {
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
                changed = self.snapshot.changed() => {
                    if changed.is_err() { return Ok(Ending::Asked); }
                }
            }
        }
    }

    fn plan(&mut self) -> NodePlan {
        let mode = *self.mode.borrow();
        let snapshot = self.snapshot.borrow_and_update().clone();
        let root = &self.mind.sighting.root;
        let is_current = matches!(
            &self.rendered,
            Some((revision, then, there, _)) if *revision == snapshot.revision && *then == mode && there == root
        );
        if !is_current {
            let surroundings = Surroundings { root: root.clone(), ..self.shared.surroundings.clone() };
            let mut desired = desired(&snapshot.documents, &self.key, &surroundings);
            if mode == Mode::Halt {
                desired.bundle = None;
                for process in desired.processes.values_mut() {
                    process.running = false;
                }
            }
            self.rendered = Some((snapshot.revision, mode, root.clone(), desired));
        }
        let empty = NodeDesired::default();
        let desired = self.rendered.as_ref().map_or(&empty, |(_, _, _, desired)| desired);
        self.mind.stock.sending =
            self.transfer.as_ref().map(|transfer| (transfer.address().to_owned(), transfer.sent()));
        let now_ms = self.shared.clock.now_ms();
        let world = NodeWorld {
            now_ms,
            desired,
            seen: &self.mind.sighting,
            attempts: &self.mind.attempts,
            stock: &self.mind.stock,
        };
        let plan = plan(&world);
        self.shared.metrics.node_passes.inc();
        self.mind.settle(&plan, desired, now_ms);
        self.view.holds = plan.holds.clone();
        self.mind.sighting.planned = snapshot.revision;
        self.view.settled = plan.steps.is_empty() && plan.holds.is_empty();
        plan
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
        self.mind.tried(address, Aim::Delivered, result.err(), self.shared.clock.now_ms());
    }

    async fn send_batch(&mut self, link: &mut dyn Link, steps: Vec<Step>) -> Result<(), LinkError> {
        // Asked as late as can be: we may have been stopped since the plan was made.
        if !self.tenure.holds() {
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
        self.shared.observed.set(&self.place, self.view.clone());
    }

    /// Processes that count as running. What is not declared counts at once.
    fn up(&self, now_ms: u64) -> BTreeSet<String> {
        let declared = self.rendered.as_ref().map(|(_, _, _, desired)| &desired.processes);
        let start_ms =
            |id: &String| declared.and_then(|all| all.get(id)).map_or(0, |process| process.start_ms);
        let seen = self.mind.sighting.processes.iter().filter(|(_, seen)| seen.phase == Phase::Running);
        let is_up =
            |(id, seen): &(&String, &ProcessSighting)| seen.since_ms.saturating_add(start_ms(id)) <= now_ms;
        seen.filter(is_up).map(|(id, _)| id.clone()).collect()
    }

    fn show_down(&mut self, error: &LinkError, wait: Duration) {
        let now_ms = self.shared.clock.now_ms();
        let since_ms = *self.down_since_ms.get_or_insert(now_ms);
        tracing::warn!(node = %self.key, %error, next_try_ms = wait.as_millis(), "no link");
        self.view.link = LinkState::Down {
            name: error.name(),
            message: error.to_string(),
            since_ms,
            next_try_ms: now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        };
        self.say_of_link(error.word(), error.to_string());
        self.view.settled = false;
        self.view.warnings.clear();
        self.view.sighting = self.mind.shown();
        self.shared.observed.set(&self.place, self.view.clone());
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

/// Exponential, capped, and spread by the node's name, so that a thousand nodes do not come back at the same moment.
fn reconnect_wait(error: &LinkError, failures: u32, node: &str) -> Duration {
    let range = match error {
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
    let full = backoff(range, failures);
    let spread =
        node.bytes().fold(u64::from(failures), |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Duration::from_millis(full - full / 4 * (spread % 100) / 100)
}

fn backoff((first, longest): (u64, u64), failures: u32) -> u64 {
    first.saturating_mul(1 << failures.min(20)).min(longest)
}

/// One moment, by all the clocks that there are.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    /// On the clock of what is seen.
    ms: u64,
    /// The controller's own time of day.
    time_of_day_s: u64,
}

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// The process, or [`BUNDLE`].
    id: String,
    action: &'static str,
    reason: &'static str,
    outcome: String,
}

/// What a task knows of its node. No I/O: lines and times go in, texts and plans come out.
#[derive(Default)]
struct Mind {
    sighting: NodeSighting,
    attempts: BTreeMap<String, Attempt>,
    counts: BTreeMap<String, u32>,
    in_flight: Option<InFlight>,
    stock: Stock,
    /// Processes, and artifacts by their addresses, heard of since everything was asked for.
    listing: Option<BTreeSet<String>>,
    looks: u64,
    look_at: Option<Instant>,
    answer_by: Option<Instant>,
    /// How far the node's clock is ahead of ours.
    ahead_s: Option<i64>,
    /// How steps ended that nobody was told of yet.
    told: Vec<Told>,
}

struct InFlight {
    revision: u64,
    aims: BTreeMap<String, Aim>,
    /// Action and reason of each step, for people.
    words: BTreeMap<String, (&'static str, &'static str)>,
    failed: BTreeMap<String, String>,
}

/// The bundle's place among the attempts; no process has an empty id.
const BUNDLE: &str = "";

impl Mind {
    /// A new conversation starts: what was seen is kept for people, and counts for nothing until all is told again.
    fn begin(&mut self, now: Instant) {
        self.sighting.complete = false;
        self.in_flight = None;
        self.listing = Some(BTreeSet::new());
        self.look_at = None;
        self.answer_by = Some(now + ANSWER_WITHIN);
        self.ahead_s = None;
    }

    /// The conversation ended: how the steps on their way end, nobody will say.
    fn lost(&mut self) {
        if let Some(batch) = &mut self.in_flight {
            let words = std::mem::take(&mut batch.words);
            self.told_all(words, |_| "not known: the link ended before the node answered".into());
        }
    }

    fn told_all(
        &mut self,
        words: BTreeMap<String, (&'static str, &'static str)>,
        outcome: impl Fn(&str) -> String,
    ) {
        self.told.extend(words.into_iter().map(|(id, (action, reason))| {
            let outcome = outcome(&id);
            Told { id, action, reason, outcome }
        }));
    }

    /// What people should know of the node besides.
    fn warnings(&self) -> Vec<Warning> {
        let off = self.ahead_s.filter(|ahead_s| ahead_s.unsigned_abs() > MAX_SKEW_S);
        off.map(|ahead_s| Warning::ClockOff { ahead_s }).into_iter().collect()
    }

    /// The node has said what time it is there.
    fn compare_clocks(&mut self, theirs_s: Option<u64>, ours_s: u64) {
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        let ahead_s = theirs_s.map(|theirs_s| signed(theirs_s).saturating_sub(signed(ours_s)));
        let is_news = match (self.ahead_s, ahead_s) {
            (Some(before), Some(now)) => before.abs_diff(now) > SAME_SKEW_S,
            (before, now) => before != now,
        };
        if is_news {
            self.ahead_s = ahead_s;
        }
    }

    fn can_plan(&self) -> bool {
        self.sighting.complete && self.in_flight.is_none()
    }

    /// What was seen, for others: with what is on its way.
    fn shown(&self) -> NodeSighting {
        let pending = self.in_flight.iter().flat_map(|batch| batch.aims.keys().cloned()).collect();
        NodeSighting { pending, ..self.sighting.clone() }
    }

    /// When there is something to do though nothing is heard. Nothing is asked while an answer is awaited, so a look that is due has
    /// to wait for that.
    fn next_deadline(&self, now: Instant) -> Instant {
        self.answer_by.or(self.look_at).map_or(now + LOOK_EVERY, |at| at.min(now + LOOK_EVERY))
    }

    fn sent(&mut self, revision: u64, steps: &[Step], now: Instant) {
        let aim = |step: &Step| (step.action.about().to_owned(), step.action.aim());
        let aims = steps.iter().map(aim).collect();
        let words = |step: &Step| {
            let id = step.action.about().to_owned();
            (id, (step.action.word(), step.reason.word()))
        };
        let words = steps.iter().map(words).collect();
        self.in_flight = Some(InFlight { revision, aims, words, failed: BTreeMap::new() });
        self.answer_by = Some(now + ANSWER_WITHIN);
    }

    /// What time asks for: a look at the node, or the end of a link that does not answer.
    fn tick(&mut self, now: Instant) -> Result<Option<String>, LinkError> {
        if self.answer_by.is_some_and(|by| by <= now) {
            return Err(LinkError::TimedOut(format!("no answer within {} s", ANSWER_WITHIN.as_secs())));
        }
        if self.answer_by.is_none() && self.look_at.is_some_and(|at| at <= now) {
            self.looks += 1;
            self.listing = Some(BTreeSet::new());
            self.look_at = None;
            self.answer_by = Some(now + ANSWER_WITHIN);
            return Ok(Some(protocol::look(self.looks)));
        }
        Ok(None)
    }

    /// The node was heard out: nothing is awaited, and it is asked again after a while.
    fn answered(&mut self, now: Instant) {
        self.answer_by = None;
        self.look_at = Some(now + LOOK_EVERY);
    }

    fn hear(&mut self, line: Line, moment: Moment) -> Result<(), LinkError> {
        let Moment { at: now, ms: now_ms, time_of_day_s } = moment;
        match line {
            Line::Process(process) => {
                self.see(process, now_ms);
                if self.sighting.processes.len() > MAX_PROCESSES {
                    return Err(LinkError::ShellUnusable(format!(
                        "it tells of more than {MAX_PROCESSES} processes"
                    )));
                }
            }
            Line::Gone(id) => {
                self.sighting.processes.remove(&id);
            }
            Line::Bundle(hash) => self.sighting.bundle = hash,
            Line::Root(root) => self.sighting.root = Some(root),
            Line::Artifact { address, is_there: false } => {
                self.sighting.artifacts.remove(&address);
            }
            Line::Artifact { address, is_there: true } => {
                if let Some(heard) = &mut self.listing {
                    heard.insert(address.clone());
                }
                self.sighting.artifacts.insert(address);
                if self.sighting.artifacts.len() > MAX_ARTIFACTS {
                    return Err(LinkError::ShellUnusable(format!(
                        "it tells of more than {MAX_ARTIFACTS} artifacts"
                    )));
                }
            }
            Line::Opened { clock_s } => {
                self.compare_clocks(clock_s, time_of_day_s);
                self.heard_all();
                self.sighting.complete = true;
                self.answered(now);
            }
            Line::Looked { token, clock_s } if token == self.looks => {
                self.compare_clocks(clock_s, time_of_day_s);
                self.heard_all();
                if self.in_flight.is_none() {
                    self.answered(now);
                }
            }
            Line::Looked { .. } => {}
            Line::StepFailed { id, message } => {
                if let Some(batch) = &mut self.in_flight {
                    // The node calls the bundle by its hash, and one that is to go by none.
                    let is_bundle = match batch.aims.get(BUNDLE) {
                        Some(Aim::Bundle(hash)) => *hash == id,
                        Some(Aim::Unbundled) => id == "-",
                        Some(
                            Aim::Gone
                            | Aim::Stopped
                            | Aim::Told(_)
                            | Aim::Supervised(_)
                            | Aim::Running(_)
                            | Aim::Delivered
                            | Aim::Discarded,
                        )
                        | None => false,
                    };
                    batch.failed.insert(if is_bundle { BUNDLE.into() } else { id }, message);
                }
            }
            Line::Done { revision, verdict } => self.done(revision, verdict, now, now_ms)?,
            Line::Fenced(epoch) => return Err(LinkError::Fenced(epoch)),
            Line::Full(why) => return Err(LinkError::DiskFull(why)),
            Line::Unusable(why) => return Err(LinkError::ShellUnusable(why)),
            Line::Greeting { .. } | Line::Rubbish => {}
        }
        Ok(())
    }

    /// Everything that is there was told: what was not is gone.
    fn heard_all(&mut self) {
        if let Some(heard) = self.listing.take() {
            self.sighting.processes.retain(|id, _| heard.contains(id));
            self.sighting.artifacts.retain(|address| heard.contains(address));
        }
    }

    fn see(&mut self, process: ProcessLine, now_ms: u64) {
        if let Some(heard) = &mut self.listing {
            heard.insert(process.id.clone());
        }
        let mut seen = ProcessSighting {
            phase: process.phase,
            pid: process.pid,
            restarts: process.restarts,
            exit: process.exit,
            hash: process.hash,
            care: process.care,
            health: process.health,
            live: process.live,
            since_ms: now_ms.saturating_sub(process.age_ms),
        };
        if let Some(before) = self.sighting.processes.get(&process.id) {
            // The age is rounded and takes its time to come: the same state told twice is no news.
            let same = ProcessSighting { since_ms: before.since_ms, ..seen.clone() };
            if same == *before && before.since_ms.abs_diff(seen.since_ms) < 500 {
                seen = same;
            }
        }
        self.sighting.processes.insert(process.id, seen);
    }

    fn done(&mut self, revision: u64, verdict: Verdict, now: Instant, now_ms: u64) -> Result<(), LinkError> {
        let Some(batch) = self.in_flight.take_if(|batch| batch.revision == revision) else { return Ok(()) };
        self.answered(now);
        let (why, fenced) = match verdict {
            Verdict::Done => (None, None),
            Verdict::Locked => (Some("another batch holds the node's lock".to_owned()), None),
            Verdict::Fenced { epoch, .. } => {
                let error = LinkError::Fenced(epoch);
                (Some(error.to_string()), Some(error))
            }
        };
        self.told_all(batch.words, |id| match batch.failed.get(id).or(why.as_ref()) {
            Some(why) => format!("failed: {why}"),
            None => "done".into(),
        });
        if let Some(error) = fenced {
            return Err(error);
        }
        for (id, aim) in batch.aims {
            let why = batch.failed.get(&id).cloned().or_else(|| why.clone());
            self.tried(id, aim, why, now_ms);
        }
        Ok(())
    }

    /// Something was tried; whether it has helped is for the node to say.
    fn tried(&mut self, about: String, aim: Aim, why: Option<String>, now_ms: u64) {
        let is_repeated = self.attempts.get(&about).is_some_and(|before| before.aim == aim);
        let count = self.counts.entry(about.clone()).or_default();
        if !is_repeated {
            *count = 0;
        }
        let not_before_ms = now_ms.saturating_add(backoff(RETRY, *count));
        *count += 1;
        self.attempts.insert(about, Attempt { aim, not_before_ms, why });
    }

    /// Forgets the attempts that have worked, and those for what nobody wants or sees any more; remembers since when artifacts
    /// are unused.
    fn settle(&mut self, plan: &NodePlan, desired: &NodeDesired, now_ms: u64) {
        self.stock.unused_since_ms.retain(|address, _| plan.unused.contains(address));
        for address in &plan.unused {
            self.stock.unused_since_ms.entry(address.clone()).or_insert(now_ms);
        }
        for id in &plan.converged {
            self.attempts.remove(id);
            self.counts.remove(id);
        }
        let bundle_is_there = match &desired.bundle {
            Some((hash, _)) => self.sighting.bundle.as_ref() == Some(hash),
            None => self.sighting.bundle.is_none(),
        };
        let seen = &self.sighting;
        let matters = |id: &String| match id.as_str() {
            BUNDLE => !bundle_is_there,
            id => {
                desired.processes.contains_key(id)
                    || seen.processes.contains_key(id)
                    // One that is to come, or one that is to go.
                    || desired.artifacts.contains_key(id) != seen.artifacts.contains(id)
            }
        };
        self.attempts.retain(|id, _| matters(id));
        self.counts.retain(|id, _| matters(id));
    }
}

/// The key of a node.
pub(super) fn node_key(place: &(String, String)) -> Key {
    Key::within(Kind::Node, place.0.as_str(), place.1.as_str())
}

#[cfg(test)]
mod tests;
