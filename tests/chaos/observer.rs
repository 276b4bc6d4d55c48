//! Watches from outside that no process ever has two copies.
//!
//! A copy is a program that was started for a process: it leads a session, and its command line is the service's program. So
//! neither what it forks nor the child of a supervisor that is about to become it is one.
//!
//! /proc can't be read all at once: a process that was seen may be gone when the next one is. So two are two only when the
//! first, looked at again after the second, is still there as the same process: then both lived when the second was seen.
//! A process that is being killed has no command line any more, so it is none.
//!
//! What lives shorter than a look takes is not seen here; against that the service's program holds a lock (`service.sh`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::census::{is_root, look_at_stat, pids, words};

/// Pause between two looks. Longer than a look takes, for the machine has other work too.
const PAUSE: Duration = Duration::from_millis(8);

/// What was seen so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Report {
    /// The doubles that were seen.
    pub(crate) doubles: BTreeSet<String>,
    pub(crate) looks: u64,
    /// The longest time from one look to the next.
    pub(crate) longest_gap: Duration,
}

/// A thread that watches until it is dropped.
pub(crate) struct Observer {
    report: Arc<Mutex<Report>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Watches the copies of a service's program. Its first argument is the process's id.
    pub(crate) fn start(service: &str) -> Observer {
        let report = Arc::new(Mutex::new(Report::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (report, is_over, service) = (Arc::clone(&report), Arc::clone(&is_over), service.to_owned());
            move || watch(&service, &report, &is_over)
        });
        Observer { report, is_over, thread: Some(thread) }
    }

    pub(crate) fn report(&self) -> Report {
        self.report.lock().unwrap().clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A copy, as seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copy {
    pid: u32,
    parent: u32,
    start: u64,
}

fn watch(service: &str, report: &Mutex<Report>, is_over: &AtomicBool) {
    let mut last = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let doubles = look(service);
        let mut report = report.lock().unwrap();
        report.looks += 1;
        report.longest_gap = report.longest_gap.max(last.elapsed());
        last = Instant::now();
        report.doubles.extend(doubles);
        drop(report);
        std::thread::sleep(PAUSE);
    }
}

/// Looks once at all; answers what was seen twice.
fn look(service: &str) -> Vec<String> {
    let mut first: BTreeMap<String, Copy> = BTreeMap::new();
    let mut doubles = Vec::new();
    for pid in pids() {
        let Some((id, copy)) = copy(pid, service) else { continue };
        let Some(before) = first.insert(id.clone(), copy) else { continue };
        if self::copy(before.pid, service).is_some_and(|(again, same)| again == id && same == before) {
            doubles.push(format!("two copies of {id}: {before:?} and {copy:?}"));
        }
    }
    doubles
}

fn copy(pid: u32, service: &str) -> Option<(String, Copy)> {
    let (parent, session, start) = look_at_stat(pid)?;
    if session != pid {
        return None;
    }
    let argv = words(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?);
    let id = argv.get(2).filter(|_| is_root(&argv, service))?;
    Some((id.clone(), Copy { pid, parent, start }))
}
