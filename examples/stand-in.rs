//! Stands in for the programs that Mainstay runs, so that the examples need nothing but Mainstay itself.
//!
//! It serves what it was told, so that one can look: `GET /health` says that it is up, `GET /config` says who it is, and
//! which options and tenants it has from its bundle. It reads the bundle at start and again on SIGHUP, and ends on SIGTERM or SIGINT
//! once open requests are answered. Each event and each request is one line on stdout.
//!
//! ```text
//! stand-in [--listen ADDRESS:PORT]…   where to serve; without it, it only logs. Port 0 picks one, see the log
//!          [--exit-after-ms N]        for tests: fails after N ms
//!          [--ignore-term]            for tests: has to be killed
//!          [--fork]                   for tests: leaves a `sleep` in a session of its own behind it
//! ```
//!
//! `cargo run --example stand-in` runs it alone. The binary has it too, as `mainstay stand-in`: this file is a module there.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long open requests may take to finish after SIGTERM.
const DRAIN: Duration = Duration::from_secs(2);

/// Pause after a failed accept; out of file descriptors is the likely cause, and trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Failure = Box<dyn Error + Send + Sync>;

#[allow(dead_code, reason = "unused where this file is a module of the binary")]
fn main() -> Result<(), Failure> {
    run(std::env::args().skip(1))
}

/// Runs until a signal ends it. To be called outside of an async runtime: it has its own.
///
/// # Errors
/// A flag is not known, an address can't be bound, or `--exit-after-ms` is over.
pub(crate) fn run(args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let flags = Flags::parse(args)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(flags))
}

#[derive(Debug, Default)]
struct Flags {
    listen: Vec<String>,
    exit_after: Option<Duration>,
    ignore_term: bool,
    fork: bool,
}

impl Flags {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Flags, Failure> {
        let mut flags = Flags::default();
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--listen" => flags.listen.push(value()?),
                "--exit-after-ms" => flags.exit_after = Some(Duration::from_millis(value()?.parse()?)),
                "--ignore-term" => flags.ignore_term = true,
                "--fork" => flags.fork = true,
                _ => return Err(format!("{flag} is not known").into()),
            }
        }
        Ok(flags)
    }
}

/// Who this process is, as Mainstay says in its environment. All is unset when a person starts it by hand.
#[derive(Debug, Clone)]
struct Identity {
    service: Option<String>,
    process: Option<String>,
    node: Option<String>,
    bundle: Option<PathBuf>,
}

impl Identity {
    fn from_environment() -> Identity {
        let variable = |name| std::env::var(name).ok();
        Identity {
            service: variable("MAINSTAY_SERVICE"),
            process: variable("MAINSTAY_PROCESS"),
            node: variable("MAINSTAY_NODE"),
            bundle: std::env::var_os("MAINSTAY_BUNDLE").map(PathBuf::from),
        }
    }

    /// What the bundle says now. A bundle that is not there yet says nothing; a damaged one is an error.
    fn read_bundle(&self) -> io::Result<Value> {
        let Some(path) = &self.bundle else { return Ok(json!({})) };
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(json!({})),
            Err(error) => Err(error),
        }
    }
}

/// What was read from the bundle, and how often it was read again.
#[derive(Debug, Clone)]
struct Loaded {
    bundle: Value,
    reloads: u64,
}

/// What the bundle says of one service. An id is data here, so no JSON pointer is made of it.
fn own_part<'a>(bundle: &'a Value, service: Option<&str>) -> Option<&'a Value> {
    bundle.get("services")?.get(service?)
}

/// The ids of the tenants that the bundle names.
fn tenants(bundle: &Value) -> Vec<&String> {
    bundle.get("tenants").and_then(Value::as_object).into_iter().flat_map(Map::keys).collect()
}

async fn serve(flags: Flags) -> Result<(), Failure> {
    // Handlers first: a signal before them would end the process the hard way.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let identity = Identity::from_environment();
    let bundle = identity.read_bundle().unwrap_or_else(|error| {
        log(&format!("bundle unreadable: {error}"));
        json!({})
    });
    let (loaded, current) = watch::channel(Loaded { bundle, reloads: 0 });
    let (end, ended) = watch::channel(());

    let mut listeners = JoinSet::new();
    for address in &flags.listen {
        let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
        log(&format!("listening on {}", listener.local_addr()?));
        listeners.spawn(accept(listener, identity.clone(), current.clone(), ended.clone()));
    }
    if flags.fork {
        let child = Command::new("setsid").args(["sleep", "86400"]).stdin(Stdio::null()).spawn()?;
        log(&format!("forked {}", child.id()));
    }
    log(&format!("started as {}", std::process::id()));

    let mut over = pin!(async {
        match flags.exit_after {
            Some(after) => sleep(after).await,
            None => pending().await,
        }
    });
    loop {
        tokio::select! {
            _ = hangup.recv() => match identity.read_bundle() {
                Ok(bundle) => {
                    loaded.send_modify(|it| *it = Loaded { bundle, reloads: it.reloads + 1 });
                    log("reloaded");
                }
                Err(error) => log(&format!("bundle unreadable, kept the last one: {error}")),
            },
            _ = terminate.recv() => {
                if !flags.ignore_term {
                    log("SIGTERM, ending");
                    break;
                }
                log("SIGTERM ignored");
            }
            _ = interrupt.recv() => {
                log("SIGINT, ending");
                break;
            }
            () = &mut over => return Err("--exit-after-ms is over".into()),
        }
    }
    drop(end);
    let drained = timeout(DRAIN, listeners.join_all()).await.is_ok();
    log(if drained { "ended" } else { "ended with requests still open" });
    Ok(())
}

/// Accepts connections until the sender of `ended` is dropped, then waits for those that are open.
async fn accept(
    listener: TcpListener,
    identity: Identity,
    current: watch::Receiver<Loaded>,
    mut ended: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, identity.clone(), current.clone(), ended.clone()));
                }
                Err(error) => {
                    log(&format!("accept failed: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = ended.changed() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection; once `ended`, only the request that is open.
async fn converse(
    stream: TcpStream,
    identity: Identity,
    current: watch::Receiver<Loaded>,
    mut ended: watch::Receiver<()>,
) {
    let respond = service_fn(|request: Request<_>| {
        let (status, body) = answer(request.method(), request.uri().path(), &identity, &current.borrow());
        log(&format!("{} {} {}", request.method(), request.uri().path(), status.as_u16()));
        let mut response = Response::new(Full::new(Bytes::from(body.to_string() + "\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), respond));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = ended.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        log(&format!("connection broke: {error}"));
    }
}

fn answer(method: &Method, path: &str, identity: &Identity, loaded: &Loaded) -> (StatusCode, Value) {
    match (method, path) {
        (&Method::GET, "/health") => (StatusCode::OK, json!({"status": "ok"})),
        (&Method::GET, "/config") => {
            let own = own_part(&loaded.bundle, identity.service.as_deref());
            let part = |name| own.and_then(|it| it.get(name)).cloned();
            let config = json!({
                "service": identity.service,
                "process": identity.process,
                "node": identity.node,
                "options": part("options").unwrap_or_else(|| json!({})),
                "log-level": part("log-level"),
                "tenants": tenants(&loaded.bundle),
                "reloads": loaded.reloads,
                "pid": std::process::id(),
            });
            (StatusCode::OK, config)
        }
        _ => (StatusCode::NOT_FOUND, json!({"error": format!("there is no {path}; try /health or /config")})),
    }
}

/// One line on stdout. A reader that went away must not end the service, so a failed write is let go.
fn log(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
