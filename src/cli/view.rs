//! What people see of a running set: the tree, the lines, the one-line total. Pure: a scene goes in, text comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::model::Documents;
use crate::model::meta::{Key, Kind};
use crate::plan::render::wanted;
use crate::plan::standing::{ServiceStatus, Truth};
use crate::plan::step::Hold;
use crate::plan::world::{Health, Phase, ProcessSighting};
use crate::reconcile::observed::{LinkState, NodeView, Views};
use crate::source::board::{Approval, SourceStatus};
use crate::store::Revision;

/// All that is shown, at one moment.
pub(super) struct Scene {
    pub(super) documents: Documents,
    pub(super) revision: Revision,
    pub(super) nodes: Views,
    /// How each service stands, as was decided last.
    pub(super) services: OrdMap<Key, Arc<ServiceStatus>>,
    pub(super) sources: Vec<SourceStatus>,
    pub(super) now_ms: u64,
}

/// One process: its document, and what is known of it.
struct Row<'a> {
    id: &'a str,
    service: &'a str,
    wanted: bool,
    seen: Option<&'a ProcessSighting>,
    hold: Option<Hold>,
    /// Whether its node tells us now.
    is_known: bool,
    /// Whether it runs, as far as was seen.
    is_up: bool,
}

impl Scene {
    fn rows<'a>(&'a self, instance: &'a str, node: &'a str) -> Vec<Row<'a>> {
        let view = self.nodes.get(&(instance.to_owned(), node.to_owned()));
        let mut rows: Vec<Row<'a>> = self
            .documents
            .processes_on(instance, node)
            .map(|(document, process)| {
                let id = document.metadata.name.as_str();
                let service =
                    self.documents.service(&Key::within(Kind::Service, instance, &*process.service));
                Row {
                    id,
                    service: &process.service,
                    wanted: wanted(process, service) && !document.is_deleting(),
                    seen: view.and_then(|view| view.sighting.processes.get(id)),
                    hold: view.and_then(|view| view.holds.get(id)).cloned(),
                    is_known: view.is_some_and(|view| view.sighting.complete),
                    is_up: view.is_some_and(|view| view.is_up(id)),
                }
            })
            .collect();
        rows.sort_by_key(|row| (row.service, row.id));
        rows
    }

    fn nodes(&self) -> impl Iterator<Item = (&Key, &NodeView)> {
        static UNSEEN: std::sync::LazyLock<NodeView> = std::sync::LazyLock::new(NodeView::default);
        self.documents.of_kind(Kind::Node).map(|(key, _)| {
            let view = self.nodes.get(&(key.namespace.clone(), key.name.clone()));
            (key, view.map_or(&*UNSEEN, Arc::as_ref))
        })
    }
}

/// The tree of nodes and their processes.
pub(super) fn tree(scene: &Scene) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, view) in scene.nodes() {
        let name = scene.documents.node(key).map(|node| node.name.as_str()).unwrap_or_default();
        lines.push(format!("{}/{} {name}  {}", key.namespace, key.name, link(view, scene.now_ms)));
        let rows = scene.rows(&key.namespace, &key.name);
        let count = rows.len();
        for (at, row) in rows.iter().enumerate() {
            let branch = if at + 1 == count { "└─" } else { "├─" };
            let service = scene.documents.service(&Key::within(Kind::Service, &*key.namespace, row.service));
            let service_name = service.map(|service| service.name.as_str()).unwrap_or_default();
            lines.push(format!(
                "  {branch} {:<5} {service_name:<24} {}",
                row.service,
                state(row, scene.now_ms)
            ));
        }
    }
    lines.extend(changing(scene).into_iter().map(|(service, how)| format!("{service}: {how}")));
    for source in &scene.sources {
        for problem in &source.problems {
            lines.extend(format!("! {}: {problem}", source.name).lines().map(str::to_owned));
        }
        lines.extend(source.approval.iter().map(|approval| format!("! {}: {}", source.name, held(approval))));
        for object in &source.waiting {
            lines.push(format!("… {object} waits for the older one of that name to go"));
        }
    }
    lines.push(summary(scene));
    lines
}

