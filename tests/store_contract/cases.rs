//! What the trait promises of reads and transactions, as sentences. [`crate::history`] goes on with watches.

use futures_util::future::join_all;
use mainstay::store::{
    Compare, Item, MAX_TXN_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES, Store, StoreError, Txn, Write,
};

use crate::tools::*;

/// Lists case functions with their names, so that none can be forgotten: one that is not listed is dead code.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[(&str, $crate::tools::Case)] =
            &[$((stringify!($name), |store| Box::pin($name(store)))),*];
    };
}
pub(crate) use cases;

cases![
    each_write_adds_one_to_the_revision,
    a_check_without_writes_adds_nothing,
    a_failed_condition_writes_nothing_and_is_no_error,
    deleting_what_is_not_there_adds_nothing,
    deleting_what_is_not_there_beside_a_put_is_one_revision,
    writing_the_same_value_again_is_a_write,
    the_writes_of_a_transaction_share_one_revision,
    an_overwritten_key_keeps_its_create_revision,
    a_key_made_again_has_a_new_create_revision,
    conditions_on_a_missing_key,
    conditions_on_an_existing_key,
    conditions_are_joined_by_and,
    conditions_see_the_state_before_the_writes,
    a_repeated_creation_is_a_conflict,
    a_key_written_twice_is_refused,
    as_many_operations_as_allowed_and_no_more,
    values_as_large_as_allowed_and_no_larger,
    transactions_as_large_as_allowed_and_no_larger,
    an_empty_or_hidden_key_is_refused_wherever_it_stands,
    an_empty_value_is_a_value,
    any_byte_can_be_in_a_value,
    a_prefix_takes_what_starts_with_it_and_nothing_else,
    a_listing_is_ordered_bytewise,
    a_listing_of_nothing_has_a_revision,
    the_past_can_be_read,
    revisions_that_never_were_are_told_apart,
    a_large_listing_is_whole,
    a_listing_is_of_one_revision_under_writes,
    a_compaction_keeps_its_own_revision_readable,
    a_compaction_can_be_repeated_but_not_undone_or_dated_ahead,
    a_contended_counter_loses_no_update,
    what_was_answered_is_seen_by_the_next_read,
];

async fn each_write_adds_one_to_the_revision(store: &dyn Store) {
    let start = revision(store).await;
    assert_eq!(set(store, "a", "1").await, start + 1);
    assert_eq!(set(store, "b", "1").await, start + 2);
    assert_eq!(write(store, vec![delete("a")]).await, start + 3);
    assert_eq!(revision(store).await, start + 3);
}

async fn a_check_without_writes_adds_nothing(store: &dyn Store) {
    let start = set(store, "a", "1").await;
    for (condition, expected) in [(holds("a", "1"), true), (holds("a", "2"), false)] {
        let reply = attempt(store, vec![condition], vec![]).await;
        assert_eq!((reply.succeeded, reply.revision), (expected, start));
    }
    assert_eq!(write(store, vec![]).await, start);
    assert_eq!(revision(store).await, start);
}

async fn a_failed_condition_writes_nothing_and_is_no_error(store: &dyn Store) {
    let start = set(store, "a", "1").await;
    let reply = attempt(store, vec![absent("a")], vec![put("a", "2"), put("b", "2")]).await;
    assert_eq!((reply.succeeded, reply.revision), (false, start));
    assert_eq!(pairs(&list(store, "").await), [("a".into(), "1".into())]);
    assert_eq!(revision(store).await, start);
}

async fn deleting_what_is_not_there_adds_nothing(store: &dyn Store) {
    let start = set(store, "a", "1").await;
    assert_eq!(write(store, vec![delete("b"), delete("c")]).await, start);
    assert_eq!(revision(store).await, start);
}

async fn deleting_what_is_not_there_beside_a_put_is_one_revision(store: &dyn Store) {
    let start = revision(store).await;
    let mut watch = watch(store, "", start + 1).await;
    assert_eq!(write(store, vec![delete("b"), put("a", "1")]).await, start + 1);
    assert_eq!(words(&next(&mut *watch).await), ["+a=1"]);
}

