//! The contract of a link, the same for every way to reach a node: real shells, real processes.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::model::kinds::{LogSpec, Signal, StopSpec};
use mainstay::model::secret::Clear;
use mainstay::node::link::{Connector, Link, Target};
use mainstay::node::local::Local;
use mainstay::node::log::{Reading, Start as From};
use mainstay::node::protocol::{self, Line, ProcessLine, Verdict};
use mainstay::node::side::Side;
use mainstay::node::ssh::Ssh;
use mainstay::plan::step::{Action, Care, Check, Probe, Reason, Start, Step};
use mainstay::plan::world::{Health, Phase};
use sha2::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[path = "link_contract/leases.rs"]
mod leases;
mod support;
use leases::*;
use support::sshd::{Account, NodeShell, Sshd, local_target, user};

/// Longest that anything may take before a test fails; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_secs(60);

struct Case {
    connector: Arc<dyn Connector>,
    target: Target,
    link: Box<dyn Link>,
    root: PathBuf,
    revision: u64,
    processes: BTreeMap<String, ProcessLine>,
    /// What the node last said of its clock.
    uptime: u64,
}

impl Case {
    async fn new(connector: Arc<dyn Connector>, mut target: Target, directory: &Path) -> Case {
        let root = directory.join("no'de $(reboot)");
        target.root = root.display().to_string();
        let link = connector.connect(&target).await.unwrap();
        let mut case =
            Case { connector, target, link, root, revision: 0, processes: BTreeMap::new(), uptime: 0 };
        case.open(1).await;
        case
    }

    async fn open(&mut self, epoch: u64) {
        self.processes.clear();
        self.link.send(&protocol::open(&self.target.root, epoch, self.revision)).await.unwrap();
        self.until("opened", |line, _| matches!(line, Line::Opened { .. })).await;
    }

    async fn reconnect(&mut self) {
        let link = self.connector.connect(&self.target).await.unwrap();
        std::mem::replace(&mut self.link, link).close().await;
        self.revision += 1;
        self.open(1).await;
    }

    async fn until(
        &mut self,
        what: &str,
        done: impl Fn(&Line, &BTreeMap<String, ProcessLine>) -> bool,
    ) -> Line {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = tokio::time::timeout(left, self.link.next())
                .await
                .unwrap_or_else(|_| panic!("waited for {what}; seen {:#?}", self.processes))
                .unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
            match &line {
                Line::Process(process) => {
                    self.processes.insert(process.id.clone(), process.clone());
                }
                Line::Gone(id) => {
                    self.processes.remove(id);
                }
                Line::Uptime(uptime) => self.uptime = *uptime,
                Line::Unusable(why) => panic!("unusable: {why}"),
                _ => {}
            }
            if done(&line, &self.processes) {
                return line;
            }
        }
    }

    async fn phase(&mut self, id: &str, phase: Phase) -> ProcessLine {
        if self.processes.get(id).is_none_or(|p| p.phase != phase) {
            self.until(&format!("{id} {phase:?}"), |_, all| all.get(id).is_some_and(|p| p.phase == phase))
                .await;
        }
        self.processes[id].clone()
    }

    async fn batch_as(&mut self, epoch: u64, revision: u64, actions: Vec<Action>) -> Verdict {
        let steps: Vec<Step> =
            actions.into_iter().map(|action| Step { action, reason: Reason::Absent }).collect();
        self.link.send(&protocol::batch(epoch, revision, &steps)).await.unwrap();
        let done = self.until("the trailer", |line, _| matches!(line, Line::Done { .. })).await;
        let Line::Done { revision: said, verdict } = done else { unreachable!() };
        assert_eq!(said, revision);
        verdict
    }

    async fn batch(&mut self, actions: Vec<Action>) {
        self.revision += 1;
        assert_eq!(self.batch_as(1, self.revision, actions).await, Verdict::Done);
    }

    async fn look(&mut self) {
        self.link.send(&protocol::look(7)).await.unwrap();
        self.until("looked", |line, _| matches!(line, Line::Looked { token: 7, .. })).await;
    }

    fn log(&self, id: &str) -> String {
        std::fs::read_to_string(self.root.join("p").join(id).join("log")).unwrap_or_default()
    }

    /// Waits until a process has said something: it is told of a moment before it becomes its program.
    fn wait_for_log(&self, id: &str, text: &str) {
        support::wait_for(&format!("{text:?} in the log"), || self.log(id) == text);
    }

    async fn end(mut self) {
        let ids: Vec<String> = self.processes.keys().cloned().collect();
        self.batch(ids.iter().map(|id| remove(id)).collect()).await;
        self.until_or_now("all gone", |all| all.is_empty()).await;
        self.link.close().await;
        let root = self.root.display().to_string();
        support::wait_for("the node to be clean", || support::carrying(&root).is_empty());
    }

    async fn until_or_now(&mut self, what: &str, done: impl Fn(&BTreeMap<String, ProcessLine>) -> bool) {
        if !done(&self.processes) {
            self.until(what, |_, all| done(all)).await;
        }
    }
}

fn sh(script: &str) -> Start {
    command(&["/bin/sh", "-c", script])
}

fn command(words: &[&str]) -> Start {
    Start {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        hash: "h1".into(),
        live: "-".into(),
        stop: StopSpec { signal: Signal::Term, grace_seconds: 10 },
        care: Care { hash: "c1".into(), ..Care::default() },
    }
}

fn start(id: &str, start: Start) -> Action {
    Action::Start { id: id.into(), start: start.into() }
}

fn stop(id: &str, grace_seconds: u32) -> Action {
    Action::Stop { id: id.into(), stop: StopSpec { signal: Signal::Term, grace_seconds } }
}

fn remove(id: &str) -> Action {
    Action::Remove { id: id.into(), stop: StopSpec { signal: Signal::Term, grace_seconds: 0 } }
}

async fn a_started_process_leads_a_session_of_its_own(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    let seen = case.phase("a", Phase::Running).await;
    let pid = seen.pid.unwrap();
    // Told a moment before it becomes the program, so that nothing that runs is unknown.
    let leads =
        || support::stat(pid).is_some_and(|fields| fields[2..4] == [pid.to_string(), pid.to_string()]);
    support::wait_for("its own group and session", leads);
    // A shell's background jobs ignore INT and QUIT; a service must not inherit that.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0b0110, 0, "INT or QUIT is ignored");
    case.end().await;
}

