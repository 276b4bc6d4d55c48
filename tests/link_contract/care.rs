//! What is done for a process while it runs: it is supervised, its health checked and its log kept to its size.

use std::collections::BTreeMap;
use std::path::Path;

use mainstay::model::kinds::LogSpec;
use mainstay::node::protocol::ProcessLine;
use mainstay::plan::step::{Action, Care, Check, Probe, Start};
use mainstay::plan::world::{Health, Phase};

use super::{Case, command, sh, start, support};

pub(super) async fn a_process_whose_supervisor_was_killed_is_adopted_and_runs_on(mut case: Case) {
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

pub(super) async fn what_ended_before_it_was_adopted_is_started(mut case: Case) {
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

pub(super) async fn health_is_told_when_it_changes_and_is_that_of_the_present_process(mut case: Case) {
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

pub(super) async fn a_port_and_an_address_are_checked_with_what_the_node_has(mut case: Case) {
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

pub(super) async fn a_log_is_kept_to_its_size_while_the_process_writes(mut case: Case) {
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
