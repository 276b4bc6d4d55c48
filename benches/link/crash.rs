//! A hundred processes, each killed once: when is it known, and when is it back?

use std::time::{Duration, Instant};

use mainstay::plan::world::Phase;

use crate::bare::{self, Kept};
use crate::fifo::Fifo;
use crate::support::kill;
use crate::table::{self, Samples};
use crate::world::{self, Place, World};

const NODES: usize = 5;
const SERVICES: usize = 20;
const WANTED_KNOWN_MS: (f64, f64) = (20.0, 100.0);
const WANTED_BACK_MS: f64 = 50.0;

/// A run of 10 s is a new start; only then is the next restart immediate again, and only then are things as they are on most days.
const SETTLE: Duration = Duration::from_secs(11);

pub(crate) async fn run() {
    let nodes = world::nodes(NODES);
    let fifo = Fifo::new();
    let names: Vec<String> = (1..=NODES).map(|number| format!("ND{number}")).collect();
    let mut text = world::base(&nodes, "");
    for number in 1..=SERVICES {
        // The process's own id is what it says.
        let command = fifo.command("{{ process.id }}");
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        text += &world::service(&format!("SV{number}"), &names, &words);
    }
    let mut world = World::new().await;
    world.apply(&text).await;
    world.reconcile().await;
    world.until_running(NODES * SERVICES).await;

    // The same on the same nodes with the plainest supervisor, which is restarted in place again and again.
    let roots: Vec<String> =
        nodes.iter().map(|sshd| format!("{}/home/bare", sshd.directory().display())).collect();
    for (sshd, root) in nodes.iter().zip(&roots) {
        let program = fifo.command("bare").join(" ");
        Kept::open(sshd).run(&bare::start(root, &["p".to_owned()], &program));
    }
    tokio::time::sleep(SETTLE).await;

    let [mut known, mut back, mut runs, mut by_bare] = [(); 4].map(|()| Samples::default());
    for (round, place) in world.places().iter().enumerate() {
        let took = crash(&world, &fifo, place).await;
        known.push(took.known);
        back.push(took.back);
        runs.push(took.runs);

        let file = format!("{}/p/pid", roots[round % NODES]);
        let pid = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        fifo.clear();
        let began = Instant::now();
        kill(pid);
        by_bare.push(fifo.wait("bare") - began);
    }
    table::show(
        &format!("crash: a killed process of {NODES} × {SERVICES}"),
        &[
            ("ours, until its program runs again", &runs),
            ("ours, until the controller knows it ended", &known),
            ("ours, until the controller sees it back", &back),
            ("plainest supervisor, until it runs again", &by_bare),
        ],
    );
    let ms = |samples: &Samples, part| table::ms(samples.quantile(part));
    table::verdict("known, median, ms", ms(&known, 0.5), WANTED_KNOWN_MS.0);
    table::verdict("known, p99, ms", ms(&known, 0.99), WANTED_KNOWN_MS.1);
    table::verdict("back, median, ms", ms(&back, 0.5), WANTED_BACK_MS);
    table::verdict("back, p99, ms", ms(&back, 0.99), WANTED_BACK_MS);
    world.end().await;
    world::clear(&nodes);
}

struct Took {
    known: Duration,
    back: Duration,
    runs: Duration,
}

async fn crash(world: &World, fifo: &Fifo, place: &Place) -> Took {
    let before = world.process(place).unwrap();
    assert_eq!((before.phase, before.restarts), (Phase::Running, 0), "{place:?}");
    fifo.clear();
    let key = ("IN1".to_owned(), place.node.clone());
    let mut changes = world.observed.changes();
    let began = Instant::now();
    kill(before.pid.unwrap());
    let (mut known, mut back) = (None, None);
    while back.is_none() {
        tokio::time::timeout(Duration::from_secs(60), changes.changed()).await.expect("it is told").unwrap();
        let at = began.elapsed();
        let all = changes.borrow_and_update();
        let Some(seen) = all[&key].sighting.processes.get(&place.id) else { continue };
        if seen.pid != before.pid {
            known.get_or_insert(at);
        }
        if seen.phase == Phase::Running && seen.restarts == 1 && seen.pid != before.pid {
            back = Some(at);
        }
    }
    let (Some(known), Some(back)) = (known, back) else { unreachable!("it is back, so it is known") };
    Took { known, back, runs: fifo.wait(&place.id) - began }
}
