//! What a shell is answered that asks how a line goes on, and the man pages.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::process::{Command, Output, Stdio};

use serde_json::json;

mod support;
use support::served::Served;

/// What may follow the last of these words.
fn follows(server: &str, words: &[&str]) -> Vec<String> {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .env("MAINSTAY_COMPLETE", "bash")
        .env("MAINSTAY_SERVER", server)
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .args(["--", "mainstay"])
        .args(words)
        .output()
        .unwrap();
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn commands_and_kinds_are_completed_without_a_server() {
    assert_eq!(follows(NOBODY, &["val"]), ["validate"]);
    assert_eq!(follows(NOBODY, &["rollout", "h"]), ["history", "help"]);
    assert_eq!(follows(NOBODY, &["explain", "ser"]), ["servicetype", "service"]);
}

#[test]
fn a_server_that_is_not_there_knows_no_names() {
    assert_eq!(follows(NOBODY, &["restart", "IN1/"]), [""; 0]);
}

#[test]
fn a_server_s_names_are_completed_whoever_names_the_server() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path(), &[]);
    served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
    let node = json!({"name": "a", "ip-address": "127.0.0.1", "username": "u", "password": "p"});
    served.post("/instances/IN1/nodes", &node);
    served.post("/instances/IN1/services", &json!({"type": "auth", "name": "a"}));
    let api = served.api.as_str();
    assert_eq!(follows(api, &["restart", "I"]), ["IN1/SV1"]);
    assert_eq!(follows(api, &["drain", "IN1/"]), ["IN1/ND1"]);
    assert_eq!(follows(api, &["logs", "-f", "I"]), ["IN1/SV1"]);
    assert_eq!(follows(api, &["explain", "service", "IN1/S"]), ["IN1/SV1"]);
    assert_eq!(follows(NOBODY, &["cordon", "--server", api, "I"]), ["IN1/ND1"]);
}

#[test]
fn a_shell_reads_what_it_is_given() {
    for shell in ["bash", "zsh", "fish"] {
        let made = Command::new(env!("CARGO_BIN_EXE_mainstay")).args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(made.stdout).unwrap();
        assert!(made.status.success() && script.contains("MAINSTAY_COMPLETE"), "{shell}: {script}");
        if shell == "bash" {
            use std::io::Write;
            let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(bash.wait().unwrap().success(), "{script}");
        }
    }
}

#[test]
fn each_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_mainstay")).arg("man").arg(folder.path()).output().unwrap();
    assert!(made.status.success());
    for page in ["mainstay.1", "mainstay-validate.1", "mainstay-rollout-status.1"] {
        let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
}
