//! What the decision promises for every world: [`fleet`] makes any documents and any sightings, [`sim`] carries the
//! decisions out on a [`machine`], with and without faults.
#![allow(clippy::wildcard_enum_match_arm, reason = "a property is about the few that it names")]

#[path = "plan_properties/again.rs"]
mod again;
#[path = "plan_properties/desk.rs"]
mod desk;
#[path = "plan_properties/fleet.rs"]
mod fleet;
#[path = "plan_properties/foreseen.rs"]
mod foreseen;
#[path = "plan_properties/machine.rs"]
mod machine;
#[path = "plan_properties/placing.rs"]
mod placing;
#[path = "support/properties.rs"]
mod properties;
#[path = "plan_properties/sim.rs"]
mod sim;

use std::collections::{BTreeMap, BTreeSet};

use fleet::{Fleet, Place, all_desired, fleet, phase};
use mainstay::model::kinds::ServiceSpec;
use mainstay::model::meta::{DRAINING, OwnerReference};
use mainstay::model::{Document, Documents, Key, Kind, Spec};
use mainstay::plan::node::KEEP_UNUSED_MS;
use mainstay::plan::node::plan;
use mainstay::plan::orders::orders;
use mainstay::plan::place::{PlaceAction, Placement, place};
use mainstay::plan::render::{takes_new, wanted};
use mainstay::plan::step::{Action, Aim, Hold, NodePlan, Step};
use mainstay::plan::world::{
    Attempt, Health, NodeDesired, NodeSighting, NodeWorld, Orders, Phase, Stock, World,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use sim::{Fault, Round, Sim, is_for_people, starts};

/// What is desired and seen of each node, side by side.
fn nodes(fleet: &Fleet) -> Vec<(Place, NodeDesired, NodeSighting)> {
    all_desired(&fleet.documents())
        .into_iter()
        .map(|(place, desired)| {
            let seen = fleet.seen.get(&place).cloned().unwrap_or_default();
            (place, desired, seen)
        })
        .collect()
}

fn plan_at(
    now_ms: u64,
    desired: &NodeDesired,
    seen: &NodeSighting,
    attempts: &BTreeMap<String, Attempt>,
) -> NodePlan {
    let (stock, place, orders) = (&Stock::default(), &Place::default(), &Orders::default());
    plan(&NodeWorld { now_ms, desired, seen, attempts, stock, place, orders })
}

/// Long after everything that is seen began.
const NOW_MS: u64 = 10_000;

fn plan_first(desired: &NodeDesired, seen: &NodeSighting) -> NodePlan {
    plan_at(NOW_MS, desired, seen, &BTreeMap::new())
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        Just(Fault::Locked),
        (0..8_usize).prop_map(Fault::Step),
        (0..16_usize, phase()).prop_map(|(nth, phase)| Fault::Found(nth, phase)),
    ];
    vec(fault, 0..8)
}

/// The services that placement cares for: not being deleted, in an instance that is not.
fn placed_services(documents: &Documents) -> Vec<(Key, ServiceSpec)> {
    documents
        .of_kind(Kind::Service)
        .filter(|(key, _)| documents.live(key).is_some() && lives(documents, &key.namespace))
        .filter_map(|(key, _)| Some((key.clone(), documents.service(key)?.clone())))
        .collect()
}

fn lives(documents: &Documents, instance: &str) -> bool {
    documents.live(&Key::cluster(Kind::Instance, instance)).is_some()
}

/// Whether the placement of the service of this name made a process.
fn is_owned(document: &Document, service: &str) -> bool {
    let is_owner = |owner: &OwnerReference| owner.kind == Kind::Service && owner.name == service;
    document.metadata.owner_references.iter().any(is_owner)
}

/// The nodes of the processes that a service's placement has made and that are not going, by id.
fn made(documents: &Documents, service: &Key) -> BTreeMap<String, String> {
    documents
        .processes_of(&service.namespace, &service.name)
        .filter(|(document, _)| !document.is_deleting())
        .filter(|(document, _)| is_owned(document, &service.name))
        .map(|(document, process)| (document.metadata.name.clone(), process.node.clone()))
        .collect()
}

