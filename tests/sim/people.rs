//! What people want: documents that change at random, applied as a folder of manifests and as `/1.0` would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay::clock::rfc3339;
use mainstay::metrics::Metrics;
use mainstay::model::admit::{Admitted, Origin, admit_text};
use mainstay::model::{Document, Key, Kind, Spec};
use mainstay::state::{Edit, State, apply_set, update};
use tokio::time::sleep;

use crate::checks;
use crate::rng::Rng;
use crate::server::sealer;
use crate::store::Sim;
use crate::world::{CLIENT, EPOCH_MS, World};

/// A node as it is wished for.
#[derive(Debug, Clone, PartialEq)]
struct WishedNode {
    /// Which of the machines that could be this node.
    machine: u8,
    is_cordoned: bool,
}

/// Where a service is wished for.
#[derive(Debug, Clone, PartialEq)]
enum Where {
    Nodes(BTreeSet<u8>),
    Replicas(u8),
    /// Processes of their own, on these nodes.
    Processes(BTreeSet<u8>),
}

#[derive(Debug, Clone, PartialEq)]
struct WishedService {
    /// One that can be told of changes.
    reloads: bool,
    at: Where,
    running: Option<bool>,
    option: u8,
    command: u8,
    is_poison: bool,
}

/// All that is wished for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wish {
    nodes: BTreeMap<u8, WishedNode>,
    services: BTreeMap<u8, WishedService>,
    /// The machine that each node was last. A node goes to another only when it was deleted in between: what runs on a machine that
    /// an edit of its address leaves behind is nobody's.
    machines: BTreeMap<u8, u8>,
    log_keep: u8,
    max_nodes: u8,
    max_services: u8,
    version: u64,
}

/// The address of a machine.
pub(crate) fn host(node: u8, machine: u8) -> String {
    format!("10.0.{node}.{machine}")
}

impl Wish {
    /// A small world to begin with.
    pub(crate) fn new(rng: &mut Rng, max_nodes: u8, max_services: u8) -> Wish {
        let mut wish = Wish {
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            machines: BTreeMap::new(),
            log_keep: 1,
            max_nodes,
            max_services,
            version: 1,
        };
        for node in 1..=max_nodes {
            wish.nodes.insert(node, WishedNode { machine: 1, is_cordoned: false });
        }
        for _ in 0..2 {
            wish.add_service(rng);
        }
        wish
    }

    /// The smallest that is worth while: two nodes with a process of each of two services.
    pub(crate) fn fixed() -> Wish {
        let service = |reloads| WishedService {
            reloads,
            at: Where::Nodes(BTreeSet::from([1, 2])),
            running: None,
            option: 1,
            command: 1,
            is_poison: false,
        };
        let node = || WishedNode { machine: 1, is_cordoned: false };
        Wish {
            nodes: BTreeMap::from([(1, node()), (2, node())]),
            services: BTreeMap::from([(1, service(false)), (2, service(true))]),
            machines: BTreeMap::new(),
            log_keep: 1,
            max_nodes: 2,
            max_services: 2,
            version: 1,
        }
    }

    /// The next of a few changes that touch everything once.
    pub(crate) fn vary(&mut self, step: u8) {
        self.version += 1;
        let service = self.services.get_mut(&1).expect("there is always the first");
        match step {
            0 => service.command = 2,
            1 => service.at = Where::Nodes(BTreeSet::from([2])),
            2 => service.running = Some(false),
            3 => drop(self.services.remove(&2)),
            _ => {
                self.services = Wish::fixed().services;
            }
        }
    }

    fn add_service(&mut self, rng: &mut Rng) {
        let free: Vec<u8> = (1..=self.max_services).filter(|n| !self.services.contains_key(n)).collect();
        let Some(name) = rng.pick(&free) else { return };
        let service = WishedService {
            reloads: rng.one_in(3),
            at: self.somewhere(rng),
            running: rng.pick(&[None, None, Some(true), Some(false)]).flatten(),
            option: 1,
            command: 1,
            is_poison: rng.one_in(12),
        };
        self.services.insert(name, service);
    }

    fn somewhere(&self, rng: &mut Rng) -> Where {
        let mut nodes: BTreeSet<u8> = self.nodes.keys().copied().filter(|_| rng.one_in(2)).collect();
        nodes.extend(rng.pick(&self.nodes.keys().copied().collect::<Vec<_>>()));
        match rng.between(0, 2) {
            0 => Where::Nodes(nodes),
            1 => Where::Replicas(rng.between(0, 3) as u8),
            _ => Where::Processes(nodes),
        }
    }

