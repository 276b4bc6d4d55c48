//! What foresight promises for every world and every change: it tells what the machines are then really told, no more and no less.

use std::collections::BTreeMap;

use mainstay::model::{Document, Documents, Key, Kind, Spec};
use mainstay::plan::whatif::{Foresight, Present, Verb, foresee, text};
use mainstay::plan::world::{NodeSighting, World};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use crate::desk;
use crate::fleet::{Fleet, Place, fleet, surroundings};
use crate::machine::Machine;
use crate::sim::{Sim, Told};

/// Something that people change.
#[derive(Debug, Clone)]
enum Edit {
    /// Declare this, by its place among the documents of another fleet.
    Declare(Index),
    /// Delete an object.
    Delete(Index),
    /// Delete a service, and declare it again while it goes.
    Remake(Index),
    /// Another port of a service.
    Port(Index, u16),
    /// Another level of a service, which it is told of.
    Level(Index, u16),
    /// Another number of processes.
    Replicas(Index, u32),
    /// Another argument in the command of a type.
    Argument(Index),
    /// Another address in an instance.
    Redis(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => any::<Index>().prop_map(Edit::Declare),
        2 => any::<Index>().prop_map(Edit::Delete),
        1 => any::<Index>().prop_map(Edit::Remake),
        3 => (any::<Index>(), 7000..7003_u16).prop_map(|(index, port)| Edit::Port(index, port)),
        2 => (any::<Index>(), 2..4_u16).prop_map(|(index, level)| Edit::Level(index, level)),
        2 => (any::<Index>(), 0..6_u32).prop_map(|(index, replicas)| Edit::Replicas(index, replicas)),
        1 => any::<Index>().prop_map(Edit::Argument),
        1 => any::<Index>().prop_map(Edit::Redis),
    ]
}

/// Any change of a world, and documents to take from.
fn edits() -> impl Strategy<Value = (Vec<Edit>, Fleet)> {
    (vec(edit(), 1..4), fleet())
}

/// The documents as they would be.
fn changed(documents: &Documents, edits: &[Edit], other: &Fleet, revision: u64) -> Documents {
    let mut now = documents.clone();
    for edit in edits {
        apply(&mut now, edit, other, revision);
    }
    now
}

fn apply(now: &mut Documents, edit: &Edit, other: &Fleet, revision: u64) {
    let of_kind = |now: &Documents, kind: Kind| -> Vec<Document> {
        let all = now.of_kind(kind).filter(|(_, found)| !found.is_deleting());
        all.map(|(_, document)| Document::clone(document)).collect()
    };
    let one = |now: &Documents, kind: Kind, index: &Index| {
        let all = of_kind(now, kind);
        (!all.is_empty()).then(|| index.get(&all).clone())
    };
    let service =
        |now: &mut Documents, index: &Index, change: &dyn Fn(&mut mainstay::model::kinds::ServiceSpec)| {
            let Some(mut document) = one(now, Kind::Service, index) else { return };
            if let Spec::Service(service) = &mut document.spec {
                change(service);
            }
            put(now, document, revision);
        };
    match edit {
        Edit::Declare(index) => {
            let is_said = |document: &&Document| match &document.spec {
                Spec::Process(_) => document.metadata.name.starts_with("own-"),
                spec => matches!(spec.kind(), Kind::Instance | Kind::Node | Kind::Service),
            };
            let all: Vec<Document> = other.documents.iter().filter(is_said).cloned().collect();
            if !all.is_empty() {
                declare(now, index.get(&all), revision);
            }
        }
        Edit::Delete(index) => {
            let kinds = [Kind::Instance, Kind::Node, Kind::Service, Kind::Process];
            let all: Vec<Document> = kinds.into_iter().flat_map(|kind| of_kind(now, kind)).collect();
            if !all.is_empty() {
                desk::delete(now, &index.get(&all).key(), revision);
            }
        }
        Edit::Remake(index) => {
            if let Some(mut document) = one(now, Kind::Service, index) {
                desk::delete(now, &document.key(), revision);
                document.metadata.waiting = true;
                put(now, document, revision);
            }
        }
        Edit::Port(index, port) => service(now, index, &|service| {
            service.options.get_or_insert_default().insert("port".into(), json!(port));
        }),
        Edit::Level(index, level) => service(now, index, &|service| {
            service.options.get_or_insert_default().insert("level".into(), json!(level));
        }),
        Edit::Replicas(index, replicas) => service(now, index, &|service| {
            service.replicas = service.replicas.and(Some(*replicas));
        }),
        Edit::Argument(index) => {
            if let Some(mut document) = one(now, Kind::ServiceType, index) {
                if let Spec::ServiceType(kind) = &mut document.spec {
                    kind.command.push("more".into());
                }
                put(now, document, revision);
            }
        }
        Edit::Redis(index) => {
            if let Some(mut document) = one(now, Kind::Instance, index) {
                if let Spec::Instance(instance) = &mut document.spec {
                    instance.redis.push('x');
                }
                put(now, document, revision);
            }
        }
    }
}

fn put(now: &mut Documents, mut document: Document, revision: u64) {
    document.metadata.resource_version = revision.to_string();
    now.insert(document);
}

