//! The simulator: the real placement, plan and loops in a world that is simulated and goes wrong, seed after seed.
//!
//! How to run it, to run one seed again, and to make it do more: `tests/sim/README.md`.

#[path = "store_contract/cases.rs"]
mod cases;
#[path = "sim/checks.rs"]
mod checks;
#[path = "store_contract/history.rs"]
mod history;
#[path = "sim/limits.rs"]
mod limits;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/node.rs"]
mod node;
#[path = "sim/people.rs"]
mod people;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/server.rs"]
mod server;
#[path = "sim/store.rs"]
mod store;
#[path = "store_contract/tools.rs"]
#[allow(dead_code, reason = "the suite's own tests use the rest")]
mod tools;
#[path = "sim/words.rs"]
mod words;
#[path = "sim/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use net::Outage;
use run::{Course, Fault, Report, Script, run};
use world::{CrashAt, Strike};

/// How many seeds are run when nobody says how many.
const SEEDS: u64 = 1000;

/// How long a seed may take, in real time, before it is taken for endless: some thousand times what it takes.
const ENDLESS: Duration = Duration::from_secs(60);

/// How much of a trace is shown.
const SHOWN: usize = 400;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Runs a world. One that has stopped time and goes on for ever is told of all the same, which ends the tests.
fn bounded(seed: u64, script: Script, is_loud: bool) -> Report {
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if end.recv_timeout(ENDLESS) == Err(mpsc::RecvTimeoutError::Timeout) {
            let what = "something is done over and over while no time passes";
            // Not by eprintln: what that says is kept back from who aborts.
            let said = writeln!(std::io::stderr(), "seed {seed}, {script:?} does not end: {what}");
            said.expect("there is a stderr");
            std::process::abort();
        }
    });
    let report = run(seed, script, is_loud);
    drop(ended);
    watchdog.join().expect("it only waits");
    report
}

/// What to print of a run that failed, and how to run it again.
fn failure(report: &Report, test: &str, replay: &str) -> Option<String> {
    let violation = report.violation.as_ref()?;
    let skipped = report.trace.len().saturating_sub(SHOWN);
    let trace = report.trace[skipped..].join("\n");
    Some(format!(
        "{violation}\n\n{trace}\n\n{violation}\nagain: {replay}cargo test --test sim -- {test} --exact --nocapture"
    ))
}

