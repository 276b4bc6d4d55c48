//! What waits for what: three services in a row, on two nodes.

use super::*;
use crate::model::amount::Seconds;
use crate::model::kinds::{InstanceSpec, NodeSpec, ServiceTypeSpec, StartSpec};
use crate::model::{Metadata, Spec};
use crate::plan::node::plan;
use crate::plan::render::{Surroundings, desired};
use crate::plan::step::{Hold, NodePlan};
use crate::plan::world::{Health, NodeDesired, NodeSighting, NodeWorld, Phase, ProcessSighting, Stock};

type Place = (String, String);

const NOW_MS: u64 = 100_000;

/// db ← web ← proxy, each with one process: the first two on ND1, the last on ND2. All was written at revision 10.
struct Rows {
    documents: Documents,
    seen: BTreeMap<Place, NodeSighting>,
}

fn place(node: &str) -> Place {
    ("IN1".into(), node.into())
}

fn key(service: &str) -> Key {
    Key::within(Kind::Service, "IN1", service)
}

fn document(namespace: &str, name: &str, spec: Spec) -> Document {
    let metadata = Metadata {
        name: name.into(),
        namespace: namespace.into(),
        resource_version: "10".into(),
        ..Metadata::default()
    };
    Document { metadata, spec }
}

fn service(name: &str, after: &[&str]) -> Document {
    let after = after.iter().map(|other| (*other).to_owned()).collect();
    let spec = ServiceSpec { name: name.into(), kind: "type".into(), after, ..ServiceSpec::default() };
    document("IN1", name, Spec::Service(spec))
}

fn process(service: &str, node: &str) -> Document {
    let spec = ProcessSpec { service: service.into(), node: node.into(), running: None };
    document("IN1", &format!("{service}-1"), Spec::Process(spec))
}

impl Rows {
    fn new() -> Rows {
        let kind = ServiceTypeSpec {
            command: vec!["x".into()],
            start: StartSpec { seconds: 5 },
            ..ServiceTypeSpec::default()
        };
        let documents = [
            document("", "IN1", Spec::Instance(InstanceSpec::default())),
            document("", "type", Spec::ServiceType(kind)),
            document("IN1", "ND1", Spec::Node(NodeSpec::default())),
            document("IN1", "ND2", Spec::Node(NodeSpec::default())),
            service("db", &[]),
            service("web", &["db"]),
            service("proxy", &["web"]),
            process("db", "ND1"),
            process("web", "ND1"),
            process("proxy", "ND2"),
        ];
        let node = NodeSighting { complete: true, planned: 10, ..NodeSighting::default() };
        let seen = [(place("ND1"), node.clone()), (place("ND2"), node)].into();
        Rows { documents: documents.into_iter().collect(), seen }
    }

    /// All of it runs, and has for long.
    fn running() -> Rows {
        let mut rows = Rows::new();
        for (node, process) in [("ND1", "db-1"), ("ND1", "web-1"), ("ND2", "proxy-1")] {
            rows.see(node, process, Phase::Running, 0);
        }
        rows
    }

    fn see(&mut self, node: &str, process: &str, phase: Phase, since_ms: u64) -> &mut ProcessSighting {
        let desired = self.desired(node);
        let start = desired.processes.get(process).and_then(|process| process.start.clone().ok());
        let start = start.expect("it can be started");
        let sighting = ProcessSighting {
            phase,
            pid: None,
            restarts: 0,
            exit: None,
            hash: start.hash.clone(),
            care: start.care.hash.clone(),
            live: start.live.clone(),
            health: None,
            lease: None,
            since_ms,
        };
        let seen = &mut self.seen.get_mut(&place(node)).expect("it is there").processes;
        seen.insert(process.into(), sighting);
        seen.get_mut(process).expect("it was just put there")
    }

    /// Changes a document, which is written at this revision then.
    fn change(&mut self, key: &Key, revision: u64, change: impl FnOnce(&mut Document)) {
        let mut document = Document::clone(self.documents.get(key).expect("it is there"));
        change(&mut document);
        document.metadata.resource_version = revision.to_string();
        self.documents.insert(document);
    }

    fn delete(&mut self, key: &Key) {
        self.change(key, 11, |document| {
            document.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        });
    }

