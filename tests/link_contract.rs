//! The contract of a link, the same for every way to reach a node: real shells, real processes.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::model::kinds::{LogSpec, Signal, StopSpec};
use mainstay::model::secret::Clear;
use mainstay::node::link::{Connector, Link, Target};
use mainstay::node::local::Local;
use mainstay::node::protocol::{self, Line, ProcessLine, Verdict};
use mainstay::node::ssh::Ssh;
use mainstay::plan::step::{Action, Care, Check, Probe, Reason, Start, Step};
use mainstay::plan::world::{Health, Phase};

mod support;
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
}

impl Case {
    async fn new(connector: Arc<dyn Connector>, mut target: Target, directory: &Path) -> Case {
        let root = directory.join("node");
        target.root = root.display().to_string();
        let link = connector.connect(&target).await.unwrap();
        let mut case = Case { connector, target, link, root, revision: 0, processes: BTreeMap::new() };
        case.open(1).await;
        case
    }

    async fn open(&mut self, epoch: u64) {
        self.processes.clear();
        self.link.send(&protocol::open(&self.target.root, epoch, self.revision)).await.unwrap();
        self.until("opened", |line, _| *line == Line::Opened).await;
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
        self.until("looked", |line, _| *line == Line::Looked(7)).await;
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
    Action::Start { id: id.into(), start }
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
    while other.next().await.unwrap() != Line::Opened {}
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
    let again = Action::Restart { id: "a".into(), start: sh("echo again; exec sleep 1000") };
    case.batch(vec![again]).await;
    let second = case.phase("a", Phase::Running).await;
    assert_ne!(second.pid, first.pid);
    assert!(!support::is_alive(first.pid.unwrap()));
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
    case.batch(vec![Action::Adopt { id: "a".into(), start: with_other_care }]).await;
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
    case.batch(vec![Action::Adopt { id: "a".into(), start: sh("echo up; exec sleep 1000") }]).await;
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
    case.batch(vec![Action::Adopt { id: "a".into(), start: command(&["sleep", "1000"]) }]).await;
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
    support::kill(support::parent(first));
    support::kill(first);
    support::wait_for("its end", || !support::is_alive(first));
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

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        async fn run(connector: Arc<dyn Connector>, target: Target) {
            $(
                eprintln!("{}", stringify!($case));
                let directory = tempfile::tempdir().unwrap();
                // The account that is logged in to need not be ours.
                let to_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
                std::fs::set_permissions(directory.path(), to_all).unwrap();
                $case(Case::new(Arc::clone(&connector), target.clone(), directory.path()).await).await;
            )*
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
);

#[tokio::test]
async fn the_local_link_keeps_the_contract() {
    run(Arc::new(Local), local_target()).await;
}

fn ssh(state: &Path) -> Arc<dyn Connector> {
    Arc::new(Ssh::new(env!("CARGO_BIN_EXE_mainstay").into(), state).unwrap())
}

#[tokio::test]
async fn the_ssh_link_keeps_the_contract_by_key() {
    let sshd = Sshd::start();
    let state = tempfile::tempdir().unwrap();
    let target = Target { identity_file: Some(sshd.identity_file()), ..sshd.target() };
    run(ssh(state.path()), target).await;
}

#[tokio::test]
async fn the_ssh_link_keeps_the_contract_by_password_where_sh_is_bash() {
    let account = Account::new();
    let sshd = Sshd::start_as(NodeShell::Bash, "PubkeyAuthentication no\nUsePAM yes\n");
    let state = tempfile::tempdir().unwrap();
    run(ssh(state.path()), with_password(&sshd, &account)).await;
}

#[tokio::test]
async fn the_ssh_link_keeps_the_contract_by_keyboard_interactive_where_all_is_busybox() {
    let account = Account::new();
    // What PAM asks, word for word, is the server's: there is no password method to fall back to.
    let only_pam =
        "PubkeyAuthentication no\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\nUsePAM yes\n";
    let sshd = Sshd::start_as(NodeShell::Busybox, only_pam);
    let state = tempfile::tempdir().unwrap();
    run(ssh(state.path()), with_password(&sshd, &account)).await;
}

#[tokio::test]
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