async fn writing_the_same_value_again_is_a_write(store: &dyn Store) {
    let first = set(store, "a", "1").await;
    let second = set(store, "a", "1").await;
    assert_eq!(second, first + 1);
    assert_eq!(get(store, "a").await.expect("a is there").mod_revision, second);
}

async fn the_writes_of_a_transaction_share_one_revision(store: &dyn Store) {
    let old = set(store, "gone", "1").await;
    let new = write(store, vec![put("b", "1"), delete("gone"), put("a", "1")]).await;
    assert_eq!(new, old + 1);
    let listing = list(store, "").await;
    assert_eq!(keys(&listing), ["a", "b"]);
    assert!(listing.items.iter().all(|item| item.mod_revision == new && item.create_revision == new));
    assert_eq!(listing.revision, new);
}

async fn an_overwritten_key_keeps_its_create_revision(store: &dyn Store) {
    let made = set(store, "a", "1").await;
    let changed = set(store, "a", "2").await;
    assert_eq!(
        get(store, "a").await,
        Some(Item { key: "a".into(), value: "2".into(), create_revision: made, mod_revision: changed })
    );
}

async fn a_key_made_again_has_a_new_create_revision(store: &dyn Store) {
    set(store, "a", "1").await;
    write(store, vec![delete("a")]).await;
    assert_eq!(get(store, "a").await, None);
    let again = set(store, "a", "3").await;
    let item = get(store, "a").await.expect("a is there again");
    assert_eq!((item.create_revision, item.mod_revision), (again, again));
}

async fn succeeds(store: &dyn Store, condition: Compare) -> bool {
    attempt(store, vec![condition], vec![]).await.succeeded
}

async fn conditions_on_a_missing_key(store: &dyn Store) {
    let now = set(store, "other", "1").await;
    assert!(succeeds(store, absent("a")).await);
    assert!(succeeds(store, at("a", 0)).await);
    assert!(!succeeds(store, at("a", now)).await);
    assert!(!succeeds(store, holds("a", "1")).await);
    assert!(!succeeds(store, holds("a", "")).await);
}

async fn conditions_on_an_existing_key(store: &dyn Store) {
    let first = set(store, "a", "1").await;
    let second = set(store, "a", "2").await;
    assert!(!succeeds(store, absent("a")).await);
    assert!(succeeds(store, at("a", second)).await);
    for wrong in [0, first, second + 1, u64::MAX] {
        assert!(!succeeds(store, at("a", wrong)).await, "{wrong}");
    }
    assert!(succeeds(store, holds("a", "2")).await);
    assert!(!succeeds(store, holds("a", "1")).await);
    assert!(!succeeds(store, holds("a", "")).await);
}

async fn conditions_are_joined_by_and(store: &dyn Store) {
    let now = set(store, "a", "1").await;
    let good = vec![holds("a", "1"), at("a", now), absent("b")];
    assert!(attempt(store, good.clone(), vec![]).await.succeeded);
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad.insert(index, absent("a"));
        assert!(!attempt(store, bad, vec![put("c", "1")]).await.succeeded);
    }
    assert_eq!(get(store, "c").await, None);
}

async fn conditions_see_the_state_before_the_writes(store: &dyn Store) {
    let reply = attempt(store, vec![absent("a")], vec![put("a", "1")]).await;
    assert!(reply.succeeded);
    assert!(attempt(store, vec![holds("a", "1")], vec![delete("a")]).await.succeeded);
    assert!(attempt(store, vec![absent("a")], vec![put("a", "2")]).await.succeeded);
}

/// How a caller finds out about an outcome that it was not told.
async fn a_repeated_creation_is_a_conflict(store: &dyn Store) {
    let create = || attempt(store, vec![absent("a")], vec![put("a", "mine")]);
    assert!(create().await.succeeded);
    assert!(!create().await.succeeded);
    assert_eq!(text(&get(store, "a").await.expect("a is there")), "mine");
}

fn is_invalid(error: &StoreError) -> bool {
    matches!(error, StoreError::Invalid(_))
}

