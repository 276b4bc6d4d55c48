//! `mainstay store` and `mainstay secrets`: real programs, real directories, a real etcd.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay::store::embedded::Embedded;
use mainstay::store::etcd::Etcd;
use mainstay::store::{Item, Listing, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::etcd::EtcdServer;
use support::program::call;
use support::served::Served;

const PASSWORD: &str = "butter-4711-never-shown";

/// Runs a command to its end.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn mainstay(arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(arguments)
        .env_remove("MAINSTAY_SERVER")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn done(arguments: &[&str]) -> Ran {
    let ran = mainstay(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran
}

fn refused(arguments: &[&str]) -> String {
    let ran = mainstay(arguments);
    assert_eq!(ran.code, 1, "{arguments:?}: {}", ran.stderr);
    ran.stderr
}

fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

fn contents(data_dir: &Path) -> Listing {
    in_runtime(Embedded::open(data_dir).unwrap().list("", None)).unwrap()
}

/// A node that is nowhere, with a password.
fn fill(served: &Served) {
    served.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
    for number in 1..=3 {
        let node = json!({
            "name": format!("n{number}"), "ip-address": "192.0.2.1", "username": "me", "password": PASSWORD,
        });
        served.post("/instances/IN1/nodes", &node);
    }
    served.call("DELETE", "/instances/IN1/nodes/ND2", &Value::Null, 204);
    served.call("PUT", "/instances/IN1/nodes/ND1", &json!({"name": "changed"}), 200);
}

/// A store that a server has filled and left.
fn filled(data: &TempDir) -> PathBuf {
    let data_dir = data.path().join("data");
    let served = Served::start(&data_dir, &["--no-catalogue"]);
    fill(&served);
    served.program.end();
    data_dir
}

fn password_of(served: &Served, node: &str) -> Value {
    served.get(&format!("/instances/IN1/nodes/{node}"))["password"].clone()
}

#[test]
fn a_backup_is_restored_as_it_was_and_only_where_nothing_is() {
    let data = TempDir::new().unwrap();
    let data_dir = filled(&data);
    let (file, other) = (data.path().join("backup"), data.path().join("other"));
    done(&["store", "backup", "--data-dir", word(&data_dir), word(&file)]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&file).unwrap().contains(PASSWORD));
    let said = refused(&["store", "restore", word(&file), "--data-dir", word(&data_dir)]);
    assert!(said.contains("not empty") && said.contains("store.db"), "{said}");
    done(&["store", "restore", word(&file), "--data-dir", word(&other)]);

    let (before, mut after) = (contents(&data_dir), contents(&other));
    let epoch = after.items.iter_mut().find(|item| item.key == "meta/epoch").unwrap();
    let raised: u64 = String::from_utf8(std::mem::take(&mut epoch.value)).unwrap().parse().unwrap();
    assert!(raised > 1_700_000_000, "the nodes would refuse an older epoch: {raised}");
    epoch.value = before.items.iter().find(|item| item.key == "meta/epoch").unwrap().value.clone();
    assert_eq!(after, before);

    // Secrets stay sealed: the key has to come along, and nothing is overwritten while it is missing.
    let started = mainstay(&["serve", "--data-dir", word(&other), "--listen", "127.0.0.1:0"]);
    assert_eq!(started.code, 1);
    assert!(started.stderr.contains("secret.key is missing"), "{}", started.stderr);
    assert!(!other.join("secret.key").exists());
    std::fs::copy(data_dir.join("secret.key"), other.join("secret.key")).unwrap();
    let served = Served::start(&other, &[]);
    assert_eq!(password_of(&served, "ND1"), PASSWORD);
    assert_eq!(
        served.post(
            "/instances/IN1/nodes",
            &json!({
        "name": "n4", "ip-address": "192.0.2.1", "username": "me"})
        )["id"],
        "ND4"
    );
}

#[test]
fn who_leads_is_in_no_backup_and_comes_with_no_move() {
    let (etcd, data) = (EtcdServer::start(), TempDir::new().unwrap());
    let endpoint = etcd.endpoint();
    let at = |prefix: &str| format!("etcd://{endpoint}{prefix}");
    let start = |prefix: &str| {
        let key = data.path().join("key");
        let arguments =
            ["--no-catalogue", "--secret-key", word(&key), "--etcd", &endpoint, "--etcd-prefix", prefix];
        Served::start(&data.path().join("data"), &[&arguments[..], &["--lease", "60"]].concat())
    };
    // Killed, so that its key stays for as long as the lease.
    let served = start("/a/");
    fill(&served);
    served.program.kill();
    let leads = |prefix: &str| {
        in_runtime(async {
            let store = Etcd::connect(std::slice::from_ref(&endpoint), prefix).await.unwrap();
            store.list("meta/leader", None).await.unwrap().items.len()
        })
    };
    assert_eq!(leads("/a/"), 1);
    let file = data.path().join("backup");
    done(&["store", "backup", "--etcd", &endpoint, "--etcd-prefix", "/a/", word(&file)]);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("meta/leader"));
    done(&["store", "restore", word(&file), "--etcd", &endpoint, "--etcd-prefix", "/b/"]);
    done(&["store", "migrate", "--from", &at("/a/"), "--to", &at("/c/")]);
    for prefix in ["/b/", "/c/"] {
        assert_eq!(leads(prefix), 0, "{prefix}");
        let served = start(prefix);
        let (_, status) = call("GET", &format!("{}/status", served.api), "").unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["server"]["role"], "leads", "{prefix}: {status}");
    }
}

