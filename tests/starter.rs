//! What `mainstay init` writes runs as it is.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::process::{Command, Output};

mod support;
use support::program::Program;
use support::sshd::Sshd;

fn mainstay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstay")).args(arguments).output().unwrap()
}

/// The folder is fine and runs, and its service says what it is to say.
fn runs(folder: &Path, data: &Path, says: &str) {
    let validated = mainstay(&["validate", folder.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&validated.stdout), "4 documents in 3 files: fine\n");
    let program = Program::up(folder, data);
    program.wait_for("all running: 1 of 1 processes");
    let server = program.api();
    support::wait_for("a line of the service", || {
        let logs = mainstay(&["logs", "--server", &server, "IN1/SV1"]);
        String::from_utf8_lossy(&logs.stdout).contains(says)
    });
    let (status, said) = program.end();
    assert!(status.success(), "{said}");
}

#[test]
fn a_starter_folder_without_hosts_runs_on_this_machine() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("mine");
    assert!(mainstay(&["init", folder.to_str().unwrap()]).status.success());
    runs(&folder, &directory.path().join("data"), "Good day from ND1");
}

#[test]
fn a_starter_folder_for_a_host_has_its_account_port_and_keys_and_runs_there() {
    let sshd = Sshd::start();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("ssh_config");
    let (port, user, identity) = (sshd.port(), support::sshd::user(), sshd.identity_file());
    let host =
        format!("Host box\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {identity}\n");
    std::fs::write(&config, host).unwrap();
    let folder = directory.path().join("mine");
    let made = mainstay(&[
        "init",
        folder.to_str().unwrap(),
        "--ssh-config",
        config.to_str().unwrap(),
        "--scan-host-keys",
        "box",
    ]);
    assert!(made.status.success(), "{made:?}");
    let nodes = std::fs::read_to_string(folder.join("2-nodes.yaml")).unwrap();
    assert!(nodes.contains(&format!("host-key: {}", sshd.host_key())), "{nodes}");
    assert!(nodes.contains(&format!("port: {port}")), "{nodes}");
    runs(&folder, &directory.path().join("data"), "Good day from ND1");
}
