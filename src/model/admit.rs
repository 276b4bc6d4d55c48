//! The door: the only way from text to a [`Document`]. Manifests, applied files and `/1.0` bodies all come through here.
//!
//! A document is checked against its kind's published schema first, so that what is documented and what is enforced can't
//! differ and every mistake is found at once, then against the rules that a schema can't say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::artifact;
use super::document::{Document, Spec, schema};
use super::id::{check_email, check_id, did_you_mean};
use super::kinds::{
    ArtifactSpec, FailoverSpec, HealthSpec, NodeSpec, PasswordFrom, ProcessSpec, ServiceSpec,
    ServiceTypeSpec, Transport, UserSpec,
};
use super::locate::{self, Located, Position, dotted, escape};
use super::meta::{Key, Kind, Metadata, TAKE_OVER};
use super::owners::{Statement, stated};
use super::problem::Problem;
use super::secret::{Clear, Sealed, Sealer};
use super::template::Renderer;

/// Where an input comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Its name in problems, such as `services/web.yaml`.
    pub file: Option<String>,
    /// What relative paths in it are relative to. Without one they are refused.
    pub directory: Option<PathBuf>,
}

/// A document that passed the door, and where its parts stood.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The document.
    pub document: Document,
    /// The file it came from, if it did.
    pub file: Option<String>,
    /// The fields that stand in the text, by their JSON pointers.
    stated: BTreeSet<String>,
    located: Located,
}

impl Admitted {
    /// The fields that it states, and not those that the door has filled in.
    pub fn statement(&self) -> Statement {
        Statement::new(&self.stated, &self.document)
    }

    /// Whether it takes the fields that others have set to something else.
    pub fn takes_over(&self) -> bool {
        self.document.metadata.annotations.get(TAKE_OVER).is_some_and(|value| value == "true")
    }

    /// Something that turns out to be wrong with the value at this JSON pointer.
    pub fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        self.problem_at(self.located.value_at(pointer), pointer, message.into())
    }

    /// Something that turns out to be wrong with the name of the field at this JSON pointer.
    pub fn problem_with_key(&self, pointer: &str, message: impl Into<String>) -> Problem {
        self.problem_at(self.located.key_at(pointer), pointer, message.into())
    }

    fn problem_at(&self, at: Option<Position>, pointer: &str, message: String) -> Problem {
        Problem { file: self.file.clone(), at, path: dotted(pointer), message }
    }

    /// Where the document starts, as `file:line`, if it came from a file.
    pub fn place(&self) -> Option<String> {
        let (line, _) = self.located.value_at("")?;
        self.file.as_ref().map(|file| format!("{file}:{line}"))
    }
}

/// Admits every document of a text, or none.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn admit_text(text: &str, origin: &Origin, sealer: &Sealer) -> Result<Vec<Admitted>, Vec<Problem>> {
    let documents = locate::read(text, origin.file.as_deref()).map_err(|problem| vec![problem])?;
    let mut admitted = Vec::new();
    let mut problems = Vec::new();
    for located in documents {
        match admit(located, origin, sealer) {
            Ok(document) => admitted.push(document),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(admitted) } else { Err(problems) }
}

/// Admits one document.
///
/// # Errors
/// Everything that is wrong with it.
pub fn admit(located: Located, origin: &Origin, sealer: &Sealer) -> Result<Admitted, Vec<Problem>> {
    let mut report = Report { located: &located, origin, problems: Vec::new() };
    let Some(kind) = kind_of(&mut report) else { return Err(report.problems) };
    report.check_schema(kind);
    if !report.problems.is_empty() {
        return Err(report.problems);
    }
    let document = match build(kind, &located.value, sealer) {
        Ok(document) => document,
        Err(error) => {
            // The schema is generated from the types, so this is a rule that only the type knows. Its text may hold
            // the value; a sealed field can't reach here, for it is a string of ours by now.
            report.at("/spec", format!("not a {kind}: {error}"));
            return Err(report.problems);
        }
    };
    let document = check_document(document, &mut report);
    let problems = report.problems;
    if problems.is_empty() {
        let stated = stated(&located.value);
        Ok(Admitted { document, file: origin.file.clone(), stated, located: located.only_marks() })
    } else {
        Err(problems)
    }
}

struct Report<'a> {
    located: &'a Located,
    origin: &'a Origin,
    problems: Vec<Problem>,
}

