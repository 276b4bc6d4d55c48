//! A document: metadata and the spec of its kind.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::admit::password_place;
use super::kinds::{
    EventSpec, InstanceSpec, IntegrationSpec, NodeSpec, ProcessSpec, RevisionSpec, ServiceSpec,
    ServiceTypeSpec, TenantSpec, UserSpec,
};
use super::meta::{API_VERSION, Key, Kind, Metadata, SOURCE};
use super::secret::Sealed;

/// A document as the system holds it: checked, defaulted, secrets sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Name, labels, history.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: Spec,
}

/// A stored document can't be read: it was written by a newer version, or damaged.
#[derive(Debug, thiserror::Error)]
#[error("the stored document {key} can't be read")]
pub struct Unreadable {
    /// Where it is stored.
    pub key: String,
    /// What is wrong.
    #[source]
    pub source: serde_json::Error,
}

/// Declares the one list of kinds and their specs, so that no kind can be forgotten in any of the matches below.
macro_rules! specs {
    ($($kind:ident($spec:ident)),* $(,)?) => {
        /// The spec of some kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Spec {
            $(#[doc = concat!("Of kind ", stringify!($kind), ".")] $kind($spec),)*
        }

        impl Spec {
            /// Which kind's spec this is.
            pub const fn kind(&self) -> Kind {
                match self { $(Spec::$kind(_) => Kind::$kind,)* }
            }

            /// Reads the spec of a kind.
            ///
            /// # Errors
            /// When the value is not such a spec.
            pub fn from_value(kind: Kind, value: Value) -> Result<Spec, serde_json::Error> {
                match kind { $(Kind::$kind => read(value).map(Spec::$kind),)* }
            }

            /// The spec as a JSON object.
            pub fn to_value(&self) -> Value {
                match self { $(Spec::$kind(spec) => write(spec),)* }
            }
        }

        /// A kind's documents, with what they refer to in the generator's definitions.
        fn envelope(kind: Kind, generator: &mut SchemaGenerator) -> Value {
            match kind { $(Kind::$kind => envelope_of::<$spec>(kind, generator),)* }
        }

        /// The JSON Schema of a kind's spec alone, with what it refers to in the generator's definitions.
        pub fn spec_schema(kind: Kind, generator: &mut SchemaGenerator) -> Schema {
            match kind { $(Kind::$kind => <$spec>::json_schema(generator),)* }
        }
    };
}

specs! {
    Instance(InstanceSpec), Tenant(TenantSpec), User(UserSpec), Integration(IntegrationSpec),
    ServiceType(ServiceTypeSpec), Node(NodeSpec), Service(ServiceSpec), Process(ProcessSpec),
    Revision(RevisionSpec), Event(EventSpec),
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(value)
}

fn write<T: Serialize>(spec: &T) -> Value {
    serde_json::to_value(spec).expect("a spec has string keys and no failing parts")
}

fn envelope_of<T: JsonSchema>(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let metadata = generator.subschema_for::<Metadata>();
    let spec = generator.subschema_for::<T>();
    json!({
        "title": kind.name(),
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": { "const": API_VERSION },
            "kind": { "const": kind.name() },
            "metadata": metadata,
            "spec": spec,
            "status": { "type": "object", "description": "What was observed. Ignored where documents are applied." },
        },
    })
}

/// Which JSON Schema all of ours are written in.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The JSON Schema (2020-12) of a kind's documents, as people write them.
pub fn schema(kind: Kind) -> Value {
    let mut generator = SchemaGenerator::default();
    let mut schema = envelope(kind, &mut generator);
    schema["$schema"] = DIALECT.into();
    schema["$defs"] = generator.take_definitions(true).into();
    schema
}

/// The JSON Schema (2020-12) of documents of all kinds that people write, for files that hold several: which it is, its `kind` says.
pub fn schema_of_all() -> Value {
    let mut generator = SchemaGenerator::default();
    let written = Kind::ALL.into_iter().filter(|kind| kind.is_written_by_people());
    let kinds: Vec<Value> = written.map(|kind| envelope(kind, &mut generator)).collect();
    json!({
        "$schema": DIALECT,
        "title": "Mainstay",
        "description": "A document of any kind.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "oneOf": kinds,
        "$defs": generator.take_definitions(true),
    })
}

impl Spec {
    /// The ids of a kind that it names in a list, to be changed; none when it has no such list.
    pub fn list_mut(&mut self, of: Kind) -> Option<&mut Vec<String>> {
        match (self, of) {
            (Spec::Tenant(tenant), Kind::Integration) => Some(&mut tenant.integrations),
            (Spec::User(user), Kind::Tenant) => Some(&mut user.tenants),
            (Spec::Service(service), Kind::Service) => Some(&mut service.after),
            _ => None,
        }
    }

    /// The same, but that it names this no more.
    #[must_use]
    pub fn without(mut self, gone: &Key) -> Spec {
        if let (Spec::Tenant(tenant), Kind::Instance) = (&mut self, gone.kind) {
            tenant.instance.take_if(|instance| *instance == gone.name);
        }
        if let Some(list) = self.list_mut(gone.kind) {
            list.retain(|id| *id != gone.name);
        }
        self
    }
}

