//! What a service's processes are started with, as a whole: the revision that it is now, and the one that a process is to run from.
//!
//! A revision is cut when something changes that a running process can't take in: its command, environment, artifact or options, or
//! what these use of the instance and the service. So all such changes reach the processes by one way, step by step.
//!
//! **Absent here:** what differs from node to node. A process of a changed node starts anew at once, for that is one node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::render::{effective_options, hash, instance_value};
use crate::model::kinds::{Object, RevisionSpec, ServiceSpec, ServiceTypeSpec};
use crate::model::meta::RESTARTED;
use crate::model::template::{Renderer, with_aliases};
use crate::model::{Document, Documents, Key, Kind};

/// Services as they are declared now, for who asks of many: what the templates of a type ask for is found out once, and so is what an
/// instance is to them.
#[derive(Debug)]
pub struct Declarations<'a> {
    documents: &'a Documents,
    /// What is asked for by type, where a service has no templates of its own.
    of_types: BTreeMap<&'a str, Arc<BTreeSet<String>>>,
    /// Instances, as templates see them, by id.
    instances: BTreeMap<&'a str, Value>,
}

impl<'a> Declarations<'a> {
    /// Nothing is found out yet.
    pub const fn new(documents: &'a Documents) -> Declarations<'a> {
        Declarations { documents, of_types: BTreeMap::new(), instances: BTreeMap::new() }
    }

    /// The revision that a service is; its number is yet to be given. None when its type does not exist.
    pub fn of(&mut self, document: &'a Document, service: &'a ServiceSpec) -> Option<RevisionSpec> {
        let service_type = self.type_of(service)?;
        let (variables, instance) = self.asked(document, service, service_type);
        let restarted = document.metadata.annotations.get(RESTARTED).cloned();
        Some(RevisionSpec {
            service: document.metadata.name.clone(),
            hash: hash_of(service, service_type, &instance, &variables, restarted.as_deref()),
            template: Box::new(service.clone()),
            service_type: Box::new(service_type.clone()),
            instance,
            restarted,
            ..RevisionSpec::default()
        })
    }

    /// Whether a service is this revision of it.
    pub fn is(&mut self, document: &'a Document, service: &'a ServiceSpec, revision: &RevisionSpec) -> bool {
        let Some(service_type) = self.type_of(service) else { return false };
        // Mostly nothing has changed, and that is sooner seen than a hash is made.
        let is_same = *revision.template == *service
            && *revision.service_type == *service_type
            && document.metadata.annotations.get(RESTARTED) == revision.restarted.as_ref();
        if is_same && self.asked(document, service, service_type).1 == revision.instance {
            return true;
        }
        self.of(document, service).is_some_and(|declared| declared.hash == revision.hash)
    }

    /// The last of these revisions that a service is; one that is going is none. The last one is looked at first, for mostly nothing
    /// has changed.
    pub fn find(
        &mut self,
        document: &'a Document,
        service: &'a ServiceSpec,
        revisions: &[(&'a Arc<Document>, &'a RevisionSpec)],
    ) -> Option<(&'a Arc<Document>, &'a RevisionSpec)> {
        let mut all = revisions.iter().rev().filter(|(found, _)| !found.is_deleting());
        all.find(|(_, revision)| self.is(document, service, revision)).copied()
    }

    fn type_of(&self, service: &ServiceSpec) -> Option<&'a ServiceTypeSpec> {
        self.documents.service_type(&Key::cluster(Kind::ServiceType, service.kind.as_str()))
    }

    /// All that a service's templates ask for, and what that is of its instance.
    fn asked(
        &mut self,
        document: &'a Document,
        service: &'a ServiceSpec,
        service_type: &ServiceTypeSpec,
    ) -> (Arc<BTreeSet<String>>, Object) {
        let find = || Arc::new(variables(service, service_type));
        let is_plain = service.command.is_none() && service.env.is_empty();
        let variables = if is_plain {
            Arc::clone(self.of_types.entry(&service.kind).or_insert_with(find))
        } else {
            find()
        };
        let id = document.metadata.namespace.as_str();
        let instance = self.instances.entry(id).or_insert_with(|| instance_value(self.documents, id));
        let instance = used(instance, "instance", &variables);
        (variables, instance)
    }
}

/// What the templates ask for.
fn variables(service: &ServiceSpec, service_type: &ServiceTypeSpec) -> BTreeSet<String> {
    let renderer = Renderer::default();
    let command = service.command.as_ref().unwrap_or(&service_type.command);
    let env = service_type.env.values().chain(service.env.values());
    command.iter().chain(env).flat_map(|template| renderer.variables(template)).collect()
}

