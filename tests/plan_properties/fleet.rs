//! Any documents, and any sightings of their nodes.

use std::collections::BTreeMap;

use mainstay::model::amount::{Seconds, Share};
use mainstay::model::id::{process_id, revision_name};
use mainstay::model::kinds::{
    ArtifactSpec, FailoverSpec, HealthSpec, InstanceSpec, NodeSpec, Object, OnFailure, ProcessSpec,
    ReloadSpec, RevisionSpec, ServiceSpec, ServiceTypeSpec, Signal, UpdateSpec,
};
use mainstay::model::meta::{DRAINING, OwnerReference, PAUSED};
use mainstay::model::{Document, Documents, Key, Kind, Metadata, Spec};
use mainstay::plan::render::{Surroundings, desired};
use mainstay::plan::revision::Declarations;
use mainstay::plan::world::{Health, NodeDesired, NodeSighting, Phase, ProcessSighting};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use crate::machine::{ROOT, sighting};

/// (instance, node).
pub(crate) type Place = (String, String);

const INSTANCES: [&str; 2] = ["IN1", "IN2"];
const NODES: [&str; 4] = ["ND1", "ND2", "ND3", "ND4"];
const SERVICES: [&str; 3] = ["SV1", "SV2", "SV3"];
const ZONES: [&str; 2] = ["east", "west"];

/// Documents, and what was seen. A node that is not among the seen ones was never seen.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) documents: Vec<Document>,
    pub(crate) seen: BTreeMap<Place, NodeSighting>,
}

/// How many revisions of a service were, whether all but the last were everywhere, and whether the last is what is declared.
#[derive(Debug, Clone, Copy)]
struct History {
    count: u64,
    completed: bool,
    is_current: bool,
}

impl Fleet {
    pub(crate) fn documents(&self) -> Documents {
        self.documents.iter().cloned().collect()
    }
}

/// What should be on every node, by the documents.
pub(crate) fn all_desired(documents: &Documents) -> BTreeMap<Place, NodeDesired> {
    documents
        .of_kind(Kind::Node)
        .map(|(key, _)| {
            let place = (key.namespace.clone(), key.name.clone());
            (place, desired(documents, key, &surroundings()))
        })
        .collect()
}

/// What templates may use on every node.
pub(crate) fn surroundings() -> Surroundings {
    Surroundings { root: Some(ROOT.into()), ..Surroundings::default() }
}

/// Any fleet: two instances with up to four nodes and three services each.
pub(crate) fn fleet() -> BoxedStrategy<Fleet> {
    let history = (0..4_u64, any::<bool>(), any::<bool>());
    let history = history.prop_map(|(count, completed, is_current)| History { count, completed, is_current });
    (INSTANCES.map(instance), vec(history, INSTANCES.len() * SERVICES.len()))
        .prop_map(|(parts, histories)| {
            let mut documents = service_types();
            let mut raw = Vec::new();
            for (instance, (found, seen)) in INSTANCES.into_iter().zip(parts) {
                documents.extend(found);
                raw.extend(
                    seen.into_iter().map(|(node, seen)| ((instance.to_owned(), node.to_owned()), seen)),
                );
            }
            let past = revisions(&documents, &histories);
            for document in &mut documents {
                let Spec::Process(process) = &document.spec else { continue };
                let of_it = past.iter().filter(|past| {
                    past.metadata.namespace == document.metadata.namespace
                        && matches!(&past.spec, Spec::Revision(revision) if revision.service == process.service)
                });
                // None is to run from a revision that is yet to be.
                document.metadata.revision = document.metadata.revision.min(of_it.count() as u64);
            }
            documents.extend(past);
            let map: Documents = documents.iter().cloned().collect();
            let wanted = all_desired(&map);
            let nothing = NodeDesired::default();
            let seen = raw
                .into_iter()
                .map(|(place, raw)| {
                    let ids: Vec<String> = map
                        .within(Kind::Process, &place.0)
                        .map(|(key, _)| key.name.clone())
                        .chain(["stray", "bundle"].map(str::to_owned))
                        .collect();
                    let seen = raw.about(&ids, wanted.get(&place).unwrap_or(&nothing));
                    (place, seen)
                })
                .collect();
            Fleet { documents, seen }
        })
        .boxed()
}

