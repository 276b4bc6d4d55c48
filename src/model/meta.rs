//! What every document has beside its spec, with the Kubernetes meanings.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::owners::Owners;

/// The only API version there is.
pub const API_VERSION: &str = "mainstay.dev/v1";

/// Annotation: where the object is declared, such as a manifests folder. Only that source may prune it.
pub const SOURCE: &str = "mainstay.dev/source";
/// What the names of sources start with that are sets which people apply: what is changed otherwise stays changed until they do so again,
/// while a folder would put it back.
pub const SET: &str = "set ";
/// Annotation: the file of that folder in which the object stands.
pub const FILE: &str = "mainstay.dev/file";
/// Annotation of a document in a manifest: where others have set its fields to something else, they are the manifest's from then on.
pub const TAKE_OVER: &str = "mainstay.dev/take-over";

/// Annotation of a Service: its rollouts were paused by people; the value says when.
pub const PAUSED: &str = "mainstay.dev/paused";
/// Annotation of a Service: people asked for its processes to be started anew; the value is another one each time.
pub const RESTARTED: &str = "mainstay.dev/restarted";
/// Annotation of a Node: what can move away from it does, and nothing new comes; the value says since when.
pub const DRAINING: &str = "mainstay.dev/draining";
/// Annotation of a Node that is being deleted: people said that it is gone for good, so nothing waits for it; the value says why.
pub const FORGOTTEN: &str = "mainstay.dev/forgotten";
/// The annotations that are said of an object rather than with it: applying its manifest leaves them as they are.
pub const SAID_OF_IT: [&str; 4] = [PAUSED, RESTARTED, DRAINING, FORGOTTEN];

