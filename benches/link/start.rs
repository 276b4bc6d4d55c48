//! Twenty processes started on a warm node, in one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::model::kinds::{Signal, StopSpec};
use mainstay::node::link::{Connector, Link, Target};
use mainstay::node::protocol::{self, Line};
use mainstay::node::ssh::Ssh;
use mainstay::plan::step::{Action, Care, Reason, Start, Step};
use mainstay::plan::world::Phase;

use crate::bare::{self, Kept, Master};
use crate::support::sshd::Sshd;
use crate::support::{carrying, wait_for};
use crate::table::{self, Samples};

const PROCESSES: usize = 20;
const WARM_UP: usize = 3;
const ROUNDS: usize = 25;
const PROGRAM: &str = "sleep 1000";

/// Our side of an open link.
struct Node {
    link: Box<dyn Link>,
    root: String,
    revision: u64,
}

impl Node {
    async fn open(connector: &dyn Connector, target: &Target) -> Node {
        let mut link = connector.connect(target).await.unwrap();
        link.send(&protocol::open(&target.root, 1, 1)).await.unwrap();
        while !matches!(link.next().await.unwrap(), Line::Opened { .. }) {}
        Node { link, root: target.root.clone(), revision: 1 }
    }

    async fn send(&mut self, actions: Vec<Action>) {
        self.revision += 1;
        let steps: Vec<Step> =
            actions.into_iter().map(|action| Step { action, reason: Reason::Absent }).collect();
        self.link.send(&protocol::batch(1, self.revision, &steps)).await.unwrap();
    }

    /// From the first byte sent until all were told as running, and until the batch's trailer.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what else a node says does not matter here")]
    async fn start(&mut self, ids: &[String]) -> (Duration, Duration) {
        let actions =
            ids.iter().map(|id| Action::Start { id: id.clone(), start: program().into() }).collect();
        let began = Instant::now();
        self.send(actions).await;
        let (mut running, mut done) = (BTreeMap::new(), None);
        let mut all = None;
        loop {
            match self.link.next().await.unwrap() {
                Line::Process(process) if process.phase == Phase::Running => {
                    running.insert(process.id, process.pid);
                    if running.len() == ids.len() {
                        all.get_or_insert_with(|| began.elapsed());
                    }
                }
                Line::Done { .. } => done = Some(began.elapsed()),
                _ => {}
            }
            if let (Some(all), Some(done)) = (all, done) {
                return (all, done);
            }
        }
    }

    async fn remove(&mut self, ids: &[String]) {
        let stop = StopSpec { signal: Signal::Term, grace_seconds: 1 };
        self.send(ids.iter().map(|id| Action::Remove { id: id.clone(), stop: stop.clone() }).collect()).await;
        let mut left: BTreeSet<_> = ids.iter().cloned().collect();
        while !left.is_empty() {
            if let Line::Gone(id) = self.link.next().await.unwrap() {
                left.remove(&id);
            }
        }
        // All but what follows the events: a supervisor that has removed everything is about to end.
        let runs = format!("run\0{}\0", self.root);
        wait_for("the supervisors to be gone", || carrying(&runs).is_empty());
    }
}

fn program() -> Start {
    Start {
        command: PROGRAM.split(' ').map(str::to_owned).collect(),
        env: BTreeMap::new(),
        hash: "h".into(),
        live: "-".into(),
        stop: StopSpec { signal: Signal::Term, grace_seconds: 10 },
        care: Care { hash: "c".into(), ..Care::default() },
    }
}

pub(crate) async fn run() {
    let sshd = Sshd::start();
    let home = sshd.directory().join("home").display().to_string();
    let state = tempfile::tempdir().unwrap();
    let connector: Arc<dyn Connector> =
        Arc::new(Ssh::new(env!("CARGO_BIN_EXE_mainstay").into(), state.path()).unwrap());
    let target =
        Target { identity_file: Some(sshd.identity_file()), root: format!("{home}/node"), ..sshd.target() };
    let mut node = Node::open(&*connector, &target).await;
    let mut kept = Kept::open(&sshd);
    let master = Master::open(&sshd);

    let ids: Vec<String> = (0..PROCESSES).map(|number| format!("p{number}")).collect();
    let root = format!("{home}/bare");
    let script = bare::start(&root, &ids, PROGRAM);
    let barest = bare::start_unsupervised(&root, &ids, PROGRAM);
    let [mut ours, mut ours_done, mut by_kept, mut by_exec, mut by_barest] =
        [(); 5].map(|()| Samples::default());
    for round in 0..WARM_UP + ROUNDS {
        let (running, done) = node.start(&ids).await;
        node.remove(&ids).await;
        let time = |run: &mut dyn FnMut()| {
            let began = Instant::now();
            run();
            let took = began.elapsed();
            bare::clear(&root);
            took
        };
        let took = [
            time(&mut || kept.run(&script)),
            time(&mut || master.run(&script)),
            time(&mut || kept.run(&barest)),
        ];
        if round < WARM_UP {
            continue;
        }
        ours.push(running);
        ours_done.push(done);
        for (samples, took) in [&mut by_kept, &mut by_exec, &mut by_barest].into_iter().zip(took) {
            samples.push(took);
        }
    }
    table::show(
        &format!("start: {PROCESSES} processes on a warm node"),
        &[
            ("ours, until all are told as running", &ours),
            ("ours, until the batch's trailer", &ours_done),
            ("bare script, kept ssh, supervised", &by_kept),
            ("bare script, exec on a ControlMaster", &by_exec),
            ("barest: kept ssh, setsid -f, unsupervised", &by_barest),
        ],
    );
    table::verdict("ours / bare script on a kept ssh", table::ratio(&ours, &by_kept), 1.2);
    table::verdict("ours / bare script by exec", table::ratio(&ours, &by_exec), 1.0);
    node.link.close().await;
    bare::clear(&home);
}
