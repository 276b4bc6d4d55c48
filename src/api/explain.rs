//! `/1.0/explain/…`: of an instance, a node, a service or a process, the chain from who wants it to what is done about it now: declared
//! where, as which revision, placed where and why there, seen how, held by what, tried again when. Ours: the seed has no such thing.
//!
//! It is told from the documents, from what was decided and from what was seen; pure, but for the last lines of a log, which are asked
//! for on the node and left out where they don't come at once.
//!
//! **Absent here:** who called the API before who called it last. The audit log has that, by the revisions of the store.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::body::Place;
use super::error::Error;
use super::resource::natural;
use super::route::{Content, Operation, Route};
use super::running::{WAITS, crash_loop};
use super::{Context, Shared};
use crate::clock::rfc3339;
use crate::model::kinds::{ProcessSpec, ServiceSpec};
use crate::model::meta::{DRAINING, FILE, FORGOTTEN, PAUSED, SOURCE};
use crate::model::{Document, Documents, Key, Kind, Spec};
use crate::plan::place::PlaceHold;
use crate::plan::render::wanted;
use crate::plan::spread::{Fit, fit};
use crate::plan::step::Hold;
use crate::plan::world::{Health, Phase, ProcessSighting};
use crate::reconcile::logs::Start;
use crate::reconcile::observed::{LinkState, NodeView, Views};
use crate::reconcile::placed::Decided;
use crate::state::CATALOGUE;

/// Lines of a log that are shown, how long one may be in characters, and how long the node may take.
const LOG_LINES: u32 = 5;
const MAX_LINE: usize = 300;
const LOG_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Vec<Route> {
    let explain = |kind: Kind| {
        move |State(context): State<Shared>, place: Place| async move {
            explained(&context, place.key(kind)).await.map(Json)
        }
    };
    let process = |State(context): State<Shared>, place: Place| async move {
        let documents = context.state.snapshot().documents;
        let all = documents
            .of_kind(Kind::Process)
            .map(|(key, _)| key)
            .chain(documents.waiting().map(|(key, _)| key));
        let found = all.filter(|key| key.kind == Kind::Process).find(|key| key.name == place.id).cloned();
        explained(&context, found.unwrap_or(Key::cluster(Kind::Process, place.id))).await.map(Json)
    };
    let said = |kind: Kind| {
        let noun = kind.name().to_lowercase();
        let article = if kind == Kind::Instance { "an" } else { "a" };
        Operation::new(format!("explain{}", kind.name()), format!("Explain why {article} {noun} is as it is"))
            .described("Who wants it, where it is and why there, how it was seen, what it waits for. Also of what is being deleted.")
            .answers(StatusCode::OK, Content::of::<Explanation>())
    };
    let within = "/1.0/explain/instances/{instance}";
    vec![
        Route::get("/1.0/explain/instances/{id}", explain(Kind::Instance), said(Kind::Instance)),
        Route::get(format!("{within}/nodes/{{id}}"), explain(Kind::Node), said(Kind::Node)),
        Route::get(format!("{within}/services/{{id}}"), explain(Kind::Service), said(Kind::Service)),
        Route::get("/1.0/explain/processes/{id}", process, said(Kind::Process)),
    ]
}

/// Why something is as it is.
#[derive(Debug, Serialize, JsonSchema)]
struct Explanation {
    /// What is explained, as `Kind instance/name`.
    object: String,
    /// From who wants it to what is done about it now.
    chain: Vec<Link>,
    /// The same for people, a line each.
    lines: Vec<String>,
}

/// A step from what is wanted to what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct Link {
    step: Step,
    /// What it is said of, where that is another object; as `Kind instance/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    /// For people.
    text: String,
    /// When, where there is a time; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

/// What a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Step {
    /// Who wants it.
    Desired,
    /// Which call of the API has changed it last, and whose.
    Called,
    /// Whether it should run, or take something.
    Wanted,
    /// From which revision of its service it is to run.
    Revision,
    /// How the service stands.
    Condition,
    /// Where it is, and why there.
    Placed,
    /// Why it is not on a node.
    Dropped,
    /// How it was seen last.
    Seen,
    /// Why nothing is done about it now.
    Held,
    /// When something is done next.
    NextTry,
    /// What it has written last.
    Log,
}

