//! What the trait promises of watches, as sentences.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::store::{Change, Changes, MAX_TXN_OPS, MAX_VALUE_BYTES, Revision, Store, StoreError, Write};

use crate::cases::cases;
use crate::tools::*;

cases![
    a_watch_replays_history_without_gap_or_repeat,
    a_watch_goes_from_history_to_now_without_a_seam,
    a_watch_from_before_the_first_write_sees_everything,
    a_watch_from_the_future_waits_for_it,
    a_watch_sees_only_its_prefix,
    a_transaction_is_never_split_and_keeps_its_order,
    a_large_replay_is_whole,
    a_put_and_a_delete_say_what_they_did,
    what_a_watch_tells_a_read_sees,
    a_listing_and_a_watch_from_it_make_the_whole,
    all_watches_see_the_same,
    a_dropped_wait_loses_nothing,
    a_watch_at_or_below_the_oldest_revision_is_told_so,
    a_compaction_under_a_slow_watch_leaves_no_silent_gap,
    a_compaction_does_not_touch_a_watch_that_is_up_to_date,
];

fn revisions(changes: &[Changes]) -> Vec<Revision> {
    changes.iter().map(|changes| changes.revision).collect()
}

async fn a_watch_replays_history_without_gap_or_repeat(store: &dyn Store) {
    let mut written = Vec::new();
    for n in 0..50 {
        written.push(set(store, &format!("key{}", n % 7), &n.to_string()).await);
    }
    let (first, last) = (written[0], written[49]);
    let mut replay = watch(store, "", first).await;
    let seen = until(&mut *replay, last).await;
    assert_eq!(revisions(&seen), written);
    assert_eq!(seen.iter().flat_map(words).nth(30).as_deref(), Some("+key2=30"));
    let mut half = watch(store, "", written[25]).await;
    assert_eq!(revisions(&until(&mut *half, last).await), written[25..]);
}

async fn a_watch_goes_from_history_to_now_without_a_seam(store: &dyn Store) {
    let first = set(store, "a", "0").await;
    for n in 1..20 {
        set(store, "a", &n.to_string()).await;
    }
    let writer = async {
        let mut last = 0;
        for n in 20..120 {
            last = set(store, "a", &n.to_string()).await;
        }
        last
    };
    let reader = async {
        let mut all = Vec::new();
        let mut watch = watch(store, "", first).await;
        for _ in 0..120 {
            all.push(next(&mut *watch).await);
        }
        all
    };
    let (last, seen) = tokio::join!(writer, reader);
    assert_eq!(revisions(&seen), (first..=last).collect::<Vec<_>>());
    let values: Vec<String> = seen.iter().flat_map(words).collect();
    assert_eq!(values, (0..120).map(|n| format!("+a={n}")).collect::<Vec<_>>());
}

async fn a_watch_from_before_the_first_write_sees_everything(store: &dyn Store) {
    let start = revision(store).await;
    let first = set(store, "a", "1").await;
    assert_eq!(next(&mut *watch(store, "", start + 1).await).await.revision, first);
    // On a store that others have used and compacted, history does not begin at 0.
    if start == 1 {
        for from in [0, 1, 2] {
            assert_eq!(next(&mut *watch(store, "", from).await).await.revision, first);
        }
    }
}

async fn a_watch_from_the_future_waits_for_it(store: &dyn Store) {
    let now = set(store, "a", "0").await;
    let mut watch = watch(store, "", now + 3).await;
    for n in 1..=4 {
        set(store, "a", &n.to_string()).await;
    }
    let changes = next(&mut *watch).await;
    assert_eq!((changes.revision, words(&changes)), (now + 3, vec!["+a=3".to_owned()]));
    assert_eq!(next(&mut *watch).await.revision, now + 4);
}

async fn a_watch_sees_only_its_prefix(store: &dyn Store) {
    let start = revision(store).await;
    let mut live = watch(store, "a/", start + 1).await;
    set(store, "a", "1").await;
    set(store, "a0", "1").await;
    write(store, vec![put("b", "1"), put("a/1", "1"), put("c", "1")]).await;
    write(store, vec![delete("a0"), delete("b")]).await;
    let last = write(store, vec![delete("a/1")]).await;
    let mut replay = watch(store, "a/", start + 1).await;
    for watch in [&mut live, &mut replay] {
        let seen = until(&mut **watch, last).await;
        assert_eq!(seen.iter().map(words).collect::<Vec<_>>(), [["+a/1=1"], ["-a/1"]]);
    }
}

