//! Artifacts over a real OpenSSH server: what a manifest names is sent, runs, and is replaced, whatever breaks meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

mod support;
use support::program::{Program, counter};
use support::sshd::{Sshd, user};

/// A node on an sshd, and a manifests folder with what runs there: three processes from a folder `app`.
struct Fleet {
    sshd: Sshd,
    folder: TempDir,
    data: TempDir,
    /// What our processes carry, so that no other test's are taken for them.
    mark: String,
}

impl Fleet {
    fn new() -> Fleet {
        let mark = uuid::Uuid::new_v4().to_string();
        let fleet = Fleet {
            sshd: Sshd::start(),
            folder: TempDir::new().unwrap(),
            data: TempDir::new().unwrap(),
            mark,
        };
        fleet.write("app/run", "#!/bin/sh\nexec sleep 1000\n", 0o755);
        fleet.write("app/version", "1", 0o644);
        // A program's own YAML, which is no manifest.
        fleet.write("app/config.yaml", "port: 80\n", 0o644);
        let manifest = format!(
            "apiVersion: mainstay.dev/v1
kind: Instance
metadata: {{name: IN1}}
spec: {{name: a, zk: 'z:1', redis: 'redis://r'}}
---
apiVersion: mainstay.dev/v1
kind: Node
metadata: {{name: ND1, namespace: IN1}}
spec:
  name: a
  ip-address: 127.0.0.1
  port: {}
  username: {}
  identity-file: {}
---
apiVersion: mainstay.dev/v1
kind: ServiceType
metadata: {{name: shop}}
spec:
  command: ['{{{{ artifact }}}}/run']
  env: {{MARK: {mark}}}
  artifact: {{path: app}}
---
apiVersion: mainstay.dev/v1
kind: Service
metadata: {{name: SV1, namespace: IN1}}
spec: {{name: a, type: shop, replicas: 3}}
",
            fleet.sshd.port(),
            user(),
            fleet.sshd.identity_file(),
            mark = fleet.mark,
        );
        fleet.write("fleet.yaml", &manifest, 0o644);
        fleet
    }

    /// Writes a file of the manifests folder as people should: beside it, then under its name.
    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = self.data.path().join("beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    /// Makes the artifact so large that sending it takes a while.
    fn grow(&self, bytes: u64) {
        let file = std::fs::File::create(self.folder.path().join("app/large")).unwrap();
        file.set_len(bytes).unwrap();
    }

    fn serve(&self) -> (Program, String) {
        let program = Program::serve(
            &self.data.path().join("data"),
            &["--manifests", self.folder.path().to_str().unwrap()],
        );
        let api = program.api();
        (program, api)
    }

    /// Pids of our processes' programs.
    fn running(&self) -> BTreeSet<u32> {
        let is_program = |pid: &u32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.starts_with(b"sleep\0")
        };
        support::with_variable("MARK", &self.mark).into_iter().filter(is_program).collect()
    }

    /// The versions that our processes run from, and how many there are.
    fn versions(&self) -> (BTreeSet<String>, usize) {
        let running = self.running();
        let version = |pid: &u32| {
            std::fs::read_to_string(artifact_of(*pid).join("version")).unwrap_or_else(|_| "unreadable".into())
        };
        (running.iter().map(version).collect(), running.len())
    }

    fn wait_for_version(&self, version: &str) {
        let all = (BTreeSet::from([version.to_owned()]), 3);
        support::wait_for(&format!("three of version {version}"), || self.versions() == all);
    }

    /// Stops everything, by a manifest that says so, and ends the program.
    fn end(&self, program: Program) {
        let manifest = std::fs::read_to_string(self.folder.path().join("fleet.yaml")).unwrap();
        self.write("fleet.yaml", &manifest.replace("replicas: 3", "replicas: 3, running: false"), 0o644);
        support::wait_for("everything to stop", || support::with_variable("MARK", &self.mark).is_empty());
        assert!(program.end().0.success());
    }
}

/// Where a process's artifact is, by what it was given.
fn artifact_of(pid: u32) -> PathBuf {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let given =
        environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"MAINSTAY_ARTIFACT="));
    PathBuf::from(String::from_utf8(given.unwrap_or_default().to_vec()).unwrap())
}