impl Report<'_> {
    fn at(&mut self, pointer: &str, message: impl Into<String>) {
        self.push(pointer, self.located.value_at(pointer), message.into());
    }

    fn at_key(&mut self, pointer: &str, message: impl Into<String>) {
        self.push(pointer, self.located.key_at(pointer), message.into());
    }

    fn push(&mut self, pointer: &str, at: Option<Position>, message: String) {
        self.problems.push(Problem { file: self.origin.file.clone(), at, path: dotted(pointer), message });
    }

    fn check(&mut self, pointer: &str, result: Result<(), String>) {
        if let Err(message) = result {
            self.at(pointer, message);
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "another crate's list of mistakes; all others share one message"
    )]
    fn check_schema(&mut self, kind: Kind) {
        let (schema, validator) = &SCHEMAS[&kind];
        let located = self.located;
        for error in validator.iter_errors(&located.value) {
            let pointer = error.instance_path().as_str().to_owned();
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    for name in unexpected {
                        let known = known_fields(schema, error.schema_path().as_str());
                        let fix = match did_you_mean(name, known.iter().map(String::as_str)) {
                            Some(meant) => format!("did you mean `{meant}`?"),
                            None => format!("known here: {}", known.join(", ")),
                        };
                        self.at_key(
                            &format!("{pointer}/{}", escape(name)),
                            format!("unknown field `{name}`; {fix}"),
                        );
                    }
                }
                ValidationErrorKind::Required { property } => {
                    let name = property.as_str().unwrap_or_default();
                    self.at(&pointer, format!("`{name}` is missing"));
                }
                ValidationErrorKind::Enum { options } => {
                    let options = options
                        .as_array()
                        .map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
                    self.at(&pointer, format!("not one of {}", options.unwrap_or_default()));
                }
                ValidationErrorKind::Constant { expected_value } => {
                    self.at(&pointer, format!("has to be {expected_value}"));
                }
                // Masked: the value could be a secret.
                _ => self.at(&pointer, error.masked_with("the value").to_string()),
            }
        }
    }
}

/// Each kind's schema, and the same compiled.
static SCHEMAS: LazyLock<BTreeMap<Kind, (Value, Validator)>> = LazyLock::new(|| {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            let schema = schema(kind);
            let validator = jsonschema::validator_for(&schema).expect("our own schemas are schemas");
            (kind, (schema, validator))
        })
        .collect()
});

/// The names of the fields of a kind's spec.
pub fn spec_fields(kind: Kind) -> Vec<&'static str> {
    let schema = &SCHEMAS[&kind].0;
    let spec = schema["properties"]["spec"]["$ref"].as_str().unwrap_or_default();
    schema.pointer(spec.trim_start_matches('#')).map(property_names).unwrap_or_default()
}

/// The field names that stand beside the `additionalProperties` at this place of a schema.
fn known_fields(schema: &Value, keyword: &str) -> Vec<String> {
    // The path runs through `$ref`s, which are followed here step by step.
    let mut at = schema;
    for step in keyword.split('/').skip(1) {
        if step == "additionalProperties" {
            break;
        }
        at = match step {
            "$ref" => {
                at["$ref"].as_str().and_then(|r| schema.pointer(r.trim_start_matches('#'))).unwrap_or(at)
            }
            _ if at.is_array() => step.parse::<usize>().ok().and_then(|n| at.get(n)).unwrap_or(at),
            _ => at.get(step).unwrap_or(at),
        };
    }
    property_names(at).into_iter().map(str::to_owned).collect()
}

/// The names that an object's schema declares.
pub(super) fn property_names(schema: &Value) -> Vec<&str> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

fn kind_of(report: &mut Report<'_>) -> Option<Kind> {
    let Some(kind) = report.located.value.get("kind") else {
        report.at("", "`kind` is missing: a document has apiVersion, kind, metadata and spec");
        return None;
    };
    let name = kind.as_str().unwrap_or_default();
    let known = Kind::parse(name);
    match known {
        Some(kind) if !kind.is_written_by_people() => {
            report.at("/kind", format!("a {kind} is written by the controller; it can't be applied"));
            None
        }
        Some(kind) => Some(kind),
        None => {
            let fix = match did_you_mean(name, Kind::ALL.map(Kind::name)) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("known: {}", Kind::ALL.map(Kind::name).join(", ")),
            };
            report.at("/kind", format!("unknown kind; {fix}"));
            None
        }
    }
}