async fn starting_what_runs_starts_nothing(mut case: Case) {
    case.batch(vec![start("a", sh("echo up; exec sleep 1000"))]).await;
    let first = case.phase("a", Phase::Running).await;
    case.wait_for_log("a", "up\n");
    case.batch(vec![start("a", sh("echo up; exec sleep 1000"))]).await;
    case.look().await;
    assert_eq!(case.processes["a"].pid, first.pid);
    assert_eq!(case.log("a"), "up\n");
    case.end().await;
}

async fn a_killed_process_is_back_and_that_is_counted_and_told_unasked(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    let first = case.phase("a", Phase::Running).await;
    support::kill(first.pid.unwrap());
    case.until("a restart", |_, all| all["a"].restarts == 1 && all["a"].phase == Phase::Running).await;
    let second = case.processes["a"].clone();
    assert_ne!(second.pid, first.pid);
    assert_eq!(second.exit, Some(137));
    case.end().await;
}

async fn a_stop_takes_the_whole_tree_even_what_made_its_own_session(mut case: Case) {
    let script = "sleep 1001 & setsid sleep 1002 & (setsid setsid sh -c 'sleep 1003 & sleep 1004' &) ; echo up; exec sleep 1000";
    case.batch(vec![start("a", sh(script))]).await;
    case.phase("a", Phase::Running).await;
    let tag = format!("MAINSTAY_TAG={}/p/a/.", case.root.display());
    support::wait_for("the tree", || support::carrying(&tag).len() >= 5);
    case.batch(vec![stop("a", 10)]).await;
    case.phase("a", Phase::Stopped).await;
    assert_eq!(support::carrying(&tag), [0; 0]);
    case.end().await;
}

async fn what_ignores_the_signal_is_killed_after_the_grace(mut case: Case) {
    case.batch(vec![start("a", sh("trap '' TERM; echo up; while :; do sleep 0.1; done"))]).await;
    case.phase("a", Phase::Running).await;
    case.wait_for_log("a", "up\n");
    case.batch(vec![stop("a", 1)]).await;
    assert_eq!(case.processes["a"].phase, Phase::Stopping);
    case.phase("a", Phase::Stopped).await;
    case.end().await;
}

async fn arguments_and_variables_arrive_byte_for_byte(mut case: Case) {
    let nasty = "a'b \"c\" $(reboot) `reboot` \\ ; & | * ? [x] ~ #\n\tä€\n";
    let mut start_it = command(&[
        "/bin/sh",
        "-c",
        "printf '%s|%s|%s' \"$1\" \"$d\" \"$ROOT\"; exec sleep 1000",
        "sh",
        nasty,
    ]);
    // Names that the script uses itself.
    start_it.env = BTreeMap::from([
        ("d".into(), nasty.into()),
        ("ROOT".into(), "-n".into()),
        ("IFS".into(), "a".into()),
    ]);
    case.batch(vec![start("a", start_it)]).await;
    case.phase("a", Phase::Running).await;
    case.wait_for_log("a", &format!("{nasty}|{nasty}|-n"));
    case.end().await;
}

async fn half_a_batch_does_nothing(mut case: Case) {
    let steps = [Step { action: start("a", command(&["sleep", "1000"])), reason: Reason::Absent }];
    let text = protocol::batch(1, 9, &steps);
    for cut in [text.len() - 1, text.len() - 3, text.len() / 2, 12] {
        case.link.send(&text[..cut]).await.unwrap();
        case.reconnect().await;
        assert!(!case.processes.contains_key("a"), "cut at {cut}");
    }
    case.end().await;
}

async fn a_deposed_controller_is_refused(mut case: Case) {
    case.batch_as(5, 3, vec![start("a", command(&["sleep", "1000"]))]).await;
    let fenced = Verdict::Fenced { epoch: 5, revision: 3 };
    assert_eq!(case.batch_as(4, 9, vec![stop("a", 0)]).await, fenced);
    assert_eq!(case.batch_as(5, 2, vec![stop("a", 0)]).await, fenced);
    case.look().await;
    assert_eq!(case.processes["a"].phase, Phase::Running);
    case.link.send(&protocol::open(&case.target.root.clone(), 4, 9)).await.unwrap();
    case.until("the refusal", |line, _| *line == Line::Fenced(5)).await;
    assert_eq!(case.batch_as(5, 4, vec![remove("a")]).await, Verdict::Done);
    case.until_or_now("gone", |all| all.is_empty()).await;
    case.link.close().await;
}

async fn a_batch_of_an_older_conversation_is_refused(mut case: Case) {
    let mut other = case.connector.connect(&case.target).await.unwrap();
    other.send(&protocol::open(&case.target.root, 1, 5)).await.unwrap();
    while !matches!(other.next().await.unwrap(), Line::Opened { .. }) {}
    let late = vec![start("a", command(&["sleep", "1000"]))];
    assert_eq!(case.batch_as(1, 4, late).await, Verdict::Fenced { epoch: 1, revision: 5 });
    other.close().await;
    case.revision = 5;
    case.look().await;
    assert!(case.processes.is_empty());
    case.end().await;
}

async fn a_process_whose_supervisor_was_killed_is_seen_and_never_doubled(mut case: Case) {
    case.batch(vec![start("a", sh("echo up; exec sleep 1000"))]).await;
    let first = case.phase("a", Phase::Running).await;
    case.wait_for_log("a", "up\n");
    let supervisor = support::parent(first.pid.unwrap());
    support::kill(supervisor);
    support::wait_for("its end", || !support::is_alive(supervisor));
    case.look().await;
    assert_eq!(case.processes["a"].phase, Phase::Unsupervised);
    // A plain start leaves it alone; a restart takes its place.
    case.batch(vec![start("a", sh("echo up; exec sleep 1000"))]).await;
    assert_eq!(case.log("a"), "up\n");
    let again = Action::Restart { id: "a".into(), start: sh("echo again; exec sleep 1000").into() };
    case.batch(vec![again]).await;
    let second = case.phase("a", Phase::Running).await;
    assert_ne!(second.pid, first.pid);
    assert!(!support::is_alive(first.pid.unwrap()));
    case.end().await;
}

async fn what_is_restarted_in_a_long_batch_is_told_as_running(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    case.phase("a", Phase::Running).await;
    for round in 0..5 {
        let mut again = command(&["sleep", "1000"]);
        again.hash = format!("again{round}");
        // It runs again while the others are still being started.
        let mut actions = vec![Action::Restart { id: "a".into(), start: again.clone().into() }];
        actions
            .extend((0..10).map(|number| start(&format!("{round}-{number}"), command(&["sleep", "1000"]))));
        case.batch(actions).await;
        case.until_or_now("the restarted one to run", |all| {
            all["a"].phase == Phase::Running && all["a"].hash == again.hash
        })
        .await;
        case.until_or_now("all to run", |all| {
            all.len() == 1 + 10 * (round + 1) && all.values().all(|seen| seen.phase == Phase::Running)
        })
        .await;
    }
    case.end().await;
}