async fn a_transaction_is_never_split_and_keeps_its_order(store: &dyn Store) {
    let start = revision(store).await;
    let mut live = watch(store, "", start + 1).await;
    // Neither ordered by key nor puts before deletes.
    let order: Vec<usize> = (0..MAX_TXN_OPS).map(|n| n * 37 % MAX_TXN_OPS).collect();
    let made = write(store, order.iter().map(|n| put(&format!("{n:03}"), "1")).collect()).await;
    let mixed = |n: &usize| {
        if n.is_multiple_of(3) { delete(&format!("{n:03}")) } else { put(&format!("{n:03}"), "2") }
    };
    let last = write(store, order.iter().map(mixed).collect()).await;
    let mut replay = watch(store, "", start + 1).await;
    for watch in [&mut live, &mut replay] {
        let seen = until(&mut **watch, last).await;
        assert_eq!(revisions(&seen), [made, last]);
        let expected =
            |n: &usize| if n.is_multiple_of(3) { format!("-{n:03}") } else { format!("+{n:03}=2") };
        assert_eq!(words(&seen[1]), order.iter().map(expected).collect::<Vec<_>>());
    }
}

/// More than the 4 MiB that a client of etcd takes in one answer by default.
async fn a_large_replay_is_whole(store: &dyn Store) {
    let start = revision(store).await;
    for n in 0..6 {
        write(store, vec![Write::Put("a".into(), vec![n; MAX_VALUE_BYTES])]).await;
    }
    let mut watch = watch(store, "", start + 1).await;
    let seen = until(&mut *watch, start + 6).await;
    assert_eq!(revisions(&seen), (start + 1..=start + 6).collect::<Vec<_>>());
}

async fn a_put_and_a_delete_say_what_they_did(store: &dyn Store) {
    let made = set(store, "a", "1").await;
    let mut watch = watch(store, "a", made + 1).await;
    let changed = set(store, "a", "2").await;
    let gone = write(store, vec![delete("a")]).await;
    let put = next(&mut *watch).await;
    assert_eq!(put.changes, [Change::Put(list_at(store, "a", changed).await.items[0].clone())]);
    let Change::Put(item) = &put.changes[0] else { panic!("{put:?}") };
    assert_eq!((item.create_revision, item.mod_revision, text(item)), (made, changed, "2".into()));
    let delete = next(&mut *watch).await;
    assert_eq!(
        delete,
        Changes { revision: gone, changes: vec![Change::Delete { key: "a".into(), mod_revision: gone }] }
    );
}

async fn what_a_watch_tells_a_read_sees(store: &dyn Store) {
    let start = revision(store).await;
    let mut watch = watch(store, "", start + 1).await;
    let writer = async {
        for n in 0..50 {
            set(store, "a", &n.to_string()).await;
        }
    };
    let reader = async {
        for _ in 0..50 {
            let told = next(&mut *watch).await;
            let listing = list(store, "a").await;
            assert!(listing.revision >= told.revision);
            assert!(listing.items[0].mod_revision >= told.revision);
        }
    };
    tokio::join!(writer, reader);
}

/// What everything above the store rests on.
async fn a_listing_and_a_watch_from_it_make_the_whole(store: &dyn Store) {
    let writers = join_all((0..4).map(|writer| async move {
        for n in 0..40 {
            let key = format!("{writer}/{}", n % 5);
            let then = if n % 4 == 3 { vec![delete(&key)] } else { vec![put(&key, &n.to_string())] };
            write(store, then).await;
        }
        set(store, &format!("done/{writer}"), "").await
    }));
    let reader = async {
        let listing = list(store, "").await;
        let mut copy: BTreeMap<_, _> =
            listing.items.into_iter().map(|item| (item.key.clone(), item)).collect();
        let mut watch = watch(store, "", listing.revision + 1).await;
        let mut last = listing.revision;
        while copy.range("done/".to_owned()..).count() < 4 {
            let changes = next(&mut *watch).await;
            assert_eq!(changes.revision, last + 1);
            last = changes.revision;
            for change in changes.changes {
                match change {
                    Change::Put(item) => drop(copy.insert(item.key.clone(), item)),
                    Change::Delete { key, .. } => assert!(copy.remove(&key).is_some(), "{key}"),
                }
            }
        }
        (copy.into_values().collect::<Vec<_>>(), last)
    };
    let (done, (copy, last)) = tokio::join!(writers, reader);
    assert_eq!(done.into_iter().max(), Some(last));
    assert_eq!(copy, list(store, "").await.items);
}