fn build(kind: Kind, value: &Value, sealer: &Sealer) -> Result<Document, serde_json::Error> {
    let given: Metadata = serde_json::from_value(value["metadata"].clone())?;
    // What the store gives is not taken from people: `get -o yaml | apply -f -` has to be harmless.
    let metadata = Metadata {
        name: given.name,
        namespace: given.namespace,
        labels: given.labels,
        annotations: given
            .annotations
            .into_iter()
            .filter(|(name, _)| !name.starts_with("mainstay.dev/") || name == TAKE_OVER)
            .collect(),
        ..Metadata::default()
    };
    let mut spec = value["spec"].clone();
    if kind == Kind::Node
        && let Some(Value::String(password)) = spec.get("password")
    {
        let place = password_place(&Key::within(kind, &*metadata.namespace, &*metadata.name));
        // As it was shown: sealed for this place with this key, so it is what is meant.
        let shown: Sealed = serde_json::from_value(password.as_str().into())?;
        if sealer.open(&place, &shown).is_err() {
            let sealed = sealer.seal(&place, &Clear::new(password.as_str()));
            spec["password"] = serde_json::to_value(sealed)?;
        }
    }
    Ok(Document { metadata, spec: Spec::from_value(kind, spec)? })
}

/// What a node's password is sealed for.
pub fn password_place(node: &Key) -> String {
    format!("{node} password")
}

fn check_document(mut document: Document, report: &mut Report<'_>) -> Document {
    check_name(&document, report);
    for name in document.metadata.labels.keys().chain(document.metadata.annotations.keys()) {
        if name.is_empty() || name.len() > 317 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            report.at("/metadata", "a label's or annotation's name has 1 to 317 visible characters");
        }
    }
    if let Spec::Node(node) = &mut document.spec
        && let Some(Value::String(password)) = report.located.value.pointer("/spec/password")
        && let Some(c) = password.chars().find(|c| c.is_control())
    {
        // OpenSSH reads a password as one line.
        report.at("/spec/password", format!("a password can't hold the control character {:?}", c as u32));
        node.password = None;
    }
    match &mut document.spec {
        Spec::Node(node) => check_node(node, report),
        Spec::Service(service) => check_service(service, report),
        Spec::ServiceType(service_type) => check_service_type(service_type, report),
        Spec::Process(process) => check_process(process, report),
        Spec::User(user) => check_user(user, report),
        Spec::Instance(_) | Spec::Tenant(_) | Spec::Integration(_) | Spec::Revision(_) | Spec::Event(_) => {}
    }
    document
}

fn check_name(document: &Document, report: &mut Report<'_>) {
    let kind = document.spec.kind();
    let metadata = &document.metadata;
    let name = if kind == Kind::User { check_email(&metadata.name) } else { check_id(&metadata.name) };
    report.check("/metadata/name", name);
    match (kind.is_namespaced(), metadata.namespace.is_empty()) {
        (true, true) => report.at(
            "/metadata",
            format!("`namespace` is missing: a {kind} lives in an instance; write `namespace: IN1`"),
        ),
        (true, false) => report.check("/metadata/namespace", check_id(&metadata.namespace)),
        (false, false) => {
            report.at_key("/metadata/namespace", format!("a {kind} belongs to no instance; remove the line"));
        }
        (false, true) => {}
    }
}

fn check_node(node: &mut NodeSpec, report: &mut Report<'_>) {
    report.check("/spec/ip-address", check_host(&node.ip_address));
    match node.transport {
        Transport::Ssh if node.username.is_empty() => {
            report.at("/spec", "`username` is missing: it is needed to log in over SSH");
        }
        Transport::Ssh => report.check("/spec/username", check_user_name(&node.username)),
        Transport::Local => {
            if node.password.is_some() || node.password_from.is_some() || node.identity_file.is_some() {
                report.at(
                    "/spec",
                    "a node with `transport: local` has no login; remove password and identity-file",
                );
            }
        }
    }
    if node.password.is_some() && node.password_from.is_some() {
        report.at("/spec/password-from", "there is a `password` too; keep one of the two");
    }
    if let Some(key) = &node.host_key {
        let words: Vec<&str> = key.split(' ').collect();
        let fine = matches!(words.as_slice(), [kind, data, ..] if !kind.is_empty() && data.len() > 16);
        if !fine || key.chars().any(char::is_control) {
            report.at(
                "/spec/host-key",
                "not a host key; write `ssh-ed25519 AAAA…` as `ssh-keyscan` prints it, without the address",
            );
        }
    }
    if let Some(file) = &mut node.identity_file {
        resolve(file, "/spec/identity-file", report);
    }
    if let Some(file) = &mut node.ssh_config {
        resolve(file, "/spec/ssh-config", report);
    }
    match &mut node.password_from {
        Some(PasswordFrom::File(file)) => resolve(file, "/spec/password-from/file", report),
        Some(PasswordFrom::Env(name)) => report.check("/spec/password-from/env", check_variable(name)),
        None => {}
    }
}

