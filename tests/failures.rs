//! What can be wrong with a node, each by its name, over real OpenSSH servers: what is shown, that nothing else suffers, and that it
//! is over when the cause is.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::{Program, call, counter};
use support::served::node;
use support::sshd::{Sshd, user};

/// A serving program with the instance IN1.
struct Served {
    /// None once a test has killed it.
    program: Option<Program>,
    api: String,
}

impl Served {
    fn start(data: &Path, more: &[&str]) -> Served {
        let program = Program::serve(data, more);
        let api = program.api();
        Served { program: Some(program), api }
    }

    fn with_node(data: &Path, sshd: &Sshd) -> Served {
        let served = Served::start(data, &[]);
        served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}), 201);
        served.add_node(sshd);
        served
    }

    fn add_node(&self, sshd: &Sshd) {
        self.add_node_as(&Value::Null, sshd);
    }

    fn add_node_as(&self, id: &Value, sshd: &Sshd) {
        let mut node = node(sshd);
        node["id"] = id.clone();
        self.post("/instances/IN1/nodes", &node, 201);
    }

    /// Another program on the same data, after the one before was killed.
    fn start_again(&mut self, data: &Path) {
        let program = Program::serve(data, &[]);
        self.api = program.api();
        self.program = Some(program);
    }

    fn program(&self) -> &Program {
        self.program.as_ref().unwrap()
    }

    fn call(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (said, text) = call(method, &format!("{}/1.0{path}", self.api), &body).unwrap();
        assert_eq!(said, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn post(&self, path: &str, body: &Value, status: u16) -> Value {
        self.call("POST", path, body, status)
    }

    fn get(&self, path: &str) -> Value {
        self.call("GET", path, &Value::Null, 200)
    }

    /// A service of one process on ND1, started; answers the service's and the process's id.
    fn run(&self, command: &[&str]) -> (String, Value) {
        let (service, process) = self.declare(command);
        let started = self.post(&format!("/instances/IN1/services/{service}/start"), &Value::Null, 200);
        assert_eq!(started["running"], true, "{started}");
        (service, process)
    }

    fn declare(&self, command: &[&str]) -> (String, Value) {
        let service = json!({"name": "a", "type": "timer", "command": command});
        let service = self.post("/instances/IN1/services", &service, 201)["id"].as_str().unwrap().to_owned();
        let process = json!({"instance": "IN1", "service": service, "node": "ND1"});
        (service, self.post("/processes", &process, 201)["id"].clone())
    }

    fn status(&self, node: &str) -> Value {
        self.get(&format!("/instances/IN1/nodes/{node}/status"))
    }

    fn wait_for_state(&self, node: &str, state: &str) -> Value {
        support::wait_for(&format!("{node} to be {state}"), || self.status(node)["state"] == state);
        self.status(node)
    }

    /// The events that say this of an object.
    fn events(&self, regarding: &str, reason: &str) -> Vec<Value> {
        // Those of this server, whoever leads.
        let all = self.get("/events?own=true");
        let is_it = |event: &&Value| event["regarding"] == regarding && event["reason"] == reason;
        all.as_array().unwrap().iter().filter(is_it).cloned().collect()
    }
}

/// Pids of a process's programs on this machine.
fn running(process: &Value) -> Vec<u32> {
    support::with_variable("MAINSTAY_PROCESS", process.as_str().unwrap())
}

#[test]
fn a_changed_host_key_quarantines_the_node_until_a_person_trusts_it() {
    let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    let (service, process) = served.run(&["sleep", "1000"]);
    let before = running(&process);
    assert_eq!(served.status("ND1")["state"], "connected");
    let refused = served.post("/instances/IN1/nodes/ND1/trust", &Value::Null, 409);
    assert!(refused["error"].as_str().unwrap().contains("has not changed"), "{refused}");
    served.post("/instances/IN1/nodes/ND2/trust", &Value::Null, 404);

    sshd.become_another();
    let status = served.wait_for_state("ND1", "host key changed");
    assert!(status["since"].is_string() && status["next-try"].is_string(), "{status}");
    assert!(status["message"].as_str().unwrap().contains(&sshd.fingerprint()), "{status}");

    // Zero steps: a stop is asked for, and nothing of it reaches the machine.
    let steps = counter(&served.api, "node_steps");
    let stop = format!("/instances/IN1/services/{service}/stop?timeout=1");
    let answer = served.post(&stop, &Value::Null, 200);
    assert_eq!(answer["processes"][0]["running"], true, "{answer}");
    assert!(answer["processes"][0]["reason"].as_str().unwrap().contains("host key changed"), "{answer}");
    assert_eq!(running(&process), before);
    assert_eq!(counter(&served.api, "node_steps"), steps);

    let since = Instant::now();
    let answer = served.post("/instances/IN1/nodes/ND1/trust", &Value::Null, 200);
    assert_eq!(answer["state"], "connected", "{answer}");
    eprintln!("connected {:.0?} after a person trusted the key", since.elapsed());
    support::wait_for("the stop to be carried out", || running(&process).is_empty());
    assert_eq!(served.events("Node IN1/ND1", "HostKeyChanged").len(), 1, "said once, and counted");
}

#[test]
fn a_person_trusts_a_changed_host_key_from_the_command_line() {
    let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    let trust = |node: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        let output = command.args(["node", "trust", "--server", &served.api, node]).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), said)
    };
    served.wait_for_state("ND1", "connected");
    let (fine, said) = trust("IN1/ND1");
    assert!(!fine && said.contains("has not changed"), "{said}");
    let (fine, said) = trust("IN1/../ND1");
    assert!(!fine && said.contains("write INSTANCE/NODE"), "{said}");
    sshd.become_another();
    served.wait_for_state("ND1", "host key changed");
    assert_eq!(trust("IN1/ND1"), (true, "IN1/ND1: trusted; connected\n".into()));
}

