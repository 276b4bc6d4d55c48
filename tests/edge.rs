//! The edge of the real server: what it survives, under which names it answers, and whom.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "edge/access.rs"]
mod access;
#[path = "edge/assaults.rs"]
mod assaults;
#[path = "edge/audit.rs"]
mod audit;
#[path = "edge/raw.rs"]
mod raw;
mod support;

use raw::{ask, connect, send};
use support::program::{Program, call, get};

/// Most that the server may have had in memory by the end of all assaults. It is some 180 MB, most of it what sixteen bodies of a megabyte
/// are made into; what would grow with what clients send would soon be beyond this.
const MOST_MEMORY_KB: u64 = 400 * 1024;

fn serve(data: &TempDir, more: &[&str]) -> (Program, String) {
    let program = Program::serve(data.path(), more);
    let api = program.api();
    (program, api)
}

/// A read is answered.
fn answers(api: &str) {
    let (status, text) = get(&format!("{api}/1.0/instances")).expect("the server answers");
    assert_eq!(status, 200, "{text}");
}

/// A change is made, and undone.
fn answers_a_change(api: &str) {
    let body = json!({"name": "a", "zk": "z:1", "redis": "redis://r"}).to_string();
    let (status, made) = call("POST", &format!("{api}/1.0/instances"), &body).expect("the server answers");
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let url = format!("{api}/1.0/instances/{}", made["id"].as_str().unwrap());
    assert_eq!(call("DELETE", &url, "").expect("the server answers").0, 204);
}

/// A process of SV1 of IN1 on ND1, which nobody reaches.
fn with_process(api: &str) {
    for (path, body) in [
        ("/1.0/instances", json!({"name": "a", "zk": "z:1", "redis": "redis://r"})),
        ("/1.0/instances/IN1/nodes", json!({"name": "n", "ip-address": "192.0.2.1", "username": "u"})),
        ("/1.0/instances/IN1/services", json!({"name": "s", "type": "timer", "command": ["true"]})),
        ("/1.0/processes", json!({"instance": "IN1", "service": "SV1", "node": "ND1"})),
    ] {
        assert_eq!(ask(api, "POST", path, &raw::json(&body)).status, 201, "{path}");
    }
}

/// A figure of a process's memory, in kB.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn nothing_that_clients_do_ends_the_server_or_makes_it_grow() {
    assaults::prepare();
    let data = TempDir::new().unwrap();
    let (program, api) = serve(&data, &[]);
    answers_a_change(&api);
    println!("{:32}{:>12}{:>12}", "resident memory, kB", "after", "most so far");
    let show = |name: &str| {
        let [now, most] = ["VmRSS", "VmHWM"].map(|figure| memory(program.pid(), figure));
        println!("{name:32}{now:>12}{most:>12}");
        most
    };
    show("at the start");
    for (name, assault) in assaults::ALL {
        assault(&api);
        answers(&api);
        answers_a_change(&api);
        let most = show(name);
        assert!(most < MOST_MEMORY_KB, "{name}: {most} kB");
    }
    let (status, said) = program.end();
    assert!(status.success() && !said.contains("panicked"), "{said}");
}

#[test]
fn what_is_too_long_is_refused_by_its_name() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &[]);
    let path = |length: usize| format!("/1.0/{}", "x".repeat(length - 5));
    assert_eq!(ask(&api, "GET", &path(8192), "").status, 404);
    let answer = ask(&api, "GET", &path(8193), "");
    assert_eq!(answer.status, 414);
    assert!(answer.body.contains("8193 bytes; they can have 8192"), "{}", answer.body);
    assert_eq!(ask(&api, "GET", &format!("/healthz?{}", "x".repeat(9000)), "").status, 414);
    assert_eq!(ask(&api, "GET", &path(60_000), "").status, 414);
    assert_eq!(ask(&api, "GET", "/healthz", &"A: b\r\n".repeat(98)).status, 200);
    assert_eq!(ask(&api, "GET", "/healthz", &"A: b\r\n".repeat(99)).status, 431);
    assert_eq!(ask(&api, "GET", "/healthz", &format!("A: {}\r\n", "x".repeat(60_000))).status, 200);
    assert_eq!(ask(&api, "GET", "/healthz", &format!("A: {}\r\n", "x".repeat(66_000))).status, 431);
}

#[test]
fn head_and_options_work_on_every_path_and_other_methods_are_told_what_does() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &[]);
    for path in ["/healthz", "/readyz", "/1.0/instances", "/1.0/events", "/1.0/processes"] {
        let (full, head) = (ask(&api, "GET", path, ""), ask(&api, "HEAD", path, ""));
        assert_eq!((full.status, head.status, head.body.as_str()), (200, 200, ""), "{path}");
        assert_eq!(head.header("content-length"), full.header("content-length"), "{path}");
        assert_eq!(head.header("content-type"), full.header("content-type"), "{path}");
        assert_eq!(full.header("content-length").unwrap(), full.body.len().to_string(), "{path}");
    }
    assert_eq!(ask(&api, "HEAD", "/metrics", "").status, 200);
    assert_eq!(ask(&api, "HEAD", "/1.0/instances/IN9", "").status, 404);
    for (path, allow) in [
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/1.0/instances", "GET, HEAD, POST, OPTIONS"),
        ("/1.0/instances/IN1/services/SV1/start", "POST, OPTIONS"),
    ] {
        let options = ask(&api, "OPTIONS", path, "");
        assert_eq!((options.status, options.header("allow"), options.body.as_str()), (204, Some(allow), ""));
        let patch = ask(&api, "PATCH", path, "");
        assert_eq!((patch.status, patch.header("allow")), (405, Some(allow)));
        let why = format!("this path does not take PATCH; it takes {allow}");
        assert_eq!(serde_json::from_str::<Value>(&patch.body).unwrap(), json!({"error": why}));
    }
    assert_eq!(ask(&api, "OPTIONS", "/nowhere", "").status, 404);
    assert_eq!(ask(&api, "OPTIONS", "*", "").status, 404);
    assert!((400..500).contains(&ask(&api, "CONNECT", "localhost:80", "").status));
    assert_eq!(ask(&api, "GET", &format!("{api}/healthz"), "").status, 200, "the full form of a URL");
}