/// Does something with each number, on as many threads as there are processors. What is answered is that of the lowest number that
/// answers anything, so it does not depend on how many threads there are; with `is_all`, of each.
fn each<T: Send>(
    numbers: Range<u64>,
    is_all: bool,
    run: impl Fn(u64) -> Option<T> + Sync,
) -> BTreeMap<u64, T> {
    let (next, end) = (AtomicU64::new(numbers.start), AtomicU64::new(numbers.end));
    let found = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end.load(Ordering::Relaxed) {
                return;
            }
            if let Some(failure) = run(number) {
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(number, failure);
                if !is_all {
                    end.fetch_min(number, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn seeds() {
    let seeds = match number("MAINSTAY_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("MAINSTAY_SIM_FIRST").unwrap_or(1);
            first..first + number("MAINSTAY_SIM_SEEDS").unwrap_or(SEEDS)
        }
    };
    let is_loud = number("MAINSTAY_SIM_SEED").is_some();
    let is_all = number("MAINSTAY_SIM_ALL").is_some();
    let failures = each(seeds, is_all, |seed| {
        let report = bounded(seed, Script::Random, is_loud);
        failure(&report, "seeds", &format!("MAINSTAY_SIM_SEED={seed} "))
    });
    if is_all {
        let firsts = failures.iter().map(|(seed, why)| (seed, why.lines().next().unwrap_or_default()));
        firsts.for_each(|(seed, why)| println!("seed {seed}: {why}"));
    }
    if let Some((seed, failure)) = failures.first_key_value() {
        panic!("seed {seed}: {failure}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..=20 {
        let (first, second) =
            (run(seed, Script::Random, false).trace, run(seed, Script::Random, false).trace);
        let differs = first.iter().zip(&second).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed}, line {at}: {} is {} the second time", first[at], second[at]);
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

#[test]
fn a_server_may_crash_before_and_after_each_thing_that_it_does() {
    for servers in 1..=2 {
        let smooth = bounded(0, Script::Crash { servers, at: None }, false);
        if let Some(failure) =
            failure(&smooth, "a_server_may_crash_before_and_after_each_thing_that_it_does", "")
        {
            panic!("{failure}");
        }
        for effect in 1..=smooth.effects {
            for after in [false, true] {
                let at = Some(CrashAt { effect, after });
                let report = bounded(0, Script::Crash { servers, at }, false);
                let test = "a_server_may_crash_before_and_after_each_thing_that_it_does";
                if let Some(failure) = failure(&report, test, "") {
                    panic!("{servers} servers, {at:?}: {failure}");
                }
            }
        }
    }
}

#[test]
fn one_fault_of_each_kind_may_come_at_each_step() {
    for kind in Fault::ALL {
        for step in 0..5 {
            let report = bounded(u64::from(step), Script::Fault { kind, step }, false);
            if let Some(failure) = failure(&report, "one_fault_of_each_kind_may_come_at_each_step", "") {
                panic!("{kind:?} at step {step}: {failure}");
            }
        }
    }
}

/// Each change of both small worlds: with each choice made otherwise, and with each kind of fault after what happens. How deep, and what is
/// left out: `tests/sim/README.md`.
#[test]
fn whatever_order_things_come_in_and_whatever_fault_befalls_them_it_ends_as_declared() {
    let depth = number("MAINSTAY_SIM_DEPTH").unwrap_or(0);
    let mut changes = Vec::new();
    for is_guarded in [false, true] {
        for step in 0..5 {
            changes.push(Course { is_guarded, step, others: [None; 2], strike: None });
        }
    }
    let explore = |course: Course| {
        let report = bounded(0, Script::Explore(course), false);
        let why = report.violation.as_ref().map(|_| {
            let test = "whatever_order_things_come_in_and_whatever_fault_befalls_them_it_ends_as_declared";
            format!("{course:?}: {}", failure(&report, test, "").expect("it failed"))
        });
        (report, why)
    };
    let mut courses = changes.clone();
    for course in changes {
        let (quickest, _) = explore(course);
        let strikes = strikes(&course, quickest.events, depth);
        courses.extend(strikes.iter().map(|strike| Course { strike: Some(*strike), ..course }));
        for point in 0..quickest.points {
            let course = Course { others: [Some(point), None], ..course };
            courses.push(course);
            if depth < 2 {
                continue;
            }
            let (slower, _) = explore(course);
            let later = (point + 1..slower.points).map(|next| [Some(point), Some(next)]);
            courses.extend(later.map(|others| Course { others, ..course }));
            courses.extend(strikes.iter().map(|strike| Course { strike: Some(*strike), ..course }));
        }
    }
    let count = courses.len() as u64;
    println!("{count} runs");
    let failures = each(0..count, false, |at| explore(courses[at as usize]).1);
    if let Some((_, failure)) = failures.first_key_value() {
        panic!("{failure}");
    }
}

/// Each kind of fault, for a moment and for long, after each of so many things; without depth after every eleventh, another one for each kind.
fn strikes(course: &Course, events: u64, depth: u64) -> Vec<Strike> {
    let every = if depth > 0 { 1 } else { 11 };
    let mut strikes = Vec::new();
    for (number, kind) in (0..).zip(Fault::ALL) {
        for is_hard in [false, true] {
            let first = (number + u64::from(course.step) + 3 * u64::from(is_hard)) % every;
            let at = (first..events).step_by(usize::try_from(every).expect("it is small"));
            strikes.extend(at.map(|at| Strike { kind, at, is_hard }));
        }
    }
    strikes
}

#[test]
fn a_machine_that_is_stuck_delays_no_other() {
    let free = bounded(0, Script::Stuck(None), false).took;
    for outage in [Outage::Refused, Outage::Silent, Outage::Deaf, Outage::Mute, Outage::AuthFailed] {
        let report = bounded(0, Script::Stuck(Some(outage)), false);
        if let Some(failure) = failure(&report, "a_machine_that_is_stuck_delays_no_other", "") {
            panic!("{outage:?}: {failure}");
        }
        // Simulated time; what a round trip draws differs.
        let took = report.took;
        assert!(took < free + 1_000, "ISO: {outage:?}: {took} ms instead of {free} ms");
    }
}

/// What is simulated keeps the contract that both engines keep; leases' own cases measure real time.
#[test]
fn the_simulated_store_keeps_the_contract() {
    for (name, case) in cases::CASES.iter().chain(history::CASES) {
        println!("{name}");
        run::on_a_store(*case);
    }
}

/// Seeds that failed once, and what they have found. Each is run whatever the number of seeds.
const FOUND: &[(u64, &str)] = &[
    (17, "a look that was due while a batch was in flight made the node's task run in circles"),
    (149, "a placement that the store did not take was tried again only when something rang"),
    (167, "a new leader whose watch lagged undid what the one before had done"),
    (14, "a rollout was never judged, for a process went on ending with the revision before"),
    (174, "a rollout was judged by the clock of another leader, an hour ahead"),
    (337, "what ran from a revision without a health check was waited for to be healthy for ever"),
    (
        2559,
        "what was fenced and given up was started again by documents of before, beside the one in its place",
    ),
    (1858, "what ran unsupervised and could not be started as it was, was never updated"),
];

#[test]
fn seeds_that_have_found_something_find_nothing_any_more() {
    for (seed, what) in FOUND {
        let replay = format!("MAINSTAY_SIM_SEED={seed} ");
        if let Some(failure) = failure(&bounded(*seed, Script::Random, false), "seeds", &replay) {
            panic!("{what}: {failure}");
        }
    }
}