async fn a_key_written_twice_is_refused(store: &dyn Store) {
    let start = revision(store).await;
    for then in [
        vec![put("a", "1"), put("a", "2")],
        vec![put("a", "1"), delete("a")],
        vec![delete("a"), put("b", "1"), delete("a")],
    ] {
        let error = refusal(store, Txn { when: vec![], then }).await;
        assert!(is_invalid(&error) && error.to_string().contains('a'), "{error}");
    }
    assert_eq!(revision(store).await, start);
}

async fn as_many_operations_as_allowed_and_no_more(store: &dyn Store) {
    let writes = |count: usize| (0..count).map(|n| put(&format!("key{n:03}"), "1")).collect::<Vec<_>>();
    let compares = |count: usize| (0..count).map(|n| absent(&format!("key{n:03}"))).collect::<Vec<_>>();
    for (when, then) in [(compares(MAX_TXN_OPS + 1), vec![]), (vec![], writes(MAX_TXN_OPS + 1))] {
        assert!(is_invalid(&refusal(store, Txn { when, then }).await));
    }
    assert!(attempt(store, compares(MAX_TXN_OPS), writes(MAX_TXN_OPS)).await.succeeded);
    assert_eq!(list(store, "key").await.items.len(), MAX_TXN_OPS);
}

async fn values_as_large_as_allowed_and_no_larger(store: &dyn Store) {
    let large = vec![b'x'; MAX_VALUE_BYTES];
    write(store, vec![Write::Put("a".into(), large.clone())]).await;
    assert_eq!(get(store, "a").await.expect("a is there").value, large);
    assert!(attempt(store, vec![Compare::Value("a".into(), large.clone())], vec![]).await.succeeded);

    let larger = vec![b'x'; MAX_VALUE_BYTES + 1];
    let then = vec![Write::Put("a".into(), larger.clone())];
    assert!(is_invalid(&refusal(store, Txn { when: vec![], then }).await));
    let when = vec![Compare::Value("a".into(), larger)];
    assert!(is_invalid(&refusal(store, Txn { when, then: vec![] }).await));
    let key = "k".repeat(MAX_VALUE_BYTES + 1);
    assert!(is_invalid(&refusal(store, Txn { when: vec![], then: vec![put(&key, "")] }).await));
}

async fn transactions_as_large_as_allowed_and_no_larger(store: &dyn Store) {
    let writes = |total: usize| {
        let value = |n: usize| total / MAX_TXN_OPS - 6 + if n == 0 { total % MAX_TXN_OPS } else { 0 };
        (0..MAX_TXN_OPS).map(|n| Write::Put(format!("key{n:03}"), vec![b'x'; value(n)])).collect::<Vec<_>>()
    };
    write(store, writes(MAX_TXN_BYTES)).await;
    assert_eq!(list(store, "").await.items.len(), MAX_TXN_OPS);
    assert!(is_invalid(&refusal(store, Txn { when: vec![], then: writes(MAX_TXN_BYTES + 1) }).await));
}

async fn an_empty_or_hidden_key_is_refused_wherever_it_stands(store: &dyn Store) {
    for key in ["", "\0", "\0mark/x"] {
        for (when, then) in [
            (vec![], vec![put(key, "1")]),
            (vec![], vec![delete(key)]),
            (vec![absent(key)], vec![]),
            (vec![at(key, 1)], vec![]),
            (vec![holds(key, "1")], vec![]),
        ] {
            assert!(is_invalid(&refusal(store, Txn { when, then }).await), "{key:?}");
        }
    }
}

async fn an_empty_value_is_a_value(store: &dyn Store) {
    set(store, "a", "").await;
    assert_eq!(pairs(&list(store, "").await), [("a".into(), String::new())]);
    assert!(succeeds(store, holds("a", "")).await);
    assert!(!succeeds(store, absent("a")).await);
}

async fn any_byte_can_be_in_a_value(store: &dyn Store) {
    let value: Vec<u8> = (0..=255).collect();
    write(store, vec![Write::Put("a".into(), value.clone())]).await;
    assert_eq!(get(store, "a").await.expect("a is there").value, value);
}