/// The revisions that the services went through.
fn revisions(documents: &[Document], histories: &[History]) -> Vec<Document> {
    let map: Documents = documents.iter().cloned().collect();
    let mut past = Vec::new();
    for ((key, service), history) in map.of_kind(Kind::Service).zip(histories) {
        for number in 1..=history.count {
            let mut earlier = map.service(key).expect("it is one").clone();
            let is_last = number == history.count;
            if !(is_last && history.is_current)
                && let Some(options) = &mut earlier.options
            {
                options.insert("port".into(), json!(9000 + number));
            }
            if let Some(spec) = Declarations::new(&map).of(service, &earlier) {
                let completed = history.completed && !is_last;
                let spec = RevisionSpec { number, completed, ..spec };
                let name = revision_name(&key.name, number);
                past.push(document(&key.namespace, &name, false, Spec::Revision(spec)));
            }
        }
    }
    past
}

/// The address of an artifact that nothing is declared to run from.
pub(crate) fn stray_artifact() -> String {
    "0c".repeat(32)
}

/// A type that is told of changes, one that is not, two that run from artifacts, and one whose command can't be rendered.
/// Another does not exist.
fn service_types() -> Vec<Document> {
    let kind = |name: &str, spec: ServiceTypeSpec| Document {
        metadata: Metadata { name: name.into(), ..Metadata::default() },
        spec: Spec::ServiceType(spec),
    };
    let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let packed = |path: &str, pair: &str| {
        let (address, size) = (Some(pair.repeat(32)), Some(10_240));
        let artifact = ArtifactSpec { path: path.into(), address, size, sha256: None };
        ServiceTypeSpec {
            command: command(&["{{ artifact }}/run"]),
            artifact: Some(artifact),
            ..ServiceTypeSpec::default()
        }
    };
    vec![
        kind("packed", packed("/srv/one", "0a")),
        kind("packed-too", packed("/srv/two", "0b")),
        kind(
            "told",
            ServiceTypeSpec {
                command: command(&["/opt/told", "{{ options.port }}", "{{ node.id }}"]),
                reload: Some(ReloadSpec { signal: Signal::Hup }),
                live_options: vec!["level".into()],
                ..ServiceTypeSpec::default()
            },
        ),
        kind(
            "checked",
            ServiceTypeSpec {
                command: command(&["/opt/checked", "{{ options.port }}"]),
                health: Some(listens()),
                ..ServiceTypeSpec::default()
            },
        ),
        kind("untold", ServiceTypeSpec { command: command(&["/opt/untold"]), ..ServiceTypeSpec::default() }),
        kind(
            "broken",
            ServiceTypeSpec { command: command(&["{{ options.absent }}"]), ..ServiceTypeSpec::default() },
        ),
    ]
}

fn listens() -> HealthSpec {
    serde_json::from_value(json!({ "tcp": "127.0.0.1:80" })).expect("it is a check")
}

fn document(namespace: &str, name: &str, deleting: bool, spec: Spec) -> Document {
    let metadata = Metadata {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        deletion_timestamp: deleting.then(|| crate::desk::DELETED.to_owned()),
        ..Metadata::default()
    };
    Document { metadata, spec }
}

fn deleting() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.15)
}

