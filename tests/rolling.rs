//! Changes and lost nodes on real sshds, as whoever uses the service sees them: a change that is rolled out fails no request, and what a
//! silent node ran is started elsewhere and ends when the node comes back.
//!
//! Each process serves on a port that it picks, and says its address and what it was started with in a file that is called as it is.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::call;
use support::served::{Served, node};
use support::sshd::Sshd;

const NODES: usize = 3;
const REPLICAS: usize = 6;

/// Serves until it is told to end; then it takes its file away first, and ends when all that was asked is answered.
const PROGRAM: &str = r#"
exec 4< <(exec "$0" stand-in --listen 127.0.0.1:0); child=$!
trap 'rm -f "$1/$2"; kill -TERM $child; wait $reader; exit 0' TERM
while read -r said <&4; do
    case $said in "listening on "*) echo "${said#listening on } $3" >"$1/.$2" && mv "$1/.$2" "$1/$2" ;; esac
done &
reader=$!
wait $reader
"#;

/// Three nodes, and where their processes say who they are.
struct World {
    // Before the nodes, so that it ends before them.
    served: Served,
    sshds: [Sshd; NODES],
    register: TempDir,
    _folders: [TempDir; 2],
}

impl World {
    fn start(more: &[&str]) -> World {
        let sshds = [Sshd::start(), Sshd::start(), Sshd::start()];
        let (data, types, register) =
            (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        let said = register.path().to_str().unwrap();
        let check = format!("exec 3<>/dev/tcp/$(cut -d' ' -f1 {said}/{{{{ process.id }}}} | tr : /)");
        let told = json!({
            "apiVersion": "mainstay.dev/v1", "kind": "ServiceType", "metadata": {"name": "told"},
            "spec": {
                "command": ["bash", "-c", PROGRAM, "{{ mainstay }}", said, "{{ process.id }}", "{{ options.round }}"],
                "start": {"seconds": 0},
                "health": {"exec": ["bash", "-c", check], "interval-seconds": 1},
            },
        });
        std::fs::write(types.path().join("told.json"), told.to_string()).unwrap();
        let manifests = ["--manifests", types.path().to_str().unwrap()];
        let served = Served::start(data.path(), &[&manifests[..], more].concat());
        served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
        sshds.iter().for_each(|sshd| drop(served.post("/instances/IN1/nodes", &node(sshd))));
        World { served, sshds, register, _folders: [data, types] }
    }

    /// Makes a service and starts it, and waits until all its processes serve.
    fn run(&self, service: &Value, replicas: usize) {
        let url = format!("{}/1.0/instances/IN1/services", self.served.api);
        // Its type is there once the folder was read.
        support::wait_for("the service to be taken", || {
            call("POST", &url, &service.to_string()).unwrap().0 == 201
        });
        self.served.tell("/instances/IN1/services/SV1/start");
        support::wait_for("all to serve", || {
            let all = registered(self.register.path());
            all.len() == replicas && all.values().all(|entry| serves(&entry.address))
        });
    }
}

#[derive(Debug)]
struct Entry {
    address: String,
    round: String,
}

/// Who serves, by process id, as they say.
fn registered(register: &Path) -> BTreeMap<String, Entry> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(register).unwrap().flatten() {
        let id = entry.file_name().into_string().unwrap();
        // It may be gone meanwhile.
        let said = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some((address, round)) = said.trim().split_once(' ')
            && !id.starts_with('.')
        {
            all.insert(id, Entry { address: address.to_owned(), round: round.to_owned() });
        }
    }
    all
}

/// Whether a request to an address is answered.
fn serves(address: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn service(replicas: usize, round: u32, more: &Value) -> Value {
    let mut service = json!({
        "name": "a", "type": "told", "replicas": replicas, "options": {"round": round},
    });
    for (name, value) in more.as_object().unwrap() {
        service[name] = value.clone();
    }
    service
}

/// Who asks all the time, and what came of it.
#[derive(Default)]
struct Users {
    is_over: AtomicBool,
    asked: AtomicUsize,
    failed: AtomicUsize,
    /// The fewest that served at one time.
    fewest: AtomicUsize,
}

/// Ends the users with itself, after a failure too.
struct While<'a>(&'a Users);

impl Drop for While<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

