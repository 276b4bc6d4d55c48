//! What may run in one place only, over real OpenSSH servers. Each process holds a connection to the test for as long as it lives, so
//! that without asking us it is known which runs when.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

mod support;
#[path = "failover/witness.rs"]
mod witness;
use support::program::call;
use support::served::{Served, node};
use support::sshd::Sshd;
use witness::{Seen, Witness};

/// How long a lease lasts here: the shortest that is admitted.
const LEASE: Duration = Duration::from_secs(5);

/// A machine whose connections can be stopped as if they were cut, while what it runs goes on.
struct Machine {
    sshd: Sshd,
}

impl Machine {
    fn start() -> Machine {
        Machine { sshd: Sshd::start() }
    }

    /// The listener, who is logged in, and what they run: all but what has left their sessions.
    fn connections(&self) -> Vec<u32> {
        let mut all = vec![self.sshd.pid()];
        let mut at = 0;
        while at < all.len() {
            all.extend(support::children(all[at]));
            at += 1;
        }
        all
    }

    /// Stops the connections; from then on nothing is heard of the machine, nor does it hear anything. Answers who was stopped.
    fn cut_off(&self) -> Vec<u32> {
        // The parents first, so that none makes a child meanwhile.
        let stopped = self.connections();
        stopped.iter().for_each(|pid| support::signal(*pid, Signal::STOP));
        stopped
    }

    /// Lets them go on.
    fn go_on(stopped: &[u32]) {
        stopped
            .iter()
            .filter(|pid| support::is_alive(**pid))
            .for_each(|pid| support::signal(*pid, Signal::CONT));
    }
}

/// A folder with a type whose processes hold a connection to the witness, and say who they are and where.
fn types(listener: &TcpListener) -> TempDir {
    let types = TempDir::new().unwrap();
    let program = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; echo \"$MAINSTAY_PROCESS $MAINSTAY_NODE $$\" >&3; exec sleep 86400",
        listener.local_addr().unwrap().port()
    );
    let held = json!({
        "apiVersion": "mainstay.dev/v1", "kind": "ServiceType", "metadata": {"name": "held"},
        "spec": {"command": ["bash", "-c", program], "start": {"seconds": 0}, "stop": {"grace-seconds": 1}},
    });
    std::fs::write(types.path().join("held.json"), held.to_string()).unwrap();
    types
}

fn served(data: &Path, types: &TempDir, machines: &[Machine]) -> Served {
    let types = types.path().to_str().unwrap();
    let served = Served::start(data, &["--settle", "0", "--manifests", types]);
    served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
    machines.iter().for_each(|machine| drop(served.post("/instances/IN1/nodes", &node(&machine.sshd))));
    served
}

/// What the witness has seen since, as (where, began or ended).
fn words(seen: &[Seen]) -> Vec<(&str, &'static str)> {
    seen.iter().map(|it| (it.node.as_str(), if it.began { "began" } else { "ended" })).collect()
}

/// How often a node is cut off and its process started on the other one.
fn rounds() -> usize {
    std::env::var("MAINSTAY_FAILOVER_ROUNDS").map_or(2, |text| text.parse().unwrap())
}

#[test]
fn what_is_fenced_is_started_on_another_node_and_there_are_never_two() {
    let machines = [Machine::start(), Machine::start()];
    let (data, listener) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let types = types(&listener);
    let served = served(data.path(), &types, &machines);
    let witness = Witness::default();
    std::thread::scope(|scope| {
        let _watching = witness.watched(scope, &listener);
        begin(&served, &witness);
        let mut home = witness.seen()[0].node.clone();
        for round in 0..rounds() {
            let number: usize = home.trim_start_matches("ND").parse().unwrap();
            let stopped = machines[number - 1].cut_off();
            let before = witness.seen().len();
            let is_elsewhere = |it: &Seen| it.began && it.node != home;
            support::wait_for("it to run on the other node", || {
                witness.seen()[before..].iter().any(is_elsewhere)
            });
            Machine::go_on(&stopped);
            let url = format!("/instances/IN1/nodes/{home}/status");
            support::wait_for("the node to be seen again", || served.get(&url)["state"] == "connected");
            let seen = witness.seen();
            let last = seen.last().unwrap();
            println!(
                "round {round}: it ended on {home} and began on {} {:?}",
                last.node,
                seen[before].at.elapsed()
            );
            home = last.node.clone();
        }
        served.tell("/instances/IN1/services/SV1/stop");
        support::wait_for("its end", || witness.running() == 0);
        // Each began after the one before had ended.
        let mut running = 0;
        for seen in witness.seen() {
            running = if seen.began { running + 1 } else { running - 1 };
            assert!((0..=1).contains(&running), "two at once: {:?}", words(&witness.seen()));
        }
        assert_eq!(witness.seen().len(), 2 * (rounds() + 1), "and nothing else happened");
    });
}

/// A service of one process that is fenced, and runs.
fn begin(served: &Served, witness: &Witness) {
    let service = json!({
        "name": "a", "type": "held", "running": true, "replicas": 1,
        "failover": {"fenced": {"lease": "5s"}},
    });
    support::wait_for("the type to be there", || {
        let url = format!("{}/1.0/instances/IN1/services", served.api);
        call("POST", &url, &service.to_string()).unwrap().0 == 201
    });
    served.tell("/instances/IN1/services/SV1/start");
    support::wait_for("a process", || witness.running() == 1);
}

#[test]
fn a_node_that_is_cut_off_stops_what_is_fenced_itself_and_it_is_started_again_afterwards() {
    let machines = [Machine::start(), Machine::start()];
    let (data, listener) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let types = types(&listener);
    let served = served(data.path(), &types, &machines);
    let witness = Witness::default();
    std::thread::scope(|scope| {
        let _watching = witness.watched(scope, &listener);
        begin(&served, &witness);
        let home = witness.seen()[0].node.clone();
        let number: usize = home.trim_start_matches("ND").parse().unwrap();
        let machine = &machines[number - 1];
        // It lives on for as long as it is renewed.
        let quiet = Instant::now() + LEASE * 3;
        support::wait_for("three leases to pass", || Instant::now() >= quiet);
        assert_eq!(words(&witness.seen()), [(home.as_str(), "began")]);

        let stopped = machine.cut_off();
        let cut = Instant::now();
        support::wait_for("the node to stop it", || witness.running() == 0);
        let after = witness.seen()[1].at.duration_since(cut);
        println!("it ended {after:.2?} after its node was cut off, with a lease of {LEASE:?}");
        Machine::go_on(&stopped);
        support::wait_for("it to be started again", || witness.running() == 1);
        let seen = witness.seen();
        assert_eq!(words(&seen)[..2], [(home.as_str(), "began"), (home.as_str(), "ended")]);
        assert_eq!(seen.len(), 3, "nothing else happened: {:?}", words(&seen));
        assert!(seen.iter().all(|it| it.process == seen[0].process), "one process: {seen:?}");
        served.tell("/instances/IN1/services/SV1/stop");
        support::wait_for("its end", || witness.running() == 0);
        assert_eq!(witness.most(), 1);
    });
}
