//! Many nodes, and a controller in this process that keeps them to their documents.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use mainstay::clock::{Clock, timestamp};
use mainstay::metrics::Metrics;
use mainstay::model::Spec;
use mainstay::model::admit::{Origin, admit_text};
use mainstay::model::meta::Kind;
use mainstay::model::secret::{KEY_BYTES, Sealer};
use mainstay::node::link::{Connector, Link, LinkError, Target};
use mainstay::node::local::Local;
use mainstay::node::protocol::Line;
use mainstay::node::side::Sides;
use mainstay::node::ssh::Ssh;
use mainstay::plan::world::Freeze;
use mainstay::plan::world::{Phase, ProcessSighting};
use mainstay::reconcile::controller::{Controller, Parts};
use mainstay::reconcile::events::Events;
use mainstay::reconcile::leadership::Leadership;
use mainstay::reconcile::observed::{NodeView, Observed, Views};
use mainstay::reconcile::placed::Placed;
use mainstay::reconcile::target::Common;
use mainstay::state::leader::Candidate;
use mainstay::state::{Commit, State, apply_set};
use mainstay::store::embedded::Embedded;
use tempfile::TempDir;

use crate::bare;
use crate::support;
use crate::support::sshd::{NodeShell, Sshd, user};

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nodes that share their keys, and see each other's processes.
pub(crate) fn nodes(count: usize) -> Vec<Sshd> {
    several(Sshd::start(), count)
}

/// Nodes that share their keys, and see their own processes only, as machines do: whoever looks through /proc has no more to read
/// than on a real node.
pub(crate) fn machines(count: usize) -> Vec<Sshd> {
    several(Sshd::start_as(NodeShell::Alone, "PasswordAuthentication no\n"), count)
}

fn several(first: Sshd, count: usize) -> Vec<Sshd> {
    let mut all: Vec<Sshd> = (1..count).map(|_| first.start_another()).collect();
    all.insert(0, first);
    all
}

/// Kills whatever runs on the nodes, and empties their accounts' home.
pub(crate) fn clear(nodes: &[Sshd]) {
    for sshd in nodes {
        let home = sshd.directory().join("home");
        bare::clear(&home.display().to_string());
        std::fs::create_dir(&home).unwrap();
    }
}

/// The sshd processes that carry a node's connections: all below the one that listens that are sshd too.
pub(crate) fn sessions(sshd: &Sshd) -> Vec<u32> {
    let all: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
        .collect();
    let parent = |pid: u32| support::stat(pid).and_then(|fields| fields[1].parse::<u32>().ok());
    let is_sshd = |pid: u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sshd"))
    };
    let mut found = vec![sshd.pid()];
    if !is_sshd(sshd.pid()) {
        // What made its namespaces is the parent of the one that listens.
        found = all.iter().copied().filter(|pid| parent(*pid) == Some(sshd.pid())).collect();
    }
    let mut at = 0;
    while let Some(above) = found.get(at).copied() {
        found.extend(all.iter().copied().filter(|pid| parent(*pid) == Some(above) && is_sshd(*pid)));
        at += 1;
    }
    found.remove(0);
    found
}

/// The sum of some fields of what the kernel says of a process's memory, in kB.
pub(crate) fn memory_kb(pid: u32, fields: &[&str]) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let value = |field: &str| {
        let line = text.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    fields.iter().filter_map(|field| value(field)).sum()
}

/// The documents of the instance and its nodes ND1, ND2 …, and of a type whose processes count as running at once.
pub(crate) fn base(nodes: &[Sshd], health: &str) -> String {
    let mut text = "apiVersion: mainstay.dev/v1\nkind: Instance\nmetadata: {name: IN1}\nspec: {name: one, zk: 'z:1', redis: 'redis://r'}\n---\n\
                    apiVersion: mainstay.dev/v1\nkind: ServiceType\nmetadata: {name: bench}\nspec:\n  command: [sleep, '1000']\n  start: {seconds: 0}\n"
        .to_owned()
        + health;
    for (number, sshd) in (1..).zip(nodes) {
        text += &format!(
            "---\napiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {{name: ND{number}, namespace: IN1}}\nspec: {{name: n, ip-address: \
             127.0.0.1, port: {}, username: {}, identity-file: {}}}\n",
            sshd.port(),
            user(),
            sshd.identity_file(),
        );
    }
    text
}

/// The document of a service with one process on each of some nodes; without a command it has its type's.
pub(crate) fn service(name: &str, nodes: &[String], command: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: mainstay.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: IN1}}\nspec:\n  type: bench\n  name: s\n  \
         nodes: [{}]\n",
        nodes.join(", ")
    );
    if !command.is_empty() {
        text += &format!("  command: {}\n", serde_json::to_string(command).unwrap());
    }
    text
}

/// Batches that were sent: to which node, and when.
type Sent = Arc<Mutex<Vec<(String, Instant)>>>;

/// A controller over an embedded store.
pub(crate) struct World {
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observed: Observed,
    sent: Sent,
    sealer: Sealer,
    controller: Option<(Controller, Leadership)>,
    data: TempDir,
}

impl World {
    /// A store with nothing in it, and no controller yet.
    pub(crate) async fn new() -> World {
        let data = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(Embedded::open(data.path()).unwrap());
        let state = Arc::new(State::open(store, Arc::clone(&metrics)).await.unwrap());
        World {
            state,
            metrics,
            observed: Observed::default(),
            sent: Sent::default(),
            sealer: Sealer::new([0; KEY_BYTES]),
            controller: None,
            data,
        }
    }