impl Step {
    const fn word(self) -> &'static str {
        match self {
            Step::Desired => "desired",
            Step::Called => "called",
            Step::Wanted => "wanted",
            Step::Revision => "revision",
            Step::Condition => "condition",
            Step::Placed => "placed",
            Step::Dropped => "dropped",
            Step::Seen => "seen",
            Step::Held => "held",
            Step::NextTry => "next try",
            Step::Log => "log",
        }
    }
}

impl Link {
    fn new(step: Step, text: impl Into<String>) -> Link {
        Link { step, about: None, text: text.into(), at: None }
    }

    fn about(self, key: &Key) -> Link {
        Link { about: Some(key.to_string()), ..self }
    }

    fn at(self, ms: u64) -> Link {
        Link { at: Some(rfc3339(ms)), ..self }
    }

    fn line(&self) -> String {
        let about = self.about.as_ref().map_or_else(String::new, |about| format!("{about}: "));
        let at = self.at.as_ref().map_or_else(String::new, |at| format!(" ({at})"));
        format!("{:<10} {about}{}{at}", self.step.word(), self.text)
    }
}

async fn explained(context: &Context, key: Key) -> Result<Explanation, Error> {
    let documents = context.state.snapshot().documents;
    let views = context.observed.all();
    let decided = context.placed.last();
    let case = Case { documents: &documents, views: &views, decided: &decided };
    let mut chain = case.explain(&key).ok_or_else(|| Error::NotFound(format!("{key} does not exist")))?;
    if let Some((process, node)) = case.writer(&key) {
        let lines = tokio::time::timeout(LOG_WITHIN, last_words(context, process.clone(), node)).await;
        // What can't be read now is left out: the rest explains that.
        for line in lines.unwrap_or_default() {
            let link = Link::new(Step::Log, line);
            chain.push(if process == key { link } else { link.about(&process) });
        }
    }
    let lines = std::iter::once(key.to_string()).chain(chain.iter().map(|link| format!("  {}", link.line())));
    Ok(Explanation { object: key.to_string(), lines: lines.collect(), chain })
}

