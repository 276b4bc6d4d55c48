//! Every document at one revision, as a persistent map: taking it costs nothing, and it never changes under a reader.

use std::sync::Arc;

use imbl::OrdMap;

use super::document::{Document, Spec};
use super::kinds::{InstanceSpec, NodeSpec, ProcessSpec, ServiceSpec, ServiceTypeSpec};
use super::meta::{Key, Kind};

/// Every document at one revision, ordered by key.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    map: OrdMap<Key, Arc<Document>>,
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
        node: Node(NodeSpec),
        process: Process(ProcessSpec),
        service: Service(ServiceSpec),
        service_type: ServiceType(ServiceTypeSpec),
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
        self.map.insert(document.key(), Arc::new(document));
    }

    /// Takes a document out.
    pub fn remove(&mut self, key: &Key) {
        self.map.remove(key);
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

    /// The processes of a service, with their specs, by id.
    pub fn processes_of<'a>(
        &'a self,
        instance: &'a str,
        service: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Document>, &'a ProcessSpec)> {
        self.processes(instance).filter(move |(_, process)| process.service == service)
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
        Documents {
            map: documents.into_iter().map(|document| (document.key(), Arc::new(document))).collect(),
        }
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