async fn a_prefix_takes_what_starts_with_it_and_nothing_else(store: &dyn Store) {
    let last = char::MAX;
    let all =
        ["a", "a-", "a/", "a/1", "a/\u{7f}", "a/é", &format!("a/{last}"), "a0", "b", &format!("{last}x")];
    write(store, all.iter().map(|key| put(key, "1")).collect()).await;
    assert_eq!(keys(&list(store, "a/").await), ["a/", "a/1", "a/\u{7f}", "a/é", &format!("a/{last}")]);
    assert_eq!(keys(&list(store, &format!("a/{last}")).await), [format!("a/{last}")]);
    assert_eq!(keys(&list(store, &last.to_string()).await), [format!("{last}x")]);
    assert_eq!(keys(&list(store, "b").await), ["b"]);
    assert_eq!(keys(&list(store, "c").await), [""; 0]);
    assert_eq!(keys(&list(store, "").await), all);
}

async fn a_listing_is_ordered_bytewise(store: &dyn Store) {
    let ordered = ["\u{1}", "A", "B", "a", "a/b", "a0", "b", "ä", "\u{ffff}", "\u{10000}"];
    for key in ["a", "\u{10000}", "B", "a0", "ä", "\u{1}", "b", "\u{ffff}", "A", "a/b"] {
        set(store, key, "1").await;
    }
    assert_eq!(keys(&list(store, "").await), ordered);
}

async fn a_listing_of_nothing_has_a_revision(store: &dyn Store) {
    let written = set(store, "a", "1").await;
    let listing = list(store, "nothing").await;
    assert_eq!((listing.items.len(), listing.revision), (0, written));
}

async fn the_past_can_be_read(store: &dyn Store) {
    let one = set(store, "a", "1").await;
    let two = write(store, vec![put("a", "2"), put("b", "2")]).await;
    let three = write(store, vec![delete("a")]).await;
    let four = set(store, "a", "4").await;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());

    let then = list_at(store, "", one).await;
    assert_eq!((pairs(&then), then.revision), (vec![pair("a", "1")], one));
    let then = list_at(store, "", two).await;
    assert_eq!(pairs(&then), [pair("a", "2"), pair("b", "2")]);
    assert_eq!(then.items.iter().map(|item| item.create_revision).collect::<Vec<_>>(), [one, two]);
    assert_eq!(pairs(&list_at(store, "", three).await), [pair("b", "2")]);
    assert_eq!(pairs(&list_at(store, "a", three).await), []);
    let then = list_at(store, "", four).await;
    assert_eq!(then, list(store, "").await);
    assert_eq!(then.items.iter().map(|item| item.create_revision).collect::<Vec<_>>(), [four, two]);
}

async fn revisions_that_never_were_are_told_apart(store: &dyn Store) {
    let now = set(store, "a", "1").await;
    let ahead = store.list("", Some(now + 1)).await.expect_err("the future can't be read");
    assert!(
        matches!(ahead, StoreError::Future { asked, current } if asked == now + 1 && current == now),
        "{ahead:?}"
    );
    let far = store.list("", Some(u64::MAX)).await.expect_err("the far future can't be read");
    assert!(matches!(far, StoreError::Future { asked: u64::MAX, current } if current == now), "{far:?}");
    assert!(is_invalid(&store.list("", Some(0)).await.expect_err("nothing was before 1")));
}

/// More than the 4 MiB that a client of etcd takes in one answer, in few large and in many small values.
async fn a_large_listing_is_whole(store: &dyn Store) {
    for n in 0..6 {
        write(store, vec![Write::Put(format!("large/{n}"), vec![n; MAX_VALUE_BYTES])]).await;
    }
    for chunk in 0..24 {
        let puts = (0..MAX_TXN_OPS).map(|n| put(&format!("small/{chunk:02}/{n:03}"), &"x".repeat(512)));
        write(store, puts.collect()).await;
    }
    let listing = list(store, "").await;
    assert_eq!(listing.items.len(), 6 + 24 * MAX_TXN_OPS);
    assert!(listing.items.is_sorted_by(|a, b| a.key < b.key));
    let sizes = |prefix: &str| {
        let under = listing.items.iter().filter(|item| item.key.starts_with(prefix));
        under.map(|item| item.value.len()).sum::<usize>()
    };
    assert_eq!((sizes("large/"), sizes("small/")), (6 * MAX_VALUE_BYTES, 24 * MAX_TXN_OPS * 512));
}