    /// Changes something; what, for the trace. Whether what was wished for before is applied, people see.
    pub(crate) fn change(&mut self, rng: &mut Rng, is_applied: bool) -> String {
        self.version += 1;
        let names: Vec<u8> = self.services.keys().copied().collect();
        let Some(name) = rng.pick(&names) else {
            self.add_service(rng);
            return "a service is added".into();
        };
        let somewhere = self.somewhere(rng);
        let service = self.services.get_mut(&name).expect("it was picked");
        match rng.between(0, 12) {
            0 => {
                self.add_service(rng);
                "a service is added".into()
            }
            1 => {
                self.services.remove(&name);
                format!("SV{name} is deleted")
            }
            2 => {
                self.services.remove(&name);
                self.add_service(rng);
                format!("SV{name} is deleted and another added")
            }
            3 | 4 => {
                service.at = somewhere;
                format!("SV{name} moves to {:?}", service.at)
            }
            5 => {
                service.running = rng.pick(&[None, Some(true), Some(false)]).flatten();
                format!("SV{name} runs: {:?}", service.running)
            }
            6 => {
                service.option = service.option.wrapping_add(1);
                format!("SV{name} has another option")
            }
            7 => {
                service.command = service.command.wrapping_add(1);
                format!("SV{name} has another command")
            }
            8 => {
                service.is_poison = !service.is_poison;
                format!("SV{name} can be rendered: {}", !service.is_poison)
            }
            9 => {
                self.log_keep = self.log_keep % 3 + 1;
                "logs are kept for another time".into()
            }
            10 => {
                let node = rng.between(1, u64::from(self.max_nodes)) as u8;
                match self.nodes.get_mut(&node) {
                    Some(wished) => wished.is_cordoned = !wished.is_cordoned,
                    None => self.add_node(rng, node, is_applied),
                }
                format!("ND{node} is (un)cordoned, or back")
            }
            _ => {
                let node = rng.between(1, u64::from(self.max_nodes)) as u8;
                if self.nodes.len() > 1 && self.nodes.remove(&node).is_some() {
                    return format!("ND{node} is deleted");
                }
                self.add_node(rng, node, is_applied);
                format!("ND{node} is there")
            }
        }
    }

    fn add_node(&mut self, rng: &mut Rng, node: u8, is_applied: bool) {
        if self.nodes.contains_key(&node) {
            return;
        }
        let other = rng.between(1, 2) as u8;
        let machine = if is_applied { other } else { self.machines.get(&node).copied().unwrap_or(1) };
        self.machines.insert(node, machine);
        self.nodes.insert(node, WishedNode { machine, is_cordoned: false });
    }

    fn text(&self) -> String {
        let document = |kind: &str, name: &str, spec: String| {
            let namespace = match kind {
                "Instance" | "ServiceType" => "",
                _ => ", namespace: IN1",
            };
            format!(
                "---\napiVersion: mainstay.dev/v1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\nspec: {spec}\n"
            )
        };
        let mut text = document("Instance", "IN1", "{name: one, zk: 'z:1', redis: 'redis://r'}".into());
        let log = format!("log: {{max-size: 65536, keep: {}}}", self.log_keep);
        let common = format!("command: [run, '{{{{ options.size }}}}'], start: {{seconds: 0}}, {log}");
        let schema = "options-schema: {type: object, properties: {size: {type: integer}}}";
        text += &document("ServiceType", "plain", format!("{{{common}, {schema}}}"));
        let live = "reload: {signal: HUP}, live-options: [size]";
        let told = format!("command: [serve], start: {{seconds: 0}}, {log}, {live}");
        text += &document("ServiceType", "told", format!("{{{told}, {schema}}}"));
        for (node, WishedNode { machine, is_cordoned }) in &self.nodes {
            let spec = format!(
                "{{name: n, ip-address: {}, username: u, status: {}}}",
                host(*node, *machine),
                !is_cordoned
            );
            text += &document("Node", &format!("ND{node}"), spec);
        }
        for (name, service) in &self.services {
            let names = |nodes: &BTreeSet<u8>| {
                let there = nodes.iter().filter(|node| self.nodes.contains_key(node));
                there.map(|node| format!("ND{node}")).collect::<Vec<_>>()
            };
            let kind = if service.reloads { "told" } else { "plain" };
            let mut spec = format!("{{type: {kind}, name: s, options: {{size: {}}}", service.option);
            if service.command > 1 {
                spec += &format!(", command: [other, '{}']", service.command);
            }
            if service.is_poison {
                spec += ", env: {POISON: '{{ options.nothing }}'}";
            }
            if let Some(running) = service.running {
                spec += &format!(", running: {running}");
            }
            match &service.at {
                Where::Nodes(nodes) => spec += &format!(", nodes: [{}]", names(nodes).join(", ")),
                Where::Replicas(count) => spec += &format!(", replicas: {count}"),
                Where::Processes(_) => {}
            }
            text += &document("Service", &format!("SV{name}"), spec + "}");
            if let Where::Processes(nodes) = &service.at {
                for node in names(nodes) {
                    let process = format!("p-{name}-{node}");
                    text += &document("Process", &process, format!("{{service: SV{name}, node: {node}}}"));
                }
            }
        }
        text
    }
}