/// What lies in the node's folder of artifacts.
fn stored(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_artifact_is_sent_once_for_all_processes_of_a_node_and_again_when_it_changed() {
    let fleet = Fleet::new();
    let (program, api) = fleet.serve();
    fleet.wait_for_version("1");
    let first = fleet.running();
    let address = artifact_of(*first.first().unwrap());
    assert!(address.is_absolute() && address.ends_with("app"), "{}", address.display());
    assert_eq!(counter(&api, "artifacts_sent"), 1, "{}", program.said());

    fleet.write("app/version", "2", 0o644);
    fleet.wait_for_version("2");
    assert!(fleet.running().is_disjoint(&first));
    assert_eq!(counter(&api, "artifacts_sent"), 2);
    // Back to what is still there: nothing is sent.
    fleet.write("app/version", "1", 0o644);
    fleet.wait_for_version("1");
    assert_eq!(counter(&api, "artifacts_sent"), 2);
    fleet.end(program);
}

#[test]
fn a_file_runs_from_where_it_was_sent_and_what_is_stated_of_it_has_to_match() {
    let fleet = Fleet::new();
    let manifest = std::fs::read_to_string(fleet.folder.path().join("fleet.yaml")).unwrap();
    let of_file = |sha256: &str| {
        let artifact = format!("artifact: {{path: tool-1.0, sha256: '{sha256}'}}");
        manifest.replace("{{ artifact }}/run", "{{ artifact }}").replace("artifact: {path: app}", &artifact)
    };
    std::fs::remove_dir_all(fleet.folder.path().join("app")).unwrap();
    fleet.write("tool-1.0", "#!/bin/sh\nexec sleep 1000\n", 0o755);
    fleet.write("fleet.yaml", &of_file(&"0".repeat(64)), 0o644);
    let (program, api) = fleet.serve();
    program.wait_for("spec.artifact.sha256: ");
    let said = program.said();
    let found = said.split("tool-1.0 has ").nth(1).unwrap().split(';').next().unwrap();
    assert!(said.contains("fleet.yaml:22:"), "{said}");
    assert_eq!(fleet.running().len(), 0);

    fleet.write("fleet.yaml", &of_file(found), 0o644);
    support::wait_for("three from the file", || fleet.running().len() == 3);
    assert!(artifact_of(*fleet.running().first().unwrap()).ends_with("tool-1.0"));
    assert_eq!(counter(&api, "artifacts_sent"), 1);
    fleet.end(program);
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_a_transfer_leaves_what_ran_running() {
    let fleet = Fleet::new();
    let (program, api) = fleet.serve();
    fleet.wait_for_version("1");
    let before = fleet.running();
    let address = artifact_of(*before.first().unwrap());
    let folder = address.parent().unwrap().parent().unwrap();
    // In one change: both files are written before the folder is still.
    fleet.grow(400_000_000);
    fleet.write("app/version", "2", 0o644);
    let is_part = |name: &String| name.starts_with(".part-");
    support::wait_for("a transfer", || stored(folder).iter().any(is_part));
    // The processes that serve connections.
    support::children(fleet.sshd.pid()).into_iter().for_each(support::kill);
    program.wait_for("connection lost");
    assert_eq!(counter(&api, "artifacts_sent"), 1, "the transfer was over already");
    assert_eq!(fleet.running(), before);
    fleet.wait_for_version("2");
    assert_eq!(counter(&api, "artifacts_sent"), 2);
    support::wait_for("the broken transfer's part to go", || !stored(folder).iter().any(is_part));
    fleet.end(program);
}

#[test]
fn a_full_disk_leaves_what_ran_running_and_is_named() {
    assert!(rustix::process::getuid().is_root(), "a small disk is mounted; run the tests as root");
    let fleet = Fleet::new();
    let disk = support::SmallDisk::mount(&fleet.sshd.home(), "8m");
    let (program, api) = fleet.serve();
    fleet.wait_for_version("1");
    let before = fleet.running();
    fleet.grow(20_000_000);
    fleet.write("app/version", "2", 0o644);
    program.wait_for("disk full: ");
    assert_eq!(fleet.running(), before);
    assert!(counter(&api, "artifact_failures") >= 1);
    // Smaller, it fits.
    fleet.grow(2_000_000);
    fleet.write("app/version", "3", 0o644);
    fleet.wait_for_version("3");
    assert!(fleet.running().is_disjoint(&before));
    fleet.end(program);
    drop(disk);
}
