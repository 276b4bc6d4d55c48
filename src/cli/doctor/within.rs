//! From within: what the machine itself said it can do.

use std::time::{SystemTime, UNIX_EPOCH};

use super::report::Report;
use crate::node::visit::Answers;

/// Without these no process is looked after, and which package has each.
const NEEDED: [(&str, &str); 12] = [
    ("setsid", "util-linux"),
    ("flock", "util-linux"),
    ("tail", "coreutils"),
    ("head", "coreutils"),
    ("grep", "grep"),
    ("sleep", "coreutils"),
    ("wc", "coreutils"),
    ("mkdir", "coreutils"),
    ("mv", "coreutils"),
    ("rm", "coreutils"),
    ("cp", "coreutils"),
    ("tr", "coreutils"),
];

/// Without these it can do less: what, and which package has each.
const USEFUL: [(&str, &str, &str); 6] = [
    ("sha256sum", "no artifact can be sent there", "coreutils"),
    ("tar", "no artifact can be sent there", "tar"),
    ("mkfifo", "no artifact can be sent there", "coreutils"),
    ("tee", "no artifact can be sent there", "coreutils"),
    ("stat", "no log can be read there", "coreutils"),
    ("dd", "no log can be read there", "coreutils"),
];

/// Each of these has a line of its own when it is there; of the others only what is missing is told.
const TOLD: [&str; 7] = ["flock", "tail", "setsid", "sha256sum", "tar", "mkfifo", "tee"];

/// Seconds that two clocks may differ by before that is told.
const MAX_CLOCK_DIFFERENCE: u64 = 5;

/// KiB below which nothing is kept any more, and below which that will be so soon.
const FULL_KIB: u64 = 64;
const LOW_KIB: u64 = 100 * 1024;

/// Goes through what the machine said.
pub(super) fn judge(answers: &Answers, report: &mut Report) {
    let says = |name: &str, value: &str| answers.iter().any(|(n, v)| n == name && v == value);
    let value = |name: &str| answers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    for (tool, package) in NEEDED {
        if !says("has", tool) {
            report.fail(
                tool,
                "is missing, or not on the PATH of a login without a terminal",
                &install(package),
            );
        } else if TOLD.contains(&tool) && !(tool == "flock" && says("cannot", "lock")) {
            report.ok(tool, "is there");
        }
    }
    for (tool, without, package) in USEFUL {
        if !says("has", tool) {
            report.warn(tool, &format!("is missing: {without}"), &install(package));
        } else if TOLD.contains(&tool) {
            report.ok(tool, "is there");
        }
    }
    if says("cannot", "sleep") && says("has", "sleep") {
        report.fail("sleep", "takes whole seconds only", &install("coreutils"));
    }
    if !says("can", "proc") {
        report.fail("proc", "/proc is not there, or can't be read", "mount it; a node has to be a Linux");
    }
    if !says("can", "home") {
        report.fail("home", "the account's home is no directory", "make it (`mkhomedir_helper NAME`)");
    }
    clock(value("clock").unwrap_or_default(), report);
    let directory = value("directory").unwrap_or("?");
    disk(directory, value("free").and_then(|free| free.parse().ok()), says("can", "write"), report);
    if says("has", "flock") && says("cannot", "lock") && says("can", "write") {
        report.fail(
            "flock",
            &format!("can't lock a file in {directory}"),
            "keep it on a file system that has locks",
        );
    }
}

fn install(package: &str) -> String {
    format!("install {package} there")
}

fn clock(said: &str, report: &mut Report) {
    let Ok(theirs) = said.parse::<u64>() else {
        return report.warn("clock", "can't be asked for", &install("coreutils"));
    };
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let difference = ours.abs_diff(theirs);
    if difference <= MAX_CLOCK_DIFFERENCE {
        // To the second it changes from one run to the next.
        report.ok("clock", &format!("differs from ours by at most {MAX_CLOCK_DIFFERENCE} s"));
    } else {
        let way = if theirs > ours { "ahead of" } else { "behind" };
        report.warn("clock", &format!("is {difference} s {way} ours"), "have it set, by chrony or the like");
    }
}

fn disk(directory: &str, free: Option<u64>, can_write: bool, report: &mut Report) {
    let make_room = "make room there: logs and artifacts are kept in it";
    match free {
        Some(free) if free < FULL_KIB => {
            report.fail("disk", &format!("{directory} is full: {free} KiB are free"), make_room);
        }
        _ if !can_write => {
            report.fail("disk", &format!("{directory} can't be written to"), "give it to the account");
        }
        None => report.warn(
            "disk",
            &format!("how much is free in {directory} can't be told"),
            &install("coreutils"),
        ),
        Some(free) if free < LOW_KIB => {
            report.warn("disk", &format!("{} MiB are free in {directory}", free / 1024), make_room);
        }
        Some(free) => report.ok("disk", &format!("{} MiB are free in {directory}", free / 1024)),
    }
}
