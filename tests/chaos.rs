//! Chaos: whatever is killed, frozen, doubled or confused, and in whatever mix, no process ever has two copies, everything
//! runs again within 30 s of the last fault, nobody else's process is touched, and nothing is left behind.
//!
//! Real sshds, the real program, real stores. The faults of a round are a function of the seed and the round's number; what the
//! machine makes of them is not, so a replayed round may have to be replayed several times.
//!
//! ```text
//! MAINSTAY_CHAOS_SEED    default 1
//! MAINSTAY_CHAOS_ROUNDS  how many; every other one is on etcd, the rest on the embedded store. Default 12
//! MAINSTAY_CHAOS_FIRST   number of the first, default 1: with one round, that one alone
//! ```

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

#[path = "chaos/census.rs"]
mod census;
#[path = "chaos/observer.rs"]
mod observer;
#[path = "chaos/plan.rs"]
mod plan;
#[path = "chaos/stranger.rs"]
mod stranger;
mod support;
#[path = "chaos/world.rs"]
mod world;

use world::{Engine, World};

/// So many that both halves, which run beside each other, take about a minute.
const ROUNDS: u64 = 12;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Does the rounds whose turn it is on this engine.
fn shake(engine: Engine) {
    let seed = setting("MAINSTAY_CHAOS_SEED", 1);
    let first = setting("MAINSTAY_CHAOS_FIRST", 1);
    let mine = match engine {
        Engine::Embedded => 1,
        Engine::Etcd => 0,
    };
    let rounds: Vec<u64> = (first..first + setting("MAINSTAY_CHAOS_ROUNDS", ROUNDS))
        .filter(|number| number % 2 == mine)
        .collect();
    if rounds.is_empty() {
        return;
    }
    let mut world = World::start(engine);
    for number in rounds {
        let events = plan::round(seed, number);
        let told: Vec<String> = events.iter().map(|event| format!("  {event}\n")).collect();
        eprintln!(
            "MAINSTAY_CHAOS_SEED={seed} MAINSTAY_CHAOS_FIRST={number} MAINSTAY_CHAOS_ROUNDS=1 cargo test --test chaos \
             # {engine:?}\n{}",
            told.concat().trim_end()
        );
        world.shake(&events);
    }
    world.end();
}

#[test]
fn no_mix_of_faults_doubles_loses_or_leaves_anything_over_the_embedded_store() {
    shake(Engine::Embedded);
}

#[test]
fn no_mix_of_faults_doubles_loses_or_leaves_anything_over_etcd() {
    shake(Engine::Etcd);
}