/// Makes a path absolute. `~/` is the controller's home, resolved where the file is opened.
fn resolve(path: &mut String, pointer: &str, report: &mut Report<'_>) {
    if path.is_empty() || path.chars().any(char::is_control) {
        report.at(pointer, "not a path");
        return;
    }
    if path.starts_with('/') || path.starts_with("~/") {
        return;
    }
    let Some(directory) = &report.origin.directory else {
        report.at(
            pointer,
            "a relative path is relative to a manifest on the server's disk, and this is none; write it in full, or from `~/`",
        );
        return;
    };
    let mut full = directory.clone();
    for part in Path::new(path.as_str()).components() {
        match part {
            Component::ParentDir => {
                full.pop();
            }
            Component::Normal(name) => full.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    *path = full.to_string_lossy().into_owned();
}

/// An IP address, a host name (RFC 1123, section 2.1) or an alias of an ssh_config. Never starts with a dash, so it can't
/// be taken for an option.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_host(host: &str) -> Result<(), String> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let fine = !host.is_empty()
        && host.len() <= 253
        && !host.starts_with(['-', '.'])
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if fine { Ok(()) } else { Err("neither an IP address nor a host name".into()) }
}

/// The name of an account to log in to. Never starts with a dash either, and no shell would read it otherwise.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_user_name(word: &str) -> Result<(), String> {
    let bad = |c: char| {
        c.is_control() || c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '$' | ';' | '&' | '|' | '\\')
    };
    if word.is_empty() || word.len() > 64 || word.starts_with('-') || word.contains(bad) {
        return Err("not a user name".into());
    }
    Ok(())
}

fn check_variable(name: &str) -> Result<(), String> {
    let fine = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fine {
        Ok(())
    } else {
        Err(format!("{name:?} is no name of an environment variable: letters, digits and _"))
    }
}

fn check_command(command: &[String], pointer: &str, report: &mut Report<'_>) {
    let renderer = Renderer::default();
    if command.first().is_some_and(String::is_empty) {
        report.at(&format!("{pointer}/0"), "the program's name is empty");
    }
    for (at, template) in command.iter().enumerate() {
        report.check(&format!("{pointer}/{at}"), renderer.check(template));
    }
}

fn check_env(env: &BTreeMap<String, String>, report: &mut Report<'_>) {
    let renderer = Renderer::default();
    for (name, template) in env {
        let pointer = format!("/spec/env/{}", escape(name));
        if let Err(message) = check_variable(name) {
            report.at_key(&pointer, message);
        } else if name.starts_with("MAINSTAY_") {
            report.at_key(&pointer, "names that start with MAINSTAY_ are ours; choose another");
        }
        report.check(&pointer, renderer.check(template));
    }
}

fn check_service(service: &mut ServiceSpec, report: &mut Report<'_>) {
    report.check("/spec/type", check_id(&service.kind));
    if let Some(command) = &service.command {
        if command.is_empty() {
            report.at("/spec/command", "the command is empty; remove the line to use the type's");
        }
        check_command(command, "/spec/command", report);
    }
    check_env(&service.env, report);
    if service.nodes.is_some() && service.replicas.is_some() {
        report.at("/spec/replicas", "there is a list of `nodes` too; keep one of the two");
    }
    if service.replicas.is_none() && !service.node_selector.is_empty() {
        report.at("/spec/node-selector", "without `replicas` it selects nothing; add `replicas`");
    }
    for (at, node) in service.nodes.iter().flatten().enumerate() {
        let pointer = format!("/spec/nodes/{at}");
        report.check(&pointer, check_id(node));
        if service.nodes.iter().flatten().take(at).any(|earlier| earlier == node) {
            report.at(&pointer, format!("{node} is listed twice; a service has one process on each node"));
        }
    }
    check_after(service, report);
    match service.failover {
        None | Some(FailoverSpec::Hold) => return,
        Some(FailoverSpec::Replace { after }) if !(1..=86_400).contains(&after.0) => {
            report.at("/spec/failover/replace/after", "write a time from `1s` to `24h`");
        }
        Some(FailoverSpec::Fenced { lease }) if !(5..=3600).contains(&lease.0) => {
            report.at("/spec/failover/fenced/lease", "write a time from `5s` to `1h`");
        }
        Some(FailoverSpec::Replace { .. } | FailoverSpec::Fenced { .. }) => {}
    }
    if service.replicas.is_none() {
        report.at_key(
            "/spec/failover",
            "only what is placed by `replicas` can be started on another node; add `replicas`, or remove this",
        );
    }
}

