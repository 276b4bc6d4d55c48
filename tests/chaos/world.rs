//! The world that is shaken: nodes with real sshds, a controller on a real store, services; and how each fault is done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::census::{Census, Linked, Marks, Seen};
use super::observer::Observer;
use super::plan::{Event, Fault, NODES, Place, SERVICES};
use super::stranger::Stranger;
use crate::support::etcd::EtcdServer;
use crate::support::program::{Program, call};
use crate::support::sshd::{Sshd, user};
use crate::support::wait_for;

/// The bound: so long after the last fault everything runs.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// How long a world must look settled to be it: longer than a restart, shorter than anybody waits.
const SETTLED_FOR: Duration = Duration::from_millis(300);

/// What a world's documents are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Embedded,
    Etcd,
}

/// A running world.
pub(crate) struct World {
    engine: Engine,
    directory: TempDir,
    nodes: Vec<Sshd>,
    etcd: Option<EtcdServer>,
    /// Which of the two data folders the acting controller has.
    data: usize,
    controller: Option<Program>,
    /// The one that led when the one that is asked now was started. It still does, until it ends.
    deposed: Option<Program>,
    marks: Marks,
    ids: BTreeMap<(usize, usize), String>,
    frozen: BTreeMap<usize, Vec<Seen>>,
    /// Pids that programs had which were killed to let strangers have them.
    vacated: BTreeMap<(usize, usize), u32>,
    strangers: Vec<Stranger>,
    /// Services that were stopped and not yet started again.
    stopped: BTreeSet<usize>,
    observer: Observer,
    /// How often each fault found something to befall.
    pub(crate) done: BTreeMap<&'static str, u32>,
    pub(crate) slowest: Duration,
}

impl World {
    /// Makes a world, and waits until everything runs.
    pub(crate) fn start(engine: Engine) -> World {
        let directory = TempDir::new().unwrap();
        let service = directory.path().join("service.sh");
        std::fs::write(&service, include_str!("service.sh")).unwrap();
        let service = service.display().to_string();
        let nodes: Vec<Sshd> = (0..NODES).map(|_| Sshd::start()).collect();
        let manifests = directory.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        std::fs::write(manifests.join("all.yaml"), documents(&nodes, &service)).unwrap();
        let marks = Marks {
            world: directory.path().to_owned(),
            nodes: nodes.iter().map(|node| node.directory().to_owned()).collect(),
            service: service.clone(),
            processes: BTreeSet::new(),
        };
        let mut world = World {
            engine,
            directory,
            nodes,
            etcd: (engine == Engine::Etcd).then(EtcdServer::start),
            data: 0,
            controller: None,
            deposed: None,
            marks,
            ids: BTreeMap::new(),
            frozen: BTreeMap::new(),
            vacated: BTreeMap::new(),
            strangers: Vec::new(),
            stopped: BTreeSet::new(),
            observer: Observer::start(&service),
            done: BTreeMap::new(),
            slowest: Duration::ZERO,
        };
        world.controller = Some(world.serve(0));
        wait_for("all processes to be placed", || world.learn_ids());
        world.settle(Instant::now());
        world
    }

    /// Does a round's faults, each in its time, then waits until everything runs again.
    pub(crate) fn shake(&mut self, events: &[Event]) {
        let begin = Instant::now();
        let mut moments: Vec<(u64, bool, Fault)> = Vec::new();
        for event in events {
            moments.push((event.begin_ms, false, event.fault));
            moments.push((event.end_ms, true, event.fault));
        }
        moments.sort_by_key(|(at, is_end, _)| (*at, *is_end));
        for (at, is_end, fault) in moments {
            std::thread::sleep((begin + Duration::from_millis(at)).saturating_duration_since(Instant::now()));
            if is_end {
                self.end_fault(fault);
            } else {
                let found = self.begin_fault(fault);
                self.count(found);
            }
        }
        self.settle(Instant::now());
        for stranger in self.strangers.drain(..) {
            assert!(stranger.lives(), "a stranger was killed for having had our pid");
        }
    }

