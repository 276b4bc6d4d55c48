//! The contract of a link, the same for every way to reach a node: real shells, real processes.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::model::kinds::{Signal, StopSpec};
use mainstay::model::secret::Clear;
use mainstay::node::link::{Connector, Link, Target};
use mainstay::node::local::Local;
use mainstay::node::protocol::{self, Line, ProcessLine, Verdict};
use mainstay::node::ssh::Ssh;
use mainstay::plan::step::{Action, Care, Reason, Start, Step};
use mainstay::plan::world::Phase;
use tokio::io::AsyncWriteExt;

#[path = "link_contract/artifacts.rs"]
mod artifacts;
#[path = "link_contract/batches.rs"]
mod batches;
#[path = "link_contract/care.rs"]
mod care;
#[path = "link_contract/leases.rs"]
mod leases;
#[path = "link_contract/logs.rs"]
mod logs;
#[path = "link_contract/processes.rs"]
mod processes;
#[path = "link_contract/sides.rs"]
mod sides;
mod support;
use artifacts::*;
use batches::*;
use care::*;
use leases::*;
use logs::*;
use processes::*;
use sides::*;
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
