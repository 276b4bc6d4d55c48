//! Documents to what should be on one node: templates rendered, options filled in, hashes taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::orders::ties;
use super::revision::Declarations;
use super::step::{Care, Check, Probe, Start};
use super::world::{ArtifactSource, DesiredProcess, NodeDesired};
use crate::model::artifact::name_of;
use crate::model::id::revision_name;
use crate::model::kinds::{ArtifactSpec, HealthSpec, Object, ProcessSpec, ServiceSpec, ServiceTypeSpec};
use crate::model::meta::{DRAINING, Key, Kind, RESTARTED};
use crate::model::secret::hex;
use crate::model::template::{Context, Part, Renderer};
use crate::model::{Document, Documents, Spec};

/// The type of service that authenticates users by their passwords.
const AUTH: &str = "auth";

/// What templates may use besides the documents.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Path of the controller's own program, for examples that run on the controller's machine.
    pub mainstay: String,
    /// The node's own directory, in full, once it has told that; artifacts are below it.
    pub root: Option<String>,
}

/// All that should be on one node, by the documents.
pub fn desired(documents: &Documents, node_key: &Key, surroundings: &Surroundings) -> NodeDesired {
    let mut desired = NodeDesired::default();
    let Some(node) = documents.get(node_key) else { return desired };
    desired.schedulable = takes_new(node);
    let instance = node_key.namespace.as_str();
    let processes: Vec<_> = documents.processes_on(instance, &node_key.name).collect();
    // What the processes of a service that run from one revision have in common is found once for all of them.
    let mut found: BTreeMap<(&str, u64), Result<Resolved<'_>, String>> = BTreeMap::new();
    let mut declarations = Declarations::new(documents);
    for (document, process) in &processes {
        let number = document.metadata.revision;
        found.entry((&process.service, number)).or_insert_with(|| {
            Resolved::find(documents, &mut declarations, instance, &process.service, number)
        });
    }
    let mut services = Map::new();
    let mut has_auth = false;
    for ((id, _), resolved) in &found {
        if let Ok(resolved) = resolved {
            has_auth |= resolved.declared.0.kind == AUTH;
            services.entry((*id).to_owned()).or_insert_with(|| resolved.bundled());
        }
    }
    // Once for the node, not for each of its processes: there may be many tenants and users.
    let tenancy = if services.is_empty() { json!({}) } else { tenancy(documents, instance, has_auth) };
    let of_node = OfNode {
        key: node_key,
        instance: instance_value(documents, instance),
        parts: node_parts(documents, node_key, surroundings),
        root: surroundings.root.as_deref(),
        tenancy: hash(&[&tenancy.to_string()]),
    };
    let mut starts = BTreeMap::new();
    for (of, resolved) in &found {
        let starter = resolved.as_ref().map_err(Clone::clone);
        starts.insert(*of, starter.and_then(|resolved| Starter::new(&of_node, of.0, resolved)));
    }
    let renderer = Renderer::default();
    for (document, process) in processes {
        let id = document.metadata.name.clone();
        let of = (process.service.as_str(), document.metadata.revision);
        let resolved = found.get(&of).and_then(|found| found.as_ref().ok());
        let service_type = resolved.map(|resolved| resolved.service_type);
        let artifact = service_type.and_then(|service_type| service_type.artifact.as_ref());
        if let Some(ArtifactSpec { path, address: Some(address), size: Some(size), .. }) = artifact {
            let source = ArtifactSource { path: path.clone(), size: *size };
            desired.artifacts.insert(address.clone(), source);
        }
        let service = documents.service(&Key::within(Kind::Service, instance, &*process.service));
        let start = match starts.get(&of) {
            Some(Ok(starter)) => starter.start(&renderer, &id, document.metadata.lease).map(Arc::new),
            Some(Err(why)) => Err(why.clone()),
            None => Err("it was not found".into()),
        };
        desired.processes.insert(
            id.clone(),
            DesiredProcess {
                id,
                service: process.service.clone(),
                running: wanted(process, service),
                deleting: document.is_deleting(),
                stop: service_type.map(|found| found.stop.clone()).unwrap_or_default(),
                reload: service_type.and_then(|found| found.reload.as_ref()).map(|reload| reload.signal),
                start_ms: service_type.map_or(0, ServiceTypeSpec::start_ms),
                start,
                artifact: artifact.and_then(|artifact| artifact.address.clone()),
                ties: ties(documents, document, process),
            },
        );
    }
    if !services.is_empty() {
        let mut bundle = tenancy;
        bundle["instance"] = of_node.instance;
        bundle["node"] = json!({ "id": node_key.name });
        bundle["services"] = services.into();
        let text = bundle.to_string();
        desired.bundle = Some((hash(&[&text]), text));
    }
    desired
}

