//! Which nodes a change of the documents concerns. What should be on any other node is what should have been there before, so that
//! nobody has to find that out anew ([`super::render::desired`]).

use std::collections::BTreeSet;

use crate::model::meta::{Key, Kind};
use crate::model::{Change, Document, Documents, Spec};

/// The nodes that a change concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Every node.
    everything: bool,
    /// Every node of these instances.
    instances: BTreeSet<String>,
    /// These nodes.
    nodes: BTreeSet<Key>,
}

impl Touched {
    /// Whether a node is one of them.
    pub fn contains(&self, node: &Key) -> bool {
        self.everything || self.nodes.contains(node) || self.instances.contains(&node.namespace)
    }
}

/// The nodes on which something else may have to be by one set of documents than by an earlier one. Costs what has changed and
/// what that concerns, where one set was made from the other by changing it.
pub fn touched(before: &Documents, now: &Documents) -> Touched {
    let mut touched = Touched::default();
    for Change { key, before: earlier, now: later } in now.changes_since(before) {
        for document in earlier.into_iter().chain(later).filter(|document| !document.metadata.waiting) {
            for documents in [before, now] {
                touch(&mut touched, documents, key, document);
            }
        }
    }
    touched
}

/// Adds whom a document concerns, as these documents refer to it and it to them.
fn touch(touched: &mut Touched, documents: &Documents, key: &Key, document: &Document) {
    let instance = key.namespace.as_str();
    let serving = |tenant: &Key| documents.tenant(tenant).and_then(|tenant| tenant.instance.clone());
    match &document.spec {
        Spec::Instance(_) => {
            touched.instances.insert(key.name.clone());
        }
        // Its services are not known without looking at all of them, and it changes with a release.
        Spec::ServiceType(_) => touched.everything = true,
        Spec::Integration(_) => {
            let tenants = documents.naming(key.clone());
            touched.instances.extend(tenants.filter_map(|(tenant, _)| serving(tenant)));
        }
        Spec::Tenant(tenant) => touched.instances.extend(tenant.instance.clone()),
        Spec::User(user) => {
            let tenants = user.tenants.iter().map(|tenant| Key::cluster(Kind::Tenant, tenant.as_str()));
            touched.instances.extend(tenants.filter_map(|tenant| serving(&tenant)));
        }
        Spec::Node(_) => {
            touched.nodes.insert(key.clone());
        }
        Spec::Service(service) => {
            touched.nodes.extend(nodes_of(documents, instance, &key.name));
            // What one may do depends on when those around it were written.
            for other in &service.after {
                touched.nodes.extend(nodes_of(documents, instance, other));
            }
            for (other, _) in documents.services_after(key) {
                touched.nodes.extend(nodes_of(documents, instance, &other.name));
            }
        }
        Spec::Revision(revision) => touched.nodes.extend(nodes_of(documents, instance, &revision.service)),
        Spec::Process(process) => {
            touched.nodes.insert(node_key(instance, &process.node));
        }
        Spec::Event(_) => {}
    }
}

/// The nodes of a service's processes.
fn nodes_of(documents: &Documents, instance: &str, service: &str) -> Vec<Key> {
    documents.processes_of(instance, service).map(|(_, process)| node_key(instance, &process.node)).collect()
}

