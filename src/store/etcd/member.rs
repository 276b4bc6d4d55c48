//! One member of the cluster, and how it is reached: address, TLS, login.

use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::OnceCell;

use super::failure::Failure;
use crate::store::StoreError;

/// Longest that a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// How often a connection is probed. etcd's servers hang up on clients that probe more often than every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(6);

/// How long a probe may stay unanswered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Where a cluster is, and who we are there.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The members, each `host:port`, or with `http://` or `https://` before it.
    pub endpoints: Vec<String>,
    /// What all keys are kept under.
    pub prefix: String,
    /// None: without TLS.
    pub tls: Option<Tls>,
    /// None: without a login.
    pub login: Option<Login>,
}

/// Certificates as PEM.
#[derive(Clone, Default)]
pub struct Tls {
    /// Who may sign the members' certificates.
    pub ca: Vec<u8>,
    /// Our certificate and its key, where the members ask for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// A user of etcd's.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, …)", self.user)
    }
}

/// A member. Connected on first use, for a login needs it to be there, and one that is not must not keep us from
/// the others.
pub(super) struct Member {
    pub(super) endpoint: String,
    options: ConnectOptions,
    client: OnceCell<Client>,
}

impl Member {
    /// The members of a cluster, none of them asked yet.
    pub(super) async fn all(config: &Config) -> Result<Vec<Member>, StoreError> {
        if config.endpoints.is_empty() {
            return Err(StoreError::Open("no etcd endpoint was given".into()));
        }
        let mut members = Vec::with_capacity(config.endpoints.len());
        for endpoint in &config.endpoints {
            members.push(Member::new(endpoint, config).await?);
        }
        Ok(members)
    }

    async fn new(endpoint: &str, config: &Config) -> Result<Member, StoreError> {
        let wrong = |why: &dyn fmt::Display| StoreError::Open(format!("etcd endpoint {endpoint}: {why}"));
        if endpoint.starts_with("https://") && config.tls.is_none() {
            return Err(wrong(
                &"https needs to know who signs etcd's certificate; name the file with --etcd-ca",
            ));
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some(tls) = &config.tls {
            let mut with = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
            if let Some((certificate, key)) = &tls.identity {
                with = with.identity(Identity::from_pem(certificate, key));
            }
            options = options.with_tls(with);
        }
        // Without a login this connects to nobody yet, and says what is wrong with the address and the certificates.
        let client =
            Client::connect([endpoint], Some(options.clone())).await.map_err(|error| wrong(&error))?;
        let client = match &config.login {
            None => OnceCell::new_with(Some(client)),
            Some(Login { user, password }) => {
                // etcd's tokens end with time, and with the member that gave them.
                options = options.with_user(user, password).with_auto_token_refresh(true);
                OnceCell::new()
            }
        };
        Ok(Member { endpoint: endpoint.to_owned(), options, client })
    }

    /// A client of this member alone: one client for all picks a member by chance, a dead one included.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let connect = || Client::connect([&self.endpoint], Some(self.options.clone()));
        let client = self.client.get_or_try_init(connect).await;
        client.cloned().map_err(|error| Failure::of_connecting(&error))
    }
}
