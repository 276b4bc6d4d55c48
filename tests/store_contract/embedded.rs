//! The contract on the embedded engine, and what only that engine promises: what a directory holds after a restart, a
//! kill and damage, and that one process has it at a time.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::store::embedded::{Embedded, survey};
use mainstay::store::{Kept, Revision, Store, StoreError, Txn};
use tempfile::TempDir;

use crate::tools::*;
use crate::{cases, history, leases};

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir).expect("the store can be opened")
}

/// Why it can't be opened.
fn closed(dir: &Path) -> String {
    match Embedded::open(dir) {
        Ok(_) => panic!("it was opened"),
        Err(StoreError::Open(why)) => why,
        Err(other @ StoreError::InUse { .. }) => other.to_string(),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn the_embedded_engine_keeps_the_contract() {
    for (name, case) in cases::CASES.iter().chain(history::CASES).chain(leases::CASES) {
        println!("{name}");
        let dir = temp();
        let store = open(dir.path());
        run(name, case(&store));
    }
}

#[test]
fn a_new_store_is_empty_and_at_1() {
    let dir = temp();
    let store = open(dir.path());
    run("new", async {
        let listing = list(&store, "").await;
        assert_eq!((listing.items.len(), listing.revision), (0, 1));
        assert_eq!(list_at(&store, "", 1).await, listing);
        assert_eq!(set(&store, "a", "1").await, 2);
    });
}

#[test]
fn a_lease_ends_with_the_process_and_its_keys_are_gone_at_the_next_opening() {
    let dir = temp();
    run("leases over a restart", async {
        let store = open(dir.path());
        let lease = store.grant(Duration::from_secs(3600)).await.expect("a lease is granted");
        let written =
            write(&store, vec![leased("a", "1", lease), leased("b", "1", lease), put("c", "1")]).await;
        let last = set(&store, "b", "2").await;
        drop(store);
        let store = open(dir.path());
        assert_eq!(keys(&list(&store, "").await), ["b", "c"]);
        assert_eq!(pairs(&list_at(&store, "", written).await)[0], ("a".into(), "1".into()));
        assert_eq!(words(&next(&mut *watch(&store, "", last + 1).await).await), ["-a"]);
        assert_eq!(store.keep_alive(lease).await.expect("the store answers"), Kept::Gone);
        drop(store);
        assert_eq!(revision(&open(dir.path())).await, last + 1, "it is done once");
    });
}

#[test]
fn a_missing_directory_is_made_for_its_owner_alone() {
    let dir = temp();
    let path = dir.path().join("deep/er");
    drop(open(&path));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("store.db")), 0o600);
}

#[test]
fn a_directory_has_one_owner_at_a_time() {
    let dir = temp();
    let first = open(dir.path());
    let why = closed(dir.path());
    assert!(why.contains(&dir.path().display().to_string()), "{why}");
    assert!(why.contains("in use") && why.contains("--data-dir"), "{why}");
    assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
    drop(first);
    drop(open(dir.path()));
}

#[test]
fn a_restart_keeps_revision_state_history_and_compaction() {
    let dir = temp();
    let path = dir.path();
    run("restart", async {
        let store = open(path);
        set(&store, "a", "1").await;
        write(&store, vec![put("gone", "1"), put("b", "1")]).await;
        let oldest = write(&store, vec![delete("gone"), put("a", "2")]).await;
        set(&store, "b", "2").await;
        write(&store, vec![delete("a")]).await;
        let last = write(&store, vec![put("a", "3"), put("c", "")]).await;
        store.compact(oldest).await.expect("it can be compacted");
        let past = async |store: &Embedded| {
            let mut past = Vec::new();
            for revision in oldest..=last {
                past.push(list_at(store, "", revision).await);
            }
            let changes = until(&mut *watch(store, "", oldest + 1).await, last).await;
            (past, changes)
        };
        let before = past(&store).await;
        drop(store);

        for _ in 0..2 {
            let store = open(path);
            assert_eq!(past(&store).await, before);
            assert_eq!(revision(&store).await, last);
            let error = store.list("", Some(oldest - 1)).await.expect_err("it is compacted");
            assert!(matches!(error, StoreError::Compacted { oldest: told } if told == oldest), "{error:?}");
        }
        assert_eq!(set(&open(path), "a", "4").await, last + 1);
    });
}

