//! Puts the parts together: store, state, controller, folders, API. The only place that knows them all.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::{ListenArguments, chain, key};
use crate::api::{self, Api, Secrets};
use crate::clock::Clock;
use crate::edge::{self, Audit, Edge, Hosts, Origins, Server, Tls, Tokens};
use crate::metrics::Metrics;
use crate::node::local::Local;
use crate::node::ssh::Ssh;
use crate::plan::world::Freeze;
use crate::reconcile::controller::{Controller, Parts};
use crate::reconcile::events::Events;
use crate::reconcile::leadership::Leadership;
use crate::reconcile::observed::Observed;
use crate::reconcile::outlook::Outlook;
use crate::reconcile::placed::Placed;
use crate::reconcile::target::Common;
use crate::source::board::Board;
use crate::source::folder::Folder;
use crate::source::git::{Address, Git};
use crate::source::{self, PruneLimit, catalogue};
use crate::state::State;
use crate::state::leader::Candidate;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::etcd::{self, Etcd};

/// How long a node's connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The lease where nobody else can stand for election: it lasts for as long as anybody may run.
pub(super) const ALONE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long the start waits to know who leads. What is asked before that is known waits too.
const ELECTED_WITHIN: Duration = Duration::from_secs(2);

/// What is to run.
pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    /// None for the embedded store.
    pub(super) etcd: Option<etcd::Config>,
    pub(super) secret_key: Option<PathBuf>,
    pub(super) manifests: Vec<PathBuf>,
    /// Git repositories, and how often each is fetched.
    pub(super) git: Vec<Address>,
    pub(super) git_interval: Duration,
    /// How much a source of manifests may delete unasked.
    pub(super) prune: PruneLimit,
    pub(super) catalogue: bool,
    /// How long a leader that is gone keeps others from leading.
    pub(super) lease: Duration,
    /// When nothing is started elsewhere though its node does not answer.
    pub(super) freeze: Freeze,
    /// Where others on the same store reach our API.
    pub(super) address: Option<String>,
    /// Where the audit log goes, if it is said.
    pub(super) audit: Option<PathBuf>,
}

/// What runs.
pub(super) struct Running {
    pub(super) state: Arc<State>,
    pub(super) controller: Controller,
    pub(super) observed: Observed,
    pub(super) placed: Placed,
    pub(super) clock: Clock,
    pub(super) sources: Board,
    leadership: Leadership,
    parts: api::Parts,
    audit: Option<Arc<Audit>>,
    followers: Vec<JoinHandle<()>>,
}

/// Why it can't be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{path} can't be used as data folder")]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is no folder of manifests")]
    Manifests {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no place for the control sockets of ssh")]
    Sockets(#[source] std::io::Error),
    #[error(
        "{listen} is not an address to listen on: write an IP address and a port, such as 127.0.0.1:8080"
    )]
    Address { listen: String },
    #[error(
        "{listen} can be reached by others, and the API has no {without}; listen on 127.0.0.1, or give --tls-cert, --tls-key and \
         --tokens, or add --insecure if everyone who reaches it may do everything"
    )]
    Exposed { listen: String, without: &'static str },
    #[error("{url:?} is not where others can reach this server: write --advertise http://HOST:PORT")]
    Advertise { url: String },
    #[error(
        "{url:?}: servers can't speak TLS with each other yet; leave --tls-cert away, have a proxy speak TLS with clients, and \
         write --advertise http://HOST:PORT, in a network that only the servers and the proxy have"
    )]
    AdvertiseTls { url: String },
    #[error("can't listen on {listen}; is another server running there? choose another with --listen")]
    Listen {
        listen: String,
        #[source]
        source: std::io::Error,
    },
}