fn is_cordoned(documents: &Documents, instance: &str, node: &str) -> bool {
    let key = Key::within(Kind::Node, instance, node);
    documents.get(&key).is_some_and(|node| !takes_new(node))
}

/// Whether a process of a service may stay on a node: that is neither silent nor being drained, and has the labels.
fn may_stay(sim: &Sim, key: &Key, service: &ServiceSpec, node: &str) -> bool {
    let place = (key.namespace.clone(), node.to_owned());
    let found = sim.documents.get(&fleet::node_key(&place));
    let fits = found.is_some_and(|found| {
        let labels = &found.metadata.labels;
        let is_selected = service.node_selector.iter().all(|(name, value)| labels.get(name) == Some(value));
        is_selected && !found.metadata.annotations.contains_key(DRAINING)
    });
    fits && !sim.dark.contains(&place)
}

fn created(placement: &Placement) -> impl Iterator<Item = &Document> {
    placement.steps.iter().filter_map(|step| match &step.action {
        PlaceAction::Create(document) if document.spec.kind() == Kind::Process => Some(&**document),
        PlaceAction::Create(_)
        | PlaceAction::Assign { .. }
        | PlaceAction::Lease { .. }
        | PlaceAction::Judge(_)
        | PlaceAction::GiveUp(_)
        | PlaceAction::MarkDeleting(_)
        | PlaceAction::Finalize(_)
        | PlaceAction::Unlink(_)
        | PlaceAction::Promote(_)
        | PlaceAction::Drop(_) => None,
    })
}

