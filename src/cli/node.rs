//! `mainstay node`: what is done to a node by hand.

use std::process::ExitCode;

use super::client::{Client, printable};
use super::{Outcome, ServerArguments};
use crate::model::id::check_id;

pub(super) fn trust(server: &ServerArguments, node: &str) -> Outcome {
    let (instance, name) = node
        .split_once('/')
        .filter(|(instance, name)| check_id(instance).is_ok() && check_id(name).is_ok())
        .ok_or_else(|| format!("{node:?} names no node; write INSTANCE/NODE, such as IN1/ND1"))?;
    let client = Client::new(server)?;
    let answer = client.post(&format!("/1.0/instances/{instance}/nodes/{name}/trust"), None)?;
    // How its link is by now; where the new key is not the only trouble, the rest is said.
    let said = |name: &str| answer[name].as_str().map(printable);
    let state = said("state").unwrap_or_else(|| "tried again".into());
    match said("message") {
        Some(message) => println!("{node}: trusted; {message}"),
        None => println!("{node}: trusted; {state}"),
    }
    Ok(ExitCode::SUCCESS)
}
