//! A real etcd of one member or three, on loopback, with directories of its own, for as long as the value lives.
//!
//! A missing etcd is a failure, never a skip: a contract that was not tested was not kept.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::File;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long etcd may take to become healthy. It takes 0.3 s on an idle machine.
const READY: Duration = Duration::from_secs(30);

/// How often another pair of ports is tried, when somebody else took one between our look and etcd's.
const ATTEMPTS: usize = 5;

/// A running member. Killed when dropped.
#[derive(Debug)]
pub(crate) struct EtcdServer {
    child: Child,
    setup: Setup,
    dir: TempDir,
}

/// How a member is started, and started again.
#[derive(Debug, Clone)]
struct Setup {
    name: String,
    /// For clients, for the other members, for health.
    ports: [u16; 3],
    /// Of all members, as `name=url,…`.
    cluster: String,
    more: Vec<String>,
}

impl EtcdServer {
    /// Starts an etcd with an empty store and waits until it is healthy.
    ///
    /// # Panics
    /// When there is no etcd, or it does not become healthy.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments. A client's certificate among them makes it speak TLS.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub(crate) fn start_with(more: &[&str]) -> Self {
        let [server] = members(more);
        server
    }

    /// `host:port` for clients.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.setup.ports[0])
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
        self.start_again();
        self.wait().unwrap_or_else(|output| panic!("etcd did not become healthy again:\n{output}"));
    }

    /// Starts it again with its data, after [`Self::kill`], and waits for nothing.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.dir, &self.setup);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("etcd can be signalled");
    }

    /// Err with what etcd printed.
    fn wait(&mut self) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/health", self.setup.ports[2]);
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

/// A cluster of three members, each a process of its own.
#[derive(Debug)]
pub(crate) struct EtcdCluster {
    pub(crate) members: [EtcdServer; 3],
}

impl EtcdCluster {
    /// Starts three members and waits until all are healthy.
    ///
    /// # Panics
    /// When there is no etcd, or they do not become healthy.
    pub(crate) fn start() -> Self {
        EtcdCluster { members: members(&[]) }
    }

    /// `host:port` of each member.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(EtcdServer::endpoint).collect()
    }

    /// Which of the members leads.
    ///
    /// # Panics
    /// When none does for a long time.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + READY;
        loop {
            for (index, member) in self.members.iter().enumerate() {
                if let Ok(client) = etcd_client::Client::connect([member.endpoint()], None).await
                    && let Ok(Ok(status)) =
                        tokio::time::timeout(Duration::from_secs(1), client.maintenance_client().status())
                            .await
                    && status.header().is_some_and(|header| header.member_id() == status.leader())
                {
                    return index;
                }
            }
            assert!(Instant::now() < deadline, "the cluster has no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Starts members that know each other, and waits until each is healthy.
fn members<const COUNT: usize>(more: &[&str]) -> [EtcdServer; COUNT] {
    for _ in 0..ATTEMPTS {
        let ports: [[u16; 3]; COUNT] = std::array::from_fn(|_| std::array::from_fn(|_| super::free_port()));
        let cluster: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(index, ports)| format!("m{index}=http://127.0.0.1:{}", ports[1]))
            .collect();
        let mut servers: [EtcdServer; COUNT] = std::array::from_fn(|index| {
            let setup = Setup {
                name: format!("m{index}"),
                ports: ports[index],
                cluster: cluster.join(","),
                more: more.iter().map(|word| (*word).to_owned()).collect(),
            };
            let dir = tempfile::tempdir().expect("a temporary directory can be made");
            let child = spawn(&dir, &setup);
            EtcdServer { child, setup, dir }
        });
        match servers.iter_mut().try_for_each(EtcdServer::wait) {
            Ok(()) => return servers,
            Err(output) if output.contains("address already in use") => {}
            Err(output) => panic!("etcd did not become healthy:\n{output}"),
        }
    }
    panic!("no free ports for etcd in {ATTEMPTS} attempts");
}

fn spawn(dir: &TempDir, setup: &Setup) -> Child {
    let [client, peer, health] = setup.ports.map(|port| format!("127.0.0.1:{port}"));
    let scheme = if setup.more.iter().any(|word| word == "--cert-file") { "https" } else { "http" };
    let (client, peer, health) =
        (format!("{scheme}://{client}"), format!("http://{peer}"), format!("http://{health}"));
    let log = File::create(dir.path().join("log")).expect("etcd's log can be made");
    let spawned = Command::new("etcd")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .args(["--name", &setup.name, "--log-level", "error", "--logger", "zap"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--listen-metrics-urls", &health, "--initial-cluster", &setup.cluster])
        .args(&setup.more)
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
