//! Documents to what should be on one node: templates rendered, options filled in, hashes taken.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::step::Start;
use super::world::{ArtifactSource, DesiredProcess, NodeDesired};
use crate::model::artifact::name_of;
use crate::model::kinds::{ArtifactSpec, Object, ProcessSpec, ServiceSpec, ServiceTypeSpec};
use crate::model::meta::{Key, Kind};
use crate::model::secret::hex;
use crate::model::template::{Renderer, with_aliases};
use crate::model::{Document, Documents};

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
    let Some(node) = documents.node(node_key) else { return desired };
    desired.schedulable = node.status != Some(false);
    let renderer = Renderer::default();
    let mut services = Map::new();
    for (document, process) in documents.processes_on(&node_key.namespace, &node_key.name) {
        let found = Resolved::find(documents, node_key, document, process);
        if let Ok(resolved) = &found {
            services.entry(process.service.clone()).or_insert_with(|| resolved.bundled());
        }
        let id = document.metadata.name.clone();
        let artifact = found.as_ref().ok().and_then(|found| found.service_type.artifact.as_ref());
        if let Some(ArtifactSpec { path, address: Some(address), size: Some(size), .. }) = artifact {
            let source = ArtifactSource { path: path.clone(), size: *size };
            desired.artifacts.insert(address.clone(), source);
        }
        let artifact = artifact.and_then(|artifact| artifact.address.clone());
        let (stop, reload) = match &found {
            Ok(found) => {
                (found.service_type.stop.clone(), found.service_type.reload.as_ref().map(|r| r.signal))
            }
            Err(_) => Default::default(),
        };
        let service = documents.service(&Key::within(Kind::Service, &*node_key.namespace, &*process.service));
        desired.processes.insert(
            id.clone(),
            DesiredProcess {
                id,
                service: process.service.clone(),
                running: wanted(process, service),
                deleting: document.is_deleting(),
                stop,
                reload,
                start: found.and_then(|found| found.start(&renderer, surroundings)),
                artifact,
            },
        );
    }
    if !services.is_empty() {
        let bundle = json!({
            "instance": instance_value(documents, &node_key.namespace),
            "node": { "id": node_key.name },
            "services": services,
        });
        let text = bundle.to_string();
        desired.bundle = Some((hash(&[&text]), text));
    }
    desired
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

/// A process with everything it refers to.
struct Resolved<'a> {
    process_id: &'a str,
    node_key: &'a Key,
    node: Value,
    instance: Value,
    process: &'a ProcessSpec,
    service: &'a ServiceSpec,
    service_type: &'a ServiceTypeSpec,
    options: Object,
}

impl<'a> Resolved<'a> {
    fn find(
        documents: &'a Documents,
        node_key: &'a Key,
        document: &'a Document,
        process: &'a ProcessSpec,
    ) -> Result<Resolved<'a>, String> {
        let service_key = Key::within(Kind::Service, &*node_key.namespace, &*process.service);
        let service =
            documents.service(&service_key).ok_or_else(|| format!("{service_key} does not exist"))?;
        let type_key = Key::cluster(Kind::ServiceType, &*service.kind);
        let service_type =
            documents.service_type(&type_key).ok_or_else(|| format!("{type_key} does not exist"))?;
        let mut node = documents.get(node_key).map_or(Value::Null, |node| node.spec.to_value());
        if let Some(fields) = node.as_object_mut() {
            fields.remove("password");
            fields.insert("id".into(), node_key.name.clone().into());
        }
        Ok(Resolved {
            process_id: &document.metadata.name,
            node_key,
            node,
            instance: instance_value(documents, &node_key.namespace),
            process,
            service,
            service_type,
            options: effective_options(service, service_type),
        })
    }

    fn bundled(&self) -> Value {
        let mut bundled = json!({
            "type": self.service.kind,
            "name": self.service.name,
            "options": self.options,
        });
        if let Some(level) = self.service.log_level {
            bundled["log-level"] = json!(level);
        }
        bundled
    }

    fn start(&self, renderer: &Renderer, surroundings: &Surroundings) -> Result<Start, String> {
        let template = self.service.command.as_ref().unwrap_or(&self.service_type.command);
        if template.is_empty() {
            return Err(format!("neither the service nor its type {} has a command", self.service.kind));
        }
        let mut service = json!(self.service);
        service["id"] = self.process.service.clone().into();
        let artifact = match &self.service_type.artifact {
            Some(artifact) => Some(place_of(artifact, surroundings.root.as_deref())?),
            None => None,
        };
        let mut context = with_aliases(json!({
            "instance": self.instance,
            "node": self.node,
            "service": service,
            "process": { "id": self.process_id },
            "options": self.options,
            "mainstay": surroundings.mainstay,
        }));
        if let Some(artifact) = &artifact {
            context["artifact"] = artifact.as_str().into();
        }
        let render = |what: &str, template: &str| {
            renderer.render(template, &context).map_err(|error| format!("{what}: {error}"))
        };
        let command = template
            .iter()
            .enumerate()
            .map(|(at, template)| render(&format!("command[{at}]"), template))
            .collect::<Result<Vec<_>, _>>()?;
        let mut env = std::collections::BTreeMap::new();
        for (name, template) in self.service_type.env.iter().chain(&self.service.env) {
            env.insert(name.clone(), render(&format!("env.{name}"), template)?);
        }
        for (name, value) in [
            ("MAINSTAY_INSTANCE", &self.node_key.namespace),
            ("MAINSTAY_SERVICE", &self.process.service),
            ("MAINSTAY_NODE", &self.node_key.name),
        ] {
            env.insert(name.into(), value.clone());
        }
        env.insert("MAINSTAY_PROCESS".into(), self.process_id.into());
        // In the environment always, so that another content is another start whatever the command says.
        env.extend(artifact.map(|artifact| ("MAINSTAY_ARTIFACT".to_owned(), artifact)));
        let is_live = |name: &String| self.service_type.live_options.contains(name);
        let (live, fixed): (Object, Object) =
            self.options.clone().into_iter().partition(|(name, _)| is_live(name));
        let live = match &self.service_type.reload {
            Some(_) => hash(&[&json!([live, self.service.log_level, self.instance]).to_string()]),
            None => "-".into(),
        };
        let hash = hash(&[&json!([command, env, fixed]).to_string()]);
        Ok(Start { command, env, hash, live, stop: self.service_type.stop.clone() })
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

fn instance_value(documents: &Documents, id: &str) -> Value {
    let mut instance = documents
        .instance(&Key::cluster(Kind::Instance, id))
        .map_or_else(|| json!({}), |instance| json!(instance));
    instance["id"] = id.into();
    instance
}

/// The first 16 hexadecimal digits of a SHA-256 over parts: short enough for a line, long enough never to meet by chance.
fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize()[..8])
}
