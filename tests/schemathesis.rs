//! schemathesis over `/openapi.json`, all checks on, against the real program: what it makes up, valid and not, is answered as is described.
//! How, and what it is told not to expect, stands in `tests/schemathesis/`.
//!
//! Here it is a short run that is the same every time. `MAINSTAY_SCHEMATHESIS=450` makes it a long one, of so many examples an operation,
//! and `MAINSTAY_SCHEMATHESIS_SEED` one of another seed.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

mod support;
use support::program::get;
use support::served::Served;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis");

/// Examples an operation, when nobody says how many.
const EXAMPLES: &str = "20";

/// The tool, in the version that is pinned, where `tests/run` has put it.
fn schemathesis() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let pinned = std::fs::read_to_string(format!("{FOLDER}/requirements.txt")).unwrap();
    // Written last of what is installed.
    let is_there = std::fs::read_to_string(venv.join("installed")).is_ok_and(|installed| installed == pinned);
    assert!(
        is_there,
        "{}: schemathesis is not there as {FOLDER}/requirements.txt has it; tests/run installs it, so run that once",
        venv.display()
    );
    venv.join("bin/schemathesis")
}

/// A server with one of each kind, by the ids that the description's examples have.
fn server(data: &Path) -> Served {
    let server = Served::start(data, &[]);
    server.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
    let node = json!({"name": "a", "ip-address": "127.0.0.1", "port": 1, "username": "nobody"});
    server.post("/instances/IN1/nodes", &node);
    server.post("/instances/IN1/services", &json!({"name": "a", "type": "timer", "nodes": ["ND1"]}));
    for id in ["tenant1", "userevents"] {
        server.post("/tenants", &json!({"id": id, "name": "a"}));
    }
    let user =
        json!({"email": "ian@userevents.com", "name": "a", "password": "butter", "tenants": ["userevents"]});
    server.post("/users", &user);
    server
}

#[test]
fn whatever_is_made_up_is_answered_as_is_described() {
    let tool = schemathesis();
    let directory = TempDir::new().unwrap();
    let server = server(&directory.path().join("data"));
    let variable = |name: &str| std::env::var(name).ok();
    let examples = variable("MAINSTAY_SCHEMATHESIS");
    let seed = variable("MAINSTAY_SCHEMATHESIS_SEED").unwrap_or_else(|| "1".to_owned());
    let mut command = Command::new(tool);
    command
        .current_dir(directory.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", format!("{FOLDER}/hooks.py"))
        .args(["--config-file", &format!("{FOLDER}/schemathesis.toml"), "run"])
        .arg(format!("{}/openapi.json", server.api))
        .args(["--checks", "all", "--seed", &seed])
        .args(["--max-examples", examples.as_deref().unwrap_or(EXAMPLES), "--request-timeout", "30"])
        .arg("--no-color");
    match examples {
        None => command.arg("--generation-deterministic"),
        Some(_) => command.args(["--generation-database", "none"]),
    };
    let run = command.output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let count = said.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse::<u32>().ok());
    println!("{} test cases", count.unwrap_or_default());
    assert!(count.is_some_and(|count| count > 1000), "it did nothing: {said}");
    assert_eq!(get(&format!("{}/readyz", server.api)), Some((200, "ok".to_owned())));
    assert!(!server.program.said().contains("panicked"), "{}", server.program.said());
}