/// An instance's documents, and what was seen of its nodes.
type Part = (Vec<Document>, Vec<(&'static str, Raw)>);

fn instance(name: &'static str) -> BoxedStrategy<Part> {
    let itself = proptest::option::weighted(0.95, proptest::bool::weighted(0.07));
    let nodes = NODES.map(|node_name| proptest::option::weighted(0.8, node(name, node_name)));
    let services = SERVICES.map(|service_name| proptest::option::weighted(0.8, service(name, service_name)));
    let seen = NODES.map(|node| (Just(node), proptest::option::weighted(0.85, raw())));
    (itself, nodes, services, vec(process(name), 0..8), seen)
        .prop_map(move |(itself, nodes, services, processes, seen)| {
            let spec = InstanceSpec { name: name.into(), ..InstanceSpec::default() };
            let itself = itself.map(|deleting| document("", name, deleting, Spec::Instance(spec)));
            let mut all: Vec<Document> = itself.into_iter().collect();
            all.extend(nodes.into_iter().flatten());
            all.extend(services.into_iter().flatten());
            let mut processes: Vec<Document> = processes;
            processes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
            processes.dedup_by(|a, b| a.metadata.name == b.metadata.name);
            all.extend(processes);
            let seen = seen.into_iter().filter_map(|(node, raw)| Some((node, raw?))).collect();
            (all, seen)
        })
        .boxed()
}

fn node(instance: &'static str, name: &'static str) -> BoxedStrategy<Document> {
    let zone = proptest::option::of(proptest::sample::select(&ZONES));
    let status = proptest::option::weighted(0.4, any::<bool>());
    (zone, status, proptest::bool::weighted(0.15), deleting())
        .prop_map(move |(zone, status, is_draining, deleting)| {
            let spec =
                NodeSpec { name: name.into(), ip_address: "192.0.2.1".into(), status, ..NodeSpec::default() };
            let mut node = document(instance, name, deleting, Spec::Node(spec));
            if is_draining {
                node.metadata.annotations.insert(DRAINING.into(), "since then".into());
            }
            node.metadata.labels.extend(zone.map(|zone| ("zone".to_owned(), zone.to_owned())));
            node
        })
        .boxed()
}

fn service(instance: &'static str, name: &'static str) -> BoxedStrategy<Document> {
    let kind = prop_oneof![6 => Just("told"), 6 => Just("checked"), 4 => Just("untold"), 3 => Just("packed"), 2 => Just("packed-too"), 1 => Just("broken"), 1 => Just("absent")];
    let on_nodes = vec(proptest::sample::select(&NODES), 0..5);
    let selector = proptest::option::weighted(0.3, proptest::sample::select(&ZONES));
    let placement = prop_oneof![
        1 => Just(ServiceSpec::default()),
        2 => on_nodes.prop_map(|nodes| {
            let nodes = nodes.into_iter().map(str::to_owned).collect();
            ServiceSpec { nodes: Some(nodes), ..ServiceSpec::default() }
        }),
        4 => (0..6_u32, selector).prop_map(|(replicas, zone)| ServiceSpec {
            replicas: Some(replicas),
            node_selector: zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect(),
            ..ServiceSpec::default()
        }),
    ];
    let running = proptest::option::weighted(0.5, proptest::bool::weighted(0.7));
    // After some of those before it, so that there is no circle; they may not be there.
    let before: Vec<String> =
        SERVICES.iter().take_while(|other| **other != name).map(|other| (*other).to_owned()).collect();
    let after =
        proptest::option::weighted(0.4, proptest::sample::subsequence(before.clone(), 0..=before.len()));
    let paused = proptest::bool::weighted(0.1);
    (
        kind,
        placement,
        running,
        proptest::option::of(rollout()),
        proptest::option::of(failover()),
        paused,
        deleting(),
        after,
    )
        .prop_map(move |(kind, placement, running, update, failover, is_paused, deleting, after)| {
            let options: Object =
                [("port".to_owned(), json!(8080)), ("level".to_owned(), json!(1))].into_iter().collect();
            let spec = ServiceSpec {
                kind: kind.into(),
                name: name.into(),
                options: Some(options),
                running,
                after: after.unwrap_or_default(),
                update,
                failover,
                ..placement
            };
            let mut service = document(instance, name, deleting, Spec::Service(spec));
            if is_paused {
                service.metadata.annotations.insert(PAUSED.into(), "since then".into());
            }
            service
        })
        .boxed()
}

fn rollout() -> impl Strategy<Value = UpdateSpec> {
    let share = prop_oneof![(1..4_u32).prop_map(Share::Count), (1..=100_u8).prop_map(Share::Percent)];
    let on_failure = prop_oneof![Just(OnFailure::Pause), Just(OnFailure::Rollback)];
    let (share, on_failure) = (proptest::option::of(share), proptest::option::of(on_failure));
    (share, proptest::option::of(0..20_u32), on_failure).prop_map(
        |(max_unavailable, min_ready_seconds, on_failure)| UpdateSpec {
            max_unavailable,
            min_ready_seconds,
            progress_deadline_seconds: None,
            on_failure,
        },
    )
}

fn failover() -> impl Strategy<Value = FailoverSpec> {
    prop_oneof![
        Just(FailoverSpec::Hold),
        (1..60_u32).prop_map(|after| FailoverSpec::Replace { after: Seconds(after) }),
        (5..60_u32).prop_map(|lease| FailoverSpec::Fenced { lease: Seconds(lease) }),
    ]
}

/// One that the service's placement made, or one that people made.
fn process(instance: &'static str) -> BoxedStrategy<Document> {
    let made = proptest::bool::weighted(0.7);
    let service = proptest::sample::select(&SERVICES);
    let node = proptest::sample::select(&NODES);
    let running = proptest::option::weighted(0.2, any::<bool>());
    (made, service, node, 0..3_u32, running, 0..4_u64, 0..3_u64, deleting())
        .prop_map(move |(made, service, node, ordinal, running, revision, written, deleting)| {
            let spec = ProcessSpec { service: service.into(), node: node.into(), running };
            let id = match made {
                true => process_id(instance, service, node, ordinal),
                false => format!("own-{ordinal}"),
            };
            let mut process = document(instance, &id, deleting, Spec::Process(spec));
            process.metadata.revision = revision;
            process.metadata.resource_version = written.to_string();
            if made {
                process.metadata.owner_references =
                    vec![OwnerReference { kind: Kind::Service, name: service.into(), uid: String::new() }];
            }
            process
        })
        .boxed()
}

/// A sighting before it is known which processes there are.
#[derive(Debug, Clone)]
struct Raw {
    complete: bool,
    bundle: Same,
    artifacts: [bool; 3],
    processes: Vec<(Index, Phase, Same, Same, Same, Option<Health>)>,
    behind: Vec<Index>,
    planned: u64,
    was_tried: bool,
}

/// How something that was seen relates to what should be.
#[derive(Debug, Clone, Copy)]
enum Same {
    Absent,
    Equal,
    Different,
}

fn same() -> impl Strategy<Value = Same> {
    prop_oneof![1 => Just(Same::Absent), 3 => Just(Same::Equal), 1 => Just(Same::Different)]
}

pub(crate) fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        4 => Just(Phase::Running),
        1 => Just(Phase::Backoff),
        1 => Just(Phase::Stopping),
        1 => Just(Phase::Stopped),
        1 => Just(Phase::Unsupervised),
        1 => Just(Phase::Lost),
        1 => Just(Phase::Busy),
    ]
}

