//! The program that stands in for real services does what the examples say it does.
#![allow(clippy::unwrap_used, reason = "in a test a panic is how it fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

/// `cargo test` builds the examples beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/stand-in");
    assert!(program.exists(), "{} is not built: `cargo build --examples`", program.display());
    program
}

/// A running stand-in; killed when dropped.
struct StandIn {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl StandIn {
    fn start(args: &[&str], bundle: Option<&Path>) -> StandIn {
        let mut command = Command::new(program());
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env("MAINSTAY_INSTANCE", "IN1").env("MAINSTAY_SERVICE", "SV/1");
        command.env("MAINSTAY_NODE", "ND1").env("MAINSTAY_PROCESS", "p1");
        if let Some(bundle) = bundle {
            command.env("MAINSTAY_BUNDLE", bundle);
        }
        let mut child = command.spawn().unwrap();
        let lines = follow(child.stdout.take().unwrap());
        StandIn { child, lines }
    }

    /// What follows `start` in the first line that starts so.
    fn wait_for_line(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line =
                self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line starts with {start:?}"));
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait_for_end(&mut self) -> Option<i32> {
        wait_until("the program to end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
    });
    receiver
}

fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// As Mainstay does it: whole or not at all.
fn write_bundle(path: &Path, ttl: u32) {
    let bundle = json!({
        "instance": {"id": "IN1"}, "node": {"id": "ND1"}, "tenants": {"flowers": {"name": "Flowers"}},
        "services": {
            "SV/1": {"type": "auth", "name": "a", "log-level": "info", "options": {"token-ttl": ttl}},
            "SV2": {"type": "auth", "name": "b", "log-level": "error", "options": {}},
        },
    });
    let half = path.with_extension("new");
    std::fs::write(&half, bundle.to_string()).unwrap();
    std::fs::rename(half, path).unwrap();
}

#[test]
fn it_serves_its_own_part_of_the_bundle_and_reads_it_again_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.json");
    write_bundle(&bundle, 7);
    let mut it = StandIn::start(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"], Some(&bundle));
    let first: SocketAddr = it.wait_for_line("listening on ").parse().unwrap();
    let second: SocketAddr = it.wait_for_line("listening on ").parse().unwrap();

    assert_eq!(get(first, "/health"), (200, json!({"status": "ok"})));
    let config = |ttl: u32, reloads: u32| {
        json!({"service": "SV/1", "process": "p1", "node": "ND1", "options": {"token-ttl": ttl},
               "log-level": "info", "tenants": ["flowers"], "reloads": reloads, "pid": it.child.id()})
    };
    assert_eq!(get(second, "/config"), (200, config(7, 0)));
    let (status, body) = get(first, "/nothing");
    assert_eq!((status, body["error"].is_string()), (404, true));
    it.wait_for_line("GET /nothing 404");

    write_bundle(&bundle, 8);
    assert_eq!(get(first, "/config"), (200, config(7, 0)), "a change is not seen before the signal");
    it.signal(Signal::HUP);
    it.wait_for_line("reloaded");
    assert_eq!(get(first, "/config"), (200, config(8, 1)));

    std::fs::write(&bundle, "{\"services\": ").unwrap();
    it.signal(Signal::HUP);
    it.wait_for_line("bundle unreadable");
    assert_eq!(get(first, "/config"), (200, config(8, 1)), "a damaged bundle changes nothing");

    it.signal(Signal::TERM);
    assert_eq!(it.wait_for_end(), Some(0));
    it.wait_for_line("ended");
}

#[test]
fn it_ends_though_a_client_keeps_its_connection() {
    let mut it = StandIn::start(&["--listen", "127.0.0.1:0"], None);
    let address: SocketAddr = it.wait_for_line("listening on ").parse().unwrap();
    let mut kept = TcpStream::connect(address).unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    it.wait_for_line("GET /health 200");
    it.signal(Signal::INT);
    assert_eq!(it.wait_for_end(), Some(0));
}

#[test]
fn without_a_bundle_and_an_address_it_only_runs() {
    let mut it = StandIn::start(&[], Some(Path::new("/nonexistent/bundle.json")));
    it.wait_for_line("started as ");
    it.signal(Signal::TERM);
    assert_eq!(it.wait_for_end(), Some(0));
}

#[test]
fn it_misbehaves_where_a_test_asks_for_it() {
    let mut short = StandIn::start(&["--exit-after-ms", "1"], None);
    assert_eq!(short.wait_for_end(), Some(1));

    let stubborn = StandIn::start(&["--ignore-term", "--fork"], None);
    let left: i32 = stubborn.wait_for_line("forked ").parse().unwrap();
    let left = Pid::from_raw(left).unwrap();
    stubborn.wait_for_line("started as ");
    stubborn.signal(Signal::TERM);
    stubborn.wait_for_line("SIGTERM ignored");
    drop(stubborn);
    test_kill_process(left).expect("what it forked outlives it");
    kill_process(left, Signal::KILL).unwrap();
}

#[test]
fn a_flag_that_is_not_known_is_an_error() {
    assert_eq!(StandIn::start(&["--lisen", "x"], None).wait_for_end(), Some(1));
}
