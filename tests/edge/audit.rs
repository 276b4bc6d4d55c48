//! What the audit log has of calls, over real connections.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::access::{bearer, tokens};
use super::raw::{self, ask, connect};
use super::support::program::counter;
use super::support::wait_for;
use super::{serve, with_process};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}")))
        .collect()
}

#[test]
fn every_change_that_is_asked_for_is_told_before_it_is_answered() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &[]);
    let log = data.path().join("audit.log");
    let more = raw::json(&json!({"name": "secret-4711", "zk": "z:1", "redis": "redis://r"}));
    for (method, path, more, status) in [
        ("POST", "/1.0/instances", &*more, 201),
        ("GET", "/1.0/instances", "", 200),
        ("HEAD", "/1.0/instances", "", 200),
        ("OPTIONS", "/1.0/instances", "", 204),
        ("POST", "/1.0/instances/IN1/services/start?wait=false&key=secret-4711", "", 400),
        ("DELETE", "/1.0/instances/IN9", "", 404),
        ("DELETE", "/1.0/instances/a%0Ab\"\\", "", 404),
        ("PATCH", "/1.0/instances", "", 405),
        ("DELETE", "/1.0/instances/IN1", "", 204),
    ] {
        assert_eq!(ask(&api, method, path, more).status, status, "{method} {path}");
    }
    let told = lines(&log);
    let asked =
        |line: &Value| json!([line["method"], line["path"], line["status"], line["revision"].is_u64()]);
    let expected = json!([
        ["POST", "/1.0/instances", 201, true],
        ["POST", "/1.0/instances/IN1/services/start", 400, false],
        ["DELETE", "/1.0/instances/IN9", 404, false],
        ["DELETE", "/1.0/instances/a%0Ab\"\\", 404, false],
        ["PATCH", "/1.0/instances", 405, false],
        ["DELETE", "/1.0/instances/IN1", 204, true],
    ]);
    assert_eq!(Value::from(told.iter().map(asked).collect::<Vec<_>>()), expected);
    assert_eq!(told[1]["query"], "wait=false&…");
    assert!(
        told.iter().all(|line| line["who"] == "anonymous" && line["time"].as_str().unwrap().ends_with('Z'))
    );
    assert!(told[0]["revision"].as_u64() < told[5]["revision"].as_u64());
    assert!(!std::fs::read_to_string(&log).unwrap().contains("secret-4711"));
}

#[test]
fn it_is_told_by_name_who_asked_and_nothing_of_who_is_not_known() {
    let data = TempDir::new().unwrap();
    let (file, [viewer, operator, _]) = tokens(data.path());
    let log = data.path().join("elsewhere.log");
    let (_program, api) = serve(&data, &["--tokens", &file, "--audit", log.to_str().unwrap()]);
    let start = "/1.0/instances/IN1/services/start";
    assert_eq!(ask(&api, "POST", start, "").status, 401);
    assert_eq!(ask(&api, "POST", start, &bearer("mainstay-guessed")).status, 401);
    assert_eq!(ask(&api, "POST", start, &bearer(&viewer)).status, 403);
    assert_eq!(ask(&api, "POST", start, &bearer(&operator)).status, 404);
    let told: Vec<Value> = lines(&log).iter().map(|line| json!([line["who"], line["status"]])).collect();
    assert_eq!(told, [json!(["a-viewer", 403]), json!(["a-operator", 404])]);
    assert!(!data.path().join("audit.log").exists());
}

/// What is said of the last call that has changed an object.
fn last_call(api: &str, path: &str, more: &str) -> Option<String> {
    let answer = ask(api, "GET", &format!("/1.0/explain/{path}"), more);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let explained: Value = serde_json::from_str(&answer.body).unwrap();
    let called = explained["chain"].as_array().unwrap().iter().find(|link| link["step"] == "called")?.clone();
    assert!(called["at"].as_str().unwrap().ends_with('Z'), "{called}");
    Some(called["text"].as_str().unwrap().to_owned())
}

