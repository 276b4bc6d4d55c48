//! What runs, by the documents and by what was seen: pure, so that every answer can be told and tested.
//!
//! **Invariant:** where a node is not seen now, what was seen last is shown, with a reason that says so.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::resource::{declared_in, has_all};
use crate::clock::rfc3339;
use crate::model::kinds::{ProcessSpec, ServiceSpec};
use crate::model::{Document, Documents, Key, Kind};
use crate::plan::render::wanted;
use crate::plan::standing::CRASHES;
use crate::plan::world::{Health, Phase, ProcessSighting};
use crate::reconcile::observed::{LinkState, NodeView, Views};
use crate::store::Revision;

/// Why nothing is seen of an object that waits for an older one to go.
pub(super) const WAITS: &str =
    "it waits until an older object of the same name is gone; /1.0/events says what that waits for";

/// The field that says whether an object runs.
const RUNNING: &str = "/spec/running";

/// How a process stands to what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct ProcessStanding {
    /// The process.
    pub(super) id: String,
    /// Whether it runs, or ran when it was last seen.
    pub(super) running: bool,
    /// Why it is not as asked, or can't be said to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Whether its node is seen now.
    #[serde(skip)]
    pub(super) is_seen: bool,
    /// Whether it is as asked, or is not going to be.
    #[serde(skip)]
    pub(super) is_settled: bool,
}

/// How a service stands to what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct ServiceStanding {
    /// The service.
    pub(super) id: String,
    /// Asked to run: whether there are processes and all of them run. Asked not to: whether any does.
    pub(super) running: bool,
    /// Its processes, by id.
    pub(super) processes: Vec<ProcessStanding>,
    /// Why the service as a whole is not as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Whether it is as asked, or is not going to be.
    #[serde(skip)]
    pub(super) is_settled: bool,
}

impl ServiceStanding {
    /// Why `running` may be out of date: the first process whose node is not seen.
    pub(super) fn doubt(&self) -> Option<&str> {
        self.processes.iter().find(|process| !process.is_seen).and_then(|process| process.reason.as_deref())
    }
}

/// How services of an instance stand, each to what it is asked.
pub(super) fn services(
    documents: &Documents,
    views: &Views,
    instance: &str,
    asked: &[(String, bool)],
) -> Vec<ServiceStanding> {
    let standing = |(id, asked): &(String, bool)| {
        service(documents, views, &Key::within(Kind::Service, instance, id.as_str()), *asked)
    };
    asked.iter().map(standing).collect()
}

fn service(documents: &Documents, views: &Views, key: &Key, asked: bool) -> ServiceStanding {
    let processes = documents.processes_of(&key.namespace, &key.name);
    // With its node or its service deleted it is not there any more, though nobody has come to mark it.
    let processes = processes.filter(|(document, _)| !document.is_deleting() && has_all(documents, document));
    let processes: Vec<ProcessStanding> =
        processes.map(|(document, spec)| process(documents, views, document, spec, asked)).collect();
    let running = match asked {
        true => !processes.is_empty() && processes.iter().all(|process| process.running),
        false => processes.iter().any(|process| process.running),
    };
    let (reason, is_final) = match (documents.live(key), documents.service(key)) {
        (Some(document), Some(spec)) if spec.running.unwrap_or(true) != asked => {
            (Some(contradiction(document, asked)), true)
        }
        (Some(document), Some(_)) if asked && document.metadata.waiting => (Some(WAITS.into()), false),
        (Some(_), Some(spec)) if asked => missing(documents, key, spec, processes.len()),
        (Some(_), Some(_)) => (None, false),
        (_, _) => (Some("it was deleted meanwhile".into()), true),
    };
    let is_settled = is_final || (reason.is_none() && processes.iter().all(|process| process.is_settled));
    ServiceStanding { id: key.name.clone(), running, processes, reason, is_settled }
}

/// Why there are fewer processes than there should be, and whether it stays so.
fn missing(documents: &Documents, key: &Key, spec: &ServiceSpec, found: usize) -> (Option<String>, bool) {
    let live = |node: &&String| {
        documents.live(&Key::within(Kind::Node, key.namespace.as_str(), node.as_str())).is_some()
    };
    let expected = match (&spec.nodes, spec.replicas) {
        (Some(nodes), _) => nodes.iter().filter(live).count(),
        (None, Some(replicas)) => usize::try_from(replicas).unwrap_or(usize::MAX),
        (None, None) => 0,
    };
    match (found, expected) {
        (found, expected) if found < expected => {
            (Some(format!("{found} of its {expected} processes are placed so far")), false)
        }
        (0, _) => (
            Some(
                "it has no processes; create them at /1.0/processes, or give it `nodes` or `replicas`".into(),
            ),
            true,
        ),
        (_, _) => (None, false),
    }
}