/// Declares an object as another fleet has it, or deletes it where it is going there.
fn declare(now: &mut Documents, wanted: &Document, revision: u64) {
    let key = wanted.key();
    match now.get(&key).map(|found| Document::clone(found)) {
        Some(found) if found.is_deleting() => {}
        Some(_) if wanted.is_deleting() => desk::delete(now, &key, revision),
        Some(mut found) => {
            match (&mut found.spec, &wanted.spec) {
                // Where it runs, and what, can't be changed.
                (Spec::Process(found), Spec::Process(wanted)) => found.running = wanted.running,
                (found, wanted) => found.clone_from(wanted),
            }
            found.metadata.labels.clone_from(&wanted.metadata.labels);
            found.metadata.annotations.clone_from(&wanted.metadata.annotations);
            put(now, found, revision);
        }
        None if wanted.is_deleting() => {}
        None => {
            let mut document = wanted.clone();
            document.metadata.revision = 0;
            put(now, document, revision);
        }
    }
}

fn present_of<'a>(
    sim: &'a Sim,
    seen: &'a BTreeMap<Place, NodeSighting>,
    around: &'a mainstay::plan::render::Surroundings,
) -> Present<'a> {
    let world = World::at(&sim.documents, seen, sim.now_ms);
    Present { world, revision: sim.revision, surroundings: around }
}

/// What the machines are told from now on, until nothing more is done.
fn told_from(mut sim: Sim, documents: Documents) -> Result<Told, TestCaseError> {
    let is_new = |key: &&Key| sim.documents.get(key).is_none();
    let nodes = documents.of_kind(Kind::Node).map(|(key, _)| key);
    let new: Vec<Place> = nodes.filter(is_new).map(|key| (key.namespace.clone(), key.name.clone())).collect();
    for place in new {
        sim.dark.remove(&place);
        sim.machines.insert(place, Machine::new(NodeSighting::default()));
    }
    sim.revision += 1;
    sim.documents = documents;
    sim.told.clear();
    sim.settle().map_err(TestCaseError::fail)?;
    Ok(sim.told)
}

type Verbs = BTreeMap<(Place, String), Vec<Verb>>;

/// What is told only with the change; what ends and is started after that is started anew.
fn of_change(without: &Told, with: &Told) -> Verbs {
    let mut verbs = Verbs::new();
    for (about, all) in with {
        let mut left = without.get(about).cloned().unwrap_or_default();
        let mut only: Vec<Verb> = Vec::new();
        for deed in all {
            if let Some(at) = left.iter().position(|other| other == deed) {
                left.remove(at);
            } else if only.last() == Some(&Verb::Stop) && deed.0 == Verb::Start {
                only.pop();
                only.push(Verb::Restart);
            } else {
                only.push(deed.0);
            }
        }
        if !only.is_empty() {
            verbs.insert(about.clone(), only);
        }
    }
    verbs
}

fn foreseen(foresight: &Foresight) -> Verbs {
    let mut verbs = Verbs::new();
    for node in &foresight.nodes {
        for process in node.processes.iter().filter(|process| !process.deeds.is_empty()) {
            let about = ((node.instance.clone(), node.node.clone()), process.id.clone());
            verbs.insert(about, process.deeds.iter().map(|deed| deed.verb).collect());
        }
    }
    verbs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_foreseen_is_what_the_machines_are_then_told(fleet in fleet(), (edits, other) in edits()) {
        let mut sim = Sim::new(&fleet);
        sim.settle().map_err(TestCaseError::fail)?;
        let (seen, around) = (sim.seen(), surroundings());
        let documents = changed(&sim.documents, &edits, &other, sim.revision + 1);
        let foresight = foresee(&present_of(&sim, &seen, &around), &documents);
        let told = told_from(sim, documents)?;
        prop_assert_eq!(foreseen(&foresight), of_change(&Told::new(), &told), "{:#?}", foresight);
        prop_assert!(foresight.complete);
        prop_assert_eq!(foresight.pending, Default::default());
    }

    #[test]
    fn in_a_world_in_motion_it_is_what_they_are_told_only_for_the_change(fleet in fleet(), (edits, other) in edits()) {
        let sim = Sim::new(&fleet);
        let (seen, around) = (sim.seen(), surroundings());
        let documents = changed(&sim.documents, &edits, &other, sim.revision + 1);
        let foresight = foresee(&present_of(&sim, &seen, &around), &documents);
        let without = told_from(sim.clone(), sim.documents.clone())?;
        let with = told_from(sim, documents)?;
        prop_assert_eq!(foreseen(&foresight), of_change(&without, &with), "{:#?}", foresight);
        prop_assert!(foresight.complete);
    }

    #[test]
    fn at_rest_a_change_of_nothing_does_nothing(fleet in fleet()) {
        let mut sim = Sim::new(&fleet);
        sim.settle().map_err(TestCaseError::fail)?;
        let (seen, around) = (sim.seen(), surroundings());
        let foresight = foresee(&present_of(&sim, &seen, &around), &sim.documents);
        prop_assert_eq!(text(&foresight), "");
        prop_assert_eq!(foresight, Foresight { complete: true, ..Foresight::default() });
    }

    #[test]
    fn it_is_the_same_whatever_the_order_of_the_documents(
        (fleet, shuffled) in fleet().prop_flat_map(|fleet| {
            let shuffled = Just(fleet.documents.clone()).prop_shuffle();
            (Just(fleet), shuffled)
        }),
        (edits, other) in edits(),
    ) {
        let sim = Sim::new(&fleet);
        let (seen, around) = (sim.seen(), surroundings());
        let mut mixed = sim.clone();
        mixed.documents = shuffled.into_iter().collect();
        let of = |sim: &Sim| {
            let documents = changed(&sim.documents, &edits, &other, sim.revision + 1);
            foresee(&present_of(sim, &seen, &around), &documents)
        };
        prop_assert_eq!(of(&sim), of(&mixed));
    }
}