fn check_after(service: &ServiceSpec, report: &mut Report<'_>) {
    for (at, other) in service.after.iter().enumerate() {
        let pointer = format!("/spec/after/{at}");
        report.check(&pointer, check_id(other));
        if service.after.iter().take(at).any(|earlier| earlier == other) {
            report.at(&pointer, format!("{other} is listed twice; remove one"));
        }
    }
}

fn check_service_type(spec: &mut ServiceTypeSpec, report: &mut Report<'_>) {
    check_command(&spec.command, "/spec/command", report);
    check_env(&spec.env, report);
    if let Some(artifact) = &mut spec.artifact {
        check_artifact(artifact, report);
    }
    if let Some(health) = &spec.health {
        check_health(health, report);
    }
    let schema = Value::Object(spec.options_schema.clone());
    if let Err(error) = jsonschema::validator_for(&schema) {
        report.at("/spec/options-schema", format!("not a JSON Schema: {}", error.masked()));
    }
    let known = property_names(&schema);
    for (at, option) in spec.live_options.iter().enumerate() {
        if !known.contains(&option.as_str()) {
            let fix = did_you_mean(option, known.iter().copied()).map(|m| format!("; did you mean `{m}`?"));
            report.at(
                &format!("/spec/live-options/{at}"),
                format!("`{option}` is no option of `options-schema`{}", fix.unwrap_or_default()),
            );
        }
    }
}

fn check_artifact(spec: &mut ArtifactSpec, report: &mut Report<'_>) {
    resolve(&mut spec.path, "/spec/artifact/path", report);
    report.check("/spec/artifact/path", artifact::name_of(&spec.path).map(drop));
    for (value, name) in [(&mut spec.sha256, "sha256"), (&mut spec.address, "address")] {
        if let Some(digest) = value {
            digest.make_ascii_lowercase();
            report.check(&format!("/spec/artifact/{name}"), artifact::check_digest(digest));
        }
    }
}

fn check_health(health: &HealthSpec, report: &mut Report<'_>) {
    let given = [health.tcp.is_some(), health.http.is_some(), health.exec.is_some()];
    if given.into_iter().filter(|given| *given).count() != 1 {
        report.at("/spec/health", "write exactly one of `tcp`, `http` and `exec`");
    }
    let renderer = Renderer::default();
    if let Some(template) = &health.tcp {
        report.check("/spec/health/tcp", renderer.check(template));
    }
    if let Some(template) = &health.http {
        report.check("/spec/health/http", renderer.check(template));
    }
    if let Some(command) = &health.exec {
        if command.is_empty() {
            report.at("/spec/health/exec", "the command is empty");
        }
        check_command(command, "/spec/health/exec", report);
    }
}

fn check_process(process: &mut ProcessSpec, report: &mut Report<'_>) {
    report.check("/spec/service", check_id(&process.service));
    report.check("/spec/node", check_id(&process.node));
}

