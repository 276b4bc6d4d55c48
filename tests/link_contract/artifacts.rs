//! Artifacts: they arrive whole or not at all, and stay as long as something runs from them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use mainstay::node::protocol::{self, Line, ProcessLine};
use mainstay::node::side::Side;
use mainstay::plan::step::{Action, Reason, Step};
use mainstay::plan::world::Phase;
use sha2::Digest;
use tokio::io::AsyncWriteExt;

use super::{Case, PATIENCE, command, start, stop, support};

/// An artifact `app` as it is sent, and its address: a folder with a program and so many bytes beside it.
fn artifact(bytes: usize) -> (Vec<u8>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("app")).unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join("app").join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let run = write("run", b"#!/bin/sh\necho from the artifact\nexec sleep 1000\n");
    std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o755)).unwrap();
    write("data", &vec![b'x'; bytes]);
    let mut tar = Vec::new();
    mainstay::artifact::pack(folder.path().join("app").to_str().unwrap(), &mut tar).unwrap();
    let address = mainstay::model::secret::hex(&sha2::Sha256::digest(&tar));
    (tar, address)
}

/// Asks the node to take an artifact, and answers what it says to that.
async fn offer(case: &mut Case, epoch: u64, address: &str, size: usize) -> (Side, String) {
    let (epoch, size) = (epoch.to_string(), size.to_string());
    let words = ["put", &case.target.root, &epoch, address, &size];
    let mut side = case.link.sides().open(&words).await.unwrap();
    let said = said(&mut side).await;
    (side, said)
}

async fn said(side: &mut Side) -> String {
    tokio::time::timeout(PATIENCE, side.line()).await.unwrap().unwrap_or_else(|error| error.to_string())
}

/// Offers and sends; answers what the node says in the end.
async fn put(case: &mut Case, address: &str, tar: &[u8]) -> String {
    let (mut side, said_first) = offer(case, 1, address, tar.len()).await;
    if said_first != "ready" {
        return said_first;
    }
    // A node that has refused it midway takes no more.
    let _ = side.writer.as_mut().unwrap().write_all(tar).await;
    let _ = side.writer.as_mut().unwrap().flush().await;
    said(&mut side).await
}

fn is_there(address: &str, is_there: bool) -> impl Fn(&Line, &BTreeMap<String, ProcessLine>) -> bool + use<> {
    let line = Line::Artifact { address: address.to_owned(), is_there };
    move |said, _| *said == line
}

/// What lies in the node's folder of artifacts, sorted.
fn stored(case: &Case) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(case.root.join("a"))
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

pub(super) async fn an_artifact_arrives_whole_is_told_of_and_runs(mut case: Case) {
    let (tar, address) = artifact(3_000_000);
    assert_eq!(put(&mut case, &address, &tar).await, "done");
    case.until("news of it", is_there(&address, true)).await;
    assert_eq!(stored(&case), [address.as_str()]);
    let at = case.root.join("a").join(&address).join("app");
    assert_eq!(std::fs::read(at.join("data")).unwrap(), vec![b'x'; 3_000_000]);
    // A second time it is not even asked for.
    assert_eq!(offer(&mut case, 1, &address, tar.len()).await.1, "done");
    case.batch(vec![start("a", command(&[at.join("run").to_str().unwrap()]))]).await;
    case.wait_for_log("a", "from the artifact\n");
    // Another conversation is told of it, and of where it is.
    case.revision += 1;
    case.link.send(&protocol::open(&case.target.root, 1, case.revision)).await.unwrap();
    let root = Line::Root(case.root.display().to_string());
    case.until("the directory", move |line, _| *line == root).await;
    case.until("news of it again", is_there(&address, true)).await;
    case.until("opened", |line, _| matches!(line, Line::Opened { .. })).await;
    case.end().await;
}