impl Document {
    /// What it refers to and could be without: a tenant its instance and integrations, a user its tenants, a service those that it is
    /// started after. Whether that exists is another question.
    pub fn names(&self) -> Vec<Key> {
        fn all(kind: Kind, ids: &[String]) -> impl Iterator<Item = Key> {
            ids.iter().map(move |id| Key::cluster(kind, id.as_str()))
        }
        match &self.spec {
            Spec::Tenant(tenant) => all(Kind::Instance, tenant.instance.as_slice())
                .chain(all(Kind::Integration, &tenant.integrations))
                .collect(),
            Spec::User(user) => all(Kind::Tenant, &user.tenants).collect(),
            Spec::Service(service) => service
                .after
                .iter()
                .map(|id| Key::within(Kind::Service, self.metadata.namespace.as_str(), id.as_str()))
                .collect(),
            Spec::Instance(_)
            | Spec::Integration(_)
            | Spec::ServiceType(_)
            | Spec::Node(_)
            | Spec::Process(_)
            | Spec::Revision(_)
            | Spec::Event(_) => Vec::new(),
        }
    }

    /// What it can't be without: its instance, of a process its service and its node, of a revision its service.
    pub fn needs(&self) -> Vec<Key> {
        let instance = self.metadata.namespace.as_str();
        let mut needs = Vec::new();
        if self.spec.kind().is_namespaced() {
            needs.push(Key::cluster(Kind::Instance, instance));
        }
        if let Spec::Process(process) = &self.spec {
            needs.push(Key::within(Kind::Service, instance, process.service.as_str()));
            needs.push(Key::within(Kind::Node, instance, process.node.as_str()));
        }
        if let Spec::Revision(revision) = &self.spec {
            needs.push(Key::within(Kind::Service, instance, revision.service.as_str()));
        }
        needs
    }

    /// What the spec itself says of running; none for kinds that do not run, and where it is silent.
    pub fn states_running(&self) -> Option<bool> {
        match &self.spec {
            Spec::Service(service) => service.running,
            Spec::Process(process) => process.running,
            Spec::Instance(_)
            | Spec::Tenant(_)
            | Spec::User(_)
            | Spec::Integration(_)
            | Spec::ServiceType(_)
            | Spec::Node(_)
            | Spec::Revision(_)
            | Spec::Event(_) => None,
        }
    }

    /// Each secret of the document, with the place it is sealed for.
    pub fn secrets_mut(&mut self) -> Vec<(String, &mut Sealed)> {
        let place = password_place(&self.key());
        match &mut self.spec {
            Spec::Node(node) => node.password.iter_mut().map(|sealed| (place.clone(), sealed)).collect(),
            // A user's password is a hash already.
            Spec::Instance(_)
            | Spec::Tenant(_)
            | Spec::User(_)
            | Spec::Integration(_)
            | Spec::ServiceType(_)
            | Spec::Service(_)
            | Spec::Process(_)
            | Spec::Revision(_)
            | Spec::Event(_) => Vec::new(),
        }
    }

    /// The object that this document is.
    pub fn key(&self) -> Key {
        Key {
            kind: self.spec.kind(),
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
        }
    }

    /// The store's revision at which it was written last; 0 before it was.
    pub fn revision(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or(0)
    }

    /// What it is once its deletion is decided, at this time: of some kinds there may be something on nodes, until which is gone the object
    /// is there. None of what is taken out at once; for one that waits nothing was done yet.
    pub fn deleted(&self, now: &str) -> Option<Document> {
        let lingers = match self.spec.kind() {
            Kind::Instance | Kind::Node | Kind::Service | Kind::Process => !self.metadata.waiting,
            Kind::Tenant
            | Kind::User
            | Kind::Integration
            | Kind::ServiceType
            | Kind::Revision
            | Kind::Event => false,
        };
        lingers.then(|| {
            let mut document = self.clone();
            document.metadata.deletion_timestamp = Some(now.to_owned());
            document
        })
    }

    /// What it is with another spec; none when that is the same.
    pub fn with_spec(&self, spec: Spec) -> Option<Document> {
        (self.spec != spec).then(|| {
            let mut metadata = self.metadata.clone();
            metadata.generation += 1;
            Document { metadata, spec }
        })
    }

    /// Whether a source of this name declares it, and so may prune it.
    pub fn is_of(&self, source: &str) -> bool {
        self.metadata.annotations.get(SOURCE).is_some_and(|owner| owner == source)
    }

    /// True once deletion is decided.
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The document as the store holds it: without what the store itself knows (the resource version).
    pub fn to_value(&self) -> Value {
        let mut metadata = self.metadata.clone();
        metadata.resource_version = String::new();
        json!({
            "apiVersion": API_VERSION,
            "kind": self.spec.kind().name(),
            "metadata": metadata,
            "spec": self.spec.to_value(),
        })
    }

    /// Reads back what [`Document::to_value`] made.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_stored(key: &str, bytes: &[u8]) -> Result<Document, Unreadable> {
        let read = || {
            let mut value: Value = serde_json::from_slice(bytes)?;
            let kind: Kind = serde_json::from_value(value["kind"].take())?;
            let metadata = serde_json::from_value(value["metadata"].take())?;
            let spec = Spec::from_value(kind, value["spec"].take())?;
            Ok(Document { metadata, spec })
        };
        read().map_err(|source| Unreadable { key: key.to_owned(), source })
    }
}
