//! Every document at one revision, as a persistent map: taking it costs nothing, and it never changes under a reader.
//!
//! **Invariant:** a question costs what it answers, however many other documents there are, and a change costs the logarithm of
//! how many there are.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

use super::document::{Document, Spec};
use super::id::revision_prefix;
use super::index::Index;
use super::kinds::{
    FailoverSpec, InstanceSpec, IntegrationSpec, NodeSpec, ProcessSpec, RevisionSpec, ServiceSpec,
    ServiceTypeSpec, TenantSpec, UserSpec,
};
use super::meta::{Key, Kind};

/// Every document at one revision, ordered by key.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    map: OrdMap<Key, Arc<Document>>,
    /// Those that wait for an older one to go.
    waiting: OrdMap<Key, Arc<Document>>,
    /// (what is named, who names it), as [`Document::names`] says: the way back, without looking at everyone.
    named_by: OrdSet<(Key, Key)>,
    /// Processes by their service and by their node.
    processes: Index<Key>,
    /// Nodes by (instance, label, its value).
    labelled: Index<(String, String, String)>,
    /// Those that are being deleted.
    deleting: OrdMap<Key, Arc<Document>>,
    /// Services that are started after others, or may run in one place only.
    ordered: OrdSet<Key>,
}

/// An object of which two maps do not say the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change<'a> {
    /// Which one.
    pub key: &'a Key,
    /// How it was; none where it was not there.
    pub before: Option<&'a Arc<Document>>,
    /// How it is; none where it is not there any more.
    pub now: Option<&'a Arc<Document>>,
}

impl<'a> From<DiffItem<'a, 'a, Key, Arc<Document>>> for Change<'a> {
    fn from(item: DiffItem<'a, 'a, Key, Arc<Document>>) -> Change<'a> {
        match item {
            DiffItem::Add(key, now) => Change { key, before: None, now: Some(now) },
            DiffItem::Update { old: (_, before), new: (key, now) } => {
                Change { key, before: Some(before), now: Some(now) }
            }
            DiffItem::Remove(key, before) => Change { key, before: Some(before), now: None },
        }
    }
}

/// Declares the typed look-ups, one a kind that decisions read.
macro_rules! typed {
    ($($method:ident: $kind:ident($spec:ident)),* $(,)?) => {$(
        #[doc = concat!("The spec of the ", stringify!($kind), " with this key.")]
        pub fn $method(&self, key: &Key) -> Option<&$spec> {
            if let Spec::$kind(spec) = &self.map.get(key)?.spec { Some(spec) } else { None }
        }
    )*};
}

impl Documents {
    typed! {
        instance: Instance(InstanceSpec),
        integration: Integration(IntegrationSpec),
        node: Node(NodeSpec),
        process: Process(ProcessSpec),
        revision: Revision(RevisionSpec),
        service: Service(ServiceSpec),
        service_type: ServiceType(ServiceTypeSpec),
        tenant: Tenant(TenantSpec),
        user: User(UserSpec),
    }

    /// The document with this key, even one that is being deleted.
    pub fn get(&self, key: &Key) -> Option<&Arc<Document>> {
        self.map.get(key)
    }

    /// The document with this key, unless it is being deleted.
    pub fn live(&self, key: &Key) -> Option<&Arc<Document>> {
        self.map.get(key).filter(|document| !document.is_deleting())
    }

    /// Sets a document.
    pub fn insert(&mut self, document: Document) {
        if document.metadata.waiting {
            self.waiting.insert(document.key(), Arc::new(document));
        } else {
            self.put(Arc::new(document));
        }
    }

    fn put(&mut self, document: Arc<Document>) {
        let key = document.key();
        if let Some(before) = self.map.insert(key.clone(), Arc::clone(&document)) {
            self.unlist(&key, &before);
        }
        self.list(key, &document);
    }

    /// Enters a document in the indices.
    fn list(&mut self, key: Key, document: &Arc<Document>) {
        for owner in owners(document).into_iter().flatten() {
            self.processes.add(owner, document);
        }
        for label in labels(document) {
            self.labelled.add(label, document);
        }
        self.named_by.extend(document.names().into_iter().map(|named| (named, key.clone())));
        if is_ordered(document) {
            self.ordered.insert(key.clone());
        }
        if document.is_deleting() {
            self.deleting.insert(key, Arc::clone(document));
        }
    }

