//! The newcomer's path, as it stands in the README: `mainstay up` on a folder, with real processes on this machine.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::{Path, PathBuf};

use tempfile::TempDir;

mod support;
use support::program::{Program, counter, get};
use support::wait_for;

/// A copy of the quickstart on ports of its own, so that tests can run beside each other and beside a person's own.
struct Quickstart {
    _directory: TempDir,
    folder: PathBuf,
    data: PathBuf,
    ports: [u16; 3],
}

impl Quickstart {
    fn new() -> Quickstart {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("manifests");
        std::fs::create_dir(&folder).unwrap();
        let ports = [support::free_port(), support::free_port(), support::free_port()];
        for entry in std::fs::read_dir("examples/quickstart").unwrap() {
            let path = entry.unwrap().path();
            let mut text = std::fs::read_to_string(&path).unwrap();
            for (usual, port) in ["18081", "18082", "18083"].into_iter().zip(ports) {
                text = text.replace(usual, &port.to_string());
            }
            std::fs::write(folder.join(path.file_name().unwrap()), text).unwrap();
        }
        let data = directory.path().join("data");
        Quickstart { _directory: directory, folder, data, ports }
    }

    fn up(&self) -> Program {
        let program = Program::up(&self.folder, &self.data);
        program.wait_for("all running: 5 of 5 processes, 3 services, 2 nodes");
        program
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {file}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }

