//! `mainstay explain`: why something is as it is, by a server; or what a field means, without one.

use std::process::ExitCode;

use super::client::{Client, printable};
use super::fields::Field;
use super::kind::kind;
use super::{ExplainArguments, Outcome, StatusOutput, named};
use crate::model::Kind;
use crate::model::id::check_id;

pub(super) fn run(arguments: &ExplainArguments) -> Outcome {
    let typed = arguments.kind.as_str();
    // `service/IN1/SV1` is one word for both.
    match (&arguments.name, typed.split_once('/')) {
        (Some(name), None) => object(arguments, typed, name),
        (None, Some((kind, name))) => object(arguments, kind, name),
        (Some(_), Some(_)) => Err(format!("{typed:?} has a name in it already; write one of the two").into()),
        (None, None) => {
            let field = Field::find(typed)?;
            match arguments.output {
                StatusOutput::Text => print!("{}", field.told(arguments.recursive)),
                StatusOutput::Json => println!("{:#}", field.value(arguments.recursive)),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn object(arguments: &ExplainArguments, typed: &str, name: &str) -> Outcome {
    let explanation = Client::new(&arguments.server)?.get(&path(kind(typed)?, name)?)?;
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

fn path(kind: Kind, name: &str) -> Result<String, String> {
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
        Kind::Instance => alone("instances", name),
        Kind::Node => within("node", "nodes", "IN1/ND1"),
        Kind::Service => within("service", "services", "IN1/SV1"),
        // As it stands in messages, with its instance, or by its id, which is unique.
        Kind::Process => alone("processes", name.split_once('/').map_or(name, |(_, id)| id)),
        Kind::Integration | Kind::ServiceType | Kind::Tenant | Kind::User | Kind::Revision | Kind::Event => {
            Err(format!(
                "there is nothing to say why a {kind} is as it is; what its fields mean is told without a name"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_named_as_everywhere() {
        let path = |kind, name| path(kind, name).ok();
        let said = |path: &str| Some(format!("/1.0/explain/{path}"));
        assert_eq!(path(Kind::Instance, "IN1"), said("instances/IN1"));
        assert_eq!(path(Kind::Node, "IN1/ND1"), said("instances/IN1/nodes/ND1"));
        assert_eq!(path(Kind::Service, "IN1/SV1"), said("instances/IN1/services/SV1"));
        assert_eq!(path(Kind::Process, "IN1/a-b"), said("processes/a-b"));
        assert_eq!(path(Kind::Process, "a-b"), said("processes/a-b"));
        for (kind, name) in [
            (Kind::Instance, "IN1/x"),
            (Kind::Node, "ND1"),
            (Kind::Service, "IN1/"),
            (Kind::Process, "a?b"),
            (Kind::Tenant, "a"),
        ] {
            assert_eq!(path(kind, name), None, "{name}");
        }
    }
}
