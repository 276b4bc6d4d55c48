//! How fast nodes follow, and what they cost at rest: real sshd servers on loopback, and plain scripts beside ours.
//!
//! ```text
//! cargo bench --bench link [-- start|change|crash|rest|fleet [N]]
//! ```
//!
//! Without a word everything but `fleet`. What is compared, and what came out, stands in benches/README.md. A machine is never quiet, so
//! contenders take turns within one run, and only the ratios between them mean something.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on fails")]

#[path = "link/bare.rs"]
mod bare;
#[path = "link/change.rs"]
mod change;
#[path = "link/crash.rs"]
mod crash;
#[path = "link/fifo.rs"]
mod fifo;
#[path = "link/fleet.rs"]
mod fleet;
#[path = "link/rest.rs"]
mod rest;
#[path = "link/start.rs"]
mod start;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "link/table.rs"]
mod table;
#[path = "link/world.rs"]
mod world;

fn main() {
    // cargo adds words of its own, such as --bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let started = table::load();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            runtime.block_on(start::run());
            runtime.block_on(change::run());
            runtime.block_on(crash::run());
            runtime.block_on(rest::run());
        }
        ["start"] => runtime.block_on(start::run()),
        ["change"] => runtime.block_on(change::run()),
        ["crash"] => runtime.block_on(crash::run()),
        ["rest"] => runtime.block_on(rest::run()),
        ["fleet"] => fleet::run(200),
        ["fleet", count] => fleet::run(count.parse().expect("how many nodes is a number")),
        _ => panic!("what is known: start, change, crash, rest, fleet [N]"),
    }
    println!("\nload: {started} before, {} after", table::load());
}