    fn stop(&mut self, service: &str) {
        self.change(&self::key(service), 11, |document| {
            if let Spec::Service(service) = &mut document.spec {
                service.running = Some(false);
            }
        });
    }

    fn orders(&self) -> Orders {
        self.decided().0
    }

    fn decided(&self) -> (Orders, Option<u64>) {
        orders(&World::at(&self.documents, &self.seen, NOW_MS), 11, false)
    }

    fn desired(&self, node: &str) -> NodeDesired {
        desired(&self.documents, &Key::within(Kind::Node, "IN1", node), &Surroundings::default())
    }

    fn plan(&self, node: &str, orders: &Orders) -> NodePlan {
        let (place, none) = (place(node), NodeSighting::default());
        plan(&NodeWorld {
            now_ms: NOW_MS,
            desired: &self.desired(node),
            seen: self.seen.get(&place).unwrap_or(&none),
            attempts: &BTreeMap::new(),
            stock: &Stock::default(),
            place: &place,
            orders,
        })
    }

    /// The steps about processes, in words.
    fn steps(&self, node: &str) -> Vec<String> {
        steps(&self.plan(node, &self.orders()))
    }
}

fn steps(plan: &NodePlan) -> Vec<String> {
    let said = plan.steps.iter().filter_map(|step| Some((step.action.name(), step.action.process()?)));
    said.map(|(what, process)| format!("{what} {process}")).collect()
}

fn told(gates: &BTreeMap<Key, Gate>) -> Vec<String> {
    gates.iter().map(|(key, gate)| format!("{} {}: {}", key.name, gate.other, gate.why)).collect()
}

#[test]
fn each_is_started_when_the_one_before_does_its_work() {
    let mut rows = Rows::new();
    assert_eq!(
        told(&rows.orders().starts),
        ["proxy web: its process does not do its work yet", "web db: its process does not do its work yet"]
    );
    assert_eq!((rows.steps("ND1"), rows.steps("ND2")), (vec!["start db-1".into()], vec![]));
    let held = rows.plan("ND1", &rows.orders()).holds["web-1"].to_string();
    assert_eq!(held, "it is started after db: its process does not do its work yet");

    // It has to stay up first, which nobody sees.
    rows.see("ND1", "db-1", Phase::Running, NOW_MS - 1_000);
    assert_eq!(rows.decided().1, Some(NOW_MS + 4_000));
    assert_eq!(rows.orders().starts.len(), 2);
    rows.see("ND1", "db-1", Phase::Running, NOW_MS - 5_000);
    assert_eq!(told(&rows.orders().starts), ["proxy web: its process does not do its work yet"]);
    assert_eq!(rows.steps("ND1"), ["start web-1"]);
    rows.see("ND1", "web-1", Phase::Running, 0);
    assert_eq!(rows.steps("ND2"), ["start proxy-1"]);
    assert_eq!(rows.decided().1, None);
}

#[test]
fn what_is_waited_for_is_told_with_how_it_is() {
    let why = |rows: &Rows| rows.orders().starts[&key("web")].why.clone();
    let mut rows = Rows::new();
    rows.stop("db");
    assert_eq!(why(&rows), "it is not asked to run");
    rows.documents.remove(&Key::within(Kind::Process, "IN1", "db-1"));
    rows.change(&key("db"), 11, |document| {
        if let Spec::Service(service) = &mut document.spec {
            service.running = None;
        }
    });
    assert_eq!(why(&rows), "it has no process that should run");
    rows.documents.remove(&key("db"));
    assert_eq!(why(&rows), "it does not exist");

    let mut rows = Rows::running();
    rows.see("ND1", "db-1", Phase::Running, 0).health = Some(Health::Unhealthy { why: "no".into() });
    assert_eq!(why(&rows), "its process does not do its work yet");
    let second = ProcessSpec { service: "db".into(), node: "ND2".into(), running: None };
    rows.documents.insert(document("IN1", "db-2", Spec::Process(second)));
    assert_eq!(why(&rows), "0 of 2 processes do their work");
    rows.see("ND2", "db-2", Phase::Running, 0);
    assert_eq!(rows.orders().starts.get(&key("web")), None, "an update may take away as much");
    rows.seen.remove(&place("ND2"));
    assert_eq!(why(&rows), "its node ND2 is not seen");
    rows.delete(&key("db"));
    assert_eq!(why(&rows), "it is being deleted");
}