/// Whether something may be started on a node: it is not cordoned, nor being drained.
pub fn takes_new(node: &Document) -> bool {
    let Spec::Node(spec) = &node.spec else { return false };
    spec.status != Some(false) && !node.metadata.annotations.contains_key(DRAINING)
}

/// Whether a process should run: as itself says, or else its service, or else yes.
pub fn wanted(process: &ProcessSpec, service: Option<&ServiceSpec>) -> bool {
    process.running.or_else(|| service.and_then(|service| service.running)).unwrap_or(true)
}

/// A service's options with the defaults that its type's schema declares.
pub fn effective_options(service: &ServiceSpec, service_type: &ServiceTypeSpec) -> Object {
    let mut options = service.options.clone().unwrap_or_default();
    let declared = service_type.options_schema.get("properties").and_then(Value::as_object);
    for (name, property) in declared.into_iter().flatten() {
        if let Some(default) = property.get("default") {
            options.entry(name.clone()).or_insert_with(|| default.clone());
        }
    }
    options
}

/// A service with everything it refers to, as processes of one revision see it.
struct Resolved<'a> {
    /// The service as it is declared now, and its type.
    declared: (&'a ServiceSpec, &'a ServiceTypeSpec),
    /// What the processes are started with: of what is declared now, or of an earlier revision.
    service: &'a ServiceSpec,
    service_type: &'a ServiceTypeSpec,
    /// What an earlier revision says of the instance.
    instance: Option<&'a Object>,
    /// With the live ones as they are declared now.
    options: Object,
    restarted: Option<&'a str>,
}

impl<'a> Resolved<'a> {
    /// `number` is that of the revision that they are to run from; 0 for what is declared now.
    fn find(
        documents: &'a Documents,
        declarations: &mut Declarations<'a>,
        instance: &str,
        id: &str,
        number: u64,
    ) -> Result<Resolved<'a>, String> {
        let key = Key::within(Kind::Service, instance, id);
        let missing = || format!("{key} does not exist");
        let (document, service) = documents.get(&key).zip(documents.service(&key)).ok_or_else(missing)?;
        let type_key = Key::cluster(Kind::ServiceType, &*service.kind);
        let service_type =
            documents.service_type(&type_key).ok_or_else(|| format!("{type_key} does not exist"))?;
        let declared = (service, service_type);
        let options = effective_options(service, service_type);
        let revision = documents.revision(&Key::within(Kind::Revision, instance, revision_name(id, number)));
        let earlier = revision.filter(|revision| !declarations.is(document, service, revision));
        let Some(earlier) = earlier else {
            let restarted = document.metadata.annotations.get(RESTARTED).map(String::as_str);
            return Ok(Resolved { declared, service, service_type, instance: None, options, restarted });
        };
        let mut then = effective_options(&earlier.template, &earlier.service_type);
        for name in &earlier.service_type.live_options {
            then.extend(options.get(name).map(|value| (name.clone(), value.clone())));
        }
        Ok(Resolved {
            declared,
            service: &earlier.template,
            service_type: &earlier.service_type,
            instance: Some(&earlier.instance),
            options: then,
            restarted: earlier.restarted.as_deref(),
        })
    }

    fn bundled(&self) -> Value {
        let (service, service_type) = self.declared;
        let mut bundled = json!({
            "type": service.kind,
            "name": service.name,
            "options": effective_options(service, service_type),
        });
        if let Some(level) = service.log_level {
            bundled["log-level"] = json!(level);
        }
        bundled
    }
}

/// What all processes on a node have in common.
struct OfNode<'a> {
    key: &'a Key,
    instance: Value,
    /// What templates may use, whatever the service.
    parts: Vec<(&'static str, Part)>,
    root: Option<&'a str>,
    /// Hash of what the bundle says of tenants, integrations and users.
    tenancy: String,
}