#[test]
fn a_machine_with_a_key_of_another_type_is_no_known_one() {
    let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    served.wait_for_state("ND1", "connected");
    sshd.become_another_of_type("ecdsa");
    served.wait_for_state("ND1", "host key changed");
    assert_eq!(served.post("/instances/IN1/nodes/ND1/trust", &Value::Null, 200)["state"], "connected");
}

#[test]
fn a_node_that_is_declared_again_may_be_another_machine() {
    let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    served.wait_for_state("ND1", "connected");
    served.call("DELETE", "/instances/IN1/nodes/ND1", &Value::Null, 204);
    sshd.become_another();
    served.add_node_as(&"ND1".into(), &sshd);
    served.wait_for_state("ND1", "connected");
}

#[test]
fn a_pinned_host_key_is_changed_in_the_document() {
    let (mut sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    let node = "/instances/IN1/nodes/ND1";
    served.call("PUT", node, &json!({"host-key": sshd.host_key()}), 200);
    served.wait_for_state("ND1", "connected");
    sshd.become_another();
    served.wait_for_state("ND1", "host key changed");
    let refused = served.post(&format!("{node}/trust"), &Value::Null, 409);
    assert!(refused["error"].as_str().unwrap().contains("`host-key`"), "{refused}");
    served.call("PUT", node, &json!({"host-key": sshd.host_key()}), 200);
    served.wait_for_state("ND1", "connected");
}

#[test]
fn a_clock_that_is_off_is_a_warning_and_no_failure() {
    let tools = TempDir::new().unwrap();
    let offset = tools.path().join("offset");
    std::fs::write(&offset, "7200").unwrap();
    let date = tools.path().join("date");
    // Between the node's shell and its clock.
    let script = format!("#!/bin/sh\necho $(($(/bin/date +%s) + $(cat {})))\n", offset.display());
    std::fs::write(&date, script).unwrap();
    std::fs::set_permissions(&date, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:/usr/local/bin:/usr/bin:/bin", tools.path().display());
    let (sshd, data) = (Sshd::start_in(&path, ""), TempDir::new().unwrap());
    let served = Served::with_node(data.path(), &sshd);
    let status = served.wait_for_state("ND1", "connected");
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(warning.contains("clock is 7") && warning.contains(" s ahead of"), "{warning}");
    let (_, process) = served.run(&["sleep", "1000"]);
    assert_eq!(running(&process).len(), 1, "it is a warning");

    std::fs::write(&offset, "0").unwrap();
    // It is asked again every now and then; here at once, over a new connection.
    support::children(served.program().pid()).into_iter().for_each(support::kill);
    support::wait_for("the warning to be over", || {
        let status = served.status("ND1");
        status["state"] == "connected" && status["warnings"] == json!([])
    });
}

#[test]
fn a_full_disk_is_named_and_what_runs_goes_on_and_can_be_stopped() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let disk = support::SmallDisk::mount(&sshd.home(), "512k");
    let served = Served::with_node(data.path(), &sshd);
    let (first, kept) = served.run(&["sleep", "1000"]);
    let (other, also_kept) = served.run(&["sleep", "1000"]);
    let (second, wanted) = served.declare(&["sleep", "1000"]);
    let (kept_pids, other_pids) = (running(&kept), running(&also_kept));
    // The node makes room by dropping old events; so that it gains none for a start, there are few.
    let shorten = ["-name", "events", "-exec", "sh", "-c", "echo >$0", "{}", ";"];
    assert!(Command::new("find").arg(sshd.home()).args(shorten).status().unwrap().success());
    disk.fill();

    let start = format!("/instances/IN1/services/{second}/start?timeout=1");
    served.post(&start, &Value::Null, 200);
    let status = format!("/processes/{}/status", wanted.as_str().unwrap());
    support::wait_for("the full disk to be named", || {
        served.get(&status)["reason"].as_str().is_some_and(|reason| reason.contains("disk full"))
    });
    eprintln!("{}", served.get(&status)["reason"]);
    assert_eq!((running(&kept), running(&also_kept)), (kept_pids.clone(), other_pids));
    assert_eq!(running(&wanted), [0; 0]);
    let regarding = format!("Process IN1/{}", wanted.as_str().unwrap());
    let events = served.events(&regarding, "Absent");
    assert!(events[0]["message"].as_str().unwrap().contains("disk full"), "{events:?}");
    assert_eq!(served.status("ND1")["state"], "connected", "one can still speak with it");

    // What one needs most on a full disk.
    let stopped = served.post(&format!("/instances/IN1/services/{other}/stop"), &Value::Null, 200);
    assert_eq!(stopped["running"], false, "{stopped}");

    // A new connection to a node with a full disk takes up what is there.
    support::children(served.program().pid()).into_iter().for_each(support::kill);
    support::wait_for("it to be connected again", || {
        served.events("Node IN1/ND1", "Connected")[0]["count"] == 2
    });
    assert_eq!(running(&kept), kept_pids);

    disk.free();
    support::wait_for("the new one to be started", || running(&wanted).len() == 1);
    let started = served.post(&format!("/instances/IN1/services/{first}/start"), &Value::Null, 200);
    assert_eq!(started["running"], true, "{started}");
    assert_eq!(running(&kept), kept_pids);
}

/// What fails on ND1, as a server that was killed or still runs has kept it; read from a backup of its store.
fn kept(which: &[&str]) -> Option<Value> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("backup").display().to_string();
    let mut backup = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    let output = backup.args(["store", "backup", &file]).args(which).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file).unwrap();
    let items = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let item = items.into_iter().find(|item| item["key"] == "tries/IN1/ND1")?;
    Some(serde_json::from_str(item["text"].as_str().unwrap()).unwrap())
}

