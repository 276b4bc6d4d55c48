//! Rollouts, drain, forget and explain, as people use them: the real server and the real commands, with nodes that are this machine.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::call;
use support::served::Served;
use support::{Swept, wait_for};

const SERVICE: &str = "/instances/IN1/services/SV1";

/// Does its work, but where it is told to wait for a gate: then only once that is there.
const GATED: &str =
    r#"[ "$V" != gated ] || [ -e "$GATE" ] || { echo "there is no gate" >&2; exit 7; }; exec sleep 1000"#;

/// A server with the instance IN1. What it started goes with it.
struct World {
    served: Served,
    _swept: Swept,
    data: TempDir,
}

impl World {
    /// With so many nodes, ND1 and so on, which are this machine.
    fn start(nodes: usize) -> World {
        let data = TempDir::new().unwrap();
        let served = Served::start(data.path(), &[]);
        served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
        for _ in 0..nodes {
            let node = json!({"name": "a", "ip-address": "127.0.0.1", "transport": "local"});
            served.post("/instances/IN1/nodes", &node);
        }
        World { served, _swept: Swept(data.path().to_owned()), data }
    }

    fn gate(&self) -> PathBuf {
        self.data.path().join("gate")
    }

    /// With the service SV1 of so many processes, all of which run.
    fn with_service(nodes: usize, replicas: u32, update: &Value) -> World {
        let world = World::start(nodes);
        let service = json!({
            "name": "a", "type": "timer", "command": ["sh", "-c", GATED], "env": world.env("1"),
            "replicas": replicas, "update": update,
        });
        world.served.post("/instances/IN1/services", &service);
        assert_eq!(world.served.tell(&format!("{SERVICE}/start"))["running"], true);
        world.until("the first rollout to be complete", |rollout| {
            rollout["revisions"][0]["completed"] == true
        });
        world
    }

    fn env(&self, version: &str) -> Value {
        json!({"V": version, "GATE": self.gate().to_str().unwrap()})
    }

    /// Changes what the processes are started with.
    fn change(&self, version: &str) {
        self.served.call("PUT", SERVICE, &json!({"env": self.env(version)}), 200);
    }