    fn count(&mut self, done: Option<&'static str>) {
        *self.done.entry(done.unwrap_or("(found nothing to befall)")).or_default() += 1;
    }

    /// Ends the controller, then the services: each time nothing stays that should not.
    pub(crate) fn end(mut self) {
        let before = self.census();
        let (status, said) = self.controller.take().unwrap().end();
        assert!(status.success(), "{said}");
        self.wait("no ssh, shell or tail to be left by the controller", |now| {
            now.links.iter().all(Linked::is_empty)
        });
        let roots = |census: &Census| -> Vec<u32> {
            census.trees.values().flat_map(|tree| &tree.roots).map(|root| root.pid).collect()
        };
        assert_eq!(roots(&self.census()), roots(&before), "the services go on without a controller");

        self.controller = Some(self.serve(self.data));
        for service in 0..SERVICES.len() {
            wait_for("the service to be told to stop", || self.tell(service, "stop"));
        }
        self.wait("all services and supervisors to be gone", |now| {
            now.trees.values().all(|tree| tree.members.is_empty() && tree.supervisors.is_empty())
        });
        let (status, said) = self.controller.take().unwrap().end();
        assert!(status.success(), "{said}");
        let nodes: Vec<u32> = self.nodes.iter().map(Sshd::pid).collect();
        self.wait("nothing to be left", |now| now.all().all(|seen| nodes.contains(&seen.pid)));
        self.check_copies();
        let report = self.observer.report();
        eprintln!(
            "{:?}: {:#?}\nslowest to settle: {:.1?}; observer: {} looks, at most {:.0?} apart",
            self.engine, self.done, self.slowest, report.looks, report.longest_gap
        );
    }

    fn serve(&self, data: usize) -> Program {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let (key, manifests) = (at("secret.key"), at("manifests"));
        let mut more = vec!["--secret-key", &key, "--manifests", &manifests];
        let endpoint = self.etcd.as_ref().map(EtcdServer::endpoint);
        more.extend(endpoint.iter().flat_map(|endpoint| ["--etcd", endpoint, "--lease", "2"]));
        let program = Program::serve(&self.data_folder(data), &more);
        program.api();
        program
    }

    fn data_folder(&self, data: usize) -> PathBuf {
        self.directory.path().join(format!("data-{data}"))
    }

    fn learn_ids(&mut self) -> bool {
        let Some((200, text)) = self.call("GET", "/processes") else { return false };
        let Ok(Value::Array(listed)) = serde_json::from_str(&text) else { return false };
        for process in &listed {
            let index = |field: &str, prefix: &str| -> usize {
                process[field].as_str().unwrap().strip_prefix(prefix).unwrap().parse::<usize>().unwrap() - 1
            };
            let id = process["id"].as_str().unwrap().to_owned();
            self.ids.insert((index("service", "SV"), index("node", "ND")), id.clone());
            self.marks.processes.insert(id);
        }
        self.ids.len() == NODES * SERVICES.len()
    }

    fn call(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let api = self.controller.as_ref()?.api();
        call(method, &format!("{api}/1.0{path}"), "")
    }

    fn census(&self) -> Census {
        Census::take(&self.marks)
    }

    fn id(&self, place: Place) -> &str {
        &self.ids[&(place.service, place.node)]
    }

    /// Starts or stops a service; false when nobody took the word.
    fn tell(&self, service: usize, what: &str) -> bool {
        let path = format!("/instances/IN1/services/{}/{what}?wait=false", SERVICES[service].0);
        self.call("POST", &path).is_some_and(|(status, _)| status == 200)
    }

