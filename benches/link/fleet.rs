//! Many nodes on this machine and the real program: all from cold, what it costs here, and what one frozen node does to the others.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bare::clear;
use crate::fifo::Fifo;
use crate::support::program::{Program, get};
use crate::support::{parent, signal};
use crate::table::{self, Samples};
use crate::world;

const SERVICES: usize = 5;
const CHANGES: usize = 10;

pub(crate) fn run(count: usize) {
    report_limits(count);
    let nodes = world::machines(count);
    let fifo = Fifo::new();
    let names: Vec<String> = (1..=count).map(|number| format!("ND{number}")).collect();
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut text = world::base(&nodes, "");
    for number in 1..=SERVICES {
        text += &world::service(&format!("SV{number}"), &names, &[]);
    }
    fs::write(folder.path().join("all.yaml"), text).unwrap();
    // One process on the second node is changed; the first node is the one that freezes.
    let own = |says: &str| {
        let command = fifo.command(says);
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        fs::write(folder.path().join("own.yaml"), world::service("OWN", &names[1..2], &words)).unwrap();
    };
    own("first");

    let began = Instant::now();
    let program = Program::serve(data.path(), &["--manifests", folder.path().to_str().unwrap()]);
    let status = format!("{}/1.0/instances/IN1/services/status", program.api());
    let mut last = Instant::now();
    loop {
        let (_, text) = get(&status).expect("the server answers");
        let running = text.matches("\"running\":true").count();
        if running == SERVICES + 1 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(600), "not all run: {text}");
        if last.elapsed() > Duration::from_secs(10) {
            last = Instant::now();
            eprintln!("{} s: {running} of {} services run whole", began.elapsed().as_secs(), SERVICES + 1);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = began.elapsed();
    println!("\nfleet: {count} nodes × {SERVICES} processes, over real ssh, with the real server");
    println!("  all connected and running after {:.1} s from the server's start", took.as_secs_f64());

    // Where it ends up, not the peak of the start.
    std::thread::sleep(Duration::from_secs(5));
    let masters = masters(program.pid());
    println!("  memory, MB                        RSS      PSS  unshared");
    memory("the server", &[program.pid()]);
    memory(&format!("its {} ssh masters", masters.len()), &masters);

    let change = |round: usize, kind: &str| {
        let mark = format!("{kind}-{round}");
        let began = Instant::now();
        own(&mark);
        let took = fifo.wait(&mark) - began;
        std::thread::sleep(Duration::from_millis(500));
        took
    };
    let [mut free, mut frozen] = [(); 2].map(|()| Samples::default());
    for round in 0..2 {
        change(round, "warm");
    }
    (0..CHANGES).for_each(|round| free.push(change(round, "free")));
    let sessions = world::sessions(&nodes[0]);
    assert!(!sessions.is_empty());
    sessions.iter().for_each(|pid| signal(*pid, Signal::STOP));
    (0..CHANGES).for_each(|round| frozen.push(change(round, "frozen")));
    sessions.iter().for_each(|pid| {
        // Its master may have given up on it by now, and then it is gone.
        let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::CONT);
    });
    table::show(
        "a file of the folder is written, until the new program runs on its node",
        &[("while another node is frozen", &frozen), ("while all answer", &free)],
    );

    drop(program);
    for sshd in &nodes {
        clear(&sshd.directory().join("home").display().to_string());
    }
}

/// What this machine allows may be too little for so many nodes on one.
fn report_limits(count: usize) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let watches = read("/proc/sys/fs/inotify/max_user_instances");
    if watches.parse::<usize>().is_ok_and(|most| most < count + 30) {
        println!(
            "note: fs.inotify.max_user_instances is {watches}, and all these nodes are one account's: their tails will look once a \
             second instead of being woken"
        );
    }
}

/// The ssh processes that a server has started.
fn masters(server: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if crate::support::is_alive(pid) && parent(pid) == server {
            found.push(pid);
        }
    }
    found
}

fn memory(what: &str, pids: &[u32]) {
    let sum = |fields: &[&str]| pids.iter().map(|pid| world::memory_kb(*pid, fields)).sum::<f64>() / 1024.0;
    let (rss, pss, unshared) = (sum(&["Rss:"]), sum(&["Pss:"]), sum(&["Private_Clean:", "Private_Dirty:"]));
    println!("  {what:<28} {rss:>8.1} {pss:>8.1} {unshared:>9.1}");
}