async fn a_change_right_after_its_process_was_told_of_at_the_end_of_a_batch_is_told(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    case.phase("a", Phase::Running).await;
    // What a batch writes, cut in two where the change comes in between.
    let events = case.root.join("events");
    let written = std::fs::read_to_string(&events).unwrap();
    let link = written.lines().find_map(|line| line.strip_prefix("?begin ")).unwrap().to_owned();
    let ring = |text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&events).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    let is_done = |line: &Line| matches!(line, Line::Done { .. });
    case.processes.clear();
    ring(&format!("?begin {link}\na\n?say {link} a\n"));
    case.phase("a", Phase::Running).await;
    let record = case.root.join("p/a/rec");
    let mut words: Vec<String> =
        std::fs::read_to_string(&record).unwrap().split(' ').map(str::to_owned).collect();
    words[7] = "7".into();
    std::fs::write(&record, words.join(" ")).unwrap();
    ring(&format!("a\n?done {link} 999\n"));
    case.until("the end of the batch", |line, _| is_done(line)).await;
    case.until_or_now("the change", |all| all["a"].restarts == 7).await;
    case.end().await;
}

async fn a_process_whose_supervisor_was_killed_is_adopted_and_runs_on(mut case: Case) {
    case.batch(vec![start("a", sh("echo up; exec sleep 1000"))]).await;
    let first = case.phase("a", Phase::Running).await;
    let pid = first.pid.unwrap();
    case.wait_for_log("a", "up\n");
    let supervisor = support::parent(pid);
    support::kill(supervisor);
    support::wait_for("its end", || !support::is_alive(supervisor));
    let mut with_other_care = sh("echo up; exec sleep 1000");
    with_other_care.care.hash = "c2".into();
    case.batch(vec![Action::Adopt { id: "a".into(), start: with_other_care.into() }]).await;
    let seen = case.phase("a", Phase::Running).await;
    assert_eq!((seen.pid, seen.hash.as_str(), seen.care.as_str()), (Some(pid), "h1", "c2"));
    assert!(support::is_alive(pid));
    // From here on it is supervised as any other, also when it is stopped.
    support::kill(pid);
    case.until("a restart", |_, all| all["a"].restarts == 1 && all["a"].phase == Phase::Running).await;
    case.wait_for_log("a", "up\nup\n");
    // One that has its supervisor gets another, and the old one's helpers are gone.
    let pid = case.processes["a"].pid.unwrap();
    let supervisor = support::parent(pid);
    case.batch(vec![Action::Adopt { id: "a".into(), start: sh("echo up; exec sleep 1000").into() }]).await;
    case.until_or_now("other care", |all| all["a"].care == "c1").await;
    assert_eq!(case.processes["a"].pid, Some(pid));
    support::wait_for("the old supervisor's end", || !support::is_alive(supervisor));
    case.end().await;
}

async fn what_ended_before_it_was_adopted_is_started(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    let pid = case.phase("a", Phase::Running).await.pid.unwrap();
    let supervisor = support::parent(pid);
    support::kill(supervisor);
    support::kill(pid);
    support::wait_for("their end", || !support::is_alive(supervisor) && !support::is_alive(pid));
    case.batch(vec![Action::Adopt { id: "a".into(), start: command(&["sleep", "1000"]).into() }]).await;
    let seen = case.phase("a", Phase::Running).await;
    assert_ne!(seen.pid, Some(pid));
    case.end().await;
}

/// A program that is healthy while a file is there.
fn healthy_while(file: &Path) -> Start {
    let command = vec!["test".into(), "-e".into(), file.display().to_string()];
    checked(Probe::Exec { command })
}

fn checked(probe: Probe) -> Start {
    let check =
        Check { probe, interval_seconds: 1, timeout_seconds: 5, failure_threshold: 2, success_threshold: 1 };
    let care = Care { health: Some(check), hash: "c1".into(), ..Care::default() };
    Start { care, ..command(&["sleep", "1000"]) }
}

async fn health_is_told_when_it_changes_and_is_that_of_the_present_process(mut case: Case) {
    let file = case.root.join("it's healthy");
    case.batch(vec![start("a", healthy_while(&file))]).await;
    case.until_or_now("unhealthy", |all| matches!(all["a"].health, Some(Health::Unhealthy { .. }))).await;
    assert_eq!(case.processes["a"].health, Some(Health::Unhealthy { why: "exit status 1".into() }));
    std::fs::write(&file, "").unwrap();
    case.until("healthy", |_, all| all["a"].health == Some(Health::Healthy)).await;
    // Another process has to show it anew.
    support::kill(case.processes["a"].pid.unwrap());
    case.until("a restart", |_, all| all["a"].restarts == 1 && all["a"].phase == Phase::Running).await;
    case.until_or_now("healthy again", |all| all["a"].health == Some(Health::Healthy)).await;
    case.end().await;
}

async fn a_port_and_an_address_are_checked_with_what_the_node_has(mut case: Case) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        // Answers well until it is asked for the end.
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 1024];
            let length = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
            let status = if asked.starts_with("GET /fine ") { "200 OK" } else { "503 Unavailable" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            if asked.starts_with("END") {
                return;
            }
        }
    });
    let url = |path: &str| Probe::Http { url: format!("http://127.0.0.1:{port}/{path}") };
    let nobody = support::free_port();
    case.batch(vec![
        start("tcp", checked(Probe::Tcp { host: "127.0.0.1".into(), port })),
        start("tcp-nobody", checked(Probe::Tcp { host: "127.0.0.1".into(), port: nobody })),
        start("http", checked(url("fine"))),
        start("http-503", checked(url("broken"))),
    ])
    .await;
    let is = |all: &BTreeMap<String, ProcessLine>, id: &str, healthy: bool| match &all[id].health {
        Some(Health::Healthy) => healthy,
        Some(Health::Unhealthy { .. }) => !healthy,
        Some(Health::Unchecked { why }) => panic!("{id}: {why}"),
        None => false,
    };
    case.until_or_now("all four", |all| {
        is(all, "tcp", true)
            && is(all, "tcp-nobody", false)
            && is(all, "http", true)
            && is(all, "http-503", false)
    })
    .await;
    case.end().await;
    use std::io::Write;
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"END").unwrap();
    answering.join().unwrap();
}

