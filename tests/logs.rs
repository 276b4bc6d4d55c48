//! `mainstay logs`, over a real server and real OpenSSH servers: what it shows is compared with what was really written.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::{Program, call};
use support::served::{Served, node, service};
use support::sshd::Sshd;

/// Writes numbered lines without an end, and rotates its own log as a supervisor would, but between two lines: so that not one of
/// them is lost by that.
const NUMBERED: &str = r#"cd "${MAINSTAY_TAG%/.}"; n=0
while :; do
  n=$((n + 1))
  echo "line $n"
  if [ $((n % 400)) = 0 ]; then
    for k in 4 3 2 1; do [ ! -e log.$k ] || mv log.$k log.$((k + 1)); done
    cp log log.1
    : >log
  fi
  [ $((n % 10)) != 0 ] || sleep 0.03
done"#;

/// `mainstay logs`, and what it has said.
struct Logs {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Logs {
    fn start(api: &str, arguments: &[&str]) -> Logs {
        let mut child = command(api, arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in output.lines() {
                kept.lock().unwrap().push(line.unwrap());
            }
        });
        Logs { child, lines, reader }
    }

    fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    fn wait_for(&self, lines: usize) {
        support::wait_for(&format!("{lines} lines"), || self.count() >= lines);
    }

    /// Waits for so many lines more, of a process that writes without an end.
    fn wait_for_more(&self, lines: usize) {
        self.wait_for(self.count() + lines);
    }

    /// Ctrl-C, and all that it said.
    fn end(mut self) -> Vec<String> {
        support::signal(self.child.id(), Signal::INT);
        assert!(self.child.wait().unwrap().success());
        self.reader.join().unwrap();
        self.lines.lock().unwrap().clone()
    }
}

fn command(api: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.arg("logs").args(arguments).env("MAINSTAY_SERVER", api).stdin(Stdio::null());
    command
}

/// Runs `mainstay logs` to its end: whether it went well, what it showed, and what it had to say.
fn logs(api: &str, arguments: &[&str]) -> (bool, String, String) {
    let output = command(api, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Fails unless these are lines with the numbers from 1 on, none left out and none twice.
fn check_numbered(lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("line {}", at + 1), "line {} of {}", at + 1, lines.len());
    }
}

/// A process that is running, by its service's command.
fn running(served: &Served, service_id: &str, node: &str, command: &[&str]) -> String {
    let services = served.get("/instances/IN1/services");
    if !services.as_array().unwrap().iter().any(|it| it["id"] == service_id) {
        let mut service = service(command);
        service["id"] = service_id.into();
        served.post("/instances/IN1/services", &service);
    }
    let body = json!({"instance": "IN1", "service": service_id, "node": node});
    let id = served.post("/processes", &body)["id"].as_str().unwrap().to_owned();
    served.tell(&format!("/processes/{id}/start"));
    id
}

/// Where a process's files are on a node that is an sshd of this test.
fn folder(sshd: &Sshd, process: &str) -> PathBuf {
    let cluster = std::fs::read_dir(sshd.home().join(".mainstay")).unwrap().next().unwrap().unwrap().path();
    cluster.join("IN1/ND1/p").join(process)
}

/// Waits until a process has written these last words.
fn wait_for_words(sshd: &Sshd, process: &str, words: &str) {
    let log = folder(sshd, process).join("log");
    support::wait_for(words, || std::fs::read_to_string(&log).is_ok_and(|text| text.ends_with(words)));
}

/// Stops all that was started, for it would outlive the test.
fn stop(served: &Served) {
    let listed = served.get("/processes");
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    served.call("DELETE", "/instances/IN1", &Value::Null, 204);
    support::wait_for("everything to be stopped", || {
        ids.iter().all(|id| support::with_variable("MAINSTAY_PROCESS", id).is_empty())
    });
}

/// Pids of the tails in a process's folder.
fn tails(folder: &std::path::Path) -> Vec<u32> {
    let mut found = support::working_in(folder);
    found.retain(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"tail"))
    });
    found
}

#[test]
fn a_log_is_shown_whole_or_its_last_lines() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let id = running(&served, "SV1", "ND1", &["sh", "-c", "seq 1 30000; printf 'no end'; exec sleep 1000"]);
    wait_for_words(&sshd, &id, "no end");
    let all: String = (1..=30_000).map(|number| format!("{number}\n")).collect::<String>() + "no end";
    let (fine, shown, said) = logs(&served.api, &[&id]);
    assert!(fine && shown == all, "{} bytes of {}; {said}", shown.len(), all.len());
    assert_eq!(logs(&served.api, &["--tail", "2", &id]), (true, "30000\nno end".into(), String::new()));
    let prefix = format!("[SV1 ND1 {}] ", &id[..8]);
    let last = format!("{prefix}30000\n{prefix}no end\n");
    assert_eq!(logs(&served.api, &["--tail=2", "--prefix", "IN1/SV1"]), (true, last, String::new()));

    // The same by hand.
    let url = format!("{}/1.0/processes/{id}/logs?tail=1", served.api);
    assert_eq!(call("GET", &url, "").unwrap(), (200, "no end".into()));
    stop(&served);
}

