//! How fast everything is decided: which processes exist, what should be on each node, and what to do there.
//!
//! ```text
//! cargo bench --bench plan [-- SIZES…]   # how many processes there are; 1000 and 10000 if none is given
//! cargo bench --bench plan -- 1000 10000 100000 1000000
//! ```
//!
//! What the worlds are like and what came out stands in benches/README.md. Each size has a process of its own, so that its memory
//! is its own too.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on fails")]
#![allow(clippy::wildcard_enum_match_arm, reason = "what is measured has a few kinds of steps only")]

use std::process::{Command, Stdio};

#[path = "plan/measure.rs"]
mod measure;
#[path = "plan/world.rs"]
mod world;

use measure::{FIGURES, Unit};

/// Tells a process of this program that it is to measure one size and print the bare figures.
const ONE: &str = "one";

fn main() {
    // cargo adds words of its own, such as --bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut sizes: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if words.first().is_some_and(|word| word == ONE) {
        let figures = measure::measure(sizes[0]);
        println!("{}", figures.map(|figure| figure.to_string()).join(" "));
        return;
    }
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000];
    }
    sizes.sort_unstable();
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap().to_owned();
    let before = load();
    let all: Vec<Vec<f64>> = sizes.iter().map(|size| apart(*size)).collect();

    print!("{:<52}", "processes, 100 a node");
    sizes.iter().for_each(|size| print!("{size:>12}"));
    println!();
    for (at, (name, unit)) in FIGURES.iter().enumerate() {
        print!("{name:<52}");
        all.iter().for_each(|figures| print!("{:>12.prec$}", figures[at], prec = unit.digits()));
        println!();
        if matches!(unit, Unit::Time) && sizes.len() > 1 {
            print!("{:<52}{:>12}", "  growth, as a part of n log n's", "");
            for pair in 1..sizes.len() {
                let n_log_n = |size: usize| size as f64 * (size as f64).log2();
                let wanted = n_log_n(sizes[pair]) / n_log_n(sizes[pair - 1]);
                print!("{:>12.2}", all[pair][at] / all[pair - 1][at] / wanted);
            }
            println!();
        }
    }
    println!("\nload: {before} before, {} after", load());
}

/// Measures one size in a process of its own.
fn apart(size: usize) -> Vec<f64> {
    let program = std::env::current_exe().unwrap();
    let size = size.to_string();
    let output = Command::new(program).args([ONE, &size]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the measuring of {size} ended with {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|figure| figure.parse().unwrap()).collect()
}
