//! Measures one size.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use mainstay::model::meta::DRAINING;
use mainstay::model::{Document, Documents, Key, Kind, Spec};
use mainstay::plan::node::plan;
use mainstay::plan::place::{PlaceAction, Placement, place};
use mainstay::plan::placer::{Earlier, Placer};
use mainstay::plan::step::NodePlan;
use mainstay::plan::world::{
    NodeDesired, NodeSighting, NodeWorld, Orders, Phase, Stock, World as PlaceWorld,
};

use rustix::time::{ClockId, clock_gettime};

use super::world::{INSTANCE, Place, World, as_desired, rendered, spread_name};

/// Long after everything that is seen began.
const NOW_MS: u64 = 10_000;

/// How often a decision that knows the last one is made.
const ROUNDS: usize = 201;

/// What a figure is in.
pub(crate) enum Unit {
    /// Milliseconds.
    Time,
    /// MiB.
    Memory,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Digits after the point.
    pub(crate) const fn digits(&self) -> usize {
        match self {
            Unit::Time => 3,
            Unit::Memory | Unit::Bytes => 0,
        }
    }
}

/// What is measured, in the order of [`measure`].
pub(crate) const FIGURES: [(&str, Unit); 18] = [
    ("documents made (not part of a decision), ms", Unit::Time),
    ("place, no process exists: a create for each, ms", Unit::Time),
    ("place, all exist: nothing to do, ms", Unit::Time),
    ("plan of all nodes, all as desired, ms", Unit::Time),
    ("plan of all nodes, nothing runs: a start for each, ms", Unit::Time),
    ("what should be on all nodes (templates, hashes), ms", Unit::Time),
    ("a service's replicas + 1: put into the documents, ms", Unit::Time),
    ("  which objects changed, ms", Unit::Time),
    ("  place, knowing the last decision, ms", Unit::Time),
    ("  place of everything, ms", Unit::Time),
    ("  what should be on the node, ms", Unit::Time),
    ("  its plan, ms", Unit::Time),
    ("a process is seen otherwise: place, knowing the last, ms", Unit::Time),
    ("a node cordoned: place, knowing the last, ms", Unit::Time),
    ("a node drained: place, knowing the last, ms", Unit::Time),
    ("memory of documents, bytes a process", Unit::Bytes),
    ("memory of all that should be and is seen, the same", Unit::Bytes),
    ("most memory, MiB", Unit::Memory),
];

/// How long this thread has been computing: what others do on this machine is no part of it.
fn busy() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// Decides for long enough that the median means something; the last answer, and milliseconds.
fn timed<T>(mut decide: impl FnMut() -> T) -> (T, f64) {
    let begun = busy();
    let mut times = Vec::new();
    loop {
        let at = busy();
        let answer = black_box(decide());
        times.push(busy() - at);
        let is_enough = times.len() >= 3 && busy() - begun > Duration::from_millis(300);
        if is_enough || busy() - begun > Duration::from_secs(20) {
            times.sort_unstable();
            return (answer, times[times.len() / 2].as_secs_f64() * 1e3);
        }
    }
}

/// A line of /proc/self/status, in bytes.
fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    found.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
}

fn decide(documents: &Documents, seen: &BTreeMap<Place, NodeSighting>) -> Placement {
    place(&PlaceWorld::at(documents, seen, NOW_MS))
}

/// The documents once all that was decided on them is written: each process has its revision, and each revision is everywhere.
fn at_rest(mut documents: Documents, seen: &BTreeMap<Place, NodeSighting>) -> Documents {
    loop {
        let steps = decide(&documents, seen).steps;
        if steps.is_empty() {
            return documents;
        }
        for step in steps {
            match &step.action {
                PlaceAction::Create(document) | PlaceAction::Judge(document) => {
                    documents.insert(Document::clone(document));
                }
                PlaceAction::Assign { process, revision, .. } => {
                    let mut document = Document::clone(documents.get(process).unwrap());
                    document.metadata.revision = *revision;
                    documents.insert(document);
                }
                PlaceAction::Lease { .. }
                | PlaceAction::MarkDeleting(_)
                | PlaceAction::GiveUp(_)
                | PlaceAction::Finalize(_)
                | PlaceAction::Unlink(_)
                | PlaceAction::Promote(_)
                | PlaceAction::Drop(_) => panic!("{step:?} of what is as it should be"),
            }
        }
    }
}