/// Pids of the masters that a server has started.
fn masters(program: &Program) -> Vec<u32> {
    let masters = support::carrying("ControlPersist=no");
    support::children(program.pid()).into_iter().filter(|pid| masters.contains(pid)).collect()
}

#[test]
fn following_goes_on_without_a_lost_or_repeated_line_when_the_connection_is_killed() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let id = running(&served, "SV1", "ND1", &["sh", "-c", NUMBERED]);
    let followed = Logs::start(&served.api, &["-f", &id]);
    for _ in 0..4 {
        // Each time the log is rotated, too.
        followed.wait_for_more(700);
        let [master] = masters(&served.program)[..] else { panic!("there is one connection") };
        support::kill(master);
    }
    followed.wait_for_more(700);
    check_numbered(&followed.end());
    stop(&served);
}

#[test]
fn following_goes_on_without_a_lost_or_repeated_line_when_the_server_is_started_again() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let address = format!("127.0.0.1:{}", support::free_port());
    let serve = || {
        let data = data.path().to_str().unwrap();
        let program = Program::start(&["serve", "--data-dir", data, "--listen", &address]);
        let api = program.api();
        Served { program, api }
    };
    let mut served = serve();
    served.with_node(&sshd);
    let id = running(&served, "SV1", "ND1", &["sh", "-c", NUMBERED]);
    let followed = Logs::start(&served.api, &["--follow", &id]);
    for _ in 0..2 {
        followed.wait_for_more(500);
        served.program.kill();
        served = serve();
    }
    followed.wait_for_more(500);
    check_numbered(&followed.end());
    stop(&served);
}

#[test]
fn what_is_followed_ends_when_its_process_is_removed_and_leaves_nothing_on_the_node() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let script = "trap 'echo last words; exit 0' TERM; echo first words; while :; do sleep 0.05; done";
    let id = running(&served, "SV1", "ND1", &["sh", "-c", script]);
    let mut followed = Logs::start(&served.api, &["-f", &id]);
    followed.wait_for(1);
    let folder = folder(&sshd, &id);
    support::wait_for("the tail", || tails(&folder).len() == 1);

    // Who stops listening leaves nothing there.
    let other = Logs::start(&served.api, &["-f", &id]);
    other.wait_for(1);
    support::wait_for("its tail too", || tails(&folder).len() == 2);
    assert_eq!(other.end(), ["first words"]);
    support::wait_for("its tail to end", || tails(&folder).len() == 1);

    served.call("DELETE", &format!("/processes/{id}"), &Value::Null, 204);
    support::wait_for("its end", || {
        followed.child.try_wait().unwrap().is_some_and(|status| status.success())
    });
    followed.reader.join().unwrap();
    assert_eq!(followed.lines.lock().unwrap()[0], "first words");
    stop(&served);
}

#[test]
fn several_processes_are_shown_side_by_side_in_whole_lines_that_say_whose_they_are() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let _swept = support::Swept(data.path().join("nodes"));
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let here = json!({"name": "here", "ip-address": "127.0.0.1", "transport": "local", "username": ""});
    served.post("/instances/IN1/nodes", &here);
    // Each line comes in two halves.
    let script = "n=0; while :; do n=$((n + 1)); printf 'line '; printf '%s of many\\n' $n; [ $((n % 20)) != 0 ] || sleep 0.02; done";
    let placed = [("SV1", "ND1"), ("SV1", "ND2"), ("SV2", "ND2")];
    let ids: Vec<String> =
        placed.iter().map(|(service, node)| running(&served, service, node, &["sh", "-c", script])).collect();
    let followed = Logs::start(&served.api, &["-f", "--tail", "100000", "IN1/SV1", &ids[2]]);
    let of = |lines: &[String], at: usize| -> Vec<String> {
        let prefix = format!("[{} {} {}] ", placed[at].0, placed[at].1, &ids[at][..8]);
        lines.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    support::wait_for("lines of all", || {
        let lines = followed.lines.lock().unwrap().clone();
        (0..3).all(|at| of(&lines, at).len() >= 300)
    });
    let lines = followed.end();
    let mut counted = 0;
    for at in 0..3 {
        let whole = of(&lines, at);
        counted += whole.len();
        for (number, line) in whole.iter().enumerate() {
            // The last may have been cut short by our Ctrl-C.
            let cut = number + 1 == whole.len()
                && format!("line {} of many", number + 1).starts_with(line.as_str());
            assert!(cut || *line == format!("line {} of many", number + 1), "{line}");
        }
    }
    assert_eq!(counted, lines.len(), "every line says whose it is");

    let (fine, shown, _) = logs(&served.api, &["--tail", "1", "--no-prefix", "IN1/SV1"]);
    assert!(fine && shown.lines().count() == 2 && shown.starts_with("line "), "{shown}");
    stop(&served);
}