async fn all_watches_see_the_same(store: &dyn Store) {
    let start = revision(store).await;
    let mut watches = join_all((0..50).map(|_| watch(store, "a", start + 1))).await;
    let writes = join_all((0..20).map(|n| async move { set(store, &format!("a{n}"), "1").await })).await;
    let last = writes.into_iter().max().expect("there were writes");
    let seen = join_all(watches.iter_mut().map(|watch| until(&mut **watch, last))).await;
    assert_eq!(revisions(&seen[0]), (start + 1..=last).collect::<Vec<_>>());
    assert!(seen.iter().all(|one| *one == seen[0]));
}

async fn a_dropped_wait_loses_nothing(store: &dyn Store) {
    let start = revision(store).await;
    let mut watch = watch(store, "", start + 1).await;
    let writer = async {
        for n in 0..100 {
            set(store, "a", &n.to_string()).await;
        }
    };
    let reader = async {
        let mut seen = Vec::new();
        while seen.len() < 100 {
            // Given up at any moment, over and over.
            if let Ok(changes) = tokio::time::timeout(Duration::from_micros(50), watch.next()).await {
                seen.push(changes.expect("the watch goes on"));
            }
        }
        seen
    };
    let ((), seen) = tokio::join!(writer, reader);
    assert_eq!(revisions(&seen), (start + 1..=start + 100).collect::<Vec<_>>());
}

async fn a_watch_at_or_below_the_oldest_revision_is_told_so(store: &dyn Store) {
    let first = set(store, "a", "1").await;
    let oldest = write(store, vec![delete("a")]).await;
    let last = set(store, "a", "3").await;
    store.compact(oldest).await.expect("it can be compacted");
    for from in [0, 1, first, oldest] {
        let mut watch = watch(store, "a", from).await;
        let told = answer(&mut *watch).await.expect_err("history is gone");
        assert!(matches!(told, StoreError::Compacted { oldest: o } if o == oldest), "{from}: {told:?}");
        let after = answer(&mut *watch).await.expect_err("the watch is over");
        assert!(matches!(after, StoreError::Unavailable(_)), "{after:?}");
    }
    let mut watch = watch(store, "a", oldest + 1).await;
    assert_eq!(next(&mut *watch).await.revision, last);
}

async fn a_compaction_under_a_slow_watch_leaves_no_silent_gap(store: &dyn Store) {
    let start = revision(store).await;
    let mut watch = watch(store, "", start + 1).await;
    set(store, "a", "1").await;
    assert_eq!(next(&mut *watch).await.revision, start + 1);
    for n in 2..=100 {
        set(store, "a", &n.to_string()).await;
    }
    store.compact(start + 90).await.expect("it can be compacted");
    // An engine may have sent everything already. If not, it has to say so.
    for expected in start + 2..=start + 100 {
        match answer(&mut *watch).await {
            Ok(changes) => assert_eq!(changes.revision, expected),
            Err(StoreError::Compacted { oldest }) => {
                assert_eq!(oldest, start + 90);
                assert!(expected <= oldest, "{expected} is still there");
                return;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

async fn a_compaction_does_not_touch_a_watch_that_is_up_to_date(store: &dyn Store) {
    let start = revision(store).await;
    let mut busy = watch(store, "busy", start + 1).await;
    let mut quiet = watch(store, "quiet", start + 1).await;
    // A watch that has told nothing yet may not have begun to look: etcd begins up to 100 ms later.
    let first = set(store, "quiet", "0").await;
    assert_eq!(next(&mut *quiet).await.revision, first);
    let mut last = first;
    for n in 0..10 {
        last = set(store, "busy", &n.to_string()).await;
    }
    until(&mut *busy, last).await;
    // The quiet one has looked, too, and found nothing.
    assert!(tokio::time::timeout(Duration::ZERO, quiet.next()).await.is_err());
    store.compact(last).await.expect("it can be compacted");
    let after = write(store, vec![put("busy", "x"), put("quiet", "x")]).await;
    assert_eq!(next(&mut *busy).await.revision, after);
    assert_eq!(next(&mut *quiet).await.revision, after);
}
