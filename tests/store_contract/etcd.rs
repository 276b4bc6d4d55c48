//! The contract on a real etcd, and what only that engine has to get right: members that are gone, hang or have
//! forgotten everything.

use std::time::{Duration, Instant};

use mainstay::store::etcd::Etcd;
use mainstay::store::{Store, StoreError, Txn};

use crate::support::etcd::EtcdServer;
use crate::tools::*;
use crate::{cases, history, leases};

async fn connect(server: &EtcdServer, prefix: &str) -> Etcd {
    Etcd::connect(&[server.endpoint()], prefix).await.expect("etcd answers")
}

/// An address where nothing listens: the port is never given out, and its service died out long ago.
fn nobody() -> String {
    "127.0.0.1:1".into()
}

#[test]
fn etcd_keeps_the_contract() {
    let server = EtcdServer::start();
    for (name, case) in cases::CASES.iter().chain(history::CASES).chain(leases::CASES) {
        println!("{name}");
        run(name, async {
            let store = connect(&server, &format!("/{name}")).await;
            case(&store).await;
        });
    }
}

#[test]
fn keys_beside_the_prefix_are_neither_seen_nor_touched() {
    let server = EtcdServer::start();
    run("prefixes", async {
        let [short, long] = [connect(&server, "/mainstay").await, connect(&server, "/mainstay2/").await];
        let start = revision(&short).await;
        let mut watch = watch(&short, "", start + 1).await;
        set(&long, "a", "long").await;
        set(&short, "a", "short").await;
        write(&long, vec![delete("a")]).await;
        let last = set(&short, "b", "short").await;
        assert_eq!(keys(&list(&short, "").await), ["a", "b"]);
        assert_eq!(keys(&list(&long, "").await), [""; 0]);
        assert_eq!(words(&next(&mut *watch).await), ["+a=short"]);
        // Others' writes are gaps.
        assert_eq!(next(&mut *watch).await.revision, last);
        assert_eq!(last, start + 4);
    });
}

#[test]
fn a_dead_member_is_stepped_over_without_an_error() {
    let server = EtcdServer::start();
    run("one dead member", async {
        for endpoints in [[nobody(), server.endpoint()], [server.endpoint(), nobody()]] {
            let store = Etcd::connect(&endpoints, "/two").await.expect("one member is there");
            for n in 0..20 {
                let written = set(&store, "a", &n.to_string()).await;
                assert_eq!(next(&mut *watch(&store, "", written).await).await.revision, written);
            }
        }
    });
}

#[test]
fn nobody_there_is_said_with_the_address() {
    run("nobody there", async {
        let endpoint = nobody();
        let error =
            Etcd::connect(std::slice::from_ref(&endpoint), "/x").await.err().expect("nobody is there");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains(&endpoint), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    });
}

#[test]
fn endpoints_and_prefixes_that_cannot_be_are_refused() {
    run("refused", async {
        for (endpoints, prefix) in
            [(vec![], "/x"), (vec!["not an address".to_owned()], "/x"), (vec![nobody()], "")]
        {
            let error = Etcd::connect(&endpoints, prefix).await.err().expect("that can't be");
            assert!(matches!(error, StoreError::Open(_)), "{error:?}");
        }
    });
}

#[test]
fn a_write_to_an_etcd_that_hangs_is_unknown_and_a_read_unavailable() {
    let server = EtcdServer::start();
    run("hanging etcd", async {
        let store = connect(&server, "/x").await;
        let before = set(&store, "a", "1").await;
        server.pause();
        let begun = Instant::now();
        let (written, read) =
            tokio::join!(store.txn(Txn { when: vec![], then: vec![put("a", "2")] }), store.list("a", None));
        let took = begun.elapsed();
        server.resume();
        assert!(matches!(written, Err(StoreError::Unknown(_))), "{written:?}");
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        assert!(took < Duration::from_secs(7), "{took:?}");
        // Unknown was the truth: compare and set tells which of the two it is.
        let now = get(&store, "a").await.expect("a is there");
        let reply = attempt(&store, vec![at("a", before)], vec![put("a", "2")]).await;
        assert!(reply.succeeded == (text(&now) == "1") || text(&get(&store, "a").await.expect("a")) == "2");
    });
}

#[test]
fn an_etcd_that_dies_ends_watches_and_refuses_calls() {
    let mut server = EtcdServer::start();
    run("dying etcd", async {
        let store = connect(&server, "/x").await;
        let start = set(&store, "a", "1").await;
        let mut watch = watch(&store, "", start + 1).await;
        server.kill();
        let told = answer(&mut *watch).await.expect_err("etcd is gone");
        assert!(matches!(told, StoreError::Unavailable(_)), "{told:?}");
        let again = answer(&mut *watch).await.expect_err("the watch is over");
        assert!(matches!(again, StoreError::Unavailable(_)), "{again:?}");
        let read = store.list("", None).await.expect_err("etcd is gone");
        assert!(matches!(read, StoreError::Unavailable(_)), "{read:?}");
        let opened = store.watch("", 1).await.err().expect("etcd is gone");
        assert!(matches!(opened, StoreError::Unavailable(_)), "{opened:?}");
        // By now the connection is known to be gone, so that nothing can have been sent.
        let written = refusal(&store, Txn { when: vec![], then: vec![put("a", "2")] }).await;
        assert!(matches!(written, StoreError::Unavailable(_)), "{written:?}");
    });
}

/// Else everything that runs would be taken for unwanted.
#[test]
fn an_etcd_that_lost_its_data_is_not_taken_for_an_empty_one() {
    let mut server = EtcdServer::start();
    run("forgetful etcd", async {
        let store = connect(&server, "/x").await;
        for n in 0..5 {
            set(&store, "a", &n.to_string()).await;
        }
        let next = revision(&store).await + 1;
        server.lose_everything();
        // The first calls may find the old connection broken; none may find an empty store.
        loop {
            let error = store.list("", None).await.expect_err("an empty answer is no answer");
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            if error.to_string().contains("went back") {
                break;
            }
        }
        let error = store.watch("", next).await.err().expect("it would wait for ever");
        assert!(error.to_string().contains("went back"), "{error:?}");
    });
}