/// The same as facts, each under a name that stays: what is told when it changes. No ages and no progress, for they always do.
pub(super) fn facts(scene: &Scene) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (key, view) in scene.nodes() {
        let place = format!("{}/{}", key.namespace, key.name);
        let how = match &view.link {
            LinkState::Connecting => "connecting".to_owned(),
            LinkState::Connected { .. } => format!("connected{}", warnings(view)),
            LinkState::Down { message, .. } => message.clone(),
        };
        facts.insert(place.clone(), how);
        for mut row in scene.rows(&key.namespace, &key.name) {
            if let Some(Hold::Artifact { sent, .. }) = &mut row.hold {
                *sent = None;
            }
            let mut how = short(&row);
            if let Some(pid) = row.seen.and_then(|seen| seen.pid) {
                how.push_str(&format!(" (pid {pid})"));
            }
            facts.insert(format!("{place} {} {}", row.service, row.id), how);
        }
    }
    facts.extend(changing(scene));
    for source in &scene.sources {
        let problems: Vec<String> = source.problems.iter().map(ToString::to_string).collect();
        let at = source.applied_revision.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
        let how = match (&source.approval, problems.len()) {
            (None, 0) if source.reads == 0 => "reading".to_owned(),
            (None, 0) => format!("{} documents applied{at}", source.documents),
            (Some(approval), _) => held(approval),
            (None, _) => {
                let problems = problems.join("\n").replace('\n', "\n  ");
                format!("refused, the last good state stays:\n  {problems}")
            }
        };
        facts.insert(source.name.clone(), how);
    }
    facts
}

/// What waits for people.
fn held(approval: &Approval) -> String {
    format!(
        "held, for it would delete {} of the {} objects that came from it: see `mainstay source list`, and `mainstay source approve`",
        approval.deletes.len(),
        approval.of
    )
}

/// What is under way with services, and what needs people; by service.
fn changing(scene: &Scene) -> BTreeMap<String, String> {
    let told = scene.services.iter().filter_map(|(key, status)| {
        let ServiceStatus { updated, desired, revision, .. } = status.as_ref();
        // The first revision is no update: the tree shows what is started.
        let is_updating = *revision > 1 && status.progressing.status == Truth::True;
        let updating = is_updating.then(|| format!("updating {updated}/{desired} (revision {revision})"));
        let degraded = (status.degraded.status == Truth::True).then(|| status.degraded.message.clone());
        let how: Vec<String> = updating.into_iter().chain(degraded).collect();
        (!how.is_empty()).then(|| (format!("{}/{}", key.namespace, key.name), how.join(", ")))
    });
    told.collect()
}

/// True when everything that is declared is as it should be, and nothing is under way.
pub(super) fn is_all_running(scene: &Scene) -> bool {
    let is_applied = |source: &SourceStatus| {
        source.applied.is_some() && source.problems.is_empty() && source.approval.is_none()
    };
    let sources = scene.sources.iter().all(is_applied);
    let nodes = scene
        .nodes()
        .all(|(_, view)| view.settled && view.sighting.complete && view.sighting.planned >= scene.revision);
    let processes = scene
        .nodes()
        .all(|(key, _)| scene.rows(&key.namespace, &key.name).iter().all(|row| row.wanted == row.is_up));
    // A placement makes its processes a moment after its service.
    let placed = scene.documents.of_kind(Kind::Service).all(|(key, _)| {
        let Some(service) = scene.documents.service(key) else { return true };
        let wanted = service.nodes.as_ref().map_or(service.replicas.unwrap_or(0) as usize, Vec::len);
        scene.documents.processes_of(&key.namespace, &key.name).count() >= wanted
    });
    sources && nodes && processes && placed
}

/// The one-line total.
pub(super) fn summary(scene: &Scene) -> String {
    let mut processes = 0;
    let mut running = 0;
    let mut restarts = 0;
    for (key, _) in scene.nodes() {
        for row in scene.rows(&key.namespace, &key.name) {
            processes += usize::from(row.wanted);
            running += usize::from(row.is_known && row.is_up);
            restarts += row.seen.map_or(0, |seen| seen.restarts);
        }
    }
    let services = scene.documents.of_kind(Kind::Service).count();
    let nodes = scene.documents.of_kind(Kind::Node).count();
    let head = if is_all_running(scene) { "all running" } else { "working" };
    let restarts = if restarts == 0 { String::new() } else { format!(", {restarts} restarts") };
    format!("{head}: {running} of {processes} processes, {services} services, {nodes} nodes{restarts}")
}

