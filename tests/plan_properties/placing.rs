//! What placement promises of rollouts, moves and failover, for every world and over time.

use std::collections::BTreeSet;

use mainstay::model::kinds::{FailoverSpec, OnFailure, ProcessSpec, ServiceSpec};
use mainstay::model::meta::{DRAINING, PAUSED};
use mainstay::model::{Document, Documents, Key, Kind, Spec};
use mainstay::plan::availability::{Availability, of_process};
use mainstay::plan::place::{PlaceAction, PlaceReason, Placement, place};
use mainstay::plan::render::{takes_new, wanted};
use mainstay::plan::world::World;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use crate::fleet::{self, Fleet};
use crate::machine::{CRASHES, ILL};
use crate::sim::{Fault, Round, Sim};
use crate::{NOW_MS, faults, is_owned, placed_services};

/// A fleet whose services are started after no others: what others keep from starting is looked at where orders are.
fn fleet() -> impl Strategy<Value = Fleet> {
    fleet::fleet().prop_map(|mut fleet| {
        for document in &mut fleet.documents {
            if let Spec::Service(service) = &mut document.spec {
                service.after.clear();
            }
        }
        fleet
    })
}

/// A service's processes that are not going and should run.
fn members<'a>(
    documents: &'a Documents,
    key: &'a Key,
    service: &'a ServiceSpec,
) -> impl Iterator<Item = (&'a Document, &'a ProcessSpec)> {
    let all = documents.processes_of(&key.namespace, &key.name);
    let all = all.filter(|(document, process)| !document.is_deleting() && wanted(process, Some(service)));
    all.map(|(document, process)| (&**document, process))
}

fn node_takes_new(documents: &Documents, instance: &str, node: &str) -> bool {
    let key = Key::within(Kind::Node, instance, node);
    documents.get(&key).is_some_and(|node| takes_new(node))
}

/// Whether there is a step about this object, or a reason for none.
fn is_answered(placement: &Placement, key: &Key) -> bool {
    placement.holds.contains_key(key) || placement.steps.iter().any(|step| step.action.key() == *key)
}

/// Whether a process is about to be started anew anyhow, by what was decided before: then no decision takes it away.
fn is_about_to_start(world: &World<'_>, process: &Key) -> bool {
    let node = &world.documents.process(process).expect("it is there").node;
    let seen = world.seen.get(&(process.namespace.clone(), node.clone()));
    seen.is_some_and(|seen| seen.behind.contains(&process.name))
        && node_takes_new(world.documents, &process.namespace, node)
}

/// What a decision takes away of what does its work leaves enough of it.
fn check_floor(world: &World<'_>, placement: &Placement) -> Result<(), TestCaseError> {
    for (key, service) in placed_services(world.documents) {
        let mut up: BTreeSet<Key> = members(world.documents, &key, &service)
            .filter(|(document, process)| {
                matches!(of_process(world, document, process), Availability::Since(_))
            })
            .map(|(document, _)| document.key())
            .collect();
        let mut taken = 0;
        for step in &placement.steps {
            let about = step.action.key();
            let is_taken = match (&step.action, step.reason) {
                (PlaceAction::Assign { process, revision, .. }, _) => {
                    let was = world.documents.get(process).expect("it is there").metadata.revision;
                    was != 0 && was != *revision && !is_about_to_start(world, process)
                }
                (PlaceAction::MarkDeleting(process), PlaceReason::Moved) => {
                    !is_about_to_start(world, process)
                }
                // That is what people declared.
                (PlaceAction::MarkDeleting(_), PlaceReason::NotPlaced) => {
                    up.remove(&about);
                    false
                }
                _ => false,
            };
            taken += usize::from(is_taken && up.remove(&about));
        }
        let desired = placement.services[&key].desired;
        let may_miss = service.update.clone().unwrap_or_default().max_unavailable(desired) as usize;
        prop_assert!(
            taken == 0 || up.len() + may_miss >= desired as usize,
            "{key}: {taken} were taken, {} of {desired} are left, {may_miss} may be missing",
            up.len()
        );
    }
    Ok(())
}