/// A time as it is shown, from how it is kept.
fn shown(ms: &Value) -> Value {
    mainstay::clock::rfc3339(ms.as_u64().unwrap()).into()
}

#[test]
fn a_killed_server_goes_on_waiting_with_what_failed_where_it_was() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let disk = support::SmallDisk::mount(&sshd.home(), "512k");
    let mut served = Served::with_node(data.path(), &sshd);
    served.wait_for_state("ND1", "connected");
    // The bundle is there, and it is the start that finds no room.
    let (service, process) = served.declare(&["sleep", "1000"]);
    let id = process.as_str().unwrap().to_owned();
    support::wait_for("the bundle", || !served.events("Node IN1/ND1", "BundleOutdated").is_empty());
    assert_eq!(kept(&["--served", "--server", &served.api]), None, "nothing has failed");
    disk.fill();
    served.post(&format!("/instances/IN1/services/{service}/start?wait=false"), &Value::Null, 200);
    let next_try = |served: &Served| {
        let explained = served.get(&format!("/explain/processes/{id}"));
        explained["chain"].as_array().unwrap().iter().find(|link| link["step"] == "next-try").cloned()
    };
    support::wait_for("the fourth try", || {
        next_try(&served).is_some_and(|next| next["text"] == "it is tried again; it was tried 4 times")
    });

    served.program.take().unwrap().kill();
    let data_dir = data.path().display().to_string();
    let before = kept(&["--data-dir", &data_dir]).unwrap()["steps"][&id].clone();
    assert!(before["tries"].as_u64().unwrap() >= 3, "{before}");
    assert!(before["why"].as_str().unwrap().contains("disk full"), "{before}");
    served.start_again(data.path());
    served.wait_for_state("ND1", "connected");
    let mut after = Value::Null;
    support::wait_for("the next try, which is kept again", || {
        after = kept(&["--served", "--server", &served.api]).unwrap()["steps"][&id].clone();
        if after == before {
            // Nothing was tried yet: what is shown is what was kept.
            if let Some(next) = next_try(&served) {
                let text = format!("it is tried again; it was tried {} times", before["tries"]);
                assert!(next["text"] != text.as_str() || next["at"] == shown(&before["next-ms"]), "{next}");
            }
        }
        after != before
    });
    let number = |of: &Value, what: &str| of[what].as_u64().unwrap();
    assert_eq!(number(&after, "tries"), number(&before, "tries") + 1, "{after}");
    assert!(number(&after, "at-ms") >= number(&before, "next-ms"), "{before}, and then {after}");
    let wait = number(&after, "next-ms") - number(&after, "at-ms");
    assert!(wait > 4_000 && wait <= 60_000, "it goes on growing: {after}");

    disk.free();
    support::wait_for("it to run", || running(&process).len() == 1);
    support::wait_for("nothing to be kept any more", || {
        kept(&["--served", "--server", &served.api]).is_none()
    });
}