#[test]
fn what_runs_is_neither_stopped_nor_started_anew_because_another_one_fails() {
    let mut rows = Rows::running();
    rows.see("ND1", "db-1", Phase::Backoff, NOW_MS);
    assert_eq!((rows.steps("ND1"), rows.steps("ND2")), (vec![], vec![]));
    rows.see("ND1", "web-1", Phase::Running, 0).hash = "older".into();
    assert_eq!(rows.steps("ND1"), [""; 0], "it could not come back");
    rows.see("ND1", "db-1", Phase::Running, 0);
    assert_eq!(rows.steps("ND1"), ["restart web-1"]);
}

#[test]
fn they_are_stopped_the_other_way_round() {
    let mut rows = Rows::running();
    ["db", "web", "proxy"].iter().for_each(|service| rows.stop(service));
    rows.seen.values_mut().for_each(|seen| seen.planned = 11);
    assert_eq!(
        told(&rows.orders().stops),
        ["db web: 1 process of it has not ended", "web proxy: 1 process of it has not ended"]
    );
    assert_eq!((rows.steps("ND1"), rows.steps("ND2")), (vec![], vec!["stop proxy-1".into()]));
    let held = rows.plan("ND1", &rows.orders()).holds["web-1"].to_string();
    assert_eq!(held, "it is stopped after proxy: 1 process of it has not ended");
    rows.see("ND2", "proxy-1", Phase::Stopping, 0);
    assert_eq!(rows.steps("ND1"), [""; 0]);
    rows.see("ND2", "proxy-1", Phase::Stopped, 0);
    assert_eq!(rows.steps("ND1"), ["stop web-1"]);
    rows.see("ND1", "web-1", Phase::Stopped, 0);
    assert_eq!(rows.steps("ND1"), ["stop db-1"]);
}

#[test]
fn people_can_stop_what_others_were_started_after() {
    let mut rows = Rows::running();
    rows.stop("db");
    assert_eq!(rows.steps("ND1"), ["stop db-1"]);
}

#[test]
fn what_was_not_seen_to_end_on_a_node_that_is_seen_is_waited_for_and_no_other() {
    let mut rows = Rows::running();
    rows.stop("web");
    rows.stop("proxy");
    rows.see("ND2", "proxy-1", Phase::Stopped, 0);
    rows.seen.values_mut().for_each(|seen| seen.planned = 11);
    assert_eq!(rows.steps("ND1"), ["stop web-1"]);
    let node = rows.seen.get_mut(&place("ND2")).expect("it is there");
    node.pending.insert("proxy-1".into());
    assert_eq!(rows.steps("ND1"), [""; 0], "a start of it may be on its way");
    let node = rows.seen.get_mut(&place("ND2")).expect("it is there");
    (node.pending, node.planned) = (BTreeSet::new(), 10);
    assert_eq!(rows.steps("ND1"), [""; 0], "its node's task does not know yet that it is to stop");

    rows.see("ND2", "proxy-1", Phase::Running, 0);
    rows.seen.get_mut(&place("ND2")).expect("it is there").complete = false;
    assert_eq!(rows.steps("ND1"), ["stop web-1"], "nobody could say when it ends");
}

#[test]
fn what_is_deleted_goes_in_order_too() {
    let all = |rows: &mut Rows, kind: Kind| {
        let keys: Vec<Key> = rows.documents.of_kind(kind).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| rows.delete(key));
    };
    // First the instance alone: what belongs to it is marked in parts.
    let mut rows = Rows::running();
    rows.delete(&Key::cluster(Kind::Instance, "IN1"));
    rows.delete(&Key::within(Kind::Process, "IN1", "db-1"));
    assert_eq!(rows.steps("ND1"), [""; 0]);
    all(&mut rows, Kind::Service);
    all(&mut rows, Kind::Process);
    assert_eq!((rows.steps("ND1"), rows.steps("ND2")), (vec![], vec!["remove proxy-1".into()]));
    let nothing = NodeSighting { complete: true, planned: 11, ..NodeSighting::default() };
    rows.seen.insert(place("ND2"), nothing);
    assert_eq!(rows.steps("ND1"), ["remove web-1"]);
}