    fn rollout(&self) -> Value {
        self.served.get(&format!("{SERVICE}/rollout"))
    }

    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_for(what, || {
            last = self.rollout();
            is_so(&last)
        });
        last
    }

    /// Which versions really run, as the processes' environments say.
    fn versions(&self) -> Vec<String> {
        let tag = format!("MAINSTAY_TAG={}", self.data.path().display());
        let mut found: Vec<String> =
            support::variable_of(&tag, "V").into_iter().map(|(_, version)| version).collect();
        found.sort();
        found
    }

    /// A command's exit code, and what it says on stdout and stderr.
    fn mainstay(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.args(arguments).env("MAINSTAY_SERVER", &self.served.api).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// What a command that works says on stdout.
    fn does(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.mainstay(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{error}");
        out
    }

    fn processes(&self) -> Vec<Value> {
        self.served.get(&format!("{SERVICE}/processes")).as_array().unwrap().clone()
    }
}

/// Whether all run from a revision and do their work.
fn is_everywhere(rollout: &Value, revision: u64) -> bool {
    rollout["observed-generation"] == rollout["generation"]
        && rollout["revision"] == revision
        && condition(rollout, "Progressing")["reason"] == "Complete"
        && rollout["available"] == rollout["desired"]
}

fn condition(rollout: &Value, kind: &str) -> Value {
    let all = rollout["conditions"].as_array().unwrap();
    all.iter().find(|condition| condition["type"] == kind).unwrap().clone()
}

fn is_failed(rollout: &Value) -> bool {
    let degraded = condition(rollout, "Degraded");
    degraded["status"] == "True" && degraded["reason"] == "RolloutFailed"
}

#[test]
fn a_change_and_a_restart_reach_one_process_after_the_other() {
    let world = World::with_service(3, 3, &json!({"max-unavailable": 1}));
    world.change("2");
    let rollout = world.until("the change to be everywhere", |rollout| {
        assert!(rollout["available"].as_u64() >= Some(2), "{rollout:#}");
        is_everywhere(rollout, 2)
    });
    assert_eq!(world.versions(), ["2", "2", "2"]);
    assert_eq!(rollout["revisions"][1]["changes"], json!(["env.V"]));
    assert!(condition(&rollout, "Available")["last-transition-time"].is_string());

    let pids = || support::variable_of(&format!("MAINSTAY_TAG={}", world.data.path().display()), "V");
    let before = pids();
    world.does(&["restart", "IN1/SV1"]);
    let said = world.does(&["rollout", "status", "IN1/SV1", "--timeout", "60"]);
    assert!(said.ends_with("IN1/SV1: 3 processes run from revision 3\n"), "{said}");
    let after = pids();
    assert!(
        before.iter().all(|(pid, _)| !after.iter().any(|(other, _)| other == pid)),
        "{before:?} {after:?}"
    );
    let history = world.does(&["rollout", "history", "IN1/SV1"]);
    assert!(history.lines().last().unwrap().ends_with("current   restarted"), "{history}");
}

#[test]
fn a_bad_change_stops_at_the_first_process_is_explained_and_goes_on_when_it_is_resumed() {
    let world = World::with_service(3, 3, &json!({}));
    world.change("gated");
    let rollout = world.until("the change to have failed", is_failed);
    let why = condition(&rollout, "Degraded")["message"].as_str().unwrap().to_owned();
    assert!(
        why.starts_with("revision 2: process ") && why.ends_with(", the last time with status 7"),
        "{why}"
    );
    let old = |versions: &[String]| versions.iter().filter(|version| *version == "1").count();
    assert_eq!(old(&world.versions()), 2, "the others go on");
    let (code, out, _) = world.mainstay(&["rollout", "status", "IN1/SV1"]);
    assert!(code == 1 && out.contains(&why), "{code} {out}");

    // A crash loop is a state, with how it ends and what it said.
    let id = why.split(' ').nth(3).unwrap().to_owned();
    let mut text = String::new();
    wait_for("the crash loop to be explained", || {
        text = world.does(&["explain", "process", &id]);
        text.contains("CrashLoop: it ended ") && text.contains("log        there is no gate")
    });
    assert!(text.contains("(last exit status 7); it "), "{text}");
    let status = world.served.get(&format!("/processes/{id}/status"));
    assert!(status["reason"].as_str().unwrap().starts_with("CrashLoop: it ended "), "{status}");

    std::fs::write(world.gate(), "").unwrap();
    world.does(&["rollout", "resume", "IN1/SV1"]);
    world.until("what is declared to be everywhere", |rollout| {
        let last = rollout["revisions"].as_array().unwrap().len() as u64;
        is_everywhere(rollout, last) && !is_failed(rollout)
    });
    assert_eq!(world.versions(), ["gated", "gated", "gated"]);
}

#[test]
fn what_fails_goes_back_by_itself_where_that_is_asked_for_and_people_go_back_and_forth() {
    let world = World::with_service(2, 2, &json!({"on-failure": "rollback"}));
    world.change("gated");
    let back = world.until("it to be back", |rollout| is_failed(rollout) && is_everywhere(rollout, 1));
    assert_eq!((&back["declared-revision"], &back["revisions"][1]["replaced-by"]), (&json!(2), &json!(1)));
    assert_eq!(world.versions(), ["1", "1"]);
    assert_eq!(world.served.get(SERVICE)["env"]["V"], "gated", "what is declared stays");

    std::fs::write(world.gate(), "").unwrap();
    world.does(&["resume", "IN1/SV1"]);
    world.does(&["rollout", "status", "IN1/SV1", "--timeout", "60"]);
    assert_eq!(world.versions(), ["gated", "gated"]);

    assert_eq!(world.does(&["rollback", "IN1/SV1"]), "IN1/SV1: goes to revision 1\n");
    world.does(&["rollout", "status", "IN1/SV1", "--timeout", "60"]);
    assert_eq!(world.versions(), ["1", "1"]);
    let degraded = condition(&world.rollout(), "Degraded");
    assert_eq!((&degraded["status"], &degraded["reason"]), (&json!("False"), &json!("RolledBack")));
    assert_eq!(world.does(&["rollout", "undo", "IN1/SV1", "--to", "2"]), "IN1/SV1: goes to revision 2\n");
    world.until("the second to be everywhere", |rollout| is_everywhere(rollout, 2));
    let (code, _, error) = world.mainstay(&["rollback", "IN1/SV1", "9"]);
    assert!(code == 1 && error.contains("has no revision 9"), "{error}");
}

#[test]
fn what_is_paused_reaches_no_process_before_it_is_resumed() {
    let world = World::with_service(1, 1, &json!({}));
    world.does(&["pause", "IN1/SV1"]);
    world.change("2");
    let rollout = world.until("it to be looked at", |rollout| rollout["revision"] == 2);
    assert_eq!(condition(&rollout, "Progressing")["reason"], "Paused");
    assert_eq!(world.versions(), ["1"]);
    world.does(&["resume", "IN1/SV1"]);
    world.until("it to be everywhere", |rollout| is_everywhere(rollout, 2));
    assert_eq!(world.versions(), ["2"]);
}

#[test]
fn a_drain_moves_what_can_be_moved_and_says_what_can_not() {
    let world = World::with_service(2, 2, &json!({}));
    let on = |node: &str| world.processes().iter().filter(|process| process["node"] == node).count();
    assert_eq!((on("ND1"), on("ND2")), (1, 1));
    assert_eq!(world.does(&["drain", "IN1/ND1", "--timeout", "60"]), "IN1/ND1: drained\n");
    wait_for("both to be on the other", || on("ND2") == 2);
    let status = world.served.get("/instances/IN1/nodes/ND1/status");
    assert!(status["draining"].is_string() && status["left"] == json!([]), "{status}");

    let (code, _, error) = world.mainstay(&["drain", "IN1/ND2", "--timeout", "60"]);
    assert!(code == 1 && error.contains("no other node takes it"), "{code} {error}");
    world.does(&["uncordon", "IN1/ND1"]);
    world.does(&["drain", "IN1/ND2", "--timeout", "60"]);
    wait_for("both to be back", || on("ND1") == 2);
    world.does(&["cordon", "IN1/ND1"]);
    assert_eq!(world.served.get("/instances/IN1/nodes/ND1")["status"], false);
    assert_eq!(on("ND1"), 2, "what is there stays");
}

#[test]
fn a_node_that_is_gone_for_good_is_forgotten_with_a_reason_and_one_that_answers_is_not() {
    let world = World::start(1);
    let gone = json!({
        "name": "a", "ip-address": "127.0.0.1", "port": support::free_port(), "username": "nobody",
    });
    world.served.post("/instances/IN1/nodes", &gone);
    world.served.post(
        "/instances/IN1/services",
        &json!({"name": "a", "type": "timer", "command": ["sleep", "1000"]}),
    );
    world.served.post("/processes", &json!({"instance": "IN1", "service": "SV1", "node": "ND2"}));
    let state =
        |node: &str| world.served.get(&format!("/instances/IN1/nodes/{node}/status"))["state"].clone();
    wait_for("the nodes to be tried", || state("ND1") == "connected" && state("ND2") == "unreachable");
    let explained = |node: &str| {
        call("GET", &format!("{}/1.0/explain/instances/IN1/nodes/{node}", world.served.api), "").unwrap()
    };

    world.served.call("DELETE", "/instances/IN1/nodes/ND2", &Value::Null, 204);
    wait_for("the deletion to wait", || explained("ND2").1.contains("its deletion waits for "));
    let forget = |node: &str| world.mainstay(&["node", "forget", node, "--reason", "its disk burnt"]);
    let (code, _, error) = forget("IN1/ND1");
    assert!(code == 1 && error.contains("is connected, so it is not gone"), "{error}");
    assert_eq!(forget("IN1/ND2").0, 0);
    wait_for("it to be gone", || explained("ND2").0 == 404);

    let events = world.served.get("/events");
    let told = events.as_array().unwrap().iter().find(|event| event["action"] == "Forget").unwrap();
    assert_eq!((&told["regarding"], &told["message"]), (&json!("Node IN1/ND2"), &json!("its disk burnt")));
    let audit = std::fs::read_to_string(world.data.path().join("audit.log")).unwrap();
    let line = audit.lines().find(|line| line.contains("/nodes/ND2/forget")).unwrap();
    assert!(line.contains(r#""reason":"its disk burnt""#), "{line}");
}

#[test]
fn a_service_that_no_node_takes_says_of_each_why() {
    let world = World::start(2);
    world.served.call("PUT", "/instances/IN1/nodes/ND2", &json!({"status": false}), 200);
    let service = json!({
        "name": "a", "type": "timer", "command": ["sleep", "1000"], "replicas": 1, "node-selector": {"zone": "a"},
    });
    world.served.post("/instances/IN1/services", &service);
    let mut text = String::new();
    wait_for("it to be decided on", || {
        text = world.does(&["explain", "service", "IN1/SV1"]);
        text.contains("held       no node can take 1 of its processes")
    });
    for line in [
        "dropped    Node IN1/ND1: it has no label zone, and the service asks for a",
        "dropped    Node IN1/ND2: it has no label zone, and the service asks for a",
        "desired    through the API; generation 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let json: Value =
        serde_json::from_str(&world.does(&["explain", "service", "IN1/SV1", "-o", "json"])).unwrap();
    assert_eq!(json["object"], "Service IN1/SV1");
}