    fn addresses(&self) -> [(&'static str, u16); 5] {
        let [auth, rest, webapp] = self.ports;
        [
            ("127.0.0.1", auth),
            ("127.0.0.1", rest),
            ("127.0.0.2", rest),
            ("127.0.0.1", webapp),
            ("127.0.0.2", webapp),
        ]
    }

    /// Pids of the example's processes, by what they are tagged with.
    fn processes(&self) -> Vec<u32> {
        support::carrying(&format!("MAINSTAY_TAG={}", self.data.display()))
    }
}

fn config(address: &str, port: u16) -> Option<serde_json::Value> {
    let (_, text) = get(&format!("http://{address}:{port}/config"))?;
    serde_json::from_str(&text).ok()
}

fn pid(address: &str, port: u16) -> Option<u32> {
    config(address, port)?["pid"].as_u64().map(|pid| u32::try_from(pid).unwrap())
}

#[test]
fn every_service_answers_and_ctrl_c_leaves_nothing_behind() {
    let quickstart = Quickstart::new();
    let program = quickstart.up();
    for (address, port) in quickstart.addresses() {
        wait_for("an answer", || get(&format!("http://{address}:{port}/health")).is_some());
    }
    assert_eq!(quickstart.processes().len(), 5);
    let (status, said) = program.end();
    assert!(status.success() && said.contains("mainstay: everything is stopped"), "{said}");
    assert_eq!(quickstart.processes(), [0; 0]);
}

#[test]
fn a_killed_process_is_back_and_counted() {
    let quickstart = Quickstart::new();
    let program = quickstart.up();
    let (address, port) = quickstart.addresses()[0];
    wait_for("an answer", || pid(address, port).is_some());
    let first = pid(address, port).unwrap();
    support::kill(first);
    wait_for("another pid", || pid(address, port).is_some_and(|pid| pid != first));
    program.wait_for("running, 1 restarts, last killed by signal 9");
    assert!(program.end().0.success());
}

#[test]
fn what_is_saved_in_the_folder_is_what_runs() {
    let quickstart = Quickstart::new();
    let program = quickstart.up();
    let (address, port) = quickstart.addresses()[0];
    let ttl = || config(address, port).map(|config| config["options"]["token-ttl"].clone());
    wait_for("an answer", || ttl().is_some());
    let first = pid(address, port).unwrap();

    // An option that is read at start: the process is another one afterwards.
    quickstart.edit("3-services.yaml", "token-ttl: 3600", "token-ttl: 60");
    wait_for("the changed option", || ttl() == Some(60.into()));
    let second = pid(address, port).unwrap();
    assert_ne!(first, second);

    // One that takes effect while it runs: the same process, told.
    quickstart.edit("3-services.yaml", "log-level: info", "log-level: debug");
    wait_for("the changed level", || {
        config(address, port).is_some_and(|config| config["log-level"] == "debug")
    });
    assert_eq!(pid(address, port), Some(second));

    // A document that is gone.
    let path = quickstart.folder.join("3-services.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.rfind("\n---").unwrap()]).unwrap();
    program.wait_for("all running: 3 of 3 processes, 2 services, 2 nodes");
    assert_eq!(quickstart.processes().len(), 3);
    assert!(program.end().0.success());
}

#[test]
fn a_converged_world_is_left_alone() {
    let quickstart = Quickstart::new();
    let program = quickstart.up();
    let api = program.api();
    let done = || ["node_batches", "node_steps", "store_writes"].map(|name| counter(&api, name));
    let passes = || ["node_passes", "place_passes"].map(|name| counter(&api, name));
    let (before, passed) = (done(), passes());
    // Rung without a change: a file's time, a file that is no manifest. The folder is read again, and so is everything planned
    // when the next real pass comes.
    let reads = counter(&api, "source_reads");
    let touch = |name: &str| {
        let path = quickstart.folder.join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, text).unwrap();
    };
    for round in 1..=3 {
        touch("3-services.yaml");
        touch("notes.txt");
        wait_for("the folder to be read", || counter(&api, "source_reads") >= reads + round);
    }
    assert_eq!(done(), before, "something was done to a converged world");
    // A restart of the controller looks at everything anew, and still there is nothing to do.
    program.kill();
    let pids = quickstart.processes();
    let program = quickstart.up();
    let api = program.api();
    let done = || ["node_batches", "node_steps", "store_writes"].map(|name| counter(&api, name));
    assert_eq!(done(), [0, 0, 0]);
    assert!(counter(&api, "node_passes") >= 2 && passed[0] >= 2);
    assert_eq!(quickstart.processes(), pids, "a restarted controller restarted processes");
    assert!(program.end().0.success());
}

/// Breaks the folder, and expects one message and that everything goes on.
fn check_broken(file: &str, broken: &str, wanted: &[&str]) {
    let quickstart = Quickstart::new();
    let program = quickstart.up();
    let pids = quickstart.processes();
    let path = quickstart.folder.join(file);
    let good = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(&path, broken.replace("{good}", &good)).unwrap();
    // A message of several lines comes in as several.
    for wanted in wanted {
        program.wait_for(wanted);
    }
    assert!(program.said().contains("refused, the last good state stays"), "{}", program.said());
    assert_eq!(quickstart.processes(), pids, "something was stopped or started");
    assert!(program.end().0.success());
}

#[test]
fn bad_yaml_is_named_with_its_place() {
    check_broken(
        "broken.yaml",
        "apiVersion: mainstay.dev/v1\nkind: [Service\n",
        &["broken.yaml:", "not readable as YAML"],
    );
}

#[test]
fn an_unknown_field_is_named_with_its_place_and_the_fix() {
    let broken = "{good}  usernmae: x\n";
    check_broken(
        "2-nodes.yaml",
        broken,
        &["2-nodes.yaml:", "spec.usernmae: unknown field `usernmae`; did you mean `username`?"],
    );
}

#[test]
fn an_id_that_stands_twice_is_named_with_both_places() {
    let broken = "apiVersion: mainstay.dev/v1\nkind: Instance\nmetadata:\n  name: IN1\nspec: {name: a, zk: z, redis: r}\n";
    check_broken(
        "again.yaml",
        broken,
        &["again.yaml:4:9: metadata.name: Instance IN1 stands already at 1-instance.yaml:"],
    );
}

#[test]
fn an_unknown_node_in_a_process_is_named_with_its_place_and_the_fix() {
    let broken = "apiVersion: mainstay.dev/v1\nkind: Process\nmetadata: {name: p1, namespace: IN1}\n\
                  spec: {service: SV1, node: ND3}\n";
    check_broken(
        "process.yaml",
        broken,
        &["process.yaml:4:28: spec.node: Node IN1/ND3 does not exist; did you mean ND"],
    );
}

#[test]
fn a_name_that_a_shell_would_read_is_named_with_its_place_and_the_fix() {
    let broken = "apiVersion: mainstay.dev/v1\nkind: Process\nmetadata: {name: a;reboot, namespace: IN1}\n\
                  spec: {service: SV1, node: ND1}\n";
    check_broken(
        "process.yaml",
        broken,
        &[
            "process.yaml:3:18: metadata.name: ';' can't be at position 2 of the id \"a;reboot\"; an id starts with",
        ],
    );
}

#[test]
fn a_folder_that_was_emptied_stops_nothing() {
    let quickstart = Quickstart::new();
    let program = quickstart.up();
    let pids = quickstart.processes();
    for entry in std::fs::read_dir(&quickstart.folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    program.wait_for("held, for it would delete");
    assert_eq!(quickstart.processes(), pids);
    assert!(program.end().0.success());
}

#[test]
fn a_second_one_on_the_same_data_is_refused_by_name() {
    let quickstart = Quickstart::new();
    let program = quickstart.up();
    let second = Program::up(&quickstart.folder, &quickstart.data);
    second.wait_for(Path::new(&quickstart.data).to_str().unwrap());
    assert!(program.end().0.success());
}
