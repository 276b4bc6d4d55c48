//! `mainstay man`: a page for each command, from the same words as `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::{Cli, Outcome};

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Where to write a page a command, such as ~/.local/share/man/man1.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(arguments: &ManArguments) -> Outcome {
    let failed = |error| format!("{}: {error}", arguments.folder.display());
    std::fs::create_dir_all(&arguments.folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &arguments.folder).map_err(failed)?;
    println!("{}", arguments.folder.join("mainstay.1").display());
    Ok(ExitCode::SUCCESS)
}