/// What is taken out has nothing left, as far as the world really is.
fn check_finalized(before: &Documents, sim: &Sim, round: &Round) -> Result<(), TestCaseError> {
    for step in &round.placement.steps {
        let PlaceAction::Finalize(key) = &step.action else { continue };
        let document = before.get(key).expect("it is there");
        prop_assert!(document.is_deleting(), "{key} was not to go");
        let namespace = key.namespace.as_str();
        match &document.spec {
            Spec::Process(process) => {
                let place = (key.namespace.clone(), process.node.clone());
                if before.get(&fleet::node_key(&place)).is_some() {
                    prop_assert!(
                        !sim.dark.contains(&place),
                        "{key} was taken out, and its node was not seen"
                    );
                    let left = sim.machines[&place].node.seen.processes.contains_key(&key.name);
                    prop_assert!(!left, "{key} was taken out, and is still there");
                }
            }
            Spec::Service(_) => prop_assert_eq!(before.processes_of(namespace, &key.name).count(), 0),
            Spec::Node(_) => prop_assert_eq!(before.processes_on(namespace, &key.name).count(), 0),
            Spec::Instance(_) => {
                prop_assert!(
                    before.iter().all(|(other, _)| other.namespace != key.name),
                    "{key} is not empty"
                );
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
    Ok(())
}

/// Whether a service does its work, as far as is seen: it has processes that should run, and all of them do and are not found ill, but
/// for as many as an update may take away.
fn does_its_work(documents: &Documents, seen: &BTreeMap<Place, NodeSighting>, service: &Key) -> bool {
    let Some(spec) = documents.service(service).filter(|_| documents.live(service).is_some()) else {
        return false;
    };
    let should_run: Vec<bool> = documents
        .processes_of(&service.namespace, &service.name)
        .filter(|(document, process)| !document.is_deleting() && wanted(process, Some(spec)))
        .map(|(document, process)| {
            let node = seen.get(&(service.namespace.clone(), process.node.clone()));
            let process = node.filter(|node| node.complete)?.processes.get(&document.metadata.name);
            let is_ill = |health: &Option<Health>| matches!(health, Some(Health::Unhealthy { .. }));
            process.map(|process| process.phase == Phase::Running && !is_ill(&process.health))
        })
        .map(|works| works.unwrap_or(false))
        .collect();
    let running = should_run.iter().filter(|works| **works).count();
    let all = u32::try_from(should_run.len()).unwrap_or(u32::MAX);
    let may_miss = spec.update.clone().unwrap_or_default().max_unavailable(all);
    running > 0 && should_run.len() - running <= may_miss as usize
}

/// The plans of all nodes on the orders that are given.
fn ordered_plans(documents: &Documents, seen: &BTreeMap<Place, NodeSighting>) -> BTreeMap<Place, NodePlan> {
    let (orders, _) = orders(&World::at(documents, seen, NOW_MS), 0, false);
    let plan = |(place, desired): (Place, NodeDesired)| {
        let here = seen.get(&place).cloned().unwrap_or_default();
        let (stock, attempts) = (&Stock::default(), &BTreeMap::new());
        let (desired, orders) = (&desired, &orders);
        let world =
            NodeWorld { now_ms: NOW_MS, desired, seen: &here, attempts, stock, place: &place, orders };
        let plan = plan(&world);
        (place, plan)
    };
    all_desired(documents).into_iter().map(plan).collect()
}

/// The service of a process that is declared on a node.
fn service_of<'a>(documents: &'a Documents, place: &Place, process: &str) -> Option<(Key, &'a ServiceSpec)> {
    let process = documents.process(&Key::within(Kind::Process, place.0.as_str(), process))?;
    let process = Some(process).filter(|process| process.node == place.1)?;
    let key = Key::within(Kind::Service, place.0.as_str(), process.service.as_str());
    let service = documents.service(&key)?;
    Some((key, service))
}

/// Everything is as the documents say, but for what can't be: what was not seen, and what waits for people.
fn check_as_desired(sim: &Sim, last: &Round) -> Result<(), TestCaseError> {
    for (place, desired) in all_desired(&sim.documents) {
        if sim.dark.contains(&place) {
            continue;
        }
        let (truth, holds) = (&sim.machines[&place].node.seen, &last.plans[&place].holds);
        match &desired.bundle {
            Some((hash, _)) => prop_assert_eq!(truth.bundle.as_ref(), Some(hash)),
            None => prop_assert!(truth.bundle.is_none() || !truth.processes.is_empty()),
        }
        for (id, process) in &desired.processes {
            let seen = truth.processes.get(id);
            match (&process.start, holds.get(id)) {
                _ if process.deleting => prop_assert!(seen.is_none(), "{id} was to go: {seen:?}"),
                _ if !process.running => {
                    let phase = seen.map(|seen| seen.phase);
                    prop_assert!(matches!(phase, None | Some(Phase::Stopped | Phase::Lost)), "{phase:?}");
                }
                (_, Some(Hold::After { service, .. })) => {
                    let other = Key::within(Kind::Service, place.0.as_str(), service.as_str());
                    let works = does_its_work(&sim.documents, &sim.seen(), &other);
                    prop_assert!(!works, "{id} waits for {service}, which does its work");
                }
                (_, Some(hold)) => prop_assert!(is_for_people(hold), "{id} is held: {hold:?}"),
                (Err(why), None) => prop_assert!(false, "{id} can't be started and nobody is told: {why}"),
                (Ok(start), None) => {
                    let seen = seen.expect("what should run is there");
                    prop_assert_eq!(seen.phase, Phase::Running);
                    prop_assert_eq!(&seen.hash, &start.hash);
                    prop_assert_eq!(&seen.care, &start.care.hash);
                    prop_assert!(process.reload.is_none() || seen.live == start.live, "{id} was not told");
                }
            }
        }
        if holds.is_empty() {
            prop_assert!(!truth.artifacts.contains(&fleet::stray_artifact()), "what nothing uses was kept");
        }
        for id in truth.processes.keys() {
            prop_assert!(desired.processes.contains_key(id), "{id} is not declared and still there");
        }
    }
    Ok(())
}

/// What is going is gone, but for what waits for a node that was not seen.
fn check_gone(sim: &Sim, last: &Round) -> Result<(), TestCaseError> {
    for (key, document) in sim.documents.iter().filter(|(_, document)| document.is_deleting()) {
        let waits_for_dark = match &document.spec {
            Spec::Process(process) => sim.dark.contains(&(key.namespace.clone(), process.node.clone())),
            _ => last.placement.holds.contains_key(key) && !sim.dark.is_empty(),
        };
        prop_assert!(waits_for_dark, "{} does not go: {:?}", key, last.placement.holds.get(key));
    }
    Ok(())
}

proptest! {
    #![proptest_config(properties::config(120, ""))]

    #[test]
    fn the_same_world_gives_the_same_plan_whatever_the_order_of_its_documents(
        (fleet, shuffled) in fleet().prop_flat_map(|fleet| {
            let shuffled = Just(fleet.documents.clone()).prop_shuffle();
            (Just(fleet), shuffled)
        }),
    ) {
        let (one, other) = (fleet.documents(), shuffled.into_iter().collect::<Documents>());
        let seen = &fleet.seen;
        let (one_world, other_world) = (World::at(&one, seen, NOW_MS), World::at(&other, seen, NOW_MS));
        prop_assert_eq!(place(&one_world), place(&other_world));
        prop_assert_eq!(orders(&one_world, 0, false), orders(&other_world, 0, false));
        let (one, other) = (all_desired(&one), all_desired(&other));
        prop_assert_eq!(&one, &other);
        for (place, desired) in &one {
            let seen = seen.get(place).cloned().unwrap_or_default();
            prop_assert_eq!(plan_first(desired, &seen), plan_first(&other[place], &seen));
        }
    }

    #[test]
    fn every_desired_process_has_exactly_one_of_a_step_a_hold_and_being_as_it_should(
        fleet in fleet(),
        attempts in btree_map("own-[0-2]", (0..2 * NOW_MS).prop_map(|at| Attempt { aim: Aim::Stopped, tries: 1, not_before_ms: at, why: None }), 0..3),
    ) {
        for (_, desired, seen) in nodes(&fleet) {
            let plan = plan_at(NOW_MS, &desired, &seen, &attempts);
            for id in desired.processes.keys().chain(seen.processes.keys().filter(|_| seen.complete)) {
                let steps = plan.steps.iter().filter(|step| step.action.process() == Some(id)).count();
                let fine = plan.converged.iter().filter(|fine| *fine == id).count();
                let holds = usize::from(plan.holds.contains_key(id));
                prop_assert_eq!(steps + holds + fine, 1, "{} of {:#?}", id, plan);
            }
        }
    }

    #[test]
    fn nothing_is_done_to_a_node_that_was_not_completely_seen(fleet in fleet()) {
        for (_, desired, mut seen) in nodes(&fleet) {
            seen.complete = false;
            let plan = plan_first(&desired, &seen);
            prop_assert!(plan.steps.is_empty() && plan.deliveries.is_empty() && plan.converged.is_empty());
            prop_assert!(plan.holds.values().all(|hold| *hold == Hold::NodeUnknown));
            prop_assert!(plan.holds.keys().eq(desired.processes.keys()));
        }
    }

    #[test]
    fn a_plan_has_one_bundle_at_most_and_it_comes_first_and_starts_come_after_stops(fleet in fleet()) {
        for (_, desired, seen) in nodes(&fleet) {
            let plan = plan_first(&desired, &seen);
            let is_bundle = |step: &Step| matches!(step.action, Action::Bundle { .. });
            let bundles = plan.steps.iter().filter(|step| is_bundle(step)).count();
            prop_assert!(bundles == 0 || (bundles == 1 && is_bundle(&plan.steps[0])));
            let first_start = plan.steps.iter().position(|step| starts(&step.action));
            let stops = |action: &Action| matches!(action, Action::Stop { .. } | Action::Remove { .. });
            let last_stop = plan.steps.iter().rposition(|step| stops(&step.action));
            if let (Some(start), Some(stop)) = (first_start, last_stop) {
                prop_assert!(stop < start);
            }
        }
    }

    #[test]
    fn a_step_that_is_too_early_waits_and_says_until_when(fleet in fleet(), early in vec((1..100_u64, any::<bool>()), 24)) {
        let now_ms = NOW_MS;
        for (_, desired, mut seen) in nodes(&fleet) {
            // What is unused waits too, and longer.
            seen.artifacts.retain(|address| desired.artifacts.contains_key(address));
            let free = plan_first(&desired, &seen);
            let mut times = early.iter();
            // While the bundle waits, so does who is to be told of it: that is another property.
            let has_bundle = free.steps.iter().any(|step| step.action.process().is_none());
            let is_free = |action: &Action| !has_bundle || !matches!(action, Action::Reload { .. });
            let attempts: BTreeMap<String, Attempt> = free
                .steps
                .iter()
                .filter(|step| is_free(&step.action))
                .zip(&mut times)
                .map(|(step, (wait, is_early))| {
                    let not_before_ms = if *is_early { now_ms + wait } else { now_ms };
                    let id = step.action.process().unwrap_or_default().to_owned();
                    (id, Attempt { aim: step.action.aim(), tries: 1, not_before_ms, why: Some("no".into()) })
                })
                .collect();
            let plan = plan_at(now_ms, &desired, &seen, &attempts);
            for (id, attempt) in &attempts {
                let until_ms = attempt.not_before_ms;
                let hold = Hold::BackingOff { until_ms, tries: 1, why: attempt.why.clone() };
                let is_held = plan.holds.get(id) == Some(&hold);
                prop_assert_eq!(is_held, until_ms > now_ms, "{}", id);
            }
            let earliest = attempts.values().map(|attempt| attempt.not_before_ms).filter(|at| *at > now_ms).min();
            prop_assert_eq!(plan.wake_at_ms, earliest);
            prop_assert_eq!(plan.converged, free.converged);
        }
    }

    #[test]
    fn what_was_tried_does_not_delay_something_else(fleet in fleet()) {
        let other = Attempt { aim: Aim::Running("before".into()), tries: 1, not_before_ms: NOW_MS + 1, why: None };
        for (_, desired, seen) in nodes(&fleet) {
            let free = plan_first(&desired, &seen);
            let ids = free.steps.iter().map(|step| step.action.about().to_owned());
            let attempts = ids.map(|id| (id, other.clone())).collect();
            prop_assert_eq!(plan_at(NOW_MS, &desired, &seen, &attempts), free);
        }
    }

    #[test]
    fn a_process_is_told_of_a_bundle_only_when_that_is_there(fleet in fleet()) {
        for (_, desired, mut seen) in nodes(&fleet) {
            let Some((hash, _)) = &desired.bundle else { continue };
            let early = Attempt { aim: Aim::Bundle(hash.clone()), tries: 1, not_before_ms: NOW_MS + 1, why: None };
            let bundle_waits = BTreeMap::from([(String::new(), early)]);
            seen.bundle = None;
            let plan = plan_at(NOW_MS, &desired, &seen, &bundle_waits);
            for step in &plan.steps {
                match &step.action {
                    Action::Start { start, .. } | Action::Restart { start, .. } => prop_assert_eq!(&start.live, "-"),
                    Action::Stop { .. } | Action::Remove { .. } | Action::Adopt { .. } => {}
                    Action::Reload { .. } | Action::Bundle { .. } | Action::Unbundle | Action::Discard { .. } => {
                        prop_assert!(false, "{:?}", step);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_started_or_ended_before_what_it_is_to_run_from_is_there(fleet in fleet()) {
        for (_, desired, seen) in nodes(&fleet) {
            for step in plan_first(&desired, &seen).steps.iter().filter(|step| starts(&step.action)) {
                let process = &desired.processes[step.action.about()];
                prop_assert!(process.artifact.iter().all(|address| seen.artifacts.contains(address)), "{:?}", step);
            }
        }
    }

    #[test]
    fn what_is_waited_for_is_sent_and_each_once(fleet in fleet()) {
        for (_, desired, seen) in nodes(&fleet) {
            let plan = plan_first(&desired, &seen);
            let sent: BTreeSet<&String> = plan.deliveries.iter().map(|delivery| &delivery.address).collect();
            prop_assert_eq!(sent.len(), plan.deliveries.len());
            prop_assert!(sent.iter().all(|address| !seen.artifacts.contains(*address)));
            for (id, hold) in &plan.holds {
                if matches!(hold, Hold::Artifact { .. }) {
                    let address = desired.processes[id].artifact.as_ref().unwrap();
                    prop_assert!(sent.contains(address), "{} waits for ever", id);
                }
            }
        }
    }

    #[test]
    fn an_artifact_goes_only_when_it_was_unused_for_long_and_all_that_runs_is_as_declared(
        fleet in fleet(),
        unused in 0..(2 * KEEP_UNUSED_MS),
    ) {
        let now_ms = 2 * KEEP_UNUSED_MS;
        for (_, desired, seen) in nodes(&fleet) {
            let unused_since_ms = seen.artifacts.iter().map(|address| (address.clone(), now_ms - unused)).collect();
            let stock = Stock { sending: None, unused_since_ms };
            let (desired, seen, attempts) = (&desired, &seen, &BTreeMap::new());
            let (stock, place, orders) = (&stock, &Place::default(), &Orders::default());
            let plan = plan(&NodeWorld { now_ms, desired, seen, attempts, stock, place, orders });
            for step in &plan.steps {
                let Action::Discard { address } = &step.action else { continue };
                prop_assert!(unused >= KEEP_UNUSED_MS && !desired.artifacts.contains_key(address));
                for (id, process) in seen.processes.iter().filter(|(_, seen)| seen.phase.is_alive()) {
                    let start = desired.processes.get(id).and_then(|process| process.start.as_ref().ok());
                    prop_assert_eq!(start.map(|start| &start.hash), Some(&process.hash));
                }
            }
        }
    }

    #[test]
    fn what_has_just_started_counts_only_once_it_has_stayed_up(fleet in fleet(), age_ms in 0..2_000_u64) {
        for (_, desired, mut seen) in nodes(&fleet) {
            for process in seen.processes.values_mut() {
                process.since_ms = NOW_MS - age_ms;
            }
            let plan = plan_first(&desired, &seen);
            for (id, process) in desired.processes.iter().filter(|(_, process)| process.running && !process.deleting) {
                let is_early = age_ms < process.start_ms;
                let until_ms = NOW_MS - age_ms + process.start_ms;
                prop_assert!(!is_early || !plan.converged.contains(id), "{} counts after {} ms", id, age_ms);
                if plan.holds.get(id) == Some(&(Hold::Starting { until_ms })) {
                    prop_assert!(is_early && plan.wake_at_ms.is_some_and(|at| at <= until_ms));
                }
            }
        }
    }

    #[test]
    fn what_lost_its_supervisor_and_is_as_declared_is_adopted_and_never_restarted(fleet in fleet()) {
        for (_, desired, seen) in nodes(&fleet).into_iter().filter(|(_, _, seen)| seen.complete) {
            let plan = plan_first(&desired, &seen);
            for (id, process) in &desired.processes {
                let (Ok(start), Some(seen)) = (&process.start, seen.processes.get(id)) else { continue };
                let is_as_declared = process.running && !process.deleting && seen.hash == start.hash;
                if is_as_declared && seen.phase == Phase::Unsupervised {
                    let of_it: Vec<_> =
                        plan.steps.iter().filter(|step| step.action.process() == Some(id.as_str())).collect();
                    prop_assert!(matches!(of_it[..], [Step { action: Action::Adopt { .. }, .. }]), "{:?}", of_it);
                }
            }
        }
    }

    #[test]
    fn nothing_is_started_on_a_cordoned_node(fleet in fleet()) {
        for (place, desired, seen) in nodes(&fleet) {
            let plan = plan_first(&desired, &seen);
            if is_cordoned(&fleet.documents(), &place.0, &place.1) {
                prop_assert!(!plan.steps.iter().any(|step| starts(&step.action)));
            }
        }
    }

    #[test]
    fn nothing_is_started_before_what_it_is_after_does_its_work(fleet in fleet()) {
        let documents = fleet.documents();
        for (place, plan) in ordered_plans(&documents, &fleet.seen) {
            for step in plan.steps.iter().filter(|step| starts(&step.action)) {
                let Some((_, service)) = service_of(&documents, &place, step.action.about()) else { continue };
                for other in &service.after {
                    let other = Key::within(Kind::Service, place.0.as_str(), other.as_str());
                    prop_assert!(does_its_work(&documents, &fleet.seen, &other), "{step:?} before {other}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_stopped_before_what_is_after_it_and_ends_too(fleet in fleet()) {
        let documents = fleet.documents();
        for (place, plan) in ordered_plans(&documents, &fleet.seen) {
            for step in &plan.steps {
                let (Action::Stop { id, .. } | Action::Remove { id, .. }) = &step.action else { continue };
                let Some((key, _)) = service_of(&documents, &place, id) else { continue };
                for (later, document) in documents.services_after(&key) {
                    let is_going = document.is_deleting() || !lives(&documents, &place.0);
                    for (process, spec) in documents.processes_of(&later.namespace, &later.name) {
                        let node = fleet.seen.get(&(place.0.clone(), spec.node.clone()));
                        let seen = node.filter(|node| node.complete).and_then(|node| node.processes.get(&process.metadata.name));
                        let runs = seen.is_some_and(|seen| seen.phase.is_alive());
                        let ends = is_going || process.is_deleting() || !wanted(spec, documents.service(later));
                        prop_assert!(!(runs && ends), "{step:?} before {}", process.key());
                    }
                }
            }
        }
    }

    #[test]
    fn replicas_are_never_placed_on_a_cordoned_node(fleet in fleet()) {
        let documents = fleet.documents();
        let placement = place(&World::at(&documents, &fleet.seen, NOW_MS));
        for document in created(&placement) {
            let Spec::Process(process) = &document.spec else { unreachable!("only processes are made") };
            let instance = document.metadata.namespace.as_str();
            let service = Key::within(Kind::Service, instance, process.service.as_str());
            // A node that a service names is taken at its word: the process exists and is held.
            let is_named = documents.service(&service).is_some_and(|service| service.nodes.is_some());
            prop_assert!(is_named || !is_cordoned(&documents, instance, &process.node));
        }
    }

    #[test]
    fn nothing_is_made_for_what_is_going(fleet in fleet()) {
        let documents = fleet.documents();
        let placement = place(&World::at(&documents, &fleet.seen, NOW_MS));
        for document in created(&placement) {
            let Spec::Process(process) = &document.spec else { unreachable!("only processes are made") };
            let instance = document.metadata.namespace.as_str();
            prop_assert!(lives(&documents, instance), "{}", document.key());
            for (kind, name) in [(Kind::Service, &process.service), (Kind::Node, &process.node)] {
                prop_assert!(documents.live(&Key::within(kind, instance, name.as_str())).is_some());
            }
        }
    }

    #[test]
    fn an_object_has_one_step_at_most(fleet in fleet()) {
        let documents = fleet.documents();
        let placement = place(&World::at(&documents, &fleet.seen, NOW_MS));
        let mut about = BTreeSet::new();
        for step in &placement.steps {
            let key = step.action.key();
            prop_assert!(about.insert(key.clone()), "{key}");
        }
    }

    #[test]
    fn when_changes_and_faults_cease_the_world_gets_as_desired_and_stays_quiet(fleet in fleet(), faults in faults()) {
        let mut sim = Sim::new(&fleet);
        for fault in &faults {
            sim.round(Some(fault));
        }
        let last = sim.settle().map_err(TestCaseError::fail)?;
        check_as_desired(&sim, &last)?;
        check_gone(&sim, &last)?;
        for _ in 0..5 {
            prop_assert!(sim.round(None).is_quiet());
        }
    }

    #[test]
    fn what_is_going_is_taken_out_only_when_nothing_of_it_is_left(fleet in fleet(), faults in faults()) {
        let mut sim = Sim::new(&fleet);
        for fault in faults.iter().map(Some).chain([None; 8]) {
            let before = sim.documents.clone();
            let machines = sim.machines.clone();
            let round = sim.round(fault);
            let after = std::mem::replace(&mut sim.machines, machines);
            check_finalized(&before, &sim, &round)?;
            sim.machines = after;
        }
    }

    #[test]
    fn placement_never_wants_more_than_was_asked_for(fleet in fleet(), faults in faults()) {
        let mut sim = Sim::new(&fleet);
        for fault in faults.iter().map(Some).chain([None; 4]) {
            let services = placed_services(&sim.documents);
            sim.round(fault);
            for (key, service) in &services {
                let made = made(&sim.documents, key);
                match (&service.nodes, service.replicas) {
                    (Some(nodes), _) => {
                        let on: BTreeSet<&String> = made.values().collect();
                        prop_assert_eq!(on.len(), made.len(), "two of {} on one node: {:?}", key, made);
                        prop_assert!(on.iter().all(|node| nodes.contains(node)), "{} is at {:?}", key, on);
                    }
                    (None, Some(replicas)) => prop_assert!(made.len() <= replicas as usize, "{} at {:?}", key, made),
                    (None, None) => prop_assert!(made.is_empty(), "{} at {:?}", key, made),
                }
            }
        }
    }

    #[test]
    fn replicas_are_reached_where_a_node_takes_them_and_spread_evenly(fleet in fleet()) {
        let mut sim = Sim::new(&fleet);
        sim.dark.clear();
        // From nothing, so that none is where it was before.
        let processes: Vec<Key> = sim.documents.of_kind(Kind::Process).map(|(key, _)| key.clone()).collect();
        for key in &processes {
            sim.documents.remove(key);
        }
        sim.settle().map_err(TestCaseError::fail)?;
        for (key, service) in placed_services(&sim.documents) {
            let (None, Some(replicas)) = (&service.nodes, service.replicas) else { continue };
            let made = made(&sim.documents, &key);
            let takes = |document: &Document| {
                let matches = service.node_selector.iter().all(|(name, value)| document.metadata.labels.get(name) == Some(value));
                matches && !document.is_deleting() && !is_cordoned(&sim.documents, &key.namespace, &document.metadata.name)
            };
            let counts: Vec<usize> = sim
                .documents
                .within(Kind::Node, &key.namespace)
                .filter(|(_, document)| takes(document))
                .map(|(node, _)| made.values().filter(|at| **at == node.name).count())
                .collect();
            let expected = if counts.is_empty() { 0 } else { replicas as usize };
            prop_assert_eq!(counts.iter().sum::<usize>(), expected);
            prop_assert!(counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) <= 1, "{:?}", counts);
        }
    }

    #[test]
    fn removing_a_node_moves_only_what_was_there(fleet in fleet(), index in any::<Index>()) {
        let mut sim = Sim::new(&fleet);
        sim.settle().map_err(TestCaseError::fail)?;
        let nodes: Vec<Key> = sim
            .documents
            .of_kind(Kind::Node)
            .filter(|(_, document)| !document.is_deleting())
            .map(|(key, _)| key.clone())
            .collect();
        prop_assume!(!nodes.is_empty());
        let removed = index.get(&nodes);
        let before = sim.documents.clone();
        sim.delete(removed);
        sim.settle().map_err(TestCaseError::fail)?;
        for (key, service) in placed_services(&before) {
            let (was, is) = (made(&before, &key), made(&sim.documents, &key));
            let is_there = |node: &String| key.namespace == removed.namespace && *node == removed.name;
            for (id, node) in was.iter().filter(|(_, node)| !is_there(node) && may_stay(&sim, &key, &service, node)) {
                prop_assert_eq!(is.get(id), Some(node), "{} moved", key);
            }
            prop_assert!(!is.values().any(is_there));
            // What was not given up before may be, now that fewer nodes are silent; never is there more than was asked for.
            let replicas = service.replicas.map_or(0, |replicas| replicas as usize);
            prop_assert!(is.len() <= was.len().max(replicas));
        }
    }

    #[test]
    fn a_new_node_and_a_cordoned_one_move_nothing(fleet in fleet(), index in any::<Index>()) {
        let mut sim = Sim::new(&fleet);
        sim.settle().map_err(TestCaseError::fail)?;
        let nodes: Vec<Key> = sim.documents.of_kind(Kind::Node).map(|(key, _)| key.clone()).collect();
        prop_assume!(!nodes.is_empty());
        let mut node = Document::clone(sim.documents.get(index.get(&nodes)).expect("it is there"));
        let before: Vec<_> = placed_services(&sim.documents);
        let was: Vec<_> = before.iter().map(|(key, _)| made(&sim.documents, key)).collect();
        if let Spec::Node(spec) = &mut node.spec {
            spec.status = Some(false);
        }
        sim.documents.insert(node.clone());
        node.metadata.name = "ND9".into();
        node.metadata.deletion_timestamp = None;
        if let Spec::Node(spec) = &mut node.spec {
            spec.status = None;
        }
        sim.documents.insert(node);
        sim.settle().map_err(TestCaseError::fail)?;
        for ((key, service), was) in before.iter().zip(&was) {
            let is = made(&sim.documents, key);
            let mut stay = was.iter().filter(|(_, node)| may_stay(&sim, key, service, node));
            prop_assert!(stay.all(|(id, node)| is.get(id) == Some(node)), "{} moved", key);
        }
    }
}