fn node_parts(documents: &Documents, key: &Key, surroundings: &Surroundings) -> Vec<(&'static str, Part)> {
    let mut node = documents.get(key).map_or(Value::Null, |node| node.spec.to_value());
    if let Some(fields) = node.as_object_mut() {
        fields.remove("password");
        fields.insert("id".into(), key.name.clone().into());
    }
    vec![
        ("instance", instance_value(documents, &key.namespace).into()),
        ("node", node.into()),
        ("mainstay", Value::from(surroundings.mainstay.as_str()).into()),
    ]
}

/// Starts the processes of one service on a node.
struct Starter<'a> {
    service_type: &'a ServiceTypeSpec,
    command: &'a [String],
    /// The type's, and then the service's own.
    templates: Vec<(&'a String, &'a String)>,
    /// What templates may use, but for the process.
    parts: Vec<(&'static str, Part)>,
    /// Variables that are the same for all of them.
    env: BTreeMap<String, String>,
    /// Options that need a restart when they change.
    fixed: Object,
    live: String,
    /// Told by a restart that people asked for.
    restarted: Option<&'a str>,
}

impl<'a> Starter<'a> {
    fn new(node: &OfNode<'_>, id: &str, resolved: &'a Resolved<'a>) -> Result<Starter<'a>, String> {
        let Resolved { declared, service, service_type, instance, options, restarted } = resolved;
        let command = service.command.as_ref().unwrap_or(&service_type.command);
        if command.is_empty() {
            return Err(format!("neither the service nor its type {} has a command", service.kind));
        }
        let artifact = match &service_type.artifact {
            Some(artifact) => Some(place_of(artifact, node.root)?),
            None => None,
        };
        let mut parts = node.parts.clone();
        let mut told = json!(service);
        told["id"] = id.into();
        parts.push(("service", told.into()));
        if let Some(then) = instance {
            let mut instance = node.instance.clone();
            if let Some(fields) = instance.as_object_mut() {
                fields.extend((*then).clone());
            }
            // The later one of a name is the one that is there.
            parts.push(("instance", instance.into()));
        }
        parts.push(("options", Value::from(options.clone()).into()));
        parts.extend(artifact.iter().map(|artifact| ("artifact", Value::from(artifact.as_str()).into())));
        let mut env: BTreeMap<String, String> = [
            ("MAINSTAY_INSTANCE", node.key.namespace.as_str()),
            ("MAINSTAY_SERVICE", id),
            ("MAINSTAY_NODE", node.key.name.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        // In the environment always, so that another content is another start whatever the command says.
        env.extend(artifact.map(|artifact| ("MAINSTAY_ARTIFACT".to_owned(), artifact)));
        let is_live = |name: &String| service_type.live_options.contains(name);
        let (live, fixed): (Object, Object) =
            options.clone().into_iter().partition(|(name, _)| is_live(name));
        let live = match &service_type.reload {
            Some(_) => hash(&[&json!([live, declared.0.log_level, node.instance, node.tenancy]).to_string()]),
            None => "-".into(),
        };
        let templates = service_type.env.iter().chain(&service.env).collect();
        Ok(Starter { service_type, command, templates, parts, env, fixed, live, restarted: *restarted })
    }

    fn start(&self, renderer: &Renderer, process: &str, lease: u32) -> Result<Start, String> {
        let of_process = ("process", json!({ "id": process }).into());
        let context: Context = self.parts.iter().cloned().chain([of_process]).collect();
        let render = |what: &str, template: &str| {
            renderer.render(template, &context).map_err(|error| format!("{what}: {error}"))
        };
        let command = self
            .command
            .iter()
            .enumerate()
            .map(|(at, template)| render(&format!("command[{at}]"), template))
            .collect::<Result<Vec<_>, _>>()?;
        let mut env = BTreeMap::new();
        for (name, template) in &self.templates {
            env.insert((*name).clone(), render(&format!("env.{name}"), template)?);
        }
        env.extend(self.env.clone());
        env.insert("MAINSTAY_PROCESS".into(), process.into());
        let health = self.service_type.health.as_ref().map(|health| check(health, render)).transpose()?;
        let log = self.service_type.log;
        // The node stops it itself when its lease is over, so it has to know how.
        let lease = (lease != 0).then_some(lease);
        let guard = lease.map(|lease| format!(" {lease} {:?}", self.service_type.stop)).unwrap_or_default();
        let care = Care { hash: hash(&[&format!("{log:?} {health:?}{guard}")]), log, health, lease };
        let hash = match self.restarted {
            None => hash(&[&text(&(&command, &env, &self.fixed))]),
            Some(restarted) => hash(&[&text(&(&command, &env, &self.fixed, restarted))]),
        };
        let (live, stop) = (self.live.clone(), self.service_type.stop.clone());
        Ok(Start { command, env, hash, live, stop, care })
    }
}

/// Where an artifact is on a node.
fn place_of(artifact: &ArtifactSpec, root: Option<&str>) -> Result<String, String> {
    let path = &artifact.path;
    let (Some(address), Some(_)) = (&artifact.address, artifact.size) else {
        return Err(format!("its artifact {path} was not read yet; only a manifests folder reads artifacts"));
    };
    let root = root.ok_or("its node has not said where its directory is")?;
    Ok(format!("{root}/a/{address}/{}", name_of(path)?))
}

/// A health check with its templates rendered, and what they gave read.
fn check(
    health: &HealthSpec,
    render: impl Fn(&str, &str) -> Result<String, String>,
) -> Result<Check, String> {
    let probe = match health {
        HealthSpec { tcp: Some(template), .. } => {
            let address = render("health.tcp", template)?;
            let found = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
            let Some((host, port)) = found else {
                return Err(format!("health.tcp: {address:?} is not `host:port`"));
            };
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            // Part of a path for one of the tools that the node may use.
            if host.is_empty() || host.starts_with('-') || host.contains(['/', ' ']) {
                return Err(format!("health.tcp: {host:?} is no host"));
            }
            Probe::Tcp { host, port }
        }
        HealthSpec { http: Some(template), .. } => {
            let url = render("health.http", template)?;
            let known = url.starts_with("http://") || url.starts_with("https://");
            if !known || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(format!("health.http: {url:?} is no http:// or https:// address"));
            }
            Probe::Http { url }
        }
        HealthSpec { exec, .. } => {
            let command = exec.iter().flatten().enumerate();
            let command = command
                .map(|(at, template)| render(&format!("health.exec[{at}]"), template))
                .collect::<Result<Vec<_>, _>>()?;
            Probe::Exec { command }
        }
    };
    Ok(Check {
        probe,
        interval_seconds: health.interval_seconds,
        timeout_seconds: health.timeout_seconds,
        failure_threshold: health.failure_threshold,
        success_threshold: health.success_threshold,
    })
}

/// What the bundle says of an instance's tenants, of the integrations that they may use, and of the users with access to them.
/// An entry of the catalogue stands there once, however many tenants have it; one that does not exist is nobody's.
///
/// The hashes of the users' passwords and client secrets are told only where a service authenticates users by them. There they are
/// needed, and are no secret in clear: Argon2id is made to be stored, and 256 random bits are not found by trying. The file is its account's alone (mode 0600). Where no such service is, nobody
/// needs them, so they are not there to be taken.
fn tenancy(documents: &Documents, instance: &str, with_hashes: bool) -> Value {
    let (mut tenants, mut integrations, mut users) = (Map::new(), Map::new(), Map::new());
    for (key, tenant) in documents.tenants_of(instance) {
        let mut usable = Vec::new();
        for id in &tenant.integrations {
            let entry = Key::cluster(Kind::Integration, id.as_str());
            if documents.live(&entry).is_some()
                && let Some(entry) = documents.integration(&entry)
            {
                integrations.entry(id.clone()).or_insert_with(|| json!(entry));
                usable.push(id.as_str());
            }
        }
        let mut told = json!({ "name": tenant.name, "integrations": usable });
        if let Some(limit) = tenant.rate_limit {
            told["rate-limit"] = json!(limit);
        }
        tenants.insert(key.name.clone(), told);
        for (email, user) in documents.users_of(&key.name) {
            let told = users.entry(email.name.clone()).or_insert_with(|| {
                let mut told = json!({ "name": user.name, "tenants": [] });
                if let Some(id) = &user.client_id {
                    told["client-id"] = id.as_str().into();
                }
                let hashes = [
                    ("password-hash", &user.password_hash),
                    ("client-secret-hash", &user.client_secret_hash),
                ];
                for (name, hash) in hashes.into_iter().filter(|_| with_hashes) {
                    if let Some(hash) = hash {
                        told[name] = hash.as_str().into();
                    }
                }
                told
            });
            if let Some(access) = told["tenants"].as_array_mut() {
                access.push(key.name.as_str().into());
            }
        }
    }
    json!({ "tenants": tenants, "integrations": integrations, "users": users })
}

pub(super) fn instance_value(documents: &Documents, id: &str) -> Value {
    let mut instance = documents
        .instance(&Key::cluster(Kind::Instance, id))
        .map_or_else(|| json!({}), |instance| json!(instance));
    instance["id"] = id.into();
    instance
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("what is hashed has string keys and no failing parts")
}

/// The first 16 hexadecimal digits of a SHA-256 over parts: short enough for a line, long enough never to meet by chance.
pub(super) fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::kinds::{
        InstanceSpec, IntegrationSpec, NodeSpec, ReloadSpec, Signal, TenantSpec, UserSpec,
    };
    use crate::model::{Document, Metadata, Spec};

    fn document(namespace: &str, name: &str, spec: Spec) -> Document {
        let metadata = Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() };
        Document { metadata, spec }
    }