    /// Starts the controller.
    pub(crate) async fn reconcile(&mut self) {
        let program = env!("CARGO_BIN_EXE_mainstay");
        let ssh = Ssh::new(program.into(), self.data.path()).unwrap();
        let candidate = Candidate { server: "bench".into(), address: None };
        let clock = Clock::default();
        let lease = Duration::from_secs(3600);
        let leadership = Leadership::start(Arc::clone(&self.state), candidate, lease, clock.clone());
        leadership.standing().settled().await;
        let controller = Controller::start(Parts {
            tenures: leadership.tenures(),
            state: Arc::clone(&self.state),
            metrics: Arc::clone(&self.metrics),
            ssh: Arc::new(Tapped { inner: ssh, sent: Arc::clone(&self.sent) }),
            local: Arc::new(Local),
            common: Common {
                sealer: self.sealer.clone(),
                cluster: self.state.cluster_id().await.unwrap(),
                data_dir: self.data.path().to_owned(),
                connect_timeout: Duration::from_secs(60),
            },
            program: program.into(),
            observed: self.observed.clone(),
            placed: Placed::default(),
            freeze: Freeze::default(),
            events: Events::default(),
            clock,
        });
        self.controller = Some((controller, leadership));
    }

    /// Ends the controller, leaving what runs.
    pub(crate) async fn end(&mut self) {
        if let Some((controller, leadership)) = self.controller.take() {
            controller.end().await;
            leadership.resign().await;
        }
    }

    /// Makes the documents be those of a text; answers when that was acknowledged, and how long the acknowledgement took.
    pub(crate) async fn apply(&self, text: &str) -> (Instant, Duration) {
        let set = admit_text(text, &Origin::default(), &self.sealer).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())
        });
        loop {
            let documents = self.state.snapshot().documents;
            let change = apply_set(&documents, "bench", &set, &timestamp()).unwrap();
            assert!(change.waiting.is_empty(), "an older object of the same name is there");
            let began = Instant::now();
            if self.state.commit(&change.edits, None).await.unwrap() == Commit::Done {
                return (Instant::now(), began.elapsed());
            }
        }
    }

    /// Waits until what is seen is like this.
    pub(crate) async fn until(&self, what: &str, is: impl FnMut(&Views) -> bool) -> Instant {
        let mut changes = self.observed.changes();
        let seen = tokio::time::timeout(PATIENCE, changes.wait_for(is)).await;
        let at = Instant::now();
        drop(seen.unwrap_or_else(|_| panic!("waited in vain for {what}")).unwrap());
        at
    }

    /// Waits until so many processes run, and nothing is left to do.
    pub(crate) async fn until_running(&self, count: usize) -> Instant {
        let running = |view: &Arc<NodeView>| {
            view.sighting.processes.values().filter(|process| process.phase == Phase::Running).count()
        };
        let at = self.until("all to run", |all| all.values().map(running).sum::<usize>() == count).await;
        self.until("all to settle", |all| all.values().all(|view| view.settled)).await;
        at
    }

    /// What is seen of one process.
    pub(crate) fn process(&self, at: &Place) -> Option<ProcessSighting> {
        self.observed.process("IN1", &at.node, &at.id).0
    }

    /// Where all processes are.
    pub(crate) fn places(&self) -> Vec<Place> {
        let snapshot = self.state.snapshot();
        let mut places = Vec::new();
        for (key, document) in snapshot.documents.of_kind(Kind::Process) {
            if let Spec::Process(process) = &document.spec {
                places.push(Place {
                    id: key.name.clone(),
                    service: process.service.clone(),
                    node: process.node.clone(),
                });
            }
        }
        places
    }

    /// The batches that were sent since this was asked last.
    pub(crate) fn sent(&self) -> Vec<(String, Instant)> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

/// A process and where it belongs.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) node: String,
}

/// Notes which batches are sent where.
struct Tapped {
    inner: Ssh,
    sent: Sent,
}

struct TappedLink {
    inner: Box<dyn Link>,
    node: String,
    sent: Sent,
}

impl Connector for Tapped {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async move {
            let inner = self.inner.connect(target).await?;
            let link = TappedLink { inner, node: target.name.clone(), sent: Arc::clone(&self.sent) };
            Ok(Box::new(link) as Box<dyn Link>)
        })
    }

    fn forget_host_key(&self, name: &str) -> std::io::Result<()> {
        self.inner.forget_host_key(name)
    }
}

impl Link for TappedLink {
    fn send<'a>(&'a mut self, text: &'a str) -> BoxFuture<'a, Result<(), LinkError>> {
        if text.starts_with("BATCH ") {
            self.sent.lock().unwrap().push((self.node.clone(), Instant::now()));
        }
        self.inner.send(text)
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Line, LinkError>> {
        self.inner.next()
    }

    fn sides(&self) -> Arc<dyn Sides> {
        self.inner.sides()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.inner.close()
    }
}

/// What this process has used so far.
pub(crate) fn processor_time() -> Duration {
    let fields = support::stat(std::process::id()).unwrap();
    // In hundredths of a second, as on every Linux that there is.
    Duration::from_millis(fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() * 10)
}
