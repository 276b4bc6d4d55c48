//! What people want: documents that change at random, applied as a folder of manifests and as `/1.0` would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay::clock::rfc3339;
use mainstay::metrics::Metrics;
use mainstay::model::admit::{Admitted, Origin, admit_text};
use mainstay::model::kinds::RevisionSpec;
use mainstay::model::meta::{DRAINING, PAUSED, RESTARTED};
use mainstay::model::{Document, Documents, Key, Kind, Spec};
use mainstay::plan::revision::Declarations;
use mainstay::state::{Edit, State, apply_set, update_by_api};
use tokio::time::sleep;

use crate::checks;
use crate::node::{DIES, SICK};
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

/// What type a service is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Plain,
    /// One that can be told of changes.
    Told,
    /// One whose nodes ask whether it does its work.
    Checked,
}

/// What is to be done about a silent node, after so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failover {
    Hold,
    Replace(u8),
    Fenced(u8),
}

/// How changes are rolled out.
#[derive(Debug, Clone, PartialEq)]
struct Update {
    max_unavailable: &'static str,
    min_ready: u8,
    deadline: u8,
    rolls_back: bool,
}

impl Update {
    fn draw(rng: &mut Rng) -> Option<Update> {
        if rng.one_in(3) {
            return None;
        }
        Some(Update {
            max_unavailable: rng.pick(&["1", "2", "50%"])?,
            min_ready: rng.pick(&[0, 0, 3])?,
            deadline: rng.pick(&[10, 30])?,
            rolls_back: rng.one_in(2),
        })
    }
}

/// What a command makes of its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temper {
    Sound,
    Sick,
    Dies,
}

#[derive(Debug, Clone, PartialEq)]
struct WishedService {
    kind: Type,
    at: Where,
    running: Option<bool>,
    option: u8,
    command: u8,
    temper: Temper,
    is_poison: bool,
    /// Only where the label says so.
    is_choosy: bool,
    failover: Failover,
    update: Option<Update>,
}

/// What people say of an object beside what they declare.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said {
    /// A service is to run or not.
    Switch(u8, bool),
    Pause(u8),
    Resume(u8),
    Restart(u8),
    RollBack(u8),
    Drain(u8),
    Uncordon(u8),
}

