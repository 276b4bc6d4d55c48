//! How fast the store is: our two engines and a bare client of etcd's, on the same disk, and what reading costs.
//!
//! ```text
//! cargo bench --bench store [-- write|watch|read]
//! ```
//!
//! What is compared, and what came out, stands in benches/README.md. Contenders take turns within one run, and only the
//! ratios between them mean something.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on fails")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use mainstay::metrics::Metrics;
use mainstay::model::{Key, Kind};
use mainstay::state::State;
use mainstay::store::backup::Backup;
use mainstay::store::embedded::{self, Embedded};
use mainstay::store::etcd::Etcd;
use mainstay::store::{Change, Compare, Item, Store, Txn, Write};

#[path = "../tests/support/mod.rs"]
mod support;
use support::etcd::EtcdServer;

/// What one write writes.
const VALUE: usize = 512;

/// How long each contender writes in one round.
const ROUND: Duration = Duration::from_secs(2);

/// Rounds; the median is shown.
const ROUNDS: usize = 5;

/// Documents of the reading benchmarks.
const DOCUMENTS: usize = 100_000;

/// Documents of one instance, which are listed.
const LISTED: usize = 10_000;

fn main() {
    // cargo adds words of its own, such as --bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_asked = |word: &str| words.is_empty() || words.iter().any(|asked| asked == word);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap().to_owned();
    let before = load();
    if is_asked("write") {
        runtime.block_on(write());
    }
    if is_asked("watch") {
        runtime.block_on(watch());
    }
    if is_asked("read") {
        runtime.block_on(read());
    }
    println!("\nload: {before} before, {} after", load());
}

fn percentile(sorted: &[Duration], of: usize) -> f64 {
    sorted.get(sorted.len() * of / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One durable write of a key, by whoever it is.
type Put = Box<dyn Fn(String, Vec<u8>) -> BoxFuture<'static, ()> + Send + Sync>;

fn through(store: Arc<dyn Store>) -> Put {
    Box::new(move |key, value| {
        let store = Arc::clone(&store);
        Box::pin(async move {
            let then = vec![Write::Put(key, value)];
            assert!(store.txn(Txn { when: vec![], then }).await.unwrap().succeeded);
        })
    })
}

fn bare(client: &etcd_client::Client) -> Put {
    let client = client.kv_client();
    Box::new(move |key, value| {
        let mut client = client.clone();
        Box::pin(async move {
            client.put(format!("/bare/{key}"), value, None).await.unwrap();
        })
    })
}

/// Writers that write one after the other; all their times, and how many a second.
async fn write_for(put: &Put, writers: usize) -> (f64, Vec<Duration>) {
    let begun = Instant::now();
    let all = join_all((0..writers).map(|writer| async move {
        let mut times = Vec::new();
        let mut number = 0;
        while begun.elapsed() < ROUND {
            number += 1;
            let at = Instant::now();
            put(format!("{writer:03}/{:03}", number % 100), vec![b'x'; VALUE]).await;
            times.push(at.elapsed());
        }
        times
    }))
    .await;
    let took = begun.elapsed().as_secs_f64();
    let times: Vec<Duration> = all.into_iter().flatten().collect();
    (times.len() as f64 / took, times)
}

async fn write() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdServer::start();
    let client = etcd_client::Client::connect([etcd.endpoint()], None).await.unwrap();
    let contenders: [(&str, Put); 3] = [
        ("embedded", through(Arc::new(Embedded::open(dir.path()).unwrap()))),
        ("etcd", through(Arc::new(Etcd::connect(&[etcd.endpoint()], "/ours").await.unwrap()))),
        ("etcd, bare client", bare(&client)),
    ];
    println!("write: durable writes of {VALUE} B\n");
    println!("writers  {:18} {:>10} {:>10} {:>10}", "", "writes/s", "p50 µs", "p99 µs");
    for writers in [1, 16, 128] {
        let mut rates = [const { Vec::new() }; 3];
        let mut times = [const { Vec::new() }; 3];
        for round in 0..ROUNDS {
            for turn in 0..contenders.len() {
                let index = (round + turn) % contenders.len();
                let (rate, taken) = write_for(&contenders[index].1, writers).await;
                rates[index].push(rate);
                times[index].extend(taken);
            }
        }
        for (index, (name, _)) in contenders.iter().enumerate() {
            times[index].sort_unstable();
            let [half, most] = [50, 99].map(|of| percentile(&times[index], of));
            println!(
                "{writers:7}  {name:18} {:10.0} {half:10.0} {most:10.0}",
                median(std::mem::take(&mut rates[index]))
            );
        }
    }
}

/// From the call of a write until a watch tells it.
async fn delivery(store: &dyn Store) -> Vec<Duration> {
    let start = store.list("nothing", None).await.unwrap().revision;
    let mut watch = store.watch("told/", start + 1).await.unwrap();
    let mut times = Vec::new();
    for number in 0..3000_u32 {
        let at = Instant::now();
        let then = vec![Write::Put(format!("told/{}", number % 10), vec![b'x'; VALUE])];
        let (reply, told) = tokio::join!(store.txn(Txn { when: vec![], then }), watch.next());
        let (reply, told) = (reply.unwrap(), told.unwrap());
        times.push(at.elapsed());
        assert!(reply.succeeded && matches!(told.changes[..], [Change::Put(_)]));
    }
    times.sort_unstable();
    times
}

async fn watch() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdServer::start();
    let contenders: [(&str, Arc<dyn Store>); 2] = [
        ("embedded", Arc::new(Embedded::open(dir.path()).unwrap())),
        ("etcd", Arc::new(Etcd::connect(&[etcd.endpoint()], "/ours").await.unwrap())),
    ];
    println!("\nwatch: from the call of a write until a watch has told it\n");
    for (name, store) in &contenders {
        let times = delivery(&**store).await;
        println!("{name:18} p50 {:6.0} µs, p99 {:6.0} µs", percentile(&times, 50), percentile(&times, 99));
    }
}