impl Users {
    /// Asks one after the other; of one that does not answer, the next.
    fn ask(&self, register: &Path) {
        let mut turn = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let all: Vec<String> = registered(register).into_values().map(|entry| entry.address).collect();
            turn += 1;
            let mut in_turn = (0..all.len()).map(|offset| &all[(turn + offset) % all.len()]);
            self.asked.fetch_add(1, Ordering::Relaxed);
            if !in_turn.any(|address| serves(address)) {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts who serves. One after the other is asked, so those that did not answer are asked again: who does neither time was down in
    /// between, for each is down once, and so all these were down at one time.
    fn count(&self, register: &Path, ids: &[String]) {
        let is_down = |id: &&String| {
            let said = registered(register);
            !said.get(*id).is_some_and(|entry| serves(&entry.address))
        };
        while !self.is_over.load(Ordering::Relaxed) {
            let down: Vec<&String> = ids.iter().filter(is_down).collect();
            let down = down.into_iter().filter(|id| is_down(id)).count();
            self.fewest.fetch_min(ids.len() - down, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_change_of_six_processes_fails_no_request_and_leaves_five_at_any_time() {
    let world = World::start(&[]);
    world.run(&service(REPLICAS, 1, &json!({})), REPLICAS);
    let register = world.register.path();
    let ids: Vec<String> = registered(register).into_keys().collect();
    let users = Users { fewest: AtomicUsize::new(REPLICAS), ..Users::default() };
    std::thread::scope(|scope| {
        let _asking = While(&users);
        scope.spawn(|| users.ask(register));
        scope.spawn(|| users.count(register, &ids));
        let changed = service(REPLICAS, 2, &json!({"running": true}));
        world.served.call("PUT", "/instances/IN1/services/SV1", &changed, 200);
        for done in 1..=REPLICAS {
            support::wait_for("the next to be replaced", || {
                registered(register).values().filter(|entry| entry.round == "2").count() >= done
            });
        }
    });
    assert!(registered(register).keys().eq(ids.iter()), "they stay where they are");
    let (asked, failed) = (users.asked.into_inner(), users.failed.into_inner());
    let fewest = users.fewest.into_inner();
    println!("{asked} requests, {failed} failed; never fewer than {fewest} of {REPLICAS} served");
    assert_eq!(failed, 0, "of {asked}");
    assert!(fewest >= REPLICAS - 1, "only {fewest} served at one time");
}

#[test]
fn what_a_silent_node_ran_is_started_elsewhere_and_ends_when_the_node_is_back() {
    let world = World::start(&["--settle", "0"]);
    let failover = json!({"failover": {"replace": {"after": "1s"}}});
    world.run(&service(2, 1, &failover), 2);
    let register = world.register.path();
    let before: Vec<String> = registered(register).into_keys().collect();
    let processes = world.served.get("/processes");
    let processes = processes.as_array().unwrap();
    let lost = processes.iter().find(|process| process["id"] == before[0].as_str()).unwrap();
    let number: usize = lost["node"].as_str().unwrap().strip_prefix("ND").unwrap().parse().unwrap();
    let sshd = &world.sshds[number - 1];
    // The daemon, so that nobody can log in again, and who is logged in; what runs under a supervisor runs on.
    let mut stopped = vec![sshd.pid()];
    let mut at = 0;
    while at < stopped.len() {
        let is_sshd = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sshd"))
        };
        stopped.extend(support::children(stopped[at]).into_iter().filter(is_sshd));
        at += 1;
    }
    stopped.iter().for_each(|pid| support::signal(*pid, Signal::STOP));
    support::wait_for("another to be started elsewhere", || registered(register).len() == 3);
    let during = registered(register);
    assert!(before.iter().all(|id| during.contains_key(id)), "the silent one runs on: {during:?}");
    stopped.iter().for_each(|pid| support::signal(*pid, Signal::CONT));
    support::wait_for("the one that was given up to be removed", || {
        let now = registered(register);
        now.len() == 2 && !now.contains_key(&before[0])
    });
    assert!(registered(register).values().all(|entry| serves(&entry.address)));
    support::wait_for("nothing of it to be left", || {
        let left = world.served.get("/processes");
        let left: Vec<&str> =
            left.as_array().unwrap().iter().map(|process| process["id"].as_str().unwrap()).collect();
        left.len() == 2 && !left.contains(&before[0].as_str())
    });
}