fn node_key(instance: &str, node: &str) -> Key {
    Key::within(Kind::Node, instance, node)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::Metadata;
    use crate::model::kinds::{
        InstanceSpec, IntegrationSpec, NodeSpec, ProcessSpec, ServiceSpec, ServiceTypeSpec, TenantSpec,
        UserSpec,
    };
    use crate::plan::render::{Surroundings, desired};

    fn few() -> impl Strategy<Value = String> {
        prop_oneof![Just("a"), Just("b")].prop_map(str::to_owned)
    }

    /// Any document, of which there are so few that many refer to each other. What `text` says, is told on nodes.
    fn document() -> impl Strategy<Value = Document> {
        let flags = any::<[bool; 2]>();
        (few(), few(), few(), few(), few(), flags, 0..8_u8).prop_map(
            |(name, instance, one, other, text, [is_deleting, waiting], kind)| {
                let spec = match kind {
                    0 => Spec::Instance(InstanceSpec { redis: text, ..InstanceSpec::default() }),
                    1 => Spec::Integration(IntegrationSpec { display: text, ..IntegrationSpec::default() }),
                    2 => Spec::ServiceType(ServiceTypeSpec {
                        command: vec![format!("{text} {{{{ node.name }}}}")],
                        ..ServiceTypeSpec::default()
                    }),
                    3 => Spec::Tenant(TenantSpec {
                        name: text,
                        instance: Some(one),
                        integrations: vec![other],
                        ..TenantSpec::default()
                    }),
                    4 => Spec::User(UserSpec { name: text, tenants: vec![one], ..UserSpec::default() }),
                    5 => Spec::Node(NodeSpec { name: text, ..NodeSpec::default() }),
                    6 => Spec::Service(ServiceSpec { kind: one, name: text, ..ServiceSpec::default() }),
                    _ => Spec::Process(ProcessSpec { service: one, node: other, running: None }),
                };
                let namespace = if spec.kind().is_namespaced() { instance } else { String::new() };
                let deletion_timestamp = (is_deleting && waiting).then(|| "2026-01-01T00:00:00Z".to_owned());
                let waiting = waiting && !is_deleting;
                let metadata =
                    Metadata { name, namespace, deletion_timestamp, waiting, ..Metadata::default() };
                Document { metadata, spec }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn on_a_node_that_is_not_touched_is_to_be_what_was_to_be(
            all in vec(document(), 0..60),
            changes in vec((document(), any::<bool>()), 0..4),
        ) {
            let before: Documents = all.into_iter().collect();
            let mut now = before.clone();
            for (document, is_there) in changes {
                if is_there {
                    now.insert(document);
                } else {
                    now.remove(&document.key());
                }
            }
            let touched = touched(&before, &now);
            let surroundings = Surroundings { mainstay: "/m".into(), root: Some("/r".into()) };
            for node in ["a", "b"].iter().flat_map(|one| ["a", "b"].map(|other| node_key(one, other))) {
                let at = |documents| desired(documents, &node, &surroundings);
                prop_assert!(touched.contains(&node) || at(&before) == at(&now), "{} in {:?}", node, touched);
            }
        }
    }

    #[test]
    fn a_process_concerns_its_node_and_a_service_those_of_its_processes() {
        let within = |name: &str, spec: Spec| {
            let metadata = Metadata { name: name.into(), namespace: "IN1".into(), ..Metadata::default() };
            Document { metadata, spec }
        };
        let process = |name: &str, node: &str, running: Option<bool>| {
            within(name, Spec::Process(ProcessSpec { service: "SV1".into(), node: node.into(), running }))
        };
        let service = |text: &str| {
            within("SV1", Spec::Service(ServiceSpec { name: text.into(), ..ServiceSpec::default() }))
        };
        let before: Documents =
            [service("one"), process("p1", "ND1", None), process("p2", "ND2", None)].into_iter().collect();
        let after = |document: Document| {
            let mut now = before.clone();
            now.insert(document);
            touched(&before, &now)
        };
        let only = |nodes: &[&str]| Touched {
            nodes: nodes.iter().map(|node| node_key("IN1", node)).collect(),
            ..Touched::default()
        };
        assert_eq!(after(process("p1", "ND1", Some(false))), only(&["ND1"]));
        assert_eq!(after(process("p1", "ND3", None)), only(&["ND1", "ND3"]), "where it was, and where it is");
        assert_eq!(after(service("two")), only(&["ND1", "ND2"]));
        assert_eq!(touched(&before, &before), Touched::default());
    }
}
