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

#[test]
fn a_client_that_leaves_before_its_answer_is_told_too() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &[]);
    with_process(&api);
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
