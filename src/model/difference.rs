//! What differs between two documents, field by field.
//!
//! A field is known by its path: names with dots between them, and `["…"]` around a name that is no plain word, such as a label with a `/`.
//! A list is one field, for its elements mostly are one command. An empty object is no field: it says what none says.
//!
//! **Invariant:** a secret is never told, be it sealed or a hash: it stands as [`SEALED`], and that it differs is still seen.
//! **Absent here:** what the system itself writes into a document (uid, versions, times, which revision a process runs from), and which file
//! it stands in: nobody has declared that.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Document;
use super::kinds::RevisionSpec;
use super::meta::{FILE, Metadata, SOURCE};

/// What stands in the place of a secret.
pub const SEALED: &str = "(sealed)";

/// Of which fields of a spec nobody is told more than that they are there.
const SECRETS: [&str; 3] = ["password", "password-hash", "client-secret-hash"];

/// Annotations by which the system keeps what it knows of an object.
const OURS: [&str; 2] = [SOURCE, FILE];

/// What a service's processes are started with; a change of anything else is no revision.
const OF_SERVICE: [&str; 7] = ["type", "name", "description", "log-level", "options", "command", "env"];
const OF_TYPE: [&str; 5] = ["command", "env", "artifact", "options-schema", "live-options"];

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FieldChange {
    /// Its path in the document, such as `spec.env.LEVEL` or `metadata.labels["example.org/zone"]`.
    pub path: String,
    /// What it was; left out where it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is; left out where it is not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// The fields that differ between two versions of a document, by path. One that does not exist, or is being deleted, has none.
pub fn difference(before: Option<&Document>, after: Option<&Document>) -> Vec<FieldChange> {
    let told = |document: Option<&Document>| {
        let declared = document.filter(|found| !found.is_deleting()).map(declared);
        declared.map_or_else(Leaves::new, |declared| leaves([("", declared)]))
    };
    let differing = differing(told(before), told(after));
    let change = |(path, before, after): (String, Option<Value>, Option<Value>)| {
        let is_secret = path.strip_prefix("spec.").is_some_and(|field| SECRETS.contains(&field));
        let shown = |value: Option<Value>| if is_secret { value.map(|_| SEALED.into()) } else { value };
        FieldChange { before: shown(before), after: shown(after), path }
    };
    differing.map(change).collect()
}

/// The paths of the fields in which two revisions of a service differ, as far as processes are started with them: those of the service,
/// `type.…` of its type, `instance.…` of its instance, and `restarted` where people asked for that. No values.
pub fn of_revisions(before: &RevisionSpec, after: &RevisionSpec) -> Vec<String> {
    let told = |revision: &RevisionSpec| {
        leaves([
            ("", only(json!(revision.template), &OF_SERVICE)),
            ("type", only(json!(revision.service_type), &OF_TYPE)),
            ("instance", json!(revision.instance)),
            ("restarted", json!(revision.restarted)),
        ])
    };
    differing(told(before), told(after)).map(|(path, _, _)| path).collect()
}

/// The paths of the fields in which two values differ.
pub fn paths(before: Value, after: Value) -> Vec<String> {
    differing(leaves([("", before)]), leaves([("", after)])).map(|(path, _, _)| path).collect()
}

/// What people declare with a document.
fn declared(document: &Document) -> Value {
    let Metadata { labels, annotations, .. } = &document.metadata;
    let mut annotations = annotations.clone();
    annotations.retain(|name, _| !OURS.contains(&name.as_str()));
    json!({
        "metadata": { "labels": labels, "annotations": annotations },
        "spec": document.spec.to_value(),
    })
}

/// The leaves of values, by path.
type Leaves = BTreeMap<String, Value>;

/// The leaves of some values, each below a path.
fn leaves<const N: usize>(parts: [(&str, Value); N]) -> Leaves {
    let mut found = Leaves::new();
    for (path, value) in parts {
        flatten(path.to_owned(), value, &mut found);
    }
    found
}

fn flatten(path: String, value: Value, found: &mut Leaves) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(below(&path, &name), value, found);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            found.insert(path, value);
        }
    }
}

/// Those that differ, by path: what was, and what is.
fn differing(
    mut before: Leaves,
    after: Leaves,
) -> impl Iterator<Item = (String, Option<Value>, Option<Value>)> {
    let mut all: BTreeMap<String, (Option<Value>, Option<Value>)> = BTreeMap::new();
    for (path, now) in after {
        let was = before.remove(&path);
        if was.as_ref() != Some(&now) {
            all.insert(path, (was, Some(now)));
        }
    }
    all.extend(before.into_iter().map(|(path, was)| (path, (Some(was), None))));
    all.into_iter().map(|(path, (before, after))| (path, before, after))
}

fn below(path: &str, name: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match name.chars().all(is_word) && !name.is_empty() {
        true if path.is_empty() => name.to_owned(),
        true => format!("{path}.{name}"),
        // Quoted as JSON quotes it, so that no name can be taken for a path.
        false => format!("{path}[{}]", Value::from(name)),
    }
}

