//! The rules between documents: what one refers to has to exist, and a service's options have to fit its type.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::admit::{Admitted, property_names};
use super::document::{Document, Spec};
use super::id::did_you_mean;
use super::kinds::ServiceSpec;
use super::locate::escape;
use super::meta::{Key, Kind};
use super::problem::Problem;

/// What there is besides the documents that are checked.
pub trait Known {
    /// The object, if there is one that is not being deleted.
    fn find(&self, key: &Key) -> Option<Arc<Document>>;
    /// The names of a kind's objects in an instance, for "did you mean".
    fn names(&self, kind: Kind, namespace: &str) -> Vec<String>;
}

/// Checks documents that are to be applied together against each other and what there is.
pub fn lint(set: &[Admitted], known: &impl Known) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut first: BTreeMap<Key, &Admitted> = BTreeMap::new();
    for admitted in set {
        let key = admitted.document.key();
        match first.get(&key) {
            None => {
                first.insert(key, admitted);
            }
            Some(earlier) => {
                let place = earlier.place().map(|place| format!(" at {place}")).unwrap_or_default();
                problems.push(
                    admitted.problem(
                        "/metadata/name",
                        format!("{key} stands already{place}; rename or remove one"),
                    ),
                );
            }
        }
    }
    let world = World { set: &first, known };
    for admitted in set {
        world.check(admitted, &mut problems);
    }
    problems
}

struct World<'a, K> {
    set: &'a BTreeMap<Key, &'a Admitted>,
    known: &'a K,
}

