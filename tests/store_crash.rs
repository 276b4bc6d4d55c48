//! What an acknowledged write is worth: a process that acknowledges numbered writes over a pipe is killed, over and over,
//! and its files are damaged in the ways that a crash or a power cut may leave them.
//!
//! `MAINSTAY_CRASH_ROUNDS=200` for the long run; 20 rounds of each without it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures_util::future::join_all;
use mainstay::store::embedded::Embedded;
use mainstay::store::{Store, Txn, Write};

#[path = "store_crash/power.rs"]
mod power;

/// Tells the child which directory to write to.
const CHILD: &str = "MAINSTAY_TEST_CHILD_WRITES_TO";

/// Tells the child to end by itself, after it has opened the store so many times.
const CYCLES: &str = "MAINSTAY_TEST_CHILD_CYCLES";

/// Writes of each writer in one of those.
const PER_CYCLE: u64 = 15;

/// Writers in the child; each has keys of its own.
const WRITERS: u64 = 4;

/// Keys of a writer.
const KEYS: u64 = 16;

fn rounds() -> u64 {
    std::env::var("MAINSTAY_CRASH_ROUNDS").ok().map_or(20, |rounds| rounds.parse().unwrap())
}

/// Numbers from a seed, so that a round can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Says a line for who has started us; after that is killed there is nobody left to say it to.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let said = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    if said.is_err() {
        std::process::exit(0);
    }
}

/// Not a test by itself: the process that is killed. Each writer counts its writes over restarts, and says a number when
/// its write was acknowledged.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    match std::env::var(CYCLES) {
        Ok(cycles) => (0..cycles.parse().unwrap()).for_each(|_| write_on(Path::new(&dir), PER_CYCLE)),
        Err(_) => write_on(Path::new(&dir), u64::MAX),
    }
}

fn write_on(dir: &Path, count: u64) {
    say("opening .\n");
    let store = Embedded::open(dir).unwrap();
    let first = in_runtime(counts(&store));
    in_runtime(async {
        join_all((0..WRITERS).map(|writer| {
            let store = &store;
            let first = first.get(&writer).copied().unwrap_or(0) + 1;
            async move {
                for number in (first..).take(usize::try_from(count).unwrap()) {
                    let text = number.to_string();
                    let value = text.repeat(1 + (number % 97) as usize);
                    let then = vec![
                        Write::Put(format!("{writer}/{:02}", number % KEYS), value.into_bytes()),
                        Write::Put(format!("count/{writer}"), text.into_bytes()),
                    ];
                    let reply = store.txn(Txn { when: vec![], then }).await.unwrap();
                    assert!(reply.succeeded);
                    say(&format!("acknowledged {writer} {number} .\n"));
                    if writer == 0 && number % 50 == 0 {
                        store.compact(reply.revision.saturating_sub(20).max(2)).await.unwrap();
                    }
                }
            }
        }))
        .await;
    });
}

/// How far each writer has come, as the store has it, after a look at whether all of it is there.
async fn counts(store: &Embedded) -> BTreeMap<u64, u64> {
    let items = store.list("", None).await.unwrap().items;
    let values: BTreeMap<&str, &str> =
        items.iter().map(|item| (item.key.as_str(), std::str::from_utf8(&item.value).unwrap())).collect();
    let mut counts = BTreeMap::new();
    for writer in 0..WRITERS {
        let Some(count) = values.get(format!("count/{writer}").as_str()) else { continue };
        let count: u64 = count.parse().unwrap();
        counts.insert(writer, count);
        // Writes of one writer follow each other, so that each key holds the last number up to the count.
        for number in count.saturating_sub(KEYS - 1).max(1)..=count {
            let expected = number.to_string().repeat(1 + (number % 97) as usize);
            let key = format!("{writer}/{:02}", number % KEYS);
            assert_eq!(values.get(key.as_str()), Some(&expected.as_str()), "{key} at {count}");
        }
    }
    counts
}

struct Writing {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    acknowledged: BTreeMap<u64, u64>,
    total: u64,
}

impl Writing {
    fn start(dir: &Path) -> Writing {
        Writing::of(Command::new(std::env::current_exe().unwrap()), dir)
    }

    /// The command is this program, or one that runs it.
    fn of(mut command: Command, dir: &Path) -> Writing {
        let mut child = command
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Writing { child, lines, acknowledged: BTreeMap::new(), total: 0 }
    }

    /// Reads until a number of writes was acknowledged, or to the end.
    fn read(&mut self, until: Option<u64>) {
        while until.is_none_or(|until| self.total < until) {
            let Some(Ok(line)) = self.lines.next() else { break };
            // A line that was cut short lacks the point, and libtest's own lines lack the word.
            let Some((_, rest)) = line.split_once("acknowledged ") else { continue };
            let Some((writer, number)) = rest.strip_suffix(" .").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            self.acknowledged.insert(writer.parse().unwrap(), number.parse().unwrap());
            self.total += 1;
        }
    }

