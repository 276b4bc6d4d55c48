//! What the trait promises of leases, as sentences, and that an election can be made of them.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mainstay::store::{Kept, Lease, LeaseId, Store};

use crate::cases::cases;
use crate::tools::*;

cases![
    conditions_on_the_creation_of_a_key,
    a_key_under_a_lease_is_a_key_like_any_other,
    a_lease_that_never_was_is_an_answer_and_no_error,
    a_revoked_lease_takes_its_keys_in_one_revision,
    a_put_without_a_lease_frees_the_key,
    a_key_is_under_the_lease_of_its_last_put,
    a_lease_that_is_not_kept_alive_ends_with_its_keys_and_not_too_early,
    one_of_many_candidates_leads_and_is_refused_when_its_lease_is_lost,
];

/// The shortest that etcd grants with its defaults.
const SHORT: Duration = Duration::from_secs(2);

async fn grant(store: &dyn Store, ttl: Duration) -> Lease {
    store.grant(ttl).await.expect("a lease is granted")
}

async fn keep(store: &dyn Store, lease: Lease) -> Kept {
    store.keep_alive(lease).await.expect("the store answers")
}

async fn revoke(store: &dyn Store, lease: Lease) {
    store.revoke(lease.id).await.expect("the store answers");
}

async fn conditions_on_the_creation_of_a_key(store: &dyn Store) {
    let made = set(store, "a", "1").await;
    set(store, "a", "2").await;
    for (condition, expected) in [
        (made_at("a", made), true),
        (made_at("a", made + 1), false),
        (made_at("b", 0), true),
        (made_at("a", 0), false),
    ] {
        assert_eq!(
            attempt(store, vec![condition.clone()], vec![]).await.succeeded,
            expected,
            "{condition:?}"
        );
    }
    write(store, vec![delete("a")]).await;
    set(store, "a", "2").await;
    assert!(!attempt(store, vec![made_at("a", made)], vec![]).await.succeeded, "it was away");
}

async fn a_key_under_a_lease_is_a_key_like_any_other(store: &dyn Store) {
    let lease = grant(store, SHORT * 10).await;
    assert!(lease.ttl >= SHORT * 10, "{lease:?}");
    let made = write(store, vec![leased("a", "1", lease), put("b", "2")]).await;
    let item = get(store, "a").await.expect("it was put");
    assert_eq!((text(&item).as_str(), item.create_revision, item.mod_revision), ("1", made, made));
    assert_eq!(words(&next(&mut *watch(store, "", made).await).await), ["+a=1", "+b=2"]);
    assert_eq!(keep(store, lease).await, Kept::Alive);
    assert_eq!(revision(store).await, made, "neither a lease nor keeping it is a write");
    revoke(store, lease).await;
}

async fn a_lease_that_never_was_is_an_answer_and_no_error(store: &dyn Store) {
    let start = set(store, "a", "1").await;
    let nobodys = Lease { id: LeaseId(4711), ttl: SHORT };
    assert_eq!(keep(store, nobodys).await, Kept::Gone);
    revoke(store, nobodys).await;
    let reply = attempt(store, vec![], vec![put("a", "2"), leased("b", "2", nobodys)]).await;
    assert!(!reply.succeeded);
    assert_eq!(pairs(&list(store, "").await), [("a".into(), "1".into())]);
    assert_eq!(revision(store).await, start);
}

async fn a_revoked_lease_takes_its_keys_in_one_revision(store: &dyn Store) {
    let [lease, other] = [grant(store, SHORT * 10).await, grant(store, SHORT * 10).await];
    write(store, vec![leased("a", "1", lease), leased("b", "1", lease), put("c", "1")]).await;
    let last = write(store, vec![leased("d", "1", lease), leased("e", "1", other)]).await;
    revoke(store, lease).await;
    let ended = next(&mut *watch(store, "", last + 1).await).await;
    let mut gone = words(&ended);
    gone.sort_unstable();
    assert_eq!((ended.revision, gone), (last + 1, vec!["-a".to_owned(), "-b".into(), "-d".into()]));
    assert_eq!(keys(&list(store, "").await), ["c", "e"]);
    revoke(store, lease).await;
    assert_eq!(revision(store).await, last + 1, "once is enough");
    assert_eq!(keep(store, lease).await, Kept::Gone);
    assert!(!attempt(store, vec![], vec![leased("a", "2", lease)]).await.succeeded);
    revoke(store, other).await;
}

