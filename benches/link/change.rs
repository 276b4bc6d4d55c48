//! Fifty nodes: one process changes, all start on warm links, all start from nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mainstay::model::meta::Kind;
use mainstay::plan::world::Phase;

use crate::bare::{self, Kept};
use crate::fifo::Fifo;
use crate::support::sshd::Sshd;
use crate::table::{self, Samples};
use crate::world::{self, Place, World};

const NODES: usize = 50;
const SERVICES: usize = 5;
const WARM_UP: usize = 3;
const CHANGES: usize = 40;
const WARM_STARTS: usize = 5;
const COLD_STARTS: usize = 3;

/// How many connections the contender opens at once: as many as we do.
const CONNECTING_AT_ONCE: usize = 16;

/// The nodes and what is declared for them: four services everywhere, and one a node that is its own.
struct Fleet {
    nodes: Vec<Sshd>,
    names: Vec<String>,
    fifo: Fifo,
}

impl Fleet {
    fn base(&self) -> String {
        world::base(&self.nodes, "")
    }

    /// All documents. What the nodes' own services say is `marks`, by number of the node.
    fn text(&self, marks: &BTreeMap<usize, String>) -> String {
        let mut text = self.base();
        for number in 1..SERVICES {
            text += &world::service(&format!("ALL{number}"), &self.names, &[]);
        }
        for (number, name) in self.names.iter().enumerate() {
            let command = self.fifo.command(marks.get(&number).map_or("first", String::as_str));
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            text += &world::service(&format!("OWN{number}"), std::slice::from_ref(name), &words);
        }
        text
    }

    /// The plain script that starts the same on one node.
    fn bare(&self, number: usize) -> String {
        let ids: Vec<String> = (0..SERVICES).map(|id| format!("p{id}")).collect();
        bare::start(&self.root(number), &ids, "sleep 1000")
    }

    fn root(&self, number: usize) -> String {
        format!("{}/home/bare", self.nodes[number].directory().display())
    }
}

pub(crate) async fn run() {
    let nodes = world::machines(NODES);
    let names = (1..=NODES).map(|number| format!("ND{number}")).collect();
    let fleet = Fleet { nodes, names, fifo: Fifo::new() };
    let mut world = all_cold(&fleet).await;
    let mut kept: Vec<Kept> = fleet.nodes.iter().map(Kept::open).collect();
    kept.iter_mut().for_each(|shell| shell.run("echo DONE\n"));
    all_on_warm_links(&fleet, &mut world, &mut kept).await;
    one_change(&fleet, &world, &mut kept).await;
    world.end().await;
    world::clear(&fleet.nodes);
}

/// From the controller's start, or the first ssh, to all running. Leaves the last world running.
async fn all_cold(fleet: &Fleet) -> World {
    let [mut ours, mut by_bare] = [(); 2].map(|()| Samples::default());
    let mut left = None;
    for _ in 0..COLD_STARTS {
        if let Some(mut world) = left.take() {
            World::end(&mut world).await;
        }
        world::clear(&fleet.nodes);

        let began = Instant::now();
        let todo = Mutex::new(0..NODES);
        let all: Mutex<Vec<Kept>> = Mutex::default();
        let (nodes, scripts) =
            (&fleet.nodes, (0..NODES).map(|number| fleet.bare(number)).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for _ in 0..CONNECTING_AT_ONCE {
                scope.spawn(|| {
                    while let Some(number) = { todo.lock().unwrap().next() } {
                        let mut shell = Kept::open(&nodes[number]);
                        shell.run(&scripts[number]);
                        all.lock().unwrap().push(shell);
                    }
                });
            }
        });
        by_bare.push(began.elapsed());
        drop(all);
        world::clear(&fleet.nodes);

        let mut world = World::new().await;
        world.apply(&fleet.text(&BTreeMap::new())).await;
        let began = Instant::now();
        world.reconcile().await;
        ours.push(world.until_running(NODES * SERVICES).await - began);
        left = Some(world);
    }
    table::show(
        &format!("all cold: {NODES} × {SERVICES} from nothing, connections included"),
        &[
            ("ours, from the controller's start to all seen", &ours),
            (&format!("bare scripts on new ssh, {CONNECTING_AT_ONCE} at once"), &by_bare),
        ],
    );
    table::verdict("ours / bare scripts", table::ratio(&ours, &by_bare), 1.3);
    left.expect("there are rounds")
}