/// What may still run on a node that could not be stopped.
pub(super) fn left_behind(instance: &str, node: &str, view: &NodeView) -> String {
    let may_run = view.sighting.processes.values().filter(|process| process.phase.is_alive()).count();
    match &view.link {
        LinkState::Connected { .. } => format!("{instance}/{node}: {may_run} processes did not stop in time"),
        LinkState::Connecting => format!("{instance}/{node}: was never reached; nothing was started there"),
        LinkState::Down { message, .. } if may_run == 0 => {
            format!("{instance}/{node}: {message}; if an earlier run started something there, it still runs")
        }
        LinkState::Down { message, .. } => {
            format!("{instance}/{node}: {message}; {may_run} processes may still run there")
        }
    }
}

fn link(view: &NodeView, now_ms: u64) -> String {
    match &view.link {
        LinkState::Connecting => "connecting".to_owned(),
        LinkState::Connected { since_ms } => {
            format!("connected {}{}", age(now_ms, *since_ms), warnings(view))
        }
        LinkState::Down { message, since_ms, next_try_ms, .. } => format!(
            "{message} (for {}, next try in {})",
            age(now_ms, *since_ms),
            age(*next_try_ms, now_ms.min(*next_try_ms)),
        ),
    }
}

/// What people should know besides how the link is.
fn warnings(view: &NodeView) -> String {
    view.warnings.iter().map(|warning| format!(", but {warning}")).collect()
}

fn short(row: &Row<'_>) -> String {
    let mut text = match (row.seen, row.is_known) {
        (Some(seen), true) if seen.phase == Phase::Running && !row.is_up => "starting".to_owned(),
        (Some(seen), true) => seen.phase.name().to_owned(),
        (Some(seen), false) => format!("unknown, last seen {}", seen.phase.name()),
        (None, true) => if row.wanted { "not started" } else { "stopped" }.to_owned(),
        (None, false) => "unknown".to_owned(),
    };
    if let Some(seen) = row.seen.filter(|seen| seen.restarts > 0) {
        text.push_str(&format!(", {} restarts", seen.restarts));
        if let Some(exit) = seen.exit {
            text.push_str(&format!(", last {}", ended(exit)));
        }
    }
    match row.seen.and_then(|seen| seen.health.as_ref()).filter(|_| row.is_known) {
        Some(Health::Healthy) => text.push_str(", healthy"),
        Some(Health::Unhealthy { why }) => text.push_str(&format!(", unhealthy: {why}")),
        Some(Health::Unchecked { why }) => text.push_str(&format!(", health unknown: {why}")),
        None => {}
    }
    // These say it already.
    let says_itself = row.seen.is_some_and(|seen| {
        matches!(seen.phase, Phase::Stopping | Phase::Backoff) || seen.phase == Phase::Running && !row.is_up
    });
    if let Some(hold) = row.hold.as_ref().filter(|_| row.is_known && !says_itself) {
        text.push_str(&format!(", {hold}"));
    }
    text
}

fn state(row: &Row<'_>, now_ms: u64) -> String {
    match row.seen {
        Some(seen) => format!("{:<8} {}", age(now_ms, seen.since_ms), short(row)),
        None => format!("{:<8} {}", "", short(row)),
    }
}

/// A wait status as people say it.
fn ended(exit: i32) -> String {
    if exit > 128 { format!("killed by signal {}", exit - 128) } else { format!("exit {exit}") }
}