/// The last lines that a process has written.
async fn last_words(context: &Context, process: Key, node: String) -> Vec<String> {
    let mut text = Vec::new();
    if let Ok(mut log) = context.logs.open(process, &node, &Start::Last(LOG_LINES), false).await {
        while let Some(Ok(piece)) = log.next().await {
            text.extend(piece.bytes);
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let plain = |line: &str| line.chars().filter(|c| !c.is_control()).take(MAX_LINE).collect();
    let mut last: Vec<String> = text.lines().rev().take(LOG_LINES as usize).map(plain).collect();
    last.reverse();
    last
}

/// What an explanation is made of.
struct Case<'a> {
    documents: &'a Documents,
    views: &'a Views,
    decided: &'a Decided,
}

impl Case<'_> {
    /// The chain of an object; none when there is no such object.
    fn explain(&self, key: &Key) -> Option<Vec<Link>> {
        let document = self.documents.get(key).or_else(|| self.documents.successor(key))?;
        let mut chain = vec![desired(document)];
        let call = document.metadata.last_call.as_ref();
        chain.extend(
            call.map(|call| Link { at: Some(call.at.clone()), ..Link::new(Step::Called, call.to_string()) }),
        );
        if document.metadata.waiting {
            chain.push(Link::new(Step::Held, WAITS));
            return Some(chain);
        }
        if let Some(since) = &document.metadata.deletion_timestamp {
            chain.push(Link { at: Some(since.clone()), ..Link::new(Step::Wanted, "it is being deleted") });
        }
        match &document.spec {
            Spec::Instance(_) => self.instance(key, &mut chain),
            Spec::Node(_) => self.node(key, document, &mut chain),
            Spec::Service(service) => self.service(key, document, service, &mut chain),
            Spec::Process(process) => self.process(key, document, process, &mut chain),
            Spec::Tenant(_)
            | Spec::User(_)
            | Spec::Integration(_)
            | Spec::ServiceType(_)
            | Spec::Revision(_)
            | Spec::Event(_) => return None,
        }
        Some(chain)
    }

    /// The process whose last words tell something of an object, and its node: itself, or of a service the first that is not up.
    fn writer(&self, key: &Key) -> Option<(Key, String)> {
        if let Some(process) = self.documents.process(key) {
            return Some((key.clone(), process.node.clone()));
        }
        let service = self.documents.service(key)?;
        let mut all = self.documents.processes_of(&key.namespace, &key.name);
        let (document, process) = all.find(|(document, process)| {
            let view = self.view(&key.namespace, &process.node);
            let id = &document.metadata.name;
            wanted(process, Some(service))
                && view.is_some_and(|view| view.sighting.processes.contains_key(id) && !view.is_up(id))
        })?;
        Some((document.key(), process.node.clone()))
    }

    fn held(&self, key: &Key, chain: &mut Vec<Link>) {
        let Some(hold) = self.decided.holds.get(key) else { return };
        chain.push(Link::new(Step::Held, hold.to_string()));
        if let PlaceHold::GivesUp { at_ms, .. } = hold {
            chain.push(Link::new(Step::NextTry, "it is started elsewhere").at(*at_ms));
        }
    }

    fn instance(&self, key: &Key, chain: &mut Vec<Link>) {
        for (node, _) in self.sorted(Kind::Node, &key.name) {
            chain.push(self.link_of(&node).about(&node));
        }
        for (service, _) in self.sorted(Kind::Service, &key.name) {
            let text = self.decided.services.get(&service).map_or_else(
                || "nothing was decided on it yet".to_owned(),
                |status| {
                    let degraded = &status.degraded.message;
                    let sep = if degraded.is_empty() { "" } else { "; " };
                    format!("{}; {}{sep}{degraded}", status.is_available.message, status.progressing.message)
                },
            );
            chain.push(Link::new(Step::Condition, text).about(&service));
        }
        if let Some(frozen) = self.decided.frozen {
            chain.push(Link::new(Step::Held, format!("nothing is started elsewhere, for {frozen}")));
        }
        self.held(key, chain);
    }

    /// The documents of a kind in an instance, as people count.
    fn sorted<'s>(&'s self, kind: Kind, instance: &'s str) -> Vec<(Key, &'s Document)> {
        let all = self.documents.within(kind, instance);
        let mut all: Vec<(Key, &Document)> =
            all.map(|(key, document)| (key.clone(), document.as_ref())).collect();
        all.sort_by(|a, b| natural(&a.0.name, &b.0.name));
        all
    }

    fn view(&self, instance: &str, node: &str) -> Option<&NodeView> {
        self.views.get(&(instance.to_owned(), node.to_owned())).map(|view| &**view)
    }

    /// How the connection to a node is.
    fn link_of(&self, node: &Key) -> Link {
        match self.view(&node.namespace, &node.name).map(|view| &view.link) {
            None | Some(LinkState::Connecting) => Link::new(Step::Seen, "being connected to"),
            Some(LinkState::Connected { since_ms }) => Link::new(Step::Seen, "connected").at(*since_ms),
            Some(LinkState::Down { name, message, since_ms, .. }) if message.is_empty() => {
                Link::new(Step::Seen, *name).at(*since_ms)
            }
            Some(LinkState::Down { message, since_ms, .. }) => {
                Link::new(Step::Seen, message.clone()).at(*since_ms)
            }
        }
    }

    /// When a node that is not connected is tried again.
    fn next_connect(&self, node: &Key) -> Option<Link> {
        match &self.view(&node.namespace, &node.name)?.link {
            LinkState::Down { tries, next_try_ms, .. } => {
                let text = format!("it is connected to again; {}", tried(*tries));
                Some(Link::new(Step::NextTry, text).at(*next_try_ms))
            }
            LinkState::Connecting | LinkState::Connected { .. } => None,
        }
    }

    fn node(&self, key: &Key, document: &Document, chain: &mut Vec<Link>) {
        let annotation = |name| document.metadata.annotations.get(name).cloned();
        if self.documents.node(key).is_some_and(|node| node.status == Some(false)) {
            chain.push(Link::new(Step::Wanted, "it is cordoned (status: false): it takes nothing new"));
        }
        if let Some(since) = annotation(DRAINING) {
            chain.push(Link { at: Some(since), ..Link::new(Step::Wanted, "it is being drained") });
        }
        if let Some(why) = annotation(FORGOTTEN) {
            chain.push(Link::new(Step::Wanted, format!("it was said to be gone for good: {why}")));
        }
        chain.push(self.link_of(key));
        for (process, spec) in self.documents.processes_on(&key.namespace, &key.name) {
            let process = process.key();
            let how = self.seen_of(&process, spec).map_or("not there".into(), sighting);
            let mut text = format!("of {}: {how}", spec.service);
            if let Some(hold) = self.decided.holds.get(&process) {
                text.push_str(&format!("; {hold}"));
            }
            chain.push(Link::new(Step::Placed, text).about(&process));
        }
        self.held(key, chain);
        chain.extend(self.next_connect(key));
    }

    fn seen_of(&self, process: &Key, spec: &ProcessSpec) -> Option<&ProcessSighting> {
        let view = self.view(&process.namespace, &spec.node)?;
        view.sighting.processes.get(&process.name)
    }

    fn service(&self, key: &Key, document: &Document, service: &ServiceSpec, chain: &mut Vec<Link>) {
        let runs = service.running.unwrap_or(true);
        chain.push(Link::new(Step::Wanted, if runs { "it should run" } else { "it should not run" }));
        if let Some(since) = document.metadata.annotations.get(PAUSED) {
            chain.push(Link {
                at: Some(since.clone()),
                ..Link::new(Step::Wanted, "its rollouts are paused by people")
            });
        }
        match self.decided.services.get(key) {
            Some(status) => {
                let text =
                    format!("revision {} of generation {}", status.revision, status.observed_generation);
                chain.push(Link::new(Step::Revision, text));
                for (name, condition) in [
                    ("Available", &status.is_available),
                    ("Progressing", &status.progressing),
                    ("Degraded", &status.degraded),
                ] {
                    let sep = if condition.message.is_empty() { "" } else { ": " };
                    let text =
                        format!("{name} {} {}{sep}{}", condition.status, condition.reason, condition.message);
                    chain.push(Link::new(Step::Condition, text));
                }
            }
            None => chain.push(Link::new(Step::Held, "nothing was decided on it yet")),
        }
        self.nodes_of(key, service, chain);
        for (process, spec) in self.documents.processes_of(&key.namespace, &key.name) {
            let process = process.key();
            let how = self.seen_of(&process, spec).map_or("not there".into(), sighting);
            chain.push(Link::new(Step::Seen, format!("on {}: {how}", spec.node)).about(&process));
            let hold = self.hold_of(&process, spec).map(|hold| hold.to_string());
            let hold = self.decided.holds.get(&process).map(ToString::to_string).or(hold);
            chain.extend(hold.map(|hold| Link::new(Step::Held, hold).about(&process)));
        }
        self.held(key, chain);
    }

    /// Of each node of the instance, why something of a service is there, or why not.
    fn nodes_of(&self, key: &Key, service: &ServiceSpec, chain: &mut Vec<Link>) {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, process) in self.documents.processes_of(&key.namespace, &key.name) {
            *count.entry(&process.node).or_default() += 1;
        }
        let nodes = self.sorted(Kind::Node, &key.namespace);
        if nodes.is_empty() {
            chain.push(Link::new(Step::Dropped, "its instance has no nodes"));
        }
        for (node, document) in &nodes {
            let here = count.get(node.name.as_str()).copied().unwrap_or(0);
            let seen = self.view(&key.namespace, &node.name).map(|view| &view.sighting);
            let fit = fit(document, seen, service);
            let (is_placed, why) = match (&service.nodes, service.replicas) {
                (Some(named), _) if named.contains(&node.name) => (true, "the service names it".to_owned()),
                (Some(_), _) => (false, "the service does not name it".to_owned()),
                (None, Some(_)) => (fit == Fit::Takes || (here > 0 && fit.keeps()), fit.to_string()),
                (None, None) => {
                    (here > 0, "the service has no placement: people create its processes".to_owned())
                }
            };
            let has = match here {
                0 => String::new(),
                1 => "has one; ".to_owned(),
                several => format!("has {several}; "),
            };
            let step = if is_placed { Step::Placed } else { Step::Dropped };
            chain.push(Link::new(step, format!("{has}{why}")).about(node));
        }
        for name in service.nodes.iter().flatten() {
            if !nodes.iter().any(|(node, _)| node.name == *name) {
                let node = Key::within(Kind::Node, &*key.namespace, &**name);
                chain.push(
                    Link::new(Step::Dropped, "the service names it, and it does not exist").about(&node),
                );
            }
        }
    }

    fn hold_of(&self, process: &Key, spec: &ProcessSpec) -> Option<&Hold> {
        self.view(&process.namespace, &spec.node)?.holds.get(&process.name)
    }

    fn process(&self, key: &Key, document: &Document, spec: &ProcessSpec, chain: &mut Vec<Link>) {
        let service_key = Key::within(Kind::Service, &*key.namespace, &*spec.service);
        let node = Key::within(Kind::Node, &*key.namespace, &*spec.node);
        let service = self.documents.service(&service_key);
        let runs = if wanted(spec, service) { "it should run" } else { "it should not run" };
        let whose = if spec.running.is_some() { "as it says itself" } else { "as its service says" };
        chain.push(Link::new(Step::Wanted, format!("{runs}, {whose}")));
        let revision = match document.metadata.revision {
            0 => Link::new(Step::Revision, "none was decided on yet"),
            number => {
                Link::new(Step::Revision, format!("revision {number}")).at(document.metadata.revised_ms)
            }
        };
        chain.push(revision.about(&service_key));
        let is_placed = !document.metadata.owner_references.is_empty();
        let why = match service {
            Some(service) if service.nodes.is_some() && is_placed => "the service names it",
            Some(service) if service.replicas.is_some() && is_placed => {
                "the service's replicas are spread over the nodes that can take them"
            }
            Some(_) | None => "people created it there",
        };
        chain.push(Link::new(Step::Placed, why).about(&node));
        let view = self.view(&key.namespace, &spec.node);
        chain.push(self.link_of(&node).about(&node));
        let is_known = view.is_some_and(|view| view.sighting.complete);
        let is_up = view.is_some_and(|view| view.is_up(&key.name));
        let seen = self.seen_of(key, spec);
        let how = match (seen, is_known) {
            (Some(seen), true) => Link::new(Step::Seen, sighting(seen)).at(seen.since_ms),
            (Some(seen), false) => {
                Link::new(Step::Seen, format!("unknown; last seen {}", sighting(seen))).at(seen.since_ms)
            }
            (None, true) => Link::new(Step::Seen, "not there"),
            (None, false) => Link::new(Step::Seen, "unknown; never seen"),
        };
        chain.push(how);
        let crashing = seen.filter(|_| is_known).and_then(|seen| crash_loop(seen, is_up));
        chain.extend(crashing.map(|crashing| Link::new(Step::Held, crashing)));
        if let Some(hold) = self.hold_of(key, spec).filter(|_| is_known) {
            chain.push(Link::new(Step::Held, hold.to_string()));
            if let Hold::BackingOff { until_ms, tries, .. } | Hold::ArtifactFailed { until_ms, tries, .. } =
                hold
            {
                let text = format!("it is tried again; {}", tried(*tries));
                chain.push(Link::new(Step::NextTry, text).at(*until_ms));
            }
        }
        self.held(key, chain);
        chain.extend(self.next_connect(&node).map(|link| link.about(&node)));
    }
}