/// The last decision, about a world at rest.
struct Decided<'a> {
    placer: Placer,
    documents: &'a Documents,
    seen: &'a BTreeMap<Place, NodeSighting>,
}

impl Decided<'_> {
    /// Which processes should exist after a change, for who knows the last decision: of these documents, and with one node seen
    /// otherwise. The median of some rounds, in milliseconds; before each the change is taken back, outside of the time.
    fn place_after(
        &mut self,
        documents: &Documents,
        otherwise: Option<(&Place, &NodeSighting)>,
    ) -> (Placement, f64) {
        let mut seen = otherwise.map(|_| self.seen.clone());
        let mut earlier = Earlier::new();
        if let (Some((place, sighting)), Some(seen)) = (otherwise, &mut seen) {
            earlier.insert(place.clone(), self.seen.get(place));
            seen.insert(place.clone(), sighting.clone());
        }
        let seen = seen.as_ref().unwrap_or(self.seen);
        let back = otherwise.map(|(place, sighting)| (place.clone(), Some(sighting)));
        let back: Earlier<'_> = back.into_iter().collect();
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let at = busy();
            let placement = black_box(self.placer.place(&PlaceWorld::at(documents, seen, NOW_MS), &earlier));
            times.push(busy() - at);
            let rest = self.placer.place(&PlaceWorld::at(self.documents, self.seen, NOW_MS), &back);
            assert_eq!(rest.steps, []);
            drop(placement);
        }
        times.sort_unstable();
        let placement = self.placer.place(&PlaceWorld::at(documents, seen, NOW_MS), &earlier);
        self.placer.place(&PlaceWorld::at(self.documents, self.seen, NOW_MS), &back);
        (placement, times[ROUNDS / 2].as_secs_f64() * 1e3)
    }
}

fn plan_of(desired: &NodeDesired, seen: &NodeSighting) -> NodePlan {
    let (attempts, stock) = (BTreeMap::new(), Stock::default());
    let (place, orders) = (&Place::default(), &Orders::default());
    plan(&NodeWorld { now_ms: NOW_MS, desired, seen, attempts: &attempts, stock: &stock, place, orders })
}