#[test]
fn a_store_in_use_is_backed_up_by_the_server_that_has_it() {
    let data = TempDir::new().unwrap();
    let (data_dir, other_dir) = (data.path().join("data"), data.path().join("other"));
    let served = Served::start(&data_dir, &[]);
    fill(&served);
    let other = Served::start(&other_dir, &[]);
    let file = data.path().join("backup");
    let backup = |server: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.args(["store", "backup", word(&file)]).args(more).env("MAINSTAY_SERVER", server);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // The wrong server has another store.
    let (code, said) = backup(&other.api, &["--data-dir", word(&data_dir)]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&served.program.pid().to_string()) && said.contains("--server"), "{said}");
    assert!(!file.exists());
    let (code, said) = backup(&served.api, &["--data-dir", word(&data_dir)]);
    assert_eq!(code, 0, "{said}");
    std::fs::remove_file(&file).unwrap();

    // While others write.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                served.call("PUT", "/instances/IN1/nodes/ND1", &json!({"name": format!("n{number}")}), 200);
            }
        });
        for _ in 0..3 {
            let (code, said) = backup("", &["--served", "--server", &served.api]);
            assert_eq!(code, 0, "{said}");
            let backup = mainstay::store::backup::read(&mut std::io::BufReader::new(
                std::fs::File::open(&file).unwrap(),
            ));
            assert!(backup.unwrap().items.iter().any(|item| item.key == "doc/Node/IN1/ND1"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let restored = data.path().join("restored");
    done(&["store", "restore", word(&file), "--data-dir", word(&restored)]);
    done(&["store", "check", word(&restored)]);
}

#[test]
fn check_names_each_damaged_key_and_answers_with_its_exit_code() {
    let data = TempDir::new().unwrap();
    let data_dir = filled(&data);
    let sound = done(&["store", "check", word(&data_dir)]);
    assert_eq!(sound.stdout, "");
    assert!(sound.stderr.contains("all sound"), "{}", sound.stderr);
    in_runtime(async {
        let store = Embedded::open(&data_dir).unwrap();
        let then = vec![
            mainstay::store::Write::Put("doc/Node/IN1/ND1".into(), b"{}".to_vec()),
            mainstay::store::Write::Put("doc/Rubbish".into(), b"1".to_vec()),
        ];
        assert!(store.txn(mainstay::store::Txn { when: vec![], then }).await.unwrap().succeeded);
    });
    let damaged = mainstay(&["store", "check", word(&data_dir)]);
    assert_eq!(damaged.code, 1);
    let keys: Vec<&str> = damaged.stdout.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(keys, ["doc/Node/IN1/ND1", "doc/Rubbish"]);
    let served = Served::start(&data.path().join("other"), &[]);
    let said = refused(&["store", "check", word(&data.path().join("other"))]);
    assert!(said.contains(&format!("process {}", served.program.pid())), "{said}");
    assert!(refused(&["store", "check", word(&data.path().join("none"))]).contains("no store"));
}

/// Keys in the order of their last writes, those of one write together, with their values.
fn order(listing: &Listing) -> Vec<Vec<(String, Vec<u8>)>> {
    let mut items: Vec<&Item> = listing.items.iter().collect();
    items.sort_by_key(|item| (item.mod_revision, item.key.clone()));
    items
        .chunk_by(|a, b| a.mod_revision == b.mod_revision)
        .map(|together| together.iter().map(|item| (item.key.clone(), item.value.clone())).collect())
        .collect()
}

#[test]
fn a_store_moves_to_etcd_and_back_with_its_order_and_its_secrets() {
    let data = TempDir::new().unwrap();
    let data_dir = filled(&data);
    let etcd = EtcdServer::start();
    let url = format!("etcd://{}/moved", etcd.endpoint());
    let back = data.path().join("back");
    let moved = done(&["store", "migrate", "--from", word(&data_dir), "--to", &url]);
    assert!(moved.stderr.contains("key file"), "{}", moved.stderr);
    let said = refused(&["store", "migrate", "--from", word(&data_dir), "--to", &url]);
    assert!(said.contains("not empty"), "{said}");
    let before = contents(&data_dir);
    let there = in_runtime(async {
        Etcd::connect(&[etcd.endpoint()], "/moved").await.unwrap().list("", None).await.unwrap()
    });
    assert_eq!(order(&there), order(&before));
    done(&["store", "migrate", "--from", &url, "--to", word(&back)]);
    assert_eq!(contents(&back).items, there.items, "revisions included");

    let key = data_dir.join("secret.key");
    let endpoint = etcd.endpoint();
    let more = ["--etcd", &endpoint, "--etcd-prefix", "/moved", "--secret-key", word(&key)];
    let served = Served::start(&data.path().join("new"), &more);
    assert_eq!(password_of(&served, "ND3"), PASSWORD);
}

#[test]
fn a_restore_that_was_cut_short_is_not_served() {
    let data = TempDir::new().unwrap();
    let etcd = EtcdServer::start();
    in_runtime(async {
        let store = Etcd::connect(&[etcd.endpoint()], "/half").await.unwrap();
        let then =
            vec![mainstay::store::Write::Put(mainstay::store::backup::RESTORING.into(), b"then".to_vec())];
        assert!(store.txn(mainstay::store::Txn { when: vec![], then }).await.unwrap().succeeded);
    });
    let endpoint = etcd.endpoint();
    let said = refused(&[
        "serve",
        "--data-dir",
        word(data.path()),
        "--listen",
        "127.0.0.1:0",
        "--etcd",
        &endpoint,
        "--etcd-prefix",
        "/half",
    ]);
    assert!(said.contains("cut short"), "{said}");
}

#[test]
fn secrets_are_sealed_anew_and_only_the_new_key_opens_them() {
    let data = TempDir::new().unwrap();
    let data_dir = filled(&data);
    let new_key = data.path().join("new.key");
    let rotate = ["secrets", "rotate", "--data-dir", word(&data_dir), "--new-key", word(&new_key)];
    let served = Served::start(&data_dir, &[]);
    assert!(refused(&rotate).contains("in use"));
    served.program.end();
    let rotated = done(&rotate);
    assert!(rotated.stderr.contains("2 documents"), "{}", rotated.stderr);
    assert_eq!(std::fs::metadata(&new_key).unwrap().permissions().mode() & 0o777, 0o600);
    // The old key file is still in its place, and is not overwritten.
    let old = std::fs::read(data_dir.join("secret.key")).unwrap();
    let said = refused(&["serve", "--data-dir", word(&data_dir), "--listen", "127.0.0.1:0"]);
    assert!(said.contains("--secret-key"), "{said}");
    assert_eq!(std::fs::read(data_dir.join("secret.key")).unwrap(), old);
    let served = Served::start(&data_dir, &["--secret-key", word(&new_key)]);
    assert_eq!(password_of(&served, "ND1"), PASSWORD);
}

#[test]
fn etcd_holds_no_secret_in_clear() {
    let (etcd, data) = (EtcdServer::start(), TempDir::new().unwrap());
    let manifests = data.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    // A document takes a user's password only as a hash, here of margarine-4712.
    let user = "apiVersion: mainstay.dev/v1\nkind: User\nmetadata: {name: a@example.com}\n\
                spec: {name: A, password-hash: \"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$\
                5Zr0jWbYw9cR3nUeSgGQm0m8Qd4zF1pJ3b2hX7tQk0E\"}\n";
    std::fs::write(manifests.join("user.yaml"), user).unwrap();
    let endpoint = etcd.endpoint();
    let data_dir = data.path().join("data");
    let served = Served::start(&data_dir, &["--etcd", &endpoint, "--manifests", word(&manifests)]);
    fill(&served);
    assert_eq!(password_of(&served, "ND1"), PASSWORD);
    support::wait_for("the user to be there", || {
        let users = in_runtime(async {
            let store = Etcd::connect(std::slice::from_ref(&endpoint), "/mainstay/").await.unwrap();
            store.list("doc/User/", None).await.unwrap()
        });
        !users.items.is_empty() || served.program.said().contains("password")
    });
    assert!(!served.program.said().contains("password"), "{}", served.program.said());
    // All keys of etcd, whoever's, and all that was ever written.
    in_runtime(async {
        let mut client = etcd_client::Client::connect([&endpoint], None).await.unwrap();
        let options = etcd_client::GetOptions::new().with_all_keys();
        let all = client.get("", Some(options.clone())).await.unwrap();
        assert!(all.kvs().iter().any(|kv| kv.key().ends_with(b"doc/Node/IN1/ND1")));
        let mut values: Vec<Vec<u8>> = Vec::new();
        for revision in 2..=all.header().unwrap().revision() {
            let then = client.get("", Some(options.clone().with_revision(revision))).await.unwrap();
            values.extend(then.kvs().iter().map(|kv| [kv.key(), kv.value()].concat()));
        }
        for value in values {
            let found = [PASSWORD, "margarine-4712"]
                .iter()
                .any(|secret| value.windows(secret.len()).any(|window| window == secret.as_bytes()));
            assert!(!found, "{}", String::from_utf8_lossy(&value));
        }
    });
}

#[test]
fn while_etcd_is_away_reads_go_on_with_their_age_and_writes_wait_for_it() {
    let (mut etcd, data) = (EtcdServer::start(), TempDir::new().unwrap());
    let endpoint = etcd.endpoint();
    let served = Served::start(&data.path().join("data"), &["--etcd", &endpoint]);
    fill(&served);
    etcd.kill();
    assert_eq!(served.get("/instances/IN1/nodes/ND1")["name"], "changed");
    let refused = served.call("PUT", "/instances/IN1/nodes/ND1", &json!({"name": "lost"}), 503);
    assert!(refused["error"].as_str().unwrap().contains("etcd"), "{refused}");
    let ready = || call("GET", &format!("{}/readyz", served.api), "").unwrap();
    let (status, said) = ready();
    assert_eq!(status, 503);
    assert!(said.contains("s ago"), "{said}");
    let age = || -> f64 {
        let (_, text) = call("GET", &format!("{}/metrics", served.api), "").unwrap();
        let line =
            text.lines().find(|line| line.starts_with("mainstay_store_snapshot_age_seconds ")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    support::wait_for("the age to grow", || age() > 3.0);
    etcd.start_again();
    support::wait_for("the server to be ready again", || ready().0 == 200);
    support::wait_for("the age to be small again", || age() < 2.0);
    served.call("PUT", "/instances/IN1/nodes/ND1", &json!({"name": "kept"}), 200);
    assert_eq!(served.get("/instances/IN1/nodes/ND1")["name"], "kept");
}