/// The first and the last key of several pages are only ever written together.
async fn a_listing_is_of_one_revision_under_writes(store: &dyn Store) {
    for chunk in 0..20 {
        let puts = (0..MAX_TXN_OPS).map(|n| put(&format!("b/{chunk:02}/{n:03}"), "x"));
        write(store, puts.collect()).await;
    }
    write(store, vec![put("a", "0"), put("c", "0")]).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writer = async {
        let mut n = 0;
        while !*stopped.borrow() {
            n += 1;
            write(store, vec![put("a", &n.to_string()), put("c", &n.to_string())]).await;
        }
        n
    };
    let reader = async {
        let mut seen = Vec::new();
        while seen.len() < 10 {
            let listing = list(store, "").await;
            assert_eq!(listing.items.len(), 20 * MAX_TXN_OPS + 2);
            let first = listing.items.first().expect("a is there");
            let last = listing.items.last().expect("c is there");
            assert_eq!((first.key.as_str(), last.key.as_str()), ("a", "c"));
            assert_eq!((text(first), first.mod_revision), (text(last), last.mod_revision));
            seen.push(listing.revision);
            // So that there is something between two readings.
            set(store, "d", "1").await;
            write(store, vec![delete("d")]).await;
        }
        stop.send_replace(true);
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    };
    let (written, ()) = tokio::join!(writer, reader);
    assert!(written > 0);
}

async fn a_compaction_keeps_its_own_revision_readable(store: &dyn Store) {
    let before = set(store, "a", "1").await;
    set(store, "b", "1").await;
    let oldest = write(store, vec![delete("b"), put("a", "2")]).await;
    let after = set(store, "a", "3").await;
    let expected = list_at(store, "", oldest).await;
    store.compact(oldest).await.expect("it can be compacted");

    assert_eq!(list_at(store, "", oldest).await, expected);
    assert_eq!(keys(&list_at(store, "", after).await), ["a"]);
    for gone in [1, before, oldest - 1] {
        let error = store.list("", Some(gone)).await.expect_err("it is compacted");
        assert!(matches!(error, StoreError::Compacted { oldest: told } if told == oldest), "{error:?}");
    }
    let item = get(store, "a").await.expect("a is there");
    assert_eq!((text(&item), item.create_revision, item.mod_revision), ("3".into(), before, after));
}

async fn a_compaction_can_be_repeated_but_not_undone_or_dated_ahead(store: &dyn Store) {
    let first = set(store, "a", "1").await;
    let second = set(store, "a", "2").await;
    store.compact(second).await.expect("it can be compacted");
    store.compact(second).await.expect("it can be compacted again");
    let back = store.compact(first).await.expect_err("it can't be undone");
    assert!(matches!(back, StoreError::Compacted { oldest } if oldest == second), "{back:?}");
    let ahead = store.compact(second + 1).await.expect_err("it can't be ahead");
    assert!(
        matches!(ahead, StoreError::Future { asked, current } if asked == second + 1 && current == second),
        "{ahead:?}"
    );
    assert!(is_invalid(&store.compact(0).await.expect_err("there is no revision 0")));
    assert_eq!(set(store, "a", "3").await, second + 1);
}

async fn increment(store: &dyn Store) {
    loop {
        let item = get(store, "counter").await.expect("the counter is there");
        let value: u64 = text(&item).parse().expect("the counter is a number");
        let then = vec![put("counter", &(value + 1).to_string())];
        if attempt(store, vec![at("counter", item.mod_revision)], then).await.succeeded {
            return;
        }
    }
}

async fn a_contended_counter_loses_no_update(store: &dyn Store) {
    set(store, "counter", "0").await;
    join_all((0..8).map(|_| async {
        for _ in 0..10 {
            increment(store).await;
        }
    }))
    .await;
    assert_eq!(text(&get(store, "counter").await.expect("the counter is there")), "80");
}

async fn what_was_answered_is_seen_by_the_next_read(store: &dyn Store) {
    join_all((0..8).map(|writer| async move {
        for n in 0..20 {
            let key = format!("{writer}/{n}");
            let written = set(store, &key, "1").await;
            let item = get(store, &key).await.expect("what was acknowledged is there");
            assert_eq!(item.mod_revision, written);
        }
    }))
    .await;
}