/// The kinds of documents, in the order in which they are applied: what is referred to comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A physical collection of services.
    Instance,
    /// An entry of the integrations' catalogue.
    Integration,
    /// How one type of service runs.
    ServiceType,
    /// A virtual partition of an instance.
    Tenant,
    /// A person or program with access to tenants.
    User,
    /// A machine.
    Node,
    /// The configuration of all processes of one type.
    Service,
    /// One (instance, service, node).
    Process,
    /// What a service's processes are started with, as it was at one time.
    Revision,
    /// What was done, and why.
    Event,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Kind; 10] = [
        Kind::Instance,
        Kind::Integration,
        Kind::ServiceType,
        Kind::Tenant,
        Kind::User,
        Kind::Node,
        Kind::Service,
        Kind::Process,
        Kind::Revision,
        Kind::Event,
    ];

    /// The name as documents spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Instance => "Instance",
            Kind::Integration => "Integration",
            Kind::ServiceType => "ServiceType",
            Kind::Tenant => "Tenant",
            Kind::User => "User",
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::Process => "Process",
            Kind::Revision => "Revision",
            Kind::Event => "Event",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// False for kinds whose documents only the controller writes.
    pub const fn is_written_by_people(self) -> bool {
        match self {
            Kind::Revision | Kind::Event => false,
            Kind::Instance
            | Kind::Integration
            | Kind::ServiceType
            | Kind::Tenant
            | Kind::User
            | Kind::Node
            | Kind::Service
            | Kind::Process => true,
        }
    }

    /// True for kinds that live inside an instance, their namespace.
    pub const fn is_namespaced(self) -> bool {
        match self {
            Kind::Node | Kind::Service | Kind::Process | Kind::Revision | Kind::Event => true,
            Kind::Instance | Kind::Integration | Kind::ServiceType | Kind::Tenant | Kind::User => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which object: kind, instance (empty for cluster kinds) and name. Ordered, so that lists are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The instance's id; empty for kinds that are not namespaced.
    pub namespace: String,
    /// The id.
    pub name: String,
}

impl Key {
    /// A key of a cluster kind.
    pub fn cluster(kind: Kind, name: impl Into<String>) -> Key {
        Key { kind, namespace: String::new(), name: name.into() }
    }

    /// A key of a kind that lives in an instance.
    pub fn within(kind: Kind, instance: impl Into<String>, name: impl Into<String>) -> Key {
        Key { kind, namespace: instance.into(), name: name.into() }
    }

    /// The smallest key of a kind in an instance, where a scan of them starts.
    pub fn first(kind: Kind, instance: impl Into<String>) -> Key {
        Key { kind, namespace: instance.into(), name: String::new() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Who an object belongs to: it goes when its owner goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnerReference {
    /// The owner's kind; it lives in the same instance.
    pub kind: Kind,
    /// The owner's name.
    pub name: String,
    /// The owner's uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// A call of the API that has changed an object: who asked for what. Bounded, and never a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// Whose token was shown, and the role that it has; none where nobody is asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<(String, String)>,
    /// The address that it came from, without the port.
    pub peer: String,
    /// The method, such as `PUT`.
    pub method: String,
    /// The path, without what is after `?`.
    pub path: String,
    /// When, RFC 3339, by the clock of the server that was asked.
    pub at: String,
}

/// Longest path that is kept of a call, in characters.
const MAX_PATH: usize = 300;

impl Call {
    /// The call with as much of its path as is kept.
    pub fn bounded(self) -> Call {
        if self.path.chars().count() <= MAX_PATH {
            return self;
        }
        let path = self.path.chars().take(MAX_PATH - 1).chain(['…']).collect();
        Call { path, ..self }
    }
}

impl fmt::Display for Call {
    /// Who asked for what, without the time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { who, peer, method, path, at: _ } = self;
        match who {
            Some((name, role)) => write!(f, "{method} {path} by {name} ({role}) from {peer}"),
            None => write!(f, "{method} {path} by anonymous from {peer}"),
        }
    }
}

/// What every document says of itself. Field names and meanings are Kubernetes' ObjectMeta, so that a compatible API can
/// be served from the same objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The id. Unique per kind, and within the instance for Node and Service.
    pub name: String,
    /// The instance that the object lives in; only for Node, Service, Process, Revision and Event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Given by the store: tells an object from a later one of the same name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// For people and selectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Given by the store: changes with every write, for compare-and-set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Given by the store: counts the changes of the spec.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Given by the store: when the object was made, RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub creation_timestamp: String,
    /// Set once deletion is decided; the object stays until what it stands for is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// What must happen before the object can go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Whom the object belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// Given by the store: who set which fields, as Kubernetes' server-side apply keeps it.
    #[serde(default, skip_serializing_if = "Owners::is_empty")]
    pub managed_fields: Owners,
    /// True while an older object of this name, or of the name of what this one belongs to, is still being deleted: this one is
    /// declared, and nothing is done about it until then.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(skip)]
    pub waiting: bool,
    /// Of a Process: the number of its service's revision that it is to run from; 0 when none was decided on yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(skip)]
    pub revision: u64,
    /// Since when it has to do its work with it, in milliseconds since 1970; 0 while it should not run.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(skip)]
    pub revised_ms: u64,
    /// Of a Process: the lease that it is to run under, in seconds; 0 when it is to run under none.
    #[serde(default, skip_serializing_if = "is_zero32")]
    #[schemars(skip)]
    pub lease: u32,
    /// Of a Process: for how many milliseconds it may go on once nobody renews its lease, whatever its node has taken up so far of what was
    /// decided; 0 when there is no end to that, for it may run under no lease.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(skip)]
    pub lease_bound_ms: u64,
    /// Of a Process that is being deleted: its place was given to another one though its node has not confirmed that it is gone.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(skip)]
    pub given_up: bool,
    /// The call of the API that has changed it last; none where none has. What a manifest or the placement changes leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub last_call: Option<Call>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_zero32(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_who_asked_for_what_and_has_a_bounded_path() {
        let call = Call {
            who: Some(("ci".into(), "operator".into())),
            peer: "192.0.2.7".into(),
            method: "PUT".into(),
            path: "/1.0/a".into(),
            at: "2026-01-01T00:00:00Z".into(),
        };
        assert_eq!(call.to_string(), "PUT /1.0/a by ci (operator) from 192.0.2.7");
        let nobody = Call { who: None, ..call.clone() };
        assert_eq!(nobody.to_string(), "PUT /1.0/a by anonymous from 192.0.2.7");
        assert_eq!(call.clone().bounded(), call);
        let long = Call { path: "é".repeat(8000), ..call }.bounded();
        assert_eq!((long.path.chars().count(), long.path.chars().last()), (MAX_PATH, Some('…')));
    }
}
