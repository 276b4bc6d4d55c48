//! The link over OpenSSH: a ControlMaster of our own, and one channel on it that runs the node's shell.
//!
//! We launch the master ourselves, because the `openssh` crate can't log in with a password, and attach to it with the crate's native
//! multiplexing, which starts no process. See ARCHITECTURE.md, "The password's way".

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use openssh::Session;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::helper;
use super::link::{Carrier, Connector, Link, LinkError, ShellLink, Target, bootstrap};
use super::protocol;
use super::side::{self, Side, Sides};
use crate::home;

/// Most that is kept of what ssh says; a server's banner is in it, and is the server's to write.
const MAX_STDERR_BYTES: usize = 16 * 1024;

/// Longest path of a control socket. ssh adds a suffix of 17 while it makes one, and the kernel's limit is 108.
const MAX_SOCKET_PATH_BYTES: usize = 90;

/// Opens links over OpenSSH.
#[derive(Debug)]
pub struct Ssh {
    /// Our own program, which is started to launch ssh and to answer its question for the password.
    helper: PathBuf,
    /// Directory in which host keys are recorded on first use: a file a node, so that one can be forgotten while ssh processes of
    /// other nodes write theirs.
    known_hosts: PathBuf,
    /// Private directory of the control sockets; goes with us.
    sockets: TempDir,
    counter: AtomicU64,
}

impl Ssh {
    /// A connector that records host keys under `state`. `helper` is the path of the `mainstay` program.
    ///
    /// # Errors
    /// When no private directory for the control sockets can be made.
    pub fn new(helper: PathBuf, state: &Path) -> std::io::Result<Ssh> {
        let make = |parent: &Path| tempfile::Builder::new().prefix("mainstay-").tempdir_in(parent);
        let mut sockets = make(&std::env::temp_dir())?;
        if sockets.path().as_os_str().len() + 24 > MAX_SOCKET_PATH_BYTES {
            sockets = make(Path::new("/tmp"))?;
        }
        Ok(Ssh { helper, known_hosts: state.join("known_hosts.d"), sockets, counter: AtomicU64::new(0) })
    }

    async fn open(&self, target: &Target) -> Result<Box<dyn Link>, LinkError> {
        let was_known = self.is_known(target);
        let master = match self.log_in(target).await {
            // Forgotten while ssh looked for it: nothing is known any more that the key could differ from.
            Err(LinkError::HostKeyChanged(_)) if was_known && !self.is_known(target) => {
                self.log_in(target).await?
            }
            other => other?,
        };

        let socket = master.socket.clone();
        let session = Arc::new(Session::resume_mux(socket.into_boxed_path(), None));
        let nonce = Uuid::new_v4().simple().to_string();
        let patience = target.connect_timeout;
        let (channel, input, output) =
            channel(&session, bootstrap(&protocol::SCRIPT, "link", &nonce), patience).await?;
        let carrier = Box::new(Channel { _channel: channel, master, session, patience });
        let link = ShellLink::greet(output, input, carrier, &nonce, patience).await?;
        Ok(Box::new(link))
    }

    /// A master that is logged in, by whatever the target has.
    pub(super) async fn log_in(&self, target: &Target) -> Result<Master, LinkError> {
        match self.launch(target, "password").await {
            // On a host with PAM a wrong password for both methods would count twice, so the second is tried only where the
            // first is not offered.
            Err(Failure { error: LinkError::AuthFailed(_), methods })
                if target.password.is_some()
                    && !methods.iter().any(|method| method == "password")
                    && methods.iter().any(|method| method == "keyboard-interactive") =>
            {
                self.launch(target, "keyboard-interactive").await
            }
            other => other,
        }
        .map_err(|failure| failure.error)
    }