#[test]
fn a_reader_that_has_enough_ends_it_silently() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let loud = running(&served, "SV1", "ND1", &["sh", "-c", "seq 1 1000000; exec sleep 1000"]);
    let quiet = running(&served, "SV2", "ND1", &["sh", "-c", "echo hello; exec sleep 1000"]);
    for arguments in [vec![loud.as_str()], vec!["-f", &loud], vec!["-f", &quiet]] {
        let mut child =
            command(&served.api, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // Its reader is gone now.
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
    stop(&served);
}

#[test]
fn what_can_not_be_shown_is_said_with_why() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let mut nobody = node(&sshd);
    nobody["port"] = support::free_port().into();
    served.post("/instances/IN1/nodes", &nobody);
    served.post("/instances/IN1/services", &service(&["sleep", "1000"]));
    let body = json!({"instance": "IN1", "service": "SV1", "node": "ND2"});
    let id = served.post("/processes", &body)["id"].as_str().unwrap().to_owned();
    let url = |id: &str, query: &str| format!("{}/1.0/processes/{id}/logs{query}", served.api);

    let (status, text) = call("GET", &url("nothing", ""), "").unwrap();
    assert!(status == 404 && text.contains("Process nothing does not exist"), "{text}");
    support::wait_for("the node to be found unreachable", || {
        let (status, text) = call("GET", &url(&id, "?follow=true"), "").unwrap();
        assert_eq!(status, 503, "{text}");
        text.contains("IN1/ND2 is not connected") && text.contains("unreachable: ")
    });
    for query in ["?tail=some", "?folow=true", "?from=1;reboot:2", "?tail=1&from=-:0"] {
        let (status, text) = call("GET", &url(&id, query), "").unwrap();
        assert!(status == 400 && text.starts_with("{\"error\":"), "{query}: {text}");
    }

    let (fine, shown, said) = logs(&served.api, &["-f", &id]);
    assert!(!fine && shown.is_empty() && said.contains("IN1/ND2 is not connected"), "{said}");
    let (fine, _, said) = logs(&served.api, &["nothing"]);
    assert!(!fine && said.contains("there is no process nothing"), "{said}");
    let (fine, _, said) = logs(&served.api, &["IN1/SV9"]);
    assert!(!fine && said.contains("IN1/SV9 has no processes"), "{said}");
    let nowhere = format!("http://127.0.0.1:{}", support::free_port());
    let (fine, _, said) = logs(&nowhere, &[&id]);
    assert!(!fine && said.contains(&format!("no server answers at {nowhere}")), "{said}");
}

#[test]
fn a_node_has_a_limit_of_followers_and_says_so() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.with_node(&sshd);
    let id = running(&served, "SV1", "ND1", &["sh", "-c", "echo hello; exec sleep 1000"]);
    wait_for_words(&sshd, &id, "hello\n");
    let followers: Vec<Logs> = (0..6).map(|_| Logs::start(&served.api, &["-f", &id])).collect();
    followers.iter().for_each(|follower| follower.wait_for(1));
    let (fine, _, said) = logs(&served.api, &["-f", &id]);
    assert!(!fine && said.contains("too many logs of IN1/ND1 are being read"), "{said}");
    // What has an end still finds a place, and so does the next follower once one has ended.
    assert_eq!(logs(&served.api, &[&id]), (true, "hello\n".into(), String::new()));
    for follower in followers {
        assert_eq!(follower.end(), ["hello"]);
    }
    support::wait_for("the places to be free", || {
        let next = Logs::start(&served.api, &["-f", &id]);
        support::wait_for("its word or its end", || next.count() > 0 || next.reader.is_finished());
        let is_followed = next.count() > 0;
        let mut child = next.child;
        child.kill().unwrap();
        child.wait().unwrap();
        is_followed
    });
    stop(&served);
}
