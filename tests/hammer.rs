//! Many clients start and stop the same service at once, on real nodes. Each process holds a connection to the test for as long as it
//! lives, so that without asking us it is known to the millisecond which runs when: each answer has to be true when it is given, the
//! last acknowledged write wins, and no process ever runs twice.
//!
//! `MAINSTAY_HAMMER_SECONDS` says for how long, default 30.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::call;
use support::served::{Served, node};
use support::sshd::Sshd;

const CLIENTS: usize = 64;
const NODES: usize = 2;
/// How old a node's word may be when it is told, on a machine that does all this on two cores.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// What one client was told.
struct Answer {
    asked: bool,
    sent: Instant,
    received: Instant,
    /// The processes, and whether each runs.
    told: BTreeMap<String, bool>,
}

/// The life of one copy of a process.
struct Life {
    began: Instant,
    /// None while it lives.
    ended: Option<Instant>,
}

/// Whom the processes are connected to.
#[derive(Default)]
struct Witness {
    lives: Mutex<BTreeMap<String, Vec<Life>>>,
    is_over: AtomicBool,
}

impl Witness {
    /// Sees who comes and who goes. One thread, that takes note of who has gone before who has come.
    fn watch(&self, listener: &TcpListener) {
        let mut connected: Vec<(TcpStream, String)> = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let mut ready: Vec<PollFd<'_>> = vec![PollFd::new(listener, PollFlags::IN)];
            ready.extend(connected.iter().map(|(stream, _)| PollFd::new(stream, PollFlags::IN)));
            let _ = poll(&mut ready, Some(&rustix::fs::Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).unwrap();
            let now = Instant::now();
            let is_ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut lives = self.lives.lock().unwrap();
            let mut gone = is_ready[1..].iter();
            connected.retain(|(_, id)| {
                let has_gone = *gone.next().unwrap();
                if has_gone {
                    let life = lives.get_mut(id).unwrap().iter_mut().find(|life| life.ended.is_none());
                    life.unwrap().ended = Some(now);
                }
                !has_gone
            });
            if is_ready[0] {
                let (mut stream, _) = listener.accept().unwrap();
                let (id, began) = introduced(&mut stream);
                let before = lives.entry(id.clone()).or_default();
                assert!(before.iter().all(|life| life.ended.is_some()), "a second copy of {id}");
                before.push(Life { began, ended: None });
                connected.push((stream, id));
            }
        }
    }

    /// How long before a time span, and not in it, a process was last as told: how old the word was. None when it never was.
    fn age(&self, process: &str, runs: bool, from: Instant, to: Instant) -> Option<Duration> {
        let lives = self.lives.lock().unwrap();
        let lives = lives.get(process)?.iter().filter(|life| life.began <= to);
        let last = if runs {
            lives.map(|life| life.ended.unwrap_or(to)).max()?
        } else {
            // Not before the latest began, unless that is over.
            lives.max_by_key(|life| life.began).map_or(to, |life| {
                life.ended.map_or(life.began, |ended| if ended <= to { to } else { life.began })
            })
        };
        Some(from.saturating_duration_since(last))
    }

    fn running(&self) -> usize {
        self.lives.lock().unwrap().values().flatten().filter(|life| life.ended.is_none()).count()
    }
}