/// How a process stands to what is asked.
pub(super) fn process(
    documents: &Documents,
    views: &Views,
    document: &Document,
    spec: &ProcessSpec,
    asked: bool,
) -> ProcessStanding {
    let id = &document.metadata.name;
    let instance = &document.metadata.namespace;
    let view = views.get(&(instance.clone(), spec.node.clone()));
    let last = view.and_then(|view| view.sighting.processes.get(id));
    let is_seen = view.is_some_and(|view| view.sighting.complete);
    let service = documents.service(&Key::within(Kind::Service, instance.as_str(), spec.service.as_str()));
    let is_wish = wanted(spec, service) == asked;
    // On the way up it does not count as running; on the way down it does, until it is gone.
    let is_early = asked && view.is_some_and(|view| view.is_starting(id));
    let reason = if !is_wish {
        Some(contradiction(document, asked))
    } else if document.metadata.waiting {
        asked.then(|| WAITS.into())
    } else if !is_seen {
        let seen = last.map_or("never seen".into(), |last| format!("last seen {}", last.phase.name()));
        Some(format!("node {}: {}; {seen}", spec.node, link(view.map(Arc::as_ref))))
    } else if is_as_asked(last, view.is_some_and(|view| view.is_up(id)), asked) {
        // As it should be, perhaps only still: what undoes it may be under way from an older wish.
        let is_heard = view.is_some_and(|view| view.sighting.planned >= written(documents, document, spec));
        if is_heard { None } else { Some(format!("node {} has not taken up the change yet", spec.node)) }
    } else {
        let hold = view.and_then(|view| view.holds.get(id)).map(ToString::to_string);
        Some(describe(last, hold, asked))
    };
    ProcessStanding {
        id: id.clone(),
        running: !is_early && last.is_some_and(|last| last.phase.is_alive()),
        is_settled: !is_wish || reason.is_none(),
        reason: reason.or_else(|| last.and_then(ill)),
        is_seen,
    }
}

/// What its health check finds wrong with a process that runs.
fn ill(seen: &ProcessSighting) -> Option<String> {
    match seen.health.as_ref()? {
        Health::Healthy => None,
        Health::Unhealthy { why } => Some(format!("it runs, but its health check fails: {why}")),
        Health::Unchecked { why } => Some(format!("it runs, but its health can't be checked: {why}")),
    }
}

/// The revision that says last whether the process should run.
fn written(documents: &Documents, document: &Document, spec: &ProcessSpec) -> Revision {
    let instance = document.metadata.namespace.as_str();
    let service = documents.get(&Key::within(Kind::Service, instance, spec.service.as_str()));
    document.revision().max(service.map_or(0, |service| service.revision()))
}

/// Whether what is asked is given, by a complete sighting.
fn is_as_asked(last: Option<&ProcessSighting>, is_up: bool, asked: bool) -> bool {
    match last.map(|last| last.phase) {
        Some(Phase::Running) => asked && is_up,
        None | Some(Phase::Stopped | Phase::Lost) => !asked,
        // Alive but not for long, or on the way back.
        Some(Phase::Backoff | Phase::Stopping | Phase::Unsupervised | Phase::Busy) => false,
    }
}

/// Milliseconds that a node waits at most before it starts again what has ended.
const RESTARTED_WITHIN_MS: u64 = 30_000;

/// What is said of a process that ends again and again, though it is to run. It is started again however often it ends.
pub(super) fn crash_loop(seen: &ProcessSighting, is_up: bool) -> Option<String> {
    let next = match seen.phase {
        Phase::Backoff => {
            let latest = rfc3339(seen.since_ms.saturating_add(RESTARTED_WITHIN_MS));
            format!("it is started again by {latest}")
        }
        Phase::Running if !is_up => "it has just been started again".to_owned(),
        Phase::Running
        | Phase::Stopping
        | Phase::Stopped
        | Phase::Unsupervised
        | Phase::Lost
        | Phase::Busy => return None,
    };
    let exit = seen.exit.map_or_else(String::new, |exit| format!(" (last exit status {exit})"));
    (seen.restarts >= CRASHES).then(|| format!("CrashLoop: it ended {} times{exit}; {next}", seen.restarts))
}

fn describe(last: Option<&ProcessSighting>, hold: Option<String>, asked: bool) -> String {
    let Some(last) = last else {
        return hold.unwrap_or_else(|| "it is not there yet".into());
    };
    // Here it is not up.
    if let Some(crashing) = crash_loop(last, false).filter(|_| asked) {
        return crashing;
    }
    let mut why = hold.unwrap_or_else(|| {
        let yet = if asked { "is not running yet" } else { "is not stopped yet" };
        format!("it {yet}: {}", last.phase.name())
    });
    if let (Phase::Backoff, Some(exit)) = (last.phase, last.exit) {
        why.push_str(&format!(" (exit status {exit}, started again {} times)", last.restarts));
    }
    why
}