async fn a_log_is_kept_to_its_size_while_the_process_writes(mut case: Case) {
    let mut talker = sh("n=0; while :; do n=$((n + 1)); echo \"line $n\"; sleep 0.001; done");
    talker.care.log = LogSpec { max_size: 4096, keep: 2 };
    case.batch(vec![start("a", talker)]).await;
    let pid = case.phase("a", Phase::Running).await.pid;
    let log = case.root.join("p/a/log");
    let oldest = case.root.join("p/a/log.2");
    support::wait_for("the second rotation", || oldest.exists());
    case.look().await;
    assert_eq!(case.processes["a"].pid, pid, "it was restarted");
    // The process goes on writing where the log is now.
    let size = std::fs::metadata(&log).unwrap().len();
    support::wait_for("more of the log", || std::fs::metadata(&log).unwrap().len() != size);
    support::wait_for("the third rotation", || {
        std::fs::read_to_string(&oldest).is_ok_and(|text| !text.starts_with("line 1\n"))
    });
    assert!(!case.root.join("p/a/log.3").exists());
    case.end().await;
}

async fn after_a_reboot_what_ran_is_lost_and_can_be_started(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    let pid = case.phase("a", Phase::Running).await.pid.unwrap();
    let supervisor = support::parent(pid);
    support::kill(supervisor);
    support::kill(pid);
    // A machine can't be rebooted here; its records can be those of another boot, with pids that are others' by now.
    let record = case.root.join("p/a/rec");
    let text = std::fs::read_to_string(&record).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    std::fs::write(&record, text.replace(&pid.to_string(), &std::process::id().to_string())).unwrap();
    case.reconnect().await;
    assert_eq!((case.processes["a"].phase, case.processes["a"].pid), (Phase::Lost, None));
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    case.phase("a", Phase::Running).await;
    case.end().await;
}

async fn what_a_process_that_ended_unseen_left_is_not_beside_the_next(mut case: Case) {
    let script = "(setsid sleep 1001 &); echo up; exec sleep 1000";
    case.batch(vec![start("a", sh(script))]).await;
    let first = case.phase("a", Phase::Running).await.pid.unwrap();
    case.wait_for_log("a", "up\n");
    let tag = format!("MAINSTAY_TAG={}/p/a/.", case.root.display());
    support::wait_for("the tree", || support::carrying(&tag).len() == 2);
    let supervisor = support::parent(first);
    support::kill(supervisor);
    support::kill(first);
    support::wait_for("their end", || !support::is_alive(first) && !support::is_alive(supervisor));
    case.look().await;
    assert_eq!(case.processes["a"].phase, Phase::Lost);
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    let second = case.phase("a", Phase::Running).await.pid.unwrap();
    assert_eq!(support::carrying(&tag), [second]);
    case.end().await;
}

async fn processes_outlive_the_connection_and_are_found_again(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"])), start("b", command(&["sleep", "1000"]))]).await;
    let first = case.phase("a", Phase::Running).await;
    case.batch(vec![stop("b", 1)]).await;
    case.phase("b", Phase::Stopped).await;
    case.reconnect().await;
    assert_eq!(case.processes["a"].pid, first.pid);
    assert_eq!(case.processes["b"].phase, Phase::Stopped);
    // Supervision went on meanwhile, and is told again.
    support::kill(first.pid.unwrap());
    case.until("a restart", |_, all| all["a"].restarts == 1).await;
    case.end().await;
}

async fn a_program_that_is_not_there_is_tried_again_and_says_why(mut case: Case) {
    case.batch(vec![start("a", command(&["/no/such/program"]))]).await;
    case.until("a second try", |_, all| all["a"].restarts >= 2).await;
    assert_eq!(case.processes["a"].exit, Some(127));
    assert!(case.log("a").contains("/no/such/program"));
    case.end().await;
}

async fn a_bundle_is_written_whole_and_told_of(mut case: Case) {
    let text = "{\"a\": \"it's\\n\"}\n";
    case.batch(vec![
        Action::Bundle { hash: "b1".into(), text: text.into() },
        start("a", sh("trap 'cat \"$MAINSTAY_BUNDLE\"' HUP; echo up; while :; do sleep 0.1; done")),
    ])
    .await;
    case.phase("a", Phase::Running).await;
    case.wait_for_log("a", "up\n");
    case.batch(vec![Action::Reload { id: "a".into(), signal: Signal::Hup, live: "l2".into() }]).await;
    case.wait_for_log("a", &format!("up\n{text}"));
    case.look().await;
    assert_eq!(case.processes["a"].live, "l2");
    case.end().await;
}

/// Opens a side channel that sends back what comes.
async fn echo(case: &mut Case) -> Side {
    case.link.sides().open(&["echo"]).await.unwrap()
}

/// Gives a channel bytes until it takes no more, though nobody reads: what is between here and there is full then.
async fn fill(side: &mut Side) -> usize {
    let chunk = [b'x'; 16 * 1024];
    let mut taken = 0;
    let writer = side.writer.as_mut().unwrap();
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), writer.write(&chunk)).await {
        taken += written.unwrap();
    }
    taken
}