/// Starts the store, the controller and the folders.
pub(super) async fn start(settings: Settings) -> Result<Running, Box<dyn std::error::Error + Send + Sync>> {
    for path in &settings.manifests {
        std::fs::read_dir(path).map_err(|source| StartError::Manifests { path: path.clone(), source })?;
    }
    make_private(&settings.data_dir)
        .map_err(|source| StartError::DataDir { path: settings.data_dir.clone(), source })?;
    let metrics = Arc::new(Metrics::default());
    let audit = match settings.audit.as_deref().and_then(Path::to_str) {
        Some("none") => None,
        Some("-") => Some(Audit::on_stderr(Arc::clone(&metrics))),
        Some(_) | None => {
            let path = settings.audit.unwrap_or_else(|| settings.data_dir.join("audit.log"));
            Some(Audit::in_file(&path, Arc::clone(&metrics))?)
        }
    };
    let store: Arc<dyn Store> = match &settings.etcd {
        Some(config) => Arc::new(Etcd::open(config).await?),
        None => Arc::new(Embedded::open(&settings.data_dir)?),
    };
    let state = Arc::new(State::open(store, Arc::clone(&metrics)).await?);
    let key_file = settings.secret_key.unwrap_or_else(|| settings.data_dir.join("secret.key"));
    let sealer = key::sealer(&key_file, state.sealing_key().await?.as_deref())?;
    state.use_sealing_key(sealer.id()).await?;
    if settings.catalogue {
        catalogue::install(&state).await?;
    }
    let observed = Observed::default();
    let placed = Placed::default();
    let events = Events::default();
    let clock = Clock::default();
    let ssh = Arc::new(Ssh::new(own_program(), &settings.data_dir).map_err(StartError::Sockets)?);
    let data_dir = settings.data_dir.clone();
    let common = Common {
        sealer: sealer.clone(),
        cluster: state.cluster_id().await?,
        data_dir: settings.data_dir,
        connect_timeout: CONNECT_TIMEOUT,
    };
    let program = std::env::current_exe()?;
    // Last of what may fail, for who is elected and then gone keeps others from leading.
    let candidate = Candidate { server: Uuid::new_v4().to_string(), address: settings.address };
    let leadership = Leadership::start(Arc::clone(&state), candidate, settings.lease, clock.clone());
    let outlook = Outlook::new(observed.clone(), &program, settings.freeze, clock.clone());
    let controller = Controller::start(Parts {
        tenures: leadership.tenures(),
        state: Arc::clone(&state),
        metrics: Arc::clone(&metrics),
        ssh,
        local: Arc::new(Local),
        common,
        program,
        observed: observed.clone(),
        placed: placed.clone(),
        freeze: settings.freeze,
        events: events.clone(),
        clock: clock.clone(),
    });
    let sources = Board::default();
    let followed = source::Parts {
        state: Arc::clone(&state),
        sealer: sealer.clone(),
        metrics: Arc::clone(&metrics),
        catalogue: settings.catalogue,
        events: events.clone(),
        clock: clock.clone(),
        board: sources.clone(),
        prune: settings.prune,
    };
    let mut followers = Vec::new();
    for address in settings.git {
        let git = Git::new(address, &data_dir, settings.git_interval, Arc::clone(&metrics));
        followers.push(tokio::spawn(source::follow(git, followed.clone())));
    }
    for root in settings.manifests {
        followers.push(tokio::spawn(source::follow(Folder::new(&root), followed.clone())));
    }
    let parts = api::Parts {
        state: Arc::clone(&state),
        observed: observed.clone(),
        placed: placed.clone(),
        outlook,
        events,
        sealer,
        secrets: Secrets::Shown,
        metrics,
        pinger: controller.pinger(),
        logs: controller.logs(),
        standing: leadership.standing(),
        sources: sources.clone(),
    };
    // In vain where an earlier run of this server has left its lease.
    let _ = timeout(ELECTED_WITHIN, leadership.standing().settled()).await;
    Ok(Running { state, controller, observed, placed, clock, sources, leadership, parts, audit, followers })
}

impl Running {
    /// Ends in good order, leaving what runs on the nodes as it is. Another server on the same store leads at once.
    pub(super) async fn end(self) {
        for follower in &self.followers {
            follower.abort();
        }
        self.controller.end().await;
        self.leadership.resign().await;
    }

