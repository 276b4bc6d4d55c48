//! `mainstay node`, `cordon`, `uncordon`, `drain`: what is done to a node by hand.

use std::process::ExitCode;
use std::thread::sleep;

use serde_json::{Value, json};

use super::client::{Client, printable};
use super::wait::{Limit, PAUSE, TIMED_OUT};
use super::{Outcome, ServerArguments, named};

/// The path of a node, by what was typed.
fn path(node: &str) -> Result<String, String> {
    let (instance, name) = named(node, "node", "IN1/ND1")?;
    Ok(format!("/1.0/instances/{instance}/nodes/{name}"))
}

pub(super) fn trust(server: &ServerArguments, node: &str) -> Outcome {
    let path = path(node)?;
    let client = Client::new(server)?;
    let answer = client.post(&format!("{path}/trust"), None)?;
    // How its link is by now; where the new key is not the only trouble, the rest is said.
    let said = |name: &str| answer[name].as_str().map(printable);
    let state = said("state").unwrap_or_else(|| "tried again".into());
    match said("message") {
        Some(message) => println!("{node}: trusted; {message}"),
        None => println!("{node}: trusted; {state}"),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn cordon(server: &ServerArguments, node: &str) -> Outcome {
    Client::new(server)?.post(&format!("{}/cordon", path(node)?), None)?;
    println!("{node}: cordoned");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn uncordon(server: &ServerArguments, node: &str) -> Outcome {
    Client::new(server)?.post(&format!("{}/uncordon", path(node)?), None)?;
    println!("{node}: takes processes");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn forget(server: &ServerArguments, node: &str, reason: &str) -> Outcome {
    Client::new(server)?.post(&format!("{}/forget", path(node)?), Some(&json!({ "reason": reason })))?;
    println!("{node}: forgotten");
    Ok(ExitCode::SUCCESS)
}

/// Drains, and waits until nothing is left that moves by itself.
pub(super) fn drain(server: &ServerArguments, node: &str, timeout: Option<u64>) -> Outcome {
    let path = path(node)?;
    let client = Client::new(server)?;
    let limit = Limit::new(timeout);
    let mut status = client.post(&format!("{path}/drain"), None)?;
    let mut told = Vec::new();
    loop {
        let now = left(&status);
        for line in now.lines.iter().filter(|line| !told.contains(*line)) {
            eprintln!("{line}");
        }
        if now.lines.is_empty() {
            println!("{node}: drained");
            return Ok(ExitCode::SUCCESS);
        }
        if !now.moves {
            eprintln!("mainstay: {node}: what is left is moved by no drain; the node takes nothing new");
            return Ok(ExitCode::FAILURE);
        }
        if limit.is_over() {
            eprintln!("mainstay: {node}: {} processes are left; the drain goes on", now.lines.len());
            return Ok(TIMED_OUT.into());
        }
        told = now.lines;
        sleep(PAUSE);
        status = client.get(&format!("{path}/status"))?;
    }
}

/// What is left on a node.
struct Left {
    /// A line a process.
    lines: Vec<String>,
    /// Whether any of it moves by itself.
    moves: bool,
}

fn left(status: &Value) -> Left {
    let all = status["left"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().map(printable).unwrap_or_default();
    Left {
        lines: all
            .iter()
            .map(|one| {
                format!("{} of {}: {}", text(&one["process"]), text(&one["service"]), text(&one["reason"]))
            })
            .collect(),
        moves: all.iter().any(|one| one["stays"] == false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_waits_for_what_moves_and_for_nothing_else() {
        let one =
            |stays: bool| json!({"process": "a", "service": "SV1", "stays": stays, "reason": "so\u{1b}"});
        let both = left(&json!({ "left": [one(true), one(false)] }));
        assert_eq!((both.lines[0].as_str(), both.moves), ("a of SV1: so", true));
        assert!(!left(&json!({ "left": [one(true)] })).moves);
        assert!(left(&json!({ "left": [] })).lines.is_empty());
    }
}
