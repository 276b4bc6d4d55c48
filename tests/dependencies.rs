//! Services that are started after others, as real processes on this machine: each says in one file when it is up, when it does its
//! work, and when it ends. The order of the lines is the order in which it happened, whoever sees it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::program::{Program, call};
use support::{Swept, wait_for};

const NAMES: [&str; 3] = ["db", "web", "proxy"];

/// db ← web ← proxy, over two nodes. Whatever is left of them goes with it.
struct Chain {
    _swept: Swept,
    directory: TempDir,
}

impl Chain {
    /// Each does its work a moment after it is up, or once [`Chain::let_work`] says so.
    fn new(works_by_itself: bool) -> Chain {
        let directory = tempfile::tempdir().unwrap();
        let chain = Chain { _swept: Swept(directory.path().to_owned()), directory };
        std::fs::create_dir(chain.manifests()).unwrap();
        chain.declare(works_by_itself, true);
        chain
    }

    fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    fn declare(&self, works_by_itself: bool, running: bool) {
        let folder = self.directory.path().display();
        let work = if works_by_itself { "sleep 0.2; say works; : > \"$folder/$name.works\";" } else { "" };
        // It ends when it is told to, and takes its time for it. What says that it works goes with it, or the next one would seem to.
        let script = format!(
            "say() {{ echo \"$name $1\" >> \"$folder/said\"; }}; folder=$1; name=$2; \
             say up; trap 'rm -f \"$folder/$name.works\"; sleep 0.2; say ends; exit 0' TERM; {work} \
             while :; do sleep 0.05; done"
        );
        let service = |name: &str, node: &str, after: &str| {
            format!(
                "---\napiVersion: mainstay.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: IN1}}\n\
                 spec: {{name: {name}, type: worker, nodes: [{node}], after: [{after}], running: {running}}}\n"
            )
        };
        let node = |name: &str, address: &str| {
            format!(
                "---\napiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {{name: {name}, namespace: IN1}}\n\
                 spec: {{name: {name}, ip-address: {address}, transport: local}}\n"
            )
        };
        let script = Value::from(script);
        let text = format!(
            "apiVersion: mainstay.dev/v1\nkind: Instance\nmetadata: {{name: IN1}}\n\
             spec: {{name: Shop, zk: 'z:1', redis: 'redis://r'}}\n\
             ---\napiVersion: mainstay.dev/v1\nkind: ServiceType\nmetadata: {{name: worker}}\n\
             spec:\n  command: [sh, -c, {script}, worker, {folder}, '{{{{ service.id }}}}']\n\
             \x20 start: {{seconds: 0}}\n\
             \x20 health: {{exec: [test, -e, '{folder}/{{{{ service.id }}}}.works']}}\n\
             {}{}{}{}{}",
            node("ND1", "127.0.0.1"),
            node("ND2", "127.0.0.2"),
            service("proxy", "ND1", "web"),
            service("web", "ND2", "db"),
            service("db", "ND1", ""),
        );
        // At one moment: half a file is another set.
        let half = self.directory.path().join("half");
        std::fs::write(&half, text).unwrap();
        std::fs::rename(half, self.manifests().join("all.yaml")).unwrap();
    }

    fn let_work(&self, name: &str) {
        std::fs::write(self.directory.path().join(format!("{name}.works")), "").unwrap();
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What they have said so far.
    fn said(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join("said")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until so many lines were said.
    fn hear(&self, lines: usize) -> Vec<String> {
        wait_for(&format!("{lines} lines, and not only {:?}", self.said()), || self.said().len() >= lines);
        self.said()
    }
}

/// What is said on the way up and on the way down.
fn up() -> Vec<String> {
    NAMES.iter().flat_map(|name| [format!("{name} up"), format!("{name} works")]).collect()
}

fn down() -> Vec<String> {
    NAMES.iter().rev().map(|name| format!("{name} ends")).collect()
}

#[test]
fn they_start_in_order_and_stop_in_reverse_order() {
    let chain = Chain::new(true);
    let folder = chain.manifests().display().to_string();
    let _program = Program::serve(&chain.data(), &["--manifests", &folder]);
    assert_eq!(chain.hear(6), up());
    chain.declare(true, false);
    assert_eq!(chain.hear(9), [up(), down()].concat());
    chain.declare(true, true);
    assert_eq!(chain.hear(15), [up(), down(), up()].concat());
}

#[test]
fn ctrl_c_stops_them_in_reverse_order() {
    let chain = Chain::new(true);
    let program = Program::up(&chain.manifests(), &chain.data());
    assert_eq!(chain.hear(6), up());
    let (status, said) = program.end();
    assert!(status.success() && said.contains("mainstay: everything is stopped"), "{said}");
    assert_eq!(chain.said(), [up(), down()].concat());
}

#[test]
fn a_start_that_waits_names_whom_it_waits_for() {
    let chain = Chain::new(false);
    let folder = chain.manifests().display().to_string();
    let program = Program::serve(&chain.data(), &["--manifests", &folder]);
    let api = program.api();
    let reason = |service: &str| {
        let url = format!("{api}/1.0/instances/IN1/services/{service}/start?wait=false");
        let (_, text) = call("POST", &url, "").unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["processes"][0]["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(chain.hear(1), ["db up"]);
    for (service, other) in [("web", "db"), ("proxy", "web")] {
        let expected = format!("it is started after {other}: its process does not do its work yet");
        wait_for(&format!("{service} to say {expected:?}"), || reason(service) == expected);
    }
    chain.let_work("db");
    assert_eq!(chain.hear(2), ["db up", "web up"]);
    chain.let_work("web");
    assert_eq!(chain.hear(3), ["db up", "web up", "proxy up"]);
}