    /// Does a fault; answers its name, or none when there was nothing to do it to.
    fn begin_fault(&mut self, fault: Fault) -> Option<&'static str> {
        let is_hit = match fault {
            Fault::KillMaster(node) => kill_all(&self.census().links[node].masters),
            Fault::KillListener(node) => {
                self.nodes[node].kill();
                true
            }
            Fault::KillSession(node) => kill_all(&self.sessions(node)),
            Fault::KillSshd(node) => {
                let sessions = self.sessions(node);
                self.nodes[node].kill();
                kill_all(&sessions)
            }
            Fault::FreezeSshd(node) => {
                let mut frozen = self.sessions(node);
                frozen.extend(Seen::look(self.nodes[node].pid()));
                frozen.retain(|seen| signal(seen, Signal::STOP));
                let is_hit = !frozen.is_empty();
                self.frozen.insert(node, frozen);
                is_hit
            }
            Fault::KillSupervisor(place) => self.kill_one(place, true),
            Fault::KillProgram(place) => self.kill_one(place, false),
            Fault::KillBoth { place, supervisor_first } => self.kill_one(place, supervisor_first),
            Fault::ReusePid(place) => self.vacate(place),
            Fault::Brittle(place) => {
                std::fs::write(self.brittle(place), "").unwrap();
                self.kill_one(place, false)
            }
            Fault::Bounce(service) => {
                self.stopped.insert(service);
                self.tell(service, "stop")
            }
            Fault::KillController => {
                let controller = self.controller.take();
                let is_hit = controller.is_some();
                controller.into_iter().for_each(Program::kill);
                is_hit
            }
            Fault::SecondController { .. } => {
                self.start_second_controller();
                true
            }
        };
        is_hit.then_some(fault.name())
    }

    fn end_fault(&mut self, fault: Fault) {
        match fault {
            Fault::KillListener(node) | Fault::KillSshd(node) => self.nodes[node].start_again(),
            Fault::FreezeSshd(node) => self.thaw(node),
            Fault::Brittle(place) => std::fs::remove_file(self.brittle(place)).unwrap(),
            Fault::Bounce(service) => {
                if self.tell(service, "start") {
                    self.stopped.remove(&service);
                }
            }
            Fault::KillBoth { place, supervisor_first } => {
                self.kill_one(place, !supervisor_first);
            }
            Fault::ReusePid(place) => {
                if let Some(pid) = self.vacated.remove(&(place.service, place.node)) {
                    let how = self.fill(place, pid);
                    self.count(how);
                }
            }
            Fault::KillController => self.controller = Some(self.serve(self.data)),
            Fault::SecondController { is_told } => match self.deposed.take() {
                Some(deposed) if is_told => {
                    let (status, said) = deposed.end();
                    assert!(status.success(), "a deposed controller ends in good order: {said}");
                }
                Some(deposed) => deposed.kill(),
                None => {}
            },
            Fault::KillMaster(_)
            | Fault::KillSession(_)
            | Fault::KillSupervisor(_)
            | Fault::KillProgram(_) => {}
        }
    }

    /// kill -9 of a process's supervisor or of its program.
    fn kill_one(&self, place: Place, is_supervisor: bool) -> bool {
        let tree = &self.census().trees[self.id(place)];
        kill_all(if is_supervisor { &tree.supervisors } else { &tree.roots })
    }

    /// On one etcd the newer controller follows until the older one ends; on one data folder it is refused.
    fn start_second_controller(&mut self) {
        match self.engine {
            Engine::Etcd => {
                self.data = 1 - self.data;
                let newer = self.serve(self.data);
                self.deposed = self.controller.replace(newer);
            }
            Engine::Embedded => {
                let second = Program::serve(&self.data_folder(self.data), &[]);
                second.wait_for("is in use by another mainstay");
            }
        }
    }

    /// One of the files by which the service's program and the test speak to each other.
    fn mark(&self, id: &str, what: &str) -> PathBuf {
        self.directory.path().join(format!("{id}.{what}"))
    }

    /// Where the service's program finds that it is to die.
    fn brittle(&self, place: Place) -> PathBuf {
        self.mark(self.id(place), "brittle")
    }

    /// The sshds that serve a node's links: parents of the shells, and children of the listener, which may be about to be
    /// more.
    fn sessions(&self, node: usize) -> Vec<Seen> {
        let census = self.census();
        let shells = census.links[node].shells.values().flatten();
        let parents: BTreeSet<u32> = shells.map(|shell| shell.parent).collect();
        let listener = self.nodes[node].pid();
        super::census::pids()
            .filter_map(Seen::look)
            .filter(|seen| seen.argv.first().is_some_and(|title| title.starts_with("sshd")))
            .filter(|seen| parents.contains(&seen.pid) || seen.parent == listener)
            .collect()
    }

    fn thaw(&mut self, node: usize) {
        for seen in self.frozen.remove(&node).into_iter().flatten() {
            signal(&seen, Signal::CONT);
        }
    }

    /// Kills a process's supervisor, its program and the whole session, for no number is given away that is still a session's.
    fn vacate(&mut self, place: Place) -> bool {
        let tree = &self.census().trees[self.id(place)];
        let [root] = tree.roots.as_slice() else { return false };
        let is_hit = kill_all(&tree.supervisors);
        wait_for("the whole session to be gone", || {
            let mut members = self.census().trees.remove(self.id(place)).unwrap().members;
            members.retain(|seen| seen.session == root.pid);
            !kill_all(&members)
        });
        self.vacated.insert((place.service, place.node), root.pid);
        is_hit
    }

    /// Has a stranger in the place of a program that was killed; none when it has been started again meanwhile.
    fn fill(&mut self, place: Place, pid: u32) -> Option<&'static str> {
        let (stranger, how) = Stranger::in_place_of(pid, &self.record(place.node, self.id(place)))?;
        self.strangers.push(stranger);
        Some(how)
    }

    /// Where the node has written down how a process is.
    fn record(&self, node: usize, id: &str) -> PathBuf {
        let mut ours = std::fs::read_dir(self.nodes[node].directory().join("home/.mainstay")).unwrap();
        let cluster = ours.next().unwrap().unwrap().path();
        cluster.join(format!("IN1/ND{}/p/{id}/rec", node + 1))
    }

    /// Waits until everything runs as it should, and nothing is there that should not.
    fn settle(&mut self, last_fault: Instant) {
        let deadline = last_fault + SETTLES_WITHIN;
        let mut since: Option<(Instant, Vec<u32>)> = None;
        let mut last_missing = Vec::new();
        loop {
            for service in self.stopped.clone() {
                if self.tell(service, "start") {
                    self.stopped.remove(&service);
                }
            }
            let census = self.census();
            let missing = self.missing(&census);
            let pids = census.lasting();
            self.check_copies();
            match &since {
                _ if !missing.is_empty() => since = None,
                Some((at, before)) if *before == pids && at.elapsed() >= SETTLED_FOR => break,
                Some((_, before)) if *before == pids => {}
                Some(_) | None => since = Some((Instant::now(), pids)),
            }
            assert!(
                Instant::now() < deadline,
                "not settled within {SETTLES_WITHIN:?} of the last fault:\n{}\n{}",
                missing.join("\n"),
                self.evidence(&census)
            );
            if !missing.is_empty() {
                last_missing = missing;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let took = last_fault.elapsed();
        self.slowest = self.slowest.max(took);
        last_missing.truncate(2);
        eprintln!("  {:?} settled after {took:.1?}, then came: {}", self.engine, last_missing.join(", "));
    }

    /// What is not as it should be, for people; empty when all is well.
    fn missing(&self, census: &Census) -> Vec<String> {
        let mut missing: Vec<String> =
            self.stopped.iter().map(|service| format!("{} can't be told", SERVICES[*service].0)).collect();
        let mut expect_one = |what: &str, of: &str, count: usize| {
            if count != 1 {
                missing.push(format!("{of} has {count} {what}"));
            }
        };
        for (id, tree) in &census.trees {
            let up = std::fs::read_to_string(self.mark(id, "up")).unwrap_or_default();
            let is_up = |root: &&Seen| up.trim() == root.pid.to_string();
            expect_one("programs", id, tree.roots.len());
            expect_one("programs past their start", id, tree.roots.iter().filter(is_up).count());
            expect_one("supervisors", id, tree.supervisors.len());
        }
        for (node, link) in census.links.iter().enumerate() {
            let of = format!("ND{}", node + 1);
            expect_one("ssh masters", &of, link.masters.len());
            expect_one("conversations", &of, link.shells.len());
            expect_one("tails", &of, link.tails.len());
        }
        let mut known: Vec<u32> = self.nodes.iter().map(Sshd::pid).collect();
        known.extend(self.controller.as_ref().map(Program::pid));
        missing.extend(census.left_over(&known).map(|seen| format!("left over: {}", seen.describe())));
        for (service, _) in SERVICES {
            let path = format!("/instances/IN1/services/{service}/status");
            match self.call("GET", &path) {
                Some((200, text)) if text.contains("\"running\":true") => {}
                said => missing.push(format!("{service}: the API says {said:?}")),
            }
        }
        missing
    }

    /// No process has, or had, two copies, and none was started beside what an earlier copy left.
    fn check_copies(&self) {
        let doubles = self.observer.report().doubles;
        let accused = std::fs::read_to_string(self.directory.path().join("accused")).unwrap_or_default();
        assert!(
            doubles.is_empty() && accused.is_empty(),
            "{doubles:#?}\n{accused}\n{}",
            self.evidence(&self.census())
        );
    }

    /// Waits for something that has to be seen.
    fn wait(&self, what: &str, done: impl Fn(&Census) -> bool) {
        let deadline = Instant::now() + SETTLES_WITHIN;
        loop {
            let census = self.census();
            if done(&census) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}:\n{}", self.evidence(&census));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What one needs to find out why.
    fn evidence(&self, census: &Census) -> String {
        let mut text = format!("there is:\n{}", census.describe());
        for ((service, node), id) in &self.ids {
            let record = std::fs::read_to_string(self.record(*node, id)).unwrap_or_default();
            text.push_str(&format!("{} on ND{} is {id}: {record}", SERVICES[*service].0, node + 1));
        }
        if let Some(controller) = &self.controller {
            let said = controller.said();
            let lines: Vec<&str> = said.lines().collect();
            text.push_str(&lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        text
    }
}

impl Drop for World {
    /// A test that failed leaves nothing behind either.
    fn drop(&mut self) {
        self.controller = None;
        self.deposed = None;
        for node in 0..NODES {
            self.thaw(node);
        }
        let nodes: Vec<u32> = self.nodes.iter().map(Sshd::pid).collect();
        for _ in 0..100 {
            let left: Vec<Seen> =
                self.census().all().filter(|seen| !nodes.contains(&seen.pid)).cloned().collect();
            if !kill_all(&left) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// kill -9 of all of these that are still there; true when there was one.
fn kill_all(all: &[Seen]) -> bool {
    all.iter().filter(|seen| signal(seen, Signal::KILL)).count() > 0
}

/// Signals a process that was seen, if it is still that one.
fn signal(seen: &Seen, signal: Signal) -> bool {
    let is_same = Seen::look(seen.pid).is_some_and(|now| now.start == seen.start);
    let pid = i32::try_from(seen.pid).ok().and_then(rustix::process::Pid::from_raw);
    is_same && pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

fn documents(nodes: &[Sshd], service: &str) -> String {
    let mut text = String::new();
    let mut add = |kind: &str, name: &str, spec: &str| {
        let namespace = if matches!(kind, "Node" | "Service") { ", namespace: IN1" } else { "" };
        text.push_str(&format!(
            "apiVersion: mainstay.dev/v1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\nspec: {{{spec}}}\n---\n"
        ));
    };
    add("Instance", "IN1", "name: chaos, zk: \"z:1\", redis: \"redis://r\"");
    let command =
        format!("command: [/bin/sh, {service}, \"{{{{ process.id }}}}\", \"{{{{ service.name }}}}\"]");
    add("ServiceType", "shaken", &format!("{command}, stop: {{signal: TERM, grace-seconds: 1}}"));
    for (number, node) in nodes.iter().enumerate() {
        let (port, user, key) = (node.port(), user(), node.identity_file());
        let spec =
            format!("name: a, ip-address: 127.0.0.1, port: {port}, username: {user}, identity-file: {key}");
        add("Node", &format!("ND{}", number + 1), &spec);
    }
    let names: Vec<String> = (1..=nodes.len()).map(|number| format!("ND{number}")).collect();
    for (id, kind) in SERVICES {
        add("Service", id, &format!("name: {kind}, type: shaken, nodes: [{}]", names.join(", ")));
    }
    text
}
