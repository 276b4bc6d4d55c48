//! `examples/ssh-fleet` as its readme comment says: three real sshds, logged in to by password, by key, and through an ssh_config.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

mod support;
use support::program::Program;

const SCRIPT: &str = "examples/ssh-fleet/fleet";

/// A fleet beside a person's own: on ports, and with an account, of its own.
struct Fleet {
    port: String,
    manifests: TempDir,
}

impl Fleet {
    fn start() -> Fleet {
        let fleet = Fleet { port: support::free_port().to_string(), manifests: TempDir::new().unwrap() };
        fleet.run(&["start", env!("CARGO_BIN_EXE_mainstay")]);
        fleet.run(&["manifests", fleet.manifests.path().to_str().unwrap()]);
        fleet
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output =
            Command::new(SCRIPT).args(arguments).env("MAINSTAY_FLEET_PORT", &self.port).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "fleet {arguments:?}: {said}");
        said
    }

    fn state(&self) -> std::path::PathBuf {
        Path::new("examples/ssh-fleet").join(format!("state-{}", self.port))
    }

    fn up(&self, data: &Path) -> Program {
        Program::up(self.manifests.path(), data)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).arg("stop").env("MAINSTAY_FLEET_PORT", &self.port).output();
        let _ = std::fs::remove_dir_all(self.state());
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

#[test]
fn three_ways_to_log_in_and_a_wrong_password_that_stops_no_other_node() {
    assert!(is_root(), "an account with a password can only be made by root; run the tests as root");
    let (fleet, data) = (Fleet::start(), TempDir::new().unwrap());
    let program = fleet.up(data.path());
    program.wait_for("all running: 7 of 7 processes, 3 services, 3 nodes");
    let (status, said) = program.end();
    assert!(status.success() && said.contains("everything is stopped"), "{said}");

    let password = fleet.state().join("password");
    let good = std::fs::read_to_string(&password).unwrap();
    std::fs::write(&password, "wrong\n").unwrap();
    let program = fleet.up(data.path());
    program.wait_for("IN1/ND1: auth failed: ");
    for id in ["IN1/ND2: connected", "IN1/ND3: connected"] {
        program.wait_for(id);
    }
    let runs = |said: &str, node: &str| said.matches(&format!("IN1/{node} SV")).count() > 0;
    support::wait_for("the other nodes' processes", || {
        let said = program.said();
        let running = said.lines().filter(|line| line.contains(": running (pid")).count();
        runs(&said, "ND2") && runs(&said, "ND3") && running >= 5
    });
    let (_, said) = program.end();
    assert!(!said.contains(good.trim()), "the password was shown");
    std::fs::write(&password, good).unwrap();
    let program = fleet.up(data.path());
    program.wait_for("all running: 7 of 7 processes");
    assert!(program.end().0.success());
}