    fn tenant(name: &str, instance: &str, integrations: &[&str]) -> Document {
        let spec = TenantSpec {
            name: name.to_uppercase(),
            rate_limit: (name == "red").then_some(250.0),
            instance: Some(instance.into()),
            integrations: integrations.iter().map(|id| (*id).to_owned()).collect(),
        };
        document("", name, Spec::Tenant(spec))
    }

    fn user(email: &str, tenants: &[&str]) -> Document {
        let spec = UserSpec {
            name: "A Person".into(),
            client_id: Some("c1".into()),
            tenants: tenants.iter().map(|id| (*id).to_owned()).collect(),
            password_hash: Some("$argon2id$it".into()),
            client_secret_hash: Some("5ec7e7".into()),
        };
        document("", email, Spec::User(spec))
    }

    fn integration(name: &str, display: &str) -> Document {
        let spec =
            IntegrationSpec { kind: name.into(), display: display.into(), ..IntegrationSpec::default() };
        document("", name, Spec::Integration(spec))
    }

    /// Two instances; IN1 has a node with a process of a type that is told of changes, and one with a process of the type auth.
    fn world() -> Documents {
        let kind = |name: &str| {
            let spec = ServiceTypeSpec {
                command: vec!["x".into()],
                reload: Some(ReloadSpec { signal: Signal::Hup }),
                ..ServiceTypeSpec::default()
            };
            document("", name, Spec::ServiceType(spec))
        };
        let service = |name: &str, kind: &str| {
            let spec = ServiceSpec { name: name.into(), kind: kind.into(), ..ServiceSpec::default() };
            document("IN1", name, Spec::Service(spec))
        };
        let process = |service: &str, node: &str| {
            let spec = ProcessSpec { service: service.into(), node: node.into(), running: None };
            document("IN1", service, Spec::Process(spec))
        };
        let instance = |name: &str| document("", name, Spec::Instance(InstanceSpec::default()));
        let node = |name: &str| document("IN1", name, Spec::Node(NodeSpec::default()));
        [
            instance("IN1"),
            instance("IN2"),
            node("ND1"),
            node("ND2"),
            kind("rest"),
            kind(AUTH),
            service("web", "rest"),
            service("login", AUTH),
            process("web", "ND1"),
            process("login", "ND2"),
            integration("echo", "Echo"),
            integration("timer", "Timer"),
            tenant("red", "IN1", &["echo", "gone"]),
            tenant("blue", "IN1", &[]),
            tenant("other", "IN2", &["timer"]),
            user("ada@x", &["red", "other", "blue", "nowhere"]),
            user("bo@x", &["other"]),
        ]
        .into_iter()
        .collect()
    }

