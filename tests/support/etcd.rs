//! A real etcd of one member or of several, on loopback, each with a directory of its own, for as long as the values live.
//!
//! A missing etcd is a failure, never a skip: a contract that was not tested was not kept.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long etcd may take to become healthy. It takes 0.3 s on an idle machine.
const READY: Duration = Duration::from_secs(30);

/// How often another pair of ports is tried, when somebody else took one between our look and etcd's.
const ATTEMPTS: usize = 5;

/// A running etcd. Killed when dropped.
#[derive(Debug)]
pub(crate) struct EtcdServer {
    child: Child,
    client_port: u16,
    peer_port: u16,
    dir: TempDir,
    membership: Membership,
}

/// Whom a member starts with.
#[derive(Debug, Clone)]
struct Membership {
    name: String,
    /// As `--initial-cluster` takes it.
    all: String,
}

impl Membership {
    fn alone(peer_port: u16) -> Self {
        Membership { name: "test".into(), all: format!("test=http://127.0.0.1:{peer_port}") }
    }
}

impl EtcdServer {
    /// Starts an etcd with an empty store and waits until it is healthy.
    ///
    /// # Panics
    /// When there is no etcd, or it does not become healthy.
    pub(crate) fn start() -> Self {
        for _ in 0..ATTEMPTS {
            let (client_port, peer_port) = free_ports();
            let dir = tempfile::tempdir().expect("a temporary directory can be made");
            let membership = Membership::alone(peer_port);
            let child = spawn(&dir, client_port, peer_port, &membership);
            let mut server = EtcdServer { child, client_port, peer_port, dir, membership };
            match server.wait() {
                Ok(()) => return server,
                Err(output) if output.contains("address already in use") => {}
                Err(output) => panic!("etcd did not become healthy:\n{output}"),
            }
        }
        panic!("no free ports for etcd in {ATTEMPTS} attempts");
    }

    /// Starts a cluster of so many members and waits until all are healthy.
    ///
    /// # Panics
    /// When there is no etcd, or it does not become healthy.
    pub(crate) fn start_cluster(count: usize) -> Vec<Self> {
        for _ in 0..ATTEMPTS {
            let ports: Vec<(u16, u16)> = (0..count).map(|_| free_ports()).collect();
            let peer = |(n, (_, port)): (usize, &(u16, u16))| format!("m{n}=http://127.0.0.1:{port}");
            let all = ports.iter().enumerate().map(peer).collect::<Vec<_>>().join(",");
            let start = |(n, (client_port, peer_port)): (usize, &(u16, u16))| {
                let dir = tempfile::tempdir().expect("a temporary directory can be made");
                let membership = Membership { name: format!("m{n}"), all: all.clone() };
                let child = spawn(&dir, *client_port, *peer_port, &membership);
                EtcdServer { child, client_port: *client_port, peer_port: *peer_port, dir, membership }
            };
            let mut members: Vec<Self> = ports.iter().enumerate().map(start).collect();
            match members.iter_mut().try_for_each(Self::wait) {
                Ok(()) => return members,
                Err(output) if output.contains("address already in use") => {}
                Err(output) => panic!("etcd did not become healthy:\n{output}"),
            }
        }
        panic!("no free ports for etcd in {ATTEMPTS} attempts");
    }

    /// Starts it again after [`Self::kill`], with what it had. It may need others to become healthy.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.dir, self.client_port, self.peer_port, &self.membership);
    }

    /// `host:port` for clients.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Stops it from doing anything, connections left open, as a machine that hangs.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Self::pause`].
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("etcd can be killed");
        self.child.wait().expect("etcd can be waited for");
    }

    /// Starts it again at the same address, with all its data lost.
    pub(crate) fn lose_everything(&mut self) {
        self.kill();
        self.dir = tempfile::tempdir().expect("a temporary directory can be made");
        self.child = spawn(&self.dir, self.client_port, self.peer_port, &self.membership);
        self.wait().unwrap_or_else(|output| panic!("etcd did not become healthy again:\n{output}"));
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("etcd can be signalled");
    }

    /// Err with what etcd printed.
    fn wait(&mut self) -> Result<(), String> {
        let url = format!("http://{}/health", self.endpoint());
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).build().into();
        let deadline = Instant::now() + READY;
        loop {
            let healthy = agent.get(&url).call().is_ok_and(|answer| answer.status() == 200);
            let alive = self.child.try_wait().expect("etcd can be waited for").is_none();
            if healthy && alive {
                return Ok(());
            }
            if !alive || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.dir.path().join("log"));
                return Err(log.unwrap_or_else(|error| format!("and its log can't be read: {error}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        // Both fail only when it has ended already, and a drop can't do more about it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(dir: &TempDir, client_port: u16, peer_port: u16, membership: &Membership) -> Child {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let log = File::create(dir.path().join("log")).expect("etcd's log can be made");
    let spawned = Command::new("etcd")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .args(["--name", &membership.name, "--log-level", "error", "--logger", "zap"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &membership.all])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn();
    match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!(
                "these tests need etcd, and there is none on the PATH: run tests/run, which says how to get it"
            )
        }
        Err(error) => panic!("etcd can't be started: {error}"),
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> (u16, u16) {
    let listen = || TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let (one, other) = (listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().expect("a bound socket has an address").port();
    (port(&one), port(&other))
}
