//! What a deletion means: gone from `/1.0` at once, told in the events for as long as nodes are not clean, and in nobody's way. Over a real
//! sshd that is made unreachable.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::served::{Served, node, service};
use support::sshd::Sshd;

fn running(process: &Value) -> Vec<u32> {
    support::with_variable("MAINSTAY_PROCESS", process.as_str().unwrap())
}

/// What is told of an object, by action: the messages, the one that was said last at the end.
fn told(served: &Served, regarding: &str, action: &str) -> Vec<(String, u64)> {
    let events = served.get("/events");
    let about = events.as_array().unwrap().iter();
    let about = about.filter(|event| event["regarding"] == regarding && event["action"] == action);
    about
        .map(|event| (event["message"].as_str().unwrap().to_owned(), event["count"].as_u64().unwrap()))
        .collect()
}

/// An instance with a process that runs on a node, which is unreachable then.
struct Cut {
    // Before the node, so that it ends before it.
    served: Served,
    sshd: Sshd,
    process: Value,
    _data: TempDir,
}

impl Cut {
    fn start(more: &[&str]) -> Cut {
        let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
        let served = Served::start(data.path(), more);
        served.with_node(&sshd);
        served.post("/instances/IN1/services", &service(&["sleep", "1000"]));
        let process = json!({"instance": "IN1", "service": "SV1", "node": "ND1"});
        let process = served.post("/processes", &process)["id"].clone();
        served.tell("/instances/IN1/services/SV1/start");
        assert_eq!(running(&process).len(), 1);
        let sessions = support::children(sshd.pid());
        sshd.kill();
        sessions.into_iter().for_each(support::kill);
        support::wait_for("the node to be missed", || {
            served.get("/instances/IN1/nodes/ND1/status")["state"] != "connected"
        });
        Cut { served, sshd, process, _data: data }
    }
}

#[test]
fn a_deletion_is_told_for_as_long_as_a_node_has_not_confirmed_it() {
    let Cut { mut sshd, served, process, _data } = Cut::start(&[]);
    served.call("DELETE", "/instances/IN1", &Value::Null, 204);
    for path in [
        "/instances/IN1",
        "/instances/IN1/nodes",
        "/instances/IN1/nodes/ND1",
        "/instances/IN1/services/SV1/status",
        &format!("/processes/{}", process.as_str().unwrap()),
    ] {
        served.call("GET", path, &Value::Null, 404);
    }
    let id = process.as_str().unwrap();
    let all =
        [format!("Process IN1/{id}"), "Node IN1/ND1".into(), "Service IN1/SV1".into(), "Instance IN1".into()];
    for regarding in &all {
        support::wait_for("the deletion to be told", || {
            let told = told(&served, regarding, "Deleting");
            told.last().is_some_and(|(message, _)| {
                message.starts_with("waits for Node IN1/ND1, which is not reached since 2")
            })
        });
        let told = told(&served, regarding, "Deleting");
        assert!(told.last().unwrap().0.ends_with(" gone"), "{told:?}");
        assert!(told.iter().all(|(_, count)| *count == 1), "to look again is no event: {told:?}");
    }
    sshd.start_again();
    for regarding in &all {
        support::wait_for("the end to be told", || !told(&served, regarding, "Delete").is_empty());
    }
    assert_eq!(running(&process), [0; 0]);
}

#[test]
fn a_name_that_is_being_deleted_can_be_declared_again_and_the_new_one_waits() {
    declare_again(&[]);
}

#[test]
fn the_same_over_a_real_etcd() {
    let etcd = support::etcd::EtcdServer::start();
    declare_again(&["--etcd", &etcd.endpoint()]);
}

