//! The rules between documents: what one refers to has to exist, services are not started after each other in a circle, and a
//! service's options have to fit its type.

use std::collections::{BTreeMap, VecDeque};
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
                self.check_after(admitted, service, problems);
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

    /// What a service is started after has to exist, and must not wait for the service itself.
    fn check_after(&self, admitted: &Admitted, service: &ServiceSpec, problems: &mut Vec<Problem>) {
        let key = admitted.document.key();
        for (at, other) in service.after.iter().enumerate() {
            let pointer = format!("/spec/after/{at}");
            if *other == key.name {
                problems.push(
                    admitted.problem(&pointer, format!("{key} can't be started after itself; remove this")),
                );
                continue;
            }
            let other = Key::within(Kind::Service, key.namespace.as_str(), other.as_str());
            self.require(admitted, &pointer, &other, problems);
            let Some(cycle) = self.way_back(&key, other) else { continue };
            // Each circle is told once: where its first service stands that can be changed here.
            if cycle.iter().all(|member| *member >= key || !self.set.contains_key(member)) {
                let names: Vec<&str> =
                    cycle.iter().chain([&key]).map(|member| member.name.as_str()).collect();
                problems.push(admitted.problem(
                    &pointer,
                    format!("each would wait for the next for ever: {}; remove one", names.join(" → ")),
                ));
            }
        }
    }

    /// The shortest way from a service over one that it is started after back to itself: all services on it, beginning with
    /// itself; none when there is no such way.
    fn way_back(&self, service: &Key, over: Key) -> Option<Vec<Key>> {
        let mut came_from: BTreeMap<Key, Key> = BTreeMap::from([(over.clone(), service.clone())]);
        let mut next = VecDeque::from([over]);
        while let Some(at) = next.pop_front() {
            for other in self.after(&at) {
                if other == *service {
                    let mut way = vec![at];
                    while let Some(before) = way.last().and_then(|key| came_from.get(key)) {
                        way.push(before.clone());
                    }
                    way.reverse();
                    return Some(way);
                }
                if !came_from.contains_key(&other) {
                    came_from.insert(other.clone(), at.clone());
                    next.push_back(other);
                }
            }
        }
        None
    }

    /// What a service is started after.
    fn after(&self, key: &Key) -> Vec<Key> {
        let names = match self.set.get(key) {
            Some(admitted) => admitted.document.names(),
            None => self.known.find(key).map(|found| found.names()).unwrap_or_default(),
        };
        names.into_iter().filter(|named| named.kind == Kind::Service).collect()
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
    use crate::model::Documents;
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

    /// Services of IN1, each with what it is started after: the first in line 18, each of the others two lines below.
    fn services(after: &[(&str, &str)]) -> String {
        let service = |(name, after): &(&str, &str)| {
            format!(
                "{{apiVersion: mainstay.dev/v1, kind: Service, metadata: {{name: {name}, namespace: IN1}}, \
                 spec: {{name: a, type: web, after: [{after}]}}}}\n"
            )
        };
        after.iter().map(service).collect::<Vec<_>>().join("---\n")
    }

    #[test]
    fn a_service_is_started_after_others_that_exist() {
        assert_eq!(check(&services(&[("SV1", ""), ("SV2", "SV1"), ("SV3", "SV1, SV2")])), [""; 0]);
        assert_eq!(
            check(&services(&[("SV1", "SV9")])),
            ["x.yaml:18:120: spec.after[0]: Service IN1/SV9 does not exist; did you mean SV1?"]
        );
        assert_eq!(
            check(&services(&[("SV1", ""), ("SV2", "SV1, SV2")])),
            ["x.yaml:20:125: spec.after[1]: Service IN1/SV2 can't be started after itself; remove this"]
        );
    }

    #[test]
    fn services_that_wait_for_each_other_are_refused_with_the_whole_way() {
        let set = [("SV3", "SV1"), ("SV0", ""), ("SV1", "SV0, SV2"), ("SV2", "SV3"), ("SV4", "SV1")];
        assert_eq!(
            check(&services(&set)),
            [
                "x.yaml:22:125: spec.after[1]: each would wait for the next for ever: SV1 → SV2 → SV3 → SV1; remove one"
            ]
        );
    }

    #[test]
    fn a_circle_over_what_is_stored_is_told_where_it_is_closed() {
        let sealer = Sealer::new([1; KEY_BYTES]);
        let read = |text: &str| admit_text(text, &Origin::default(), &sealer).unwrap();
        let text = format!("{BASE}{}", services(&[("SV1", ""), ("SV2", "SV1"), ("SV3", "SV2")]));
        let stored: Documents = read(&text).into_iter().map(|admitted| admitted.document).collect();
        let found = lint(&read(&services(&[("SV1", "SV3")])), &stored);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.len() == 1 && found[0].contains("SV1 → SV3 → SV2 → SV1"), "{found:?}");
        assert_eq!(lint(&read(&services(&[("SV1", "")])), &stored).len(), 0);
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
