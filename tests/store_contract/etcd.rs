//! The contract on a real etcd, and what only that engine has to get right: members that are gone, hang or have
//! forgotten everything.

use std::time::{Duration, Instant};

use mainstay::store::etcd::{Config, Etcd, Login, Tls};
use mainstay::store::{Store, StoreError, Txn};

use crate::support::etcd::{EtcdCluster, EtcdServer};
use crate::tools::*;
use crate::{cases, history, leases};

async fn connect(server: &EtcdServer, prefix: &str) -> Etcd {
    Etcd::connect(&[server.endpoint()], prefix).await.expect("etcd answers")
}

/// An address where nothing listens: the port is never given out, and its service died out long ago.
fn nobody() -> String {
    "127.0.0.1:1".into()
}

fn keeps_the_contract(endpoints: &[String]) {
    for (name, case) in cases::CASES.iter().chain(history::CASES).chain(leases::CASES) {
        println!("{name}");
        run(name, async {
            let store = Etcd::connect(endpoints, &format!("/{name}")).await.expect("etcd answers");
            case(&store).await;
        });
    }
}

#[test]
fn etcd_keeps_the_contract() {
    keeps_the_contract(&[EtcdServer::start()].each_ref().map(EtcdServer::endpoint));
}

/// Through each member in turn: the answers of followers come another way than the leader's.
#[test]
fn a_cluster_of_three_keeps_the_contract() {
    let cluster = EtcdCluster::start();
    let leader = run("the leader", cluster.leader());
    let mut endpoints = cluster.endpoints();
    // A follower first.
    endpoints.rotate_left((leader + 1) % 3);
    keeps_the_contract(&endpoints);
}

/// What no answer was got for is found out, and made again if it did not happen: each number is written exactly once.
#[test]
fn a_killed_leader_costs_no_write_and_doubles_none() {
    let mut cluster = EtcdCluster::start();
    run("a killed leader", async {
        let store = Etcd::connect(&cluster.endpoints(), "/x").await.expect("etcd answers");
        set(&store, "counter", "0").await;
        let mut answered = 0;
        let mut known: Vec<Result<u64, StoreError>> = Vec::new();
        for round in 0..6 {
            let leader = cluster.leader().await;
            if round % 2 == 0 {
                cluster.members[leader].kill()
            } else {
                cluster.members[leader].pause()
            }
            for _ in 0..20 {
                let item = get_in_time(&store, "counter").await;
                let next = text(&item).parse::<u64>().expect("a number") + 1;
                let txn = Txn {
                    when: vec![at("counter", item.mod_revision)],
                    then: vec![put("counter", &next.to_string())],
                };
                known.push(store.txn(txn).await.map(|reply| {
                    assert!(reply.succeeded, "nobody else writes");
                    answered += 1;
                    next
                }));
            }
            if round % 2 == 0 {
                cluster.members[leader].start_again()
            } else {
                cluster.members[leader].resume()
            }
        }
        let value: u64 = text(&get_in_time(&store, "counter").await).parse().expect("a number");
        let unknown = known.iter().filter(|one| matches!(one, Err(StoreError::Unknown(_)))).count() as u64;
        assert!(
            (answered..=answered + unknown).contains(&value),
            "{value} of {answered} + {unknown}: {known:?}"
        );
    });
}

/// The item, once the cluster has found a leader.
async fn get_in_time(store: &Etcd, key: &str) -> mainstay::store::Item {
    let begun = Instant::now();
    loop {
        match store.list(key, None).await {
            Ok(listing) => return listing.items.into_iter().next().expect("it is there"),
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error:?}"),
        }
    }
}

/// A proxy that gives the requests on and loses every answer from some moment on.
async fn deaf(server: &EtcdServer, lost: tokio::sync::watch::Receiver<bool>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it has an address").to_string();
    let target = server.endpoint();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (target, lost) = (target.clone(), lost.clone());
            tokio::spawn(async move {
                let Ok(server) = tokio::net::TcpStream::connect(&target).await else { return };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let requests = tokio::io::copy(&mut from_client, &mut to_server);
                let answers = async {
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        let read = tokio::io::AsyncReadExt::read(&mut from_server, &mut buffer).await?;
                        if read == 0 {
                            return Ok::<(), std::io::Error>(());
                        }
                        if !*lost.borrow() {
                            tokio::io::AsyncWriteExt::write_all(&mut to_client, &buffer[..read]).await?;
                        }
                    }
                };
                drop(tokio::join!(requests, answers));
            });
        }
    });
    address
}