async fn a_put_without_a_lease_frees_the_key(store: &dyn Store) {
    let lease = grant(store, SHORT * 10).await;
    write(store, vec![leased("a", "1", lease), leased("b", "1", lease)]).await;
    set(store, "a", "2").await;
    revoke(store, lease).await;
    assert_eq!(pairs(&list(store, "").await), [("a".into(), "2".into())]);
}

async fn a_key_is_under_the_lease_of_its_last_put(store: &dyn Store) {
    let [first, second] = [grant(store, SHORT * 10).await, grant(store, SHORT * 10).await];
    write(store, vec![leased("a", "1", first), leased("b", "1", first)]).await;
    write(store, vec![leased("a", "2", second)]).await;
    write(store, vec![delete("b")]).await;
    write(store, vec![leased("b", "2", second)]).await;
    revoke(store, first).await;
    assert_eq!(keys(&list(store, "").await), ["a", "b"]);
    revoke(store, second).await;
    assert_eq!(keys(&list(store, "").await), [""; 0]);
}

async fn a_lease_that_is_not_kept_alive_ends_with_its_keys_and_not_too_early(store: &dyn Store) {
    // Long enough to be kept alive in time on a machine that is busy; and one beside it that is not.
    let [kept, beside] = [grant(store, SHORT * 3).await, grant(store, SHORT * 3).await];
    let lost = grant(store, SHORT).await;
    let all = vec![leased("kept", "1", kept), leased("beside", "1", beside), leased("lost", "1", lost)];
    let last = write(store, all).await;
    let sent = Instant::now();
    assert_eq!(keep(store, lost).await, Kept::Alive);
    let mut watch = watch(store, "", last + 1).await;
    let keeping = async {
        loop {
            assert_eq!(keep(store, kept).await, Kept::Alive);
            tokio::time::sleep(lost.ttl / 4).await;
        }
    };
    let ending = async {
        let changes = next(&mut *watch).await;
        (changes, sent.elapsed(), next(&mut *watch).await)
    };
    let (changes, after, next_changes) = tokio::select! {
        ended = ending => ended,
        () = keeping => return,
    };
    println!("a lease of {:?} ended {after:.2?} after it was kept alive last", lost.ttl);
    assert_eq!(words(&changes), ["-lost"]);
    assert!(after >= lost.ttl, "{after:?}");
    assert_eq!(keep(store, lost).await, Kept::Gone);
    assert_eq!(words(&next_changes), ["-beside"]);
    assert_eq!((keep(store, kept).await, keys(&list(store, "").await)), (Kept::Alive, vec!["kept"]));
    revoke(store, kept).await;
}

/// What a controller does: the key is made under a lease, and each write compares when it was made.
async fn one_of_many_candidates_leads_and_is_refused_when_its_lease_is_lost(store: &dyn Store) {
    let candidates = (0..8).map(|n| async move {
        let lease = grant(store, SHORT * 10).await;
        let claim = vec![leased("leader", &n.to_string(), lease), put("epoch", "1")];
        (lease, attempt(store, vec![absent("leader")], claim).await)
    });
    let all = join_all(candidates).await;
    let won: Vec<_> = all.iter().filter(|(_, reply)| reply.succeeded).collect();
    let [(lease, reply)] = won.as_slice() else { panic!("{} lead", won.len()) };
    let term = reply.revision;
    assert_eq!(get(store, "leader").await.map(|item| item.create_revision), Some(term));
    let work = async |term, value: &str| {
        attempt(store, vec![made_at("leader", term)], vec![put("work", value)]).await.succeeded
    };
    assert!(work(term, "first").await);

    revoke(store, *lease).await;
    assert!(!work(term, "late").await, "nobody leads");
    let next = grant(store, SHORT * 10).await;
    let next_term = write(store, vec![leased("leader", "0", next), put("epoch", "2")]).await;
    assert!(!work(term, "late").await, "another one leads, even under the same name");
    assert!(work(next_term, "second").await);
    assert_eq!(get(store, "work").await.map(|item| text(&item)), Some("second".into()));
    for (lease, _) in &all {
        revoke(store, *lease).await;
    }
    revoke(store, next).await;
}