fn declare_again(more: &[&str]) {
    let Cut { mut sshd, served, process: old, _data } = Cut::start(more);
    served.call("DELETE", "/instances/IN1", &Value::Null, 204);
    let again = json!({"id": "IN1", "name": "new", "zk": "z:2", "redis": "redis://r"});
    let mut answer = served.post("/instances", &again);
    assert_eq!(answer["waits-for"], "the older Instance IN1 to be gone; see /1.0/events");
    answer.as_object_mut().unwrap().remove("waits-for");
    assert_eq!(answer, again);
    assert_eq!(served.get("/instances"), json!([again]));
    // All that is put into it waits, too, and nothing of the older one shows.
    assert_eq!(served.get("/instances/IN1/nodes"), json!([]));
    let mut same = node(&sshd);
    same["id"] = "ND1".into();
    assert_eq!(served.post("/instances/IN1/nodes", &same)["id"], "ND1");
    let service = service(&["sleep", "1001"]);
    assert_eq!(served.post("/instances/IN1/services", &service)["id"], "SV2", "ids are not used again");
    let process = json!({"instance": "IN1", "service": "SV2", "node": "ND1"});
    let new = served.post("/processes", &process)["id"].clone();
    assert_eq!(served.get("/processes").as_array().unwrap().len(), 1);
    assert_eq!(served.get("/instances/IN1/nodes/ND1/status")["state"], "waiting");
    served.call("PUT", "/instances/IN1", &json!({"name": "newer"}), 200);
    served.post("/tenants", &json!({"id": "red", "name": "Red"}));
    served.post("/tenants/red/instance", &json!({"id": "IN1"}));
    let started = served.tell("/instances/IN1/services/SV2/start?timeout=0.5");
    assert_eq!(started["running"], false);
    let why = started["processes"][0]["reason"].as_str().unwrap();
    assert!(why.starts_with("it waits until an older object"), "{why}");
    let log = format!("/processes/{}/logs", new.as_str().unwrap());
    for (method, path) in [("GET", log.as_str()), ("POST", "/instances/IN1/nodes/ND1/trust")] {
        let why = served.call(method, path, &Value::Null, 409);
        assert!(why["error"].as_str().unwrap().contains("it waits until"), "{why}");
    }
    support::wait_for("the wait to be told", || !told(&served, "Instance IN1", "Waiting").is_empty());
    assert_eq!((running(&old).len(), running(&new).len()), (1, 0));

    // A server that ends meanwhile forgets nothing of it.
    let data = _data.path().to_owned();
    served.program.kill();
    let served = Served::start(&data, more);
    assert_eq!(served.get("/instances/IN1")["name"], "newer");

    sshd.start_again();
    let started = served.tell("/instances/IN1/services/SV2/start");
    assert_eq!(started["running"], true, "{started}");
    assert_eq!((running(&old).len(), running(&new).len()), (0, 1));
    assert_eq!(served.get("/instances/IN1")["name"], "newer");
    assert_eq!(served.get("/tenants/red/instance")["name"], "newer");
    served.tell("/instances/IN1/services/SV2/stop");
}

#[test]
fn what_waits_can_be_deleted_with_all_that_is_in_it() {
    let Cut { mut sshd, served, process, _data } = Cut::start(&[]);
    let node_path = "/instances/IN1/nodes/ND1";
    served.call("DELETE", node_path, &Value::Null, 204);
    let mut again = node(&sshd);
    again["id"] = "ND1".into();
    served.post("/instances/IN1/nodes", &again);
    let on_it = json!({"instance": "IN1", "service": "SV1", "node": "ND1"});
    served.post("/processes", &on_it);
    served.call("DELETE", node_path, &Value::Null, 204);
    served.call("GET", node_path, &Value::Null, 404);
    assert_eq!(served.get("/processes"), json!([]));
    served.post("/instances/IN1/nodes", &again);
    assert_eq!(served.get("/processes"), json!([]));
    sshd.start_again();
    support::wait_for("the new node to be connected", || {
        served.get(&format!("{node_path}/status"))["state"] == "connected"
    });
    assert_eq!(running(&process), [0; 0]);
    assert_eq!(served.get("/processes"), json!([]));
}

#[test]
fn a_shipped_integration_that_is_deleted_does_not_come_back() {
    let data = TempDir::new().unwrap();
    let served = Served::start(data.path(), &[]);
    served.call("DELETE", "/integrations/echo", &Value::Null, 204);
    served.call("PUT", "/integrations/timer", &json!({"display": "Mine"}), 200);
    served.program.kill();
    let served = Served::start(data.path(), &[]);
    served.call("GET", "/integrations/echo", &Value::Null, 404);
    assert_eq!(served.get("/integrations/timer")["display"], "Mine");
    served.get("/integrations/sendgrid");
    served.post("/integrations", &json!({"id": "echo", "type": "echo", "display": "Echo again"}));
}

#[test]
fn people_put_no_process_on_a_cordoned_node() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    served.post("/instances/IN1/services", &service(&["sleep", "1000"]));
    let process = json!({"instance": "IN1", "service": "SV1", "node": "ND1"});
    served.call("PUT", "/instances/IN1/nodes/ND1", &json!({"status": false}), 200);
    let why = served.call("POST", "/processes", &process, 409)["error"].as_str().unwrap().to_owned();
    assert!(why.starts_with("node: Node IN1/ND1 is cordoned (`status: false`)"), "{why}");
    served.call("PUT", "/instances/IN1/nodes/ND1", &json!({"status": true}), 200);
    served.post("/processes", &process);
}

#[test]
fn a_node_that_is_deleted_and_made_again_is_taken_up_at_once() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    served.post("/instances/IN1/services", &service(&["sleep", "1000"]));
    served.tell("/instances/IN1/services/SV1/start?wait=false");
    let mut again = node(&sshd);
    again["id"] = "ND1".into();
    for _ in 0..5 {
        let process = json!({"instance": "IN1", "service": "SV1", "node": "ND1"});
        let process = served.post("/processes", &process)["id"].clone();
        let started = served.tell(&format!("/processes/{}/start", process.as_str().unwrap()));
        assert_eq!(started["running"], true, "{started}: {}", served.program.said());
        served.call("DELETE", "/instances/IN1/nodes/ND1", &Value::Null, 204);
        served.post("/instances/IN1/nodes", &again);
        support::wait_for("the older one's process to be gone", || running(&process).is_empty());
    }
}
