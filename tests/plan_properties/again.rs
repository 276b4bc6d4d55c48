//! Deciding again and again: one decision after the other about a world in which anything changes.

use std::collections::BTreeMap;

use mainstay::model::amount::Seconds;
use mainstay::model::kinds::{FailoverSpec, OnFailure, ServiceSpec, UpdateSpec};
use mainstay::model::meta::{DRAINING, FORGOTTEN, RESTARTED};
use mainstay::model::{Document, Documents, Key, Kind, Spec};
use mainstay::plan::place::{Placement, place};
use mainstay::plan::placer::{Earlier, Placer};
use mainstay::plan::world::{Freeze, NodeSighting, Phase, World};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::desk;
use crate::fleet::{Fleet, Place, fleet};
use crate::machine::sighting;

/// Something that changes.
#[derive(Debug, Clone)]
enum Deed {
    /// A document of another fleet is declared.
    Declare(Index),
    /// The same, and it waits for an older one.
    Wait(Index),
    /// One that waits is there no more.
    StopWaiting(Index),
    /// A document is there no more.
    Vanish(Index),
    /// It is decided that an object goes.
    Delete(Index),
    /// A service is declared otherwise.
    Change(Index, Change),
    /// A node is drained, or no more.
    Drain(Index),
    /// A node that goes is said to be gone for good.
    Forget(Index),
    /// A node is seen as one of another fleet.
    See(Index, Index),
    /// A node runs all that it should.
    Run(Index),
    /// A node does not answer any more.
    Lose(Index),
    /// A node was never seen.
    Unsee(Index),
    /// The last decision is written.
    Write,
    /// The half of it is.
    WriteHalf,
    /// So many milliseconds pass.
    Pass(u64),
}

#[derive(Debug, Clone)]
enum Change {
    Replicas(u32),
    Everywhere,
    Selector(bool),
    Failover(Option<FailoverSpec>),
    Restart(u8),
    Kind(bool),
    Update(UpdateSpec),
}