async fn a_side_channel_carries_bytes_both_ways_as_they_are(mut case: Case) {
    let sent: Vec<u8> = (0..3_000_017_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut side = echo(&mut case).await;
    let (reader, mut writer) = (&mut side.reader, side.writer.take().unwrap());
    let mut heard = Vec::new();
    let send = async {
        writer.write_all(&sent).await.unwrap();
        // The end of the node's input, which is the end of what it has to say.
        drop(writer);
    };
    let hear =
        async { tokio::time::timeout(PATIENCE, reader.read_to_end(&mut heard)).await.unwrap().unwrap() };
    tokio::join!(send, hear);
    assert!(heard == sent, "{} bytes came back of {}", heard.len(), sent.len());
    case.end().await;
}

async fn a_side_channel_that_is_stuck_delays_no_step(mut case: Case) {
    let mut side = echo(&mut case).await;
    let taken = fill(&mut side).await;
    assert!(taken < 64 * 1024 * 1024, "nothing holds back who sends: {taken} bytes were taken");
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    case.phase("a", Phase::Running).await;
    let mut other = echo(&mut case).await;
    other.writer.as_mut().unwrap().write_all(b"beside it\n").await.unwrap();
    assert_eq!(other.line().await.unwrap(), "beside it");
    case.end().await;
}

async fn a_side_channel_ends_with_its_link(mut case: Case) {
    let mut side = echo(&mut case).await;
    let sides = case.link.sides();
    case.reconnect().await;
    if case.target.port.is_some() {
        assert!(tokio::time::timeout(PATIENCE, side.line()).await.unwrap().is_err());
        assert_eq!(sides.open(&["echo"]).await.unwrap_err().name(), "connection lost");
    }
    case.end().await;
}

async fn a_word_that_the_node_does_not_know_is_said_to_be_none(case: Case) {
    let nasty = "a'b $(reboot) `reboot` ; & | * ? ~ # \\";
    let mut side = case.link.sides().open(&[nasty]).await.unwrap();
    assert_eq!(side.line().await.unwrap(), format!("X {nasty} is no word of this script"));
    assert!(side.line().await.is_err(), "the node ends it");
    case.end().await;
}

/// An artifact `app` as it is sent, and its address: a folder with a program and so many bytes beside it.
fn artifact(bytes: usize) -> (Vec<u8>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("app")).unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join("app").join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let run = write("run", b"#!/bin/sh\necho from the artifact\nexec sleep 1000\n");
    std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o755)).unwrap();
    write("data", &vec![b'x'; bytes]);
    let mut tar = Vec::new();
    mainstay::artifact::pack(folder.path().join("app").to_str().unwrap(), &mut tar).unwrap();
    let address = mainstay::model::secret::hex(&sha2::Sha256::digest(&tar));
    (tar, address)
}

/// Asks the node to take an artifact, and answers what it says to that.
async fn offer(case: &mut Case, epoch: u64, address: &str, size: usize) -> (Side, String) {
    let (epoch, size) = (epoch.to_string(), size.to_string());
    let words = ["put", &case.target.root, &epoch, address, &size];
    let mut side = case.link.sides().open(&words).await.unwrap();
    let said = said(&mut side).await;
    (side, said)
}

async fn said(side: &mut Side) -> String {
    tokio::time::timeout(PATIENCE, side.line()).await.unwrap().unwrap_or_else(|error| error.to_string())
}

/// Offers and sends; answers what the node says in the end.
async fn put(case: &mut Case, address: &str, tar: &[u8]) -> String {
    let (mut side, said_first) = offer(case, 1, address, tar.len()).await;
    if said_first != "ready" {
        return said_first;
    }
    // A node that has refused it midway takes no more.
    let _ = side.writer.as_mut().unwrap().write_all(tar).await;
    let _ = side.writer.as_mut().unwrap().flush().await;
    said(&mut side).await
}

fn is_there(address: &str, is_there: bool) -> impl Fn(&Line, &BTreeMap<String, ProcessLine>) -> bool + use<> {
    let line = Line::Artifact { address: address.to_owned(), is_there };
    move |said, _| *said == line
}

/// What lies in the node's folder of artifacts, sorted.
fn stored(case: &Case) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(case.root.join("a"))
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

async fn an_artifact_arrives_whole_is_told_of_and_runs(mut case: Case) {
    let (tar, address) = artifact(3_000_000);
    assert_eq!(put(&mut case, &address, &tar).await, "done");
    case.until("news of it", is_there(&address, true)).await;
    assert_eq!(stored(&case), [address.as_str()]);
    let at = case.root.join("a").join(&address).join("app");
    assert_eq!(std::fs::read(at.join("data")).unwrap(), vec![b'x'; 3_000_000]);
    // A second time it is not even asked for.
    assert_eq!(offer(&mut case, 1, &address, tar.len()).await.1, "done");
    case.batch(vec![start("a", command(&[at.join("run").to_str().unwrap()]))]).await;
    case.wait_for_log("a", "from the artifact\n");
    // Another conversation is told of it, and of where it is.
    case.revision += 1;
    case.link.send(&protocol::open(&case.target.root, 1, case.revision)).await.unwrap();
    let root = Line::Root(case.root.display().to_string());
    case.until("the directory", move |line, _| *line == root).await;
    case.until("news of it again", is_there(&address, true)).await;
    case.until("opened", |line, _| matches!(line, Line::Opened { .. })).await;
    case.end().await;
}

async fn an_artifact_is_removed_when_nothing_runs_from_it_and_not_before(mut case: Case) {
    let (tar, address) = artifact(10);
    assert_eq!(put(&mut case, &address, &tar).await, "done");
    let mut start_it = command(&["sleep", "1000"]);
    let at = case.root.join("a").join(&address).join("app");
    start_it.env.insert("MAINSTAY_ARTIFACT".into(), at.display().to_string());
    case.batch(vec![start("a", start_it)]).await;
    case.phase("a", Phase::Running).await;
    let discard = [Step { action: Action::Discard { address: address.clone() }, reason: Reason::Unused }];
    case.revision += 1;
    case.link.send(&protocol::batch(1, case.revision, &discard)).await.unwrap();
    let used = Line::StepFailed { id: address.clone(), message: "something still runs from it".into() };
    case.until("the refusal", move |line, _| *line == used).await;
    case.until("the trailer", |line, _| matches!(line, Line::Done { .. })).await;
    assert_eq!(stored(&case), [address.as_str()]);
    case.batch(vec![stop("a", 1)]).await;
    case.phase("a", Phase::Stopped).await;
    case.revision += 1;
    case.link.send(&protocol::batch(1, case.revision, &discard)).await.unwrap();
    case.until("news of it", is_there(&address, false)).await;
    case.until("the trailer", |line, _| matches!(line, Line::Done { .. })).await;
    support::wait_for("the disk to be freed", || stored(&case).is_empty());
    case.end().await;
}

async fn what_arrives_damaged_is_refused_and_leaves_nothing(mut case: Case) {
    let (tar, address) = artifact(300_000);
    let mut damaged = tar.clone();
    damaged[100_000] = b'y';
    let said = put(&mut case, &address, &damaged).await;
    assert!(said.starts_with("failed what arrived is not what was sent: its SHA-256 is "), "{said}");
    assert_eq!(stored(&case), [""; 0]);
    let said = put(&mut case, &address, &vec![b'z'; tar.len()]).await;
    assert!(said.starts_with("failed what arrived can't be unpacked: "), "{said}");
    assert_eq!(stored(&case), [""; 0]);
    assert_eq!(put(&mut case, &address, &tar).await, "done");
    case.end().await;
}