/// A length of time, in its largest unit.
fn age(now_ms: u64, since_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(since_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kinds::{NodeSpec, ProcessSpec, ServiceSpec};
    use crate::model::{Document, Metadata, Spec};
    use crate::plan::standing::Condition;
    use crate::reconcile::observed::Warning;

    fn document(name: &str, spec: Spec) -> Document {
        let metadata = Metadata { name: name.into(), namespace: "IN1".into(), ..Metadata::default() };
        Document { metadata, spec }
    }

    /// One node with one process of one service, seen like this.
    fn scene(view: NodeView) -> Scene {
        let process = ProcessSpec { service: "SV1".into(), node: "ND1".into(), running: None };
        let documents = [
            document("ND1", Spec::Node(NodeSpec { name: "Box".into(), ..NodeSpec::default() })),
            document("SV1", Spec::Service(ServiceSpec { name: "Web".into(), ..ServiceSpec::default() })),
            document("p1", Spec::Process(process)),
        ];
        let place = ("IN1".to_owned(), "ND1".to_owned());
        Scene {
            documents: documents.into_iter().collect(),
            revision: 0,
            nodes: [(place, Arc::new(view))].into_iter().collect(),
            services: OrdMap::new(),
            sources: Vec::new(),
            now_ms: 100_000,
        }
    }

    fn connected(phase: Phase) -> NodeView {
        let mut view = NodeView {
            link: LinkState::Connected { since_ms: 38_000 },
            settled: true,
            ..NodeView::default()
        };
        view.sighting.complete = true;
        view.up = (phase == Phase::Running).then(|| "p1".to_owned()).into_iter().collect();
        view.sighting.processes.insert(
            "p1".into(),
            ProcessSighting {
                phase,
                pid: Some(7),
                restarts: 2,
                exit: Some(137),
                hash: "h".into(),
                care: String::new(),
                lease: None,
                health: None,
                live: "-".into(),
                since_ms: 95_000,
            },
        );
        view
    }

    #[test]
    fn what_runs_is_shown_with_its_age_and_its_past() {
        let scene = scene(connected(Phase::Running));
        assert_eq!(
            tree(&scene),
            [
                "IN1/ND1 Box  connected 1m2s",
                "  └─ SV1   Web                      5s       running, 2 restarts, last killed by signal 9",
                "all running: 1 of 1 processes, 1 services, 1 nodes, 2 restarts",
            ]
        );
    }

    #[test]
    fn an_update_is_shown_while_it_is_under_way_and_what_needs_people_for_as_long_as_it_does() {
        let mut scene = scene(connected(Phase::Running));
        let status = ServiceStatus {
            observed_generation: 4,
            revision: 4,
            desired: 3,
            placed: 3,
            updated: 2,
            available: 2,
            unknown: 0,
            is_available: Condition::yes("Enough", ""),
            progressing: Condition::yes("RollingOut", ""),
            degraded: Condition::no("AsExpected", ""),
        };
        let key = Key::within(Kind::Service, "IN1", "SV1");
        scene.services.insert(key.clone(), Arc::new(status.clone()));
        assert_eq!(tree(&scene)[2], "IN1/SV1: updating 2/3 (revision 4)");
        assert_eq!(facts(&scene)["IN1/SV1"], "updating 2/3 (revision 4)");
        let progressing = Condition::no("Failed", "");
        let degraded = Condition::yes("RolloutFailed", "revision 4: it ends");
        scene.services.insert(key, Arc::new(ServiceStatus { progressing, degraded, ..status }));
        assert_eq!(tree(&scene)[2], "IN1/SV1: revision 4: it ends");
    }

    #[test]
    fn a_clock_that_is_off_is_shown_beside_the_link() {
        let mut view = connected(Phase::Running);
        view.warnings = vec![Warning::ClockOff { ahead_s: -3600 }];
        let scene = scene(view);
        assert_eq!(
            tree(&scene)[0],
            "IN1/ND1 Box  connected 1m2s, but its clock is 3600 s behind the controller's"
        );
        assert_eq!(facts(&scene)["IN1/ND1"], "connected, but its clock is 3600 s behind the controller's");
        assert!(is_all_running(&scene), "a warning is no failure");
    }

    #[test]
    fn how_far_an_artifact_is_stands_in_the_tree_and_rings_no_bell() {
        let mut view = connected(Phase::Running);
        let facts_at = |view: &NodeView| facts(&scene(view.clone()));
        view.holds.insert("p1".into(), Hold::Artifact { sent: Some(12_000_000), size: 80_000_000 });
        let before = facts_at(&view);
        let line = tree(&scene(view.clone()))[1].clone();
        assert!(
            line.contains("running, ") && line.ends_with("waits for its artifact (12 of 80 MB)"),
            "{line}"
        );
        view.holds.insert("p1".into(), Hold::Artifact { sent: Some(40_000_000), size: 80_000_000 });
        assert_eq!(facts_at(&view), before);
    }

    #[test]
    fn what_is_unknown_is_never_shown_as_stopped_or_running() {
        let mut view = connected(Phase::Running);
        view.sighting.complete = false;
        view.link = LinkState::Down {
            name: "unreachable",
            message: "unreachable: Connection refused".into(),
            since_ms: 90_000,
            tries: 7,
            next_try_ms: 104_000,
        };
        let scene = scene(view);
        let tree = tree(&scene);
        assert_eq!(tree[0], "IN1/ND1 Box  unreachable: Connection refused (for 10s, next try in 4s)");
        assert!(tree[1].contains("unknown, last seen running"), "{}", tree[1]);
        assert!(tree[2].starts_with("working: 0 of 1"), "{}", tree[2]);
        assert!(!is_all_running(&scene));
    }
}