/// The figures of a world with so many processes.
pub(crate) fn measure(size: usize) -> [f64; FIGURES.len()] {
    let empty = memory("VmRSS:");
    let begun = busy();
    let World { bare, documents } = World::new(size);
    let made = (busy() - begun).as_secs_f64() * 1e3;
    let of_documents = memory("VmRSS:") - empty;

    let keys: Vec<Key> = documents.of_kind(Kind::Node).map(|(key, _)| key.clone()).collect();
    let begun = busy();
    let desired: Vec<NodeDesired> = keys.iter().map(|key| rendered(&documents, key)).collect();
    let rendering = (busy() - begun).as_secs_f64() * 1e3;
    let place_of = |key: &Key| (key.namespace.clone(), key.name.clone());
    let seen: BTreeMap<Place, NodeSighting> =
        keys.iter().zip(&desired).map(|(key, desired)| (place_of(key), as_desired(desired))).collect();
    let of_nodes = memory("VmRSS:") - empty - of_documents;

    let nothing_seen = BTreeMap::new();
    let (placement, cold) = timed(|| decide(&bare, &nothing_seen));
    let services = documents.of_kind(Kind::Service).count();
    assert_eq!(placement.steps.len(), size + services, "a process each, and a revision of each service");
    drop(placement);
    let documents = at_rest(documents, &seen);
    let (placement, warm) = timed(|| decide(&documents, &seen));
    assert_eq!(placement.steps, []);

    let plans = |seen: &dyn Fn(usize) -> NodeSighting| {
        // A node at a time, as their tasks do; what was planned is not kept for all of them.
        let mut time = Duration::ZERO;
        let mut steps = 0;
        for (at, desired) in desired.iter().enumerate() {
            let seen = seen(at);
            let begun = busy();
            let plan = black_box(plan_of(desired, &seen));
            time += busy() - begun;
            steps += plan.steps.len();
        }
        (steps, time.as_secs_f64() * 1e3)
    };
    let (steps, planning) = plans(&|at| seen[&place_of(&keys[at])].clone());
    assert_eq!(steps, 0);
    let nothing_runs = NodeSighting { complete: true, ..NodeSighting::default() };
    let (steps, starting) = plans(&|_| nothing_runs.clone());
    assert_eq!(steps, size + keys.len(), "a start for each, and a bundle a node");

    // One more of a service.
    let key = Key::within(Kind::Service, INSTANCE, spread_name(0, 0));
    let mut service = Document::clone(documents.get(&key).unwrap());
    let Spec::Service(spec) = &mut service.spec else { unreachable!("it is a service") };
    spec.replicas = spec.replicas.map(|replicas| replicas + 1);
    let (changed, putting) = timed(|| {
        let mut changed = documents.clone();
        changed.insert(service.clone());
        changed
    });
    let (count, finding) = timed(|| changed.changes_since(&documents).count());
    assert_eq!(count, 1);
    let mut decided = Decided { placer: Placer::default(), documents: &documents, seen: &seen };
    decided.placer.place(&PlaceWorld::at(&documents, &seen, NOW_MS), &Earlier::new());
    let (placement, placing) = decided.place_after(&changed, None);
    let (anew, placing_all) = timed(|| decide(&changed, &seen));
    assert_eq!(placement.steps, anew.steps);
    drop(anew);
    let [step] = &placement.steps[..] else { panic!("{:?}", placement.steps) };
    let PlaceAction::Create(process) = &step.action else { panic!("{step:?}") };
    let Spec::Process(spec) = &process.spec else { unreachable!("only processes are made") };
    let node = Key::within(Kind::Node, INSTANCE, spec.node.as_str());
    let mut after = changed.clone();
    after.insert(Document::clone(process));
    let (desired_after, rendering_one) = timed(|| rendered(&after, &node));
    let (plan, planning_one) = timed(|| plan_of(&desired_after, &seen[&place_of(&node)]));
    assert!((1..=2).contains(&plan.steps.len()), "it starts, and the bundle may not have known the service");

    // A process that has ended, and is about to be started again.
    let place = place_of(&keys[0]);
    let mut otherwise = seen[&place].clone();
    otherwise.processes.values_mut().take(1).for_each(|process| process.phase = Phase::Backoff);
    let (placement, seeing) = decided.place_after(&documents, Some((&place, &otherwise)));
    assert_eq!(placement.steps, []);

    // A node that takes nothing new. What is there stays.
    let node = Document::clone(documents.get(&keys[0]).unwrap());
    let mut cordoned = node.clone();
    let Spec::Node(spec) = &mut cordoned.spec else { unreachable!("it is a node") };
    spec.status = Some(false);
    let mut changed = documents.clone();
    changed.insert(cordoned);
    let (placement, cordoning) = decided.place_after(&changed, None);
    assert_eq!(placement.steps, []);

    // A node from which everything moves away that can.
    let mut drained = node;
    drained.metadata.annotations.insert(DRAINING.into(), "2026-01-01T00:00:00Z".into());
    let mut changed = documents.clone();
    changed.insert(drained);
    let (placement, draining) = decided.place_after(&changed, None);
    assert!(!placement.steps.is_empty(), "one of each service moves");

    let each = |bytes: f64| bytes / size as f64;
    [
        made,
        cold,
        warm,
        planning,
        starting,
        rendering,
        putting,
        finding,
        placing,
        placing_all,
        rendering_one,
        planning_one,
        seeing,
        cordoning,
        draining,
        each(of_documents),
        each(of_nodes),
        memory("VmHWM:") / 1024.0 / 1024.0,
    ]
}
