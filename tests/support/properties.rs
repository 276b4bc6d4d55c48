//! How a property is run: with other cases each time, and so that a run that failed says how to have the same ones again.

use proptest::test_runner::{Config, RngSeed};

/// A configuration of so many cases. Its seed is what `PROPTEST_RNG_SEED` says, which proptest reads itself, or drawn; the command that
/// runs the test with it again, to which `settings` belong, is in what the test prints, and so is shown when it fails.
pub(crate) fn config(cases: u32, settings: &str) -> Config {
    let told = Config::default().rng_seed;
    let seed = match told {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => uuid::Uuid::new_v4().as_u64_pair().1,
    };
    let thread = std::thread::current();
    // A test has its thread, unless all are run one after the other.
    let test = thread.name().filter(|name| *name != "main").unwrap_or_default();
    eprintln!(
        "the same cases again: PROPTEST_RNG_SEED={seed} {settings}cargo test --test {} {test}",
        env!("CARGO_CRATE_NAME")
    );
    Config { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() }
}
