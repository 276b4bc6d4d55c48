//! A manifests folder on a real file system, changed as editors, git and Kubernetes change it: what is applied is always a state that
//! the folder really was in, and in the end the one that it is in.
//!
//! A seed decides what is done to the folder and how fast. Beside each step the folder is looked at as a reader would that nobody disturbs;
//! each transaction of the store has to make one of these states, never an older one after a newer one. A version stands in every document, so
//! that no two states look the same and a mixture of two looks like neither.
//!
//! `MAINSTAY_WATCH_SEEDS=500` runs so many seeds instead of 200, `MAINSTAY_WATCH_SEED=7` that one.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay::source::PruneLimit;

#[path = "watch/edits.rs"]
mod edits;
#[path = "watch/follower.rs"]
mod follower;
#[path = "sim/rng.rs"]
#[allow(dead_code, reason = "the simulator uses more of it")]
mod rng;
#[path = "watch/truth.rs"]
mod truth;

use edits::Edits;
use follower::Follower;
use rng::Rng;
use truth::{Moment, State, document};

/// How many seeds are run when nobody says how many.
const SEEDS: u64 = 200;

/// How many of them at once.
const AT_ONCE: u64 = 6;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

#[test]
fn what_is_applied_is_always_a_state_of_the_folder_and_in_the_end_the_last() {
    let seeds: Vec<u64> = match number("MAINSTAY_WATCH_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("MAINSTAY_WATCH_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(seed) = seeds.get(at) else { return };
                    if let Err(failure) = sequence(*seed) {
                        failures.lock().unwrap().insert(*seed, failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let told: Vec<String> = failures
        .iter()
        .map(|(seed, failure)| format!("MAINSTAY_WATCH_SEED={seed} cargo test --test watch: {failure}"))
        .collect();
    assert!(told.is_empty(), "{} of {} seeds failed:\n{}", told.len(), seeds.len(), told.join("\n"));
    println!("seeds 0 to {}: all fine", seeds.len() - 1);
}

/// One seed: what was wrong, if anything.
fn sequence(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let prune = PruneLimit { percent: if rng.one_in(3) { 30 } else { 100 } };
    let runtime = runtime();
    let mut edits = Edits::new(rng);
    let follower = runtime.block_on(Follower::start(edits.root(), prune));
    let steps = edits.rng.between(6, 14);
    for _ in 0..steps {
        edits.one();
    }
    let last = edits.come_to_rest();
    // Whoever waits for people is approved as they would: what is shown, and only that.
    let approvals =
        runtime.block_on(follower.until(&last)).map_err(|why| format!("{why}\n{}", edits.told()))?;
    let applied = runtime.block_on(follower.end());
    check(&edits.history, &applied, prune, approvals).map_err(|why| format!("{why}\n{}", edits.told()))
}

/// Whether the states that were applied are states that the folder was in, in that order.
fn check(
    history: &[Option<Moment>],
    applied: &[State],
    prune: PruneLimit,
    approvals: usize,
) -> Result<(), String> {
    let mut from = 0;
    let mut before = State::new();
    let mut many = 0;
    for state in applied {
        let is_it = |known: &Option<Moment>| {
            known.as_ref().is_some_and(|known| {
                let deletes = before.keys().any(|name| !state.contains_key(name));
                known.state == *state && !(known.has_empty && deletes)
            })
        };
        let found = history[from..].iter().position(is_it);
        let Some(found) = found else {
            return Err(format!("{state:?} was applied, and the folder was never so (after step {from})"));
        };
        from += found;
        let gone = before.keys().filter(|name| !state.contains_key(*name)).count();
        many += usize::from(gone >= 5 && gone * 100 > usize::from(prune.percent) * before.len());
        before.clone_from(state);
    }
    if many > approvals {
        return Err(format!("{many} changes deleted a lot, and {approvals} were approved"));
    }
    Ok(())
}

/// Files that are replaced one after the other without an end, in another order each round: whatever moment is read, it is one that was.
#[test]
fn a_folder_that_never_stands_still_is_never_taken_for_what_it_was_not() {
    const FILES: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(1);
    let name = |number: usize| format!("t{number:02}");
    let write = |number: usize, version: u64| {
        let beside = folder.path().join("beside.tmp");
        std::fs::write(&beside, document(&name(number), version)).unwrap();
        std::fs::rename(&beside, folder.path().join(format!("{number:02}.yaml"))).unwrap();
    };
    (0..FILES).for_each(|number| write(number, 1));
    let mut now = vec![1; FILES];
    let runtime = runtime();
    let follower = runtime.block_on(Follower::start(folder.path(), PruneLimit::default()));
    let state = |versions: &[u64]| -> State {
        versions.iter().enumerate().map(|(number, version)| (name(number), format!("v{version}"))).collect()
    };
    runtime.block_on(follower.until(&state(&now))).unwrap();
    let mut history = vec![now.clone()];
    for version in 2..200 {
        let mut order: Vec<usize> = (0..FILES).collect();
        while let Some(number) = rng.pick(&order) {
            order.retain(|other| *other != number);
            now[number] = version;
            history.push(now.clone());
            write(number, version);
            if rng.one_in(8) {
                std::thread::sleep(Duration::from_micros(rng.between(0, 4000)));
            }
        }
    }
    runtime.block_on(follower.until(&state(&now))).unwrap();
    let applied = runtime.block_on(follower.end());
    let known: BTreeSet<State> = history.iter().map(|versions| state(versions)).collect();
    for state in &applied {
        assert!(known.contains(state), "the folder was never so: {state:?}");
    }
    println!("{} of {} states were applied", applied.len(), known.len());
}

/// Ten thousand files: read whole, followed, and pruned.
#[test]
fn ten_thousand_files_are_one_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = |number: usize| folder.path().join(format!("team-{}/{number}.yaml", number / 100));
    for number in 0..10_000 {
        std::fs::create_dir_all(path(number).parent().unwrap()).unwrap();
        std::fs::write(path(number), document(&format!("t{number}"), 1)).unwrap();
    }
    let runtime = runtime();
    let follower = runtime.block_on(Follower::start(folder.path(), PruneLimit::default()));
    let mut wanted: State = (0..10_000).map(|number| (format!("t{number}"), "v1".to_owned())).collect();
    runtime.block_on(follower.until(&wanted)).unwrap();

    // A file is rewritten, a folder of a hundred gets another name, some go.
    std::fs::write(path(4711), document("t4711", 2)).unwrap();
    wanted.insert("t4711".into(), "v2".into());
    std::fs::rename(folder.path().join("team-7"), folder.path().join("team-seven")).unwrap();
    for number in 100..150 {
        std::fs::remove_file(path(number)).unwrap();
        wanted.remove(&format!("t{number}"));
    }
    assert_eq!(runtime.block_on(follower.until(&wanted)), Ok(0), "that is less than the limit");

    // A third of it and more is not on the disk any more: people are asked, and until then nothing is changed.
    for team in 20..60 {
        std::fs::remove_dir_all(folder.path().join(format!("team-{team}"))).unwrap();
    }
    std::fs::write(path(1), document("t1", 2)).unwrap();
    let approval = runtime.block_on(follower.held());
    assert_eq!((approval.deletes.len(), approval.of), (4000, 9950));
    assert_eq!(follower.state(), wanted);
    wanted.retain(|name, _| !(2000..6000).contains(&name[1..].parse::<usize>().unwrap()));
    wanted.insert("t1".into(), "v2".into());
    assert_eq!(runtime.block_on(follower.until(&wanted)), Ok(1));
}

#[test]
fn an_approval_is_for_what_was_shown_and_a_folder_that_comes_back_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |number: usize| folder.path().join(format!("{number}.yaml"));
    let write = |number: usize| std::fs::write(path(number), document(&format!("t{number}"), 1)).unwrap();
    let state = |numbers: &mut dyn Iterator<Item = usize>| -> State {
        numbers.map(|number| (format!("t{number}"), "v1".to_owned())).collect()
    };
    (0..10).for_each(write);
    let runtime = runtime();
    let follower = runtime.block_on(Follower::start(folder.path(), PruneLimit::default()));
    runtime.block_on(follower.until(&state(&mut (0..10)))).unwrap();

    (0..5).for_each(|number| std::fs::remove_file(path(number)).unwrap());
    let first = runtime.block_on(follower.held());
    assert_eq!(first.deletes, ["Tenant t0", "Tenant t1", "Tenant t2", "Tenant t3", "Tenant t4"]);
    // Another one goes meanwhile: that is no longer what was shown.
    std::fs::remove_file(path(5)).unwrap();
    let second = runtime.block_on(follower.held_other_than(&first));
    assert_eq!(second.deletes.len(), 6);
    let refused = follower.approve(&first.digest).unwrap_err();
    assert!(refused.contains("would delete something else by now"), "{refused}");
    assert_eq!(follower.state(), state(&mut (0..10)));

    // They come back, and nothing waits any more.
    (0..6).for_each(write);
    runtime.block_on(follower.not_held());
    assert_eq!(follower.state(), state(&mut (0..10)));
    let refused = follower.approve(&second.digest).unwrap_err();
    assert!(refused.contains("waits for no approval"), "{refused}");

    // All of it is gone, however little that is.
    (3..10).for_each(|number| std::fs::remove_file(path(number)).unwrap());
    let third = runtime.block_on(follower.held());
    follower.approve(&third.digest).unwrap();
    runtime.block_on(follower.until(&state(&mut (0..3)))).unwrap();
    (0..3).for_each(|number| std::fs::remove_file(path(number)).unwrap());
    let fourth = runtime.block_on(follower.held_other_than(&third));
    assert_eq!((fourth.deletes.len(), fourth.of), (3, 3));
    follower.approve(&fourth.digest).unwrap();
    runtime.block_on(follower.until(&State::new())).unwrap();
    let said = follower.events();
    assert!(
        said.iter().any(|said| said.contains("Prune LimitExceeded: it would delete 5 of the 10 objects")),
        "{said:#?}"
    );
    assert!(said.iter().any(|said| said.contains("Prune Approved: 3 deletions were approved")), "{said:#?}");
}

#[test]
fn a_mistake_is_told_with_its_line_and_a_secret_is_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), document("a", 1)).unwrap();
    let runtime = runtime();
    let follower = runtime.block_on(Follower::start(folder.path(), PruneLimit::default()));
    let good: State = [("a".to_owned(), "v1".to_owned())].into();
    runtime.block_on(follower.until(&good)).unwrap();

    let node = "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata:\n  name: ND1\n  namespace: IN9\nspec:\n  name: x\n  \
                ip-address: h\n  username: u\n  password: butter\n  prot: 22\n";
    std::fs::write(folder.path().join("b.yaml"), node).unwrap();
    std::fs::write(folder.path().join("a.yaml"), document("a", 2)).unwrap();
    let problems = runtime.block_on(follower.problems());
    assert_eq!(
        problems,
        ["b.yaml:11:3: spec.prot: unknown field `prot`; did you mean `port`?\n 11 |   prot: …\n    |   ^"]
    );
    // What is wrong between documents, too, though the file was read long before.
    std::fs::write(folder.path().join("b.yaml"), node.replace("prot", "port")).unwrap();
    let problems = runtime.block_on(follower.problems_other_than(&problems));
    assert_eq!(
        problems,
        [
            "b.yaml:5:14: metadata.namespace: Instance IN9 does not exist; there is no Instance yet\n  5 |   namespace: IN9\n    \
             |              ^"
        ]
    );
    assert_eq!(follower.state(), good, "the last good state stays");
    let said = follower.events();
    assert!(said.iter().any(|said| said.contains("Read Refused: b.yaml:11:3: spec.prot")), "{said:#?}");
    assert!(!said.concat().contains("butter") && !format!("{:?}", follower.status()).contains("butter"));
    assert!(follower.metrics().contains("mainstay_sources_refused 1\n"), "{}", follower.metrics());
}

