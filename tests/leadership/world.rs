//! Servers, etcd and nodes, and what is asked and seen of them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::census::{is_root, look_at_stat, pids, words};
use super::observer::Observer;
use crate::support::etcd::{EtcdCluster, EtcdServer};
use crate::support::program::Program;
use crate::support::proxy::Network;
use crate::support::served::node;
use crate::support::sshd::Sshd;
use crate::support::wait_for;

/// Short, so that the test is; etcd grants none below two seconds.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
pub(crate) const SERVERS: usize = 3;
const NODES: usize = 4;
const SERVICES: usize = 5;

/// Who runs: by process, its pid and when it started.
pub(crate) type Copies = BTreeMap<String, (u32, u64)>;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// The header `Age`.
    pub(crate) age: Option<u64>,
}

/// Three servers, each with its own way to etcd.
pub(crate) struct World {
    directory: TempDir,
    nodes: Vec<Sshd>,
    pub(crate) etcd: [EtcdServer; 3],
    pub(crate) networks: Vec<Network>,
    servers: Vec<Option<Program>>,
    observer: Observer,
    service: String,
    agent: ureq::Agent,
    /// The highest epoch that was seen.
    pub(crate) last_epoch: u64,
    canaries: Cell<usize>,
}

impl World {
    /// Makes one, and waits until all its processes run.
    pub(crate) fn start() -> World {
        let directory = TempDir::new().unwrap();
        let service = directory.path().join("service.sh");
        std::fs::write(&service, include_str!("../chaos/service.sh")).unwrap();
        let service = service.display().to_string();
        let first = Sshd::start();
        let mut nodes: Vec<Sshd> = (1..NODES).map(|_| first.start_another()).collect();
        nodes.push(first);
        let etcd = EtcdCluster::start();
        let endpoints = etcd.endpoints();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        let mut world = World {
            directory,
            nodes,
            etcd: etcd.members,
            networks: (0..SERVERS).map(|_| Network::to(&endpoints)).collect(),
            servers: (0..SERVERS).map(|_| None).collect(),
            observer: Observer::start(&service),
            service,
            agent,
            last_epoch: 0,
            canaries: Cell::new(0),
        };
        // One first, for the others read its key.
        for server in 0..SERVERS {
            world.serve(server);
        }
        world.post(0, "/1.0/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
        for sshd in &world.nodes {
            world.post(0, "/1.0/instances/IN1/nodes", &node(sshd));
        }
        let names: Vec<String> = (1..=NODES).map(|number| format!("ND{number}")).collect();
        for _ in 0..SERVICES {
            world.post(0, "/1.0/instances/IN1/services", &world.running_on(&names));
        }
        wait_for("all processes", || world.copies().len() == NODES * SERVICES);
        world
    }

    fn running_on(&self, nodes: &[String]) -> Value {
        let command = ["/bin/sh", &self.service, "{{ process.id }}", "plain"];
        json!({"name": "a", "type": "timer", "command": command, "nodes": nodes, "running": true})
    }

    /// Starts a server, again if need be, and waits until it serves.
    pub(crate) fn serve(&mut self, server: usize) {
        let at = |name: &str| self.directory.path().join(name);
        let (data, key) = (at(&format!("data-{server}")), at("secret.key").display().to_string());
        let (etcd, lease) = (self.networks[server].endpoints().join(","), LEASE.as_secs().to_string());
        let program = Program::serve(&data, &["--secret-key", &key, "--etcd", &etcd, "--lease", &lease]);
        program.api();
        self.servers[server] = Some(program);
    }

    pub(crate) fn kill(&mut self, server: usize) {
        self.servers[server].take().unwrap().kill();
    }

    pub(crate) fn end_server(&mut self, server: usize) {
        let (status, said) = self.servers[server].take().unwrap().end();
        assert!(status.success(), "{said}");
    }

    pub(crate) fn signal(&self, server: usize, signal: Signal) {
        self.servers[server].as_ref().unwrap().signal(signal);
    }

    /// Asks a server; the test fails when it does not answer.
    pub(crate) fn ask(&self, server: usize, method: &str, path: &str, body: &Value) -> Answer {
        let answer = self.try_ask(server, method, path, body);
        answer.unwrap_or_else(|error| panic!("server {server}: {method} {path}: {error}\n{}", self.said()))
    }

    fn try_ask(&self, server: usize, method: &str, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        let api = self.servers[server].as_ref().unwrap().api();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{api}{path}"))
            .header("Content-Type", "application/json");
        let mut response = if body.is_null() {
            self.agent.run(request.body(()).unwrap())?
        } else {
            self.agent.run(request.body(body.to_string()).unwrap())?
        };
        let age = response.headers().get("age").map(|age| age.to_str().unwrap().parse().unwrap());
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string()?;
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)), age })
    }

    fn post(&self, server: usize, path: &str, body: &Value) -> Value {
        let answer = self.ask(server, "POST", path, body);
        assert_eq!(answer.status, 201, "{path}: {answer:?}");
        answer.body
    }

    /// The page of a server, if it answers.
    pub(crate) fn status(&self, server: usize) -> Option<Value> {
        Some(self.try_ask(server, "GET", "/status", &Value::Null).ok()?.body)
    }

    /// What `mainstay status` shows of a server.
    pub(crate) fn page(&self, server: usize) -> String {
        let api = self.servers[server].as_ref().unwrap().api();
        let output =
            Command::new(env!("CARGO_BIN_EXE_mainstay")).args(["status", "--server", &api]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until one leads, and it is known which.
    pub(crate) fn leader(&mut self) -> usize {
        let mut found = None;
        wait_for("a leader", || {
            found = (0..SERVERS).find(|server| {
                self.servers[*server].is_some()
                    && self.status(*server).is_some_and(|status| status["server"]["role"] == "leads")
            });
            found.is_some()
        });
        let leader = found.unwrap();
        self.last_epoch = self.last_epoch.max(self.epoch(leader));
        leader
    }

    /// The epoch of whom this server takes for the leader.
    pub(crate) fn epoch(&self, server: usize) -> u64 {
        self.status(server).unwrap()["leader"]["epoch"].as_u64().unwrap()
    }

    /// Waits until all servers take the same one for the leader, in a later epoch than this.
    pub(crate) fn wait_for_agreement(&mut self, epoch: u64) {
        let mut said = Vec::new();
        wait_for("all servers to know who leads", || {
            said = (0..SERVERS).filter_map(|server| self.status(server)).collect();
            let leaders: Vec<&Value> = said.iter().map(|status| &status["leader"]).collect();
            let leads = said.iter().filter(|status| status["server"]["role"] == "leads").count();
            leads == 1
                && leaders.iter().all(|leader| *leader == leaders[0])
                && leaders[0]["epoch"].as_u64() > Some(epoch)
        });
        self.last_epoch = self.last_epoch.max(said[0]["leader"]["epoch"].as_u64().unwrap());
        // All tell the same of the nodes, too: those who follow have it from the one that leads.
        wait_for("all nodes to be connected", || {
            (0..SERVERS).all(|server| {
                self.status(server).is_some_and(|status| status["nodes"] == json!({"connected": NODES}))
            })
        });
    }

    /// A server's gauges without labels.
    pub(crate) fn metrics(&self, server: usize) -> BTreeMap<String, i64> {
        let answer = self.ask(server, "GET", "/metrics", &Value::Null);
        let text = answer.body.as_str().unwrap().to_owned();
        let gauge = |line: &str| {
            let (name, value) = line.strip_prefix("mainstay_")?.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(gauge).collect()
    }

    /// Has a server take the document of a new service with one process, again while the store can't say; its path.
    pub(crate) fn declare(&self, server: usize) -> String {
        let number = self.canaries.get();
        self.canaries.set(number + 1);
        let service = self.running_on(&[format!("ND{}", number % NODES + 1)]);
        let mut path = String::new();
        wait_for("a document to be taken", || {
            let answer = self.ask(server, "POST", "/1.0/instances/IN1/services", &service);
            assert!(matches!(answer.status, 201 | 503), "{answer:?}");
            path = format!("/1.0/instances/IN1/services/{}", answer.body["id"].as_str().unwrap_or_default());
            answer.status == 201
        });
        path
    }

    /// Waits until the process runs that was declared besides the others.
    pub(crate) fn wait_for_canary(&self) {
        wait_for("what is new to run", || self.copies().len() == NODES * SERVICES + 1);
    }

    /// Takes that away again, through any server.
    pub(crate) fn remove(&self, server: usize, canary: &str) {
        // A server that was cut off may not have heard of it yet.
        wait_for("its document to be known", || self.ask(server, "GET", canary, &Value::Null).status == 200);
        wait_for("its document to go", || {
            let answer = self.ask(server, "DELETE", canary, &Value::Null);
            assert!(matches!(answer.status, 204 | 404 | 503), "{answer:?}");
            answer.status != 503
        });
        wait_for("its process to go", || self.copies().len() == NODES * SERVICES);
        wait_for("its objects to go", || self.count_processes() == NODES * SERVICES);
    }

    pub(crate) fn count_processes(&self) -> usize {
        let server = (0..SERVERS).find(|server| self.servers[*server].is_some()).unwrap();
        self.ask(server, "GET", "/1.0/processes", &Value::Null).body.as_array().unwrap().len()
    }

    /// All copies of the service's program that live now.
    pub(crate) fn copies(&self) -> Copies {
        let copy = |pid: u32| {
            let (_, session, start) = look_at_stat(pid).filter(|(_, session, _)| *session == pid)?;
            let argv = words(&std::fs::read(format!("/proc/{session}/cmdline")).ok()?);
            let id = argv.get(2).filter(|_| is_root(&argv, &self.service))?;
            Some((id.clone(), (pid, start)))
        };
        pids().filter_map(copy).collect()
    }

    /// No process was doubled, and all that ran before run on as they were.
    pub(crate) fn check(&self, before: &Copies) {
        let now = self.copies();
        let changed: Vec<_> = before.iter().filter(|(id, copy)| now.get(*id) != Some(copy)).collect();
        assert!(changed.is_empty(), "ended or restarted: {changed:?}\nthere is: {now:?}\n{}", self.said());
        let doubles = self.observer.report().doubles;
        let accused = std::fs::read_to_string(self.directory.path().join("accused")).unwrap_or_default();
        assert!(doubles.is_empty() && accused.is_empty(), "{doubles:#?}\n{accused}\n{}", self.said());
    }

    /// The last of what each server has said.
    pub(crate) fn said(&self) -> String {
        let mut text = String::new();
        for (number, server) in self.servers.iter().enumerate() {
            let said = server.as_ref().map(Program::said).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            text.push_str(&format!(
                "server {number}:\n{}\n",
                lines[lines.len().saturating_sub(25)..].join("\n")
            ));
        }
        text
    }

    /// Ends all servers in good order; the processes go on.
    pub(crate) fn end(mut self) {
        let before = self.copies();
        for server in 0..SERVERS {
            let began = Instant::now();
            self.end_server(server);
            assert!(began.elapsed() < Duration::from_secs(10), "server {server}: {:?}", began.elapsed());
        }
        self.check(&before);
        let report = self.observer.report();
        eprintln!("observer: {} looks, at most {:.0?} apart", report.looks, report.longest_gap);
    }
}

impl Drop for World {
    /// The servers end before the nodes, after a failure too.
    fn drop(&mut self) {
        self.networks.iter().for_each(Network::mend);
        self.servers.clear();
    }
}