/// The fields of an object that are asked for; all of them where that can't be told.
fn used(object: &Value, name: &str, variables: &BTreeSet<String>) -> Object {
    let prefix = format!("{name}.");
    if !variables.iter().any(|variable| variable == name || variable.starts_with(&prefix)) {
        return Object::new();
    }
    let object = with_aliases(object.clone());
    let Value::Object(object) = object else { return Object::new() };
    if variables.contains(name) {
        return object;
    }
    let field = |variable: &String| Some(variable.strip_prefix(&prefix)?.split('.').next()?.to_owned());
    let fields: BTreeSet<String> = variables.iter().filter_map(field).collect();
    object.into_iter().filter(|(name, _)| fields.contains(name)).collect()
}

fn hash_of(
    service: &ServiceSpec,
    service_type: &ServiceTypeSpec,
    instance: &Object,
    variables: &BTreeSet<String>,
    restarted: Option<&str>,
) -> String {
    let command = service.command.as_ref().unwrap_or(&service_type.command);
    let mut env = service_type.env.clone();
    env.extend(service.env.clone());
    let mut fixed = effective_options(service, service_type);
    fixed.retain(|name, _| !service_type.live_options.contains(name));
    let artifact =
        service_type.artifact.as_ref().map(|artifact| (artifact.address.as_ref(), artifact.path.as_str()));
    let mut own = json!(service);
    // A template that uses all of the service would make a change of everything.
    if let Some(own) = own.as_object_mut() {
        own.remove("running");
    }
    let own = used(&own, "service", variables);
    hash(&[&json!([command, env, fixed, artifact, instance, own, restarted]).to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kinds::InstanceSpec;
    use crate::model::{Metadata, Spec};

    fn service() -> ServiceSpec {
        ServiceSpec { kind: "web".into(), name: "front".into(), ..ServiceSpec::default() }
    }

    fn service_type() -> ServiceTypeSpec {
        let command = ["serve", "--zk={{ instance.zk }}", "--name={{ service.name }}"];
        ServiceTypeSpec {
            command: command.map(str::to_owned).to_vec(),
            live_options: vec!["level".into()],
            ..ServiceTypeSpec::default()
        }
    }

    fn instance() -> InstanceSpec {
        InstanceSpec { zk: "z:1".into(), redis: "r:1".into(), ..InstanceSpec::default() }
    }

    fn hash_with(service: ServiceSpec, kind: ServiceTypeSpec, instance: InstanceSpec) -> String {
        let named = |namespace: &str, name: &str| Metadata {
            name: name.into(),
            namespace: namespace.into(),
            ..Metadata::default()
        };
        let document = Document { metadata: named("IN1", "SV1"), spec: Spec::Service(service.clone()) };
        let documents: Documents = [
            Document { metadata: named("", "IN1"), spec: Spec::Instance(instance) },
            Document { metadata: named("", "web"), spec: Spec::ServiceType(kind) },
            document.clone(),
        ]
        .into_iter()
        .collect();
        Declarations::new(&documents).of(&document, &service).expect("its type exists").hash
    }

    #[test]
    fn a_revision_changes_with_what_a_process_is_started_with_and_with_nothing_else() {
        let before = hash_with(service(), service_type(), instance());
        let option = |name: &str| {
            let mut changed = service();
            changed.options = Some([(name.to_owned(), json!(1))].into_iter().collect());
            changed
        };
        let same = [
            hash_with(
                ServiceSpec { replicas: Some(3), running: Some(false), ..service() },
                service_type(),
                instance(),
            ),
            hash_with(ServiceSpec { description: Some("x".into()), ..service() }, service_type(), instance()),
            hash_with(option("level"), service_type(), instance()),
            hash_with(service(), service_type(), InstanceSpec { redis: "other".into(), ..instance() }),
        ];
        assert!(same.iter().all(|hash| *hash == before), "{same:?}");
        let mut env = service();
        env.env.insert("A".into(), "1".into());
        let others = [
            hash_with(option("port"), service_type(), instance()),
            hash_with(env, service_type(), instance()),
            hash_with(ServiceSpec { name: "other".into(), ..service() }, service_type(), instance()),
            hash_with(service(), service_type(), InstanceSpec { zk: "other".into(), ..instance() }),
        ];
        assert!(others.iter().all(|hash| *hash != before), "{others:?}");
    }
}
