//! `mainstay rollout`, and `restart`, `rollback`, `pause`, `resume`: how changes of a service reach its processes.

use std::process::ExitCode;
use std::thread::sleep;

use serde_json::{Value, json};

use super::client::{Client, printable};
use super::wait::{Limit, PAUSE, TIMED_OUT};
use super::{Outcome, ServerArguments, StatusOutput, named};

/// The path of a service, by what was typed.
fn path(service: &str) -> Result<String, String> {
    let (instance, name) = named(service, "service", "IN1/SV1")?;
    Ok(format!("/1.0/instances/{instance}/services/{name}"))
}

/// What is said of a rollout without more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    Restart,
    Pause,
    Resume,
}

pub(super) fn say(server: &ServerArguments, service: &str, word: Word) -> Outcome {
    let (verb, done) = match word {
        Word::Restart => ("restart", "is restarted"),
        Word::Pause => ("pause", "is paused: what is changed reaches no process"),
        Word::Resume => ("resume", "goes on"),
    };
    Client::new(server)?.post(&format!("{}/{verb}", path(service)?), None)?;
    println!("{service}: {done}");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn undo(server: &ServerArguments, service: &str, to: Option<u64>) -> Outcome {
    let body = to.map(|revision| json!({ "revision": revision }));
    let answer = Client::new(server)?.post(&format!("{}/rollback", path(service)?), body.as_ref())?;
    let declared = answer["declared-revision"].as_u64().unwrap_or_default();
    let revisions = answer["revisions"].as_array().into_iter().flatten();
    let mark = revisions.clone().find(|revision| revision["revision"] == declared);
    let back = mark.and_then(|mark| mark["replaced-by"].as_u64()).unwrap_or(declared);
    println!("{service}: goes to revision {back}");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn history(server: &ServerArguments, service: &str, output: StatusOutput) -> Outcome {
    let rollout = Client::new(server)?.get(&format!("{}/rollout", path(service)?))?;
    match output {
        StatusOutput::Json => println!("{:#}", rollout["revisions"]),
        StatusOutput::Text => print!("{}", table(&rollout)),
    }
    Ok(ExitCode::SUCCESS)
}

/// A line a revision, the oldest first.
fn table(rollout: &Value) -> String {
    let text = |value: &Value| value.as_str().map(printable).unwrap_or_default();
    let mut table = format!("{:<9} {:<21} {:<9} CHANGES\n", "REVISION", "CREATED", "STATE");
    for one in rollout["revisions"].as_array().into_iter().flatten() {
        let state = match (&one["failed"], one["completed"] == true) {
            _ if one["revision"] == rollout["revision"] => "current",
            (Value::String(_), _) => "failed",
            (_, true) => "good",
            (_, false) => "partial",
        };
        let changes: Vec<String> = one["changes"].as_array().into_iter().flatten().map(text).collect();
        let why = one["failed"].as_str().map_or(String::new(), |why| format!(" ({})", printable(why)));
        let changes = format!("{}{why}", changes.join(", "));
        let (number, created) = (one["revision"].to_string(), text(&one["created"]));
        let line = format!("{number:<9} {created:<21} {state:<9} {changes}");
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

/// How far a rollout has come, for who waits for it.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// It goes on by itself.
    Going,
    /// It is done.
    Done,
    /// It goes no further before people do something.
    Stuck,
}

fn stage(rollout: &Value) -> (Stage, String) {
    let condition = |kind: &str| {
        let all = rollout["conditions"].as_array().into_iter().flatten();
        all.into_iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
    };
    let text = |value: &Value| value.as_str().map(printable).unwrap_or_default();
    let (progressing, degraded) = (condition("Progressing"), condition("Degraded"));
    if rollout["observed-generation"].as_u64() < rollout["generation"].as_u64() {
        return (Stage::Going, "waits to be looked at".to_owned());
    }
    let is_failed = degraded["reason"] == "RolloutFailed" && degraded["status"] == "True";
    match progressing["reason"].as_str().unwrap_or_default() {
        "Complete" if is_failed => (Stage::Stuck, text(&degraded["message"])),
        "Complete" if rollout["available"] == rollout["desired"] => (
            Stage::Done,
            format!("{} processes run from revision {}", rollout["desired"], rollout["revision"]),
        ),
        "Complete" => (
            Stage::Going,
            format!("{} of {} processes do their work", rollout["available"], rollout["desired"]),
        ),
        "Failed" => (Stage::Stuck, text(&degraded["message"])),
        "Paused" => (Stage::Stuck, format!("paused: {}", text(&progressing["message"]))),
        _ => (Stage::Going, text(&progressing["message"])),
    }
}

/// Tells how far it has come, until it is done or goes no further.
pub(super) fn status(server: &ServerArguments, service: &str, watch: bool, timeout: Option<u64>) -> Outcome {
    let path = format!("{}/rollout", path(service)?);
    let client = Client::new(server)?;
    let limit = Limit::new(timeout);
    let mut told = String::new();
    loop {
        let (stage, message) = stage(&client.get(&path)?);
        if message != told {
            println!("{service}: {message}");
            told = message;
        }
        match stage {
            Stage::Done => return Ok(ExitCode::SUCCESS),
            Stage::Stuck => return Ok(ExitCode::FAILURE),
            Stage::Going if !watch => return Ok(ExitCode::SUCCESS),
            Stage::Going if limit.is_over() => {
                eprintln!("mainstay: {service}: the time is over; the rollout goes on");
                return Ok(TIMED_OUT.into());
            }
            Stage::Going => sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(progressing: &str, degraded: (&str, &str)) -> Value {
        json!({
            "generation": 3, "observed-generation": 3, "revision": 2, "desired": 3, "available": 3,
            "conditions": [
                {"type": "Progressing", "status": "False", "reason": progressing, "message": "1 of 3"},
                {"type": "Degraded", "status": degraded.0, "reason": degraded.1, "message": "why"},
            ],
            "revisions": [
                {"revision": 1, "created": "2026-01-01T00:00:00Z", "completed": true, "changes": []},
                {"revision": 2, "created": "2026-01-02T00:00:00Z", "completed": true, "changes": ["env.A", "command"]},
                {"revision": 3, "created": "2026-01-03T00:00:00Z", "completed": false, "failed": "it ends", "changes": ["env.A"]},
            ],
        })
    }

    #[test]
    fn a_rollout_is_done_when_all_run_from_it_and_do_their_work_and_not_before_it_was_looked_at() {
        let fine = ("False", "AsExpected");
        assert_eq!(stage(&rollout("Complete", fine)).0, Stage::Done);
        assert_eq!(stage(&rollout("RollingOut", fine)), (Stage::Going, "1 of 3".to_owned()));
        assert_eq!(stage(&rollout("Paused", fine)).0, Stage::Stuck);
        let failed = ("True", "RolloutFailed");
        assert_eq!(stage(&rollout("Failed", failed)), (Stage::Stuck, "why".to_owned()));
        assert_eq!(stage(&rollout("Complete", failed)).0, Stage::Stuck, "it went back by itself");
        assert_eq!(stage(&rollout("Complete", ("False", "RolledBack"))).0, Stage::Done);
        for (field, value) in [("observed-generation", 2), ("available", 2)] {
            let mut changed = rollout("Complete", fine);
            changed[field] = value.into();
            assert_eq!(stage(&changed).0, Stage::Going, "{field}");
        }
    }

    #[test]
    fn the_history_is_a_line_a_revision() {
        assert_eq!(
            table(&rollout("Complete", ("False", ""))),
            "REVISION  CREATED               STATE     CHANGES\n\
             1         2026-01-01T00:00:00Z  good\n\
             2         2026-01-02T00:00:00Z  current   env.A, command\n\
             3         2026-01-03T00:00:00Z  failed    env.A (it ends)\n"
        );
    }
}