#[test]
fn a_restart_keeps_the_revision_when_nothing_else_is_left() {
    let dir = temp();
    run("restart of an emptied store", async {
        let store = open(dir.path());
        set(&store, "a", "1").await;
        let last = write(&store, vec![delete("a")]).await;
        store.compact(last).await.expect("it can be compacted");
        drop(store);
        let store = open(dir.path());
        assert_eq!(revision(&store).await, last);
        assert_eq!(set(&store, "a", "1").await, last + 1);
    });
}

/// Rows in the file.
fn rows(dir: &Path) -> i64 {
    let db = rusqlite::Connection::open(dir.join("store.db")).expect("the file can be opened");
    db.query_row("SELECT count(*) FROM ev", [], |row| row.get(0)).expect("the rows can be counted")
}

#[test]
fn a_compaction_cleans_the_file_and_goes_on_after_a_restart() {
    let dir = temp();
    let path = dir.path();
    run("cleaning", async {
        let store = open(path);
        let puts = |n: usize| (0..100).map(|key| put(&format!("{key:03}"), &n.to_string())).collect();
        let mut last = 0;
        for n in 0..50 {
            last = write(&store, puts(n)).await;
        }
        let before = list(&store, "").await;
        store.compact(last).await.expect("it can be compacted");
        // It is closed in the middle of deleting 4,900 rows, some hundred at a time.
        drop(store);
        assert!(rows(path) > 100);
        let store = open(path);
        assert_eq!(list(&store, "").await, before);
        // Each commit takes more than 500 rows away.
        for _ in 0..10 {
            set(&store, "000", "x").await;
        }
        drop(store);
        assert_eq!(rows(path), 100 + 10);
        let store = open(path);
        assert_eq!(keys(&list(&store, "").await), keys(&before));
    });
}

#[test]
fn history_is_bounded_without_being_asked() {
    let dir = temp();
    let store = open(dir.path());
    run("bounded history", async {
        let writes = join_all((0..12_000).map(|n| {
            let store = &store;
            async move { set(store, &format!("key{}", n % 10), "x").await }
        }));
        let last: Revision = writes.await.into_iter().max().expect("there were writes");
        assert_eq!(last, 12_001);
        let error = store.list("", Some(2)).await.expect_err("it is compacted");
        assert!(matches!(error, StoreError::Compacted { .. }), "{error:?}");
        list_at(&store, "", last - 10_000).await;
    });
}

#[test]
fn writers_that_wait_together_share_commits() {
    let dir = temp();
    let store = open(dir.path());
    run("group commit", async {
        let writes = (0..1000).map(|n| {
            let store = &store;
            async move { set(store, &format!("key{n}"), "x").await }
        });
        let mut revisions = join_all(writes).await;
        revisions.sort_unstable();
        assert_eq!(revisions, (2..=1001).collect::<Vec<_>>());
    });
    assert!((1..1000).contains(&store.commits()), "{} commits", store.commits());
}

#[test]
fn a_transaction_that_changes_nothing_costs_no_commit() {
    let dir = temp();
    let store = open(dir.path());
    run("no commit", async {
        set(&store, "a", "1").await;
        write(&store, vec![delete("b")]).await;
        assert!(!attempt(&store, vec![absent("a")], vec![put("a", "2")]).await.succeeded);
    });
    assert_eq!(store.commits(), 1);
}

#[test]
fn closing_the_store_ends_its_watches() {
    let dir = temp();
    let store = open(dir.path());
    run("closing", async {
        let mut watch = watch(&store, "", 1).await;
        drop(store);
        let told = answer(&mut *watch).await.expect_err("the store is closed");
        assert!(matches!(told, StoreError::Unavailable(_)), "{told:?}");
    });
}