#[test]
fn an_object_says_who_has_changed_it_last_and_that_is_no_part_of_it() {
    let data = TempDir::new().unwrap();
    let (file, [viewer, operator, admin]) = tokens(data.path());
    // The audit log has no part in it.
    let (_program, api) = serve(&data, &["--tokens", &file, "--audit", "none"]);
    let instance = json!({"name": "a", "zk": "z:1", "redis": "redis://r"});
    let service = json!({"name": "s", "type": "timer", "command": ["true"]});
    let as_who = |token: &str, body: &Value| format!("{}{}", bearer(token), raw::json(body));
    assert_eq!(ask(&api, "POST", "/1.0/instances", &as_who(&admin, &instance)).status, 201);
    let (services, of) = ("/1.0/instances/IN1/services", "instances/IN1/services/SV1");
    assert_eq!(ask(&api, "POST", services, &as_who(&admin, &service)).status, 201);
    let said = |path: &str| last_call(&api, path, &bearer(&viewer));
    let (made, by) = (format!("POST {services}"), |who: &str| format!("by {who} from 127.0.0.1"));
    assert_eq!(said(of), Some(format!("{made} {}", by("a-admin (admin)"))));

    let start = format!("{services}/SV1/start");
    assert_eq!(ask(&api, "POST", &format!("{start}?wait=false"), &bearer(&operator)).status, 200);
    let started = Some(format!("POST {start} {}", by("a-operator (operator)")));
    assert_eq!(said(of), started);
    assert_eq!(said("instances/IN1"), Some(format!("POST /1.0/instances {}", by("a-admin (admin)"))));

    // What changes nothing is not written, and refused calls have changed nothing.
    let path = format!("{services}/SV1");
    let shown = || ask(&api, "GET", &path, &bearer(&admin));
    let before = shown();
    let same = json!({"name": "s", "running": true});
    assert_eq!(ask(&api, "PUT", &path, &as_who(&admin, &same)).status, 200);
    assert_eq!(ask(&api, "PUT", &path, &as_who(&viewer, &json!({"name": "t"}))).status, 403);
    assert_eq!(ask(&api, "PUT", &path, &as_who(&admin, &json!({"nmae": "t"}))).status, 400);
    let after = shown();
    assert_eq!((before.header("etag"), &before.body), (after.header("etag"), &after.body));
    assert_eq!(said(of), started);
    assert!(!after.body.contains("a-operator") && !after.body.contains("all"), "{}", after.body);
}

#[test]
fn where_nobody_is_asked_who_he_is_an_object_says_from_where_it_was_changed() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &[]);
    with_process(&api);
    let node = "instances/IN1/nodes/ND1";
    let made = "POST /1.0/instances/IN1/nodes by anonymous from 127.0.0.1";
    assert_eq!(last_call(&api, node, "").as_deref(), Some(made));
    let drained = ask(&api, "POST", &format!("/1.0/{node}/drain"), "");
    assert_eq!(drained.status, 200, "{}", drained.body);
    let by = "POST /1.0/instances/IN1/nodes/ND1/drain by anonymous from 127.0.0.1";
    assert_eq!(last_call(&api, node, "").as_deref(), Some(by));
}

#[test]
fn a_client_that_leaves_before_its_answer_is_told_too() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &[]);
    with_process(&api);
    // The placement writes too, and is to have done so: the process has its revision last.
    let processes: Value = serde_json::from_str(&ask(&api, "GET", "/1.0/processes", "").body).unwrap();
    let explained = format!("/1.0/explain/processes/{}", processes[0]["id"].as_str().unwrap());
    wait_for("its revision", || ask(&api, "GET", &explained, "").body.contains("\"revision 1\""));
    let log = data.path().join("audit.log");
    let writes = counter(&api, "store_writes");
    let mut leaving = connect(&api);
    let start = "POST /1.0/instances/IN1/services/SV1/start?timeout=600 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    leaving.write_all(start.as_bytes()).unwrap();
    wait_for("the change", || counter(&api, "store_writes") > writes);
    drop(leaving);
    wait_for("its line", || lines(&log).len() == 5);
    let line = lines(&log).pop().unwrap();
    assert!(line["status"].is_null() && line["revision"].is_u64(), "{line}");
    assert_eq!(line["path"], "/1.0/instances/IN1/services/SV1/start");
}