async fn a_transfer_that_breaks_off_leaves_nothing_and_the_next_one_goes_through(mut case: Case) {
    let (tar, address) = artifact(300_000);
    let half = &tar[..tar.len() / 2];
    let (mut side, said_first) = offer(&mut case, 1, &address, tar.len()).await;
    assert_eq!(said_first, "ready");
    side.writer.as_mut().unwrap().write_all(half).await.unwrap();
    drop(side);
    support::wait_for("what arrived of it to go", || stored(&case).is_empty());
    // One whose end the node does not see is ended by the next.
    let (mut stuck, said_first) = offer(&mut case, 1, &address, tar.len()).await;
    assert_eq!(said_first, "ready");
    stuck.writer.as_mut().unwrap().write_all(half).await.unwrap();
    stuck.writer.as_mut().unwrap().flush().await.unwrap();
    assert_eq!(put(&mut case, &address, &tar).await, "done");
    assert_eq!(stored(&case), [address.as_str()]);
    assert_ne!(said(&mut stuck).await, "done");
    case.end().await;
}

async fn a_deposed_controller_sends_nothing(mut case: Case) {
    let (tar, address) = artifact(10);
    case.revision += 1;
    case.open(5).await;
    let said = offer(&mut case, 4, &address, tar.len()).await.1;
    assert_eq!(said, "failed a newer controller (epoch 5) has taken this node over");
    case.link.close().await;
}

async fn a_full_disk_ends_a_transfer_by_its_name(mut case: Case) {
    assert!(rustix::process::getuid().is_root(), "a small disk is mounted; run the tests as root");
    let (tar, address) = artifact(2_000_000);
    let disk = case.root.join("a");
    std::fs::create_dir(&disk).unwrap();
    let disk = support::SmallDisk::mount(&disk, "1m");
    // It is seen before anything is sent.
    let said = put(&mut case, &address, &tar).await;
    assert!(said.starts_with("failed disk full: ") && said.contains(" kB are needed"), "{said}");
    // And while it is sent, when somebody else takes the room meanwhile.
    let (small, address) = artifact(600_000);
    let (mut side, said_first) = offer(&mut case, 1, &address, small.len()).await;
    assert_eq!(said_first, "ready");
    disk.fill();
    let _ = side.writer.as_mut().unwrap().write_all(&small).await;
    let _ = side.writer.as_mut().unwrap().flush().await;
    let why = self::said(&mut side).await;
    assert!(why.starts_with("failed disk full: "), "{why}");
    disk.free();
    assert_eq!(stored(&case), [""; 0]);
    assert_eq!(put(&mut case, &address, &small).await, "done");
    drop(disk);
    case.end().await;
}
/// A log of numbered lines, written and rotated as a supervisor does it while its process runs: copied, then truncated.
struct Writer {
    folder: PathBuf,
    file: std::fs::File,
    lines: u64,
}

impl Writer {
    fn new(case: &Case, id: &str) -> Writer {
        let folder = case.root.join("p").join(id);
        std::fs::create_dir_all(&folder).unwrap();
        let file = std::fs::File::options().append(true).create(true).open(folder.join("log")).unwrap();
        Writer { folder, file, lines: 0 }
    }

    fn write(&mut self, lines: u64) {
        use std::io::Write as _;
        for _ in 0..lines {
            self.lines += 1;
            writeln!(self.file, "line {}", self.lines).unwrap();
        }
    }

    /// The file is named log at first, then log.1, log.2; the one after is dropped.
    fn rotate(&mut self) {
        let at = |name: &str| self.folder.join(name);
        if at("log.1").exists() {
            std::fs::rename(at("log.1"), at("log.2")).unwrap();
        }
        std::fs::copy(at("log"), at("log.new")).unwrap();
        std::fs::rename(at("log.new"), at("log.1")).unwrap();
        self.file.set_len(0).unwrap();
    }

    /// What the lines up to a number are.
    fn text(from: u64, to: u64) -> String {
        (from..=to).map(|number| format!("line {number}\n")).collect()
    }
}

async fn read_log(case: &mut Case, id: &str, from: From, follow: bool) -> Reading {
    Reading::open(&*case.link.sides(), &case.target.root, id, &from, follow).await.unwrap()
}

/// The next bytes of a log that is followed.
async fn more(reading: &mut Reading) -> Vec<u8> {
    tokio::time::timeout(PATIENCE, reading.next()).await.unwrap().unwrap().expect("it has no end").bytes
}

async fn a_log_is_read_from_its_beginning_or_its_last_lines(mut case: Case) {
    let mut writer = Writer::new(&case, "a");
    writer.write(20);
    writer.rotate();
    writer.write(20_000);
    writer.rotate();
    writer.write(5);
    for (from, first) in [
        (From::All, 1),
        (From::Last(0), 20_026),
        (From::Last(3), 20_023),
        (From::Last(5), 20_021),
        (From::Last(7), 20_019),
        (From::Last(20_007), 19),
        (From::Last(99_999), 1),
    ] {
        let mut reading = read_log(&mut case, "a", from, false).await;
        let mut read = Vec::new();
        while let Some(piece) = reading.next().await.unwrap() {
            read.extend(piece.bytes);
        }
        assert!(String::from_utf8(read).unwrap() == Writer::text(first, 20_025), "from line {first}");
    }
    // What is written meanwhile is not waited for.
    let mut reading = read_log(&mut case, "a", From::Last(2), false).await;
    writer.write(100_000);
    writer.rotate();
    writer.write(1);
    let mut read = Vec::new();
    while let Some(piece) = reading.next().await.unwrap() {
        read.extend(piece.bytes);
    }
    assert_eq!(String::from_utf8(read).unwrap(), Writer::text(20_024, 20_025));
    let mut nothing = read_log(&mut case, "never-started", From::Last(5), false).await;
    assert_eq!(nothing.next().await, Ok(None));
    drop(nothing);
    case.end().await;
}

async fn a_followed_log_is_read_exactly_once_over_rotations_and_breaks(mut case: Case) {
    let mut writer = Writer::new(&case, "a");
    writer.write(10);
    let mut reading = read_log(&mut case, "a", From::All, true).await;
    let mut read = Vec::new();
    for round in 0..12_u64 {
        // Read to the end, to somewhere, or not at all before the next thing happens.
        let wanted = Writer::text(1, writer.lines).len();
        while round % 3 == 0 && read.len() < wanted {
            read.extend(more(&mut reading).await);
        }
        if round % 3 == 1 {
            read.extend(more(&mut reading).await);
        }
        if round % 2 == 0 {
            writer.rotate();
        }
        if round % 4 == 3 {
            let at = reading.at().clone();
            drop(reading);
            writer.write(100 * round);
            writer.rotate();
            writer.write(100 * round);
            reading = read_log(&mut case, "a", From::At(at), true).await;
        }
        writer.write(1 + 50 * round);
    }
    let wanted = Writer::text(1, writer.lines);
    while read.len() < wanted.len() {
        read.extend(more(&mut reading).await);
    }
    assert!(String::from_utf8(read).unwrap() == wanted, "lines were lost, repeated or changed");
    drop(reading);
    case.end().await;
}