    fn rendered(documents: &Documents, node: &str) -> NodeDesired {
        desired(documents, &Key::within(Kind::Node, "IN1", node), &Surroundings::default())
    }

    fn bundle(documents: &Documents, node: &str) -> Value {
        let (_, text) = rendered(documents, node).bundle.expect("a process is there");
        serde_json::from_str(&text).expect("the bundle is JSON")
    }

    #[test]
    fn the_bundle_names_the_tenants_of_the_instance_with_their_integrations_and_users_and_no_others() {
        let bundle = bundle(&world(), "ND1");
        assert_eq!(
            bundle["tenants"],
            json!({
                "blue": { "name": "BLUE", "integrations": [] },
                "red": { "name": "RED", "rate-limit": 250.0, "integrations": ["echo"] },
            })
        );
        assert_eq!(
            bundle["integrations"],
            json!({ "echo": { "type": "echo", "display": "Echo", "schema": [] } })
        );
        assert_eq!(
            bundle["users"],
            json!({ "ada@x": { "name": "A Person", "client-id": "c1", "tenants": ["blue", "red"] } })
        );
        assert_eq!((&bundle["instance"]["id"], &bundle["node"]["id"]), (&json!("IN1"), &json!("ND1")));
        assert_eq!(bundle["services"]["web"]["type"], "rest");
    }

