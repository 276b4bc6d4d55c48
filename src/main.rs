//! The `mainstay` program: a helper when ssh or we start it as one, an answer when a shell asks how a line goes on, else the
//! command line.

use std::process::ExitCode;

use clap::Parser;

// The example service, so that a clean clone has something to run without building more.
#[path = "../examples/stand-in.rs"]
mod stand_in;

fn main() -> ExitCode {
    if let Some(code) = mainstay::node::helper::run_if_asked() {
        return code;
    }
    if let Some(code) = mainstay::cli::answer_if_asked() {
        return code;
    }
    if std::env::args().nth(1).as_deref() == Some("stand-in") {
        return match stand_in::run(std::env::args().skip(2)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("stand-in: {error}");
                ExitCode::FAILURE
            }
        };
    }
    mainstay::cli::Cli::parse().run()
}
