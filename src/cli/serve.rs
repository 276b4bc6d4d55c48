//! `mainstay serve`: the controller and the API. What runs on the nodes goes on when it ends.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::uri::Authority;
use tokio::signal::unix::SignalKind;

use super::wire::{self, Settings, StartError};
use super::{Outcome, ServeArguments};

pub(super) async fn run(arguments: ServeArguments) -> Outcome {
    let asked =
        tokio::spawn(async { wire::signalled(&[SignalKind::interrupt(), SignalKind::terminate()]).await });
    let ServeArguments {
        listen,
        data_dir,
        etcd,
        etcd_prefix,
        lease,
        advertise,
        secret_key,
        manifests,
        no_catalogue,
    } = arguments;
    let listener = wire::bind(&listen).await?;
    let address = listener.local_addr()?;
    let running = wire::start(Settings {
        data_dir,
        lease: if etcd.is_empty() { wire::ALONE } else { Duration::from_secs(lease) },
        address: advertised(advertise, address)?,
        etcd: (!etcd.is_empty()).then_some((etcd, etcd_prefix)),
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

/// Where others reach our API: what was said, or else where it listens, unless that is every address and so none that
/// another machine could use.
fn advertised(said: Option<String>, listens: SocketAddr) -> Result<Option<String>, StartError> {
    let Some(url) = said else {
        return Ok((!listens.ip().is_unspecified()).then(|| format!("http://{listens}")));
    };
    let trimmed = url.trim_end_matches('/');
    let authority = trimmed.strip_prefix("http://").and_then(|rest| rest.parse::<Authority>().ok());
    match authority {
        Some(authority) if authority.port().is_some() && !authority.as_str().contains('@') => {
            Ok(Some(trimmed.to_owned()))
        }
        Some(_) | None => Err(StartError::Advertise { url }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_others_is_one_that_they_can_use() {
        let listens = |text: &str| text.parse::<SocketAddr>().unwrap();
        let said = |url: &str| advertised(Some(url.into()), listens("0.0.0.0:1"));
        assert_eq!(advertised(None, listens("10.0.0.1:80")).unwrap().as_deref(), Some("http://10.0.0.1:80"));
        assert_eq!(advertised(None, listens("[::1]:80")).unwrap().as_deref(), Some("http://[::1]:80"));
        assert_eq!(advertised(None, listens("0.0.0.0:80")).unwrap(), None);
        assert_eq!(said("http://box:8080/").unwrap().as_deref(), Some("http://box:8080"));
        for url in ["", "box:8080", "http://box", "https://box:1", "http://me@box:1", "http://box:1/1.0"] {
            assert!(said(url).is_err(), "{url}");
        }
    }
}
