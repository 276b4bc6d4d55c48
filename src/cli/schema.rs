//! `mainstay schema`: one JSON Schema a kind.

use std::process::ExitCode;

use super::{Outcome, SchemaArguments};
use crate::model::Kind;
use crate::model::document::schema;

pub(super) fn run(arguments: &SchemaArguments) -> Outcome {
    std::fs::create_dir_all(&arguments.folder)?;
    for kind in Kind::ALL {
        let path = arguments.folder.join(format!("{}.json", file_name(kind)));
        std::fs::write(&path, format!("{:#}\n", schema(kind)))?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// `ServiceType` as `service-type`.
fn file_name(kind: Kind) -> String {
    let mut name = String::new();
    for (at, c) in kind.name().char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}
