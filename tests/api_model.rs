//! Any sequence of 200 calls answers what a plain model of the API says, and after it the nodes run exactly what the model wants: over
//! HTTP, the real program and real sshds.
//!
//! `MAINSTAY_MODEL_CASES` says how many sequences, default 12. Each run draws others; one that fails says with which `PROPTEST_RNG_SEED`
//! it is run again.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a model is about what it names")]

#[path = "api_model/calls.rs"]
mod calls;
#[path = "api_model/model.rs"]
mod model;
#[path = "api_model/parameters.rs"]
mod parameters;
#[path = "api_model/platform.rs"]
mod platform;
#[path = "support/properties.rs"]
mod properties;
#[path = "api_model/running.rs"]
mod running;
#[path = "api_model/shape.rs"]
mod shape;
mod support;

use std::time::Instant;

use proptest::test_runner::{Config, TestError, TestRunner};

use platform::Platform;
use support::sshd::Sshd;

/// So many that it takes about half a minute.
const SEQUENCES: u32 = 12;
const CALLS: usize = 200;
/// After so many, what runs is looked at, and not only at the end, when much is deleted.
const AT_ONCE: usize = 40;

#[test]
fn any_sequence_of_calls_answers_what_the_model_says_and_the_nodes_run_what_it_wants() {
    let cases = std::env::var("MAINSTAY_MODEL_CASES").map_or(SEQUENCES, |text| text.parse().unwrap());
    // A sequence takes seconds, so a shorter one is looked for only a minute.
    let settings = format!("MAINSTAY_MODEL_CASES={cases} ");
    let config = Config { max_shrink_time: 60_000, ..properties::config(cases, &settings) };
    let first = Sshd::start();
    // The same host key: a name that is used again may be that of a node on the other machine.
    let second = first.start_another();
    let ran = TestRunner::new(config).run(&calls::calls(CALLS), |calls| {
        let since = Instant::now();
        let mut platform = Platform::start([&first, &second]);
        let number = calls.len();
        for (nth, call) in calls.into_iter().enumerate() {
            if nth % AT_ONCE == AT_ONCE - 1 {
                platform.settle();
            }
            platform.call(call);
        }
        platform.settle();
        let called = since.elapsed();
        let summary = platform.summary();
        platform.clear();
        eprintln!("{number} calls in {called:.1?}; {summary}; gone after {:.1?}", since.elapsed());
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(why, calls)) => {
            let calls: Vec<String> = calls.iter().map(|call| format!("{call:?}")).collect();
            panic!("{why}, after\n{}", calls.join("\n"));
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}