#[test]
fn a_failed_commit_stops_the_store_until_it_is_opened_again() {
    let dir = temp();
    let path = dir.path();
    drop(open(path));
    // The disk fails at revision 4, as far as the store can tell.
    let db = rusqlite::Connection::open(path.join("store.db")).unwrap();
    db.execute_batch(
        "CREATE TRIGGER fault BEFORE INSERT ON ev WHEN NEW.id >> 14 = 4
         BEGIN SELECT RAISE(ABORT, 'no space on the test disk'); END",
    )
    .unwrap();
    drop(db);

    let store = open(path);
    run("failed commit", async {
        let mut watch = watch(&store, "", 4).await;
        set(&store, "a", "2").await;
        set(&store, "a", "3").await;
        let error = refusal(&store, Txn { when: vec![], then: vec![put("a", "4")] }).await;
        assert!(matches!(&error, StoreError::Unknown(why) if why.contains("test disk")), "{error:?}");
        let later = refusal(&store, Txn { when: vec![], then: vec![put("b", "5")] }).await;
        let read = store.list("", None).await.expect_err("it is stopped");
        let told = answer(&mut *watch).await.expect_err("it is stopped");
        let compact = store.compact(2).await.expect_err("it is stopped");
        for error in [later, read, told, compact] {
            assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("test disk")), "{error:?}");
        }
    });
    drop(store);
    let store = open(path);
    run("reopened", async {
        assert_eq!(pairs(&list(&store, "").await), [("a".into(), "3".into())]);
        assert_eq!(revision(&store).await, 3);
    });
}

#[test]
fn a_damaged_file_is_refused_with_its_path_and_what_to_do() {
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [(&str, Damage); 6] = [
        ("nothing left", |_| Vec::new()),
        ("not a database", |good| vec![b'x'; good.len()]),
        ("half of it", |good| good[..good.len() / 2].to_vec()),
        ("the end missing", |good| good[..good.len() - 100].to_vec()),
        ("one bit of a value flipped", |good| {
            let mut bad = good.to_vec();
            // SQLite leaves stale copies of rows in unused parts of pages; the one that counts is among them.
            for place in (0..good.len() - 100).filter(|place| good[*place..].starts_with(b"key50x")) {
                bad[place + 50] ^= 1;
            }
            bad
        }),
        ("a page overwritten", |good| {
            let mut bad = good.to_vec();
            let middle = bad.len() / 2 / 8192 * 8192;
            bad[middle..middle + 8192].fill(0xA5);
            bad
        }),
    ];
    let dir = temp();
    let file = dir.path().join("store.db");
    let store = open(dir.path());
    run("filling", async {
        for n in 0..100 {
            set(&store, &format!("key{n}"), &"x".repeat(4096)).await;
        }
    });
    drop(store);
    let good = fs::read(&file).unwrap();
    for (name, damage) in damages {
        println!("{name}");
        fs::write(&file, damage(&good)).unwrap();
        let why = closed(dir.path());
        assert!(why.contains(&file.display().to_string()), "{name}: {why}");
        assert!(why.contains("restore it from a backup"), "{name}: {why}");
    }
    fs::write(&file, good).unwrap();
    drop(open(dir.path()));
}

#[test]
fn a_lost_revision_is_noticed() {
    let dir = temp();
    let store = open(dir.path());
    run("filling", async {
        for n in 0..10 {
            set(&store, "a", &n.to_string()).await;
        }
    });
    drop(store);
    let db = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    db.execute("DELETE FROM ev WHERE id >> 14 = 5", []).unwrap();
    drop(db);
    let why = closed(dir.path());
    assert!(why.contains("revision 5 is missing"), "{why}");
}

#[test]
fn another_format_is_refused() {
    let dir = temp();
    drop(open(dir.path()));
    for (format, advice) in [(99, "use the mainstay that wrote it"), (0, "restore it from a backup")] {
        let db = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
        db.pragma_update(None, "user_version", format).unwrap();
        drop(db);
        let why = closed(dir.path());
        assert!(why.contains(&format!("format {format}")) && why.contains("store.db"), "{why}");
        assert!(why.contains(advice), "{why}");
    }
}

#[test]
fn an_older_format_is_taken_and_is_ours_from_then_on() {
    let dir = temp();
    let store = open(dir.path());
    run("filling", async {
        set(&store, "a", "1").await;
    });
    drop(store);
    let format = |write: Option<i32>| {
        let db = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
        write.iter().for_each(|format| db.pragma_update(None, "user_version", format).unwrap());
        db.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0)).unwrap()
    };
    let ours = format(None);
    assert_eq!(format(Some(1)), 1);
    // To look at it changes nothing.
    assert!(survey(dir.path()).unwrap().damages.is_empty());
    assert_eq!(format(None), 1);
    let store = open(dir.path());
    run("reading", async { assert_eq!(list(&store, "").await.items.len(), 1) });
    drop(store);
    assert_eq!(format(None), ours);
}