fn check_user(user: &mut UserSpec, report: &mut Report<'_>) {
    if user.password_hash.as_ref().is_some_and(|hash| !hash.starts_with("$argon2id$")) {
        report.at("/spec/password-hash", "not an argon2id hash in PHC string form (`$argon2id$…`)");
    }
    if let Some(digest) = &mut user.client_secret_hash {
        digest.make_ascii_lowercase();
        report.check("/spec/client-secret-hash", artifact::check_digest(digest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::KEY_BYTES;

    fn sealer() -> Sealer {
        Sealer::new([1; KEY_BYTES])
    }

    fn admit_one(text: &str) -> Result<Document, Vec<String>> {
        let origin = Origin { file: Some("x.yaml".into()), directory: Some("/etc/fleet".into()) };
        admit_text(text, &origin, &sealer())
            .map(|mut all| all.remove(0).document)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    const NODE: &str = "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata:\n  name: ND1\n  namespace: IN1\nspec:\n  name: box\n";

    #[test]
    fn an_unknown_field_is_named_with_its_place_and_what_was_meant() {
        let found = admit_one(&format!("{NODE}  ip-address: 127.0.0.1\n  usernmae: root\n")).unwrap_err();
        assert_eq!(found, ["x.yaml:9:3: spec.usernmae: unknown field `usernmae`; did you mean `username`?"]);
    }

    #[test]
    fn every_mistake_is_found_at_once() {
        let found = admit_one(&format!("{NODE}  ip-address: 7\n  prot: 22\n")).unwrap_err();
        assert_eq!(found.len(), 2, "{found:#?}");
    }

    #[test]
    fn a_name_that_a_shell_would_read_is_refused_where_it_stands() {
        let text = NODE.replace("ND1", "a;reboot") + "  ip-address: h\n  username: u\n";
        let found = admit_one(&text).unwrap_err();
        assert!(found[0].starts_with("x.yaml:4:9: metadata.name: ';' can't be at position 2"), "{found:?}");
    }

    #[test]
    fn a_host_that_ssh_would_take_for_an_option_is_refused() {
        for host in ["-oProxyCommand=reboot", "a b", "", "a;b", "a/b"] {
            let text = format!("{NODE}  ip-address: {host:?}\n  username: u\n");
            assert!(admit_one(&text).is_err(), "{host}");
        }
    }

    #[test]
    fn a_password_is_sealed_at_the_door_and_no_message_shows_one() {
        let text = format!("{NODE}  ip-address: h\n  username: u\n  password: butter\n");
        let document = admit_one(&text).unwrap();
        assert!(!document.to_value().to_string().contains("butter"));
        let Spec::Node(node) = &document.spec else { panic!("{document:?}") };
        let sealed = node.password.as_ref().unwrap();
        assert_eq!(sealer().open(&password_place(&document.key()), sealed), Ok(Clear::new("butter")));

        let wrong = admit_one(&text.replace("butter", "[butter]")).unwrap_err();
        assert!(!wrong.concat().contains("butter"), "{wrong:?}");
        let wrong = admit_one(&text.replace("butter", "\"but\\nter\"")).unwrap_err();
        assert!(!wrong.concat().contains("ter\""), "{wrong:?}");
    }

    #[test]
    fn a_relative_path_is_relative_to_its_manifest() {
        let text = format!("{NODE}  ip-address: h\n  username: u\n  identity-file: ../keys/id\n");
        let Spec::Node(node) = admit_one(&text).unwrap().spec else { panic!() };
        assert_eq!(node.identity_file.as_deref(), Some("/etc/keys/id"));
        let found = admit_text(&text, &Origin::default(), &sealer()).unwrap_err();
        assert!(found[0].message.contains("write it in full"));
    }

    #[test]
    fn failover_is_for_what_can_be_started_elsewhere() {
        let service = |rest: &str| {
            admit_one(&format!(
                "apiVersion: mainstay.dev/v1\nkind: Service\nmetadata: {{name: SV1, namespace: IN1}}\n\
                 spec: {{name: a, type: auth, {rest}}}\n"
            ))
        };
        assert!(service("failover: hold").is_ok());
        assert!(service("replicas: 1, failover: {replace: {after: 60s}}").is_ok());
        assert!(service("replicas: 1, failover: {fenced: {lease: 1m}}").is_ok());
        let found = service("nodes: [], failover: {fenced: {lease: 30s}}").unwrap_err();
        assert!(found[0].contains("add `replicas`"), "{found:?}");
        let found = service("replicas: 1, failover: {fenced: {lease: 1s}}").unwrap_err();
        assert!(found[0].contains("`5s` to `1h`"), "{found:?}");
        let found = service("replicas: 1, failover: {fenced: {lease: soon}}").unwrap_err();
        assert!(found[0].contains("spec.failover"), "{found:?}");
    }

    #[test]
    fn a_kind_that_is_almost_right_is_offered() {
        let found = admit_one("apiVersion: mainstay.dev/v1\nkind: Servce\n").unwrap_err();
        assert!(found[0].contains("did you mean Service?"), "{found:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_door_panic(text in "(?s).{0,200}") {
            let _ = admit_text(&text, &Origin::default(), &sealer());
        }

        #[test]
        fn no_document_makes_the_door_panic(
            kind in 0usize..10,
            field in "[a-z-]{1,12}",
            value in "(?s).{0,20}",
        ) {
            let document = serde_json::json!({
                "apiVersion": "mainstay.dev/v1", "kind": Kind::ALL[kind].name(),
                "metadata": {"name": value, "namespace": value},
                "spec": {"name": value, "ip-address": value, "username": value, "type": value, field: value},
            });
            let _ = admit(Located::unmarked(document), &Origin::default(), &sealer());
        }
    }
}