async fn a_log_that_is_emptied_by_hand_goes_on_from_its_new_beginning(mut case: Case) {
    let mut writer = Writer::new(&case, "a");
    writer.write(10);
    let mut reading = read_log(&mut case, "a", From::All, true).await;
    assert_eq!(more(&mut reading).await, Writer::text(1, 10).into_bytes());
    writer.file.set_len(0).unwrap();
    writer.write(1);
    assert_eq!(more(&mut reading).await, b"line 11\n");
    drop(reading);
    case.end().await;
}

async fn what_follows_a_log_ends_with_its_channel_and_with_its_process(mut case: Case) {
    let folder = Writer::new(&case, "a").folder;
    let reading = read_log(&mut case, "a", From::All, true).await;
    support::wait_for("the tail and its shell", || support::working_in(&folder).len() >= 2);
    drop(reading);
    support::wait_for("nothing of it to be left", || support::working_in(&folder).is_empty());

    case.batch(vec![start("b", sh("echo last words; exec sleep 1000"))]).await;
    case.wait_for_log("b", "last words\n");
    let mut reading = read_log(&mut case, "b", From::All, true).await;
    assert_eq!(more(&mut reading).await, b"last words\n");
    case.batch(vec![remove("b")]).await;
    assert_eq!(tokio::time::timeout(PATIENCE, reading.next()).await.unwrap(), Ok(None));
    drop(reading);
    case.end().await;
}

/// How many cases of a suite run at once: most of them wait.
const AT_ONCE: usize = 4;

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        async fn run(connector: Arc<dyn Connector>, target: Target) {
            let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
            let mut running = tokio::task::JoinSet::new();
            $(
                let (turn, to, node) = (Arc::clone(&turns).acquire_owned(), Arc::clone(&connector), target.clone());
                running.spawn(async move {
                    let _turn = turn.await.unwrap();
                    let directory = tempfile::tempdir().unwrap();
                    // The account that is logged in to need not be ours.
                    let to_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
                    std::fs::set_permissions(directory.path(), to_all).unwrap();
                    $case(Case::new(to, node, directory.path()).await).await;
                    eprintln!("{}", stringify!($case));
                });
            )*
            while let Some(done) = running.join_next().await {
                done.unwrap();
            }
        }
    };
}