#[test]
fn to_halt_is_to_stop_everything_in_order() {
    let rows = Rows::running();
    let (orders, _) = orders(&World::at(&rows.documents, &rows.seen, NOW_MS), 10, true);
    assert!(orders.halt && orders.stops.keys().eq([&key("db"), &key("web")]));
}

#[test]
fn a_task_that_knows_more_than_was_decided_on_waits() {
    let mut rows = Rows::running();
    rows.see("ND1", "web-1", Phase::Stopped, 0);
    let before = Orders { revision: 9, ..Orders::default() };
    assert_eq!(rows.plan("ND1", &before).holds["web-1"], Hold::Unordered);
    assert_eq!(steps(&rows.plan("ND1", &Orders { revision: 10, ..before })), ["start web-1"]);

    // What it is started after changed last.
    rows.change(&key("db"), 12, |_| {});
    assert_eq!(rows.plan("ND1", &rows.orders()).holds["web-1"], Hold::Unordered);

    ["db", "web", "proxy"].iter().for_each(|service| rows.stop(service));
    let early = Orders { revision: 10, ..Orders::default() };
    assert_eq!(rows.plan("ND1", &early).holds["db-1"], Hold::Unordered);
}

#[test]
fn what_has_no_order_waits_for_nobody() {
    let mut rows = Rows::new();
    for service in ["web", "proxy"] {
        rows.change(&key(service), 10, |document| {
            if let Spec::Service(service) = &mut document.spec {
                service.after.clear();
            }
        });
    }
    assert_eq!(rows.decided(), (Orders::default(), None), "nobody is woken");
    assert_eq!(steps(&rows.plan("ND1", &Orders::default())), ["start db-1", "start web-1"]);
    rows.stop("web");
    rows.see("ND1", "web-1", Phase::Running, 0);
    assert_eq!(steps(&rows.plan("ND1", &Orders::default())), ["stop web-1", "start db-1"]);
}

#[test]
fn what_may_run_in_one_place_only_is_started_where_the_placement_saw_the_node() {
    let mut rows = Rows::new();
    rows.change(&key("db"), 10, |document| {
        if let Spec::Service(service) = &mut document.spec {
            service.failover = Some(FailoverSpec::Fenced { lease: Seconds(30) });
        }
    });
    rows.seen.get_mut(&place("ND1")).expect("it is there").conversation = 7;
    let orders = rows.orders();
    assert_eq!(orders.seen, [(place("ND1"), 7)].into(), "only what has to be known");
    assert_eq!(steps(&rows.plan("ND1", &orders)), ["start db-1"]);

    for other in [
        Orders::default(),
        Orders { revision: 9, ..orders.clone() },
        Orders { seen: [(place("ND1"), 6)].into(), ..orders.clone() },
    ] {
        let plan = rows.plan("ND1", &other);
        assert_eq!((steps(&plan), &plan.holds["db-1"]), (vec![], &Hold::Unplaced));
    }
    rows.see("ND1", "db-1", Phase::Running, 0);
    rows.stop("db");
    let elsewhere = Orders { seen: BTreeMap::new(), ..rows.orders() };
    assert_eq!(steps(&rows.plan("ND1", &elsewhere)), ["stop db-1"], "that it may always");
}

#[test]
fn a_circle_starts_nothing_and_stops_everything() {
    let mut rows = Rows::running();
    rows.change(&key("db"), 11, |document| {
        if let Spec::Service(service) = &mut document.spec {
            service.after = vec!["proxy".into()];
        }
    });
    rows.see("ND1", "web-1", Phase::Stopped, 0);
    rows.see("ND1", "db-1", Phase::Stopped, 0);
    rows.see("ND2", "proxy-1", Phase::Stopped, 0);
    assert_eq!(rows.orders().starts.len(), 3);
    let mut rows = Rows { seen: Rows::running().seen, ..rows };
    ["db", "web", "proxy"].iter().for_each(|service| rows.stop(service));
    assert_eq!(rows.orders().stops, BTreeMap::new());
}