    /// Starts a master and waits until it is logged in.
    async fn launch(&self, target: &Target, password_method: &str) -> Result<Master, Failure> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let socket = self.sockets.path().join(format!("c{number}"));
        let trusted = self
            .trusted_keys(target, number)
            .map_err(|error| LinkError::Misconfigured(format!("can't write the host key's file: {error}")))?;
        let mut command = Command::new(&self.helper);
        command.arg(helper::LAUNCH).arg(std::process::id().to_string());
        command.args(arguments(target, password_method, &socket, &trusted));
        command
            .env("SSH_ASKPASS", &self.helper)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("DISPLAY", ":0")
            .env("LC_ALL", "C")
            .env(helper::ASKPASS, "1")
            .stdin(if target.password.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // The parent-death signal comes when the thread that spawned ends: a worker of the runtime, which lives as long as we do.
        let mut child = command.spawn().map_err(|error| {
            LinkError::Misconfigured(format!("can't run {}: {error}", self.helper.display()))
        })?;
        let stderr = child.stderr.take().map(|pipe| tokio::spawn(read_capped(pipe)));
        let mut master = Master { child, socket, stderr };
        if let (Some(password), Some(mut pipe)) = (&target.password, master.child.stdin.take()) {
            let line = format!("{}\n", password.expose());
            // ssh may have ended already; then its words say why.
            let _ = pipe.write_all(line.as_bytes()).await;
        }
        let deadline = Instant::now() + target.connect_timeout;
        let mut pause = Duration::from_millis(2);
        loop {
            // The socket appears when the login is through. There is nothing to wait on but the file itself.
            if tokio::fs::try_exists(&master.socket).await.unwrap_or(false) {
                return Ok(master);
            }
            tokio::select! {
                _ = master.child.wait() => return Err(classify(&master.words().await)),
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_millis(16)),
            }
            if Instant::now() >= deadline {
                let _ = master.child.kill().await;
                let waited = target.connect_timeout.as_secs();
                return Err(LinkError::TimedOut(format!("no login within {waited} s")).into());
            }
        }
    }

    /// The file in which the host key of a node of this name is recorded, under [`host_key_alias`], if it is.
    pub fn record_of(&self, name: &str) -> PathBuf {
        self.known_hosts.join(host_key_alias(name))
    }

    /// Whether there is a host key that a target has to have.
    fn is_known(&self, target: &Target) -> bool {
        let recorded = self.record_of(&target.name);
        target.host_key.is_some() || std::fs::metadata(recorded).is_ok_and(|metadata| metadata.len() > 0)
    }

    /// Which host keys do for a target. A pinned key gets a file of its own, so that no other key can do.
    fn trusted_keys(&self, target: &Target, number: u64) -> std::io::Result<TrustedKeys> {
        match &target.host_key {
            None => {
                std::fs::create_dir_all(&self.known_hosts)?;
                let file = self.record_of(&target.name);
                Ok(TrustedKeys { file, is_first_use: !self.is_known(target) })
            }
            Some(key) => {
                let path = self.sockets.path().join(format!("k{number}"));
                std::fs::write(&path, format!("{} {key}\n", host_key_alias(&target.name)))?;
                Ok(TrustedKeys { file: path, is_first_use: false })
            }
        }
    }
}

impl Connector for Ssh {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Link>, LinkError>> {
        Box::pin(self.open(target))
    }