suite!(
    a_started_process_leads_a_session_of_its_own,
    starting_what_runs_starts_nothing,
    a_killed_process_is_back_and_that_is_counted_and_told_unasked,
    a_stop_takes_the_whole_tree_even_what_made_its_own_session,
    what_ignores_the_signal_is_killed_after_the_grace,
    arguments_and_variables_arrive_byte_for_byte,
    half_a_batch_does_nothing,
    a_deposed_controller_is_refused,
    a_batch_of_an_older_conversation_is_refused,
    a_process_whose_supervisor_was_killed_is_seen_and_never_doubled,
    what_is_restarted_in_a_long_batch_is_told_as_running,
    a_change_right_after_its_process_was_told_of_at_the_end_of_a_batch_is_told,
    a_process_whose_supervisor_was_killed_is_adopted_and_runs_on,
    what_ended_before_it_was_adopted_is_started,
    after_a_reboot_what_ran_is_lost_and_can_be_started,
    health_is_told_when_it_changes_and_is_that_of_the_present_process,
    a_port_and_an_address_are_checked_with_what_the_node_has,
    a_log_is_kept_to_its_size_while_the_process_writes,
    what_a_process_that_ended_unseen_left_is_not_beside_the_next,
    processes_outlive_the_connection_and_are_found_again,
    a_program_that_is_not_there_is_tried_again_and_says_why,
    a_bundle_is_written_whole_and_told_of,
    an_artifact_arrives_whole_is_told_of_and_runs,
    an_artifact_is_removed_when_nothing_runs_from_it_and_not_before,
    what_arrives_damaged_is_refused_and_leaves_nothing,
    a_transfer_that_breaks_off_leaves_nothing_and_the_next_one_goes_through,
    a_deposed_controller_sends_nothing,
    a_side_channel_carries_bytes_both_ways_as_they_are,
    a_side_channel_that_is_stuck_delays_no_step,
    a_side_channel_ends_with_its_link,
    a_word_that_the_node_does_not_know_is_said_to_be_none,
    a_log_is_read_from_its_beginning_or_its_last_lines,
    a_followed_log_is_read_exactly_once_over_rotations_and_breaks,
    a_log_that_is_emptied_by_hand_goes_on_from_its_new_beginning,
    what_follows_a_log_ends_with_its_channel_and_with_its_process,
    what_is_under_a_lease_is_stopped_whole_when_nobody_renews_it_and_nothing_else_is,
    what_is_under_a_lease_runs_on_while_that_is_renewed,
    a_renewal_that_comes_late_renews_nothing,
    a_renewal_of_a_deposed_controller_is_refused,
    what_ends_after_its_lease_is_not_started_again,
    a_lease_ends_though_the_supervisor_was_killed,
    a_lease_ends_though_the_guard_or_the_keeper_was_killed,
    a_lease_of_before_a_reboot_is_none,
    a_lease_is_taken_and_given_back_while_the_process_runs,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_link_keeps_the_contract() {
    run(Arc::new(Local), local_target()).await;
}

fn ssh(state: &Path) -> Arc<dyn Connector> {
    Arc::new(Ssh::new(env!("CARGO_BIN_EXE_mainstay").into(), state).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_ssh_link_keeps_the_contract_by_key() {
    let sshd = Sshd::start();
    let state = tempfile::tempdir().unwrap();
    let target = Target { identity_file: Some(sshd.identity_file()), ..sshd.target() };
    run(ssh(state.path()), target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_ssh_link_keeps_the_contract_by_password_where_sh_is_bash() {
    let account = Account::new();
    let sshd = Sshd::start_as(NodeShell::Bash, "PubkeyAuthentication no\nUsePAM yes\n");
    let state = tempfile::tempdir().unwrap();
    run(ssh(state.path()), with_password(&sshd, &account)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_ssh_link_keeps_the_contract_by_keyboard_interactive_where_all_is_busybox() {
    let account = Account::new();
    // What PAM asks, word for word, is the server's: there is no password method to fall back to.
    let only_pam =
        "PubkeyAuthentication no\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\nUsePAM yes\n";
    let sshd = Sshd::start_as(NodeShell::Busybox, only_pam);
    let state = tempfile::tempdir().unwrap();
    run(ssh(state.path()), with_password(&sshd, &account)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_ssh_link_keeps_the_contract_through_a_jump_host_of_an_ssh_config() {
    let (jump, sshd) = (Sshd::start(), Sshd::start());
    let state = tempfile::tempdir().unwrap();
    let config = state.path().join("config");
    let hosts = [("behind", &sshd, "ProxyJump jump\n"), ("jump", &jump, "")].map(|(name, sshd, more)| {
        format!(
            "Host {name}\nHostName 127.0.0.1\nPort {}\nUser {}\nIdentityFile {}\nIdentitiesOnly yes\n\
             StrictHostKeyChecking accept-new\nUserKnownHostsFile {}/jump_hosts\n{more}",
            sshd.port(),
            user(),
            sshd.identity_file(),
            state.path().display(),
        )
    });
    std::fs::write(&config, hosts.concat()).unwrap();
    let target = Target {
        host: "behind".into(),
        port: None,
        username: String::new(),
        ssh_config: Some(config.display().to_string()),
        ..sshd.target()
    };
    run(ssh(state.path()), target).await;
}

fn with_password(sshd: &Sshd, account: &Account) -> Target {
    Target {
        username: account.name.clone(),
        password: Some(Clear::new(account.password.clone())),
        ..sshd.target()
    }
}

async fn refusal(state: &Path, target: &Target) -> &'static str {
    match ssh(state).connect(target).await {
        Ok(_) => "connected",
        Err(error) => error.name(),
    }
}

#[tokio::test]
async fn failures_to_connect_have_their_names() {
    let sshd = Sshd::start();
    let state = tempfile::tempdir().unwrap();
    let good = Target { identity_file: Some(sshd.identity_file()), ..sshd.target() };

    let stranger = sshd.stranger_identity();
    let wrong_key = Target { identity_file: Some(stranger), ..good.clone() };
    assert_eq!(refusal(state.path(), &wrong_key).await, "auth failed");

    let nobody_there = Target { port: Some(support::free_port()), ..good.clone() };
    assert_eq!(refusal(state.path(), &nobody_there).await, "unreachable");

    // A listener that never speaks.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let silence = Target { port: Some(port), connect_timeout: Duration::from_secs(2), ..good.clone() };
    assert_eq!(refusal(state.path(), &silence).await, "timed out");

    // Trusted on first use, then another machine answers under the node's name.
    assert_eq!(refusal(state.path(), &good).await, "connected");
    let other = Sshd::start();
    let replaced = Target { port: other.target().port, ..good.clone() };
    assert_eq!(refusal(state.path(), &replaced).await, "host key changed");

    // A pinned key is the only one that will do.
    let pinned = Target { host_key: Some(other.host_key()), ..good.clone() };
    assert_eq!(refusal(state.path(), &pinned).await, "host key changed");
    let pinned = Target { host_key: Some(sshd.host_key()), ..good };
    assert_eq!(refusal(state.path(), &pinned).await, "connected");
}

#[tokio::test]
async fn a_node_that_grants_no_more_channels_is_busy_until_one_ends() {
    let sshd = Sshd::start_with("PasswordAuthentication no\nMaxSessions 3\n");
    let (state, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = Target { identity_file: Some(sshd.identity_file()), ..sshd.target() };
    let mut case = Case::new(ssh(state.path()), target, directory.path()).await;
    let (first, _second) = (echo(&mut case).await, echo(&mut case).await);
    let refused = case.link.sides().open(&["echo"]).await.unwrap_err();
    assert_eq!(refused.name(), "busy");
    assert!(refused.to_string().contains("MaxSessions"), "{refused}");
    // The conversation and what is open go on.
    case.look().await;
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    while case.link.sides().open(&["echo"]).await.is_err() {
        assert!(Instant::now() < deadline, "an ended channel keeps its place");
    }
    case.end().await;
}

/// Not for every link, for not every node sees what is mounted here.
#[tokio::test]
async fn a_full_disk_is_named_and_leaves_nothing() {
    let (sshd, state) = (Sshd::start(), tempfile::tempdir().unwrap());
    let target = Target { identity_file: Some(sshd.identity_file()), ..sshd.target() };
    let links: [(Arc<dyn Connector>, Target); 2] =
        [(Arc::new(Local), local_target()), (ssh(state.path()), target)];
    for (connector, target) in links {
        let directory = tempfile::tempdir().unwrap();
        a_full_disk_ends_a_transfer_by_its_name(Case::new(connector, target, directory.path()).await).await;
    }
}

#[tokio::test]
async fn a_lease_is_renewed_on_a_full_disk() {
    assert!(rustix::process::getuid().is_root(), "a small disk is mounted; run the tests as root");
    let (sshd, state) = (Sshd::start(), tempfile::tempdir().unwrap());
    let target = Target { identity_file: Some(sshd.identity_file()), ..sshd.target() };
    let links: [(Arc<dyn Connector>, Target); 2] =
        [(Arc::new(Local), local_target()), (ssh(state.path()), target)];
    for (connector, target) in links {
        let directory = tempfile::tempdir().unwrap();
        let disk = support::SmallDisk::mount(directory.path(), "1m");
        a_full_disk_keeps_no_lease_from_being_renewed(
            Case::new(connector, target, directory.path()).await,
            &disk,
        )
        .await;
    }
}

#[tokio::test]
async fn what_a_login_shell_says_first_is_survived() {
    let sshd = Sshd::start();
    // bash reads it for what sshd runs; other shells have no such file.
    let rc =
        "echo MAINSTAY hello; echo Welcome\ncase $BASH_EXECUTION_STRING in *side*) printf 'no end';; esac\n";
    std::fs::write(sshd.home().join(".bashrc"), rc).unwrap();
    let state = tempfile::tempdir().unwrap();
    let target = Target { identity_file: Some(sshd.identity_file()), ..sshd.target() };
    let connector = ssh(state.path());
    let link = connector.connect(&target).await.unwrap();
    let mut side = link.sides().open(&["echo"]).await.unwrap();
    side.writer.as_mut().unwrap().write_all(b"heard\n").await.unwrap();
    assert_eq!(side.line().await.unwrap(), "heard");
    link.close().await;
}