    #[test]
    fn the_hash_of_a_password_goes_only_where_passwords_are_checked() {
        assert_eq!(bundle(&world(), "ND2")["users"]["ada@x"]["password-hash"], "$argon2id$it");
        let (_, elsewhere) = rendered(&world(), "ND1").bundle.expect("a process is there");
        assert!(!elsewhere.contains("argon2id") && !elsewhere.contains("5ec7e7"), "{elsewhere}");
        assert_eq!(bundle(&world(), "ND2")["users"]["ada@x"]["client-secret-hash"], "5ec7e7");
    }

    /// What a service is told as a hash, and what it was started with.
    fn hashes(documents: &Documents) -> (String, String) {
        let desired = rendered(documents, "ND1");
        let start = desired.processes["web"].start.as_ref().expect("it can be started");
        (start.live.clone(), start.hash.clone())
    }

    #[test]
    fn a_service_is_told_of_every_change_of_its_tenants_and_is_not_restarted_for_it() {
        let mut going = tenant("red", "IN1", &["echo"]);
        going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        let changes: [(&str, Document); 6] = [
            ("moved", tenant("red", "IN2", &["echo"])),
            ("deleted", going),
            ("arrived", tenant("other", "IN1", &[])),
            ("given an integration", tenant("blue", "IN1", &["timer"])),
            ("an integration of theirs changed", integration("echo", "Echo 2")),
            ("access", user("bo@x", &["red"])),
        ];
        let (live, fixed) = hashes(&world());
        for (what, change) in changes {
            let mut documents = world();
            documents.insert(change);
            let (live_then, fixed_then) = hashes(&documents);
            assert_ne!(live_then, live, "{what}");
            assert_eq!(fixed_then, fixed, "{what}");
        }
    }

    #[test]
    fn a_lease_changes_how_a_process_is_looked_after_and_not_what_it_is() {
        let start = |lease: u32, grace_seconds: u32| {
            let mut documents = world();
            let mut change = |key: Key, change: &dyn Fn(&mut Document)| {
                let mut found = documents.get(&key).map(|found| Document::clone(found)).expect("it is there");
                change(&mut found);
                documents.insert(found);
            };
            change(Key::within(Kind::Process, "IN1", "web"), &|process| process.metadata.lease = lease);
            change(Key::cluster(Kind::ServiceType, "rest"), &|kind| {
                if let Spec::ServiceType(spec) = &mut kind.spec {
                    spec.stop.grace_seconds = grace_seconds;
                }
            });
            rendered(&documents, "ND1").processes["web"].start.clone().expect("it can be started")
        };
        let (free, short, long) = (start(0, 10), start(5, 10), start(30, 10));
        assert_eq!([&free, &short, &long].map(|it| it.care.lease), [None, Some(5), Some(30)]);
        assert_eq!((&free.hash, &short.hash), (&short.hash, &long.hash));
        // The node stops it itself, so how it does is told anew too.
        let patient = start(30, 20);
        let cares: BTreeSet<String> = [&free, &short, &long, &patient].map(|it| it.care.hash.clone()).into();
        assert_eq!(cares.len(), 4);
        assert_eq!(start(0, 20).care, free.care);
    }

    #[test]
    fn what_is_not_for_a_service_is_not_told() {
        let changes: [(&str, Document); 3] = [
            ("another instance's tenant", tenant("other", "IN2", &[])),
            ("an integration of others", integration("timer", "Timer 2")),
            ("a user of others", user("bo@x", &[])),
        ];
        let before = rendered(&world(), "ND1");
        for (what, change) in changes {
            let mut documents = world();
            documents.insert(change);
            assert_eq!(rendered(&documents, "ND1"), before, "{what}");
        }
    }
}