impl<K: Known> World<'_, K> {
    fn find(&self, key: &Key) -> Option<Arc<Document>> {
        match self.set.get(key) {
            Some(admitted) => Some(Arc::new(admitted.document.clone())),
            None => self.known.find(key),
        }
    }

    fn require(&self, admitted: &Admitted, pointer: &str, key: &Key, problems: &mut Vec<Problem>) {
        let exists = self.set.contains_key(key) || self.known.find(key).is_some();
        if exists {
            return;
        }
        let mut names = self.known.names(key.kind, &key.namespace);
        names.extend(
            self.set
                .keys()
                .filter(|other| other.kind == key.kind && other.namespace == key.namespace)
                .map(|other| other.name.clone()),
        );
        names.sort();
        names.dedup();
        let fix = match did_you_mean(&key.name, names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant}?"),
            None if names.is_empty() => format!("there is no {} yet", key.kind),
            None if names.len() <= 8 => format!("there are {}", names.join(", ")),
            None => format!("there are {} others", names.len()),
        };
        problems.push(admitted.problem(pointer, format!("{key} does not exist; {fix}")));
    }

    fn check(&self, admitted: &Admitted, problems: &mut Vec<Problem>) {
        let document = &admitted.document;
        let instance = &document.metadata.namespace;
        if document.spec.kind().is_namespaced() {
            self.require(
                admitted,
                "/metadata/namespace",
                &Key::cluster(Kind::Instance, instance.as_str()),
                problems,
            );
        }
        match &document.spec {
            Spec::Service(service) => {
                self.require(
                    admitted,
                    "/spec/type",
                    &Key::cluster(Kind::ServiceType, service.kind.as_str()),
                    problems,
                );
                for (at, node) in service.nodes.iter().flatten().enumerate() {
                    let key = Key::within(Kind::Node, instance.as_str(), node.as_str());
                    self.require(admitted, &format!("/spec/nodes/{at}"), &key, problems);
                }
                self.check_options(admitted, service, problems);
            }
            Spec::Process(process) => {
                let service = Key::within(Kind::Service, instance.as_str(), process.service.as_str());
                self.require(admitted, "/spec/service", &service, problems);
                let node = Key::within(Kind::Node, instance.as_str(), process.node.as_str());
                self.require(admitted, "/spec/node", &node, problems);
            }
            Spec::Tenant(tenant) => {
                if let Some(instance) = &tenant.instance {
                    let key = Key::cluster(Kind::Instance, instance.as_str());
                    self.require(admitted, "/spec/instance", &key, problems);
                }
                for (at, name) in tenant.integrations.iter().enumerate() {
                    let key = Key::cluster(Kind::Integration, name.as_str());
                    self.require(admitted, &format!("/spec/integrations/{at}"), &key, problems);
                }
            }
            Spec::User(user) => {
                for (at, name) in user.tenants.iter().enumerate() {
                    let key = Key::cluster(Kind::Tenant, name.as_str());
                    self.require(admitted, &format!("/spec/tenants/{at}"), &key, problems);
                }
            }
            Spec::Instance(_)
            | Spec::Integration(_)
            | Spec::ServiceType(_)
            | Spec::Node(_)
            | Spec::Revision(_)
            | Spec::Event(_) => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "another crate's list of mistakes; all others share one message"
    )]
    fn check_options(&self, admitted: &Admitted, service: &ServiceSpec, problems: &mut Vec<Problem>) {
        let Some(found) = self.find(&Key::cluster(Kind::ServiceType, service.kind.as_str())) else { return };
        let Spec::ServiceType(service_type) = &found.spec else { return };
        if service.command.is_none() && service_type.command.is_empty() {
            problems.push(admitted.problem(
                "/spec",
                format!("`command` is missing: the type {} has none of its own", service.kind),
            ));
        }
        let schema = Value::Object(service_type.options_schema.clone());
        let Ok(validator) = jsonschema::validator_for(&schema) else { return };
        let options = Value::Object(service.options.clone().unwrap_or_default());
        for error in validator.iter_errors(&options) {
            let pointer = format!("/spec/options{}", error.instance_path().as_str());
            problems.push(match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    let name = unexpected.first().map_or("", String::as_str);
                    let known = property_names(&schema);
                    let fix = match did_you_mean(name, known.iter().copied()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("known: {}", known.join(", ")),
                    };
                    admitted.problem_with_key(
                        &format!("{pointer}/{}", escape(name)),
                        format!("the type {} has no option `{name}`; {fix}", service.kind),
                    )
                }
                _ => admitted.problem(&pointer, error.masked_with("the value").to_string()),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::admit::{Origin, admit_text};
    use crate::model::secret::{KEY_BYTES, Sealer};

    struct Nothing;
    impl Known for Nothing {
        fn find(&self, _: &Key) -> Option<Arc<Document>> {
            None
        }
        fn names(&self, _: Kind, _: &str) -> Vec<String> {
            Vec::new()
        }
    }

    const BASE: &str = "apiVersion: mainstay.dev/v1
kind: Instance
metadata: {name: IN1}
spec: {name: a, zk: 'z:1', redis: 'redis://r'}
---
apiVersion: mainstay.dev/v1
kind: Node
metadata: {name: ND1, namespace: IN1}
spec: {name: a, ip-address: 127.0.0.1, transport: local}
---
apiVersion: mainstay.dev/v1
kind: ServiceType
metadata: {name: web}
spec:
  command: [web]
  options-schema: {type: object, additionalProperties: false, properties: {port: {type: integer}}}
---
";

    fn check(rest: &str) -> Vec<String> {
        let origin = Origin { file: Some("x.yaml".into()), directory: None };
        let set = admit_text(&format!("{BASE}{rest}"), &origin, &Sealer::new([1; KEY_BYTES])).unwrap();
        lint(&set, &Nothing).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_document_names_has_to_exist() {
        let found = check(
            "apiVersion: mainstay.dev/v1\nkind: Process\nmetadata: {name: p1, namespace: IN1}\nspec: {service: SV9, node: ND2}\n",
        );
        assert_eq!(
            found,
            [
                "x.yaml:21:17: spec.service: Service IN1/SV9 does not exist; there is no Service yet",
                "x.yaml:21:28: spec.node: Node IN1/ND2 does not exist; did you mean ND1?",
            ]
        );
    }

    #[test]
    fn the_same_object_twice_names_both_places() {
        let found = check(
            "apiVersion: mainstay.dev/v1\nkind: Instance\nmetadata: {name: IN1}\nspec: {name: b, zk: z, redis: r}\n",
        );
        assert_eq!(
            found,
            ["x.yaml:20:18: metadata.name: Instance IN1 stands already at x.yaml:1; rename or remove one"]
        );
    }

    #[test]
    fn options_are_checked_against_the_type() {
        let service = |options: &str| {
            check(&format!(
                "apiVersion: mainstay.dev/v1\nkind: Service\nmetadata: {{name: SV1, namespace: IN1}}\n\
                 spec: {{name: a, type: web, options: {options}}}\n"
            ))
        };
        assert_eq!(service("{port: 1}"), Vec::<String>::new());
        assert_eq!(
            service("{prot: 1}"),
            ["x.yaml:21:38: spec.options.prot: the type web has no option `prot`; did you mean `port`?"]
        );
        assert_eq!(service("{port: x}").len(), 1);
    }
}