    /// Takes a document out of the indices.
    fn unlist(&mut self, key: &Key, document: &Document) {
        for owner in owners(document).into_iter().flatten() {
            self.processes.take(&owner, &key.name);
        }
        for label in labels(document) {
            self.labelled.take(&label, &key.name);
        }
        for named in document.names() {
            self.named_by.remove(&(named, key.clone()));
        }
        if is_ordered(document) {
            self.ordered.remove(key);
        }
        if document.is_deleting() {
            self.deleting.remove(key);
        }
    }

    /// Those that wait for an older object to go, by key. They are in no other answer of this map.
    pub fn waiting(&self) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        self.waiting.iter()
    }

    /// The document with this key that waits.
    pub fn successor(&self, key: &Key) -> Option<&Arc<Document>> {
        self.waiting.get(key)
    }

    /// Takes a document out that waits.
    pub fn remove_waiting(&mut self, key: &Key) {
        self.waiting.remove(key);
    }

    /// As people see it: what waits stands in the place of the older one that it waits for, and what belongs to that one is not there.
    #[must_use]
    pub fn declared(&self) -> Documents {
        let mut all = self.clone();
        for key in self.waiting.keys().filter(|key| self.map.contains_key(*key)) {
            self.needing(key).for_each(|(needing, _)| all.remove(needing));
        }
        for document in self.waiting.values() {
            all.put(Arc::clone(document));
        }
        all
    }

    /// What can't be without this ([`Document::needs`]), by key; with what is being deleted, without what waits. Costs what it
    /// answers.
    pub fn needing<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = (&'a Key, &'a Arc<Document>)> {
        let kinds: &[Kind] = match key.kind {
            Kind::Instance => &[Kind::Node, Kind::Service, Kind::Process, Kind::Revision, Kind::Event],
            Kind::Node
            | Kind::Service
            | Kind::Integration
            | Kind::ServiceType
            | Kind::Tenant
            | Kind::User
            | Kind::Process
            | Kind::Revision
            | Kind::Event => &[],
        };
        let within = kinds.iter().flat_map(move |kind| self.within(*kind, &key.name));
        let processes = self.processes.of(key);
        let revisions = self.named_as_revisions_of(key).filter(|_| key.kind == Kind::Service);
        within.chain(processes.filter_map(|process| self.map.get_key_value(&process.key()))).chain(revisions)
    }

    /// Takes a document out.
    pub fn remove(&mut self, key: &Key) {
        if let Some(before) = self.map.remove(key) {
            self.unlist(key, &before);
        }
    }

    /// The objects of which this map does not say the same as an earlier one, by key, and then those that waited or wait, by key:
    /// an object may be among both. Costs what has changed, where one map was made from the other by changing it; else it costs
    /// what is in them.
    pub fn changes_since<'a>(&'a self, before: &'a Documents) -> impl Iterator<Item = Change<'a>> {
        before.map.diff(&self.map).chain(before.waiting.diff(&self.waiting)).map(Change::from)
    }

    /// What is being deleted, by key. Costs what it answers.
    pub fn deleting(&self) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        self.deleting.iter()
    }

    /// The services that are started after others or that may run in one place only, by key; with what is being deleted. Costs
    /// what it answers.
    pub fn ordered_services(&self) -> impl Iterator<Item = &Key> {
        self.ordered.iter()
    }

    /// Every document, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        self.map.iter()
    }

    /// Every document of a kind, over all instances, by key.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        self.map.range(Key::first(kind, "")..).take_while(move |(key, _)| key.kind == kind)
    }

    /// Every document of a kind in an instance, by name.
    pub fn within<'a>(
        &'a self,
        kind: Kind,
        instance: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Document>)> {
        self.map
            .range(Key::first(kind, instance)..)
            .take_while(move |(key, _)| key.kind == kind && key.namespace == instance)
    }

    /// The tenants that an instance serves and that are not being deleted, by id. Costs what it answers.
    pub fn tenants_of<'a>(&'a self, instance: &str) -> impl Iterator<Item = (&'a Key, &'a TenantSpec)> {
        let naming = self.naming(Key::cluster(Kind::Instance, instance));
        naming.filter_map(|(key, _)| Some((key, self.tenant(key)?)))
    }

    /// The users with access to a tenant that are not being deleted, by email. Costs what it answers.
    pub fn users_of<'a>(&'a self, tenant: &str) -> impl Iterator<Item = (&'a Key, &'a UserSpec)> {
        let naming = self.naming(Key::cluster(Kind::Tenant, tenant));
        naming.filter_map(|(key, _)| Some((key, self.user(key)?)))
    }

    /// Who names this ([`Document::names`]) and is not being deleted. Costs what it answers.
    pub fn naming(&self, named: Key) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        self.all_naming(named).filter(|(_, document)| !document.is_deleting())
    }

    /// The services that are started after this one, with those that are being deleted. Costs what it answers.
    pub fn services_after(&self, service: &Key) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        self.all_naming(service.clone()).filter(|(by, _)| by.kind == Kind::Service)
    }

    fn all_naming(&self, named: Key) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        let first = (named.clone(), Key::first(Kind::Instance, ""));
        self.named_by
            .range(first..)
            .take_while(move |(of, _)| *of == named)
            .filter_map(|(_, by)| Some((by, self.get(by)?)))
    }

    /// (what is named, who names it), where there is no such object any more and who names it is not being deleted, nor is its
    /// instance: what goes altogether is ended in the order that it says.
    pub fn dangling(&self) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        let is_gone = |named: &Key| self.live(named).is_none() && !self.waiting.contains_key(named);
        let stays = |by: &Key| {
            !by.kind.is_namespaced()
                || self.live(&Key::cluster(Kind::Instance, by.namespace.as_str())).is_some()
        };
        let gone = self.named_by.iter().filter(move |(named, by)| is_gone(named) && stays(by));
        gone.filter_map(|(named, by)| Some((named, self.live(by)?)))
    }

    /// The processes of a service, with their specs, by id. Costs what it answers.
    pub fn processes_of<'a>(
        &'a self,
        instance: &'a str,
        service: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Document>, &'a ProcessSpec)> {
        self.processes.of(&Key::within(Kind::Service, instance, service)).filter_map(with_spec)
    }

    /// The revisions of a service, by number.
    pub fn revisions_of<'a>(
        &'a self,
        service: &Key,
    ) -> impl Iterator<Item = (&'a Arc<Document>, &'a RevisionSpec)> {
        self.named_as_revisions_of(service).filter_map(|(_, document)| {
            if let Spec::Revision(revision) = &document.spec { Some((document, revision)) } else { None }
        })
    }

    fn named_as_revisions_of(&self, service: &Key) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        let first = Key::within(Kind::Revision, &*service.namespace, revision_prefix(&service.name));
        self.map.range(first.clone()..).take_while(move |(key, _)| {
            key.kind == Kind::Revision
                && key.namespace == first.namespace
                && key.name.starts_with(&first.name)
        })
    }

    /// The processes on a node, with their specs, by id. Costs what it answers.
    pub fn processes_on<'a>(
        &'a self,
        instance: &'a str,
        node: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Document>, &'a ProcessSpec)> {
        self.processes.of(&Key::within(Kind::Node, instance, node)).filter_map(with_spec)
    }

    /// How many processes a service has, or a node. Costs nothing like counting them.
    pub fn count_processes(&self, of: &Key) -> usize {
        self.processes.count(of)
    }

    /// Each service and node that processes name, by key, and how many do; whether it exists is another question.
    pub fn with_processes(&self) -> impl Iterator<Item = (&Key, usize)> {
        self.processes.counts()
    }

    /// The nodes of an instance with a label of this value, by id; with what is being deleted. Costs what it answers.
    pub fn nodes_labelled<'a>(
        &'a self,
        instance: &str,
        label: &str,
        value: &str,
    ) -> impl Iterator<Item = &'a Arc<Document>> + use<'a> {
        self.labelled.of(&(instance.to_owned(), label.to_owned(), value.to_owned()))
    }

    /// How many there are of them. Costs nothing like counting them.
    pub fn count_nodes_labelled(&self, instance: &str, label: &str, value: &str) -> usize {
        self.labelled.count(&(instance.to_owned(), label.to_owned(), value.to_owned()))
    }
}

