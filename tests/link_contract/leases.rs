//! What runs under a lease: its node stops it when nobody renews that, whoever of the node's helpers is killed.

use std::time::{Duration, Instant};

use mainstay::node::protocol::{self, Line, Verdict};
use mainstay::plan::step::{Action, Reason, Start, Step};
use mainstay::plan::world::Phase;
use rustix::process::Signal;

use super::{Case, PATIENCE, command, sh, start, stop, support};

/// Hundredths of a second.
const SECOND: u64 = 100;

/// The same, under a lease.
fn under(seconds: u32, mut start: Start) -> Start {
    start.care.lease = Some(seconds);
    start.care.hash = format!("under{seconds}");
    start
}

impl Case {
    /// Renews as the one who has last spoken, from when the node last said how long it has been up.
    async fn renew(&mut self) {
        self.renew_by(self.uptime).await;
    }

    async fn renew_by(&mut self, uptime: u64) {
        self.link.send(&protocol::lease(1, self.revision, uptime)).await.unwrap();
        self.until("the uptime", |line, _| matches!(line, Line::Uptime(_))).await;
    }

    /// Starts them with a lease that was renewed just now.
    async fn begin(&mut self, starts: Vec<Action>) {
        self.renew().await;
        self.renew().await;
        self.batch(starts).await;
    }

    /// Renews for so long.
    async fn renew_for(&mut self, time: u64) {
        let until = self.uptime + time;
        while self.uptime < until {
            // Not for luck: so often a controller renews at most.
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.renew().await;
        }
    }