/// Who wants an object, since when, and in which version.
fn desired(document: &Document) -> Link {
    let metadata = &document.metadata;
    let annotation = |name: &str| metadata.annotations.get(name).map(String::as_str);
    let by = match (annotation(SOURCE), metadata.owner_references.first()) {
        (Some(CATALOGUE), _) => "shipped with the program".to_owned(),
        (Some(source), _) => match annotation(FILE) {
            Some(file) => format!("by {file} in the manifests folder {source}"),
            None => format!("by the manifests folder {source}"),
        },
        (None, Some(owner)) => format!("by {} {}/{}", owner.kind, metadata.namespace, owner.name),
        (None, None) => "through the API".to_owned(),
    };
    let (generation, version) = (metadata.generation, &metadata.resource_version);
    let text =
        format!("{by}; generation {generation}, written last at revision {version} of the store; made");
    Link { at: Some(metadata.creation_timestamp.clone()), ..Link::new(Step::Desired, text) }
}

/// How often something was tried.
fn tried(tries: u32) -> String {
    match tries {
        1 => "it was tried once".to_owned(),
        tries => format!("it was tried {tries} times"),
    }
}

/// How a process was seen, in a few words.
fn sighting(seen: &ProcessSighting) -> String {
    let mut text = seen.phase.name().to_owned();
    if let (Some(pid), Phase::Running) = (seen.pid, seen.phase) {
        text.push_str(&format!(", pid {pid}"));
    }
    if seen.restarts > 0 {
        text.push_str(&format!(", ended {} times", seen.restarts));
    }
    if let Some(exit) = seen.exit {
        text.push_str(&format!(", last exit status {exit}"));
    }
    match &seen.health {
        None => {}
        Some(Health::Healthy) => text.push_str(", healthy"),
        Some(Health::Unhealthy { why }) => text.push_str(&format!(", unhealthy: {why}")),
        Some(Health::Unchecked { why }) => text.push_str(&format!(", its health can't be checked: {why}")),
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Metadata;
    use crate::model::kinds::NodeSpec;
    use crate::reconcile::observed::NodeView;

    fn document(kind: Kind, name: &str, spec: Spec) -> Document {
        let namespace = if kind.is_namespaced() { "IN1" } else { "" };
        let metadata = Metadata {
            name: name.into(),
            namespace: namespace.into(),
            creation_timestamp: "2026-01-01T00:00:00Z".into(),
            resource_version: "7".into(),
            generation: 1,
            ..Metadata::default()
        };
        Document { metadata, spec }
    }

    fn node(name: &str, zone: Option<&str>, status: Option<bool>) -> Document {
        let mut node = document(Kind::Node, name, Spec::Node(NodeSpec { status, ..NodeSpec::default() }));
        node.metadata.labels.extend(zone.map(|zone| ("zone".to_owned(), zone.to_owned())));
        node
    }

    /// The lines of an object.
    fn lines(documents: &Documents, views: &Views, key: &Key) -> Vec<String> {
        let decided = Decided::default();
        let case = Case { documents, views, decided: &decided };
        case.explain(key).unwrap().iter().map(Link::line).collect()
    }

    #[test]
    fn a_service_that_is_nowhere_says_of_each_node_which_rule_dropped_it() {
        let service = ServiceSpec {
            replicas: Some(1),
            node_selector: [("zone".to_owned(), "a".to_owned())].into(),
            ..ServiceSpec::default()
        };
        let mut draining = node("ND4", Some("a"), None);
        draining.metadata.annotations.insert(DRAINING.into(), "2026-01-01T00:00:00Z".into());
        let documents: Documents = [
            document(Kind::Instance, "IN1", Spec::Instance(Default::default())),
            node("ND1", None, None),
            node("ND2", Some("b"), None),
            node("ND3", Some("a"), Some(false)),
            draining,
            document(Kind::Service, "SV1", Spec::Service(service)),
        ]
        .into_iter()
        .collect();
        let key = Key::within(Kind::Service, "IN1", "SV1");
        assert_eq!(
            lines(&documents, &Views::new(), &key),
            [
                "desired    through the API; generation 1, written last at revision 7 of the store; made (2026-01-01T00:00:00Z)",
                "wanted     it should run",
                "held       nothing was decided on it yet",
                "dropped    Node IN1/ND1: it has no label zone, and the service asks for a",
                "dropped    Node IN1/ND2: its label zone is b, and the service asks for a",
                "dropped    Node IN1/ND3: it is cordoned (status: false)",
                "dropped    Node IN1/ND4: it is being drained",
            ]
        );
    }

    #[test]
    fn a_crash_loop_is_told_with_its_end_and_when_it_is_started_again() {
        let process = ProcessSpec { service: "SV1".into(), node: "ND1".into(), running: None };
        let mut process = document(Kind::Process, "p", Spec::Process(process));
        process.metadata.revision = 2;
        process.metadata.revised_ms = 1_000;
        let documents: Documents = [
            node("ND1", None, None),
            document(Kind::Service, "SV1", Spec::Service(ServiceSpec::default())),
            process,
        ]
        .into_iter()
        .collect();
        let mut view = NodeView { link: LinkState::Connected { since_ms: 0 }, ..NodeView::default() };
        view.sighting.complete = true;
        let seen = ProcessSighting {
            phase: Phase::Backoff,
            pid: None,
            restarts: 5,
            exit: Some(7),
            hash: String::new(),
            care: String::new(),
            live: String::new(),
            health: None,
            lease: None,
            since_ms: 2_000,
        };
        view.sighting.processes.insert("p".into(), seen);
        view.holds.insert("p".into(), Hold::Restarting);
        let views = [(("IN1".to_owned(), "ND1".to_owned()), Arc::new(view))].into_iter().collect::<Views>();
        let lines = lines(&documents, &views, &Key::within(Kind::Process, "IN1", "p"));
        assert_eq!(
            lines[1..],
            [
                "wanted     it should run, as its service says",
                "revision   Service IN1/SV1: revision 2 (1970-01-01T00:00:01Z)",
                "placed     Node IN1/ND1: people created it there",
                "seen       Node IN1/ND1: connected (1970-01-01T00:00:00Z)",
                "seen       restarting, ended 5 times, last exit status 7 (1970-01-01T00:00:02Z)",
                "held       CrashLoop: it ended 5 times (last exit status 7); it is started again by 1970-01-01T00:00:32Z",
                "held       it ended and is about to be started again",
            ]
        );
    }
}
