//! Worlds of any size in which everything is as it should be.

use std::collections::BTreeMap;

use mainstay::model::id::process_id;
use mainstay::model::kinds::{InstanceSpec, NodeSpec, ProcessSpec, ServiceSpec, ServiceTypeSpec};
use mainstay::model::meta::OwnerReference;
use mainstay::model::{Document, Documents, Key, Kind, Metadata, Spec};
use mainstay::plan::render::{Surroundings, desired};
use mainstay::plan::world::{NodeDesired, NodeSighting, Phase, ProcessSighting};
use serde_json::json;

/// The one instance.
pub(crate) const INSTANCE: &str = "IN1";
/// Processes on each node.
pub(crate) const ON_A_NODE: usize = 100;
/// Nodes of a pool; its nodes have its label, and its services are placed there.
const POOL: usize = 100;
/// Replicas of a service that is spread.
const REPLICAS: usize = 50;
/// How many of a node's processes are of services that name it; the others are of those that are spread.
const NAMED: usize = 40;

/// (instance, node).
pub(crate) type Place = (String, String);

/// Documents, the first without any process.
pub(crate) struct World {
    pub(crate) bare: Documents,
    pub(crate) documents: Documents,
}

fn document(namespace: &str, name: &str, spec: Spec) -> Document {
    let metadata = Metadata {
        name: name.into(),
        namespace: namespace.into(),
        uid: process_id(namespace, name, "", 0),
        resource_version: "123456".into(),
        generation: 1,
        creation_timestamp: "2026-01-01T00:00:00Z".into(),
        ..Metadata::default()
    };
    Document { metadata, spec }
}

fn node_name(number: usize) -> String {
    format!("ND{number:06}")
}

/// The service of a pool that is spread.
pub(crate) fn spread_name(pool: usize, number: usize) -> String {
    format!("SP{pool:04}-{number:04}")
}

impl World {
    /// A world with so many processes.
    pub(crate) fn new(processes: usize) -> World {
        let nodes = processes / ON_A_NODE;
        let mut bare: Documents = [
            document("", INSTANCE, Spec::Instance(InstanceSpec::default())),
            document("", "web", Spec::ServiceType(service_type())),
        ]
        .into_iter()
        .collect();
        let mut made = Vec::with_capacity(processes);
        for number in 0..nodes {
            let name = node_name(number);
            let spec = NodeSpec {
                name: format!("Node {number}"),
                ip_address: format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255),
                username: "mainstay".into(),
                ..NodeSpec::default()
            };
            let mut node = document(INSTANCE, &name, Spec::Node(spec));
            node.metadata.labels.insert("pool".into(), format!("P{}", number / POOL));
            node.metadata.labels.insert("zone".into(), format!("Z{}", number % 3));
            bare.insert(node);
        }
        for (pool, first) in (0..nodes).step_by(POOL).enumerate() {
            let size = POOL.min(nodes - first);
            let names: Vec<String> = (first..first + size).map(node_name).collect();
            for number in 0..NAMED {
                let name = format!("SN{pool:04}-{number:04}");
                let spec = ServiceSpec { nodes: Some(names.clone()), ..service(number) };
                let service = document(INSTANCE, &name, Spec::Service(spec));
                made.extend(names.iter().map(|node| process(&service, node, 0)));
                bare.insert(service);
            }
            let spread = size * (ON_A_NODE - NAMED) / REPLICAS;
            for number in 0..spread {
                let name = spread_name(pool, number);
                let node_selector = BTreeMap::from([("pool".into(), format!("P{pool}"))]);
                let replicas = u32::try_from(REPLICAS).ok();
                let spec = ServiceSpec { replicas, node_selector, ..service(number) };
                let service = document(INSTANCE, &name, Spec::Service(spec));
                for replica in 0..REPLICAS {
                    let node = &names[(number * REPLICAS + replica) % size];
                    made.push(process(&service, node, u32::try_from(replica / size).unwrap()));
                }
                bare.insert(service);
            }
        }
        assert_eq!(made.len(), processes, "give a multiple of 1000");
        let mut documents = bare.clone();
        made.into_iter().for_each(|process| documents.insert(process));
        World { bare, documents }
    }
}

fn service_type() -> ServiceTypeSpec {
    let schema = json!({"properties": {"port": {"default": 8080}, "token-ttl": {"default": 300}}});
    ServiceTypeSpec {
        command: [
            "/opt/web/bin/serve",
            "--port={{ options.port }}",
            "--id={{ process.id }}",
            "--node={{ node.id }}",
        ]
        .map(str::to_owned)
        .to_vec(),
        env: BTreeMap::from([("REDIS".into(), "{{ instance.redis }}".into())]),
        options_schema: schema.as_object().unwrap().clone(),
        ..ServiceTypeSpec::default()
    }
}

fn service(number: usize) -> ServiceSpec {
    ServiceSpec {
        kind: "web".into(),
        name: format!("Service {number}"),
        options: json!({"port": 8000 + number}).as_object().cloned(),
        ..ServiceSpec::default()
    }
}

fn process(service: &Document, node: &str, ordinal: u32) -> Document {
    let Metadata { name, uid, .. } = &service.metadata;
    let spec = ProcessSpec { service: name.clone(), node: node.into(), running: None };
    let mut process = document(INSTANCE, &process_id(INSTANCE, name, node, ordinal), Spec::Process(spec));
    let owner = OwnerReference { kind: Kind::Service, name: name.clone(), uid: uid.clone() };
    process.metadata.owner_references.push(owner);
    process
}

/// What should be on a node.
pub(crate) fn rendered(documents: &Documents, node: &Key) -> NodeDesired {
    let surroundings = Surroundings { mainstay: "/usr/bin/mainstay".into(), root: Some("/node".into()) };
    desired(documents, node, &surroundings)
}

/// A node on which all is as it should be.
pub(crate) fn as_desired(desired: &NodeDesired) -> NodeSighting {
    let running = desired.processes.values().map(|process| {
        let start = process.start.as_ref().unwrap();
        let sighting = ProcessSighting {
            phase: Phase::Running,
            pid: Some(4711),
            restarts: 0,
            exit: None,
            hash: start.hash.clone(),
            care: start.care.hash.clone(),
            live: start.live.clone(),
            health: None,
            lease: None,
            since_ms: 0,
        };
        (process.id.clone(), sighting)
    });
    NodeSighting {
        complete: true,
        processes: running.collect(),
        bundle: desired.bundle.as_ref().map(|(hash, _)| hash.clone()),
        root: Some("/node".into()),
        planned: u64::MAX,
        ..NodeSighting::default()
    }
}
