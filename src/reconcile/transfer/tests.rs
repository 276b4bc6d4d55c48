//! Transfers to a real shell on this machine.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::model::kinds::Transport;
use crate::node::link::{Connector, Link, Target};
use crate::node::local::Local;
use crate::plan::world::ArtifactSource;

async fn link() -> Box<dyn Link> {
    let target = Target {
        name: "IN1/ND1".into(),
        transport: Transport::Local,
        host: "127.0.0.1".into(),
        port: None,
        username: String::new(),
        password: None,
        identity_file: None,
        ssh_config: None,
        host_key: None,
        root: String::new(),
        connect_timeout: Duration::from_secs(10),
    };
    Local.connect(&target).await.unwrap()
}

/// A file as it was when its manifest was read.
fn delivery(file: &Path) -> Delivery {
    let path = file.display().to_string();
    let mut tar = Vec::new();
    pack(&path, &mut tar).unwrap();
    let address = hex(&Sha256::digest(&tar));
    Delivery { address, source: ArtifactSource { path, size: tar.len() as u64 } }
}

/// Delivers into a root; how it went, and what lies in the node's folder of artifacts then.
async fn delivered(root: &TempDir, delivery: &Delivery) -> (Result<Delivered, String>, u64, usize) {
    let link = link().await;
    let sides: Arc<dyn Sides> = link.sides();
    let sent = AtomicU64::new(0);
    let root_path = root.path().display().to_string();
    let result = deliver(&*sides, &root_path, 1, delivery, &sent).await;
    link.close().await;
    let folder = root.path().join("a");
    let count = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
    // The node's side of a transfer that was given up cleans up by itself.
    while result.is_err() && count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (result, sent.into_inner(), count())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_counted_and_what_is_there_is_not_sent() {
    let (root, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = folder.path().join("app.jar");
    std::fs::write(&file, vec![b'x'; 1_000_000]).unwrap();
    let delivery = delivery(&file);
    assert_eq!(delivered(&root, &delivery).await, (Ok(Delivered::Sent), delivery.source.size, 1));
    assert_eq!(delivered(&root, &delivery).await, (Ok(Delivered::WasThere), 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_its_manifest_was_read_is_not_taken_for_what_it_was() {
    let (root, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = folder.path().join("app.jar");
    for now in [vec![b'y'; 1_000_000], vec![b'x'; 10], vec![b'x'; 3_000_000]] {
        std::fs::write(&file, vec![b'x'; 1_000_000]).unwrap();
        let delivery = delivery(&file);
        std::fs::write(&file, now).unwrap();
        let (result, _, left) = delivered(&root, &delivery).await;
        let why = result.unwrap_err();
        assert!(why.contains("app.jar changed on disk while it was sent; "), "{why}");
        assert_eq!(left, 0);
    }
    let delivery = delivery(&file);
    std::fs::remove_file(&file).unwrap();
    let (result, _, left) = delivered(&root, &delivery).await;
    let why = result.unwrap_err();
    assert!(why.contains("app.jar does not exist"), "{why}");
    assert_eq!(left, 0);
}