    /// Renews until something is so: a lease that is to end later must not end meanwhile. It has just been renewed then.
    async fn renew_until(&mut self, what: &str, done: impl Fn(&Case) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Twice, for what is renewed is what was said before.
            self.renew().await;
            self.renew().await;
            if done(self) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}; seen {:#?}", self.processes);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Renews until a process runs; its pid.
    async fn running(&mut self, id: &str) -> u32 {
        let pid = |case: &Case| {
            case.processes.get(id).filter(|it| it.phase == Phase::Running).and_then(|it| it.pid)
        };
        self.renew_until("it to run", |case| pid(case).is_some()).await;
        pid(self).unwrap()
    }

    /// Waits until a process is stopped, and who has stopped it is gone.
    async fn stopped(&mut self, id: &str) {
        self.phase(id, Phase::Stopped).await;
        let record = std::fs::read_to_string(self.root.join("p").join(id).join("rec")).unwrap();
        let words: Vec<&str> = record.split(' ').collect();
        assert_eq!(words[1], "stopped");
        let who = words[3].parse().unwrap();
        support::wait_for("its end", || !support::is_alive(who));
    }

    /// From when the node's leases last.
    fn renewed(&self) -> u64 {
        let text = std::fs::read_to_string(self.root.join("lease")).unwrap();
        text.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The pid of the node's keeper or guard.
    fn helper(&self, name: &str) -> Option<u32> {
        let text = std::fs::read_to_string(self.root.join(name)).ok()?;
        let pid = text.split(' ').next()?.parse().ok()?;
        support::is_alive(pid).then_some(pid)
    }

    /// All that a process has started, and itself.
    fn tree(&self, id: &str) -> Vec<u32> {
        support::carrying(&format!("MAINSTAY_TAG={}/p/{id}/.", self.root.display()))
    }

    /// What the node says to a start that it refuses.
    async fn refusal(&mut self, start_it: Action) -> String {
        self.revision += 1;
        let steps = [Step { action: start_it, reason: Reason::Absent }];
        self.link.send(&protocol::batch(1, self.revision, &steps)).await.unwrap();
        let line = self.until("the refusal", |line, _| matches!(line, Line::StepFailed { .. })).await;
        self.until("the trailer", |line, _| matches!(line, Line::Done { verdict: Verdict::Done, .. })).await;
        let Line::StepFailed { message, .. } = line else { unreachable!() };
        message
    }
}

const OVER: &str = "its lease was over when this came";

pub(super) async fn what_is_under_a_lease_is_stopped_whole_when_nobody_renews_it_and_nothing_else_is(
    mut case: Case,
) {
    let script = "sleep 1001 & setsid sleep 1002 & (setsid setsid sh -c 'sleep 1003 & sleep 1004' &) ; exec sleep 1000";
    let mut whole = under(3, sh(script));
    // What made a session of its own hears of no signal, so it is killed after that.
    whole.stop.grace_seconds = 1;
    case.begin(vec![start("a", whole.clone()), start("b", command(&["sleep", "1000"]))]).await;
    case.renew_until("both to run", |case| {
        case.processes.len() == 2 && case.processes.values().all(|it| it.pid.is_some())
    })
    .await;
    assert_eq!((case.processes["a"].lease, case.processes["b"].lease), (Some(3), None));
    let (renewed, other) = (case.renewed(), case.processes["b"].pid);
    case.stopped("a").await;
    assert_eq!(case.tree("a"), [0; 0]);
    case.renew_by(0).await;
    assert!(case.uptime >= renewed + 3 * SECOND, "it was stopped before its lease was over");
    // It stays so, and what has no lease is not touched.
    case.look().await;
    assert_eq!(case.processes["a"].phase, Phase::Stopped);
    assert_eq!((case.processes["b"].phase, case.processes["b"].pid), (Phase::Running, other));
    let again = start("a", whole);
    assert_eq!(case.refusal(again.clone()).await, OVER);
    case.begin(vec![again]).await;
    case.phase("a", Phase::Running).await;
    case.end().await;
}

pub(super) async fn what_is_under_a_lease_runs_on_while_that_is_renewed(mut case: Case) {
    case.begin(vec![start("a", under(3, command(&["sleep", "1000"])))]).await;
    let pid = case.running("a").await;
    case.renew_for(7 * SECOND).await;
    case.look().await;
    assert_eq!((case.processes["a"].phase, case.processes["a"].pid), (Phase::Running, Some(pid)));
    // A crash meanwhile is one like any other.
    support::kill(pid);
    case.renew_until("a restart", |case| {
        case.processes["a"].restarts == 1 && case.processes["a"].phase == Phase::Running
    })
    .await;
    case.stopped("a").await;
    case.end().await;
}

pub(super) async fn a_renewal_that_comes_late_renews_nothing(mut case: Case) {
    let said = case.uptime;
    case.renew_for(SECOND).await;
    let renewed = case.renewed();
    // An older one than the last; one of a time that the node can't have said.
    for other in [said, renewed - 1, renewed + 1000 * SECOND] {
        case.renew_by(other).await;
        assert_eq!(case.renewed(), renewed);
    }
    case.begin(vec![start("a", under(3, command(&["sleep", "1000"])))]).await;
    let said = case.renewed();
    case.stopped("a").await;
    // One that waited in a pipe until now.
    case.renew_by(said).await;
    assert_eq!(case.refusal(start("a", under(3, command(&["sleep", "1000"])))).await, OVER);
    let restart = Action::Restart { id: "a".into(), start: under(3, command(&["sleep", "1000"])).into() };
    assert_eq!(case.refusal(restart).await, OVER);
    // Another's lease is not over: how long one lasts is each one's own.
    case.batch(vec![start("b", under(1000, command(&["sleep", "1000"])))]).await;
    case.phase("b", Phase::Running).await;
    case.end().await;
}

pub(super) async fn a_renewal_of_a_deposed_controller_is_refused(mut case: Case) {
    case.renew().await;
    // Until it would make a difference, for the node counts in hundredths of a second.
    while case.uptime == case.renewed() {
        case.renew_by(0).await;
    }
    case.batch_as(5, 3, vec![]).await;
    let renewed = case.renewed();
    for (epoch, revision) in [(4, 9), (5, 2)] {
        case.link.send(&protocol::lease(epoch, revision, case.uptime)).await.unwrap();
        case.until("the refusal", |line, _| *line == Line::Fenced(5)).await;
        assert_eq!(case.renewed(), renewed);
    }
    case.link.send(&protocol::lease(5, 3, case.uptime)).await.unwrap();
    case.until("the uptime", |line, _| matches!(line, Line::Uptime(_))).await;
    assert!(case.renewed() > renewed);
    case.link.close().await;
}

pub(super) async fn what_ends_after_its_lease_is_not_started_again(mut case: Case) {
    case.begin(vec![start("a", under(3, sh("echo up; exec sleep 1000")))]).await;
    let pid = case.running("a").await;
    case.renew_until("its word", |case| case.log("a") == "up\n").await;
    // Neither of the two that look after leases can.
    case.renew_until("both helpers", |case| ["guard", "keeper"].iter().all(|it| case.helper(it).is_some()))
        .await;
    let helpers = ["guard", "keeper"].map(|name| case.helper(name).unwrap());
    helpers.iter().for_each(|pid| support::signal(*pid, Signal::STOP));
    let over = case.renewed() + 3 * SECOND;
    while case.uptime <= over {
        tokio::time::sleep(Duration::from_millis(100)).await;
        case.renew_by(0).await;
    }
    assert!(support::is_alive(pid));
    support::kill(pid);
    case.stopped("a").await;
    assert_eq!(case.log("a"), "up\n");
    helpers.iter().for_each(|pid| support::signal(*pid, Signal::CONT));
    case.end().await;
}

pub(super) async fn a_lease_ends_though_the_supervisor_was_killed(mut case: Case) {
    case.begin(vec![start("a", under(3, sh("(setsid sleep 1001 &); exec sleep 1000")))]).await;
    let pid = case.running("a").await;
    let supervisor = support::parent(pid);
    support::kill(supervisor);
    case.renew_until("its end", |_| !support::is_alive(supervisor)).await;
    case.look().await;
    assert_eq!(case.processes["a"].phase, Phase::Unsupervised);
    case.stopped("a").await;
    assert_eq!(case.tree("a"), [0; 0]);
    case.end().await;
}

pub(super) async fn a_lease_ends_though_the_guard_or_the_keeper_was_killed(mut case: Case) {
    for name in ["guard", "keeper"] {
        case.begin(vec![start("a", under(3, command(&["sleep", "1000"])))]).await;
        case.running("a").await;
        case.renew_until(name, |case| case.helper(name).is_some()).await;
        support::kill(case.helper(name).unwrap());
        case.stopped("a").await;
    }
    // Each of them has the other back.
    case.begin(vec![start("a", under(1000, command(&["sleep", "1000"])))]).await;
    for name in ["guard", "keeper"] {
        support::wait_for(name, || case.helper(name).is_some());
        support::kill(case.helper(name).unwrap());
        support::wait_for(name, || case.helper(name).is_some());
    }
    case.end().await;
}

pub(super) async fn a_lease_of_before_a_reboot_is_none(mut case: Case) {
    case.renew().await;
    case.renew().await;
    let file = case.root.join("lease");
    let text = std::fs::read_to_string(&file).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    assert_ne!(other, text);
    std::fs::write(&file, other).unwrap();
    let start_it = start("a", under(1000, command(&["sleep", "1000"])));
    assert_eq!(case.refusal(start_it.clone()).await, OVER);
    case.begin(vec![start_it]).await;
    case.phase("a", Phase::Running).await;
    case.end().await;
}

pub(super) async fn a_lease_is_taken_and_given_back_while_the_process_runs(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    let pid = case.phase("a", Phase::Running).await.pid;
    let adopt = |start: Start| Action::Adopt { id: "a".into(), start: start.into() };
    // Long enough to be given back in time on a machine that is busy.
    case.begin(vec![adopt(under(15, command(&["sleep", "1000"])))]).await;
    case.until_or_now("a lease", |all| all["a"].lease == Some(15)).await;
    case.batch(vec![adopt(command(&["sleep", "1000"]))]).await;
    case.until_or_now("none", |all| all["a"].lease.is_none()).await;
    let over = case.renewed() + 17 * SECOND;
    while case.uptime <= over {
        tokio::time::sleep(Duration::from_millis(200)).await;
        case.renew_by(0).await;
    }
    case.look().await;
    assert_eq!((case.processes["a"].phase, case.processes["a"].pid), (Phase::Running, pid));
    // One that is taken when it is over already ends it.
    case.batch(vec![adopt(under(1, command(&["sleep", "1000"])))]).await;
    case.stopped("a").await;
    case.batch(vec![stop("a", 0)]).await;
    case.end().await;
}

pub(super) async fn a_full_disk_keeps_no_lease_from_being_renewed(mut case: Case, disk: &support::SmallDisk) {
    case.begin(vec![start("a", under(3, command(&["sleep", "1000"])))]).await;
    let pid = case.running("a").await;
    disk.fill();
    let before = case.renewed();
    case.renew_for(5 * SECOND).await;
    assert!(case.renewed() > before);
    assert!(support::is_alive(pid));
    disk.free();
    case.end().await;
}
