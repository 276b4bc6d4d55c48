//! `mainstay serve` over real OpenSSH servers: `/1.0` is asked, and what it says is compared with what really runs.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::{call, counter};
use support::served::{Served, node, service};
use support::sshd::Sshd;

/// Pids of the programs of a process that run on this machine, found by what they were given in the environment.
fn running(process: &Value) -> Vec<u32> {
    support::with_variable("MAINSTAY_PROCESS", process.as_str().unwrap())
}

#[test]
fn start_answers_when_it_really_runs_and_stop_when_it_is_really_gone() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    // Something that starts more, ignores the signal for a while, and takes its time to go.
    let script = "trap 'sleep 0.3; exit 0' TERM; sleep 1000 & while :; do sleep 0.1; done";
    served.post("/instances/IN1/services", &service(&["sh", "-c", script]));
    let process = served.post("/processes", &json!({"instance": "IN1", "service": "SV1", "node": "ND1"}));
    let id = &process["id"];
    assert_eq!(running(id), [0; 0], "what is created through /1.0 is started explicitly");

    let started = served.tell("/instances/IN1/services/SV1/start");
    assert!(!running(id).is_empty());
    assert_eq!(started, json!({"id": "SV1", "running": true, "processes": [{"id": id, "running": true}]}));
    assert_eq!(served.get("/instances/IN1/services/SV1/status"), json!({"running": true}));

    let stopped = served.tell("/instances/IN1/services/SV1/stop");
    assert_eq!(running(id), [0; 0]);
    assert_eq!(stopped, json!({"id": "SV1", "running": false, "processes": [{"id": id, "running": false}]}));

    served.tell("/instances/IN1/services/SV1/start");
    served.call("DELETE", "/instances/IN1", &Value::Null, 204);
    support::wait_for("everything of the instance to be stopped", || running(id).is_empty());
    served.call("GET", "/instances/IN1", &Value::Null, 404);
}

#[test]
fn ping_says_whether_the_credentials_work() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    assert_eq!(served.tell("/instances/IN1/nodes/ND1/ping"), json!({"result": true}));
    let stranger = json!({"identity-file": sshd.stranger_identity()});
    served.call("PUT", "/instances/IN1/nodes/ND1", &stranger, 200);
    let answer = served.tell("/instances/IN1/nodes/ND1/ping");
    assert_eq!(answer["result"], false);
    assert!(answer["reason"].as_str().unwrap().contains("auth failed"), "{answer}");
}

#[test]
fn a_node_that_can_not_be_reached_is_named_and_delays_no_other() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut mute = node(&sshd);
    mute["port"] = silent.local_addr().unwrap().port().into();
    served.post("/instances/IN1/nodes", &mute);
    served.post("/instances/IN1/services", &service(&["sleep", "1000"]));
    let place = |node: &str| {
        served.post("/processes", &json!({"instance": "IN1", "service": "SV1", "node": node}))["id"].clone()
    };
    let (good, bad) = (place("ND1"), place("ND2"));
    let answer = served.tell("/instances/IN1/services/SV1/start?timeout=10");
    let of =
        |id: &Value| answer["processes"].as_array().unwrap().iter().find(|p| p["id"] == *id).unwrap().clone();
    assert_eq!(of(&good), json!({"id": good, "running": true}));
    assert_eq!(of(&bad)["running"], false);
    assert!(of(&bad)["reason"].as_str().unwrap().contains("ND2"), "{answer}");
    assert_eq!(answer["running"], false);
    served.call("DELETE", "/instances/IN1", &Value::Null, 204);
    support::wait_for("the reachable one to be stopped", || running(&good).is_empty());
}

/// Spread of the moments at which the server is killed, in milliseconds after the start was asked for.
const KILL_AFTER_MS: [u64; 20] =
    [0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 100, 120, 150, 180, 220, 260, 300, 400];

