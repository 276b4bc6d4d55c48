//! `mainstay token`: a new token, and what the server has to know of it.

use std::process::ExitCode;

use super::{Outcome, TokenArguments};
use crate::edge::make_token;

pub(super) fn run(arguments: &TokenArguments) -> Outcome {
    let (token, line) = make_token(&arguments.name, arguments.role)?;
    println!("{token}");
    println!("{line}");
    eprintln!(
        "mainstay: the first line is the token, which is kept nowhere; the second goes into the server's file of --tokens"
    );
    Ok(ExitCode::SUCCESS)
}
