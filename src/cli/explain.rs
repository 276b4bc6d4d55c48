//! `mainstay explain`: why something is as it is.

use std::process::ExitCode;

use super::client::{Client, printable};
use super::{ExplainArguments, ExplainKind, Outcome, StatusOutput, named};
use crate::model::id::check_id;

pub(super) fn run(arguments: &ExplainArguments) -> Outcome {
    let explanation = Client::new(&arguments.server)?.get(&path(arguments.kind, &arguments.name)?)?;
    match arguments.output {
        StatusOutput::Text => {
            for line in explanation["lines"].as_array().into_iter().flatten() {
                println!("{}", line.as_str().map(printable).unwrap_or_default());
            }
        }
        StatusOutput::Json => println!("{explanation:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn path(kind: ExplainKind, name: &str) -> Result<String, String> {
    let explain = "/1.0/explain";
    let alone = |noun: &str, name: &str| match check_id(name) {
        Ok(()) => Ok(format!("{explain}/{noun}/{name}")),
        Err(why) => Err(why),
    };
    let within = |what: &str, noun: &str, example: &str| {
        let (instance, id) = named(name, what, example)?;
        Ok(format!("{explain}/instances/{instance}/{noun}/{id}"))
    };
    match kind {
        ExplainKind::Instance => alone("instances", name),
        ExplainKind::Node => within("node", "nodes", "IN1/ND1"),
        ExplainKind::Service => within("service", "services", "IN1/SV1"),
        // As it stands in messages, with its instance, or by its id, which is unique.
        ExplainKind::Process => alone("processes", name.split_once('/').map_or(name, |(_, id)| id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_named_as_everywhere() {
        let path = |kind, name| path(kind, name).ok();
        let said = |path: &str| Some(format!("/1.0/explain/{path}"));
        assert_eq!(path(ExplainKind::Instance, "IN1"), said("instances/IN1"));
        assert_eq!(path(ExplainKind::Node, "IN1/ND1"), said("instances/IN1/nodes/ND1"));
        assert_eq!(path(ExplainKind::Service, "IN1/SV1"), said("instances/IN1/services/SV1"));
        assert_eq!(path(ExplainKind::Process, "IN1/a-b"), said("processes/a-b"));
        assert_eq!(path(ExplainKind::Process, "a-b"), said("processes/a-b"));
        for (kind, name) in [
            (ExplainKind::Instance, "IN1/x"),
            (ExplainKind::Node, "ND1"),
            (ExplainKind::Service, "IN1/"),
            (ExplainKind::Process, "a?b"),
        ] {
            assert_eq!(path(kind, name), None, "{name}");
        }
    }
}