fn only(object: Value, names: &[&str]) -> Value {
    match object {
        Value::Object(mut fields) => {
            fields.retain(|name, _| names.contains(&name.as_str()));
            Value::Object(fields)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Spec;
    use crate::model::kinds::{NodeSpec, ServiceSpec, ServiceTypeSpec, UserSpec};
    use crate::model::meta::PAUSED;
    use crate::model::secret::{Clear, KEY_BYTES, Sealer};

    fn document(spec: Spec) -> Document {
        let metadata = Metadata { name: "it".into(), namespace: "IN1".into(), ..Metadata::default() };
        Document { metadata, spec }
    }

    fn service() -> Document {
        let mut spec = ServiceSpec { kind: "web".into(), replicas: Some(2), ..ServiceSpec::default() };
        spec.command = Some(vec!["serve".into(), "--port=1".into()]);
        spec.env.insert("LEVEL".into(), "info".into());
        document(Spec::Service(spec))
    }

    /// Each as `path: before > after`.
    fn told(before: Option<&Document>, after: Option<&Document>) -> Vec<String> {
        let show = |value: Option<Value>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let line = |it: FieldChange| format!("{}: {} > {}", it.path, show(it.before), show(it.after));
        difference(before, after).into_iter().map(line).collect()
    }

    #[test]
    fn fields_are_told_by_path_with_what_was_and_what_is_and_a_list_is_one_field() {
        let before = service();
        let mut after = service();
        let Spec::Service(spec) = &mut after.spec else { unreachable!() };
        spec.command = Some(vec!["serve".into(), "--port=2".into()]);
        spec.env.insert("NAME".into(), "x".into());
        spec.env.remove("LEVEL");
        spec.replicas = Some(3);
        after.metadata.labels.insert("example.org/tier".into(), "web".into());
        after.metadata.annotations.insert(PAUSED.into(), "now".into());
        let expected = [
            r#"metadata.annotations["mainstay.dev/paused"]: - > "now""#,
            r#"metadata.labels["example.org/tier"]: - > "web""#,
            r#"spec.command: ["serve","--port=1"] > ["serve","--port=2"]"#,
            r#"spec.env.LEVEL: "info" > -"#,
            r#"spec.env.NAME: - > "x""#,
            "spec.replicas: 2 > 3",
        ];
        assert_eq!(told(Some(&before), Some(&after)), expected);
    }

    #[test]
    fn what_the_system_writes_itself_is_no_difference_and_neither_is_an_empty_object() {
        let before = service();
        let mut after = service();
        after.metadata.resource_version = "7".into();
        after.metadata.uid = "another".into();
        after.metadata.generation = 3;
        after.metadata.revision = 2;
        after.metadata.annotations.insert(SOURCE.into(), "folder x".into());
        after.metadata.annotations.insert(FILE.into(), "x.yaml".into());
        let Spec::Service(spec) = &mut after.spec else { unreachable!() };
        spec.options = Some(Default::default());
        assert_eq!(told(Some(&before), Some(&after)), [""; 0]);
    }

    #[test]
    fn what_is_made_has_all_its_fields_and_what_goes_has_none_even_while_it_is_going() {
        let all = told(None, Some(&service()));
        assert_eq!(all.len(), 5, "{all:?}");
        let mut going = service();
        going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        assert_eq!(told(Some(&service()), Some(&going)), told(Some(&service()), None));
        assert_eq!(told(Some(&going), None), [""; 0]);
    }

    #[test]
    fn a_secret_is_seen_to_differ_and_is_not_shown() {
        let sealer = Sealer::new([7; KEY_BYTES]);
        let node = |password: &str| {
            let password = Some(sealer.seal("Node IN1/it password", &Clear::new(password)));
            document(Spec::Node(NodeSpec { password, ..NodeSpec::default() }))
        };
        let sealed = r#""(sealed)" > "(sealed)""#;
        assert_eq!(told(Some(&node("butter")), Some(&node("jam"))), [format!("spec.password: {sealed}")]);
        let user = |hash: &str| {
            let hash = Some(hash.to_owned());
            let (password_hash, client_secret_hash) = (hash.clone(), hash);
            document(Spec::User(UserSpec { password_hash, client_secret_hash, ..UserSpec::default() }))
        };
        let expected =
            [format!("spec.client-secret-hash: {sealed}"), format!("spec.password-hash: {sealed}")];
        assert_eq!(told(Some(&user("a")), Some(&user("b"))), expected);
        let made = format!("{:?}", difference(None, Some(&node("butter"))));
        assert!(!made.contains("v1."), "{made}");
    }

    #[test]
    fn what_differs_in_revisions_is_told_by_its_path_and_never_by_its_value() {
        let service_type = ServiceTypeSpec { command: vec!["a".into()], ..ServiceTypeSpec::default() };
        let mut before = RevisionSpec { service_type: Box::new(service_type), ..RevisionSpec::default() };
        before.template.env.insert("TOKEN".into(), "butter".into());
        let mut after = before.clone();
        after.template.kind = "other".into();
        after.template.env.insert("TOKEN".into(), "jam".into());
        after.template.replicas = Some(7);
        after.template.options = Some([("port".to_owned(), json!(1))].into_iter().collect());
        after.service_type.command = vec!["b".into()];
        after.instance.insert("zk".into(), "z".into());
        after.restarted = Some("now".into());
        let expected = ["env.TOKEN", "instance.zk", "options.port", "restarted", "type", "type.command"];
        assert_eq!(of_revisions(&before, &after), expected);
        assert_eq!(of_revisions(&after, &after), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_two_fields_share_a_path(one in ".{0,4}", other in ".{0,4}", third in ".{0,4}") {
            let value = json!({ &one: { &other: 1 }, &third: 2, format!("{one}.{other}"): 3 });
            let count = paths(json!({}), value.clone()).len();
            let leaves: usize = value.as_object().unwrap().values()
                .map(|it| it.as_object().map_or(1, |it| it.len()))
                .sum();
            prop_assert_eq!(count, leaves);
        }
    }
}