fn raw() -> BoxedStrategy<Raw> {
    let health = prop_oneof![
        2 => Just(None),
        4 => Just(Some(Health::Healthy)),
        1 => Just(Some(Health::Unhealthy { why: "it is ill".into() })),
    ];
    let process = (any::<Index>(), phase(), same(), same(), same(), health);
    let told = (vec(any::<Index>(), 0..2), 0..4_u64, proptest::bool::weighted(0.8));
    (proptest::bool::weighted(0.85), same(), any::<[bool; 3]>(), vec(process, 0..8), told)
        .prop_map(|(complete, bundle, artifacts, processes, (behind, planned, was_tried))| Raw {
            complete,
            bundle,
            artifacts,
            processes,
            behind,
            planned,
            was_tried,
        })
        .boxed()
}

impl Raw {
    fn about(self, ids: &[String], desired: &NodeDesired) -> NodeSighting {
        let pick = |same: Same, equal: Option<&String>| match (same, equal) {
            (Same::Equal, Some(equal)) => equal.clone(),
            (Same::Absent, _) => "-".into(),
            (Same::Equal | Same::Different, _) => "other".into(),
        };
        let processes = self.processes.into_iter().map(|(index, phase, hash, care, live, health)| {
            let id = index.get(ids).clone();
            let start = desired.processes.get(&id).and_then(|process| process.start.as_ref().ok());
            let hash = pick(hash, start.map(|start| &start.hash));
            let live = pick(live, start.map(|start| &start.live));
            let care = pick(care, start.map(|start| &start.care.hash));
            (id, ProcessSighting { care, health, ..sighting(phase, &hash, &live) })
        });
        let bundle = match self.bundle {
            Same::Absent => None,
            same => Some(pick(same, desired.bundle.as_ref().map(|(hash, _)| hash))),
        };
        NodeSighting {
            complete: self.complete,
            processes: processes.collect(),
            bundle,
            root: Some(ROOT.into()),
            artifacts: ["0a".repeat(32), "0b".repeat(32), stray_artifact()]
                .into_iter()
                .zip(self.artifacts)
                .filter_map(|(address, is_there)| is_there.then_some(address))
                .collect(),
            planned: self.planned,
            behind: self.behind.iter().map(|index| index.get(ids).clone()).collect(),
            unseen_since_ms: (!self.complete && self.was_tried).then_some(0),
            ..NodeSighting::default()
        }
    }
}

/// The key of a node.
pub(crate) fn node_key(place: &Place) -> Key {
    Key::within(Kind::Node, place.0.as_str(), place.1.as_str())
}
