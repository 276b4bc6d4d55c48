//! `mainstay source`: where the server's manifests come from, and what it may delete.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, printable};
use super::{Outcome, ServerArguments, StatusOutput};

#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    #[command(subcommand)]
    command: SourceCommand,
}

#[derive(Debug, Subcommand)]
enum SourceCommand {
    /// List the folders and repositories, and what is wrong with any.
    List {
        #[command(flatten)]
        server: ServerArguments,
        /// How it is shown.
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: StatusOutput,
    },
    /// Let a source delete what it waits to delete, and apply the rest of its change.
    Approve {
        #[command(flatten)]
        server: ServerArguments,
        /// Approve these deletions only, as `mainstay source list` names them. [default: what waits now]
        #[arg(long, value_name = "DIGEST")]
        digest: Option<String>,
        /// The source's name, such as 'folder /etc/fleet'. [default: the only one that waits]
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

pub(super) fn run(arguments: &SourceArguments) -> Outcome {
    match &arguments.command {
        SourceCommand::List { server, output } => list(server, *output),
        SourceCommand::Approve { server, digest, name } => {
            approve(server, name.as_deref(), digest.as_deref())
        }
    }
}

fn list(server: &ServerArguments, output: StatusOutput) -> Outcome {
    let sources = Client::new(server)?.get("/sources")?;
    match output {
        StatusOutput::Text => {
            for source in sources.as_array().into_iter().flatten() {
                println!("{}", line(source));
                for line in troubles(source) {
                    println!("  {line}");
                }
            }
        }
        StatusOutput::Json => println!("{sources:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn approve(server: &ServerArguments, name: Option<&str>, digest: Option<&str>) -> Outcome {
    let client = Client::new(server)?;
    let sources = client.get("/sources")?;
    let source = waiting(&sources, name)?;
    let name = source["name"].as_str().unwrap_or_default();
    let given = digest.or(source["approval"]["digest"].as_str()).unwrap_or_default();
    let approved = client.post("/sources/approve", Some(&json!({ "source": name, "digest": given })))?;
    for object in approved["deletes"].as_array().into_iter().flatten() {
        println!("delete {}", object.as_str().map(printable).unwrap_or_default());
    }
    eprintln!("mainstay: {}: approved", printable(name));
    Ok(ExitCode::SUCCESS)
}

/// The source that waits, by its name or because no other does.
fn waiting<'a>(sources: &'a Value, name: Option<&str>) -> Result<&'a Value, String> {
    let all = sources.as_array().map_or(&[][..], Vec::as_slice);
    if let Some(name) = name {
        let known = || all.iter().filter_map(|it| it["name"].as_str()).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|source| source["name"] == name);
        return found
            .ok_or_else(|| format!("the server has no source {name:?}; it has: {}", printable(&known())));
    }
    let waiting: Vec<&Value> = all.iter().filter(|source| !source["approval"].is_null()).collect();
    match waiting.as_slice() {
        [] => Err("no source waits for an approval".into()),
        [one] => Ok(one),
        several => {
            let names = several.iter().filter_map(|it| it["name"].as_str()).collect::<Vec<_>>().join(", ");
            Err(format!("several sources wait; name one of them: {}", printable(&names)))
        }
    }
}

/// How a source is, in a line.
pub(super) fn line(source: &Value) -> String {
    let text = |name: &str| source[name].as_str().map(printable);
    let name = text("name").unwrap_or_default();
    let Some(applied) = text("applied") else { return format!("{name}: nothing applied yet") };
    let at = text("applied-revision").map(|at| format!(" at {at}")).unwrap_or_default();
    format!("{name}: {} documents{at}, applied {applied}", source["documents"])
}

/// What is wrong with a source, or waits.
pub(super) fn troubles(source: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(printable).unwrap_or_default();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    let problems = list(&source["problems"]);
    let revision = &source["revision"];
    if !problems.is_empty() {
        let what = if revision.is_null() { String::new() } else { format!("{} is ", text(revision)) };
        lines.push(format!("{what}refused, the last good state stays:"));
    }
    for problem in problems {
        lines.push(format!("  {}", text(&problem["message"])));
        let excerpt = problem["excerpt"].as_str().unwrap_or_default();
        lines.extend(excerpt.lines().map(|line| format!("  {}", printable(line))));
    }
    for object in list(&source["waiting"]) {
        lines.push(format!("{} waits for the older one of that name to go", text(&object)));
    }
    let approval = &source["approval"];
    if !approval.is_null() {
        let deletes = list(&approval["deletes"]);
        lines.push(format!(
            "held until `mainstay source approve` ({}), for it would delete {} of the {} objects that came from it:",
            text(&approval["digest"]),
            deletes.len(),
            approval["of"]
        ));
        lines.extend(deletes.iter().map(|object| format!("  {}", text(object))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_with_what_is_wrong_and_what_waits() {
        let source = json!({
            "name": "git /srv/fleet.git#main", "kind": "git", "revision": "b0b", "applied-revision": "a0a", "reads": 3,
            "applied": "2026-01-01T00:00:00Z", "documents": 7, "waiting": ["Tenant a"],
            "problems": [{"message": "a.yaml:1:3: no", "excerpt": "  1 | kind: x\n    |   ^"}],
            "approval": {"digest": "d1", "deletes": ["Tenant b"], "of": 9},
        });
        assert_eq!(
            line(&source),
            "git /srv/fleet.git#main: 7 documents at a0a, applied 2026-01-01T00:00:00Z"
        );
        assert_eq!(
            troubles(&source),
            [
                "b0b is refused, the last good state stays:",
                "  a.yaml:1:3: no",
                "    1 | kind: x",
                "      |   ^",
                "Tenant a waits for the older one of that name to go",
                "held until `mainstay source approve` (d1), for it would delete 1 of the 9 objects that came from it:",
                "  Tenant b",
            ]
        );
        assert_eq!(line(&json!({"name": "folder /x"})), "folder /x: nothing applied yet");
    }

    #[test]
    fn the_only_one_that_waits_need_not_be_named() {
        let source = |name: &str, waits: bool| json!({"name": name, "approval": if waits { json!({}) } else { Value::Null }});
        let name = |sources: Value, name: Option<&str>| waiting(&sources, name).map(|it| it["name"].clone());
        assert_eq!(name(json!([source("a", false), source("b", true)]), None), Ok("b".into()));
        assert_eq!(name(json!([source("a", true), source("b", true)]), Some("a")), Ok("a".into()));
        for (sources, named) in [
            (json!([source("a", false)]), None),
            (json!([source("a", true), source("b", true)]), None),
            (json!([source("a", true)]), Some("c")),
        ] {
            assert!(name(sources, named).is_err());
        }
    }
}