#[test]
fn a_file_that_is_emptied_to_be_written_is_not_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, document("a", 1)).unwrap();
    std::fs::write(folder.path().join("b.yaml"), document("b", 1)).unwrap();
    let runtime = runtime();
    let follower = runtime.block_on(Follower::start(folder.path(), PruneLimit::default()));
    let state = |a: Option<u64>| -> State {
        let a = a.map(|version| ("a".to_owned(), format!("v{version}")));
        a.into_iter().chain([("b".to_owned(), "v1".to_owned())]).collect()
    };
    runtime.block_on(follower.until(&state(Some(1)))).unwrap();
    // As `generate > a.yaml` does, for as long as the generator takes.
    let file = std::fs::File::create(&path).unwrap();
    let problems = runtime.block_on(follower.problems());
    assert!(
        problems[0].starts_with("a.yaml: is empty, as a file is that is still being written, so 1 objects"),
        "{problems:?}"
    );
    assert_eq!(follower.state(), state(Some(1)));
    std::io::Write::write_all(&mut &file, document("a", 2).as_bytes()).unwrap();
    runtime.block_on(follower.until(&state(Some(2)))).unwrap();
    std::fs::remove_file(&path).unwrap();
    runtime.block_on(follower.until(&state(None))).unwrap();
}

/// Longest that anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