    /// Kills it, and reads what it still has said.
    fn kill(mut self) -> (BTreeMap<u64, u64>, u64) {
        self.child.kill().unwrap();
        self.read(None);
        self.child.wait().unwrap();
        (self.acknowledged, self.total)
    }
}

/// Opens what was left, and compares.
fn assert_kept(dir: &Path, acknowledged: &BTreeMap<u64, u64>, what: &str) {
    let store = Embedded::open(dir).unwrap_or_else(|error| panic!("{what}: {error}"));
    let kept = in_runtime(counts(&store));
    for (writer, number) in acknowledged {
        let kept = kept.get(writer).copied().unwrap_or(0);
        assert!(kept >= *number, "{what}: writer {writer} was told {number}, and {kept} is there");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in ["store.db", "store.db-wal"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

/// Adds what a crash may have left after the last whole record: the beginning of another, rubbish, zeros, or room that was
/// allocated and never written.
fn tear(wal: &Path, random: &mut Random) {
    if !wal.exists() {
        return;
    }
    let bytes = std::fs::read(wal).unwrap();
    let length = random.below(9000) as usize + 1;
    let tail: Vec<u8> = match random.below(3) {
        0 => bytes.iter().rev().take(length).rev().copied().collect(),
        1 => (0..length).map(|_| random.below(256) as u8).collect(),
        _ => vec![0; length],
    };
    let mut file = OpenOptions::new().append(true).open(wal).unwrap();
    file.write_all(&tail).unwrap();
}

#[test]
fn what_was_acknowledged_survives_kill_9_and_a_torn_tail() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let mut last = BTreeMap::new();
    let mut total = 0;
    for round in 1..=rounds() {
        let mut random = Random(round);
        let mut writing = Writing::start(&dir);
        // Some die while they open, some right at the beginning, some later.
        match round % 4 {
            0 => drop(writing.lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("opening .")))),
            1 => writing.read(Some(1)),
            _ => writing.read(Some(random.below(600))),
        }
        let (acknowledged, count) = writing.kill();
        total += count;
        last.extend(acknowledged);
        let torn = temp.path().join("torn");
        copy(&dir, &torn);
        tear(&torn.join("store.db-wal"), &mut random);
        assert_kept(&torn, &last, &format!("round {round}, torn"));
        std::fs::remove_dir_all(&torn).unwrap();
        assert_kept(&dir, &last, &format!("round {round}"));
    }
    println!("{} rounds of kill -9, {total} acknowledged writes, 0 lost", rounds());
}

/// Without the last commits in the log the store is an older one, and it has to be one that was: none may be half there.
#[test]
fn a_log_that_was_cut_anywhere_is_a_whole_older_store() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let mut writing = Writing::start(&dir);
    writing.read(Some(400));
    let (acknowledged, _) = writing.kill();
    let wal = std::fs::read(dir.join("store.db-wal")).unwrap();
    let mut random = Random(7);
    for round in 0..rounds() {
        let cut = temp.path().join(format!("cut{round}"));
        copy(&dir, &cut);
        let length = random.below(wal.len() as u64);
        std::fs::write(cut.join("store.db-wal"), &wal[..length as usize]).unwrap();
        // Opening checks the rows and that no revision is missing; counts, that no transaction is half there.
        let store = Embedded::open(&cut).unwrap_or_else(|error| panic!("cut at {length}: {error}"));
        for (writer, kept) in in_runtime(counts(&store)) {
            assert!(kept <= acknowledged.get(&writer).copied().unwrap_or(0) + 1);
        }
    }
}

/// A file that lost its synced end can't be what it was: it must not be taken for it.
#[test]
fn a_file_that_lost_its_end_is_refused_or_whole() {
    let temp = tempfile::tempdir().unwrap();
    let dir: PathBuf = temp.path().join("data");
    let mut writing = Writing::start(&dir);
    writing.read(Some(300));
    let (acknowledged, _) = writing.kill();
    // A clean close moves everything into the file.
    assert_kept(&dir, &acknowledged, "closed");
    assert!(!dir.join("store.db-wal").exists());
    let whole = std::fs::read(dir.join("store.db")).unwrap();
    let mut random = Random(11);
    for round in 0..rounds() {
        let cut = temp.path().join(format!("cut{round}"));
        std::fs::create_dir(&cut).unwrap();
        let length = random.below(whole.len() as u64);
        std::fs::write(cut.join("store.db"), &whole[..length as usize]).unwrap();
        match Embedded::open(&cut) {
            Err(error) => assert!(error.to_string().contains("backup"), "cut at {length}: {error}"),
            Ok(store) => {
                let kept = in_runtime(counts(&store));
                assert!(
                    acknowledged.iter().all(|(writer, number)| kept[writer] >= *number),
                    "cut at {length}"
                );
            }
        }
    }
}
