//! What a doctor found: one line a check, with what to do where something is wrong.

use serde_json::{Value, json};

use super::super::StatusOutput;
use super::super::client::printable;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It will do, but.
    Warn,
    /// It will not do.
    Fail,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

/// All checks so far. Each is shown when it is made, for the next one may take its time.
pub(super) struct Report {
    output: StatusOutput,
    checks: Vec<Value>,
    failures: usize,
}

impl Report {
    pub(super) fn new(output: StatusOutput) -> Report {
        Report { output, checks: Vec::new(), failures: 0 }
    }

    pub(super) fn ok(&mut self, check: &str, message: &str) {
        self.push(State::Ok, check, message, None);
    }

    pub(super) fn warn(&mut self, check: &str, message: &str, fix: &str) {
        self.push(State::Warn, check, message, Some(fix));
    }

    pub(super) fn fail(&mut self, check: &str, message: &str, fix: &str) {
        self.push(State::Fail, check, message, Some(fix));
    }

    fn push(&mut self, state: State, check: &str, message: &str, fix: Option<&str>) {
        if state == State::Fail {
            self.failures += 1;
        }
        let message = printable(message);
        match self.output {
            StatusOutput::Text => {
                let fix = fix.map_or(String::new(), |fix| format!("; {fix}"));
                println!("{:<4}  {check:<10}  {message}{fix}", state.name());
            }
            StatusOutput::Json => self
                .checks
                .push(json!({ "check": check, "state": state.name(), "message": message, "fix": fix })),
        }
    }

    /// Shows what is not shown yet. How many checks failed.
    pub(super) fn end(self) -> usize {
        if self.output == StatusOutput::Json {
            println!("{:#}", json!({ "fine": self.failures == 0, "checks": self.checks }));
        }
        self.failures
    }
}