fn change() -> impl Strategy<Value = Change> {
    let seconds = || prop_oneof![Just(Seconds(1)), Just(Seconds(5))];
    let failover = prop_oneof![
        2 => seconds().prop_map(|after| Some(FailoverSpec::Replace { after })),
        1 => seconds().prop_map(|lease| Some(FailoverSpec::Fenced { lease })),
        1 => Just(None),
    ];
    let update = (0..3_u32, 1..20_u32, any::<bool>()).prop_map(|(ready, deadline, back)| UpdateSpec {
        min_ready_seconds: Some(ready),
        progress_deadline_seconds: Some(deadline),
        on_failure: back.then_some(OnFailure::Rollback),
        ..UpdateSpec::default()
    });
    prop_oneof![
        (0..6_u32).prop_map(Change::Replicas),
        Just(Change::Everywhere),
        any::<bool>().prop_map(Change::Selector),
        failover.prop_map(Change::Failover),
        any::<u8>().prop_map(Change::Restart),
        any::<bool>().prop_map(Change::Kind),
        update.prop_map(Change::Update),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let index = any::<Index>;
    prop_oneof![
        4 => index().prop_map(Deed::Declare),
        1 => index().prop_map(Deed::Wait),
        1 => index().prop_map(Deed::StopWaiting),
        1 => index().prop_map(Deed::Vanish),
        1 => index().prop_map(Deed::Delete),
        6 => (index(), change()).prop_map(|(index, change)| Deed::Change(index, change)),
        2 => index().prop_map(Deed::Drain),
        1 => index().prop_map(Deed::Forget),
        3 => (index(), index()).prop_map(|(node, like)| Deed::See(node, like)),
        6 => index().prop_map(Deed::Run),
        4 => index().prop_map(Deed::Lose),
        1 => index().prop_map(Deed::Unsee),
        8 => Just(Deed::Write),
        2 => Just(Deed::WriteHalf),
        5 => (0..8_000_u64).prop_map(Deed::Pass),
    ]
}

struct Scene {
    documents: Documents,
    seen: BTreeMap<Place, NodeSighting>,
    others: Fleet,
    now_ms: u64,
    revision: u64,
}

impl Scene {
    fn key(&self, index: &Index, is_fine: impl Fn(&Key) -> bool) -> Option<Key> {
        let keys: Vec<&Key> = self.documents.iter().map(|(key, _)| key).filter(|key| is_fine(key)).collect();
        (!keys.is_empty()).then(|| (*index.get(&keys)).clone())
    }

    fn edit(&mut self, key: &Key, edit: impl FnOnce(&mut Document)) {
        self.revision += 1;
        let mut document = Document::clone(self.documents.get(key).expect("it was found among them"));
        edit(&mut document);
        document.metadata.resource_version = self.revision.to_string();
        self.documents.insert(document);
    }

    fn node(&self, index: &Index) -> Option<Place> {
        let key = self.key(index, |key| key.kind == Kind::Node)?;
        Some((key.namespace, key.name))
    }

    fn write(&mut self, placement: &Placement, share: usize) {
        for step in placement.steps.iter().step_by(share) {
            self.revision += 1;
            desk::write(&mut self.documents, &step.action, self.revision);
        }
    }

    fn change(&mut self, key: &Key, change: Change) {
        self.edit(key, |document| {
            let Spec::Service(service) = &mut document.spec else { unreachable!("it is a service") };
            match change {
                Change::Replicas(replicas) => (service.replicas, service.nodes) = (Some(replicas), None),
                Change::Everywhere => {
                    service.replicas = None;
                    service.nodes = Some(["ND1", "ND2", "ND3", "ND4"].map(str::to_owned).to_vec());
                }
                Change::Selector(is_east) => {
                    let zone = if is_east { "east" } else { "west" };
                    service.node_selector = [("zone".to_owned(), zone.to_owned())].into();
                }
                Change::Failover(failover) => service.failover = failover,
                Change::Restart(at) => {
                    document.metadata.annotations.insert(RESTARTED.into(), at.to_string());
                }
                Change::Kind(is_told) => {
                    let kind = if is_told { "told" } else { "untold" }.into();
                    *service = ServiceSpec { kind, ..service.clone() };
                }
                Change::Update(update) => service.update = Some(update),
            }
        });
    }

    fn carry_out(&mut self, deed: Deed, last: &Placement) {
        match deed {
            Deed::Declare(index) => {
                self.revision += 1;
                self.documents.insert(index.get(&self.others.documents).clone());
            }
            Deed::Wait(index) => {
                let mut document = index.get(&self.others.documents).clone();
                (document.metadata.waiting, document.metadata.deletion_timestamp) = (true, None);
                self.documents.insert(document);
            }
            Deed::StopWaiting(index) => {
                let keys: Vec<Key> = self.documents.waiting().map(|(key, _)| key.clone()).collect();
                if !keys.is_empty() {
                    self.documents.remove_waiting(index.get(&keys));
                }
            }
            Deed::Vanish(index) => {
                self.key(&index, |_| true).into_iter().for_each(|key| self.documents.remove(&key));
            }
            Deed::Delete(index) => {
                self.revision += 1;
                let key = self.key(&index, |key| key.kind != Kind::ServiceType);
                key.into_iter().for_each(|key| desk::delete(&mut self.documents, &key, self.revision));
            }
            Deed::Change(index, change) => {
                let key = self.key(&index, |key| key.kind == Kind::Service);
                key.into_iter().for_each(|key| self.change(&key, change.clone()));
            }
            Deed::Drain(index) | Deed::Forget(index) => {
                let label = if matches!(deed, Deed::Drain(_)) { DRAINING } else { FORGOTTEN };
                let Some(key) = self.key(&index, |key| key.kind == Kind::Node) else { return };
                self.edit(&key, |node| {
                    if node.metadata.annotations.remove(label).is_none() {
                        node.metadata.annotations.insert(label.into(), "x".into());
                    }
                });
            }
            Deed::See(index, like) => {
                let all: Vec<NodeSighting> = self.others.seen.values().cloned().collect();
                if let Some(place) = self.node(&index).filter(|_| !all.is_empty()) {
                    let like = NodeSighting::clone(like.get(&all));
                    self.seen.insert(place, NodeSighting { planned: self.revision / 2, ..like });
                }
            }
            Deed::Run(index) => {
                let Some(place) = self.node(&index) else { return };
                let processes = self.documents.processes_on(&place.0, &place.1);
                let running = processes
                    .map(|(process, _)| (process.metadata.name.clone(), sighting(Phase::Running, "x", "x")));
                let running = running.map(|(id, mut seen)| {
                    seen.since_ms = self.now_ms;
                    (id, seen)
                });
                let seen = NodeSighting {
                    complete: true,
                    processes: running.collect(),
                    planned: self.revision,
                    ..NodeSighting::default()
                };
                self.seen.insert(place, seen);
            }
            Deed::Lose(index) => {
                let Some(place) = self.node(&index) else { return };
                let seen = self.seen.entry(place).or_default();
                (seen.complete, seen.unseen_since_ms) = (false, Some(self.now_ms));
            }
            Deed::Unsee(index) => {
                self.node(&index).into_iter().for_each(|place| drop(self.seen.remove(&place)));
            }
            Deed::Write => self.write(last, 1),
            Deed::WriteHalf => self.write(last, 2),
            Deed::Pass(ms) => self.now_ms += ms,
        }
    }

    fn world(&self) -> World<'_> {
        let freeze = Freeze { above_percent: 40, settle_ms: 5_000 };
        World { since_ms: 1_000, freeze, ..World::at(&self.documents, &self.seen, self.now_ms) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_knows_the_last_decision_decides_as_who_looks_at_everything(
        first in fleet(),
        others in fleet(),
        passes in vec(vec(deed(), 0..4), 1..20),
    ) {
        let (documents, seen) = (first.documents(), first.seen);
        let mut scene = Scene { documents, seen, others, now_ms: 1_000, revision: 0 };
        let mut placer = Placer::default();
        let mut last = placer.place(&scene.world(), &Earlier::new());
        prop_assert_eq!(&last, &place(&scene.world()));
        for deeds in passes {
            let before = scene.seen.clone();
            let said = format!("{deeds:?}");
            deeds.into_iter().for_each(|deed| scene.carry_out(deed, &last));
            let places = before.keys().chain(scene.seen.keys()).cloned();
            let earlier: Earlier<'_> = places
                .filter(|place| before.get(place) != scene.seen.get(place))
                .map(|place| { let seen = before.get(&place); (place, seen) })
                .collect();
            let known = placer.place(&scene.world(), &earlier);
            let anew = place(&scene.world());
            prop_assert_eq!(&known, &anew, "after {}", said);
            last = known;
        }
    }
}
