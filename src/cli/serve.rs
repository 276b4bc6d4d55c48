//! `mainstay serve`: the controller and the API. What runs on the nodes goes on when it ends.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::wire::{self, Door, Settings};
use super::{Outcome, ServeArguments};

pub(super) async fn run(arguments: ServeArguments) -> Outcome {
    let asked =
        tokio::spawn(async { wire::signalled(&[SignalKind::interrupt(), SignalKind::terminate()]).await });
    let ServeArguments { listen, data_dir, etcd, secret_key, manifests, no_catalogue } = arguments;
    let door = Door::open(&listen)?;
    let url = door.url()?;
    let running = wire::start(Settings {
        data_dir,
        etcd: etcd.config()?,
        secret_key,
        manifests,
        catalogue: !no_catalogue,
        audit: listen.audit,
    })
    .await?;
    let keys = door.keys();
    let server = running.serve(door);
    eprintln!("mainstay: serving {url}/1.0");
    // Without keys a hangup ends us, as it does every program that has no use for it.
    if keys.can_change() {
        let mut hangups = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                keys.reload();
            }
        });
    }
    asked.await?;
    eprintln!("mainstay: ending; what runs on the nodes goes on");
    server.end().await;
    running.end().await;
    Ok(ExitCode::SUCCESS)
}