/// People, with a server of their own to ask, which reconciles nothing.
pub(crate) struct People {
    world: World,
    state: State,
    admitted: BTreeMap<String, Admitted>,
}

fn now(world: &World) -> String {
    rfc3339(EPOCH_MS + world.with(|inner| inner.now()))
}

impl People {
    pub(crate) async fn new(world: &World) -> People {
        let store = Arc::new(Sim { world: world.clone(), who: CLIENT });
        let state = State::open(store, Arc::new(Metrics::default())).await.expect("nothing fails yet");
        People { world: world.clone(), state, admitted: BTreeMap::new() }
    }

    fn set(&mut self, wish: &Wish) -> Vec<Admitted> {
        let text = wish.text();
        let mut set = Vec::new();
        for document in text.split("---\n").filter(|part| !part.is_empty()) {
            let admitted = self.admitted.entry(document.to_owned()).or_insert_with(|| {
                let admitted = admit_text(document, &Origin::default(), &sealer());
                admitted.unwrap_or_else(|problems| panic!("{problems:?}\n{document}")).remove(0)
            });
            set.push(admitted.clone());
        }
        set
    }

    /// Applies what is wished for, once; whether it is all there.
    pub(crate) async fn apply(&mut self, wish: &Wish) -> bool {
        let set = self.set(wish);
        let documents = self.state.snapshot().documents;
        let change = match apply_set(&documents, "folder", &set, &now(&self.world)) {
            Ok(change) => change,
            Err(problems) => panic!("{problems:?}"),
        };
        let is_done = change.edits.is_empty() && change.waiting.is_empty();
        if change.edits.is_empty() {
            return is_done;
        }
        self.commit(&change.edits).await;
        false
    }

    /// Starts or stops a service, as `/1.0` does, where the manifest is silent.
    pub(crate) async fn switch(&mut self, name: u8, running: bool) {
        let key = Key::within(Kind::Service, "IN1", format!("SV{name}"));
        let documents = self.state.snapshot().documents;
        let Some(found) = documents.live(&key) else { return };
        if found.metadata.annotations.contains_key(mainstay::model::meta::RUNNING_DECLARED) {
            return;
        }
        let Spec::Service(mut service) = found.spec.clone() else { return };
        service.running = Some(running);
        let Some(edit) = update(found, Spec::Service(service)) else { return };
        self.world.with(|inner| inner.say(format!("people: {key} runs: {running}")));
        self.commit(&[edit]).await;
    }

    async fn commit(&mut self, edits: &[Edit]) {
        let committed = self.state.commit_at(edits, None).await;
        let Ok(Some(revision)) = committed else {
            // Whatever happened, it is looked at again.
            sleep(Duration::from_millis(500)).await;
            return;
        };
        // More than one transaction has more than one revision.
        if edits.len() > mainstay::state::BATCH {
            return;
        }
        let wrote: Vec<(String, Option<Vec<u8>>)> = edits
            .iter()
            .filter_map(|edit| match edit {
                Edit::Create(document) | Edit::Replace(document) => {
                    Some((path(document), Some(document.to_value().to_string().into_bytes())))
                }
                Edit::Remove(document) => Some((path(document), None)),
                Edit::Expect(_) => None,
            })
            .collect();
        self.world.with(|inner| checks::durable(inner, revision, &wrote));
    }
}

fn path(document: &Document) -> String {
    let Key { kind, namespace, name } = document.key();
    let namespace = if namespace.is_empty() { "-" } else { &namespace };
    format!("doc/{kind}/{namespace}/{name}")
}