#[test]
fn a_survey_names_what_is_damaged_and_reads_the_rest() {
    let dir = temp();
    let store = open(dir.path());
    run("filling", async {
        for key in ["a", "b", "c"] {
            set(&store, key, "1").await;
        }
        set(&store, "a", "2").await;
    });
    drop(store);
    let sound = survey(dir.path()).unwrap();
    assert_eq!((sound.damages.len(), sound.items.len(), sound.rows, sound.revision), (0, 3, 4, 5));
    let db = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    db.execute_batch(
        "UPDATE ev SET v = substr(v, 1, length(v) - 1) || x'00' WHERE id >> 14 = 3;
         DELETE FROM ev WHERE id >> 14 = 4;",
    )
    .unwrap();
    drop(db);
    let damaged = survey(dir.path()).unwrap();
    let said: Vec<String> =
        damaged.damages.iter().map(|d| format!("{}: {}", d.key.as_deref().unwrap_or("-"), d.what)).collect();
    assert_eq!(said, ["b: the write at revision 3 is damaged", "-: revisions 4 to 4 are missing"]);
    let left: Vec<(&str, String)> =
        damaged.items.iter().map(|item| (item.key.as_str(), text(item))).collect();
    assert_eq!(left, [("a", "2".to_owned())]);
    assert!(survey(&dir.path().join("nothing")).is_err());
}

#[test]
fn a_log_without_its_file_is_refused() {
    let dir = temp();
    fs::write(dir.path().join("store.db-wal"), "what was written last").unwrap();
    let why = closed(dir.path());
    assert!(why.contains("store.db-wal"), "{why}");
}

#[test]
fn a_creation_that_was_cut_short_is_done_again() {
    let dir = temp();
    fs::write(dir.path().join("store.db.new"), "half a database").unwrap();
    drop(open(dir.path()));
}

/// Tells the child which directory to write to.
const CHILD: &str = "MAINSTAY_TEST_CHILD_WRITES_TO";

/// Writers in the child.
const WRITERS: usize = 4;

/// Not a test by itself: the process that [`kill_9_keeps_what_was_acknowledged`] kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&dir));
    run("child", async {
        join_all((0..WRITERS).map(|writer| {
            let store = &store;
            async move {
                for n in 0_u64.. {
                    let revision = write(
                        store,
                        vec![put(&format!("{writer}/{}", n % 50), &n.to_string()), delete("none")],
                    )
                    .await;
                    writeln!(std::io::stdout(), "acknowledged {revision} {writer} {n} .").unwrap();
                    if writer == 0 && n % 20 == 19 {
                        store.compact(revision - 10).await.unwrap();
                    }
                }
            }
        }))
        .await;
    });
}

#[test]
fn kill_9_keeps_what_was_acknowledged() {
    let dir = temp();
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "embedded::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acknowledged: Vec<(Revision, usize, u64)> = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // A line that was cut short lacks the point, and libtest's own lines lack the word.
            let numbers = line.split_once("acknowledged ").and_then(|(_, rest)| rest.strip_suffix(" ."));
            if let Some(numbers) = numbers {
                let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
                acknowledged.push((numbers[0], numbers[1] as usize, numbers[2]));
            }
            if acknowledged.len() == 150 * round {
                // What it printed before it died is still read.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= 150 * round, "the child ended by itself");

        let store = open(dir.path());
        run("comparing", async {
            let last = acknowledged.iter().map(|(revision, ..)| *revision).max().unwrap();
            let now = revision(&store).await;
            assert!(now >= last, "{last} was acknowledged, and the store is at {now}");
            let oldest = match store.list("", Some(1)).await {
                Err(StoreError::Compacted { oldest }) => oldest,
                other => panic!("{other:?}"),
            };
            // What is still history has every acknowledged write at its revision.
            for (revision, writer, n) in &acknowledged {
                if *revision >= oldest {
                    let key = format!("{writer}/{}", n % 50);
                    let items = list_at(&store, &key, *revision).await.items;
                    let item = items.into_iter().find(|item| item.key == key).unwrap();
                    assert_eq!((item.mod_revision, text(&item)), (*revision, n.to_string()));
                }
            }
            // What was written last to a key in this round is there, or something that was called after it.
            for writer in 0..WRITERS {
                for slot in 0..50 {
                    let newest = acknowledged.iter().filter(|(_, w, n)| *w == writer && n % 50 == slot).max();
                    if let Some((revision, ..)) = newest {
                        let item = get(&store, &format!("{writer}/{slot}")).await.unwrap();
                        assert!(item.mod_revision >= *revision, "{writer}/{slot}");
                    }
                }
            }
        });
    }
}
