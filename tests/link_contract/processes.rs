//! What is started, how it ends, and that it is there once, whatever happened to who looks after it.

use std::collections::BTreeMap;

use mainstay::plan::step::Action;
use mainstay::plan::world::Phase;

use super::{Case, command, sh, start, stop, support};

pub(super) async fn a_started_process_leads_a_session_of_its_own(mut case: Case) {
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

pub(super) async fn starting_what_runs_starts_nothing(mut case: Case) {
    case.batch(vec![start("a", sh("echo up; exec sleep 1000"))]).await;
    let first = case.phase("a", Phase::Running).await;
    case.wait_for_log("a", "up\n");
    case.batch(vec![start("a", sh("echo up; exec sleep 1000"))]).await;
    case.look().await;
    assert_eq!(case.processes["a"].pid, first.pid);
    assert_eq!(case.log("a"), "up\n");
    case.end().await;
}

pub(super) async fn a_killed_process_is_back_and_that_is_counted_and_told_unasked(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    let first = case.phase("a", Phase::Running).await;
    support::kill(first.pid.unwrap());
    case.until("a restart", |_, all| all["a"].restarts == 1 && all["a"].phase == Phase::Running).await;
    let second = case.processes["a"].clone();
    assert_ne!(second.pid, first.pid);
    assert_eq!(second.exit, Some(137));
    case.end().await;
}

pub(super) async fn a_stop_takes_the_whole_tree_even_what_made_its_own_session(mut case: Case) {
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

pub(super) async fn what_ignores_the_signal_is_killed_after_the_grace(mut case: Case) {
    case.batch(vec![start("a", sh("trap '' TERM; echo up; while :; do sleep 0.1; done"))]).await;
    case.phase("a", Phase::Running).await;
    case.wait_for_log("a", "up\n");
    case.batch(vec![stop("a", 1)]).await;
    assert_eq!(case.processes["a"].phase, Phase::Stopping);
    case.phase("a", Phase::Stopped).await;
    case.end().await;
}

pub(super) async fn arguments_and_variables_arrive_byte_for_byte(mut case: Case) {
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

pub(super) async fn processes_outlive_the_connection_and_are_found_again(mut case: Case) {
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

pub(super) async fn a_program_that_is_not_there_is_tried_again_and_says_why(mut case: Case) {
    case.batch(vec![start("a", command(&["/no/such/program"]))]).await;
    case.until("a second try", |_, all| all["a"].restarts >= 2).await;
    assert_eq!(case.processes["a"].exit, Some(127));
    assert!(case.log("a").contains("/no/such/program"));
    case.end().await;
}

pub(super) async fn a_process_whose_supervisor_was_killed_is_seen_and_never_doubled(mut case: Case) {
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

pub(super) async fn after_a_reboot_what_ran_is_lost_and_can_be_started(mut case: Case) {
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

pub(super) async fn what_a_process_that_ended_unseen_left_is_not_beside_the_next(mut case: Case) {
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