/// The service and the node that a process is of.
fn owners(document: &Document) -> Option<[Key; 2]> {
    let Spec::Process(process) = &document.spec else { return None };
    let instance = document.metadata.namespace.as_str();
    Some([
        Key::within(Kind::Service, instance, process.service.as_str()),
        Key::within(Kind::Node, instance, process.node.as_str()),
    ])
}

/// Whether it is a service that does not start and stop by itself.
fn is_ordered(document: &Document) -> bool {
    let Spec::Service(service) = &document.spec else { return false };
    !service.after.is_empty() || matches!(service.failover, Some(FailoverSpec::Fenced { .. }))
}

/// The labels by which a node is found.
fn labels(document: &Document) -> impl Iterator<Item = (String, String, String)> {
    let Document { metadata, spec } = document;
    let is_node = spec.kind() == Kind::Node;
    let labels = metadata.labels.iter().filter(move |_| is_node);
    labels.map(|(label, value)| (metadata.namespace.clone(), label.clone(), value.clone()))
}

fn with_spec(document: &Arc<Document>) -> Option<(&Arc<Document>, &ProcessSpec)> {
    if let Spec::Process(process) = &document.spec { Some((document, process)) } else { None }
}

impl FromIterator<Document> for Documents {
    fn from_iter<T: IntoIterator<Item = Document>>(documents: T) -> Documents {
        let mut all = Documents::default();
        documents.into_iter().for_each(|document| all.insert(document));
        all
    }
}

