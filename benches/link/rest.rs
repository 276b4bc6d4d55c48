//! What a node costs while nothing happens: processor time of our side there, and memory of the supervisors.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::support::sshd::Sshd;
use crate::support::{carrying, parent, stat};
use crate::world::{self, World};

const PROCESSES: usize = 20;
const MEASURED: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(5);
const WANTED_PERCENT: f64 = 0.5;
const WANTED_KB: f64 = 200.0;

/// What /proc/PID/stat counts in; the same on every Linux that there is.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) async fn run() {
    let nodes = world::nodes(1);
    println!("\nrest: one node, {PROCESSES} quiet processes, {} s each", MEASURED.as_secs());
    let mut world = World::new().await;
    world.reconcile().await;
    let names = ["ND1".to_owned()];
    let services: String =
        (0..PROCESSES).map(|number| world::service(&format!("SV{number}"), &names, &[])).collect();

    world.apply(&(world::base(&nodes, "") + &services)).await;
    world.until_running(PROCESSES).await;
    let quiet = measure(&nodes[0]).await;
    quiet.show("without health checks");

    let port = answer_all();
    let health = format!("  health: {{http: 'http://127.0.0.1:{port}/'}}\n");
    world.apply(&(world::base(&nodes, &health) + &services)).await;
    world
        .until("all to be healthy", |all| {
            all.values()
                .flat_map(|view| view.sighting.processes.values())
                .all(|process| process.health.is_some())
        })
        .await;
    let checked = measure(&nodes[0]).await;
    checked.show("with an HTTP health check every 10 s for each process");

    crate::table::verdict("processor time of our side of the node, %", quiet.percent, WANTED_PERCENT);
    crate::table::verdict("unshared memory of a supervisor, most, kB", quiet.most_kb, WANTED_KB);
    world.end().await;
    world::clear(&nodes);
}

/// Answers every request with a 200 for as long as the benchmark lives; the port.
fn answer_all() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

/// What was found.
struct Cost {
    percent: f64,
    session_percent: f64,
    count: usize,
    supervisors: usize,
    mean_kb: f64,
    most_kb: f64,
    checkers_kb: f64,
    rest_kb: f64,
}

impl Cost {
    fn show(&self, what: &str) {
        println!("  {what}");
        println!(
            "    our side of the node: {:.2} % of a core ({} processes at the end); its sshd session: {:.2} %",
            self.percent, self.count, self.session_percent
        );
        println!(
            "    unshared memory: {} supervisors, {:.0} kB each, {:.0} kB the most; their checkers {:.0} kB together; link, relay, tail and \
             log keeper {:.0} kB together",
            self.supervisors, self.mean_kb, self.most_kb, self.checkers_kb, self.rest_kb
        );
    }
}

async fn measure(sshd: &Sshd) -> Cost {
    tokio::time::sleep(SETTLE).await;
    let (before, session_before) = (node_side(sshd), sessions(sshd));
    tokio::time::sleep(MEASURED).await;
    let (after, session_after) = (node_side(sshd), sessions(sshd));
    let spent = |before: &BTreeMap<u32, f64>, after: &BTreeMap<u32, f64>| {
        let seconds: f64 =
            after.iter().map(|(pid, seconds)| seconds - before.get(pid).copied().unwrap_or(0.0)).sum();
        seconds / MEASURED.as_secs_f64() * 100.0
    };
    let runs = |pid: &u32| command(*pid).contains("\0run\0");
    let (supervisors, checkers): (Vec<u32>, Vec<u32>) =
        after.keys().copied().filter(runs).partition(|pid| !runs(&parent(*pid)));
    let sizes: Vec<f64> = supervisors.iter().map(|pid| unshared_kb(*pid)).collect();
    let together = |pids: &mut dyn Iterator<Item = u32>| pids.map(unshared_kb).sum::<f64>();
    #[expect(clippy::cast_precision_loss)]
    let mean_kb = sizes.iter().sum::<f64>() / sizes.len() as f64;
    Cost {
        percent: spent(&before, &after),
        session_percent: spent(&session_before, &session_after),
        count: after.len(),
        supervisors: supervisors.len(),
        mean_kb,
        most_kb: sizes.iter().copied().fold(0.0, f64::max),
        checkers_kb: together(&mut checkers.iter().copied()),
        rest_kb: together(&mut after.keys().copied().filter(|pid| !runs(pid))),
    }
}

/// Everything that runs on the node because of us, but for the services' own programs, and the seconds that each has used, with those of
/// the children that it has waited for. They are found by the node's home, which stands in their environment.
fn node_side(sshd: &Sshd) -> BTreeMap<u32, f64> {
    let home = sshd.directory().join("home").display().to_string();
    let is_program = |pid: u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        // A supervisor carries the script, which names the variable too.
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(b"MAINSTAY_TAG="))
    };
    carrying(&home).into_iter().filter(|pid| !is_program(*pid)).filter_map(used).collect()
}

/// The sshd processes that carry the connection.
fn sessions(sshd: &Sshd) -> BTreeMap<u32, f64> {
    crate::world::sessions(sshd).into_iter().filter_map(used).collect()
}

fn used(pid: u32) -> Option<(u32, f64)> {
    // utime, stime, cutime, cstime: the 14th to 17th field, of which two stand before the state.
    let ticks: f64 = stat(pid)?[11..15].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    Some((pid, ticks / TICKS_PER_SECOND))
}

fn command(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn unshared_kb(pid: u32) -> f64 {
    world::memory_kb(pid, &["Private_Clean:", "Private_Dirty:"])
}