#[test]
fn a_write_whose_answer_is_lost_is_told_as_what_became_of_it() {
    let server = EtcdServer::start();
    run("lost answers", async {
        let (lose, lost) = tokio::sync::watch::channel(false);
        let endpoints = [deaf(&server, lost).await, server.endpoint()];
        let store = Etcd::connect(&endpoints, "/x").await.expect("etcd answers");
        let before = set(&store, "a", "1").await;
        lose.send_replace(true);
        // It is applied, and the other way to etcd says so.
        let reply = attempt(&store, vec![at("a", before)], vec![put("a", "2")]).await;
        assert_eq!((reply.succeeded, reply.revision), (true, before + 1));
        assert_eq!(get(&store, "a").await.expect("a is there").mod_revision, before + 1);
        let gone = attempt(&store, vec![at("a", before + 1)], vec![delete("a")]).await;
        assert_eq!((gone.succeeded, gone.revision), (true, before + 2));
    });
}

#[test]
fn a_write_that_got_no_answer_and_no_other_way_to_ask_is_unknown() {
    let server = EtcdServer::start();
    run("no other way", async {
        let (lose, lost) = tokio::sync::watch::channel(false);
        let store = Etcd::connect(&[deaf(&server, lost).await], "/x").await.expect("etcd answers");
        let before = set(&store, "a", "1").await;
        lose.send_replace(true);
        let error = refusal(&store, Txn { when: vec![at("a", before)], then: vec![put("a", "2")] }).await;
        assert!(matches!(error, StoreError::Unknown(_)), "{error:?}");
        let direct = connect(&server, "/x").await;
        assert_eq!(text(&get(&direct, "a").await.expect("a is there")), "2");
    });
}

#[test]
fn a_lost_quorum_is_named_and_ends() {
    let mut cluster = EtcdCluster::start();
    run("lost quorum", async {
        let store = Etcd::connect(&cluster.endpoints(), "/x").await.expect("etcd answers");
        set(&store, "a", "1").await;
        cluster.members[0].kill();
        cluster.members[1].kill();
        // The member that is left takes a moment to notice.
        let begun = Instant::now();
        loop {
            let error = store.list("", None).await.expect_err("there is no quorum");
            if matches!(error, StoreError::NoQuorum(_)) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{error:?}");
        }
        let error = refusal(&store, Txn { when: vec![], then: vec![put("a", "2")] }).await;
        assert!(matches!(error, StoreError::NoQuorum(_)), "{error:?}");
        assert!(error.to_string().contains("majority"), "{error}");
        cluster.members[0].start_again();
        get_in_time(&store, "a").await;
        while store.txn(Txn { when: vec![], then: vec![put("a", "3")] }).await.is_err() {
            assert!(begun.elapsed() < PATIENCE);
        }
        assert_eq!(text(&get_in_time(&store, "a").await), "3");
    });
}