/// Nothing is given up but what is silent, and only where its service says so.
fn check_given_up(world: &World<'_>, placement: &Placement) -> Result<(), TestCaseError> {
    for step in &placement.steps {
        let PlaceAction::GiveUp(key) = &step.action else { continue };
        let process = world.documents.process(key).expect("it is there");
        let service = Key::within(Kind::Service, key.namespace.as_str(), process.service.as_str());
        let service = world.documents.service(&service).expect("it is there");
        prop_assert!(placement.frozen.is_none(), "{key} was given up while that is frozen");
        prop_assert!(!matches!(service.failover, None | Some(FailoverSpec::Hold)), "{key}");
        prop_assert!(service.replicas.is_some() && service.nodes.is_none(), "{key} has no other place");
        prop_assert!(is_owned(world.documents.get(key).expect("it is there"), &process.service), "{key}");
        let seen = world.seen.get(&(key.namespace.clone(), process.node.clone()));
        let is_silent = seen.is_some_and(|seen| !seen.complete && seen.unseen_since_ms.is_some());
        prop_assert!(is_silent, "{key} was given up, and its node is not known to be silent");
    }
    Ok(())
}

/// What of a service still takes a place: made by its placement, and not given up.
fn slots(documents: &Documents, key: &Key) -> usize {
    let all = documents.processes_of(&key.namespace, &key.name);
    all.filter(|(document, _)| is_owned(document, &key.name) && !document.metadata.given_up).count()
}

/// A world that can be reached, at rest.
fn at_rest(fleet: &Fleet) -> Result<Sim, TestCaseError> {
    let mut sim = Sim::new(fleet);
    sim.dark.clear();
    sim.settle().map_err(TestCaseError::fail)?;
    Ok(sim)
}

/// Services that take a change of their port to their processes, and of whose processes one runs at least.
fn changeable(sim: &Sim) -> Vec<(Key, ServiceSpec)> {
    let is_so = |(key, service): &(Key, ServiceSpec)| {
        matches!(service.kind.as_str(), "told" | "checked")
            && members(&sim.documents, key, service).next().is_some()
            && !sim.documents.get(key).expect("it is there").metadata.annotations.contains_key(PAUSED)
    };
    placed_services(&sim.documents).into_iter().filter(is_so).collect()
}

fn declare_port(sim: &mut Sim, key: &Key, port: &str) {
    let port: u64 = port.parse().expect("it is a number");
    sim.change(key, |document| {
        if let Spec::Service(service) = &mut document.spec {
            service.options.get_or_insert_default().insert("port".into(), json!(port));
        }
    });
}

