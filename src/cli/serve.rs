//! `mainstay serve`: the controller and the API. What runs on the nodes goes on when it ends.

use std::process::ExitCode;

use tokio::signal::unix::SignalKind;

use super::wire::{self, Settings};
use super::{Outcome, ServeArguments};

pub(super) async fn run(arguments: ServeArguments) -> Outcome {
    let asked =
        tokio::spawn(async { wire::signalled(&[SignalKind::interrupt(), SignalKind::terminate()]).await });
    let ServeArguments { listen, data_dir, etcd, secret_key, manifests, no_catalogue } = arguments;
    let listener = wire::bind(&listen).await?;
    let address = listener.local_addr()?;
    let running = wire::start(Settings {
        data_dir,
        etcd: etcd.config()?,
        secret_key,
        manifests,
        catalogue: !no_catalogue,
    })
    .await?;
    running.serve(listener);
    eprintln!("mainstay: serving http://{address}/1.0");
    asked.await?;
    eprintln!("mainstay: ending; what runs on the nodes goes on");
    running.end().await;
    Ok(ExitCode::SUCCESS)
}