#[test]
fn a_killed_server_does_not_ask_again_at_once_who_refused_its_login_unless_people_do() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let mut served = Served::start(data.path(), &[]);
    served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}), 201);
    let mut node = node(&sshd);
    node["identity-file"] = sshd.stranger_identity().into();
    served.post("/instances/IN1/nodes", &node, 201);
    support::wait_for("the second refusal", || served.status("ND1")["tries"] == 2);
    served.program.take().unwrap().kill();
    let data_dir = data.path().display().to_string();
    let before = kept(&["--data-dir", &data_dir]).unwrap()["login"].clone();

    served.start_again(data.path());
    let mut status = Value::Null;
    support::wait_for("ND1 to be looked at", || {
        status = served.status("ND1");
        status["state"] == "auth failed"
    });
    if status["tries"] == before["tries"] {
        assert_eq!(status["next-try"], shown(&before["next-ms"]), "{status}");
    }
    let mut after = Value::Null;
    support::wait_for("the next refusal", || {
        after = kept(&["--served", "--server", &served.api]).unwrap()["login"].clone();
        after["tries"].as_u64() > before["tries"].as_u64()
    });
    assert!(after["at-ms"].as_u64() >= before["next-ms"].as_u64(), "{before}, and then {after}");

    // A person who asks is not kept waiting, nor does a changed document wait.
    let pinged = served.post("/instances/IN1/nodes/ND1/ping", &Value::Null, 200);
    assert_eq!(pinged["result"], false, "{pinged}");
    let path = sshd.identity_file();
    served.call("PUT", "/instances/IN1/nodes/ND1", &json!({"identity-file": path}), 200);
    served.wait_for_state("ND1", "connected");
    support::wait_for("nothing to be kept any more", || {
        kept(&["--served", "--server", &served.api]).is_none()
    });
}