/// All links and shells are open, and all processes are to start.
async fn all_on_warm_links(fleet: &Fleet, world: &mut World, kept: &mut [Kept]) {
    let [mut ours, mut by_bare] = [(); 2].map(|()| Samples::default());
    let (mut batches, mut spent) = (0, Duration::ZERO);
    for _ in 0..WARM_STARTS {
        world.apply(&fleet.base()).await;
        world
            .until("all to be gone", |all| all.values().all(|view| view.sighting.processes.is_empty()))
            .await;
        let mut snapshots = world.state.changes();
        let services_are_gone =
            snapshots.wait_for(|snapshot| snapshot.documents.of_kind(Kind::Service).next().is_none()).await;
        drop(services_are_gone.unwrap());
        world.sent();
        let before = world::processor_time();
        let (acknowledged, took) = world.apply(&fleet.text(&BTreeMap::new())).await;
        let began = acknowledged.checked_sub(took).unwrap();
        ours.push(world.until_running(NODES * SERVICES).await - began);
        batches = world.sent().len();
        spent = world::processor_time().saturating_sub(before);

        let began = Instant::now();
        for (number, shell) in kept.iter_mut().enumerate() {
            shell.send(&fleet.bare(number));
        }
        kept.iter_mut().for_each(Kept::wait);
        by_bare.push(began.elapsed());
        (0..NODES).for_each(|number| bare::clear(&fleet.root(number)));
    }
    table::show(
        &format!("all on warm links: {NODES} × {SERVICES} start"),
        &[("ours, from the documents' commit to all seen", &ours), ("bare scripts on kept ssh", &by_bare)],
    );
    println!(
        "  in the last round we sent {batches} batches, and the controller took {:.0} ms of processor time",
        table::ms(spent)
    );
    table::verdict("ours / bare scripts", table::ratio(&ours, &by_bare), 1.3);
}

/// One process of all gets another command.
async fn one_change(fleet: &Fleet, world: &World, kept: &mut [Kept]) {
    let [mut wire, mut runs, mut seen, mut bare_runs, mut bare_done] = [(); 5].map(|()| Samples::default());
    let places: BTreeMap<String, Place> =
        world.places().into_iter().map(|place| (place.service.clone(), place)).collect();
    for (number, shell) in kept.iter_mut().enumerate() {
        let program = fleet.fifo.command("first").join(" ");
        shell.run(&bare::start(&fleet.root(number), &["p".to_owned()], &program));
    }
    let mut marks = BTreeMap::new();
    for round in 0..WARM_UP + CHANGES {
        let number = round % NODES;
        let place = &places[&format!("OWN{number}")];
        let mark = format!("ours-{round}");
        marks.insert(number, mark.clone());
        let before = world.process(place).unwrap();
        let counters = || (world.metrics.node_batches.get(), world.metrics.node_steps.get());
        let (batches, steps) = counters();
        world.sent();
        let key = ("IN1".to_owned(), place.node.clone());

        let (acknowledged, _) = world.apply(&fleet.text(&marks)).await;
        let shown = world
            .until("the change", |all| {
                let now = all[&key].sighting.processes.get(&place.id);
                now.is_some_and(|now| now.phase == Phase::Running && now.hash != before.hash)
            })
            .await;
        let ran = fleet.fifo.wait(&mark);
        world.until("all to settle", |all| all.values().all(|view| view.settled)).await;
        assert_eq!(counters(), (batches + 1, steps + 1), "one batch of one step was wanted");
        let sent = world.sent();
        let (node, at) = &sent[0];
        assert_eq!((sent.len(), node.as_str()), (1, format!("IN1/{}", place.node).as_str()));

        let root = fleet.root(number);
        let mark = format!("bare-{round}");
        let script = bare::restart(&root, "p", &fleet.fifo.command(&mark).join(" "));
        let began = Instant::now();
        kept[number].run(&script);
        let done = began.elapsed();
        let bare_ran = fleet.fifo.wait(&mark) - began;
        if round < WARM_UP {
            continue;
        }
        // The snapshot may have rung before the commit's caller was told.
        wire.push(at.saturating_duration_since(acknowledged));
        runs.push(ran.saturating_duration_since(acknowledged));
        seen.push(shown - acknowledged);
        bare_runs.push(bare_ran);
        bare_done.push(done);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    table::show(
        &format!("change: one of {NODES} × {SERVICES} gets another command"),
        &[
            ("ours, commit to seen as running", &seen),
            ("ours, commit to the batch on the wire", &wire),
            ("bare stop and start on its kept ssh, done", &bare_done),
        ],
    );
    table::show(
        "change, until the new program really runs",
        &[("ours, from the commit", &runs), ("bare stop and start on its kept ssh", &bare_runs)],
    );
    println!("  each change was one batch of one step, to its own node");
    table::verdict("seen: ours / bare", table::ratio(&seen, &bare_done), 1.5);
    table::verdict("runs: ours / bare", table::ratio(&runs, &bare_runs), 1.5);
    table::verdict("commit to wire, p99, ms", table::ms(wire.quantile(0.99)), 5.0);
}