pub(super) async fn an_artifact_is_removed_when_nothing_runs_from_it_and_not_before(mut case: Case) {
    let (tar, address) = artifact(10);
    assert_eq!(put(&mut case, &address, &tar).await, "done");
    let mut start_it = command(&["sleep", "1000"]);
    let at = case.root.join("a").join(&address).join("app");
    start_it.env.insert("MAINSTAY_ARTIFACT".into(), at.display().to_string());
    case.batch(vec![start("a", start_it)]).await;
    case.phase("a", Phase::Running).await;
    let discard = [Step { action: Action::Discard { address: address.clone() }, reason: Reason::Unused }];
    case.revision += 1;
    case.link.send(&protocol::batch(1, case.revision, &discard)).await.unwrap();
    let used = Line::StepFailed { id: address.clone(), message: "something still runs from it".into() };
    case.until("the refusal", move |line, _| *line == used).await;
    case.until("the trailer", |line, _| matches!(line, Line::Done { .. })).await;
    assert_eq!(stored(&case), [address.as_str()]);
    case.batch(vec![stop("a", 1)]).await;
    case.phase("a", Phase::Stopped).await;
    case.revision += 1;
    case.link.send(&protocol::batch(1, case.revision, &discard)).await.unwrap();
    case.until("news of it", is_there(&address, false)).await;
    case.until("the trailer", |line, _| matches!(line, Line::Done { .. })).await;
    support::wait_for("the disk to be freed", || stored(&case).is_empty());
    case.end().await;
}

pub(super) async fn what_arrives_damaged_is_refused_and_leaves_nothing(mut case: Case) {
    let (tar, address) = artifact(300_000);
    let mut damaged = tar.clone();
    damaged[100_000] = b'y';
    let said = put(&mut case, &address, &damaged).await;
    assert!(said.starts_with("failed what arrived is not what was sent: its SHA-256 is "), "{said}");
    assert_eq!(stored(&case), [""; 0]);
    let said = put(&mut case, &address, &vec![b'z'; tar.len()]).await;
    assert!(said.starts_with("failed what arrived can't be unpacked: "), "{said}");
    assert_eq!(stored(&case), [""; 0]);
    assert_eq!(put(&mut case, &address, &tar).await, "done");
    case.end().await;
}

pub(super) async fn a_transfer_that_breaks_off_leaves_nothing_and_the_next_one_goes_through(mut case: Case) {
    let (tar, address) = artifact(300_000);
    let half = &tar[..tar.len() / 2];
    let (mut side, said_first) = offer(&mut case, 1, &address, tar.len()).await;
    assert_eq!(said_first, "ready");
    side.writer.as_mut().unwrap().write_all(half).await.unwrap();
    drop(side);
    support::wait_for("what arrived of it to go", || stored(&case).is_empty());
    // One whose end the node does not see is ended by the next.
    let (mut stuck, said_first) = offer(&mut case, 1, &address, tar.len()).await;
    assert_eq!(said_first, "ready");
    stuck.writer.as_mut().unwrap().write_all(half).await.unwrap();
    stuck.writer.as_mut().unwrap().flush().await.unwrap();
    assert_eq!(put(&mut case, &address, &tar).await, "done");
    assert_eq!(stored(&case), [address.as_str()]);
    assert_ne!(said(&mut stuck).await, "done");
    case.end().await;
}

pub(super) async fn a_deposed_controller_sends_nothing(mut case: Case) {
    let (tar, address) = artifact(10);
    case.revision += 1;
    case.open(5).await;
    let said = offer(&mut case, 4, &address, tar.len()).await.1;
    assert_eq!(said, "failed a newer controller (epoch 5) has taken this node over");
    case.link.close().await;
}

pub(super) async fn a_full_disk_ends_a_transfer_by_its_name(mut case: Case) {
    assert!(rustix::process::getuid().is_root(), "a small disk is mounted; run the tests as root");
    let (tar, address) = artifact(2_000_000);
    let disk = case.root.join("a");
    std::fs::create_dir(&disk).unwrap();
    let disk = support::SmallDisk::mount(&disk, "1m");
    // It is seen before anything is sent.
    let said = put(&mut case, &address, &tar).await;
    assert!(said.starts_with("failed disk full: ") && said.contains(" kB are needed"), "{said}");
    // And while it is sent, when somebody else takes the room meanwhile.
    let (small, address) = artifact(600_000);
    let (mut side, said_first) = offer(&mut case, 1, &address, small.len()).await;
    assert_eq!(said_first, "ready");
    disk.fill();
    let _ = side.writer.as_mut().unwrap().write_all(&small).await;
    let _ = side.writer.as_mut().unwrap().flush().await;
    let why = self::said(&mut side).await;
    assert!(why.starts_with("failed disk full: "), "{why}");
    disk.free();
    assert_eq!(stored(&case), [""; 0]);
    assert_eq!(put(&mut case, &address, &small).await, "done");
    drop(disk);
    case.end().await;
}