/// Decides and does until nothing is done, and looks at each round: the world before it, and what was decided.
fn watch(
    sim: &mut Sim,
    mut look: impl FnMut(&World<'_>, &Round) -> Result<(), TestCaseError>,
) -> Result<Round, TestCaseError> {
    let mut was_quiet = false;
    for _ in 0..300 {
        let (before, seen, now_ms) = (sim.documents.clone(), sim.seen(), sim.now_ms);
        let round = sim.round(None);
        let world = World::at(&before, &seen, now_ms);
        check_floor(&world, &round.placement)?;
        look(&world, &round)?;
        if round.is_quiet() && was_quiet {
            return Ok(round);
        }
        was_quiet = round.is_quiet();
    }
    Err(TestCaseError::fail("it does not come to rest"))
}

proptest! {
    #![proptest_config(crate::properties::config(150, ""))]

    #[test]
    fn a_decision_keeps_to_its_limits_in_every_world(fleet in fleet()) {
        let documents = fleet.documents();
        // After everything that failover may wait for, and before.
        for now_ms in [NOW_MS, 500_000] {
            let world = World::at(&documents, &fleet.seen, now_ms);
            let placement = place(&world);
            check_floor(&world, &placement)?;
            check_given_up(&world, &placement)?;
            if let Some(at_ms) = placement.wake_at_ms {
                prop_assert!(at_ms > now_ms, "it wakes at once, for ever");
            }
        }
    }

    #[test]
    fn what_was_decided_is_not_decided_otherwise_right_after(fleet in fleet()) {
        let mut documents = fleet.documents();
        let (mut decided, mut made) = (BTreeSet::new(), BTreeSet::new());
        // One that finds nothing to do finds that ever after, for nothing happens; who needs more rounds than these fails.
        for round in 0..6 {
            let placement = place(&World::at(&documents, &fleet.seen, 500_000));
            if placement.steps.is_empty() {
                return Ok(());
            }
            for step in &placement.steps {
                let key = step.action.key();
                match &step.action {
                    PlaceAction::Create(_) => prop_assert!(made.insert(key.clone()), "{:?}", step),
                    PlaceAction::GiveUp(_) | PlaceAction::MarkDeleting(_) | PlaceAction::Finalize(_) => {
                        prop_assert!(!made.contains(&key), "{:?}", step);
                    }
                    _ => {}
                }
                let is_first = decided.insert((step.action.word(), key));
                // One object is freed of another each time that one is gone.
                let is_unlinked = matches!(step.action, PlaceAction::Unlink(_));
                prop_assert!(is_first || is_unlinked, "{:?} in round {}, once more", step, round);
                crate::desk::write(&mut documents, &step.action, 100 + round);
            }
        }
        prop_assert!(false, "it goes on deciding though nothing happens");
    }

    #[test]
    fn a_process_that_is_not_as_its_service_has_a_step_or_a_reason(fleet in fleet()) {
        let documents = fleet.documents();
        let placement = place(&World::at(&documents, &fleet.seen, 500_000));
        for (key, service) in placed_services(&documents) {
            let target = placement.services[&key].revision;
            for (document, process) in members(&documents, &key, &service) {
                let node = Key::within(Kind::Node, key.namespace.as_str(), process.node.as_str());
                if target != 0 && document.metadata.revision != target && documents.live(&node).is_some() {
                    prop_assert!(is_answered(&placement, &document.key()), "{}", document.key());
                }
            }
        }
    }

    #[test]
    fn a_service_that_people_paused_gets_no_other_revision(fleet in fleet()) {
        let documents = fleet.documents();
        let placement = place(&World::at(&documents, &fleet.seen, NOW_MS));
        for step in &placement.steps {
            let PlaceAction::Assign { process, revision, .. } = &step.action else { continue };
            let (document, spec) = (documents.get(process).unwrap(), documents.process(process).unwrap());
            let key = Key::within(Kind::Service, process.namespace.as_str(), spec.service.as_str());
            let is_paused = documents.get(&key).unwrap().metadata.annotations.contains_key(PAUSED);
            let is_other = document.metadata.revision != 0 && document.metadata.revision != *revision;
            prop_assert!(!is_paused || !is_other || !wanted(spec, documents.service(&key)), "{:?}", step);
        }
    }

    #[test]
    fn places_limits_and_what_is_given_up_are_kept_to_over_time_and_through_faults(fleet in fleet(), faults in faults()) {
        let mut sim = Sim::new(&fleet);
        for fault in faults.iter().map(Some).chain([None; 12]) {
            let (before, seen, now_ms) = (sim.documents.clone(), sim.seen(), sim.now_ms);
            let services = placed_services(&before);
            let round = sim.round(fault);
            let world = World::at(&before, &seen, now_ms);
            // What is found otherwise is found before it is decided, and after it was looked at here.
            if !matches!(fault, Some(Fault::Found(..))) {
                check_floor(&world, &round.placement)?;
            }
            check_given_up(&world, &round.placement)?;
            for (key, service) in services {
                let (None, Some(replicas)) = (&service.nodes, service.replicas) else { continue };
                let (was, is) = (slots(&before, &key), slots(&sim.documents, &key));
                prop_assert!(is <= was || is <= replicas as usize, "{} has {} places, not {}", key, is, replicas);
            }
        }
    }

    #[test]
    fn a_change_that_is_good_gets_everywhere_and_then_nothing_moves(fleet in fleet(), index in any::<Index>()) {
        let mut sim = at_rest(&fleet)?;
        let services = changeable(&sim);
        prop_assume!(!services.is_empty());
        let (key, service) = index.get(&services);
        declare_port(&mut sim, key, "7000");
        let last = watch(&mut sim, |_, _| Ok(()))?;
        let status = &last.placement.services[key];
        let may_miss = service.update.clone().unwrap_or_default().max_unavailable(status.desired);
        // What can't be started for another reason, such as a cordoned node, counts against what may be taken.
        let is_closed = members(&sim.documents, key, service)
            .any(|(_, process)| !node_takes_new(&sim.documents, &key.namespace, &process.node));
        let is_stuck = is_closed || status.desired - status.available.min(status.desired) >= may_miss;
        for (document, process) in members(&sim.documents, key, service) {
            if node_takes_new(&sim.documents, &key.namespace, &process.node) {
                let is_held = is_stuck && last.placement.holds.contains_key(&document.key());
                let is_there = document.metadata.revision == status.revision;
                prop_assert!(is_there || is_held, "{} of {:?}: {:?}", document.key(), status, last.placement.holds);
            }
        }
        for _ in 0..3 {
            prop_assert!(sim.round(None).is_quiet());
        }
    }

    #[test]
    fn a_change_that_is_no_good_takes_no_more_than_may_be_missing_and_stops_or_goes_back(
        fleet in fleet(),
        index in any::<Index>(),
        crashes in any::<bool>(),
    ) {
        let mut sim = at_rest(&fleet)?;
        let services = changeable(&sim);
        prop_assume!(!services.is_empty());
        let (key, service) = index.get(&services);
        // Only who is checked can be found ill.
        let port = if crashes || service.kind == "told" { CRASHES } else { ILL };
        let had = sim.documents.revisions_of(key).map(|(_, revision)| revision.number).max().unwrap_or(0);
        let good = sim.documents.revisions_of(key).filter(|(_, revision)| revision.completed).last();
        let good = good.map(|(_, revision)| revision.number);
        declare_port(&mut sim, key, port);
        // Each time that a process which does its work is given the change, also one that did not yet when that was declared.
        let mut replaced = Vec::new();
        let last = watch(&mut sim, |world, round| {
            for step in &round.placement.steps {
                let PlaceAction::Assign { process, revision, .. } = &step.action else { continue };
                let is_up = members(world.documents, key, service)
                    .filter(|(document, _)| document.key() == *process)
                    .any(|(document, spec)| matches!(of_process(world, document, spec), Availability::Since(_)));
                if is_up && *revision > had {
                    replaced.push(process.clone());
                }
            }
            Ok(())
        })?;
        let status = &last.placement.services[key];
        let update = service.update.clone().unwrap_or_default();
        let may_miss = update.max_unavailable(status.desired) as usize;
        prop_assert!(replaced.len() <= may_miss, "{} of {}", replaced.len(), may_miss);
        let bad = sim.documents.revisions_of(key).last().map(|(_, revision)| revision.clone()).unwrap();
        if let Some(good) = good
            && bad.failed.is_some()
            && update.on_failure == Some(OnFailure::Rollback)
        {
            prop_assert_eq!(status.revision, good);
            for (document, process) in members(&sim.documents, key, service) {
                let is_open = node_takes_new(&sim.documents, &key.namespace, &process.node);
                prop_assert!(!is_open || document.metadata.revision == good, "{:?}", last.placement.holds);
            }
        }
        prop_assert!(bad.failed.is_some() || replaced.is_empty(), "{replaced:?} {status:?} {bad:?} {:?} {:?}", last.placement.holds, sim.seen());
        for _ in 0..3 {
            prop_assert!(sim.round(None).is_quiet());
        }
    }

    #[test]
    fn a_drain_moves_what_can_move_within_the_limits_and_nothing_else(fleet in fleet(), index in any::<Index>()) {
        let mut sim = at_rest(&fleet)?;
        let nodes: Vec<Key> = sim.documents.of_kind(Kind::Node).map(|(key, _)| key.clone()).collect();
        prop_assume!(!nodes.is_empty());
        let drained = index.get(&nodes);
        sim.change(drained, |document| {
            document.metadata.annotations.insert(DRAINING.into(), "now".into());
        });
        let last = watch(&mut sim, |world, round| {
            for step in &round.placement.steps {
                if let (PlaceAction::MarkDeleting(key), PlaceReason::Moved) = (&step.action, step.reason) {
                    let process = world.documents.process(key).expect("it is there");
                    prop_assert_eq!(&process.node, &drained.name);
                    prop_assert_eq!(&key.namespace, &drained.namespace);
                }
            }
            Ok(())
        })?;
        for (key, service) in placed_services(&sim.documents) {
            let is_movable = service.nodes.is_none() && service.replicas.is_some();
            for (document, process) in members(&sim.documents, &key, &service) {
                let is_there = key.namespace == drained.namespace && process.node == drained.name;
                if is_movable && is_there && is_owned(document, &key.name) {
                    prop_assert!(last.placement.holds.contains_key(&document.key()), "{} stays", document.key());
                }
            }
        }
    }
}