#[test]
fn a_server_killed_while_it_starts_twenty_processes_loses_nothing_and_doubles_nothing() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    for _ in 1..4 {
        served.post("/instances/IN1/nodes", &node(&sshd));
    }
    let mut ids: Vec<Value> = Vec::new();
    served.post("/instances/IN1/services", &service(&["sleep", "1000"]));
    for number in 0..20 {
        let node = format!("ND{}", number % 4 + 1);
        let body = json!({"instance": "IN1", "service": "SV1", "node": node});
        ids.push(served.post("/processes", &body)["id"].clone());
    }
    let mut served = Some(served);
    for (round, after) in KILL_AFTER_MS.into_iter().enumerate() {
        let now = served.take().unwrap();
        now.tell("/instances/IN1/services/SV1/start?wait=false");
        // Not luck: whatever the server has done by then has to be taken up.
        std::thread::sleep(Duration::from_millis(after));
        now.program.kill();

        let now = Served::start(data.path(), &[]);
        let listed = now.get("/processes");
        assert_eq!(listed.as_array().unwrap().len(), 20, "acknowledged processes were lost");
        let answer = now.tell("/instances/IN1/services/SV1/start");
        assert_eq!(answer["running"], true, "round {round}: {answer:#}");
        for id in &ids {
            assert_eq!(running(id).len(), 1, "round {round}: copies of {id}");
        }
        assert_eq!(now.tell("/instances/IN1/services/SV1/stop")["running"], false);
        for id in &ids {
            assert_eq!(running(id), [0; 0], "round {round}: left of {id}");
        }
        served = Some(now);
    }
}

#[test]
fn the_password_reaches_ssh_and_nothing_that_others_can_read() {
    // No account here has this password; that it was tried is seen by the server's refusal.
    let password = "butter-4711-never-shown";
    let (sshd, data) = (Sshd::start_with("PasswordAuthentication yes\n"), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let change = json!({"password": password, "identity-file": null});
    let changed = served.call("PUT", "/instances/IN1/nodes/ND1", &change, 200);
    assert_eq!(changed["password"], password, "the seed shows it");
    let pinging = std::thread::spawn({
        let api = served.api.clone();
        move || call("POST", &format!("{api}/1.0/instances/IN1/nodes/ND1/ping"), "").unwrap()
    });
    // All the while, no process of this machine shows it.
    while !pinging.is_finished() {
        assert_eq!(support::carrying(password), [0; 0]);
    }
    let (_, answer) = pinging.join().unwrap();
    assert!(answer.contains("auth failed") && !answer.contains(password), "{answer}");
    let said = served.program.said();
    assert!(!said.contains(password), "{said}");
    drop(served);
    for entry in std::fs::read_dir(data.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(password.len()).any(|window| window == password.as_bytes());
        assert!(!found, "{} holds the password", path.display());
    }
}

#[test]
fn an_ended_server_leaves_everything_running_and_the_next_one_finds_it() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    served.post("/instances/IN1/services", &service(&["sleep", "1000"]));
    let id =
        served.post("/processes", &json!({"instance": "IN1", "service": "SV1", "node": "ND1"}))["id"].clone();
    served.tell("/instances/IN1/services/SV1/start");
    let first = running(&id);
    let (status, _) = served.program.end();
    assert!(status.success());
    assert_eq!(running(&id), first);
    // Fail static: it is restarted though nobody controls.
    support::kill(first[0]);
    support::wait_for("the node to start it again", || running(&id).len() == 1 && running(&id) != first);

    let served = Served::start(data.path(), &[]);
    let answer = served.tell("/instances/IN1/services/SV1/start");
    assert_eq!(answer["running"], true);
    assert_eq!(counter(&served.api, "node_batches"), 0, "there was nothing to do: {}", served.program.said());
    served.tell("/instances/IN1/services/SV1/stop");
}

#[test]
fn the_same_over_a_real_etcd() {
    let etcd = support::etcd::EtcdServer::start();
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let endpoint = etcd.endpoint();
    let served = Served::start(data.path(), &["--etcd", &endpoint, "--lease", "2"]);
    served.with_node(&sshd);
    served.post("/instances/IN1/services", &service(&["sleep", "1000"]));
    let id =
        served.post("/processes", &json!({"instance": "IN1", "service": "SV1", "node": "ND1"}))["id"].clone();
    assert_eq!(served.tell("/instances/IN1/services/SV1/start")["running"], true);
    assert_eq!(running(&id).len(), 1);
    served.program.kill();
    let served = Served::start(data.path(), &["--etcd", &endpoint, "--lease", "2"]);
    assert_eq!(served.tell("/instances/IN1/services/SV1/stop")["running"], false);
    assert_eq!(running(&id), [0; 0]);
}