#[test]
fn a_full_etcd_is_named_keeps_what_it_has_and_recovers() {
    let server = EtcdServer::start_with(&["--quota-backend-bytes", "8388608"]);
    run("full etcd", async {
        let store = connect(&server, "/x").await;
        let large = || vec![mainstay::store::Write::Put("large".into(), vec![7; 1024 * 1024])];
        let mut last = set(&store, "a", "kept").await;
        let error = loop {
            match store.txn(Txn { when: vec![], then: large() }).await {
                Ok(reply) => last = reply.revision,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::NoSpace(_)), "{error:?}");
        assert!(error.to_string().contains("disarm"), "{error}");
        assert_eq!(text(&get(&store, "a").await.expect("it can be read")), "kept");
        // What the message says to do.
        let client = etcd_client::Client::connect([server.endpoint()], None).await.expect("etcd answers");
        store.compact(last).await.expect("it can be compacted");
        let mut maintenance = client.maintenance_client();
        maintenance.defragment().await.expect("it can be defragmented");
        let member = maintenance.status().await.expect("it says its state");
        let member = member.header().expect("the state has a header").member_id();
        let mut options = etcd_client::AlarmOptions::new();
        options.with_member(member);
        maintenance
            .alarm(etcd_client::AlarmAction::Deactivate, etcd_client::AlarmType::Nospace, Some(options))
            .await
            .expect("the alarm can be disarmed");
        set(&store, "a", "again").await;
    });
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
        assert!(matches!(read, Err(StoreError::Slow(_))), "{read:?}");
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

/// Who signs, and what it has signed, as PEM files.
struct Certificates {
    dir: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Certificates {
    fn new() -> Certificates {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).expect("no names are right");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("it can be signed");
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).expect("it can be written");
        Certificates { dir, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Writes `name.pem` and `name.key`.
    fn sign(&self, name: &str) {
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        let params =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address is right");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).expect("it can be written");
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("it can be written");
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("the path is text").to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("it was written")
    }
}

#[test]
fn tls_lets_in_who_is_known_and_trusts_nobody_else() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    ours.sign("server");
    ours.sign("client");
    theirs.sign("client");
    let server = EtcdServer::start_with(&[
        "--cert-file",
        &ours.path("server.pem"),
        "--key-file",
        &ours.path("server.key"),
        "--trusted-ca-file",
        &ours.path("ca.pem"),
        "--client-cert-auth",
    ]);
    let identity = |of: &Certificates| Some((of.read("client.pem"), of.read("client.key")));
    let open = async |tls: Option<Tls>, scheme: &str| {
        let endpoints = vec![format!("{scheme}{}", server.endpoint())];
        let config = Config { endpoints, prefix: "/tls".into(), tls, login: None };
        Etcd::open(&config).await
    };
    run("TLS", async {
        for scheme in ["", "https://"] {
            let tls = Tls { ca: ours.read("ca.pem"), identity: identity(&ours) };
            let store = open(Some(tls), scheme).await.expect("we are known");
            let written = set(&store, "a", "1").await;
            assert_eq!(next(&mut *watch(&store, "", written).await).await.revision, written);
        }
        for (ca, identity) in [
            (theirs.read("ca.pem"), identity(&ours)),
            (ours.read("ca.pem"), identity(&theirs)),
            (ours.read("ca.pem"), None),
        ] {
            let refused = open(Some(Tls { ca, identity }), "").await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{:?}", refused.err());
        }
        let plain = open(None, "").await;
        assert!(matches!(plain, Err(StoreError::Unavailable(_))), "{:?}", plain.err());
        let unsaid = open(None, "https://").await.err().expect("nobody is trusted");
        assert!(unsaid.to_string().contains("--etcd-ca"), "{unsaid}");
        let rubbish = open(Some(Tls { ca: b"rubbish".to_vec(), identity: None }), "").await;
        assert!(rubbish.is_err());
    });
}

/// The user may touch what is below its prefix, and nothing else.
async fn with_a_user(server: &EtcdServer) {
    let client = etcd_client::Client::connect([server.endpoint()], None).await.expect("etcd answers");
    let mut auth = client.auth_client();
    for (user, role) in [("root", "root"), ("mainstay", "keeper")] {
        auth.user_add(user, "butter", None).await.expect("a user can be added");
        auth.role_add(role).await.expect("a role can be added");
        auth.user_grant_role(user, role).await.expect("a role can be given");
    }
    let permission = etcd_client::Permission::read_write("/mine/").with_prefix();
    auth.role_grant_permission("keeper", permission).await.expect("a permission can be given");
    auth.auth_enable().await.expect("logins can be asked for");
}

#[test]
fn a_user_logs_in_again_when_its_token_has_ended_and_a_dead_member_is_no_hindrance() {
    let mut server = EtcdServer::start();
    run("login", async {
        with_a_user(&server).await;
        let config = |password: &str, prefix: &str| Config {
            endpoints: vec![nobody(), server.endpoint()],
            prefix: prefix.into(),
            tls: None,
            login: Some(Login { user: "mainstay".into(), password: password.into() }),
        };
        let wrong = Etcd::open(&config("margarine", "/mine")).await.err().expect("it is refused");
        assert!(matches!(wrong, StoreError::Invalid(_)), "{wrong:?}");
        assert!(!wrong.to_string().contains("margarine"), "{wrong}");
        let beside = Etcd::open(&config("butter", "/others")).await.err().expect("it is refused");
        assert!(matches!(beside, StoreError::Invalid(_)), "{beside:?}");
        assert!(!format!("{:?}", config("butter", "/mine")).contains("butter"));

        let store = Etcd::open(&config("butter", "/mine")).await.expect("we are known");
        let start = set(&store, "a", "1").await;
        let mut live = watch(&store, "", start + 1).await;
        set(&store, "a", "2").await;
        assert_eq!(words(&next(&mut *live).await), ["+a=2"]);
        // Tokens are in etcd's memory only.
        server.kill();
        server.start_again();
        assert_eq!(text(&get_in_time(&store, "a").await), "2");
        let last = set(&store, "a", "3").await;
        assert_eq!(next(&mut *watch(&store, "", last).await).await.revision, last);
    });
}

/// A member that hangs says nothing, not even that; the watch has to find out.
#[test]
fn a_watch_at_a_member_that_hangs_ends_and_goes_on_at_another() {
    let cluster = EtcdCluster::start();
    run("hanging member", async {
        let leader = cluster.leader().await;
        let mut endpoints = cluster.endpoints();
        let hanging = (leader + 1) % 3;
        endpoints.rotate_left(hanging);
        let store = Etcd::connect(&endpoints, "/x").await.expect("etcd answers");
        let start = set(&store, "a", "1").await;
        let mut watch_there = watch(&store, "", start + 1).await;
        cluster.members[hanging].pause();
        let written = attempt(&store, vec![at("a", start)], vec![put("a", "2")]).await;
        assert!(written.succeeded, "two of three are enough");
        let told = answer(&mut *watch_there).await.expect_err("it hangs");
        assert!(matches!(told, StoreError::Unavailable(_)), "{told:?}");
        let mut elsewhere = watch(&store, "", start + 1).await;
        assert_eq!(words(&next(&mut *elsewhere).await), ["+a=2"]);
        cluster.members[hanging].resume();
    });
}