impl FromIterator<Arc<Document>> for Documents {
    fn from_iter<T: IntoIterator<Item = Arc<Document>>>(documents: T) -> Documents {
        let mut all = Documents::default();
        for document in documents {
            if document.metadata.waiting {
                all.waiting.insert(document.key(), document);
            } else {
                all.put(document);
            }
        }
        all
    }
}

impl super::lint::Known for Documents {
    fn find(&self, key: &Key) -> Option<Arc<Document>> {
        self.live(key).cloned()
    }

    fn names(&self, kind: Kind, namespace: &str) -> Vec<String> {
        self.within(kind, namespace)
            .filter(|(_, document)| !document.is_deleting())
            .map(|(key, _)| key.name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::model::Metadata;

    fn document(name: &str, spec: Spec) -> Document {
        Document { metadata: Metadata { name: name.into(), ..Metadata::default() }, spec }
    }

    fn tenant(name: &str, instance: Option<&str>) -> Document {
        let spec = TenantSpec { instance: instance.map(str::to_owned), ..TenantSpec::default() };
        document(name, Spec::Tenant(spec))
    }

    fn user(email: &str, tenants: &[&str]) -> Document {
        let tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        document(email, Spec::User(UserSpec { tenants, ..UserSpec::default() }))
    }

    fn tenants(documents: &Documents, instance: &str) -> Vec<String> {
        documents.tenants_of(instance).map(|(key, _)| key.name.clone()).collect()
    }

    fn users(documents: &Documents, tenant: &str) -> Vec<String> {
        documents.users_of(tenant).map(|(key, _)| key.name.clone()).collect()
    }

    #[test]
    fn the_way_back_follows_every_change() {
        let all =
            [tenant("b", Some("IN1")), tenant("a", Some("IN1")), tenant("c", None), user("u@x", &["a", "c"])];
        let mut documents: Documents = all.into_iter().collect();
        assert_eq!(tenants(&documents, "IN1"), ["a", "b"]);
        assert_eq!(tenants(&documents, "IN"), [""; 0], "a part of an id is another id");
        assert_eq!((users(&documents, "a").len(), users(&documents, "b").len()), (1, 0));

        let before = documents.clone();
        documents.insert(tenant("a", Some("IN2")));
        documents.insert(user("u@x", &["b", "c", "b"]));
        assert_eq!(
            (tenants(&documents, "IN1"), tenants(&documents, "IN2")),
            (vec!["b".into()], vec!["a".into()])
        );
        assert_eq!((users(&documents, "a").len(), users(&documents, "b")), (0, vec!["u@x".into()]));
        documents.remove(&Key::cluster(Kind::Tenant, "b"));
        documents.remove(&Key::cluster(Kind::User, "u@x"));
        assert_eq!((tenants(&documents, "IN1").len(), users(&documents, "c").len()), (0, 0));
        assert!(
            documents
                .named_by
                .iter()
                .eq([&(Key::cluster(Kind::Instance, "IN2"), Key::cluster(Kind::Tenant, "a"))])
        );
        assert_eq!(tenants(&before, "IN1"), ["a", "b"], "a snapshot never changes");
    }

    #[test]
    fn what_is_declared_again_hides_the_older_one_and_all_that_belongs_to_it() {
        let within = |name: &str, spec: Spec, waiting: bool| {
            let mut document = document(name, spec);
            document.metadata.namespace = "IN1".into();
            document.metadata.waiting = waiting;
            document
        };
        let process = |name: &str, node: &str, waiting: bool| {
            let spec = ProcessSpec { service: "SV1".into(), node: node.into(), running: None };
            within(name, Spec::Process(spec), waiting)
        };
        let node = |name: &str, waiting: bool| within(name, Spec::Node(NodeSpec::default()), waiting);
        let mut older = node("ND1", false);
        older.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        let mut documents: Documents = [
            document("IN1", Spec::Instance(InstanceSpec::default())),
            older,
            node("ND1", true),
            node("ND2", false),
            process("old", "ND1", false),
            process("new", "ND1", true),
            process("other", "ND2", false),
        ]
        .into_iter()
        .collect();
        let names = |documents: &Documents| {
            let names = documents.iter().map(|(key, document)| (key.name.clone(), document.metadata.waiting));
            names.collect::<Vec<_>>()
        };
        let expected = [("IN1", false), ("ND1", true), ("ND2", false), ("new", true), ("other", false)];
        assert_eq!(names(&documents.declared()), expected.map(|(name, waiting)| (name.to_owned(), waiting)));
        assert_eq!(documents.iter().filter(|(_, document)| document.metadata.waiting).count(), 0);
        assert!(
            documents.live(&Key::within(Kind::Node, "IN1", "ND1")).is_none(),
            "for who reconciles it goes"
        );

        documents.remove_waiting(&Key::within(Kind::Node, "IN1", "ND1"));
        assert!(documents.declared().live(&Key::within(Kind::Node, "IN1", "ND1")).is_none());
        assert!(documents.declared().get(&Key::within(Kind::Process, "IN1", "old")).is_some());
    }

    #[test]
    fn what_a_service_is_started_after_is_missed_once_it_goes_but_not_when_all_goes() {
        let service = |name: &str, after: &[&str]| {
            let after = after.iter().map(|other| (*other).to_owned()).collect();
            let spec = Spec::Service(ServiceSpec { after, ..ServiceSpec::default() });
            let metadata = Metadata { name: name.into(), namespace: "IN1".into(), ..Metadata::default() };
            Document { metadata, spec }
        };
        let going = |mut document: Document| {
            document.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
            document
        };
        let instance = document("IN1", Spec::Instance(InstanceSpec::default()));
        let mut documents: Documents =
            [instance.clone(), going(service("db", &[])), service("web", &["db"])].into_iter().collect();
        let db = Key::within(Kind::Service, "IN1", "db");
        let missed = |documents: &Documents| {
            documents.dangling().map(|(gone, by)| (gone.name.clone(), by.key().name)).collect::<Vec<_>>()
        };
        assert_eq!(missed(&documents), [("db".to_owned(), "web".to_owned())]);
        let unlinked = service("web", &["db"]).spec.without(&db);
        assert_eq!(unlinked, service("web", &[]).spec);

        documents.insert(going(service("web", &["db"])));
        assert_eq!(missed(&documents), []);
        assert_eq!(documents.services_after(&db).count(), 1, "it is still stopped before");

        documents.insert(service("web", &["db"]));
        documents.insert(going(instance));
        assert_eq!(missed(&documents), [], "its instance goes, and so will it");
    }

    #[test]
    fn who_is_being_deleted_is_not_told_of() {
        let mut going = tenant("a", Some("IN1"));
        going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        let mut user = user("u@x", &["a"]);
        user.metadata.deletion_timestamp.clone_from(&going.metadata.deletion_timestamp);
        let documents: Documents = [going, user].into_iter().collect();
        assert_eq!((tenants(&documents, "IN1").len(), users(&documents, "a").len()), (0, 0));
    }

    /// Something done to documents, few enough that things meet.
    #[derive(Debug, Clone)]
    enum Deed {
        Insert(Box<Document>),
        Remove(Key),
        RemoveWaiting(Key),
    }

    fn few() -> impl Strategy<Value = String> {
        prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned)
    }

    fn any_document() -> impl Strategy<Value = Document> {
        let names = (few(), few(), few(), few());
        (names, btree_map(few(), few(), 0..3), any::<[bool; 2]>(), 0..4_u8).prop_map(
            |((name, instance, one, other), labels, [is_deleting, waiting], kind)| {
                let spec = match kind {
                    0 => Spec::Instance(InstanceSpec::default()),
                    1 => Spec::Node(NodeSpec::default()),
                    2 => {
                        let after = Some(other).filter(|_| one == "a").into_iter().collect();
                        Spec::Service(ServiceSpec { after, ..ServiceSpec::default() })
                    }
                    _ => Spec::Process(ProcessSpec { service: one, node: other, running: None }),
                };
                let namespace = if spec.kind().is_namespaced() { instance } else { String::new() };
                let deletion_timestamp = is_deleting.then(|| "2026-01-01T00:00:00Z".to_owned());
                let metadata =
                    Metadata { name, namespace, labels, deletion_timestamp, waiting, ..Metadata::default() };
                Document { metadata, spec }
            },
        )
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            3 => any_document().prop_map(|document| Deed::Insert(Box::new(document))),
            1 => any_document().prop_map(|document| Deed::Remove(document.key())),
            1 => any_document().prop_map(|document| Deed::RemoveWaiting(document.key())),
        ];
        vec(deed, 0..80)
    }