    fn forget_host_key(&self, name: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.record_of(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Which host keys do for a node.
struct TrustedKeys {
    /// Those in this file.
    file: PathBuf,
    /// Whether there is none yet, so that any does and is recorded. Only then is ssh told to take a new key: else a machine that has
    /// a key of another type would be taken beside the known one.
    is_first_use: bool,
}

/// Under which name the host key is recorded: the node's own, so that a node that moves to another address is still known, and another
/// machine at its address is not. No id has a `+`, so no two nodes share one; it is a file's name too.
pub fn host_key_alias(name: &str) -> String {
    name.replace('/', "+")
}

fn arguments(target: &Target, password_method: &str, socket: &Path, trusted: &TrustedKeys) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let config = target.ssh_config.as_deref().map_or_else(|| "none".into(), expand_home);
    arguments.extend(["-F", config.as_str(), "-M", "-N", "-T", "-x", "-a", "-S"].map(str::to_owned));
    arguments.push(socket.display().to_string());
    let mut option = |name: &str, value: &str| arguments.extend(["-o".to_owned(), format!("{name}={value}")]);
    let seconds = target.connect_timeout.as_secs().max(1).to_string();
    option("ControlPersist", "no");
    option("LogLevel", "INFO");
    option("ConnectTimeout", &seconds);
    option("ServerAliveInterval", "5");
    option("ServerAliveCountMax", "3");
    option("NumberOfPasswordPrompts", "1");
    option("GSSAPIAuthentication", "no");
    option("UpdateHostKeys", "no");
    option("HostKeyAlias", &host_key_alias(&target.name));
    option("GlobalKnownHostsFile", "none");
    option("UserKnownHostsFile", &format!("\"{}\"", trusted.file.display()));
    option("StrictHostKeyChecking", if trusted.is_first_use { "accept-new" } else { "yes" });
    if let Some(file) = &target.identity_file {
        option("IdentitiesOnly", "yes");
        option("IdentityFile", &format!("\"{}\"", expand_home(file)));
    }
    if target.password.is_some() {
        if target.identity_file.is_none() {
            option("PubkeyAuthentication", "no");
            option("PreferredAuthentications", password_method);
        } else {
            option("PreferredAuthentications", &format!("publickey,{password_method}"));
        }
    } else {
        option("PreferredAuthentications", "publickey,hostbased");
    }
    if let Some(port) = target.port {
        arguments.extend(["-p".into(), port.to_string()]);
    }
    if !target.username.is_empty() {
        arguments.extend(["-l".into(), target.username.clone()]);
    }
    arguments.extend(["--".into(), target.host.clone()]);
    arguments
}

/// ssh itself expands `~/` in files that it is given, but not inside the quotes that a blank needs.
fn expand_home(path: &str) -> String {
    home::expand(path).display().to_string()
}

async fn read_capped(mut pipe: tokio::process::ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count) = pipe.read(&mut chunk).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > MAX_STDERR_BYTES {
            // The last words are the ones that count.
            kept.drain(..kept.len() - MAX_STDERR_BYTES);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A running master.
pub(super) struct Master {
    child: Child,
    pub(super) socket: PathBuf,
    stderr: Option<JoinHandle<String>>,
}

impl Master {
    /// All that ssh said, once it has ended.
    async fn words(&mut self) -> String {
        match self.stderr.take() {
            // A child of ssh (a ProxyCommand) may hold the pipe open.
            Some(task) => {
                timeout(Duration::from_secs(1), task).await.ok().and_then(Result::ok).unwrap_or_default()
            }
            None => String::new(),
        }
    }

    /// Ends the connection, and all that is on it.
    pub(super) async fn end(mut self) {
        let _ = self.child.kill().await;
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A channel on a connection, kept by its value: the master ends a channel whose client is gone.
pub(super) type Mux = openssh::Child<Arc<Session>>;

/// Opens a channel that runs a command.
pub(super) async fn channel(
    session: &Arc<Session>,
    command: String,
    patience: Duration,
) -> Result<(Mux, openssh::ChildStdin, openssh::ChildStdout), LinkError> {
    let mut command = Arc::clone(session).arc_raw_command(command);
    command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::null());
    let mut channel = timeout(patience, command.spawn())
        .await
        .map_err(|_| LinkError::TimedOut("no channel".into()))?
        .map_err(|error| no_channel(&error))?;
    match (channel.stdin().take(), channel.stdout().take()) {
        (Some(input), Some(output)) => Ok((channel, input, output)),
        _ => Err(LinkError::ShellUnusable("the channel has no pipes".into())),
    }
}

fn no_channel(error: &openssh::Error) -> LinkError {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if cause.contains("Session open refused") {
        return LinkError::Busy(
            "the node's SSH server grants no more channels on this connection; end another log or transfer there, or raise its \
             MaxSessions"
                .into(),
        );
    }
    if matches!(error, openssh::Error::Disconnected) {
        return LinkError::Lost(format!("no channel: {error}"));
    }
    LinkError::ShellUnusable(format!("no channel: {error}"))
}

/// The channel that the node's shell runs on, and the master that carries it.
struct Channel {
    _channel: Mux,
    master: Master,
    session: Arc<Session>,
    patience: Duration,
}

impl Carrier for Channel {
    fn sides(&self) -> Arc<dyn Sides> {
        Arc::new(Channels { session: Arc::clone(&self.session), patience: self.patience })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.master.end())
    }
}

/// Side channels on a connection. The connection is not theirs: it ends with the link.
struct Channels {
    session: Arc<Session>,
    patience: Duration,
}

impl Sides for Channels {
    fn open(&self, words: &[&str]) -> BoxFuture<'static, Result<Side, LinkError>> {
        let (session, words, patience) = (Arc::clone(&self.session), side::line_of(words), self.patience);
        Box::pin(async move {
            let nonce = Uuid::new_v4().simple().to_string();
            let command = bootstrap(side::SCRIPT, "side", &nonce);
            let (channel, input, output) = channel(&session, command, patience).await?;
            Side::greet(output, input, Box::new(channel), &nonce, &words, patience).await
        })
    }
}

/// A login that failed, and which methods the server offers.
#[derive(Debug, PartialEq)]
struct Failure {
    error: LinkError,
    methods: Vec<String>,
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Failure {
        Failure { error, methods: Vec::new() }
    }
}

/// Tells from ssh's last words why it ended; its exit status is 255 for everything. What stands above the last line may be the
/// server's banner, so only the host key warning, which ssh prints before any authentication, is looked for there.
fn classify(words: &str) -> Failure {
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.last().copied().unwrap_or("ssh ended without a word");
    let said: String = last.chars().filter(|c| !c.is_control()).take(300).collect();
    let has = |part: &str| last.contains(part);
    if has("Host key verification failed") {
        // What a person compares; ssh says it before anything of the server's own words.
        let fingerprint = lines.iter().find_map(|line| line.strip_prefix("SHA256:")).map(|print| {
            let is_base64 = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
            format!(" (SHA256:{})", print.chars().take_while(is_base64).take(64).collect::<String>())
        });
        let error = LinkError::HostKeyChanged(format!(
            "the server's key{} is not the one that is known for this node; nothing is done there until a person has \
             checked it",
            fingerprint.unwrap_or_default()
        ));
        return error.into();
    }
    if has("Permission denied") || has("Too many authentication failures") {
        let methods = last
            .rsplit_once('(')
            .and_then(|(_, list)| list.split_once(')'))
            .map(|(list, _)| list.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        return Failure { error: LinkError::AuthFailed(said), methods };
    }
    let error = if has("timed out") || has("Timeout, server") {
        LinkError::TimedOut(said)
    } else if has("Bad configuration option") || has("Can't open user config file") || has("can't run ssh") {
        LinkError::Misconfigured(said)
    } else {
        LinkError::Unreachable(said)
    };
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart_by_the_last_words() {
        let name = |words: &str| classify(words).error.name();
        assert_eq!(name("u@h: Permission denied (publickey,password).\r\n"), "auth failed");
        assert_eq!(name("ssh: connect to host h port 22: Connection refused\r\n"), "unreachable");
        assert_eq!(name("ssh: Could not resolve hostname h: Name or service not known"), "unreachable");
        assert_eq!(name("ssh: connect to host h port 22: Connection timed out"), "timed out");
        assert_eq!(name("Connection timed out during banner exchange"), "timed out");
        assert_eq!(name("kex_exchange_identification: Connection closed by remote host"), "unreachable");
        assert_eq!(
            name("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n"),
            "host key changed"
        );
        assert_eq!(name(""), "unreachable");
    }

    #[test]
    fn a_banner_can_not_pretend_a_cause() {
        let words = "Permission denied (banner)\nREMOTE HOST IDENTIFICATION HAS CHANGED\nssh: connect: Connection refused";
        assert_eq!(classify(words).error.name(), "unreachable");
    }

    #[test]
    fn the_offered_methods_are_read_from_the_denial() {
        let failure = classify("u@h: Permission denied (publickey,keyboard-interactive).");
        assert_eq!(failure.methods, ["publickey", "keyboard-interactive"]);
    }

    #[test]
    fn nothing_of_a_target_comes_before_the_double_dash_unless_it_is_an_options_value() {
        let target = Target {
            name: "IN1/ND1".into(),
            transport: crate::model::kinds::Transport::Ssh,
            host: "h".into(),
            port: Some(22),
            username: "u".into(),
            password: Some(crate::model::secret::Clear::new("butter")),
            identity_file: None,
            ssh_config: None,
            host_key: None,
            root: "r".into(),
            connect_timeout: Duration::from_secs(5),
        };
        let trusted = TrustedKeys { file: "/k".into(), is_first_use: true };
        let arguments = arguments(&target, "password", Path::new("/s"), &trusted);
        assert_eq!(arguments[arguments.len() - 2..], ["--", "h"]);
        assert!(arguments.iter().all(|argument| !argument.contains("butter")));
    }
}