impl Said {
    /// Something of somebody.
    pub(crate) fn draw(rng: &mut Rng) -> Said {
        let of = rng.between(1, 4) as u8;
        match rng.between(0, 8) {
            0 | 1 => Said::Switch(of, rng.one_in(2)),
            2 => Said::Pause(of),
            3 => Said::Resume(of),
            4 => Said::Restart(of),
            5 => Said::RollBack(of),
            6 | 7 => Said::Drain(of),
            _ => Said::Uncordon(of),
        }
    }
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
    /// Whether the type that can be checked is.
    has_check: bool,
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
            has_check: true,
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
        let service = |kind| WishedService {
            kind,
            at: Where::Nodes(BTreeSet::from([1, 2])),
            running: None,
            option: 1,
            command: 1,
            temper: Temper::Sound,
            is_poison: false,
            is_choosy: false,
            failover: Failover::Hold,
            update: None,
        };
        let node = || WishedNode { machine: 1, is_cordoned: false };
        Wish {
            nodes: BTreeMap::from([(1, node()), (2, node())]),
            services: BTreeMap::from([(1, service(Type::Plain)), (2, service(Type::Told))]),
            machines: BTreeMap::new(),
            log_keep: 1,
            has_check: true,
            max_nodes: 2,
            max_services: 2,
            version: 1,
        }
    }

    /// As small: a service that may run in one place only, and one of two processes of which one has to stay.
    pub(crate) fn guarded() -> Wish {
        let mut wish = Wish::fixed();
        let update = Some(Update { max_unavailable: "1", min_ready: 1, deadline: 10, rolls_back: true });
        for service in wish.services.values_mut() {
            service.update.clone_from(&update);
            (service.kind, service.at) = (Type::Checked, Where::Replicas(2));
        }
        let first = wish.services.get_mut(&1).expect("there is always the first");
        (first.failover, first.at) = (Failover::Fenced(5), Where::Replicas(1));
        wish
    }

    /// The next of a few changes of that.
    pub(crate) fn vary_guarded(&mut self, step: u8) {
        self.version += 1;
        match step {
            0 => self.services.values_mut().for_each(|service| service.command = 2),
            1 => {
                let first = self.services.get_mut(&1).expect("there is always the first");
                first.failover = Failover::Fenced(8);
                first.at = Where::Replicas(2);
                let second = self.services.get_mut(&2).expect("there is always the second");
                (second.temper, second.command) = (Temper::Sick, 3);
            }
            2 => {
                self.nodes.get_mut(&1).expect("there is always the first").is_cordoned = true;
                self.services.values_mut().for_each(|service| service.at = Where::Replicas(1));
            }
            3 => {
                self.nodes.get_mut(&1).expect("there is always the first").is_cordoned = false;
                self.services.values_mut().for_each(|service| service.failover = Failover::Replace(3));
            }
            _ => self.services = Wish::guarded().services,
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
            kind: rng.pick(&[Type::Plain, Type::Told, Type::Checked]).expect("there are some"),
            at: self.somewhere(rng),
            running: rng.pick(&[None, None, Some(true), Some(false)]).flatten(),
            option: 1,
            command: 1,
            temper: Temper::Sound,
            is_poison: rng.one_in(12),
            is_choosy: rng.one_in(6),
            failover: failover(rng),
            update: Update::draw(rng),
        };
        self.services.insert(name, service);
    }

    fn somewhere(&self, rng: &mut Rng) -> Where {
        let mut nodes: BTreeSet<u8> = self.nodes.keys().copied().filter(|_| rng.one_in(2)).collect();
        nodes.extend(rng.pick(&self.nodes.keys().copied().collect::<Vec<_>>()));
        match rng.between(0, 4) {
            0 => Where::Nodes(nodes),
            1..=3 => Where::Replicas(rng.pick(&[0, 1, 1, 2, 2, 3]).expect("there are some")),
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
        match rng.between(0, 20) {
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
            11 | 12 => {
                service.failover = failover(rng);
                format!("SV{name} has the failover {:?}", service.failover)
            }
            13 => {
                service.update = Update::draw(rng);
                format!("SV{name} has the update {:?}", service.update)
            }
            14 | 15 => {
                service.command = service.command.wrapping_add(1);
                let tempers = [Temper::Sound, Temper::Sound, Temper::Sick, Temper::Dies];
                service.temper = rng.pick(&tempers).expect("there are some");
                format!("SV{name} has another command, which is {:?}", service.temper)
            }
            16 => {
                self.has_check = !self.has_check;
                format!("what can be checked is: {}", self.has_check)
            }
            17 => {
                service.is_choosy = !service.is_choosy;
                format!("SV{name} is only where the label says so: {}", service.is_choosy)
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
            let labels = match (kind, name) {
                ("Node", "ND1" | "ND3") => ", labels: {zone: a}",
                _ => "",
            };
            let namespace = match kind {
                "Instance" | "ServiceType" => "",
                _ => ", namespace: IN1",
            };
            format!(
                "---\napiVersion: mainstay.dev/v1\nkind: {kind}\nmetadata: {{name: {name}{namespace}{labels}, annotations: {{mainstay.dev/take-over: \"true\"}}}}\nspec: {spec}\n"
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
        let health = if self.has_check { ", health: {exec: [check]}" } else { "" };
        text += &document("ServiceType", "checked", format!("{{{common}, {schema}{health}}}"));
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
            let kind = match service.kind {
                Type::Plain => "plain",
                Type::Told => "told",
                Type::Checked => "checked",
            };
            let mut spec = format!("{{type: {kind}, name: s, options: {{size: {}}}", service.option);
            let temper = match service.temper {
                Temper::Sound => String::new(),
                Temper::Sick => format!(", {SICK}"),
                Temper::Dies => format!(", {DIES}"),
            };
            if service.command > 1 || service.temper != Temper::Sound {
                spec += &format!(", command: [other, '{}'{temper}]", service.command);
            }
            // Elsewhere there is nothing else, so it is refused.
            let is_placed = matches!(service.at, Where::Replicas(_));
            match service.failover {
                // Said or not, it is the same.
                Failover::Hold if is_placed && service.option % 2 == 1 => spec += ", failover: hold",
                Failover::Hold => {}
                Failover::Replace(_) | Failover::Fenced(_) if !is_placed => {}
                Failover::Replace(after) => spec += &format!(", failover: {{replace: {{after: {after}s}}}}"),
                Failover::Fenced(lease) => spec += &format!(", failover: {{fenced: {{lease: {lease}s}}}}"),
            }
            if let Some(Update { max_unavailable, min_ready, deadline, rolls_back }) = &service.update {
                let then = if *rolls_back { "rollback" } else { "pause" };
                spec += &format!(
                    ", update: {{max-unavailable: {max_unavailable}, min-ready-seconds: {min_ready}, \
                     progress-deadline-seconds: {deadline}, on-failure: {then}}}"
                );
            }
            if service.is_poison {
                spec += ", env: {POISON: '{{ options.nothing }}'}";
            }
            if let Some(running) = service.running {
                spec += &format!(", running: {running}");
            }
            match &service.at {
                Where::Nodes(nodes) => spec += &format!(", nodes: [{}]", names(nodes).join(", ")),
                Where::Replicas(count) => {
                    spec += &format!(", replicas: {count}");
                    if service.is_choosy {
                        spec += ", node-selector: {zone: a}";
                    }
                }
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

    /// Says something of an object, as `/1.0` does.
    pub(crate) async fn say(&mut self, said: Said) {
        let documents = self.state.snapshot().documents;
        let edits = match said {
            Said::Switch(name, running) => {
                switch(&documents, name, running, &now(&self.world)).into_iter().collect()
            }
            Said::Pause(name) => self.of_service(&documents, name, |_, document| {
                vec![annotated(document, |annotations| drop(annotations.insert(PAUSED.into(), "now".into())))]
            }),
            Said::Restart(name) => self.of_service(&documents, name, |people, document| {
                let again = again(people);
                let restart =
                    |annotations: &mut Annotations| drop(annotations.insert(RESTARTED.into(), again));
                let is_paused = document.metadata.annotations.contains_key(PAUSED);
                if is_paused { Vec::new() } else { vec![annotated(document, restart)] }
            }),
            Said::Resume(name) => self.of_service(&documents, name, |people, document| {
                let again = again(people);
                let fails = people.world.with(|inner| checks::fails(inner, document));
                resumed(&documents, document, fails.then_some(again))
            }),
            Said::RollBack(name) => {
                self.of_service(&documents, name, |_, document| rolled_back(&documents, document))
            }
            Said::Drain(name) => of_node(&documents, name, |annotations| {
                annotations.insert(DRAINING.into(), "now".into()).is_none()
            }),
            Said::Uncordon(name) => {
                of_node(&documents, name, |annotations| annotations.remove(DRAINING).is_some())
            }
        };
        if !edits.is_empty() {
            self.world.with(|inner| inner.say(format!("people: {said:?}")));
            self.commit(&edits).await;
        }
    }

    fn of_service(
        &self,
        documents: &Documents,
        name: u8,
        say: impl FnOnce(&People, &Document) -> Vec<Edit>,
    ) -> Vec<Edit> {
        let found = documents.live(&Key::within(Kind::Service, "IN1", format!("SV{name}")));
        found.map_or_else(Vec::new, |document| say(self, document))
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

type Annotations = BTreeMap<String, String>;

fn switch(documents: &Documents, name: u8, running: bool, now: &str) -> Option<Edit> {
    let found = documents.live(&Key::within(Kind::Service, "IN1", format!("SV{name}")))?;
    let Spec::Service(mut service) = found.spec.clone() else { return None };
    service.running = Some(running);
    // Where the manifest says it, `/1.0` refuses.
    update_by_api(found, Spec::Service(service), now).ok().flatten()
}

fn of_node(documents: &Documents, name: u8, say: impl FnOnce(&mut Annotations) -> bool) -> Vec<Edit> {
    let found = documents.live(&Key::within(Kind::Node, "IN1", format!("ND{name}")));
    let Some(mut document) = found.map(|found| Document::clone(found)) else { return Vec::new() };
    if say(&mut document.metadata.annotations) { vec![Edit::Replace(document)] } else { Vec::new() }
}

fn annotated(document: &Document, say: impl FnOnce(&mut Annotations)) -> Edit {
    let mut document = document.clone();
    say(&mut document.metadata.annotations);
    document.metadata.generation += 1;
    Edit::Replace(document)
}

/// A restart, unlike all others.
fn again(people: &People) -> String {
    people.world.with(|inner| inner.now()).to_string()
}

/// The revision that is declared, as it was recorded.
fn recorded<'a>(
    documents: &'a Documents,
    document: &'a Document,
) -> Option<(&'a Arc<Document>, &'a RevisionSpec)> {
    let Spec::Service(service) = &document.spec else { return None };
    let all: Vec<_> = documents.revisions_of(&document.key()).collect();
    Declarations::new(documents).find(document, service, &all)
}

fn resumed(documents: &Documents, document: &Document, again: Option<String>) -> Vec<Edit> {
    let is_paused = document.metadata.annotations.contains_key(PAUSED);
    let marked = recorded(documents, document)
        .filter(|(_, revision)| revision.failed.is_some() || revision.replaced_by.is_some());
    let Some((recorded, revision)) = marked else {
        let resume = |annotations: &mut Annotations| drop(annotations.remove(PAUSED));
        return if is_paused { vec![annotated(document, resume)] } else { Vec::new() };
    };
    let said = annotated(document, |annotations| {
        annotations.remove(PAUSED);
        annotations.extend(again.map(|again| (RESTARTED.to_owned(), again)));
    });
    let mut retried = Document::clone(recorded);
    retried.spec = Spec::Revision(RevisionSpec { failed: None, replaced_by: None, ..revision.clone() });
    vec![said, Edit::Replace(retried)]
}

fn rolled_back(documents: &Documents, document: &Document) -> Vec<Edit> {
    let is_paused = document.metadata.annotations.contains_key(PAUSED);
    let Some((recorded, declared)) = recorded(documents, document).filter(|_| !is_paused) else {
        return Vec::new();
    };
    let runs = declared.replaced_by.unwrap_or(declared.number);
    let key = document.key();
    let all = documents.revisions_of(&key).map(|(_, revision)| revision);
    let good = all.filter(|revision| revision.number < runs && revision.completed).last();
    let Some(good) = good else { return Vec::new() };
    let failed = Some(RevisionSpec::ROLLED_BACK.to_owned());
    let mut marked = Document::clone(recorded);
    marked.spec = Spec::Revision(RevisionSpec { failed, replaced_by: Some(good.number), ..declared.clone() });
    vec![annotated(document, |_| {}), Edit::Replace(marked)]
}

fn failover(rng: &mut Rng) -> Failover {
    match rng.between(0, 4) {
        0 => Failover::Hold,
        1 => Failover::Replace(rng.between(1, 15) as u8),
        _ => Failover::Fenced(rng.between(5, 9) as u8),
    }
}

fn path(document: &Document) -> String {
    let Key { kind, namespace, name } = document.key();
    let namespace = if namespace.is_empty() { "-" } else { &namespace };
    format!("doc/{kind}/{namespace}/{name}")
}