    fn carry_out(documents: &mut Documents, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Insert(document) => documents.insert(*document),
                Deed::Remove(key) => documents.remove(&key),
                Deed::RemoveWaiting(key) => documents.remove_waiting(&key),
            }
        }
    }

    /// What changed between two maps, found by looking at everything.
    fn changed<'a>(
        before: &'a OrdMap<Key, Arc<Document>>,
        now: &'a OrdMap<Key, Arc<Document>>,
    ) -> Vec<Change<'a>> {
        let keys: BTreeSet<&Key> = before.keys().chain(now.keys()).collect();
        let changes = keys.into_iter().map(|key| Change { key, before: before.get(key), now: now.get(key) });
        changes.filter(|change| change.before != change.now).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_index_answers_what_looking_at_everything_does(deeds in deeds()) {
            let mut documents = Documents::default();
            carry_out(&mut documents, deeds);
            let all = || documents.iter().map(|(key, document)| (key, document, documents.process(key)));
            for (instance, name) in "abc".chars().flat_map(|a| "abc".chars().map(move |b| (a.to_string(), b.to_string()))) {
                for kind in [Kind::Service, Kind::Node] {
                    let named = |process: &ProcessSpec| {
                        if kind == Kind::Service { process.service == name } else { process.node == name }
                    };
                    let naive: Vec<_> = all()
                        .filter(|(key, _, _)| key.namespace == instance)
                        .filter_map(|(_, document, process)| Some((document, process?)))
                        .filter(|(_, process)| named(process))
                        .collect();
                    let found: Vec<_> = if kind == Kind::Service {
                        documents.processes_of(&instance, &name).collect()
                    } else {
                        documents.processes_on(&instance, &name).collect()
                    };
                    prop_assert_eq!(&found, &naive);
                    let key = Key::within(kind, &*instance, &*name);
                    prop_assert_eq!(documents.count_processes(&key), naive.len());
                    let counted = documents.with_processes().find(|(of, _)| **of == key).map(|(_, count)| count);
                    prop_assert_eq!(counted, (!naive.is_empty()).then_some(naive.len()));
                }
                for key in [
                    Key::cluster(Kind::Instance, &*name),
                    Key::within(Kind::Node, &*instance, &*name),
                    Key::within(Kind::Service, &*instance, &*name),
                    Key::within(Kind::Process, &*instance, &*name),
                ] {
                    let naive = documents.iter().filter(|(_, document)| document.needs().contains(&key));
                    prop_assert!(documents.needing(&key).eq(naive));
                }
                for value in ["a", "b", "c"] {
                    let naive = documents.of_kind(Kind::Node).filter(|(key, document)| {
                        key.namespace == instance && document.metadata.labels.get(&name).is_some_and(|is| is == value)
                    });
                    let naive: Vec<_> = naive.map(|(_, node)| node).collect();
                    prop_assert_eq!(documents.count_nodes_labelled(&instance, &name, value), naive.len());
                    prop_assert!(documents.nodes_labelled(&instance, &name, value).eq(naive));
                }
            }
            let after = |key: &&Key| documents.service(key).is_some_and(|service| !service.after.is_empty());
            prop_assert!(documents.ordered_services().eq(documents.iter().map(|(key, _)| key).filter(after)));
            prop_assert!(documents.deleting().eq(documents.iter().filter(|(_, document)| document.is_deleting())));
        }

        #[test]
        fn what_changed_is_what_comparing_everything_finds(earlier in deeds(), later in deeds()) {
            let mut documents = Documents::default();
            carry_out(&mut documents, earlier);
            let before = documents.clone();
            carry_out(&mut documents, later);
            let mut naive = changed(&before.map, &documents.map);
            naive.extend(changed(&before.waiting, &documents.waiting));
            prop_assert_eq!(documents.changes_since(&before).collect::<Vec<_>>(), naive);
            prop_assert_eq!(documents.changes_since(&documents).count(), 0);
        }
    }
}