#[test]
fn a_name_that_is_not_ours_is_refused_so_that_no_page_reaches_us_by_another() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &["--host", "box.example.org"]);
    let asked = |host: &str| {
        let request = format!("GET /1.0/instances HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        send(&api, request.as_bytes()).unwrap()
    };
    for host in
        ["localhost", "localhost:1", "127.0.0.1", "127.1.2.3:9", "[::1]", "[::1]:8080", "box.example.org:80"]
    {
        assert_eq!(asked(&format!("Host: {host}\r\n")).status, 200, "{host}");
    }
    for host in ["evil.example", "evil.example:8080", "192.0.2.1"] {
        let answer = asked(&format!("Host: {host}\r\n"));
        assert_eq!(answer.status, 421, "{host}");
        assert!(answer.body.contains("--host NAME"), "{}", answer.body);
    }
    assert_eq!(asked("").status, 400);
    assert_eq!(asked("Host: localhost\r\nHost: localhost\r\n").status, 400);
    assert_eq!(send(&api, b"GET /1.0/instances HTTP/1.0\r\n\r\n").unwrap().status, 200);
    assert_eq!(send(&api, b"GET /1.0/instances HTTP/1.0\r\nHost: evil.example\r\n\r\n").unwrap().status, 421);
    let full =
        "GET http://evil.example/1.0/instances HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(send(&api, full.as_bytes()).unwrap().status, 421);
}

#[test]
fn pages_of_others_read_and_change_nothing_unless_they_are_allowed() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &["--cors-origin", "https://app.example.org"]);
    let stop = "/1.0/instances/IN1/services/stop";
    let origin = |origin: &str| format!("Origin: {origin}\r\n");
    for page in ["http://evil.example", "null", "https://app.example.org:444"] {
        let refused = ask(&api, "POST", stop, &origin(page));
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None), "{page}");
        let read = ask(&api, "GET", "/1.0/instances", &origin(page));
        assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None), "{page}");
    }
    assert_eq!(ask(&api, "POST", stop, &origin("http://localhost")).status, 404, "our own page");
    let allowed = origin("https://app.example.org");
    let answer = ask(&api, "POST", stop, &allowed);
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin"), answer.header("vary")),
        (404, Some("https://app.example.org"), Some("Origin"))
    );
    let asking = format!("{allowed}Access-Control-Request-Method: DELETE\r\n");
    let may = ask(&api, "OPTIONS", "/1.0/instances/IN1", &asking);
    assert_eq!((may.status, may.body.as_str()), (204, ""));
    assert!(may.header("access-control-allow-methods").unwrap().contains("DELETE"));
    assert_eq!(may.header("access-control-allow-credentials"), None);
}

#[test]
fn an_ending_server_lets_go_of_who_waits_and_answers_who_has_asked() {
    let data = TempDir::new().unwrap();
    let (program, api) = serve(&data, &[]);
    let mut idle = connect(&api);
    let mut asking = connect(&api);
    asking
        .write_all(b"POST /1.0/instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        .unwrap();
    asking.write_all(b"Expect: 100-continue\r\nContent-Length: 44\r\n\r\n").unwrap();
    let mut reader = BufReader::new(asking.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    program.signal(rustix::process::Signal::INT);
    let mut rest = Vec::new();
    assert_eq!(idle.read_to_end(&mut rest).unwrap(), 0, "an idle connection is closed at once");
    asking.write_all(b"{\"name\": \"a\", \"zk\": \"z:1\", \"redis\": \"r://r\"} ").unwrap();
    reader.read_line(&mut line).unwrap();
    let answer = raw::read(&mut reader).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (201, Some("close")), "{answer:?}");
    assert!(program.end().0.success());
}

#[test]
fn who_waits_for_nodes_takes_no_turn_of_who_only_reads_and_too_many_are_told_at_once() {
    let data = TempDir::new().unwrap();
    let (_program, api) = serve(&data, &[]);
    with_process(&api);
    let start = "/1.0/instances/IN1/services/SV1/start?timeout=600";
    let request = format!("POST {start} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let more = "/1.0/instances/IN1/services/SV1/start?wait=false";
    let wait = || {
        let mut stream = connect(&api);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let mut waiting: Vec<_> = (0..380).map(|_| wait()).collect();
    // One more at a time: asking takes a turn, too, and whoever came meanwhile would not get it.
    support::wait_for("all turns to be taken", || {
        waiting.push(wait());
        ask(&api, "POST", more, "").status == 503
    });
    let refused = ask(&api, "POST", more, "");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    answers(&api);
    drop(waiting);
    support::wait_for("the turns to be free again", || ask(&api, "POST", more, "").status == 200);
}
