//! How fast `/1.0` is read: the real server, and a bare hyper server that returns the same bytes.
//!
//! ```text
//! cargo bench --bench api [-- ROUNDS]
//! ```
//!
//! What is compared, and what came out, stands in benches/README.md. Contenders take turns, and only the ratios between them mean
//! something: the client needs a core of its own, and there are two here.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on fails")]

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

#[path = "api/bare.rs"]
mod bare;
#[path = "api/load.rs"]
mod load;
#[path = "../tests/support/mod.rs"]
mod support;

use load::{Load, Seen, latencies};
use support::program::{Program, call};

/// How long a contender is asked in a round.
const ROUND: Duration = Duration::from_millis(500);
/// How many ask at once.
const CLIENTS: usize = 32;
/// How many services the long list has.
const SERVICES: usize = 1000;

fn main() {
    if bare::run_if_asked() {
        return;
    }
    // cargo adds words of its own, such as --bench.
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(15);
    let data = TempDir::new().unwrap();
    let ours = Program::serve(data.path(), &[]);
    let api = ours.api();
    fill(&api);
    let address = api.strip_prefix("http://").unwrap();
    println!("{rounds} rounds of {ROUND:?} each, {CLIENTS} clients; medians");
    println!(
        "{:<28}{:>8}{:>10}{:>10}{:>8}{:>12}{:>10}",
        "", "bytes", "ours, /s", "bare, /s", "ratio", "CPU, us", "bare"
    );
    for (name, path) in [
        ("an object", "/1.0/instances/IN1/nodes/ND1"),
        ("a list of 10 nodes", "/1.0/instances/IN1/nodes"),
        ("a list of 1,000 services", "/1.0/instances/IN1/services"),
    ] {
        let bare = bare::Bare::start(&load::once(address, path));
        let contenders = [Load::new(address, path, ours.pid()), Load::new(&bare.address, path, bare.pid())];
        let mut seen: [Vec<Seen>; 2] = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (contender, seen) in contenders.iter().zip(&mut seen) {
                let one = contender.run(CLIENTS, ROUND);
                // The first one warms up.
                if round > 0 {
                    seen.push(one);
                }
            }
        }
        let median = |of: &dyn Fn(usize) -> f64| {
            let mut all: Vec<f64> = (0..rounds).map(of).collect();
            all.sort_unstable_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "{name:<28}{:>8}{:>10.0}{:>10.0}{:>8.2}{:>12.1}{:>10.1}",
            contenders[0].bytes,
            median(&|at| seen[0][at].per_second),
            median(&|at| seen[1][at].per_second),
            median(&|at| seen[0][at].per_second / seen[1][at].per_second),
            median(&|at| seen[0][at].cpu_us),
            median(&|at| seen[1][at].cpu_us),
        );
    }
    let list = "/1.0/instances/IN1/services";
    // What is remembered is forgotten with every change; each of these is the first after one.
    let changed = |number: usize| {
        let url = format!("{api}/1.0/instances/IN1/nodes/ND1");
        let body = json!({"description": number.to_string()}).to_string();
        assert_eq!(call("PUT", &url, &body).unwrap().0, 200);
    };
    for (how, mut all) in [
        ("1 at once", latencies(address, list, 1, 4000, |_| {})),
        ("8 at once", latencies(address, list, 8, 4000, |_| {})),
        ("each after a change", latencies(address, list, 1, 400, changed)),
    ] {
        all.sort_unstable();
        let at = |part: usize| all[all.len() * part / 1000].as_secs_f64() * 1000.0;
        println!(
            "the list of 1,000 services, {how}, ms: median {:.2}, p99 {:.2}, p99.9 {:.2}; wanted: p99 below 20",
            at(500),
            at(990),
            at(999)
        );
    }
}

/// An instance with ten nodes and many services.
fn fill(api: &str) {
    let post = |path: &str, body: serde_json::Value| {
        let (status, answer) = call("POST", &format!("{api}/1.0{path}"), &body.to_string()).unwrap();
        assert_eq!(status, 201, "{answer}");
    };
    post("/instances", json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
    for number in 0..10 {
        let node = json!({
            "name": format!("node {number}"), "description": "a node that nobody reaches", "ip-address": "127.0.0.1",
            "port": 1, "username": "cxengage", "password": "butter",
        });
        post("/instances/IN1/nodes", node);
    }
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for _ in 0..SERVICES / 10 {
                    let service = json!({
                        "type": "webapp", "name": "Web", "log-level": "info", "options": {"port": 8080},
                    });
                    post("/instances/IN1/services", service);
                }
            });
        }
    });
}