/// Ends the watch with itself, after a failure too.
struct Watching<'a>(&'a Witness);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Who a process says it is, and when it started.
fn introduced(stream: &mut TcpStream) -> (String, Instant) {
    let mut said = String::new();
    while !said.ends_with('\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    let (id, pid) = said.trim_end().split_once(' ').unwrap();
    // Hundredths of a second since boot.
    let started = support::stat(pid.parse().unwrap()).map_or(u64::MAX, |fields| fields[19].parse().unwrap());
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let age = Duration::from_millis(((uptime * 100.0) as u64).saturating_sub(started) * 10);
    (id.to_owned(), Instant::now().checked_sub(age).unwrap())
}

#[test]
fn each_of_64_clients_is_answered_truly_and_the_last_write_wins() {
    let seconds = std::env::var("MAINSTAY_HAMMER_SECONDS").map_or(30, |text| text.parse().unwrap());
    let (sshds, data) = ([Sshd::start(), Sshd::start()], TempDir::new().unwrap());
    let types = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Until it listens to the signal that stops it, that does nothing: none ends without having been heard of.
    let program = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; echo \"$MAINSTAY_PROCESS $$\" >&3; sleep 86400 3>&- & trap 'kill $!; exit 0' WINCH; wait",
        listener.local_addr().unwrap().port()
    );
    let quick = json!({
        "apiVersion": "mainstay.dev/v1", "kind": "ServiceType", "metadata": {"name": "quick"},
        "spec": {"command": ["bash", "-c", program], "start": {"seconds": 0}, "stop": {"signal": "WINCH"}},
    });
    std::fs::write(types.path().join("quick.json"), quick.to_string()).unwrap();
    let served = Served::start(data.path(), &["--manifests", types.path().to_str().unwrap()]);
    served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
    let ids: Vec<String> = (1..=NODES).map(|number| format!("ND{number}")).collect();
    sshds.iter().for_each(|sshd| drop(served.post("/instances/IN1/nodes", &node(sshd))));
    let mut created = Value::Null;
    support::wait_for("the type to be there", || {
        let service = json!({"name": "a", "type": "quick", "nodes": ids}).to_string();
        let (status, text) =
            call("POST", &format!("{}/1.0/instances/IN1/services", served.api), &service).unwrap();
        created = serde_json::from_str(&text).unwrap();
        status == 201
    });
    assert_eq!(created["id"], "SV1");
    let url = |verb: &str| format!("{}/1.0/instances/IN1/services/SV1/{verb}", served.api);
    let witness = Witness::default();
    std::thread::scope(|scope| {
        let _watching = Watching(&witness);
        scope.spawn(|| witness.watch(&listener));
        let started = served.tell("/instances/IN1/services/SV1/start");
        assert_eq!(started["processes"].as_array().unwrap().len(), NODES);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || hammer(client, deadline, url))).collect();
        let answers: Vec<Answer> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let lives = witness.lives.lock().unwrap().values().map(Vec::len).sum::<usize>();
        println!("{} answers, {lives} starts", answers.len());
        judge(&answers, &witness);
        ends_as_written_last(&served, &answers, &witness);
    });
}

fn judge(answers: &[Answer], witness: &Witness) {
    let mut ages = Vec::new();
    for Answer { asked, sent, received, told } in answers {
        assert_eq!(told.len(), NODES, "both are told of");
        for (process, runs) in told {
            let age = witness.age(process, *runs, *sent, *received);
            assert!(
                age.is_some_and(|age| age < ON_ITS_WAY),
                "asked to run: {asked}, told that {process} runs: {runs}; that was {age:?} old"
            );
            ages.extend(age);
        }
    }
    ages.sort_unstable();
    let at = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize];
    println!(
        "what was told was older than its request by: p50 {:?}, p99 {:?}, max {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn ends_as_written_last(served: &Served, answers: &[Answer], witness: &Witness) {
    // The last write is one that no write to the contrary was sent after.
    let last = |asked: bool| answers.iter().filter(move |it| it.asked == asked);
    let can_be_last = |asked: bool| {
        let latest = last(asked).map(|it| it.received).max().unwrap();
        last(!asked).all(|it| it.sent <= latest)
    };
    let all_are = |running: bool| witness.running() == if running { NODES } else { 0 };
    support::wait_for("it to settle", || {
        let shown = served.get("/instances/IN1/services/SV1/status")["running"].as_bool().unwrap();
        can_be_last(shown) && all_are(shown)
    });
    for (verb, running) in [("start", true), ("stop", false)] {
        assert_eq!(served.tell(&format!("/instances/IN1/services/SV1/{verb}"))["running"], running);
        support::wait_for("the witness to have heard of it", || all_are(running));
    }
}

/// Starts and stops until the deadline, now waiting, now not.
fn hammer(client: usize, deadline: Instant, url: impl Fn(&str) -> String) -> Vec<Answer> {
    let mut answers = Vec::new();
    while Instant::now() < deadline {
        let round = client * 7 + answers.len();
        let asked = (round / 3).is_multiple_of(2);
        let patience = ["", "?wait=false", "?timeout=0.3"][round % 3];
        let path = format!("{}{patience}", if asked { "start" } else { "stop" });
        let sent = Instant::now();
        let (status, text) = call("POST", &url(&path), "").unwrap();
        let received = Instant::now();
        assert_eq!(status, 200, "{path}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let told = answer["processes"].as_array().unwrap().iter();
        let told = told
            .map(|it| (it["id"].as_str().unwrap().to_owned(), it["running"].as_bool().unwrap()))
            .collect();
        answers.push(Answer { asked, sent, received, told });
    }
    answers
}