/// A store of processes, ten thousand an instance.
fn fill(dir: &Path) {
    let items = (0..DOCUMENTS)
        .map(|number| {
            let instance = format!("IN{}", number / LISTED);
            let name = format!("{:08x}-0000-5000-8000-000000000000", number * 7919);
            let value = serde_json::json!({
                "apiVersion": "mainstay.dev/v1", "kind": "Process",
                "metadata": {
                    "name": name, "namespace": instance, "uid": name, "generation": 1,
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": {"service": "SV1", "zone": "a"},
                },
                "spec": {"service": "SV1", "node": format!("ND{}", number % 50), "running": true},
            });
            let revision = number as u64 + 2;
            Item {
                key: format!("doc/Process/{instance}/{name}"),
                value: value.to_string().into_bytes(),
                create_revision: revision,
                mod_revision: revision,
            }
        })
        .collect();
    let backup = Backup { made: "now".into(), revision: DOCUMENTS as u64 + 1, items };
    embedded::restore(dir, &backup).unwrap();
}

fn report(what: &str, times: Vec<Duration>, unit: &str, scale: f64) {
    let seconds = median(times.iter().map(Duration::as_secs_f64).collect());
    println!("{what:54} {:10.3} {unit}", seconds * scale);
}

async fn read() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    println!("\nread: {DOCUMENTS} documents, medians\n");
    let mut opened = Vec::new();
    let mut loaded = Vec::new();
    for _ in 0..ROUNDS {
        let at = Instant::now();
        let store = Arc::new(Embedded::open(dir.path()).unwrap());
        opened.push(at.elapsed());
        let state = State::open(store, Arc::new(Metrics::default())).await.unwrap();
        loaded.push(at.elapsed());
        drop(state);
    }
    report("open the store", opened, "s", 1.0);
    report("open it and read all documents", loaded, "s", 1.0);

    let store = Arc::new(Embedded::open(dir.path()).unwrap());
    let state = State::open(store.clone(), Arc::new(Metrics::default())).await.unwrap();
    let keys: Vec<Key> = state.snapshot().documents.iter().map(|(key, _)| key.clone()).collect();
    let mut one = Vec::new();
    for round in 0..ROUNDS {
        let at = Instant::now();
        for key in keys.iter().skip(round).step_by(10) {
            black_box(state.snapshot().documents.get(key).unwrap());
        }
        one.push(at.elapsed() / u32::try_from(keys.len() / 10).unwrap());
    }
    report("take a snapshot and read one document", one, "µs", 1e6);
    let mut listed = Vec::new();
    let mut raw = Vec::new();
    for round in 0..ROUNDS {
        let instance = format!("IN{round}");
        let at = Instant::now();
        let snapshot = state.snapshot();
        let running = snapshot
            .documents
            .within(Kind::Process, &instance)
            .filter(|(_, process)| process.states_running() == Some(true));
        assert_eq!(black_box(running.count()), LISTED);
        listed.push(at.elapsed());
        let at = Instant::now();
        let listing = store.list(&format!("doc/Process/{instance}/"), None).await.unwrap();
        assert_eq!(black_box(listing.items.len()), LISTED);
        raw.push(at.elapsed());
    }
    report(&format!("take a snapshot and go over {LISTED} documents"), listed, "ms", 1e3);
    report(&format!("list {LISTED} keys of the store, values copied"), raw, "ms", 1e3);
    let key = "doc/Process/IN0/x";
    let mut checks = Vec::new();
    for _ in 0..1000 {
        let at = Instant::now();
        let when = vec![Compare::Absent(key.into())];
        assert!(store.txn(Txn { when, then: vec![] }).await.unwrap().succeeded);
        checks.push(at.elapsed());
    }
    report("check a condition through the writer", checks, "µs", 1e6);
}
