//! Every document at one revision, as a persistent map: taking it costs nothing, and it never changes under a reader.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::document::{Document, Spec};
use super::id::revision_prefix;
use super::kinds::{
    InstanceSpec, IntegrationSpec, NodeSpec, ProcessSpec, RevisionSpec, ServiceSpec, ServiceTypeSpec,
    TenantSpec, UserSpec,
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
        let named = document.names();
        if let Some(before) = self.map.insert(key.clone(), document) {
            self.forget_names(&key, &before);
        }
        self.named_by.extend(named.into_iter().map(|named| (named, key.clone())));
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

    /// What can't be without this ([`Document::needs`]), by key; with what is being deleted, without what waits.
    pub fn needing<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = (&'a Key, &'a Arc<Document>)> {
        let (kinds, instance): (&[Kind], &str) = match key.kind {
            Kind::Instance => (&[Kind::Node, Kind::Service, Kind::Process, Kind::Revision], &key.name),
            Kind::Node => (&[Kind::Process], &key.namespace),
            Kind::Service => (&[Kind::Process, Kind::Revision], &key.namespace),
            Kind::Integration
            | Kind::ServiceType
            | Kind::Tenant
            | Kind::User
            | Kind::Process
            | Kind::Revision
            | Kind::Event => (&[], ""),
        };
        let within = kinds.iter().flat_map(move |kind| self.within(*kind, instance));
        within.filter(move |(_, document)| document.needs().contains(key))
    }

    /// Takes a document out.
    pub fn remove(&mut self, key: &Key) {
        if let Some(before) = self.map.remove(key) {
            self.forget_names(key, &before);
        }
    }

    fn forget_names(&mut self, key: &Key, document: &Document) {
        for named in document.names() {
            self.named_by.remove(&(named, key.clone()));
        }
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

    /// The processes of a service, with their specs, by id.
    pub fn processes_of<'a>(
        &'a self,
        instance: &'a str,
        service: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Document>, &'a ProcessSpec)> {
        self.processes(instance).filter(move |(_, process)| process.service == service)
    }

    /// The revisions of a service, by number.
    pub fn revisions_of<'a>(
        &'a self,
        service: &Key,
    ) -> impl Iterator<Item = (&'a Arc<Document>, &'a RevisionSpec)> {
        let first = Key::within(Kind::Revision, &*service.namespace, revision_prefix(&service.name));
        self.map
            .range(first.clone()..)
            .take_while(move |(key, _)| {
                key.kind == Kind::Revision
                    && key.namespace == first.namespace
                    && key.name.starts_with(&first.name)
            })
            .filter_map(|(_, document)| {
                if let Spec::Revision(revision) = &document.spec { Some((document, revision)) } else { None }
            })
    }

    /// The processes on a node, with their specs, by id.
    pub fn processes_on<'a>(
        &'a self,
        instance: &'a str,
        node: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Document>, &'a ProcessSpec)> {
        self.processes(instance).filter(move |(_, process)| process.node == node)
    }

    fn processes<'a>(
        &'a self,
        instance: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Document>, &'a ProcessSpec)> {
        self.within(Kind::Process, instance).filter_map(|(_, document)| {
            if let Spec::Process(process) = &document.spec { Some((document, process)) } else { None }
        })
    }
}

impl FromIterator<Document> for Documents {
    fn from_iter<T: IntoIterator<Item = Document>>(documents: T) -> Documents {
        let mut all = Documents::default();
        documents.into_iter().for_each(|document| all.insert(document));
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
}