    /// Starts the API.
    pub(super) fn serve(&self, door: Door) -> Server {
        let redacted = api::Parts { secrets: Secrets::LeftOut, ..self.parts.clone() };
        let parts = if door.redact { redacted.clone() } else { self.parts.clone() };
        let edge = Edge {
            api: Api::new(parts),
            redacted: Api::new(redacted),
            tls: door.keys.tls,
            tokens: door.keys.tokens,
            audit: self.audit.clone(),
            hosts: door.hosts,
            origins: door.origins,
            metrics: Arc::clone(&self.parts.metrics),
        };
        edge.serve(door.listener)
    }
}

/// Where the API is asked, and by whom.
pub(super) struct Door {
    listener: TcpListener,
    hosts: Hosts,
    origins: Origins,
    keys: Keys,
    redact: bool,
}

/// What encrypts, and who is known.
#[derive(Clone)]
pub(super) struct Keys {
    tls: Option<Arc<Tls>>,
    tokens: Option<Arc<Tokens>>,
}

impl Keys {
    /// Whether there is anything to read again.
    pub(super) fn can_change(&self) -> bool {
        self.tls.is_some() || self.tokens.is_some()
    }

    /// Reads the files again. A mistake in one is told, and what was read before goes on.
    pub(super) fn reload(&self) {
        let tls = self.tls.as_ref().map_or(Ok(()), |tls| tls.reload());
        let tokens = self.tokens.as_ref().map_or(Ok(()), |tokens| tokens.reload());
        let mistakes = [tls.map_err(|error| chain(&error)), tokens.map_err(|error| chain(&error))];
        let mut is_fine = true;
        for mistake in mistakes.into_iter().filter_map(Result::err) {
            is_fine = false;
            eprintln!("mainstay: {mistake}; what was read before goes on");
        }
        if is_fine {
            eprintln!("mainstay: the certificate and the tokens were read again");
        }
    }
}

impl Door {
    /// Takes the API's address; before anything else is started, so that nothing is when it is taken.
    pub(super) fn open(
        arguments: &ListenArguments,
    ) -> Result<Door, Box<dyn std::error::Error + Send + Sync>> {
        let listen = arguments.listen.clone();
        let address: SocketAddr =
            listen.parse().map_err(|_| StartError::Address { listen: listen.clone() })?;
        let tls = match (&arguments.tls_cert, &arguments.tls_key) {
            (Some(certificate), Some(key)) => Some(Arc::new(Tls::load(certificate, key)?)),
            (_, _) => None,
        };
        let tokens = arguments.tokens.as_deref().map(Tokens::load).transpose()?.map(Arc::new);
        let without = match (&tls, &tokens) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some("tokens"),
            (None, Some(_)) => Some("TLS"),
            (None, None) => Some("TLS and no tokens"),
        };
        if let Some(without) = without
            && !address.ip().is_loopback()
            && !arguments.insecure
        {
            return Err(StartError::Exposed { listen, without }.into());
        }
        let hosts = Hosts::new(address.ip(), &arguments.hosts)?;
        let origins = Origins::new(&arguments.cors_origins)?;
        let listener = edge::bind(address).map_err(|source| StartError::Listen { listen, source })?;
        let redact = arguments.redact_secrets;
        Ok(Door { listener, hosts, origins, keys: Keys { tls, tokens }, redact })
    }

    /// Where it is.
    pub(super) fn url(&self) -> std::io::Result<String> {
        let scheme = if self.keys.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// What can be read again while it is open.
    pub(super) fn keys(&self) -> Keys {
        self.keys.clone()
    }
}

/// Our own program by a path that stays valid when the file is replaced by a newer one.
fn own_program() -> PathBuf {
    PathBuf::from(format!("/proc/{}/exe", std::process::id()))
}

/// Makes a folder that only we can read.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Ok(()) => Ok(()),
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits for the first of some signals.
pub(super) async fn signalled(kinds: &[SignalKind]) {
    let mut waits = Vec::new();
    for kind in kinds {
        match signal(*kind) {
            Ok(mut stream) => waits.push(Box::pin(async move {
                stream.recv().await;
            })),
            Err(error) => tracing::warn!(%error, "a signal can't be waited for"),
        }
    }
    futures_util::future::select_all(waits).await;
}
