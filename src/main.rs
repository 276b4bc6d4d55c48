//! The `mainstay` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = mainstay::node::helper::run_if_asked() {
        return code;
    }
    ExitCode::SUCCESS
}
