//! `mainstay serve`: the controller and the API. What runs on the nodes goes on when it ends.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::uri::Authority;
use tokio::signal::unix::{SignalKind, signal};

use super::wire::{self, Door, Settings, StartError};
use super::{Outcome, ServeArguments};
use crate::plan::world::Freeze;

pub(super) async fn run(arguments: ServeArguments) -> Outcome {
    let asked =
        tokio::spawn(async { wire::signalled(&[SignalKind::interrupt(), SignalKind::terminate()]).await });
    let ServeArguments {
        mut listen,
        data_dir,
        etcd,
        lease,
        advertise,
        freeze_above,
        settle,
        secret_key,
        manifests,
        sources,
        no_catalogue,
    } = arguments;
    let said = advertise.map(Advertised::parse).transpose()?;
    // Whoever sends a request on to us asks by that name.
    listen.hosts.extend(said.iter().map(|said| said.host.clone()));
    let door = Door::open(&listen)?;
    let url = door.url()?;
    let etcd = etcd.config()?;
    let running = wire::start(Settings {
        data_dir,
        lease: if etcd.is_some() { Duration::from_secs(lease) } else { wire::ALONE },
        freeze: Freeze { above_percent: freeze_above, settle_ms: u64::from(settle) * 1000 },
        address: said.map(|said| said.url).or_else(|| usual(&url)),
        etcd,
        secret_key,
        manifests,
        prune: sources.prune(),
        git_interval: sources.interval(),
        git: sources.git,
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

/// Where others reach our API, as it was said.
struct Advertised {
    url: String,
    /// The name in it.
    host: String,
}

impl Advertised {
    fn parse(url: String) -> Result<Advertised, StartError> {
        let trimmed = url.trim_end_matches('/');
        if trimmed.starts_with("https://") {
            return Err(StartError::AdvertiseTls { url });
        }
        let authority = trimmed.strip_prefix("http://").and_then(|rest| rest.parse::<Authority>().ok());
        match authority {
            Some(authority) if authority.port().is_some() && !authority.as_str().contains('@') => {
                Ok(Advertised { url: trimmed.to_owned(), host: authority.host().to_owned() })
            }
            Some(_) | None => Err(StartError::Advertise { url }),
        }
    }
}

/// Where others reach our API when nobody says it: where it listens, unless that is every address and so none that another machine
/// could use, or speaks TLS, which other servers don't.
fn usual(url: &str) -> Option<String> {
    let listens: SocketAddr = url.strip_prefix("http://")?.parse().ok()?;
    (!listens.ip().is_unspecified()).then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_others_is_one_that_they_can_use() {
        let said = |url: &str| Advertised::parse(url.into()).map(|said| (said.url, said.host));
        assert_eq!(usual("http://10.0.0.1:80").as_deref(), Some("http://10.0.0.1:80"));
        assert_eq!(usual("http://[::1]:80").as_deref(), Some("http://[::1]:80"));
        assert_eq!(
            [usual("http://0.0.0.0:80"), usual("http://[::]:80"), usual("https://10.0.0.1:80")],
            [const { None }; 3]
        );
        assert_eq!(said("http://box:8080/").unwrap(), ("http://box:8080".into(), "box".into()));
        assert_eq!(said("http://[::1]:80").unwrap(), ("http://[::1]:80".into(), "[::1]".into()));
        for url in ["", "box:8080", "http://box", "http://me@box:1", "http://box:1/1.0"] {
            assert!(matches!(said(url), Err(StartError::Advertise { .. })), "{url}");
        }
        assert!(matches!(said("https://box:1"), Err(StartError::AdvertiseTls { .. })));
    }
}
