//! What can be wrong with a node, each by its name, over real OpenSSH servers: what is shown, that nothing else suffers, and that it
//! is over when the cause is.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::{Program, call, counter};
use support::sshd::{Sshd, user};

/// A serving program with the instance IN1. What it started on the nodes goes with it.
struct Served {
    program: Option<Program>,
    api: String,
    homes: Vec<PathBuf>,
}

impl Served {
    fn start(data: &Path, more: &[&str]) -> Served {
        let program = Program::serve(data, more);
        let api = program.api();
        Served { program: Some(program), api, homes: Vec::new() }
    }

    fn with_node(data: &Path, sshd: &Sshd) -> Served {
        let mut served = Served::start(data, &[]);
        served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}), 201);
        served.add_node(sshd);
        served
    }

    fn add_node(&mut self, sshd: &Sshd) {
        self.homes.push(sshd.home());
        let node = json!({
            "name": "a", "ip-address": "127.0.0.1", "port": sshd.port(), "username": user(),
            "identity-file": sshd.identity_file(),
        });
        self.post("/instances/IN1/nodes", &node, 201);
    }

    fn call(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (said, text) = call(method, &format!("{}/1.0{path}", self.api), &body).unwrap();
        assert_eq!(said, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn post(&self, path: &str, body: &Value, status: u16) -> Value {
        self.call("POST", path, body, status)
    }

    fn get(&self, path: &str) -> Value {
        self.call("GET", path, &Value::Null, 200)
    }

    /// A service of one process on ND1, started; answers the service's and the process's id.
    fn run(&self, command: &[&str]) -> (String, Value) {
        let (service, process) = self.declare(command);
        let started = self.post(&format!("/instances/IN1/services/{service}/start"), &Value::Null, 200);
        assert_eq!(started["running"], true, "{started}");
        (service, process)
    }

    fn declare(&self, command: &[&str]) -> (String, Value) {
        let service = json!({"name": "a", "type": "timer", "command": command});
        let service = self.post("/instances/IN1/services", &service, 201)["id"].as_str().unwrap().to_owned();
        let process = json!({"instance": "IN1", "service": service, "node": "ND1"});
        (service, self.post("/processes", &process, 201)["id"].clone())
    }

    fn status(&self, node: &str) -> Value {
        self.get(&format!("/instances/IN1/nodes/{node}/status"))
    }

    fn wait_for_state(&self, node: &str, state: &str) -> Value {
        support::wait_for(&format!("{node} to be {state}"), || self.status(node)["state"] == state);
        self.status(node)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.program = None;
        for home in &self.homes {
            support::kill_all(&home.display().to_string());
        }
    }
}

/// Pids of a process's programs on this machine.
fn running(process: &Value) -> Vec<u32> {
    support::with_variable("MAINSTAY_PROCESS", process.as_str().unwrap())
}

#[test]
fn a_changed_host_key_quarantines_the_node_until_a_person_trusts_it() {
    let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    let (service, process) = served.run(&["sleep", "1000"]);
    let before = running(&process);
    assert_eq!(served.status("ND1")["state"], "connected");
    let refused = served.post("/instances/IN1/nodes/ND1/trust", &Value::Null, 409);
    assert!(refused["error"].as_str().unwrap().contains("has not changed"), "{refused}");
    served.post("/instances/IN1/nodes/ND2/trust", &Value::Null, 404);

    sshd.become_another();
    let status = served.wait_for_state("ND1", "host key changed");
    assert!(status["since"].is_string() && status["next-try"].is_string(), "{status}");
    assert!(status["message"].as_str().unwrap().contains(&sshd.fingerprint()), "{status}");

    // Zero steps: a stop is asked for, and nothing of it reaches the machine.
    let steps = counter(&served.api, "node_steps");
    let stop = format!("/instances/IN1/services/{service}/stop?timeout=1");
    let answer = served.post(&stop, &Value::Null, 200);
    assert_eq!(answer["processes"][0]["running"], true, "{answer}");
    assert!(answer["processes"][0]["reason"].as_str().unwrap().contains("host key changed"), "{answer}");
    assert_eq!(running(&process), before);
    assert_eq!(counter(&served.api, "node_steps"), steps);

    let since = Instant::now();
    let answer = served.post("/instances/IN1/nodes/ND1/trust", &Value::Null, 200);
    assert_eq!(answer["state"], "connected", "{answer}");
    eprintln!("connected {:.0?} after a person trusted the key", since.elapsed());
    support::wait_for("the stop to be carried out", || running(&process).is_empty());
}

#[test]
fn a_machine_with_a_key_of_another_type_is_no_known_one() {
    let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    served.wait_for_state("ND1", "connected");
    sshd.become_another_of_type("ecdsa");
    served.wait_for_state("ND1", "host key changed");
    assert_eq!(served.post("/instances/IN1/nodes/ND1/trust", &Value::Null, 200)["state"], "connected");
}

#[test]
fn a_pinned_host_key_is_changed_in_the_document() {
    let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    let node = "/instances/IN1/nodes/ND1";
    served.call("PUT", node, &json!({"host-key": sshd.host_key()}), 200);
    served.wait_for_state("ND1", "connected");
    sshd.become_another();
    served.wait_for_state("ND1", "host key changed");
    let refused = served.post(&format!("{node}/trust"), &Value::Null, 409);
    assert!(refused["error"].as_str().unwrap().contains("`host-key`"), "{refused}");
    served.call("PUT", node, &json!({"host-key": sshd.host_key()}), 200);
    served.wait_for_state("ND1", "connected");
}

#[test]
fn more_silent_nodes_than_turns_delay_no_other() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let mut served = Served::start(data.path(), &[]);
    served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}), 201);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for _ in 0..40 {
        let node = json!({"name": "a", "ip-address": "127.0.0.1", "port": port, "username": user(),
                          "identity-file": sshd.identity_file()});
        served.post("/instances/IN1/nodes", &node, 201);
    }
    served.add_node(&sshd);
    let since = Instant::now();
    served.wait_for_state("ND41", "connected");
    eprintln!("connected after {:.1?} beside 40 that do not answer", since.elapsed());
    let status = served.wait_for_state("ND40", "timed out");
    assert!(status["next-try"].is_string(), "{status}");
}
