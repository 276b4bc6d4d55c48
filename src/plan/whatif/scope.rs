//! What a change of documents may concern: the services that may be decided on otherwise, and so the nodes.

use std::collections::BTreeSet;

use crate::model::meta::{Key, Kind};
use crate::model::{Change, Document, Documents, Spec};

/// Services, by themselves or with all others of their instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// All of these instances.
    instances: BTreeSet<String>,
    /// These, and with each all that it is started after, and that is started after it.
    services: BTreeSet<Key>,
    /// Nodes beside those of all these: processes come to them on the way.
    nodes: BTreeSet<Key>,
}

impl Scope {
    /// What may come otherwise by one set of documents than by the other.
    pub(super) fn of(before: &Documents, now: &Documents) -> Scope {
        let mut scope = Scope::default();
        for Change { key, before: earlier, now: later } in now.changes_since(before) {
            for document in earlier.into_iter().chain(later) {
                for documents in [before, now] {
                    scope.touch(documents, key, document);
                }
            }
        }
        scope.tie([before, now]);
        scope
    }

    fn touch(&mut self, documents: &Documents, key: &Key, document: &Document) {
        let instance = key.namespace.as_str();
        let serving = |tenant: &Key| documents.tenant(tenant).and_then(|tenant| tenant.instance.clone());
        match &document.spec {
            Spec::Instance(_) => drop(self.instances.insert(key.name.clone())),
            // Where else a service may be, and how full all is.
            Spec::Node(_) => drop(self.instances.insert(instance.to_owned())),
            Spec::ServiceType(_) => {
                let of_type = documents.of_kind(Kind::Service).filter(|(service, _)| {
                    documents.service(service).is_some_and(|service| service.kind == key.name)
                });
                self.services.extend(of_type.map(|(service, _)| service.clone()));
            }
            Spec::Integration(_) => {
                let tenants = documents.naming(key.clone());
                self.instances.extend(tenants.filter_map(|(tenant, _)| serving(tenant)));
            }
            Spec::Tenant(tenant) => self.instances.extend(tenant.instance.clone()),
            Spec::User(user) => {
                let tenants = user.tenants.iter().map(|tenant| Key::cluster(Kind::Tenant, tenant.as_str()));
                self.instances.extend(tenants.filter_map(|tenant| serving(&tenant)));
            }
            Spec::Service(_) => drop(self.services.insert(key.clone())),
            Spec::Process(process) => {
                self.services.insert(Key::within(Kind::Service, instance, process.service.as_str()));
            }
            Spec::Revision(revision) => {
                self.services.insert(Key::within(Kind::Service, instance, revision.service.as_str()));
            }
            Spec::Event(_) => {}
        }
    }

    /// Adds what is started before or after what is in it.
    fn tie(&mut self, all: [&Documents; 2]) {
        let mut next: Vec<Key> = self.services.iter().cloned().collect();
        while let Some(key) = next.pop() {
            for documents in all {
                let after = documents.service(&key).map(|service| service.after.as_slice());
                let others = after.unwrap_or_default().iter();
                let others = others.map(|other| Key::within(Kind::Service, &*key.namespace, other.as_str()));
                let tied: Vec<Key> =
                    others.chain(documents.services_after(&key).map(|(by, _)| by.clone())).collect();
                for other in tied {
                    if self.services.insert(other.clone()) {
                        next.push(other);
                    }
                }
            }
        }
    }

    /// Takes in all other services of the instances as well.
    pub(super) fn widen(&mut self) {
        let services = std::mem::take(&mut self.services);
        self.instances.extend(services.into_iter().map(|service| service.namespace));
    }

    /// Whether all of an instance is concerned.
    pub(super) fn has_all_of(&self, instance: &str) -> bool {
        self.instances.contains(instance)
    }

    /// Takes in nodes as well. Answers whether any was not in it yet.
    pub(super) fn visit(&mut self, nodes: impl Iterator<Item = Key>) -> bool {
        let known = self.nodes.len();
        self.nodes.extend(nodes);
        self.nodes.len() > known
    }

    /// Whether a node is concerned, whatever is on it.
    pub(super) fn has_node(&self, node: &Key) -> bool {
        self.has_all_of(&node.namespace) || self.nodes.contains(node)
    }

    fn has_service(&self, instance: &str, service: &str) -> bool {
        self.has_all_of(instance) || self.services.contains(&Key::within(Kind::Service, instance, service))
    }

    /// Whether an object is decided on, or is among what that goes by. All that belongs to no service is.
    pub(super) fn has(&self, document: &Document) -> bool {
        let instance = document.metadata.namespace.as_str();
        match &document.spec {
            Spec::Service(_) => self.has_service(instance, &document.metadata.name),
            Spec::Process(process) => self.has_service(instance, &process.service),
            Spec::Revision(revision) => self.has_service(instance, &revision.service),
            Spec::Instance(_)
            | Spec::Integration(_)
            | Spec::ServiceType(_)
            | Spec::Tenant(_)
            | Spec::User(_)
            | Spec::Node(_) => true,
            Spec::Event(_) => false,
        }
    }

    /// Those of these documents that it has. Costs what it answers.
    pub(super) fn view(&self, documents: &Documents) -> Documents {
        let kinds =
            [Kind::Instance, Kind::Integration, Kind::ServiceType, Kind::Tenant, Kind::User, Kind::Node];
        let around = kinds.into_iter().flat_map(|kind| documents.of_kind(kind));
        let of_instances = self.instances.iter().flat_map(|instance| {
            let kinds = [Kind::Service, Kind::Process, Kind::Revision];
            kinds.into_iter().flat_map(move |kind| documents.within(kind, instance))
        });
        let alone = self.services.iter().filter(|service| !self.has_all_of(&service.namespace));
        let of_services = alone.flat_map(|service| {
            let itself = documents.get(service).into_iter();
            // What is there without its service, too.
            let processes =
                documents.processes_of(&service.namespace, &service.name).map(|(document, _)| document);
            let revisions = documents.revisions_of(service).map(|(document, _)| document);
            itself.chain(processes).chain(revisions)
        });
        let waiting = documents.waiting().map(|(_, document)| document).filter(|document| self.has(document));
        around
            .chain(of_instances)
            .map(|(_, document)| document)
            .chain(of_services)
            .chain(waiting)
            .cloned()
            .collect()
    }
}
