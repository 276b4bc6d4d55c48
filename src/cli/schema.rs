//! `mainstay schema`: one JSON Schema a kind, one for files that hold several kinds, and the description of the API.

use std::process::ExitCode;

use super::{Outcome, SchemaArguments};
use crate::api;
use crate::model::Kind;
use crate::model::document::{schema, schema_of_all};

pub(super) fn run(arguments: &SchemaArguments) -> Outcome {
    std::fs::create_dir_all(&arguments.folder)?;
    let document = api::document();
    let kinds = Kind::ALL.map(|kind| (file_name(kind), schema(kind)));
    let others = [("mainstay", schema_of_all()), ("openapi", document.clone())];
    for (name, value) in kinds.into_iter().chain(others.map(|(name, value)| (name.to_owned(), value))) {
        let path = arguments.folder.join(format!("{name}.json"));
        std::fs::write(&path, format!("{value:#}\n"))?;
        println!("{}", path.display());
    }
    if let Some(path) = &arguments.page {
        std::fs::write(path, api::page(&document))?;
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