#[test]
fn a_deposed_controllers_delayed_batch_is_refused_and_it_says_so() {
    let etcd = support::etcd::EtcdServer::start();
    let (sshd, data, key) = (Sshd::start(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let key = key.path().join("key").display().to_string();
    let endpoint = etcd.endpoint();
    let arguments = ["--etcd", &endpoint, "--secret-key", &key, "--lease", "2"];
    let epoch = |served: &Served| {
        let (_, text) = call("GET", &format!("{}/status", served.api), "").unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["leader"]["epoch"].as_u64().unwrap()
    };
    let old = Served::start(&data.path().join("old"), &arguments);
    old.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}), 201);
    old.add_node(&sshd);
    let (service, process) = old.declare(&["sleep", "1000"]);
    support::wait_for("the bundle, a batch of its own", || {
        !old.events("Node IN1/ND1", "BundleOutdated").is_empty()
    });
    let first_epoch = epoch(&old);

    // The first one's batch gets stuck on its way to the node.
    let links = support::children(old.program().pid());
    assert_eq!(links.len(), 1);
    let stop = |signal| links.iter().for_each(|pid| support::signal(*pid, signal));
    stop(Signal::STOP);
    let sent = counter(&old.api, "node_batches");
    old.post(&format!("/instances/IN1/services/{service}/start?wait=false"), &Value::Null, 200);
    support::wait_for("the first one's batch", || counter(&old.api, "node_batches") > sent);
    assert_eq!(running(&process), [0; 0]);

    // It is itself stopped for longer than its lease. Another one leads, does it, and undoes it.
    old.program().signal(Signal::STOP);
    let new = Served::start(&data.path().join("new"), &arguments);
    support::wait_for("the second one to have started it", || running(&process).len() == 1);
    let stopped = new.post(&format!("/instances/IN1/services/{service}/stop"), &Value::Null, 200);
    assert_eq!((&stopped["running"], running(&process)), (&json!(false), vec![]), "{stopped}");
    let new_epoch = epoch(&new);
    assert!(new_epoch > first_epoch, "{new_epoch} after {first_epoch}");

    // The batch arrives, and then the first one hears of it.
    stop(Signal::CONT);
    old.program().signal(Signal::CONT);
    let process_name = format!("Process IN1/{}", process.as_str().unwrap());
    support::wait_for("the first one to say so", || {
        !old.events("Node IN1/ND1", "Fenced").is_empty() && !old.events(&process_name, "Absent").is_empty()
    });
    let refused = &old.events(&process_name, "Absent")[0];
    assert_eq!((&refused["action"], &refused["count"]), (&json!("Start"), &json!(1)));
    assert_eq!(
        refused["message"],
        format!("failed: fenced: a newer controller (epoch {new_epoch}) has taken this node over"),
        "{refused}"
    );
    assert_eq!(running(&process), [0; 0], "what was stopped since is not started");
    assert_eq!(new.events(&process_name, "Absent")[0]["message"], "done");
    assert!(old.program().said().contains("leads no longer"), "{}", old.program().said());
}

#[test]
fn more_silent_nodes_than_turns_delay_no_other() {
    let (sshd, data) = (Sshd::start(), TempDir::new().unwrap());
    let served = Served::start(data.path(), &[]);
    served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}), 201);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for _ in 0..40 {
        let node = json!({"name": "a", "ip-address": "127.0.0.1", "port": port, "username": user(),
                          "identity-file": sshd.identity_file()});
        served.post("/instances/IN1/nodes", &node, 201);
    }
    served.add_node(&sshd);
    let since = Instant::now();
    served.wait_for_state("ND41", "connected");
    eprintln!("connected after {:.1?} beside 40 that do not answer", since.elapsed());
    let status = served.wait_for_state("ND40", "timed out");
    assert!(status["next-try"].is_string(), "{status}");
}