fn link(view: Option<&NodeView>) -> String {
    match view.map(|view| &view.link) {
        None => "not tried yet".into(),
        Some(LinkState::Connecting) => "connecting".into(),
        Some(LinkState::Connected { .. }) => "connected and being read".into(),
        Some(LinkState::Down { name, message, since_ms, .. }) => {
            let since = rfc3339(*since_ms);
            if message.is_empty() {
                format!("{name} since {since}")
            } else {
                format!("{name} since {since} ({message})")
            }
        }
    }
}

/// Whether a manifest states whether the object runs.
pub(super) fn is_declared(document: &Document) -> bool {
    declared_in(document, RUNNING).is_some()
}

/// Why the object's `running` is not what is asked.
pub(super) fn contradiction(document: &Document, asked: bool) -> String {
    match declared_in(document, RUNNING) {
        Some(place) => format!("{place} says `running: {}`; change it there", !asked),
        None => "the opposite was asked meanwhile".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Metadata, Spec};
    use crate::plan::step::Hold;

    fn documents(service: ServiceSpec, processes: &[(&str, Option<bool>)]) -> Documents {
        let within =
            |name: &str| Metadata { name: name.into(), namespace: "IN1".into(), ..Default::default() };
        let instance = Metadata { name: "IN1".into(), ..Default::default() };
        let mut all = vec![
            Document { metadata: instance, spec: Spec::Instance(Default::default()) },
            Document { metadata: within("ND1"), spec: Spec::Node(Default::default()) },
            Document { metadata: within("SV1"), spec: Spec::Service(service) },
        ];
        for (id, running) in processes {
            let spec = ProcessSpec { service: "SV1".into(), node: "ND1".into(), running: *running };
            all.push(Document { metadata: within(id), spec: Spec::Process(spec) });
        }
        all.into_iter().collect()
    }

    fn asked_to(running: bool) -> ServiceSpec {
        ServiceSpec { running: Some(running), ..Default::default() }
    }

    fn place() -> (String, String) {
        ("IN1".into(), "ND1".into())
    }

    fn the_one(views: &mut Views) -> &mut NodeView {
        Arc::make_mut(views.get_mut(&place()).unwrap())
    }

    fn seen(phases: &[(&str, Phase)]) -> Views {
        let mut view = NodeView { link: LinkState::Connected { since_ms: 0 }, ..Default::default() };
        view.sighting.complete = true;
        for (id, phase) in phases {
            let sighting = ProcessSighting {
                phase: *phase,
                pid: None,
                restarts: 3,
                exit: Some(1),
                hash: String::new(),
                care: String::new(),
                lease: None,
                health: None,
                live: String::new(),
                since_ms: 0,
            };
            view.sighting.processes.insert((*id).into(), sighting);
            if *phase == Phase::Running {
                view.up.insert((*id).into());
            }
        }
        [(place(), Arc::new(view))].into_iter().collect()
    }

    fn one(documents: &Documents, views: &Views, asked: bool) -> ServiceStanding {
        services(documents, views, "IN1", &[("SV1".into(), asked)]).remove(0)
    }

    #[test]
    fn a_service_runs_when_all_its_processes_were_seen_to_run() {
        let world = documents(asked_to(true), &[("a", None), ("b", None)]);
        let both = one(&world, &seen(&[("a", Phase::Running), ("b", Phase::Running)]), true);
        assert!(both.running && both.is_settled, "{both:?}");
        assert_eq!(
            serde_json::to_value(&both).unwrap(),
            serde_json::json!({"id": "SV1", "running": true, "processes": [
                {"id": "a", "running": true}, {"id": "b", "running": true},
            ]})
        );
        let half = one(&world, &seen(&[("a", Phase::Running)]), true);
        assert!(!half.running && !half.is_settled, "{half:?}");
        assert_eq!(half.processes[1].reason.as_deref(), Some("it is not there yet"));
    }

    #[test]
    fn a_service_is_stopped_when_nothing_of_it_is_alive_or_coming_back() {
        let world = documents(asked_to(false), &[("a", None)]);
        for (phase, settled) in [
            (Phase::Stopped, true),
            (Phase::Lost, true),
            (Phase::Running, false),
            (Phase::Stopping, false),
            (Phase::Unsupervised, false),
            (Phase::Backoff, false),
            (Phase::Busy, false),
        ] {
            let standing = one(&world, &seen(&[("a", phase)]), false);
            assert_eq!(standing.is_settled, settled, "{phase:?}");
            assert_eq!(standing.running, phase.is_alive(), "{phase:?}");
        }
        assert!(one(&world, &seen(&[]), false).is_settled);
    }

    #[test]
    fn what_is_not_seen_is_shown_as_last_seen_and_is_never_settled() {
        let world = documents(asked_to(false), &[("a", None)]);
        let mut views = seen(&[("a", Phase::Running)]);
        let view = the_one(&mut views);
        view.sighting.complete = false;
        view.link = LinkState::Down {
            name: "unreachable",
            message: "no route to host".into(),
            since_ms: 1_000,
            tries: 1,
            next_try_ms: 0,
        };
        let standing = one(&world, &views, false);
        assert!(standing.running && !standing.is_settled);
        let why = "node ND1: unreachable since 1970-01-01T00:00:01Z (no route to host); last seen running";
        assert_eq!(standing.processes[0].reason.as_deref(), Some(why));
        assert_eq!(standing.doubt(), Some(why));
        let never = one(&world, &Views::new(), false);
        assert!(!never.is_settled);
        assert_eq!(never.doubt(), Some("node ND1: not tried yet; never seen"));
    }

    #[test]
    fn a_node_that_planned_before_the_change_was_written_does_not_answer_it() {
        let mut world = documents(asked_to(true), &[("a", None)]);
        let key = Key::within(Kind::Service, "IN1", "SV1");
        let mut service = Document::clone(world.get(&key).unwrap());
        service.metadata.resource_version = "7".into();
        world.insert(service);
        let mut views = seen(&[("a", Phase::Running)]);
        for (planned, settled) in [(6, false), (7, true), (8, true)] {
            the_one(&mut views).sighting.planned = planned;
            assert_eq!(one(&world, &views, true).is_settled, settled, "{planned}");
        }
    }

    #[test]
    fn a_hold_is_the_reason() {
        let world = documents(asked_to(true), &[("a", None)]);
        let mut views = seen(&[("a", Phase::Backoff)]);
        the_one(&mut views).holds.insert("a".into(), Hold::Restarting);
        let standing = one(&world, &views, true);
        assert_eq!(
            standing.processes[0].reason.as_deref(),
            Some(
                "CrashLoop: it ended 3 times (last exit status 1); it is started again by 1970-01-01T00:00:30Z"
            )
        );
        the_one(&mut views).sighting.processes.get_mut("a").unwrap().restarts = 2;
        assert_eq!(
            one(&world, &views, true).processes[0].reason.as_deref(),
            Some("it ended and is about to be started again (exit status 1, started again 2 times)")
        );
    }

    #[test]
    fn a_placement_that_is_not_made_yet_is_waited_for() {
        let spec = ServiceSpec { replicas: Some(2), ..asked_to(true) };
        let half = one(&documents(spec.clone(), &[("a", None)]), &seen(&[("a", Phase::Running)]), true);
        assert!(!half.is_settled);
        assert_eq!(half.reason.as_deref(), Some("1 of its 2 processes are placed so far"));
        let spec = ServiceSpec { nodes: Some(vec!["ND1".into(), "ND9".into()]), ..asked_to(true) };
        let all = one(&documents(spec, &[("a", None)]), &seen(&[("a", Phase::Running)]), true);
        assert!(all.is_settled, "a node that does not exist takes none: {all:?}");
    }

    #[test]
    fn a_service_without_processes_is_not_waited_for_and_does_not_run() {
        let standing = one(&documents(asked_to(true), &[]), &seen(&[]), true);
        assert!(!standing.running && standing.is_settled && standing.reason.is_some());
    }

    #[test]
    fn a_process_goes_with_its_node() {
        let mut world = documents(asked_to(true), &[("a", None)]);
        let mut node = Document::clone(world.get(&Key::within(Kind::Node, "IN1", "ND1")).unwrap());
        node.metadata.deletion_timestamp = Some("2024-01-01T00:00:00Z".into());
        world.insert(node);
        let standing = one(&world, &seen(&[("a", Phase::Running)]), true);
        assert!(!standing.running && standing.processes.is_empty(), "{standing:?}");
    }

    #[test]
    fn what_will_not_become_as_asked_is_not_waited_for() {
        let world = documents(asked_to(true), &[("a", Some(false))]);
        let standing = one(&world, &seen(&[("a", Phase::Stopped)]), true);
        assert!(!standing.running && standing.is_settled && standing.processes[0].reason.is_some());
        let other = one(&documents(asked_to(false), &[("a", None)]), &seen(&[]), true);
        assert!(other.is_settled && other.reason.is_some());
        let gone = services(&Documents::default(), &Views::new(), "IN1", &[("SV1".into(), true)]);
        assert!(gone[0].is_settled && gone[0].reason.is_some());
    }
}
